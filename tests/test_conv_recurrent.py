"""Convolutional recurrent layers against plain loops, against ordinary layers, and in exports."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lstmkit import GRU, LSTM, RNN, BottleneckLSTM2d, ConvGRU2d, ConvLSTM2d, ConvRNN2d, Trace, export_onnx
from lstmkit.layers.conv_recurrent import ConvRecurrentLayer2d

LAYERS = (ConvLSTM2d, ConvGRU2d, ConvRNN2d, BottleneckLSTM2d)
every_layer = pytest.mark.parametrize("cls", LAYERS)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def convolution(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``(F, H, W)`` with filters ``(C, F, k, k)``, place by place, zeros beyond the border."""
    side = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (side, side), (side, side)))
    out = np.zeros((len(weight), *x.shape[1:]))
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            patch = padded[:, row : row + weight.shape[-1], column : column + weight.shape[-1]]
            out[:, row, column] = (weight * patch).sum((1, 2, 3))
    return out


def separable(x: np.ndarray, depthwise: np.ndarray, pointwise: np.ndarray) -> np.ndarray:
    each = np.concatenate([convolution(x[k : k + 1], depthwise[k : k + 1]) for k in range(len(x))])
    return np.tensordot(pointwise[:, :, 0, 0], each, 1)


def loop(layer: ConvRecurrentLayer2d, x: np.ndarray) -> np.ndarray:
    """The equations of one layer, written anew: ``(T, F, H, W)`` to ``(T, C, H, W)``."""
    p = {name.removesuffix("_l0"): w.detach().double().numpy() for name, w in layer.named_parameters()}
    h = np.zeros((layer.hidden_size, *x.shape[2:]))
    c, outputs = h, []
    for frame in x:
        if isinstance(layer, BottleneckLSTM2d):
            narrow = separable(frame, p["depthwise_x"], p["pointwise_x"])
            narrow = narrow + separable(h, p["depthwise_h"], p["pointwise_h"]) + p["bias_bottleneck"][:, None, None]
            a = (
                separable(np.maximum(narrow, 0), p["depthwise_gates"], p["pointwise_gates"])
                + p["bias_ih"][:, None, None]
            )
            i, f, g, o = np.split(a, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.maximum(g, 0)
            h = sigmoid(o) * np.maximum(c, 0)
        else:
            ax = convolution(frame, p["weight_ih"]) + p["bias_ih"][:, None, None]
            ah = convolution(h, p["weight_hh"]) + p["bias_hh"][:, None, None]
            if isinstance(layer, ConvLSTM2d):
                i, f, g, o = np.split(ax + ah, 4)
                peep = p.get("weight_peep", np.zeros((3, layer.hidden_size)))[:, :, None, None]
                before, c = c, sigmoid(f + peep[1] * c) * c + sigmoid(i + peep[0] * c) * np.tanh(g)
                assert before.shape == c.shape
                h = sigmoid(o + peep[2] * c) * np.tanh(c)
            elif isinstance(layer, ConvGRU2d):
                (rx, zx, nx), (rh, zh, nh) = np.split(ax, 3), np.split(ah, 3)
                z = sigmoid(zx + zh)
                h = (1 - z) * np.tanh(nx + sigmoid(rx + rh) * nh) + z * h
            else:
                h = np.tanh(ax + ah)
        outputs.append(h)
    return np.stack(outputs)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@every_layer
def test_outputs_are_those_of_a_plain_loop(cls: type[ConvRecurrentLayer2d], kernel_size: int):
    torch.manual_seed(0)
    layer = cls(3, 4, kernel_size=kernel_size, dtype=torch.float64)
    x = torch.randn(2, 4, 3, 6, 5, dtype=torch.float64)
    output, _ = layer(x)
    for row in range(2):
        np.testing.assert_allclose(output[row].detach().numpy(), loop(layer, x[row].numpy()), atol=1e-12)


def test_peepholes_are_those_of_a_plain_loop():
    torch.manual_seed(0)
    layer = ConvLSTM2d(2, 3, peephole=True, dtype=torch.float64)
    x = torch.randn(1, 5, 2, 4, 4, dtype=torch.float64)
    expected = loop(layer, x[0].numpy())
    np.testing.assert_allclose(layer(x)[0][0].detach().numpy(), expected, atol=1e-12)
    with torch.no_grad():
        layer.weight_peep_l0.zero_()
    assert np.abs(layer(x)[0][0].detach().numpy() - expected).max() > 1e-3


@pytest.mark.parametrize(("cls", "plain"), [(ConvLSTM2d, LSTM), (ConvGRU2d, GRU), (ConvRNN2d, RNN)])
def test_with_one_by_one_filters_each_place_is_an_ordinary_layer(cls: type[ConvRecurrentLayer2d], plain: type[LSTM]):
    """Outputs, states and gradients, in a stack, with lengths and an initial state."""
    torch.manual_seed(0)
    layer = cls(3, 4, 2, kernel_size=1, dtype=torch.float64)
    ordinary = plain(3, 4, 2, batch_first=True, backend="reference", dtype=torch.float64)
    ordinary.load_state_dict({name: w.flatten(1) if w.dim() == 4 else w for name, w in layer.state_dict().items()})
    x = torch.randn(2, 5, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    lengths, states = torch.tensor([5, 3]), len(layer.specs[0].cell.states)
    initial = tuple(torch.randn(2, 2, 4, 3, 2, dtype=torch.float64) for _ in range(states))

    def places(t: torch.Tensor) -> torch.Tensor:
        """``(A, B, C, H, W)`` with the places of frames joined to dimension B or, if A is the batch, to A."""
        return t.permute(0, 3, 4, 1, 2).reshape(-1, t.shape[1], t.shape[2])

    output, final = layer(x, initial if states > 1 else initial[0], lengths)
    flat = tuple(s.permute(0, 1, 3, 4, 2).reshape(2, 12, 4) for s in initial)
    expected, expected_final = ordinary(places(x), flat if states > 1 else flat[0], lengths.repeat_interleave(6))
    torch.testing.assert_close(places(output), expected)
    finals = zip([final] if states == 1 else final, [expected_final] if states == 1 else expected_final, strict=True)
    for state, other in finals:
        torch.testing.assert_close(state.permute(0, 1, 3, 4, 2).reshape(2, 12, 4), other)
    (gradient,) = torch.autograd.grad(output.square().sum(), x)
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), x)
    torch.testing.assert_close(gradient, expected_gradient)


@every_layer
def test_gradients_are_those_of_finite_differences(cls: type[ConvRecurrentLayer2d]):
    torch.manual_seed(0)
    layer = cls(2, 2, dtype=torch.float64)
    x = torch.randn(1, 3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x)[0], (x, *layer.parameters()))


@every_layer
def test_a_chunked_run_is_the_whole_run(cls: type[ConvRecurrentLayer2d]):
    torch.manual_seed(0)
    layer, x = cls(3, 4, 2), torch.randn(2, 7, 3, 6, 5)
    whole, final = layer(x)
    first, state = layer(x[:, :3])
    second, last = layer(x[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(last, final)


@every_layer
def test_padding_changes_nothing(cls: type[ConvRecurrentLayer2d]):
    """Each sequence has the outputs and the state that it has alone; a sequence without steps keeps its state."""
    torch.manual_seed(0)
    layer, x = cls(3, 4), torch.randn(3, 5, 3, 4, 4)
    start = layer(torch.randn(3, 1, 3, 4, 4))[1]
    output, final = layer(x, start, [5, 2, 0])
    for row, steps in ((0, 5), (1, 2)):
        part = tuple(s[:, row : row + 1] for s in start) if isinstance(start, tuple) else start[:, row : row + 1]
        alone, state = layer(x[row : row + 1, :steps], part)
        torch.testing.assert_close(output[row : row + 1, :steps], alone)
        for ours, own in zip(*((s,) if isinstance(s, torch.Tensor) else s for s in (final, state)), strict=True):
            torch.testing.assert_close(ours[:, row : row + 1], own)
    assert not output[1, 2:].any()
    assert not output[2].any()
    for ours, before in zip(*((s,) if isinstance(s, torch.Tensor) else s for s in (final, start)), strict=True):
        torch.testing.assert_close(ours[:, 2], before[:, 2])


@every_layer
def test_a_trace_has_every_gate_and_state(cls: type[ConvRecurrentLayer2d]):
    torch.manual_seed(0)
    layer, x = cls(3, 4, 2), torch.randn(2, 5, 3, 4, 6)
    trace = layer.trace(x, lengths=[5, 3])
    assert isinstance(trace, Trace)
    torch.testing.assert_close(trace.output, layer(x, lengths=[5, 3])[0])
    torch.testing.assert_close(trace.gates[1, 0]["hidden"], trace.output)
    assert set(trace.gates) == {(0, 0), (1, 0)}
    for gates in trace.gates.values():
        assert all(gate.shape == (2, 5, 4, 4, 6) and not gate[1, 3:].any() for gate in gates.values())
        assert set(layer.specs[0].cell.states) <= set(gates)
    if cls is ConvLSTM2d:
        gates = trace.gates[0, 0]
        cell = gates["forget"][0, 1:] * gates["cell"][0, :-1] + (gates["input"] * gates["candidate"])[0, 1:]
        torch.testing.assert_close(gates["cell"][0, 1:], cell)


def test_the_forget_bias_is_that_of_the_forget_gate():
    layer = ConvLSTM2d(2, 3, forget_bias=1.0)
    assert (layer.bias_ih_l0 + layer.bias_hh_l0)[3:6].tolist() == [1.0] * 3
    torch.manual_seed(0)
    assert not (ConvLSTM2d(2, 3).bias_ih_l0[3:6] == 1).any()


def test_dropout_acts_between_layers_in_training_only():
    layer, x = ConvLSTM2d(2, 3, 2, dropout=0.5), torch.randn(1, 3, 2, 4, 4)
    torch.testing.assert_close(layer.eval()(x)[0], layer(x)[0])
    layer.train()
    assert (layer(x)[0] - layer(x)[0]).abs().max() > 0


@every_layer
def test_a_copy_and_saved_weights_give_the_same(cls: type[ConvRecurrentLayer2d]):
    layer, x = cls(3, 4), torch.randn(1, 3, 3, 5, 5)
    other = cls(3, 4)
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(copy.deepcopy(layer)(x)[0], layer(x)[0], rtol=0, atol=0)
    torch.testing.assert_close(other(x)[0], layer(x)[0], rtol=0, atol=0)


class _Step(torch.nn.Module):
    """One step with a state, as exports have it."""

    def __init__(self, layer: ConvRecurrentLayer2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output, new = self.layer(x, state if len(state) > 1 else state[0])
        return (output, new) if isinstance(new, torch.Tensor) else (output, *new)


@every_layer
def test_a_step_is_recorded_by_torch_export(cls: type[ConvRecurrentLayer2d]):
    torch.manual_seed(0)
    layer = cls(3, 4, 2).eval()
    x = torch.randn(2, 1, 3, 6, 5)
    with torch.no_grad():
        _, state = layer(x)
        states = state if isinstance(state, tuple) else (state,)
        program = torch.export.export(_Step(layer), (x, *states))
        for ours, expected in zip(program.module()(x, *states), _Step(layer)(x, *states), strict=True):
            torch.testing.assert_close(ours, expected)


@every_layer
def test_a_step_is_exported_to_onnx(cls: type[ConvRecurrentLayer2d], tmp_path: Path):
    """A step with its state, for any batch; fed step by step it gives the outputs of the whole sequence."""
    pytest.importorskip("onnx", reason="ONNX export needs the extra export")
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX export needs the extra export")
    torch.manual_seed(0)
    layer = cls(3, 4).eval()
    x = torch.randn(3, 4, 3, 6, 5)
    names = [f"state_{k}" for k in range(len(layer.specs[0].cell.states))]
    zeros = {name: torch.zeros(1, 2, 4, 6, 5) for name in names}

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step = _Step(layer)

        def forward(self, x: torch.Tensor, state_0: torch.Tensor, state_1: torch.Tensor | None = None):
            return self.step(x, state_0) if state_1 is None else self.step(x, state_0, state_1)

    dynamic = {"x": ("batch", *[None] * 4), **dict.fromkeys(names, (None, "batch", None, None, None))}
    export_onnx(Step(), tmp_path / "step.onnx", {"x": torch.zeros(2, 1, 3, 6, 5), **zeros}, dynamic=dynamic)
    session = onnxruntime.InferenceSession(tmp_path / "step.onnx", providers=["CPUExecutionProvider"])
    states = [np.zeros((1, 3, 4, 6, 5), np.float32) for _ in names]
    outputs = []
    for t in range(4):
        output, *states = session.run(None, {"x": x[:, t : t + 1].numpy(), **dict(zip(names, states, strict=True))})
        outputs.append(output)
    np.testing.assert_allclose(np.concatenate(outputs, 1), layer(x)[0].detach().numpy(), atol=1e-5)


@every_layer
def test_bfloat16_autocast_runs(cls: type[ConvRecurrentLayer2d]):
    layer, x = cls(3, 4), torch.randn(1, 3, 3, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = layer(x)
    torch.testing.assert_close(output.float(), layer(x)[0], atol=0.05, rtol=0.1)
    output.float().square().mean().backward()


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        ({"kernel_size": 2}, "kernel_size must be odd"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"hidden_size": 0}, "hidden_size must be at least 1"),
        ({"forget_bias": 1.0, "bias": False}, "forget_bias"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, float], phrase: str):
    with pytest.raises(ValueError, match=phrase):
        ConvLSTM2d(**{"input_size": 2, "hidden_size": 3, **arguments})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no option 'peephole'"):
        ConvGRU2d(2, 3, peephole=True)


@pytest.mark.parametrize(
    ("x", "state", "lengths", "phrase"),
    [
        (torch.zeros(2, 3, 2, 4), None, None, r"expected shape \(B, T, 2, H, W\)"),
        (torch.zeros(2, 3, 1, 4, 4), None, None, r"expected shape \(B, T, 2, H, W\)"),
        (torch.zeros(2, 0, 2, 4, 4), None, None, "at least one step"),
        (torch.zeros(2, 3, 2, 4, 4, dtype=torch.float64), None, None, "the weights are torch.float32"),
        (torch.zeros(2, 3, 2, 4, 4), torch.zeros(1, 2, 3, 4, 4), None, "expected the state hidden, cell"),
        (torch.zeros(2, 3, 2, 4, 4), (torch.zeros(1, 2, 3, 4, 5),) * 2, None, "expected the state"),
        (torch.zeros(2, 3, 2, 4, 4), None, [4, 1], r"lengths must be in 0\.\.3, got 1\.\.4"),
        (torch.zeros(2, 3, 2, 4, 4), None, [1], r"lengths must have shape \(2,\), got \(1,\)"),
        (torch.zeros(2, 3, 2, 4, 4), None, [1.0, 2.0], r"lengths must be integers, got torch\.float32"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(x: torch.Tensor, state: object, lengths: object, phrase: str):
    with pytest.raises(ValueError, match=phrase):
        ConvLSTM2d(2, 3)(x, state, lengths)  # type: ignore[arg-type]


def test_the_pointwise_part_does_not_depend_on_the_place():
    """A frame shifted within zeros gives shifted outputs: the same filters everywhere."""
    torch.manual_seed(0)
    layer = ConvLSTM2d(1, 3, bias=False)
    x = torch.zeros(1, 3, 1, 12, 12)
    x[..., 4:6, 4:6] = torch.randn(2, 2)
    shifted = F.pad(x, (2, -2, 1, -1))
    torch.testing.assert_close(layer(shifted)[0][..., 4:11, 5:10], layer(x)[0][..., 3:10, 3:8], atol=1e-6, rtol=1e-5)
