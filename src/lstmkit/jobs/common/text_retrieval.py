"""Text retrieval: the nearest training example by TF-IDF, and the sentence most similar to a question."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

_BATCH_SIZE = 100  # texts compared with the whole memory at once


class TranslationMemory:
    """A translation memory: returns the target of the most similar source, by the cosine of TF-IDF vectors.

    Args:
        sources: ``N`` source texts.
        targets: Their ``N`` targets.

    >>> TranslationMemory(["a dog", "a red cat"], ["ein Hund", "eine rote Katze"])(["the cat"])
    ['eine rote Katze']
    """

    def __init__(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        self.targets = list(targets)
        self._vectorizer = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", sublinear_tf=True)
        self._memory: Any = self._vectorizer.fit_transform(sources)  # sparse, (N, words)

    def __call__(self, lines: Sequence[str]) -> list[str]:
        """The target of the nearest source for each line."""
        targets: list[str] = []
        for start in range(0, len(lines), _BATCH_SIZE):
            similarity: Any = self._vectorizer.transform(lines[start : start + _BATCH_SIZE]) @ self._memory.T
            targets += [self.targets[int(i)] for i in np.asarray(similarity.argmax(axis=1)).ravel()]
        return targets


def nearest_sentence(question: str, sentences: Sequence[str]) -> str:
    """The sentence that shares the most words with the question, weighted by inverse document frequency.

    >>> nearest_sentence("Who sleeps?", ["The dog barks.", "The cat sleeps."])
    'The cat sleeps.'
    """
    sentence_words = [set(re.findall(r"\w+", sentence.lower())) for sentence in sentences]
    question_words = set(re.findall(r"\w+", question.lower()))
    idf = {
        word: math.log(1 + len(sentence_words) / sum(word in other for other in sentence_words))
        for words in sentence_words
        for word in words
    }
    scores = [sum(idf[word] for word in words & question_words) for words in sentence_words]
    return sentences[int(np.argmax(scores))] if sentences else ""
