"""Roofline of a case: its arithmetic, the bytes it must move, and the speed of this machine for both."""

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
    """The measured limits of the machine.

    Attributes:
        flops: Multiplications and additions per second, all threads.
        source: How ``flops`` was measured.
        bandwidth: Bytes per second, read and written, of a copy too large for the caches.
    """

    flops: float
    source: str
    bandwidth: float


@dataclass(frozen=True)
class Work:
    """The minimum work of a case: ``flops`` of its matrix products; ``bytes``, each tensor moved once."""

    flops: float
    bytes: float

    def limits_ms(self, machine: Machine) -> tuple[float, float]:
        """Time for the arithmetic alone, and for moving the bytes from memory (less if they stay in a cache)."""
        return 1e3 * self.flops / machine.flops, 1e3 * self.bytes / machine.bandwidth


def measure(threads: int, seconds: float = 1.5) -> Machine:
    """Measure this machine: the best of several tries, because other processes can only slow it down."""
    if _native is None:
        peak, source = _matmul_flops(seconds), "2048³ torch.matmul, without the native extension"
    else:
        peak, source = max(fma_peak(threads, seconds / 5) for _ in range(5)), FMA_LOOP
    return Machine(peak, source, _copy_bandwidth(seconds))


def fma_peak(threads: int, seconds: float = 0.03) -> float:
    """Operations per second of a loop of multiply-adds; needs the native extension."""
    return _native.fma_peak(threads, seconds)


def _matmul_flops(seconds: float, size: int = 2048) -> float:
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / _quartile_seconds(lambda: torch.mm(a, b), seconds)


def _copy_bandwidth(seconds: float) -> float:
    source = torch.ones(1 << 26)  # 256 MB
    target = torch.empty_like(source)
    return 2 * source.nbytes / _quartile_seconds(lambda: target.copy_(source), seconds)


def _quartile_seconds(work, seconds: float) -> float:
    """The lower quartile of the times: more stable than the minimum, and robust to disturbances."""
    work()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.quantiles(times, n=4)[0]


def work(case: Case, active_steps: int | None = None) -> Work:
    """The work of ``case``.

    Training takes three times the products of the forward pass: the forward pass, the gradients of the data and the
    gradients of the weights. The bytes of inference are weights, input and output. Training adds the tensors saved for
    the backward pass (the gates and, in an LSTM, the cell state), written and read, output and input read again, and
    the gradients of weights, input and output.

    Args:
        case: The case.
        active_steps: Total number of steps of all sequences, if lengths differ; otherwise ``B·T``.
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
