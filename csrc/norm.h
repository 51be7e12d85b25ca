// Layer normalization of a row of blocks: of all gates of a projection, and of the cell state before the output gate.
#pragma once

#include <cmath>
#include <type_traits>

#include "product.h"
#include "rows.h"

namespace lstmkit::LSTMKIT_ISA {

// torch's F.layer_norm divides by sqrt(variance + 1e-5).
inline constexpr double norm_epsilon = 1e-5;

// Calls f(block, valid lanes) over a row. The partial blocks, one per gate, are the last ones, so no division finds
// them.
template <class T, class F>
void over_row(GateOrder order, F&& f) {
    constexpr int L = lanes<T>;
    const int64_t full = order.units / L * order.gates, rest = order.units % L;
    for (int64_t block = 0; block < full; ++block) f(block, std::integral_constant<int64_t, L>{});
    for (int64_t block = full; rest && block < full + order.gates; ++block) f(block, rest);
}

// `v` if a block is full, else its first lanes; the others hold undefined values.
template <class T, class Count>
Vec<T> true_lanes(Vec<T> v, Count count) {
    if constexpr (std::is_same_v<Count, int64_t>)
        return keep_first<T>(v, count);
    else
        return v;
}

// Calls f(first row, count) over all rows, a few at a time: the rows of a block are adjacent, the blocks of a row are
// not.
template <class F>
void in_tiles(Range rows, F&& f) {
    constexpr int64_t tile = 4;
    int64_t row = rows.begin;
    for (; row + tile <= rows.end; row += tile) f(row, std::integral_constant<int, tile>{});
    for (; row < rows.end; ++row) f(row, std::integral_constant<int, 1>{});
}

// Normalizes R rows in place: minus the mean, times the reciprocal standard deviation, which is written to `rstds`.
template <class T, int R>
void normalize_rows(Blocks<T> rows, int64_t row, GateOrder order, T* rstds) {
    const T count = static_cast<T>(order.gates * order.units);
    Vec<T> sum[R]{}, squares[R]{};
    T mean[R];
    over_row<T>(order, [&](int64_t b, auto n) {
        for (int r = 0; r < R; ++r) sum[r] += true_lanes<T>(load(rows.at(b, row + r)), n);
    });
    for (int r = 0; r < R; ++r) mean[r] = sum_of_lanes<T>(sum[r]) / count;
    over_row<T>(order, [&](int64_t b, auto n) {
        for (int r = 0; r < R; ++r) {
            const Vec<T> v = true_lanes<T>(load(rows.at(b, row + r)) - mean[r], n);
            squares[r] += v * v;
        }
    });
    for (int r = 0; r < R; ++r)
        rstds[r] = T(1) / std::sqrt(sum_of_lanes<T>(squares[r]) / count + static_cast<T>(norm_epsilon));
    for (int64_t b = 0; b < order.blocks<T>(); ++b)
        for (int r = 0; r < R; ++r) store(rows.at(b, row + r), (load(rows.at(b, row + r)) - mean[r]) * rstds[r]);
}

// Replaces the gradient of gain * normal + bias by that of the input of the normalization; adds to `d_gain`.
template <class T, int R>
void normalize_rows_backward(Blocks<T> d, Blocks<const T> normal, int64_t row, const T* rstds, const T* gain, T* d_gain,
                             GateOrder order) {
    const T count = static_cast<T>(order.gates * order.units);
    Vec<T> sum[R]{}, sum_along[R]{};
    T mean[R], along[R];
    over_row<T>(order, [&](int64_t b, auto n) {
        T* to = d_gain + b * lanes<T>;
        const Vec<T> by = load(gain + b * lanes<T>);
        Vec<T> gain_gradient = load(to);
        for (int r = 0; r < R; ++r) {
            const Vec<T> d_out = load(d.at(b, row + r)), at = load(normal.at(b, row + r));
            gain_gradient += d_out * at;
            sum[r] += true_lanes<T>(d_out * by, n);
            sum_along[r] += true_lanes<T>(d_out * by * at, n);
        }
        store(to, gain_gradient);
    });
    for (int r = 0; r < R; ++r) {
        mean[r] = sum_of_lanes<T>(sum[r]) / count;
        along[r] = sum_of_lanes<T>(sum_along[r]) / count;
    }
    over_row<T>(order, [&](int64_t b, auto n) {
        const Vec<T> by = load(gain + b * lanes<T>);
        for (int r = 0; r < R; ++r) {
            const Vec<T> v = load(d.at(b, row + r)) * by - mean[r] - load(normal.at(b, row + r)) * along[r];
            store(d.at(b, row + r), true_lanes<T>(v * rstds[r], n));
        }
    });
}

template <class T, int R>
void gain_and_bias(Blocks<T> rows, int64_t row, const T* gain, const T* bias, int64_t blocks) {
    for (int64_t b = 0; b < blocks; ++b)
        for (int r = 0; r < R; ++r)
            store(rows.at(b, row + r),
                  load(rows.at(b, row + r)) * load(gain + b * lanes<T>) + load(bias + b * lanes<T>));
}

}  // namespace lstmkit::LSTMKIT_ISA
