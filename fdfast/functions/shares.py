"""Every part's share of the gap between a gradient and the differences.

Along a direction, what a part gives back for its inputs must be what its outputs are worth: the gradient there, times
how far differences move them. Over all parts the gaps between the two add up to the gap of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.flat import Flat
from fdfast.functions.naming import namer
from fdfast.functions.units import Unit, cut
from fdfast.operations import Notes
from fdfast.tape import STEP, Recorder, Tape, half_types, push

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gap:
    """One part's share.

    Attributes
    ----------
    unit : Unit
    value : ndarray, shape (directions,)
        What its outputs are worth, less what its inputs are; zero up to rounding if its gradient is right.
    size : ndarray, shape (directions,)
        Sum of sizes of what was added up.
    reach : ndarray, shape (directions,)
        What comes in from above, added up, times the longest move of an input: a slope that is a difference of
        numbers near 1, as that of a softmax, rounds by some units of it.
    tied : bool
        Whether a unit of it ties: then its slopes differ by side, and a gap is no fault.
    """

    unit: Unit
    value: Float64
    size: Float64
    reach: Float64
    tied: bool = False


def gaps(
    flat: Flat, arguments: Sequence[Any], moved: Mapping[int, Float64], layers: Sequence[keras.Layer]
) -> list[Gap]:
    """Share out the gap among layers, hand-written gradients and operations, in the order of the graph.

    Parameters
    ----------
    flat : Flat
    arguments : sequence of ndarray
        Where, flat.
    moved : dict of int to ndarray
        Directions, shape (directions, *shape), by number of an argument or, behind these, of a variable.
    layers : sequence of keras.Layer
        Whose names may be told.

    Raises
    ------
    fdfast.tape.NoTape
    """
    found = cut(flat, layers)
    outputs = iter(range(len(found.concrete.outputs)))
    of_units = [[next(outputs) for _ in range(2 * (len(u.inputs) + len(u.outputs)))] for u in found.units]
    edges = [k for mine in of_units for k in mine[: len(mine) // 2]]
    graph = found.concrete.graph
    rounding = half_types(graph) - half_types(graph, [found.concrete.outputs[k] for k in edges])
    tape = Recorder(found.concrete, rounding)(arguments)
    edges = [tape.outputs[k] for k in edges]
    d, tied = _pushed(tape, flat, moved, edges)
    name_of = namer(layers)
    names = {name_of(name) for name in tied}
    numbers = ([tape.outputs[k] for k in mine] for mine in of_units)
    shares = [_gap(tape, unit, mine, d) for unit, mine in zip(found.units, numbers, strict=True)]
    return [replace(one, tied=one.unit.name in names) for one in shares]


def _pushed(
    tape: Tape, flat: Flat, moved: Mapping[int, Float64], edges: Sequence[int]
) -> tuple[dict[int, Any], list[str]]:
    """Differences of all edges along every direction, in units of the step; operations that have units which tie."""
    d = {}
    for place, v in moved.items():
        number = tape.number(place, flat.variables)
        if number is not None:
            d[number] = tf.constant(STEP * v)
    count, notes = len(next(iter(moved.values()))), Notes()
    known = push(tape, d, count, list(edges), notes=notes)
    tied = [tape.entries[number].name for number, mask in notes.ties if np.any(mask)]
    return {n: one / STEP for n, one in zip(edges, known, strict=True) if one is not None}, tied


def _gap(tape: Tape, unit: Unit, numbers: list[int], d: Mapping[int, Any]) -> Gap:
    edges, gradients = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
    count = next((len(one) for one in d.values()), 1)
    value, size, longest, above = np.zeros(count), np.zeros(count), np.zeros(count), 0.0
    upstream = all(bool(tf.reduce_all(tf.math.is_finite(tape.values[n]))) for n in gradients[len(unit.inputs) :])
    for i, (edge, gradient) in enumerate(zip(edges, gradients, strict=True)):
        if edge in d and upstream:  # else a part behind it is to blame
            worth = np.reshape((d[edge] * tape.values[gradient]).numpy(), (count, -1))
            value += worth.sum(axis=1) * (-1.0 if i < len(unit.inputs) else 1.0)
            size += np.abs(worth).sum(axis=1)
        if i >= len(unit.inputs):
            above += float(tf.reduce_sum(tf.abs(tape.values[gradient])))
        elif edge in d:
            longest = np.maximum(longest, np.abs(np.reshape(d[edge].numpy(), (count, -1))).max(axis=1, initial=0.0))
    return Gap(unit, value, size, np.where(longest > 0, above, 0.0) * longest)
