"""The black-box engine: perturbed rows are built in place and go through f as one batch, in chunks."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast import _core
from fdfast.engines.chunking import BUDGET, chunking_for
from fdfast.engines.device import RemoteRows, accelerator
from fdfast.engines.pairs import Differences, Pairs
from fdfast.moves import Tiling, auto_step, check_max_rows, vanishing_step_error

Progress = Callable[[int, int], None]
Advance = Callable[[int], None]
Float64 = npt.NDArray[np.float64]


class BatchEngine:
    """Evaluates displaced rows by f itself.

    Parameters
    ----------
    objective : fdfast.functions.objective.Objective
    tiling : Tiling
    max_rows : int, optional
        Largest number of rows in one forward pass; by default what the memory budget and the cache like best.
    device : str, optional
        TensorFlow device on which rows are built and evaluated, for example ``"GPU:0"``. By default the one
        that TensorFlow chooses; rows are built on it, from the points and the tile indices, if it is not the CPU.
    progress : callable, optional
        Called with the number of rows of each block that is done.
    """

    name = "batch"
    exact = False
    step: float | None = None

    def __init__(
        self,
        objective: Any,
        tiling: Tiling,
        *,
        max_rows: int | None = None,
        device: str | None = None,
        progress: Advance | None = None,
    ) -> None:
        self._objective = objective
        self._tiling = tiling
        self._max_rows = check_max_rows(max_rows)
        self._progress = progress
        self._chunking = chunking_for(objective.traced)
        self._remote = None
        if objective.traced is not None:
            where = device or accelerator()
            if where is not None:
                self._remote = RemoteRows(objective, tiling, where)

    def of(self, examples: Any) -> BatchEngine:
        """Return the same engine for some of the examples of the objective."""
        some = copy.copy(self)
        some._objective = self._objective.select(examples)
        if self._remote is not None:
            some._remote = RemoteRows(some._objective, self._tiling, self._remote.device)
        return some

    def by(self, tiling: Tiling) -> BatchEngine:
        """Return the same engine for other tiles."""
        other = copy.copy(self)
        other._tiling = tiling
        if self._remote is not None:
            other._remote = RemoteRows(self._objective, tiling, self._remote.device)
        return other

    def differences(self, points: npt.NDArray[Any], example: npt.NDArray[np.int32], pairs: Pairs) -> Differences:
        """Evaluate f at the points and at their displaced rows.

        Parameters
        ----------
        points : ndarray, shape (points, size), dtype of the objective
        example : ndarray of int32, shape (points,)
            Which example, hence which target, each point belongs to.
        pairs : Pairs

        Returns
        -------
        Differences

        Raises
        ------
        ValueError
            A step vanishes in the dtype of the points.
        """
        # The points themselves come first, as undisplaced pairs: nothing is subtracted across chunk sizes more
        # than needed, and both rows of a pair are the same row twice.
        count = len(points)
        point = np.concatenate([np.arange(count), pairs.point])
        tile = np.concatenate([np.full(count, -1), pairs.tile])
        step = np.concatenate([np.zeros((count, 2)), pairs.step])
        values, moved = self._evaluate(points, example, Pairs(point, tile, step))
        base = values[:count, 0]
        with np.errstate(invalid="ignore"):  # infinity less itself, where f is infinite at a point near x
            delta = values[count:] - base[pairs.point, None]
        return Differences(delta, moved[count:], base, 2 * len(point))

    def _evaluate(
        self, points: npt.NDArray[Any], example: npt.NDArray[np.int32], pairs: Pairs
    ) -> tuple[Float64, Float64]:
        values = np.empty((len(pairs), 2))
        moved = np.empty((len(pairs), 2))
        chunking = self._chunking
        rows_of = self._rows(points)
        limit = self._block_limit()
        done = 0
        while done < len(pairs):
            left = len(pairs) - done
            chunk, trial = self._chunk(2 * left)
            # Enough chunks in a block to make the call's own cost vanish, few enough to stay in the cache.
            block = left if left * 2 <= chunk else min(left, chunk // 2 * (1 if trial else 8))
            block = min(block, limit)
            some = slice(done, done + block)
            part = Pairs(pairs.point[some], pairs.tile[some], pairs.step[some])
            rows = rows_of(part, moved[some])
            start = time.perf_counter()
            values[some] = self._run(rows, np.repeat(example[part.point], 2), chunk).reshape(-1, 2)
            if trial and block >= min(chunk // 2, limit):
                chunking.record(chunk, 2 * block, time.perf_counter() - start)
            chunking.warm = True
            done += block
            if self._progress is not None:
                self._progress(2 * block)
        return values, moved

    def _chunk(self, rows: int) -> tuple[int, bool]:
        if self._max_rows is not None:
            return self._max_rows - self._max_rows % 2, False
        return self._chunking.next(self._objective.row_bytes, rows)

    def _block_limit(self) -> int:
        row: int = self._tiling.size * self._objective.dtype.itemsize
        return max(1, BUDGET // 8 // (2 * row))

    def _run(self, rows: Any, example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """Evaluate rows, with smaller chunks each time memory runs out."""
        while True:
            try:
                if self._remote is not None:
                    return self._remote.values(rows, example, chunk)
                return np.asarray(self._objective.values(rows, example, chunk))
            except Exception as error:
                if type(error).__name__ != "ResourceExhaustedError":
                    raise
                if chunk <= 2:
                    raise MemoryError("f ran out of memory on a single pair of rows") from error
                smaller = self._chunking.halve(chunk)
                message = f"out of memory with {chunk} rows at a time; going on with {smaller}"
                warnings.warn(message, RuntimeWarning, stacklevel=2)
                self._max_rows = chunk = smaller

    def _rows(self, points: npt.NDArray[Any]) -> Callable[[Pairs, Float64], Any]:
        if self._remote is not None:
            remote = self._remote
            remote.load(points)
            return lambda part, moved: self._checked(points, part, remote.describe(points, part, moved))
        buffer = RowBuffer(points, self._tiling)
        return lambda part, moved: self._checked(points, part, buffer.fill(part, moved))

    def _checked(self, points: npt.NDArray[Any], part: Pairs, filled: tuple[Any, int]) -> Any:
        rows, stuck = filled
        if stuck >= 0:
            self._raise_vanishing(points, part, stuck)
        return rows

    def _raise_vanishing(self, points: npt.NDArray[Any], part: Pairs, row: int) -> None:
        pair, side = divmod(row, 2)
        some = slice(*self._tiling.offsets[part.tile[pair] : part.tile[pair] + 2])
        members = self._tiling.members[some]
        x = points[part.point[pair]]
        step = part.step[pair, side] * (
            np.ones(len(members)) if self._tiling.weights is None else self._tiling.weights[some]
        )
        moved = step.astype(x.dtype)
        first = np.flatnonzero(x[members] + moved == x[members])[0]
        auto = auto_step(x.dtype) * max(1.0, float(np.abs(x[members]).max()))
        raise vanishing_step_error(x, int(members[first]), self._tiling.shape, abs(float(moved[first])), auto)


class RowBuffer:
    """Rows in memory that TensorFlow reads without a copy: filled with a point once, then only tiles are touched."""

    def __init__(self, points: npt.NDArray[Any], tiling: Tiling) -> None:
        self._points = points
        self._tiling = tiling
        self._rows = _core.aligned_empty((0, tiling.size), points.dtype)
        self._held_example = np.empty(0, np.int64)
        self._held_tile = np.empty(0, np.int64)

    def fill(self, pairs: Pairs, moved: Float64) -> tuple[npt.NDArray[Any], int]:
        """Write the rows of `pairs`; returns them, (2 pairs, *shape), and the first row that did not move or -1."""
        count = len(pairs)
        if 2 * count > len(self._rows):
            self._rows = _core.aligned_empty((2 * count, self._tiling.size), self._points.dtype)
            self._held_example = np.full(count, -1, np.int64)
            self._held_tile = np.full(count, -1, np.int64)
        stuck = _core.fill_rows(
            self._points,
            self._tiling.offsets,
            self._tiling.members,
            pairs.point,
            pairs.tile,
            pairs.step,
            self._rows,
            self._held_example,
            self._held_tile,
            moved,
            weights=self._tiling.weights,
        )
        return self._rows[: 2 * count].reshape(2 * count, *self._tiling.shape), stuck
