// Random directions in which every element counts alike, and dot products that lose nothing.
//
//   g      (n,)  gradient; finite
//   v      (n,)  out; v[i] = s u unit / max(|g[i]|, low), s = +-1, u uniform in [1/2, 1]
//
// s and u are functions of the seed and of first + i alone: no state, the same whatever the number of threads, and a
// part of a direction can be drawn by itself. The caller guarantees low > 0. Never throws, never allocates.
#pragma once

#include <cstdint>

namespace fdfast {

void draw(const double* g, std::int64_t n, double low, double unit, std::uint64_t seed, std::uint64_t first, double* v,
          int threads) noexcept;

// Sum of a[i] b[i], rounded once at the end but for some units of 2^-106 of the sum of |a[i] b[i]|; the same bits
// whatever the number of threads.
double dot(const double* a, const double* b, std::int64_t n, int threads);

}  // namespace fdfast
