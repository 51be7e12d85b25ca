"""Mixture density output for pen strokes: bivariate Gaussians for the offset, Bernoulli for pen lift and end.

A. Graves 2013, "Generating Sequences With Recurrent Neural Networks", arXiv:1308.0850, section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.data.batch import Batch
from lstmkit.modules.dropout import variational_dropout
from lstmkit.modules.pooling import length_mask

_MAX_CORRELATION = 0.999  # largest correlation of the two directions
_MAX_LOG_DEVIATION = 10.0  # logarithm of the largest standard deviation


class PenMixture(NamedTuple):
    """Distribution of the next point of a pen.

    Attributes:
        logits: ``(..., K)`` logits of the component weights.
        means: ``(..., K, 2)`` means of the offset.
        log_deviations: ``(..., K, 2)`` logarithms of the standard deviations.
        correlations: ``(..., K)`` correlations of the two directions.
        pen: ``(...,)`` logits that the pen is lifted after this point.
        last: ``(...,)`` logits that a lifted pen ends the drawing; ``None`` if the model has no end.
    """

    logits: Tensor
    means: Tensor
    log_deviations: Tensor
    correlations: Tensor
    pen: Tensor
    last: Tensor | None

    def nll(self, points: Tensor) -> Tensor:
        """Negative log-likelihood in nats of ``points (..., 4)``: ``(..., 3)`` for offset (a density), pen and end.

        Equations 23 to 26. The end counts only at points with a lifted pen, and if the model has an end.
        """
        z = (points[..., None, :2] - self.means) * (-self.log_deviations).exp()
        residual = 1 - self.correlations.square()
        distance = (z.square().sum(-1) - 2 * self.correlations * z.prod(-1)) / residual
        log_density = -0.5 * (distance + residual.log()) - self.log_deviations.sum(-1) - math.log(2 * math.pi)
        offset = -(self.logits.log_softmax(-1) + log_density).logsumexp(-1)
        pen = F.binary_cross_entropy_with_logits(self.pen, points[..., 2], reduction="none")
        if self.last is None:
            return torch.stack([offset, pen, torch.zeros_like(pen)], -1)
        end = F.binary_cross_entropy_with_logits(self.last, points[..., 3], reduction="none")
        return torch.stack([offset, pen, end * points[..., 2]], -1)

    def sample(self, noise: Tensor, bias: float = 0.0) -> Tensor:
        """Sample a point ``(..., 4)``.

        Args:
            noise: ``(..., 5)`` uniform in 0…1, for component, two directions, pen and end.
            bias: Probability bias: values above 0 give neater writing (section 5.4, equations 61 and 62).
        """
        weights = (self.logits * (1 + bias)).softmax(-1)
        chosen = (weights.cumsum(-1) < noise[..., :1]).sum(-1, keepdim=True).clamp(max=weights.shape[-1] - 1)
        mean, log_deviation = (
            t.gather(-2, chosen.unsqueeze(-1).expand(*chosen.shape, 2)).squeeze(-2)
            for t in (self.means, self.log_deviations)
        )
        correlation = self.correlations.gather(-1, chosen).squeeze(-1)
        tiny = torch.finfo(noise.dtype).eps
        first, second = torch.special.ndtri(noise[..., 1:3].clamp(tiny, 1 - tiny)).unbind(-1)
        second = correlation * first + (1 - correlation.square()).sqrt() * second
        offset = mean + (log_deviation - bias).exp() * torch.stack([first, second], -1)
        pen = (noise[..., 3] < self.pen.sigmoid()).to(offset.dtype)
        last = pen * (noise[..., 4] < self.last.sigmoid()) if self.last is not None else torch.zeros_like(pen)
        return torch.cat([offset, pen.unsqueeze(-1), last.unsqueeze(-1)], -1)


def mean_mixture(mixtures: Sequence[PenMixture]) -> PenMixture:
    """The equally weighted mixture of several models' mixtures, with mean pen and end probabilities."""
    logits, means, deviations, correlations, pens, lasts = zip(*mixtures, strict=True)
    return PenMixture(
        torch.cat([component.log_softmax(-1) for component in logits], -1),
        torch.cat(means, -2),
        torch.cat(deviations, -2),
        torch.cat(correlations, -1),
        _mean_logit(pens),
        None if lasts[0] is None else _mean_logit(lasts),
    )


def _mean_logit(logits: Sequence[Tensor]) -> Tensor:
    """The logit of the mean probability, computed in log space for accuracy near 0 and 1."""
    stacked = torch.stack(list(logits))
    return F.logsigmoid(stacked).logsumexp(0) - F.logsigmoid(-stacked).logsumexp(0)


class MixtureDensityHead(nn.Module):
    """A mixture density of the next pen point at every step.

    Args:
        input_size: Width of the trunk's features, ``P``.
        components: Number of Gaussians, ``K``.
        min_std: Smallest standard deviation, in the targets' unit; without it rounded data would give unbounded
            likelihoods.
        ending: Whether to predict the end of a drawing.
        dropout: Dropout probability on the features, with one mask for all steps.
    """

    def __init__(
        self, input_size: int, components: int, min_std: float, ending: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.components, self.min_std, self.ending, self.dropout = components, min_std, ending, dropout
        self.output_size = 6 * components + 1 + ending
        self.linear = nn.Linear(input_size, self.output_size)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to unconstrained parameters ``(B, S, output_size)``."""
        return self.linear(variational_dropout(features, self.dropout, self.training))

    def mixture(self, outputs: Tensor) -> PenMixture:
        """The mixture with parameters ``outputs (..., output_size)``: equations 18 to 22, with bounded values."""
        k, outputs = self.components, outputs.float() if outputs.dtype == torch.bfloat16 else outputs
        logits, means, spread, correlations, rest = outputs.split([k, 2 * k, 2 * k, k, 1 + self.ending], -1)
        # Equation 21's exponential plus the floor.
        floor = math.log(self.min_std)
        log_deviations = torch.logaddexp(spread.clamp(max=_MAX_LOG_DEVIATION), torch.full_like(spread, floor))
        return PenMixture(
            logits,
            means.unflatten(-1, (k, 2)),
            log_deviations.unflatten(-1, (k, 2)),
            _MAX_CORRELATION * correlations.tanh(),
            rest[..., 0],
            rest[..., 1] if self.ending else None,
        )

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean negative log-likelihood of ``batch.targets (B, S, 4)``, in nats per point."""
        assert batch.targets is not None
        nats = self.mixture(outputs).nll(batch.targets).sum(-1)
        mask = length_mask(nats, batch.lengths)
        return (nats * mask).sum() / mask.sum().clamp(min=1)
