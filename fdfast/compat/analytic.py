"""The Jacobian that TensorFlow's own differentiation gives: all rows by one traced call where that pays."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.eager import imperative_grad

from fdfast.functions import (
    BATCHED_ROW,
    BUDGET,
    PROBED,
    SINGLE_ROW,
    STACKED_ROW,
    Cost,
    Mapped,
    Single,
    Stacked,
    agreement,
    as_array,
    cheapest,
    dense,
    forget,
    known,
    pays,
    refuse,
    remember,
    rows_at_once,
)
from fdfast.operations import Unmapped

Array = npt.NDArray[Any]
#: What tracing for all rows costs, in seconds, and beyond that in backward passes. Fitted, as `SINGLE` is, to the 49
#: functions of tests/test_compat_suite.py: a ReLU takes 0.1 s at 50 us a pass, a convolution 0.15 s at 0.7 ms.
TRACING, TRACING_CALLS = 0.07, 45
#: The same where one row is traced.
SINGLE = Cost((0.01, 8), SINGLE_ROW)
#: The same where the operations of that trace run at many rows.
STACKED = Cost((0.011, 14), STACKED_ROW)
#: Reason why what was traced is not used.
_OTHER = "its traced form has other derivatives at x; it may draw random numbers or keep state in Python"


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

    def unit(self, row: Any) -> Any:
        """The unit vector whose number is the tensor `row`."""
        return self.shaped(tf.one_hot(row, self.count, dtype=self._dtype.real_dtype))

    def units(self, some: range) -> list[Any]:
        """Some of the unit vectors."""
        return list(tf.unstack(tf.constant(self.block(some)), num=len(some)))

    def block(self, some: range) -> Array:
        """Some of the unit vectors, stacked."""
        block = np.eye(len(some), self.count, some.start, self._dtype.real_dtype.as_numpy_dtype)
        whole: Array = block.view(self._dtype.as_numpy_dtype).reshape(len(some), *self._shape)
        return whole


class Autodiff:
    """One evaluation of f under a tape, and its Jacobians from that tape.

    Parameters
    ----------
    f : callable
    xs : sequence of tensor

    Attributes
    ----------
    value : tensor or array
        What f returns.
    notes : list of str
    """

    def __init__(self, f: Callable[..., Any], xs: Sequence[Any]) -> None:
        self._f, self._xs = f, list(xs)
        self.notes: list[str] = []
        self._once = False
        self.value, self._y, self._tape = self._record()

    def jacobians(self) -> list[Array]:
        """Jacobians of shape (outputs, inputs), in the real dtype of each argument; complex numbers are two reals."""
        rows = Directions(self._y)
        out = [np.zeros((rows.count, reals(x)), x.dtype.real_dtype.as_numpy_dtype) for x in self._xs]
        if rows.count == 0:
            self._check_empty()
            return out
        specs = tuple((tuple(x.shape), x.dtype.name) for x in self._xs)
        key, single, stacked = ("autodiff", specs), ("autodiff, single", specs), ("autodiff, stacked", specs)
        traced = known(self._f, key) if rows.count > 1 else None
        if traced is None and isinstance(known(self._f, stacked), Stacked) and self._stacked(rows, 0, specs, out):
            return out
        way, done, seconds = "batched", 0, 0.0
        if traced is None:
            done, seconds = self._timed(rows, out)
            way = self._way(rows.count - done, seconds, specs)
        if way == "stacked":
            if self._stacked(rows, done, specs, out):
                return out
            way = self._way(rows.count - done, seconds, specs, stacked=False)
        if way == "loop":
            self._eager(rows, range(done, rows.count), out)
            return out
        try:
            if not (way == "single" and self._alone(rows, single, done, seconds, out)):
                self._traced(rows, key, traced, out)
        except Unmapped as error:
            name = getattr(self._f, "__name__", type(self._f).__name__)
            self.notes.append(f"{name} was differentiated in a loop, once per output: {error}")
            self._eager(rows, range(rows.count), out)
        return out

    def _record(self) -> tuple[Any, Any, tf.GradientTape]:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x for x in self._xs if x.dtype.is_floating or x.dtype.is_complex])
            value = self._f(*self._xs)
            return value, None if value is None else tf.identity(dense(value)), tape

    def _gradient(self, dy: Any) -> list[Any]:
        # What GradientTape.gradient does, without 0.3 ms of its handling of nested structures.
        y, tape = (self._y, self._tape) if not self._once else self._record()[1:]
        found: list[Any] = imperative_grad.imperative_grad(tape._tape, [y], self._xs, output_gradients=[dy])
        return found

    def _pull(self, dy: Any) -> list[Array | None]:
        try:
            found = self._gradient(dy)
        except Exception:
            if self._once:
                raise
            # Some gradients work but once on a tape, as that of tf.py_function: f is called for each of them.
            self._once = True
            found = self._gradient(dy)
        return [None if g is None else as_array(g) for g in found]

    def _timed(self, rows: Directions, out: list[Array]) -> tuple[int, float]:
        pulled: list[list[Array | None]] = []
        fastest, spent = float("inf"), 0.0
        for dy in rows.units(range(min(rows.count, 5))):
            start = time.perf_counter()
            pulled.append(self._pull(dy))
            seconds = time.perf_counter() - start
            fastest, spent = min(fastest, seconds), spent + seconds
            if len(pulled) > 1 and spent > 2e-3:  # the first one is not warm
                break
        self._store(range(len(pulled)), pulled, out)
        return len(pulled), fastest

    def _eager(self, rows: Directions, some: range, out: list[Array], form: Single | None = None) -> None:
        many = max(1, (1 << 22) // rows.count)  # unit vectors take rows.count numbers each
        for start in range(some.start, some.stop, many):
            block = range(start, min(start + many, some.stop))
            pull = self._pull if form is None else partial(_pull_traced, form, self._xs)
            self._store(block, [pull(dy) for dy in rows.units(block)], out)

    @staticmethod
    def _store(some: range, pulled: list[list[Array | None]], out: list[Array]) -> None:
        for jacobian, found in zip(out, zip(*pulled, strict=True), strict=True):
            if found[0] is not None:  # what f does not depend on, it does for no output
                jacobian[some.start : some.stop] = flat(np.stack(found), keep=1)

    def _way(self, rows: int, seconds: float, specs: object, *, stacked: bool = True) -> str:
        form = known(self._f, ("autodiff, single", specs))
        form = None if isinstance(form, Unmapped) else form
        if isinstance(known(self._f, ("autodiff, stacked", specs)), Unmapped):
            stacked = False
        return cheapest(rows, seconds, SINGLE, _batched(), form, STACKED if stacked else None)

    def _stacked(self, rows: Directions, done: int, specs: object, out: list[Array]) -> bool:
        """Take all rows through the operations of a trace of one backward pass; say whether that can be done."""
        key = ("autodiff, stacked", specs)
        old = known(self._f, key)
        weights, wanted = self._combination(rows)
        row_bytes = max([self._y.dtype.size * rows.count, *(reals(x) * x.dtype.size for x in self._xs)])
        at_once = rows_at_once(row_bytes, rows.count)
        try:
            for form in (old, None) if old is not None else (None,):
                form = form or self._stack(key, ("autodiff, single", specs))
                many = max(1, min(at_once, BUDGET // form.row_bytes))
                run = form.bind([self._y, *self._xs])
                for start in range(done, rows.count, many):
                    some = range(start, min(start + many, rows.count))
                    for jacobian, found in zip(out, run(rows.block(some)), strict=True):
                        jacobian[some.start : some.stop] = flat(found.numpy(), keep=1)
                if all(_vouches(weights, jacobian, row) for jacobian, row in zip(out, wanted, strict=True)):
                    return True
                forget(self._f)
            raise Unmapped(_OTHER)
        except Unmapped as error:
            refuse(self._f, key, error)
            return False

    def _stack(self, key: object, single: object) -> Stacked:
        form = known(self._f, single)
        if isinstance(form, Unmapped):
            raise form
        form = form or remember(self._f, single, self._trace_single)
        return remember(self._f, key, lambda _: Stacked(form.traced, 0))

    def _alone(self, rows: Directions, key: object, done: int, seconds: float, out: list[Array]) -> bool:
        """Take rows one by one through a trace of one; say whether that was fast enough to take all."""
        old = known(self._f, key)
        if isinstance(old, Unmapped):
            raise old
        weights, wanted = self._combination(rows)
        for form in (old, None) if old is not None else (None,):
            form = form or remember(self._f, key, self._trace_single)
            self._eager(rows, range(done, done + 1), out, form)  # the first one is not warm
            end = min(done + 1 + PROBED, rows.count)
            if end > done + 1:
                start = time.perf_counter()
                self._eager(rows, range(done + 1, end), out, form)
                form.seconds = (time.perf_counter() - start) / (end - done - 1)
            if not pays(rows.count - end, form, seconds, _batched()):
                return False
            self._eager(rows, range(end, rows.count), out, form)
            if all(_vouches(weights, jacobian, row) for jacobian, row in zip(out, wanted, strict=True)):
                return True
            forget(self._f)
        raise Unmapped(_OTHER)

    def _combination(self, rows: Directions) -> tuple[Array, list[Array | None]]:
        """Random weights, and the sum of all rows with these weights, taken eagerly: it vouches for each one."""
        weights = np.random.default_rng(0).uniform(-1, 1, rows.count)
        return weights, self._pull(rows.shaped(weights))

    def _traced(self, rows: Directions, key: object, traced: Any, out: list[Array]) -> None:
        if isinstance(traced, Unmapped):
            raise traced
        weights, wanted = self._combination(rows)
        for mapped in (traced, None) if traced is not None else (None,):
            mapped = mapped or remember(self._f, key, self._trace)
            for start in range(0, rows.count, mapped.count):
                some = np.arange(start, min(start + mapped.count, rows.count), dtype=np.int32)
                for jacobian, found in zip(out, mapped(some, self._xs), strict=True):
                    jacobian[some] = flat(found, keep=1)
            if all(_vouches(weights, jacobian, row) for jacobian, row in zip(out, wanted, strict=True)):
                return
            forget(self._f)
        raise Unmapped(_OTHER)

    def _trace_single(self, target: Callable[[], Any]) -> Single:
        shape = self._y.shape

        def pull(dy: Any, *xs: Any) -> list[Any]:
            with tf.GradientTape() as tape:
                tape.watch(xs)
                y = tf.ensure_shape(dense(target()(*xs)), shape)
            zero = tf.UnconnectedGradients.ZERO
            return [dense(g) for g in tape.gradient(y, xs, dy, unconnected_gradients=zero)]

        return Single(pull, [tf.TensorSpec(t.shape, t.dtype) for t in (self._y, *self._xs)])

    def _trace(self, target: Callable[[], Any]) -> Mapped:
        shape = self._y.shape

        def make(*xs: Any) -> Callable[[Any], Any]:
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(xs)
                y = tf.ensure_shape(dense(target()(*xs)), shape)
            rows = Directions(y)

            def pull(row: Any) -> Any:
                zero = tf.UnconnectedGradients.ZERO
                return [dense(g) for g in tape.gradient(y, xs, rows.unit(row), unconnected_gradients=zero)]

            return pull

        specs = [tf.TensorSpec(x.shape, x.dtype) for x in self._xs]
        count = Directions(self._y).count
        row_bytes = sum(reals(x) * x.dtype.size for x in self._xs)
        at_once = rows_at_once(row_bytes, count)
        mapped = Mapped(make, tf.TensorSpec([], tf.int32), specs, at_once)
        if mapped.row_bytes * at_once <= BUDGET:
            return mapped
        return Mapped(make, tf.TensorSpec([], tf.int32), specs, max(1, BUDGET // mapped.row_bytes))

    def _check_empty(self) -> None:
        for x, g in zip(self._xs, self._gradient(tf.zeros_like(self._y)), strict=True):
            if g is None:
                continue
            g = dense(g)
            if g.shape != x.shape:
                raise ValueError(f"f returns an empty result, and its gradient has shape {g.shape}, not {x.shape}")
            if np.any(g.numpy()):
                raise ValueError("f returns an empty result, but its gradient is not zero")


def reals(tensor: Any) -> int:
    """Number of elements, complex ones counted twice."""
    return int(np.prod(tensor.shape, dtype=np.int64)) * (2 if tensor.dtype.is_complex else 1)


def flat(values: Array, keep: int = 0) -> Array:
    """View an array as real numbers, all axes but the first `keep` in one."""
    whole = np.ascontiguousarray(values).reshape(*values.shape[:keep], math.prod(values.shape[keep:]))
    return whole.view(whole.real.dtype) if np.iscomplexobj(whole) else whole


def _batched() -> Cost:
    return Cost((TRACING, TRACING_CALLS), BATCHED_ROW)


def _pull_traced(form: Single, xs: Sequence[Any], dy: Any) -> list[Array | None]:
    return [g.numpy() for g in form(dy, *xs)]


def _vouches(weights: Array, jacobian: Array, row: Array | None) -> bool:
    found = np.zeros((2, jacobian.shape[1]))
    some = max(1, (1 << 17) // max(1, jacobian.shape[1]))  # rows that fit into the cache
    for start in range(0, len(jacobian), some):
        wide, part = jacobian[start : start + some].astype(np.float64), weights[start : start + some]
        found[0] += part @ wide
        found[1] += np.abs(part) @ np.abs(wide, out=wide)
    wanted = np.zeros(len(found[0])) if row is None else flat(row).astype(np.float64)
    return agreement(found[0], wanted, found[1].max(initial=0.0), jacobian.dtype)
