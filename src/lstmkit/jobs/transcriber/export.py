"""A transcriber as graphs: examples to log-probabilities of characters, and its character language model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lstmkit.data.audio.log_mel import LogMelSpectrogram
from lstmkit.export.graphs import Graph, JobExport, State, step_graph
from lstmkit.frontends.features import FeatureFrontEnd
from lstmkit.frontends.ink import StrokeFrontEnd
from lstmkit.frontends.log_mel import LogMelFrontEnd
from lstmkit.frontends.text_line_image import TextLineImageFrontEnd
from lstmkit.jobs.language_model.predictor import LanguageModelPredictor
from lstmkit.jobs.transcriber.language_model_fusion import character_columns, opened_language_model
from lstmkit.jobs.transcriber.predictor import TranscriberPredictor
from lstmkit.models.base import Model, swap_layers_and_batch
from lstmkit.modules.preparation import LogMel, SequenceStandardization


def exported_transcriber(predictor: TranscriberPredictor) -> JobExport:
    """The graphs and the settings of a fitted transcriber, with the language model of its settings.

    Raises:
        SettingError: The setting ``lm`` is not a character language model.
    """
    front_end, chosen = predictor.front_end, predictor.settings
    settings: dict[str, Any] = {
        "reads": front_end.kind,
        "unit": front_end.unit,
        "alphabet": predictor.alphabet,
        "reading_order": predictor.reading_order,
        "stride": predictor.stride,
        "beam_size": chosen.beam_size,
        "lm_weight": chosen.lm_weight,
        "insertion_bonus": chosen.insertion_bonus,
    }
    if isinstance(front_end, TextLineImageFrontEnd):
        graphs = {"network": _batched(_OfColumns(predictor.model), front_end.height)}
        settings |= {"height": front_end.height, "right_to_left": front_end.right_to_left}
    elif isinstance(front_end, LogMelFrontEnd):
        graphs = {"frames": _frames(front_end.mel), "network": _of_features(predictor.model, front_end.frames)}
        settings |= {
            "sample_rate": front_end.mel.sample_rate,
            "window_length": front_end.mel.window_length,
            "hop_length": front_end.mel.hop_length,
            "max_seconds": chosen.max_seconds,
            "streams": not chosen.bidirectional,
        }
    else:
        assert isinstance(front_end, (FeatureFrontEnd, StrokeFrontEnd))
        features = front_end.points if isinstance(front_end, StrokeFrontEnd) else front_end
        graphs = {"network": _of_features(predictor.model, features)}
        settings |= {"features": features.width}
    if chosen.lm:
        graphs["language_model"] = _language_model(opened_language_model(chosen.lm), predictor.alphabet)
    return JobExport(graphs, settings)


# ---- the network -----------------------------------------------------------------------------------------------------


def _batched(module: nn.Module, width: int) -> Graph:
    """A graph of padded examples ``(B, T, width)`` and their lengths ``(B,)``."""
    inputs = {"inputs": torch.zeros(2, 24, width), "lengths": torch.tensor([24, 23])}
    return Graph(module, inputs, {"inputs": ("batch", "time", None), "lengths": ("batch",)}, ["log_p"])


def _of_features(model: Model, features: FeatureFrontEnd) -> Graph:
    return _batched(_OfFeatures(model, features.preparation()), features.width)


def _frames(mel: LogMelSpectrogram) -> Graph:
    """A graph of the samples ``(N,)`` of a clip, at least one window, to frames ``(T, F)``."""
    samples = torch.zeros(mel.window_length + 40 * mel.hop_length)
    return Graph(LogMel(mel), {"samples": samples}, {"samples": ("steps",)}, ["frames"])


class _OfColumns(nn.Module):
    """Columns ``(B, W, H)`` of text lines to log-probabilities ``(B, S, 1 + V)``."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.model(inputs, None, lengths)[0].float().log_softmax(-1)


class _OfFeatures(_OfColumns):
    """Features ``(B, T, F)`` to log-probabilities ``(B, S, 1 + V)``."""

    def __init__(self, model: Model, preparation: SequenceStandardization) -> None:
        super().__init__(model)
        self.preparation = preparation

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return super().forward(self.preparation(inputs, lengths), lengths)


# ---- the language model ----------------------------------------------------------------------------------------------


def _language_model(model: LanguageModelPredictor, alphabet: str) -> Graph:
    """A graph of classes ``(rows,)`` to log-probabilities ``(rows, 1 + V)`` of the next; states are batch first."""
    columns, network = character_columns(model, alphabet), model.network

    def step(ids: Tensor, state: State) -> tuple[Tensor, State]:
        logits, state = network.step(columns[ids], swap_layers_and_batch(state))
        return logits.float().log_softmax(-1)[:, columns], swap_layers_and_batch(state)

    def example(rows: int) -> tuple[dict[str, Tensor], State]:
        ids = torch.zeros(rows, dtype=torch.int64)
        with torch.no_grad():
            return {"ids": ids}, swap_layers_and_batch(network.step(columns[ids])[1])

    return step_graph(step, example, {"rows": 2}, ["log_p"], network)
