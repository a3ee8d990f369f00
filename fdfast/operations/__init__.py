"""The table of operations: for each kind its float64 value, its form for many rows at once, and its difference rule.

One file a family. Nothing here knows a graph, a tape or a model: a rule sees one operation.
"""

from __future__ import annotations

# The families fill the table.
import fdfast.operations.algebra
import fdfast.operations.backward
import fdfast.operations.branches
import fdfast.operations.elementwise
import fdfast.operations.image
import fdfast.operations.linear
import fdfast.operations.narrow
import fdfast.operations.normalising_back
import fdfast.operations.order
import fdfast.operations.pooling
import fdfast.operations.pooling_back
import fdfast.operations.products
import fdfast.operations.rows
import fdfast.operations.softmax
import fdfast.operations.special
import fdfast.operations.values  # noqa: F401
from fdfast.operations.call import Call, Notes, at_rows, difference, has_value, is_real, short_moves
from fdfast.operations.image import axis_weights
from fdfast.operations.kernel import LIFTS, NARROW, Kernel, Plain, Unmapped, repeated
from fdfast.operations.table import TABLE, Operation, Rows, difference_rule, for_rows, smooth_rule, value

__all__ = [
    "LIFTS",
    "NARROW",
    "TABLE",
    "Call",
    "Kernel",
    "Notes",
    "Operation",
    "Plain",
    "Rows",
    "Unmapped",
    "at_rows",
    "axis_weights",
    "difference",
    "difference_rule",
    "for_rows",
    "has_value",
    "is_real",
    "repeated",
    "short_moves",
    "smooth_rule",
    "value",
]
