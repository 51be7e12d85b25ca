"""Figure of contributions: how much each input of a model moves its output."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from lstmkit.plots.style import BLUE, SMALL, new_figure, note_selection, style_axes, truncated, truncated_in_the_middle

_MAX_INPUTS = 12  # bars of a figure


def contribution_figure(contributions: Mapping[str, float], *, label: str = "mean absolute contribution") -> Figure:
    """Draw a bar per input, the largest on top.

    Args:
        contributions: By input name, its mean absolute contribution. The 12 largest are drawn.
        label: Label of the axis.
    """
    ordered = sorted(contributions, key=lambda name: -contributions[name])
    drawn = ordered[:_MAX_INPUTS]
    figure = new_figure(0.9 + 0.28 * len(drawn))
    ax = figure.subplots()
    ax.barh(range(len(drawn)), [contributions[name] for name in drawn], height=0.62, color=BLUE)
    names = [truncated_in_the_middle(name, 28) for name in drawn]
    ax.set_xlabel(truncated(label), fontsize=SMALL, parse_math=False)
    style_axes(ax)
    ax.set_yticks(range(len(drawn)), names, parse_math=False)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.margins(y=0.02)
    ax.invert_yaxis()
    return note_selection(figure, len(ordered), "inputs", drawn=len(drawn), which=f"the {len(drawn)} largest")
