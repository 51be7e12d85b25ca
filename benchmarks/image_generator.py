"""Image generation (DRAW) end to end, compared with plain torch.nn: same weights, same outputs, images per second.

A training step is forward, ELBO, backward, gradient clipping and AdamW. Generation samples new images from the same
noise. The peer is the usual code: nn.LSTMCell and the equations of the paper.
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
from lstmkit.models.draw import DrawModel
from lstmkit.modules.draw_attention import DrawReader, DrawWriter
from lstmkit.training.optimization import optimizer_for
from timing import in_turns

SIDE = 28


@dataclass(frozen=True)
class Case:
    """A model and its batch."""

    name: str
    hidden: int
    latent: int
    steps: int
    window: int
    batch: int


CASES = (
    Case("16 glimpses", 128, 24, 16, 5, 100),
    Case("64 glimpses (as in the paper)", 256, 100, 64, 5, 100),
)


class Peer(nn.Module):
    """The peer: DRAW in plain torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case, n = case, case.window
        self.encoder = nn.LSTMCell(2 * n * n + case.hidden, case.hidden)
        self.decoder = nn.LSTMCell(case.latent, case.hidden)
        self.read_parameters, self.write_parameters = nn.Linear(case.hidden, 5), nn.Linear(case.hidden, 5)
        self.posterior, self.patch = nn.Linear(case.hidden, 2 * case.latent), nn.Linear(case.hidden, n * n)
        self.blank, self.start = nn.Parameter(torch.zeros(SIDE, SIDE)), nn.Parameter(torch.zeros(case.hidden))

    def window(self, linear: nn.Linear, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n = self.case.window
        gx, gy, log_variance, log_stride, log_gamma = linear(hidden).split(1, 1)
        stride = (SIDE - 1) / (n - 1) * log_stride.exp()
        variance = log_variance.exp()[..., None]
        banks = []
        for g in (gy, gx):
            mu = (SIDE + 1) / 2 * (g + 1) + (torch.arange(1, n + 1) - n / 2 - 0.5) * stride
            bank = torch.exp(-((torch.arange(1, SIDE + 1) - mu[..., None]) ** 2) / (2 * variance))
            banks.append(bank / bank.sum(-1, keepdim=True).clamp(min=1e-8))
        return banks[0], banks[1], log_gamma.exp()

    def begin(self, count: int) -> tuple[Tensor, Tensor, Any, Any]:
        return self.blank.expand(count, SIDE, SIDE), self.start.expand(count, -1), None, None

    def write(self, latent: Tensor, canvas: Tensor, decoder: Any) -> tuple[Tensor, Any]:
        decoder = self.decoder(latent, decoder)
        fy, fx, gamma = self.window(self.write_parameters, decoder[0])
        patch = self.patch(decoder[0]).view(-1, self.case.window, self.case.window)
        return canvas + fy.transpose(1, 2) @ patch @ fx / gamma[..., None], decoder

    def bound(self, x: Tensor, noise: Tensor) -> Tensor:
        canvas, hidden, encoder, decoder = self.begin(len(x))
        cost = x.new_zeros(len(x))
        for epsilon in noise.unbind(1):
            fy, fx, gamma = self.window(self.read_parameters, hidden)
            glimpses = [(fy @ image @ fx.transpose(1, 2)).flatten(1) * gamma for image in (x, x - canvas.sigmoid())]
            encoder = self.encoder(torch.cat([*glimpses, hidden], 1), encoder)
            mean, log_std = self.posterior(encoder[0]).chunk(2, 1)
            cost = cost + 0.5 * (mean**2 + (2 * log_std).exp() - 2 * log_std - 1).sum(1)
            canvas, decoder = self.write(mean + log_std.exp() * epsilon, canvas, decoder)
            hidden = decoder[0]
        return (F.binary_cross_entropy_with_logits(canvas, x, reduction="none").sum((1, 2)) + cost).mean()

    def generate(self, noise: Tensor) -> Tensor:
        canvas, _, _, decoder = self.begin(len(noise))
        for latent in noise.unbind(1):
            canvas, decoder = self.write(latent, canvas, decoder)
        return canvas


def lstmkit_model(case: Case, peer: Peer) -> DrawModel:
    """The model of lstmkit with the weights of the peer."""
    n, hidden = case.window, case.hidden
    encoder = LSTM(2 * n * n + hidden, hidden, batch_first=True)
    decoder = LSTM(case.latent, hidden, batch_first=True)
    reader, writer = DrawReader(hidden, SIDE, SIDE, n), DrawWriter(hidden, SIDE, SIDE, n)
    model = DrawModel(reader, encoder, decoder, writer, (SIDE, SIDE), case.latent, case.steps, binarize=False)
    for layer, cell in ((encoder, peer.encoder), (decoder, peer.decoder)):
        layer.load_state_dict({f"{name}_l0": weight for name, weight in cell.state_dict().items()})
    for module, peer_module in (
        (reader.linear, peer.read_parameters),
        (writer.linear, peer.write_parameters),
        (writer.patch, peer.patch),
        (model.guess, peer.posterior),
    ):
        module.load_state_dict(peer_module.state_dict())
    model.blank.data.copy_(peer.blank.data)
    model.start.data.copy_(peer.start.data)
    return model


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """One row for training, one for generation."""
    torch.manual_seed(0)
    peer = Peer(case)
    model = lstmkit_model(case, peer)
    images = torch.rand(case.batch, SIDE, SIDE).round()
    noise = torch.randn(case.batch, case.steps, case.latent)

    def bound() -> Tensor:
        return torch.stack(model.elbo_terms(images, model.initial_state(case.batch), noise)).sum(0).mean()

    steppers = (
        stepper(model, optimizer_for(model, AS_TRAINED), bound),
        stepper(peer, torch.optim.AdamW(peer.parameters(), lr=AS_TRAINED.lr), lambda: peer.bound(images, noise)),
    )
    for _ in range(3):  # the losses of three steps depend on all gradients
        torch.testing.assert_close(*(step() for step in steppers), rtol=1e-4, atol=1e-2)
    training = row(case, "training", case.batch, in_turns(steppers, seconds))
    model.load_state_dict(lstmkit_model(case, peer).state_dict())
    assert model.loss(Batch(images))[0].isfinite()

    @torch.inference_mode()
    def generate() -> Tensor:
        return model.eval().generate(noise, model.initial_state(len(noise)))[0][:, -1]

    generators = (generate, torch.inference_mode()(lambda: peer.generate(noise)))
    torch.testing.assert_close(*(run() for run in generators), rtol=1e-3, atol=1e-3)
    return [training, row(case, "generation", case.batch, in_turns(generators, seconds))]


if __name__ == "__main__":
    main(__doc__, CASES, measure, "image_generator", "images")
