"""What `jacobian` evaluates: a function of one example or of rows, of tensors or of arrays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.over_rows import as_array, rows_at_once
from fdfast.functions.returned import NarrowOnly, check_takes
from fdfast.functions.rowwise import RowValues, spread
from fdfast.moves import Selection

Array = npt.NDArray[Any]
_log = logging.getLogger("fdfast")


class SingleSource:
    """A function of one example, of tensors or of arrays."""

    def __init__(self, f: Any, selection: Selection, kwargs: dict[str, Any], max_rows: int | None) -> None:
        self._f, self._call, self._max_rows = f, selection.call(kwargs), max_rows
        self._kwargs, self._key = kwargs, (selection.form is dict, selection.keys)
        self._values = selection.values
        self._tensors: list[Any] | None = None
        try:
            tensors = [tf.constant(value) for value in selection.values]
            value = self._with_tensors(tensors)
            if not tf.is_tensor(value) and not isinstance(value, tf.IndexedSlices):
                raise TypeError(f"f returns {type(value).__name__}")
            self._tensors, self.base = tensors, as_array(value)
        except NarrowOnly:
            raise
        except Exception as error:
            # If it takes no arrays either, that error is the one to show.
            self.base = _plain(self._call(f, self._copies()))
            _log.info(f"{_name(f)} takes arrays, one example at a time, and was called in a loop ({error})")

    def blocks(self, place: int, build: Callable[[int, int], Array], count: int) -> Iterator[tuple[int, Array]]:
        """Yield (first row, values of f) for all rows."""
        if self._tensors is not None:
            f, call = self._f, self._call
            if self._kwargs:
                # Further arguments may hold anything: what is traced now is of no use for another call.
                f, call = (lambda *values: self._call(self._f, values)), spread
            rows = RowValues(f, self._tensors, place, self.base, call=call, key=self._key)
            yield from rows.blocks(build, count, self._max_rows)
            return
        for start in range(count):
            values = self._copies()
            values[place] = build(start, start + 1)[0]
            yield start, _plain(self._call(self._f, values))[None]

    def _with_tensors(self, tensors: list[Any]) -> Any:
        try:
            return self._call(self._f, tensors)
        except Exception as error:
            floating = {t.dtype for t in tensors if t.dtype.is_floating}
            if floating == {tf.float64}:
                check_takes(lambda narrow: self._call(self._f, [_as(t, narrow) for t in tensors]), error)
            raise

    def _copies(self) -> list[Array]:
        # f may keep or change what it is given.
        return [np.array(value) for value in self._values]


class BatchedSource:
    """A function of rows, of tensors or of arrays."""

    def __init__(self, f: Any, selection: Selection, kwargs: dict[str, Any], max_rows: int | None) -> None:
        self._values = selection.values
        self._f, self._call = f, selection.call(kwargs)
        one = [np.array(value)[None] for value in self._values]
        self._into: Callable[[Any], Any] = tf.constant
        try:
            first = self._call(f, [tf.constant(value) for value in one])
            if not tf.is_tensor(first):
                raise TypeError(f"f returns {type(first).__name__}")
        except Exception:
            self._into = np.array
            first = self._call(f, one)
        self.base = self._checked(first, 1)[0]
        row_bytes = max([self.base.nbytes, *(value.nbytes for value in self._values)])
        self._at_once = max_rows or rows_at_once(row_bytes, 1 << 20)

    def blocks(self, place: int, build: Callable[[int, int], Array], count: int) -> Iterator[tuple[int, Array]]:
        """Yield (first row, values of f) for all rows."""
        for start in range(0, count, self._at_once):
            rows = build(start, min(start + self._at_once, count))
            values = [np.broadcast_to(np.asarray(v), (len(rows), *np.shape(v))) for v in self._values]
            values[place] = rows
            yield start, self._checked(self._call(self._f, [self._into(v) for v in values]), len(rows))

    def _checked(self, found: Any, rows: int) -> Array:
        values: Array = as_array(found)
        if not values.ndim or len(values) != rows:
            raise ValueError(
                f"with batched=True f must return one output per row, shape ({rows}, ...); it returned {values.shape}"
            )
        return values


def _as(tensor: Any, dtype: Any) -> Any:
    return tf.cast(tensor, dtype) if tensor.dtype.is_floating else tensor


def _plain(value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype == object:
        raise TypeError(f"f must return a tensor, an array or a number, got {type(value).__name__}")
    return array


def _name(f: Any) -> str:
    return getattr(f, "__name__", type(f).__name__)
