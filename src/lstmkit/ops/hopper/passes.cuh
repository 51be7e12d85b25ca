// Building blocks of both kernels of kernels.cu: sizes, weights, the exchange between blocks, the pointwise part.
#pragma once

#ifndef EMULATED
#include "ptx.cuh"
#endif

// ---- sizes ----------------------------------------------------------------------------------------------------------

enum { LSTM, GRU };

constexpr DEVICE int ceil_div(int a, int b) { return (a + b - 1) / b; }

constexpr int GATES = KIND == LSTM ? 4 : 3;
constexpr int SAVED = 4;  // values of each unit that forward saves for backward
constexpr int THREADS = 32 * WARPS;
constexpr int GROUPS = UNITS / 8;                // groups of units per block
constexpr int COLUMNS = SEQUENCES / 8;           // groups of sequences
constexpr int SQUARES = GROUPS * COLUMNS;        // eight units of eight sequences, in the pointwise part
constexpr int PAIRS = ceil_div(SQUARES, WARPS);  // pairs of units per thread there

// The part of a warp in a product: tiles of 16 rows, chunks of 32 terms, and tiles whose sums it holds together.
#if BACKWARD
constexpr int TILES_AT_ONCE = 2;  // rows are units
constexpr int TILES = TILES_AT_ONCE * ceil_div(CLUSTER * UNITS, 32 * WARPS);
constexpr int CHUNKS = ceil_div(GROUPS * GATES, 4);
#else
constexpr int WARP_GROUPS = GROUPS * SPLIT / WARPS;  // rows are gates of groups of units
constexpr int TILES = ceil_div(WARP_GROUPS * GATES, 2);
constexpr int CHUNKS = ceil_div(CLUSTER * UNITS, 32 * SPLIT);
constexpr int TILES_AT_ONCE = TILES;
static_assert(WARP_GROUPS * WARPS == GROUPS * SPLIT, "warps have the same number of groups");
#endif
constexpr int FRAGMENTS = 2 * TILES * CHUNKS;
constexpr int SLOTS = 4 * CHUNKS * SPLIT * SEQUENCES;

struct Shared {
    uint4 operand[2][SLOTS];  // double-buffered, like everything that is sent
#if BACKWARD
    float sent[2][CLUSTER][SQUARES][64];
#else
    float4 sums[SPLIT][SQUARES][64];  // of all gates of a unit
#endif
    Barrier barriers[2];
};  // followed by the weight fragments
static_assert(sizeof(Shared) + WARPS * (IN_SHARED + AHEAD) * 512 == SHARED_BYTES, "the size that the launch requests");

// ---- products -------------------------------------------------------------------------------------------------------

// The slot of a group of eight values of a sequence in an operand. Eight sequences fill a line of all banks; lanes that
// read at the same time read four groups of two sequences, without bank conflicts.
DEVICE int slot(int group, int sequence) { return group * SEQUENCES + (sequence ^ (group & 3) << 1); }

// The weights of a warp. Some fragments stay in registers and some in shared memory; the others do not fit on the chip
// and are fetched at each step, AHEAD of them in flight at any time, also between steps. The three kinds are
// interleaved, so that no fetch is waited for long.
class Weights {
public:
    DEVICE Weights(const uint4* packed, Shared& shared, int rank, int warp, int lane)
        : shared_(reinterpret_cast<uint4*>(&shared + 1) + warp * (IN_SHARED + AHEAD) * 32 + lane),
          packed_(packed + (rank * WARPS + warp) * FRAGMENTS * 32 + lane) {
        UNROLL for (int i = 0; i < FRAGMENTS; ++i) {
            if (in_registers(i)) {
                kept_[registers_before(i)] = packed_[i * 32];
            } else if (!is_fetched(i)) {
                shared_[shared_before(i) * 32] = packed_[i * 32];
            }
        }
        UNROLL for (int i = 0; i < AHEAD; ++i) fetch(i);
    }

    // Must be called in the order of the fragments, cyclically.
    DEVICE uint4 fragment(int i) const {
        if (in_registers(i)) return kept_[registers_before(i)];
        if (!is_fetched(i)) return shared_[shared_before(i) * 32];
        cp_async_wait<turns - 1>();
        const uint4 fragment = read_fetched(fetched(fetched_before(i)));
        fetch(fetched_before(i) + AHEAD);
        return fragment;
    }

    // Waits for all fetches in flight.
    DEVICE void finish() const {
        if (AHEAD) cp_async_wait<0>();
    }

private:
    static constexpr int all_fetched = FRAGMENTS - IN_REGISTERS - IN_SHARED;
    static constexpr int turns = AHEAD ? AHEAD : 1, rounds = all_fetched / turns;
    static_assert(rounds * AHEAD == all_fetched, "slots are used in turns, the first one by the first fragment");

    static constexpr DEVICE int fetched_before(int i) { return i * all_fetched / FRAGMENTS; }
    static constexpr DEVICE int registers_before(int i) {
        return (i - fetched_before(i)) * IN_REGISTERS / (IN_REGISTERS + IN_SHARED);
    }
    static constexpr DEVICE int shared_before(int i) { return i - fetched_before(i) - registers_before(i); }
    static constexpr DEVICE bool is_fetched(int i) { return fetched_before(i + 1) > fetched_before(i); }
    static constexpr DEVICE bool in_registers(int i) { return registers_before(i + 1) > registers_before(i); }

    DEVICE uint4* fetched(int number) const { return shared_ + (IN_SHARED + number % turns) * 32; }
    DEVICE void fetch(int number) const {
        constexpr int all = rounds ? all_fetched : 1;
        const int fragment = ceil_div((number % all + 1) * FRAGMENTS, all) - 1;
        cp_async(fetched(number), packed_ + fragment * 32);
    }

    uint4 kept_[IN_REGISTERS + 1];  // one more, because an array cannot be empty
    uint4* shared_;
    const uint4* packed_;
};

using Sums = float[TILES_AT_ONCE][COLUMNS][4];

// Loads the part of this lane in a chunk of an operand.
DEVICE void load_chunk(uint4 (&chunk_values)[COLUMNS], const uint4* operand, int chunk, int lane) {
    const uint4* lane_operand = operand + chunk * 4 * SEQUENCES + slot(lane % 4, lane / 4);
    UNROLL for (int n = 0; n < COLUMNS; ++n) chunk_values[n] = lane_operand[n * 8];
}

// Adds the products of a chunk, whose fragments start at `fragment` and are in the order of their use.
DEVICE void multiply(Sums& sums, const Weights& weights, int fragment, const uint4 (&chunk_values)[COLUMNS]) {
    UNROLL for (int tile = 0; tile < TILES_AT_ONCE; ++tile) {
        const uint4 first = weights.fragment(fragment + 2 * tile), second = weights.fragment(fragment + 2 * tile + 1);
        UNROLL for (int n = 0; n < COLUMNS; ++n) {
            mma(sums[tile][n], first, {chunk_values[n].x, chunk_values[n].y});
            mma(sums[tile][n], second, {chunk_values[n].z, chunk_values[n].w});
        }
    }
}

// ---- the exchange between blocks ------------------------------------------------------------------------------------

// Rounds are counted from 1; in each, every block sends the same number of bytes to every block. With COUNTED a block
// waits until all bytes for it have arrived, else until all threads of the cluster have sent their bytes.
class Exchange {
public:
    static constexpr int bytes = SEQUENCES * CLUSTER * UNITS * (BACKWARD ? sizeof(float) : sizeof(Half));

    // Synchronizes the cluster: earlier writes of all blocks are visible afterwards.
    DEVICE explicit Exchange(Barrier* barriers) : barriers_(barriers) {
        if (COUNTED && threadIdx.x == 0) {
            UNROLL for (int i = 0; i < 2; ++i) {
                init_barrier(&barriers_[i]);
                expect_bytes(&barriers_[i], bytes);
            }
        }
        synchronize();
    }

    DEVICE void put(int round, void* to, int rank, uint4 what) const {
        if (COUNTED) {
            store_async(to, rank, what, &barriers_[round & 1]);
        } else {
            store_remote(to, rank, what);
        }
    }

    // Called by all threads after their last put of a round.
    DEVICE void sent() const {
        if (!COUNTED) cluster_arrive();
    }

    // Arms the barrier for the round after the next before this block sends the next one; no block can be there
    // earlier.
    DEVICE void wait(int round) const {
        if (COUNTED) {
            wait_parity(&barriers_[round & 1], ((round - 1) >> 1) & 1);
            if (threadIdx.x == 0) expect_bytes(&barriers_[round & 1], bytes);
        } else {
            cluster_wait();
        }
    }

    // Also needed at the end: a block must not exit while others may send to it.
    DEVICE void synchronize() const {
        cluster_arrive();
        cluster_wait();
    }

private:
    Barrier* barriers_;
};

// ---- the pointwise part ---------------------------------------------------------------------------------------------

DEVICE float sigmoid(float x) { return fast_reciprocal(1 + fast_exp2(-1.44269504f * x)); }
DEVICE float fast_tanh(float x) { return 1 - 2 * fast_reciprocal(1 + fast_exp2(2.88539008f * x)); }  // tanh

template <class T>
DEVICE T read(const void* from) {
    return *static_cast<const T*>(from);
}

template <class T>
DEVICE void write(void* to, T what) {
    *static_cast<T*>(to) = what;
}

// Two adjacent units of a sequence. A warp has a square, and four threads have a group of units.
struct Pair {
    int square, group, sequence;  // within the block
    int unit;                     // index of the first of the two
    long long row;                // index in the batch
    bool has_square;              // whether the warp has the square
    bool exists;                  // whether the units and the sequence exist
    int end;                      // length of the sequence

    DEVICE void find(int number, int rank, const long long* lengths, int T, int B) {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        square = warp + WARPS * number;
        has_square = square < SQUARES;
        group = square / COLUMNS;
        sequence = square % COLUMNS * 8 + lane / 4;
        unit = rank * UNITS + group * 8 + lane % 4 * 2;
        row = static_cast<long long>(blockIdx.x / CLUSTER) * SEQUENCES + sequence;
        exists = has_square && row < B && unit < H;
        end = RAGGED && exists ? static_cast<int>(lengths[row]) : T;
    }

    // Its offset in an array of `size` values for each sequence and step.
    DEVICE long long at(int step, int B, int size) const {
        return (static_cast<long long>(step) * B + row) * size + unit;
    }
    DEVICE bool active(int step) const { return !RAGGED || step < end; }
};

// COUNT values of each unit of a pair in half precision, stored H elements apart.
template <int COUNT>
struct Numbers {
    unsigned of[COUNT];

    DEVICE void load(const Half* from, bool exists) {
        UNROLL for (int i = 0; i < COUNT; ++i) of[i] = exists ? read<unsigned>(from + i * H) : 0;
    }
    DEVICE void store(Half* to) const { UNROLL for (int i = 0; i < COUNT; ++i) write(to + i * H, of[i]); }
    DEVICE void set(const float (&units)[2][COUNT]) {
        UNROLL for (int i = 0; i < COUNT; ++i) of[i] = pack(units[0][i], units[1][i]);
    }
    DEVICE float get(int i, int which) const {
        const float2 both = unpack(of[i]);
        return which ? both.y : both.x;
    }
};
