"""What every export of a module does: example inputs, dimensions of any size, evaluation mode."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lstmkit.errors import UserError
from lstmkit.layers.quantization import has_int8_weights
from lstmkit.layers.recurrent import RecurrentLayer

_SYMBOLS = {"hidden": "h", "cell": "c"}  # names of states in the graph, as in torch.nn


def layer_or_module(
    module: nn.Module,
    inputs: Mapping[str, Tensor] | None,
    dynamic: Mapping[str, Sequence[str | None]] | None,
    outputs: Sequence[str],
    lengths: bool,
    state: bool,
) -> tuple[nn.Module, Mapping[str, Tensor], Mapping[str, Sequence[str | None]], Sequence[str]]:
    """The module that is recorded, with its inputs by position, and example inputs, dimensions and output names.

    Arguments and errors as in :func:`lstmkit.export_onnx`.
    """
    if has_int8_weights(module):
        raise UserError("weights in 8 bits cannot be exported: export the module that quantize was called with")
    if isinstance(module, RecurrentLayer) and inputs is None:
        graph = LayerGraph(module, lengths, state)
        return graph, graph.example(), graph.dynamic(), graph.outputs()
    if lengths or state:
        raise UserError("lengths and state are for a layer alone: give a module its lengths and states as inputs")
    if not inputs:
        raise UserError("give example inputs: inputs={'x': torch.zeros(2, 10, 3)}")
    return NamedInputs(module, tuple(inputs)), inputs, dynamic or {}, outputs


class LayerGraph(nn.Module):
    """A recurrent layer alone, with a tensor for each input and output.

    Args:
        layer: The layer.
        lengths: Whether it takes lengths.
        state: Whether it takes its initial state.
    """

    def __init__(self, layer: RecurrentLayer, lengths: bool, state: bool) -> None:
        super().__init__()
        self.exported, self.takes_lengths, self.takes_state = layer, lengths, state

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, *others = inputs
        lengths = others[0] if self.takes_lengths else None
        states = others[int(self.takes_lengths) :]
        output, final = self.exported(x, states[0] if len(states) == 1 else tuple(states) or None, lengths)
        return (output, final) if isinstance(final, Tensor) else (output, *final)

    @property
    def symbols(self) -> list[str]:
        """The symbol of each state."""
        return [_SYMBOLS.get(name, name) for name in self.exported.specs[0].cell.states]

    def example(self) -> dict[str, Tensor]:
        """Inputs of zeros: two sequences of three steps."""
        layer, weight = self.exported, next(self.exported.parameters())
        shape = (2, 3, layer.input_size) if layer.batch_first else (3, 2, layer.input_size)
        inputs = {"x": weight.new_zeros(shape)}
        if self.takes_lengths:
            inputs["lengths"] = torch.tensor([3, 2], device=weight.device)
        if self.takes_state:
            rows, sizes = layer.num_layers * layer.num_directions, layer.specs[0].state_sizes
            zeros = (weight.new_zeros(rows, 2, size) for size in sizes)
            inputs |= {f"{symbol}_0": state for symbol, state in zip(self.symbols, zeros, strict=True)}
        return inputs

    def dynamic(self) -> dict[str, tuple[str | None, ...]]:
        """The dimensions of any size of each input."""
        x = ("batch", "time", None) if self.exported.batch_first else ("time", "batch", None)
        known = {"x": x, "lengths": ("batch",)}
        return {name: known.get(name, (None, "batch", None)) for name in self.example()}

    def outputs(self) -> list[str]:
        """The names of the outputs."""
        return ["output", *(f"{symbol}_n" for symbol in self.symbols)]


class NamedInputs(nn.Module):
    """A module that takes its inputs by position, in the order of ``names``."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.exported, self.names = module, tuple(names)

    def forward(self, *inputs: Tensor) -> Any:
        return self.exported(**dict(zip(self.names, inputs, strict=True)))


def dynamic_dimensions(
    inputs: Mapping[str, Tensor], dynamic: Mapping[str, Sequence[str | None]]
) -> tuple[dict[int, torch.export.Dim], ...]:
    """For each input, the dimensions of any size."""
    if unknown := sorted(dynamic.keys() - inputs.keys()):
        raise UserError(f"dynamic names no input: {', '.join(unknown)}; inputs: {', '.join(inputs)}")
    named: dict[str, torch.export.Dim] = {}
    found = []
    for name, tensor in inputs.items():
        dimensions = dynamic.get(name, ())
        if len(dimensions) not in (0, tensor.dim()):
            raise UserError(f"dynamic has {len(dimensions)} dimensions for {name}, which has {tensor.dim()}")
        if any(symbol and size < 2 for symbol, size in zip(dimensions, tensor.shape, strict=False)):
            raise UserError(f"give an example of {name} with at least 2 in each dimension that may have any size")
        of_input = {i: symbol for i, symbol in enumerate(dimensions) if symbol}
        found.append({i: named.setdefault(symbol, torch.export.Dim(symbol, min=1)) for i, symbol in of_input.items()})
    return tuple(found)


@contextmanager
def recorded(module: nn.Module) -> Iterator[None]:
    """The module and its parts in evaluation mode, without gradients; and back in their own modes.

    What torch compiled before is compiled anew: a body of ``scan`` would keep the sizes that an earlier export fixed.
    """
    torch.compiler.reset()
    in_training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part in in_training:
            part.training = True


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """No warnings, and no log lines below an error of these loggers: exporters talk of themselves."""
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    try:
        for logger in found:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)


def first_cause(error: BaseException) -> BaseException:
    """The first of a chain of errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
