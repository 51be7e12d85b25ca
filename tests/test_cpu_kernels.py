"""The C++ kernels: every instruction set, any size, any number of threads, and how they live with torch.

The contract of ``test_ops.py`` runs over them too, on tensors of a few numbers. Here are the sizes at which vectors,
tiles, chunks and shares of threads end in the middle of something.
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

#: How far from the exact answer, as a share of a tensor's largest number (or of 0.1, where all have cancelled).
NEAR = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 3e-2}
DTYPES = pytest.mark.parametrize("dtype", list(NEAR), ids=str)
BOTH = (False, True)

#: Torch uses its own TorchScript inside, and warns of it.
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
    return to(call._replace(passes=passes, recompute=recompute), dtype)


def to(call: Call, dtype: torch.dtype) -> Call:
    """The call with its numbers rounded to ``dtype``, as new leaves."""

    def leaf(t: Tensor) -> Tensor:
        return t.detach().to(dtype).requires_grad_()

    def mask(t: Any) -> Any:
        return t.to(dtype) if isinstance(t, Tensor) else t

    def one(p: Pass) -> Pass:
        zoneout = None if p.zoneout is None else tuple(mask(z) for z in p.zoneout)
        params = {name: leaf(w) for name, w in p.params.items()}
        return Pass(params, tuple(leaf(s) for s in p.state), p.reverse, mask(p.recurrent_mask), zoneout)

    return call._replace(x=leaf(call.x), passes=tuple(one(p) for p in call.passes))


def answers(call: Call, backend: str = "native") -> dict[str, Tensor]:
    """Outputs, states and all gradients."""
    return cases.with_gradients(call, dispatch.run(call, backend))


def exact(call: Call) -> dict[str, Tensor]:
    """The same of the reference, in float64."""
    return answers(to(call, torch.float64), "reference")


def assert_near(got: dict[str, Tensor], wanted: dict[str, Tensor], dtype: torch.dtype, times: float = 1) -> None:
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert got[name].shape == value.shape
        error, largest = ((got[name].double() - value).abs().max(), value.abs().max()) if value.numel() else (0, 0)
        assert error <= times * NEAR[dtype] * max(largest, 0.1), f"{name}: {error:.2g} of {largest:.2g}"


def raw(call: Call, saves: bool = True) -> tuple[Any, ...]:
    """What ``torch.ops.lstmkit.recurrent`` is called with for ``call``, whose zoneout, if it has any, is by masks."""
    spec, passes = call.spec, call.passes
    weights = [w for p in passes for w in p.params.values()]
    states = [s for p in passes for s in p.state]
    noise = [t for p in passes for t in [p.recurrent_mask, *(p.zoneout or ()), None, None][:3]]
    key = native_library._key(spec, tuple(p.reverse for p in passes), call.recompute)
    return call.x, weights, states, noise, call.lengths, [0.0] * 2 * len(passes), key, saves


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
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
    """Ragged sequences with noise, both ways, and the exact answers."""
    call = to(noisy(build(spec, 6, 7, [4, 6, 0, 5, 1, 6, 3], BOTH)), dtype)
    return call, exact(call)


@DTYPES
@EACH_SPEC
def test_every_instruction_set(isa: str, spec: CellSpec, dtype: torch.dtype) -> None:
    """Each computes what the reference does, in every type."""
    assert kernels.name() == isa
    call, wanted = example(spec, dtype)
    assert_near(answers(call), wanted, dtype)
    assert_near(answers(call._replace(recompute=True)), wanted, dtype)


def test_bfloat16_is_only_rounded_once(isa: str) -> None:
    """Outputs are those of float32 arithmetic on the same numbers, rounded: the state is not rounded at every step."""
    call = build(lstm(), 40, 3, dtype=torch.bfloat16)
    wide = dispatch.run(to(call, torch.float32), "native").output
    got = dispatch.run(call, "native").output
    assert got.dtype == torch.bfloat16
    assert_close(got.float(), wide, rtol=2**-8, atol=1e-6)


def test_unknown_instruction_set() -> None:
    """A name this processor has no kernels for is refused, and the one in use stays."""
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
    options["layer_norm"] &= hidden > 1  # one number less its mean is nothing but rounding
    if kind == "lstm" and hidden > 1:
        options["proj_size"] = draw(st.sampled_from([0, 0, 1, hidden - 1]))
    spec = CellSpec(kind, draw(st.integers(1, 19)), hidden, draw(st.booleans()), **options)
    n_steps, batch = draw(st.integers(1, 17)), draw(st.integers(1, 13))
    lengths = draw(st.none() | st.lists(st.integers(0, n_steps), min_size=batch, max_size=batch))
    directions = draw(st.sampled_from(list(cases.DIRECTIONS.values())))
    call = build(spec, n_steps, batch, lengths, directions, recompute=draw(st.booleans()))
    noise = draw(st.sampled_from(["none", "masks", "shares"]))
    if noise == "masks":
        call = noisy(call)
    elif noise == "shares":
        shares = tuple(draw(st.sampled_from([0.0, 0.25, 0.7])) for _ in spec.state_sizes)
        call = call._replace(passes=tuple(p._replace(zoneout=shares) for p in call.passes))
    return to(call, draw(st.sampled_from(list(NEAR))))


@given(calls(), st.integers(1, 3))
@settings(deadline=None, max_examples=150)
def test_anything_is_as_the_reference(call: Call, count: int) -> None:
    """Outputs, states and gradients, whatever the sizes, options, type and threads."""
    with threads(count):
        got = answers(call)
    magnified = call.spec.layer_norm and call.x.dtype != torch.bfloat16  # divided by deviations down to 0.003
    assert_near(got, exact(call), call.x.dtype, times=30 if magnified else 3)


@pytest.mark.parametrize("recompute", [False, True])
@EACH_SPEC
def test_several_chunks(spec: CellSpec, recompute: bool) -> None:
    """Steps are computed in chunks of some hundred rows: states and gradients go from one to the next."""
    lengths = [90, 3, 61, 0, 90, 17, 88, 40, 5, 90, 71, 32, 64]
    call = noisy(build(spec, 90, 13, lengths, BOTH, recompute=recompute))
    call = to(call, torch.float64)
    assert_near(answers(call), exact(call), torch.float64, times=10)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 5, 15, 16, 17])
def test_recompute_around_square_numbers(n_steps: int) -> None:
    """Steps are kept every √T steps: the last piece may be short."""
    for spec in (lstm(peephole=True), CellSpec("gru", 5, 17)):
        call = build(spec, n_steps, 3, [n_steps, 1, n_steps // 2], BOTH, recompute=True)
        assert_near(answers(call), answers(call._replace(recompute=False)), torch.float64)


# ---- several threads -------------------------------------------------------------------------------------------------

UNITS, SEQUENCES = "the units are shared", "the sequences are shared"

#: What is shared, the call, threads: large enough for csrc/plan.h to use them.
LARGE: dict[str, tuple[str, Callable[[], Call], int]] = {
    "lstm, 2 threads": (UNITS, lambda: build(CellSpec("lstm", 24, 256), 6, 2, [6, 3]), 2),
    "lstm, 3 threads": (UNITS, lambda: build(CellSpec("lstm", 7, 257, peephole=True), 6, 2, None, (True,)), 3),
    "lstm, noise": (UNITS, lambda: noisy(build(CellSpec("lstm", 5, 300, coupled=True), 6, 2, [4, 6])), 2),
    "lstm, both ways": (UNITS, lambda: build(CellSpec("lstm", 24, 256), 5, 1, None, BOTH), 4),
    "gru, 2 threads": (UNITS, lambda: build(CellSpec("gru", 24, 256), 6, 1), 2),
    "gru, 3 threads": (UNITS, lambda: noisy(build(CellSpec("gru", 3, 290, bias=False), 6, 2, [2, 6])), 3),
    "gru, both ways": (UNITS, lambda: build(CellSpec("gru", 24, 272), 5, 2, [5, 4], BOTH), 4),
    "rnn, 2 threads": (UNITS, lambda: build(CellSpec("rnn_tanh", 24, 320), 6, 2), 2),
    "rnn, 3 threads": (UNITS, lambda: build(CellSpec("rnn_relu", 24, 320), 6, 2, [5, 6]), 3),
    "rnn, both ways": (UNITS, lambda: build(CellSpec("rnn_tanh", 24, 320), 6, 2, None, BOTH), 4),
    "lstm, sequences": (SEQUENCES, lambda: build(CellSpec("lstm", 9, 33), 20, 13, None), 2),
    "lstm, ragged": (SEQUENCES, lambda: noisy(build(lstm(peephole=True), 20, 13, [*range(8, 21)], BOTH)), 4),
    "lstm, normalised": (SEQUENCES, lambda: build(CellSpec("lstm", 9, 64, layer_norm=True, proj_size=30), 9, 5), 3),
    "gru, sequences": (SEQUENCES, lambda: build(CellSpec("gru", 9, 33), 20, 7, [20, 1, 0, 9, 9, 3, 17]), 3),
    "rnn, sequences": (SEQUENCES, lambda: build(CellSpec("rnn_relu", 9, 65), 30, 8), 3),
}
EACH_LARGE = pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)


@EACH_LARGE
def test_threads(isa: str, case: tuple[str, Callable[[], Call], int]) -> None:
    """Threads that share the work come to the reference's answers, every time to the same bits."""
    shared, make, count = case
    call = to(make(), torch.float32)
    with threads(count):
        saved = torch.ops.lstmkit.recurrent(*raw(call))[3]
        assert (saved[0, 0] > 1) == (shared == SEQUENCES)  # where it begins: how many shares the batch is cut into
        got = answers(call)
        for _ in range(3):
            assert_close(answers(call), got, rtol=0, atol=0)
        again = answers(call._replace(recompute=True))
    assert_near(got, exact(call), torch.float32)
    assert_near(again, got, torch.float32)
    assert_near(got, answers(call), torch.float32)


@pytest.mark.parametrize("recompute", [False, True])
def test_threads_may_change_before_backward(recompute: bool) -> None:
    """Backward follows what forward did, with more threads or fewer."""
    for _, make, count in LARGE.values():
        call = to(make(), torch.float64)._replace(recompute=recompute)
        wanted = answers(call)
        for there, back in ((count, 1), (1, count), (2, 5)):
            with threads(there):
                result = dispatch.run(call, "native")
            with threads(back):
                assert_near(cases.with_gradients(call, result), wanted, torch.float64)


def test_more_threads_than_work() -> None:
    """Seven threads, three sequences."""
    call = build(CellSpec("lstm", 5, 65), 20, 3, [20, 4, 0], BOTH)
    wanted = answers(call)
    with threads(7):
        assert_near(answers(call), wanted, torch.float64)


def test_called_from_several_threads() -> None:
    """Calls from Python threads at the same time do not disturb each other."""
    shapes = [(3, 1, 4), (9, 5, 33), (20, 13, 33), (5, 2, 256), (1, 7, 9)]
    examples = [(lambda call: (call, answers(call)))(build(CellSpec("lstm", 3, h), t, b)) for t, b, h in shapes]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            torch.set_num_threads(1 + number % 3)
            for i in range(20):
                call, wanted = examples[(i * (number + 1)) % len(examples)]
                assert_near(answers(call), wanted, torch.float64)
        except BaseException as error:
            failures.append(error)

    with threads(1):
        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    assert not failures, failures[0]


# ---- forked processes ------------------------------------------------------------------------------------------------


def forks(test: Any) -> Any:
    """Marks what forks."""
    test = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork")(test)
    # Python 3.12 on: this process has threads.
    return pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")(test)


def ends_well(task: Callable[[], None]) -> None:
    """``task`` ends without an exception in a forked child, within a minute."""
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
    """A call, its output, and a check that two threads come to the same."""
    call = build(CellSpec("lstm", 5, 65), 20, 6)
    with torch.no_grad():
        wanted = dispatch.run(call, "native").output

    def check() -> None:
        with threads(2), torch.no_grad():
            for _ in range(5):
                assert_close(dispatch.run(call, "native").output, wanted)

    return call, wanted, check


@forks
class TestFork:
    def test_child_and_its_child(self) -> None:
        """A child starts threads of its own, and so does its child; the parent goes on with its own."""
        _, _, check = forked_example()

        def child() -> None:
            ends_well(check)
            check()
            ends_well(check)

        check()
        ends_well(child)
        check()

    def test_while_another_thread_computes(self) -> None:
        """A fork in the middle of a call leaves the child able to compute."""
        _, _, check = forked_example()
        stop = threading.Event()

        def busy() -> None:
            while not stop.is_set():
                check()

        worker = threading.Thread(target=busy)
        worker.start()
        try:
            for _ in range(4):
                ends_well(check)
        finally:
            stop.set()
            worker.join(60)

    def test_data_loader(self) -> None:
        """A layer inside the workers of a DataLoader."""
        call, wanted, check = forked_example()
        check()

        class Rows(torch.utils.data.Dataset[Tensor]):
            def __len__(self) -> int:
                return 4

            def __getitem__(self, _: int) -> Tensor:
                with threads(2), torch.no_grad():
                    return dispatch.run(call, "native").output

        for batch in torch.utils.data.DataLoader(Rows(), num_workers=2, multiprocessing_context="fork", timeout=60):
            assert_close(batch[0], wanted)


# ---- the functions inside the cells ----------------------------------------------------------------------------------


def tanh_of(x: Tensor) -> Tensor:
    """Through an RNN of one unit and weight one: a row for each number."""
    layer = RNN(1, 1, bias=False, backend="native", dtype=x.dtype)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1)
        layer.weight_hh_l0.fill_(0)
        return layer(x[None, :, None])[0].flatten()


def sigmoid_of(x: Tensor) -> Tensor:
    """Through the output gate of an LSTM that keeps a cell state of which tanh is 1."""
    layer = LSTM(1, 1, backend="native", dtype=x.dtype)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.fill_(0)
        layer.weight_ih_l0[3] = 1
        layer.bias_ih_l0[:2] = torch.tensor([-1e4, 1e4])
        state = torch.zeros(1, len(x), 1, dtype=x.dtype), torch.full((1, len(x), 1), 40, dtype=x.dtype)
        return layer(x[None, :, None], state)[0].flatten()


def units_in_the_last_place(got: Tensor, exact: Sequence[Any]) -> float:
    """The largest error, in steps between neighbouring numbers of the type; ``exact`` are mpmath's numbers."""
    kind = got.numpy().dtype.type
    return max(
        abs(mpmath.mpf(float(y)) - value) / float(np.spacing(np.abs(kind(float(value)))))
        for y, value in zip(got, exact, strict=True)
    )


def grid(dtype: torch.dtype, lowest: float, highest: float, count: int) -> Tensor:
    """Even steps around zero, then powers of ten of both signs; all in the range."""
    smallest = math.log10(torch.finfo(dtype).tiny) - 5  # with numbers so small that they have fewer digits
    powers = torch.logspace(smallest, math.log10(max(-lowest, highest)), count // 3, dtype=torch.float64)
    steps = torch.linspace(-12, 12, count, dtype=torch.float64)
    near_halves = torch.arange(-20, 21) * math.log(2) / 2 + torch.tensor([-1e-6, 0, 1e-6])[:, None]
    x = torch.cat([steps, powers, -powers, near_halves.flatten(), near_halves.flatten() / 2]).to(dtype)
    return x[(x >= lowest) & (x <= highest)]


@pytest.mark.parametrize(("dtype", "count"), [(torch.float32, 4000), (torch.float64, 1200)], ids=str)
def test_tanh_is_exact(isa: str, dtype: torch.dtype, count: int) -> None:
    """To three units in the last place."""
    x = grid(dtype, -1e4, 1e4, count)
    with mpmath.workdps(40):
        assert units_in_the_last_place(tanh_of(x), [mpmath.tanh(float(v)) for v in x]) < 3


@pytest.mark.parametrize(
    ("dtype", "count", "lowest"), [(torch.float32, 4000, -87), (torch.float64, 1200, -707)], ids=str
)
def test_sigmoid_is_exact(isa: str, dtype: torch.dtype, count: int, lowest: float) -> None:
    """To three units in the last place; below, where it is nearly too small for the type, it stays as small."""
    x = grid(dtype, lowest, 1e4, count)
    with mpmath.workdps(40):
        assert units_in_the_last_place(sigmoid_of(x), [1 / (1 + mpmath.exp(-float(v))) for v in x]) < 3
    below = sigmoid_of(-torch.logspace(math.log10(-lowest), 4, 50, dtype=dtype))
    assert ((below >= 0) & (below <= 10 * torch.finfo(dtype).tiny)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_infinity_and_nan_in_the_functions(isa: str, dtype: torch.dtype) -> None:
    """The limits are reached, NaN stays NaN, and the largest numbers do not overflow."""
    largest = torch.finfo(dtype).max
    x = torch.tensor([math.inf, -math.inf, math.nan, largest, -largest, 0.0], dtype=dtype)
    assert_close(tanh_of(x), x.tanh(), rtol=0, atol=0, equal_nan=True)
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
    """It reaches no other sequence and no step before, to the bit; nor others' gradients."""
    call = build(spec, 5, 7, directions=BOTH)
    spoilt = call._replace(x=call.x.detach().index_put((torch.tensor(2), torch.tensor(3)), torch.tensor(bad).double()))
    spoilt.x.requires_grad_()
    others = [0, 1, 2, 4, 5, 6]
    outputs, gradients = [], []
    for c in (call, spoilt):
        forward, backward = dispatch.run(c, "native").passes()
        outputs.append((forward.output, backward.output))
        sums = [cases.uneven_sum([r.output[:, others], *(s[others] for s in r.state)]) for r in (forward, backward)]
        gradients.append(torch.autograd.grad(sums, c.x)[0][:, others])
    for clean, touched, before in zip(*outputs, (slice(0, 2), slice(3, 5)), strict=True):
        assert_close(touched[:, others], clean[:, others], rtol=0, atol=0)
        assert_close(touched[before, 3], clean[before, 3], rtol=0, atol=0)
        assert not touched[2, 3].equal(clean[2, 3])
        if math.isnan(bad):
            assert touched[2, 3].isnan().all()
    assert_close(gradients[1], gradients[0], rtol=0, atol=0)


@pytest.mark.parametrize("recompute", [False, True])
@EACH_LARGE
def test_padding_is_never_seen_by_threads(case: tuple[str, Callable[[], Call], int], recompute: bool) -> None:
    """Padding full of NaN changes nothing, to the bit, at sizes that use several threads."""
    _, make, count = case
    call = to(make(), torch.float32)._replace(recompute=recompute)
    if call.lengths is None:
        call = call._replace(lengths=torch.arange(call.x.shape[1]) % (call.x.shape[0] - 1) + 1)
    padding = (torch.arange(call.x.shape[0])[:, None] >= call.lengths)[..., None]
    nan = call._replace(x=call.x.detach().masked_fill(padding, math.nan).requires_grad_())
    with threads(count):
        assert_close(answers(nan), answers(call), rtol=0, atol=0)


def test_relu_of_infinity_and_nan() -> None:
    """As in torch, forward and backward."""
    x = torch.tensor([math.inf, -math.inf, math.nan, -0.0, 1e30])[None, :, None]
    torch_layer = nn.RNN(1, 3, nonlinearity="relu")
    layer = RNN(1, 3, nonlinearity="relu", backend="native")
    layer.load_state_dict(torch_layer.state_dict())
    found = []
    for one in (layer, torch_layer):
        leaf = x.clone().requires_grad_()
        output, h = one(leaf)
        found.append((output, h, torch.autograd.grad(output[0, [0, 1, 3, 4]].sum(), leaf)[0][:, [0, 1, 3, 4]]))
    assert_close(found[0], found[1], equal_nan=True)


# ---- memory of every kind --------------------------------------------------------------------------------------------


def misaligned(x: Tensor) -> Tensor:
    """A copy that begins at an odd address."""
    room = bytearray(x.nbytes + 2)
    odd = 1 + torch.frombuffer(room, dtype=torch.uint8).data_ptr() % 2
    return torch.frombuffer(room, dtype=x.dtype, count=x.numel(), offset=odd).view(x.shape).copy_(x)


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
    """Any strides, signs and addresses are read as the numbers they mean, forward and backward."""
    call = build(CellSpec("gru", inputs, 9), 4, 3, [4, 0, 3], BOTH)
    x = layout(call.x.detach())
    plain = torch.empty_like(x, memory_format=torch.contiguous_format).copy_(x)
    got = answers(call._replace(x=x.requires_grad_()))
    assert_close(got, answers(call._replace(x=plain.requires_grad_())), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_odd_addresses_everywhere(dtype: torch.dtype) -> None:
    """Input, weights, states and noise may all begin between numbers."""
    call = to(noisy(build(lstm(peephole=True), 4, 3, [4, 0, 3])), dtype)

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
    assert_close(answers(call._replace(x=move(call.x), passes=(moved,))), answers(call), rtol=0, atol=0)


def test_weights_and_states_of_any_layout() -> None:
    """Transposed weights, one state for all sequences, one mask for all steps."""
    call = noisy(build(lstm(peephole=True), 4, 3, [4, 0, 3]))
    (p,) = call.passes
    zoneout = tuple(z[:1].expand_as(z) for z in p.zoneout or ())  # type: ignore[index]
    state = tuple(s[:1].detach().expand_as(s).requires_grad_() for s in p.state)
    params = {
        name: w.detach().T.contiguous().T.requires_grad_() if w.dim() == 2 else w.detach().repeat_interleave(2)[::2]
        for name, w in p.params.items()
    }
    params = {name: w.requires_grad_() for name, w in params.items()}
    odd = call._replace(passes=(p._replace(params=params, state=state, zoneout=zoneout),))
    assert not params["weight_hh"].is_contiguous()
    assert_near(answers(odd), answers(odd, "reference"), torch.float64)


def test_initial_state_of_the_caller_is_kept() -> None:
    """Neither a call nor its gradients write into the state they are handed."""
    layer = LSTM(3, 5, backend="native")
    state = torch.randn(1, 2, 5), torch.randn(1, 2, 5)
    before = copy.deepcopy(state)
    layer(torch.randn(4, 2, 3), state)[0].sum().backward()
    assert_close(state, before, rtol=0, atol=0)


# ---- gradients of some things, for some things -----------------------------------------------------------------------


@ONE_OF_EACH
@pytest.mark.parametrize("recompute", [False, True])
def test_gradient_of_one_thing(spec: CellSpec, recompute: bool) -> None:
    """With everything but one tensor frozen, its gradient is what it is among all."""
    call = noisy(build(spec, 4, 3, [4, 2, 3], BOTH, recompute=recompute))
    everything = answers(call)
    for name in cases.leaves(call):
        one = to(call, torch.float64)
        inputs = cases.leaves(one)
        for other in inputs.values():
            other.requires_grad_(False)
        inputs[name].requires_grad_()
        total = cases.uneven_sum(cases.values(one, dispatch.run(one, "native")).values())
        assert_close(torch.autograd.grad(total, inputs[name])[0], everything[f"gradient of {name}"], rtol=0, atol=0)


@ONE_OF_EACH
def test_gradient_of_one_output(spec: CellSpec) -> None:
    """Only one of the outputs and final states is used; or a sum, whose gradient is one number, expanded."""
    call = build(spec, 4, 3, [4, 2, 3], BOTH)
    for name in cases.values(call, dispatch.run(call, "native")):
        found = []
        for backend in ("native", "reference"):
            used = cases.values(call, dispatch.run(call, backend))[name]
            inputs = list(cases.leaves(call).values())
            found.append(torch.autograd.grad(used.sum(), inputs, materialize_grads=True))
        assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_can_be_taken_twice(recompute: bool) -> None:
    """Backward leaves what forward saved as it was."""
    call = example(SPECS[7], torch.float64)[0]._replace(recompute=recompute)
    total = cases.uneven_sum(cases.values(call, dispatch.run(call, "native")).values())
    inputs = list(cases.leaves(call).values())
    first = torch.autograd.grad(total, inputs, retain_graph=True)
    assert_close(torch.autograd.grad(total, inputs), first, rtol=0, atol=0)


def test_lengths_changed_in_place() -> None:
    """A caller who uses one tensor of lengths again gets the gradients of the old ones, or an error."""
    call = build(lstm(), 5, 3, [5, 2, 4])
    wanted = answers(call)
    result = dispatch.run(call, "native")
    assert call.lengths is not None
    call.lengths.copy_(torch.tensor([1, 5, 5]))
    with contextlib.suppress(RuntimeError):
        assert_close(cases.with_gradients(call, result), wanted, rtol=0, atol=0)


def test_output_changed_in_place() -> None:
    """Backward needs the output: torch says so if it was written to."""
    output, _ = GRU(3, 5, backend="native")(torch.randn(4, 2, 3))
    output.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


Dependent = tuple[Tensor, list[Tensor]]


def chunked(backend: str) -> Dependent:
    """A sequence in two pieces: the second one's state depends on the weights too."""
    layer, x = LSTM(2, 3, dtype=torch.float64, backend=backend), cases.numbers(4, 2, 2, seed=1)
    _, state = layer(x[:2])
    return layer(x[2:], state)[0], [x, *layer.parameters()]


def tied_directions(backend: str) -> Dependent:
    """Both directions have one recurrent weight."""
    layer = GRU(2, 3, bidirectional=True, dtype=torch.float64, backend=backend)
    layer.weight_hh_l0_reverse = layer.weight_hh_l0
    x = cases.numbers(4, 2, 2, seed=1)
    return layer(x)[0], [x, layer.weight_hh_l0]


def tied_layers(backend: str) -> Dependent:
    """The second layer has the first one's weights."""
    layer = RNN(3, 3, 2, dtype=torch.float64, backend=backend)
    layer.weight_ih_l1, layer.weight_hh_l1 = layer.weight_ih_l0, layer.weight_hh_l0
    x = cases.numbers(4, 2, 3, seed=1)
    return layer(x)[0], [x, layer.weight_ih_l0, layer.weight_hh_l0]


def encoded(backend: str) -> Dependent:
    """The initial state is a function of the input."""
    layer, x = RNN(3, 3, dtype=torch.float64, backend=backend), cases.numbers(4, 2, 3, seed=1)
    return layer(x, x.mean(0, keepdim=True).sin())[0], [x]


@pytest.mark.parametrize("how", [chunked, tied_directions, tied_layers, encoded])
def test_inputs_that_depend_on_each_other(how: Callable[[str], Dependent]) -> None:
    """First gradients are the same with ``create_graph``, and second ones are right."""

    def first(backend: str, create_graph: bool) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        torch.manual_seed(0)
        output, inputs = how(backend)
        return torch.autograd.grad(cases.uneven_sum([output]), inputs, create_graph=create_graph), inputs

    wanted, inputs = first("reference", True)
    assert_close(first("native", False)[0], wanted)
    got, own_inputs = first("native", True)
    assert_close(got, wanted)
    second = [
        torch.autograd.grad(cases.uneven_sum(gradients), leaves)
        for gradients, leaves in ((got, own_inputs), (wanted, inputs))
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
    """Of input, state and weights, beside finite differences."""
    torch.manual_seed(0)
    layer = make()
    weights = dict(layer.named_parameters())
    x = cases.numbers(3, 2, 2, seed=0)
    state = tuple(cases.numbers(layer.num_directions, 2, 3, seed=1 + i) for i in range(len(layer.specs[0].state_sizes)))

    def outputs(x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        own, initial = others[: len(weights)], others[len(weights) :]
        named = dict(zip(weights, own, strict=True))
        output, final = functional_call(layer, named, (x, initial if len(initial) > 1 else initial[0], [3, 2]))
        return (output, *(final if isinstance(final, tuple) else (final,)))

    inputs = (x, *weights.values(), *state)
    assert gradcheck(outputs, inputs, fast_mode=True)
    assert gradgradcheck(outputs, inputs, fast_mode=True)


# ---- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["native", "auto"])
def test_layer_refuses(backend: str) -> None:
    """Wrong types, ranks, widths and lengths are errors that say what is wrong."""
    layer = LSTM(3, 5, backend=backend)
    x = torch.zeros(4, 2, 3)
    for bad, says in (
        (x.double(), "input is torch.float64, the weights are torch.float32"),
        (x.long(), "expected floating-point input"),
        (x[..., :2], "expected 3 features"),
        (x[None], "expected 3 dimensions"),
        (x[0, 0], "expected 3 dimensions"),
    ):
        with pytest.raises(ValueError, match=says):
            layer(bad)
    for lengths in ([5, 1], [-1, 4]):
        with pytest.raises(ValueError, match=r"lengths must be in 0\.\.4"):
            layer(x, lengths=lengths)
    with pytest.raises(ValueError, match=r"lengths must have shape \(2,\)"):
        layer(x, lengths=[4])
    with pytest.raises(ValueError, match="the state is"):
        layer(x, (torch.zeros(1, 2, 5).double(), torch.zeros(1, 2, 5).double()))


def test_mixed_types_are_refused_by_name() -> None:
    """One weight or state of another type, or a type there are no kernels for."""
    call = build(lstm(), 2, 2, dtype=torch.float32)
    (p,) = call.passes
    for other in (
        p._replace(params={**p.params, "weight_hh": p.params["weight_hh"].double()}),
        p._replace(state=(p.state[0], p.state[1].bfloat16())),
    ):
        with pytest.raises(BackendUnavailable, match="differ in dtype or device"):
            dispatch.run(call._replace(passes=(other,)), "native")
    with pytest.raises(BackendUnavailable, match=r"no torch\.float16"):
        dispatch.run(to(call, torch.float16), "native")
    with pytest.raises(BackendUnavailable, match="on meta"):
        dispatch.run(call._replace(x=call.x.detach().to("meta")), "native")


@pytest.mark.parametrize("lengths", [[5, 0], [2, -1], [2**40, 1]], ids=str)
def test_the_op_checks_lengths(lengths: list[int]) -> None:
    """The kernels themselves refuse lengths that would have them read past the end."""
    call = build(lstm(), 4, 2, [4, 4])
    x, weights, states, noise, _, *rest = raw(call)
    with pytest.raises((ValueError, RuntimeError), match="lengths must be in"):
        torch.ops.lstmkit.recurrent(x, weights, states, noise, torch.tensor(lengths), *rest)


def test_a_weight_of_the_wrong_shape() -> None:
    """One that was put in the place of the layer's own is refused, not read past its end."""
    layer = LSTM(3, 8, backend="native")
    layer.weight_hh_l0 = nn.Parameter(torch.zeros(31, 8))
    with pytest.raises((ValueError, RuntimeError)):
        layer(torch.zeros(2, 1, 3))


def bad_inputs() -> dict[str, Callable[[list[Any]], object]]:
    """Changes to what the op is given (x, weights, states, noise, lengths, shares, ...) that it must not survive."""
    sparse = torch.zeros(16, 4).to_sparse()

    def put(at: int, value: Any, k: int | None = None) -> Callable[[list[Any]], object]:
        return lambda handed: operator.setitem(handed if k is None else handed[at], at if k is None else k, value)

    return {
        "input of another width": put(0, torch.zeros(4, 2, 5)),
        "input of two dimensions": put(0, torch.zeros(4, 3)),
        "input of four dimensions": put(0, torch.zeros(4, 2, 3, 1)),
        "a weight too few": lambda handed: handed[1].pop(),
        "a weight too small": put(1, torch.zeros(15, 4), 1),
        "a weight of other numbers": put(1, torch.zeros(16, 4, dtype=torch.float64), 1),
        "a weight elsewhere": put(1, torch.zeros(16, 4, device="meta"), 1),
        "a sparse weight": put(1, sparse, 1),
        "a state too few": lambda handed: handed[2].pop(),
        "a state too small": put(2, torch.zeros(1, 4), 0),
        "too little noise": lambda handed: handed[3].pop(),
        "a mask too small": put(3, torch.zeros(1, 4), 0),
        "lengths too few": put(4, torch.tensor([1])),
        "shares too few": lambda handed: handed[5].pop(),
    }


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "attributes"])
@pytest.mark.parametrize("bad", bad_inputs())
def test_the_extension_checks_what_it_reads(bad: str, exchange: bool, reads_by: Callable[[bool], None]) -> None:
    """Whatever it is handed: an error that says what was expected, and nothing is read past its end."""
    reads_by(exchange)
    call = build(CellSpec("lstm", 3, 4), 4, 2, [4, 2], dtype=torch.float32)
    layer = native_kernels.layer_for(call.spec, (False,), False, torch.float32)
    handed = [x if isinstance(x, (Tensor, list)) else list(x) for x in native._inputs(call, layer.names)]
    outputs = native_kernels.empty_outputs(layer, native_kernels.Inputs(*handed), False)
    layer.native.forward(handed, 1, *outputs)
    bad_inputs()[bad](handed)
    with pytest.raises((ValueError, RuntimeError, NotImplementedError), match=r"expected|have storage"):
        layer.native.forward(handed, 1, *outputs)
    for no_tensor in (None, 1, [1.0], torch.zeros(1).numpy()):
        handed[0] = no_tensor
        with pytest.raises(TypeError, match=r"expected a torch\.Tensor"):
            layer.native.forward(handed, 1, *outputs)


@pytest.fixture
def reads_by() -> Iterator[Callable[[bool], None]]:
    """Sets how the extension reads tensors, for one test."""

    def by(exchange: bool) -> None:
        assert kernels.use_exchange(exchange) == exchange

    yield by
    kernels.use_exchange(True)


@EACH_SPEC
def test_tensors_read_by_their_attributes(spec: CellSpec, reads_by: Callable[[bool], None]) -> None:
    """What torch before 2.10 has to offer is enough, for every layout."""
    call = build(spec, 5, 3, [5, 0, 3], BOTH)
    spread = call._replace(x=call.x.detach().mT.contiguous().mT.requires_grad_())
    wanted = [answers(c) for c in (call, spread)]
    reads_by(False)
    assert_close([answers(c) for c in (call, spread)], wanted, rtol=0, atol=0)


@DTYPES
@EACH_SPEC
def test_no_state_is_zero(spec: CellSpec, dtype: torch.dtype) -> None:
    """In every pass, or in one of the two."""
    call = build(spec, 5, 3, [5, 0, 3], BOTH, dtype)
    zeros = [p._replace(state=tuple(torch.zeros_like(s).requires_grad_() for s in p.state)) for p in call.passes]
    wanted = answers(call._replace(passes=tuple(zeros)))
    for without in ((0,), (1,), (0, 1)):
        passes = [p._replace(state=()) if i in without else p for i, p in enumerate(zeros)]
        got = answers(call._replace(passes=tuple(passes)))
        assert got.keys() == {name for name in wanted if not any(f"{i}.initial" in name for i in without)}
        assert_close(got, {name: wanted[name] for name in got}, rtol=0, atol=0)


@forks
@pytest.mark.parametrize("zoned", [0, 1])
def test_directions_with_zoneout_of_their_own(zoned: int) -> None:
    """Zoneout of the cell state in one direction only: refused, or right. In a child: memory may break."""
    call = build(lstm(), 4, 2, directions=BOTH)
    passes = list(call.passes)
    passes[zoned] = passes[zoned]._replace(zoneout=(0.1, 0.3))
    one = call._replace(passes=tuple(passes))
    if (refusal := native.unsupported_reason(one)) is not None:
        pytest.skip(refusal)
    ends_well(lambda: assert_near(answers(one), exact(one), torch.float64))


@pytest.mark.parametrize("shape", [(0, 2), (3, 0)])
def test_nothing_to_do(shape: tuple[int, int]) -> None:
    """By name the kernels say that there is nothing; ``"auto"`` gives empty tensors."""
    layer = GRU(3, 5, backend="native")
    with pytest.raises(BackendUnavailable, match="nothing to compute"):
        layer(torch.zeros(*shape, 3))
    layer.backend = "auto"
    output, h = layer(torch.zeros(*shape, 3))
    assert output.shape == (*shape, 5)
    assert h.shape == (1, shape[1], 5)


# ---- torch's machinery -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        build(CellSpec("lstm", 3, 5, peephole=True), 4, 2, [4, 1], BOTH),
        noisy(build(CellSpec("gru", 3, 5), 4, 2, recompute=True)),
    ],
    ids=["lstm", "gru"],
)
def test_opcheck(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schema, registration of gradients, fake tensors, and tracing with sizes that vary."""
    # Of what is kept for backward the places between rows are never written: they would differ from call to call.
    monkeypatch.setattr(Tensor, "new_empty", Tensor.new_zeros)
    checks = torch.library.opcheck(torch.ops.lstmkit.recurrent.default, raw(call))
    assert set(checks.values()) == {"SUCCESS"}


@pytest.mark.parametrize("recompute", [False, True])
@EACH_SPEC
def test_nothing_is_left_unwritten(spec: CellSpec, recompute: bool) -> None:
    """Every number of every result is written: fresh memory, full of NaN here, shows through nowhere."""
    call, wanted = example(spec, torch.float64)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan().all()
        assert_near(answers(call._replace(recompute=recompute)), wanted, torch.float64)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_compiled_training_step(name: str) -> None:
    """The whole graph, forward and backward, is one node a layer, and gives the eager numbers."""
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
    """torch's default compiler, with something around the layer to compile."""
    torch.compiler.reset()
    torch.manual_seed(0)
    layer, x = LSTM(3, 5, backend="native"), torch.randn(4, 2, 3)

    def step(x: Tensor, state: None, lengths: None) -> tuple[Tensor, Any]:
        output, final = layer(x * 2, state, lengths)
        return output.tanh(), final

    compiled = torch.compile(step, fullgraph=True)
    assert_close(training_step(layer, compiled, x, None), training_step(layer, step, x, None), rtol=1e-5, atol=1e-6)


def test_functional_call_and_checkpoint() -> None:
    """Weights handed over from outside; and a forward that backward runs once more."""
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
    """``vmap``, ``grad``, ``jvp`` and dual numbers go through another back end, unasked, and are right."""
    torch.manual_seed(0)
    layer = GRU(3, 5, dtype=torch.float64)
    x, weights = torch.randn(6, 4, 2, 3, dtype=torch.float64), dict(layer.named_parameters())

    def total(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return cases.uneven_sum([functional_call(layer, weights, (x,))[0]])

    assert_close(vmap(lambda one: layer(one)[0])(x), torch.stack([layer(one)[0] for one in x]))
    detached = {name: w.detach() for name, w in weights.items()}
    wanted = torch.autograd.grad(total(weights, x[0]), list(weights.values()))
    assert_close(list(grad(total)(detached, x[0]).values()), list(wanted))
    step = 1e-6 * torch.ones_like(x[0])
    difference = (layer(x[0] + step)[0] - layer(x[0] - step)[0]) / 2e-6
    assert_close(jvp(lambda one: layer(one)[0], (x[0],), (step * 1e6,))[1], difference, rtol=1e-6, atol=1e-8)
    with forward_ad.dual_level():
        dual = layer(forward_ad.make_dual(x[0], step * 1e6))[0]
        assert_close(forward_ad.unpack_dual(dual).tangent, difference, rtol=1e-6, atol=1e-8)
    layer.backend = "native"
    with pytest.raises(BackendUnavailable, match=r"torch\.func"):
        vmap(lambda one: layer(one)[0])(x)
    with forward_ad.dual_level(), pytest.raises(BackendUnavailable, match="forward-mode"):
        layer(x[0])


def test_modes_and_copies() -> None:
    """Inference mode, autocast, copies and pickles of a layer."""
    torch.manual_seed(0)
    layer, x = LSTM(3, 5, 2, backend="native"), torch.randn(4, 2, 3)
    wanted = layer(x)[0]
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_close(twin(x)[0], wanted, rtol=0, atol=0)
    with torch.inference_mode():
        inferred = layer(x)[0]
    assert inferred.is_inference()
    assert_close(inferred.clone(), wanted.detach(), rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = layer(x)
        output.float().sum().backward()
    assert output.dtype == torch.bfloat16
    assert_close(output.float(), wanted, rtol=2e-2, atol=2e-2)
    assert all(w.grad is not None and w.grad.dtype == torch.float32 for w in layer.parameters())


def test_recompute_keeps_less() -> None:
    """Over 400 steps less than a third of the bytes is kept for backward."""

    def kept(recompute: bool) -> int:
        layer, seen = LSTM(8, 32, backend="native", recompute=recompute), {}

        def pack(t: Tensor) -> Tensor:
            seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        x = torch.randn(400, 4, 8)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            output, _ = layer(x)
        output.sum().backward()
        weights = {w.untyped_storage().data_ptr() for w in layer.parameters()} | {x.untyped_storage().data_ptr()}
        return sum(size for at, size in seen.items() if at not in weights)

    assert kept(True) < kept(False) / 3


# ---- step by step ----------------------------------------------------------------------------------------------------

STREAMED: dict[str, Callable[[torch.dtype], RecurrentLayer]] = {
    "lstm, three layers": lambda d: LSTM(6, 6, 3, residual=True, dtype=d),
    "lstm, projected": lambda d: LSTM(6, 9, 2, proj_size=4, dtype=d),
    "lstm, everything": lambda d: LSTM(
        6, 9, 2, proj_size=4, peephole=True, coupled=True, layer_norm=True, zoneout=0.2, dtype=d
    ),
    "lstm, zoneout": lambda d: LSTM(6, 17, 2, peephole=True, zoneout=0.2, recompute=True, dtype=d),
    "gru": lambda d: GRU(6, 17, 2, zoneout=0.1, dtype=d),
    "gru, normalised": lambda d: GRU(6, 6, 2, layer_norm=True, residual=True, dtype=d),
    "rnn": lambda d: RNN(6, 8, dtype=d),
    "rnn, relu": lambda d: RNN(6, 7, 2, nonlinearity="relu", dtype=d),
}


def as_states(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


@DTYPES
@pytest.mark.parametrize("make", STREAMED.values(), ids=STREAMED)
def test_stream(isa: str, make: Callable[[torch.dtype], RecurrentLayer], dtype: torch.dtype) -> None:
    """One by one, in chunks, and both mixed: the outputs and states of one long forward."""
    torch.manual_seed(0)
    layer = make(dtype).eval()
    layer.backend = "native"
    close = {"rtol": 2**-6, "atol": 2**-6} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    x = torch.randn(9, 3, 6, dtype=dtype)
    with torch.no_grad():
        start = layer(torch.randn(2, 3, 6, dtype=dtype))[1]
        whole, final = layer(x, start)
    live = layer.stream(start)
    assert_close(torch.stack([live(step) for step in x]), whole, **close)
    assert live._stepper is not None
    assert_close(as_states(live.state), as_states(final), **close)

    live.state = start
    out = torch.empty_like(whole[0])
    for t in range(4):
        assert live(x[t], out=out) is out
        assert_close(out, whole[t], **close)
    assert_close(live(x[4:6]), whole[4:6], **close)
    live.state = live.state
    assert_close(torch.stack([live(step) for step in x[6:]]), whole[6:], **close)
    live.reset()
    assert live.state is None
    with torch.no_grad():
        assert_close(live(x[0]), layer(x[:1])[0][0], **close)


def test_stream_of_large_layers_in_threads() -> None:
    """Threads share the units of a step."""
    torch.manual_seed(0)
    layer, x = GRU(5, 300, 2, residual=True, backend="native").eval(), torch.randn(6, 2, 5)
    with torch.no_grad():
        wanted = layer(x)[0]
    with threads(3):
        live = layer.stream()
        assert_close(torch.stack([live(step) for step in x]), wanted, rtol=1e-5, atol=1e-6)


def test_stream_refuses_a_wrong_place_for_the_result() -> None:
    """Another shape, type or layout, or none of the CPU's."""
    live, x = LSTM(3, 5).eval().stream(), torch.randn(2, 3)
    live(x)
    before = copy.deepcopy(live.state)
    for out in (
        torch.empty(3, 5),
        torch.empty(2, 6),
        torch.empty(2, 5, dtype=torch.float64),
        torch.empty(5, 2).T,
        torch.empty(2, 5, device="meta"),
    ):
        with pytest.raises(ValueError, match="out must be a contiguous"):
            live(x, out=out)
    assert_close(live.state, before, rtol=0, atol=0)


def next_step_is_right(layer: RecurrentLayer, live: Any, x: Tensor) -> None:
    with torch.no_grad():
        wanted, final = layer(x[None], live.state)
    assert_close(live(x), wanted[0], rtol=1e-5, atol=1e-6)
    assert_close(as_states(live.state), as_states(final), rtol=1e-5, atol=1e-6)


def by_optimiser(layer: RecurrentLayer) -> None:
    optimiser = torch.optim.SGD(layer.parameters(), 0.5)
    layer(torch.ones(3, 2, 3))[0].sum().backward()
    optimiser.step()


def by_hand(layer: RecurrentLayer) -> None:
    with torch.no_grad():
        layer.weight_ih_l0.mul_(3)  # type: ignore[operator]


def by_hand_and_mode(layer: RecurrentLayer) -> None:
    by_hand(layer)
    layer.eval()


def by_replacing(layer: RecurrentLayer) -> None:
    layer.weight_hh_l0 = nn.Parameter(torch.ones_like(layer.weight_hh_l0))  # type: ignore[arg-type]


def by_replacing_with_as_old_a_one(layer: RecurrentLayer) -> None:
    new = torch.ones_like(layer.weight_hh_l0)  # type: ignore[arg-type]
    while new._version < layer.weight_hh_l0._version:  # type: ignore[operator]
        new.mul_(2)
    layer.weight_hh_l0 = nn.Parameter(new)


def by_loading(layer: RecurrentLayer) -> None:
    layer.load_state_dict({name: w.detach() * 2 for name, w in layer.named_parameters()})


@pytest.mark.parametrize(
    "change", [by_optimiser, by_hand, by_hand_and_mode, by_replacing, by_replacing_with_as_old_a_one, by_loading]
)
def test_stream_sees_new_weights(change: Callable[[RecurrentLayer], None]) -> None:
    """At the next step, with the state that there was."""
    torch.manual_seed(0)
    layer, x = LSTM(3, 5, 2), torch.randn(4, 2, 3)
    live = layer.stream()
    live(x[0])
    change(layer)
    for step in x[1:]:
        next_step_is_right(layer, live, step)


def test_stream_sees_new_weights_behind_a_parametrization() -> None:
    """Where a weight is computed from others, those are watched."""
    torch.manual_seed(0)
    layer, x = LSTM(3, 5).eval(), torch.randn(2, 2, 3)
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    live = layer.stream()
    live(x[0])
    with torch.no_grad():
        layer.parametrizations.weight_hh_l0.original0.mul_(3)  # type: ignore[union-attr]
    next_step_is_right(layer, live, x[1])


def test_stream_reloads() -> None:
    """A change through ``.data`` leaves no mark: ``reload`` reads the weights again and keeps the state."""
    torch.manual_seed(0)
    layer, x = LSTM(3, 5).eval(), torch.randn(4, 2, 3)
    live = layer.stream()
    live(x[0])
    layer.weight_hh_l0.data.mul_(3)  # type: ignore[union-attr]
    before = copy.deepcopy(live.state)
    live.reload()
    assert_close(live.state, before, rtol=0, atol=0)
    next_step_is_right(layer, live, x[1])


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (torch.zeros(4, 3), r"expected the state hidden \(1, 4, 5\)"),
        (torch.zeros(2, 4), "expected 3 features"),
        (torch.zeros(2, 3, dtype=torch.float64), "input is torch.float64, the weights are torch.float32"),
        (torch.zeros(3), "expected 3 dimensions"),
    ],
    ids=["another batch", "another width", "another type", "no batch"],
)
def test_stream_refuses(bad: Tensor, says: str) -> None:
    """A step that does not fit is an error, again and again, and the state is as before."""
    torch.manual_seed(0)
    layer, x = LSTM(3, 5).eval(), torch.randn(2, 2, 3)
    live = layer.stream()
    live(x[0])
    before = copy.deepcopy(live.state)
    for _ in range(2):
        with pytest.raises(ValueError, match=says):
            live(bad)
    assert_close(live.state, before, rtol=0, atol=0)
    next_step_is_right(layer, live, x[1])


def test_stream_of_another_batch_after_reset() -> None:
    """A reset stream takes any number of sequences."""
    layer = LSTM(3, 5).eval()
    live = layer.stream()
    live(torch.randn(2, 3))
    live.reset()
    x = torch.randn(4, 3)
    assert_close(live(x), layer(x[None])[0][0], rtol=1e-5, atol=1e-6)


def test_stream_in_training() -> None:
    """Dropout falls as it does in forward; and a layer put into ``eval`` goes on without."""
    torch.manual_seed(0)
    layer, x = LSTM(3, 50, 2, dropout=0.5), torch.randn(3, 2, 3)
    live = layer.stream()
    torch.manual_seed(1)
    first = live(x[0])
    torch.manual_seed(1)
    assert_close(first, layer(x[:1])[0][0].detach(), rtol=1e-5, atol=1e-6)
    assert not first.requires_grad
    layer.eval()
    next_step_is_right(layer, live, x[1])
    layer.train()
    live(x[2])


@pytest.mark.parametrize("layout", ["every second number", "negative bit", "odd address", "one sequence, expanded"])
def test_stream_of_any_layout(layout: str) -> None:
    """A step of any strides is read as the numbers it means."""
    torch.manual_seed(0)
    layer, x = LSTM(9, 5).eval(), torch.randn(3, 2, 9)
    live = layer.stream()
    live(x[0])
    for step in x[1:]:
        next_step_is_right(layer, live, LAYOUTS[layout](step[None])[0])


def test_stream_keeps_its_stepper() -> None:
    """Steps of any layout go on with the weights packed at the first; so do those with a place for the result."""
    layer, x = LSTM(9, 5, batch_first=True).eval(), torch.randn(2, 4, 9)
    live, out = layer.stream(), torch.empty(2, 5)
    live(x[:, 0])
    stepper = live._stepper
    assert stepper is not None
    steps = [x[:, 1], x[:, 2].mT.contiguous().mT, nn.Parameter(x[:, 3])]
    results = [live(steps[0], out).clone(), live(steps[1]), live(steps[2], out)]
    assert live._stepper is stepper
    assert results[2] is out
    assert_close(torch.stack(results, 1), layer(x)[0][:, 1:].detach(), rtol=1e-5, atol=1e-6)


def test_stream_of_a_layer_made_in_inference_mode() -> None:
    """Its weights have no version to ask for."""
    with torch.inference_mode():
        layer, x = LSTM(3, 5).eval(), torch.randn(2, 2, 3)
        live = layer.stream()
        got = torch.stack([live(step) for step in x])
        assert_close(got, layer(x)[0], rtol=1e-5, atol=1e-6)


# ---- without the extension -------------------------------------------------------------------------------------------


def test_without_the_extension() -> None:
    """Everything runs on torch's own layers, said once; by name the kernels are refused with the reason."""
    script = """
        import sys, warnings
        sys.modules["lstmkit._native"] = None
        import torch
        import lstmkit
        from lstmkit import LSTM, BackendUnavailable
        with warnings.catch_warnings(record=True) as said:
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
        print([(w.category.__name__, str(w.message)) for w in said])
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
    error, said, same = done.stdout.splitlines()
    assert error.startswith("backend 'native' cannot run this: the C++ extension is missing (")
    assert said.count("RuntimeWarning") == 1
    assert said.startswith("[('RuntimeWarning', \"lstmkit runs on torch's own layers, several times slower: the C++")
    assert said.count("), (") == 0
    assert same == "True"
