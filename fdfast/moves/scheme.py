"""Difference schemes as data, and the steps they are used with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fdfast.moves.asked import Bounds, as_bounds, as_number, shown
from fdfast.moves.tiling import Tiling

StepLike = float | Literal["auto"]
Floats = npt.NDArray[Any]


@dataclass(frozen=True)
class Scheme:
    """Where f is evaluated besides at x, in units of the step, and the order of the error in the step."""

    name: str
    offsets: tuple[float, float]
    order: int


CENTRAL = Scheme("central", (1.0, -1.0), 2)
FORWARD = Scheme("forward", (1.0, 2.0), 2)
BACKWARD = Scheme("backward", (-1.0, -2.0), 2)
SCHEMES = (CENTRAL, FORWARD, BACKWARD)
_OFFSETS = np.array([s.offsets for s in SCHEMES])


@dataclass(frozen=True, eq=False)
class Steps:
    """The step and scheme of every tile of every example.

    Attributes
    ----------
    h : ndarray of float64, shape (examples, tiles)
        Step, in the units of x.
    scheme : ndarray of int8, shape (examples, tiles)
        Index into `SCHEMES`.
    centre : ndarray of float, shape (examples, size) or None
        Points moved inside the bounds by one step; None where no tile needs them.
    moved : ndarray of bool, shape (examples, tiles)
        Tiles that touch both bounds at once, so that no one-sided step fits either: they are differenced
        about `centre` instead of x.
    bounds : (float, float) or None
        Interval that no row may leave.
    """

    h: npt.NDArray[np.float64]
    scheme: npt.NDArray[np.int8]
    centre: Floats | None
    moved: npt.NDArray[np.bool_]
    bounds: Bounds | None = None

    def offsets(self, scale: float = 1.0) -> npt.NDArray[np.float64]:
        """Displacements of the two rows of every tile, shape (examples, tiles, 2), with steps ``scale * h``."""
        out: npt.NDArray[np.float64] = _OFFSETS[self.scheme] * (scale * self.h)[..., None]
        return out

    @property
    def typical(self) -> float:
        """Median step over all tiles."""
        return float(np.median(self.h))


def auto_step(dtype: npt.DTypeLike) -> float:
    """Step for values of order one: the power of two nearest to the cube root of the rounding unit.

    A central difference loses eps / h to rounding and h^2 to truncation; their sum is least near h = eps^(1/3).
    Powers of two make x + h and x - h round alike. Gives 2^-17 in float64 and 2^-8 in float32.

    References
    ----------
    .. [1] W. H. Press et al., Numerical Recipes, 3rd ed., section 5.7.
    """
    return float(2.0 ** round(math.log2(np.finfo(dtype).eps) / 3))


def check_step(h: object) -> None:
    """Raise unless `h` is ``"auto"`` or a positive finite number."""
    if isinstance(h, str):
        if h != "auto":
            raise ValueError(f"h must be 'auto' or a positive number, got {h!r}")
        return
    if isinstance(h, bool) or not isinstance(h, int | float | np.integer | np.floating):
        raise TypeError(f"h must be 'auto' or a positive number, got {type(h).__name__}")
    if not 0 < (as_number(h) or 0) < math.inf:
        raise ValueError(f"h must be positive and finite, got h={shown(h)}; leave h='auto' to have it chosen")


def plan_steps(
    points: Floats, tiling: Tiling, h: StepLike = "auto", bounds: Bounds | None = None, unit: float | None = None
) -> Steps:
    """Choose the step and scheme of every tile.

    Parameters
    ----------
    points : ndarray of float, shape (examples, size)
        The points, in the dtype that f computes in: the step must not vanish there.
    tiling : Tiling
    h : float or "auto"
        Step, in the units of x. ``"auto"`` is `auto_step` times the tile's scale: its largest magnitude, but
        no less than min(1, largest magnitude in the example), rounded to a power of two.
    bounds : (float, float), optional
        Interval that no perturbed element may leave. Tiles without room for a central difference get a
        one-sided three-point scheme; tiles that touch both bounds are differenced about a moved centre.
    unit : float, optional
        Step for values of order one, a power of two, in the place of `auto_step`.

    Returns
    -------
    Steps

    Raises
    ------
    ValueError
        h is not positive, x lies outside the bounds, or the bounds leave no room.
    """
    check_step(h)
    steps: npt.NDArray[np.float64]
    largest = _per_tile(np.maximum, np.abs(points), tiling)
    if isinstance(h, str):
        peak = largest.max(axis=1, keepdims=True)
        scale = np.maximum(largest, np.where(peak > 0, np.minimum(1.0, peak), 1.0))
        steps = np.asarray((unit or auto_step(points.dtype)) * 2.0 ** np.round(np.log2(scale)), np.float64)
    else:
        steps = np.full(largest.shape, float(h))
    scheme = np.zeros(steps.shape, np.int8)
    moved = np.zeros(steps.shape, bool)
    if bounds is None:
        return Steps(steps, scheme, None, moved)
    low, high = _check_bounds(bounds, points, tiling)
    up = high - _per_tile(np.maximum, points, tiling)
    down = _per_tile(np.minimum, points, tiling) - low
    central = (up >= steps) & (down >= steps)
    forward = ~central & (up >= 2 * steps)
    backward = ~central & ~forward & (down >= 2 * steps)
    scheme[forward] = SCHEMES.index(FORWARD)
    scheme[backward] = SCHEMES.index(BACKWARD)
    moved = ~(central | forward | backward)
    if not moved.any():
        return Steps(steps, scheme, None, moved, (low, high))
    reach = steps[moved].max()
    if not high - low > 2 * reach:
        raise ValueError(f"bounds {bounds} leave no room for a step of {reach:.3g}: give a smaller h or wider bounds")
    # A hair further than one step, so that rounding cannot carry a row past a bound.
    inside = reach * (1 + 4 * np.finfo(points.dtype).eps)
    centre = np.clip(points, low + inside, high - inside).astype(points.dtype)
    return Steps(steps, scheme, centre, moved, (low, high))


def three_point(
    da: npt.NDArray[np.float64],
    db: npt.NDArray[np.float64],
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Slope at 0 of the parabola through (0, 0), (a, da) and (b, db), elementwise.

    With b = -a this is the central difference (da - db) / 2a; with b = 2a the one-sided three-point formula.
    The displacements a, b are those really moved, so rounding of x + h does not enter.
    """
    slope: npt.NDArray[np.float64] = (da * (b / a) - db * (a / b)) / (b - a)
    return slope


def vanishing_step_error(x: Floats, flat: int, shape: tuple[int, ...], h: float, auto: float) -> ValueError:
    """Build the error for a step that x + h rounds away."""
    index = ", ".join(str(int(i)) for i in np.unravel_index(flat, shape))
    value = x.reshape(-1)[flat]
    smallest = float(np.spacing(np.abs(value)))
    return ValueError(
        f"h={h:.3g} vanishes in {x.dtype} at x[{index}]={value:.6g}: x + h == x. Smallest step that moves it: "
        f"{smallest:.3g}; for a useful gradient leave h='auto' ({auto:.2g} here)"
    )


def _per_tile(ufunc: np.ufunc, values: Floats, tiling: Tiling) -> npt.NDArray[np.float64]:
    by_tile = values.astype(np.float64)[:, tiling.members]
    return by_tile if tiling.tiles == tiling.size else ufunc.reduceat(by_tile, tiling.offsets[:-1], axis=1)


def _check_bounds(bounds: Bounds, points: Floats, tiling: Tiling) -> Bounds:
    low, high = map(float, as_bounds(bounds) or (-np.inf, np.inf))
    outside = np.flatnonzero((points < low) | (points > high))
    if outside.size:
        index = ", ".join(str(int(i)) for i in np.unravel_index(outside[0] % tiling.size, tiling.shape))
        raise ValueError(f"x[{index}]={points.reshape(-1)[outside[0]]:.6g} lies outside the bounds {bounds}")
    return low, high
