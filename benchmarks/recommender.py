"""Recommenders beside a plain one of torch.nn: the same weights, the same numbers, samples a second.

The catalogue has 10^5 generated items. A training step is all of it: forward, loss, backward, clipping, AdamW; a
sample is one next item. Ranking reads sessions and gives the rank of what came next among all items. The peer is what
one would write with torch.nn.Embedding, LSTM or GRU, Linear and cross_entropy; it is given the same negatives.
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
from lstmkit.training.train import optimizer_for
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


class Plain(nn.Module):
    """As one writes it with torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.embedding = nn.Embedding(ITEMS, case.hidden)
        layer = nn.LSTM if case.cell == "lstm" else nn.GRU
        self.trunk = layer(case.hidden, case.hidden, batch_first=True)
        self.linear = nn.Linear(case.hidden, ITEMS)

    def features(self, ids: Tensor) -> Tensor:
        return self.trunk(self.embedding(ids))[0]

    def loss(self, ids: Tensor, targets: Tensor, drawn: Tensor | None) -> Tensor:
        features, wanted = self.features(ids).flatten(0, 1), targets.flatten()
        if drawn is None:
            return F.cross_entropy(self.linear(features), wanted)
        weight, bias = self.linear.weight, self.linear.bias
        target = (features * weight[wanted]).sum(1, keepdim=True) + bias[wanted].unsqueeze(1)
        others = F.linear(features, weight[drawn], bias[drawn]) - math.log(len(drawn) / ITEMS)
        others = others.masked_fill(drawn == wanted.unsqueeze(1), torch.finfo(torch.float32).min)
        return F.cross_entropy(torch.cat([target, others], 1), torch.zeros_like(wanted))


class Given(ItemHead):
    """Draws what the peer is given: the benchmark compares numbers."""

    drawn_items: Tensor

    def draw(self) -> Tensor:
        return self.drawn_items


def ours(case: Case, plain: Plain, drawn: Tensor | None) -> NextTokenModel:
    """Our model, with the peer's weights."""
    encoder = TokenEncoder(ITEMS, case.hidden)
    trunk = TRUNKS[case.cell](case.hidden, case.hidden, batch_first=True)
    head = Given(case.hidden, ITEMS, negatives=case.negatives, weights=[1.0] * ITEMS if case.negatives else ())
    if drawn is not None:
        head.drawn_items = drawn
    trunk.load_state_dict(plain.trunk.state_dict())
    with torch.no_grad():
        encoder.embedding.weight.copy_(plain.embedding.weight)
        head.scores.weight.copy_(plain.linear.weight)
        head.scores.bias.copy_(plain.linear.bias)
    return NextTokenModel(encoder, trunk, head)


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """A row for training, and one for ranking."""
    torch.manual_seed(0)
    plain = Plain(case)
    drawn = torch.randint(ITEMS, (case.negatives,)) if case.negatives else None
    model = ours(case, plain, drawn)
    ids = torch.randint(ITEMS, (case.batch, case.steps + 1))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    batch = Batch(inputs, torch.full((case.batch,), case.steps), targets)
    both = (
        stepper(model.train(), optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(
            plain, torch.optim.AdamW(plain.parameters(), lr=AS_TRAINED.lr), lambda: plain.loss(inputs, targets, drawn)
        ),
    )
    for _ in range(3):  # the losses of three steps hang on all gradients
        torch.testing.assert_close(*(step() for step in both), rtol=1e-4, atol=1e-5)
    samples = case.batch * case.steps
    training = row(case, "training", samples, in_turns(both, seconds))

    model.load_state_dict(ours(case, plain, drawn).state_dict())
    rankers = lambda: our_ranks(model.eval(), batch), lambda: plain_ranks(plain, inputs, targets)
    near = (rankers[0]() - rankers[1]()).abs()
    assert near.max() <= 10, "scores that differ by rounding change places with their neighbours alone"
    return [training, row(case, "ranking", samples, in_turns(rankers, seconds))]


@torch.inference_mode()
def our_ranks(model: NextTokenModel, batch: Batch) -> Tensor:
    assert batch.targets is not None
    steps = [np.arange(batch.inputs.shape[1])] * len(batch)
    return ranks_at_steps(model, batch, steps, batch.targets.flatten())


@torch.inference_mode()
def plain_ranks(plain: Plain, inputs: Tensor, targets: Tensor) -> Tensor:
    scores, wanted = plain.linear(plain.features(inputs).flatten(0, 1)), targets.reshape(-1, 1)
    return (scores >= scores.gather(1, wanted)).sum(1)


if __name__ == "__main__":
    main(__doc__, CASES, measure, "recommender", "samples")
