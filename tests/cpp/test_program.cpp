// Programs of every operation, and hundreds of random ones: no access beyond a buffer, no undefined arithmetic, finite
// results that do not depend on what the scratch held before. A small program is checked by hand in each test.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "check.hpp"
#include "program.hpp"

namespace {

using fdfast::Node;
using fdfast::Op;
using fdfast::Program;
using fdfast::Shape;
using fdfast::Smooth;

struct Dice {
    std::uint64_t state;

    std::uint64_t bits() {  // SplitMix64
        std::uint64_t z = state += 0x9E3779B97F4A7C15U;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
        return z ^ (z >> 31);
    }
    std::int32_t from(std::int32_t low, std::int32_t high) {  // both included
        return low + static_cast<std::int32_t>(bits() % static_cast<std::uint64_t>(high - low + 1));
    }
    bool one_in(std::int32_t n) { return from(1, n) == 1; }
    // Quarters in [-2, 2]: ties are frequent.
    double number() { return from(-8, 8) / 4.0; }
    std::vector<double> numbers(std::int64_t count) {
        std::vector<double> out(static_cast<std::size_t>(count));
        for (double& v : out) v = number();
        return out;
    }
};

template <typename T>
struct Net {
    Program<T> program;
    std::vector<double> reach;  // by node: no difference is larger, as long as the input's is at most 2

    const Shape& shape(std::int32_t n) const { return program.nodes[static_cast<std::size_t>(n)].shape; }
    double reach_of(std::int32_t n) const { return reach[static_cast<std::size_t>(n)]; }
    std::int32_t last() const { return static_cast<std::int32_t>(program.nodes.size()) - 1; }

    explicit Net(const Shape& input) {
        Node<T> node;
        node.shape = input;
        add(std::move(node), {}, 2);
    }

    void add(Node<T> node, const std::vector<double>& weights, double bound) {
        const std::int32_t number = last() + 1;
        CHECK(append(program, std::move(node), weights.empty() ? nullptr : weights.data()) == number);
        reach.push_back(bound);
    }

    // The sources' values at the points need not be those of one network: to the kernels they are any numbers.
    fdfast::Prepared<T> prepare_with(Dice& dice, std::int64_t images, std::int32_t threads) const {
        std::vector<std::vector<double>> values;
        std::vector<const double*> pointers;
        for (const std::int32_t n : program.needed) values.push_back(dice.numbers(images * shape(n).size()));
        for (const std::vector<double>& v : values) pointers.push_back(v.data());
        std::vector<double> targets;
        if (ends_in_loss()) targets = dice.numbers(images * shape(program.nodes.back().sources[0]).c);
        return prepare(program, images, pointers, ends_in_loss() ? targets.data() : nullptr, threads);
    }

    bool ends_in_loss() const {
        return program.nodes.back().op == Op::cross_entropy || program.nodes.back().op == Op::squared_error;
    }
};

template <typename T>
Node<T> make(Op op, std::vector<std::int32_t> sources, const Shape& shape) {
    Node<T> node;
    node.op = op;
    node.sources = std::move(sources);
    node.shape = shape;
    return node;
}

struct Result {
    std::vector<double> values;  // (pairs, 2, size)
    std::vector<std::int32_t> tie, crossed;
    bool done = false;

    bool operator==(const Result& o) const {
        return values.size() == o.values.size() && tie == o.tie && crossed == o.crossed &&
               std::memcmp(values.data(), o.values.data(), values.size() * sizeof(double)) == 0;
    }
};

template <typename T>
struct Task {
    const Net<T>& net;
    const fdfast::Prepared<T>& prepared;
    std::vector<std::int64_t> offsets{0}, members, image, tile;
    std::vector<double> step, weights;  // no weights: 1 each
    std::vector<T> rows;
    bool held = false;
    bool (*interrupted)(void*) = nullptr;

    Task(const Net<T>& of, const fdfast::Prepared<T>& with) : net(of), prepared(with) {}

    std::size_t pairs() const { return image.size(); }

    void add_tile(const std::vector<std::int64_t>& of) {
        members.insert(members.end(), of.begin(), of.end());
        offsets.push_back(static_cast<std::int64_t>(members.size()));
    }
    void add_pair(std::int64_t of_image, std::int64_t of_tile, double a, double b) {
        image.push_back(of_image);
        tile.push_back(of_tile);
        step.push_back(a);
        step.push_back(b);
    }
    void swap_sides() {
        for (std::size_t i = 0; i < step.size(); i += 2) std::swap(step[i], step[i + 1]);
        const std::size_t size = rows.empty() ? 0 : rows.size() / (2 * pairs());
        for (std::size_t i = 0; i < rows.size(); i += std::max<std::size_t>(1, 2 * size)) {
            for (std::size_t k = 0; k < size; ++k) std::swap(rows[i + k], rows[i + size + k]);
        }
    }

    Result run_on(int threads) const {
        const bool loss = net.ends_in_loss();
        const auto size = static_cast<std::size_t>(net.program.nodes.back().shape.size());
        Result out;
        out.values.assign(pairs() * 2 * size, std::numeric_limits<double>::quiet_NaN());
        out.tie.assign(pairs(), -7);
        out.crossed.assign(pairs(), -7);
        std::vector<T> given(loss ? 0 : out.values.size(), std::numeric_limits<T>::quiet_NaN());
        fdfast::Job<T> job{};
        job.program = &net.program;
        job.prepared = &prepared;
        job.tiles = {offsets.data(), members.data(), weights.empty() ? nullptr : weights.data()};
        job.pairs = static_cast<std::int64_t>(pairs());
        job.image = image.data();
        job.tile = tile.data();
        job.step = step.data();
        job.rows_in = rows.empty() ? nullptr : rows.data();
        job.delta = loss ? out.values.data() : nullptr;
        job.rows_out = loss ? nullptr : given.data();
        job.tie = out.tie.data();
        job.crossed = out.crossed.data();
        job.held = held;
        job.threads = threads;
        job.interrupted = interrupted;
        out.done = fdfast::run(job);
        std::copy(given.begin(), given.end(), out.values.begin());
        return out;
    }
};

// Appends a random operation on random sources, if it fits.
template <typename T>
void grow(Net<T>& net, Dice& dice) {
    constexpr Smooth kFunctions[] = {Smooth::sigmoid, Smooth::tanh, Smooth::softplus, Smooth::softsign,
                                     Smooth::elu,     Smooth::silu, Smooth::gelu,     Smooth::erf};
    const std::int32_t s = dice.one_in(3) ? dice.from(0, net.last()) : net.last();
    const Shape in = net.shape(s);
    const double reach = net.reach_of(s);
    const auto op = static_cast<Op>(dice.from(static_cast<int>(Op::conv), static_cast<int>(Op::reshape)));
    Node<T> node = make<T>(op, {s}, in);
    std::vector<double> weights;
    double bound = reach;
    switch (op) {
        case Op::conv:
        case Op::depthwise:
        case Op::average:
        case Op::maximum: {
            const bool pool = op == Op::average || op == Op::maximum;
            auto& w = node.window;
            const auto axis = [&](std::int32_t n, std::int32_t& k, std::int32_t& stride, std::int32_t& dilation,
                                  std::int32_t& pad) {
                k = dice.from(1, pool ? 4 : 7);
                stride = dice.one_in(2) ? 1 : dice.from(1, 3);
                dilation = pool || dice.one_in(2) ? 1 : dice.from(1, 3);
                pad = dice.from(0, (k - 1) * dilation);
                return dice.from(1, std::min(10, (n - 1 + pad) / stride + 1));
            };
            node.shape.h = axis(in.h, w.kh, w.sh, w.dh, w.top);
            node.shape.w = axis(in.w, w.kw, w.sw, w.dw, w.left);
            if (!pool && dice.one_in(5)) {
                w = {in.h, in.w, 1, 1, 1, 1, 0, 0};
                node.shape = {1, 1, in.c};
            }
            if (op == Op::conv) {
                node.shape.c = dice.from(1, dice.one_in(2) ? 70 : 9);
                const std::int32_t groups = dice.from(1, 4);
                if (in.c % groups == 0 && node.shape.c % groups == 0) node.groups = groups;
            }
            const double cells = static_cast<double>(w.kh) * w.kw;
            node.whole_count = dice.one_in(2);
            if (!pool) {
                const std::int32_t each_in = op == Op::conv ? in.c / node.groups : 1;
                weights = dice.numbers(std::int64_t{w.kh} * w.kw * each_in * node.shape.c);
                bound = reach * cells * each_in * 2;
            }
            break;
        }
        case Op::ramp:
            if (dice.one_in(3)) node.slope = 0.25;
            if (dice.one_in(3)) node.cap = 1.5;
            break;
        case Op::smooth:
            node.function = kFunctions[static_cast<std::size_t>(dice.from(0, 7))];
            node.alpha = dice.one_in(2) ? 1 : 0.5;
            bound = 2 * reach;
            break;
        case Op::scale:
            weights = dice.numbers(in.c);
            bound = 2 * reach;
            break;
        case Op::add:
        case Op::multiply: {
            const std::int32_t other = dice.from(0, net.last());
            if (!(net.shape(other) == in)) return;
            node.sources.push_back(other);
            node.coefficients = {dice.number(), dice.number()};
            bound = op == Op::add ? 2 * (reach + net.reach_of(other)) : (reach + 2) * (net.reach_of(other) + 2);
            break;
        }
        case Op::concat: {
            const std::int32_t other = dice.from(0, net.last());
            if (net.shape(other).h != in.h || net.shape(other).w != in.w) return;
            node.sources.push_back(other);
            node.shape.c += net.shape(other).c;
            bound = std::max(reach, net.reach_of(other));
            break;
        }
        case Op::shift:
            node.window.top = dice.from(-3, 3);
            node.window.left = dice.from(-3, 3);
            node.shape = {dice.from(1, in.h + 2), dice.from(1, in.w + 2), in.c};
            break;
        case Op::repeat:
            node.window.kh = dice.from(1, 3);
            node.window.kw = dice.from(1, 3);
            node.shape = {in.h * node.window.kh, in.w * node.window.kw, in.c};
            break;
        case Op::resample:
            node.shape = {dice.from(1, in.h + 3), dice.from(1, in.w + 3), in.c};
            weights = dice.numbers(std::int64_t{node.shape.h} * in.h + std::int64_t{node.shape.w} * in.w);
            for (double& share : weights) share = dice.one_in(2) ? 0 : share;
            bound = 4 * reach * in.h * in.w;
            break;
        case Op::dilate:
            node.window.kh = dice.from(1, 3);
            node.window.kw = dice.from(1, 3);
            node.shape = {in.h * node.window.kh, in.w * node.window.kw, in.c};
            break;
        case Op::part:
            node.window.left = dice.from(0, in.c - 1);
            node.shape.c = dice.from(1, in.c - node.window.left);
            break;
        case Op::reshape:
            node.shape = dice.one_in(2) ? Shape{1, 1, static_cast<std::int32_t>(in.size())} : Shape{in.c, in.h, in.w};
            break;
        default:
            return;
    }
    if (node.shape.size() > 4000 || weights.size() > 100000 || bound > 1e12) return;
    net.add(std::move(node), weights, bound);
}

template <typename T>
void finish(Net<T>& net, Dice& dice) {
    const Shape in = net.shape(net.last());
    const double reach = net.reach_of(net.last());
    if (in.h != 1 || in.w != 1 || reach > 1e5) return;
    const std::int32_t s = net.last();
    switch (dice.from(0, 3)) {
        case 0:
            net.add(make<T>(Op::softmax, {s}, in), {}, 1 + reach);
            break;
        case 1:
            net.add(make<T>(Op::cross_entropy, {s}, {1, 1, 1}), {}, 4.0 * in.c * (1 + reach));
            break;
        case 2:
            net.add(make<T>(Op::squared_error, {s}, {1, 1, 1}), {}, reach * (8 + reach));
            break;
        default:
            break;
    }
}

template <typename T>
void fill(Task<T>& task, Dice& dice, std::int64_t images) {
    const Shape in = task.net.shape(0);
    const std::int32_t tiles = dice.from(1, 3);
    for (std::int32_t t = 0; t < tiles; ++t) {
        std::vector<std::int64_t> of;
        const std::int32_t h = dice.one_in(3) ? in.h : 1, y = dice.from(0, in.h - h);
        const std::int32_t w = dice.one_in(3) ? in.w : 1, x = dice.from(0, in.w - w);
        const std::int32_t c = dice.one_in(2) ? in.c : 1, first = dice.from(0, in.c - c);
        for (std::int64_t m = 0; m < in.size(); ++m) {
            const std::int64_t my = m / in.c / in.w, mx = m / in.c % in.w, mc = m % in.c;
            const bool inside = my >= y && my < y + h && mx >= x && mx < x + w && mc >= first && mc < first + c;
            if (inside || dice.one_in(40)) of.push_back(m);
        }
        task.add_tile(of);
    }
    if (dice.one_in(2)) {
        for (std::size_t m = 0; m < task.members.size(); ++m) task.weights.push_back(dice.one_in(2) ? -1 : 0.75);
    }
    const std::vector<double> other{-1, -1, -1, 2, 0.5, 1, 0.7, 0};
    for (int i = 0; i < 40; ++i) {
        const double a = dice.one_in(8) ? 0 : dice.one_in(2) ? 0.5 : 0.001;
        const double b = a * other[static_cast<std::size_t>(dice.from(0, 7))];
        task.add_pair(dice.from(0, static_cast<std::int32_t>(images) - 1), dice.from(0, tiles - 1), a, b);
    }
    if (dice.one_in(4)) {
        for (std::size_t i = 0; i < task.pairs(); ++i) {
            const double ratio = task.step[2 * i] == 0 ? 0 : task.step[2 * i + 1] / task.step[2 * i];
            std::vector<double> row = dice.numbers(in.size());
            for (const double d : row) task.rows.push_back(static_cast<T>(d / 2));
            for (const double d : row) task.rows.push_back(static_cast<T>(d / 2 * ratio));
        }
    }
}

template <typename T>
void fuzz(std::uint64_t seed) {
    Dice dice{seed};
    Net<T> net({dice.from(1, 8), dice.from(1, 8), dice.from(1, dice.one_in(3) ? 40 : 4)});
    const std::int32_t depth = dice.from(1, 8);
    for (std::int32_t i = 0; i < depth; ++i) grow(net, dice);
    finish(net, dice);
    const std::int64_t images = dice.from(1, 2);
    const fdfast::Prepared<T> prepared = net.prepare_with(dice, images, 2);
    Task<T> task{net, prepared};
    fill(task, dice, images);
    task.held = dice.one_in(2);

    const Result first = task.run_on(1);
    CHECK(first.done);
    CHECK(first == task.run_on(1));
    CHECK(first == task.run_on(2));
    // Either displacement is carried as well in the place of the other. Rounding: a unit in the last place of the
    // largest difference, for each of some thousands of operations.
    task.swap_sides();
    const Result swapped = task.run_on(1);
    const double allowed = 4096 * static_cast<double>(std::numeric_limits<T>::epsilon()) * net.reach.back();
    const auto size = static_cast<std::size_t>(net.program.nodes.back().shape.size());
    const auto count = static_cast<std::int32_t>(net.program.nodes.size());
    for (std::size_t i = 0; i < task.pairs(); ++i) {
        CHECK(first.tie[i] >= -1 && first.tie[i] < count && first.crossed[i] >= -1 && first.crossed[i] < count);
        for (std::size_t k = 0; k < size; ++k) {
            const double a = first.values[2 * i * size + k], b = first.values[(2 * i + 1) * size + k];
            CHECK(std::isfinite(a) && std::isfinite(b));
            CHECK(std::abs(a) <= 1.01 * net.reach.back());
            CHECK(std::abs(a - swapped.values[(2 * i + 1) * size + k]) <= allowed);
            CHECK(std::abs(b - swapped.values[2 * i * size + k]) <= allowed);
        }
    }
}

TEST(random_programs_in_float32) {
    for (std::uint64_t seed = 0; seed < 150; ++seed) fuzz<float>(seed);
}
TEST(random_programs_in_float64) {
    for (std::uint64_t seed = 1000; seed < 1150; ++seed) fuzz<double>(seed);
}

// Without weights the windows alone matter: how far apart what is united may lie.
template <typename T>
void unite(std::int32_t by, Op op) {
    Net<T> net({12, 3, 2});
    Node<T> moved = make<T>(Op::shift, {0}, {12, 3, 2});
    moved.window.top = by;
    net.add(std::move(moved), {}, 2);
    Node<T> both = make<T>(op, {0, 1}, {12, 3, op == Op::concat ? 4 : 2});
    both.coefficients = {1, -1};
    net.add(std::move(both), {}, 4);
    Dice dice{1};
    const fdfast::Prepared<T> prepared = net.prepare_with(dice, 1, 1);
    Task<T> task{net, prepared};
    for (std::int64_t m = 0; m < 72; ++m) {
        task.add_tile({m});
        task.add_pair(0, m, 0.5, -0.5);
    }
    CHECK(task.run_on(1) == task.run_on(2));
}

TEST(windows_far_apart_are_united) {
    for (const Op op : {Op::add, Op::multiply, Op::concat}) {
        for (const std::int32_t by : {-11, -5, 0, 7, 11}) {
            unite<float>(by, op);
            unite<double>(by, op);
        }
    }
}

template <typename T>
void one_conv(const Shape& in, const Shape& out, const fdfast::Window& window) {
    Net<T> net(in);
    Node<T> node = make<T>(Op::conv, {0}, out);
    node.window = window;
    Dice dice{2};
    net.add(std::move(node), dice.numbers(std::int64_t{window.kh} * window.kw * in.c * out.c), 1e6);
    const fdfast::Prepared<T> prepared = net.prepare_with(dice, 1, 1);
    Task<T> task{net, prepared};
    std::vector<std::int64_t> all;
    for (std::int64_t m = 0; m < in.size(); ++m) {
        task.add_tile({m});
        all.push_back(m);
    }
    task.add_tile(all);
    for (std::int64_t t = 0; t <= in.size(); ++t) task.add_pair(0, t, 1, -1);
    const Result out_of = task.run_on(1);
    // Linear, and with small numbers exact: the whole is the sum of its parts.
    const auto size = static_cast<std::size_t>(out.size());
    for (std::size_t k = 0; k < size; ++k) {
        double sum = 0;
        for (std::size_t t = 0; t < all.size(); ++t) sum += out_of.values[2 * t * size + k];
        CHECK(sum == out_of.values[2 * all.size() * size + k]);
    }
}

TEST(windows_that_the_end_of_the_map_cuts) {
    for (std::int32_t h = 1; h <= 5; ++h) {
        one_conv<float>({5, 3, 3}, {h, 2, 5}, {1, 1, 1, 1, 1, 1, 0, 0});
        one_conv<double>({5, 3, 3}, {h, 3, 17}, {1, 1, 1, 1, 1, 1, 0, 0});
        one_conv<double>({5, 4, 2}, {h, 3, 9}, {3, 3, 1, 1, 1, 1, 2, 1});
    }
}

TEST(a_window_of_more_than_64_rows_has_one_cell_of_output) {
    one_conv<float>({80, 2, 2}, {1, 1, 5}, {80, 2, 1, 1, 1, 1, 0, 0});
    Net<float> net({80, 4, 1});
    Node<float> node = make<float>(Op::conv, {0}, {1, 4, 1});
    node.window = {80, 1, 1, 1, 1, 1, 0, 0};
    bool refused = false;
    const std::vector<double> weights(80, 1.0);
    try {
        append(net.program, std::move(node), weights.data());
    } catch (const std::invalid_argument&) {
        refused = true;
    }
    CHECK(refused);
}

TEST(a_depthwise_window_of_more_than_256_cells) {
    Net<float> net({20, 20, 3});
    Node<float> node = make<float>(Op::depthwise, {0}, {2, 2, 3});
    node.window = {19, 19, 1, 1, 1, 1, 0, 0};
    net.add(std::move(node), std::vector<double>(19 * 19 * 3, 1.0), 1e4);
    Dice dice{3};
    const fdfast::Prepared<float> prepared = net.prepare_with(dice, 1, 1);
    Task<float> task{net, prepared};
    std::vector<std::int64_t> all;
    for (std::int64_t m = 0; m < 1200; ++m) all.push_back(m);
    task.add_tile(all);
    task.add_pair(0, 0, 1, -1);
    for (const double v : task.run_on(1).values) CHECK(std::abs(v) == 361);
}

TEST(extreme_arguments_of_smooth_functions) {
    for (std::int32_t f = 0; f < static_cast<std::int32_t>(Smooth::count); ++f) {
        const auto function = static_cast<Smooth>(f);
        if (function == Smooth::exponential || (function >= Smooth::root && function <= Smooth::logarithm)) continue;
        Net<double> net({1, 1, 9});
        Node<double> node = make<double>(Op::smooth, {0}, {1, 1, 9});
        node.function = function;
        net.add(std::move(node), {}, 1e300);
        const std::vector<double> z{0, 1e-300, -1e-300, 40, -40, 800, -800, 1e30, -1e30};
        const fdfast::Prepared<double> prepared = prepare(net.program, 1, {z.data()}, nullptr, 1);
        Task<double> task{net, prepared};
        task.add_tile({0, 1, 2, 3, 4, 5, 6, 7, 8});
        for (const double h : {1e-300, 1e-9, 1.0, 50.0, 1000.0, 1e30}) task.add_pair(0, 0, h, -h);
        for (const double v : task.run_on(1).values) CHECK(std::isfinite(v));
    }
}

TEST(extreme_arguments_of_functions_of_positive_numbers) {
    for (const Smooth f : {Smooth::root, Smooth::inverse_root, Smooth::reciprocal, Smooth::logarithm}) {
        Net<double> net({1, 1, 5});
        Node<double> node = make<double>(Op::smooth, {0}, {1, 1, 5});
        node.function = f;
        net.add(std::move(node), {}, 1e300);
        const std::vector<double> z{1e-300, 1e-9, 1, 800, 1e30};
        const fdfast::Prepared<double> prepared = prepare(net.program, 1, {z.data()}, nullptr, 1);
        Task<double> task{net, prepared};
        task.add_tile({0, 1, 2, 3, 4});
        for (const double h : {1e-305, 1e-9, 1.0, 50.0, 1000.0, 1e30}) task.add_pair(0, 0, h, h / 2);
        for (const double v : task.run_on(1).values) CHECK(std::isfinite(v));
    }
}

TEST(a_distribution_that_turns_over) {
    for (const Op op : {Op::softmax, Op::cross_entropy}) {
        Net<double> net({1, 1, 3});
        net.add(make<double>(op, {0}, {1, 1, op == Op::softmax ? 3 : 1}), {}, 1e6);
        const std::vector<double> z{50, 0, -3}, y{0, 0.5, 0.5};
        const fdfast::Prepared<double> prepared =
            prepare(net.program, 1, {z.data()}, op == Op::softmax ? nullptr : y.data(), 1);
        Task<double> task{net, prepared};
        task.add_tile({0});
        task.add_tile({1, 2});
        for (const double h : {1.0, 60.0, 300.0, 2000.0}) {
            task.add_pair(0, 0, h, -h);
            task.add_pair(0, 1, h, -h);
        }
        for (const double v : task.run_on(1).values) CHECK(std::isfinite(v));
    }
}

TEST(no_pairs_and_an_interrupted_run) {
    Net<float> net({16, 16, 8});
    Node<float> node = make<float>(Op::conv, {0}, {16, 16, 64});
    node.window = {7, 7, 1, 1, 1, 1, 3, 3};
    net.add(std::move(node), std::vector<double>(7 * 7 * 8 * 64, 1.0), 1e9);
    net.add(make<float>(Op::maximum, {1}, {1, 1, 64}), {}, 1e9);
    Dice dice{4};
    const fdfast::Prepared<float> prepared = net.prepare_with(dice, 1, 1);
    Task<float> task{net, prepared};
    std::vector<std::int64_t> all;
    for (std::int64_t m = 0; m < 2048; ++m) all.push_back(m);
    task.add_tile(all);
    CHECK(task.run_on(2).done);
    for (int i = 0; i < 2000; ++i) task.add_pair(0, 0, 1, -1);
    task.interrupted = [](void*) { return true; };
    CHECK(!task.run_on(2).done);  // 2000 pairs take longer than the 50 ms after which it is asked
}

}  // namespace
