"""Encode covariates and calendar features as numbers. The encoder is fitted on the training split only.

Categories are one-hot encoded (a linear layer over one-hot columns is an embedding). An unseen category is all zeros.
Missing numbers are 0, the mean, with an indicator column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmkit.data.series.regular_series import RegularSeries
from lstmkit.data.statistics import is_missing
from lstmkit.errors import DataError


@dataclass(frozen=True)
class CovariateColumn:
    """Encoder of one covariate: standardization of numbers, or one-hot encoding of categories.

    Attributes:
        name: Name of the covariate.
        mean, std: Of the training values.
        has_missing: Whether training values are missing; an indicator column is then added.
        categories: Sorted categories; ``None`` for numbers.
        means: Mean of each encoded column over all training values: 0 and the missing fraction of numbers, or the
            frequency of each category; empty in models of version 0.1.
    """

    name: str
    mean: float = 0.0
    std: float = 1.0
    has_missing: bool = False
    categories: tuple[str, ...] | None = None
    means: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Number of encoded columns."""
        return 1 + self.has_missing if self.categories is None else len(self.categories)

    @classmethod
    def fit(cls, name: str, values: np.ndarray) -> CovariateColumn:
        """Fit on all training values: float64 with NaN, or objects with None, ``(N,)``.

        Raises:
            DataError: All values are missing.
        """
        known = values[~is_missing(values)]
        if not known.size:
            raise DataError(f"covariate {name!r} has no value in the training data: leave it out")
        if values.dtype == object:
            counts = sorted(Counter(map(_category, known)).items())
            means = tuple(count / values.size for _, count in counts)
            return cls(name, categories=tuple(category for category, _ in counts), means=means)
        std = float(known.std())
        constant = std <= 1e-13 * float(np.abs(known).max())  # up to rounding
        has_missing = known.size < values.size
        means = (0.0, 1 - known.size / values.size) if has_missing else (0.0,)
        return cls(name, float(known.mean()), 1.0 if constant else std, has_missing, means=means)

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Encode values: ``(T,) -> (T, width)`` float32.

        Raises:
            DataError: The values are text, but were numbers in training.
        """
        if self.categories is not None:
            known = ~is_missing(values)
            names = np.array([_category(v) if k else None for v, k in zip(values, known, strict=True)], dtype=object)
            return np.stack([names == c for c in self.categories], axis=-1).astype(np.float32)
        known = ~is_missing(values)
        if values.dtype == object and known.any():
            text = values[known][0]
            raise DataError(
                f"covariate {self.name!r} is text here ({text!r}) but was numbers in training: give numbers"
            )
        scaled = np.where(known, (np.where(known, values.astype(float), 0.0) - self.mean) / self.std, 0.0)
        columns = [scaled, ~known] if self.has_missing else [scaled]
        return np.stack(columns, axis=-1).astype(np.float32)


@dataclass(frozen=True)
class CovariateEncoder:
    """Encoder of all covariates and calendar features of a set of series.

    Attributes:
        past: Covariates known up to the present.
        future: Covariates known in advance.
        static: Covariates with one value per series.
        calendar: Names of :data:`CALENDAR_FEATURES`.
    """

    past: tuple[CovariateColumn, ...] = ()
    future: tuple[CovariateColumn, ...] = ()
    static: tuple[CovariateColumn, ...] = ()
    calendar: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls, series: RegularSeries, *, past: Sequence[str], future: Sequence[str], static: Sequence[str], calendar: bool
    ) -> CovariateEncoder:
        """Fit on training series. ``calendar``: add the calendar features that suit the frequency."""
        return cls(
            past=tuple(_fit(series, name) for name in past),
            future=tuple(_fit(series, name) for name in future),
            static=tuple(CovariateColumn.fit(name, _as_array(series.static[name])) for name in static),
            calendar=calendar_fields(series) if calendar else (),
        )

    @property
    def n_past(self) -> int:
        """Number of encoded columns of the past covariates."""
        return sum(c.width for c in self.past)

    @property
    def n_covariates(self) -> int:
        """Number of encoded columns of all covariates; those of the calendar features follow."""
        return self.n_past + sum(c.width for c in (*self.future, *self.static))

    @property
    def width(self) -> int:
        """Number of encoded columns; the first ``n_past`` are of past covariates."""
        calendar = sum(len(CALENDAR_FEATURES[name](_EXAMPLE_TIMESTAMPS)) for name in self.calendar)
        return self.n_covariates + calendar

    @property
    def columns(self) -> dict[str, slice]:
        """The encoded columns of each covariate, by name."""
        columns = (*self.past, *self.future, *self.static)
        stops = np.cumsum([c.width for c in columns]).tolist()
        return {c.name: slice(stop - c.width, stop) for c, stop in zip(columns, stops, strict=True)}

    @property
    def means(self) -> np.ndarray:
        """``(width,)`` float32: the mean of each encoded column in training; of calendar features the circle's center.

        Covariates of a model of version 0.1, which has no frequencies, have 0: the mean number, an unknown category.
        """
        means = np.zeros(self.width, np.float32)
        columns = self.columns
        for column in (*self.past, *self.future, *self.static):
            if column.means:
                means[columns[column.name]] = column.means
        return means

    def transform(self, series: RegularSeries, i: int, steps: int) -> np.ndarray:
        """Encode the first ``steps`` steps of series ``i``, missing past its end: ``(steps, width)`` float32."""
        blocks = [c.transform(_pad_or_cut(series.covariates[c.name][i], steps)) for c in (*self.past, *self.future)]
        static = [c.transform(_as_array([series.static[c.name][i]])) for c in self.static]
        blocks += [np.repeat(values, steps, axis=0) for values in static]
        if self.calendar:
            timestamps = series.wall_clock(i, 0, steps)
            blocks += [
                np.stack(CALENDAR_FEATURES[name](timestamps), axis=-1).astype(np.float32) for name in self.calendar
            ]
        return np.concatenate([np.zeros((steps, 0), np.float32), *blocks], axis=1)

    def to_json(self) -> dict[str, Any]:
        """The fitted encoder as JSON values."""
        columns = {role: [vars(c) for c in getattr(self, role)] for role in ("past", "future", "static")}
        return {**columns, "calendar": list(self.calendar)}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> CovariateEncoder:
        """Restore an encoder from :meth:`to_json`. Raises LookupError, TypeError or ValueError if it is damaged."""

        def column(c: dict[str, Any]) -> CovariateColumn:
            categories = None if c["categories"] is None else tuple(c["categories"])
            restored = CovariateColumn(**{**c, "categories": categories, "means": tuple(c.get("means", ()))})
            if restored.means and len(restored.means) != restored.width:
                raise ValueError(f"covariate {restored.name!r} has {restored.width} columns, and other means")
            return restored

        columns = {role: tuple(column(c) for c in state[role]) for role in ("past", "future", "static")}
        return cls(**columns, calendar=tuple(state["calendar"]))


def _cyclical(position: Any, period: float) -> list[np.ndarray]:
    angle = 2 * np.pi * np.asarray(position, dtype=float) / period
    return [np.sin(angle), np.cos(angle)]


def _hours(timestamps: np.ndarray) -> np.ndarray:
    minutes = (timestamps.astype("datetime64[m]") - timestamps.astype("datetime64[D]")).astype(np.int64)
    return minutes // 60 + minutes % 60 / 60


def _weekdays(timestamps: np.ndarray) -> np.ndarray:
    return (timestamps.astype("datetime64[D]").astype(np.int64) + 3) % 7  # 1970 began on a Thursday


def _days_since(period: str, timestamps: np.ndarray) -> np.ndarray:
    """Days since the start of the month or year, ``"M"`` or ``"Y"``."""
    days = timestamps.astype("datetime64[D]")
    return (days - days.astype(f"datetime64[{period}]")).astype(np.int64)


#: Calendar features of datetime64[ns] in local time, ``(T,)`` to sine and cosine of the position in a cycle, ``(T,)``
#: each, so that 23 h is close to 0 h.
CALENDAR_FEATURES: dict[str, Any] = {
    "hour": lambda timestamps: _cyclical(_hours(timestamps), 24),
    "weekday": lambda timestamps: _cyclical(_weekdays(timestamps), 7),
    "monthday": lambda timestamps: _cyclical(_days_since("M", timestamps), 31),
    "yearday": lambda timestamps: _cyclical(_days_since("Y", timestamps), 365.25),
}

_EXAMPLE_TIMESTAMPS = np.array(["2000-01-01"], dtype="datetime64[ns]")


def calendar_fields(series: RegularSeries) -> tuple[str, ...]:
    """Names of the calendar features that suit the frequency; empty for whole-number timestamps.

    A feature is used only if the longest series spans at least two of its cycles. The day of the month is used only
    for steps of a day or longer.
    """
    if isinstance(series.freq, int):
        return ()
    longest = int(np.argmax(series.lengths))
    timestamps: Any = series.timestamps(longest, 0, int(series.lengths[longest]))
    span = (timestamps[-1] - timestamps[0]) / np.timedelta64(1, "D")
    step = span / max(1, len(timestamps) - 1)
    cycle_days = {"hour": 1.0, "weekday": 7.0, "monthday": 30.4, "yearday": 365.25}
    useful = [name for name, days in cycle_days.items() if step < days / 2 and span >= 2 * days]
    return tuple(name for name in useful if name != "monthday" or step >= 0.9)


def _fit(series: RegularSeries, name: str) -> CovariateColumn:
    observed = [values[:n] for values, n in zip(series.covariates[name], series.lengths, strict=True)]
    return CovariateColumn.fit(name, np.concatenate(observed))


def _category(value: Any) -> str:
    """A category as text. The number 7.0 is the category ``"7"``, as in a column of text."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _pad_or_cut(values: np.ndarray, steps: int) -> np.ndarray:
    """Cut ``values`` to ``steps``, or pad them with missing values."""
    padded = np.full(steps, None if values.dtype == object else np.nan, dtype=values.dtype)
    padded[: min(steps, len(values))] = values[:steps]
    return padded


def _as_array(values: Sequence[Any]) -> np.ndarray:
    numeric = all(v is None or isinstance(v, (int, float)) for v in values)
    return np.array([np.nan if v is None else v for v in values], dtype=float) if numeric else np.array(values, object)
