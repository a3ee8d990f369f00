#pragma once

#include <pybind11/pybind11.h>

namespace fdfast {

void bind_buffers(pybind11::module_& m);
void bind_directions(pybind11::module_& m);
void bind_perturb(pybind11::module_& m);
void bind_program(pybind11::module_& m);
void bind_verdict(pybind11::module_& m);

}  // namespace fdfast
