"""Finite-difference gradients of TensorFlow and Keras models, and a verdict on automatic differentiation.

The public names are loaded on first use: ``import fdfast`` imports neither TensorFlow nor Numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    from fdfast._core import __version__
except ModuleNotFoundError as error:
    if error.name != "fdfast._core":
        raise
    raise ImportError(
        "fdfast._core, the compiled part of fdfast, is missing. In a source tree, compile it by "
        "`make build` (into .venv) or `pip install -e .` (into this Python), and run that Python."
    ) from error

if TYPE_CHECKING:
    from fdfast import attack, datasets
    from fdfast.along import directional
    from fdfast.callback import GradientCheck
    from fdfast.check import assert_gradcheck, estimate, gradcheck, gradient
    from fdfast.estimates import Estimate
    from fdfast.hessians import hessian, hvp
    from fdfast.jacobians import jacobian
    from fdfast.quiet import quiet_start
    from fdfast.report import Report, WeightReport
    from fdfast.sweeps import Sweep, sweep

__all__ = [
    "Estimate",
    "GradientCheck",
    "Report",
    "Sweep",
    "WeightReport",
    "__version__",
    "assert_gradcheck",
    "attack",
    "datasets",
    "directional",
    "estimate",
    "gradcheck",
    "gradient",
    "hessian",
    "hvp",
    "jacobian",
    "quiet_start",
    "sweep",
]

# A name must not be that of a submodule as well: importing the submodule would replace it.
_HOME = {
    "directional": "fdfast.along",
    "assert_gradcheck": "fdfast.check",
    "estimate": "fdfast.check",
    "gradcheck": "fdfast.check",
    "gradient": "fdfast.check",
    "hessian": "fdfast.hessians",
    "hvp": "fdfast.hessians",
    "jacobian": "fdfast.jacobians",
    "Estimate": "fdfast.estimates",
    "GradientCheck": "fdfast.callback",
    "Report": "fdfast.report",
    "WeightReport": "fdfast.report",
    "Sweep": "fdfast.sweeps",
    "quiet_start": "fdfast.quiet",
    "sweep": "fdfast.sweeps",
}
_SUBMODULES = frozenset({"attack", "datasets"})


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"fdfast.{name}")
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'fdfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
