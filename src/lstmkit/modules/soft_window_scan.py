"""An LSTM and the soft window that it moves over a text, step by step and back, with one product for all weights.

What the window reads at a step is an input of the next, so that no step can begin before the last is done. What can
wait for the end is the weights' share of the gradient: of all steps at once, where autograd adds it up step by step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lstmkit.cells import CellSpec
from lstmkit.layers.recurrent import RecurrentLayer
from lstmkit.modules.soft_window import SoftWindow


class ScanOutput(NamedTuple):
    """What came of a scan.

    Attributes:
        hidden: ``(B, T, H)``.
        windows: ``(B, T, C)``.
        cell: ``(B, H)``, the last step's.
        middles: ``(B, K)``, the last step's.
        weights: ``(B, T, U)``: how much of each character was read; without gradients.
    """

    hidden: Tensor
    windows: Tensor
    cell: Tensor
    middles: Tensor
    weights: Tensor


def can_scan(lower: RecurrentLayer) -> bool:
    """Whether a layer is one plain LSTM without noise."""
    noise = lower.zoneout or lower.recurrent_dropout or lower.weight_drop
    return lower.specs == (CellSpec("lstm", lower.input_size, lower.hidden_size),) and not noise


def window_scan(
    lower: RecurrentLayer, window: SoftWindow, x: Tensor, text: Tensor, read: Tensor, middles: Tensor, state: Any
) -> ScanOutput:
    """All steps of a layer of which :func:`can_scan` holds and its window.

    Args:
        lower: Of features ``F + C``.
        window: Of its width.
        x: ``(B, T, F)``.
        text: ``(B, U, C)``, which gets no gradient.
        read: ``(B, C)``, the window of the step before.
        middles: ``(B, K)``, likewise.
        state: The layer's, ``h`` and ``c`` of ``(1, B, H)``; ``None`` for zeros.
    """
    (w_ih, w_hh, b_ih, b_hh), size = lower.weights(0, 0).values(), x.shape[-1]
    gates = F.linear(x, w_ih[:, :size], b_ih + b_hh).transpose(0, 1)
    back = torch.cat([w_hh, w_ih[:, size:]], 1)
    h, c = (s[0] for s in state) if state is not None else x.new_zeros(2, len(x), lower.hidden_size).unbind()
    linear = window.linear
    found = _Scan.apply(gates, back, linear.weight, linear.bias, text, torch.cat([h, read], 1), c, middles)
    fed, cell, middles, weights = found  # type: ignore[misc]
    hidden, windows = fed.transpose(0, 1).split([lower.hidden_size, text.shape[2]], -1)
    return ScanOutput(hidden, windows, cell, middles, weights.transpose(0, 1))


class _Scan(torch.autograd.Function):
    """Gates' shares ``(T, B, 4H)`` and what the first step is fed, ``[h, w]``, to ``[h, w] (T, B, H + C)`` of all."""

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, back: Tensor, weight: Tensor, bias: Tensor, text: Tensor, fed: Tensor, c: Tensor,
        middles: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        places = torch.arange(1, text.shape[1] + 1, device=text.device, dtype=text.dtype)
        all_fed, squashed, cells, moves, away, heights = [fed], [], [c], [], [], []
        for share in gates:
            i, f, g, o = torch.addmm(share, all_fed[-1], back.t()).chunk(4, -1)
            i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
            c = f * c + i * g
            h = o * c.tanh()
            move = torch.addmm(bias, h, weight.t()).exp()
            height, narrow, step = move.chunk(3, -1)
            middles = middles + step
            distance = middles.unsqueeze(-1) - places
            each = height.unsqueeze(-1) * (-narrow.unsqueeze(-1) * distance.square()).exp()
            read = torch.bmm(each.sum(1, keepdim=True), text)[:, 0]
            all_fed.append(torch.cat([h, read], 1))
            squashed.append(torch.cat([i, f, g, o], 1))
            cells.append(c)
            moves.append(move)
            away.append(distance)
            heights.append(each)
        kept = [torch.stack(each) for each in (all_fed, squashed, cells, moves, away, heights)]
        ctx.save_for_backward(back, weight, text, *kept)
        weights = kept[-1].sum(2)
        ctx.mark_non_differentiable(weights)
        return kept[0][1:], c, middles, weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # type: ignore[override]
        d_fed, d_c, d_middles, _ = grads
        back, weight, text, fed, squashed, cells, moves, away, heights = ctx.saved_tensors
        size = weight.shape[1]
        d_gates, d_moves = torch.empty_like(squashed), torch.empty_like(moves)
        d_next = torch.zeros_like(fed[0])
        for t in range(len(squashed) - 1, -1, -1):
            d_h, d_read = (d_fed[t] + d_next).split([size, text.shape[2]], -1)
            # The window: of the logarithms of heights and widths, and of the middles.
            _, narrow, step = moves[t].chunk(3, -1)
            each = torch.bmm(d_read.unsqueeze(1), text.transpose(1, 2)) * heights[t]
            far = each * away[t]
            d_middles = d_middles - 2 * narrow * far.sum(-1)
            d_moves[t] = torch.cat([each.sum(-1), -narrow * (far * away[t]).sum(-1), d_middles * step], -1)
            d_h = torch.addmm(d_h, d_moves[t], weight)
            # The cell.
            i, f, g, o = squashed[t].chunk(4, -1)
            out = cells[t + 1].tanh()
            d_c = d_c + d_h * o * (1 - out.square())
            slopes = (d_c * g * i * (1 - i), d_c * cells[t] * f * (1 - f), d_c * i * (1 - g.square()))
            d_gates[t] = torch.cat([*slopes, d_h * out * o * (1 - o)], 1)
            d_c = d_c * f
            d_next = d_gates[t] @ back
        d_back = d_gates.flatten(0, 1).t() @ fed[:-1].flatten(0, 1)
        d_weight = d_moves.flatten(0, 1).t() @ fed[1:, :, :size].flatten(0, 1)
        return d_gates, d_back, d_weight, d_moves.sum((0, 1)), None, d_next, d_c, d_middles
