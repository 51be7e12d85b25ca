"""Transcribers end to end beside plain ones of torch.nn: the same weights, the same numbers, frames a second.

A training step is all of it: forward, CTC, backward, clipping, AdamW. Transcribing goes from frames to characters by
the best class of each step, one sound at a time; its unit is seconds of sound (100 frames) a second, the inverse of the
real-time factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from end_to_end import AS_TRAINED, SOUND, main, row, stepper
from lstmkit import LSTM
from lstmkit.data.batch import Batch
from lstmkit.decoding.ctc import greedy
from lstmkit.models.sequence import CTCModel
from lstmkit.modules.ctc import CTCHead
from lstmkit.modules.sequence_convolutions import CausalConvEncoder
from lstmkit.training.train import optimizer_for
from timing import in_turns

REACH = 3
FRAMES_S = 100


@dataclass(frozen=True)
class Case:
    """A model and its batch."""

    name: str
    features: int
    width: int
    hidden: int
    layers: int
    both_ways: bool
    characters: int
    batch: int
    frames: int
    letters: int


CASES = (
    Case("spoken digits", 40, 96, 96, 2, True, 10, 16, 300, 6),
    Case("spelled words (AN4)", 13, 128, 128, 2, True, 28, 16, 400, 25),
    Case("one way, as live", 40, 128, 128, 2, False, 28, 16, 400, 25),
)


class Plain(nn.Module):
    """As one writes it with torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.first = nn.Conv1d(case.features, case.width, REACH + 2, 2)
        self.second = nn.Conv1d(case.width, case.width, REACH + 2, 2)
        self.norms = nn.ModuleList(nn.LayerNorm(case.width) for _ in range(2))
        self.lstm = nn.LSTM(case.width, case.hidden, case.layers, batch_first=True, bidirectional=case.both_ways)
        self.linear = nn.Linear(case.hidden * (1 + case.both_ways), 1 + case.characters)

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm in zip((self.first, self.second), self.norms, strict=True):
            x = F.relu(norm(convolution(F.pad(x.transpose(1, 2), (REACH, 0))).transpose(1, 2)))
        return self.linear(self.lstm(x)[0]).log_softmax(-1)


def ours(case: Case, plain: Plain) -> CTCModel:
    """Our model, with the peer's weights."""
    encoder = CausalConvEncoder(case.features, case.width, (2, 2), REACH)
    for mine, theirs in zip(encoder.convolutions, (plain.first, plain.second), strict=True):
        mine.load_state_dict(theirs.state_dict())
    encoder.norms.load_state_dict(plain.norms.state_dict())
    trunk = LSTM(case.width, case.hidden, case.layers, batch_first=True, bidirectional=case.both_ways)
    trunk.load_state_dict(plain.lstm.state_dict())
    head = CTCHead(trunk.output_size, case.characters)
    head.linear.load_state_dict(plain.linear.state_dict())
    return CTCModel(encoder, trunk, head)


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """A row for training, and one for transcribing."""
    torch.manual_seed(0)
    plain = Plain(case)
    model = ours(case, plain)
    x = torch.randn(case.batch, case.frames, case.features)
    frames = torch.full((case.batch,), case.frames)
    targets = torch.randint(1, 1 + case.characters, (case.batch, case.letters))
    letters = torch.full((case.batch,), case.letters)
    batch = Batch(x, frames, targets, letters)

    def plain_loss() -> Tensor:
        return F.ctc_loss(plain(x).transpose(0, 1), targets, frames // 4, letters)

    both = (
        stepper(model, optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(plain, torch.optim.AdamW(plain.parameters(), lr=AS_TRAINED.lr), plain_loss),
    )
    for _ in range(3):  # the losses of three steps hang on all gradients
        torch.testing.assert_close(*(step() for step in both), rtol=1e-4, atol=1e-4)
    training = row(case, "training", case.batch * case.frames, in_turns(both, seconds))

    model.load_state_dict(ours(case, plain).state_dict())
    model.eval()
    readers = (
        reader(lambda: model(x[:1], None, frames[:1])[0]),
        reader(lambda: plain(x[:1])),
    )
    assert readers[0]() == readers[1]()
    return [training, row(case, "reading", case.frames / FRAMES_S, in_turns(readers, seconds), SOUND)]


def reader(outputs: Any) -> Any:
    """What one sound says."""

    @torch.inference_mode()
    def read() -> list[int]:
        return [one.id for one in greedy(np.asarray(outputs()[0]))]

    return read


if __name__ == "__main__":
    main(__doc__, CASES, measure, "transcriber", "frames", threads=(1, 2))
