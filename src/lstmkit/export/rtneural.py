"""Trained networks as JSON files for audio plug-ins: RTNeural, and Neural Amp Modeler (NAM).

The forms were read from the loaders themselves: RTNeural ``RTNeural/model_loader.h`` at commit 96119da, with the gate
orders of ``lstm/lstm.tpp`` (97fcead) and ``gru/gru.tpp`` (7b9c090); NeuralAmpModelerCore ``NAM/get_dsp.cpp`` at commit
cd92997 and ``NAM/lstm.cpp`` at commit 8bebfef.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from lstmkit.errors import UserError
from lstmkit.export.stack import Activation, Dense, Part, Recurrent, parts_of
from lstmkit.training.checkpoint import write_bytes

_NAM_FORMAT = "0.5.2"  #: Version of NAM's file format; the loader reads every 0.5.

#: RTNeural's names and gate orders of the cells.
_GATES = {"lstm": ("input", "forget", "candidate", "output"), "gru": ("update", "reset", "candidate")}


def export_rtneural(module: nn.Module, path: str | Path) -> Path:
    """Write a network as the JSON file that ``RTNeural::json_parser`` loads, the form of its Keras models.

    RTNeural (https://github.com/jatinchowdhury18/RTNeural) runs small networks in real time in C++. Its input is
    ``(F,)`` and its output ``(P,)`` per step. The form is that of commit 96119da. The biases that a layer lacks are
    written as zeros.

    Args:
        module: A plain LSTM or GRU of lstmkit with one direction, or an ``nn.Sequential`` of such layers,
            ``nn.Linear``, ``nn.Tanh``, ``nn.ReLU``, ``nn.Sigmoid``, ``nn.Identity`` and ``nn.Dropout``.
        path: The file, for example ``model.json``. An existing file is replaced.

    Returns:
        ``path``.

    Raises:
        UserError: The module has a part or an option that RTNeural does not have.
        OSError: The file cannot be written.

    >>> from lstmkit import GRU
    >>> path = export_rtneural(nn.Sequential(GRU(1, 8), nn.Linear(8, 1)), "model.json")
    >>> [(layer["type"], layer["shape"]) for layer in json.loads(path.read_text())["layers"]]
    [('gru', [None, None, 8]), ('dense', [None, None, 1])]
    """
    parts = parts_of(module)
    layers: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, Recurrent):
            _check_plain(part, _GATES, "RTNeural")
            layers.append(_rtneural_layer(part.spec.kind, part, _recurrent_weights(part), "tanh"))
        elif isinstance(part, Dense):
            layers.append(_rtneural_layer("dense", part, [part.weight.T, _bias(part)]))
        elif layers[-1]["type"] == "dense" and not layers[-1]["activation"]:
            layers[-1]["activation"] = part.function
        else:
            layers.append(_rtneural_layer("activation", part, [], part.function))
    inputs = next(part.input_size for part in parts if not isinstance(part, Activation))
    return _write(path, {"in_shape": [None, None, inputs], "layers": layers})


def export_nam(module: nn.Module, path: str | Path, sample_rate: float) -> Path:
    """Write an LSTM with a linear head as a ``.nam`` file of Neural Amp Modeler.

    The network reads one audio sample and gives one audio sample per step. The form is file version 0.5.2, read from
    NeuralAmpModelerCore (https://github.com/sdatkinson/NeuralAmpModelerCore) at commit 8bebfef. The initial states are
    zeros, as those of the layer; the loader then runs half a second of silence before the first sample.

    Args:
        module: ``nn.Sequential`` of plain LSTM layers of lstmkit with one direction and the same ``hidden_size``, and
            ``nn.Linear(hidden_size, 1)``. The first layer has one input.
        path: The file, for example ``amp.nam``. An existing file is replaced.
        sample_rate: Sample rate of the audio that the network was trained on, in Hz.

    Returns:
        ``path``.

    Raises:
        UserError: The module has another form, or the sample rate is not a positive number.
        OSError: The file cannot be written.

    >>> from lstmkit import LSTM
    >>> path = export_nam(nn.Sequential(LSTM(1, 8, num_layers=2), nn.Linear(8, 1)), "amp.nam", sample_rate=48000)
    >>> json.loads(path.read_text())["config"]
    {'input_size': 1, 'hidden_size': 8, 'num_layers': 2}
    """
    if not (math.isfinite(sample_rate) and sample_rate > 0):
        raise UserError(f"sample_rate must be a positive number of Hz, got {sample_rate}")
    layers, head = _nam_parts(parts_of(module))
    weights = [_nam_cell(layer) for layer in layers] + [head.weight.ravel(), _bias(head)]
    first = layers[0].spec
    content = {
        "version": _NAM_FORMAT,
        "metadata": {},
        "architecture": "LSTM",
        "config": {"input_size": 1, "hidden_size": first.hidden_size, "num_layers": len(layers)},
        "weights": np.concatenate(weights).tolist(),
        "sample_rate": sample_rate,
    }
    return _write(path, content)


def _rtneural_layer(kind: str, part: Part, weights: Sequence[np.ndarray], activation: str = "") -> dict[str, Any]:
    shape = [None, None, part.output_size]
    return {"type": kind, "activation": activation, "shape": shape, "weights": [w.tolist() for w in weights]}


def _recurrent_weights(layer: Recurrent) -> list[np.ndarray]:
    """Kernel ``(F, G·H)``, recurrent kernel ``(H, G·H)``, and biases: ``(4·H,)`` of an LSTM, ``(2, 3·H)`` of a GRU."""
    matrices = [_in_order(layer, layer.weights[name]).T for name in ("weight_ih", "weight_hh")]
    zeros = np.zeros(matrices[0].shape[1], np.float32)
    biases = [_in_order(layer, layer.weights[name]) if layer.spec.bias else zeros for name in ("bias_ih", "bias_hh")]
    return [*matrices, _sum(*biases) if layer.spec.kind == "lstm" else np.stack(biases)]


def _in_order(layer: Recurrent, weight: np.ndarray) -> np.ndarray:
    """The blocks of ``weight (G·H, ...)`` in the order of RTNeural."""
    blocks = dict(zip(layer.spec.gates, np.split(weight, len(layer.spec.gates)), strict=True))
    return np.concatenate([blocks[gate] for gate in _GATES[layer.spec.kind]])


def _sum(bias_ih: np.ndarray, bias_hh: np.ndarray) -> np.ndarray:
    """The sum of two biases in double precision; the loader rounds it once."""
    return bias_ih.astype(np.float64) + bias_hh


def _bias(dense: Dense) -> np.ndarray:
    return np.zeros(dense.output_size, np.float32) if dense.bias is None else dense.bias


def _nam_parts(parts: Sequence[Part]) -> tuple[list[Recurrent], Dense]:
    """The LSTM layers and the head; refuses every other form."""
    *layers, head = parts
    if not isinstance(head, Dense) or head.output_size != 1:
        raise UserError(f"{head.name} is the last part: NAM needs nn.Linear(hidden_size, 1) there")
    lstms: list[Recurrent] = []
    for layer in layers:
        if not isinstance(layer, Recurrent):
            raise UserError(f"{layer.name}: NAM has only LSTM layers before the last nn.Linear")
        _check_plain(layer, ("lstm",), "NAM")
        inputs, hidden = layer.input_size, layer.spec.hidden_size
        if not lstms and inputs != 1:
            raise UserError(f"{layer.name} reads {inputs} values per step: NAM gives it one audio sample")
        if lstms and hidden != lstms[0].spec.hidden_size:
            raise UserError(f"{layer.name} has {hidden} units, {lstms[0].name} has {lstms[0].spec.hidden_size}: "
                            "NAM has one hidden_size for all layers")  # fmt: skip
        lstms.append(layer)
    return lstms, head


def _nam_cell(layer: Recurrent) -> np.ndarray:
    """One layer in the flat order of NAM: ``[W_ih, W_hh]`` row by row, the bias, the initial ``h`` and ``c``."""
    w, hidden = layer.weights, layer.spec.hidden_size
    bias = _sum(w["bias_ih"], w["bias_hh"]) if layer.spec.bias else np.zeros(4 * hidden)
    return np.concatenate([np.hstack([w["weight_ih"], w["weight_hh"]]).ravel(), bias, np.zeros(2 * hidden)])


def _check_plain(layer: Recurrent, kinds: Mapping[str, Any] | Sequence[str], program: str) -> None:
    """Refuse cells and options that the other program does not have."""
    if layer.spec.kind not in kinds:
        raise UserError(f"{layer.name} has the cell {layer.spec.kind}: {program} has only {', '.join(kinds)}")
    options = [name for name in ("proj_size", "peephole", "coupled", "layer_norm") if getattr(layer.spec, name)]
    options += [name for name in ("zoneout", "residual") if getattr(layer, name)]
    if options:
        raise UserError(f"{layer.name} has {' and '.join(options)}: {program} has only plain layers; export_c has all")


def _write(path: str | Path, content: dict[str, Any]) -> Path:
    write_bytes(Path(path), (json.dumps(content, allow_nan=False) + "\n").encode())
    return Path(path)
