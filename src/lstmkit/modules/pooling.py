"""From a sequence's steps to one vector: ``(B, T, P)`` and lengths to ``(B, P)``. Padding changes nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lstmkit.modules.attention import AdditiveAttention

POOLS = ("last", "mean", "max", "attention")


class LastPool(nn.Module):
    """What each direction has come to: forwards at the last step, backwards at the first.

    Args:
        directions: 1, or 2 where the second half of ``P`` is the reversed direction's.
    """

    def __init__(self, directions: int = 1) -> None:
        super().__init__()
        self.directions = directions

    def forward(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``(B, T, P) -> (B, P)``."""
        rows = torch.arange(len(steps), device=steps.device)
        last = steps[:, -1] if lengths is None else steps[rows, lengths.to(steps.device) - 1]
        if self.directions == 1:
            return last
        half = steps.shape[2] // 2
        return torch.cat([last[:, :half], steps[:, 0, half:]], dim=1)


class MeanPool(nn.Module):
    """The mean of the steps."""

    def forward(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``(B, T, P) -> (B, P)``."""
        inside = within(steps, lengths).unsqueeze(2)
        return steps.masked_fill(~inside, 0.0).sum(1) / inside.sum(1)


class MaxPool(nn.Module):
    """The largest value of each feature."""

    def forward(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``(B, T, P) -> (B, P)``."""
        return steps.masked_fill(~within(steps, lengths).unsqueeze(2), -torch.inf).amax(1)


class AttentionPool(nn.Module):
    """A mean whose weights a learnt query gives (additive attention: Bahdanau et al. 2015; as here Yang et al. 2016).

    Args:
        size: Width of the steps, ``P``.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.keys = nn.Linear(size, size)
        self.query = nn.Linear(size, 1, bias=False)

    def weights(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``(B, T, P) -> (B, T)``: 1 together, 0 past a sequence's end."""
        scores = self.query(torch.tanh(self.keys(steps)))[:, :, 0]
        return scores.masked_fill(~within(steps, lengths), -torch.inf).softmax(1)

    def forward(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``(B, T, P) -> (B, P)``."""
        weights = self.weights(steps, lengths).unsqueeze(1)
        # Past the end a weight is 0, but 0 times what is no number is not.
        return (weights @ steps.masked_fill(~within(steps, lengths).unsqueeze(2), 0.0))[:, 0]


class MultiHopPool(nn.Module):
    """The first step asks the others: attention over them, several times, each time with what was found before.

    The hops of Sukhbaatar et al. 2015, "End-To-End Memory Networks", with additive attention, and with a GRU that
    takes what was found into the question (Kumar et al. 2016, "Ask Me Anything", has one for its episodes).

    Args:
        size: Width of the steps, ``P``.
        hops: How often it asks.
    """

    def __init__(self, size: int, hops: int) -> None:
        super().__init__()
        self.output_size = 2 * size
        self.attentions = nn.ModuleList(AdditiveAttention(size, size, size) for _ in range(hops))
        self.update = nn.GRUCell(size, size)

    def asked(self, steps: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``(B, T, P) -> (B, 2 P)``, the question in the end and what it found; and weights ``(B, hops, T - 1)``."""
        question, memory = steps[:, 0], steps[:, 1:]
        found, mask, weights = torch.zeros_like(question), within(steps, lengths)[:, 1:], []
        for attention in self.attentions:
            contexts, looked_at = attention(question.unsqueeze(1), memory, mask)
            found, weights = contexts[:, 0], [*weights, looked_at]
            question = self.update(found, question)
        return torch.cat([question, found], 1), torch.cat(weights, 1)

    def forward(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``(B, T, P) -> (B, 2 P)``; where the first step is alone, what it finds is 0."""
        return self.asked(steps, lengths)[0]


def build_pool(kind: str, size: int, directions: int) -> nn.Module:
    """The pooling of that name in :data:`POOLS`, for steps of width ``size``."""
    made = {"last": lambda: LastPool(directions), "mean": MeanPool, "max": MaxPool}
    return AttentionPool(size) if kind == "attention" else made[kind]()


def within(steps: Tensor, lengths: Tensor | None) -> Tensor:
    """``(B, T)`` bool: which steps are a sequence's own."""
    if lengths is None:
        return steps.new_ones(steps.shape[:2], dtype=torch.bool)
    return torch.arange(steps.shape[1], device=steps.device) < lengths.to(steps.device)[:, None]
