"""The Triton kernels, in Triton's interpreter or on a GPU: the contract of a back end.

``test_ops.py`` has the whole contract, for which the interpreter is too slow. Here every cell and option runs through
one call with sequences of all lengths, both directions, noise and all gradients.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import blocks_at_once
import cases
from cases import LAST_DIGITS, noisy, training_step
from lstmkit import GRU, LSTM
from lstmkit.cells import CellSpec
from lstmkit.ops import dispatch, spec_encoding
from lstmkit.ops.ablations import open_gate
from lstmkit.ops.call import Call
from lstmkit.ops.triton import autograd, backend, kernels, launch
from lstmkit.ops.triton.cells import GRU as GRU_KIND
from lstmkit.ops.triton.cells import LSTM as LSTM_KIND

#: Whether the kernels are interpreted here: see conftest.py.
INTERPRETED = not torch.cuda.is_available()
SPECS = cases.cell_specs()
#: Every cell, in turn forward, reversed and bidirectional: the interpreter is slow.
TURNS = list(zip(SPECS, itertools.cycle(cases.DIRECTIONS)))
TURNS_WITH_BIAS = list(zip((spec for spec in SPECS if spec.bias), itertools.cycle(cases.DIRECTIONS)))
#: The interpreter is slow. On a GPU every case runs.
SAMPLED = pytest.mark.sampled(3 if INTERPRETED else 1)

#: Where kernels run.
DEVICE = "cpu" if INTERPRETED else "cuda"


def make_call(spec: CellSpec, *shape: Any, **more: Any) -> Call:
    """``cases.make_call`` on the device of the kernels."""
    return cases.cast(cases.make_call(spec, *shape, **more), torch.float64, DEVICE)


def turn_id(value: Any) -> str:
    return cases.spec_id(value) if isinstance(value, CellSpec) else value


@pytest.fixture(autouse=True)
def _interpret_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    if INTERPRETED:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        blocks_at_once.patch_interpreter_once(monkeypatch)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few units and sequences per block, blocks run in turn, and NaN in uninitialized memory."""
    units, plain = (2 if INTERPRETED else 16), launch.Plan.of
    monkeypatch.setattr(launch.Plan, "of", lambda *args: replace(plain(*args), units=units))
    if INTERPRETED:
        monkeypatch.setattr(launch, "_ROWS", 2)
        blocks_at_once.install(monkeypatch)
        monkeypatch.setattr(torch.Tensor, "new_empty", _poisoned(torch.Tensor.new_empty))
        monkeypatch.setattr(torch, "empty", _poisoned(torch.empty))


def _poisoned(empty: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def filled(*args: Any, **named: Any) -> torch.Tensor:
        memory = empty(*args, **named)
        return memory.fill_(float("nan")) if memory.is_floating_point() else memory

    return filled


def kernels_and_expected(
    call: Call, run_expected: Callable[[Call], Any] = cases.run_unbatched
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values and gradients of the kernels, and the expected ones."""
    got = cases.with_gradients(call, dispatch.run(call, "triton"))
    return got, cases.with_gradients(call, run_expected(call))


@pytest.mark.parametrize(("spec", "directions"), TURNS, ids=turn_id)
def test_every_cell(spec: CellSpec, directions: str) -> None:
    """Values, gates and gradients of every cell equal those of every sequence run alone."""
    call = noisy(make_call(spec, 2, 3, [1, 0, 2], cases.DIRECTIONS[directions], trace=True))
    assert_close(*kernels_and_expected(call), **LAST_DIGITS)


@SAMPLED
@pytest.mark.parametrize(("spec", "directions"), TURNS_WITH_BIAS, ids=turn_id)
@pytest.mark.usefixtures("small_blocks")
def test_every_cell_over_several_blocks(spec: CellSpec, directions: str) -> None:
    """Every cell may span three blocks of units."""
    call = noisy(make_call(spec, 2, 2, [1, 2], cases.DIRECTIONS[directions], trace=True))
    assert_close(*kernels_and_expected(call), **LAST_DIGITS)


@pytest.mark.parametrize("spec", [CellSpec("lstm", 3, 5, layer_norm=True), CellSpec("gru", 3, 5)], ids=cases.spec_id)
@pytest.mark.usefixtures("small_blocks")
def test_several_blocks_in_both_directions(spec: CellSpec) -> None:
    """Three blocks of sequences too, without noise and without gates."""
    assert_close(*kernels_and_expected(make_call(spec, 3, 5, [3, 0, 1, 2, 3], (False, True))), **LAST_DIGITS)


@pytest.mark.parametrize("spec", [CellSpec("lstm", 3, 5), CellSpec("gru", 3, 5), CellSpec("rnn_relu", 3, 5)])
@pytest.mark.parametrize("shape", cases.SHAPES)
def test_every_shape(spec: CellSpec, shape: str) -> None:
    n_steps, batch, lengths = cases.SHAPES[shape]
    assert_close(*kernels_and_expected(make_call(spec, n_steps, batch, lengths)), **LAST_DIGITS)


@pytest.mark.parametrize("spec", [CellSpec("lstm", 3, 5, proj_size=2, layer_norm=True), CellSpec("gru", 3, 5)])
@pytest.mark.parametrize("directions", [(False,), (True,)])
def test_recompute(spec: CellSpec, directions: tuple[bool, ...]) -> None:
    """Recomputed steps give the same results: seven steps in segments of two, the last of one."""
    call = noisy(make_call(spec, 7, 3, [5, 7, 2], directions))
    recomputed = call._replace(recompute=True)
    assert_close(kernels_and_expected(recomputed)[0], kernels_and_expected(call)[0], **LAST_DIGITS)


@pytest.mark.parametrize("directions", [(False,), (True,)])
@pytest.mark.usefixtures("small_blocks")
def test_recompute_over_several_blocks(directions: tuple[bool, ...]) -> None:
    """A segment passes its gradient to the one before it through its first step, which no block has computed."""
    call = noisy(make_call(CellSpec("gru", 3, 5), 5, 2, [5, 3], directions))
    recomputed = call._replace(recompute=True)
    assert_close(kernels_and_expected(recomputed)[0], kernels_and_expected(call)[0], **LAST_DIGITS)


def test_noise_that_only_one_direction_has() -> None:
    first, second = noisy(make_call(CellSpec("lstm", 3, 5), 3, 2, [3, 1], (False, True))).passes
    for other in (second._replace(recurrent_mask=None), second._replace(zoneout=(0.3, 0.1))):
        call = make_call(CellSpec("lstm", 3, 5), 3, 2, [3, 1])._replace(passes=(first, other))
        assert_close(*kernels_and_expected(call, lambda call: dispatch.run(call, "reference")), **LAST_DIGITS)


def test_noise_and_weights_of_any_layout() -> None:
    """Results agree to the last digits: torch's products add up in an order that depends on layout and CPU."""
    call = noisy(make_call(CellSpec("lstm", 3, 5), 4, 3, [2, 4, 3]))

    def transposed_layout(t: torch.Tensor) -> torch.Tensor:
        """The same numbers, the last two dimensions the other way round in memory."""
        return t.mT.contiguous().mT

    passes = tuple(
        p._replace(
            params={name: transposed_layout(w) if w.dim() == 2 else w for name, w in p.params.items()},
            recurrent_mask=None if p.recurrent_mask is None else transposed_layout(p.recurrent_mask),
            zoneout=tuple(transposed_layout(z) for z in p.zoneout or () if isinstance(z, torch.Tensor)),
        )
        for p in call.passes
    )
    other = call._replace(x=transposed_layout(call.x), passes=passes, lengths=torch.tensor([2, 0, 4, 0, 3])[::2])
    with torch.no_grad():
        both_values = (cases.values(variant, dispatch.run(variant, "triton")) for variant in (other, call))
        assert_close(*both_values, **LAST_DIGITS)


def test_zoneout_with_fixed_probabilities() -> None:
    call = make_call(CellSpec("lstm", 3, 5), 4, 3, [2, 4, 3])
    passes = tuple(p._replace(zoneout=(0.3, 0.1)) for p in call.passes)
    assert_close(
        *kernels_and_expected(call._replace(passes=passes), lambda call: dispatch.run(call, "reference")), **LAST_DIGITS
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("spec", [CellSpec("lstm", 3, 20), CellSpec("gru", 3, 20)], ids=cases.spec_id)
def test_lower_precision(spec: CellSpec, dtype: torch.dtype) -> None:
    """Results equal float64 from the same numbers: float32 to its last digits, half precision to its rounding."""
    call = make_call(spec, 5, 3, [2, 5, 4])
    call = cases.cast(call, dtype, DEVICE)
    got, _ = kernels_and_expected(call)
    wide = cases.cast(call, torch.float64, DEVICE)
    expected = cases.with_gradients(wide, dispatch.run(wide, "reference"))
    tolerance = 1e-5 if dtype is torch.float32 else 0.05
    for name, value in got.items():
        assert_close(value.double(), expected[name], rtol=tolerance, atol=tolerance * float(expected[name].abs().max()))


@pytest.mark.parametrize(
    "spec",
    [
        CellSpec("lstm", 2, 3, peephole=True, coupled=True, proj_size=2),
        CellSpec("gru", 2, 3, layer_norm=True),
        CellSpec("lstm_full_gates", 2, 3),
    ],
    ids=cases.spec_id,
)
@pytest.mark.parametrize("trace", [False, True])
def test_second_derivatives(spec: CellSpec, trace: bool) -> None:
    call = noisy(make_call(spec, 3, 2, [3, 2], (False, True), trace=trace))
    leaves = list(cases.leaves(call).values())

    def penalty(backend: str) -> tuple[torch.Tensor, ...]:
        values = cases.values(call, dispatch.run(call, backend)).values()
        grads = torch.autograd.grad(cases.uneven_sum(values), leaves, create_graph=True)
        return torch.autograd.grad(cases.uneven_sum(grads), leaves, materialize_grads=True)

    assert_close(penalty("triton"), penalty("reference"), **LAST_DIGITS)


def test_without_gradients_nothing_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    original = autograd.run
    monkeypatch.setattr(autograd, "run", lambda *args: runs.append(kept := original(*args)) or kept)
    call = make_call(CellSpec("lstm", 3, 5, layer_norm=True), 4, 3)
    with torch.no_grad():
        result = dispatch.run(call, "triton")
        assert_close(cases.values(call, result), cases.values(call, cases.run_unbatched(call)), **LAST_DIGITS)
    (kept,) = runs
    assert len(kept.cs) == 1
    assert not kept.saved.numel() + kept.normalized.numel() + kept.unprojected.numel()


def test_zoneout_of_a_cell_with_many_states() -> None:
    """All states may share one probability, or have separate ones."""
    call = make_call(CellSpec("lstm_full_gates", 3, 5), 4, 3, [2, 4, 3])
    for probabilities in ((0.3, 0.1, 0.3, 0.3, 0.3), (0.3, 0.1, 0.2, 0.0, 0.5)):
        passes = tuple(p._replace(zoneout=probabilities) for p in call.passes)
        variant = call._replace(passes=passes)
        assert_close(*kernels_and_expected(variant, lambda call: dispatch.run(call, "reference")), **LAST_DIGITS)


def test_gates_come_in_the_order_of_the_cell() -> None:
    for spec in (CellSpec("lstm", 3, 5, coupled=True), CellSpec("lstm_no_forget_gate", 3, 5), CellSpec("gru", 3, 5)):
        call = make_call(spec, trace=True)
        (triton_result,), (reference_result,) = (dispatch.run(call, name).passes() for name in ("triton", "reference"))
        assert list(triton_result.trace or {}) == list(reference_result.trace or {})


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (LSTM, {"bidirectional": True, "zoneout": 0.1, "peephole": True}),
        (LSTM, {"proj_size": 2, "recompute": True}),
        (GRU, {"layer_norm": True}),
    ],
)
def test_compiled_training_step(layer: type[LSTM], options: dict[str, Any]) -> None:
    """Forward and backward compile to one node per pass and give the eager numbers."""
    torch.compiler.reset()
    torch.manual_seed(0)
    module = layer(3, 5, backend="triton", device=DEVICE, **options).eval()  # a graph draws other noise
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for n_steps, lengths in ((2, None), (3, torch.tensor([3, 1]))):
        x = torch.randn(n_steps, 2, 3, device=DEVICE)
        both_results = (training_step(module, step, x, lengths) for step in (compiled, module))
        assert_close(*both_results, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "recompute"),
    [(CellSpec("lstm", 3, 5, peephole=True), False), (CellSpec("gru", 3, 5, layer_norm=True), True)],
)
def test_the_op_passes_opcheck(spec: CellSpec, recompute: bool) -> None:
    """Schema, fake shapes and traced derivatives are valid."""
    shapes, seeds = spec.parameter_shapes(), itertools.count()

    def numbers(*shape: int) -> torch.Tensor:
        return cases.numbers(1, *shape, seed=next(seeds)).detach().to(DEVICE).requires_grad_()

    weights = [numbers(*shapes[name]) for name in autograd.WEIGHTS if name in shapes]
    state = [numbers(2, size) for size in spec.state_sizes]
    gx = numbers(4, 2, shapes["weight_ih"][0])
    key = [*spec_encoding.encode_spec(spec), 16, int(recompute), 0]
    other_inputs = [torch.tensor([4, 2], device=DEVICE), None, None, None]
    op = torch.ops.lstmkit.gpu_scan.default
    results = torch.library.opcheck(op, (gx, weights, state, other_inputs, [0.1, 0.2], key, "triton", True))
    assert set(results.values()) == {"SUCCESS"}


@pytest.mark.parametrize("layer", [LSTM, GRU])
def test_layers_run_on_the_kernels(layer: type[LSTM]) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"bidirectional": True, "dtype": torch.float64, "device": DEVICE}
    triton_layer, reference_layer = (layer(3, 5, 2, backend=backend, **options) for backend in ("triton", "reference"))
    reference_layer.load_state_dict(triton_layer.state_dict())
    x = torch.randn(4, 3, 3, dtype=torch.float64, device=DEVICE)
    assert_close(triton_layer(x), reference_layer(x), **LAST_DIGITS)


# ---- refusals and limits ---------------------------------------------------------------------------------------------


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    call = make_call(CellSpec("lstm", 3, 5))
    for changed, reason in (
        (call._replace(x=call.x[:0]), "nothing to compute"),
        (call._replace(x=call.x.detach().to(torch.complex64)), "have no torch.complex64"),
        (call._replace(x=call.x.detach().float()), "differ in dtype or device"),
    ):
        unsupported_reason = backend.unsupported_reason(changed)
        assert unsupported_reason is not None
        assert re.search(reason, unsupported_reason)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    if not call.x.is_cuda:
        assert backend.unsupported_reason(call) == "the Triton kernels are for GPUs, the input is on cpu"


def test_too_many_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(launch, "multiprocessor_count", lambda device: 132)
    for spec, dtype, reason in (
        (CellSpec("lstm", 3, 1024), torch.bfloat16, None),
        (CellSpec("lstm", 3, 4096), torch.bfloat16, "too many units (4096): their weights do not fit on the chip"),
        (
            CellSpec("rnn_tanh", 3, 2500),
            torch.bfloat16,
            "too many units",
        ),  # blocks of 16 units would fit, but 157 of them
        (CellSpec("lstm", 3, 512, layer_norm=True), torch.float32, None),
        (CellSpec("lstm_full_gates", 3, 256), torch.bfloat16, None),
        (open_gate.full_lstm_spec(CellSpec("lstm_no_input_gate", 3, 1664)), torch.bfloat16, "too many units"),
    ):
        unsupported_reason = launch.size_limit_reason(spec, dtype, torch.device("cuda"))
        assert (unsupported_reason is None) if reason is None else (reason in str(unsupported_reason)), spec


def test_blocks_that_wait_for_each_other_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ten multiprocessors, three tiles of units and seven of sequences launch as three, three and one."""
    monkeypatch.setattr(launch, "multiprocessor_count", lambda device: 10)
    launches = []

    class Kernel:
        def __getitem__(self, grid: tuple[int, int]) -> Callable[..., None]:
            return lambda **named: launches.append((grid, named["block"], named["launch_cooperative_grid"]))

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    plan = launch.Plan(CellSpec("lstm", 3, 37), (False,), 16)
    monkeypatch.setattr(kernels, "forward", Kernel())
    launch.launch("forward", plan, {"hs": torch.zeros(1)}, {"ACC": "float32", "OPERAND_TYPE": "float32"}, 5, 100)
    assert launches == [((3, 3), 0, True), ((3, 3), 3, True), ((1, 3), 6, True)]


@pytest.mark.skipif(not INTERPRETED, reason="on a GPU blocks wait for each other as they do")
@pytest.mark.usefixtures("small_blocks")
def test_a_missing_barrier_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above would fail if a barrier were missing."""
    call = make_call(CellSpec("lstm", 3, 5), 6, 3)
    monkeypatch.setattr(kernels, "grid_barrier", lambda counter, goal: None)
    with torch.no_grad():
        values = cases.values(call, dispatch.run(call, "triton"))
    assert not all(value.isfinite().all() for value in values.values())


@pytest.mark.parametrize(
    ("units", "dtype", "blocks"),
    [(64, torch.bfloat16, 1), (128, torch.bfloat16, 1), (128, torch.float32, 8), (1024, torch.float32, 128)],
)
def test_units_are_divided_into_blocks(
    units: int, dtype: torch.dtype, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of a block fit on one multiprocessor: 160 KiB."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    plan = launch.Plan.of(CellSpec("lstm", 3, units), (False,), dtype)
    assert plan.tiles == blocks
    assert plan.single_block == (blocks == 1)
    assert [kind.value for kind in (LSTM_KIND, GRU_KIND)] == [launch.KINDS[kind] for kind in ("lstm", "gru")]


def test_the_kernels_compile_for_a_gpu() -> None:
    """The kernels compile for Hopper, also without a GPU, within its shared memory and with little spilling."""
    script = Path(__file__).with_name("compiled_triton.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    process = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    rows = [json.loads(line) for line in process.stdout.splitlines()]
    assert len(rows) == 12
    for row in rows:
        assert row["shared"] <= 227 * 1024, row
        assert row["spilled"] <= 256, row  # bytes of a thread
        assert row["tensor cores"], row
        assert "768" not in row["case"] or row["products"] == 48, row  # no two warps do the same work
