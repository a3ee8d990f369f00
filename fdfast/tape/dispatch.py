"""NumPy functions on the tensors of a trace: they become TensorFlow's own, where they would have been refused."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

_NAMES = ("__array_function__", "__array_ufunc__")
#: Operators of tensors, in place of which NumPy calls a ufunc where an array stands on the left.
_OPERATORS = {
    np.add: ("__add__", "__radd__"),
    np.subtract: ("__sub__", "__rsub__"),
    np.multiply: ("__mul__", "__rmul__"),
    np.divide: ("__truediv__", "__rtruediv__"),
    np.floor_divide: ("__floordiv__", "__rfloordiv__"),
    np.remainder: ("__mod__", "__rmod__"),
    np.power: ("__pow__", "__rpow__"),
    np.matmul: ("__matmul__", "__rmatmul__"),
    np.greater: ("__gt__", "__lt__"),
    np.greater_equal: ("__ge__", "__le__"),
    np.less: ("__lt__", "__gt__"),
    np.less_equal: ("__le__", "__ge__"),
    np.equal: ("__eq__", "__eq__"),
    np.not_equal: ("__ne__", "__ne__"),
}

_lock = threading.Lock()
_tracing = 0  # threads that trace
_here = threading.local()


@contextlib.contextmanager
def numpy_calls() -> Iterator[list[str]]:
    """While it lasts, NumPy functions on the tensors of a trace are those of ``tf.experimental.numpy``.

    What NumPy looks for on an argument's class is set on that of traced tensors, and taken away again whatever happens.
    Other threads, which see the class too, find that nothing has changed. Eager tensors are left alone.

    Yields
    ------
    list of str
        Names of the functions that were called so far.
    """
    global _tracing
    kind = _symbolic()
    before, _here.called = getattr(_here, "called", None), []
    counted = False
    try:
        with _lock:
            _tracing, counted = _tracing + 1, True
            if _tracing == 1:
                for name, call in zip(_NAMES, (_array_function, _array_ufunc), strict=True):
                    setattr(kind, name, call)
        yield _here.called
    finally:
        _here.called = before
        with _lock:
            _tracing -= counted
            if _tracing == 0:
                for name in _NAMES:
                    if name in vars(kind):
                        delattr(kind, name)


@functools.cache
def _symbolic() -> Any:
    """Class of the tensors of a trace."""
    with tf.Graph().as_default():
        return type(tf.constant(0.0))


def _array_function(self: Any, function: Any, types: Any, arguments: Any, options: Any) -> Any:
    called = getattr(_here, "called", None)
    if called is None:
        return function._implementation(*arguments, **options)
    name = function.__name__
    if name in ("shape", "ndim") and arguments[0].shape.rank is not None:
        return tuple(arguments[0].shape) if name == "shape" else arguments[0].shape.rank
    ours = getattr(tf.experimental.numpy, name, None)
    if ours is None:
        return NotImplemented
    called.append(name)
    return ours(*arguments, **options)


def _array_ufunc(self: Any, function: Any, method: str, *inputs: Any, **options: Any) -> Any:
    if method != "__call__" or options:
        return NotImplemented
    if function in _OPERATORS and len(inputs) == 2:
        mine, reflected = _OPERATORS[function]
        left, right = inputs
        return getattr(left, mine)(right) if tf.is_tensor(left) else getattr(right, reflected)(left)
    called = getattr(_here, "called", None)
    if called is None:
        return function(*(np.asarray(one) if tf.is_tensor(one) else one for one in inputs))
    ours = getattr(tf.experimental.numpy, function.__name__, None)
    if ours is None:
        return NotImplemented
    called.append(function.__name__)
    return ours(*inputs)
