"""The result of an evaluation: model and baselines in one table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any

import pandas as pd
from typing_extensions import Self

from lstmkit.evaluation.confidence import ScoredExamples, wilson_interval
from lstmkit.report import Section, format_table, number, table_html

FIT_SPLITS = ("test", "validation")  #: The splits that ``fit`` may score, the better one first.

#: What was scored, as the pages name it.
SCORED = {
    "test": "the test split, to which nothing was fitted",
    "validation": "the validation split",
    "data": "the given data",
}

VALIDATION_CAVEAT = (
    "There is no test split: these are scores on the validation split. Early stopping and calibration used it, so they "
    "are too good."
)
NO_SCORES = "There are no scores: no data with answers were held out."
_FROM_FILE = "These are the scores of fit, as metrics.json has them."


@dataclass(frozen=True)
class Evaluation:
    """Scores of the model and of the baselines on the same held-out examples.

    Attributes:
        table: One row per model: column ``model``, then one column per score. This model comes first.
        directions: For each score ``"low"`` or ``"high"``, whichever is better, or a target (``"near:80"``).
        details: The outputs that the scores were computed from.
        notes: What a reader must know to read the table.
        outputs: The predictions on the test examples, as the job's report takes them; not written to JSON.
        missing_baselines: Baselines that need the training data, if a loaded model does not have them. Without them no
            row is marked as the best, for the table cannot tell.
        examples: The independent examples that were scored. With fewer than 200 of them a note has the interval of the
            first score, or says that all have the same score.
        not_alternatives: By name the baselines that cannot be used in place of the model, and why, as a clause.
        scored: What was scored: ``"test"`` or ``"validation"``, that split of ``fit``; or ``"data"``, others.
        is_from_file: Whether it was read from the ``metrics.json`` of a run. Then ``details`` are empty and ``outputs``
            are ``None``.
    """

    table: pd.DataFrame
    directions: dict[str, str]
    details: pd.DataFrame
    notes: tuple[str, ...] = ()
    outputs: Any = field(default=None, repr=False)
    missing_baselines: tuple[str, ...] = ()
    examples: ScoredExamples | None = field(default=None, repr=False)
    not_alternatives: Mapping[str, str] = field(default_factory=dict, repr=False)
    scored: str = "data"
    is_from_file: bool = False

    def __post_init__(self) -> None:
        possible = (
            self._interval_note,
            self._missing_note,
            VALIDATION_CAVEAT if self.scored == "validation" else "",
            _FROM_FILE if self.is_from_file else "",
        )
        notes = (note for note in possible if note and note not in self.notes)
        object.__setattr__(self, "notes", (*self.notes, *notes))

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of this model's first score, if there are few examples."""
        return None if self.examples is None else self.examples.interval

    @property
    def _interval_note(self) -> str:
        if self.examples is None:
            return ""
        score = next(iter(self.directions))
        if self.examples.have_same_score:
            fraction = _between(wilson_interval(1.0, self.examples.count))
            return (
                f"All {self.examples.counted} have the same {score}, so it has no 95 % interval. The 95 % interval of "
                f"the fraction of such {self.examples.name} is {fraction}."
            )
        if self.interval is None:
            return ""
        return f"With {self.examples.counted}, the 95 % interval of this model's {score} is {_between(self.interval)}."

    @property
    def _missing_note(self) -> str:
        if not self.missing_baselines:
            return ""
        return (
            f"Missing baselines: {', '.join(self.missing_baselines)}. A loaded model does not have its training "
            "data: give them with --train FILE, or lstmkit.load(run, train=...)."
        )

    def __str__(self) -> str:
        return "\n".join([format_table(self.table, self._marks), *self.notes])

    def _repr_html_(self) -> str:
        """The table for a notebook, the best of each score in bold."""
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"{table_html(self.table, self._marks)}{notes}"

    @property
    def _marks(self) -> dict[str, str]:
        return {} if self.missing_baselines else self.directions

    @property
    def headline(self) -> str:
        """The first score in a sentence: this model's, and the best baseline's."""
        score, direction = next(iter(self.directions.items()))
        model, value = self.table[["model", score]].iloc[0]
        counted = "" if self.examples is None else f" ({self.examples.counted})"
        interval = "" if self.interval is None else f" (95 % interval {_between(self.interval)})"
        sentence = f"{score[:1].upper()}{score[1:]} of {model} on {self.part}{counted}: {number(value)}{interval}."
        if self.best_baseline is None or pd.isna(value) or self.missing_baselines:
            return sentence
        name, baseline = self.best_baseline
        worse = value > baseline if direction == "low" else value < baseline
        better = (
            f" and is better, but {self.not_alternatives[name]}" if name in self.not_alternatives else ": use that one"
        )
        return f"{sentence} The best baseline, {name}, has {number(baseline)}{better if worse else ''}."

    @property
    def best_baseline(self) -> tuple[str, float] | None:
        """Name and first score of the best baseline; ``None`` if no baseline has that score."""
        score, direction = next(iter(self.directions.items()))
        rows = self.table[["model", score]].iloc[1:].itertuples(index=False)
        known = [(name, float(value)) for name, value in rows if pd.notna(value)]
        return (min if direction == "low" else max)(known, key=lambda row: row[1]) if known else None

    @property
    def part(self) -> str:
        """What was scored, in short: ``"the test split"``."""
        return SCORED[self.scored].partition(",")[0]

    @property
    def introduction(self) -> str:
        """What was scored, and the notes: the text above the table on a page."""
        return " ".join([f"Scores on {SCORED[self.scored]}.", *self.notes])

    @property
    def lead(self) -> list[str]:
        """The sentences at the top of a page."""
        return [self.headline, *([VALIDATION_CAVEAT] if self.scored == "validation" else [])]

    def to_json(self) -> dict[str, Any]:
        """Table, directions and notes, ready for JSON. A score that is not a finite number becomes ``None``."""
        finite = self.table.replace([math.inf, -math.inf], math.nan)
        rows = finite.astype(object).where(finite.notna(), None).to_dict("records")
        saved = {"table": rows, "directions": self.directions, "notes": list(self.notes)}
        if self.examples is None:
            return saved
        return {
            **saved,
            "examples": {"count": self.examples.count, "name": self.examples.name},
            "interval": None if self.interval is None else list(self.interval),
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any], scored: str) -> Self:
        """Restore it from :meth:`to_json`, without details; of version 0.1 also without directions.

        Args:
            saved: What was saved.
            scored: Which split was scored.

        Raises:
            LookupError, TypeError, ValueError, AttributeError: It is damaged.
        """
        table = pd.DataFrame(saved["table"])
        directions = {str(name): str(rule) for name, rule in saved.get("directions", {}).items()}
        Section("", table=table, best=directions)  # checks that the table has these columns
        scores = {name: pd.to_numeric(table[name]) for name in directions}
        notes = tuple(str(note) for note in saved["notes"])
        table = table.assign(model=table["model"].astype(str), **scores)
        examples = None
        if "examples" in saved:
            count, name = int(saved["examples"]["count"]), str(saved["examples"]["name"])
            interval = None
            if saved["interval"] is not None:
                low, high = map(float, saved["interval"])
                interval = low, high
            examples = ScoredExamples(count, name, saved_interval=interval)
        return cls(table, directions, pd.DataFrame(), notes, examples=examples, scored=scored, is_from_file=True)


def fit_scores(evaluation: Evaluation | None) -> dict[str, Any]:
    """The scores of ``fit`` as ``metrics.json`` has them: by split, ``None`` for a split that was not scored."""
    scores: dict[str, Any] = dict.fromkeys(FIT_SPLITS)
    return scores if evaluation is None else {**scores, evaluation.scored: evaluation.to_json()}


def saved_evaluation(metrics: Mapping[str, Any]) -> Evaluation | None:
    """The inverse of :func:`fit_scores`: the evaluation in a ``metrics.json``, without details.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: It is damaged.
    """
    scores = {name: metrics.get(name) for name in FIT_SPLITS}
    return next((Evaluation.from_json(saved, name) for name, saved in scores.items() if saved is not None), None)


def _between(interval: tuple[float, float]) -> str:
    """An interval with three significant digits, or with as many as tell its bounds apart."""
    digits, bounds = next(
        (digits, bounds)
        for digits in range(3, 18)
        if len(set(bounds := [f"{bound:,.{digits}g}" for bound in interval])) == 2
    )
    return " to ".join(bounds if digits > 4 else [number(float(f"{bound:.{digits}g}")) for bound in interval])
