"""The frequency of series, and the place of every row on the grid it makes."""

from __future__ import annotations

import contextlib
import re
import warnings
from typing import Any, cast

import numpy as np
import pandas as pd

from lstmkit.data.series.long_format import Rows
from lstmkit.errors import DataError, format_timestamp

_DAY = 86_400 * 10**9  # nanoseconds


def check_freq(freq: str | int, dated: bool) -> str | int:
    """``freq`` in the form pandas gives it, or as a whole number.

    Raises:
        DataError: It is no frequency, or does not go with the stamps.
    """
    offset: Any = int(freq) if isinstance(freq, str) and freq.strip().isdecimal() else freq
    if not isinstance(offset, int):
        with warnings.catch_warnings(), contextlib.suppress(ValueError, TypeError):
            warnings.simplefilter("ignore", FutureWarning)  # "H" for "h" and the like
            offset = pd.tseries.frequencies.to_offset(offset)
    size = offset if isinstance(offset, int) else getattr(offset, "n", 0)
    if size < 1:
        raise DataError(
            f"freq {freq!r} is not a frequency: give one such as h, 15min, D, B, W-SUN, MS, ME, QS, YS, or 1"
        )
    if isinstance(offset, int) == dated:
        need = "a date frequency such as h, D, MS" if dated else "a whole-number step such as 1"
        raise DataError(
            f"freq {freq!r} does not go with stamps that are {'dates' if dated else 'numbers'}: give {need}"
        )
    return offset if isinstance(offset, int) else offset.freqstr


def infer_freq(rows: Rows, plain: bool) -> str | int:
    """The most common difference of neighbouring stamps over all series, as a frequency."""
    if plain:
        return 1
    differences = np.diff(rows.wall_clock.asi8 if rows.dated else rows.ticks)[rows.pairs()]
    if not differences.size:
        raise DataError(f"series {rows.ids[0]!r} has one row: the frequency cannot be found, give it with --freq")
    steps, counts = np.unique(differences[differences > 0], return_counts=True)
    step = int(steps[counts.argmax()])
    freq = _offset_alias(rows, step) if rows.dated else step
    rows.notes.append(f"frequency {freq!r} found from the stamps")
    return freq


def _offset_alias(rows: Rows, step: int) -> str:
    """The pandas alias for steps of ``step`` nanoseconds between the stamps of ``rows``."""
    days: Any = rows.wall_clock.normalize()
    weekday = days.dayofweek.to_numpy()
    alias = None
    if step == _DAY and (weekday < 5).all():
        passed = rows.pairs() & ((np.diff(weekday) < 0) | (np.diff(days.asi8) >= 7 * _DAY))
        alias = "B" if passed.any() else None  # without a weekend in between nothing tells B from D
    elif step == 7 * _DAY and len(set(weekday)) == 1:
        alias = f"W-{('MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT', 'SUN')[weekday[0]]}"
    elif step >= 28 * _DAY:
        alias = _month_alias(days.unique(), round(step / _DAY / 30.4375))
    tick: Any = pd.tseries.frequencies.to_offset(cast(pd.Timedelta, pd.Timedelta(step)))
    return alias or tick.freqstr


def _month_alias(days: Any, months: int) -> str | None:
    """The alias for steps of ``months`` months, where most days are a month's first or last (business) day."""
    day = days.to_numpy().astype("datetime64[D]")
    month = day.astype("datetime64[M]")
    first, last = month.astype("datetime64[D]"), (month + 1).astype("datetime64[D]") - 1
    anchors = {"MS": first, "ME": last, "BMS": np.busday_offset(first, 0, "forward")}
    anchors["BME"] = np.busday_offset(last, 0, "backward")
    share = {kind: float((day == anchor).mean()) for kind, anchor in anchors.items()}
    kind = max(share, key=lambda k: share[k])
    if share[kind] < 0.5:
        return None
    if months not in (3, 12):
        return kind if months == 1 else f"{months}{kind}"
    phase = int(np.bincount((days.month.to_numpy() - 1) % months).argmax())
    phase += 9 if months == 3 and kind.endswith("E") else 0  # quarters that end in December are QE-DEC
    names = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
    return f"{kind.replace('M', 'Q' if months == 3 else 'Y')}-{names[phase]}"


def places(rows: Rows, freq: str | int, how: str) -> np.ndarray:
    """``(N,)`` int64: each row's step on the grid of its series, which begins at its first row.

    Raises:
        DataError: A stamp is not on the grid.
    """
    offset: Any = freq if isinstance(freq, int) else pd.tseries.frequencies.to_offset(freq)
    head = np.searchsorted(rows.code, np.arange(len(rows.ids)))[rows.code]  # each row's first row
    if isinstance(offset, int | pd.offsets.Tick):
        size = offset if isinstance(offset, int) else offset.nanos
        # Days are counted on the wall clock, hours are not: so the clocks' change in spring is no gap.
        ticks = rows.wall_clock.asi8 if rows.dated and size % _DAY == 0 else rows.ticks
        place, rest = np.divmod(ticks - ticks[head], size)
        off = rest != 0
    else:
        days = rows.wall_clock.normalize()
        k = pd.date_range(days.min(), days.max(), freq=offset.base).get_indexer(days)
        time = rows.wall_clock.asi8 - days.asi8
        place, rest = np.divmod(k - k[head], offset.n)
        off = (k < 0) | (rest != 0) | (time != time[head])
    if off.any():
        k = int(off.argmax())
        monthly = " (write a month as its first day)" if re.fullmatch(r"(28|29|30|31)D|\d*B?M[SE]", str(freq)) else ""
        raise DataError(
            f"irregular steps: the stamp {format_timestamp(rows.timestamps[k])} of series {rows.ids[rows.code[k]]!r} is off the "
            f"grid of frequency {freq!r} ({how}) from {format_timestamp(rows.timestamps[head[k]])}: all stamps must lie on one "
            f"grid{monthly}; give the frequency with --freq, or resample the data"
        )
    return place
