"""`compute_gradient` where TensorFlow does not run eagerly: f is built into the caller's graph and run there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.compat.analytic import Directions, flat, reals
from fdfast.compat.numeric import columns_of, displaced
from fdfast.functions import OverRows, dense, first_line, quietly, rows_at_once, same_values
from fdfast.operations import Unmapped

Array = npt.NDArray[Any]
_log = logging.getLogger("fdfast")


def compute_in_graph(
    f: Callable[..., Any], x: Sequence[Any], delta: float, check: Callable[[Sequence[Any], Any], None]
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """See `fdfast.compat.tensorflow.compute_gradient`; needs a default session, as TensorFlow's own does."""
    xs = [tf.convert_to_tensor(value) for value in x]
    session = tf.compat.v1.get_default_session()
    points = session.run(xs)
    feeds = [tf.compat.v1.placeholder(t.dtype, t.shape) for t in xs]
    at = dict(zip(feeds, points, strict=True))
    y = dense(f(*feeds))
    value = np.asarray(session.run(y, at))

    def again() -> Any:
        return tf.ensure_shape(dense(f(*feeds)), value.shape)

    check([t.dtype for t in xs], y.dtype)
    theoretical, numerical = [], []
    for place, feed in enumerate(feeds):
        theoretical.append(_theoretical(session, again, feed, at))
        if not value.size or not reals(feed):
            numerical.append(np.zeros((reals(y), reals(feed)), feed.dtype.real_dtype.as_numpy_dtype))
            continue

        def moved(row: Any, place: int = place) -> Any:
            return dense(f(*feeds[:place], row, *feeds[place + 1 :]))

        build = displaced(flat(points[place]), points[place], delta)
        run = _runner(session, moved, feed, y, at, points[place], value)
        blocks = _blocks(run, build, 2 * reals(feed), value.nbytes + points[place].nbytes)
        numerical.append(columns_of(blocks, feed.dtype, y.dtype, value, reals(feed), delta))
    return tuple(theoretical), tuple(numerical)


def _runner(
    session: Any, moved: Callable[[Any], Any], feed: Any, y: Any, at: dict[Any, Array], point: Array, value: Array
) -> Callable[[Array], Array]:
    """Function of rows that gives the values of f: batched, or row by row if that gives something else at x."""

    def loop(rows: Array) -> Array:
        return np.stack([session.run(y, {**at, feed: row}) for row in rows])

    rows = tf.compat.v1.placeholder(feed.dtype, [None, *feed.shape])
    try:
        with quietly():
            batched = OverRows()(moved, rows)
        if same_values(session.run(batched, {**at, rows: point[None]})[0], value):
            return lambda some: np.asarray(session.run(batched, {**at, rows: some}))
        raise Unmapped("its batched form gives another value at x")
    except Exception as error:
        _log.info(f"f was run in a loop, once per row: {first_line(error)}")
        return loop


def _blocks(
    run: Callable[[Array], Array], build: Callable[[int, int], Array], count: int, row_bytes: int
) -> Iterator[tuple[int, Array]]:
    at_once = rows_at_once(row_bytes, count)
    for start in range(0, count, at_once):
        yield start, run(build(start, min(start + at_once, count)))


def _theoretical(session: Any, again: Callable[[], Any], feed: Any, at: dict[Any, Array]) -> Array:
    # TensorFlow may change the operations of f when it adds their gradient, which a session that has run them does not
    # see. So each gradient gets an f of its own, and is built before anything of it runs.
    y = again()
    rows = Directions(y)
    out = np.zeros((rows.count, reals(feed)), feed.dtype.real_dtype.as_numpy_dtype)
    row = tf.compat.v1.placeholder(tf.int32, [])
    numbers = tf.compat.v1.placeholder(tf.int32, [None])

    def pull(y: Any, direction: Any) -> Any:
        (found,) = tf.gradients([y], [feed], [direction])
        return None if found is None else dense(found)

    if rows.count == 0:
        found = pull(y, tf.zeros_like(y))
        if found is not None and np.any(session.run(found, at)):
            raise ValueError("f returns an empty result, but its gradient is not zero")
        return out
    one = pull(y, rows.unit(row))
    if one is None:
        return out
    try:
        other = again()
        with quietly():
            batched = OverRows()(lambda i: pull(other, rows.unit(i)), numbers)
        at_once = rows_at_once(reals(feed) * feed.dtype.size, rows.count)
        for start in range(0, rows.count, at_once):
            some = np.arange(start, min(start + at_once, rows.count), dtype=np.int32)
            out[some] = flat(session.run(batched, {**at, numbers: some}), keep=1)
        for i in (0, rows.count - 1):
            if not same_values(out[i], flat(session.run(one, {**at, row: i}))):
                raise Unmapped("the batched form of its gradient differs at x")
    except Exception as error:
        _log.info(f"f was differentiated in a loop, once per output: {first_line(error)}")
        for i in range(rows.count):
            out[i] = flat(session.run(one, {**at, row: i}))
    return out
