"""The windows of a recorded function at a point: made once, and taken again wherever f goes the same way."""

from __future__ import annotations

import time
from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.tape import LONG, Point, Recorded, Slopes, Tape, values_there
from fdfast.windows.program import NotLowered
from fdfast.windows.windows import Values, Windows


def windows_at(recorded: Recorded, point: Point, place: int = 0) -> tuple[Windows, Values] | None:
    """The windows of a recorded function and its values at a point; None where the kernels do nothing of it.

    Parameters
    ----------
    place : int
        Of x among the arguments.
    """
    former = recorded.windows
    if isinstance(former, Windows):
        values = _values(recorded, former, point)
        if values is not None and former.fits(values):
            return former, values
    elif former is not None:
        return None
    tape = point.tape
    number = recorded.number(tape, place)
    try:
        if number is None:
            raise NotLowered("x is not read")
        made = Windows(tape, number)
        made.compare(recorded, point, place)
        recorded.windows = made
    except NotLowered as error:
        recorded.windows = str(error)
        return None
    if isinstance(former, Windows) and not made.alike(former):
        recorded.forget()
    return made, made.values_of(tape.values)


def slopes_at(point: Point, moved: Mapping[int, Any], steps: Sequence[float]) -> Slopes:
    """Differences along directions, see `Point.slopes`: by the kernels where x alone moves and f is long.

    An operation is a call on whole maps, and next to nothing in a program: that tells for loops that are unrolled.
    """
    whole = point.recorded
    if set(moved) != {0} or len(steps) != 2 or len(whole.latest.entries if whole.latest else ()) < LONG:
        return point.slopes(moved, steps)
    if (found := windows_at(whole, point)) is not None:
        pushed, plain = found[0].along(whole, found[1], np.asarray(moved[0], np.float64), steps)
        if plain:
            none = np.zeros(pushed.shape, bool)
            return Slopes(pushed / np.reshape(steps, (2, 1)), [], [], [], [], none, none)
    return point.slopes(moved, steps)


def _values(recorded: Recorded, windows: Windows, point: Point) -> Values | None:
    """Values at a point; None where the control flow goes another way."""
    made = recorded.compiled("at", lambda _: windows.graph(point))
    if made is not None:
        flat, *others, holds = made(*map(tf.constant, point.arguments))
        return windows.unpacked(flat, others) if bool(holds) else None
    start = time.perf_counter()
    # Where nothing is recorded yet, no more runs than is asked for: not the gradient.
    found = None if point.is_recorded else values_there(windows.tape, point.lifted, windows.numbers)
    if found is not None:
        recorded.spend("at", (time.perf_counter() - start) / windows.share)
        return windows.values_of(ChainMap(found, dict(enumerate(windows.tape.values))))
    tape = point.tape
    recorded.spend("at", time.perf_counter() - start)
    return windows.values_of(tape.values) if _same_way(tape, windows.tape) else None


def _same_way(a: Tape, b: Tape) -> bool:
    """Whether the control flow went the same way."""
    return len(a.values) == len(b.values) and all(
        g.number == h.number and np.array_equal(g.value, h.value) for g, h in zip(a.guards, b.guards, strict=True)
    )
