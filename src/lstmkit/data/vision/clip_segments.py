"""Mini-batches of clips with boxes: segments in steps of a few frames, with the state carried from step to step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lstmkit.data.batch import Batch, batches_per_epoch


@dataclass(frozen=True, eq=False)
class EncodedClip:
    """A clip as the network reads it.

    Attributes:
        frames: ``(T, H, W, C)`` uint8.
        targets: ``(T, N, 5)`` float32: class number, and center x, center y, width and height in pixels of these
            frames; NaN beyond the boxes of a frame.
    """

    frames: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True, eq=False)
class EncodedClips:
    """Clips as the network reads them: a source of batches.

    Attributes:
        clips: The clips.
    """

    clips: Sequence[EncodedClip]

    def __len__(self) -> int:
        return len(self.clips)


@dataclass(frozen=True)
class ClipAugmentation:
    """Random changes of a segment of a clip in training; all its frames are moved and shaded alike.

    Attributes:
        max_translation: Largest shift, as a fraction of height and width; the border is repeated.
        horizontal_flip: Whether half of the segments are flipped.
        brightness: Largest change of contrast, relative, and of brightness, as a fraction of white.
        blank_probability: Probability that a frame is black, so that the memory learns to bridge it. Its boxes stay.
        max_noise: Largest standard deviation of noise, as a fraction of white; that of a segment is uniform from 0.
    """

    max_translation: float = 0.0
    horizontal_flip: bool = False
    brightness: float = 0.0
    blank_probability: float = 0.0
    max_noise: float = 0.0

    def __call__(self, segment: EncodedClip, rng: np.random.Generator) -> EncodedClip:
        """A changed copy of a segment."""
        frames, targets = segment.frames, segment.targets
        height, width = frames.shape[1:3]
        if self.horizontal_flip and rng.random() < 0.5:
            frames, targets = frames[:, :, ::-1], targets.copy()
            targets[..., 1] = width - targets[..., 1]
        if self.max_translation:
            down, right = (
                int(rng.integers(-m, m + 1)) for m in (int(self.max_translation * s) for s in (height, width))
            )
            rows, columns = (
                (np.arange(height) - down).clip(0, height - 1),
                (np.arange(width) - right).clip(0, width - 1),
            )
            frames, targets = frames[:, rows][:, :, columns], _shifted(targets, right, down, height, width)
        frames = self._shaded(frames, rng)
        if self.blank_probability:
            frames = np.where(rng.random(len(frames))[:, None, None, None] < self.blank_probability, 0, frames)
        return EncodedClip(np.ascontiguousarray(frames, dtype=np.uint8), targets)

    def _shaded(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not (self.brightness or self.max_noise):
            return frames
        gain, offset = rng.uniform(-self.brightness, self.brightness, 2)
        shaded = frames.astype(np.float32) * np.float32(1 + gain) + np.float32(255 * offset)
        noise = rng.uniform(0, self.max_noise)
        if noise:
            shaded += rng.standard_normal(shaded.shape, dtype=np.float32) * np.float32(255 * noise)
        return shaded.clip(0, 255).astype(np.uint8)


def _shifted(targets: np.ndarray, right: int, down: int, height: int, width: int) -> np.ndarray:
    """Shifted boxes, cut at the border; those whose center leaves the frame are dropped."""
    shifted = targets.copy()
    x, y = targets[..., 1] + right, targets[..., 2] + down
    left, across = np.maximum(x - targets[..., 3] / 2, 0), np.minimum(x + targets[..., 3] / 2, width)
    top, bottom = np.maximum(y - targets[..., 4] / 2, 0), np.minimum(y + targets[..., 4] / 2, height)
    shifted[..., 1:] = np.stack([(left + across) / 2, (top + bottom) / 2, across - left, bottom - top], -1)
    with np.errstate(invalid="ignore"):
        shifted[(x < 0) | (x >= width) | (y < 0) | (y >= height)] = np.nan
    return shifted


class SegmentLoader:
    """Batches of ``bptt_steps`` frames. Row ``b`` of a batch that ``continues`` follows row ``b`` of the one before.

    In training, each row is a random segment of a random clip; clips are drawn in proportion to their frames. The
    segments of an epoch depend on the seed and the number of the epoch alone, so that a resumed run sees the same.
    Without a seed, the clips are read from start to end, those of similar length side by side.

    Args:
        source: The clips.
        batch_size: Segments side by side.
        bptt_steps: Frames of a batch.
        segment_batches: Batches of a segment: the state is carried over ``segment_batches * bptt_steps`` frames.
        augmentation: Changes of segments in training; ``None`` for none.
        seed: Seed of the segments; ``None`` to read all clips.
        n_batches: Batches per epoch, as :func:`~lstmkit.data.batch.batches_per_epoch` takes it.
    """

    def __init__(
        self,
        source: EncodedClips,
        batch_size: int,
        bptt_steps: int,
        segment_batches: int = 1,
        augmentation: ClipAugmentation | None = None,
        seed: int | None = None,
        n_batches: int = 0,
    ) -> None:
        self.source, self.batch_size, self.bptt_steps, self.seed = source, batch_size, bptt_steps, seed
        self.segment_batches, self.augmentation = segment_batches, augmentation
        self._lengths = np.array([len(clip) for clip in source.clips], dtype=np.int64)
        order = np.argsort(self._lengths, kind="stable")
        self._groups = [order[k : k + batch_size] for k in range(0, len(order), batch_size)]
        if seed is None:
            self._n_batches = sum(-(-int(self._lengths[rows].max()) // bptt_steps) for rows in self._groups)
        else:
            one_pass = -(-int(self._lengths.sum()) // (batch_size * bptt_steps))
            self._n_batches = batches_per_epoch(n_batches, one_pass)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._n_batches

    def epoch(self, number: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number``."""
        if self.seed is None:
            for rows in self._groups:
                yield from self._batches([self.source.clips[row] for row in rows])
            return
        yield from itertools.islice(self._random_batches(np.random.default_rng((self.seed, number))), self._n_batches)

    def _random_batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        while True:
            yield from self._batches([self._random_segment(rng) for _ in range(self.batch_size)])

    def _random_segment(self, rng: np.random.Generator) -> EncodedClip:
        clip = self.source.clips[int(rng.choice(len(self._lengths), p=self._lengths / self._lengths.sum()))]
        steps = self.segment_batches * self.bptt_steps
        start = int(rng.integers(0, max(1, len(clip) - steps + 1)))
        segment = EncodedClip(clip.frames[start : start + steps], clip.targets[start : start + steps])
        return segment if self.augmentation is None else self.augmentation(segment, rng)

    def _batches(self, segments: Sequence[EncodedClip]) -> Iterator[Batch]:
        boxes = max(segment.targets.shape[1] for segment in segments)
        for k in range(-(-max(map(len, segments)) // self.bptt_steps)):
            part = slice(k * self.bptt_steps, (k + 1) * self.bptt_steps)
            steps = max(len(segment.frames[part]) for segment in segments)
            frames = np.zeros((len(segments), steps, *segments[0].frames.shape[1:]), dtype=np.uint8)
            targets = np.full((len(segments), steps, boxes, 5), np.nan, dtype=np.float32)
            lengths = np.zeros(len(segments), dtype=np.int64)
            for row, segment in enumerate(segments):
                own = segment.frames[part]
                lengths[row] = len(own)
                frames[row, : len(own)] = own
                targets[row, : len(own), : segment.targets.shape[1]] = segment.targets[part]
            inputs, steps_of, boxes_of = (torch.from_numpy(array) for array in (frames, lengths, targets))
            yield Batch(inputs, steps_of, boxes_of, continues=k > 0)
