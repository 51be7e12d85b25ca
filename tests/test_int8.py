"""Weights in 8 bits: the rounding, the product, the kernels against the reference, and quantized jobs.

A rounded activation near one half may fall on either side where sums are in another order, and the difference of one
unit, 1/127 of the largest activation, then lives on in the state. So the kernels are compared exactly in one step, and
within a few such units over many.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations
from torch.testing import assert_close

import cases
import lstmkit
from job_cases import CASES, make, predict_records
from lstmkit import GRU, LSTM, RNN, UserError, quantize
from lstmkit.cells import INT8_SCALES, CellSpec
from lstmkit.errors import SettingError
from lstmkit.int8 import dequantize_matrix, int8_linear, quantize_matrix, quantize_rows
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.look.inspection_page import sections
from lstmkit.look.traces import ExampleSequence
from lstmkit.ops import dispatch
from lstmkit.ops.call import Call, Pass
from lstmkit.ops.cpu import kernels

UNITS = 0.03  # of the state, over many steps

needs_kernels = pytest.mark.skipif(kernels.extension is None, reason="lstmkit was installed without its extension")


@pytest.fixture(params=["vnni", "wide"])
def dot(request: pytest.FixtureRequest) -> Iterator[str]:
    """The kernels with and without the instructions of VNNI."""
    assert kernels.extension is not None
    if kernels.extension.use_vnni(request.param == "vnni") is not (request.param == "vnni"):
        pytest.skip("these kernels, or this CPU, have no VNNI")
    kernels._cached.cache_clear()
    yield request.param
    kernels.extension.use_vnni(True)
    kernels._cached.cache_clear()


# ---- rounding and product --------------------------------------------------------------------------------------------


@settings(deadline=None)  # the first example imports
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20))
def test_an_integer_is_at_most_half_a_scale_away(row: list[float]):
    """The error of a rounded value is half a scale, and the largest value is exact."""
    x = torch.tensor([row], dtype=torch.float32)
    integers, scale = quantize_rows(x)
    assert integers.abs().max() <= 127
    smallest = 1e-36  # a row below it is zero
    assert (integers * scale - x).abs().max() <= max(0.5001 * float(scale), smallest)
    assert_close((integers * scale).abs().max(), x.abs().max(), rtol=1e-6, atol=smallest)


def test_a_product_is_that_of_integers():
    """By numpy's integers: the scales of both sides times an exact sum."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(6, 300)).astype(np.float32), rng.normal(size=(9, 300)).astype(np.float32)
    scale_x, scale_w = np.abs(x).max(1) / 127, np.abs(w).max(1) / 127
    q_x, q_w = np.rint(x / scale_x[:, None]).astype(np.int64), np.rint(w / scale_w[:, None]).astype(np.int64)
    expected = (q_x @ q_w.T) * scale_x[:, None] * scale_w
    integers, scale = quantize_matrix(torch.from_numpy(w))
    assert integers.dtype == torch.int8
    assert_close(integers, torch.from_numpy(q_w.astype(np.int8)))
    assert_close(int8_linear(torch.from_numpy(x), integers, scale), torch.from_numpy(expected).float())


def test_rows_that_are_not_finite_give_nan_and_others_do_not():
    """A row with NaN or infinity has no digits left; a row of zeros, or of the smallest numbers, is zero."""
    x = torch.tensor([[1.0, torch.nan], [torch.inf, 0], [1e-40, -1e-40], [0, 0], [2, 1]])
    product = int8_linear(x, *quantize_matrix(torch.ones(1, 2)))
    assert product.isnan().flatten().tolist() == [True, True, False, False, False]
    assert_close(product[2:], torch.tensor([[0.0], [0.0], [3.0]]), atol=0.01, rtol=0)


def test_weights_that_are_not_finite_are_refused():
    layer = LSTM(2, 3)
    nn.init.constant_(layer.weight_hh_l0, torch.inf)
    with pytest.raises(ValueError, match="not all finite"):
        quantize(layer)
    with pytest.raises(ValueError, match="not all finite"):
        layer.quantize_()
    assert not layer.is_quantized
    assert layer.weight_ih_l0.dtype == torch.float32


# ---- kernels ---------------------------------------------------------------------------------------------------------


def int8_call(
    spec: CellSpec, n_steps: int, batch: int, lengths: list[int] | None, directions: tuple[bool, ...]
) -> Call:
    """A random float32 call with matrices in 8 bits."""
    call = cases.cast(cases.make_call(spec, n_steps, batch, lengths, directions), torch.float32)

    def convert(p: Pass) -> Pass:
        params = {name: w.detach() for name, w in p.params.items()}
        for matrix, scale in INT8_SCALES.items():
            if matrix in params:
                params[matrix], params[scale] = quantize_matrix(params[matrix] / params[matrix].shape[1] ** 0.5)
        return p._replace(params=params, state=tuple(s.detach() for s in p.state))

    call = cases.map_passes(call, convert)
    return call._replace(spec=dataclasses.replace(spec, int8=True), x=call.x.detach())


def difference(call: Call) -> float:
    """The largest difference of outputs and states between the kernels and the reference."""
    native, reference = (dispatch.run(call, name) for name in ("native", "reference"))
    pairs = zip((native.output, *native.state), (reference.output, *reference.state), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs if a.numel())


SPECS = [spec for spec in cases.cell_specs(6, 37) if spec.kind in kernels.KINDS]


@needs_kernels
@pytest.mark.parametrize("spec", SPECS, ids=cases.spec_id)
def test_one_step_is_that_of_the_reference(isa: str, dot: str, spec: CellSpec):
    """From random states: input, recurrent and projected product, every cell and option."""
    call = int8_call(spec, 1, 4, None, (False, True))
    assert difference(call) < (UNITS if spec.proj_size else 2e-5)  # what is projected is rounded within the step


@needs_kernels
@pytest.mark.parametrize("lengths", [None, [9, 0, 4, 9, 1, 7, 2]], ids=["full", "ragged"])
@pytest.mark.parametrize("spec", SPECS[::3], ids=cases.spec_id)
def test_many_steps_stay_near_the_reference(isa: str, dot: str, spec: CellSpec, lengths: list[int] | None):
    assert difference(int8_call(spec, 9, 7, lengths, (False, True))) < UNITS


@needs_kernels
@pytest.mark.parametrize("inputs", [1, 3, 4, 63, 64, 65, 257, 1100])
@pytest.mark.parametrize("batch", [1, 2, 5, 40])
def test_every_number_of_inputs_and_rows(isa: str, dot: str, inputs: int, batch: int):
    """Not multiples of four bytes, vectors, tiles and the depth that is multiplied at a time."""
    assert difference(int8_call(CellSpec("rnn_tanh", inputs, 21), 1, batch, None, (False,))) < 2e-5


@needs_kernels
def test_threads_share_the_units(isa: str, dot: str):
    """A few sequences of a wide layer are divided by units, whose rounding all threads share."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert difference(int8_call(CellSpec("lstm", 40, 300), 6, 2, None, (False,))) < UNITS
    finally:
        torch.set_num_threads(before)


@needs_kernels
def test_a_row_that_is_not_finite_spoils_no_other(isa: str, dot: str):
    call = int8_call(CellSpec("lstm", 5, 9), 3, 4, None, (False,))
    call.x[1, 2, 0] = torch.nan
    output = dispatch.run(call, "native").output
    assert output.isnan().any(-1).nonzero().tolist() == [[1, 2], [2, 2]]


@needs_kernels
def test_the_extension_refuses_what_it_cannot_do():
    """Gradients, other dtypes, and float matrices in the place of bytes."""
    spec = CellSpec("lstm", 3, 5, int8=True)
    with pytest.raises(ValueError, match="need activations in float32"):
        kernels.NativeLayer(spec, (False,), False, torch.float64)
    layer = kernels.layer_for(spec, (False,), False, torch.float32)
    call = int8_call(dataclasses.replace(spec, int8=False), 2, 3, None, (False,))
    weights = list(call.passes[0].params.values())
    inputs = kernels.Inputs(call.x, [weights[0].float(), *weights[1:]], [], [None] * 3, None, [0.0] * 2)
    with pytest.raises(ValueError, match=r"expected a weight \(20, 3\), int8; got \(20, 3\), float32"):
        kernels.forward(layer, inputs, False)
    with pytest.raises(ValueError, match="no gradients"):
        layer.native.gradients(inputs, 1, call.x, call.x, [None] * 3, [], [], [])


# ---- layers ----------------------------------------------------------------------------------------------------------

LAYERS: dict[str, Callable[[], RecurrentLayer]] = {
    "lstm": lambda: LSTM(5, 40, 2, batch_first=True),
    "lstm, projection": lambda: LSTM(5, 40, 2, batch_first=True, proj_size=7, residual=True),
    "lstm, both directions": lambda: LSTM(5, 40, 2, batch_first=True, bidirectional=True, merge="sum"),
    "gru": lambda: GRU(5, 40, batch_first=True, layer_norm=True),
    "rnn": lambda: RNN(5, 40, batch_first=True, bias=False),
}
every_layer = pytest.mark.parametrize("make_layer", LAYERS.values(), ids=LAYERS)


@every_layer
def test_a_quantized_layer_is_near_the_layer(make_layer: Callable[[], RecurrentLayer]):
    """Outputs, states, a trace and a stream; the layer itself stays as it is."""
    torch.manual_seed(0)
    layer, x, lengths = make_layer(), torch.randn(3, 8, 5), torch.tensor([8, 3, 5])
    before = copy.deepcopy(layer.state_dict())
    small = quantize(layer)
    assert small.is_quantized
    assert not small.training
    assert_close(layer.state_dict(), before)
    output, _ = small(x, lengths=lengths)
    assert_close(output, layer.eval()(x, lengths=lengths)[0].detach(), atol=2 * UNITS, rtol=0)
    trace = small.trace(x, lengths=lengths)
    assert_close(trace.output, output, atol=UNITS, rtol=0)
    if not layer.bidirectional:
        stream = small.stream()
        steps = torch.stack([stream(x[:, t]) for t in range(8)], dim=1)
        assert_close(steps, small(x)[0], atol=UNITS, rtol=0)


@every_layer
def test_a_quantized_layer_is_saved_copied_and_compiled(make_layer: Callable[[], RecurrentLayer]):
    layer, x = make_layer(), torch.randn(2, 4, 5)
    small = quantize(layer)
    other = quantize(make_layer())
    other.load_state_dict(small.state_dict())
    assert_close(other(x)[0], small(x)[0])
    assert_close(copy.deepcopy(small)(x)[0], small(x)[0])
    assert quantize(small).state_dict().keys() == small.state_dict().keys()
    bytes_of = [sum(t.numel() * t.element_size() for t in part.state_dict().values()) for part in (layer, small)]
    assert bytes_of[1] < 0.5 * bytes_of[0]


@every_layer
def test_gradients_are_those_of_the_rounded_weights(make_layer: Callable[[], RecurrentLayer]):
    """If an input requires a gradient, the layer is the one whose weights were rounded."""
    layer, x = make_layer().eval(), torch.randn(2, 4, 5)
    small = quantize(layer)
    with torch.no_grad():
        for name, weight in small.named_parameters():
            if weight.dtype == torch.int8:
                scale = getattr(small, name.replace("weight", "scale"))
                getattr(layer, name).copy_(dequantize_matrix(weight, scale))
    leaves = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    for one, leaf in zip((layer, small), leaves, strict=True):
        one(leaf)[0].square().sum().backward()
    assert_close(*(leaf.grad for leaf in leaves))
    assert_close(small(leaves[1])[0], small(x)[0], atol=UNITS, rtol=0)


@every_layer
def test_a_quantized_layer_is_looked_into(make_layer: Callable[[], RecurrentLayer]):
    """Gates, attribution by gradients, and one step of the cell with its projections."""
    layer, example = make_layer(), ExampleSequence(torch.randn(1, 9, 5))
    shown, of_layer = sections(quantize(layer), [example]), sections(layer, [example])
    assert [section.title for section in shown] == [section.title for section in of_layer]


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # by torch.compile itself
def test_a_compiled_quantized_layer_gives_the_same():
    small, x = quantize(LSTM(3, 20)), torch.randn(6, 2, 3)
    assert_close(torch.compile(small)(x)[0], small(x)[0])


def test_other_dtypes_run_on_the_reference():
    small = quantize(GRU(3, 8)).double()
    assert lstmkit.explain_backend(small, torch.zeros(2, 1, 3, dtype=torch.float64)).chosen == "reference"
    assert small(torch.zeros(2, 1, 3, dtype=torch.float64))[0].dtype == torch.float64


def test_a_quantized_layer_is_for_inference():
    """Training mode and computed weights are refused."""
    small, x = quantize(LSTM(3, 4)), torch.zeros(2, 1, 3)
    with pytest.raises(ValueError, match=r"for inference: call layer\.eval"):
        small.train()(x)
    with pytest.raises(ValueError, match="Linear has no LSTM, GRU or RNN"):
        quantize(nn.Linear(2, 2))
    computed = parametrizations.weight_norm(LSTM(3, 4), "weight_hh_l0")
    with pytest.raises(ValueError, match="remove the parametrizations"):
        quantize(computed)


@pytest.mark.parametrize("write", ["export_onnx", "export_torch", "export_c", "export_rtneural", "export_keras"])
def test_a_quantized_layer_is_not_exported(write: str, tmp_path: Path):
    network = nn.Sequential(quantize(LSTM(3, 4)), nn.Linear(4, 1))
    module = network[0] if write in ("export_onnx", "export_torch") else network
    with pytest.raises(UserError, match="in 8 bits"):
        getattr(lstmkit, write)(module, tmp_path / "file.keras")


def test_torch_quantization_points_to_quantize():
    with pytest.warns(UserWarning, match=r"lstmkit\.quantize does"):
        LSTM(3, 4).qconfig = object()


# ---- jobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_quantized_job_answers_and_is_saved(name: str, tmp_path: Path):
    """It answers, gives the same answers after saving and loading, and is smaller."""
    job = make(name, epochs=1).fit(CASES[name].data())
    if name == "object_detector":
        with pytest.raises(UserError, match="has no LSTM, GRU or RNN of lstmkit to quantize"):
            job.quantize()
        return  # its layers are convolutions
    job.save(tmp_path / "float")
    job.export(tmp_path / "small", "safetensors", quantize="int8")
    size = [(tmp_path / folder / "weights.safetensors").stat().st_size for folder in ("float", "small")]
    assert size[1] < size[0]
    answers = predict_records(job.quantize())
    assert predict_records(lstmkit.load(tmp_path / "small")) == answers
    job.save(tmp_path / "saved")
    assert predict_records(lstmkit.load(tmp_path / "saved")) == answers
    assert len(job.evaluate(CASES[name].data()).table) >= 2
    with pytest.raises(UserError, match="in 8 bits cannot be exported"):
        job.export(tmp_path / "onnx")


def test_an_export_in_safetensors_is_the_model(tmp_path: Path):
    job = make("classifier").fit(CASES["classifier"].data())
    files = job.export(tmp_path / "model", "safetensors")
    assert [path.name for path in files] == ["model.json", "weights.safetensors"]
    assert predict_records(lstmkit.load(tmp_path / "model")) == predict_records(job)
    with pytest.raises(UserError, match="has other files"):
        job.export(tmp_path / "model", "safetensors")
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "export.json").write_text("{}")  # as an export in another format
    with pytest.raises(UserError, match="has other files"):
        job.export(tmp_path / "onnx", "safetensors")


def test_a_job_with_weights_that_are_not_finite_is_not_quantized(tmp_path: Path):
    job = make("tagger", epochs=1).fit(CASES["tagger"].data())
    layer = next(part for part in job.network.modules() if isinstance(part, RecurrentLayer))
    nn.init.constant_(layer.weight_hh_l0, torch.nan)
    for refused in (job.quantize, lambda: job.export(tmp_path / "small", "safetensors", quantize="int8")):
        with pytest.raises(UserError, match="not all finite"):
            refused()
    assert not (tmp_path / "small").exists()


def test_8_bit_weights_do_not_learn(tmp_path: Path):
    """Neither as the start of another fit nor in dynamic evaluation."""
    for name in ("transcriber", "language_model"):
        make(name, epochs=1).fit(CASES[name].data()).export(tmp_path / name, "safetensors", quantize="int8")
    with pytest.raises(SettingError, match="weights in 8 bits, which do not learn"):
        make("transcriber", init_from=str(tmp_path / "transcriber")).fit(CASES["transcriber"].data())
    model = lstmkit.load(tmp_path / "language_model")
    with pytest.raises(SettingError, match="use dynamic_eval_lr=0"):
        model.evaluate(CASES["language_model"].data(), dynamic_eval_lr=0.1)
