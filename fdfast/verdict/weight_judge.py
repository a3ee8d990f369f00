"""From differences of weights to classes: at x first, then at inputs near x for weights that x cannot decide."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.engines import BatchEngine, PointValues, WeightPaths
from fdfast.estimates import KINK, NOTHING, SINGULAR, UNRESOLVED, Breaks, Estimate, breaks, estimate_tiles
from fdfast.functions import WeightObjective
from fdfast.moves import Steps, Tiling, grain, make_tiling, plan_steps
from fdfast.verdict.compare import Comparison, cancellation, compare
from fdfast.verdict.drift import Drift, drift
from fdfast.verdict.near import Near, look_wider_at
from fdfast.verdict.terms import Terms

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
#: None for autodiff, an array for each variable, or a function from x (examples, size) to such a list.
Given = list[npt.NDArray[Any]] | Callable[[npt.NDArray[Any]], list[npt.NDArray[Any]]] | None

_ROUNDS = 3  # inputs near x that are tried for a weight before it is left open
_CLEARED = 8  # points close to x that tell a branch from a fault where the gradient is right near x


@dataclass(frozen=True, eq=False)
class Found:
    """What was found out about one variable; every array is flat, one entry for each weight.

    The names are those of `fdfast.report.Report`; `asked` marks the weights that were to be checked, and `branch`,
    `cleared`, `only_here`, `breaks`, `jump`, `side`, `roughness` and `wider` are those of
    `fdfast.verdict.judgement.Judgement`.
    """

    asked: Bool
    numeric: Float64
    analytic: Float64
    error_bar: Float64
    right: Float64
    left: Float64
    kinked: Bool
    codes: npt.NDArray[np.int8]
    near: Bool
    branch: Bool
    cleared: Bool
    only_here: Bool
    breaks: npt.NDArray[np.int8]
    jump: Float64
    side: npt.NDArray[np.int8]
    roughness: Float64
    wider: Float64
    checked_numeric: Float64
    checked_analytic: Float64
    checked_error: Float64
    detectable: Float64
    step: Float64
    tie: npt.NDArray[np.int32]
    base: float
    noise: float
    engine: str
    evaluations: int
    refined: int
    seconds: float
    notes: list[str]

    @property
    def blank(self) -> bool:
        """Whether every derivative that was asked for is exactly zero on both sides."""
        sides = (self.numeric, self.analytic, self.checked_numeric, self.checked_analytic)
        return bool(self.asked.any()) and not any(np.any(side[self.asked]) for side in sides)


class AtInput:
    """The batch of inputs, or one near it: values of the network and gradients there, computed when first needed."""

    def __init__(self, objective: WeightObjective, paths: WeightPaths | None, points: Any, given: Given) -> None:
        self.points = points
        self._objective, self._paths, self._given = objective, paths, given
        self._values: PointValues | None = None
        self._gradients: list[npt.NDArray[Any]] | None = None
        self.seconds = 0.0  # that went into gradients
        self.notes: dict[int, list[str]] = {}

    def engine(self, variable: int, max_rows: int | None) -> Any:
        """Whatever evaluates displaced weights of this variable, and notes on how."""
        if self._paths is not None and variable in self._paths.places:
            if self._values is None:
                inputs = self._objective.inputs
                points = np.ascontiguousarray(self.points, np.float64)
                self._values = self._paths.at(points, inputs.context, self._objective.share(len(points)))
            return self._values.engine(variable)
        rows = self._objective.of_variable(variable, self.points)
        self.notes[variable] = rows.notes
        return BatchEngine(rows, make_tiling(rows.shape), max_rows=max_rows)

    def gradient(self, variable: int) -> npt.NDArray[Any]:
        """Gradient under test, flat."""
        if self._gradients is None:
            start = time.perf_counter()
            if self._given is None:
                self._gradients = list(self._objective.gradients(self.points))
            else:
                self._gradients = self._given(self.points) if callable(self._given) else self._given
            self.seconds += time.perf_counter() - start
        return self._gradients[variable].reshape(1, -1)


class WeightJudge:
    """Holds what a check asks for, and applies it to one variable after the other.

    The rules are those of `Judge`: a weight is called wrong only on two looks. The second one is at inputs near x,
    where the kinks that x itself is to blame for (dead pixels, biases of zero) are gone; the weights stay.
    """

    def __init__(
        self,
        objective: WeightObjective,
        paths: WeightPaths | None,
        points: npt.NDArray[Any],
        given: Given,
        terms: Terms,
        max_rows: int | None,
    ) -> None:
        self._objective, self._paths, self._given = objective, paths, given
        self._h, self._rtol, self._atol, self._jitter = terms.h, terms.rtol, terms.floor, terms.jitter
        self._bounds, self._max_rows, self._seed = terms.bounds, max_rows, terms.seed
        self.here = AtInput(objective, paths, points, given)
        self._elsewhere: dict[tuple[int, float], AtInput] = {}

    @property
    def seconds(self) -> float:
        """Time that gradients took."""
        return self.here.seconds + sum(one.seconds for one in self._elsewhere.values())

    def __call__(self, variable: int, asked: Bool) -> Found:
        """Judge the weights of one variable that are asked for."""
        start, before = time.perf_counter(), self.seconds
        engine = self.here.engine(variable, self._max_rows)
        found = self._estimate(engine, variable, asked)
        analytic = self.here.gradient(variable)
        found, broken = self._broken(engine, variable, found, analytic, asked)
        here = self._compare(found, analytic)
        near = Near(found, here, np.zeros(found.kind.shape, bool))
        near.open &= asked
        if self._jitter is not None and (self._given is None or callable(self._given)):
            self._look_near(variable, near)
            self._clear(variable, found, near)
        else:
            self._without_a_look_near(variable, found, near)
        weights, tiling, _ = self._moves(engine, variable)
        steps = plan_steps(weights, tiling, self._h)
        rough = look_wider_at(engine, weights, steps, tiling, found, near, self._compare, asked[None])
        return Found(
            asked=asked,
            numeric=found.value[0],
            analytic=here.analytic[0],
            error_bar=found.error[0],
            right=found.right[0],
            left=found.left[0],
            kinked=(found.kind[0] == KINK) & asked & ~rough.rough[0],
            codes=near.codes[0],
            near=near.near[0],
            branch=near.branch[0],
            cleared=near.cleared[0],
            only_here=near.only_here[0],
            breaks=broken.reason[0],
            jump=broken.size[0],
            side=broken.side[0],
            roughness=rough.noise[0],
            wider=rough.step[0],
            checked_numeric=near.numeric[0],
            checked_analytic=near.analytic[0],
            checked_error=near.error[0],
            detectable=near.detectable[0],
            step=found.step[0],
            tie=np.full(asked.size, -1, np.int32) if found.tie is None else found.tie[0],
            base=float(found.base[0]),
            noise=float(found.noise.max()),
            engine=engine.name,
            evaluations=found.evaluations + broken.evaluations + near.evaluations + rough.evaluations,
            refined=found.refined + near.refined,
            seconds=time.perf_counter() - start - (self.seconds - before),
            notes=self.here.notes.get(variable, []),
        )

    def _estimate(self, engine: Any, variable: int, wanted: Bool, reach: float = np.inf, seed: int = 0) -> Estimate:
        weights, tiling, steps = self._moves(engine, variable)
        return estimate_tiles(
            engine,
            weights,
            steps,
            tiling,
            rtol=self._rtol,
            wanted=wanted.reshape(1, -1),
            reach=reach,
            seed=self._seed + seed,
        )

    def _moves(self, engine: Any, variable: int) -> tuple[npt.NDArray[Any], Tiling, Steps]:
        """Where the weights are, and how far each of them moves."""
        weights = np.ascontiguousarray(self._objective.variables[variable].numpy().reshape(1, -1))
        tiling = make_tiling(tuple(self._objective.variables[variable].shape))
        return weights, tiling, plan_steps(weights, tiling, self._h, None, engine.step)

    def _compare(self, found: Estimate, analytic: npt.NDArray[Any]) -> Comparison:
        eps = float(np.finfo(self._objective.dtype).eps)
        if self._given is not None:
            eps = max(eps, float(np.finfo(analytic.dtype).eps))
        lost = cancellation(found.base, eps) if self._objective.sharp else 0.0
        return compare(found, analytic.astype(np.float64), eps, self._rtol, self._atol, lost)

    def _broken(
        self, engine: Any, variable: int, found: Estimate, analytic: npt.NDArray[Any], asked: Bool
    ) -> tuple[Estimate, Breaks]:
        """See whether the loss has a finite slope where none was found, and where the gradient is not finite."""
        weights, tiling, steps = self._moves(engine, variable)
        wanted = ((found.kind == UNRESOLVED) | ~np.isfinite(analytic)) & asked
        seen = breaks(engine, weights, steps, tiling, wanted, found.noise)
        kind = np.where(seen.reason != NOTHING, SINGULAR, found.kind).astype(np.int8)
        return replace(found, kind=kind), seen

    def _look_near(self, variable: int, near: Near) -> None:
        every = np.arange(1)
        for turn in range(_ROUNDS):
            if not near.open.any():
                break
            at = self._near(turn, self._width())
            try:
                engine = at.engine(variable, self._max_rows)
                there = self._estimate(engine, variable, near.open[0], self._width() / 16, turn)
            except ValueError:  # x may lie at the edge of the domain of f, and the input near it beyond
                continue
            near.take(every, there, self._compare(there, at.gradient(variable)))
        near.close()

    def _clear(self, variable: int, found: Estimate, near: Near) -> None:
        """Decide on weights whose gradient is wrong at x and right at inputs near it, as `Trial` does for tiles."""
        cleared = near.cleared
        if not cleared.any():
            return
        if found.tie is not None:
            jumps, steady = found.tie >= 0, found.tie < 0
        else:
            jumps, steady = self._drift(variable, near, cleared, _CLEARED)
        near.excuse(np.arange(1), cleared & jumps)
        near.convict(np.arange(1), cleared & steady)

    def _without_a_look_near(self, variable: int, found: Estimate, near: Near) -> None:
        """Drop accusations by a gradient that has no value near x where the difference itself depends on x."""
        accused = near.accused if found.tie is None else near.accused & (found.tie >= 0)
        if accused.any():
            jumps, _ = self._drift(variable, near, accused, 1)
            near.excuse(np.arange(1), accused & jumps)

    def _drift(self, variable: int, near: Near, wanted: Bool, draws: int) -> Drift:
        scale = np.abs(self.here.points).max() or 1.0

        def look(draw: int, closeness: float) -> Estimate:
            at = self._near(_ROUNDS + draw, closeness * scale)
            there = self._estimate(at.engine(variable, self._max_rows), variable, wanted[0])
            near.evaluations += there.evaluations
            return there

        gap = np.abs(near.numeric - near.analytic)
        return drift(look, near.numeric, near.error, gap, draws, self.here.points.dtype)

    def _width(self) -> float:
        if isinstance(self._jitter, int | float):
            return float(self._jitter)
        return min(grain(p) for p in self.here.points)

    def _near(self, turn: int, width: float) -> AtInput:
        """Inputs near x, the same at each call: seeded, and shared between the variables."""
        key = turn, width
        if key not in self._elsewhere:
            points = self.here.points
            share = np.random.default_rng((self._seed, turn)).uniform(0, 1, points.shape)
            away = width * share
            if self._bounds is not None:
                away = np.where(points + away > self._bounds[1], -away, away)
            moved = (points + away).astype(points.dtype)
            self._elsewhere[key] = AtInput(self._objective, self._paths, moved, self._given)
        return self._elsewhere[key]
