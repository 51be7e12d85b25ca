// A linear layer over a large vocabulary, and its softmax cross-entropy with all gradients.
//
// Data flow, panel of words by panel:
//   logits         pack W -> product with x -> rows of logits
//   cross-entropy  pack W -> product with x -> exponentials, summed over all words; then back through the stored
//   panels:
//                  gradient of the logits -> dx += G W, dW = G^T x
//
// A panel processes the rows in slices, whose W, x and gradients stay in the L2 cache.
//
// Threads split the words, and so the weights and their gradient: one thread reads or writes each of them,
// once.
//
// Dimensions: rows N, width E (input features), words V (vocabulary).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "layer.h"

namespace lstmkit::LSTMKIT_ISA {

template <class T>
struct VocabularyLayer {
    static constexpr int L = lanes<T>;

    const VocabularyProblem& problem;
    const int64_t width = problem.width, words = problem.words, depth_blocks = blocks_of<T>(width);
    const int64_t panel_blocks = blocks_for(problem);  // blocks of words per panel

    static constexpr int64_t cached = 96 * 1024;  // bytes of W in a panel, and of x in a slice
    // There is at least one panel per thread.
    static int64_t blocks_for(const VocabularyProblem& p) {
        const int64_t most =
            std::clamp<int64_t>(cached / (static_cast<int64_t>(sizeof(T)) * L * p.width), 2, 24) / 2 * 2;
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
    // The number of words in the panel that begins at word `first`.
    int64_t words_in(int64_t first) const { return std::min(panel_words(), words - first); }

    int team() const {
        const double work = static_cast<double>(problem.rows) * width * words;
        return work < 2e5 ? 1 : static_cast<int>(std::min<int64_t>(problem.threads, panels()));
    }

    // Memory of one thread for a panel.
    struct Scratch {
        T* packed = nullptr;
        T* bias = nullptr;
    };
    Scratch take_scratch(Arena& arena) const {
        return {arena.take<T>(depth_blocks * L * panel_words()), arena.take<T>(panel_words())};
    }

    // Packs the weights of the words from `first` on, and their biases. Lanes past the last word get a bias that makes
    // their exponentials zero.
    Packed<T> pack(int64_t first, int64_t rows, const Scratch& scratch) const {
        const int64_t count = words_in(first), blocks = blocks_of<T>(count);
        Packed<T> w{scratch.packed, width, blocks, panel_width(rows)};
        pack_forward(w, weights(first), GateOrder{1, count}, w.depth, Range{0, blocks});
        for (int64_t i = 0; i < blocks * L; ++i)
            scratch.bias[i] =
                i < count ? static_cast<const T*>(problem.bias)[first + i] : std::numeric_limits<T>::lowest() / 4;
        return w;
    }

    static void logits(const VocabularyProblem& problem) {
        VocabularyLayer v{problem};
        const int64_t rows = problem.rows;
        Arena& arena = Arena::fresh();
        const Blocks<T> x = v.gathered(arena, nullptr, rows);
        const int team = v.team();
        std::vector<Scratch> scratches;
        std::vector<Blocks<T>> products;
        for (int i = 0; i < team; ++i) {
            scratches.push_back(v.take_scratch(arena));
            products.push_back(v.take(arena, v.panel_blocks, rows));
        }
        run_together(team, [&](int id) {
            const Range panels = Member{id, team}.part(v.panels());
            for (int64_t p = panels.begin; p < panels.end; ++p) {
                const int64_t first = p * v.panel_words(), count = v.words_in(first);
                const Packed<T> w = v.pack(first, rows, scratches[id]);
                product<T>(products[id], as_const(x), rows, w, Range{0, w.panels()}, scratches[id].bias);
                for (int64_t row = 0; row < rows; ++row)
                    scatter_row(static_cast<T*>(problem.logits) + row * v.words + first, as_const(products[id]), row,
                                count);
            }
        });
    }

    // Some rows of x: those with the indices `which`, or the first ones if it is null.
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

// The loss of some rows, all with a target, and their part of the gradients.
template <class T>
struct CrossEntropy : VocabularyLayer<T> {
    using Base = VocabularyLayer<T>;
    using Base::L, Base::problem, Base::width, Base::words, Base::depth_blocks;
    using typename Base::Scratch;

    // Of one thread, for each row: the largest logit so far, and the sum of the exponentials relative to it (online
    // softmax).
    struct Sums {
        T *top, *sum;
    };
    // Of one thread, backward.
    struct Gradients {
        Blocks<T> dx;
        T* d_weight;  // of a panel, in blocks
    };

    const int64_t* which;  // indices of the rows
    int64_t rows;
    bool is_first_part, has_gradients;
    T scale;  // one over the number of all rows with a target
    int threads = 1;
    Blocks<T> x{}, panel_logits{};  // all panels if there are gradients, else one per thread
    T* tops = nullptr;              // (panels, rows): subtracted from the logits of a panel before their exponentials
    T *target_logits = nullptr, *total = nullptr,
      *norm = nullptr;  // per row: logit of the target, sum of logits, log of the sum of exponentials
    std::vector<Scratch> scratches{};
    std::vector<Sums> sums{};
    std::vector<Gradients> gradients{};

    int64_t target(int64_t row) const { return problem.targets[which[row]]; }
    int64_t padded_rows() const { return ceil_div(rows, L) * L; }
    Blocks<T> logits_in(int64_t panel, int id) const {
        return {panel_logits.at((has_gradients ? panel : id) * this->panel_blocks), panel_logits.stride};
    }

    // Returns the sum of the losses of the rows.
    double run(Arena& arena) {
        threads = this->team();
        const int64_t scratch = padded_rows(), panels = this->panels();
        x = this->gathered(arena, which, rows);
        panel_logits = this->take(arena, (has_gradients ? panels : threads) * this->panel_blocks, rows);
        tops = arena.take<T>(panels * scratch);
        target_logits = arena.take<T>(scratch);
        total = arena.take<T>(threads * scratch);
        norm = arena.take<T>(scratch);
        for (int i = 0; i < threads; ++i) {
            scratches.push_back(this->take_scratch(arena));
            sums.push_back({arena.take<T>(scratch), arena.take<T>(scratch)});
            if (has_gradients)
                gradients.push_back(
                    {this->take(arena, depth_blocks, rows), arena.take<T>(depth_blocks * L * this->panel_words())});
        }
        Barrier barrier(threads);
        run_together(threads, [&](int id) {
            const Member member{id, threads, &barrier};
            forward(member);
            member.wait();
            if (id == 0) combine();
            member.wait();
            if (!has_gradients) return;
            backward(member);
            member.wait();
            add_up_dx(member.part(rows));
        });
        return loss();
    }

    void forward(const Member& member) const {
        const int id = member.rank;
        const Sums& s = sums[id];
        T* totals = total + id * padded_rows();
        for (int64_t row = 0; row < rows; ++row) {
            s.top[row] = std::numeric_limits<T>::lowest() / 2;
            s.sum[row] = totals[row] = 0;
        }
        const Range panels = member.part(this->panels());
        for (int64_t p = panels.begin; p < panels.end; ++p) {
            const int64_t first = p * this->panel_words();
            const Blocks<T> l = logits_in(p, id);
            const Packed<T> w = this->pack(first, rows, scratches[id]);
            this->for_slices(rows, [&](int64_t row, int64_t count) {
                product<T>(l.from_row(row), as_const(x.from_row(row)), count, w, Range{0, w.panels()},
                           scratches[id].bias);
                exponentiate(l, Range{row, row + count}, first, s, totals, tops + p * padded_rows());
            });
        }
    }

    // Replaces the logits of a panel by their exponentials relative to the largest logit so far.
    void exponentiate(Blocks<T> l, Range part, int64_t first, const Sums& s, T* totals, T* taken) const {
        const int64_t count = this->words_in(first), blocks = blocks_of<T>(count);
        for (int64_t row = part.begin; row < part.end; ++row) {
            const int64_t at = target(row) - first;
            if (at >= 0 && at < count) target_logits[row] = l.at(at / L, row)[at % L];
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

    // Combines the sums of all threads.
    void combine() const {
        for (int64_t row = 0; row < rows; ++row) {
            T top = sums[0].top[row];
            for (const Sums& s : sums) top = s.top[row] <= top ? top : s.top[row];
            T sum = 0;
            for (const Sums& s : sums) sum += s.sum[row] * std::exp(s.top[row] - top);
            for (int i = 1; i < threads; ++i) total[row] += total[i * padded_rows() + row];
            norm[row] = top + std::log(sum);
        }
        for (int64_t row = rows; row < padded_rows(); ++row) norm[row] = 0;
    }

    double loss() const {
        const double smoothing = problem.smoothing;
        double all = 0;
        for (int64_t row = 0; row < rows; ++row) {
            all += norm[row] - (1 - smoothing) * target_logits[row];
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
            const Blocks<T> d = logits_in(p, id), d_weight{g.d_weight, depth_blocks * L * L};
            T *taken = tops + p * padded_rows(), *d_bias = scratches[id].bias;
            Packed<T> w{scratches[id].packed, blocks * L, depth_blocks, panel_width(rows)};
            pack_backward(w, this->weights(first), GateOrder{1, count}, width, Range{0, w.panels()});
            std::memset(d_weight.data, 0, blocks * d_weight.stride * sizeof(T));
            std::memset(d_bias, 0, blocks * L * sizeof(T));
            factors(taken);
            this->for_slices(rows, [&](int64_t row, int64_t height) {
                differentiate(d, Range{row, row + height}, first, taken, d_bias);
                product<T>(g.dx.from_row(row), as_const(d.from_row(row)), height, w, Range{0, w.panels()}, nullptr);
                outer_product<T>(d_weight, as_const(x.from_row(row)), width, as_const(d.from_row(row)), height,
                                 Range{0, blocks});
            });
            unpack_gradient(static_cast<T*>(problem.d_weight) + first * width, g.d_weight, 0, 1, GateOrder{1, count},
                            width, Range{0, blocks}, !is_first_part);
            T* biases = static_cast<T*>(problem.d_bias) + first;
            for (int64_t i = 0; i < count; ++i) biases[i] = is_first_part ? d_bias[i] : biases[i] + d_bias[i];
        }
    }

    // Replaces what was subtracted from the logits by the factors from their exponentials to probabilities, times the
    // scale.
    void factors(T* taken) const {
        for (int64_t row = rows; row < padded_rows(); ++row) taken[row] = 0;
        for (int64_t row = 0; row < rows; row += L) {
            const Exponential<T> e = exponential<T>(load(taken + row) - load(norm + row));
            store(taken + row, (e.scale * e.p + e.scale) * scale);
        }
    }

    // Replaces the exponentials of a panel by the gradients of its logits, and sums them over the rows for the biases.
    void differentiate(Blocks<T> d, Range part, int64_t first, const T* factor, T* d_bias) const {
        const int64_t count = this->words_in(first), blocks = blocks_of<T>(count);
        const T spread = static_cast<T>(problem.smoothing / static_cast<double>(words)) * scale;
        const T target_weight = static_cast<T>(1 - problem.smoothing) * scale;
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
            d.at(at / L, row)[at % L] -= target_weight;
            d_bias[at] -= target_weight;
        }
    }

    // Adds up dx over the threads.
    void add_up_dx(Range part) const {
        for (int64_t row = part.begin; row < part.end; ++row) {
            T* to = static_cast<T*>(problem.dx) + which[row] * width;
            for (int64_t block = 0; block < depth_blocks; ++block) {
                Vec<T> sum = load(gradients[0].dx.at(block, row));
                for (int i = 1; i < threads; ++i) sum += load(gradients[i].dx.at(block, row));
                store_block<T>(to, block, width, sum);
            }
        }
    }

    // The mean over all rows with a target, some at a time to limit the memory of their exponentials.
    static double mean(const VocabularyProblem& problem) {
        constexpr int64_t at_once = 1 << 23;
        std::vector<int64_t> scored;
        for (int64_t row = 0; row < problem.rows; ++row)
            if (problem.targets[row] >= 0) scored.push_back(row);
        const int64_t count = static_cast<int64_t>(scored.size());
        const bool has_gradients = problem.dx != nullptr;
        if (has_gradients) {  // nothing else writes the rows without a target, nor the weights if there are no targets
            std::fill_n(static_cast<T*>(problem.dx), problem.rows * problem.width, T(0));
            std::fill_n(static_cast<T*>(problem.d_weight), count ? 0 : problem.words * problem.width, T(0));
            std::fill_n(static_cast<T*>(problem.d_bias), count ? 0 : problem.words, T(0));
        }
        const int64_t pieces = std::max(ceil_div(count, 1024), ceil_div(count * problem.words, at_once));
        double sum = 0;
        for (int64_t piece = 0; piece < pieces; ++piece) {
            const int64_t begin = count * piece / pieces, end = count * (piece + 1) / pieces;
            CrossEntropy rows{{problem},  scored.data() + begin, end - begin,
                              piece == 0, has_gradients,         T(1) / static_cast<T>(count)};
            sum += rows.run(Arena::fresh());
        }
        return count ? sum / static_cast<double>(count) : 0;
    }
};

}  // namespace lstmkit::LSTMKIT_ISA
