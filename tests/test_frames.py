"""Data frames of every library are read, and predictions are returned in the same kind of frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from lstmkit import AnomalyDetector, Classifier, Forecaster, QuestionAnswerer, Translator
from lstmkit.data.tables.native_frames import as_pandas, to_native

KINDS = pytest.mark.parametrize("kind", ["polars", "arrow", "lazy"])


def converted(kind: str, frame: pd.DataFrame) -> Any:
    if kind == "arrow":
        return pa.Table.from_pandas(frame, preserve_index=False)
    return pl.from_pandas(frame) if kind == "polars" else pl.from_pandas(frame).lazy()


@KINDS
def test_forecasts_have_the_kind_of_the_data(kind: str):
    days = pd.date_range("2024-01-01", periods=60)
    frame = pd.DataFrame({"unique_id": "a", "ds": days, "y": np.sin(np.arange(60.0))})
    job = Forecaster(horizon=3, window=8, epochs=1, hidden_size=4, test_windows=0).fit(converted(kind, frame))
    forecast = job.predict(converted(kind, frame))
    assert isinstance(forecast, pa.Table if kind == "arrow" else pl.DataFrame)
    expected = job.predict(frame)
    assert isinstance(expected, pd.DataFrame)
    assert as_pandas(forecast)["forecast"].tolist() == expected["forecast"].tolist()
    assert job.to_text(forecast) == job.to_text(expected)
    assert job.to_records(forecast)[0]["unique_id"] == "a"


@KINDS
def test_other_jobs_read_all_kinds_of_frames(kind: str):
    """Other frames give the same examples as a pandas frame."""
    texts = pd.DataFrame({"text": ["a b", "b c"] * 3, "label": ["x", "y"] * 3})
    stories = pd.DataFrame({"story": ["a is b"] * 2, "question": ["what is a"] * 2, "answer": ["b"] * 2})
    pairs = pd.DataFrame({"source": ["a b", "c"], "target": ["b a", "c"]})
    sensors = pd.DataFrame({"v": np.arange(5.0), "w": np.ones(5)})
    for job, frame in [
        (Classifier(), texts),
        (QuestionAnswerer(), stories),
        (Translator(), pairs),
        (AnomalyDetector(), sensors),
    ]:
        assert job.read(converted(kind, frame)).digest() == job.read(frame).digest()


def test_pandas_arrays_and_lists_pass_unchanged():
    frame, array, rows = pd.DataFrame({"a": [1]}), np.ones(3), ["a", "b"]
    assert as_pandas(frame) is frame
    assert as_pandas(array) is array
    assert as_pandas(rows) is rows
    assert to_native(frame, rows) is frame
