// What the kernels of kernels.cu need of a Hopper GPU, in PTX: no header of the CUDA toolkit is read, since NVRTC
// on a user's machine may have none. tests/emulated_hopper.h has the same functions for a processor.
#pragma once

#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")

using Half = unsigned short;  // the bits of a number in half precision, of the type that FP16 says
using Barrier = unsigned long long;  // an mbarrier: its phase ends when all bytes that it waits for have come

DEVICE char* shared_memory() {
    extern __shared__ __align__(128) char memory[];
    return memory;
}

// Where PTX finds what stands in shared memory.
DEVICE unsigned place_of(const void* shared) { return static_cast<unsigned>(__cvta_generic_to_shared(shared)); }

// ---- numbers --------------------------------------------------------------------------------------------------------

DEVICE float fast_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float fast_reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Two numbers in half precision; the first stands in the lower bits.
DEVICE unsigned pack(float low, float high) {
    unsigned pair;
#if FP16
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#endif
    return pair;
}

DEVICE float2 unpack(unsigned pair) {
    float2 both;
#if FP16
    asm("{ .reg .f16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high; }"
        : "=f"(both.x), "=f"(both.y)
        : "r"(pair));
#else
    both = {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
#endif
    return both;
}

// ---- from memory to shared memory, past registers -------------------------------------------------------------------

// 16 bytes, for this thread only; it waits until all but so many of those that it started are there.
DEVICE void cp_async(uint4* shared, const uint4* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16; cp.async.commit_group;" ::"r"(place_of(shared)), "l"(from));
}

template <int BUT>
DEVICE void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(BUT));
}

// Not moved before the wait, which the compiler does not take for a change of memory: other reads may pass it.
DEVICE uint4 read_fetched(const uint4* shared) {
    uint4 found;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(found.x), "=r"(found.y), "=r"(found.z), "=r"(found.w)
                 : "r"(place_of(shared)));
    return found;
}

// ---- a warp ---------------------------------------------------------------------------------------------------------

// What another lane has.
DEVICE unsigned shuffle(unsigned value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }

// Adds the product of 16 x 16 and 16 x 8 numbers: mma.m16n8k16. Lane 4r + c has rows r and r + 8 in turns of the left,
// both and both of the sums, and column r of the right.
DEVICE void mma(float (&sums)[4], uint4 left, uint2 right) {
    asm volatile(
#if FP16
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
#else
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
#endif
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left.x), "r"(left.y), "r"(left.z), "r"(left.w), "r"(right.x), "r"(right.y));
}

// ---- a cluster ------------------------------------------------------------------------------------------------------

DEVICE int rank_in_cluster() {
    unsigned rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// All threads of the cluster come, and wait for each other: what was written before the one is seen after the other.
DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

DEVICE void init_barrier(Barrier* barrier) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1; fence.mbarrier_init.release.cluster;" ::"r"(place_of(barrier))
                 : "memory");
}

// The barrier's phase ends once so many bytes have come, those counted that came before.
DEVICE void expect_bytes(Barrier* barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(place_of(barrier)), "r"(bytes)
                 : "memory");
}

// Until the barrier's phase of that parity, the first one's being 0, has ended. What was sent stands in shared memory:
// with .acquire.cluster the compiler would also empty the cache of what is read from memory.
DEVICE void wait_parity(Barrier* barrier, int parity) {
    asm volatile(
        "{ .reg .pred complete;\n"
        "again: mbarrier.try_wait.parity.shared::cta.b64 complete, [%0], %1;\n"
        "@!complete bra again; }" ::"r"(place_of(barrier)),
        "r"(parity)
        : "memory");
}

// Writes to a block's shared memory what stands at the same place as `to` in this one's. The compiler may move this
// block's own reads past it: what is sent is in registers.
DEVICE void store_remote(void* to, int rank, uint4 what) {
    asm volatile(
        "{ .reg .b32 there;\n"
        "mapa.shared::cluster.u32 there, %0, %1;\n"
        "st.shared::cluster.v4.b32 [there], {%2, %3, %4, %5}; }" ::"r"(place_of(to)),
        "r"(rank), "r"(what.x), "r"(what.y), "r"(what.z), "r"(what.w));
}

// The same, counted by that block's barrier.
DEVICE void store_async(void* to, int rank, uint4 what, Barrier* barrier) {
    asm volatile(
        "{ .reg .b32 there, its_barrier;\n"
        "mapa.shared::cluster.u32 there, %0, %2;\n"
        "mapa.shared::cluster.u32 its_barrier, %1, %2;\n"
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [there], {%3, %4, %5, %6}, [its_barrier]; }"
        ::"r"(place_of(to)), "r"(place_of(barrier)), "r"(rank), "r"(what.x), "r"(what.y), "r"(what.z), "r"(what.w));
}
