// One recurrent layer over time: the common part of forward and backward.
//
// Data flow, for each shard of the batch and each chunk of steps:
//   forward   x rows -> blocks -> product with W_ih -> at each step: product with W_hh, cell -> output rows
//   backward  at each step: gradient of the output, cell backwards, product with W_hh^T -> after the chunk: dx = dG
//   W_ih,
//             dW += [x, h]^T dG
#pragma once

#include <memory>
#include <type_traits>
#include <vector>

#include "arena.h"
#include "cells.h"
#include "norm.h"
#include "plan.h"
#include "pool.h"
#include "rows.h"

namespace lstmkit::LSTMKIT_ISA {

// One thread of the team that works on a shard.
struct Member {
    int rank = 0, size = 1;
    Barrier* barrier = nullptr;

    void wait() const {
        if (size > 1) barrier->wait();
    }
    // The part of this member in a range of `total` items.
    Range part(int64_t total) const { return {total * rank / size, total * (rank + 1) / size}; }
};

// Weights of one pass, packed.
template <class T>
struct PackedWeights {
    Packed<T> ih, hh, hr;                          // forward
    Packed<T> ih_back, hh_back, hr_back;           // backward
    const T *bias_i = nullptr, *bias_h = nullptr;  // of input projection and recurrent projection
    const T *gain_i = nullptr, *gain_h = nullptr, *gain_c = nullptr, *bias_c = nullptr;
    const T* peephole = nullptr;
    const T* zeros = nullptr;  // as many as the widest matrix has columns, in place of a missing bias
};

// What forward saves for backward, for one chunk of one shard; or scratch of that shape.
template <class T>
struct Record {
    Blocks<T> gates{};          // activations
    Blocks<T> cell{}, state{};  // the cell state after the step, before and after zoneout
    Blocks<T> candidate{};      // GRU: the recurrent projection of the candidate
    Blocks<T> normal_i{},
        normal_h{};  // layer norm: the normalized projections, and their reciprocal standard deviations
    T *rstd_i = nullptr, *rstd_h = nullptr;
};

// The state of a shard between steps. The hidden state is double-buffered: a step reads one version and writes the
// other.
template <class T>
struct State {
    Blocks<T> hidden[2]{},
        gate_input[2]{};  // `gate_input` is what the gates read: the hidden state after recurrent dropout
    Blocks<T> cell{};
};

// Everything about a call that does not change while it runs.
template <class T, class S>
struct Layer {
    Layer(const Problem& problem, const Plan& plan) : problem(problem), plan(plan) {}

    const Problem& problem;
    const Plan& plan;
    const GateOrder order{problem.gates(), problem.units}, output_order{1, problem.outputs},
        unit_order{1, problem.units};
    const int64_t input_blocks = blocks_of<T>(problem.inputs), unit_blocks = blocks_of<T>(problem.units),
                  output_blocks = blocks_of<T>(problem.outputs), gate_blocks = order.blocks<T>();
    const bool lstm = problem.cell == Cell::lstm, gru = problem.cell == Cell::gru, split = problem.split(),
               norm = problem.layer_norm;
    const CellFunctions<T> cell = cell_functions<T>(problem);

    int64_t previous(const Pass& pass, int64_t t) const { return pass.reverse ? t + 1 : t - 1; }
    // The number of rows of step t that were also active at the step before (in the order of the pass).
    int64_t continued_rows(const Pass& pass, const Shard& shard, int64_t t) const {
        const int64_t before = previous(pass, t);
        if (before < 0 || before >= shard.steps()) return 0;
        return std::min(shard.active(t), shard.active(before));
    }
    // The version of the hidden state that step t reads; it writes the other.
    int turn(const Pass& pass, const Shard& shard, int64_t t) const {
        return static_cast<int>((pass.reverse ? shard.steps() - 1 - t : t) & 1);
    }
    template <class F>
    void for_steps(Range chunk, bool descending, F&& f) const {
        if (descending) {
            for (int64_t t = chunk.end; t-- > chunk.begin;) f(t);
        } else {
            for (int64_t t = chunk.begin; t < chunk.end; ++t) f(t);
        }
    }

    static S* row_of(const Steps& steps, int64_t t, int64_t row) {
        return static_cast<S*>(steps.data) + t * steps.step + row * steps.row;
    }
    const S* weight(const Pass& pass, Weight which) const { return static_cast<const S*>(pass.weights[which]); }

    // Members split the units in groups that are full panels of every product.
    int64_t groups() const { return ceil_div(unit_blocks, plan.panel_width); }
    Range unit_range(Range groups) const {
        return {groups.begin * plan.panel_width, std::min(groups.end * plan.panel_width, unit_blocks)};
    }
    Range gate_panels(Range groups) const {
        return {groups.begin * order.gates,
                std::min(groups.end * order.gates, ceil_div(gate_blocks, plan.panel_width))};
    }

    int64_t max_blocks() const { return std::max({gate_blocks, output_blocks, input_blocks}); }
    // Packing pays for more threads if the matrices are large.
    int packing_threads() const {
        return static_cast<int>(std::min<int64_t>(problem.threads, 1 + problem.units * problem.outputs / 16384));
    }

    Packed<T> take_packed(Arena& arena, int64_t depth, int64_t blocks) const {
        return {arena.take<T>(Packed<T>::size(depth, blocks)), depth, blocks, plan.panel_width};
    }

    // The stride is an odd number of cache lines: with a power of two, the blocks of a row would map to the same few
    // cache sets.
    Blocks<T> take(Arena& arena, int64_t blocks, int64_t rows) const {
        constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
        const int64_t stride = (ceil_div(rows * lanes<T>, line) | 1) * line;
        return {arena.take<T>(blocks * stride), stride};
    }

    // ---- the layout of the saved tensor: a region per field; in it shard after shard, chunk after chunk -------------

    // The first element is the number of shards of forward, which backward must use too, even with other threads.
    static T* saved_rows(const Pass& pass) { return static_cast<T*>(pass.saved) + lanes<T>; }

    static int64_t saved_row(const Problem& p) {
        if (p.recompute) return snapshot_row(p);
        return record_row(p, p.pass[0].zoneout[1].on || p.pass[1].zoneout[1].on);
    }
    static int64_t record_row(const Problem& p, bool zones_cell) {
        const GateOrder order{p.gates(), p.units};
        const int64_t units = blocks_of<T>(p.units) * lanes<T>, gates = order.blocks<T>() * lanes<T>;
        int64_t row = gates;
        if (p.cell == Cell::lstm) row += units;
        if (p.cell == Cell::lstm && zones_cell) row += units;
        if (p.cell == Cell::gru) row += units;
        if (p.layer_norm) row += 2 * gates + 2;
        return row;
    }
    static int64_t snapshot_row(const Problem& p) {
        return (blocks_of<T>(p.units) + blocks_of<T>(p.outputs)) * lanes<T>;
    }

    // The record of a chunk in `memory` for `rows` rows, of which those of the chunk begin at `first`.
    Record<T> record(const Pass& pass, T* memory, int64_t rows, int64_t first, int64_t count) const {
        Record<T> r;
        const auto region = [&](int64_t blocks) {
            const Blocks<T> b{memory + first * blocks * lanes<T>, count * lanes<T>};
            memory += rows * blocks * lanes<T>;
            return b;
        };
        r.gates = region(gate_blocks);
        if (lstm) r.cell = region(unit_blocks);
        r.state = lstm && pass.zoneout[1].on ? region(unit_blocks) : r.cell;
        if (gru) r.candidate = region(unit_blocks);
        if (norm) {
            r.normal_i = region(gate_blocks);
            r.normal_h = region(gate_blocks);
            r.rstd_i = memory + first;
            r.rstd_h = memory + rows + first;
        }
        return r;
    }
    Record<T> saved_record(const Pass& pass, const Shard& shard, Range chunk) const {
        return record(pass, saved_rows(pass), problem.steps * problem.batch, shard.first_row + shard.start[chunk.begin],
                      shard.rows_in(chunk));
    }
    Record<T> scratch_record(const Pass& pass, T* memory, const Shard& shard, Range chunk) const {
        return record(pass, memory, shard.rows_in(chunk), 0, shard.rows_in(chunk));
    }

    // With recompute: the hidden and the cell state before the chunk (in the order of the pass).
    State<T> snapshot(const Pass& pass, const Shard& shard, int64_t chunk) const {
        T* at = saved_rows(pass) +
                snapshot_row(problem) *
                    (shard.first_batch * ceil_div(problem.steps, plan.chunk_steps) + chunk * shard.rows());
        State<T> s;
        s.hidden[0] = {at, shard.rows() * lanes<T>};
        s.cell = {s.hidden[0].at(output_blocks), shard.rows() * lanes<T>};
        return s;
    }

    // ---- rows in and out --------------------------------------------------------------------------------------------

    // One row of (B, size); zeros for a null pointer.
    static void gather_state(Blocks<T> to, int64_t row, const void* from, int64_t from_row, int64_t size) {
        if (from) {
            gather_row<T>(to, row, static_cast<const S*>(from) + from_row * size, size);
        } else {
            zero_row(to, row, blocks_of<T>(size));
        }
    }
    // The rows of the shard.
    static void gather_state(Blocks<T> to, const void* from, const Shard& shard, int64_t size) {
        for (int64_t row = 0; row < shard.rows(); ++row) gather_state(to, row, from, shard.batch[row], size);
    }

    void gather_inputs(Blocks<T> to, const Shard& shard, Range chunk, const Member& member) const {
        for (int64_t t = chunk.begin; t < chunk.end; ++t) {
            const int64_t first = shard.start[t] - shard.start[chunk.begin];
            const Range rows = member.part(shard.active(t));
            for (int64_t row = rows.begin; row < rows.end; ++row)
                gather_row<T>(to, first + row, row_of(problem.x, t, shard.batch[row]), problem.inputs);
        }
    }

    // The zoneout mask, or the probability, of one block of a state at step t.
    Vec<T> zoneout_weight(const Zoneout& z, int64_t t, int64_t row, int64_t block, int64_t size) const {
        if (!z.mask) return broadcast(static_cast<T>(z.probability));
        return load_block<T>(static_cast<const S*>(z.mask) + (t * problem.batch + row) * size, block, size);
    }

    Vec<T> dropout_mask(const Pass& pass, int64_t row, int64_t block) const {
        return load_block<T>(static_cast<const S*>(pass.mask) + row * problem.outputs, block, problem.outputs);
    }
};

template <class T>
Blocks<const T> as_const(Blocks<T> b) {
    return {b.data, b.stride};
}

// Runs work(group, member) for `groups` groups of `team` threads; if there are fewer threads than groups, in turns.
template <class F>
void run_groups(int groups, int team, int threads, F&& work) {
    if (team == 1) {
        const int count = std::max(1, std::min(threads, groups));
        run_together(count, [&](int id) {
            for (int group = id; group < groups; group += count) work(group, Member{});
        });
        return;
    }
    std::vector<std::unique_ptr<Barrier>> barriers;
    for (int group = 0; group < groups; ++group) barriers.push_back(std::make_unique<Barrier>(team));
    run_together(groups * team, [&](int id) {
        const int group = id / team;
        work(group, Member{id % team, team, barriers[group].get()});
    });
}

}  // namespace lstmkit::LSTMKIT_ISA
