"""From differences of weights to classes: at x first, then at inputs near x for weights that x cannot decide."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.engines import BatchEngine, PointValues, WeightPaths
from fdfast.estimates import KINK, SMOOTH, Estimate, estimate_tiles
from fdfast.functions import WeightObjective
from fdfast.moves import grain, make_tiling, plan_steps
from fdfast.verdict.compare import Comparison, cancellation, compare
from fdfast.verdict.near import Near
from fdfast.verdict.terms import Terms

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
#: None for autodiff, an array for each variable, or a function from x (examples, size) to such a list.
Given = list[npt.NDArray[Any]] | Callable[[npt.NDArray[Any]], list[npt.NDArray[Any]]] | None

_ROUNDS = 3  # inputs near x that are tried for a weight before it is left open
_CLOSE = (2.0**-12, 2.0**-16)  # distances from x, in units of its scale, at which a difference should hardly drift


@dataclass(frozen=True, eq=False)
class Found:
    """What was found out about one variable; every array is flat, one entry for each weight.

    The names are those of `fdfast.report.Report`; `asked` marks the weights that were to be checked, and `between` and
    `branch` are those of `fdfast.verdict.judge.Judgement`.
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
        return BatchEngine(rows, make_tiling(rows.shape, channels="apart"), max_rows=max_rows)

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
        self._elsewhere: dict[int, AtInput] = {}

    @property
    def seconds(self) -> float:
        """Time that gradients took."""
        return self.here.seconds + sum(one.seconds for one in self._elsewhere.values())

    def __call__(self, variable: int, asked: Bool) -> Found:
        """Judge the weights of one variable that are asked for."""
        start, before = time.perf_counter(), self.seconds
        engine = self.here.engine(variable, self._max_rows)
        found, here = self._look(self.here, engine, variable, asked)
        near = Near(found, here, np.zeros(found.kind.shape, bool))
        near.open &= asked
        if self._jitter is not None and (self._given is None or callable(self._given)):
            self._look_near(variable, near)
        else:
            self._clear(variable, near)
        return Found(
            asked=asked,
            numeric=found.value[0],
            analytic=here.analytic[0],
            error_bar=found.error[0],
            right=found.right[0],
            left=found.left[0],
            kinked=(found.kind[0] == KINK) & asked,
            codes=near.codes[0],
            near=near.near[0],
            branch=near.branch[0],
            checked_numeric=near.numeric[0],
            checked_analytic=near.analytic[0],
            checked_error=near.error[0],
            detectable=near.detectable[0],
            step=found.step[0],
            tie=np.full(asked.size, -1, np.int32) if found.tie is None else found.tie[0],
            base=float(found.base[0]),
            noise=float(found.noise.max()),
            engine=engine.name,
            evaluations=found.evaluations + near.evaluations,
            refined=found.refined + near.refined,
            seconds=time.perf_counter() - start - (self.seconds - before),
            notes=self.here.notes.get(variable, []),
        )

    def _look(
        self, at: AtInput, engine: Any, variable: int, wanted: Bool, reach: float = np.inf, seed: int = 0
    ) -> tuple[Estimate, Comparison]:
        weights = np.ascontiguousarray(self._objective.variables[variable].numpy().reshape(1, -1))
        tiling = make_tiling(tuple(self._objective.variables[variable].shape), channels="apart")
        steps = plan_steps(weights, tiling, self._h, None, engine.step)
        found = estimate_tiles(
            engine,
            weights,
            steps,
            tiling,
            rtol=self._rtol,
            wanted=wanted.reshape(1, -1),
            reach=reach,
            seed=self._seed + seed,
        )
        analytic = at.gradient(variable)
        eps = float(np.finfo(self._objective.dtype).eps)
        if self._given is not None:
            eps = max(eps, float(np.finfo(analytic.dtype).eps))
        lost = cancellation(found.base, eps) if self._objective.sharp else 0.0
        return found, compare(found, analytic.astype(np.float64), eps, self._rtol, self._atol, lost)

    def _look_near(self, variable: int, near: Near) -> None:
        every = np.arange(1)
        for turn in range(_ROUNDS):
            if not near.open.any():
                break
            at = self._near(turn, self._width())
            try:
                engine = at.engine(variable, self._max_rows)
                reach = self._width() / 16
                there, seen = self._look(at, engine, variable, near.open[0], reach, turn)
            except ValueError:  # x may lie at the edge of the domain of f, and the input near it beyond
                continue
            near.take(every, there, seen)
        near.close()

    def _clear(self, variable: int, near: Near) -> None:
        """Drop accusations by a gradient that has no value near x where the difference itself depends on x.

        At a regular point a difference drifts in proportion to the distance; where kinks cancel it jumps.
        """
        accused = near.accused[0]
        if not accused.any():
            return
        scale = np.abs(self.here.points).max() or 1.0
        drift = []
        for turn, closeness in enumerate(_CLOSE, _ROUNDS):
            at = self._near(turn, closeness * scale)
            there, _ = self._look(at, at.engine(variable, self._max_rows), variable, accused)
            # Only what the two error bars leave: a difference in a plateau may be all noise.
            change = np.maximum(np.abs(there.value - near.numeric) - there.error - near.error, 0.0)
            drift.append(np.where(there.kind == SMOOTH, change, np.inf))
            near.evaluations += there.evaluations
        gap = np.abs(near.numeric - near.analytic)
        jumps = (drift[1] > gap / 20) & (np.isinf(drift[1]) | (drift[1] > drift[0] / 4))
        near.drop(np.arange(1), accused & jumps)

    def _width(self) -> float:
        if isinstance(self._jitter, int | float):
            return float(self._jitter)
        return min(grain(p) for p in self.here.points)

    def _near(self, turn: int, width: float) -> AtInput:
        """Inputs near x, the same at each call: seeded, and shared between the variables."""
        if turn not in self._elsewhere:
            points = self.here.points
            share = np.random.default_rng((self._seed, turn)).uniform(0, 1, points.shape)
            away = width * share
            if self._bounds is not None:
                away = np.where(points + away > self._bounds[1], -away, away)
            moved = (points + away).astype(points.dtype)
            self._elsewhere[turn] = AtInput(self._objective, self._paths, moved, self._given)
        return self._elsewhere[turn]
