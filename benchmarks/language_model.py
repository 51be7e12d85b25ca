"""Language models end to end, compared with plain torch.nn: same weights, same outputs, tokens per second.

A training step is forward, loss, backward, gradient clipping and AdamW. Decoding is greedy: each step feeds back the
most probable token. The peer is the usual model of torch.nn.Embedding, LSTM, Linear and cross_entropy.
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
from lstmkit.training.optimization import optimizer_for
from timing import in_turns

DECODED_TOKENS = 50  # per repetition


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


class Peer(nn.Module):
    """The peer: the usual model in plain torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.embedding = nn.Embedding(case.vocabulary, case.hidden)
        self.lstm = nn.LSTM(case.hidden, case.hidden, case.layers, batch_first=True)
        self.linear = nn.Linear(case.hidden, case.vocabulary)

    def forward(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        features, state = self.lstm(self.embedding(ids), state)
        return self.linear(features), state


def lstmkit_model(case: Case, peer: Peer) -> NextTokenModel:
    """The model of lstmkit with the weights of the peer."""
    encoder = TokenEncoder(case.vocabulary, case.hidden)
    trunk = LSTM(case.hidden, case.hidden, case.layers, batch_first=True)
    model = NextTokenModel(encoder, trunk, TokenHead(case.hidden, case.vocabulary))
    trunk.load_state_dict(peer.lstm.state_dict())
    with torch.no_grad():
        encoder.embedding.weight.copy_(peer.embedding.weight)
        model.head.weight.copy_(peer.linear.weight)
        model.head.bias.copy_(peer.linear.bias)
    return model


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """One row for training, one for decoding."""
    torch.manual_seed(0)
    peer = Peer(case)
    model = lstmkit_model(case, peer)
    ids = torch.randint(case.vocabulary, (case.batch, case.window + 1))
    batch = Batch(ids[:, :-1], targets=ids[:, 1:])

    def peer_loss() -> Tensor:
        logits, _ = peer(ids[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    steppers = (
        stepper(model, optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(peer, torch.optim.AdamW(peer.parameters(), lr=AS_TRAINED.lr), peer_loss),
    )
    for _ in range(3):  # the losses of three steps depend on all gradients
        torch.testing.assert_close(*(step() for step in steppers), rtol=1e-4, atol=1e-5)
    training = row(case, "training", case.batch * case.window, in_turns(steppers, seconds))

    model.load_state_dict(lstmkit_model(case, peer).eval().state_dict())
    decoders = decoder(model.eval().step, case), decoder(lambda i, s: one_step(peer, i, s), case)
    assert torch.equal(*(decode() for decode in decoders))
    return [training, row(case, "decoding", case.batch * DECODED_TOKENS, in_turns(decoders, seconds))]


def one_step(peer: Peer, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
    logits, state = peer(ids.unsqueeze(1), state)
    return logits[:, 0], state


def decoder(step: Any, case: Case) -> Any:
    """A function that decodes greedily."""

    @torch.inference_mode()
    def decode() -> Tensor:
        ids, state, tokens = torch.zeros(case.batch, dtype=torch.long), None, []
        for _ in range(DECODED_TOKENS):
            logits, state = step(ids, state)
            ids = logits.argmax(-1)
            tokens.append(ids)
        return torch.stack(tokens)

    return decode


if __name__ == "__main__":
    main(__doc__, CASES, measure, "language_model", "tokens")
