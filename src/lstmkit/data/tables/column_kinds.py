"""Recognize columns that are not signals: times, row numbers and labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from lstmkit.data.tables.parsing import parse_numbers
from lstmkit.data.tables.table import Table
from lstmkit.data.tables.timestamps import dates_of_numbers, read_timestamps
from lstmkit.errors import DataError

_NO_NAME = re.compile(r"(unnamed: \d+)?", re.I)  # what pandas writes for an index, and what it reads then
_INDEX_NAME = re.compile(r"(index|idx|row|step|sample|record|no|nr|#|t)([_ ]?(id|no|nr|number|index))?|level_\d+", re.I)
_TIME_NAME = re.compile(
    r"(.*[\W_])?(time|timestamps?|time_?stamps?|date|datetime|date_?time|ts|ds|epoch|unix|unix_?time|t)([\W_].*)?", re.I
)
_LABEL_NAME = re.compile(
    r"(is_?)?(label|anomal(y|ies|ous)|outlier|change_?point|attack|fault|failure|ground_?truth)s?([\W_]?(label|flag))?",
    re.I,
)

_MIN_STEPS = 20  # of a counter; fewer values may be a signal by chance


class NotASignal(NamedTuple):
    """A column that is not a signal.

    Attributes:
        kind: What it holds.
        reason: In words, for a note: ``"holds seconds since 1970"``.
    """

    kind: Literal["time", "row number", "label"]
    reason: str


def non_signals(table: Table, names: Sequence[str], groups: Sequence[np.ndarray]) -> dict[str, NotASignal]:
    """The columns among ``names`` that are times, row numbers or labels, and why.

    - Row numbers: a column without a name, or named as an index, whose whole numbers increase. Under any name, numbers
      that change by the same amount in each of at least 20 steps.
    - Times: dates or Unix times, see :func:`~lstmkit.data.tables.timestamps.dates_of_numbers`, if the column is named
      for a time or has no name, or if they pass like a clock: always on, and mostly by the same step. Other numbers
      that only increase, if the column is named for a time.
    - Labels: 0 and 1 in a column named for a label.

    Args:
        table: The table.
        names: Columns to look at.
        groups: The rows of each series, in table order.

    >>> import pandas as pd
    >>> table = Table(pd.DataFrame({"": [7, 8, 9], "v": [1.5, 2.0, 1.0], "changepoint": [0, 1, 0]}), "the frame")
    >>> {name: kind for name, (kind, _) in non_signals(table, ["", "v", "changepoint"], [np.arange(3)]).items()}
    {'': 'row number', 'changepoint': 'label'}
    """
    found = {name: _kind(table, name, groups) for name in names}
    return {name: kind for name, kind in found.items() if kind is not None}


def _kind(table: Table, name: str, groups: Sequence[np.ndarray]) -> NotASignal | None:
    has_no_name, is_named_time = _NO_NAME.fullmatch(name), _TIME_NAME.fullmatch(name)
    numbers, bad = parse_numbers(table, name)
    if bad.any():
        return _text_times(table, name) if has_no_name or is_named_time else None
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        return None
    if _LABEL_NAME.fullmatch(name):
        return NotASignal("label", "holds only 0 and 1, as labels do") if np.isin(known, (0, 1)).all() else None
    steps = np.concatenate([np.diff(numbers[rows]) for rows in groups])
    increases = bool(len(steps)) and bool((steps > 0).all())
    dates, form = dates_of_numbers(known)
    if dates is not None and (has_no_name or is_named_time or (increases and _is_regular(steps))):
        return NotASignal("time", f"holds {form}")
    if is_named_time and increases:
        return NotASignal("time", "holds times that only increase")
    if increases and (known == np.floor(known)).all() and (has_no_name or _INDEX_NAME.fullmatch(name)):
        return NotASignal("row number", "counts the rows")
    if len(steps) >= _MIN_STEPS and 0 < abs(steps[0]) < np.inf and np.ptp(steps) <= 1e-6 * abs(steps[0]):
        return NotASignal("row number", "changes by the same amount in every row, as a counter does")
    return None


def direction(numbers: np.ndarray, groups: Sequence[np.ndarray]) -> str:
    """Whether the values of a column never fall, or never rise, over at least 20 steps.

    Args:
        numbers: ``(N,)`` its values.
        groups: The rows of each series, in table order.

    Returns:
        ``"increases"``, ``"decreases"``, or an empty text.

    >>> direction(np.arange(30.0) ** 2, [np.arange(30)])
    'increases'
    """
    steps = np.concatenate([np.diff(numbers[rows]) for rows in groups])
    if len(steps) < _MIN_STEPS or not steps.any():
        return ""
    return "increases" if (steps >= 0).all() else "decreases" if (steps <= 0).all() else ""


def _is_regular(steps: np.ndarray) -> bool:
    """Whether at least half of the steps are equal, of at least three."""
    return len(steps) >= 3 and 2 * np.unique(steps, return_counts=True)[1].max() >= len(steps)


def _text_times(table: Table, name: str) -> NotASignal | None:
    return None if _timestamps(replace(table, notes=[]), name) is None else NotASignal("time", "holds dates")


def _timestamps(table: Table, name: str) -> Any:
    """The column as timestamps, ``None`` if it cannot be read so."""
    try:
        return read_timestamps(table, name)
    except DataError:
        return None


def first_time(table: Table, kinds: dict[str, NotASignal]) -> tuple[str | None, Any]:
    """The first column of ``kinds`` that can be read as timestamps, and these; ``None`` twice if there is none."""
    read = ((name, _timestamps(table, name)) for name, (kind, _) in kinds.items() if kind == "time")
    return next(((name, times) for name, times in read if times is not None), (None, None))


def described(name: str) -> str:
    """A column for a note, also one without a name.

    >>> described(""), described("t")
    ('the column without a name', "column 't'")
    """
    return f"column {name!r}" if name else "the column without a name"
