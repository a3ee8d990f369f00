"""Central differences as `tf.test.compute_gradient` takes them: in the dtype of x and of f."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Array = npt.NDArray[Any]
#: Dtypes that TensorFlow has derivatives for.
ALLOWED = (tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64, tf.complex128)


class Directions:
    """Unit vectors of the outputs, in the shape and dtype of y; for complex outputs 1 and i in turn."""

    def __init__(self, y: Any) -> None:
        self._shape, self._dtype = y.shape, y.dtype
        self.count = reals(y)

    def shaped(self, flat: Any) -> Any:
        """Tensor like y of `count` real numbers."""
        flat = tf.cast(flat, self._dtype.real_dtype)
        if self._dtype.is_complex:
            parts = tf.reshape(flat, [-1, 2])
            flat = tf.complex(parts[:, 0], parts[:, 1])
        return tf.reshape(flat, self._shape)

    def block(self, some: range) -> Array:
        """Some of the unit vectors, stacked."""
        block = np.eye(len(some), self.count, some.start, self._dtype.real_dtype.as_numpy_dtype)
        whole: Array = block.view(self._dtype.as_numpy_dtype).reshape(len(some), *self._shape)
        return whole


def displaced(point: Array, x: Array, delta: float) -> Callable[[int, int], Array]:
    """Build rows of x: in row 2i element i is larger by delta, in row 2i + 1 smaller; in the arithmetic of x.

    Parameters
    ----------
    point : ndarray, shape (columns,)
        x as real numbers.
    x : ndarray
    delta : float
    """
    # One by one, as a scalar: delta may be of any kind, and NumPy promotes scalars and arrays differently.
    moved = np.array([v + sign * delta for v in point for sign in (1, -1)]).astype(point.dtype)

    def build(start: int, stop: int) -> Array:
        rows = np.tile(point, (stop - start, 1))
        rows[np.arange(stop - start), np.arange(start, stop) // 2] = moved[start:stop]
        return rows.view(x.dtype).reshape(stop - start, *x.shape)

    return build


def columns_of(
    blocks: Iterable[tuple[int, Array]], argument: Any, result: Any, value: Array, columns: int, delta: float
) -> Array:
    """Jacobian from the values of f at displaced rows.

    Parameters
    ----------
    blocks : iterable of (int, ndarray)
        Values of f, block by block, in the order of `displaced`.
    argument, result : tf.DType
        Of the argument that moves, and of what f returns.
    value : ndarray
        Like what f returns.
    columns : int
        Real numbers in the argument.
    delta : float

    Returns
    -------
    ndarray, shape (outputs, columns), real dtype of the argument
    """
    scale = np.asarray(2 * delta, result.real_dtype.as_numpy_dtype)[()]
    jacobian = np.zeros((flat(value).size, columns), argument.real_dtype.as_numpy_dtype)
    left = np.empty((0, *value.shape), value.dtype)
    done = 0
    for _, rows in blocks:
        rows = np.concatenate([left, rows]) if len(left) else rows
        pairs = len(rows) // 2
        # Block by block, while a block is in the cache.
        quotient = flat((rows[: 2 * pairs : 2] - rows[1 : 2 * pairs : 2]) / scale, keep=1)
        jacobian[:, done : done + pairs] = quotient.T
        done, left = done + pairs, rows[2 * pairs :]
    return jacobian


def reals(tensor: Any) -> int:
    """Number of elements, complex ones counted twice."""
    return int(np.prod(tensor.shape, dtype=np.int64)) * (2 if tensor.dtype.is_complex else 1)


def flat(values: Array, keep: int = 0) -> Array:
    """View an array as real numbers, all axes but the first `keep` in one."""
    whole = np.ascontiguousarray(values).reshape(*values.shape[:keep], math.prod(values.shape[keep:]))
    return whole.view(whole.real.dtype) if np.iscomplexobj(whole) else whole
