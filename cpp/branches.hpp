// Units with branches: what a difference makes of them, and whether they sit on a kink or change branch on the way.
#pragma once

#include "lanes.hpp"

namespace fdfast {
namespace {

template <typename T>
struct Events {
    Mask<T> tie{}, crossed{};
};

// max(z + d, 0) - max(z, 0)
template <typename T>
FDFAST_INLINE Vector<T> above(const Vector<T>& z, const Vector<T>& d) noexcept {
    return choose<T>(z > T{0}, larger<T>(d, -z), larger<T>(z + d, Vector<T>{}));
}
// min(z + d, 0) - min(z, 0)
template <typename T>
FDFAST_INLINE Vector<T> below(const Vector<T>& z, const Vector<T>& d) noexcept {
    return choose<T>(z < T{0}, smaller<T>(d, -z), smaller<T>(z + d, Vector<T>{}));
}

// z: [z] or, with a cap, [z][z - cap] at distance `plane`.
template <typename T, bool Plain>
FDFAST_INLINE void ramped(const Node<T>& node, const Lanes<T>& in, const T* base, std::int64_t plane, T r,
                          const Lanes<T>& out, Events<T>& events, bool& rest) noexcept {
    const T slope = static_cast<T>(node.slope);
    const bool capped = !Plain && node.cap < std::numeric_limits<double>::infinity();
    const std::int64_t wide = std::int64_t{in.at.w()} * in.stored;
    // Mirrored steps whose differences cancel exactly meet neither a tie nor a crossing: f(z + d) and f(z - d) would
    // not. With a cap they may cross both kinks alike.
    const bool mirrored = kLeavesEarly && !capped && r == T{-1} && !in.live[1];
    Mask<T> left{};
    for (std::int32_t y = in.at.y0; y < in.at.y1; ++y) {
        const T* z0 = base + (std::int64_t{y} * node.shape.w + in.at.x0) * in.stored;
        const std::int64_t row = std::int64_t{y - in.at.y0} * wide;
        for (std::int64_t v = 0; v < wide; v += kLanes<T>) {
            const Vector<T> z = load<T>(z0 + v);
            const Vector<T> a = in.live[0] ? load<T>(in.lane[0] + row + v) : Vector<T>{};
            const Vector<T> s = in.live[1] ? load<T>(in.lane[1] + row + v) : Vector<T>{};
            const Vector<T> b = s + a * r;
            Vector<T> fa = above<T>(z, a), fb = above<T>(z, b);
            Vector<T> c{};
            if constexpr (!Plain) {
                fa += below<T>(z, a) * slope;
                fb += below<T>(z, b) * slope;
                if (capped) {
                    c = load<T>(z0 + v + plane);
                    fa -= above<T>(c, a);
                    fb -= above<T>(c, b);
                }
            }
            const Vector<T> fs = fb - fa * r;
            const Mask<T> odd = fs != T{0};
            left |= odd;
            store<T>(out.lane[0] + row + v, fa);
            store<T>(out.lane[1] + row + v, fs);
            if (mirrored && !any<T>(odd)) continue;
            Vector<T> one = choose<T>(z > T{0}, splat<T>(T{1}), splat<T>(slope));
            Mask<T> tie = z == T{0};
            if (capped) {
                one = choose<T>(c > T{0}, Vector<T>{}, one);
                tie |= c == T{0};
            }
            tie &= (a != T{0}) | (b != T{0});
            events.tie |= tie;
            events.crossed |= ((fa != a * one) | (fb != b * one)) & ~tie;
        }
    }
    rest = any<T>(left);
}

// gaps: [oh][ow][tap][stored]; infinite outside of the map. Cells outside of the window do not move.
template <typename T>
FDFAST_INLINE void largest(const Node<T>& node, const Lanes<T>& in, const T* gaps, T r, const Lanes<T>& out,
                           Events<T>& events, bool& rest) noexcept {
    const Window& w = node.window;
    const std::int32_t taps = w.kh * w.kw;
    constexpr T kNone = -std::numeric_limits<T>::infinity();
    const bool mirrored = kLeavesEarly && r == T{-1} && !in.live[1];  // as in `ramped`
    const auto both = [&](std::int32_t iy, std::int32_t ix, std::int32_t v, Vector<T>& a, Vector<T>& b)
                          __attribute__((always_inline)) {
                              a = b = Vector<T>{};
                              if (!in.holds(iy, ix)) return;
                              if (in.live[0]) a = load<T>(in.cell(0, iy, ix) + v);
                              b = a * r;
                              if (in.live[1]) b += load<T>(in.cell(1, iy, ix) + v);
                          };
    Mask<T> left{};
    for (std::int32_t y = out.at.y0; y < out.at.y1; ++y) {
        for (std::int32_t x = out.at.x0; x < out.at.x1; ++x) {
            const T* gap0 = gaps + (std::int64_t{y} * node.shape.w + x) * taps * out.stored;
            const std::int32_t y0 = y * w.sh - w.top, x0 = x * w.sw - w.left;
            for (std::int32_t v = 0; v < out.stored; v += kLanes<T>) {
                Vector<T> fa = splat<T>(kNone), fb = fa;
                const T* gap = gap0 + v;
                for (std::int32_t ky = 0; ky < w.kh; ++ky) {
                    for (std::int32_t kx = 0; kx < w.kw; ++kx, gap += out.stored) {
                        const Vector<T> g = load<T>(gap);
                        Vector<T> a, b;
                        both(y0 + ky, x0 + kx, v, a, b);
                        fa = larger<T>(fa, a - g);
                        fb = larger<T>(fb, b - g);
                    }
                }
                const Vector<T> fs = fb - fa * r;
                const Mask<T> odd = fs != T{0};
                left |= odd;
                store<T>(out.cell(0, y, x) + v, fa);
                store<T>(out.cell(1, y, x) + v, fs);
                if (mirrored && !any<T>(odd)) continue;
                // Largest and smallest difference of the cells that are largest at the point.
                Vector<T> high_a = splat<T>(kNone), high_b = high_a, low_a = -high_a, low_b = -high_a;
                gap = gap0 + v;
                for (std::int32_t ky = 0; ky < w.kh; ++ky) {
                    for (std::int32_t kx = 0; kx < w.kw; ++kx, gap += out.stored) {
                        const Mask<T> top = load<T>(gap) == T{0};
                        Vector<T> a, b;
                        both(y0 + ky, x0 + kx, v, a, b);
                        high_a = choose<T>(top, larger<T>(high_a, a), high_a);
                        low_a = choose<T>(top, smaller<T>(low_a, a), low_a);
                        high_b = choose<T>(top, larger<T>(high_b, b), high_b);
                        low_b = choose<T>(top, smaller<T>(low_b, b), low_b);
                    }
                }
                events.tie |= (high_a != low_a) | (high_b != low_b);
                events.crossed |= (fa != high_a) | (fb != high_b);
            }
        }
    }
    rest = any<T>(left);
}

}  // namespace
}  // namespace fdfast
