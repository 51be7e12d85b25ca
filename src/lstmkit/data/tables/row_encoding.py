"""Rows of a table as features: scaled numbers, marks of missing values, time, ids of categories. Needs only numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from typing_extensions import Self

from lstmkit.data.tables.missing_text import MISSING as MISSING_TEXT

UNKNOWN, MISSING, FIRST_KNOWN = 0, 1, 2  #: Ids of categories: not in the training data, missing, and the first known.
MAX_SCALED = 10.0  #: Scaled numbers are clipped to this size.
DAY, WEEK, YEAR = 86_400.0, 7 * 86_400.0, 365.2425 * 86_400.0  #: Periods of the clock, in seconds.
TIME_SINCE_LAST = "time since the last row"
_CLOCK_NAMES = {DAY: "time of day", WEEK: "day of week", YEAR: "time of year"}
_HARMONICS = {DAY: 2, WEEK: 3, YEAR: 1}
_MONDAY = 4 * DAY  # 1970-01-05
_HEAVY_TAIL = 8.0  # standard deviations: a column with a larger value is compressed
_NORMAL_IQR = 1.349  # interquartile range of the standard normal distribution
_TAILS = (0.002, 0.005, 0.01, 0.02)  # levels of further edges of bins, at both ends
_MIN_STD = 1e-12  # relative to the largest value: what varies less is constant, up to rounding


@dataclass(frozen=True, eq=False)
class RowEncoding:
    """What encodes rows. Features are, in this order: numbers, marks of missing numbers, time, ids of categories.

    A number is standardized. If a training value is more than 8 standard deviations from the mean, the column has a
    heavy tail: its values are compressed by ``asinh((x - median) / scale)`` first. The result is clipped to ±10.
    A missing number is 0, the mean, and has a mark if numbers of its column were missing in training.

    Attributes:
        number_names: ``N`` columns.
        category_names: ``C`` columns.
        center, scale: ``(N,)`` for the compression of columns with a heavy tail; 0 and 1 for others.
        is_compressed: ``(N,)`` bool.
        mean, std: ``(N,)`` of the (compressed) training values; the deviation of a constant column is 1.
        has_mark: ``(N,)`` bool: columns with a mark of missing values.
        vocabularies: Known categories of each column; the first has the id :data:`FIRST_KNOWN`.
        elapsed: Mean and deviation of the logarithm of the time since the last row; ``None`` if it is not read.
        periods: Periods of the clock that are read: :data:`DAY`, :data:`WEEK` or :data:`YEAR`.
        edges: For each column of numbers ascending edges of bins, in scaled values; empty without bins.
    """

    number_names: tuple[str, ...]
    category_names: tuple[str, ...]
    center: np.ndarray
    scale: np.ndarray
    is_compressed: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    has_mark: np.ndarray
    vocabularies: tuple[tuple[str, ...], ...]
    elapsed: tuple[float, float] | None = None
    periods: tuple[float, ...] = ()
    edges: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def fitted(
        cls,
        names: tuple[Sequence[str], Sequence[str]],
        numbers: np.ndarray,
        categories: np.ndarray,
        *,
        elapsed: np.ndarray | None = None,
        clock: np.ndarray | None = None,
        min_count: int = 1,
        max_categories: int = 10_000,
        bins: int = 0,
        compress: bool = True,
    ) -> Self:
        """Fit scales, vocabularies and the choice of features to training rows.

        Args:
            names: Names of the columns of numbers, and of those of categories.
            numbers: ``(R, N)`` float64, NaN where missing.
            categories: ``(R, C)`` texts, ``None`` where missing.
            elapsed: ``(R,)`` time since the last row, NaN in the first one of an entity; ``None`` to leave it out.
            clock: ``(R,)`` seconds since 1970 by the clock on the wall; ``None`` to leave the clock out.
            min_count: Occurrences of a category that make it known.
            max_categories: Most frequent categories of a column that are known.
            bins: Bins with equally many training values, for a piecewise-linear encoding; 0 for none. There are
                further edges in the tails. Fewer distinct values have fewer bins.
            compress: Whether heavy tails are compressed. Otherwise numbers are only shifted and scaled, so far that no
                training value is clipped.
        """
        center, scale, is_compressed = _compression(numbers, compress)
        compressed = _compress(numbers, center, scale, is_compressed)
        mean, std = _mean_std(compressed)
        if not compress:
            std = np.maximum(std, np.abs(np.nan_to_num(numbers - mean)).max(axis=0, initial=0.0) / MAX_SCALED)
        vocabularies = tuple(_vocabulary(column, min_count, max_categories) for column in categories.T)
        return cls(
            tuple(names[0]),
            tuple(names[1]),
            center,
            scale,
            is_compressed,
            mean,
            std,
            np.asarray(np.isnan(numbers).any(axis=0)),
            vocabularies,
            None if elapsed is None else _elapsed_scale(elapsed),
            () if clock is None else _periods(clock),
            _edges((compressed - mean) / std, bins) if bins else (),
        )

    @property
    def num_numbers(self) -> int:
        """Features before the ids of categories."""
        return len(self.columns) - len(self.category_names)

    @property
    def vocabulary_sizes(self) -> tuple[int, ...]:
        """Ids of each column of categories."""
        return tuple(FIRST_KNOWN + len(vocabulary) for vocabulary in self.vocabularies)

    @property
    def columns(self) -> tuple[str, ...]:
        """``F`` names: the column, or kind of time, that each feature comes from."""
        marked = [name for name, mark in zip(self.number_names, self.has_mark, strict=True) if mark]
        time = [] if self.elapsed is None else [TIME_SINCE_LAST, TIME_SINCE_LAST]
        clock = [_CLOCK_NAMES[period] for period in self.periods for _ in range(2 * _HARMONICS[period])]
        return (*self.number_names, *marked, *time, *clock, *self.category_names)

    def typical_row(self) -> dict[str, Any]:
        """A row with the middle of each column of numbers and the most frequent category of each other column."""
        middle = np.where(self.is_compressed, self.center, self.mean).round(4).tolist()
        frequent = (vocabulary[0] if vocabulary else None for vocabulary in self.vocabularies)
        return dict(zip((*self.number_names, *self.category_names), (*middle, *frequent), strict=True))

    def encode(
        self,
        numbers: np.ndarray,
        categories: np.ndarray,
        elapsed: np.ndarray | None = None,
        clock: np.ndarray | None = None,
    ) -> np.ndarray:
        """Features ``(R, F)`` float32; ids of categories are whole numbers among them.

        Args:
            numbers, categories, elapsed, clock: As in :meth:`fitted`; times are needed only if they are read.
        """
        scaled = (_compress(numbers, self.center, self.scale, self.is_compressed) - self.mean) / self.std
        parts = [np.nan_to_num(np.clip(scaled, -MAX_SCALED, MAX_SCALED)), np.isnan(numbers)[:, self.has_mark]]
        if self.elapsed is not None:
            assert elapsed is not None
            mean, std = self.elapsed
            logs = (np.log1p(np.maximum(elapsed, 0)) - mean) / std
            parts += [np.nan_to_num(np.clip(logs, -MAX_SCALED, MAX_SCALED))[:, None], np.isnan(elapsed)[:, None]]
        for period in self.periods:
            assert clock is not None
            turns = 2 * np.pi * np.outer((clock - _MONDAY) / period, 1 + np.arange(_HARMONICS[period]))
            parts += [np.sin(turns), np.cos(turns)]
        return np.concatenate([*parts, self._ids(categories)], axis=1, dtype=np.float32)

    def _ids(self, categories: np.ndarray) -> np.ndarray:
        """``(R, C)`` ids."""
        ids = np.zeros(categories.shape, dtype=np.int64)
        for row, (column, vocabulary) in enumerate(zip(categories.T, self.vocabularies, strict=True)):
            index = {value: FIRST_KNOWN + k for k, value in enumerate(vocabulary)}
            ids[:, row] = [MISSING if value is None else index.get(value, UNKNOWN) for value in column.tolist()]
        return ids

    def state(self) -> dict[str, Any]:
        """Everything that was fitted, ready for JSON."""
        arrays = ("center", "scale", "is_compressed", "mean", "std", "has_mark")
        return {
            "numbers": list(self.number_names),
            "categories": list(self.category_names),
            **{name: getattr(self, name).tolist() for name in arrays},
            "vocabularies": [list(vocabulary) for vocabulary in self.vocabularies],
            "elapsed": None if self.elapsed is None else list(self.elapsed),
            "periods": list(self.periods),
            "edges": [list(of_column) for of_column in self.edges],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`state`.

        Raises:
            LookupError, TypeError, ValueError: The state is damaged.
        """
        floats = {name: np.array(state[name], dtype=np.float64) for name in ("center", "scale", "mean", "std")}
        marks = {name: state[name] for name in ("is_compressed", "has_mark")}
        if not all(isinstance(mark, bool) for values in marks.values() for mark in values):
            raise ValueError("its marks of columns are not true or false")
        elapsed = None if state["elapsed"] is None else tuple(map(float, state["elapsed"]))
        encoding = cls(
            tuple(state["numbers"]),
            tuple(state["categories"]),
            **floats,
            **{name: np.array(values, dtype=bool) for name, values in marks.items()},
            vocabularies=tuple(tuple(vocabulary) for vocabulary in state["vocabularies"]),
            elapsed=elapsed,  # type: ignore[arg-type]
            periods=tuple(state["periods"]),
            edges=tuple(tuple(map(float, of_column)) for of_column in state["edges"]),
        )
        encoding._check()
        return encoding

    def _check(self) -> None:
        names = (*self.number_names, *self.category_names)
        texts = [*names, *(value for vocabulary in self.vocabularies for value in vocabulary)]
        if not all(isinstance(text, str) for text in texts) or len(set(names)) < len(names):
            raise ValueError("its columns are not distinct texts")
        if len(self.vocabularies) != len(self.category_names):
            raise ValueError("its vocabularies do not match its columns of categories")
        per_number = (self.center, self.scale, self.mean, self.std, self.is_compressed, self.has_mark)
        if any(values.shape != (len(self.number_names),) for values in per_number):
            raise ValueError("its scales do not match its columns of numbers")
        if not all(np.isfinite(values).all() for values in per_number) or not ((self.scale > 0) & (self.std > 0)).all():
            raise ValueError("its scales are invalid")
        if self.elapsed is not None and (len(self.elapsed) != 2 or not np.isfinite(self.elapsed).all()):
            raise ValueError("its scale of time is invalid")
        if self.elapsed is not None and not self.elapsed[1] > 0:
            raise ValueError("its scale of time is not positive")
        if not set(self.periods) <= set(_CLOCK_NAMES):
            raise ValueError("its periods of the clock are unknown")
        if self.edges and len(self.edges) != len(self.number_names):
            raise ValueError("its edges do not match its columns of numbers")
        if not all(np.isfinite(of_column).all() and (np.diff(of_column) > 0).all() for of_column in self.edges):
            raise ValueError("its edges do not ascend")


def category_text(value: Any) -> str | None:
    """A category as text: 1 and 1.0 are ``"1"``; ``None`` if it is missing.

    >>> category_text(3.0), category_text("b"), category_text(float("nan")), category_text("NA")
    ('3', 'b', None, None)
    """
    if value is None or value != value or (isinstance(value, str) and value in MISSING_TEXT):
        return None
    is_number = isinstance(value, (bool, np.bool_, float, np.floating))
    whole = is_number and np.isfinite(value) and value == np.floor(value)
    return str(int(value)) if whole else str(value)


def elapsed_times(seconds: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Time since the last row of the same entity ``(R,)``, NaN in its first row.

    Args:
        seconds: ``(R,)`` times, sorted within each entity.
        starts: ``(E + 1,)`` first row of each entity, and ``R``.

    >>> elapsed_times(np.array([0.0, 5.0, 2.0]), np.array([0, 2, 3])).tolist()
    [nan, 5.0, nan]
    """
    elapsed = np.diff(seconds, prepend=np.nan)
    elapsed[starts[:-1]] = np.nan
    return elapsed


def _compression(numbers: np.ndarray, compress: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Center, scale and whether it has a heavy tail, of each column ``(N,)``."""
    center, scale = np.zeros(numbers.shape[1]), np.ones(numbers.shape[1])
    is_compressed = np.zeros(numbers.shape[1], dtype=bool)
    mean, std = _mean_std(numbers)
    for k, column in enumerate(numbers.T):
        known = column[~np.isnan(column)]
        if compress and len(known) and np.abs((known - mean[k]) / std[k]).max() > _HEAVY_TAIL:
            low, middle, high = np.quantile(known, (0.25, 0.5, 0.75))
            robust = (high - low) / _NORMAL_IQR
            center[k], scale[k] = middle, robust if robust > _MIN_STD * np.abs(known).max() else std[k]
            is_compressed[k] = True
    return center, scale, is_compressed


def _compress(numbers: np.ndarray, center: np.ndarray, scale: np.ndarray, is_compressed: np.ndarray) -> np.ndarray:
    return np.where(is_compressed, np.arcsinh((numbers - center) / scale), numbers)


def _mean_std(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation ``(N,)`` of known values; 0 and 1 without any, and a deviation of 1 for constant columns."""
    known = ~np.isnan(numbers)
    count = np.maximum(known.sum(axis=0), 1)
    largest = np.maximum(np.abs(np.where(known, numbers, 0.0)).max(axis=0, initial=0.0), np.finfo(np.float64).tiny)
    relative = np.where(known, numbers, 0.0) / largest  # whose squares are finite
    mean = relative.sum(axis=0) / count
    std = np.sqrt(np.square(np.where(known, relative - mean, 0.0)).sum(axis=0) / count)
    return mean * largest, np.where(std > _MIN_STD, std * largest, 1.0)


def _edges(scaled: np.ndarray, bins: int) -> tuple[tuple[float, ...], ...]:
    """Ascending edges of the bins of each column; none for a constant column."""
    levels = np.unique([*np.linspace(0, 1, bins + 1), *_TAILS, *(1 - np.array(_TAILS))])
    columns = (np.clip(column[~np.isnan(column)], -MAX_SCALED, MAX_SCALED) for column in scaled.T)
    edges = [np.unique(np.quantile(column, levels).astype(np.float32)) if len(column) else [] for column in columns]
    return tuple(tuple(map(float, of_column)) if len(of_column) > 1 else () for of_column in edges)


def _vocabulary(column: np.ndarray, min_count: int, max_categories: int) -> tuple[str, ...]:
    """Known categories: the most frequent first, of the same frequency in order of the alphabet."""
    counts = Counter(value for value in column.tolist() if value is not None)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(value for value, count in ranked[:max_categories] if count >= min_count)


def _elapsed_scale(elapsed: np.ndarray) -> tuple[float, float] | None:
    """Mean and deviation of the logarithm of the time since the last row; ``None`` if it is always the same."""
    known = elapsed[~np.isnan(elapsed)]
    logs = np.log1p(np.maximum(known, 0))
    if not len(logs) or np.ptp(known) <= 1e-6 * np.abs(known).max():
        return None
    return float(logs.mean()), float(logs.std()) or 1.0


def _periods(clock: np.ndarray) -> tuple[float, ...]:
    """Periods that the rows show: the day unless all rows have the same time of day, the week and the year if two of
    them pass."""
    span = float(clock.max() - clock.min()) if len(clock) else 0.0
    periods = [DAY] if span and np.ptp(clock % DAY) > 0 else []
    return (*periods, *(period for period in (WEEK, YEAR) if span >= 2 * period - DAY))
