#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "check.hpp"
#include "perturb.hpp"

namespace {

// Two points of n elements, cut into ragged tiles of at most `length` neighbours, and room for `capacity` pairs.
template <typename T>
struct Fixture {
    std::int64_t n;
    std::vector<T> x;
    std::vector<std::int64_t> offsets{0}, members, example, tile;
    std::vector<double> step, moved, weights;  // no weights: 1 each
    std::vector<T> rows;
    std::vector<std::int64_t> held_example, held_tile;

    Fixture(std::int64_t size, std::int64_t length, std::size_t capacity)
        : n(size),
          x(static_cast<std::size_t>(2 * size)),
          rows(2 * capacity * static_cast<std::size_t>(size), T(-7)),
          held_example(capacity, -1),
          held_tile(capacity, -1) {
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(i) / T(3) - T(1);
        for (std::int64_t m = 0; m < n; ++m) {
            members.push_back(m);
            if (m % length == length - 1 || m == n - 1) offsets.push_back(m + 1);
        }
    }

    std::int64_t tiles() const { return static_cast<std::int64_t>(offsets.size()) - 1; }

    std::int64_t fill(std::vector<std::int64_t> examples, std::vector<std::int64_t> which, double plus, double minus) {
        example = std::move(examples);
        tile = std::move(which);
        step.clear();
        for (std::size_t i = 0; i < tile.size(); ++i) step.insert(step.end(), {plus, minus});
        moved.assign(step.size(), std::numeric_limits<double>::quiet_NaN());
        return fdfast::fill_rows<T>({x.data(), n, offsets.data(), members.data(),
                                     weights.empty() ? nullptr : weights.data(), static_cast<std::int64_t>(tile.size()),
                                     example.data(), tile.data(), step.data(), rows.data(), held_example.data(),
                                     held_tile.data(), moved.data()});
    }

    // Every row equals its point outside its tile, bit by bit, and is displaced inside.
    bool holds() const {
        for (std::size_t r = 0; r < step.size(); ++r) {
            std::vector<T> expected(x.begin() + example[r / 2] * n, x.begin() + (example[r / 2] + 1) * n);
            if (const std::int64_t t = tile[r / 2]; t >= 0) {
                for (std::int64_t m = offsets[static_cast<std::size_t>(t)];
                     m < offsets[static_cast<std::size_t>(t) + 1]; ++m) {
                    const double weight = weights.empty() ? 1.0 : weights[static_cast<std::size_t>(m)];
                    expected[static_cast<std::size_t>(members[static_cast<std::size_t>(m)])] +=
                        static_cast<T>(step[r] * weight);
                }
            }
            const T* row = rows.data() + static_cast<std::int64_t>(r) * n;
            if (std::memcmp(expected.data(), row, sizeof(T) * static_cast<std::size_t>(n)) != 0) return false;
            if (held_example[r / 2] != example[r / 2] || held_tile[r / 2] != tile[r / 2]) return false;
        }
        return true;
    }
};

template <typename T>
void sweep(std::vector<double> weights = {}) {
    for (const std::int64_t length : {1, 2, 5, 13}) {
        Fixture<T> f(13, length, 3);
        f.weights = weights;
        for (std::int64_t point = 0; point < 2; ++point) {
            for (std::int64_t t = 0; t < f.tiles(); ++t) {
                CHECK(f.fill({point, 1 - point, point}, {t, f.tiles() - 1 - t, -1}, 0.25, -0.25) == -1);
                CHECK(f.holds());
            }
        }
    }
}

TEST(every_tile_of_two_points_in_float32) {
    sweep<float>();
}
TEST(every_tile_of_two_points_in_float64) {
    sweep<double>();
}

TEST(members_that_move_by_weights_of_their_own) {
    const std::vector<double> weights{1, -1, 0.5, -0.75, 0.625, 1, -0.5, 0.875, -1, 0.75, 0.5, -0.625, 1};
    sweep<float>(weights);
    sweep<double>(weights);
    Fixture<double> f(4, 2, 1);
    f.weights = {0.5, -1, 1, -0.75};
    CHECK(f.fill({0}, {1}, 0.25, -0.5) == -1);
    CHECK(f.moved[0] == 0.25 && f.moved[1] == -0.5);
}

TEST(fewer_pairs_than_capacity_leave_the_rest_alone) {
    Fixture<float> f(8, 3, 4);
    CHECK(f.fill({1}, {2}, 0.5, -0.5) == -1);
    CHECK(f.holds());
    for (std::size_t i = 2 * 8; i < f.rows.size(); ++i) CHECK(f.rows[i] == -7.0F);
    CHECK(f.held_example[1] == -1 && f.held_tile[1] == -1);
}

TEST(no_pairs) {
    Fixture<double> f(4, 2, 1);
    CHECK(f.fill({}, {}, 1, -1) == -1);
    CHECK(f.rows[0] == -7.0);
}

TEST(a_vanishing_step_names_its_first_row_and_step_zero_does_not) {
    Fixture<float> f(6, 2, 2);
    CHECK(f.fill({0, 1}, {0, 1}, 0.25, 1e-12) == 1);
    CHECK(f.holds());
    CHECK(f.fill({0, 1}, {-1, 1}, 1e-300, 1e-300) == 2);
    CHECK(f.fill({0, 1}, {0, 1}, 0, 0) == -1);
    CHECK(f.holds());
}

TEST(the_largest_step_overflows_to_infinity_without_undefined_behaviour) {
    Fixture<float> f(2, 1, 1);
    f.x[0] = std::numeric_limits<float>::max();
    CHECK(f.fill({0}, {0}, static_cast<double>(std::numeric_limits<float>::max()), -1) == 1);
    CHECK(f.rows[0] == std::numeric_limits<float>::infinity());
}

}  // namespace
