"""The prediction loop: run a model over batches and return the results in the order of the examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from lstmkit.data.batch import Batch, Loader
from lstmkit.models.base import Model
from lstmkit.progress import Progress

T = TypeVar("T")


def predict(
    model: Model,
    loader: Loader,
    decode: Callable[[Model, Batch], list[T] | np.ndarray],
    *,
    device: torch.device,
    progress: Progress | None = None,
    title: str = "predicting",
) -> list[T]:
    """Apply ``decode(model, batch)`` to all batches without gradients.

    Args:
        model: The model; it is moved to ``device`` and put into evaluation mode.
        loader: Loader without a shuffling seed, whose batches have ``rows``.
        decode: Returns one result per example of a batch, in the batch's order.
        device: Device for the computation.
        progress: Receives the progress.
        title: Title of the progress bar.

    Returns:
        One result per example, in the order of the source.
    """
    model.to(device).eval()
    results: dict[int, T] = {}
    with torch.inference_mode(), (progress or Progress()).task(title, len(loader)) as task:
        for i, batch in enumerate(loader.epoch()):
            assert batch.rows is not None
            results.update(zip(batch.rows.tolist(), decode(model, batch.to(device)), strict=True))
            task.update(i + 1)
    return [results[row] for row in sorted(results)]
