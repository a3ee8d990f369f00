// Vectors of the instruction set at hand, and windows of maps. Everything here is local to the translation unit: the
// same source is compiled for several instruction sets, and the linker must not swap their functions.
#pragma once

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include <cstring>
#include <utility>

#include "walk.hpp"

#define FDFAST_INLINE __attribute__((always_inline)) inline
// Functions with hot loops stand alone: inlined into the walk, their constants would not stay in registers.
#define FDFAST_APART __attribute__((noinline))

namespace fdfast {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kWide = 4, kTall = 6, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32, kWide = 2, kTall = 5, kRegisters = 16;
#else
constexpr int kVectorBytes = 16, kWide = 2, kTall = 5, kRegisters = 16;
#endif

// Whether registers without events are left early. GCC 12 cannot compile that without AVX
// (gimple_expand_vec_cond_expr).
#if defined(__AVX__)
constexpr bool kLeavesEarly = true;
#else
constexpr bool kLeavesEarly = false;
#endif

template <typename T>
struct VectorOf {
    typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <typename T>
using Vector = typename VectorOf<T>::type;
template <typename T>
using Mask = decltype(Vector<T>{} == Vector<T>{});

template <typename T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
template <typename T>
constexpr int kPerBlock = kBlock<T> / kLanes<T>;

template <typename T>
FDFAST_INLINE Vector<T> load(const T* p) noexcept {
    return *reinterpret_cast<const Vector<T>*>(p);
}
template <typename T>
FDFAST_INLINE void store(T* p, const Vector<T>& v) noexcept {
    *reinterpret_cast<Vector<T>*>(p) = v;
}
template <typename T>
FDFAST_INLINE Vector<T> splat(T x) noexcept {
    return x - Vector<T>{};  // not a sum: 0 + x is not x for x = -0, so it would be an addition indeed
}
template <typename T>
FDFAST_INLINE Vector<T> choose(const Mask<T>& m, const Vector<T>& a, const Vector<T>& b) noexcept {
    return m ? a : b;
}
// a > b ? a : b, and a < b ? a : b. GCC compiles the conditional expression to a comparison and a blend, and warns of
// the forms without a mask.
template <typename T>
FDFAST_INLINE Vector<T> larger(const Vector<T>& a, const Vector<T>& b) noexcept {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 8) return _mm512_maskz_max_pd(0xff, a, b);
    if constexpr (sizeof(T) == 4) return _mm512_maskz_max_ps(0xffff, a, b);
#elif defined(__AVX__)
    if constexpr (sizeof(T) == 8) return _mm256_max_pd(a, b);
    if constexpr (sizeof(T) == 4) return _mm256_max_ps(a, b);
#else
    return choose<T>(a > b, a, b);
#endif
}
template <typename T>
FDFAST_INLINE Vector<T> smaller(const Vector<T>& a, const Vector<T>& b) noexcept {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 8) return _mm512_maskz_min_pd(0xff, a, b);
    if constexpr (sizeof(T) == 4) return _mm512_maskz_min_ps(0xffff, a, b);
#elif defined(__AVX__)
    if constexpr (sizeof(T) == 8) return _mm256_min_pd(a, b);
    if constexpr (sizeof(T) == 4) return _mm256_min_ps(a, b);
#else
    return choose<T>(a < b, a, b);
#endif
}

// Whether any lane of a comparison holds.
template <typename T>
FDFAST_INLINE bool any(const Mask<T>& m) noexcept {
#if defined(__AVX512F__)
    return _mm512_test_epi64_mask((__m512i)m, (__m512i)m) != 0;
#elif defined(__AVX__)
    return _mm256_testz_si256((__m256i)m, (__m256i)m) == 0;
#else
    std::int64_t words[kVectorBytes / 8];
    std::memcpy(words, &m, sizeof m);
    std::int64_t all = 0;
    for (const std::int64_t word : words) all |= word;
    return all != 0;
#endif
}

// Whether |a| < |b| in every lane.
template <typename T>
FDFAST_INLINE bool shorter(const Vector<T>& a, const Vector<T>& b) noexcept {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 8) {
        return _mm512_cmp_pd_mask(_mm512_abs_pd(a), _mm512_abs_pd(b), _CMP_LT_OQ) == 0xff;
    } else {
        return _mm512_cmp_ps_mask(_mm512_abs_ps(a), _mm512_abs_ps(b), _CMP_LT_OQ) == 0xffff;
    }
#else
    return !any<T>(~(larger<T>(a, -a) < larger<T>(b, -b)));
#endif
}

// Entries of p[0, count) that are not zero, in order: the value to `values`, origin + k * step to `places`. Both may be
// written up to 16 entries beyond what is kept. Returns how many are kept.
template <typename T>
FDFAST_INLINE std::int32_t list_live(const T* p, std::int32_t count, std::int32_t origin, std::int32_t step, T* values,
                                     std::int32_t* places) noexcept {
    std::int32_t kept = 0, k = 0;
#if defined(__AVX512F__)
    const __m512i at = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                          _mm512_set1_epi32(step));
    for (; k < count; k += kLanes<T>) {
        const __m512i where = _mm512_add_epi32(at, _mm512_set1_epi32(origin + k * step));
        const unsigned inside = count - k < kLanes<T> ? (1u << (count - k)) - 1 : ~0u;
        unsigned live;
        if constexpr (sizeof(T) == 8) {
            const __m512d v = _mm512_maskz_loadu_pd(static_cast<__mmask8>(inside), p + k);
            live = _mm512_cmp_pd_mask(v, _mm512_setzero_pd(), _CMP_NEQ_UQ);
            _mm512_storeu_pd(values + kept, _mm512_maskz_compress_pd(static_cast<__mmask8>(live), v));
        } else {
            const __m512 v = _mm512_maskz_loadu_ps(static_cast<__mmask16>(inside), p + k);
            live = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
            _mm512_storeu_ps(values + kept, _mm512_maskz_compress_ps(static_cast<__mmask16>(live), v));
        }
        _mm512_storeu_si512(places + kept, _mm512_maskz_compress_epi32(static_cast<__mmask16>(live), where));
        kept += __builtin_popcount(live);
    }
#else
    for (; k < count; ++k) {
        values[kept] = p[k];
        places[kept] = origin + k * step;
        kept += p[k] != T{0};
    }
#endif
    return kept;
}

// f(0), f(1), ..., f(N - 1) with constant arguments: arrays indexed by them stay in registers.
template <int N>
struct Constant {
    constexpr operator int() const noexcept { return N; }
};
// Not by recursion: each step would be compiled with all that follow it inside.
template <int Begin, typename F, int... I>
FDFAST_INLINE void each_of(const F& f, std::integer_sequence<int, I...>) noexcept {
    (f(Constant<Begin + I>{}), ...);
}
template <int Begin, int End, typename F>
FDFAST_INLINE void each(const F& f) noexcept {
    if constexpr (Begin < End) each_of<Begin>(f, std::make_integer_sequence<int, End - Begin>{});
}

FDFAST_INLINE std::int32_t least(std::int32_t a, std::int32_t b) noexcept {
    return a < b ? a : b;
}
FDFAST_INLINE std::int32_t most(std::int32_t a, std::int32_t b) noexcept {
    return a > b ? a : b;
}
FDFAST_INLINE std::int32_t floor_div(std::int32_t a, std::int32_t b) noexcept {
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

// Both lanes of a node on its window: d_a, and s = d_b - r d_a. A lane that is not live is zero, and not written.
template <typename T>
struct Lanes {
    Area at;
    std::int32_t stored = 0;
    T* lane[2] = {nullptr, nullptr};
    bool live[2] = {false, false};

    FDFAST_INLINE bool dead() const noexcept { return !live[0] && !live[1]; }
    FDFAST_INLINE std::int64_t size() const noexcept { return at.cells() * stored; }
    FDFAST_INLINE T* cell(int side, std::int32_t y, std::int32_t x) const noexcept {
        return lane[side] + (std::int64_t{y - at.y0} * at.w() + (x - at.x0)) * stored;
    }
    FDFAST_INLINE bool holds(std::int32_t y, std::int32_t x) const noexcept {
        return y >= at.y0 && y < at.y1 && x >= at.x0 && x < at.x1;
    }
};

template <typename T>
FDFAST_INLINE void clear(const Lanes<T>& v, int side) noexcept {
    std::memset(v.lane[side], 0, static_cast<std::size_t>(v.size()) * sizeof(T));
}

// The second lane of a result, written from its first register on that is not zero.
template <typename T>
struct Rest {
    T* lane;
    bool live = false;

    FDFAST_INLINE void put(std::int64_t at, const Vector<T>& value) noexcept {
        if (!live) {
            if (!any<T>(value != T{0})) return;
            std::memset(lane, 0, static_cast<std::size_t>(at) * sizeof(T));
            live = true;
        }
        store<T>(lane + at, value);
    }
};

// Output window of a windowed operation: every cell that sees a cell of `in`, inside the map.
FDFAST_INLINE Area reached(const Area& in, const Window& w, const Shape& out) noexcept {
    Area at;
    const std::int32_t spread_y = (w.kh - 1) * w.dh, spread_x = (w.kw - 1) * w.dw;
    at.y0 = most(0, -floor_div(-(in.y0 + w.top - spread_y), w.sh));
    at.x0 = most(0, -floor_div(-(in.x0 + w.left - spread_x), w.sw));
    at.y1 = least(out.h, floor_div(in.y1 - 1 + w.top, w.sh) + 1);
    at.x1 = least(out.w, floor_div(in.x1 - 1 + w.left, w.sw) + 1);
    return at;
}

}  // namespace
}  // namespace fdfast
