// Helping threads. To start and to join one takes longer than many a call, and a core that sleeps may take milliseconds
// to wake on a busy host: so threads are kept for a while, and nobody waits for one that has not begun.
#include "parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#if __has_include(<pthread.h>)
#include <pthread.h>
#include <signal.h>
#define FDFAST_PTHREADS
#endif

namespace fdfast {
namespace {

constexpr std::chrono::seconds kPatience{5};  // a thread without work ends
constexpr int kPolls = 2000;                  // looks at a helper's last piece before the caller sleeps

// One call. It lives on the caller's stack: helpers hold it only between `open` and `active == 0`.
struct Task {
    const std::int64_t count, grain;
    const Piece piece;
    const void* const body;
    std::atomic<std::int64_t> next{0};
    std::atomic<bool> stopped{false};
    std::atomic<int> active{0};  // helpers at work; changed under the crew's lock
    int wanted = 0;              // helpers that may still come
    int workers = 1;             // numbers given so far
    Task* behind = nullptr;      // in the queue

    void work(int worker) {
        while (!stopped.load(std::memory_order_relaxed)) {
            const std::int64_t first = next.fetch_add(grain, std::memory_order_relaxed);
            if (first >= count) return;
            if (!piece(body, worker, first, std::min(count, first + grain))) stopped = true;
        }
    }
};

class Crew {
  public:
    void run(Task& task, int helpers) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            while (free() < helpers && hire()) {
            }
            task.wanted = std::min(helpers, std::max(0, free()));
            if (task.wanted > 0) enqueue(task);
        }
        for (int i = 0; i < helpers; ++i) work_.notify_one();
        task.work(0);
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (task.wanted > 0) dequeue(task);
        }
        for (int i = 0; i < kPolls && task.active.load(std::memory_order_acquire) > 0; ++i) std::this_thread::yield();
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [&task] { return task.active == 0; });
    }

  private:
    int free() const { return threads_ - busy_ - promised_; }

    bool hire() {
        try {
            std::thread([this] { stay(); }).detach();
        } catch (const std::system_error&) {
            return false;  // the system gives no more threads: those there are do the work
        }
        ++threads_;
        return true;
    }

    void stay() {
#ifdef FDFAST_PTHREADS
        sigset_t all;
        sigfillset(&all);
        for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&all, own);
        pthread_sigmask(SIG_BLOCK, &all, nullptr);  // an interrupt is for the thread that waits for it
#endif
        std::unique_lock<std::mutex> lock(mutex_);
        while (work_.wait_for(lock, kPatience, [this] { return first_ != nullptr; })) {
            Task& task = *first_;
            const int worker = task.workers++;
            --promised_;
            ++busy_;
            ++task.active;
            if (--task.wanted == 0) first_ = task.behind;
            lock.unlock();
            task.work(worker);
            lock.lock();
            --busy_;
            if (--task.active == 0) done_.notify_all();
        }
        --threads_;
    }

    void enqueue(Task& task) {
        promised_ += task.wanted;
        Task** last = &first_;
        while (*last != nullptr) last = &(*last)->behind;
        *last = &task;
    }

    void dequeue(const Task& task) {
        promised_ -= task.wanted;
        Task** at = &first_;
        while (*at != &task) at = &(*at)->behind;
        *at = task.behind;
    }

    std::mutex mutex_;
    std::condition_variable work_, done_;
    Task* first_ = nullptr;  // calls that still want helpers, oldest first
    int threads_ = 0, busy_ = 0, promised_ = 0;
};

std::atomic<Crew*> current{nullptr};

// The crew of this process. It is never destroyed: its threads may outlive everything else.
Crew& crew() {
#ifdef FDFAST_PTHREADS
    // A child of a fork has none of the threads, and perhaps a lock that nobody will open: it starts anew.
    static const int registered = pthread_atfork(nullptr, nullptr, [] { current = nullptr; });
    static_cast<void>(registered);
#endif
    Crew* found = current;
    if (found == nullptr) {
        Crew* const made = new Crew;
        if (current.compare_exchange_strong(found, made)) return *made;
        delete made;
    }
    return *found;
}

}  // namespace

bool share_out(std::int64_t count, std::int64_t grain, int threads, Piece piece, const void* body) {
    Task task{count, grain, piece, body};
    const std::int64_t pieces = (count + grain - 1) / grain;
    const auto helpers = static_cast<int>(std::min<std::int64_t>(threads, pieces) - 1);
    if (helpers > 0) {
        crew().run(task, helpers);
    } else {
        task.work(0);
    }
    return !task.stopped;
}

}  // namespace fdfast
