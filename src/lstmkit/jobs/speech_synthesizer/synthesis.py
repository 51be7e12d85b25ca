"""Mel frames of a text: the decoder runs step by step until the stop token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.text.text_pairs import TextPairDataset
from lstmkit.decoding.generation import roll_out
from lstmkit.models.base import Ensemble, Model
from lstmkit.models.tacotron import StreamingDecoder, Tacotron, TacotronState
from lstmkit.progress import Progress
from lstmkit.training.predict import predict

NATS_TO_DB = 10 / np.log(10)  #: Decibels per natural logarithm of power.
_DYNAMIC_RANGE = 80 / NATS_TO_DB  # between silence and the loudest band
MAX_SLOWDOWN = 2.0  #: Relative to the slowest training recording; then a text is cut off.


class SpectrogramScaler(NamedTuple):
    """Standardizes log-mel frames: each band has mean 0 and standard deviation 1 over the training split.

    Attributes:
        means, stds: ``(F,)``.
        floor: Quieter values are raised to it; values more than 80 dB above it are lowered to that.
    """

    means: np.ndarray
    stds: np.ndarray
    floor: float

    @property
    def ceiling(self) -> float:
        """Louder values are lowered to it."""
        return self.floor + _DYNAMIC_RANGE

    @classmethod
    def fit(cls, frames: Sequence[np.ndarray]) -> Self:
        """Fit to frames ``(T, F)``; silence is 80 dB below the loudest value."""
        values = np.concatenate(frames).astype(np.float64)
        floor = float(values.max() - _DYNAMIC_RANGE)
        values = values.clip(min=floor)
        return cls(values.mean(0), values.std(0).clip(min=1e-3), floor)

    def clip(self, frames: np.ndarray) -> np.ndarray:
        """Frames within the dynamic range."""
        return frames.clip(np.float32(self.floor), np.float32(self.ceiling))

    def scale(self, frames: np.ndarray) -> np.ndarray:
        return ((self.clip(frames) - self.means) / self.stds).astype(np.float32)

    def unscale(self, frames: np.ndarray) -> np.ndarray:
        return self.clip((frames * self.stds + self.means).astype(np.float32))


def pad_to_decoder_steps(frames: np.ndarray, reduction_factor: int, floor: float) -> np.ndarray:
    """Frames ``(T, F)`` padded with silence to a multiple of ``reduction_factor``."""
    return np.pad(frames, ((0, -len(frames) % reduction_factor), (0, 0)), constant_values=floor)


class SynthesizedFrames(NamedTuple):
    """The decoder's output for one text.

    Attributes:
        frames: ``(T, F)``, standardized.
        attention: ``(T / r, S)``.
        ended: Whether the stop token ended it.
    """

    frames: np.ndarray
    attention: np.ndarray
    ended: bool


def max_decoder_steps(
    ids: Sequence[np.ndarray], frames_per_token: float, max_frames: float, reduction_factor: int
) -> np.ndarray:
    """The number of decoder steps after which each text is cut off.

    Args:
        ids: Token ids of each text.
        frames_per_token: Of the slowest training recording.
        max_frames: Longest speech in frames.
        reduction_factor: Frames per step.
    """
    frames = [min(MAX_SLOWDOWN * frames_per_token * len(of_text), max_frames) for of_text in ids]
    return np.maximum(1, np.ceil(np.array(frames) / reduction_factor)).astype(np.int64)


def synthesize(
    model: Model,
    ids: Sequence[np.ndarray],
    limits: np.ndarray,
    batch_size: int,
    device: torch.device,
    progress: Progress | None = None,
) -> list[SynthesizedFrames]:
    """Decode the frames of texts ``(S,)``, each until its stop token or for at most ``limits`` steps."""
    bands = synthesizer_networks(model)[0].decoder.frame_size

    def decode(model: Model, batch: Batch) -> list[SynthesizedFrames]:
        rows, lengths = batch.rows, batch.lengths
        if rows is None or lengths is None:
            raise ValueError("a batch of texts has rows and lengths")
        networks = synthesizer_networks(model)
        max_steps = torch.from_numpy(limits[rows]).to(batch.inputs.device)
        attention: list[Tensor] = []
        running = torch.ones_like(max_steps, dtype=torch.bool)

        def step(output: Tensor, t: int, decoders: list[StreamingDecoder]) -> tuple[Tensor, list[StreamingDecoder]]:
            each = [decoder(output[:, -bands - 1 : -1]) for decoder in decoders]
            output, weights = (torch.stack(parts).mean(0) for parts in zip(*each, strict=True))
            attention.append(weights)
            return output, decoders

        def finished(output: Tensor, t: int) -> bool:
            running.logical_and_((output[:, -1] <= 0) & (t + 1 < max_steps))
            return not bool(running.any())

        states = [network(batch.inputs, None, lengths)[1] for network in networks]
        decoders = [
            StreamingDecoder(network.decoder, TacotronState(*state))
            for network, state in zip(networks, states, strict=True)
        ]
        width = networks[0].decoder.reduction_factor * bands + 1
        silence = batch.inputs.new_zeros((len(batch), width), dtype=torch.float32)
        outputs = roll_out(step, silence, decoders, int(max_steps.max()), finished).float().cpu()
        weights = torch.stack(attention, 1).float().cpu().numpy()
        results = []
        for row, (limit, length) in enumerate(zip(max_steps.tolist(), lengths.tolist(), strict=True)):
            stops = (outputs[row, :limit, -1] > 0).nonzero().flatten().tolist()
            steps = stops[0] + 1 if stops else limit
            frames = outputs[row, :steps, :-1].reshape(-1, bands).numpy()
            results.append(SynthesizedFrames(frames, weights[row, :steps, :length], bool(stops)))
        return results

    loader = Loader(TextPairDataset(list(ids)), batch_size)
    return predict(model, loader, decode, device=device, progress=progress, title="synthesizing")


def teacher_forced(
    model: Model, source: TextPairDataset, batch_size: int, device: torch.device, progress: Progress | None = None
) -> list[np.ndarray]:
    """Standardized frames ``(T, F)`` of each recording, predicted from the true frames before every step."""

    def decode(model: Model, batch: Batch) -> list[np.ndarray]:
        lengths = batch.target_lengths
        if lengths is None:
            raise ValueError("a batch of recordings has target lengths")
        networks = synthesizer_networks(model)
        frames = torch.stack([network.teacher_forced(batch).frames for network in networks]).mean(0).flatten(1, 2)
        return [one[:n].float().cpu().numpy() for one, n in zip(frames, lengths.tolist(), strict=True)]

    return predict(model, Loader(source, batch_size), decode, device=device, progress=progress, title="predicting")


def synthesizer_networks(model: Model | torch.nn.Module) -> list[Tacotron]:
    """The one network, or those of an ensemble."""
    networks: Iterable[Any] = model.members if isinstance(model, Ensemble) else [model]
    return [network for network in networks if isinstance(network, Tacotron)]
