"""A classifier as a graph: example to calibrated probabilities. Texts are tokenized beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lstmkit.export.graphs import Graph, JobExport
from lstmkit.frontends.augmented_log_mel import AugmentedLogMelFrontEnd
from lstmkit.frontends.standardized import StandardizedFrontEnd
from lstmkit.frontends.text import TextFrontEnd
from lstmkit.frontends.video import VideoFrontEnd
from lstmkit.jobs.classifier.predictor import ClassifierPredictor
from lstmkit.models.base import Model
from lstmkit.modules.preparation import Calibrated


def exported_classifier(predictor: ClassifierPredictor) -> JobExport:
    """The graph and the settings of a fitted classifier."""
    front_end = predictor.front_end
    probabilities = Calibrated(predictor.scaling.temperature, predictor.multi_label)
    settings: dict[str, Any] = {
        "reads": front_end.kind,
        "classes": list(predictor.classes),
        "multi_label": predictor.multi_label,
        "threshold": predictor.settings.threshold,
        "label_sep": predictor.settings.label_sep,
    }
    texts = {}
    if isinstance(front_end, TextFrontEnd):
        graph = _batched(predictor.model, nn.Identity(), probabilities, torch.ones(2, 3, dtype=torch.int64))
        settings |= {
            "tokenization": front_end.tokenization,
            "max_tokens": front_end.max_tokens,
            "unknown_id": front_end.unknown_id,
        }
        texts = {"tokenizer.json": front_end.tokenizer.to_json()}
    elif isinstance(front_end, StandardizedFrontEnd):
        values = torch.zeros(2, 12, front_end.width, dtype=torch.float64)
        graph = _batched(predictor.model, front_end.preparation(), probabilities, values)
    elif isinstance(front_end, AugmentedLogMelFrontEnd):
        mel = front_end.mel
        example = torch.zeros(mel.window_length + 40 * mel.hop_length)
        graph = _single(predictor.model, front_end.preparation(), probabilities, example)
        settings |= {
            "sample_rate": mel.sample_rate,
            "window_length": mel.window_length,
            "max_seconds": 2 * front_end.seconds + 1,
        }
    else:
        assert isinstance(front_end, VideoFrontEnd)
        example = torch.zeros(4, *front_end.frame_shape, dtype=torch.uint8)
        graph = _single(predictor.model, nn.Identity(), probabilities, example)
        settings |= {"frame_shape": list(front_end.frame_shape)}
    return JobExport({"network": graph}, settings, texts)


def _batched(model: Model, preparation: nn.Module, probabilities: nn.Module, example: Tensor) -> Graph:
    """A graph of padded examples ``(B, T, ...)`` and their lengths ``(B,)``."""
    module = _Classification(model, preparation, probabilities)
    dynamic = ("batch", "time", *(None,) * (example.dim() - 2))
    inputs = {"inputs": example, "lengths": torch.tensor([example.shape[1], example.shape[1] - 1])}
    return Graph(module, inputs, {"inputs": dynamic, "lengths": ("batch",)}, ["probabilities"])


def _single(model: Model, preparation: nn.Module, probabilities: nn.Module, example: Tensor) -> Graph:
    """A graph of one example ``(N, ...)``."""
    module = _OneExample(model, preparation, probabilities)
    return Graph(module, {"inputs": example}, {"inputs": ("steps", *(None,) * (example.dim() - 1))}, ["probabilities"])


class _Classification(nn.Module):
    def __init__(self, model: Model, preparation: nn.Module, probabilities: nn.Module) -> None:
        super().__init__()
        self.model, self.preparation, self.probabilities = model, preparation, probabilities

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.probabilities(self.model(self.preparation(inputs), None, lengths)[0])


class _OneExample(_Classification):
    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.probabilities(self.model(self.preparation(inputs).unsqueeze(0))[0])[0]
