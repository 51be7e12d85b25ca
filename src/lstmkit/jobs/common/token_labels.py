"""Tokens of a text as figures show them, and annotations of them for a look inside."""

import unicodedata
from collections.abc import Sequence

import numpy as np

_OPENING, _CLOSING, _QUOTES = "([{", ")]}", '"“”'


def visible_token(token: str) -> str:
    """A token with visible spaces and line ends; private-use characters are shown by their code.

    >>> visible_token("a\uf158 b")
    'aU+F158␣b'
    """
    token = "".join(f"U+{ord(c):04X}" if unicodedata.category(c) == "Co" else c for c in token)
    return token.replace("\n", "⏎").replace(" ", "␣") or "∅"


def annotations(tokens: Sequence[str]) -> dict[str, np.ndarray]:
    """Properties of each token ``(T,)``, by name; properties that never change are left out.

    Names: in brackets, in quotes, place in line (in characters), word begins, capital, punctuation.
    """
    depth, quoted, column = 0, False, 0
    context: dict[str, list[float]] = {name: [] for name in ("in brackets", "in quotes", "place in line")}
    for token in tokens:
        depth = max(0, depth + sum(c in _OPENING for c in token))
        context["in brackets"].append(depth > 0)
        depth = max(0, depth - sum(c in _CLOSING for c in token))
        quoted ^= sum(c in _QUOTES for c in token) % 2 == 1
        context["in quotes"].append(quoted)
        context["place in line"].append(column)
        column = 0 if token in ("<eos>", "\n") else column + len(token)
    starts = [i == 0 or not tokens[i - 1][-1:].isalnum() for i in range(len(tokens))]
    properties = {
        **context,
        "word begins": [float(s and t[:1].isalnum()) for s, t in zip(starts, tokens, strict=True)],
        "capital": [float(t[:1].isupper()) for t in tokens],
        "punctuation": [float(bool(t.strip()) and not any(c.isalnum() for c in t)) for t in tokens],
    }
    arrays = {name: np.array(values, dtype=float) for name, values in properties.items()}
    return {name: values for name, values in arrays.items() if values.std() > 0}
