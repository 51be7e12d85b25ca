"""Two ways to be surprised: by what was not foreseen, and by what cannot be told again. Both are causal."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.series.sensor_series import Windows, places, trailing_windows
from lstmkit.models.autoencoder import Autoencoder
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.heads import StepRegressionHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

if TYPE_CHECKING:
    from lstmkit.jobs.anomaly_detector.job import AnomalyDetector

_AT_ONCE = 4096  # steps that a model runs over together, so that a long recording needs little memory
_WINDOWS_PER_BATCH = 256  # windows

Sequences = Sequence[np.ndarray]


class StreamingScorer(Protocol):
    """Errors as the steps come in."""

    def step(self, inputs: np.ndarray, watched: np.ndarray) -> np.ndarray:
        """``(F,)`` as the model reads it and ``(C,)`` as it was measured, NaN where missing, to errors ``(C,)``."""
        ...


class Way(Protocol):
    """How errors of steps come about. Sequences are ``(T, F)`` as the model reads them; watched are ``(T, C)``."""

    def build(self, job: AnomalyDetector, width: int, channels: int) -> Model:
        """A fresh model for ``F = width`` columns, ``C = channels`` of them watched."""
        ...

    def source(self, job: AnomalyDetector, inputs: Sequences, watched: Sequences) -> Windows:
        """What there is to learn."""
        ...

    def errors(
        self, job: AnomalyDetector, inputs: Sequences, watched: Sequences, device: torch.device, progress: Progress
    ) -> list[np.ndarray]:
        """Of each sequence ``(T, C)`` absolute errors, NaN where there is nothing to compare."""
        ...

    def live(self, job: AnomalyDetector) -> StreamingScorer:
        """The same one step at a time."""
        ...


class PredictionErrorScorer:
    """The next ``ahead`` values are foretold at every step; a value's error is the mean over what was foretold of it.

    Malhotra et al. 2015, "Long short term memory networks for anomaly detection in time series", ESANN.
    """

    def build(self, job: AnomalyDetector, width: int, channels: int) -> Model:
        trunk = build_trunk(job.cell, width, job.hidden_size, num_layers=job.num_layers, dropout=job.dropout)
        return SequenceModel(nn.Identity(), trunk, StepRegressionHead(trunk.output_size, job.ahead * channels))

    def source(self, job: AnomalyDetector, inputs: Sequences, watched: Sequences) -> Windows:
        targets = [future_values(one, job.ahead) for one in watched]
        return Windows(inputs, targets, places([len(one) for one in inputs], job.window, max(1, job.window // 4)))

    def errors(
        self, job: AnomalyDetector, inputs: Sequences, watched: Sequences, device: torch.device, progress: Progress
    ) -> list[np.ndarray]:
        lengths = [len(one) for one in inputs]
        source = Windows(inputs, watched, places(lengths, max(lengths), 1))

        def decode(model: Model, batch: Batch) -> list[np.ndarray]:
            told, state = [], None
            for part in batch.inputs.split(_AT_ONCE, dim=1):
                outputs, state = model(part, state)
                told.append(outputs.float())
            return [torch.cat(told, 1)[0].cpu().numpy()]

        said = predict(job.model, Loader(source, 1), decode, device=device, progress=progress, title="scoring")
        return [missed(one, of, job.ahead) for one, of in zip(watched, said, strict=True)]

    def live(self, job: AnomalyDetector) -> StreamingScorer:
        return _StreamingPredictionError(job)


class _StreamingPredictionError:
    def __init__(self, job: AnomalyDetector) -> None:
        self.model, self.state = job.model.eval(), None
        self.said: deque[np.ndarray] = deque(maxlen=job.ahead)

    def step(self, inputs: np.ndarray, watched: np.ndarray) -> np.ndarray:
        about = [foretold[k] for k, foretold in enumerate(reversed(self.said))]
        error = np.abs(watched - np.array(about)).mean(0) if about else np.full(len(watched), np.nan)
        with torch.inference_mode():
            outputs, self.state = self.model.step(_row(inputs, self.model), self.state)
        self.said.append(outputs[0].float().cpu().numpy().reshape(-1, len(watched)))
        return error


class Recall:
    """The last ``window`` steps are told again through a few numbers; a step's error is that of the window it ends.

    Malhotra et al. 2016, "LSTM-based encoder-decoder for multi-sensor anomaly detection"; a window for every step, of
    which the last step counts, makes it causal.
    """

    def build(self, job: AnomalyDetector, width: int, channels: int) -> Model:
        shape = {"num_layers": job.num_layers, "dropout": job.dropout}
        trunk = build_trunk(job.cell, width, job.hidden_size, **shape)
        decoder = build_trunk(job.cell, job.code_size, job.hidden_size, **shape)
        return Autoencoder(trunk, job.code_size, decoder, StepRegressionHead(decoder.output_size, channels))

    def source(self, job: AnomalyDetector, inputs: Sequences, watched: Sequences) -> Windows:
        return Windows(inputs, watched, places([len(one) for one in inputs], job.window, max(1, job.window // 4)))

    def errors(
        self, job: AnomalyDetector, inputs: Sequences, watched: Sequences, device: torch.device, progress: Progress
    ) -> list[np.ndarray]:
        lengths = [len(one) for one in inputs]
        loader = Loader(Windows(inputs, watched, trailing_windows(lengths, job.window)), _WINDOWS_PER_BATCH)

        def decode(model: Model, batch: Batch) -> np.ndarray:
            return _last(model, batch.inputs, batch.lengths)

        said = np.array(predict(job.model, loader, decode, device=device, progress=progress, title="scoring"))
        parts = np.split(said, np.cumsum(lengths)[:-1])
        return [np.abs(one - of) for one, of in zip(watched, parts, strict=True)]

    def live(self, job: AnomalyDetector) -> StreamingScorer:
        return _StreamingReconstructionError(job)


class _StreamingReconstructionError:
    def __init__(self, job: AnomalyDetector) -> None:
        self.model = job.model.eval()
        self.read: deque[np.ndarray] = deque(maxlen=job.window)

    def step(self, inputs: np.ndarray, watched: np.ndarray) -> np.ndarray:
        self.read.append(inputs)
        with torch.inference_mode():
            return np.abs(watched - _last(self.model, _row(np.stack(self.read), self.model), None)[0])


WAYS: dict[str, Way] = {"predict": PredictionErrorScorer(), "reconstruct": Recall()}


def future_values(values: np.ndarray, ahead: int) -> np.ndarray:
    """``(T, C)`` to ``(T, ahead * C)``: the values after each step, NaN past the end."""
    found = np.full((len(values), ahead, values.shape[1]), np.nan, dtype=np.float32)
    for k in range(min(ahead, len(values) - 1)):
        found[: -k - 1, k] = values[k + 1 :]
    return found.reshape(len(values), -1)


def missed(values: np.ndarray, said: np.ndarray, ahead: int) -> np.ndarray:
    """``(T, C)`` absolute errors: a mean over what the steps before, ``ahead`` of them at most, foretold of each.

    Args:
        values: ``(T, C)``.
        said: ``(T, ahead * C)``, foretold at each step.
    """
    said = said.reshape(len(said), ahead, -1)
    total = np.zeros(values.shape)
    for k in range(min(ahead, len(said) - 1)):
        total[k + 1 :] += np.abs(values[k + 1 :] - said[: -k - 1, k])
    counts = np.minimum(np.arange(len(said)), ahead).astype(np.float64)
    counts[0] = np.nan  # nothing was foretold of the first
    return total / counts[:, None]


def _last(model: Model, inputs: Tensor, lengths: Tensor | None) -> np.ndarray:
    """``(B, C)`` told of each window's last step."""
    outputs, _ = model(inputs, None, lengths)
    ends = torch.full((len(inputs),), inputs.shape[1]) if lengths is None else lengths
    return outputs[torch.arange(len(outputs)), ends - 1].float().cpu().numpy()


def _row(inputs: np.ndarray, model: Model) -> Tensor:
    return torch.from_numpy(inputs)[None].to(next(model.parameters()).device)
