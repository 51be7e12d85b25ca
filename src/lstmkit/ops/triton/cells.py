"""The equations of each cell in Triton, one step forward and backward, for a tile of ``(ROWS, UNITS)`` values.

``lstmkit/cells.py`` has the same equations in torch. ``s`` are the pre-activations of the gates; ``x`` and ``a`` are
their input projections and recurrent projections. ``d`` stands for gradients, ``e`` for gradients that gates receive
from a trace or from later gates.

Dimensions: ``H`` hidden units, ``ACC`` the type of sums.
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
    """Gates ``i, f, g, o`` and the new cell state."""
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
    d_cell, d_o, d_kept, i, f, g, o, c, e_i, e_f, e_g, w_peep, units,
    H: tl.constexpr, ACC: tl.constexpr, COUPLED: tl.constexpr, PEEP: tl.constexpr, LINEAR_IN: tl.constexpr,
):  # fmt: skip
    """Gradients of the pre-activations, and of the cell state before the step.

    Args:
        d_cell: Gradient of the new cell state without the peephole of the output gate.
        d_o: Gradient of the output gate.
        d_kept: Part of the gradient of the cell state that zoneout passes to the state before the step.
        i, f, g, o: Gates.
        c: Cell state before the step.
        e_i, e_f, e_g: Further gradients of gates.
    """
    d_o *= o * (1 - o)
    if PEEP:
        d_cell += d_o * load_units(w_peep + (2 - COUPLED) * H, units, H, ACC)
    d_g = d_cell * i + e_g
    if not LINEAR_IN:
        d_g *= 1 - g * g
    d_f = (d_cell * ((c - g) if COUPLED else c) + e_f) * f * (1 - f)
    d_c = d_kept + d_cell * f
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
    """Gates ``r, z, n`` and the new hidden state; ``r`` multiplies the recurrent projection of ``n``."""
    r, z = sigmoid(x0 + a0), sigmoid(x1 + a1)
    n = tanh(x2 + r * a2)
    return r, z, n, n + z * (h - n)


@triton.jit
def gru_backward(d, r, z, n, gh_n, h, e_r, e_z, e_n):
    """Gradients of the input projections; for the candidate, that of the recurrent projection is ``r`` times it."""
    d_z = (d * (h - n) + e_z) * z * (1 - z)
    d_n = (d * (1 - z) + e_n) * (1 - n * n)
    return (d_n * gh_n + e_r) * r * (1 - r), d_z, d_n


@triton.jit
def rnn(s, KIND: tl.constexpr):
    return tanh(s) if KIND == TANH else tl.where(s < 0, 0.0, s)  # NaN stays NaN


@triton.jit
def rnn_backward(d, new, KIND: tl.constexpr):
    return d * (1 - new * new) if KIND == TANH else tl.where(new > 0, d, d * 0.0)
