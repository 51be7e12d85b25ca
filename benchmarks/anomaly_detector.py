"""Anomaly detection end to end, compared with plain torch.nn: same weights, same outputs, steps per second.

A training step is forward, loss, backward, gradient clipping and AdamW. Prediction forecasts the next values at every
step of one long series, as the prediction-error scorer does.
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
from lstmkit.training.optimization import optimizer_for
from timing import in_turns


@dataclass(frozen=True)
class Case:
    """A model, its batch of windows, and the length of the series that it scores."""

    name: str
    channels: int
    hidden: int
    layers: int
    horizon: int
    batch: int
    window: int
    steps: int = 5000


CASES = (
    Case("1 channel (recipe nab)", 1, 32, 1, 3, 8, 64),
    Case("25 channels (recipe smap)", 25, 64, 1, 10, 16, 100),
    Case("38 channels, two layers", 38, 128, 2, 5, 32, 100),
)


class Peer(nn.Module):
    """The peer: the usual model in plain torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.lstm = nn.LSTM(case.channels, case.hidden, case.layers, batch_first=True)
        self.linear = nn.Linear(case.hidden, case.horizon * case.channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.lstm(x)[0])


def lstmkit_model(case: Case, peer: Peer) -> SequenceModel:
    """The model of lstmkit with the weights of the peer."""
    trunk = LSTM(case.channels, case.hidden, case.layers, batch_first=True)
    head = StepRegressionHead(case.hidden, case.horizon * case.channels)
    trunk.load_state_dict(peer.lstm.state_dict())
    head.linear.load_state_dict(peer.linear.state_dict())
    return SequenceModel(nn.Identity(), trunk, head)


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """One row for training, one for prediction."""
    torch.manual_seed(0)
    peer = Peer(case)
    model = lstmkit_model(case, peer)
    x = torch.randn(case.batch, case.window, case.channels)
    targets = torch.randn(case.batch, case.window, case.horizon * case.channels)
    batch = Batch(x, targets=targets)
    steppers = (
        stepper(model, optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(peer, torch.optim.AdamW(peer.parameters(), lr=AS_TRAINED.lr), lambda: F.mse_loss(peer(x), targets)),
    )
    for _ in range(3):  # the losses of three steps depend on all gradients
        torch.testing.assert_close(*(step() for step in steppers), rtol=1e-4, atol=1e-5)
    training = row(case, "training", x.shape[0] * x.shape[1], in_turns(steppers, seconds))

    model.load_state_dict(lstmkit_model(case, peer).state_dict())
    series = torch.randn(1, case.steps, case.channels)
    predictors = predictor(lambda: model(series)[0]), predictor(lambda: peer(series))
    torch.testing.assert_close(*(predict() for predict in predictors), rtol=1e-4, atol=1e-5)
    return [training, row(case, "prediction", case.steps, in_turns(predictors, seconds))]


def predictor(forward: Any) -> Any:
    """``forward`` in inference mode."""

    @torch.inference_mode()
    def predict() -> Tensor:
        return forward()

    return predict


if __name__ == "__main__":
    main(__doc__, CASES, measure, "anomaly_detector", "steps")
