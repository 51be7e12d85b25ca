"""Two or more ways to do the same work, timed in turns in one process."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Worker threads of OpenMP and of ONNX Runtime go on spinning for some milliseconds after their work, on the cores
#: that the next one needs: on two cores that made torch 1.5 to 2 times slower. Each turn begins after a rest.
REST_S = 0.01
#: One turn repeats short work until it is long beside the clock and the wake-up of the threads.
TURN_S = 0.003
#: Work shorter than this runs once unmeasured at the start of its turn, to find its threads awake and its data near.
SHORT_S = 0.02


@dataclass(frozen=True)
class Times:
    """Seconds a call, one value a round."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def ratio(self, theirs: Times) -> tuple[float, float, float]:
        """Theirs over ours: of the medians, and the quartiles of the rounds' own ratios."""
        by_round = [b / a for a, b in zip(self.seconds, theirs.seconds, strict=True)]
        low, _, high = statistics.quantiles(by_round, n=4, method="inclusive")
        return theirs.median / self.median, low, high


def in_turns(
    works: Sequence[Callable[[], object]], seconds: float, rounds: int | None = None, calls: int | None = None
) -> list[Times]:
    """Time every work once a round, the order turned round each time.

    Args:
        works: What to call.
        seconds: Measure about this long for each work, at least 7 rounds.
        rounds: This many rounds instead.
        calls: This many calls a turn, rather than as many as :data:`TURN_S` asks for.
    """
    once = [_estimate(work) for work in works]
    repeats = [calls or max(1, math.ceil(TURN_S / t)) for t in once]
    a_round = sum(t * (n + (t < SHORT_S)) + REST_S for t, n in zip(once, repeats, strict=True))
    rounds = rounds or max(7, min(200, round(seconds * len(works) / a_round)))
    found: list[list[float]] = [[] for _ in works]
    gc.collect()
    gc.disable()  # a collection would land on whoever's turn it is
    try:
        for turn in range(rounds):
            order = range(len(works)) if turn % 2 == 0 else reversed(range(len(works)))
            for k in order:
                found[k].append(_turn(works[k], repeats[k], warm=once[k] < SHORT_S))
    finally:
        gc.enable()
    return [Times(times) for times in found]


def _estimate(work: Callable[[], object]) -> float:
    """Seconds of one call, warm: the least of three, or of fewer where they take long."""
    work()
    times: list[float] = []
    while len(times) < 3 and sum(times) < 1:
        times.append(_turn(work, 1, warm=False, rest=0.0))
    return min(times)


def _turn(work: Callable[[], object], calls: int, warm: bool, rest: float = REST_S) -> float:
    time.sleep(rest)
    if warm:
        work()
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - start) / calls
