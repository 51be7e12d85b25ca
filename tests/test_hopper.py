"""The cluster kernels without a GPU: emulated on the processor against the reference, and compiled for a Hopper GPU.

The emulation (``emulated_hopper.h``) shows that the kernels are correct in any order of threads. The compilers show
that the kernels fit into registers and shared memory. Neither shows how fast they are.
"""

from __future__ import annotations

import ctypes
import functools
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import cases
from lstmkit.cells import CellSpec
from lstmkit.ops import dispatch, reference
from lstmkit.ops.call import Pass
from lstmkit.ops.hopper import backend, launch
from lstmkit.ops.hopper.launch import ClusterPlan

HERE = Path(__file__).parent
FORWARD, BACKWARD, SHUFFLED = range(3)  # orders of the emulated threads
#: Tolerances of half precision, which rounds at each step, against the reference in double precision: for states below
#: 2 a little more than half a last digit; for gradients up to 6, after four steps, about two last digits.
STATES = {torch.float16: {"rtol": 0, "atol": 6e-4}, torch.bfloat16: {"rtol": 0, "atol": 5e-3}}
GRADIENTS = {torch.float16: {"rtol": 1e-3, "atol": 1.5e-3}, torch.bfloat16: {"rtol": 8e-3, "atol": 1.2e-2}}

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="the emulation needs g++")
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")


def small_plan(kind: str, hidden: int, blocks: int, **overrides: Any) -> ClusterPlan:
    """A small plan for the forward pass with two warps and with weights in all kinds of memory."""
    options = {"dtype": torch.float16, "sequences": 8, "warps": 2} | overrides
    return spread_weights(ClusterPlan(kind, hidden, backward=False, blocks=blocks, **options))


def spread_weights(plan: ClusterPlan) -> ClusterPlan:
    """The plan with weights in registers, in shared memory and in global memory."""
    fragments = plan.weight_fragments
    fetched = 2 * (fragments // 4)
    in_shared = fragments - fragments // 4 - fetched
    return replace(plan, in_registers=fragments // 4, in_shared=in_shared, prefetch_depth=2)


#: Plans and options, by what they test.
CASES = {
    "one block": (small_plan("lstm", 24, 1, split=2), {}),
    "two blocks": (small_plan("lstm", 48, 2, split=2), {"reverse": True, "ragged": True}),
    "no block has all units": (small_plan("gru", 56, 4, split=2), {"bias": False}),
    "barrier instead of counters": (small_plan("gru", 32, 2, counted=False, dtype=torch.bfloat16), {"ragged": True}),
    "two columns, several tiles per warp": (small_plan("lstm", 64, 2, sequences=16), {"bias": False}),
    "reversed": (small_plan("gru", 64, 2, sequences=16, split=2), {"reverse": True, "ragged": True}),
    "four blocks": (small_plan("lstm", 64, 4, dtype=torch.bfloat16), {}),
    "sixteen blocks": (small_plan("gru", 128, 16, split=2), {}),
}


# ---- the emulation ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulated")


@functools.cache
def library(folder: Path, constants: tuple[tuple[str, int], ...]) -> ctypes.CDLL:
    target = folder / f"{abs(hash(constants))}.so"
    command = ["g++", "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror"]
    command += ["-shared", "-fPIC", *(f"-D{name}={value}" for name, value in constants)]
    subprocess.run([*command, HERE / "emulated_kernels.cpp", "-o", target], check=True)
    return ctypes.CDLL(str(target))


def emulate(
    folder: Path, plan: ClusterPlan, order: int, buffers: list[Tensor | None], steps: int, batch: int, **options: bool
) -> None:
    kernels = library(folder, tuple(plan.constants(**options).items()))
    clusters = -(-batch // plan.sequences)
    pointers = [ctypes.c_void_p(None if b is None else b.data_ptr()) for b in buffers]
    assert kernels.emulate(clusters, order, *pointers, ctypes.c_int(steps), ctypes.c_int(batch)) == 0


class Problem:
    """A pass with random numbers, and its result and gradients by the reference."""

    def __init__(self, plan: ClusterPlan, steps: int, batch: int, *, bias: bool, reverse: bool, ragged: bool) -> None:
        draw = torch.Generator().manual_seed(0)
        spec = CellSpec(plan.kind, 1, plan.hidden, bias=bias)
        gates, hidden = plan.gates, plan.hidden

        def numbers(*shape: int, scale: float = 1.0, dtype: torch.dtype = plan.dtype) -> Tensor:
            return (torch.randn(shape, generator=draw) * scale).to(dtype)

        self.plan, self.reverse = plan, reverse
        self.gx = numbers(steps, batch, gates, hidden)
        self.w_hh = numbers(gates, hidden, hidden, scale=hidden**-0.5)
        self.b_hh = numbers(gates, hidden) if bias else None
        self.lengths = torch.randint(steps + 1, (batch,), generator=draw) if ragged else None
        if self.lengths is not None:
            self.lengths[0], self.lengths[-1] = 0, steps
        state = numbers(batch, hidden, scale=0.4), numbers(batch, hidden, dtype=torch.float32)
        self.state = state[: len(spec.state_sizes)]
        self.d_output = numbers(steps, batch, hidden)
        self.d_state = [numbers(batch, hidden, dtype=torch.float32) for _ in self.state]

        leaves = [x.double().requires_grad_() for x in (self.gx, *self.state)]
        params = {"weight_hh": self.w_hh.double().flatten(0, 1)}
        if self.b_hh is not None:
            params["bias_hh"] = self.b_hh.double().flatten()
        single_pass = Pass(params, tuple(leaves[1:]), reverse)
        self.expected = reference.scan(spec, single_pass, leaves[0].flatten(2), self.lengths, trace=True)
        results = [self.expected.output, *self.expected.state]
        gradients = [d.double() for d in (self.d_output, *self.d_state)]
        self.gradients = torch.autograd.grad(results, leaves, gradients)

    @property
    def expected_states(self) -> dict[str, Tensor]:
        """Expected states after each step, zero past the end of a sequence."""
        assert self.expected.trace is not None
        return {name: self.expected.trace[name].detach() for name in ("hidden", "cell")[: len(self.state)]}

    def states_in(self, slots: Tensor) -> Tensor:
        """States after each step in a buffer of ``T + 1`` slots, zero past the end of a sequence."""
        steps = slots[:-1] if self.reverse else slots[1:]
        return (steps if self.lengths is None else reference.zero_padding(steps, self.lengths)).double()

    @property
    def options(self) -> dict[str, bool]:
        return {"reverse": self.reverse, "ragged": self.lengths is not None}


def allocate(p: Problem, saves: bool) -> dict[str, Tensor]:
    """Buffers that the forward pass writes to, with the initial states filled in."""
    steps, batch, _, hidden = p.gx.shape
    outputs = {
        "hs": torch.full((steps + 1, batch, hidden), torch.nan, dtype=p.plan.dtype),
        "cs": torch.full((steps + 1 if saves else 1, batch, hidden), torch.nan),
    }
    if saves:
        outputs["saved"] = torch.full((steps, batch, 4, hidden), torch.nan, dtype=p.plan.dtype)
    for slots, state in zip(outputs.values(), p.state, strict=False):
        slots[-1 if p.reverse else 0] = state
    return outputs


def run_forward(folder: Path, p: Problem, order: int = FORWARD, saves: bool = True) -> dict[str, Tensor]:
    outputs = allocate(p, saves)
    weights = launch.pack_weights(p.plan, p.w_hh)
    buffers = [p.gx, weights, p.b_hh, p.lengths, outputs["hs"], outputs["cs"], outputs.get("saved")]
    emulate(folder, p.plan, order, buffers, *p.gx.shape[:2], saves=saves, bias=p.b_hh is not None, **p.options)
    return outputs


def run_backward(folder: Path, p: Problem, outputs: dict[str, Tensor], order: int = FORWARD) -> dict[str, Tensor]:
    plan = spread_weights(replace(p.plan, backward=True, split=1))
    dh, dc = p.d_state[0].clone(), p.d_state[-1].clone()
    dgx, dgh = torch.full_like(p.gx, torch.nan), torch.full_like(p.gx, torch.nan)
    weights = launch.pack_weights(plan, p.w_hh)
    buffers = [p.d_output, weights, p.lengths, outputs["hs"], outputs["cs"], outputs["saved"], dh, dc, dgx, dgh]
    emulate(folder, plan, order, buffers, *p.gx.shape[:2], **p.options)
    return {"dgx": dgx, "dgh": dgh, "dh": dh, "dc": dc}


def problem(case: str, steps: int = 4) -> Problem:
    """A problem whose batch does not fill its clusters."""
    plan, options = CASES[case]
    return Problem(plan, steps, plan.sequences + 3, **{"bias": True, "reverse": False, "ragged": False} | options)


def assert_right(p: Problem, outputs: dict[str, Tensor], back: dict[str, Tensor]) -> None:
    dtype = p.plan.dtype
    states = {"hidden": outputs["hs"], "cell": outputs["cs"]}
    assert_close({name: p.states_in(states[name]) for name in p.expected_states}, p.expected_states, **STATES[dtype])
    last = [states[name][0 if p.reverse else -1].double() for name in p.expected_states]
    assert_close(last, [state.detach() for state in p.expected.state], **STATES[dtype])

    names = ("dgx", "dh", "dc")[: len(p.gradients)]
    assert_close([back[name].double() for name in names], list(p.gradients), **GRADIENTS[dtype])
    if p.plan.kind == "gru":
        expected_dgh = back["dgx"].double()
        expected_dgh[:, :, 2] *= outputs["saved"][:, :, 0]  # the candidate's, after the reset gate
        assert_close(back["dgh"].double(), expected_dgh, **GRADIENTS[dtype])


@needs_compiler
@pytest.mark.sampled(2)  # emulated clusters are slow
@pytest.mark.parametrize("case", CASES)
def test_emulated_kernels_match_the_reference(case: str, folder: Path) -> None:
    """Results match the reference, with the same bits in any order of threads."""
    p = problem(case)
    outputs = run_forward(folder, p)
    back = run_backward(folder, p, outputs)
    assert_right(p, outputs, back)
    for order in (SHUFFLED, BACKWARD) if case == "two blocks" else (SHUFFLED,):
        assert_close(run_forward(folder, p, order), outputs, rtol=0, atol=0, equal_nan=True)
        assert_close(run_backward(folder, p, outputs, order), back, rtol=0, atol=0, equal_nan=True)


@needs_compiler
@pytest.mark.parametrize("case", ["one block", "reversed"])
def test_one_step(case: str, folder: Path) -> None:
    p = problem(case, steps=1)
    outputs = run_forward(folder, p)
    assert_right(p, outputs, run_backward(folder, p, outputs))


@needs_compiler
def test_forward_without_saving(folder: Path) -> None:
    """Without saving for backward the states are the same, and only the last cell state is kept."""
    p = problem("two blocks")
    outputs, inference = run_forward(folder, p), run_forward(folder, p, saves=False)
    assert_close(inference["hs"], outputs["hs"], rtol=0, atol=0)
    assert_close(inference["cs"][0], outputs["cs"][0], rtol=0, atol=0)


@needs_compiler
@pytest.mark.parametrize(
    ("spec", "directions", "recompute"),
    [(CellSpec("lstm", 3, 16), (False, True), False), (CellSpec("gru", 3, 16, bias=False), (True,), True)],
)
def test_back_end_matches_the_reference(
    spec: CellSpec, directions: tuple[bool, ...], recompute: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The back end computes input products and weight gradients around the kernels correctly."""

    def emulated_launch(plan: ClusterPlan, named: dict[str, int], buffers: list[Tensor | None], *sizes: int) -> None:
        options = {name: bool(named[name.upper()]) for name in ("reverse", "ragged", "saves", "bias")}
        emulate(folder, plan, FORWARD, buffers, *sizes, **options)

    monkeypatch.setattr(launch, "_launch", emulated_launch)
    monkeypatch.setattr(launch, "device_limit_reason", lambda device: None)
    monkeypatch.setattr(backend, "multiprocessor_count", lambda device: 132)
    call = cases.make_call(spec, 5, 3, [3, 0, 5], directions)
    call = cases.cast(call._replace(recompute=recompute), torch.float16)
    exact_call = cases.cast(call, torch.float64)
    actual = cases.with_gradients(call, dispatch.run(call, "cluster"))
    expected = cases.with_gradients(exact_call, dispatch.run(exact_call, "reference"))
    for name, value in actual.items():
        assert_close(value.double(), expected[name], rtol=0.01, atol=0.01 * float(expected[name].abs().max()))


def test_unsupported_calls_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    call = cases.cast(cases.make_call(CellSpec("lstm", 3, 16)), torch.float16)
    back_end = dispatch.BACKENDS["cluster"]
    assert back_end.unsupported_reason(call) == "the cluster kernels are for Hopper GPUs"
    monkeypatch.setattr(launch, "device_limit_reason", lambda device: None)
    assert back_end.unsupported_reason(call) is None
    with_zoneout = call._replace(passes=tuple(p._replace(zoneout=(0.1, 0.1)) for p in call.passes))
    for other, reason in (
        (call._replace(trace=True), "do not return gates"),
        (with_zoneout, "no recurrent dropout and no zoneout"),
        (call._replace(x=call.x[:0]), "nothing to compute"),
        (cases.cast(call, torch.float32), "half precision"),
    ):
        assert reason in (back_end.unsupported_reason(other) or "")


# ---- a GPU -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    launch.device_limit_reason(torch.device("cuda" if torch.cuda.is_available() else "cpu")) is not None,
    reason="no Hopper GPU is available",
)
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize(("kind", "hidden"), [("lstm", 256), ("lstm", 768), ("lstm", 1024), ("gru", 1000)])
def test_kernels_on_a_gpu(kind: str, hidden: int, counted: bool) -> None:
    """Launched kernels match the reference, and give the same bits a second time."""
    steps, batch = 6, 20
    spec = CellSpec(kind, 1, hidden)
    plans = [ClusterPlan.of(spec, batch, torch.bfloat16, backward=backward) for backward in (False, True)]
    forward_plan, backward_plan = (replace(plan, counted=counted) for plan in plans)
    p = Problem(forward_plan, steps, batch, bias=True, reverse=True, ragged=True)

    def run() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        outputs = {name: x.cuda() for name, x in allocate(p, saves=True).items()}
        gx, w_hh, b_hh, lengths, d_output = (x.cuda() for x in (p.gx, p.w_hh, p.b_hh, p.lengths, p.d_output))
        launch.run_forward(forward_plan, gx, w_hh, b_hh, lengths, **outputs, reverse=True)
        gradients = {"dh": p.d_state[0].cuda(), "dc": p.d_state[-1].cuda()}
        gradients |= {"dgx": torch.zeros_like(gx), "dgh": torch.zeros_like(gx)}
        launch.run_backward(backward_plan, d_output, w_hh, lengths, **outputs, **gradients, reverse=True)
        return {name: x.cpu() for name, x in outputs.items()}, {name: x.cpu() for name, x in gradients.items()}

    first = run()
    assert_right(p, *first)
    assert_close(run(), first, rtol=0, atol=0, equal_nan=True)


# ---- layouts ---------------------------------------------------------------------------------------------------------


SIZES = [256, 512, 768, 1024]


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("hidden", SIZES)
@pytest.mark.parametrize("batch", [1, 16, 100, 1000])
@pytest.mark.parametrize("backward", [False, True])
def test_plans_fit_the_hardware(kind: str, hidden: int, batch: int, backward: bool) -> None:
    spec = CellSpec(kind, 8, hidden)
    assert launch.spec_limit_reason(spec, torch.bfloat16) is None
    plan = ClusterPlan.of(spec, batch, torch.bfloat16, backward=backward)
    assert plan.shared_bytes <= launch.SHARED_MEMORY_BYTES
    assert plan.blocks * plan.units >= hidden
    assert plan.fetched_fragments == 0 or hidden > 768 or batch > 64


@pytest.mark.parametrize(
    ("spec", "dtype", "reason"),
    [
        (CellSpec("lstm", 8, 64, peephole=True), torch.bfloat16, "plain"),
        (CellSpec("rnn_tanh", 8, 64), torch.bfloat16, "plain"),
        (CellSpec("lstm", 8, 64), torch.float32, "half precision"),
        (CellSpec("gru", 8, 60), torch.float16, "multiple of 8"),
        (CellSpec("lstm", 8, 2048), torch.bfloat16, "too many units"),
    ],
)
def test_unsupported_specs_are_refused(spec: CellSpec, dtype: torch.dtype, reason: str) -> None:
    assert reason in (launch.spec_limit_reason(spec, dtype) or "")


def test_cpu_is_refused() -> None:
    assert launch.device_limit_reason(torch.device("cpu")) == "the cluster kernels are for Hopper GPUs"


# ---- compilers -------------------------------------------------------------------------------------------------------


def constants(kind: str, hidden: int, backward: bool) -> dict[str, int]:
    plan = ClusterPlan.of(CellSpec(kind, 8, hidden), 16, torch.bfloat16, backward=backward)
    return plan.constants(reverse=True, ragged=True)


@needs_nvcc
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("kind", "hidden"), [("lstm", size) for size in SIZES] + [("gru", 768)])
def test_nvcc(kind: str, hidden: int, backward: bool, tmp_path: Path) -> None:
    """No register is spilled, and tensor cores are used."""
    named = constants(kind, hidden, backward)
    command = ["nvcc", "-std=c++17", f"-arch={launch.ARCHITECTURE}", "-cubin", "-keep", "-Xptxas", "-v"]
    command += [*(f"-D{name}={value}" for name, value in named.items()), launch.SOURCE]
    log = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    assert "warning" not in log
    assert re.findall(r"(\d+) bytes spill", log) == ["0", "0"]
    assert "mma.sync.aligned.m16n8k16" in (tmp_path / "kernels.ptx").read_text()


@pytest.mark.parametrize("backward", [False, True])
def test_nvrtc(backward: bool) -> None:
    pytest.importorskip("cuda.core")
    assert launch.compile_kernel(constants("gru", 768, backward)).code
