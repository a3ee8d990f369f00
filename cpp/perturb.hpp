// Writes the perturbed rows of (example, tile) pairs into a buffer that outlives the call, touching only what changes.
//
//   x             (examples, n)     the points; read only
//   offsets       (tiles + 1,)      tile t owns members[offsets[t] .. offsets[t + 1]), never empty
//   members       (offsets[tiles],) flat element indices within one example, each in [0, n)
//   weights       (offsets[tiles],) how far each member moves, in units of the step, none 0; null: 1 each
//   example       (pairs,)          the point that pair i perturbs
//   tile          (pairs,)          the tile that pair i perturbs; -1: none, both rows are the point itself
//   step          (pairs, 2)        displacement of row 2i and of row 2i + 1, in the units of x
//   rows          (2 pairs, n)      in/out; row 2i: x + step[i, 0] w on the tile; row 2i + 1: x + step[i, 1] w
//   held_example  (pairs,)          in/out; the point that rows 2i and 2i + 1 hold, -1: neither holds any
//   held_tile     (pairs,)          in/out; the tile perturbed in them, -1: none
//   moved         (pairs, 2)        out; mean over the tile of (row - x) / w, really moved; 0 without a tile
//
// Returns -1, or the first row (2i or 2i + 1) in which a step other than 0 left an element where it was, x + step == x.
//
// The caller guarantees shapes and ranges, and sets held_example to -1 when x or the tiles are other than in the call
// before. Never throws, never allocates.
#pragma once

#include <cstdint>

namespace fdfast {

template <typename T>
struct Perturbation {
    const T* x;
    std::int64_t n;
    const std::int64_t* offsets;
    const std::int64_t* members;
    const double* weights;
    std::int64_t pairs;
    const std::int64_t* example;
    const std::int64_t* tile;
    const double* step;
    T* rows;
    std::int64_t* held_example;
    std::int64_t* held_tile;
    double* moved;
};

template <typename T>
std::int64_t fill_rows(const Perturbation<T>& p) noexcept;

extern template std::int64_t fill_rows(const Perturbation<float>&) noexcept;
extern template std::int64_t fill_rows(const Perturbation<double>&) noexcept;

}  // namespace fdfast
