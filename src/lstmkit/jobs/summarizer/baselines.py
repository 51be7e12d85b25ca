"""What summaries stand beside: the beginning of the text."""

from __future__ import annotations

from collections.abc import Sequence


def leading_words(texts: Sequence[str], count: int) -> list[str]:
    """The first ``count`` words of each text, as they stand between spaces.

    >>> leading_words(["please send the report by Friday"], 3)
    ['please send the']
    """
    return [" ".join(text.split()[:count]) for text in texts]


def lead(texts: Sequence[Sequence[str]], most: int) -> list[str]:
    """The first sentence of each text, given as its sentences; at most ``most`` words of it.

    >>> lead([["Hi Ann.", "Please send it!"], []], 5)
    ['Hi Ann.', '']
    """
    return leading_words([next(iter(sentences), "") for sentences in texts], most)
