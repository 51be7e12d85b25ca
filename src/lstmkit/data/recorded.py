"""Sound files with labels: a folder, a zip, a table of paths, or sounds in Python."""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data import zips
from lstmkit.data.sound import ENDINGS, Sound, read_sound, sound_of
from lstmkit.data.table import Table, read_file
from lstmkit.errors import DataError, SettingError, listing, one_line

MOST_SECONDS = 60.0  #: Of a sound that is one example.
_TABLES = (".csv", ".tsv", ".jsonl")


class Naming(NamedTuple):
    """Where to find what.

    Attributes:
        path, label, id: Columns of a table: the path of a sound, from the table's folder on; its label; its name.
        pattern: Regular expression with one group, the label in a file's name; empty for its folder's name.
    """

    path: str = "path"
    label: str = "label"
    id: str = "id"
    pattern: str = ""


class Take(NamedTuple):
    """One sound that is not read yet.

    Attributes:
        id: What it is called.
        source: Its path, what its file holds, or the sound itself.
        label: As it was given; ``None`` where it is not known.
    """

    id: str
    source: Path | bytes | Sound
    label: Any

    def sound(self) -> Sound:
        """The whole of it.

        Raises:
            DataError: It cannot be read, or is too long for one example.
        """
        found = self.source if isinstance(self.source, Sound) else read_sound(self.source, name=self.id)
        if found.seconds > MOST_SECONDS:
            raise DataError(
                f"{found.name} lasts {found.seconds:,.0f} s, an example at most {MOST_SECONDS:.0f} s: cut it into "
                "commands; to find commands in it, predict with --listen 0.5"
            )
        return found


class Takes(NamedTuple):
    """Sounds that are not read yet.

    Attributes:
        name: What messages call them all.
        each: Goes through them.
        notes: What was done to find them.
    """

    name: str
    each: Callable[[], Iterator[Take]]
    notes: tuple[str, ...] = ()


def from_file(path: Path, naming: Naming) -> Takes:
    """A sound file; a folder of them, with its sub-folders; or a zip, by the one table that is in it, or by its names.

    Where there is no table, a label is the name of the folder that a file lies in, or the group of ``naming.pattern``
    in the file's own. Files that begin with a dot, or do not end as sounds do, are passed over.

    Raises:
        DataError: There is no such file, no sound in it, or its table does not do.
    """
    label = _labeller(naming.pattern)
    if path.is_dir():
        files = {file: PurePosixPath(file.relative_to(path).as_posix()) for file in path.rglob("*") if file.is_file()}
        notes = _passed_over(path.name, list(files.values()))
        inside = sorted((name, file) for file, name in files.items() if _is_sound(name))
        takes = [Take(str(name), file, label(name)) for name, file in inside]
        return Takes(path.name, lambda: iter(takes), notes)
    if path.suffix.lower() == ".zip":
        return _zipped(path, naming)
    one = Take(path.name, path, label(PurePosixPath(path.name)))
    return Takes(path.name, lambda: iter([one]))


def from_table(table: Table, naming: Naming, folder: Path) -> Takes:
    """The sounds that a table names, their paths from ``folder`` on.

    Raises:
        DataError: A row without a path.
    """
    takes = [Take(name, folder / path, label) for name, path, label in _rows(table, naming)]
    return Takes(table.name, lambda: iter(takes), tuple(table.notes))


def _rows(table: Table, naming: Naming) -> list[tuple[str, str, Any]]:
    """Name, path and label of each."""
    table.refuse(naming.path, table.missing(naming.path), "is no path to a sound file: give one, or leave the row out")
    paths = [str(cell).strip() for cell in table.column(naming.path)]
    names = [str(cell) for cell in table.column(naming.id)] if naming.id in table.frame else paths
    labels = table.column(naming.label).tolist() if naming.label in table.frame else [None] * len(paths)
    return list(zip(names, paths, labels, strict=True))


def from_objects(data: Any) -> Takes | None:
    """Sounds in Python: a :class:`Sound`; sounds or paths, or ``(those, labels)``; or ``(arrays, labels, rate)``.

    ``None`` where it is none of these: a string is a text, an array without a rate is numbers.
    """
    if isinstance(data, Sound):
        data = [data]
    rate, labels = 0, None
    if isinstance(data, tuple) and len(data) == 3 and _is_rate(data[2]):
        data, labels, rate = data
    elif isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], (str, os.PathLike, Sound)):
        data, labels = data
    if isinstance(data, str) or not isinstance(data, (Sequence, np.ndarray, pd.Series)):
        return None
    if not rate and not any(isinstance(one, (Sound, os.PathLike)) for one in data):
        return None
    of_each: Any = [None] * len(data) if labels is None else labels
    if len(of_each) != len(data):
        raise DataError(f"there are {len(data)} sounds and {len(of_each)} labels: give one of each")
    both = enumerate(zip(data, of_each, strict=True), 1)
    takes = [Take(str(i), _object(one, i, rate), label) for i, (one, label) in both]
    return Takes("the data", lambda: iter(takes))


def is_sound_file(path: Path) -> bool:
    """Whether a path is read as sounds: a folder, a zip, or a file that ends as sounds do."""
    return path.is_dir() or path.suffix.lower() in (*ENDINGS, ".zip")


def _object(one: Any, number: int, rate: int) -> Path | Sound:
    if isinstance(one, Sound):
        return one
    if isinstance(one, os.PathLike):
        return Path(one)
    if not rate or isinstance(one, str):
        raise DataError(f"input {number} is no sound: give paths, sounds, or (arrays, labels, samples a second)")
    return sound_of(one, rate, f"input {number}")


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_sound(file: PurePosixPath) -> bool:
    return file.suffix.lower() in ENDINGS and not zips.is_hidden(str(file))


def _labeller(pattern: str) -> Callable[[PurePosixPath], str | None]:
    """From where a file lies to its label."""
    if not pattern:
        return lambda file: file.parent.name or None
    try:
        found = re.compile(pattern)
    except re.error as err:
        raise SettingError(f"name_label={pattern!r} is no regular expression: {one_line(err)}") from err
    if found.groups != 1:
        raise SettingError(
            f"name_label={pattern!r} has {found.groups} groups: put ( ) around the label, and only there"
        )

    def label(file: PurePosixPath) -> str | None:
        match = found.search(file.name)
        return match[1] if match else None

    return label


def _passed_over(name: str, files: Sequence[PurePosixPath]) -> tuple[str, ...]:
    """A note of what is no sound; DataError where nothing is one."""
    others = sorted(str(file) for file in files if not _is_sound(file))
    if len(others) == len(files):
        raise DataError(f"{name} has no sound file ({', '.join(ENDINGS)}) among its {len(files)} files")
    return (f"{len(others)} files of {name} are no sounds and were passed over, as {others[0]}",) if others else ()


# ---- zips ----------------------------------------------------------------------------------------------------------


def _zipped(path: Path, naming: Naming) -> Takes:
    with zips.opened(path) as archive:
        files = sorted(PurePosixPath(one.filename) for one in archive.infolist() if not one.is_dir())
        tables = [file for file in files if file.suffix.lower() in _TABLES and not zips.is_hidden(str(file))]
        if len(tables) > 1:
            raise DataError(
                f"{path.name} has {len(tables)} tables ({listing(tables)}): unpack it, and give one of them"
            )
        if tables:
            table = _table(archive, tables[0], path.name)
            rows = [(name, str(tables[0].parent / inside), label) for name, inside, label in _rows(table, naming)]
            notes = tuple(table.notes)
        else:
            label = _labeller(naming.pattern)
            notes = _passed_over(path.name, files)
            rows = [(str(file), str(file), label(file)) for file in files if _is_sound(file)]

    def each() -> Iterator[Take]:
        with zips.opened(path) as archive:
            for name, inside, label in rows:
                yield Take(name, zips.content(archive, inside, path.name), label)

    return Takes(path.name, each, notes)


def _table(archive: zipfile.ZipFile, file: PurePosixPath, where: str) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        copy.write_bytes(zips.content(archive, str(file), where))
        return read_file(copy)
