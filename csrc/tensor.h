// Tensors of torch, read without linking against it.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <string>

namespace lstmkit {

namespace nb = nanobind;

// The first three are those of Storage.
enum class Type : int { float32, float64, bfloat16, int64, other };

// What a tensor says of itself; shape and strides of its first three dimensions.
struct Tensor {
    void* data = nullptr;
    Type type = Type::other;
    bool in_memory = false;  // which the processor reads
    int dims = 0;
    int64_t shape[3] = {1, 1, 1}, stride[3] = {};

    int64_t count() const { return dims > 3 ? -1 : shape[0] * shape[1] * shape[2]; }
    bool is_contiguous() const;
    bool is_aligned() const;
    std::string text() const;  // "(2, 3), float32"
};

int64_t size_of(Type type);
const char* name_of(Type type);

// How to read tensors. `dtypes`: those of Type, in its order; `tidy(tensor, dtype)`: the same numbers, contiguous, on the CPU.
void know_tensors(nb::type_object tensor, nb::tuple dtypes, nb::callable tidy);

// Whether they are read through DLPack's exchange interface, which torch has from 2.10 on, or by their attributes, which
// takes longer; `wanted` picks one.
bool use_exchange(bool wanted);

Tensor read_tensor(nb::handle t);

// Whether it is one of torch.Tensor itself: one of its subclasses may mean something else by its numbers.
bool is_plain(nb::handle t);

// Whether its numbers are stored with the opposite sign.
bool is_negated(nb::handle t);

nb::object tidied(nb::handle t, Type type);

}  // namespace lstmkit
