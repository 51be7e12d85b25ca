"""Next-item prediction: scores of all items, and ranking losses with sampled negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.data.batch import Batch
from lstmkit.modules.heads import TokenHead

LOSSES = ("cross-entropy", "bpr-max", "top1-max")

_MAX_SCORES = 1 << 24  # scores in memory together; more are computed in chunks


class ItemHead(nn.Module):
    """Scores of all items at every step; training may use sampled negatives.

    The losses and the negatives, shared in a batch and sampled by ``popularity ** alpha``, are those of B. Hidasi,
    A. Karatzoglou 2018, "Recurrent Neural Networks with Top-k Gains for Session-based Recommendations", CIKM.

    Args:
        input_size: Width of the features, ``P``.
        items: Number of items, ``V``.
        tied_embedding: Embedding that shares its weights with the output layer ("constrained embedding").
        loss: One of :data:`LOSSES`.
        num_negatives: Negatives sampled per training batch, ``M``; 0 uses all items. Validation always uses all.
        weights: ``(V,)`` sampling weights, needed if ``num_negatives`` is above 0.
        bpr_reg: Weight of the score regularization in BPR-max (the paper's lambda).

    >>> head = ItemHead(4, items=10, loss="bpr-max", num_negatives=3, weights=[1.0] * 10)
    >>> head(torch.zeros(2, 5, 4)).shape
    torch.Size([2, 5, 10])
    """

    drawn: Tensor

    def __init__(
        self,
        input_size: int,
        items: int,
        tied_embedding: nn.Embedding | None = None,
        loss: str = "cross-entropy",
        num_negatives: int = 0,
        weights: Sequence[float] = (),
        bpr_reg: float = 0.0,
    ) -> None:
        super().__init__()
        self.kind, self.num_negatives, self.bpr_reg = loss, num_negatives, bpr_reg
        self.output_size = items
        self.scores = TokenHead(input_size, items, tied_embedding)
        unnormalized = torch.tensor(weights, dtype=torch.float64)
        self.register_buffer("drawn", unnormalized / unnormalized.sum(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, S, P)`` to scores ``(B, S, V)``; logits if the loss is cross-entropy."""
        return self.scores(features)

    def score_slice(self, x: Tensor, items: slice) -> Tensor:
        """Scores ``(N, n)`` of a slice of items, for features ``x (N, E)`` of the item vectors' width."""
        return F.linear(x, self.scores.weight[items], self.scores.bias[items])

    def score_targets(self, x: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``(N,)`` of one item per row, ``items (N,)``, and sums of absolute terms, which bound rounding."""
        terms, bias = x * self.scores.weight[items], self.scores.bias[items]
        return terms.sum(-1) + bias, terms.abs().sum(-1) + bias.abs()

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean loss of the features ``outputs (B, S, P)`` against ``batch.targets (B, S)``; -1 is ignored."""
        assert batch.targets is not None
        sampling = self.training and self.num_negatives > 0
        scored = batch.targets >= 0
        x, targets = outputs[scored], batch.targets[scored]
        if self.kind == "cross-entropy" and not sampling:
            return self.scores.loss(x.unsqueeze(0), replace(batch, targets=targets))
        x = self.scores.narrow(x)
        negatives = self.sample_negatives() if sampling else None
        rows = max(1, _MAX_SCORES // (self.num_negatives if sampling else self.output_size))
        chunks = zip(x.split(rows), targets.split(rows), strict=True)
        return torch.stack([self._loss_sum(*chunk, negatives) for chunk in chunks]).sum() / max(1, len(targets))

    @torch.no_grad()
    def sample_negatives(self) -> Tensor:
        """Sample ``M`` negative item ids with replacement."""
        cumulative = self.drawn.cumsum(0)
        uniform = torch.rand(self.num_negatives, dtype=cumulative.dtype, device=cumulative.device)
        ids = torch.searchsorted(cumulative, uniform * cumulative[-1], right=True)
        return ids.clamp(max=self.output_size - 1)

    def _loss_sum(self, x: Tensor, targets: Tensor, negatives: Tensor | None) -> Tensor:
        """Summed loss of features ``(N, P)`` for ``targets (N,)`` and ``negatives (M,)``, or ``None`` for all items."""
        weight, bias = self.scores.weight, self.scores.bias
        target, _ = self.score_targets(x, targets)
        ids = torch.arange(len(weight), device=x.device) if negatives is None else negatives
        others = F.linear(x, weight, bias) if negatives is None else F.linear(x, weight[ids], bias[ids])
        hit = ids == targets.unsqueeze(1)
        if self.kind == "bpr-max":
            return bpr_max(target, others, hit, self.bpr_reg)
        if self.kind == "top1-max":
            return top1_max(target, others, hit)
        assert negatives is not None
        return sampled_cross_entropy(target, others, hit, self.drawn[ids])


def sampled_cross_entropy(target: Tensor, others: Tensor, hit: Tensor, drawn: Tensor) -> Tensor:
    """Summed sampled-softmax cross-entropy.

    The term of a sampled item is divided by its expected count in the sample, so that the sum over the sample is an
    unbiased estimate of the sum over all items except the target (importance sampling, Bengio and Senécal 2008).

    Args:
        target: ``(N,)`` scores of the target items.
        others: ``(N, M)`` scores of the sampled items.
        hit: ``(N, M)``, true if the sampled item is the target; it is ignored.
        drawn: ``(M,)`` sampling probability of each sampled item.
    """
    expected = (len(drawn) * drawn).log().to(others.dtype)
    logits = torch.cat([target.unsqueeze(1), _mask_target(others - expected, hit)], dim=1)
    return (logits.logsumexp(1) - target).sum()


def bpr_max(target: Tensor, others: Tensor, hit: Tensor, penalty: float) -> Tensor:
    """The sum over rows of ``-log Σ_j s_j σ(r_i - r_j) + λ Σ_j s_j r_j²``, ``s`` the softmax of the others' scores.

    BPR-max with score regularization of Hidasi and Karatzoglou 2018. For the other arguments see
    :func:`sampled_cross_entropy`; ``penalty`` is λ.
    """
    log_weights = _mask_target(others, hit).log_softmax(1)
    gain = (log_weights + F.logsigmoid(target.unsqueeze(1) - others)).logsumexp(1)
    return -gain.sum() + penalty * (log_weights.exp() * others.square()).sum()


def top1_max(target: Tensor, others: Tensor, hit: Tensor) -> Tensor:
    """The sum over rows of ``Σ_j s_j (σ(r_j - r_i) + σ(r_j²))``, ``s`` the softmax of the others' scores.

    TOP1-max of Hidasi and Karatzoglou 2018. For the arguments see :func:`sampled_cross_entropy`.
    """
    weights = _mask_target(others, hit).softmax(1)
    return (weights * ((others - target.unsqueeze(1)).sigmoid() + others.square().sigmoid())).sum()


def _mask_target(scores: Tensor, hit: Tensor) -> Tensor:
    return scores.masked_fill(hit, torch.finfo(scores.dtype).min)
