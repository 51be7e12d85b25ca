"""The C++ kernels: every instruction set, any size, any number of threads, and their integration into torch.

The contract tests of ``test_ops.py`` run them on tiny tensors. The sizes here are not multiples of vectors, tiles,
chunks and the parts of threads.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import multiprocessing
import operator
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, jvp, vmap
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import cases
from cases import noisy, training_step
from lstmkit import GRU, LSTM, RNN
from lstmkit.cells import CELLS, CellSpec
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.ops import dispatch
from lstmkit.ops.call import Call, Pass
from lstmkit.ops.cpu import backend as native
from lstmkit.ops.cpu import kernels as native_kernels
from lstmkit.ops.cpu import torch_library as native_library
from lstmkit.ops.dispatch import BackendUnavailable

kernels = pytest.importorskip("lstmkit._native", reason="lstmkit was installed without its extension")

#: Tolerances relative to the largest absolute value of a tensor, or to 0.1 if all values are smaller.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 3e-2}
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
BOTH_DIRECTIONS = (False, True)

#: Torch uses TorchScript internally, and warns about it.
TORCHSCRIPT = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


# ---- calls -----------------------------------------------------------------------------------------------------------


def build(
    spec: CellSpec,
    n_steps: int,
    batch: int,
    lengths: Sequence[int] | None = None,
    directions: Sequence[bool] = (False,),
    dtype: torch.dtype = torch.float64,
    recompute: bool = False,
) -> Call:
    """A random call with weights small enough that nothing grows or saturates over the steps."""
    call = cases.make_call(spec, n_steps, batch, lengths, directions)

    def small(w: Tensor) -> Tensor:
        return w / math.sqrt(w.shape[-1]) if w.dim() == 2 else w

    passes = tuple(p._replace(params={name: small(w) for name, w in p.params.items()}) for p in call.passes)
    return cast_call(call._replace(passes=passes, recompute=recompute), dtype)


def cast_call(call: Call, dtype: torch.dtype) -> Call:
    """The call with its numbers rounded to ``dtype``, as new leaves."""

    def leaf(t: Tensor) -> Tensor:
        return t.detach().to(dtype).requires_grad_()

    def mask(t: Any) -> Any:
        return t.to(dtype) if isinstance(t, Tensor) else t

    def convert(p: Pass) -> Pass:
        zoneout = None if p.zoneout is None else tuple(mask(z) for z in p.zoneout)
        params = {name: leaf(w) for name, w in p.params.items()}
        return Pass(params, tuple(leaf(s) for s in p.state), p.reverse, mask(p.recurrent_mask), zoneout)

    return call._replace(x=leaf(call.x), passes=tuple(convert(p) for p in call.passes))


def run_with_gradients(call: Call, backend: str = "native") -> dict[str, Tensor]:
    """Outputs, states and all gradients."""
    return cases.with_gradients(call, dispatch.run(call, backend))


def reference_results(call: Call) -> dict[str, Tensor]:
    """Outputs, states and gradients by the reference in float64."""
    return run_with_gradients(cast_call(call, torch.float64), "reference")


def assert_near(actual: dict[str, Tensor], expected: dict[str, Tensor], dtype: torch.dtype, times: float = 1) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape
        error, largest = ((actual[name].double() - value).abs().max(), value.abs().max()) if value.numel() else (0, 0)
        assert error <= times * TOLERANCES[dtype] * max(largest, 0.1), f"{name}: {error:.2g} of {largest:.2g}"


def op_arguments(call: Call, saves: bool = True) -> tuple[Any, ...]:
    """Arguments of ``torch.ops.lstmkit.recurrent`` for ``call``, whose zoneout must be masks, if any."""
    spec, passes = call.spec, call.passes
    weights = [w for p in passes for w in p.params.values()]
    states = [s for p in passes for s in p.state]
    noise = [t for p in passes for t in [p.recurrent_mask, *(p.zoneout or ()), None, None][:3]]
    key = native_library._key(spec, tuple(p.reverse for p in passes), call.recompute)
    return call.x, weights, states, noise, call.lengths, [0.0] * 2 * len(passes), key, saves


@contextlib.contextmanager
def num_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---- every instruction set -------------------------------------------------------------------------------------------


def lstm(**options: Any) -> CellSpec:
    return CellSpec("lstm", 5, 17, **options)


SPECS = [
    lstm(),
    lstm(bias=False),
    lstm(peephole=True),
    lstm(coupled=True),
    lstm(peephole=True, coupled=True),
    lstm(proj_size=6),
    lstm(layer_norm=True),
    lstm(proj_size=6, peephole=True, coupled=True, layer_norm=True),
    CellSpec("gru", 5, 17),
    CellSpec("gru", 5, 17, bias=False, layer_norm=True),
    CellSpec("rnn_tanh", 5, 17),
    CellSpec("rnn_relu", 5, 17),
    CellSpec("rnn_relu", 5, 17, layer_norm=True),
]
EACH_SPEC = pytest.mark.parametrize("spec", SPECS, ids=cases.spec_id)
ONE_OF_EACH = pytest.mark.parametrize("spec", [SPECS[i] for i in (0, 7, 8, 10)], ids=cases.spec_id)


@functools.cache
def example(spec: CellSpec, dtype: torch.dtype) -> tuple[Call, dict[str, Tensor]]:
    """A bidirectional call with ragged sequences and noise, and its exact results."""
    call = cast_call(noisy(build(spec, 6, 7, [4, 6, 0, 5, 1, 6, 3], BOTH_DIRECTIONS)), dtype)
    return call, reference_results(call)


@DTYPES
@EACH_SPEC
def test_every_instruction_set(isa: str, spec: CellSpec, dtype: torch.dtype) -> None:
    """Every instruction set computes the results of the reference, in every dtype."""
    assert kernels.name() == isa
    call, expected = example(spec, dtype)
    assert_near(run_with_gradients(call), expected, dtype)
    assert_near(run_with_gradients(call._replace(recompute=True)), expected, dtype)


def test_bfloat16_is_rounded_once(isa: str) -> None:
    """Outputs equal rounded float32 outputs: the state is not rounded at each step."""
    call = build(lstm(), 40, 3, dtype=torch.bfloat16)
    wide = dispatch.run(cast_call(call, torch.float32), "native").output
    actual = dispatch.run(call, "native").output
    assert actual.dtype == torch.bfloat16
    assert_close(actual.float(), wide, rtol=2**-8, atol=1e-6)


def test_unknown_instruction_set() -> None:
    """An instruction set without kernels is an error, and the current one stays."""
    before = kernels.name()
    with pytest.raises(ValueError, match="no kernels named sse9"):
        kernels.use("sse9")
    assert kernels.name() == before
    assert before == os.environ.get("LSTMKIT_ISA", kernels.names()[0])


# ---- any size, option and number of threads --------------------------------------------------------------------------


@st.composite
def calls(draw: st.DrawFn) -> Call:
    kind = draw(st.sampled_from(native_kernels.KINDS))
    hidden = draw(st.sampled_from([1, 7, 8, 9, 15, 16, 17, 31, 33]))
    options: dict[str, Any] = {name: draw(st.booleans()) for name in sorted(CELLS[kind].options - {"proj_size"})}
    options["layer_norm"] &= hidden > 1  # a single number minus its mean is only rounding error
    if kind == "lstm" and hidden > 1:
        options["proj_size"] = draw(st.sampled_from([0, 0, 1, hidden - 1]))
    spec = CellSpec(kind, draw(st.integers(1, 19)), hidden, draw(st.booleans()), **options)
    n_steps, batch = draw(st.integers(1, 17)), draw(st.integers(1, 13))
    lengths = draw(st.none() | st.lists(st.integers(0, n_steps), min_size=batch, max_size=batch))
    directions = draw(st.sampled_from(list(cases.DIRECTIONS.values())))
    call = build(spec, n_steps, batch, lengths, directions, recompute=draw(st.booleans()))
    noise = draw(st.sampled_from(["none", "masks", "probabilities"]))
    if noise == "masks":
        call = noisy(call)
    elif noise == "probabilities":
        zoneout = tuple(draw(st.sampled_from([0.0, 0.25, 0.7])) for _ in spec.state_sizes)
        call = call._replace(passes=tuple(p._replace(zoneout=zoneout) for p in call.passes))
    return cast_call(call, draw(st.sampled_from(list(TOLERANCES))))


@given(calls(), st.integers(1, 3))
@settings(deadline=None, max_examples=150)
def test_random_calls_match_the_reference(call: Call, count: int) -> None:
    """Outputs, states and gradients match the reference for any sizes, options, dtype and number of threads."""
    with num_threads(count):
        actual = run_with_gradients(call)
    amplified = call.spec.layer_norm and call.x.dtype != torch.bfloat16  # division by deviations down to 0.003
    assert_near(actual, reference_results(call), call.x.dtype, times=30 if amplified else 3)


@pytest.mark.parametrize("recompute", [False, True])
@EACH_SPEC
def test_several_chunks(spec: CellSpec, recompute: bool) -> None:
    """Sequences longer than a chunk of a few hundred rows match the reference."""
    lengths = [90, 3, 61, 0, 90, 17, 88, 40, 5, 90, 71, 32, 64]
    call = noisy(build(spec, 90, 13, lengths, BOTH_DIRECTIONS, recompute=recompute))
    call = cast_call(call, torch.float64)
    assert_near(run_with_gradients(call), reference_results(call), torch.float64, times=10)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 5, 15, 16, 17])
def test_recompute_around_square_numbers(n_steps: int) -> None:
    """Recomputation keeps a state every √T steps; the last segment may be shorter."""
    for spec in (lstm(peephole=True), CellSpec("gru", 5, 17)):
        call = build(spec, n_steps, 3, [n_steps, 1, n_steps // 2], BOTH_DIRECTIONS, recompute=True)
        assert_near(run_with_gradients(call), run_with_gradients(call._replace(recompute=False)), torch.float64)


# ---- several threads -------------------------------------------------------------------------------------------------

UNITS, SEQUENCES = "threads split the units", "threads split the sequences"

#: What the threads split, the call, the number of threads. The calls are large enough for csrc/plan.h to use threads.
LARGE: dict[str, tuple[str, Callable[[], Call], int]] = {
    "lstm, 2 threads": (UNITS, lambda: build(CellSpec("lstm", 24, 256), 6, 2, [6, 3]), 2),
    "lstm, 3 threads": (UNITS, lambda: build(CellSpec("lstm", 7, 257, peephole=True), 6, 2, None, (True,)), 3),
    "lstm, noise": (UNITS, lambda: noisy(build(CellSpec("lstm", 5, 300, coupled=True), 6, 2, [4, 6])), 2),
    "lstm, both ways": (UNITS, lambda: build(CellSpec("lstm", 24, 256), 5, 1, None, BOTH_DIRECTIONS), 4),
    "gru, 2 threads": (UNITS, lambda: build(CellSpec("gru", 24, 256), 6, 1), 2),
    "gru, 3 threads": (UNITS, lambda: noisy(build(CellSpec("gru", 3, 290, bias=False), 6, 2, [2, 6])), 3),
    "gru, both ways": (UNITS, lambda: build(CellSpec("gru", 24, 272), 5, 2, [5, 4], BOTH_DIRECTIONS), 4),
    "rnn, 2 threads": (UNITS, lambda: build(CellSpec("rnn_tanh", 24, 320), 6, 2), 2),
    "rnn, 3 threads": (UNITS, lambda: build(CellSpec("rnn_relu", 24, 320), 6, 2, [5, 6]), 3),
    "rnn, both ways": (UNITS, lambda: build(CellSpec("rnn_tanh", 24, 320), 6, 2, None, BOTH_DIRECTIONS), 4),
    "lstm, sequences": (SEQUENCES, lambda: build(CellSpec("lstm", 9, 33), 20, 13, None), 2),
    "lstm, ragged": (SEQUENCES, lambda: noisy(build(lstm(peephole=True), 20, 13, [*range(8, 21)], BOTH_DIRECTIONS)), 4),
    "lstm, layer norm": (SEQUENCES, lambda: build(CellSpec("lstm", 9, 64, layer_norm=True, proj_size=30), 9, 5), 3),
    "gru, sequences": (SEQUENCES, lambda: build(CellSpec("gru", 9, 33), 20, 7, [20, 1, 0, 9, 9, 3, 17]), 3),
    "rnn, sequences": (SEQUENCES, lambda: build(CellSpec("rnn_relu", 9, 65), 30, 8), 3),
}
EACH_LARGE = pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)


@EACH_LARGE
def test_threads(isa: str, case: tuple[str, Callable[[], Call], int]) -> None:
    """Several threads match the reference, and give the same bits in every run."""
    split_by, make_call, count = case
    call = cast_call(make_call(), torch.float32)
    with num_threads(count):
        saved = torch.ops.lstmkit.recurrent(*op_arguments(call))[3]
        assert (saved[0, 0] > 1) == (split_by == SEQUENCES)  # the first number is the number of parts of the batch
        actual = run_with_gradients(call)
        for _ in range(3):
            assert_close(run_with_gradients(call), actual, rtol=0, atol=0)
        recomputed = run_with_gradients(call._replace(recompute=True))
    assert_near(actual, reference_results(call), torch.float32)
    assert_near(recomputed, actual, torch.float32)
    assert_near(actual, run_with_gradients(call), torch.float32)


@pytest.mark.parametrize("recompute", [False, True])
def test_number_of_threads_may_change_before_backward(recompute: bool) -> None:
    """Backward is correct with another number of threads than forward."""
    for _, make_call, count in LARGE.values():
        call = cast_call(make_call(), torch.float64)._replace(recompute=recompute)
        expected = run_with_gradients(call)
        for forward_threads, backward_threads in ((count, 1), (1, count), (2, 5)):
            with num_threads(forward_threads):
                result = dispatch.run(call, "native")
            with num_threads(backward_threads):
                assert_near(cases.with_gradients(call, result), expected, torch.float64)


def test_more_threads_than_work() -> None:
    """Seven threads compute three sequences."""
    call = build(CellSpec("lstm", 5, 65), 20, 3, [20, 4, 0], BOTH_DIRECTIONS)
    expected = run_with_gradients(call)
    with num_threads(7):
        assert_near(run_with_gradients(call), expected, torch.float64)


def test_called_from_several_threads() -> None:
    """Calls from Python threads at the same time do not disturb each other."""
    shapes = [(3, 1, 4), (9, 5, 33), (20, 13, 33), (5, 2, 256), (1, 7, 9)]
    examples = [
        (lambda call: (call, run_with_gradients(call)))(build(CellSpec("lstm", 3, h), t, b)) for t, b, h in shapes
    ]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            torch.set_num_threads(1 + number % 3)
            for i in range(20):
                call, expected = examples[(i * (number + 1)) % len(examples)]
                assert_near(run_with_gradients(call), expected, torch.float64)
        except BaseException as error:
            failures.append(error)

    with num_threads(1):
        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    assert not failures, failures[0]


# ---- forked processes ------------------------------------------------------------------------------------------------


def needs_fork(test: Any) -> Any:
    """Mark a test that forks."""
    test = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")(
        test
    )
    # Python 3.12 and later warn about a fork of a process with threads.
    return pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")(test)


def assert_child_succeeds(task: Callable[[], None]) -> None:
    """Assert that ``task`` ends without an exception in a forked child, within a minute."""
    child = multiprocessing.get_context("fork").Process(target=task)
    child.start()
    child.join(60)
    alive = child.is_alive()
    if alive:
        child.kill()
        child.join()
    assert not alive, "the child hangs"
    assert child.exitcode == 0


def forked_example() -> tuple[Call, Tensor, Callable[[], None]]:
    """A call, its output, and a function that checks the output with two threads."""
    call = build(CellSpec("lstm", 5, 65), 20, 6)
    with torch.no_grad():
        expected = dispatch.run(call, "native").output

    def check() -> None:
        with num_threads(2), torch.no_grad():
            for _ in range(5):
                assert_close(dispatch.run(call, "native").output, expected)

    return call, expected, check


@needs_fork
class TestFork:
    def test_child_and_its_child(self) -> None:
        """A child and its child start their own threads; the parent keeps its threads."""
        _, _, check = forked_example()

        def child() -> None:
            assert_child_succeeds(check)
            check()
            assert_child_succeeds(check)

        check()
        assert_child_succeeds(child)
        check()

    def test_while_another_thread_computes(self) -> None:
        """A child forked during a call can compute."""
        _, _, check = forked_example()
        stop = threading.Event()

        def busy() -> None:
            while not stop.is_set():
                check()

        worker = threading.Thread(target=busy)
        worker.start()
        try:
            for _ in range(4):
                assert_child_succeeds(check)
        finally:
            stop.set()
            worker.join(60)

    def test_data_loader(self) -> None:
        """A layer runs in the workers of a DataLoader."""
        call, expected, check = forked_example()
        check()

        class Rows(torch.utils.data.Dataset[Tensor]):
            def __len__(self) -> int:
                return 4

            def __getitem__(self, _: int) -> Tensor:
                with num_threads(2), torch.no_grad():
                    return dispatch.run(call, "native").output

        for batch in torch.utils.data.DataLoader(Rows(), num_workers=2, multiprocessing_context="fork", timeout=60):
            assert_close(batch[0], expected)


# ---- the functions inside the cells ----------------------------------------------------------------------------------


def native_tanh(x: Tensor) -> Tensor:
    """tanh through an RNN with one unit and weight 1, one row for each number."""
    layer = RNN(1, 1, bias=False, backend="native", dtype=x.dtype)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1)
        layer.weight_hh_l0.fill_(0)
        return layer(x[None, :, None])[0].flatten()


def native_sigmoid(x: Tensor) -> Tensor:
    """Sigmoid through the output gate of an LSTM that keeps a cell state with a tanh of 1."""
    layer = LSTM(1, 1, backend="native", dtype=x.dtype)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.fill_(0)
        layer.weight_ih_l0[3] = 1
        layer.bias_ih_l0[:2] = torch.tensor([-1e4, 1e4])
        state = torch.zeros(1, len(x), 1, dtype=x.dtype), torch.full((1, len(x), 1), 40, dtype=x.dtype)
        return layer(x[None, :, None], state)[0].flatten()


def max_ulp_error(actual: Tensor, expected: Sequence[Any]) -> float:
    """The largest error in units in the last place; ``expected`` are mpmath numbers."""
    kind = actual.numpy().dtype.type
    return max(
        abs(mpmath.mpf(float(y)) - value) / float(np.spacing(np.abs(kind(float(value)))))
        for y, value in zip(actual, expected, strict=True)
    )


def grid(dtype: torch.dtype, lowest: float, highest: float, count: int) -> Tensor:
    """A test grid within a range: even steps around zero, and powers of ten of both signs."""
    smallest = math.log10(torch.finfo(dtype).tiny) - 5  # including subnormal numbers
    powers = torch.logspace(smallest, math.log10(max(-lowest, highest)), count // 3, dtype=torch.float64)
    steps = torch.linspace(-12, 12, count, dtype=torch.float64)
    near_halves = torch.arange(-20, 21) * math.log(2) / 2 + torch.tensor([-1e-6, 0, 1e-6])[:, None]
    x = torch.cat([steps, powers, -powers, near_halves.flatten(), near_halves.flatten() / 2]).to(dtype)
    return x[(x >= lowest) & (x <= highest)]


@pytest.mark.parametrize(("dtype", "count"), [(torch.float32, 4000), (torch.float64, 1200)], ids=str)
def test_tanh_is_exact(isa: str, dtype: torch.dtype, count: int) -> None:
    """The error of tanh is below three units in the last place."""
    x = grid(dtype, -1e4, 1e4, count)
    with mpmath.workdps(40):
        assert max_ulp_error(native_tanh(x), [mpmath.tanh(float(v)) for v in x]) < 3


@pytest.mark.parametrize(
    ("dtype", "count", "lowest"), [(torch.float32, 4000, -87), (torch.float64, 1200, -707)], ids=str
)
def test_sigmoid_is_exact(isa: str, dtype: torch.dtype, count: int, lowest: float) -> None:
    """The error of sigmoid is below three units in the last place; below the range, values are tiny."""
    x = grid(dtype, lowest, 1e4, count)
    with mpmath.workdps(40):
        assert max_ulp_error(native_sigmoid(x), [1 / (1 + mpmath.exp(-float(v))) for v in x]) < 3
    below = native_sigmoid(-torch.logspace(math.log10(-lowest), 4, 50, dtype=dtype))
    assert ((below >= 0) & (below <= 10 * torch.finfo(dtype).tiny)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_infinity_and_nan_in_the_functions(isa: str, dtype: torch.dtype) -> None:
    """Infinities give the limits, NaN stays NaN, and the largest numbers do not overflow."""
    largest = torch.finfo(dtype).max
    x = torch.tensor([math.inf, -math.inf, math.nan, largest, -largest, 0.0], dtype=dtype)
    assert_close(native_tanh(x), x.tanh(), rtol=0, atol=0, equal_nan=True)
    at_bias = []
    for value in x:
        layer = LSTM(1, 1, backend="native", dtype=dtype)
        with torch.no_grad():
            for weight in layer.parameters():
                weight.fill_(0)
            layer.bias_ih_l0[:] = torch.tensor([0, 1e4, 0, value])
            state = torch.zeros(1, 1, 1, dtype=dtype), torch.full((1, 1, 1), 40, dtype=dtype)
            at_bias.append(layer(torch.zeros(1, 1, 1, dtype=dtype), state)[0].flatten())
    assert_close(torch.cat(at_bias), x.sigmoid(), rtol=0, atol=2 * torch.finfo(dtype).tiny, equal_nan=True)


# ---- NaN and infinity ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@EACH_SPEC
def test_nan_stays_in_its_sequence(isa: str, spec: CellSpec, bad: float) -> None:
    """A NaN or infinity does not change other sequences, their gradients, or earlier steps."""
    call = build(spec, 5, 7, directions=BOTH_DIRECTIONS)
    bad_call = call._replace(
        x=call.x.detach().index_put((torch.tensor(2), torch.tensor(3)), torch.tensor(bad).double())
    )
    bad_call.x.requires_grad_()
    others = [0, 1, 2, 4, 5, 6]
    outputs, gradients = [], []
    for c in (call, bad_call):
        forward, backward = dispatch.run(c, "native").passes()
        outputs.append((forward.output, backward.output))
        sums = [cases.uneven_sum([r.output[:, others], *(s[others] for s in r.state)]) for r in (forward, backward)]
        gradients.append(torch.autograd.grad(sums, c.x)[0][:, others])
    for clean, changed, before in zip(*outputs, (slice(0, 2), slice(3, 5)), strict=True):
        assert_close(changed[:, others], clean[:, others], rtol=0, atol=0)
        assert_close(changed[before, 3], clean[before, 3], rtol=0, atol=0)
        assert not changed[2, 3].equal(clean[2, 3])
        if math.isnan(bad):
            assert changed[2, 3].isnan().all()
    assert_close(gradients[1], gradients[0], rtol=0, atol=0)


@pytest.mark.parametrize("recompute", [False, True])
@EACH_LARGE
def test_padding_does_not_change_results_of_threads(case: tuple[str, Callable[[], Call], int], recompute: bool) -> None:
    """NaN in the padding changes no bit, with several threads."""
    _, make_call, count = case
    call = cast_call(make_call(), torch.float32)._replace(recompute=recompute)
    if call.lengths is None:
        call = call._replace(lengths=torch.arange(call.x.shape[1]) % (call.x.shape[0] - 1) + 1)
    padding = (torch.arange(call.x.shape[0])[:, None] >= call.lengths)[..., None]
    with_nan = call._replace(x=call.x.detach().masked_fill(padding, math.nan).requires_grad_())
    with num_threads(count):
        assert_close(run_with_gradients(with_nan), run_with_gradients(call), rtol=0, atol=0)


def test_relu_of_infinity_and_nan() -> None:
    """ReLU handles infinity and NaN as torch does, forward and backward."""
    x = torch.tensor([math.inf, -math.inf, math.nan, -0.0, 1e30])[None, :, None]
    torch_layer = nn.RNN(1, 3, nonlinearity="relu")
    lstmkit_layer = RNN(1, 3, nonlinearity="relu", backend="native")
    lstmkit_layer.load_state_dict(torch_layer.state_dict())
    results = []
    for rnn in (lstmkit_layer, torch_layer):
        leaf = x.clone().requires_grad_()
        output, h = rnn(leaf)
        results.append((output, h, torch.autograd.grad(output[0, [0, 1, 3, 4]].sum(), leaf)[0][:, [0, 1, 3, 4]]))
    assert_close(results[0], results[1], equal_nan=True)


# ---- memory layouts --------------------------------------------------------------------------------------------------


def misaligned(x: Tensor) -> Tensor:
    """A copy at an odd address."""
    storage = bytearray(x.nbytes + 2)
    offset = 1 + torch.frombuffer(storage, dtype=torch.uint8).data_ptr() % 2
    return torch.frombuffer(storage, dtype=x.dtype, count=x.numel(), offset=offset).view(x.shape).copy_(x)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "batch first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "features first": lambda x: x.movedim(-1, 0).contiguous().movedim(0, -1),
    "every second number": lambda x: torch.stack([x, torch.full_like(x, math.nan)], -1).flatten(-2)[..., ::2],
    "every second step": lambda x: x.repeat_interleave(2, 0)[::2],
    "one sequence, expanded": lambda x: x[:, :1].expand_as(x),
    "one number, expanded": lambda x: x[:1, :1, :1].expand_as(x),
    "negative bit": lambda x: torch.complex(x, x).conj().imag,
    "odd address": misaligned,
}


@pytest.mark.parametrize("inputs", [1, 9])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_of_the_input(layout: Callable[[Tensor], Tensor], inputs: int) -> None:
    """Inputs with any strides, negative bit or address are read correctly, forward and backward."""
    call = build(CellSpec("gru", inputs, 9), 4, 3, [4, 0, 3], BOTH_DIRECTIONS)
    x = layout(call.x.detach())
    contiguous = torch.empty_like(x, memory_format=torch.contiguous_format).copy_(x)
    actual = run_with_gradients(call._replace(x=x.requires_grad_()))
    assert_close(actual, run_with_gradients(call._replace(x=contiguous.requires_grad_())), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_odd_addresses_everywhere(dtype: torch.dtype) -> None:
    """Input, weights, states and noise may be misaligned."""
    call = cast_call(noisy(build(lstm(peephole=True), 4, 3, [4, 0, 3])), dtype)

    def move(t: Tensor) -> Tensor:
        return misaligned(t.detach()).requires_grad_(t.requires_grad)

    (p,) = call.passes
    assert p.recurrent_mask is not None
    moved = Pass(
        {name: move(w) for name, w in p.params.items()},
        tuple(move(s) for s in p.state),
        False,
        move(p.recurrent_mask),
        tuple(move(z) for z in p.zoneout or ()),  # type: ignore[arg-type]
    )
    assert moved.state[0].data_ptr() % 2 == 1
    assert_close(
        run_with_gradients(call._replace(x=move(call.x), passes=(moved,))), run_with_gradients(call), rtol=0, atol=0
    )


def test_weights_and_states_of_any_layout() -> None:
    """Weights may be transposed, and states and masks expanded."""
    call = noisy(build(lstm(peephole=True), 4, 3, [4, 0, 3]))
    (p,) = call.passes
    zoneout = tuple(z[:1].expand_as(z) for z in p.zoneout or ())  # type: ignore[index]
    state = tuple(s[:1].detach().expand_as(s).requires_grad_() for s in p.state)
    params = {
        name: w.detach().T.contiguous().T.requires_grad_() if w.dim() == 2 else w.detach().repeat_interleave(2)[::2]
        for name, w in p.params.items()
    }
    params = {name: w.requires_grad_() for name, w in params.items()}
    strided = call._replace(passes=(p._replace(params=params, state=state, zoneout=zoneout),))
    assert not params["weight_hh"].is_contiguous()
    assert_near(run_with_gradients(strided), run_with_gradients(strided, "reference"), torch.float64)


def test_initial_state_is_not_changed() -> None:
    """Neither forward nor backward writes into the initial state."""
    layer = LSTM(3, 5, backend="native")
    state = torch.randn(1, 2, 5), torch.randn(1, 2, 5)
    before = copy.deepcopy(state)
    layer(torch.randn(4, 2, 3), state)[0].sum().backward()
    assert_close(state, before, rtol=0, atol=0)


# ---- gradients of single tensors -------------------------------------------------------------------------------------


@ONE_OF_EACH
@pytest.mark.parametrize("recompute", [False, True])
def test_gradient_of_one_tensor(spec: CellSpec, recompute: bool) -> None:
    """The gradient of a tensor is the same if all others are frozen."""
    call = noisy(build(spec, 4, 3, [4, 2, 3], BOTH_DIRECTIONS, recompute=recompute))
    all_gradients = run_with_gradients(call)
    for name in cases.leaves(call):
        frozen = cast_call(call, torch.float64)
        inputs = cases.leaves(frozen)
        for other in inputs.values():
            other.requires_grad_(False)
        inputs[name].requires_grad_()
        total = cases.uneven_sum(cases.values(frozen, dispatch.run(frozen, "native")).values())
        assert_close(torch.autograd.grad(total, inputs[name])[0], all_gradients[f"gradient of {name}"], rtol=0, atol=0)


@ONE_OF_EACH
def test_gradient_of_one_output(spec: CellSpec) -> None:
    """Gradients are correct if the loss is the sum of a single output or final state."""
    call = build(spec, 4, 3, [4, 2, 3], BOTH_DIRECTIONS)
    for name in cases.values(call, dispatch.run(call, "native")):
        gradients = []
        for backend in ("native", "reference"):
            output = cases.values(call, dispatch.run(call, backend))[name]
            inputs = list(cases.leaves(call).values())
            gradients.append(torch.autograd.grad(output.sum(), inputs, materialize_grads=True))
        assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_can_be_taken_twice(recompute: bool) -> None:
    """Backward does not change the saved tensors."""
    call = example(SPECS[7], torch.float64)[0]._replace(recompute=recompute)
    total = cases.uneven_sum(cases.values(call, dispatch.run(call, "native")).values())
    inputs = list(cases.leaves(call).values())
    first = torch.autograd.grad(total, inputs, retain_graph=True)
    assert_close(torch.autograd.grad(total, inputs), first, rtol=0, atol=0)


def test_lengths_changed_in_place() -> None:
    """If lengths change in place, backward uses the old lengths or raises an error."""
    call = build(lstm(), 5, 3, [5, 2, 4])
    expected = run_with_gradients(call)
    result = dispatch.run(call, "native")
    assert call.lengths is not None
    call.lengths.copy_(torch.tensor([1, 5, 5]))
    with contextlib.suppress(RuntimeError):
        assert_close(cases.with_gradients(call, result), expected, rtol=0, atol=0)


def test_output_changed_in_place() -> None:
    """Backward needs the output: torch raises an error if it was changed in place."""
    output, _ = GRU(3, 5, backend="native")(torch.randn(4, 2, 3))
    output.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


Dependent = tuple[Tensor, list[Tensor]]


def chunked(backend: str) -> Dependent:
    """A sequence in two chunks: the state of the second depends on the weights too."""
    layer, x = LSTM(2, 3, dtype=torch.float64, backend=backend), cases.numbers(4, 2, 2, seed=1)
    _, state = layer(x[:2])
    return layer(x[2:], state)[0], [x, *layer.parameters()]


def tied_directions(backend: str) -> Dependent:
    """Both directions share the recurrent weight."""
    layer = GRU(2, 3, bidirectional=True, dtype=torch.float64, backend=backend)
    layer.weight_hh_l0_reverse = layer.weight_hh_l0
    x = cases.numbers(4, 2, 2, seed=1)
    return layer(x)[0], [x, layer.weight_hh_l0]


def tied_layers(backend: str) -> Dependent:
    """Both layers share their weights."""
    layer = RNN(3, 3, 2, dtype=torch.float64, backend=backend)
    layer.weight_ih_l1, layer.weight_hh_l1 = layer.weight_ih_l0, layer.weight_hh_l0
    x = cases.numbers(4, 2, 3, seed=1)
    return layer(x)[0], [x, layer.weight_ih_l0, layer.weight_hh_l0]


def encoded(backend: str) -> Dependent:
    """The initial state is a function of the input."""
    layer, x = RNN(3, 3, dtype=torch.float64, backend=backend), cases.numbers(4, 2, 3, seed=1)
    return layer(x, x.mean(0, keepdim=True).sin())[0], [x]


@pytest.mark.parametrize("build_graph", [chunked, tied_directions, tied_layers, encoded])
def test_gradients_of_dependent_inputs(build_graph: Callable[[str], Dependent]) -> None:
    """First gradients are the same with ``create_graph``, and second gradients match the reference."""

    def first(backend: str, create_graph: bool) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        torch.manual_seed(0)
        output, inputs = build_graph(backend)
        return torch.autograd.grad(cases.uneven_sum([output]), inputs, create_graph=create_graph), inputs

    expected, inputs = first("reference", True)
    assert_close(first("native", False)[0], expected)
    actual, native_inputs = first("native", True)
    assert_close(actual, expected)
    second = [
        torch.autograd.grad(cases.uneven_sum(gradients), leaves)
        for gradients, leaves in ((actual, native_inputs), (expected, inputs))
    ]
    assert_close(second[0], second[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: LSTM(2, 3, dtype=torch.float64, backend="native", peephole=True),
        lambda: GRU(2, 3, bidirectional=True, dtype=torch.float64, backend="native", recompute=True),
        lambda: RNN(2, 3, dtype=torch.float64, backend="native"),
    ],
    ids=["lstm", "gru", "rnn"],
)
def test_first_and_second_derivatives(make: Callable[[], RecurrentLayer]) -> None:
    """Derivatives with respect to input, state and weights match finite differences."""
    torch.manual_seed(0)
    layer = make()
    weights = dict(layer.named_parameters())
    x = cases.numbers(3, 2, 2, seed=0)
    state = tuple(cases.numbers(layer.num_directions, 2, 3, seed=1 + i) for i in range(len(layer.specs[0].state_sizes)))

    def outputs(x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        new_weights, initial = tensors[: len(weights)], tensors[len(weights) :]
        named = dict(zip(weights, new_weights, strict=True))
        output, final = functional_call(layer, named, (x, initial if len(initial) > 1 else initial[0], [3, 2]))
        return (output, *(final if isinstance(final, tuple) else (final,)))

    inputs = (x, *weights.values(), *state)
    assert gradcheck(outputs, inputs, fast_mode=True)
    assert gradgradcheck(outputs, inputs, fast_mode=True)


# ---- invalid input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["native", "auto"])
def test_layer_refuses(backend: str) -> None:
    """Wrong dtypes, ranks, widths and lengths are errors that say what is wrong."""
    layer = LSTM(3, 5, backend=backend)
    x = torch.zeros(4, 2, 3)
    for bad, message in (
        (x.double(), "input is torch.float64, the weights are torch.float32"),
        (x.long(), "expected floating-point input"),
        (x[..., :2], "expected 3 features"),
        (x[None], "expected 3 dimensions"),
        (x[0, 0], "expected 3 dimensions"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(bad)
    for lengths in ([5, 1], [-1, 4]):
        with pytest.raises(ValueError, match=r"lengths must be in 0\.\.4"):
            layer(x, lengths=lengths)
    with pytest.raises(ValueError, match=r"lengths must have shape \(2,\)"):
        layer(x, lengths=[4])
    with pytest.raises(ValueError, match="the state is"):
        layer(x, (torch.zeros(1, 2, 5).double(), torch.zeros(1, 2, 5).double()))


def test_mixed_types_are_refused_by_name() -> None:
    """Mixed dtypes, dtypes without kernels and other devices are refused by name."""
    call = build(lstm(), 2, 2, dtype=torch.float32)
    (p,) = call.passes
    for other in (
        p._replace(params={**p.params, "weight_hh": p.params["weight_hh"].double()}),
        p._replace(state=(p.state[0], p.state[1].bfloat16())),
    ):
        with pytest.raises(BackendUnavailable, match="differ in dtype or device"):
            dispatch.run(call._replace(passes=(other,)), "native")
    with pytest.raises(BackendUnavailable, match=r"no torch\.float16"):
        dispatch.run(cast_call(call, torch.float16), "native")
    with pytest.raises(BackendUnavailable, match="on meta"):
        dispatch.run(call._replace(x=call.x.detach().to("meta")), "native")


@pytest.mark.parametrize("lengths", [[5, 0], [2, -1], [2**40, 1]], ids=str)
def test_op_checks_lengths(lengths: list[int]) -> None:
    """The kernels refuse lengths beyond the input."""
    call = build(lstm(), 4, 2, [4, 4])
    x, weights, states, noise, _, *rest = op_arguments(call)
    with pytest.raises((ValueError, RuntimeError), match="lengths must be in"):
        torch.ops.lstmkit.recurrent(x, weights, states, noise, torch.tensor(lengths), *rest)


def test_weight_of_the_wrong_shape_is_refused() -> None:
    """A replaced weight of the wrong shape is refused."""
    layer = LSTM(3, 8, backend="native")
    layer.weight_hh_l0 = nn.Parameter(torch.zeros(31, 8))
    with pytest.raises((ValueError, RuntimeError)):
        layer(torch.zeros(2, 1, 3))


def bad_inputs() -> dict[str, Callable[[list[Any]], object]]:
    """Invalid changes to the arguments of the op (x, weights, states, noise, lengths, zoneout, ...)."""
    sparse = torch.zeros(16, 4).to_sparse()

    def replace(index: int, value: Any, position: int | None = None) -> Callable[[list[Any]], object]:
        return lambda arguments: operator.setitem(
            arguments if position is None else arguments[index], index if position is None else position, value
        )

    return {
        "input of another width": replace(0, torch.zeros(4, 2, 5)),
        "input of two dimensions": replace(0, torch.zeros(4, 3)),
        "input of four dimensions": replace(0, torch.zeros(4, 2, 3, 1)),
        "a weight too few": lambda arguments: arguments[1].pop(),
        "a weight too small": replace(1, torch.zeros(15, 4), 1),
        "a weight of another dtype": replace(1, torch.zeros(16, 4, dtype=torch.float64), 1),
        "a weight on another device": replace(1, torch.zeros(16, 4, device="meta"), 1),
        "a sparse weight": replace(1, sparse, 1),
        "a state too few": lambda arguments: arguments[2].pop(),
        "a state too small": replace(2, torch.zeros(1, 4), 0),
        "too little noise": lambda arguments: arguments[3].pop(),
        "a mask too small": replace(3, torch.zeros(1, 4), 0),
        "lengths too few": replace(4, torch.tensor([1])),
        "too few zoneout probabilities": lambda arguments: arguments[5].pop(),
    }


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "attributes"])
@pytest.mark.parametrize("bad", bad_inputs())
def test_extension_checks_its_arguments(bad: str, exchange: bool, set_exchange: Callable[[bool], None]) -> None:
    """Invalid arguments are errors that say what was expected; nothing is read out of bounds."""
    set_exchange(exchange)
    call = build(CellSpec("lstm", 3, 4), 4, 2, [4, 2], dtype=torch.float32)
    layer = native_kernels.layer_for(call.spec, (False,), False, torch.float32)
    arguments = [x if isinstance(x, (Tensor, list)) else list(x) for x in native._inputs(call, layer.names)]
    outputs = native_kernels.empty_outputs(layer, native_kernels.Inputs(*arguments), False)
    layer.native.forward(arguments, 1, *outputs)
    bad_inputs()[bad](arguments)
    with pytest.raises((ValueError, RuntimeError, NotImplementedError), match=r"expected|have storage"):
        layer.native.forward(arguments, 1, *outputs)
    for not_a_tensor in (None, 1, [1.0], torch.zeros(1).numpy()):
        arguments[0] = not_a_tensor
        with pytest.raises(TypeError, match=r"expected a torch\.Tensor"):
            layer.native.forward(arguments, 1, *outputs)


@pytest.fixture
def set_exchange() -> Iterator[Callable[[bool], None]]:
    """Set how the extension reads tensors, for one test."""

    def by(exchange: bool) -> None:
        assert kernels.use_exchange(exchange) == exchange

    yield by
    kernels.use_exchange(True)


@EACH_SPEC
def test_tensors_read_by_their_attributes(spec: CellSpec, set_exchange: Callable[[bool], None]) -> None:
    """The interface of torch before 2.10 gives the same results, for every layout."""
    call = build(spec, 5, 3, [5, 0, 3], BOTH_DIRECTIONS)
    transposed = call._replace(x=call.x.detach().mT.contiguous().mT.requires_grad_())
    expected = [run_with_gradients(c) for c in (call, transposed)]
    set_exchange(False)
    assert_close([run_with_gradients(c) for c in (call, transposed)], expected, rtol=0, atol=0)


@DTYPES
@EACH_SPEC
def test_missing_state_is_zero(spec: CellSpec, dtype: torch.dtype) -> None:
    """A pass without an initial state starts from zeros; the other pass may have one."""
    call = build(spec, 5, 3, [5, 0, 3], BOTH_DIRECTIONS, dtype)
    zeros = [p._replace(state=tuple(torch.zeros_like(s).requires_grad_() for s in p.state)) for p in call.passes]
    expected = run_with_gradients(call._replace(passes=tuple(zeros)))
    for without in ((0,), (1,), (0, 1)):
        passes = [p._replace(state=()) if i in without else p for i, p in enumerate(zeros)]
        actual = run_with_gradients(call._replace(passes=tuple(passes)))
        assert actual.keys() == {name for name in expected if not any(f"{i}.initial" in name for i in without)}
        assert_close(actual, {name: expected[name] for name in actual}, rtol=0, atol=0)


@needs_fork
@pytest.mark.parametrize("direction", [0, 1])
def test_zoneout_in_one_direction(direction: int) -> None:
    """Zoneout in one direction only is refused or correct. The test forks because memory may be corrupted."""
    call = build(lstm(), 4, 2, directions=BOTH_DIRECTIONS)
    passes = list(call.passes)
    passes[direction] = passes[direction]._replace(zoneout=(0.1, 0.3))
    one_direction = call._replace(passes=tuple(passes))
    if (refusal := native.unsupported_reason(one_direction)) is not None:
        pytest.skip(refusal)
    assert_child_succeeds(
        lambda: assert_near(run_with_gradients(one_direction), reference_results(one_direction), torch.float64)
    )


@pytest.mark.parametrize("shape", [(0, 2), (3, 0)])
def test_empty_input(shape: tuple[int, int]) -> None:
    """Empty input is an error for the backend 'native'; ``"auto"`` gives empty tensors."""
    layer = GRU(3, 5, backend="native")
    with pytest.raises(BackendUnavailable, match="nothing to compute"):
        layer(torch.zeros(*shape, 3))
    layer.backend = "auto"
    output, h = layer(torch.zeros(*shape, 3))
    assert output.shape == (*shape, 5)
    assert h.shape == (1, shape[1], 5)


# ---- integration into torch ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        build(CellSpec("lstm", 3, 5, peephole=True), 4, 2, [4, 1], BOTH_DIRECTIONS),
        noisy(build(CellSpec("gru", 3, 5), 4, 2, recompute=True)),
    ],
    ids=["lstm", "gru"],
)
def test_opcheck(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The op passes ``opcheck``: schema, autograd registration, fake tensors and dynamic shapes."""
    # The gaps between rows of the saved tensors are never written, so they would differ from call to call.
    monkeypatch.setattr(Tensor, "new_empty", Tensor.new_zeros)
    checks = torch.library.opcheck(torch.ops.lstmkit.recurrent.default, op_arguments(call))
    assert set(checks.values()) == {"SUCCESS"}


@pytest.mark.parametrize("recompute", [False, True])
@EACH_SPEC
def test_all_results_are_written(spec: CellSpec, recompute: bool) -> None:
    """Every element of every result is written: no NaN of uninitialized memory remains."""
    call, expected = example(spec, torch.float64)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan().all()
        assert_near(run_with_gradients(call._replace(recompute=recompute)), expected, torch.float64)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_compiled_training_step(name: str) -> None:
    """A compiled layer has no graph breaks and gives the results of eager mode."""
    torch.compiler.reset()
    torch.manual_seed(0)
    layer = cases.LAYERS[name](3, 5, 2, bidirectional=name == "GRU", backend="native")  # type: ignore[call-arg]
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for n_steps in (4, 6):
        x, lengths = torch.randn(n_steps, 3, 3), torch.tensor([3, 4, 1]) if name == "GRU" else None
        assert_close(
            training_step(layer, compiled, x, lengths), training_step(layer, layer, x, lengths), rtol=1e-5, atol=1e-6
        )


@TORCHSCRIPT
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="inductor needs a C++ compiler")
def test_compiled_by_inductor() -> None:
    """Inductor compiles a layer and the operations around it."""
    torch.compiler.reset()
    torch.manual_seed(0)
    layer, x = LSTM(3, 5, backend="native"), torch.randn(4, 2, 3)

    def step(x: Tensor, state: None, lengths: None) -> tuple[Tensor, Any]:
        output, final = layer(x * 2, state, lengths)
        return output.tanh(), final

    compiled = torch.compile(step, fullgraph=True)
    assert_close(training_step(layer, compiled, x, None), training_step(layer, step, x, None), rtol=1e-5, atol=1e-6)


def test_functional_call_and_checkpoint() -> None:
    """``functional_call`` and activation checkpointing give the usual results."""
    layer, x = LSTM(3, 5, backend="native"), torch.randn(4, 2, 3)
    twice = {name: 2 * w.detach() for name, w in layer.named_parameters()}
    other = copy.deepcopy(layer)
    other.load_state_dict(twice)
    assert_close(functional_call(layer, twice, (x,)), other(x), rtol=0, atol=0)

    def checkpointed(*arguments: Any) -> Any:
        return checkpoint(layer, *arguments, use_reentrant=False)

    assert_close(training_step(layer, checkpointed, x, None), training_step(layer, layer, x, None), rtol=0, atol=0)


@TORCHSCRIPT
def test_transforms_of_torch_func() -> None:
    """``vmap``, ``grad``, ``jvp`` and dual numbers automatically use another back end, and are correct."""
    torch.manual_seed(0)
    layer = GRU(3, 5, dtype=torch.float64)
    x, weights = torch.randn(6, 4, 2, 3, dtype=torch.float64), dict(layer.named_parameters())

    def total(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return cases.uneven_sum([functional_call(layer, weights, (x,))[0]])

    assert_close(vmap(lambda sample: layer(sample)[0])(x), torch.stack([layer(sample)[0] for sample in x]))
    detached = {name: w.detach() for name, w in weights.items()}
    expected = torch.autograd.grad(total(weights, x[0]), list(weights.values()))
    assert_close(list(grad(total)(detached, x[0]).values()), list(expected))
    step = 1e-6 * torch.ones_like(x[0])
    difference = (layer(x[0] + step)[0] - layer(x[0] - step)[0]) / 2e-6
    assert_close(jvp(lambda sample: layer(sample)[0], (x[0],), (step * 1e6,))[1], difference, rtol=1e-6, atol=1e-8)
    with forward_ad.dual_level():
        dual = layer(forward_ad.make_dual(x[0], step * 1e6))[0]
        assert_close(forward_ad.unpack_dual(dual).tangent, difference, rtol=1e-6, atol=1e-8)
    layer.backend = "native"
    with pytest.raises(BackendUnavailable, match=r"torch\.func"):
        vmap(lambda sample: layer(sample)[0])(x)
    with forward_ad.dual_level(), pytest.raises(BackendUnavailable, match="forward-mode"):
        layer(x[0])


def test_modes_and_copies() -> None:
    """Inference mode, autocast, copies and pickles of a layer work."""
    torch.manual_seed(0)
    layer, x = LSTM(3, 5, 2, backend="native"), torch.randn(4, 2, 3)
    expected = layer(x)[0]
    for duplicate in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_close(duplicate(x)[0], expected, rtol=0, atol=0)
    with torch.inference_mode():
        inferred = layer(x)[0]
    assert inferred.is_inference()
    assert_close(inferred.clone(), expected.detach(), rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = layer(x)
        output.float().sum().backward()
    assert output.dtype == torch.bfloat16
    assert_close(output.float(), expected, rtol=2e-2, atol=2e-2)
    assert all(w.grad is not None and w.grad.dtype == torch.float32 for w in layer.parameters())


def test_recompute_saves_memory() -> None:
    """Recomputation over 400 steps saves less than a third of the bytes for backward."""

    def saved_bytes(recompute: bool) -> int:
        layer, sizes = LSTM(8, 32, backend="native", recompute=recompute), {}

        def pack(t: Tensor) -> Tensor:
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        x = torch.randn(400, 4, 8)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            output, _ = layer(x)
        output.sum().backward()
        weights = {w.untyped_storage().data_ptr() for w in layer.parameters()} | {x.untyped_storage().data_ptr()}
        return sum(size for at, size in sizes.items() if at not in weights)

    assert saved_bytes(True) < saved_bytes(False) / 3


# ---- streaming -------------------------------------------------------------------------------------------------------

STREAMED: dict[str, Callable[[torch.dtype], RecurrentLayer]] = {
    "lstm, three layers": lambda d: LSTM(6, 6, 3, residual=True, dtype=d),
    "lstm, projected": lambda d: LSTM(6, 9, 2, proj_size=4, dtype=d),
    "lstm, everything": lambda d: LSTM(
        6, 9, 2, proj_size=4, peephole=True, coupled=True, layer_norm=True, zoneout=0.2, dtype=d
    ),
    "lstm, zoneout": lambda d: LSTM(6, 17, 2, peephole=True, zoneout=0.2, recompute=True, dtype=d),
    "gru": lambda d: GRU(6, 17, 2, zoneout=0.1, dtype=d),
    "gru, layer norm": lambda d: GRU(6, 6, 2, layer_norm=True, residual=True, dtype=d),
    "rnn": lambda d: RNN(6, 8, dtype=d),
    "rnn, relu": lambda d: RNN(6, 7, 2, nonlinearity="relu", dtype=d),
}


def as_states(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


@DTYPES
@pytest.mark.parametrize("make", STREAMED.values(), ids=STREAMED)
def test_stream(isa: str, make: Callable[[torch.dtype], RecurrentLayer], dtype: torch.dtype) -> None:
    """Single steps, chunks and a mix of both give the outputs and states of one forward pass."""
    torch.manual_seed(0)
    layer = make(dtype).eval()
    layer.backend = "native"
    tolerances = {"rtol": 2**-6, "atol": 2**-6} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    x = torch.randn(9, 3, 6, dtype=dtype)
    with torch.no_grad():
        start = layer(torch.randn(2, 3, 6, dtype=dtype))[1]
        whole, final = layer(x, start)
    stream = layer.stream(start)
    assert_close(torch.stack([stream(step) for step in x]), whole, **tolerances)
    assert stream._stepper is not None
    assert_close(as_states(stream.state), as_states(final), **tolerances)

    stream.state = start
    out = torch.empty_like(whole[0])
    for t in range(4):
        assert stream(x[t], out=out) is out
        assert_close(out, whole[t], **tolerances)
    assert_close(stream(x[4:6]), whole[4:6], **tolerances)
    stream.state = stream.state
    assert_close(torch.stack([stream(step) for step in x[6:]]), whole[6:], **tolerances)
    stream.reset()
    assert stream.state is None
    with torch.no_grad():
        assert_close(stream(x[0]), layer(x[:1])[0][0], **tolerances)


def test_stream_of_large_layers_with_threads() -> None:
    """Several threads compute a step of a large layer correctly."""
    torch.manual_seed(0)
    layer, x = GRU(5, 300, 2, residual=True, backend="native").eval(), torch.randn(6, 2, 5)
    with torch.no_grad():
        expected = layer(x)[0]
    with num_threads(3):
        stream = layer.stream()
        assert_close(torch.stack([stream(step) for step in x]), expected, rtol=1e-5, atol=1e-6)


def test_stream_refuses_an_invalid_out() -> None:
    """``out`` of another shape, dtype, layout or device is an error."""
    stream, x = LSTM(3, 5).eval().stream(), torch.randn(2, 3)
    stream(x)
    before = copy.deepcopy(stream.state)
    for out in (
        torch.empty(3, 5),
        torch.empty(2, 6),
        torch.empty(2, 5, dtype=torch.float64),
        torch.empty(5, 2).T,
        torch.empty(2, 5, device="meta"),
    ):
        with pytest.raises(ValueError, match="out must be a contiguous"):
            stream(x, out=out)
    assert_close(stream.state, before, rtol=0, atol=0)


def assert_next_step_matches(layer: RecurrentLayer, stream: Any, x: Tensor) -> None:
    with torch.no_grad():
        expected, final = layer(x[None], stream.state)
    assert_close(stream(x), expected[0], rtol=1e-5, atol=1e-6)
    assert_close(as_states(stream.state), as_states(final), rtol=1e-5, atol=1e-6)


def by_optimizer(layer: RecurrentLayer) -> None:
    optimizer = torch.optim.SGD(layer.parameters(), 0.5)
    layer(torch.ones(3, 2, 3))[0].sum().backward()
    optimizer.step()


def by_hand(layer: RecurrentLayer) -> None:
    with torch.no_grad():
        layer.weight_ih_l0.mul_(3)  # type: ignore[operator]


def by_hand_and_mode(layer: RecurrentLayer) -> None:
    by_hand(layer)
    layer.eval()


def by_replacing(layer: RecurrentLayer) -> None:
    layer.weight_hh_l0 = nn.Parameter(torch.ones_like(layer.weight_hh_l0))  # type: ignore[arg-type]


def by_replacing_with_the_same_version(layer: RecurrentLayer) -> None:
    new = torch.ones_like(layer.weight_hh_l0)  # type: ignore[arg-type]
    while new._version < layer.weight_hh_l0._version:  # type: ignore[operator]
        new.mul_(2)
    layer.weight_hh_l0 = nn.Parameter(new)


def by_loading(layer: RecurrentLayer) -> None:
    layer.load_state_dict({name: w.detach() * 2 for name, w in layer.named_parameters()})


@pytest.mark.parametrize(
    "change", [by_optimizer, by_hand, by_hand_and_mode, by_replacing, by_replacing_with_the_same_version, by_loading]
)
def test_stream_uses_changed_weights(change: Callable[[RecurrentLayer], None]) -> None:
    """The next step uses changed weights and keeps the state."""
    torch.manual_seed(0)
    layer, x = LSTM(3, 5, 2), torch.randn(4, 2, 3)
    stream = layer.stream()
    stream(x[0])
    change(layer)
    for step in x[1:]:
        assert_next_step_matches(layer, stream, step)


def test_stream_uses_changed_parametrized_weights() -> None:
    """Changes of the tensors behind a parametrized weight are noticed."""
    torch.manual_seed(0)
    layer, x = LSTM(3, 5).eval(), torch.randn(2, 2, 3)
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    stream = layer.stream()
    stream(x[0])
    with torch.no_grad():
        layer.parametrizations.weight_hh_l0.original0.mul_(3)  # type: ignore[union-attr]
    assert_next_step_matches(layer, stream, x[1])


def test_stream_reloads() -> None:
    """A change through ``.data`` is not detected: ``reload`` reads the weights again and keeps the state."""
    torch.manual_seed(0)
    layer, x = LSTM(3, 5).eval(), torch.randn(4, 2, 3)
    stream = layer.stream()
    stream(x[0])
    layer.weight_hh_l0.data.mul_(3)  # type: ignore[union-attr]
    before = copy.deepcopy(stream.state)
    stream.reload()
    assert_close(stream.state, before, rtol=0, atol=0)
    assert_next_step_matches(layer, stream, x[1])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(4, 3), r"expected the state hidden \(1, 4, 5\)"),
        (torch.zeros(2, 4), "expected 3 features"),
        (torch.zeros(2, 3, dtype=torch.float64), "input is torch.float64, the weights are torch.float32"),
        (torch.zeros(3), "expected 3 dimensions"),
    ],
    ids=["another batch", "another width", "another type", "no batch"],
)
def test_stream_refuses(bad: Tensor, message: str) -> None:
    """An invalid step is an error each time, and does not change the state."""
    torch.manual_seed(0)
    layer, x = LSTM(3, 5).eval(), torch.randn(2, 2, 3)
    stream = layer.stream()
    stream(x[0])
    before = copy.deepcopy(stream.state)
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            stream(bad)
    assert_close(stream.state, before, rtol=0, atol=0)
    assert_next_step_matches(layer, stream, x[1])


def test_stream_of_another_batch_after_reset() -> None:
    """A stream accepts another batch size after a reset."""
    layer = LSTM(3, 5).eval()
    stream = layer.stream()
    stream(torch.randn(2, 3))
    stream.reset()
    x = torch.randn(4, 3)
    assert_close(stream(x), layer(x[None])[0][0], rtol=1e-5, atol=1e-6)


def test_stream_in_training() -> None:
    """Dropout is as in forward; after ``eval`` the stream continues without dropout."""
    torch.manual_seed(0)
    layer, x = LSTM(3, 50, 2, dropout=0.5), torch.randn(3, 2, 3)
    stream = layer.stream()
    torch.manual_seed(1)
    first = stream(x[0])
    torch.manual_seed(1)
    assert_close(first, layer(x[:1])[0][0].detach(), rtol=1e-5, atol=1e-6)
    assert not first.requires_grad
    layer.eval()
    assert_next_step_matches(layer, stream, x[1])
    layer.train()
    stream(x[2])


@pytest.mark.parametrize("layout", ["every second number", "negative bit", "odd address", "one sequence, expanded"])
def test_stream_of_any_layout(layout: str) -> None:
    """Steps with any strides are read correctly."""
    torch.manual_seed(0)
    layer, x = LSTM(9, 5).eval(), torch.randn(3, 2, 9)
    stream = layer.stream()
    stream(x[0])
    for step in x[1:]:
        assert_next_step_matches(layer, stream, LAYOUTS[layout](step[None])[0])


def test_stream_keeps_its_stepper() -> None:
    """The weights packed at the first step are reused, for steps of any layout and with ``out``."""
    layer, x = LSTM(9, 5, batch_first=True).eval(), torch.randn(2, 4, 9)
    stream, out = layer.stream(), torch.empty(2, 5)
    stream(x[:, 0])
    stepper = stream._stepper
    assert stepper is not None
    steps = [x[:, 1], x[:, 2].mT.contiguous().mT, nn.Parameter(x[:, 3])]
    results = [stream(steps[0], out).clone(), stream(steps[1]), stream(steps[2], out)]
    assert stream._stepper is stepper
    assert results[2] is out
    assert_close(torch.stack(results, 1), layer(x)[0][:, 1:].detach(), rtol=1e-5, atol=1e-6)


def test_stream_of_a_layer_made_in_inference_mode() -> None:
    """A layer made in inference mode can stream, although its weights have no version counter."""
    with torch.inference_mode():
        layer, x = LSTM(3, 5).eval(), torch.randn(2, 2, 3)
        stream = layer.stream()
        actual = torch.stack([stream(step) for step in x])
        assert_close(actual, layer(x)[0], rtol=1e-5, atol=1e-6)


# ---- without the extension -------------------------------------------------------------------------------------------


def test_without_the_extension() -> None:
    """Without the extension layers run on torch, with one warning; the backend 'native' is refused."""
    script = """
        import sys, warnings
        sys.modules["lstmkit._native"] = None
        import torch
        import lstmkit
        from lstmkit import LSTM, BackendUnavailable
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            layer, x = LSTM(3, 5), torch.randn(4, 2, 3)
            output, _ = layer(x)
            output.sum().backward()
            LSTM(3, 5, peephole=True)(x, lengths=[4, 1])
            live = layer.eval().stream()
            assert torch.allclose(torch.stack([live(step) for step in x]), layer(x)[0], atol=1e-6)
            try:
                LSTM(3, 5, backend="native")(x)
            except BackendUnavailable as error:
                print(error)
        print([(w.category.__name__, str(w.message)) for w in caught])
        compiled = torch.compile(layer, backend="eager", fullgraph=True)
        print(torch.allclose(compiled(x)[0], layer(x)[0], atol=1e-6))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    error, warnings_text, compiled_matches = done.stdout.splitlines()
    assert error.startswith("backend 'native' cannot run this: the C++ extension was not built: install")
    assert warnings_text.count("RuntimeWarning") == 1
    assert warnings_text.startswith(
        "[('RuntimeWarning', \"lstmkit runs on torch's own layers, several times slower: the C++"
    )
    assert warnings_text.count("), (") == 0
    assert compiled_matches == "True"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "the C++ extension was not built"), (b"text", "the C++ extension cannot be loaded (")],
    ids=["absent", "damaged"],
)
def test_the_reason_without_the_extension_is_the_real_one(content, reason, tmp_path):
    """Neither an absent nor a damaged extension is called a circular import."""
    file = tmp_path / "_native.so"
    script = f"""
        import importlib.machinery as machinery, sys
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "lstmkit._native" and {content is not None}:
                    loader = machinery.ExtensionFileLoader(name, {str(file)!r})
                    return machinery.ModuleSpec(name, loader, origin={str(file)!r})
        class Others:
            def __init__(self, finder):
                self.finder = finder
            def find_spec(self, name, path=None, target=None):
                return None if name == "lstmkit._native" else self.finder.find_spec(name, path, target)
        sys.meta_path[:] = [Finder(), *map(Others, sys.meta_path)]
        import torch, lstmkit
        print(lstmkit.explain_backend(lstmkit.LSTM(3, 5), torch.zeros(4, 2, 3)))
    """
    if content is not None:
        file.write_bytes(content)
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert reason in done.stdout
    assert "circular" not in done.stdout
