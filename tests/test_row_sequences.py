"""Tables of rows by entity: reading, selection, and encoding as features."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstmkit.data.tables.row_encoding import DAY, FIRST_KNOWN, MISSING, UNKNOWN, RowEncoding, elapsed_times
from lstmkit.data.tables.row_sequences import RowColumns, read_row_sequences
from lstmkit.errors import DataError
from lstmkit.modules.column_encoder import ColumnEncoder


def payments() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "card": ["b", "a", "b", "a", "b"],
            "when": ["2024-01-02", "2024-01-01", "2024-01-01", "2024-01-03", "2024-01-01"],
            "amount": [5.0, 1.0, 3.0, np.nan, 4.0],
            "shop": ["x", "y", None, "x", "z"],
            "region": ["n", "s", "n", "s", "n"],
            "fraud": [0, 1, np.nan, 0, 0],
        }
    )


COLUMNS = RowColumns(id="card", time="when", targets=("fraud",), static=("region",))


def test_rows_are_sorted_by_entity_and_time():
    rows = read_row_sequences(payments(), COLUMNS)
    assert rows.names == ("b", "a")
    assert rows.rows.tolist() == [2, 4, 0, 1, 3]
    assert rows.lengths.tolist() == [3, 2]
    assert rows.entities.tolist() == [0, 0, 0, 1, 1]
    assert rows.number_names == ("amount",)
    assert rows.category_names == ("shop", "region")
    assert rows.categories[:, 0].tolist() == [None, "z", "x", "y", "x"]
    assert rows.require_targets()[:, 0].tolist()[1:] == [0, 0, 1, 0]
    assert rows.seconds is not None
    assert np.diff(rows.seconds).tolist() == [0, DAY, -DAY, 2 * DAY]
    notes = " ".join(rows.notes)
    assert "1 rows are earlier than the row before them" in notes
    assert "1 rows have the time of another row of their sequence, such as 2024-01-01" in notes


def test_labels_are_texts_and_may_be_missing():
    rows = read_row_sequences(payments(), COLUMNS._replace(labels=True))
    assert rows.require_targets()[:, 0].tolist() == [None, "0", "0", "1", "0"]


def test_without_id_and_time_the_table_is_one_sequence_in_order():
    rows = read_row_sequences(pd.DataFrame({"v": [3.0, 1.0, 2.0]}), RowColumns())
    assert rows.names == ("the frame",)
    assert rows.numbers.ravel().tolist() == [3, 1, 2]
    assert rows.seconds is None
    assert rows.targets is None


def test_columns_that_are_no_inputs_are_left_out_with_a_note():
    n = 30
    frame = pd.DataFrame({"id": ["a", "b"] * 15, "time": np.arange(n), "key": 100 + 7 * np.arange(n) ** 2})
    frame = frame.assign(seen=pd.date_range("2024-01-01", periods=n).astype(str), none=None, v=np.cos(np.arange(n)))
    rows = read_row_sequences(frame, RowColumns())
    assert rows.column_names == ("v",)
    notes = " ".join(rows.notes)
    assert "column 'key' increases in every row, as the id of a row does" in notes
    assert "columns of texts that hardly repeat, as ids do, not used: seen" in notes
    assert "columns without a value, not used: none" in notes
    assert read_row_sequences(frame, RowColumns(numeric=("key",))).column_names == ("key", "v")
    assert read_row_sequences(frame, RowColumns(numeric=("key",), recognize=False)).column_names == ("key",)
    assert read_row_sequences(frame, RowColumns(categorical=("v",))).category_names == ("v",)


def test_times_may_be_numbers_with_fractions():
    frame = pd.DataFrame({"time": [0.5, 0.25, 2.0], "v": [1.0, 2.0, 3.0]})
    rows = read_row_sequences(frame, RowColumns())
    assert rows.seconds is not None
    assert rows.seconds.tolist() == [0.25, 0.5, 2.0]
    assert rows.clock_seconds is None


def test_a_clock_on_the_wall_is_local():
    times = pd.date_range("2024-01-01", periods=2, freq="h", tz="Europe/Paris")
    rows = read_row_sequences(pd.DataFrame({"time": times, "v": [1.0, 2.0]}), RowColumns())
    assert rows.seconds is not None
    assert rows.clock_seconds is not None
    assert (rows.clock_seconds - rows.seconds).tolist() == [3600, 3600]


def test_selected_rows_keep_their_order_and_entities_without_rows_go():
    rows = read_row_sequences(payments(), COLUMNS)
    kept = rows.select(np.array([False, True, True, False, False]))
    assert kept.names == ("b",)
    assert kept.rows.tolist() == [4, 0]
    assert rows.subset([1]).rows.tolist() == [1, 3]
    known = rows.with_targets_at(rows.rows == 1).require_targets()[:, 0]
    assert np.flatnonzero(~np.isnan(known)).tolist() == [3]


def test_the_digest_sees_every_value():
    digests = {read_row_sequences(payments(), COLUMNS).digest()}
    for column, value in (("amount", 9.0), ("shop", "q"), ("fraud", 1.0), ("when", "2024-02-01"), ("card", "c")):
        changed = payments()
        changed.loc[4, column] = value
        digests.add(read_row_sequences(changed, COLUMNS).digest())
    assert len(digests) == 6


@pytest.mark.parametrize(
    ("change", "columns", "message"),
    [
        ({"amount": ["1", "2", "3", "x", "5"]}, COLUMNS, "column 'amount', row 4: 'x' is not a number"),
        ({"amount": [1, 2, 3, np.inf, 5]}, COLUMNS, "column 'amount', row 4: inf is infinite"),
        ({"amount": [1, 2, 3, 1e200, 5]}, COLUMNS, r"is above 1e\+150"),
        ({"when": ["2024-01-01"] * 4 + [None]}, COLUMNS, "is not a timestamp: every row needs one"),
        ({"card": ["a"] * 4 + [None]}, COLUMNS, "is not a valid id"),
        ({"region": list("nsnsx")}, COLUMNS, "column 'region' changes within 'b': a static column"),
        ({}, COLUMNS._replace(id="account"), "no column 'account' .* correct --id-col"),
        ({}, COLUMNS._replace(numeric=("amount", "fraud")), "column 'fraud' has two roles"),
        ({}, COLUMNS._replace(numeric=("height",)), "no column 'height'"),
        ({}, COLUMNS._replace(static=("card",)), "column 'card' cannot be static"),
        ({}, COLUMNS._replace(numeric=("shop",)), "column 'shop', row 1: 'x' is not a number"),
    ],
)
def test_what_cannot_be_read_is_named(change: dict, columns: RowColumns, message: str):
    with pytest.raises(DataError, match=message) as caught:
        read_row_sequences(payments().assign(**change), columns)
    assert "\n" not in str(caught.value)


def test_other_data_are_refused():
    with pytest.raises(DataError, match="cannot read rows from int: give a path or a data frame"):
        read_row_sequences(3, RowColumns())
    with pytest.raises(DataError, match="the frame has no rows"):
        read_row_sequences(pd.DataFrame({"v": []}), RowColumns())


# ---- encoding --------------------------------------------------------------------------------------------------------


def fitted(numbers: np.ndarray, categories: np.ndarray, **options) -> RowEncoding:
    names = [f"n{k}" for k in range(numbers.shape[1])], [f"c{k}" for k in range(categories.shape[1])]
    return RowEncoding.fitted(names, numbers, categories, **options)


def test_numbers_are_standardized_and_missing_ones_marked():
    numbers = np.array([[1.0, 7.0], [3.0, 7.0], [np.nan, 7.0]])
    encoding = fitted(numbers, np.empty((3, 0), dtype=object))
    assert encoding.columns == ("n0", "n1", "n0")
    features = encoding.encode(numbers, np.empty((3, 0), dtype=object))
    assert features.tolist() == [[-1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert features.dtype == np.float32


def test_heavy_tails_are_compressed_and_kept_in_order():
    values = np.concatenate([np.linspace(0, 1, 999), [1e6]])[:, None]
    encoding = fitted(values, np.empty((1000, 0), dtype=object))
    assert encoding.is_compressed.tolist() == [True]
    features = encoding.encode(values, np.empty((1000, 0), dtype=object))[:, 0]
    assert (np.diff(features) > 0).all()
    assert features[-1] <= 10


def test_categories_get_ids():
    categories = np.array([["x"], ["x"], ["y"], [None]], dtype=object)
    encoding = fitted(np.empty((4, 0)), categories, min_count=2)
    other = np.array([["x"], ["y"], [None], ["new"]], dtype=object)
    assert encoding.encode(np.empty((4, 0)), other)[:, 0].tolist() == [FIRST_KNOWN, UNKNOWN, MISSING, UNKNOWN]
    assert encoding.vocabulary_sizes == (3,)


def test_time_features():
    """Time since the last row is standardized on a logarithmic scale, the clock has its sine and cosine."""
    elapsed = elapsed_times(np.array([0.0, 1.0, 10.0, 5.0]), np.array([0, 3, 4]))
    clock = np.array([0.0, 6.0, 12.0, 18.0]) * 3600
    empty = np.empty((4, 0)), np.empty((4, 0), dtype=object)
    encoding = fitted(*empty, elapsed=elapsed, clock=clock)
    features = encoding.encode(*empty, elapsed, clock)
    assert features[:, 1].tolist() == [1, 0, 0, 1]
    assert features[:, 0] == pytest.approx([0, -1, 1, 0])
    assert features[:, 2] == pytest.approx([0, 1, 0, -1], abs=1e-6)  # midnight of a Thursday
    assert encoding.columns[:3] == ("time since the last row", "time since the last row", "time of day")
    assert len(encoding.columns) == features.shape[1]
    assert fitted(*empty, elapsed=np.array([np.nan, 1, 1, 1])).elapsed is None
    assert fitted(*empty, clock=DAY * np.arange(4)).periods == ()
    assert len(fitted(*empty, clock=DAY * np.array([0, 1, 500, 731.5])).periods) == 3


@given(st.lists(st.floats(-1e150, 1e150) | st.just(np.nan), min_size=1, max_size=30))
def test_features_of_any_numbers_are_finite(values: list[float]):
    numbers = np.array(values)[:, None]
    empty = np.empty((len(values), 0), dtype=object)
    features = fitted(numbers, empty).encode(numbers, empty)
    assert np.isfinite(features).all()
    assert np.abs(features).max() <= 10


def test_an_encoding_is_restored_from_json():
    rng = np.random.default_rng(0)
    numbers, categories = (
        rng.standard_cauchy((50, 2)),
        np.array(["a", "b", None], dtype=object)[rng.integers(0, 3, (50, 2))],
    )
    elapsed, clock = rng.exponential(size=50), rng.uniform(0, 30 * DAY, 50)
    encoding = fitted(numbers, categories, elapsed=elapsed, clock=clock, bins=8)
    restored = RowEncoding.from_state(json.loads(json.dumps(encoding.state())))
    arguments = numbers, categories, elapsed, clock
    assert np.array_equal(restored.encode(*arguments), encoding.encode(*arguments))


@pytest.mark.parametrize(
    "change",
    [
        {"numbers": ["n0", "n0"]},
        {"std": [1.0, 0.0]},
        {"mean": [0.0]},
        {"vocabularies": []},
        {"has_mark": [1, 0]},
        {"elapsed": [1.0, 0.0]},
        {"periods": [5.0]},
        {"scale": [1.0, float("nan")]},
        {"edges": [[0.0, 1.0]]},
        {"edges": [[0.0, 0.0], []]},
    ],
)
def test_a_damaged_encoding_is_refused(change: dict):
    state = fitted(np.zeros((3, 2)), np.full((3, 1), "a", dtype=object)).state()
    with pytest.raises(ValueError, match=r"its "):
        RowEncoding.from_state({**state, **change})


def test_bins_have_equally_many_values_and_are_encoded_linearly():
    values = np.linspace(0, 1, 1001)[:, None]
    empty = np.empty((1001, 0), dtype=object)
    encoding = fitted(values, empty, bins=2)
    rows = torch.from_numpy(encoding.encode(values, empty))[None]
    encoder = ColumnEncoder(1, edges=encoding.edges)
    middle = encoding.edges[0].index(min(encoding.edges[0], key=abs))
    assert encoding.edges[0][middle] == pytest.approx(0, abs=1e-6)
    outputs = encoder(rows)[0, :, 1:].numpy()
    assert outputs.shape[1] == len(encoding.edges[0]) - 1
    below = [column for k, column in enumerate(outputs.T) if k < middle]
    assert all((column[501:] == 0.5).all() and column[0] == -0.5 for column in below)
    assert fitted(np.ones((3, 1)), empty[:3], bins=4).edges == ((),)
    assert set(encoder.sources) == {0}


def test_the_encoder_reads_numbers_and_categories():
    encoder = ColumnEncoder(2, [3, 10])
    rows = torch.tensor([[[0.5, -1.0, 2.0, 9.0]]])
    outputs = encoder(rows)
    assert outputs.shape == (1, 1, encoder.output_size)
    assert outputs[0, 0, :2].tolist() == [0.5, -1.0]
    assert encoder.sources[:3] == [0, 1, 2]
    assert len(encoder.sources) == encoder.output_size
    unknown = ColumnEncoder(0, [3], unknown_probability=1.0)
    assert torch.equal(unknown(torch.tensor([[[2.0]]])), unknown.eval()(torch.tensor([[[0.0]]])))
