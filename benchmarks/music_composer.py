"""Models of piano rolls end to end beside plain ones of torch.nn: the same weights, the same numbers, steps a second.

A training step is all of it: forward, loss, backward, clipping, AdamW. A composing step draws every key from the same
noise. The peer of NADE is written as its paper has it: one key after another in drawing, all keys' states in training.
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
from lstmkit.training.train import optimizer_for
from timing import in_turns

COMPOSED = 32  # steps of a turn
SOUNDING = 4  # keys a step


@dataclass(frozen=True)
class Case:
    """A model and its batch."""

    name: str
    output: str
    embed: int
    hidden: int
    nade: int
    batch: int
    window: int


CASES = (
    Case("chorales, keys given those above", "nade", 100, 200, 100, 16, 60),
    Case("chorales, independent keys", "independent", 100, 200, 0, 16, 60),
    Case("MuseData, keys given those above", "nade", 100, 300, 100, 16, 200),
)


class Plain(nn.Module):
    """As one writes it with torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.embed = nn.Linear(N_KEYS, case.embed)
        self.lstm = nn.LSTM(case.embed, case.hidden, batch_first=True)
        self.linear = nn.Linear(case.hidden, N_KEYS + case.nade)
        self.given = nn.Parameter(0.1 * torch.randn(N_KEYS, case.nade))  # W
        self.told = nn.Parameter(torch.randn(N_KEYS, case.nade) / math.sqrt(case.nade or 1))  # V
        nn.init.constant_(self.linear.bias[:N_KEYS], math.log(SOUNDING / (N_KEYS - SOUNDING)))

    def forward(self, rolls: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        features, state = self.lstm(self.embed(rolls), state)
        return self.linear(features), state

    def logits(self, outputs: Tensor, keys: Tensor) -> Tensor:
        """All states at once: a cumulative sum over the keys, from the top down."""
        if not self.given.shape[1]:
            return outputs
        bias, first = outputs[..., :N_KEYS], outputs[..., N_KEYS:]
        each = keys.unsqueeze(-1) * self.given
        above = each.flip(-2).cumsum(-2).flip(-2) - each
        return bias + ((first.unsqueeze(-2) + above).sigmoid() * self.told).sum(-1)

    def draw(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """One key after another."""
        if not self.given.shape[1]:
            return (noise < outputs.sigmoid()).to(noise.dtype)
        state, keys = outputs[:, N_KEYS:], torch.zeros_like(noise)
        for k in reversed(range(N_KEYS)):
            chance = (outputs[:, k] + state.sigmoid() @ self.told[k]).sigmoid()
            keys[:, k] = (noise[:, k] < chance).to(noise.dtype)
            state = state + keys[:, k : k + 1] * self.given[k]
        return keys


def ours(case: Case, plain: Plain) -> SequenceModel:
    """Our model, with the peer's weights."""
    trunk = LSTM(case.embed, case.hidden, batch_first=True)
    trunk.load_state_dict(plain.lstm.state_dict())
    head = NADEHead(case.hidden, N_KEYS, case.nade) if case.nade else MultilabelHead(case.hidden, N_KEYS)
    model = SequenceModel(PatchEncoder(N_KEYS, 1, case.embed), trunk, head)
    model.encoder.linear.load_state_dict(plain.embed.state_dict())
    head.linear.load_state_dict(plain.linear.state_dict())
    if case.nade:
        with torch.no_grad():
            head.given.weight[1:] = plain.given
            head.told.weight.copy_(plain.told)
    return model


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """A row for training, and one for composing."""
    torch.manual_seed(0)
    plain = Plain(case)
    model = ours(case, plain)
    rolls = (torch.rand(case.batch, case.window + 1, N_KEYS) < SOUNDING / N_KEYS).float()
    batch = Batch(rolls[:, :-1], targets=rolls[:, 1:])

    def plain_loss() -> Tensor:
        outputs, _ = plain(rolls[:, :-1])
        logits = plain.logits(outputs, rolls[:, 1:])
        return F.binary_cross_entropy_with_logits(logits, rolls[:, 1:], reduction="none").sum(-1).mean()

    both = (
        stepper(model, optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(plain, torch.optim.AdamW(plain.parameters(), lr=AS_TRAINED.lr), plain_loss),
    )
    for _ in range(3):  # the losses of three steps hang on all gradients
        torch.testing.assert_close(*(step() for step in both), rtol=1e-4, atol=1e-4)
    training = row(case, "training", case.batch * case.window, in_turns(both, seconds))

    model.load_state_dict(ours(case, plain).state_dict())
    head, noise = model.eval().head, torch.rand(COMPOSED, 1, N_KEYS)
    composers = (
        composer(
            model.step,
            lambda told, u: sample_labels(lambda keys: head.below(told, keys), u, autoregressive=head.autoregressive),
            noise,
        ),
        composer(lambda keys, state: one_step(plain, keys, state), plain.draw, noise),
    )
    assert torch.equal(*(compose() for compose in composers))
    return [training, row(case, "composing", COMPOSED, in_turns(composers, seconds))]


def one_step(plain: Plain, keys: Tensor, state: Any) -> tuple[Tensor, Any]:
    outputs, state = plain(keys.unsqueeze(1), state)
    return outputs[:, 0], state


def composer(step: Any, draw: Any, noise: Tensor) -> Any:
    """One piece, step by step."""

    @torch.inference_mode()
    def compose() -> Tensor:
        keys, state, found = torch.zeros(1, N_KEYS), None, []
        for u in noise:
            outputs, state = step(keys, state)
            keys = draw(outputs, u)
            found.append(keys)
        return torch.stack(found)

    return compose


if __name__ == "__main__":
    main(__doc__, CASES, measure, "music_composer", "steps")
