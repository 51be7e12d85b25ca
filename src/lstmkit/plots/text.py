"""Figures of text: tokens shaded by a value, and attention weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lstmkit.plots.style import SMALL, WIDTH, draw_message, new_figure, truncated

COLUMNS = 84  #: Characters per line.
LINE = 0.25  #: Line height in inches.
_MAX_LINES = 40
_MAX_SENTENCES = 30
_MAX_LARGE_LABELS = 25  # of a side of an attention map
_MAX_TOKENS = 60  # rows or columns of an attention map


def surprisal_figure(tokens: Sequence[str], bits: Sequence[float], label: str = "surprisal, bits") -> Figure:
    """Draw tokens as text, shaded by their surprisal in bits; see :func:`shaded_text`."""
    return shaded_text(tokens, bits, label, max([1.0, *bits[: len(lay_out_tokens(tokens)[0])]]))


def shaded_text(
    tokens: Sequence[str], values: Sequence[float], label: str, max_value: float, title: str = ""
) -> Figure:
    """Draw tokens as text on a background that is darker for larger values.

    Args:
        tokens: Tokens as displayed; those beyond 40 lines are left out.
        values: One value per token, at least 0.
        label: Label of the color bar.
        max_value: Value of the darkest shade.
        title: Title of the figure.
    """
    positions, lines = lay_out_tokens(tokens)
    figure = new_figure(0.75 + LINE * lines)
    ax = figure.subplots()
    shades = colormaps["Blues"].resampled(256)
    for token, value, (line, column) in zip(tokens, values, positions, strict=False):
        background = shades(0.85 * min(1.0, value / max_value))
        ax.add_patch(Rectangle((column, line), len(token), 0.86, facecolor=background, linewidth=0))
        dark = 0.3 * background[0] + 0.59 * background[1] + 0.11 * background[2] < 0.5
        ax.text(
            column + len(token) / 2, line + 0.46, token, ha="center", va="center", fontfamily="monospace",
            fontsize=7.2, color="white" if dark else "black", parse_math=False,
        )  # fmt: skip
    ax.set(xlim=(0, COLUMNS), ylim=(lines, 0))
    ax.set_axis_off()
    mappable = ScalarMappable(Normalize(0, max_value), shades)
    bar = figure.colorbar(mappable, ax=ax, location="top", fraction=0.05, aspect=50, shrink=0.5, anchor=(0, 0))
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    if title:
        _set_title(figure, title)
    return figure


def attention_figure(input_tokens: Sequence[str], output_tokens: Sequence[str], weights: np.ndarray) -> Figure:
    """Draw the attention of each output token (rows) over the input tokens (columns).

    Args:
        input_tokens: ``S`` input tokens as displayed; the first 60 are drawn.
        output_tokens: ``T`` output tokens; the first 60 are drawn.
        weights: ``(T, S)`` attention weights; each row sums to 1.
    """
    columns, rows = ([truncated(token, 14) for token in side[:_MAX_TOKENS]] for side in (input_tokens, output_tokens))
    few = max(len(columns), len(rows)) <= _MAX_LARGE_LABELS
    figure = new_figure(1.4 + max(1.2, min(WIDTH / max(1, len(columns)), 0.32 if few else 0.15) * len(rows)))
    ax = figure.subplots()
    if not weights.size:
        draw_message(ax, "the output is empty")
        return figure
    image = ax.imshow(weights[: len(rows), : len(columns)], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    size = SMALL if few else 0.65 * SMALL
    ax.set_xticks(range(len(columns)), columns, rotation=90, fontsize=size, parse_math=False)
    ax.set_yticks(range(len(rows)), rows, fontsize=size, parse_math=False)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_color("#cccccc")
    figure.colorbar(image, ax=ax, fraction=0.03, aspect=30).set_label("attention weight", fontsize=SMALL)
    return figure


def story_figure(sentences: Sequence[str], weights: np.ndarray, title: str) -> Figure:
    """Draw how much each attention hop attends to each sentence of a story.

    Args:
        sentences: ``N`` sentences; if there are more than 30, the 30 with the most attention, in order.
        weights: ``(hops, N)`` attention weights; each row sums to 1.
        title: Title of the figure, for example the question and its answer.
    """
    hops = len(weights)
    kept = np.sort(np.argsort(-weights.sum(0), kind="stable")[:_MAX_SENTENCES])
    figure = new_figure(1.0 + LINE * max(4, len(kept)))
    ax = figure.subplots()
    _set_title(figure, title)
    if not len(kept):
        draw_message(ax, "the story is empty")
        return figure
    image = ax.imshow(weights[:, kept].T, cmap="Blues", vmin=0, vmax=1, aspect="auto", extent=(0, hops, len(kept), 0))
    ax.set_xticks(np.arange(hops) + 0.5, [f"hop {k + 1}" for k in range(hops)], fontsize=SMALL)
    ax.set_yticks(
        np.arange(len(kept)) + 0.5, [truncated(sentences[i], 60) for i in kept], fontsize=SMALL, parse_math=False
    )
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_color("#cccccc")
    figure.colorbar(image, ax=ax, fraction=0.04, aspect=30).set_label("attention weight", fontsize=SMALL)
    return figure


def _set_title(figure: Figure, title: str) -> None:
    figure.suptitle(truncated(title, 90), x=0.01, ha="left", fontsize=1.1 * SMALL, parse_math=False)


def lay_out_tokens(tokens: Sequence[str]) -> tuple[list[tuple[int, int]], int]:
    """Lay tokens out on at most 40 lines of 84 characters.

    Returns:
        Line and column of each token that fits, and the number of lines.
    """
    positions: list[tuple[int, int]] = []
    gap = sum(map(len, tokens)) > 1.5 * len(tokens)  # no gaps between single characters
    line = column = 0
    for token in tokens:
        width = len(token)
        if column and column + width > COLUMNS:
            line, column = line + 1, 0
        if line == _MAX_LINES:
            break
        positions.append((line, column))
        column += width + gap
        if token in ("<eos>", "⏎"):
            line, column = line + 1, 0
    return positions, (positions[-1][0] + 1 if positions else 1)
