// The backward pass of a layer.
#pragma once

#include "forward.h"

namespace lstmkit::LSTMKIT_ISA {

// Sums over rows, which become weight gradients: one for each shard of the batch, added up at the end.
template <class T>
struct Sums {
    T* data = nullptr;
    int64_t size = 0;  // of one shard

    T* of(int64_t shard) const { return data ? data + shard * size : nullptr; }
};

template <class T, class S>
struct Backward : Layer<T, S> {
    using Base = Layer<T, S>;
    using Base::Base;
    using Base::problem, Base::plan, Base::order, Base::unit_order, Base::output_order, Base::input_blocks,
        Base::unit_blocks, Base::output_blocks, Base::gate_blocks, Base::lstm, Base::gru, Base::split, Base::norm,
        Base::cell;

    static constexpr int L = lanes<T>;

    // Scratch memory of one shard. Fields of a chunk have a row for each of its rows, the others one for each sequence.
    struct Scratch {
        Blocks<T> x{}, before{}, gate_input{}, d_gates{}, d_recurrent{}, dx{}, unprojected{},
            d_projected{};  // of a chunk
        Blocks<T> d_hidden{}, d_cell{}, first_cell{}, d_unprojected{}, direct{}, direct_cell{}, product{};  // of a step
        Blocks<T> tanh_cell{}, d_cell_out{}, normal{};
        typename Forward<T, S>::Scratch recomputed;  // recompute
    };

    // The gradients of one pass that are sums over rows.
    struct Gradients {
        Sums<T> ih, hh, hr, bias_i, bias_h, gain_i, gain_h, gain_c, bias_c, peephole;
    };

    const Forward<T, S> forward{problem, plan};

    void pack(const Pass& pass, Arena& arena, PackedWeights<T>& w) const {
        const auto packed = [&](int64_t depth, int64_t blocks) { return this->take_packed(arena, depth, blocks); };
        const bool wants_dx = pass.dx.data != nullptr;
        if (wants_dx) w.ih_back = packed(gate_blocks * L, input_blocks);
        w.hh_back = packed(gate_blocks * L, output_blocks);
        if (problem.projected) w.hr_back = packed(problem.outputs, unit_blocks);
        const int threads = this->packing_threads();
        run_together(threads, [&](int id) {
            const Member member{id, threads};
            if (wants_dx)
                pack_backward(w.ih_back, this->weight(pass, weight_ih), order, problem.inputs,
                              member.part(w.ih_back.panels()));
            pack_backward(w.hh_back, this->weight(pass, weight_hh), order, problem.outputs,
                          member.part(w.hh_back.panels()));
            if (problem.projected)
                pack_backward(w.hr_back, this->weight(pass, weight_hr), output_order, problem.units,
                              member.part(w.hr_back.panels()));
        });
    }

    Scratch take_scratch(const Pass& pass, const Shard& shard, Arena& arena, int64_t chunk_rows) const {
        Scratch scratch;
        const int64_t rows = shard.rows();
        const auto step = [&](int64_t blocks) { return this->take(arena, blocks, rows); };
        const auto chunk = [&](int64_t blocks) { return this->take(arena, blocks, chunk_rows); };
        scratch.x = chunk(input_blocks);
        scratch.before = chunk(output_blocks);
        scratch.gate_input = pass.mask ? chunk(output_blocks) : scratch.before;
        scratch.d_gates = chunk(gate_blocks);
        scratch.d_recurrent = split ? chunk(gate_blocks) : scratch.d_gates;
        if (pass.dx.data) scratch.dx = chunk(input_blocks);
        scratch.d_hidden = step(output_blocks);
        if (problem.projected) {
            scratch.unprojected = chunk(unit_blocks);
            scratch.d_projected = chunk(output_blocks);
            scratch.d_unprojected = step(unit_blocks);
        }
        if (lstm) {
            scratch.d_cell = step(unit_blocks);
            scratch.first_cell = step(unit_blocks);
        }
        if (pass.zoneout[0].on) scratch.direct = step(output_blocks);
        if (lstm && pass.zoneout[1].on) scratch.direct_cell = step(unit_blocks);
        if (pass.mask) scratch.product = step(output_blocks);
        if (norm && lstm) {
            scratch.tanh_cell = step(unit_blocks);
            scratch.d_cell_out = step(unit_blocks);
            scratch.normal = step(unit_blocks);
        }
        if (problem.recompute) scratch.recomputed = forward.take_scratch(pass, shard, arena, chunk_rows, true);
        return scratch;
    }

    Gradients take_gradients(const Pass& pass, Arena& arena) const {
        Gradients g;
        const auto sums = [&](std::initializer_list<Weight> wanted, int64_t size) {
            Sums<T> s;
            for (Weight weight : wanted)
                if (pass.d_weights[weight] && !s.data) s = {arena.take<T>(size * plan.shards.size()), size};
            return s;
        };
        g.ih = sums({weight_ih}, gate_blocks * L * input_blocks * L);
        g.hh = sums({weight_hh}, gate_blocks * L * output_blocks * L);
        g.hr = sums({weight_hr}, output_blocks * L * unit_blocks * L);
        g.bias_i = split ? sums({bias_ih}, gate_blocks * L) : sums({bias_ih, bias_hh}, gate_blocks * L);
        g.bias_h = split ? sums({bias_hh}, gate_blocks * L) : g.bias_i;
        // Allocated even if nobody wants these gradients, because they are computed in any case.
        const auto always = [&](bool there, int64_t size) {
            return there ? Sums<T>{arena.take<T>(size * plan.shards.size()), size} : Sums<T>{};
        };
        g.gain_i = always(norm, gate_blocks * L);
        g.gain_h = always(norm, gate_blocks * L);
        g.gain_c = always(norm && lstm, unit_blocks * L);
        g.bias_c = always(norm && lstm, unit_blocks * L);
        g.peephole = always(problem.peephole, (order.gates - 1) * unit_blocks * L);
        return g;
    }

    // ---- one shard --------------------------------------------------------------------------------------------------

    void run_shard(const Pass& pass, const PackedWeights<T>& w, const Gradients& g, int64_t number, Scratch& scratch,
                   const Member& member) const {
        const Shard& shard = plan.shards[number];
        for (const Sums<T>& s :
             {g.ih, g.hh, g.hr, g.bias_i, g.bias_h, g.gain_i, g.gain_h, g.gain_c, g.bias_c, g.peephole}) {
            const Range part = member.part(s.size);
            if (s.data) std::fill(s.of(number) + part.begin, s.of(number) + part.end, T(0));
        }
        if (member.rank == 0) {
            this->gather_state(scratch.d_hidden, pass.d_final[0], shard, problem.outputs);
            if (lstm) this->gather_state(scratch.d_cell, pass.d_final[1], shard, problem.units);
            if (lstm) this->gather_state(scratch.first_cell, pass.state[1], shard, problem.units);
        }
        const int64_t count = static_cast<int64_t>(shard.chunks.size());
        for (int64_t i = 0; i < count; ++i)
            run_chunk(pass, w, g, number, pass.reverse ? i : count - 1 - i, scratch, member);
        if (member.rank == 0) finish(pass, shard, scratch);
    }

    void run_chunk(const Pass& pass, const PackedWeights<T>& w, const Gradients& g, int64_t shard_number,
                   int64_t number, Scratch& scratch, const Member& member) const {
        const Shard& shard = plan.shards[shard_number];
        const Range chunk = shard.chunks[number];
        const int64_t rows = shard.rows_in(chunk);
        const Record<T> record = problem.recompute ? this->scratch_record(pass, scratch.recomputed.record, shard, chunk)
                                                   : this->saved_record(pass, shard, chunk);
        if (problem.recompute) {
            if (member.rank == 0) load_snapshot(pass, shard, number, scratch.recomputed);
            forward.run_chunk(pass, w, shard, chunk, scratch.recomputed, record, true, false, member);
        }
        if (g.ih.data) this->gather_inputs(scratch.x, shard, chunk, member);
        gather_before(pass, shard, chunk, scratch, member);
        member.wait();
        this->for_steps(chunk, !pass.reverse,
                        [&](int64_t t) { step(pass, w, g, shard_number, number, t, scratch, record, member); });
        member.wait();

        const Range units = this->unit_range(member.part(this->groups()));
        const Range gates{units.begin * order.gates, units.end * order.gates};
        const Blocks<const T> d_gates = as_const(scratch.d_gates), d_recurrent = as_const(scratch.d_recurrent);
        const auto gradient = [&](const Sums<T>& s, Blocks<T> left, int64_t depth, Blocks<const T> right,
                                  Range blocks) {
            if (!s.data) return;
            const Blocks<T> to{s.of(shard_number), blocks_of<T>(depth) * L * L};
            outer_product<T>(to, as_const(left), depth, right, rows, blocks);
        };
        gradient(g.ih, scratch.x, problem.inputs, d_gates, gates);
        gradient(g.hh, scratch.gate_input, problem.outputs, d_recurrent, gates);
        if (problem.projected)
            gradient(g.hr, scratch.unprojected, problem.units, as_const(scratch.d_projected), {0, output_blocks});
        if (!norm) {  // else done before the backward of the normalization
            add_columns(g.bias_i.of(shard_number), scratch.d_gates, 0, rows, gates);
            if (split) add_columns(g.bias_h.of(shard_number), scratch.d_recurrent, 0, rows, gates);
        }
        if (pass.dx.data) {
            const Range panels = member.part(w.ih_back.panels());
            product<T>(scratch.dx, d_gates, rows, w.ih_back, panels, w.zeros);
            scatter_dx(pass, shard, chunk, scratch,
                       {panels.begin * plan.panel_width, std::min(panels.end * plan.panel_width, input_blocks)});
        }
        member.wait();
    }

    void load_snapshot(const Pass& pass, const Shard& shard, int64_t number,
                       typename Forward<T, S>::Scratch& recomputed) const {
        const State<T> from = this->snapshot(pass, shard, number);
        for (int version = 0; version < 2; ++version) {
            forward.copy(recomputed.state.hidden[version], from.hidden[0], shard.rows(), {0, output_blocks});
            forward.apply_dropout(pass, shard, recomputed.state, version, shard.rows(), {0, output_blocks});
        }
        if (lstm) forward.copy(recomputed.state.cell, from.cell, shard.rows(), {0, unit_blocks});
    }

    // Gathers the hidden state before each step: the output of the step before, or the initial state.
    void gather_before(const Pass& pass, const Shard& shard, Range chunk, Scratch& scratch,
                       const Member& member) const {
        for (int64_t t = chunk.begin; t < chunk.end; ++t) {
            const int64_t first = shard.start[t] - shard.start[chunk.begin], old = this->continued_rows(pass, shard, t);
            const Range rows = member.part(shard.active(t));
            for (int64_t row = rows.begin; row < rows.end; ++row) {
                if (row < old) {
                    gather_row<T>(scratch.before, first + row,
                                  Base::row_of(pass.output, this->previous(pass, t), shard.batch[row]),
                                  problem.outputs);
                } else {
                    this->gather_state(scratch.before, first + row, pass.state[0], shard.batch[row], problem.outputs);
                }
                if (!pass.mask) continue;
                for (int64_t block = 0; block < output_blocks; ++block)
                    store(scratch.gate_input.at(block, first + row),
                          load(scratch.before.at(block, first + row)) *
                              this->dropout_mask(pass, shard.batch[row], block));
            }
        }
    }

    // ---- one step ---------------------------------------------------------------------------------------------------

    void step(const Pass& pass, const PackedWeights<T>& w, const Gradients& g, int64_t shard_number,
              int64_t chunk_number, int64_t t, Scratch& scratch, const Record<T>& record, const Member& member) const {
        const Shard& shard = plan.shards[shard_number];
        const Range chunk = shard.chunks[chunk_number], groups = member.part(this->groups()),
                    units = this->unit_range(groups);
        const Range outputs = problem.projected ? Range{0, output_blocks} : units;
        const int64_t rows = shard.active(t), first = shard.start[t] - shard.start[chunk.begin];
        const Zoneout &zones_hidden = pass.zoneout[0], &zones_cell = pass.zoneout[1];

        if (pass.d_output.data) add_output(pass, shard, t, scratch.d_hidden, rows, outputs);
        if (zones_hidden.on)
            split_zoneout(zones_hidden, shard, t, scratch.d_hidden, scratch.direct, rows, outputs, problem.outputs);
        if (problem.projected) {
            forward.copy(scratch.d_projected.from_row(first), scratch.d_hidden, rows, outputs);
            product<T>(scratch.d_unprojected, as_const(scratch.d_hidden), rows, w.hr_back, {0, w.hr_back.panels()},
                       w.zeros);
        }
        if (lstm && zones_cell.on)
            split_zoneout(zones_cell, shard, t, scratch.d_cell, scratch.direct_cell, rows, units, problem.units);

        StepBackward<T> s;
        s.peephole = w.peephole;
        s.d_peephole = g.peephole.of(shard_number);
        s.padded_units = unit_blocks * L;
        s.units = problem.units;
        s.rows = rows;
        s.gates = as_const(record.gates.from_row(first));
        s.cell = as_const(record.cell.from_row(first));
        if (gru) s.candidate = as_const(record.candidate.from_row(first));
        s.before = as_const(scratch.before.from_row(first));
        s.tanh_cell = as_const(scratch.tanh_cell);
        s.d_cell_out = as_const(scratch.d_cell_out);
        s.d_hidden = problem.projected ? scratch.d_unprojected : scratch.d_hidden;
        s.d_cell = scratch.d_cell;
        s.d_gates = scratch.d_gates.from_row(first);
        s.d_recurrent = scratch.d_recurrent.from_row(first);
        if (norm && lstm) cell_output_backward(w, s, scratch, g.gain_c.of(shard_number), g.bias_c.of(shard_number));
        if (lstm) {
            lstm_backward(s, pass, shard, chunk_number, t, record, scratch, units);
        } else {
            cell.backward(s, units);
        }
        if (problem.projected) show(s, scratch, first);
        if (lstm && zones_cell.on) add(scratch.d_cell, scratch.direct_cell, rows, units);
        if (norm) {
            add_columns(g.bias_i.of(shard_number), scratch.d_gates, first, rows, {0, gate_blocks});
            add_columns(g.bias_h.of(shard_number), scratch.d_recurrent, first, rows, {0, gate_blocks});
            in_tiles({first, first + rows}, [&](int64_t row, auto count) {
                constexpr int R = decltype(count)::value;
                normalize_rows_backward<T, R>(scratch.d_gates, as_const(record.normal_i), row, record.rstd_i + row,
                                              w.gain_i, g.gain_i.of(shard_number), order);
                normalize_rows_backward<T, R>(scratch.d_recurrent, as_const(record.normal_h), row, record.rstd_h + row,
                                              w.gain_h, g.gain_h.of(shard_number), order);
            });
        }
        member.wait();
        hidden_before(pass, w, shard, s, scratch, rows, problem.projected ? Range{0, w.hh_back.panels()} : groups,
                      outputs);
    }

    // The gradient of the hidden state before the step: its direct part, and the part through the gates.
    void hidden_before(const Pass& pass, const PackedWeights<T>& w, const Shard& shard, const StepBackward<T>& s,
                       Scratch& scratch, int64_t rows, Range panels, Range outputs) const {
        const bool zones = pass.zoneout[0].on;
        if (zones && gru) add(scratch.d_hidden, scratch.direct, rows, outputs);
        if (zones && !gru) forward.copy(scratch.d_hidden, scratch.direct, rows, outputs);
        const bool direct = zones || gru;
        if (!pass.mask) {
            product<T>(scratch.d_hidden, as_const(s.d_recurrent), rows, w.hh_back, panels, direct ? nullptr : w.zeros);
            return;
        }
        product<T>(scratch.product, as_const(s.d_recurrent), rows, w.hh_back, panels, w.zeros);
        for (int64_t block = outputs.begin; block < outputs.end; ++block) {
            for (int64_t row = 0; row < rows; ++row) {
                const Vec<T> through =
                    load(scratch.product.at(block, row)) * this->dropout_mask(pass, shard.batch[row], block);
                store(scratch.d_hidden.at(block, row),
                      direct ? load(scratch.d_hidden.at(block, row)) + through : through);
            }
        }
    }

    // The cell state before the step: from the record for continued rows, the initial state for the others.
    void lstm_backward(StepBackward<T> s, const Pass& pass, const Shard& shard, int64_t number, int64_t t,
                       const Record<T>& record, const Scratch& scratch, Range units) const {
        const Range chunk = shard.chunks[number];
        const int64_t before = this->previous(pass, t), rows = s.rows;
        int64_t old = this->continued_rows(pass, shard, t);
        if (before >= chunk.begin && before < chunk.end) {
            s.cell_before = as_const(record.state.from_row(shard.start[before] - shard.start[chunk.begin]));
        } else if (problem.recompute) {
            s.cell_before = as_const(this->snapshot(pass, shard, number).cell);
            old = rows;  // the snapshot holds the initial state of rows that begin here
        } else if (old) {
            const Range other = shard.chunks[pass.reverse ? number + 1 : number - 1];
            s.cell_before = as_const(
                this->saved_record(pass, shard, other).state.from_row(shard.start[before] - shard.start[other.begin]));
        }
        s.rows = old;
        cell.backward(s, units);
        if (old == rows) return;
        s.rows = rows - old;
        const auto later = [&](auto&... blocks) { ((blocks = blocks.from_row(old)), ...); };
        s.cell_before = as_const(scratch.first_cell);
        later(s.gates, s.cell, s.cell_before, s.d_hidden, s.d_cell, s.d_gates, s.d_recurrent);
        if (norm) later(s.tanh_cell, s.d_cell_out);
        cell.backward(s, units);
    }

    // h = o tanh(norm(c)): the gradient of c through it, and tanh(norm(c)) itself.
    void cell_output_backward(const PackedWeights<T>& w, const StepBackward<T>& s, Scratch& scratch, T* d_gain,
                              T* d_bias) const {
        const int64_t output_gate = order.gates - 1;
        in_tiles({0, s.rows}, [&](int64_t row, auto count) {
            constexpr int R = decltype(count)::value;
            T scale[R];
            for (int64_t u = 0; u < unit_blocks; ++u)
                for (int r = 0; r < R; ++r) store(scratch.normal.at(u, row + r), load(s.cell.at(u, row + r)));
            normalize_rows<T, R>(scratch.normal, row, unit_order, scale);
            for (int64_t u = 0; u < unit_blocks; ++u) {
                const Vec<T> gain = load(w.gain_c + u * L), bias = load(w.bias_c + u * L);
                Vec<T> bias_gradient = load(d_bias + u * L);
                for (int r = 0; r < R; ++r) {
                    const Vec<T> tanh_c = tanh<T>(load(scratch.normal.at(u, row + r)) * gain + bias);
                    const Vec<T> out = load(s.gates.at(u * order.gates + output_gate, row + r));
                    const Vec<T> d = load(s.d_hidden.at(u, row + r)) * out * (T(1) - tanh_c * tanh_c);
                    store(scratch.tanh_cell.at(u, row + r), tanh_c);
                    store(scratch.d_cell_out.at(u, row + r), d);
                    bias_gradient += d;
                }
                store(d_bias + u * L, bias_gradient);
            }
            normalize_rows_backward<T, R>(scratch.d_cell_out, as_const(scratch.normal), row, scale, w.gain_c, d_gain,
                                          unit_order);
        });
    }

    // The operand of the projection, for its gradient.
    void show(const StepBackward<T>& s, Scratch& scratch, int64_t first) const {
        for (int64_t u = 0; u < unit_blocks; ++u) {
            for (int64_t row = 0; row < s.rows; ++row) {
                const Vec<T> tanh_c = norm ? load(s.tanh_cell.at(u, row)) : tanh<T>(load(s.cell.at(u, row)));
                store(scratch.unprojected.at(u, first + row),
                      load(s.gates.at((u + 1) * order.gates - 1, row)) * tanh_c);
            }
        }
    }

    // ---- helpers -----------------------------------------------------------------------------------------------

    void add_output(const Pass& pass, const Shard& shard, int64_t t, Blocks<T> to, int64_t rows, Range blocks) const {
        for (int64_t row = 0; row < rows; ++row) {
            const S* from = Base::row_of(pass.d_output, t, shard.batch[row]);
            for (int64_t block = blocks.begin; block < blocks.end; ++block)
                store(to.at(block, row), load(to.at(block, row)) + load_block<T>(from, block, problem.outputs));
        }
    }

    // Zoneout: splits a gradient into the part of the old value and the part of the new value.
    void split_zoneout(const Zoneout& z, const Shard& shard, int64_t t, Blocks<T> d, Blocks<T> direct, int64_t rows,
                       Range blocks, int64_t size) const {
        for (int64_t block = blocks.begin; block < blocks.end; ++block) {
            for (int64_t row = 0; row < rows; ++row) {
                const Vec<T> kept = this->zoneout_weight(z, t, shard.batch[row], block, size),
                             all = load(d.at(block, row));
                store(direct.at(block, row), kept * all);
                store(d.at(block, row), all - kept * all);
            }
        }
    }

    static void add(Blocks<T> to, Blocks<T> from, int64_t rows, Range blocks) {
        for (int64_t block = blocks.begin; block < blocks.end; ++block)
            for (int64_t row = 0; row < rows; ++row)
                store(to.at(block, row), load(to.at(block, row)) + load(from.at(block, row)));
    }

    static void add_columns(T* to, Blocks<T> from, int64_t first, int64_t rows, Range blocks) {
        if (!to) return;
        for (int64_t block = blocks.begin; block < blocks.end; ++block) {
            Vec<T> sum{};
            for (int64_t row = first; row < first + rows; ++row) sum += load(from.at(block, row));
            store(to + block * L, load(to + block * L) + sum);
        }
    }

    void scatter_dx(const Pass& pass, const Shard& shard, Range chunk, Scratch& scratch, Range blocks) const {
        for (int64_t t = chunk.begin; t < chunk.end; ++t) {
            const int64_t first = shard.start[t] - shard.start[chunk.begin];
            for (int64_t row = 0; row < shard.active(t); ++row) {
                S* to = Base::row_of(pass.dx, t, shard.batch[row]);
                for (int64_t block = blocks.begin; block < blocks.end; ++block)
                    store_block<T>(to, block, problem.inputs, load(scratch.dx.at(block, first + row)));
            }
        }
    }

    // Gradients of the initial states, and zeros for the input past the end of each sequence.
    void finish(const Pass& pass, const Shard& shard, const Scratch& scratch) const {
        const auto scatter = [&](void* to, Blocks<T> from, int64_t row, int64_t size) {
            if (to) scatter_row<T>(static_cast<S*>(to) + shard.batch[row] * size, as_const(from), row, size);
        };
        for (int64_t row = 0; row < shard.rows(); ++row) {
            scatter(pass.d_state[0], scratch.d_hidden, row, problem.outputs);
            scatter(pass.d_state[1], scratch.d_cell, row, problem.units);
            if (!pass.dx.data) continue;
            for (int64_t t = shard.length[row]; t < problem.steps; ++t)
                std::memset(Base::row_of(pass.dx, t, shard.batch[row]), 0, problem.inputs * sizeof(S));
        }
    }

    // ---- the whole call ---------------------------------------------------------------------------------------------

    void unpack(const Pass& pass, const Gradients& g, const Member& member) const {
        const int64_t shards = static_cast<int64_t>(plan.shards.size());
        const auto matrix = [&](Weight which, const Sums<T>& s, GateOrder order, int64_t depth) {
            if (pass.d_weights[which])
                unpack_gradient(static_cast<S*>(pass.d_weights[which]), s.data, s.size, shards, order, depth,
                                member.part(order.blocks<T>()));
        };
        matrix(weight_ih, g.ih, order, problem.inputs);
        matrix(weight_hh, g.hh, order, problem.outputs);
        matrix(weight_hr, g.hr, output_order, problem.units);
        if (member.rank) return;
        const auto vector = [&](Weight which, const Sums<T>& s, GateOrder order, int64_t from = 0, int64_t to = 0) {
            if (pass.d_weights[which])
                unpack_vector(static_cast<S*>(pass.d_weights[which]) + to, s.data + from, s.size, shards, order);
        };
        vector(bias_ih, g.bias_i, order);
        vector(bias_hh, g.bias_h, order);
        vector(weight_ln_ih, g.gain_i, order);
        vector(weight_ln_hh, g.gain_h, order);
        vector(weight_ln_c, g.gain_c, unit_order);
        vector(bias_ln_c, g.bias_c, unit_order);
        for (int gate = 0; problem.peephole && gate < order.gates - 1; ++gate)
            vector(weight_peep, g.peephole, unit_order, gate * unit_blocks * L, gate * problem.units);
    }

    static void run(const Problem& p) {
        Arena& arena = Arena::fresh();
        const Plan plan = make_plan<T>(p, static_cast<int64_t>(*static_cast<const T*>(p.pass[0].saved)));
        const Backward layer(p, plan);
        const int shards = static_cast<int>(plan.shards.size());
        std::vector<PackedWeights<T>> weights(p.passes);
        std::vector<Gradients> gradients;
        std::vector<Scratch> scratches;
        for (int i = 0; i < p.passes; ++i) {
            if (p.recompute) {
                weights[i] = Forward<T, S>::pack(layer, p.pass[i], arena);
            } else {
                Forward<T, S>::pack_vectors(layer, p.pass[i], arena, weights[i]);
                weights[i].zeros = arena.take_zeros<T>(layer.max_blocks() * L);
            }
            layer.pack(p.pass[i], arena, weights[i]);
            gradients.push_back(layer.take_gradients(p.pass[i], arena));
            for (const Shard& shard : plan.shards)
                scratches.push_back(layer.take_scratch(p.pass[i], shard, arena, plan.largest_chunk()));
        }
        run_groups(p.passes * shards, plan.team, p.threads, [&](int group, const Member& member) {
            const int i = group / shards;
            layer.run_shard(p.pass[i], weights[i], gradients[i], group % shards, scratches[group], member);
        });
        const int threads = layer.packing_threads();
        run_together(threads, [&](int id) {
            for (int i = 0; i < p.passes; ++i) layer.unpack(p.pass[i], gradients[i], {id, threads});
        });
    }
};

}  // namespace lstmkit::LSTMKIT_ISA
