"""Figures of transcriptions: the input with each character at its position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lstmkit.decoding.transcription import AlignedText
from lstmkit.plots.style import BLUE, GRAY, SMALL, new_figure, truncated

_MAX_CHARACTERS = 70  # that are drawn
_MAX_IMAGE_HEIGHT = 2.6  # inches


def aligned_transcript_figure(
    values: np.ndarray,
    end: float,
    characters: Sequence[AlignedText],
    x_label: str,
    title: str,
    *,
    y_label: str = "",
    cmap: str = "magma",
) -> Figure:
    """Draw a spectrogram, features or an image of a text line, and above it each character at its position.

    Args:
        values: ``(H, W)``, the lowest row first.
        end: Position at which the last column ends; the first begins at 0.
        characters: The characters with their positions; the first 70 are drawn.
        x_label, y_label: Axis labels; without ``y_label`` the image keeps its aspect ratio.
        title: The transcribed text.
        cmap: Matplotlib color map.
    """
    first, last = 0.0, end
    if len(characters) > _MAX_CHARACTERS:
        shown, hidden = characters[_MAX_CHARACTERS - 1], characters[_MAX_CHARACTERS]
        first, last = (first, hidden.start) if shown.start < hidden.start else (hidden.end, last)
    per_unit = values.shape[1] / end
    start = min(int(first * per_unit), values.shape[1] - 1)
    values = values[:, start : max(start + 1, int(np.ceil(last * per_unit)))]
    image_height = 6.2 * values.shape[0] / values.shape[1]
    figure = new_figure(0.95 + (1.9 if y_label else min(_MAX_IMAGE_HEIGHT, max(0.25, image_height))))
    ax = figure.subplots()
    ax.imshow(values, origin="lower", extent=(first, last, 0, values.shape[0]), aspect="auto", cmap=cmap)
    ax.set(xlim=(first, last), ylim=(0, values.shape[0]))
    ax.set_xlabel(x_label, fontsize=SMALL)
    ax.tick_params(labelsize=SMALL)
    if y_label:
        ax.set_ylabel(y_label, fontsize=SMALL)
    else:
        ax.set_yticks([])
    _draw_characters(ax, characters[:_MAX_CHARACTERS])
    _set_title(figure, title)
    return figure


def _draw_characters(ax: Axes, characters: Sequence[AlignedText]) -> None:
    """Write the characters above the axes, each with a vertical line at its position."""
    font_size = SMALL if len(characters) <= 45 else 0.75 * SMALL
    for character in characters:
        middle = (character.start + character.end) / 2
        alpha = 0.35 + 0.65 * min(1.0, character.confidence)
        ax.axvline(middle, color=BLUE, linewidth=0.7, alpha=0.6 * alpha)
        ax.text(
            middle, 1.02, _visible(character), transform=ax.get_xaxis_transform(), ha="center", va="bottom",
            fontsize=font_size, color=BLUE, alpha=alpha, parse_math=False,
        )  # fmt: skip


def _visible(character: AlignedText) -> str:
    return "␣" if character.text == " " else character.text


def ink_transcript_figure(points: np.ndarray, characters: Sequence[AlignedText], title: str) -> Figure:
    """Draw pen strokes, and below them each character at its position.

    Args:
        points: ``(N, 3)`` strokes.
        characters: The characters, with positions as point numbers; the first 70 are drawn.
        title: The transcribed text.
    """
    positions = np.cumsum(points[:, :2], axis=0)
    figure = new_figure(2.2)
    ax = figure.subplots()
    for stroke in np.split(positions, np.flatnonzero(points[:, 2] > 0) + 1):
        ax.plot(stroke[:, 0], stroke[:, 1], color=GRAY, linewidth=1.2)
    text_y = positions[:, 1].max() + 0.12 * max(1e-6, np.ptp(positions[:, 1]))
    for character in characters[:_MAX_CHARACTERS]:
        first = min(int(character.start), len(positions) - 1)
        x = positions[first : max(first + 1, int(np.ceil(character.end))), 0].mean()
        alpha = 0.35 + 0.65 * min(1.0, character.confidence)
        ax.text(
            x, text_y, _visible(character), ha="center", va="top", fontsize=SMALL, color=BLUE, alpha=alpha,
            parse_math=False,
        )  # fmt: skip
    ax.invert_yaxis()
    ax.set_ylim(text_y + 0.25 * max(1e-6, np.ptp(positions[:, 1])), None)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_axis_off()
    _set_title(figure, title)
    return figure


def _set_title(figure: Figure, title: str) -> None:
    figure.suptitle(
        truncated(title, 80) or "no text recognized", x=0.01, ha="left", fontsize=SMALL + 1, parse_math=False
    )
