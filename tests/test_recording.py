"""Whatever records, transforms or copies a layer gives the right outputs for other inputs, or refuses."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import warnings
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as fw
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

import lstmkit
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.modules.cross_entropy import linear_cross_entropy
from lstmkit.ops.cpu.kernels import extension

LAYERS: dict[str, tuple[type[RecurrentLayer], dict[str, Any]]] = {
    "LSTM": (lstmkit.LSTM, {}),
    "stacked bidirectional LSTM": (lstmkit.LSTM, {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    "projected LSTM": (lstmkit.LSTM, {"proj_size": 2}),
    "peephole LSTM": (lstmkit.LSTM, {"peephole": True}),
    "layer norm LSTM": (lstmkit.LSTM, {"layer_norm": True, "zoneout": 0.1}),
    "GRU": (lstmkit.GRU, {}),
    "RNN": (lstmkit.RNN, {"nonlinearity": "relu"}),
}
CLOSE = {"rtol": 1e-5, "atol": 1e-6}

every_layer = pytest.mark.parametrize("name", LAYERS)
with_and_without_gradients = pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])


def make(name: str, backend: str = "auto") -> RecurrentLayer:
    kind, options = LAYERS[name]
    torch.manual_seed(0)
    return kind(3, 4, backend=backend, **options).eval()


def inputs(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def jit_trace(function: Any, *arguments: Tensor) -> Any:
    """``torch.jit.trace`` with its checks; saved and loaded again, as users keep it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        traced = torch.jit.trace(function, arguments)
        file = io.BytesIO()
        torch.jit.save(traced, file)
        file.seek(0)
        return torch.jit.load(file)


@every_layer
@with_and_without_gradients
def test_jit_trace(name: str, grad: bool):
    """A trace computes the layer on other values, and on other shapes if torch has the layer; else it refuses them."""
    layer = make(name)
    with torch.set_grad_enabled(grad):
        traced = jit_trace(layer, inputs(5, 2, 3))
        torch.testing.assert_close(traced(inputs(5, 2, 3, seed=2)), layer(inputs(5, 2, 3, seed=2)), **CLOSE)
        longer = inputs(7, 4, 3)
        if lstmkit.explain_backend(make(name, "torch"), longer).chosen == "torch":
            torch.testing.assert_close(traced(longer), layer(longer), **CLOSE)
        else:
            for shape in ((7, 2, 3), (4, 2, 3), (1, 2, 3)):
                with pytest.raises(RuntimeError):
                    traced(inputs(*shape))


def test_jit_trace_with_lengths():
    """Lengths are an input of the trace: other lengths give other outputs, also zero."""
    layer = make("LSTM").requires_grad_(False)  # a trace of a function holds no parameters
    x = inputs(5, 3, 3)
    traced = jit_trace(lambda x, lengths: layer(x, lengths=lengths)[0], x, torch.tensor([5, 4, 2]))
    for lengths in ([5, 4, 2], [1, 5, 5], [0, 3, 5]):
        torch.testing.assert_close(traced(x, torch.tensor(lengths)), layer(x, lengths=lengths)[0], **CLOSE)


@every_layer
def test_jit_trace_with_an_initial_state(name: str):
    """The state is an input of the trace, beside lengths: others give other outputs and other final states."""
    layer = make(name).requires_grad_(False)

    def run(x: Tensor, lengths: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        output, last = layer(x, state if len(state) == 2 else state[0], lengths=lengths)
        return (output, *last) if isinstance(last, tuple) else (output, last)

    x = inputs(3, 3, 3)  # as many steps as sequences, so that batch_first changes no shape
    last = layer(x)[1]
    shapes = [part.shape for part in (last if isinstance(last, tuple) else (last,))]
    first, other = ([inputs(*shape, seed=seed + i) for i, shape in enumerate(shapes)] for seed in (2, 7))
    traced = jit_trace(run, x, torch.tensor([3, 2, 1]), *first)
    for state, lengths in ((first, [3, 2, 1]), (other, [3, 2, 1]), (other, [1, 0, 3])):
        torch.testing.assert_close(traced(x, torch.tensor(lengths), *state), run(x, torch.tensor(lengths), *state))


@pytest.mark.skipif(extension is None, reason="there is no extension")
def test_kernels_asked_for_by_name_refuse_a_jit_trace():
    """There is no graph without the layer in it."""
    with pytest.raises(lstmkit.BackendUnavailable, match=r"torch\.jit\.trace cannot record the C\+\+ kernels"):
        jit_trace(make("LSTM", "native"), inputs(5, 2, 3))


@every_layer
@with_and_without_gradients
def test_make_fx(name: str, grad: bool):
    """The graph of ``make_fx`` computes the layer on other values."""
    layer = make(name)
    with torch.set_grad_enabled(grad):
        graph = make_fx(lambda x: layer(x)[0], tracing_mode="real")(inputs(5, 2, 3))
        torch.testing.assert_close(graph(inputs(5, 2, 3, seed=2)), layer(inputs(5, 2, 3, seed=2))[0], **CLOSE)


@with_and_without_gradients
def test_the_loss_over_a_large_vocabulary(grad: bool):
    """The fused cross-entropy is in the record, too."""
    weight, bias, targets = inputs(300, 300), inputs(300), torch.arange(8)
    with torch.set_grad_enabled(grad):

        def loss(x: Tensor) -> Tensor:
            return linear_cross_entropy(x, weight, bias, targets)

        x = inputs(8, 300, seed=3)
        for recorded in (jit_trace(loss, inputs(8, 300)), make_fx(loss, tracing_mode="real")(inputs(8, 300))):
            torch.testing.assert_close(recorded(x), loss(x), **CLOSE)


@every_layer
@with_and_without_gradients
def test_torch_export_with_any_number_of_steps(name: str, grad: bool):
    """An exported program computes the layer on sequences of other lengths."""
    layer = make(name)
    time = 1 if layer.batch_first else 0
    with torch.set_grad_enabled(grad):
        steps = torch.export.Dim("steps", min=2, max=64)
        exported = torch.export.export(layer, (inputs(6, 6, 3),), dynamic_shapes=({time: steps},)).module()
        longer = inputs(6, 11, 3) if layer.batch_first else inputs(11, 6, 3)
        torch.testing.assert_close(exported(longer), layer(longer), **CLOSE)


@every_layer
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch uses it for them
def test_forward_mode_derivatives(name: str):
    """``auto`` takes a back end that has them: they equal a difference quotient."""
    layer = make(name).double()
    x, direction = inputs(5, 2, 3).double(), inputs(5, 2, 3, seed=2).double()
    with fw.dual_level():
        tangent = fw.unpack_dual(layer(fw.make_dual(x, direction))[0]).tangent
    quotient = (layer(x + 1e-6 * direction)[0] - layer(x - 1e-6 * direction)[0]) / 2e-6
    torch.testing.assert_close(tangent, quotient.detach(), rtol=1e-6, atol=1e-8)


@every_layer
def test_copies(name: str):
    """``deepcopy`` and ``pickle`` give a layer of its own with the same outputs."""
    layer, x = make(name), inputs(5, 2, 3)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(x)[0], layer(x)[0])
        with torch.no_grad():
            next(copied.parameters()).add_(1)
        assert not torch.equal(copied(x)[0], layer(x)[0])


def _forward(layer: RecurrentLayer, x: Tensor, queue: Any) -> None:
    torch.set_num_threads(1)
    queue.put(layer(x)[0].tolist())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_processes(method: str):
    """A forked and a spawned process compute the same outputs."""
    context = multiprocessing.get_context(method)
    layer, x = make("LSTM").requires_grad_(False), inputs(5, 2, 3)
    expected = layer(x)[0]
    queue = context.SimpleQueue()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*multi-threaded.*", category=DeprecationWarning)
        process = context.Process(target=_forward, args=(layer, x, queue))
        process.start()
    outputs = torch.tensor(queue.get())
    process.join(60)
    assert process.exitcode == 0
    torch.testing.assert_close(outputs, expected, **CLOSE)


def test_symbolic_trace_refuses():
    """``torch.fx.symbolic_trace`` cannot follow the checks of a layer, and says so."""
    with pytest.raises(torch.fx.proxy.TraceError):
        torch.fx.symbolic_trace(make("LSTM"))


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # quantize_dynamic itself
def test_quantization_says_that_it_leaves_the_layer():
    """``quantize_dynamic`` knows only torch's layers; the model still runs, and other layers are quantized."""
    model = nn.Sequential(make("LSTM"))
    with pytest.warns(UserWarning, match=r"does not quantize lstmkit\.LSTM: it stays as it is"):
        quantized = torch.ao.quantization.quantize_dynamic(model, {nn.LSTM, nn.Linear})
    assert torch.equal(quantized(inputs(5, 2, 3))[0], model(inputs(5, 2, 3))[0])
    assert not hasattr(model[0], "qconfig")
    assert not hasattr(quantized[0], "qconfig")
