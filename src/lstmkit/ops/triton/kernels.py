"""The recurrence of every cell in Triton: all steps of a pass in one launch, forward and backward.

A block has a tile of sequences and a tile of units. The recurrent weights of its units stay on the chip from the first
step to the last. Where one block has all units (``WHOLE``), the hidden state stays there too; else blocks exchange it
through memory and wait for each other: after each step, and wherever a step needs all units.

Names are those of ``cells.py``: ``gx`` is the input's share of the gates, ``gh`` the state's. States stand in slots,
one more than there are steps: step ``t`` reads the one that is ``before`` and writes the one that is ``after`` it, in
the order of the pass. Pointers to what there is not are never followed.

A cell whose gates see the gates of the step before (``FULL``) has a hidden state of four parts, ``P = 4 H``: the
output, and the input, forget and output gate.
"""

# A kernel is no Python: what a constant leaves out is not compiled.
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl

from lstmkit.ops.triton.cells import GRU, LSTM, gru, gru_backward, lstm, lstm_backward, rnn, rnn_backward
from lstmkit.ops.triton.primitives import (
    load_gate_weight_chunks,
    load_gates,
    load_units,
    load_weight_chunks,
    mean_and_rstd,
    means,
    meet,
    multiply_from_gates,
    multiply_into_gates,
    multiply_memory_into_gates,
    row_sum_of_gates,
    split_zoneout_gradient,
    tanh,
    tell,
    times,
    total,
    zoned,
)

BOTH = tl.constexpr(2)  # of two passes the second goes from the last step to the first


@triton.jit
def _direction_weights(
    way, w_hh, w_hr, w_peep, gain, gain_c, bias_c, G: tl.constexpr, H: tl.constexpr, P: tl.constexpr
):
    """A pass's own weights."""
    gates, units = way * G * H, way * H
    return w_hh + gates * P, w_hr + units * P, w_peep + gates - units, gain + gates, gain_c + units, bias_c + units


@triton.jit(do_not_specialize=["block", "blocks", "T", "B"])  # one kernel for all of them
def forward(
    gx, w_hh, b_hh, w_hr, w_peep, gain, gain_c, bias_c, mask, zone_h, zone_c, lengths,
    hs, cs, saved, normed, scales, told, parts, counter, block, blocks, T, B,
    KIND: tl.constexpr, G: tl.constexpr, H: tl.constexpr, P: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, OUTS: tl.constexpr,
    BIAS: tl.constexpr, COUPLED: tl.constexpr, PEEP: tl.constexpr, NORM: tl.constexpr, PROJ: tl.constexpr,
    LINEAR_IN: tl.constexpr, LINEAR_OUT: tl.constexpr, FULL: tl.constexpr, MASK: tl.constexpr,
    ZONE_H: tl.constexpr, ZONE_C: tl.constexpr, SHARE_H: tl.constexpr, SHARE_C: tl.constexpr,
    RAGGED: tl.constexpr, WAYS: tl.constexpr, REVERSE: tl.constexpr, SAVES: tl.constexpr,
    WHOLE: tl.constexpr, TILES: tl.constexpr, WIDTH: tl.constexpr, EPS: tl.constexpr,
    SPLIT: tl.constexpr, CHUNK_P: tl.constexpr, CHUNK_H: tl.constexpr, CHUNK_GH: tl.constexpr,
    ACC: tl.constexpr, SEES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """All steps of the sequences from ``block`` on, of which a pass has ``blocks`` blocks.

    Shapes, of one pass after the other where there are two ``WAYS``: ``gx (T, B, G, H)``, ``w_hh (G, H, P)``,
    ``hs (T + 1, B, P)``; with ``SAVES`` ``cs (T + 1, B, H)``, else one slot; ``saved (T, B, G, H)``, the gates (of a
    GRU also ``gh`` of the candidate; of an RNN the new state); ``normed (T, B, G, H)`` and ``scales (T, B, 3)`` of
    norms: of the gates, mean and scale of the cell state, if there is one; ``told (T, B, H)``, what is projected,
    without ``SAVES`` of one step. ``parts (2, WAYS, B, 2, TILES)`` are sums of blocks.
    """
    block += tl.program_id(0)
    counter += block
    way = (block // blocks).to(tl.int64) if WAYS > 1 else 0  # which pass
    turned = way if REVERSE == BOTH else REVERSE  # from the last step to the first
    rows = (block - way * blocks) * ROWS + tl.arange(0, ROWS)
    units = tl.program_id(1) * UNITS + tl.arange(0, UNITS)
    outs = tl.arange(0, OUTS)
    row, unit, out = rows[:, None] < B, units[None, :] < H, outs[None, :] < P
    own = outs if WHOLE else units  # of the hidden state, what this block writes
    mine = row & ((own[None, :] < P) if PROJ else (own[None, :] < H))
    there = row & unit
    rows = rows.to(tl.int64)[:, None]
    lines = way * B + rows  # of all passes
    begin, slots = way * B * T + rows, way * B * (T + 1) + rows  # of what has steps, or slots
    w_hh, w_hr, w_peep, gain, gain_c, bias_c = _direction_weights(
        way, w_hh, w_hr, w_peep, gain, gain_c, bias_c, G, H, P
    )
    b_hh += way * G * H

    if WHOLE:
        fits = (outs[:, None] < P) & unit
        w0, w1, w2, w3 = load_gates(w_hh, units[None, :] * P + outs[:, None], fits, G, H * P, SEES)
        if PROJ:
            w_out = tl.load(w_hr + outs[None, :] * H + units[:, None], out & (units[:, None] < H), 0.0).to(SEES)
        if MASK:
            masked = tl.load(mask + lines * P + outs[None, :], row & out, 0.0).to(ACC)
    else:
        w0, w1, w2, w3 = load_gate_weight_chunks(w_hh, units, G, H, P, CHUNK_P, SPLIT, SEES)
        if PROJ:
            w_out = load_weight_chunks(w_hr, units, H, 1, P, H, CHUNK_H, SPLIT, SEES)
    ends = tl.load(lengths + rows, row, 0) if RAGGED else rows

    first = slots + turned * T * B
    h = tl.load(hs + first * P + own[None, :], mine, 0.0).to(ACC)
    c = h
    if KIND == LSTM:
        c = tl.load(cs + (first if SAVES else lines) * H + units[None, :], there, 0.0).to(ACC)
    if FULL:
        q_i, q_f, q_o, _ = load_gates(hs + H, first * P + units[None, :], there, 3, H, ACC)

    met = 0
    for k in range(T):
        t = k + turned * (T - 1 - 2 * k)
        step = begin + t * B
        before = slots + (t + turned) * B
        after = slots + (t + 1 - turned) * B
        active = t < ends if RAGGED else row
        if WHOLE:
            seen = (h * masked if MASK else h).to(SEES)
            a0, a1, a2, a3 = multiply_into_gates(seen, w0, w1, w2, w3, G, ACC, PRECISION)
        else:
            a0, a1, a2, a3 = multiply_memory_into_gates(
                hs, before * P, row, mask, lines * P, w0, w1, w2, w3,
                G, P, MASK, CHUNK_P, SPLIT, ROWS, UNITS, SEES, ACC, PRECISION,
            )  # fmt: skip
        gate = step * (G * H) + units[None, :]  # of the first gate; the next ones stand H numbers on
        if NORM:
            met += TILES
            mean, scale = mean_and_rstd(
                a0, a1, a2, a3, there, parts, lines, row, counter, met, G, H, UNITS, TILES, WIDTH, EPS
            )
            a0, a1, a2, a3 = (a0 - mean) * scale, (a1 - mean) * scale, (a2 - mean) * scale, (a3 - mean) * scale
            if SAVES:
                tl.store(scales + step * (3 if KIND == LSTM else 1), scale, row)
                tell(normed, gate, a0, a1, a2, a3, there, G, H)
            g0, g1, g2, g3 = load_gates(gain, units[None, :], unit, G, H, ACC)
            a0, a1, a2, a3 = a0 * g0, a1 * g1, a2 * g2, a3 * g3
        if BIAS:
            b0, b1, b2, b3 = load_gates(b_hh, units[None, :], unit, G, H, ACC)
            a0, a1, a2, a3 = a0 + b0, a1 + b1, a2 + b2, a3 + b3
        x0, x1, x2, x3 = load_gates(gx, gate, there, G, H, ACC)

        if KIND == LSTM:
            i, f, g, o, c_new = lstm(
                x0 + a0, x1 + a1, x2 + a2, x3 + a3, c, w_peep, units, H, ACC, COUPLED, PEEP, LINEAR_IN
            )
            if SAVES:
                if COUPLED:
                    tell(saved, gate, f, g, o, o, there, G, H)
                else:
                    tell(saved, gate, i, f, g, o, there, G, H)
            shown = c_new
            if NORM:
                met += TILES
                second = parts + WAYS * B * (2 * TILES)
                mean, scale = mean_and_rstd(
                    c_new, c, c, c, there, second, lines, row, counter, met, 1, H, UNITS, TILES, WIDTH, EPS
                )
                if SAVES:
                    tl.store(scales + step * 3 + 1, mean, row)
                    tl.store(scales + step * 3 + 2, scale, row)
                shown = (c_new - mean) * scale * load_units(gain_c, units, H, ACC) + load_units(bias_c, units, H, ACC)
            h_new = o * (shown if LINEAR_OUT else tanh(shown))
            if PROJ:
                line = (step if SAVES else lines) * H
                if SAVES or not WHOLE:
                    tl.store(told + line + units[None, :], h_new, there)
                if WHOLE:
                    h_new = tl.where(there, h_new, 0.0).to(SEES)
                    h_new = tl.dot(h_new, w_out, input_precision=PRECISION, out_dtype=ACC)
                else:
                    met += TILES
                    meet(counter, met)
                    h_new = times(told, line, row, w_out, H, CHUNK_H, SPLIT, ROWS, UNITS, SEES, ACC, PRECISION)
            c_new = zoned(c_new, c, zone_c, SHARE_C, step * H + units[None, :], there, ZONE_C)
            c = tl.where(active, c_new, c)
        elif KIND == GRU:
            r, z, n, h_new = gru(x0, x1, x2, a0, a1, a2, h)
            if SAVES:
                tell(saved, step * (4 * H) + units[None, :], r, z, n, a2, there, 4, H)
        else:
            h_new = rnn(x0 + a0, KIND)
            if SAVES:
                tl.store(saved + gate, h_new, there)

        at = step * P + own[None, :]
        h = tl.where(active, zoned(h_new, h, zone_h, SHARE_H, at, mine, ZONE_H), h)
        h = tl.where(mine, h, 0.0)  # what stands beyond the last unit is seen by the next product
        tl.store(hs + after * P + own[None, :], h, mine)
        if FULL:
            q_i = tl.where(active, zoned(i, q_i, zone_h, SHARE_H, at + H, there, ZONE_H), q_i)
            q_f = tl.where(active, zoned(f, q_f, zone_h, SHARE_H, at + 2 * H, there, ZONE_H), q_f)
            q_o = tl.where(active, zoned(o, q_o, zone_h, SHARE_H, at + 3 * H, there, ZONE_H), q_o)
            tell(hs + H, after * P + units[None, :], q_i, q_f, q_o, q_o, there, 3, H)
        if KIND == LSTM and SAVES:
            tl.store(cs + after * H + units[None, :], c, there)
        if not WHOLE:
            met += TILES
            meet(counter, met)
    if KIND == LSTM and not SAVES:
        tl.store(cs + lines * H + units[None, :], c, there)


@triton.jit(do_not_specialize=["block", "blocks", "T", "B"])  # one kernel for all of them
def backward(
    d_output, d_saved, d_cs, w_hh, w_hr, w_peep, gain, gain_c, bias_c, mask, zone_h, zone_c, lengths,
    hs, cs, saved, normed, scales, dh, dc, dgx, dgh, d_new, d_shown, parts, counter, block, blocks, T, B,
    KIND: tl.constexpr, G: tl.constexpr, H: tl.constexpr, P: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, OUTS: tl.constexpr,
    COUPLED: tl.constexpr, PEEP: tl.constexpr, NORM: tl.constexpr, PROJ: tl.constexpr,
    LINEAR_IN: tl.constexpr, LINEAR_OUT: tl.constexpr, FULL: tl.constexpr, MASK: tl.constexpr,
    ZONE_H: tl.constexpr, ZONE_C: tl.constexpr, SHARE_H: tl.constexpr, SHARE_C: tl.constexpr,
    RAGGED: tl.constexpr, WAYS: tl.constexpr, REVERSE: tl.constexpr, TRACED: tl.constexpr, TWO: tl.constexpr,
    WHOLE: tl.constexpr, TILES: tl.constexpr, WIDTH: tl.constexpr, EPS: tl.constexpr,
    SPLIT: tl.constexpr, CHUNK_P: tl.constexpr, CHUNK_H: tl.constexpr, CHUNK_GH: tl.constexpr,
    ACC: tl.constexpr, SEES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """All steps from behind: what :func:`forward` told of them, and gradients.

    ``d_output (T, B, P)`` is the gradient of the hidden state after each step; of what is ``TRACED``, ``d_saved`` and
    ``d_cs`` are those of the gates and of the cell state's slots. ``dh (B, P)`` and ``dc (B, H)`` come in as the
    gradients of the state after the last step, and go out as those of the state before the first one; in a block that
    is not ``WHOLE`` without the share through ``gh`` of the first step. ``dgx`` and ``dgh (T, B, G, H)`` are those of
    the gates' shares, the same tensor unless there are ``TWO``; ``d_new (T, B, P)`` that of the new hidden state, where
    it is projected; ``d_shown (T, B, H)`` of the normalised cell state.
    """
    block += tl.program_id(0)
    counter += block
    way = (block // blocks).to(tl.int64) if WAYS > 1 else 0
    turned = way if REVERSE == BOTH else REVERSE  # from the last step to the first
    rows = (block - way * blocks) * ROWS + tl.arange(0, ROWS)
    units = tl.program_id(1) * UNITS + tl.arange(0, UNITS)
    outs = tl.arange(0, OUTS)
    row, unit, out = rows[:, None] < B, units[None, :] < H, outs[None, :] < P
    own = outs if WHOLE else units
    mine = row & ((own[None, :] < P) if PROJ else (own[None, :] < H))
    there = row & unit
    rows = rows.to(tl.int64)[:, None]
    lines = way * B + rows
    begin, slots = way * B * T + rows, way * B * (T + 1) + rows
    w_hh, w_hr, w_peep, gain, gain_c, bias_c = _direction_weights(
        way, w_hh, w_hr, w_peep, gain, gain_c, bias_c, G, H, P
    )

    # From all gates' units to the block's own share of the hidden state.
    if WHOLE:
        fits = (units[:, None] < H) & out
        w0, w1, w2, w3 = load_gates(w_hh, units[:, None] * P + outs[None, :], fits, G, H * P, SEES)
        if PROJ:
            w_out = tl.load(w_hr + outs[:, None] * H + units[None, :], (outs[:, None] < P) & unit, 0.0).to(SEES)
    else:
        weights = load_weight_chunks(w_hh, units, G * H, P, P if PROJ else H, 1, CHUNK_GH, SPLIT, SEES)
        if PROJ:
            w_out = load_weight_chunks(w_hr, units, P, H, H, 1, CHUNK_P, SPLIT, SEES)
    if MASK:
        masked = tl.load(mask + lines * P + own[None, :], mine, 0.0).to(ACC)
    ends = tl.load(lengths + rows, row, 0) if RAGGED else rows

    d_h = tl.load(dh + lines * P + own[None, :], mine, 0.0).to(ACC)
    d_c = d_h
    if KIND == LSTM:
        d_c = tl.load(dc + lines * H + units[None, :], there, 0.0).to(ACC)
    if FULL:
        d_i, d_f, d_o, _ = load_gates(dh + H, lines * P + units[None, :], there, 3, H, ACC)

    met = 0
    for k in range(T):
        t = T - 1 - k - turned * (T - 1 - 2 * k)
        step = begin + t * B
        before = slots + (t + turned) * B
        gate = step * (G * H) + units[None, :]
        active = t < ends if RAGGED else row
        if not WHOLE:  # what the step after this one gives through its product
            told, known = (step + (1 - 2 * turned) * B) * (G * H), row & (k > 0)
            back = times(dgh, told, known, weights, G * H, CHUNK_GH, SPLIT, ROWS, UNITS, SEES, ACC, PRECISION)
            d_h += back * masked if MASK else back
            if FULL:  # the laboratory's cell: its weights do not stay on the chip
                more = load_weight_chunks(w_hh + H, units, G * H, P, H, 1, CHUNK_GH, SPLIT, SEES)
                d_i += times(dgh, told, known, more, G * H, CHUNK_GH, SPLIT, ROWS, UNITS, SEES, ACC, PRECISION)
                more = load_weight_chunks(w_hh + 2 * H, units, G * H, P, H, 1, CHUNK_GH, SPLIT, SEES)
                d_f += times(dgh, told, known, more, G * H, CHUNK_GH, SPLIT, ROWS, UNITS, SEES, ACC, PRECISION)
                more = load_weight_chunks(w_hh + 3 * H, units, G * H, P, H, 1, CHUNK_GH, SPLIT, SEES)
                d_o += times(dgh, told, known, more, G * H, CHUNK_GH, SPLIT, ROWS, UNITS, SEES, ACC, PRECISION)

        at = step * P + own[None, :]
        d_h += tl.load(d_output + at, mine & active, 0.0).to(ACC)
        d, d_h = split_zoneout_gradient(d_h, zone_h, SHARE_H, at, mine, active, ZONE_H)
        e0, e1, e2, e3 = tl.zeros_like(d_c), tl.zeros_like(d_c), tl.zeros_like(d_c), tl.zeros_like(d_c)
        if TRACED:
            e0, e1, e2, e3 = load_gates(
                d_saved, step * (4 * H if KIND == GRU else G * H) + units[None, :], there, G, H, ACC
            )

        if KIND == LSTM:
            if COUPLED:
                f, g, o, _ = load_gates(saved, gate, there, G, H, ACC)
                e_i, e_f, e_g, e_o = e0, e0, e1, e2
                i = 1 - f
            else:
                i, f, g, o = load_gates(saved, gate, there, G, H, ACC)
                e_i, e_f, e_g, e_o = e0, e1, e2, e3
            if FULL:
                given_i, given_f, given_o, _ = load_gates(d_output + H, at, there & active, 3, H, ACC)
                own_i, d_i = split_zoneout_gradient(d_i + given_i, zone_h, SHARE_H, at + H, there, active, ZONE_H)
                own_f, d_f = split_zoneout_gradient(d_f + given_f, zone_h, SHARE_H, at + 2 * H, there, active, ZONE_H)
                own_o, d_o = split_zoneout_gradient(d_o + given_o, zone_h, SHARE_H, at + 3 * H, there, active, ZONE_H)
                e_i, e_f, e_o = e_i + own_i, e_f + own_f, e_o + own_o
            if PROJ:
                tl.store(d_new + at, d, mine)
                if WHOLE:
                    d = tl.dot(d.to(SEES), w_out, input_precision=PRECISION, out_dtype=ACC)
                else:
                    met += TILES
                    meet(counter, met)
                    d = times(d_new, step * P, row, w_out, P, CHUNK_P, SPLIT, ROWS, UNITS, SEES, ACC, PRECISION)
            c = tl.load(cs + before * H + units[None, :], there, 0.0).to(ACC)
            c_new = f * c + i * g
            shown = c_new
            if NORM:
                mean = tl.load(scales + step * 3 + 1, row, 0.0).to(ACC)
                scale = tl.load(scales + step * 3 + 2, row, 0.0).to(ACC)
                centred = (c_new - mean) * scale
                gain_of_c = load_units(gain_c, units, H, ACC)
                shown = centred * gain_of_c + load_units(bias_c, units, H, ACC)
            squashed = shown if LINEAR_OUT else tanh(shown)
            d_cell = d * o if LINEAR_OUT else d * o * (1 - squashed * squashed)
            if NORM:
                tl.store(d_shown + step * H + units[None, :], d_cell, there)
                d_cell *= gain_of_c
                met += TILES
                second = parts + WAYS * B * (2 * TILES)
                mean, along = means(
                    total(d_cell, there), total(d_cell * centred, there),
                    second, lines, row, counter, met, H, TILES, WIDTH,
                )  # fmt: skip
                d_cell = scale * (d_cell - mean - centred * along)
            if TRACED:
                d_c += tl.load(d_cs + (slots + (t + 1 - turned) * B) * H + units[None, :], there, 0.0).to(ACC)
            at = step * H + units[None, :]
            of_c, past = split_zoneout_gradient(d_c, zone_c, SHARE_C, at, there, active, ZONE_C)
            a0, a1, a2, a3, d_c = lstm_backward(
                d_cell + of_c, d * squashed + e_o, past, i, f, g, o, c, e_i, e_f, e_g, w_peep, units,
                H, ACC, COUPLED, PEEP, LINEAR_IN,
            )  # fmt: skip
        elif KIND == GRU:
            r, z, n, gh_n = load_gates(saved, step * (4 * H) + units[None, :], there, 4, H, ACC)
            h = tl.load(hs + before * P + own[None, :], mine, 0.0).to(ACC)
            a0, a1, a2 = gru_backward(d, r, z, n, gh_n, h, e0, e1, e2)
            a3 = a0
            d_h += d * z
        else:
            new = tl.load(saved + gate, there, 0.0).to(ACC)
            a0 = rnn_backward(d, new, KIND)
            a1, a2, a3 = a0, a0, a0

        tell(dgx, gate, a0, a1, a2, a3, there, G, H)
        if KIND == GRU:
            a2 *= r
        if NORM:
            n0, n1, n2, n3 = load_gates(normed, gate, there, G, H, ACC)
            g0, g1, g2, g3 = load_gates(gain, units[None, :], unit, G, H, ACC)
            a0, a1, a2, a3 = a0 * g0, a1 * g1, a2 * g2, a3 * g3
            met += TILES
            mean, along = means(
                row_sum_of_gates(a0, a1, a2, a3, there, G), row_sum_of_gates(a0 * n0, a1 * n1, a2 * n2, a3 * n3, there, G),
                parts, lines, row, counter, met, G * H, TILES, WIDTH,
            )  # fmt: skip
            scale = tl.load(scales + step * (3 if KIND == LSTM else 1), row, 0.0).to(ACC)
            a0, a1 = scale * (a0 - mean - n0 * along), scale * (a1 - mean - n1 * along)
            a2, a3 = scale * (a2 - mean - n2 * along), scale * (a3 - mean - n3 * along)
        a0, a1 = tl.where(there, a0, 0.0).to(SEES), tl.where(there, a1, 0.0).to(SEES)
        a2, a3 = tl.where(there, a2, 0.0).to(SEES), tl.where(there, a3, 0.0).to(SEES)
        if TWO:
            tell(dgh, gate, a0, a1, a2, a3, there, G, H)

        if WHOLE:
            back = multiply_from_gates(a0, a1, a2, a3, w0, w1, w2, w3, G, ACC, PRECISION)
            d_h += back * masked if MASK else back
        else:
            met += TILES
            meet(counter, met)

    tl.store(dh + lines * P + own[None, :], d_h, mine)
    if KIND == LSTM:
        tl.store(dc + lines * H + units[None, :], d_c, there)
    if FULL:
        tell(dh + H, lines * P + units[None, :], d_i, d_f, d_o, d_o, there, 3, H)
