"""What is measured of a gradient before it is believed: repeats, zeros, differences at many steps, one step uphill."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.attack.rowwise import along
from fdfast.attack.slopes import Way, slope_of
from fdfast.attack.step_search import smallest_step
from fdfast.attack.straight import hiding_layers
from fdfast.attack.subject import Subject
from fdfast.check import gradient as finite_difference
from fdfast.moves import grain, make_tiling

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

REPEATS = 4
RANDOM = "random"  # the name of the curve along random signs
#: Steps in radii of the ball; then those, in the units of x, at which a staircase is flat.
_STEPS = (1.0, 0.5, 0.25, 0.1, 0.05, 0.025, 0.01)
_SMALL = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
_FLAT = 16  # directions of the look for stairs
_SPARSE = 64  # one in so many elements moves in it, so that edges of stairs are seldom met
_HEARD = 32  # units in the last place that a change must have
_STIRRED = 4  # the same where it is only asked whether there is a change at all
_PLACES = 9  # of a curve
_RANDOM = 4  # random directions that the last curve is the mean of
_TILES = 400  # that differences are taken of, at most


@dataclass(frozen=True, eq=False)
class Measures:
    """What was measured; arrays have one row per example.

    Attributes
    ----------
    repeats : ndarray, shape (examples,)
        Standard deviation of the loss over repeated calls, over how much the loss changes at epsilon.
    agreement : ndarray, shape (examples,)
        Cosine of two autodiff gradients at the same x: 1 where f is not random. NaN where there is none.
    connected : bool
        Whether autodiff finds a way from the loss to x.
    zeros : ndarray, shape (examples,)
        Share of zeros in the autodiff gradient; NaN where there is none.
    alive : ndarray, shape (examples,)
        Cosine of the autodiff gradient and that of the measure, which does not saturate.
    steps : ndarray, shape (steps,)
        Falling, from epsilon.
    cosine : ndarray, shape (examples, steps)
        Cosine of the gradient of the measure and differences at each step; NaN where differences are rounding, or where
        there is no gradient.
    flat : ndarray, shape (examples, steps)
        Share of differences that are exactly zero where a few elements move; NaN where they are rounding.
    moves : ndarray, shape (examples,)
        How much the measure changes along random signs at epsilon, root mean square.
    gain : dict of str to ndarray, shape (examples,)
        Measure after one step of epsilon along the sign of each gradient, minus that at x.
    curves : dict of str to ndarray, shape (examples, places)
        Measure along each gradient's sign and along random ones, from 0 to epsilon.
    spot : float or None
        The step that differences were taken at: the smallest that tells something; None where none does.
    hidden_by : list of str
        Layers of a Sequential model that pass no gradient.
    """

    repeats: Float64
    agreement: Float64
    connected: bool
    zeros: Float64
    alive: Float64
    steps: Float64
    cosine: Float64
    flat: Float64
    moves: Float64
    gain: dict[str, Float64]
    curves: dict[str, Float64]
    spot: float | None
    hidden_by: list[str]


def cosines(a: Float64, b: Float64) -> Float64:
    """Cosine of the angle between rows, 0 where one of them is zero."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    size = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.asarray((a * b).sum(axis=1) / np.where(size > 0, size, 1.0))


def measure(subject: Subject, epsilon: float, directions: int, seed: int) -> Measures:
    """Measure all of it: at x, and where ties of 8-bit numbers would be in the way beside it."""
    rng, scored, every = np.random.default_rng(seed), subject.scored, subject.every
    repeated = np.stack([subject.clean.measure] + [scored.at(subject.points, every).measure for _ in range(REPEATS)])
    own, again = (scored.gradient(subject.points, every) for _ in range(2))
    true = _unsaturated(subject, own)
    beside = _beside(subject, rng)
    there = scored.gradient(beside, every, of="measure")
    steps = np.array([*(k * epsilon for k in _STEPS), *(h for h in _SMALL if h < _STEPS[-1] * epsilon)])
    cosine, flat, change = _differences(subject, beside, there, steps, directions, rng)
    hidden_by = _hidden_by(subject)
    spot, curves = _curves(subject, own, true, bool(hidden_by), epsilon, rng)
    both = own is not None and again is not None
    return Measures(
        repeats=repeated.std(axis=0) / np.where(change > 0, change, 1.0),
        agreement=np.full(len(every), np.nan) if own is None or again is None else _agreement(own, again),
        connected=both,
        zeros=np.full(len(every), np.nan) if own is None else (own.reshape(len(every), -1) == 0).mean(axis=1),
        alive=np.full(len(every), np.nan) if own is None or true is None else cosines(own, true),
        steps=steps,
        cosine=cosine,
        flat=flat,
        moves=change,
        gain={name: curve[:, -1] - curve[:, 0] for name, curve in curves.items() if name != RANDOM},
        curves=curves,
        spot=spot,
        hidden_by=hidden_by,
    )


def _beside(subject: Subject, rng: np.random.Generator) -> Array:
    """Points off the ties and edges that 8-bit numbers lie on, at the ends of the range, too, where most pixels are."""
    noise = rng.uniform(-1, 1, subject.points.shape) * grain(subject.x)
    there = (subject.points + noise).astype(subject.points.dtype)
    inwards = (subject.points - noise).astype(subject.points.dtype)
    return np.where(subject.inside(there) == there, there, subject.inside(inwards))


def _agreement(one: Float64, other: Float64) -> Float64:
    """Cosine of two gradients, which is 1 where both are zero."""
    nothing = ~(one.reshape(len(one), -1).any(axis=1) | other.reshape(len(other), -1).any(axis=1))
    return np.asarray(np.where(nothing, 1.0, cosines(one, other)))


def _unsaturated(subject: Subject, own: Float64 | None) -> Float64 | None:
    """The gradient of the measure; where that is the loss itself and dead somewhere, of the loss in float64."""
    found = subject.scored.gradient(subject.points, subject.every, of="measure")
    if found is None or own is None or subject.scored.margin_of_rows is not None or not subject.scored.is_model:
        return found
    dead = np.flatnonzero(~own.reshape(len(own), -1).any(axis=1))
    if dead.size:
        with contextlib.suppress(ValueError):  # without a float64 copy what is dead stays unexplained
            found[dead] = finite_difference(
                subject.f, subject.points[dead], y=subject.targets(dead), loss=subject.loss, precision="float64"
            )
    return found


def _differences(
    subject: Subject, beside: Array, slope: Float64 | None, steps: Float64, count: int, rng: np.random.Generator
) -> tuple[Float64, Float64, Float64]:
    """Cosines beside x along signs of all elements, flatness at x where a few move, and the change at the first step.

    Every step has directions of its own.
    """
    scored, every, size = subject.scored, subject.every, subject.points[0].size
    cosine, flat = np.full((2, len(every), len(steps)), np.nan)
    told = np.zeros((len(every), size)) if slope is None else slope.reshape(len(every), -1)
    unit = np.finfo(scored.dtype).eps * np.maximum(np.abs(subject.clean.measure), 1)
    change = np.zeros(len(every))
    for k, h in enumerate(steps):
        many = count if h >= _STEPS[-1] * steps[0] else min(count, _FLAT)
        v = rng.choice([-1.0, 1.0], (many, *subject.shape))
        found = along(scored, beside, every, v, h)
        if k == 0:
            change = 2 * h * np.sqrt((found**2).mean(axis=1))
        # What a smooth loss would change by, held against its rounding.
        heard = h / steps[0] * change > _HEARD * unit
        predicted = told @ v.reshape(many, -1).T
        if slope is not None:
            cosine[heard, k] = cosines(found, predicted)[heard]
        few = _few(rng, min(count, _FLAT), subject.shape)
        share = np.sqrt((few != 0).reshape(len(few), -1).sum(axis=1).mean() / size)
        heard = share * h / steps[0] * change > _STIRRED * unit
        flat[heard, k] = (along(scored, beside, every, few, h) == 0).mean(axis=1)[heard]
    return cosine, flat, change


def _few(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> Float64:
    """Directions in which one in 64 elements moves, and at least one."""
    moves = rng.choice([-1.0, 1.0], (count, *shape)) * (rng.uniform(size=(count, *shape)) < 1 / _SPARSE)
    flat = moves.reshape(count, -1)
    flat[np.arange(count), rng.integers(0, flat.shape[1], count)] = 1.0
    return moves


def _hidden_by(subject: Subject) -> list[str]:
    try:
        return [layer.name for layer in hiding_layers(subject.f, subject.points)]
    except ValueError:
        return []


def _curves(
    subject: Subject, own: Float64 | None, true: Float64 | None, hidden: bool, epsilon: float, rng: np.random.Generator
) -> tuple[float | None, dict[str, Float64]]:
    """The step that differences are taken at, and the measure along every gradient's sign."""
    tile = coarse(subject.shape)
    try:
        spot: float | None = smallest_step(subject, epsilon, tile, "apart", rng)
    except ValueError:  # nothing moves
        spot = None
    ways: dict[str, Float64 | None] = {"autodiff": own}
    if subject.scored.margin_of_rows is not None:
        ways["autodiff of the margin"] = true
    if hidden:
        ways["straight-through"] = slope_of(subject, Way("straight-through"))(subject.points, subject.every)
    if spot is not None:
        way = Way("difference", h=spot, tile=tile, samples=1)
        ways["differences"] = slope_of(subject, way)(subject.points, subject.every)
    places = np.linspace(0, epsilon, _PLACES)
    curves = {name: _curve(subject, np.sign(one), places) for name, one in ways.items() if one is not None}
    signs = rng.choice([-1.0, 1.0], (_RANDOM, *subject.points.shape))
    curves[RANDOM] = np.mean([_curve(subject, one, places) for one in signs], axis=0)
    return spot, curves


def _curve(subject: Subject, signs: Float64, places: Float64) -> Float64:
    moved = [subject.inside((subject.points + far * signs).astype(subject.points.dtype)) for far in places]
    return np.stack([subject.scored.at(one, subject.every).measure for one in moved], axis=1)


def coarse(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Extents of tiles that leave some hundred of them."""
    spatial = shape if len(shape) < 3 else shape[:-1]
    for n in range(1, max(spatial) + 1):
        tile = tuple(min(n, extent) for extent in spatial)
        if make_tiling(shape, tile).tiles <= _TILES:
            break
    return tile
