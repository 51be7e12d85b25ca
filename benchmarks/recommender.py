"""Recommendation end to end, compared with plain torch.nn: same weights, same outputs, samples per second.

The catalog has 10^5 generated items. A training step is forward, loss, backward, gradient clipping and AdamW; a sample
is one next item. Ranking reads sessions and returns the rank of the next item among all items. The peer is the usual
model of torch.nn.Embedding, LSTM or GRU, Linear and cross_entropy, with the same negatives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from end_to_end import AS_TRAINED, main, row, stepper
from lstmkit.data.batch import Batch
from lstmkit.jobs.recommender.metrics import ranks_at_steps
from lstmkit.models.sequence import NextTokenModel
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.item_head import ItemHead
from lstmkit.modules.trunk import TRUNKS
from lstmkit.training.optimization import optimizer_for
from timing import in_turns

ITEMS = 100_000


@dataclass(frozen=True)
class Case:
    """A model and its batch."""

    name: str
    cell: str
    hidden: int
    batch: int
    steps: int
    negatives: int
    items: int = ITEMS


CASES = (
    Case("all items", "lstm", 100, 32, 10, 0),
    Case("2,048 negatives", "lstm", 100, 32, 10, 2048),
    Case("2,048 negatives, GRU", "gru", 100, 32, 10, 2048),
)


class Peer(nn.Module):
    """The peer: the usual model in plain torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.embedding = nn.Embedding(ITEMS, case.hidden)
        layer = nn.LSTM if case.cell == "lstm" else nn.GRU
        self.trunk = layer(case.hidden, case.hidden, batch_first=True)
        self.linear = nn.Linear(case.hidden, ITEMS)

    def features(self, ids: Tensor) -> Tensor:
        return self.trunk(self.embedding(ids))[0]

    def loss(self, ids: Tensor, targets: Tensor, negatives: Tensor | None) -> Tensor:
        features, target_ids = self.features(ids).flatten(0, 1), targets.flatten()
        if negatives is None:
            return F.cross_entropy(self.linear(features), target_ids)
        weight, bias = self.linear.weight, self.linear.bias
        target = (features * weight[target_ids]).sum(1, keepdim=True) + bias[target_ids].unsqueeze(1)
        others = F.linear(features, weight[negatives], bias[negatives]) - math.log(len(negatives) / ITEMS)
        others = others.masked_fill(negatives == target_ids.unsqueeze(1), torch.finfo(torch.float32).min)
        return F.cross_entropy(torch.cat([target, others], 1), torch.zeros_like(target_ids))


class FixedNegativesHead(ItemHead):
    """An item head with the negatives of the peer, so that outputs can be compared."""

    negatives_of_peer: Tensor

    def draw(self) -> Tensor:
        return self.negatives_of_peer


def lstmkit_model(case: Case, peer: Peer, negatives: Tensor | None) -> NextTokenModel:
    """The model of lstmkit with the weights of the peer."""
    encoder = TokenEncoder(ITEMS, case.hidden)
    trunk = TRUNKS[case.cell](case.hidden, case.hidden, batch_first=True)
    head = FixedNegativesHead(
        case.hidden, ITEMS, num_negatives=case.negatives, weights=[1.0] * ITEMS if case.negatives else ()
    )
    if negatives is not None:
        head.negatives_of_peer = negatives
    trunk.load_state_dict(peer.trunk.state_dict())
    with torch.no_grad():
        encoder.embedding.weight.copy_(peer.embedding.weight)
        head.scores.weight.copy_(peer.linear.weight)
        head.scores.bias.copy_(peer.linear.bias)
    return NextTokenModel(encoder, trunk, head)


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """One row for training, one for ranking."""
    torch.manual_seed(0)
    peer = Peer(case)
    negatives = torch.randint(ITEMS, (case.negatives,)) if case.negatives else None
    model = lstmkit_model(case, peer, negatives)
    ids = torch.randint(ITEMS, (case.batch, case.steps + 1))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    batch = Batch(inputs, torch.full((case.batch,), case.steps), targets)
    steppers = (
        stepper(model.train(), optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(
            peer, torch.optim.AdamW(peer.parameters(), lr=AS_TRAINED.lr), lambda: peer.loss(inputs, targets, negatives)
        ),
    )
    for _ in range(3):  # the losses of three steps depend on all gradients
        torch.testing.assert_close(*(step() for step in steppers), rtol=1e-4, atol=1e-5)
    samples = case.batch * case.steps
    training = row(case, "training", samples, in_turns(steppers, seconds))

    model.load_state_dict(lstmkit_model(case, peer, negatives).state_dict())
    rankers = lambda: lstmkit_ranks(model.eval(), batch), lambda: peer_ranks(peer, inputs, targets)
    difference = (rankers[0]() - rankers[1]()).abs()
    assert difference.max() <= 10, "ranks differ by more than rounding errors of the scores explain"
    return [training, row(case, "ranking", samples, in_turns(rankers, seconds))]


@torch.inference_mode()
def lstmkit_ranks(model: NextTokenModel, batch: Batch) -> Tensor:
    assert batch.targets is not None
    steps = [np.arange(batch.inputs.shape[1])] * len(batch)
    return ranks_at_steps(model, batch, steps, batch.targets.flatten())


@torch.inference_mode()
def peer_ranks(peer: Peer, inputs: Tensor, targets: Tensor) -> Tensor:
    scores, target_ids = peer.linear(peer.features(inputs).flatten(0, 1)), targets.reshape(-1, 1)
    return (scores >= scores.gather(1, target_ids)).sum(1)


if __name__ == "__main__":
    main(__doc__, CASES, measure, "recommender", "samples")
