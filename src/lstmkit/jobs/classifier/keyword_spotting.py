"""Keyword spotting: find the spoken commands in long recordings, also while they come in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmkit.data.arrays import as_array
from lstmkit.data.audio.audio_io import AudioClip, Resampler, read_audio_blocks, resample
from lstmkit.data.labeled_examples import LabeledExamples
from lstmkit.data.media_files import MediaItem, MediaItems
from lstmkit.errors import DataError, SettingError, UserError
from lstmkit.frontends.augmented_log_mel import AugmentedLogMelFrontEnd
from lstmkit.jobs.classifier.predictor import KINDS, ClassifierPredictor

_FRAMES_PER_CHUNK = 20  # always as many, so that sums do not depend on how samples arrive
_ONSET_DB = 10.0  # above the background level
_MIN_LEVEL_DBFS = -55.0
_NOISE_WINDOW_BEFORE, _NOISE_WINDOW_AFTER = 6.0, 1.0  # seconds around a frame; their minimum is the background level
_NOISE_FRAMES = 5  # averaged for the background level
_MIN_KEYWORD_SECONDS = 0.06
_KEYWORD_MARGIN_SECONDS = 0.1  # read before and after a keyword
_MAX_TEST_KEYWORDS = 300
_PAUSE_RANGE = (0.3, 1.0)  # seconds between the clips of a test recording
_NOISE_LEVEL_DBFS = -60.0  # of a test recording


class KeywordDetection(NamedTuple):
    """A keyword in a recording.

    Attributes:
        start, end: Seconds from the start of the recording.
        label: The keyword.
        probability: Probability of the label, given that one of the labels was spoken.
    """

    start: float
    end: float
    label: str
    probability: float


def check_keyword_spotting(predictor: ClassifierPredictor, min_probability: float, min_silence_seconds: float) -> None:
    """Raise UserError if the model cannot spot keywords or an option is out of range."""
    if predictor.multi_label:
        raise UserError(
            "this model was trained with several labels per clip; keyword spotting needs exactly one: fit without "
            "label_sep"
        )
    if not isinstance(predictor.front_end, AugmentedLogMelFrontEnd):
        kind = KINDS[predictor.front_end.kind][0]
        raise UserError(f"this model was trained on {kind}; keyword spotting needs a model of audio clips")
    if not 0 <= min_probability <= 1:
        raise SettingError(f"the minimum probability of a keyword must be from 0 to 1, got {min_probability:g}")
    if not 0.02 <= min_silence_seconds <= 5:
        raise SettingError(f"min_silence_seconds must be from 0.02 to 5, got {min_silence_seconds:g}")


class KeywordSpotter:
    """Spot keywords in one recording as it comes in; made by ``Classifier.stream``.

    A frame is speech if it is 10 dB louder than the background level, the minimum over the 6 s before and the 1 s after
    it, and above -55 dB of full scale. A keyword ends with ``min_silence_seconds`` of silence. Speech that lasts longer
    than the longest training clip is split at its quietest moment. Memory does not grow with the recording.

    Args:
        predictor: A classifier of audio clips.
        sample_rate: Sample rate in Hz of what is pushed.
        min_probability: Detections below it are dropped.
        min_silence_seconds: Silence that ends a keyword.

    >>> import lstmkit, numpy as np
    >>> steps = np.arange(1600) / 8000
    >>> clips = [np.sin(2 * np.pi * hertz * steps) * np.hanning(1600) for hertz in range(300, 340)]
    >>> labels = ["even", "odd"] * 20
    >>> classifier = lstmkit.Classifier(hidden_size=4, conv_channels=2, n_mels=8, epochs=1).fit((clips, labels, 8000))
    >>> spotter = classifier.stream(sample_rate=8000)
    >>> silence = np.zeros(8000)
    >>> detections = [d for chunk in (silence, clips[0], silence) for d in spotter.push(chunk)] + spotter.finish()
    >>> [round(d.start, 1) for d in detections]
    [1.0]
    """

    def __init__(
        self, predictor: ClassifierPredictor, sample_rate: int, min_probability: float, min_silence_seconds: float
    ) -> None:
        front_end = predictor.audio_front_end
        self._predictor, self._front_end, self._min_probability = predictor, front_end, min_probability
        self._mel, self._mel_stream = front_end.mel, front_end.mel.stream()
        self._resampler = Resampler(sample_rate, front_end.mel.sample_rate)
        self._samples = np.zeros(0, dtype=np.float32)
        self._frames = np.zeros((0, front_end.mel.n_mels), dtype=np.float32)
        self._loudness, self._steady_loudness = np.zeros(0), np.zeros(0)  # of the same frames
        self._first = 0  # index of the first of these frames
        self._next = 0  # the first frame that is not classified as speech or silence yet
        self._start: int | None = None  # frame at which the current keyword starts
        self._last = 0  # the last frame of speech
        self._free = 0  # frames before it belong to an earlier keyword
        self._min_silence = self._num_frames(min_silence_seconds)
        self._margin = self._num_frames(min(_KEYWORD_MARGIN_SECONDS, min_silence_seconds))
        self._max_length = max(self._num_frames(front_end.seconds), 2 * self._min_silence)

    def _num_frames(self, seconds: float) -> int:
        return max(1, round(seconds / self._mel.hop_seconds))

    def push(self, samples: np.ndarray) -> list[KeywordDetection]:
        """Take ``(N,)`` samples, full scale -1…1, and return the keywords that are complete by now.

        Raises:
            DataError: The samples are not one channel of finite numbers.
        """
        array = as_array(samples).astype(np.float32)
        if array.ndim != 1 or not np.isfinite(array).all():
            raise DataError(f"samples must be finite numbers of shape (N,), got the shape {array.shape}")
        return self._take(self._resampler.push(array), self._mel.hop_length * _FRAMES_PER_CHUNK)

    def finish(self) -> list[KeywordDetection]:
        """End the recording and return the remaining keywords."""
        detections = self._take(self._resampler.finish(), 1)
        detections += self._detect_until(self._first + len(self._frames))
        if self._start is not None:
            detections += self._finish_keyword(self._start, self._last)
        return detections

    def _take(self, samples: np.ndarray, min_samples: int) -> list[KeywordDetection]:
        """Process samples at the model's rate in chunks of equal size, the last one down to ``min_samples``."""
        self._samples = np.concatenate([self._samples, samples])
        detections: list[KeywordDetection] = []
        while len(self._samples) >= min_samples:
            chunk, self._samples = np.split(self._samples, [self._mel.hop_length * _FRAMES_PER_CHUNK])
            self._append_frames(self._mel_stream.push(chunk))
            detections += self._detect_until(self._first + len(self._frames) - self._num_frames(_NOISE_WINDOW_AFTER))
            self._drop_frames()
        return detections

    def _append_frames(self, frames: np.ndarray) -> None:
        if not len(frames):
            return
        loudness = self._front_end.loudness(frames)
        before = self._loudness[max(0, len(self._loudness) - _NOISE_FRAMES + 1) :]
        known = np.concatenate([np.full(_NOISE_FRAMES - 1 - len(before), math.inf), before, loudness])
        steady = np.lib.stride_tricks.sliding_window_view(known, _NOISE_FRAMES).mean(axis=1)
        self._frames = np.concatenate([self._frames, frames])
        self._loudness = np.concatenate([self._loudness, loudness])
        self._steady_loudness = np.concatenate([self._steady_loudness, steady])

    def _detect_until(self, end: int) -> list[KeywordDetection]:
        """Classify the frames before ``end`` as speech or silence; return the keywords that end there."""
        detections: list[KeywordDetection] = []
        before, after = self._num_frames(_NOISE_WINDOW_BEFORE), self._num_frames(_NOISE_WINDOW_AFTER)
        for t in range(self._next, end):
            window = slice(max(0, t - before - self._first), t + after - self._first)
            threshold = max(float(self._steady_loudness[window].min()) + _ONSET_DB, _MIN_LEVEL_DBFS)
            if self._loudness[t - self._first] > threshold:
                self._start = t if self._start is None else self._start
                self._last = t
            elif self._start is not None and t - self._last >= self._min_silence:
                detections += self._finish_keyword(self._start, self._last)
                self._start = None
            if self._start is not None and t - self._start >= self._max_length:
                detections += self._split_long(self._start)
        self._next = max(self._next, end)
        return detections

    def _split_long(self, start: int) -> list[KeywordDetection]:
        """Split speech that is too long at the quietest moment of its second half."""
        half = start + self._max_length // 2
        quietest = half + int(self._loudness[half - self._first : self._last + 1 - self._first].argmin())
        self._start = quietest + 1
        return self._finish_keyword(start, quietest)

    def _finish_keyword(self, start: int, last: int) -> list[KeywordDetection]:
        """Classify the speech from frame ``start`` to ``last``; return it if it is a keyword."""
        begin, end = max(self._free, start - self._margin), last + 1 + self._margin
        self._free = last + 1
        if last + 1 - start < self._num_frames(_MIN_KEYWORD_SECONDS):
            return []
        frames = self._frames[max(0, begin - self._first) : end - self._first]
        label, probability = self._predictor.top_label(self._front_end.normalize(frames))
        if probability < self._min_probability:
            return []
        mel = self._mel
        return [
            KeywordDetection(start * mel.hop_seconds, last * mel.hop_seconds + mel.window_seconds, label, probability)
        ]

    def _drop_frames(self) -> None:
        """Drop the frames that are no longer needed."""
        oldest = self._next if self._start is None else self._start
        done = min(oldest - self._margin, self._next - self._num_frames(_NOISE_WINDOW_BEFORE)) - self._first - 1
        if done > 0:
            self._first += done
            self._frames, self._loudness, self._steady_loudness = (
                kept[done:] for kept in (self._frames, self._loudness, self._steady_loudness)
            )


def spot_keywords(
    predictor: ClassifierPredictor, recording: MediaItem, min_probability: float, min_silence_seconds: float
) -> list[KeywordDetection]:
    """The keywords in a recording of any length, read block by block."""
    rate = predictor.audio_front_end.mel.sample_rate
    spotter = KeywordSpotter(predictor, rate, min_probability, min_silence_seconds)
    detections = [detection for block in audio_blocks(recording, rate) for detection in spotter.push(block)]
    return detections + spotter.finish()


def spot_keywords_in(
    predictor: ClassifierPredictor, recordings: Any, min_probability: float, min_silence_seconds: float
) -> list[tuple[Any, ...]]:
    """The id of the recording, start, end, label and probability of every keyword in several recordings.

    Raises:
        DataError: ``recordings`` are not recordings.
    """
    if not isinstance(recordings, MediaItems):
        raise DataError("the data are not recordings: give audio files, or (arrays, None, sample_rate)")
    return [
        (recording.id, *detection)
        for recording in recordings.iterate()
        for detection in spot_keywords(predictor, recording, min_probability, min_silence_seconds)
    ]


def audio_blocks(recording: MediaItem, sample_rate: int) -> Iterator[np.ndarray]:
    """A recording as blocks ``(N,)`` of samples, resampled."""
    if isinstance(recording.source, AudioClip):
        return iter([resample(recording.source, sample_rate).samples])
    if not isinstance(recording.source, (Path, bytes)):
        raise DataError(f"{recording.id} is not audio, but this model reads audio clips: give audio files")
    return read_audio_blocks(recording.source, sample_rate, name=recording.id)


# ---- evaluation ------------------------------------------------------------------------------------------------------


class ConcatenatedRecording(NamedTuple):
    """Clips joined with pauses: the recording, and when each keyword was spoken, with its label."""

    audio: AudioClip
    keywords: list[KeywordDetection]


class KeywordSpottingScores(NamedTuple):
    """Detections compared with the keywords that were spoken.

    Attributes:
        num_keywords: Keywords that were spoken.
        hits: Detected in their place with their label.
        misses: Not detected, or with another label.
        false_alarms: Detections that are not hits.
        boundary_error_seconds: Mean absolute error of the starts and ends of hits; NaN without hits.
    """

    num_keywords: int
    hits: int
    misses: int
    false_alarms: int
    boundary_error_seconds: float

    def __str__(self) -> str:
        error = f" (mean boundary error {self.boundary_error_seconds:.2f} s)" if self.hits else ""
        return (
            f"{self.hits} of {self.num_keywords} keywords detected{error}, {self.misses} missed or confused, "
            f"{self.false_alarms} false alarms"
        )


def concatenate_with_pauses(
    clips: Sequence[AudioClip], labels: Sequence[str], sample_rate: int, seed: int
) -> ConcatenatedRecording:
    """Join clips in random order, with pauses of 0.3 to 1 s and white noise at -60 dB of full scale."""
    rng = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    keywords: list[KeywordDetection] = []
    position = 0
    for i in map(int, rng.permutation(len(clips))):
        pause = round(rng.uniform(*_PAUSE_RANGE) * sample_rate)
        samples = resample(clips[i], sample_rate).samples
        parts += [np.zeros(pause, dtype=np.float32), samples]
        start, position = position + pause, position + pause + len(samples)
        keywords.append(KeywordDetection(start / sample_rate, position / sample_rate, labels[i], 1.0))
    whole = np.concatenate([*parts, np.zeros(round(_PAUSE_RANGE[1] * sample_rate), dtype=np.float32)])
    noise = 10 ** (_NOISE_LEVEL_DBFS / 20) * rng.standard_normal(len(whole), dtype=np.float32)
    return ConcatenatedRecording(AudioClip("the joined clips", whole + noise, sample_rate), keywords)


def keyword_spotting_test(
    predictor: ClassifierPredictor, examples: LabeledExamples
) -> tuple[ConcatenatedRecording, list[KeywordDetection], KeywordSpottingScores]:
    """Join at most 300 examples to one recording, spot keywords in it and score the detections."""
    labels = [label for (label,) in examples.require_labels()][:_MAX_TEST_KEYWORDS]
    rate = predictor.audio_front_end.mel.sample_rate
    recording = concatenate_with_pauses(examples.inputs[:_MAX_TEST_KEYWORDS], labels, rate, predictor.settings.seed)
    detections = spot_keywords(predictor, MediaItem("", recording.audio, None), 0.5, 0.2)
    return recording, detections, match_detections(detections, recording.keywords)


def match_detections(
    detections: Sequence[KeywordDetection], keywords: Sequence[KeywordDetection]
) -> KeywordSpottingScores:
    """Match each keyword with the first detection of its label whose middle lies within it, one to one."""
    unmatched, errors = list(detections), []
    for keyword in keywords:
        hit = next(
            (
                detection
                for detection in unmatched
                if detection.label == keyword.label
                and keyword.start <= (detection.start + detection.end) / 2 <= keyword.end
            ),
            None,
        )
        if hit is not None:
            unmatched.remove(hit)
            errors += [abs(hit.start - keyword.start), abs(hit.end - keyword.end)]
    hits = len(errors) // 2
    error = float(np.mean(errors)) if hits else math.nan
    return KeywordSpottingScores(len(keywords), hits, len(keywords) - hits, len(unmatched), error)
