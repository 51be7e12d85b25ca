"""Figures of recommendations: recall by list length, and recommended items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from lstmkit.plots.style import (
    BLUE,
    SMALL,
    draw_message,
    integer_ticks,
    legend,
    line_style,
    new_figure,
    style_axes,
    truncated_in_the_middle,
)


def recall_figure(lengths: Sequence[int], curves: Mapping[str, np.ndarray]) -> Figure:
    """Recall against the number of recommended items, one line per model.

    Args:
        lengths: ``K`` list lengths.
        curves: For each model ``(K,)`` recalls.
    """
    figure = new_figure(3.5)
    ax = figure.subplots()
    handles: dict[str, Artist] = {}
    for i, (name, values) in enumerate(curves.items()):
        (handles[name],) = ax.plot(lengths, values, linewidth=2 if i == 0 else 1.5, **line_style(i))
    ax.set_ylim(bottom=0)
    ax.set_xlabel("items recommended", fontsize=SMALL)
    ax.set_ylabel("recall", fontsize=SMALL)
    style_axes(ax)
    integer_ticks(ax)
    legend(figure, handles)
    return figure


def recommendations_figure(lists: Mapping[str, tuple[Sequence[str], Sequence[float]]], label: str) -> Figure:
    """Recommended items, one panel per session, the best on top.

    Args:
        lists: By the title of the panel the items and their scores.
        label: Label of the scores.
    """
    rows = [max(1, len(items)) for items, _ in lists.values()]
    figure = new_figure(0.3 + sum(0.75 + 0.21 * n for n in rows))
    for ax, (title, (items, values)) in zip(
        np.ravel(figure.subplots(len(lists), height_ratios=[3 + n for n in rows])), lists.items(), strict=True
    ):
        ax.set_title(truncated_in_the_middle(title, 80), fontsize=SMALL, loc="left", parse_math=False)
        if not items:
            draw_message(ax, "no item of this session is in the catalog")
            continue
        positions = np.arange(len(items))
        ax.barh(positions, values, color=BLUE, height=0.7)
        style_axes(ax)
        ax.set_yticks(positions, [truncated_in_the_middle(item, 24) for item in items], parse_math=False)
        ax.invert_yaxis()
        ax.set_xlabel(label, fontsize=SMALL)
    return figure
