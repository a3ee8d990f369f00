// What a binding asks of an array before it takes the pointer. Every message names the argument.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace fdfast {

namespace py = pybind11;

// TensorFlow aborts the process (it does not raise) on a DLPack buffer that is not aligned to this many bytes.
inline constexpr std::size_t kAlignment = 64;

enum class Access { read, write };

inline std::string text(py::handle value) {
    return py::str(value).cast<std::string>();
}

inline std::string shape_of(const py::array& a) {
    return text(a.attr("shape"));
}

inline std::string dtype_of(const py::array& a) {
    return text(a.dtype());
}

template <typename T>
bool has_dtype(const py::array& a) {
    return py::isinstance<py::array_t<T>>(a);  // false for the other byte order, too
}

inline bool is_aligned(const py::array& a, std::size_t bytes) {
    return reinterpret_cast<std::uintptr_t>(a.data()) % bytes == 0;
}

// dtype T, `ndim` axes, C-contiguous, aligned for T, writable if it will be written.
template <typename T>
void require_array(const py::array& a, const char* name, py::ssize_t ndim, Access access) {
    const std::string who = name;
    if (!has_dtype<T>(a)) {
        throw py::type_error(who + " must be " + text(py::dtype::of<T>()) + ", got " + dtype_of(a));
    }
    if (a.ndim() != ndim) {
        throw py::value_error(who + " must have " + std::to_string(ndim) + " axes, got shape " + shape_of(a));
    }
    if ((a.flags() & py::array::c_style) == 0) {
        throw py::value_error(who + " must be C-contiguous, got strides " + text(a.attr("strides")) + " for shape " +
                              shape_of(a) + "; pass numpy.ascontiguousarray(" + who + ")");
    }
    if (!is_aligned(a, alignof(T))) {
        throw py::value_error(who + " must be aligned to its " + std::to_string(alignof(T)) +
                              "-byte elements; pass a copy");
    }
    if (access == Access::write && !a.writeable())
        throw py::value_error(who + " must be writable, got a read-only array");
}

// Each one asked for is started: a slip of the pen must not start a million.
inline int require_threads(int threads) {
    constexpr int kMost = 4096;
    if (threads < 1 || threads > kMost) {
        throw py::value_error("threads must be at least 1 and at most " + std::to_string(kMost) + ", got " +
                              std::to_string(threads));
    }
    return threads;
}

struct Named {
    const char* name;
    const py::array& array;
};

// No written array may share memory with another argument.
inline void require_disjoint(std::initializer_list<Named> written, std::initializer_list<Named> others) {
    const auto overlap = [](const Named& a, const Named& b) {
        if (&a.array == &b.array || a.array.nbytes() == 0 || b.array.nbytes() == 0) return;
        const auto begin_a = reinterpret_cast<std::uintptr_t>(a.array.data());
        const auto begin_b = reinterpret_cast<std::uintptr_t>(b.array.data());
        if (begin_a < begin_b + static_cast<std::uintptr_t>(b.array.nbytes()) &&
            begin_b < begin_a + static_cast<std::uintptr_t>(a.array.nbytes())) {
            throw py::value_error(std::string(a.name) + " shares memory with " + b.name +
                                  ", and it is written; pass separate arrays");
        }
    };
    for (const Named& w : written) {
        for (const Named& other : written) overlap(w, other);
        for (const Named& other : others) overlap(w, other);
    }
}

}  // namespace fdfast
