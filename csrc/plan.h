// The division of work: shards of the batch, chunks of steps, teams of threads.
//
// A shard is a set of rows (sequences) that runs through all its steps independently of the others. Its rows are sorted
// by length, the longest first, so that the active rows of a step are always the first ones and only those are
// computed: padding costs nothing. The rows of all steps are stored step by step, in chunks of steps that fit in the
// cache; the rows of a chunk go through the large products together.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "problem.h"
#include "product.h"

namespace lstmkit::LSTMKIT_ISA {

struct Shard {
    std::vector<int64_t> batch;   // index of each row in the batch
    std::vector<int64_t> length;  // of each row, descending
    std::vector<int64_t> start;   // number of rows in all steps before this one; steps + 1 entries
    std::vector<Range> chunks;    // ranges of steps
    int64_t first_row = 0;        // number of rows in the shards before this one
    int64_t first_batch = 0;      // number of sequences in the shards before this one

    int64_t rows() const { return static_cast<int64_t>(batch.size()); }
    int64_t steps() const { return static_cast<int64_t>(start.size()) - 1; }
    int64_t active(int64_t step) const { return start[step + 1] - start[step]; }
    int64_t rows_in(Range chunk) const { return start[chunk.end] - start[chunk.begin]; }
};

struct Plan {
    std::vector<Shard> shards;
    int team = 1;  // threads per shard
    int panel_width = 1;
    int64_t chunk_steps = 0;  // only with recompute

    int64_t largest_chunk() const {
        int64_t rows = 0;
        for (const Shard& shard : shards)
            for (Range chunk : shard.chunks) rows = std::max(rows, shard.rows_in(chunk));
        return rows;
    }
    int64_t max_rows() const {
        int64_t rows = 0;
        for (const Shard& shard : shards) rows = std::max(rows, shard.rows());
        return rows;
    }
};

// Steps per segment with recompute: the square root of the number of steps balances saved memory and recomputation.
inline int64_t recompute_steps(const Problem& p) {
    return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(p.steps)))));
}

struct Split {
    int shards, team;
};

// The number of threads for a pass, and whether they split its sequences or its units.
//
// Threads that split the sequences never wait for each other. With few sequences the execution units would be
// idle most of the time, and every thread would read all weights at every step for little work; then the threads
// split the units. They also do so in a single step, where packing the weights takes longest.
template <class T>
Split split_threads(const Problem& p) {
    const int64_t threads = std::max(1, p.threads / p.passes);
    const double weights = static_cast<double>(p.gates()) * p.units * p.outputs;
    const double step = 2.0 * weights * p.batch;  // operations of the recurrent product
    const double all = (step + 2.0 * p.gates() * p.units * p.inputs * p.batch) * p.steps;
    if (threads == 1 || all < 4e5) return {1, 1};
    const bool units_can_be_shared = !p.layer_norm && !p.projected;
    const int64_t groups = ceil_div(blocks_of<T>(p.units), panel_width(p.batch));
    const int team = static_cast<int>(std::min(threads, groups));
    const bool few = p.batch < 4 * threads, enough = step / threads > 5e4;
    if (units_can_be_shared && team > 1 && (few || p.steps == 1) && enough) return {1, team};
    return {static_cast<int>(std::min(threads, std::max<int64_t>(1, p.batch))), 1};
}

// The plan with `shards` shards; 0 chooses their number.
template <class T>
Plan make_plan(const Problem& p, int64_t shards = 0) {
    Plan plan;
    const Split split = split_threads<T>(p);
    if (!shards) shards = split.shards;
    plan.team = shards == split.shards ? split.team : 1;
    plan.shards.resize(shards);
    plan.panel_width = panel_width(ceil_div(p.batch, shards));
    std::vector<int64_t> order(p.batch);
    std::iota(order.begin(), order.end(), 0);
    if (p.lengths) {
        std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return p.lengths[a] > p.lengths[b]; });
    }
    // Sorted rows are dealt in turns, so that all shards get similar numbers of steps; rows of equal length in blocks.
    for (int64_t i = 0; i < p.batch; ++i) {
        const int64_t shard = p.lengths ? i % shards : i * shards / p.batch;
        plan.shards[shard].batch.push_back(order[i]);
        plan.shards[shard].length.push_back(p.lengths ? p.lengths[order[i]] : p.steps);
    }
    const int64_t row_bytes = static_cast<int64_t>(sizeof(T)) * lanes<T> * blocks_of<T>(p.units) * p.gates();
    const int64_t wanted = std::clamp<int64_t>(192 * 1024 / row_bytes, 96, 1024);
    plan.chunk_steps = recompute_steps(p);
    int64_t row = 0, sequences = 0;
    for (Shard& shard : plan.shards) {
        const int64_t steps = shard.rows() ? shard.length.front() : 0;
        shard.start.assign(steps + 1, 0);
        for (int64_t t = 0, active = shard.rows(); t < steps; ++t) {
            while (shard.length[active - 1] <= t) --active;
            shard.start[t + 1] = shard.start[t] + active;
        }
        for (int64_t t = 0; t < steps;) {
            int64_t end = t + 1;
            const auto goes_on = [&] {
                return p.recompute ? end % plan.chunk_steps != 0 : shard.start[end + 1] - shard.start[t] <= wanted;
            };
            while (end < steps && goes_on()) ++end;
            shard.chunks.push_back({t, end});
            t = end;
        }
        shard.first_row = row;
        shard.first_batch = sequences;
        row += shard.start[steps];
        sequences += shard.rows();
    }
    return plan;
}

}  // namespace lstmkit::LSTMKIT_ISA
