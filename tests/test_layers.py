"""The layers: drop-in replacements for ``torch.nn``'s, with additional options."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence
from torch.testing import assert_close

import cases
from cases import LAST_DIGITS
from lstmkit import GRU, LSTM, RNN, Stream, explain_backend
from lstmkit.layers.recurrent import LayerState, RecurrentLayer, _bernoulli_mask
from lstmkit.ops.dispatch import BackendUnavailable

LAYERS = pytest.mark.parametrize("name", cases.LAYERS)
CASES = pytest.mark.parametrize("case", cases.layer_cases(), ids=cases.case_id)
BACKENDS = pytest.mark.parametrize("backend", cases.available_backends())
AND_AUTO = pytest.mark.parametrize("backend", ["auto", *cases.available_backends()])

EXACTLY = {"rtol": 0.0, "atol": 0.0}


# ---- helpers ---------------------------------------------------------------------------------------------------------


def batch_of(layer: RecurrentLayer, n_steps: int = 6, batch: int = 4, seed: int = 1) -> Tensor:
    """Random input in the layer's layout."""
    shape = (batch, n_steps) if layer.batch_first else (n_steps, batch)
    return cases.numbers(*shape, layer.input_size, seed=seed)


def state_of(layer: RecurrentLayer, batch: int = 4, seed: int = 2) -> LayerState:
    """Random initial state in the shape that the layer expects."""
    rows = layer.num_layers * layer.num_directions
    parts = tuple(cases.numbers(rows, batch, size, seed=seed + k) for k, size in enumerate(layer.specs[0].state_sizes))
    return parts if len(parts) > 1 else parts[0]


def parts_of(state: LayerState) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else tuple(state)


def time_first(layer: RecurrentLayer, x: Tensor) -> Tensor:
    """``(T, B, F)`` from the layer's layout, and the reverse."""
    return x.transpose(0, 1) if layer.batch_first else x


def gradients(layer: nn.Module, output: Tensor, state: LayerState, *inputs: Tensor) -> dict[str, Tensor]:
    """Gradients of an uneven sum of all results by every weight and by ``inputs``."""
    weights = dict(layer.named_parameters())
    named = weights | {f"input {k}": tensor for k, tensor in enumerate(inputs)}
    total = cases.uneven_sum([output, *parts_of(state)])
    grads = torch.autograd.grad(total, list(named.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(named, grads, strict=True))


def skip_if_refused(layer: RecurrentLayer, x: Tensor) -> None:
    """Skip the test if the back end refuses the call; ``test_ops.py`` tests refusals."""
    if (report := explain_backend(layer, x)).chosen is None:
        pytest.skip(str(report))


def in_eval_mode(layer: RecurrentLayer) -> RecurrentLayer:
    return layer.eval()  # type: ignore[return-value]


def weight(layer: RecurrentLayer, name: str) -> Tensor:
    return layer.get_parameter(name)


# ---- equality with torch.nn ------------------------------------------------------------------------------------------


def torch_cases() -> list[tuple[str, dict[str, Any]]]:
    """Every combination of the constructor arguments of ``torch.nn``."""
    common = {"num_layers": [1, 2, 3], "bidirectional": [False, True], "bias": [True, False]}
    common |= {"batch_first": [False, True]}
    specific = {"LSTM": {"proj_size": [0, 2]}, "GRU": {}, "RNN": {"nonlinearity": ["tanh", "relu"]}}
    combinations = []
    for name, arguments in specific.items():
        choices = common | arguments
        combinations += [(name, dict(zip(choices, v, strict=True))) for v in itertools.product(*choices.values())]
    return combinations


TORCH_CASES = pytest.mark.parametrize(
    "case", torch_cases(), ids=lambda c: f"{c[0]}-{'-'.join(str(v) for v in c[1].values())}"
)


def pair(case: tuple[str, dict[str, Any]], **more: Any) -> tuple[RecurrentLayer, nn.RNNBase]:
    """An lstmkit layer and a torch layer, made from the same seed."""
    name, options = case
    lstmkit_layer = cases.make_layer(name, options, **more)
    skip_if_refused(lstmkit_layer, batch_of(lstmkit_layer))
    torch.manual_seed(0)
    return lstmkit_layer, getattr(nn, name)(3, 5, **options, dtype=torch.float64)


@TORCH_CASES
def test_weights_equal_torchs(case: tuple[str, dict[str, Any]]) -> None:
    """Names, order and initial values from the same seed are equal; each state dict loads into the other layer."""
    lstmkit_layer, torch_layer = pair(case)
    assert list(lstmkit_layer.state_dict()) == list(torch_layer.state_dict())
    assert_close(lstmkit_layer.state_dict(), torch_layer.state_dict(), **EXACTLY)
    flat = [w for ws in torch_layer.all_weights for w in ws]
    assert_close([w for ws in lstmkit_layer.all_weights for w in ws], flat, **EXACTLY)
    assert [len(ws) for ws in lstmkit_layer.all_weights] == [len(ws) for ws in torch_layer.all_weights]
    for loaded, source in ((lstmkit_layer, torch_layer), (torch_layer, lstmkit_layer)):
        with torch.no_grad():
            for w in source.parameters():
                w.add_(1)
        loaded.load_state_dict(source.state_dict(), strict=True)
        assert_close(loaded.state_dict(), source.state_dict(), **EXACTLY)
    for size in ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional", "proj_size"):
        assert getattr(lstmkit_layer, size) == getattr(torch_layer, size)


@BACKENDS
@TORCH_CASES
def test_outputs_and_gradients_equal_torchs(case: tuple[str, dict[str, Any]], backend: str) -> None:
    """Outputs, final states and all gradients are equal, with and without an initial state."""
    lstmkit_layer, torch_layer = pair(case, backend=backend)
    x = batch_of(lstmkit_layer)
    for state in (None, state_of(lstmkit_layer)):
        output, final = lstmkit_layer(x, state)
        expected, expected_final = torch_layer(x, state)
        assert_close((output, final), (expected, expected_final), **LAST_DIGITS)
        inputs = (x, *parts_of(state)) if state is not None else (x,)
        assert_close(
            gradients(lstmkit_layer, output, final, *inputs),
            gradients(torch_layer, expected, expected_final, *inputs),
            **LAST_DIGITS,
        )


@BACKENDS
@TORCH_CASES
def test_lengths_equal_torchs_packing(case: tuple[str, dict[str, Any]], backend: str) -> None:
    """``lengths`` and a packed sequence give what torch gives for the packed sequence."""
    lstmkit_layer, torch_layer = pair(case, backend=backend)
    x, state, lengths = batch_of(lstmkit_layer), state_of(lstmkit_layer), [3, 6, 1, 6]
    inputs = (x, *parts_of(state))
    packed = pack_padded_sequence(x, torch.tensor(lengths), lstmkit_layer.batch_first, enforce_sorted=False)
    expected_packed, expected_final = torch_layer(packed, state)
    expected, _ = pad_packed_sequence(expected_packed, lstmkit_layer.batch_first, total_length=6)
    expected_gradients = gradients(torch_layer, expected, expected_final, *inputs)

    output, final = lstmkit_layer(x, state, lengths)
    assert_close((output, final), (expected, expected_final), **LAST_DIGITS)
    assert_close(gradients(lstmkit_layer, output, final, *inputs), expected_gradients, **LAST_DIGITS)

    from_packed, final = lstmkit_layer(packed, state)
    assert isinstance(from_packed, PackedSequence)
    for part, expected_part in zip(from_packed, expected_packed, strict=True):
        assert_close(part, expected_part, **LAST_DIGITS)
    assert_close(final, expected_final, **LAST_DIGITS)


@BACKENDS
@LAYERS
def test_packed_in_order(name: str, backend: str) -> None:
    """Sequences packed with ``enforce_sorted=True`` are returned packed the same way, without a permutation."""
    lstmkit_layer, torch_layer = pair((name, {"bidirectional": True}), backend=backend)
    packed = pack_sequence([cases.numbers(n, 3, seed=n) for n in (5, 3, 3, 1)])
    (output, final), (expected, expected_final) = lstmkit_layer(packed), torch_layer(packed)
    assert_close(final, expected_final, **LAST_DIGITS)
    assert_close(output.data, expected.data, **LAST_DIGITS)
    assert_close(output.batch_sizes, expected.batch_sizes)
    assert output.sorted_indices is None
    assert output.unsorted_indices is None


@BACKENDS
@pytest.mark.parametrize("batch_first", [False, True])
@LAYERS
def test_one_sequence_without_a_batch(name: str, batch_first: bool, backend: str) -> None:
    """``(T, F)`` gives ``(T, D·P)`` and states without ``B``, as in torch; a length may be a single number."""
    lstmkit_layer, torch_layer = pair(
        (name, {"bidirectional": True, "batch_first": batch_first, "num_layers": 2}), backend=backend
    )
    x, state = cases.numbers(6, 3, seed=1), state_of(lstmkit_layer, batch=1)
    unbatched = tuple(s.squeeze(1) for s in parts_of(state))
    initial_state = unbatched if len(unbatched) > 1 else unbatched[0]
    assert_close(lstmkit_layer(x, initial_state), torch_layer(x, initial_state), **LAST_DIGITS)
    assert_close(lstmkit_layer(x), torch_layer(x), **LAST_DIGITS)
    short, final = lstmkit_layer(x, initial_state, lengths=4)
    expected, expected_final = torch_layer(x[:4], initial_state)
    assert_close(short[:4], expected, **LAST_DIGITS)
    assert_close(final, expected_final, **LAST_DIGITS)
    assert (short[4:] == 0).all()


@LAYERS
def test_dropout_between_layers(name: str) -> None:
    """Dropout drops the values that torch drops from the same seed, only in training, never after the last layer."""
    lstmkit_layer, torch_layer = pair((name, {"num_layers": 3, "bidirectional": True, "dropout": 0.4}))
    x = batch_of(lstmkit_layer)
    torch.manual_seed(3)
    output = lstmkit_layer(x)
    torch.manual_seed(3)
    assert_close(output, torch_layer(x), **LAST_DIGITS)
    assert not torch.equal(output[0], lstmkit_layer(x)[0])
    assert_close(lstmkit_layer.eval()(x), torch_layer.eval()(x), **LAST_DIGITS)


@LAYERS
def test_dropout_of_a_single_layer(name: str) -> None:
    """Dropout in a single layer does nothing; as in torch, a warning points at the caller's line."""
    with pytest.warns(UserWarning, match="dropout acts between layers; with num_layers=1 it does nothing") as caught:
        layer = cases.LAYERS[name](3, 5, dropout=0.5)  # type: ignore[call-arg]
    assert caught[0].filename == __file__
    x = torch.randn(4, 2, 3)
    assert_close(layer(x), layer(x), **EXACTLY)


@LAYERS
def test_float32_outputs_equal_torchs(name: str) -> None:
    """In the default dtype, outputs equal torch's up to float32 rounding."""
    torch.manual_seed(0)
    torch_layer = getattr(nn, name)(7, 9, num_layers=2, bidirectional=True)
    x = torch.randn(6, 4, 7)
    for backend in cases.available_backends():
        lstmkit_layer = cases.LAYERS[name](7, 9, num_layers=2, bidirectional=True, backend=backend)  # type: ignore[call-arg]
        lstmkit_layer.load_state_dict(torch_layer.state_dict())
        if explain_backend(lstmkit_layer, x).chosen is not None:
            assert_close(lstmkit_layer(x), torch_layer(x), rtol=1e-5, atol=1e-6)


def test_constructors_take_torchs_arguments_by_position() -> None:
    """Positional arguments have torch's order, up to ``proj_size``."""
    lstmkit_layer = LSTM(3, 5, 2, False, True, 0.5, True, 2)
    torch_layer = nn.LSTM(3, 5, 2, False, True, 0.5, True, 2)
    assert {k: v.shape for k, v in lstmkit_layer.state_dict().items()} == {
        k: v.shape for k, v in torch_layer.state_dict().items()
    }
    assert (lstmkit_layer.batch_first, lstmkit_layer.dropout) == (torch_layer.batch_first, torch_layer.dropout)
    rnn = RNN(3, 5, 2, "relu", False, True, 0.5, True)
    assert (rnn.specs[0].kind, rnn.bias, rnn.batch_first, rnn.dropout) == ("rnn_relu", False, True, 0.5)
    assert rnn.nonlinearity == "relu"
    gru = GRU(3, 5, 2, False, True, 0.5, True)
    assert (gru.bias, gru.batch_first, gru.dropout, gru.bidirectional) == (False, True, 0.5, True)


# ---- invariants of every layer and option ----------------------------------------------------------------------------


@CASES
def test_padding_does_not_change_the_outputs(case: tuple[str, dict[str, Any]]) -> None:
    """Each sequence of a batch gives the same results as alone; NaN in the padding has no effect."""
    layer = in_eval_mode(cases.make_layer(*case))
    x, state, lengths = batch_of(layer), state_of(layer), [3, 6, 0, 1]
    poisoned = time_first(layer, x).detach().clone()
    for b, n in enumerate(lengths):
        poisoned[n:, b] = float("nan")
    output, final = layer(time_first(layer, poisoned), state, lengths)
    for b, n in enumerate(lengths):
        row_state = tuple(s[:, b : b + 1] for s in parts_of(state))
        alone = time_first(layer, time_first(layer, x)[:n, b : b + 1])
        expected, expected_final = layer(alone, row_state if len(row_state) > 1 else row_state[0])
        actual = time_first(layer, output)[:, b : b + 1]
        assert_close(actual[:n], time_first(layer, expected), **LAST_DIGITS)
        assert (actual[n:] == 0).all()
        assert_close(tuple(s[:, b : b + 1] for s in parts_of(final)), parts_of(expected_final), **LAST_DIGITS)


@CASES
def test_every_weight_gets_a_finite_gradient(case: tuple[str, dict[str, Any]]) -> None:
    """In training mode, with padding, every weight and the input get a nonzero gradient without NaN."""
    layer = cases.make_layer(*case)
    x = batch_of(layer, batch=8)
    lengths = torch.tensor([6, 3, 6, 1, 2, 6, 5, 4])
    output, final = layer(x, lengths=lengths)
    for name, gradient in gradients(layer, output, final, x).items():
        assert gradient.isfinite().all(), name
        assert (gradient != 0).any(), name
    size = layer.output_size
    assert output.shape == ((8, 6, size) if layer.batch_first else (6, 8, size))


@CASES
def test_auto_equals_the_reference(case: tuple[str, dict[str, Any]]) -> None:
    """From the same seed, noise included, the back end does not change the results."""
    x, results = None, []
    for backend in ("auto", "reference"):
        layer = cases.make_layer(*case, backend=backend)
        x = batch_of(layer) if x is None else x
        state = state_of(layer)
        torch.manual_seed(5)
        output, final = layer(x, state, [3, 6, 0, 1])
        results.append((output, final, gradients(layer, output, final, x, *parts_of(state))))
    assert_close(*results, **LAST_DIGITS)


@CASES
def test_trace_equals_forward(case: tuple[str, dict[str, Any]]) -> None:
    """Output and state are equal; every layer and direction has every gate, batch first, zero past the end."""
    layer = in_eval_mode(cases.make_layer(*case))
    x, state, lengths = batch_of(layer), state_of(layer), [3, 6, 0, 1]
    output, final = layer(x, state, lengths)
    trace = layer.trace(x, state, lengths)
    assert_close(trace.output, output if layer.batch_first else output.transpose(0, 1), **LAST_DIGITS)
    assert_close(trace.state, final, **LAST_DIGITS)
    assert list(trace.gates) == list(itertools.product(range(layer.num_layers), range(layer.num_directions)))
    for (k, direction), gates in trace.gates.items():
        spec = layer.specs[k]
        assert gates.keys() == {*spec.cell.gates, *spec.cell.states}
        for name, gate in gates.items():
            assert gate.shape == (4, 6, spec.output_size if name == "hidden" else spec.hidden_size)
            assert all((gate[b, n:] == 0).all() for b, n in enumerate(lengths))
        for name, part in zip(spec.cell.states, parts_of(final), strict=True):
            last = torch.stack([gates[name][b, 0 if direction else n - 1] for b, n in enumerate(lengths) if n])
            assert_close(last, part[k * layer.num_directions + direction][[0, 1, 3]], **LAST_DIGITS)
    # The reversed direction is not a copy of the forward one.
    if layer.bidirectional:
        assert not torch.allclose(trace.gates[0, 0]["hidden"], trace.gates[0, 1]["hidden"])


@pytest.mark.parametrize("batch_first", [False, True])
@LAYERS
def test_trace_of_one_sequence(name: str, batch_first: bool) -> None:
    """``(T, F)`` is traced as a batch of one; the state equals that of ``forward``."""
    layer = cases.make_layer(name, {"batch_first": batch_first})
    x = cases.numbers(6, 3, seed=1)
    output, final = layer(x)
    trace = layer.trace(x)
    assert_close(trace.output, output[None], **LAST_DIGITS)
    assert_close(trace.state, final, **LAST_DIGITS)
    assert trace.gates[0, 0]["hidden"].shape == (1, 6, 5)


@CASES
def test_chunks_and_stream_equal_the_whole_sequence(case: tuple[str, dict[str, Any]]) -> None:
    """A sequence in chunks with the state carried, or step by step, gives the same results as in one call."""
    layer = in_eval_mode(cases.make_layer(*case))
    x, state = batch_of(layer), state_of(layer)
    if layer.bidirectional:
        with pytest.raises(ValueError, match=r"^a bidirectional layer cannot stream: its reversed direction needs"):
            layer.stream()
        return
    time = 1 if layer.batch_first else 0
    output, final = layer(x, state)
    chunks, carried = [], state
    for chunk in x.split([1, 3, 2], dim=time):
        part, carried = layer(chunk, carried)
        chunks.append(part)
    assert_close((torch.cat(chunks, time), carried), (output, final), **LAST_DIGITS)

    stream = layer.stream(state)
    assert isinstance(stream, Stream)
    steps = [stream(x.select(time, t)) for t in range(4)]
    assert_close(torch.stack(steps, time), output.narrow(time, 0, 4), **LAST_DIGITS)
    assert_close(stream(x.narrow(time, 4, 2)), output.narrow(time, 4, 2), **LAST_DIGITS)
    assert_close(stream.state, final, **LAST_DIGITS)
    stream.reset()
    assert_close(stream(x.select(time, 0)), layer(x.narrow(time, 0, 1))[0].squeeze(time), **LAST_DIGITS)


@CASES
def test_copies_and_saved_weights(case: tuple[str, dict[str, Any]]) -> None:
    """A deep copy and a layer with the same ``state_dict`` compute the same, and share no weights."""
    layer = in_eval_mode(cases.make_layer(*case))
    x = batch_of(layer)
    expected = layer(x)
    copied = copy.deepcopy(layer)
    loaded = in_eval_mode(cases.make_layer(*case, seed=9))
    assert not torch.equal(loaded(x)[0], expected[0])
    loaded.load_state_dict(layer.state_dict(), strict=True)
    with torch.no_grad():
        for w in layer.parameters():
            w.zero_()
    assert_close(copied(x), expected, **EXACTLY)
    assert_close(loaded(x), expected, **EXACTLY)


@CASES
def test_empty_batches_and_sequences(case: tuple[str, dict[str, Any]]) -> None:
    """No steps or no sequences give an empty output; without steps the final state is the initial one."""
    layer = cases.make_layer(*case)
    for n_steps, batch in ((0, 0), (0, 3), (2, 0)):
        x, state = batch_of(layer, n_steps, batch), state_of(layer, batch)
        for lengths in (None, [0] * batch):
            output, final = layer(x, state, lengths)
            assert time_first(layer, output).shape == (n_steps, batch, layer.output_size)
            assert_close(final, state, **EXACTLY)


LENGTHS = {
    "list": [3, 6, 0, 1],
    "tuple": (3, 6, 0, 1),
    "int64": torch.tensor([3, 6, 0, 1]),
    "int32": torch.tensor([3, 6, 0, 1], dtype=torch.int32),
    "uint8": torch.tensor([3, 6, 0, 1], dtype=torch.uint8),
    "numpy": torch.tensor([3, 6, 0, 1]).numpy(),
}


@BACKENDS
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_lengths_of_any_type(lengths: Any, backend: str) -> None:
    """Lengths may be a list, a tuple, an array, or a tensor of any integer dtype."""
    layer = cases.make_layer("LSTM", {"bidirectional": True}, backend=backend)
    x = batch_of(layer)
    assert_close(layer(x, lengths=lengths), layer(x, lengths=LENGTHS["int64"]), **EXACTLY)


@BACKENDS
@LAYERS
def test_input_of_any_strides(name: str, backend: str) -> None:
    """A view that is not contiguous gives the same results as its copy; so does a state.

    To the last digits: torch's products add up in an order that depends on the layout and on the CPU.
    """
    layer = cases.make_layer(name, {}, backend=backend)
    skip_if_refused(layer, batch_of(layer))
    wide, state = cases.numbers(6, 4, 6, seed=1), state_of(layer)
    view = wide[..., ::2]
    strided_state = tuple(s.repeat(1, 2, 1)[:, :4] for s in parts_of(state))
    assert not view.is_contiguous()
    for lengths in (None, [3, 6, 0, 1]):
        expected = layer(view.contiguous(), state, lengths)
        assert_close(
            layer(view, strided_state if len(strided_state) > 1 else strided_state[0], lengths), expected, **LAST_DIGITS
        )


# ---- each option -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("merge", "combine"),
    [
        ("concat", lambda a, b: torch.cat([a, b], -1)),
        ("sum", lambda a, b: a + b),
        ("mean", lambda a, b: 0.5 * a + 0.5 * b),
        ("mul", lambda a, b: a * b),
    ],
)
@LAYERS
def test_merge(name: str, merge: str, combine: Any) -> None:
    """The output combines the hidden states of both directions; the next layer's input has its width."""
    layer = cases.make_layer(name, {"merge": merge, "bidirectional": True, "num_layers": 2, "batch_first": True})
    trace = layer.trace(batch_of(layer), lengths=[3, 6, 0, 1])
    expected = combine(trace.gates[1, 0]["hidden"], trace.gates[1, 1]["hidden"])
    assert_close(trace.output, expected, **LAST_DIGITS)
    assert layer.output_size == expected.shape[-1]
    assert weight(layer, "weight_ih_l1").shape[1] == expected.shape[-1]


@pytest.mark.parametrize("more", [{}, {"bidirectional": True}, {"bidirectional": True, "merge": "sum"}], ids=str)
@LAYERS
def test_residual(name: str, more: dict[str, Any]) -> None:
    """Every layer but the first adds its input: the output equals that of single layers with added inputs."""
    layer = cases.make_layer(name, {"residual": True, "num_layers": 3} | more)
    x = batch_of(layer)
    steps = x
    for k in range(3):
        single = LAYER_OF[name](steps.shape[-1], 5, dtype=torch.float64, **more)
        layer_weights = {key: w for key, w in layer.state_dict().items() if f"_l{k}" in key}
        single.load_state_dict({key.replace(f"_l{k}", "_l0"): w for key, w in layer_weights.items()})
        output, _ = single(steps, lengths=[3, 6, 0, 1])
        steps = output + steps if k else output
    assert_close(layer(x, lengths=[3, 6, 0, 1])[0], steps, **LAST_DIGITS)


LAYER_OF: dict[str, Any] = dict(cases.LAYERS)


def counting_rnn(**options: Any) -> RecurrentLayer:
    """A ReLU network of 8 units without input and biases; each step is ``h → h`` unless there is noise."""
    layer = RNN(1, 8, nonlinearity="relu", dtype=torch.float64, **options)
    with torch.no_grad():
        for w in layer.parameters():
            w.zero_()
        weight(layer, "weight_hh_l0").copy_(torch.eye(8))
    return layer


def test_recurrent_dropout() -> None:
    """In training each sequence has units that are dropped at all of its steps; in evaluation none is dropped.

    With ``h_t = m ⊙ h_{t-1}`` from ones, ``h_t`` is ``m^t``: 0 or 2^t, so the mask is the same at all steps.
    """
    layer = counting_rnn(recurrent_dropout=0.5)
    x, ones = torch.zeros(4, 50, 1, dtype=torch.float64), torch.ones(1, 50, 8, dtype=torch.float64)
    torch.manual_seed(0)
    output, _ = layer(x, ones)
    mask = output[0].detach()
    assert ((mask == 0) | (mask == 2)).all()
    for t in range(4):
        assert_close(output[t], mask ** (t + 1), **EXACTLY)
    assert 120 < (mask == 2).sum() < 280  # of 400: half of them but for 8 standard deviations
    assert not torch.equal(mask, mask[:1].expand_as(mask))  # masks differ between sequences
    assert not torch.equal(layer(x, ones)[0], output)  # and between calls
    assert_close(in_eval_mode(layer)(x, ones)[0], torch.ones_like(output), **EXACTLY)


def test_recurrent_dropout_is_scaled_by_its_rate() -> None:
    """Kept units are scaled by ``1 / (1 - p)``, which preserves the expectation."""
    layer = counting_rnn(recurrent_dropout=0.2)
    torch.manual_seed(0)
    output, _ = layer(torch.zeros(1, 200, 1, dtype=torch.float64), torch.ones(1, 200, 8, dtype=torch.float64))
    assert ((output == 0) | (output == 1.25)).all()
    assert 0.9 < output.detach().mean() < 1.1  # 8 standard deviations of 1600 draws


def test_zoneout() -> None:
    """In training a unit keeps its old value at random steps; in evaluation it moves by the expected fraction.

    A bias of 1 makes every step ``h → h + 1``, so a unit counts the steps at which it was not kept.
    """
    layer = counting_rnn(zoneout=0.3)
    with torch.no_grad():
        weight(layer, "bias_ih_l0").fill_(1)
    torch.manual_seed(0)
    x = torch.zeros(20, 50, 1, dtype=torch.float64)
    output, final = layer(x)
    moved = torch.diff(output, dim=0, prepend=torch.zeros(1, 50, 8, dtype=torch.float64))
    assert ((moved == 0) | (moved == 1)).all()
    assert 0.66 < moved.detach().mean() < 0.74  # 8 standard deviations of 8000 draws
    assert not torch.equal(moved[0], moved[1])
    assert not torch.equal(layer(x)[0], output)
    assert_close(final, output[-1:], **EXACTLY)

    output, _ = in_eval_mode(layer)(x)
    steps = torch.arange(1, 21, dtype=torch.float64)[:, None, None]
    assert_close(output, (0.7 * steps).expand_as(output), **LAST_DIGITS)
    assert_close(layer(x)[0], output, **EXACTLY)


def test_zoneout_of_an_lstm_mixes_both_states() -> None:
    """In evaluation a step with zoneout ``k`` gives ``k·old + (1 - k)·new``, for the hidden and the cell state."""
    with_zoneout, without_zoneout = (in_eval_mode(cases.make_layer("LSTM", {"zoneout": z})) for z in (0.3, 0.0))
    x, state = batch_of(with_zoneout, n_steps=1), state_of(with_zoneout)
    _, mixed = with_zoneout(x, state)
    _, new = without_zoneout(x, state)
    for m, n, old in zip(mixed, new, parts_of(state), strict=True):
        assert_close(m, 0.3 * old + 0.7 * n, **LAST_DIGITS)


@BACKENDS
def test_weight_drop(backend: str) -> None:
    """In training some recurrent weights are zero and the others scaled, the same for all sequences and steps.

    With all weights 1 and ``h_0 = 1`` a unit's first value is 2 for each of its 8 weights that is kept.
    """
    layer = counting_rnn(weight_drop=0.5, backend=backend)
    recurrent = weight(layer, "weight_hh_l0")
    with torch.no_grad():
        recurrent.fill_(1)
    x, ones = torch.zeros(2, 3, 1, dtype=torch.float64), torch.ones(1, 3, 8, dtype=torch.float64)
    skip_if_refused(layer, x)
    torch.manual_seed(0)
    output, _ = layer(x, ones)
    kept = output[0, 0]
    assert ((kept % 2 == 0) & (kept <= 16)).all()
    assert 0 < kept.sum() < 128
    assert_close(output[0], kept.expand(3, 8), **EXACTLY)
    output.sum().backward()
    assert recurrent.grad is not None
    assert 0 < int((recurrent.grad == 0).sum()) < 64  # a dropped weight has no gradient
    assert (recurrent == 1).all()
    assert_close(in_eval_mode(layer)(x, ones)[0][0], torch.full((3, 8), 8.0, dtype=torch.float64), **EXACTLY)


@LAYERS
def test_weight_drop_changes_only_recurrent_weights(name: str) -> None:
    """Only ``weight_hh`` is dropped, and kept weights are scaled."""
    layer = cases.make_layer(name, {"weight_drop": 0.3})
    torch.manual_seed(0)
    passes = layer.call_for(batch_of(layer)).passes
    for key, used in passes[0].params.items():
        if key != "weight_hh":
            assert used is weight(layer, f"{key}_l0")
    dropped = passes[0].params["weight_hh"]
    whole = weight(layer, "weight_hh_l0")
    assert ((dropped == 0) | torch.isclose(dropped, whole / 0.7)).all()
    assert (dropped == 0).any()


@pytest.mark.parametrize("coupled", [False, True])
def test_forget_bias(coupled: bool) -> None:
    """The forget gate's two biases add up to it in every layer and direction; other weights are unchanged."""
    options = {"num_layers": 2, "bidirectional": True, "coupled": coupled, "peephole": True}
    plain = cases.make_layer("LSTM", options).state_dict()
    weights = cases.make_layer("LSTM", options | {"forget_bias": 1.5}).state_dict()
    forget = slice(0, 5) if coupled else slice(5, 10)
    for key, w in weights.items():
        if key.startswith("bias"):
            assert (w[forget] == (1.5 if key.startswith("bias_ih") else 0)).all()
            w[forget] = plain[key][forget]
    assert_close(weights, plain, **EXACTLY)
    sums = cases.make_layer("LSTM", options | {"forget_bias": 0.0}).state_dict()
    assert (sums["bias_ih_l0"][forget] + sums["bias_hh_l0"][forget] == 0).all()


def test_layer_norm_starts_as_plain_normalization() -> None:
    """Gains start at 1, and the cell state's shift starts at 0."""
    weights = cases.make_layer("LSTM", {"layer_norm": True, "num_layers": 2}).state_dict()
    gains = [w for key, w in weights.items() if key.startswith("weight_ln")]
    shifts = [w for key, w in weights.items() if key.startswith("bias_ln")]
    assert len(gains) == 6
    assert len(shifts) == 2
    assert all((w == 1).all() for w in gains)
    assert all((w == 0).all() for w in shifts)


def test_repr() -> None:
    """``repr`` shows the sizes and every option that is not at its default."""
    layer = LSTM(3, 5, 2, bidirectional=True, proj_size=2, peephole=True, merge="sum", zoneout=0.1)
    shown = "num_layers=2, bidirectional=True, batch_first=False, proj_size=2, peephole=True, zoneout=0.1, merge=sum"
    assert repr(layer) == f"LSTM(3, 5, {shown})"
    assert repr(GRU(3, 5)) == "GRU(3, 5, num_layers=1, bidirectional=False, batch_first=False)"


# ---- any shape: property tests ---------------------------------------------------------------------------------------

PROPERTY = settings(deadline=None, max_examples=60, database=None, derandomize=True)


@st.composite
def batches(draw: st.DrawFn) -> tuple[RecurrentLayer, Tensor, list[int]]:
    """A layer of any size and options in evaluation mode, an input for it, and lengths."""
    name = draw(st.sampled_from(sorted(cases.LAYERS)))
    hidden = draw(st.integers(1, 5))
    options: dict[str, Any] = {
        "num_layers": draw(st.integers(1, 3)),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "residual": draw(st.booleans()),
        "merge": draw(st.sampled_from(["concat", "sum", "mean", "mul"])),
        "layer_norm": draw(st.booleans()),
        "zoneout": draw(st.sampled_from([0.0, 0.3])),
    }
    if name == "LSTM":
        options["proj_size"] = draw(st.integers(0, hidden - 1))
        options["peephole"], options["coupled"] = draw(st.booleans()), draw(st.booleans())
    if name == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    torch.manual_seed(0)
    layer = LAYER_OF[name](draw(st.integers(1, 4)), hidden, dtype=torch.float64, **options).eval()
    lengths = draw(st.lists(st.integers(0, 7), min_size=1, max_size=5))
    n_steps = max(1, *lengths) + draw(st.integers(0, 2))
    return layer, batch_of(layer, n_steps, len(lengths)), lengths


@PROPERTY
@given(batches())
def test_any_batch_equals_its_sequences(example: tuple[RecurrentLayer, Tensor, list[int]]) -> None:
    """A row of a batch gives the same results as the sequence alone, for any layer."""
    layer, x, lengths = example
    output, final = layer(x, lengths=lengths)
    for b, n in enumerate(lengths):
        expected, expected_final = layer(time_first(layer, time_first(layer, x)[:n, b : b + 1]))
        assert_close(time_first(layer, output)[:n, b : b + 1], time_first(layer, expected), **LAST_DIGITS)
        assert (time_first(layer, output)[n:, b] == 0).all()
        assert_close(tuple(s[:, b : b + 1] for s in parts_of(final)), parts_of(expected_final), **LAST_DIGITS)


@PROPERTY
@given(batches(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_any_padding_and_order(example: tuple[RecurrentLayer, Tensor, list[int]], more: int, random: Any) -> None:
    """More padding changes nothing, and reordered rows give reordered results."""
    layer, x, lengths = example
    output, final = layer(x, lengths=lengths)
    time, rows = (1, 0) if layer.batch_first else (0, 1)
    shape = list(x.shape)
    shape[time] = more
    longer, longer_final = layer(torch.cat([x, x.new_full(shape, float("nan"))], time), lengths=lengths)
    assert_close((longer.narrow(time, 0, x.shape[time]), longer_final), (output, final), **LAST_DIGITS)
    assert (longer.narrow(time, x.shape[time], more) == 0).all()

    order = random.sample(range(len(lengths)), len(lengths))
    shuffled, shuffled_final = layer(x.index_select(rows, torch.tensor(order)), lengths=[lengths[b] for b in order])
    assert_close(shuffled, output.index_select(rows, torch.tensor(order)), **LAST_DIGITS)
    assert_close(parts_of(shuffled_final), tuple(s[:, order] for s in parts_of(final)), **LAST_DIGITS)


@PROPERTY
@given(batches())
def test_any_back_end_equals_the_reference(example: tuple[RecurrentLayer, Tensor, list[int]]) -> None:
    """A back end gives the reference's values and gradients, or refuses with its reason."""
    layer, x, lengths = example
    layer.backend = "reference"
    output, final = layer(x, lengths=lengths)
    expected = (output, final, gradients(layer, output, final, x))
    for candidate in explain_backend(layer, x, lengths).candidates:
        layer.backend = candidate.backend
        if candidate.unsupported_reason is None:
            output, final = layer(x, lengths=lengths)
            assert_close((output, final, gradients(layer, output, final, x)), expected, **LAST_DIGITS)
        else:
            with pytest.raises(BackendUnavailable, match=re.escape(candidate.unsupported_reason)):
                layer(x, lengths=lengths)


# ---- invalid arguments and inputs ------------------------------------------------------------------------------------

REFUSED_ARGUMENTS = {
    "num_layers must be at least 1, got 0": {"num_layers": 0},
    "unknown merge 'add'; known: concat, sum, mean, mul": {"merge": "add"},
    f"unknown backend 'tpu'; known: auto, {', '.join(cases.BACKENDS)}": {"backend": "tpu"},
    "dropout must be at least 0 and below 1, got 1.0": {"dropout": 1.0},
    "recurrent_dropout must be at least 0 and below 1, got -0.1": {"recurrent_dropout": -0.1},
    "zoneout must be at least 0 and below 1, got nan": {"zoneout": float("nan")},
    "weight_drop must be at least 0 and below 1, got 2": {"weight_drop": 2},
    "proj_size must be in 0..4 (below hidden_size), got 5": {"proj_size": 5},
    "input_size and hidden_size must be at least 1, got 3 and 0": {"hidden_size": 0},
    "forget_bias is an initial value of the biases: it needs bias=True": {"forget_bias": 1.0, "bias": False},
}


@pytest.mark.parametrize(("message", "arguments"), REFUSED_ARGUMENTS.items(), ids=REFUSED_ARGUMENTS)
def test_arguments_out_of_range(message: str, arguments: dict[str, Any]) -> None:
    """The message names the allowed range and the value."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        LSTM(**({"input_size": 3, "hidden_size": 5} | arguments))


def test_unknown_nonlinearity() -> None:
    """The message lists the known nonlinearities."""
    with pytest.raises(ValueError, match=r"^unknown nonlinearity 'gelu'; known: tanh, relu$"):
        RNN(3, 5, nonlinearity="gelu")


X = torch.zeros(6, 4, 3)
REFUSED_INPUTS: dict[str, tuple[dict[str, Any], str]] = {
    "one dimension": ({"x": X[0, 0]}, "expected 3 dimensions (or 2 for one sequence), got shape (3,)"),
    "four dimensions": ({"x": X[None]}, "expected 3 dimensions (or 2 for one sequence), got shape (1, 6, 4, 3)"),
    "features": ({"x": X[..., :2]}, "expected 3 features in the last dimension, got shape (6, 4, 2)"),
    "whole numbers": ({"x": X.long()}, "expected floating-point input, got torch.int64"),
    "precision": ({"x": X.double()}, "input is torch.float64, the weights are torch.float32: convert one of them"),
    "negative length": ({"x": X, "lengths": [6, -1, 2, 3]}, "lengths must be in 0..6, got -1..6"),
    "length above T": ({"x": X, "lengths": [6, 7, 2, 3]}, "lengths must be in 0..6, got 2..7"),
    "length as float": ({"x": X, "lengths": [6.0, 1.0, 2.0, 3.0]}, "lengths must be integers, got torch.float32"),
    "a mask": ({"x": X, "lengths": [True] * 4}, "lengths must be integers, got torch.bool"),
    "too few lengths": ({"x": X, "lengths": [6, 1]}, "lengths must have shape (4,), got (2,)"),
    "one length for all": ({"x": X, "lengths": torch.tensor(3)}, "lengths must have shape (4,), got ()"),
    "lengths in a table": ({"x": X, "lengths": [[1, 2, 3, 4]]}, "lengths must have shape (4,), got (1, 4)"),
    "no cell state": (
        {"x": X, "state": torch.zeros(1, 4, 5)},
        "expected the state hidden (1, 4, 5), cell (1, 4, 5); got (1, 4, 5)",
    ),
    "wrong batch": (
        {"x": X, "state": (torch.zeros(1, 4, 5), torch.zeros(1, 3, 5))},
        "expected the state hidden (1, 4, 5), cell (1, 4, 5); got (1, 4, 5), (1, 3, 5)",
    ),
    "state without a batch": (
        {"x": X, "state": (torch.zeros(1, 5), torch.zeros(1, 5))},
        "expected the state hidden (1, 4, 5), cell (1, 4, 5); got (1, 5), (1, 5)",
    ),
    "precision of the state": (
        {"x": X, "state": (torch.zeros(1, 4, 5), torch.zeros(1, 4, 5).double())},
        "the state is torch.float32, torch.float64, the weights are torch.float32: convert one of them",
    ),
    "lengths of a packed sequence": (
        {"x": pack_padded_sequence(X, torch.tensor([6, 6, 6, 6])), "lengths": [6, 6, 6, 6]},
        "a PackedSequence has its own lengths: omit lengths",
    ),
}


@AND_AUTO
@pytest.mark.parametrize(("arguments", "message"), REFUSED_INPUTS.values(), ids=REFUSED_INPUTS)
def test_invalid_inputs_are_refused(arguments: dict[str, Any], message: str, backend: str) -> None:
    """Every back end refuses invalid input before it runs, and names what was expected and what it got."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        LSTM(3, 5, backend=backend)(**arguments)


def test_an_invalid_state_of_a_projected_layer_is_refused() -> None:
    """Hidden and cell state differ in width; the message has both."""
    message = "expected the state hidden (4, 2, 3), cell (4, 2, 5); got (4, 2, 5), (4, 2, 5)"
    with pytest.raises(ValueError, match=re.escape(message)):
        LSTM(3, 5, 2, bidirectional=True, proj_size=3)(torch.zeros(6, 2, 3), (torch.zeros(4, 2, 5),) * 2)


# ---- choice of the back end ------------------------------------------------------------------------------------------


def test_explain_backend() -> None:
    """The report has one line per back end: which runs, which could run, and why the others cannot."""
    report = explain_backend(LSTM(3, 5, backend="torch"), X)
    assert report.chosen == "torch"
    lines = str(report).splitlines()
    assert [line.split()[0] for line in lines] == list(cases.BACKENDS)
    assert "torch      runs this" in lines
    assert "reference  could run this too" in lines
    report = explain_backend(LSTM(3, 5), X)
    assert report.chosen == next(c.backend for c in report.candidates if c.unsupported_reason is None)
    report = explain_backend(LSTM(3, 5, coupled=True, backend="torch"), X, [6, 1, 2, 3])
    assert report.chosen is None
    assert "torch has no coupled option" in str(report)
    with pytest.raises(BackendUnavailable, match=r"^backend 'torch' cannot run this: torch has no coupled option$"):
        LSTM(3, 5, coupled=True, backend="torch")(X)


@CASES
def test_explain_backend_is_correct_and_has_no_side_effect(case: tuple[str, dict[str, Any]]) -> None:
    """A back end listed as able runs; ``"auto"`` always has one; the random state does not change."""
    layer = cases.make_layer(*case)
    x = batch_of(layer)
    torch.manual_seed(4)
    expected = layer(x)
    torch.manual_seed(4)
    report = explain_backend(layer, x)
    assert report.chosen is not None
    assert_close(layer(x), expected, **EXACTLY)
    for candidate in report.candidates:
        layer.backend = candidate.backend
        if candidate.unsupported_reason is None:
            layer(x)
        else:
            with pytest.raises(BackendUnavailable, match=re.escape(candidate.unsupported_reason)):
                layer(x)


def test_trace_needs_a_back_end_that_returns_gates() -> None:
    """``"auto"`` chooses one; a back end requested by name that returns no gates raises an error."""
    assert LSTM(3, 5).trace(X).gates[0, 0]["input"].shape == (4, 6, 5)
    with pytest.raises(BackendUnavailable, match="torch does not return gates"):
        LSTM(3, 5, backend="torch").trace(X)


# ---- other dtypes, and torch's tools ---------------------------------------------------------------------------------


@BACKENDS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@LAYERS
def test_layers_of_other_dtypes(name: str, dtype: torch.dtype, backend: str) -> None:
    """All results have the layer's dtype and are near the float32 layer's within its precision."""
    single = cases.make_layer(name, {"bidirectional": True, "dtype": torch.float32})
    layer = cases.make_layer(name, {"bidirectional": True, "dtype": dtype}, backend=backend)
    layer.load_state_dict(single.state_dict())
    x = batch_of(layer).detach().float()
    skip_if_refused(layer, x.to(dtype))
    output, final = layer(x.to(dtype), lengths=[3, 6, 0, 1])
    assert {output.dtype, *(s.dtype for s in parts_of(final))} == {dtype}
    expected, _ = single(x, lengths=[3, 6, 0, 1])
    assert_close(output.float(), expected, rtol=0, atol=2e-2 if dtype == torch.bfloat16 else 1e-6)
    assert all(g.isfinite().all() and g.dtype == dtype for g in gradients(layer, output, final).values())


@AND_AUTO
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one", "two both ways"])
@LAYERS
def test_autocast(name: str, options: dict[str, Any], backend: str) -> None:
    """Under bfloat16 autocast a float32 layer gives bfloat16 near its float32 result, and float32 gradients."""
    layer = cases.make_layer(name, options | {"dtype": torch.float32}, backend=backend)
    x, state = batch_of(layer).detach().float(), state_of(layer)
    state = tuple(s.detach().float() for s in parts_of(state))
    initial_state = state if len(state) > 1 else state[0]
    skip_if_refused(layer, x)
    for lengths in (None, [3, 6, 0, 1]):
        expected, expected_final = layer(x, initial_state, lengths)
        expected_gradients = gradients(layer, expected, expected_final)
        with torch.autocast("cpu", torch.bfloat16):
            skip_if_refused(layer, x)
            output, final = layer(x, initial_state, lengths)
        assert {output.dtype, *(s.dtype for s in parts_of(final))} == {torch.bfloat16}
        assert_close(output.float(), expected, rtol=0, atol=3e-2)
        for key, gradient in gradients(layer, output.float(), final).items():
            assert gradient.dtype == torch.float32
            error = (gradient - expected_gradients[key]).norm() / expected_gradients[key].norm()
            assert error < 0.05, key


@CASES
def test_autocast_of_every_option(case: tuple[str, dict[str, Any]]) -> None:
    """Every option runs under autocast: forward, backward and traced."""
    layer = cases.make_layer(*case, dtype=torch.float32)
    x = batch_of(layer).detach().float()
    with torch.autocast("cpu", torch.bfloat16):
        output, final = layer(x, lengths=[3, 6, 0, 1])
        trace = layer.trace(x, lengths=[3, 6, 0, 1])
        leaves = cases.leaves(layer.call_for(x))
    assert output.dtype == trace.output.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in leaves.values()} == {torch.bfloat16}  # a back end need not know of autocast
    assert all(g.isfinite().all() for g in gradients(layer, output.float(), final).values())


@LAYERS
def test_layers_can_be_pickled(name: str) -> None:
    """A pickled layer computes the same, as for ``torch.nn``."""
    layer = cases.make_layer(name, {"bidirectional": True})
    x = batch_of(layer)
    assert_close(pickle.loads(pickle.dumps(layer))(x), layer(x), **EXACTLY)


COMPILED: dict[str, tuple[str, dict[str, Any]]] = {
    "LSTM": ("LSTM", {}),
    "LSTM with everything": ("LSTM", next(o for n, o in reversed(cases.layer_cases()) if n == "LSTM")),
    "GRU both ways": ("GRU", {"num_layers": 2, "bidirectional": True, "batch_first": True, "residual": True}),
    "RNN": ("RNN", {"nonlinearity": "relu"}),
}


@pytest.mark.parametrize("case", COMPILED.values(), ids=COMPILED)
def test_compile(case: tuple[str, dict[str, Any]]) -> None:
    """``torch.compile`` compiles a layer without a graph break and computes the same, with and without lengths."""
    torch.compiler.reset()
    layer = in_eval_mode(cases.make_layer(*case))
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    x, state = batch_of(layer, n_steps=3), state_of(layer)
    for lengths in (None, torch.tensor([2, 3, 0, 1])):
        output, final = compiled(x, state, lengths)
        expected, expected_final = layer(x, state, lengths)
        assert_close((output, final), (expected, expected_final), **LAST_DIGITS)
        assert_close(gradients(layer, output, final, x), gradients(layer, expected, expected_final, x), **LAST_DIGITS)


def test_compile_in_training() -> None:
    """With all noise there is no graph break, and each call gives other numbers."""
    torch.compiler.reset()
    noise = {"zoneout": 0.3, "recurrent_dropout": 0.3, "dropout": 0.3, "weight_drop": 0.3}
    layer = cases.make_layer("LSTM", {"num_layers": 2, **noise})
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    x = batch_of(layer, n_steps=3)
    first, second = (compiled(x)[0] for _ in range(2))
    assert first.isfinite().all()
    assert not torch.equal(first, second)
    mask = torch.compile(_bernoulli_mask, backend="eager", fullgraph=True)(0.3, (400, 500), x)
    assert abs(float(mask.mean()) - 0.3) < 0.006  # six standard deviations


@LAYERS
def test_export(name: str) -> None:
    """``torch.export`` exports a layer with lengths, for batches of other sizes than the example."""
    layer = in_eval_mode(cases.make_layer(name, {"bidirectional": True, "batch_first": True}))
    batch = torch.export.Dim("batch", min=1, max=64)
    example = (batch_of(layer, n_steps=3).detach(), None, torch.tensor([2, 3, 0, 1]))
    program = torch.export.export(layer, example, dynamic_shapes=({0: batch}, None, {0: batch})).module()
    x, lengths = batch_of(layer, n_steps=3, batch=6).detach(), torch.tensor([3, 0, 1, 2, 3, 3])
    assert_close(program(x, None, lengths), layer(x, None, lengths), **LAST_DIGITS)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@LAYERS
def test_functional_weights(name: str, backend: str) -> None:
    """``torch.func`` works: weights as arguments, per-sample gradients, and stacked models."""
    layer = cases.make_layer(name, {"num_layers": 2, "bidirectional": True}, backend=backend)
    x = batch_of(layer).detach()
    weights = {key: w.detach() for key, w in layer.named_parameters()}

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        output, final = functional_call(layer, weights, (x,))
        return cases.uneven_sum([output, *parts_of(final)])

    other = cases.make_layer(name, {"num_layers": 2, "bidirectional": True}, seed=8)
    other_weights = {key: w.detach() for key, w in other.named_parameters()}
    output, final = other(x)
    assert_close(loss(other_weights, x), cases.uneven_sum([output, *parts_of(final)]), **LAST_DIGITS)

    per_sample = vmap(grad(loss), in_dims=(None, 1))(weights, x)
    for b in range(4):
        output, final = layer(x[:, b])
        assert_close({key: g[b] for key, g in per_sample.items()}, gradients(layer, output, final), **LAST_DIGITS)

    stacked, _ = stack_module_state([layer, other])
    stacked_outputs = vmap(lambda w: functional_call(layer, w, (x,))[0])(stacked)
    assert_close(stacked_outputs, torch.stack([layer(x)[0], other(x)[0]]), **LAST_DIGITS)


@BACKENDS
def test_second_derivatives(backend: str) -> None:
    """A gradient can be differentiated again, as for a gradient penalty, with the same result on every back end."""
    layer = cases.make_layer("LSTM", {}, backend=backend)
    x = batch_of(layer)
    (first,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
    reference = cases.make_layer("LSTM", {}, backend="reference")
    (expected,) = torch.autograd.grad(reference(x)[0].square().sum(), x, create_graph=True)
    second = torch.autograd.grad(first.square().sum(), list(layer.parameters()))
    assert_close(second, torch.autograd.grad(expected.square().sum(), list(reference.parameters())), **LAST_DIGITS)


@BACKENDS
def test_parametrized_weights(backend: str) -> None:
    """torch's parametrizations replace a weight by a computed tensor: it is used and gets gradients."""
    layer = cases.make_layer("LSTM", {}, backend=backend)
    x = batch_of(layer)
    expected = layer(x)[0]
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    assert_close(layer(x)[0], expected, **LAST_DIGITS)
    layer.parametrizations.weight_hh_l0.original0.data.mul_(2)  # type: ignore[union-attr]
    assert not torch.allclose(layer(x)[0], expected)
    assert all((g != 0).any() for g in gradients(layer, *layer(x)).values())


@AND_AUTO
def test_meta_device_gives_shapes(backend: str) -> None:
    """On the meta device a layer is made and run without memory, for its shapes."""
    layer = LSTM(3, 5, bidirectional=True, device="meta", backend=backend)
    x = torch.zeros(6, 4, 3, device="meta")
    skip_if_refused(layer, x)
    output, (h, c) = layer(x)
    assert (output.shape, h.shape, c.shape) == ((6, 4, 10), (2, 4, 5), (2, 4, 5))
    assert output.is_meta


@LAYERS
def test_flatten_parameters_does_nothing(name: str) -> None:
    """The method exists for code written for ``torch.nn``."""
    layer = cases.make_layer(name, {})
    before = copy.deepcopy(layer.state_dict())
    layer.flatten_parameters()
    assert_close(layer.state_dict(), before, **EXACTLY)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous:UserWarning")
@BACKENDS
@LAYERS
def test_on_a_gpu(name: str, backend: str) -> None:
    """Values and gradients equal the CPU's, in training and evaluation, with lengths on either device."""
    cpu = cases.make_layer(name, {"num_layers": 2, "bidirectional": True}, backend="reference")
    layer = copy.deepcopy(cpu).cuda()
    layer.backend = backend
    x = batch_of(cpu)
    for device, training in itertools.product(("cpu", "cuda"), (True, False)):
        lengths = torch.tensor([3, 6, 0, 1], device=device)
        output, final = layer.train(training)(x.cuda(), lengths=lengths)
        expected, expected_final = cpu(x, lengths=lengths.cpu())
        assert_close(output.cpu(), expected, rtol=1e-8, atol=1e-10)
        actual = {key: g.cpu() for key, g in gradients(layer, output, final).items()}
        assert_close(actual, gradients(cpu, expected, expected_final), rtol=1e-8, atol=1e-10)


def test_state_after_no_steps_is_a_copy() -> None:
    """Changing the final state does not change the initial state."""
    layer, initial_state = LSTM(3, 5), (torch.zeros(1, 2, 5), torch.zeros(1, 2, 5))
    with torch.no_grad():
        _, final = layer(torch.zeros(0, 2, 3), initial_state)
        for state in final:
            state.add_(1)
    assert not any(state.any() for state in initial_state)
