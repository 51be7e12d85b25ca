"""The two limits of a case: the arithmetic it needs, the bytes it must move, and how fast this machine does either."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch

from layer_cases import Case

try:
    from lstmkit import _native
except ImportError:
    _native = None

FMA_LOOP = "FMA loop"
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


@dataclass(frozen=True)
class Machine:
    """What the machine reached at its best.

    Attributes:
        flops: Multiplications and additions a second, all threads.
        source: How that was measured.
        bandwidth: Bytes a second read and written by a copy too large for the caches.
    """

    flops: float
    source: str
    bandwidth: float


@dataclass(frozen=True)
class Work:
    """What a case needs at least: ``flops`` of its matrix products; ``bytes``, each needed tensor moved once."""

    flops: float
    bytes: float

    def limits_ms(self, machine: Machine) -> tuple[float, float]:
        """The time the arithmetic alone takes, and the bytes alone out of memory (less where they stay in a cache)."""
        return 1e3 * self.flops / machine.flops, 1e3 * self.bytes / machine.bandwidth


def measure(threads: int, seconds: float = 1.5) -> Machine:
    """This machine, now. The best of several tries: others on the machine can only take away."""
    if _native is None:
        peak, source = _matmul_flops(seconds), "2048³ torch.matmul, for want of the native extension"
    else:
        peak, source = max(fma_peak(threads, seconds / 5) for _ in range(5)), FMA_LOOP
    return Machine(peak, source, _copy_bandwidth(seconds))


def fma_peak(threads: int, seconds: float = 0.03) -> float:
    """Operations a second of a loop that does nothing but multiply and add; needs the native extension."""
    return _native.fma_peak(threads, seconds)


def _matmul_flops(seconds: float, size: int = 2048) -> float:
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / _least_seconds(lambda: torch.mm(a, b), seconds)


def _copy_bandwidth(seconds: float) -> float:
    source = torch.ones(1 << 26)  # 256 MB
    target = torch.empty_like(source)
    return 2 * source.nbytes / _least_seconds(lambda: target.copy_(source), seconds)


def _least_seconds(work, seconds: float) -> float:
    """The lower quartile: steadier than the least, and blind to what disturbed the rest."""
    work()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.quantiles(times, n=4)[0]


def work(case: Case, active_steps: int | None = None) -> Work:
    """What ``case`` needs.

    Training takes three times the products of the forward pass: itself, the gradient of the data, the gradient of the
    weights. The bytes of inference are weights, input and output; training adds what is kept for the backward
    pass (the gates and, in an LSTM, the cell state) written and read, output and input read again, the gradients of
    weights, input and output.

    Args:
        case: The case.
        active_steps: Steps of all sequences together, where lengths differ; ``B·T`` otherwise.
    """
    rows = active_steps or case.batch * case.steps
    gates = GATES[case.kind] - ("coupled" in case.options)
    proj = int(case.options.get("proj_size", 0))
    out = proj or case.hidden
    flops = weights = data = saved = 0
    inputs = case.inputs
    for _ in range(case.layers):
        for _ in range(case.directions):
            flops += 2 * rows * (gates * case.hidden * (inputs + out) + proj * case.hidden)
            weights += gates * case.hidden * (inputs + out + 2) + proj * case.hidden
            saved += rows * case.hidden * (gates + (case.kind == "lstm"))
        data += rows * (inputs + case.directions * out)
        inputs = case.directions * out
    size = 2 if case.dtype == "bfloat16" else 4
    if case.mode == "train":
        return Work(3 * flops, size * (3 * weights + 3 * data + 2 * saved))
    return Work(flops, size * (weights + data))
