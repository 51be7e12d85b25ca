"""The parts of a network that runs one step at a time: recurrent layers, dense layers and activations, in order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeGuard, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lstmkit.cells import CellSpec
from lstmkit.errors import UserError
from lstmkit.layers.recurrent import RecurrentLayer

_CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.Tanh: "tanh", nn.ReLU: "relu", nn.Sigmoid: "sigmoid"}
_WITHOUT_EFFECT = (nn.Identity, nn.Dropout)  # in evaluation mode


class Recurrent(NamedTuple):
    """One layer of a recurrent module.

    Attributes:
        name: How messages call it: its place in the module.
        spec: The cell.
        weights: Name as in ``CellSpec.parameter_shapes`` -> values, float32.
        zoneout: Weight of the old state in the new one, as in ``eval`` mode.
        residual: Whether the layer adds its input to its output.
    """

    name: str
    spec: CellSpec
    weights: dict[str, np.ndarray]
    zoneout: float
    residual: bool

    @property
    def input_size(self) -> int:
        return self.spec.input_size

    @property
    def output_size(self) -> int:
        return self.spec.output_size


class Dense(NamedTuple):
    """``y = W x + b``, with ``weight (P, F)`` and ``bias (P,)`` or ``None``, float32."""

    name: str
    weight: np.ndarray
    bias: np.ndarray | None

    @property
    def input_size(self) -> int:
        return self.weight.shape[1]

    @property
    def output_size(self) -> int:
        return self.weight.shape[0]


class Activation(NamedTuple):
    """A pointwise function: ``"tanh"``, ``"relu"`` or ``"sigmoid"``."""

    name: str
    function: str
    output_size: int


M = TypeVar("M", bound=nn.Module)
Part = Recurrent | Dense | Activation


def parts_of(module: nn.Module) -> list[Part]:
    """The parts of a network in the order of the data, with their weights in float32.

    Args:
        module: A recurrent layer of lstmkit, or an ``nn.Sequential`` of such layers, ``nn.Linear`` and activations.

    Raises:
        UserError: A part is of another kind or bidirectional, sizes do not fit, a weight is not finite in float32, or
            there is no recurrent layer.

    >>> from lstmkit import LSTM
    >>> [part.name for part in parts_of(nn.Sequential(LSTM(2, 3, num_layers=2), nn.Linear(3, 1), nn.Tanh()))]
    ['0 (LSTM), layer 0', '0 (LSTM), layer 1', '1 (Linear)', '2 (Tanh)']
    """
    parts: list[Part] = []
    for name, part in leaves(module, ""):
        parts += _parts(f"{name} ({type(part).__name__})".lstrip(), part, parts[-1].output_size if parts else 0)
    for before, after in itertools.pairwise(parts):
        if not isinstance(after, Activation) and before.output_size != after.input_size:
            raise UserError(
                f"{after.name} reads {after.input_size} values, but {before.name} gives {before.output_size}"
            )
    if not any(isinstance(part, Recurrent) for part in parts):
        raise UserError(f"{type(module).__name__} has no recurrent layer: an export needs at least one")
    return parts


def leaves(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules inside ``nn.Sequential``, with their names: ``"1.0"``."""
    if not computes_as(module, nn.Sequential):
        yield name, module
        return
    for k, part in enumerate(module):
        yield from leaves(part, f"{name}.{k}".lstrip("."))


def computes_as(module: nn.Module, kind: type[M]) -> TypeGuard[M]:
    """Whether a module is of a kind and has its ``forward``: a subclass may compute something else."""
    return isinstance(module, kind) and type(module).forward is kind.forward


def _parts(name: str, module: nn.Module, previous_size: int) -> list[Part]:
    if computes_as(module, RecurrentLayer):
        return _recurrent(name, module)
    if computes_as(module, nn.Linear):
        if 0 in module.weight.shape:
            raise UserError(f"{name} has no weights: its shape is {tuple(module.weight.shape)}")
        bias = None if module.bias is None else float_values(name, "bias", module.bias)
        return [Dense(name, float_values(name, "weight", module.weight), bias)]
    if type(module) in _ACTIVATIONS:
        if not previous_size:
            raise UserError(f"{name} is the first part: an export starts with a recurrent layer or nn.Linear")
        return [Activation(name, _ACTIVATIONS[type(module)], previous_size)]
    if type(module) in _WITHOUT_EFFECT:
        return []
    if isinstance(module, nn.RNNBase):
        kind = type(module).__name__
        raise UserError(f"{name} is torch's layer: load its state_dict into lstmkit.{kind} and export that")
    raise UserError(
        f"{name} cannot be exported: only LSTM, GRU and RNN of lstmkit, nn.Sequential, Linear, Tanh, ReLU, Sigmoid, "
        "Identity and Dropout can"
    )


def _recurrent(name: str, module: RecurrentLayer) -> list[Part]:
    if module.bidirectional:
        raise UserError(f"{name} is bidirectional: its reversed direction needs future steps, an export has none")
    if module.specs[0].kind not in _CELLS:
        raise UserError(f"{name} has the cell {module.specs[0].kind}: only {', '.join(_CELLS)} can be exported")
    layers: list[Part] = []
    for k, spec in enumerate(module.specs):
        own = f"{name}, layer {k}" if module.num_layers > 1 else name
        weights = {key: float_values(own, key, value) for key, value in module.weights(k, 0).items()}
        layers.append(Recurrent(own, spec, weights, module.zoneout, module.residual and k > 0))
    return layers


def float_values(name: str, key: str, weight: Any) -> np.ndarray:
    """A weight as a float32 array.

    Raises:
        UserError: It has no values yet, or one that is not finite in float32.
    """
    if not isinstance(weight, Tensor) or weight.is_meta:
        raise UserError(f"{name}: {key} has no values yet")
    if weight.dtype == torch.int8:
        raise UserError(f"{name} has weights in 8 bits: export the module that quantize was called with")
    values = weight.detach().to("cpu", torch.float32)
    if not bool(values.isfinite().all()):
        raise UserError(f"{name}: {key} has values that are NaN, infinite or too large for float32")
    return values.numpy()
