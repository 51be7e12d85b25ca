"""Handwriting models end to end, compared with plain torch.nn: same weights, same outputs, points per second.

A training step is forward, loss, backward, clipping and AdamW. Generation samples every point from the same noise.
The peer is the usual code: nn.LSTM, or with a text nn.LSTMCell and the soft window step by step. Its density is that of
torch.distributions' multivariate normal, with the bounds of lstmkit on standard deviations and correlations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from end_to_end import AS_TRAINED, main, row, stepper
from lstmkit import LSTM
from lstmkit.data.batch import Batch
from lstmkit.models.sequence import SequenceModel
from lstmkit.models.soft_window import SoftWindowModel
from lstmkit.modules.mixture_density import NOISE_SIZE, MixtureDensityHead
from lstmkit.modules.soft_window import SoftWindow
from lstmkit.training.optimization import optimizer_for
from timing import in_turns

GENERATED_POINTS = 64  # per repetition
FLOOR = 0.01
CHARACTERS = 27


@dataclass(frozen=True)
class Case:
    """A model and its batch; ``text`` is the number of characters, 0 for no text."""

    name: str
    hidden: int
    layers: int
    mixtures: int
    batch: int
    points: int
    text: int


CASES = (
    Case("Omniglot", 256, 2, 20, 64, 32, 0),
    Case("long drawings", 200, 3, 20, 16, 400, 0),
    Case("lines of a font, conditioned on text", 160, 2, 10, 32, 240, 12),
)


class Peer(nn.Module):
    """The peer: the equations of Graves (2013) in plain torch.nn."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case
        width, window = 3 + (CHARACTERS if case.text else 0), case.text > 0
        if window:
            self.cell = nn.LSTMCell(width, case.hidden)
            self.window = nn.Linear(case.hidden, 3 * 5)
            nn.init.constant_(self.window.bias[10:], math.log(0.05))
        first = width + case.hidden if window else width
        self.lstm = nn.LSTM(first, case.hidden, case.layers - window, batch_first=True)
        self.linear = nn.Linear(case.hidden * (1 + window), 6 * case.mixtures + 1 + (not window))

    def forward(self, x: Tensor, state: Any = None, text: Tensor | None = None) -> tuple[Tensor, Any]:
        if text is None:
            features, state = self.residual(x, state)
            return self.linear(features), state
        h, c, kappa, window, upper = state or (*x.new_zeros(2, len(x), self.case.hidden), 0.0, text[:, 0] * 0, None)
        lower_steps, windows = [], []
        positions = torch.arange(1, text.shape[1] + 1)
        for t in range(x.shape[1]):
            h, c = self.cell(torch.cat([x[:, t], window], -1), (h, c))
            alpha, beta, move = self.window(h).exp().chunk(3, -1)
            kappa = kappa + move
            phi = (alpha[..., None] * torch.exp(-beta[..., None] * (kappa[..., None] - positions) ** 2)).sum(1)
            window = (phi[:, None] @ text)[:, 0]
            lower_steps.append(h)
            windows.append(window)
        lower = torch.stack(lower_steps, 1)
        upper_features, upper = self.residual(torch.cat([x, lower, torch.stack(windows, 1)], -1), upper)
        return self.linear(torch.cat([lower, upper_features], -1)), (h, c, kappa, window, upper)

    def residual(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Layer by layer, with residual connections from the second layer on, which nn.LSTM does not have."""
        features, states = x, []
        for k in range(self.lstm.num_layers):
            weights = [getattr(self.lstm, f"{name}_l{k}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            zeros = x.new_zeros(1, len(x), self.case.hidden)
            out, h, c = torch.lstm(
                features, (zeros, zeros) if state is None else state[k], weights, True, 1, 0.0, False, False, True
            )
            features = out + features if k else out
            states.append((h, c))
        return features, states

    def nll(self, outputs: Tensor, points: Tensor) -> Tensor:
        logits, means, deviations, rho, rest = self.distribution(outputs)
        z = (points[..., None, :2] - means) / deviations
        distance = (z**2).sum(-1) - 2 * rho * z[..., 0] * z[..., 1]
        normal = torch.exp(-distance / (2 * (1 - rho**2))) / (
            2 * math.pi * deviations[..., 0] * deviations[..., 1] * torch.sqrt(1 - rho**2)
        )
        nll = -torch.log((logits.softmax(-1) * normal).sum(-1))
        nll = nll + F.binary_cross_entropy_with_logits(rest[..., 0], points[..., 2], reduction="none")
        if rest.shape[-1] > 1:
            end = F.binary_cross_entropy_with_logits(rest[..., 1], points[..., 3], reduction="none")
            nll = nll + points[..., 2] * end
        return nll

    def distribution(self, outputs: Tensor) -> tuple[Tensor, ...]:
        k = self.case.mixtures
        logits, means, spread, rho, rest = outputs.split([k, 2 * k, 2 * k, k, outputs.shape[-1] - 6 * k], -1)
        return (
            logits, means.unflatten(-1, (k, 2)), spread.unflatten(-1, (k, 2)).exp() + FLOOR, 0.999 * rho.tanh(), rest,
        )  # fmt: skip

    def sample(self, outputs: Tensor, noise: Tensor) -> Tensor:
        logits, means, deviations, rho, rest = self.distribution(outputs)
        k = int((logits.softmax(-1).cumsum(-1) < noise[0]).sum())
        first, second = torch.special.ndtri(noise[1:3])
        second = rho[k] * first + (1 - rho[k] ** 2).sqrt() * second
        return torch.stack(
            [
                means[k, 0] + deviations[k, 0] * first,
                means[k, 1] + deviations[k, 1] * second,
                (noise[3] < rest[0].sigmoid()).float(),
            ]
        )


def lstmkit_model(case: Case, peer: Peer) -> SequenceModel | SoftWindowModel:
    """The model of lstmkit with the weights of the peer."""
    head = MixtureDensityHead(peer.linear.in_features, case.mixtures, FLOOR, not case.text)
    stack = LSTM(peer.lstm.input_size, case.hidden, peer.lstm.num_layers, batch_first=True, residual=True)
    if case.text:
        lower = LSTM(3 + CHARACTERS, case.hidden, batch_first=True)
        lower.load_state_dict({f"{name}_l0": weight for name, weight in peer.cell.state_dict().items()})
        window = SoftWindow(case.hidden, 5)
        window.linear.load_state_dict(peer.window.state_dict())
        model: SequenceModel | SoftWindowModel = SoftWindowModel(CHARACTERS, lower, window, stack, head)
    else:
        model = SequenceModel(nn.Identity(), stack, head)
    stack.load_state_dict(peer.lstm.state_dict())
    head.linear.load_state_dict(peer.linear.state_dict())
    return model


def measure(case: Case, seconds: float) -> list[dict[str, Any]]:
    """One row for training, one for generation."""
    torch.manual_seed(0)
    peer = Peer(case)
    model = lstmkit_model(case, peer)
    inputs, targets = torch.randn(case.batch, case.points, 3), torch.randn(case.batch, case.points, 4)
    targets[..., 2:] = (targets[..., 2:] > 1).float()
    ids = torch.randint(1, CHARACTERS + 1, (case.batch, case.text))
    text = F.one_hot(F.pad(ids, (0, 1)), CHARACTERS + 1)[..., 1:].float() if case.text else None
    batch = Batch(inputs, targets=targets, extras={"text": ids} if case.text else {})

    def peer_loss() -> Tensor:
        return peer.nll(peer(inputs, text=text)[0], targets).mean()

    steppers = (
        stepper(model, optimizer_for(model, AS_TRAINED), lambda: model.loss(batch)[0]),
        stepper(peer, torch.optim.AdamW(peer.parameters(), lr=AS_TRAINED.lr), peer_loss),
    )
    for _ in range(3):  # the losses of three steps depend on all gradients
        torch.testing.assert_close(*(step() for step in steppers), rtol=1e-4, atol=1e-4)
    training = row(case, "training", case.batch * case.points, in_turns(steppers, seconds))

    model.load_state_dict(lstmkit_model(case, peer).state_dict())
    noise, head = torch.rand(GENERATED_POINTS, NOISE_SIZE), model.eval().head
    initial_state = model.initial_state(ids[:1]) if isinstance(model, SoftWindowModel) else None
    first_text = None if text is None else text[:1]
    generators = (
        generator(model.step, lambda outputs, u: head.mixture(outputs).draw(u)[:3], initial_state, noise),
        generator(lambda x, state: first_step(peer(x.unsqueeze(1), state, first_text)), peer.sample, None, noise),
    )
    torch.testing.assert_close(*(generate() for generate in generators), rtol=1e-3, atol=1e-3)
    return [training, row(case, "generation", GENERATED_POINTS, in_turns(generators, seconds))]


def first_step(result: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
    """Outputs of the first step, and the state."""
    return result[0][:, 0], result[1]


def generator(step: Any, sample: Any, initial_state: Any, noise: Tensor) -> Any:
    """A function that samples one drawing point by point."""

    @torch.inference_mode()
    def generate() -> Tensor:
        point, state, points = torch.zeros(3), initial_state, []
        for u in noise:
            outputs, state = step(point.unsqueeze(0), state)
            point = sample(outputs[0], u)
            points.append(point)
        return torch.stack(points)

    return generate


if __name__ == "__main__":
    main(__doc__, CASES, measure, "handwriting_synthesizer", "points")
