"""The only prediction path: batches through a model, answers back in the examples' order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from lstmkit.data.batch import Batch, Loader
from lstmkit.models.base import Model
from lstmkit.progress import Progress

A = TypeVar("A")


def predict(
    model: Model,
    loader: Loader,
    decode: Callable[[Model, Batch], list[A] | np.ndarray],
    *,
    device: torch.device,
    progress: Progress | None = None,
    title: str = "predicting",
) -> list[A]:
    """``decode(model, batch)`` over all batches, gradients off, one answer an example, in the source's order.

    Args:
        model: Moved to ``device`` and set to evaluate.
        loader: Without a shuffling seed; its batches carry ``rows``.
        decode: One answer for each example of a batch, in the batch's order.
        device: Where to compute.
        progress: Whom to tell.
        title: What to call it there.
    """
    model.to(device).eval()
    answers: dict[int, A] = {}
    with torch.inference_mode(), (progress or Progress()).task(title, len(loader)) as task:
        for i, batch in enumerate(loader.epoch()):
            assert batch.rows is not None
            answers.update(zip(batch.rows.tolist(), decode(model, batch.to(device)), strict=True))
            task.update(i + 1)
    return [answers[row] for row in sorted(answers)]
