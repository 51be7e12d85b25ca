"""Figures of forecasts: forecasts and actual values, error by horizon step, interval coverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lstmkit.data.series.series_set import DEFAULT_NAMES, ColumnNames
from lstmkit.plots.style import (
    BLACK,
    BLUE,
    DASHES,
    DIM,
    GRAY,
    SMALL,
    draw_message,
    integer_ticks,
    legend,
    line_style,
    new_figure,
    note_selection,
    style_axes,
    truncated,
)

if TYPE_CHECKING:
    import pandas as pd


_MAX_WINDOWS = 6  # windows of a backtest in one panel
_BAND_SHADES = (0.18, 0.34, 0.5)  # opacity of blue in a band, the widest band first


def forecast_figure(
    history: pd.DataFrame,
    forecasts: pd.DataFrame,
    levels: Sequence[int],
    *,
    title: str = "",
    baselines: Sequence[str] = (),
    n_series: int = 4,
    names: ColumnNames = DEFAULT_NAMES,
) -> Figure:
    """Forecasts with interval bands after the history, one panel per series.

    Args:
        history: ``unique_id, ds, y``; ``ds`` holds timestamps or whole numbers. The last four horizons are drawn.
        forecasts: ``unique_id, ds, forecast``, ``forecast-lo-80``, ``forecast-hi-80``, …; ``y`` if the actual values
            are known; ``cutoff`` if there are several origins. Then the latest windows that do not overlap are drawn,
            up to six.
        levels: Interval levels in percent.
        title: Title of the figure.
        baselines: Further columns of ``forecasts`` to draw as lines.
        n_series: Number of series to draw, the first ones of ``forecasts``.
        names: Names of timestamps and values on the axes.
    """
    all_ids = list(dict.fromkeys(forecasts["unique_id"]))
    ids = all_ids[:n_series]
    rows = max(len(ids), 1)
    figure = new_figure(3.3 if rows == 1 else 1 + 1.5 * rows)
    axes = list(figure.subplots(rows, 1, squeeze=False)[:, 0])
    if not ids:
        draw_message(axes[0], "no forecasts")
        return figure
    for ax, name in zip(axes, ids, strict=True):
        known, predicted = (frame.loc[frame["unique_id"] == name] for frame in (history, forecasts))
        _draw_series(ax, known, predicted, levels, baselines)
        ax.set_title(truncated(name), loc="left", fontsize=SMALL + 1, parse_math=False)
        ax.set_ylabel(truncated(names.label("target", "value"), 30), fontsize=SMALL, parse_math=False)
    _label_shared_axis_once(axes)
    time = names.label("time", "time" if forecasts["ds"].dtype.kind == "M" else "step")
    axes[-1].set_xlabel(truncated(time), fontsize=SMALL, parse_math=False)
    lines = {
        "observed": Line2D([], [], color=BLACK, linewidth=1, marker=".", markersize=3),
        "forecast": Line2D([], [], color=BLUE, linewidth=1.8),
    }
    handles: dict[str, Artist] = {**lines}
    handles |= {f"{level} % interval": Patch(color=color) for level, color in reversed(_bands(levels).items())}
    handles |= {name: Line2D([], [], linewidth=1.2, **line_style(i + 1)) for i, name in enumerate(baselines)}
    legend(figure, handles, title)
    return note_selection(figure, len(all_ids), "series", drawn=len(ids))


def error_by_step_figure(forecasts: pd.DataFrame, models: Sequence[str]) -> Figure:
    """Mean absolute error at each horizon step, one line per model.

    Args:
        forecasts: ``unique_id, ds, y``, a column per model and, with several origins, ``cutoff``.
        models: Columns of the models, the main one first.
    """
    figure = new_figure(3.1)
    ax = figure.subplots()
    ax.set_xlabel("horizon step", fontsize=SMALL)
    ax.set_ylabel("mean absolute error", fontsize=SMALL)
    errors = step_errors(forecasts, models)
    if errors.empty:
        draw_message(ax, "no actual values to compare with")
        return figure
    handles: dict[str, Artist] = {}
    for i, model in enumerate(models):
        marker = "o" if len(errors) == 1 else ""
        ax.plot(errors["step"], errors[model], marker=marker, linewidth=1.4 if i else 2.0, **line_style(i))
        handles[model] = ax.lines[-1]
    ax.set(xlim=(0.5, len(errors) + 0.5), ylim=(0, None))
    integer_ticks(ax)
    style_axes(ax)
    legend(figure, handles)
    return figure


def step_errors(forecasts: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """The numbers of :func:`error_by_step_figure`: ``step`` (from 1) and a column of errors per model.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"unique_id": ["a", "a"], "ds": [7, 8], "y": [1.0, 2.0], "m": [1.5, 4.0]})
    >>> step_errors(frame, ["m"])["m"].tolist()
    [0.5, 2.0]
    """
    ordered = forecasts.sort_values("ds", kind="stable")
    window = [name for name in ("unique_id", "cutoff") if name in ordered]
    step = ordered.groupby(window, observed=True, sort=False).cumcount() + 1
    errors = ordered[list(models)].sub(ordered["y"], axis=0).abs().assign(step=step)[ordered["y"].notna()]
    return errors.groupby("step").mean().reset_index()


def interval_coverage_figure(forecasts: pd.DataFrame, model: str, levels: Sequence[int]) -> Figure:
    """Observed against nominal coverage of the prediction intervals.

    Args:
        forecasts: ``y`` and ``model-lo-80``, ``model-hi-80``, …
        model: Column of the point forecast.
        levels: Interval levels in percent.
    """
    figure = new_figure(3.5)
    ax = figure.subplots()
    ax.plot([0, 100], [0, 100], color=GRAY, linestyle=DASHES[1], linewidth=1)
    ax.text(4, 34, "intervals\ntoo wide", color=DIM, fontsize=SMALL)
    ax.text(96, 10, "intervals\ntoo narrow", color=DIM, fontsize=SMALL, ha="right")
    covered = observed_coverage(forecasts, model, levels)
    ax.plot(list(covered), list(covered.values()), color=BLUE, marker="o", linewidth=1.6)
    lines = [f"{n} %: observed " + ("–" if np.isnan(share) else f"{share:.1f} %") for n, share in covered.items()]
    ax.text(1.06, 1, "\n".join(lines), fontsize=SMALL + 1, linespacing=1.6, va="top", transform=ax.transAxes)
    ax.set(xlim=(0, 100), ylim=(0, 100), aspect="equal", anchor="W")
    ax.set_xlabel("nominal coverage, %", fontsize=SMALL)
    ax.set_ylabel("observed coverage, %", fontsize=SMALL)
    style_axes(ax)
    return figure


def observed_coverage(forecasts: pd.DataFrame, model: str, levels: Sequence[int]) -> dict[int, float]:
    """By interval level the percentage of known ``y`` inside the interval; NaN if no ``y`` is known."""
    known = forecasts.loc[forecasts["y"].notna()]
    inside = {n: known["y"].between(known[f"{model}-lo-{n}"], known[f"{model}-hi-{n}"]) for n in sorted(levels)}
    return {level: 100 * float(hits.mean()) if len(hits) else float("nan") for level, hits in inside.items()}


def _draw_series(
    ax: Axes, history: pd.DataFrame, forecasts: pd.DataFrame, levels: Sequence[int], baselines: Sequence[str]
) -> None:
    windows = _windows(forecasts)
    observed = _observed(history, forecasts)
    first, last = windows[0]["ds"].iloc[0], windows[-1]["ds"].iloc[-1]
    before = observed.loc[observed["ds"] < first].tail(max(4 * len(windows[-1]), 24))
    line = observed.loc[observed["ds"].between(before["ds"].iloc[0] if len(before) else first, last)]
    ax.plot(_x(line["ds"]), line["y"], color=BLACK, linewidth=1, marker=".", markersize=3, zorder=3)
    for window in windows:
        origin = observed.loc[observed["ds"] < window["ds"].iloc[0]].tail(1)
        if len(origin):
            ax.axvline(_x(origin["ds"])[0], color=GRAY, linewidth=0.8, linestyle=DASHES[2])
        _draw_window(ax, window, origin, levels, baselines)
    style_axes(ax)
    ax.margins(x=0.01)
    if forecasts["ds"].dtype.kind == "M":
        locator = AutoDateLocator(minticks=4, maxticks=9)
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        ax.xaxis.get_offset_text().set_fontsize(SMALL)
    else:
        integer_ticks(ax)


def _label_shared_axis_once(axes: Sequence[Axes]) -> None:
    """Remove the tick labels of panels above the last one that have its range."""
    for ax in axes[:-1]:
        if ax.get_xlim() == axes[-1].get_xlim():
            ax.tick_params(labelbottom=False)
            ax.xaxis.get_offset_text().set_visible(False)


def _draw_window(
    ax: Axes, window: pd.DataFrame, origin: pd.DataFrame, levels: Sequence[int], baselines: Sequence[str]
) -> None:
    """One forecast, as bands and lines from the last observation on."""
    origin = origin.dropna()
    start = origin["y"].to_numpy(dtype=float)
    x = np.concatenate([_x(origin.ds), _x(window.ds)])
    alone = len(x) == 1  # one step alone makes no line: it is drawn as a marker and a bar

    def with_start(column: str) -> np.ndarray:
        return np.concatenate([start, window[column].to_numpy(dtype=float)])

    for level, color in _bands(levels).items():
        low, high = with_start(f"forecast-lo-{level}"), with_start(f"forecast-hi-{level}")
        ax.fill_between(x, low, high, color=color, linewidth=4 if alone else 0, zorder=1.5)
    for i, name in enumerate(baselines):
        ax.plot(x, with_start(name), linewidth=1.2, marker="o" if alone else "", zorder=2, **line_style(i + 1))
    ax.plot(x, with_start("forecast"), color=BLUE, linewidth=1.8, marker="o" if alone else "", zorder=4)


def _windows(forecasts: pd.DataFrame) -> list[pd.DataFrame]:
    """The latest windows that do not overlap, oldest first, each sorted by ``ds``."""
    ordered = forecasts.sort_values("ds", kind="stable")
    if "cutoff" not in ordered:
        return [ordered]
    kept: list[pd.DataFrame] = []
    for cutoff in sorted(ordered["cutoff"].unique(), reverse=True):
        window = ordered.loc[ordered["cutoff"] == cutoff]
        if len(kept) < _MAX_WINDOWS and (not kept or window["ds"].iloc[-1] < kept[-1]["ds"].iloc[0]):
            kept.append(window)
    return kept[::-1]


def _observed(history: pd.DataFrame, forecasts: pd.DataFrame) -> pd.DataFrame:
    """``ds, y`` of all observed values, sorted, each timestamp once and known rather than missing."""
    import pandas as pd

    both = [frame.loc[:, ["ds", "y"]] for frame in (history, forecasts) if "y" in frame]
    frames = [frame for frame in both if frame["y"].notna().to_numpy().any()]  # concat warns of frames without a number
    if not frames:
        return both[0]
    return pd.concat(frames).sort_values(["ds", "y"]).drop_duplicates("ds")


def _bands(levels: Sequence[int]) -> dict[int, tuple[float, float, float]]:
    """The color of each interval level, the widest level first; narrower bands are darker."""
    shades = np.interp(np.linspace(0, 1, max(len(levels), 2)), np.linspace(0, 1, 3), _BAND_SHADES)
    wide_first = zip(sorted(levels, reverse=True), shades, strict=False)
    return {level: (1 - s, 1 - s * (1 - 0x72 / 255), 1 - s * (1 - 0xB2 / 255)) for level, s in wide_first}


def _x(ds: pd.Series) -> np.ndarray:
    """Positions on the axis: local timestamps, or numbers."""
    if ds.dtype.kind != "M":
        return ds.to_numpy(dtype=float)
    return ds.dt.tz_localize(None).to_numpy()
