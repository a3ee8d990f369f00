"""One check by either checker: eagerly, in a caller's graph and session, and by TensorFlow 1's signature."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import tensorflow as tf
from tensorflow.python.ops import gradient_checker, gradient_checker_v2

from bench.compat.cases import Case
from fdfast.compat import tensorflow as ours
from fdfast.compat import tensorflow_v1

#: What a call gives: [theoretical and numerical Jacobians, (outputs, inputs) each], or its exception.
Outcome = Any
_SECOND = {"original": gradient_checker_v2.compute_gradient, "ours": ours.compute_gradient}
_FIRST = {"original": gradient_checker.compute_gradient, "ours": tensorflow_v1.compute_gradient}


def eager(which: str, case: Case) -> tuple[Callable[[], Outcome], contextlib.AbstractContextManager[Any]]:
    """``tf.test.compute_gradient`` as TensorFlow 2 has it."""
    return lambda: _SECOND[which](_fresh(case), case.x), contextlib.nullcontext()


def graph(which: str, case: Case) -> tuple[Callable[[], Outcome], contextlib.AbstractContextManager[Any]]:
    """The same call where a graph and a session are the caller's."""
    return lambda: _SECOND[which](_fresh(case), case.x), _session()


def v1(which: str, case: Case) -> tuple[Callable[[], Outcome], contextlib.AbstractContextManager[Any]]:
    """``tf.compat.v1.test.compute_gradient``, of tensors of a graph."""

    with contextlib.suppress(Exception):  # what f raises, it raises below
        shape = np.shape(case.f(*map(tf.constant, case.x)))

    def call() -> Outcome:
        xs = [tf.constant(one) for one in case.x]
        y = case.f(*xs)
        with _silenced():
            found = _FIRST[which](xs, [one.shape for one in case.x], y, shape, list(case.x))
        return [tuple(jacobian.T for jacobian in side) for side in zip(*found, strict=True)]

    return call, _session()


MODES = {"eager": eager, "graph": graph, "v1": v1}


def _fresh(case: Case) -> Callable[..., Any]:
    """A function that nothing is remembered of."""
    return lambda *xs: case.f(*xs)


@contextlib.contextmanager
def _session() -> Iterator[None]:
    with tf.Graph().as_default(), tf.compat.v1.Session().as_default():
        yield


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """TensorFlow says of its own function that it is deprecated, at every first call of a process."""
    level = tf.get_logger().level
    tf.get_logger().setLevel("ERROR")
    try:
        yield
    finally:
        tf.get_logger().setLevel(level)


def outcome(call: Callable[[], Outcome]) -> Outcome:
    """What a call gives, or its exception."""
    with np.errstate(all="ignore"):
        try:
            return call()
        except Exception as error:
            return error


def difference(mine: Outcome, theirs: Outcome, case: Case, delta: float) -> str:
    """In which way two outcomes differ by more than rounding; empty if they do not."""
    if isinstance(theirs, Exception) and not isinstance(mine, Exception):
        # In a graph TensorFlow's own stumbles over slices and unknown ranks; what it gives eagerly counts.
        theirs = outcome(eager("original", case)[0])
    if isinstance(theirs, Exception) or isinstance(mine, Exception):
        return "" if type(mine) is type(theirs) else f"{theirs!r:.60} / {mine!r:.60}"
    value = np.asarray(case.f(*map(tf.convert_to_tensor, case.x)))
    size = np.abs(value[np.isfinite(value)].astype(np.complex128)).max(initial=1.0)
    for side, (ones, others) in enumerate(zip(mine, theirs, strict=True)):
        for a, b in zip(ones, others, strict=True):
            if (a.shape, a.dtype) != (b.shape, b.dtype):
                return f"{b.shape} {b.dtype} / {a.shape} {a.dtype}"
            unit = max(float(ml_dtypes.finfo(d).eps) for d in (a.dtype, value.real.dtype))
            wide, exact = a.astype(np.float64), b.astype(np.float64)
            steep = np.abs(exact[np.isfinite(exact)]).max(initial=1.0)
            # Autodiff: sums in another order. Differences: some units in the last place of f, over 2 delta.
            limit = 20 * unit * (steep if side == 0 else size / delta)
            if not np.allclose(wide, exact, rtol=0, atol=limit, equal_nan=True):
                gap = np.nanmax(np.abs(wide - exact))
                return f"{('theoretical', 'numerical')[side]} Jacobians differ by {gap:.2g}, limit {limit:.2g}"
    return ""
