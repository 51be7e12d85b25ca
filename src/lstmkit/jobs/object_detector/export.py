"""An object detector as a graph: a frame and the memory before it to the outputs of the head and the new memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lstmkit.export.graphs import JobExport, State, step_graph
from lstmkit.jobs.object_detector.predictor import ObjectDetectorPredictor


def exported_object_detector(predictor: ObjectDetectorPredictor) -> JobExport:
    """The graph and the settings of a fitted detector."""
    settings, model = predictor.settings, predictor.model
    shape = (settings.height, settings.width, len(predictor.mean))

    def example(rows: int) -> tuple[dict[str, Tensor], State]:
        frames = torch.zeros(rows, *shape, dtype=torch.uint8)
        with torch.no_grad():
            return {"frames": frames}, model.step(frames)[1]

    exported: dict[str, Any] = {
        "classes": list(predictor.classes),
        "shape": list(shape),
        "stride": predictor.stride,
        "threshold": predictor.threshold,
        "max_unseen": settings.max_unseen,
        "max_distance": settings.max_distance,
    }
    return JobExport({"network": step_graph(model.step, example, {"rows": 2}, ["outputs"], model)}, exported)
