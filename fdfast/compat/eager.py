"""`tf.test.compute_gradient` where TensorFlow runs eagerly: one call of f and one backward pass, each at many rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.eager import imperative_grad
from tensorflow.python.ops import gradient_checker_v2

from fdfast.compat.numeric import Directions, columns_of, displaced, flat, reals
from fdfast.functions import as_array, dense, first_line, rows_at_once, same_values
from fdfast.operations import Unmapped
from fdfast.tape import Moving, NoTape, Recording, key_of, replayed, row_bytes

Array = npt.NDArray[Any]
#: Fewer calls of f, or backward passes, than this are made one by one: each costs some 15 us an operation, at many rows
#: together 40 us, and what was recorded is tried at another point first, by a call and a run.
FEW_CALLS, FEW_PASSES = 8, 4
_FAILURES = (Unmapped, NoTape, tf.errors.OpError, ValueError, TypeError, AttributeError, KeyError, NotImplementedError)
_log = logging.getLogger("fdfast")


class Eager:
    """f and its derivative at a point, recorded once.

    Parameters
    ----------
    f : callable
    xs : sequence of tensor
        No two of them the same object.

    Attributes
    ----------
    value : object
        What f returns.
    """

    def __init__(self, f: Callable[..., Any], xs: Sequence[Any]) -> None:
        self._f, self._xs = f, list(xs)
        self._recording = Recording()
        with tf.GradientTape(persistent=True) as self._tape, self._recording:
            self._tape.watch([x for x in self._xs if x.dtype.is_floating or x.dtype.is_complex])
            self.value = f(*self._xs)
            if tf.is_tensor(self.value):
                self._y = tf.identity(dense(self.value))

    @property
    def keeps_state(self) -> bool:
        """Whether f draws random numbers or writes to variables: then it is called as often as TensorFlow does."""
        try:
            self._recording.require_pure()
        except Unmapped as error:
            _log.info(f"f was called and differentiated as TensorFlow does it: {error}")
            return True
        return False

    def theoretical(self) -> list[Array]:
        """Jacobians of shape (outputs, inputs), in the real dtype of each argument; complex numbers are two reals."""
        rows = Directions(self._y)
        out = [np.zeros((rows.count, reals(x)), x.dtype.real_dtype.as_numpy_dtype) for x in self._xs]
        if rows.count > FEW_PASSES:
            try:
                self._together(rows, out)
                return out
            except _FAILURES as error:
                _log.info(f"f was differentiated in a loop, once per output: {first_line(error)}")
        for i in range(rows.count):
            for jacobian, found in zip(out, self._pull(rows.block(range(i, i + 1))[0]), strict=True):
                if found is not None:
                    jacobian[i] = flat(as_array(found))
        return out

    def _pull(self, dy: Any) -> list[Any]:
        # What GradientTape.gradient does, without 0.3 ms of its handling of nested structures.
        dy = tf.convert_to_tensor(dy)
        found: list[Any] = imperative_grad.imperative_grad(self._tape._tape, [self._y], self._xs, output_gradients=[dy])
        return [None if g is None else dense(g) for g in found]

    def _together(self, rows: Directions, out: list[Array]) -> None:
        weights = np.random.default_rng(0).uniform(0.5, 1.5, rows.count)
        dy = tf.identity(rows.shaped(weights))
        with Recording() as recording:
            found = self._pull(dy)
        last = self._pull(rows.block(range(rows.count - 1, rows.count))[0])
        connected = [i for i, one in enumerate(found) if one is not None]
        moving = Moving(recording.steps, key_of(dy), [key_of(found[i]) for i in connected])
        tensors = {**self._recording.tensors, **recording.tensors}
        at_once = rows_at_once(row_bytes(moving.made, tensors), rows.count)
        for start in range(0, rows.count, at_once):
            some = range(start, min(start + at_once, rows.count))
            for i, found_rows in zip(connected, moving(rows.block(some), tensors), strict=True):
                if found_rows is not None:
                    out[i][some.start : some.stop] = flat(found_rows.numpy(), keep=1)
                elif not same_values(found[i], last[i]):
                    raise Unmapped("its gradient depends on Python")
                else:
                    out[i][some.start : some.stop] = flat(as_array(found[i]))
        for i in connected:
            if not same_values(out[i][-1], flat(as_array(last[i]))):
                raise Unmapped("its gradient is another one at another gradient upstream")

    def numerical(self, delta: float) -> list[Array]:
        """Central differences, of the shape of `theoretical`."""
        value = as_array(self._y)
        found, trusted = [], None
        for place, x in enumerate(self._xs):
            point, columns = as_array(x), reals(x)
            build = displaced(flat(point), point, delta)
            moving = None
            if 2 * columns > FEW_CALLS:
                trusted = self._trusted(delta) if trusted is None else trusted
                moving = self._moving(place) if trusted else None
            blocks = self._blocks(moving, build, place, 2 * columns, value)
            try:
                jacobian = columns_of(blocks, x.dtype, self._y.dtype, value, columns, delta)
            except _FAILURES as error:
                if moving is None:
                    raise
                _log.info(f"f was called in a loop, once per row: {first_line(error)}")
                blocks = self._blocks(None, build, place, 2 * columns, value)
                jacobian = columns_of(blocks, x.dtype, self._y.dtype, value, columns, delta)
            found.append(jacobian)
        return found

    def _trusted(self, delta: float) -> bool:
        """Whether what was recorded gives what f gives, to the last digits, where all elements are displaced a little.

        If not, values went through Python or NumPy, or f draws random numbers.
        """
        draw = np.random.default_rng(0)
        moved = []
        for x in self._xs:
            point = as_array(x)
            step = delta * draw.uniform(0.5, 1.0, flat(point).shape) * draw.choice([-1, 1], flat(point).shape)
            moved.append(
                tf.constant((flat(point) + step).astype(flat(point).dtype).view(point.dtype).reshape(point.shape))
            )
        try:
            exact = as_array(self._f(*moved))
            given = dict(zip(map(key_of, self._xs), moved, strict=True))
            again = as_array(replayed(self._recording.steps, given, key_of(self._y), self._recording.tensors))
        except Exception as error:
            _log.info(f"f was called in a loop, once per row: {first_line(error)}")
            return False
        if same_digits(again, exact):
            return True
        _log.info("f was called in a loop, once per row: its operations alone give other values, beside x")
        return False

    def _moving(self, place: int) -> Moving:
        return Moving(self._recording.steps, key_of(self._xs[place]), [key_of(self._y)])

    def _blocks(
        self, moving: Moving | None, build: Callable[[int, int], Array], place: int, count: int, value: Array
    ) -> Iterator[tuple[int, Array]]:
        if moving is None:
            yield from self._loop(build, place, count)
        elif not moving.moves[0]:
            yield 0, np.broadcast_to(value, (count, *value.shape))
        else:
            at_once = rows_at_once(row_bytes(moving.made, self._recording.tensors), count)
            for start in range(0, count, at_once):
                (found,) = moving(build(start, min(start + at_once, count)), self._recording.tensors)
                yield start, found.numpy()

    def _loop(self, build: Callable[[int, int], Array], place: int, count: int) -> Iterator[tuple[int, Array]]:
        tensors = list(self._xs)
        for start in range(count):
            tensors[place] = tf.constant(build(start, start + 1)[0])
            yield start, as_array(self._f(*tensors))[None]


def same_digits(a: Array, b: Array) -> bool:
    """Whether two arrays agree to some units in the last place of each element."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    wide, exact = (one.astype(np.complex128) for one in (a, b))
    unit = 2.0**-7 if a.dtype.name == "bfloat16" else np.finfo(a.dtype).eps
    with np.errstate(invalid="ignore"):
        gap = np.abs(wide - exact)
        return bool(((gap <= 8 * unit * np.abs(exact)) | (wide == exact) | (np.isnan(wide) & np.isnan(exact))).all())


def as_tensorflow_does(
    f: Callable[..., Any], xs: Sequence[Any], value: Any, delta: float
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """What is left to do after the first call of f, by TensorFlow's own function."""
    dtype = tf.as_dtype(value.dtype)
    pairs = [gradient_checker_v2._compute_gradient(f, value.shape, dtype, xs, i, delta) for i in range(len(xs))]
    theoretical, numerical = zip(*pairs, strict=True)
    return theoretical, numerical
