"""Recordings and what is said in them, from a folder or a zip with a table or a text beside each, or from lists."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lstmkit.data import zip_archive as zips
from lstmkit.data.audio.audio_io import FILE_SUFFIXES, AudioClip, audio_from_array, read_audio, resampled
from lstmkit.errors import DataError, listing, one_line

METADATA_FILE = "metadata.csv"  #: What LJSpeech calls it: ``id|text|normalised text``, without a header.
_TABLES = (".csv", ".tsv")
CORPUS_SUFFIXES = (".zip", *_TABLES)  #: Endings of files that are taken for recordings with their texts.
_FULL_SCALE, _MAX_CLIPPED_FRACTION = (
    0.999,
    0.001,
)  # what is full scale; the share of samples there of a sound that is clipped
_MAX_AMPLITUDE = 100.0  # times full scale: more is no sound, but numbers of something else
_TRIM_FRAME = 0.02  # seconds over which loudness is measured

_Files = dict[str, Callable[[], bytes]]


@dataclass(frozen=True, eq=False)
class SpeechCorpus:
    """Recordings and their texts.

    Attributes:
        sounds: All at one rate, without what is silent at their ends.
        texts: What is said in each, not blank.
        name: What messages call them.
        remarks: What was left out, or is odd.
    """

    sounds: tuple[AudioClip, ...]
    texts: tuple[str, ...]
    name: str
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.sounds)

    @property
    def seconds(self) -> float:
        """Of all together."""
        return sum(sound.seconds for sound in self.sounds)

    def part(self, rows: Sequence[int] | np.ndarray) -> SpeechCorpus:
        """The recordings ``rows``."""
        sounds, texts = (tuple(of[i] for i in rows) for of in (self.sounds, self.texts))
        return replace(self, sounds=sounds, texts=texts, remarks=())

    def digest(self) -> str:
        """A fingerprint of all of it."""
        found = hashlib.sha256()
        for sound, text in zip(self.sounds, self.texts, strict=True):
            found.update(f"{sound.rate} {len(sound.samples)} {text}\n".encode("utf-8", "surrogatepass"))
            found.update(sound.samples.tobytes())
        return found.hexdigest()


def read_speech_corpus(data: Any, rate: int, trim: float = 40.0) -> SpeechCorpus:
    """Recordings with their texts.

    Each is brought to one channel and to ``rate``, its mean is taken off (a constant offset is no sound), and what is
    ``trim`` dB quieter than its loudest moment is cut off at both ends. One that is silent throughout, or whose text
    is blank, is left out and counted.

    Args:
        data: A folder or a ``.zip`` (zips in the folder are looked into); or a table in a folder; or
            ``(sounds, texts)``, a sound being a :class:`AudioClip`, a file, or ``(samples, rate)``. Of files the texts
            stand in ``metadata.csv``, ``id|text|normalised text`` as LJSpeech has it; in another ``.csv`` or ``.tsv``
            with the columns ``path`` and ``text``; or, for ``a.wav``, in ``a.txt``. All are UTF-8.
        rate: Samples a second.
        trim: In dB; 0 to cut nothing off.

    Raises:
        DataError: What cannot be read, with place and remedy.

    >>> hum = 0.5 * np.sin(np.arange(4000) / 5)
    >>> read_speech_corpus(([(hum, 8000), (0 * hum, 8000)], ["mm", "nothing"]), 8000).remarks
    ('1 silent',)
    """
    if isinstance(data, SpeechCorpus):
        return data
    if isinstance(data, (str, os.PathLike)):
        name, (texts, load) = Path(data).name, _from_files(Path(data))
    else:
        name, (texts, load) = "the recordings", _from_lists(data, rate)
    sounds, kept, blank, silent, clipped = [], [], 0, 0, 0
    for i, text in enumerate(texts):
        if not text.strip():
            blank += 1
            continue
        sound = load(i)
        if (peak := float(np.abs(sound.samples).max())) > _MAX_AMPLITUDE:
            raise DataError(f"{sound.name} is {peak:.3g} times as loud as full scale: save it with 16 bits")
        clipped += float((np.abs(sound.samples) >= _FULL_SCALE).mean()) > _MAX_CLIPPED_FRACTION
        heard = trim_silence(resampled(sound, rate), trim)
        if heard is None:
            silent += 1
            continue
        sounds.append(heard)
        kept.append(" ".join(text.split()))
    if not sounds:
        raise DataError(f"{name} has no recording that can be heard and whose text is known ({len(texts)} in all)")
    counts = {"without a text": blank, "silent": silent, "clipped, kept as they are": clipped}
    remarks = tuple(f"{count:,} {what}" for what, count in counts.items() if count)
    return SpeechCorpus(tuple(sounds), tuple(kept), name, remarks)


def trim_silence(sound: AudioClip, decibels: float) -> AudioClip | None:
    """Without its mean, and without what is so much quieter than its loudest moment at its ends; ``None`` if silent."""
    from librosa.effects import trim

    samples = sound.samples - sound.samples.mean(dtype=np.float64).astype(np.float32)
    if np.abs(samples).max() < 2**-15:  # half a step of 16 bits
        return None
    if decibels:
        length = max(2, round(_TRIM_FRAME * sound.rate))
        samples, _ = trim(samples, top_db=decibels, frame_length=length, hop_length=length // 2)
    return replace(sound, samples=samples)


def read_zipped_audio(path: Path, rate: int, wanted: Callable[[str], bool]) -> Iterator[tuple[str, AudioClip]]:
    """Sounds in a zip by their names, at ``rate``, without texts.

    Args:
        path: The zip.
        rate: Samples a second.
        wanted: Asked of each name.

    Raises:
        DataError: It cannot be read, or one of them.
    """
    for name, load in _in_zip(path).items():
        if name.lower().endswith(FILE_SUFFIXES) and wanted(name):
            yield name, read_audio(load(), rate, name)


# ---- lists -----------------------------------------------------------------------------------------------------------


def _from_lists(data: Any, rate: int) -> tuple[list[str], Callable[[int], AudioClip]]:
    if not isinstance(data, tuple) or len(data) != 2 or any(not isinstance(side, (list, tuple)) for side in data):
        raise DataError(f"give a folder, a .zip, a table, or (sounds, texts), not {type(data).__name__}")
    sounds, texts = data
    if len(sounds) != len(texts):
        raise DataError(f"there are {len(sounds):,} sounds and {len(texts):,} texts: give a text for each")
    for i, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise DataError(f"text {i} is {type(text).__name__} {one_line(repr(text))}, not text")
    return list(texts), lambda i: _sound(sounds[i], f"sound {i + 1}", rate)


def _sound(given: Any, name: str, rate: int) -> AudioClip:
    if isinstance(given, AudioClip):
        return given
    if isinstance(given, (str, os.PathLike)):
        return read_audio(Path(given))
    samples, own = given if isinstance(given, tuple) and len(given) == 2 else (given, rate)
    if isinstance(own, bool) or not isinstance(own, (int, np.integer)):
        raise DataError(f"{name}: give a file, a Sound, or (samples, rate), the rate a whole number")
    try:
        return audio_from_array(samples, int(own), name)
    except ValueError as err:
        raise DataError(f"{name}: give a file, a Sound, or (samples, rate) ({one_line(err)})") from err


# ---- files -----------------------------------------------------------------------------------------------------------


def _from_files(path: Path) -> tuple[list[str], Callable[[int], AudioClip]]:
    if not path.exists():
        raise DataError(f"there is no file or folder {path}")
    table = path.name if path.is_file() and path.suffix.lower() in _TABLES else None
    if path.is_file() and table is None and path.suffix.lower() != ".zip":
        raise DataError(f"{path.name} is no folder, .zip or table of recordings and their texts: give one of these")
    files = (
        _in_zip(path)
        if path.suffix.lower() == ".zip" and path.is_file()
        else _in_folder(path.parent if table else path)
    )
    sounds = [name for name in files if name.lower().endswith(FILE_SUFFIXES)]
    if not sounds:
        raise DataError(f"{path.name} has no sound files ({', '.join(FILE_SUFFIXES[:4])}, …)")
    rows = _rows(files, sounds, table or _table(files), path.name)
    return [text for _, text in rows], lambda i: read_audio(files[rows[i][0]](), name=rows[i][0])


def _in_folder(folder: Path) -> _Files:
    """Every file below it by its path in it, those in zips as if these were folders."""
    found: _Files = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() == ".zip" and path.is_file():
            found |= _in_zip(path)
        elif path.is_file():
            found[path.relative_to(folder).as_posix()] = path.read_bytes
    return found


def _in_zip(path: Path) -> _Files:
    archive = zips.open_zip(path)
    return {name: partial(zips.read_member, archive, name, path.name) for name in zips.file_names(archive)}


def _table(files: _Files) -> str | None:
    """Which of the files says what is said, if one does."""
    tables = [name for name in files if name.lower().endswith(_TABLES)]
    for_sure = [name for name in tables if PurePosixPath(name).name.lower() == METADATA_FILE]
    for found in (for_sure, tables):
        if len(found) > 1:
            raise DataError(f"there are several tables ({listing(found)}): give the path of the one with the texts")
        if found:
            return found[0]
    return None


def _rows(files: _Files, sounds: list[str], table: str | None, name: str) -> list[tuple[str, str]]:
    """``(sound's file, text)``."""
    if table is None:
        texts = {str(PurePosixPath(sound).with_suffix(".txt")): sound for sound in sounds}
        rows = [(sound, _text(files[text](), text)) for text, sound in texts.items() if text in files]
        if not rows:
            raise DataError(
                f"{name} does not say what is said: give a {METADATA_FILE} (id|text), a .csv with the columns path and text, "
                f"or beside {PurePosixPath(sounds[0]).name} a .txt of that name"
            )
        return rows
    places: dict[str, list[str]] = {}
    for sound in sounds:
        parts = PurePosixPath(sound).parts
        for start in range(len(parts)):
            whole = "/".join(parts[start:])
            for key in {whole, str(PurePosixPath(whole).with_suffix(""))}:
                places.setdefault(key, []).append(sound)
    found = []
    for line, sound, text in _cells(_text(files[table](), table), table):
        wanted = PurePosixPath(sound.replace("\\", "/")).as_posix().removeprefix("./")
        here = places.get(wanted, [])
        if len(here) != 1:
            what = "there is no sound" if not here else f"there are several sounds ({listing(here)}) for"
            raise DataError(f"{table}, line {line}: {what} {one_line(sound)!r}")
        found.append((here[0], text))
    if not found:
        raise DataError(f"{table} has no rows")
    return found


def _cells(text: str, table: str) -> Iterator[tuple[int, str, str]]:
    """Line, sound and text of each row."""
    first = text.split("\n", 1)[0]
    if "|" in first:
        for line, row in enumerate(text.split("\n"), 1):
            cells = row.split("|")
            if len(cells) < 2 and row.strip():
                raise DataError(f"{table}, line {line}: {one_line(row)!r} is not id|text")
            if row.strip():
                yield line, cells[0].strip(), next((cell for cell in cells[2:3] if cell.strip()), cells[1])
        return
    rows = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in first else ",")
    names = [name.strip().lower() for name in rows.fieldnames or []]
    if not {"path", "text"} <= {*names}:
        raise DataError(f"{table} has the columns {listing(names)}: give path and text, or id|text without a header")
    rows.fieldnames = names
    try:
        for row in rows:
            yield rows.line_num, row["path"] or "", row["text"] or ""
    except csv.Error as err:
        raise DataError(f"{table}, line {rows.line_num}: {one_line(err)}") from err


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as err:
        raise DataError(f"{name} is not UTF-8: save it as UTF-8") from err
