"""Copies of one point, each with one element moved: what a vectorized NumPy function is called with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

#: Bytes of rows that one call of f gets at most.
_BUDGET = 512 * 2**20


def spans(count: int, row_bytes: int) -> Iterator[slice]:
    """Cut `count` elements into runs whose pairs of rows fit the budget; nearly always one run."""
    many = max(1, _BUDGET // max(1, 2 * row_bytes))
    for start in range(0, count, many):
        yield slice(start, min(start + many, count))


def displaced(x: npt.NDArray[Any], elements: npt.NDArray[np.intp], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Stack copies of x, shape (rows, *x.shape); in row i the flat element ``elements[i]`` is ``values[i]``."""
    rows = np.empty((len(elements), x.size), x.dtype)
    rows[:] = x.reshape(-1)
    rows[np.arange(len(elements)), elements] = values
    return rows.reshape(len(elements), *x.shape)


def one_each(values: Any, rows: int) -> npt.NDArray[Any]:
    """Return what f gave for `rows` rows as an array, shape (rows, ...).

    Raises
    ------
    ValueError
        There is not one entry per row.
    """
    array = np.asarray(values)
    if array.ndim == 0 or len(array) != rows:
        raise ValueError(
            f"f returned shape {array.shape} for {rows} rows; vectorized=True promises rows along axis 0 in and one "
            "value (or one array) per row out. Leave it out for a function of one point"
        )
    return array
