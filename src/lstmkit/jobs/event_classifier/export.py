"""An event classifier as a graph: encoded events and the state before them to logits and the new state.

Encoding, probabilities and labels are numpy code that the job shares (:mod:`lstmkit.data.tables.row_encoding`,
:mod:`lstmkit.decoding.event_decisions`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lstmkit.export.graphs import Graph, JobExport, State, step_graph
from lstmkit.jobs.event_classifier.predictor import EventPredictor
from lstmkit.models.base import Model


def exported_event_classifier(predictor: EventPredictor) -> JobExport:
    """The graph of the network and the settings of its runtime."""
    width = len(predictor.encoding.columns)
    whole = predictor.settings.bidirectional
    graph = _whole_sequences(predictor.model, width) if whole else _steps(predictor.model, width)
    decisions = predictor.decisions
    settings = {
        "id_col": predictor.settings.id_col,
        "time_col": predictor.settings.time_col,
        "bidirectional": whole,
        "encoding": predictor.encoding.state(),
        "classes": list(decisions.classes),
        "positive": decisions.positive,
        "threshold": decisions.threshold,
        "temperature": decisions.temperature,
        "log_weights": decisions.log_weights.tolist(),
    }
    return JobExport({"network": graph}, settings)


def _steps(model: Model, width: int) -> Graph:
    def example(rows: int, time: int) -> tuple[dict[str, Tensor], State]:
        inputs = torch.zeros(rows, time, width)
        with torch.no_grad():
            return {"inputs": inputs}, model(inputs)[1]

    return step_graph(model, example, {"rows": 2, "time": 3}, ["logits"], model)


def _whole_sequences(model: Model, width: int) -> Graph:
    inputs = {"inputs": torch.zeros(2, 3, width), "lengths": torch.tensor([3, 2])}
    return Graph(_Logits(model), inputs, {"inputs": ("rows", "time", None), "lengths": ("rows",)}, ["logits"])


class _Logits(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        return self.model(inputs, None, lengths)[0]
