"""A function recorded at a point: operation by operation, in float64, with the values of all of them.

The recorder walks a traced graph; a tape runs again at other values, and differences are pushed along it. What an
operation does is in `operations`; what is asked of a function is not known here.
"""

from __future__ import annotations

from fdfast.tape.again import guards_hold, push, replay
from fdfast.tape.curvature import Products, products
from fdfast.tape.dispatch import numpy_calls
from fdfast.tape.precision import narrowest
from fdfast.tape.recorded import Point, Recorded, Slopes, trace_of, unkinked, values_graph
from fdfast.tape.recorder import OPAQUE, Narrow, Recorder, lifted
from fdfast.tape.routes import is_steady, steady
from fdfast.tape.tape import STEP, Entry, Guard, Handle, NoTape, Tape
from fdfast.tape.traced import Traced

__all__ = [
    "OPAQUE",
    "STEP",
    "Entry",
    "Guard",
    "Handle",
    "Narrow",
    "NoTape",
    "Point",
    "Products",
    "Recorded",
    "Recorder",
    "Slopes",
    "Tape",
    "Traced",
    "guards_hold",
    "is_steady",
    "lifted",
    "narrowest",
    "numpy_calls",
    "products",
    "push",
    "replay",
    "steady",
    "trace_of",
    "unkinked",
    "values_graph",
]
