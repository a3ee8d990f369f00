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

// One output cell of a maximum, one register of channels: differences of its `taps` cells, and how far each lies below
// the largest. from(side, tap) is where a lane of a cell is. N is the number of taps where that is known.
template <int N, bool Rest, typename T, typename From>
FDFAST_INLINE void largest_at(const From& from, int taps, const T* gap, std::int32_t stored, std::int32_t v, T r,
                              bool quiet, T* out_a, T* out_s, Mask<T>& left, Events<T>& events) noexcept {
    constexpr T kNone = -std::numeric_limits<T>::infinity();
    const auto both = [&](int t, Vector<T>& a, Vector<T>& b) __attribute__((always_inline)) {
        a = load<T>(from(0, t) + v);
        b = a * r;
        if constexpr (Rest) b += load<T>(from(1, t) + v);
    };
    Vector<T> fa = splat<T>(kNone), fb = fa;
    const auto reach = [&](int t) __attribute__((always_inline)) {
        const Vector<T> g = load<T>(gap + t * stored + v);
        Vector<T> a, b;
        both(t, a, b);
        fa = larger<T>(fa, a - g);
        fb = larger<T>(fb, b - g);
    };
    if constexpr (N > 0) {
        each<0, N>(reach);
    } else {
        for (int t = 0; t < taps; ++t) reach(t);
    }
    const Vector<T> fs = fb - fa * r;
    const Mask<T> odd = fs != T{0};
    left |= odd;
    store<T>(out_a + v, fa);
    store<T>(out_s + v, fs);
    if (!Rest && quiet && !any<T>(odd)) return;
    // Largest and smallest difference of the cells that are largest at the point.
    Vector<T> high_a = splat<T>(kNone), high_b = high_a, low_a = -high_a, low_b = -high_a;
    const auto sift = [&](int t) __attribute__((always_inline)) {
        const Mask<T> top = load<T>(gap + t * stored + v) == T{0};
        Vector<T> a, b;
        both(t, a, b);
        high_a = choose<T>(top, larger<T>(high_a, a), high_a);
        low_a = choose<T>(top, smaller<T>(low_a, a), low_a);
        high_b = choose<T>(top, larger<T>(high_b, b), high_b);
        low_b = choose<T>(top, smaller<T>(low_b, b), low_b);
    };
    if constexpr (N > 0) {
        each<0, N>(sift);
    } else {
        for (int t = 0; t < taps; ++t) sift(t);
    }
    events.tie |= (high_a != low_a) | (high_b != low_b);
    events.crossed |= (fa != high_a) | (fb != high_b);
}

template <int N, bool Rest, typename T>
FDFAST_INLINE void largest_of(const Node<T>& node, const Lanes<T>& in, const T* gaps, const T* zeros, T r,
                              const Lanes<T>& out, Events<T>& events, bool& rest) noexcept {
    const Window& w = node.window;
    // Mirrored steps whose differences cancel exactly meet neither a tie nor a crossing, as in `ramped`.
    const bool quiet = kLeavesEarly && r == T{-1};
    const int taps = w.kh * w.kw;
    Mask<T> left{};
    for (std::int32_t y = out.at.y0; y < out.at.y1; ++y) {
        for (std::int32_t x = out.at.x0; x < out.at.x1; ++x) {
            const std::int32_t y0 = y * w.sh - w.top, x0 = x * w.sw - w.left;
            const auto place = [&](int side, int t) __attribute__((always_inline)) {
                const std::int32_t iy = y0 + t / w.kw, ix = x0 + t % w.kw;
                return in.live[side] && in.holds(iy, ix) ? in.cell(side, iy, ix) : zeros;
            };
            const T* gap = gaps + (std::int64_t{y} * node.shape.w + x) * taps * out.stored;
            T *const a = out.cell(0, y, x), *const s = out.cell(1, y, x);
            if constexpr (N > 0) {
                const T* cell[2][N];
                for (int t = 0; t < N; ++t) {
                    cell[0][t] = place(0, t);
                    cell[1][t] = Rest ? place(1, t) : zeros;
                }
                const auto known = [&](int side, int t) __attribute__((always_inline)) { return cell[side][t]; };
                for (std::int32_t v = 0; v < out.stored; v += kLanes<T>)
                    largest_at<N, Rest>(known, N, gap, out.stored, v, r, quiet, a, s, left, events);
            } else {
                for (std::int32_t v = 0; v < out.stored; v += kLanes<T>)
                    largest_at<N, Rest>(place, taps, gap, out.stored, v, r, quiet, a, s, left, events);
            }
        }
    }
    rest = any<T>(left);
}

// gaps: [oh][ow][tap][stored]; infinite outside of the map. zeros: one cell. Cells outside of the window do not move.
template <typename T>
FDFAST_INLINE void largest(const Node<T>& node, const Lanes<T>& in, const T* gaps, const T* zeros, T r,
                           const Lanes<T>& out, Events<T>& events, bool& rest) noexcept {
    if (node.window.kh * node.window.kw == 4) {
        if (in.live[1]) return largest_of<4, true>(node, in, gaps, zeros, r, out, events, rest);
        return largest_of<4, false>(node, in, gaps, zeros, r, out, events, rest);
    }
    if (in.live[1]) return largest_of<0, true>(node, in, gaps, zeros, r, out, events, rest);
    largest_of<0, false>(node, in, gaps, zeros, r, out, events, rest);
}

}  // namespace
}  // namespace fdfast
