"""Building blocks of the Triton kernels: loads and stores of gates, products, row sums, grid barriers, zoneout.

A thread block has a tile of the state: ``ROWS`` sequences times ``UNITS`` hidden units, tensors of ``(ROWS, UNITS)``.
The mask ``tile_mask`` says which of its elements exist.

Dimensions: ``G`` gates, ``H`` hidden units, ``P`` width of the hidden state that the gates read, ``TILES`` blocks that
share the units of the same sequences, ``WIDTH`` the power of two from ``TILES`` on.
Types: ``ACC`` that of sums, ``OPERAND_TYPE`` that of the operands of matrix products.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl

NONE, MASKS, PROBABILITY = (tl.constexpr(kind) for kind in range(3))  # how zoneout is given


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


# ---- gates: up to four, G of them; the first stands in for those missing ---------------------------------------------


@triton.jit
def load_units(weights, units, H: tl.constexpr, ACC: tl.constexpr):
    """One value per unit, the same for all rows: ``(1, UNITS)``."""
    return tl.load(weights + units, units < H, 0.0).to(ACC)[None, :]


@triton.jit
def load_gates(source, offsets, tile_mask, G: tl.constexpr, STRIDE: tl.constexpr, TYPE: tl.constexpr):
    """The values of each gate, ``STRIDE`` elements from one gate to the next."""
    a = tl.load(source + offsets, tile_mask, 0.0).to(TYPE)
    b, c, d = a, a, a
    if G > 1:
        b = tl.load(source + STRIDE + offsets, tile_mask, 0.0).to(TYPE)
        c = tl.load(source + 2 * STRIDE + offsets, tile_mask, 0.0).to(TYPE)
    if G > 3:
        d = tl.load(source + 3 * STRIDE + offsets, tile_mask, 0.0).to(TYPE)
    return a, b, c, d


@triton.jit
def store_gates(target, offsets, a, b, c, d, tile_mask, G: tl.constexpr, H: tl.constexpr):
    """Store the values of each gate, ``H`` elements from one gate to the next."""
    tl.store(target + offsets, a, tile_mask)
    if G > 1:
        tl.store(target + H + offsets, b, tile_mask)
        tl.store(target + 2 * H + offsets, c, tile_mask)
    if G > 3:
        tl.store(target + 3 * H + offsets, d, tile_mask)


@triton.jit
def multiply_into_gates(x, w0, w1, w2, w3, G: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """The product of ``x (ROWS, P)`` with the weights of each gate."""
    a = tl.dot(x, w0, input_precision=PRECISION, out_dtype=ACC)
    b, c, d = a, a, a
    if G > 1:
        b = tl.dot(x, w1, input_precision=PRECISION, out_dtype=ACC)
        c = tl.dot(x, w2, input_precision=PRECISION, out_dtype=ACC)
    if G > 3:
        d = tl.dot(x, w3, input_precision=PRECISION, out_dtype=ACC)
    return a, b, c, d


@triton.jit
def multiply_from_gates(a, b, c, d, weights, G: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """The sum over gates of the product of each gate with its weights."""
    result = tl.dot(a, weights[0], input_precision=PRECISION, out_dtype=ACC)
    if G > 1:
        result += tl.dot(b, weights[1], input_precision=PRECISION, out_dtype=ACC)
        result += tl.dot(c, weights[2], input_precision=PRECISION, out_dtype=ACC)
    if G > 3:
        result += tl.dot(d, weights[3], input_precision=PRECISION, out_dtype=ACC)
    return result


@triton.jit
def row_sum(x, tile_mask):
    """The sum over the units of the block: ``(ROWS, 1)``."""
    return tl.sum(tl.where(tile_mask, x, 0.0), 1, keep_dims=True)


@triton.jit
def row_sum_of_gates(a, b, c, d, tile_mask, G: tl.constexpr):
    """The sum over the units of the block and over all gates: ``(ROWS, 1)``."""
    result = row_sum(a, tile_mask)
    if G > 1:
        result += row_sum(b, tile_mask) + row_sum(c, tile_mask)
    if G > 3:
        result += row_sum(d, tile_mask)
    return result


# ---- products with rows in global memory, which other blocks have written: split-K over the warps --------------------
# A block has few units, and a product with few columns would give most warps the same work. So the terms of a sum are
# split among SPLIT warps, CHUNK terms at a time, and the partial sums are added at the end.


@triton.jit
def _chunk_offsets(chunk, CHUNK: tl.constexpr, SPLIT: tl.constexpr):
    """Indices of the terms in a chunk, ``(SPLIT, CHUNK / SPLIT)``."""
    return chunk * CHUNK + tl.arange(0, SPLIT)[:, None] * (CHUNK // SPLIT) + tl.arange(0, CHUNK // SPLIT)[None, :]


@triton.jit
def load_weight_chunks(
    weights, columns, K: tl.constexpr, K_STRIDE: tl.constexpr, N: tl.constexpr, N_STRIDE: tl.constexpr,
    CHUNK: tl.constexpr, SPLIT: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Columns of a ``(K, N)`` matrix, a tuple of chunks along ``K``."""
    chunks = ()
    columns = columns[None, None, :]
    for number in tl.static_range((K + CHUNK - 1) // CHUNK):
        k = _chunk_offsets(number, CHUNK, SPLIT)[:, :, None]
        chunk = tl.load(weights + k * K_STRIDE + columns * N_STRIDE, (k < K) & (columns < N), 0.0).to(TYPE)
        chunks = chunks + (chunk,)  # noqa: RUF005 - Triton has no other way
    return chunks


@triton.jit
def load_gate_weight_chunks(
    weights, units, G: tl.constexpr, H: tl.constexpr, P: tl.constexpr,
    CHUNK: tl.constexpr, SPLIT: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """:func:`load_weight_chunks` for each gate of ``(G, H, P)`` weights."""
    a = load_weight_chunks(weights, units, P, 1, H, P, CHUNK, SPLIT, TYPE)
    b, c, d = a, a, a
    if G > 1:
        b = load_weight_chunks(weights + H * P, units, P, 1, H, P, CHUNK, SPLIT, TYPE)
        c = load_weight_chunks(weights + 2 * H * P, units, P, 1, H, P, CHUNK, SPLIT, TYPE)
    if G > 3:
        d = load_weight_chunks(weights + 3 * H * P, units, P, 1, H, P, CHUNK, SPLIT, TYPE)
    return a, b, c, d


@triton.jit
def _load_row_chunk(source, row_starts, row_mask, chunk, SIZE: tl.constexpr, CHUNK: tl.constexpr, SPLIT: tl.constexpr):
    """A chunk of each row, ``(SPLIT, ROWS, CHUNK / SPLIT)``; bypasses the L1 cache, which is not coherent."""
    k = _chunk_offsets(chunk, CHUNK, SPLIT)[:, None, :]
    exists = row_mask[None, :, :] & (k < SIZE)
    return tl.load(source + row_starts[None, :, :] + k, exists, 0.0, cache_modifier=".cg")


@triton.jit
def multiply_memory(
    source, row_starts, row_mask, weights, SIZE: tl.constexpr, CHUNK: tl.constexpr, SPLIT: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, OPERAND_TYPE: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The product of rows of ``SIZE`` elements, which start at ``row_starts``, with weights: ``(ROWS, UNITS)``."""
    result = tl.zeros((SPLIT, ROWS, UNITS), ACC)
    for chunk in tl.static_range((SIZE + CHUNK - 1) // CHUNK):
        x = _load_row_chunk(source, row_starts, row_mask, chunk, SIZE, CHUNK, SPLIT).to(OPERAND_TYPE)
        result = tl.dot(x, weights[chunk], result, input_precision=PRECISION, out_dtype=ACC)
    return tl.sum(result, 0)


@triton.jit
def multiply_memory_into_gates(
    source, row_starts, row_mask, mask, mask_starts, w0, w1, w2, w3,
    G: tl.constexpr, SIZE: tl.constexpr, MASK: tl.constexpr, CHUNK: tl.constexpr, SPLIT: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, OPERAND_TYPE: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """:func:`multiply_into_gates` of rows in memory, which start at ``row_starts``.

    With ``MASK``, the rows are multiplied by those of ``mask`` that start at ``mask_starts``.
    """
    a = tl.zeros((SPLIT, ROWS, UNITS), ACC)
    b, c, d = a, a, a
    for chunk in tl.static_range((SIZE + CHUNK - 1) // CHUNK):
        x = _load_row_chunk(source, row_starts, row_mask, chunk, SIZE, CHUNK, SPLIT)
        if MASK:
            x = x.to(ACC) * _load_row_chunk(mask, mask_starts, row_mask, chunk, SIZE, CHUNK, SPLIT).to(ACC)
        x = x.to(OPERAND_TYPE)
        a = tl.dot(x, w0[chunk], a, input_precision=PRECISION, out_dtype=ACC)
        if G > 1:
            b = tl.dot(x, w1[chunk], b, input_precision=PRECISION, out_dtype=ACC)
            c = tl.dot(x, w2[chunk], c, input_precision=PRECISION, out_dtype=ACC)
        if G > 3:
            d = tl.dot(x, w3[chunk], d, input_precision=PRECISION, out_dtype=ACC)
    if G > 1:  # one reduction for all gates: the warps synchronize once
        even, odd = tl.split(tl.sum(tl.join(tl.join(a, c), tl.join(b, d)), 0))
        a, c = tl.split(even)
        b, d = tl.split(odd)
    else:
        a = tl.sum(a, 0)
        b, c, d = a, a, a
    return a, b, c, d


# ---- across all blocks of the same rows ------------------------------------------------------------------------------


@triton.jit
def grid_barrier(counter, goal):
    """Wait until ``counter`` reaches ``goal``: all blocks of these sequences are here, and their stores are visible."""
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="release", scope="gpu")
    while tl.atomic_add(counter, 0, sem="acquire", scope="gpu") < goal:
        pass
    tl.debug_barrier()


@triton.jit
def exchange_row_sums(a, b, partial_sums, rows, row_mask, counter, goal, TILES: tl.constexpr, WIDTH: tl.constexpr):
    """Two values per row, ``(ROWS, 1)``, from every block: ``(ROWS, WIDTH)`` each, 0 beyond the last block."""
    slots = partial_sums + rows * (2 * TILES)
    tl.store(slots + tl.program_id(1), a, row_mask)
    tl.store(slots + TILES + tl.program_id(1), b, row_mask)
    grid_barrier(counter, goal)
    tiles = tl.arange(0, WIDTH)[None, :]
    exists = row_mask & (tiles < TILES)
    return (
        tl.load(slots + tiles, exists, 0.0, cache_modifier=".cg"),
        tl.load(slots + TILES + tiles, exists, 0.0, cache_modifier=".cg"),
    )


@triton.jit
def row_means(
    a, b, partial_sums, rows, row_mask, counter, goal,
    COUNT: tl.constexpr, TILES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Two means over ``COUNT`` values per row, of which this block has the sums ``a`` and ``b``: ``(ROWS, 1)`` each."""
    if TILES > 1:
        a, b = exchange_row_sums(a, b, partial_sums, rows, row_mask, counter, goal, TILES, WIDTH)
        a, b = tl.sum(a, 1, keep_dims=True), tl.sum(b, 1, keep_dims=True)
    return a / COUNT, b / COUNT


@triton.jit
def mean_and_rstd(
    a, b, c, d, tile_mask, partial_sums, rows, row_mask, counter, goal,
    G: tl.constexpr, H: tl.constexpr, UNITS: tl.constexpr, TILES: tl.constexpr, WIDTH: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    """Mean over all units of all gates, and the reciprocal standard deviation: ``(ROWS, 1)`` each.

    Blocks exchange their sums and the sums of squares about their own means. The spread of the means is added to
    these (the parallel variance of Chan et al. 1979): a difference of large squares would lose digits.
    """
    own = tl.minimum(H - tl.program_id(1) * UNITS, UNITS) * G
    sums = row_sum_of_gates(a, b, c, d, tile_mask, G)
    mean = sums / own
    a, b, c, d = a - mean, b - mean, c - mean, d - mean
    squares = row_sum_of_gates(a * a, b * b, c * c, d * d, tile_mask, G)
    if TILES > 1:
        sums, squares = exchange_row_sums(sums, squares, partial_sums, rows, row_mask, counter, goal, TILES, WIDTH)
        counts = tl.minimum(tl.maximum(H - tl.arange(0, WIDTH)[None, :] * UNITS, 0), UNITS) * G
        mean = tl.sum(sums, 1, keep_dims=True) / (G * H)
        shift = sums / tl.maximum(counts, 1) - mean
        squares = tl.sum(squares + counts * shift * shift, 1, keep_dims=True)
    return mean, 1 / tl.sqrt(squares / (G * H) + EPS)


# ---- zoneout ---------------------------------------------------------------------------------------------------------


@triton.jit
def apply_zoneout(new, old, masks, probability, offsets, tile_mask, KIND: tl.constexpr):
    """Keep the old value where the mask is 1, or mix old and new by ``probability``."""
    if KIND == MASKS:
        new += tl.load(masks + offsets, tile_mask, 0.0).to(new.dtype) * (old - new)
    if KIND == PROBABILITY:
        new += probability * (old - new)
    return new


@triton.jit
def split_zoneout_gradient(d, masks, probability, offsets, tile_mask, active, KIND: tl.constexpr):
    """Split the gradient of a state: the part of the new value of the step, and the part of the old value."""
    kept = tl.zeros_like(d)
    if KIND == MASKS:
        kept = tl.load(masks + offsets, tile_mask, 0.0).to(d.dtype) * d
    if KIND == PROBABILITY:
        kept = probability * d
    return tl.where(active, d - kept, 0.0), tl.where(active, kept, d)
