"""Fused forward and backward pass of an LSTM with a soft window.

The window vector of a step is an input of the next step, so the steps run one after another. The backward pass computes
the gradients of the weights for all steps in one product, while autograd would add them up step by step.
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
    """Output of :func:`window_scan`.

    Attributes:
        hidden: ``(B, T, H)`` hidden states.
        windows: ``(B, T, C)`` window vectors.
        cell: ``(B, H)`` last cell state.
        middles: ``(B, K)`` last centers of the window.
        weights: ``(B, T, U)`` weight of each character, without gradients.
    """

    hidden: Tensor
    windows: Tensor
    cell: Tensor
    middles: Tensor
    weights: Tensor


def can_scan(lower: RecurrentLayer) -> bool:
    """Whether the layer is a single standard LSTM without zoneout, recurrent dropout and weight drop."""
    noise = lower.zoneout or lower.recurrent_dropout or lower.weight_drop
    return lower.specs == (CellSpec("lstm", lower.input_size, lower.hidden_size),) and not noise


def window_scan(
    lower: RecurrentLayer, window: SoftWindow, x: Tensor, text: Tensor, read: Tensor, middles: Tensor, state: Any
) -> ScanOutput:
    """Run all steps of a layer and its soft window.

    Args:
        lower: A layer that :func:`can_scan`, with ``F + C`` features.
        window: Soft window of the layer's width.
        x: ``(B, T, F)`` inputs.
        text: ``(B, U, C)`` character vectors; they get no gradient.
        read: ``(B, C)`` window vector of the previous step.
        middles: ``(B, K)`` centers of the previous step.
        state: State of the layer, ``h`` and ``c`` ``(1, B, H)``; ``None`` for zeros.
    """
    (w_ih, w_hh, b_ih, b_hh), size = lower.weights(0, 0).values(), x.shape[-1]
    gates = F.linear(x, w_ih[:, :size], b_ih + b_hh).transpose(0, 1)
    feedback_weight = torch.cat([w_hh, w_ih[:, size:]], 1)
    h, c = (s[0] for s in state) if state is not None else x.new_zeros(2, x.shape[0], lower.hidden_size).unbind()
    linear = window.linear
    feedback = torch.cat([h, read], 1)
    outputs = _Scan.apply(gates, feedback_weight, linear.weight, linear.bias, text, feedback, c, middles)
    fed, cell, middles, weights = outputs  # type: ignore[misc]
    hidden, windows = fed.transpose(0, 1).split([lower.hidden_size, text.shape[2]], -1)
    return ScanOutput(hidden, windows, cell, middles, weights.transpose(0, 1))


class _Scan(torch.autograd.Function):
    """Input projections ``(T, B, 4H)`` and initial feedback ``[h, window]`` to that of all steps ``(T, B, H + C)``."""

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, back: Tensor, weight: Tensor, bias: Tensor, text: Tensor, fed: Tensor, c: Tensor,
        middles: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        positions = torch.arange(1, text.shape[1] + 1, device=text.device, dtype=text.dtype)
        all_fed, activations, cells, window_params, distances, component_weights = [fed], [], [c], [], [], []
        for projection in gates:
            i, f, g, o = torch.addmm(projection, all_fed[-1], back.t()).chunk(4, -1)
            i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
            c = f * c + i * g
            h = o * c.tanh()
            params = torch.addmm(bias, h, weight.t()).exp()
            height, precision, movement = params.chunk(3, -1)
            middles = middles + movement
            distance = middles.unsqueeze(-1) - positions
            components = height.unsqueeze(-1) * (-precision.unsqueeze(-1) * distance.square()).exp()
            read = torch.bmm(components.sum(1, keepdim=True), text)[:, 0]
            all_fed.append(torch.cat([h, read], 1))
            activations.append(torch.cat([i, f, g, o], 1))
            cells.append(c)
            window_params.append(params)
            distances.append(distance)
            component_weights.append(components)
        steps = (all_fed, activations, cells, window_params, distances, component_weights)
        saved = [torch.stack(tensors) for tensors in steps]
        ctx.save_for_backward(back, weight, text, *saved)
        weights = saved[-1].sum(2)
        ctx.mark_non_differentiable(weights)
        return saved[0][1:], c, middles, weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # type: ignore[override]
        d_fed, d_c, d_middles, _ = grads
        back, weight, text, fed, activations, cells, window_params, distances, component_weights = ctx.saved_tensors
        size = weight.shape[1]
        d_gates, d_params = torch.empty_like(activations), torch.empty_like(window_params)
        d_next = torch.zeros_like(fed[0])
        for t in range(len(activations) - 1, -1, -1):
            d_h, d_read = (d_fed[t] + d_next).split([size, text.shape[2]], -1)
            # Window: gradients of the logarithms of heights and precisions, and of the centers.
            _, precision, movement = window_params[t].chunk(3, -1)
            d_log = torch.bmm(d_read.unsqueeze(1), text.transpose(1, 2)) * component_weights[t]
            scaled = d_log * distances[t]
            d_middles = d_middles - 2 * precision * scaled.sum(-1)
            d_precision = -precision * (scaled * distances[t]).sum(-1)
            d_params[t] = torch.cat([d_log.sum(-1), d_precision, d_middles * movement], -1)
            d_h = torch.addmm(d_h, d_params[t], weight)
            # LSTM cell.
            i, f, g, o = activations[t].chunk(4, -1)
            out = cells[t + 1].tanh()
            d_c = d_c + d_h * o * (1 - out.square())
            d_ifg = (d_c * g * i * (1 - i), d_c * cells[t] * f * (1 - f), d_c * i * (1 - g.square()))
            d_gates[t] = torch.cat([*d_ifg, d_h * out * o * (1 - o)], 1)
            d_c = d_c * f
            d_next = d_gates[t] @ back
        d_back = d_gates.flatten(0, 1).t() @ fed[:-1].flatten(0, 1)
        d_weight = d_params.flatten(0, 1).t() @ fed[1:, :, :size].flatten(0, 1)
        return d_gates, d_back, d_weight, d_params.sum((0, 1)), None, d_next, d_c, d_middles
