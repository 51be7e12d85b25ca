"""Training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    GRAY,
    MARKERS,
    PALETTE,
    SMALL,
    draw_message,
    integer_ticks,
    legend,
    new_figure,
    style_axes,
)

LossHistory = tuple[Sequence[Mapping[str, float]], int]  #: One row of metrics per epoch, and the best epoch (from 1).


def training_curve(histories: Mapping[str, LossHistory]) -> Figure:
    """Draw training and validation loss by epoch, and the learning rate if it changed.

    Args:
        histories: By run name (for example the seed), the rows with ``epoch``, ``train_loss`` and optionally
            ``valid_loss`` and ``lr``; and the best epoch, which is marked. 0 marks none.
    """
    last = max((row["epoch"] for rows, _ in histories.values() for row in rows), default=0)
    learning_rates = [row["lr"] for rows, _ in histories.values() for row in rows if "lr" in row]
    with_learning_rate = len(set(learning_rates)) > 1
    figure = new_figure(3.9 if with_learning_rate else 3.1)
    axes = figure.subplots(
        2 if with_learning_rate else 1, 1, squeeze=False, sharex=True, height_ratios=[4, 1][: 1 + with_learning_rate]
    )
    ax = axes[0, 0]
    if not last:
        draw_message(ax, "no epoch was completed")
        return figure
    handles: dict[str, Artist] = {}
    for i, (name, (rows, best_epoch)) in enumerate(histories.items()):
        color, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
        for column, dash, width in (("train_loss", DASHES[1], 1.1), ("valid_loss", "-", 1.7)):
            x, y = _column(rows, column)
            ax.plot(x, y, color=color, linestyle=dash, linewidth=width, marker="." if len(x) == 1 else "")
        _mark_best(ax, rows, best_epoch, color, marker)
        handles[name] = Line2D([], [], color=color, marker=marker, linestyle="")
        if with_learning_rate:
            axes[1, 0].plot(*_column(rows, "lr"), color=color, linewidth=1.2)
    _loss_scale(ax)
    ax.set_ylabel("loss", fontsize=SMALL)
    axes[-1, 0].set_xlabel("epoch", fontsize=SMALL)
    axes[-1, 0].set_xlim(0.5, last + 0.5)
    integer_ticks(axes[-1, 0])
    if with_learning_rate:
        axes[1, 0].set_ylabel("learning\nrate", fontsize=SMALL)
        axes[1, 0].yaxis.set_major_locator(MaxNLocator(2))
    legend(figure, (handles if len(histories) > 1 else {}) | _training_keys(histories))
    for panel in axes.flat:
        style_axes(panel)
    return figure


def _column(rows: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    present = [row for row in rows if name in row]
    return [row["epoch"] for row in present], [row[name] for row in present]


def _mark_best(ax: Axes, rows: Sequence[Mapping[str, float]], best_epoch: int, color: str, marker: str) -> None:
    for row in rows:
        if row["epoch"] == best_epoch:
            y = row.get("valid_loss", row["train_loss"])
            ax.plot([best_epoch], [y], color=color, marker=marker, markersize=8, markeredgecolor=BLACK, zorder=4)


def _training_keys(histories: Mapping[str, LossHistory]) -> dict[str, Artist]:
    """Legend entries of the line styles and markers in use."""
    single_run, best = len(histories) == 1, [epoch for _, epoch in histories.values() if epoch >= 1]
    color = BLUE if single_run else GRAY
    keys: dict[str, Artist] = {"training": Line2D([], [], color=color, linestyle=DASHES[1], linewidth=1.1)}
    if any("valid_loss" in row for rows, _ in histories.values() for row in rows):
        keys["validation"] = Line2D([], [], color=color, linewidth=1.7)
    if best:
        mark = Line2D(
            [], [], color=color, marker="o" if single_run else "H", markersize=8, markeredgecolor=BLACK, linestyle=""
        )
        keys[f"best epoch ({best[0]})" if single_run else "best epoch"] = mark
    return keys


def _loss_scale(ax: Axes) -> None:
    """Use a logarithmic scale if the loss is positive and spans more than a factor of 30."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines] or [np.ones(1)])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 30 * values.min():
        ax.set_yscale("log")
