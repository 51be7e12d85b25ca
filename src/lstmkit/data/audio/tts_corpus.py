"""Text-to-speech corpora: audio clips with transcripts, from a folder, a zip, a table, or lists."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from lstmkit.data import zip_archive
from lstmkit.data.audio.audio_io import FILE_SUFFIXES, AudioClip, audio_from_array, read_audio, resample
from lstmkit.data.files import check_regular_file, read_bytes
from lstmkit.data.folders import visible_files
from lstmkit.data.formats import UTF, DataFormat, check_format
from lstmkit.data.tables.delimited import parse_delimited
from lstmkit.data.tables.table import Table, parse_table
from lstmkit.data.text_files import decode_text
from lstmkit.errors import DataError, listing, one_line
from lstmkit.libraries import imports_of

METADATA_FILE = "metadata.csv"  #: LJSpeech's table: ``id|text|normalized text``, without a header.
_TABLES = (".csv", ".tsv")
#: Formats of audio clips with their texts.
FORMATS = (
    DataFormat(
        "table of clips",
        _TABLES,
        encoding=UTF,
        notes="LJSpeech's id|text|normalized text without a header, or the columns path and text.",
    ),
    DataFormat("zip archive of clips", (".zip",), notes="With such a table, or with X.txt for each X.wav."),
    DataFormat("folder of clips", folder=True, notes="With such a table, or with X.txt for each X.wav."),
)
CORPUS_SUFFIXES = (".zip", *_TABLES)  #: Suffixes of files that are read as a corpus.
_FULL_SCALE = 0.999  # amplitude at which a sample counts as clipped
_MAX_CLIPPED_FRACTION = 0.001  # a clip with more such samples is reported as clipped
_TRIM_FRAME = 0.02  # seconds per loudness frame

_Files = dict[str, Callable[[], bytes]]


@dataclass(frozen=True, eq=False)
class SpeechCorpus:
    """Audio clips with transcripts.

    Attributes:
        clips: Clips with the same sample rate, trimmed.
        texts: Transcript of each clip, not blank.
        name: Name of the data in messages.
        notes: What was dropped, or looks wrong.
    """

    clips: tuple[AudioClip, ...]
    texts: tuple[str, ...]
    name: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def seconds(self) -> float:
        """Total duration."""
        return sum(clip.seconds for clip in self.clips)

    def subset(self, rows: Sequence[int] | np.ndarray) -> SpeechCorpus:
        """The clips ``rows``."""
        clips, texts = (tuple(values[i] for i in rows) for values in (self.clips, self.texts))
        return replace(self, clips=clips, texts=texts, notes=())

    def digest(self) -> str:
        """SHA-256 of clips and transcripts."""
        digest = hashlib.sha256()
        for clip, text in zip(self.clips, self.texts, strict=True):
            digest.update(f"{clip.sample_rate} {len(clip.samples)} {text}\n".encode("utf-8", "surrogatepass"))
            digest.update(clip.samples.tobytes())
        return digest.hexdigest()


def read_speech_corpus(data: Any, sample_rate: int, trim_db: float = 40.0) -> SpeechCorpus:
    """Read audio clips with transcripts.

    Clips are mixed to mono and resampled, their mean is subtracted, and both ends are trimmed. Silent clips and clips
    with a blank transcript are dropped and counted.

    Args:
        data: A folder or a ``.zip`` (zips in the folder are read too); a table in a folder; or ``(clips, texts)``,
            where a clip is an :class:`AudioClip`, a file, or ``(samples, rate)``. Transcripts of files are in
            ``metadata.csv``, ``id|text|normalized text`` as in LJSpeech; in another ``.csv`` or ``.tsv`` with the
            columns ``path`` and ``text``; or, for ``a.wav``, in ``a.txt``. All are UTF-8.
        sample_rate: Sample rate in Hz.
        trim_db: Trim what is this many dB below the peak at both ends; 0 to disable.

    Raises:
        DataError: The data cannot be read. The message names the file and line.

    >>> hum = 0.5 * np.sin(np.arange(4000) / 5)
    >>> read_speech_corpus(([(hum, 8000), (0 * hum, 8000)], ["mm", "nothing"]), 8000).notes
    ('1 silent',)
    """
    if isinstance(data, SpeechCorpus):
        return data
    if isinstance(data, (str, os.PathLike)):
        name, (texts, load) = Path(data).name, _from_files(Path(data))
    else:
        name, (texts, load) = "the recordings", _from_lists(data, sample_rate)
    clips, transcripts, blank, silent, clipped = [], [], 0, 0, 0
    for i, text in enumerate(texts):
        if not text.strip():
            blank += 1
            continue
        clip = load(i)
        clipped += float((np.abs(clip.samples) >= _FULL_SCALE).mean()) > _MAX_CLIPPED_FRACTION
        trimmed = trim_silence(resample(clip, sample_rate), trim_db)
        if trimmed is None:
            silent += 1
            continue
        clips.append(trimmed)
        transcripts.append(" ".join(text.split()))
    if not clips:
        raise DataError(
            f"{name} has no clip with sound and a transcript ({len(texts)} clips in total): give at least one"
        )
    counts = {"without a transcript": blank, "silent": silent, "clipped (kept)": clipped}
    notes = tuple(f"{count:,} {what}" for what, count in counts.items() if count)
    return SpeechCorpus(tuple(clips), tuple(transcripts), name, notes)


def trim_silence(clip: AudioClip, top_db: float) -> AudioClip | None:
    """Subtract the mean of a clip and trim what is ``top_db`` below its peak at both ends; ``None`` if silent."""
    with imports_of("sound", "audio"):
        from librosa.effects import trim

    samples = clip.samples - clip.samples.mean(dtype=np.float64).astype(np.float32)
    if np.abs(samples).max() < 2**-15:  # half a quantization step of 16 bits
        return None
    if top_db:
        length = max(2, round(_TRIM_FRAME * clip.sample_rate))
        samples, _ = trim(samples, top_db=top_db, frame_length=length, hop_length=length // 2)
    return replace(clip, samples=samples)


def read_zipped_audio(path: Path, sample_rate: int, wanted: Callable[[str], bool]) -> Iterator[tuple[str, AudioClip]]:
    """Read the audio files of a zip, without transcripts.

    Args:
        path: The zip.
        sample_rate: Sample rate in Hz.
        wanted: Whether to read the file with this name.

    Yields:
        Name and clip of each file.

    Raises:
        DataError: The zip or a file in it cannot be read.
    """
    for name, load in _in_zip(path).items():
        if name.lower().endswith(FILE_SUFFIXES) and wanted(name):
            yield name, read_audio(load(), sample_rate, name)


# ---- lists -----------------------------------------------------------------------------------------------------------


def _from_lists(data: Any, sample_rate: int) -> tuple[list[str], Callable[[int], AudioClip]]:
    if not isinstance(data, tuple) or len(data) != 2 or any(not isinstance(side, (list, tuple)) for side in data):
        raise DataError(f"give a folder, a .zip, a table, or (clips, texts), not {type(data).__name__}")
    clips, texts = data
    if len(clips) != len(texts):
        raise DataError(f"{len(clips):,} clips and {len(texts):,} texts: give one text per clip")
    for i, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise DataError(f"text {i} is {type(text).__name__} {one_line(repr(text))}: give text")
    return list(texts), lambda i: _clip(clips[i], f"clip {i + 1}", sample_rate)


def _clip(clip: Any, name: str, sample_rate: int) -> AudioClip:
    if isinstance(clip, AudioClip):
        return clip
    if isinstance(clip, (str, os.PathLike)):
        return read_audio(Path(clip))
    samples, clip_rate = clip if isinstance(clip, tuple) and len(clip) == 2 else (clip, sample_rate)
    if isinstance(clip_rate, bool) or not isinstance(clip_rate, (int, np.integer)):
        raise DataError(f"{name}: give a file, an AudioClip, or (samples, rate) with an integer sample rate in Hz")
    try:
        return audio_from_array(samples, int(clip_rate), name)
    except ValueError as err:
        raise DataError(f"{name}: give a file, an AudioClip, or (samples, rate) ({one_line(err)})") from err


# ---- files -----------------------------------------------------------------------------------------------------------


def _from_files(path: Path) -> tuple[list[str], Callable[[int], AudioClip]]:
    if not path.exists():
        raise DataError(f"no such file or folder: {path}")
    if not path.is_dir():
        check_regular_file(path)
    table = path.name if path.is_file() and path.suffix.lower() in _TABLES else None
    check_format(path, FORMATS)
    files = (
        _in_zip(path)
        if path.suffix.lower() == ".zip" and path.is_file()
        else _in_folder(path.parent if table else path)
    )
    audio_files = [name for name in files if name.lower().endswith(FILE_SUFFIXES)]
    if not audio_files:
        raise DataError(
            f"{path.name} has no audio files ({', '.join(FILE_SUFFIXES[:4])}, …): give a folder or .zip with some"
        )
    rows = _rows(files, audio_files, table or _table(files), path.name)
    return [text for _, text in rows], lambda i: read_audio(files[rows[i][0]](), name=rows[i][0])


def _in_folder(folder: Path) -> _Files:
    """All files of a folder by relative path. Zips are treated as folders."""
    files: _Files = {}
    for path in visible_files(folder):
        if path.suffix.lower() == ".zip":
            files |= _in_zip(path)
        else:
            files[path.relative_to(folder).as_posix()] = partial(read_bytes, path)
    return files


def _in_zip(path: Path) -> _Files:
    archive = zip_archive.open_zip(path)
    return {
        name: partial(zip_archive.read_member, archive, name, path.name) for name in zip_archive.file_names(archive)
    }


def _table(files: _Files) -> str | None:
    """The table with the transcripts, if there is one."""
    tables = [name for name in files if name.lower().endswith(_TABLES)]
    metadata = [name for name in tables if PurePosixPath(name).name.lower() == METADATA_FILE]
    for candidates in (metadata, tables):
        if len(candidates) > 1:
            raise DataError(f"several tables ({listing(candidates)}): give the path of the one with the transcripts")
        if candidates:
            return candidates[0]
    return None


def _rows(files: _Files, clips: list[str], table: str | None, name: str) -> list[tuple[str, str]]:
    """Audio file and transcript of each clip."""
    if table is None:
        texts = {str(PurePosixPath(clip).with_suffix(".txt")): clip for clip in clips}
        rows = [(clip, decode_text(files[text](), text)) for text, clip in texts.items() if text in files]
        if not rows:
            raise DataError(
                f"{name} has no transcripts: give a {METADATA_FILE} (id|text), a .csv with columns path and text, or "
                f"a .txt with the name of each clip, as for {PurePosixPath(clips[0]).name}"
            )
        return rows
    clips_by_key: dict[str, list[str]] = {}
    for clip in clips:
        parts = PurePosixPath(clip).parts
        for start in range(len(parts)):
            suffix = "/".join(parts[start:])
            for key in {suffix, str(PurePosixPath(suffix).with_suffix(""))}:
                clips_by_key.setdefault(key, []).append(clip)
    cells = _table_of_clips(files[table](), table)
    rows = []
    for row, (clip, text) in enumerate(zip(cells.column("path"), cells.column("text"), strict=True)):
        key = PurePosixPath(clip.strip().replace("\\", "/")).as_posix().removeprefix("./")
        matches = clips_by_key.get(key, [])
        if len(matches) != 1:
            what = "no audio file" if not matches else f"several audio files ({listing(matches)})"
            cells.raise_if_any("path", np.arange(len(cells.frame)) == row, f"names {what}: correct the path")
        rows.append((matches[0], text))
    return rows


def _table_of_clips(content: bytes, name: str) -> Table:
    """Table with the columns ``path`` and ``text``. LJSpeech's is ``id|text|normalized text``, without a header."""
    text = decode_text(content, name)
    if "|" in text.partition("\n")[0]:
        frame = parse_delimited(text, name, "|", has_header=False).frame
        texts = frame["2"].mask(frame["3"].str.strip() != "", frame["3"]) if "3" in frame else frame["2"]
        return Table(pd.DataFrame({"path": frame["1"], "text": texts}), name)
    table = parse_table(content, name, strict=True)
    table.frame.columns = table.frame.columns.str.lower()
    if not {"path", "text"} <= {*table.frame.columns}:
        raise DataError(
            f"{name} has the columns {listing(table.frame.columns)}: give path and text, or id|text without a header"
        )
    return table
