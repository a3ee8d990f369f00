"""Losses to derivatives: value, error bar, one-sided slopes and kind of every tile, refined where needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.engines import Pairs
from fdfast.estimates.estimate import KINK, SMOOTH, UNRESOLVED, Engine, Estimate
from fdfast.estimates.exact import look
from fdfast.estimates.noise import LINES, any_tiles, deviation, last_place, lines, moves, pool, quietest
from fdfast.estimates.stencil import Search, stencil, third_differences
from fdfast.moves import CENTRAL, SCHEMES, Steps, Tiling, auto_step, plan_steps, three_point

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

# Noise above so many units in the last place of f is measured again, on lines as short as this.
_LOUD, _SHORT = 256.0, 2.0**-8
_ROUNDS = 4
# The smaller step of each scheme, in units of its offsets. On one side 3h/2, since h has been looked at already.
_FINE = np.array([(0.5, 0.5) if scheme is CENTRAL else (0.5, 0.75) for scheme in SCHEMES])


def slopes(engine: Engine, points: Any, steps: Steps, tiling: Tiling) -> Float64:
    """Plain differences, two rows per tile and no error bar, shape (examples, tiles).

    Raises
    ------
    ValueError
        f is not finite at a displaced row.
    """
    count = len(points)
    example, tile = _everything(count, tiling.tiles)
    where, at = _points(points, steps, example, tile)
    pairs = Pairs(at, tile, steps.offsets()[example, tile])
    found = engine.differences(where, np.arange(len(where), dtype=np.int32) % count, pairs)
    _check_base(found.base[:count])
    d, w = found.delta, found.moved
    value = three_point(d[:, 0], d[:, 1], w[:, 0], w[:, 1])
    bad = np.flatnonzero(~np.isfinite(value))
    if bad.size:
        first = bad[0]
        index = tiling.where(int(tile[first]))
        of = f" of example {example[first]}" if count > 1 else ""
        values = found.base[at[first]] + d[first]
        sides = [f"{one:g} at {step:+.3g}" for one, step in zip(values, pairs.step[first], strict=True)]
        raise ValueError(
            f"f is not finite one step from x on the tile at {index}{of}: it is {' and '.join(sides)}; a smaller h or "
            "bounds= may keep f in its domain"
        )
    return value.reshape(count, tiling.tiles)


def estimate_tiles(
    engine: Engine,
    points: Any,
    steps: Steps,
    tiling: Tiling,
    *,
    rtol: float = 1e-4,
    wanted: Bool | None = None,
    refine: bool = True,
    reach: npt.ArrayLike = np.inf,
    seed: int = 0,
) -> Estimate:
    """Estimate the derivative along tiles from f at x, x +- h and x +- h/2, and at further steps where needed.

    Parameters
    ----------
    engine : Engine
    points : ndarray, shape (examples, size)
    steps : Steps
    tiling : Tiling
    rtol : float
        Tiles whose bar exceeds ``rtol * |value| + rtol/100 * max|value|`` are refined.
    wanted : ndarray of bool, shape (examples, tiles), optional
        Tiles to look at; the others come back as NaN and unresolved.
    refine : bool
        False stops after the first two steps.
    reach : float or ndarray of float, shape (examples,)
        Largest step, in the units of x. Several kinks within one step can cancel and stay unseen, so where they are
        known to lie close, as after `jitter` has split ties, steps must be shorter than their distance.
    seed : int
        Of the direction along which the noise is measured.
    """
    count = len(points)
    shape = (count, tiling.tiles)
    longest = np.reshape(np.asarray(reach, np.float64), (-1, 1))
    steps = replace(steps, h=np.minimum(steps.h, 2.0 ** np.floor(np.log2(longest))))
    chosen = np.ones(shape, bool) if wanted is None else wanted
    if engine.exact:
        return _exactly(engine, points, steps, chosen)
    example, tile = np.nonzero(chosen)
    where, at = _points(points, steps, example, tile)
    owner = np.arange(len(where), dtype=np.int32) % count
    rng = np.random.default_rng(seed)
    probes = lines(any_tiles(count, tiling.tiles, rng), np.arange(count), steps)
    first = _two_steps(steps, at, example, tile, np.arange(len(tile)), 1.0)
    found = engine.differences(where, owner, probes.then(first))
    many = len(probes)
    delta, moved = _by_tile(found.delta[many:]), _by_tile(found.moved[many:])
    base = _check_base(found.base[:count])
    evaluations, refined = found.evaluations, 0
    place = last_place(base, points.dtype)
    along = deviation(found.delta[:many], place)
    fourth = np.full(shape, np.nan)
    live = moves(delta, place[example, None, None]).any(axis=(1, 2))
    with np.errstate(invalid="ignore"):  # f may be infinite at a row
        fourth[example, tile] = np.where(live, np.diff(third_differences(delta, moved))[:, 0], np.nan)
    silent = np.flatnonzero(np.isnan(along))
    if silent.size:
        found = engine.differences(where, owner, _elsewhere(silent, fourth, rng, where, points, steps, tiling))
        along[silent] = deviation(found.delta, place[silent])
        evaluations += found.evaluations
    loud = np.flatnonzero(along > _LOUD * place)
    if loud.size and _SHORT * steps.h[loud].min() > 64 * np.spacing(np.abs(where).max()):
        # Steps of f, as of a rounded activation, are noise only along a line that is long enough to cross them.
        near = lines(_live_tiles(loud, fourth, rng)[0], loud, steps, _SHORT)
        found = engine.differences(where, owner, near)
        along[loud] = quietest(along[loud], deviation(found.delta, place[loud]), base[loud], points.dtype)
        evaluations += found.evaluations
    noise = pool(along, fourth, base, points.dtype)
    sigma = noise[example]
    search = Search(stencil(delta, moved, sigma))
    target, peak = _target(search.best.value, example, count, rtol)
    for _ in range(_ROUNDS if refine else 0):
        which = np.flatnonzero(search.undecided(target))
        if not which.size:
            break
        scale = np.full(len(tile), np.nan)
        floor, ceiling = _range(where, points, steps, tiling, at, example, tile)
        scale[which] = search.next(floor, np.minimum(ceiling, (longest / steps.h)[example, tile]))[which]
        which = np.flatnonzero(np.isfinite(scale))
        if not which.size:
            break
        found = engine.differences(where, owner, _two_steps(steps, at, example, tile, which, scale[which]))
        search.take(which, scale[which], stencil(_by_tile(found.delta), _by_tile(found.moved), sigma[which]))
        evaluations += found.evaluations
        refined += 4 * len(which)
        target, peak = _target(search.best.value, example, count, rtol)
    best = search.best
    kind = np.where(search.smooth(target), SMOOTH, np.where(best.jump, KINK, UNRESOLVED))

    full = _spread_over(shape, example, tile)

    return Estimate(
        value=full(best.value, np.nan),
        error=full(best.error, np.inf),
        right=full(best.right, np.nan),
        left=full(best.left, np.nan),
        kind=full(kind, UNRESOLVED, np.int8),
        step=full(steps.h[example, tile] * search.scale, np.nan),
        base=base,
        noise=noise,
        evaluations=evaluations,
        refined=refined,
        engine=engine.name,
        scale=peak,
    )


def _exactly(engine: Engine, points: Any, steps: Steps, chosen: Bool) -> Estimate:
    """Estimate by an engine that loses no digits and sees every kink: one look does."""
    count = len(points)
    example, tile = np.nonzero(chosen)
    where, at = _points(points, steps, example, tile)
    found = look(engine, where, np.arange(len(where), dtype=np.int32) % count, at, steps, example, tile, count)

    full = _spread_over((count, chosen.shape[1]), example, tile)

    kind = np.where(found.kink, KINK, np.where(found.open | ~np.isfinite(found.error), UNRESOLVED, SMOOTH))
    return Estimate(
        value=full(found.value, np.nan),
        error=full(found.error, np.inf),
        right=full(found.right, np.nan),
        left=full(found.left, np.nan),
        kind=full(kind, UNRESOLVED, np.int8),
        step=full(found.step, np.nan),
        base=_check_base(found.base[:count]),
        noise=found.rounding * np.partition(steps.h, chosen.shape[1] // 2)[:, chosen.shape[1] // 2],
        evaluations=found.evaluations,
        refined=found.refined,
        engine=engine.name,
        scale=found.peak,
        tie=full(found.tie, -1, np.int32),
    )


def _spread_over(shape: tuple[int, int], example: Int64, tile: Int64) -> Callable[..., Any]:
    """Make a map of what was looked at: (values, what stands elsewhere, dtype) -> ndarray of that shape."""

    def full(values: Any, empty: float, dtype: Any = np.float64) -> Any:
        if len(tile) == shape[0] * shape[1]:  # all of them, in order
            return np.asarray(values, dtype).reshape(shape)
        out = np.full(shape, empty, dtype)
        out[example, tile] = values
        return out

    return full


def _check_base(base: Float64) -> Float64:
    bad = np.flatnonzero(~np.isfinite(base))
    if bad.size:
        which = f" at example {bad[0]}" if len(base) > 1 else ""
        raise ValueError(
            f"f(x) is {base[bad[0]]}{which}: the loss must be finite at x itself; "
            "look for log(0), 0/0 or overflow in the model"
        )
    return base


def _everything(examples: int, tiles: int) -> tuple[Int64, Int64]:
    return np.repeat(np.arange(examples), tiles), np.tile(np.arange(tiles), examples)


def _points(points: Any, steps: Steps, example: Int64, tile: Int64) -> tuple[Any, Int64]:
    """Points to displace, with the moved centres behind them, and which one each entry uses."""
    if steps.centre is None:
        return points, example
    at = np.where(steps.moved[example, tile], len(points) + example, example)
    return np.concatenate([points, steps.centre]), at


def _target(value: Float64, example: Int64, count: int, rtol: float) -> tuple[Float64, Float64]:
    """Bar that each tile is refined to, and the largest value of each example."""
    size = np.where(np.isfinite(value), np.abs(value), 0.0)
    peak = np.zeros(count)
    np.maximum.at(peak, example, size)
    return rtol * (size + peak[example] / 100), peak


def _range(
    where: Any, points: Any, steps: Steps, tiling: Tiling, at: Int64, example: Int64, tile: Int64
) -> tuple[Float64, Float64]:
    """Smallest and largest multiple of the step: 8 units in the last place of x; 1/16 of its scale, inside bounds."""
    values, first = where[:, tiling.members], tiling.offsets[:-1]
    top = np.maximum.reduceat(values, first, axis=1)[at, tile]
    bottom = np.minimum.reduceat(values, first, axis=1)[at, tile]
    h = steps.h[example, tile]
    floor = 8 * np.spacing(np.maximum(np.abs(top), np.abs(bottom))).astype(np.float64) / h
    ceiling = plan_steps(points, tiling).h[example, tile] / auto_step(points.dtype) / 16 / h
    if steps.bounds is not None:
        low, high = steps.bounds
        offsets = steps.offsets()[example, tile]
        below, above = bottom.astype(np.float64) - low, high - top.astype(np.float64)
        for room, far in ((below, -offsets.min(axis=1)), (above, offsets.max(axis=1))):
            ceiling = np.minimum(ceiling, np.where(far > 0, room / np.where(far > 0, far, 1.0), np.inf))
    return floor, ceiling


def _elsewhere(
    examples: Int64, fourth: Float64, rng: np.random.Generator, where: Any, points: Any, steps: Steps, tiling: Tiling
) -> Pairs:
    """Lines for examples where f did not move along the first ones: along tiles where it moved, or else further out."""
    tile, alive = _live_tiles(examples, fourth, rng)
    further = np.ones(tile.shape)
    for i, example in enumerate(examples):
        if not alive[i]:
            who = np.repeat(example, LINES)
            at = _points(points, steps, who, tile[i])[1]
            further[i] = np.clip(_range(where, points, steps, tiling, at, who, tile[i])[1], 1, 16)
    return lines(tile, examples, steps, further)


def _live_tiles(examples: Int64, fourth: Float64, rng: np.random.Generator) -> tuple[Int64, Bool]:
    """Tiles for lines, shape (examples, LINES), of those along which f moves; and whether there are any."""
    tile = any_tiles(len(examples), fourth.shape[1], rng)
    alive = np.isfinite(fourth[examples]).sum(axis=1) > 0
    share = rng.random(LINES)
    for i in np.flatnonzero(alive):
        live = np.flatnonzero(np.isfinite(fourth[examples[i]]))
        tile[i] = live[(share * live.size).astype(np.int64)]
    return tile, alive


def _two_steps(steps: Steps, at: Int64, example: Int64, tile: Int64, which: Int64, scale: Float64 | float) -> Pairs:
    offsets = steps.offsets()[example[which], tile[which]] * np.reshape(scale, (-1, 1))
    fine = offsets * _FINE[steps.scheme[example[which], tile[which]]]
    both = np.stack([offsets, fine], axis=1).reshape(-1, 2)
    return Pairs(np.repeat(at[which], 2), np.repeat(tile[which], 2), both)


def _by_tile(values: Float64) -> Float64:
    return values.reshape(-1, 2, 2)
