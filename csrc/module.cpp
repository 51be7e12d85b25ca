// The Python module lstmkit._native: picks the kernels for this processor and hands calls over, without the GIL.
//
// Tensors come as addresses (Tensor.data_ptr()), so that neither this file nor the kernels depend on torch. Sizes, types
// and strides are checked in ops/native.py, which is the only caller; what would write past the end is checked here again.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "pages.h"
#include "pool.h"
#include "problem.h"

namespace nb = nanobind;

namespace lstmkit {
namespace portable { extern const Kernels kernels; }
#ifdef LSTMKIT_HAS_V3
namespace x86_64_v3 { extern const Kernels kernels; }
#endif
#ifdef LSTMKIT_HAS_V4
namespace x86_64_v4 { extern const Kernels kernels; }
#endif

namespace {

// The kernels that this processor can run, the fastest first.
std::vector<const Kernels*> able() {
    std::vector<const Kernels*> found;
#if defined(LSTMKIT_HAS_V3) || defined(LSTMKIT_HAS_V4)
    __builtin_cpu_init();
#endif
#ifdef LSTMKIT_HAS_V4
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        found.push_back(&x86_64_v4::kernels);
#endif
#ifdef LSTMKIT_HAS_V3
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("bmi2"))
        found.push_back(&x86_64_v3::kernels);
#endif
    found.push_back(&portable::kernels);
    return found;
}

const Kernels* kernels = able().front();

// Numbers handed over by Python, read in order.
class Reader {
public:
    explicit Reader(const std::vector<int64_t>& numbers) : numbers_(numbers) {}
    int64_t number() {
        if (next_ == numbers_.size()) throw std::invalid_argument("lstmkit._native: too few numbers for a pass");
        return numbers_[next_++];
    }
    void* address() { return reinterpret_cast<void*>(static_cast<uintptr_t>(number())); }
    Steps steps() {
        Steps s;
        s.data = address();
        s.step = number();
        s.row = number();
        return s;
    }

private:
    const std::vector<int64_t>& numbers_;
    std::size_t next_ = 0;
};

// One layer: what does not change from call to call.
class Layer {
public:
    Layer(int cell, int storage, int64_t inputs, int64_t units, int64_t projection, bool peephole, bool coupled, bool layer_norm,
          bool recompute, const std::vector<bool>& reverse) {
        p_.cell = static_cast<Cell>(cell);
        p_.storage = static_cast<Storage>(storage);
        p_.inputs = inputs;
        p_.units = units;
        p_.projected = projection > 0;
        p_.outputs = projection > 0 ? projection : units;
        p_.peephole = peephole;
        p_.coupled = coupled;
        p_.layer_norm = layer_norm;
        p_.recompute = recompute;
        p_.passes = static_cast<int>(reverse.size());
        if (p_.passes < 1 || p_.passes > 2) throw std::invalid_argument("lstmkit._native: one pass or two");
        for (int i = 0; i < p_.passes; ++i) p_.pass[i].reverse = reverse[i];
    }

    // Numbers that forward leaves for backward: (of each call, of each row of saved ones).
    nb::tuple saved(bool zones_cell) const {
        Problem p = p_;
        p.pass[0].zoneout[1].on = zones_cell;
        return nb::make_tuple(kernels->saved_head(p), kernels->saved_row(p));
    }

    void forward(const std::vector<int64_t>& call, const std::vector<std::vector<int64_t>>& passes,
                 const std::vector<double>& zoneout) const {
        Problem p = read_call(call, zoneout);
        for (int i = 0; i < p.passes; ++i) read_pass(Reader(passes.at(i)), p.pass[i]);
        nb::gil_scoped_release release;
        kernels->forward(p);
    }

    void gradients(const std::vector<int64_t>& call, const std::vector<std::vector<int64_t>>& passes,
                  const std::vector<double>& zoneout) const {
        Problem p = read_call(call, zoneout);
        for (int i = 0; i < p.passes; ++i) {
            Reader reader = read_pass(Reader(passes.at(i)), p.pass[i]);
            Pass& pass = p.pass[i];
            pass.d_output = reader.steps();
            for (const void*& d : pass.d_final) d = reader.address();
            pass.dx = reader.steps();
            for (void*& d : pass.d_weights) d = reader.address();
            for (void*& d : pass.d_state) d = reader.address();
        }
        nb::gil_scoped_release release;
        kernels->backward(p);
    }

    Problem one_step(int64_t batch, int threads, const std::vector<int64_t>& pass, const std::vector<double>& zoneout) const {
        Problem p = p_;
        p.steps = 1;
        p.batch = batch;
        p.threads = threads;
        read_pass(Reader(pass), p.pass[0]);
        set_zoneout(p, zoneout);
        return p;
    }

private:
    static void set_zoneout(Problem& p, const std::vector<double>& shares) {
        for (std::size_t i = 0; i < shares.size() && i < 4; ++i) {
            Zoneout& z = p.pass[i / 2].zoneout[i % 2];
            z.on = z.on || shares[i] != 0;
            z.share = shares[i];
        }
    }

    Problem read_call(const std::vector<int64_t>& numbers, const std::vector<double>& zoneout) const {
        Problem p = p_;
        Reader reader(numbers);
        p.steps = reader.number();
        p.batch = reader.number();
        p.threads = static_cast<int>(reader.number());
        p.lengths = static_cast<const int64_t*>(reader.address());
        p.x = reader.steps();
        for (int64_t i = 0; p.lengths && i < p.batch; ++i) {
            if (p.lengths[i] < 0 || p.lengths[i] > p.steps)
                throw std::invalid_argument("lengths must be in 0.." + std::to_string(p.steps) + ", got " + std::to_string(p.lengths[i]));
        }
        set_zoneout(p, zoneout);
        return p;
    }

    // The order of the numbers of a pass is that of ops/native.py.
    static Reader read_pass(Reader reader, Pass& pass) {
        for (const void*& weight : pass.weights) weight = reader.address();
        for (const void*& state : pass.state) state = reader.address();
        pass.mask = reader.address();
        for (Zoneout& z : pass.zoneout) {
            z.mask = reader.address();
            z.on = z.on || z.mask;
        }
        pass.output = reader.steps();
        for (void*& state : pass.final_state) state = reader.address();
        pass.saved = reader.address();
        return reader;
    }

    Problem p_;
};

// A stack that runs step by step. `batch` and the passes are those of Layer.forward, without outputs.
class Stack {
public:
    Stack(const std::vector<const Layer*>& layers, int64_t batch, int threads, const std::vector<std::vector<int64_t>>& passes,
          const std::vector<double>& zoneout, bool residual) {
        std::vector<Problem> problems;
        for (std::size_t i = 0; i < layers.size(); ++i) problems.push_back(layers[i]->one_step(batch, threads, passes.at(i), zoneout));
        if (problems.empty()) throw std::invalid_argument("lstmkit._native: a stack needs a layer");
        stepper_ = kernels->stepper(problems, residual);
    }

    void step(uintptr_t x, uintptr_t output) {
        nb::gil_scoped_release release;
        stepper_->step(reinterpret_cast<const void*>(x), reinterpret_cast<void*>(output));
    }

    void state(int layer, uintptr_t hidden, uintptr_t cell) const {
        stepper_->state(layer, reinterpret_cast<void*>(hidden), reinterpret_cast<void*>(cell));
    }

private:
    std::unique_ptr<Stepper> stepper_;
};

std::vector<std::string> names() {
    std::vector<std::string> found;
    for (const Kernels* k : able()) found.emplace_back(k->name);
    return found;
}

void use(const std::string& name) {
    for (const Kernels* k : able()) {
        if (name == k->name) {
            kernels = k;
            return;
        }
    }
    throw std::invalid_argument("lstmkit._native: this processor has no kernels named " + name);
}

// A tensor (rows, columns) in borrowed memory, which goes back when the tensor is gone.
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
    return nb::ndarray<nb::pytorch>(loan->data, 2, shape, owner, nullptr, doubles ? nb::dtype<double>() : nb::dtype<float>());
}

// Floating-point operations a second of `threads` threads that do nothing but multiply and add.
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
    m.def("lanes", [](int storage) { return kernels->vector_bytes / (static_cast<Storage>(storage) == Storage::float64 ? 8 : 4); });
    m.def("share_openmp", [](const std::string& library) { return share_openmp(library.c_str()); },
          "Run on the threads of this OpenMP library, if it is GNU's and loaded; says whether it is.");
    m.def("borrowed", &borrowed, nb::rv_policy::reference);
    m.def("fma_peak", &fma_peak, nb::arg("threads"), nb::arg("seconds") = 0.2,
          "Floating-point operations a second (float32) that `threads` threads reach with nothing but multiply-adds.");
    nb::class_<Layer>(m, "Layer")
        .def(nb::init<int, int, int64_t, int64_t, int64_t, bool, bool, bool, bool, const std::vector<bool>&>())
        .def("saved", &Layer::saved)
        .def("forward", &Layer::forward)
        .def("gradients", &Layer::gradients);
    nb::class_<Stack>(m, "Stack")
        .def(nb::init<const std::vector<const Layer*>&, int64_t, int, const std::vector<std::vector<int64_t>>&,
                      const std::vector<double>&, bool>())
        .def("step", &Stack::step)
        .def("state", &Stack::state);
}
