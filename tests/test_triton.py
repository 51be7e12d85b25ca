"""The Triton kernels, in Triton's interpreter, or on a GPU where there is one: the contract of a back end once more.

``test_ops.py`` has the whole contract; the interpreter is too slow for that. Here every cell and option goes through
one call that has all of it: sequences of all lengths, both directions, noise, all gradients.
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
#: Every cell, by turns forward, reversed and both at once: the interpreter takes its time.
TURNS = list(zip(SPECS, itertools.cycle(cases.DIRECTIONS)))
TURNS_WITH_BIAS = list(zip((spec for spec in SPECS if spec.bias), itertools.cycle(cases.DIRECTIONS)))
#: The interpreter is slow. On a GPU every case runs.
SAMPLED = pytest.mark.sampled(3 if INTERPRETED else 1)

#: Where kernels run.
DEVICE = "cpu" if INTERPRETED else "cuda"


def make_call(spec: CellSpec, *shape: Any, **more: Any) -> Call:
    """As in ``cases.py``, there."""
    return cases.cast(cases.make_call(spec, *shape, **more), torch.float64, DEVICE)


def turn_id(value: Any) -> str:
    return cases.spec_id(value) if isinstance(value, CellSpec) else value


@pytest.fixture(autouse=True)
def _let_the_dispatch_know(monkeypatch: pytest.MonkeyPatch) -> None:
    if INTERPRETED:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        blocks_at_once.patch_interpreter_once(monkeypatch)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few units and sequences a block, though all would fit; in turns, and with NaN in memory before it is written."""
    units, plain = (2 if INTERPRETED else 16), launch.Plan.of
    monkeypatch.setattr(launch.Plan, "of", lambda *args: replace(plain(*args), units=units))
    if INTERPRETED:
        monkeypatch.setattr(launch, "_ROWS", 2)
        blocks_at_once.install(monkeypatch)
        monkeypatch.setattr(torch.Tensor, "new_empty", _poisoned(torch.Tensor.new_empty))
        monkeypatch.setattr(torch, "empty", _poisoned(torch.empty))


def _poisoned(empty: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def made(*args: Any, **named: Any) -> torch.Tensor:
        room = empty(*args, **named)
        return room.fill_(float("nan")) if room.is_floating_point() else room

    return made


def both(call: Call, by: Callable[[Call], Any] = cases.run_unbatched) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values and gradients of the kernels, and what they are to be."""
    got = cases.with_gradients(call, dispatch.run(call, "triton"))
    return got, cases.with_gradients(call, by(call))


@pytest.mark.parametrize(("spec", "directions"), TURNS, ids=turn_id)
def test_every_cell(spec: CellSpec, directions: str) -> None:
    """With its gates, and gradients by them."""
    call = noisy(make_call(spec, 2, 3, [1, 0, 2], cases.DIRECTIONS[directions], trace=True))
    assert_close(*both(call), **LAST_DIGITS)


@SAMPLED
@pytest.mark.parametrize(("spec", "directions"), TURNS_WITH_BIAS, ids=turn_id)
@pytest.mark.usefixtures("small_blocks")
def test_every_cell_over_several_blocks(spec: CellSpec, directions: str) -> None:
    """Three of units."""
    call = noisy(make_call(spec, 2, 2, [1, 2], cases.DIRECTIONS[directions], trace=True))
    assert_close(*both(call), **LAST_DIGITS)


@pytest.mark.parametrize("spec", [CellSpec("lstm", 3, 5, layer_norm=True), CellSpec("gru", 3, 5)], ids=cases.spec_id)
@pytest.mark.usefixtures("small_blocks")
def test_several_blocks_both_ways(spec: CellSpec) -> None:
    """Three of sequences, too; without noise and without gates."""
    assert_close(*both(make_call(spec, 3, 5, [3, 0, 1, 2, 3], (False, True))), **LAST_DIGITS)


@pytest.mark.parametrize("spec", [CellSpec("lstm", 3, 5), CellSpec("gru", 3, 5), CellSpec("rnn_relu", 3, 5)])
@pytest.mark.parametrize("shape", cases.SHAPES)
def test_every_shape(spec: CellSpec, shape: str) -> None:
    n_steps, batch, lengths = cases.SHAPES[shape]
    assert_close(*both(make_call(spec, n_steps, batch, lengths)), **LAST_DIGITS)


@pytest.mark.parametrize("spec", [CellSpec("lstm", 3, 5, proj_size=2, layer_norm=True), CellSpec("gru", 3, 5)])
@pytest.mark.parametrize("directions", [(False,), (True,)])
def test_recompute(spec: CellSpec, directions: tuple[bool, ...]) -> None:
    """Steps done again for the gradient: seven in stretches of two, the last of one."""
    call = noisy(make_call(spec, 7, 3, [5, 7, 2], directions))
    again = call._replace(recompute=True)
    assert_close(both(again)[0], both(call)[0], **LAST_DIGITS)


@pytest.mark.parametrize("directions", [(False,), (True,)])
@pytest.mark.usefixtures("small_blocks")
def test_recompute_over_several_blocks(directions: tuple[bool, ...]) -> None:
    """What a stretch gives to the one before it goes through the product of its first step, which no block has made."""
    call = noisy(make_call(CellSpec("gru", 3, 5), 5, 2, [5, 3], directions))
    again = call._replace(recompute=True)
    assert_close(both(again)[0], both(call)[0], **LAST_DIGITS)


def test_noise_that_only_one_direction_has() -> None:
    first, second = noisy(make_call(CellSpec("lstm", 3, 5), 3, 2, [3, 1], (False, True))).passes
    for other in (second._replace(recurrent_mask=None), second._replace(zoneout=(0.3, 0.1))):
        call = make_call(CellSpec("lstm", 3, 5), 3, 2, [3, 1])._replace(passes=(first, other))
        assert_close(*both(call, lambda call: dispatch.run(call, "reference")), **LAST_DIGITS)


def test_noise_and_weights_of_any_layout() -> None:
    """To the last digits: torch's own products add up in an order that depends on the layout and on the CPU."""
    call = noisy(make_call(CellSpec("lstm", 3, 5), 4, 3, [2, 4, 3]))

    def turned(t: torch.Tensor) -> torch.Tensor:
        """The same numbers, the last two dimensions the other way round in memory."""
        return t.mT.contiguous().mT

    passes = tuple(
        p._replace(
            params={name: turned(w) if w.dim() == 2 else w for name, w in p.params.items()},
            recurrent_mask=None if p.recurrent_mask is None else turned(p.recurrent_mask),
            zoneout=tuple(turned(z) for z in p.zoneout or () if isinstance(z, torch.Tensor)),
        )
        for p in call.passes
    )
    other = call._replace(x=turned(call.x), passes=passes, lengths=torch.tensor([2, 0, 4, 0, 3])[::2])
    with torch.no_grad():
        found = (cases.values(one, dispatch.run(one, "triton")) for one in (other, call))
        assert_close(*found, **LAST_DIGITS)


def test_zoneout_by_a_share() -> None:
    call = make_call(CellSpec("lstm", 3, 5), 4, 3, [2, 4, 3])
    passes = tuple(p._replace(zoneout=(0.3, 0.1)) for p in call.passes)
    assert_close(*both(call._replace(passes=passes), lambda call: dispatch.run(call, "reference")), **LAST_DIGITS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("spec", [CellSpec("lstm", 3, 20), CellSpec("gru", 3, 20)], ids=cases.spec_id)
def test_fewer_digits(spec: CellSpec, dtype: torch.dtype) -> None:
    """Against float64 from the same numbers: float32 to its last digits; half precision rounds what it keeps."""
    call = make_call(spec, 5, 3, [2, 5, 4])
    call = cases.cast(call, dtype, DEVICE)
    got, _ = both(call)
    wide = cases.cast(call, torch.float64, DEVICE)
    wanted = cases.with_gradients(wide, dispatch.run(wide, "reference"))
    tolerance = 1e-5 if dtype is torch.float32 else 0.05
    for name, value in got.items():
        assert_close(value.double(), wanted[name], rtol=tolerance, atol=tolerance * float(wanted[name].abs().max()))


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


def test_without_gradients_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    plain = autograd.run
    monkeypatch.setattr(autograd, "run", lambda *args: seen.append(kept := plain(*args)) or kept)
    call = make_call(CellSpec("lstm", 3, 5, layer_norm=True), 4, 3)
    with torch.no_grad():
        result = dispatch.run(call, "triton")
        assert_close(cases.values(call, result), cases.values(call, cases.run_unbatched(call)), **LAST_DIGITS)
    (kept,) = seen
    assert len(kept.cs) == 1
    assert not kept.saved.numel() + kept.normalized.numel() + kept.unprojected.numel()


def test_noise_by_a_share_of_a_cell_with_many_states() -> None:
    """One share for all, and one of their own for some."""
    call = make_call(CellSpec("lstm_full_gates", 3, 5), 4, 3, [2, 4, 3])
    for shares in ((0.3, 0.1, 0.3, 0.3, 0.3), (0.3, 0.1, 0.2, 0.0, 0.5)):
        passes = tuple(p._replace(zoneout=shares) for p in call.passes)
        one = call._replace(passes=passes)
        assert_close(*both(one, lambda call: dispatch.run(call, "reference")), **LAST_DIGITS)


def test_gates_come_in_the_order_of_the_cell() -> None:
    for spec in (CellSpec("lstm", 3, 5, coupled=True), CellSpec("lstm_no_forget_gate", 3, 5), CellSpec("gru", 3, 5)):
        call = make_call(spec, trace=True)
        (ours,), (theirs,) = (dispatch.run(call, name).passes() for name in ("triton", "reference"))
        assert list(ours.trace or {}) == list(theirs.trace or {})


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (LSTM, {"bidirectional": True, "zoneout": 0.1, "peephole": True}),
        (LSTM, {"proj_size": 2, "recompute": True}),
        (GRU, {"layer_norm": True}),
    ],
)
def test_compiled_training_step(layer: type[LSTM], options: dict[str, Any]) -> None:
    """The whole graph, forward and backward, is one node a pass, and gives the eager numbers."""
    torch.compiler.reset()
    torch.manual_seed(0)
    module = layer(3, 5, backend="triton", device=DEVICE, **options).eval()  # noise is drawn otherwise in a graph
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for n_steps, lengths in ((2, None), (3, torch.tensor([3, 1]))):
        x = torch.randn(n_steps, 2, 3, device=DEVICE)
        found = (training_step(module, step, x, lengths) for step in (compiled, module))
        assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "recompute"),
    [(CellSpec("lstm", 3, 5, peephole=True), False), (CellSpec("gru", 3, 5, layer_norm=True), True)],
)
def test_the_op_is_what_torch_asks_of_one(spec: CellSpec, recompute: bool) -> None:
    """Schema, shapes without numbers, derivatives under tracing."""
    shapes, seeds = spec.parameter_shapes(), itertools.count()

    def numbers(*shape: int) -> torch.Tensor:
        return cases.numbers(1, *shape, seed=next(seeds)).detach().to(DEVICE).requires_grad_()

    weights = [numbers(*shapes[name]) for name in autograd.WEIGHTS if name in shapes]
    state = [numbers(2, size) for size in spec.state_sizes]
    gx = numbers(4, 2, shapes["weight_ih"][0])
    key = [*spec_encoding.encode_spec(spec), 16, int(recompute), 0]
    around = [torch.tensor([4, 2], device=DEVICE), None, None, None]
    op = torch.ops.lstmkit.gpu_scan.default
    found = torch.library.opcheck(op, (gx, weights, state, around, [0.1, 0.2], key, "triton", True))
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("layer", [LSTM, GRU])
def test_layers_run_on_it(layer: type[LSTM]) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"bidirectional": True, "dtype": torch.float64, "device": DEVICE}
    ours, theirs = (layer(3, 5, 2, backend=backend, **options) for backend in ("triton", "reference"))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 3, 3, dtype=torch.float64, device=DEVICE)
    assert_close(ours(x), theirs(x), **LAST_DIGITS)


# ---- what it cannot do -----------------------------------------------------------------------------------------------


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
        (CellSpec("rnn_tanh", 3, 2500), torch.bfloat16, "too many units"),  # of 16 they would, but 157 blocks
        (CellSpec("lstm", 3, 512, layer_norm=True), torch.float32, None),
        (CellSpec("lstm_full_gates", 3, 256), torch.bfloat16, None),
        (open_gate.full_lstm_spec(CellSpec("lstm_no_input_gate", 3, 1664)), torch.bfloat16, "too many units"),
    ):
        unsupported_reason = launch.size_limit_reason(spec, dtype, torch.device("cuda"))
        assert (unsupported_reason is None) if reason is None else (reason in str(unsupported_reason)), spec


def test_blocks_that_wait_for_each_other_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tiles of units, seven of sequences, and a chip of ten blocks: three, three, and one of them."""
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
def test_a_block_that_does_not_wait_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above would fail, were one of the meetings missing."""
    call = make_call(CellSpec("lstm", 3, 5), 6, 3)
    monkeypatch.setattr(kernels, "grid_barrier", lambda counter, goal: None)
    with torch.no_grad():
        values = cases.values(call, dispatch.run(call, "triton"))
    assert not all(value.isfinite().all() for value in values.values())


@pytest.mark.parametrize(
    ("units", "dtype", "blocks"),
    [(64, torch.bfloat16, 1), (128, torch.bfloat16, 1), (128, torch.float32, 8), (1024, torch.float32, 128)],
)
def test_how_units_are_laid_out(units: int, dtype: torch.dtype, blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of a block go on one chip: 160 KiB of them."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    plan = launch.Plan.of(CellSpec("lstm", 3, units), (False,), dtype)
    assert plan.tiles == blocks
    assert plan.single_block == (blocks == 1)
    assert [kind.value for kind in (LSTM_KIND, GRU_KIND)] == [launch.KINDS[kind] for kind in ("lstm", "gru")]


def test_they_compile_for_a_gpu() -> None:
    """For Hopper, where there is none too: in what a chip has, and hardly anything spilled."""
    script = Path(__file__).with_name("compiled_triton.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    found = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(rows) == 12
    for row in rows:
        assert row["shared"] <= 227 * 1024, row
        assert row["spilled"] <= 256, row  # bytes of a thread
        assert row["tensor cores"], row
        assert "768" not in row["case"] or row["products"] == 48, row  # no two warps do the same work
