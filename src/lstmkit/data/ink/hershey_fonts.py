"""Synthetic handwriting: text lines rendered with Hershey fonts and random variation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from lstmkit.data.ink.points import Ink
from lstmkit.data.ink.strokes import InkSet
from lstmkit.errors import DataError, listing
from lstmkit.libraries import imports_of

#: Single-stroke Hershey fonts: two cursive, two sans serif.
HERSHEY_FONTS = ("scripts", "cursive", "futural", "rowmans")
_MAX_SPACING = 3.0  # maximum distance of points along a stroke, in font units


def font_lines(texts: Sequence[str], seed: int = 0, font: str = "scripts", jitter: float = 1.0) -> InkSet:
    """Render each text as a line of ink with random variation.

    Each line has a random slant, size, width and spacing. Letters have random offsets, and strokes smooth noise. Points
    are at most 3 units apart; capitals are 21 units high.

    The glyphs are by A. V. Hershey (National Bureau of Standards, 1967, public domain), from the package Hershey-Fonts
    (MIT license).

    Args:
        texts: Texts to render.
        seed: Random seed.
        font: One of :data:`HERSHEY_FONTS`.
        jitter: Strength of the variation; 0 for none.

    Raises:
        DataError: The font or a character is unknown, or a text is blank.

    >>> line = font_lines(["to be"], seed=3).inks[0]
    >>> line.text, line.points.shape[1], int(line.points[:, 2].sum()) > 1
    ('to be', 3, True)
    """
    if font not in HERSHEY_FONTS:
        raise DataError(f"unknown font {font!r}: give one of {', '.join(HERSHEY_FONTS)}")
    rng = np.random.default_rng(seed)
    return InkSet(
        tuple(_render_line(text, f"line {i}", font, rng, jitter) for i, text in enumerate(texts, 1)), f"font {font}"
    )


@cache
def _glyphs(font: str) -> dict[str, tuple[float, float, tuple[np.ndarray, ...]]]:
    """Left offset, width and strokes ``(n, 2)`` of each character of a font."""
    with imports_of("writing", "a Hershey font"):
        from HersheyFonts import HersheyFonts

    source: Any = HersheyFonts()
    source.load_default_font(font)
    glyphs = {}
    for code in range(32, 127):
        for glyph in source.glyphs_for_text(chr(code)):
            lines = tuple(np.array(list(line), dtype=np.float64) for line in glyph.strokes if len(line))
            glyphs[chr(code)] = (float(glyph.left_offset), float(glyph.char_width), lines)
    return glyphs


def _render_line(text: str, name: str, font: str, rng: np.random.Generator, jitter: float) -> Ink:
    text, glyphs = " ".join(text.split()), _glyphs(font)
    unknown = sorted(set(text) - set(glyphs))
    if unknown or not text:
        problem = f"the font has no {listing(map(repr, unknown))}: remove it" if unknown else "the text is blank"
        raise DataError(f"{name}: {problem}")
    slant, stretch = jitter * rng.normal(0.0, 0.12), 1 + jitter * rng.normal(0.0, 0.06)
    size, spacing = np.exp(jitter * rng.normal(0.0, 0.1)), jitter * rng.normal(0.0, 0.8)
    baseline_slope = jitter * rng.normal(0.0, 0.02)
    x_position, lines = 0.0, []
    for character in text:
        left, width, strokes = glyphs[character]
        scale = 1 + jitter * rng.normal(0.0, 0.04)
        origin = np.array([x_position - left, 0.0]) + jitter * rng.normal(0.0, 0.4, 2)
        lines += [scale * stroke + origin for stroke in strokes]
        x_position += scale * width + spacing + jitter * rng.normal(0.0, 0.4)
    strokes = []
    for line in map(_densify, lines):
        x, y = (line + jitter * _smooth_noise(len(line), rng)).T
        strokes.append(np.column_stack([size * stretch * (x - slant * y), size * (y - baseline_slope * x)]))
    return _as_ink(strokes, name, text)


def _as_ink(lines: Sequence[np.ndarray], name: str, text: str) -> Ink:
    if not lines:
        raise DataError(f"{name}: {text!r} has no strokes: give another text")
    positions = np.concatenate(lines)
    points = np.zeros((len(positions), 3), dtype=np.float32)
    points[1:, :2] = np.diff(positions, axis=0)
    points[np.cumsum([len(line) for line in lines]) - 1, 2] = 1.0
    return Ink(points, name, text)


def _densify(line: np.ndarray) -> np.ndarray:
    """Insert points, so that neighbors are at most ``_MAX_SPACING`` apart. A dot becomes a short line."""
    if len(line) < 2:
        return np.concatenate([line, line + 0.5])
    segments = [
        np.linspace(a, b, max(1, int(np.ceil(np.hypot(*(b - a)) / _MAX_SPACING))), endpoint=False)
        for a, b in itertools.pairwise(line)
    ]
    return np.concatenate([*segments, line[-1:]])


def _smooth_noise(count: int, rng: np.random.Generator) -> np.ndarray:
    """Low-pass filtered noise ``(count, 2)`` with a standard deviation of about 0.4 units."""
    noise = rng.normal(0.0, 1.0, (count + 8, 2))
    kernel = np.hanning(11)[1:-1]
    kernel = 0.4 * kernel / np.linalg.norm(kernel)
    return np.column_stack([np.convolve(column, kernel, mode="valid") for column in noise.T])
