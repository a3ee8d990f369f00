"""All tiles of a group of examples: looked at x first, then near x where x itself cannot decide."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.estimates import (
    KINK,
    NOTHING,
    SINGULAR,
    SMOOTH,
    UNRESOLVED,
    Breaks,
    Estimate,
    Wider,
    breaks,
    estimate_tiles,
)
from fdfast.moves import Steps, Tiling, plan_steps
from fdfast.verdict.compare import AGREE, WRONG, Comparison, cancellation, compare
from fdfast.verdict.drift import drift
from fdfast.verdict.generic import Generic
from fdfast.verdict.judgement import Judgement
from fdfast.verdict.near import Near, look_wider_at
from fdfast.verdict.terms import Terms
from fdfast.verdict.tested import Tested

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]

_ROUNDS = 3  # generic points tried for a tile before it is left open
_DRAWS = 3  # points close to x that tell a branch from a fault, for a gradient that has no value there
_CLEARED = 8  # and for one that is right there: two branches in three draws may be the same one
_TORN = 2.0**10  # a slope by exact differences, beside the gradient, that asks for a second look
_FAULT = 0.01  # relative error that the self-test plants


class Trial:
    """Holds what a look needs: tiles, terms, an engine for the tiles, the gradient under test, points near x."""

    def __init__(
        self,
        tiling: Tiling,
        terms: Terms,
        engine: Any,
        tested: Tested,
        points: npt.NDArray[Any],
        steps: Steps,
        generic: Generic,
        first: npt.NDArray[Any] | None,
    ) -> None:
        self._tiling, self._terms, self._engine, self._tested = tiling, terms, engine, tested
        self._points, self._steps, self._generic, self._first = points, steps, generic, first

    def __call__(self) -> Judgement:
        """Judge every tile of every point."""
        start = time.perf_counter()
        found = estimate_tiles(
            self._engine, self._points, self._steps, self._tiling, rtol=self._terms.rtol, seed=self._terms.seed
        )
        differences = time.perf_counter() - start
        sums = self._tiling.sums(self._tested.here(near=bool((found.kind != SMOOTH).any())))
        start = time.perf_counter()
        found, broken = self._broken(found, sums)
        here = self._compare(found, sums)
        # On one side of x, or beside it, a kink at x does not show; a gradient that is no number needs no second look.
        edge = (here.classes == WRONG) & ((self._steps.scheme != 0) | self._steps.moved) & np.isfinite(sums)
        near = Near(found, here, edge)
        if self._first is None or not self._tested.has_values_near:
            self._without_a_look_near(found, near)
        else:
            self._look_near(near, self._first)
            self._clear(found, near)
        rough = self._wider(found, near)
        low, high = np.fmin(found.left, found.right), np.fmax(found.left, found.right)
        slack = np.where(found.kind == KINK, 0.0, found.error) + here.tolerance
        jittered = time.perf_counter() - start
        deployed = self._tested.deployed()
        return Judgement(
            numeric=found.value,
            analytic=here.analytic,
            error_bar=found.error,
            right=found.right,
            left=found.left,
            kind=np.where(rough.rough, UNRESOLVED, found.kind).astype(np.int8),
            codes=near.codes,
            near=near.near,
            between=(found.kind == KINK)
            & ~rough.rough
            & (here.analytic >= low - slack)
            & (here.analytic <= high + slack),
            branch=near.branch,
            cleared=near.cleared,
            only_here=near.only_here,
            edge=edge,
            breaks=broken.reason,
            jump=broken.size,
            side=broken.side,
            roughness=rough.noise,
            wider=rough.step,
            within=np.zeros(near.codes.shape, bool),
            checked_numeric=near.numeric,
            checked_analytic=near.analytic,
            checked_error=near.error,
            detectable=near.detectable,
            step=found.step,
            base=found.base,
            noise=found.noise,
            deployed=None if deployed is None else self._tiling.sums(deployed[0]),
            deployed_dtype=None if deployed is None else deployed[1].name,
            selftest=self._plant(found, here) if self._terms.selftest else None,
            evaluations=found.evaluations + broken.evaluations + near.evaluations + rough.evaluations,
            refined=found.refined + near.refined,
            timings={"differences": differences, "autodiff": 0.0, "near x": jittered},
            ties=_ties(self._engine, found),
            sums_only="",
        )

    def _compare(self, found: Estimate, analytic: Float64) -> Comparison:
        objective, eps = self._tested.objective, self._tested.eps
        sharp = objective.traced is not None and objective.traced.is_sharp
        lost = cancellation(found.base, eps) if sharp else 0.0
        return compare(found, analytic, eps, self._terms.rtol, self._terms.floor, lost)

    def _broken(self, found: Estimate, analytic: Float64) -> tuple[Estimate, Breaks]:
        """See whether f has a finite slope where none was found, and where the gradient is not finite."""
        both = np.isfinite(found.right) & np.isfinite(found.left)
        # By exact differences a side that is not finite beside one that is looks like a kink.
        wanted = (found.kind == UNRESOLVED) | ~np.isfinite(analytic) | (~both & (self._steps.scheme == 0))
        with np.errstate(all="ignore"):
            largest = np.fmax(np.abs(found.right), np.abs(found.left))
        # By exact differences over a tiny step a jump is a slope beyond all others: a kink with such a side is none.
        torn = self._engine.exact & (largest > _TORN * np.fmax(1.0, np.abs(analytic)))
        seen = breaks(self._engine, self._points, self._steps, self._tiling, wanted & ~torn, found.noise)
        if torn.any():
            none = np.zeros_like(found.noise)
            seen = seen.joined(breaks(self._engine, self._points, self._steps, self._tiling, torn, none))
        if not seen.reason.any():
            return found, seen
        return replace(found, kind=np.where(seen.reason != NOTHING, SINGULAR, found.kind).astype(np.int8)), seen

    def _wider(self, found: Estimate, result: Near) -> Wider:
        steps = self._steps
        if (result.codes == WRONG).any():
            steps = plan_steps(self._points, self._tiling, self._terms.h, self._terms.bounds)
        everything = np.ones(found.kind.shape, bool)
        return look_wider_at(self._engine, self._points, steps, self._tiling, found, result, self._compare, everything)

    def _look_near(self, result: Near, first: npt.NDArray[Any]) -> None:
        for turn in range(_ROUNDS):
            if not result.open.any():
                break
            # Examples with nothing open are left out.
            rows = np.flatnonzero(result.open.any(axis=1))
            generic = first[rows] if turn == 0 else self._generic.at(turn, rows)

            def look(at: slice, turn: int = turn, rows: Rows = rows, generic: Any = generic) -> None:
                some = rows[at]
                # Shorter than the distance from x, or the steps would reach back over the ties there.
                reach = float(self._generic.width(some).min()) / 16
                there = self._estimate(some, generic[at], generic[at], result.open[some], reach, turn)
                maps = self._tested.near(rows, at, generic[at], first=turn == 0)
                result.take(some, there, self._compare(there, self._tiling.sums(maps)))

            try:
                look(slice(None))
            except ValueError:
                # x may lie at the edge of the domain of f, and its generic point beyond: nothing is learnt there.
                for i in range(len(rows)):
                    with contextlib.suppress(ValueError):
                        look(slice(i, i + 1))
        result.close()

    def _ties(self, found: Estimate) -> Bool | None:
        """Tiles that move a unit which sits on its kink at x, along which f may look smooth all the same.

        None from an engine that does not see the units. This is the one place that knows what an engine can tell.
        """
        return None if found.tie is None else found.tie >= 0

    def _clear(self, found: Estimate, result: Near) -> None:
        """Decide on tiles that are wrong at x and right near it: a branch of kinks that cancel, or a fault at x alone.

        It is a branch only if there are kinks: units that tie at x where the engine sees them, else a difference that
        depends on where one looks, however close. Where noise hides that, nothing is decided.
        """
        ties = self._ties(found)
        rows = np.flatnonzero(result.cleared.any(axis=1))
        if not rows.size:
            return
        cleared = result.cleared[rows]
        if ties is not None:
            jumps, steady = ties[rows], ~ties[rows]
        else:
            jumps, steady = self._drift(rows, cleared, result, _CLEARED, signed=True)
        result.excuse(rows, cleared & jumps)
        result.convict(rows, cleared & steady)

    def _without_a_look_near(self, found: Estimate, result: Near) -> None:
        """Drop accusations at x where kinks meet and cancel; the gradient has no value near x, but f has."""
        ties = self._ties(found)
        accused = result.accused if ties is None else result.accused & ties
        rows = np.flatnonzero(accused.any(axis=1))
        if rows.size:
            jumps, _ = self._drift(rows, accused[rows], result, _DRAWS, signed=False)
            result.excuse(rows, accused[rows] & jumps)

    def _drift(self, rows: Rows, wanted: Bool, result: Near, draws: int, *, signed: bool) -> tuple[Bool, Bool]:
        def look(draw: int, closeness: float) -> Estimate:
            at = self._generic.at(draw, rows, closeness, signed=signed)
            # The scale is that of x: near an x of zeros, all values are small by themselves.
            anchor = self._points[rows] if self._terms.bounds is None else at
            # Shorter than the distance, or the steps would reach back over the kinks at x.
            reach = closeness * self._generic.scale(rows) / 16
            there = self._estimate(rows, anchor, at, wanted, reach, 0)
            result.evaluations += there.evaluations
            return there

        gap = np.abs(result.numeric[rows] - result.analytic[rows])
        return drift(look, result.numeric[rows], result.error[rows], gap, draws, self._points.dtype)

    def _estimate(self, rows: Rows, anchor: Any, at: Any, wanted: Bool, reach: Any, turn: int) -> Estimate:
        """Estimates of some tiles at other points, with steps as for `anchor` and no longer than `reach`."""
        steps = plan_steps(anchor, self._tiling, self._terms.h, self._terms.bounds, self._engine.step)
        return estimate_tiles(
            self._engine.of(rows),
            at,
            steps,
            self._tiling,
            rtol=self._terms.rtol,
            wanted=wanted,
            reach=reach,
            seed=self._terms.seed + turn,
        )

    def _plant(self, found: Estimate, here: Comparison) -> Bool:
        """Put a 1 % error on the tile with the median smooth gradient of each example, and say whether it is seen."""
        seen = np.zeros(len(found.value), bool)
        for i, row in enumerate(here.analytic):
            usable = np.flatnonzero((found.kind[i] == SMOOTH) & (row != 0) & (here.classes[i] == AGREE))
            if not usable.size:
                continue
            target = usable[np.argsort(np.abs(row[usable]))[usable.size // 2]]
            faulty = here.analytic.copy()
            faulty[i, target] *= 1 + _FAULT
            seen[i] = self._compare(found, faulty).classes[i, target] == WRONG
        return seen


def _ties(engine: Any, found: Estimate) -> dict[str, int]:
    """Number of kinked tiles by the first layer that sits on a kink, most first; empty where no layer is seen."""
    if found.tie is None:
        return {}
    counts = np.bincount(found.tie[(found.kind == KINK) & (found.tie >= 0)])
    by_layer: dict[str, int] = {}
    for node in np.flatnonzero(counts):
        name = engine.layer(int(node))
        by_layer[name] = by_layer.get(name, 0) + int(counts[node])
    return dict(sorted(by_layer.items(), key=lambda item: -item[1]))
