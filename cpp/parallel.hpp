// Work shared out among threads that live for one call: nothing is left running, so a fork finds nothing to break.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace fdfast {

// Calls body(worker, first, last) for pieces of [0, count), `grain` at a time, from up to `threads` threads; worker 0
// is the caller. A body that returns false stops all. Returns whether all was done. The body must not throw.
template <typename Body>
bool parallel_for(std::int64_t count, std::int64_t grain, int threads, const Body& body) {
    std::atomic<std::int64_t> next{0};
    std::atomic<bool> stopped{false};
    const auto work = [&](int worker) {
        while (!stopped.load(std::memory_order_relaxed)) {
            const std::int64_t first = next.fetch_add(grain);
            if (first >= count) return;
            if (!body(worker, first, std::min(count, first + grain))) stopped = true;
        }
    };
    const std::int64_t pieces = (count + grain - 1) / grain;
    const int workers = static_cast<int>(std::min<std::int64_t>(threads, pieces));
    std::vector<std::thread> others;
    others.reserve(static_cast<std::size_t>(std::max(0, workers - 1)));
    for (int i = 1; i < workers; ++i) {
        try {
            others.emplace_back(work, i);
        } catch (const std::system_error&) {
            break;  // the system gives no more threads: those there are do the work
        }
    }
    work(0);
    for (std::thread& other : others) other.join();
    return !stopped;
}

}  // namespace fdfast
