"""Encoder, attention, decoder: one sequence is read, another one written. Keeps the contract of ``model.py``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lstmkit.data.batch import Batch
from lstmkit.model import Model, State, map_state
from lstmkit.parts.attention import Attention
from lstmkit.parts.bridge import Bridge
from lstmkit.parts.dropout import variational_dropout
from lstmkit.parts.heads import TokenHead
from lstmkit.recurrent import RecurrentLayer


class Memory(NamedTuple):
    """What was read.

    Attributes:
        keys: ``(B, S, K)``.
        prepared: What the attention made of them.
        mask: ``(B, S)``, true where there is one.
    """

    keys: Tensor
    prepared: Tensor
    mask: Tensor


class Writing(NamedTuple):
    """Where writing has come to. Every tensor has the batch first, so that a search can take rows of it.

    Attributes:
        memory: What was read.
        lower, upper: States of the recurrent layers below and above the attention, ``(B, L, size)``.
        fed: ``(B, P)`` the features of the step before, with input feeding.
        covered: ``(B, S)`` how much of the memory was attended to so far, with coverage.
        weights: ``(B, S)`` what the last step attended to.
    """

    memory: Memory
    lower: State
    upper: State
    fed: Tensor | None
    covered: Tensor | None
    weights: Tensor


class Decoder(nn.Module):
    """Tokens so far, and a memory to attend to, to features of the token that comes next.

    The layer below the attention asks; the one above it, if there is one, reads what was asked and found (as the
    layers of Wu et al. 2016 do). Then comes Luong's ``tanh(W [h, context])``.

    Args:
        encoder: Ids ``(B, T)`` to ``(B, T, E)``.
        lower: Recurrent layer, batch first, of ``E`` features; with input feeding of ``E + P``.
        attention: Of queries of the lower layer's width.
        upper: Recurrent layer of the lower's width and a context's; ``None`` for none.
        key_size: Width of the memory, ``K``.
        output_size: Width of the features, ``P``.
        feeding: Whether the features are an input of the next step (input feeding, Luong et al. 2015).
    """

    def __init__(
        self,
        encoder: nn.Module,
        lower: RecurrentLayer,
        attention: Attention,
        upper: RecurrentLayer | None,
        key_size: int,
        output_size: int,
        feeding: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.lower, self.attention, self.upper = encoder, lower, attention, upper
        self.output_size, self.feeding = output_size, feeding
        self.lower_bridge = Bridge(key_size, lower)
        self.upper_bridge = None if upper is None else Bridge(key_size, upper)
        width = lower.output_size if upper is None else upper.output_size
        self.combine = nn.Linear(width + key_size, output_size)

    @property
    def looks_back(self) -> bool:
        """Whether a step needs what the step before found, so that there is one after the other."""
        return self.feeding or self.attention.coverage is not None

    def begin(self, keys: Tensor, mask: Tensor) -> Writing:
        """Before the first token: ``keys (B, S, K)``, ``mask (B, S)``."""
        unseen = keys.new_zeros(keys.shape[:2])
        return Writing(
            Memory(keys, self.attention.prepare(keys), mask),
            self.lower_bridge(keys, mask),
            None if self.upper_bridge is None else self.upper_bridge(keys, mask),
            keys.new_zeros(len(keys), self.output_size) if self.feeding else None,
            unseen if self.attention.coverage is not None else None,
            unseen,
        )

    def forward(self, ids: Tensor, state: Writing) -> tuple[Tensor, Tensor, Writing]:
        """Features ``(B, T, P)``, attention ``(B, T, S)`` and state after ``ids (B, T)``.

        All steps in one call of each layer; one step at a time if the decoder :attr:`looks_back`.
        """
        x = self.encoder(ids)
        if state.fed is not None:
            x = torch.cat([x, state.fed.unsqueeze(1)], -1)
        hidden, lower = self.lower(x, _turned(state.lower))
        memory = Memory(*state.memory)
        covered = None if state.covered is None else state.covered.unsqueeze(1)
        contexts, weights = self.attention(hidden, memory.keys, memory.mask, memory.prepared, covered)
        upper = None
        if self.upper is not None:
            hidden, upper = self.upper(torch.cat([hidden, contexts], -1), _turned(state.upper))
        features = torch.tanh(self.combine(torch.cat([hidden, contexts], -1)))
        after = Writing(
            memory,
            _turned(lower),
            _turned(upper),
            None if state.fed is None else features[:, -1],
            None if state.covered is None else state.covered + weights[:, -1],
            weights[:, -1],
        )
        return features, weights, after


class EncoderDecoder(Model):
    """Reads one sequence, writes another one.

    ``forward`` reads, ``step`` writes a token more, ``loss`` does both. Where no step needs what the one before found,
    the loss takes all steps of the target at once.

    Args:
        encoder: Inputs to ``(B, S, F)``.
        trunk: The recurrent layer that reads them, batch first.
        decoder: What writes.
        head: Features to logits, with ``loss(features, targets)``.
        begin: The token that stands before the first one.
        dropout: In training, the share of features hidden before attention and head, the same at all steps.
        coverage: Weight of See et al.'s (2017) penalty on attending again to what was attended to.
        sampling: Scheduled sampling (Bengio et al. 2015): in training, the share of tokens that are not the target's
            but what the model would have written.
        rise: Batches over which that share rises from 0, evenly.
    """

    batches: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        trunk: RecurrentLayer,
        decoder: Decoder,
        head: TokenHead,
        begin: int,
        dropout: float = 0.0,
        coverage: float = 0.0,
        sampling: float = 0.0,
        rise: int = 0,
    ) -> None:
        super().__init__()
        self.encoder, self.trunk, self.decoder, self.head = encoder, trunk, decoder, head
        self.begin, self.dropout, self.coverage, self.sampling, self.rise = begin, dropout, coverage, sampling, rise
        if sampling:
            self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Read: what is attended to, ``(B, S, K)``, and the state in which writing begins."""
        features, _ = self.trunk(self.encoder(inputs), None, lengths)
        features = variational_dropout(features, self.dropout, self.training)
        steps = torch.arange(features.shape[1], device=features.device)
        ends = torch.full((len(features),), len(steps), device=features.device) if lengths is None else lengths
        mask = steps < ends.unsqueeze(1)
        return features, self.decoder.begin(features, mask)

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Write: ``(B,) -> (B, V)`` logits of the token after ``inputs``, and the state."""
        assert state is not None
        features, _, state = self.decoder(inputs.unsqueeze(1), Writing(*state))
        return self.head(features)[:, 0], state

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """Mean cross-entropy of ``batch.targets (B, T)``, -1 not scored, each told the tokens before it."""
        assert batch.targets is not None
        _, begun = self(batch.inputs, None, batch.lengths)
        before = torch.cat([batch.targets.new_full((len(batch), 1), self.begin), batch.targets[:, :-1]], 1).clamp(min=0)
        share = self._share_sampled()
        if share or self.decoder.looks_back:
            features, repeated = self._one_by_one(before, begun, batch.targets >= 0, share)
        else:
            features, repeated = self.decoder(before, begun)[0], None
        loss = self.head.loss(variational_dropout(features, self.dropout, self.training), batch.targets)
        return (loss if repeated is None else loss + self.coverage * repeated), None

    def _share_sampled(self) -> float:
        """Of this batch, which is counted."""
        if not self.training or not self.sampling:
            return 0.0
        done = int(self.batches)
        self.batches += 1
        return self.sampling * (min(1.0, done / self.rise) if self.rise else 1.0)

    def _one_by_one(self, ids: Tensor, state: Writing, scored: Tensor, share: float) -> tuple[Tensor, Tensor | None]:
        """Features ``(B, T, P)`` step by step, and with coverage the mean of See et al.'s penalty."""
        found: list[Tensor] = []
        repeated = state.weights.new_zeros(()) if state.covered is not None else None
        for t in range(ids.shape[1]):
            now = ids[:, t]
            if t and share:
                own = self.head(found[-1].detach())[:, 0].argmax(-1)
                now = torch.where(torch.rand(len(ids), device=ids.device) < share, own, now)
            covered = state.covered
            features, weights, state = self.decoder(now.unsqueeze(1), state)
            found.append(features)
            if covered is not None and repeated is not None:
                repeated = repeated + (torch.minimum(weights[:, 0], covered).sum(-1) * scored[:, t]).sum()
        if repeated is not None:
            repeated = repeated / scored.sum().clamp(min=1)
        return torch.cat(found, 1), repeated


def _turned(state: State) -> State:
    """A layer's state with the batch first, or such a state as the layer has it."""
    return map_state(state, lambda t: t.transpose(0, 1))


def attended(state: State) -> Tensor:
    """``(B, S)``: what the last step attended to; of an ensemble's members their mean."""
    last = state[-1]
    return last if isinstance(last, Tensor) else torch.stack([attended(member) for member in state]).mean(0)
