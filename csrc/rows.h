// Conversion between rows of tensors (any storage type, any stride between rows) and blocks; packing of weights.
#pragma once

#include <cstdint>
#include <type_traits>

#include "product.h"

namespace lstmkit::LSTMKIT_ISA {

// The upper half of a float32.
struct BFloat16 {
    uint16_t bits;

    BFloat16() = default;
    explicit BFloat16(float value) {
        uint32_t all;
        std::memcpy(&all, &value, sizeof all);
        const bool nan = value != value;
        bits =
            static_cast<uint16_t>(nan ? 0x7fc0 : (all + 0x7fff + ((all >> 16) & 1)) >> 16);  // to nearest, ties to even
    }
    operator float() const {
        const uint32_t all = static_cast<uint32_t>(bits) << 16;
        float value;
        std::memcpy(&value, &all, sizeof value);
        return value;
    }
};

// Block `block` of a row of `width` elements, padded with zeros.
template <class T, class S>
inline Vec<T> load_block(const S* row, int64_t block, int64_t width) {
    const int64_t first = block * lanes<T>;
    if constexpr (std::is_same_v<T, S>) {
        if (first + lanes<T> <= width) return load(row + first);
    }
    const int64_t count = std::min<int64_t>(lanes<T>, width - first);
    alignas(Vec<T>) T part[lanes<T>] = {};
    for (int64_t lane = 0; lane < count; ++lane) part[lane] = static_cast<T>(row[first + lane]);
    return load(part);
}

// Four columns of int8 in the place of each float.
template <>
inline Vec<float> load_block<float, int8_t>(const int8_t* row, int64_t block, int64_t width) {
    constexpr int64_t bytes = LSTMKIT_VECTOR_BYTES;
    Vec<float> v{};
    std::memcpy(&v, row + block * bytes, static_cast<std::size_t>(std::min(bytes, width - block * bytes)));
    return v;
}

template <class T, class S>
inline void store_block(S* row, int64_t block, int64_t width, Vec<T> v) {
    const int64_t first = block * lanes<T>;
    if constexpr (std::is_same_v<T, S>) {
        if (first + lanes<T> <= width) return store(row + first, v);
    }
    const int64_t count = std::min<int64_t>(lanes<T>, width - first);
    alignas(Vec<T>) T part[lanes<T>];
    store(part, v);
    for (int64_t lane = 0; lane < count; ++lane) row[first + lane] = static_cast<S>(part[lane]);
}

template <class T, class S>
void gather_row(Blocks<T> to, int64_t to_row, const S* from, int64_t width) {
    for (int64_t block = 0; block < blocks_of<T>(width); ++block)
        store(to.at(block, to_row), load_block<T>(from, block, width));
}

template <class T, class S>
void scatter_row(S* to, Blocks<const T> from, int64_t from_row, int64_t width) {
    for (int64_t block = 0; block < blocks_of<T>(width); ++block)
        store_block<T>(to, block, width, load(from.at(block, from_row)));
}

template <class T>
void zero_row(Blocks<T> to, int64_t to_row, int64_t blocks) {
    for (int64_t block = 0; block < blocks; ++block) store(to.at(block, to_row), Vec<T>{});
}

// ---- weights --------------------------------------------------------------------------------------------------------

// The blocks of all gates of the same units are adjacent: block u * gates + g has gate g of the units u * lanes,
// u * lanes + 1, ...; lanes past the last unit are zero.
struct GateOrder {
    int64_t gates, units;

    template <class T>
    int64_t blocks() const {
        return gates * blocks_of<T>(units);
    }
    // The row of the weight matrix in the first lane of `block`, and the number of valid lanes.
    template <class T>
    int64_t first_row(int64_t block) const {
        return (block % gates) * units + (block / gates) * lanes<T>;
    }
    template <class T>
    int64_t rows_in(int64_t block) const {
        return std::min<int64_t>(lanes<T>, units - (block / gates) * lanes<T>);
    }
};

// Packs W (gates * units, columns) for the product x W^T: k runs over the columns, or over fours of them in 8 bits.
template <class T, class S>
void pack_forward(Packed<T>& to, const S* w, GateOrder order, int64_t columns, Range blocks) {
    constexpr int L = lanes<T>;
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
        const int64_t step = to.width(block / to.panel_width) * L, count = order.rows_in<T>(block);
        const S* from = w + order.first_row<T>(block) * columns;
        for (int64_t k = 0; k < to.depth; k += L) {
            Vec<T> square[L];
            for (int lane = 0; lane < L; ++lane)
                square[lane] = lane < count ? load_block<T>(from + lane * columns, k / L, columns) : Vec<T>{};
            transpose<T>(square);
            T* at = to.row(block, k);
            for (int64_t i = 0; i < std::min<int64_t>(L, to.depth - k); ++i) store(at + i * step, square[i]);
        }
    }
}

// Packs the same W for the product d W of the backward pass: k runs over the blocked gates, the columns are those of W.
// Rows of W are read sequentially, which the hardware prefetches.
template <class T, class S>
void pack_backward(Packed<T>& to, const S* w, GateOrder order, int64_t columns, Range panels) {
    for (int64_t k = 0; k < to.depth; ++k) {
        const int64_t block = k / lanes<T>, lane = k % lanes<T>;
        const S* row = lane < order.rows_in<T>(block) ? w + (order.first_row<T>(block) + lane) * columns : nullptr;
        for (int64_t p = panels.begin; p < panels.end; ++p) {
            T* out = to.panel(p) + k * to.width(p) * lanes<T>;
            for (int j = 0; j < to.width(p); ++j, out += lanes<T>)
                store(out, row ? load_block<T>(row, p * to.panel_width + j, columns) : Vec<T>{});
        }
    }
}

// A vector over the gates, in blocks; all elements are `otherwise` if `from` is null.
template <class T, class S>
void pack_vector(T* to, const S* from, GateOrder order, T otherwise = 0) {
    for (int64_t block = 0; block < order.blocks<T>(); ++block) {
        for (int64_t lane = 0; lane < lanes<T>; ++lane) {
            const bool in = lane < order.rows_in<T>(block);
            to[block * lanes<T> + lane] = !in    ? T(0)
                                          : from ? static_cast<T>(from[order.first_row<T>(block) + lane])
                                                 : otherwise;
        }
    }
}

// ---- gradients of weights: sums over the shards of the batch, in the order of the weight matrix ---------------------

// From blocks over the gates, with a row for each column of W, to W (gates * units, depth); overwrites, or adds if
// `added`.
template <class T, class S>
void unpack_gradient(S* to, const T* from, int64_t shard_size, int64_t shards, GateOrder order, int64_t depth,
                     Range blocks, bool added = false) {
    constexpr int L = lanes<T>;
    const int64_t rows = blocks_of<T>(depth) * L;
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
        const int64_t count = order.rows_in<T>(block);
        S* out = to + order.first_row<T>(block) * depth;
        for (int64_t k = 0; k < depth; k += L) {
            Vec<T> square[L];
            for (int i = 0; i < L; ++i) {
                const T* at = from + (block * rows + k + i) * L;
                square[i] = load(at);
                for (int64_t shard = 1; shard < shards; ++shard) square[i] += load(at + shard * shard_size);
            }
            transpose<T>(square);
            for (int64_t lane = 0; lane < count; ++lane) {
                if (added) square[lane] += load_block<T>(out + lane * depth, k / L, depth);
                store_block<T>(out + lane * depth, k / L, depth, square[lane]);
            }
        }
    }
}

template <class T, class S>
void unpack_vector(S* to, const T* from, int64_t shard_size, int64_t shards, GateOrder order) {
    for (int64_t block = 0; block < order.blocks<T>(); ++block) {
        for (int64_t lane = 0; lane < order.rows_in<T>(block); ++lane) {
            T sum = 0;
            for (int64_t shard = 0; shard < shards; ++shard) sum += from[shard * shard_size + block * lanes<T> + lane];
            to[order.first_row<T>(block) + lane] = static_cast<S>(sum);
        }
    }
}

}  // namespace lstmkit::LSTMKIT_ISA
