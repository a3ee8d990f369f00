"""`compute_gradient` in a caller's graph and session: f is built once and run once, then taken at many rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.eager import context

from fdfast.compat.numeric import Directions, columns_of, displaced, flat
from fdfast.functions import dense, first_line, rows_at_once, same_values
from fdfast.operations import Unmapped
from fdfast.tape import InRows, Moving, NoTape, Step, changes, evaluated, row_bytes

Array = npt.NDArray[Any]
_FAILURES = (Unmapped, NoTape, tf.errors.OpError, ValueError, TypeError, AttributeError, KeyError, NotImplementedError)
#: What reads the state of a session.
_OF_SESSIONS = ("ReadVariableOp", "VariableV2", "Variable", "Placeholder", "PlaceholderWithDefault")
_log = logging.getLogger("fdfast")


def compute_in_graph(
    f: Callable[..., Any], x: Sequence[Any], delta: float, check: Callable[[Sequence[Any], Any], None]
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """See `fdfast.compat.tensorflow.compute_gradient`; needs a default session, as TensorFlow's own does."""
    xs = [tf.convert_to_tensor(value) for value in x]
    session = tf.compat.v1.get_default_session()
    points = [tf.get_static_value(one) for one in xs]
    if any(point is None for point in points):
        points = session.run(xs)
    feeds = [tf.compat.v1.placeholder(t.dtype, t.shape) for t in xs]
    with tf.GradientTape() as tape:  # as TensorFlow's own: tf.gradients does other checks
        tape.watch([one for one in feeds if one.dtype.is_floating or one.dtype.is_complex])
        y = dense(f(*feeds))
    check([t.dtype for t in xs], y.dtype)
    dy = tf.compat.v1.placeholder(y.dtype, y.shape)
    # TensorFlow may change the operations of f when it adds their gradient, which a session that has run them does not
    # see: so the gradient is built before anything of f runs.
    gradients = [None if g is None else dense(g) for g in tape.gradient(y, feeds, dy)]
    built = Built(session, y, feeds, dy, gradients, dict(zip(feeds, points, strict=True)), InRows())
    return tuple(built.theoretical()), tuple(built.numerical(delta))


class Built:
    """A function in a graph with its gradient, at a point.

    What its operations give at the point is computed eagerly, and then at many rows; the session is asked for what it
    alone knows, such as variables. Where that cannot be done, the session runs everything, row by row.

    Parameters
    ----------
    session : tf.compat.v1.Session
    y : tensor
        What the function gives.
    xs : sequence of tensor
        What it is a function of.
    dy : tensor
        The placeholder that its gradients are built from.
    gradients : sequence of tensor or None
    feeds : dict of tensor to ndarray
        What is fed, `xs` included.
    recorder : InRows
        Keeps kernels, and may be that of another function of the same graph.
    """

    def __init__(
        self,
        session: Any,
        y: Any,
        xs: Sequence[Any],
        dy: Any,
        gradients: Sequence[Any],
        feeds: Mapping[Any, Any],
        recorder: InRows,
    ) -> None:
        self._recorder = recorder
        self._session, self._y, self._xs, self._dy, self._feeds = session, y, list(xs), dy, dict(feeds)
        self._gradients = [g for g in gradients if g is not None]
        self._places = [i for i, g in enumerate(gradients) if g is not None]
        self._steps: list[Step] = []
        self._values: dict[str, Any] = {}
        try:
            with context.eager_mode():
                self._evaluate()
        except _FAILURES as error:
            _log.info(f"f was run in a loop, once per row and per output: {first_line(error)}")
            self._steps = []
            self._value = np.asarray(session.run(y, self._feeds))
            self._rows = Directions(tf.TensorSpec(self._value.shape, y.dtype))
            self._last = session.run(self._gradients, {**self._feeds, dy: self._unit(self._rows.count - 1)})

    def _evaluate(self) -> None:
        """Value of every operation at the point, and of the gradient for the last output."""
        given = {t.name: tf.constant(np.asarray(v, t.dtype.as_numpy_dtype)) for t, v in self._feeds.items()}
        steps, read = steps_between([self._y, *self._gradients], [*self._feeds, self._dy])
        if read:
            found = self._session.run(read, self._feeds)
            given |= {name: tf.constant(value) for name, value in found.items()}
        self._values = evaluated(steps, given, [self._y.name], self._recorder)
        self._value = self._values[self._y.name].numpy()
        self._rows = Directions(tf.TensorSpec(self._value.shape, self._y.dtype))
        given[self._dy.name] = tf.constant(self._unit(self._rows.count - 1))
        self._values |= evaluated(steps, {**given, **self._values}, [g.name for g in self._gradients], self._recorder)
        self._last = [self._values[g.name].numpy() for g in self._gradients]
        self._steps = steps

    def _unit(self, row: int) -> Array:
        found: Array = self._rows.block(range(max(row, 0), row + 1)).sum(0)
        return found

    def theoretical(self) -> list[Array]:
        """Jacobians of shape (outputs, inputs), in the real dtype of each argument; complex numbers are two reals.

        Raises
        ------
        ValueError
            There are no outputs, and the gradient is not zero or not of the shape of its argument.
        """
        count = self._rows.count
        out = [np.zeros((count, flat(self._feeds[x]).size), x.dtype.real_dtype.as_numpy_dtype) for x in self._xs]
        if count == 0:
            for i, found in zip(self._places, self._last, strict=True):
                check_empty(found, self._feeds[self._xs[i]])
            return out
        into = [out[i] for i in self._places]
        try:
            self._fill(into)
        except _FAILURES as error:
            _log.info(f"f was differentiated in a loop, once per output: {first_line(error)}")
            for i in range(count):
                found = self._session.run(self._gradients, {**self._feeds, self._dy: self._unit(i)})
                for jacobian, row in zip(into, found, strict=True):
                    jacobian[i] = flat(np.asarray(row))
        return out

    def _fill(self, into: list[Array]) -> None:
        moving = self._moving(self._dy, self._gradients)
        for start, found in self._in_chunks(moving, lambda i, j: self._rows.block(range(i, j)), self._rows.count):
            for jacobian, rows, last in zip(into, found, self._last, strict=True):
                stop = start + (len(jacobian) if rows is None else len(rows))
                jacobian[start:stop] = flat(last) if rows is None else flat(rows, keep=1)
        for jacobian, last in zip(into, self._last, strict=True):
            if not same_values(jacobian[-1], flat(last)):
                raise Unmapped("its gradient at many rows is another one")

    def numerical(self, delta: float) -> list[Array]:
        """Central differences, of the shape of `theoretical`."""
        found = []
        for x in self._xs:
            point = np.asarray(self._feeds[x])
            columns = flat(point).size
            build = displaced(flat(point), point, delta)
            arguments = x.dtype, self._y.dtype, self._value, columns, delta
            try:
                jacobian = columns_of(self._together(x, build, point, 2 * columns), *arguments)
            except _FAILURES as error:
                _log.info(f"f was run in a loop, once per row: {first_line(error)}")
                jacobian = columns_of(self._loop(x, build, 2 * columns), *arguments)
            found.append(jacobian)
        return found

    def _loop(self, x: Any, build: Callable[[int, int], Array], count: int) -> Iterator[tuple[int, Array]]:
        for start in range(count):
            row = build(start, start + 1)[0]
            # A session may return what it was fed, without a copy.
            yield start, np.array(self._session.run(self._y, {**self._feeds, x: row}))[None]

    def _together(
        self, x: Any, build: Callable[[int, int], Array], point: Array, count: int
    ) -> Iterator[tuple[int, Array]]:
        if not self._value.size or not count:
            return
        moving = self._moving(x, [self._y])
        if not moving.moves[0]:
            yield 0, np.broadcast_to(self._value, (count, *self._value.shape))
            return

        def with_point(start: int, stop: int) -> Array:
            rows = build(max(start - 1, 0), stop - 1)
            return rows if start else np.concatenate([point[None], rows])

        for start, (found,) in self._in_chunks(moving, with_point, count + 1):
            if start == 0 and not same_values(found[0], self._value):
                raise Unmapped("its values at many rows are others")
            yield max(start - 1, 0), found if start else found[1:]

    def _moving(self, source: Any, targets: Sequence[Any]) -> Moving:
        if not self._steps:
            raise Unmapped("its operations cannot be run by themselves")
        return Moving(self._steps, source.name, [t.name for t in targets], self._unknown, self._recorder)

    def _unknown(self, name: str) -> bool:
        return name not in self._values

    def _in_chunks(
        self, moving: Moving, build: Callable[[int, int], Array], count: int
    ) -> Iterator[tuple[int, list[Any]]]:
        at_once = rows_at_once(row_bytes(moving.made, self._values), count)
        for start in range(0, count, at_once):
            rows = build(start, min(start + at_once, count))
            with context.eager_mode():
                found = [None if one is None else one.numpy() for one in moving(rows, self._values)]
            yield start, found


def check_empty(gradient: Any, x: Any) -> None:
    """Raise ValueError, in TensorFlow's words, unless the gradient of no outputs is zero and of the shape of x."""
    if gradient.shape != x.shape:
        raise ValueError(f"Empty gradient has wrong shape: expected {x.shape}, got {gradient.shape}")
    if np.any(gradient):
        raise ValueError("Empty tensor with nonzero gradients")


def steps_between(targets: Sequence[Any], given: Sequence[Any]) -> tuple[list[Step], dict[str, Any]]:
    """Operations that some tensors of a graph depend on, sorted, back to what is given.

    Returns
    -------
    list of Step, dict of str to tensor
        Also the tensors that only a session knows, by name.

    Raises
    ------
    Unmapped
        One draws random numbers or writes to a state, also if it only runs before the others.
    """
    stops, order, read = {t.name for t in given}, dict[str, Any](), dict[str, Any]()
    met = {t.op.name for t in given if t.op.type == "Placeholder"}  # others may run before it
    waiting = [(t.op, False) for t in targets if t.name not in stops]
    while waiting:
        op, ready = waiting.pop()
        if ready:
            order.setdefault(op.name, op)
        elif op.name not in met:
            met.add(op.name)
            if changes(op.op_def):
                raise Unmapped(f"{op.name} ({op.type}) keeps state or draws random numbers")
            if op.type in _OF_SESSIONS:
                read[op.outputs[0].name] = op.outputs[0]
                continue
            waiting.append((op, True))
            waiting += [(one, False) for one in op.control_inputs]
            waiting += [(t.op, False) for t in op.inputs if t.name not in stops]
    steps = [
        Step(op.type, partial(_run_operation, op), tuple(t.name for t in op.inputs), tuple(t.name for t in op.outputs))
        for op in order.values()
    ]
    return steps, read


def _run_operation(op: Any, recorder: Any, slots: list[Any]) -> list[Any]:
    found: list[Any] = recorder.operation(op.graph, op, slots)
    return found
