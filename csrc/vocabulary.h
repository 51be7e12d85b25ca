// Which of many words comes next: the linear layer in front of a softmax, and its cross-entropy with all gradients.
//
// How data flows, panel of words by panel:
//   logits         W packed -> product with x -> rows of logits
//   cross-entropy  W packed -> product with x -> exponentials, summed over all words; then back through the panels, which
//                  are still there: gradient of the logits -> dx += G W, dW = G^T x
//
// On a panel the rows come a slice at a time: what a slice needs, W, x and their gradients, stays in the second cache.
//
// Threads share the words, and so the weights and their gradient: each is read and written by one of them, once.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "layer.h"

namespace lstmkit::LSTMKIT_ISA {

template <class T>
struct Vocabulary {
    static constexpr int L = lanes<T>;

    const Words& problem;
    const int64_t width = problem.width, words = problem.words, depth_blocks = blocks_of<T>(width);
    const int64_t panel_blocks = blocks_for(problem);  // of words, in a panel

    static constexpr int64_t cached = 96 * 1024;  // bytes of W in a panel, and of x in a slice
    // A panel for each thread at least.
    static int64_t blocks_for(const Words& p) {
        const int64_t most = std::clamp<int64_t>(cached / (static_cast<int64_t>(sizeof(T)) * L * p.width), 2, 24) / 2 * 2;
        return std::min(most, ceil_div(blocks_of<T>(p.words), p.threads));
    }
    template <class F>
    void for_slices(int64_t rows, F&& f) const {
        const int64_t most = std::clamp<int64_t>(cached / (static_cast<int64_t>(sizeof(T)) * width), 48, 384);
        for_tiles(rows, static_cast<int>(most), f);
    }

    const T* weights(int64_t word) const { return static_cast<const T*>(problem.weight) + word * width; }
    int64_t panel_words() const { return panel_blocks * L; }
    int64_t panels() const { return ceil_div(words, panel_words()); }
    // The words of a panel, which begin with number `first`.
    int64_t words_in(int64_t first) const { return std::min(panel_words(), words - first); }

    int team() const {
        const double work = static_cast<double>(problem.rows) * width * words;
        return work < 2e5 ? 1 : static_cast<int>(std::min<int64_t>(problem.threads, panels()));
    }

    // What one thread works with on a panel.
    struct Room {
        T* packed = nullptr;
        T* bias = nullptr;
    };
    Room take_room(Arena& arena) const {
        return {arena.take<T>(depth_blocks * L * panel_words()), arena.take<T>(panel_words())};
    }

    // The weights of the words from `first` on, and their biases. Lanes past the last word get one that makes their logits
    // as good as none.
    Packed<T> pack(int64_t first, int64_t rows, const Room& room) const {
        const int64_t count = words_in(first), blocks = blocks_of<T>(count);
        Packed<T> w{room.packed, width, blocks, panel_width(rows)};
        pack_forward(w, weights(first), GateOrder{1, count}, Range{0, blocks});
        for (int64_t i = 0; i < blocks * L; ++i)
            room.bias[i] = i < count ? static_cast<const T*>(problem.bias)[first + i] : std::numeric_limits<T>::lowest() / 4;
        return w;
    }

    static void logits(const Words& problem) {
        Vocabulary v{problem};
        const int64_t rows = problem.rows;
        Arena& arena = Arena::fresh();
        const Blocks<T> x = v.gathered(arena, nullptr, rows);
        const int team = v.team();
        std::vector<Room> rooms;
        std::vector<Blocks<T>> found;
        for (int i = 0; i < team; ++i) {
            rooms.push_back(v.take_room(arena));
            found.push_back(v.take(arena, v.panel_blocks, rows));
        }
        run_together(team, [&](int id) {
            const Range panels = Member{id, team}.part(v.panels());
            for (int64_t p = panels.begin; p < panels.end; ++p) {
                const int64_t first = p * v.panel_words(), count = v.words_in(first);
                const Packed<T> w = v.pack(first, rows, rooms[id]);
                product<T>(found[id], as_const(x), rows, w, Range{0, w.panels()}, rooms[id].bias);
                for (int64_t row = 0; row < rows; ++row)
                    scatter_row(static_cast<T*>(problem.logits) + row * v.words + first, as_const(found[id]), row, count);
            }
        });
    }

    // Rows of x, those numbered in `which` or the first ones.
    Blocks<T> gathered(Arena& arena, const int64_t* which, int64_t rows) const {
        const Blocks<T> x = take(arena, depth_blocks, rows);
        for (int64_t row = 0; row < rows; ++row)
            gather_row<T>(x, row, static_cast<const T*>(problem.x) + (which ? which[row] : row) * width, width);
        return x;
    }

    static Blocks<T> take(Arena& arena, int64_t blocks, int64_t rows) {
        constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
        const int64_t stride = (ceil_div(rows * L, line) | 1) * line;
        return {arena.take<T>(blocks * stride), stride};
    }
};

// The loss of some rows, all scored, and their part of the gradients.
template <class T>
struct CrossEntropy : Vocabulary<T> {
    using Base = Vocabulary<T>;
    using Base::L, Base::problem, Base::width, Base::words, Base::depth_blocks;
    using typename Base::Room;

    // Of one thread: for each row the largest logit of its words so far and the sum of exponentials of what the others
    // are below it.
    struct Sums {
        T *top, *sum;
    };
    // Of one thread, on the way back.
    struct Gradients {
        Blocks<T> dx;
        T* d_weight;  // of a panel, blocked
    };

    const int64_t* which;  // the rows' numbers
    int64_t rows;
    bool first_rows, learns;
    T scale;  // one over the number of all scored rows
    int threads = 1;
    Blocks<T> x{}, told{};    // `told`: of each thread a panel, or all of them where gradients are wanted
    T *tops = nullptr;        // (panels, rows): what was taken off a panel's logits before they were exponentiated
    T *wanted = nullptr, *total = nullptr, *norm = nullptr;  // a row: target's logit, sum of logits, log of the sum of exponentials
    std::vector<Room> rooms{};
    std::vector<Sums> sums{};
    std::vector<Gradients> gradients{};

    int64_t target(int64_t row) const { return problem.targets[which[row]]; }
    int64_t row_room() const { return ceil_div(rows, L) * L; }
    Blocks<T> told_in(int64_t panel, int id) const { return {told.at((learns ? panel : id) * this->panel_blocks), told.stride}; }

    // The sum of the rows' losses.
    double run(Arena& arena) {
        threads = this->team();
        const int64_t room = row_room(), panels = this->panels();
        x = this->gathered(arena, which, rows);
        told = this->take(arena, (learns ? panels : threads) * this->panel_blocks, rows);
        tops = arena.take<T>(panels * room);
        wanted = arena.take<T>(room);
        total = arena.take<T>(threads * room);
        norm = arena.take<T>(room);
        for (int i = 0; i < threads; ++i) {
            rooms.push_back(this->take_room(arena));
            sums.push_back({arena.take<T>(room), arena.take<T>(room)});
            if (learns) gradients.push_back({this->take(arena, depth_blocks, rows), arena.take<T>(depth_blocks * L * this->panel_words())});
        }
        Barrier barrier(threads);
        run_together(threads, [&](int id) {
            const Member member{id, threads, &barrier};
            forward(member);
            member.wait();
            if (id == 0) combine();
            member.wait();
            if (!learns) return;
            backward(member);
            member.wait();
            give_dx(member.part(rows));
        });
        return loss();
    }

    void forward(const Member& member) const {
        const int id = member.rank;
        const Sums& s = sums[id];
        T* totals = total + id * row_room();
        for (int64_t row = 0; row < rows; ++row) {
            s.top[row] = std::numeric_limits<T>::lowest() / 2;
            s.sum[row] = totals[row] = 0;
        }
        const Range panels = member.part(this->panels());
        for (int64_t p = panels.begin; p < panels.end; ++p) {
            const int64_t first = p * this->panel_words();
            const Blocks<T> l = told_in(p, id);
            const Packed<T> w = this->pack(first, rows, rooms[id]);
            this->for_slices(rows, [&](int64_t row, int64_t count) {
                product<T>(l.from_row(row), as_const(x.from_row(row)), count, w, Range{0, w.panels()}, rooms[id].bias);
                exponentiate(l, Range{row, row + count}, first, s, totals, tops + p * row_room());
            });
        }
    }

    // In place of a panel's logits their exponentials, less the largest so far.
    void exponentiate(Blocks<T> l, Range part, int64_t first, const Sums& s, T* totals, T* taken) const {
        const int64_t count = this->words_in(first), blocks = blocks_of<T>(count);
        for (int64_t row = part.begin; row < part.end; ++row) {
            const int64_t at = target(row) - first;
            if (at >= 0 && at < count) wanted[row] = l.at(at / L, row)[at % L];
            Vec<T> most = load(l.at(0, row));
            for (int64_t block = 1; block < blocks; ++block) {
                const Vec<T> v = load(l.at(block, row));
                most = v > most ? v : most;
            }
            if (problem.smoothing != 0) totals[row] += sum_of(l, row, count);
            T top = most[0];
            for (int lane = 1; lane < L; ++lane) top = std::max(top, most[lane]);
            if (top > s.top[row]) {
                s.sum[row] *= std::exp(s.top[row] - top);
                s.top[row] = top;
            }
            top = taken[row] = s.top[row];
            Vec<T> sum{};
            for (int64_t block = 0; block < blocks; ++block) {
                T* at_block = l.at(block, row);
                const Exponential<T> e = exponential<T>(load(at_block) - top);
                const Vec<T> value = e.scale * e.p + e.scale;
                store(at_block, value);
                sum += value;
            }
            s.sum[row] += sum_of_lanes<T>(sum);
        }
    }

    static T sum_of(Blocks<T> l, int64_t row, int64_t count) {
        Vec<T> sum{};
        for (int64_t block = 0; block < blocks_of<T>(count); ++block)
            sum += keep_first<T>(load(l.at(block, row)), count - block * L);
        return sum_of_lanes<T>(sum);
    }

    // What the threads have found together.
    void combine() const {
        for (int64_t row = 0; row < rows; ++row) {
            T top = sums[0].top[row];
            for (const Sums& s : sums) top = s.top[row] <= top ? top : s.top[row];
            T sum = 0;
            for (const Sums& s : sums) sum += s.sum[row] * std::exp(s.top[row] - top);
            for (int i = 1; i < threads; ++i) total[row] += total[i * row_room() + row];
            norm[row] = top + std::log(sum);
        }
        for (int64_t row = rows; row < row_room(); ++row) norm[row] = 0;
    }

    double loss() const {
        const double smoothing = problem.smoothing;
        double all = 0;
        for (int64_t row = 0; row < rows; ++row) {
            all += norm[row] - (1 - smoothing) * wanted[row];
            if (smoothing != 0) all -= smoothing * total[row] / static_cast<double>(words);
        }
        return all;
    }

    void backward(const Member& member) const {
        const int id = member.rank;
        const Gradients& g = gradients[id];
        for (int64_t block = 0; block < depth_blocks; ++block) std::memset(g.dx.at(block), 0, rows * L * sizeof(T));
        const Range panels = member.part(this->panels());
        for (int64_t p = panels.begin; p < panels.end; ++p) {
            const int64_t first = p * this->panel_words(), count = this->words_in(first), blocks = blocks_of<T>(count);
            const Blocks<T> d = told_in(p, id), d_weight{g.d_weight, depth_blocks * L * L};
            T *taken = tops + p * row_room(), *d_bias = rooms[id].bias;
            Packed<T> w{rooms[id].packed, blocks * L, depth_blocks, panel_width(rows)};
            pack_backward(w, this->weights(first), GateOrder{1, count}, width, Range{0, w.panels()});
            std::memset(d_weight.data, 0, blocks * d_weight.stride * sizeof(T));
            std::memset(d_bias, 0, blocks * L * sizeof(T));
            factors(taken);
            this->for_slices(rows, [&](int64_t row, int64_t height) {
                differentiate(d, Range{row, row + height}, first, taken, d_bias);
                product<T>(g.dx.from_row(row), as_const(d.from_row(row)), height, w, Range{0, w.panels()}, nullptr);
                outer_product<T>(d_weight, as_const(x.from_row(row)), width, as_const(d.from_row(row)), height, Range{0, blocks});
            });
            unpack_gradient(static_cast<T*>(problem.d_weight) + first * width, g.d_weight, 0, 1, GateOrder{1, count}, width,
                            Range{0, blocks}, !first_rows);
            T* biases = static_cast<T*>(problem.d_bias) + first;
            for (int64_t i = 0; i < count; ++i) biases[i] = first_rows ? d_bias[i] : biases[i] + d_bias[i];
        }
    }

    // In place of what was taken off the logits the factors that make probabilities of their exponentials, times the scale.
    void factors(T* taken) const {
        for (int64_t row = rows; row < row_room(); ++row) taken[row] = 0;
        for (int64_t row = 0; row < rows; row += L) {
            const Exponential<T> e = exponential<T>(load(taken + row) - load(norm + row));
            store(taken + row, (e.scale * e.p + e.scale) * scale);
        }
    }

    // In place of a panel's exponentials the gradients of its logits; their sums over the rows are those of its biases.
    void differentiate(Blocks<T> d, Range part, int64_t first, const T* factor, T* d_bias) const {
        const int64_t count = this->words_in(first), blocks = blocks_of<T>(count);
        const T spread = static_cast<T>(problem.smoothing / static_cast<double>(words)) * scale;
        const T target_share = static_cast<T>(1 - problem.smoothing) * scale;
        for (int64_t block = 0; block < blocks; ++block) {
            Vec<T> sum = load(d_bias + block * L);
            for (int64_t row = part.begin; row < part.end; ++row) {
                const Vec<T> v = load(d.at(block, row)) * factor[row] - spread;
                store(d.at(block, row), v);
                sum += v;
            }
            store(d_bias + block * L, sum);
        }
        for (int64_t row = part.begin; row < part.end; ++row) {
            const int64_t at = target(row) - first;
            if (at < 0 || at >= count) continue;
            d.at(at / L, row)[at % L] -= target_share;
            d_bias[at] -= target_share;
        }
    }

    // The threads' shares together.
    void give_dx(Range part) const {
        for (int64_t row = part.begin; row < part.end; ++row) {
            T* to = static_cast<T*>(problem.dx) + which[row] * width;
            for (int64_t block = 0; block < depth_blocks; ++block) {
                Vec<T> sum = load(gradients[0].dx.at(block, row));
                for (int i = 1; i < threads; ++i) sum += load(gradients[i].dx.at(block, row));
                store_block<T>(to, block, width, sum);
            }
        }
    }

    // The mean of all scored rows, so many at a time that their exponentials do not need much memory.
    static double mean(const Words& problem) {
        constexpr int64_t at_once = 1 << 23;
        std::vector<int64_t> scored;
        for (int64_t row = 0; row < problem.rows; ++row)
            if (problem.targets[row] >= 0) scored.push_back(row);
        const int64_t count = static_cast<int64_t>(scored.size());
        const bool learns = problem.dx != nullptr;
        if (learns) {  // rows that are not scored are written by nobody else; without any, nor are the weights
            std::fill_n(static_cast<T*>(problem.dx), problem.rows * problem.width, T(0));
            std::fill_n(static_cast<T*>(problem.d_weight), count ? 0 : problem.words * problem.width, T(0));
            std::fill_n(static_cast<T*>(problem.d_bias), count ? 0 : problem.words, T(0));
        }
        const int64_t pieces = std::max(ceil_div(count, 1024), ceil_div(count * problem.words, at_once));
        double sum = 0;
        for (int64_t piece = 0; piece < pieces; ++piece) {
            const int64_t begin = count * piece / pieces, end = count * (piece + 1) / pieces;
            CrossEntropy rows{{problem}, scored.data() + begin, end - begin, piece == 0, learns, T(1) / static_cast<T>(count)};
            sum += rows.run(Arena::fresh());
        }
        return count ? sum / static_cast<double>(count) : 0;
    }
};

}  // namespace lstmkit::LSTMKIT_ISA
