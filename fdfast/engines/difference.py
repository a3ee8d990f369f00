"""The white-box engine: differences are pushed through the layers, so that nothing cancels."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast import _core
from fdfast.differences import Compiled, Foreseen, PushedObjective
from fdfast.engines.batch import Advance
from fdfast.engines.chunking import BUDGET, chunking_for
from fdfast.engines.pairs import Differences, Pairs
from fdfast.engines.trust import check_loss, check_sample
from fdfast.moves import Tiling
from fdfast.tape import is_steady
from fdfast.windows import cores

Float64 = npt.NDArray[np.float64]

#: Step for values of order one. Nothing cancels, so it only has to be small: truncation is below rounding, and kinks
#: are hardly ever that close.
TINY = 2.0**-27
# Calls of one program between two checks of a sample by the batch engine.
_EVERY = 256
# Calls after which values and gradients are traced as one: some two checks.
_SETTLED = 8


def _numbers(count: int) -> npt.NDArray[np.int32]:
    return np.arange(count, dtype=np.int32)


def _same(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    return a.shape == b.shape and bool((a == b).all())


@dataclass(frozen=True, eq=False)
class _Held:
    """Values of the network at some points of some examples, the losses there, and what the kernels read."""

    points: Float64
    example: npt.NDArray[np.int32]
    values: list[Float64]
    base: Float64
    prepared: _core.Prepared


class DifferenceEngine:
    """Evaluates displaced rows by difference arithmetic.

    The values of the network at the points come from Keras, in float64. The difference of each tile then goes through
    the layers on the window that it reaches; what the compiled kernels do not know follows on whole maps. What comes
    back is f(x + d) - f(x), to working precision however small d is.

    Parameters
    ----------
    objective : fdfast.functions.objective.TracedObjective
        In float64.
    tiling : Tiling
    compiled : Compiled
        What `fdfast.differences.compiled.compiled_for` made of the objective.
    threads : int, optional
        All cores by default, or what OMP_NUM_THREADS says.
    progress : callable, optional
        Called with the number of rows that are done.

    Raises
    ------
    fdfast.engines.trust.Untrusted
        In a call, where the differences are not those of the model.

    References
    ----------
    .. [1] T. Reps and L. B. Rall, "Computational divided differencing and divided-difference arithmetics",
       Higher-Order and Symbolic Computation 16 (2003).
    """

    name = "difference"

    def __init__(
        self,
        objective: Any,
        tiling: Tiling,
        compiled: Compiled,
        *,
        threads: int | None = None,
        progress: Advance | None = None,
    ) -> None:
        self._compiled = compiled
        self._objective = objective
        self._tiling = tiling
        self._threads = cores() if threads is None else threads
        self._progress = progress
        self._held: _Held | None = None

    @property
    def compiled(self) -> Compiled:
        """The program and what it was made of."""
        return self._compiled

    @property
    def exact(self) -> bool:
        """Whether every unit is seen, so that kinks are known and need not be guessed from slopes."""
        return self._compiled.complete

    @property
    def step(self) -> float | None:
        """Step for values of order one; None where the usual one is best, because something is still subtracted."""
        return TINY if self.exact else None

    @property
    def eps(self) -> float:
        """Rounding unit of the differences."""
        return float(np.finfo(self._compiled.dtype).eps)

    def layer(self, node: int) -> str:
        """Name of the layer that a node of the program belongs to."""
        return self._compiled.layers[node]

    def of(self, examples: Any) -> DifferenceEngine:
        """Return the same engine for some of the examples of the objective."""
        some = copy.copy(self)
        some._objective = self._objective.select(examples)
        if some._objective is not self._objective:
            some._held = None
        return some

    def by(self, tiling: Tiling) -> DifferenceEngine:
        """Return the same engine for other tiles; what is held of the points serves them too."""
        other = copy.copy(self)
        other._tiling = tiling
        return other

    def foresee(self, points: npt.NDArray[Any], near: npt.NDArray[Any]) -> Foreseen | None:
        """Prepare the engine's own points, and as many near them, that differences will be asked for.

        The values of the network and autodiff's gradients then take one call. None, and nothing is done, where that is
        no gain: the first times, when tracing it would cost more than the calls, where the model is more than its
        layers, or where the gradients would not fit in memory in one piece.

        Parameters
        ----------
        points, near : ndarray, shape (examples, size)

        Returns
        -------
        Foreseen or None
        """
        compiled = self._compiled
        settled = compiled.verified >= _SETTLED or is_steady()
        if not (compiled.complete and compiled.graph.plain and settled):
            return None
        if 2 * len(points) > min(self._objective.rows_at_once, BUDGET // 2 // compiled.point_bytes):
            return None
        found = compiled.foresee(self._objective, points, near)
        if not np.isfinite(found.base).all():
            return None  # the usual way says which
        both, targets = np.concatenate([points, near]).astype(np.float64, copy=False), self._objective.context.numpy()
        prepared = compiled.prepare(found.values, np.concatenate([targets, targets]), self._threads)
        self._held = _Held(both, np.tile(_numbers(len(points)), 2), found.values, found.base, prepared)
        return found

    def differences(self, points: npt.NDArray[Any], example: npt.NDArray[np.int32], pairs: Pairs) -> Differences:
        """See `fdfast.engines.batch.BatchEngine.differences`; the points go through f itself, all others do not."""
        points = np.ascontiguousarray(points, np.float64)
        self._check_steps(pairs)
        many = max(1, BUDGET // 2 // self._compiled.point_bytes)
        evaluations = 2 * len(pairs) + len(points)
        if len(points) <= many:
            base, delta, tie, crossed = self._group(points, example, pairs)
            return Differences(delta, pairs.step.copy(), base, evaluations, tie, crossed)
        delta = np.empty((len(pairs), 2))
        tie, crossed = np.full(len(pairs), -1, np.int32), np.full(len(pairs), -1, np.int32)
        base = np.empty(len(points))
        order = np.argsort(pairs.point, kind="stable") if (np.diff(pairs.point) < 0).any() else None
        ends = np.cumsum(np.bincount(pairs.point, minlength=len(points)))
        begin = 0
        for start in range(0, len(points), many):
            stop = min(start + many, len(points))
            some: Any = slice(begin, int(ends[stop - 1]))
            begin = some.stop
            if order is not None:
                some = order[some]
            part = Pairs(pairs.point[some] - start, pairs.tile[some], pairs.step[some])
            found = self._group(points[start:stop], example[start:stop], part)
            base[start:stop], delta[some], tie[some], crossed[some] = found
        return Differences(delta, pairs.step.copy(), base, evaluations, tie, crossed)

    def _check_steps(self, pairs: Pairs) -> None:
        smallest = self._compiled.smallest
        size = np.abs(pairs.step).max(initial=0.0)
        if len(pairs) and size < smallest:
            raise ValueError(
                f"h={size:.3g} vanishes in {self._compiled.dtype.name} on its way through the layers: smallest step "
                f"that keeps its digits: {smallest:.3g}; for a useful gradient leave h='auto'"
            )

    def _group(self, points: Float64, example: npt.NDArray[np.int32], pairs: Pairs) -> tuple[Any, ...]:
        some = self._objective.select(example)
        held, first = self._hold(points, example, some)
        base = held.base[first : first + len(points)]
        if not len(pairs):
            return base, np.empty((0, 2)), np.empty(0, np.int32), np.empty(0, np.int32)
        found = self._push(held, first, some, pairs)
        compiled = self._compiled
        if compiled.verified % _EVERY == 0 and np.isfinite(base).all():
            if compiled.graph.plain:
                check_loss(base, some.tensor_values(points.reshape(-1, *some.shape), _numbers(len(points)), 64))
            check_sample(some, self._tiling, points, pairs, compiled, lambda p: self._push(held, first, some, p)[0])
        compiled.verified += 1
        return (base, *found)

    def _hold(self, points: Float64, example: npt.NDArray[np.int32], some: Any) -> tuple[_Held, int]:
        """Values at the points, those that are at hand if these are among them; and the number of the first."""
        held, count = self._held, len(points)
        if held is not None:
            for first in range(0, len(held.points) - count + 1, max(1, count)):
                at = slice(first, first + count)
                if _same(held.points[at], points) and _same(held.example[at], example):
                    return held, first
        values, base, own = self._compiled.values(some, points)
        if np.isfinite(own).all():
            check_loss(base, own)
        prepared = self._compiled.prepare(values, some.context.numpy(), self._threads)
        self._held = _Held(points.copy(), example.copy(), values, own, prepared)
        return self._held, 0

    def _push(self, held: _Held, begin: int, some: Any, pairs: Pairs) -> tuple[Any, ...]:
        compiled, tiling = self._compiled, self._tiling
        tiles, weights, threads = (tiling.offsets, tiling.members), tiling.weights, self._threads
        point = pairs.point + begin
        if compiled.complete:
            found = _core.push(held.prepared, *tiles, point, pairs.tile, pairs.step, weights=weights, threads=threads)
            self._advance(len(pairs))
            return found
        rest = compiled.rest(some)
        # Rows of what the compiled part ends with, some at a time.
        size = int(np.prod(rest.shape))
        at_once = max(1, BUDGET // 8 // (2 * size * 8))
        delta = np.empty((len(pairs), 2))
        tie, crossed = np.empty(len(pairs), np.int32), np.empty(len(pairs), np.int32)
        for at in np.unique(pairs.point):
            which = np.flatnonzero(pairs.point == at)
            bound = rest.at(held.values[-1][begin + at], int(at))
            for first in range(0, len(which), at_once):
                part = which[first : first + at_once]
                rows, tie[part], crossed[part] = _core.push(
                    held.prepared,
                    *tiles,
                    point[part],
                    pairs.tile[part],
                    pairs.step[part],
                    weights=weights,
                    threads=threads,
                )
                delta[part] = self._finish(bound, rows)
                self._advance(len(part))
        return delta, tie, crossed

    def _finish(self, rest: PushedObjective, rows: npt.NDArray[Any]) -> Float64:
        count = 2 * len(rows)
        buffer = _core.aligned_empty((count, *rest.shape), np.float64)
        buffer[...] = rows.reshape(count, *rest.shape)
        chunk, _ = chunking_for(rest.traced).next(rest.row_bytes, count)
        return rest.values(buffer, np.zeros(count, np.int32), chunk).reshape(-1, 2)

    def _advance(self, pairs: int) -> None:
        if self._progress is not None:
            self._progress(2 * pairs)
