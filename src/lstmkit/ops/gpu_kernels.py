"""The recurrence of every cell in Triton: all steps of a pass in one launch, forward and backward.

A block has a tile of sequences and a tile of units. The recurrent weights of its units stay on the chip from the first
step to the last. Where one block has all units (``WHOLE``), the hidden state stays there too; else blocks exchange it
through memory, and ``MEET`` after each step. Without a meeting point a launch does one step: so Triton's interpreter,
which runs one block after the other, can run all of it.

Names are those of ``cells.py``: ``gx`` is the input's share of the gates, ``gh`` the state's. States stand in slots,
one more than there are steps: step ``t`` reads the one that is ``before`` and writes the one that is ``after`` it, in
the order of the pass. Pointers to what there is not are never followed.
"""

# A kernel is no Python: what a constant leaves out is not compiled.
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl

LSTM, GRU, TANH, RELU = (tl.constexpr(kind) for kind in range(4))
NONE, MASKS, SHARE = (tl.constexpr(kind) for kind in range(3))  # how a state is zoned out


# ---- small things ----------------------------------------------------------------------------------------------------


@triton.jit
def _sigmoid(x):
    e = tl.exp(-tl.abs(x))  # never above 1
    return tl.where(x < 0, e, 1.0) / (1 + e)


@triton.jit
def _tanh(x):
    e = tl.exp(-2 * tl.abs(x))
    y = (1 - e) / (1 + e)
    return tl.where(x < 0, -y, y)


@triton.jit
def _units(weights, units, H: tl.constexpr, ACC: tl.constexpr):
    """A number for each unit, for all rows."""
    return tl.load(weights + units, units < H, 0.0).to(ACC)[None, :]


@triton.jit
def _of_gates(told, at, there, G: tl.constexpr, APART: tl.constexpr, TYPE: tl.constexpr):
    """What stands for each of up to four gates, ``APART`` numbers from one to the next; the first for those missing."""
    a = tl.load(told + at, there, 0.0).to(TYPE)
    b, c, d = a, a, a
    if G > 1:
        b = tl.load(told + APART + at, there, 0.0).to(TYPE)
        c = tl.load(told + 2 * APART + at, there, 0.0).to(TYPE)
    if G > 3:
        d = tl.load(told + 3 * APART + at, there, 0.0).to(TYPE)
    return a, b, c, d


@triton.jit
def _tell(to, at, a, b, c, d, there, G: tl.constexpr, H: tl.constexpr):
    """The numbers of each gate."""
    tl.store(to + at, a, there)
    if G > 1:
        tl.store(to + H + at, b, there)
        tl.store(to + 2 * H + at, c, there)
    if G > 3:
        tl.store(to + 3 * H + at, d, there)


@triton.jit
def _mean(x, there, SIZE: tl.constexpr):
    return tl.sum(tl.where(there, x, 0.0), 1, keep_dims=True) / SIZE


@triton.jit
def _mean_of_gates(a, b, c, d, there, G: tl.constexpr, H: tl.constexpr):
    """Over all units of all gates of a row."""
    found = _mean(a, there, G * H)
    if G > 1:
        found += _mean(b, there, G * H) + _mean(c, there, G * H)
    if G > 3:
        found += _mean(d, there, G * H)
    return found


@triton.jit
def _meet(counter, goal):
    """Wait until all blocks of these sequences have come as far: what they wrote is then there to be read."""
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="release", scope="gpu")
    while tl.atomic_add(counter, 0, sem="acquire", scope="gpu") < goal:
        pass
    tl.debug_barrier()


@triton.jit
def _zoned(new, old, zone, share, at, there, KIND: tl.constexpr):
    """Zoneout: what is kept of the old."""
    if KIND == MASKS:
        new += tl.load(zone + at, there, 0.0).to(new.dtype) * (old - new)
    if KIND == SHARE:
        new += share * (old - new)
    return new


@triton.jit
def _kept(d, zone, share, at, there, KIND: tl.constexpr):
    """What of a state's gradient goes to the old one past the cell."""
    if KIND == MASKS:
        return tl.load(zone + at, there, 0.0).to(d.dtype) * d
    if KIND == SHARE:
        return share * d
    return tl.zeros_like(d)


@triton.jit
def _times(told, known, weights, SEES: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """A product of what other blocks have told, past this processor's own cache."""
    numbers = tl.load(told, known, 0.0, cache_modifier=".cg").to(SEES)
    return tl.dot(numbers, weights, input_precision=PRECISION, out_dtype=ACC)


# ---- forward ---------------------------------------------------------------------------------------------------------


@triton.jit
def forward(
    gx, w_hh, b_hh, w_hr, w_peep, gain, gain_c, bias_c, mask, zone_h, zone_c, lengths,
    hs, cs, saved, normed, scales, told, counter,
    share_h, share_c, first, last, block, T, B,
    KIND: tl.constexpr, G: tl.constexpr, H: tl.constexpr, P: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, OUTS: tl.constexpr,
    BIAS: tl.constexpr, COUPLED: tl.constexpr, PEEP: tl.constexpr, NORM: tl.constexpr, PROJ: tl.constexpr,
    LINEAR_IN: tl.constexpr, LINEAR_OUT: tl.constexpr, MASK: tl.constexpr, ZONE_H: tl.constexpr, ZONE_C: tl.constexpr,
    RAGGED: tl.constexpr, REVERSE: tl.constexpr, SAVES: tl.constexpr,
    WHOLE: tl.constexpr, MEET: tl.constexpr, TILES: tl.constexpr, EPS: tl.constexpr,
    ACC: tl.constexpr, SEES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Steps ``first`` to ``last`` of a pass, in its order, of the sequences from ``block`` on.

    Shapes: ``gx (T, B, G, H)``, ``w_hh (G, H, P)``, ``hs (T + 1, B, P)``; with ``SAVES`` ``cs (T + 1, B, H)``, else one
    slot; ``saved (T, B, G, H)``, the gates (of a GRU also ``gh`` of the candidate; of an RNN the new state);
    ``normed (T, B, G, H)`` and ``scales (T, B)`` of a norm; ``told (T, B, H)``, what is projected.
    """
    block += tl.program_id(0)
    rows = block * ROWS + tl.arange(0, ROWS)
    units = tl.program_id(1) * UNITS + tl.arange(0, UNITS)
    outs = tl.arange(0, OUTS)
    row, unit, out = rows[:, None] < B, units[None, :] < H, outs[None, :] < P
    own = outs if WHOLE else units  # of the hidden state, what this block writes
    mine = row & (out if WHOLE else unit)
    there = row & unit
    rows = rows.to(tl.int64)[:, None]

    fits = (outs[:, None] < P) & unit
    at = units[None, :] * P + outs[:, None]
    w0, w1, w2, w3 = _of_gates(w_hh, at, fits, G, H * P, SEES)
    if PROJ:
        w_out = tl.load(w_hr + outs[None, :] * H + units[:, None], out & (units[:, None] < H), 0.0).to(SEES)
    if MASK:
        masked = tl.load(mask + rows * P + outs[None, :], row & out, 0.0).to(ACC)
    ends = tl.load(lengths + rows, row, 0) if RAGGED else rows

    start = T - 1 - first if REVERSE else first
    h = tl.load(hs + ((start + REVERSE) * B + rows) * P + own[None, :], mine, 0.0).to(ACC)
    c = h
    if KIND == LSTM:
        c = tl.load(cs + ((start + REVERSE) * SAVES * B + rows) * H + units[None, :], there, 0.0).to(ACC)

    for k in range(first, last):
        t = T - 1 - k if REVERSE else k
        step = t * B + rows
        after = step + (1 - REVERSE) * B
        seen = h
        if not WHOLE:
            before = step + REVERSE * B
            seen = tl.load(hs + before * P + outs[None, :], row & out, 0.0, cache_modifier=".cg").to(ACC)
        if MASK:
            seen *= masked
        seen = seen.to(SEES)

        a0 = tl.dot(seen, w0, input_precision=PRECISION, out_dtype=ACC)
        a1, a2, a3 = a0, a0, a0
        if G > 1:
            a1 = tl.dot(seen, w1, input_precision=PRECISION, out_dtype=ACC)
            a2 = tl.dot(seen, w2, input_precision=PRECISION, out_dtype=ACC)
        if G > 3:
            a3 = tl.dot(seen, w3, input_precision=PRECISION, out_dtype=ACC)
        gate = step * (G * H) + units[None, :]  # of the first gate; the next ones stand H numbers on
        if NORM:
            mean = _mean_of_gates(a0, a1, a2, a3, there, G, H)
            a0, a1, a2, a3 = a0 - mean, a1 - mean, a2 - mean, a3 - mean
            scale = 1 / tl.sqrt(_mean_of_gates(a0 * a0, a1 * a1, a2 * a2, a3 * a3, there, G, H) + EPS)
            a0, a1, a2, a3 = a0 * scale, a1 * scale, a2 * scale, a3 * scale
            if SAVES:
                tl.store(scales + step, scale, row)
                _tell(normed, gate, a0, a1, a2, a3, there, G, H)
            g0, g1, g2, g3 = _of_gates(gain, units[None, :], unit, G, H, ACC)
            a0, a1, a2, a3 = a0 * g0, a1 * g1, a2 * g2, a3 * g3
        if BIAS:
            b0, b1, b2, b3 = _of_gates(b_hh, units[None, :], unit, G, H, ACC)
            a0, a1, a2, a3 = a0 + b0, a1 + b1, a2 + b2, a3 + b3

        x0, x1, x2, x3 = _of_gates(gx, gate, there, G, H, ACC)

        c_new = c
        if KIND == LSTM:
            if COUPLED:
                s_f, s_g, s_o = x0 + a0, x1 + a1, x2 + a2
            else:
                s_i, s_f, s_g, s_o = x0 + a0, x1 + a1, x2 + a2, x3 + a3
                if PEEP:
                    s_i += _units(w_peep, units, H, ACC) * c
            if PEEP:
                s_f += _units(w_peep + (1 - COUPLED) * H, units, H, ACC) * c
            f = _sigmoid(s_f)
            i = 1 - f if COUPLED else _sigmoid(s_i)
            g = s_g if LINEAR_IN else _tanh(s_g)
            c_new = f * c + i * g
            if PEEP:
                s_o += _units(w_peep + (2 - COUPLED) * H, units, H, ACC) * c_new
            o = _sigmoid(s_o)
            shown = c_new
            if NORM:
                shown = c_new - _mean(c_new, there, H)
                shown *= 1 / tl.sqrt(_mean(shown * shown, there, H) + EPS)
                shown *= _units(gain_c, units, H, ACC)
                shown += _units(bias_c, units, H, ACC)
            h_new = o * (shown if LINEAR_OUT else _tanh(shown))
            if SAVES:
                kept = gate
                if not COUPLED:
                    tl.store(saved + kept, i, there)
                    kept += H
                tl.store(saved + kept, f, there)
                tl.store(saved + kept + H, g, there)
                tl.store(saved + kept + 2 * H, o, there)
            if PROJ:
                if SAVES:
                    tl.store(told + step * H + units[None, :], h_new, there)
                h_new = tl.dot(tl.where(there, h_new, 0.0).to(SEES), w_out, input_precision=PRECISION, out_dtype=ACC)
        elif KIND == GRU:
            r, z = _sigmoid(x0 + a0), _sigmoid(x1 + a1)
            n = _tanh(x2 + r * a2)
            h_new = n + z * (h - n)
            if SAVES:
                kept = step * (4 * H) + units[None, :]
                tl.store(saved + kept, r, there)
                tl.store(saved + kept + H, z, there)
                tl.store(saved + kept + 2 * H, n, there)
                tl.store(saved + kept + 3 * H, a2, there)
        else:
            h_new = x0 + a0
            h_new = _tanh(h_new) if KIND == TANH else tl.where(h_new < 0, 0.0, h_new)  # NaN stays NaN
            if SAVES:
                tl.store(saved + gate, h_new, there)

        h_new = _zoned(h_new, h, zone_h, share_h, step * P + own[None, :], mine, ZONE_H)
        if KIND == LSTM:
            c_new = _zoned(c_new, c, zone_c, share_c, step * H + units[None, :], there, ZONE_C)
        if RAGGED:
            active = t < ends
            h_new, c_new = tl.where(active, h_new, h), tl.where(active, c_new, c)
        h, c = h_new, c_new
        h = tl.where(mine, h, 0.0)  # what stands beyond the last unit is seen by the next product
        tl.store(hs + after * P + own[None, :], h, mine)
        if KIND == LSTM and SAVES:
            tl.store(cs + after * H + units[None, :], c, there)
        if MEET:
            _meet(counter + block, (k - first + 1) * TILES)
    if KIND == LSTM and not SAVES:
        tl.store(cs + rows * H + units[None, :], c, there)


# ---- backward --------------------------------------------------------------------------------------------------------


@triton.jit
def backward(
    d_output, w_hh, w_hr, w_peep, gain, gain_c, bias_c, mask, zone_h, zone_c, lengths,
    hs, cs, saved, normed, scales, dh, dc, dgx, dgh, d_new, d_shown, counter,
    share_h, share_c, first, last, block, T, B,
    KIND: tl.constexpr, G: tl.constexpr, H: tl.constexpr, P: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, OUTS: tl.constexpr,
    COUPLED: tl.constexpr, PEEP: tl.constexpr, NORM: tl.constexpr, PROJ: tl.constexpr,
    LINEAR_IN: tl.constexpr, LINEAR_OUT: tl.constexpr, MASK: tl.constexpr, ZONE_H: tl.constexpr, ZONE_C: tl.constexpr,
    RAGGED: tl.constexpr, REVERSE: tl.constexpr, TWO: tl.constexpr,
    WHOLE: tl.constexpr, MEET: tl.constexpr, TILES: tl.constexpr, EPS: tl.constexpr,
    ACC: tl.constexpr, SEES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Steps ``last`` down to ``first`` of a pass: what :func:`forward` told of them, and gradients.

    ``dh (B, P)`` and ``dc (B, H)`` come in as the gradients of the state after these steps, and go out as those of the
    state before, in a block that is not ``WHOLE`` without the share through ``gh`` of step ``first``. ``dgx`` and
    ``dgh (T, B, G, H)`` are those of the gates' shares, the same tensor unless there are ``TWO``; ``d_new (T, B, P)``
    that of the new hidden state, where it is projected; ``d_shown (T, B, H)`` of the normalised cell state.
    """
    block += tl.program_id(0)
    rows = block * ROWS + tl.arange(0, ROWS)
    units = tl.program_id(1) * UNITS + tl.arange(0, UNITS)
    outs = tl.arange(0, OUTS)
    row, unit, out = rows[:, None] < B, units[None, :] < H, outs[None, :] < P
    own = outs if WHOLE else units
    mine = row & (out if WHOLE else unit)
    there = row & unit
    rows = rows.to(tl.int64)[:, None]

    # Gradients of all gates' units (down) for the block's own share of the hidden state (across).
    froms = units if WHOLE else outs
    fits = (froms[:, None] < H) & (own[None, :] < P)
    at = froms[:, None] * P + own[None, :]
    w0, w1, w2, w3 = _of_gates(w_hh, at, fits, G, H * P, SEES)
    if PROJ:
        w_out = tl.load(w_hr + outs[:, None] * H + units[None, :], (outs[:, None] < P) & unit, 0.0).to(SEES)
    if MASK:
        masked = tl.load(mask + rows * P + own[None, :], mine, 0.0).to(ACC)
    ends = tl.load(lengths + rows, row, 0) if RAGGED else rows

    d_h = tl.load(dh + rows * P + own[None, :], mine, 0.0).to(ACC)
    d_c = d_h
    if KIND == LSTM:
        d_c = tl.load(dc + rows * H + units[None, :], there, 0.0).to(ACC)

    for j in range(last - first):
        k = last - 1 - j
        t = T - 1 - k if REVERSE else k
        step = t * B + rows
        before = step + REVERSE * B
        gate = step * (G * H) + units[None, :]
        if not WHOLE:  # what the step after this one gives through its product
            seen = (step + (-B if REVERSE else B)) * (G * H) + outs[None, :]
            known = row & (outs[None, :] < H) & (k + 1 < T)
            back = _times(dgh + seen, known, w0, SEES, ACC, PRECISION)
            if G > 1:
                back += _times(dgh + seen + H, known, w1, SEES, ACC, PRECISION)
                back += _times(dgh + seen + 2 * H, known, w2, SEES, ACC, PRECISION)
            if G > 3:
                back += _times(dgh + seen + 3 * H, known, w3, SEES, ACC, PRECISION)
            d_h += back * masked if MASK else back

        given = tl.load(d_output + step * P + own[None, :], mine, 0.0).to(ACC)
        active = t < ends if RAGGED else row
        d = tl.where(active, d_h + given, 0.0)
        past = tl.where(active, 0.0, d_h) + _kept(d, zone_h, share_h, step * P + own[None, :], mine, ZONE_H)
        d -= _kept(d, zone_h, share_h, step * P + own[None, :], mine, ZONE_H)

        if KIND == LSTM:
            if PROJ:
                tl.store(d_new + step * P + own[None, :], d, mine)
                d = tl.dot(d.to(SEES), w_out, input_precision=PRECISION, out_dtype=ACC)
            kept = gate
            if not COUPLED:
                i = tl.load(saved + kept, there, 0.0).to(ACC)
                kept += H
            f = tl.load(saved + kept, there, 0.0).to(ACC)
            g = tl.load(saved + kept + H, there, 0.0).to(ACC)
            o = tl.load(saved + kept + 2 * H, there, 0.0).to(ACC)
            if COUPLED:
                i = 1 - f
            c = tl.load(cs + before * H + units[None, :], there, 0.0).to(ACC)
            c_new = f * c + i * g
            shown = c_new
            if NORM:
                centred = c_new - _mean(c_new, there, H)
                scale = 1 / tl.sqrt(_mean(centred * centred, there, H) + EPS)
                centred *= scale
                gain_of_c = _units(gain_c, units, H, ACC)
                shown = centred * gain_of_c + _units(bias_c, units, H, ACC)
            squashed = shown if LINEAR_OUT else _tanh(shown)
            d_o = d * squashed * o * (1 - o)
            d_cell = d * o if LINEAR_OUT else d * o * (1 - squashed * squashed)
            if NORM:
                tl.store(d_shown + step * H + units[None, :], d_cell, there)
                d_cell *= gain_of_c
                d_cell -= _mean(d_cell, there, H) + centred * _mean(d_cell * centred, there, H)
                d_cell *= scale

            at_c = step * H + units[None, :]
            of_c = tl.where(active, d_c, 0.0)
            kept_c = _kept(of_c, zone_c, share_c, at_c, there, ZONE_C)
            past_c = tl.where(active, 0.0, d_c) + kept_c
            d_cell += of_c - kept_c
            if PEEP:
                d_cell += d_o * _units(w_peep + (2 - COUPLED) * H, units, H, ACC)
            d_g = d_cell * i if LINEAR_IN else d_cell * i * (1 - g * g)
            d_f = d_cell * ((c - g) if COUPLED else c) * f * (1 - f)
            d_c = past_c + d_cell * f
            if PEEP:
                d_c += d_f * _units(w_peep + (1 - COUPLED) * H, units, H, ACC)
            if COUPLED:
                a0, a1, a2, a3 = d_f, d_g, d_o, d_o
            else:
                d_i = d_cell * g * i * (1 - i)
                if PEEP:
                    d_c += d_i * _units(w_peep, units, H, ACC)
                a0, a1, a2, a3 = d_i, d_f, d_g, d_o
        elif KIND == GRU:
            kept = step * (4 * H) + units[None, :]
            r, z = tl.load(saved + kept, there, 0.0).to(ACC), tl.load(saved + kept + H, there, 0.0).to(ACC)
            n = tl.load(saved + kept + 2 * H, there, 0.0).to(ACC)
            gh_n = tl.load(saved + kept + 3 * H, there, 0.0).to(ACC)
            h = tl.load(hs + before * P + own[None, :], mine, 0.0).to(ACC)
            past += d * z
            a1 = d * (h - n) * z * (1 - z)
            a2 = d * (1 - z) * (1 - n * n)
            a0 = a2 * gh_n * r * (1 - r)
            a3 = a0
        else:
            new = tl.load(saved + gate, there, 0.0).to(ACC)
            a0 = d * (1 - new * new) if KIND == TANH else tl.where(new > 0, d, d * 0.0)
            a1, a2, a3 = a0, a0, a0

        _tell(dgx, gate, a0, a1, a2, a3, there, G, H)
        if KIND == GRU:
            a2 *= r
        if NORM:
            n0, n1, n2, n3 = _of_gates(normed, gate, there, G, H, ACC)
            g0, g1, g2, g3 = _of_gates(gain, units[None, :], unit, G, H, ACC)
            a0, a1, a2, a3 = a0 * g0, a1 * g1, a2 * g2, a3 * g3
            mean = _mean_of_gates(a0, a1, a2, a3, there, G, H)
            along = _mean_of_gates(a0 * n0, a1 * n1, a2 * n2, a3 * n3, there, G, H)
            scale = tl.load(scales + step, row, 0.0).to(ACC)
            a0, a1 = scale * (a0 - mean - n0 * along), scale * (a1 - mean - n1 * along)
            a2, a3 = scale * (a2 - mean - n2 * along), scale * (a3 - mean - n3 * along)
        a0, a1 = tl.where(there, a0, 0.0).to(SEES), tl.where(there, a1, 0.0).to(SEES)
        a2, a3 = tl.where(there, a2, 0.0).to(SEES), tl.where(there, a3, 0.0).to(SEES)
        if TWO:
            _tell(dgh, gate, a0, a1, a2, a3, there, G, H)

        d_h = past
        if WHOLE:
            back = tl.dot(a0, w0, input_precision=PRECISION, out_dtype=ACC)
            if G > 1:
                back += tl.dot(a1, w1, input_precision=PRECISION, out_dtype=ACC)
                back += tl.dot(a2, w2, input_precision=PRECISION, out_dtype=ACC)
            if G > 3:
                back += tl.dot(a3, w3, input_precision=PRECISION, out_dtype=ACC)
            d_h += back * masked if MASK else back
        if MEET:
            _meet(counter + block, (j + 1) * TILES)

    tl.store(dh + rows * P + own[None, :], d_h, mine)
    if KIND == LSTM:
        tl.store(dc + rows * H + units[None, :], d_c, there)
