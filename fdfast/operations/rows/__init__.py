"""Rules of `fdfast.functions.stacked`: an operation of one row, as the same operation with all rows along axis 0.

Rules run the kernel that TensorFlow runs for one row, with rows as more of the batch or as more channels; only products
of matrices per row take TensorFlow's product of many. Operations that are not here, such as those that draw random
numbers, have no rule on purpose or for lack of need.
"""

from __future__ import annotations

from fdfast.operations.rows import axes, batch, elementwise, placed, products

__all__ = ["axes", "batch", "elementwise", "placed", "products"]
