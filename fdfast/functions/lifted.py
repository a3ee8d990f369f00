"""A TensorFlow function of rows in float64, whatever it computes in: its operations, run again one precision up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.functions.row_function import RowFunction
from fdfast.tape import Recorder, Tape, Traced, half_types, is_steady, lifted, narrowest, values_graph

_FEW = 4  # rows of the first recording, which tells how much memory one takes
_MANY = 64  # rows that run together at most: more of them ran no faster
_BUDGET = 128 << 20  # bytes that the values of all operations may take while they are recorded
_MISSES = 3  # recordings whose control flow went another way before graphs are given up


class LiftedRows:
    """Per-row values and gradients of a function, all in float64; in place of a `RowFunction`.

    Where it computes something that cannot be run by itself, `fdfast.tape.NoTape` is raised at the first call.

    Parameters
    ----------
    plain : RowFunction
        The function in its own precision.
    context : tensor or structure of tensors
        What goes with the examples.
    """

    is_sharp = False
    may_compile = False

    def __init__(self, plain: RowFunction, context: Any) -> None:
        self.plain = plain
        self.dtype = np.dtype(np.float64)
        self._few = _Form(plain.at(_FEW, context))
        #: Precision that the function itself computes in.
        self.own = narrowest(self._few.concrete.graph)
        self._many: _Form | None = None
        self._gradients: dict[int, _Form] = {}
        self.row_bytes = 0
        self.traces = 1

    @property
    def numpy_calls(self) -> list[str]:
        """See `RowFunction`."""
        return self.plain.numpy_calls

    @property
    def narrow(self) -> list[str]:
        """Operations that have no float64 form and ran in their own precision."""
        return self._few.narrow

    @property
    def settled(self) -> bool:
        """Whether `narrow` is known, and the same at every point."""
        return self._few.settled

    def cut(self, points: Any, context: Any) -> bool:
        """See `RowFunction`; Python code cannot be run in float64, so there is none in it."""
        return False

    def own_values(self, rows: Any, example: Any, context: Any) -> Any:
        """Values of a few rows in the function's own precision: its trace as it is, with all that it changes."""
        part, of = _filled(rows, example, _FEW)
        found = self._few.concrete(tf.cast(part, self.plain.dtype), tf.range(_FEW), *tf.nest.flatten(_of(context, of)))
        return found[: len(rows)]

    def values(self, rows: Any, example: Any, chunk: Any, context: Any) -> Any:
        """Values of f on rows, float64, shape (rows,)."""
        count = len(rows)
        if count <= 2 * _FEW or self._large(context) is None:
            return self._in_parts(self._few, _FEW, rows, example, context)
        assert self._many is not None
        return self._in_parts(self._many, self._rows_together, rows, example, context)

    def gradient(self, rows: Any, example: Any, chunk: int, context: Any) -> Any:
        """Autodiff gradient of f for each row, float64: the function's own, with every operation in float64."""
        together = min(len(rows), max(1, int(chunk)))
        if together not in self._gradients:
            concrete = self.plain.at(together, context, gradient=True)
            rounding = half_types(concrete.graph) - half_types(self._few.concrete.graph)
            self._gradients[together] = _Form(concrete, rounding)
        return self._in_parts(self._gradients[together], together, rows, example, context)

    def _large(self, context: Any) -> _Form | None:
        """The form for many rows; None where they would take too much memory."""
        if self._many is None:
            self.row_bytes = max(1, self._few.bytes // _FEW)
            self._rows_together = min(_MANY, _BUDGET // self.row_bytes)
            if self._rows_together > _FEW:
                self._many = _Form(self.plain.at(self._rows_together, context))
        return self._many

    def _in_parts(self, form: _Form, together: int, rows: Any, example: Any, context: Any) -> Any:
        found = []
        for start in range(0, len(rows), together):
            part, of = rows[start : start + together], example[start : start + together]
            some, whose = _filled(part, of, together)
            given = [tf.cast(some, tf.float64), tf.range(together), *tf.nest.flatten(_of(context, whose))]
            found.append(form([lifted(one) for one in given])[: len(part)])
        return found[0] if len(found) == 1 else tf.concat(found, 0)


def _filled(rows: Any, example: Any, count: int) -> tuple[Any, Any]:
    """So many rows, filled up with the last one."""
    more = count - len(rows)
    if not more:
        return rows, example
    return tuple(tf.concat([one, tf.repeat(one[-1:], more, axis=0)], 0) for one in (rows, example))


def _of(context: Any, example: Any) -> Any:
    """What goes with some examples."""
    return tf.nest.map_structure(lambda t: tf.gather(t, example), context)


class _Form:
    """One traced function at rows of one number: recorded at its first call, compiled at the second."""

    def __init__(self, concrete: Any, rounding: Collection[Any] = ()) -> None:
        self.concrete = concrete
        self.narrow: list[str] = []
        #: Whether it has been recorded, and has no control flow.
        self.settled = False
        self.bytes = 0
        self._recorder = Recorder(concrete, rounding)
        self._tape: Tape | None = None
        self._graph: Traced | None = None
        self._misses = 0

    def __call__(self, arguments: Sequence[Any]) -> Any:
        if self._tape is not None and self._misses < _MISSES and not is_steady():
            self._graph, self._tape = values_graph(self._tape, [one.numpy() for one in arguments]), None
        if self._graph is not None and not is_steady():
            try:
                found, holds = self._graph(*arguments)
                if bool(holds):
                    return found
            except (tf.errors.OpError, ValueError):  # shapes that depend on values
                pass
            self._graph = None
            self._misses += 1
        tape = self._tape = self._recorder(arguments)
        self._recorder.tape = Tape()
        self.narrow, self.settled = tape.narrow, not tape.guards
        self.bytes = sum(t.dtype.size * t.shape.num_elements() for t in tape.values if isinstance(t, tf.Tensor))
        return tape.values[tape.outputs[0]]


def lifted_rows(plain: RowFunction, context: Any) -> LiftedRows | None:
    """The function in float64; None for one that computes in float64 anyway."""
    if plain.lifted is None:
        plain.lifted = False if plain.narrowest == np.float64 else LiftedRows(plain, context)
    return plain.lifted or None
