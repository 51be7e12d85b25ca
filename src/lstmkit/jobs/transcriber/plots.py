"""Pictures of what was transcribed, each character over the place where it was read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lstmkit.jobs.transcriber.results import AlignedText
from lstmkit.plots.style import BLUE, GREY, SMALL, new_figure, shown

_MOST = 70  # characters that are drawn
_TALLEST = 2.6  # inches of the picture itself


def aligned_transcript_figure(
    values: np.ndarray,
    ends: float,
    placed: Sequence[AlignedText],
    along: str,
    title: str,
    *,
    up: str = "",
    cmap: str = "magma",
) -> Figure:
    """An image over time or along a line, and over it what was read where.

    Args:
        values: ``(H, W)``, the lowest row first.
        ends: Where the last column ends; the first begins at 0.
        placed: The characters with their positions; the first 70 are drawn.
        along, up: What the axes are; without ``up`` the image keeps its own proportions.
        title: The text.
        cmap: Colors, from low to high.
    """
    last = placed[_MOST].start if len(placed) > _MOST else ends
    values = values[:, : max(1, int(np.ceil(values.shape[1] * last / ends)))]
    own = 6.2 * values.shape[0] / values.shape[1]
    figure = new_figure(0.95 + (1.9 if up else min(_TALLEST, max(0.25, own))))
    ax = figure.subplots()
    ax.imshow(values, origin="lower", extent=(0, last, 0, values.shape[0]), aspect="auto", cmap=cmap)
    ax.set(xlim=(0, last), ylim=(0, values.shape[0]))
    ax.set_xlabel(along, fontsize=SMALL)
    ax.tick_params(labelsize=SMALL)
    if up:
        ax.set_ylabel(up, fontsize=SMALL)
    else:
        ax.set_yticks([])
    _letters(ax, placed[:_MOST])
    _entitle(figure, title)
    return figure


def _letters(ax: Axes, placed: Sequence[AlignedText]) -> None:
    """Above the axes; a mark from each down to the place."""
    small = SMALL if len(placed) <= 45 else 0.75 * SMALL
    for one in placed:
        middle = (one.start + one.end) / 2
        strength = 0.35 + 0.65 * min(1.0, one.confidence)
        ax.axvline(middle, color=BLUE, linewidth=0.7, alpha=0.6 * strength)
        ax.text(
            middle, 1.02, "␣" if one.text == " " else one.text, transform=ax.get_xaxis_transform(), ha="center",
            va="bottom", fontsize=small, color=BLUE, alpha=strength, parse_math=False,
        )  # fmt: skip


def ink_transcript_figure(points: np.ndarray, placed: Sequence[AlignedText], title: str) -> Figure:
    """What a pen wrote, and each character under the points where it was read.

    Args:
        points: ``(N, 3)`` strokes.
        placed: The characters, their positions as numbers of points; the first 70 are drawn.
        title: The text.
    """
    places = np.cumsum(points[:, :2], axis=0)
    figure = new_figure(2.2)
    ax = figure.subplots()
    for stroke in np.split(places, np.flatnonzero(points[:, 2] > 0) + 1):
        ax.plot(stroke[:, 0], stroke[:, 1], color=GREY, linewidth=1.2)
    foot = places[:, 1].max() + 0.12 * max(1e-6, np.ptp(places[:, 1]))
    for one in placed[:_MOST]:
        first = min(int(one.start), len(places) - 1)
        across = places[first : max(first + 1, int(np.ceil(one.end))), 0].mean()
        strength = 0.35 + 0.65 * min(1.0, one.confidence)
        ax.text(
            across, foot, "␣" if one.text == " " else one.text, ha="center", va="top", fontsize=SMALL, color=BLUE,
            alpha=strength, parse_math=False,
        )  # fmt: skip
    ax.invert_yaxis()
    ax.set_ylim(foot + 0.25 * max(1e-6, np.ptp(places[:, 1])), None)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_axis_off()
    _entitle(figure, title)
    return figure


def _entitle(figure: Figure, title: str) -> None:
    figure.suptitle(shown(title, 80) or "nothing was read", x=0.01, ha="left", fontsize=SMALL + 1, parse_math=False)
