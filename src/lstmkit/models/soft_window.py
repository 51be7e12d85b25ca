"""Handwriting synthesis network: recurrent layers with a soft window over the text (Graves 2013, section 5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lstmkit.data.batch import Batch
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.layers.state import autocast_dtype
from lstmkit.models.base import Head, Model, State
from lstmkit.modules.soft_window import SoftWindow
from lstmkit.modules.soft_window_scan import can_scan, window_scan


class SoftWindowState(NamedTuple):
    """State of :class:`SoftWindowModel`.

    Attributes:
        text: ``(B, U + 1, C)`` one-hot characters, and a zero vector after the last.
        window: ``(B, C)`` the window vector of the last step.
        middles: ``(B, K)`` positions of the window's Gaussians.
        weights: ``(B, T, U + 1)`` window weights of each character at the steps of the last call.
        lower, upper: States of the recurrent layers below and above the window.
    """

    text: Tensor
    window: Tensor
    middles: Tensor
    weights: Tensor
    lower: State
    upper: State


class SoftWindowModel(Model):
    """A sequence model conditioned on a text through a soft window.

    Graves 2013, arXiv:1308.0850, section 5: the lower layer reads the point and the window of the previous step. The
    upper layers read the point, the lower layer's output and the window. The head reads the lower and the top layer.

    Args:
        characters: Number of known characters; id 0 stands for any other.
        lower: Recurrent layer, batch first, with one layer and ``F + characters`` features.
        window: Soft window of the lower layer's width.
        upper: Recurrent layers of ``F + lower.output_size + characters`` features; ``None`` for none.
        head: Maps features, of the lower layer's width plus the upper's, to outputs.
    """

    def __init__(
        self, characters: int, lower: RecurrentLayer, window: SoftWindow, upper: RecurrentLayer | None, head: Head
    ) -> None:
        super().__init__()
        self.characters, self.lower, self.window, self.upper = characters, lower, window, upper
        self.head: Head = head

    def initial_state(self, text: Tensor) -> SoftWindowState:
        """The initial state for ``text (B, U)``, character ids padded with 0."""
        weight = next(self.window.parameters())
        one_hot = F.one_hot(F.pad(text, (0, 1)), self.characters + 1)[..., 1:].to(weight.dtype)
        no_weights = one_hot.new_zeros(text.shape[0], 0, one_hot.shape[1])
        middles = one_hot.new_zeros(text.shape[0], self.window.components)
        return SoftWindowState(one_hot, torch.zeros_like(one_hot[:, 0]), middles, no_weights, None, None)

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Inputs ``(B, T, F)`` and a state, at first :meth:`initial_state`, to the head's outputs and the new state."""
        assert state is not None
        fused = self.training and can_scan(self.lower) and autocast_dtype(inputs) is None
        run_lower = self._run_fused if fused else self._run_stepwise
        features, windows, state = run_lower(inputs, SoftWindowState(*state))
        upper = state.upper
        if self.upper is not None:
            upper_features, upper = self.upper(torch.cat([inputs, features, windows], -1), upper, lengths)
            features = torch.cat([features, upper_features], -1)
        return self.head(features), state._replace(upper=upper)

    def _run_stepwise(self, inputs: Tensor, state: SoftWindowState) -> tuple[Tensor, Tensor, SoftWindowState]:
        """Output of the lower layer, window vectors and new state, with one call of the layer per step."""
        text, window, middles, _, lower, upper = state
        hidden_steps, windows, weights = [], [], []
        for x in inputs.split(1, dim=1):
            hidden, lower = self.lower(torch.cat([x, window.unsqueeze(1)], -1), lower)
            window, middles, step_weights = self.window(hidden[:, 0], middles, text)
            hidden_steps.append(hidden)
            windows.append(window)
            weights.append(step_weights)
        after = SoftWindowState(text, window, middles, torch.stack(weights, 1), lower, upper)
        return torch.cat(hidden_steps, 1), torch.stack(windows, 1), after

    def _run_fused(self, inputs: Tensor, state: SoftWindowState) -> tuple[Tensor, Tensor, SoftWindowState]:
        """The same as :meth:`_run_stepwise`, with a faster backward pass."""
        scan = window_scan(self.lower, self.window, inputs, state.text, state.window, state.middles, state.lower)
        hidden, windows, cell, middles, weights = scan
        lower = (hidden[:, -1].unsqueeze(0), cell.unsqueeze(0))
        return hidden, windows, SoftWindowState(state.text, windows[:, -1], middles, weights, lower, state.upper)

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """Mean loss of the head; ``batch.extras["text"] (B, U)`` has the character ids of the text."""
        outputs, state = self(batch.inputs, state or self.initial_state(batch.extras["text"]), batch.lengths)
        return self.head.loss(outputs, batch), state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """``(B, F)`` to outputs ``(B, outputs)``, and the new state."""
        outputs, state = self(inputs.unsqueeze(1), state)
        return outputs[:, 0], state


def reached_end_of_text(state: SoftWindowState) -> bool:
    """Whether the window of the first text has moved past its last character (Graves 2013, section 5.3)."""
    return int(state.weights[0, -1].argmax()) == state.weights.shape[-1] - 1
