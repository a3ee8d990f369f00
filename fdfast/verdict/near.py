"""Classes of tiles so far, and what points near x say about those that x itself cannot decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.estimates import SINGULAR, SMOOTH, Engine, Estimate, Wider, rough_tiles
from fdfast.moves import Steps, Tiling
from fdfast.verdict.compare import AGREE, KINKED, UNRESOLVED, WRONG, Comparison

Bool = npt.NDArray[np.bool_]


class Near:
    """Classes so far, and which tiles a generic point near x may still decide.

    A gradient that is not finite where f and its slopes are is wrong at x, whatever is found near it. Where f itself
    has no slope at x nothing agrees, but a gradient that is wrong near x is.

    Attributes
    ----------
    here : ndarray of float64
        Gradient under test at x.
    cleared : ndarray of bool
        Wrong at x, where f is smooth along the tile, and right near x. Whether that is a branch or a fault is for
        `excuse` and `convict` to say.
    branch, only_here : ndarray of bool
        What became of these.
    """

    def __init__(self, found: Estimate, here: Comparison, edge: Bool) -> None:
        self.codes = np.where(edge, UNRESOLVED, here.classes).astype(np.int8)
        shape = self.codes.shape
        self.near, self.cleared, self.branch, self.only_here = (np.zeros(shape, bool) for _ in range(4))
        self.here = here.analytic
        self.numeric, self.analytic, self.error = found.value.copy(), here.analytic.copy(), found.error.copy()
        self.detectable = here.detectable.copy()
        self.evaluations = self.refined = 0
        sealed = (here.classes == WRONG) & ~np.isfinite(here.analytic)
        # Noise is the same a little further on: smooth tiles with a wide bar are not looked at again.
        self.open = ((here.classes == WRONG) | (found.kind != SMOOTH)) & ~sealed
        self._singular = found.kind == SINGULAR
        self._at_x: Bool = (here.classes == WRONG) & ~edge & ~sealed
        self._accused = self._at_x.copy()
        self._looked = np.zeros(shape, bool)

    @property
    def accused(self) -> Bool:
        """Tiles that were called wrong at x, by a gradient that is finite there."""
        return self._at_x

    def excuse(self, rows: npt.NDArray[np.int64], which: Bool) -> None:
        """Take accusations at x back: f has a kink there, although its slopes from both sides are equal."""
        self.codes[rows] = np.where(which, KINKED, self.codes[rows])
        self.branch[rows] |= which

    def convict(self, rows: npt.NDArray[np.int64], which: Bool) -> None:
        """Let accusations at x stand, although the gradient is right near x: f has no kink there."""
        self.codes[rows] = np.where(which, WRONG, self.codes[rows])
        self.only_here[rows] |= which

    def close(self) -> None:
        """Leave accusations at x open that no point near x has borne out, where there was a look at one."""
        self.codes = np.where(self.open & self._at_x & self._looked, UNRESOLVED, self.codes).astype(np.int8)

    def take(self, rows: npt.NDArray[np.int64], there: Estimate, seen: Comparison) -> None:
        """Count what was seen at another generic point."""
        open_ = self.open[rows]
        self._looked[rows] = True
        agree = open_ & (seen.classes == AGREE)
        # Where f is not smooth a gradient that is no number is no fault: nobody has asked whether f has a slope there.
        wrong = open_ & (seen.classes == WRONG) & (np.isfinite(seen.analytic) | (there.kind == SMOOTH))
        second = wrong & self._accused[rows]
        first = wrong & ~self._accused[rows]
        cleared = agree & self._accused[rows]
        fresh = agree & ~self._accused[rows] & ~self._singular[rows]
        self._settle(rows, fresh, AGREE, there, seen)
        self._settle(rows, second & ~self._at_x[rows], WRONG, there, seen)
        self.codes[rows] = np.where(second, WRONG, self.codes[rows])
        # Accused once near x and once cleared there: nothing can be said for sure.
        self.codes[rows] = np.where(cleared & ~self._singular[rows], UNRESOLVED, self.codes[rows])
        self.cleared[rows] |= cleared & self._at_x[rows]
        self._accused[rows] |= first
        self.open[rows] = open_ & ~(agree | second)
        self.evaluations += there.evaluations
        self.refined += there.refined

    def widen(self, which: Bool, there: Estimate, seen: Comparison) -> None:
        """Let slopes over wider steps decide on tiles below whose steps f is noise."""
        for mine, theirs in (
            (self.numeric, there.value),
            (self.analytic, seen.analytic),
            (self.error, there.error),
            (self.detectable, seen.detectable),
            (self.codes, seen.classes),
        ):
            mine[which] = theirs[which]
        for mask in (self.near, self.cleared, self.branch, self.only_here):
            mask &= ~which

    def _settle(self, rows: npt.NDArray[np.int64], which: Bool, code: int, there: Estimate, seen: Comparison) -> None:
        if not which.any():
            return
        for mine, theirs in (
            (self.numeric, there.value),
            (self.analytic, seen.analytic),
            (self.error, there.error),
            (self.detectable, seen.detectable),
        ):
            mine[rows] = np.where(which, theirs, mine[rows])
        self.codes[rows] = np.where(which, code, self.codes[rows])
        self.near[rows] |= which


def look_wider_at(
    engine: Engine,
    points: Any,
    steps: Steps,
    tiling: Tiling,
    found: Estimate,
    result: Near,
    compare: Callable[[Estimate, Any], Comparison],
    asked: Bool,
) -> Wider:
    """Take accusations at x back where what was seen there is noise of f, which goes over wider steps as it should.

    It is put into `result`.
    """
    analytic = result.here
    wanted = result.codes == WRONG
    if not wanted.any():
        return Wider.none(wanted.shape)
    with np.errstate(all="ignore"):
        gap = np.fmax(np.abs(found.right - analytic), np.abs(found.left - analytic))
    gap = np.where(np.isfinite(gap), gap, np.inf)
    seen = rough_tiles(engine, points, steps, tiling, wanted & asked, analytic, gap)
    if seen.rough.any():
        # The largest slope of an example may be noise, and must not set what is small beside it.
        there = replace(seen.over(found), scale=np.zeros_like(found.scale))
        result.widen(seen.rough, there, compare(there, analytic))
    return seen
