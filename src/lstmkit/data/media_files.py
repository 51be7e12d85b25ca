"""Find labeled media files (audio, video, images): in a folder, a zip, a table of paths, or in Python lists."""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data import zip_archive
from lstmkit.data.audio.audio_io import FILE_SUFFIXES, AudioClip, audio_from_array, read_audio
from lstmkit.data.files import confined_to
from lstmkit.data.folders import visible_files
from lstmkit.data.tables.table import Table, read_file
from lstmkit.data.vision.image_io import FILE_SUFFIXES as IMAGE_SUFFIXES
from lstmkit.data.vision.image_io import is_animated, read_image
from lstmkit.data.vision.video_io import FILE_SUFFIXES as VIDEO_SUFFIXES
from lstmkit.data.vision.video_io import ClipFormat, VideoClip, read_video
from lstmkit.errors import DataError, SettingError, listing, one_line

MAX_SECONDS = 60.0  #: Maximum duration of one example.
_MAYBE_ANIMATED = (".gif", ".png", ".apng", ".webp")
_TABLES = (".csv", ".tsv", ".jsonl")

Media = AudioClip | VideoClip | np.ndarray


class MediaType(NamedTuple):
    """A type of media files.

    Attributes:
        noun: Its name in messages.
        suffixes: File suffixes.
        read: Reads a file, given its path or content and its name in messages.
        remedy: What to do with a file that is too long.
    """

    noun: str
    suffixes: tuple[str, ...]
    read: Callable[[Path | bytes, str], Media]
    remedy: str

    def matches(self, file: PurePosixPath) -> bool:
        """Whether a file has this type, by its suffix. Hidden files never match."""
        return file.suffix.lower() in self.suffixes and not zip_archive.is_hidden_file(str(file))


AUDIO_TYPE = MediaType(
    "audio",
    FILE_SUFFIXES,
    lambda source, name: read_audio(source, name=name),
    "split it into commands; to find commands in it, predict with keyword_threshold=0.5",
)


def video_type(clip_format: ClipFormat) -> MediaType:
    """Video files, converted to a format."""
    return MediaType(
        "video", VIDEO_SUFFIXES, lambda source, name: read_video(source, clip_format, name), "split it into clips"
    )


def image_type(clip_format: ClipFormat) -> MediaType:
    """Image files, resized to the format: ``(H, W, C)`` uint8."""

    def read(source: Path | bytes, name: str) -> np.ndarray:
        return read_image(source, clip_format.height, clip_format.width, clip_format.color, name)

    return MediaType("image", IMAGE_SUFFIXES, read, "")


class MediaColumns(NamedTuple):
    """Columns of a table of media files, and labels in file names.

    Attributes:
        path: Path of a file, relative to the table's folder.
        label: Its label.
        id: Its id.
        pattern: Regular expression with one group: the label in a file name. Empty: the label is the folder name.
    """

    path: str = "path"
    label: str = "label"
    id: str = "id"
    pattern: str = ""


class MediaItem(NamedTuple):
    """One media item that is not read yet.

    Attributes:
        id: Its id.
        source: Path, file content, or the media object.
        label: Its raw label; ``None`` if unknown.
        media_type: Its media type.
    """

    id: str
    source: Path | bytes | Media
    label: Any
    media_type: MediaType = AUDIO_TYPE

    def read(self) -> Media:
        """Read the item.

        Raises:
            DataError: It cannot be read, or is longer than :data:`MAX_SECONDS`.
        """
        source = self.source
        media = self.media_type.read(source, self.id) if isinstance(source, (Path, bytes)) else source
        if isinstance(media, (AudioClip, VideoClip)) and media.seconds > MAX_SECONDS:
            raise DataError(
                f"{media.name} has {media.seconds:,.0f} s, the maximum of an example is {MAX_SECONDS:.0f} s: "
                f"{self.media_type.remedy}"
            )
        return media


class MediaItems(NamedTuple):
    """Media items that are not read yet.

    Attributes:
        name: Name of the data in messages.
        iterate: Returns an iterator over the items.
        notes: What was done to find them.
        absence: Says which column is missing, if the data are a table without labels.
    """

    name: str
    iterate: Callable[[], Iterator[MediaItem]]
    notes: tuple[str, ...] = ()
    absence: str = ""


def media_type_of(
    file: PurePosixPath, media_types: Sequence[MediaType], animated: Callable[[], bool]
) -> MediaType | None:
    """The media type of a file; ``None`` if it is none of ``media_types``.

    The suffix decides, except for GIF, PNG and WebP: an animated one is a video, a still one an image. A still GIF is
    a video of one frame if images are not read.

    Args:
        file: Name of the file.
        media_types: Media types that are read.
        animated: Whether the file is animated, by its content; called only if it matters.
    """
    matching = [kind for kind in media_types if kind.matches(file)]
    videos = [kind for kind in media_types if kind.noun == "video"]
    if videos and file.suffix.lower() in _MAYBE_ANIMATED and not zip_archive.is_hidden_file(str(file)) and animated():
        return videos[0]
    return matching[0] if matching else None


def from_file(path: Path, columns: MediaColumns, media_types: Sequence[MediaType] = (AUDIO_TYPE,)) -> MediaItems:
    """Find media in a file, a folder (searched recursively), or a zip with or without a table.

    Without a table, a label is the folder name of a file, or the group of ``columns.pattern`` in its file name. Only
    the most common type of ``media_types`` is read; other files and hidden files are skipped.

    Raises:
        DataError: The path does not exist, has no media files, or its table cannot be read.
    """
    label = _label_reader(columns.pattern)
    if path.is_dir():
        files = {PurePosixPath(file.relative_to(path).as_posix()): file for file in visible_files(path)}
        types = {name: media_type_of(name, media_types, partial(is_animated, files[name])) for name in sorted(files)}
        media_type, media_names, notes = _select_type(path.name, types, media_types)
        items = [MediaItem(str(name), files[name], label(name), media_type) for name in media_names]
        return MediaItems(path.name, lambda: iter(items), notes)
    if path.suffix.lower() == ".zip":
        return _from_zip(path, columns, media_types)
    media_type = _most_common_type(_types_of_paths([path], media_types), media_types)
    item = MediaItem(path.name, path, label(PurePosixPath(path.name)), media_type)
    return MediaItems(path.name, lambda: iter([item]))


def media_from_table(
    table: Table, columns: MediaColumns, where: Path, media_types: Sequence[MediaType] = (AUDIO_TYPE,)
) -> MediaItems:
    """Media items listed in a table, with paths relative to ``where``, a folder or a zip.

    Raises:
        DataError: A row has no path, or the zip does not exist.
    """
    rows = _rows(table, columns)
    if where.suffix.lower() == ".zip":
        with zip_archive.open_zip(where) as archive:
            types = _types_in_zip(archive, [PurePosixPath(path) for _, path, _ in rows], media_types, where.name)
        media_type, notes = _most_common_type(types, media_types), tuple(table.notes)
        return _items_of_zip(where, rows, media_type, notes, table.absence(columns.label))
    media_type = _most_common_type(_types_of_paths([where / path for _, path, _ in rows], media_types), media_types)
    items = [MediaItem(name, where / path, label, media_type) for name, path, label in rows]
    return MediaItems(table.name, lambda: iter(items), tuple(table.notes), table.absence(columns.label))


def _rows(table: Table, columns: MediaColumns) -> list[tuple[str, str, Any]]:
    """Id, path and label of each row."""
    table.raise_if_any(columns.path, table.empty(columns.path), "is not a path: give one, or remove the row")
    paths = [str(cell).strip() for cell in table.column(columns.path)]
    names = [str(cell) for cell in table.column(columns.id)] if columns.id in table.frame else paths
    labels = table.column(columns.label).tolist() if columns.label in table.frame else [None] * len(paths)
    return list(zip(names, paths, labels, strict=True))


def media_from_objects(data: Any, media_types: Sequence[MediaType] = (AUDIO_TYPE,)) -> MediaItems | None:
    """Media items of Python objects; ``None`` if ``data`` holds no media.

    Supported are one clip; a list of clips or paths, optionally as ``(list, labels)``; and ``(arrays, labels, rate)``
    for audio. A string is a text, and an array without a sample rate is not media.
    """
    if isinstance(data, (AudioClip, VideoClip)):
        data = [data]
    sample_rate, labels = 0, None
    if isinstance(data, tuple) and len(data) == 3 and _is_rate(data[2]):
        data, labels, sample_rate = data
    elif (
        isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], (str, os.PathLike, AudioClip, VideoClip))
    ):
        data, labels = data
    if isinstance(data, str) or not isinstance(data, (Sequence, np.ndarray, pd.Series)):
        return None
    if not sample_rate and not any(isinstance(entry, (AudioClip, VideoClip, os.PathLike)) for entry in data):
        return None
    item_labels: Any = [None] * len(data) if labels is None else labels
    if len(item_labels) != len(data):
        raise DataError(f"{len(data)} inputs and {len(item_labels)} labels: give one label per input")
    paths = [Path(entry) for entry in data if isinstance(entry, os.PathLike)]
    media_type = _most_common_type(_types_of_paths(paths, media_types), media_types)
    numbered = enumerate(zip(data, item_labels, strict=True), 1)
    items = [
        MediaItem(str(i), _media_object(entry, i, sample_rate), label, media_type) for i, (entry, label) in numbered
    ]
    return MediaItems("the data", lambda: iter(items))


def is_media_path(path: Path, media_types: Sequence[MediaType] = (AUDIO_TYPE,)) -> bool:
    """Whether a path is read as media: a folder, a zip, or a file with a media suffix."""
    return path.is_dir() or path.suffix.lower() == ".zip" or _types_of_paths([path], media_types) != [None]


def _media_object(entry: Any, number: int, sample_rate: int) -> Path | Media:
    if isinstance(entry, (AudioClip, VideoClip)):
        return entry
    if isinstance(entry, os.PathLike):
        return Path(entry)
    if not sample_rate or isinstance(entry, str):
        raise DataError(
            f"input {number} is not media: give paths, AudioClip or VideoClip objects, or (arrays, labels, sample rate)"
        )
    return audio_from_array(entry, sample_rate, f"input {number}")


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _label_reader(pattern: str) -> Callable[[PurePosixPath], str | None]:
    """Function from the path of a file to its label."""
    if not pattern:
        return lambda file: file.parent.name or None
    try:
        regex = re.compile(pattern)
    except re.error as err:
        raise SettingError(f"label_pattern={pattern!r} is not a regular expression: {one_line(err)}") from err
    if regex.groups != 1:
        raise SettingError(
            f"label_pattern={pattern!r} has {regex.groups} groups: put parentheses around the label only"
        )

    def label(file: PurePosixPath) -> str | None:
        match = regex.search(file.name)
        return match[1] if match else None

    return label


def _types_of_paths(paths: Sequence[Path], media_types: Sequence[MediaType]) -> list[MediaType | None]:
    return [media_type_of(PurePosixPath(path.name), media_types, partial(is_animated, path)) for path in paths]


def _types_in_zip(
    archive: zipfile.ZipFile, files: Sequence[PurePosixPath], media_types: Sequence[MediaType], where: str
) -> list[MediaType | None]:
    def animated(file: PurePosixPath) -> bool:
        return is_animated(zip_archive.read_member(archive, str(file), where))

    return [media_type_of(file, media_types, partial(animated, file)) for file in files]


def _most_common_type(types: Sequence[MediaType | None], media_types: Sequence[MediaType]) -> MediaType:
    """The most common media type; the first one in a tie."""
    return max(media_types, key=types.count)


def _select_type(
    name: str, types: Mapping[PurePosixPath, MediaType | None], media_types: Sequence[MediaType]
) -> tuple[MediaType, list[PurePosixPath], tuple[str, ...]]:
    """Most common media type, its files, and a note on skipped files.

    Raises:
        DataError: No file is media.
    """
    media_type = _most_common_type([*types.values()], media_types)
    matching = [file for file, kind in types.items() if kind == media_type]
    others = [file for file, kind in types.items() if kind != media_type]
    if not matching:
        expected = " or ".join(f"{kind.noun} file ({', '.join(kind.suffixes)})" for kind in media_types)
        raise DataError(f"{name} has no {expected} among its {len(types)} files: give at least one")
    if not others:
        return media_type, matching, ()
    return (
        media_type,
        matching,
        (f"{len(others)} files of {name} are not {media_type.noun} files and were skipped, such as {others[0]}",),
    )


# ---- zips ----------------------------------------------------------------------------------------------------------


def _from_zip(path: Path, columns: MediaColumns, media_types: Sequence[MediaType]) -> MediaItems:
    with zip_archive.open_zip(path) as archive:
        files = [PurePosixPath(name) for name in zip_archive.file_names(archive)]
        tables = [file for file in files if file.suffix.lower() in _TABLES]
        if len(tables) > 1:
            raise DataError(
                f"{path.name} has {len(tables)} tables ({listing(tables)}): unpack it, and give the path of one table"
            )
        absence = ""
        if tables:
            table = read_zipped_table(archive, tables[0], path.name)
            absence = table.absence(columns.label)
            rows = [(name, str(tables[0].parent / member), label) for name, member, label in _rows(table, columns)]
            types = _types_in_zip(archive, [PurePosixPath(member) for _, member, _ in rows], media_types, path.name)
            notes, media_type = tuple(table.notes), _most_common_type(types, media_types)
        else:
            label = _label_reader(columns.pattern)
            types = _types_in_zip(archive, files, media_types, path.name)
            media_type, matching, notes = _select_type(path.name, dict(zip(files, types, strict=True)), media_types)
            rows = [(str(file), str(file), label(file)) for file in matching]

    return _items_of_zip(path, rows, media_type, notes, absence)


def _items_of_zip(
    path: Path,
    rows: Sequence[tuple[str, str, Any]],
    media_type: MediaType,
    notes: tuple[str, ...],
    absence: str = "",
) -> MediaItems:
    """Media items of a zip, from id, path in the zip, and label of each."""

    def iterate() -> Iterator[MediaItem]:
        with zip_archive.open_zip(path) as archive:
            for name, member, label in rows:
                yield MediaItem(name, zip_archive.read_member(archive, member, path.name), label, media_type)

    return MediaItems(path.name, iterate, notes, absence)


def read_zipped_table(archive: zipfile.ZipFile, file: PurePosixPath, where: str) -> Table:
    """Read a table in a zip; ``where`` is the name of the zip in messages."""
    with tempfile.TemporaryDirectory() as folder, confined_to(Path(folder)):
        copy = Path(folder) / file.name
        copy.write_bytes(zip_archive.read_member(archive, str(file), where))
        return read_file(copy, name=f"{where}/{file}")
