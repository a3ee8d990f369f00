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
// Cells that a weight should serve once it has been fetched: below that, large layers wait for memory.
constexpr std::int64_t kServed = 64;

struct Extent {
    std::int64_t h, w;
    std::int64_t cells() const { return h * w; }
};

// Rows, or columns, that a tile on [y0, y1) can reach: from scale y0 + low to scale (y1 - 1) + high.
struct Span {
    static constexpr double kAll = std::numeric_limits<double>::infinity();
    double scale = 1, low = 0, high = 0;

    Span windowed(std::int32_t k, std::int32_t stride, std::int32_t dilation, std::int32_t pad) const {
        const double spread = static_cast<double>(k - 1) * dilation;
        return {scale / stride, (low + pad - spread) / stride, (high + pad) / stride};
    }
    Span shifted(std::int32_t by) const { return {scale, low + by, high + by}; }
    Span repeated(std::int32_t k) const { return {scale * k, low * k, high * k + k - 1}; }
    Span spread(const Spread& by, std::int32_t to) const {
        const auto from = static_cast<std::int32_t>(by.begin.size()) - 1;
        const double ratio = static_cast<double>(to) / from;
        double first = to, last = -static_cast<double>(to);
        for (std::int32_t p = 0; p < from; ++p) {
            const auto begin = static_cast<std::size_t>(by.begin[static_cast<std::size_t>(p)]);
            const auto end = static_cast<std::size_t>(by.begin[static_cast<std::size_t>(p) + 1]);
            if (begin == end) continue;
            first = std::min(first, by.to[begin] - ratio * p);
            last = std::max(last, by.to[end - 1] - ratio * p);
        }
        return {scale * ratio, ratio * low + first, ratio * high + std::max(first, last)};
    }
    // Of what may lie anywhere.
    Span all() const { return {scale, -kAll, kAll}; }
    // Of what stays at rest.
    static Span none() { return {1, kAll, -kAll}; }
    bool empty() const { return low > high; }
    // Windows that are united need not lie on top of each other, nor even side by side.
    Span united(const Span& o) const {
        if (empty() || o.empty()) return empty() ? o : *this;
        if (scale != o.scale) return all();
        return {scale, std::min(low, o.low), std::max(high, o.high)};
    }
    // The margin is for strides whose inverse is rounded.
    std::int64_t count(std::int64_t tile, std::int32_t map) const {
        if (empty()) return 0;
        const double cells = scale * static_cast<double>(tile - 1) + (high - low) + 1 + 1e-6;
        return static_cast<std::int64_t>(std::min<double>(cells, map));
    }
};

// Largest window that a tile can make of each node.
template <typename T>
std::vector<Extent> extents(const Program<T>& program, Extent input, bool held) {
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
        } else if (node.op == Op::resample) {
            at = {at.y.spread(node.rows, node.shape.h), at.x.spread(node.columns, node.shape.w)};
        } else if (node.op == Op::reshape) {
            at = {at.y.empty() ? at.y : at.y.all(), at.x.empty() ? at.x : at.x.all()};
        } else if (node.op == Op::hold && held) {
            at = {Span::none(), Span::none()};
        } else if (node.op == Op::repeat || node.op == Op::dilate) {
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

// Regions of scratch that are free again after the last node that reads them.
class Places {
  public:
    // Places `room` elements at node n, until after node `until`: first fit.
    std::int64_t place(std::int64_t room, std::int32_t n, std::int32_t until) {
        taken_.erase(std::remove_if(taken_.begin(), taken_.end(), [n](const Taken& t) { return t.until < n; }),
                     taken_.end());
        std::sort(taken_.begin(), taken_.end(), [](const Taken& a, const Taken& b) { return a.begin < b.begin; });
        std::int64_t at = 0;
        for (const Taken& t : taken_) {
            if (at + room <= t.begin) break;
            at = std::max(at, t.end);
        }
        taken_.push_back({at, at + room, until});
        most_ = std::max(most_, at + room);
        return at;
    }

    // What begins at `at` is read until after node `until`.
    void extend(std::int64_t at, std::int32_t until) {
        for (Taken& t : taken_) t.until = t.begin == at ? std::max(t.until, until) : t.until;
    }

    std::int64_t most() const { return most_; }

  private:
    struct Taken {
        std::int64_t begin, end;
        std::int32_t until;
    };
    std::vector<Taken> taken_;
    std::int64_t most_ = 0;
};

// What a convolution packs and lists of one lane.
template <typename T>
void pack_for(const Program<T>& program, const std::vector<Extent>& size, std::size_t n, std::int64_t& packed,
              std::int64_t& listed) {
    const Node<T>& node = program.nodes[n];
    const auto source = static_cast<std::size_t>(node.sources[0]);
    const Window& w = node.window;
    const std::int64_t channels = program.nodes[source].stored;
    const std::int64_t swept = size[source].h * channels * ((size[n].w - 1) * w.sw + std::int64_t{w.kw - 1} * w.dw + 1);
    const std::int64_t gathered = size[source].cells() * channels;
    const std::int64_t grouped = node.groups > 1 ? size[n].cells() * node.stored + size[n].cells() * kBlock<T> : 0;
    const std::int64_t shared = node.whole ? program.nodes[source].shape.size() : 0;
    packed = (std::max({swept, gathered, shared}) + grouped + 64 + kBlock<T> - 1) / kBlock<T> * kBlock<T>;
    listed = std::max({2 * channels, gathered, shared}) + 64;
}

// Pairs side by side, by node: as many as fit into the cache with all that is alive then, or as it takes for every
// weight to serve `kServed` cells; never fewer than in a node before.
template <typename T>
std::vector<int> abreast(const Program<T>& program, const std::vector<Extent>& size) {
    const auto count = static_cast<std::int32_t>(program.nodes.size());
    std::vector<int> found;
    std::int64_t alive = 0;
    std::vector<std::int64_t> ends(program.nodes.size(), 0);  // elements that are free after a node
    for (std::int32_t n = 0; n < count; ++n) {
        const auto at = static_cast<std::size_t>(n);
        const Node<T>& node = program.nodes[at];
        const std::int64_t room = size[at].cells() * node.stored;
        std::int64_t packed = 0, listed = 0;
        if (node.op == Op::conv) pack_for(program, size, at, packed, listed);
        ends[static_cast<std::size_t>(node.last_use)] += room;
        if (in_place(program, size, n)) {
            ends[at] -= room;  // of the source, which lives on in the result
        } else {
            alive += room;
        }
        const std::int64_t bytes = (alive + packed) * static_cast<std::int64_t>(sizeof(T));
        const std::int64_t cells = std::max<std::int64_t>(1, size[at].cells());
        const std::int64_t some =
            std::max(kCacheBytes / std::max<std::int64_t>(1, bytes), (kServed + cells - 1) / cells);
        found.push_back(static_cast<int>(std::clamp<std::int64_t>(some, 1, kTogether)));
        alive -= ends[at];
    }
    for (std::size_t n = found.size(); n-- > 1;) found[n - 1] = std::min(found[n - 1], found[n]);
    return found;
}

// Stages, and in each a place for every node's window. A stage ends where twice as many pairs may go side by side.
template <typename T>
void lay_out(const Program<T>& program, const std::vector<Extent>& size, int pairs, Plan& plan) {
    const auto count = static_cast<std::int32_t>(program.nodes.size());
    const std::vector<int> side_by_side = abreast(program, size);
    Places kept, here;
    std::vector<std::int32_t> stage_of;
    for (std::int32_t n = 0; n < count; ++n) {
        const int some = std::min(pairs, side_by_side[static_cast<std::size_t>(n)]);
        if (plan.stages.empty() || some >= 2 * plan.stages.back().together) {
            plan.stages.push_back({n, n, some, 0, 0, 0});
        }
        plan.stages.back().last = n + 1;
        stage_of.push_back(static_cast<std::int32_t>(plan.stages.size()) - 1);
    }
    for (std::int32_t n = 0; n < count; ++n) {
        const auto at = static_cast<std::size_t>(n);
        const Node<T>& node = program.nodes[at];
        Stage& stage = plan.stages[static_cast<std::size_t>(stage_of[at])];
        if (n == stage.first) here = Places{};
        const std::int64_t room = size[at].cells() * node.stored;
        // The last node's window is read after all.
        const bool later = n + 1 == count || stage_of[static_cast<std::size_t>(node.last_use)] != stage_of[at];
        const std::int32_t until = n + 1 == count ? count : node.last_use;
        const auto source = static_cast<std::size_t>(node.sources.empty() ? 0 : node.sources[0]);
        if (in_place(program, size, n) && (plan.kept[source] || !later)) {
            plan.kept.push_back(plan.kept[source]);
            plan.offset.push_back(plan.offset[source]);
            (plan.kept[source] ? kept : here).extend(plan.offset[source], until);
        } else {
            plan.kept.push_back(later);
            plan.offset.push_back((later ? kept : here).place(2 * room, n, until));
        }
        plan.room.push_back(room);
        stage.arena = std::max(stage.arena, here.most());
        if (node.op == Op::conv) {
            std::int64_t packed = 0, listed = 0;
            pack_for(program, size, at, packed, listed);
            stage.packed = std::max(stage.packed, packed);
            stage.listed = std::max(stage.listed, listed);
        }
    }
    plan.keeps = kept.most();
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
    const std::vector<Extent> size =
        job.rows_in != nullptr ? whole(program, job.start) : extents(program, widest, job.held);
    Plan plan;
    // Small pieces, so that threads end together; large enough for the counter not to show.
    const std::int64_t each = (job.pairs + job.threads - 1) / std::max(1, job.threads);
    const std::int64_t pieces = (each + kTogether - 1) / kTogether;
    lay_out(program, size, pieces == 0 ? 1 : static_cast<int>((each + pieces - 1) / pieces), plan);
    plan.pairs = plan.stages.back().together;
    std::int64_t vector = 8;
    for (const Node<T>& node : program.nodes) {
        vector = std::max<std::int64_t>(vector, node.shape.c);
        plan.widest = std::max<std::int64_t>(plan.widest, node.stored);
    }
    plan.tail = 4 * ((vector + 7) / 8 * 8);
    plan.lanes = static_cast<std::int64_t>(program.nodes.size()) * kLaneDoubles;
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
    // Pairs whose windows leave no room for another one take far longer than a thread needs to start.
    const bool large = plan.stages.front().together == 1;
    const std::int64_t grain = large ? plan.pairs : std::max(4, plan.pairs);
    const std::int64_t worth = large ? job.pairs : job.pairs / (4 * grain);
    const int threads = static_cast<int>(std::max<std::int64_t>(1, std::min<std::int64_t>(job.threads, worth)));
    std::int64_t arena = 0, packed = 0, listed = 0;
    for (const Stage& stage : plan.stages) {
        arena = std::max(arena, stage.together * stage.arena);
        packed = std::max(packed, stage.together * 2 * stage.packed);
        listed = std::max(listed, stage.together * 2 * stage.listed);
    }
    std::vector<Scratch<T>> scratch;
    for (int i = 0; i < threads; ++i) {
        scratch.push_back({make_buffer<T>(arena), make_buffer<T>(plan.pairs * plan.keeps), make_buffer<T>(packed),
                           make_buffer<std::int32_t>(listed), make_buffer<double>(plan.tail),
                           make_buffer<double>(plan.pairs * plan.lanes), make_buffer<T>(plan.widest)});
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
