"""How noisy f is: measured along short lines, and at no cost by the stencils themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.engines import Pairs
from fdfast.moves import Steps

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

LINES = 4  # lines per example
_ROWS = 8  # displaced rows on each of them
# Both sides of the point, and two lengths: of two lines along the same tile, a kink spoils one.
_SIDE = np.array([0, 1, 1, 0])
_LENGTH = np.array([1.0, 1.0, 0.5, 0.5])


def lines(tile: Int64, example: Int64, steps: Steps, further: Float64 | float = 1.0) -> Pairs:
    """Rows on even lines out from a point to the step or half of it, `LINES` per example; lengths times `further`.

    Each lies on one side of the point: a tie at the point itself does not bend the line. The spacing is that of real
    differences, so that noise shows which is coarser than the last place, as behind a saturated softmax.

    Parameters
    ----------
    tile : ndarray of int64, shape (examples, LINES)
    example : ndarray of int64, shape (examples,)
    steps : Steps
    further : float or ndarray of float64, shape (examples, LINES)
    """
    example = example[:, None]
    side = np.sign(steps.offsets()[example, tile, _SIDE])
    reach = further * _LENGTH * side * steps.h[example, tile]
    step = reach[..., None] * np.arange(1, _ROWS + 1) / _ROWS
    point = example + len(steps.h) * steps.moved[example, tile]
    return Pairs(np.repeat(point, _ROWS // 2), np.repeat(tile, _ROWS // 2), step.reshape(-1, 2))


def deviation(delta: Float64, place: Float64) -> Float64:
    """Second smallest deviation of the lines of each example, shape (examples,); NaN where f moves along none of them.

    Kinks and steps of f only add to a deviation. Lines along which f does not move tell nothing; a vectorised
    logarithm flickers by a few units in the last place `place`, shape (examples,), without moving.
    """
    line = delta.reshape(-1, LINES, _ROWS)
    values = np.pad(line, ((0, 0), (0, 0), (1, 0)))
    last = place[:, None, None]
    with np.errstate(all="ignore"):  # f may be infinite at a row
        sd = noise_of_line(values.reshape(-1, _ROWS + 1)).reshape(-1, LINES)
        unbent = noise_but_for_a_kink(values.reshape(-1, _ROWS + 1)).reshape(-1, LINES)
        # Clearly a kink, and not the one jump of a quantised f, after which it would stand still.
        goes_on = moves(np.diff(values, axis=2), last).sum(axis=2) >= 3
        sd = np.where(goes_on & (np.maximum(unbent, last[:, 0] / 4) < sd / 100), unbent, sd)
    sd = np.sort(np.where(np.isfinite(sd) & moves(line, last).any(axis=2), sd, np.nan), axis=1)
    second: Float64 = np.where(np.isnan(sd[:, 1]), sd[:, 0], sd[:, 1])
    return second


def noise_but_for_a_kink(values: Float64) -> Float64:
    """`noise_of_line` from the fourth differences that the most likely kink leaves alone, n >= 9.

    A kink between two points shows in the two second differences there, with the same sign.
    """
    second = np.diff(values, n=2, axis=1)
    at = np.argmax(np.abs(second[:, 1:] + second[:, :-1]), axis=1)[:, None]
    fourth = np.diff(second, n=2, axis=1)
    # Fourth difference k is made of second differences k, k + 1 and k + 2; those at `at` and `at + 1` are out.
    k = np.arange(fourth.shape[1])
    clean = (k > at + 1) | (k + 2 < at)
    sd: Float64 = np.sqrt(np.where(clean, fourth**2, 0.0).sum(axis=1) / clean.sum(axis=1) / 70.0)
    return sd


def last_place(base: Float64, dtype: Any) -> Float64:
    """Unit in the last place of f."""
    place: Float64 = np.spacing(np.abs(base).astype(dtype)).astype(np.float64)
    return place


def moves(delta: Float64, place: Float64) -> npt.NDArray[np.bool_]:
    """Where f changes by more than a flicker."""
    return np.abs(delta) > 4 * place


def any_tiles(examples: int, tiles: int, rng: np.random.Generator) -> Int64:
    """Draw tiles for the lines, different ones while there are enough, the same for every example."""
    return np.tile(rng.permutation(tiles)[np.arange(LINES) % tiles], (examples, 1))


def pool(along: Float64, fourth: Float64, base: Float64, dtype: Any) -> Float64:
    """Standard deviation of the noise of one value of f, shape (examples,).

    Parameters
    ----------
    along : ndarray of float64, shape (examples,)
        As measured along lines. These are few: they are right to a factor of 3.
    fourth : ndarray of float64, shape (examples, tiles)
        Fourth differences of the stencils, NaN where f does not move. These are many, but kinks and truncation add
        to them, so that the lower quartile is taken, and within that factor only.
    base : ndarray of float64, shape (examples,)
        f at the points.
    dtype : dtype
        What f computes in. No measurement can show less noise than half a unit in its last place.
    """
    sample = np.sort(np.abs(fourth) / np.sqrt(70.0), axis=1)
    known = np.isfinite(sample).sum(axis=1, keepdims=True)
    # |z| of a normal variable is below 0.319 a quarter of the time.
    quartile = np.take_along_axis(sample, np.maximum(known - 1, 0) // 4, axis=1)[:, 0] / 0.319
    # Where no stencil tells anything, caution takes the upper end.
    sd = np.clip(np.where(np.isnan(quartile), np.inf, quartile), along, 3 * along)
    # A loss that does not move at all is taken for a saturated one: its last place is that of the probability, 1.
    size = np.where(np.isnan(along), np.maximum(np.abs(base), 1.0), base)
    # A quarter of the last place of a subnormal number would be none at all.
    least = np.maximum(last_place(size, dtype) / 4, np.finfo(np.float64).smallest_subnormal)
    pooled: Float64 = np.fmax(sd, least)
    return pooled


def quietest(far: Float64, near: Float64, base: Float64, dtype: Any) -> Float64:
    """Noise of long and short lines together, shape (examples,): the smaller of the two.

    Where f stands still on the short line it moves in steps. Small ones are its rounding, perhaps of terms much larger
    than f itself, and remain; steps of more than 2^30 units in the last place of 1 are f's own, as of a rounded
    activation.
    """
    unit = last_place(np.maximum(np.abs(base), 1.0), dtype)
    own = np.isnan(near) & (far > 2.0**30 * unit)
    smaller: Float64 = np.fmin(far, np.where(own, unit, near))
    return smaller


def noise_of_line(values: Float64) -> Float64:
    """Standard deviation of the noise in values of a smooth function on a fine, even line.

    Differences of order k of the smooth part vanish with the spacing to the k-th power; those of independent noise
    of variance s^2 have mean square s^2 (2k)! / (k!)^2. Order 4 gives 1/70.

    Parameters
    ----------
    values : ndarray of float64, shape (lines, n), n >= 6

    Returns
    -------
    ndarray of float64, shape (lines,)

    References
    ----------
    .. [1] J. J. More and S. M. Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33 (2011).
    """
    fourth = np.diff(values, n=4, axis=1)
    sd: Float64 = np.sqrt((fourth**2).mean(axis=1) / 70.0)
    return sd
