// The pointwise part of every cell, one step forward and one step back, over blocks of units.
//
// The products with the weights come before (forward) or after (backward); the equations are those of cells.py. Steps
// are passed by value, so that the compiler knows that storing a result does not change their pointers.
#pragma once

#include "problem.h"
#include "product.h"

namespace lstmkit::LSTMKIT_ISA {

template <class T>
struct StepForward {
    int64_t rows = 0;
    const T* peephole = nullptr;  // one padded row of units for each gate but the candidate
    int64_t padded_units = 0;
    Blocks<T> gates{};            // in: pre-activations; out: activations
    Blocks<const T> recurrent{};  // the recurrent projection, if separate
    Blocks<T> cell{};             // in: before the step; out: after the step
    Blocks<T> saved_cell{};       // a copy for backward
    Blocks<T> saved_candidate{};  // GRU: the recurrent projection of the candidate, for backward
    Blocks<const T> before{};     // GRU: the state before the step
    Blocks<T> hidden{};           // out
};

template <class T>
struct StepBackward {
    int64_t rows = 0;
    const T* peephole = nullptr;
    T* d_peephole = nullptr;
    int64_t padded_units = 0, units = 0;
    Blocks<const T> gates{};  // the activations
    Blocks<const T> cell{};   // after the step
    Blocks<const T> cell_before{};
    Blocks<const T> candidate{};   // GRU: the recurrent projection of the candidate
    Blocks<const T> before{};      // GRU: the state before the step
    Blocks<const T> tanh_cell{};   // LSTM with layer norm: tanh of the normalized cell state, and
    Blocks<const T> d_cell_out{};  // the gradient of the cell state through it
    Blocks<T> d_hidden{};          // in; GRU, out: the direct part of the gradient of the state before the step
    Blocks<T> d_cell{};            // in: of the state after the step; out: before the step
    Blocks<T> d_gates{};           // out: of the pre-activations
    Blocks<T> d_recurrent{};       // out: of the recurrent projection, if separate
};

// `v` with zeros in the lanes past the last unit, which must not get gradients.
template <class T>
inline Vec<T> only_units(Vec<T> v, int64_t block, int64_t units) {
    const int64_t count = units - block * lanes<T>;
    return count >= lanes<T> ? v : keep_first<T>(v, count);
}

// ---- LSTM -----------------------------------------------------------------------------------------------------------

template <class T, bool Peephole, bool Coupled, bool Split>
struct Lstm {
    static constexpr int G = Coupled ? 3 : 4;
    // Blocks of the gates, and rows of the peephole weights, in the order of the weight matrices.
    static constexpr int I = 0, F = Coupled ? 0 : 1, C = Coupled ? 1 : 2, O = Coupled ? 2 : 3;
    static constexpr int peep_F = F, peep_O = Coupled ? 1 : 2;

    static void forward(StepForward<T> s, Range blocks) {
        for (int64_t u = blocks.begin; u < blocks.end; ++u) {
            const auto peep = [&](int gate) { return load(s.peephole + gate * s.padded_units + u * lanes<T>); };
            for (int64_t row = 0; row < s.rows; ++row) {
                const auto gate = [&](int g) {
                    const Vec<T> a = load(s.gates.at(u * G + g, row));
                    if constexpr (Split) return a + load(s.recurrent.at(u * G + g, row));
                    return a;
                };
                const Vec<T> before = load(s.cell.at(u, row));
                Vec<T> a_f = gate(F), a_o = gate(O);
                if constexpr (Peephole) a_f += peep(peep_F) * before;
                const Vec<T> f = sigmoid<T>(a_f), g = tanh<T>(gate(C));
                Vec<T> i;
                if constexpr (Coupled) {
                    i = T(1) - f;
                } else {
                    Vec<T> a_i = gate(I);
                    if constexpr (Peephole) a_i += peep(I) * before;
                    i = sigmoid<T>(a_i);
                    store(s.gates.at(u * G + I, row), i);
                }
                const Vec<T> c = f * before + i * g;
                if constexpr (Peephole) a_o += peep(peep_O) * c;
                const Vec<T> o = sigmoid<T>(a_o);
                store(s.gates.at(u * G + F, row), f);
                store(s.gates.at(u * G + C, row), g);
                store(s.gates.at(u * G + O, row), o);
                store(s.cell.at(u, row), c);
                if (s.saved_cell.data) store(s.saved_cell.at(u, row), c);
            }
            if constexpr (Split) continue;  // layer norm needs the whole row first
            // A separate loop, in which several rows overlap; in the loop above it would wait for the gates.
            for (int64_t row = 0; row < s.rows; ++row)
                store(s.hidden.at(u, row), load(s.gates.at(u * G + O, row)) * tanh<T>(load(s.cell.at(u, row))));
        }
    }

    static void backward(StepBackward<T> s, Range blocks) {
        for (int64_t u = blocks.begin; u < blocks.end; ++u) {
            const int64_t at = u * lanes<T>;
            Vec<T> d_peep_i{}, d_peep_f{}, d_peep_o{};
            for (int64_t row = 0; row < s.rows; ++row) {
                const auto gate = [&](int g) { return load(s.gates.at(u * G + g, row)); };
                const auto give = [&](int g, Vec<T> d) {
                    d = only_units<T>(d, u, s.units);
                    store(s.d_gates.at(u * G + g, row), d);
                    if constexpr (Split) store(s.d_recurrent.at(u * G + g, row), d);
                    return d;
                };
                const Vec<T> f = gate(F), g = gate(C), o = gate(O), i = Coupled ? T(1) - f : gate(I);
                const Vec<T> c = load(s.cell.at(u, row)), before = load(s.cell_before.at(u, row));
                const Vec<T> dh = load(s.d_hidden.at(u, row));
                const Vec<T> tanh_c = Split ? load(s.tanh_cell.at(u, row)) : tanh<T>(c);
                const Vec<T> d_o = give(O, dh * tanh_c * o * (T(1) - o));
                Vec<T> dc = load(s.d_cell.at(u, row));
                dc += Split ? load(s.d_cell_out.at(u, row)) : dh * o * (T(1) - tanh_c * tanh_c);
                if constexpr (Peephole) {
                    dc += d_o * load(s.peephole + peep_O * s.padded_units + at);
                    d_peep_o += d_o * c;
                }
                give(C, dc * i * (T(1) - g * g));
                const Vec<T> d_f = give(F, dc * (Coupled ? before - g : before) * f * (T(1) - f));
                Vec<T> d_before = dc * f;
                if constexpr (!Coupled) {
                    const Vec<T> d_i = give(I, dc * g * i * (T(1) - i));
                    if constexpr (Peephole) {
                        d_before += d_i * load(s.peephole + I * s.padded_units + at);
                        d_peep_i += d_i * before;
                    }
                }
                if constexpr (Peephole) {
                    d_before += d_f * load(s.peephole + peep_F * s.padded_units + at);
                    d_peep_f += d_f * before;
                }
                store(s.d_cell.at(u, row), d_before);
            }
            if constexpr (Peephole) {
                const auto add = [&](int gate, Vec<T> d) {
                    T* to = s.d_peephole + gate * s.padded_units + at;
                    store(to, load(to) + d);
                };
                if constexpr (!Coupled) add(I, d_peep_i);
                add(peep_F, d_peep_f);
                add(peep_O, d_peep_o);
            }
        }
    }
};

// ---- GRU ------------------------------------------------------------------------------------------------------------

template <class T>
struct Gru {
    static constexpr int G = 3, R = 0, Z = 1, N = 2;

    static void forward(StepForward<T> s, Range blocks) {
        for (int64_t u = blocks.begin; u < blocks.end; ++u) {
            for (int64_t row = 0; row < s.rows; ++row) {
                const auto input_projection = [&](int g) { return load(s.gates.at(u * G + g, row)); };
                const auto recurrent_projection = [&](int g) { return load(s.recurrent.at(u * G + g, row)); };
                const Vec<T> r = sigmoid<T>(input_projection(R) + recurrent_projection(R)),
                             z = sigmoid<T>(input_projection(Z) + recurrent_projection(Z));
                const Vec<T> n = tanh<T>(input_projection(N) + r * recurrent_projection(N));
                store(s.gates.at(u * G + R, row), r);
                store(s.gates.at(u * G + Z, row), z);
                store(s.gates.at(u * G + N, row), n);
                if (s.saved_candidate.data) store(s.saved_candidate.at(u, row), recurrent_projection(N));
                store(s.hidden.at(u, row), n + z * (load(s.before.at(u, row)) - n));
            }
        }
    }

    static void backward(StepBackward<T> s, Range blocks) {
        for (int64_t u = blocks.begin; u < blocks.end; ++u) {
            for (int64_t row = 0; row < s.rows; ++row) {
                const auto gate = [&](int g) { return load(s.gates.at(u * G + g, row)); };
                const auto give = [&](int g, Vec<T> d_x, Vec<T> d_h) {
                    store(s.d_gates.at(u * G + g, row), only_units<T>(d_x, u, s.units));
                    store(s.d_recurrent.at(u * G + g, row), only_units<T>(d_h, u, s.units));
                };
                const Vec<T> r = gate(R), z = gate(Z), n = gate(N), dh = load(s.d_hidden.at(u, row));
                const Vec<T> d_n = dh * (T(1) - z) * (T(1) - n * n);
                const Vec<T> d_z = dh * (load(s.before.at(u, row)) - n) * z * (T(1) - z);
                const Vec<T> d_r = d_n * load(s.candidate.at(u, row)) * r * (T(1) - r);
                give(R, d_r, d_r);
                give(Z, d_z, d_z);
                give(N, d_n, d_n * r);
                store(s.d_hidden.at(u, row), dh * z);
            }
        }
    }
};

// ---- RNN ------------------------------------------------------------------------------------------------------------

template <class T, bool Relu, bool Split>
struct Rnn {
    static void forward(StepForward<T> s, Range blocks) {
        for (int64_t u = blocks.begin; u < blocks.end; ++u) {
            for (int64_t row = 0; row < s.rows; ++row) {
                Vec<T> a = load(s.gates.at(u, row));
                if constexpr (Split) a += load(s.recurrent.at(u, row));
                const Vec<T> h = Relu ? (a < T(0) ? Vec<T>{} : a) : tanh<T>(a);
                store(s.gates.at(u, row), h);
                store(s.hidden.at(u, row), h);
            }
        }
    }

    static void backward(StepBackward<T> s, Range blocks) {
        for (int64_t u = blocks.begin; u < blocks.end; ++u) {
            for (int64_t row = 0; row < s.rows; ++row) {
                const Vec<T> h = load(s.gates.at(u, row)), dh = load(s.d_hidden.at(u, row));
                const Vec<T> d = only_units<T>(Relu ? (h <= T(0) ? Vec<T>{} : dh) : dh * (T(1) - h * h), u, s.units);
                store(s.d_gates.at(u, row), d);
                if constexpr (Split) store(s.d_recurrent.at(u, row), d);
            }
        }
    }
};

// ---- by kind --------------------------------------------------------------------------------------------------------

template <class T>
struct CellFunctions {
    void (*forward)(StepForward<T>, Range blocks_of_units);
    void (*backward)(StepBackward<T>, Range blocks_of_units);
};

template <class T>
CellFunctions<T> cell_functions(const Problem& p) {
    const auto of = [](auto cell) { return CellFunctions<T>{decltype(cell)::forward, decltype(cell)::backward}; };
    const auto lstm = [&](auto peephole, auto coupled) {
        return p.layer_norm ? of(Lstm<T, peephole, coupled, true>{}) : of(Lstm<T, peephole, coupled, false>{});
    };
    const std::true_type yes;
    const std::false_type no;
    switch (p.cell) {
        case Cell::gru: return of(Gru<T>{});
        case Cell::rnn_tanh: return p.layer_norm ? of(Rnn<T, false, true>{}) : of(Rnn<T, false, false>{});
        case Cell::rnn_relu: return p.layer_norm ? of(Rnn<T, true, true>{}) : of(Rnn<T, true, false>{});
        default: break;
    }
    if (p.peephole) return p.coupled ? lstm(yes, yes) : lstm(yes, no);
    return p.coupled ? lstm(no, yes) : lstm(no, no);
}

}  // namespace lstmkit::LSTMKIT_ISA
