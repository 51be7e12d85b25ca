// An emulation of a Hopper GPU on a CPU for kernels.cu: the functions of ptx.cuh, with one fiber per GPU thread.
//
// All blocks of a cluster run concurrently, one cluster after the other. A fiber runs until it waits for others. The
// order in which fibers continue exposes missing waits: ascending, descending, or shuffled each time, with late arrival
// of what is sent and with delayed warps. Shared memory holds NaN at first.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#define DEVICE inline
#define UNROLL
#define __global__
#define __launch_bounds__(...)

using Half = unsigned short;
using Barrier = unsigned long long;
struct uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct {
    unsigned x;
} threadIdx, blockIdx;

// ---- numbers --------------------------------------------------------------------------------------------------------

template <class To, class From>
To same_bits(From from) {
    To to;
    static_assert(sizeof to == sizeof from);
    std::memcpy(&to, &from, sizeof to);
    return to;
}

inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
inline float fast_exp2(float x) { return std::exp2(x); }
inline float fast_reciprocal(float x) { return 1 / x; }

inline float widened(Half bits) {
#if FP16
    return same_bits<_Float16>(bits);
#else
    return same_bits<float>(static_cast<unsigned>(bits) << 16);
#endif
}

inline Half rounded(float x) {
#if FP16
    return same_bits<Half>(static_cast<_Float16>(x));
#else
    const unsigned bits = same_bits<unsigned>(x);
    if (std::isnan(x)) return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  // to nearest, ties to even
#endif
}

inline unsigned pack(float low, float high) { return rounded(low) | static_cast<unsigned>(rounded(high)) << 16; }
inline float2 unpack(unsigned pair) { return {widened(pair & 0xffff), widened(pair >> 16)}; }

// ---- fibers ---------------------------------------------------------------------------------------------------------

enum class Order { forward, backward, shuffled };

// A barrier: the last thread that arrives releases all.
struct Meeting {
    int come = 0, times = 0;
    bool last_of(int all) {
        if (++come < all) return false;
        come = 0;
        ++times;
        return true;
    }
};

struct Lane {
    float* sums = nullptr;
    uint4 left{};
    uint2 right{};
    unsigned value = 0;
    int source = 0;
    unsigned* result = nullptr;
};

struct Warp {
    Meeting meeting;
    Lane lanes[32];
    unsigned stands_until = 0;  // a round of the scheduler
};

struct Block {
    std::vector<uint4> shared = std::vector<uint4>(SHARED_BYTES / 16 + 8);  // aligned to a line
    Meeting meeting;
    Warp warps[WARPS];
    char* memory() {
        const auto at = reinterpret_cast<std::uintptr_t>(shared.data());
        return reinterpret_cast<char*>((at + 127) / 128 * 128);
    }
};

struct Fetched {
    uint4* shared;
    const uint4* from;
};

struct Fiber {
    ucontext_t context;
    std::vector<Fetched> fetched;  // in flight
    std::vector<char> stack = std::vector<char>(1 << 16);
    unsigned thread, block;
    int times_met = 0;  // the count of the cluster's barrier when this thread arrived
    bool done = false;
};

struct Letter {
    const Fiber* from;
    char* to;
    uint4 what;
    Barrier* barrier;
};

struct Cluster {
    std::vector<Block> blocks = std::vector<Block>(CLUSTER);
    std::vector<Fiber> fibers = std::vector<Fiber>(CLUSTER * WARPS * 32);
    std::vector<Letter> under_way;
    Meeting meeting;
    ucontext_t scheduler;
    Fiber* running = nullptr;
    Order order;
    const void* kernel;
    void (*call)(const void* kernel);
    unsigned drawn = 1;
    bool moved = false;   // whether any thread continued since all were tried
    bool broken = false;  // whether a barrier was missing, or a thread ended with fetches in flight

    Block& block() { return blocks[blockIdx.x % CLUSTER]; }
    Warp& warp() { return block().warps[threadIdx.x / 32]; }
    unsigned draw(unsigned below) {
        drawn = drawn * 1664525 + 1013904223;
        return (drawn >> 8) % below;
    }
};

inline Cluster* cluster;

template <class Condition>
void until(Condition condition) {
    while (!condition()) swapcontext(&cluster->running->context, &cluster->scheduler);
    cluster->moved = true;
}

inline void start() {
    cluster->call(cluster->kernel);
    cluster->running->done = cluster->moved = true;
    if (!cluster->running->fetched.empty()) cluster->broken = true;
}

struct BarrierState {
    int bytes;  // still expected
    short to_arrive, phases;
};

inline void change(Barrier* barrier, int bytes, int arrived) {
    BarrierState state = same_bits<BarrierState>(*barrier);
    if (state.to_arrive < arrived || state.to_arrive > 1 || state.phases < 0) cluster->broken = true;
    state.bytes += bytes;
    state.to_arrive -= arrived;
    if (state.to_arrive == 0 && state.bytes == 0) {
        state.to_arrive = 1;
        ++state.phases;
    }
    *barrier = same_bits<Barrier>(state);
}

inline void deliver(const Letter& letter) {
    std::memcpy(letter.to, &letter.what, sizeof letter.what);
    if (letter.barrier) change(letter.barrier, -static_cast<int>(sizeof letter.what), 0);
    cluster->moved = true;
}

// What does not arrive yet stays in flight.
template <class Arrives>
void deliver_those(Arrives arrives) {
    for (const Letter& letter : std::exchange(cluster->under_way, {})) {
        if (arrives(letter)) {
            deliver(letter);
        } else {
            cluster->under_way.push_back(letter);
        }
    }
}

inline void prepare(Fiber& fiber, unsigned thread, unsigned block) {
    fiber.thread = thread;
    fiber.block = block;
    getcontext(&fiber.context);
    fiber.context.uc_stack = {fiber.stack.data(), 0, fiber.stack.size()};
    fiber.context.uc_link = &cluster->scheduler;
    makecontext(&fiber.context, start, 0);
}

// Sometimes delays a warp, so that the others continue as far as they can without it.
inline void halt_some(unsigned round) {
    for (Block& block : cluster->blocks) {
        for (Warp& warp : block.warps) {
            if (round >= warp.stands_until && cluster->draw(64) == 0) warp.stands_until = round + 128;
        }
    }
}

// Whether all threads finished, and everything that was sent was awaited.
inline bool run_cluster(Cluster& all, unsigned first_block) {
    cluster = &all;
    for (Block& block : all.blocks) std::memset(block.memory(), 0xff, SHARED_BYTES);
    std::vector<Fiber*> queue;
    for (std::size_t i = 0; i < all.fibers.size(); ++i) {
        prepare(all.fibers[i], i % (WARPS * 32), first_block + i / (WARPS * 32));
        queue.push_back(&all.fibers[i]);
    }
    if (all.order == Order::backward) queue = std::vector<Fiber*>(queue.rbegin(), queue.rend());
    for (unsigned round = 0; !queue.empty(); ++round) {
        if (all.order == Order::shuffled) {
            for (std::size_t i = queue.size(); i > 1; --i) std::swap(queue[i - 1], queue[all.draw(i)]);
            halt_some(round);
        }
        all.moved = false;
        for (Fiber* fiber : queue) {
            all.running = fiber;
            threadIdx.x = fiber->thread;
            blockIdx.x = fiber->block;
            if (round < all.warp().stands_until) {
                all.moved = true;
                continue;
            }
            swapcontext(&all.scheduler, &fiber->context);
        }
        const bool late = !all.under_way.empty();
        deliver_those([&](const Letter&) { return all.draw(4) == 0; });
        if (all.broken || !(all.moved || late)) return false;
        std::erase_if(queue, [](Fiber* fiber) { return fiber->done; });
    }
    return all.under_way.empty();
}

// 0, or 1 if threads wait for something that does not arrive, or something arrives that nobody waits for.
template <class Kernel>
int run_clusters(int clusters, int order, const Kernel& kernel) {
    for (int i = 0; i < clusters; ++i) {
        Cluster all;
        all.kernel = &kernel;
        all.call = [](const void* called) { (*static_cast<const Kernel*>(called))(); };
        all.order = static_cast<Order>(order);
        if (!run_cluster(all, i * CLUSTER)) return 1;
    }
    return 0;
}

// ---- functions that the kernels call --------------------------------------------------------------------------------

inline char* shared_memory() { return cluster->block().memory(); }
inline int rank_in_cluster() { return blockIdx.x % CLUSTER; }

inline void meet_at(Meeting& meeting, int all) {
    const int before = meeting.times;
    meeting.last_of(all);
    until([&] { return meeting.times > before; });
}

inline void __syncthreads() { meet_at(cluster->block().meeting, WARPS * 32); }

// The last lane that arrives does the work of all.
template <class Work>
void by_the_last(const Lane& lane, Work work) {
    Warp& warp = cluster->warp();
    warp.lanes[threadIdx.x % 32] = lane;
    const int before = warp.meeting.times;
    if (warp.meeting.last_of(32)) work(warp.lanes);
    until([&] { return warp.meeting.times > before; });
}

inline unsigned shuffle(unsigned value, int source) {
    unsigned result;
    by_the_last({.value = value, .source = source, .result = &result}, [](const Lane* lanes) {
        for (int i = 0; i < 32; ++i) *lanes[i].result = lanes[lanes[i].source].value;
    });
    return result;
}

// Lane c of four has the values 2c, 2c + 1, 2c + 8 and 2c + 9 of a row of 16.
inline void spread(float* row, int c, unsigned first, unsigned second) {
    const float2 low = unpack(first), high = unpack(second);
    row[2 * c] = low.x, row[2 * c + 1] = low.y, row[2 * c + 8] = high.x, row[2 * c + 9] = high.y;
}

inline void mma(float (&sums)[4], uint4 left, uint2 right) {
    by_the_last({.sums = sums, .left = left, .right = right}, [](const Lane* lanes) {
        float rows[16][16], columns[8][16];
        for (int i = 0; i < 32; ++i) {
            const Lane& lane = lanes[i];
            spread(rows[i / 4], i % 4, lane.left.x, lane.left.z);
            spread(rows[i / 4 + 8], i % 4, lane.left.y, lane.left.w);
            spread(columns[i / 4], i % 4, lane.right.x, lane.right.y);
        }
        for (int i = 0; i < 32; ++i) {
            for (int j = 0; j < 4; ++j) {
                const float* row = rows[i / 4 + j / 2 * 8];
                const float* column = columns[i % 4 * 2 + j % 2];
                for (int k = 0; k < 16; ++k) lanes[i].sums[j] += row[k] * column[k];
            }
        }
    });
}

inline void cp_async(uint4* shared, const uint4* from) { cluster->running->fetched.push_back({shared, from}); }

// As late as possible.
template <int BUT>
void cp_async_wait() {
    auto& under_way = cluster->running->fetched;
    for (; std::ssize(under_way) > BUT; under_way.erase(under_way.begin())) *under_way[0].shared = *under_way[0].from;
}

inline uint4 read_fetched(const uint4* shared) { return *shared; }

inline void cluster_arrive() {
    deliver_those([](const Letter& letter) { return letter.from == cluster->running && !letter.barrier; });
    cluster->running->times_met = cluster->meeting.times;
    cluster->meeting.last_of(CLUSTER * WARPS * 32);
}

inline void cluster_wait() {
    const int before = cluster->running->times_met;
    until([&] { return cluster->meeting.times > before; });
}

inline void init_barrier(Barrier* barrier) { *barrier = same_bits<Barrier>(BarrierState{0, 1, 0}); }
inline void expect_bytes(Barrier* barrier, int bytes) { change(barrier, bytes, 1); }

inline void wait_parity(Barrier* barrier, int parity) {
    until([&] { return (same_bits<BarrierState>(*barrier).phases & 1) != parity; });
}

template <class T>
T* of_block(T* here, int rank) {
    return reinterpret_cast<T*>(cluster->blocks[rank].memory() + (reinterpret_cast<char*>(here) - shared_memory()));
}

inline void post(const Letter& letter) {
    if (cluster->order == Order::shuffled) {
        cluster->under_way.push_back(letter);
    } else {
        deliver(letter);
    }
}

inline void store_async(void* to, int rank, uint4 what, Barrier* barrier) {
    Barrier* its_barrier = barrier ? of_block(barrier, rank) : nullptr;
    post({cluster->running, of_block(static_cast<char*>(to), rank), what, its_barrier});
}
inline void store_remote(void* to, int rank, uint4 what) { store_async(to, rank, what, nullptr); }
