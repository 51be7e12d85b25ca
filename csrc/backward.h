// The layer backward in time.
#pragma once

#include "forward.h"

namespace lstmkit::LSTMKIT_ISA {

// Sums over rows that become the gradients of the weights: one for each share of the batch, added up at the end.
template <class T>
struct Sums {
    T* data = nullptr;
    int64_t size = 0;  // of one share

    T* of(int64_t share) const { return data ? data + share * size : nullptr; }
};

template <class T, class S>
struct Backward : Layer<T, S> {
    using Base = Layer<T, S>;
    using Base::Base;
    using Base::problem, Base::plan, Base::order, Base::unit_order, Base::output_order, Base::input_blocks,
        Base::unit_blocks, Base::output_blocks, Base::gate_blocks, Base::lstm, Base::gru, Base::split, Base::norm, Base::cell;

    static constexpr int L = lanes<T>;

    // Scratch of one share. Fields of a chunk have a row for each row of it, the others one for each sequence.
    struct Room {
        Blocks<T> x{}, before{}, seen{}, d_gates{}, d_recurrent{}, dx{}, shown{}, d_projected{};     // of a chunk
        Blocks<T> d_hidden{}, d_cell{}, first_cell{}, d_shown{}, direct{}, direct_cell{}, product{}; // of a step
        Blocks<T> tanh_cell{}, d_cell_out{}, normal{};
        typename Forward<T, S>::Room again;  // recompute
    };

    // The gradients of one pass that are summed over rows.
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
                pack_backward(w.ih_back, this->weight(pass, weight_ih), order, problem.inputs, member.part(w.ih_back.panels()));
            pack_backward(w.hh_back, this->weight(pass, weight_hh), order, problem.outputs, member.part(w.hh_back.panels()));
            if (problem.projected)
                pack_backward(w.hr_back, this->weight(pass, weight_hr), output_order, problem.units, member.part(w.hr_back.panels()));
        });
    }

    Room take_room(const Pass& pass, const Share& share, Arena& arena, int64_t chunk_rows) const {
        Room room;
        const int64_t rows = share.rows();
        const auto step = [&](int64_t blocks) { return this->take(arena, blocks, rows); };
        const auto chunk = [&](int64_t blocks) { return this->take(arena, blocks, chunk_rows); };
        room.x = chunk(input_blocks);
        room.before = chunk(output_blocks);
        room.seen = pass.mask ? chunk(output_blocks) : room.before;
        room.d_gates = chunk(gate_blocks);
        room.d_recurrent = split ? chunk(gate_blocks) : room.d_gates;
        if (pass.dx.data) room.dx = chunk(input_blocks);
        room.d_hidden = step(output_blocks);
        if (problem.projected) {
            room.shown = chunk(unit_blocks);
            room.d_projected = chunk(output_blocks);
            room.d_shown = step(unit_blocks);
        }
        if (lstm) {
            room.d_cell = step(unit_blocks);
            room.first_cell = step(unit_blocks);
        }
        if (pass.zoneout[0].on) room.direct = step(output_blocks);
        if (lstm && pass.zoneout[1].on) room.direct_cell = step(unit_blocks);
        if (pass.mask) room.product = step(output_blocks);
        if (norm && lstm) {
            room.tanh_cell = step(unit_blocks);
            room.d_cell_out = step(unit_blocks);
            room.normal = step(unit_blocks);
        }
        if (problem.recompute) room.again = forward.take_room(pass, share, arena, chunk_rows, true);
        return room;
    }

    Gradients take_gradients(const Pass& pass, Arena& arena) const {
        Gradients g;
        const auto sums = [&](std::initializer_list<Weight> wanted, int64_t size) {
            Sums<T> s;
            for (Weight weight : wanted)
                if (pass.d_weights[weight] && !s.data) s = {arena.take<T>(size * plan.shares.size()), size};
            return s;
        };
        g.ih = sums({weight_ih}, gate_blocks * L * input_blocks * L);
        g.hh = sums({weight_hh}, gate_blocks * L * output_blocks * L);
        g.hr = sums({weight_hr}, output_blocks * L * unit_blocks * L);
        g.bias_i = split ? sums({bias_ih}, gate_blocks * L) : sums({bias_ih, bias_hh}, gate_blocks * L);
        g.bias_h = split ? sums({bias_hh}, gate_blocks * L) : g.bias_i;
        // Always there where they are summed without asking whether anybody wants them.
        const auto always = [&](bool there, int64_t size) {
            return there ? Sums<T>{arena.take<T>(size * plan.shares.size()), size} : Sums<T>{};
        };
        g.gain_i = always(norm, gate_blocks * L);
        g.gain_h = always(norm, gate_blocks * L);
        g.gain_c = always(norm && lstm, unit_blocks * L);
        g.bias_c = always(norm && lstm, unit_blocks * L);
        g.peephole = always(problem.peephole, (order.gates - 1) * unit_blocks * L);
        return g;
    }

    // ---- one share -------------------------------------------------------------------------------------------------------

    void run_share(const Pass& pass, const PackedWeights<T>& w, const Gradients& g, int64_t number, Room& room,
                   const Member& member) const {
        const Share& share = plan.shares[number];
        for (const Sums<T>& s : {g.ih, g.hh, g.hr, g.bias_i, g.bias_h, g.gain_i, g.gain_h, g.gain_c, g.bias_c, g.peephole}) {
            const Range part = member.part(s.size);
            if (s.data) std::fill(s.of(number) + part.begin, s.of(number) + part.end, T(0));
        }
        if (member.rank == 0) {
                this->gather_state(room.d_hidden, pass.d_final[0], share, problem.outputs);
            if (lstm) this->gather_state(room.d_cell, pass.d_final[1], share, problem.units);
            if (lstm) this->gather_state(room.first_cell, pass.state[1], share, problem.units);
        }
        const int64_t count = static_cast<int64_t>(share.chunks.size());
        for (int64_t i = 0; i < count; ++i)
            run_chunk(pass, w, g, number, pass.reverse ? i : count - 1 - i, room, member);
        if (member.rank == 0) finish(pass, share, room);
    }

    void run_chunk(const Pass& pass, const PackedWeights<T>& w, const Gradients& g, int64_t share_number, int64_t number,
                   Room& room, const Member& member) const {
        const Share& share = plan.shares[share_number];
        const Range chunk = share.chunks[number];
        const int64_t rows = share.rows_in(chunk);
        const Record<T> record = problem.recompute ? this->scratch_record(pass, room.again.record, share, chunk)
                                                   : this->saved_record(pass, share, chunk);
        if (problem.recompute) {
            if (member.rank == 0) load_snapshot(pass, share, number, room.again);
            forward.run_chunk(pass, w, share, chunk, room.again, record, true, false, member);
        }
        if (g.ih.data) this->gather_inputs(room.x, share, chunk, member);
        gather_before(pass, share, chunk, room, member);
        member.wait();
        this->for_steps(chunk, !pass.reverse, [&](int64_t t) { step(pass, w, g, share_number, number, t, room, record, member); });
        member.wait();

        const Range units = this->unit_range(member.part(this->groups()));
        const Range gates{units.begin * order.gates, units.end * order.gates};
        const Blocks<const T> d_gates = as_const(room.d_gates), d_recurrent = as_const(room.d_recurrent);
        const auto gradient = [&](const Sums<T>& s, Blocks<T> left, int64_t depth, Blocks<const T> right, Range blocks) {
            if (!s.data) return;
            const Blocks<T> to{s.of(share_number), blocks_of<T>(depth) * L * L};
            outer_product<T>(to, as_const(left), depth, right, rows, blocks);
        };
        gradient(g.ih, room.x, problem.inputs, d_gates, gates);
        gradient(g.hh, room.seen, problem.outputs, d_recurrent, gates);
        if (problem.projected) gradient(g.hr, room.shown, problem.units, as_const(room.d_projected), {0, output_blocks});
        if (!norm) {  // else it was done before the shares were un-normalised
            add_columns(g.bias_i.of(share_number), room.d_gates, 0, rows, gates);
            if (split) add_columns(g.bias_h.of(share_number), room.d_recurrent, 0, rows, gates);
        }
        if (pass.dx.data) {
            const Range panels = member.part(w.ih_back.panels());
            product<T>(room.dx, d_gates, rows, w.ih_back, panels, w.zeros);
            scatter_dx(pass, share, chunk, room, {panels.begin * plan.panel_width, std::min(panels.end * plan.panel_width, input_blocks)});
        }
        member.wait();
    }

    void load_snapshot(const Pass& pass, const Share& share, int64_t number, typename Forward<T, S>::Room& again) const {
        const State<T> from = this->snapshot(pass, share, number);
        for (int version = 0; version < 2; ++version) {
            forward.copy(again.state.hidden[version], from.hidden[0], share.rows(), {0, output_blocks});
            forward.hide(pass, share, again.state, version, share.rows(), {0, output_blocks});
        }
        if (lstm) forward.copy(again.state.cell, from.cell, share.rows(), {0, unit_blocks});
    }

    // The hidden state before each step: the output of the step before, or the initial state.
    void gather_before(const Pass& pass, const Share& share, Range chunk, Room& room, const Member& member) const {
        for (int64_t t = chunk.begin; t < chunk.end; ++t) {
            const int64_t first = share.start[t] - share.start[chunk.begin], old = this->went_on(pass, share, t);
            const Range rows = member.part(share.active(t));
            for (int64_t row = rows.begin; row < rows.end; ++row) {
                if (row < old) {
                    gather_row<T>(room.before, first + row, Base::row_of(pass.output, this->previous(pass, t), share.batch[row]),
                                  problem.outputs);
                } else {
                    this->gather_state(room.before, first + row, pass.state[0], share.batch[row], problem.outputs);
                }
                if (!pass.mask) continue;
                for (int64_t block = 0; block < output_blocks; ++block)
                    store(room.seen.at(block, first + row),
                          load(room.before.at(block, first + row)) * this->dropped(pass, share.batch[row], block));
            }
        }
    }

    // ---- one step --------------------------------------------------------------------------------------------------------

    void step(const Pass& pass, const PackedWeights<T>& w, const Gradients& g, int64_t share_number, int64_t chunk_number,
              int64_t t, Room& room, const Record<T>& record, const Member& member) const {
        const Share& share = plan.shares[share_number];
        const Range chunk = share.chunks[chunk_number], groups = member.part(this->groups()), units = this->unit_range(groups);
        const Range outputs = problem.projected ? Range{0, output_blocks} : units;
        const int64_t rows = share.active(t), first = share.start[t] - share.start[chunk.begin];
        const Zoneout &zones_hidden = pass.zoneout[0], &zones_cell = pass.zoneout[1];

        if (pass.d_output.data) add_output(pass, share, t, room.d_hidden, rows, outputs);
        if (zones_hidden.on) divide(zones_hidden, share, t, room.d_hidden, room.direct, rows, outputs, problem.outputs);
        if (problem.projected) {
            forward.copy(room.d_projected.from_row(first), room.d_hidden, rows, outputs);
            product<T>(room.d_shown, as_const(room.d_hidden), rows, w.hr_back, {0, w.hr_back.panels()}, w.zeros);
        }
        if (lstm && zones_cell.on) divide(zones_cell, share, t, room.d_cell, room.direct_cell, rows, units, problem.units);

        StepBackward<T> s;
        s.peephole = w.peephole;
        s.d_peephole = g.peephole.of(share_number);
        s.padded_units = unit_blocks * L;
        s.units = problem.units;
        s.rows = rows;
        s.gates = as_const(record.gates.from_row(first));
        s.cell = as_const(record.cell.from_row(first));
        if (gru) s.share = as_const(record.share.from_row(first));
        s.before = as_const(room.before.from_row(first));
        s.tanh_cell = as_const(room.tanh_cell);
        s.d_cell_out = as_const(room.d_cell_out);
        s.d_hidden = problem.projected ? room.d_shown : room.d_hidden;
        s.d_cell = room.d_cell;
        s.d_gates = room.d_gates.from_row(first);
        s.d_recurrent = room.d_recurrent.from_row(first);
        if (norm && lstm) show_normalised_backward(w, s, room, g.gain_c.of(share_number), g.bias_c.of(share_number));
        if (lstm) {
            lstm_backward(s, pass, share, chunk_number, t, record, room, units);
        } else {
            cell.backward(s, units);
        }
        if (problem.projected) show(s, room, first);
        if (lstm && zones_cell.on) add(room.d_cell, room.direct_cell, rows, units);
        if (norm) {
            add_columns(g.bias_i.of(share_number), room.d_gates, first, rows, {0, gate_blocks});
            add_columns(g.bias_h.of(share_number), room.d_recurrent, first, rows, {0, gate_blocks});
            in_tiles({first, first + rows}, [&](int64_t row, auto count) {
                constexpr int R = decltype(count)::value;
                normalise_rows_backward<T, R>(room.d_gates, as_const(record.normal_i), row, record.scale_i + row, w.gain_i,
                                              g.gain_i.of(share_number), order);
                normalise_rows_backward<T, R>(room.d_recurrent, as_const(record.normal_h), row, record.scale_h + row,
                                              w.gain_h, g.gain_h.of(share_number), order);
            });
        }
        member.wait();
        hidden_before(pass, w, share, s, room, rows, problem.projected ? Range{0, w.hh_back.panels()} : groups, outputs);
    }

    // The gradient of the hidden state before the step: what reaches it directly, and through the gates.
    void hidden_before(const Pass& pass, const PackedWeights<T>& w, const Share& share, const StepBackward<T>& s, Room& room,
                       int64_t rows, Range panels, Range outputs) const {
        const bool zones = pass.zoneout[0].on;
        if (zones && gru) add(room.d_hidden, room.direct, rows, outputs);
        if (zones && !gru) forward.copy(room.d_hidden, room.direct, rows, outputs);
        const bool direct = zones || gru;
        if (!pass.mask) {
            product<T>(room.d_hidden, as_const(s.d_recurrent), rows, w.hh_back, panels, direct ? nullptr : w.zeros);
            return;
        }
        product<T>(room.product, as_const(s.d_recurrent), rows, w.hh_back, panels, w.zeros);
        for (int64_t block = outputs.begin; block < outputs.end; ++block) {
            for (int64_t row = 0; row < rows; ++row) {
                const Vec<T> through = load(room.product.at(block, row)) * this->dropped(pass, share.batch[row], block);
                store(room.d_hidden.at(block, row), direct ? load(room.d_hidden.at(block, row)) + through : through);
            }
        }
    }

    // The cell state before the step lies in the record for rows that went on, and is the initial one for the others.
    void lstm_backward(StepBackward<T> s, const Pass& pass, const Share& share, int64_t number, int64_t t,
                       const Record<T>& record, const Room& room, Range units) const {
        const Range chunk = share.chunks[number];
        const int64_t before = this->previous(pass, t), rows = s.rows;
        int64_t old = this->went_on(pass, share, t);
        if (before >= chunk.begin && before < chunk.end) {
            s.cell_before = as_const(record.state.from_row(share.start[before] - share.start[chunk.begin]));
        } else if (problem.recompute) {
            s.cell_before = as_const(this->snapshot(pass, share, number).cell);
            old = rows;  // the snapshot holds the initial state of those that begin here
        } else if (old) {
            const Range other = share.chunks[pass.reverse ? number + 1 : number - 1];
            s.cell_before = as_const(this->saved_record(pass, share, other).state.from_row(share.start[before] - share.start[other.begin]));
        }
        s.rows = old;
        cell.backward(s, units);
        if (old == rows) return;
        s.rows = rows - old;
        const auto later = [&](auto&... blocks) { ((blocks = blocks.from_row(old)), ...); };
        s.cell_before = as_const(room.first_cell);
        later(s.gates, s.cell, s.cell_before, s.d_hidden, s.d_cell, s.d_gates, s.d_recurrent);
        if (norm) later(s.tanh_cell, s.d_cell_out);
        cell.backward(s, units);
    }

    // h = o tanh(norm(c)): what reaches c through it, and tanh(norm(c)) itself.
    void show_normalised_backward(const PackedWeights<T>& w, const StepBackward<T>& s, Room& room, T* d_gain, T* d_bias) const {
        const int64_t output_gate = order.gates - 1;
        in_tiles({0, s.rows}, [&](int64_t row, auto count) {
            constexpr int R = decltype(count)::value;
            T scale[R];
            for (int64_t u = 0; u < unit_blocks; ++u)
                for (int r = 0; r < R; ++r) store(room.normal.at(u, row + r), load(s.cell.at(u, row + r)));
            normalise_rows<T, R>(room.normal, row, unit_order, scale);
            for (int64_t u = 0; u < unit_blocks; ++u) {
                const Vec<T> gain = load(w.gain_c + u * L), bias = load(w.bias_c + u * L);
                Vec<T> found = load(d_bias + u * L);
                for (int r = 0; r < R; ++r) {
                    const Vec<T> shown = tanh<T>(load(room.normal.at(u, row + r)) * gain + bias);
                    const Vec<T> out = load(s.gates.at(u * order.gates + output_gate, row + r));
                    const Vec<T> d = load(s.d_hidden.at(u, row + r)) * out * (T(1) - shown * shown);
                    store(room.tanh_cell.at(u, row + r), shown);
                    store(room.d_cell_out.at(u, row + r), d);
                    found += d;
                }
                store(d_bias + u * L, found);
            }
            normalise_rows_backward<T, R>(room.d_cell_out, as_const(room.normal), row, scale, w.gain_c, d_gain, unit_order);
        });
    }

    // What the projection saw, for its gradient.
    void show(const StepBackward<T>& s, Room& room, int64_t first) const {
        for (int64_t u = 0; u < unit_blocks; ++u) {
            for (int64_t row = 0; row < s.rows; ++row) {
                const Vec<T> shown = norm ? load(s.tanh_cell.at(u, row)) : tanh<T>(load(s.cell.at(u, row)));
                store(room.shown.at(u, first + row), load(s.gates.at((u + 1) * order.gates - 1, row)) * shown);
            }
        }
    }

    // ---- small things ----------------------------------------------------------------------------------------------------

    void add_output(const Pass& pass, const Share& share, int64_t t, Blocks<T> to, int64_t rows, Range blocks) const {
        for (int64_t row = 0; row < rows; ++row) {
            const S* from = Base::row_of(pass.d_output, t, share.batch[row]);
            for (int64_t block = blocks.begin; block < blocks.end; ++block)
                store(to.at(block, row), load(to.at(block, row)) + load_block<T>(from, block, problem.outputs));
        }
    }

    // Zoneout: the part of a gradient that goes to the old value directly, and the rest.
    void divide(const Zoneout& z, const Share& share, int64_t t, Blocks<T> d, Blocks<T> direct, int64_t rows, Range blocks,
                int64_t size) const {
        for (int64_t block = blocks.begin; block < blocks.end; ++block) {
            for (int64_t row = 0; row < rows; ++row) {
                const Vec<T> kept = this->kept(z, t, share.batch[row], block, size), all = load(d.at(block, row));
                store(direct.at(block, row), kept * all);
                store(d.at(block, row), all - kept * all);
            }
        }
    }

    static void add(Blocks<T> to, Blocks<T> from, int64_t rows, Range blocks) {
        for (int64_t block = blocks.begin; block < blocks.end; ++block)
            for (int64_t row = 0; row < rows; ++row) store(to.at(block, row), load(to.at(block, row)) + load(from.at(block, row)));
    }

    static void add_columns(T* to, Blocks<T> from, int64_t first, int64_t rows, Range blocks) {
        if (!to) return;
        for (int64_t block = blocks.begin; block < blocks.end; ++block) {
            Vec<T> sum{};
            for (int64_t row = first; row < first + rows; ++row) sum += load(from.at(block, row));
            store(to + block * L, load(to + block * L) + sum);
        }
    }

    void scatter_dx(const Pass& pass, const Share& share, Range chunk, Room& room, Range blocks) const {
        for (int64_t t = chunk.begin; t < chunk.end; ++t) {
            const int64_t first = share.start[t] - share.start[chunk.begin];
            for (int64_t row = 0; row < share.active(t); ++row) {
                S* to = Base::row_of(pass.dx, t, share.batch[row]);
                for (int64_t block = blocks.begin; block < blocks.end; ++block)
                    store_block<T>(to, block, problem.inputs, load(room.dx.at(block, first + row)));
            }
        }
    }

    // Gradients of the initial states, and zeros for the input past the ends.
    void finish(const Pass& pass, const Share& share, const Room& room) const {
        const auto scatter = [&](void* to, Blocks<T> from, int64_t row, int64_t size) {
            if (to) scatter_row<T>(static_cast<S*>(to) + share.batch[row] * size, as_const(from), row, size);
        };
        for (int64_t row = 0; row < share.rows(); ++row) {
            scatter(pass.d_state[0], room.d_hidden, row, problem.outputs);
            scatter(pass.d_state[1], room.d_cell, row, problem.units);
            if (!pass.dx.data) continue;
            for (int64_t t = share.length[row]; t < problem.steps; ++t)
                std::memset(Base::row_of(pass.dx, t, share.batch[row]), 0, problem.inputs * sizeof(S));
        }
    }

    // ---- the whole call --------------------------------------------------------------------------------------------------

    void unpack(const Pass& pass, const Gradients& g, const Member& member) const {
        const int64_t shares = static_cast<int64_t>(plan.shares.size());
        const auto matrix = [&](Weight which, const Sums<T>& s, GateOrder order, int64_t depth) {
            if (pass.d_weights[which])
                unpack_gradient(static_cast<S*>(pass.d_weights[which]), s.data, s.size, shares, order, depth,
                                member.part(order.blocks<T>()));
        };
        matrix(weight_ih, g.ih, order, problem.inputs);
        matrix(weight_hh, g.hh, order, problem.outputs);
        matrix(weight_hr, g.hr, output_order, problem.units);
        if (member.rank) return;
        const auto vector = [&](Weight which, const Sums<T>& s, GateOrder order, int64_t from = 0, int64_t to = 0) {
            if (pass.d_weights[which])
                unpack_vector(static_cast<S*>(pass.d_weights[which]) + to, s.data + from, s.size, shares, order);
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
        const int shares = static_cast<int>(plan.shares.size());
        std::vector<PackedWeights<T>> weights(p.passes);
        std::vector<Gradients> gradients;
        std::vector<Room> rooms;
        for (int i = 0; i < p.passes; ++i) {
            if (p.recompute) {
                weights[i] = Forward<T, S>::pack(layer, p.pass[i], arena);
            } else {
                Forward<T, S>::pack_vectors(layer, p.pass[i], arena, weights[i]);
                weights[i].zeros = arena.take_zeros<T>(layer.widest() * L);
            }
            layer.pack(p.pass[i], arena, weights[i]);
            gradients.push_back(layer.take_gradients(p.pass[i], arena));
            for (const Share& share : plan.shares)
                rooms.push_back(layer.take_room(p.pass[i], share, arena, plan.largest_chunk()));
        }
        run_groups(p.passes * shares, plan.team, p.threads, [&](int group, const Member& member) {
            const int i = group / shares;
            layer.run_share(p.pass[i], weights[i], gradients[i], group % shares, rooms[group], member);
        });
        const int threads = layer.packing_threads();
        run_together(threads, [&](int id) {
            for (int i = 0; i < p.passes; ++i) layer.unpack(p.pass[i], gradients[i], {id, threads});
        });
    }
};

}  // namespace lstmkit::LSTMKIT_ISA
