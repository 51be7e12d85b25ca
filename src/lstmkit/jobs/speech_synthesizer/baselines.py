"""Speech from recordings as they are: another take of the text, or takes of its words one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Takes:
    """Recordings by what is said in them; of several that which is of middling length.

    Args:
        texts: ``N``.
        frames: ``(T, F)`` of each recording.
    """

    def __init__(self, texts: Sequence[str], frames: Sequence[np.ndarray]) -> None:
        takes: dict[str, list[np.ndarray]] = {}
        for text, one in zip(texts, frames, strict=True):
            takes.setdefault(_plain(text), []).append(one)
        self._takes = {text: sorted(ones, key=len)[len(ones) // 2] for text, ones in takes.items()}

    def __call__(self, text: str) -> np.ndarray | None:
        """``(T, F)``; ``None`` where neither the text nor all of its words were recorded by themselves.

        >>> takes = Takes(["one", "two"], [np.ones((2, 1)), np.zeros((1, 1))])
        >>> takes("Two one").ravel().tolist()
        [0.0, 1.0, 1.0]
        >>> takes("three")
        """
        if _plain(text) in self._takes:
            return self._takes[_plain(text)]
        words = [self._takes.get(word) for word in _plain(text).split()]
        found = [word for word in words if word is not None]
        return np.concatenate(found) if found and len(found) == len(words) else None


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
