"""The network's outputs for many examples, decoded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lstmkit.data.batch import Batch, Loader
from lstmkit.data.text.text_pairs import TextPairDataset
from lstmkit.decoding.ctc import AlignedCharacter
from lstmkit.decoding.transcription import CTCDecoder
from lstmkit.models.base import Model
from lstmkit.progress import Progress
from lstmkit.training.predict import predict


def transcribe_batches(
    model: Model,
    encoded: Sequence[np.ndarray],
    stride: int,
    decoder: CTCDecoder,
    *,
    batch_size: int,
    device: torch.device,
    progress: Progress | None = None,
) -> list[list[AlignedCharacter]]:
    """Characters of each encoded example ``(T, F)``, with positions in encoder steps.

    Args:
        model: Returns ``(B, ceil(T / stride), 1 + V)``.
        encoded: The examples.
        stride: Input steps per encoder step.
        decoder: How outputs become texts.
        batch_size: Examples per batch.
        device, progress: See :func:`predict`.
    """

    def decode(model: Model, batch: Batch) -> list[list[AlignedCharacter]]:
        lengths = batch.lengths
        if lengths is None:
            raise ValueError("a batch of examples has lengths")
        outputs, _ = model(batch.inputs, None, lengths)
        log_p = log_probabilities(outputs)
        counts = (-(-lengths // stride)).tolist()
        return [decoder(steps[:count]) for steps, count in zip(log_p, counts, strict=True)]

    loader = Loader(TextPairDataset(list(encoded)), batch_size)
    return predict(model, loader, decode, device=device, progress=progress, title="transcribing")


def log_probabilities(outputs: torch.Tensor) -> np.ndarray:
    """Log-probabilities ``(B, S, 1 + V)``; the mean over an ensemble is normalized again."""
    return outputs.float().log_softmax(-1).cpu().numpy()
