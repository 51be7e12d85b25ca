"""Training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lstmkit.plots.style import (
    BLACK,
    BLUE,
    DASHES,
    GREY,
    MARKERS,
    PALETTE,
    SMALL,
    draw_message,
    integer_ticks,
    legend,
    new_figure,
    style_axes,
)

if TYPE_CHECKING:
    pass


History = tuple[Sequence[Mapping[str, float]], int]  #: Rows with an epoch's numbers, and the best epoch (from 1).


def training_curve(histories: Mapping[str, History]) -> Figure:
    """The loss after each epoch, and the learning rate where it changed.

    Args:
        histories: For each run (a seed, say), its rows with ``epoch``, ``train_loss`` and, where there was any,
            ``valid_loss`` and ``lr``; and its best epoch, which gets a mark (below 1: no mark).
    """
    last = max((row["epoch"] for rows, _ in histories.values() for row in rows), default=0)
    rates = [row["lr"] for rows, _ in histories.values() for row in rows if "lr" in row]
    with_rate = len(set(rates)) > 1
    figure = new_figure(3.9 if with_rate else 3.1)
    axes = figure.subplots(2 if with_rate else 1, 1, squeeze=False, sharex=True, height_ratios=[4, 1][: 1 + with_rate])
    ax = axes[0, 0]
    if not last:
        draw_message(ax, "no epoch finished")
        return figure
    handles: dict[str, Artist] = {}
    for i, (name, (rows, best_epoch)) in enumerate(histories.items()):
        colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
        for column, dash, width in (("train_loss", DASHES[1], 1.1), ("valid_loss", "-", 1.7)):
            x, y = _column(rows, column)
            ax.plot(x, y, color=colour, linestyle=dash, linewidth=width, marker="." if len(x) == 1 else "")
        _mark_best(ax, rows, best_epoch, colour, marker)
        handles[name] = Line2D([], [], color=colour, marker=marker, linestyle="")
        if with_rate:
            axes[1, 0].plot(*_column(rows, "lr"), color=colour, linewidth=1.2)
    _loss_scale(ax)
    ax.set_ylabel("loss", fontsize=SMALL)
    axes[-1, 0].set_xlabel("epoch", fontsize=SMALL)
    axes[-1, 0].set_xlim(0.5, last + 0.5)
    integer_ticks(axes[-1, 0])
    if with_rate:
        axes[1, 0].set_ylabel("learning\nrate", fontsize=SMALL)
        axes[1, 0].yaxis.set_major_locator(MaxNLocator(2))
    legend(figure, (handles if len(histories) > 1 else {}) | _training_keys(histories))
    for each in axes.flat:
        style_axes(each)
    return figure


def _column(rows: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    kept = [row for row in rows if name in row]
    return [row["epoch"] for row in kept], [row[name] for row in kept]


def _mark_best(ax: Axes, rows: Sequence[Mapping[str, float]], best_epoch: int, colour: str, marker: str) -> None:
    for row in rows:
        if row["epoch"] == best_epoch:
            y = row.get("valid_loss", row["train_loss"])
            ax.plot([best_epoch], [y], color=colour, marker=marker, markersize=8, markeredgecolor=BLACK, zorder=4)


def _training_keys(histories: Mapping[str, History]) -> dict[str, Artist]:
    """What the dashes and marks mean, for the columns that are there."""
    one, best = len(histories) == 1, [epoch for _, epoch in histories.values() if epoch >= 1]
    colour = BLUE if one else GREY
    keys: dict[str, Artist] = {"training": Line2D([], [], color=colour, linestyle=DASHES[1], linewidth=1.1)}
    if any("valid_loss" in row for rows, _ in histories.values() for row in rows):
        keys["validation"] = Line2D([], [], color=colour, linewidth=1.7)
    if best:
        mark = Line2D(
            [], [], color=colour, marker="o" if one else "H", markersize=8, markeredgecolor=BLACK, linestyle=""
        )
        keys[f"best epoch ({best[0]})" if one else "best epoch"] = mark
    return keys


def _loss_scale(ax: Axes) -> None:
    """Logarithmic where the loss stayed positive and fell more than thirtyfold."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines] or [np.ones(1)])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 30 * values.min():
        ax.set_yscale("log")
