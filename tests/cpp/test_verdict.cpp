#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "check.hpp"
#include "verdict.hpp"

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Numbers of all kinds, those that are none among them.
std::vector<double> numbers(std::size_t count, std::mt19937& random) {
    const double special[] = {0, -0.0, 1, kNan, std::numeric_limits<double>::infinity(), 1e300, 1e-300};
    std::normal_distribution<double> normal;
    std::vector<double> out(count);
    for (double& v : out) {
        const auto draw = random() % 20;
        v = draw < 7 ? special[draw] : normal(random);
    }
    return out;
}

}  // namespace

TEST(looks_stay_inside_their_arrays_whatever_the_numbers) {
    std::mt19937 random(1);
    for (const std::size_t count : {0, 1, 2, 97}) {
        fdfast::Looks looks(count, 0.75);
        CHECK(looks.size() == count);
        const auto node = [&] { return static_cast<std::int32_t>(random() % 4) - 1; };
        std::vector<std::int32_t> tie(count), crossed(count);
        for (const bool first : {true, false, true}) {
            for (std::size_t i = 0; i < count; ++i) tie[i] = node(), crossed[i] = node();
            const std::vector<std::int64_t> which = looks.unsettled();
            const std::vector<double> delta = numbers(2 * count, random);
            std::vector<double> moved;
            for (std::size_t i = 0; i < count; ++i) {
                const double h = std::ldexp(random() % 2 ? 1.0 : -1.0, -static_cast<int>(random() % 40));
                moved.insert(moved.end(), {h, random() % 2 ? -h : 2 * h});
            }
            looks.take(which.data(), which.size(), delta.data(), moved.data(), tie.data(), crossed.data(), first);
            CHECK(looks.unsettled().size() <= count && looks.crossed().size() <= count);
        }
        const std::size_t examples = 3;
        std::vector<std::int64_t> example(count);
        for (std::int64_t& one : example) one = static_cast<std::int64_t>(random() % examples);
        std::vector<double> value(count), error(count), right(count), left(count), rounding(examples), peak(examples);
        std::vector<std::int32_t> node_of(count);
        const auto kink = std::make_unique<bool[]>(count), open = std::make_unique<bool[]>(count);
        looks.settle(example.data(), examples, 1e-16,
                     {value.data(), error.data(), right.data(), left.data(), kink.get(), open.get(), node_of.data(),
                      rounding.data(), peak.data()});
        for (std::size_t i = 0; i < count; ++i) {
            CHECK(error[i] >= 0);  // and no NaN
            CHECK(!(kink[i] && open[i]));
        }
        for (std::size_t e = 0; e < examples; ++e) CHECK(std::isfinite(rounding[e]) && std::isfinite(peak[e]));
    }
}

TEST(what_is_no_number_never_agrees) {
    std::mt19937 random(2);
    const std::size_t count = 500;
    const auto value = numbers(count, random), right = numbers(count, random), left = numbers(count, random);
    auto error = numbers(count, random), analytic = value;
    std::vector<fdfast::Kind> kind(count);
    for (std::size_t i = 0; i < count; ++i) {
        error[i] = std::fabs(error[i]);
        kind[i] = static_cast<fdfast::Kind>(random() % 4);
        if (random() % 2) analytic[i] *= 2;
    }
    std::vector<fdfast::Class> classes(count);
    std::vector<double> tolerance(count), detectable(count);
    fdfast::classify(count, value.data(), error.data(), right.data(), left.data(), kind.data(), analytic.data(),
                     {1e-4, 1e-9, 1e-6, 0}, {classes.data(), tolerance.data(), detectable.data()});
    for (std::size_t i = 0; i < count; ++i) {
        const bool numbers_all = std::isfinite(value[i]) && std::isfinite(error[i]) && std::isfinite(analytic[i]);
        if (!numbers_all) CHECK(classes[i] != fdfast::Class::agree);
        if (kind[i] != fdfast::Kind::smooth) CHECK(classes[i] != fdfast::Class::agree);
        // Off a smooth tile a gradient is wrong only where it is no number.
        if (kind[i] != fdfast::Kind::smooth && std::isfinite(analytic[i])) CHECK(classes[i] != fdfast::Class::wrong);
        CHECK((kind[i] == fdfast::Kind::singular) == (classes[i] == fdfast::Class::singular));
    }
}
