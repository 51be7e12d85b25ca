"""Spoken commands end to end, compared with plain torch.nn: same weights, same outputs, frames per second.

A training step is forward, loss, backward, clipping and AdamW, without augmentation. The peer masks padding and packs
its sequences, as is usual with torch.nn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from end_to_end import AS_TRAINED, main, row, stepper
from lstmkit import LSTM
from lstmkit.data.batch import Batch
from lstmkit.models.sequence import SequenceClassifier
from lstmkit.modules.audio_encoder import AudioEncoder
from lstmkit.modules.classification_head import ClassificationHead
from lstmkit.modules.pooling import MaxPool
from lstmkit.training.optimization import optimizer_for
from timing import in_turns

CLASSES = 10


@dataclass(frozen=True)
class Case:
    """A model and its batch; clips have from half of the frames to all of them."""

    name: str
    n_mels: int
    conv_channels: int
    hidden: int
    batch: int
    frames: int


CASES = (
    Case("digits (FSDD)", 40, 32, 64, 32, 60),
    Case("commands of 1 s", 40, 32, 128, 64, 98),
    Case("one command, streaming", 40, 32, 64, 1, 60),
)


class Peer(nn.Module):
    """The peer: the usual model in plain torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, case.conv_channels, 5, stride=2, padding=2)
        self.second = nn.Conv2d(case.conv_channels, case.conv_channels, 3, stride=2, padding=1)
        width = case.conv_channels * -(-case.n_mels // 4)
        self.lstm = nn.LSTM(width, case.hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * case.hidden, CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = x.unsqueeze(1)
        for layer in (self.first, self.second):
            inside = torch.arange(x.shape[2]) < lengths[:, None]
            x = F.relu(layer(x * inside[:, None, :, None]))
            lengths = (lengths + 1) // 2
        packed = pack_padded_sequence(x.transpose(1, 2).flatten(2), lengths, batch_first=True, enforce_sorted=False)
        steps, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, padding_value=-torch.inf)
        return self.linear(steps.amax(1))


def lstmkit_model(case: Case, peer: Peer) -> SequenceClassifier:
    """The model of lstmkit with the weights of the peer."""
    encoder = AudioEncoder(case.n_mels, case.conv_channels)
    trunk = LSTM(encoder.output_size, case.hidden, batch_first=True, bidirectional=True)
    head = ClassificationHead(2 * case.hidden, CLASSES)
    encoder.first.load_state_dict(peer.first.state_dict())
    encoder.second.load_state_dict(peer.second.state_dict())
    trunk.load_state_dict(peer.lstm.state_dict())
    head.linear.load_state_dict(peer.linear.state_dict())
    return SequenceClassifier(encoder, trunk, MaxPool(), head)


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """One row for training and one for prediction."""
    torch.manual_seed(0)
    peer = Peer(case)
    model = lstmkit_model(case, peer)
    lengths = torch.linspace(case.frames, case.frames // 2, case.batch).long()
    batch = Batch(torch.randn(case.batch, case.frames, case.n_mels), lengths, torch.randint(CLASSES, (case.batch,)))
    assert batch.targets is not None

    def peer_loss() -> Tensor:
        return F.cross_entropy(peer(batch.inputs, lengths), batch.targets)

    steppers = (
        stepper(model, optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(peer, torch.optim.AdamW(peer.parameters(), lr=AS_TRAINED.lr), peer_loss),
    )
    for _ in range(3):  # the losses of three steps depend on all gradients
        torch.testing.assert_close(*(step() for step in steppers), rtol=1e-4, atol=1e-5)
    training = row(case, "training", int(lengths.sum()), in_turns(steppers, seconds))

    model.load_state_dict(lstmkit_model(case, peer.eval()).state_dict())
    predictors = predictor(model.eval(), batch), predictor(lambda x, _, n: (peer(x, n), None), batch)
    torch.testing.assert_close(*(predict() for predict in predictors), rtol=1e-4, atol=1e-5)
    return [training, row(case, "prediction", int(lengths.sum()), in_turns(predictors, seconds))]


def predictor(model: Any, batch: Batch) -> Any:
    """A function that returns the logits of a batch."""

    @torch.inference_mode()
    def predict() -> Tensor:
        return model(batch.inputs, None, batch.lengths)[0]

    return predict


if __name__ == "__main__":
    main(__doc__, CASES, measure, "spoken_commands", "frames")
