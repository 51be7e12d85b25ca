"""What the Triton kernels are made of: numbers of a block's units, sums over all units of a row, meetings of blocks.

A block has some units of some sequences: tensors of ``(ROWS, UNITS)``. ``there`` says which of them exist.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl

NONE, MASKS, SHARE = (tl.constexpr(kind) for kind in range(3))  # how a state is zoned out


# ---- functions -------------------------------------------------------------------------------------------------------


@triton.jit
def sigmoid(x):
    e = tl.exp(-tl.abs(x))  # never above 1
    return tl.where(x < 0, e, 1.0) / (1 + e)


@triton.jit
def tanh(x):
    e = tl.exp(-2 * tl.abs(x))
    y = (1 - e) / (1 + e)
    return tl.where(x < 0, -y, y)


# ---- gates: up to four, G; the first stands for those missing --------------------------------------------------------


@triton.jit
def load_units(weights, units, H: tl.constexpr, ACC: tl.constexpr):
    """A number for each unit, for all rows."""
    return tl.load(weights + units, units < H, 0.0).to(ACC)[None, :]


@triton.jit
def load_gates(told, at, there, G: tl.constexpr, APART: tl.constexpr, TYPE: tl.constexpr):
    """What stands for each gate, ``APART`` numbers from one to the next."""
    a = tl.load(told + at, there, 0.0).to(TYPE)
    b, c, d = a, a, a
    if G > 1:
        b = tl.load(told + APART + at, there, 0.0).to(TYPE)
        c = tl.load(told + 2 * APART + at, there, 0.0).to(TYPE)
    if G > 3:
        d = tl.load(told + 3 * APART + at, there, 0.0).to(TYPE)
    return a, b, c, d


@triton.jit
def tell(to, at, a, b, c, d, there, G: tl.constexpr, H: tl.constexpr):
    """Write the numbers of each gate."""
    tl.store(to + at, a, there)
    if G > 1:
        tl.store(to + H + at, b, there)
        tl.store(to + 2 * H + at, c, there)
    if G > 3:
        tl.store(to + 3 * H + at, d, there)


@triton.jit
def multiply_into_gates(x, w0, w1, w2, w3, G: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """The product of a row with each gate's weights."""
    a = tl.dot(x, w0, input_precision=PRECISION, out_dtype=ACC)
    b, c, d = a, a, a
    if G > 1:
        b = tl.dot(x, w1, input_precision=PRECISION, out_dtype=ACC)
        c = tl.dot(x, w2, input_precision=PRECISION, out_dtype=ACC)
    if G > 3:
        d = tl.dot(x, w3, input_precision=PRECISION, out_dtype=ACC)
    return a, b, c, d


@triton.jit
def multiply_from_gates(a, b, c, d, w0, w1, w2, w3, G: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """The sum of the products of each gate's row with its weights."""
    found = tl.dot(a, w0, input_precision=PRECISION, out_dtype=ACC)
    if G > 1:
        found += tl.dot(b, w1, input_precision=PRECISION, out_dtype=ACC)
        found += tl.dot(c, w2, input_precision=PRECISION, out_dtype=ACC)
    if G > 3:
        found += tl.dot(d, w3, input_precision=PRECISION, out_dtype=ACC)
    return found


@triton.jit
def total(x, there):
    """Over the block's units of a row: ``(ROWS, 1)``."""
    return tl.sum(tl.where(there, x, 0.0), 1, keep_dims=True)


@triton.jit
def row_sum_of_gates(a, b, c, d, there, G: tl.constexpr):
    found = total(a, there)
    if G > 1:
        found += total(b, there) + total(c, there)
    if G > 3:
        found += total(d, there)
    return found


# ---- products with what other blocks have told: a part of the sum for each warp --------------------------------------
# A block has few units, and a product of few columns would leave most warps with the same work. So the numbers that are
# summed over are split among the warps, SPLIT of them, CHUNK numbers at a time, and the parts are added up at last.


@triton.jit
def _places(chunk, CHUNK: tl.constexpr, SPLIT: tl.constexpr):
    """Of a chunk's numbers, ``(SPLIT, CHUNK / SPLIT)``."""
    return chunk * CHUNK + tl.arange(0, SPLIT)[:, None] * (CHUNK // SPLIT) + tl.arange(0, CHUNK // SPLIT)[None, :]


@triton.jit
def load_weight_chunks(
    weights, tos, FROM: tl.constexpr, APART: tl.constexpr, TO: tl.constexpr, TO_APART: tl.constexpr,
    CHUNK: tl.constexpr, SPLIT: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Weights from all of ``FROM`` numbers to those of ``tos`` that are below ``TO``, chunk by chunk."""
    found = ()
    tos = tos[None, None, :]
    for chunk in tl.static_range((FROM + CHUNK - 1) // CHUNK):
        froms = _places(chunk, CHUNK, SPLIT)[:, :, None]
        one = tl.load(weights + froms * APART + tos * TO_APART, (froms < FROM) & (tos < TO), 0.0).to(TYPE)
        found = found + (one,)  # noqa: RUF005 - Triton has no other way
    return found


@triton.jit
def load_gate_weight_chunks(
    weights, units, G: tl.constexpr, H: tl.constexpr, P: tl.constexpr,
    CHUNK: tl.constexpr, SPLIT: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Each gate's."""
    a = load_weight_chunks(weights, units, P, 1, H, P, CHUNK, SPLIT, TYPE)
    b, c, d = a, a, a
    if G > 1:
        b = load_weight_chunks(weights + H * P, units, P, 1, H, P, CHUNK, SPLIT, TYPE)
        c = load_weight_chunks(weights + 2 * H * P, units, P, 1, H, P, CHUNK, SPLIT, TYPE)
    if G > 3:
        d = load_weight_chunks(weights + 3 * H * P, units, P, 1, H, P, CHUNK, SPLIT, TYPE)
    return a, b, c, d


@triton.jit
def _told(told, lines, row, chunk, SIZE: tl.constexpr, CHUNK: tl.constexpr, SPLIT: tl.constexpr):
    """A chunk of each row, ``(SPLIT, ROWS, CHUNK / SPLIT)``, past this processor's own cache."""
    places = _places(chunk, CHUNK, SPLIT)[:, None, :]
    known = row[None, :, :] & (places < SIZE)
    return tl.load(told + lines[None, :, :] + places, known, 0.0, cache_modifier=".cg")


@triton.jit
def times(
    told, lines, row, weights, SIZE: tl.constexpr, CHUNK: tl.constexpr, SPLIT: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, SEES: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The product of rows of ``SIZE`` numbers, which begin at ``lines``, with weights: ``(ROWS, UNITS)``."""
    found = tl.zeros((SPLIT, ROWS, UNITS), ACC)
    for chunk in tl.static_range((SIZE + CHUNK - 1) // CHUNK):
        x = _told(told, lines, row, chunk, SIZE, CHUNK, SPLIT).to(SEES)
        found = tl.dot(x, weights[chunk], found, input_precision=PRECISION, out_dtype=ACC)
    return tl.sum(found, 0)


@triton.jit
def multiply_memory_into_gates(
    told, lines, row, mask, of_mask, w0, w1, w2, w3,
    G: tl.constexpr, SIZE: tl.constexpr, MASK: tl.constexpr, CHUNK: tl.constexpr, SPLIT: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, SEES: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """As :func:`multiply_into_gates`, of rows that begin at ``lines``, times those of a mask that begin at ``of_mask``."""
    a = tl.zeros((SPLIT, ROWS, UNITS), ACC)
    b, c, d = a, a, a
    for chunk in tl.static_range((SIZE + CHUNK - 1) // CHUNK):
        x = _told(told, lines, row, chunk, SIZE, CHUNK, SPLIT)
        if MASK:
            x = x.to(ACC) * _told(mask, of_mask, row, chunk, SIZE, CHUNK, SPLIT).to(ACC)
        x = x.to(SEES)
        a = tl.dot(x, w0[chunk], a, input_precision=PRECISION, out_dtype=ACC)
        if G > 1:
            b = tl.dot(x, w1[chunk], b, input_precision=PRECISION, out_dtype=ACC)
            c = tl.dot(x, w2[chunk], c, input_precision=PRECISION, out_dtype=ACC)
        if G > 3:
            d = tl.dot(x, w3[chunk], d, input_precision=PRECISION, out_dtype=ACC)
    if G > 1:  # one sum for all gates: warps wait for each other once
        even, odd = tl.split(tl.sum(tl.join(tl.join(a, c), tl.join(b, d)), 0))
        a, c = tl.split(even)
        b, d = tl.split(odd)
    else:
        a = tl.sum(a, 0)
        b, c, d = a, a, a
    return a, b, c, d


# ---- all blocks of the same rows -------------------------------------------------------------------------------------


@triton.jit
def meet(counter, goal):
    """Wait until all blocks of these sequences have come as far: what they wrote is then there to be read."""
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="release", scope="gpu")
    while tl.atomic_add(counter, 0, sem="acquire", scope="gpu") < goal:
        pass
    tl.debug_barrier()


@triton.jit
def exchange_row_sums(a, b, parts, rows, row, counter, goal, TILES: tl.constexpr, WIDTH: tl.constexpr):
    """Two numbers of each row, ``(ROWS, 1)``, from every block: ``(ROWS, WIDTH)`` each, 0 beyond the last block."""
    at = parts + rows * (2 * TILES)
    tl.store(at + tl.program_id(1), a, row)
    tl.store(at + TILES + tl.program_id(1), b, row)
    meet(counter, goal)
    tiles = tl.arange(0, WIDTH)[None, :]
    known = row & (tiles < TILES)
    return (
        tl.load(at + tiles, known, 0.0, cache_modifier=".cg"),
        tl.load(at + TILES + tiles, known, 0.0, cache_modifier=".cg"),
    )


@triton.jit
def means(
    a, b, parts, rows, row, counter, goal,
    COUNT: tl.constexpr, TILES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Of ``COUNT`` numbers a row, of which this block has the sums ``a`` and ``b``."""
    if TILES > 1:
        a, b = exchange_row_sums(a, b, parts, rows, row, counter, goal, TILES, WIDTH)
        a, b = tl.sum(a, 1, keep_dims=True), tl.sum(b, 1, keep_dims=True)
    return a / COUNT, b / COUNT


@triton.jit
def mean_and_rstd(
    a, b, c, d, there, parts, rows, row, counter, goal,
    G: tl.constexpr, H: tl.constexpr, UNITS: tl.constexpr, TILES: tl.constexpr, WIDTH: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    """Mean of all units of all gates, and one over their standard deviation: ``(ROWS, 1)`` each.

    Blocks tell their sums and the squares about their own means; what lies between the means is added: a difference of
    large squares would lose digits.
    """
    own = tl.minimum(H - tl.program_id(1) * UNITS, UNITS) * G
    sums = row_sum_of_gates(a, b, c, d, there, G)
    mean = sums / own
    a, b, c, d = a - mean, b - mean, c - mean, d - mean
    squares = row_sum_of_gates(a * a, b * b, c * c, d * d, there, G)
    if TILES > 1:
        sums, squares = exchange_row_sums(sums, squares, parts, rows, row, counter, goal, TILES, WIDTH)
        counts = tl.minimum(tl.maximum(H - tl.arange(0, WIDTH)[None, :] * UNITS, 0), UNITS) * G
        mean = tl.sum(sums, 1, keep_dims=True) / (G * H)
        apart = sums / tl.maximum(counts, 1) - mean
        squares = tl.sum(squares + counts * apart * apart, 1, keep_dims=True)
    return mean, 1 / tl.sqrt(squares / (G * H) + EPS)


# ---- zoneout ---------------------------------------------------------------------------------------------------------


@triton.jit
def zoned(new, old, zone, share, at, there, KIND: tl.constexpr):
    """What is kept of the old: by a mask, or a share."""
    if KIND == MASKS:
        new += tl.load(zone + at, there, 0.0).to(new.dtype) * (old - new)
    if KIND == SHARE:
        new += share * (old - new)
    return new


@triton.jit
def split_zoneout_gradient(d, zone, share, at, there, active, KIND: tl.constexpr):
    """A state's gradient, in two: what goes to the new one of the step, and what to the old one past it."""
    kept = tl.zeros_like(d)
    if KIND == MASKS:
        kept = tl.load(zone + at, there, 0.0).to(d.dtype) * d
    if KIND == SHARE:
        kept = share * d
    return tl.where(active, d - kept, 0.0), tl.where(active, kept, d)
