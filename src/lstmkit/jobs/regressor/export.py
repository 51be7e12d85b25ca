"""A regressor as a graph: further rows and the state before them to outputs at each row, and the new state."""

from __future__ import annotations

import torch
from torch import Tensor

from lstmkit.export.graphs import JobExport, State, step_graph
from lstmkit.jobs.regressor.predictor import RegressorPredictor


def exported_regressor(predictor: RegressorPredictor) -> JobExport:
    """The graph and the settings of a fitted regressor."""
    model, width = predictor.model, len(predictor.encoding.columns)

    def example(rows: int, time: int) -> tuple[dict[str, Tensor], State]:
        inputs = torch.zeros(rows, time, width)
        with torch.no_grad():
            return {"inputs": inputs}, model(inputs)[1]

    graph = step_graph(model, example, {"rows": 2, "time": 3}, ["outputs"], model)
    settings = {
        **{name: getattr(predictor.settings, name) for name in ("id_col", "time_col", "predict_at")},
        "encoding": predictor.encoding.state(),
        "targets": predictor.decoding.state(),
    }
    return JobExport({"network": graph}, settings)
