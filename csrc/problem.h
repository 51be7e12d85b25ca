// The arguments of a call: plain numbers and pointers, the same for every instruction set.
//
// Dimensions: T steps, B batch (rows), F inputs, H units, P outputs (H, or the projection size), G gates.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace lstmkit {

enum class Cell : int { lstm, gru, rnn_tanh, rnn_relu };

// The storage type of tensors; bfloat16 is computed in float32.
enum class Storage : int { float32, float64, bfloat16 };

// The order of the weights in every list, which is that of CellSpec.parameter_shapes.
enum Weight {
    weight_ih,
    weight_hh,
    bias_ih,
    bias_hh,
    weight_hr,
    weight_peep,
    weight_ln_ih,
    weight_ln_hh,
    weight_ln_c,
    bias_ln_c,
    scale_ih,  // of the rows of matrices in 8 bits
    scale_hh,
    scale_hr,
    weight_count
};

// A tensor (T, B, width) whose last dimension is contiguous; strides in elements.
struct Steps {
    void* data = nullptr;
    int64_t step = 0, row = 0;
};

// Zoneout of one state: a mask (T, B, size), or the probability that a unit keeps its old value.
struct Zoneout {
    bool on = false;
    const void* mask = nullptr;
    double probability = 0;
};

// One direction. Everything except Steps is contiguous; a null pointer means zeros, or a gradient that is not wanted.
struct Pass {
    bool reverse = false;
    const void* weights[weight_count] = {};
    const void* state[2] = {};
    const void* mask = nullptr;
    Zoneout zoneout[2];
    Steps output;
    void* final_state[2] = {};
    void* saved = nullptr;  // what backward needs, in the compute type; null: forward only

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
    bool int8 = false;  // matrices in 8 bits, forward only
    bool vnni = false;  // whether the CPU has VNNI instructions for the vectors of the kernels
    int64_t steps = 0, batch = 0, inputs = 0, units = 0, outputs = 0;
    Steps x;
    const int64_t* lengths = nullptr;
    int threads = 1;
    int passes = 1;
    Pass pass[2];

    int gates() const { return cell == Cell::lstm ? (coupled ? 3 : 4) : cell == Cell::gru ? 3 : 1; }
    // Whether input projection and recurrent projection of the gates are stored separately.
    bool split() const { return cell == Cell::gru || layer_norm; }
};

// A linear layer over a vocabulary: logits = x W^T + bias, or their cross-entropy and its gradients. All tensors have
// one type and are contiguous; x is (rows, width), W (words, width). Targets of -1 are ignored.
struct VocabularyProblem {
    Storage storage = Storage::float32;
    int64_t rows = 0, width = 0, words = 0;
    int threads = 1;
    const void *x = nullptr, *weight = nullptr, *bias = nullptr;
    void* logits = nullptr;

    const int64_t* targets = nullptr;
    double smoothing = 0;
    void *dx = nullptr, *d_weight = nullptr, *d_bias = nullptr;  // null: only the loss
};

// A stack of layers that runs one step per call and keeps its state.
class Stepper {
public:
    virtual ~Stepper() = default;
    // (batch, inputs) -> (batch, outputs); `row`: elements from one row of x to the next; `output` is contiguous.
    virtual void step(const void* x, int64_t row, void* output) = 0;
    virtual void state(int layer, void* hidden, void* cell) const = 0;
};

// The functions that the module calls; one table for each instruction set.
struct Kernels {
    const char* name;
    int vector_bytes;
    int64_t (*saved_head)(const Problem&);  // elements that forward saves for backward: per pass, and
    int64_t (*saved_row)(const Problem&);   // per row, that is each step of each sequence; with recompute only some
    void (*forward)(const Problem&);
    void (*backward)(const Problem&);
    std::unique_ptr<Stepper> (*stepper)(const std::vector<Problem>&, bool residual);
    void (*logits)(const VocabularyProblem&);
    double (*cross_entropy)(const VocabularyProblem&);  // the mean over the rows whose target counts
    double (*fma)(int64_t rounds);  // floating-point operations done; measures the peak of the machine
};

}  // namespace lstmkit
