#include "directions.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "multiversion.hpp"
#include "parallel.hpp"

namespace fdfast {
namespace {

// Terms that are added up in one go. What is added up together must not depend on the threads.
constexpr std::int64_t kBlock = 4096;

// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: the mixer of SplitMix64.
std::uint64_t mix(std::uint64_t z) noexcept {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

struct Twofold {
    double high, low;
};

// Knuth's sum: high + low is a + b exactly.
inline Twofold sum_of(double a, double b) noexcept {
    const double high = a + b, part = high - a;
    return {high, (a - (high - part)) + (b - part)};
}

// Ogita, Rump and Oishi, "Accurate sum and dot product", SIAM J. Sci. Comput. 26 (2005), algorithm 5.3, on four sums
// that do not wait for each other.
FDFAST_MULTIVERSION void block_dot(const double* a, const double* b, std::int64_t n, double* high,
                                   double* low) noexcept {
    double sums[4] = {0, 0, 0, 0}, rests[4] = {0, 0, 0, 0};
    const auto take = [&](std::int64_t i, int lane) {
        const double product = a[i] * b[i];
        const double lost = __builtin_fma(a[i], b[i], -product);
        const Twofold next = sum_of(sums[lane], product);
        sums[lane] = next.high;
        rests[lane] += next.low + lost;
    };
    std::int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int lane = 0; lane < 4; ++lane) take(i + lane, lane);
    for (; i < n; ++i) take(i, 0);
    Twofold total = {0, 0};
    for (int lane = 0; lane < 4; ++lane) {
        const Twofold next = sum_of(total.high, sums[lane]);
        total = {next.high, total.low + next.low + rests[lane]};
    }
    *high = total.high;
    *low = total.low;
}

// Without a branch: signs are random, and every other one would be foretold wrongly.
FDFAST_MULTIVERSION void draw_block(const double* g, std::int64_t n, double low, double unit, std::uint64_t key,
                                    std::uint64_t first, double* v) noexcept {
    for (std::int64_t i = 0; i < n; ++i) {
        const std::uint64_t bits = mix(key + (first + static_cast<std::uint64_t>(i)) * 0x9e3779b97f4a7c15u);
        const double u = 0.5 + static_cast<double>(static_cast<std::int64_t>(bits >> 11)) * 0x1p-54;
        const double size = u * unit / std::max(std::fabs(g[i]), low);
        v[i] = size * (static_cast<double>(static_cast<std::int64_t>(bits & 1)) * 2 - 1);
    }
}

}  // namespace

void draw(const double* g, std::int64_t n, double low, double unit, std::uint64_t seed, std::uint64_t first, double* v,
          int threads) noexcept {
    parallel_for(n, kBlock, threads, [&](int, std::int64_t from, std::int64_t to) {
        draw_block(g + from, to - from, low, unit, mix(seed), first + static_cast<std::uint64_t>(from), v + from);
        return true;
    });
}

double dot(const double* a, const double* b, std::int64_t n, int threads) {
    const std::int64_t blocks = (n + kBlock - 1) / kBlock;
    std::vector<double> high(static_cast<std::size_t>(blocks)), low(static_cast<std::size_t>(blocks));
    parallel_for(blocks, 16, threads, [&](int, std::int64_t from, std::int64_t to) {
        for (std::int64_t k = from; k < to; ++k) {
            const auto at = static_cast<std::size_t>(k);
            block_dot(a + k * kBlock, b + k * kBlock, std::min(kBlock, n - k * kBlock), &high[at], &low[at]);
        }
        return true;
    });
    Twofold total = {0, 0};
    for (std::size_t k = 0; k < high.size(); ++k) {
        const Twofold next = sum_of(total.high, high[k]);
        total = {next.high, total.low + next.low + low[k]};
    }
    return total.high + total.low;
}

}  // namespace fdfast
