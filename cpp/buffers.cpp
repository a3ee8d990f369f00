// Aligned buffers. Freed ones are kept for a while: a call needs the same sizes as the call before, and fresh pages
// from the system cost more than what is computed in them.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>

#include "multiversion.hpp"
#include "program.hpp"

namespace fdfast {
namespace {

constexpr std::align_val_t kAligned{static_cast<std::size_t>(kBlockBytes)};
constexpr std::size_t kHead = static_cast<std::size_t>(kBlockBytes);  // before the buffer: its capacity

#ifdef FDFAST_SANITIZED
constexpr std::size_t kKept = 0;  // or a use after free would go unseen
#else
constexpr std::size_t kKept = std::size_t{16} << 20;  // bytes
#endif

void* fresh(std::size_t bytes) {
    void* const head = ::operator new(bytes + kHead, kAligned);
    std::memcpy(head, &bytes, sizeof bytes);
    return static_cast<char*>(head) + kHead;
}

std::size_t capacity(const void* p) noexcept {
    std::size_t bytes = 0;
    std::memcpy(&bytes, static_cast<const char*>(p) - kHead, sizeof bytes);
    return bytes;
}

void release(void* p) noexcept {
    ::operator delete(static_cast<void*>(static_cast<char*>(p) - kHead), kAligned);
}

class Shelf {
  public:
    // A kept buffer that fits without much waste, or null. Where another thread is at it, even one that a fork left
    // behind, do without.
    void* take(std::size_t bytes) noexcept {
        const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
        if (!lock) return nullptr;
        for (std::size_t i = 0; i < count_; ++i) {
            const std::size_t has = capacity(kept_[i]);
            if (has < bytes || has - bytes > bytes / 8) continue;
            void* const p = kept_[i];
            std::copy(kept_.begin() + i + 1, kept_.begin() + count_--, kept_.begin() + i);
            bytes_ -= has;
            return p;
        }
        return nullptr;
    }

    // Keeps the buffer, in the place of the oldest ones if need be. False: it is still the caller's.
    bool put(void* p) noexcept {
        const std::size_t has = capacity(p);
        if (has > kKept / 4) return false;
        const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
        if (!lock) return false;
        std::size_t gone = 0;
        while (gone < count_ && (count_ - gone == kept_.size() || bytes_ + has > kKept)) {
            bytes_ -= capacity(kept_[gone]);
            release(kept_[gone++]);
        }
        std::copy(kept_.begin() + gone, kept_.begin() + count_, kept_.begin());
        count_ -= gone;
        kept_[count_++] = p;
        bytes_ += has;
        return true;
    }

  private:
    std::mutex mutex_;
    std::array<void*, 64> kept_{};  // oldest first
    std::size_t count_ = 0, bytes_ = 0;
};

Shelf& shelf() {
    static Shelf* const one = new Shelf;  // never destroyed: buffers are freed until the very end
    return *one;
}

}  // namespace

template <typename T>
void Free<T>::operator()(T* p) const noexcept {
    if (!shelf().put(p)) release(p);
}

template <typename T>
Buffer<T> make_buffer(std::int64_t count) {
    const std::int64_t some = std::max<std::int64_t>(count, 1);
    if (some > std::numeric_limits<std::int64_t>::max() / 16) throw std::bad_alloc();
    const auto bytes = static_cast<std::size_t>(some) * sizeof(T);
    void* p = shelf().take(bytes);
    if (p == nullptr) p = fresh(bytes);
    T* const out = static_cast<T*>(p);
    std::fill_n(out, some, T{});
    return Buffer<T>(out);
}

#define FDFAST_BUFFERS(T)    \
    template struct Free<T>; \
    template Buffer<T> make_buffer<T>(std::int64_t);
FDFAST_BUFFERS(float)
FDFAST_BUFFERS(double)
FDFAST_BUFFERS(std::int32_t)
#undef FDFAST_BUFFERS

}  // namespace fdfast
