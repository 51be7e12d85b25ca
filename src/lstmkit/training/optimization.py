"""Settings of the training loop, the optimizers, and the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class TrainSettings:
    """Settings of the training loop.

    Attributes:
        epochs: Maximum number of epochs.
        lr: Peak learning rate.
        weight_decay: Decoupled weight decay of AdamW, L2 penalty of the other optimizers.
        warmup: Fraction of all steps during which the learning rate rises linearly from 0.
        lr_schedule: Learning rate decay: ``"cosine"`` or ``"linear"`` to 0 at the last step, or ``"none"``.
        max_grad_norm: Maximum norm of the gradient; 0 for no clipping.
        ema_decay: Decay of the exponential moving average of weights that is validated and kept; 0 for no averaging.
        patience: Epochs without a better validation loss before training stops early; 0 to never stop early.
        precision: ``"float32"``, or ``"bf16"`` for autocast.
        seed: Random seed of weights, dropout and order of the examples.
        device: Torch device.
        optimizer: ``"adamw"``, ``"sgd"`` or ``"asgd"``. The last is NT-ASGD (Merity et al. 2018): once the validation
            loss stops improving, the mean of all later weights is validated and kept, instead of ``ema_decay``.
        budget: Seconds of training, validation included, in place of ``epochs`` and ``patience``; 0 for these. The
            learning rate then follows the clock, so that two trainings are never quite equal.
    """

    epochs: int
    lr: float
    weight_decay: float
    warmup: float
    lr_schedule: str
    max_grad_norm: float
    ema_decay: float
    patience: int
    precision: str
    seed: int
    device: torch.device
    optimizer: str = "adamw"
    budget: float = 0.0

    @property
    def uses_averaging(self) -> bool:
        """Whether averaged weights are validated and kept instead of the trained ones."""
        return self.optimizer == "asgd" or self.ema_decay > 0


def optimizer_for(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Build the optimizer; the fused implementation makes one pass over the weights instead of ten."""
    optimizer_class = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.SGD
    return optimizer_class(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True)


def learning_rate(settings: TrainSettings, step: int, total: int) -> float:
    """Learning rate at ``step`` (from 0) of ``total`` steps: linear warmup, then the decay."""
    warmup_steps = math.ceil(settings.warmup * total)
    if step < warmup_steps:
        return settings.lr * (step + 1) / warmup_steps
    fraction = (step - warmup_steps) / max(1, total - warmup_steps)
    if settings.lr_schedule == "cosine":
        return settings.lr * (1 + math.cos(math.pi * fraction)) / 2
    return settings.lr * (1 - fraction) if settings.lr_schedule == "linear" else settings.lr
