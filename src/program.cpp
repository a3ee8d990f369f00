#include "program.hpp"

#include <pybind11/stl.h>

#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <thread>
#include <variant>

#include "arrays.hpp"
#include "module.hpp"

namespace fdfast {
namespace {

const std::map<std::string, Op> kOps = {
    {"input", Op::input},
    {"conv", Op::conv},
    {"depthwise", Op::depthwise},
    {"average", Op::average},
    {"maximum", Op::maximum},
    {"ramp", Op::ramp},
    {"smooth", Op::smooth},
    {"scale", Op::scale},
    {"add", Op::add},
    {"multiply", Op::multiply},
    {"concat", Op::concat},
    {"shift", Op::shift},
    {"repeat", Op::repeat},
    {"hold", Op::hold},
    {"resample", Op::resample},
    {"dilate", Op::dilate},
    {"part", Op::part},
    {"reshape", Op::reshape},
    {"softmax", Op::softmax},
    {"cross_entropy", Op::cross_entropy},
    {"squared_error", Op::squared_error},
};

const std::map<std::string, Smooth> kFunctions = {
    {"sigmoid", Smooth::sigmoid},
    {"tanh", Smooth::tanh},
    {"softplus", Smooth::softplus},
    {"softsign", Smooth::softsign},
    {"elu", Smooth::elu},
    {"silu", Smooth::silu},
    {"exponential", Smooth::exponential},
    {"gelu", Smooth::gelu},
    {"root", Smooth::root},
    {"inverse_root", Smooth::inverse_root},
    {"reciprocal", Smooth::reciprocal},
    {"logarithm", Smooth::logarithm},
    {"erf", Smooth::erf},
};

using Triple = std::array<std::int32_t, 3>;
using Octet = std::array<std::int32_t, 8>;

template <typename Value>
Value named(const std::map<std::string, Value>& table, const char* what, const std::string& name) {
    const auto found = table.find(name);
    if (found != table.end()) return found->second;
    std::string known;
    for (const auto& entry : table) known += (known.empty() ? "" : ", ") + entry.first;
    throw py::value_error(std::string(what) + " must be one of " + known + ", got '" + name + "'");
}

template <typename T>
void require_shape(const py::array& a, const std::string& name, const std::vector<py::ssize_t>& shape) {
    require_array<T>(a, name.c_str(), static_cast<py::ssize_t>(shape.size()), Access::read);
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (a.shape(static_cast<py::ssize_t>(i)) != shape[i]) {
            throw py::value_error(name + " must have shape " + text(py::tuple(py::cast(shape))) + ", got " +
                                  shape_of(a));
        }
    }
}

int threads_of(const std::optional<int>& asked) {
    return asked ? require_threads(*asked) : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

template <typename T>
struct Network {
    std::shared_ptr<Program<T>> program = std::make_shared<Program<T>>();
};

using AnyNetwork = std::variant<Network<float>, Network<double>>;

struct PyProgram {
    AnyNetwork network;
};

template <typename T>
struct Values {
    std::shared_ptr<Program<T>> program;
    Prepared<T> prepared;
};

struct PyPrepared {
    std::variant<Values<float>, Values<double>> values;
};

struct Extra {
    Octet window;
    std::int32_t groups;
    bool whole_count;
    std::string function;
    double slope, cap, alpha;
    std::vector<double> coefficients;
};

template <typename T>
std::vector<py::ssize_t> weight_shape(const Program<T>& program, const Node<T>& node) {
    const Window& w = node.window;
    const auto s = node.sources.empty() ? -1 : node.sources[0];
    if (s < 0 || s >= static_cast<std::int32_t>(program.nodes.size()))
        throw py::value_error("a node with weights needs a source");
    const Shape& from = program.nodes[static_cast<std::size_t>(s)].shape;
    const std::int32_t in = from.c;
    if (node.op == Op::conv) return {w.kh, w.kw, node.groups > 0 ? in / node.groups : 0, node.shape.c};
    if (node.op == Op::depthwise) return {w.kh, w.kw, node.shape.c};
    if (node.op == Op::resample) return {py::ssize_t{node.shape.h} * from.h + py::ssize_t{node.shape.w} * from.w};
    return {node.shape.c};
}

std::int32_t append_to(PyProgram& self, const std::string& op, const std::vector<std::int32_t>& sources,
                       const Triple& shape, const std::optional<py::array>& weights, const Extra& extra) {
    return std::visit(
        [&](auto& network) {
            if (network.program.use_count() > 1)
                throw py::value_error("the program has been prepared, so it cannot grow; make a new one");
            auto& program = *network.program;
            using T =
                std::conditional_t<std::is_same_v<std::decay_t<decltype(network)>, Network<float>>, float, double>;
            Node<T> node;
            node.op = named(kOps, "op", op);
            node.shape = {shape[0], shape[1], shape[2]};
            node.sources = sources;
            const Octet& w = extra.window;
            node.window = {w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]};
            node.groups = extra.groups;
            node.whole_count = extra.whole_count;
            if (node.op == Op::smooth) node.function = named(kFunctions, "function", extra.function);
            node.slope = extra.slope;
            node.cap = extra.cap;
            node.alpha = extra.alpha;
            node.coefficients = extra.coefficients;
            if (weights) require_shape<double>(*weights, "weights", weight_shape(program, node));
            const double* p = weights ? static_cast<const double*>(weights->data()) : nullptr;
            return append(program, std::move(node), p);
        },
        self.network);
}

template <typename T>
std::vector<const double*> pointers(const Program<T>& program, const std::vector<py::array>& values,
                                    py::ssize_t& images) {
    if (values.size() != program.needed.size()) {
        throw py::value_error("Length of values (" + std::to_string(values.size()) + ") must match Program.needed (" +
                              std::to_string(program.needed.size()) + ")");
    }
    std::vector<const double*> out;
    for (std::size_t k = 0; k < values.size(); ++k) {
        const Shape& s = program.nodes[static_cast<std::size_t>(program.needed[k])].shape;
        if (k == 0 && values[0].ndim() > 0) images = values[0].shape(0);
        require_shape<double>(values[k], "values[" + std::to_string(k) + "]", {images, s.h, s.w, s.c});
        out.push_back(static_cast<const double*>(values[k].data()));
    }
    return out;
}

template <typename T>
Values<T> prepare_for(const Network<T>& network, const std::vector<py::array>& values,
                      const std::optional<py::array>& targets, const std::optional<int>& asked) {
    const Program<T>& program = *network.program;
    if (program.nodes.empty()) throw py::value_error("the program is empty");
    py::ssize_t images = 1;
    const std::vector<const double*> given = pointers(program, values, images);
    const Node<T>& last = program.nodes.back();
    const bool loss = last.op == Op::cross_entropy || last.op == Op::squared_error;
    if (loss != targets.has_value()) {
        throw py::value_error(loss ? "targets are missing: the program ends in a loss"
                                   : "targets were given, but the program does not end in a loss");
    }
    if (loss) {
        const Shape& in = program.nodes[static_cast<std::size_t>(last.sources[0])].shape;
        require_shape<double>(*targets, "targets", {images, in.c});
    }
    const double* y = loss ? static_cast<const double*>(targets->data()) : nullptr;
    const int threads = threads_of(asked);
    // What holds the program keeps it from growing, in this thread or another.
    const std::shared_ptr<Program<T>> held = network.program;
    const py::gil_scoped_release release;
    return Values<T>{held, prepare(program, images, given, y, threads)};
}

bool signalled(void*) {
    const py::gil_scoped_acquire acquire;
    return PyErr_CheckSignals() != 0;
}

void require_range(const py::array& a, const char* name, std::int64_t low, std::int64_t high) {
    const auto* p = static_cast<const std::int64_t*>(a.data());
    for (py::ssize_t i = 0; i < a.size(); ++i) {
        if (p[i] < low || p[i] >= high) {
            throw py::index_error(std::string(name) + "[" + std::to_string(i) + "] is " + std::to_string(p[i]) +
                                  ", it must lie in [" + std::to_string(low) + ", " + std::to_string(high) + ")");
        }
    }
}

void require_tiles(const py::array& offsets, const py::array& members, std::int64_t size) {
    require_array<std::int64_t>(offsets, "offsets", 1, Access::read);
    require_array<std::int64_t>(members, "members", 1, Access::read);
    require_range(members, "members", 0, size);
    const auto* p = static_cast<const std::int64_t*>(offsets.data());
    bool good = offsets.size() > 1 && p[0] == 0 && p[offsets.size() - 1] <= members.size();
    for (py::ssize_t i = 1; good && i < offsets.size(); ++i) good = p[i] > p[i - 1];
    if (!good) throw py::value_error("offsets must begin with 0, grow, and end within members");
}

template <typename T>
py::tuple run_on(const Values<T>& values, const py::array& offsets, const py::array& members, const py::array& image,
                 const py::array& tile, const py::array& step, const std::optional<py::array>& weights,
                 const std::optional<py::array>& rows, std::int32_t start, bool held, const std::optional<int>& asked) {
    const Program<T>& program = *values.program;
    require_array<std::int64_t>(image, "image", 1, Access::read);
    const py::ssize_t pairs = image.shape(0);
    require_shape<double>(step, "step", {pairs, 2});
    // A program that needs no values is the same for every image.
    require_range(image, "image", 0,
                  program.needed.empty() ? std::numeric_limits<std::int64_t>::max() : values.prepared.images);
    for (py::ssize_t i = 0; i < step.size(); ++i) {
        if (!std::isfinite(static_cast<const double*>(step.data())[i])) throw py::value_error("step must be finite");
    }
    const std::int64_t size = program.nodes[0].shape.size();
    Job<T> job{};
    const auto count = static_cast<std::int32_t>(program.nodes.size());
    if (start != 0 && (!rows || start < 0 || start >= count)) {
        throw py::value_error("start must be 0, or with rows one of the " + std::to_string(count) + " nodes, got " +
                              std::to_string(start));
    }
    job.start = start;
    job.held = held;
    if (rows) {
        const std::int64_t from = program.nodes[static_cast<std::size_t>(start)].shape.size();
        require_shape<T>(*rows, "rows", {pairs, 2, from});
        job.rows_in = static_cast<const T*>(rows->data());
    } else {
        require_tiles(offsets, members, size);
        require_shape<std::int64_t>(tile, "tile", {pairs});
        require_range(tile, "tile", 0, offsets.size() - 1);
        if (weights) require_shape<double>(*weights, "weights", {members.shape(0)});
    }
    const Node<T>& last = program.nodes.back();
    const bool loss = last.op == Op::cross_entropy || last.op == Op::squared_error;
    py::array out =
        loss ? py::array(py::array_t<double>({pairs, py::ssize_t{2}}))
             : py::array(py::array_t<T>({pairs, py::ssize_t{2}, static_cast<py::ssize_t>(last.shape.size())}));
    py::array_t<std::int32_t> tie(pairs), crossed(pairs);
    job.program = &program;
    job.prepared = &values.prepared;
    job.tiles = {static_cast<const std::int64_t*>(offsets.data()), static_cast<const std::int64_t*>(members.data()),
                 weights ? static_cast<const double*>(weights->data()) : nullptr};
    job.pairs = pairs;
    job.image = static_cast<const std::int64_t*>(image.data());
    job.tile = static_cast<const std::int64_t*>(tile.data());
    job.step = static_cast<const double*>(step.data());
    job.delta = loss ? static_cast<double*>(out.mutable_data()) : nullptr;
    job.rows_out = loss ? nullptr : static_cast<T*>(out.mutable_data());
    job.tie = tie.mutable_data();
    job.crossed = crossed.mutable_data();
    job.threads = threads_of(asked);
    job.interrupted = &signalled;
    bool done = false;
    {
        const py::gil_scoped_release release;
        done = run(job);
    }
    if (!done) throw py::error_already_set();
    return py::make_tuple(out, tie, crossed);
}

}  // namespace

void bind_program(py::module_& m) {
    py::class_<PyPrepared>(m, "Prepared", "Values of a network at some points, in the form that the kernels read.");
    py::class_<PyProgram>(m, "Program",
                          R"(A network as a list of nodes that differences are pushed through, window by window.

A node's value is a map of shape (h, w, c), channels last; a vector is (1, 1, c). Node 0 is the input.

Parameters
----------
shape : (int, int, int)
    Shape of the input.
dtype : float32 or float64
    What the differences are computed in.
)")
        .def(py::init([](const Triple& shape, const py::object& dtype_like) {
                 const py::dtype dtype = py::dtype::from_args(dtype_like);
                 PyProgram made;
                 if (dtype.equal(py::dtype::of<double>())) {
                     made.network = Network<double>{};
                 } else if (!dtype.equal(py::dtype::of<float>())) {
                     throw py::type_error("dtype must be float32 or float64, got " + text(dtype));
                 }
                 append_to(made, "input", {}, shape, std::nullopt,
                           {{1, 1, 1, 1, 1, 1, 0, 0}, 1, false, "", 0, HUGE_VAL, 1, {}});
                 return made;
             }),
             py::arg("shape"), py::arg("dtype"))
        .def(
            "append",
            [](PyProgram& self, const std::string& op, const std::vector<std::int32_t>& sources, const Triple& shape,
               const std::optional<py::array>& weights, const Octet& window, std::int32_t groups, bool whole_count,
               const std::string& function, double slope, double cap, double alpha,
               const std::vector<double>& coefficients) {
                return append_to(self, op, sources, shape, weights,
                                 {window, groups, whole_count, function, slope, cap, alpha, coefficients});
            },
            py::arg("op"), py::arg("sources"), py::arg("shape"), py::kw_only(), py::arg("weights") = py::none(),
            py::arg("window") = Octet{1, 1, 1, 1, 1, 1, 0, 0}, py::arg("groups") = 1, py::arg("whole_count") = false,
            py::arg("function") = "", py::arg("slope") = 0.0, py::arg("cap") = HUGE_VAL, py::arg("alpha") = 1.0,
            py::arg("coefficients") = std::vector<double>{},
            R"(Append a node and return its number.

Parameters
----------
op : str
    See cpp/program.hpp for what each does.
sources : list of int
    Numbers of the nodes that it reads.
shape : (int, int, int)
weights : ndarray of float64, optional
    conv: (kh, kw, c // groups, out); depthwise: (kh, kw, c); scale: (c,); resample, flat: (h, h of the source), then
    (w, w of the source).
window : tuple of 8 int
    kh, kw, stride y, x, dilation y, x, padding top, left. shift: top and left; repeat, dilate: kh and kw; part: left.

Raises
------
ValueError
    Something does not fit; the message says what.
)")
        .def_property_readonly(
            "needed",
            [](const PyProgram& self) {
                return std::visit([](const auto& n) { return n.program->needed; }, self.network);
            },
            "Numbers of the nodes whose values `prepare` asks for, in its order.")
        .def(
            "prepare",
            [](const PyProgram& self, const std::vector<py::array>& values, const std::optional<py::array>& targets,
               const std::optional<int>& threads) {
                return std::visit([&](const auto& n) { return PyPrepared{prepare_for(n, values, targets, threads)}; },
                                  self.network);
            },
            py::arg("values"), py::arg("targets") = py::none(), py::kw_only(), py::arg("threads") = py::none(),
            R"(Take the network's values at some points.

Parameters
----------
values : list of ndarray of float64, each (images, h, w, c)
    One for each number in `needed`.
targets : ndarray of float64, shape (images, c), optional
    For a program that ends in a loss.
threads : int, optional
    All cores by default.

Returns
-------
Prepared
)");
    m.def(
        "push",
        [](const PyPrepared& prepared, const py::array& offsets, const py::array& members, const py::array& image,
           const py::array& tile, const py::array& step, const std::optional<py::array>& weights,
           const std::optional<py::array>& rows, std::int32_t start, bool held, const std::optional<int>& threads) {
            return std::visit(
                [&](const auto& v) {
                    return run_on(v, offsets, members, image, tile, step, weights, rows, start, held, threads);
                },
                prepared.values);
        },
        py::arg("prepared"), py::arg("offsets"), py::arg("members"), py::arg("image"), py::arg("tile"), py::arg("step"),
        py::kw_only(), py::arg("weights") = py::none(), py::arg("rows") = py::none(), py::arg("start") = 0,
        py::arg("held") = false, py::arg("threads") = py::none(),
        R"(Push differences of tiles through a network.

Parameters
----------
prepared : Prepared
offsets : ndarray of int64, shape (tiles + 1,)
members : ndarray of int64
    Tile t owns members[offsets[t]:offsets[t + 1]], flat element indices within one input.
image, tile : ndarray of int64, shape (pairs,)
step : ndarray of float64, shape (pairs, 2)
    Displacements of each pair. With `rows` their ratio is all that matters.
weights : ndarray of float64, shape of members, optional
    How far each member moves, in units of the step. By default 1 each.
rows : ndarray of the program's dtype, shape (pairs, 2, size), optional
    Dense differences in the place of tiles.
start : int
    Node that `rows` are differences of: the input, or one further on. Nodes before it do not move.
held : bool
    Whether nodes of the kind "hold" pass nothing on: what comes of the rest alone.
threads : int, optional
    All cores by default.

Returns
-------
values : ndarray
    Difference of the loss, float64, shape (pairs, 2); or of the last node, in the program's dtype, (pairs, 2, size).
tie : ndarray of int32, shape (pairs,)
    First node with a unit that sits on a kink at the point and is moved; -1 for none.
crossed : ndarray of int32, shape (pairs,)
    First node with a unit that changes branch within a displacement; -1 for none.

Raises
------
ValueError, TypeError, IndexError
    An array does not fit; the message says which and why.
KeyboardInterrupt
    Between tiles.
)");
}

}  // namespace fdfast
