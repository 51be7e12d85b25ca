"""Baselines of summarization: the first words and the first sentence of the text."""

from __future__ import annotations

from collections.abc import Sequence


def leading_words(texts: Sequence[str], count: int) -> list[str]:
    """The first ``count`` words of each text, split at spaces.

    >>> leading_words(["please send the report by Friday"], 3)
    ['please send the']
    """
    return [" ".join(text.split()[:count]) for text in texts]


def lead(texts: Sequence[Sequence[str]], max_words: int) -> list[str]:
    """The first sentence of each text (Lead-1), at most ``max_words`` words of it. A text is a list of sentences.

    >>> lead([["Hi Ann.", "Please send it!"], []], 5)
    ['Hi Ann.', '']
    """
    return leading_words([next(iter(sentences), "") for sentences in texts], max_words)
