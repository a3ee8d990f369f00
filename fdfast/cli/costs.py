"""What a check of a model costs on this machine: engine by engine, chunk by chunk."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.check import gradcheck
from fdfast.engines import Pairs
from fdfast.moves import Channels, Precision, TileLike, plan_steps
from fdfast.problem import Request, checked, engine_for

#: Rows per forward pass that the batch engine is timed with; the budget for memory may forbid the larger ones.
CHUNKS = (16, 64, 256)
_ENOUGH = 0.5  # seconds of one timing, beyond which a sample of the tiles does
_REPEATS = 3
_TOGETHER, _SLOW = 16, 2.0  # examples checked together, unless one takes more seconds than that
_NAMES: tuple[Precision, ...] = ("float32", "float64")


@dataclass(frozen=True)
class Cost:
    """Time of one central-difference gradient of one example.

    Attributes
    ----------
    engine, precision : str
    chunk : int or None
        Rows per forward pass; None where rows are not what is computed.
    seconds : float
        For all tiles, warm. Beyond a sample of the tiles, extrapolated in proportion.
    timed, tiles : int
        Tiles in the sample, and in all.
    why : str
        Why there is no time, else empty.
    """

    engine: str
    precision: str
    chunk: int | None
    seconds: float
    timed: int
    tiles: int
    why: str = ""


def gradient_costs(
    model: Any, x: npt.NDArray[Any], y: Any, loss: Any, tile: TileLike, channels: Channels = "apart"
) -> Iterator[Cost]:
    """Time the engines on the first example, in both precisions.

    Parameters
    ----------
    model, x, y, loss, tile, channels
        As `fdfast.gradient` takes them, with a leading axis of examples.
    """
    for engine in ("difference", "batch"):
        for precision in _NAMES:
            chunks = (None,) if engine == "difference" else CHUNKS
            for chunk in chunks:
                try:
                    request = Request(model, x, y, loss, tile, channels, engine=engine, precision=precision)
                    yield _cost(request, chunk)
                except ValueError as error:
                    yield Cost(engine, precision, chunk, np.nan, 0, 0, str(error))
                    break


def _cost(request: Request, chunk: int | None) -> Cost:
    with checked(request, always=False) as problem:
        runner = engine_for(problem, slice(0, 1), chunk, lambda rows: None)
        points, tiles = problem.points[:1], problem.tiling.tiles
        order = np.random.default_rng(0).permutation(tiles)
        steps = plan_steps(points, problem.tiling, "auto", None, runner.step).offsets()[0]

        def run(count: int) -> float:
            some = np.sort(order[:count])
            pairs = Pairs(np.zeros(count, np.int64), some, steps[some])
            start = time.perf_counter()
            # A fresh engine: one that has the values at the point already would leave them out.
            engine_for(problem, slice(0, 1), chunk, lambda rows: None).differences(points, np.zeros(1, np.int32), pairs)
            return time.perf_counter() - start

        # Never fewer tiles than one chunk holds, or the time of a chunk is not seen.
        count = min(tiles, max(8, (chunk or 0) // 2))
        run(count)
        while count < tiles and run(count) < _ENOUGH / 4:
            count = min(tiles, 4 * count)
        once, seconds = (statistics.median(run(n) for _ in range(_REPEATS)) for n in (0, count))
        whole = once + max(0.0, seconds - once) * tiles / count
        return Cost(request.engine, request.precision, chunk, whole, count, tiles)


@dataclass(frozen=True)
class CheckCost:
    """Seconds of a whole `fdfast.gradcheck`: the first in this process, a later one, and each of many at once."""

    first: float
    later: float
    each: float

    def of(self, examples: int) -> float:
        """Seconds that so many examples take, given together."""
        return self.later + max(0, examples - 1) * self.each


def check_cost(
    model: Any, x: npt.NDArray[Any], y: Any, loss: Any, tile: TileLike, channels: Channels = "apart"
) -> CheckCost:
    """Time whole checks of the first example, and of some copies of it together where that is quick."""
    one, target = x[:1], y[:1]

    def run(examples: int) -> float:
        many = np.repeat(one, examples, axis=0), np.repeat(target, examples, axis=0)
        start = time.perf_counter()
        gradcheck(model, *many, loss=loss, tile=tile, channels=channels)
        return time.perf_counter() - start

    first = run(1)
    later = statistics.median(run(1) for _ in range(_REPEATS))
    if later > _SLOW:
        return CheckCost(first, later, later)
    run(_TOGETHER)
    return CheckCost(first, later, max(0.0, run(_TOGETHER) - later) / (_TOGETHER - 1))
