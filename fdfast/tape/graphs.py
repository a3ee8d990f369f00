"""Graphs of a tape: values, differences and what ties, at other arguments and at the variables as they are then."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.operations import Notes, short_moves
from fdfast.tape.again import guards_hold, push, replay, variables_now
from fdfast.tape.tape import EQUAL, STEP, Slopes, Tape
from fdfast.tape.traced import Traced

Array = npt.NDArray[Any]
Bool = npt.NDArray[np.bool_]
#: Moves that leave nothing of second order, whatever a function multiplies them by, within reason.
TINY = 2.0**-80
_FEW = 4  # directions up to which there is a graph for each number of them


@dataclass(eq=False)
class Met:
    """What a graph of differences meets: numbers of operations with branches, and kinds without a rule."""

    numbers: list[int] = field(default_factory=list)
    subtracted: list[str] = field(default_factory=list)


def evened(rows: Array) -> Array:
    """Directions, with some of zeros behind them: there is a graph for every number of directions."""
    count = len(rows)
    wanted = count if count <= _FEW else 1 << (count - 1).bit_length()
    return rows if wanted == count else np.concatenate([rows, np.zeros((wanted - count, *rows.shape[1:]))])


def slopes_of(
    tape: Tape, value: Array, branches: Sequence[tuple[int, Any, Any]], subtracted: list[str], directions: int
) -> Slopes:
    """What differences tell, without the directions that `evened` put in; branches as those of `Notes`, or arrays."""
    steps, rows = value.shape
    kept: Any = (slice(None), slice(directions))
    ties: list[tuple[str, Bool]] = []
    crossings: list[tuple[str, Bool]] = []
    turns: list[str] = []
    equal, kinked = np.zeros((2, steps, directions), bool)
    for number, *pair in branches:
        entry = tape.entries[number]
        masks = [np.reshape(one, (steps, rows))[kept] for one in pair if one is not None]
        if number in tape.aside:
            turns += [entry.name] if masks and masks[0].any() else []
            continue
        for mask, known in zip(masks, (ties, crossings), strict=False):
            if mask.any():
                known.append((entry.name, mask.reshape(-1)))
        if masks:
            of_kind = equal if entry.kernel.kind in EQUAL else kinked
            of_kind |= masks[0]
    return Slopes(value[kept], ties, crossings, subtracted, turns, equal, kinked)


def slopes_graph(
    tape: Tape,
    arguments: Sequence[Array],
    numbers: Sequence[int | None],
    directions: int,
    steps: Sequence[float],
    met: Met,
    *,
    branches: bool,
) -> Traced:
    """Slopes; where units tie and cross; and whether all this is right here.

    Parameters
    ----------
    tape : Tape
    arguments : sequence of ndarray
    numbers : sequence of int or None
        What moves.
    directions : int
        How many there are.
    steps : sequence of float
    met : Met
        Filled.
    branches : bool
        Whether units may tie and cross. If not, rules are quicker, and where one does nothing of this is right.

    Returns
    -------
    Traced
        Of (slopes, masks of shape (operations, 2, rows) in the order of `met`, scalar).
    """
    count, taken = len(steps) * directions, len(arguments)

    def slopes(*tensors: Any) -> Any:
        values = replayed(tape, tensors[:taken], [tape.outputs[0]])
        notes = Notes(smooth=not branches, tiny=max(map(abs, steps)) <= TINY)
        d = {
            number: scaled(one, steps)
            for number, one in zip(numbers, tensors[taken:], strict=True)
            if number is not None
        }
        with contextlib.nullcontext() if branches else short_moves(notes):
            moved, *_ = push(tape, d, count, tape.deciding, values, notes)
        both = [(number, pair) for number, *pair in notes.branches if branches and pair[0] is not None]
        met.numbers.extend(number for number, _ in both)
        met.subtracted.extend(notes.subtracted)
        masks = tf.stack([tf.stack(pair) for _, pair in both]) if both else tf.zeros([0, 2, count], tf.bool)
        found = tf.zeros([count], tf.float64) if moved is None else tf.reshape(moved, [count])
        quotient = tf.reshape(found, [len(steps), directions]) / tf.constant(steps, tf.float64)[:, None]
        return quotient, masks, guards_hold(tape, values) & (smooth(notes) if branches else unkinked(notes))

    return trace_of(slopes, [*specs_of(arguments), *_moves(tape, numbers, directions)])


def finite_graph(tape: Tape, arguments: Sequence[Array]) -> Traced:
    """See `finite`, with a scalar that says whether this is right here."""

    def found(*tensors: Any) -> Any:
        values = replayed(tape, tensors, sorted(_read(tape)))
        return [finite(tape, values), guards_hold(tape, values)]

    return trace_of(found, specs_of(arguments))


def finite(tape: Tape, given: Mapping[int, Any]) -> Any:
    """Whether all that f is made of, and its gradients, are finite; whether they are but for infinite numbers within.

    An infinite number that passes into a finite value with a finite gradient stands still, as in a mask, or is added.
    """
    real = _floats(tape, given)
    each = {i: tf.reduce_all(tf.math.is_finite(v)) for i, v in real.items()}
    numbers = [each[i] if i in tape.outputs else ~tf.reduce_any(tf.math.is_nan(v)) for i, v in real.items()]
    return tf.stack([tf.reduce_all(tf.stack([*each.values()])), tf.reduce_all(tf.stack(numbers))])


def finite_here(tape: Tape) -> list[bool]:
    """See `finite`; of the values of the tape, without operations of TensorFlow, each of which takes longer."""
    bad = {i: v for i, v in _floats(tape, {}).items() if not np.isfinite(v.numpy()).all()}
    return [not bad, not any(i in tape.outputs or np.isnan(v.numpy()).any() for i, v in bad.items())]


def _floats(tape: Tape, given: Mapping[int, Any]) -> dict[int, Any]:
    values = {i: given.get(i, tape.values[i]) for i in sorted(_read(tape))}
    return {i: v for i, v in values.items() if tf.is_tensor(v) and v.dtype.is_floating}


def _read(tape: Tape) -> set[int]:
    return {i for e in tape.needed([tape.outputs[0]]) for i in (*e.inputs, *e.outputs)} | set(tape.outputs)


def equal_graph(tape: Tape, arguments: Sequence[Array], numbers: Sequence[int]) -> Traced:
    """See `equal`, with a scalar that says whether this is right here."""

    def found(*tensors: Any) -> Any:
        operands = [number for entry in tape.compared for number in entry.inputs]
        values = replayed(tape, tensors, operands)
        return [*equal(tape, values, numbers), guards_hold(tape, values)]

    return trace_of(found, specs_of(arguments))


def equal(tape: Tape, given: Mapping[int, Any], numbers: Sequence[int]) -> list[Any]:
    """By what an element moves equal numbers apart that are compared by ==, all of them weighed at random and added."""
    with tf.GradientTape() as gradient:
        watched = {number: tf.identity(given[number]) for number in numbers}
        gradient.watch(list(watched.values()))
        operands = [number for entry in tape.compared for number in entry.inputs]
        values = replay(tape, {**{n: given[n] for n in tape.inputs}, **watched}, operands)
        total = tf.zeros([], tf.float64)
        for turn, entry in enumerate(tape.compared):
            a, b = (values.get(n, tape.values[n]) for n in entry.inputs)
            apart = tf.random.stateless_uniform((a - b).shape, [0, turn], 1, 2, a.dtype) * (a - b)
            total += tf.reduce_sum(tf.where(a == b, apart, tf.zeros_like(apart)))
    moves: list[Any] = gradient.gradient(total, list(watched.values()), unconnected_gradients="zero")
    return moves


def switched(tape: Tape, moved: Mapping[int, Any], count: int, values: Mapping[int, Any] | None = None) -> Any:
    """Which decisions of the tape are others in each row, shape (rows, decisions), of bool."""
    values, wanted = values or {}, tape.decisions
    found = zip(wanted, push(tape, moved, count, wanted, values, Notes(smooth=False)), strict=True)
    others = [one != values.get(n, tape.values[n]) for n, one in found if one is not None]
    return tf.concat([tf.zeros([count, 0], tf.bool), *(tf.reshape(one, [count, -1]) for one in others)], 1)


def switched_graph(tape: Tape, arguments: Sequence[Array], numbers: Sequence[int | None], directions: int) -> Traced:
    """See `switched`, for moves by one step, with a scalar that says whether this is right here."""
    taken = len(arguments)

    def found(*tensors: Any) -> Any:
        values = replayed(tape, tensors[:taken], tape.decisions)
        d = {n: STEP * one for n, one in zip(numbers, tensors[taken:], strict=True) if n is not None}
        return [switched(tape, d, directions, values), guards_hold(tape, values)]

    return trace_of(found, [*specs_of(arguments), *_moves(tape, numbers, directions)])


def sides_graph(tape: Tape, arguments: Sequence[Array], numbers: Sequence[int]) -> Traced:
    """See `sides`, with a scalar that says whether this is right here."""
    taken = len(arguments)

    def found(*tensors: Any) -> Any:
        values, notes = replayed(tape, tensors[:taken], [tape.outputs[0]]), Notes(smooth=False)
        both = sides(tape, dict(zip(numbers, tensors[taken:], strict=True)), values, notes)
        return [*both, guards_hold(tape, values) & smooth(notes)]

    return trace_of(found, [*specs_of(arguments), *_moves(tape, numbers, 2)])


def sides(
    tape: Tape, moves: Mapping[int, Any], values: Mapping[int, Any] | None = None, notes: Notes | None = None
) -> list[Any]:
    """Gradients of the value's difference in two moves, at each of them, by number of what moves."""
    with tf.GradientTape() as gradient:
        gradient.watch(list(moves.values()))
        (moved,) = push(tape, {n: STEP * one for n, one in moves.items()}, 2, [tape.outputs[0]], values, notes)
        total = tf.zeros([], tf.float64) if moved is None else tf.reduce_sum(moved) / STEP
    found: list[Any] = gradient.gradient(total, list(moves.values()), unconnected_gradients="zero")
    return found


def _moves(tape: Tape, numbers: Sequence[int | None], directions: int) -> list[tf.TensorSpec]:
    shapes = [[] if number is None else list(tape.values[number].shape) for number in numbers]
    return [tf.TensorSpec([directions, *shape], tf.float64) for shape in shapes]


def scaled(directions: Any, steps: Sequence[float]) -> Any:
    """Every direction times the first step, then times the next; without a copy of each product."""
    lengths = tf.reshape(tf.constant(steps, directions.dtype), [-1, *[1] * directions.shape.rank])
    return tf.reshape(lengths * directions, [-1, *directions.shape[1:]])


def smooth(notes: Notes) -> Any:
    """Scalar of a graph in the making: whether the smooth rules that were taken hold."""
    special = [one for _, one in notes.special]
    return ~tf.reduce_any(tf.stack(special)) if special else tf.constant(True)


def unkinked(notes: Notes) -> Any:
    """Scalar of a graph in the making: whether, besides, no unit ties or leaves its branch."""
    kinks = [tf.reduce_any(one) for _, *both in notes.branches for one in both if one is not None]
    return smooth(notes) & ~tf.reduce_any(tf.stack(kinks)) if kinks else smooth(notes)


def values_graph(
    tape: Tape, arguments: Sequence[Array], numbers: Sequence[int] | None = None, packed: Sequence[int] = ()
) -> Traced:
    """Outputs of a tape, or other values of it, at other arguments; then whether its control flow goes the same way.

    Values that are `packed`, of one dtype, come before all others in one piece: each tensor that is returned costs more
    than a small one's contents.
    """
    wanted = tape.outputs if numbers is None else list(numbers)

    def values(*tensors: Any) -> Any:
        found = replayed(tape, tensors, [*packed, *wanted])
        flat = [tf.reshape(found.get(n, tape.values[n]), [-1]) for n in packed]
        others = (found.get(n, tape.values[n]) for n in wanted)
        return [*([tf.concat(flat, 0)] if flat else []), *others, guards_hold(tape, found)]

    return trace_of(values, specs_of(arguments))


def replayed(tape: Tape, tensors: Sequence[Any], outputs: Sequence[int]) -> dict[int, Any]:
    """Values at given arguments and at the variables as they are now."""
    return replay(tape, dict(zip(tape.arguments, tensors, strict=True)) | variables_now(tape), outputs)


def specs_of(arguments: Sequence[Array]) -> list[tf.TensorSpec]:
    """What a graph of these arguments is traced with."""
    return [tf.TensorSpec(a.shape, a.dtype) for a in arguments]


def trace_of(function: Any, specs: list[tf.TensorSpec]) -> Traced:
    """One trace of a function of the tape."""
    return Traced(tf.function(function, input_signature=specs, autograph=False), ordered=True)
