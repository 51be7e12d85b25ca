"""Pictures of a classifier: what it took for what, whether its probabilities are true, and what decided an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from lstmkit.plots.style import BLUE, DASHES, GREY, MARKERS, PALETTE, SMALL, legend, new_figure, shown, style_axes
from lstmkit.plots.text import COLUMNS, LINE, lay_out_tokens

_ORANGE = PALETTE[4]
_FOR_AND_AGAINST = LinearSegmentedColormap.from_list("for and against", [_ORANGE, "white", "#4C9FD0"])
_MOST_CLASSES = 20  # with their names and numbers; of more only the shades
_MOST_COLUMNS = 12  # of numbers that are drawn as lines


def confusion_figure(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """How often a class (rows) was taken for a class (columns): numbers in the cells, shades by share of the row.

    Args:
        counts: ``(C, C)``.
        classes: ``C`` names.
    """
    many = len(classes) > _MOST_CLASSES
    side = min(6.6, 2.0 + 0.45 * len(classes))
    figure = new_figure(side, width=max(4.0, side))
    ax = figure.subplots()
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    ax.imshow(share, cmap=colormaps["Blues"], vmin=0, vmax=1, aspect="equal")
    if not many:
        for (row, column), count in np.ndenumerate(counts):
            ax.text(
                column, row, f"{count:,}", ha="center", va="center", fontsize=SMALL,
                color="white" if share[row, column] > 0.55 else "black",
            )  # fmt: skip
        names = [shown(name, 16) for name in classes]
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
        ax.set_yticks(range(len(names)), names, parse_math=False)
    ax.set_xlabel("said", fontsize=SMALL)
    ax.set_ylabel("true", fontsize=SMALL)
    ax.tick_params(labelsize=SMALL, length=0)
    return figure


def reliability_figure(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """How often what was stated came true, against the probability that was stated.

    Args:
        curves: For each model stated and observed shares, ``(K,)`` each.
    """
    figure = new_figure(3.7, width=5)
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color=GREY, linestyle=DASHES[1], linewidth=1)
    handles: dict[str, Artist] = {}
    for i, (name, (stated, observed)) in enumerate(curves.items()):
        (handles[name],) = ax.plot(
            stated, observed, color=PALETTE[i], linestyle=DASHES[i], marker=MARKERS[i], markersize=4.5, linewidth=1.5
        )
    ax.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    ax.set_xlabel("stated probability", fontsize=SMALL)
    ax.set_ylabel("share that came true", fontsize=SMALL)
    style_axes(ax)
    legend(figure, handles)
    return figure


def early_accuracy_figure(seen: Sequence[float], accuracy: Sequence[float], by_chance: float) -> Figure:
    """How often an answer is right by how much was seen.

    Args:
        seen: Shares of an example.
        accuracy: At each.
        by_chance: Share of the commonest class, which needs to see nothing.
    """
    figure = new_figure(3.0)
    ax = figure.subplots()
    (line,) = ax.plot(seen, accuracy, color=BLUE, marker="o", markersize=4.5, linewidth=1.5)
    chance = ax.axhline(by_chance, color=GREY, linestyle=DASHES[1], linewidth=1)
    ax.set(xlim=(0, 1.03), ylim=(0, 1.03))
    ax.set_xlabel("share of the example seen", fontsize=SMALL)
    ax.set_ylabel("accuracy", fontsize=SMALL)
    style_axes(ax)
    legend(figure, {"accuracy": line, "commonest class": chance})
    return figure


def text_attribution_figure(tokens: Sequence[str], changes: Sequence[float], title: str) -> Figure:
    """The tokens as text: blue where one spoke for the answer, orange and underlined where it spoke against.

    Args:
        tokens: As they are to be shown; more than fill 40 lines are left out.
        changes: By how much the answer's probability falls without each.
        title: Over it.
    """
    places, lines = lay_out_tokens(tokens)
    figure = new_figure(0.95 + LINE * lines)
    ax = figure.subplots()
    most = _largest(changes)
    for token, change, (line, column) in zip(tokens, changes, places, strict=False):
        strength = change / most
        ground = _FOR_AND_AGAINST(0.5 + 0.5 * float(np.clip(strength, -1, 1)))
        ax.add_patch(Rectangle((column, line), len(token), 0.86, facecolor=ground, linewidth=0))
        ax.text(
            column + len(token) / 2, line + 0.46, token, ha="center", va="center", fontfamily="monospace",
            fontsize=7.2, fontweight="bold" if abs(strength) > 0.3 else "normal", parse_math=False,
        )  # fmt: skip
        if strength < -0.1:
            ax.add_line(Line2D([column, column + len(token)], [line + 0.84] * 2, color="black", linewidth=0.9))
    ax.set(xlim=(0, COLUMNS), ylim=(lines, 0))
    ax.set_axis_off()
    legend(figure, attribution_legend(changes), title)
    return figure


def series_attribution_figure(values: np.ndarray, changes: Sequence[float], title: str) -> Figure:
    """Numbers over time, and below them which steps spoke for the answer and which against.

    Args:
        values: ``(T, F)``; of many columns a heat map.
        changes: By how much the answer's probability falls without each step.
        title: Over it.
    """
    figure = new_figure(3.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    _draw_values(above, values)
    draw_attribution(below, np.asarray(changes, dtype=float), np.arange(len(values)))
    below.set_xlabel("step", fontsize=SMALL)
    legend(figure, attribution_legend(changes), title)
    return figure


def draw_attribution(ax: Axes, changes: np.ndarray, at: np.ndarray) -> None:
    """A bar for each of ``changes``, ``(T,)``, at the places ``at``, ``(T,)``, which are as far from one another."""
    width = float(at[1] - at[0]) if len(at) > 1 else 2 * float(at[0]) or 1.0
    ax.bar(at, np.maximum(changes, 0), width=width, color=BLUE)
    ax.bar(at, np.minimum(changes, 0), width=width, color=_ORANGE, hatch="////", edgecolor="black", linewidth=0)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_ylabel("change", fontsize=SMALL)
    style_axes(ax)


def _draw_values(ax: Axes, values: np.ndarray) -> None:
    if values.shape[1] > _MOST_COLUMNS:
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
    """What the colours say, for a legend."""
    return {
        f"speaks for it (to {_largest(changes):.2f})": Patch(facecolor=BLUE),
        "speaks against it": Patch(facecolor=_ORANGE, hatch="////", linewidth=0),
    }
