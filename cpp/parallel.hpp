// Work shared out among threads that wait for the next call a while before they end.
#pragma once

#include <cstdint>

namespace fdfast {

// What one piece does: body, worker, first, last.
using Piece = bool (*)(const void*, int, std::int64_t, std::int64_t);

bool share_out(std::int64_t count, std::int64_t grain, int threads, Piece piece, const void* body);

// Calls body(worker, first, last) for pieces of [0, count), `grain` at a time, from up to `threads` threads; worker 0
// is the caller, the others come if they are awake before the work is done. A body that returns false stops all.
// Returns whether all was done. The body must not throw.
template <typename Body>
bool parallel_for(std::int64_t count, std::int64_t grain, int threads, const Body& body) {
    const Piece piece = [](const void* what, int worker, std::int64_t first, std::int64_t last) {
        return (*static_cast<const Body*>(what))(worker, first, last);
    };
    return share_out(count, grain, threads, piece, &body);
}

}  // namespace fdfast
