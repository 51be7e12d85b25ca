"""What is to be written down, and what it says: sounds, features, pictures of lines or pen strokes, with texts."""

from __future__ import annotations

import hashlib
import itertools
import os
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data import zip_archive as zips
from lstmkit.data.audio import audio_io as sound
from lstmkit.data.ink.resampling import validate_strokes
from lstmkit.data.tables.table import Table, read_file
from lstmkit.data.vision import image_io as pictures
from lstmkit.errors import DataError, one_line

KINDS = ("sounds", "features", "lines", "strokes")
_TABLES = (".csv", ".tsv", ".jsonl", ".parquet", ".gz")
_TEXTS = (".gt.txt", ".txt")  # endings of what belongs to a sound or picture of that name


class Columns(NamedTuple):
    """Which column of a table is what; and what arrays of numbers are, where they do not tell themselves."""

    file: str = "file"
    text: str = "text"
    reads: str = "auto"


@dataclass(frozen=True)
class Transcripts:
    """Examples.

    Attributes:
        inputs: Sounds (:class:`AudioClip`), features ``(T, F)`` float32, pictures ``(H, W)`` uint8, or strokes ``(N, 3)``.
        texts: Of each what it says, as :func:`written` has it; ``None`` where that is not known.
        ids: What each is called.
        kind: One of :data:`KINDS`.
        name: What messages call them all.
    """

    inputs: Sequence[Any]
    texts: Sequence[str | None]
    ids: Sequence[str]
    kind: str
    name: str

    def __len__(self) -> int:
        return len(self.inputs)

    def part(self, rows: Sequence[int] | np.ndarray) -> Transcripts:
        """The examples ``rows``."""
        picked = ([of[i] for i in rows] for of in (self.inputs, self.texts, self.ids))
        return replace(self, **dict(zip(("inputs", "texts", "ids"), picked, strict=True)))

    def told(self) -> list[str]:
        """The texts of all.

        Raises:
            DataError: One of them has none.
        """
        for name, text in zip(self.ids, self.texts, strict=True):
            if text is None:
                raise DataError(f"{self.name}: {name} has no text: give it one, or leave it out")
        return [text for text in self.texts if text is not None]

    def digest(self) -> str:
        """A fingerprint of inputs and texts."""
        found = hashlib.sha256()
        for one, text in zip(self.inputs, self.texts, strict=True):
            values = one.samples if isinstance(one, sound.AudioClip) else one
            rate = one.rate if isinstance(one, sound.AudioClip) else 0
            found.update(repr((values.shape, values.dtype.str, rate, text)).encode("utf-8", "replace"))
            found.update(np.ascontiguousarray(values).tobytes())
        return found.hexdigest()


def written(text: str) -> str:
    """A text as it is learnt and compared: Unicode's NFC, one space where there are several, none at the ends.

    >>> written("  Za\\u0308hne   zeigen ")
    'Zähne zeigen'
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def read_transcripts(data: object, columns: Columns) -> Transcripts:
    """Examples and, where they are there, their texts.

    Args:
        data: A folder or ``.zip`` of sounds or pictures, ``X.png`` with ``X.gt.txt`` or ``X.txt`` beside (of
            ``X.nrm.png`` too); one sound or picture; a table with a column of paths, from its own folder on, and one
            of texts; an ``.npz`` with ``feats`` (or ``strokes``) and ``offsets``, its texts in the last column of the
            ``.tsv`` of that name; a frame; ``(inputs, texts)``, or inputs alone: sounds, ``(samples, rate)``, Pillow
            pictures, paths, arrays. An array of bytes is a picture, any other features, unless ``reads`` says more.
        columns: Of a table.

    Raises:
        DataError: What cannot be read, with place and remedy.
        UserError: There is no such file.
    """
    if isinstance(data, Transcripts):
        return data
    if isinstance(data, (str, os.PathLike)):
        found = _of_path(Path(data), columns)
    elif isinstance(data, pd.DataFrame):
        frame = Table(data.set_axis(data.columns.map(str), axis=1), "the frame")
        found = _of_table(frame, Path(), columns)
    else:
        found = _of_lists(data, columns.reads)
    if not len(found):
        raise DataError(f"{found.name} has no examples")
    return found


def is_audio_path(data: object) -> bool:
    """Whether that is the path of one sound."""
    return isinstance(data, (str, os.PathLike)) and Path(data).suffix.lower() in sound.FILE_SUFFIXES


# ---- files -----------------------------------------------------------------------------------------------------------


def _of_path(path: Path, columns: Columns) -> Transcripts:
    ending = path.suffix.lower()
    if path.is_dir():
        names = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
        return _pairs(names, lambda name: (path / name).read_bytes(), str(path))
    if not path.exists():
        raise DataError(f"there is no file {path}")
    if ending == ".zip":
        return _zipped(path)
    if ending == ".npz":
        return _arrays(path)
    if ending in (*sound.FILE_SUFFIXES, *pictures.FILE_SUFFIXES):
        beside = {p.name for p in path.parent.iterdir()}
        some = [path.name, *(name for name in _text_file_names(path.name) if name in beside)]
        return _pairs(some, lambda name: (path.parent / name).read_bytes(), path.name)
    if ending in _TABLES:
        return _of_table(read_file(path, strict=True), path.parent, columns)
    raise DataError(
        f"{path}: files of this kind are not read: give a sound, a picture, a folder or .zip of them, an .npz, or a "
        "table"
    )


def _zipped(path: Path) -> Transcripts:
    with zips.open_zip(path) as archive:
        return _pairs(zips.file_names(archive), lambda name: zips.read_member(archive, name, path.name), path.name)


def _pairs(names: list[str], read: Callable[[str], bytes], where: str) -> Transcripts:
    """Sounds or pictures and the texts beside them."""
    there = set(names)
    media = [
        name
        for name in names
        if Path(name).suffix.lower() in (*sound.FILE_SUFFIXES, *pictures.FILE_SUFFIXES)
        and not zips.is_hidden_file(name)
    ]
    if not media:
        raise DataError(f"{where} has no sound and no picture in it")
    inputs, texts = [], []
    for name in media:
        beside = next((text for text in _text_file_names(name) if text in there), None)
        inputs.append(_medium(read(name), name))
        texts.append(None if beside is None else _decoded(read(beside), beside))
    return _alike(inputs, texts, media, where)


def _text_file_names(name: str) -> list[str]:
    """What the text of a sound or picture may be called: ``a.nrm.png`` has ``a.nrm.gt.txt`` or ``a.gt.txt``."""
    stems = [name[: -len(Path(name).suffix)]]
    while Path(stems[-1]).suffix:
        stems.append(stems[-1][: -len(Path(stems[-1]).suffix)])
    return [stem + ending for stem in stems for ending in _TEXTS]


def _decoded(content: bytes, name: str) -> str:
    try:
        return written(content.decode("utf-8-sig"))
    except UnicodeDecodeError as err:
        raise DataError(f"{name} is not UTF-8 ({err.reason}): save it as UTF-8") from err


def _medium(content: bytes, name: str) -> Any:
    if Path(name).suffix.lower() in sound.FILE_SUFFIXES:
        return sound.read_audio(content, name=name)
    return pictures.read_grayscale_image(content, name)


def _arrays(path: Path) -> Transcripts:
    """Features or strokes end to end, and where each example begins."""
    try:
        with np.load(path) as arrays:
            kind = next((k for k in ("feats", "strokes") if k in arrays), "")
            if not kind or "offsets" not in arrays:
                raise DataError(f"{path.name} has {', '.join(arrays)}: it must have feats (or strokes) and offsets")
            values, offsets = arrays[kind], arrays["offsets"]
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as err:
        if isinstance(err, DataError):
            raise
        raise DataError(f"{path.name} is no .npz that can be read: {one_line(err)}") from err
    whole = offsets.ndim == 1 and len(offsets) > 1 and offsets.dtype.kind in "iu"
    if not whole or offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets) < 1).any():
        raise DataError(f"{path.name}: offsets must rise from 0 to the {len(values)} steps there are")
    pieces = [values[a:b] for a, b in itertools.pairwise(offsets.tolist())]
    names = [f"{path.stem} {i}" for i in range(1, len(pieces) + 1)]
    check = validate_strokes if kind == "strokes" else _features
    texts: list[str | None] = [None] * len(pieces)
    lines = path.with_suffix(".tsv")
    if lines.is_file():
        rows = [line.split("\t") for line in _lines(lines)]
        if len(rows) != len(pieces):
            raise DataError(f"{lines.name} has {len(rows)} lines, {path.name} {len(pieces)} examples: give one of each")
        texts = [written(row[-1]) for row in rows]
        names = [row[0] if len(row) > 1 else name for row, name in zip(rows, names, strict=True)]
    inputs = [check(piece, name) for piece, name in zip(pieces, names, strict=True)]
    return Transcripts(inputs, texts, names, "strokes" if kind == "strokes" else "features", path.name)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except UnicodeDecodeError as err:
        raise DataError(f"{path.name} is not UTF-8 ({err.reason}): save it as UTF-8") from err


def _of_table(table: Table, folder: Path, columns: Columns) -> Transcripts:
    paths = [str(cell) for cell in table.column(columns.file)]
    texts: list[str | None] = [None] * len(paths)
    if columns.text in table.frame:
        cells = ["" if pd.isna(cell) else written(str(cell)) for cell in table.column(columns.text)]
        texts = [cell or None for cell in cells]  # an empty cell is a text that is not known
    inputs = [_medium_at(folder / path) for path in paths]
    return _alike(inputs, texts, paths, table.name)


def _medium_at(path: Path) -> Any:
    if path.suffix.lower() not in (*sound.FILE_SUFFIXES, *pictures.FILE_SUFFIXES):
        raise DataError(f"{path} is neither a sound nor a picture, by its name's ending")
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    return _medium(path.read_bytes(), path.name)


# ---- lists -----------------------------------------------------------------------------------------------------------


def _of_lists(data: Any, reads: str) -> Transcripts:
    pair = isinstance(data, tuple) and len(data) == 2 and _is_list(data[0]) and _are_texts(data[1])
    inputs, texts = data if pair else (data, None)
    if not _is_list(inputs):
        raise DataError(f"give a path, a frame, or (inputs, texts), not {type(data).__name__}")
    found = [_one(one, f"example {i}", reads) for i, one in enumerate(inputs, 1)]
    told: list[str | None] = [None] * len(found)
    if texts is not None:
        told = [None if text is None else written(text) for text in texts]
        if len(told) != len(found):
            raise DataError(f"there are {len(found)} inputs and {len(told)} texts: give one of each")
    names = [f"example {i}" for i in range(1, len(found) + 1)]
    if not found:
        raise DataError("the data have no examples")
    return _alike(found, told, names, "the data", reads)


def _is_list(given: Any) -> bool:
    return isinstance(given, (list, tuple)) or (isinstance(given, np.ndarray) and given.dtype == object)


def _are_texts(given: Any) -> bool:
    listed = isinstance(given, (list, tuple, pd.Series, np.ndarray))
    return listed and all(text is None or isinstance(text, str) for text in given)


def _one(one: Any, name: str, reads: str) -> Any:
    if isinstance(one, sound.AudioClip):
        return one
    if isinstance(one, (str, os.PathLike)):
        return _medium_at(Path(one))
    if isinstance(one, tuple) and len(one) == 2 and isinstance(one[1], (int, np.integer)):
        return sound.audio_from_array(one[0], int(one[1]), name)
    if hasattr(one, "convert") and hasattr(one, "mode"):
        return pictures.grey(one)
    try:
        values = np.asarray(one)
    except ValueError as err:
        raise DataError(f"{name} is no array: its rows have different lengths") from err
    if reads == "strokes":
        return validate_strokes(values, name)
    if values.dtype == np.uint8 and reads != "features":
        if values.ndim != 2 or not values.size:
            raise DataError(f"{name} has the shape {values.shape}: a picture is grey values (H, W)")
        return values
    if reads in ("sounds", "lines"):
        want = "(samples, rate)" if reads == "sounds" else "a Pillow picture or grey values (H, W) as uint8"
        raise DataError(f"{name} is {one_line(type(one).__name__)}: give {want}")
    return _features(values, name)


def _features(values: np.ndarray, name: str) -> np.ndarray:
    if values.ndim != 2 or not values.size or values.dtype.kind not in "biuf":
        raise DataError(f"{name} has the shape {values.shape}: features are numbers (T, F), T and F above 0")
    found = values.astype(np.float32)
    if not np.isfinite(found).all():
        step = int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
        raise DataError(f"{name}, step {step + 1}: a value is missing or infinite: fill it in")
    return found


def _alike(
    inputs: list[Any], texts: list[str | None], names: list[str], where: str, reads: str = "auto"
) -> Transcripts:
    kinds = sorted({_kind(one, reads) for one in inputs})
    if len(kinds) > 1:
        raise DataError(f"{where} has {' and '.join(kinds)}: give one kind")
    return Transcripts(inputs, texts, names, kinds[0] if kinds else "features", where)


def _kind(one: Any, reads: str) -> str:
    if isinstance(one, sound.AudioClip):
        return "sounds"
    return "strokes" if reads == "strokes" else "lines" if one.dtype == np.uint8 else "features"
