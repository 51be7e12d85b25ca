"""Music composition end to end, compared with plain torch.nn: same weights, same outputs, steps per second.

A training step is forward, loss, backward, gradient clipping and AdamW. A generation step samples every key from the
same noise. The peer of NADE follows the paper: it samples one key after another, and computes the hidden states of all
keys at once in training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from end_to_end import AS_TRAINED, main, row, stepper
from lstmkit import LSTM
from lstmkit.data.batch import Batch
from lstmkit.data.music.midi import N_KEYS
from lstmkit.decoding.generation import sample_labels
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.encoders import PatchEncoder
from lstmkit.modules.heads import MultilabelHead, NADEHead
from lstmkit.training.optimization import optimizer_for
from timing import in_turns

GENERATED_STEPS = 32  # per repetition
SOUNDING_KEYS = 4  # per step, on average


@dataclass(frozen=True)
class Case:
    """A model and its batch."""

    name: str
    distribution: str
    embedding_size: int
    hidden: int
    nade_hidden_size: int
    batch: int
    window: int


CASES = (
    Case("chorales, NADE", "nade", 100, 200, 100, 16, 60),
    Case("chorales, independent keys", "independent", 100, 200, 0, 16, 60),
    Case("MuseData, NADE", "nade", 100, 300, 100, 16, 200),
)


class Peer(nn.Module):
    """The peer: the usual model in plain torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.embed = nn.Linear(N_KEYS, case.embedding_size)
        self.lstm = nn.LSTM(case.embedding_size, case.hidden, batch_first=True)
        self.linear = nn.Linear(case.hidden, N_KEYS + case.nade_hidden_size)
        self.w = nn.Parameter(0.1 * torch.randn(N_KEYS, case.nade_hidden_size))  # W of the paper
        self.v = nn.Parameter(
            torch.randn(N_KEYS, case.nade_hidden_size) / math.sqrt(case.nade_hidden_size or 1)
        )  # V of the paper
        nn.init.constant_(self.linear.bias[:N_KEYS], math.log(SOUNDING_KEYS / (N_KEYS - SOUNDING_KEYS)))

    def forward(self, rolls: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        features, state = self.lstm(self.embed(rolls), state)
        return self.linear(features), state

    def logits(self, outputs: Tensor, keys: Tensor) -> Tensor:
        """Logits of all keys at once, by a cumulative sum over the keys from the highest down."""
        if not self.w.shape[1]:
            return outputs
        bias, first = outputs[..., :N_KEYS], outputs[..., N_KEYS:]
        each = keys.unsqueeze(-1) * self.w
        above = each.flip(-2).cumsum(-2).flip(-2) - each
        return bias + ((first.unsqueeze(-2) + above).sigmoid() * self.v).sum(-1)

    def sample(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """Sample one key after another."""
        if not self.w.shape[1]:
            return (noise < outputs.sigmoid()).to(noise.dtype)
        state, keys = outputs[:, N_KEYS:], torch.zeros_like(noise)
        for k in reversed(range(N_KEYS)):
            probability = (outputs[:, k] + state.sigmoid() @ self.v[k]).sigmoid()
            keys[:, k] = (noise[:, k] < probability).to(noise.dtype)
            state = state + keys[:, k : k + 1] * self.w[k]
        return keys


def lstmkit_model(case: Case, peer: Peer) -> SequenceModel:
    """The model of lstmkit with the weights of the peer."""
    trunk = LSTM(case.embedding_size, case.hidden, batch_first=True)
    trunk.load_state_dict(peer.lstm.state_dict())
    head = (
        NADEHead(case.hidden, N_KEYS, case.nade_hidden_size)
        if case.nade_hidden_size
        else MultilabelHead(case.hidden, N_KEYS)
    )
    model = SequenceModel(PatchEncoder(N_KEYS, 1, case.embedding_size), trunk, head)
    model.encoder.linear.load_state_dict(peer.embed.state_dict())
    head.linear.load_state_dict(peer.linear.state_dict())
    if case.nade_hidden_size:
        with torch.no_grad():
            head.label_embedding.weight[1:] = peer.w
            head.output_layer.weight.copy_(peer.v)
    return model


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """One row for training, one for generation."""
    torch.manual_seed(0)
    peer = Peer(case)
    model = lstmkit_model(case, peer)
    rolls = (torch.rand(case.batch, case.window + 1, N_KEYS) < SOUNDING_KEYS / N_KEYS).float()
    batch = Batch(rolls[:, :-1], targets=rolls[:, 1:])

    def peer_loss() -> Tensor:
        outputs, _ = peer(rolls[:, :-1])
        logits = peer.logits(outputs, rolls[:, 1:])
        return F.binary_cross_entropy_with_logits(logits, rolls[:, 1:], reduction="none").sum(-1).mean()

    steppers = (
        stepper(model, optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(peer, torch.optim.AdamW(peer.parameters(), lr=AS_TRAINED.lr), peer_loss),
    )
    for _ in range(3):  # the losses of three steps depend on all gradients
        torch.testing.assert_close(*(step() for step in steppers), rtol=1e-4, atol=1e-4)
    training = row(case, "training", case.batch * case.window, in_turns(steppers, seconds))

    model.load_state_dict(lstmkit_model(case, peer).state_dict())
    head, noise = model.eval().head, torch.rand(GENERATED_STEPS, 1, N_KEYS)
    generators = (
        generator(
            model.step,
            lambda outputs, u: sample_labels(
                lambda keys: head.below(outputs, keys), u, autoregressive=head.autoregressive
            ),
            noise,
        ),
        generator(lambda keys, state: one_step(peer, keys, state), peer.sample, noise),
    )
    assert torch.equal(*(generate() for generate in generators))
    return [training, row(case, "generation", GENERATED_STEPS, in_turns(generators, seconds))]


def one_step(peer: Peer, keys: Tensor, state: Any) -> tuple[Tensor, Any]:
    outputs, state = peer(keys.unsqueeze(1), state)
    return outputs[:, 0], state


def generator(step: Any, sample: Any, noise: Tensor) -> Any:
    """A function that generates one piece, step by step."""

    @torch.inference_mode()
    def generate() -> Tensor:
        keys, state, piece = torch.zeros(1, N_KEYS), None, []
        for u in noise:
            outputs, state = step(keys, state)
            keys = sample(outputs, u)
            piece.append(keys)
        return torch.stack(piece)

    return generate


if __name__ == "__main__":
    main(__doc__, CASES, measure, "music_composer", "steps")
