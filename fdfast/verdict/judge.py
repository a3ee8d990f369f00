"""From estimate and gradient to classes: at x first, then near x for tiles that x itself cannot decide."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.estimates import KINK, SMOOTH, Estimate, estimate_tiles
from fdfast.moves import Tiling, auto_step, grain, plan_steps
from fdfast.verdict.compare import AGREE, WRONG, Comparison, cancellation, compare
from fdfast.verdict.judgement import Judgement
from fdfast.verdict.near import Near
from fdfast.verdict.terms import Terms

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
#: None for autodiff, an array of examples, or a function from points (examples, size) to such an array.
Analytic = npt.NDArray[Any] | Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None

_ROUNDS = 3  # generic points tried for a tile before it is left open
_CLOSE = (2.0**-12, 2.0**-16)  # distances from x, in units of its scale, at which a difference should hardly drift
_DRAWS = 3
_FAULT = 0.01  # relative error that the self-test plants


class Judge:
    """Holds what a check asks for, and applies it to one group of examples after the other.

    A tile is called wrong only on two looks: at x and again at a generic point near it, or at two such points.
    A wrong formula is wrong at both; what is wrong at x alone is a branch that autodiff takes where f has a kink.
    Neither does a slope on one side alone, at bounds, tell a wrong formula from a kink at x: it is no look.
    Where nothing can be learnt near x, the look at x decides: without jitter, for a gradient given as an array, which
    has no value elsewhere, and where f is not defined or too noisy at every point tried. In the first two cases an
    accusation still needs a difference that does not change at the slightest move away from x.
    """

    def __init__(self, tiling: Tiling, terms: Terms) -> None:
        self._tiling, self._h, self._rtol, self._atol = tiling, terms.h, terms.rtol, terms.floor
        self._jitter, self._bounds, self._seed = terms.jitter, terms.bounds, terms.seed
        self._selftest = terms.selftest

    def __call__(self, engine: Any, objective: Any, points: npt.NDArray[Any], analytic: Analytic) -> Judgement:
        """Judge every tile of every point."""
        start = time.perf_counter()
        steps = plan_steps(points, self._tiling, self._h, self._bounds, engine.step)
        generic = None if self._jitter is None else self._generic(points, 0)
        foreseen = None
        if engine.exact and generic is not None and analytic is None:
            # One call of the model gives the values that differences start from together with the gradients.
            foreseen = engine.foresee(points, generic)
        autodiff = time.perf_counter() - start
        start = time.perf_counter()
        found = estimate_tiles(engine, points, steps, self._tiling, rtol=self._rtol, seed=self._seed)
        differences = time.perf_counter() - start
        start = time.perf_counter()
        if foreseen is None:
            maps, ahead, eps = self._gradients(objective, points, generic, analytic, found)
            deployed = objective.deployed_gradient(points) if analytic is None else None
        else:
            maps, ahead = np.split(foreseen.gradients, 2)
            eps, deployed = float(np.finfo(objective.dtype).eps), None
        autodiff += time.perf_counter() - start
        here = self._compare(objective, found, self._tiling.sums(maps), eps)
        start = time.perf_counter()
        # On one side of x, or beside it, a kink at x does not show.
        edge = (here.classes == WRONG) & ((steps.scheme != 0) | steps.moved)
        near = self._look_near(engine, objective, points, analytic, Near(found, here, edge), generic, ahead, eps)
        jittered = time.perf_counter() - start
        low, high = np.fmin(found.left, found.right), np.fmax(found.left, found.right)
        slack = found.error * (found.kind != KINK) + here.tolerance
        if foreseen is not None:
            deployed = foreseen.deployed()
        return Judgement(
            numeric=found.value,
            analytic=here.analytic,
            error_bar=found.error,
            right=found.right,
            left=found.left,
            kind=found.kind,
            codes=near.codes,
            near=near.near,
            between=(found.kind == KINK) & (here.analytic >= low - slack) & (here.analytic <= high + slack),
            branch=near.branch,
            edge=edge,
            checked_numeric=near.numeric,
            checked_analytic=near.analytic,
            checked_error=near.error,
            detectable=near.detectable,
            step=found.step,
            base=found.base,
            noise=found.noise,
            deployed=None if deployed is None else self._tiling.sums(deployed[0]),
            deployed_dtype=None if deployed is None else deployed[1].name,
            selftest=self._plant(objective, found, here, eps) if self._selftest else None,
            evaluations=found.evaluations + near.evaluations,
            refined=found.refined + near.refined,
            timings={"differences": differences, "autodiff": autodiff, "near x": jittered},
            ties=_ties(engine, found),
        )

    def _compare(self, objective: Any, found: Estimate, analytic: Float64, eps: float) -> Comparison:
        sharp = objective.traced is not None and objective.traced.is_sharp
        lost = cancellation(found.base, eps) if sharp else 0.0
        return compare(found, analytic, eps, self._rtol, self._atol, lost)

    def _gradient(self, objective: Any, points: npt.NDArray[Any], analytic: Analytic) -> tuple[npt.NDArray[Any], float]:
        eps = float(np.finfo(objective.dtype).eps)
        if analytic is None:
            maps = objective.gradient(points)
            if maps is None:
                raise TypeError(
                    "f returns no TensorFlow tensor, so there is no autodiff gradient: pass analytic=, an array or a "
                    "function of x"
                )
            return maps, eps
        maps = analytic(points) if callable(analytic) else analytic
        return maps, max(eps, float(np.finfo(maps.dtype).eps))

    def _gradients(
        self,
        objective: Any,
        points: npt.NDArray[Any],
        generic: npt.NDArray[Any] | None,
        analytic: Analytic,
        found: Estimate,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, float]:
        """Gradients at the points and, where there are kinks, at the generic points that will be asked for next.

        Both in one call, which for one example costs hardly more than one of them.
        """
        if generic is None or analytic is not None or objective.traced is None or (found.kind == SMOOTH).all():
            maps, eps = self._gradient(objective, points, analytic)
            return maps, None, eps
        count = len(points)
        twice = objective.select(np.tile(np.arange(count), 2))
        maps, eps = self._gradient(twice, np.concatenate([points, generic]), None)
        return maps[:count], maps[count:], eps

    def _look_near(
        self,
        engine: Any,
        objective: Any,
        points: npt.NDArray[Any],
        analytic: Analytic,
        result: Near,
        first: npt.NDArray[Any] | None,
        ahead: npt.NDArray[Any] | None,
        eps: float,
    ) -> Near:
        if first is None or not (analytic is None or callable(analytic)):
            self._clear(engine, points, result)
            return result
        for turn in range(_ROUNDS):
            if not result.open.any():
                break
            # Examples with nothing open are left out.
            rows = np.flatnonzero(result.open.any(axis=1))
            generic = first[rows] if turn == 0 else self._generic(points[rows], turn)

            def look(at: slice, turn: int = turn, rows: Any = rows, generic: Any = generic) -> None:
                steps = plan_steps(generic[at], self._tiling, self._h, self._bounds, engine.step)
                wanted = result.open[rows[at]]
                there = estimate_tiles(
                    engine.of(rows[at]),
                    generic[at],
                    steps,
                    self._tiling,
                    rtol=self._rtol,
                    wanted=wanted,
                    # Shorter than the distance from x, or the steps would reach back over the ties there.
                    reach=self._width(points[rows[at]]).min() / 16,
                    seed=self._seed + turn,
                )
                if ahead is not None and turn == 0:
                    maps = ahead[rows[at]]
                elif callable(analytic):
                    everyone = points.copy()
                    everyone[rows[at]] = generic[at]
                    maps = self._gradient(objective, everyone, analytic)[0][rows[at]]
                else:
                    maps, _ = self._gradient(objective.select(rows[at]), generic[at], analytic)
                result.take(rows[at], there, self._compare(objective, there, self._tiling.sums(maps), eps))

            try:
                look(slice(None))
            except ValueError:
                # x may lie at the edge of the domain of f, and its generic point beyond: nothing is learnt there.
                for i in range(len(rows)):
                    with contextlib.suppress(ValueError):
                        look(slice(i, i + 1))
        result.close()
        return result

    def _clear(self, engine: Any, points: npt.NDArray[Any], result: Near) -> None:
        """Drop accusations at points where the difference itself depends on where one looks.

        Where the gradient has no value near x, f has: at a regular point its difference drifts in proportion to the
        distance, at a point where kinks cancel it takes another value at every distance.
        """
        rows = np.flatnonzero(result.accused.any(axis=1))
        if not rows.size:
            return
        accused, drift = result.accused[rows], []
        for closeness in _CLOSE:
            # Several draws: one may land on the very branch that x is on.
            looks = [self._drift(engine, points, rows, accused, result, turn, closeness) for turn in range(_DRAWS)]
            drift.append(np.fmax.reduce(looks))
        gap = np.abs(result.numeric[rows] - result.analytic[rows])
        result.drop(rows, accused & (drift[1] > gap / 20) & (np.isinf(drift[1]) | (drift[1] > drift[0] / 4)))

    def _drift(
        self,
        engine: Any,
        points: npt.NDArray[Any],
        rows: npt.NDArray[np.int64],
        accused: Bool,
        result: Near,
        turn: int,
        closeness: float,
    ) -> Float64:
        """How far the difference of the accused tiles surely drifts from x to a point close by; infinite on a kink."""
        generic = self._generic(points[rows], turn, closeness)
        # The scale is that of x: near an x of zeros, all values are small by themselves.
        anchor = points[rows] if self._bounds is None else generic
        steps = plan_steps(anchor, self._tiling, self._h, self._bounds, engine.step)
        # Shorter than the distance, or the steps would reach back over the kinks at x.
        reach = closeness * _scale(points[rows]) / 16
        there = estimate_tiles(
            engine.of(rows), generic, steps, self._tiling, rtol=self._rtol, wanted=accused, reach=reach, seed=self._seed
        )
        result.evaluations += there.evaluations
        # Only what the two error bars leave: a loss in a plateau may be all noise at steps as short as these.
        change = np.abs(there.value - result.numeric[rows]) - there.error - result.error[rows]
        return np.where(there.kind == SMOOTH, np.maximum(change, 0.0), np.inf)

    def _generic(self, points: npt.NDArray[Any], turn: int, closeness: float | None = None) -> npt.NDArray[Any]:
        # The same for every example, so that it does not matter which are looked at together.
        share = np.random.default_rng((self._seed, turn)).uniform(0, 1, points.shape[1])
        width = self._width(points)
        if closeness is not None:
            width = closeness * _scale(points)
        if self._bounds is None:
            return (points + width * share).astype(points.dtype)
        low, high = self._bounds
        # Room for a central difference on both sides, so that both slopes can be had.
        step = auto_step(points.dtype) * max(abs(low), abs(high)) if self._h == "auto" else float(self._h)
        margin = min(4 * step, (high - low) / 8)
        start = np.clip(points.astype(np.float64), low + margin, high - margin)
        away = np.minimum(width, (high - low) / 4) * share
        # Down where there is no room upwards. Never clipped after the draw: equal values would be ties again.
        return np.where(start + away <= high - margin, start + away, start - away).astype(points.dtype)

    def _width(self, points: npt.NDArray[Any]) -> Float64:
        """Width of the noise for each example, shape (examples, 1)."""
        chosen = None if self._jitter in (None, "auto") else float(self._jitter)
        return np.array([[grain(p) if chosen is None else chosen] for p in points], np.float64)

    def _plant(self, objective: Any, found: Estimate, here: Comparison, eps: float) -> Bool:
        """Put a 1 % error on the tile with the median smooth gradient of each example, and say whether it is seen."""
        seen = np.zeros(len(found.value), bool)
        for i, row in enumerate(here.analytic):
            usable = np.flatnonzero((found.kind[i] == SMOOTH) & (row != 0) & (here.classes[i] == AGREE))
            if not usable.size:
                continue
            target = usable[np.argsort(np.abs(row[usable]))[usable.size // 2]]
            faulty = here.analytic.copy()
            faulty[i, target] *= 1 + _FAULT
            seen[i] = self._compare(objective, found, faulty, eps).classes[i, target] == WRONG
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


def _scale(points: npt.NDArray[Any]) -> Float64:
    """Largest magnitude of each example, 1 where all is zero; shape (examples, 1)."""
    peak = np.abs(points).max(axis=1, keepdims=True).astype(np.float64)
    return np.where(peak > 0, peak, 1.0)
