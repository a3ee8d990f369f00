"""A function recorded at a point: operation by operation, in float64, with the values of all of them.

The recorder walks a traced graph; a tape runs again at other values, and differences are pushed along it. What an
operation does is in `operations`; what is asked of a function is not known here.
"""

from __future__ import annotations

from fdfast.tape.again import guards_hold, push, replay, values_there
from fdfast.tape.at_rows import InRows, Moving, Step, evaluated, replayed, row_bytes
from fdfast.tape.curvature import Products, products
from fdfast.tape.dispatch import numpy_calls
from fdfast.tape.eagerly import Recording, key_of
from fdfast.tape.graphs import TINY, trace_of, unkinked, values_graph
from fdfast.tape.point import LONG, Point, effort_of
from fdfast.tape.precision import half_types, narrowest
from fdfast.tape.recorded import Recorded
from fdfast.tape.recorder import OPAQUE, Narrow, Recorder, lifted
from fdfast.tape.routes import is_steady, steady
from fdfast.tape.tape import EQUAL, STEP, Entry, Guard, Handle, NoTape, Slopes, Tape, changes
from fdfast.tape.traced import PythonCode, Traced, concrete_of, shared, view
from fdfast.tape.twins import address_of, value_of

__all__ = [
    "EQUAL",
    "LONG",
    "OPAQUE",
    "STEP",
    "TINY",
    "Entry",
    "Guard",
    "Handle",
    "InRows",
    "Moving",
    "Narrow",
    "NoTape",
    "Point",
    "Products",
    "PythonCode",
    "Recorded",
    "Recorder",
    "Recording",
    "Slopes",
    "Step",
    "Tape",
    "Traced",
    "address_of",
    "changes",
    "concrete_of",
    "effort_of",
    "evaluated",
    "guards_hold",
    "half_types",
    "is_steady",
    "key_of",
    "lifted",
    "narrowest",
    "numpy_calls",
    "products",
    "push",
    "replay",
    "replayed",
    "row_bytes",
    "shared",
    "steady",
    "trace_of",
    "unkinked",
    "value_of",
    "values_graph",
    "values_there",
    "view",
]
