"""Anomaly detection end to end beside a plain model of torch.nn: same weights, same numbers, steps a second.

A training step is all of it: forward, loss, backward, clipping, AdamW. Prediction foretells the next values at every
step of one long recording, as scoring does.
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
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.heads import StepRegressionHead
from lstmkit.training.train import optimizer_for
from timing import in_turns


@dataclass(frozen=True)
class Case:
    """A model, its batch of windows, and how long a recording it scores."""

    name: str
    channels: int
    hidden: int
    layers: int
    ahead: int
    batch: int
    window: int
    steps: int = 5000


CASES = (
    Case("one channel, as the recipe nab has it", 1, 32, 1, 3, 8, 64),
    Case("25 channels, as the recipe smap has it", 25, 64, 1, 10, 16, 100),
    Case("38 channels, two layers", 38, 128, 2, 5, 32, 100),
)


class Plain(nn.Module):
    """As one writes it with torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.lstm = nn.LSTM(case.channels, case.hidden, case.layers, batch_first=True)
        self.linear = nn.Linear(case.hidden, case.ahead * case.channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.lstm(x)[0])


def ours(case: Case, plain: Plain) -> SequenceModel:
    """Our model, with the peer's weights."""
    trunk = LSTM(case.channels, case.hidden, case.layers, batch_first=True)
    head = StepRegressionHead(case.hidden, case.ahead * case.channels)
    trunk.load_state_dict(plain.lstm.state_dict())
    head.linear.load_state_dict(plain.linear.state_dict())
    return SequenceModel(nn.Identity(), trunk, head)


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """A row for training, and one for prediction."""
    torch.manual_seed(0)
    plain = Plain(case)
    model = ours(case, plain)
    x = torch.randn(case.batch, case.window, case.channels)
    targets = torch.randn(case.batch, case.window, case.ahead * case.channels)
    batch = Batch(x, targets=targets)
    both = (
        stepper(model, optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(plain, torch.optim.AdamW(plain.parameters(), lr=AS_TRAINED.lr), lambda: F.mse_loss(plain(x), targets)),
    )
    for _ in range(3):  # the losses of three steps hang on all gradients
        torch.testing.assert_close(*(step() for step in both), rtol=1e-4, atol=1e-5)
    training = row(case, "training", x.shape[0] * x.shape[1], in_turns(both, seconds))

    model.load_state_dict(ours(case, plain).state_dict())
    recording = torch.randn(1, case.steps, case.channels)
    answers = predictor(lambda: model(recording)[0]), predictor(lambda: plain(recording))
    torch.testing.assert_close(*(answer() for answer in answers), rtol=1e-4, atol=1e-5)
    return [training, row(case, "prediction", case.steps, in_turns(answers, seconds))]


def predictor(answer: Any) -> Any:
    @torch.inference_mode()
    def run() -> Tensor:
        return answer()

    return run


if __name__ == "__main__":
    main(__doc__, CASES, measure, "anomaly_detector", "steps")
