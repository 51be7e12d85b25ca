"""Scores on validation examples while a job trains, beside those of the baselines."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence

from lstmkit.errors import UserError
from lstmkit.jobs.evaluation import Evaluation
from lstmkit.models.base import Model
from lstmkit.report import number
from lstmkit.training.random_state import seeded

FIRST_AFTER = 10.0  #: Seconds of training before the first scores: shorter trainings end before these would help.
MAX_SHARE = 0.1  #: Largest share of the training time that all scores after the first may take.


class ValidationScores:
    """Says from time to time how the model and the best baseline score on the same validation examples.

    The time between two scores doubles. Training is not changed: a later state of the random generators, and weights,
    are those without scores.

    Args:
        evaluate: Scores a network and the baselines.
        say: Prints a line.
    """

    def __init__(self, evaluate: Callable[[Model], Evaluation], say: Callable[[str], None]) -> None:
        self._evaluate, self._say = evaluate, say
        self._next = FIRST_AFTER
        self._spent = self._last = 0.0
        self._best: tuple[float, int] | None = None

    def after_epoch(self, rows: Sequence[Mapping[str, float]], model: Model) -> None:
        """Score the model, if it is time.

        Args:
            rows: The history of the training so far.
            model: The network with the weights that are kept.
        """
        trained = sum(row["seconds"] for row in rows)
        if trained < self._next or (self._spent and self._spent + self._last > MAX_SHARE * trained):
            return
        self._next = 2 * trained
        started = time.perf_counter()
        try:
            with seeded(0), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the evaluation after training gives them again
                evaluation = self._evaluate(model.eval())
        except UserError as err:
            self._say(f"no scores during training: {err}")
            self._next = float("inf")
            return
        self._last = time.perf_counter() - started
        self._spent += self._last
        self._say(self._line(evaluation, len(rows)))

    def _line(self, evaluation: Evaluation, epoch: int) -> str:
        score, direction = next(iter(evaluation.directions.items()))
        value = float(evaluation.table[score].iloc[0])
        better = self._best is None or (value < self._best[0] if direction == "low" else value > self._best[0])
        if better:
            self._best = value, epoch
        assert self._best is not None
        before = "" if better else f" (best so far {number(self._best[0])}, epoch {self._best[1]})"
        baseline = evaluation.best_baseline
        beside = "" if baseline is None else f"; best baseline, {baseline[0]}, {number(baseline[1])}"
        return f"validation after epoch {epoch}: {score} {number(value)}{before}{beside}"
