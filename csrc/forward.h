// The forward pass of a layer.
#pragma once

#include "int8.h"
#include "layer.h"

namespace lstmkit::LSTMKIT_ISA {

// W is the type in which matrices are stored: S, or int8_t.
template <class T, class S, class W = S>
struct Forward : Layer<T, S> {
    static constexpr bool int8 = std::is_same_v<W, int8_t>;
    using Base = Layer<T, S>;
    using Base::Base;
    using Base::problem, Base::plan, Base::order, Base::unit_order, Base::input_blocks, Base::unit_blocks,
        Base::output_blocks, Base::gate_blocks, Base::lstm, Base::gru, Base::split, Base::norm, Base::cell;

    // Scratch memory of one shard.
    struct Scratch {
        Blocks<T> x{}, recurrent{}, unprojected{}, old_cell{};
        State<T> state;
        QuantizedRows x8, gate_input8, unprojected8;  // of matrices in 8 bits: their left operands
        T* record = nullptr;                          // for a chunk, if nothing is saved
        T* panels = nullptr;                          // one panel per member, if weights are used only once
    };

    static const W* matrix(const Pass& pass, Weight which) { return static_cast<const W*>(pass.weights[which]); }

    // Weights that are used only `once` are packed panel by panel just before their use, which saves a trip to memory.
    static PackedWeights<T> pack(const Base& layer, const Pass& pass, Arena& arena, bool once = false) {
        const Problem& p = layer.problem;
        PackedWeights<T> w;
        const auto packed = [&](int64_t columns, int64_t blocks) {
            return layer.take_packed(arena, int8 ? lanes_of_bytes(columns) : columns, blocks);
        };
        const auto gates = [&](int64_t columns) {
            return once ? Packed<T>{nullptr, columns, layer.gate_blocks, layer.plan.panel_width}
                        : packed(columns, layer.gate_blocks);
        };
        w.ih = gates(p.inputs);
        w.hh = gates(p.outputs);
        if (p.projected) w.hr = packed(p.units, layer.output_blocks);
        const int threads = once && !p.projected ? 1 : layer.packing_threads();
        run_together(threads, [&](int id) {
            const Member member{id, threads};
            const Range blocks = once ? Range{0, 0} : member.part(layer.gate_blocks);
            pack_forward(w.ih, matrix(pass, weight_ih), layer.order, p.inputs, blocks);
            pack_forward(w.hh, matrix(pass, weight_hh), layer.order, p.outputs, blocks);
            if (p.projected)
                pack_forward(w.hr, matrix(pass, weight_hr), layer.output_order, p.units,
                             member.part(layer.output_blocks));
        });
        if constexpr (int8) {
            const auto scale = [&](Packed<T>& matrix, Weight which, GateOrder order) {
                T* scales = arena.take<T>(matrix.blocks * lanes<T>);
                pack_vector(scales, layer.weight(pass, which), order);
                int32_t* offsets = arena.take<int32_t>(matrix.blocks * lanes<T>);
                sum_columns(offsets, matrix, {0, matrix.blocks});
                matrix.scale = scales;
                matrix.offset = offsets;
            };
            scale(w.ih, scale_ih, layer.order);
            scale(w.hh, scale_hh, layer.order);
            if (p.projected) scale(w.hr, scale_hr, layer.output_order);
        }
        w.zeros = arena.take_zeros<T>(layer.max_blocks() * lanes<T>);
        pack_vectors(layer, pass, arena, w);
        return w;
    }

    static void pack_vectors(const Base& layer, const Pass& pass, Arena& arena, PackedWeights<T>& w) {
        const Problem& p = layer.problem;
        const auto vector = [&](Weight which, GateOrder order, T otherwise) {
            T* to = arena.take<T>(order.blocks<T>() * lanes<T>);
            pack_vector(to, layer.weight(pass, which), order, otherwise);
            return to;
        };
        T* bias_i = vector(bias_ih, layer.order, 0);
        T* bias_h = vector(bias_hh, layer.order, 0);
        if (!layer.split) {
            for (int64_t i = 0; i < layer.gate_blocks * lanes<T>; ++i) bias_i[i] += bias_h[i];
        }
        w.bias_i = bias_i;
        w.bias_h = bias_h;
        if (p.peephole) {
            T* to = arena.take<T>((p.gates() - 1) * layer.unit_blocks * lanes<T>);
            w.peephole = to;
            for (int gate = 0; gate < p.gates() - 1; ++gate)
                pack_vector(to + gate * layer.unit_blocks * lanes<T>, layer.weight(pass, weight_peep) + gate * p.units,
                            layer.unit_order);
        }
        if (p.layer_norm) {
            w.gain_i = vector(weight_ln_ih, layer.order, 1);
            w.gain_h = vector(weight_ln_hh, layer.order, 1);
            if (layer.lstm) {
                w.gain_c = vector(weight_ln_c, layer.unit_order, 1);
                w.bias_c = vector(bias_ln_c, layer.unit_order, 0);
            }
        }
    }

    Scratch take_scratch(const Pass& pass, const Shard& shard, Arena& arena, int64_t chunk_rows,
                         bool needs_record) const {
        Scratch scratch;
        const int64_t rows = shard.rows();
        scratch.x = this->take(arena, input_blocks, chunk_rows);
        if (split) scratch.recurrent = this->take(arena, gate_blocks, rows);
        if (problem.projected || (norm && lstm)) scratch.unprojected = this->take(arena, 2 * unit_blocks, rows);
        if (lstm && pass.zoneout[1].on) scratch.old_cell = this->take(arena, unit_blocks, rows);
        for (int v = 0; v < 2; ++v) {
            scratch.state.hidden[v] = this->take(arena, output_blocks, rows);
            scratch.state.gate_input[v] = pass.mask ? this->take(arena, output_blocks, rows) : scratch.state.hidden[v];
        }
        if (lstm) scratch.state.cell = this->take(arena, unit_blocks, rows);
        if constexpr (int8) {
            scratch.x8 = take_quantized(arena, input_blocks, chunk_rows);
            scratch.gate_input8 = take_quantized(arena, output_blocks, rows);
            if (problem.projected) scratch.unprojected8 = take_quantized(arena, unit_blocks, rows);
        }
        if (needs_record) scratch.record = arena.take<T>(chunk_rows * Base::record_row(problem, pass.zoneout[1].on));
        return scratch;
    }

    QuantizedRows take_quantized(Arena& arena, int64_t blocks, int64_t rows) const {
        return {this->take(arena, ceil_div(blocks, bytes_per_lane), rows), arena.take<T>(rows)};
    }

    // The left operand of a product: the rows themselves, or in 8 bits, which all members of the team write together.
    auto operand(const QuantizedRows& to, Blocks<const T> rows, int64_t count, int64_t blocks,
                 const Member& member) const {
        if constexpr (int8) {
            const Range part = member.part(count);
            for (int64_t row = part.begin; row < part.end; ++row) quantize_row(to, rows, row, blocks);
            member.wait();
            return to;
        } else {
            return rows;
        }
    }

    void multiply(Blocks<T> c, const QuantizedRows& a, int64_t rows, const Packed<T>& w, const W*, Range panels,
                  const T* bias, T*) const {
        int8_product(c, a, rows, w, panels, bias, problem.vnni);
    }

    int64_t panel_size() const { return Packed<T>::size(std::max(problem.inputs, problem.outputs), plan.panel_width); }

    // Some panels of the projection of `a`; weights that are used only once are packed here, from `weights`.
    void multiply(Blocks<T> c, Blocks<const T> a, int64_t rows, const Packed<T>& w, const W* weights, Range panels,
                  const T* bias, T* scratch) const {
        if (w.data) return product<T>(c, a, rows, w, panels, bias);
        for (int64_t p = panels.begin; p < panels.end; ++p) {
            const int64_t block = p * w.panel_width;
            Packed<T> panel = w;
            panel.data = scratch - Packed<T>::size(w.depth, block);  // so that panel p starts at `scratch`
            pack_forward(panel, weights, order, w.depth, Range{block, block + w.width(p)});
            product<T>(c, a, rows, panel, Range{p, p + 1}, bias);
        }
    }

    // Applies recurrent dropout: writes what the gates read of the hidden state.
    void apply_dropout(const Pass& pass, const Shard& shard, State<T>& state, int version, int64_t rows,
                       Range blocks) const {
        if (!pass.mask) return;
        for (int64_t block = blocks.begin; block < blocks.end; ++block)
            for (int64_t row = 0; row < rows; ++row)
                store(state.gate_input[version].at(block, row),
                      load(state.hidden[version].at(block, row)) * this->dropout_mask(pass, shard.batch[row], block));
    }

    void start(const Pass& pass, const Shard& shard, Scratch& scratch) const {
        for (int version = 0; version < 2; ++version) {
            this->gather_state(scratch.state.hidden[version], pass.state[0], shard, problem.outputs);
            apply_dropout(pass, shard, scratch.state, version, shard.rows(), {0, output_blocks});
        }
        if (lstm) this->gather_state(scratch.state.cell, pass.state[1], shard, problem.units);
    }

    // One chunk of steps. `writes_output`: whether to write the outputs, which a recomputed chunk already has.
    void run_chunk(const Pass& pass, const PackedWeights<T>& w, const Shard& shard, Range chunk, Scratch& scratch,
                   const Record<T>& record, bool keeps, bool writes_output, const Member& member) const {
        const int64_t rows = shard.rows_in(chunk);
        this->gather_inputs(scratch.x, shard, chunk, member);
        member.wait();
        const Range groups = member.part(this->groups());
        const Range panels = this->gate_panels(groups);
        T* panel_memory = scratch.panels ? scratch.panels + member.rank * panel_size() : nullptr;
        const auto x = operand(scratch.x8, as_const(scratch.x), rows, input_blocks, member);
        multiply(record.gates, x, rows, w.ih, matrix(pass, weight_ih), panels, norm ? w.zeros : w.bias_i, panel_memory);
        if (norm) {
            normalize(record.gates, {0, rows}, keeps ? record.normal_i : Blocks<T>{}, keeps ? record.rstd_i : nullptr,
                      0, w.gain_i, w.bias_i);
        }
        this->for_steps(chunk, pass.reverse, [&](int64_t t) {
            step(pass, w, shard, t, shard.start[t] - shard.start[chunk.begin], scratch, record, keeps, writes_output,
                 groups, panel_memory, member);
            member.wait();
        });
    }

    void step(const Pass& pass, const PackedWeights<T>& w, const Shard& shard, int64_t t, int64_t first,
              Scratch& scratch, const Record<T>& record, bool keeps, bool writes_output, Range groups, T* panel_memory,
              const Member& member) const {
        const int64_t rows = shard.active(t);
        const int turn = this->turn(pass, shard, t);
        State<T>& state = scratch.state;
        const Range units = this->unit_range(groups);
        const bool zones_cell = lstm && pass.zoneout[1].on;
        if (zones_cell) copy(scratch.old_cell, state.cell, rows, units);

        StepForward<T> s;
        s.rows = rows;
        s.peephole = w.peephole;
        s.padded_units = unit_blocks * lanes<T>;
        s.gates = record.gates.from_row(first);
        s.recurrent = as_const(scratch.recurrent);
        s.cell = state.cell;
        if (keeps && lstm) s.saved_cell = record.cell.from_row(first);
        if (keeps && gru) s.saved_candidate = record.candidate.from_row(first);
        s.before = as_const(state.hidden[turn]);
        s.hidden = problem.projected ? scratch.unprojected : state.hidden[1 - turn];

        const W* weights = matrix(pass, weight_hh);
        const auto before = operand(scratch.gate_input8, as_const(state.gate_input[turn]), rows, output_blocks, member);
        const Blocks<T> sums = split ? scratch.recurrent : s.gates;
        const T* bias = !split ? nullptr : norm ? w.zeros : w.bias_h;
        if (norm) {
            multiply(sums, before, rows, w.hh, weights, this->gate_panels(groups), bias, panel_memory);
            normalize(sums, {0, rows}, keeps ? record.normal_h : Blocks<T>{}, keeps ? record.rstd_h : nullptr, first,
                      w.gain_h, w.bias_h);
            cell.forward(s, units);
            if (lstm) cell_output(w, s, scratch);
        } else {
            // The gates of a group are still in the cache when its units are computed.
            for (int64_t group = groups.begin; group < groups.end; ++group) {
                multiply(sums, before, rows, w.hh, weights, this->gate_panels({group, group + 1}), bias, panel_memory);
                cell.forward(s, this->unit_range({group, group + 1}));
            }
        }
        if (problem.projected) {
            const auto unprojected = operand(scratch.unprojected8, as_const(s.hidden), rows, unit_blocks, member);
            multiply(state.hidden[1 - turn], unprojected, rows, w.hr, nullptr, {0, w.hr.panels()}, w.zeros, nullptr);
        }

        const Range outputs = problem.projected ? Range{0, output_blocks} : units;
        if (zones_cell) {
            zone_out(pass.zoneout[1], shard, t, state.cell, scratch.old_cell, rows, units, problem.units);
            if (keeps) copy(record.state.from_row(first), state.cell, rows, units);
        }
        if (pass.zoneout[0].on)
            zone_out(pass.zoneout[0], shard, t, state.hidden[1 - turn], state.hidden[turn], rows, outputs,
                     problem.outputs);
        if (writes_output) {
            for (int64_t row = 0; row < rows; ++row) {
                S* to = Base::row_of(pass.output, t, shard.batch[row]);
                for (int64_t block = outputs.begin; block < outputs.end; ++block)
                    store_block<T>(to, block, problem.outputs, load(state.hidden[1 - turn].at(block, row)));
            }
        }
        apply_dropout(pass, shard, state, 1 - turn, rows, outputs);
    }

    // Normalizes some rows of a projection; `keep` gets them before gain and bias, from row `kept_first` on.
    void normalize(Blocks<T> projections, Range rows, Blocks<T> keep, T* rstds, int64_t kept_first, const T* gain,
                   const T* bias) const {
        in_tiles(rows, [&](int64_t row, auto count) {
            constexpr int R = decltype(count)::value;
            T scale[R];
            normalize_rows<T, R>(projections, row, order, scale);
            if (keep.data) {
                const int64_t to = kept_first + row - rows.begin;
                for (int64_t b = 0; b < gate_blocks; ++b)
                    for (int r = 0; r < R; ++r) store(keep.at(b, to + r), load(projections.at(b, row + r)));
                for (int r = 0; r < R; ++r) rstds[to + r] = scale[r];
            }
            gain_and_bias<T, R>(projections, row, gain, bias, gate_blocks);
        });
    }

    // h = o tanh(norm(c)).
    void cell_output(const PackedWeights<T>& w, const StepForward<T>& s, Scratch& scratch) const {
        const Blocks<T> normal{scratch.unprojected.at(unit_blocks), scratch.unprojected.stride};
        const int64_t output_gate = order.gates - 1;
        in_tiles({0, s.rows}, [&](int64_t row, auto count) {
            constexpr int R = decltype(count)::value;
            T scale[R];
            for (int64_t u = 0; u < unit_blocks; ++u)
                for (int r = 0; r < R; ++r) store(normal.at(u, row + r), load(s.cell.at(u, row + r)));
            normalize_rows<T, R>(normal, row, unit_order, scale);
            gain_and_bias<T, R>(normal, row, w.gain_c, w.bias_c, unit_blocks);
            for (int64_t u = 0; u < unit_blocks; ++u) {
                const int64_t gate = u * order.gates + output_gate;
                for (int r = 0; r < R; ++r)
                    store(s.hidden.at(u, row + r),
                          load(s.gates.at(gate, row + r)) * tanh<T>(load(normal.at(u, row + r))));
            }
        });
    }

    void zone_out(const Zoneout& z, const Shard& shard, int64_t t, Blocks<T> state, Blocks<T> old, int64_t rows,
                  Range blocks, int64_t size) const {
        for (int64_t block = blocks.begin; block < blocks.end; ++block) {
            for (int64_t row = 0; row < rows; ++row) {
                const Vec<T> now = load(state.at(block, row)), before = load(old.at(block, row));
                store(state.at(block, row),
                      now + this->zoneout_weight(z, t, shard.batch[row], block, size) * (before - now));
            }
        }
    }

    static void copy(Blocks<T> to, Blocks<T> from, int64_t rows, Range blocks) {
        for (int64_t block = blocks.begin; block < blocks.end; ++block)
            for (int64_t row = 0; row < rows; ++row) store(to.at(block, row), load(from.at(block, row)));
    }

    // ---- the whole call ---------------------------------------------------------------------------------------------

    void run_shard(const Pass& pass, const PackedWeights<T>& w, const Shard& shard, Scratch& scratch,
                   const Member& member) const {
        if (member.rank == 0) start(pass, shard, scratch);
        const int64_t count = static_cast<int64_t>(shard.chunks.size());
        for (int64_t i = 0; i < count; ++i) {
            const int64_t number = pass.reverse ? count - 1 - i : i;
            const Range chunk = shard.chunks[number];
            const bool keeps = pass.saved && !problem.recompute;
            if (pass.saved && problem.recompute && member.rank == 0) take_snapshot(pass, shard, number, scratch.state);
            const Record<T> record = keeps ? this->saved_record(pass, shard, chunk)
                                           : this->scratch_record(pass, scratch.record, shard, chunk);
            run_chunk(pass, w, shard, chunk, scratch, record, keeps, true, member);
        }
        if (member.rank == 0) finish(pass, shard, scratch.state);
    }

    void take_snapshot(const Pass& pass, const Shard& shard, int64_t chunk, const State<T>& state) const {
        const int64_t t = pass.reverse ? shard.chunks[chunk].end - 1 : shard.chunks[chunk].begin;
        const State<T> to = this->snapshot(pass, shard, chunk);
        copy(to.hidden[0], state.hidden[this->turn(pass, shard, t)], shard.rows(), {0, output_blocks});
        if (lstm) copy(to.cell, state.cell, shard.rows(), {0, unit_blocks});
    }

    // Writes final states, and zeros past the end of each sequence.
    void finish(const Pass& pass, const Shard& shard, const State<T>& state) const {
        for (int64_t row = 0; row < shard.rows(); ++row) {
            const int64_t length = shard.length[row];
            const int64_t done = pass.reverse ? (length ? shard.steps() : 0) : length;
            if (pass.final_state[0])
                scatter_row<T>(static_cast<S*>(pass.final_state[0]) + shard.batch[row] * problem.outputs,
                               as_const(state.hidden[done & 1]), row, problem.outputs);
            if (pass.final_state[1])
                scatter_row<T>(static_cast<S*>(pass.final_state[1]) + shard.batch[row] * problem.units,
                               as_const(state.cell), row, problem.units);
            for (int64_t t = length; t < problem.steps; ++t)
                std::memset(Base::row_of(pass.output, t, shard.batch[row]), 0, problem.outputs * sizeof(S));
        }
    }

    static void run(const Problem& p) {
        Arena& arena = Arena::fresh();
        const Plan plan = make_plan<T>(p);
        const Forward layer(p, plan);
        const int shards = static_cast<int>(plan.shards.size());
        const bool once = p.steps == 1 && !int8;
        std::vector<PackedWeights<T>> weights;
        std::vector<Scratch> scratches;
        for (int i = 0; i < p.passes; ++i) {
            const bool saves = p.pass[i].saved && !p.recompute;
            if (p.pass[i].saved) *static_cast<T*>(p.pass[i].saved) = static_cast<T>(shards);
            weights.push_back(pack(layer, p.pass[i], arena, once));
            for (const Shard& shard : plan.shards) {
                scratches.push_back(layer.take_scratch(p.pass[i], shard, arena, plan.largest_chunk(), !saves));
                if (once) scratches.back().panels = arena.take<T>(plan.team * layer.panel_size());
            }
        }
        run_groups(p.passes * shards, plan.team, p.threads, [&](int group, const Member& member) {
            const int pass = group / shards;
            layer.run_shard(p.pass[pass], weights[pass], plan.shards[group % shards], scratches[group], member);
        });
    }
};

}  // namespace lstmkit::LSTMKIT_ISA
