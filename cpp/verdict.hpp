// From differences to derivatives with error bars, and from derivatives to classes. fdfast/estimates/exact.py and
// fdfast/verdict/compare.py say what the rules are for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fdfast {

// What is known of some tiles after looks at two steps, by an engine that loses no digits and sees every unit.
class Looks {
  public:
    // `other` is the second step in units of the first.
    Looks(std::size_t count, double other);

    std::size_t size() const noexcept { return tiles_.size(); }

    // Notes differences `delta` of f at displacements `moved`, both (count, 2), of `count` tiles: those numbered by
    // `which`, or the first ones if that is null. `tie` and `crossed` are those of `Job`. The second step replaces what
    // the first one said.
    void take(const std::int64_t* which, std::size_t count, const double* delta, const double* moved,
              const std::int32_t* tie, const std::int32_t* crossed, bool first);

    // Numbers of the tiles that a second step can tell something about: all whose slopes do not plainly jump.
    std::vector<std::int64_t> unsettled() const;
    // Numbers of the tiles with a unit that changes branch within a step.
    std::vector<std::int64_t> crossed() const;

    struct Out {
        double *value, *error, *right, *left;  // one per tile
        bool *kink, *open;
        std::int32_t* tie;
        double *rounding, *peak;  // one per example: error of rounding, and largest derivative
    };
    // `example` of each tile; `eps` is the rounding unit of the differences.
    void settle(const std::int64_t* example, std::size_t examples, double eps, const Out& out) const;

  private:
    struct Tile {
        double value, coarse, right, left, spread, wide;  // spread: right less left slope, at both steps
        std::int32_t tie;
        bool crossed, plain;
    };
    // Numbers of the tiles that are wanted, in order.
    template <typename Wanted>
    std::vector<std::int64_t> those(const Wanted& wanted) const;

    std::vector<Tile> tiles_;
    double other_;
};

enum class Kind : std::int8_t { smooth, kink, unresolved, singular };
enum class Class : std::int8_t { agree, wrong, kink, unresolved, singular };

// What the tiles of one example are compared by.
struct Tolerance {
    double rtol;
    double floor;  // difference allowed besides rtol
    double width;  // width of a bar allowed besides rtol
    double blur;   // what else a bar is widened by
};

struct Compared {
    Class* classes;
    double *tolerance, *detectable;
};

// All arrays have `count` elements.
void classify(std::size_t count, const double* value, const double* error, const double* right, const double* left,
              const Kind* kind, const double* analytic, const Tolerance& by, const Compared& out);

}  // namespace fdfast
