// Access to torch tensors without linking against torch.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <string>

namespace lstmkit {

namespace nb = nanobind;

// The first three are the values of Storage.
enum class Type : int { float32, float64, bfloat16, int64, int8, other };

// The properties of a tensor; shape and strides of its first three dimensions.
struct Tensor {
    void* data = nullptr;
    Type type = Type::other;
    bool in_memory = false;  // in CPU memory
    int dims = 0;
    int64_t shape[3] = {1, 1, 1}, stride[3] = {};

    int64_t count() const { return dims > 3 ? -1 : shape[0] * shape[1] * shape[2]; }
    bool is_contiguous() const;
    bool is_aligned() const;
    std::string text() const;  // "(2, 3), float32"
};

int64_t size_of(Type type);
const char* name_of(Type type);

// Sets how to read tensors. `dtypes`: the dtypes of Type, in its order; `tidy(tensor, dtype)` returns a contiguous copy
// on the CPU.
void know_tensors(nb::type_object tensor, nb::tuple dtypes, nb::callable tidy);

// Returns whether tensors are read through the exchange interface of DLPack (torch 2.10 or later) rather than by their
// attributes, which is slower; `wanted` selects one.
bool use_exchange(bool wanted);

Tensor read_tensor(nb::handle t);

// Whether it is a torch.Tensor itself; a subclass may interpret its data differently.
bool is_plain(nb::handle t);

// Whether its data are stored with the opposite sign (a lazy negation).
bool is_negated(nb::handle t);

nb::object tidy_copy(nb::handle t, Type type);

}  // namespace lstmkit
