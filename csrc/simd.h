// Vectors of one instruction set, in the vector extensions of GCC and Clang, and the two activation functions.
//
// Every file that includes this header is compiled once for each instruction set, in its own namespace, so that the
// same source becomes AVX2, AVX-512, NEON or SSE2 code.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lstmkit::LSTMKIT_ISA {

template <class T>
struct Lanes {
    static constexpr int count = LSTMKIT_VECTOR_BYTES / sizeof(T);
    typedef T Vec __attribute__((vector_size(LSTMKIT_VECTOR_BYTES)));
};

template <class T>
using Vec = typename Lanes<T>::Vec;

template <class T>
inline constexpr int lanes = Lanes<T>::count;

template <class T>
inline Vec<T> load(const T* from) {
    Vec<T> v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class T>
inline void store(T* to, Vec<T> v) {
    std::memcpy(to, &v, sizeof v);
}

template <class T>
inline Vec<T> broadcast(T value) {
    return value - Vec<T>{};  // minus a zero keeps the sign of a zero; plus would not
}

// Maximum and minimum of a bound and v; NaN stays NaN. The CPU has an instruction for this, which compilers do not
// derive from the comparison.
template <class T>
inline Vec<T> at_least(T bound, Vec<T> v) {
    const Vec<T> b = broadcast(bound);
#if defined(__AVX512F__) && LSTMKIT_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4)
        return (Vec<T>)_mm512_max_ps((__m512)b, (__m512)v);
    else
        return (Vec<T>)_mm512_max_pd((__m512d)b, (__m512d)v);
#elif defined(__AVX__) && LSTMKIT_VECTOR_BYTES == 32
    if constexpr (sizeof(T) == 4)
        return (Vec<T>)_mm256_max_ps((__m256)b, (__m256)v);
    else
        return (Vec<T>)_mm256_max_pd((__m256d)b, (__m256d)v);
#else
    return b > v ? b : v;
#endif
}

template <class T>
inline Vec<T> at_most(T bound, Vec<T> v) {
    const Vec<T> b = broadcast(bound);
#if defined(__AVX512F__) && LSTMKIT_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4)
        return (Vec<T>)_mm512_min_ps((__m512)b, (__m512)v);
    else
        return (Vec<T>)_mm512_min_pd((__m512d)b, (__m512d)v);
#elif defined(__AVX__) && LSTMKIT_VECTOR_BYTES == 32
    if constexpr (sizeof(T) == 4)
        return (Vec<T>)_mm256_min_ps((__m256)b, (__m256)v);
    else
        return (Vec<T>)_mm256_min_pd((__m256d)b, (__m256d)v);
#else
    return b < v ? b : v;
#endif
}

// The lane numbers 0, 1, 2, ...
template <class T>
inline Vec<T> iota() {
    Vec<T> v;
    for (int lane = 0; lane < lanes<T>; ++lane) v[lane] = static_cast<T>(lane);
    return v;
}

// The first `count` lanes of v, and zero in the others even if they hold NaN.
template <class T>
inline Vec<T> keep_first(Vec<T> v, int64_t count) {
    return iota<T>() < broadcast(static_cast<T>(count)) ? v : Vec<T>{};
}

template <class T>
inline T sum_of_lanes(Vec<T> v) {
    for (int half = lanes<T> / 2; half > 0;
         half /= 2)  // pairwise: in sequence, each addition would wait for the one before
        for (int lane = 0; lane < half; ++lane) v[lane] += v[lane + half];
    return v[0];
}

// Interleaves the lanes of a and b: first the lower halves, then the upper halves.
template <class T, std::size_t... Is>
inline void interleave(Vec<T>& a, Vec<T>& b, std::index_sequence<Is...>) {
    constexpr int L = lanes<T>;
#if defined(__clang__) || __GNUC__ >= 12
    const Vec<T> low = __builtin_shufflevector(a, b, static_cast<int>(Is / 2 + Is % 2 * L)...);
    b = __builtin_shufflevector(a, b, static_cast<int>(L / 2 + Is / 2 + Is % 2 * L)...);
    a = low;
#else
    const Vec<T> x = a, y = b;
    ((a[Is] = Is % 2 ? y[Is / 2] : x[Is / 2], b[Is] = Is % 2 ? y[L / 2 + Is / 2] : x[L / 2 + Is / 2]), ...);
#endif
}

// Transposes a square matrix with a row in each vector: interleaving the two halves of the rows log2(L) times is a
// transposition.
template <class T>
inline void transpose(Vec<T> (&rows)[lanes<T>]) {
    constexpr int L = lanes<T>;
#pragma GCC unroll 4
    for (int half = 1; half < L; half *= 2) {
        Vec<T> next[L];
#pragma GCC unroll 8
        for (int i = 0; i < L / 2; ++i) {
            next[2 * i] = rows[i];
            next[2 * i + 1] = rows[i + L / 2];
            interleave<T>(next[2 * i], next[2 * i + 1], std::make_index_sequence<L>{});
        }
#pragma GCC unroll 16
        for (int i = 0; i < L; ++i) rows[i] = next[i];
    }
}

// e^r - 1 = r + r² q(r) for |r| <= ln 2 / 2. The coefficients are a Chebyshev fit of q made for this file with mpmath
// (chebyfit, 50 digits). `magic` is 1.5 times the power of two whose last bit is worth one, so that adding it rounds,
// plus the bias of an exponent.
template <class T>
struct ExpTable;

template <>
struct ExpTable<float> {
    using Int = int32_t;
    static constexpr int mantissa_bits = 23;
    static constexpr float magic = 12582912.0f + 127, log2e = 1.44269504089f;
    static constexpr float ln2_high = 0.693145751953125f, ln2_low = 1.42860682030941723212e-6f;
    static constexpr float lowest = -87.3f, highest = 87.3f;
    static constexpr float q[] = {0.5f, 0.16666576989698775683f, 0.041666554617204574203f, 0.0083631790527225773704f,
                                  0.0013926183587713494542f};
};

template <>
struct ExpTable<double> {
    using Int = int64_t;
    static constexpr int mantissa_bits = 52;
    static constexpr double magic = 6755399441055744.0 + 1023, log2e = 1.442695040888963407359924681;
    static constexpr double ln2_high = 0.69314718036912381649, ln2_low = 1.9082149292705877e-10;
    static constexpr double lowest = -708.0, highest = 708.0;
    static constexpr double q[] = {0.50000000000000010221,   0.16666666666666667453,   0.041666666666624127873,
                                   0.0083333333333300618325, 0.0013888888917213716901, 0.00019841269863053616878,
                                   2.4801521295954375131e-5, 2.7557268459997064772e-6, 2.7620088445409748161e-7,
                                   2.5100385495510319078e-8};
};

// e^x = scale (1 + p), with scale a power of two and |p| < 0.42; x is clamped to `highest` and to where scale is a
// normal number. NaN stays NaN.
template <class T>
struct Exponential {
    Vec<T> scale, p;
};

template <class T>
inline Exponential<T> exponential(Vec<T> x, T highest = ExpTable<T>::highest) {
    using Table = ExpTable<T>;
    typedef typename Table::Int Ints __attribute__((vector_size(LSTMKIT_VECTOR_BYTES)));
    x = at_most<T>(highest, at_least<T>(Table::lowest, x));
    const Vec<T> rounded = x * Table::log2e + Table::magic;
    const Vec<T> n = rounded - Table::magic;
    const Vec<T> r = (x - n * Table::ln2_high) - n * Table::ln2_low;
    constexpr int degree = sizeof(Table::q) / sizeof(Table::q[0]) - 1;
    Vec<T> q = broadcast(Table::q[degree]);
#pragma GCC unroll 16
    for (int k = degree - 1; k >= 0; --k) q = q * r + Table::q[k];
    // The low bits of `rounded` hold n plus the bias as an integer; the shift drops those above them.
    Ints bits;
    std::memcpy(&bits, &rounded, sizeof bits);
    bits <<= Table::mantissa_bits;
    Exponential<T> e;
    std::memcpy(&e.scale, &bits, sizeof bits);
    e.p = r * r * q + r;
    return e;
}

// 1 / (1 + e^-x).
template <class T>
inline Vec<T> sigmoid(Vec<T> x) {
    const Exponential<T> e = exponential<T>(-x);
    return T(1) / ((e.scale + T(1)) + e.scale * e.p);
}

// (e^2x - 1) / (e^2x + 1), where e^2x - 1 is computed without cancellation, so that small x keep all their digits.
template <class T>
inline Vec<T> tanh(Vec<T> x) {
    const Exponential<T> e = exponential<T>(x + x, T(44));  // tanh is 1 long before; e^2x must not overflow
    const Vec<T> minus_one = e.scale * e.p + (e.scale - T(1));
    return minus_one / (minus_one + T(2));
}

}  // namespace lstmkit::LSTMKIT_ISA
