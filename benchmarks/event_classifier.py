"""Event classification end to end, compared with the same model on torch.nn's LSTM: same weights, same outputs.

Events have 30 columns of numbers in 32 bins and two of categories. A training step is forward, loss, backward, gradient
clipping and AdamW. Classifying reads whole entities. A live event is one step with the state of its entity.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from end_to_end import AS_TRAINED, main, row, stepper
from lstmkit.data.batch import Batch
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.column_encoder import ColumnEncoder
from lstmkit.modules.event_head import EventHead
from lstmkit.modules.trunk import build_trunk
from lstmkit.training.optimization import optimizer_for
from timing import in_turns

NUMBERS, BINS, CATEGORIES = 30, 32, (500, 50)


@dataclass(frozen=True)
class Case:
    """A model and its batch."""

    name: str
    cell: str
    hidden: int
    encoder: int
    batch: int
    steps: int


CASES = (
    Case("defaults", "lstm", 64, 128, 16, 128),
    Case("wide", "lstm", 256, 256, 32, 128),
    Case("GRU", "gru", 64, 128, 16, 128),
)


class TorchTrunk(nn.Module):
    """A layer of torch.nn with the interface of a trunk, and the weights of one."""

    def __init__(self, case: Case, trunk: nn.Module) -> None:
        super().__init__()
        layer = nn.LSTM if case.cell == "lstm" else nn.GRU
        self.layer = layer(case.encoder, case.hidden, batch_first=True)
        self.layer.load_state_dict(trunk.state_dict())

    def forward(self, x: Tensor, state: Any = None, _lengths: Tensor | None = None) -> Any:
        return self.layer(x, state)

    def stream(self) -> Callable[[Tensor], Tensor]:
        state: Any = None

        def step(x: Tensor) -> Tensor:
            nonlocal state
            outputs, state = self.layer(x.unsqueeze(1), state)
            return outputs[:, 0]

        return step


def models(case: Case) -> tuple[SequenceModel, SequenceModel]:
    """The model, and the same one on torch.nn."""
    edges = [torch.linspace(-2, 2, BINS + 1).tolist()] * NUMBERS
    columns = ColumnEncoder(NUMBERS, CATEGORIES, edges=edges)
    encoder = nn.Sequential(columns, nn.Linear(columns.output_size, case.encoder), nn.ReLU())
    trunk = build_trunk(case.cell, case.encoder, case.hidden, num_layers=1)
    head = EventHead(case.hidden + case.encoder, 2, case.hidden)
    model = SequenceModel(encoder, trunk, head, skip=True)
    peer = copy.deepcopy(model)
    peer.trunk = TorchTrunk(case, trunk)  # type: ignore[assignment]
    return model, peer


def events(case: Case) -> Tensor:
    """Encoded events ``(B, T, F)``."""
    numbers = torch.randn(case.batch, case.steps, NUMBERS)
    ids = [torch.randint(size, (case.batch, case.steps, 1)) for size in CATEGORIES]
    return torch.cat([numbers, *(each.float() for each in ids)], -1)


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """One row for training, one for classifying, one for live events."""
    torch.manual_seed(0)
    model, peer = models(case)
    start = copy.deepcopy((model.state_dict(), peer.state_dict()))
    inputs, targets = events(case), torch.randint(2, (case.batch, case.steps))
    batch = Batch(inputs, torch.full((case.batch,), case.steps), targets)
    steppers = [_stepper(each, batch) for each in (model, peer)]
    for _ in range(3):  # the losses of three steps depend on all gradients
        torch.testing.assert_close(*(step() for step in steppers), rtol=1e-4, atol=1e-5)
    count = case.batch * case.steps
    rows = [row(case, "training", count, in_turns(steppers, seconds))]

    for each, weights in zip((model, peer), start, strict=True):
        each.load_state_dict(weights)
    readers = [_reader(each.eval(), inputs) for each in (model, peer)]
    torch.testing.assert_close(*(reader() for reader in readers), rtol=1e-4, atol=1e-5)
    rows.append(row(case, "classifying", count, in_turns(readers, seconds)))
    players = [_player(each, inputs[:1]) for each in (model, peer)]
    torch.testing.assert_close(*(player() for player in players), rtol=1e-4, atol=1e-5)
    return [*rows, row(case, "live", case.steps, in_turns(players, seconds))]


def _stepper(model: SequenceModel, batch: Batch) -> Callable[[], Tensor]:
    return stepper(model.train(), optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0])


def _reader(model: SequenceModel, inputs: Tensor) -> Callable[[], Tensor]:
    @torch.inference_mode()
    def read() -> Tensor:
        return model(inputs)[0]

    return read


def _player(model: SequenceModel, inputs: Tensor) -> Callable[[], Tensor]:
    @torch.inference_mode()
    def play() -> Tensor:
        step = model.stream()
        return torch.stack([step(event) for event in inputs.unbind(1)], 1)

    return play


if __name__ == "__main__":
    main(__doc__, CASES, measure, "event_classifier", "events", threads=[1])
