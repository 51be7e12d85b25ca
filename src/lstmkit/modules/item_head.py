"""Which item of a catalogue comes next: scores of all of it, and losses that rank the one that came above others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmkit.modules.heads import TokenHead

LOSSES = ("cross-entropy", "bpr-max", "top1-max")

_AT_ONCE = 1 << 24  # scores held at a time where no gradient is wanted


class ItemHead(nn.Module):
    """Scores of all items, at every step; in training those of a few, drawn for the batch, where there are many.

    B. Hidasi, A. Karatzoglou 2018, "Recurrent Neural Networks with Top-k Gains for Session-based Recommendations",
    CIKM: losses, and negatives that a batch shares, drawn by ``popularity ** alpha``.

    Args:
        input_size: Width of the features, ``P``.
        items: How many there are, ``V``.
        tied: The embedding whose vectors are the weights as well ("constrained embedding").
        loss: One of :data:`LOSSES`.
        negatives: Items drawn for a training batch, ``M``; 0 for all. Validation is always against all.
        weights: ``(V,)`` how often each is drawn, in proportion; for ``negatives`` above 0.
        penalty: Of the size of negatives' scores, in BPR-max (the paper's lambda).
    """

    drawn: Tensor

    def __init__(
        self,
        input_size: int,
        items: int,
        tied: nn.Embedding | None = None,
        loss: str = "cross-entropy",
        negatives: int = 0,
        weights: Sequence[float] = (),
        penalty: float = 0.0,
    ) -> None:
        super().__init__()
        self.kind, self.negatives, self.penalty = loss, negatives, penalty
        self.output_size = items
        self.scores = TokenHead(input_size, items, tied)
        shares = torch.tensor(weights, dtype=torch.float64)
        self.register_buffer("drawn", shares / shares.sum(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, S, P) -> (B, S, V)``: the higher, the sooner; with cross-entropy logits."""
        return self.scores(features)

    def some(self, x: Tensor, items: slice) -> Tensor:
        """``(N, n)`` scores of some items, of ``x (N, E)``: features as narrow as the items' vectors."""
        return F.linear(x, self.scores.weight[items], self.scores.bias[items])

    def own(self, x: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """``(N,)``: each row's score of its own of ``items (N,)``, and the sum of its terms' sizes."""
        terms, bias = x * self.scores.weight[items], self.scores.bias[items]
        return terms.sum(-1) + bias, terms.abs().sum(-1) + bias.abs()

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of ``features (B, S, P)`` against ``targets (B, S)``, -1 not scored; 0 where none is."""
        samples = self.training and self.negatives > 0
        kept = targets >= 0
        x, wanted = features[kept], targets[kept]
        if self.kind == "cross-entropy" and not samples:
            return self.scores.loss(x.unsqueeze(0), wanted)
        x = self.scores.narrow(x)
        ids = self.draw() if samples else None
        rows = max(1, _AT_ONCE // (self.negatives if samples else self.output_size))
        parts = zip(x.split(rows), wanted.split(rows), strict=True)
        return torch.stack([self._sum(*part, ids) for part in parts]).sum() / max(1, len(wanted))

    @torch.no_grad()
    def draw(self) -> Tensor:
        """``(M,)`` items by number, with repetition."""
        ends = self.drawn.cumsum(0)
        at = torch.rand(self.negatives, dtype=ends.dtype, device=ends.device)
        return torch.searchsorted(ends, at * ends[-1], right=True).clamp(max=self.output_size - 1)

    def _sum(self, x: Tensor, wanted: Tensor, ids: Tensor | None) -> Tensor:
        """The loss of features ``(N, P)`` against ``wanted (N,)``, beside the items ``ids (M,)``; ``None`` for all."""
        weight, bias = self.scores.weight, self.scores.bias
        target, _ = self.own(x, wanted)
        others = F.linear(x, weight, bias) if ids is None else F.linear(x, weight[ids], bias[ids])
        hit = (torch.arange(len(weight), device=x.device) if ids is None else ids) == wanted.unsqueeze(1)
        if self.kind == "bpr-max":
            return bpr_max(target, others, hit, self.penalty)
        if self.kind == "top1-max":
            return top1_max(target, others, hit)
        assert ids is not None
        return sampled_cross_entropy(target, others, hit, self.drawn[ids])


def sampled_cross_entropy(target: Tensor, others: Tensor, hit: Tensor, drawn: Tensor) -> Tensor:
    """The sum of cross-entropies, that of all items estimated from some.

    What a drawn item adds to the softmax's sum is divided by how often it is expected in the sample, so that the sum
    over the sample is on average that over all items but the target (Bengio and Senécal 2008, importance sampling).

    Args:
        target: ``(N,)`` scores of the items that came.
        others: ``(N, M)`` scores of the items drawn.
        hit: ``(N, M)`` where the item drawn is the one that came: it does not count.
        drawn: ``(M,)`` probability of each to be drawn.
    """
    expected = (len(drawn) * drawn).log().to(others.dtype)
    logits = torch.cat([target.unsqueeze(1), _mask_target(others - expected, hit)], dim=1)
    return (logits.logsumexp(1) - target).sum()


def bpr_max(target: Tensor, others: Tensor, hit: Tensor, penalty: float) -> Tensor:
    """The sum over rows of ``-log Σ_j s_j σ(r_i - r_j) + λ Σ_j s_j r_j²``, ``s`` the softmax of the others' scores.

    BPR-max with score regularisation of Hidasi and Karatzoglou 2018; arguments as of :func:`sampled_cross_entropy`.
    """
    log_share = _mask_target(others, hit).log_softmax(1)
    gain = (log_share + F.logsigmoid(target.unsqueeze(1) - others)).logsumexp(1)
    return -gain.sum() + penalty * (log_share.exp() * others.square()).sum()


def top1_max(target: Tensor, others: Tensor, hit: Tensor) -> Tensor:
    """The sum over rows of ``Σ_j s_j (σ(r_j - r_i) + σ(r_j²))``, ``s`` the softmax of the others' scores.

    TOP1-max of Hidasi and Karatzoglou 2018; arguments as of :func:`sampled_cross_entropy`.
    """
    share = _mask_target(others, hit).softmax(1)
    return (share * ((others - target.unsqueeze(1)).sigmoid() + others.square().sigmoid())).sum()


def _mask_target(scores: Tensor, hit: Tensor) -> Tensor:
    return scores.masked_fill(hit, torch.finfo(scores.dtype).min)
