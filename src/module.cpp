// fdfast._core: the table of contents. One file per group of bindings; fdfast/_core.pyi mirrors them.
#include "module.hpp"

PYBIND11_MODULE(_core, m) {
    m.doc() = "Compiled kernels of fdfast: arrays in, arrays out. See fdfast/_core.pyi for the signatures.";
    m.attr("__version__") = FDFAST_VERSION;

    fdfast::bind_buffers(m);
    fdfast::bind_directions(m);
    fdfast::bind_perturb(m);
    fdfast::bind_program(m);
    fdfast::bind_verdict(m);
}
