"""Charts as the JSON that Plotly draws, in the colors of :mod:`lstmkit.plots.style`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lstmkit.plots.style import DIM, PALETTE

Chart = dict[str, Any]  #: ``data`` and ``layout`` of Plotly.

_MAX_POINTS = 2000  # of a line: more would be narrower than a pixel
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_GRID = "#e2e2e2"
_PANEL, _GAP = 120, 34  # height of a panel and distance to the next, in pixels
_TOP, _BOTTOM = 30, 44  # margins in pixels
_AXIS: dict[str, Any] = {"gridcolor": _GRID, "zeroline": False, "automargin": True, "fixedrange": False}


def layout(height: float, **more: Any) -> dict[str, Any]:
    """The layout that all charts share.

    Args:
        height: In pixels.
        more: Further parts of Plotly's layout.
    """
    return {
        "height": height,
        "margin": {"l": 48, "r": 12, "t": _TOP, "b": _BOTTOM},
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#1b1b1b"},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "showlegend": False,
        "hovermode": "closest",
        "dragmode": False,
        "xaxis": dict(_AXIS),
        "yaxis": dict(_AXIS),
        **more,
    }


def line(x: Sequence[Any] | np.ndarray, y: Sequence[Any] | np.ndarray, name: str, number: int = 0) -> dict[str, Any]:
    """A line; long ones are thinned to 2,000 points.

    Args:
        x: ``(N,)`` times, steps or numbers.
        y: ``(N,)`` values; NaN leaves a gap.
        name: In the legend.
        number: Chooses color and dashes.
    """
    every = max(1, math.ceil(len(x) / _MAX_POINTS))
    values = [value if math.isfinite(value) else None for value in np.asarray(y, dtype=float)[::every].tolist()]
    style = {"color": PALETTE[number % len(PALETTE)], "dash": _DASHES[number % len(_DASHES)], "width": 1.6}
    times = np.asarray(x)[::every].tolist()
    return {"type": "scatter", "mode": "lines", "x": times, "y": values, "name": plain(name), "line": style}


def lines(traces: Sequence[dict[str, Any]], x_title: str = "", y_title: str = "", height: float = 300) -> Chart:
    """Lines in one panel, with a legend if there are several."""
    legend = {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"}
    return {
        "data": list(traces),
        "layout": layout(
            height,
            showlegend=len(traces) > 1,
            legend=legend,
            xaxis={**_AXIS, "title": {"text": plain(x_title)}},
            yaxis={**_AXIS, "title": {"text": plain(y_title)}},
        ),
    }


def losses(traces: Sequence[dict[str, Any]]) -> Chart:
    """Lines over epochs, which are whole numbers."""
    chart = lines(traces, "epoch", "loss", 280)
    last = max((trace["x"][-1] for trace in traces if trace["x"]), default=1)
    chart["layout"]["xaxis"] |= {"tick0": 1, "dtick": max(1, math.ceil(last / 10)), "range": [0.5, last + 0.5]}
    return chart


def panels(x: Sequence[Any] | np.ndarray, series: Mapping[str, np.ndarray]) -> Chart:
    """One panel for each series, one below the other, over the same axis.

    Args:
        x: ``(N,)`` times or steps.
        series: ``(N,)`` values by name.
    """
    count = len(series)
    inner = count * _PANEL + (count - 1) * _GAP
    axes: dict[str, Any] = {"xaxis": {**_AXIS, "anchor": f"y{count if count > 1 else ''}"}}
    traces, titles = [], []
    for k, (name, values) in enumerate(series.items()):
        top = 1 - k * (_PANEL + _GAP) / inner
        axis = f"y{k + 1 if k else ''}"
        axes[f"yaxis{k + 1 if k else ''}"] = {**_AXIS, "domain": [max(0.0, top - _PANEL / inner), top], "nticks": 4}
        traces.append({**line(x, values, name), "yaxis": axis})
        titles.append(_title(name, top))
    return {"data": traces, "layout": layout(inner + _TOP + _BOTTOM, **axes, annotations=titles)}


def bars(counts: Mapping[str, int], title: str) -> Chart:
    """Horizontal bars, the greatest on top."""
    names, values = list(map(plain, counts)), list(counts.values())
    trace = {"type": "bar", "orientation": "h", "y": names, "x": values, "marker": {"color": PALETTE[0]}}
    y_axis = {**_AXIS, "type": "category", "autorange": "reversed"}
    height = 26 * len(names) + _TOP + _BOTTOM
    return {"data": [trace], "layout": layout(height, yaxis=y_axis, annotations=[_title(title, 1)])}


def heat_map(values: np.ndarray, *, x_title: str = "", height: float = 260, rows: Sequence[str] = ()) -> Chart:
    """Cells ``(R, T)`` from white to dark, the first row at the bottom."""
    trace = {"type": "heatmap", "z": np.round(values.astype(float), 3).tolist(), "showscale": False}
    trace |= {"colorscale": [[0, "#ffffff"], [1, PALETTE[0]]], "y": list(rows) or None, "hoverinfo": "x+y"}
    x_axis = {**_AXIS, "title": {"text": x_title}}
    return {"data": [trace], "layout": layout(height, xaxis=x_axis)}


def drawing(strokes: Sequence[np.ndarray], height: float = 260) -> Chart:
    """Pen strokes, ``(n, 2)`` positions each, y downwards."""
    traces = [{**line(stroke[:, 0], stroke[:, 1], ""), "hoverinfo": "skip"} for stroke in strokes]
    for trace in traces:
        trace["line"] = {"color": "#1b1b1b", "width": 2}
    hidden = {"visible": False}
    y_axis = {**hidden, "autorange": "reversed", "scaleanchor": "x", "scaleratio": 1}
    return {"data": traces, "layout": layout(height, xaxis=hidden, yaxis=y_axis)}


def _title(text: str, y: float) -> dict[str, Any]:
    """The title of a panel, above its left end."""
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": y, "xanchor": "left", "yanchor": "bottom"}
    return {**place, "text": plain(text), "showarrow": False, "font": {"size": 13, "color": DIM}}


def plain(text: object) -> str:
    """Text that Plotly draws as it is: it reads some tags of HTML.

    >>> plain("<b>x</b>")
    '&lt;b&gt;x&lt;/b&gt;'
    """
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
