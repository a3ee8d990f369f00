// A network as a list of nodes that differences are pushed through, window by window.
//
// A node's value is a map of shape (h, w, c), channels last; a vector is a map of 1 x 1. A program holds weights and
// geometry; what depends on the point (values of the network there) comes in `Prepared`, once per image. For one tile
// and two displacements a and b of it, `run` computes the difference of every node on the window that the tile reaches,
// depth first, so that all of it stays in the cache.
//
// Two lanes are carried: d_a, and the rest s = d_b - r d_a with r = b / a where that is a power of two, else 0. As long
// as every unit stays on its branch the network is linear in between and s is exactly zero, so b costs nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

namespace fdfast {

// Every map in memory has its channels padded with zeros to a whole number of such blocks.
inline constexpr std::int64_t kBlockBytes = 64;

// Weights of a dense layer from which on tiles that are walked side by side read them together.
inline constexpr std::int64_t kShared = std::int64_t{1} << 18;

template <typename T>
inline constexpr std::int32_t kBlock = static_cast<std::int32_t>(kBlockBytes / static_cast<std::int64_t>(sizeof(T)));

struct Shape {
    std::int32_t h = 1, w = 1, c = 1;
    std::int64_t size() const noexcept { return std::int64_t{h} * w * c; }
    bool operator==(const Shape& o) const noexcept { return h == o.h && w == o.w && c == o.c; }
};

enum class Op : std::int32_t {
    input,          // the tile, or dense rows
    conv,           // window: correlation, weights per group; a dense layer is a 1 x 1 window, or one of the whole map
    depthwise,      // window: one kernel per channel
    average,        // window: mean of the cells inside the map, or of all
    maximum,        // window: largest cell
    ramp,           // piecewise linear: slope below 0, 1 above, flat from `cap` on
    smooth,         // another function of one number
    scale,          // times a number per channel
    add,            // sum with one coefficient per source
    multiply,       // product of two
    concat,         // along the channels
    shift,          // moved by (top, left): padding and cropping
    repeat,         // every cell kh x kw times: nearest upsampling
    hold,           // its source; at rest in a job that holds such nodes
    resample,       // rows by one matrix, columns by another: resizing, mirrored borders, flips
    dilate,         // every cell once in kh x kw, zeros between: what a transposed convolution starts with
    part,           // channels left, left + 1, ...
    reshape,        // the same elements in the same order
    softmax,        // over the channels
    cross_entropy,  // loss from logits: sum_j y_j (log sum_k e^z_k - z_j)
    squared_error,  // loss: mean (z - y)^2
};

enum class Smooth : std::int32_t {
    sigmoid,
    tanh,
    softplus,
    softsign,
    exponential,
    elu,
    silu,
    gelu,
    root,
    inverse_root,
    reciprocal,
    logarithm,
    erf,
    count
};

// Geometry of the windowed operations. Cell (oy, ox) of the output sees rows oy sh - top + ky dh of the input.
struct Window {
    std::int32_t kh = 1, kw = 1, sh = 1, sw = 1, dh = 1, dw = 1, top = 0, left = 0;
};

// Where the places of a source go along one axis, and how much of each.
struct Spread {
    std::vector<std::int32_t> begin;  // by place of the source, and one more: where its share of the next two begins
    std::vector<std::int32_t> to;     // places of the result, rising
    std::vector<double> share;
};

template <typename T>
struct Free {
    void operator()(T* p) const noexcept;
};
// `count` elements on a 64-byte boundary, zeroed. Throws std::bad_alloc.
template <typename T>
using Buffer = std::unique_ptr<T[], Free<T>>;
template <typename T>
Buffer<T> make_buffer(std::int64_t count);

template <typename T>
struct Node {
    Op op = Op::input;
    Shape shape;
    std::int32_t stored = 0;  // channels in memory
    std::vector<std::int32_t> sources;
    Window window;
    std::int32_t groups = 1;
    bool by_tap = false;       // conv with a single output cell: weights [group][block][tap][c][kBlock]
    bool whole = false;        // conv whose single output cell sees the whole map, without padding or groups
    std::int64_t size = 0;     // conv: weights
    bool whole_count = false;  // average: divide by kh kw even at the border
    Smooth function = Smooth::sigmoid;
    double slope = 0, cap = std::numeric_limits<double>::infinity(), alpha = 1;
    std::vector<double> coefficients;  // add
    Spread rows, columns;              // resample
    Buffer<T> weights;  // conv: [group][block][c][tap][kBlock]; depthwise: [tap][stored]; scale: [stored]
    std::int32_t last_use = 0;
};

template <typename T>
struct Program {
    std::vector<Node<T>> nodes;
    std::vector<std::int32_t> needed;  // nodes whose value at the point must be given
};

// Checks, packs and appends a node; returns its number. Throws std::invalid_argument with what does not fit.
//
//   weights  conv (kh, kw, c / groups, out); depthwise (kh, kw, c); scale (c); resample (h, h of the source), and
//            behind it (w, w of the source); else null
template <typename T>
std::int32_t append(Program<T>& program, Node<T> node, const double* weights);

// What the kernels need of the values at the points, one entry per node that needs some.
template <typename T>
struct Prepared {
    Prepared() = default;
    Prepared(Prepared&&) = default;  // and no copy: a vector of buffers would claim to have one
    std::int64_t images = 0;
    // By node: ramp, smooth, multiply: value of the source(s), [h][w][stored] per image (multiply: both, one after the
    // other). maximum: how far each cell lies below the largest of its window, [oh][ow][tap][stored].
    std::vector<Buffer<T>> values;
    std::vector<std::int64_t> stride;  // elements per image
    // softmax, cross_entropy, squared_error: in double. Probabilities, or the error z - y; then the targets.
    std::vector<Buffer<double>> tail;
};

// values[k]: (images, h, w, c) of node program.needed[k]; targets: (images, c of the last node's source) or null.
template <typename T>
Prepared<T> prepare(const Program<T>& program, std::int64_t images, const std::vector<const double*>& values,
                    const double* targets, int threads);

struct Tiles {
    const std::int64_t* offsets;  // (tiles + 1,)
    const std::int64_t* members;  // flat element indices within one example
    const double* weights;        // (members,) how far each moves, in units of the step; null: 1 each
};

template <typename T>
struct Job {
    const Program<T>* program;
    const Prepared<T>* prepared;
    Tiles tiles;
    std::int64_t pairs;
    const std::int64_t* image;  // (pairs,)
    const std::int64_t* tile;   // (pairs,)
    const double* step;         // (pairs, 2)
    std::int32_t start;         // node that the differences start from: 0, or with rows_in any
    bool held;                  // whether what `hold` nodes would pass on stays where it is
    const T* rows_in;           // (pairs, 2, size of node `start`) or null: dense differences instead of tiles
    double* delta;              // (pairs, 2) or null: difference of the loss
    T* rows_out;                // (pairs, 2, size of the last node) or null
    std::int32_t* tie;          // (pairs,) first node with a unit that sits on a kink at the point, -1: none
    std::int32_t* crossed;      // (pairs,) first node with a unit that changes branch on the way, -1: none
    int threads;
    bool (*interrupted)(void*);  // asked now and then by the calling thread; true stops
    void* context;
};

// Returns false if it was interrupted. Throws before any work is done: std::bad_alloc, or std::invalid_argument if
// FDFAST_ISA names an instruction set that is not there.
template <typename T>
bool run(const Job<T>& job);

}  // namespace fdfast
