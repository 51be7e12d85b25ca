// The Python module lstmkit._native: selects the kernels for this CPU and calls them without the GIL.
//
// ops/cpu/kernels.py and ops/cpu/linear_cross_entropy.py are the only callers. Nothing is linked against torch; see
// tensor.h.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "arguments.h"
#include "pages.h"
#include "pool.h"
#include "problem.h"

namespace lstmkit {
namespace portable {
extern const Kernels kernels;
}
#ifdef LSTMKIT_HAS_V3
namespace x86_64_v3 {
extern const Kernels kernels;
}
#endif
#ifdef LSTMKIT_HAS_V4
namespace x86_64_v4 {
extern const Kernels kernels;
}
#endif

namespace {

// The kernels that this CPU can run, the fastest first.
std::vector<const Kernels*> able() {
    std::vector<const Kernels*> supported;
#if defined(LSTMKIT_HAS_V3) || defined(LSTMKIT_HAS_V4)
    __builtin_cpu_init();
#endif
#ifdef LSTMKIT_HAS_V4
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        supported.push_back(&x86_64_v4::kernels);
#endif
#ifdef LSTMKIT_HAS_V3
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("bmi2"))
        supported.push_back(&x86_64_v3::kernels);
#endif
    supported.push_back(&portable::kernels);
    return supported;
}

const Kernels* kernels = able().front();

// Whether the CPU has VNNI instructions for the vectors of the kernels in use, and whether they are wanted.
bool vnni_wanted = true;

bool has_vnni() {
    if (!vnni_wanted) return false;
#if defined(__x86_64__)
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (kernels->vector_bytes == 64) return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ecx >> 11 & 1);
    if (kernels->vector_bytes == 32) return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1);
#endif
    return false;
}

// A layer: everything that stays the same from call to call.
class Layer {
public:
    Layer(int cell, int storage, int64_t inputs, int64_t units, int64_t projection, bool peephole, bool coupled,
          bool layer_norm, bool int8, bool recompute, const std::vector<bool>& reverse,
          const std::vector<int>& weights) {
        p_.cell = static_cast<Cell>(cell);
        p_.storage = static_cast<Storage>(storage);
        p_.inputs = inputs;
        p_.units = units;
        p_.projected = projection > 0;
        p_.outputs = projection > 0 ? projection : units;
        p_.peephole = peephole;
        p_.coupled = coupled;
        p_.layer_norm = layer_norm;
        p_.int8 = int8;
        p_.vnni = int8 && has_vnni();
        if (int8 && p_.storage != Storage::float32)
            throw std::invalid_argument("lstmkit._native: weights in 8 bits need activations in float32");
        p_.recompute = recompute;
        p_.passes = static_cast<int>(reverse.size());
        if (p_.passes < 1 || p_.passes > 2)
            throw std::invalid_argument("lstmkit._native: expected one or two passes, got " +
                                        std::to_string(p_.passes));
        for (int i = 0; i < p_.passes; ++i) p_.pass[i].reverse = reverse[i];
        for (int weight : weights) named_.push_back(static_cast<Weight>(weight));
    }

    // Elements that forward saves for backward: (per pass, per saved row).
    nb::tuple saved(bool zones_cell) const {
        Problem p = p_;
        p.pass[0].zoneout[1].on = zones_cell;
        return nb::make_tuple(kernels->saved_head(p), kernels->saved_row(p));
    }

    // `inputs`: a kernels.Inputs: x, weights, states, noise, lengths, zoneout probabilities.
    void forward(nb::handle inputs, int threads, nb::handle output, nb::handle h, nb::handle c,
                 nb::handle saved) const {
        Arguments arguments = read(inputs, threads);
        arguments.read_results(output, h, c);
        arguments.read_saved(saved);
        nb::gil_scoped_release release;
        kernels->forward(arguments.problem);
    }

    void gradients(nb::handle inputs, int threads, nb::handle output, nb::handle saved, nb::handle output_grads,
                   nb::handle dx, nb::handle d_weights, nb::handle d_states) const {
        if (p_.int8) throw std::invalid_argument("lstmkit._native: weights in 8 bits have no gradients");
        Arguments arguments = read(inputs, threads);
        arguments.read_output(output);
        arguments.read_saved(saved);
        arguments.read_gradients(named_, Items(output_grads), Items(dx), Items(d_weights), Items(d_states));
        nb::gil_scoped_release release;
        kernels->backward(arguments.problem);
    }

    Arguments read(nb::handle inputs, int threads) const {
        const Items in(inputs);
        if (in.count != 6)
            throw std::invalid_argument("lstmkit._native: expected 6 inputs, got " + std::to_string(in.count));
        Arguments arguments(p_);
        arguments.read_input(in[0], in[4], threads);
        arguments.read_passes(named_, Items(in[1]), Items(in[2]), Items(in[3]), Items(in[5]));
        return arguments;
    }

private:
    Problem p_;
    std::vector<Weight> named_;  // the weights of a pass, in the order of the arguments
};

// A stack of layers that runs one step per call.
class Stack {
public:
    // `inputs`: for each layer those of one step; only weights, states and noise are read.
    Stack(const std::vector<const Layer*>& layers, nb::handle inputs, int threads, bool residual) {
        const Items each(inputs);
        if (layers.empty() || each.count != layers.size())
            throw std::invalid_argument("lstmkit._native: a stack needs at least one layer, and inputs for each");
        std::vector<Arguments> arguments;
        std::vector<Problem> problems;
        for (std::size_t i = 0; i < layers.size(); ++i) {
            arguments.push_back(layers[i]->read(each[i], threads));
            problems.push_back(arguments.back().problem);
        }
        inputs_ = problems.front().inputs;
        outputs_ = problems.back().outputs;
        batch_ = problems.front().batch;
        type_ = static_cast<Type>(problems.front().storage);
        for (const Problem& p : problems)
            if (p.int8 != problems.front().int8)
                throw std::invalid_argument("lstmkit._native: a stack has either all matrices in 8 bits or none");
        stepper_ = kernels->stepper(problems, residual);
    }

    // Returns whether the step was done: both must be plain tensors of the shape and dtype of the stack, x with
    // contiguous rows, output contiguous.
    bool step(nb::handle x, nb::handle output) {
        if (!is_plain(x) || !is_plain(output)) return false;
        const Tensor from = read_tensor(x), to = read_tensor(output);
        if (!fits(from, inputs_) || !fits(to, outputs_) || !to.is_contiguous() || is_negated(x) || is_negated(output))
            return false;
        nb::gil_scoped_release release;
        stepper_->step(from.data, from.stride[0], to.data);
        return true;
    }

    void state(int layer, uintptr_t hidden, uintptr_t cell) const {
        stepper_->state(layer, reinterpret_cast<void*>(hidden), reinterpret_cast<void*>(cell));
    }

private:
    bool fits(const Tensor& t, int64_t width) const {
        return t.dims == 2 && t.shape[0] == batch_ && t.shape[1] == width && (t.stride[1] == 1 || width == 1) &&
               t.type == type_ && t.in_memory && t.is_aligned();
    }

    int64_t batch_, inputs_, outputs_;
    Type type_;
    std::unique_ptr<Stepper> stepper_;
};

std::vector<std::string> names() {
    std::vector<std::string> supported;
    for (const Kernels* k : able()) supported.emplace_back(k->name);
    return supported;
}

void use(const std::string& name) {
    for (const Kernels* k : able()) {
        if (name == k->name) {
            kernels = k;
            return;
        }
    }
    throw std::invalid_argument("lstmkit._native: this CPU has no kernels named " + name);
}

void logits(nb::handle x, nb::handle weight, nb::handle bias, int threads, nb::handle result) {
    VocabularyArguments arguments(x, weight, bias, threads);
    arguments.read_logits(result);
    nb::gil_scoped_release release;
    kernels->logits(arguments.problem);
}

double cross_entropy(nb::handle x, nb::handle weight, nb::handle bias, nb::handle targets, double smoothing,
                     int threads, nb::handle dx, nb::handle d_weight, nb::handle d_bias) {
    VocabularyArguments arguments(x, weight, bias, threads);
    arguments.read_targets(targets, smoothing);
    arguments.read_gradients(dx, d_weight, d_bias);
    nb::gil_scoped_release release;
    return kernels->cross_entropy(arguments.problem);
}

// A tensor (rows, columns) in borrowed memory, which is returned when the tensor is freed.
nb::ndarray<nb::pytorch> borrowed(std::size_t rows, std::size_t columns, bool doubles) {
    const std::size_t bytes = rows * columns * (doubles ? sizeof(double) : sizeof(float));
    struct Loan {
        void* data;
        std::size_t bytes;
    };
    auto* loan = new Loan{borrow_pages(bytes), bytes};
    nb::capsule owner(loan, [](void* p) noexcept {
        auto* back = static_cast<Loan*>(p);
        return_pages(back->data, back->bytes);
        delete back;
    });
    const std::size_t shape[2] = {rows, columns};
    return nb::ndarray<nb::pytorch>(loan->data, 2, shape, owner, nullptr,
                                    doubles ? nb::dtype<double>() : nb::dtype<float>());
}

// Floating-point operations per second of `threads` threads that only multiply and add.
double fma_peak(int threads, double seconds) {
    nb::gil_scoped_release release;
    using Clock = std::chrono::steady_clock;
    std::vector<double> speed(static_cast<std::size_t>(threads));
    run_together(threads, [&](int id) {
        double done = 0;
        const auto begin = Clock::now();
        double passed = 0;
        while (passed < seconds) {
            done += kernels->fma(100000);
            passed = std::chrono::duration<double>(Clock::now() - begin).count();
        }
        speed[static_cast<std::size_t>(id)] = done / passed;
    });
    double all = 0;
    for (double s : speed) all += s;
    return all;
}

}  // namespace
}  // namespace lstmkit

NB_MODULE(_native, m) {
    using namespace lstmkit;
    nb::set_leak_warnings(false);  // layers kept in a cache live until the interpreter ends
    m.doc() = "The C++ kernels of lstmkit; lstmkit.ops.native is their only user.";
    m.def("names", &names, "Instruction sets there are kernels for and this processor has, the fastest first.");
    m.def("name", [] { return kernels->name; }, "The one in use.");
    m.def("use", &use, "Use the kernels of another instruction set.");
    m.def("lanes", [](int storage) {
        return kernels->vector_bytes / (static_cast<Storage>(storage) == Storage::float64 ? 8 : 4);
    });
    m.def(
        "share_openmp", [](const std::string& library) { return share_openmp(library.c_str()); },
        "Run on the threads of this OpenMP library, if it is GNU's and loaded; says whether it is.");
    m.def("borrowed", &borrowed, nb::rv_policy::reference);
    m.def("fma_peak", &fma_peak, nb::arg("threads"), nb::arg("seconds") = 0.2,
          "Floating-point operations a second (float32) that `threads` threads reach with nothing but multiply-adds.");
    m.def("know_tensors", &know_tensors);
    m.def("use_exchange", &use_exchange,
          "Read tensors by DLPack's exchange interface or by their attributes; says whether by the first.");
    m.def(
        "use_vnni", [](bool wanted) { return vnni_wanted = wanted, has_vnni(); },
        "Whether layers made from now on may multiply weights in 8 bits by VNNI instructions; says whether they do.");
    m.def("logits", &logits);
    m.def("cross_entropy", &cross_entropy, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
          nb::arg().none(), nb::arg().none(), nb::arg().none());
    nb::class_<Layer>(m, "Layer")
        .def(nb::init<int, int, int64_t, int64_t, int64_t, bool, bool, bool, bool, bool, const std::vector<bool>&,
                      const std::vector<int>&>())
        .def("saved", &Layer::saved)
        .def("forward", &Layer::forward, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg().none())
        .def("gradients", &Layer::gradients);
    nb::class_<Stack>(m, "Stack")
        .def(nb::init<const std::vector<const Layer*>&, nb::handle, int, bool>())
        .def("step", &Stack::step)
        .def("state", &Stack::state);
}
