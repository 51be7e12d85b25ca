"""Implementations of a layer, lstmkit and its peers: same weights, same input, same work, with results to check."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import jax_peers
import lstmkit
from implementation import Data, Implementation, Unavailable
from layer_cases import COMPILED, EAGER, LSTMKIT, ORT, PACKED, TORCH, Case
from numerical_check import Tensors
from onnx_peer import onnx_runtime

LSTMKIT_LAYERS = {"lstm": lstmkit.LSTM, "gru": lstmkit.GRU, "rnn": lstmkit.RNN}
TORCH_LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
#: Number of streaming steps that are compared with the reference.
STREAMED_STEPS = 40

Forward = Callable[[Tensor], tuple[Tensor, object]]


def prepare(case: Case, seed: int, backend: str = "auto") -> tuple[nn.Module, Data]:
    """The lstmkit layer and its input; deterministic for a case and seed."""
    seed = (seed + zlib.crc32(repr(case).encode())) % 2**31
    torch.manual_seed(seed)
    dtype = getattr(torch, case.dtype)
    layer = _layer(LSTMKIT_LAYERS[case.kind], case, backend=backend).to(dtype)
    steps = STREAMED_STEPS if case.mode == "stream" else case.steps
    x = torch.randn(steps, case.batch, case.inputs)
    out = case.directions * int(case.options.get("proj_size", case.hidden))
    lengths = torch.randint(1, steps + 1, (case.batch,)) if case.ragged else None
    return layer, Data(x, torch.randn(steps, case.batch, out), lengths, seed).to(dtype)


def _layer(kind: type[nn.Module], case: Case, **more: object) -> nn.Module:
    return kind(case.inputs, case.hidden, case.layers, bidirectional=case.bidirectional, **case.options, **more)


def lstmkit_layer(case: Case, layer: nn.Module, data: Data) -> Implementation:
    if case.mode == "stream":
        return _streaming(LSTMKIT, lambda: _preallocated(layer.eval().stream(), case), data)
    return _implementation(LSTMKIT, case, layer, lambda x: layer(x, lengths=data.lengths), data)


def reference(case: Case, layer: nn.Module, data: Data) -> Tensors:
    """Results of the reference loop over the equations in float64."""
    loop = _layer(LSTMKIT_LAYERS[case.kind], case, backend="reference").double()
    loop.load_state_dict(layer.state_dict())
    data = data.to(torch.float64)
    return _implementation("reference", case, loop, lambda x: loop(x, lengths=data.lengths), data).tensors()


def peer(name: str, case: Case, layer: nn.Module, data: Data) -> Implementation:
    """A peer with the weights of ``layer``.

    Raises:
        Unavailable: It cannot run on this machine, or not this case.
    """
    if name == ORT:
        return onnx_runtime(case, layer, data)
    if name in ("JAX", "Keras"):
        return jax_peers.peer(name, case, layer, data)
    return {TORCH: _torch, PACKED: _packed, EAGER: _eager, COMPILED: _compiled}[name](case, layer, data)


def _torch(case: Case, layer: nn.Module, data: Data) -> Implementation:
    module = _with_weights_of(layer, _layer(TORCH_LAYERS[case.kind], case))
    if case.mode == "stream":
        return _streaming(TORCH, lambda: _TorchStream(module), data)
    return _implementation(TORCH, case, module, module, data)


def _packed(case: Case, layer: nn.Module, data: Data) -> Implementation:
    module = _with_weights_of(layer, _layer(TORCH_LAYERS[case.kind], case))

    def forward(x: Tensor) -> tuple[Tensor, object]:
        packed, state = module(pack_padded_sequence(x, data.lengths, enforce_sorted=False))
        return pad_packed_sequence(packed, total_length=x.shape[0])[0], state

    return _implementation(PACKED, case, module, forward, data)


def _eager(case: Case, layer: nn.Module, data: Data) -> Implementation:
    loop = _with_weights_of(layer, _layer(LSTMKIT_LAYERS[case.kind], case, backend="reference"))
    return _implementation(EAGER, case, loop, lambda x: loop(x, lengths=data.lengths), data)


def _compiled(case: Case, layer: nn.Module, data: Data) -> Implementation:
    """The reference loop through torch.compile, which unrolls it; compiles forward and backward pass."""
    torch._dynamo.reset()  # all layers share one forward: without this, the ninth would silently run eagerly
    loop = _with_weights_of(layer, _layer(LSTMKIT_LAYERS[case.kind], case, backend="reference"))
    # By default compiled code has its own random numbers, so zoneout masks could not be compared.
    forward = torch.compile(loop, dynamic=False, options={"fallback_random": True})
    compiled = _implementation(COMPILED, case, loop, forward, data)
    start = time.perf_counter()
    try:
        compiled.work()
    except Exception as error:  # such as a missing C++ compiler
        raise Unavailable(f"torch.compile failed: {str(error).strip().splitlines()[0]}") from error
    compiled.notes["compile_s"] = round(time.perf_counter() - start, 1)
    return compiled


def _with_weights_of(layer: nn.Module, module: nn.Module) -> nn.Module:
    module.load_state_dict(layer.state_dict())
    return module.to(next(layer.parameters()).dtype)


def _implementation(name: str, case: Case, module: nn.Module, forward: Forward, data: Data) -> Implementation:
    """Training step or inference of a torch module."""
    if case.mode == "infer":
        module.eval()

        def infer() -> tuple[Tensor, object]:
            with torch.inference_mode():
                return forward(data.x)

        return Implementation(name, infer, lambda: values(*infer()))

    x = data.x.clone().requires_grad_()
    weights = dict(module.named_parameters())

    def train() -> tuple[Tensor, object]:
        for leaf in (x, *weights.values()):
            leaf.grad = None
        output, state = forward(x)
        output.backward(data.weighting)
        return output, state

    def tensors() -> Tensors:
        torch.manual_seed(data.seed)  # zoneout samples its masks in the forward pass
        return values(*train()) | {f"grad {n}": leaf.grad.clone() for n, leaf in (("x", x), *weights.items())}

    return Implementation(name, train, tensors)


def values(output: Tensor, state: object) -> Tensors:
    """Output and final state by name."""
    states = state if isinstance(state, tuple) else (state,)
    named = {"output": output, **dict(zip("hc", states, strict=False))}
    return {name: value.detach().clone() for name, value in named.items()}


def _preallocated(live: lstmkit.Stream, case: Case) -> Callable[[Tensor], Tensor]:
    """A streaming step without memory allocation, like the bound outputs of ONNX Runtime."""
    out = torch.empty(case.batch, case.hidden)
    return lambda x: live(x, out)


class _TorchStream:
    """A torch.nn layer that keeps its state between steps."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer, self.state = layer.eval(), None

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        output, self.state = self.layer(x.unsqueeze(0), self.state)
        return output.squeeze(0)


def _streaming(name: str, start: Callable[[], Callable[[Tensor], Tensor]], data: Data) -> Implementation:
    """Streaming step by step; timed after a few steps, not from the zero state."""
    live = start()
    step = data.x[0]

    def tensors() -> Tensors:
        fresh = start()
        return {"output": torch.stack([fresh(x).clone() for x in data.x])}

    return Implementation(name, lambda: live(step), tensors)
