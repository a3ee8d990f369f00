"""A function at many rows of one of its arguments: all in one traced function where that pays, else row by row."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.over_rows import (
    BUDGET,
    Mapped,
    as_array,
    dense,
    forget,
    known,
    refuse,
    remember,
    rows_at_once,
    same_values,
)
from fdfast.functions.single import BATCHED_ROW, PROBED, SINGLE_ROW, STACKED_ROW, Cost, Single, cheapest, pays
from fdfast.functions.stacked import Stacked
from fdfast.operations import Unmapped

Array = npt.NDArray[Any]
#: (first row, end) -> these rows, shape (end - first, *shape of the input)
Build = Callable[[int, int], Array]
Call = Callable[[Any, Sequence[Any]], Any]

#: What tracing for many rows and a first run cost, in seconds, and beyond that in calls of the function. Fitted, as
#: `SINGLE` is, to the functions of tests/test_compat_suite.py: a ReLU 0.04 s at 20 us a call, a convolution 0.05 s at
#: 0.1 ms where the image moves, 0.07 s where the kernel does.
TRACING, TRACING_CALLS = 0.028, 40
#: The same where f is traced for one row: a ReLU 7 ms, an LSTM step 12 ms at 0.25 ms a call.
SINGLE = Cost((0.007, 12), SINGLE_ROW)
#: The same where the operations of that trace run at many rows, held ones and a first run included.
STACKED = Cost((0.008, 20), STACKED_ROW)
_TIMED = 8  # calls that are timed, or as many as fit into 2 ms, but two
_log = logging.getLogger("fdfast")


def _batched() -> Cost:
    return Cost((TRACING, TRACING_CALLS), BATCHED_ROW)


def spread(f: Any, tensors: Sequence[Any]) -> Any:
    """Call f with positional arguments."""
    return f(*tensors)


class RowValues:
    """Values of f at rows that take the place of one of its arguments.

    Parameters
    ----------
    f : callable
    tensors : sequence of tensor
        All arguments; those that do not move are held.
    place : int
        Which of them moves.
    value : ndarray
        f at `tensors`, called directly: every traced evaluation has to give it again.
    call : callable
        ``call(f, tensors)`` calls f with its arguments.
    key : hashable
        What distinguishes `call` from other ways to call the same f.
    always : bool
        Trace even where the loop is estimated to be faster.

    Attributes
    ----------
    notes : list of str
        How f was evaluated, if not by one traced function in which every operation is batched.
    """

    def __init__(
        self,
        f: Any,
        tensors: Sequence[Any],
        place: int,
        value: Array,
        *,
        call: Call = spread,
        key: object = (),
        always: bool = False,
    ) -> None:
        self.notes: list[str] = []
        self._f = f
        self._call = call
        self._tensors = list(tensors)
        self._place = place
        self._value = np.asarray(value)
        self._always = always
        specs = tuple((tuple(t.shape), t.dtype.name) for t in self._tensors)
        self._key = (place, specs, key)
        self._single_key = ("single", specs, key)
        self._stacked_key = ("stacked", place, specs, key)
        self._name = getattr(f, "__name__", type(f).__name__)

    def blocks(self, build: Build, count: int, most: int | None = None) -> Iterator[tuple[int, Array]]:
        """Yield (first row, values of a block of rows) for all `count` rows, at most `most` rows at a time."""
        if not count:
            return
        moving = self._tensors[self._place]
        row_bytes = max(1, moving.dtype.size * int(np.prod(moving.shape)), self._value.nbytes)
        # Row 0 of what is traced is the point itself.
        at_once = max(2, min(rows_at_once(row_bytes, count + 1), most or count + 1))
        done, seconds, way = 0, 0.0, "batched"
        traced = known(self._f, (*self._key, at_once))
        head = None
        if traced is None and not self._always:
            way = "stacked"
        if traced is None and (self._always or not isinstance(known(self._f, self._stacked_key), Stacked)):
            head, seconds = self._timed(build, count)
            done = len(head)
            yield 0, head
            if not self._always:
                way = self._way(count - done, seconds)
        if way == "stacked":
            try:
                for start, values in self._stacked(build, head, count, at_once):
                    yield start, values
                    done = start + len(values)
                return
            except Unmapped as error:  # another way may do
                refuse(self._f, self._stacked_key, error)
            if head is None:
                head, seconds = self._timed(build, count)
                if not done:
                    done = len(head)
                    yield 0, head
            way = self._way(count - done, seconds, stacked=False)
        if way == "loop":
            yield from self._direct(build, done, count, at_once)
            return
        try:
            if way == "single":
                for start, values in self._alone(build, done, count, at_once, seconds):
                    yield start, values
                    done = start + len(values)
                if done == count:
                    return
            for start, values in self._traced(traced, build, done, count, at_once):
                yield start, values
                done = start + len(values)
        except Unmapped as error:
            self._note(f"{self._name} was called in a loop, once per row: {error}")
            yield from self._direct(build, done, count, at_once)

    def _way(self, rows: int, seconds: float, *, stacked: bool = True) -> str:
        form = known(self._f, self._single_key)
        if isinstance(form, Unmapped):
            form = None
        if isinstance(known(self._f, self._stacked_key), Unmapped):
            stacked = False
        return cheapest(rows, seconds, SINGLE, _batched(), form, STACKED if stacked else None)

    def _timed(self, build: Build, count: int) -> tuple[Array, float]:
        values: list[Array] = []
        tensors = list(self._tensors)
        fastest, spent = float("inf"), 0.0
        # Two at least: where the machine is busy, one call may take several times as long as it should.
        while len(values) < min(_TIMED, count) and (spent < 2e-3 or len(values) < 2):
            tensors[self._place] = tf.constant(build(len(values), len(values) + 1)[0])
            start = time.perf_counter()
            value = self._call(self._f, tensors)
            seconds = time.perf_counter() - start
            values.append(as_array(value))
            fastest, spent = min(fastest, seconds), spent + seconds
        return np.stack(values), fastest

    def _direct(
        self, build: Build, done: int, count: int, at_once: int, form: Single | None = None
    ) -> Iterator[tuple[int, Array]]:
        for start in range(done, count, at_once):
            yield start, self._loop(build(start, min(start + at_once, count)), form)

    def _loop(self, rows: Array, form: Single | None) -> Array:
        tensors = list(self._tensors)
        values = []
        for row in tf.unstack(tf.constant(rows), num=len(rows)):
            tensors[self._place] = row
            values.append(self._call(self._f, tensors) if form is None else form(*tensors))
        return np.stack([as_array(value) for value in values])

    def _alone(self, build: Build, done: int, count: int, at_once: int, seconds: float) -> Iterator[tuple[int, Array]]:
        """Rows one by one through a trace of f: all of them, or some if they take too long."""
        old = known(self._f, self._single_key)
        if isinstance(old, Unmapped):
            raise old
        for form in (old, None) if old is not None else (None,):
            form = form or remember(self._f, self._single_key, self._trace_single)
            if same_values(as_array(form(*self._tensors)), self._value):
                break
            forget(self._f)
        else:
            raise Unmapped(
                "its traced form gives another value at x; it may draw random numbers or keep state in Python"
            )
        end = min(done + PROBED, count)
        start = time.perf_counter()
        values = self._loop(build(done, end), form)
        form.seconds = (time.perf_counter() - start) / len(values)
        yield done, values
        if pays(count - end, form, seconds, _batched()):
            yield from self._direct(build, end, count, at_once, form)

    def _stacked(self, build: Build, head: Array | None, count: int, at_once: int) -> Iterator[tuple[int, Array]]:
        """Rows after `head` through the operations of a trace; those of `head` too, because f itself gave them."""
        exact = self._value[None] if head is None else np.concatenate([self._value[None], head])
        done = len(exact) - 1
        rows = as_array(self._tensors[self._place])[None]
        if done:
            rows = np.concatenate([rows, build(0, done)])
        old = known(self._f, self._stacked_key)
        for form in (old, None) if old is not None else (None,):
            form = form or self._stack()
            many = max(1, min(at_once, BUDGET // form.row_bytes))
            run = form.bind(self._tensors)
            values = [run(rows[start : start + many])[0].numpy() for start in range(0, len(rows), many)]
            if all(same_values(one, other) for one, other in zip(np.concatenate(values), exact, strict=True)):
                break
            forget(self._f)
        else:
            raise Unmapped("its operations give other values than f")
        for start in range(done, count, many):
            yield start, run(build(start, min(start + many, count)))[0].numpy()

    def _stack(self) -> Stacked:
        form = known(self._f, self._single_key)
        if isinstance(form, Unmapped):
            raise form
        form = form or remember(self._f, self._single_key, self._trace_single)
        return remember(self._f, self._stacked_key, lambda _: Stacked(form.traced, self._place))

    def _trace_single(self, target: Callable[[], Any]) -> Single:
        call = self._call
        specs = [tf.TensorSpec(t.shape, t.dtype) for t in self._tensors]
        return Single(lambda *tensors: dense(call(target(), tensors)), specs)

    def _traced(self, traced: Any, build: Build, done: int, count: int, at_once: int) -> Iterator[tuple[int, Array]]:
        if isinstance(traced, Unmapped):
            raise traced
        held = [t for i, t in enumerate(self._tensors) if i != self._place]
        point = as_array(self._tensors[self._place])[None]
        for old in (traced, None) if traced is not None else (None,):
            traced = old or remember(self._f, (*self._key, at_once), lambda target: self._trace(target, at_once))
            end = min(done + traced.count - 1, count)
            (values,) = traced(np.concatenate([point, build(done, end)]), held)
            if same_values(values[0], self._value):
                break
            forget(self._f)
        else:
            raise Unmapped(
                "its traced form gives another value at x; it may draw random numbers, keep state in Python, or use an "
                "operation that TensorFlow batches wrongly"
            )
        if traced.looped:
            self._note(
                f"{', '.join(traced.looped)} in {self._name} cannot be batched by TensorFlow and ran row by row, "
                "inside the traced function"
            )
        yield done, values[1:]
        for start in range(end, count, traced.count):
            stop = min(start + traced.count, count)
            yield start, traced(build(start, stop), held)[0]

    def _trace(self, target: Callable[[], Any], at_once: int) -> Mapped:
        place, call = self._place, self._call
        specs = [tf.TensorSpec(t.shape, t.dtype) for t in self._tensors]
        held = [spec for i, spec in enumerate(specs) if i != place]

        def make(*held: Any) -> Callable[[Any], Any]:
            f = target()
            return lambda row: dense(call(f, [*held[:place], row, *held[place:]]))

        traced = Mapped(make, specs[place], held, at_once)
        if traced.row_bytes * at_once > BUDGET and at_once > 2:
            return Mapped(make, specs[place], held, max(2, BUDGET // traced.row_bytes))
        return traced

    def _note(self, text: str) -> None:
        self.notes.append(text)
        _log.info(text)
