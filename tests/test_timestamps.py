"""Timestamps: Unix times, weeks, and the row that is not written like the others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lstmkit.data.series.series_set import read_series
from lstmkit.errors import DataError

DAYS = [f"2020-01-{day:02d}" for day in range(1, 11)]


def series(timestamps):
    return read_series(pd.DataFrame({"ds": timestamps, "y": np.arange(len(timestamps), dtype=float)}))


def message(timestamps) -> str:
    with pytest.raises(DataError) as error:
        series(timestamps)
    return str(error.value)


@pytest.mark.parametrize(("unit", "factor"), [("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6),
                                              ("nanoseconds", 10**9)])  # fmt: skip
@pytest.mark.parametrize("kind", [int, str, float])
def test_unix_times_are_dates(unit: str, factor: int, kind: type):
    """Whole hours from 2023 on, as numbers or as the text of a CSV file; a note says the unit."""
    stamps = [(1672531200 + 3600 * k) * factor for k in range(5)]
    read = series([kind(stamp) for stamp in stamps])
    assert (read.freq, read.starts[0]) == ("h", pd.Timestamp("2023-01-01"))
    assert any(f"read as {unit} since 1970 (2023-01-01)" in note for note in read.notes)


def test_unix_times_keep_every_nanosecond():
    """Nanoseconds of today have 19 digits, more than a float64 holds."""
    stamps = [1672531200000000001 + 1000 * k for k in range(4)]
    assert series([str(stamp) for stamp in stamps]).starts[0] == pd.Timestamp(1672531200000000001)
    assert series([1672531200.25 + 0.5 * k for k in range(4)]).freq == "500ms"


@pytest.mark.parametrize(
    "weeks",
    [
        ["2020-W52", "2020-W53", "2021-W01"],
        ["2020W52", "2020W53", "2021W01"],
        ["2020-W52-1", "2020-W53-1", "2021-W01-1"],
        [202052, 202053, 202101],
        ["202052", "202053", "202101"],
    ],
)
def test_weeks_of_a_year_are_their_mondays(weeks):
    read = series(weeks)
    assert (read.freq, read.starts[0], len(read.y[0])) == ("W-MON", pd.Timestamp("2020-12-21"), 3)


def test_numbers_that_are_no_weeks_stay_numbers():
    assert series([202160, 202161]).freq == 1
    assert "'2021-W53' is not a week of its year: write it like the other timestamps, such as '2021-W52'" in message(
        ["2021-W52", "2021-W53"]
    )


@pytest.mark.parametrize(
    ("odd", "problem"),
    [
        ("01/07/2020", "has another format than the other timestamps"),
        ("2020-W03", "has another format than the other timestamps"),
        ("hello 2020", "is not a date"),
        ("7-1-20", "is not a date with a four-digit year"),
        ("2020-02-30", "is not a date"),
        ("2020-01-07T10:00Z", "has a UTC offset, but most timestamps have none"),
    ],
)
@pytest.mark.parametrize("row", [1, 7, 10])
def test_the_odd_row_is_named_and_a_good_one_is_shown(odd: str, problem: str, row: int):
    """Whatever row it is, the first one included; the example is one of the column's own."""
    stamps = [*DAYS]
    stamps[row - 1] = odd
    text = message(stamps)
    assert f"row {row}: {odd!r} {problem}" in text
    assert f"such as '2020-01-0{2 if row == 1 else 1}'" in text
    assert "1949" not in text


def test_the_odd_one_of_slashed_dates():
    """Nine are day first, one is not; nine are slashed, one is not."""
    slashed = [f"{day}/01/2020" for day in range(11, 21)]
    text = message([*slashed[:4], "01/31/2020", *slashed[5:]])
    assert "row 5: '01/31/2020' is not a date, read day first as the other timestamps" in text
    assert "such as '11/01/2020'" in text
    assert "row 1: '2020-01-11' has another format" in message(["2020-01-11", *slashed[1:]])
    zoned = [f"2020-01-01T{hour:02d}:00Z" for hour in range(9)]
    assert "row 3: '2020-01-01T02:00' has no UTC offset" in message([*zoned[:2], "2020-01-01T02:00", *zoned[3:]])


def test_an_ambiguous_date_is_shown_in_both_meanings():
    assert "write it as 2020-02-01 or 2020-01-02" in message(["01/02/2020", "02/02/2020"])
