"""A small model with every kind of dropout, and a training run that can be interrupted.

As a script with a folder as its argument, it trains into the third epoch, prints a line, and waits to be killed.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lstmkit.data.batch import Batch, Loader
from lstmkit.models.base import Model
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.encoders import PatchEncoder
from lstmkit.modules.heads import QuantileHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.ops.cpu.kernels import extension
from lstmkit.progress import Progress
from lstmkit.training.optimization import TrainSettings
from lstmkit.training.random_state import seeded
from lstmkit.training.train import History, train

torch.set_num_threads(1)

CPU = torch.device("cpu")
PLAIN = TrainSettings(
    epochs=4,
    lr=0.01,
    weight_decay=0.01,
    warmup=0.2,
    lr_schedule="cosine",
    max_grad_norm=1.0,
    ema_decay=0.9,
    patience=0,
    precision="float32",
    seed=0,
    device=CPU,
)
#: Loss computations per epoch: 3 training steps and 2 validation batches.
PER_EPOCH = 5


class Sums:
    """``N`` sequences of 4 steps; the targets are the running sums at the last three steps. Some are missing."""

    lengths: np.ndarray | None = None

    def __init__(self, n: int, seed: int = 0) -> None:
        self.inputs = torch.randn(n, 4, 2, generator=torch.Generator().manual_seed(seed))
        self.targets = self.inputs.sum(2).cumsum(1)[:, 1:]
        self.targets[::5, 1] = math.nan

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, rows: np.ndarray) -> Batch:
        return Batch(self.inputs[rows], targets=self.targets[rows], rows=rows)


def noisy_model() -> Model:
    """A model with every kind of dropout, which shows if training resumes with another random state."""
    trunk = build_trunk("lstm", 5, 5, num_layers=2, dropout=0.3, recurrent_dropout=0.2, residual=True)
    return SequenceModel(PatchEncoder(2, 2, 5, dropout=0.2), trunk, QuantileHead(5, [0.1, 0.5, 0.9], 3, 2, dropout=0.2))


def interrupt() -> None:
    raise KeyboardInterrupt


def fit_noisy(
    settings: TrainSettings,
    folder: Path | None = None,
    *,
    valid: bool = True,
    stop_at: int | None = None,
    progress: Progress | None = None,
    stop: Callable[[], None] = interrupt,
) -> tuple[dict[str, Tensor], History]:
    """Train :func:`noisy_model` for 4 epochs of 3 steps; return its weights and history.

    ``stop()`` is called at the loss computation ``stop_at``. With a folder, training resumes from its checkpoint.
    """
    with seeded(settings.seed):
        model = noisy_model()
        calls = itertools.count(1)

        def counted_loss(batch: Batch, state: Any = None) -> tuple[Tensor, Any]:
            if next(calls) == stop_at:
                stop()
            return type(model).loss(model, batch, state)

        model.loss = counted_loss  # type: ignore[method-assign]
        history = train(
            model,
            Loader(Sums(20), 8, settings.seed),
            Loader(Sums(9, seed=1), 8) if valid else None,
            settings,
            folder=folder,
            resume=folder is not None,
            progress=progress,
        )
    return model.state_dict(), history


def wait_to_be_killed(folder: Path) -> None:
    """Train into the third epoch, print a line, and wait."""

    def wait() -> None:
        print("in the third epoch", flush=True)
        time.sleep(600)

    fit_noisy(PLAIN, folder, stop_at=2 * PER_EPOCH + 2, stop=wait)


if __name__ == "__main__":
    if extension is not None and (name := os.environ.get("LSTMKIT_ISA")):  # as in conftest.py
        extension.use(name)
    wait_to_be_killed(Path(sys.argv[1]))
