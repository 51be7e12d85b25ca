"""Alternating timing of several implementations of the same work in one process."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Worker threads of OpenMP and ONNX Runtime keep spinning for some milliseconds after their work, on the cores that the
#: next implementation needs: on two cores this made torch 1.5 to 2 times slower. Each turn starts with a pause.
PAUSE_S = 0.01
#: One turn repeats short work for this long, so that clock resolution and thread wake-up do not matter.
TURN_S = 0.003
#: Work shorter than this runs once without timing at the start of its turn, to wake the threads and warm the caches.
SHORT_S = 0.02


@dataclass(frozen=True)
class Times:
    """Seconds per call, one value per round."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def ratio(self, peer: Times) -> tuple[float, float, float]:
        """Time of the peer divided by this one: ratio of the medians, and the quartiles of the ratios per round."""
        by_round = [b / a for a, b in zip(self.seconds, peer.seconds, strict=True)]
        low, _, high = statistics.quantiles(by_round, n=4, method="inclusive")
        return peer.median / self.median, low, high


def in_turns(
    works: Sequence[Callable[[], object]], seconds: float, rounds: int | None = None, calls: int | None = None
) -> list[Times]:
    """Time every function once per round, in an order that alternates between rounds.

    Args:
        works: The functions.
        seconds: Approximate time for each function; at least 7 rounds.
        rounds: Number of rounds, instead of ``seconds``.
        calls: Number of calls per turn, instead of as many as :data:`TURN_S` needs.
    """
    once = [_estimate(work) for work in works]
    repeats = [calls or max(1, math.ceil(TURN_S / t)) for t in once]
    round_seconds = sum(t * (n + (t < SHORT_S)) + PAUSE_S for t, n in zip(once, repeats, strict=True))
    rounds = rounds or max(7, min(200, round(seconds * len(works) / round_seconds)))
    seconds_per_call: list[list[float]] = [[] for _ in works]
    gc.collect()
    gc.disable()  # a collection would count for a random turn
    try:
        for turn in range(rounds):
            order = range(len(works)) if turn % 2 == 0 else reversed(range(len(works)))
            for k in order:
                seconds_per_call[k].append(_turn(works[k], repeats[k], warm=once[k] < SHORT_S))
    finally:
        gc.enable()
    return [Times(times) for times in seconds_per_call]


def _estimate(work: Callable[[], object]) -> float:
    """Seconds of one warm call: the minimum of three, or of fewer if they take long."""
    work()
    times: list[float] = []
    while len(times) < 3 and sum(times) < 1:
        times.append(_turn(work, 1, warm=False, pause=0.0))
    return min(times)


def _turn(work: Callable[[], object], calls: int, warm: bool, pause: float = PAUSE_S) -> float:
    time.sleep(pause)
    if warm:
        work()
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - start) / calls
