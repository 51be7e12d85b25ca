"""Sessions for recommendation: sequences of item ids, from tables of events or lists."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data.item_catalog import item_id
from lstmkit.data.tables.native_frames import as_pandas
from lstmkit.data.tables.parsing import parse_numbers, read_ids
from lstmkit.data.tables.table import Table, read_file
from lstmkit.data.tables.timestamps import read_timestamps
from lstmkit.errors import DataError, listing

Items = tuple[str, ...]  #: Items of one session, in order of time.

_RECBOLE_TYPE = r":(token|float|token_seq|float_seq)$"  # suffix of column names in RecBole's atomic files


class Columns(NamedTuple):
    """Columns of a table of events.

    Attributes:
        session: Session or user id.
        item: Item id.
        time: Columns to sort by, the first one is the primary key; empty if rows are in order.
    """

    session: str = "session_id"
    item: str = "item_id"
    time: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sessions:
    """Sessions with their items.

    Attributes:
        names: Id of each session.
        items: Items of each session, at least one.
        n_context: ``(N,)`` number of context items at the start of each session; all later items are targets.
        start_times: ``(N,)`` start times, dates or numbers; ``None`` if unknown.
        name: Name of the data in messages.
        notes: What was done to read them.
    """

    names: tuple[str, ...]
    items: tuple[Items, ...]
    n_context: np.ndarray
    start_times: np.ndarray | None
    name: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> np.ndarray:
        """Number of items of each session, ``(N,)``."""
        return np.array([len(items) for items in self.items], dtype=np.int64)

    def subset(self, rows: np.ndarray) -> Sessions:
        """The sessions ``rows``."""
        names, items = (tuple(values[i] for i in rows) for values in (self.names, self.items))
        start_times = None if self.start_times is None else self.start_times[rows]
        return replace(self, names=names, items=items, n_context=self.n_context[rows], start_times=start_times)

    def truncate(self, lengths: np.ndarray) -> Sessions:
        """Truncate each session to its first ``lengths[i]`` items."""
        return replace(self, items=tuple(items[:n] for items, n in zip(self.items, lengths, strict=True)))

    def with_targets(self) -> Sessions:
        """Drop sessions with one item, which have no target."""
        return self.subset(np.flatnonzero(self.lengths > 1))

    def leave_one_out(self) -> Sessions:
        """Leave-one-out: the last item of each session is the only target."""
        return replace(self, n_context=self.lengths - 1)

    def sort_by_time(self) -> Sessions:
        """Sort sessions by start time, if known."""
        return self if self.start_times is None else self.subset(np.argsort(self.start_times, kind="stable"))

    def digest(self) -> str:
        """SHA-256 of the sessions."""
        digest = hashlib.sha256()
        for name, items in zip(self.names, self.items, strict=True):
            digest.update(repr((name, items)).encode("utf-8", "replace"))
        digest.update(b"" if self.start_times is None else self.start_times.tobytes())
        return digest.hexdigest()


def read_sessions(data: object, columns: Columns) -> Sessions:
    """Read sessions from a file or frame of events, a list of sessions, or a list of item ids (one session).

    Ids are text: 7 and "7" are the same item. Events of a session are sorted by time, ties in row order. Duplicate
    events with the same time are dropped. Column names may have RecBole's type suffix, as ``item_id:token``.

    Raises:
        DataError: The data cannot be read.

    >>> read_sessions([[3, 5], ["5"]], Columns()).items
    (('3', '5'), ('5',))
    """
    data = as_pandas(data)
    if isinstance(data, Sessions):
        return data
    if isinstance(data, (str, os.PathLike)):
        return _from_table(read_file(Path(data)), columns)
    if isinstance(data, pd.DataFrame):
        return _from_table(Table(data.set_axis(data.columns.map(str), axis=1), "the frame"), columns)
    return _from_list(data)


# ---- tables --------------------------------------------------------------------------------------------------------


def _from_table(table: Table, columns: Columns) -> Sessions:
    table.frame = table.frame.set_axis(table.frame.columns.str.replace(_RECBOLE_TYPE, "", regex=True), axis=1)
    if table.frame.empty:
        raise DataError(f"{table.name} has no rows")
    _check_columns(table, columns)
    session_index, names = read_ids(table, columns.session, "session id")
    item_index, ids = read_ids(table, columns.item, "item id")
    times = [_times(table, column) for column in columns.time]
    notes = list(table.notes)
    if times:
        events = pd.DataFrame(
            {"session": session_index, "item": item_index} | {f"time {k}": time for k, time in enumerate(times)}
        )
        duplicated = events.duplicated().to_numpy()
        if duplicated.any():
            notes.append(f"{int(duplicated.sum()):,} duplicate events were dropped")
        session_index, item_index = session_index[~duplicated], item_index[~duplicated]
        times = [time[~duplicated] for time in times]
    order = np.lexsort((*reversed(times), session_index))
    first_rows = np.flatnonzero(np.diff(session_index[order], prepend=-1))
    sorted_items = np.array(ids, dtype=object)[item_index[order]]
    items = tuple(tuple(session_items) for session_items in np.split(sorted_items, first_rows[1:]))
    start_times = times[0][order][first_rows] if times else None
    return Sessions(tuple(names), items, np.ones(len(items), np.int64), start_times, table.name, tuple(notes))


def _check_columns(table: Table, columns: Columns) -> None:
    used = {"session_col": (columns.session,), "item_col": (columns.item,), "time_cols": columns.time}
    for option, names in used.items():
        for name in names:
            if name not in table.frame:
                or_none = " (or time_cols='' if the rows are in order)" if option == "time_cols" else ""
                known = listing(table.frame.columns)
                raise DataError(f"no column {name!r} in {table.name} (columns: {known}): give {option}=NAME{or_none}")


def _times(table: Table, column: str) -> np.ndarray:
    """Times of events ``(N,)``: dates or numbers, which may have fractions."""
    table.raise_if_any(column, table.missing(column), "is not a time: every row needs one")
    numbers, bad = parse_numbers(table, column)
    if not bad.any() and np.isfinite(numbers).all() and (numbers != np.floor(numbers)).any():
        return numbers
    timestamps = read_timestamps(table, column)
    return (timestamps.tz_convert(None) if getattr(timestamps, "tz", None) is not None else timestamps).to_numpy()


# ---- lists ---------------------------------------------------------------------------------------------------------


def _from_list(data: Any) -> Sessions:
    if isinstance(data, (np.ndarray, pd.Series)):
        data = data.tolist()
    if not isinstance(data, Sequence):
        raise DataError(f"give a path, a frame, or a list of sessions, not {type(data).__name__}")
    if not data:
        raise DataError("the list is empty: give at least one session")
    sessions = [data] if all(isinstance(entry, (str, Integral)) for entry in data) else data
    items = tuple(_ids(entry, number) for number, entry in enumerate(sessions, 1))
    names = tuple(str(i) for i in range(1, len(items) + 1))
    return Sessions(names, items, np.ones(len(items), np.int64), None, "the list")


def _ids(session: Any, number: int) -> Items:
    items = session.tolist() if isinstance(session, (np.ndarray, pd.Series)) else session
    if isinstance(items, str) or not isinstance(items, Sequence):
        raise DataError(f"session {number} is {items!r}: give a list of item ids")
    if not items:
        raise DataError(f"session {number} has no items: remove it")
    return tuple(item_id(item, f"session {number}") for item in items)


# ---- windows -------------------------------------------------------------------------------------------------------


def training_windows(ids: np.ndarray, n_context: int, max_targets: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Training windows of a session: inputs and targets ``(T,)``; the target of a step is the next item.

    The first window starts at the first item, each later one at the item before its first target.

    Args:
        ids: Item ids ``(T,)``.
        n_context: Number of context items at the start, at least 1; as targets they are -1.
        max_targets: Maximum targets per window.

    >>> [(inputs.tolist(), targets.tolist()) for inputs, targets in training_windows(np.array([5, 6, 7, 8]), 1, 2)]
    [([5, 6], [6, 7]), ([7], [8])]
    """
    for start in range(n_context, len(ids), max_targets):
        begin, end = (0 if start == n_context else start - 1), min(start + max_targets, len(ids))
        targets = ids[begin + 1 : end].copy()
        targets[: start - begin - 1] = -1
        yield ids[begin : end - 1], targets
