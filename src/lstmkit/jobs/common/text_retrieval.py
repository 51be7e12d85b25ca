"""What is most similar: the translation of the nearest sentence seen in training, a passage's nearest sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

_AT_ONCE = 100  # sentences compared with all of the memory


class TranslationMemory:
    """A translation memory: the translation of the source that shares most of its rare words, by TF-IDF's cosine.

    scikit-learn does the work.

    >>> TranslationMemory(["a dog", "a red cat"], ["ein Hund", "eine rote Katze"])(["the cat"])
    ['eine rote Katze']
    """

    def __init__(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        self.targets = list(targets)
        self._words = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", sublinear_tf=True)
        self._memory: Any = self._words.fit_transform(sources)  # sparse, (N, words)

    def __call__(self, lines: Sequence[str]) -> list[str]:
        """One translation a line."""
        found: list[str] = []
        for start in range(0, len(lines), _AT_ONCE):
            alike: Any = self._words.transform(lines[start : start + _AT_ONCE]) @ self._memory.T
            found += [self.targets[int(i)] for i in np.asarray(alike.argmax(axis=1)).ravel()]
        return found


def nearest_sentence(question: str, sentences: Sequence[str]) -> str:
    """The sentence that shares most of the question's words, the rarer a word among them the more it counts.

    >>> nearest_sentence("Who sleeps?", ["The dog barks.", "The cat sleeps."])
    'The cat sleeps.'
    """
    words = [set(re.findall(r"\w+", sentence.lower())) for sentence in sentences]
    asked = set(re.findall(r"\w+", question.lower()))
    rarity = {word: math.log(1 + len(words) / sum(word in of for of in words)) for of in words for word in of}
    shared = [sum(rarity[word] for word in of & asked) for of in words]
    return sentences[int(np.argmax(shared))] if sentences else ""
