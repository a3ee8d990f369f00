"""The engine for any function: differences through its operations, on windows or, beyond the kernels, whole maps."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fdfast.engines.batch import Advance
from fdfast.engines.chunking import BUDGET
from fdfast.engines.pairs import Differences, Pairs
from fdfast.moves import Tiling
from fdfast.tape import Point, Recorded
from fdfast.windows import Windows, cores, windows_at

Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
#: Number of a layer, by the name of an operation.
_Number: TypeAlias = Callable[[str], int]
#: Operations by name, and in which rows something was seen in them.
_Seen: TypeAlias = Sequence[tuple[str, Any]]
#: Steps so short, beside x, that only a kink or an edge tells the two sides apart; and how far opposite sums may part.
_CLOSE, _OPPOSITE = 2.0**-50, 2.0**-30
#: What takes a step so short to the one of central differences, where f is the sum of what is far apart.
_FURTHER = 2.0**83
_FEW = 8  # pairs that are not worth it
#: Rows that go together: at least so many, and as many as stay in a cache of so many bytes.
_ROWS, _CACHE = 64, 4 << 20


class TapeEngine:
    """Evaluates displaced rows by difference arithmetic, operation by operation of a traced function.

    Parameters
    ----------
    recording_of : callable
        Number of an example -> the recorded function of that example alone, whose first argument is x, and the values
        of all arguments.
    tiling : Tiling
    layer_of : callable
        Name of the layer that an operation of that name belongs to.
    windows : bool
        Whether the compiled kernels do what they know, on the windows that the tiles reach.
    progress : callable, optional
        Called with the number of rows that are done.
    first : tuple, optional
        Point of the first example, and what `fdfast.windows.windows_at` found there.

    Raises
    ------
    fdfast.tape.NoTape
        In a call, where the function cannot be recorded.
    """

    exact = True
    #: For values of order one: what any rule turns into all digits, and nothing between x and there is a kink.
    step: float | None = 2.0**-100
    eps = float(np.finfo(np.float64).eps)

    def __init__(
        self,
        recording_of: Callable[[int], tuple[Recorded, Sequence[npt.NDArray[Any]]]],
        tiling: Tiling,
        layer_of: Callable[[str], str] = str,
        *,
        windows: bool = False,
        progress: Advance | None = None,
        first: tuple[Point, Any] | None = None,
    ) -> None:
        self._recording_of, self._layer_of = recording_of, layer_of
        self._tiling, self._progress = tiling, progress
        self._examples: npt.NDArray[np.intp] | None = None
        self._windows, self._threads = windows, cores()
        self.name = "windows" if windows else "tape"
        self._names: list[str] = []
        self._points: dict[tuple[int, bytes], _At] = {}
        self._first = first

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

    def differences(self, points: npt.NDArray[Any], example: Int32, pairs: Pairs) -> Differences:
        """See `fdfast.engines.batch.BatchEngine.differences`."""
        base, moved = np.empty(len(points)), pairs.step.copy()
        delta = np.empty((len(pairs), 2))
        tie, crossed = (np.full(len(pairs), -1, np.int32) for _ in range(2))
        self._points = {key: kept for key, kept in list(self._points.items())[-2 * len(points) :]}
        for number, values in enumerate(points):
            at = self._at(values, int(example[number]))
            base[number] = at.value
            mine = np.flatnonzero(pairs.point == number)
            near = _CLOSE * (float(np.abs(values).max(initial=0.0)) or 1.0)
            turned = pairs.step[mine, 0] == -pairs.step[mine, 1]
            short = bool((turned & (np.abs(pairs.step[mine, 0]) <= near)).all())
            close = short and len(mine) >= _FEW
            many = max(2, max(_ROWS, _CACHE // at.row_bytes)) // (1 if close else 2)
            many = min(many, max(1, BUDGET // (6 * at.row_bytes)))
            pieces = -(-len(mine) // many)
            filled = -(-len(mine) // max(1, pieces))
            if len(mine) < self._tiling.tiles:  # few numbers, few graphs
                filled = min(many, 1 << max(0, filled - 1).bit_length())
            for start in range(0, len(mine), max(1, filled)):
                some = mine[start : start + filled]
                found = at.push(self._tiling, pairs.tile[some], pairs.step[some], filled, self._number, close=close)
                delta[some], tie[some], crossed[some], equal = found
                lost = some[short & equal]
                if lost.size:  # what == put aside at x, as 0 in sin x / x, may come from afar: by a step that is seen
                    moved[lost] *= _FURTHER
                    found = at.push(self._tiling, pairs.tile[lost], moved[lost], filled, self._number, close=False)
                    delta[lost], tie[lost], crossed[lost], _ = found
                if self._progress is not None:
                    self._progress(2 * len(some))
        return Differences(delta, moved, base, 2 * len(pairs) + len(points), tie, crossed)

    def _at(self, values: npt.NDArray[Any], example: int) -> _At:
        example = example if self._examples is None else int(self._examples[example])
        values = np.asarray(values, np.float64)
        key = example, values.tobytes()
        if key not in self._points:
            whole, (own, *others) = self._recording_of(example)
            if self._first is not None and example == 0 and np.array_equal(self._first[0].arguments[0].ravel(), values):
                point, found = self._first
            else:
                point = whole.point([values.reshape(own.shape), *others])
                found = windows_at(whole, point) if self._windows else None
            made: _At = _OnMaps(point) if found is None else _OnWindows(whole, found[0], found[1], self._threads)
            self._points[key] = made
        return self._points[key]

    def _number(self, name: str) -> int:
        layer = self._layer_of(name)
        if layer not in self._names:
            self._names.append(layer)
        return self._names.index(layer)


class _At(ABC):
    """A point, and differences of f there by rows that go through whole maps."""

    value: float
    row_bytes: int

    @abstractmethod
    def begin(
        self, tiling: Tiling, tiles: Any, steps: Float64, number: _Number, *, short: bool
    ) -> tuple[Float64, Int32, Int32]:
        """Rows of pairs where the whole maps begin, shape (pairs, 2, elements); what ties and what crosses before."""

    @abstractmethod
    def run(self, rows: Float64) -> tuple[Float64, _Seen, _Seen, Any]:
        """Differences of f for rows; operations whose units tie, or leave their branches, and in which rows.

        At last, in which rows two numbers that are compared by == move apart; None for no row.
        """

    def push(
        self, tiling: Tiling, tiles: Any, steps: Float64, filled: int, number: _Number, *, close: bool
    ) -> tuple[Float64, Int32, Int32, Any]:
        """Differences of some pairs, what ties and crosses, and where it is by ==.

        They are filled up with rows that do not move so that one graph serves all.

        The second row of a pair that is `close`, to both sides of x, is the first one turned round, unless a unit ties
        or f has an edge: along one generic line, and back, every unit moves that any row moves, and what comes of both
        must be opposite.
        """
        rows, tie, crossed = self.begin(tiling, tiles, steps, number, short=close)
        count, _, width = rows.shape
        found, equal = np.empty((count, 2)), np.zeros(count, bool)

        def run(block: Float64, each: int, some: Any) -> Float64:
            values, *kinks, apart = self.run(block.reshape(-1, width))
            if apart is not None:
                equal[some] |= apart.reshape(-1, each)[: len(some)].any(axis=1)
            for kink, seen in zip((tie, crossed), kinks, strict=True):
                more = _of_pairs(seen, each, len(block), number)[: len(some)]
                kink[some] = np.where(kink[some] < 0, more, kink[some])
            return values.reshape(-1, each)

        def filled_up(some: Float64, lines: Float64 | None = None) -> Float64:
            block = np.zeros((filled + 2 * close, *some.shape[1:]))
            block[: len(some)] = some
            if lines is not None:
                block[-2:] = lines
            return block

        everything = np.arange(count)
        if not close:
            return run(filled_up(rows), 2, everything)[:count], tie, crossed, equal
        share = np.random.default_rng(0).uniform(0.5, 1.0, count)
        line = share @ rows[:, 0]
        values = run(filled_up(rows[:, 0], np.stack([line, -line])), 1, everything)[:, 0]
        found[:, 0], found[:, 1] = values[:count], -values[:count]
        with np.errstate(all="ignore"):
            smooth = abs(values[-1] + values[-2]) <= _OPPOSITE * (share @ np.abs(values[:count]))
            same = _sizes(rows[:, 0] + rows[:, 1]) <= _OPPOSITE * _sizes(rows[:, 0])
        other = np.flatnonzero((tie >= 0) | (crossed >= 0) | ~same) if smooth else everything
        if other.size:
            found[other, 1] = run(filled_up(rows[other, 1]), 1, other)[: len(other), 0]
        return found, tie, crossed, equal


class _OnMaps(_At):
    """A point whose rows go through all operations as whole maps."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self.value, self.row_bytes = point.value, point.widest

    def begin(
        self, tiling: Tiling, tiles: Any, steps: Float64, number: _Number, *, short: bool
    ) -> tuple[Float64, Int32, Int32]:
        rows = np.zeros((len(tiles), 2, tiling.size))
        for row, tile, step in zip(rows, tiles, steps, strict=True):
            part = slice(tiling.offsets[tile], tiling.offsets[tile + 1])
            weights = 1.0 if tiling.weights is None else tiling.weights[part]
            row[:, tiling.members[part]] = step[:, None] * weights
        return rows, _none(len(tiles)), _none(len(tiles))

    def run(self, rows: Float64) -> tuple[Float64, _Seen, _Seen, Any]:
        found = self._point.slopes({0: rows.reshape(len(rows), *self._point.arguments[0].shape)}, (1.0,))
        return found.value[0], found.ties, found.crossings, found.equal[0]


class _OnWindows(_At):
    """A point whose rows go through the compiled kernels first."""

    def __init__(self, whole: Recorded, windows: Windows, values: Any, threads: int) -> None:
        self._whole, self._windows, self._values, self._threads = whole, windows, values, threads
        self.value, self.row_bytes = windows.value(values), windows.row_bytes
        self._prepared = windows.prepared(values, threads)

    def begin(
        self, tiling: Tiling, tiles: Any, steps: Float64, number: _Number, *, short: bool
    ) -> tuple[Float64, Int32, Int32]:
        pushed, *kinks = self._windows.push(
            self._prepared,
            (tiling.offsets, tiling.members, tiles),
            steps,
            tiling.weights,
            self._threads,
            hold=short and len(tiles) > 2 * self._windows.narrow,
        )
        names = self._windows.names
        tie, crossed = (np.array([-1 if k < 0 else number(names[k]) for k in kink], np.int32) for kink in kinks)
        return pushed, tie, crossed

    def run(self, rows: Float64) -> tuple[Float64, _Seen, _Seen, Any]:
        found, notes = self._windows.finish(self._values, rows, self._whole)
        if notes is None:
            return found, [], [], None
        return found, *map(self._windows.named, (notes.ties, notes.crossings)), self._windows.equal(notes.ties)


def _sizes(rows: Float64) -> Float64:
    """Largest magnitude in each row."""
    largest: Float64 = np.maximum(rows.max(axis=1, initial=0.0), -rows.min(axis=1, initial=0.0))
    return largest


def _none(count: int) -> Int32:
    return np.full(count, -1, np.int32)


def _of_pairs(seen: _Seen, each: int, count: int, number: _Number) -> Int32:
    """Number of the first layer that was seen in a row of each group of `each` rows, -1 for none."""
    found = _none(count)
    for name, mask in reversed(seen):
        hit: Any = np.asarray(mask).reshape(-1, each)[:count].any(axis=1)
        found[hit] = number(name)
    return found
