"""Elements that differ by noise of f: over wider steps the gradient is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fdfast.estimates import look_wider, widest
from fdfast.moves import Directions, auto_step
from fdfast.verdict.directions import Slopes, Suspect

Float64 = npt.NDArray[np.float64]
_FIRST = 8  # of which one must be rough, or no other is looked at


class Rough(NamedTuple):
    """An element right at which f is noise.

    Attributes
    ----------
    suspect : Suspect
    noise : float
        Standard deviation of f about its slope over wider steps.
    step : float
        The step.
    """

    suspect: Suspect
    noise: float
    step: float


def rough_among(
    slopes: Slopes, directions: Directions, suspects: Sequence[Suspect], values: Callable[[int], Float64]
) -> list[Rough]:
    """Those of some elements whose gradient is right over steps as they are usual, though not right at the point.

    Parameters
    ----------
    slopes : callable
    directions : Directions
    suspects : sequence of Suspect
    values : callable
        Number of a place -> the array there.
    """
    some = [one for one in suspects if np.isfinite(one.analytic)]
    found = _looked(slopes, directions, some[:_FIRST], values)
    return found + _looked(slopes, directions, some[_FIRST:], values) if found else []


def _looked(
    slopes: Slopes, directions: Directions, some: Sequence[Suspect], values: Callable[[int], Float64]
) -> list[Rough]:
    if not some:
        return []

    def lines(rows: npt.NDArray[np.intp], t: Float64) -> Float64:
        found = np.empty((*t.shape, 2))
        for k, row in enumerate(rows.tolist()):
            steps = np.concatenate([t[k], -t[k]])
            v = directions.single([(some[row].place, some[row].index)])
            found[k] = (slopes(v, steps.tolist()).value[:, 0] * steps).reshape(2, -1).T
        return found

    step = np.array([_step(values(one.place), one.index) for one in some])
    claimed = np.array([one.analytic for one in some])
    gap = np.abs(np.array([one.numeric for one in some]) - claimed)
    seen = look_wider(lines, step, step * widest(np.float64), claimed, np.where(np.isfinite(gap), gap, np.inf))
    return [Rough(some[i], float(seen.noise[i]), float(seen.step[i])) for i in np.flatnonzero(seen.rough).tolist()]


def _step(array: Float64, index: int) -> float:
    """The usual step of one element, see `fdfast.moves.plan_steps`."""
    peak, own = float(np.abs(array).max(initial=0.0)), abs(float(array.reshape(-1)[index]))
    return float(auto_step(np.float64) * 2.0 ** round(np.log2(max(own, min(1.0, peak)) or 1.0)))
