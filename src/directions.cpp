#include "directions.hpp"

#include <cstdint>
#include <string>

#include "arrays.hpp"
#include "module.hpp"

namespace fdfast {
namespace {

void draw_into(const py::array& g, py::array& v, double low, double unit, std::uint64_t seed, std::uint64_t first,
               int threads) {
    require_array<double>(g, "g", 1, Access::read);
    require_array<double>(v, "v", 1, Access::write);
    if (v.size() != g.size()) {
        throw py::value_error("v has " + std::to_string(v.size()) + " elements; it must have as many as g, " +
                              std::to_string(g.size()));
    }
    require_disjoint({{"v", v}}, {{"g", g}});
    require_threads(threads);
    if (!(low > 0)) throw py::value_error("low must be positive, got " + std::to_string(low));
    const auto* const from = static_cast<const double*>(g.data());
    auto* const to = static_cast<double*>(v.mutable_data());
    const std::int64_t n = g.size();
    const py::gil_scoped_release released;
    draw(from, n, low, unit, seed, first, to, threads);
}

double dot_of(const py::array& a, const py::array& b, int threads) {
    require_array<double>(a, "a", 1, Access::read);
    require_array<double>(b, "b", 1, Access::read);
    if (a.size() != b.size()) {
        throw py::value_error("a has " + std::to_string(a.size()) + " elements, b has " + std::to_string(b.size()) +
                              "; they must have as many");
    }
    require_threads(threads);
    const auto* const left = static_cast<const double*>(a.data());
    const auto* const right = static_cast<const double*>(b.data());
    const std::int64_t n = a.size();
    const py::gil_scoped_release released;
    return dot(left, right, n, threads);
}

}  // namespace

void bind_directions(py::module_& m) {
    m.def("draw", &draw_into, py::arg("g").noconvert(), py::arg("v").noconvert(), py::kw_only(), py::arg("low"),
          py::arg("unit"), py::arg("seed"), py::arg("first") = 0, py::arg("threads"),
          R"(Draw a direction in which every element counts alike: v = s u unit / max(|g|, low).

Parameters
----------
g : ndarray of float64, shape (n,)
    Gradient.
v : ndarray of float64, shape (n,)
    Written.
low, unit : float
seed, first : int
    s = +-1 and u, uniform in [1/2, 1], of element i are functions of the seed and of first + i.
threads : int
)");
    m.def("dot", &dot_of, py::arg("a").noconvert(), py::arg("b").noconvert(), py::kw_only(), py::arg("threads"),
          R"(Sum of a[i] b[i] in twice the precision; the same bits whatever the number of threads.

Parameters
----------
a, b : ndarray of float64, shape (n,)
threads : int

Returns
-------
float
)");
}

}  // namespace fdfast
