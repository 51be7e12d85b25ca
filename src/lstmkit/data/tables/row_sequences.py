"""Tables whose rows are sequences: the rows of each entity (a card, a machine, a person) in the order of time.

All rows are in flat arrays, sorted by entity and time; ``starts`` says where each entity begins.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data.statistics import is_missing
from lstmkit.data.tables.column_kinds import NotASignal, described, non_signals
from lstmkit.data.tables.native_frames import as_pandas
from lstmkit.data.tables.parsing import parse_numbers, read_covariate, read_ids, read_numbers
from lstmkit.data.tables.row_encoding import category_text
from lstmkit.data.tables.table import Table, read_file
from lstmkit.data.tables.timestamps import dates_of_numbers, read_timestamps
from lstmkit.errors import DataError, format_timestamp, listing

MAX_VALUE = 1e150  #: Largest number of a column: the square of a larger one is not finite.
_MIN_ROWS_OF_IDS = 20  # rows in which ids increase; fewer numbers may be a signal by chance
_ROW_ID = NotASignal("row number", "increases in every row, as the id of a row does")
_DEFAULT_NAMES = {"id": "id", "time": "time"}  # of columns that a table may lack


class RowColumns(NamedTuple):
    """Column roles of a table of rows.

    Attributes:
        id: Id of the entity. If there is no column of the default name, the table is one sequence.
        time: Timestamps, dates or numbers. If there is no column of the default name, rows are in order.
        targets: Columns to predict; empty for none.
        labels: Whether targets are labels, which are texts, instead of numbers.
        numeric: Columns of numbers to read.
        categorical: Columns of categories to read, also if they are written as numbers.
        recognize: Whether all columns without another role are read, too, except times, row numbers and ids.
        static: Those columns that have one value per entity.
        ignored: Columns to leave out.
    """

    id: str = "id"
    time: str = "time"
    targets: tuple[str, ...] = ()
    labels: bool = False
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    recognize: bool = True
    static: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class RowSequences:
    """Rows of a table by entity, each in order of time. ``R`` rows, ``E`` entities.

    Attributes:
        names: ``E`` ids of the entities.
        starts: ``(E + 1,)`` first row of each entity, and ``R``.
        numbers: ``(R, N)`` float64, NaN where missing.
        categories: ``(R, C)`` texts, ``None`` where missing.
        targets: ``(R, K)`` float64 with NaN, or texts with ``None``, where a row has no target; ``None`` without
            target columns.
        seconds: ``(R,)`` float64 times to measure time between rows: seconds since 1970, or the numbers of the time
            column; ``None`` without one.
        times: ``(R,)`` pandas index of timestamps as they are in the table; ``None`` without a time column.
        rows: ``(R,)`` position of each row in the table.
        number_names: ``N`` columns.
        category_names: ``C`` columns.
        target_names: ``K`` columns.
        static_names: Columns with one value per entity.
        name: Name of the data in messages.
        notes: What was done to read them.
    """

    names: tuple[str, ...]
    starts: np.ndarray
    numbers: np.ndarray
    categories: np.ndarray
    targets: np.ndarray | None
    seconds: np.ndarray | None
    times: Any
    rows: np.ndarray
    number_names: tuple[str, ...]
    category_names: tuple[str, ...]
    target_names: tuple[str, ...]
    static_names: frozenset[str]
    name: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of entities."""
        return len(self.names)

    @property
    def num_rows(self) -> int:
        """``R``."""
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        """``(E,)`` rows of each entity."""
        return np.diff(self.starts)

    @property
    def entities(self) -> np.ndarray:
        """``(R,)`` index of each row's entity."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Columns that are read: those of numbers, then those of categories."""
        return (*self.number_names, *self.category_names)

    @property
    def clock_seconds(self) -> np.ndarray | None:
        """``(R,)`` seconds since 1970 as a clock on the wall shows them; ``None`` if the times are not dates."""
        return wall_clock_seconds(self.times)

    def require_targets(self) -> np.ndarray:
        """The targets ``(R, K)``.

        Raises:
            DataError: The table has no target column.
        """
        if self.targets is None:
            raise DataError(f"{self.name} has no target column: give one")
        return self.targets

    @property
    def has_target(self) -> np.ndarray:
        """``(R,)`` bool: rows with a target, of several with at least one. Raises DataError without target columns."""
        return np.asarray(~is_missing(self.require_targets()).all(axis=1))

    def select(self, kept: np.ndarray) -> RowSequences:
        """The rows where ``kept (R,)`` is True; entities without one are dropped."""
        counts = np.bincount(self.entities[kept], minlength=len(self))
        present = np.flatnonzero(counts)
        return replace(
            self,
            names=tuple(self.names[i] for i in present),
            starts=np.concatenate([[0], np.cumsum(counts[present])]),
            numbers=self.numbers[kept],
            categories=self.categories[kept],
            targets=None if self.targets is None else self.targets[kept],
            seconds=None if self.seconds is None else self.seconds[kept],
            times=None if self.times is None else self.times[kept],
            rows=self.rows[kept],
        )

    def subset(self, entities: Sequence[int] | np.ndarray) -> RowSequences:
        """The rows of some entities, which keep their order."""
        wanted = np.zeros(len(self), dtype=bool)
        wanted[np.asarray(entities, dtype=np.int64)] = True
        return self.select(wanted[self.entities])

    def with_targets_at(self, known: np.ndarray) -> RowSequences:
        """The same rows, of which only those where ``known (R,)`` is True have targets; the others are context."""
        targets = self.require_targets().copy()
        targets[~known] = None if targets.dtype == object else np.nan
        return replace(self, targets=targets)

    def digest(self) -> str:
        """SHA-256 of names, values and targets."""
        digest = hashlib.sha256(repr((self.column_names, self.target_names)).encode())
        digest.update("\0".join(self.names).encode("utf-8", "replace"))
        numbers = [self.starts, self.numbers, *([] if self.seconds is None else [self.seconds])]
        texts = [self.categories]
        if self.targets is not None:
            (texts if self.targets.dtype == object else numbers).append(self.targets)
        for values in numbers:
            digest.update(np.ascontiguousarray(values).tobytes())
        for values in texts:
            digest.update(repr(values.ravel().tolist()).encode("utf-8", "replace"))
        return digest.hexdigest()


def wall_clock_seconds(times: Any) -> np.ndarray | None:
    """Seconds since 1970 ``(N,)`` of dates in their own time zone; ``None`` if the times are not dates."""
    if not isinstance(times, pd.DatetimeIndex):
        return None
    return times.tz_localize(None).as_unit("ns").asi8 / 1e9


def read_row_sequences(data: object, columns: RowColumns) -> RowSequences:
    """Read the rows of a file or frame by entity.

    Rows of an entity are sorted by time; rows with the same time keep their order. A row without a target is context.

    Raises:
        DataError: The data cannot be read, a column is missing or has two roles, a number is text or infinite, or a
            static column changes within an entity.

    >>> frame = pd.DataFrame({"card": ["a", "b", "a"], "time": [2, 1, 1], "amount": [5.0, 1.0, 3.0]})
    >>> rows = read_row_sequences(frame, RowColumns(id="card"))
    >>> rows.names, rows.starts.tolist(), rows.numbers.ravel().tolist(), rows.rows.tolist()
    (('a', 'b'), [0, 2, 3], [3.0, 5.0, 1.0], [2, 0, 1])
    """
    data = as_pandas(data)
    if isinstance(data, RowSequences):
        return data
    if isinstance(data, (str, os.PathLike)):
        return _from_table(read_file(Path(data)), columns)
    if isinstance(data, pd.DataFrame):
        return _from_table(Table(data.set_axis(data.columns.map(str), axis=1), "the frame"), columns)
    raise DataError(f"cannot read rows from {type(data).__name__}: give a path or a data frame")


def _from_table(table: Table, columns: RowColumns) -> RowSequences:
    frame = table.frame
    if frame.empty:
        raise DataError(f"{table.name} has no rows")
    id_col, time_col = (_present(table, role, getattr(columns, role)) for role in ("id", "time"))
    targets = tuple(name for name in columns.targets if name in frame)
    _check_roles(table, columns, (id_col, time_col, *targets))
    codes, names = read_ids(table, id_col) if id_col else (np.zeros(len(frame), np.int64), [table.name])
    times, seconds = _read_times(table, time_col) if time_col else (None, None)
    order = np.argsort(codes, kind="stable") if seconds is None else np.lexsort((seconds, codes))
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(names)))])
    numeric, categorical = columns.numeric, columns.categorical
    if columns.recognize:
        others = (id_col, time_col, *targets, *numeric, *categorical)
        further = _recognized(table, columns, others, np.split(order, starts[1:-1]))
        numeric, categorical = (*numeric, *further[0]), (*categorical, *further[1])
    numbers = _stacked([_read_numeric(table, name) for name in numeric], len(frame), np.float64)
    categories = _stacked([_read_categories(table, name) for name in categorical], len(frame), object)
    read_target = _read_categories if columns.labels else _read_numeric
    sequences = RowSequences(
        tuple(names),
        starts,
        numbers[order],
        categories[order],
        np.stack([read_target(table, name) for name in targets], axis=1)[order] if targets else None,
        None if seconds is None else seconds[order],
        None if times is None else times[order],
        order,
        numeric,
        categorical,
        targets,
        frozenset(columns.static),
        table.name,
    )
    if seconds is not None:
        _note_times(table, sequences, codes, seconds, bool(id_col))
    _check_static(sequences)
    return replace(sequences, notes=tuple(table.notes))


def _present(table: Table, role: str, name: str) -> str:
    """The column of a role; empty if the table lacks one of the default name.

    Raises:
        DataError: The table lacks a column of another name.
    """
    if name in table.frame:
        return name
    if name not in ("", _DEFAULT_NAMES[role]):
        raise DataError(f"{table.absence(name)}: correct --{role}-col")
    return ""


def _check_roles(table: Table, columns: RowColumns, others: Sequence[str]) -> None:
    used = [*columns.numeric, *columns.categorical]
    for name in (*used, *columns.static, *columns.ignored):
        if name not in table.frame:
            raise DataError(table.absence(name))
    with_role = [name for name in (*others, *used) if name]
    for name in with_role:
        if with_role.count(name) > 1:
            raise DataError(
                f"{table.name}: column {name!r} has two roles: give it one role (id, time, target or input)"
            )
    for name in columns.static:
        if name in others or name in columns.ignored:
            raise DataError(f"{table.name}: column {name!r} cannot be static: it has another role")


def _read_times(table: Table, column: str) -> tuple[Any, np.ndarray]:
    """Times ``(N,)`` as they are in the table, as a pandas index, and in seconds.

    Numbers that are not dates stay numbers, with fractions.
    """
    table.raise_if_any(column, table.missing(column), "is not a timestamp: every row needs one")
    numbers, bad = parse_numbers(table, column)
    if not bad.any() and dates_of_numbers(numbers)[0] is None:
        table.raise_if_any(column, ~np.isfinite(numbers), "is not a finite time: correct it")
        whole = (numbers == np.floor(numbers)).all() and np.abs(numbers).max() < 2**53
        return pd.Index(numbers.astype(np.int64) if whole else numbers), numbers
    times = read_timestamps(table, column)
    if not isinstance(times, pd.DatetimeIndex):
        return times, times.to_numpy(dtype=np.float64)
    return times, times.as_unit("ns").asi8 / 1e9


def _note_times(table: Table, sequences: RowSequences, codes: np.ndarray, seconds: np.ndarray, has_ids: bool) -> None:
    """Notes on rows that were out of order, and on rows with the same time."""
    assert sequences.seconds is not None
    same_entity = sequences.entities[1:] == sequences.entities[:-1]
    table_order = np.argsort(codes, kind="stable")
    backward = np.diff(seconds[table_order])[same_entity] < 0
    if backward.any():
        table.notes.append(
            f"{int(backward.sum()):,} rows are earlier than the row before them: rows were sorted by time"
        )
    repeated = np.flatnonzero(same_entity & (np.diff(sequences.seconds) == 0)) + 1
    if len(repeated):
        hint = "" if has_ids else "; if the table has several sequences, give id_col=NAME"
        table.notes.append(
            f"{len(repeated):,} rows have the time of another row of their sequence, such as "
            f"{format_timestamp(sequences.times[repeated[0]])}: they keep the order of the table{hint}"
        )


def _recognized(
    table: Table, columns: RowColumns, others: Sequence[str], groups: Sequence[np.ndarray]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns of numbers and of categories among those without a role, with notes on those that are left out."""
    counts = table.frame.columns.value_counts()
    taken = {*others, *columns.targets, *columns.ignored}
    names = [name for name in table.frame if name not in taken and counts[name] == 1]
    _parse_once(table, names)
    left_out: dict[str, NotASignal] = non_signals(table, names, groups)
    left_out |= {name: _ROW_ID for name in names if name not in left_out and _increases(table, name)}
    for name, (_, reason) in left_out.items():
        table.notes.append(f"{described(name)} {reason}: not used as an input (to use it, name it)")
    names = [name for name in names if name not in left_out]
    empty = [name for name in names if table.missing(name).all()]
    if empty:
        table.notes.append(f"columns without a value, not used: {listing(empty)}")
    names = [name for name in names if name not in empty]
    numeric = tuple(name for name in names if read_covariate(table, name).dtype != object)
    texts = [name for name in names if name not in numeric]
    unique = [name for name in texts if _is_mostly_unique(table, name)]
    if unique:
        table.notes.append(f"columns of texts that hardly repeat, as ids do, not used: {listing(unique)}")
    return numeric, tuple(name for name in texts if name not in unique)


def _parse_once(table: Table, names: Sequence[str]) -> None:
    """Replace columns that hold only numbers by their values: a cell is parsed once, which takes most of the time."""
    parsed = {name: parse_numbers(table, name) for name in names}
    table.frame = table.frame.assign(**{name: values for name, (values, bad) in parsed.items() if not bad.any()})


def _increases(table: Table, name: str) -> bool:
    """Whether whole numbers increase in every row of a table of at least 20 rows."""
    numbers, bad = parse_numbers(table, name)
    if bad.any() or len(numbers) < _MIN_ROWS_OF_IDS or (numbers != np.floor(numbers)).any():
        return False
    return bool((np.diff(numbers) > 0).all())


def _is_mostly_unique(table: Table, name: str) -> bool:
    """Whether more than half of at least 20 texts are different ones."""
    texts = table.column(name)[~table.missing(name)]
    return len(texts) >= _MIN_ROWS_OF_IDS and 2 * texts.nunique() > len(texts)


def _read_numeric(table: Table, name: str) -> np.ndarray:
    """Numbers ``(N,)``; the texts ``true`` and ``false`` are 1 and 0."""
    values = read_covariate(table, name)
    numbers = read_numbers(table, name) if values.dtype == object else values  # which says what is not a number
    table.raise_if_any(name, np.isinf(numbers), "is infinite: leave the cell empty if the value is missing")
    problem = f"is above {MAX_VALUE:g}: leave the cell empty if the value is missing"
    table.raise_if_any(name, np.abs(numbers) > MAX_VALUE, problem)
    return numbers


def _read_categories(table: Table, name: str) -> np.ndarray:
    """Texts ``(N,)``, ``None`` where missing; 1 and 1.0 are the text ``1``."""
    column = table.column(name)
    codes, unique = pd.factorize(column.astype(object).mask(table.missing(name), None))
    return np.array([*map(category_text, unique), None], dtype=object)[codes]  # the code of a missing value is -1


def _stacked(values: Sequence[np.ndarray], count: int, dtype: Any) -> np.ndarray:
    return np.stack(values, axis=1).astype(dtype) if values else np.empty((count, 0), dtype=dtype)


def _check_static(sequences: RowSequences) -> None:
    """Raise DataError if a static column has two values in an entity."""
    same_entity = sequences.entities[1:] == sequences.entities[:-1]
    for names, values in (
        (sequences.number_names, sequences.numbers),
        (sequences.category_names, sequences.categories),
    ):
        for name, column in zip(names, values.T, strict=True):
            if name in sequences.static_names:
                before, after = column[:-1], column[1:]
                differ = (before != after) & ~((before != before) & (after != after))  # NaN is the same as NaN
                if (differ & same_entity).any():
                    entity = sequences.names[sequences.entities[int((differ & same_entity).argmax())]]
                    raise DataError(
                        f"{sequences.name}: column {name!r} changes within {entity!r}: a static column has one value "
                        "per entity"
                    )
