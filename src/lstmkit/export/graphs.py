"""The folder of an exported job: its networks as graphs, and what its runtime needs to know beside them.

A job describes its graphs (:class:`Graph`) in ``jobs/<job>/export.py``. :func:`write_folder` writes them, with
``export.json`` and texts such as ``tokenizer.json``. :mod:`lstmkit.runtime` reads the folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lstmkit.data.exported_folder import DESCRIPTION, VERSION
from lstmkit.errors import UserError
from lstmkit.export.onnx import DEFAULT_OPSET, OPSETS, onnx_model
from lstmkit.export.quantization import quantized
from lstmkit.export.torch_program import torch_program
from lstmkit.training.checkpoint import write_bytes
from lstmkit.version import __version__

FORMATS = ("onnx", "torch", "safetensors")  #: Formats of an exported job.
QUANTIZATIONS = ("none", "int8")
#: Formats of layers and of stacks of layers, which have no place for the rest of a job.
_OTHER_FORMATS = {
    "keras": ": lstmkit.export_keras writes layers and nn.Sequential",
    "rtneural": ": lstmkit.export_rtneural writes layers and nn.Sequential",
    "nam": ": lstmkit.export_nam writes layers and nn.Sequential",
    "c": ": lstmkit.export_c writes layers and nn.Sequential",
}

State = Any  #: Tensors in nested tuples, as models have them; ``None`` in places without one.


@dataclass(frozen=True)
class Graph:
    """A network of a job, with what its export needs.

    Attributes:
        module: Takes the inputs by position and returns a tensor or a tuple of tensors.
        inputs: Example inputs by name, with at least 2 in each dimension of any size.
        dynamic: Names of the dimensions of any size, by input; see :func:`lstmkit.export_onnx`.
        outputs: Names of the outputs.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    dynamic: Mapping[str, Sequence[str | None]]
    outputs: Sequence[str]


@dataclass(frozen=True)
class JobExport:
    """What is written for a job.

    Attributes:
        graphs: The networks by name; each becomes a file of that name.
        settings: What the runtime needs beside them, ready for JSON.
        texts: Further files by name, such as ``tokenizer.json``.
    """

    graphs: Mapping[str, Graph]
    settings: Mapping[str, Any]
    texts: Mapping[str, str] = field(default_factory=dict)


# ---- graphs with a state ---------------------------------------------------------------------------------------------


#: Makes the inputs and the state of a step for sizes by name, to find the dimensions that have these sizes.
StateExample = Callable[..., tuple[dict[str, Tensor], State]]


def step_graph(
    step: Callable[..., tuple[Tensor | tuple[Tensor, ...], State]],
    example: StateExample,
    sizes: Mapping[str, int],
    outputs: Sequence[str],
    owner: nn.Module,
) -> Graph:
    """A graph of one step: its inputs and state to its outputs and the new state.

    The tensors of the state become inputs ``state_0``, ``state_1``, … and outputs ``new_state_0``, … A state tensor
    that the step returns as it got it has no output.

    Args:
        step: ``step(*inputs, state) -> (outputs, state)``.
        example: Inputs and state for sizes; they are made for two sets of sizes.
        sizes: The dimensions of any size by name, with an example of each, at least 2 and all different.
        outputs: Names of the outputs.
        owner: The module whose weights the step uses.
    """
    inputs, state = example(**sizes)
    other_inputs, other_state = example(**{name: size + 10 for name, size in sizes.items()})
    tensors = flatten(state)
    named = {**inputs, **{f"state_{k}": tensor for k, tensor in enumerate(tensors)}}
    others = [*other_inputs.values(), *flatten(other_state)]
    dynamic = {
        name: tuple(_name_of(a, b, sizes) for a, b in zip(tensor.shape, other.shape, strict=True))
        for (name, tensor), other in zip(named.items(), others, strict=True)
    }
    module = _Step(owner, step, state, len(inputs))
    with torch.no_grad():
        module(*named.values())  # finds what of the state changes
    names = [*outputs, *(f"new_state_{k}" for k in module.changing)]
    return Graph(module, named, dynamic, names)


def _name_of(size: int, other: int, sizes: Mapping[str, int]) -> str | None:
    """The name of a dimension that has one size in the first example and another in the second."""
    if size == other:
        return None
    return next(name for name, value in sizes.items() if (size, other) == (value, value + 10))


class _Step(nn.Module):
    """A step with its state as flat tensors."""

    def __init__(self, owner: nn.Module, step: Callable[..., Any], state: State, inputs: int) -> None:
        super().__init__()
        self.exported, self.step, self.state, self.inputs = owner, step, state, inputs
        self.changing: list[int] = []

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = tensors[self.inputs :]
        outputs, state = self.step(*tensors[: self.inputs], unflatten(self.state, given))
        after = flatten(state)
        self.changing = [k for k, (old, new) in enumerate(zip(given, after, strict=True)) if new is not old]
        return (*((outputs,) if isinstance(outputs, Tensor) else outputs), *(after[k] for k in self.changing))


def flatten(state: State) -> list[Tensor]:
    """The tensors of a nested state, in order."""
    if state is None or isinstance(state, Tensor):
        return [] if state is None else [state]
    return [tensor for part in state for tensor in flatten(part)]


def unflatten(like: State, tensors: Sequence[Tensor]) -> State:
    """A state nested as ``like`` with other tensors."""
    remaining = iter(tensors)

    def nested(part: State) -> State:
        if part is None or isinstance(part, Tensor):
            return None if part is None else next(remaining)
        parts = [nested(inner) for inner in part]
        return type(part)(*parts) if hasattr(part, "_fields") else tuple(parts)

    return nested(like)


# ---- the folder ------------------------------------------------------------------------------------------------------


def write_folder(
    job: str,
    export: JobExport,
    folder: Path,
    format: str = "onnx",
    *,
    quantize: str = "none",
    opset: int = DEFAULT_OPSET,
) -> list[Path]:
    """Write the folder of a job; ``export.json`` last, so that a folder with it is complete.

    Args:
        job: Name of the job.
        export: Its graphs and settings.
        folder: It is made if it is missing; an earlier export in it is replaced.
        format: ``"onnx"`` or ``"torch"``. With ``"torch"`` each graph is a file that runs with torch alone, and one
            whose name ends in ``_kernels`` that uses the kernels of lstmkit.
        quantize: One of :data:`QUANTIZATIONS`.
        opset: Version of ONNX's operators.

    Returns:
        The files that were written.

    Raises:
        UserError: An argument is out of range, or the folder has other files.
        MissingLibraryError: The extra ``export`` is not installed.
        OSError: A file cannot be written.
    """
    check_arguments(folder, format, quantize, opset)
    contents: dict[str, bytes] = {}
    for name, graph in export.graphs.items():
        module = _ByPosition(graph.module)
        if format == "torch":
            for suffix, kernels in (("", False), ("_kernels", True)):
                contents[f"{name}{suffix}.pt2"] = torch_program(module, graph.inputs, graph.dynamic, kernels)
        else:
            model = onnx_model(module, graph.inputs, graph.dynamic, graph.outputs, opset)
            model = quantized(model) if quantize == "int8" else model
            contents[f"{name}.onnx"] = model.SerializeToString()
    contents |= {name: text.encode() for name, text in export.texts.items()}
    description = {
        "version": VERSION,
        "format": format,
        "job": job,
        "lstmkit": __version__,
        "quantize": quantize,
        "graphs": list(export.graphs),
        "settings": export.settings,
    }
    contents[DESCRIPTION] = json.dumps(description, indent=1, ensure_ascii=False, allow_nan=False).encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    for name, content in contents.items():
        write_bytes(folder / name, content)
    return [folder / name for name in contents]


def check_arguments(folder: Path, format: str, quantize: str, opset: int) -> None:
    """Raise UserError if an argument of :func:`write_folder` is out of range, or the folder has other files."""
    for name, value, allowed in (("format", format, FORMATS), ("quantize", quantize, QUANTIZATIONS)):
        if value not in allowed:
            hint = _OTHER_FORMATS.get(value, "")
            raise UserError(f"{name} must be one of {', '.join(allowed)}, got {value!r}{hint}")
    if quantize != "none" and format == "torch":
        raise UserError(f"quantize={quantize!r} is for the formats onnx and safetensors, got the format torch")
    if opset not in OPSETS:
        raise UserError(f"opset must be {OPSETS[0]} to {OPSETS[-1]}, got {opset}")
    check_folder(folder, replaces=format != "safetensors")


def check_folder(folder: Path, *, replaces: bool = True) -> None:
    """Raise UserError unless an export may be written into the folder.

    Args:
        folder: It is missing or empty, or holds an earlier export.
        replaces: Whether it may hold an earlier export.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give a folder for the export")
    may_be_replaced = replaces and (folder / DESCRIPTION).exists()
    if folder.is_dir() and not may_be_replaced and any(folder.iterdir()):
        raise UserError(f"{folder} has other files: give a new folder for the export")


class _ByPosition(nn.Module):
    """A module whose inputs are one argument ``*inputs``, as the exporter is called."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.exported = module

    def forward(self, *inputs: Tensor) -> Any:
        return self.exported(*inputs)
