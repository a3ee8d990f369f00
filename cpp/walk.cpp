// Compiled once for each instruction set; FDFAST_ISA names the namespace.
#include "walk.hpp"

#include "branches.hpp"
#include "curves.hpp"
#include "linear.hpp"

#ifndef FDFAST_ISA
#define FDFAST_ISA plain
#endif

namespace fdfast {
namespace {

// What a pair asks: displacement a in the first lane, and b as the rest after r times a.
struct Asked {
    double a, b, r;
};

// r is a power of two, so that r d is exact; else the lanes are separate.
FDFAST_INLINE Asked asked(const double* step) noexcept {
    Asked q{step[0], step[1], 0};
    constexpr double kRatio[] = {-1, 2, 0.5, -2, -0.5, 1};
    for (const double r : kRatio) {
        if (q.a != 0 && q.a * r == q.b) {
            q.r = r;
            break;
        }
    }
    return q;
}

// The walk of one pair.
template <typename T>
struct Walker {
    const Job<T>& job;
    const Plan& plan;
    const Stage& stage;
    const Scratch<T>& scratch;
    T *arena, *keeps;
    Lanes<T>* lanes;
    std::int64_t pair, image;
    Asked ask;
    T r;

    const Shape& shape_of(std::int32_t n) const noexcept {
        return job.program->nodes[static_cast<std::size_t>(n)].shape;
    }

    FDFAST_INLINE const T* base_of(std::size_t n) const noexcept {
        return job.prepared->values[n].get() + image * job.prepared->stride[n];
    }

    FDFAST_INLINE void place(std::size_t n, Lanes<T>& out) const noexcept {
        out.stored = job.program->nodes[n].stored;
        out.lane[0] = (plan.kept[n] ? keeps : arena) + plan.offset[n];
        out.lane[1] = out.lane[0] + plan.room[n];
        out.live[0] = out.live[1] = false;
    }

    FDFAST_INLINE void start(const Node<T>& node, Lanes<T>& out) const noexcept {
        const double rest = ask.r == 0 ? ask.b : 0.0;
        out.live[0] = ask.a != 0;
        out.live[1] = rest != 0;
        if (job.rows_in != nullptr) {
            take_rows(node, out);
            return;
        }
        const std::int64_t tile = job.tile[pair];
        const std::int64_t* const begin = job.tiles.members + job.tiles.offsets[tile];
        const std::int64_t* const end = job.tiles.members + job.tiles.offsets[tile + 1];
        const double* const weights =
            job.tiles.weights == nullptr ? nullptr : job.tiles.weights + job.tiles.offsets[tile];
        // A map has fewer than 2^30 elements, and 32 bits are divided faster.
        const auto row = static_cast<std::uint32_t>(node.shape.w * node.shape.c);
        const auto channels = static_cast<std::uint32_t>(node.shape.c);
        const auto each_member = [&](const auto& f) __attribute__((always_inline)) {
            for (const std::int64_t* m = begin; m != end; ++m) {
                const auto at = static_cast<std::uint32_t>(*m);
                const std::uint32_t y = at / row, along = at - y * row, x = along / channels;
                f(static_cast<std::int32_t>(y), static_cast<std::int32_t>(x), along - x * channels, m - begin);
            }
        };
        out.at = {node.shape.h, 0, node.shape.w, 0};
        each_member([&](std::int32_t y, std::int32_t x, std::uint32_t, std::ptrdiff_t) __attribute__((always_inline)) {
            out.at = {least(out.at.y0, y), most(out.at.y1, y + 1), least(out.at.x0, x), most(out.at.x1, x + 1)};
        });
        for (int side = 0; side < 2; ++side) {
            if (!out.live[side]) continue;
            clear(out, side);
            const double d = side == 0 ? ask.a : rest;
            each_member([&](std::int32_t y, std::int32_t x, std::uint32_t k, std::ptrdiff_t i)
                            __attribute__((always_inline)) {
                                out.cell(side, y, x)[k] = static_cast<T>(weights == nullptr ? d : d * weights[i]);
                            });
        }
    }

    FDFAST_INLINE void take_rows(const Node<T>& node, Lanes<T>& out) const noexcept {
        const std::int64_t size = node.shape.size(), c = node.shape.c;
        const T* a = job.rows_in + 2 * pair * size;
        const T* b = a + size;
        out.at = {0, node.shape.h, 0, node.shape.w};
        clear(out, 0);
        clear(out, 1);
        bool rest = false;
        for (std::int64_t i = 0; i < size; ++i) {
            const std::int64_t at = i / c * out.stored + i % c;
            out.lane[0][at] = a[i];
            out.lane[1][at] = b[i] - r * a[i];
            rest |= out.lane[1][at] != T{0};
        }
        out.live[0] = true;
        out.live[1] = rest;
    }

    FDFAST_INLINE void step(std::size_t n) const noexcept {
        const Node<T>& node = job.program->nodes[n];
        Lanes<T>& out = lanes[n];
        const Lanes<T>& in = lanes[node.sources[0]];
        const Shape& map = shape_of(node.sources[0]);
        Events<T> events;
        switch (node.op) {
            case Op::depthwise:
            case Op::average:
            case Op::maximum:
                if (in.dead()) return;
                out.at = reached(in.at, node.window, node.shape);
                if (out.at.empty()) return;
                if (node.op == Op::maximum) {
                    out.live[0] = true;
                    largest<T>(node, in, base_of(n), scratch.zeros.get(), r, out, events);
                } else {
                    channelwise(node, in, map, scratch.zeros.get(), out);
                }
                break;
            case Op::ramp: {
                if (in.dead()) return;
                out.at = in.at;
                out.live[0] = true;
                const std::int64_t plane = std::int64_t{node.shape.h} * node.shape.w * node.stored;
                const bool plain = node.slope == 0 && !(node.cap < std::numeric_limits<double>::infinity());
                if (plain) {
                    ramped<T, true>(node, in, base_of(n), plane, r, out, events);
                } else {
                    ramped<T, false>(node, in, base_of(n), plane, r, out, events);
                }
                break;
            }
            case Op::smooth:
                bend(node, in, base_of(n), out, events);
                break;
            case Op::scale:
                out.at = in.at;
                scaled(node, in, out);
                break;
            case Op::add:
                add(node, out);
                break;
            case Op::multiply:
                multiply(node, base_of(n), out);
                break;
            case Op::concat:
                join(node, out);
                break;
            case Op::shift:
                if (in.dead()) return;
                out.at = {most(0, in.at.y0 + node.window.top), least(node.shape.h, in.at.y1 + node.window.top),
                          most(0, in.at.x0 + node.window.left), least(node.shape.w, in.at.x1 + node.window.left)};
                if (!out.at.empty()) moved(node, in, out);
                break;
            case Op::hold:
                if (job.held) return;
                [[fallthrough]];
            case Op::repeat:
                if (in.dead()) return;
                out.at = {in.at.y0 * node.window.kh, in.at.y1 * node.window.kh, in.at.x0 * node.window.kw,
                          in.at.x1 * node.window.kw};
                moved(node, in, out);
                break;
            case Op::resample:
                if (in.dead()) return;
                spread_over(node.rows, in.at.y0, in.at.y1, out.at.y0, out.at.y1);
                spread_over(node.columns, in.at.x0, in.at.x1, out.at.x0, out.at.x1);
                if (!out.at.empty()) resampled(node, in, out);
                break;
            case Op::dilate:
                if (in.dead()) return;
                out.at = {in.at.y0 * node.window.kh, (in.at.y1 - 1) * node.window.kh + 1, in.at.x0 * node.window.kw,
                          (in.at.x1 - 1) * node.window.kw + 1};
                dilated(node, in, out);
                break;
            case Op::part:
                if (in.dead()) return;
                out.at = in.at;
                taken(node, in, out);
                break;
            case Op::reshape:
                if (in.dead()) return;
                reshaped(in, map, node.shape, out);
                break;
            case Op::softmax:
                soften(node, in, n, out);
                break;
            case Op::cross_entropy:
            case Op::squared_error:
                lose(node, n);
                break;
            case Op::input:
            case Op::conv:
                break;
        }
        std::int32_t &tie = job.tie[pair], &crossed = job.crossed[pair];
        if (tie < 0 && any<T>(events.tie)) tie = static_cast<std::int32_t>(n);
        if (crossed < 0 && any<T>(events.crossed)) crossed = static_cast<std::int32_t>(n);
    }

    FDFAST_INLINE void bend(const Node<T>& node, const Lanes<T>& in, const T* base, Lanes<T>& out,
                            Events<T>& events) const noexcept {
        if (in.dead()) return;
        out.at = in.at;
        out.live[0] = true;
        const std::int64_t plane = std::int64_t{node.shape.h} * node.shape.w * node.stored;
        const std::int64_t wide = std::int64_t{in.at.w()} * in.stored;
        const bool kinked = node.function == Smooth::elu && node.alpha != 1;
        Mask<T> left{};
        for (std::int32_t y = in.at.y0; y < in.at.y1; ++y) {
            const T* q = base + (std::int64_t{y} * node.shape.w + in.at.x0) * in.stored;
            const std::int64_t row = std::int64_t{y - in.at.y0} * wide;
            for (std::int64_t v = 0; v < wide; v += kLanes<T>) {
                const Vector<T> a = in.live[0] ? load<T>(in.lane[0] + row + v) : Vector<T>{};
                Vector<T> b = a * r;
                if (in.live[1]) b += load<T>(in.lane[1] + row + v);
                const Vector<T> fa = smooth<T>(node, q + v, plane, a), fs = smooth<T>(node, q + v, plane, b) - fa * r;
                left |= fs != T{0};
                store<T>(out.lane[0] + row + v, fa);
                store<T>(out.lane[1] + row + v, fs);
                if (kinked) {
                    const Vector<T> z = load<T>(q + v);
                    const Mask<T> tie = (z == T{0}) & ((a != T{0}) | (b != T{0}));
                    events.tie |= tie;
                    events.crossed |= (((z > T{0}) != (z + a > T{0})) | ((z > T{0}) != (z + b > T{0}))) & ~tie;
                }
            }
        }
        out.live[1] = any<T>(left);
    }

    // The smallest window that holds those of all sources.
    FDFAST_INLINE bool unite(const Node<T>& node, Lanes<T>& out) const noexcept {
        bool first = true;
        for (const std::int32_t s : node.sources) {
            const Lanes<T>& in = lanes[s];
            if (in.dead()) continue;
            if (first) {
                out.at = in.at;
            } else {
                out.at = {least(out.at.y0, in.at.y0), most(out.at.y1, in.at.y1), least(out.at.x0, in.at.x0),
                          most(out.at.x1, in.at.x1)};
            }
            first = false;
        }
        return !first;
    }

    FDFAST_INLINE void add(const Node<T>& node, Lanes<T>& out) const noexcept {
        if (!unite(node, out)) return;
        for (int side = 0; side < 2; ++side) {
            for (std::size_t i = 0; i < node.sources.size(); ++i) {
                const Lanes<T>& in = lanes[node.sources[i]];
                if (!in.live[side]) continue;
                if (!out.live[side]) clear(out, side);
                out.live[side] = true;
                accumulate(in, side, static_cast<T>(node.coefficients[i]), out);
            }
        }
    }

    FDFAST_INLINE void join(const Node<T>& node, Lanes<T>& out) const noexcept {
        if (!unite(node, out)) return;
        for (int side = 0; side < 2; ++side) {
            std::int32_t first = 0;
            for (const std::int32_t s : node.sources) {
                const std::int32_t channels = shape_of(s).c;
                if (lanes[s].live[side]) {
                    if (!out.live[side]) clear(out, side);
                    out.live[side] = true;
                    beside(lanes[s], channels, side, first, out);
                }
                first += channels;
            }
        }
    }

    // One lane of a source on one register, zero outside of its window.
    FDFAST_INLINE void both(const Lanes<T>& in, std::int32_t y, std::int32_t x, std::int32_t v, Vector<T>& a,
                            Vector<T>& b) const noexcept {
        a = b = Vector<T>{};
        if (in.dead() || !in.holds(y, x)) return;
        if (in.live[0]) a = load<T>(in.cell(0, y, x) + v);
        b = a * r;
        if (in.live[1]) b += load<T>(in.cell(1, y, x) + v);
    }

    // p q moves by p dq + q dp + dp dq.
    FDFAST_INLINE void multiply(const Node<T>& node, const T* base, Lanes<T>& out) const noexcept {
        if (!unite(node, out)) return;
        out.live[0] = true;
        const Lanes<T>&first = lanes[node.sources[0]], &second = lanes[node.sources[1]];
        const std::int64_t plane = std::int64_t{node.shape.h} * node.shape.w * node.stored;
        Mask<T> left{};
        for (std::int32_t y = out.at.y0; y < out.at.y1; ++y) {
            for (std::int32_t x = out.at.x0; x < out.at.x1; ++x) {
                const T* z = base + (std::int64_t{y} * node.shape.w + x) * node.stored;
                for (std::int32_t v = 0; v < node.stored; v += kLanes<T>) {
                    Vector<T> pa, pb, qa, qb;
                    both(first, y, x, v, pa, pb);
                    both(second, y, x, v, qa, qb);
                    const Vector<T> p = load<T>(z + v), q = load<T>(z + v + plane);
                    const Vector<T> fa = p * qa + q * pa + pa * qa;
                    const Vector<T> fs = p * qb + q * pb + pb * qb - fa * r;
                    left |= fs != T{0};
                    store<T>(out.cell(0, y, x) + v, fa);
                    store<T>(out.cell(1, y, x) + v, fs);
                }
            }
        }
        out.live[1] = any<T>(left);
    }

    // Both displacements of a vector, in double and padded with zeros.
    FDFAST_INLINE void widen(const Lanes<T>& in, std::int32_t count, std::int64_t room, double* a,
                             double* b) const noexcept {
        for (std::int64_t k = 0; k < room; ++k) {
            const bool inside = k < count;
            a[k] = inside && in.live[0] ? static_cast<double>(in.lane[0][k]) : 0.0;
            b[k] = a[k] * static_cast<double>(r) + (inside && in.live[1] ? static_cast<double>(in.lane[1][k]) : 0.0);
        }
    }

    // p (e - S) / (1 + S), e = expm1(d), S = sum p e
    FDFAST_INLINE void soften(const Node<T>& node, const Lanes<T>& in, std::size_t n, Lanes<T>& out) const noexcept {
        if (in.dead()) return;
        out.at = {0, 1, 0, 1};
        out.live[0] = true;
        const std::int32_t count = node.shape.c;
        const std::int64_t room = plan.tail / 4;
        double* a = scratch.tail.get();
        double *b = a + room, *e = b + room;
        widen(in, count, room, a, b);
        const double* p = job.prepared->tail[n].get() + image * room_of(count);
        for (int side = 0; side < 2; ++side) {
            double* const d = side == 0 ? a : b;
            expm1_of(d, room_of(count), e);
            const double s = sum_of(p, e, room_of(count));
            const bool far = turned(s);
            const double log_s = far ? log_sum(p, d, count) : 0.0;
            double others = 0;
            std::int64_t sure = -1;
            for (std::int64_t k = 0; k < count; ++k) {
                d[k] = far ? p[k] * expm1(d[k] - log_s) : p[k] * (e[k] - s) / (1 + s);
                if (p[k] > 0.5) {
                    sure = k;
                } else {
                    others += d[k];
                }
            }
            // Near p = 1 the formula cancels, but what one gains the others lose.
            if (sure >= 0) d[sure] = -others;
        }
        bool rest = false;
        for (std::int64_t k = 0; k < out.stored; ++k) {
            const double fs = k < count ? b[k] - static_cast<double>(r) * a[k] : 0.0;
            out.lane[0][k] = k < count ? static_cast<T>(a[k]) : T{0};
            out.lane[1][k] = static_cast<T>(fs);
            rest |= out.lane[1][k] != T{0};
        }
        out.live[1] = rest;
    }

    static std::int64_t room_of(std::int64_t count) noexcept { return (count + 7) / 8 * 8; }

    FDFAST_INLINE void lose(const Node<T>& node, std::size_t n) const noexcept {
        double* const delta = job.delta + 2 * pair;
        const Lanes<T>& in = lanes[node.sources[0]];
        delta[0] = delta[1] = 0;
        if (in.dead()) return;
        const std::int32_t count = shape_of(node.sources[0]).c;
        const std::int64_t room = room_of(count);
        double* a = scratch.tail.get();
        double *b = a + room, *u = b + room, *e = u + room;
        widen(in, count, room, a, b);
        const double* p = job.prepared->tail[n].get() + image * 2 * room;
        const double* y = p + room;
        for (int side = 0; side < 2; ++side) {
            const double* d = side == 0 ? a : b;
            if (node.op == Op::cross_entropy) {
                delta[side] = cross_entropy(p, y, d, count, room, u, e);
            } else {
                double sum = 0;  // (z + d - y)^2 - (z - y)^2, p holds z - y
                for (std::int64_t k = 0; k < count; ++k) sum += d[k] * (2 * p[k] + d[k]);
                delta[side] = sum / count;
            }
        }
    }

    FDFAST_INLINE void give_rows(const Lanes<T>& in, const Shape& map) const noexcept {
        const std::int64_t size = map.size();
        T* a = job.rows_out + 2 * pair * size;
        T* b = a + size;
        std::memset(a, 0, static_cast<std::size_t>(2 * size) * sizeof(T));
        if (in.dead()) return;
        for (std::int32_t y = in.at.y0; y < in.at.y1; ++y) {
            for (std::int32_t x = in.at.x0; x < in.at.x1; ++x) {
                const std::int64_t to = (std::int64_t{y} * map.w + x) * map.c;
                for (std::int64_t k = 0; k < map.c; ++k) {
                    const T first = in.live[0] ? in.cell(0, y, x)[k] : T{0};
                    a[to + k] = first;
                    b[to + k] = first * r + (in.live[1] ? in.cell(1, y, x)[k] : T{0});
                }
            }
        }
    }

    // Whether a convolution is to be done here.
    FDFAST_INLINE bool seated(const Node<T>& node, Lanes<T>& out, int place, Seat<T>& seat) const noexcept {
        const Lanes<T>& in = lanes[node.sources[0]];
        if (in.dead()) return false;
        out.at = reached(in.at, node.window, node.shape);
        if (out.at.empty()) return false;
        seat.in = &in;
        seat.out = &out;
        for (int side = 0; side < 2; ++side) {
            seat.packed[side] = scratch.packed.get() + (2 * place + side) * stage.packed;
            seat.listed[side] = scratch.listed.get() + (2 * place + side) * stage.listed;
        }
        return true;
    }
};

// Pairs first + begin, ..., first + end - 1 through one stage, side by side: node after node, so that they share the
// weights in the cache.
template <typename T>
FDFAST_INLINE void walk_stage(const Job<T>& job, const Plan& plan, const Stage& stage, const Scratch<T>& scratch,
                              std::int64_t first, int begin, int end) noexcept {
    const Program<T>& program = *job.program;
    const std::size_t count = program.nodes.size();
    Lanes<T>* const lanes = reinterpret_cast<Lanes<T>*>(scratch.lanes.get());
    Asked ask[kTogether];
    for (int i = begin; i < end; ++i) ask[i - begin] = asked(job.step + 2 * (first + i));
    const auto walker = [&](int i) __attribute__((always_inline)) {
        const std::int64_t pair = first + i;
        const Asked& q = ask[i - begin];
        return Walker<T>{job,
                         plan,
                         stage,
                         scratch,
                         scratch.arena.get() + (i - begin) * stage.arena,
                         scratch.keeps.get() + i * plan.keeps,
                         lanes + i * static_cast<std::int64_t>(count),
                         pair,
                         job.image[pair],
                         q,
                         static_cast<T>(q.r)};
    };
    for (std::int32_t at = most(stage.first, job.start); at < stage.last; ++at) {
        const auto n = static_cast<std::size_t>(at);
        const Node<T>& node = program.nodes[n];
        Seat<T> seat[kTogether];
        int seats = 0;
        for (int i = begin; i < end; ++i) {
            const Walker<T> w = walker(i);
            w.place(n, w.lanes[n]);
            if (at == job.start) {
                w.start(node, w.lanes[n]);
            } else if (node.op == Op::conv) {
                seats += w.seated(node, w.lanes[n], i - begin, seat[seats]);
            } else {
                w.step(n);
            }
        }
        if (seats > 0) convolve(node, program.nodes[static_cast<std::size_t>(node.sources[0])].shape.c, seat, seats);
    }
    for (int i = begin; job.rows_out != nullptr && stage.last == static_cast<std::int32_t>(count) && i < end; ++i) {
        const Walker<T> w = walker(i);
        w.give_rows(w.lanes[count - 1], program.nodes[count - 1].shape);
    }
}

template <typename T>
FDFAST_INLINE void walk_all(const Job<T>& job, const Plan& plan, const Scratch<T>& scratch, std::int64_t first,
                            std::int64_t last) noexcept {
    static_assert(sizeof(Lanes<T>) <= kLaneDoubles * sizeof(double));
    for (std::int64_t at = first; at < last; at += plan.pairs) {
        const int pairs = static_cast<int>(last - at < plan.pairs ? last - at : plan.pairs);
        for (std::int64_t i = at; i < at + pairs; ++i) job.tie[i] = job.crossed[i] = -1;
        for (const Stage& stage : plan.stages) {
            for (int i = 0; i < pairs; i += stage.together)
                walk_stage(job, plan, stage, scratch, at, i, least(pairs, i + stage.together));
        }
    }
}

}  // namespace

namespace FDFAST_ISA {

void walk(const Job<float>& job, const Plan& plan, const Scratch<float>& scratch, std::int64_t first,
          std::int64_t last) noexcept {
    walk_all(job, plan, scratch, first, last);
}

void walk(const Job<double>& job, const Plan& plan, const Scratch<double>& scratch, std::int64_t first,
          std::int64_t last) noexcept {
    walk_all(job, plan, scratch, first, last);
}

}  // namespace FDFAST_ISA
}  // namespace fdfast
