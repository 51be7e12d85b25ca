"""Transcription data: audio clips, features, images of text lines or pen strokes, with their transcripts."""

from __future__ import annotations

import hashlib
import itertools
import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lstmkit.data import zip_archive
from lstmkit.data.audio import audio_io
from lstmkit.data.feature_arrays import finite_features, rectangular_array
from lstmkit.data.files import check_regular_file, load_npz, read_bytes
from lstmkit.data.folders import visible_files
from lstmkit.data.formats import UTF, DataFormat, check_format
from lstmkit.data.ink.resampling import validate_strokes
from lstmkit.data.tables.delimited import parse_delimited
from lstmkit.data.tables.native_frames import as_pandas
from lstmkit.data.tables.table import DELIMITED, JSON_LINES, PARQUET, Table, read_file
from lstmkit.data.text_files import decode_text
from lstmkit.data.vision import image_io
from lstmkit.errors import DataError, listing, one_line

KINDS = ("audio", "features", "images", "strokes")
_TABLES = (replace(DELIMITED.only(".csv", ".tsv"), encoding=UTF), replace(JSON_LINES, encoding=UTF), PARQUET)
#: Formats of audio clips, images of text lines, or features, with transcripts.
FORMATS = (
    audio_io.AUDIO,
    image_io.IMAGE,
    DataFormat(
        "NumPy archive",
        (".npz",),
        notes="Arrays feats (or strokes) and offsets; transcripts in the last column of the .tsv with the same name.",
    ),
    *_TABLES,
    DataFormat("zip archive of clips or images", (".zip",), notes="The transcript of X.png is X.gt.txt or X.txt."),
    DataFormat("folder of clips or images", folder=True, notes="The transcript of X.png is X.gt.txt or X.txt."),
)
_TEXTS = (".gt.txt", ".txt")  # suffixes of the transcript of a clip or image


class Columns(NamedTuple):
    """Columns of a table; ``input_type`` is the kind of arrays: ``"auto"`` or one of :data:`KINDS`."""

    path: str = "file"
    text: str = "text"
    input_type: str = "auto"


@dataclass(frozen=True)
class Transcripts:
    """Inputs with transcripts.

    Attributes:
        inputs: Audio (:class:`AudioClip`), features ``(T, F)`` float32, images ``(H, W)`` uint8, or strokes ``(N, 3)``.
        texts: Transcript of each input, normalized by :func:`normalize_text`; ``None`` if unknown.
        ids: Id of each input.
        kind: One of :data:`KINDS`.
        name: Name of the data in messages.
        absence: Says which column is missing, if the data are a table without transcripts.
    """

    inputs: Sequence[Any]
    texts: Sequence[str | None]
    ids: Sequence[str]
    kind: str
    name: str
    absence: str = ""

    def __len__(self) -> int:
        return len(self.inputs)

    def subset(self, rows: Sequence[int] | np.ndarray) -> Transcripts:
        """The examples ``rows``."""
        picked = ([values[i] for i in rows] for values in (self.inputs, self.texts, self.ids))
        return replace(self, **dict(zip(("inputs", "texts", "ids"), picked, strict=True)))

    def require_texts(self) -> list[str]:
        """The transcripts of all examples.

        Raises:
            DataError: An example has no transcript.
        """
        for name, text in zip(self.ids, self.texts, strict=True):
            if text is None and self.absence:
                raise DataError(f"{self.absence}: name the column of the transcripts with text_col=NAME")
            if text is None:
                raise DataError(f"{self.name}: {name} has no transcript: give it one, or leave it out")
        return [text for text in self.texts if text is not None]

    def digest(self) -> str:
        """SHA-256 of inputs and transcripts."""
        digest = hashlib.sha256()
        for example, text in zip(self.inputs, self.texts, strict=True):
            values = example.samples if isinstance(example, audio_io.AudioClip) else example
            rate = example.sample_rate if isinstance(example, audio_io.AudioClip) else 0
            digest.update(repr((values.shape, values.dtype.str, rate, text)).encode("utf-8", "replace"))
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


def normalize_text(text: str) -> str:
    """Normalize a text for training and scoring: Unicode NFC, single spaces, none at the ends.

    >>> normalize_text("  Za\\u0308hne   zeigen ")
    'Zähne zeigen'
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def read_transcripts(data: object, columns: Columns) -> Transcripts:
    """Read inputs with optional transcripts.

    Args:
        data: A folder or ``.zip`` of audio clips or images, with the transcript of ``X.png`` or ``X.nrm.png`` in
            ``X.gt.txt`` or ``X.txt``; one clip or image; a table or frame with paths, relative to the table's folder,
            and transcripts; an ``.npz`` with ``feats`` (or ``strokes``) and ``offsets``, and transcripts in the last
            column of the ``.tsv`` with the same name; ``(inputs, texts)``, or inputs alone: audio clips,
            ``(samples, rate)``, Pillow images, paths, arrays. A uint8 array is an image, any other array is features,
            unless ``columns.input_type`` is set.
        columns: Columns of a table.

    Raises:
        DataError: The data cannot be read.
        UserError: A file does not exist.
    """
    data = as_pandas(data)
    if isinstance(data, Transcripts):
        return data
    if isinstance(data, (str, os.PathLike)):
        transcripts = _from_path(Path(data), columns)
    elif isinstance(data, pd.DataFrame):
        frame = Table(data.set_axis(data.columns.map(str), axis=1), "the frame")
        transcripts = _from_table(frame, Path(), columns)
    else:
        transcripts = _from_lists(data, columns.input_type)
    if not len(transcripts):
        raise DataError(f"{transcripts.name} has no examples: give at least one")
    return transcripts


def is_audio_path(data: object) -> bool:
    """Whether ``data`` is the path of an audio file."""
    return isinstance(data, (str, os.PathLike)) and Path(data).suffix.lower() in audio_io.FILE_SUFFIXES


# ---- files -----------------------------------------------------------------------------------------------------------


def _from_path(path: Path, columns: Columns) -> Transcripts:
    suffix = path.suffix.lower()
    if path.is_dir():
        names = [str(file.relative_to(path)) for file in visible_files(path)]
        return _pairs(names, lambda name: read_bytes(path / name), str(path))
    check_regular_file(check_format(path, FORMATS))
    if suffix == ".zip":
        return _from_zip(path)
    if suffix == ".npz":
        return _from_npz(path)
    if suffix in (*audio_io.FILE_SUFFIXES, *image_io.FILE_SUFFIXES):
        siblings = {p.name for p in path.parent.iterdir()}
        names = [path.name, *(name for name in _text_file_names(path.name) if name in siblings)]
        return _pairs(names, lambda name: read_bytes(path.parent / name), path.name)
    return _from_table(read_file(path, strict=True), path.parent, columns)


def _from_zip(path: Path) -> Transcripts:
    with zip_archive.open_zip(path) as archive:
        return _pairs(
            zip_archive.file_names(archive), lambda name: zip_archive.read_member(archive, name, path.name), path.name
        )


def _pairs(names: list[str], read: Callable[[str], bytes], where: str) -> Transcripts:
    """Audio clips or images, with transcripts in text files of the same name."""
    existing = set(names)
    media = [
        name
        for name in names
        if Path(name).suffix.lower() in (*audio_io.FILE_SUFFIXES, *image_io.FILE_SUFFIXES)
        and not zip_archive.is_hidden_file(name)
    ]
    if not media:
        raise DataError(f"{where} has no audio file and no image: give at least one")
    inputs, texts = [], []
    for name in media:
        text_file = next((text for text in _text_file_names(name) if text in existing), None)
        inputs.append(_decode_media(read(name), name))
        texts.append(None if text_file is None else normalize_text(decode_text(read(text_file), text_file)))
    return _same_kind(inputs, texts, media, where)


def _text_file_names(name: str) -> list[str]:
    """Possible transcript files of a clip or image: ``a.nrm.gt.txt`` or ``a.gt.txt`` for ``a.nrm.png``."""
    stems = [name[: -len(Path(name).suffix)]]
    while Path(stems[-1]).suffix:
        stems.append(stems[-1][: -len(Path(stems[-1]).suffix)])
    return [stem + suffix for stem in stems for suffix in _TEXTS]


def _decode_media(content: bytes, name: str) -> Any:
    if Path(name).suffix.lower() in audio_io.FILE_SUFFIXES:
        return audio_io.read_audio(content, name=name)
    return image_io.read_grayscale_image(content, name)


def _from_npz(path: Path) -> Transcripts:
    """Concatenated features or strokes, and the offset of each example."""
    arrays = load_npz(path, "features or strokes")
    kind = next((k for k in ("feats", "strokes") if k in arrays), "")
    if not kind or "offsets" not in arrays:
        raise DataError(f"{path.name} has the arrays {listing(arrays)}: give feats (or strokes) and offsets")
    values, offsets = arrays[kind], arrays["offsets"]
    is_valid = values.ndim > 0 and offsets.ndim == 1 and len(offsets) > 1 and offsets.dtype.kind in "iu"
    if not is_valid or offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets.astype(np.int64)) < 1).any():
        raise DataError(
            f"{path.name}: offsets must increase from 0 to the number of steps, {values.shape[0] if values.ndim else 0}"
        )
    examples = [values[a:b] for a, b in itertools.pairwise(offsets.tolist())]
    names = [f"{path.stem} {i}" for i in range(1, len(examples) + 1)]
    validate = validate_strokes if kind == "strokes" else finite_features
    texts: list[str | None] = [None] * len(examples)
    text_file = path.with_suffix(".tsv")
    if text_file.is_file():
        text = decode_text(text_file.read_bytes(), text_file.name)
        rows = parse_delimited(text, text_file.name, "\t", has_header=False).frame.to_numpy().tolist()
        if len(rows) != len(examples):
            raise DataError(
                f"{text_file.name} has {len(rows)} lines, but {path.name} has {len(examples)} examples: "
                "give one line per example"
            )
        texts = [normalize_text(row[-1]) for row in rows]
        names = [row[0] if len(row) > 1 else name for row, name in zip(rows, names, strict=True)]
    inputs = [validate(example, name) for example, name in zip(examples, names, strict=True)]
    return Transcripts(inputs, texts, names, "strokes" if kind == "strokes" else "features", path.name)


def _from_table(table: Table, folder: Path, columns: Columns) -> Transcripts:
    paths = [str(cell) for cell in table.column(columns.path)]
    texts: list[str | None] = [None] * len(paths)
    if columns.text in table.frame:
        cells = ["" if pd.isna(cell) else normalize_text(str(cell)) for cell in table.column(columns.text)]
        texts = [cell or None for cell in cells]  # an empty cell is an unknown transcript
    inputs = [_read_media(folder / path) for path in paths]
    return replace(_same_kind(inputs, texts, paths, table.name), absence=table.absence(columns.text))


def _read_media(path: Path) -> Any:
    if path.suffix.lower() not in (*audio_io.FILE_SUFFIXES, *image_io.FILE_SUFFIXES):
        raise DataError(f"{path} has no suffix of an audio file or an image: give one of these")
    return _decode_media(read_bytes(path), path.name)


# ---- lists -----------------------------------------------------------------------------------------------------------


def _from_lists(data: Any, input_type: str) -> Transcripts:
    pair = isinstance(data, tuple) and len(data) == 2 and _is_list(data[0]) and _are_texts(data[1])
    inputs, texts = data if pair else (data, None)
    if not _is_list(inputs):
        raise DataError(f"give a path, a frame, or (inputs, texts), not {type(data).__name__}")
    examples = [_from_entry(entry, f"example {i}", input_type) for i, entry in enumerate(inputs, 1)]
    transcripts: list[str | None] = [None] * len(examples)
    if texts is not None:
        transcripts = [None if text is None else normalize_text(text) for text in texts]
        if len(transcripts) != len(examples):
            raise DataError(f"{len(examples)} inputs and {len(transcripts)} texts: give one text per input")
    names = [f"example {i}" for i in range(1, len(examples) + 1)]
    if not examples:
        raise DataError("the data have no examples: give at least one")
    return _same_kind(examples, transcripts, names, "the data", input_type)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object)


def _are_texts(value: Any) -> bool:
    listed = isinstance(value, (list, tuple, pd.Series, np.ndarray))
    return listed and all(text is None or isinstance(text, str) for text in value)


def _from_entry(entry: Any, name: str, input_type: str) -> Any:
    if isinstance(entry, audio_io.AudioClip):
        return entry
    if isinstance(entry, (str, os.PathLike)):
        return _read_media(Path(entry))
    if isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], (int, np.integer)):
        return audio_io.audio_from_array(entry[0], int(entry[1]), name)
    if hasattr(entry, "convert") and hasattr(entry, "mode"):
        return image_io.to_grayscale(entry)
    values = rectangular_array(entry, name)
    if input_type == "strokes":
        return validate_strokes(values, name)
    if values.dtype == np.uint8 and input_type != "features":
        if values.ndim != 2 or not values.size:
            raise DataError(f"{name} has shape {values.shape}: give a grayscale image (H, W)")
        return values
    if input_type in ("audio", "images"):
        expected = "(samples, rate)" if input_type == "audio" else "a Pillow image or a grayscale image (H, W) as uint8"
        raise DataError(f"{name} is {one_line(type(entry).__name__)}: give {expected}")
    return finite_features(values, name)


def _same_kind(
    inputs: list[Any], texts: list[str | None], names: list[str], where: str, input_type: str = "auto"
) -> Transcripts:
    kinds = sorted({_kind(entry, input_type) for entry in inputs})
    if len(kinds) > 1:
        raise DataError(f"{where} has {' and '.join(kinds)}: give inputs of one kind")
    return Transcripts(inputs, texts, names, kinds[0] if kinds else "features", where)


def _kind(entry: Any, input_type: str) -> str:
    if isinstance(entry, audio_io.AudioClip):
        return "audio"
    return "strokes" if input_type == "strokes" else "images" if entry.dtype == np.uint8 else "features"
