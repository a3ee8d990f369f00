#include "verdict.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fdfast {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

constexpr double kSure = 4;
// Slopes at a unit on its kink that differ by more than this, relative, are a jump and no curvature.
constexpr double kPlain = 1.0 / (1 << 12);

// Slope at 0 of the parabola through (0, 0), (a, da) and (b, db).
double three_point(double da, double db, double a, double b) {
    return (da * (b / a) - db * (a / b)) / (b - a);
}

double larger(double a, double b) {
    return std::fmax(std::fabs(a), std::fabs(b));
}

}  // namespace

Looks::Looks(std::size_t count, double other) : tiles_(count, {0, 0, 0, 0, 0, 0, -1, false, false}), other_(other) {}

void Looks::take(const std::int64_t* which, std::size_t count, const double* delta, const double* moved,
                 const std::int32_t* tie, const std::int32_t* crossed, bool first) {
    for (std::size_t i = 0; i < count; ++i) {
        Tile& tile = tiles_[which == nullptr ? i : static_cast<std::size_t>(which[i])];
        const double a = moved[2 * i], b = moved[2 * i + 1];
        const double near_a = delta[2 * i] / a, near_b = delta[2 * i + 1] / b;
        tile.value = three_point(delta[2 * i], delta[2 * i + 1], a, b);
        tile.spread = near_a - near_b;
        tile.right = a > 0 ? near_a : kNan;
        // On one side to the left the first row is the nearer.
        tile.left = b > 0 ? kNan : a < 0 ? near_a : near_b;
        if (first) {
            tile.coarse = tile.value;
            tile.wide = tile.spread;
            tile.tie = tie[i];
            tile.crossed = crossed[i] >= 0;
            const bool jump = std::fabs(tile.right - tile.left) > kPlain * larger(tile.right, tile.left);
            tile.plain = tie[i] >= 0 && !tile.crossed && jump;
        } else {
            tile.tie = std::max(tile.tie, tie[i]);
            tile.crossed = tile.crossed || crossed[i] >= 0;
        }
    }
}

template <typename Wanted>
std::vector<std::int64_t> Looks::those(const Wanted& wanted) const {
    std::vector<std::int64_t> found;
    for (std::size_t i = 0; i < tiles_.size(); ++i)
        if (wanted(tiles_[i])) found.push_back(static_cast<std::int64_t>(i));
    return found;
}

std::vector<std::int64_t> Looks::unsettled() const {
    return those([](const Tile& tile) { return !tile.plain; });
}

std::vector<std::int64_t> Looks::crossed() const {
    return those([](const Tile& tile) { return tile.crossed; });
}

void Looks::settle(const std::int64_t* example, std::size_t examples, double eps, const Out& out) const {
    std::vector<std::vector<double>> gaps(examples);
    std::fill_n(out.peak, examples, 0.0);
    for (std::size_t i = 0; i < tiles_.size(); ++i) {
        const Tile& tile = tiles_[i];
        const auto owner = static_cast<std::size_t>(example[i]);
        const double gap = std::fabs(tile.coarse - tile.value);
        if (!tile.crossed && !tile.plain && std::isfinite(gap) && tile.value != 0) gaps[owner].push_back(gap);
        if (std::isfinite(tile.value)) out.peak[owner] = std::max(out.peak[owner], std::fabs(tile.value));
    }
    for (std::size_t e = 0; e < examples; ++e) {
        std::vector<double>& gap = gaps[e];
        const auto upper = static_cast<std::ptrdiff_t>(3 * gap.size() / 4);
        if (!gap.empty()) std::nth_element(gap.begin(), gap.begin() + upper, gap.end());
        out.rounding[e] = gap.empty() ? 0.0 : gap[static_cast<std::size_t>(upper)];
    }
    for (std::size_t i = 0; i < tiles_.size(); ++i) {
        const Tile& tile = tiles_[i];
        const double gap = std::fabs(tile.coarse - tile.value);
        double error = kSure * (gap + out.rounding[example[i]]) + 8 * eps * std::fabs(tile.value);
        const bool both = std::isfinite(tile.right) && std::isfinite(tile.left);
        // Curvature sets the slopes h f'' apart: what is left of that at h = 0 is the jump.
        const double jump = std::fabs(tile.spread - other_ * tile.wide) / (1 - other_);
        const bool apart = jump > 16 * error + 1e-9 * larger(tile.right, tile.left);
        if (!std::isfinite(tile.value) || !std::isfinite(error)) error = kInfinity;
        if (tile.value == 0 && gap == 0) error = 0;  // f does not move at all
        out.value[i] = tile.value;
        out.error[i] = error;
        out.right[i] = tile.right;
        out.left[i] = tile.left;
        out.tie[i] = tile.tie;
        out.kink[i] = tile.tie >= 0 && (!both || apart || tile.plain);
        out.open[i] = tile.crossed && !out.kink[i];
    }
}

void classify(std::size_t count, const double* value, const double* error, const double* right, const double* left,
              const Kind* kind, const double* analytic, const Tolerance& by, const Compared& out) {
    for (std::size_t i = 0; i < count; ++i) {
        const double fd = value[i], ad = analytic[i], bar = error[i];
        const double relative = by.rtol * larger(fd, ad), allowed = bar + (relative + by.floor);
        out.tolerance[i] = relative + by.floor;
        out.detectable[i] = ad != 0 ? allowed / std::fabs(ad) : allowed == 0 ? kNan : allowed * kInfinity;
        // f does not move and the gradient says so: a dead unit, however noisy f may be elsewhere.
        const bool same = fd == ad && right[i] == left[i];
        // A side without a slope is one that bounds forbid.
        const bool sloped = kind[i] == Kind::smooth || std::isfinite(right[i]) || std::isfinite(left[i]);
        if (kind[i] == Kind::singular) {
            out.classes[i] = Class::singular;
        } else if (std::isfinite(fd) && std::isfinite(bar) && !std::isfinite(ad)) {
            out.classes[i] = sloped ? Class::wrong : Class::unresolved;
        } else if (!std::isfinite(fd) || !std::isfinite(bar) || kind[i] == Kind::unresolved) {
            out.classes[i] = Class::unresolved;
        } else if (kind[i] == Kind::kink) {
            out.classes[i] = Class::kink;
        } else if (std::fabs(fd - ad) > allowed) {
            out.classes[i] = Class::wrong;
        } else {
            out.classes[i] = same || bar + by.blur <= relative + by.width ? Class::agree : Class::unresolved;
        }
    }
}

}  // namespace fdfast
