"""Recurrent layer → soft window over a text → recurrent layers → head. Keeps the contract of ``model.py``."""

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
    """Where in its text a hand is.

    Attributes:
        text: ``(B, U + 1, C)``: a vector for each character, and one of zeros after the last.
        window: ``(B, C)``: what of it is read.
        middles: ``(B, K)`` of the window's components.
        weights: ``(B, T, U + 1)``: how much of each character was read at the steps of the last call.
        lower, upper: States of the recurrent layers below and above the window.
    """

    text: Tensor
    window: Tensor
    middles: Tensor
    weights: Tensor
    lower: State
    upper: State


class SoftWindowModel(Model):
    """One sequence in, one answer a step out, a text beside it that is read as it goes on.

    Graves 2013, arXiv:1308.0850, section 5: the lower layer reads the point and the window of the step before, the
    upper ones the point, the lower layer and its window; the head sees the lower layer and the topmost.

    Args:
        characters: How many different ones there are; 0 stands for any other.
        lower: Recurrent layer, batch first, of one layer: ``F + characters`` features.
        window: Of the lower layer's width.
        upper: Recurrent layers of ``F + lower.output_size + characters`` features; ``None`` for none.
        head: :attr:`output_size` features to outputs, with ``loss(outputs, batch)``.
    """

    def __init__(
        self, characters: int, lower: RecurrentLayer, window: SoftWindow, upper: RecurrentLayer | None, head: Head
    ) -> None:
        super().__init__()
        self.characters, self.lower, self.window, self.upper = characters, lower, window, upper
        self.head: Head = head

    def begin(self, text: Tensor) -> SoftWindowState:
        """Before the first step: ``text (B, U)``, characters by number, filled up with 0."""
        weight = next(self.parameters())
        vectors = F.one_hot(F.pad(text, (0, 1)), self.characters + 1)[..., 1:].to(weight.dtype)
        none = vectors.new_zeros(len(text), 0, vectors.shape[1])
        middles = vectors.new_zeros(len(text), self.window.components)
        return SoftWindowState(vectors, torch.zeros_like(vectors[:, 0]), middles, none, None, None)

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """``(B, T, F)`` and the state, at first of :meth:`begin`, to outputs as the head has them, and the state."""
        assert state is not None
        scans = self.training and can_scan(self.lower) and autocast_dtype(inputs) is None
        features, windows, state = (self._scanned if scans else self._stepped)(inputs, SoftWindowState(*state))
        upper = state.upper
        if self.upper is not None:
            above, upper = self.upper(torch.cat([inputs, features, windows], -1), upper, lengths)
            features = torch.cat([features, above], -1)
        return self.head(features), state._replace(upper=upper)

    def _stepped(self, inputs: Tensor, state: SoftWindowState) -> tuple[Tensor, Tensor, SoftWindowState]:
        """The lower layer's output, what the window read, and the state below: a call of the layer a step."""
        text, window, middles, _, lower, upper = state
        below, windows, weights = [], [], []
        for x in inputs.split(1, dim=1):
            hidden, lower = self.lower(torch.cat([x, window.unsqueeze(1)], -1), lower)
            window, middles, read = self.window(hidden[:, 0], middles, text)
            below.append(hidden)
            windows.append(window)
            weights.append(read)
        after = SoftWindowState(text, window, middles, torch.stack(weights, 1), lower, upper)
        return torch.cat(below, 1), torch.stack(windows, 1), after

    def _scanned(self, inputs: Tensor, state: SoftWindowState) -> tuple[Tensor, Tensor, SoftWindowState]:
        """The same numbers, whose gradients come sooner."""
        found = window_scan(self.lower, self.window, inputs, state.text, state.window, state.middles, state.lower)
        hidden, windows, cell, middles, weights = found
        lower = (hidden[:, -1].unsqueeze(0), cell.unsqueeze(0))
        return hidden, windows, SoftWindowState(state.text, windows[:, -1], middles, weights, lower, state.upper)

    def loss(self, batch: Batch, state: State | None = None) -> tuple[Tensor, State]:
        """``batch.extras["text"] (B, U)`` is what is written."""
        outputs, state = self(batch.inputs, state or self.begin(batch.extras["text"]), batch.lengths)
        return self.head.loss(outputs, batch), state

    def step(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """``(B, F) -> (B, outputs)``."""
        outputs, state = self(inputs.unsqueeze(1), state)
        return outputs[:, 0], state


def reached_end_of_text(state: SoftWindowState) -> bool:
    """Whether of one text what comes after its last character is read more than any of its characters (section 5.3)."""
    return int(state.weights[0, -1].argmax()) == state.weights.shape[-1] - 1
