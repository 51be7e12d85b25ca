"""Streaming transcription."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lstmkit.data.arrays import as_array
from lstmkit.data.audio.audio_io import Resampler
from lstmkit.decoding.ctc import GreedyDecoder
from lstmkit.decoding.transcription import Transcription, to_transcription
from lstmkit.errors import DataError
from lstmkit.frontends.log_mel import LogMelFrontEnd
from lstmkit.jobs.transcriber.results import log_probabilities
from lstmkit.models.base import Model


class StreamingTranscript:
    """Transcribes one recording as it arrives; ``Transcriber.stream`` makes it.

    It keeps the text, the network's state and less than one frame of audio, so silence needs no memory.

    Args:
        model: The network; it reads in one direction.
        front_end: Converts audio to log-mel frames.
        alphabet: The characters, in the order of their classes.
        stride: Frames per encoder step.
        sample_rate: Hz of the samples to come; 0 for the front end's.
        name: Name of the transcription.
    """

    def __init__(
        self, model: Model, front_end: LogMelFrontEnd, alphabet: str, stride: int, sample_rate: int, name: str
    ) -> None:
        self._model, self._front_end, self._name = model.eval(), front_end, name
        self._alphabet, self._stride = alphabet, stride
        self._resampler = Resampler(sample_rate or front_end.mel.sample_rate, front_end.mel.sample_rate)
        self._mel, self._greedy = front_end.mel.stream(), GreedyDecoder()
        self._frames = np.zeros((0, front_end.mel.n_mels), dtype=np.float32)
        self._samples, self._num_frames, self._num_read = 0, 0, 0
        self._text = ""
        self._state: Any = None
        self._finished = False

    def push(self, samples: Any) -> str:
        """Add samples ``(N,)`` from -1 to 1 and return the text so far.

        Raises:
            DataError: The samples have another shape or are not finite, or the recording is finished.
        """
        given = as_array(samples)
        if self._finished:
            raise DataError("this recording is finished: start another with stream()")
        if given.ndim != 1 or given.dtype.kind not in "iuf" or not np.isfinite(given).all():
            raise DataError(f"samples must be finite numbers of shape (N,), got {given.dtype} {given.shape}")
        if given.dtype.kind != "f":
            raise DataError("samples must be from -1 to 1: divide integers by the range of their type")
        self._take(self._resampler.push(given.astype(np.float32)), last=False)
        for decoded in self._greedy.characters[self._num_read :]:
            character = self._alphabet[decoded.id - 1]
            if character != " " or (self._text and not self._text.endswith(" ")):
                self._text += character
        self._num_read = len(self._greedy.characters)
        return self._text.rstrip(" ")

    def finish(self) -> Transcription:
        """End the recording and return its transcription."""
        if not self._finished:
            self._finished = True
            self._take(self._resampler.finish(), last=True)
        stride, ends = self._stride, self._samples / self._front_end.mel.sample_rate
        return to_transcription(
            self._greedy.characters,
            self._alphabet,
            self._name,
            self._front_end.unit,
            lambda steps: np.minimum(self._front_end.seconds(steps * stride), ends),
        )

    def _take(self, samples: np.ndarray, last: bool) -> None:
        self._samples += len(samples)
        frames = self._mel.push(samples)
        self._num_frames += len(frames)
        if (
            last and self._samples and not self._num_frames
        ):  # shorter than a frame: padded with silence, as a whole clip is
            frames = self._mel.push(np.zeros(self._front_end.mel.window_length, dtype=np.float32))[:1]
        if len(frames):
            self._frames = np.concatenate([self._frames, *self._front_end.frames.encode([frames], [self._name])])
        whole = len(self._frames) if last else len(self._frames) // self._stride * self._stride
        if whole:
            self._read(self._frames[:whole])
            self._frames = self._frames[whole:]

    @torch.inference_mode()
    def _read(self, frames: np.ndarray) -> None:
        device = next(self._model.parameters()).device
        outputs, self._state = self._model(torch.from_numpy(frames).unsqueeze(0).to(device), self._state)
        self._greedy.push(log_probabilities(outputs)[0])
