// Runs every TEST under the sanitizers (`make sanitize`). The numbers are judged by the Python tests; here it is the
// memory accesses, the arithmetic and the invariants that a sanitizer cannot know.
#include "check.hpp"

int main() {
    int failed = 0;
    for (const check::Test& test : check::tests()) {
        const int before = check::failures();
        test.run();
        const bool passed = check::failures() == before;
        if (!passed) ++failed;
        std::printf("%s %s\n", passed ? "ok    " : "FAILED", test.name);
    }
    const int passed = static_cast<int>(check::tests().size()) - failed;
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 && passed > 0 ? 0 : 1;
}
