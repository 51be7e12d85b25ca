#include "tensor.h"

#include <nanobind/ndarray.h>

#include <algorithm>

namespace lstmkit {
namespace {

// The start of DLPackExchangeAPI in DLPack 1.3 (dmlc/dlpack, dlpack.h), up to the one function used here.
struct ExchangeAPI {
    uint32_t major, minor;
    void* older;
    void *allocate, *export_managed, *import_managed;
    int (*describe)(void* object, nb::dlpack::dltensor* result);  // borrows; nothing to release
};

// Never destroyed, because the interpreter may be gone by then.
struct Known {
    nb::type_object tensor;
    nb::tuple dtypes;
    nb::callable tidy;
    const ExchangeAPI *offered = nullptr, *exchange = nullptr;
};
Known* known = nullptr;

Type type_of(nb::dlpack::dtype t) {
    using Code = nb::dlpack::dtype_code;
    if (t.lanes != 1) return Type::other;
    if (t.code == static_cast<uint8_t>(Code::Float))
        return t.bits == 32 ? Type::float32 : t.bits == 64 ? Type::float64 : Type::other;
    if (t.code == static_cast<uint8_t>(Code::Bfloat) && t.bits == 16) return Type::bfloat16;
    if (t.code == static_cast<uint8_t>(Code::Int))
        return t.bits == 64 ? Type::int64 : t.bits == 8 ? Type::int8 : Type::other;
    return Type::other;
}

Tensor by_attributes(nb::handle t) {
    Tensor result;
    const nb::tuple shape(t.attr("shape")), stride(t.attr("stride")());
    result.dims = static_cast<int>(nb::len(shape));
    for (int i = 0; i < std::min(result.dims, 3); ++i) {
        result.shape[i] = nb::cast<int64_t>(shape[i]);
        result.stride[i] = nb::cast<int64_t>(stride[i]);
    }
    result.data = reinterpret_cast<void*>(nb::cast<uintptr_t>(t.attr("data_ptr")()));
    result.in_memory = nb::cast<bool>(t.attr("is_cpu"));
    const nb::object dtype = t.attr("dtype");
    for (std::size_t i = 0; i < nb::len(known->dtypes); ++i)
        if (dtype.is(known->dtypes[i])) result.type = static_cast<Type>(i);
    return result;
}

Tensor by_exchange(nb::handle t) {
    nb::dlpack::dltensor d;
    if (known->exchange->describe(t.ptr(), &d)) {  // a device that DLPack does not know
        PyErr_Clear();
        return by_attributes(t);
    }
    Tensor result;
    result.data = static_cast<char*>(d.data) + d.byte_offset;
    result.type = type_of(d.dtype);
    result.in_memory = d.device.device_type == nb::device::cpu::value;
    result.dims = d.ndim;
    for (int i = 0; i < std::min(d.ndim, 3); ++i) {
        result.shape[i] = d.shape[i];
        result.stride[i] = d.strides[i];
    }
    return result;
}

}  // namespace

bool Tensor::is_contiguous() const {
    int64_t next = 1;
    for (int i = std::min(dims, 3) - 1; i >= 0; --i) {
        if (shape[i] != 1 && stride[i] != next) return count() == 0;
        next *= shape[i];
    }
    return dims <= 3;
}

bool Tensor::is_aligned() const {
    return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(size_of(type)) == 0;
}

std::string Tensor::text() const {
    std::string s = "(";
    for (int i = 0; i < std::min(dims, 3); ++i) s += (i ? ", " : "") + std::to_string(shape[i]);
    return s +
           (dims == 1  ? ",), "
            : dims > 3 ? ", ...), "
                       : "), ") +
           name_of(type) + (in_memory ? "" : " not in the CPU's memory");
}

int64_t size_of(Type type) {
    switch (type) {
        case Type::int8:
        case Type::other: return 1;
        case Type::bfloat16: return 2;
        case Type::float32: return 4;
        default: return 8;
    }
}

const char* name_of(Type type) {
    static const char* const names[] = {"float32", "float64", "bfloat16", "int64", "int8", "another dtype"};
    return names[static_cast<int>(type)];
}

void know_tensors(nb::type_object tensor, nb::tuple dtypes, nb::callable tidy) {
    if (!known) known = new Known;
    known->tensor = tensor;
    known->dtypes = dtypes;
    known->tidy = tidy;
    const char* name = "__dlpack_c_exchange_api__";
    if (!nb::hasattr(tensor, name)) return;
    const nb::object capsule = tensor.attr(name);
    if (!PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) return;
    const auto* api = static_cast<const ExchangeAPI*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    if (api && api->major == 1 && api->describe) known->offered = known->exchange = api;
}

bool use_exchange(bool wanted) {
    known->exchange = wanted ? known->offered : nullptr;
    return known->exchange != nullptr;
}

Tensor read_tensor(nb::handle t) {
    const auto* tensor = reinterpret_cast<PyTypeObject*>(known->tensor.ptr());
    if (!PyType_IsSubtype(Py_TYPE(t.ptr()), const_cast<PyTypeObject*>(tensor)))
        throw nb::type_error("lstmkit._native: expected a torch.Tensor");
    Tensor result = known->exchange ? by_exchange(t) : by_attributes(t);
    if (!result.data && result.count() != 0) result.in_memory = false;  // a tensor subclass without data
    return result;
}

bool is_plain(nb::handle t) { return reinterpret_cast<PyObject*>(Py_TYPE(t.ptr())) == known->tensor.ptr(); }

bool is_negated(nb::handle t) {
    static PyObject* const name = PyUnicode_InternFromString("is_neg");
    PyObject* self = t.ptr();
    PyObject* result = PyObject_VectorcallMethod(name, &self, 1, nullptr);
    if (!result) throw nb::python_error();
    Py_DECREF(result);
    return result == Py_True;
}

nb::object tidy_copy(nb::handle t, Type type) { return known->tidy(t, known->dtypes[static_cast<std::size_t>(type)]); }

}  // namespace lstmkit
