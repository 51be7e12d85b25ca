// The hardware features of Hopper GPUs that kernels.cu uses, in PTX. No header of the CUDA toolkit is included, because
// NVRTC on a user's machine may have none. tests/emulated_hopper.h implements the same functions on a CPU.
#pragma once

#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")

using Half = unsigned short;         // the bits of a half-precision number: float16 with FP16, else bfloat16
using Barrier = unsigned long long;  // an mbarrier: its phase ends when all expected bytes have arrived

DEVICE char* shared_memory() {
    extern __shared__ __align__(128) char memory[];
    return memory;
}

// The address of shared memory in PTX.
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

// Packs two values in half precision; the first is in the lower bits.
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

// Copies 16 bytes, visible to this thread only; the wait returns when at most PENDING of its copies are in flight.
DEVICE void cp_async(uint4* shared, const uint4* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16; cp.async.commit_group;" ::"r"(place_of(shared)), "l"(from));
}

template <int PENDING>
DEVICE void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING));
}

// Volatile, so that it stays behind the wait, which has no memory clobber: other reads may pass the wait.
DEVICE uint4 read_fetched(const uint4* shared) {
    uint4 value;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "r"(place_of(shared)));
    return value;
}

// ---- a warp ---------------------------------------------------------------------------------------------------------

// The value of another lane.
DEVICE unsigned shuffle(unsigned value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }

// Adds the product of 16 x 16 and 16 x 8 values: mma.m16n8k16. Lane 4r + c has rows r and r + 8 of the left operand and
// of the sums, and column r of the right operand.
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

// Barrier of all threads of the cluster: writes before the arrival are visible after the wait.
DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

DEVICE void init_barrier(Barrier* barrier) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1; fence.mbarrier_init.release.cluster;" ::"r"(place_of(barrier))
                 : "memory");
}

// The phase of the barrier ends after so many bytes, including those that have arrived already.
DEVICE void expect_bytes(Barrier* barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(place_of(barrier)), "r"(bytes)
                 : "memory");
}

// Waits until the phase with this parity (0 for the first) has ended. The data are in shared memory; .acquire.cluster
// would also invalidate the L1 cache.
DEVICE void wait_parity(Barrier* barrier, int parity) {
    asm volatile(
        "{ .reg .pred complete;\n"
        "again: mbarrier.try_wait.parity.shared::cta.b64 complete, [%0], %1;\n"
        "@!complete bra again; }" ::"r"(place_of(barrier)),
        "r"(parity)
        : "memory");
}

// Writes to the address of `to` in the shared memory of another block. The compiler may move reads of this block past
// it: what is sent is in registers.
DEVICE void store_remote(void* to, int rank, uint4 what) {
    asm volatile(
        "{ .reg .b32 there;\n"
        "mapa.shared::cluster.u32 there, %0, %1;\n"
        "st.shared::cluster.v4.b32 [there], {%2, %3, %4, %5}; }" ::"r"(place_of(to)),
        "r"(rank), "r"(what.x), "r"(what.y), "r"(what.z), "r"(what.w));
}

// The same, counted by the barrier of that block.
DEVICE void store_async(void* to, int rank, uint4 what, Barrier* barrier) {
    asm volatile(
        "{ .reg .b32 there, its_barrier;\n"
        "mapa.shared::cluster.u32 there, %0, %2;\n"
        "mapa.shared::cluster.u32 its_barrier, %1, %2;\n"
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [there], {%3, %4, %5, %6}, [its_barrier]; "
        "}" ::"r"(place_of(to)),
        "r"(place_of(barrier)), "r"(rank), "r"(what.x), "r"(what.y), "r"(what.z), "r"(what.w));
}
