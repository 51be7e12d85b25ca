"""Rows of a table by entity, from columns: what the jobs on rows read from a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmkit.data.padding import pad_sequences
from lstmkit.data.tables.row_encoding import RowEncoding, category_text, elapsed_times
from lstmkit.data.tables.unix_times import UNIX_UNITS, unix_unit
from lstmkit.errors import DataError
from lstmkit.runtime.base import batches_by_length
from lstmkit.runtime.columns import Columns, date_text, offset_minutes
from lstmkit.runtime.graph import Graph

_CHUNK_STEPS = 4096  # that run at once


@dataclass(frozen=True)
class Rows:
    """Encoded rows by entity, each in order of time.

    Attributes:
        features: ``(R, F)`` float32.
        starts: ``(E + 1,)`` first row of each entity, and ``R``.
        rows: ``(R,)`` position of each row in the data.
        ids: Of each row in the data its entity.
        times: Of each row in the data its time, as the job writes it; ``None`` without times.
    """

    features: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    ids: list[str]
    times: list[Any] | None


def read_rows(data: Any, encoding: RowEncoding, id_col: str, time_col: str) -> Rows:
    """Read and encode rows.

    Args:
        data: A mapping of column names to lists.
        encoding: Of the rows.
        id_col: Column of the entity; without it all rows are one sequence.
        time_col: Column of times; without it rows are in order.

    Raises:
        DataError: The data cannot be read, or lack times that the model reads.
    """
    columns = Columns(data, "the frame")
    for name, default in ((id_col, "id"), (time_col, "time")):
        if name not in ("", default):
            columns.values(name)  # which must be there
    ids = columns.ids(id_col) if id_col in columns else ["the frame"] * columns.rows
    codes = {name: k for k, name in enumerate(dict.fromkeys(ids))}
    entities = np.array([codes[name] for name in ids])
    seconds, clock, times = _times(columns, time_col) if time_col in columns else (None, None, None)
    reads_time = encoding.elapsed is not None or bool(encoding.periods)
    if reads_time and seconds is None:
        raise DataError("the frame has no times, which the model reads: give the column of times")
    if encoding.periods and clock is None:
        raise DataError("the times of the frame are numbers, the model was fitted to dates: give dates")
    order = np.argsort(entities, kind="stable") if seconds is None else np.lexsort((seconds, entities))
    starts = np.concatenate([[0], np.cumsum(np.bincount(entities))])
    numbers = _stacked([columns.numbers(name) for name in encoding.number_names], columns.rows, np.float64)
    categories = _stacked([_categories(columns, name) for name in encoding.category_names], columns.rows, object)
    elapsed = None if seconds is None else elapsed_times(seconds[order], starts)
    features = encoding.encode(numbers[order], categories[order], elapsed, None if clock is None else clock[order])
    return Rows(features, starts, order, ids, times)


def row_outputs(network: Graph, rows: Rows, *, whole: bool = False) -> np.ndarray:
    """Outputs of a graph for each row, in the order of :attr:`Rows.features`: ``(R, K)``.

    Args:
        network: A graph of steps with a state; with ``whole`` one of whole sequences and their lengths.
        rows: Encoded rows.
        whole: Whether sequences run as wholes; else in chunks, with the state carried on.
    """
    sequences = np.split(rows.features, rows.starts[1:-1])
    outputs: list[np.ndarray] = [np.empty(0)] * len(sequences)
    for entities, lengths in batches_by_length(sequences):
        inputs = pad_sequences([sequences[k] for k in entities], 0.0)
        found = network(inputs=inputs, lengths=lengths)[0] if whole else _in_chunks(network, inputs)
        for entity, of_entity, length in zip(entities.tolist(), found, lengths, strict=True):
            outputs[entity] = of_entity[:length]
    return np.concatenate(outputs)


def _in_chunks(network: Graph, inputs: np.ndarray) -> np.ndarray:
    """Features ``(B, T, F)`` to outputs ``(B, T, K)``; padding after a sequence does not change its outputs."""
    chunks, states = [], network.zero_states(rows=len(inputs))
    for start in range(0, inputs.shape[1], _CHUNK_STEPS):
        (chunk,), states = network.step(states, inputs=inputs[:, start : start + _CHUNK_STEPS])
        chunks.append(chunk)
    return np.concatenate(chunks, axis=1)


def _categories(columns: Columns, name: str) -> np.ndarray:
    texts = np.empty(columns.rows, dtype=object)
    texts[:] = [category_text(value) for value in columns.values(name)]
    return texts


def _stacked(values: Sequence[np.ndarray], count: int, dtype: Any) -> np.ndarray:
    return np.stack(values, axis=1).astype(dtype) if values else np.empty((count, 0), dtype=dtype)


def _times(columns: Columns, key: str) -> tuple[np.ndarray, np.ndarray | None, list[Any]]:
    """Seconds ``(N,)``, seconds by the clock on the wall (``None`` if the times are numbers), and times to show."""
    first = columns.values(key)[0]
    if not isinstance(first, (int, float, np.integer, np.floating)):
        dates, offset = columns.dates(key)
        clock = dates.astype(np.int64) / 1e9
        shift = 60.0 * offset_minutes(offset) if offset else 0.0
        return clock - shift, clock, [date_text(date, offset) for date in dates]
    numbers = columns.numbers(key)
    if np.isnan(numbers).any():
        raise columns.error(key, int(np.isnan(numbers).argmax()), "is not a time: every row needs one")
    unit = unix_unit(numbers)
    if unit is None:
        whole = bool((numbers == np.floor(numbers)).all())
        return numbers, None, [int(number) for number in numbers] if whole else numbers.tolist()
    seconds = numbers / UNIX_UNITS[unit]
    dates = np.round(seconds * 1e6).astype(np.int64).astype("datetime64[us]").astype("datetime64[ns]")
    return seconds, seconds, [date_text(date) for date in dates]
