"""Bidirectional text: from logical order, as it is stored, to the order in which a line shows it, and back.

The order is that of the Unicode Bidirectional Algorithm (UAX #9) for one line without explicit formatting: rules W1 to
W7, N0 to N2, I1, I2 and L2 to L4. Its classes are those of :mod:`unicodedata`. Explicit embeddings, overrides and
isolates have no effect.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

LEFT_TO_RIGHT, RIGHT_TO_LEFT = "left-to-right", "right-to-left"
DIRECTIONS = (LEFT_TO_RIGHT, RIGHT_TO_LEFT)

_STRONG_RIGHT = ("R", "AL")
_AS_RIGHT = ("R", "EN", "AN")  # numbers count as R when neutrals are resolved
_NEUTRALS = ("B", "S", "WS", "ON", "BN", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
_BRACKETS = {"(": ")", "[": "]", "{": "}", "⁅": "⁆", "〈": "〉", "⟦": "⟧", "⟨": "⟩", "❨": "❩", "「": "」"}
_MIRRORED = {**_BRACKETS, "<": ">", "«": "»", "‹": "›", "≤": "≥", "≪": "≫", "∈": "∋"}
_MIRRORED |= {closing: opening for opening, closing in _MIRRORED.items()}
_MAX_PASSES = 8  # until logical order is stable; two suffice, except for rare mixtures


class Reordered(NamedTuple):
    """Text in another order.

    Attributes:
        text: The characters; brackets in runs of the other direction are mirrored.
        sources: Index of each character in the original text.
    """

    text: str
    sources: list[int]


def main_direction(texts: Iterable[str], default: str = LEFT_TO_RIGHT) -> str:
    """The direction of most strong characters (letters) of all texts; ``default`` if there is none, or as many of both.

    >>> main_direction(["שלום 1", "ok"])
    'right-to-left'
    """
    right = left = 0
    for text in texts:
        for character in text:
            kind = unicodedata.bidirectional(character)
            right, left = right + (kind in _STRONG_RIGHT), left + (kind == "L")
    if right == left:
        return default
    return RIGHT_TO_LEFT if right > left else LEFT_TO_RIGHT


def to_display(text: str, direction: str) -> Reordered:
    """Characters in the order in which a line shows them, from the side where the line begins.

    A right-to-left line begins at the right. Text of the line's own direction stays as it is, and runs of the other
    direction are reversed: Latin words and numbers in Arabic or Hebrew. Combining marks stay behind their base.

    Args:
        text: In logical order.
        direction: Of the line, one of :data:`DIRECTIONS`.

    >>> to_display("אב 12 גד", RIGHT_TO_LEFT).text == "אב 21 גד"
    True
    """
    units = _units(text)
    levels = _levels([unit[0] for unit in units], direction)
    return _joined(units, levels, _display_order(levels, direction), direction)


def from_display(text: str, direction: str) -> Reordered:
    """Characters in logical order, of text in display order: the inverse of :func:`to_display`.

    Different texts can have one display: that of ``abc 12`` in a right-to-left line is that of ``12 abc``. Then the
    answer keeps brackets in pairs, and Latin words before numbers. Its display is ``text``; but a mixture that no
    logical text displays, or brackets without a partner, may give another one.
    """
    units = _units(text)
    guesses = [_stable(units, levels, direction) for levels in _first_guesses([u[0] for u in units], direction)]
    right = [guess for guess in guesses if to_display(guess.text, direction).text == text]
    return max(right or guesses, key=lambda guess: _count_pairs(guess.text))


def _stable(units: Sequence[str], levels: Sequence[int], direction: str) -> Reordered:
    """Displayed units in a logical order whose levels agree with it, starting from a guess of the levels."""
    order = _display_order(levels, direction)
    for _ in range(_MAX_PASSES):
        logical = _levels([unit[0] for unit in _mirrored(units, levels, order, direction)], direction)
        renewed = [logical[position] for position in _inverse(order)]
        if renewed == levels:
            break
        levels, order = renewed, _display_order(renewed, direction)
    return _joined(units, levels, order, direction)


def _count_pairs(text: str) -> int:
    return len(_bracket_pairs(text, [unicodedata.bidirectional(c) for c in text]))


def _first_guesses(bases: Sequence[str], direction: str) -> tuple[list[int], list[int]]:
    """Levels of displayed units, if they are read as logical text: from the left, then from the right.

    From the left comes first, as a Latin word and a number beside it most often belong together.
    """
    forward, backward = _levels(bases, direction), _levels(bases[::-1], direction)[::-1]
    return (forward, backward) if direction == LEFT_TO_RIGHT else (backward, forward)


def _units(text: str) -> list[str]:
    """Characters, each with the combining marks behind it."""
    units: list[str] = []
    for character in text:
        if units and unicodedata.bidirectional(character) == "NSM":
            units[-1] += character
        else:
            units.append(character)
    return units


def _mirrored(units: Sequence[str], levels: Sequence[int], order: Sequence[int], direction: str) -> list[str]:
    """The units in ``order``; brackets of the other direction are mirrored (L4)."""
    parity = int(direction == RIGHT_TO_LEFT)
    return [
        units[i] if levels[i] % 2 == parity else _MIRRORED.get(units[i][0], units[i][0]) + units[i][1:] for i in order
    ]


def _joined(units: Sequence[str], levels: Sequence[int], order: Sequence[int], direction: str) -> Reordered:
    """The units in ``order`` as text."""
    starts = [0, *accumulate(map(len, units))]
    text = "".join(_mirrored(units, levels, order, direction))
    return Reordered(text, [source for i in order for source in range(starts[i], starts[i + 1])])


def _display_order(levels: Sequence[int], direction: str) -> list[int]:
    """Indices in the order of display, from the side where the line begins (L2). It is its own inverse."""
    order = list(range(len(levels)))
    for level in (2, 1) if direction == LEFT_TO_RIGHT else (2,):
        start = 0
        for reverse, run in groupby(order, lambda i, level=level: levels[i] >= level):
            indices = list(run)
            if reverse:
                order[start : start + len(indices)] = indices[::-1]
            start += len(indices)
    return order


def _inverse(order: Sequence[int]) -> list[int]:
    inverse = [0] * len(order)
    for position, i in enumerate(order):
        inverse[i] = position
    return inverse


# ---- embedding levels ------------------------------------------------------------------------------------------------


def _levels(characters: Sequence[str], direction: str) -> list[int]:
    """The embedding level of each character of a line: even from left to right, odd from right to left (I1, I2)."""
    base = int(direction == RIGHT_TO_LEFT)
    embedding = "R" if base else "L"
    kinds = [unicodedata.bidirectional(c) or "L" for c in characters]
    _resolve_weak(kinds, embedding)
    _resolve_brackets(characters, kinds, embedding)
    _resolve_neutrals(kinds, embedding)
    if base:
        return [1 if kind == "R" else 2 for kind in kinds]
    return [{"L": 0, "R": 1}.get(kind, 2) for kind in kinds]


def _resolve_weak(kinds: list[str], embedding: str) -> None:
    """Rules W1 to W7: combining marks, numbers, and what belongs to numbers."""
    strong = embedding
    for i, kind in enumerate(kinds):
        if kind == "NSM":  # W1
            kind = kinds[i] = kinds[i - 1] if i else embedding
        if kind in ("L", "R", "AL"):
            strong = kind
        elif kind == "EN" and strong == "AL":  # W2
            kinds[i] = "AN"
    kinds[:] = ["R" if kind == "AL" else kind for kind in kinds]  # W3
    for i in range(1, len(kinds) - 1):  # W4
        before, kind, after = kinds[i - 1 : i + 2]
        if before == after and ((kind in ("ES", "CS") and before == "EN") or (kind == "CS" and before == "AN")):
            kinds[i] = before
    start = 0
    for kind, run in groupby(list(kinds)):  # W5
        end = start + len(list(run))
        if kind == "ET" and "EN" in (*kinds[max(start - 1, 0) : start], *kinds[end : end + 1]):
            kinds[start:end] = ["EN"] * (end - start)
        start = end
    strong = embedding
    for i, kind in enumerate(kinds):
        if kind in ("ES", "ET", "CS"):  # W6
            kinds[i] = "ON"
        elif kind in ("L", "R"):
            strong = kind
        elif kind == "EN" and strong == "L":  # W7
            kinds[i] = "L"


def _resolve_brackets(characters: Sequence[str], kinds: list[str], embedding: str) -> None:
    """Rule N0: a pair of brackets has the direction of what is in it."""
    other = "L" if embedding == "R" else "R"
    for opening, closing in _bracket_pairs(characters, kinds):
        inside = {_strong(kind) for kind in kinds[opening + 1 : closing]}
        if embedding in inside:
            kinds[opening] = kinds[closing] = embedding
        elif other in inside:
            before = next((s for s in map(_strong, reversed(kinds[:opening])) if s), embedding)
            kinds[opening] = kinds[closing] = before


def _strong(kind: str) -> str:
    """``L`` or ``R`` of a strong character or a number, empty of a neutral."""
    return "L" if kind == "L" else "R" if kind in _AS_RIGHT else ""


def _bracket_pairs(characters: Sequence[str], kinds: Sequence[str]) -> list[tuple[int, int]]:
    """Indices of opening and closing brackets (BD16), by the opening one."""
    pairs, stack = [], []
    for i, character in enumerate(characters):
        if kinds[i] != "ON":
            continue
        if character in _BRACKETS:
            stack.append((_BRACKETS[character], i))
        elif any(character == closing for closing, _ in stack):
            while stack:
                closing, opening = stack.pop()
                if closing == character:
                    pairs.append((opening, i))
                    break
    return sorted(pairs)


def _resolve_neutrals(kinds: list[str], embedding: str) -> None:
    """Rules N1 and N2: between text of one direction neutrals have this direction, else that of the line."""
    start = 0
    for is_neutral, run in groupby(list(kinds), lambda kind: kind in _NEUTRALS):
        end = start + len(list(run))
        if is_neutral:
            before = _strong(kinds[start - 1]) if start else embedding
            after = _strong(kinds[end]) if end < len(kinds) else embedding
            kinds[start:end] = [before if before == after else embedding] * (end - start)
        start = end
