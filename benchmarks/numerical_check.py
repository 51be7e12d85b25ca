"""Whether the numbers are right, before anything is timed: everything against the plain loop in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from layer_cases import Case

Numbers = dict[str, Tensor]

#: Largest error of a tensor, over the largest value of that tensor in the reference: outputs and states, gradients.
#: float32 sums of thousands of terms lose two to three of its seven digits; bf16 has only two or three.
TOLERANCES = {"float32": (2e-5, 1e-4), "bfloat16": (3e-2, 8e-2)}
#: Normalisation divides by the spread of the gates' shares, small while the state is: it multiplies rounding errors.
LAYER_NORM = 5


def tolerance(name: str, case: Case) -> float:
    """What is allowed for the tensor ``name``; those of gradients begin with ``grad``."""
    of_values, of_gradients = TOLERANCES[case.dtype]
    return (of_gradients if name.startswith("grad") else of_values) * (
        LAYER_NORM if "layer_norm" in case.options else 1
    )


def errors(found: Numbers, wanted: Numbers) -> dict[str, float]:
    """The error of each tensor of ``found``, over the largest value of the wanted one; NaN is infinite."""
    result = {}
    for name, value in found.items():
        target = wanted[name]
        if value.shape != target.shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, the reference {tuple(target.shape)}")
        scale = target.abs().max().clamp(min=1e-30)
        error = float((value.double() - target).abs().max() / scale)
        result[name] = error if error == error else float("inf")
    return result


def worst(by_name: dict[str, float]) -> tuple[str, float]:
    """The tensor furthest off, and how far."""
    return max(by_name.items(), key=lambda item: item[1])


def differ(by_name: dict[str, float], case: Case) -> str | None:
    """The complaint, if one of the errors is above its tolerance."""
    bad = {name: error for name, error in by_name.items() if error > tolerance(name, case)}
    if not bad:
        return None
    name, error = max(bad.items(), key=lambda item: item[1] / tolerance(item[0], case))
    return f"numbers differ: {name} by {error:.1e}, allowed {tolerance(name, case):.0e}"


def as_tensor(array: object) -> Tensor:
    return torch.as_tensor(array).detach().clone()
