"""Networks as ``.keras`` files, which Keras 3 loads on any of its back ends."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from lstmkit.errors import UserError
from lstmkit.export.keras_file import CONFIG, METADATA, WEIGHTS, snake_case
from lstmkit.export.keras_layers import (
    ACTIVATIONS,
    KerasBatchNorm,
    KerasEmbedding,
    KerasMasking,
    KerasRecurrent,
    KerasSequential,
)
from lstmkit.export.keras_reader import MERGE_MODES, reordered
from lstmkit.export.stack import computes_as, float_values, leaves
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.libraries import import_library
from lstmkit.training.checkpoint import write_bytes

_KERAS_VERSION = "3.15.1"  # the form of the file, and the version that the tests load it with
_DATE = (2026, 1, 1, 0, 0, 0)  # in the archive: the same network gives the same bytes
_KINDS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "SimpleRNN", "rnn_relu": "SimpleRNN"}
_KERAS_MERGES = {ours: keras for keras, ours in MERGE_MODES.items()}

Arrays = Mapping[str, Sequence[np.ndarray]]


class _Written(NamedTuple):
    """A layer of Keras: class, options, and weights by their place in the layer (``""``, ``"cell"``)."""

    kind: str
    options: dict[str, Any]
    weights: Arrays


def export_keras(module: nn.Module, path: str | Path) -> Path:
    """Write a network as a ``.keras`` file: ``keras.saving.load_model(path)`` loads it, and gives the same outputs.

    The model is a ``keras.Sequential``. Its input is ``(B, T, F)`` whatever ``batch_first`` is, or ``(B, T)`` whole
    numbers for an embedding. Each layer of a stack becomes a layer of Keras. Dropout, zoneout and weight drop inside a
    layer act in training only and are not written; a zoneout is refused, since it acts in evaluation mode too.

    Args:
        module: A recurrent layer of lstmkit; or an ``nn.Sequential`` of such layers, ``nn.Linear``, ``nn.Embedding``,
            ``nn.Dropout`` and activations; or what :func:`lstmkit.import_keras` returns. A recurrent layer gives the
            outputs of all steps; ``KerasRecurrent(layer, return_sequences=False)`` gives that of the last.
        path: The file, for example ``model.keras``. An existing file is replaced.

    Returns:
        ``path``.

    Raises:
        UserError: The module has a part or an option that Keras does not have, sizes that do not fit, or weights that
            are not finite; or the name does not end in ``.keras``.
        MissingLibraryError: h5py is not installed; a UserError.
        OSError: The file cannot be written.

    >>> from lstmkit import GRU
    >>> export_keras(nn.Sequential(GRU(3, 8, bidirectional=True), nn.Linear(16, 1), nn.Sigmoid()), "model.keras").name
    'model.keras'
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise UserError(f"{path.name} does not end in .keras, and Keras needs that: rename it")
    import_library("h5py", "keras", "writing Keras models")
    layers = _layers(module)
    names: Counter[str] = Counter()
    entries: list[dict[str, Any]] = []
    weights: dict[str, Sequence[np.ndarray]] = {}
    for layer in layers:
        snake = snake_case(layer.kind)
        name = f"{snake}_{names[snake]}" if names[snake] else snake
        names[snake] += 1
        entries.append(_entry(layer.kind, {"name": name, **layer.options}))
        weights |= {"/".join(filter(None, ["layers", name, part, "vars"])): w for part, w in layer.weights.items()}
    model = _entry("Sequential", {"name": "sequential", "layers": entries}, module="keras")
    _write(path, model, _hdf5(weights))
    return path


# ---- layers ----------------------------------------------------------------------------------------------------------


def _layers(module: nn.Module) -> list[_Written]:
    """The input and the layers of a network, after a check that they fit."""
    parts = leaves(nn.Sequential(*module) if computes_as(module, KerasSequential) else module, "")
    written: list[_Written] = []
    size: int | None = None
    has_steps = True
    for name, part in parts:
        label = f"{name} ({type(part).__name__})".lstrip()
        inputs, outputs = _sizes(part)
        if isinstance(part, (nn.Embedding, KerasEmbedding)):
            if written:
                raise UserError(f"{label} is not the first part: Keras reads whole numbers only at the start")
            written.append(_input([None, None], "int32"))
        elif size is None and inputs is not None:
            written.insert(0, _input([None, None, inputs], "float32"))
        elif size is not None and inputs not in (None, size):
            raise UserError(f"{label} reads {inputs} values, but the part before gives {size}")
        if isinstance(part, (RecurrentLayer, KerasRecurrent)) and not has_steps:
            raise UserError(f"{label} reads steps, but the part before gives the last one: set return_sequences=True")
        written += _part(label, part)
        has_steps = has_steps and not (isinstance(part, KerasRecurrent) and not part.return_sequences)
        size = outputs or size
    if size is None:
        raise UserError(f"{type(module).__name__} has no layer with weights: an export needs at least one")
    return written


def _sizes(part: nn.Module) -> tuple[int | None, int | None]:
    """Features that a part reads and gives; ``None`` if any."""
    if isinstance(part, KerasRecurrent):
        part = part.layer
    if isinstance(part, RecurrentLayer):
        return part.input_size, part.output_size
    if isinstance(part, nn.Linear):
        return part.in_features, part.out_features
    if isinstance(part, KerasBatchNorm):
        return part.num_features, part.num_features
    if isinstance(part, KerasEmbedding):
        part = part.table
    return None, part.embedding_dim if isinstance(part, nn.Embedding) else None


def _input(shape: list[int | None], dtype: str) -> _Written:
    return _Written("InputLayer", {"batch_shape": shape, "dtype": dtype}, {})


def _part(label: str, part: nn.Module) -> list[_Written]:
    if computes_as(part, RecurrentLayer):
        return _stack(label, part, {"return_sequences": True})
    if computes_as(part, KerasRecurrent) and computes_as(part.layer, RecurrentLayer):
        names = ("return_sequences", "go_backwards", "stateful", "zero_output_for_mask", "dropout")
        options = {name: getattr(part, name) for name in names}
        if part.stateful:
            raise UserError(f"{label} is stateful, and Keras then needs the size of the batch: set stateful=False")
        return _stack(label, part.layer, options)
    if computes_as(part, nn.Linear):
        weights = [float_values(label, "weight", part.weight).T]
        if part.bias is not None:
            weights.append(float_values(label, "bias", part.bias))
        return [_Written("Dense", {"units": part.out_features, "use_bias": part.bias is not None}, {"": weights})]
    if computes_as(part, KerasBatchNorm):
        values = {key: float_values(label, key, value) for key, value in part.state_dict().items()}
        order = ("weight", "bias", "running_mean", "running_var")
        options = {"axis": part.axis, "epsilon": part.eps, "momentum": 1 - (part.momentum or 0.0)}
        return [_Written("BatchNormalization", options, {"": [values[key] for key in order]})]
    if computes_as(part, KerasEmbedding):
        return _embedding(label, part.table, part.mask_zero)
    if computes_as(part, nn.Embedding):
        return _embedding(label, part, False)
    if computes_as(part, KerasMasking):
        return [_Written("Masking", {"mask_value": part.mask_value}, {})]
    if computes_as(part, nn.Dropout):
        return [_Written("Dropout", {"rate": part.p}, {})]
    return [_activation(label, part)]


def _embedding(label: str, table: nn.Embedding, mask_zero: bool) -> list[_Written]:
    if table.max_norm is not None:
        raise UserError(f"{label} has max_norm, which Keras does not have")
    options = {"input_dim": table.num_embeddings, "output_dim": table.embedding_dim, "mask_zero": mask_zero}
    return [_Written("Embedding", options, {"": [float_values(label, "weight", table.weight)]})]


def _activation(label: str, part: nn.Module) -> _Written:
    if computes_as(part, nn.LeakyReLU):
        return _Written("LeakyReLU", {"negative_slope": part.negative_slope}, {})
    if computes_as(part, nn.ELU):
        return _Written("ELU", {"alpha": part.alpha}, {})
    for name, make in ACTIVATIONS.items():
        if computes_as(part, type(make())) and _settings(part) == _settings(make()):
            return _Written("Activation", {"activation": name}, {})
    if isinstance(part, nn.RNNBase):
        kind = type(part).__name__
        raise UserError(f"{label} is torch's layer: load its state_dict into lstmkit.{kind} and export that")
    hint = ": it normalizes dimension 1, use KerasBatchNorm" if isinstance(part, nn.BatchNorm1d) else ""
    raise UserError(
        f"{label} cannot be written for Keras{hint}; known: LSTM, GRU and RNN of lstmkit, nn.Sequential, Linear, "
        f"Embedding, Dropout, {', '.join(sorted({type(make()).__name__ for make in ACTIVATIONS.values()}))}, LeakyReLU"
    )


def _settings(activation: nn.Module) -> dict[str, Any]:
    """What an activation computes; ``inplace`` changes only where."""
    own = {name: value for name, value in vars(activation).items() if not name.startswith("_")}
    return {name: value for name, value in own.items() if name not in ("training", "inplace")}


# ---- recurrent layers ------------------------------------------------------------------------------------------------


def _stack(label: str, layer: RecurrentLayer, options: dict[str, Any]) -> list[_Written]:
    """One layer of Keras for each layer of a stack."""
    _check_plain(label, layer)
    kind = _KINDS[layer.specs[0].kind]
    written: list[_Written] = []
    for k, spec in enumerate(layer.specs):
        own = {**options, "units": spec.hidden_size, "use_bias": spec.bias}
        if kind == "SimpleRNN":
            own["activation"] = spec.kind.removeprefix("rnn_")
        else:
            own |= {"activation": "tanh", "recurrent_activation": "sigmoid"}
        own |= {"reset_after": True} if kind == "GRU" else {}
        weights = [
            _cell_weights(kind, [float_values(label, key, value) for key, value in layer.weights(k, d).items()])
            for d in range(layer.num_directions)
        ]
        if not layer.bidirectional:
            written.append(_Written(kind, own, {"cell": weights[0]}))
            continue
        name = snake_case(kind)
        inner = {
            "layer": _entry(kind, {"name": f"forward_{name}", **own}),
            "backward_layer": _entry(kind, {"name": f"backward_{name}", **own, "go_backwards": True}),
        }
        parts = {"forward_layer/cell": weights[0], "backward_layer/cell": weights[1]}
        written.append(_Written("Bidirectional", {"merge_mode": _KERAS_MERGES[layer.merge], **inner}, parts))
    return written


def _check_plain(label: str, layer: RecurrentLayer) -> None:
    """Refuse the cells and options that Keras does not have."""
    spec = layer.specs[0]
    if spec.kind not in _KINDS:
        raise UserError(f"{label} has the cell {spec.kind}: Keras has only {', '.join(_KINDS)}")
    options = [name for name in ("proj_size", "peephole", "coupled", "layer_norm") if getattr(spec, name)]
    options += ["zoneout"] if layer.zoneout else []
    options += ["residual"] if layer.residual and layer.num_layers > 1 else []
    if options:
        raise UserError(f"{label} has {' and '.join(options)}: Keras has only plain layers; export_onnx has all")


def _cell_weights(kind: str, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Kernel ``(F, G·H)``, recurrent kernel ``(H, G·H)`` and bias, ``(2, 3·H)`` of a GRU, else ``(G·H,)``."""
    kernel, recurrent_kernel, *biases = [reordered(kind, values) for values in weights]
    bias = [np.stack(biases) if kind == "GRU" else biases[0].astype(np.float64) + biases[1]] if biases else []
    return [kernel.T, recurrent_kernel.T, *(values.astype(np.float32) for values in bias)]


# ---- the file --------------------------------------------------------------------------------------------------------


def _entry(kind: str, options: dict[str, Any], module: str = "keras.layers") -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": options, "registered_name": None}


def _hdf5(weights: dict[str, Sequence[np.ndarray]]) -> bytes:
    """Weights by the path of their group, as an HDF5 file."""
    h5py = import_library("h5py", "keras", "writing Keras models")
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for path, arrays in weights.items():
            group = file.create_group(path)
            for k, values in enumerate(arrays):
                group[str(k)] = values
    return content.getvalue()


def _write(path: Path, model: dict[str, Any], weights: bytes) -> None:
    files = {
        METADATA: json.dumps({"keras_version": _KERAS_VERSION, "date_saved": "{}-{:02}-{:02}@00:00:00".format(*_DATE)}),
        CONFIG: json.dumps(model, allow_nan=False),
        WEIGHTS: weights,
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), data)
    write_bytes(path, content.getvalue())
