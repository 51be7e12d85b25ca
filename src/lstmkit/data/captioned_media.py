"""Images and video clips with captions: files, tables, or arrays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data import zip_archive
from lstmkit.data.files import is_file
from lstmkit.data.formats import DataFormat, check_format
from lstmkit.data.media_files import (
    MediaColumns,
    MediaItems,
    MediaType,
    from_file,
    image_type,
    is_media_path,
    media_from_table,
    read_zipped_table,
    video_type,
)
from lstmkit.data.tables.native_frames import as_pandas
from lstmkit.data.tables.table import TABLES, Table, read_file
from lstmkit.data.vision.image_io import FILE_SUFFIXES as IMAGE_SUFFIXES
from lstmkit.data.vision.image_io import IMAGE, resize_with_pad
from lstmkit.data.vision.video_io import FILE_SUFFIXES as VIDEO_SUFFIXES
from lstmkit.data.vision.video_io import VIDEO, ClipFormat, VideoClip, video_from_array
from lstmkit.errors import DataError, listing

_TABLES = (".csv", ".tsv", ".jsonl")


#: Formats of captioned images and videos. Media and their table may be given together, as ``images.zip,captions.tsv``.
FORMATS = (
    *TABLES,
    IMAGE,
    VIDEO,
    DataFormat("zip archive of images or videos", (".zip",), notes="May hold one table of paths and captions."),
    DataFormat("folder of images or videos", folder=True, notes="May hold one table of paths and captions."),
)


class CaptionColumns(NamedTuple):
    """Columns of a table of captions, and the format of images and frames.

    Attributes:
        path: Path of an image or video, relative to the table's folder.
        text: Its caption.
        clip_format: Format to which images and frames are converted.
    """

    path: str = "image"
    text: str = "caption"
    clip_format: ClipFormat = ClipFormat()

    @property
    def media_types(self) -> tuple[MediaType, MediaType]:
        """Media types that are read."""
        return image_type(self.clip_format), video_type(self.clip_format)


@dataclass(frozen=True, eq=False)
class CaptionedMedia:
    """Images or video clips with captions.

    Attributes:
        inputs: Images ``(H, W, C)`` uint8, video clips, or features ``(S, F)`` float32 of another network.
        texts: Captions of each input; empty if unknown.
        ids: Id of each input.
        name: Name of the data in messages.
        notes: What was done to read them.
        absence: Says which column is missing, if the data are a table without captions.
    """

    inputs: Sequence[Any]
    texts: Sequence[tuple[str, ...]]
    ids: Sequence[str]
    name: str
    notes: tuple[str, ...] = ()
    absence: str = ""

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def kind(self) -> str:
        """``"images"``, ``"clips"`` or ``"features"``."""
        first = self.inputs[0]
        return "clips" if isinstance(first, VideoClip) else "images" if first.ndim == 3 else "features"

    def subset(self, rows: Sequence[int] | np.ndarray) -> CaptionedMedia:
        """The examples ``rows``."""
        picked = ([values[i] for i in rows] for values in (self.inputs, self.texts, self.ids))
        return replace(self, **dict(zip(("inputs", "texts", "ids"), picked, strict=True)))

    def with_captions(self) -> CaptionedMedia:
        """The examples with captions; the number of the others is noted.

        Raises:
            DataError: No example has a caption.
        """
        rows = [i for i, texts in enumerate(self.texts) if texts]
        if not rows and self.absence:
            raise DataError(f"{self.absence}: name the column of the captions with text_col=NAME")
        if not rows:
            raise DataError(f"{self.name} has no captions: give a table with a path and a caption in each row")
        if len(rows) == len(self):
            return self
        note = f"{len(self) - len(rows)} of {self.name} have no caption and are dropped"
        return replace(self.subset(rows), notes=(*self.notes, note))

    def digest(self) -> str:
        """SHA-256 of inputs and captions."""
        digest = hashlib.sha256()
        for example, texts in zip(self.inputs, self.texts, strict=True):
            array = example.frames if isinstance(example, VideoClip) else example
            digest.update(f"{array.shape}{texts!r}".encode("utf-8", "replace") + array.tobytes())
        return digest.hexdigest()


def read_captioned_media(data: object, layout: CaptionColumns) -> CaptionedMedia:
    """Read images or videos, with or without captions.

    A table has a path, relative to the table's folder, and a caption in each row; several rows of one path are several
    captions. A table without a header, as in Flickr8k, has the path first and the caption last. The table may be in the
    folder or zip of the media, or be given with it as ``"images.zip,captions.tsv"``. A file, a folder or a zip without
    a table has no captions. In Python, give a frame, ``(inputs, captions)``, or inputs alone: paths, images
    ``(H, W, C)``, video clips, or features ``(S, F)``, each with one caption or a list of captions.

    Raises:
        DataError: The data cannot be read, or a file named by the table does not exist.

    >>> read_captioned_media(([np.zeros((8, 8, 3))], ["nothing"]), CaptionColumns()).texts
    [('nothing',)]
    """
    data = as_pandas(data)
    if isinstance(data, CaptionedMedia):
        return data
    items = open_media(data, layout)
    media = _from_lists(data, layout) if items is None else _read(items)
    if not len(media):
        raise DataError(f"{media.name} has no images or videos: give at least one")
    return media


def open_media(data: object, layout: CaptionColumns) -> MediaItems | None:
    """Unread images or videos of files and frames; ``None`` for lists."""
    data = as_pandas(data)
    if isinstance(data, pd.DataFrame):
        return _from_table(Table(data.set_axis(data.columns.map(str), axis=1), "the frame"), layout, Path())
    if not isinstance(data, (str, os.PathLike)):
        return None
    text = os.fspath(data)
    path = Path(text)
    if "," in text and not path.exists():
        where, table = (Path(name.strip()) for name in text.split(",", 1))
        return _from_table(read_file(table), layout, where)
    check_format(path, FORMATS)
    if not is_media_path(path, layout.media_types):
        return _from_table(read_file(path), layout, path.parent)
    if path.is_dir():
        table = _find_table(path.name, [file.name for file in sorted(path.iterdir()) if file.is_file()])
        if table:
            return _from_table(read_file(path / table), layout, path)
    elif path.suffix.lower() == ".zip":
        with zip_archive.open_zip(path) as archive:
            table = _find_table(path.name, zip_archive.file_names(archive))
            if table:
                table_path = PurePosixPath(table)
                zipped = read_zipped_table(archive, table_path, path.name)
                return _from_table(zipped, layout, path, str(table_path.parent))
    items = from_file(path, MediaColumns(), layout.media_types)
    # The label of a file is its folder name, which is not a caption.
    return items._replace(iterate=lambda: (item._replace(label=None) for item in items.iterate()))


def _find_table(where: str, names: Sequence[str]) -> str:
    """The only table among files, ``""`` if there is none. A .txt file counts only if there is no other table."""
    for suffixes in (_TABLES, (".txt",)):
        tables = [
            name
            for name in names
            if PurePosixPath(name.removesuffix(".gz")).suffix.lower() in suffixes
            and not zip_archive.is_hidden_file(name)
        ]
        if len(tables) > 1 and suffixes is _TABLES:
            known = listing(tables)
            raise DataError(f'{where} has {len(tables)} tables ({known}): name one, as "images.zip,captions.tsv"')
        if len(tables) == 1:
            return tables[0]
    return ""


def _from_table(table: Table, layout: CaptionColumns, where: Path, subfolder: str = "") -> MediaItems:
    """Media items of a table. ``where``: their folder or zip; ``subfolder``: their folder in the zip.

    Raises:
        DataError: A column or file is missing.
    """
    table = _with_header(table, layout)
    if layout.path not in table.frame:
        known = listing(table.frame.columns)
        raise DataError(f"no column {layout.path!r} in {table.name} (columns: {known}): give path_col=NAME")
    table.raise_if_any(layout.path, table.empty(layout.path), "is not a path: give one, or remove the row")
    files = [str(PurePosixPath(subfolder, str(cell).strip())) for cell in table.column(layout.path)]
    table = replace(table, frame=table.frame.assign(**{layout.path: files}))
    if where.suffix.lower() == ".zip":
        with zip_archive.open_zip(where) as archive:
            members = set(archive.namelist())
        missing = sorted({file for file in files if file not in members})
    else:
        missing = sorted({file for file in files if not is_file(where / file)})
    if missing:
        raise DataError(
            f"{table.name} names {len(missing)} files that are not in {where.name or 'this folder'}: "
            f"{listing(missing)}: add them, or remove their rows"
        )
    return media_from_table(table, MediaColumns(layout.path, layout.text, id=layout.path), where, layout.media_types)


def _with_header(table: Table, layout: CaptionColumns) -> Table:
    """Add a header to a table without one. ``name#0`` is a file name and the number of its caption."""
    names = [str(name) for name in table.frame.columns]
    first = names[0].split("#")[0]
    if PurePosixPath(first).suffix.lower() not in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) or len(names) < 2:
        return table
    headings = [layout.path, *map(str, range(1, len(names) - 1)), layout.text]
    rows = pd.concat([pd.DataFrame([names]), table.frame.set_axis(range(len(names)), axis=1)], ignore_index=True)
    rows = rows.set_axis(headings, axis=1)
    rows[layout.path] = rows[layout.path].str.split("#").str[0]
    return replace(table, frame=rows, has_header=False)


def _read(items: MediaItems) -> CaptionedMedia:
    """Read each input once, with all its captions."""
    index: dict[str, int] = {}
    inputs: list[Any] = []
    texts: list[tuple[str, ...]] = []
    for item in items.iterate():
        if item.id not in index:
            index[item.id] = len(inputs)
            inputs.append(item.read())
            texts.append(())
        texts[index[item.id]] += _captions(item.label)
    return CaptionedMedia(inputs, texts, list(index), items.name, items.notes, items.absence)


def _captions(cell: Any) -> tuple[str, ...]:
    """Captions of a cell: one or several, stripped; empty if missing."""
    if isinstance(cell, (list, tuple, np.ndarray)):
        return tuple(caption for entry in cell for caption in _captions(entry))
    text = "" if pd.isna(cell) else " ".join(str(cell).split())
    return (text,) if text else ()


def _from_lists(data: Any, layout: CaptionColumns) -> CaptionedMedia:
    pair = isinstance(data, tuple) and len(data) == 2
    inputs, texts = data if pair else (data, None)
    inputs = [inputs] if isinstance(inputs, VideoClip) else inputs
    if not isinstance(inputs, (Sequence, np.ndarray, pd.Series)) or isinstance(inputs, str):
        raise DataError(f"give a path, a frame, or (inputs, captions), not {type(inputs).__name__}")
    if texts is not None and len(texts) != len(inputs):
        raise DataError(f"{len(inputs)} inputs and {len(texts)} captions: give a caption, or a list of them, per input")
    media = [_check_input(entry, number, layout) for number, entry in enumerate(inputs, 1)]
    if (
        len({type(entry) for entry in media}) > 1
        or len({entry.ndim for entry in media if isinstance(entry, np.ndarray)}) > 1
    ):
        raise DataError("the inputs are of several types, such as images and clips: give one type")
    captions = [()] * len(media) if texts is None else [_captions(entry) for entry in texts]
    ids = [entry.name if isinstance(entry, os.PathLike) else str(i) for i, entry in enumerate(inputs, 1)]
    return CaptionedMedia(media, captions, ids, "the data")


def _check_input(entry: Any, number: int, layout: CaptionColumns) -> np.ndarray | VideoClip:
    """Read a file; classify an array by its shape as image, clip or features."""
    if isinstance(entry, VideoClip):
        return entry
    if isinstance(entry, (str, os.PathLike)):
        if (
            Path(entry).is_dir()
            or not is_media_path(Path(entry), layout.media_types)
            or Path(entry).suffix.lower() == ".zip"
        ):
            raise DataError(f"input {number}, {entry}, is not an image or video: give image or video files")
        (item,) = from_file(Path(entry), MediaColumns(), layout.media_types).iterate()
        media = item.read()
        assert isinstance(media, (np.ndarray, VideoClip))
        return media
    name = f"input {number}"
    try:
        values = np.asarray(entry)
        numbers = values.astype(np.float32)
    except (ValueError, TypeError):
        raise DataError(f"{name} is not an array of numbers: give an image, a clip, or features (S, F)") from None
    if values.ndim == 3 and values.shape[0] == 3 and values.shape[2] not in (1, 3):
        raise DataError(
            f"{name} has shape {values.shape}, an image with its channels first or a clip of 3 frames: "
            "give an image as (H, W, 3), a clip as (T, H, W, 1) or (T, H, W, 3)"
        )
    if values.ndim == 4 or (values.ndim == 3 and values.shape[2] not in (1, 3)):
        return video_from_array(values, layout.clip_format, name)
    if values.ndim == 3:
        image = video_from_array(values[None], layout.clip_format, name).frames[0]
        return resize_with_pad(image, layout.clip_format.height, layout.clip_format.width, layout.clip_format.color)
    if values.ndim != 2 or not values.size or not np.isfinite(numbers).all():
        raise DataError(
            f"{name} has shape {values.shape}, or a NaN: give an image (H, W, 3), a clip (T, H, W, 3), or features "
            "(S, F)"
        )
    return numbers
