"""Read, resample and write audio files, whole or in blocks, with soundfile and soxr."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from lstmkit.data.arrays import as_array
from lstmkit.data.files import check_decoded_size, check_regular_file, reading
from lstmkit.data.formats import DataFormat
from lstmkit.errors import DataError, UserError, one_line
from lstmkit.libraries import import_library

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
AUDIO = DataFormat("audio", FILE_SUFFIXES, notes="At most an hour; channels are averaged.")
#: Format and sample type of the file suffixes that can be written.
WRITABLE_FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
MAX_SECONDS = 3600.0  #: Maximum duration of a clip that is read into memory.
_BLOCK = 1 << 20  # samples that are decoded at once
_MAX_CHANNELS = 8  # of an array
_MAX_AMPLITUDE = 10.0  # times full scale; larger samples are not relative to full scale
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000  #: Plausible sample rates, in Hz.


@dataclass(frozen=True)
class AudioClip:
    """A mono audio clip.

    Attributes:
        name: Its name in messages.
        samples: ``(N,)`` float32, full scale is -1…1. Several channels are averaged.
        sample_rate: Sample rate in Hz.

    >>> AudioClip("silence", np.zeros(8000, np.float32), 16_000).seconds
    0.5
    """

    name: str
    samples: np.ndarray
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.samples) / self.sample_rate


def read_audio(source: Path | str | bytes, sample_rate: int = 0, name: str = "") -> AudioClip:
    """Read a whole audio file.

    Args:
        source: The path, or the content of the file.
        sample_rate: Target sample rate in Hz; 0 keeps that of the file.
        name: Name in messages; by default the file name.

    Raises:
        DataError: The file is not audio, empty, damaged, or longer than an hour.
        UserError: The file does not exist, or soundfile is not installed.
    """
    name = name or (source if isinstance(source, str) else source.name if isinstance(source, Path) else "the audio")
    with _open_audio(source, name) as file:
        if file.frames > MAX_SECONDS * file.samplerate:
            raise DataError(
                f"{name} has {file.frames / file.samplerate / 60:,.0f} minutes, the maximum is {MAX_SECONDS / 60:.0f}: "
                "split it, or stream it"
            )
        check_decoded_size(4 * file.frames, name)
        source_rate = file.samplerate
        blocks = list(itertools.takewhile(len, (_read(file, _BLOCK, name) for _ in itertools.count())))
    if not blocks:
        raise DataError(f"{name} has no samples: record or export it again")
    samples = np.concatenate(blocks)
    return (
        resample(AudioClip(name, samples, source_rate), sample_rate)
        if sample_rate
        else AudioClip(name, samples, source_rate)
    )


def audio_from_array(samples: Any, sample_rate: int, name: str = "the audio") -> AudioClip:
    """Audio clip of samples ``(N,)``, ``(N, channels)`` or ``(channels, N)`` with at most 8 channels.

    Floats are relative to full scale, -1…1. Integers of 8 and 16 bits are scaled by the range of their dtype. Wider
    ones often hold 16-bit samples: they are scaled by the range that their values show.

    Raises:
        DataError: The shape, a value or the sample rate is invalid, or the full scale of integers is ambiguous.

    >>> audio_from_array(np.array([[0, 16384, -32768]]), 8000).samples.tolist()
    [0.0, 0.5, -1.0]
    """
    try:
        array = as_array(samples)
    except ValueError as err:  # ragged
        raise DataError(f"{name} is not an array ({one_line(err)}): give numbers (N,) or (N, channels)") from err
    if array.ndim not in (1, 2) or not array.size or array.dtype.kind not in "iuf":
        raise DataError(
            f"{name} has shape {array.shape} and dtype {array.dtype}: give at least one number as (N,) or (N, channels)"
        )
    array = array[:, None] if array.ndim == 1 else array.T if array.shape[0] < array.shape[1] else array
    if array.shape[1] > _MAX_CHANNELS:
        raise DataError(
            f"{name} has shape {np.shape(samples)}: give samples (N,), or (N, channels) with at most {_MAX_CHANNELS} "
            "channels; features of sound are not samples"
        )
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise DataError(f"{name}: sample rate {sample_rate:,} Hz: give {MIN_SAMPLE_RATE:,} to {MAX_SAMPLE_RATE:,}")
    if array.dtype.kind in "iu":
        array = _scale_integers(array, name)
    return AudioClip(name, _mono(array, name), sample_rate)


def _scale_integers(array: np.ndarray, name: str) -> np.ndarray:
    """Scale integer samples to -1…1; unsigned ones have silence in the middle of their range."""
    bits = 8 * array.dtype.itemsize
    if array.dtype.kind == "u":
        middle = 2.0 ** (bits - 1)
        if bits > 8 and array.max() < middle:  # values of a smaller range
            raise DataError(
                f"{name} has dtype {array.dtype}, but values up to {array.max()} only: convert it to the type of its "
                "samples, such as uint8"
            )
        return (array - middle) / middle
    if bits > 16:
        # 24-bit samples in 32 bits are usually shifted to the upper bits.
        peak = max(abs(int(array.min())), abs(int(array.max())))
        shifted = bits == 32 and not (array & 0xFF).any()
        ranges = ((2**7, 0), (2**15, 16), (2**23, 0), (2**31, 32))
        bits = 32 if shifted or not peak else next((bits for limit, bits in ranges if peak <= limit), 0)
        if not bits:
            raise DataError(
                f"{name} has dtype {array.dtype} and a peak of {peak:,}, so its full scale is unknown: divide by the "
                "full scale (32768 for 16-bit samples), or convert it to the type of its samples, such as int16"
            )
    return array / 2.0 ** (bits - 1)


def resample(clip: AudioClip, sample_rate: int) -> AudioClip:
    """Resample a clip to ``sample_rate`` Hz; a clip with that rate is returned unchanged.

    Raises:
        DataError: The sample rate is invalid, or the clip is too short.
    """
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise DataError(f"sample rate {sample_rate:,} Hz: give {MIN_SAMPLE_RATE:,} to {MAX_SAMPLE_RATE:,}")
    if clip.sample_rate == sample_rate:
        return clip
    samples = np.ascontiguousarray(
        import_library("soxr", "sound", "audio").resample(clip.samples, clip.sample_rate, sample_rate), dtype=np.float32
    )
    if not len(samples):
        raise DataError(
            f"{clip.name} is too short: {len(clip.samples)} samples at {clip.sample_rate:,} Hz: give a longer clip"
        )
    return AudioClip(clip.name, samples, sample_rate)


class Resampler:
    """Streaming resampler; all output together equals that of :func:`resampled`.

    Args:
        source_rate, target_rate: Sample rates in Hz.

    >>> resampler = Resampler(16_000, 8_000)
    >>> len(resampler.push(np.zeros(1600, np.float32))) + len(resampler.finish())
    800
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        for rate in (source_rate, target_rate):
            if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
                raise DataError(f"sample rate {rate:,} Hz: give {MIN_SAMPLE_RATE:,} to {MAX_SAMPLE_RATE:,}")
        self._stream: Any = None
        if source_rate != target_rate:
            self._stream = import_library("soxr", "sound", "audio").ResampleStream(
                source_rate, target_rate, 1, dtype="float32"
            )

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Resample the next ``(N,)`` float32 samples."""
        return samples if self._stream is None else self._resample(samples, last=False)

    def finish(self) -> np.ndarray:
        """The remaining output after the last samples."""
        empty = np.zeros(0, dtype=np.float32)
        return empty if self._stream is None else self._resample(empty, last=True)

    def _resample(self, samples: np.ndarray, last: bool) -> np.ndarray:
        assert self._stream is not None
        return np.asarray(self._stream.resample_chunk(samples, last=last), dtype=np.float32)


def read_audio_blocks(
    source: Path | str | bytes, sample_rate: int, seconds: float = 10.0, name: str = ""
) -> Iterator[np.ndarray]:
    """Read an audio file of any length in blocks; all blocks together equal :func:`read_audio`.

    Args:
        source: The path, or the content of the file.
        sample_rate: Sample rate of the blocks, in Hz.
        seconds: Duration of a block.
        name: Name in messages; by default the file name.

    Yields:
        Samples ``(N,)`` float32, never empty.

    Raises:
        DataError, UserError: As :func:`read_audio`, but without maximum duration.
    """
    name = name or ("the audio" if isinstance(source, bytes) else Path(source).name)
    has_samples = False
    with _open_audio(source, name) as file:
        resampler = Resampler(file.samplerate, sample_rate)
        while True:
            block = _read(file, max(1, int(seconds * file.samplerate)), name)
            is_end = not len(block)
            block = resampler.finish() if is_end else resampler.push(block)
            if len(block):
                has_samples = True
                yield block
            if is_end:
                break
    if not has_samples:
        raise DataError(f"{name} has no samples: record or export it again")


def encode_audio(clip: AudioClip, suffix: str = ".wav") -> bytes:
    """Encode a clip as a file with a suffix of :data:`WRITTEN`. Samples beyond full scale are clipped."""
    file, (kind, samples) = io.BytesIO(), WRITABLE_FORMATS[suffix]
    import_library("soundfile", "sound", "audio").write(
        file, np.clip(clip.samples, -1, 1), clip.sample_rate, format=kind, subtype=samples
    )
    return file.getvalue()


def check_writable(path: Path, suffixes: Iterable[str] = tuple(WRITABLE_FORMATS)) -> None:
    """Raise UserError if the suffix of a path is an audio format that cannot be written."""
    suffix = path.suffix.lower()
    if suffix in (*FILE_SUFFIXES, ".m4a", ".aac") and suffix not in suffixes:
        raise UserError(
            f"{path.name}: this audio format cannot be written: give a file name that ends in {', '.join(suffixes)}"
        )


class _Buffer(io.BytesIO):
    """Bytes in which a damaged file may seek to a negative position: it stays where it is."""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _open_audio(source: Path | str | bytes, name: str) -> Any:
    """Open a ``soundfile.SoundFile``."""
    soundfile = import_library("soundfile", "sound", "audio")
    if not isinstance(source, bytes):
        path = check_regular_file(Path(source))
        if not path.stat().st_size:
            raise DataError(f"{name} is empty: record or export it again")
    elif not source:
        raise DataError(f"{name} is empty: record or export it again")
    with reading(name, "is not a readable audio file", "save it as WAV or FLAC"):
        file = soundfile.SoundFile(_Buffer(source) if isinstance(source, bytes) else str(source))
    if not MIN_SAMPLE_RATE <= file.samplerate <= MAX_SAMPLE_RATE:
        with file:
            raise DataError(
                f"{name} has a sample rate of {file.samplerate:,} Hz: give {MIN_SAMPLE_RATE:,} to {MAX_SAMPLE_RATE:,}"
            )
    return file


def _read(file: Any, frames: int, name: str) -> np.ndarray:
    """The next samples, averaged to mono; none at the end."""
    with reading(name, "is damaged"):
        samples = file.read(frames, dtype="float32", always_2d=True)
    return _mono(cast(np.ndarray, samples), name)


def _mono(samples: np.ndarray, name: str) -> np.ndarray:
    """The mean ``(N,)`` float32 of channels ``(N, channels)``, full scale being -1…1."""
    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(peak):
        raise DataError(f"{name} has samples that are NaN or infinite: export it again")
    if peak > _MAX_AMPLITUDE:
        raise DataError(
            f"{name} has a peak of {peak:.3g} times full scale (floats from -1 to 1): divide 16-bit samples by 32768, "
            "or save them as integers"
        )
    return samples.mean(axis=1, dtype=np.float32)
