"""The white-box engine: differences are pushed through the layers, so that nothing cancels."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.engines.batch import Advance, BatchEngine
from fdfast.engines.pairs import Differences, Pairs
from fdfast.pushed import PushedObjective
from fdfast.tiling import Tiling


class DifferenceEngine:
    """Evaluates displaced rows by difference arithmetic.

    Rows hold the displacement itself, zero but for one tile; the same row buffer and the same chunks as in the batch
    engine, with zeros for a point. What comes back is f(x + d) - f(x), to working precision however small d is.

    Parameters
    ----------
    objective : fdfast.objective.TracedObjective
    tiling : Tiling
    max_rows, device, progress
        As in `fdfast.engines.batch.BatchEngine`.

    Raises
    ------
    fdfast.pushed.NoDifferences
        The model is not a graph of layers, or the loss has no rule.

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
        *,
        max_rows: int | None = None,
        device: str | None = None,
        progress: Advance | None = None,
    ) -> None:
        self._objective = PushedObjective(objective)
        self._whole = objective
        self._tiling = tiling
        self._options: dict[str, Any] = {"max_rows": max_rows, "device": device, "progress": progress}
        self.notes = self._objective.notes

    def of(self, examples: Any) -> DifferenceEngine:
        """Return the same engine for some of the examples of the objective."""
        some = copy.copy(self)
        some._whole = self._whole.select(examples)
        some._objective = PushedObjective(some._whole)
        return some

    def differences(self, points: npt.NDArray[Any], example: npt.NDArray[np.int32], pairs: Pairs) -> Differences:
        """See `fdfast.engines.batch.BatchEngine.differences`; the points go through f itself, all others do not."""
        delta = np.empty((len(pairs), 2))
        moved = np.empty((len(pairs), 2))
        origin = np.zeros((1, self._tiling.size), points.dtype)
        for at in np.unique(pairs.point):
            some = np.flatnonzero(pairs.point == at)
            engine = BatchEngine(self._objective.at(points[at], int(example[at])), self._tiling, **self._options)
            part = Pairs(np.zeros(len(some), np.int64), pairs.tile[some], pairs.step[some])
            found = engine.differences(origin, np.zeros(1, np.int32), part)
            delta[some], moved[some] = found.delta, found.moved
        base = self._objective.base(points, example)
        return Differences(delta, moved, base, 2 * len(pairs) + len(points))
