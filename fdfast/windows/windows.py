"""Differences of tiles on the windows that they reach, by the compiled kernels; the rest on whole maps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast import _core
from fdfast.operations import Notes, short_moves
from fdfast.tape import (
    EQUAL,
    TINY,
    Point,
    Recorded,
    Tape,
    Traced,
    effort_of,
    guards_hold,
    push,
    replay,
    trace_of,
    unkinked,
    values_graph,
    view,
)
from fdfast.windows.bottlenecks import complete
from fdfast.windows.lowered import lower, values_needed
from fdfast.windows.program import NotLowered, build
from fdfast.windows.threads import cores
from fdfast.windows.weights import Weights

Float64 = npt.NDArray[np.float64]
#: Directions that a new program is held against whole maps along, the step, and how far both may part; and the step,
#: for numbers of order one, for which subtraction shows as many digits.
_DIRECTIONS, _STEP, _APART, _FAR = 3, 2.0**-20, 1e-9, 2.0**-4
#: Weights that are known by who wrote to them, rather than compared, one by one, at every call.
_MANY = 1 << 16
#: What computes nothing.
_ARRANGE = {"input", "part", "reshape", "concat"}
#: Steps that leave nothing of second order.
_SHORT = (2.0**-100, -(2.0**-100))


class Values(dict[int, Any]):
    """What is asked of a point, by number on the tape.

    Attributes
    ----------
    flat : tensor
        All that is in float64, one behind the other.
    finite : bool
        Whether all of that is finite.
    """

    def __init__(self, values: Iterable[tuple[int, Any]], flat: Any) -> None:
        super().__init__(values)
        self.flat = flat
        self.finite = bool(np.isfinite(flat.numpy()).all())


class Windows:
    """A recorded function of x, for the differences of tiles of x.

    Parameters
    ----------
    tape : Tape
        Of the function; the other arguments stay as they are.
    source : int
        Number of x on the tape.

    Raises
    ------
    NotLowered
        The kernels do nothing of it.
    """

    def __init__(self, tape: Tape, source: int) -> None:
        self.lowered = lower(tape, source, tape.outputs[0])
        if source in self.lowered.border or {node.op for node in self.lowered.nodes} <= _ARRANGE:
            raise NotLowered(self.lowered.left[0] if self.lowered.left else "nothing is left of it")
        self.tape, self._source = tape, source
        self.program = build(self.lowered.nodes)
        #: Elements at the border, and numbers that go through bottlenecks.
        self._width = sum(self.lowered.border.values())
        self.narrow = sum(columns.stop - columns.start for columns in self.lowered.held.values())
        self._values = values_needed(self.lowered.nodes, self.program.needed)
        entries = tape.needed([tape.outputs[0]])
        #: Of the operations, those that the value needs.
        self.share = len(entries) / len(tape.entries)
        self.names = [entries[node.entry].name if node.entry >= 0 else "input" for node in self.lowered.nodes]
        reached = tape.reached(set(self.lowered.border))
        rest = [e for e in tape.needed([tape.outputs[0]], self.lowered.border) if not reached.isdisjoint(e.inputs)]
        read = {i for entry in rest for i in (*entry.inputs, *entry.outputs)}
        self._operations, self._left = len(rest), len(rest) / len(entries)
        # What is asked of a point: values that the kernels read, that weights are made of, that the rest reads.
        differs = tape.reached(set(tape.inputs))
        self._constants = [i for i in self.lowered.constants if i in differs]
        self._weights: Weights | None = None
        if sum(math.prod(tape.values[i].shape) for i in self._constants) > _MANY:
            of_points = tape.reached(set(tape.arguments))
            self._weights = Weights(tape)
            self._constants = [i for i in self._constants if i in of_points]
        self._rest = sorted(i for i in read & differs if isinstance(tape.values[i], tf.Tensor))
        kernels = (i for value in self._values for i in value.numbers)
        self.numbers = sorted({*kernels, *self._constants, *self._rest, tape.outputs[0]})
        values = (tape.values[i] for i in self.numbers)
        #: Those in float64, which come from a graph in one piece: taking a tensor out costs more than what is in it.
        self._floats = [i for i, v in zip(self.numbers, values, strict=True) if getattr(v, "dtype", None) == tf.float64]
        self._others = [i for i in self.numbers if i not in set(self._floats)]
        #: Of these, what the rest reads.
        self._given = sorted({*self._others} & {*self._rest})
        shapes = [tuple(tape.values[i].shape) for i in self._floats]
        ends = np.cumsum([math.prod(shape) for shape in shapes], dtype=int).tolist()
        self._places = list(zip(self._floats, [0, *ends[:-1]], ends, shapes, strict=True))
        #: Bytes of the widest row that the rest makes.
        sizes = [math.prod(tape.values[i].shape) for i in (*self._rest, *self.lowered.border)]
        self.row_bytes = 8 * max(sizes)

    def alike(self, other: Windows) -> bool:
        """Whether graphs that were made for the other one serve this one."""
        return (self.numbers, self.lowered.border) == (other.numbers, other.lowered.border)

    def values_of(self, values: Mapping[int, Any] | Sequence[Any]) -> Values:
        """What is asked of a point, of values by their numbers on the tape."""
        flat = np.concatenate([view(values[i]).ravel() for i in self._floats])
        return self.unpacked(tf.constant(flat), [values[i] for i in self._others])

    def graph(self, point: Point) -> Traced:
        """What is asked of other points, those in float64 in one piece, and whether f goes the same way there."""
        return values_graph(self.tape, point.arguments, self._others, self._floats)

    def unpacked(self, flat: Any, others: Sequence[Any]) -> Values:
        """What `graph` returns, by number."""
        found, numbers = Values(zip(self._others, others, strict=True), flat), flat.numpy()
        for number, start, stop, shape in self._places:
            found[number] = numbers[start:stop].reshape(shape)
        return found

    def fits(self, values: Mapping[int, Any]) -> bool:
        """Whether the weights of the program are still those of the function."""
        if self._weights is not None and not self._weights.same():
            return False
        return all(np.array_equal(values[i], self.tape.values[i], equal_nan=True) for i in self._constants)

    def value(self, values: Mapping[int, Any]) -> float:
        """Of the function, at a point."""
        return float(np.asarray(values[self.tape.outputs[0]]).reshape(()))

    def named(self, seen: list[tuple[int, Any]]) -> list[tuple[str, Any]]:
        """What was seen on whole maps, by the names of the operations."""
        return [(self.tape.entries[number].name, mask) for number, mask in seen]

    def equal(self, seen: list[tuple[int, Any]]) -> Any:
        """In which rows numbers that are compared by == move apart, None for no row."""
        masks = [np.asarray(mask) for number, mask in seen if self.tape.entries[number].kernel.kind in EQUAL]
        return np.logical_or.reduce(masks) if masks else None

    def prepared(self, values: Mapping[int, Any], threads: int) -> _core.Prepared:
        """What the kernels read of a point."""
        shapes = [self.lowered.nodes[n].shape for n in self.program.needed]
        maps = [v.of(values, s) for v, s in zip(self._values, shapes, strict=True)]
        return self.program.prepare(maps, None, threads=threads)

    def push(
        self,
        prepared: _core.Prepared,
        tiles: tuple[Any, Any, Any],
        steps: Float64,
        weights: Float64 | None,
        threads: int,
        *,
        hold: bool,
    ) -> tuple[Float64, Any, Any]:
        """Differences at the border, shape (pairs, 2, elements); first operations where units tie, and cross, or -1.

        Parameters
        ----------
        prepared : Prepared
        tiles : tuple of ndarray
            Offsets and members of tiles, and the tile of each pair.
        steps : ndarray, shape (pairs, 2)
        weights : ndarray, optional
            Of members.
        threads : int
        hold : bool
            Whether to find what comes of bottlenecks once, for all pairs: with steps so short that nothing of second
            order is left.
        """
        offsets, members, tile = tiles
        held = self.lowered.held if hold else {}
        found, tie, crossed = _core.push(
            *(prepared, offsets, members, np.zeros(len(tile), np.int64), tile, steps),
            weights=weights,
            held=bool(held),
            threads=threads,
        )
        found = found.reshape(len(tile), 2, -1)
        if not complete(prepared, found, held, threads):
            return self.push(prepared, tiles, steps, weights, threads, hold=False)
        return found[:, :, : self._width], tie, crossed

    def along(
        self, recorded: Recorded, values: Values, v: Float64, steps: Sequence[float], *, hold: bool = False
    ) -> tuple[Float64, bool]:
        """Differences of the output along directions of x, shape (steps, directions); whether no unit ties or crosses.

        Parameters
        ----------
        v : ndarray, shape (directions, ...)
        steps : sequence of two floats
        hold : bool
            See `push`.
        """
        count, size = len(v), math.prod(self.lowered.nodes[0].shape)
        each = np.arange(count)
        tiles = size * np.arange(count + 1), np.tile(np.arange(size), count), each
        lengths = np.tile(np.asarray(steps, np.float64), (count, 1))
        weights = np.ascontiguousarray(v).ravel()
        threads = cores()
        pushed, *kinks = self.push(self.prepared(values, threads), tiles, lengths, weights, threads, hold=hold)
        found, notes = self.finish(values, pushed.reshape(2 * count, -1), recorded)
        plain = notes is None or not (notes.ties or notes.crossings or notes.subtracted)
        return found.reshape(count, 2).T, plain and all((kink < 0).all() for kink in kinks)

    def compare(self, recorded: Recorded, point: Point, place: int) -> None:
        """Hold the kernels against what subtraction gives, or, where that has too few digits, against whole maps.

        Raises
        ------
        NotLowered
            They part: a bug.
        """
        shape, values = point.arguments[place].shape, self.values_of(self.tape.values)
        v = np.random.default_rng(0).uniform(-1.0, 1.0, (_DIRECTIONS, *shape))
        least = 2.0**-46 * abs(self.value(values))  # rounding, where the loss does not move
        if not self._subtracts(recorded, values, v[:2], least):
            slopes = point.slopes({place: v}, (_STEP, -_STEP)).value
            found = self.along(recorded, values, v, (_STEP, -_STEP))[0]
            _demand_alike(found, slopes * np.array([[_STEP], [-_STEP]]), _STEP * least)
        if self.lowered.held:
            held, freely = (self.along(recorded, values, v, _SHORT, hold=hold)[0] for hold in (True, False))
            _demand_alike(held, freely, _SHORT[0] * least)

    def _subtracts(self, recorded: Recorded, values: Values, v: Float64, least: float) -> bool:
        """Whether differences are those of f at two points far from x, one to each side, to as many digits as show."""
        x = self.tape.values[self._source]
        steps = _FAR * max(1.0, float(np.abs(x).max(initial=0.0))) * np.array([1.0, -1.0])
        found = np.diagonal(self.along(recorded, values, v, steps.tolist())[0])
        there = [self._moved(x + step * one) for step, one in zip(steps, v, strict=True)]
        gaps = np.abs(found - (np.array(there) - self.value(values)))
        sizes = np.abs(found)
        return bool((gaps <= _APART * sizes + least).all() and (least <= 10 * _APART * sizes).all())

    def _moved(self, x: Any) -> float:
        """The function at another x, NaN where the control flow goes another way."""
        found = replay(self.tape, {self._source: x}, [self.tape.outputs[0]])
        return self.value(found) if bool(guards_hold(self.tape, found)) else math.nan

    def finish(self, values: Values, rows: Float64, recorded: Recorded) -> tuple[Float64, Notes | None]:
        """Differences of the output, given those at the border, shape (rows, elements); and what was met on the way."""
        tiny = max(rows.max(initial=0.0), -rows.min(initial=0.0)) <= TINY
        key = ("rest", len(rows), tiny)
        others = [values[i] for i in self._given]
        effort = self._left * effort_of(self._operations, len(rows))
        made = recorded.compiled(key, lambda tape: self._graph(len(rows), others, tiny=tiny), effort)
        if made is not None:
            found, plain = made(values.flat, tf.constant(rows), *others)
            if bool(plain):
                return found.numpy(), None
        start, notes = time.perf_counter(), Notes()
        there = {i: tf.convert_to_tensor(values[i]) for i in self._rest}
        moved = push(self.tape, self._split(rows), len(rows), [self.tape.outputs[0]], there, notes)[0]
        recorded.spend(key, time.perf_counter() - start)
        return np.zeros(len(rows)) if moved is None else np.reshape(moved.numpy(), len(rows)), notes

    def _split(self, rows: Any) -> dict[int, Any]:
        parts = tf.split(rows, list(self.lowered.border.values()), axis=1)
        shapes = [self.tape.values[i].shape for i in self.lowered.border]
        whole = zip(self.lowered.border, parts, shapes, strict=True)
        return {i: tf.reshape(part, [rows.shape[0], *shape]) for i, part, shape in whole}

    def _graph(self, count: int, others: list[Any], *, tiny: bool) -> Traced:
        read = {*self._rest}

        def rest(flat: Any, rows: Any, *others: Any) -> Any:
            notes, values = Notes(tiny=tiny), dict(zip(self._given, others, strict=True))
            values |= {
                number: tf.reshape(flat[start:stop], shape)
                for number, start, stop, shape in self._places
                if number in read
            }
            with short_moves(notes):
                (moved,) = push(self.tape, self._split(rows), count, [self.tape.outputs[0]], values, notes)
            found = tf.zeros([count], tf.float64) if moved is None else tf.reshape(moved, [count])
            return found, unkinked(notes)

        length = self._places[-1][2]
        floats = tf.TensorSpec([length], tf.float64), tf.TensorSpec([count, self._width], tf.float64)
        return trace_of(rest, [*floats, *(tf.TensorSpec(t.shape, t.dtype) for t in others)])


def _demand_alike(found: Float64, whole: Float64, least: float) -> None:
    """Differences by windows and on whole maps are those of one function, or there is a bug."""
    finite = np.isfinite(whole) & np.isfinite(found)
    gap = np.abs(found - whole)[finite].max(initial=0.0)
    if gap > _APART * np.abs(whole[finite]).max(initial=0.0) + least:
        raise NotLowered(
            f"on windows the loss moves by {found.flat[0]:.12g}, on whole maps by {whole.flat[0]:.12g}: a bug"
        )
