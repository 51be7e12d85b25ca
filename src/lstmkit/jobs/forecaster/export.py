"""A forecaster as a graph: scaled windows to quantiles, or to the distribution of the next value and the new state.

Scaling, covariates and calendar are not part of the graph: they need float64, dates and categories, and the numpy code
of the job (:mod:`lstmkit.data.series.window_arrays`) runs without torch as it is. So do exponential smoothing and the
calibration of intervals (:mod:`lstmkit.decoding.window_forecasts`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from lstmkit.data.series.date_steps import date_steps
from lstmkit.data.series.forecast_windows import Windows
from lstmkit.data.series.frequency import check_freq
from lstmkit.export.graphs import Graph, JobExport, State, step_graph
from lstmkit.jobs.forecaster.predictor import ForecasterPredictor
from lstmkit.models.base import Ensemble, Model
from lstmkit.modules.heads import DistributionHead


def exported_forecaster(predictor: ForecasterPredictor) -> JobExport:
    """The graph and the settings of a fitted forecaster.

    Raises:
        DataError: The runtime does not have the frequency of the data.
    """
    s, plan, covariates = predictor.settings, predictor.window_plan, predictor.covariates
    freq = plan.freq if isinstance(plan.freq, int) else check_freq(plan.freq, has_dates=True)
    if isinstance(freq, str):
        date_steps(freq)
    by_name = (*covariates.past, *covariates.future, *covariates.static)
    ahead = -(-s.horizon // plan.patch) * plan.patch if predictor.reads_horizon_states else 0
    settings: dict[str, Any] = {
        "columns": {
            "id": s.id_col,
            "time": s.time_col,
            "target": s.target_col,
            "past": list(s.past_covariates),
            "future": list(s.future_covariates),
            "static": list(s.static_covariates),
            "texts": [column.name for column in by_name if column.categories is not None],
        },
        "freq": freq,
        "method": s.method,
        "distribution": s.distribution,
        "counts": predictor.is_count_data,
        "horizon": s.horizon,
        "levels": list(s.levels),
        "quantile_levels": predictor.quantile_levels,
        "num_samples": s.num_samples,
        "seed": s.seed,
        "log_transform": s.log_transform,
        "adaptive_rate": s.adaptive_rate,
        "window": {"season": plan.season, "past": plan.past},
        "ahead": ahead,
        "scaler": asdict(predictor.scaler),
        "covariates": covariates.to_json(),
        "usual_scales": predictor.usual_scales,
        "last_trained_timestamps": predictor.last_trained_timestamps,
        "smoothing_weight": predictor.smoothing_weight,
        "intervals": None if predictor.intervals is None else predictor.intervals.state(),
    }
    width = Windows.N_VALUE_FEATURES + covariates.width
    if s.method == "recursive":
        return JobExport({"network": _recursive_graph(predictor.model, width)}, settings)
    inputs = {"inputs": torch.zeros(2, plan.past + ahead, width)}
    graph = Graph(_Quantiles(predictor.model), inputs, {"inputs": ("batch", None, None)}, ["quantiles"])
    return JobExport({"network": graph}, settings)


class _Quantiles(nn.Module):
    """Windows ``(B, L + A, F)`` to quantiles ``(B, H, Q)`` in scaled units, in order."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)[0].sort(dim=-1).values


def _recursive_graph(model: Model, width: int) -> Graph:
    """Further steps ``(B, T, F)`` and the state before them to the distribution after the last, and the new state."""
    head = (model.members[0] if isinstance(model, Ensemble) else model).head
    assert isinstance(head, DistributionHead)

    def step(inputs: Tensor, state: State) -> tuple[Tensor, State]:
        outputs, state = model(inputs, state)
        return head.parameters_of(outputs[:, -1]), state

    def example(rows: int, time: int) -> tuple[dict[str, Tensor], State]:
        inputs = torch.zeros(rows, time, width)
        with torch.no_grad():
            return {"inputs": inputs}, model(inputs)[1]

    return step_graph(step, example, {"rows": 2, "time": 3}, ["parameters"], model)
