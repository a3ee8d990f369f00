"""The engine for any function: rows of differences are pushed through its operations, on whole maps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.engines.batch import Advance
from fdfast.engines.chunking import BUDGET
from fdfast.engines.difference import TINY
from fdfast.engines.pairs import Differences, Pairs
from fdfast.functions import Flat, recorded
from fdfast.moves import Tiling
from fdfast.tape import Point

Float64 = npt.NDArray[np.float64]
_ROWS = 64  # that go together: more of them ran no faster


class TapeEngine:
    """Evaluates displaced rows by difference arithmetic, operation by operation of a traced function.

    Parameters
    ----------
    flat_of : callable
        Number of an example -> `Flat` of that example alone, whose first argument is x.
    tiling : Tiling
    layer_of : callable
        Name of the layer that an operation of that name belongs to.
    progress : callable, optional
        Called with the number of rows that are done.

    Raises
    ------
    fdfast.tape.NoTape
        In a call, where the function cannot be recorded.
    """

    name = "tape"
    exact = True
    step: float | None = TINY
    eps = float(np.finfo(np.float64).eps)

    def __init__(
        self,
        flat_of: Callable[[int], Flat],
        tiling: Tiling,
        layer_of: Callable[[str], str] = str,
        *,
        progress: Advance | None = None,
    ) -> None:
        self._flat_of, self._tiling, self._progress, self._layer_of = flat_of, tiling, progress, layer_of
        self._examples: npt.NDArray[np.intp] | None = None
        self._names: list[str] = []
        self._points: dict[tuple[int, bytes], Point] = {}

    def layer(self, node: int) -> str:
        """Name of the layer, or of the operation, that a tie was seen in."""
        return self._names[node]

    def foresee(self, points: Any, near: Any) -> None:
        """Nothing is prepared."""

    def of(self, examples: Any) -> TapeEngine:
        """Return the same engine for some of its examples."""
        some = copy.copy(self)
        some._examples = np.asarray(examples) if self._examples is None else self._examples[examples]
        return some

    def by(self, tiling: Tiling) -> TapeEngine:
        """Return the same engine for other tiles."""
        other = copy.copy(self)
        other._tiling = tiling
        return other

    def differences(self, points: npt.NDArray[Any], example: npt.NDArray[np.int32], pairs: Pairs) -> Differences:
        """See `fdfast.engines.batch.BatchEngine.differences`."""
        base = np.empty(len(points))
        delta = np.empty((len(pairs), 2))
        tie, crossed = (np.full(len(pairs), -1, np.int32) for _ in range(2))
        self._points = {key: kept for key, kept in list(self._points.items())[-2 * len(points) :]}
        for number, values in enumerate(points):
            at = self._at(values, int(example[number]))
            base[number] = at.value
            mine = np.flatnonzero(pairs.point == number)
            many = self._many(at)
            for start in range(0, len(mine), many):
                some = mine[start : start + many]
                delta[some], tie[some], crossed[some] = self._push(at, pairs, some, min(many, len(mine)))
                if self._progress is not None:
                    self._progress(2 * len(some))
        return Differences(delta, pairs.step.copy(), base, 2 * len(pairs) + len(points), tie, crossed)

    def _at(self, values: npt.NDArray[Any], example: int) -> Point:
        example = example if self._examples is None else int(self._examples[example])
        values = np.asarray(values, np.float64)
        key = example, values.tobytes()
        if key not in self._points:
            flat = self._flat_of(example)
            arguments = flat.points()
            arguments[0] = values.reshape(arguments[0].shape)
            self._points[key] = recorded(flat).point(arguments)
        return self._points[key]

    def _many(self, at: Point) -> int:
        """Pairs that are pushed together."""
        # Difference, value and a temporary of the widest operation.
        return max(1, min(_ROWS, BUDGET // (3 * at.widest)) // 2)

    def _push(self, at: Point, pairs: Pairs, some: npt.NDArray[np.intp], filled: int) -> tuple[Any, Any, Any]:
        """Differences of some pairs, filled up with rows that do not move so that one graph serves all."""
        tiling = self._tiling
        rows = np.zeros((filled, 2, tiling.size))
        for row, pair in zip(rows, some, strict=False):
            if (tile := pairs.tile[pair]) >= 0:
                part = slice(tiling.offsets[tile], tiling.offsets[tile + 1])
                weights = 1.0 if tiling.weights is None else tiling.weights[part]
                row[:, tiling.members[part]] = pairs.step[pair][:, None] * weights
        found = at.slopes({0: rows.reshape(2 * filled, *at.arguments[0].shape)}, (1.0,))
        both = [np.full(len(some), -1, np.int32) for _ in range(2)]
        for kind, seen in zip(both, (found.ties, found.crossings), strict=True):
            for name, mask in reversed(seen):
                hit: Any = np.asarray(mask).reshape(filled, 2).any(axis=1)
                kind[hit[: len(some)]] = self._number(name)
        return found.value[0].reshape(filled, 2)[: len(some)], both[0], both[1]

    def _number(self, name: str) -> int:
        layer = self._layer_of(name)
        if layer not in self._names:
            self._names.append(layer)
        return self._names.index(layer)
