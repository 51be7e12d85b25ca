"""Baselines of captioning: the most frequent caption, and the caption of the nearest training example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstmkit.data.captioned_media import CaptionedMedia
from lstmkit.data.vision.image_io import thumbnail
from lstmkit.data.vision.video_io import VideoClip
from lstmkit.jobs.common.classifier_baselines import resampled

_NUM_RESAMPLED_FRAMES = 8  # of a clip or of features


def most_frequent_caption(train: CaptionedMedia) -> str:
    """The most frequent training caption; among ties the one whose words are most frequent."""
    captions = Counter(text for texts in train.texts for text in texts)
    words = Counter(word for text in captions for word in text.lower().split())

    def frequency(text: str) -> tuple[int, float]:
        return captions[text], float(np.mean([words[word] for word in text.lower().split()]))

    return max(captions, key=frequency)


class NearestCaption:
    """The first caption of the nearest training example, by Euclidean distance of pixels.

    Images are compared at 8 by 8 pixels, clips at 8 frames.

    Args:
        train: The training split.
    """

    def __init__(self, train: CaptionedMedia) -> None:
        self._captions = train.texts
        self._train = _thumbnails(train.inputs)

    def __call__(self, inputs: Sequence[Any]) -> list[str]:
        queries = _thumbnails(inputs)
        squares = (self._train**2).sum(axis=1)
        nearest = (squares - 2 * queries @ self._train.T).argmin(axis=1)
        return [self._captions[int(i)][0] for i in nearest]


def _thumbnails(inputs: Sequence[Any]) -> np.ndarray:
    """``(N, F)`` float32."""

    def small(pixels: np.ndarray) -> np.ndarray:
        return thumbnail(pixels, color=pixels.shape[2] == 3)

    def row(item: Any) -> np.ndarray:
        if isinstance(item, VideoClip):
            return resampled(np.stack([small(frame) for frame in item.frames]), _NUM_RESAMPLED_FRAMES)
        return small(item) if item.ndim == 3 else resampled(item, _NUM_RESAMPLED_FRAMES)

    return np.stack([row(item) for item in inputs]).astype(np.float32)
