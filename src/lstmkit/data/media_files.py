"""Recordings with labels, sounds, clips or pictures: a folder, a zip, a table of paths, or recordings in Python."""

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

from lstmkit.data import zip_archive as zips
from lstmkit.data.audio.audio_io import FILE_SUFFIXES, AudioClip, audio_from_array, read_audio
from lstmkit.data.tables.table import Table, read_file
from lstmkit.data.vision.image_io import FILE_SUFFIXES as IMAGE_SUFFIXES
from lstmkit.data.vision.image_io import read_image
from lstmkit.data.vision.video_io import FILE_SUFFIXES as VIDEO_SUFFIXES
from lstmkit.data.vision.video_io import ClipFormat, VideoClip, read_video
from lstmkit.errors import DataError, SettingError, listing, one_line

MAX_SECONDS = 60.0  #: Of a recording that is one example.
_TABLES = (".csv", ".tsv", ".jsonl")

Recording = AudioClip | VideoClip | np.ndarray


class Kind(NamedTuple):
    """A kind of recording.

    Attributes:
        noun: What messages call one.
        endings: Of its files' names.
        read: What a file holds, and what messages call it, to the whole of it.
        remedy: What to do with one that is too long.
    """

    noun: str
    endings: tuple[str, ...]
    read: Callable[[Path | bytes, str], Recording]
    remedy: str

    def has(self, file: PurePosixPath) -> bool:
        """Whether a file is one, by its name."""
        return file.suffix.lower() in self.endings and not zips.is_hidden_file(str(file))


SOUND = Kind(
    "sound",
    FILE_SUFFIXES,
    lambda source, name: read_audio(source, name=name),
    "cut it into commands; to find commands in it, predict with --listen 0.5",
)


def video(shape: ClipFormat) -> Kind:
    """Clips, their frames brought to a shape."""
    return Kind("video", VIDEO_SUFFIXES, lambda source, name: read_video(source, shape, name), "cut it into clips")


def picture(shape: ClipFormat) -> Kind:
    """Pictures, brought to a shape: ``(H, W, C)`` uint8."""

    def read(source: Path | bytes, name: str) -> np.ndarray:
        return read_image(source, shape.height, shape.width, shape.colour, name)

    return Kind("picture", IMAGE_SUFFIXES, read, "")


class MediaColumns(NamedTuple):
    """Where to find what.

    Attributes:
        path, label, id: Columns of a table: the path of a file, from the table's folder on; its label; its name.
        pattern: Regular expression with one group, the label in a file's name; empty for its folder's name.
    """

    path: str = "path"
    label: str = "label"
    id: str = "id"
    pattern: str = ""


class MediaItem(NamedTuple):
    """One recording that is not read yet.

    Attributes:
        id: What it is called.
        source: Its path, what its file holds, or the recording itself.
        label: As it was given; ``None`` where it is not known.
        kind: Of recording.
    """

    id: str
    source: Path | bytes | Recording
    label: Any
    kind: Kind = SOUND

    def read(self) -> Recording:
        """The whole of it.

        Raises:
            DataError: It cannot be read, or is too long for one example.
        """
        source = self.source
        found = self.kind.read(source, self.id) if isinstance(source, (Path, bytes)) else source
        if isinstance(found, (AudioClip, VideoClip)) and found.seconds > MAX_SECONDS:
            raise DataError(
                f"{found.name} lasts {found.seconds:,.0f} s, an example at most {MAX_SECONDS:.0f} s: {self.kind.remedy}"
            )
        return found


class Takes(NamedTuple):
    """Recordings that are not read yet.

    Attributes:
        name: What messages call them all.
        each: Goes through them.
        notes: What was done to find them.
    """

    name: str
    each: Callable[[], Iterator[MediaItem]]
    notes: tuple[str, ...] = ()


def from_file(path: Path, naming: MediaColumns, kinds: Sequence[Kind] = (SOUND,)) -> Takes:
    """A recording; a folder of them, with its sub-folders; or a zip, by the one table that is in it, or by its names.

    Where there is no table, a label is the name of the folder that a file lies in, or the group of ``naming.pattern``
    in the file's own. Of ``kinds`` it is read as the one that most files end as; others, and files that begin with a
    dot, are passed over.

    Raises:
        DataError: There is no such file, no recording in it, or its table does not do.
    """
    label = _label_reader(naming.pattern)
    if path.is_dir():
        files = {PurePosixPath(file.relative_to(path).as_posix()): file for file in path.rglob("*") if file.is_file()}
        kind, inside, notes = _select_type(path.name, sorted(files), kinds)
        takes = [MediaItem(str(name), files[name], label(name), kind) for name in inside]
        return Takes(path.name, lambda: iter(takes), notes)
    if path.suffix.lower() == ".zip":
        return _zipped(path, naming, kinds)
    one = MediaItem(path.name, path, label(PurePosixPath(path.name)), _kind_of([PurePosixPath(path.name)], kinds))
    return Takes(path.name, lambda: iter([one]))


def media_from_table(table: Table, naming: MediaColumns, where: Path, kinds: Sequence[Kind] = (SOUND,)) -> Takes:
    """The recordings that a table names, their paths from ``where`` on, a folder or a zip.

    Raises:
        DataError: A row without a path; there is no such zip.
    """
    rows = _rows(table, naming)
    kind = _kind_of([PurePosixPath(path) for _, path, _ in rows], kinds)
    if where.suffix.lower() == ".zip":
        return _of_zip(where, rows, kind, tuple(table.notes))
    takes = [MediaItem(name, where / path, label, kind) for name, path, label in rows]
    return Takes(table.name, lambda: iter(takes), tuple(table.notes))


def _rows(table: Table, naming: MediaColumns) -> list[tuple[str, str, Any]]:
    """Name, path and label of each."""
    table.raise_if_any(naming.path, table.missing(naming.path), "is no path to a file: give one, or leave the row out")
    paths = [str(cell).strip() for cell in table.column(naming.path)]
    names = [str(cell) for cell in table.column(naming.id)] if naming.id in table.frame else paths
    labels = table.column(naming.label).tolist() if naming.label in table.frame else [None] * len(paths)
    return list(zip(names, paths, labels, strict=True))


def media_from_objects(data: Any, kinds: Sequence[Kind] = (SOUND,)) -> Takes | None:
    """Recordings in Python: one; recordings or paths, or ``(those, labels)``; or sounds, ``(arrays, labels, rate)``.

    ``None`` where it is none of these: a string is a text, an array without a rate is numbers.
    """
    if isinstance(data, (AudioClip, VideoClip)):
        data = [data]
    rate, labels = 0, None
    if isinstance(data, tuple) and len(data) == 3 and _is_rate(data[2]):
        data, labels, rate = data
    elif (
        isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], (str, os.PathLike, AudioClip, VideoClip))
    ):
        data, labels = data
    if isinstance(data, str) or not isinstance(data, (Sequence, np.ndarray, pd.Series)):
        return None
    if not rate and not any(isinstance(one, (AudioClip, VideoClip, os.PathLike)) for one in data):
        return None
    of_each: Any = [None] * len(data) if labels is None else labels
    if len(of_each) != len(data):
        raise DataError(f"there are {len(data)} recordings and {len(of_each)} labels: give one of each")
    kind = _kind_of([PurePosixPath(one) for one in data if isinstance(one, os.PathLike)], kinds)
    both = enumerate(zip(data, of_each, strict=True), 1)
    takes = [MediaItem(str(i), _media_object(one, i, rate), label, kind) for i, (one, label) in both]
    return Takes("the data", lambda: iter(takes))


def is_media_path(path: Path, kinds: Sequence[Kind] = (SOUND,)) -> bool:
    """Whether a path is read as recordings: a folder, a zip, or a file that ends as they do."""
    return path.is_dir() or path.suffix.lower() in (".zip", *(ending for kind in kinds for ending in kind.endings))


def _media_object(one: Any, number: int, rate: int) -> Path | Recording:
    if isinstance(one, (AudioClip, VideoClip)):
        return one
    if isinstance(one, os.PathLike):
        return Path(one)
    if not rate or isinstance(one, str):
        raise DataError(
            f"input {number} is no recording: give paths, sounds or clips, or (arrays, labels, samples a second)"
        )
    return audio_from_array(one, rate, f"input {number}")


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _label_reader(pattern: str) -> Callable[[PurePosixPath], str | None]:
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


def _kind_of(files: Sequence[PurePosixPath], kinds: Sequence[Kind]) -> Kind:
    """What most of the files end as; of as many the first."""
    return max(kinds, key=lambda kind: sum(map(kind.has, files)))


def _select_type(
    name: str, files: Sequence[PurePosixPath], kinds: Sequence[Kind]
) -> tuple[Kind, list[PurePosixPath], tuple[str, ...]]:
    """Kind and files of the recordings, and a note of what is none; DataError where nothing is one."""
    kind = _kind_of(files, kinds)
    inside, others = [file for file in files if kind.has(file)], [file for file in files if not kind.has(file)]
    if not inside:
        wanted = " or ".join(f"{kind.noun} file ({', '.join(kind.endings)})" for kind in kinds)
        raise DataError(f"{name} has no {wanted} among its {len(files)} files")
    if not others:
        return kind, inside, ()
    return kind, inside, (f"{len(others)} files of {name} are no {kind.noun}s and were passed over, as {others[0]}",)


# ---- zips ----------------------------------------------------------------------------------------------------------


def _zipped(path: Path, naming: MediaColumns, kinds: Sequence[Kind]) -> Takes:
    with zips.open_zip(path) as archive:
        files = sorted(PurePosixPath(one.filename) for one in archive.infolist() if not one.is_dir())
        tables = [file for file in files if file.suffix.lower() in _TABLES and not zips.is_hidden_file(str(file))]
        if len(tables) > 1:
            raise DataError(
                f"{path.name} has {len(tables)} tables ({listing(tables)}): unpack it, and give one of them"
            )
        if tables:
            table = read_zipped_table(archive, tables[0], path.name)
            rows = [(name, str(tables[0].parent / inside), label) for name, inside, label in _rows(table, naming)]
            notes, kind = tuple(table.notes), _kind_of([PurePosixPath(inside) for _, inside, _ in rows], kinds)
        else:
            label = _label_reader(naming.pattern)
            kind, found, notes = _select_type(path.name, files, kinds)
            rows = [(str(file), str(file), label(file)) for file in found]

    return _of_zip(path, rows, kind, notes)


def _of_zip(path: Path, rows: Sequence[tuple[str, str, Any]], kind: Kind, notes: tuple[str, ...]) -> Takes:
    """The recordings of a zip, each by its name, its path in it, and its label."""

    def each() -> Iterator[MediaItem]:
        with zips.open_zip(path) as archive:
            for name, inside, label in rows:
                yield MediaItem(name, zips.read_member(archive, inside, path.name), label, kind)

    return Takes(path.name, each, notes)


def read_zipped_table(archive: zipfile.ZipFile, file: PurePosixPath, where: str) -> Table:
    """A table in a zip; ``where`` is what messages call the zip."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        copy.write_bytes(zips.read_member(archive, str(file), where))
        return read_file(copy)
