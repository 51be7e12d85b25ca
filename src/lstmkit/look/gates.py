"""What the gates of a recurrent layer keep, let in and let out: pictures and numbers from a trace.

``layer.trace(x).gates[layer, direction]`` gives each gate as ``(B, T, H)``; here one sequence of it is looked at, cut
at its own end (past it a trace holds zeros, which would be read as shut gates): ``{k: g[b, :length] for k, g in …}``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

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
    shown,
    style_axes,
)

Gates = Mapping[str, Tensor | np.ndarray]

MEMORY_GATES = ("forget", "update")  #: The gate that keeps the memory: an LSTM's, a GRU's.
SIGMOID_GATES = ("forget", "input", "output", "reset", "update")  #: Gates between 0 (shut) and 1 (open).

#: In the order of their panels: the gates, which share a colour bar; candidate and output, which share one; the memory.
_GROUPS = (SIGMOID_GATES, ("candidate", "hidden"), ("cell",))
_NUMBERED = 8  # units in a map up to which their numbers stand beside it
_GATE_DESCRIPTIONS = {
    "forget": "forget gate: 1 keeps the memory",
    "input": "input gate: 1 writes the candidate",
    "output": "output gate: 1 lets the memory out",
    "reset": "reset gate: 0 hides the past",
    "update": "update gate: 1 keeps the old state",
    "candidate": "candidate: what may be written",
    "cell": "cell state: the memory",
    "hidden": "hidden state: the layer's output",
}


def gate_figure(
    gates: Gates,
    *,
    labels: Sequence[str] | None = None,
    values: np.ndarray | None = None,
    title: str = "",
    units: int | Sequence[int] = 64,
    sort_by: str = "forget",
    horizon_from: int | None = None,
    steps: int | None = None,
) -> Figure:
    """Every gate and state of one sequence as heat maps over time, a row a unit.

    Units are in the same order in all maps of one width: by the mean of ``sort_by``, the longest-remembering on top
    (for a GRU, which has no forget gate, by its update gate); without either by activity, the mean size of what they
    put out. In print without colour, darker is a more open gate, and a more negative state.

    Args:
        gates: By name ``(T, H)`` (``hidden`` of a layer with projection ``(T, P)``), on any device, of any float type.
        labels: What stands at each step: ``T`` stamps, words or characters.
        values: ``(T',)`` the input series, drawn on top over the same span of time.
        title: Over the whole.
        units: Draw at most so many units, spread evenly over the order; or those with these numbers, from 0.
        sort_by: The gate to sort by.
        horizon_from: Step (from 0) at which a forecast's horizon begins: a line marks it.
        steps: How many steps the maps stand for, where a column is the mean of several; else they have a column each.

    Raises:
        ValueError: No gates, one that is not ``(T, H)``, differing ``T``, ``labels`` of another number than there are
            steps, or a unit that no map has.
    """
    maps = _checked(gates)
    steps = len(next(iter(maps.values()))) if steps is None else steps
    if labels is not None and len(labels) != steps:
        raise ValueError(f"expected a label for each of {steps} steps, got {len(labels)}")
    if not isinstance(units, int):
        _check_units(units, maps)
        maps = {name: gate for name, gate in maps.items() if min(units) < gate.shape[1]}
    n_maps, top = len(maps), values is not None
    figure = new_figure(0.9 + 1.2 * n_maps + 1.1 * top + 0.3 * bool(title))
    if title:
        figure.suptitle(shown(title), x=0.01, ha="left", fontsize=SMALL + 2, fontweight="bold", parse_math=False)
    axes = list(figure.subplots(n_maps + top, 1, squeeze=False, sharex=True)[:, 0])
    if values is not None:
        _draw_values(axes[0], np.asarray(values, dtype=float), steps)
    panels, (orders, how) = iter(axes[top:]), _orders(maps, sort_by)
    for group in _grouped(list(maps)):
        owners = [next(panels) for _ in group]
        _draw_group(figure, owners, {name: maps[name] for name in group}, orders, units, steps)
    axes[top].set_title(how, loc="right", fontsize=SMALL, color=DIM, parse_math=False)
    label_time(axes[-1], steps, labels)
    if horizon_from is not None:
        for ax in axes:
            ax.axvline(horizon_from - 0.5, color="#D55E00", linestyle=DASHES[1], linewidth=1.6)
        axes[-1].set_xlabel("the forecast begins at the dashed line", fontsize=SMALL)
    return figure


def half_life(forget: Tensor | np.ndarray) -> np.ndarray:
    """After how many steps half of a unit's memory is gone: ``-ln 2 / ln f``.

    With nothing written, ``c_t = f_t c_{t-1}`` falls by the product of the forget gates, so ``f`` is their geometric
    mean over time and ``c_t = f^t c_0`` is halved at ``f^t = 1/2``: the exponential decay of a gated leaky unit
    (Tallec and Ollivier 2018, "Can recurrent neural networks warp time?"). For a GRU give the update gate.

    Args:
        forget: ``(T, H)`` in [0, 1].

    Returns:
        ``(H,)`` in steps: 0 where the gate was once shut, infinity where it was never less than open, NaN where it is
        not known.

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
    """As :func:`half_life`, from the mean over time of the gate's logarithm, ``(H,)``."""
    with np.errstate(divide="ignore"):
        return -math.log(2) / np.where(log_forget == 0, -0.0, log_forget)


def half_life_figure(half_lives: np.ndarray) -> Figure:
    """How many units remember for how long, on a logarithmic axis.

    Args:
        half_lives: ``(H,)`` in steps, as :func:`half_life` gives them; 0 and infinity are counted in words.
    """
    figure = new_figure(2.8)
    ax = figure.subplots()
    drawable = half_lives[np.isfinite(half_lives) & (half_lives > 0)]
    if not len(drawable):
        draw_message(ax, _outside(half_lives) or "no units")
        return figure
    low, high = np.floor(2 * np.log2(drawable.min())), np.ceil(2 * np.log2(drawable.max()))
    width = max(1, (high - low) // 40)  # in half octaves
    ax.hist(
        drawable, bins=list(2 ** (np.arange(low - width, high + 2 * width, width) / 2)), color=BLUE, edgecolor="white"
    )
    middle = float(np.median(half_lives[~np.isnan(half_lives)]))
    if np.isfinite(middle) and middle > 0:
        ax.axvline(middle, color=BLACK, linestyle=DASHES[1], linewidth=1.2)
        ax.set_title(f"half of the units: {middle:.3g} steps or more", loc="left", fontsize=SMALL + 1)
    ax.set_title(_outside(half_lives), loc="right", fontsize=SMALL, color=DIM)
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
    """How often each unit's gates were nearly shut and nearly open, a mark a unit.

    A unit whose gate is always nearly open keeps (or takes in, or lets out) everything; one at the lower left is always
    in between. After Karpathy, Johnson and Fei-Fei 2016, "Visualizing and understanding recurrent networks", figure 3.

    Args:
        openness: For each gate the mean and the shares of steps nearly shut and nearly open, ``(H,)`` each.
    """
    figure = new_figure(2.9)
    axes = figure.subplots(1, max(len(openness), 1), squeeze=False, sharey=True)[0]
    for i, (ax, (name, (_, shut, opened))) in enumerate(zip(axes, openness.items(), strict=False)):
        ax.plot([1, 0], [0, 1], color="#9a9a9a", linewidth=0.8)
        ax.plot(shut, opened, linestyle="", marker=MARKERS[i], markersize=5, alpha=0.6, color=PALETTE[i])
        ax.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal")
        ax.set_title(f"{name} gate", loc="left", fontsize=SMALL + 1, parse_math=False)
        ax.set_xlabel("share of steps below 0.1", fontsize=SMALL)
        style_axes(ax)
    if openness:
        axes[0].set_ylabel("share of steps above 0.9", fontsize=SMALL)
    else:
        draw_message(axes[0], "no gates")
    return figure


# ---- the heat maps -------------------------------------------------------------------------------------------------


def _array(gate: Tensor | np.ndarray) -> np.ndarray:
    """In double precision, on the CPU (numpy has no bfloat16)."""
    return gate.detach().double().cpu().numpy() if isinstance(gate, Tensor) else np.asarray(gate, dtype=float)


def _checked(gates: Gates) -> dict[str, np.ndarray]:
    maps = {name: _array(gate) for name, gate in gates.items()}
    shapes = {name: gate.shape for name, gate in maps.items()}
    if not maps or any(len(shape) != 2 for shape in shapes.values()) or len({s[0] for s in shapes.values()}) > 1:
        raise ValueError(f"expected the gates of one sequence, each (T, H), got {shapes or 'none'}")
    if 0 in (size for shape in shapes.values() for size in shape):
        raise ValueError(f"nothing to draw: no steps or no units in {shapes}")
    return maps


def _check_units(units: Sequence[int], maps: Mapping[str, np.ndarray]) -> None:
    if not units:
        raise ValueError("no units to draw")
    width = max(gate.shape[1] for gate in maps.values())
    for unit in units:
        if not 0 <= unit < width:
            raise ValueError(f"there is no unit {unit}: there are 0 to {width - 1}")


def _grouped(names: Sequence[str]) -> list[list[str]]:
    """The names in the order of their panels, those that share a scale together."""
    known = {name for group in _GROUPS for name in group}
    others = tuple(name for name in names if name not in known)
    groups = [[name for name in group if name in names] for group in (*_GROUPS, others)]
    return [group for group in groups if group]


def _orders(maps: Mapping[str, np.ndarray], sort_by: str) -> tuple[dict[int, np.ndarray], str]:
    """For each width of map its units, the first on top; and in words how they are sorted."""
    gate = "update" if sort_by == "forget" and "forget" not in maps else sort_by
    orders: dict[int, np.ndarray] = {}
    for name in (gate, "hidden", *maps):
        if name in maps and maps[name].shape[1] not in orders:
            known = np.where(np.isfinite(maps[name]), maps[name], 0.0)
            weight = (known if name == gate else np.abs(known)).mean(axis=0)
            orders[maps[name].shape[1]] = np.argsort(-weight, kind="stable")
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
    """Panels that share a scale, and their colour bar."""
    colours, low, high = _scale(maps)
    image: AxesImage | None = None
    for ax, (name, gate) in zip(axes, maps.items(), strict=True):
        order = orders[gate.shape[1]]
        if not isinstance(units, int):
            order = order[np.isin(order, units)]
        elif len(order) > units:
            order = order[np.linspace(0, len(order) - 1, max(units, 1)).round().astype(int)]
        image = ax.imshow(
            gate[:, order].T,
            cmap=colours,
            vmin=low,
            vmax=high,
            aspect="auto",
            extent=(-0.5, steps - 0.5, len(order) - 0.5, -0.5),
            # A step is a box; only where boxes are smaller than the picture's dots are they blended.
            interpolation="nearest" if len(gate) <= 200 else "antialiased",
            interpolation_stage="data",
        )
        ax.set_title(_GATE_DESCRIPTIONS.get(name, shown(name)), loc="left", fontsize=SMALL + 1, parse_math=False)
        of_all = f" of {gate.shape[1]}" if len(order) < gate.shape[1] else ""
        ax.set_ylabel(f"{len(order)}{of_all} unit{'s' * (gate.shape[1] > 1)}", fontsize=SMALL)
        ax.set_yticks(range(len(order)), map(str, order)) if len(order) <= _NUMBERED else ax.set_yticks([])
        ax.tick_params(labelsize=SMALL)
    assert image is not None
    beyond = low < 0 and max(float(np.nanmax(np.abs(m), initial=0)) for m in maps.values()) > high
    extend = "both" if beyond else "neither"
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01, aspect=14 * len(axes), extend=extend)
    bar.ax.tick_params(labelsize=SMALL - 1)
    bar.locator = MaxNLocator(4)
    bar.update_ticks()


def _scale(maps: Mapping[str, np.ndarray]) -> tuple[Colormap, float, float]:
    """Gates: white to dark, 0 to 1. States: blue to yellow through grey, as wide to both sides of zero."""
    missing = "#D55E00"
    if set(maps) <= set(SIGMOID_GATES):
        return colormaps["Greys"].with_extremes(bad=missing), 0.0, 1.0
    sizes = np.concatenate([np.abs(m[np.isfinite(m)]) for m in maps.values()])
    limit = float(np.quantile(sizes, 0.995)) if len(sizes) else 0.0  # a few large values must not grey out the rest
    return colormaps["cividis"].with_extremes(bad=missing), -(limit or 1.0), limit or 1.0


def _draw_values(ax: Axes, values: np.ndarray, steps: int) -> None:
    """The input series; of another length than the maps, it spans the same time."""
    x = (np.arange(len(values)) + 0.5) * steps / max(len(values), 1) - 0.5
    ax.plot(x, values, color=BLACK, linewidth=1.2, marker="." if len(values) == 1 else "")
    ax.set_title("input", loc="left", fontsize=SMALL + 1)
    ax.set_ylabel("value", fontsize=SMALL)
    style_axes(ax)


def label_time(ax: Axes, steps: int, labels: Sequence[str] | None) -> None:
    """Step numbers, or as many labels as fit beside each other."""
    ax.set_xlim(-0.5, steps - 0.5)
    ax.set_xlabel("step" if labels is None else "", fontsize=SMALL)
    if labels is None:
        integer_ticks(ax)
        return
    short = [shown(label, 20) or "␣" for label in labels]
    fit = max(1, int(5.5 / (0.085 * max(map(len, short)) + 0.08)))  # inches: the axis, a character, a gap
    every = math.ceil(steps / fit)
    ax.set_xticks(range(0, steps, every), short[::every], parse_math=False)


def _outside(half_lives: np.ndarray) -> str:
    """The units that a logarithmic axis cannot show, in words."""
    counts = {
        "never forget": np.isposinf(half_lives).sum(),
        "forget at once": (half_lives == 0).sum(),
        "not known": np.isnan(half_lives).sum(),
    }
    return ", ".join(f"{what}: {count}" for what, count in counts.items() if count)
