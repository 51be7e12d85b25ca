// Layer normalisation over one row of blocks: over all gates of a share, and over the cell state on its way out.
#pragma once

#include <cmath>

#include "product.h"
#include "rows.h"

namespace lstmkit::LSTMKIT_ISA {

// torch's F.layer_norm divides by sqrt(variance + 1e-5).
inline constexpr double norm_epsilon = 1e-5;

// The sum of f(vector, block) over the true lanes of a row.
template <class T, class F>
T sum_over(GateOrder order, F&& f) {
    Vec<T> sum{};
    for (int64_t block = 0; block < order.blocks<T>(); ++block) {
        const Vec<T> v = f(block);
        const int64_t count = order.rows_in<T>(block);
        sum += count == lanes<T> ? v : keep_first<T>(v, count);
    }
    return sum_of_lanes<T>(sum);
}

// In: a row. Out: the row less its mean, over its deviation; returns one over the deviation.
template <class T>
T normalise_row(Blocks<T> rows, int64_t row, GateOrder order) {
    const T count = static_cast<T>(order.gates * order.units);
    const T mean = sum_over<T>(order, [&](int64_t b) { return load(rows.at(b, row)); }) / count;
    const T variance = sum_over<T>(order, [&](int64_t b) {
        const Vec<T> v = load(rows.at(b, row)) - mean;
        return v * v;
    }) / count;
    const T scale = T(1) / std::sqrt(variance + static_cast<T>(norm_epsilon));
    for (int64_t b = 0; b < order.blocks<T>(); ++b) store(rows.at(b, row), (load(rows.at(b, row)) - mean) * scale);
    return scale;
}

// In: the gradient of gain * normal + bias. Out: that of what was normalised. Adds up the gain's gradient.
template <class T>
void normalise_row_backward(Blocks<T> d, Blocks<const T> normal, int64_t row, T scale, const T* gain, T* d_gain,
                            GateOrder order) {
    const T count = static_cast<T>(order.gates * order.units);
    const auto d_normal = [&](int64_t b) { return load(d.at(b, row)) * load(gain + b * lanes<T>); };
    for (int64_t b = 0; b < order.blocks<T>(); ++b) {
        T* to = d_gain + b * lanes<T>;
        store(to, load(to) + load(d.at(b, row)) * load(normal.at(b, row)));
    }
    const T mean = sum_over<T>(order, d_normal) / count;
    const T along = sum_over<T>(order, [&](int64_t b) { return d_normal(b) * load(normal.at(b, row)); }) / count;
    for (int64_t b = 0; b < order.blocks<T>(); ++b) {
        const Vec<T> v = (d_normal(b) - mean - load(normal.at(b, row)) * along) * scale;
        store(d.at(b, row), keep_first<T>(v, order.rows_in<T>(b)));
    }
}

template <class T>
void gain_and_bias(Blocks<T> rows, int64_t row, const T* gain, const T* bias, int64_t blocks) {
    for (int64_t b = 0; b < blocks; ++b)
        store(rows.at(b, row), load(rows.at(b, row)) * load(gain + b * lanes<T>) + load(bias + b * lanes<T>));
}

}  // namespace lstmkit::LSTMKIT_ISA
