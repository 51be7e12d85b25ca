"""Forecasts as frames ``unique_id, cutoff, ds, y, forecast, forecast-lo-80, …``: one row per step of each window.

Inside the package, frames have these names of columns; :func:`with_names_of_data` gives them the user's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lstmkit.data.series.series_set import DEFAULT_NAMES, ColumnNames, SeriesSet
from lstmkit.data.series.window_arrays import Origins


def forecast_frame(
    series: SeriesSet, origins: Origins, quantiles: np.ndarray, levels: Sequence[int], name: str
) -> pd.DataFrame:
    """Quantile forecasts and actual values as a frame in long format.

    Args:
        series: The data.
        origins: ``(N, 2)`` series and first step of each horizon.
        quantiles: ``(N, H, Q)`` forecasts, sorted by quantile: lower bounds, median, upper bounds.
        levels: Interval levels in percent, as 80.
        name: Column of the point forecast.
    """
    horizon = quantiles.shape[1]
    timestamps = {i: series.timestamps(i, 0, int(series.lengths[i]) + horizon) for i in set(origins[:, 0].tolist())}
    steps = origins[:, 1:] + np.arange(horizon)
    columns: dict[str, object] = {
        "unique_id": np.repeat(np.asarray(series.ids, dtype=object)[origins[:, 0]], horizon),
        "cutoff": _concat([timestamps[i][[t - 1] * horizon] for i, t in origins]),
        "ds": _concat([timestamps[i][t : t + horizon] for i, t in origins]),
        "y": np.concatenate([_padded(series.y[i], horizon)[s] for (i, _), s in zip(origins, steps, strict=True)]),
    }
    lower, upper = ([f"-{side}-{level}" for level in sorted(levels)] for side in ("lo", "hi"))
    for q, suffix in enumerate([*reversed(lower), "", *upper]):
        columns[name + suffix] = quantiles[:, :, q].reshape(-1)
    bounds = [f"{name}-{side}-{level}" for level in sorted(levels) for side in ("lo", "hi")]
    return pd.DataFrame(columns).reindex(columns=["unique_id", "cutoff", "ds", "y", name, *bounds])


def histories_by_origin(series: SeriesSet, origins: Origins) -> list[pd.DataFrame]:
    """Past values ``unique_id, ds, y`` for the baselines: one frame for the first origin of each series, and so on."""
    ordered = origins[np.lexsort((origins[:, 1], origins[:, 0]))]
    rank = pd.Series(ordered[:, 0]).groupby(ordered[:, 0]).cumcount().to_numpy()
    return [_history(series, ordered[rank == k]) for k in range(int(rank.max()) + 1)]


def training_frame(series: SeriesSet, ends: np.ndarray) -> pd.DataFrame:
    """The first ``ends[i]`` steps of every series, from which MASE's denominator is computed.

    Missing values are kept, so that seasonal differences compare the right steps.
    """
    return _history(series, np.stack([np.arange(len(series)), ends], axis=1))


def with_names_of_data(frame: pd.DataFrame, names: ColumnNames) -> pd.DataFrame:
    """The frame with the columns ``unique_id``, ``ds`` and ``y`` under the names that the data have for them.

    A column of the frame that has such a name already, as ``forecast``, keeps it.

    >>> frame = pd.DataFrame({"unique_id": ["a"], "ds": [1], "forecast": [2.0]})
    >>> with_names_of_data(frame, ColumnNames("shop", "day", "sold")).columns.tolist()
    ['shop', 'day', 'forecast']
    """
    pairs = zip(DEFAULT_NAMES, names, strict=True)
    return frame.rename(columns={default: name for default, name in pairs if name not in frame})


def with_default_names(frame: pd.DataFrame, names: ColumnNames) -> pd.DataFrame:
    """The inverse of :func:`with_names_of_data`."""
    pairs = zip(DEFAULT_NAMES, names, strict=True)
    return frame.rename(columns={name: default for default, name in pairs if default not in frame})


def _history(series: SeriesSet, ends: Origins) -> pd.DataFrame:
    parts = [(series.ids[i], series.timestamps(i, 0, n), series.y[i][:n]) for i, n in ends]
    return pd.DataFrame(
        {
            "unique_id": np.repeat(np.array([uid for uid, _, _ in parts], dtype=object), [len(y) for _, _, y in parts]),
            "ds": _concat([ds for _, ds, _ in parts]),
            "y": np.concatenate([y for _, _, y in parts]),
        }
    )


def _concat(indices: Sequence[pd.Index]) -> pd.Index:
    return indices[0].append(list(indices[1:])) if len(indices) > 1 else indices[0]


def _padded(y: np.ndarray, horizon: int) -> np.ndarray:
    return np.concatenate([y, np.full(horizon, np.nan)])
