"""Data frames of other libraries (Polars, Arrow, Modin, …): read as pandas, returned in the kind that was given."""

from __future__ import annotations

from typing import Any

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


def as_given(answer: pd.DataFrame, data: Any) -> Any:
    """A pandas frame in the kind of ``data``: Polars for Polars, Arrow for Arrow; else the pandas frame itself.

    >>> import pyarrow as pa
    >>> as_given(pd.DataFrame({"y": [1]}), pa.table({"x": [0]})).column_names
    ['y']
    """
    import narwhals as nw

    frame = _narwhals_frame(data)
    if frame is None:
        return answer
    table = nw.from_native(answer, eager_only=True).to_arrow()
    return nw.from_arrow(table, backend=frame.implementation).to_native()


def _narwhals_frame(data: Any) -> Any | None:
    """The data as a narwhals frame, if it is a frame of another library than pandas."""
    import narwhals as nw

    if isinstance(data, (pd.DataFrame, pd.Series)):
        return None
    frame = nw.from_native(data, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    return frame if isinstance(frame, nw.DataFrame) else None
