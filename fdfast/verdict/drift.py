"""Whether a difference depends on where one looks: what tells kinks that cancel at x from a regular point."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fdfast.estimates import SMOOTH, Estimate

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

#: Distances from x, in units of its scale, at which a difference should hardly drift. Steps are a sixteenth of them,
#: which in float32 must leave some digits.
CLOSE = {"float64": (2.0**-12, 2.0**-16), "float32": (2.0**-8, 2.0**-12)}


class Drift(NamedTuple):
    """What looks close by say; neither is known where noise is as large as what is to be explained.

    Attributes
    ----------
    jumps : ndarray of bool
        The difference takes another value however close the look is: kinks meet at x, and cancel there.
    steady : ndarray of bool
        Close by the difference surely is what it is at x, but for a quarter of what is to be explained.
    """

    jumps: Bool
    steady: Bool


def drift(
    look: Callable[[int, float], Estimate],
    value: Float64,
    error: Float64,
    gap: Float64,
    draws: int,
    dtype: npt.DTypeLike,
) -> Drift:
    """Look at several points at both distances.

    At a regular point a difference drifts in proportion to the distance; where kinks cancel it takes another value at
    every distance. Several draws: one may land on the very branch that x is on.

    Parameters
    ----------
    look : callable
        (draw, distance) -> estimates there, of the shape of the other arrays.
    value, error : ndarray of float64
        Difference at x and its error bar.
    gap : ndarray of float64
        How far the gradient under test is from it.
    draws : int
    dtype : dtype
        Of the points.
    """
    least, most = [], []
    for closeness in CLOSE[np.dtype(dtype).name]:
        # Only what the two error bars leave: a loss in a plateau may be all noise at steps as short as these.
        surely, perhaps = np.zeros(value.shape), np.zeros(value.shape)
        for draw in range(draws):
            there = look(draw, closeness)
            apart, slack = np.abs(there.value - value), there.error + error
            smooth = there.kind == SMOOTH
            surely = np.fmax(surely, np.where(smooth, np.maximum(apart - slack, 0.0), np.inf))
            perhaps = np.fmax(perhaps, np.where(smooth, apart + slack, np.inf))
        least.append(surely)
        most.append(perhaps)
    jumps = (least[1] > gap / 20) & (np.isinf(least[1]) | (least[1] > least[0] / 4))
    return Drift(jumps, (np.fmin(*most) < gap / 4) & ~jumps)
