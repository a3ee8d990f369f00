// Linear operations: each lane on its own, channels that are zero all over the window skipped.
#pragma once

#include <limits>

#include "lanes.hpp"

namespace fdfast {
namespace {

// A convolution on one window of one lane. Weights are blocked, [block][c][tap][kBlock], so that what one register of
// output needs is contiguous.
template <typename T>
struct Correlation {
    const Node<T>* node;
    const T* weights;       // of the group
    std::int32_t channels;  // of the group, in
    std::int32_t blocks;    // of the group, out
    const T* in;
    Area from;
    std::int32_t in_stored;  // elements from cell to cell
    std::int32_t in_first;   // first channel of the group
    T* out;
    Area to;
    std::int32_t out_stored;
    T* packed;
    std::int32_t* listed;
};

// Channels of the group that are not zero all over the window, counted from the group's first.
template <typename T>
FDFAST_INLINE std::int32_t live_channels(const Correlation<T>& c) noexcept {
    const std::int64_t cells = c.from.cells();
    std::int32_t count = 0;
    const std::int32_t first = c.in_first, last = c.in_first + c.channels;
    for (std::int32_t at = first / kLanes<T> * kLanes<T>; at < last; at += kLanes<T>) {
        const T* p = c.in + at;
        Mask<T> seen = load<T>(p) != T{0};
        for (std::int64_t i = 1; i < cells; ++i) seen |= load<T>(p + i * c.in_stored) != T{0};
        if (!any<T>(seen)) continue;
        for (std::int32_t k = 0; k < kLanes<T>; ++k) {
            c.listed[count] = at + k - first;
            count += seen[k] != 0 && at + k >= first && at + k < last;
        }
    }
    return count;
}

template <typename T>
FDFAST_INLINE const T* weight_at(const Correlation<T>& c, std::int32_t vector, std::int64_t row) noexcept {
    const std::int64_t taps = std::int64_t{c.node->window.kh} * c.node->window.kw;
    const std::int64_t block = vector / kPerBlock<T>, part = vector % kPerBlock<T>;
    return c.weights + (block * c.channels * taps + row) * kBlock<T> + part * kLanes<T>;
}

// Sums of R cells, N registers of each, from and to the output, whose cells lie `stored` apart.
template <int R, int N, typename T>
FDFAST_INLINE void load_sums(Vector<T>* sum, const T* from, std::int64_t stored) noexcept {
    each<0, R * N>([&](auto i)
                       __attribute__((always_inline)) { sum[i] = load<T>(from + i / N * stored + i % N * kLanes<T>); });
}
template <int R, int N, typename T>
FDFAST_INLINE void store_sums(const Vector<T>* sum, T* to, std::int64_t stored) noexcept {
    each<0, R * N>([&](auto i)
                       __attribute__((always_inline)) { store<T>(to + i / N * stored + i % N * kLanes<T>, sum[i]); });
}

// Small windows at stride 1, several at once: the weights of one register of output channels stay in the first cache
// for all of them. All outputs of that register are kept in registers, and only inputs that are not zero are
// multiplied; behind rectifiers and pools that is a minority.
template <int H, int W, int K, typename T>
FDFAST_APART void scattered(const Correlation<T>* lane, int lanes) noexcept {
    constexpr int kOutH = H + K - 1, kOutW = W + K - 1;
    const Correlation<T>& c = lane[0];
    std::int32_t begin[2 * kTogether][H * W + 1];
    for (int side = 0; side < lanes; ++side) {
        const Correlation<T>& d = lane[side];
        std::int32_t count = 0;
        for (int i = 0; i < H * W; ++i) {
            begin[side][i] = count;
            count += list_live(d.in + i * d.in_stored + d.in_first, d.channels, 0, K * K * kBlock<T>, d.packed + count,
                               d.listed + count);
        }
        begin[side][H * W] = count;
    }
    for (std::int32_t v = 0; v < c.blocks * kPerBlock<T>; ++v) {
        const T* const w = weight_at(c, v, 0);
        for (int side = 0; side < lanes; ++side) {
            const T* const packed = lane[side].packed;
            const std::int32_t* const listed = lane[side].listed;
            Vector<T> sum[kOutH * kOutW] = {};
            each<0, H * W>([&](auto i) __attribute__((always_inline)) {
                constexpr int kCell = decltype(i){};
                for (std::int32_t k = begin[side][kCell]; k < begin[side][kCell + 1]; ++k) {
                    const Vector<T> value = splat<T>(packed[k]);
                    const T* const row = w + listed[k];
                    each<0, K * K>([&](auto t) __attribute__((always_inline)) {
                        constexpr int kTap = decltype(t){};
                        constexpr int kAt = (kCell / W + K - 1 - kTap / K) * kOutW + kCell % W + K - 1 - kTap % K;
                        sum[kAt] += value * load<T>(row + kTap * kBlock<T>);
                    });
                }
            });
            const Area &from = lane[side].from, &to = lane[side].to;
            T* const out = lane[side].out + v * kLanes<T>;
            if (to.cells() == kOutH * kOutW) {  // nothing of it is off the map
                store_sums<kOutH * kOutW, 1>(sum, out, c.out_stored);
                continue;
            }
            const std::int32_t top = from.y0 + c.node->window.top - (K - 1);
            const std::int32_t left = from.x0 + c.node->window.left - (K - 1);
            each<0, kOutH * kOutW>([&](auto i) __attribute__((always_inline)) {
                const std::int32_t y = top + i / kOutW, x = left + i % kOutW;
                if (y >= to.y0 && y < to.y1 && x >= to.x0 && x < to.x1) {
                    const std::int64_t cell = std::int64_t{y - to.y0} * to.w() + (x - to.x0);
                    store<T>(out + cell * c.out_stored, sum[i]);
                }
            });
        }
    }
}

// One output cell: each input that is not zero times its row of weights; several sums side by side, because one would
// wait for itself.
template <int N, int U, typename T>
FDFAST_APART void gathered_into(const Correlation<T>& c, std::int32_t count, std::int32_t v) noexcept {
    Vector<T> sum[N * U] = {};
    const T* w[N];
    each<0, N>([&](auto n) __attribute__((always_inline)) { w[n] = weight_at(c, v + n, 0); });
    const auto add = [&](std::int32_t k, auto u) __attribute__((always_inline)) {
        const Vector<T> value = splat<T>(c.packed[k]);
        const std::int64_t row = std::int64_t{c.listed[k]} * kBlock<T>;
        each<0, N>([&](auto n) __attribute__((always_inline)) { sum[n * U + u] += value * load<T>(w[n] + row); });
    };
    std::int32_t k = 0;
    for (; k + U <= count; k += U) {
        each<0, U>([&](auto u) __attribute__((always_inline)) { add(k + u, u); });
    }
    for (; k < count; ++k) add(k, Constant<0>{});
    each<0, N>([&](auto n) __attribute__((always_inline)) {
        Vector<T> all = sum[n * U];
        each<1, U>([&](auto u) __attribute__((always_inline)) { all += sum[n * U + u]; });
        store<T>(c.out + (v + n) * kLanes<T>, all);
    });
}

template <typename T>
FDFAST_APART void gathered(const Correlation<T>& c) noexcept {
    const Window& w = c.node->window;
    // Elements of a map of one cell are read tap by tap, those of larger maps channel by channel: see `pack_conv`.
    const std::int64_t taps = std::int64_t{w.kh} * w.kw;
    const std::int64_t per_tap = c.node->by_tap ? c.channels : 1, per_channel = c.node->by_tap ? 1 : taps;
    std::int32_t count = 0;
    for (std::int32_t y = c.from.y0; y < c.from.y1; ++y) {
        const std::int32_t ry = y + w.top - c.to.y0 * w.sh;
        for (std::int32_t x = c.from.x0; x < c.from.x1; ++x) {
            const std::int32_t rx = x + w.left - c.to.x0 * w.sw;
            if (ry < 0 || rx < 0 || ry % w.dh != 0 || rx % w.dw != 0) continue;
            const std::int32_t ky = ry / w.dh, kx = rx / w.dw;
            if (ky >= w.kh || kx >= w.kw) continue;
            const T* p = c.in + (std::int64_t{y - c.from.y0} * c.from.w() + (x - c.from.x0)) * c.in_stored + c.in_first;
            count += list_live(p, c.channels, static_cast<std::int32_t>((ky * w.kw + kx) * per_tap),
                               static_cast<std::int32_t>(per_channel), c.packed + count, c.listed + count);
        }
    }
    std::int32_t v = 0;
    const std::int32_t vectors = c.blocks * kPerBlock<T>;
    for (; v + 4 <= vectors; v += 4) gathered_into<4, 2>(c, count, v);
    for (; v + 2 <= vectors; v += 2) gathered_into<2, 4>(c, count, v);
    for (; v < vectors; ++v) gathered_into<1, 6>(c, count, v);
}

constexpr std::int32_t kPanelBytes = 24 << 10;

// R output cells of one row, N registers of channels each.
template <typename T>
struct Strip {
    const T* row[64];  // input rows that are seen, at the strip's first cell
    std::int32_t ky[64];
    std::int32_t rows;
    std::int32_t kx0, kx1;      // taps that see the window at all
    std::int64_t along;         // elements from an output cell's input to the next one's
    std::int64_t across;        // elements from tap to tap
    bool three, begins, ends;   // see `strip_of_three`
    const std::int32_t* where;  // by listed channel, its place within a cell
    std::int32_t first, last;   // of the listed channels; what those before gave is in the output
};

template <int R, int N, typename T>
FDFAST_APART void strip(const Correlation<T>& c, const Strip<T>& s, std::int32_t v, T* out) noexcept {
    Vector<T> sum[R * N] = {};
    if (s.first > 0) load_sums<R, N>(sum, out + v * kLanes<T>, c.out_stored);
    const std::int32_t width = c.node->window.kw;
    const std::int64_t taps = std::int64_t{c.node->window.kh} * width;
    const T* w[N];
    each<0, N>([&](auto n) __attribute__((always_inline)) { w[n] = weight_at(c, v + n, 0); });
    for (std::int32_t i = 0; i < s.rows; ++i) {
        for (std::int32_t k = s.first; k < s.last; ++k) {
            const T* p = s.row[i] + s.where[k];
            const std::int64_t first = (c.listed[k] * taps + s.ky[i] * width) * kBlock<T>;
            for (std::int32_t kx = s.kx0; kx < s.kx1; ++kx) {
                Vector<T> weight[N];
                each<0, N>([&](auto n)
                               __attribute__((always_inline)) { weight[n] = load<T>(w[n] + first + kx * kBlock<T>); });
                each<0, R>([&](auto r) __attribute__((always_inline)) {
                    const Vector<T> value = splat<T>(p[r * s.along + kx * s.across]);
                    each<0, N>([&](auto n) __attribute__((always_inline)) { sum[r * N + n] += value * weight[n]; });
                });
            }
        }
    }
    store_sums<R, N>(sum, out + v * kLanes<T>, c.out_stored);
}

// The same for 3 x 3 taps side by side, unrolled. Where the strip begins or ends with the cells that see the window's
// first or last column only with their last or first tap, products with the zeros beyond it are left out.
template <int R, int N, bool Begins, bool Ends, typename T>
FDFAST_APART void strip_of_three(const Correlation<T>& c, const Strip<T>& s, std::int32_t v, T* out) noexcept {
    Vector<T> sum[R * N] = {};
    if (s.first > 0) load_sums<R, N>(sum, out + v * kLanes<T>, c.out_stored);
    const T* w[N];
    each<0, N>([&](auto n) __attribute__((always_inline)) { w[n] = weight_at(c, v + n, 0); });
    for (std::int32_t i = 0; i < s.rows; ++i) {
        const T* const row = s.row[i];
        const std::int64_t tap = std::int64_t{s.ky[i]} * 3 * kBlock<T>;
        for (std::int32_t k = s.first; k < s.last; ++k) {
            const T* const p = row + s.where[k];
            const std::int64_t first = c.listed[k] * std::int64_t{9 * kBlock<T>} + tap;
            each<0, 3>([&](auto kx) __attribute__((always_inline)) {
                constexpr int kTap = decltype(kx){};
                constexpr int kFrom = Begins ? 2 - kTap : 0, kTo = Ends ? R - kTap : R;
                Vector<T> weight[N];
                each<0, N>([&](auto n) __attribute__((always_inline)) {
                    weight[n] = load<T>(w[n] + first + kTap * kBlock<T>);
                });
                each<kFrom, kTo>([&](auto r) __attribute__((always_inline)) {
                    const Vector<T> value = splat<T>(p[r + kTap]);
                    each<0, N>([&](auto n) __attribute__((always_inline)) { sum[r * N + n] += value * weight[n]; });
                });
            });
        }
    }
    store_sums<R, N>(sum, out + v * kLanes<T>, c.out_stored);
}

template <int N, typename T>
FDFAST_INLINE void strips(const Correlation<T>& c, const Strip<T>& s, std::int32_t cells, std::int32_t v,
                          T* out) noexcept {
    each<1, kTall + 1>([&](auto r) __attribute__((always_inline)) {
        constexpr int kCells = decltype(r){};
        if (cells != kCells) return;
        if constexpr (N == kWide) {
            if (s.three && s.begins && s.ends) return strip_of_three<kCells, N, true, true>(c, s, v, out);
            if (s.three && s.begins) return strip_of_three<kCells, N, true, false>(c, s, v, out);
            if (s.three && s.ends) return strip_of_three<kCells, N, false, true>(c, s, v, out);
            if (s.three) return strip_of_three<kCells, N, false, false>(c, s, v, out);
        }
        strip<kCells, N>(c, s, v, out);
    });
}

// Any window, stride and dilation: rows exactly, columns padded with zeros where taps reach out of the window.
template <typename T>
struct Sweep {
    const Correlation<T>* c;
    Strip<T> strip;
    std::int32_t count;        // of the listed channels
    bool point, whole;         // see `prepare_sweep`
    std::int32_t rows, cells;  // of the output; cells of one row
    std::int32_t wide, left;   // packed columns, and the input column that the first one is
};

template <typename T>
FDFAST_APART void prepare_sweep(const Correlation<T>& c, Sweep<T>& sweep) noexcept {
    const Window& w = c.node->window;
    const std::int32_t count = live_channels(c);
    sweep.c = &c;
    sweep.count = count;
    // A 1 x 1 window needs no neighbours: it reads where the input lies. Without strides the whole area is one row.
    const bool point = sweep.point = w.kh == 1 && w.kw == 1 && w.top == 0 && w.left == 0;
    const bool whole = sweep.whole = point && c.to.h() == c.from.h() && c.to.w() == c.from.w();
    sweep.rows = whole ? 1 : c.to.h();
    sweep.cells = whole ? c.to.h() * c.to.w() : c.to.w();
    const std::int32_t wide = sweep.wide = (sweep.cells - 1) * w.sw + (w.kw - 1) * w.dw + 1;
    const std::int32_t left = sweep.left = c.to.x0 * w.sw - w.left;
    std::int32_t* where = c.listed + c.channels;
    if (point) {
        for (std::int32_t k = 0; k < count; ++k) where[k] = c.in_first + c.listed[k];
    } else {
        const std::int64_t row = std::int64_t{count} * wide;
        for (std::int32_t k = 0; k < count; ++k) where[k] = k * wide;
        const std::int32_t x0 = most(c.from.x0, left), x1 = least(c.from.x1, left + wide);
        for (std::int32_t y = 0; y < c.from.h(); ++y) {
            T* to = c.packed + y * row;
            std::memset(to, 0, static_cast<std::size_t>(row) * sizeof(T));
            for (std::int32_t x = x0; x < x1; ++x) {
                const T* p = c.in + (std::int64_t{y} * c.from.w() + (x - c.from.x0)) * c.in_stored + c.in_first;
                for (std::int32_t k = 0; k < count; ++k) to[std::int64_t{k} * wide + (x - left)] = p[c.listed[k]];
            }
        }
    }
    Strip<T>& s = sweep.strip;
    s.where = where;
    s.along = point ? std::int64_t{whole ? 1 : w.sw} * c.in_stored : w.sw;
    s.across = w.dw;
    s.three = w.kh == 3 && w.kw == 3 && w.sw == 1 && w.dw == 1;
}

// All cells, N registers of output channels from v on, listed channels [strip.first, strip.last).
template <int N, typename T>
FDFAST_INLINE void sweep_cells(Sweep<T>& sweep, std::int32_t v) noexcept {
    const Correlation<T>& c = *sweep.c;
    const Window& w = c.node->window;
    Strip<T>& s = sweep.strip;
    const std::int32_t cells = sweep.cells, pieces = (cells + kTall - 1) / kTall;  // of a row, of about equal length
    for (std::int32_t y = 0; y < sweep.rows; ++y) {
        for (std::int32_t i = 0; i < pieces; ++i) {
            const std::int32_t x = i * cells / pieces, some = (i + 1) * cells / pieces - x;
            s.rows = 0;
            s.kx0 = 0;
            s.kx1 = w.kw;
            s.begins = s.ends = false;
            if (sweep.point) {
                const std::int32_t iy = sweep.whole ? 0 : (c.to.y0 + y) * w.sh - c.from.y0;
                const std::int32_t ix = sweep.whole ? x : (c.to.x0 + x) * w.sw - c.from.x0;
                s.row[0] = c.in + (std::int64_t{iy} * c.from.w() + ix) * c.in_stored;
                s.ky[0] = 0;
                s.rows = 1;
            } else {
                const std::int32_t reach = sweep.left + x * w.sw;  // input column that tap 0 of the first cell sees
                const std::int32_t end = reach + (some - 1) * w.sw;
                s.begins = reach == c.from.x0 - 2;
                s.ends = end == c.from.x1 - 1;
                while (s.kx0 < s.kx1 && end + s.kx0 * w.dw < c.from.x0) ++s.kx0;
                while (s.kx1 > s.kx0 && reach + (s.kx1 - 1) * w.dw >= c.from.x1) --s.kx1;
                for (std::int32_t ky = 0; ky < w.kh; ++ky) {
                    const std::int32_t iy = (c.to.y0 + y) * w.sh - w.top + ky * w.dh - c.from.y0;
                    if (iy < 0 || iy >= c.from.h()) continue;
                    s.row[s.rows] = c.packed + std::int64_t{iy} * sweep.count * sweep.wide + x * w.sw;
                    s.ky[s.rows++] = ky;
                }
            }
            strips<N>(c, s, some, v, c.out + (std::int64_t{y} * cells + x) * c.out_stored);
        }
    }
}

// Several lanes: weights of so many channels as fit into the first cache stay there for all cells of all of them.
template <typename T>
FDFAST_APART void swept(const Correlation<T>* lane, int lanes) noexcept {
    Sweep<T> sweep[2 * kTogether];
    std::int32_t most_listed = 0;
    for (int i = 0; i < lanes; ++i) {
        prepare_sweep(lane[i], sweep[i]);
        most_listed = most(most_listed, sweep[i].count);
    }
    const Window& w = lane->node->window;
    const std::int32_t vectors = lane->blocks * kPerBlock<T>;
    const std::int32_t panel = most(8, kPanelBytes / (kWide * kVectorBytes * w.kh * w.kw));
    const auto all_panels = [&](auto n, std::int32_t v) __attribute__((always_inline)) {
        for (std::int32_t first = 0; first == 0 || first < most_listed; first += panel) {
            for (int i = 0; i < lanes; ++i) {
                if (first > 0 && first >= sweep[i].count) continue;
                sweep[i].strip.first = first;
                sweep[i].strip.last = least(sweep[i].count, first + panel);
                sweep_cells<decltype(n){}>(sweep[i], v);
            }
        }
    };
    std::int32_t v = 0;
    for (; v + kWide <= vectors; v += kWide) all_panels(Constant<kWide>{}, v);
    if constexpr (kWide > 2) {
        for (; v + 2 <= vectors; v += 2) all_panels(Constant<2>{}, v);
    }
    for (; v < vectors; ++v) all_panels(Constant<1>{}, v);
}

template <int H, int W, int K, typename T>
FDFAST_INLINE bool try_scattered(const Correlation<T>* lane, int lanes) noexcept {
    if constexpr (K * K + 2 <= kRegisters) {
        const Window& w = lane->node->window;
        if (lane->from.h() == H && lane->from.w() == W && w.kh == K && w.kw == K) {
            scattered<H, W, K>(lane, lanes);
            return true;
        }
    }
    return false;
}

// One output cell of R lanes, N registers of channels each; element k of lane r is packed[k * together + r].
template <int R, int N, typename T>
FDFAST_APART void shared_into(const Correlation<T>* lane, const T* packed, const std::int32_t* listed, int together,
                              std::int32_t first, std::int32_t last, std::int32_t v) noexcept {
    constexpr std::int32_t kAhead = 48;  // rows of weights asked for before they are needed: they come from memory
    const Correlation<T>& c = lane[0];
    Vector<T> sum[R * N] = {};
    const auto each_sum = [&](const auto& f) __attribute__((always_inline)) {
        each<0, R>([&](auto r) __attribute__((always_inline)) {
            each<0, N>([&](auto n)
                           __attribute__((always_inline)) { f(sum[r * N + n], lane[r].out + (v + n) * kLanes<T>); });
        });
    };
    if (first > 0) each_sum([](Vector<T>& to, const T* at) __attribute__((always_inline)) { to = load<T>(at); });
    const T* w[N];
    each<0, N>([&](auto n) __attribute__((always_inline)) { w[n] = weight_at(c, v + n, 0); });
    for (std::int32_t k = first; k < last; ++k) {
        const std::int64_t row = std::int64_t{listed[k]} * kBlock<T>;
        const T* const p = packed + std::int64_t{k} * together;
        Vector<T> weight[N];
        each<0, N>([&](auto n) __attribute__((always_inline)) {
            __builtin_prefetch(w[n] + row + kAhead * kBlock<T>);
            weight[n] = load<T>(w[n] + row);
        });
        each<0, R>([&](auto r) __attribute__((always_inline)) {
            const Vector<T> value = splat<T>(p[r]);
            each<0, N>([&](auto n) __attribute__((always_inline)) { sum[r * N + n] += value * weight[n]; });
        });
    }
    each_sum([](const Vector<T>& from, T* at) __attribute__((always_inline)) { store<T>(at, from); });
}

// Several maps times one matrix, which is read once for all of them: a convolution with one output cell that sees the
// whole map. Elements that are zero in all lanes are left out.
template <typename T>
FDFAST_APART void shared(const Correlation<T>* lane, int lanes) noexcept {
    const Correlation<T>& c = lane[0];
    const Window& w = c.node->window;
    // The lanes' places for what they pack follow one another, and each has room for a whole map.
    T* const packed = c.packed;
    std::int32_t count = 0, element = 0;
    for (std::int32_t y = 0; y < w.kh; ++y) {
        for (std::int32_t x = 0; x < w.kw; ++x) {
            const T* cell[2 * kTogether];
            for (int r = 0; r < lanes; ++r) {
                const Correlation<T>& d = lane[r];
                const bool inside = y >= d.from.y0 && y < d.from.y1 && x >= d.from.x0 && x < d.from.x1;
                const std::int64_t at = std::int64_t{y - d.from.y0} * d.from.w() + (x - d.from.x0);
                cell[r] = inside ? d.in + at * d.in_stored : nullptr;
            }
            for (std::int32_t k = 0; k < c.channels; ++k, ++element) {
                T* const to = packed + std::int64_t{count} * lanes;
                bool live = false;
                for (int r = 0; r < lanes; ++r) {
                    to[r] = cell[r] == nullptr ? T{0} : cell[r][k];
                    live |= to[r] != T{0};
                }
                c.listed[count] = element;
                count += live;
            }
        }
    }
    const std::int32_t vectors = c.blocks * kPerBlock<T>, panel = kPanelBytes / (kWide * kVectorBytes);
    const int pieces = (lanes + kTall - 1) / kTall;
    const auto all = [&](auto n, std::int32_t v) __attribute__((always_inline)) {
        std::int32_t first = 0;
        do {
            const std::int32_t last = least(count, first + panel);
            for (int i = 0; i < pieces; ++i) {
                const int begin = i * lanes / pieces, some = (i + 1) * lanes / pieces - begin;
                each<1, kTall + 1>([&](auto r) __attribute__((always_inline)) {
                    if (some == r)
                        shared_into<decltype(r){}, decltype(n){}>(lane + begin, packed + begin, c.listed, lanes, first,
                                                                  last, v);
                });
            }
            first = last;
        } while (first < count);
    };
    std::int32_t v = 0;
    for (; v + kWide <= vectors; v += kWide) all(Constant<kWide>{}, v);
    for (; v < vectors; ++v) all(Constant<1>{}, v);
}

template <typename T>
FDFAST_INLINE void correlate(const Correlation<T>* lane, int lanes) noexcept {
    const Window& w = lane->node->window;
    const bool dense = w.sh == 1 && w.sw == 1 && w.dh == 1 && w.dw == 1;
    // For a single lane, too: what comes of a tile must not depend on which others are beside it.
    if (lane->node->whole && lane->node->size > kShared) return shared(lane, lanes);
    for (int i = 0, next = 1; i < lanes; i = next++) {
        const Correlation<T>& c = lane[i];
        if (c.to.cells() == 1) {
            gathered(c);
            continue;
        }
        const auto small = [&](const Correlation<T>& d) __attribute__((always_inline)) {
            return dense && w.kh > 1 && d.from.h() <= 3 && d.from.w() <= 3;
        };
        const auto like_this = [&](const Correlation<T>& d) __attribute__((always_inline)) {
            return d.to.cells() > 1 && small(d) == small(c) &&
                   (!small(c) || (d.from.h() == c.from.h() && d.from.w() == c.from.w()));
        };
        while (next < lanes && like_this(lane[next])) ++next;
        const int some = next - i;
        if (small(c) &&
            (try_scattered<1, 1, 3>(&c, some) || try_scattered<2, 2, 3>(&c, some) || try_scattered<1, 2, 3>(&c, some) ||
             try_scattered<2, 1, 3>(&c, some) || try_scattered<3, 3, 3>(&c, some) || try_scattered<2, 3, 3>(&c, some) ||
             try_scattered<3, 2, 3>(&c, some) || try_scattered<1, 1, 5>(&c, some)))
            continue;
        swept(&c, some);
    }
}

// The channels of a group need not begin on a block: from `c.out`, whose cells are `blocks` blocks, to their place.
template <typename T>
FDFAST_INLINE void take_group(const Correlation<T>& c, std::int32_t channels, T* to, std::int32_t stored) noexcept {
    for (std::int64_t i = 0; i < c.to.cells(); ++i) {
        std::memcpy(to + i * stored, c.out + i * c.out_stored, static_cast<std::size_t>(channels) * sizeof(T));
    }
}

// One pair's part of a convolution.
template <typename T>
struct Seat {
    const Lanes<T>* in;
    Lanes<T>* out;
    T* packed[2];
    std::int32_t* listed[2];
};

template <typename T>
FDFAST_INLINE void convolve(const Node<T>& node, std::int32_t channels, const Seat<T>* seat, int seats) noexcept {
    const std::int32_t groups = node.groups, each_in = channels / groups, each_out = node.shape.c / groups;
    const std::int32_t blocks = (each_out + kBlock<T> - 1) / kBlock<T>;
    const std::int64_t per_group = std::int64_t{blocks} * each_in * node.window.kh * node.window.kw * kBlock<T>;
    for (std::int32_t g = 0; g < groups; ++g) {
        Correlation<T> lane[2 * kTogether];
        T* taken_to[2 * kTogether];
        int lanes = 0;
        for (int i = 0; i < seats; ++i) {
            const Lanes<T>& in = *seat[i].in;
            Lanes<T>& out = *seat[i].out;
            for (int side = 0; side < 2; ++side) {
                out.live[side] = in.live[side];
                if (!in.live[side]) continue;
                Correlation<T>& c = lane[lanes];
                c = {&node,
                     node.weights.get() + g * per_group,
                     each_in,
                     blocks,
                     in.lane[side],
                     in.at,
                     in.stored,
                     g * each_in,
                     out.lane[side],
                     out.at,
                     out.stored,
                     seat[i].packed[side],
                     seat[i].listed[side]};
                taken_to[lanes++] = out.lane[side] + std::int64_t{g} * each_out;
                if (groups > 1) {
                    c.out_stored = blocks * kBlock<T>;
                    c.out = c.packed;
                    c.packed += c.to.cells() * c.out_stored;
                }
            }
        }
        if (lanes > 0) correlate(lane, lanes);
        for (int i = 0; groups > 1 && i < lanes; ++i) take_group(lane[i], each_out, taken_to[i], node.stored);
    }
    if (groups == 1 || node.stored == node.shape.c) return;
    for (int i = 0; i < seats; ++i) {
        const Lanes<T>& out = *seat[i].out;
        for (int side = 0; side < 2; ++side) {
            for (std::int64_t at = node.shape.c; out.live[side] && at < out.size(); at += node.stored) {
                std::memset(out.lane[side] + at, 0, static_cast<std::size_t>(node.stored - node.shape.c) * sizeof(T));
            }
        }
    }
}

// R output cells of one row of a depthwise 3 x 3 convolution with stride S; cell[ky][column] is where an input cell is,
// or a cell of zeros.
template <int R, int S, typename T>
FDFAST_APART void three_by_three(const T* const (*cell)[9], const T* weights, std::int32_t stored, T* to) noexcept {
    constexpr int kColumns = (R - 1) * S + 3;
    for (std::int32_t v = 0; v < stored; v += kLanes<T>) {
        Vector<T> sum[R] = {};
        each<0, 3>([&](auto ky) __attribute__((always_inline)) {
            Vector<T> in[kColumns];
            each<0, kColumns>([&](auto x) __attribute__((always_inline)) { in[x] = load<T>(cell[ky][x] + v); });
            each<0, 3>([&](auto kx) __attribute__((always_inline)) {
                const Vector<T> weight = load<T>(weights + (ky * 3 + kx) * stored + v);
                each<0, R>([&](auto r) __attribute__((always_inline)) { sum[r] += in[r * S + kx] * weight; });
            });
        });
        each<0, R>([&](auto r) __attribute__((always_inline)) { store<T>(to + r * stored + v, sum[r]); });
    }
}

// Four cells of a row at a time, which share what they read. False: not a case for it.
template <typename T>
FDFAST_INLINE bool try_three_by_three(const Node<T>& node, const Lanes<T>& in, const T* zeros, int side,
                                      const Lanes<T>& out) noexcept {
    const Window& w = node.window;
    const bool same = w.sh == 1 && w.sw == 1;
    if (node.op != Op::depthwise || w.kh != 3 || w.kw != 3 || w.dh != 1 || w.dw != 1) return false;
    if (!same && (w.sh != 2 || w.sw != 2)) return false;
    const T* cell[3][9];
    for (std::int32_t y = out.at.y0; y < out.at.y1; ++y) {
        for (std::int32_t x = out.at.x0; x < out.at.x1; x += 4) {
            const std::int32_t some = least(4, out.at.x1 - x), columns = (some - 1) * w.sw + 3;
            for (std::int32_t ky = 0; ky < 3; ++ky) {
                for (std::int32_t i = 0; i < columns; ++i) {
                    const std::int32_t iy = y * w.sh - w.top + ky, ix = x * w.sw - w.left + i;
                    cell[ky][i] = in.holds(iy, ix) ? in.cell(side, iy, ix) : zeros;
                }
            }
            each<1, 5>([&](auto r) __attribute__((always_inline)) {
                constexpr int kCells = decltype(r){};
                if (some != kCells) return;
                T* const to = out.cell(side, y, x);
                if (same) return three_by_three<kCells, 1>(cell, node.weights.get(), out.stored, to);
                three_by_three<kCells, 2>(cell, node.weights.get(), out.stored, to);
            });
        }
    }
    return true;
}

// depthwise, with weights; average, without. zeros: one cell.
template <typename T>
FDFAST_APART void channelwise(const Node<T>& node, const Lanes<T>& in, const Shape& map, const T* zeros,
                              Lanes<T>& out) noexcept {
    const Window& w = node.window;
    for (int side = 0; side < 2; ++side) {
        out.live[side] = in.live[side];
        if (!in.live[side] || try_three_by_three(node, in, zeros, side, out)) continue;
        for (std::int32_t y = out.at.y0; y < out.at.y1; ++y) {
            for (std::int32_t x = out.at.x0; x < out.at.x1; ++x) {
                std::int32_t inside = 0;
                const T* from[256];
                const T* weight[256];
                std::int32_t count = 0;
                T* to = out.cell(side, y, x);
                const auto flush = [&](bool fresh) __attribute__((always_inline)) {
                    for (std::int32_t v = 0; v < out.stored; v += kLanes<T>) {
                        Vector<T> sum = fresh ? Vector<T>{} : load<T>(to + v);
                        if (node.op == Op::depthwise) {
                            for (std::int32_t i = 0; i < count; ++i)
                                sum += load<T>(from[i] + v) * load<T>(weight[i] + v);
                        } else {
                            for (std::int32_t i = 0; i < count; ++i) sum += load<T>(from[i] + v);
                        }
                        store<T>(to + v, sum);
                    }
                    count = 0;
                };
                bool fresh = true;
                for (std::int32_t ky = 0; ky < w.kh; ++ky) {
                    const std::int32_t iy = y * w.sh - w.top + ky * w.dh;
                    if (iy < 0 || iy >= map.h) continue;
                    for (std::int32_t kx = 0; kx < w.kw; ++kx) {
                        const std::int32_t ix = x * w.sw - w.left + kx * w.dw;
                        if (ix < 0 || ix >= map.w) continue;
                        ++inside;
                        if (!in.holds(iy, ix)) continue;
                        if (count == 256) {
                            flush(fresh);
                            fresh = false;
                        }
                        from[count] = in.cell(side, iy, ix);
                        weight[count++] =
                            node.op == Op::depthwise ? node.weights.get() + (ky * w.kw + kx) * out.stored : nullptr;
                    }
                }
                flush(fresh);
                if (node.op == Op::average) {
                    const T share = T{1} / static_cast<T>(node.whole_count ? w.kh * w.kw : inside);
                    for (std::int32_t v = 0; v < out.stored; v += kLanes<T>) store<T>(to + v, load<T>(to + v) * share);
                }
            }
        }
    }
}

template <typename T>
FDFAST_INLINE void scaled(const Node<T>& node, const Lanes<T>& in, Lanes<T>& out) noexcept {
    const T* factor = node.weights.get();
    for (int side = 0; side < 2; ++side) {
        out.live[side] = in.live[side];
        if (!in.live[side]) continue;
        for (std::int64_t i = 0; i < in.size(); i += in.stored) {
            for (std::int32_t v = 0; v < in.stored; v += kLanes<T>)
                store<T>(out.lane[side] + i + v, load<T>(in.lane[side] + i + v) * load<T>(factor + v));
        }
    }
}

// out += factor * in on the window of in; the window of out holds it.
template <typename T>
FDFAST_INLINE void accumulate(const Lanes<T>& in, int side, T factor, const Lanes<T>& out) noexcept {
    for (std::int32_t y = in.at.y0; y < in.at.y1; ++y) {
        const T* p = in.cell(side, y, in.at.x0);
        T* q = out.cell(side, y, in.at.x0);
        for (std::int64_t v = 0; v < std::int64_t{in.at.w()} * in.stored; v += kLanes<T>)
            store<T>(q + v, load<T>(q + v) + load<T>(p + v) * factor);
    }
}

// Cell (y, x) of `in` becomes cell (y + dy, x + dx), `times` times along both axes; what falls off the map is dropped.
template <typename T>
FDFAST_INLINE void moved(const Node<T>& node, const Lanes<T>& in, Lanes<T>& out) noexcept {
    const Window& w = node.window;
    const bool repeats = node.op == Op::repeat;
    for (int side = 0; side < 2; ++side) {
        out.live[side] = in.live[side];
        if (!in.live[side]) continue;
        for (std::int32_t y = out.at.y0; y < out.at.y1; ++y) {
            for (std::int32_t x = out.at.x0; x < out.at.x1; ++x) {
                const std::int32_t iy = repeats ? y / w.kh : y - w.top, ix = repeats ? x / w.kw : x - w.left;
                std::memcpy(out.cell(side, y, x), in.cell(side, iy, ix),
                            static_cast<std::size_t>(out.stored) * sizeof(T));
            }
        }
    }
}

// The channels of `in` become channels first, first + 1, ... of `out`.
template <typename T>
FDFAST_INLINE void beside(const Lanes<T>& in, std::int32_t channels, int side, std::int32_t first,
                          const Lanes<T>& out) noexcept {
    for (std::int32_t y = in.at.y0; y < in.at.y1; ++y) {
        for (std::int32_t x = in.at.x0; x < in.at.x1; ++x) {
            std::memcpy(out.cell(side, y, x) + first, in.cell(side, y, x),
                        static_cast<std::size_t>(channels) * sizeof(T));
        }
    }
}

// The smallest range that holds all places which [first, last) goes to; empty if it goes nowhere.
FDFAST_INLINE void spread_over(const Spread& by, std::int32_t first, std::int32_t last, std::int32_t& low,
                               std::int32_t& high) noexcept {
    low = std::numeric_limits<std::int32_t>::max();
    high = 0;
    for (std::int32_t p = first; p < last; ++p) {
        const std::int32_t begin = by.begin[p], end = by.begin[p + 1];
        if (begin == end) continue;
        low = least(low, by.to[begin]);
        high = most(high, by.to[end - 1] + 1);
    }
}

// Every cell goes to the cells of the rows that its row goes to, and of the columns that its column does.
template <typename T>
FDFAST_INLINE void resampled(const Node<T>& node, const Lanes<T>& in, Lanes<T>& out) noexcept {
    const Spread &rows = node.rows, &columns = node.columns;
    for (int side = 0; side < 2; ++side) {
        out.live[side] = in.live[side];
        if (!in.live[side]) continue;
        clear(out, side);
        for (std::int32_t y = in.at.y0; y < in.at.y1; ++y) {
            for (std::int32_t x = in.at.x0; x < in.at.x1; ++x) {
                const T* const from = in.cell(side, y, x);
                for (std::int32_t i = rows.begin[y]; i < rows.begin[y + 1]; ++i) {
                    for (std::int32_t j = columns.begin[x]; j < columns.begin[x + 1]; ++j) {
                        const Vector<T> share = splat<T>(static_cast<T>(rows.share[i] * columns.share[j]));
                        T* const to = out.cell(side, rows.to[i], columns.to[j]);
                        for (std::int32_t v = 0; v < out.stored; v += kLanes<T>)
                            store<T>(to + v, load<T>(to + v) + share * load<T>(from + v));
                    }
                }
            }
        }
    }
}

// Cell (y, x) of `in` becomes cell (kh y, kw x), and those between are zero.
template <typename T>
FDFAST_INLINE void dilated(const Node<T>& node, const Lanes<T>& in, Lanes<T>& out) noexcept {
    for (int side = 0; side < 2; ++side) {
        out.live[side] = in.live[side];
        if (!in.live[side]) continue;
        clear(out, side);
        for (std::int32_t y = in.at.y0; y < in.at.y1; ++y) {
            for (std::int32_t x = in.at.x0; x < in.at.x1; ++x)
                std::memcpy(out.cell(side, y * node.window.kh, x * node.window.kw), in.cell(side, y, x),
                            static_cast<std::size_t>(out.stored) * sizeof(T));
        }
    }
}

// Channels left, left + 1, ... of `in`.
template <typename T>
FDFAST_INLINE void taken(const Node<T>& node, const Lanes<T>& in, Lanes<T>& out) noexcept {
    for (int side = 0; side < 2; ++side) {
        out.live[side] = in.live[side];
        if (!in.live[side]) continue;
        clear(out, side);
        for (std::int32_t y = in.at.y0; y < in.at.y1; ++y) {
            for (std::int32_t x = in.at.x0; x < in.at.x1; ++x)
                std::memcpy(out.cell(side, y, x), in.cell(side, y, x) + node.window.left,
                            static_cast<std::size_t>(node.shape.c) * sizeof(T));
        }
    }
}

// The elements of `in`, a window of `map`, where they are in a map of shape `to` with the same elements in order: on
// rows that hold them all, or on a part of one row.
template <typename T>
FDFAST_INLINE void reshaped(const Lanes<T>& in, const Shape& map, const Shape& to, Lanes<T>& out) noexcept {
    const std::int32_t row = to.w * to.c;
    const std::int32_t first = (in.at.y0 * map.w + in.at.x0) * map.c;
    const std::int32_t last = ((in.at.y1 - 1) * map.w + in.at.x1) * map.c - 1;
    const bool single = first / row == last / row;
    out.at = {first / row, last / row + 1, single ? first % row / to.c : 0, single ? last % row / to.c + 1 : to.w};
    for (int side = 0; side < 2; ++side) {
        out.live[side] = in.live[side];
        if (!in.live[side]) continue;
        clear(out, side);
        for (std::int32_t y = in.at.y0; y < in.at.y1; ++y) {
            for (std::int32_t x = in.at.x0; x < in.at.x1; ++x) {
                const T* from = in.cell(side, y, x);
                std::int32_t at = (y * map.w + x) * map.c;
                for (const std::int32_t end = at + map.c; at < end;) {
                    const std::int32_t cell = at / to.c, k = at % to.c, count = least(to.c - k, end - at);
                    std::memcpy(out.cell(side, cell / to.w, cell % to.w) + k, from,
                                static_cast<std::size_t>(count) * sizeof(T));
                    from += count;
                    at += count;
                }
            }
        }
    }
}

}  // namespace
}  // namespace fdfast
