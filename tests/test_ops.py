"""The contract of a back end, over every cell, option and direction; and the dispatcher.

``cases.run_unbatched`` computes the expected result: it cuts each sequence to its length, flips it if the pass is
reversed, and runs it by itself through the plain forward loop, which ``test_cells.py`` compares with the equations.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import cases
from cases import LAST_DIGITS, map_passes, noisy
from lstmkit.cells import CellSpec
from lstmkit.ops import dispatch
from lstmkit.ops.call import Call, Pass, Zoneout
from lstmkit.ops.cpu import kernels as native_kernels
from lstmkit.ops.dispatch import BackendUnavailable

SPECS = pytest.mark.parametrize("spec", cases.cell_specs(), ids=cases.spec_id)
BACKENDS = pytest.mark.parametrize("backend", cases.BACKENDS)
ABLE = pytest.mark.parametrize("backend", cases.available_backends())
DIRECTIONS = pytest.mark.parametrize("directions", cases.DIRECTIONS.values(), ids=cases.DIRECTIONS)


def accepted(backend: str, *calls: Call) -> list[Call]:
    """The calls that ``backend`` can run; the test is skipped if it refuses all of them."""
    refusals = [dispatch.BACKENDS[backend].unsupported_reason(call) for call in calls]
    if None not in refusals:
        pytest.skip("; ".join(dict.fromkeys(map(str, refusals))))
    return [call for call, refusal in zip(calls, refusals, strict=True) if refusal is None]


def states_and_outputs(call: Call, backend: str) -> dict[str, Tensor]:
    return cases.values(call, dispatch.run(call, backend))


# ---- every back end fulfills the contract ----------------------------------------------------------------------------


@DIRECTIONS
@BACKENDS
@SPECS
def test_contract(spec: CellSpec, backend: str, directions: tuple[bool, ...]) -> None:
    """Outputs, final states and all gradients equal those of every sequence run alone, in every batch shape."""
    calls = [cases.make_call(spec, *shape, directions) for shape in cases.SHAPES.values()]
    for call in accepted(backend, *calls):
        got = cases.with_gradients(call, dispatch.run(call, backend))
        expected = cases.with_gradients(call, cases.run_unbatched(call))
        shape = f"x {tuple(call.x.shape)}, lengths {call.lengths}"
        assert_close(got, expected, **LAST_DIGITS, msg=lambda text, shape=shape: f"{shape}: {text}")


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_torch_runs_the_plain_cells(kind: str) -> None:
    """torch's back end accepts the cells that torch has: it does not pass the contract by refusing."""
    for bias in (True, False):
        call = cases.make_call(CellSpec(kind, 3, 5, bias), lengths=[3, 0, 5], directions=(False, True))
        assert dispatch.BACKENDS["torch"].unsupported_reason(call) is None
    call = cases.make_call(CellSpec("lstm", 3, 5, proj_size=2))
    assert dispatch.BACKENDS["torch"].unsupported_reason(call) is None


@pytest.mark.skipif(native_kernels.extension is None, reason="lstmkit was installed without its extension")
@pytest.mark.parametrize("gate", ["input", "forget", "output"])
def test_an_lstm_without_a_gate_runs_on_the_kernels(gate: str) -> None:
    """The kernels run it as a full LSTM whose gate is open, for sequences and step by step."""
    spec = CellSpec(f"lstm_no_{gate}_gate", 3, 5, peephole=True)
    call = cases.make_call(spec, lengths=[3, 0, 5])
    assert [c.backend for c in dispatch.candidates(call) if c.chosen] == ["native"]
    one_step = cases.make_call(spec, 1, 3)
    stepper = dispatch.stepper([one_step], residual=False)
    assert stepper is not None
    output = stepper(one_step.x[0].detach(), None)
    assert_close(output, dispatch.run(one_step, "reference").output[0].detach(), **LAST_DIGITS)


@pytest.mark.skipif(native_kernels.extension is None, reason="lstmkit was installed without its extension")
@DIRECTIONS
@SPECS
def test_the_kernels_run_all_cells_but_three(spec: CellSpec, directions: tuple[bool, ...]) -> None:
    """The kernels accept all cells but three, with noise too."""
    call = noisy(cases.make_call(spec, lengths=[3, 0, 5], directions=directions))
    refused = spec.kind in ("lstm_full_gates", "lstm_linear_input", "lstm_linear_output")
    assert (dispatch.BACKENDS["native"].unsupported_reason(call) is not None) == refused


@DIRECTIONS
@SPECS
def test_the_reference_accepts_everything(spec: CellSpec, directions: tuple[bool, ...]) -> None:
    """The reference accepts every call, so that ``"auto"`` never raises."""
    call = noisy(cases.make_call(spec, lengths=[3, 0, 5], directions=directions, trace=True))
    for variant in (call, call._replace(x=call.x[:0], lengths=None), call._replace(trace=False, lengths=None)):
        assert dispatch.BACKENDS["reference"].unsupported_reason(variant) is None


@DIRECTIONS
@BACKENDS
@SPECS
def test_padding_does_not_change_the_results(spec: CellSpec, backend: str, directions: tuple[bool, ...]) -> None:
    """NaN and infinity in the padding give the same bits as zeros there, for values and gradients."""
    clean = cases.make_call(spec, 4, 4, [3, 0, 4, 1], directions)
    accepted(backend, clean)
    assert clean.lengths is not None
    padding = (torch.arange(4)[:, None] >= clean.lengths)[..., None].expand_as(clean.x)
    poison = torch.tensor([float("nan"), float("inf"), -float("inf")], dtype=clean.x.dtype).expand_as(clean.x)
    poisoned = clean._replace(x=torch.where(padding, poison, clean.x.detach()).requires_grad_())
    zeros = clean._replace(x=clean.x.detach().masked_fill(padding, 0).requires_grad_())
    expected = cases.with_gradients(zeros, dispatch.run(zeros, backend))
    got = cases.with_gradients(poisoned, dispatch.run(poisoned, backend))
    assert_close(got, expected, rtol=0, atol=0)
    assert all(value.isfinite().all() for value in got.values())
    assert (got["gradient of x"][padding] == 0).all()
    for i in range(len(directions)):
        assert (got[f"{i}.output"][padding[..., :1].expand(-1, -1, spec.output_size)] == 0).all()


@pytest.mark.parametrize("shape", [(0, 2), (3, 0), (0, 0)], ids=["no steps", "no sequences", "nothing"])
@BACKENDS
@SPECS
def test_empty_batches_and_sequences(spec: CellSpec, backend: str, shape: tuple[int, int]) -> None:
    """No steps or no sequences give empty outputs of the right shape, the initial states, and zero gradients."""
    calls = [cases.make_call(spec, *shape, lengths, (False, True)) for lengths in (None, [0] * shape[1])]
    for call in accepted(backend, *calls):
        together = dispatch.run(call, backend)
        for p, result in zip(call.passes, together.passes(), strict=True):
            assert result.output.shape == (*shape, spec.output_size)
            assert_close(result.state, p.state, rtol=0, atol=0)
        assert all(
            (gradient == 0).all()
            for name, gradient in cases.with_gradients(call, together).items()
            if "gradient of" in name and "initial" not in name
        )


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
@ABLE
def test_lengths_of_any_integer_dtype(backend: str, dtype: torch.dtype) -> None:
    """Lengths of any integer dtype give the same results."""
    call = cases.make_call(CellSpec("lstm", 3, 5), 5, 3, [3, 0, 5])
    assert call.lengths is not None
    expected = states_and_outputs(call, backend)
    assert_close(states_and_outputs(call._replace(lengths=call.lengths.to(dtype)), backend), expected, rtol=0, atol=0)


@ABLE
def test_any_strides(backend: str) -> None:
    """A batch-first tensor, transposed, gives the same results as its copy.

    To the last digits: torch's products add up in an order that depends on the layout and on the CPU, and four steps
    can enlarge the difference.
    """
    spec = CellSpec("lstm", 3, 5)
    call = cases.make_call(spec, 4, 3, [3, 1, 4], (False, True))
    for x in (call.x.transpose(0, 1).contiguous().transpose(0, 1), call.x.repeat(1, 1, 2)[..., :3]):
        assert not x.is_contiguous()
        strided = call._replace(x=x)
        assert_close(states_and_outputs(strided, backend), states_and_outputs(call, backend), **LAST_DIGITS)


@ABLE
def test_running_does_not_change_the_call(backend: str) -> None:
    """Running writes to no tensor of the call."""
    call = cases.make_call(CellSpec("lstm", 3, 5), 5, 4, [3, 0, 5, 1], (False, True))
    before = {name: leaf.detach().clone() for name, leaf in cases.leaves(call).items()}
    cases.with_gradients(call, dispatch.run(call, backend))
    assert_close({name: leaf.detach() for name, leaf in cases.leaves(call).items()}, before, rtol=0, atol=0)


@ABLE
def test_without_gradients(backend: str) -> None:
    """Under ``no_grad`` the values are the same."""
    call = cases.make_call(CellSpec("lstm", 3, 5), 5, 4, [3, 0, 5, 1])
    expected = states_and_outputs(call, backend)
    with torch.no_grad():
        got = states_and_outputs(call, backend)
    assert_close(got, {name: value.detach() for name, value in expected.items()}, rtol=0, atol=0)
    assert not any(value.requires_grad for value in got.values())


@SPECS
def test_reference_derivatives(spec: CellSpec) -> None:
    """First and second derivatives of the reference by all inputs equal finite differences.

    Input, weights and states move together along a random line, on which the outputs are a function of one number. A
    wrong derivative by any of them, or a wrong second one by any pair, makes the check fail.
    """
    call = cases.make_call(spec, 3, 2, [2, 3], (False, True))
    inputs = cases.leaves(call)
    line = {name: cases.numbers(*leaf.shape, seed=100 + k).detach() for k, (name, leaf) in enumerate(inputs.items())}

    def along(s: Tensor) -> Tensor:
        moved = {name: leaf.detach() + s * line[name] for name, leaf in inputs.items()}
        passes = [
            p._replace(
                params={name: moved[f"{i}.{name}"] for name in p.params},
                state=tuple(moved[f"{i}.initial {name}"] for name in spec.cell.states),
            )
            for i, p in enumerate(call.passes)
        ]
        moved_call = call._replace(x=moved["x"], passes=tuple(passes))
        return cases.uneven_sum(states_and_outputs(moved_call, "reference").values())

    position = torch.zeros((), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(along, position)
    assert torch.autograd.gradgradcheck(along, position)


# ---- noise -----------------------------------------------------------------------------------------------------------


@DIRECTIONS
@BACKENDS
@SPECS
def test_contract_with_noise(spec: CellSpec, backend: str, directions: tuple[bool, ...]) -> None:
    """The contract holds with recurrent dropout and zoneout, for values and all gradients."""
    call = noisy(cases.make_call(spec, 5, 4, [3, 0, 5, 1], directions))
    accepted(backend, call)
    got = cases.with_gradients(call, dispatch.run(call, backend))
    assert_close(got, cases.with_gradients(call, cases.run_unbatched(call)), **LAST_DIGITS)


@DIRECTIONS
@ABLE
@SPECS
def test_recompute_does_not_change_the_results(spec: CellSpec, backend: str, directions: tuple[bool, ...]) -> None:
    """Values and gradients are the same whether a back end stores the steps or recomputes them."""
    for n_steps, lengths in ((7, None), (17, [3, 0, 17, 1, 16, 9, 17])):
        call = noisy(cases.make_call(spec, n_steps, 7, lengths, directions))
        accepted(backend, call)
        results = [dispatch.run(call._replace(recompute=recompute), backend) for recompute in (False, True)]
        stored, recomputed = (cases.with_gradients(call, result) for result in results)
        assert_close(recomputed, stored, **LAST_DIGITS)


@BACKENDS
@SPECS
def test_a_recurrent_mask_equals_scaled_recurrent_weights(spec: CellSpec, backend: str) -> None:
    """``U (m ⊙ h) = (U diag(m)) h``: a mask equals weights whose columns are scaled by it, at every step."""
    call = cases.make_call(spec, 4, 2, directions=(False, True))
    mask = cases.numbers(spec.output_size, seed=99)
    masked = map_passes(call, lambda p: p._replace(recurrent_mask=mask.expand(2, -1)))
    scaled = map_passes(call, lambda p: p._replace(params={**p.params, "weight_hh": p.params["weight_hh"] * mask}))
    accepted(backend, masked)
    assert_close(states_and_outputs(masked, backend), states_and_outputs(scaled, "reference"), **LAST_DIGITS)


def with_zoneout(call: Call, zoneout: Callable[[Pass], Zoneout]) -> Call:
    return map_passes(call, lambda p: p._replace(zoneout=zoneout(p)))


@BACKENDS
@SPECS
def test_zoneout(spec: CellSpec, backend: str) -> None:
    """Zoneout 1 keeps the state, 0 changes nothing, and one step with ``k`` gives ``k·old + (1 - k)·new``."""
    call = cases.make_call(spec, 4, 3, [4, 1, 3], (False, True))
    keep = with_zoneout(call, lambda p: tuple(torch.ones(4, *s.shape, dtype=s.dtype) for s in p.state))
    accepted(backend, keep)
    for p, result in zip(keep.passes, dispatch.run(keep, backend).passes(), strict=True):
        assert_close(result.state, p.state, **LAST_DIGITS)
    plain = states_and_outputs(call, "reference")
    for off in (
        with_zoneout(call, lambda p: tuple(torch.zeros(4, *s.shape, dtype=s.dtype) for s in p.state)),
        with_zoneout(call, lambda p: tuple(0.0 for _ in p.state)),
    ):
        assert_close(states_and_outputs(off, backend), plain, **LAST_DIGITS)

    one_step = cases.make_call(spec, 1, 3)
    probabilities = [0.25, 0.75, 0.5, 0.125, 0.875][: len(spec.state_sizes)]
    (mixed,) = dispatch.run(with_zoneout(one_step, lambda p: tuple(probabilities)), backend).passes()
    (new,) = dispatch.run(one_step, "reference").passes()
    for k, old, s, result in zip(probabilities, one_step.passes[0].state, new.state, mixed.state, strict=True):
        assert_close(result, k * old + (1 - k) * s, **LAST_DIGITS)
    assert_close(mixed.output[0], mixed.state[0], rtol=0, atol=0)


# ---- traces ----------------------------------------------------------------------------------------------------------


@DIRECTIONS
@BACKENDS
@SPECS
def test_contract_of_traces(spec: CellSpec, backend: str, directions: tuple[bool, ...]) -> None:
    """Gates and states of every step, with their gradients, equal those of every sequence run alone."""
    call = noisy(cases.make_call(spec, 5, 4, [3, 0, 5, 1], directions, trace=True))
    accepted(backend, call)
    together = dispatch.run(call, backend)
    assert_close(
        cases.with_gradients(call, together),
        cases.with_gradients(call, cases.run_unbatched(call)),
        **LAST_DIGITS,
    )
    for result in together.passes():
        assert result.trace is not None
        assert list(result.trace) == list(dict.fromkeys([*spec.cell.gates, *spec.cell.states]))
        assert_close(result.trace[spec.cell.states[0]], result.output, rtol=0, atol=0)


@BACKENDS
@SPECS
def test_traces_satisfy_the_equations(spec: CellSpec, backend: str) -> None:
    """The traced gates and states satisfy the equations of the cell, and gates are between 0 and 1."""
    call = cases.make_call(spec, 6, 3, directions=(False, True), trace=True)
    accepted(backend, call)
    for p, result in zip(call.passes, dispatch.run(call, backend).passes(), strict=True):
        assert result.trace is not None
        trace = {name: gate.flip(0) if p.reverse else gate for name, gate in result.trace.items()}
        before = {
            name: torch.cat([initial[None], trace[name][:-1]])
            for name, initial in zip(spec.cell.states, p.state, strict=True)
        }
        for name in trace.keys() & {"input", "forget", "output", "reset", "update"}:
            assert ((trace[name] > 0) & (trace[name] < 1)).all()
        if spec.kind == "lstm":
            assert_close(
                trace["cell"], trace["forget"] * before["cell"] + trace["input"] * trace["candidate"], **LAST_DIGITS
            )
            if spec.coupled:
                assert_close(trace["input"], 1 - trace["forget"], **LAST_DIGITS)
            if not spec.layer_norm:
                hidden = trace["output"] * trace["cell"].tanh()
                hidden = hidden @ p.params["weight_hr"].T if spec.proj_size else hidden
                assert_close(trace["hidden"], hidden, **LAST_DIGITS)
        if spec.kind == "gru":
            hidden = (1 - trace["update"]) * trace["candidate"] + trace["update"] * before["hidden"]
            assert_close(trace["hidden"], hidden, **LAST_DIGITS)
        for name, final in zip(spec.cell.states, result.state, strict=True):
            assert_close(trace[name][-1], final, rtol=0, atol=0)


@SPECS
def test_trace_of_an_empty_sequence(spec: CellSpec) -> None:
    """Without steps the trace has every gate and state, with their usual widths."""
    nonempty = dispatch.run(cases.make_call(spec, 1, 2, trace=True)).passes()[0].trace
    empty = dispatch.run(cases.make_call(spec, 0, 2, trace=True)).passes()[0].trace
    assert nonempty is not None
    assert empty is not None
    assert {name: gate.shape[1:] for name, gate in empty.items()} == {
        name: gate.shape[1:] for name, gate in nonempty.items()
    }
    assert all(len(gate) == 0 for gate in empty.values())


# ---- the dispatcher --------------------------------------------------------------------------------------------------

REFUSED_BY_TORCH: dict[str, tuple[Call, str]] = {
    "peephole": (cases.make_call(CellSpec("lstm", 3, 5, peephole=True)), "torch has no peephole option"),
    "coupled": (cases.make_call(CellSpec("lstm", 3, 5, coupled=True)), "torch has no coupled option"),
    "layer_norm": (cases.make_call(CellSpec("gru", 3, 5, layer_norm=True)), "torch has no layer_norm option"),
    "trace": (cases.make_call(CellSpec("gru", 3, 5), trace=True), "torch does not return gates"),
    "zoneout": (
        with_zoneout(cases.make_call(CellSpec("gru", 3, 5)), lambda p: (0.1,)),
        "torch has no zoneout",
    ),
    "recurrent mask": (
        map_passes(cases.make_call(CellSpec("gru", 3, 5)), lambda p: p._replace(recurrent_mask=torch.ones(3, 5))),
        "torch has no recurrent dropout",
    ),
    "reversed": (
        cases.make_call(CellSpec("gru", 3, 5), directions=(True,)),
        "torch has no layer with only the reversed direction",
    ),
    "no steps": (cases.make_call(CellSpec("gru", 3, 5), 0), "torch does not take an empty batch or sequence"),
    "no batch": (cases.make_call(CellSpec("gru", 3, 5), 2, 0), "torch does not take an empty batch or sequence"),
}


@pytest.mark.parametrize(("call", "reason"), REFUSED_BY_TORCH.values(), ids=REFUSED_BY_TORCH)
def test_a_refusal_raises_by_name_and_falls_back_with_auto(call: Call, reason: str) -> None:
    """By name, the refusal is an error with its reason; ``"auto"`` uses another back end."""
    assert dispatch.BACKENDS["torch"].unsupported_reason(call) == reason
    with pytest.raises(BackendUnavailable, match=f"^backend 'torch' cannot run this: {reason}$"):
        dispatch.run(call, "torch")
    assert_close(states_and_outputs(call, "auto"), states_and_outputs(call, "reference"), **LAST_DIGITS)
    by_name = {c.backend: c for c in dispatch.candidates(call, "torch")}
    assert by_name["torch"].unsupported_reason == reason
    assert not any(c.chosen for c in by_name.values())


@pytest.mark.parametrize("backend", [name for name in cases.BACKENDS if name != "reference"])
def test_every_refusal_is_an_error_with_its_reason(backend: str) -> None:
    """A call that a back end refuses raises the same reason if the back end is requested by name."""
    refused = 0
    for spec, directions in itertools.product(cases.cell_specs(), cases.DIRECTIONS.values()):
        call = cases.make_call(spec, lengths=[3, 0, 5], directions=directions)
        for variant in (call, noisy(call), call._replace(trace=True), call._replace(x=call.x[:0], lengths=None)):
            refusal = dispatch.BACKENDS[backend].unsupported_reason(variant)
            if refusal is None:
                continue
            assert isinstance(refusal, str)
            assert refusal
            with pytest.raises(BackendUnavailable, match=re.escape(f"backend {backend!r} cannot run this: {refusal}")):
                dispatch.run(variant, backend)
            refused += 1
    assert refused


def test_auto_uses_the_first_back_end_that_can_run_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back ends are tried in the order of the table, and ``candidates`` lists all their answers."""
    call = cases.make_call(CellSpec("lstm", 3, 5))

    def backend(name: str, unsupported_reason: str | None) -> Any:
        return SimpleNamespace(NAME=name, unsupported_reason=lambda _: unsupported_reason, run=lambda _: [name])

    table = {"a": backend("a", "no time"), "b": backend("b", None), "c": backend("c", None)}
    monkeypatch.setattr(dispatch, "BACKENDS", table)
    assert dispatch.run(call) == ["b"]
    assert dispatch.run(call, "c") == ["c"]
    with pytest.raises(BackendUnavailable, match=r"^backend 'a' cannot run this: no time$"):
        dispatch.run(call, "a")
    assert dispatch.candidates(call) == [
        dispatch.Candidate("a", "no time", False),
        dispatch.Candidate("b", None, True),
        dispatch.Candidate("c", None, False),
    ]
    assert [c.chosen for c in dispatch.candidates(call, "c")] == [False, False, True]


@pytest.mark.parametrize("ask", [dispatch.check_name, lambda name: dispatch.run(any_call(), name)])
def test_unknown_backend(ask: Callable[[str], object]) -> None:
    """An unknown name is refused with the list of known names."""
    known = ", ".join(["auto", *cases.BACKENDS])
    with pytest.raises(ValueError, match=f"^unknown backend 'tpu'; known: {known}$"):
        ask("tpu")


def any_call() -> Call:
    return cases.make_call(CellSpec("lstm", 3, 5))


def test_backend_names() -> None:
    """A back end is registered under its name, and a valid name is returned."""
    assert {name: backend.NAME for name, backend in dispatch.BACKENDS.items()} == {n: n for n in cases.BACKENDS}
    assert [dispatch.check_name(name) for name in ("auto", *cases.BACKENDS)] == ["auto", *cases.BACKENDS]
    assert issubclass(BackendUnavailable, ValueError)
