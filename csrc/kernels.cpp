// The kernels; this file is compiled once for each instruction set.
#include "backward.h"
#include "stepper.h"
#include "linear_cross_entropy.h"

namespace lstmkit::LSTMKIT_ISA {
namespace {

void forward(const Problem& p) {
    if (p.int8) return Forward<float, float, int8_t>::run(p);
    switch (p.storage) {
        case Storage::float32: return Forward<float, float>::run(p);
        case Storage::float64: return Forward<double, double>::run(p);
        case Storage::bfloat16: return Forward<float, BFloat16>::run(p);
    }
}

void backward(const Problem& p) {
    switch (p.storage) {
        case Storage::float32: return Backward<float, float>::run(p);
        case Storage::float64: return Backward<double, double>::run(p);
        case Storage::bfloat16: return Backward<float, BFloat16>::run(p);
    }
}

int64_t saved_head(const Problem& p) { return p.storage == Storage::float64 ? lanes<double> : lanes<float>; }

int64_t saved_row(const Problem& p) {
    return p.storage == Storage::float64 ? Layer<double, double>::saved_row(p) : Layer<float, float>::saved_row(p);
}

std::unique_ptr<Stepper> stepper(const std::vector<Problem>& layers, bool residual) {
    if (layers.front().int8) return std::make_unique<StackStepper<float, float, int8_t>>(layers, residual);
    switch (layers.front().storage) {
        case Storage::float64: return std::make_unique<StackStepper<double, double>>(layers, residual);
        case Storage::bfloat16: return std::make_unique<StackStepper<float, BFloat16>>(layers, residual);
        default: return std::make_unique<StackStepper<float, float>>(layers, residual);
    }
}

void logits(const VocabularyProblem& p) {
    p.storage == Storage::float64 ? VocabularyLayer<double>::logits(p) : VocabularyLayer<float>::logits(p);
}

double cross_entropy(const VocabularyProblem& p) {
    return p.storage == Storage::float64 ? CrossEntropy<double>::mean(p) : CrossEntropy<float>::mean(p);
}

// Only multiplications and additions: the peak of one core.
double fma(int64_t rounds) {
    constexpr int chains = registers == 32 ? 24 : 12;
    Vec<float> sum[chains];
    for (int i = 0; i < chains; ++i) sum[i] = broadcast(1.0f + static_cast<float>(i));
    volatile float unknown_factor = 0.999f,
                   unknown_addend = 0.001f;  // unknown to the compiler, which would compute the result
    const Vec<float> factor = broadcast<float>(unknown_factor), addend = broadcast<float>(unknown_addend);
    for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 32
        for (int i = 0; i < chains; ++i) sum[i] = sum[i] * factor + addend;
    }
    float all = 0;
    for (int i = 0; i < chains; ++i) all += sum_of_lanes<float>(sum[i]);
    volatile float used = all;
    (void)used;
    return 2.0 * chains * lanes<float> * static_cast<double>(rounds);
}

}  // namespace

#define LSTMKIT_STRING_OF(x) #x
#define LSTMKIT_STRING(x) LSTMKIT_STRING_OF(x)

extern const Kernels kernels;
const Kernels kernels{LSTMKIT_STRING(LSTMKIT_ISA),
                      LSTMKIT_VECTOR_BYTES,
                      saved_head,
                      saved_row,
                      forward,
                      backward,
                      stepper,
                      logits,
                      cross_entropy,
                      fma};

}  // namespace lstmkit::LSTMKIT_ISA
