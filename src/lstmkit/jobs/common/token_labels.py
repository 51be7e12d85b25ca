"""A text's tokens, to look at what a network does on them."""

import unicodedata
from collections.abc import Sequence

import numpy as np

_OPENS, _CLOSES, _QUOTES = "([{", ")]}", '"“”'


def shown(token: str) -> str:
    """A token as a picture shows it: spaces and line ends can be seen, a sign that no font has in common by its number.

    >>> shown("a\uf158 b")
    'aU+F158␣b'
    """
    token = "".join(f"U+{ord(c):04X}" if unicodedata.category(c) == "Co" else c for c in token)  # for private use
    return token.replace("\n", "⏎").replace(" ", "␣") or "∅"


def annotations(tokens: Sequence[str]) -> dict[str, np.ndarray]:
    """What is known of each token: inside brackets or quotes, a word's start, a capital, how far along in its line."""
    depth, quoted, column = 0, False, 0
    found: dict[str, list[float]] = {name: [] for name in ("in brackets", "in quotes", "place in line")}
    for token in tokens:
        depth = max(0, depth + sum(c in _OPENS for c in token))
        found["in brackets"].append(depth > 0)
        depth = max(0, depth - sum(c in _CLOSES for c in token))
        quoted ^= sum(c in _QUOTES for c in token) % 2 == 1
        found["in quotes"].append(quoted)
        found["place in line"].append(column)
        column = 0 if token in ("<eos>", "\n") else column + len(token)
    starts = [i == 0 or not tokens[i - 1][-1:].isalnum() for i in range(len(tokens))]
    lists = {
        **found,
        "word begins": [float(s and t[:1].isalnum()) for s, t in zip(starts, tokens, strict=True)],
        "capital": [float(t[:1].isupper()) for t in tokens],
        "punctuation": [float(bool(t.strip()) and not any(c.isalnum() for c in t)) for t in tokens],
    }
    arrays = {name: np.array(values, dtype=float) for name, values in lists.items()}
    return {name: values for name, values in arrays.items() if values.std() > 0}
