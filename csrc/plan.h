// Who computes what, and in which order: shares of the batch, chunks of the time, teams of threads.
//
// A share is a set of rows (sequences) that runs through all its steps without waiting for any other. Its rows are
// sorted, the longest first, so that the rows still running at a step are always the first ones, and only those are
// computed: padding costs nothing. The rows of all steps lie one step after the other, in chunks of steps small enough
// for the cache; a chunk's rows go through the large products together.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "problem.h"
#include "product.h"

namespace lstmkit::LSTMKIT_ISA {

struct Share {
    std::vector<int64_t> batch;   // the caller's number of each row
    std::vector<int64_t> length;  // of each row, falling
    std::vector<int64_t> start;   // rows of all steps before this one; one entry more than steps
    std::vector<Range> chunks;    // of steps
    int64_t first_row = 0;        // rows of all steps in the shares before this one
    int64_t first_batch = 0;      // sequences in the shares before this one

    int64_t rows() const { return static_cast<int64_t>(batch.size()); }
    int64_t steps() const { return static_cast<int64_t>(start.size()) - 1; }
    int64_t active(int64_t step) const { return start[step + 1] - start[step]; }
    int64_t rows_in(Range chunk) const { return start[chunk.end] - start[chunk.begin]; }
};

struct Plan {
    std::vector<Share> shares;
    int team = 1;  // threads to a share
    int panel_width = 1;
    int64_t chunk_steps = 0;  // recompute only

    int64_t largest_chunk() const {
        int64_t rows = 0;
        for (const Share& share : shares)
            for (Range chunk : share.chunks) rows = std::max(rows, share.rows_in(chunk));
        return rows;
    }
    int64_t most_rows() const {
        int64_t rows = 0;
        for (const Share& share : shares) rows = std::max(rows, share.rows());
        return rows;
    }
};

// Steps whose state is kept under recompute: the square root of their number balances what is kept and what is redone.
inline int64_t recompute_steps(const Problem& p) {
    return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(p.steps)))));
}

struct Split {
    int shares, team;
};

// How many threads work on a pass, and whether they share its sequences or its units.
//
// Sharing the sequences needs no waiting for each other. With only a few of them a thread's units would be idle most of
// the time, and all weights would be read at every step for little work: then the threads share the units. So they do in
// a single step, in which packing the weights takes longest.
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

// With `shares` the batch is cut into so many, else into as many as suit.
template <class T>
Plan make_plan(const Problem& p, int64_t shares = 0) {
    Plan plan;
    const Split split = split_threads<T>(p);
    if (!shares) shares = split.shares;
    plan.team = shares == split.shares ? split.team : 1;
    plan.shares.resize(shares);
    plan.panel_width = panel_width(ceil_div(p.batch, shares));
    std::vector<int64_t> order(p.batch);
    std::iota(order.begin(), order.end(), 0);
    if (p.lengths) {
        std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return p.lengths[a] > p.lengths[b]; });
    }
    // Sorted rows are dealt like cards, so that every share gets as many steps; equal ones are cut in pieces.
    for (int64_t i = 0; i < p.batch; ++i) {
        const int64_t share = p.lengths ? i % shares : i * shares / p.batch;
        plan.shares[share].batch.push_back(order[i]);
        plan.shares[share].length.push_back(p.lengths ? p.lengths[order[i]] : p.steps);
    }
    const int64_t row_bytes = static_cast<int64_t>(sizeof(T)) * lanes<T> * blocks_of<T>(p.units) * p.gates();
    const int64_t wanted = std::clamp<int64_t>(192 * 1024 / row_bytes, 96, 1024);
    plan.chunk_steps = recompute_steps(p);
    int64_t row = 0, sequences = 0;
    for (Share& share : plan.shares) {
        const int64_t steps = share.rows() ? share.length.front() : 0;
        share.start.assign(steps + 1, 0);
        for (int64_t t = 0, active = share.rows(); t < steps; ++t) {
            while (share.length[active - 1] <= t) --active;
            share.start[t + 1] = share.start[t] + active;
        }
        for (int64_t t = 0; t < steps;) {
            int64_t end = t + 1;
            const auto goes_on = [&] {
                return p.recompute ? end % plan.chunk_steps != 0 : share.start[end + 1] - share.start[t] <= wanted;
            };
            while (end < steps && goes_on()) ++end;
            share.chunks.push_back({t, end});
            t = end;
        }
        share.first_row = row;
        share.first_batch = sequences;
        row += share.start[steps];
        sequences += share.rows();
    }
    return plan;
}

}  // namespace lstmkit::LSTMKIT_ISA
