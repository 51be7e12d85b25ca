"""Steps between dates by numpy, for the pandas frequencies whose dates it gives exactly."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from lstmkit.errors import DataError

_DAY = 86_400 * 10**9  # nanoseconds
_SECOND = 10**9
_TICKS = {"D": _DAY, "h": 3600 * _SECOND, "min": 60 * _SECOND, "s": _SECOND, "ms": 10**6, "us": 10**3, "ns": 1}
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_PERIODS = {"M": 1, "Q": 3, "Y": 12}  # months
_FREQUENCY = re.compile(r"(\d*)([A-Za-z]+)(?:-([A-Z]{3}))?")


class DateSteps(ABC):
    """The steps of a frequency. Dates are datetime64[ns] in local time."""

    @abstractmethod
    def between(self, start: np.datetime64, dates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Steps from ``start`` to each of ``dates (N,)``, int64, and ``(N,)`` whether the date is on the grid."""

    @abstractmethod
    def after(self, start: np.datetime64, steps: np.ndarray) -> np.ndarray:
        """The dates ``(N,)`` that are ``steps (N,)`` after ``start``, a date on the grid."""


@dataclass(frozen=True)
class FixedSteps(DateSteps):
    """Steps of ``size`` nanoseconds."""

    size: int

    def between(self, start: np.datetime64, dates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        steps, rest = np.divmod((dates - start).astype(np.int64), self.size)
        return steps, rest == 0

    def after(self, start: np.datetime64, steps: np.ndarray) -> np.ndarray:
        return start + (steps * self.size).astype("timedelta64[ns]")


class CalendarSteps(DateSteps):
    """Steps of ``count`` days of a calendar, at the same time of day."""

    def __init__(self, count: int) -> None:
        self.count = count

    @abstractmethod
    def number(self, days: np.ndarray) -> np.ndarray:
        """The number of the last day of the calendar up to each of ``days (N,)`` datetime64[D], or a near one."""

    @abstractmethod
    def day(self, numbers: np.ndarray) -> np.ndarray:
        """The days ``(N,)`` datetime64[D] with ``numbers (N,)``."""

    def between(self, start: np.datetime64, dates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first, days = start.astype("datetime64[D]"), dates.astype("datetime64[D]")
        numbers, first_number = self.number(days), self.number(np.array([first]))
        steps, rest = np.divmod(numbers - first_number, self.count)
        is_day = (self.day(numbers) == days) & (self.day(first_number) == first)
        return steps, is_day & (rest == 0) & (dates - days == start - first)

    def after(self, start: np.datetime64, steps: np.ndarray) -> np.ndarray:
        first = start.astype("datetime64[D]")
        days = self.day(self.number(np.array([first])) + steps * self.count)
        return days.astype("datetime64[ns]") + (start - first)


class WeekSteps(CalendarSteps):
    """A day of the week, 0 = Monday."""

    def __init__(self, count: int, weekday: int) -> None:
        super().__init__(count)
        self._first = (weekday - 3) % 7  # day 0 of 1970 was a Thursday

    def number(self, days: np.ndarray) -> np.ndarray:
        return (days.astype(np.int64) - self._first) // 7

    def day(self, numbers: np.ndarray) -> np.ndarray:
        return (7 * numbers + self._first).astype("datetime64[D]")


class BusinessDaySteps(CalendarSteps):
    """Monday to Friday, without holidays."""

    _ORIGIN = np.datetime64("1970-01-01")

    def number(self, days: np.ndarray) -> np.ndarray:
        return np.busday_count(self._ORIGIN, days)

    def day(self, numbers: np.ndarray) -> np.ndarray:
        return np.busday_offset(self._ORIGIN, numbers)


class MonthSteps(CalendarSteps):
    """The first or last day of every month, quarter or year, or the first or last business day.

    Args:
        count: Periods per step.
        months: Months per period.
        phase: A month of the year that counts, 0 = January.
        at_end: Whether it is the last day.
        business: Whether it is a business day.
    """

    def __init__(self, count: int, months: int, phase: int, at_end: bool, business: bool) -> None:
        super().__init__(count)
        self.months, self.phase, self.at_end, self.business = months, phase % months, at_end, business

    def number(self, days: np.ndarray) -> np.ndarray:
        return (days.astype("datetime64[M]").astype(np.int64) - self.phase) // self.months

    def day(self, numbers: np.ndarray) -> np.ndarray:
        months = (numbers * self.months + self.phase + self.at_end).astype("datetime64[M]")
        days = months.astype("datetime64[D]") - np.timedelta64(int(self.at_end), "D")
        return np.busday_offset(days, 0, "backward" if self.at_end else "forward") if self.business else days


def date_steps(freq: str) -> DateSteps:
    """The steps of a canonical pandas frequency of dates.

    Raises:
        DataError: It is another frequency.

    >>> date_steps("MS").after(np.datetime64("2024-01-01", "ns"), np.arange(1, 3)).astype("datetime64[D]").tolist()
    [datetime.date(2024, 2, 1), datetime.date(2024, 3, 1)]
    """
    match = _FREQUENCY.fullmatch(freq)
    count, name, anchor = match.groups() if match else ("", "", None)
    size = int(count or 1)
    if anchor is None and name in _TICKS:
        return FixedSteps(size * _TICKS[name])
    if anchor is None and name == "B":
        return BusinessDaySteps(size)
    if name == "W" and anchor in _WEEKDAYS:
        return WeekSteps(size, _WEEKDAYS.index(anchor))
    period, edge = name.removeprefix("B")[:1], name.removeprefix("B")[1:]
    if period in _PERIODS and edge in ("S", "E") and (anchor in _MONTHS or (period == "M" and anchor is None)):
        phase = _MONTHS.index(anchor) if anchor else 0
        return MonthSteps(size, _PERIODS[period], phase, edge == "E", name.startswith("B"))
    raise DataError(
        f"the frequency {freq!r} cannot be exported: the runtime has ns to D, B, W, MS, ME, QS, QE, YS, YE, BMS, BME, "
        "BQS, BQE, BYS, BYE and multiples of them"
    )
