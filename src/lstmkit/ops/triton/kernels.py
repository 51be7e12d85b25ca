"""The recurrence of every cell in Triton: all steps of a pass in one launch, forward and backward.

Dimensions, in the order in which shapes name them:

    D  directions (passes), one after the other in memory   T  steps               B  batch
    G  gates                                                H  hidden units
    P  width of the hidden state that the gates read: H, or the projection size, or 4 H with FULL_GATES
    TILES  blocks that share the units of the same sequences

A thread block has a tile of ``ROWS`` sequences and ``UNITS`` hidden units. The recurrent weights of its units stay on
the chip from the first step to the last. If one block has all units (``SINGLE_BLOCK``), the hidden state stays there
too. Otherwise blocks exchange it through memory and wait for each other at a grid barrier: after each step, and
wherever a step needs all units.

Names follow ``lstmkit/cells.py``: ``gx`` is the input projection of the gates, ``gh`` the recurrent projection. States
are stored in ``T + 1`` slots: step ``t`` reads the slot ``before`` and writes the slot ``after``, in the order of the
pass. Pointers to missing tensors are never dereferenced.

Tensors of both kernels, each with a dimension ``D`` in front:

    gx, dgx    (T, B, G, H)       input projection and its gradient
    dgh        (T, B, G, H)       gradient of the recurrent projection; dgx itself unless SEPARATE_DGH
    w_hh       (G, H, P)          recurrent weights;  w_hr (P, H) those of the output projection
    hs         (T + 1, B, P)      slots of the hidden state
    cs         (T + 1, B, H)      slots of the cell state; one slot without SAVES
    saved      (T, B, G, H)       the gates; of a GRU also gh of the candidate; of an RNN the new state
    normalized (T, B, G, H)       the recurrent projection after layer normalization, before its gain
    norm_stats (T, B, 3)          reciprocal standard deviation of the gates; mean and reciprocal standard deviation
                                  of the cell state
    unprojected (T, B, H)         the hidden state before its projection; one step without SAVES
    dh, dc     (B, P), (B, H)     gradients of the states
    d_new      (T, B, P)          gradient of the projected hidden state
    d_cell_out (T, B, H)          gradient of the normalized cell state
    partial_sums (2, D, B, 2, TILES)  row sums that blocks exchange; no D in front

With ``FULL_GATES`` the gates also read the gates of the step before. The hidden state then has four parts, ``P = 4 H``:
the output, and the input, forget and output gate.
"""

# A kernel is not Python: what a constant excludes is not compiled.
# pyright: reportPossiblyUnboundVariable=false, reportUnboundVariable=false, reportArgumentType=false, reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl

from lstmkit.ops.triton.cells import GRU, LSTM, gru, gru_backward, lstm, lstm_backward, rnn, rnn_backward
from lstmkit.ops.triton.primitives import (
    apply_zoneout,
    grid_barrier,
    load_gate_weight_chunks,
    load_gates,
    load_units,
    load_weight_chunks,
    mean_and_rstd,
    multiply_from_gates,
    multiply_into_gates,
    multiply_memory,
    multiply_memory_into_gates,
    row_means,
    row_sum,
    row_sum_of_gates,
    split_zoneout_gradient,
    store_gates,
    tanh,
)

BOTH_DIRECTIONS = tl.constexpr(2)  # of two passes, the second runs from the last step to the first


# ---- shared ----------------------------------------------------------------------------------------------------------


@triton.jit
def _direction_weights(
    direction, w_hh, w_hr, w_peep, gain, gain_c, bias_c, G: tl.constexpr, H: tl.constexpr, P: tl.constexpr
):
    """Pointers to the weights of one direction."""
    gates, units = direction * G * H, direction * H
    return w_hh + gates * P, w_hr + units * P, w_peep + gates - units, gain + gates, gain_c + units, bias_c + units


@triton.jit
def _tile(
    block, B, H: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, OUTPUT_WIDTH: tl.constexpr,
    PROJ: tl.constexpr, SINGLE_BLOCK: tl.constexpr,
):  # fmt: skip
    """Indices and masks of the tile of ``block``, counted within its direction.

    Returns:
        Sequences ``(ROWS, 1)``; units ``(UNITS,)``; columns ``(OUTPUT_WIDTH,)`` of the whole hidden state; columns of
        it that this block writes; masks of sequences ``(ROWS, 1)``, of units and of columns ``(1, …)``, of the columns
        that this block writes, and of the tile.
    """
    rows = block * ROWS + tl.arange(0, ROWS)
    units = tl.program_id(1) * UNITS + tl.arange(0, UNITS)
    columns = tl.arange(0, OUTPUT_WIDTH)
    row_mask, unit_mask, column_mask = rows[:, None] < B, units[None, :] < H, columns[None, :] < P
    own = columns if SINGLE_BLOCK else units
    own_mask = row_mask & ((own[None, :] < P) if PROJ else (own[None, :] < H))
    return (
        rows.to(tl.int64)[:, None], units, columns, own,
        row_mask, unit_mask, column_mask, own_mask, row_mask & unit_mask,
    )  # fmt: skip


# ---- forward ---------------------------------------------------------------------------------------------------------


@triton.jit
def _normalize_gates(
    a0, a1, a2, a3, gain, normalized, norm_stats, step, gate, units, row_mask, unit_mask, tile_mask,
    partial_sums, lines, counter, barriers,
    KIND: tl.constexpr, G: tl.constexpr, H: tl.constexpr, UNITS: tl.constexpr, SAVES: tl.constexpr,
    TILES: tl.constexpr, WIDTH: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Layer normalization of the recurrent projection, times its gain."""
    mean, rstd = mean_and_rstd(
        a0, a1, a2, a3, tile_mask, partial_sums, lines, row_mask, counter, barriers, G, H, UNITS, TILES, WIDTH, EPS
    )
    a0, a1, a2, a3 = (a0 - mean) * rstd, (a1 - mean) * rstd, (a2 - mean) * rstd, (a3 - mean) * rstd
    if SAVES:
        tl.store(norm_stats + step * (3 if KIND == LSTM else 1), rstd, row_mask)
        store_gates(normalized, gate, a0, a1, a2, a3, tile_mask, G, H)
    g0, g1, g2, g3 = load_gates(gain, units[None, :], unit_mask, G, H, ACC)
    return a0 * g0, a1 * g1, a2 * g2, a3 * g3


@triton.jit
def _normalize_cell(
    c_new, c, gain_c, bias_c, norm_stats, step, units, row_mask, tile_mask, partial_sums, lines, counter, barriers,
    H: tl.constexpr, UNITS: tl.constexpr, SAVES: tl.constexpr,
    TILES: tl.constexpr, WIDTH: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Layer normalization of the new cell state, with gain and bias."""
    mean, rstd = mean_and_rstd(
        c_new, c, c, c, tile_mask, partial_sums, lines, row_mask, counter, barriers, 1, H, UNITS, TILES, WIDTH, EPS
    )
    if SAVES:
        tl.store(norm_stats + step * 3 + 1, mean, row_mask)
        tl.store(norm_stats + step * 3 + 2, rstd, row_mask)
    return (c_new - mean) * rstd * load_units(gain_c, units, H, ACC) + load_units(bias_c, units, H, ACC)


@triton.jit
def _project(
    h_new, unprojected, line, units, w_out, row_mask, tile_mask, counter, barriers,
    H: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, SAVES: tl.constexpr, SINGLE_BLOCK: tl.constexpr,
    SPLIT: tl.constexpr, CHUNK_H: tl.constexpr,
    ACC: tl.constexpr, OPERAND_TYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The projection of the new hidden state; ``line`` is where its row starts in ``unprojected``."""
    if SAVES or not SINGLE_BLOCK:
        tl.store(unprojected + line + units[None, :], h_new, tile_mask)
    if SINGLE_BLOCK:
        h_new = tl.where(tile_mask, h_new, 0.0).to(OPERAND_TYPE)
        h_new = tl.dot(h_new, w_out, input_precision=PRECISION, out_dtype=ACC)
    else:
        grid_barrier(counter, barriers)
        h_new = multiply_memory(
            unprojected, line, row_mask, w_out, H, CHUNK_H, SPLIT, ROWS, UNITS, OPERAND_TYPE, ACC, PRECISION
        )
    return h_new


@triton.jit
def _carry_gates(
    i, f, o, q_i, q_f, q_o, hs, slot, zoneout_h, at, active, tile_mask,
    H: tl.constexpr, ZONEOUT_H: tl.constexpr, PROBABILITY_H: tl.constexpr,
):  # fmt: skip
    """The gates as parts of the next hidden state, written to ``hs``."""
    q_i = tl.where(active, apply_zoneout(i, q_i, zoneout_h, PROBABILITY_H, at + H, tile_mask, ZONEOUT_H), q_i)
    q_f = tl.where(active, apply_zoneout(f, q_f, zoneout_h, PROBABILITY_H, at + 2 * H, tile_mask, ZONEOUT_H), q_f)
    q_o = tl.where(active, apply_zoneout(o, q_o, zoneout_h, PROBABILITY_H, at + 3 * H, tile_mask, ZONEOUT_H), q_o)
    store_gates(hs + H, slot, q_i, q_f, q_o, q_o, tile_mask, 3, H)
    return q_i, q_f, q_o


@triton.jit
def _forward_weights(
    w_hh, w_hr, units, columns, unit_mask, column_mask,
    G: tl.constexpr, H: tl.constexpr, P: tl.constexpr, PROJ: tl.constexpr, SINGLE_BLOCK: tl.constexpr,
    SPLIT: tl.constexpr, CHUNK_P: tl.constexpr, CHUNK_H: tl.constexpr, OPERAND_TYPE: tl.constexpr,
):  # fmt: skip
    """Recurrent weights of each gate, and those of the output projection if there is one; whole, or in chunks."""
    if SINGLE_BLOCK:
        exists = (columns[:, None] < P) & unit_mask
        w0, w1, w2, w3 = load_gates(w_hh, units[None, :] * P + columns[:, None], exists, G, H * P, OPERAND_TYPE)
    else:
        w0, w1, w2, w3 = load_gate_weight_chunks(w_hh, units, G, H, P, CHUNK_P, SPLIT, OPERAND_TYPE)
    w_out = w0
    if PROJ:
        if SINGLE_BLOCK:
            exists = column_mask & (units[:, None] < H)
            w_out = tl.load(w_hr + columns[None, :] * H + units[:, None], exists, 0.0).to(OPERAND_TYPE)
        else:
            w_out = load_weight_chunks(w_hr, units, H, 1, P, H, CHUNK_H, SPLIT, OPERAND_TYPE)
    return w0, w1, w2, w3, w_out


@triton.jit
def _cell_forward(
    a0, a1, a2, a3, gx, h, c, w_peep, w_out, gain_c, bias_c, zoneout_c, saved, norm_stats, unprojected,
    step, gate, lines, units, active, row_mask, tile_mask, partial_sums, counter, barriers,
    KIND: tl.constexpr, G: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    COUPLED: tl.constexpr, PEEP: tl.constexpr, NORM: tl.constexpr, PROJ: tl.constexpr,
    LINEAR_IN: tl.constexpr, LINEAR_OUT: tl.constexpr, ZONEOUT_C: tl.constexpr, PROBABILITY_C: tl.constexpr,
    SAVES: tl.constexpr, SINGLE_BLOCK: tl.constexpr, TILES: tl.constexpr, WIDTH: tl.constexpr, EPS: tl.constexpr,
    SPLIT: tl.constexpr, CHUNK_H: tl.constexpr,
    ACC: tl.constexpr, OPERAND_TYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One step of the cell from the recurrent projections ``a``.

    Returns:
        The new hidden state before zoneout; the cell state after it; the gates ``i, f, o`` of an LSTM; ``barriers``.
    """
    x0, x1, x2, x3 = load_gates(gx, gate, tile_mask, G, H, ACC)
    i, f, o = h, h, h
    if KIND == LSTM:
        i, f, g, o, c_new = lstm(x0 + a0, x1 + a1, x2 + a2, x3 + a3, c, w_peep, units, H, ACC, COUPLED, PEEP, LINEAR_IN)
        if SAVES:
            if COUPLED:
                store_gates(saved, gate, f, g, o, o, tile_mask, G, H)
            else:
                store_gates(saved, gate, i, f, g, o, tile_mask, G, H)
        c_out = c_new
        if NORM:
            barriers += TILES
            c_out = _normalize_cell(
                c_new, c, gain_c, bias_c, norm_stats, step, units, row_mask, tile_mask,
                partial_sums, lines, counter, barriers, H, UNITS, SAVES, TILES, WIDTH, EPS, ACC,
            )  # fmt: skip
        h_new = o * (c_out if LINEAR_OUT else tanh(c_out))
        if PROJ:
            if not SINGLE_BLOCK:
                barriers += TILES
            h_new = _project(
                h_new, unprojected, (step if SAVES else lines) * H, units, w_out, row_mask, tile_mask,
                counter, barriers, H, ROWS, UNITS, SAVES, SINGLE_BLOCK, SPLIT, CHUNK_H, ACC, OPERAND_TYPE, PRECISION,
            )  # fmt: skip
        c_new = apply_zoneout(c_new, c, zoneout_c, PROBABILITY_C, step * H + units[None, :], tile_mask, ZONEOUT_C)
        c = tl.where(active, c_new, c)
    elif KIND == GRU:
        r, z, n, h_new = gru(x0, x1, x2, a0, a1, a2, h)
        if SAVES:
            store_gates(saved, step * (4 * H) + units[None, :], r, z, n, a2, tile_mask, 4, H)
    else:
        h_new = rnn(x0 + a0, KIND)
        if SAVES:
            tl.store(saved + gate, h_new, tile_mask)
    return h_new, c, i, f, o, barriers


@triton.jit(do_not_specialize=["block", "blocks", "T", "B"])  # one kernel for all of them
def forward(
    gx, w_hh, b_hh, w_hr, w_peep, gain, gain_c, bias_c, mask, zoneout_h, zoneout_c, lengths,
    hs, cs, saved, normalized, norm_stats, unprojected, partial_sums, counter, block, blocks, T, B,
    KIND: tl.constexpr, G: tl.constexpr, H: tl.constexpr, P: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, OUTPUT_WIDTH: tl.constexpr,
    BIAS: tl.constexpr, COUPLED: tl.constexpr, PEEP: tl.constexpr, NORM: tl.constexpr, PROJ: tl.constexpr,
    LINEAR_IN: tl.constexpr, LINEAR_OUT: tl.constexpr, FULL_GATES: tl.constexpr, MASK: tl.constexpr,
    ZONEOUT_H: tl.constexpr, ZONEOUT_C: tl.constexpr, PROBABILITY_H: tl.constexpr, PROBABILITY_C: tl.constexpr,
    RAGGED: tl.constexpr, DIRECTIONS: tl.constexpr, REVERSE: tl.constexpr, SAVES: tl.constexpr,
    SINGLE_BLOCK: tl.constexpr, TILES: tl.constexpr, WIDTH: tl.constexpr, EPS: tl.constexpr,
    SPLIT: tl.constexpr, CHUNK_P: tl.constexpr, CHUNK_H: tl.constexpr, CHUNK_GH: tl.constexpr,
    ACC: tl.constexpr, OPERAND_TYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """All steps of the sequences from ``block`` on; a pass has ``blocks`` blocks of sequences.

    ``hs`` and ``cs`` hold the initial state in their first slots. The other outputs, ``saved`` to ``unprojected``, are
    written if ``SAVES``.
    """
    block += tl.program_id(0)
    counter += block
    direction = (block // blocks).to(tl.int64) if DIRECTIONS > 1 else 0
    reverse = direction if REVERSE == BOTH_DIRECTIONS else REVERSE
    rows, units, columns, own, row_mask, unit_mask, column_mask, own_mask, tile_mask = _tile(
        block - direction * blocks, B, H, P, ROWS, UNITS, OUTPUT_WIDTH, PROJ, SINGLE_BLOCK
    )
    lines = direction * B + rows  # rows of tensors without steps,
    begin, slots = direction * B * T + rows, direction * B * (T + 1) + rows  # with steps, and with slots
    w_hh, w_hr, w_peep, gain, gain_c, bias_c = _direction_weights(
        direction, w_hh, w_hr, w_peep, gain, gain_c, bias_c, G, H, P
    )
    b_hh += direction * G * H

    w0, w1, w2, w3, w_out = _forward_weights(
        w_hh, w_hr, units, columns, unit_mask, column_mask,
        G, H, P, PROJ, SINGLE_BLOCK, SPLIT, CHUNK_P, CHUNK_H, OPERAND_TYPE,
    )  # fmt: skip
    if MASK and SINGLE_BLOCK:
        dropout = tl.load(mask + lines * P + columns[None, :], row_mask & column_mask, 0.0).to(ACC)
    ends = tl.load(lengths + rows, row_mask, 0) if RAGGED else rows

    first = slots + reverse * T * B
    h = tl.load(hs + first * P + own[None, :], own_mask, 0.0).to(ACC)
    c = h
    if KIND == LSTM:
        c = tl.load(cs + (first if SAVES else lines) * H + units[None, :], tile_mask, 0.0).to(ACC)
    if FULL_GATES:
        q_i, q_f, q_o, _ = load_gates(hs + H, first * P + units[None, :], tile_mask, 3, H, ACC)

    barriers = 0  # the value of the counter at the next barrier
    for k in range(T):
        t = k + reverse * (T - 1 - 2 * k)
        step = begin + t * B
        before = slots + (t + reverse) * B
        after = slots + (t + 1 - reverse) * B
        active = t < ends if RAGGED else row_mask
        if SINGLE_BLOCK:
            operand = (h * dropout if MASK else h).to(OPERAND_TYPE)
            a0, a1, a2, a3 = multiply_into_gates(operand, w0, w1, w2, w3, G, ACC, PRECISION)
        else:
            a0, a1, a2, a3 = multiply_memory_into_gates(
                hs, before * P, row_mask, mask, lines * P, w0, w1, w2, w3,
                G, P, MASK, CHUNK_P, SPLIT, ROWS, UNITS, OPERAND_TYPE, ACC, PRECISION,
            )  # fmt: skip
        gate = step * (G * H) + units[None, :]  # offset of the first gate; the others follow H elements apart
        if NORM:
            barriers += TILES
            a0, a1, a2, a3 = _normalize_gates(
                a0, a1, a2, a3, gain, normalized, norm_stats, step, gate, units, row_mask, unit_mask, tile_mask,
                partial_sums, lines, counter, barriers, KIND, G, H, UNITS, SAVES, TILES, WIDTH, EPS, ACC,
            )  # fmt: skip
        if BIAS:
            b0, b1, b2, b3 = load_gates(b_hh, units[None, :], unit_mask, G, H, ACC)
            a0, a1, a2, a3 = a0 + b0, a1 + b1, a2 + b2, a3 + b3
        h_new, c, i, f, o, barriers = _cell_forward(
            a0, a1, a2, a3, gx, h, c, w_peep, w_out, gain_c, bias_c, zoneout_c, saved, norm_stats, unprojected,
            step, gate, lines, units, active, row_mask, tile_mask,
            partial_sums + DIRECTIONS * B * (2 * TILES), counter, barriers,
            KIND, G, H, ROWS, UNITS, COUPLED, PEEP, NORM, PROJ, LINEAR_IN, LINEAR_OUT, ZONEOUT_C, PROBABILITY_C,
            SAVES, SINGLE_BLOCK, TILES, WIDTH, EPS, SPLIT, CHUNK_H, ACC, OPERAND_TYPE, PRECISION,
        )  # fmt: skip

        at = step * P + own[None, :]
        h = tl.where(active, apply_zoneout(h_new, h, zoneout_h, PROBABILITY_H, at, own_mask, ZONEOUT_H), h)
        h = tl.where(own_mask, h, 0.0)  # the next product reads the columns beyond the last unit, too
        tl.store(hs + after * P + own[None, :], h, own_mask)
        if FULL_GATES:
            q_i, q_f, q_o = _carry_gates(
                i, f, o, q_i, q_f, q_o, hs, after * P + units[None, :], zoneout_h, at, active, tile_mask,
                H, ZONEOUT_H, PROBABILITY_H,
            )  # fmt: skip
        if KIND == LSTM and SAVES:
            tl.store(cs + after * H + units[None, :], c, tile_mask)
        if not SINGLE_BLOCK:
            barriers += TILES
            grid_barrier(counter, barriers)
    if KIND == LSTM and not SAVES:
        tl.store(cs + lines * H + units[None, :], c, tile_mask)


# ---- backward --------------------------------------------------------------------------------------------------------


@triton.jit
def _recurrent_gradients(
    d_h, d_i, d_f, d_o, dgh, row_starts, exists, weights, dropout, w_hh, units,
    G: tl.constexpr, H: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    FULL_GATES: tl.constexpr, MASK: tl.constexpr, SPLIT: tl.constexpr, CHUNK_GH: tl.constexpr,
    ACC: tl.constexpr, OPERAND_TYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add the gradients through the recurrent product of the next step, whose ``dgh`` starts at ``row_starts``.

    The weights to the gates of ``FULL_GATES`` do not stay on the chip.
    """
    recurrent = multiply_memory(
        dgh, row_starts, exists, weights, G * H, CHUNK_GH, SPLIT, ROWS, UNITS, OPERAND_TYPE, ACC, PRECISION
    )
    d_h += recurrent * dropout if MASK else recurrent
    if FULL_GATES:
        w = load_weight_chunks(w_hh + H, units, G * H, P, H, 1, CHUNK_GH, SPLIT, OPERAND_TYPE)
        d_i += multiply_memory(
            dgh, row_starts, exists, w, G * H, CHUNK_GH, SPLIT, ROWS, UNITS, OPERAND_TYPE, ACC, PRECISION
        )
        w = load_weight_chunks(w_hh + 2 * H, units, G * H, P, H, 1, CHUNK_GH, SPLIT, OPERAND_TYPE)
        d_f += multiply_memory(
            dgh, row_starts, exists, w, G * H, CHUNK_GH, SPLIT, ROWS, UNITS, OPERAND_TYPE, ACC, PRECISION
        )
        w = load_weight_chunks(w_hh + 3 * H, units, G * H, P, H, 1, CHUNK_GH, SPLIT, OPERAND_TYPE)
        d_o += multiply_memory(
            dgh, row_starts, exists, w, G * H, CHUNK_GH, SPLIT, ROWS, UNITS, OPERAND_TYPE, ACC, PRECISION
        )
    return d_h, d_i, d_f, d_o


@triton.jit
def _split_gate_gradients(
    e_i, e_f, e_o, d_i, d_f, d_o, d_output, zoneout_h, at, active, tile_mask,
    H: tl.constexpr, ZONEOUT_H: tl.constexpr, PROBABILITY_H: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """With ``FULL_GATES``: gradients of the gates of the step, and of the gates that zoneout keeps."""
    out_i, out_f, out_o, _ = load_gates(d_output + H, at, tile_mask & active, 3, H, ACC)
    own_i, d_i = split_zoneout_gradient(d_i + out_i, zoneout_h, PROBABILITY_H, at + H, tile_mask, active, ZONEOUT_H)
    own_f, d_f = split_zoneout_gradient(d_f + out_f, zoneout_h, PROBABILITY_H, at + 2 * H, tile_mask, active, ZONEOUT_H)
    own_o, d_o = split_zoneout_gradient(d_o + out_o, zoneout_h, PROBABILITY_H, at + 3 * H, tile_mask, active, ZONEOUT_H)
    return e_i + own_i, e_f + own_f, e_o + own_o, d_i, d_f, d_o


@triton.jit
def _project_backward(
    d, d_new, at, step, w_out, row_mask, own_mask, counter, barriers,
    P: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, SINGLE_BLOCK: tl.constexpr,
    SPLIT: tl.constexpr, CHUNK_P: tl.constexpr,
    ACC: tl.constexpr, OPERAND_TYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of the hidden state before its projection; that of the projected one is stored in ``d_new``."""
    tl.store(d_new + at, d, own_mask)
    if SINGLE_BLOCK:
        d = tl.dot(d.to(OPERAND_TYPE), w_out, input_precision=PRECISION, out_dtype=ACC)
    else:
        grid_barrier(counter, barriers)
        d = multiply_memory(
            d_new, step * P, row_mask, w_out, P, CHUNK_P, SPLIT, ROWS, UNITS, OPERAND_TYPE, ACC, PRECISION
        )
    return d


@triton.jit
def _cell_output_backward(
    d, o, c_new, gain_c, bias_c, norm_stats, d_cell_out, step, units, row_mask, tile_mask,
    partial_sums, lines, counter, barriers,
    H: tl.constexpr, NORM: tl.constexpr, LINEAR_OUT: tl.constexpr,
    TILES: tl.constexpr, WIDTH: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Backward through ``h = o ⊙ tanh(norm(c))``: gradient of the new cell state, and the squashed cell state."""
    c_out = c_new
    if NORM:
        mean = tl.load(norm_stats + step * 3 + 1, row_mask, 0.0).to(ACC)
        rstd = tl.load(norm_stats + step * 3 + 2, row_mask, 0.0).to(ACC)
        normalized_c = (c_new - mean) * rstd
        gain = load_units(gain_c, units, H, ACC)
        c_out = normalized_c * gain + load_units(bias_c, units, H, ACC)
    squashed = c_out if LINEAR_OUT else tanh(c_out)
    d_cell = d * o if LINEAR_OUT else d * o * (1 - squashed * squashed)
    if NORM:
        tl.store(d_cell_out + step * H + units[None, :], d_cell, tile_mask)
        d_cell *= gain
        mean, projection = row_means(
            row_sum(d_cell, tile_mask), row_sum(d_cell * normalized_c, tile_mask),
            partial_sums, lines, row_mask, counter, barriers, H, TILES, WIDTH,
        )  # fmt: skip
        d_cell = rstd * (d_cell - mean - normalized_c * projection)
    return d_cell, squashed


@triton.jit
def _normalize_gates_backward(
    a0, a1, a2, a3, gain, normalized, norm_stats, step, gate, units, row_mask, unit_mask, tile_mask,
    partial_sums, lines, counter, barriers,
    KIND: tl.constexpr, G: tl.constexpr, H: tl.constexpr,
    TILES: tl.constexpr, WIDTH: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Backward through :func:`_normalize_gates`."""
    n0, n1, n2, n3 = load_gates(normalized, gate, tile_mask, G, H, ACC)
    g0, g1, g2, g3 = load_gates(gain, units[None, :], unit_mask, G, H, ACC)
    a0, a1, a2, a3 = a0 * g0, a1 * g1, a2 * g2, a3 * g3
    mean, projection = row_means(
        row_sum_of_gates(a0, a1, a2, a3, tile_mask, G),
        row_sum_of_gates(a0 * n0, a1 * n1, a2 * n2, a3 * n3, tile_mask, G),
        partial_sums, lines, row_mask, counter, barriers, G * H, TILES, WIDTH,
    )  # fmt: skip
    rstd = tl.load(norm_stats + step * (3 if KIND == LSTM else 1), row_mask, 0.0).to(ACC)
    a0, a1 = rstd * (a0 - mean - n0 * projection), rstd * (a1 - mean - n1 * projection)
    a2, a3 = rstd * (a2 - mean - n2 * projection), rstd * (a3 - mean - n3 * projection)
    return a0, a1, a2, a3


@triton.jit
def _load_lstm_gates(
    saved, gate, tile_mask, e0, e1, e2, e3, G: tl.constexpr, H: tl.constexpr, ACC: tl.constexpr, COUPLED: tl.constexpr
):
    """The gates ``i, f, g, o`` of a step, and their gradients from a trace in the same order."""
    if COUPLED:
        f, g, o, _ = load_gates(saved, gate, tile_mask, G, H, ACC)
        e_i, e_f, e_g, e_o = e0, e0, e1, e2
        i = 1 - f
    else:
        i, f, g, o = load_gates(saved, gate, tile_mask, G, H, ACC)
        e_i, e_f, e_g, e_o = e0, e1, e2, e3
    return i, f, g, o, e_i, e_f, e_g, e_o


@triton.jit
def _backward_weights(
    w_hh, w_hr, units, columns, unit_mask, column_mask,
    G: tl.constexpr, H: tl.constexpr, P: tl.constexpr, PROJ: tl.constexpr, SINGLE_BLOCK: tl.constexpr,
    SPLIT: tl.constexpr, CHUNK_P: tl.constexpr, CHUNK_GH: tl.constexpr, OPERAND_TYPE: tl.constexpr,
):  # fmt: skip
    """Weights from the units of all gates to the columns of the hidden state that this block has.

    Returns:
        A matrix for each gate, or chunks over all gates; and the weights of the output projection if there is one.
    """
    if SINGLE_BLOCK:
        exists = (units[:, None] < H) & column_mask
        weights = load_gates(w_hh, units[:, None] * P + columns[None, :], exists, G, H * P, OPERAND_TYPE)
    else:
        weights = load_weight_chunks(w_hh, units, G * H, P, P if PROJ else H, 1, CHUNK_GH, SPLIT, OPERAND_TYPE)
    w_out = weights
    if PROJ:
        if SINGLE_BLOCK:
            exists = (columns[:, None] < P) & unit_mask
            w_out = tl.load(w_hr + columns[:, None] * H + units[None, :], exists, 0.0).to(OPERAND_TYPE)
        else:
            w_out = load_weight_chunks(w_hr, units, P, H, H, 1, CHUNK_P, SPLIT, OPERAND_TYPE)
    return weights, w_out


@triton.jit
def _cell_backward(
    d, d_h, d_c, d_i, d_f, d_o, d_output, d_saved, d_cs, d_new, d_cell_out, dgx, hs, cs, saved, norm_stats,
    w_peep, w_out, gain_c, bias_c, zoneout_h, zoneout_c, step, before, after, at, gate, lines,
    units, own, active, row_mask, own_mask, tile_mask, partial_sums, counter, barriers,
    KIND: tl.constexpr, G: tl.constexpr, H: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
    COUPLED: tl.constexpr, PEEP: tl.constexpr, NORM: tl.constexpr, PROJ: tl.constexpr,
    LINEAR_IN: tl.constexpr, LINEAR_OUT: tl.constexpr, FULL_GATES: tl.constexpr,
    ZONEOUT_H: tl.constexpr, ZONEOUT_C: tl.constexpr, PROBABILITY_H: tl.constexpr, PROBABILITY_C: tl.constexpr,
    TRACED: tl.constexpr, SINGLE_BLOCK: tl.constexpr, TILES: tl.constexpr, WIDTH: tl.constexpr,
    SPLIT: tl.constexpr, CHUNK_P: tl.constexpr,
    ACC: tl.constexpr, OPERAND_TYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One step of the cell backward, from the gradient ``d`` of the new hidden state; stores ``dgx``.

    Returns:
        Gradients of the recurrent projections before layer normalization; those of the states before the step,
        ``d_h, d_c, d_i, d_f, d_o``, as far as they do not go through the projections; ``barriers``.
    """
    e0, e1, e2, e3 = tl.zeros_like(d_c), tl.zeros_like(d_c), tl.zeros_like(d_c), tl.zeros_like(d_c)
    if TRACED:
        e0, e1, e2, e3 = load_gates(
            d_saved, step * (4 * H if KIND == GRU else G * H) + units[None, :], tile_mask, G, H, ACC
        )
    if KIND == LSTM:
        i, f, g, o, e_i, e_f, e_g, e_o = _load_lstm_gates(saved, gate, tile_mask, e0, e1, e2, e3, G, H, ACC, COUPLED)
        if FULL_GATES:
            e_i, e_f, e_o, d_i, d_f, d_o = _split_gate_gradients(
                e_i, e_f, e_o, d_i, d_f, d_o, d_output, zoneout_h, at, active, tile_mask,
                H, ZONEOUT_H, PROBABILITY_H, ACC,
            )  # fmt: skip
        if PROJ:
            if not SINGLE_BLOCK:
                barriers += TILES
            d = _project_backward(
                d, d_new, at, step, w_out, row_mask, own_mask, counter, barriers,
                P, ROWS, UNITS, SINGLE_BLOCK, SPLIT, CHUNK_P, ACC, OPERAND_TYPE, PRECISION,
            )  # fmt: skip
        c = tl.load(cs + before * H + units[None, :], tile_mask, 0.0).to(ACC)
        if NORM:
            barriers += TILES
        d_cell, squashed = _cell_output_backward(
            d, o, f * c + i * g, gain_c, bias_c, norm_stats, d_cell_out, step, units, row_mask, tile_mask,
            partial_sums, lines, counter, barriers,
            H, NORM, LINEAR_OUT, TILES, WIDTH, ACC,
        )  # fmt: skip
        if TRACED:
            d_c += tl.load(d_cs + after * H + units[None, :], tile_mask, 0.0).to(ACC)
        d_new_c, d_kept = split_zoneout_gradient(
            d_c, zoneout_c, PROBABILITY_C, step * H + units[None, :], tile_mask, active, ZONEOUT_C
        )
        a0, a1, a2, a3, d_c = lstm_backward(
            d_cell + d_new_c, d * squashed + e_o, d_kept, i, f, g, o, c, e_i, e_f, e_g, w_peep, units,
            H, ACC, COUPLED, PEEP, LINEAR_IN,
        )  # fmt: skip
    elif KIND == GRU:
        r, z, n, gh_n = load_gates(saved, step * (4 * H) + units[None, :], tile_mask, 4, H, ACC)
        h = tl.load(hs + before * P + own[None, :], own_mask, 0.0).to(ACC)
        a0, a1, a2 = gru_backward(d, r, z, n, gh_n, h, e0, e1, e2)
        a3 = a0
        d_h += d * z
    else:
        new = tl.load(saved + gate, tile_mask, 0.0).to(ACC)
        a0 = rnn_backward(d, new, KIND)
        a1, a2, a3 = a0, a0, a0

    store_gates(dgx, gate, a0, a1, a2, a3, tile_mask, G, H)
    if KIND == GRU:
        a2 *= r
    return a0, a1, a2, a3, d_h, d_c, d_i, d_f, d_o, barriers


@triton.jit(do_not_specialize=["block", "blocks", "T", "B"])  # one kernel for all of them
def backward(
    d_output, d_saved, d_cs, w_hh, w_hr, w_peep, gain, gain_c, bias_c, mask, zoneout_h, zoneout_c, lengths, hs,
    cs, saved, normalized, norm_stats, dh, dc, dgx, dgh, d_new, d_cell_out, partial_sums, counter, block, blocks, T, B,
    KIND: tl.constexpr, G: tl.constexpr, H: tl.constexpr, P: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, OUTPUT_WIDTH: tl.constexpr,
    COUPLED: tl.constexpr, PEEP: tl.constexpr, NORM: tl.constexpr, PROJ: tl.constexpr,
    LINEAR_IN: tl.constexpr, LINEAR_OUT: tl.constexpr, FULL_GATES: tl.constexpr, MASK: tl.constexpr,
    ZONEOUT_H: tl.constexpr, ZONEOUT_C: tl.constexpr, PROBABILITY_H: tl.constexpr, PROBABILITY_C: tl.constexpr,
    RAGGED: tl.constexpr, DIRECTIONS: tl.constexpr, REVERSE: tl.constexpr, TRACED: tl.constexpr,
    SEPARATE_DGH: tl.constexpr, SINGLE_BLOCK: tl.constexpr, TILES: tl.constexpr, WIDTH: tl.constexpr, EPS: tl.constexpr,
    SPLIT: tl.constexpr, CHUNK_P: tl.constexpr, CHUNK_H: tl.constexpr, CHUNK_GH: tl.constexpr,
    ACC: tl.constexpr, OPERAND_TYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """All steps in the opposite order, from what :func:`forward` saved of them, and the gradients.

    ``d_output (T, B, P)`` is the gradient of the hidden state after each step. If ``TRACED``, ``d_saved`` and ``d_cs``
    are those of the gates and of the slots of the cell state. ``dh`` and ``dc`` hold the gradients of the final state
    and are overwritten with those of the initial state; unless ``SINGLE_BLOCK``, without the part through the recurrent
    projection of the first step.
    """
    block += tl.program_id(0)
    counter += block
    direction = (block // blocks).to(tl.int64) if DIRECTIONS > 1 else 0
    reverse = direction if REVERSE == BOTH_DIRECTIONS else REVERSE
    rows, units, columns, own, row_mask, unit_mask, column_mask, own_mask, tile_mask = _tile(
        block - direction * blocks, B, H, P, ROWS, UNITS, OUTPUT_WIDTH, PROJ, SINGLE_BLOCK
    )
    lines = direction * B + rows
    begin, slots = direction * B * T + rows, direction * B * (T + 1) + rows
    w_hh, w_hr, w_peep, gain, gain_c, bias_c = _direction_weights(
        direction, w_hh, w_hr, w_peep, gain, gain_c, bias_c, G, H, P
    )

    weights, w_out = _backward_weights(
        w_hh, w_hr, units, columns, unit_mask, column_mask,
        G, H, P, PROJ, SINGLE_BLOCK, SPLIT, CHUNK_P, CHUNK_GH, OPERAND_TYPE,
    )  # fmt: skip
    dropout = own_mask
    if MASK:
        dropout = tl.load(mask + lines * P + own[None, :], own_mask, 0.0).to(ACC)
    ends = tl.load(lengths + rows, row_mask, 0) if RAGGED else rows

    d_h = tl.load(dh + lines * P + own[None, :], own_mask, 0.0).to(ACC)
    d_c = d_h
    if KIND == LSTM:
        d_c = tl.load(dc + lines * H + units[None, :], tile_mask, 0.0).to(ACC)
    d_i, d_f, d_o = d_c, d_c, d_c
    if FULL_GATES:
        d_i, d_f, d_o, _ = load_gates(dh + H, lines * P + units[None, :], tile_mask, 3, H, ACC)

    barriers = 0  # the value of the counter at the next barrier
    for k in range(T):
        t = T - 1 - k - reverse * (T - 1 - 2 * k)
        step = begin + t * B
        before = slots + (t + reverse) * B
        after = slots + (t + 1 - reverse) * B
        gate = step * (G * H) + units[None, :]
        active = t < ends if RAGGED else row_mask
        if not SINGLE_BLOCK:  # the gradient through the recurrent product of the next step
            row_starts, exists = (step + (1 - 2 * reverse) * B) * (G * H), row_mask & (k > 0)
            d_h, d_i, d_f, d_o = _recurrent_gradients(
                d_h, d_i, d_f, d_o, dgh, row_starts, exists, weights, dropout, w_hh, units,
                G, H, P, ROWS, UNITS, FULL_GATES, MASK, SPLIT, CHUNK_GH, ACC, OPERAND_TYPE, PRECISION,
            )  # fmt: skip

        at = step * P + own[None, :]
        d_h += tl.load(d_output + at, own_mask & active, 0.0).to(ACC)
        d, d_h = split_zoneout_gradient(d_h, zoneout_h, PROBABILITY_H, at, own_mask, active, ZONEOUT_H)
        a0, a1, a2, a3, d_h, d_c, d_i, d_f, d_o, barriers = _cell_backward(
            d, d_h, d_c, d_i, d_f, d_o, d_output, d_saved, d_cs, d_new, d_cell_out, dgx, hs, cs, saved, norm_stats,
            w_peep, w_out, gain_c, bias_c, zoneout_h, zoneout_c, step, before, after, at, gate, lines,
            units, own, active, row_mask, own_mask, tile_mask,
            partial_sums + DIRECTIONS * B * (2 * TILES), counter, barriers,
            KIND, G, H, P, ROWS, UNITS, COUPLED, PEEP, NORM, PROJ, LINEAR_IN, LINEAR_OUT, FULL_GATES,
            ZONEOUT_H, ZONEOUT_C, PROBABILITY_H, PROBABILITY_C, TRACED, SINGLE_BLOCK, TILES, WIDTH,
            SPLIT, CHUNK_P, ACC, OPERAND_TYPE, PRECISION,
        )  # fmt: skip
        if NORM:
            barriers += TILES
            a0, a1, a2, a3 = _normalize_gates_backward(
                a0, a1, a2, a3, gain, normalized, norm_stats, step, gate, units, row_mask, unit_mask, tile_mask,
                partial_sums, lines, counter, barriers, KIND, G, H, TILES, WIDTH, ACC,
            )  # fmt: skip
        a0, a1 = tl.where(tile_mask, a0, 0.0).to(OPERAND_TYPE), tl.where(tile_mask, a1, 0.0).to(OPERAND_TYPE)
        a2, a3 = tl.where(tile_mask, a2, 0.0).to(OPERAND_TYPE), tl.where(tile_mask, a3, 0.0).to(OPERAND_TYPE)
        if SEPARATE_DGH:
            store_gates(dgh, gate, a0, a1, a2, a3, tile_mask, G, H)

        if SINGLE_BLOCK:
            recurrent = multiply_from_gates(a0, a1, a2, a3, weights, G, ACC, PRECISION)
            d_h += recurrent * dropout if MASK else recurrent
        else:
            barriers += TILES
            grid_barrier(counter, barriers)

    tl.store(dh + lines * P + own[None, :], d_h, own_mask)
    if KIND == LSTM:
        tl.store(dc + lines * H + units[None, :], d_c, tile_mask)
    if FULL_GATES:
        store_gates(dh + H, lines * P + units[None, :], d_i, d_f, d_o, d_o, tile_mask, 3, H)
