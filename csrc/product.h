// The two matrix products of the package, for activations that stay in a blocked layout.
//
//   product:        C (rows x n) = bias or C + A (rows x k) W (k x n)      W packed once, used at every step
//   outer_product:  C (k x n)   += A (rows x k)^T D (rows x n)             the gradient of W, summed over rows
//
// Blocked layout: the columns of a matrix are divided into blocks of one vector; a block stores its rows one after the
// other. A vector of columns is one load, and the same data serve as left operand (one element at a time, at constant
// offsets), as right operand and as result. Nothing has to be transposed or padded.
#pragma once

#include <algorithm>
#include <utility>

#include "simd.h"

namespace lstmkit::LSTMKIT_ISA {

template <class T>
struct Blocks {
    T* data;
    int64_t stride;  // elements from one block of columns to the next: rows times lanes

    T* at(int64_t block, int64_t row = 0) const { return data + block * stride + row * lanes<T>; }
    Blocks from_row(int64_t row) const { return {at(0, row), stride}; }
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T>
int64_t blocks_of(int64_t columns) {
    return ceil_div(columns, lanes<T>);
}

// Half-open range of block or row numbers.
struct Range {
    int64_t begin, end;
};

#if LSTMKIT_VECTOR_BYTES == 64 || defined(__aarch64__)
inline constexpr int registers = 32;
#else
inline constexpr int registers = 16;
#endif

// A tile of the result stays in registers: its rows times the width of a panel, in vectors, leave some for the
// operands.
inline constexpr int max_panel_width = 4;
inline constexpr int max_tile_rows = 6;
inline constexpr int tile_vectors = registers == 32 ? 24 : 12;

constexpr int tallest_tile(int width) { return std::min(max_tile_rows, tile_vectors / width); }

// The best panel width for `rows` rows: few rows need wide tiles to keep the execution units busy; many rows are best
// cut into tall tiles, which read less of W per row.
inline int panel_width(int64_t rows) {
    if (registers == 32 || rows <= 3) return 4;
    return rows == 4 || rows == 7 || rows == 8 ? 3 : 2;
}

// ---- C = bias or C + A W --------------------------------------------------------------------------------------------

// Packed W: panels of `panel_width` blocks of columns (the last may be narrower); a panel stores its columns of row k =
// 0, then of k = 1, ..., the order in which the product reads them.
template <class T>
struct Packed {
    T* data = nullptr;
    int64_t depth = 0;   // k
    int64_t blocks = 0;  // of columns
    int panel_width = 1;
    const T* scale = nullptr;         // of weights in 8 bits, see int8.h: of each column, and -128 times the sum of
    const int32_t* offset = nullptr;  // the column

    int64_t panels() const { return ceil_div(blocks, panel_width); }
    int width(int64_t panel) const {
        return static_cast<int>(std::min<int64_t>(panel_width, blocks - panel * panel_width));
    }
    T* panel(int64_t p) const { return data + p * panel_width * depth * lanes<T>; }
    T* row(int64_t block, int64_t k) const {
        const int64_t p = block / panel_width;
        return panel(p) + (k * width(p) + block % panel_width) * lanes<T>;
    }
    static int64_t size(int64_t depth, int64_t blocks) { return depth * blocks * lanes<T>; }
};

// One tile. With few rows or blocks, the execution units would wait for their own results; then `Split` independent
// sums run over k and are added at the end.
template <class T, int Rows, int Width>
void product_tile(const T* a, int64_t a_stride, int64_t depth, const T* w, T* c, int64_t c_stride, const T* bias) {
    constexpr int L = lanes<T>;
    constexpr int wanted = Rows * Width >= 8 ? 1 : Rows * Width >= 4 ? 2 : 4;
    constexpr int Split = wanted < L ? wanted : L;
    Vec<T> sum[Split][Rows][Width];
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
        for (int j = 0; j < Width; ++j) {
            sum[0][i][j] = bias ? load(bias + j * L) : load(c + j * c_stride + i * L);
#pragma GCC unroll 8
            for (int s = 1; s < Split; ++s) sum[s][i][j] = Vec<T>{};
        }
    }
    for (; depth >= L; depth -= L, a += a_stride) {
#pragma GCC unroll 16
        for (int k = 0; k < L; ++k, w += Width * L) {
            Vec<T> right[Width];
#pragma GCC unroll 8
            for (int j = 0; j < Width; ++j) right[j] = load(w + j * L);
#pragma GCC unroll 8
            for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
                for (int j = 0; j < Width; ++j) sum[k % Split][i][j] += a[i * L + k] * right[j];
            }
        }
    }
    for (int k = 0; k < depth; ++k, w += Width * L) {
#pragma GCC unroll 8
        for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
            for (int j = 0; j < Width; ++j) sum[0][i][j] += a[i * L + k] * load(w + j * L);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
        for (int j = 0; j < Width; ++j) {
#pragma GCC unroll 8
            for (int s = 1; s < Split; ++s) sum[0][i][j] += sum[s][i][j];
            store(c + j * c_stride + i * L, sum[0][i][j]);
        }
    }
}

template <class T>
using ProductTile = void (*)(const T*, int64_t, int64_t, const T*, T*, int64_t, const T*);

// Null for a tile that does not fit in the registers; it is never called.
template <class T, int Rows, int Width>
constexpr ProductTile<T> product_tile_that_fits() {
    if constexpr (Rows <= tallest_tile(Width)) return product_tile<T, Rows, Width>;
    return nullptr;
}

template <class T, int... Ids>
constexpr auto product_tiles(std::integer_sequence<int, Ids...>) {
    struct Table {
        ProductTile<T> tiles[sizeof...(Ids)];
    };
    return Table{{product_tile_that_fits<T, Ids / max_panel_width + 1, Ids % max_panel_width + 1>()...}};
}

// Calls f(first row, height) over tiles of nearly equal height: 16 rows are 6 + 5 + 5, not 6 + 6 + 4.
template <class F>
void for_tiles(int64_t rows, int tallest, F&& f) {
    if (rows <= tallest) return f(0, static_cast<int>(rows));  // the divisions would be noticeable in small products
    const int64_t tiles = ceil_div(rows, tallest);
    for (int64_t row = 0, left = tiles; left > 0; --left) {
        const int64_t height = ceil_div(rows - row, left);
        f(row, static_cast<int>(height));
        row += height;
    }
}

// The depth of a panel of W that is multiplied at a time: it stays in the L1 cache, together with A, while all tiles
// use it.
template <class T>
int64_t depth_at_once(int64_t depth, int width) {
    const int64_t most = 12288 / (width * LSTMKIT_VECTOR_BYTES);
    return ceil_div(ceil_div(depth, ceil_div(depth, most)), lanes<T>) * lanes<T>;  // parts of nearly equal depth
}

// Panels [panels.begin, panels.end) of the first `rows` rows of C. With a bias (one per column), C is overwritten.
template <class T>
void product(Blocks<T> c, Blocks<const T> a, int64_t rows, const Packed<T>& w, Range panels, const T* bias) {
    static constexpr auto table = product_tiles<T>(std::make_integer_sequence<int, max_tile_rows * max_panel_width>{});
    for (int64_t p = panels.begin; p < panels.end; ++p) {
        const int width = w.width(p);
        const int64_t block = p * w.panel_width,
                      most = rows > tallest_tile(width) ? depth_at_once<T>(w.depth, width) : w.depth;
        for (int64_t k = 0; k < w.depth; k += most) {
            const int64_t depth = std::min(most, w.depth - k);
            const T* right = w.panel(p) + k * width * lanes<T>;
            const T* start = bias && k == 0 ? bias + block * lanes<T> : nullptr;
            for_tiles(rows, tallest_tile(width), [&](int64_t row, int height) {
                const auto tile = table.tiles[(height - 1) * max_panel_width + width - 1];
                tile(a.at(k / lanes<T>, row), a.stride, depth, right, c.at(block, row), c.stride, start);
            });
        }
    }
}

// ---- C += A^T D -----------------------------------------------------------------------------------------------------

// The rows of a tile are adjacent columns of A in one block, therefore a power of two.
template <class T>
inline constexpr int outer_rows = std::min(registers / 4, lanes<T>);
inline constexpr int outer_blocks = 3;

template <class T, int Width>
void outer_tile(const T* a, const T* d, int64_t d_stride, int64_t rows, T* c, int64_t c_stride) {
    constexpr int L = lanes<T>, Rows = outer_rows<T>;
    Vec<T> sum[Rows][Width];
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
        for (int j = 0; j < Width; ++j) sum[i][j] = load(c + j * c_stride + i * L);
    }
    for (int64_t row = 0; row < rows; ++row, a += L, d += L) {
        Vec<T> right[Width];
#pragma GCC unroll 8
        for (int j = 0; j < Width; ++j) right[j] = load(d + j * d_stride);
#pragma GCC unroll 8
        for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
            for (int j = 0; j < Width; ++j) sum[i][j] += a[i] * right[j];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
        for (int j = 0; j < Width; ++j) store(c + j * c_stride + i * L, sum[i][j]);
    }
}

// Blocks [blocks.begin, blocks.end) of D and C. C has one row for each of the `depth` columns of A, rounded up to full
// blocks.
template <class T>
void outer_product(Blocks<T> c, Blocks<const T> a, int64_t depth, Blocks<const T> d, int64_t rows, Range blocks) {
    static_assert(outer_blocks == 3);
    for (int64_t block = blocks.begin; block < blocks.end; block += outer_blocks) {
        const int64_t width = std::min<int64_t>(outer_blocks, blocks.end - block);
        const auto tile = width == 3 ? outer_tile<T, 3> : width == 2 ? outer_tile<T, 2> : outer_tile<T, 1>;
        for (int64_t k = 0; k < depth; k += outer_rows<T>) {
            const T* column = a.at(k / lanes<T>) + k % lanes<T>;
            tile(column, d.at(block), d.stride, rows, c.at(block, k), c.stride);
        }
    }
}

}  // namespace lstmkit::LSTMKIT_ISA
