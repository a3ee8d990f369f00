"""A callable as an objective: traced over rows, over one example after the other, or called as it is."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import traceback
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.functions.lifted import lifted_rows
from fdfast.functions.objective import Array, LoopObjective, TracedObjective
from fdfast.functions.over_rows import OverRows, first_line, same_values
from fdfast.functions.returned import NotOneNumber, check_one_piece, check_returned, check_takes
from fdfast.functions.row_function import RowFunction, trace
from fdfast.moves import Precision
from fdfast.operations import Unmapped
from fdfast.tape import NoTape

_NOT_THE_USER_S = (
    "site-packages",
    f"{os.sep}fdfast{os.sep}functions",
    f"{os.sep}fdfast{os.sep}tape",
    "<",
    "__autograph",
)


def callable_objective(
    f: Callable[..., Any],
    kwargs: dict[str, Any],
    points: Array,
    shape: tuple[int, ...],
    *,
    batched: bool,
    precision: Precision = "auto",
) -> TracedObjective | LoopObjective:
    """Objective of a callable: traced if it is a TensorFlow function of rows or of one example, else called as it is.

    A TensorFlow function of one example goes over all rows by `tf.vectorized_map`; if it cannot be traced, or its
    traced form gives another value at the first example than itself, it is called row by row, and a note says so.

    What f computes in a narrower precision than float64, in a model that it holds or by itself, is run again in
    float64, operation by operation.

    Parameters
    ----------
    f : callable
        Of one example, returning a scalar; or with `batched` of rows (rows, *shape), returning (rows,). It may
        take TensorFlow tensors or NumPy arrays; which one is found by calling it once with the first example.
    kwargs : dict
        Further arguments of f.
    points : ndarray, shape (examples, size)
    shape : tuple of int
    batched : bool
    precision : {"auto", "float32", "float64"}
        ``"float32"`` evaluates f as it is; the points are in it.
    """
    dtype = points.dtype
    first = points[:1].reshape(1, *shape) if batched else points[0].reshape(shape)
    value, refused = _tensor_of(f, kwargs, first)
    if value is None:
        dtype = np.dtype(np.float64) if precision == "float64" else dtype
        return LoopObjective(f, kwargs, shape, dtype, batched=batched, tensors=False, refused=refused)
    row_bytes = 64 * math.prod(shape) * dtype.itemsize
    over = OverRows()

    def one(f: Callable[..., Any], row: Any) -> Any:
        return _scalar_tensor(f(row, **kwargs), shape)

    def by_rows(get: Callable[[], Callable[..., Any]]) -> RowFunction:
        def of_rows(rows: Any, example: Any, context: Any) -> Any:
            return get()(rows, **kwargs) if batched else over(functools.partial(one, get()), rows)

        def singly(rows: Any, example: Any, context: Any) -> Any:  # for the gradient: f as it is, not its batched form
            return tf.stack([one(get(), row) for row in tf.unstack(rows)])

        return RowFunction(of_rows, shape, dtype, (), singly=None if batched else singly)

    def alive() -> Callable[..., Any]:
        found: Callable[..., Any] | None = weak()
        assert found is not None, "the function was deleted during its own evaluation"
        return found

    if kwargs or not isinstance(f, tf.types.experimental.PolymorphicFunction):
        # Traced anew at each call: f may read what has changed since, a constant or a helper that was mended.
        traced = by_rows(lambda: f)
    else:
        weak = weakref.ref(f)
        traced = trace(f, None, (shape, dtype.name, batched), lambda: by_rows(alive))
    found = TracedObjective(traced, (), shape, row_bytes, _left_as_it_is(f, kwargs, first, value))
    if not batched:
        value = _scalar_tensor(value, shape)
        if not value.dtype.is_floating:
            return LoopObjective(f, kwargs, shape, dtype, batched=False, tensors=True)
    try:
        wide = None if precision == "float32" else lifted_rows(traced, ())
        if not batched:
            # Four rows: a single one may be broadcast.
            rows, example = tf.constant(np.stack([first] * 4)), np.zeros(4, np.int32)
            own = found.tensor_values(rows, example, 4) if wide is None else wide.own_values(rows, example, ())
            if not same_values(tf.cast(own[0], value.dtype), value):
                raise Unmapped(
                    "its traced form gives another value at x; it may draw random numbers, keep state in Python, or "
                    "use an operation that TensorFlow batches wrongly"
                )
    except Exception as error:
        if batched:
            raise
        return LoopObjective(f, kwargs, shape, dtype, batched=False, tensors=True, why=_where(f, error))
    if wide is not None:
        try:
            found = found.widened(points)
        except NoTape as error:
            return _narrow(f, kwargs, points, shape, batched, precision, wide.own, error)
    elif batched:
        found.tensor_values(tf.constant(first), np.zeros(1, np.int32), 1)
    if over.row_bytes:
        traced.row_bytes = over.row_bytes
    found.row_bytes = traced.row_bytes or row_bytes
    found.notes += _numpy_note(traced.numpy_calls)
    if over.looped:
        found.notes.append(
            f"{', '.join(over.looped)} cannot be batched by TensorFlow and ran row by row, inside the traced function"
        )
    return found


def _narrow(
    f: Callable[..., Any],
    kwargs: dict[str, Any],
    points: Array,
    shape: tuple[int, ...],
    batched: bool,
    precision: Precision,
    own: np.dtype[Any],
    error: NoTape,
) -> TracedObjective | LoopObjective:
    """The objective of a function that computes in less than float64 and cannot be run in it: rows in what it has."""
    why = f"f computes in {own.name}, and cannot be run in float64: {error}"
    if precision == "float64":
        raise ValueError(f"precision='float64' is out of reach: {why}. precision='auto' checks f to what it has")
    rows = points if own == np.float64 else points.astype(np.float32)
    found = callable_objective(f, kwargs, rows, shape, batched=batched, precision="float32")
    found.notes.append(why)
    return found


_taking: weakref.WeakSet[Any] = weakref.WeakSet()


def takes_tensors(f: Callable[..., Any], kwargs: dict[str, Any], x: Array) -> bool:
    """Whether f, called with a tensor, returns one; what has done so is not asked again."""
    with contextlib.suppress(TypeError):
        if f in _taking:
            return True
    try:
        found = tf.is_tensor(f(tf.constant(x), **kwargs))
    except Exception:
        return False
    if found:
        with contextlib.suppress(TypeError):  # of those that take no weak reference, each time
            _taking.add(f)
    return bool(found)


def said_of(f: Callable[..., Any], kwargs: dict[str, Any], x: Array, numpy_calls: Sequence[str]) -> list[str]:
    """What is to be said of a function that was traced: that NumPy's became TensorFlow's own, that a trace is old."""
    first = tf.constant(x)
    kept = isinstance(f, tf.types.experimental.PolymorphicFunction)
    return [*(_left_as_it_is(f, kwargs, x, f(first, **kwargs)) if kept else []), *_numpy_note(numpy_calls)]


def _numpy_note(numpy_calls: Sequence[str]) -> list[str]:
    if not numpy_calls:
        return []
    return [
        f"NumPy's {', '.join(numpy_calls)} became TensorFlow's own while f was traced; called eagerly on "
        "tensors "
        "it returns arrays, which cut a GradientTape: tf.experimental.numpy has the same functions"
    ]


def _left_as_it_is(f: Callable[..., Any], kwargs: dict[str, Any], first: Array, value: Any) -> list[str]:
    """Say that TensorFlow keeps a trace of f which is not what f computes by now: a note, or none."""
    if not isinstance(f, tf.types.experimental.PolymorphicFunction):
        return []
    try:
        now = f.python_function(tf.constant(first), **kwargs)
    except Exception:  # written for graphs only
        return []
    if same_values(now, value):
        return []
    return [
        "f is a tf.function, which TensorFlow has traced before: the trace was checked, and at x it gives "
        f"{_shown(value)}, where the Python function gives {_shown(now)} by now. Pass f.python_function, or trace it "
        "anew"
    ]


def _shown(value: Any) -> str:
    return np.array2string(np.asarray(value).reshape(-1)[:1], precision=6)[1:-1]


def _scalar_tensor(value: Any, shape: tuple[int, ...]) -> Any:
    """The one number that f returns for one x."""
    value = tf.convert_to_tensor(value)
    if value.shape.num_elements() not in (1, None):
        raise NotOneNumber(
            f"f must return a scalar for one x of shape {shape}; it returned shape {tuple(value.shape)}. For a "
            "function of rows pass batched=True, for several outputs use fdfast.jacobian"
        )
    return tf.reshape(value, [])


def _tensor_of(f: Callable[..., Any], kwargs: dict[str, Any], first: Array) -> tuple[Any, str]:
    """What f returns for a tensor, if that is a tensor; else None, and why it takes none."""
    try:
        value = f(tf.constant(first), **kwargs)
    except Exception as error:
        if first.dtype == np.float64:
            check_takes(lambda dtype: f(tf.constant(first, dtype), **kwargs), error)
        # If it takes no arrays either, that error is the one to show: TensorFlow functions take arrays.
        f(first.copy(), **kwargs)
        return None, f"f takes arrays, but no tensors ({type(error).__name__}: {first_line(error)})"
    check_one_piece(value)
    check_returned(value)
    return (value, "") if tf.is_tensor(value) else (None, "")


def _where(f: Callable[..., Any], error: Exception) -> str:
    """What went wrong when f was traced, and the last line of the user's own code that it went through."""
    said = first_line(error)
    places: list[Any] = [
        (frame.filename, frame.lineno, frame.line) for frame in traceback.extract_tb(error.__traceback__)
    ]
    # AutoGraph runs a copy of f, and writes the places in f itself into the message.
    places += re.findall(r'File "([^"]+)", line (\d+), in \w+ +\*\s+(.+)', str(error))
    own = [one for one in places if one[2] and not any(part in one[0] for part in _NOT_THE_USER_S)]
    if not own:
        return said
    path, number, line = own[-1]
    return f"{said}, at {os.path.basename(path)}:{number}, `{line.strip()}`"
