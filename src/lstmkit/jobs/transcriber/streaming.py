"""A transcript of sound as it comes in, and long recordings piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lstmkit.data.audio.audio_io import AudioClip, Resampler
from lstmkit.decoding.ctc import GreedyDecoder
from lstmkit.errors import DataError
from lstmkit.frontends.log_mel import LogMelFrontEnd
from lstmkit.jobs.transcriber.results import Transcription, normal, transcribed

if TYPE_CHECKING:
    from lstmkit.jobs.transcriber.job import Transcriber

_PAUSE_SECONDS = 0.2  # seconds whose loudness is compared
_LAST = 3  # a recording is cut in the last third of a piece


class StreamingTranscript:
    """Follows one recording; ``Transcriber.live`` makes it.

    It keeps what was written, the network's state, and less than a frame of sound: memory does not grow with silence.
    """

    def __init__(self, job: Transcriber, front_end: LogMelFrontEnd, rate: int, name: str) -> None:
        self._job, self._front_end, self._name = job, front_end, name
        self._changed = Resampler(rate or front_end.mel.rate, front_end.mel.rate)
        self._mel, self._greedy = front_end.mel.live(), GreedyDecoder()
        self._frames = np.zeros((0, front_end.mel.bands), dtype=np.float32)
        self._samples, self._seen, self._told = 0, 0, 0
        self._text = ""
        self._state: Any = None
        self._finished = False

    def push(self, samples: Any) -> str:
        """``(N,)`` further samples from -1 to 1; what the recording says so far.

        Raises:
            DataError: Not of that shape, not finite, or the recording is finished.
        """
        given = np.asarray(samples)
        if self._finished:
            raise DataError("this recording is finished: begin another with live()")
        if given.ndim != 1 or given.dtype.kind not in "iuf" or not np.isfinite(given).all():
            raise DataError(f"give samples (N,) that are finite numbers, got {given.dtype} {given.shape}")
        if given.dtype.kind != "f":
            raise DataError("give samples as numbers from -1 to 1: divide whole ones by their type's range")
        self._take(self._changed.push(given.astype(np.float32)), last=False)
        for one in self._greedy.written[self._told :]:
            character = self._job.alphabet[one.id - 1]
            if character != " " or (self._text and not self._text.endswith(" ")):
                self._text += character
        self._told = len(self._greedy.written)
        return self._text.rstrip(" ")

    def finish(self) -> Transcription:
        """The end of the recording: the whole transcript, that of all its samples together."""
        if not self._finished:
            self._finished = True
            self._take(self._changed.finish(), last=True)
        stride, ends = self._job.stride, self._samples / self._front_end.mel.rate
        return transcribed(
            self._greedy.written,
            self._job.alphabet,
            self._name,
            self._front_end.unit,
            lambda steps: np.minimum(self._front_end.seconds(steps * stride), ends),
        )

    def _take(self, samples: np.ndarray, last: bool) -> None:
        self._samples += len(samples)
        frames = self._mel.push(samples)
        self._seen += len(frames)
        if (
            last and self._samples and not self._seen
        ):  # shorter than a frame: filled up with silence, as a whole sound is
            frames = self._mel.push(np.zeros(self._front_end.mel.length, dtype=np.float32))[:1]
        if len(frames):
            self._frames = np.concatenate([self._frames, *self._front_end.frames.encode([frames], [self._name])])
        whole = len(self._frames) if last else len(self._frames) // self._job.stride * self._job.stride
        if whole:
            self._read(self._frames[:whole])
            self._frames = self._frames[whole:]

    @torch.inference_mode()
    def _read(self, frames: np.ndarray) -> None:
        model = self._job.model.eval()
        device = next(model.parameters()).device
        outputs, self._state = model(torch.from_numpy(frames).unsqueeze(0).to(device), self._state)
        self._greedy.push(normal(outputs)[0])


def pieces(blocks: Iterable[np.ndarray], rate: int, longest: float) -> Iterator[tuple[float, AudioClip]]:
    """A recording cut at its pauses: in the last third of ``longest`` seconds, where a fifth of a second is quietest.

    Args:
        blocks: Its samples, ``(N,)`` each.
        rate: Samples a second.
        longest: Seconds of a piece.

    Yields:
        When a piece begins, in seconds, and the piece.
    """
    most, start = max(1, round(longest * rate)), 0
    rest = np.zeros(0, dtype=np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        while len(rest) > most:
            cut = _quietest_cut(rest[:most], max(1, round(_PAUSE_SECONDS * rate)))
            yield start / rate, AudioClip("a piece", rest[:cut], rate)
            start, rest = start + cut, rest[cut:]
    if len(rest):
        yield start / rate, AudioClip("a piece", rest, rate)


def _quietest_cut(samples: np.ndarray, window: int) -> int:
    """Where to cut: the middle of the quietest window in the last third."""
    first = len(samples) - max(1, len(samples) // _LAST)
    power = np.concatenate([[0.0], np.cumsum(np.square(samples[first:], dtype=np.float64))])
    if len(power) <= window:
        return len(samples)
    return first + int(np.argmin(power[window:] - power[:-window])) + max(1, window // 2)
