"""Lines of text written with a vector font, no two alike: drawings whose texts are known."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from lstmkit.data.ink.strokes import Ink, InkSet
from lstmkit.errors import DataError, listing

HERSHEY_FONTS = (
    "scripts",
    "cursive",
    "futural",
    "rowmans",
)  #: Hershey's, of single strokes: two joined hands, two prints.
_MAX_SPACING = 3.0  # units between points along a stroke, at most


def font_lines(texts: Sequence[str], seed: int = 0, font: str = "scripts", jitter: float = 1.0) -> InkSet:
    """Each text written once, as by a hand that is never quite the same.

    A line has a slant, a size, a width and a spacing of its own; each letter stands a little off, and a smooth noise
    goes along its strokes. Points are at most 3 units apart, capitals 21 high.

    The glyphs are A. V. Hershey's (National Bureau of Standards, 1967), in the public domain, as the package
    Hershey-Fonts (MIT) has them.

    Args:
        texts: What to write.
        seed: Of the jitter.
        font: Of :data:`HERSHEY_FONTS`.
        jitter: How much of it; 0 for the font as it is.

    Raises:
        DataError: A font or a character that there is not, or a blank text.

    >>> line = font_lines(["to be"], seed=3).inks[0]
    >>> line.text, line.points.shape[1], int(line.points[:, 2].sum()) > 1
    ('to be', 3, True)
    """
    if font not in HERSHEY_FONTS:
        raise DataError(f"there is no font {font!r} (known: {', '.join(HERSHEY_FONTS)})")
    rng = np.random.default_rng(seed)
    return InkSet(tuple(_line(text, f"line {i}", font, rng, jitter) for i, text in enumerate(texts, 1)), f"font {font}")


@cache
def _glyphs(font: str) -> dict[str, tuple[float, float, tuple[np.ndarray, ...]]]:
    """Of each character how far it reaches to the left of its origin, its width, and its lines ``(n, 2)``."""
    from HersheyFonts import HersheyFonts

    source: Any = HersheyFonts()
    source.load_default_font(font)
    found = {}
    for code in range(32, 127):
        for glyph in source.glyphs_for_text(chr(code)):
            lines = tuple(np.array(list(line), dtype=np.float64) for line in glyph.strokes if len(line))
            found[chr(code)] = (float(glyph.left_offset), float(glyph.char_width), lines)
    return found


def _line(text: str, name: str, font: str, rng: np.random.Generator, jitter: float) -> Ink:
    text, glyphs = " ".join(text.split()), _glyphs(font)
    unknown = sorted(set(text) - set(glyphs))
    if unknown or not text:
        raise DataError(f"{name}: the font has no {listing(map(repr, unknown))}" if unknown else f"{name} is blank")
    slant, spread = jitter * rng.normal(0.0, 0.12), 1 + jitter * rng.normal(0.0, 0.06)
    size, spacing = np.exp(jitter * rng.normal(0.0, 0.1)), jitter * rng.normal(0.0, 0.8)
    rise = jitter * rng.normal(0.0, 0.02)  # of the line over its length
    at, lines = 0.0, []
    for character in text:
        left, width, strokes = glyphs[character]
        own = 1 + jitter * rng.normal(0.0, 0.04)
        place = np.array([at - left, 0.0]) + jitter * rng.normal(0.0, 0.4, 2)
        lines += [own * stroke + place for stroke in strokes]
        at += own * width + spacing + jitter * rng.normal(0.0, 0.4)
    drawn = []
    for line in map(_densify, lines):
        x, y = (line + jitter * _smooth_noise(len(line), rng)).T
        drawn.append(np.column_stack([size * spread * (x - slant * y), size * (y - rise * x)]))
    return _as_ink(drawn, name, text)


def _as_ink(lines: Sequence[np.ndarray], name: str, text: str) -> Ink:
    if not lines:
        raise DataError(f"{name}: there is nothing to draw in {text!r}")
    places = np.concatenate(lines)
    points = np.zeros((len(places), 3), dtype=np.float32)
    points[1:, :2] = np.diff(places, axis=0)
    points[np.cumsum([len(line) for line in lines]) - 1, 2] = 1.0
    return Ink(points, name, text)


def _densify(line: np.ndarray) -> np.ndarray:
    """The same line with points at most so far apart; a dot becomes a short line."""
    if len(line) < 2:
        return np.concatenate([line, line + 0.5])
    pieces = [
        np.linspace(a, b, max(1, int(np.ceil(np.hypot(*(b - a)) / _MAX_SPACING))), endpoint=False)
        for a, b in itertools.pairwise(line)
    ]
    return np.concatenate([*pieces, line[-1:]])


def _smooth_noise(count: int, rng: np.random.Generator) -> np.ndarray:
    """``(count, 2)`` noise of about 0.4 units that changes slowly: each value mostly the mean of those around it."""
    noise = rng.normal(0.0, 1.0, (count + 8, 2))
    kernel = np.hanning(11)[1:-1]
    kernel = 0.4 * kernel / np.linalg.norm(kernel)
    return np.column_stack([np.convolve(column, kernel, mode="valid") for column in noise.T])
