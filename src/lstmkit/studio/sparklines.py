"""Small pictures of a part of a series, as SVG in the page."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from lstmkit.plots.style import BLUE

_WIDTH, _HEIGHT = 240, 44


def sparkline(values: np.ndarray, start: int, stop: int, context: int) -> Markup:
    """The series around a range of steps, which is shaded.

    Args:
        values: ``(T,)``; NaN leaves a gap.
        start: First step of the range.
        stop: Step after its last one.
        context: Steps on either side.
    """
    low, high = max(0, start - context), min(len(values), stop + context)
    part = values[low:high]
    known = part[np.isfinite(part)]
    if not len(known):
        return Markup("")
    bottom, span = float(known.min()), float(np.ptp(known)) or 1.0
    x = np.linspace(0, _WIDTH, len(part) + 1)
    y = _HEIGHT - 4 - (part - bottom) / span * (_HEIGHT - 8)
    middle = (x[:-1] + x[1:]) / 2
    points = [f"{a:.1f},{b:.1f}" if np.isfinite(b) else "" for a, b in zip(middle, y, strict=True)]
    lines = [piece.split() for piece in " ".join(point or "|" for point in points).split("|")]
    drawn = "".join(
        f'<polyline points="{" ".join(piece)}" fill="none" stroke="{BLUE}" stroke-width="1.5"/>'
        for piece in lines
        if piece
    )
    left, right = x[start - low], x[min(stop, high) - low]
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" aria-hidden="true">'
        f'<rect x="{left:.1f}" y="0" width="{right - left:.1f}" height="{_HEIGHT}" fill="#fbe3b0"/>{drawn}</svg>'
    )
