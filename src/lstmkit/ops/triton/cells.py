"""Each cell's own equations in Triton, a step and its gradients: ``cells.py`` for the numbers of a block.

``s`` are the gates' shares, of the input and of the state together; ``d`` stands for gradients, ``e`` for those that
the gates get from elsewhere than their cell.
"""

# pyright: reportPossiblyUnboundVariable=false
from __future__ import annotations

import triton
import triton.language as tl

from lstmkit.ops.triton.primitives import load_units, sigmoid, tanh

LSTM, GRU, TANH, RELU = (tl.constexpr(kind) for kind in range(4))


@triton.jit
def lstm(
    s0, s1, s2, s3, c, w_peep, units,
    H: tl.constexpr, ACC: tl.constexpr, COUPLED: tl.constexpr, PEEP: tl.constexpr, LINEAR_IN: tl.constexpr,
):  # fmt: skip
    """Gates ``i f g o`` and the new cell state."""
    if COUPLED:
        s_i, s_f, s_g, s_o = s0, s0, s1, s2
    else:
        s_i, s_f, s_g, s_o = s0, s1, s2, s3
    if PEEP:
        s_i += load_units(w_peep, units, H, ACC) * c
        s_f += load_units(w_peep + (1 - COUPLED) * H, units, H, ACC) * c
    f = sigmoid(s_f)
    i = 1 - f if COUPLED else sigmoid(s_i)
    g = s_g if LINEAR_IN else tanh(s_g)
    c_new = f * c + i * g
    if PEEP:
        s_o += load_units(w_peep + (2 - COUPLED) * H, units, H, ACC) * c_new
    return i, f, g, sigmoid(s_o), c_new


@triton.jit
def lstm_backward(
    d_cell, d_o, past, i, f, g, o, c, e_i, e_f, e_g, w_peep, units,
    H: tl.constexpr, ACC: tl.constexpr, COUPLED: tl.constexpr, PEEP: tl.constexpr, LINEAR_IN: tl.constexpr,
):  # fmt: skip
    """Of the shares, and of the cell state before.

    Args:
        d_cell: Of the new cell state, but for what the output gate's peephole gives.
        d_o: Of the output gate.
        past: What of the cell state's gradient goes past the step.
        i, f, g, o, c: Gates, and the cell state before.
    """
    d_o *= o * (1 - o)
    if PEEP:
        d_cell += d_o * load_units(w_peep + (2 - COUPLED) * H, units, H, ACC)
    d_g = d_cell * i + e_g
    if not LINEAR_IN:
        d_g *= 1 - g * g
    d_f = (d_cell * ((c - g) if COUPLED else c) + e_f) * f * (1 - f)
    d_c = past + d_cell * f
    if PEEP:
        d_c += d_f * load_units(w_peep + (1 - COUPLED) * H, units, H, ACC)
    if COUPLED:
        return d_f, d_g, d_o, d_o, d_c
    d_i = (d_cell * g + e_i) * i * (1 - i)
    if PEEP:
        d_c += d_i * load_units(w_peep, units, H, ACC)
    return d_i, d_f, d_g, d_o, d_c


@triton.jit
def gru(x0, x1, x2, a0, a1, a2, h):
    """Gates ``r z n`` and the new hidden state, of both shares: ``r`` multiplies the state's of ``n``."""
    r, z = sigmoid(x0 + a0), sigmoid(x1 + a1)
    n = tanh(x2 + r * a2)
    return r, z, n, n + z * (h - n)


@triton.jit
def gru_backward(d, r, z, n, gh_n, h, e_r, e_z, e_n):
    """Of the input's shares; that of the state is ``r`` times as much for the candidate."""
    d_z = (d * (h - n) + e_z) * z * (1 - z)
    d_n = (d * (1 - z) + e_n) * (1 - n * n)
    return (d_n * gh_n + e_r) * r * (1 - r), d_z, d_n


@triton.jit
def rnn(s, KIND: tl.constexpr):
    return tanh(s) if KIND == TANH else tl.where(s < 0, 0.0, s)  # NaN stays NaN


@triton.jit
def rnn_backward(d, new, KIND: tl.constexpr):
    return d * (1 - new * new) if KIND == TANH else tl.where(new > 0, d, d * 0.0)
