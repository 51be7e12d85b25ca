// What one call asks: plain numbers and pointers, the same for every instruction set.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace lstmkit {

enum class Cell : int { lstm, gru, rnn_tanh, rnn_relu };

// How numbers are stored; bfloat16 is computed in float32.
enum class Storage : int { float32, float64, bfloat16 };

// The order of the weights in every list, which is that of CellSpec.parameter_shapes.
enum Weight { weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, weight_peep, weight_ln_ih, weight_ln_hh, weight_ln_c, bias_ln_c, weight_count };

// Numbers (T, B, width) whose last dimension is contiguous; strides in numbers.
struct Steps {
    void* data = nullptr;
    int64_t step = 0, row = 0;
};

// The share of the old value that a state keeps: a mask (T, B, size), or one number.
struct Zoneout {
    bool on = false;
    const void* mask = nullptr;
    double share = 0;
};

// One direction. Everything but Steps is contiguous; a null pointer stands for zeros, or for a gradient nobody wants.
struct Pass {
    bool reverse = false;
    const void* weights[weight_count] = {};
    const void* state[2] = {};
    const void* mask = nullptr;
    Zoneout zoneout[2];
    Steps output;
    void* final_state[2] = {};
    void* saved = nullptr;  // what backward needs, of the type that is computed in; null: forward only

    Steps d_output;
    const void* d_final[2] = {};
    Steps dx;
    void* d_weights[weight_count] = {};
    void* d_state[2] = {};
};

struct Problem {
    Cell cell = Cell::lstm;
    Storage storage = Storage::float32;
    bool projected = false, peephole = false, coupled = false, layer_norm = false, recompute = false;
    int64_t steps = 0, batch = 0, inputs = 0, units = 0, outputs = 0;
    Steps x;
    const int64_t* lengths = nullptr;
    int threads = 1;
    int passes = 1;
    Pass pass[2];

    int gates() const { return cell == Cell::lstm ? (coupled ? 3 : 4) : cell == Cell::gru ? 3 : 1; }
    // Whether the input's and the state's share of the gates are kept apart.
    bool split() const { return cell == Cell::gru || layer_norm; }
};

// A linear layer over many words: logits = x W^T + bias, or their cross-entropy and its gradients. All of one type,
// contiguous; x is (rows, width), W (words, width). A target of -1 is not scored.
struct Words {
    Storage storage = Storage::float32;
    int64_t rows = 0, width = 0, words = 0;
    int threads = 1;
    const void *x = nullptr, *weight = nullptr, *bias = nullptr;
    void* logits = nullptr;

    const int64_t* targets = nullptr;
    double smoothing = 0;
    void *dx = nullptr, *d_weight = nullptr, *d_bias = nullptr;  // null: only the loss is wanted
};

// A stack of layers that keeps its state from step to step.
class Stepper {
public:
    virtual ~Stepper() = default;
    // (batch, inputs) -> (batch, outputs); `row`: numbers from one row of x to the next, `output` is contiguous.
    virtual void step(const void* x, int64_t row, void* output) = 0;
    virtual void state(int layer, void* hidden, void* cell) const = 0;
};

// What the module calls; one table for each instruction set.
struct Kernels {
    const char* name;
    int vector_bytes;
    int64_t (*saved_head)(const Problem&);  // numbers that forward leaves for backward: of each pass, and
    int64_t (*saved_row)(const Problem&);   // of each row: each step of each sequence, under recompute only some steps
    void (*forward)(const Problem&);
    void (*backward)(const Problem&);
    std::unique_ptr<Stepper> (*stepper)(const std::vector<Problem>&, bool residual);
    void (*logits)(const Words&);
    double (*cross_entropy)(const Words&);  // the mean over the rows that are scored
    double (*fma)(int64_t rounds);  // floating-point operations done, for the measure of the machine's peak
};

}  // namespace lstmkit
