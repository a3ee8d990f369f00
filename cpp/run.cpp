// Planning of scratch memory, choice of the instruction set, and the threads.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "parallel.hpp"
#include "walk.hpp"

namespace fdfast {
namespace {

constexpr std::int64_t kCacheBytes = 320 << 10;  // share of the second cache that pairs side by side may fill

struct Extent {
    std::int64_t h, w;
    std::int64_t cells() const { return h * w; }
};

// Rows, or columns, that a tile on [y0, y1) can reach: from scale y0 + low to scale (y1 - 1) + high.
struct Span {
    double scale = 1, low = 0, high = 0;

    Span windowed(std::int32_t k, std::int32_t stride, std::int32_t dilation, std::int32_t pad) const {
        const double spread = static_cast<double>(k - 1) * dilation;
        return {scale / stride, (low + pad - spread) / stride, (high + pad) / stride};
    }
    Span shifted(std::int32_t by) const { return {scale, low + by, high + by}; }
    Span repeated(std::int32_t k) const { return {scale * k, low * k, high * k + k - 1}; }
    // Windows that are united need not lie on top of each other, nor even side by side.
    Span united(const Span& o) const {
        constexpr double kAll = std::numeric_limits<double>::infinity();
        if (scale != o.scale) return {scale, -kAll, kAll};
        return {scale, std::min(low, o.low), std::max(high, o.high)};
    }
    // The margin is for strides whose inverse is rounded.
    std::int64_t count(std::int64_t tile, std::int32_t map) const {
        const double cells = scale * static_cast<double>(tile - 1) + (high - low) + 1 + 1e-6;
        return static_cast<std::int64_t>(std::min<double>(cells, map));
    }
};

// Largest window that a tile can make of each node.
template <typename T>
std::vector<Extent> extents(const Program<T>& program, Extent input) {
    struct Reach {
        Span y, x;
    };
    std::vector<Reach> reached;
    std::vector<Extent> out;
    for (const Node<T>& node : program.nodes) {
        Reach at;
        for (std::size_t i = 0; i < node.sources.size(); ++i) {
            const Reach& one = reached[static_cast<std::size_t>(node.sources[i])];
            at = i == 0 ? one : Reach{at.y.united(one.y), at.x.united(one.x)};
        }
        const Window& w = node.window;
        if (node.op == Op::conv || node.op == Op::depthwise || node.op == Op::average || node.op == Op::maximum) {
            at = {at.y.windowed(w.kh, w.sh, w.dh, w.top), at.x.windowed(w.kw, w.sw, w.dw, w.left)};
        } else if (node.op == Op::shift) {
            at = {at.y.shifted(w.top), at.x.shifted(w.left)};
        } else if (node.op == Op::repeat) {
            at = {at.y.repeated(w.kh), at.x.repeated(w.kw)};
        }
        reached.push_back(at);
        out.push_back({at.y.count(input.h, node.shape.h), at.x.count(input.w, node.shape.w)});
    }
    return out;
}

// Dense rows: whole maps from node `start` on, nothing before.
template <typename T>
std::vector<Extent> whole(const Program<T>& program, std::int32_t start) {
    std::vector<Extent> out;
    for (const Node<T>& node : program.nodes) {
        const bool before = static_cast<std::int32_t>(out.size()) < start;
        out.push_back(before ? Extent{0, 0} : Extent{node.shape.h, node.shape.w});
    }
    return out;
}

// Whether a result may take the place of what it is made from: register by register, and nobody reads that again.
template <typename T>
bool in_place(const Program<T>& program, const std::vector<Extent>& size, std::int32_t n) {
    const Node<T>& node = program.nodes[static_cast<std::size_t>(n)];
    if (node.op != Op::ramp && node.op != Op::smooth && node.op != Op::scale) return false;
    const auto source = static_cast<std::size_t>(node.sources[0]);
    return program.nodes[source].last_use == n && size[source].cells() == size[static_cast<std::size_t>(n)].cells();
}

// First fit: a window's place is free again after the last node that reads it.
template <typename T>
void place_all(const Program<T>& program, const std::vector<Extent>& size, Plan& plan) {
    struct Taken {
        std::int64_t begin, end;
        std::int32_t until;
    };
    std::vector<Taken> taken;
    const auto count = static_cast<std::int32_t>(program.nodes.size());
    for (std::int32_t n = 0; n < count; ++n) {
        const Node<T>& node = program.nodes[static_cast<std::size_t>(n)];
        const std::int64_t room = size[static_cast<std::size_t>(n)].cells() * node.stored;
        const std::int32_t until = n + 1 == count ? count : node.last_use;
        std::int64_t at = 0;
        if (in_place(program, size, n)) {
            at = plan.offset[static_cast<std::size_t>(node.sources[0])];
            for (Taken& t : taken) t.until = t.begin == at ? until : t.until;
        } else {
            taken.erase(std::remove_if(taken.begin(), taken.end(), [n](const Taken& t) { return t.until < n; }),
                        taken.end());
            std::sort(taken.begin(), taken.end(), [](const Taken& a, const Taken& b) { return a.begin < b.begin; });
            for (const Taken& t : taken) {
                if (at + 2 * room <= t.begin) break;
                at = std::max(at, t.end);
            }
            taken.push_back({at, at + 2 * room, until});
        }
        plan.offset.push_back(at);
        plan.room.push_back(room);
        plan.arena = std::max(plan.arena, at + 2 * room);
    }
}

template <typename T>
Plan plan_for(const Job<T>& job) {
    const Program<T>& program = *job.program;
    const Shape& input = program.nodes[0].shape;
    Extent widest{1, 1};
    if (job.rows_in == nullptr) {
        const std::int64_t row = std::int64_t{input.w} * input.c;
        std::vector<bool> seen;
        for (std::int64_t i = 0; i < job.pairs; ++i) {
            const auto tile = static_cast<std::size_t>(job.tile[i]);
            if (tile >= seen.size()) seen.resize(tile + 1);
            if (seen[tile]) continue;
            seen[tile] = true;
            const std::int64_t first = job.tiles.offsets[job.tile[i]], last = job.tiles.offsets[job.tile[i] + 1];
            std::int64_t y0 = input.h, y1 = 0, x0 = input.w, x1 = 0;
            for (std::int64_t m = first; m < last; ++m) {
                const std::int64_t y = job.tiles.members[m] / row, x = job.tiles.members[m] % row / input.c;
                y0 = std::min(y0, y), y1 = std::max(y1, y + 1), x0 = std::min(x0, x), x1 = std::max(x1, x + 1);
            }
            widest = {std::max(widest.h, y1 - y0), std::max(widest.w, x1 - x0)};
        }
    }
    const std::vector<Extent> size = job.rows_in != nullptr ? whole(program, job.start) : extents(program, widest);
    Plan plan;
    place_all(program, size, plan);
    std::int64_t vector = 8;
    for (std::size_t n = 0; n < program.nodes.size(); ++n) {
        const Node<T>& node = program.nodes[n];
        vector = std::max<std::int64_t>(vector, node.shape.c);
        plan.widest = std::max<std::int64_t>(plan.widest, node.stored);
        if (node.op != Op::conv) continue;
        const auto source = static_cast<std::size_t>(node.sources[0]);
        const Window& w = node.window;
        const std::int64_t channels = program.nodes[source].stored;
        const std::int64_t swept =
            size[source].h * channels * ((size[n].w - 1) * w.sw + std::int64_t{w.kw - 1} * w.dw + 1);
        const std::int64_t gathered = size[source].cells() * channels;
        const std::int64_t grouped = node.groups > 1 ? size[n].cells() * node.stored + size[n].cells() * kBlock<T> : 0;
        const std::int64_t shared = node.whole ? program.nodes[source].shape.size() : 0;
        plan.packed = std::max(plan.packed, std::max({swept, gathered, shared}) + grouped + 64);
        plan.listed = std::max(plan.listed, std::max({2 * channels, gathered, shared}) + 64);
    }
    plan.packed = (plan.packed + kBlock<T> - 1) / kBlock<T> * kBlock<T>;
    plan.tail = 4 * ((vector + 7) / 8 * 8);
    plan.lanes = static_cast<std::int64_t>(program.nodes.size()) * kLaneDoubles;
    const std::int64_t bytes = (plan.arena + 2 * plan.packed) * static_cast<std::int64_t>(sizeof(T));
    const bool heavy = std::any_of(program.nodes.begin(), program.nodes.end(),
                                   [](const Node<T>& n) { return n.whole && n.size > kHeavy; });
    const std::int64_t fit = heavy ? kTogether : std::max<std::int64_t>(1, kCacheBytes / bytes);
    plan.together = static_cast<int>(std::min<std::int64_t>(fit, kTogether));
    return plan;
}

template <typename T>
using Walk = void (*)(const Job<T>&, const Plan&, const Scratch<T>&, std::int64_t, std::int64_t) noexcept;

// That of the best instruction set which this processor has, or of the one that FDFAST_ISA names, as tests do.
template <typename T>
Walk<T> choose_walk() {
    struct Choice {
        const char* name;
        bool runs;
        Walk<T> walk;
    };
    const Choice choices[] = {
#ifdef FDFAST_X86_64
        {"x86_64_v4",
         __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512cd"),
         x86_64_v4::walk},
        {"x86_64_v3", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"),
         x86_64_v3::walk},
#endif
        {"plain", true, plain::walk}};
    const char* const asked = std::getenv("FDFAST_ISA");
    std::string there;
    for (const Choice& one : choices) {
        if (!one.runs) continue;
        if (asked == nullptr || std::strcmp(asked, one.name) == 0) return one.walk;
        there += std::string(there.empty() ? "" : ", ") + one.name;
    }
    throw std::invalid_argument(
        "FDFAST_ISA is '" + std::string(asked) +
        "', which this processor or this build does not have; unset it, or choose from: " + there);
}

}  // namespace

template <typename T>
bool run(const Job<T>& job) {
    using Clock = std::chrono::steady_clock;
    static const Walk<T> walk = choose_walk<T>();
    const Plan plan = plan_for(job);
    // Small pieces, so that threads end together; large enough for the counter not to show. Pairs whose windows leave
    // no room for another one take far longer than a thread needs to start.
    const bool large = plan.together == 1;
    const std::int64_t grain = large ? 1 : std::max(4, plan.together);
    const std::int64_t worth = large ? job.pairs : job.pairs / (4 * grain);
    const int threads = static_cast<int>(std::max<std::int64_t>(1, std::min<std::int64_t>(job.threads, worth)));
    std::vector<Scratch<T>> scratch;
    for (int i = 0; i < threads; ++i) {
        scratch.push_back({make_buffer<T>(plan.together * plan.arena), make_buffer<T>(plan.together * 2 * plan.packed),
                           make_buffer<std::int32_t>(plan.together * 2 * plan.listed), make_buffer<double>(plan.tail),
                           make_buffer<double>(plan.together * plan.lanes), make_buffer<T>(plan.widest)});
    }
    auto asked = Clock::now();
    return parallel_for(job.pairs, grain, threads, [&](int worker, std::int64_t first, std::int64_t last) {
        walk(job, plan, scratch[static_cast<std::size_t>(worker)], first, last);
        if (worker == 0 && job.interrupted != nullptr && Clock::now() - asked > std::chrono::milliseconds(50)) {
            asked = Clock::now();
            return !job.interrupted(job.context);
        }
        return true;
    });
}

template bool run(const Job<float>&);
template bool run(const Job<double>&);

}  // namespace fdfast
