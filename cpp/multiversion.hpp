// One function, compiled for several instruction sets; the loader picks one at start-up.
//
//   FDFAST_MULTIVERSION void dot(const float* a, const float* b, std::int64_t n, float* out) noexcept;
//
// For compute-bound loops only. It goes on a plain function, not on a template: instantiate the template inside it.
// What it calls profits only if it is inlined. Expands to nothing where the build found no support
// (FDFAST_TARGET_CLONES, see CMakeLists.txt), outside glibc (no ifunc), and under sanitizers, whose run-time is not up
// yet when the choice is made.
#pragma once

#include <cstddef>  // any libc header defines __GLIBC__

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FDFAST_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define FDFAST_SANITIZED
#endif
#endif

#if defined(FDFAST_TARGET_CLONES) && defined(__GLIBC__) && !defined(FDFAST_SANITIZED)
// v4 is AVX-512, v3 is AVX2 with FMA. The build sets -ffp-contract=off, so no clone fuses a*b + c: all give the same
// bits.
#define FDFAST_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FDFAST_MULTIVERSION
#endif
