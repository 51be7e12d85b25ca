"""Rows of one series on its regular grid, and the check that its covariates reach the end of a forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lstmkit.data.series.regular_series import RegularSeries
from lstmkit.data.statistics import is_missing
from lstmkit.errors import DataError


class PlacedSeries(NamedTuple):
    """One series from its first to its last value.

    Attributes:
        begin: Step of the first value.
        end: Step after the last value.
        ahead: Steps after it that have a future covariate.
        y: ``(T,)`` float64, NaN where missing.
        covariates: By name ``(T,)``, or ``(T + ahead,)`` for future covariates.
    """

    begin: int
    end: int
    ahead: int
    y: np.ndarray
    covariates: dict[str, np.ndarray]


def place_rows(
    y: np.ndarray, covariates: Mapping[str, np.ndarray], steps: np.ndarray, future: Sequence[str]
) -> PlacedSeries | None:
    """Place the rows of one series on its grid; ``None`` if no value is known.

    Gaps become missing values. Steps before the first and after the last value are left out.

    Args:
        y: ``(N,)`` values, NaN where missing.
        covariates: ``(N,)`` by name.
        steps: ``(N,)`` step of each row, ascending.
        future: Names of the covariates known in advance.
    """
    target = _to_grid(y, steps)
    observed = np.flatnonzero(~np.isnan(target))
    if not observed.size:
        return None
    begin, end = int(observed[0]), int(observed[-1]) + 1
    grids = {name: _to_grid(values, steps) for name, values in covariates.items()}
    known = [np.flatnonzero(~is_missing(grids[name][end:])) for name in future]
    ahead = max((int(k[-1]) + 1 for k in known if k.size), default=0)
    cut = {name: grid[begin : end + (ahead if name in future else 0)] for name, grid in grids.items()}
    return PlacedSeries(begin, end, ahead, target[begin:end], cut)


def check_number_of_steps(freq: str | int, n_rows: int, total: int) -> None:
    """Raise DataError if a frequency turns rows into very many more steps."""
    if total > max(10**7, 100 * n_rows):
        raise DataError(f"frequency {freq!r} turns {n_rows} rows into {total} steps: give a longer one with freq=...")


def join_covariate(name: str, values: np.ndarray, added: np.ndarray) -> np.ndarray:
    """The values ``(N,)`` of a covariate in the data, and those of the future table after them.

    Raises:
        DataError: One column has text and the other numbers.

    >>> join_covariate("price", np.array([1.0]), np.array([None], dtype=object)).tolist()
    [1.0, nan]
    """
    columns = [values, added]
    kinds = {column.dtype == object for column in columns if not is_missing(column).all()}
    if len(kinds) > 1:
        raise DataError(f"covariate {name!r} is text in one table and numbers in the other: use one type")
    are_texts = kinds == {True}
    joined = np.concatenate([column.astype(object if are_texts else np.float64) for column in columns])
    if are_texts:
        joined[is_missing(joined)] = None
    return joined


def _to_grid(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """``(steps[-1] + 1,)`` with ``values`` at ``steps`` and missing values elsewhere."""
    grid = np.full(int(steps[-1]) + 1, None if values.dtype == object else np.nan, dtype=values.dtype)
    grid[steps] = values
    return grid


def check_future_covariates(series: RegularSeries, names: Sequence[str], horizon: int) -> None:
    """Check that future covariates are known for the next ``horizon`` steps of every series.

    Raises:
        DataError: A covariate is not a future covariate, or has missing values there. The message names the span.

    >>> import pandas as pd
    >>> from lstmkit.data.series.series_set import read_series
    >>> frame = pd.DataFrame({"ds": [0, 1, 2, 3], "y": [5, 6, 7, None], "price": [1, 1, 1, 2]})
    >>> check_future_covariates(read_series(frame, future=["price"]), ["price"], horizon=1)
    """
    for name in names:
        if name not in series.future:
            known = ", ".join(series.future) or "none"
            raise DataError(
                f"{name!r} is not a future covariate of the data (known: {known}): name it in future_covariates"
            )
        for i, values in enumerate(series.covariates[name]):
            end = len(series.y[i])
            values_ahead = values[end : end + horizon]
            missing = np.ones(horizon, dtype=bool)
            missing[: len(values_ahead)] = is_missing(values_ahead)
            if missing.any():
                steps = np.flatnonzero(missing)
                raise DataError(
                    f"future covariate {name!r} of series {series.ids[i]!r} is missing from "
                    f"{series.time_text(i, end + int(steps[0]))} to {series.time_text(i, end + int(steps[-1]))} "
                    f"({len(steps)} of {horizon} steps of the horizon): give it in the data or with future_data=FILE"
                )


def check_values(series: RegularSeries, *, counts: bool, log: bool) -> None:
    """Check that values can be modeled: as counts, or by their logarithm.

    Raises:
        DataError: They cannot.
    """
    for name, y in zip(series.ids, series.y, strict=True):
        if counts and ((y < 0) | (y % 1 > 0)).any():
            raise DataError(
                f"series {name!r} has values that are not whole numbers from 0 up, which "
                "distribution=negative_binomial needs: give counts, or distribution=student_t"
            )
        if log and (y <= 0).any():
            raise DataError(
                f"series {name!r} has values at or below 0, which log_transform=True cannot take: drop log_transform"
            )
