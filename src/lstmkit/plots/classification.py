"""Figures of a classifier: confusion matrix, reliability diagram, early accuracy, attribution to tokens or steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from lstmkit.plots.style import BLUE, DASHES, GRAY, MARKERS, PALETTE, SMALL, legend, new_figure, style_axes, truncated
from lstmkit.plots.text import COLUMNS, LINE, lay_out_tokens

_ORANGE = PALETTE[4]
_ATTRIBUTION_COLORS = LinearSegmentedColormap.from_list("attribution", [_ORANGE, "white", "#4C9FD0"])
_MAX_LABELED_CLASSES = 20  # a larger confusion matrix is drawn without class names and counts
_MAX_TEXT_LINES = 60  # of all texts of a figure together
_MAX_LINES = 12  # a series with more columns is drawn as a heat map


def confusion_figure(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix: true classes in rows, predicted ones in columns, shaded by the fraction of the row.

    Args:
        counts: ``(C, C)`` number of examples.
        classes: ``C`` class names; names and counts are omitted if there are more than 20.
    """
    many = len(classes) > _MAX_LABELED_CLASSES
    side = min(6.6, 2.0 + 0.45 * len(classes))
    figure = new_figure(side, width=max(4.0, side))
    ax = figure.subplots()
    row_fractions = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    ax.imshow(row_fractions, cmap=colormaps["Blues"], vmin=0, vmax=1, aspect="equal")
    if not many:
        for (row, column), count in np.ndenumerate(counts):
            ax.text(
                column, row, f"{count:,}", ha="center", va="center", fontsize=SMALL,
                color="white" if row_fractions[row, column] > 0.55 else "black",
            )  # fmt: skip
        names = [truncated(name, 16) for name in classes]
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
        ax.set_yticks(range(len(names)), names, parse_math=False)
    ax.set_xlabel("predicted", fontsize=SMALL)
    ax.set_ylabel("true", fontsize=SMALL)
    ax.tick_params(labelsize=SMALL, length=0)
    return figure


def reliability_figure(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Draw a reliability diagram: the observed frequency against the predicted probability.

    Args:
        curves: By model name, predicted probabilities and observed frequencies, ``(K,)`` each.
    """
    figure = new_figure(3.7, width=5)
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color=GRAY, linestyle=DASHES[1], linewidth=1)
    handles: dict[str, Artist] = {}
    for i, (name, (predicted, observed)) in enumerate(curves.items()):
        (handles[name],) = ax.plot(
            predicted, observed, color=PALETTE[i], linestyle=DASHES[i], marker=MARKERS[i], markersize=4.5, linewidth=1.5
        )
    ax.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    ax.set_xlabel("predicted probability", fontsize=SMALL)
    ax.set_ylabel("observed frequency", fontsize=SMALL)
    style_axes(ax)
    legend(figure, handles)
    return figure


def early_accuracy_figure(fractions: Sequence[float], accuracy: Sequence[float], majority_accuracy: float) -> Figure:
    """Draw the accuracy against the fraction of the sequence that the classifier has read.

    Args:
        fractions: Fractions of the sequence, in (0, 1].
        accuracy: Accuracy at each fraction.
        majority_accuracy: Accuracy of always predicting the most frequent class.
    """
    figure = new_figure(3.0)
    ax = figure.subplots()
    (line,) = ax.plot(fractions, accuracy, color=BLUE, marker="o", markersize=4.5, linewidth=1.5)
    baseline = ax.axhline(majority_accuracy, color=GRAY, linestyle=DASHES[1], linewidth=1)
    ax.set(xlim=(0, 1.03), ylim=(0, 1.03))
    ax.set_xlabel("fraction of the sequence read", fontsize=SMALL)
    ax.set_ylabel("accuracy", fontsize=SMALL)
    style_axes(ax)
    legend(figure, {"accuracy": line, "most frequent class": baseline})
    return figure


class AttributedText(NamedTuple):
    """A text of which a figure shows the tokens that matter.

    Attributes:
        title: Line above the text.
        tokens: Tokens as displayed.
        changes: Decrease of the predicted probability if the token is removed, one per token.
    """

    title: str
    tokens: Sequence[str]
    changes: Sequence[float]


def text_attribution_figure(texts: Sequence[AttributedText], count: int | None = None) -> Figure:
    """Draw tokens as text: blue supports the prediction, orange and underlined opposes it.

    Args:
        texts: At least one. Tokens beyond 40 lines of a text, and texts beyond 60 lines in all, are left out.
        count: Number of texts there are, if ``texts`` are the first of them; the figure says so.
    """
    laid_out = [lay_out_tokens(text.tokens) for text in texts]
    heights = np.cumsum([lines + 2 for _, lines in laid_out]) - 1  # of titles, lines and the gaps between texts
    shown = max(1, int((heights <= _MAX_TEXT_LINES).sum()))
    texts, lines = texts[:shown], int(heights[shown - 1])
    count = len(laid_out) if count is None else count
    changes = [change for text in texts for change in text.changes]
    figure = new_figure(0.7 + LINE * lines)
    ax = figure.subplots()
    for text, (positions, _), end in zip(texts, laid_out, heights, strict=False):
        top = int(end) - max((line for line, _ in positions), default=0) - 1
        ax.text(0, top - 0.45, truncated(text.title), va="center", fontsize=SMALL, fontweight="bold", parse_math=False)
        _draw_attributed_tokens(ax, text, positions, top, _largest(changes))
    ax.set(xlim=(0, COLUMNS), ylim=(lines, 0))
    ax.set_axis_off()
    legend(figure, attribution_legend(changes), f"The first {shown} of {count:,} texts" if shown < count else "")
    return figure


def _draw_attributed_tokens(
    ax: Axes, text: AttributedText, positions: Sequence[tuple[int, int]], top: int, largest: float
) -> None:
    """Draw the tokens of a text from line ``top`` on; the color of ``largest`` is the strongest."""
    for token, change, (line, column) in zip(text.tokens, text.changes, positions, strict=False):
        strength, line = change / largest, line + top
        background = _ATTRIBUTION_COLORS(0.5 + 0.5 * float(np.clip(strength, -1, 1)))
        ax.add_patch(Rectangle((column, line), len(token), 0.86, facecolor=background, linewidth=0))
        ax.text(
            column + len(token) / 2, line + 0.46, token, ha="center", va="center", fontfamily="monospace",
            fontsize=7.2, fontweight="bold" if abs(strength) > 0.3 else "normal", parse_math=False,
        )  # fmt: skip
        if strength < -0.1:
            ax.add_line(Line2D([column, column + len(token)], [line + 0.84] * 2, color="black", linewidth=0.9))


def series_attribution_figure(values: np.ndarray, changes: Sequence[float], title: str) -> Figure:
    """Draw a time series, and below it the steps that support or oppose the prediction.

    Args:
        values: ``(T, F)``; more than 12 columns are drawn as a heat map.
        changes: Decrease of the predicted probability if the step is removed, ``T`` of them.
        title: Title of the figure.
    """
    figure = new_figure(3.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    _draw_values(above, values)
    draw_attribution(below, np.asarray(changes, dtype=float), np.arange(len(values)))
    below.set_xlabel("step", fontsize=SMALL)
    legend(figure, attribution_legend(changes), title)
    return figure


def draw_attribution(ax: Axes, changes: np.ndarray, at: np.ndarray) -> None:
    """Draw a bar for each of ``changes (T,)`` at the evenly spaced positions ``at (T,)``."""
    width = float(at[1] - at[0]) if len(at) > 1 else 2 * float(at[0]) or 1.0
    ax.bar(at, np.maximum(changes, 0), width=width, color=BLUE)
    ax.bar(at, np.minimum(changes, 0), width=width, color=_ORANGE, hatch="////", edgecolor="black", linewidth=0)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_ylabel("attribution", fontsize=SMALL)
    style_axes(ax)


def _draw_values(ax: Axes, values: np.ndarray) -> None:
    if values.shape[1] > _MAX_LINES:
        ax.imshow(values.T, aspect="auto", cmap="Greys", interpolation="nearest")
        ax.set_ylabel("column", fontsize=SMALL)
        ax.tick_params(labelsize=SMALL)
        return
    for i, column in enumerate(values.T):
        ax.plot(column, color=PALETTE[i % len(PALETTE)], linestyle=DASHES[i % len(DASHES)], linewidth=1.2)
    ax.set_ylabel("value", fontsize=SMALL)
    style_axes(ax)


def _largest(changes: Sequence[float]) -> float:
    return max(0.01, max(map(abs, changes), default=0.0))


def attribution_legend(changes: Sequence[float]) -> dict[str, Artist]:
    """Legend entries of the attribution colors."""
    return {
        f"supports the prediction (up to {_largest(changes):.2f})": Patch(facecolor=BLUE),
        "opposes the prediction": Patch(facecolor=_ORANGE, hatch="////", linewidth=0),
    }
