"""Commands in a long recording, as it comes in: where something is said, and what."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lstmkit.data.audio.audio_io import AudioClip, Resampler, read_audio_blocks, resampled
from lstmkit.data.media_files import MediaItem
from lstmkit.errors import DataError, SettingError, UserError
from lstmkit.frontends.augmented_log_mel import AugmentedLogMelFrontEnd

if TYPE_CHECKING:
    from lstmkit.data.labeled_examples import LabeledExamples
    from lstmkit.jobs.classifier.job import Classifier

_AT_ONCE = 20  # frames, always as many, so that no sum hangs on how samples come in
_ONSET_DB = 10.0  # decibels over what is quiet around it: from there on something is said
_FAINTEST = -55.0  # decibels of full scale: below nothing is said
_BEFORE, _NOISE_WINDOW_AFTER = 6.0, 1.0  # seconds in which the quietest moment is looked for
_STEADY = 5  # frames of that moment
_SHORTEST = 0.06  # seconds that something said has at least
_MARGIN = 0.1  # seconds before and after that are read too
_MAX_TEST_KEYWORDS = 300
_PAUSE_RANGE, _NOISE_LEVEL_DBFS = (
    (0.3, 1.0),
    -60.0,
)  # seconds, and decibels of full scale, of what sounds are joined with


class KeywordDetection(NamedTuple):
    """A command in a recording.

    Attributes:
        start, end: Seconds from its beginning.
        label: Which.
        probability: Of its being that one, if it is one of them.
    """

    start: float
    end: float
    label: str
    probability: float


def check(job: Classifier, sure: float, pause: float) -> None:
    """Raise UserError where a model does not tell single commands, or is asked for what cannot be."""
    if job.several or not isinstance(job.front_end, AugmentedLogMelFrontEnd):
        told = "several labels of one sound" if job.several else job.front_end.kind
        raise UserError(f"this model tells {told}: only one that learnt sounds with one label each can listen")
    if not 0 <= sure <= 1 or not 0.02 <= pause <= 5:
        raise SettingError(f"the probability must be 0 to 1 and the pause 0.02 to 5 s, not {sure:g} and {pause:g}")


class KeywordSpotter:
    """Listens to one recording; ``Classifier.live`` makes it.

    Something is said where a frame is 10 dB louder than the quietest moment of the 6 s before and the second after it,
    and above -55 dB of full scale; it ends with a pause. What goes on for longer than the longest sound of training is
    cut at its quietest moment. Samples and frames are kept only as long as they are needed.
    """

    def __init__(self, job: Classifier, rate: int, sure: float, pause: float) -> None:
        front_end = job.audio_frontend
        self._job, self._front_end, self._sure = job, front_end, sure
        self._mel, self._stream = front_end.mel, front_end.mel.live()
        self._change = Resampler(rate, front_end.mel.rate)
        self._samples = np.zeros(0, dtype=np.float32)
        self._frames = np.zeros((0, front_end.mel.bands), dtype=np.float32)
        self._loudness, self._quiet = np.zeros(0), np.zeros(0)  # of the same frames
        self._first = 0  # number of the first of these frames
        self._next = 0  # the first that is not judged yet
        self._start: int | None = None  # since when something is being said
        self._last = 0  # the last frame in which it was
        self._free = 0  # before which frames belong to another command
        self._pause, self._margin = self._count(pause), self._count(min(_MARGIN, pause))
        self._longest = max(self._count(front_end.seconds), 2 * self._pause)

    def _count(self, seconds: float) -> int:
        return max(1, round(seconds / self._mel.hop))

    def push(self, samples: np.ndarray) -> list[KeywordDetection]:
        """``(N,)`` samples, full scale -1…1: the commands that are over and known by now.

        Raises:
            DataError: They are not one channel of finite numbers.
        """
        given = np.asarray(samples, dtype=np.float32)
        if given.ndim != 1 or not np.isfinite(given).all():
            raise DataError(f"give samples (N,), finite numbers; got the shape {given.shape}")
        return self._take(self._change.push(given), self._mel.step * _AT_ONCE)

    def finish(self) -> list[KeywordDetection]:
        """The recording is over: the commands that were not told yet."""
        found = self._take(self._change.finish(), 1)
        found += self._detect_until(self._first + len(self._frames))
        if self._start is not None:
            found += self._close(self._start, self._last)
        return found

    def _take(self, samples: np.ndarray, least: int) -> list[KeywordDetection]:
        """Samples at the model's rate: always as many at once, and fewer only down to ``least``."""
        self._samples = np.concatenate([self._samples, samples])
        found: list[KeywordDetection] = []
        while len(self._samples) >= least:
            piece, self._samples = np.split(self._samples, [self._mel.step * _AT_ONCE])
            self._append_frames(self._stream.push(piece))
            found += self._detect_until(self._first + len(self._frames) - self._count(_NOISE_WINDOW_AFTER))
            self._forget()
        return found

    def _append_frames(self, frames: np.ndarray) -> None:
        if not len(frames):
            return
        loudness = self._front_end.loudness(frames)
        before = self._loudness[max(0, len(self._loudness) - _STEADY + 1) :]
        known = np.concatenate([np.full(_STEADY - 1 - len(before), math.inf), before, loudness])
        steady = np.lib.stride_tricks.sliding_window_view(known, _STEADY).mean(axis=1)
        self._frames = np.concatenate([self._frames, frames])
        self._loudness = np.concatenate([self._loudness, loudness])
        self._quiet = np.concatenate([self._quiet, steady])

    def _detect_until(self, until: int) -> list[KeywordDetection]:
        """The frames before ``until``: what is said in them."""
        found: list[KeywordDetection] = []
        for t in range(self._next, until):
            around = slice(
                max(0, t - self._count(_BEFORE) - self._first), t + self._count(_NOISE_WINDOW_AFTER) - self._first
            )
            level = max(float(self._quiet[around].min()) + _ONSET_DB, _FAINTEST)
            if self._loudness[t - self._first] > level:
                self._start = t if self._start is None else self._start
                self._last = t
            elif self._start is not None and t - self._last >= self._pause:
                found += self._close(self._start, self._last)
                self._start = None
            if self._start is not None and t - self._start >= self._longest:
                found += self._cut(self._start)
        self._next = max(self._next, until)
        return found

    def _cut(self, start: int) -> list[KeywordDetection]:
        """What goes on for too long, up to the quietest moment of its second half."""
        half = start + self._longest // 2
        middle = half + int(self._loudness[half - self._first : self._last + 1 - self._first].argmin())
        self._start = middle + 1
        return self._close(start, middle)

    def _close(self, start: int, last: int) -> list[KeywordDetection]:
        """The answer to what was said from one frame to another, if it is one."""
        begin, end = max(self._free, start - self._margin), last + 1 + self._margin
        self._free = last + 1
        if last + 1 - start < self._count(_SHORTEST):
            return []
        said = self._frames[max(0, begin - self._first) : end - self._first]
        label, probability = self._job.named(self._front_end.heard(said))
        if probability < self._sure:
            return []
        mel = self._mel
        return [KeywordDetection(start * mel.hop, last * mel.hop + mel.window, label, probability)]

    def _forget(self) -> None:
        """Frames that nothing can ask for any more."""
        oldest = self._next if self._start is None else self._start
        done = min(oldest - self._margin, self._next - self._count(_BEFORE)) - self._first - 1
        if done > 0:
            self._first += done
            self._frames, self._loudness, self._quiet = (
                kept[done:] for kept in (self._frames, self._loudness, self._quiet)
            )


def heard(job: Classifier, take: MediaItem, sure: float, pause: float) -> list[KeywordDetection]:
    """The commands in a recording of any length, read block by block."""
    rate = job.audio_frontend.mel.rate
    ear = KeywordSpotter(job, rate, sure, pause)
    found = [one for block in blocks(take, rate) for one in ear.push(block)]
    return found + ear.finish()


def blocks(take: MediaItem, rate: int) -> Iterator[np.ndarray]:
    """``(N,)`` samples, one after another."""
    if isinstance(take.source, AudioClip):
        return iter([resampled(take.source, rate).samples])
    if not isinstance(take.source, (Path, bytes)):
        raise DataError(f"{take.id} is no sound, and this model hears sounds: give sound files")
    return read_audio_blocks(take.source, rate, name=take.id)


# ---- how well --------------------------------------------------------------------------------------------------------


class ConcatenatedRecording(NamedTuple):
    """Sounds one after another, with pauses: the whole, and when each was said, with its label."""

    sound: AudioClip
    said: list[KeywordDetection]


class KeywordSpottingScores(NamedTuple):
    """How what was heard meets what was said.

    Attributes:
        said: How many commands there were.
        hits: That were heard as what they were, while they were said.
        misses: That were not.
        false_alarms: Heard, and no hit.
        error: Seconds by which beginning and end of a hit are off, on average; NaN without hits.
    """

    said: int
    hits: int
    misses: int
    false_alarms: int
    error: float

    def __str__(self) -> str:
        off = f", their beginnings and ends off by {self.error:.2f} s on average" if self.hits else ""
        return (
            f"of {self.said} commands {self.hits} were heard{off}, {self.misses} were missed or taken for another, "
            f"and there were {self.false_alarms} false alarms"
        )


def joined(sounds: Sequence[AudioClip], labels: Sequence[str], rate: int, seed: int) -> ConcatenatedRecording:
    """Sounds in an order at random, after pauses of 0.3 to 1 s, all of it in noise of -60 dB of full scale."""
    rng = np.random.default_rng(seed)
    pieces: list[np.ndarray] = []
    said: list[KeywordDetection] = []
    now = 0
    for i in map(int, rng.permutation(len(sounds))):
        quiet = round(rng.uniform(*_PAUSE_RANGE) * rate)
        samples = resampled(sounds[i], rate).samples
        pieces += [np.zeros(quiet, dtype=np.float32), samples]
        start, now = now + quiet, now + quiet + len(samples)
        said.append(KeywordDetection(start / rate, now / rate, labels[i], 1.0))
    whole = np.concatenate([*pieces, np.zeros(round(_PAUSE_RANGE[1] * rate), dtype=np.float32)])
    noise = 10 ** (_NOISE_LEVEL_DBFS / 20) * rng.standard_normal(len(whole), dtype=np.float32)
    return ConcatenatedRecording(AudioClip("the joined sounds", whole + noise, rate), said)


def keyword_spotting_test(
    job: Classifier, examples: LabeledExamples
) -> tuple[ConcatenatedRecording, list[KeywordDetection], KeywordSpottingScores]:
    """Examples joined, at most 300 of them: the whole, what the model hears in it, and how that meets what was said."""
    labels = [label for (label,) in examples.require_labels()]
    whole = joined(
        examples.inputs[:_MAX_TEST_KEYWORDS], labels[:_MAX_TEST_KEYWORDS], job.audio_frontend.mel.rate, job.seed
    )
    found = heard(job, MediaItem("", whole.sound, None), 0.5, 0.2)
    return whole, found, met(found, whole.said)


def met(found: Sequence[KeywordDetection], said: Sequence[KeywordDetection]) -> KeywordSpottingScores:
    """A command is hit by the first of its label whose middle lies in it; each counts for one."""
    free, errors = list(found), []
    for one in said:
        hit = next((h for h in free if h.label == one.label and one.start <= (h.start + h.end) / 2 <= one.end), None)
        if hit is not None:
            free.remove(hit)
            errors += [abs(hit.start - one.start), abs(hit.end - one.end)]
    hits = len(errors) // 2
    return KeywordSpottingScores(
        len(said), hits, len(said) - hits, len(free), float(np.mean(errors)) if hits else math.nan
    )
