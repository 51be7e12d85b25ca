"""Pictures and clips with sentences that say what is to be seen: files, tables, or arrays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data import zip_archive as zips
from lstmkit.data.media_files import (
    Kind,
    MediaColumns,
    Takes,
    from_file,
    is_media_path,
    media_from_table,
    picture,
    read_zipped_table,
    video,
)
from lstmkit.data.tables.table import Table, read_file
from lstmkit.data.vision.image_io import FILE_SUFFIXES as IMAGE_SUFFIXES
from lstmkit.data.vision.image_io import fitted
from lstmkit.data.vision.video_io import FILE_SUFFIXES as VIDEO_SUFFIXES
from lstmkit.data.vision.video_io import ClipFormat, VideoClip, video_from_array
from lstmkit.errors import DataError, listing

_TABLES = (".csv", ".tsv", ".jsonl")


class CaptionColumns(NamedTuple):
    """Where to find what, and to which shape it is brought.

    Attributes:
        path, text: Columns of a table: the path of a picture or video; what is said of it.
        shape: Of pictures and frames.
    """

    path: str = "image"
    text: str = "caption"
    shape: ClipFormat = ClipFormat()

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        """Of files."""
        return picture(self.shape), video(self.shape)


@dataclass(frozen=True, eq=False)
class CaptionedMedia:
    """What is seen, and what is said of it.

    Attributes:
        seen: Pictures ``(H, W, C)`` uint8, clips, or features ``(S, F)`` float32 that another network made.
        texts: Of each the sentences that were given; none where nothing is known.
        ids: What each is called.
        name: What messages call them all.
        notes: What was done to read them.
    """

    seen: Sequence[Any]
    texts: Sequence[tuple[str, ...]]
    ids: Sequence[str]
    name: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.seen)

    @property
    def kind(self) -> str:
        """``"pictures"``, ``"clips"`` or ``"features"``."""
        first = self.seen[0]
        return "clips" if isinstance(first, VideoClip) else "pictures" if first.ndim == 3 else "features"

    def part(self, rows: Sequence[int] | np.ndarray) -> CaptionedMedia:
        """Those of ``rows``."""
        picked = ([of[i] for i in rows] for of in (self.seen, self.texts, self.ids))
        return replace(self, **dict(zip(("seen", "texts", "ids"), picked, strict=True)))

    def said(self) -> CaptionedMedia:
        """Those of which something is said, all others noted.

        Raises:
            DataError: Nothing is said of any.
        """
        rows = [i for i, texts in enumerate(self.texts) if texts]
        if not rows:
            raise DataError(f"{self.name}: nothing is said of any: give a table with a path and a sentence in each row")
        if len(rows) == len(self):
            return self
        note = f"{len(self) - len(rows)} of {self.name} have no sentence and are left out"
        return replace(self.part(rows), notes=(*self.notes, note))

    def digest(self) -> str:
        """A fingerprint."""
        found = hashlib.sha256()
        for one, texts in zip(self.seen, self.texts, strict=True):
            array = one.frames if isinstance(one, VideoClip) else one
            found.update(f"{array.shape}{texts!r}".encode("utf-8", "replace") + array.tobytes())
        return found.hexdigest()


def read_captioned_media(data: object, layout: CaptionColumns) -> CaptionedMedia:
    """Pictures or videos, with sentences or without.

    A table has a path and a sentence in each row, paths from the table's folder on; several rows of one path are
    several sentences. A table without a header, as Flickr8k's, has the path first and the sentence last. It may lie in
    the folder or zip of what it names, or stand beside it: ``"images.zip,captions.tsv"``. A file, a folder or a zip
    without a table has no sentences. In Python: a frame; or ``(inputs, sentences)`` or inputs alone: paths, pictures
    ``(H, W, C)``, clips, or features ``(S, F)``; of each one sentence, or a list of them.

    Raises:
        DataError: What cannot be read, with place and remedy; pictures that a table names and that are not there.

    >>> read_captioned_media(([np.zeros((8, 8, 3))], ["nothing"]), CaptionColumns()).texts
    [('nothing',)]
    """
    if isinstance(data, CaptionedMedia):
        return data
    takes = opened(data, layout)
    found = _from_lists(data, layout) if takes is None else _read(takes)
    if not len(found):
        raise DataError(f"{found.name} has no pictures or clips")
    return found


def opened(data: object, layout: CaptionColumns) -> Takes | None:
    """The pictures or clips of files and frames, not read yet; ``None`` for lists."""
    if isinstance(data, pd.DataFrame):
        return _named(Table(data.set_axis(data.columns.map(str), axis=1), "the frame"), layout, Path())
    if not isinstance(data, (str, os.PathLike)):
        return None
    text = os.fspath(data)
    path = Path(text)
    if "," in text and not path.exists():
        where, table = (Path(part.strip()) for part in text.split(",", 1))
        return _named(read_file(table), layout, where)
    if not is_media_path(path, layout.kinds):
        return _named(read_file(path), layout, path.parent)
    if path.is_dir():
        table = _find_table(path.name, [file.name for file in sorted(path.iterdir()) if file.is_file()])
        if table:
            return _named(read_file(path / table), layout, path)
    elif path.suffix.lower() == ".zip":
        with zips.open_zip(path) as archive:
            table = _find_table(path.name, zips.file_names(archive))
            if table:
                inside = PurePosixPath(table)
                return _named(read_zipped_table(archive, inside, path.name), layout, path, str(inside.parent))
    found = from_file(path, MediaColumns(), layout.kinds)
    return found._replace(each=lambda: (take._replace(label=None) for take in found.each()))  # a folder says nothing


def _find_table(where: str, names: Sequence[str]) -> str:
    """The one table among files, ``""`` where there is none: text files only where there is no other."""
    for endings in (_TABLES, (".txt",)):
        found = [
            name
            for name in names
            if PurePosixPath(name.removesuffix(".gz")).suffix.lower() in endings and not zips.is_hidden_file(name)
        ]
        if len(found) > 1 and endings is _TABLES:
            raise DataError(f'{where} has {len(found)} tables ({listing(found)}): name one, as "pictures,table"')
        if len(found) == 1:
            return found[0]
    return ""


def _named(table: Table, layout: CaptionColumns, where: Path, below: str = "") -> Takes:
    """What a table names in a folder, or below one in a zip; DataError with all that is not there."""
    table = _with_header(table, layout)
    if layout.path not in table.frame:
        known = listing(table.frame.columns)
        raise DataError(f"no column {layout.path!r} in {table.name} (columns: {known}): give --path-col NAME")
    table.raise_if_any(layout.path, table.missing(layout.path), "is no path to a file: give one, or leave the row out")
    files = [str(PurePosixPath(below, str(cell).strip())) for cell in table.column(layout.path)]
    table = replace(table, frame=table.frame.assign(**{layout.path: files}))
    if where.suffix.lower() == ".zip":
        with zips.open_zip(where) as archive:
            inside = set(archive.namelist())
        missing = sorted({file for file in files if file not in inside})
    else:
        missing = sorted({file for file in files if not (where / file).is_file()})
    if missing:
        raise DataError(
            f"{table.name} names {len(missing)} files that are not in {where.name or 'this folder'}: "
            f"{listing(missing)}: put them there, or take their rows out"
        )
    return media_from_table(table, MediaColumns(layout.path, layout.text, id=layout.path), where, layout.kinds)


def _with_header(table: Table, layout: CaptionColumns) -> Table:
    """A table whose first row was taken for its header, with one; ``name#0`` is a name and the sentence's number."""
    names = [str(name) for name in table.frame.columns]
    first = names[0].split("#")[0]
    if PurePosixPath(first).suffix.lower() not in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) or len(names) < 2:
        return table
    headings = [layout.path, *map(str, range(1, len(names) - 1)), layout.text]
    rows = pd.concat([pd.DataFrame([names]), table.frame.set_axis(range(len(names)), axis=1)], ignore_index=True)
    rows = rows.set_axis(headings, axis=1)
    rows[layout.path] = rows[layout.path].str.split("#").str[0]
    return replace(table, frame=rows, has_header=False)


def _read(takes: Takes) -> CaptionedMedia:
    """All that there is, each once, with all that is said of it."""
    number: dict[str, int] = {}
    seen: list[Any] = []
    texts: list[tuple[str, ...]] = []
    for take in takes.each():
        if take.id not in number:
            number[take.id] = len(seen)
            seen.append(take.read())
            texts.append(())
        texts[number[take.id]] += _sentences(take.label)
    return CaptionedMedia(seen, texts, list(number), takes.name, takes.notes)


def _sentences(given: Any) -> tuple[str, ...]:
    """One or several, without blanks around them; of nothing none."""
    if isinstance(given, (list, tuple, np.ndarray)):
        return tuple(sentence for one in given for sentence in _sentences(one))
    text = "" if pd.isna(given) else " ".join(str(given).split())
    return (text,) if text else ()


def _from_lists(data: Any, layout: CaptionColumns) -> CaptionedMedia:
    pair = isinstance(data, tuple) and len(data) == 2
    inputs, texts = data if pair else (data, None)
    inputs = [inputs] if isinstance(inputs, VideoClip) else inputs
    if not isinstance(inputs, (Sequence, np.ndarray, pd.Series)) or isinstance(inputs, str):
        raise DataError(f"give a path, a frame, or (inputs, sentences), not {type(inputs).__name__}")
    if texts is not None and len(texts) != len(inputs):
        raise DataError(f"there are {len(inputs)} inputs and {len(texts)} times sentences: give as many of both")
    seen = [_seen(one, number, layout) for number, one in enumerate(inputs, 1)]
    if len({type(one) for one in seen}) > 1 or len({one.ndim for one in seen if isinstance(one, np.ndarray)}) > 1:
        raise DataError("the inputs are of several kinds, as pictures and clips: give one kind")
    of_each = [()] * len(seen) if texts is None else [_sentences(one) for one in texts]
    ids = [one.name if isinstance(one, os.PathLike) else str(i) for i, one in enumerate(inputs, 1)]
    return CaptionedMedia(seen, of_each, ids, "the data")


def _seen(one: Any, number: int, layout: CaptionColumns) -> np.ndarray | VideoClip:
    """One input: a file is read; an array is a picture, a clip, or features by its shape."""
    if isinstance(one, VideoClip):
        return one
    if isinstance(one, (str, os.PathLike)):
        if Path(one).is_dir() or not is_media_path(Path(one), layout.kinds) or Path(one).suffix.lower() == ".zip":
            raise DataError(f"input {number}, {one}, is no picture or video: give files of these")
        (take,) = from_file(Path(one), MediaColumns(), layout.kinds).each()
        found = take.read()
        assert isinstance(found, (np.ndarray, VideoClip))
        return found
    name = f"input {number}"
    try:
        values = np.asarray(one)
        numbers = values.astype(np.float32)
    except (ValueError, TypeError):
        raise DataError(f"{name} is no array of numbers: give a picture, a clip, or features (S, F)") from None
    if values.ndim == 4 or (values.ndim == 3 and values.shape[2] not in (1, 3)):
        return video_from_array(values, layout.shape, name)
    if values.ndim == 3:
        whole = video_from_array(values[None], layout.shape, name).frames[0]
        return fitted(whole, layout.shape.height, layout.shape.width, layout.shape.colour)
    if values.ndim != 2 or not values.size or not np.isfinite(numbers).all():
        raise DataError(
            f"{name} has the shape {values.shape}, or a value is missing: give a picture (H, W, 3), a clip "
            "(T, H, W, 3), or features (S, F)"
        )
    return numbers
