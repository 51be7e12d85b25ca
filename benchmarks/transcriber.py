"""Transcription end to end, compared with plain torch.nn: same weights, same outputs, frames per second.

A training step is forward, CTC loss, backward, gradient clipping and AdamW. Transcription decodes one clip at a time
greedily. Its unit is seconds of audio (100 frames) per second, the inverse of the real-time factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from end_to_end import AS_TRAINED, AUDIO, main, row, stepper
from lstmkit import LSTM
from lstmkit.data.batch import Batch
from lstmkit.decoding.ctc import greedy
from lstmkit.models.sequence import CTCModel
from lstmkit.modules.ctc import CTCHead
from lstmkit.modules.sequence_convolutions import CausalConvEncoder
from lstmkit.training.optimization import optimizer_for
from timing import in_turns

CONTEXT = 3  # frames before each that a convolution sees
FRAMES_PER_SECOND = 100


@dataclass(frozen=True)
class Case:
    """A model and its batch."""

    name: str
    features: int
    width: int
    hidden: int
    layers: int
    bidirectional: bool
    characters: int
    batch: int
    frames: int
    text_length: int


CASES = (
    Case("spoken digits", 40, 96, 96, 2, True, 10, 16, 300, 6),
    Case("spelled words (AN4)", 13, 128, 128, 2, True, 28, 16, 400, 25),
    Case("unidirectional (streaming)", 40, 128, 128, 2, False, 28, 16, 400, 25),
)


class Peer(nn.Module):
    """The peer: the usual model in plain torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.first = nn.Conv1d(case.features, case.width, CONTEXT + 2, 2)
        self.second = nn.Conv1d(case.width, case.width, CONTEXT + 2, 2)
        self.norms = nn.ModuleList(nn.LayerNorm(case.width) for _ in range(2))
        self.lstm = nn.LSTM(case.width, case.hidden, case.layers, batch_first=True, bidirectional=case.bidirectional)
        self.linear = nn.Linear(case.hidden * (1 + case.bidirectional), 1 + case.characters)

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm in zip((self.first, self.second), self.norms, strict=True):
            x = F.relu(norm(convolution(F.pad(x.transpose(1, 2), (CONTEXT, 0))).transpose(1, 2)))
        return self.linear(self.lstm(x)[0]).log_softmax(-1)


def lstmkit_model(case: Case, peer: Peer) -> CTCModel:
    """The model of lstmkit with the weights of the peer."""
    encoder = CausalConvEncoder(case.features, case.width, (2, 2), CONTEXT)
    for module, peer_module in zip(encoder.convolutions, (peer.first, peer.second), strict=True):
        module.load_state_dict(peer_module.state_dict())
    encoder.norms.load_state_dict(peer.norms.state_dict())
    trunk = LSTM(case.width, case.hidden, case.layers, batch_first=True, bidirectional=case.bidirectional)
    trunk.load_state_dict(peer.lstm.state_dict())
    head = CTCHead(trunk.output_size, case.characters)
    head.linear.load_state_dict(peer.linear.state_dict())
    return CTCModel(encoder, trunk, head)


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """One row for training, one for transcription."""
    torch.manual_seed(0)
    peer = Peer(case)
    model = lstmkit_model(case, peer)
    x = torch.randn(case.batch, case.frames, case.features)
    frames = torch.full((case.batch,), case.frames)
    targets = torch.randint(1, 1 + case.characters, (case.batch, case.text_length))
    text_lengths = torch.full((case.batch,), case.text_length)
    batch = Batch(x, frames, targets, text_lengths)

    def peer_loss() -> Tensor:
        return F.ctc_loss(peer(x).transpose(0, 1), targets, frames // 4, text_lengths)

    steppers = (
        stepper(model, optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(peer, torch.optim.AdamW(peer.parameters(), lr=AS_TRAINED.lr), peer_loss),
    )
    for _ in range(3):  # the losses of three steps depend on all gradients
        torch.testing.assert_close(*(step() for step in steppers), rtol=1e-4, atol=1e-4)
    training = row(case, "training", case.batch * case.frames, in_turns(steppers, seconds))

    model.load_state_dict(lstmkit_model(case, peer).state_dict())
    model.eval()
    transcribers = (
        transcriber(lambda: model(x[:1], None, frames[:1])[0]),
        transcriber(lambda: peer(x[:1])),
    )
    assert transcribers[0]() == transcribers[1]()
    return [
        training,
        row(case, "transcription", case.frames / FRAMES_PER_SECOND, in_turns(transcribers, seconds), AUDIO),
    ]


def transcriber(outputs: Any) -> Any:
    """A function that transcribes one clip."""

    @torch.inference_mode()
    def transcribe() -> list[int]:
        return [character.id for character in greedy(np.asarray(outputs()[0]))]

    return transcribe


if __name__ == "__main__":
    main(__doc__, CASES, measure, "transcriber", "frames", threads=(1, 2))
