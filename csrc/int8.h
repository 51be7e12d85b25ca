// C (rows x n) = bias or C + A (rows x k) W (k x n), with W and A in 8 bits.
//
// W is int8 with a scale for each of its columns, the rows of the weight matrix. A is quantized row by row just before
// the product: a = scale * q with |q| <= 127, kept as the byte q + 128. Sums are exact, in int32:
//     sum a w = scale_a scale_w (sum (q + 128) w - 128 sum w)
// The layout is that of product.h with four bytes in the place of a float: vector k of W has rows 4k to 4k + 3 of each
// column.
#pragma once

#include "rows.h"

namespace lstmkit::LSTMKIT_ISA {

typedef int32_t Ints __attribute__((vector_size(LSTMKIT_VECTOR_BYTES)));
typedef int16_t Shorts __attribute__((vector_size(LSTMKIT_VECTOR_BYTES)));
typedef uint16_t UnsignedShorts __attribute__((vector_size(LSTMKIT_VECTOR_BYTES)));
typedef uint8_t Bytes __attribute__((vector_size(LSTMKIT_VECTOR_BYTES / 4)));

inline constexpr int bytes_per_lane = 4;

inline Ints load_ints(const void* from) {
    Ints v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

inline Ints broadcast_int(const void* from) {
    int32_t value;
    std::memcpy(&value, from, sizeof value);
    return value - Ints{};
}

// ---- sums of four products in each lane: unsigned bytes of a, signed bytes of w -------------------------------------

// With 16-bit products, which any CPU has; exact.
struct WideDot {
    static Ints add(Ints sum, Ints a, Ints w) {
        const Shorts even_a = (Shorts)(a & 0x00ff00ff), odd_a = (Shorts)((UnsignedShorts)a >> 8);
        const Shorts even_w = (Shorts)((UnsignedShorts)w << 8) >> 8, odd_w = (Shorts)w >> 8;
        return sum + pairs(even_a, even_w) + pairs(odd_a, odd_w);
    }

    static Ints pairs(Shorts a, Shorts w) {
#if defined(__AVX512BW__) && LSTMKIT_VECTOR_BYTES == 64
        return (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)w);
#elif defined(__AVX2__) && LSTMKIT_VECTOR_BYTES == 32
        return (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)w);
#elif defined(__SSE2__) && LSTMKIT_VECTOR_BYTES == 16
        return (Ints)_mm_madd_epi16((__m128i)a, (__m128i)w);
#else
        const Ints low = ((Ints)a << 16 >> 16) * ((Ints)w << 16 >> 16);
        return low + ((Ints)a >> 16) * ((Ints)w >> 16);
#endif
    }
};

#if defined(__x86_64__) && LSTMKIT_VECTOR_BYTES >= 32
#define LSTMKIT_HAS_VNNI
// One instruction of AVX-512 VNNI or AVX-VNNI, which the module has found in this CPU. As assembly, since a function
// that the compiler may use it in could not be shared with WideDot.
struct VnniDot {
    static Ints add(Ints sum, Ints a, Ints w) {
#if LSTMKIT_VECTOR_BYTES == 64
        asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(w));
#else
        asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(w));
#endif
        return sum;
    }
};
#endif

// ---- activations ----------------------------------------------------------------------------------------------------

// Rows of activations in 8 bits, and the scale of each row.
struct QuantizedRows {
    Blocks<float> bytes{};
    float* scale = nullptr;
};

inline int64_t lanes_of_bytes(int64_t columns) { return ceil_div(columns, bytes_per_lane); }

// A row with an infinity or NaN has the scale NaN, so all its products are NaN.
inline void quantize_row(const QuantizedRows& to, Blocks<const float> from, int64_t row, int64_t blocks) {
    constexpr int L = lanes<float>;
    constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, in the low bits
    constexpr float smallest = 1e-36f;    // below it, 127 / largest would overflow
    Vec<float> most{}, not_finite{};
    for (int64_t b = 0; b < blocks; ++b) {
        const Vec<float> v = load(from.at(b, row)), size = v < 0.0f ? -v : v;
        most = size > most ? size : most;
        not_finite += v * 0.0f;
    }
    float largest = 0;
    for (int lane = 0; lane < L; ++lane) largest = std::max(largest, most[lane]);
    to.scale[row] = largest / 127.0f + sum_of_lanes<float>(not_finite);
    const float inverse = largest > smallest ? 127.0f / largest : 0.0f;
    for (int64_t b = 0; b < blocks; ++b) {
        const Vec<float> rounded = load(from.at(b, row)) * inverse + magic;
        const Bytes bytes = __builtin_convertvector((Ints)rounded + 128, Bytes);  // the low byte of each lane
        auto* at = reinterpret_cast<unsigned char*>(to.bytes.at(b / bytes_per_lane, row));
        std::memcpy(at + b % bytes_per_lane * L, &bytes, sizeof bytes);
    }
}

// ---- weights --------------------------------------------------------------------------------------------------------

// For each column of blocks, -128 times the sum of its weights.
inline void sum_columns(int32_t* to, const Packed<float>& w, Range blocks) {
    constexpr int L = lanes<float>;
    const Ints ones = 0x01010101 - Ints{};
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
        const int64_t step = w.width(block / w.panel_width) * L;
        const float* at = w.row(block, 0);
        Ints sum{};
        for (int64_t k = 0; k < w.depth; ++k) sum = WideDot::add(sum, ones, load_ints(at + k * step));
        sum *= -128;
        std::memcpy(to + block * L, &sum, sizeof sum);
    }
}

// ---- the product ----------------------------------------------------------------------------------------------------

struct Int8Tile {
    const float *a, *w, *scale_a, *scale_w;
    const int32_t* offset;  // null: zero
    const float* bias;      // null: added to C
    float* c;
    int64_t a_stride, c_stride, depth;
};

template <class Dot, int Rows, int Width>
void int8_tile(Int8Tile t) {
    constexpr int L = lanes<float>;
    constexpr int Split = Rows * Width >= 8 ? 1 : Rows * Width >= 4 ? 2 : 4;  // as in product_tile
    Ints sum[Split][Rows][Width] = {};
    if (t.offset) {
#pragma GCC unroll 8
        for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
            for (int j = 0; j < Width; ++j) sum[0][i][j] = load_ints(t.offset + j * L);
        }
    }
    const float *a = t.a, *w = t.w;
    const auto multiply = [&](int k, Ints(&sums)[Rows][Width]) {
        Ints right[Width];
#pragma GCC unroll 8
        for (int j = 0; j < Width; ++j) right[j] = load_ints(w + j * L);
#pragma GCC unroll 8
        for (int i = 0; i < Rows; ++i) {
            const Ints left = broadcast_int(a + i * L + k);
#pragma GCC unroll 8
            for (int j = 0; j < Width; ++j) sums[i][j] = Dot::add(sums[i][j], left, right[j]);
        }
        w += Width * L;
    };
    int64_t depth = t.depth;
    for (; depth >= L; depth -= L, a += t.a_stride) {
#pragma GCC unroll 16
        for (int k = 0; k < L; ++k) multiply(k, sum[k % Split]);
    }
    for (int k = 0; k < depth; ++k) multiply(k, sum[0]);
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
        for (int j = 0; j < Width; ++j) {
#pragma GCC unroll 8
            for (int s = 1; s < Split; ++s) sum[0][i][j] += sum[s][i][j];
            float* to = t.c + j * t.c_stride + i * L;
            const Vec<float> start = load(t.bias ? t.bias + j * L : to);
            store(to,
                  start + __builtin_convertvector(sum[0][i][j], Vec<float>) * (t.scale_a[i] * load(t.scale_w + j * L)));
        }
    }
}

using RunInt8Tile = void (*)(Int8Tile);

template <class Dot, int Rows, int Width>
constexpr RunInt8Tile int8_tile_that_fits() {
    if constexpr (Rows <= tallest_tile(Width)) return int8_tile<Dot, Rows, Width>;
    return nullptr;
}

struct Int8Tiles {
    RunInt8Tile tiles[max_tile_rows * max_panel_width];
};

template <class Dot, int... Ids>
constexpr Int8Tiles int8_tiles(std::integer_sequence<int, Ids...>) {
    return {{int8_tile_that_fits<Dot, Ids / max_panel_width + 1, Ids % max_panel_width + 1>()...}};
}

// Panels [panels.begin, panels.end) of the first `rows` rows of C, as `product` of product.h.
inline void int8_product(Blocks<float> c, const QuantizedRows& a, int64_t rows, const Packed<float>& w, Range panels,
                         const float* bias, bool vnni) {
    constexpr int L = lanes<float>;
    constexpr auto ids = std::make_integer_sequence<int, max_tile_rows * max_panel_width>{};
    static constexpr Int8Tiles wide = int8_tiles<WideDot>(ids);
#ifdef LSTMKIT_HAS_VNNI
    static constexpr Int8Tiles by_vnni = int8_tiles<VnniDot>(ids);
    const Int8Tiles& table = vnni ? by_vnni : wide;
#else
    (void)vnni;
    const Int8Tiles& table = wide;
#endif
    for (int64_t p = panels.begin; p < panels.end; ++p) {
        const int width = w.width(p);
        const int64_t block = p * w.panel_width,
                      most = rows > tallest_tile(width) ? depth_at_once<float>(w.depth, width) : w.depth;
        for (int64_t k = 0; k < w.depth; k += most) {
            Int8Tile t;
            t.w = w.panel(p) + k * width * L;
            t.depth = std::min(most, w.depth - k);
            t.scale_w = w.scale + block * L;
            t.offset = k == 0 ? w.offset + block * L : nullptr;
            t.bias = bias && k == 0 ? bias + block * L : nullptr;
            t.a_stride = a.bytes.stride;
            t.c_stride = c.stride;
            for_tiles(rows, tallest_tile(width), [&](int64_t row, int height) {
                t.a = a.bytes.at(k / L, row);
                t.scale_a = a.scale + row;
                t.c = c.at(block, row);
                table.tiles[(height - 1) * max_panel_width + width - 1](t);
            });
        }
    }
}

}  // namespace lstmkit::LSTMKIT_ISA
