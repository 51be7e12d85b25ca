"""Ours and the others: each one the same weights, the same input, the same work, and its numbers to be checked."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import jax_peers
import lstmkit
from implementation import Data, Side, Unavailable
from layer_cases import COMPILED, EAGER, ORT, PACKED, TORCH, Case
from numerical_check import Numbers
from onnx_peer import onnx_runtime

OURS = {"lstm": lstmkit.LSTM, "gru": lstmkit.GRU, "rnn": lstmkit.RNN}
THEIRS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
#: Steps over which streaming is compared with the reference.
STREAMED = 40

Forward = Callable[[Tensor], tuple[Tensor, object]]


def prepare(case: Case, seed: int, backend: str = "auto") -> tuple[nn.Module, Data]:
    """Our layer and its input, the same for the same case and seed."""
    seed = (seed + zlib.crc32(repr(case).encode())) % 2**31
    torch.manual_seed(seed)
    dtype = getattr(torch, case.dtype)
    layer = _layer(OURS[case.kind], case, backend=backend).to(dtype)
    steps = STREAMED if case.mode == "stream" else case.steps
    x = torch.randn(steps, case.batch, case.inputs)
    out = case.directions * int(case.options.get("proj_size", case.hidden))
    lengths = torch.randint(1, steps + 1, (case.batch,)) if case.ragged else None
    return layer, Data(x, torch.randn(steps, case.batch, out), lengths, seed).to(dtype)


def _layer(kind: type[nn.Module], case: Case, **more: object) -> nn.Module:
    return kind(case.inputs, case.hidden, case.layers, bidirectional=case.bidirectional, **case.options, **more)


def ours(case: Case, layer: nn.Module, data: Data) -> Side:
    if case.mode == "stream":
        return _streaming("ours", lambda: _into_one_place(layer.eval().stream(), case), data)
    return _side("ours", case, layer, lambda x: layer(x, lengths=data.lengths), data)


def reference(case: Case, layer: nn.Module, data: Data) -> Numbers:
    """The plain loop over the equations in float64: the numbers that count."""
    loop = _layer(OURS[case.kind], case, backend="reference").double()
    loop.load_state_dict(layer.state_dict())
    data = data.to(torch.float64)
    return _side("reference", case, loop, lambda x: loop(x, lengths=data.lengths), data).numbers()


def peer(name: str, case: Case, layer: nn.Module, data: Data) -> Side:
    """A peer with the weights of ``layer``.

    Raises:
        Unavailable: It cannot run here, or not this case.
    """
    if name == ORT:
        return onnx_runtime(case, layer, data)
    if name in ("JAX", "Keras"):
        return jax_peers.peer(name, case, layer, data)
    return {TORCH: _torch, PACKED: _packed, EAGER: _eager, COMPILED: _compiled}[name](case, layer, data)


def _torch(case: Case, layer: nn.Module, data: Data) -> Side:
    theirs = _with_weights_of(layer, _layer(THEIRS[case.kind], case))
    if case.mode == "stream":
        return _streaming(TORCH, lambda: _TorchStream(theirs), data)
    return _side(TORCH, case, theirs, theirs, data)


def _packed(case: Case, layer: nn.Module, data: Data) -> Side:
    theirs = _with_weights_of(layer, _layer(THEIRS[case.kind], case))

    def forward(x: Tensor) -> tuple[Tensor, object]:
        packed, state = theirs(pack_padded_sequence(x, data.lengths, enforce_sorted=False))
        return pad_packed_sequence(packed, total_length=x.shape[0])[0], state

    return _side(PACKED, case, theirs, forward, data)


def _eager(case: Case, layer: nn.Module, data: Data) -> Side:
    loop = _with_weights_of(layer, _layer(OURS[case.kind], case, backend="reference"))
    return _side(EAGER, case, loop, lambda x: loop(x, lengths=data.lengths), data)


def _compiled(case: Case, layer: nn.Module, data: Data) -> Side:
    """The plain loop through torch.compile, unrolled; compiled here, forward and backward."""
    torch._dynamo.reset()  # every layer shares one forward: without this, the ninth would silently run eagerly
    loop = _with_weights_of(layer, _layer(OURS[case.kind], case, backend="reference"))
    # The compiler's own random numbers are others than eager torch's: zoneout's masks could not be compared.
    forward = torch.compile(loop, dynamic=False, options={"fallback_random": True})
    side = _side(COMPILED, case, loop, forward, data)
    start = time.perf_counter()
    try:
        side.work()
    except Exception as error:  # a missing C++ compiler and whatever else goes wrong inside
        raise Unavailable(f"torch.compile failed: {str(error).strip().splitlines()[0]}") from error
    side.notes["compile_s"] = round(time.perf_counter() - start, 1)
    return side


def _with_weights_of(layer: nn.Module, theirs: nn.Module) -> nn.Module:
    theirs.load_state_dict(layer.state_dict())
    return theirs.to(next(layer.parameters()).dtype)


def _side(name: str, case: Case, module: nn.Module, forward: Forward, data: Data) -> Side:
    """A training step or an inference of a torch module."""
    if case.mode == "infer":
        module.eval()

        def infer() -> tuple[Tensor, object]:
            with torch.inference_mode():
                return forward(data.x)

        return Side(name, infer, lambda: values(*infer()))

    x = data.x.clone().requires_grad_()
    weights = dict(module.named_parameters())

    def train() -> tuple[Tensor, object]:
        for leaf in (x, *weights.values()):
            leaf.grad = None
        output, state = forward(x)
        output.backward(data.weighting)
        return output, state

    def numbers() -> Numbers:
        torch.manual_seed(data.seed)  # zoneout draws its masks in the forward pass
        found = values(*train())
        return found | {f"grad {n}": leaf.grad.clone() for n, leaf in (("x", x), *weights.items())}

    return Side(name, train, numbers)


def values(output: Tensor, state: object) -> Numbers:
    """Output and final states by name."""
    states = state if isinstance(state, tuple) else (state,)
    named = {"output": output, **dict(zip("hc", states, strict=False))}
    return {name: value.detach().clone() for name, value in named.items()}


def _into_one_place(live: lstmkit.Stream, case: Case) -> Callable[[Tensor], Tensor]:
    """The stream without an allocation in the step, as ONNX Runtime's bound outputs have none."""
    out = torch.empty(case.batch, case.hidden)
    return lambda x: live(x, out)


class _TorchStream:
    """torch's layer, its state carried."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer, self.state = layer.eval(), None

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        output, self.state = self.layer(x.unsqueeze(0), self.state)
        return output.squeeze(0)


def _streaming(name: str, start: Callable[[], Callable[[Tensor], Tensor]], data: Data) -> Side:
    """One step after another; timed from a state that a few steps have filled."""
    live = start()
    step = data.x[0]

    def numbers() -> Numbers:
        fresh = start()
        return {"output": torch.stack([fresh(x).clone() for x in data.x])}

    return Side(name, lambda: live(step), numbers)
