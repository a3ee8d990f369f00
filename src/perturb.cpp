#include "perturb.hpp"

#include <pybind11/stl.h>

#include <cmath>
#include <limits>
#include <optional>

#include "arrays.hpp"
#include "module.hpp"

namespace fdfast {
namespace {

struct Arrays {
    const py::array &x, &offsets, &members, &example, &tile, &step;
    py::array &rows, &held_example, &held_tile, &moved;
    const std::optional<py::array>& weights;
};

[[noreturn]] void refuse(const std::string& message) {
    throw py::value_error(message);
}

std::string at(const char* name, std::int64_t i) {
    return std::string(name) + "[" + std::to_string(i) + "]";
}

void require_length(const py::array& a, const char* name, py::ssize_t length, const char* meaning) {
    if (a.shape(0) == length) return;
    refuse("Length of " + std::string(name) + " (" + std::to_string(a.shape(0)) + ") must match " + meaning + " (" +
           std::to_string(length) + ")");
}

template <typename T>
void require_layout(const Arrays& a) {
    require_array<T>(a.x, "x", 2, Access::read);
    require_array<std::int64_t>(a.offsets, "offsets", 1, Access::read);
    require_array<std::int64_t>(a.members, "members", 1, Access::read);
    require_array<std::int64_t>(a.example, "example", 1, Access::read);
    require_array<std::int64_t>(a.tile, "tile", 1, Access::read);
    require_array<double>(a.step, "step", 2, Access::read);
    require_array<T>(a.rows, "rows", 2, Access::write);
    require_array<std::int64_t>(a.held_example, "held_example", 1, Access::write);
    require_array<std::int64_t>(a.held_tile, "held_tile", 1, Access::write);
    require_array<double>(a.moved, "moved", 2, Access::write);

    if (a.weights) {
        require_array<double>(*a.weights, "weights", 1, Access::read);
        require_length(*a.weights, "weights", a.members.shape(0), "the number of members");
    }

    const py::ssize_t pairs = a.example.shape(0);
    if (a.offsets.shape(0) < 1) refuse("offsets must have tiles + 1 elements, got shape (0,)");
    require_length(a.tile, "tile", pairs, "the number of pairs, the length of example");
    for (const Named& pair : {Named{"step", a.step}, Named{"moved", a.moved}}) {
        if (pair.array.shape(0) != pairs || pair.array.shape(1) != 2) {
            refuse(std::string(pair.name) + " must have shape (pairs, 2) = (" + std::to_string(pairs) + ", 2), got " +
                   shape_of(pair.array));
        }
    }
    if (a.rows.shape(1) != a.x.shape(1)) {
        refuse("Columns of rows (" + std::to_string(a.rows.shape(1)) + ") must match columns of x (" +
               std::to_string(a.x.shape(1)) + ")");
    }
    if (a.rows.shape(0) < 2 * pairs) {
        refuse("rows must have at least 2 * pairs = " + std::to_string(2 * pairs) + " rows, got shape " +
               shape_of(a.rows));
    }
    require_length(a.held_example, "held_example", a.rows.shape(0) / 2, "half the number of rows");
    require_length(a.held_tile, "held_tile", a.rows.shape(0) / 2, "half the number of rows");
    if (!is_aligned(a.rows, kAlignment)) {
        refuse("rows must start on a " + std::to_string(kAlignment) +
               "-byte boundary, for TensorFlow; allocate it with aligned_empty");
    }
    require_disjoint(
        {{"rows", a.rows}, {"held_example", a.held_example}, {"held_tile", a.held_tile}, {"moved", a.moved}},
        {{"x", a.x},
         {"offsets", a.offsets},
         {"members", a.members},
         {"example", a.example},
         {"tile", a.tile},
         {"step", a.step},
         {"weights", a.weights ? *a.weights : a.x}});
}

// Checks only the tiles of this call, so that a check costs no more than the fill, however many tiles there are.
template <typename T>
void require_ranges(const Perturbation<T>& p, std::int64_t examples, std::int64_t tiles, std::int64_t n_members) {
    const auto require_tile = [&](const char* name, std::int64_t i, std::int64_t t) {
        if (t < -1 || t >= tiles) {
            refuse(at(name, i) + "=" + std::to_string(t) + " must be -1 or a tile below " + std::to_string(tiles) +
                   ", the length of offsets less one");
        }
        if (t < 0) return;
        const std::int64_t begin = p.offsets[t];
        const std::int64_t end = p.offsets[t + 1];
        if (begin < 0 || begin >= end || end > n_members) {
            refuse("offsets give tile " + std::to_string(t) + " the members [" + std::to_string(begin) + ", " +
                   std::to_string(end) + "), which must be at least one, out of " + std::to_string(n_members));
        }
        for (std::int64_t m = begin; m < end; ++m) {
            if (p.members[m] < 0 || p.members[m] >= p.n) {
                refuse(at("members", m) + "=" + std::to_string(p.members[m]) + " must be an element of a row, below " +
                       std::to_string(p.n) + ", the columns of x");
            }
            if (p.weights != nullptr && !(std::abs(p.weights[m]) > 0 && std::abs(p.weights[m]) <= 1)) {
                refuse(at("weights", m) + "=" + std::to_string(p.weights[m]) + " must lie in [-1, 1] and not be 0");
            }
        }
    };
    for (std::int64_t i = 0; i < p.pairs; ++i) {
        if (p.example[i] < 0 || p.example[i] >= examples) {
            refuse(at("example", i) + "=" + std::to_string(p.example[i]) + " must be a row of x, below " +
                   std::to_string(examples));
        }
        require_tile("tile", i, p.tile[i]);
        if (p.held_example[i] == p.example[i]) require_tile("held_tile", i, p.held_tile[i]);
        for (std::int64_t r = 2 * i; r < 2 * i + 2; ++r) {
            if (!(std::abs(p.step[r]) <= static_cast<double>(std::numeric_limits<T>::max()))) {
                refuse("step[" + std::to_string(i) + ", " + std::to_string(r % 2) + "]=" + std::to_string(p.step[r]) +
                       " must be finite in the dtype of x");
            }
        }
    }
}

template <typename T>
std::int64_t fill(const Arrays& a) {
    require_layout<T>(a);
    const auto read = [](const py::array& array) { return static_cast<const std::int64_t*>(array.data()); };
    const auto write = [](py::array& array) { return static_cast<std::int64_t*>(array.mutable_data()); };
    const Perturbation<T> p{static_cast<const T*>(a.x.data()),
                            a.x.shape(1),
                            read(a.offsets),
                            read(a.members),
                            a.weights ? static_cast<const double*>(a.weights->data()) : nullptr,
                            a.example.shape(0),
                            read(a.example),
                            read(a.tile),
                            static_cast<const double*>(a.step.data()),
                            static_cast<T*>(a.rows.mutable_data()),
                            write(a.held_example),
                            write(a.held_tile),
                            static_cast<double*>(a.moved.mutable_data())};
    require_ranges(p, a.x.shape(0), a.offsets.shape(0) - 1, a.members.shape(0));
    const py::gil_scoped_release release;
    return fill_rows(p);
}

std::int64_t fill_rows_of(const py::array& x, const py::array& offsets, const py::array& members,
                          const py::array& example, const py::array& tile, const py::array& step, py::array rows,
                          py::array held_example, py::array held_tile, py::array moved,
                          const std::optional<py::array>& weights) {
    const Arrays arrays{x, offsets, members, example, tile, step, rows, held_example, held_tile, moved, weights};
    if (has_dtype<float>(x)) return fill<float>(arrays);
    if (has_dtype<double>(x)) return fill<double>(arrays);
    throw py::type_error("x must be float32 or float64, got " + dtype_of(x));
}

}  // namespace

void bind_perturb(py::module_& m) {
    m.def("fill_rows", &fill_rows_of, py::arg("x").noconvert(), py::arg("offsets").noconvert(),
          py::arg("members").noconvert(), py::arg("example").noconvert(), py::arg("tile").noconvert(),
          py::arg("step").noconvert(), py::arg("rows").noconvert(), py::arg("held_example").noconvert(),
          py::arg("held_tile").noconvert(), py::arg("moved").noconvert(), py::kw_only(),
          py::arg("weights").noconvert() = py::none(),
          R"(Write the perturbed rows of (example, tile) pairs in place, touching only what changes.

Parameters
----------
x : (examples, n) float32 or float64
    The points; never written.
offsets : (tiles + 1,) int64
    Tile t owns ``members[offsets[t]:offsets[t + 1]]``.
members : (n_members,) int64
    Flat element indices within one example.
example, tile : (pairs,) int64
    What pair i perturbs; tile -1 perturbs nothing: both rows are ``x[example[i]]``.
step : (pairs, 2) float64
    Displacement of row 2i and of row 2i + 1, in the units of x.
rows : (capacity, n), dtype of x, capacity at least 2 * pairs
    Written: rows 2i and 2i + 1 belong to pair i. From `aligned_empty`.
held_example, held_tile : (capacity // 2,) int64
    Updated: what rows 2i and 2i + 1 hold. Set held_example to -1 at first, and when x or the tiles change.
moved : (pairs, 2) float64
    Written: mean over the tile of (row - x) / weight, the distance really moved; 0 without a tile.
weights : (n_members,) float64, optional
    How far each member moves, in units of the step: in [-1, 1], not 0. By default 1 each.

Returns
-------
int
    -1, or the first row in which a step other than 0 left an element where it was (x + step == x). The
    rows are written all the same.

Raises
------
TypeError
    If an argument is not an array, or its dtype is wrong.
ValueError
    If a shape, layout or range is wrong, or a written array shares memory with another. Nothing is written then.
)");
}

}  // namespace fdfast
