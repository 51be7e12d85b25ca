"""Images and video end to end, compared with plain torch.nn: same weights, same outputs, frames or images per second.

A training step is forward from pixels, loss, backward, gradient clipping and AdamW. Prediction is a class, or a caption
by greedy search. The peer is the usual code: nn.Conv2d with standardized weights, nn.GroupNorm, nn.LSTM and
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
from lstmkit.training.optimization import optimizer_for
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
    Case("classification, clips of 20 frames", False, 20, 64, (16, 32, 64), 128, 128, 16),
    Case("captioning, images", True, 0, 96, (16, 32, 64, 128), 128, 256, 32),
    Case("captioning, clips of 10 frames", True, 10, 64, (16, 32, 64, 128), 128, 128, 16),
)


class Convolution(nn.Conv2d):
    """A convolution without bias, with standardized weights."""

    def __init__(self, size: int, output_size: int, stride: int) -> None:
        super().__init__(size, output_size, 3, stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        centered = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        scale = torch.sqrt(centered.square().sum((1, 2, 3), keepdim=True) + 1e-6)
        return F.conv2d(x, centered / scale, None, self.stride, self.padding)


class Residual(nn.Module):
    """A residual block, with the parameter names of lstmkit, so that weights can be copied."""

    def __init__(self, size: int, output_size: int, stride: int) -> None:
        super().__init__()
        self.first = Convolution(size, output_size, stride)
        self.second = Convolution(output_size, output_size, 1)
        self.first_norm, self.second_norm = (nn.GroupNorm(min(8, output_size // 4), output_size) for _ in range(2))
        self.around = nn.Conv2d(size, output_size, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.around(x))


class PeerImageEncoder(nn.Module):
    """The peer's image encoder: a residual network over pixels ``(N, H, W, 3)``."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = Convolution(3, widths[0], 2)
        self.stem_norm = nn.GroupNorm(min(8, widths[0] // 4), widths[0])
        sizes = zip((widths[0], *widths), widths, strict=False)
        self.stages = nn.Sequential(*(Residual(a, b, 1 + (i > 0)) for i, (a, b) in enumerate(sizes)))

    def forward(self, pixels: Tensor) -> Tensor:
        x = (pixels.permute(0, 3, 1, 2).float() - MEAN) / STD
        return self.stages(F.relu(self.stem_norm(self.stem(x.contiguous()))))


class PeerClassifier(nn.Module):
    """The peer for classification: clips to classes."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.pictures = PeerImageEncoder(case.widths)
        self.narrow, self.norm = nn.Linear(17 * case.widths[-1], case.features), nn.LayerNorm(case.features)
        self.trunk = nn.LSTM(case.features, case.hidden, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * case.hidden, 10)

    def forward(self, clips: Tensor) -> Tensor:
        grid = self.pictures(clips.flatten(0, 1))
        cells = torch.cat([F.adaptive_avg_pool2d(grid, 4).flatten(1), grid.amax((2, 3))], 1)
        features = F.relu(self.norm(self.narrow(cells))).unflatten(0, clips.shape[:2])
        return self.output(self.trunk(features)[0].amax(1))


class PeerCaptioner(nn.Module):
    """The peer for captioning, with soft attention; an LSTM reads each grid cell of a clip over the frames."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.pictures, size = PeerImageEncoder(case.widths), case.features
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

    def encode_images(self, pixels: Tensor) -> Tensor:
        cells = self.norm(self.narrow(self.pictures(pixels).flatten(2).transpose(1, 2)))
        return F.relu(cells + self.places)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        if self.trunk is None:
            cells = self.encode_images(pixels)
        else:
            grids = self.encode_images(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])  # (B, T, cells, size)
            traced = self.trunk(grids.transpose(1, 2).flatten(0, 1))[0].unflatten(0, (len(pixels), -1)).transpose(1, 2)
            cells = torch.cat([grids, traced], -1).flatten(1, 2)
        hidden, memory = torch.tanh(self.begin(cells.mean(1))).chunk(2, 1)
        return cells, self.key(cells), (hidden, memory)

    def logits(self, hidden: Tensor, cells: Tensor, keys: Tensor) -> Tensor:
        weights = self.value(torch.tanh(self.query(hidden).unsqueeze(1) + keys)).softmax(1)
        combined = torch.tanh(self.combine(torch.cat([hidden, (weights * cells).sum(1)], 1)))
        return combined @ self.words.weight.T + self.bias

    def loss(self, pixels: Tensor, targets: Tensor) -> Tensor:
        cells, keys, state = self.encode(pixels)
        before = F.pad(targets[:, :-1], (1, 0), value=BEGIN)
        steps = []
        for word in self.words(before).unbind(1):
            state = self.cell(word, state)
            steps.append(self.logits(state[0], cells, keys))
        return F.cross_entropy(torch.stack(steps, 1).flatten(0, 1), targets.flatten())

    def caption(self, pixels: Tensor) -> Tensor:
        cells, keys, state = self.encode(pixels)
        word, words = torch.full((len(pixels),), BEGIN), []
        for _ in range(WORDS):
            state = self.cell(self.words(word), state)
            word = self.logits(state[0], cells, keys).argmax(1)
            words.append(word)
        return torch.stack(words, 1)


def copy_weights(module: nn.Module, peer: nn.Module) -> None:
    """Copy the weights of the peer into a module of lstmkit; those of an LSTM cell become a layer's."""
    weights = peer.state_dict()
    if isinstance(peer, nn.LSTMCell):
        weights = {f"{name}_l0": weight for name, weight in weights.items()}
    module.load_state_dict(weights)


def lstmkit_classifier(case: Case, peer: PeerClassifier) -> SequenceClassifier:
    """The model of lstmkit with the weights of the peer."""
    encoder = VideoEncoder(PixelNormalizer([MEAN] * 3, [STD] * 3), ImageEncoder(3, case.widths), case.features)
    trunk = LSTM(case.features, case.hidden, batch_first=True, bidirectional=True)
    head = ClassificationHead(2 * case.hidden, 10, False, None, 0.0)
    for name in ("pictures", "narrow", "norm"):
        copy_weights(getattr(encoder, name), getattr(peer, name))
    copy_weights(trunk, peer.trunk)
    copy_weights(head.linear, peer.output)
    return SequenceClassifier(encoder, trunk, build_pool("max", trunk.output_size, 2), head)


def lstmkit_captioner(case: Case, peer: PeerCaptioner) -> EncoderDecoder:
    """The model of lstmkit with the weights of the peer."""
    hidden = case.hidden
    grid = ImageGridEncoder(
        PixelNormalizer([MEAN] * 3, [STD] * 3), ImageEncoder(3, case.widths), case.features, case.cells
    )
    encoder: nn.Module = grid
    if peer.trunk is not None:
        trunk = LSTM(case.features, hidden, batch_first=True, bidirectional=True)
        copy_weights(trunk, peer.trunk)
        encoder = VideoGridEncoder(grid, trunk)
    words, lower = TokenEncoder(VOCABULARY, hidden), LSTM(hidden, hidden, batch_first=True)
    attention = AdditiveAttention(hidden, case.keys, hidden)
    decoder = Decoder(words, lower, attention, None, case.keys, hidden)
    head = TokenHead(hidden, VOCABULARY, words.embedding)
    for name in ("pictures", "narrow", "norm"):
        copy_weights(getattr(grid, name), getattr(peer, name))
    for name in ("query", "key", "value"):
        copy_weights(getattr(attention, name), getattr(peer, name))
    for module, peer_module in (
        (words.embedding, peer.words),
        (lower, peer.cell),
        (decoder.lower_bridge.linear, peer.begin),
        (decoder.combine, peer.combine),
    ):
        copy_weights(module, peer_module)
    head.bias.data.copy_(peer.bias.data)
    return EncoderDecoder(encoder, None, decoder, head, BEGIN)


def greedy_captions(model: EncoderDecoder, pixels: Tensor) -> Tensor:
    """Greedy captions, ``(B, WORDS)``."""
    _, state = model(pixels)
    word, words = torch.full((len(pixels),), BEGIN), []
    for _ in range(WORDS):
        logits, state = model.step(word, state)
        word = logits.argmax(1)
        words.append(word)
    return torch.stack(words, 1)


def classification(case: Case, pixels: Tensor) -> tuple[Models, Calls, Calls]:
    """Models, losses and predictions of lstmkit and the peer, for clip classification."""
    peer, classes = PeerClassifier(case), torch.randint(10, (case.batch,))
    model, lengths = lstmkit_classifier(case, peer), torch.full((case.batch,), case.frames)
    batch = Batch(pixels, lengths, classes)
    losses = (lambda: model.loss(batch)[0], lambda: F.cross_entropy(peer(pixels), classes))
    return (model, peer), losses, (lambda: model(pixels, None, lengths)[0], lambda: peer(pixels))


def captioning(case: Case, pixels: Tensor) -> tuple[Models, Calls, Calls]:
    """Models, losses and predictions of lstmkit and the peer, for captioning."""
    peer, targets = PeerCaptioner(case), torch.randint(2, VOCABULARY, (case.batch, WORDS))
    model, batch = lstmkit_captioner(case, peer), Batch(pixels, targets=targets)
    losses = (lambda: model.loss(batch)[0], lambda: peer.loss(pixels, targets))
    return (model, peer), losses, (lambda: greedy_captions(model, pixels), lambda: peer.caption(pixels))


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """One row for training, one for prediction."""
    torch.manual_seed(0)
    shape = (case.batch, *([case.frames] if case.frames else []), case.side, case.side, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
    prepare = captioning if case.captions else classification
    (model, peer), losses, forward = prepare(case, pixels)
    count, unit = case.batch * max(1, case.frames), "frames" if case.frames else "images"
    model.eval(), peer.eval()
    predictors = tuple(torch.inference_mode()(call) for call in forward)
    torch.testing.assert_close(*(predict() for predict in predictors), rtol=1e-3, atol=1e-3)
    prediction = row(case, "prediction", count, in_turns(predictors, seconds), unit)
    model.train(), peer.train()
    steppers = (
        stepper(model, optimizer_for(model, AS_TRAINED), losses[0]),
        stepper(peer, torch.optim.AdamW(peer.parameters(), lr=AS_TRAINED.lr), losses[1]),
    )
    for _ in range(3):  # the losses of three steps depend on all gradients
        torch.testing.assert_close(*(step() for step in steppers), rtol=1e-3, atol=1e-3)
    return [row(case, "training", count, in_turns(steppers, seconds), unit), prediction]


if __name__ == "__main__":
    main(__doc__, CASES, measure, "images_and_video", "images")
