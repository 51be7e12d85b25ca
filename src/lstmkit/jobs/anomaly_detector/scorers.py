"""Anomaly scorers: prediction error and reconstruction error. Both are causal.

Legend: T steps, C scored channels, F channels that the model reads (scored channels and covariates).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.series.sensor_series import Windows
from lstmkit.data.series.sensor_values import sliding_windows, trailing_windows
from lstmkit.decoding.anomaly_scores import MAX_CHUNK_STEPS, prediction_errors
from lstmkit.jobs.anomaly_detector.settings import AnomalySettings
from lstmkit.models.autoencoder import Autoencoder
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.heads import StepRegressionHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

_WINDOWS_PER_BATCH = 256

Sequences = Sequence[np.ndarray]


class StreamingScorer(Protocol):
    """Errors of one series, a step at a time."""

    def step(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Inputs ``(F,)`` and targets ``(C,)``, NaN where missing, to absolute errors ``(C,)``."""
        ...


class Scorer(Protocol):
    """A way to turn sequences into errors. Inputs are ``(T, F)`` standardized, targets ``(T, C)``."""

    def build(self, settings: AnomalySettings, input_size: int, channels: int) -> Model:
        """An untrained model that reads ``F = input_size`` channels and scores ``C = channels`` of them."""
        ...

    def source(self, settings: AnomalySettings, inputs: Sequences, targets: Sequences) -> Windows:
        """Training windows."""
        ...

    def errors(
        self,
        settings: AnomalySettings,
        model: Model,
        inputs: Sequences,
        targets: Sequences,
        device: torch.device,
        progress: Progress,
    ) -> list[np.ndarray]:
        """Absolute errors of each sequence ``(T, C)``, NaN where there is nothing to compare."""
        ...

    def stream(self, settings: AnomalySettings, model: Model) -> StreamingScorer:
        """The same errors, a step at a time."""
        ...


class PredictionErrorScorer:
    """Predict the next ``horizon`` values at every step; the error of a value is the mean over its predictions.

    Malhotra et al. 2015, "Long short term memory networks for anomaly detection in time series", ESANN.
    """

    def build(self, settings: AnomalySettings, input_size: int, channels: int) -> Model:
        trunk = build_trunk(
            settings.cell,
            input_size,
            settings.hidden_size,
            num_layers=settings.num_layers,
            dropout=settings.dropout,
        )
        return SequenceModel(nn.Identity(), trunk, StepRegressionHead(trunk.output_size, settings.horizon * channels))

    def source(self, settings: AnomalySettings, inputs: Sequences, targets: Sequences) -> Windows:
        future = [future_values(values, settings.horizon) for values in targets]
        return Windows(inputs, future, _training_places(inputs, settings.window))

    def errors(
        self,
        settings: AnomalySettings,
        model: Model,
        inputs: Sequences,
        targets: Sequences,
        device: torch.device,
        progress: Progress,
    ) -> list[np.ndarray]:
        lengths = [len(sequence) for sequence in inputs]
        source = Windows(inputs, targets, sliding_windows(lengths, max(lengths), 1))

        def decode(model: Model, batch: Batch) -> list[np.ndarray]:
            outputs, state = [], None
            for chunk in batch.inputs.split(MAX_CHUNK_STEPS, dim=1):
                output, state = model(chunk, state)
                outputs.append(output.float())
            return [torch.cat(outputs, 1)[0].cpu().numpy()]

        predictions = predict(model, Loader(source, 1), decode, device=device, progress=progress, title="scoring")
        return [
            prediction_errors(values, of_values, settings.horizon)
            for values, of_values in zip(targets, predictions, strict=True)
        ]

    def stream(self, settings: AnomalySettings, model: Model) -> StreamingScorer:
        return _StreamingPredictionError(model, settings.horizon)


class _StreamingPredictionError:
    def __init__(self, model: Model, horizon: int) -> None:
        self.device = next(model.eval().parameters()).device
        self.predict_next = model.stream()
        self.predictions: deque[np.ndarray] = deque(maxlen=horizon)

    def step(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        of_this_step = [predicted[k] for k, predicted in enumerate(reversed(self.predictions))]
        unknown = np.full(len(targets), np.nan)
        error = np.abs(targets - np.array(of_this_step)).mean(0) if of_this_step else unknown
        with torch.inference_mode():
            step = torch.from_numpy(inputs)[None].to(self.device)
            outputs = self.predict_next(step)
        self.predictions.append(outputs[0].float().cpu().numpy().reshape(-1, len(targets)))
        return error


class ReconstructionErrorScorer:
    """Reconstruct the last ``window`` steps from a latent code; the error of a step is that of the window it ends.

    Malhotra et al. 2016, "LSTM-based encoder-decoder for multi-sensor anomaly detection". One window per step, of
    which only the last step counts, makes it causal.
    """

    def build(self, settings: AnomalySettings, input_size: int, channels: int) -> Model:
        shape = {"num_layers": settings.num_layers, "dropout": settings.dropout}
        trunk = build_trunk(settings.cell, input_size, settings.hidden_size, **shape)
        decoder = build_trunk(settings.cell, settings.latent_size, settings.hidden_size, **shape)
        head = StepRegressionHead(decoder.output_size, channels)
        return Autoencoder(trunk, settings.latent_size, decoder, head)

    def source(self, settings: AnomalySettings, inputs: Sequences, targets: Sequences) -> Windows:
        return Windows(inputs, targets, _training_places(inputs, settings.window))

    def errors(
        self,
        settings: AnomalySettings,
        model: Model,
        inputs: Sequences,
        targets: Sequences,
        device: torch.device,
        progress: Progress,
    ) -> list[np.ndarray]:
        lengths = [len(sequence) for sequence in inputs]
        windows = Windows(inputs, targets, trailing_windows(lengths, settings.window))
        loader = Loader(windows, _WINDOWS_PER_BATCH)

        def decode(model: Model, batch: Batch) -> np.ndarray:
            return _last_step(model, batch.inputs, batch.lengths)

        last_steps = np.array(predict(model, loader, decode, device=device, progress=progress, title="scoring"))
        reconstructions = np.split(last_steps, np.cumsum(lengths)[:-1])
        return [np.abs(values - of_values) for values, of_values in zip(targets, reconstructions, strict=True)]

    def stream(self, settings: AnomalySettings, model: Model) -> StreamingScorer:
        return _StreamingReconstructionError(model, settings.window)


class _StreamingReconstructionError:
    def __init__(self, model: Model, window: int) -> None:
        self.model, self.device = model.eval(), next(model.parameters()).device
        self.inputs: deque[np.ndarray] = deque(maxlen=window)

    def step(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        self.inputs.append(inputs)
        with torch.inference_mode():
            window = torch.from_numpy(np.stack(self.inputs))[None].to(self.device)
            return np.abs(targets - _last_step(self.model, window, None)[0])


SCORERS: dict[str, Scorer] = {"prediction": PredictionErrorScorer(), "reconstruction": ReconstructionErrorScorer()}


def future_values(values: np.ndarray, horizon: int) -> np.ndarray:
    """``(T, C)`` to ``(T, horizon * C)``: the values after each step, NaN past the end."""
    future = np.full((len(values), horizon, values.shape[1]), np.nan, dtype=np.float32)
    for k in range(min(horizon, len(values) - 1)):
        future[: -k - 1, k] = values[k + 1 :]
    return future.reshape(len(values), -1)


def _training_places(inputs: Sequences, window: int) -> np.ndarray:
    return sliding_windows([len(sequence) for sequence in inputs], window, max(1, window // 4))


def _last_step(model: Model, inputs: Tensor, lengths: Tensor | None) -> np.ndarray:
    """The outputs ``(B, C)`` at the last step of each window."""
    outputs, _ = model(inputs, None, lengths)
    ends = torch.full((len(inputs),), inputs.shape[1]) if lengths is None else lengths
    return outputs[torch.arange(len(outputs)), ends - 1].float().cpu().numpy()
