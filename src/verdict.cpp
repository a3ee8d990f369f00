#include "verdict.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "arrays.hpp"
#include "module.hpp"

namespace fdfast {
namespace {

using Floats = py::array_t<double>;
using Ints = py::array_t<std::int64_t>;

// As many numbers as an array can hold, which the caller may well lack the memory for.
void require_count(const char* name, py::ssize_t count) {
    if (count < 0) throw py::value_error(std::string(name) + " must not be negative, got " + std::to_string(count));
    if (count > (py::ssize_t{1} << 48)) {
        throw py::value_error(std::string(name) + " is too large, got " + std::to_string(count));
    }
}

Ints as_array(const std::vector<std::int64_t>& values) {
    return Ints(static_cast<py::ssize_t>(values.size()), values.data());
}

// Reads an array of the given shape; throws with its name if it is another.
template <typename T>
const T* data_of(const py::array& a, const char* name, std::initializer_list<py::ssize_t> shape) {
    require_array<T>(a, name, static_cast<py::ssize_t>(shape.size()), Access::read);
    if (!std::equal(shape.begin(), shape.end(), a.shape())) {
        throw py::value_error(std::string(name) + " has shape " + shape_of(a) + "; it must be " +
                              text(py::tuple(py::cast(std::vector<py::ssize_t>(shape)))));
    }
    return static_cast<const T*>(a.data());
}

const std::int64_t* numbers_below(const py::array& a, const char* name, py::ssize_t count, std::size_t limit) {
    const auto* const numbers = data_of<std::int64_t>(a, name, {count});
    for (py::ssize_t i = 0; i < count; ++i) {
        if (numbers[i] < 0 || static_cast<std::size_t>(numbers[i]) >= limit) {
            throw py::index_error(std::string(name) + "[" + std::to_string(i) + "] is " + std::to_string(numbers[i]) +
                                  "; there are " + std::to_string(limit));
        }
    }
    return numbers;
}

void take(Looks& self, const std::optional<py::array>& which, const py::array& delta, const py::array& moved,
          const py::array& tie, const py::array& crossed, bool first) {
    const py::ssize_t count = which ? which->size() : static_cast<py::ssize_t>(self.size());
    const auto* const numbers = which ? numbers_below(*which, "which", count, self.size()) : nullptr;
    const auto* const d = data_of<double>(delta, "delta", {count, 2});
    const auto* const w = data_of<double>(moved, "moved", {count, 2});
    const auto* const t = data_of<std::int32_t>(tie, "tie", {count});
    const auto* const c = data_of<std::int32_t>(crossed, "crossed", {count});
    self.take(numbers, static_cast<std::size_t>(count), d, w, t, c, first);
}

py::tuple settle(const Looks& self, const py::array& example, py::ssize_t examples, double eps) {
    require_count("examples", examples);
    const auto count = static_cast<py::ssize_t>(self.size());
    const auto* const owner = numbers_below(example, "example", count, static_cast<std::size_t>(examples));
    Floats value(count), error(count), right(count), left(count), rounding(examples), peak(examples);
    py::array_t<bool> kink(count), open(count);
    py::array_t<std::int32_t> tie(count);
    self.settle(
        owner, static_cast<std::size_t>(examples), eps,
        {value.mutable_data(), error.mutable_data(), right.mutable_data(), left.mutable_data(), kink.mutable_data(),
         open.mutable_data(), tie.mutable_data(), rounding.mutable_data(), peak.mutable_data()});
    return py::make_tuple(value, error, right, left, kink, open, tie, rounding, peak);
}

py::tuple classify_all(const py::array& value, const py::array& error, const py::array& right, const py::array& left,
                       const py::array& kind, const py::array& analytic, double rtol, const py::array& floor,
                       const py::array& width, const py::array& blur) {
    require_array<double>(value, "value", 2, Access::read);
    const py::ssize_t examples = value.shape(0), tiles = value.shape(1);
    const auto map = [&](const py::array& a, const char* name) { return data_of<double>(a, name, {examples, tiles}); };
    const auto each = [&](const py::array& a, const char* name) { return data_of<double>(a, name, {examples}); };
    const double *const v = map(value, "value"), *const e = map(error, "error"), *const r = map(right, "right"),
                        *const l = map(left, "left"), *const ad = map(analytic, "analytic");
    const double *const f = each(floor, "floor"), *const w = each(width, "width"), *const b = each(blur, "blur");
    const auto* const k = data_of<std::int8_t>(kind, "kind", {examples, tiles});
    py::array_t<std::int8_t> classes({examples, tiles});
    Floats tolerance({examples, tiles}), detectable({examples, tiles});
    for (py::ssize_t i = 0; i < examples; ++i) {
        const py::ssize_t at = i * tiles;
        classify(static_cast<std::size_t>(tiles), v + at, e + at, r + at, l + at, reinterpret_cast<const Kind*>(k + at),
                 ad + at, {rtol, f[i], w[i], b[i]},
                 {reinterpret_cast<Class*>(classes.mutable_data() + at), tolerance.mutable_data() + at,
                  detectable.mutable_data() + at});
    }
    return py::make_tuple(classes, tolerance, detectable);
}

}  // namespace

void bind_verdict(py::module_& m) {
    py::class_<Looks>(m, "Looks", R"(Derivatives of tiles, from looks at two steps; see `fdfast.estimates.exact`.

Parameters
----------
count : int
    Number of tiles.
other : float
    The second step, in units of the first.
)")
        .def(py::init([](py::ssize_t count, double other) {
                 require_count("count", count);
                 return Looks(static_cast<std::size_t>(count), other);
             }),
             py::arg("count"), py::arg("other"))
        .def("take", &take, py::arg("which"), py::arg("delta"), py::arg("moved"), py::arg("tie"), py::arg("crossed"),
             py::kw_only(), py::arg("first"),
             R"(Note differences of tiles: at the first step, or at the second, which replaces what the first said.

Parameters
----------
which : ndarray of int64, shape (tiles,), or None
    Which tiles; None for all.
delta, moved : ndarray of float64, shape (tiles, 2)
    Differences of f, and the displacements that they were had at.
tie, crossed : ndarray of int32, shape (tiles,)
    See `push`.
first : bool
)")
        .def_property_readonly(
            "unsettled", [](const Looks& self) { return as_array(self.unsettled()); },
            "Tiles whose slopes do not plainly jump at a unit on its kink: a second step tells more.")
        .def_property_readonly(
            "crossed", [](const Looks& self) { return as_array(self.crossed()); },
            "Tiles with a unit that changes branch within a step.")
        .def("settle", &settle, py::arg("example"), py::arg("examples"), py::arg("eps"),
             R"(Say what the looks tell.

Parameters
----------
example : ndarray of int64, shape (tiles,)
examples : int
eps : float
    Rounding unit of the differences.

Returns
-------
value, error, right, left : ndarray of float64, shape (tiles,)
kink, open : ndarray of bool, shape (tiles,)
tie : ndarray of int32, shape (tiles,)
rounding, peak : ndarray of float64, shape (examples,)
    Rounding error of a derivative, and the largest derivative.
)");
    m.def("classify", &classify_all, py::arg("value"), py::arg("error"), py::arg("right"), py::arg("left"),
          py::arg("kind"), py::arg("analytic"), py::arg("rtol"), py::arg("floor"), py::arg("width"), py::arg("blur"),
          R"(Compare derivatives with a gradient, tile by tile; see `fdfast.verdict.compare`.

Parameters
----------
value, error, right, left, analytic : ndarray of float64, shape (examples, tiles)
kind : ndarray of int8, shape (examples, tiles)
    0 smooth, 1 kink, 2 unresolved, 3 singular.
rtol : float
floor, width, blur : ndarray of float64, shape (examples,)
    Difference allowed besides rtol; width of a bar allowed besides rtol; what else a bar is widened by.

Returns
-------
classes : ndarray of int8, shape (examples, tiles)
    0 agree, 1 wrong, 2 kink, 3 unresolved, 4 singular.
tolerance, detectable : ndarray of float64, shape (examples, tiles)
)");
}

}  // namespace fdfast
