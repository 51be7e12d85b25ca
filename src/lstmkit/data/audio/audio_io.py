"""Sound files of any format and rate as numbers, whole or block by block: soundfile reads, soxr changes the rate."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from lstmkit.errors import DataError, UserError, one_line

FILE_SUFFIXES = (
    ".wav",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".mp3",
    ".aif",
    ".aiff",
    ".aifc",
    ".au",
    ".caf",
    ".w64",
    ".rf64",
)
#: Endings that are written: the kind of file, and of its samples.
WRITTEN = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
MAX_SECONDS = 3600.0  #: Of a sound that is read whole.
SLOWEST, FASTEST = 1_000, 768_000  #: Samples a second that are believed.


@dataclass(frozen=True)
class AudioClip:
    """What a microphone gave.

    Attributes:
        name: Where it is from.
        samples: ``(N,)`` float32, full scale is -1…1; of several channels the mean.
        rate: Samples a second.
    """

    name: str
    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def read_audio(source: Path | str | bytes, rate: int = 0, name: str = "") -> AudioClip:
    """A whole sound file.

    Args:
        source: Its path, or what is in it.
        rate: Samples a second wanted; 0 as it is.
        name: What messages call it; of a path by default its name.

    Raises:
        DataError: No sound, nothing in it, damaged, or longer than an hour.
        UserError: There is no such file, or soundfile is not installed.
    """
    name = name or (source if isinstance(source, str) else source.name if isinstance(source, Path) else "the sound")
    with _open_audio(source, name) as file:
        if file.frames > MAX_SECONDS * file.samplerate:
            raise DataError(
                f"{name} lasts {file.frames / file.samplerate / 60:,.0f} minutes; give at most "
                f"{MAX_SECONDS / 60:.0f} at once, or feed it live"
            )
        samples = _read(file, -1, name)
        found = file.samplerate
    if not len(samples):
        raise DataError(f"{name} has no samples: record it again")
    return resampled(AudioClip(name, samples, found), rate) if rate else AudioClip(name, samples, found)


def audio_from_array(samples: Any, rate: int, name: str = "the sound") -> AudioClip:
    """Samples ``(N,)``, or ``(N, channels)``, as a sound: whole numbers are taken for a share of their type's range.

    Raises:
        DataError: Not of that shape, nothing in it, not finite, or a rate that is none.
    """
    given = np.asarray(samples)
    if given.ndim not in (1, 2) or not given.size or given.dtype.kind not in "iuf":
        raise DataError(f"{name}: samples must be numbers (N,) or (N, channels), at least one; got {given.shape}")
    if not SLOWEST <= rate <= FASTEST:
        raise DataError(f"{name}: {rate:,} samples a second: sounds have {SLOWEST:,} to {FASTEST:,}")
    if given.dtype.kind in "iu":
        kind = np.iinfo(given.dtype)
        middle, half = (0.0, -float(kind.min)) if kind.min else ((kind.max + 1) / 2, (kind.max + 1) / 2)
        given = (given - middle) / half
    mono = given.astype(np.float32) if given.ndim == 1 else given.mean(axis=1, dtype=np.float32)
    return AudioClip(name, _require_finite(mono, name), rate)


def resampled(sound: AudioClip, rate: int) -> AudioClip:
    """The same at another rate; itself where it has that already.

    Raises:
        DataError: A rate that is none.
    """
    if not SLOWEST <= rate <= FASTEST:
        raise DataError(f"{rate:,} samples a second: sounds have {SLOWEST:,} to {FASTEST:,}")
    if sound.rate == rate:
        return sound
    samples = np.ascontiguousarray(_library("soxr").resample(sound.samples, sound.rate, rate), dtype=np.float32)
    if not len(samples):
        raise DataError(f"{sound.name} is too short: it has {len(sound.samples)} samples of 1/{sound.rate:,} s")
    return AudioClip(sound.name, samples, rate)


class Resampler:
    """Samples that come in bit by bit, brought from one rate to another: together those of :func:`resampled`."""

    def __init__(self, given: int, wanted: int) -> None:
        for rate in (given, wanted):
            if not SLOWEST <= rate <= FASTEST:
                raise DataError(f"{rate:,} samples a second: sounds have {SLOWEST:,} to {FASTEST:,}")
        self._stream = None if given == wanted else _library("soxr").ResampleStream(given, wanted, 1, dtype="float32")

    def push(self, samples: np.ndarray) -> np.ndarray:
        """What ``(N,)`` float32 samples bring."""
        return samples if self._stream is None else self._changed(samples, last=False)

    def finish(self) -> np.ndarray:
        """What is left."""
        none = np.zeros(0, dtype=np.float32)
        return none if self._stream is None else self._changed(none, last=True)

    def _changed(self, samples: np.ndarray, last: bool) -> np.ndarray:
        assert self._stream is not None
        return np.asarray(self._stream.resample_chunk(samples, last=last), dtype=np.float32)


def read_audio_blocks(
    source: Path | str | bytes, rate: int, seconds: float = 10.0, name: str = ""
) -> Iterator[np.ndarray]:
    """A file of any length, block by block, at ``rate``: together the samples of :func:`read_audio`.

    Args:
        source: Its path, or what is in it.
        rate: Samples a second.
        seconds: Of a block.
        name: What messages call it; of a path by default its name.

    Yields:
        ``(N,)`` float32, never empty.

    Raises:
        DataError: As of :func:`read_audio`, but for its length.
        UserError: Likewise.
    """
    name = name or ("the sound" if isinstance(source, bytes) else Path(source).name)
    some = False
    with _open_audio(source, name) as file:
        changed = Resampler(file.samplerate, rate)
        while True:
            block = _read(file, max(1, int(seconds * file.samplerate)), name)
            last = not len(block)
            block = changed.finish() if last else changed.push(block)
            if len(block):
                some = True
                yield block
            if last:
                break
    if not some:
        raise DataError(f"{name} has no samples: record it again")


def encode_audio(sound: AudioClip, ending: str = ".wav") -> bytes:
    """What a file with one of the :data:`WRITTEN` endings holds; what is beyond full scale is cut there."""
    file, (kind, samples) = io.BytesIO(), WRITTEN[ending]
    _library("soundfile").write(file, np.clip(sound.samples, -1, 1), sound.rate, format=kind, subtype=samples)
    return file.getvalue()


def check_writable(path: Path, written: Iterable[str] = tuple(WRITTEN)) -> None:
    """Raise UserError where a file's name asks for a kind of sound that is read and not written: no text goes there."""
    ending = path.suffix.lower()
    if ending in (*FILE_SUFFIXES, ".m4a", ".aac") and ending not in written:
        raise UserError(f"{path.name}: sounds are written as {', '.join(written)}: give another ending")


def _open_audio(source: Path | str | bytes, name: str) -> Any:
    """A :class:`soundfile.SoundFile`."""
    soundfile = _library("soundfile")
    if not isinstance(source, bytes):
        path = Path(source)
        if not path.is_file():
            raise UserError(f"{path}: there is no such file")
        if not path.stat().st_size:
            raise DataError(f"{name} is empty: record it again")
    elif not source:
        raise DataError(f"{name} is empty: record it again")
    try:
        file = soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else str(source))
    except (soundfile.SoundFileError, TypeError) as err:  # TypeError: headerless, where it asks for a rate
        raise DataError(f"{name} is no sound that can be read ({one_line(err)}): save it as WAV or FLAC") from err
    if not SLOWEST <= file.samplerate <= FASTEST:
        with file:
            raise DataError(f"{name} has {file.samplerate:,} samples a second: sounds have {SLOWEST:,} to {FASTEST:,}")
    return file


def _read(file: Any, frames: int, name: str) -> np.ndarray:
    """The next samples, one channel."""
    try:
        found = file.read(frames, dtype="float32", always_2d=True)
    except _library("soundfile").SoundFileError as err:
        raise DataError(f"{name} is damaged ({one_line(err)}): get it again") from err
    return _require_finite(cast(np.ndarray, found).mean(axis=1, dtype=np.float32), name)


def _require_finite(samples: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(samples).all():
        raise DataError(f"{name} has samples that are no numbers: save it again")
    return samples


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as err:
        raise UserError(f"sounds need {name}: pip install 'lstmkit[sound]'") from err
