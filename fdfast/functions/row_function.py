"""A TensorFlow function of rows: traced once for any number of them, kept as long as what it is of."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.functions.over_rows import dense
from fdfast.functions.returned import NotOneNumber, check_returned
from fdfast.tape import OPAQUE, Traced, concrete_of, is_steady, narrowest, numpy_calls

#: (rows, example numbers, context) -> one value per row
RowValues = Callable[[Any, Any, Any], Any]
_ONE_EACH = "f must return one value per row of its input"
_TAPED = 4  # gradients by an eager tape before the backward pass is traced: two checks
_KEPT = 16  # traced functions that one model keeps: a fresh lambda as loss makes a new one at every call


class RowFunction:
    """Per-row values and gradients of a TensorFlow function; the values traced once for any number of rows.

    The loop over chunks of rows runs inside the traced function: small chunks stay in the cache, and no
    intermediate of one chunk outlives it. `sharp`, if given, is the same function with less rounding: values come
    from it, gradients from `of_rows` itself, which is what is under test; or from `singly`, if that is given, for rows
    of a known number.
    """

    def __init__(
        self,
        of_rows: RowValues,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        context: Any,
        sharp: RowValues | None = None,
        singly: RowValues | None = None,
    ) -> None:
        rows = tf.TensorSpec([None, *shape], dtype)
        index = tf.TensorSpec([None], tf.int32)
        number = tf.TensorSpec([], tf.int32)
        self._of_rows, self._shape = of_rows, shape
        self._sharp, self._singly = sharp or of_rows, singly or of_rows
        self.is_sharp = sharp is not None
        self.dtype = dtype
        self.row_bytes = 0
        spec = tf.nest.map_structure(lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), context)
        self._forward = tf.function(self._values, input_signature=[rows, index, number, spec], autograph=False)
        self._backward = tf.function(self._gradient, input_signature=[rows, index, number, spec], autograph=False)
        self._at_once = tf.function(self.gradient_at_once, input_signature=[rows, index, spec], autograph=False)
        self._traced: dict[Any, Traced] = {}
        self.may_compile = False
        #: NumPy functions on tensors: called eagerly they would cut the tape, so that the gradient has to be traced.
        self.numpy_calls: list[str] = []
        #: The same in float64, once it has been asked for (see `lifted_rows`).
        self.lifted: Any = None
        self._taped = 0

    @property
    def traces(self) -> int:
        """How often TensorFlow has traced this function."""
        return int(self._forward.experimental_get_tracing_count())

    def values(self, rows: Any, example: Any, chunk: Any, context: Any) -> Any:
        """Values of f on rows, float64, shape (rows,)."""
        return self._call(self._forward, rows, example, chunk, context)

    def gradient(self, rows: Any, example: Any, chunk: int, context: Any) -> Any:
        """Autodiff gradient of f for each row, float64, shape (rows, *shape).

        A tape in eager mode at first: there is one row per example, and tracing a backward pass costs more than many of
        them. Where `may_compile` is set, a function that is asked again and again is traced in the end.
        """
        self._taped += 1
        traced = bool(self.numpy_calls) or (self.may_compile and (self._taped > _TAPED or is_steady()))
        if len(rows) <= chunk:
            return self._call(self._at_once if traced else self.gradient_at_once, rows, example, context)
        return self._call(self._backward if traced else self._gradient, rows, example, tf.constant(chunk), context)

    def at(self, count: int, context: Any, *, gradient: bool = False) -> Any:
        """Concrete function of so many rows, their example numbers and the context of each: values, or gradients."""

        def values(rows: Any, example: Any, context: Any) -> Any:
            return self._one(self._of_rows, rows, example, context)

        specs = [
            tf.TensorSpec([count, *self._shape], self.dtype),
            tf.TensorSpec([count], tf.int32),
            tf.nest.map_structure(lambda t: tf.TensorSpec([count, *t.shape[1:]], t.dtype), context),
        ]
        function = tf.function(self.gradient_at_once if gradient else values, input_signature=specs, autograph=False)
        with numpy_calls() as called:
            found = concrete_of(function)
        self.numpy_calls = self.numpy_calls or list(dict.fromkeys(called))
        return found

    @property
    def narrowest(self) -> np.dtype[Any]:
        """The narrowest precision that anything in it is computed in."""
        return narrowest(self._ready(self._forward).graph) if self.dtype == np.float64 else self.dtype

    def cut(self, points: Any, context: Any) -> bool:
        """Whether code that no tape can follow stands between x and the value, so that there is no gradient at all."""
        kinds = {op.type for op in self._ready(self._forward).graph.get_operations()}
        kinds |= {
            node.op for f in self._ready(self._forward).graph.as_graph_def().library.function for node in f.node_def
        }
        if kinds.isdisjoint(OPAQUE):
            return False
        rows = tf.constant(points.reshape(-1, *self._shape), self.dtype)
        with tf.GradientTape() as tape:
            tape.watch(rows)
            values = self._one(self._singly, rows, tf.zeros([len(rows)], tf.int32), context)
        return tape.gradient(values, rows) is None

    def _ready(self, function: Any) -> Traced:
        # Ahead of the call: calls that trace make TensorFlow warn of retracing once there are five models.
        if function not in self._traced:
            self._traced[function] = Traced(function, ordered=function is not self._forward)
            self.numpy_calls = self.numpy_calls or self._traced[function].numpy_calls
        return self._traced[function]

    def _call(self, function: Any, *arguments: Any) -> Any:
        if function in (self._forward, self._backward, self._at_once):
            function = self._ready(function)
        try:
            return function(*arguments)
        except tf.errors.InvalidArgumentError as error:
            if _ONE_EACH not in str(error):
                raise
            raise ValueError(f"{_ONE_EACH}; the number of values differs from the number of rows") from None

    def _one(self, of_rows: RowValues, rows: Any, example: Any, context: Any) -> Any:
        found = of_rows(rows, example, context)
        check_returned(found)
        values = tf.convert_to_tensor(found)
        rank = values.shape.rank
        if rank == 0:
            raise NotOneNumber(
                "the loss returns one scalar for the whole batch; it must return one value per row: "
                "leave out the last reduction (reduction='none', or reduce over axes 1 and up only)"
            )
        if rank is not None and rank > 1:
            if any(n != 1 for n in values.shape[1:]):
                raise ValueError(
                    f"f returns shape {tuple(values.shape)}; it must return one value per row, shape (rows,)"
                )
            values = tf.reshape(values, [-1])
        tf.debugging.assert_equal(tf.shape(values)[0], tf.shape(rows)[0], _ONE_EACH)
        return values

    def _loop(self, rows: Any, chunk: Any, body: Callable[[Any, Any], Any], dtype: Any, shape: tuple[int, ...]) -> Any:
        count = tf.shape(rows)[0]
        turns = (count + chunk - 1) // chunk
        out = tf.TensorArray(dtype, size=turns, element_shape=[None, *shape], infer_shape=False)

        def turn(i: Any, out: Any) -> Any:
            start = i * chunk
            stop = tf.minimum(start + chunk, count)
            return i + 1, out.write(i, body(start, stop))

        _, out = tf.while_loop(lambda i, _: i < turns, turn, (tf.constant(0), out), parallel_iterations=1)
        return out.concat()

    def _values(self, rows: Any, example: Any, chunk: Any, context: Any) -> Any:
        def body(start: Any, stop: Any) -> Any:
            values = self._one(self._sharp, rows[start:stop], example[start:stop], context)
            return tf.cast(values, tf.float64)

        return self._loop(rows, chunk, body, tf.float64, ())

    def _gradient(self, rows: Any, example: Any, chunk: Any, context: Any) -> Any:
        def body(start: Any, stop: Any) -> Any:
            return self.gradient_at_once(rows[start:stop], example[start:stop], context)

        shape = tuple(rows.shape[1:])
        return self._loop(rows, chunk, body, tf.float64, shape)

    def gradient_at_once(self, rows: Any, example: Any, context: Any) -> Any:
        """`gradient` of rows that are taken in one piece, on tensors; for use in another traced function, too."""
        with tf.GradientTape() as tape:
            tape.watch(rows)
            of_rows = self._of_rows if rows.shape[0] is None else self._singly
            values = self._one(of_rows, rows, example, context)
        # Rows do not see each other, so the gradient of the sum holds each row's own gradient.
        found = tape.gradient(values, rows, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return tf.cast(dense(found), tf.float64)


_traced: weakref.WeakKeyDictionary[Any, dict[tuple[object, object], RowFunction]] = weakref.WeakKeyDictionary()


def forget_traces(owner: Any) -> None:
    """Drop what was traced of a model."""
    _traced.pop(owner, None)


def trace(owner: Any, state: object, key: object, make: Callable[[], RowFunction]) -> RowFunction:
    """Return the owner's traced function for this key, tracing it at most once while the owner lives in this state.

    What was traced of another state is dropped, and with it all that was compiled of it.
    """
    try:
        known = _traced.setdefault(owner, {})
    except TypeError:  # an owner that is not hashable or takes no weak reference is traced anew each time
        return make()
    if (state, key) not in known:
        for former in [one for one in known if one[0] is not state]:
            del known[former]
        known[state, key] = make()
        while len(known) > _KEPT:
            del known[next(iter(known))]
    return known[state, key]
