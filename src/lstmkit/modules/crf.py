"""Tags that hang on each other: a linear-chain conditional random field over a network's scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CRF(nn.Module):
    """Which tag follows which (Lafferty, McCallum and Pereira 2001; over an LSTM: Huang, Xu and Yu 2015).

    Tags y have the score ``first[y_1] + Σ_t emissions[t, y_t] + Σ_t transitions[y_{t-1}, y_t] + last[y_T]``;
    its probability is the softmax of that over all sequences.

    Args:
        tags: How many there are, ``K``.

    >>> crf = CRF(3)
    >>> crf.decode(torch.zeros(1, 4, 3), torch.tensor([2]))[0].shape
    torch.Size([2])
    """

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(tags, tags))
        self.first, self.last = nn.Parameter(torch.zeros(tags)), nn.Parameter(torch.zeros(tags))

    def log_partition(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """``(B,)``: the logarithm of the sum over all sequences of ``exp(score)``; ``emissions (B, T, K)``."""
        score = self.first + emissions[:, 0]
        for t in range(1, emissions.shape[1]):
            longer = torch.logsumexp(score.unsqueeze(2) + self.transitions, dim=1) + emissions[:, t]
            score = torch.where((t < lengths).unsqueeze(1), longer, score)
        return torch.logsumexp(score + self.last, dim=1)

    def score(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """``(B,)``: the score of ``tags (B, T)``."""
        steps = torch.arange(tags.shape[1], device=tags.device)
        inside = steps < lengths.unsqueeze(1)
        tags = tags.clamp(min=0)
        told = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)
        moves = self.transitions[tags[:, :-1], tags[:, 1:]]
        ends = tags.gather(1, (lengths - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
        return (told * inside).sum(1) + (moves * inside[:, 1:]).sum(1) + self.first[tags[:, 0]] + self.last[ends]

    def loss(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Negative log-likelihood of the sequences, a step of them: as cross-entropy counts."""
        nats = self.log_partition(emissions, lengths) - self.score(emissions, tags, lengths)
        return nats.sum() / lengths.sum().clamp(min=1)

    @torch.no_grad()
    def decode(self, emissions: Tensor, lengths: Tensor) -> list[Tensor]:
        """The most probable tags of each sequence, ``(T_b,)`` (Viterbi 1967)."""
        score, back = self.first + emissions[:, 0], []
        for t in range(1, emissions.shape[1]):
            longer, whence = (score.unsqueeze(2) + self.transitions).max(dim=1)
            going = (t < lengths).unsqueeze(1)
            score = torch.where(going, longer + emissions[:, t], score)
            stay = torch.arange(score.shape[1], device=score.device).expand_as(whence)
            back.append(torch.where(going, whence, stay))
        tag = (score + self.last).argmax(1)
        found = [tag]
        for whence in reversed(back):
            tag = whence.gather(1, tag.unsqueeze(1)).squeeze(1)
            found.append(tag)
        best = torch.stack(found[::-1], 1)
        return [row[:n] for row, n in zip(best, lengths.tolist(), strict=True)]

    def marginals(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """``(B, T, K)``: the probability of each tag at each step; 0 past a sequence's end.

        The gradient of the partition's logarithm by the emissions is just that.
        """
        with torch.inference_mode(False), torch.enable_grad():
            leaf = emissions.detach().clone().requires_grad_(True)
            (found,) = torch.autograd.grad(self.log_partition(leaf, lengths).sum(), leaf)
        return found
