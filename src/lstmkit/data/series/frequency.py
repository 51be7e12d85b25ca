"""Infer the frequency of series, and map every row to a step of the regular grid."""

from __future__ import annotations

import contextlib
import re
import warnings
from typing import Any, cast

import numpy as np
import pandas as pd

from lstmkit.data.series.long_format import SeriesRows
from lstmkit.errors import DataError, format_timestamp

_DAY = 86_400 * 10**9  # nanoseconds


def check_freq(freq: str | int, has_dates: bool) -> str | int:
    """Check a frequency; return the canonical pandas alias, or a whole number.

    Raises:
        DataError: ``freq`` is not a frequency, or does not match the timestamps (dates or whole numbers).
    """
    offset: Any = int(freq) if isinstance(freq, str) and freq.strip().isdecimal() else freq
    if not isinstance(offset, int):
        with warnings.catch_warnings(), contextlib.suppress(ValueError, TypeError):
            warnings.simplefilter("ignore", FutureWarning)  # deprecated aliases such as "H" for "h"
            offset = pd.tseries.frequencies.to_offset(offset)
    size = offset if isinstance(offset, int) else getattr(offset, "n", 0)
    if size < 1:
        raise DataError(
            f"freq={freq!r} is not a frequency: give one such as h, 15min, D, B, W-SUN, MS, ME, QS, YS, or 1"
        )
    if isinstance(offset, int) == has_dates:
        expected = "a date frequency such as h, D, MS" if has_dates else "a whole-number step such as 1"
        raise DataError(
            f"freq={freq!r} does not match timestamps that are {'dates' if has_dates else 'numbers'}: give {expected}"
        )
    return offset if isinstance(offset, int) else offset.freqstr


def infer_freq(rows: SeriesRows, is_unindexed: bool) -> str | int:
    """Infer the frequency: the most common difference of successive timestamps over all series.

    Args:
        rows: Rows sorted by series and timestamp.
        is_unindexed: Whether there is no timestamp column; the frequency is then 1.

    Raises:
        DataError: No series has two rows.
    """
    if is_unindexed:
        return 1
    differences = np.diff(rows.wall_clock.asi8 if rows.has_dates else rows.ticks)[rows.same_series_as_next()]
    if not differences.size:
        raise DataError(
            f"series {rows.series_ids[0]!r} has one row, so the frequency cannot be inferred: give freq=..."
        )
    steps, counts = np.unique(differences[differences > 0], return_counts=True)
    step = int(steps[counts.argmax()])
    freq = _offset_alias(rows, step) if rows.has_dates else step
    rows.notes.append(f"frequency {freq!r} inferred from the timestamps")
    return freq


def _offset_alias(rows: SeriesRows, step: int) -> str:
    """Pandas alias of a step in nanoseconds, given the timestamps of ``rows``."""
    days: Any = rows.wall_clock.normalize()
    weekday = days.dayofweek.to_numpy()
    alias = None
    if step == _DAY and (weekday < 5).all():
        has_weekend = rows.same_series_as_next() & ((np.diff(weekday) < 0) | (np.diff(days.asi8) >= 7 * _DAY))
        alias = "B" if has_weekend.any() else None  # B and D differ only if the data span a weekend
    elif step == 7 * _DAY and len(set(weekday)) == 1:
        alias = f"W-{('MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT', 'SUN')[weekday[0]]}"
    elif step >= 28 * _DAY:
        alias = _month_alias(days.unique(), round(step / _DAY / 30.4375))
    tick: Any = pd.tseries.frequencies.to_offset(cast(pd.Timedelta, pd.Timedelta(step)))
    return alias or tick.freqstr


def _month_alias(days: Any, months: int) -> str | None:
    """Pandas alias of steps of ``months`` months, if most days are the first or last (business) day of a month."""
    day = days.to_numpy().astype("datetime64[D]")
    month = day.astype("datetime64[M]")
    first = month.astype("datetime64[D]")
    last = (month + np.timedelta64(1, "M")).astype("datetime64[D]") - np.timedelta64(1, "D")
    anchors = {"MS": first, "ME": last, "BMS": np.busday_offset(first, 0, "forward")}
    anchors["BME"] = np.busday_offset(last, 0, "backward")
    fraction = {kind: float((day == anchor).mean()) for kind, anchor in anchors.items()}
    kind = max(fraction, key=lambda k: fraction[k])
    if fraction[kind] < 0.5:
        return None
    if months not in (3, 12):
        return kind if months == 1 else f"{months}{kind}"
    phase = int(np.bincount((days.month.to_numpy() - 1) % months).argmax())
    phase += 9 if months == 3 and kind.endswith("E") else 0  # quarters ending in December are QE-DEC
    names = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
    return f"{kind.replace('M', 'Q' if months == 3 else 'Y')}-{names[phase]}"


def grid_positions(rows: SeriesRows, freq: str | int, origin: str) -> np.ndarray:
    """Step of each row on the regular grid of its series, ``(N,)`` int64. The first row of a series is step 0.

    Args:
        rows: Rows sorted by series and timestamp.
        freq: The frequency.
        origin: Where the frequency comes from, for messages: ``inferred from the data`` or ``given``.

    Raises:
        DataError: A timestamp is not on the grid.
    """
    offset: Any = freq if isinstance(freq, int) else pd.tseries.frequencies.to_offset(freq)
    starts = np.searchsorted(rows.series_index, np.arange(len(rows.series_ids)))
    first_row = starts[rows.series_index]  # first row of each row's series
    if isinstance(offset, int | pd.offsets.Tick):
        size = offset if isinstance(offset, int) else offset.nanos
        # Days are counted in local time, hours in UTC, so a change to daylight saving time is not a gap.
        ticks = rows.wall_clock.asi8 if rows.has_dates and size % _DAY == 0 else rows.ticks
        position, remainder = np.divmod(ticks - ticks[first_row], size)
        off_grid = remainder != 0
    else:
        days = rows.wall_clock.normalize()
        k = pd.date_range(days.min(), days.max(), freq=offset.base).get_indexer(days)
        time = rows.wall_clock.asi8 - days.asi8
        position, remainder = np.divmod(k - k[first_row], offset.n)
        off_grid = (k < 0) | (remainder != 0) | (time != time[first_row])
    if off_grid.any():
        k = int(off_grid.argmax())
        monthly = " (write a month as its first day)" if re.fullmatch(r"(28|29|30|31)D|\d*B?M[SE]", str(freq)) else ""
        raise DataError(
            f"irregular timestamps: {format_timestamp(rows.timestamps[k])} of series "
            f"{rows.series_ids[rows.series_index[k]]!r} is not on the grid of frequency {freq!r} ({origin}) that "
            f"starts at {format_timestamp(rows.timestamps[first_row[k]])}: give the frequency with freq=..., or "
            f"resample the data to a regular grid{monthly}"
        )
    return position
