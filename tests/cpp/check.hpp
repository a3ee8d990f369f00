// The least test runner that serves: TEST(name) { CHECK(condition); }. It allocates every buffer at its exact size, so
// that the address sanitizer sees the first element beyond.
#pragma once

#include <cstdio>
#include <vector>

namespace check {

struct Test {
    const char* name;
    void (*run)();
};

inline std::vector<Test>& tests() {
    static std::vector<Test> all;
    return all;
}

inline int& failures() {
    static int count = 0;
    return count;
}

struct Register {
    Register(const char* name, void (*run)()) { tests().push_back({name, run}); }
};

}  // namespace check

#define TEST(name)                                                \
    static void name();                                           \
    static const check::Register register_##name{#name, &(name)}; \
    static void name()

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            ++check::failures();                                                         \
        }                                                                                \
    } while (false)
