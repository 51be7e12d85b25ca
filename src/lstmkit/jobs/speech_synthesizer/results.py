"""Synthesized speech, and the files it is written to."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lstmkit.data.audio.audio_io import WRITABLE_FORMATS, AudioClip, check_writable, encode_audio
from lstmkit.jobs.common.token_labels import visible_token

_ZIP_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # of files in a zip, so that the same speech makes the same file


@dataclass(frozen=True, eq=False)
class Speech:
    """Synthesized speech of one text.

    Attributes:
        text: The text.
        samples: ``(N,)`` float32, full scale is -1…1.
        sample_rate: Hz.
        frames: ``(T, F)`` natural logarithm of the power in each mel band.
        tokens: What was read of the text, and its end, ``S`` in all.
        attention: ``(T / r, S)``: the attention weights of each decoder step of ``r`` frames.
        ended: Whether the stop token ended it; otherwise it was cut off as too long.
        unknown: Characters of the text that are not in the training data; they are left out.
        transcript: What a transcriber understood, if one was given.
    """

    text: str
    samples: np.ndarray
    sample_rate: int
    frames: np.ndarray
    tokens: tuple[str, ...]
    attention: np.ndarray
    ended: bool
    unknown: tuple[str, ...] = ()
    transcript: str | None = None

    @property
    def clip(self) -> AudioClip:
        return AudioClip(self.text, self.samples, self.sample_rate)

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate

    def line(self) -> str:
        """Duration, text and notes, separated by tabs."""
        notes = [] if self.ended else ["cut off"]
        notes += [f"left out: {' '.join(map(visible_token, self.unknown))}"] if self.unknown else []
        notes += [f"transcript: {self.transcript}"] if self.transcript is not None else []
        return "\t".join([f"{self.seconds:.2f} s", self.text, *notes])


def write_speech(predictions: Sequence[Speech], path: Path) -> bool:
    """Write ``NAME.wav`` (or ``.flac``, ``.ogg``), several texts as ``NAME-1.wav`` …; a ``.zip`` holds ``1.wav``, …

    Returns:
        Whether the suffix is that of audio or a zip.
    """
    check_writable(path)
    ending = path.suffix.lower()
    if ending in WRITABLE_FORMATS:
        for i, speech in enumerate(predictions, 1):
            file = path if len(predictions) == 1 else path.with_stem(f"{path.stem}-{i}")
            file.write_bytes(encode_audio(speech.clip, ending))
    elif ending == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for i, speech in enumerate(predictions, 1):
                archive.writestr(zipfile.ZipInfo(f"{i}.wav", _ZIP_TIMESTAMP), encode_audio(speech.clip))
    return ending in (*WRITABLE_FORMATS, ".zip")
