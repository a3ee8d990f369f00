// Directions and dot products: the same bits whatever the number of threads, every buffer of its exact size, and the
// numbers that an optimiser could spoil.
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "directions.hpp"

namespace {

// Around the sizes at which work is cut: four sums beside each other, blocks of 4096, sixteen blocks for a thread.
const std::vector<std::int64_t> kSizes = {0, 1, 3, 4, 5, 4095, 4096, 4097, 16 * 4096 + 3};

std::vector<double> normal(std::int64_t n, unsigned seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> law;
    std::vector<double> found(static_cast<std::size_t>(n));
    for (double& one : found) one = law(random) * std::ldexp(1.0, static_cast<int>(random() % 40) - 20);
    return found;
}

std::vector<double> drawn(const std::vector<double>& g, std::uint64_t seed, std::uint64_t first, int threads) {
    std::vector<double> v(g.size());
    fdfast::draw(g.data(), static_cast<std::int64_t>(g.size()), 0.25, 0.5, seed, first, v.data(), threads);
    return v;
}

}  // namespace

TEST(a_direction_is_the_same_whatever_the_threads) {
    for (const std::int64_t n : kSizes) {
        const auto g = normal(n, 1);
        const auto v = drawn(g, 7, 0, 1);
        CHECK(drawn(g, 7, 0, 5) == v);
        CHECK(n == 0 || drawn(g, 8, 0, 1) != v);
        for (std::size_t i = 0; i < v.size(); ++i) {
            const double share = std::fabs(v[i]) * std::fmax(std::fabs(g[i]), 0.25);
            CHECK(share >= 0.25 * (1 - 1e-15) && share <= 0.5 * (1 + 1e-15));  // rounded by the division
        }
    }
}

TEST(a_part_of_a_direction_is_drawn_by_itself) {
    const auto g = normal(5000, 2);
    const auto whole = drawn(g, 3, 0, 2);
    for (const std::size_t from : {0, 1, 4096, 4999}) {
        const std::vector<double> rest(g.begin() + static_cast<std::ptrdiff_t>(from), g.end());
        CHECK(drawn(rest, 3, from, 2) ==
              std::vector<double>(whole.begin() + static_cast<std::ptrdiff_t>(from), whole.end()));
    }
    // Numbers wrap around, and no shift or product overflows a signed integer.
    CHECK(drawn(g, std::numeric_limits<std::uint64_t>::max(), std::numeric_limits<std::uint64_t>::max(), 1).size() ==
          5000);
}

TEST(a_dot_product_is_the_same_whatever_the_threads) {
    for (const std::int64_t n : kSizes) {
        const auto a = normal(n, 3), b = normal(n, 4);
        const double one = fdfast::dot(a.data(), b.data(), n, 1);
        for (const int threads : {2, 7}) CHECK(fdfast::dot(a.data(), b.data(), n, threads) == one);
    }
}

TEST(a_dot_product_keeps_what_cancels) {
    // 1e20 (1 - 1) + 1, in every order of the four sums; and a product whose low half is all that is left.
    for (std::int64_t n = 3; n <= 12; ++n) {
        for (std::size_t at = 0; at < static_cast<std::size_t>(n); ++at) {
            std::vector<double> a(static_cast<std::size_t>(n), 0.0), b(static_cast<std::size_t>(n), 1.0);
            a[at] = 1.0;
            a[(at + 1) % a.size()] = 1e20;
            a[(at + 2) % a.size()] = -1e20;
            CHECK(fdfast::dot(a.data(), b.data(), n, 1) == 1.0);
        }
    }
    const double x = 1 + 0x1p-30;
    const std::vector<double> a = {x, -1 - 0x1p-29}, b = {x, 1};
    CHECK(fdfast::dot(a.data(), b.data(), 2, 1) == 0x1p-60);
}
