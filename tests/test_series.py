"""Reading time series: values are read unchanged, and every error is named in one line."""

from __future__ import annotations

import datetime
import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmkit.data.series.placement import check_future_covariates
from lstmkit.data.series.series_set import SeriesSet, read_series
from lstmkit.errors import DataError

NAN = float("nan")
FREQUENCIES = (
    *("s", "15min", "h", "6h", "D", "2D", "B", "W-SUN", "W-WED", "28D", "MS", "ME", "BMS", "BME", "2MS", "6ME"),
    *("QS-JAN", "QS-FEB", "QE-DEC", "QE-NOV", "YS-JAN", "YE-DEC", "YE-MAR"),
)


def frame(ds, y=None, **columns) -> pd.DataFrame:
    return pd.DataFrame({"ds": ds, "y": np.arange(1.0, len(ds) + 1) if y is None else y, **columns})


def days(n: int, start: str = "2020-01-01", **columns) -> pd.DataFrame:
    return frame(pd.date_range(start, periods=n), **columns)


@pytest.fixture
def write(tmp_path):
    def put(text: str | bytes, name: str = "sales.csv", encoding: str = "utf-8") -> Path:
        raw = text.encode(encoding) if isinstance(text, str) else text
        path = tmp_path / name
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    return put


def message(data, **options) -> str:
    """The one-line error message of the reader."""
    with pytest.raises(DataError) as caught:
        read_series(data, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def has_note(series: SeriesSet, phrase: str) -> bool:
    return any(phrase in note for note in series.notes)


# ---- valid data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [[1, 2.5, 3], np.array([1, 2.5, 3]), pd.Series([1, 2.5, 3]), (1, 2.5, 3)])
def test_one_plain_series(data):
    series = read_series(data)
    assert series.ids == ("series",)
    assert series.freq == 1
    assert series.starts == (0,)
    assert series.y[0].dtype == np.float64
    assert series.y[0].tolist() == [1, 2.5, 3]
    assert series.timestamps(0, 1, 5).tolist() == [1, 2, 3, 4]
    assert series.notes == ()


def test_a_pandas_series_keeps_its_name_and_timestamps():
    months = pd.date_range("1949-01", periods=3, freq="MS")
    series = read_series(pd.Series([112, 118, 132], index=months, name="air"))
    assert series.ids == ("air",)
    assert series.freq == "MS"
    assert series.timestamps(0, 0, 3).equals(months)
    assert read_series(pd.Series([1.0, 2.0], index=[7, 9])).starts == (0,)


@pytest.mark.parametrize("text", ["sales\n1\n\n3\n", "1\n\n3\n", "sales\n1\nNA\n3"])
def test_a_file_of_one_column_is_one_plain_series(write, text):
    series = read_series(write(text))
    assert np.array_equal(series.y[0], [1, NAN, 3], equal_nan=True)
    assert series.starts == (0,)
    assert has_note(series, "no header row") == (text[0] == "1")


def test_many_series_in_the_order_they_appear():
    data = pd.DataFrame({"unique_id": ["b", "a", "b", "a"], "ds": [1, 5, 2, 6], "y": [1, 2, 3, 4]})
    series = read_series(data)
    assert series.ids == ("b", "a")
    assert series.starts == (1, 5)
    assert [y.tolist() for y in series.y] == [[1, 3], [2, 4]]
    assert series.lengths.tolist() == [2, 2]
    assert len(series) == 2
    assert series.index("a") == 1
    with pytest.raises(DataError, match=r"no series 'c' in the data \(series: b, a\)"):
        series.index("c")
    assert not has_note(series, "sorted")


@pytest.mark.parametrize("ids", [[1, 1, 2], [1.0, 1.0, 2.0], ["1", "1", "2"], pd.Categorical(["1", "1", "2"])])
def test_ids_become_text(ids):
    assert read_series(pd.DataFrame({"unique_id": ids, "ds": [1, 2, 1], "y": 1.0})).ids == ("1", "2")


def test_an_index_of_timestamps_or_ids_is_a_column():
    long = pd.DataFrame({"unique_id": ["a", "a"], "ds": [1, 2], "y": [3, 4]})
    for index in (["unique_id"], ["ds"], ["unique_id", "ds"]):
        series = read_series(long.set_index(index))
        assert series.ids == ("a",)
        assert series.starts == (1,)
    dated = pd.DataFrame({"sales": [3, 4]}, index=pd.date_range("2020-01-01", periods=2))
    assert read_series(dated).starts == (pd.Timestamp("2020-01-01"),)


def test_without_a_time_column_rows_are_steps():
    data = pd.DataFrame({"unique_id": ["a", "b", "a"], "y": [1, 2, 3]})
    for time_col in (None, ""):
        series = read_series(data, time_col=time_col)
        assert [y.tolist() for y in series.y] == [[1, 3], [2]]
        assert series.starts == (0, 0)


@pytest.mark.parametrize(
    "timestamps",
    [
        ["2020-01-01", "2020-01-02", "2020-01-03"],
        ["2020/01/01", "2020-01-02 00:00", "2020-01-03T00:00:00"],
        ["1 January 2020", "2 Jan 2020", "Jan 3, 2020"],
        ["01.01.2020", "02.01.2020", "03.01.2020"],
        [20200101, 20200102, 20200103],
        ["20200101", "20200102", "20200103"],
        [datetime.date(2020, 1, 1), datetime.date(2020, 1, 2), datetime.date(2020, 1, 3)],
        pd.period_range("2020-01-01", periods=3, freq="D"),
        pd.date_range("2020-01-01", periods=3, unit="s"),
    ],
)
def test_date_formats(timestamps):
    series = read_series(frame(timestamps))
    assert series.freq == "D"
    assert series.timestamps(0, 0, 3).equals(pd.date_range("2020-01-01", periods=3))


@pytest.mark.parametrize(
    ("timestamps", "freq", "start"),
    [
        (["1949-01", "1949-02", "1949-03"], "MS", "1949-01-01"),
        (["Jan 1949", "Feb 1949", "March 1949"], "MS", "1949-01-01"),
        (["01/1949", "02/1949", "03/1949"], "MS", "1949-01-01"),
        ([194901, 194902, 194903], "MS", "1949-01-01"),
        (["1949Q1", "1949Q2", "1949-Q3"], "QS-JAN", "1949-01-01"),
        (["30/01/2020", "31/01/2020", "01/02/2020"], "D", "2020-01-30"),
        (["01/30/2020", "01/31/2020", "02/01/2020"], "D", "2020-01-30"),
        (["30/01/2020 10:00", "30/01/2020 11:00"], "h", "2020-01-30 10:00"),
    ],
)
def test_other_date_formats(timestamps, freq, start):
    series = read_series(frame(timestamps))
    assert (series.freq, series.starts[0]) == (freq, pd.Timestamp(start))


@pytest.mark.parametrize("timestamps", [["0", "1", "2"], [0.0, 1.0, 2.0], ["0.0", "1.0", "2.0"], [0, 1, 2]])
def test_integer_timestamps(timestamps):
    series = read_series(frame(timestamps))
    assert (series.freq, series.starts) == (1, (0,))
    assert isinstance(series.starts[0], int)


def test_years_are_whole_numbers_and_unix_times_are_if_the_frequency_is():
    assert read_series(frame([1949, 1950, 1951])).freq == 1
    assert read_series(frame([1577836800, 1577840400]), freq=3600).freq == 3600
    assert read_series(frame([1577836800, 1577840400])).freq == "h"


def test_time_zones_are_kept_if_uniform():
    zoned = pd.date_range("2020-03-28", periods=5, tz="Europe/Berlin")  # 29 March has 23 hours
    series = read_series(frame(zoned))
    assert series.freq == "D"
    assert series.timestamps(0, 0, 5).equals(zoned)
    hours = pd.date_range("2020-10-24 20:00", periods=12, freq="h", tz="Europe/Berlin")
    assert read_series(frame(hours)).timestamps(0, 0, 12).equals(hours)
    text = read_series(frame(["2020-01-01T00:00+01:00", "2020-01-01T01:00+01:00"]))
    assert text.starts[0] == pd.Timestamp("2020-01-01T00:00+01:00")
    several = read_series(frame(["2020-03-29T01:00+01:00", "2020-03-29T03:00+02:00"]))
    assert str(several.starts[0]) == "2020-03-29 00:00:00+00:00"
    assert has_note(several, "several UTC offsets, read as UTC")


@pytest.mark.parametrize("freq", FREQUENCIES)
def test_frequencies_are_inferred_despite_gaps(freq):
    timestamps = pd.date_range("2020-02-03", periods=30, freq=freq)
    series = read_series(frame(timestamps).drop([3, 4, 9]))
    assert series.freq == freq
    assert series.timestamps(0, 0, 30).equals(timestamps)
    assert np.flatnonzero(np.isnan(series.y[0])).tolist() == [3, 4, 9]


def test_the_frequency_is_inferred_from_all_series():
    single = days(1, unique_id="one")
    assert read_series(pd.concat([single, days(3, unique_id="many")])).lengths.tolist() == [1, 3]
    ends = [pd.date_range("2020-01-01", periods=4, freq=f) for f in ("W-SUN", "W-MON")]
    both = pd.concat([frame(timestamps, unique_id=str(k)) for k, timestamps in enumerate(ends)])
    assert read_series(both).freq == "7D"  # the series share no weekday


def test_business_days_are_inferred_only_across_a_weekend():
    assert read_series(days(5, "2020-01-06")).freq == "D"  # Monday to Friday is ambiguous
    assert read_series(frame(pd.bdate_range("2020-01-06", periods=6))).freq == "B"


@pytest.mark.parametrize(("freq", "expected"), [("H", "h"), ("60min", "60min"), ("h", "h")])
def test_frequency_aliases_are_those_of_pandas(freq, expected):
    assert read_series(frame(pd.date_range("2020", periods=3, freq="h")), freq=freq).freq == expected


def test_one_row_is_read_if_the_frequency_is_known():
    assert read_series(days(1), freq="D").lengths.tolist() == [1]
    assert read_series(frame([5]), freq="2").freq == 2
    assert read_series([4.0]).y[0].tolist() == [4]
    assert read_series([4.0, 4.0]).y[0].tolist() == [4, 4]  # the job checks for constant series


def test_gaps_are_missing_and_counted():
    series = read_series(frame([1, 2, 4, 5], y=[1, NAN, 3, 4]))
    assert np.array_equal(series.y[0], [1, NAN, NAN, 3, 4], equal_nan=True)
    assert series.notes[-1] == (
        "series 'series': 2 of 5 steps missing; the model receives a mask, missing values are never targets"
    )
    many = pd.concat([frame([1, 2, 4], unique_id="a"), frame([1, 5], unique_id="b"), frame([1, 2], unique_id="c")])
    assert (
        read_series(many)
        .notes[-1]
        .startswith(
            "2 of 3 series have missing steps, 4 of 11 in total (most in series 'b': 3 of 5 steps missing); the model"
        )
    )


def test_missing_values_at_the_ends_are_dropped():
    series = read_series(frame([1, 2, 3, 4, 5], y=[NAN, 1, 2, NAN, NAN], p=range(5)), past=["p"])
    assert series.starts == (2,)
    assert series.y[0].tolist() == [1, 2]
    assert series.covariates["p"][0].tolist() == [1, 2]
    assert has_note(series, "rows before the first target of their series, dropped: 1")
    assert has_note(series, "rows after the last target of their series, dropped: 2")


def test_rows_out_of_order_are_sorted():
    series = read_series(frame([3, 1, 2], y=[30, 10, 20]))
    assert series.y[0].tolist() == [10, 20, 30]
    assert has_note(series, "rows sorted by timestamp")


def test_types_of_covariates():
    data = frame(
        [1, 2, 3, 4],
        number=["1", "", "3.5", "NA"],
        flag=[True, False, True, True],
        word=["true", "False", None, "TRUE"],
        kind=["a", None, "b", "7"],
        empty=[None] * 4,
        category=pd.Categorical(["x", "y", "x", "y"]),
    )
    names = ["number", "flag", "word", "kind", "empty", "category"]
    read = {name: values[0] for name, values in read_series(data, past=names).covariates.items()}
    assert np.array_equal(read["number"], [1, NAN, 3.5, NAN], equal_nan=True)
    assert read["flag"].tolist() == [1, 0, 1, 1]
    assert np.array_equal(read["word"], [1, 0, NAN, 1], equal_nan=True)
    assert read["kind"].tolist() == ["a", None, "b", "7"]
    assert np.isnan(read["empty"]).all()
    assert read["category"].tolist() == ["x", "y", "x", "y"]
    assert [read[name].dtype == object for name in names] == [False, False, False, True, False, True]


def test_covariates_have_gaps_too():
    series = read_series(frame([1, 2, 4], p=[1, 2, 4], k=["a", "b", "c"]), past="p", future="k")
    assert np.array_equal(series.covariates["p"][0], [1, 2, NAN, 4], equal_nan=True)
    assert series.covariates["k"][0].tolist() == ["a", "b", None, "c"]
    assert series.future == ("k",)


def test_static_columns():
    data = pd.concat([frame([1, 2], unique_id="a", size=3, town=["x", None]), frame([1, 2], unique_id="b", size=4)])
    assert read_series(data, static=["size", "town"]).static == {"size": (3.0, 4.0), "town": ("x", None)}


def test_rows_after_the_last_target_extend_future_covariates():
    series = read_series(frame([1, 2, 3, 4, 5], y=[1, 2, 3, NAN, NAN], p=[1, 2, 3, 4, NAN]), future=["p"])
    assert series.lengths.tolist() == [3]
    assert series.covariates["p"][0].tolist() == [1, 2, 3, 4]  # the last row has no value
    assert has_note(series, "extend up to 1 steps after")


def test_a_future_table_extends_future_covariates(write):
    data = pd.concat([frame([1, 2], unique_id="a", p=[1, 2], q=0), frame([1, 2, 3], unique_id="b", p=[5, 6, 7], q=0)])
    ahead = write("unique_id,ds,p\nb,5,50\na,3,30\na,2,99\na,4,\n", "ahead.csv")
    series = read_series(data, past=["q"], future=["p"], ahead=ahead)
    assert series.lengths.tolist() == [2, 3]
    assert series.covariates["p"][0].tolist() == [1, 2, 30]
    assert np.array_equal(series.covariates["p"][1], [5, 6, 7, NAN, 50], equal_nan=True)
    assert [len(q) for q in series.covariates["q"]] == [2, 3]
    assert has_note(series, "rows of the future table dropped, not after the last target of their series: 1")


def test_a_future_table_overrides_rows_without_a_target():
    data = frame([1, 2, 3], y=[1, 2, NAN], p=["a", "b", "c"])
    series = read_series(data, future=["p"], ahead=pd.DataFrame({"ds": [3, 4], "p": ["x", "y"]}))
    assert series.covariates["p"][0].tolist() == ["a", "b", "x", "y"]


def test_until_cuts_observed_values_but_not_future_covariates():
    data = frame([1, 2, 3, 4], y=[1, 2, 3, NAN], p=[1, 2, 3, 4], q=[1, 2, 3, 4])
    cut = read_series(data, past=["q"], future=["p"]).until([2])
    assert cut.y[0].tolist() == [1, 2]
    assert cut.covariates["q"][0].tolist() == [1, 2]
    assert cut.covariates["p"][0].tolist() == [1, 2, 3, 4]
    check_future_covariates(cut, ["p"], 2)
    for ends in ([], [0], [4], [1, 1]):
        with pytest.raises(ValueError, match="ends must be 1 numbers"):
            cut.until(ends)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ds,y,k\n1,2.5,a\n2,3,b\n", "sales.csv"),
        ("ds,y,k\r\n1,2.5,a\r\n\r\n2,3,b\r\n", "sales.csv"),
        ("\n\nds,y,k\n1,2.5,a\n2,3,b", "sales.txt"),
        ("ds\ty\tk\n1\t2.5\ta\n2\t3\tb\n", "sales.tsv"),
        ("ds;y;k\n1;2,5;a\n2;3;b\n", "sales.csv.gz"),
        ("ds|y|k\n1|2.5|a\n2|3|b\n", "SALES.CSV"),
        ('"ds","y","k"\n"1","2.5","a"\n"2","3","b"\n', "sales.csv"),
        (" ds , y , k \n 1 , 2.5 ,a\n 2 , 3 ,b\n", "sales.csv"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_dialects(write, text, name, encoding):
    series = read_series(write(text, name, encoding), past=["k"])
    assert series.starts == (1,)
    assert series.y[0].tolist() == [2.5, 3]
    assert series.covariates["k"][0].tolist() == ["a", "b"]


def test_text_that_is_not_utf8_is_read_as_latin1_with_a_note(write):
    series = read_series(write("ds,y,größe\n1,2,ä\n2,3,ö\n", encoding="latin-1"), past=["größe"])
    assert series.covariates["größe"][0].tolist() == ["ä", "ö"]
    assert has_note(series, "sales.csv: not UTF-8, read as Latin-1")


def test_decimal_commas_are_read_with_a_note(write):
    path = write("ds;y;p\n2020-01-01;3,5;-1\n2020-01-02;4,25;2e3\n2020-01-03;;0,5\n2020-01-04;1200;3\n")
    series = read_series(path, past=["p"])
    assert np.array_equal(series.y[0], [3.5, 4.25, NAN, 1200], equal_nan=True)
    assert series.covariates["p"][0].tolist() == [-1, 2000, 0.5, 3]
    assert has_note(series, "numbers read with a decimal comma")
    assert read_series(write("ds;y\n1;1,500\n2;0,250\n")).y[0].tolist() == [1.5, 0.25]  # 0,250 has no thousands


def test_a_file_without_a_header(write):
    series = read_series(write("2020-01-01,3\n2020-01-02,4\n"), time_col="1", target_col="2")
    assert series.y[0].tolist() == [3, 4]
    assert has_note(series, "no header row, columns are named 1, 2")


def test_parquet_equals_csv(tmp_path):
    data = days(3, k=["a", None, "b"], unique_id=["s"] * 3)
    data.to_parquet(tmp_path / "sales.parquet")
    data.to_csv(tmp_path / "sales.csv", index=False)
    from_parquet, from_csv = (read_series(tmp_path / f"sales.{e}", past=["k"]).to_frame() for e in ("parquet", "csv"))
    pd.testing.assert_frame_equal(from_parquet, from_csv)
    from_arrow = read_series(data.convert_dtypes(dtype_backend="pyarrow"), past=["k"])
    pd.testing.assert_frame_equal(from_arrow.to_frame(), from_parquet)


# ---- invalid data -------------------------------------------------------------------------------------------------


def test_the_error_for_a_missing_column_names_the_options(write):
    path = write("Month,Passengers\n1949-01,112\n1949-02,118\n")
    assert message(path) == (
        "no column 'ds' in sales.csv (columns: Month, Passengers): give time_col='Month', target_col='Passengers'"
    )
    assert message(path, time_col="Month").endswith("): give target_col='Passengers'")
    path = write("date,shop name,a b,c\n2020-01-01,x,1,2\n2020-01-02,x,1,2\n")
    assert "give time_col='date', target_col=NAME (one of a b, c)" in message(path)
    assert "target_col='a b'" in message(write("date,a b\n2020-01-01,1\n2020-01-02,1\n"))
    assert "give time_col=NAME (or time_col='' if the rows are" in message(write("a,b\n1,x\n2,y\n"))


@pytest.mark.parametrize("option", ["id_col", "past", "future", "static"])
def test_a_requested_column_must_exist(option):
    assert "no column 'price' in the frame (columns: ds, y)" in message(days(3), **{option: "price"})


def test_long_lists_of_columns_are_truncated():
    text = message(pd.DataFrame({f"c{k}": [1, 2] for k in range(500)}))
    assert "… (500 in total)" in text
    assert len(text) < 400


def test_a_column_has_one_role_and_a_unique_name(write):
    assert "column 'p' has two roles" in message(days(3, p=1), past=["p"], static=["p"])
    assert "column 'y' has two roles" in message(days(3), past=["y"])
    assert "2 columns have the name 'y'" in message(write("ds,y,y\n1,2,3\n2,3,4\n"))
    taken = pd.DataFrame({"t": [1, 2], "v": [1, 2], "y": [1, 2]})
    assert "a covariate cannot be named 'y'" in message(taken, time_col="t", target_col="v", past=["y"])


def test_files_that_are_not_tables(write, tmp_path):
    assert "no such file: " in message(tmp_path / "none.csv")
    assert "is a folder: give a file" in message(str(tmp_path))
    assert "sales.csv is empty" in message(write(""))
    assert "sales.csv is empty" in message(write("\n \n"))
    assert "has no rows below the header" in message(write("ds,y\n"))
    assert "is not a text file" in message(write(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"))
    assert "unsupported file format: give delimited text (.csv" in message(write(b"PK", "sales.xlsx"))
    assert "unsupported file format" in message(write(b"PK", "sales"))
    assert "sales.csv.gz cannot be read (Not a gzipped file" in message(
        write(b"hello").rename(tmp_path / "sales.csv.gz")
    )
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"ds,y\n1,2\n" * 99)[:-9])
    assert "cut.csv.gz cannot be read" in message(tmp_path / "cut.csv.gz")
    assert "sales.parquet cannot be read" in message(write(b"hello", "sales.parquet"))
    assert "is never closed" in message(write('ds,y\n1,"2\n2,3\n'))
    assert "has no rows below the header" in message(write("x" * 150_000))


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("ds,y\n1,2\n\n2,3,4\n", "line 4 has 3 fields, expected 2: '2,3,4'"),
        ("ds,y\n1,2\n2\n", "line 3 has 1 fields, expected 2: '2'"),
        ("\n\nds,y\n1,2\n2,3,4\n", "line 5 has 3 fields"),
        ("y\n1\n\n3,5\n", "line 4 has 2 fields, expected 1"),
    ],
)
def test_rows_of_another_length_are_named(write, text, phrase):
    assert phrase in message(write(text))


@pytest.mark.parametrize("data", [{"y": [1]}, 7, None, np.ones((2, 2)), [[1, 2], [3]], np.array(5.0)])
def test_invalid_objects_are_refused(data):
    assert "give" in message(data)


@pytest.mark.parametrize("data", [[], pd.DataFrame(), pd.DataFrame({"ds": [], "y": []}), np.array([])])
def test_no_rows(data):
    assert "has no rows" in message(data)


def test_text_among_numbers_is_named(write):
    text = message(write("ds,y\n1,2\n2,oops\n"))
    assert "sales.csv: column 'y', row 2 below the header: 'oops' is not a number" in text
    assert "the frame: column 'y', row 3: '?' is not a number" in message(frame([1, 2, 3], y=["1", "2", "?"]))
    assert "'1,234' is not a number: write numbers with a decimal point" in message(write('ds,y\n1,"1,234"\n2,3\n'))
    typo = frame([1, 2, 3], p=["1", "2", "3x"])
    assert "column 'p', row 3: '3x' is not a number" in message(typo, past=["p"])
    assert "is not a number" in message(frame([1, 2], y=pd.date_range("2020", periods=2)))
    assert "…' is not a number" in message(frame([1, 2], y=["1", "long\n" * 99]))


def test_ambiguous_numbers_are_refused(write):
    assert "may have a decimal comma or a comma for thousands" in message(write("ds;y\n1;3,500\n2;4,250\n"))
    text = message(write("ds;y\n1;1.234\n2;4,2\n"))
    assert "'1.234' is not a number: write numbers with a decimal comma and no points" in text


@pytest.mark.parametrize("value", ["inf", "-Infinity"])
def test_infinite_values_are_named(write, value):
    assert f"column 'y', row 2 below the header: '{value}' is infinite" in message(write(f"ds,y\n1,2\n2,{value}\n"))
    assert "column 'p', row 1: inf is infinite" in message(frame([1, 2], p=[np.inf, 1]), past=["p"])


@pytest.mark.parametrize(
    ("timestamps", "phrase"),
    [
        (["1-01", "1-02"], "row 1: '1-01' is not a date with a four-digit year: write timestamps as 2024-01-31"),
        (["01/02/20", "02/02/20"], "is not a date with a four-digit year"),
        (["Jan-49", "Feb-49"], "is not a date with a four-digit year"),
        (["01/02/2020", "02/02/2020"], "row 1: '01/02/2020' is ambiguous (day first or month first)"),
        (["31/13/2020", "30/12/2020"], "row 1: '31/13/2020' is not a date"),
        (["2020-01-01", "01/02/2020"], "has another format than the other timestamps"),
        (["2020-01-31", "2020-02-30"], "row 2: '2020-02-30' is not a date"),
        (["10:00 2020", "11:00 2020"], "is not a date"),  # pandas would use today's date
        (["hello 2020", "hello 2021"], "is not a date"),
        (["3000-01-01", "3000-01-02"], "is not a date from the years 1678 to 2261"),
        ([datetime.date(3000, 1, 1), datetime.date(3000, 1, 2)], "is not a date from the years 1678 to 2261"),
        (np.array(["3000-01-01", "3000-01-02"], "datetime64[s]"), "is not a date from the years 1678 to 2261"),
        (
            ["2020-01-01T00:00Z", "2020-01-01T01:00"],
            "row 2: '2020-01-01T01:00' has no UTC offset, but other timestamps have one",
        ),
        (
            [pd.Timestamp("2020", tz="UTC"), pd.Timestamp("2021")],
            "has no time zone, but other timestamps have one",
        ),
        (["1749.04", "1749.13"], "'1749.04' is neither a whole number nor a date"),
        ([0.5, 1.5], "row 1: 0.5 is neither a whole number nor a date"),
        ([True, False], "is neither a whole number nor a date"),
        ([1, "2020-01-01"], "is neither a whole number nor a date"),
        (["2020-01-01", None], "row 2: None is not a timestamp: every row needs one"),
        ([1, NAN], "row 2: nan is not a timestamp"),
        ([1, np.inf], "row 2: inf is neither a whole number"),
    ],
)
def test_unreadable_timestamps(timestamps, phrase):
    assert phrase in message(frame(timestamps))


def test_an_id_is_needed_in_every_row(write):
    assert "row 2 below the header: '' is not a valid series id" in message(write("unique_id,ds,y\na,1,2\n,2,3\n"))
    assert read_series(write("unique_id,ds,y\nNA,1,2\nNA,2,3\n")).ids == ("NA",)  # Namibia


def test_duplicates_are_named():
    data = pd.concat([days(3, unique_id="a"), days(2, unique_id="b"), days(1, unique_id="b"), days(1, unique_id="b")])
    assert message(data) == (
        "the frame: series 'b' has 3 rows with the timestamp 2020-01-01 (3 rows in total have a duplicate "
        "timestamp): keep one row per timestamp"
    )
    assert "name the column with the series ids with id_col=NAME" in message(pd.concat([days(3), days(3)]))


def test_steps_off_the_grid_are_named():
    text = message(frame(["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04 05:00"], unique_id="a"))
    assert text == (
        "irregular timestamps: 2020-01-04 05:00:00 of series 'a' is not on the grid of frequency 'D' (inferred from "
        "the data) that starts at 2020-01-01: give the frequency with freq=..., or resample the data to a regular grid"
    )
    assert "5 of series 'series' is not on the grid of frequency 2" in message(frame([0, 2, 4, 5, 8]))
    assert "not on the grid of frequency 'W-SUN' (given)" in message(days(9, "2020-01-05"), freq="W-SUN")
    assert "(write a month as its first day)" in message(frame([f"2020-{m:02}-15" for m in range(1, 9)]))
    assert "is not on the grid of frequency 'MS' (given)" in message(frame(["2020-01-15"]), freq="MS")
    mixed = frame(pd.DatetimeIndex(["2020-01-01", "2020-02-01", "2020-03-01", "2020-04-02", "2020-05-01"]))
    assert "2020-04-02 of series 'series' is not on the grid of frequency 'MS'" in message(mixed)
    times = frame(pd.DatetimeIndex(["2020-01-01", "2020-02-01", "2020-03-01 06:00"]))
    assert "irregular timestamps: 2020-03-01 06:00:00" in message(times)


def test_a_frequency_that_cannot_be_inferred_or_used():
    assert "series 'series' has one row, so the frequency cannot be inferred: give freq=..." in message(days(1))
    for freq in ("fortnightly", "", "-1D", "0D", 0, -1, [1]):
        assert f"freq={freq!r} is not a frequency: give one such as h, 15min" in message(days(3), freq=freq)
    assert "freq=1 does not match timestamps that are dates" in message(days(3), freq=1)
    assert "freq='D' does not match timestamps that are numbers" in message(frame([1, 2]), freq="D")
    assert "freq='D' does not match timestamps that are numbers" in message([1, 2], freq="D")
    assert "turns 3 rows into 1000000001 steps" in message(frame([0, 1, 10**9]))


def test_a_series_needs_a_target():
    data = pd.concat([days(3, unique_id="a"), frame(pd.date_range("2020", periods=2), y=[NAN, NAN], unique_id="b")])
    assert message(data).startswith("series 'b' has no target: 'y' is missing in all its rows: remove")
    assert "has no target" in message([None, None])


def test_static_columns_must_not_change():
    text = message(days(3, unique_id="a", town=["x", "x", "z"]), static=["town"])
    assert "static column 'town' changes within series 'a' (from 'x' to 'z')" in text


@pytest.mark.parametrize(
    ("ahead", "phrase"),
    [
        ({"ds": [4], "q": [1]}, "no column 'p' in the frame (columns: ds, q)"),
        ({"p": [1], "q": [1]}, "no column 'ds' in the frame"),
        ({"ds": ["2020-01-01"], "p": [1]}, "are datetime64[ns], those of the data int64: use one type"),
        ({"ds": [4], "p": ["a"]}, "covariate 'p' is text in one table and numbers in the other"),
        ({"ds": [4, 4], "p": [1, 2]}, "has 2 rows with the timestamp 4"),
        ({"ds": [4], "p": [np.inf]}, "is infinite"),
        ({"ds": [], "p": []}, "has no rows"),
    ],
)
def test_invalid_future_tables(ahead, phrase):
    assert phrase in message(frame([1, 2, 3], p=[1, 2, 3]), future=["p"], ahead=pd.DataFrame(ahead))


def test_requirements_of_a_future_table(tmp_path):
    ahead = pd.DataFrame({"ds": [4], "p": [1.0], "unique_id": "z"})
    assert "a table of future covariates (future_data) needs" in message(frame([1, 2, 3]), ahead=ahead)
    assert "a table of future covariates (future_data) needs" in message(
        frame([1, 2], p=1), time_col=None, future=["p"], ahead=ahead
    )
    data = frame([1, 2, 3], p=1, unique_id="a")
    assert "series 'z' of the future table is not in the data" in message(data, future=["p"], ahead=ahead)
    assert "no column 'unique_id' in the frame" in message(data, future=["p"], ahead=ahead[["ds", "p"]])
    assert "no such file" in message(data, future=["p"], ahead=tmp_path / "none.csv")


def test_future_covariates_must_cover_the_horizon():
    timestamps = pd.date_range("2020-02-01", periods=52)
    y = [1.0] * 28 + [NAN] * 24  # the last target is of 28 February
    price = [1.0] * 28 + [NAN] * 12 + [1.0] * 12
    series = read_series(frame(timestamps, y=y, price=price, unique_id="a"), future=["price"])
    with pytest.raises(DataError) as caught:
        check_future_covariates(series, ["price"], 24)
    assert str(caught.value) == (
        "future covariate 'price' of series 'a' is missing from 2020-02-29 to 2020-03-11 (12 of 24 steps of the "
        "horizon): give it in the data or with future_data=FILE"
    )
    with pytest.raises(DataError, match=r"from 2020-02-29 to 2020-02-29 \(1 of 1 steps"):
        check_future_covariates(series, ["price"], 1)
    check_future_covariates(series.until([3]), ["price"], 25)
    with pytest.raises(DataError, match="'cost' is not a future covariate of the data"):
        check_future_covariates(series, ["cost"], 1)
    short = read_series(frame([1, 2, 3], y=[1, 2, NAN], k=["a", "b", "c"]), future=["k"])
    check_future_covariates(short, ["k"], 1)
    with pytest.raises(DataError, match=r"missing from 4 to 5 \(2 of 3 steps"):
        check_future_covariates(short, ["k"], 3)


# ---- properties ---------------------------------------------------------------------------------------------------


@st.composite
def long_frames(draw, freqs=FREQUENCIES, max_steps: int = 40):
    """A frequency, a full long frame of regular series, and its kept rows in random order."""
    freq = draw(st.sampled_from(freqs))
    parts, kept = [], []
    for name in draw(st.lists(st.sampled_from(["a", "b", "7", "Ä x"]), min_size=1, max_size=3, unique=True)):
        n = draw(st.integers(26, max_steps))
        start = draw(st.integers(0, 5))
        if freq == 1:
            timestamps = pd.Index(np.arange(start, start + n))
        else:
            timestamps = pd.date_range("1999-12-30 06:00", periods=start + n, freq=freq)[start:]
        y = np.array(draw(st.lists(st.floats(-1e6, 1e6, width=32), min_size=n, max_size=n)))
        kind = draw(st.lists(st.sampled_from(["p", "q", None]), min_size=n, max_size=n))
        gaps = draw(st.sets(st.integers(1, n - 2), max_size=3))
        kept += [k not in gaps for k in range(n)]
        for k in gaps:
            y[k], kind[k] = NAN, None
        parts.append(pd.DataFrame({"unique_id": name, "ds": timestamps, "y": y, "kind": pd.Series(kind, dtype=object)}))
    whole = pd.concat(parts, ignore_index=True)
    kept_rows = draw(st.permutations(list(np.flatnonzero(kept))))
    return freq, whole, whole.iloc[kept_rows]


def in_order(data: pd.DataFrame) -> pd.DataFrame:
    return data.sort_values(["unique_id", "ds"], ignore_index=True)


@settings(max_examples=60, deadline=None)
@given(long_frames(freqs=(*FREQUENCIES, 1)), st.booleans())
def test_reading_keeps_all_values(example, give_frequency):
    freq, whole, rows = example
    series = read_series(
        rows, past=["kind"] if rows["kind"].notna().any() else [], freq=freq if give_frequency else None
    )
    assert series.freq == freq
    assert series.ids == tuple(rows["unique_id"].unique())
    back = in_order(series.to_frame())
    pd.testing.assert_frame_equal(back, in_order(whole)[list(back)], check_dtype=False)
    reread = read_series(series.to_frame(), freq=series.freq)
    assert [y.tobytes() for y in reread.y] == [y.tobytes() for y in series.y]


@settings(max_examples=25, deadline=None)
@given(long_frames(freqs=("h", "D", "MS", 1), max_steps=30), st.sampled_from([",", ";", "\t"]))
def test_a_csv_file_is_read_like_its_frame(tmp_path_factory, example, separator):
    _, _, rows = example
    path = tmp_path_factory.mktemp("csv") / "long.csv"
    rows.to_csv(path, index=False, sep=separator, decimal="," if separator == ";" else ".")
    from_frame, from_file = read_series(rows), read_series(path)
    assert (from_frame.ids, from_frame.freq, from_frame.starts) == (from_file.ids, from_file.freq, from_file.starts)
    for y, z in zip(from_frame.y, from_file.y, strict=True):
        assert np.array_equal(y, z, equal_nan=True)  # to the last bit


@settings(max_examples=25, deadline=None)
@given(long_frames(freqs=("h", "B", "ME", 1), max_steps=30), st.data())
def test_until_is_a_prefix(example, data):
    _, _, rows = example
    series = read_series(rows)
    ends = [data.draw(st.integers(1, int(n))) for n in series.lengths]
    cut = series.until(ends)
    assert cut.lengths.tolist() == ends
    assert cut.starts == series.starts
    for y, z, end in zip(cut.y, series.y, ends, strict=True):
        assert np.array_equal(y, z[:end], equal_nan=True)


# ---- real files ---------------------------------------------------------------------------------------------------


def real(name: str) -> Path:
    path = Path(os.environ.get("LSTMKIT_DATA") or "/nowhere") / name
    if not path.exists():
        pytest.skip(f"needs {name} in $LSTMKIT_DATA")
    return path


@pytest.mark.parametrize(
    ("name", "time", "target", "freq", "steps"),
    [
        ("airline-passengers.csv", "Month", "Passengers", "MS", 144),
        ("monthly-sunspots.csv", "Month", "Sunspots", "MS", 2820),
        ("daily-min-temperatures.csv", "Date", "Temp", "D", 3652),
        ("daily-max-temperatures.csv", "Date", "Temperature", "D", 3652),
        ("daily-total-female-births.csv", "Date", "Births", "D", 365),
        ("monthly-mean-temp.csv", "Month", "Temperature", "MS", 240),
    ],
)
def test_the_classic_series(name, time, target, freq, steps):
    path = real(f"classic_series/{name}")
    assert f"give time_col={time!r}, target_col={target!r}" in message(path)
    series = read_series(path, time_col=time, target_col=target)
    assert (series.freq, series.lengths.tolist()) == (freq, [steps])
    # The Melbourne temperatures leave out 31 December of the leap years 1984 and 1988.
    missing = series.timestamps(0, 0, steps)[np.isnan(series.y[0])]
    assert list(missing.astype(str)) == (["1984-12-31", "1988-12-31"] if "temperatures" in name else [])


def test_other_real_files():
    assert "'1-01' is not a date with a four-digit year" in message(
        real("classic_series/monthly-shampoo-sales.csv"), time_col="Month", target_col="Sales"
    )
    ett = read_series(real("ett/ETTh1.csv.gz"), time_col="date", target_col="OT", past=["HUFL", "LULL"])
    assert (ett.freq, ett.lengths.tolist()) == ("h", [17420])
    rates = read_series(real("exchange_rate/exchange_rate.txt.gz"), time_col="", target_col="8", past=list("1234567"))
    assert (rates.lengths.tolist(), rates.y[0][0]) == ([7588], 0.525486)
    air = read_series(real("classic_series/pollution.csv.gz"), time_col="No", target_col="pm2.5", past=["TEMP", "cbwd"])
    assert air.lengths.tolist() == [43800]
    assert set(air.covariates["cbwd"][0]) == {"NW", "NE", "SE", "cv"}
    assert has_note(air, "2043 of 43800 steps missing")
