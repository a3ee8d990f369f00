"""The table of operations: for each kind its float64 value, its form for many rows at once, and its difference rule.

One file a family. Nothing here knows a graph, a tape or a model: a rule sees one operation.
"""

from __future__ import annotations

from fdfast.operations import (
    algebra,
    backward,
    branches,
    elementwise,
    image,
    linear,
    order,
    pooling,
    products,
    rows,
    softmax,
    values,
)
from fdfast.operations.call import Call, Notes, at_rows, difference, has_value, is_real
from fdfast.operations.kernel import NARROW, Kernel, Unmapped, repeated
from fdfast.operations.table import TABLE, Operation, Rows, difference_rule, for_rows, smooth_rule, value

#: The families, which fill the table.
FAMILIES = (
    *(algebra, backward, branches, elementwise, image, linear, order, pooling, products, rows, softmax, values),
)

__all__ = [
    "FAMILIES",
    "NARROW",
    "TABLE",
    "Call",
    "Kernel",
    "Notes",
    "Operation",
    "Rows",
    "Unmapped",
    "at_rows",
    "difference",
    "difference_rule",
    "for_rows",
    "has_value",
    "is_real",
    "repeated",
    "smooth_rule",
    "value",
]
