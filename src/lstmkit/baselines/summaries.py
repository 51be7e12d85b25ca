"""What summaries stand beside: the beginning of the text."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+|\n+")


def first_words(texts: Sequence[str], count: int) -> list[str]:
    """The first ``count`` words of each text, as they stand between spaces.

    >>> first_words(["please send the report by Friday"], 3)
    ['please send the']
    """
    return [" ".join(text.split()[:count]) for text in texts]


def lead(texts: Sequence[str], most: int) -> list[str]:
    """The first sentence of each text, at most ``most`` words of it.

    It ends after ``.``, ``!`` or ``?``, or at a line's end.

    >>> lead(["Hi Ann.  Please send it!", "no end\\nnext line"], 5)
    ['Hi Ann.', 'no end']
    """
    return first_words([_SENTENCE_ENDS.split(text.strip(), maxsplit=1)[0] for text in texts], most)
