"""Language models end to end beside a plain one of torch.nn: the same weights, the same numbers, tokens a second.

A training step is all of it: forward, loss, backward, clipping, AdamW. A decoding step gives the next token's logits
and takes the most probable. The peer is what one would write with torch.nn.Embedding, LSTM, Linear and cross_entropy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from end_to_end import AS_TRAINED, main, row, stepper
from lstmkit import LSTM
from lstmkit.data.batch import Batch
from lstmkit.models.sequence import NextTokenModel
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.heads import TokenHead
from lstmkit.training.train import optimizer_for
from timing import in_turns

DECODED = 50  # tokens of a turn


@dataclass(frozen=True)
class Case:
    """A model and its batch."""

    name: str
    vocabulary: int
    hidden: int
    layers: int
    batch: int
    window: int


CASES = (
    Case("words, small (Penn Treebank)", 10_000, 200, 2, 20, 35),
    Case("words, medium", 10_000, 650, 2, 20, 35),
    Case("words, large vocabulary", 50_000, 256, 1, 32, 35),
    Case("characters", 65, 256, 2, 32, 100),
    Case("characters, small", 65, 128, 1, 64, 100),
)


class Plain(nn.Module):
    """As one writes it with torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.embedding = nn.Embedding(case.vocabulary, case.hidden)
        self.lstm = nn.LSTM(case.hidden, case.hidden, case.layers, batch_first=True)
        self.linear = nn.Linear(case.hidden, case.vocabulary)

    def forward(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        features, state = self.lstm(self.embedding(ids), state)
        return self.linear(features), state


def ours(case: Case, plain: Plain) -> NextTokenModel:
    """Our model, with the peer's weights."""
    encoder = TokenEncoder(case.vocabulary, case.hidden)
    trunk = LSTM(case.hidden, case.hidden, case.layers, batch_first=True)
    model = NextTokenModel(encoder, trunk, TokenHead(case.hidden, case.vocabulary))
    trunk.load_state_dict(plain.lstm.state_dict())
    with torch.no_grad():
        encoder.embedding.weight.copy_(plain.embedding.weight)
        model.head.weight.copy_(plain.linear.weight)
        model.head.bias.copy_(plain.linear.bias)
    return model


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """A row for training, and one for decoding."""
    torch.manual_seed(0)
    plain = Plain(case)
    model = ours(case, plain)
    ids = torch.randint(case.vocabulary, (case.batch, case.window + 1))
    batch = Batch(ids[:, :-1], targets=ids[:, 1:])

    def plain_loss() -> Tensor:
        logits, _ = plain(ids[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    both = (
        stepper(model, optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(plain, torch.optim.AdamW(plain.parameters(), lr=AS_TRAINED.lr), plain_loss),
    )
    for _ in range(3):  # the losses of three steps hang on all gradients
        torch.testing.assert_close(*(step() for step in both), rtol=1e-4, atol=1e-5)
    training = row(case, "training", case.batch * case.window, in_turns(both, seconds))

    model.load_state_dict(ours(case, plain).eval().state_dict())
    decoders = decoder(model.eval().step, case), decoder(lambda i, s: one_step(plain, i, s), case)
    assert torch.equal(*(decode() for decode in decoders))
    return [training, row(case, "decoding", case.batch * DECODED, in_turns(decoders, seconds))]


def one_step(plain: Plain, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
    logits, state = plain(ids.unsqueeze(1), state)
    return logits[:, 0], state


def decoder(step: Any, case: Case) -> Any:
    """The most probable tokens, one after another."""

    @torch.inference_mode()
    def decode() -> Tensor:
        ids, state, found = torch.zeros(case.batch, dtype=torch.long), None, []
        for _ in range(DECODED):
            logits, state = step(ids, state)
            ids = logits.argmax(-1)
            found.append(ids)
        return torch.stack(found)

    return decode


if __name__ == "__main__":
    main(__doc__, CASES, measure, "language_model", "tokens")
