#include "perturb.hpp"

#include <algorithm>

namespace fdfast {
namespace {

struct Tile {
    const std::int64_t* begin;
    const std::int64_t* end;
    const double* weights;  // of the first member, or null
};

template <typename T>
void restore(Tile tile, const T* x, T* row) noexcept {
    for (const std::int64_t* m = tile.begin; m != tile.end; ++m) row[*m] = x[*m];
}

// Returns the mean distance really moved; clears `all_moved` if a step other than 0 vanished somewhere.
//
// The step is rounded to T before it is added: x + step in double and then rounded could differ by one unit in the last
// place from what a caller gets who adds in T. The differences are taken in double, where they are exact for T = float
// unless x and step are more than 2^28 apart.
template <typename T>
double displace(Tile tile, const T* x, double step, T* row, bool& all_moved) noexcept {
    double sum = 0;
    for (const std::int64_t* m = tile.begin; m != tile.end; ++m) {
        const double weight = tile.weights == nullptr ? 1.0 : tile.weights[m - tile.begin];
        const T value = x[*m];
        const T there = value + static_cast<T>(step * weight);
        row[*m] = there;
        sum += (static_cast<double>(there) - static_cast<double>(value)) / weight;
        all_moved &= there != value;
    }
    all_moved |= step == 0;
    return sum / static_cast<double>(tile.end - tile.begin);
}

}  // namespace

// Not FDFAST_MULTIVERSION: the loop waits for memory. Compiled for AVX2 and for AVX-512 it measured no faster.
template <typename T>
std::int64_t fill_rows(const Perturbation<T>& p) noexcept {
    const auto tile_at = [&p](std::int64_t t) {
        const double* const weights = p.weights == nullptr ? nullptr : p.weights + p.offsets[t];
        return Tile{p.members + p.offsets[t], p.members + p.offsets[t + 1], weights};
    };
    std::int64_t vanished = -1;
    for (std::int64_t i = 0; i < p.pairs; ++i) {
        const T* x = p.x + p.example[i] * p.n;
        const bool same = p.held_example[i] == p.example[i];
        for (std::int64_t side = 0; side < 2; ++side) {
            const std::int64_t r = 2 * i + side;
            T* row = p.rows + r * p.n;
            if (!same) {
                std::copy_n(x, p.n, row);
            } else if (p.held_tile[i] >= 0) {
                restore(tile_at(p.held_tile[i]), x, row);
            }
            bool all_moved = true;
            p.moved[r] = p.tile[i] < 0 ? 0.0 : displace(tile_at(p.tile[i]), x, p.step[r], row, all_moved);
            if (!all_moved && vanished < 0) vanished = r;
        }
        p.held_example[i] = p.example[i];
        p.held_tile[i] = p.tile[i];
    }
    return vanished;
}

template std::int64_t fill_rows(const Perturbation<float>&) noexcept;
template std::int64_t fill_rows(const Perturbation<double>&) noexcept;

}  // namespace fdfast
