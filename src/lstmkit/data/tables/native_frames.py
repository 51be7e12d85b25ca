"""Data frames of other libraries (Polars, Arrow, Modin, …), converted to pandas and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd


def as_pandas(data: Any) -> Any:
    """A data frame of any library that narwhals supports as a pandas frame; anything else unchanged.

    >>> import pyarrow as pa
    >>> as_pandas(pa.table({"y": [1, 2]})).shape
    (2, 1)
    >>> as_pandas([1, 2])
    [1, 2]
    """
    frame = _narwhals_frame(data)
    return data if frame is None else frame.to_pandas()


def to_native(frame: pd.DataFrame, like: Any) -> Any:
    """Convert a pandas frame to the library of the frame ``like``; returned unchanged if ``like`` is no such frame.

    >>> import pyarrow as pa
    >>> to_native(pd.DataFrame({"y": [1]}), pa.table({"x": [0]})).column_names
    ['y']
    """
    import narwhals as nw

    native = _narwhals_frame(like)
    if native is None:
        return frame
    table = nw.from_native(frame, eager_only=True).to_arrow()
    return nw.from_arrow(table, backend=native.implementation).to_native()


def records_of(frame: Any) -> list[dict[str, Any]]:
    """The rows of a frame of any library as dicts of plain Python values; ``to_dict`` of pandas is slow for few rows.

    >>> records_of(pd.DataFrame({"id": ["a", "b"], "steps": [1, 2]}))
    [{'id': 'a', 'steps': 1}, {'id': 'b', 'steps': 2}]
    """
    frame = as_pandas(frame)
    columns = [column.tolist() for _, column in frame.items()]
    return [dict(zip(frame.columns, row, strict=True)) for row in zip(*columns, strict=True)]


def _narwhals_frame(data: Any) -> Any | None:
    """The data as a narwhals frame, if it is a frame of another library than pandas."""
    import narwhals as nw

    if isinstance(data, (pd.DataFrame, pd.Series, Sequence, np.ndarray, os.PathLike)):
        return None
    frame = nw.from_native(data, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    return frame if isinstance(frame, nw.DataFrame) else None
