// One recurrent layer over time: what forward and backward share.
//
// How data flows, for each share of the batch and each chunk of steps:
//   forward   x rows -> blocks -> product with W_ih -> at each step: product with W_hh, cell -> output rows
//   backward  at each step: gradient of the output, cell backwards, product with W_hh^T -> after the chunk: dx = dG W_ih,
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

// One thread of the team that works on a share.
struct Member {
    int rank = 0, size = 1;
    Barrier* barrier = nullptr;

    void wait() const {
        if (size > 1) barrier->wait();
    }
    // This member's part of `total` things.
    Range part(int64_t total) const { return {total * rank / size, total * (rank + 1) / size}; }
};

// Weights of one pass, packed.
template <class T>
struct PackedWeights {
    Packed<T> ih, hh, hr;                 // forward
    Packed<T> ih_back, hh_back, hr_back;  // backward
    const T *bias_i = nullptr, *bias_h = nullptr;  // added to the input's and to the state's share
    const T *gain_i = nullptr, *gain_h = nullptr, *gain_c = nullptr, *bias_c = nullptr;
    const T* peephole = nullptr;
    const T* zeros = nullptr;  // as many as the widest matrix has columns
};

// What forward leaves for backward, for one chunk of one share; or scratch of that shape.
template <class T>
struct Record {
    Blocks<T> gates{};                  // activations
    Blocks<T> cell{}, state{};          // the cell state after the step, before and after zoneout
    Blocks<T> share{};                  // GRU: the state's share of the candidate
    Blocks<T> normal_i{}, normal_h{};   // layer norm: the shares, normalised, and one over their deviations
    T *scale_i = nullptr, *scale_h = nullptr;
};

// The state of a share between steps. Of the hidden state two versions take turns: one is read while the other is written.
template <class T>
struct State {
    Blocks<T> hidden[2]{}, seen[2]{};  // `seen` is what the gates see: under recurrent dropout not all of it
    Blocks<T> cell{};
};

// Everything about a call that does not change while it runs.
template <class T, class S>
struct Layer {
    Layer(const Problem& problem, const Plan& plan) : problem(problem), plan(plan) {}

    const Problem& problem;
    const Plan& plan;
    const GateOrder order{problem.gates(), problem.units}, output_order{1, problem.outputs}, unit_order{1, problem.units};
    const int64_t input_blocks = blocks_of<T>(problem.inputs), unit_blocks = blocks_of<T>(problem.units),
                  output_blocks = blocks_of<T>(problem.outputs), gate_blocks = order.blocks<T>();
    const bool lstm = problem.cell == Cell::lstm, gru = problem.cell == Cell::gru, split = problem.split(),
               norm = problem.layer_norm;
    const CellFunctions<T> cell = cell_functions<T>(problem);

    int64_t previous(const Pass& pass, int64_t t) const { return pass.reverse ? t + 1 : t - 1; }
    // How many of the rows of step t were already running at the step before (in the order of the pass).
    int64_t went_on(const Pass& pass, const Share& share, int64_t t) const {
        const int64_t before = previous(pass, t);
        if (before < 0 || before >= share.steps()) return 0;
        return std::min(share.active(t), share.active(before));
    }
    // Which version of the hidden state step t reads; it writes the other.
    int turn(const Pass& pass, const Share& share, int64_t t) const {
        return static_cast<int>((pass.reverse ? share.steps() - 1 - t : t) & 1);
    }
    template <class F>
    void for_steps(Range chunk, bool downwards, F&& f) const {
        if (downwards) {
            for (int64_t t = chunk.end; t-- > chunk.begin;) f(t);
        } else {
            for (int64_t t = chunk.begin; t < chunk.end; ++t) f(t);
        }
    }

    static S* row_of(const Steps& steps, int64_t t, int64_t row) {
        return static_cast<S*>(steps.data) + t * steps.step + row * steps.row;
    }
    const S* weight(const Pass& pass, Weight which) const { return static_cast<const S*>(pass.weights[which]); }

    // Members share units in groups that are whole panels of every product.
    int64_t groups() const { return ceil_div(unit_blocks, plan.panel_width); }
    Range unit_range(Range groups) const {
        return {groups.begin * plan.panel_width, std::min(groups.end * plan.panel_width, unit_blocks)};
    }
    Range gate_panels(Range groups) const {
        return {groups.begin * order.gates, std::min(groups.end * order.gates, ceil_div(gate_blocks, plan.panel_width))};
    }

    int64_t widest() const { return std::max({gate_blocks, output_blocks, input_blocks}); }
    // Packing is worth threads where the matrices are large.
    int packing_threads() const {
        return static_cast<int>(std::min<int64_t>(problem.threads, 1 + problem.units * problem.outputs / 16384));
    }

    Packed<T> take_packed(Arena& arena, int64_t depth, int64_t blocks) const {
        return {arena.take<T>(Packed<T>::size(depth, blocks)), depth, blocks, plan.panel_width};
    }

    // An odd number of cache lines from block to block: at a power of two apart, a row's blocks would fight for the few
    // places that a cache has for such addresses.
    Blocks<T> take(Arena& arena, int64_t blocks, int64_t rows) const {
        constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
        const int64_t stride = (ceil_div(rows * lanes<T>, line) | 1) * line;
        return {arena.take<T>(blocks * stride), stride};
    }

    // ---- the layout of what is saved: a region for each field, in it share after share, chunk after chunk --------------

    // Its first number is how many shares forward cut the batch into: backward, perhaps with other threads, must follow.
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

    // Cuts `room` for `rows` rows of which this chunk's begin at `first`.
    Record<T> record(const Pass& pass, T* room, int64_t rows, int64_t first, int64_t count) const {
        Record<T> r;
        const auto region = [&](int64_t blocks) {
            const Blocks<T> b{room + first * blocks * lanes<T>, count * lanes<T>};
            room += rows * blocks * lanes<T>;
            return b;
        };
        r.gates = region(gate_blocks);
        if (lstm) r.cell = region(unit_blocks);
        r.state = lstm && pass.zoneout[1].on ? region(unit_blocks) : r.cell;
        if (gru) r.share = region(unit_blocks);
        if (norm) {
            r.normal_i = region(gate_blocks);
            r.normal_h = region(gate_blocks);
            r.scale_i = room + first;
            r.scale_h = room + rows + first;
        }
        return r;
    }
    Record<T> saved_record(const Pass& pass, const Share& share, Range chunk) const {
        return record(pass, saved_rows(pass), problem.steps * problem.batch,
                      share.first_row + share.start[chunk.begin], share.rows_in(chunk));
    }
    Record<T> scratch_record(const Pass& pass, T* room, const Share& share, Range chunk) const {
        return record(pass, room, share.rows_in(chunk), 0, share.rows_in(chunk));
    }

    // Under recompute: the states before the chunk (in the order of the pass), hidden and cell.
    State<T> snapshot(const Pass& pass, const Share& share, int64_t chunk) const {
        T* at = saved_rows(pass) + snapshot_row(problem) *
                (share.first_batch * ceil_div(problem.steps, plan.chunk_steps) + chunk * share.rows());
        State<T> s;
        s.hidden[0] = {at, share.rows() * lanes<T>};
        s.cell = {s.hidden[0].at(output_blocks), share.rows() * lanes<T>};
        return s;
    }

    // ---- rows in and out -------------------------------------------------------------------------------------------------

    // One row of (B, size); zeros for a null pointer.
    static void gather_state(Blocks<T> to, int64_t row, const void* from, int64_t from_row, int64_t size) {
        if (from) {
            gather_row<T>(to, row, static_cast<const S*>(from) + from_row * size, size);
        } else {
            zero_row(to, row, blocks_of<T>(size));
        }
    }
    // The rows that belong to the share.
    static void gather_state(Blocks<T> to, const void* from, const Share& share, int64_t size) {
        for (int64_t row = 0; row < share.rows(); ++row) gather_state(to, row, from, share.batch[row], size);
    }

    void gather_inputs(Blocks<T> to, const Share& share, Range chunk, const Member& member) const {
        for (int64_t t = chunk.begin; t < chunk.end; ++t) {
            const int64_t first = share.start[t] - share.start[chunk.begin];
            const Range rows = member.part(share.active(t));
            for (int64_t row = rows.begin; row < rows.end; ++row)
                gather_row<T>(to, first + row, row_of(problem.x, t, share.batch[row]), problem.inputs);
        }
    }

    // The share of the old value that one block of a state keeps at step t.
    Vec<T> kept(const Zoneout& z, int64_t t, int64_t row, int64_t block, int64_t size) const {
        if (!z.mask) return broadcast(static_cast<T>(z.share));
        return load_block<T>(static_cast<const S*>(z.mask) + (t * problem.batch + row) * size, block, size);
    }

    Vec<T> dropped(const Pass& pass, int64_t row, int64_t block) const {
        return load_block<T>(static_cast<const S*>(pass.mask) + row * problem.outputs, block, problem.outputs);
    }
};

template <class T>
Blocks<const T> as_const(Blocks<T> b) {
    return {b.data, b.stride};
}

// Runs work(group, member) for `groups` groups of `team` threads. With fewer threads than groups they take turns.
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
