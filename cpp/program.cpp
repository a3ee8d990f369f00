#include "program.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>

#include "parallel.hpp"

namespace fdfast {
namespace {

std::int32_t padded(std::int32_t channels, std::int32_t block) {
    return (channels + block - 1) / block * block;
}

void demand(bool holds, const std::string& message) {
    if (!holds) throw std::invalid_argument(message);
}

std::string text(const Shape& s) {
    return "(" + std::to_string(s.h) + ", " + std::to_string(s.w) + ", " + std::to_string(s.c) + ")";
}

bool is_loss(Op op) {
    return op == Op::cross_entropy || op == Op::squared_error;
}

template <typename T>
void pack_conv(Node<T>& node, std::int32_t channels, const double* weights) {
    const std::int64_t taps = std::int64_t{node.window.kh} * node.window.kw;
    const std::int32_t each_in = channels / node.groups, each_out = node.shape.c / node.groups;
    const std::int64_t blocks = padded(each_out, kBlock<T>) / kBlock<T>;
    node.weights = make_buffer<T>(node.groups * blocks * each_in * taps * kBlock<T>);
    for (std::int32_t g = 0; g < node.groups; ++g) {
        for (std::int64_t tap = 0; tap < taps; ++tap) {
            for (std::int32_t c = 0; c < each_in; ++c) {
                const double* from = weights + (tap * each_in + c) * node.shape.c + std::int64_t{g} * each_out;
                for (std::int32_t o = 0; o < each_out; ++o) {
                    const std::int64_t block = g * blocks + o / kBlock<T>;
                    const std::int64_t row = node.by_tap ? tap * each_in + c : c * taps + tap;
                    const std::int64_t at = (block * each_in * taps + row) * kBlock<T> + o % kBlock<T>;
                    node.weights[static_cast<std::size_t>(at)] = static_cast<T>(from[o]);
                }
            }
        }
    }
}

template <typename T>
void pack_rows(Node<T>& node, std::int64_t rows, const double* weights) {
    node.weights = make_buffer<T>(rows * node.stored);
    for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int32_t c = 0; c < node.shape.c; ++c) {
            node.weights[static_cast<std::size_t>(i * node.stored + c)] = static_cast<T>(weights[i * node.shape.c + c]);
        }
    }
}

// Values within a few units of rounding of a kink are taken for ties: the base pass is that inexact.
constexpr double kTie = 0x1p-46;

double largest_magnitude(const double* z, std::int64_t count) {
    // Eight maxima side by side: a single one would have to wait for itself.
    double top[8] = {};
    const auto take = [&top, z](std::int64_t i) {
        const double size = std::abs(z[i]);
        double& lane = top[i % 8];
        lane = size > lane && size <= std::numeric_limits<double>::max() ? size : lane;
    };
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        for (std::int64_t k = 0; k < 8; ++k) take(i + k);
    }
    for (; i < count; ++i) take(i);
    return *std::max_element(top, top + 8);
}

// z with its channels padded.
template <typename T, typename F>
void spread(const Shape& shape, std::int32_t stored, const double* z, T* out, F f) {
    for (std::int64_t cell = 0; cell < std::int64_t{shape.h} * shape.w; ++cell) {
        for (std::int32_t c = 0; c < shape.c; ++c) out[cell * stored + c] = static_cast<T>(f(z[cell * shape.c + c]));
    }
}

double logistic(double z) {
    return z >= 0 ? 1 / (1 + std::exp(-z)) : std::exp(z) / (1 + std::exp(z));
}

// Planes that `smooth` in curves.hpp reads: z, and what the function needs of it.
template <typename T>
void prepare_smooth(const Node<T>& node, const double* z, T* out) {
    const std::int64_t plane = std::int64_t{node.shape.h} * node.shape.w * node.stored;
    const auto put = [&](int at, auto f) { spread(node.shape, node.stored, z, out + at * plane, f); };
    constexpr double kRoot = 0.707106769084930419921875, kTwoOverRootPi = 1.1283791670955126;
    put(0, [](double v) { return v; });
    switch (node.function) {
        case Smooth::sigmoid:
        case Smooth::silu:
            put(1, logistic);
            put(2, [](double v) { return logistic(v) * logistic(-v); });
            break;
        case Smooth::tanh:
            put(1, [](double v) { return logistic(2 * v); });
            put(2, [](double v) { return 2 * logistic(2 * v) * logistic(-2 * v); });
            break;
        case Smooth::softplus:
            put(1, logistic);
            break;
        case Smooth::exponential:
            put(1, [](double v) { return std::exp(v); });
            break;
        case Smooth::gelu:
            put(1, [](double v) { return 0.5 * std::erfc(-v * kRoot); });
            put(2, [](double v) { return 0.5 * kTwoOverRootPi * std::exp(-v * kRoot * (v * kRoot)); });
            break;
        case Smooth::erf:
            put(1, [](double v) { return kTwoOverRootPi * std::exp(-v * v); });
            break;
        case Smooth::softsign:
        case Smooth::elu:
        case Smooth::root:
        case Smooth::inverse_root:
        case Smooth::reciprocal:
        case Smooth::logarithm:
        case Smooth::count:
            break;
    }
}

// Window by window: the largest cell of each channel first, then how far the others lie below it.
template <typename T>
void prepare_gaps(const Node<T>& node, const Shape& map, const double* z, T* out) {
    const Window& w = node.window;
    const double tie = kTie * largest_magnitude(z, map.size());
    constexpr double kLowest = -std::numeric_limits<double>::infinity();
    constexpr T kNone = std::numeric_limits<T>::infinity();
    std::vector<double> top(static_cast<std::size_t>(map.c));
    for (std::int32_t y = 0; y < node.shape.h; ++y) {
        for (std::int32_t x = 0; x < node.shape.w; ++x, out += std::int64_t{w.kh} * w.kw * node.stored) {
            const auto cell = [&](std::int32_t tap) -> const double* {
                const std::int32_t iy = y * w.sh - w.top + tap / w.kw, ix = x * w.sw - w.left + tap % w.kw;
                if (iy < 0 || iy >= map.h || ix < 0 || ix >= map.w) return nullptr;
                return z + (std::int64_t{iy} * map.w + ix) * map.c;
            };
            std::fill(top.begin(), top.end(), kLowest);
            for (std::int32_t t = 0; t < w.kh * w.kw; ++t) {
                const double* const p = cell(t);
                if (p == nullptr) continue;
                for (std::size_t c = 0; c < top.size(); ++c) top[c] = p[c] > top[c] ? p[c] : top[c];
            }
            for (std::int32_t t = 0; t < w.kh * w.kw; ++t) {
                const double* const p = cell(t);
                T* const to = out + std::int64_t{t} * node.stored;
                if (p == nullptr) {
                    std::fill_n(to, node.stored, kNone);
                    continue;
                }
                for (std::size_t c = 0; c < top.size(); ++c) {
                    const double gap = top[c] - p[c];
                    // A gap that float cannot hold still is none of 0.
                    const double held =
                        gap > std::numeric_limits<T>::min() ? gap : double{std::numeric_limits<T>::min()};
                    to[c] = static_cast<T>(gap <= tie ? 0.0 : held);
                }
            }
        }
    }
}

template <typename T>
void prepare_ramp(const Node<T>& node, const double* z, T* out) {
    const double tie = kTie * largest_magnitude(z, node.shape.size());
    const auto near = [tie](double v) { return std::abs(v) <= tie ? 0.0 : v; };
    spread(node.shape, node.stored, z, out, near);
    if (std::isfinite(node.cap)) {
        const std::int64_t plane = std::int64_t{node.shape.h} * node.shape.w * node.stored;
        // Padded channels lie below the cap: there is no tie in them.
        std::fill_n(out + plane, plane, T{-1});
        spread(node.shape, node.stored, z, out + plane, [&](double v) { return near(v - node.cap); });
    }
}

void softmax_of(const double* z, std::int64_t count, double* p) {
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (std::int64_t k = 0; k < count; ++k) top = std::max(top, z[k]);
    for (std::int64_t k = 0; k < count; ++k) sum += p[k] = std::exp(z[k] - top);
    for (std::int64_t k = 0; k < count; ++k) p[k] /= sum;
}

// Elements per image that a node keeps, 0: none.
template <typename T>
std::int64_t kept(const Node<T>& node) {
    const std::int64_t plane = std::int64_t{node.shape.h} * node.shape.w * node.stored;
    switch (node.op) {
        case Op::ramp:
            return std::isfinite(node.cap) ? 2 * plane : plane;
        case Op::smooth:
            return 3 * plane;
        case Op::multiply:
            return 2 * plane;
        case Op::maximum:
            return plane * node.window.kh * node.window.kw;
        default:
            return 0;
    }
}

constexpr std::int64_t kLargest = std::int64_t{1} << 30;  // elements of a map
constexpr std::int64_t kMost = std::int64_t{1} << 40;     // elements that a node keeps per image
constexpr std::int64_t kFar = std::int64_t{1} << 28;      // sums of a few such numbers fit in 32 bits

template <typename T>
void check_window(const Node<T>& node, const Shape& in) {
    const Window& w = node.window;
    demand(w.kh > 0 && w.kw > 0 && w.sh > 0 && w.sw > 0 && w.dh > 0 && w.dw > 0,
           "window, strides and dilation must be positive");
    demand(w.top >= 0 && w.left >= 0, "padding must not be negative");
    const auto reach = std::max({std::int64_t{w.kh} * w.dh, std::int64_t{w.kw} * w.dw, std::int64_t{w.kh} * w.kw});
    demand(reach < kFar && std::max({w.sh, w.sw, w.top, w.left}) < kFar, "window, strides or padding are too large");
    demand(w.kh <= 64 || (node.shape.h == 1 && node.shape.w == 1),
           "a window of " + std::to_string(w.kh) + " rows is too high: 64 is the limit unless the output is one cell");
    const auto fits = [](std::int32_t out, std::int32_t s, std::int32_t pad, std::int32_t n) {
        return std::int64_t{out - 1} * s - pad < n;
    };
    demand(fits(node.shape.h, w.sh, w.top, in.h) && fits(node.shape.w, w.sw, w.left, in.w),
           "an output of shape " + text(node.shape) + " has windows that begin beyond an input of shape " + text(in));
}

template <typename T>
void check(const Program<T>& program, const Node<T>& node, const double* weights) {
    demand(node.shape.h > 0 && node.shape.w > 0 && node.shape.c > 0, "shape must be positive, got " + text(node.shape));
    // Two factors first: the product of three such numbers need not fit in 64 bits.
    demand(std::int64_t{node.shape.h} * node.shape.w < kLargest && node.shape.size() < kLargest,
           "shape " + text(node.shape) + " is too large");
    const auto count = static_cast<std::int32_t>(program.nodes.size());
    demand((node.op == Op::input) == (count == 0), "the first node, and only the first, is the input");
    demand(count == 0 || !is_loss(program.nodes.back().op), "nothing comes after a loss");
    for (const std::int32_t s : node.sources) {
        demand(s >= 0 && s < count,
               "source " + std::to_string(s) + " is not one of the " + std::to_string(count) + " nodes so far");
    }
    if (node.op == Op::input) return;
    demand(!node.sources.empty(), "a node needs a source");
    const bool many = node.op == Op::add || node.op == Op::concat || node.op == Op::multiply;
    demand(many || node.sources.size() == 1, "this operation takes one source");
    const Shape& in = program.nodes[static_cast<std::size_t>(node.sources[0])].shape;
    const std::string shapes = "input of shape " + text(in) + ", output " + text(node.shape);
    const bool weighted =
        node.op == Op::conv || node.op == Op::depthwise || node.op == Op::scale || node.op == Op::resample;
    demand(weighted == (weights != nullptr), weighted ? "weights are missing" : "this operation takes no weights");
    switch (node.op) {
        case Op::conv:
            check_window(node, in);
            demand(node.groups > 0 && in.c % node.groups == 0 && node.shape.c % node.groups == 0,
                   "channels must be a multiple of groups: " + shapes);
            break;
        case Op::depthwise:
        case Op::average:
        case Op::maximum:
            check_window(node, in);
            demand(in.c == node.shape.c, "channels must stay the same: " + shapes);
            demand(node.op == Op::depthwise || (node.window.dh == 1 && node.window.dw == 1),
                   "pooling takes no dilation");
            break;
        case Op::ramp:
            demand(node.cap > 0 && std::isfinite(node.slope), "a ramp's cap must be positive and its slope finite");
            [[fallthrough]];
        case Op::smooth:
        case Op::scale:
        case Op::hold:
            demand(in == node.shape, "shapes must be equal: " + shapes);
            break;
        case Op::add:
            demand(node.coefficients.size() == node.sources.size(), "one coefficient for each source");
            [[fallthrough]];
        case Op::multiply:
            demand(node.op == Op::add || node.sources.size() == 2, "a product takes two sources");
            for (const std::int32_t s : node.sources) {
                demand(program.nodes[static_cast<std::size_t>(s)].shape == node.shape,
                       "shapes must be equal: " + shapes);
            }
            break;
        case Op::concat: {
            std::int64_t channels = 0;
            for (const std::int32_t s : node.sources) {
                const Shape& one = program.nodes[static_cast<std::size_t>(s)].shape;
                demand(one.h == node.shape.h && one.w == node.shape.w, "maps side by side must be of equal size");
                channels += one.c;
            }
            demand(channels == node.shape.c, "channels must add up: " + shapes);
            break;
        }
        case Op::resample:
            demand(in.c == node.shape.c, "channels must stay the same: " + shapes);
            demand(std::int64_t{in.h} * node.shape.h < kLargest && std::int64_t{in.w} * node.shape.w < kLargest,
                   "the axes are too long: " + shapes);
            break;
        case Op::shift:
            demand(in.c == node.shape.c, "channels must stay the same: " + shapes);
            demand(std::max(std::abs(std::int64_t{node.window.top}), std::abs(std::int64_t{node.window.left})) < kFar,
                   "shifts are too large");
            break;
        case Op::repeat:
        case Op::dilate:
            demand(node.window.kh > 0 && node.window.kw > 0 && in.c == node.shape.c &&
                       node.shape.h == std::int64_t{in.h} * node.window.kh &&
                       node.shape.w == std::int64_t{in.w} * node.window.kw,
                   "every cell is repeated kh x kw times: " + shapes);
            break;
        case Op::part:
            demand(in.h == node.shape.h && in.w == node.shape.w && node.window.left >= 0 &&
                       std::int64_t{node.window.left} + node.shape.c <= in.c,
                   "a part takes channels that are there: " + shapes);
            break;
        case Op::reshape:
            demand(in.size() == node.shape.size(), "all elements are kept: " + shapes);
            break;
        case Op::softmax:
            demand(in == node.shape && in.h == 1 && in.w == 1, "softmax takes a vector: " + shapes);
            break;
        case Op::cross_entropy:
        case Op::squared_error:
            demand(in.h == 1 && in.w == 1 && (node.shape == Shape{1, 1, 1}),
                   "a loss takes a vector and is a number: " + shapes);
            break;
        case Op::input:
            break;
    }
    demand(node.op != Op::smooth || (node.function >= Smooth::sigmoid && node.function < Smooth::count),
           "unknown function");
}

// From a matrix of shape (to, from).
Spread spread_of(const double* matrix, std::int32_t to, std::int32_t from) {
    Spread out;
    out.begin.push_back(0);
    for (std::int32_t p = 0; p < from; ++p) {
        for (std::int32_t q = 0; q < to; ++q) {
            const double share = matrix[std::int64_t{q} * from + p];
            if (share == 0) continue;
            out.to.push_back(q);
            out.share.push_back(share);
        }
        out.begin.push_back(static_cast<std::int32_t>(out.to.size()));
    }
    return out;
}

}  // namespace

template <typename T>
std::int32_t append(Program<T>& program, Node<T> node, const double* weights) {
    check(program, node, weights);
    const auto number = static_cast<std::int32_t>(program.nodes.size());
    node.stored = padded(node.shape.c, kBlock<T>);
    node.last_use = number;
    demand(kept(node) < kMost, "shape " + text(node.shape) + " is too large for what this operation keeps");
    if (node.op == Op::conv) {
        node.by_tap = node.shape.h == 1 && node.shape.w == 1;
        const Shape& in = program.nodes[static_cast<std::size_t>(node.sources[0])].shape;
        const Window& w = node.window;
        node.whole = node.by_tap && node.groups == 1 && w.kh == in.h && w.kw == in.w && w.dh == 1 && w.dw == 1 &&
                     w.top == 0 && w.left == 0;
        node.size = std::int64_t{w.kh} * w.kw * (in.c / node.groups) * node.shape.c;
        pack_conv(node, in.c, weights);
    } else if (node.op == Op::depthwise) {
        pack_rows(node, std::int64_t{node.window.kh} * node.window.kw, weights);
    } else if (node.op == Op::scale) {
        pack_rows(node, 1, weights);
    } else if (node.op == Op::resample) {
        const Shape& in = program.nodes[static_cast<std::size_t>(node.sources[0])].shape;
        node.rows = spread_of(weights, node.shape.h, in.h);
        node.columns = spread_of(weights + std::int64_t{node.shape.h} * in.h, node.shape.w, in.w);
    }
    for (const std::int32_t s : node.sources) program.nodes[static_cast<std::size_t>(s)].last_use = number;
    const bool needs = kept(node) > 0 || node.op == Op::softmax || is_loss(node.op);
    for (const std::int32_t s : node.sources) {
        const auto known = std::find(program.needed.begin(), program.needed.end(), s);
        if (needs && known == program.needed.end()) program.needed.push_back(s);
    }
    program.nodes.push_back(std::move(node));
    return number;
}

template <typename T>
Prepared<T> prepare(const Program<T>& program, std::int64_t images, const std::vector<const double*>& values,
                    const double* targets, int threads) {
    const std::size_t count = program.nodes.size();
    Prepared<T> out;
    out.images = images;
    out.values.resize(count);
    out.stride.resize(count);
    out.tail.resize(count);
    for (std::size_t n = 0; n < count; ++n) {
        const Node<T>& node = program.nodes[n];
        out.stride[n] = kept(node);
        demand(
            images <= std::numeric_limits<std::int64_t>::max() / std::max<std::int64_t>(out.stride[n], kLargest) / 16,
            std::to_string(images) + " images are too many");
        if (out.stride[n] > 0) out.values[n] = make_buffer<T>(images * out.stride[n]);
        if (node.op == Op::softmax || is_loss(node.op)) {
            const std::int32_t c = program.nodes[static_cast<std::size_t>(node.sources[0])].shape.c;
            out.tail[n] = make_buffer<double>(images * ((c + 7) / 8 * 8) * (is_loss(node.op) ? 2 : 1));
        }
    }
    const auto value_of = [&](std::int32_t source, std::int64_t image) {
        const auto at = std::find(program.needed.begin(), program.needed.end(), source) - program.needed.begin();
        return values[static_cast<std::size_t>(at)] +
               image * program.nodes[static_cast<std::size_t>(source)].shape.size();
    };
    const auto one = [&](std::int64_t task) {
        const auto n = static_cast<std::size_t>(task % static_cast<std::int64_t>(count));
        const std::int64_t image = task / static_cast<std::int64_t>(count);
        const Node<T>& node = program.nodes[n];
        if (out.stride[n] == 0 && !out.tail[n]) return;
        const std::int32_t source = node.sources[0];
        const Shape& in = program.nodes[static_cast<std::size_t>(source)].shape;
        const double* z = value_of(source, image);
        T* const to = out.stride[n] > 0 ? out.values[n].get() + image * out.stride[n] : nullptr;
        const std::int64_t room = (in.c + 7) / 8 * 8;
        switch (node.op) {
            case Op::ramp:
                prepare_ramp(node, z, to);
                break;
            case Op::smooth:
                prepare_smooth(node, z, to);
                break;
            case Op::maximum:
                prepare_gaps(node, in, z, to);
                break;
            case Op::multiply: {
                const auto same = [](double v) { return v; };
                spread(node.shape, node.stored, z, to, same);
                spread(node.shape, node.stored, value_of(node.sources[1], image), to + out.stride[n] / 2, same);
                break;
            }
            case Op::softmax:
                softmax_of(z, in.c, out.tail[n].get() + image * room);
                break;
            case Op::cross_entropy:
            case Op::squared_error: {
                double* p = out.tail[n].get() + image * 2 * room;
                const double* y = targets + image * in.c;
                std::copy_n(y, in.c, p + room);
                if (node.op == Op::cross_entropy) {
                    softmax_of(z, in.c, p);
                } else {
                    for (std::int32_t k = 0; k < in.c; ++k) p[k] = z[k] - y[k];
                }
                break;
            }
            default:
                break;
        }
    };
    // A thread takes about as long to start as this many elements.
    constexpr std::int64_t kWorthAThread = 100000;
    const std::int64_t elements = images * std::accumulate(out.stride.begin(), out.stride.end(), std::int64_t{0});
    threads = static_cast<int>(std::min<std::int64_t>(threads, 1 + elements / kWorthAThread));
    parallel_for(images * static_cast<std::int64_t>(count), 1, threads,
                 [&](int, std::int64_t first, std::int64_t last) {
                     for (std::int64_t i = first; i < last; ++i) one(i);
                     return true;
                 });
    return out;
}

#define FDFAST_INSTANTIATE(T)                                                                                          \
    template std::int32_t append<T>(Program<T>&, Node<T>, const double*);                                              \
    template Prepared<T> prepare<T>(const Program<T>&, std::int64_t, const std::vector<const double*>&, const double*, \
                                    int);
FDFAST_INSTANTIATE(float)
FDFAST_INSTANTIATE(double)
#undef FDFAST_INSTANTIATE

}  // namespace fdfast
