"""The result of an evaluation: model and baselines in one table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd

from lstmkit.evaluation.confidence import ScoredExamples
from lstmkit.report import format_table, number, table_html


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
        examples: The independent test examples. With fewer than 200 of them a note has the interval of the first score.
        not_alternatives: By name the baselines that cannot be used in place of the model, and why, as a clause.
        interval: The 95 % interval of this model's first score, from ``examples``.
    """

    table: pd.DataFrame
    directions: dict[str, str]
    details: pd.DataFrame
    notes: tuple[str, ...] = ()
    outputs: Any = field(default=None, repr=False)
    missing_baselines: tuple[str, ...] = ()
    examples: ScoredExamples | None = field(default=None, repr=False)
    not_alternatives: Mapping[str, str] = field(default_factory=dict, repr=False)
    interval: tuple[float, float] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.examples is not None and (interval := self.examples.interval) is not None:
            object.__setattr__(self, "interval", interval)
            note = (
                f"With {self.examples.counted}, the 95 % interval of this model's {next(iter(self.directions))} is "
                f"{_between(interval)}."
            )
            object.__setattr__(self, "notes", (*self.notes, note))
        if self.missing_baselines:
            note = (
                f"Missing baselines: {', '.join(self.missing_baselines)}. A loaded model does not have its training "
                "data: give them with --train FILE, or lstmkit.load(run, train=...)."
            )
            object.__setattr__(self, "notes", (*self.notes, note))

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
        (model, value), *others = self.table[["model", score]].itertuples(index=False)
        test = "the held-out test" if self.examples is None else f"the held-out test ({self.examples.counted})"
        interval = "" if self.interval is None else f" (95 % interval {_between(self.interval)})"
        sentence = f"{score[:1].upper()}{score[1:]} of {model} on {test}: {number(value)}{interval}."
        known = [(name, v) for name, v in others if pd.notna(v)]
        if not known or pd.isna(value) or self.missing_baselines:
            return sentence
        name, baseline = (min if direction == "low" else max)(known, key=lambda row: row[1])
        worse = value > baseline if direction == "low" else value < baseline
        better = (
            f" and is better, but {self.not_alternatives[name]}" if name in self.not_alternatives else ": use that one"
        )
        return f"{sentence} The best baseline, {name}, has {number(baseline)}{better if worse else ''}."

    def to_json(self) -> dict[str, Any]:
        """Table and notes, ready for JSON. A score that is not a finite number becomes ``None``."""
        finite = self.table.replace([math.inf, -math.inf], math.nan)
        rows = finite.astype(object).where(finite.notna(), None).to_dict("records")
        examples = {} if self.examples is None else {"num_examples": self.examples.count}
        interval = {} if self.interval is None else {"interval": list(self.interval)}
        return {"table": rows, "notes": list(self.notes), **examples, **interval}


def _between(interval: tuple[float, float]) -> str:
    """An interval with three significant digits."""
    low, high = (number(float(f"{bound:.3g}")) for bound in interval)
    return f"{low} to {high}"
