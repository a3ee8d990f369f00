"""A tape at other values, and differences pushed along it; eagerly, or inside a graph in the making."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from fdfast.operations import Call, Kernel, Notes, difference, has_value, is_real
from fdfast.tape.recorder import lifted
from fdfast.tape.tape import Entry, Tape
from fdfast.tape.twins import value_of


def replay(
    tape: Tape,
    given: Mapping[int, Any],
    outputs: Sequence[int] | None = None,
    rounded: Callable[[Kernel, Sequence[Any], Any], Any] | None = None,
) -> dict[int, Any]:
    """Values that depend on those given, by number, with the control flow as it was recorded.

    Parameters
    ----------
    tape : Tape
    given : dict of int to tensor
        Other values of some inputs; tensors of a graph in the making, too.
    outputs : sequence of int, optional
        What is wanted, so that the rest is left out; guards come with them.
    rounded : callable, optional
        What becomes of numbers that an operation made of its inputs.

    Returns
    -------
    dict of int to tensor
        Those given, and all that depend on them. Guards must come out as they were: see `guards_hold`.
    """
    found = dict(given)
    entries: Sequence[Entry] = tape.entries
    if outputs is not None:
        entries = tape.needed([*outputs, *(guard.number for guard in tape.guards)])
    for entry in entries:
        if any(i in found for i in entry.inputs):
            inputs = [found[i] if i in found else value_at(tape, i) for i in entry.inputs]
            for number, value in zip(entry.outputs, entry.kernel(*inputs), strict=True):
                # An output that is not asked for, as eigenvectors, may have another shape in a graph.
                if not has_value(value) and value.shape.is_compatible_with(tape.values[number].shape):
                    value.set_shape(tape.values[number].shape)
                found[number] = value if rounded is None or not is_real(value) else rounded(entry.kernel, inputs, value)
    return found


def moved_to(tape: Tape, arguments: Sequence[Any]) -> Tape | None:
    """The same operations at other arguments; None where f has to be recorded (see `values_there`)."""
    found = values_there(tape, arguments)
    if found is None:
        return None
    return replace(tape, values=[found.get(number, value) for number, value in enumerate(tape.values)])


def values_there(tape: Tape, arguments: Sequence[Any], outputs: Sequence[int] | None = None) -> dict[int, Any] | None:
    """Values at other arguments, and at the variables as they are now, see `replay`; None where f has to be recorded.

    That is where the control flow goes another way, a shape follows from values, or an operation keeps state.
    """
    if tape.draws:
        return None
    try:
        found = replay(tape, dict(zip(tape.arguments, arguments, strict=True)) | variables_now(tape), outputs)
    except (tf.errors.OpError, TypeError, ValueError):  # which a recording may get round, or says
        return None
    alike = all(value.shape == tape.values[number].shape for number, value in found.items())
    return found if alike and bool(guards_hold(tape, found)) else None


def variables_now(tape: Tape) -> dict[int, Any]:
    """Values of variables, by number, in float64 where they are narrower; in a graph in the making, too."""
    found = {}
    for key, number in tape.variables.items():
        handle = tape.handles[key]
        found[number] = lifted(value_of(handle)) if tape.twins is None else tape.twins.value(key, handle)
    return found


def value_at(tape: Tape, number: int) -> Any:
    """A value of the tape as an operation takes it."""
    value = tape.values[number]
    return getattr(value, "tensor", value)


def guards_hold(tape: Tape, found: Mapping[int, Any]) -> Any:
    """Scalar: whether the control flow would have gone the same way."""
    held = [tf.reduce_all(found[g.number] == g.value) for g in tape.guards if g.number in found]
    return tf.reduce_all(tf.stack(held)) if held else tf.constant(True)


def push(
    tape: Tape,
    moved: Mapping[int, Any],
    count: int,
    outputs: Sequence[int] | None = None,
    values: Mapping[int, Any] | None = None,
    notes: Notes | None = None,
) -> list[Any]:
    """Differences of the outputs, given those of some values.

    Parameters
    ----------
    tape : Tape
    moved : dict of int to tensor
        Differences by number, shape (count, *shape of the value).
    count : int
        Number of rows.
    outputs : sequence of int, optional
        Numbers of the outputs; those of the tape by default.
    values : dict of int to tensor, optional
        Values that are not those of the tape (see `replay`).
    notes : Notes, optional
        Filled with ties, crossings and operations without a rule.

    Returns
    -------
    list of tensor or None
        None where an output does not move.
    """
    outputs = tape.outputs if outputs is None else outputs
    values, notes = values or {}, Notes() if notes is None else notes
    d = dict(moved)
    entries = tape.needed(list(outputs), moved)
    numbers = {id(entry): i for i, entry in enumerate(tape.entries)}
    last = {i: at for at, entry in enumerate(entries) for i in entry.inputs}
    kept = set(outputs)
    for at, entry in enumerate(entries):
        if any(d.get(i) is not None for i in entry.inputs):
            call = Call(
                entry.kernel,
                count,
                [values[i] if i in values else value_at(tape, i) for i in entry.inputs],
                [d.get(i) for i in entry.inputs],
                [values[o] if o in values else tape.values[o] for o in entry.outputs],
                numbers[id(entry)],
                notes,
            )
            found = zip(entry.outputs, difference(call), strict=True)
            d.update((number, one) for number, one in found if number not in moved)
        for i in entry.inputs:
            if last[i] == at and i not in kept:
                d.pop(i, None)
    return [d.get(o) for o in outputs]
