// Work shared out: every piece once, numbers of workers that are theirs alone, many callers at a time, and an early
// end.
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "check.hpp"
#include "parallel.hpp"

namespace {

using fdfast::parallel_for;

constexpr int kThreads = 4;

// Whether each index was met once, by workers whose own counters nobody else touched.
bool is_complete(std::int64_t count, std::int64_t grain) {
    // On the heap and of the exact size: a sanitizer sees a worker number beyond.
    const std::unique_ptr<std::atomic<int>[]> met(new std::atomic<int>[static_cast<std::size_t>(count) + 1]());
    std::vector<std::int64_t> by(kThreads);
    const bool all = parallel_for(count, grain, kThreads, [&](int worker, std::int64_t first, std::int64_t last) {
        for (std::int64_t i = first; i < last; ++i) ++met[static_cast<std::size_t>(i)];
        by[static_cast<std::size_t>(worker)] += last - first;
        return true;
    });
    std::int64_t sum = 0;
    for (const std::int64_t n : by) sum += n;
    bool once = true;
    for (std::int64_t i = 0; i < count; ++i) once = once && met[static_cast<std::size_t>(i)] == 1;
    return all && once && sum == count;
}

}  // namespace

TEST(every_piece_is_done_once) {
    for (const std::int64_t count : {0, 1, 7, 64, 1000}) {
        for (const std::int64_t grain : {1, 3, 64}) CHECK(is_complete(count, grain));
    }
}

TEST(many_callers_at_a_time) {
    std::array<std::thread, 6> callers;
    std::atomic<int> right{0};
    for (std::thread& caller : callers) {
        caller = std::thread([&right] {
            for (int turn = 0; turn < 200; ++turn) right += is_complete(50, 1) ? 1 : 0;
        });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK(right == 1200);
}

TEST(a_piece_may_share_out_work_itself) {
    std::atomic<int> right{0};
    const bool all = parallel_for(20, 1, kThreads, [&](int, std::int64_t, std::int64_t) {
        right += is_complete(30, 1) ? 1 : 0;
        return true;
    });
    CHECK(all);
    CHECK(right == 20);
}

TEST(a_body_that_says_no_ends_all) {
    std::atomic<std::int64_t> done{0};
    const bool all = parallel_for(1'000'000, 1, kThreads, [&](int, std::int64_t, std::int64_t) { return ++done < 10; });
    CHECK(!all);
    CHECK(done < 1000);
}
