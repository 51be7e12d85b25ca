"""Secondary structure end to end, compared with plain torch.nn: same weights, same outputs, residues per second.

A training step is forward, loss, backward, gradient clipping and AdamW. Prediction returns the logits of every residue.
Chains have 40 to 600 residues, as in CB513; the peer packs them, as is usual with torch.nn.
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
from lstmkit.data.proteins.residues import N_RESIDUE_IDS
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.encoders import ResidueEncoder
from lstmkit.modules.heads import MultiTaskTagHead
from lstmkit.training.optimization import optimizer_for
from timing import in_turns

STATES = (3, 8)
WIDTHS = (3, 7, 11)


@dataclass(frozen=True)
class Case:
    """A model and its batch: chains with lengths spread evenly from ``min_length`` to ``max_length``."""

    name: str
    embedding_size: int
    conv_channels: int
    hidden: int
    layers: int
    batch: int
    min_length: int
    max_length: int


CASES = (
    Case("recipe cb513", 32, 48, 160, 2, 16, 150, 200),
    Case("chains of very different lengths", 32, 48, 160, 2, 16, 40, 600),
    Case("one layer, small", 32, 32, 64, 1, 32, 150, 200),
)


class Peer(nn.Module):
    """The peer: the usual model in plain torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.embedding = nn.Embedding(N_RESIDUE_IDS, case.embedding_size, padding_idx=0)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(case.embedding_size, case.conv_channels, w, padding=w // 2) for w in WIDTHS
        )
        size = case.embedding_size + case.conv_channels * len(WIDTHS)
        self.lstm = nn.LSTM(size, case.hidden, case.layers, batch_first=True, bidirectional=True)
        self.heads = nn.ModuleList(nn.Linear(2 * case.hidden, n) for n in STATES)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        embedded = self.embedding(ids)
        windows = [F.relu(conv(embedded.transpose(1, 2))).transpose(1, 2) for conv in self.convolutions]
        packed = pack_padded_sequence(
            torch.cat([embedded, *windows], -1), lengths, batch_first=True, enforce_sorted=False
        )
        features, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=ids.shape[1])
        return torch.cat([head(features) for head in self.heads], -1)


def lstmkit_model(case: Case, peer: Peer) -> SequenceModel:
    """The model of lstmkit with the weights of the peer."""
    encoder = ResidueEncoder(N_RESIDUE_IDS, case.embedding_size, 0, WIDTHS, case.conv_channels)
    trunk = LSTM(encoder.output_size, case.hidden, case.layers, batch_first=True, bidirectional=True)
    head = MultiTaskTagHead(2 * case.hidden, STATES)
    encoder.residues.embedding.load_state_dict(peer.embedding.state_dict())
    encoder.around.load_state_dict(peer.convolutions.state_dict())
    trunk.load_state_dict(peer.lstm.state_dict())
    for output, peer_output in zip(head.heads, peer.heads, strict=True):
        output.linear.load_state_dict(peer_output.state_dict())
    return SequenceModel(encoder, trunk, head)


def random_chains(case: Case) -> Batch:
    """Random residues and states."""
    lengths = torch.linspace(case.min_length, case.max_length, case.batch).long()
    padding = torch.arange(case.max_length) >= lengths[:, None]
    ids = torch.randint(1, N_RESIDUE_IDS, (case.batch, case.max_length)).masked_fill(padding, 0)
    targets = torch.stack([torch.randint(n, ids.shape) for n in STATES], -1).masked_fill(padding[..., None], -1)
    return Batch(ids, lengths, targets)


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """One row for training, one for prediction."""
    torch.manual_seed(0)
    peer = Peer(case)
    model, batch = lstmkit_model(case, peer), random_chains(case)
    assert batch.lengths is not None
    assert batch.targets is not None
    residues = int(batch.lengths.sum())

    def peer_loss() -> Tensor:
        outputs = zip(peer(batch.inputs, batch.lengths).split(STATES, -1), batch.targets.unbind(-1), strict=True)
        return sum(F.cross_entropy(logits.flatten(0, 1), t.flatten(), ignore_index=-1) for logits, t in outputs)

    steppers = (
        stepper(model, optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(peer, torch.optim.AdamW(peer.parameters(), lr=AS_TRAINED.lr), peer_loss),
    )
    for _ in range(3):  # the losses of three steps depend on all gradients
        torch.testing.assert_close(*(step() for step in steppers), rtol=1e-4, atol=1e-5)
    training = row(case, "training", residues, in_turns(steppers, seconds))

    model.load_state_dict(lstmkit_model(case, peer).state_dict())
    predictors = predictor(model.eval(), batch), predictor(peer.eval(), batch)
    torch.testing.assert_close(*(predict() for predict in predictors), rtol=1e-4, atol=1e-5)
    return [training, row(case, "prediction", residues, in_turns(predictors, seconds))]


def predictor(model: nn.Module, batch: Batch) -> Any:
    """A function that returns the logits of every residue."""

    @torch.inference_mode()
    def predict() -> Tensor:
        if isinstance(model, Peer):
            return model(batch.inputs, batch.lengths)
        return model(batch.inputs, None, batch.lengths)[0]

    return predict


if __name__ == "__main__":
    main(__doc__, CASES, measure, "secondary_structure_predictor", "residues")
