"""Keras models as modules of PyTorch, without Keras or TensorFlow. Only layers listed here are built; nothing runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lstmkit.errors import ModelFileError, UserError, one_line
from lstmkit.export.keras_chain import layers_in_a_row
from lstmkit.export.keras_file import KerasFile, LayerWeights, open_keras_file
from lstmkit.export.keras_layers import (
    ACTIVATIONS,
    KerasBatchNorm,
    KerasEmbedding,
    KerasMasking,
    KerasRecurrent,
    KerasSequential,
)
from lstmkit.export.keras_options import LayerOptions
from lstmkit.layers import GRU, LSTM, RNN
from lstmkit.layers.recurrent import RecurrentLayer

#: Keras' order of the gates in ours: block k of a matrix of torch is this block of Keras'.
GATE_ORDER: Mapping[str, tuple[int, ...]] = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "SimpleRNN": (0,)}
#: Keras' names of the ways to merge two directions -> ours.
MERGE_MODES = {"concat": "concat", "sum": "sum", "ave": "mean", "mul": "mul"}
_KERAS_MODULES = ("keras", "tf_keras")


def import_keras(path: str | Path) -> KerasSequential:
    """Read a Keras model, in the form ``.keras`` or ``.h5``, into a module of PyTorch in evaluation mode.

    Neither Keras nor TensorFlow is needed, and no code from the file runs. The model is a ``Sequential``, or a
    functional model whose layers are in a row. Its layers are Embedding, Masking, LSTM, GRU, SimpleRNN, Bidirectional,
    Dense, TimeDistributed, BatchNormalization, Dropout and activations; all others are refused by name. Weights become
    float32. Input and output are those of the model in Keras: ``(B, T, F)``, or ``(B, T)`` whole numbers for an
    embedding.

    Args:
        path: A file of ``model.save`` of Keras 2 or 3.

    Returns:
        A sequence of layers. Its recurrent layers are those of lstmkit, inside :class:`KerasRecurrent`.

    Raises:
        UserError: The file is missing, damaged or too large, or the model has a layer or an option that lstmkit does
            not have. The message names it.
        MissingLibraryError: h5py is not installed; a UserError.

    >>> from lstmkit import LSTM, export_keras
    >>> path = export_keras(nn.Sequential(LSTM(3, 8), nn.Linear(8, 1)), "model.keras")
    >>> import_keras(path)(torch.zeros(2, 5, 3)).shape
    torch.Size([2, 5, 1])
    """
    with open_keras_file(Path(path)) as file:
        builder = _Builder(file)
        for entry in layers_in_a_row(file.model, file.name):
            builder.add(entry)
        if not builder.modules:
            raise UserError(f"{file.name} has no layers")
        return KerasSequential(*builder.modules).eval()


@dataclass(frozen=True)
class _Recurrent:
    """What the options of a recurrent layer say."""

    kind: str
    units: int
    use_bias: bool
    nonlinearity: str
    return_sequences: bool
    go_backwards: bool
    stateful: bool
    zero_output_for_mask: bool
    dropout: float
    recurrent_dropout: float


class _Layer(NamedTuple):
    """A layer while it is built."""

    options: LayerOptions
    weights: LayerWeights
    part: str = ""  # where the weights lie in a .keras file


class _Builder:
    """Builds modules, layer by layer.

    Attributes:
        modules: Those built until now.
        size: Features of their output; ``None`` while it is not known.
    """

    def __init__(self, file: KerasFile) -> None:
        self.file = file
        self.modules: list[nn.Module] = []
        self.size: int | None = None
        self._places: Counter[str] = Counter()
        self._layers: dict[str, Callable[[_Layer], list[nn.Module]]] = {
            "Embedding": self._embedding,
            "Masking": self._masking,
            "Bidirectional": self._bidirectional,
            "TimeDistributed": self._time_distributed,
            "Dense": self._dense,
            "Dropout": self._dropout,
            "BatchNormalization": self._batch_norm,
            "Activation": self._activation_layer,
            "Softmax": self._softmax,
            "ReLU": self._relu,
            "LeakyReLU": self._leaky_relu,
            "ELU": self._elu,
            **{kind: partial(self._recurrent, kind) for kind in GATE_ORDER},
        }

    def add(self, entry: Mapping[str, Any]) -> None:
        """Build the layer of an entry of the model's list.

        Raises:
            UserError: lstmkit does not have the layer, or not its options.
            ModelFileError: The entry or the weights are damaged.
        """
        kind, values = _class_and_options(entry, self.file.name)
        name = one_line(values.get("name", ""))
        label = f"{self.file.name}, layer {name!r} ({one_line(kind)})"
        place = self._places[kind]
        self._places[kind] += 1
        if kind == "InputLayer":
            return
        if kind not in self._layers:
            why = ": it holds code of its own" if kind == "Lambda" else ""
            raise UserError(f"{label} cannot be read{why}; known layers: {', '.join(self._layers)}")
        layer = _Layer(LayerOptions(label, values), self.file.weights(kind, str(values.get("name", "")), place))
        self.modules += self._layers[kind](layer)
        layer.options.check_all_read()
        layer.weights.check_all_taken()

    # ---- layers ------------------------------------------------------------------------------------------------------

    def _embedding(self, layer: _Layer) -> list[nn.Module]:
        rows, size = layer.options.size("input_dim"), layer.options.size("output_dim")
        mask_zero = layer.options.flag("mask_zero")
        (table,) = layer.weights.take(layer.part, {"embeddings": (rows, size)})
        module = KerasEmbedding(rows, size, mask_zero)
        _set(module.table.weight, table)
        self.size = size
        return [module]

    def _masking(self, layer: _Layer) -> list[nn.Module]:
        return [KerasMasking(layer.options.number("mask_value", 0.0))]

    def _dense(self, layer: _Layer) -> list[nn.Module]:
        units, use_bias = layer.options.size("units"), layer.options.flag("use_bias", True)
        shapes = {"kernel": (self.size, units), **({"bias": (units,)} if use_bias else {})}
        kernel, *bias = layer.weights.take(layer.part, shapes)
        module = nn.Linear(kernel.shape[0], units, bias=use_bias)
        _set(module.weight, kernel.T)
        for values in bias:
            _set(module.bias, values)
        self.size = units
        return [module, *self._activation(layer.options)]

    def _dropout(self, layer: _Layer) -> list[nn.Module]:
        return [nn.Dropout(layer.options.probability("rate"))]

    def _batch_norm(self, layer: _Layer) -> list[nn.Module]:
        options = layer.options
        names = [name for name, flag in (("gamma", "scale"), ("beta", "center")) if options.flag(flag, True)]
        names += ["moving_mean", "moving_variance"]
        values = dict(zip(names, layer.weights.take(layer.part, dict.fromkeys(names, (self.size,))), strict=True))
        axis = options.value("axis", -1)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        if not isinstance(axis, int) or axis == 0 or axis < -1 or (layer.part and axis != -1):
            raise UserError(f"{options.label} has axis={one_line(repr(axis))}: only the last axis can be normalized")
        epsilon, momentum = options.number("epsilon", 1e-3), options.probability("momentum", 0.99)
        module = KerasBatchNorm(len(values["moving_mean"]), epsilon, 1 - momentum, axis)
        places = {"gamma": module.weight, "beta": module.bias}
        places |= {"moving_mean": module.running_mean, "moving_variance": module.running_var}
        for name, array in values.items():
            _set(places[name], array)
        self.size = len(values["moving_mean"])
        return [module]

    def _time_distributed(self, layer: _Layer) -> list[nn.Module]:
        """The layer inside: all of these compute step by step anyway."""
        kind, inner = self._inner(layer, "layer")
        if kind not in ("Dense", "Dropout", "BatchNormalization", "Activation", "ReLU", "LeakyReLU", "ELU"):
            raise UserError(f"{inner.label} cannot be read inside TimeDistributed; only layers without time can")
        modules = self._layers[kind](layer._replace(options=inner, part="layer"))
        inner.check_all_read()
        return modules

    def _inner(self, layer: _Layer, option: str) -> tuple[str, LayerOptions]:
        """Class and options of the layer inside a wrapper."""
        kind, values = _class_and_options(layer.options.value(option), layer.options.label)
        return kind, LayerOptions(f"{layer.options.label}, {option} ({one_line(kind)})", values)

    # ---- activations -------------------------------------------------------------------------------------------------

    def _activation(self, options: LayerOptions) -> list[nn.Module]:
        """The module of the option ``activation``; none for ``"linear"``."""
        name = options.value("activation", "linear")
        name = "linear" if name is None else name
        if not isinstance(name, str) or name not in ACTIVATIONS:
            raise UserError(f"{options.label} has activation={one_line(repr(name))}; known: {', '.join(ACTIVATIONS)}")
        if name == "hard_sigmoid" and not self.file.is_keras_3:
            raise UserError(
                f"{options.label} has activation='hard_sigmoid' of Keras {self.file.version}, which differs from that "
                "of Keras 3: only the one of Keras 3 can be read"
            )
        return [] if name == "linear" else [ACTIVATIONS[name]()]

    def _activation_layer(self, layer: _Layer) -> list[nn.Module]:
        return self._activation(layer.options)

    def _softmax(self, layer: _Layer) -> list[nn.Module]:
        layer.options.choice("axis", (-1,), -1)
        if self._has_mask:
            raise UserError(f"{layer.options.label} gets a mask, which it reads in a way of its own: use an activation")
        return [nn.Softmax(dim=-1)]

    @property
    def _has_mask(self) -> bool:
        """Whether the next layer may get a mask."""
        has_mask = False
        for module in self.modules:
            if isinstance(module, KerasRecurrent):
                has_mask = has_mask and module.return_sequences
            elif isinstance(module, KerasMasking) or (isinstance(module, KerasEmbedding) and module.mask_zero):
                has_mask = True
        return has_mask

    def _relu(self, layer: _Layer) -> list[nn.Module]:
        for name in ("negative_slope", "threshold"):
            layer.options.choice(name, (0.0, 0, None), 0.0)
        return [nn.ReLU() if layer.options.choice("max_value", (None, 6.0, 6), None) is None else nn.ReLU6()]

    def _leaky_relu(self, layer: _Layer) -> list[nn.Module]:
        old = layer.options.number("alpha", 0.3)  # its name in Keras 2
        return [nn.LeakyReLU(layer.options.number("negative_slope", old))]

    def _elu(self, layer: _Layer) -> list[nn.Module]:
        return [nn.ELU(layer.options.number("alpha", 1.0))]

    # ---- recurrent layers --------------------------------------------------------------------------------------------

    def _recurrent(self, kind: str, layer: _Layer) -> list[nn.Module]:
        options = _recurrent_options(kind, layer.options)
        weights = _cell_weights(options, layer.weights, "cell", self.size)
        return [self._recurrent_module(options, [weights])]

    def _bidirectional(self, layer: _Layer) -> list[nn.Module]:
        names = ["layer", "backward_layer"] if layer.options.value("backward_layer") is not None else ["layer"]
        directions: list[_Recurrent] = []
        for name in names:
            kind, inner = self._inner(layer, name)
            if kind not in GATE_ORDER:
                raise UserError(f"{inner.label} cannot be read inside Bidirectional; known: {', '.join(GATE_ORDER)}")
            directions.append(_recurrent_options(kind, inner))
            inner.check_all_read()
        forward, backward = directions[0], directions[-1]
        if forward.go_backwards:
            raise UserError(f"{layer.options.label} has a forward layer with go_backwards=True: exchange both layers")
        if replace(backward, go_backwards=False) != forward:
            raise UserError(f"{layer.options.label} has a backward layer with other options than its forward layer")
        merge = layer.options.choice("merge_mode", tuple(MERGE_MODES), "concat")
        parts = ("forward_layer/cell", "backward_layer/cell")
        weights = [_cell_weights(forward, layer.weights, part, self.size) for part in parts]
        return [self._recurrent_module(forward, weights, MERGE_MODES[merge])]

    def _recurrent_module(self, options: _Recurrent, weights: list[list[Tensor]], merge: str = "concat") -> nn.Module:
        common: dict[str, Any] = {
            "bias": options.use_bias,
            "batch_first": True,
            "bidirectional": len(weights) == 2,
            "recurrent_dropout": options.recurrent_dropout,
            "merge": merge,
        }
        inputs = weights[0][0].shape[1]
        layer: RecurrentLayer
        if options.kind == "LSTM":
            layer = LSTM(inputs, options.units, **common)
        elif options.kind == "GRU":
            layer = GRU(inputs, options.units, **common)
        else:
            layer = RNN(inputs, options.units, nonlinearity=options.nonlinearity, **common)
        with torch.no_grad():
            for own, values in zip(layer.all_weights, weights, strict=True):
                for weight, value in zip(own, values, strict=True):
                    weight.copy_(value)
        self.size = layer.output_size
        return KerasRecurrent(
            layer,
            options.return_sequences,
            go_backwards=options.go_backwards,
            stateful=options.stateful,
            zero_output_for_mask=options.zero_output_for_mask,
            dropout=options.dropout,
        )


def _class_and_options(entry: Any, where: str) -> tuple[str, dict[str, Any]]:
    """Class and options of an entry, which must be a class of Keras itself."""
    kind = entry.get("class_name") if isinstance(entry, dict) else None
    if not isinstance(kind, str) or not isinstance(entry.get("config"), dict):
        raise ModelFileError(f"{where} has a layer without class_name or config: save the model again with Keras")
    module, registered = entry.get("module"), entry.get("registered_name")
    if registered not in (None, kind) or str(module or "keras").partition(".")[0] not in _KERAS_MODULES:
        name = one_line(registered or f"{module}.{kind}")
        raise UserError(f"{where} has a layer of the class {name}: only layers of Keras itself can be read")
    return kind, entry["config"]


def _recurrent_options(kind: str, options: LayerOptions) -> _Recurrent:
    """The options of LSTM, GRU or SimpleRNN.

    Raises:
        UserError: lstmkit's layer computes something else.
    """
    activations = ("tanh", "relu") if kind == "SimpleRNN" else ("tanh",)
    nonlinearity = options.choice("activation", activations, "tanh")
    if kind != "SimpleRNN":
        options.choice("recurrent_activation", ("sigmoid",), None)
    if kind == "GRU":
        options.choice("reset_after", (True,), False)
    for name in ("return_state", "time_major"):
        options.choice(name, (False,), False)
    return _Recurrent(
        kind,
        options.size("units"),
        options.flag("use_bias", True),
        nonlinearity,
        options.flag("return_sequences"),
        options.flag("go_backwards"),
        options.flag("stateful"),
        options.flag("zero_output_for_mask"),
        options.probability("dropout"),
        options.probability("recurrent_dropout"),
    )


def _cell_weights(options: _Recurrent, weights: LayerWeights, part: str, inputs: int | None) -> list[Tensor]:
    """The weights of one direction, in torch's names and order."""
    rows = len(GATE_ORDER[options.kind]) * options.units
    shapes: dict[str, tuple[int | None, ...]] = {
        "kernel": (inputs, rows),
        "recurrent_kernel": (options.units, rows),
    }
    if options.use_bias:
        shapes["bias"] = (2, rows) if options.kind == "GRU" else (rows,)
    kernel, recurrent_kernel, *bias = weights.take(part, shapes)
    matrices = [kernel.T, recurrent_kernel.T]
    for values in bias:
        matrices += [*values] if options.kind == "GRU" else [values, np.zeros_like(values)]
    return [torch.from_numpy(reordered(options.kind, values)) for values in matrices]


def reordered(kind: str, values: np.ndarray) -> np.ndarray:
    """The blocks of gates of ``values (G·H, ...)`` in our order, or back: each order is its own inverse."""
    blocks = np.split(values, len(GATE_ORDER[kind]))
    return np.concatenate([blocks[k] for k in GATE_ORDER[kind]])


def _set(weight: Any, values: np.ndarray) -> None:
    with torch.no_grad():
        weight.copy_(torch.from_numpy(np.ascontiguousarray(values)))
