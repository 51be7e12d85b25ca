"""Heat maps, memory half-life and saturation of the gates of a recurrent layer.

``layer.trace(x).gates[layer, direction]`` has each gate as ``(B, T, H)``. The functions here take one sequence of it,
truncated to its length because a trace is 0 past the end: ``{name: gate[b, :length] for name, gate in gates.items()}``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from torch import Tensor

from lstmkit.plots.style import (
    BLACK,
    BLUE,
    DASHES,
    DIM,
    MARKERS,
    PALETTE,
    SMALL,
    draw_message,
    integer_ticks,
    new_figure,
    style_axes,
    truncated,
)

Gates = Mapping[str, Tensor | np.ndarray]

MEMORY_GATES = ("forget", "update")  #: The gate that retains the memory: the LSTM's, the GRU's.
SIGMOID_GATES = ("forget", "input", "output", "reset", "update")  #: Gates between 0 (closed) and 1 (open).

#: Panels in order; each group shares a color bar.
_GROUPS = (SIGMOID_GATES, ("candidate", "hidden"), ("cell",))
_AXIS_WIDTH = 5.5  # inches
_SMALLEST = 6.5  # points, of a label on the time axis
_MAX_NUMBERED_UNITS = 8  # maps of at most this many units show unit numbers
_GATE_DESCRIPTIONS = {
    "forget": "forget gate: 1 keeps the memory",
    "input": "input gate: 1 writes the candidate",
    "output": "output gate: 1 outputs the memory",
    "reset": "reset gate: 0 ignores the previous state",
    "update": "update gate: 1 keeps the previous state",
    "candidate": "candidate: new content",
    "cell": "cell state: the memory",
    "hidden": "hidden state: the layer's output",
}


def gate_figure(
    gates: Gates,
    *,
    labels: Sequence[str] | None = None,
    values: np.ndarray | None = None,
    value_name: str = "value",
    title: str = "",
    units: int | Sequence[int] = 64,
    sort_by: str = "forget",
    forecast_start: int | None = None,
    steps: int | None = None,
) -> Figure:
    """Draw every gate and state of one sequence as a heat map over time, one row per unit.

    All maps of the same width list the units in the same order: by the mean of ``sort_by``, largest on top. A GRU is
    sorted by its update gate instead of a forget gate, an RNN by the mean absolute hidden state. In print without
    color, darker means a more open gate or a more negative state.

    Args:
        gates: By name ``(T, H)`` (``hidden`` of a layer with projection ``(T, P)``), on any device, of any float type.
        labels: Label of each step: ``T`` timestamps, words or characters.
        values: ``(T',)`` the input series, drawn on top over the same time span.
        value_name: Name of that series, on its axis.
        title: Title of the figure.
        units: Maximum number of units, spread evenly over the order; or the unit numbers to draw, from 0.
        sort_by: The gate to sort by.
        forecast_start: First step of a forecast's horizon, from 0; a line marks it.
        steps: Number of steps of the sequence if a column is the mean of several; by default one column is one step.

    Raises:
        ValueError: There are no gates, a gate is not ``(T, H)``, lengths differ, ``labels`` has not one entry per step,
            or a unit does not exist.
    """
    maps = _as_maps(gates)
    steps = len(next(iter(maps.values()))) if steps is None else steps
    if labels is not None and len(labels) != steps:
        raise ValueError(f"labels must have one entry per step: expected {steps}, got {len(labels)}")
    if not isinstance(units, int):
        _check_units(units, maps)
        maps = {name: gate for name, gate in maps.items() if min(units) < gate.shape[1]}
    n_maps, top = len(maps), values is not None
    figure = new_figure(0.9 + 1.2 * n_maps + 1.1 * top + 0.3 * bool(title))
    if title:
        figure.suptitle(truncated(title), x=0.01, ha="left", fontsize=SMALL + 2, fontweight="bold", parse_math=False)
    axes = list(figure.subplots(n_maps + top, 1, squeeze=False, sharex=True)[:, 0])
    if values is not None:
        _draw_values(axes[0], np.asarray(values, dtype=float), steps, value_name)
    panels, (orders, order_text) = iter(axes[top:]), _orders(maps, sort_by)
    for group in _grouped(list(maps)):
        group_axes = [next(panels) for _ in group]
        _draw_group(figure, group_axes, {name: maps[name] for name in group}, orders, units, steps)
    axes[top].set_title(order_text, loc="right", fontsize=SMALL, color=DIM, parse_math=False)
    label_time(axes[-1], steps, labels)
    if forecast_start is not None:
        for ax in axes:
            ax.axvline(forecast_start - 0.5, color="#D55E00", linestyle=DASHES[1], linewidth=1.6)
        axes[-1].set_xlabel("the forecast starts at the dashed line", fontsize=SMALL)
    return figure


def half_life(forget: Tensor | np.ndarray) -> np.ndarray:
    """Memory half-life of each unit in steps: ``-ln 2 / ln f``.

    If nothing is written, ``c_t = f_t c_{t-1}`` decays by the product of the forget gates. So ``f`` is their geometric
    mean over time, and ``c_t = f^t c_0`` is halved at ``f^t = 1/2``: the exponential decay of a gated leaky unit
    (Tallec and Ollivier 2018, "Can recurrent neural networks warp time?"). For a GRU pass the update gate.

    Args:
        forget: ``(T, H)`` in [0, 1].

    Returns:
        ``(H,)`` in steps: 0 if the gate is ever fully closed, infinity if it is always fully open, NaN if the gate
        contains NaN or there are no steps.

    Raises:
        ValueError: ``forget`` is not ``(T, H)``.

    >>> half_life(np.array([[0.5, 0.25, 1.0], [0.5, 1.0, 1.0]]))
    array([ 1.,  1., inf])
    """
    gate = _array(forget)
    if gate.ndim != 2:
        raise ValueError(f"expected a gate of shape (T, H), got {gate.shape}")
    if not len(gate):
        return np.full(gate.shape[1], np.nan)
    with np.errstate(divide="ignore"):
        return half_life_from(np.log(gate).mean(axis=0))


def half_life_from(log_forget: np.ndarray) -> np.ndarray:
    """:func:`half_life` from the mean over time of the gate's logarithm, ``(H,)``."""
    with np.errstate(divide="ignore"):
        return -math.log(2) / np.where(log_forget == 0, -0.0, log_forget)


def half_life_figure(half_lives: np.ndarray) -> Figure:
    """Draw a histogram of memory half-lives on a logarithmic axis.

    Args:
        half_lives: ``(H,)`` in steps, from :func:`half_life`; counts of 0, infinity and NaN are written as text.
    """
    figure = new_figure(2.8)
    ax = figure.subplots()
    drawable = half_lives[np.isfinite(half_lives) & (half_lives > 0)]
    if not len(drawable):
        draw_message(ax, _undrawable_counts(half_lives) or "no units")
        return figure
    low, high = np.floor(2 * np.log2(drawable.min())), np.ceil(2 * np.log2(drawable.max()))
    width = max(1, (high - low) // 40)  # in half octaves
    ax.hist(
        drawable, bins=list(2 ** (np.arange(low - width, high + 2 * width, width) / 2)), color=BLUE, edgecolor="white"
    )
    median = float(np.median(half_lives[~np.isnan(half_lives)]))
    if np.isfinite(median) and median > 0:
        ax.axvline(median, color=BLACK, linestyle=DASHES[1], linewidth=1.2)
        ax.set_title(f"median half-life: {median:.3g} steps", loc="left", fontsize=SMALL + 1)
    ax.set_title(_undrawable_counts(half_lives), loc="right", fontsize=SMALL, color=DIM)
    style_axes(ax)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high - low < 14 else (1,), numticks=12))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    ax.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel("memory half-life, steps", fontsize=SMALL)
    ax.set_ylabel("units", fontsize=SMALL)
    return figure


def saturation_figure(openness: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Figure:
    """Draw how often each unit's gates are nearly closed and nearly open, one point per unit.

    A point at the top left is a gate that is always nearly open, one at the bottom right always nearly closed, one at
    the bottom left always in between. After Karpathy, Johnson and Fei-Fei 2016, "Visualizing and understanding
    recurrent networks", figure 3.

    Args:
        openness: By gate, the mean and the fractions of steps below 0.1 and above 0.9, ``(H,)`` each.
    """
    figure = new_figure(2.9)
    axes = figure.subplots(1, max(len(openness), 1), squeeze=False, sharey=True)[0]
    for i, (ax, (name, (_, closed, opened))) in enumerate(zip(axes, openness.items(), strict=False)):
        ax.plot([1, 0], [0, 1], color="#9a9a9a", linewidth=0.8)
        ax.plot(closed, opened, linestyle="", marker=MARKERS[i], markersize=5, alpha=0.6, color=PALETTE[i])
        ax.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal")
        ax.set_title(f"{name} gate", loc="left", fontsize=SMALL + 1, parse_math=False)
        ax.set_xlabel("fraction of steps below 0.1", fontsize=SMALL)
        style_axes(ax)
    if openness:
        axes[0].set_ylabel("fraction of steps above 0.9", fontsize=SMALL)
    else:
        draw_message(axes[0], "no gates")
    return figure


# ---- the heat maps -------------------------------------------------------------------------------------------------


def _array(gate: Tensor | np.ndarray) -> np.ndarray:
    """As a double-precision array (numpy has no bfloat16)."""
    return gate.detach().double().cpu().numpy() if isinstance(gate, Tensor) else np.asarray(gate, dtype=float)


def _as_maps(gates: Gates) -> dict[str, np.ndarray]:
    maps = {name: _array(gate) for name, gate in gates.items()}
    shapes = {name: gate.shape for name, gate in maps.items()}
    if not maps or any(len(shape) != 2 for shape in shapes.values()) or len({s[0] for s in shapes.values()}) > 1:
        raise ValueError(f"expected the gates of one sequence, each (T, H) with the same T, got {shapes or 'none'}")
    if 0 in (size for shape in shapes.values() for size in shape):
        raise ValueError(f"nothing to draw: the gates have no steps or no units, {shapes}")
    return maps


def _check_units(units: Sequence[int], maps: Mapping[str, np.ndarray]) -> None:
    if not units:
        raise ValueError("no units to draw: units is empty")
    width = max(gate.shape[1] for gate in maps.values())
    for unit in units:
        if not 0 <= unit < width:
            raise ValueError(f"unit {unit} does not exist: choose 0 to {width - 1}")


def _grouped(names: Sequence[str]) -> list[list[str]]:
    """The gate names in panel order, grouped by color scale."""
    known = {name for group in _GROUPS for name in group}
    others = tuple(name for name in names if name not in known)
    groups = [[name for name in group if name in names] for group in (*_GROUPS, others)]
    return [group for group in groups if group]


def _orders(maps: Mapping[str, np.ndarray], sort_by: str) -> tuple[dict[int, np.ndarray], str]:
    """By map width the order of its units, top first; and a description of the order."""
    gate = "update" if sort_by == "forget" and "forget" not in maps else sort_by
    orders: dict[int, np.ndarray] = {}
    for name in (gate, "hidden", *maps):
        if name in maps and maps[name].shape[1] not in orders:
            finite = np.where(np.isfinite(maps[name]), maps[name], 0.0)
            means = (finite if name == gate else np.abs(finite)).mean(axis=0)
            orders[maps[name].shape[1]] = np.argsort(-means, kind="stable")
    on_top = f"most open {gate} gate" if gate in SIGMOID_GATES else f"largest {gate}"
    if gate not in maps:
        on_top = "most active"
    return orders, f"{on_top} on top"


def _draw_group(
    figure: Figure,
    axes: list[Axes],
    maps: Mapping[str, np.ndarray],
    orders: Mapping[int, np.ndarray],
    units: int | Sequence[int],
    steps: int,
) -> None:
    """Draw the panels of one group and their color bar."""
    cmap, low, high = _scale(maps)
    image: AxesImage | None = None
    for ax, (name, gate) in zip(axes, maps.items(), strict=True):
        order = orders[gate.shape[1]]
        if not isinstance(units, int):
            order = order[np.isin(order, units)]
        elif len(order) > units:
            order = order[np.linspace(0, len(order) - 1, max(units, 1)).round().astype(int)]
        image = ax.imshow(
            gate[:, order].T,
            cmap=cmap,
            vmin=low,
            vmax=high,
            aspect="auto",
            extent=(-0.5, steps - 0.5, len(order) - 0.5, -0.5),
            # A step is a box; boxes are blended only if they may be smaller than a pixel.
            interpolation="nearest" if len(gate) <= 500 else "antialiased",
            interpolation_stage="data",
        )
        ax.set_title(_GATE_DESCRIPTIONS.get(name, truncated(name)), loc="left", fontsize=SMALL + 1, parse_math=False)
        of_total = f" of {gate.shape[1]}" if len(order) < gate.shape[1] else ""
        ax.set_ylabel(f"{len(order)}{of_total} unit{'s' * (gate.shape[1] > 1)}", fontsize=SMALL)
        ax.set_yticks(range(len(order)), map(str, order)) if len(order) <= _MAX_NUMBERED_UNITS else ax.set_yticks([])
        ax.tick_params(labelsize=SMALL)
    assert image is not None
    clipped = low < 0 and max(float(np.nanmax(np.abs(m), initial=0)) for m in maps.values()) > high
    extend = "both" if clipped else "neither"
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01, aspect=14 * len(axes), extend=extend)
    bar.ax.tick_params(labelsize=SMALL - 1)
    bar.locator = MaxNLocator(4)
    bar.update_ticks()


def _scale(maps: Mapping[str, np.ndarray]) -> tuple[Colormap, float, float]:
    """Color map and limits: for gates white to black from 0 to 1, for states blue to yellow, symmetric around 0."""
    missing = "#D55E00"
    if set(maps) <= set(SIGMOID_GATES):
        return colormaps["Greys"].with_extremes(bad=missing), 0.0, 1.0
    sizes = np.concatenate([np.abs(m[np.isfinite(m)]) for m in maps.values()])
    limit = float(np.quantile(sizes, 0.995)) if len(sizes) else 0.0  # robust against a few large values
    return colormaps["cividis"].with_extremes(bad=missing), -(limit or 1.0), limit or 1.0


def _draw_values(ax: Axes, values: np.ndarray, steps: int, name: str) -> None:
    """Draw the input series over the time span of the maps; its length may differ."""
    x = (np.arange(len(values)) + 0.5) * steps / max(len(values), 1) - 0.5
    ax.plot(x, values, color=BLACK, linewidth=1.2, marker="." if len(values) == 1 else "")
    ax.set_title("input", loc="left", fontsize=SMALL + 1)
    ax.set_ylabel(truncated(name, 20), fontsize=SMALL, parse_math=False)
    style_axes(ax)


def label_time(ax: Axes, steps: int, labels: Sequence[str] | None) -> None:
    """Label the time axis with step numbers or labels.

    Every label is drawn if they fit side by side or upright. Else every n-th one is. The axis says so unless the labels
    are a scale, such as timestamps, of which one reads those between.
    """
    ax.set_xlim(-0.5, steps - 0.5)
    ax.set_xlabel("step" if labels is None else "", fontsize=SMALL)
    if labels is None:
        integer_ticks(ax)
        return
    texts = [truncated(label, 20) or "␣" for label in labels]
    longest = max(map(len, texts))
    scale = len(set(texts)) == steps and all(text[0] in "+-.0123456789" for text in texts)
    width, small_width = (_AXIS_WIDTH / (size * (0.009 * longest + 0.003)) for size in (SMALL, _SMALLEST))
    upright = _AXIS_WIDTH / (0.017 * _SMALLEST)
    style: dict[str, Any] = {"fontsize": SMALL}
    spacing = 1
    if scale or steps <= width:
        spacing = math.ceil(steps / max(1, int(width)))
    elif steps <= small_width:
        style = {"fontsize": _SMALLEST}
    else:
        style = {"fontsize": _SMALLEST, "rotation": 90 if upright > small_width else 0}
        spacing = math.ceil(steps / max(upright, small_width))
    shown = texts[::spacing]
    ax.set_xticks(range(0, steps, spacing), shown, parse_math=False, **style)
    if spacing > 1 and not scale:
        ax.set_xlabel(f"{len(shown):,} of {steps:,} steps have their label", fontsize=SMALL)


def _undrawable_counts(half_lives: np.ndarray) -> str:
    """Counts of the half-lives that a logarithmic axis cannot show, as text."""
    counts = {
        "infinite": np.isposinf(half_lives).sum(),
        "zero": (half_lives == 0).sum(),
        "unknown": np.isnan(half_lives).sum(),
    }
    return ", ".join(f"{name}: {count}" for name, count in counts.items() if count)
