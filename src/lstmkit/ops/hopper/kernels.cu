// The recurrence of an LSTM or a GRU in half precision on a Hopper GPU: all steps in one launch, forward or backward.
//
// A cluster of thread blocks has a few sequences. Each of its blocks has some of the units, whose recurrent weights
// stay in registers and shared memory from the first step to the last. After each step the blocks send each other their
// results, directly into shared memory: forward the new hidden state, backward partial sums of its gradient.
//
// Units and sequences come in groups of eight, as the tensor cores need them. Weights come as fragments of 16 x 16
// values, 16 bytes per lane of a warp, in the order in which a warp multiplies by them; launch.py packs them. The other
// operand is stored in slots of 16 bytes: eight values of a sequence.
//
// Names and tensors are those of triton/kernels.py. Dimensions: T steps, B batch, H units, GATES gates.
//
// Macros: KIND, H, FP16, REVERSE, RAGGED, BACKWARD, and forward BIAS and SAVES; CLUSTER (blocks), UNITS and WARPS per
// block, SEQUENCES per cluster; SPLIT, the warps that share the sums of the same units; IN_REGISTERS and
// IN_SHARED, the fragments of a warp that stay there, and AHEAD, the number of other fragments in flight; SHARED_BYTES;
// COUNTED, whether a block waits for the bytes sent to it rather than for all other blocks.
#include "passes.cuh"

#if !BACKWARD
// ---- forward --------------------------------------------------------------------------------------------------------

struct State {
    float h[2], c[2];

    DEVICE void load(const Pair& pair, const Half* hs, const float* cs, int first, int B) {
        const float2 old_h = unpack(pair.exists ? read<unsigned>(hs + pair.at(first, B, H)) : 0);
        float2 old_c = {0, 0};
        if (KIND == LSTM && pair.exists) old_c = read<float2>(cs + pair.at(SAVES ? first : 0, B, H));
        h[0] = old_h.x, h[1] = old_h.y, c[0] = old_c.x, c[1] = old_c.y;
    }
};

// One step of a unit, from the recurrent projections `a` and the input projections `x` of its gates.
DEVICE void step(float4 a, const float (&x)[GATES], float& h, float& c, float (&saved_values)[SAVED]) {
    if constexpr (KIND == LSTM) {
        const float i = sigmoid(x[0] + a.x), f = sigmoid(x[1] + a.y), g = fast_tanh(x[2] + a.z),
                    o = sigmoid(x[3] + a.w);
        saved_values[0] = i, saved_values[1] = f, saved_values[2] = g, saved_values[3] = o;
        c = f * c + i * g;
        h = o * fast_tanh(c);
    } else {
        const float r = sigmoid(x[0] + a.x), z = sigmoid(x[1] + a.y), n = fast_tanh(x[2] + r * a.z);
        saved_values[0] = r, saved_values[1] = z, saved_values[2] = n, saved_values[3] = a.z;
        h = n + z * (h - n);
    }
}

// The index of the sums of a unit in a square, without bank conflicts of writes or reads.
DEVICE int sum_at(int sequence, int unit) { return sequence * 8 + (unit ^ sequence); }

// Stores the sums of a warp in shared memory. Lane 4r + c has unit r of each group, and sequences 2c and 2c + 1 of each
// column.
DEVICE void store_sums(const Sums& sums, float4 (*squares)[64], int lane) {
    UNROLL for (int group = 0; group < WARP_GROUPS; ++group) {
        UNROLL for (int n = 0; n < COLUMNS; ++n) {
            UNROLL for (int s = 0; s < 2; ++s) {
                float of[4] = {};
                UNROLL for (int gate = 0; gate < GATES; ++gate) {
                    const int rows = group * GATES + gate;  // a group of eight rows; a tile has two
                    of[gate] = sums[rows / 2][n][rows % 2 * 2 + s];
                }
                squares[group * COLUMNS + n][sum_at(lane % 4 * 2 + s, lane / 4)] = {of[0], of[1], of[2], of[3]};
            }
        }
    }
}

// The recurrent projections of a unit: partial sums of all warps, plus the bias.
DEVICE float4 total(const Shared& shared, const Pair& pair, int which, const Numbers<GATES>& bias) {
    float4 sum = {bias.get(0, which), bias.get(1, which), bias.get(2, which), bias.get(GATES - 1, which)};
    UNROLL for (int i = 0; i < SPLIT; ++i) {
        const float4 part = shared.sums[i][pair.square][sum_at(pair.sequence % 8, pair.unit % 8 + which)];
        sum = {sum.x + part.x, sum.y + part.y, sum.z + part.z, sum.w + part.w};
    }
    return sum;
}

// Fills the operand with the initial hidden state of all units, padded with zeros.
DEVICE void fill(Shared& shared, const Half* first, int B) {
    const long long row0 = static_cast<long long>(blockIdx.x / CLUSTER) * SEQUENCES;
    for (int i = threadIdx.x; i < SLOTS; i += THREADS) {
        const int group = i / SEQUENCES, sequence = i % SEQUENCES;
        uint4 h = {0, 0, 0, 0};
        shared.operand[1][i] = h;
        if (group * 8 < H && row0 + sequence < B) h = read<uint4>(first + (row0 + sequence) * H + group * 8);
        shared.operand[0][slot(group, sequence)] = h;
    }
}

// Sends the new hidden state of a group to all blocks. Each of its four threads gathers it and sends it to every fourth
// block; no two blocks send to the same one at the same time.
DEVICE void send_group(const Exchange& exchange, int round, const Pair& pair, unsigned h, Shared& shared, int rank) {
    const int lane = threadIdx.x % 32, part = lane % 4, start = lane - part;
    const uint4 all = {shuffle(h, start), shuffle(h, start + 1), shuffle(h, start + 2), shuffle(h, start + 3)};
    uint4* to = &shared.operand[round & 1][slot(rank * GROUPS + pair.group, pair.sequence)];
    UNROLL for (int i = 0; i < CLUSTER; i += 4) {
        if (i + part < CLUSTER) exchange.put(round, to, (rank + i + part) % CLUSTER, all);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    forward(const Half* gx, const uint4* w_hh, const Half* b_hh, const long long* lengths, Half* hs, float* cs,
            Half* saved, int T, int B) {
    Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
    const int rank = rank_in_cluster(), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int part = warp % SPLIT, first_square = warp / SPLIT * WARP_GROUPS * COLUMNS;
    const int first = REVERSE ? T : 0;  // slot
    const Weights weights(w_hh, shared, rank, warp, lane);
    fill(shared, hs + static_cast<long long>(first) * B * H, B);

    Pair pairs[PAIRS];
    State states[PAIRS];
    Numbers<GATES> x[PAIRS], bias[PAIRS];
    UNROLL for (int i = 0; i < PAIRS; ++i) {
        const Pair& p = pairs[i];
        pairs[i].find(i, rank, lengths, T, B);
        states[i].load(p, hs, cs, first, B);
        x[i].load(gx + p.at(REVERSE ? T - 1 : 0, B, GATES * H), p.exists);
        bias[i].load(b_hh + p.unit, BIAS && p.exists);
    }
    const Exchange exchange(shared.barriers);

    for (int k = 0; k < T; ++k) {
        const int t = REVERSE ? T - 1 - k : k, after = REVERSE ? t : t + 1, next = REVERSE ? t - 1 : t + 1;
        const bool last = k + 1 == T;
        if (k > 0) exchange.wait(k);
        Sums sums = {};
        UNROLL for (int chunk = 0; chunk < CHUNKS; ++chunk) {
            uint4 chunk_values[COLUMNS];
            load_chunk(chunk_values, shared.operand[k & 1], part * CHUNKS + chunk, lane);
            multiply(sums, weights, chunk * TILES * 2, chunk_values);
        }
        store_sums(sums, shared.sums[part] + first_square, lane);
        __syncthreads();

        unsigned h[PAIRS] = {};
        Numbers<SAVED> saved_values[PAIRS];
        UNROLL for (int i = 0; i < PAIRS; ++i) {
            if (!pairs[i].has_square) continue;
            float of_unit[2][SAVED];
            UNROLL for (int which = 0; which < 2; ++which) {
                float input[GATES];
                UNROLL for (int gate = 0; gate < GATES; ++gate) input[gate] = x[i].get(gate, which);
                float new_h = states[i].h[which], new_c = states[i].c[which];
                step(total(shared, pairs[i], which, bias[i]), input, new_h, new_c, of_unit[which]);
                if (pairs[i].active(t)) states[i].h[which] = new_h, states[i].c[which] = new_c;
            }
            saved_values[i].set(of_unit);
            h[i] = pack(states[i].h[0], states[i].h[1]);
            if (!last) send_group(exchange, k + 1, pairs[i], h[i], shared, rank);
        }
        if (!last) exchange.sent();

        // Meanwhile: store the results of this step, and load what the next step needs.
        UNROLL for (int i = 0; i < PAIRS; ++i) {
            const Pair& p = pairs[i];
            if (!p.exists) continue;
            write(hs + p.at(after, B, H), h[i]);
            if (SAVES) saved_values[i].store(saved + p.at(t, B, SAVED * H));
            if (KIND == LSTM && (SAVES || last)) {
                write(cs + p.at(SAVES ? after : 0, B, H), float2{states[i].c[0], states[i].c[1]});
            }
            x[i].load(gx + p.at(next, B, GATES * H), !last);
        }
    }
    weights.finish();
    exchange.synchronize();
}

#else
// ---- backward -------------------------------------------------------------------------------------------------------

// What a backward step reads from memory.
struct Known {
    Numbers<1> d_out;
    Numbers<SAVED> saved_values;
    float2 before;  // the cell state before the step; of a GRU the hidden state

    DEVICE void load(const Pair& p, const Half* d_output, const Half* saved, const Half* hs, const float* cs, int t,
                     int B) {
        if (!p.exists) return;
        d_out.load(d_output + p.at(t, B, H), true);
        saved_values.load(saved + p.at(t, B, SAVED * H), true);
        const long long at = p.at(REVERSE ? t + 1 : t, B, H);
        before = KIND == LSTM ? read<float2>(cs + at) : unpack(read<unsigned>(hs + at));
    }
};

// One step of a unit backward: gradients of the input and recurrent projections of its gates. `d_h` and `d_c` are
// gradients of the states after the step; they become those of the states before it, without the part through the
// recurrent projections.
DEVICE void step_back(const Known& known, int which, float& d_h, float& d_c, float (&x)[GATES], float (&a)[GATES]) {
    const Numbers<SAVED>& saved_values = known.saved_values;
    const float before = which ? known.before.y : known.before.x, d = d_h + known.d_out.get(0, which);
    if constexpr (KIND == LSTM) {
        const float i = saved_values.get(0, which), f = saved_values.get(1, which), g = saved_values.get(2, which),
                    o = saved_values.get(3, which);
        const float tanh_c = fast_tanh(f * before + i * g);
        d_c += d * o * (1 - tanh_c * tanh_c);
        a[0] = x[0] = d_c * g * i * (1 - i);
        a[1] = x[1] = d_c * before * f * (1 - f);
        a[2] = x[2] = d_c * i * (1 - g * g);
        a[3] = x[3] = d * tanh_c * o * (1 - o);
        d_c *= f;
        d_h = 0;
    } else {
        const float r = saved_values.get(0, which), z = saved_values.get(1, which), n = saved_values.get(2, which),
                    gh_n = saved_values.get(3, which);
        x[2] = d * (1 - z) * (1 - n * n);
        a[0] = x[0] = x[2] * gh_n * r * (1 - r);
        a[1] = x[1] = d * (before - n) * z * (1 - z);
        a[2] = x[2] * r;
        d_h = d * z;
    }
}

// Stores the gradients of the recurrent projections as the operand of the product.
DEVICE void store_gradients(uint4* operand, const Pair& p, const Numbers<GATES>& d) {
    UNROLL for (int gate = 0; gate < GATES; ++gate) {
        unsigned* to = reinterpret_cast<unsigned*>(operand + slot(p.group * GATES + gate, p.sequence));
        to[threadIdx.x % 4] = d.of[gate];
    }
}

// The index of a value in a square that is sent. A warp sends even sequences, then odd ones, and fills full lines each
// time. It reads all units of four sequences at the same time, without bank conflicts.
DEVICE int sent_at(int sequence, int unit) {
    const int odd = sequence & 1, in_line = ((sequence & 6) | unit >> 2) ^ odd << 2;
    return (odd * 8 + in_line) * 4 + (unit & 3);
}

// Sends partial sums of the gradients of 32 units to the blocks that have these units. Lane 4r + c has units 4r to
// 4r + 3, and sequences 2c and 2c + 1 of each column.
DEVICE void send_partial_sums(const Exchange& exchange, int round, const Sums& sums, int units, Shared& shared,
                              int rank, int lane) {
    const int group = units * 4 + lane / 8, to = group / GROUPS;
    if (to >= CLUSTER) return;
    UNROLL for (int n = 0; n < COLUMNS; ++n) {
        float* square = shared.sent[round & 1][rank][group % GROUPS * COLUMNS + n];
        UNROLL for (int s = 0; s < 2; ++s) {
            const uint4 four = {__float_as_uint(sums[0][n][s]), __float_as_uint(sums[0][n][2 + s]),
                                __float_as_uint(sums[1][n][s]), __float_as_uint(sums[1][n][2 + s])};
            exchange.put(round, square + sent_at(lane % 4 * 2 + s, lane / 4 % 2 * 4), to, four);
        }
    }
}

// Computes and sends all partial sums of a warp, 32 units at a time: they travel while the next ones are computed.
DEVICE void send_gradients(const Exchange& exchange, int round, const Weights& weights, Shared& shared, int rank,
                           int warp, int lane) {
    constexpr int rounds = TILES / TILES_AT_ONCE;
    uint4 chunk_values[CHUNKS][COLUMNS];
    UNROLL for (int chunk = 0; chunk < CHUNKS; ++chunk)
        load_chunk(chunk_values[chunk], shared.operand[round & 1], chunk, lane);
    UNROLL for (int i = 0; i < rounds; ++i) {
        Sums sums = {};
        UNROLL for (int chunk = 0; chunk < CHUNKS; ++chunk) {
            multiply(sums, weights, (i * CHUNKS + chunk) * TILES_AT_ONCE * 2, chunk_values[chunk]);
        }
        send_partial_sums(exchange, round, sums, warp * rounds + i, shared, rank, lane);
    }
}

// Adds the partial sums of all blocks.
DEVICE void gather(float (&d_h)[2], const Shared& shared, int round, const Pair& p) {
    const int at = sent_at(p.sequence % 8, p.unit % 8);
    UNROLL for (int from = 0; from < CLUSTER; ++from) {
        const float2 part = read<float2>(&shared.sent[round & 1][from][p.square][at]);
        d_h[0] += part.x, d_h[1] += part.y;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    backward(const Half* d_output, const uint4* w_hh, const long long* lengths, const Half* hs, const float* cs,
             const Half* saved, float* dh, float* dc, Half* dgx, Half* dgh, int T, int B) {
    Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
    const int rank = rank_in_cluster(), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const Weights weights(w_hh, shared, rank, warp, lane);
    for (int i = threadIdx.x; i < SLOTS; i += THREADS) shared.operand[0][i] = shared.operand[1][i] = {0, 0, 0, 0};

    Pair pairs[PAIRS];
    float d_h[PAIRS][2] = {}, d_c[PAIRS][2] = {};
    Known known[PAIRS] = {};
    UNROLL for (int i = 0; i < PAIRS; ++i) {
        const Pair& p = pairs[i];
        pairs[i].find(i, rank, lengths, T, B);
        known[i].load(p, d_output, saved, hs, cs, REVERSE ? 0 : T - 1, B);
        UNROLL for (int which = 0; which < 2; ++which) {
            if (p.exists) d_h[i][which] = dh[p.at(0, B, H) + which];
            if (p.exists && KIND == LSTM) d_c[i][which] = dc[p.at(0, B, H) + which];
        }
    }
    const Exchange exchange(shared.barriers);

    for (int round = 1; round <= T; ++round) {  // the round of this step
        const int t = REVERSE ? round - 1 : T - round, next = REVERSE ? t + 1 : t - 1;
        if (round > 1) exchange.wait(round - 1);
        Numbers<GATES> of_input[PAIRS], of_state[PAIRS];
        UNROLL for (int i = 0; i < PAIRS; ++i) {
            if (!pairs[i].has_square) continue;
            if (round > 1) gather(d_h[i], shared, round - 1, pairs[i]);
            float x[2][GATES] = {}, a[2][GATES] = {};
            if (pairs[i].active(t)) {
                UNROLL for (int which = 0; which < 2; ++which) {
                    step_back(known[i], which, d_h[i][which], d_c[i][which], x[which], a[which]);
                }
            }
            of_input[i].set(x);
            of_state[i].set(a);
            store_gradients(shared.operand[round & 1], pairs[i], of_state[i]);
        }
        __syncthreads();
        send_gradients(exchange, round, weights, shared, rank, warp, lane);
        exchange.sent();

        // Meanwhile: store the results of this step, and load what the next step needs.
        UNROLL for (int i = 0; i < PAIRS; ++i) {
            const Pair& p = pairs[i];
            if (!p.exists) continue;
            of_input[i].store(dgx + p.at(t, B, GATES * H));
            if (KIND == GRU) of_state[i].store(dgh + p.at(t, B, GATES * H));
            if (round < T) known[i].load(p, d_output, saved, hs, cs, next, B);
        }
    }

    exchange.wait(T);
    UNROLL for (int i = 0; i < PAIRS; ++i) {
        const Pair& p = pairs[i];
        if (!p.exists) continue;
        gather(d_h[i], shared, T, p);
        write(dh + p.at(0, B, H), float2{d_h[i][0], d_h[i][1]});
        if (KIND == LSTM) write(dc + p.at(0, B, H), float2{d_c[i][0], d_c[i][1]});
    }
    weights.finish();
    exchange.synchronize();
}
#endif
