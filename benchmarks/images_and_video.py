"""Images and video end to end beside plain torch.nn: same weights, same outputs, frames or images per second.

A training step goes from pixels to loss, backward, gradient clipping and AdamW. Prediction is a class, or a caption by
greedy search. The peer is what a user would write: nn.Conv2d with standardized weights, nn.GroupNorm, nn.LSTM and
nn.LSTMCell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from end_to_end import AS_TRAINED, main, row, stepper
from lstmkit import LSTM
from lstmkit.data.batch import Batch
from lstmkit.models.encoder_decoder import Decoder, EncoderDecoder
from lstmkit.models.sequence import SequenceClassifier
from lstmkit.modules.attention import AdditiveAttention
from lstmkit.modules.classification_head import ClassificationHead
from lstmkit.modules.encoders import TokenEncoder
from lstmkit.modules.heads import TokenHead
from lstmkit.modules.image_encoder import ImageEncoder, ImageGridEncoder, PixelNormalizer
from lstmkit.modules.pooling import build_pool
from lstmkit.modules.video_encoder import VideoEncoder, VideoGridEncoder
from lstmkit.training.train import optimizer_for
from timing import in_turns

Models = tuple[nn.Module, nn.Module]
Calls = tuple[Callable[[], Tensor], Callable[[], Tensor]]

VOCABULARY, WORDS, BEGIN = 1000, 12, 1
MEAN, STD = 110.0, 70.0


@dataclass(frozen=True)
class Case:
    """A model and its batch; an image has 0 frames."""

    name: str
    captions: bool  # else classes
    frames: int
    side: int
    widths: tuple[int, ...]
    features: int
    hidden: int
    batch: int

    @property
    def cells(self) -> int:
        """Cells of an image's or frame's grid."""
        return (self.side // 2 ** len(self.widths)) ** 2

    @property
    def keys(self) -> int:
        """Features per cell for the attention."""
        return self.features + (2 * self.hidden if self.frames else 0)


CASES = (
    Case("clips of 20 frames, classes", False, 20, 64, (16, 32, 64), 128, 128, 16),
    Case("pictures, captions", True, 0, 96, (16, 32, 64, 128), 128, 256, 32),
    Case("clips of 10 frames, captions", True, 10, 64, (16, 32, 64, 128), 128, 128, 16),
)


class Convolution(nn.Conv2d):
    """A convolution without bias, with standardized weights."""

    def __init__(self, size: int, output_size: int, stride: int) -> None:
        super().__init__(size, output_size, 3, stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        scale = torch.sqrt(centred.square().sum((1, 2, 3), keepdim=True) + 1e-6)
        return F.conv2d(x, centred / scale, None, self.stride, self.padding)


class Residual(nn.Module):
    """A residual block; named like ours, so that weights can be copied."""

    def __init__(self, size: int, output_size: int, stride: int) -> None:
        super().__init__()
        self.first = Convolution(size, output_size, stride)
        self.second = Convolution(output_size, output_size, 1)
        self.first_norm, self.second_norm = (nn.GroupNorm(min(8, output_size // 4), output_size) for _ in range(2))
        self.around = nn.Conv2d(size, output_size, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.around(x))


class Plain(nn.Module):
    """A residual network over pixels ``(N, H, W, 3)``."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = Convolution(3, widths[0], 2)
        self.stem_norm = nn.GroupNorm(min(8, widths[0] // 4), widths[0])
        sizes = zip((widths[0], *widths), widths, strict=False)
        self.stages = nn.Sequential(*(Residual(a, b, 1 + (i > 0)) for i, (a, b) in enumerate(sizes)))

    def forward(self, dots: Tensor) -> Tensor:
        x = (dots.permute(0, 3, 1, 2).float() - MEAN) / STD
        return self.stages(F.relu(self.stem_norm(self.stem(x.contiguous()))))


class PlainClips(nn.Module):
    """Clips to classes."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.pictures = Plain(case.widths)
        self.narrow, self.norm = nn.Linear(17 * case.widths[-1], case.features), nn.LayerNorm(case.features)
        self.trunk = nn.LSTM(case.features, case.hidden, batch_first=True, bidirectional=True)
        self.answer = nn.Linear(2 * case.hidden, 10)

    def forward(self, clips: Tensor) -> Tensor:
        grid = self.pictures(clips.flatten(0, 1))
        cells = torch.cat([F.adaptive_avg_pool2d(grid, 4).flatten(1), grid.amax((2, 3))], 1)
        features = F.relu(self.norm(self.narrow(cells))).unflatten(0, clips.shape[:2])
        return self.answer(self.trunk(features)[0].amax(1))


class PlainCaptions(nn.Module):
    """Images or clips to captions, with soft attention; an LSTM reads each cell of a clip over the frames."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.pictures, size = Plain(case.widths), case.features
        self.narrow, self.norm = nn.Linear(case.widths[-1], size), nn.LayerNorm(size)
        self.places = nn.Parameter(torch.zeros(case.cells, size))
        self.trunk = nn.LSTM(size, case.hidden, batch_first=True, bidirectional=True) if case.frames else None
        size = case.keys
        self.words = nn.Embedding(VOCABULARY, case.hidden)
        self.begin = nn.Linear(size, 2 * case.hidden)
        self.cell = nn.LSTMCell(case.hidden, case.hidden)
        self.query, self.key = nn.Linear(case.hidden, case.hidden), nn.Linear(size, case.hidden, bias=False)
        self.value = nn.Linear(case.hidden, 1, bias=False)
        self.combine = nn.Linear(case.hidden + size, case.hidden)
        self.bias = nn.Parameter(torch.zeros(VOCABULARY))

    def looked(self, dots: Tensor) -> Tensor:
        cells = self.norm(self.narrow(self.pictures(dots).flatten(2).transpose(1, 2)))
        return F.relu(cells + self.places)

    def read(self, dots: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        if self.trunk is None:
            cells = self.looked(dots)
        else:
            seen = self.looked(dots.flatten(0, 1)).unflatten(0, dots.shape[:2])  # (B, T, cells, size)
            followed = self.trunk(seen.transpose(1, 2).flatten(0, 1))[0].unflatten(0, (len(dots), -1)).transpose(1, 2)
            cells = torch.cat([seen, followed], -1).flatten(1, 2)
        hidden, memory = torch.tanh(self.begin(cells.mean(1))).chunk(2, 1)
        return cells, self.key(cells), (hidden, memory)

    def told(self, hidden: Tensor, cells: Tensor, keys: Tensor) -> Tensor:
        weights = self.value(torch.tanh(self.query(hidden).unsqueeze(1) + keys)).softmax(1)
        found = torch.tanh(self.combine(torch.cat([hidden, (weights * cells).sum(1)], 1)))
        return found @ self.words.weight.T + self.bias

    def loss(self, dots: Tensor, targets: Tensor) -> Tensor:
        cells, keys, state = self.read(dots)
        before = F.pad(targets[:, :-1], (1, 0), value=BEGIN)
        logits = []
        for word in self.words(before).unbind(1):
            state = self.cell(word, state)
            logits.append(self.told(state[0], cells, keys))
        return F.cross_entropy(torch.stack(logits, 1).flatten(0, 1), targets.flatten())

    def write(self, dots: Tensor) -> Tensor:
        cells, keys, state = self.read(dots)
        word, found = torch.full((len(dots),), BEGIN), []
        for _ in range(WORDS):
            state = self.cell(self.words(word), state)
            word = self.told(state[0], cells, keys).argmax(1)
            found.append(word)
        return torch.stack(found, 1)


def over(mine: nn.Module, theirs: nn.Module) -> None:
    """Copy the peer's weights into ours; those of an LSTM cell become a layer's."""
    weights = theirs.state_dict()
    if isinstance(theirs, nn.LSTMCell):
        weights = {f"{name}_l0": weight for name, weight in weights.items()}
    mine.load_state_dict(weights)


def clips(case: Case, plain: PlainClips) -> SequenceClassifier:
    """Ours, with the peer's weights."""
    encoder = VideoEncoder(PixelNormalizer([MEAN] * 3, [STD] * 3), ImageEncoder(3, case.widths), case.features)
    trunk = LSTM(case.features, case.hidden, batch_first=True, bidirectional=True)
    head = ClassificationHead(2 * case.hidden, 10, False, None, 0.0)
    for name in ("pictures", "narrow", "norm"):
        over(getattr(encoder, name), getattr(plain, name))
    over(trunk, plain.trunk)
    over(head.linear, plain.answer)
    return SequenceClassifier(encoder, trunk, build_pool("max", trunk.output_size, 2), head)


def captions(case: Case, plain: PlainCaptions) -> EncoderDecoder:
    """Ours, with the peer's weights."""
    hidden = case.hidden
    grid = ImageGridEncoder(
        PixelNormalizer([MEAN] * 3, [STD] * 3), ImageEncoder(3, case.widths), case.features, case.cells
    )
    encoder: nn.Module = grid
    if plain.trunk is not None:
        trunk = LSTM(case.features, hidden, batch_first=True, bidirectional=True)
        over(trunk, plain.trunk)
        encoder = VideoGridEncoder(grid, trunk)
    words, lower = TokenEncoder(VOCABULARY, hidden), LSTM(hidden, hidden, batch_first=True)
    attention = AdditiveAttention(hidden, case.keys, hidden)
    decoder = Decoder(words, lower, attention, None, case.keys, hidden)
    head = TokenHead(hidden, VOCABULARY, words.embedding)
    for name in ("pictures", "narrow", "norm"):
        over(getattr(grid, name), getattr(plain, name))
    for name in ("query", "key", "value"):
        over(getattr(attention, name), getattr(plain, name))
    for ours, theirs in (
        (words.embedding, plain.words),
        (lower, plain.cell),
        (decoder.lower_bridge.linear, plain.begin),
        (decoder.combine, plain.combine),
    ):
        over(ours, theirs)
    head.bias.data.copy_(plain.bias.data)
    return EncoderDecoder(encoder, None, decoder, head, BEGIN)


def written(model: EncoderDecoder, dots: Tensor) -> Tensor:
    """Greedy captions, ``(B, WORDS)``."""
    _, state = model(dots)
    word, found = torch.full((len(dots),), BEGIN), []
    for _ in range(WORDS):
        logits, state = model.step(word, state)
        word = logits.argmax(1)
        found.append(word)
    return torch.stack(found, 1)


def in_classes(case: Case, dots: Tensor) -> tuple[Models, Calls, Calls]:
    """Models, losses and predictions of ours and the peer, for clip classification."""
    peer, classes = PlainClips(case), torch.randint(10, (case.batch,))
    model, lengths = clips(case, peer), torch.full((case.batch,), case.frames)
    batch = Batch(dots, lengths, classes)
    losses = (lambda: model.loss(batch)[0], lambda: F.cross_entropy(peer(dots), classes))
    return (model, peer), losses, (lambda: model(dots, None, lengths)[0], lambda: peer(dots))


def in_captions(case: Case, dots: Tensor) -> tuple[Models, Calls, Calls]:
    """The same for captions."""
    peer, targets = PlainCaptions(case), torch.randint(2, VOCABULARY, (case.batch, WORDS))
    model, batch = captions(case, peer), Batch(dots, targets=targets)
    losses = (lambda: model.loss(batch)[0], lambda: peer.loss(dots, targets))
    return (model, peer), losses, (lambda: written(model, dots), lambda: peer.write(dots))


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """One row for training, one for prediction."""
    torch.manual_seed(0)
    shape = (case.batch, *([case.frames] if case.frames else []), case.side, case.side, 3)
    dots = torch.randint(0, 256, shape, dtype=torch.uint8)
    sides = in_captions(case, dots) if case.captions else in_classes(case, dots)
    (model, peer), losses, ask = sides
    count, unit = case.batch * max(1, case.frames), "frames" if case.frames else "pictures"
    model.eval(), peer.eval()
    predictors = tuple(torch.inference_mode()(one) for one in ask)
    torch.testing.assert_close(*(one() for one in predictors), rtol=1e-3, atol=1e-3)
    predicting = row(case, "predicting", count, in_turns(predictors, seconds), unit)
    model.train(), peer.train()
    both = (
        stepper(model, optimizer_for(model, AS_TRAINED), losses[0]),
        stepper(peer, torch.optim.AdamW(peer.parameters(), lr=AS_TRAINED.lr), losses[1]),
    )
    for _ in range(3):  # the losses of three steps depend on all gradients
        torch.testing.assert_close(*(step() for step in both), rtol=1e-3, atol=1e-3)
    return [row(case, "training", count, in_turns(both, seconds), unit), predicting]


if __name__ == "__main__":
    main(__doc__, CASES, measure, "images_and_video", "pictures")
