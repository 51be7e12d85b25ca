// What both kernels of kernels.cu are made of: sizes, weights, what blocks send each other, the pointwise part's
// numbers.
#pragma once

#ifndef EMULATED
#include "ptx.cuh"
#endif

// ---- sizes ----------------------------------------------------------------------------------------------------------

enum { LSTM, GRU };

constexpr DEVICE int over(int a, int b) { return (a + b - 1) / b; }

constexpr int GATES = KIND == LSTM ? 4 : 3;
constexpr int KEPT = 4;  // numbers of each unit that forward keeps for backward
constexpr int THREADS = 32 * WARPS;
constexpr int GROUPS = UNITS / 8;            // of units, of a block
constexpr int COLUMNS = SEQUENCES / 8;       // groups of sequences
constexpr int SQUARES = GROUPS * COLUMNS;    // of the pointwise part: eight units of eight sequences
constexpr int PAIRS = over(SQUARES, WARPS);  // of units, of a thread there

// A warp's share of a product, in tiles of 16 rows, over chunks of 32 numbers; and tiles whose sums it has together.
#if BACKWARD
constexpr int TOGETHER = 2;  // rows are units
constexpr int TILES = TOGETHER * over(CLUSTER * UNITS, 32 * WARPS);
constexpr int CHUNKS = over(GROUPS * GATES, 4);
#else
constexpr int WARP_GROUPS = GROUPS * SPLIT / WARPS;  // rows are gates of groups of units
constexpr int TILES = over(WARP_GROUPS * GATES, 2);
constexpr int CHUNKS = over(CLUSTER * UNITS, 32 * SPLIT);
constexpr int TOGETHER = TILES;
static_assert(WARP_GROUPS * WARPS == GROUPS * SPLIT, "warps have the same number of groups");
#endif
constexpr int PIECES = 2 * TILES * CHUNKS;
constexpr int SLOTS = 4 * CHUNKS * SPLIT * SEQUENCES;

struct Shared {
    uint4 operand[2][SLOTS];  // in turns, like all that is sent: one is written while the other is read
#if BACKWARD
    float sent[2][CLUSTER][SQUARES][64];
#else
    float4 sums[SPLIT][SQUARES][64];  // of all gates of a unit
#endif
    Barrier barriers[2];
};  // and behind it the weights' pieces
static_assert(sizeof(Shared) + WARPS * (IN_SHARED + AHEAD) * 512 == SHARED_BYTES, "as much as the launch asks for");

// ---- products -------------------------------------------------------------------------------------------------------

// Where a group of eight numbers of a sequence stands in an operand. Eight sequences fill a line of all banks; lanes
// that read at the same time read four groups of two sequences, all from different banks.
DEVICE int slot(int group, int sequence) { return group * SEQUENCES + (sequence ^ (group & 3) << 1); }

// A warp's weights. Some pieces stay in registers and some in shared memory; others do not go on the chip and are
// fetched at each step, AHEAD of them under way at any time, also between steps. They take turns, so that none is
// waited for long: of all pieces some are fetched, and of the others some are in registers.
class Weights {
public:
    DEVICE Weights(const uint4* packed, Shared& shared, int rank, int warp, int lane)
        : shared_(reinterpret_cast<uint4*>(&shared + 1) + warp * (IN_SHARED + AHEAD) * 32 + lane),
          packed_(packed + (rank * WARPS + warp) * PIECES * 32 + lane) {
        UNROLL for (int i = 0; i < PIECES; ++i) {
            if (in_registers(i)) {
                kept_[registers_before(i)] = packed_[i * 32];
            } else if (!is_fetched(i)) {
                shared_[shared_before(i) * 32] = packed_[i * 32];
            }
        }
        UNROLL for (int i = 0; i < AHEAD; ++i) fetch(i);
    }

    // In the order of the pieces, all of them before the first one comes again.
    DEVICE uint4 piece(int i) const {
        if (in_registers(i)) return kept_[registers_before(i)];
        if (!is_fetched(i)) return shared_[shared_before(i) * 32];
        cp_async_wait<turns - 1>();
        const uint4 found = read_fetched(fetched(fetched_before(i)));
        fetch(fetched_before(i) + AHEAD);
        return found;
    }

    // Nothing is under way any more.
    DEVICE void finish() const {
        if (AHEAD) cp_async_wait<0>();
    }

private:
    static constexpr int all_fetched = PIECES - IN_REGISTERS - IN_SHARED;
    static constexpr int turns = AHEAD ? AHEAD : 1, rounds = all_fetched / turns;
    static_assert(rounds * AHEAD == all_fetched, "slots are used in turns, the first one by the first piece");

    static constexpr DEVICE int fetched_before(int i) { return i * all_fetched / PIECES; }
    static constexpr DEVICE int registers_before(int i) {
        return (i - fetched_before(i)) * IN_REGISTERS / (IN_REGISTERS + IN_SHARED);
    }
    static constexpr DEVICE int shared_before(int i) { return i - fetched_before(i) - registers_before(i); }
    static constexpr DEVICE bool is_fetched(int i) { return fetched_before(i + 1) > fetched_before(i); }
    static constexpr DEVICE bool in_registers(int i) { return registers_before(i + 1) > registers_before(i); }

    DEVICE uint4* fetched(int number) const { return shared_ + (IN_SHARED + number % turns) * 32; }
    DEVICE void fetch(int number) const {
        constexpr int all = rounds ? all_fetched : 1;
        const int piece = over((number % all + 1) * PIECES, all) - 1;
        cp_async(fetched(number), packed_ + piece * 32);
    }

    uint4 kept_[IN_REGISTERS + 1];  // one more, for there may be none
    uint4* shared_;
    const uint4* packed_;
};

using Sums = float[TOGETHER][COLUMNS][4];

// A chunk of an operand, as this lane has it in a product.
DEVICE void see(uint4 (&seen)[COLUMNS], const uint4* operand, int chunk, int lane) {
    const uint4* mine = operand + chunk * 4 * SEQUENCES + slot(lane % 4, lane / 4);
    UNROLL for (int n = 0; n < COLUMNS; ++n) seen[n] = mine[n * 8];
}

// Adds the products of a chunk. The first of the pieces is given; pieces stand in the order in which they are used.
DEVICE void multiply(Sums& sums, const Weights& weights, int piece, const uint4 (&seen)[COLUMNS]) {
    UNROLL for (int tile = 0; tile < TOGETHER; ++tile) {
        const uint4 first = weights.piece(piece + 2 * tile), second = weights.piece(piece + 2 * tile + 1);
        UNROLL for (int n = 0; n < COLUMNS; ++n) {
            mma(sums[tile][n], first, {seen[n].x, seen[n].y});
            mma(sums[tile][n], second, {seen[n].z, seen[n].w});
        }
    }
}

// ---- what blocks send each other ------------------------------------------------------------------------------------

// Lot by lot, from 1 on: every block sends every block as much. With COUNTED a block waits until all bytes for it have
// come, else until all threads of the cluster have sent theirs.
class Exchange {
public:
    static constexpr int bytes = SEQUENCES * CLUSTER * UNITS * (BACKWARD ? sizeof(float) : sizeof(Half));

    // What all blocks have written before is there after it.
    DEVICE explicit Exchange(Barrier* barriers) : barriers_(barriers) {
        if (COUNTED && threadIdx.x == 0) {
            UNROLL for (int i = 0; i < 2; ++i) {
                init_barrier(&barriers_[i]);
                expect_bytes(&barriers_[i], bytes);
            }
        }
        meet();
    }

    DEVICE void put(int lot, void* to, int rank, uint4 what) const {
        if (COUNTED) {
            store_async(to, rank, what, &barriers_[lot & 1]);
        } else {
            store_remote(to, rank, what);
        }
    }

    // By all threads, after all that they put.
    DEVICE void sent() const {
        if (!COUNTED) cluster_arrive();
    }

    // The barrier is set for the next lot but one before this block sends the next; until then none can come that far.
    DEVICE void wait(int lot) const {
        if (COUNTED) {
            wait_parity(&barriers_[lot & 1], ((lot - 1) >> 1) & 1);
            if (threadIdx.x == 0) expect_bytes(&barriers_[lot & 1], bytes);
        } else {
            cluster_wait();
        }
    }

    // Also at the end: a block must not be gone while others may send to it.
    DEVICE void meet() const {
        cluster_arrive();
        cluster_wait();
    }

private:
    Barrier* barriers_;
};

// ---- the pointwise part ---------------------------------------------------------------------------------------------

DEVICE float sigmoid(float x) { return fast_reciprocal(1 + fast_exp2(-1.44269504f * x)); }
DEVICE float squash(float x) { return 1 - 2 * fast_reciprocal(1 + fast_exp2(2.88539008f * x)); }  // tanh

template <class T>
DEVICE T read(const void* from) {
    return *static_cast<const T*>(from);
}

template <class T>
DEVICE void write(void* to, T what) {
    *static_cast<T*>(to) = what;
}

// Two units next to each other of a sequence. A warp has a square, and four threads a group of units.
struct Pair {
    int square, group, sequence;  // of the block
    int unit;                     // of all: the first of the two
    long long row;                // of the batch
    bool mine;                    // whether the warp has the square
    bool there;                   // whether there are such units and such a sequence
    int end;                      // of the sequence

    DEVICE void find(int number, int rank, const long long* lengths, int T, int B) {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        square = warp + WARPS * number;
        mine = square < SQUARES;
        group = square / COLUMNS;
        sequence = square % COLUMNS * 8 + lane / 4;
        unit = rank * UNITS + group * 8 + lane % 4 * 2;
        row = static_cast<long long>(blockIdx.x / CLUSTER) * SEQUENCES + sequence;
        there = mine && row < B && unit < H;
        end = RAGGED && there ? static_cast<int>(lengths[row]) : T;
    }

    // Where it stands in an array of `size` numbers for each sequence and step.
    DEVICE long long at(int step, int B, int size) const {
        return (static_cast<long long>(step) * B + row) * size + unit;
    }
    DEVICE bool active(int step) const { return !RAGGED || step < end; }
};

// Some numbers of each unit of a pair, in half precision, in arrays H numbers from one to the next.
template <int COUNT>
struct Numbers {
    unsigned of[COUNT];

    DEVICE void load(const Half* from, bool there) {
        UNROLL for (int i = 0; i < COUNT; ++i) of[i] = there ? read<unsigned>(from + i * H) : 0;
    }
    DEVICE void store(Half* to) const {
        UNROLL for (int i = 0; i < COUNT; ++i) write(to + i * H, of[i]);
    }
    DEVICE void set(const float (&units)[2][COUNT]) {
        UNROLL for (int i = 0; i < COUNT; ++i) of[i] = pack(units[0][i], units[1][i]);
    }
    DEVICE float get(int i, int which) const {
        const float2 both = unpack(of[i]);
        return which ? both.y : both.x;
    }
};
