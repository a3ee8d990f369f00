"""Hand-batched finite differences, whatever the framework: all moves as one array, the best chunk and the best step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bench.peers.metrics import errors
from bench.peers.problem import SHAPE, STEP, Array, Float64, Problem
from bench.peers.registry import Effort, Precision, Ready
from bench.steal import LIMIT, Mark

#: Rows of one forward pass that are tried.
CHUNKS = (32, 128, 1568)
#: Exponents of the steps that are tried.
STEPS = {"float32": (-6, -7, -8, -9, -10, -11), "float64": (-14, -15, -16, -17, -18, -19)}
_PATIENCE = 2.0  # seconds of a call, beyond which no other steps are tried
_ENOUGH, _MOST = 0.2, 1.0  # seconds of calls, up to which there are more of them, and from which there are no more
#: (x, target, h) -> losses of x + h times every move
Losses = Callable[[Array, Array, float], Any]
#: (moves, chunk) -> Losses
Build = Callable[[Array, int], Losses]


@dataclass(frozen=True)
class Tiles:
    """Square tiles over one image: which pixels belong to which, in the order of the rows."""

    side: int
    shape: tuple[int, ...] = SHAPE

    @property
    def owner(self) -> Any:
        """Number of its tile for every pixel, shape of one channel."""
        height, width = self.shape[:2]
        across = -(-width // self.side)
        return (np.arange(height) // self.side)[:, None] * across + np.arange(width) // self.side

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.owner.max()) + 1

    def moves(self, dtype: str, some: Any = None) -> Array:
        """+1 and -1 on one tile after the other, all channels together: shape (2 tiles, *shape)."""
        which = np.arange(self.count) if some is None else np.asarray(some)
        plus = np.where(self.owner == which[:, None, None], 1.0, 0.0)[..., None]
        both = np.stack([plus, -plus], axis=1).reshape(2 * len(which), *self.shape[:2], 1)
        return np.ascontiguousarray(np.broadcast_to(both, (2 * len(which), *self.shape)), dtype)

    def sums(self, gradient: Float64) -> Float64:
        """Sum of a gradient over every tile."""
        per_pixel = gradient.reshape(self.shape).sum(axis=2)
        return np.bincount(self.owner.ravel(), per_pixel.ravel(), self.count)


def quotients(losses: Any, h: float) -> Float64:
    """Central differences of losses that alternate +h and -h."""
    values = np.asarray(losses, np.float64)
    found: Float64 = (values[0::2] - values[1::2]) / (2 * h)
    return found


@dataclass(frozen=True, eq=False)
class Chunked:
    """Losses of all rows, with the chunk that was fastest."""

    losses: Losses
    chunk: int
    seconds: float

    def __call__(self, x: Array, target: Array, h: float) -> Any:
        return self.losses(x, target, h)


def best_chunk(build: Build, moves: Array, chunks: Sequence[int], x: Array, target: Array, h: float) -> Chunked:
    """Build for every chunk, and keep the fastest."""
    built = {chunk: build(moves, chunk) for chunk in chunks}
    chunk, seconds = fastest({chunk: partial(losses, x, target, h) for chunk, losses in built.items()})
    return Chunked(built[chunk], chunk, seconds)


def fastest(calls: dict[int, Callable[[], Any]], rounds: int = 5) -> tuple[int, float]:
    """Which of them, and its seconds, the least of some rounds, or of more if these are short.

    Each is warmed up; from small to large, until they are clearly slower than the best. There are fewer rounds of long
    calls if the host let them alone, and one if there is nothing to choose.
    """
    found: dict[int, float] = {}
    for chunk, call in sorted(calls.items()):
        call()
        seconds: list[float] = []
        mark = Mark()
        while len(seconds) < rounds or sum(seconds) < _ENOUGH:
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
            if len(calls) == 1 or (sum(seconds) > _MOST and mark.share() <= LIMIT):
                break
        found[chunk] = min(seconds)
        if found[chunk] > 1.5 * min(found.values()):
            break
    chunk = min(found, key=lambda chunk: found[chunk])
    return chunk, found[chunk]


def sensible(chunks: Sequence[int], rows: int) -> list[int]:
    """Those below the number of rows, and all rows at once if the next is near."""
    return sorted({min(chunk, rows) for chunk in chunks})


def hand_batched(build: Build, problem: Problem, precision: Precision, effort: Effort) -> Ready:
    """Try chunks, then steps, and keep the best.

    The step is chosen by the truth, which a user does not have: by the median error times the 99 % quantile, because a
    coarse step may have the better median while it leaps over kinks. What an earlier visit has found is kept.
    """
    tiles = Tiles(1)
    x, target = problem.x.astype(precision), problem.target.astype(precision)
    known = effort.choice
    chunks = [known["chunk"]] if known else sensible((64, 256) if effort.quick else CHUNKS, 2 * tiles.count)
    losses = best_chunk(build, tiles.moves(precision), chunks, x, target, STEP[precision])

    def missed(k: int) -> float:
        found = errors(quotients(losses(x, target, 2.0**k), 2.0**k)[problem.smooth], problem.truth[problem.smooth])
        return found.median * found.p99

    def best_step() -> int:
        if known:
            return known["step"]
        if losses.seconds > _PATIENCE:  # more of the same is not worth the wait
            return round(np.log2(STEP[precision]))
        return min(STEPS[precision], key=missed)

    best = best_step()

    def run(point: Float64) -> Float64:
        return quotients(losses(point.astype(precision), target, 2.0**best), 2.0**best)

    setting, choice = f"{losses.chunk} rows at a time, h = 2^{best}", {"chunk": losses.chunk, "step": best}
    return Ready(run, 2 * tiles.count, setting, choice=choice)
