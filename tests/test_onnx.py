"""ONNX files of layers and modules compute what the modules compute, in ONNX Runtime, for other shapes too."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lstmkit
from cases import CELLS, DIRECTIONS, LAYERS, cell_specs, layer_options, make_layer, numbers
from lstmkit.cells import CellSpec
from lstmkit.errors import UserError
from lstmkit.export.onnx import OPSETS, export_onnx
from lstmkit.ops import dispatch
from lstmkit.ops.call import Call, Pass, Result

onnx = pytest.importorskip("onnx", reason="ONNX export needs the extra export")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX export needs the extra export")

pytestmark = pytest.mark.usefixtures("onnx_functions_parsed_once")

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
STANDARD = {"", "ai.onnx"}  #: Domains of operators that every ONNX runtime has.


def session(path: Path) -> Any:
    """The file in ONNX Runtime, with memory pattern and one thread set. It has no operators but the standard ones."""
    model = onnx.load(path)
    assert {opset.domain for opset in model.opset_import} <= STANDARD
    assert not model.functions
    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = True
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def few_options(kind: str) -> list[CellSpec]:
    """A cell without options, with each option alone, and with all of them."""
    specs = [spec for spec in cell_specs() if spec.kind == kind]
    changed = [sum(map(operator.ne, dataclasses.astuple(spec), dataclasses.astuple(specs[0]))) for spec in specs]
    return [spec for spec, count in zip(specs, changed, strict=True) if count in (0, 1, max(changed))]


class Cells(nn.Module):
    """Calls of the recurrence with the same input: one direction, the other or both in turns."""

    def __init__(self, specs: list[CellSpec]) -> None:
        super().__init__()
        self.calls, self.weights = [], nn.ParameterList()
        for spec, reverse in zip(specs, itertools.cycle(DIRECTIONS.values())):
            names, first = list(spec.parameter_shapes()), len(self.weights)
            for name, _ in itertools.product(names, reverse):
                weight = numbers(*spec.parameter_shapes()[name], seed=len(self.weights), dtype=torch.float32)
                self.weights.append(nn.Parameter(weight.detach()))
            self.calls.append((spec, reverse, names, first))

    def forward(self, x: Tensor, h: Tensor, lengths: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for number, (spec, reverse, names, first) in enumerate(self.calls):
            count = len(names)
            passes = []
            for d, is_reversed in enumerate(reverse):
                weights = [self.weights[first + k] for k in range(d, count * len(reverse), len(reverse))]
                state = tuple(h[:, :size] for size in spec.state_sizes) if number % 2 else ()
                zoneout = (0.1,) * len(spec.state_sizes) if number % 5 == 4 else None
                passes.append(Pass(dict(zip(names, weights, strict=True)), state, is_reversed, None, zoneout))
            result = dispatch.run(Call(spec, x, tuple(passes), lengths if number % 3 else None))
            found += [result.output, *result.state]
        return found


#: Cells of a normal run: each operator of ONNX, and a cell without one. The others take several seconds each.
QUICK_CELLS = ("lstm", "gru", "rnn_relu", "lstm_full_gates")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in QUICK_CELLS else pytest.mark.complete) for kind in CELLS]
)
def test_every_cell_is_the_same_in_onnx_runtime(kind: str, tmp_path: Path):
    """With and without lengths, initial state and zoneout."""
    module = Cells(few_options(kind))
    example = {"x": torch.zeros(3, 2, 3), "h": torch.zeros(2, 5), "lengths": torch.tensor([3, 2])}
    dynamic = {"x": ("time", "batch", None), "h": ("batch", None), "lengths": ("batch",)}
    file = session(export_onnx(module, tmp_path / "cells.onnx", example, dynamic=dynamic))
    for steps, lengths in ((5, [3, 0, 5, 1]), (1, [1]), (2, [0, 0])):
        x, h = numbers(steps, len(lengths), 3, seed=1, dtype=torch.float32), torch.randn(len(lengths), 5)
        with torch.no_grad():
            expected = module(x, h, torch.tensor(lengths))
        feed = {"x": x.detach().numpy(), "h": h.numpy(), "lengths": np.array(lengths)}
        for ours, theirs in zip(expected, file.run(None, feed), strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), **CLOSE)


class Layers(nn.Module):
    """Layers that read the same input, one after the other."""

    def __init__(self, name: str) -> None:
        super().__init__()
        options = [o | {"batch_first": True} for o in layer_options(LAYERS[name])]
        self.layers = nn.ModuleList(make_layer(name, o, dtype=torch.float32) for o in options)

    def forward(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for layer in self.layers:
            output, state = layer(x, lengths=lengths)
            found += [output, *(state if isinstance(state, tuple) else (state,))]
        return found


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "LSTM" else pytest.mark.complete) for name in LAYERS]
)
def test_every_option_of_a_layer_is_the_same_in_onnx_runtime(name: str, tmp_path: Path):
    module = Layers(name)
    example = {"x": torch.zeros(2, 3, 3), "lengths": torch.tensor([3, 2])}
    dynamic = {"x": ("batch", "time", None), "lengths": ("batch",)}
    file = session(export_onnx(module, tmp_path / "layers.onnx", example, dynamic=dynamic))
    assert module.training  # the mode it had
    x, lengths = torch.randn(3, 6, 3), torch.tensor([6, 0, 2])
    with torch.no_grad():
        expected = module.eval()(x, lengths)
    for ours, theirs in zip(expected, file.run(None, {"x": x.numpy(), "lengths": lengths.numpy()}), strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), **CLOSE)


def test_a_layer_alone_has_named_inputs_and_outputs(tmp_path: Path):
    layer = lstmkit.LSTM(3, 5, num_layers=2, batch_first=True, peephole=True).eval()
    path = export_onnx(layer, tmp_path / "layer.onnx", lengths=True, state=True)
    file = session(path)
    assert [(i.name, i.shape) for i in file.get_inputs()] == [
        ("x", ["batch", "time", 3]),
        ("lengths", ["batch"]),
        ("h_0", [2, "batch", 5]),
        ("c_0", [2, "batch", 5]),
    ]
    assert [o.name for o in file.get_outputs()] == ["output", "h_n", "c_n"]
    assert operators(path).count("LSTM") == 2
    assert "Scan" not in operators(path)
    x, state = torch.randn(1, 4, 3), (torch.randn(2, 1, 5), torch.randn(2, 1, 5))
    output, (h, c) = layer(x, state, torch.tensor([3]))
    feed = {"x": x, "lengths": torch.tensor([3]), "h_0": state[0], "c_0": state[1]}
    theirs = file.run(None, {name: value.numpy() for name, value in feed.items()})
    for own, other in zip((output, h, c), theirs, strict=True):
        np.testing.assert_allclose(other, own.detach().numpy(), **CLOSE)


def test_the_weights_are_constants_in_the_order_of_onnx(tmp_path: Path):
    """The blocks of torch are i, f, c, o; those of ONNX are i, o, f, c."""
    layer = lstmkit.LSTM(3, 2)
    path = export_onnx(layer, tmp_path / "layer.onnx")
    assert operators(path) == ["LSTM", "Squeeze"]
    by_name = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    (node,) = (node for node in onnx.load(path).graph.node if node.op_type == "LSTM")
    i, f, c, o = layer.weight_ih_l0.detach().chunk(4)
    np.testing.assert_array_equal(by_name[node.input[1]][0], torch.cat([i, o, f, c]).numpy())


@pytest.mark.parametrize("opset", OPSETS)
def test_every_version_of_the_operators(opset: int, tmp_path: Path):
    layer = lstmkit.GRU(3, 5, bidirectional=True).eval()
    path = export_onnx(layer, tmp_path / "layer.onnx", opset=opset)
    assert onnx.load(path).opset_import[0].version == opset
    x = torch.randn(4, 2, 3)
    np.testing.assert_allclose(session(path).run(["output"], {"x": x.numpy()})[0], layer(x)[0].detach(), **CLOSE)


def test_other_threads_compute_while_one_records():
    layer, x = lstmkit.LSTM(3, 5), torch.randn(4, 2, 3)
    expected, recorded = layer(x)[0], []

    def recorder(call: Call) -> Result:
        recorded.append(call)
        return dispatch.BACKENDS["reference"].run(call)

    with dispatch.recorded_by(recorder):
        with ThreadPoolExecutor(1) as pool:
            torch.testing.assert_close(pool.submit(layer, x).result()[0], expected)
        assert not recorded
        torch.testing.assert_close(layer(x)[0], expected)
    assert len(recorded) == 1
    layer(x)
    assert len(recorded) == 1


class Refused(nn.Module):
    """A module whose graph depends on values."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class OneSize(nn.Module):
    """A module whose graph is for one size only."""

    def forward(self, x: Tensor) -> Tensor:
        return x * len(x)


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (lstmkit.LSTM(3, 5), {"opset": 16}, "opset must be 17 to 23, got 16"),
        (nn.Linear(3, 5), {}, "give example inputs"),
        (nn.Linear(3, 5), {"lengths": True}, "lengths and state are for a layer alone"),
        (nn.Linear(3, 5), {"inputs": {"input": torch.zeros(2, 3)}, "dynamic": {"x": ("batch", None)}}, "no input: x"),
        (
            nn.Linear(3, 5),
            {"inputs": {"input": torch.zeros(1, 3)}, "dynamic": {"input": ("batch", None)}},
            "at least 2",
        ),
        (nn.Linear(3, 5), {"inputs": {"input": torch.zeros(2, 3)}, "dynamic": {"input": ("b",)}}, "1 dimensions for"),
        (lstmkit.LSTM(3, 5, layer_norm=True), {"opset": 17}, "set opset to 18 or more"),
        (Refused(), {"inputs": {"x": torch.zeros(2, 3)}}, "Refused cannot be exported"),
        (
            OneSize(),
            {"inputs": {"x": torch.zeros(2, 3)}, "dynamic": {"x": ("batch", None)}},
            "it fixes the size of 'batch' of x: read sizes from x.shape",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused(module: nn.Module, arguments: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        export_onnx(module, tmp_path / "no.onnx", **arguments)
    assert not list(tmp_path.iterdir())
