"""An anomaly detector as graphs: standardized steps to predictions or reconstructions, and windows to distances.

Scaling, scores and thresholds are the numpy code of the job (:mod:`lstmkit.decoding.anomaly_scores`): they need float64
and past scores.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lstmkit.export.graphs import Graph, JobExport, State, step_graph
from lstmkit.jobs.anomaly_detector.predictor import AnomalyPredictor
from lstmkit.models.base import Model

#: Settings that scores, thresholds and events depend on.
_SETTINGS = (
    "time_col",
    "id_col",
    "method",
    "horizon",
    "window",
    "covariates",
    "score_aggregation",
    "subspace_weight",
    "smoothing_half_life",
    "burn_in",
    "threshold_method",
    "false_alarm_rate",
    "threshold_window",
    "pruning",
    "merge_gap",
    "max_event_steps",
)


def exported_anomaly_detector(predictor: AnomalyPredictor) -> JobExport:
    """The graphs and the settings of a fitted detector."""
    channels = len(predictor.channel_names)
    by_step = predictor.settings.method == "prediction"
    graphs = {"network": _steps(predictor.model, channels) if by_step else _windows(predictor.model, channels)}
    subspace, constant = predictor.subspace, predictor.constant_threshold
    if subspace is not None:
        windows = torch.zeros(2, subspace.channels, subspace.window, dtype=torch.float64)
        graphs["subspace"] = Graph(subspace, {"windows": windows}, {"windows": ("rows", None, None)}, ["distances"])
    settings = {
        **{name: getattr(predictor.settings, name) for name in _SETTINGS},
        "channels": list(predictor.channel_names),
        "mean": predictor.mean.tolist(),
        "std": predictor.std.tolist(),
        "mean_errors": predictor.mean_errors.tolist(),
        "validation_scores": predictor.validation_scores.tolist(),
        "constant_threshold": None if math.isnan(constant) else constant,
        "subspace_window": 0 if subspace is None else subspace.window,
    }
    return JobExport(graphs, settings)


def _steps(model: Model, channels: int) -> Graph:
    """Further steps ``(B, T, F)`` and the state before them to predictions after each step, and the new state."""

    def example(rows: int, time: int) -> tuple[dict[str, Tensor], State]:
        inputs = torch.zeros(rows, time, channels)
        with torch.no_grad():
            return {"inputs": inputs}, model(inputs)[1]

    return step_graph(model, example, {"rows": 2, "time": 3}, ["predictions"], model)


def _windows(model: Model, channels: int) -> Graph:
    """Windows ``(B, W, F)`` and their lengths ``(B,)`` to the reconstruction of the last step of each, ``(B, C)``."""
    inputs = {"inputs": torch.zeros(2, 12, channels), "lengths": torch.tensor([12, 11])}
    dynamic = {"inputs": ("batch", "time", None), "lengths": ("batch",)}
    return Graph(_LastStep(model), inputs, dynamic, ["reconstructions"])


class _LastStep(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        outputs = self.model(inputs, None, lengths)[0]
        last = (lengths - 1)[:, None, None].expand(-1, 1, outputs.shape[2])
        return outputs.gather(1, last)[:, 0]
