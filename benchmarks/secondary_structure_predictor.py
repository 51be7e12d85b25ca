"""Secondary structure end to end beside a plain model of torch.nn: same weights, same numbers, residues a second.

A training step is all of it: forward, loss, backward, clipping, AdamW. Prediction gives every residue's logits. Chains
are as long as those of CB513's kind, 40 to 600 residues, side by side; the peer packs them, as one does with torch.nn.
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
from lstmkit.data.proteins.residue_windows import N_RESIDUE_IDS
from lstmkit.models.sequence import SequenceModel
from lstmkit.modules.encoders import ResidueEncoder
from lstmkit.modules.heads import MultiTaskTagHead
from lstmkit.training.train import optimizer_for
from timing import in_turns

STATES = (3, 8)
WIDTHS = (3, 7, 11)


@dataclass(frozen=True)
class Case:
    """A model and its batch: chains of lengths evenly from ``shortest`` to ``longest``."""

    name: str
    vector: int
    channels: int
    hidden: int
    layers: int
    batch: int
    shortest: int
    longest: int


CASES = (
    Case("as the recipe cb513 has it", 32, 48, 160, 2, 16, 150, 200),
    Case("chains of very different lengths", 32, 48, 160, 2, 16, 40, 600),
    Case("one layer, narrow", 32, 32, 64, 1, 32, 150, 200),
)


class Plain(nn.Module):
    """As one writes it with torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.embedding = nn.Embedding(N_RESIDUE_IDS, case.vector, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(case.vector, case.channels, w, padding=w // 2) for w in WIDTHS)
        size = case.vector + case.channels * len(WIDTHS)
        self.lstm = nn.LSTM(size, case.hidden, case.layers, batch_first=True, bidirectional=True)
        self.heads = nn.ModuleList(nn.Linear(2 * case.hidden, n) for n in STATES)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        own = self.embedding(ids)
        seen = [F.relu(conv(own.transpose(1, 2))).transpose(1, 2) for conv in self.convolutions]
        packed = pack_padded_sequence(torch.cat([own, *seen], -1), lengths, batch_first=True, enforce_sorted=False)
        features, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=ids.shape[1])
        return torch.cat([head(features) for head in self.heads], -1)


def ours(case: Case, plain: Plain) -> SequenceModel:
    """Our model, with the peer's weights."""
    encoder = ResidueEncoder(N_RESIDUE_IDS, case.vector, 0, WIDTHS, case.channels)
    trunk = LSTM(encoder.output_size, case.hidden, case.layers, batch_first=True, bidirectional=True)
    head = MultiTaskTagHead(2 * case.hidden, STATES)
    encoder.residues.embedding.load_state_dict(plain.embedding.state_dict())
    encoder.around.load_state_dict(plain.convolutions.state_dict())
    trunk.load_state_dict(plain.lstm.state_dict())
    for mine, theirs in zip(head.kinds, plain.heads, strict=True):
        mine.linear.load_state_dict(theirs.state_dict())
    return SequenceModel(encoder, trunk, head)


def chains(case: Case) -> Batch:
    """Residues and states at random."""
    lengths = torch.linspace(case.shortest, case.longest, case.batch).long()
    past = torch.arange(case.longest) >= lengths[:, None]
    ids = torch.randint(1, N_RESIDUE_IDS, (case.batch, case.longest)).masked_fill(past, 0)
    targets = torch.stack([torch.randint(n, ids.shape) for n in STATES], -1).masked_fill(past[..., None], -1)
    return Batch(ids, lengths, targets)


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """A row for training, and one for prediction."""
    torch.manual_seed(0)
    plain = Plain(case)
    model, batch = ours(case, plain), chains(case)
    assert batch.lengths is not None
    assert batch.targets is not None
    residues = int(batch.lengths.sum())

    def plain_loss() -> Tensor:
        kinds = zip(plain(batch.inputs, batch.lengths).split(STATES, -1), batch.targets.unbind(-1), strict=True)
        return sum(F.cross_entropy(logits.flatten(0, 1), t.flatten(), ignore_index=-1) for logits, t in kinds)

    both = (
        stepper(model, optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(plain, torch.optim.AdamW(plain.parameters(), lr=AS_TRAINED.lr), plain_loss),
    )
    for _ in range(3):  # the losses of three steps hang on all gradients
        torch.testing.assert_close(*(step() for step in both), rtol=1e-4, atol=1e-5)
    training = row(case, "training", residues, in_turns(both, seconds))

    model.load_state_dict(ours(case, plain).state_dict())
    answers = predictor(model.eval(), batch), predictor(plain.eval(), batch)
    torch.testing.assert_close(*(answer() for answer in answers), rtol=1e-4, atol=1e-5)
    return [training, row(case, "prediction", residues, in_turns(answers, seconds))]


def predictor(model: nn.Module, batch: Batch) -> Any:
    """Logits of every residue."""

    @torch.inference_mode()
    def answer() -> Tensor:
        if isinstance(model, Plain):
            return model(batch.inputs, batch.lengths)
        return model(batch.inputs, None, batch.lengths)[0]

    return answer


if __name__ == "__main__":
    main(__doc__, CASES, measure, "secondary_structure_predictor", "residues")
