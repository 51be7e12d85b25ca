// Checks the tensors of a call and reads their addresses and strides. The kernels access as much memory as the sizes
// say, so a smaller tensor must not reach them.
#pragma once

#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "problem.h"
#include "tensor.h"

namespace lstmkit {

// The items of a list or tuple, borrowed. Only functions of Python's stable ABI are called.
class Items {
public:
    std::size_t count;

    explicit Items(nb::handle from) : from_(from.ptr()), is_list_(PyList_Check(from_)) {
        if (!is_list_ && !PyTuple_Check(from_)) throw nb::type_error("lstmkit._native: expected a list or tuple");
        count = static_cast<std::size_t>(is_list_ ? PyList_Size(from_) : PyTuple_Size(from_));
    }
    nb::handle operator[](std::size_t i) const {
        const auto index = static_cast<Py_ssize_t>(i);
        return is_list_ ? PyList_GetItem(from_, index) : PyTuple_GetItem(from_, index);
    }

private:
    PyObject* from_;
    bool is_list_;
};

// Reads tensors of an expected shape and dtype.
class Reader {
protected:
    struct Shape {
        int dims;
        int64_t sizes[3];
        Shape(std::initializer_list<int64_t> extents) : dims(static_cast<int>(extents.size())), sizes{1, 1, 1} {
            std::copy(extents.begin(), extents.end(), sizes);
        }
    };

    static std::string text(const Shape& shape) {
        std::string s = "(";
        for (int i = 0; i < shape.dims; ++i)
            s += (i ? ", " : "") + (shape.sizes[i] < 0 ? "..." : std::to_string(shape.sizes[i]));
        return s + (shape.dims == 1 ? ",)" : ")");
    }
    [[noreturn]] static void refuse(const char* what, const std::string& shape, Type type, const Tensor& t) {
        throw std::invalid_argument(std::string("expected ") + what + " " + shape + ", " + name_of(type) + "; got " +
                                    t.text());
    }
    Tensor checked(nb::handle tensor, const char* what, const Shape& shape, Type wanted) const {
        const Tensor t = read_tensor(tensor);
        if (!fits(t, shape) || t.type != wanted || !t.in_memory) refuse(what, text(shape), wanted, t);
        return t;
    }
    static bool fits(const Tensor& t, const Shape& shape) {
        return t.dims == shape.dims && std::equal(t.shape, t.shape + shape.dims, shape.sizes);
    }

    // A copy in the form that the kernels need. It lives as long as this object.
    Tensor copy(nb::handle tensor, Type wanted) {
        copies_.push_back(tidy_copy(tensor, wanted));
        return read_tensor(copies_.back());
    }

    // The address of contiguous data: of the tensor, or of a copy.
    const void* whole(nb::handle tensor, const char* what, const Shape& shape, Type wanted) {
        const Tensor t = checked(tensor, what, shape, wanted);
        return t.is_contiguous() && t.is_aligned() && !is_negated(tensor) ? t.data : copy(tensor, wanted).data;
    }
    // The same, from any dtype and device.
    const void* converted(nb::handle tensor, const char* what, const Shape& shape, Type wanted) {
        const Tensor t = read_tensor(tensor);
        if (!fits(t, shape)) refuse(what, text(shape), wanted, t);
        return t.type == wanted && t.in_memory ? whole(tensor, what, shape, wanted) : copy(tensor, wanted).data;
    }
    static bool is_wanted(nb::handle t) { return !t.is_none() && read_tensor(t).count() != 0; }

    // The address of a result.
    void* result(nb::handle tensor, const Shape& shape, Type wanted) const {
        if (!is_wanted(tensor)) return nullptr;
        const Tensor t = checked(tensor, "a result", shape, wanted);
        if (!t.is_contiguous() || !t.is_aligned())
            throw std::invalid_argument("lstmkit._native: a result must be contiguous");
        return t.data;
    }

private:
    std::vector<nb::object> copies_;
};

class Arguments : Reader {
public:
    explicit Arguments(const Problem& layer) : problem(layer) {}

    Problem problem;

    // x (T, B, F), any strides; lengths (B,) or None.
    void read_input(nb::handle x, nb::handle lengths, int threads) {
        const Tensor t = read_tensor(x);
        if (t.dims != 3 || t.shape[2] != problem.inputs || t.type != type() || !t.in_memory)
            refuse("input", text({-1, -1, problem.inputs}), type(), t);
        problem.steps = t.shape[0];
        problem.batch = t.shape[1];
        problem.threads = threads;
        problem.x = rows(x, t, true);
        if (lengths.is_none()) return;
        problem.lengths = static_cast<const int64_t*>(converted(lengths, "lengths", {problem.batch}, Type::int64));
        for (int64_t i = 0; i < problem.batch; ++i) {
            if (problem.lengths[i] < 0 || problem.lengths[i] > problem.steps)
                throw std::invalid_argument("lengths must be in 0.." + std::to_string(problem.steps) + ", got " +
                                            std::to_string(problem.lengths[i]));
        }
    }

    // The inputs of the passes. Pass after pass: the weights `named`; the states (or none for zeros); three noise masks
    // or None (recurrent dropout, zoneout of hidden and cell state); two zoneout probabilities.
    void read_passes(const std::vector<Weight>& named, Items weights, Items states, Items noise,
                     Items zoneout_probabilities) {
        const std::size_t passes = static_cast<std::size_t>(problem.passes),
                          own_states = states.count ? state_count() : 0;
        count("weights", weights, named.size() * passes);
        count("states", states, own_states * passes);
        count("noise masks", noise, 3 * passes);
        if (zoneout_probabilities.count != 2 * passes)
            throw std::invalid_argument("expected two zoneout probabilities per pass");
        for (std::size_t i = 0; i < passes; ++i) {
            Pass& pass = problem.pass[i];
            for (std::size_t k = 0; k < named.size(); ++k)
                pass.weights[named[k]] = weight(weights[i * named.size() + k], named[k]);
            for (std::size_t k = 0; k < own_states; ++k)
                pass.state[k] = whole(states[i * own_states + k], "a state", {problem.batch, state_size(k)}, type());
            const auto mask = [&](std::size_t k, std::initializer_list<int64_t> shape) -> const void* {
                const nb::handle t = noise[3 * i + k];
                return t.is_none() ? nullptr : converted(t, "a noise mask", shape, type());
            };
            pass.mask = mask(0, {problem.batch, problem.outputs});
            for (std::size_t k = 0; k < 2; ++k) {
                Zoneout& z = pass.zoneout[k];
                z.mask = mask(1 + k, {problem.steps, problem.batch, k ? problem.units : problem.outputs});
                z.probability = PyFloat_AsDouble(zoneout_probabilities[2 * i + k].ptr());
                z.on = z.mask || z.probability != 0;
            }
        }
    }

    // The results of forward: output (T, B, passes * P), final states (passes, B, size) or None.
    void read_results(nb::handle output, nb::handle h, nb::handle c) {
        read_output(output, false);
        nb::handle final_states[] = {h, c};
        for (std::size_t k = 0; k < state_count(); ++k) {
            void* data = result(final_states[k], {problem.passes, problem.batch, state_size(k)}, type());
            for (int i = 0; i < problem.passes; ++i) problem.pass[i].final_state[k] = part(data, i, state_size(k));
        }
    }

    // The output that forward has written.
    void read_output(nb::handle output) { read_output(output, true); }

    // What backward needs, (passes, size) in the compute type. None: forward only.
    void read_saved(nb::handle saved) {
        if (saved.is_none()) return;
        const Tensor t = read_tensor(saved);
        if (t.dims != 2 || t.shape[0] != problem.passes || !t.is_contiguous() || !t.is_aligned() ||
            t.type != computed_in())
            refuse("what forward saves", "(passes, ...)", computed_in(), t);
        for (int i = 0; i < problem.passes; ++i)
            problem.pass[i].saved = static_cast<char*>(t.data) + i * t.shape[1] * size_of(t.type);
    }

    // `output_grads`: gradients of output, h and c, or None for zero. Results: dx (one per pass, or none), and
    // d_weights and d_states in the order of weights and states; an empty tensor is not wanted.
    void read_gradients(const std::vector<Weight>& named, Items output_grads, Items dx, Items d_weights,
                        Items d_states) {
        count("gradients given", output_grads, 3);
        count("gradients of weights", d_weights, named.size() * problem.passes);
        const std::size_t own_states = problem.pass[0].state[0] ? state_count() : 0;
        count("gradients of states", d_states, own_states * problem.passes);
        Steps d_output;
        if (!output_grads[0].is_none())
            d_output =
                rows(output_grads[0], checked(output_grads[0], "the gradient of output", output_shape(), type()), true);
        const void* d_final[2] = {};
        for (std::size_t k = 0; k < state_count(); ++k)
            if (is_wanted(output_grads[1 + k]))
                d_final[k] = whole(output_grads[1 + k], "the gradient of a state",
                                   {problem.passes, problem.batch, state_size(k)}, type());
        for (int i = 0; i < problem.passes; ++i) {
            Pass& pass = problem.pass[i];
            pass.d_output = of_pass(d_output, i);
            for (std::size_t k = 0; k < state_count(); ++k)
                pass.d_final[k] = part(const_cast<void*>(d_final[k]), i, state_size(k));
            if (dx.count > 0)
                pass.dx =
                    rows(dx[i], checked(dx[i], "dx", {problem.steps, problem.batch, problem.inputs}, type()), false);
            for (std::size_t k = 0; k < named.size(); ++k)
                pass.d_weights[named[k]] = result(d_weights[i * named.size() + k], shape_of(named[k]), type());
            for (std::size_t k = 0; k < own_states; ++k)
                pass.d_state[k] = result(d_states[i * own_states + k], {problem.batch, state_size(k)}, type());
        }
    }

private:
    Type type() const { return static_cast<Type>(problem.storage); }
    Type computed_in() const { return problem.storage == Storage::float64 ? Type::float64 : Type::float32; }
    std::size_t state_count() const { return problem.cell == Cell::lstm ? 2 : 1; }
    int64_t state_size(std::size_t k) const { return k ? problem.units : problem.outputs; }

    Shape shape_of(Weight which) const {
        const int64_t rows = problem.gates() * problem.units;
        switch (which) {
            case weight_ih: return {rows, problem.inputs};
            case weight_hh: return {rows, problem.outputs};
            case weight_hr: return {problem.outputs, problem.units};
            case weight_peep: return {problem.gates() - 1, problem.units};
            case weight_ln_c:
            case bias_ln_c: return {problem.units};
            case scale_hr: return {problem.outputs};
            default: return {rows};
        }
    }

    static void count(const char* what, Items items, std::size_t wanted) {
        if (items.count != wanted)
            throw std::invalid_argument("expected " + std::to_string(wanted) + " " + what + ", got " +
                                        std::to_string(items.count));
    }

    const void* weight(nb::handle tensor, Weight which) {
        const bool matrix = which == weight_ih || which == weight_hh || which == weight_hr;
        return whole(tensor, "a weight", shape_of(which), problem.int8 && matrix ? Type::int8 : type());
    }

    // Rows whose last dimension is contiguous; of a copy if necessary.
    Steps rows(nb::handle tensor, Tensor t, bool may_be_copied) {
        if ((t.stride[2] != 1 && t.shape[2] > 1) || !t.is_aligned() || is_negated(tensor)) {
            if (!may_be_copied) throw std::invalid_argument("lstmkit._native: a result must have contiguous rows");
            t = copy(tensor, t.type);
        }
        return {t.data, t.stride[0], t.stride[1]};
    }

    Shape output_shape() const { return {problem.steps, problem.batch, problem.passes * problem.outputs}; }
    void read_output(nb::handle output, bool may_be_copied) {
        const Steps all = rows(output, checked(output, "output", output_shape(), type()), may_be_copied);
        for (int i = 0; i < problem.passes; ++i) problem.pass[i].output = of_pass(all, i);
    }

    // The part of pass `i` of (T, B, passes * P), and of (passes, B, size).
    Steps of_pass(Steps all, int i) const {
        if (all.data) all.data = static_cast<char*>(all.data) + i * problem.outputs * size_of(type());
        return all;
    }
    void* part(void* data, int i, int64_t size) const {
        return data ? static_cast<char*>(data) + i * problem.batch * size * size_of(type()) : nullptr;
    }
};

// The arguments of a linear layer over a vocabulary.
class VocabularyArguments : Reader {
public:
    VocabularyProblem problem;

    VocabularyArguments(nb::handle x, nb::handle weight, nb::handle bias, int threads) {
        const Tensor t = read_tensor(x), w = read_tensor(weight);
        if (t.dims != 2 || (t.type != Type::float32 && t.type != Type::float64))
            refuse("x", "(rows, width)", Type::float32, t);
        type_ = t.type;
        problem.storage = static_cast<Storage>(type_);
        problem.rows = t.shape[0];
        problem.width = t.shape[1];
        problem.words = w.dims == 2 ? w.shape[0] : 0;
        problem.threads = threads;
        if (problem.width * problem.words == 0) refuse("the weight", "(words, width) of at least one each", type_, w);
        problem.x = whole(x, "x", {problem.rows, problem.width}, type_);
        problem.weight = whole(weight, "the weight", {problem.words, problem.width}, type_);
        problem.bias = whole(bias, "the bias", {problem.words}, type_);
    }

    void read_logits(nb::handle logits) { problem.logits = result(logits, {problem.rows, problem.words}, type_); }

    void read_targets(nb::handle targets, double smoothing) {
        problem.targets = static_cast<const int64_t*>(whole(targets, "targets", {problem.rows}, Type::int64));
        problem.smoothing = smoothing;
        for (int64_t row = 0; row < problem.rows; ++row) {
            if (problem.targets[row] < -1 || problem.targets[row] >= problem.words)
                throw std::invalid_argument("targets must be in 0.." + std::to_string(problem.words - 1) +
                                            ", or -1, got " + std::to_string(problem.targets[row]));
        }
    }

    // The results of backward; all or none.
    void read_gradients(nb::handle dx, nb::handle d_weight, nb::handle d_bias) {
        if (dx.is_none()) return;
        problem.dx = result(dx, {problem.rows, problem.width}, type_);
        problem.d_weight = result(d_weight, {problem.words, problem.width}, type_);
        problem.d_bias = result(d_bias, {problem.words}, type_);
    }

private:
    Type type_;
};

}  // namespace lstmkit
