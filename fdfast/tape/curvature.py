"""Differences of a recorded gradient along directions: the Hessian times v, without a second backward pass."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.operations import Notes
from fdfast.tape.again import guards_hold, push
from fdfast.tape.graphs import replayed, scaled, specs_of, trace_of, unkinked
from fdfast.tape.point import Point
from fdfast.tape.tape import Tape
from fdfast.tape.traced import Traced, shared

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Products:
    """What a gradient moves by along directions, divided by the step.

    Attributes
    ----------
    value : dict of int to ndarray of float64, shape (steps, directions, *shape)
        By place of an argument or, behind these, of a variable.
    subtracted : list of str
        Kinds of operations without a rule: ten digits instead of all.
    kinked : bool
        Whether a unit ties or leaves its branch. If none does, steps of any length say the same.
    """

    value: dict[int, Float64]
    subtracted: list[str]
    kinked: bool


def products(point: Point, moved: Mapping[int, Array], steps: Sequence[float], wanted: Sequence[int]) -> Products:
    """Differences of some gradients for every step along every direction.

    Parameters
    ----------
    point : Point
    moved : dict of int to ndarray
        As of `Point.slopes`.
    steps : sequence of float
    wanted : sequence of int
        Places whose gradient is asked for.
    """
    whole, places = point.recorded, tuple(sorted(moved))
    given = [np.asarray(moved[place], np.float64) for place in places]
    directions = len(given[0])
    key = ("products", places, tuple(wanted), directions, tuple(steps))
    made = whole.compiled(key, lambda tape: _graph(point, tape, places, wanted, directions, steps))
    if made is not None:
        *found, holds = made(*map(tf.constant, point.arguments), *map(shared, given))
        if bool(holds):
            return _unpacked(point, found, steps, directions, wanted, whole.subtracted[key], kinked=False)
    start = time.perf_counter()
    tape, notes = point.tape, Notes()
    rows = [tf.constant(np.concatenate([step * one for step in steps])) for one in given]
    results = _pushed(point, tape, dict(zip(places, rows, strict=True)), len(steps) * directions, wanted, notes)
    whole.spend(key, time.perf_counter() - start)
    kinked = bool(notes.ties or notes.crossings)
    return _unpacked(point, results, steps, directions, wanted, notes.subtracted, kinked=kinked)


def _pushed(
    point: Point,
    tape: Tape,
    rows: Mapping[int, Any],
    count: int,
    wanted: Sequence[int],
    notes: Notes,
    values: Mapping[int, Any] | None = None,
) -> list[Any]:
    """Differences of the gradients, zeros of those that do not move."""
    whole = point.recorded
    numbers = {place: whole.number(tape, place) for place in rows}
    d = {number: rows[place] for place, number in numbers.items() if number is not None}
    gradients = whole.gradient_numbers(tape, len(point.arguments))
    outputs = [gradients[place] for place in wanted if place in gradients]
    found = push(tape, d, count, outputs, values, notes)
    return [
        tf.zeros([count, *tape.values[n].shape], tf.float64) if one is None else one
        for n, one in zip(outputs, found, strict=True)
    ]


def _unpacked(
    point: Point,
    found: Sequence[Any],
    steps: Sequence[float],
    directions: int,
    wanted: Sequence[int],
    kinds: list[str],
    *,
    kinked: bool,
) -> Products:
    whole, rest = point.recorded, iter(found)
    connected = whole.gradient_numbers(whole.latest or point.tape, len(point.arguments))
    value = {}
    for place in wanted:
        shape = whole.shape(point.arguments, place)
        rows = next(rest).numpy() if place in connected else np.zeros((len(steps) * directions, *shape))
        by_step = rows.reshape(len(steps), directions, *shape)
        value[place] = by_step / np.reshape(steps, (-1, *[1] * (by_step.ndim - 1)))
    return Products(value, sorted(set(kinds)), kinked)


def _graph(
    point: Point, tape: Tape, places: tuple[int, ...], wanted: Sequence[int], directions: int, steps: Sequence[float]
) -> Traced:
    whole, taken = point.recorded, len(point.arguments)
    shapes = [tf.TensorSpec([directions, *whole.shape(point.arguments, place)], tf.float64) for place in places]
    subtracted: list[str] = []

    def differences(*tensors: Any) -> Any:
        outputs = [*whole.gradient_numbers(tape, taken).values()]
        values, notes = replayed(tape, tensors[:taken], outputs), Notes()
        rows = [scaled(one, steps) for one in tensors[taken:]]
        moved = dict(zip(places, rows, strict=True))
        found = _pushed(point, tape, moved, len(steps) * directions, wanted, notes, values)
        subtracted.extend(notes.subtracted)
        return [*found, guards_hold(tape, values) & unkinked(notes)]

    made = trace_of(differences, [*specs_of(point.arguments), *shapes])
    whole.subtracted["products", places, tuple(wanted), directions, tuple(steps)] = subtracted
    return made
