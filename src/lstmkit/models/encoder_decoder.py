"""Encoder, attention, decoder: one sequence is read, another one written. Keeps the contract of ``model.py``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lstmkit.data.batch import Batch
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.models.base import Model, State, turned
from lstmkit.modules.attention import Attention
from lstmkit.modules.decoder_init import Bridge
from lstmkit.modules.dropout import variational_dropout
from lstmkit.modules.heads import TokenHead
from lstmkit.modules.pointer_generator import mixed, pointer_generator_loss


class Memory(NamedTuple):
    """What was read.

    Attributes:
        keys: ``(B, S, K)``.
        prepared: What the attention made of them.
        mask: ``(B, S)``, true where there is one.
        ids: ``(B, S)`` what was read, with copying.
    """

    keys: Tensor
    prepared: Tensor
    mask: Tensor
    ids: Tensor | None = None


class DecoderState(NamedTuple):
    """Where writing has come to. Every tensor has the batch first, so that a search can take rows of it.

    Attributes:
        memory: What was read.
        lower, upper: States of the recurrent layers below and above the attention, ``(B, L, size)``.
        fed: ``(B, P)`` the features of the step before, with input feeding.
        covered: ``(B, S)`` how much of the memory was attended to so far, with coverage.
        generated: ``(B,)`` with copying: how probable it was that the last step's token is not a copy, ``p_gen``.
        weights: ``(B, S)`` what the last step attended to.
    """

    memory: Memory
    lower: State
    upper: State
    fed: Tensor | None
    covered: Tensor | None
    generated: Tensor | None
    weights: Tensor


class Told(NamedTuple):
    """What the decoder tells of ``T`` steps.

    Attributes:
        features: ``(B, T, P)``, for the head.
        weights: ``(B, T, S)``, the attention.
        switch: ``(B, T)`` with copying: logits of ``p_gen``, the probability that the token is not a copy.
    """

    features: Tensor
    weights: Tensor
    switch: Tensor | None


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
        copying: Whether to say how probable it is that a token is a copy (See et al. 2017, equation 8), from what was
            found, the layers' state and their input.
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
        copying: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.lower, self.attention, self.upper = encoder, lower, attention, upper
        self.output_size, self.feeding = output_size, feeding
        self.lower_bridge = Bridge(key_size, lower)
        self.upper_bridge = None if upper is None else Bridge(key_size, upper)
        width = lower.output_size if upper is None else upper.output_size
        self.combine = nn.Linear(width + key_size, output_size)
        self.switch = nn.Linear(key_size + width + lower.input_size, 1) if copying else None

    @property
    def is_sequential(self) -> bool:
        """Whether a step needs what the step before found, so that there is one after the other."""
        return self.feeding or self.attention.coverage is not None

    def begin(self, keys: Tensor, mask: Tensor, ids: Tensor) -> DecoderState:
        """Before the first token: ``keys (B, S, K)``, ``mask (B, S)``, and what was read, ``ids (B, S)``."""
        unseen = keys.new_zeros(keys.shape[:2])
        return DecoderState(
            Memory(keys, self.attention.prepare(keys), mask, None if self.switch is None else ids),
            self.lower_bridge(keys, mask),
            None if self.upper_bridge is None else self.upper_bridge(keys, mask),
            keys.new_zeros(len(keys), self.output_size) if self.feeding else None,
            unseen if self.attention.coverage is not None else None,
            None if self.switch is None else keys.new_ones(len(keys)),
            unseen,
        )

    def forward(self, ids: Tensor, state: DecoderState) -> tuple[Told, DecoderState]:
        """What comes after each of ``ids (B, T)``, and the state after all.

        All steps in one call of each layer; one step at a time if the decoder :attr:`is_sequential`.
        """
        x = self.encoder(ids)
        if state.fed is not None:
            x = torch.cat([x, state.fed.unsqueeze(1)], -1)
        hidden, lower = self.lower(x, turned(state.lower))
        memory = Memory(*state.memory)
        covered = None if state.covered is None else state.covered.unsqueeze(1)
        contexts, weights = self.attention(hidden, memory.keys, memory.mask, memory.prepared, covered)
        upper = None
        if self.upper is not None:
            hidden, upper = self.upper(torch.cat([hidden, contexts], -1), turned(state.upper))
        features = torch.tanh(self.combine(torch.cat([hidden, contexts], -1)))
        switch = None if self.switch is None else self.switch(torch.cat([contexts, hidden, x], -1)).squeeze(-1)
        after = DecoderState(
            memory,
            turned(lower),
            turned(upper),
            None if state.fed is None else features[:, -1],
            None if state.covered is None else state.covered + weights[:, -1],
            None if switch is None else switch[:, -1].sigmoid(),
            weights[:, -1],
        )
        return Told(features, weights, switch), after


class EncoderDecoder(Model):
    """Reads one sequence, writes another one.

    ``forward`` reads, ``step`` writes a token more, ``loss`` does both. Where no step needs what the one before found,
    the loss takes all steps of the target at once.

    If the decoder copies, inputs are ids; those from the vocabulary's ``V`` on are words that it does not have, which
    each example numbers by itself (``parts/copying.py``). So do its targets, and ``V + S`` ids are told.

    Args:
        encoder: Inputs to ``(B, S, F)``; one that ``reads_lengths`` gets these too, and gives how many there are.
        trunk: The recurrent layer that reads them, batch first; ``None`` where they are attended to as they are.
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
        trunk: RecurrentLayer | None,
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
        """Read: what is attended to, ``(B, S, K)``, and the state in which writing begins.

        With that state, write: ids ``(B, T)`` to the logits of what comes after each, ``(B, T, V)``.
        """
        if state is not None:
            told, after = self.decoder(inputs, DecoderState(*state))
            return self._outputs(told, after), after
        if getattr(self.encoder, "reads_lengths", False):
            features, lengths = self.encoder(inputs, lengths)
        else:
            features = self.encoder(inputs)
        if self.trunk is not None:
            features, _ = self.trunk(features, None, lengths)
        features = variational_dropout(features, self.dropout, self.training)
        steps = torch.arange(features.shape[1], device=features.device)
        ends = torch.full((len(features),), len(steps), device=features.device) if lengths is None else lengths
        mask = steps < ends.unsqueeze(1)
        return features, self.decoder.begin(features, mask, inputs)

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Write: ``(B,) -> (B, V)`` logits of the token after ``inputs``, and the state; of a copy ``(B, V + S)``."""
        assert state is not None
        told, after = self.decoder(inputs.unsqueeze(1), DecoderState(*state))
        return self._outputs(told, after)[:, 0], after

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """Mean cross-entropy of ``batch.targets (B, T)``, -1 not scored, each told the tokens before it."""
        assert batch.targets is not None
        _, begun = self(batch.inputs, None, batch.lengths)
        before = torch.cat([batch.targets.new_full((len(batch), 1), self.begin), batch.targets[:, :-1]], 1).clamp(min=0)
        share = self._sampling_probability()
        if share or self.decoder.is_sequential:
            told, repeated = self._decode_stepwise(before, begun, batch.targets >= 0, share)
        else:
            told, repeated = self.decoder(before, begun)[0], None
        told = told._replace(features=variational_dropout(told.features, self.dropout, self.training))
        loss = self._loss(told, begun.memory.ids, batch.targets)
        return (loss if repeated is None else loss + self.coverage * repeated), None

    def _outputs(self, told: Told, state: DecoderState) -> Tensor:
        """``(B, T, V)`` logits, with copying ``(B, T, V + S)``."""
        logits, ids = self.head(told.features), state.memory.ids
        if told.switch is None or ids is None:
            return logits
        return mixed(logits, told.switch, told.weights, ids.unsqueeze(1).expand_as(told.weights))

    def _loss(self, told: Told, ids: Tensor | None, targets: Tensor) -> Tensor:
        if told.switch is None or ids is None:
            return self.head.loss(told.features, targets)
        kept = targets >= 0
        ids = ids.unsqueeze(1).expand_as(told.weights)
        logits = self.head(told.features[kept])
        smoothing = self.head.smoothing
        return pointer_generator_loss(
            logits, told.switch[kept], told.weights[kept], ids[kept], targets[kept], smoothing
        )

    def _sampling_probability(self) -> float:
        """Of this batch, which is counted."""
        if not self.training or not self.sampling:
            return 0.0
        done = int(self.batches)
        self.batches += 1
        return self.sampling * (min(1.0, done / self.rise) if self.rise else 1.0)

    def _decode_stepwise(
        self, ids: Tensor, state: DecoderState, scored: Tensor, share: float
    ) -> tuple[Told, Tensor | None]:
        """What is told step by step, and with coverage the mean of See et al.'s penalty."""
        found: list[Told] = []
        repeated = state.weights.new_zeros(()) if state.covered is not None else None
        for t in range(ids.shape[1]):
            now = ids[:, t]
            if t and share:
                with torch.no_grad():
                    own = self._outputs(found[-1], state)[:, 0].argmax(-1)
                now = torch.where(torch.rand(len(ids), device=ids.device) < share, own, now)
            covered = state.covered
            told, state = self.decoder(now.unsqueeze(1), state)
            found.append(told)
            if covered is not None and repeated is not None:
                repeated = repeated + (torch.minimum(told.weights[:, 0], covered).sum(-1) * scored[:, t]).sum()
        if repeated is not None:
            repeated = repeated / scored.sum().clamp(min=1)
        return _side_by_side(found), repeated


def _side_by_side(steps: list[Told]) -> Told:
    """What was told in steps of one, as of all."""
    switches = [told.switch for told in steps if told.switch is not None]
    features, weights = (torch.cat(parts, 1) for parts in zip(*(told[:2] for told in steps), strict=True))
    return Told(features, weights, torch.cat(switches, 1) if switches else None)


def attended(state: State) -> Tensor:
    """``(B, S)``: what the last step attended to; of an ensemble's members their mean."""
    return torch.stack([writing.weights for writing in _decoder_states(state)]).mean(0)


def generated(state: State) -> Tensor | None:
    """``(B,)``: how probable it was that the last step did not copy; ``None`` where nothing is copied."""
    found = [writing.generated for writing in _decoder_states(state) if writing.generated is not None]
    return torch.stack(found).mean(0) if found else None


def _decoder_states(state: State) -> list[DecoderState]:
    """The state itself, or those of an ensemble's members."""
    if isinstance(state[-1], Tensor):
        return [DecoderState(*state)]
    return [writing for member in state for writing in _decoder_states(member)]
