#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <new>
#include <vector>

#include "arrays.hpp"
#include "module.hpp"

namespace fdfast {
namespace {

constexpr std::align_val_t kAligned{kAlignment};

py::array aligned_empty(const std::vector<py::ssize_t>& shape, const py::object& dtype_like) {
    const py::dtype dtype = py::dtype::from_args(dtype_like);
    if (!dtype.equal(py::dtype::of<float>()) && !dtype.equal(py::dtype::of<double>())) {
        throw py::type_error("dtype must be float32 or float64, got " + text(dtype));
    }
    // An axis of length 0 does not count: strides are products of the others.
    py::ssize_t bytes = dtype.itemsize();
    bool empty = false;
    for (const py::ssize_t length : shape) {
        if (length < 0) {
            throw py::value_error("shape must not be negative, got " + text(py::tuple(py::cast(shape))));
        }
        empty = empty || length == 0;
        if (length > 0 && bytes > std::numeric_limits<py::ssize_t>::max() / length) {
            throw py::value_error("shape " + text(py::tuple(py::cast(shape))) + " overflows");
        }
        bytes *= std::max<py::ssize_t>(length, 1);
    }
    if (empty) bytes = 0;
    void* const data = ::operator new(static_cast<std::size_t>(bytes), kAligned, std::nothrow);
    if (data == nullptr) {
        const std::string message =
            "shape " + text(py::tuple(py::cast(shape))) + " needs " + std::to_string(bytes) + " bytes";
        py::set_error(PyExc_MemoryError, message.c_str());
        throw py::error_already_set();
    }
    const py::capsule owner(data, [](void* p) { ::operator delete(p, kAligned); });
    return py::array(dtype, shape, data, owner);
}

}  // namespace

void bind_buffers(py::module_& m) {
    m.attr("ALIGNMENT") = kAlignment;
    m.def("aligned_empty", &aligned_empty, py::arg("shape"), py::arg("dtype"),
          R"(Return an uninitialised C-contiguous array that starts on a 64-byte boundary.

DLPack hands such a buffer to TensorFlow without a copy; on an unaligned one TensorFlow aborts the process.

Parameters
----------
shape : tuple of int
dtype : float32 or float64

Returns
-------
ndarray of that shape, which owns its memory

Raises
------
TypeError
    If dtype is neither float32 nor float64.
ValueError
    If shape is negative or overflows.
MemoryError
    If there is not enough memory.
)");
}

}  // namespace fdfast
