"""Numerical check before timing: all outputs and gradients against the reference loop in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from layer_cases import Case

Tensors = dict[str, Tensor]

#: Largest error of a tensor relative to its largest reference value, for outputs and states, and for gradients.
#: Sums of thousands of terms lose two to three of the seven digits of float32; bf16 has only two or three.
TOLERANCES = {"float32": (2e-5, 1e-4), "bfloat16": (3e-2, 8e-2)}
#: Layer normalization divides by a standard deviation that is small for small states, which amplifies rounding errors.
LAYER_NORM_FACTOR = 5


def tolerance(name: str, case: Case) -> float:
    """Tolerance for the tensor ``name``; names of gradients start with ``grad``."""
    of_values, of_gradients = TOLERANCES[case.dtype]
    return (of_gradients if name.startswith("grad") else of_values) * (
        LAYER_NORM_FACTOR if "layer_norm" in case.options else 1
    )


def errors(tensors: Tensors, references: Tensors) -> dict[str, float]:
    """The error of each tensor relative to the largest value of its reference; infinite if it is NaN."""
    result = {}
    for name, value in tensors.items():
        target = references[name]
        if value.shape != target.shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, the reference {tuple(target.shape)}")
        scale = target.abs().max().clamp(min=1e-30)
        error = float((value.double() - target).abs().max() / scale)
        result[name] = error if error == error else float("inf")
    return result


def worst(by_name: dict[str, float]) -> tuple[str, float]:
    """The tensor with the largest error, and the error."""
    return max(by_name.items(), key=lambda item: item[1])


def complaint(by_name: dict[str, float], case: Case) -> str | None:
    """A message if an error exceeds its tolerance, otherwise ``None``."""
    exceeding = {name: error for name, error in by_name.items() if error > tolerance(name, case)}
    if not exceeding:
        return None
    name, error = max(exceeding.items(), key=lambda item: item[1] / tolerance(item[0], case))
    return f"results differ: {name} by {error:.1e}, tolerance {tolerance(name, case):.0e}"


def as_tensor(array: object) -> Tensor:
    return torch.as_tensor(array).detach().clone()
