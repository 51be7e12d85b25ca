"""Linear-chain conditional random field (CRF)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CRF(nn.Module):
    """A linear-chain CRF over emission scores (Lafferty, McCallum and Pereira 2001; on an LSTM: Huang, Xu and Yu 2015).

    The score of tags y is ``first[y_1] + Σ_t emissions[t, y_t] + Σ_t transitions[y_{t-1}, y_t] + last[y_T]``.
    Their probability is the softmax of the score over all tag sequences.

    Args:
        tags: Number of tags, ``K``.

    >>> crf = CRF(3)
    >>> crf.decode(torch.zeros(1, 4, 3), torch.tensor([2]))[0].shape
    torch.Size([2])
    """

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(tags, tags))
        self.first, self.last = nn.Parameter(torch.zeros(tags)), nn.Parameter(torch.zeros(tags))

    def log_partition(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Log-partition function ``(B,)``: ``log Σ exp(score)`` over all sequences, of ``emissions (B, T, K)``."""
        score = self.first + emissions[:, 0]
        for t in range(1, emissions.shape[1]):
            extended = torch.logsumexp(score.unsqueeze(2) + self.transitions, dim=1) + emissions[:, t]
            score = torch.where((t < lengths).unsqueeze(1), extended, score)
        return torch.logsumexp(score + self.last, dim=1)

    def score(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Scores ``(B,)`` of ``tags (B, T)``."""
        steps = torch.arange(tags.shape[1], device=tags.device)
        mask = steps < lengths.unsqueeze(1)
        tags = tags.clamp(min=0)
        emitted = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)
        transitions = self.transitions[tags[:, :-1], tags[:, 1:]]
        last_tags = tags.gather(1, (lengths - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
        boundary = self.first[tags[:, 0]] + self.last[last_tags]
        return (emitted * mask).sum(1) + (transitions * mask[:, 1:]).sum(1) + boundary

    def loss(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Negative log-likelihood of the sequences in nats per step."""
        nats = self.log_partition(emissions, lengths) - self.score(emissions, tags, lengths)
        return nats.sum() / lengths.sum().clamp(min=1)

    @torch.no_grad()
    def decode(self, emissions: Tensor, lengths: Tensor) -> list[Tensor]:
        """The most probable tags of each sequence, ``(T_b,)`` (Viterbi 1967)."""
        score, back = self.first + emissions[:, 0], []
        for t in range(1, emissions.shape[1]):
            extended, previous = (score.unsqueeze(2) + self.transitions).max(dim=1)
            active = (t < lengths).unsqueeze(1)
            score = torch.where(active, extended + emissions[:, t], score)
            same = torch.arange(score.shape[1], device=score.device).expand_as(previous)
            back.append(torch.where(active, previous, same))
        tag = (score + self.last).argmax(1)
        path = [tag]
        for previous in reversed(back):
            tag = previous.gather(1, tag.unsqueeze(1)).squeeze(1)
            path.append(tag)
        best = torch.stack(path[::-1], 1)
        return [row[:n] for row, n in zip(best, lengths.tolist(), strict=True)]

    def marginals(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Marginal probability of each tag at each step, ``(B, T, K)``; 0 past a sequence's end.

        It equals the gradient of the log-partition function with respect to the emissions.
        """
        with torch.inference_mode(False), torch.enable_grad():
            leaf = emissions.detach().clone().requires_grad_(True)
            (marginals,) = torch.autograd.grad(self.log_partition(leaf, lengths).sum(), leaf)
        return marginals
