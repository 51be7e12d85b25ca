"""What summaries stand beside: the beginning of the text."""

from __future__ import annotations

from collections.abc import Sequence

from lstmkit.data.text import sentences


def first_words(texts: Sequence[str], count: int) -> list[str]:
    """The first ``count`` words of each text, as they stand between spaces.

    >>> first_words(["please send the report by Friday"], 3)
    ['please send the']
    """
    return [" ".join(text.split()[:count]) for text in texts]


def lead(texts: Sequence[str], most: int) -> list[str]:
    """The first sentence of each text, at most ``most`` words of it.

    >>> lead(["Hi Ann.  Please send it!", "no end\\nnext line"], 5)
    ['Hi Ann.', 'no end']
    """
    return first_words([next(iter(sentences(text)), "") for text in texts], most)
