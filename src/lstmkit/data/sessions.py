"""Sessions: which items somebody chose, one after the other; from tables of events, or lists."""

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

from lstmkit.data.series.long_format import read_ids
from lstmkit.data.tables.parsing import has_decimal_commas, parse_numbers, read_timestamps
from lstmkit.data.tables.table import Table, read_file
from lstmkit.errors import DataError, listing

Items = tuple[str, ...]  #: Of one session, in order of time.

_RECBOLE_TYPE = r":(token|float|token_seq|float_seq)$"  # what RecBole's atomic files have after a column's name


class Columns(NamedTuple):
    """Which column is what.

    Attributes:
        session: Whose the event is: a session, a user.
        item: What was chosen.
        time: What puts events in order, the first column counting most; none where the rows are in order.
    """

    session: str = "session_id"
    item: str = "item_id"
    time: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sessions:
    """Sessions, and what is asked of them.

    Attributes:
        names: Of each.
        items: Of each, at least one.
        given: ``(N,)`` how many items at the beginning of each are only read; every one after them is asked for.
        begins: ``(N,)`` when each began, dates or numbers; ``None`` where it is not known.
        name: What messages call them all.
        notes: What was done to read them.
    """

    names: tuple[str, ...]
    items: tuple[Items, ...]
    given: np.ndarray
    begins: np.ndarray | None
    name: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> np.ndarray:
        """``(N,)`` items of each."""
        return np.array([len(one) for one in self.items], dtype=np.int64)

    def part(self, rows: np.ndarray) -> Sessions:
        """The sessions ``rows``."""
        names, items = (tuple(of[i] for i in rows) for of in (self.names, self.items))
        begins = None if self.begins is None else self.begins[rows]
        return replace(self, names=names, items=items, given=self.given[rows], begins=begins)

    def shorter(self, lengths: np.ndarray) -> Sessions:
        """The first so many items of each."""
        return replace(self, items=tuple(one[:n] for one, n in zip(self.items, lengths, strict=True)))

    def followed(self) -> Sessions:
        """Those in which something follows: sessions of one item teach nothing and ask nothing."""
        return self.part(np.flatnonzero(self.lengths > 1))

    def leave_one_out(self) -> Sessions:
        """The same, asked for the last item of each alone."""
        return replace(self, given=self.lengths - 1)

    def in_order(self) -> Sessions:
        """By when they began, where that is known."""
        return self if self.begins is None else self.part(np.argsort(self.begins, kind="stable"))

    def digest(self) -> str:
        """A fingerprint of all of it."""
        found = hashlib.sha256()
        for name, items in zip(self.names, self.items, strict=True):
            found.update(repr((name, items)).encode("utf-8", "replace"))
        found.update(b"" if self.begins is None else self.begins.tobytes())
        return found.hexdigest()


def read_sessions(data: object, columns: Columns) -> Sessions:
    """A file or frame of events; or a list of sessions, each its items' ids; or the ids of one session.

    Ids are text, a number is written out: 7 and "7" are one item. Events of one session are put in order of time, of
    one time in the order of the rows. An event that stands there twice, at the same time, is read once. Columns may
    be called as in RecBole's atomic files, ``item_id:token``.

    Raises:
        DataError: What cannot be read, with place and remedy.

    >>> read_sessions([[3, 5], ["5"]], Columns()).items
    (('3', '5'), ('5',))
    """
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
    code, names = read_ids(table, columns.session, "session")
    item, ids = read_ids(table, columns.item, "item")
    table.decimal_comma = table.decimal_comma and has_decimal_commas(table, columns.time)
    times = [_times(table, column) for column in columns.time]
    notes = list(table.notes)
    if times:
        events = pd.DataFrame({"code": code, "item": item} | {f"time {k}": time for k, time in enumerate(times)})
        twice = events.duplicated().to_numpy()
        if twice.any():
            notes.append(f"{int(twice.sum()):,} events that stood there twice were read once")
        code, item, times = code[~twice], item[~twice], [time[~twice] for time in times]
    order = np.lexsort((*reversed(times), code))
    firsts = np.flatnonzero(np.diff(code[order], prepend=-1))
    raw = np.array(ids, dtype=object)[item[order]]
    items = tuple(tuple(part) for part in np.split(raw, firsts[1:]))
    begins = times[0][order][firsts] if times else None
    return Sessions(tuple(names), items, np.ones(len(items), np.int64), begins, table.name, tuple(notes))


def _check_columns(table: Table, columns: Columns) -> None:
    used = {"--session-col": (columns.session,), "--item-col": (columns.item,), "--time-col": columns.time}
    for option, names in used.items():
        for name in names:
            if name not in table.frame:
                or_none = ' (or --time-col "" where the rows are in order)' if option == "--time-col" else ""
                known = listing(table.frame.columns)
                raise DataError(f"no column {name!r} in {table.name} (columns: {known}): give {option} NAME{or_none}")


def _times(table: Table, column: str) -> np.ndarray:
    """``(N,)`` dates or numbers, which may have fractions: seconds since 1970 often do."""
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
        raise DataError("the list is empty")
    sessions = [data] if all(isinstance(one, (str, Integral)) for one in data) else data
    items = tuple(_ids(one, number) for number, one in enumerate(sessions, 1))
    names = tuple(str(i) for i in range(1, len(items) + 1))
    return Sessions(names, items, np.ones(len(items), np.int64), None, "the list")


def _ids(session: Any, number: int) -> Items:
    found = session.tolist() if isinstance(session, (np.ndarray, pd.Series)) else session
    if isinstance(found, str) or not isinstance(found, Sequence):
        raise DataError(f"session {number} is {found!r}: give a list of item ids")
    if not found:
        raise DataError(f"session {number} has no items")
    return tuple(item_id(one, f"session {number}") for one in found)


def item_id(item: object, where: str) -> str:
    """The id as text.

    Raises:
        DataError: It is neither text nor a whole number.
    """
    if isinstance(item, str) and item.strip():
        return item
    if isinstance(item, Integral) and not isinstance(item, bool):
        return str(int(item))
    raise DataError(f"{where}: {item!r} is no item id: ids are text or whole numbers")


# ---- in numbers ----------------------------------------------------------------------------------------------------


def windows(ids: np.ndarray, given: int, longest: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A session as what a network is trained on: inputs and targets ``(T,)``, the next item at each step.

    At most ``longest`` targets stand in one window. The first begins at the session's beginning, each further one at
    the item before its first target.

    Args:
        ids: ``(T,)`` items by number.
        given: How many at the beginning are no targets (-1), at least 1.
        longest: Targets of a window.

    >>> [(inputs.tolist(), targets.tolist()) for inputs, targets in windows(np.array([5, 6, 7, 8]), 1, 2)]
    [([5, 6], [6, 7]), ([7], [8])]
    """
    for start in range(given, len(ids), longest):
        begin, end = (0 if start == given else start - 1), min(start + longest, len(ids))
        targets = ids[begin + 1 : end].copy()
        targets[: start - begin - 1] = -1
        yield ids[begin : end - 1], targets
