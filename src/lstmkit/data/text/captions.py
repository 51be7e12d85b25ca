"""Captions, and how they are written: as text lines or as subtitles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmkit.errors import DataError


@dataclass(frozen=True, eq=False)
class Caption:
    """The caption of an image, a clip or a video segment.

    Attributes:
        name: The input's name.
        text: The best caption.
        score: Its log-probability in nats, normalized by its length.
        tokens: Its tokens.
        attention: Attention weights of each token: ``(tokens, h, w)`` cells of an image, ``(tokens, T, h, w)`` cells
            of all frames, or ``(tokens, S)`` feature vectors.
        n_best: Captions and their scores, the best first.
        start, end: The segment of the video in seconds; both 0 for an image.
    """

    name: str
    text: str
    score: float
    tokens: tuple[str, ...]
    attention: np.ndarray
    n_best: tuple[tuple[str, float], ...]
    start: float = 0.0
    end: float = 0.0

    def record(self) -> dict[str, Any]:
        """The caption and what belongs to it, ready for JSON; weights and times are rounded."""
        return {
            "name": self.name,
            "caption": self.text,
            "score": self.score,
            **({"start": round(self.start, 3), "end": round(self.end, 3)} if self.end else {}),
            "n_best": [{"caption": text, "score": score} for text, score in self.n_best],
            "tokens": list(self.tokens),
            "attention": np.round(self.attention.astype(float), 4).tolist(),
        }


def captions_as_text(captions: Sequence[Caption]) -> str:
    """One line per caption, with the input's name if there are several, and the times if there are segments."""
    if len(captions) == 1:
        return captions[0].text
    several = len({caption.name for caption in captions}) > 1
    timed = any(caption.start for caption in captions)
    lines = []
    for caption in captions:
        name = f"{caption.name}\t" if several else ""
        times = f"{caption.start:.1f}–{caption.end:.1f} s\t" if timed else ""
        lines.append(f"{name}{times}{caption.text}")
    return "\n".join(lines)


def subtitles(captions: Sequence[Caption], suffix: str) -> str:
    """Captions of one video as SubRip (``.srt``) or WebVTT (``.vtt``).

    Raises:
        DataError: The captions have no times, or are of several videos.

    >>> print(subtitles([Caption("a.mp4", "a dog runs", 0.0, (), np.zeros(0), (), 0.0, 2.5)], ".srt"), end="")
    1
    00:00:00,000 --> 00:00:02,500
    a dog runs
    """
    names = {caption.name for caption in captions}
    if len(names) != 1 or not all(caption.end for caption in captions):
        raise DataError(
            f"subtitles need the captions of one video, but these are of {len(names)} inputs: give one video file, or "
            "choose text (.txt)"
        )
    decimal_mark = "," if suffix == ".srt" else "."
    cues = [
        f"{number}\n{_timestamp(cue.start, decimal_mark)} --> {_timestamp(cue.end, decimal_mark)}\n{cue.text}\n"
        for number, cue in enumerate(captions, 1)
    ]
    return ("" if suffix == ".srt" else "WEBVTT\n\n") + "\n".join(cues)


def _timestamp(seconds: float, decimal_mark: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{decimal_mark}{ms % 1000:03}"
