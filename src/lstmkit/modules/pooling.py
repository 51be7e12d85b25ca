"""Pooling of a sequence's steps ``(B, T, P)`` to one vector ``(B, P)``, independent of padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lstmkit.modules.attention import AdditiveAttention

POOLS = ("last", "mean", "max", "attention")


class LastPool(nn.Module):
    """The final output of each direction: the last step forwards, the first step backwards.

    Args:
        directions: 1, or 2 if the second half of ``P`` is the reversed direction.
    """

    def __init__(self, directions: int = 1) -> None:
        super().__init__()
        self.directions = directions

    def forward(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``(B, T, P) -> (B, P)``."""
        rows = torch.arange(steps.shape[0], device=steps.device)
        last = steps[:, -1] if lengths is None else steps[rows, lengths.to(steps.device) - 1]
        if self.directions == 1:
            return last
        half = steps.shape[2] // 2
        return torch.cat([last[:, :half], steps[:, 0, half:]], dim=1)


class MeanPool(nn.Module):
    """The mean over the steps."""

    def forward(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``(B, T, P) -> (B, P)``."""
        mask = length_mask(steps, lengths).unsqueeze(2)
        return steps.masked_fill(~mask, 0.0).sum(1) / mask.sum(1)


class MaxPool(nn.Module):
    """The maximum of each feature over the steps."""

    def forward(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``(B, T, P) -> (B, P)``."""
        return steps.masked_fill(~length_mask(steps, lengths).unsqueeze(2), -torch.inf).amax(1)


class AttentionPool(nn.Module):
    """Attention pooling with a learned query (Bahdanau et al. 2015; for pooling Yang et al. 2016).

    Args:
        size: Width of the steps, ``P``.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.keys = nn.Linear(size, size)
        self.query = nn.Linear(size, 1, bias=False)

    def weights(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Attention weights ``(B, T)`` of steps ``(B, T, P)``; they sum to 1 and are 0 past a sequence's end."""
        scores = self.query(torch.tanh(self.keys(steps)))[:, :, 0]
        return scores.masked_fill(~length_mask(steps, lengths), -torch.inf).softmax(1)

    def forward(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``(B, T, P) -> (B, P)``."""
        weights = self.weights(steps, lengths).unsqueeze(1)
        # Past the end a weight is 0, but 0 times NaN or infinity is not.
        return (weights @ steps.masked_fill(~length_mask(steps, lengths).unsqueeze(2), 0.0))[:, 0]


class MultiHopPool(nn.Module):
    """Multi-hop attention of the first step, the question, over the other steps.

    The hops of Sukhbaatar et al. 2015, "End-To-End Memory Networks", with additive attention. A GRU updates the
    question with the context of each hop, as in Kumar et al. 2016, "Ask Me Anything".

    Args:
        size: Width of the steps, ``P``.
        hops: Number of hops.
    """

    def __init__(self, size: int, hops: int) -> None:
        super().__init__()
        self.output_size = 2 * size
        self.attentions = nn.ModuleList(AdditiveAttention(size, size, size) for _ in range(hops))
        self.update = nn.GRUCell(size, size)

    def attend(self, steps: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Steps ``(B, T, P)`` to final question and context ``(B, 2 P)``, and weights ``(B, hops, T - 1)``."""
        question, memory = steps[:, 0], steps[:, 1:]
        context, mask, weights = torch.zeros_like(question), length_mask(steps, lengths)[:, 1:], []
        for attention in self.attentions:
            contexts, hop_weights = attention(question.unsqueeze(1), memory, mask)
            context, weights = contexts[:, 0], [*weights, hop_weights]
            question = self.update(context, question)
        return torch.cat([question, context], 1), torch.cat(weights, 1)

    def forward(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Steps ``(B, T, P)`` to ``(B, 2 P)``; the context is 0 if there is only the first step."""
        return self.attend(steps, lengths)[0]


def build_pool(kind: str, size: int, directions: int) -> nn.Module:
    """Build a pooling by name.

    Args:
        kind: One of :data:`POOLS`.
        size: Width of the steps, ``P``.
        directions: Directions of the recurrent layer, 1 or 2.

    >>> build_pool("mean", 4, 1)(torch.zeros(2, 7, 4)).shape
    torch.Size([2, 4])
    """
    builders = {"last": lambda: LastPool(directions), "mean": MeanPool, "max": MaxPool}
    return AttentionPool(size) if kind == "attention" else builders[kind]()


def length_mask(steps: Tensor, lengths: Tensor | None) -> Tensor:
    """The mask ``(B, T)`` of valid steps: true up to each sequence's length."""
    if lengths is None:
        return steps.new_ones(steps.shape[:2], dtype=torch.bool)
    return torch.arange(steps.shape[1], device=steps.device) < lengths.to(steps.device)[:, None]
