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
FDFAST_APART void ramped(const Node<T>& node, const Lanes<T>& in, const T* base, std::int64_t plane, T r, Lanes<T>& out,
                         Events<T>& events) noexcept {
    const T slope = static_cast<T>(node.slope);
    const bool capped = !Plain && node.cap < std::numeric_limits<double>::infinity();
    const std::int64_t wide = std::int64_t{in.at.w()} * in.stored;
    const bool first = in.live[0], second = in.live[1];
    const T *const from = in.lane[0], *const from_rest = in.lane[1];
    T* const to = out.lane[0];
    const bool mirrored = r == T{-1} && !second;
    Rest<T> rest{out.lane[1]};
    for (std::int32_t y = in.at.y0; y < in.at.y1; ++y) {
        const T* const z0 = base + (std::int64_t{y} * node.shape.w + in.at.x0) * in.stored;
        const std::int64_t row = std::int64_t{y - in.at.y0} * wide;
        for (std::int64_t v = 0; v < wide; v += kLanes<T>) {
            const std::int64_t at = row + v;
            const Vector<T> z = load<T>(z0 + v);
            const Vector<T> a = first ? load<T>(from + at) : Vector<T>{};
            const Vector<T> s = second ? load<T>(from_rest + at) : Vector<T>{};
            const Vector<T> b = s + a * r;
            if (shorter<T>(a, z) && (mirrored || shorter<T>(b, z))) {  // neither a tie nor a crossing at 0
                const Mask<T> on = z > T{0};
                Vector<T> fa = choose<T>(on, a, Plain ? Vector<T>{} : a * slope);
                Vector<T> fs = second ? choose<T>(on, s, Plain ? Vector<T>{} : s * slope) : Vector<T>{};
                bool far = true;
                if (capped) {
                    const Vector<T> c = load<T>(z0 + v + plane);
                    far = shorter<T>(a, c) && (mirrored || shorter<T>(b, c));
                    const Mask<T> flat = c > T{0};
                    fa = choose<T>(flat, Vector<T>{}, fa);
                    fs = choose<T>(flat, Vector<T>{}, fs);
                }
                if (far) {  // nor at the cap
                    store<T>(to + at, fa);
                    if (second || rest.live) rest.put(at, fs);
                    continue;
                }
            }
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
            store<T>(to + at, fa);
            rest.put(at, fs);
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
    out.live[1] = rest.live;
}

// One output cell of a maximum, one register of channels: differences of its `taps` cells, and how far each lies below
// the largest. from(side, tap) is where a lane of a cell is. N is the number of taps where that is known.
template <int N, bool Both, typename T, typename From>
FDFAST_INLINE void largest_at(const From& from, int taps, const T* gap, std::int32_t stored, std::int32_t v, T r,
                              bool quiet, T* out, std::int64_t at, Rest<T>& rest, Events<T>& events) noexcept {
    constexpr T kNone = -std::numeric_limits<T>::infinity();
    const auto both = [&](int t, Vector<T>& a, Vector<T>& b) __attribute__((always_inline)) {
        a = load<T>(from(0, t) + v);
        b = a * r;
        if constexpr (Both) b += load<T>(from(1, t) + v);
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
    store<T>(out + at, fa);
    rest.put(at, fs);
    if (!Both && quiet && !any<T>(fs != T{0})) return;
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

template <int N, bool Both, typename T>
FDFAST_APART void largest_of(const Node<T>& node, const Lanes<T>& in, const T* gaps, const T* zeros, T r, Lanes<T>& out,
                             Events<T>& events) noexcept {
    const Window& w = node.window;
    // Mirrored steps whose differences cancel exactly meet neither a tie nor a crossing: f(z + d) and f(z - d) would
    // not.
    const bool quiet = kLeavesEarly && r == T{-1};
    const int taps = w.kh * w.kw;
    Rest<T> rest{out.lane[1]};
    for (std::int32_t y = out.at.y0; y < out.at.y1; ++y) {
        for (std::int32_t x = out.at.x0; x < out.at.x1; ++x) {
            const std::int32_t y0 = y * w.sh - w.top, x0 = x * w.sw - w.left;
            const auto place = [&](int side, int t) __attribute__((always_inline)) {
                const std::int32_t iy = y0 + t / w.kw, ix = x0 + t % w.kw;
                return in.live[side] && in.holds(iy, ix) ? in.cell(side, iy, ix) : zeros;
            };
            const T* gap = gaps + (std::int64_t{y} * node.shape.w + x) * taps * out.stored;
            const std::int64_t at = out.cell(0, y, x) - out.lane[0];
            if constexpr (N > 0) {
                const T* cell[2][N];
                for (int t = 0; t < N; ++t) {
                    cell[0][t] = place(0, t);
                    cell[1][t] = Both ? place(1, t) : zeros;
                }
                const auto known = [&](int side, int t) __attribute__((always_inline)) { return cell[side][t]; };
                for (std::int32_t v = 0; v < out.stored; v += kLanes<T>)
                    largest_at<N, Both>(known, N, gap, out.stored, v, r, quiet, out.lane[0], at + v, rest, events);
            } else {
                for (std::int32_t v = 0; v < out.stored; v += kLanes<T>)
                    largest_at<N, Both>(place, taps, gap, out.stored, v, r, quiet, out.lane[0], at + v, rest, events);
            }
        }
    }
    out.live[1] = rest.live;
}

// gaps: [oh][ow][tap][stored]; infinite outside of the map. zeros: one cell. Cells outside of the window do not move.
template <typename T>
FDFAST_INLINE void largest(const Node<T>& node, const Lanes<T>& in, const T* gaps, const T* zeros, T r, Lanes<T>& out,
                           Events<T>& events) noexcept {
    if (node.window.kh * node.window.kw == 4) {
        if (in.live[1]) return largest_of<4, true>(node, in, gaps, zeros, r, out, events);
        return largest_of<4, false>(node, in, gaps, zeros, r, out, events);
    }
    if (in.live[1]) return largest_of<0, true>(node, in, gaps, zeros, r, out, events);
    largest_of<0, false>(node, in, gaps, zeros, r, out, events);
}

}  // namespace
}  // namespace fdfast
