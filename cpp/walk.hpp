// One worker's walk through a program, a few tiles at a time; compiled once per instruction set (see CMakeLists.txt).
#pragma once

#include "program.hpp"

namespace fdfast {

// Nodes [first, last), which as many pairs walk side by side as their windows leave room for in the cache. Sizes are
// in elements.
struct Stage {
    std::int32_t first = 0, last = 0;
    int together = 1;
    std::int64_t arena = 0;   // windows of one pair that only this stage reads
    std::int64_t packed = 0;  // what a convolution packs of one lane
    std::int64_t listed = 0;  // channels, or cells times channels, that it lists of one lane
};

// Where each node's window lies in a worker's scratch, sized for the largest tile.
struct Plan {
    std::vector<std::int64_t> offset;  // by node, in elements; two lanes of `room` each
    std::vector<std::int64_t> room;    // by node, elements per lane
    std::vector<char> kept;            // by node, whether it lies among what a pair keeps from stage to stage
    std::vector<Stage> stages;
    std::int64_t keeps = 0;   // elements that one pair keeps
    std::int64_t tail = 0;    // doubles of the loss
    std::int64_t lanes = 0;   // doubles that the nodes' windows take, for one pair
    std::int64_t widest = 0;  // elements of the widest cell
    int pairs = 1;            // that go through all stages before the next ones
};

inline constexpr int kTogether = 8;  // pairs side by side, at most

template <typename T>
struct Scratch {
    Buffer<T> arena, keeps, packed;
    Buffer<std::int32_t> listed;
    Buffer<double> tail;
    Buffer<double> lanes;  // one `Lanes` per node, see lanes.hpp
    Buffer<T> zeros;       // one cell of the widest node
};

// The window of the input that a tile touches, half open.
struct Area {
    std::int32_t y0 = 0, y1 = 0, x0 = 0, x1 = 0;
    std::int32_t h() const noexcept { return y1 - y0; }
    std::int32_t w() const noexcept { return x1 - x0; }
    std::int64_t cells() const noexcept { return std::int64_t{h()} * w(); }
    bool empty() const noexcept { return y0 >= y1 || x0 >= x1; }
};

inline constexpr std::int64_t kLaneDoubles = 8;  // room for one `Lanes`

// Walks pairs [first, last) of the job. Never throws, never allocates.
#define FDFAST_DECLARE_WALK(isa)                                                                                      \
    namespace isa {                                                                                                   \
    void walk(const Job<float>&, const Plan&, const Scratch<float>&, std::int64_t first, std::int64_t last) noexcept; \
    void walk(const Job<double>&, const Plan&, const Scratch<double>&, std::int64_t first,                            \
              std::int64_t last) noexcept;                                                                            \
    }
FDFAST_DECLARE_WALK(plain)
FDFAST_DECLARE_WALK(x86_64_v3)
FDFAST_DECLARE_WALK(x86_64_v4)
#undef FDFAST_DECLARE_WALK

}  // namespace fdfast
