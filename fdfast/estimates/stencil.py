"""From values of f around a point to a derivative with an error bar: arithmetic on arrays, one entry per tile."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from fdfast.moves import three_point

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

#: Standard deviations of rounding noise that an error bar allows for.
SIGMAS = 4.0
_LADDER = 16.0  # ratio of successive steps while one end of the useful range is unknown


@dataclass(frozen=True, eq=False)
class Stencil:
    """Derivatives from f at the point and at four displaced rows; every array has shape (tiles,).

    Attributes
    ----------
    value : ndarray of float64
        Derivative along the tile's indicator, extrapolated from both steps.
    error : ndarray of float64
        Bound on ``|value - derivative|``: rounding, truncation and any kink in reach.
    right, left : ndarray of float64
        One-sided slopes at the smaller step; NaN on a side that was not evaluated.
    bend : ndarray of float64
        What the slopes do beyond a parabola: truncation and kinks. Zero for a quadratic.
    noise : ndarray of float64
        Standard deviation of `value` from the rounding of f.
    jump : ndarray of bool
        The slope jumps at the point itself: right and left differ, and by as much at half the step.
    """

    value: Float64
    error: Float64
    right: Float64
    left: Float64
    bend: Float64
    noise: Float64
    jump: Bool

    @property
    def bent(self) -> Bool:
        """Where f is not finite, or bends more than noise alone does once in 3,000."""
        return ~(self.bend <= 4 * SIGMAS * self.noise)


def stencil(delta: Float64, moved: Float64, sigma: Float64) -> Stencil:
    """Evaluate both steps of every tile.

    Rows at (h, -h) and (h/2, -h/2), or on one side at (h, 2h) and (h/2, 3h/2). With D the three-point derivative
    and E = (right slope - left slope), at step h (index 1) and h/2 (index 2),

        value = D2 + (D2 - D1) / 3           Richardson: the h^2 term drops out
        J     = 2 E2 - E1                    zero for a parabola, the jump itself for a kink at the point
        bend  = |D2 - D1| + 3/4 |J|
        error = 4 sd(value) + bend

    For one kink of jump K at distance u h, u in [0, 1], these are |D2 - D1| = K u/2, J = K (1 - 3u) up to u = 1/2,
    and K (1-u)/2, -K (1-u) beyond; the error of `value` is K |3 - 7u| / 6 and K (1-u)/6. The bar covers it 1.5 times
    for every u, so that truncation of the other sign leaves it covered: a kink near the point widens the bar and
    never biases the value unseen.

    On one side the weight of D2 - D1 is 3/5, and with t1, t2 the third differences of f at 0, h/2, h, 3h/2, 2h, over
    h/2,

        bend  = 2 |t1| + |t2|

    A kink at v h/2, v in [0, 4], gives (|t1|, |t2|) = K (v, 0), K (|2v-3|, v-1), K (3-v, |2v-5|), K (0, 4-v) in the
    four intervals, and an error of `value` of K |1 - 1.68v|, K |1.4 - 0.72v|, K |0.2 - 0.12v|, K 0.15 (4-v): covered
    from v = 0.28 on. Nearer than that, nearly all of the rows lie beyond the kink, and `value` is the slope there.

    Parameters
    ----------
    delta : ndarray of float64, shape (tiles, 2, 2)
        f(row) - f(point); axis 1 is the step (larger, smaller), axis 2 the side (first, second offset of the scheme).
    moved : ndarray of float64, shape (tiles, 2, 2)
        Displacements really made.
    sigma : ndarray of float64, shape (tiles,)
        Standard deviation of the rounding noise of one value of f.

    References
    ----------
    .. [1] L. F. Richardson, Phil. Trans. R. Soc. A 210 (1911).
    """
    with np.errstate(all="ignore"):
        coarse, fine = (three_point(delta[:, s, 0], delta[:, s, 1], moved[:, s, 0], moved[:, s, 1]) for s in (0, 1))
        slopes = delta / moved
        central = moved[:, 0, 0] * moved[:, 0, 1] < 0
        h = np.abs(moved[:, 0]).min(axis=1)
        # Slopes of the two sides at (h, h/2).
        spread = slopes[:, :, 0] - slopes[:, :, 1]
        jump = 2 * spread[:, 1] - spread[:, 0]
        third = np.abs(third_differences(delta, moved)) / (h / 2)[:, None]
        bend = np.where(central, np.abs(fine - coarse) + 0.75 * np.abs(jump), 2 * third[:, 0] + third[:, 1])
        noise = sigma / h * np.where(central, 1.9, 6.0)
        # The error of a three-point slope is -ab/6 times the third derivative: 1/4 of the coarse one, on one side 3/8.
        product = moved.prod(axis=2)
        value = fine + (fine - coarse) * (product[:, 1] / (product[:, 0] - product[:, 1]))
        right = np.where(moved[:, 1, 0] > 0, slopes[:, 1, 0], np.nan)
        left = np.where(central, slopes[:, 1, 1], np.where(moved[:, 1, 0] < 0, slopes[:, 1, 0], np.nan))
        # The jump is at the point itself if halving the step leaves both slopes, and so their difference, as they were.
        clear = np.abs(jump) > 12 * SIGMAS * sigma / h
        shift = np.abs(slopes[:, 1] - slopes[:, 0]).max(axis=1)
        same = shift <= 0.1 * np.abs(jump) + 4 * SIGMAS * sigma / h
        error = SIGMAS * noise + bend
    error = np.where(np.isfinite(value) & np.isfinite(error), error, np.inf)
    return Stencil(value, error, right, left, bend, noise, central & clear & same & np.isfinite(error))


def third_differences(delta: Float64, moved: Float64) -> Float64:
    """Both third differences of f at the point and its four rows, in order along the line, shape (tiles, 2).

    Taken as divided differences, so that the rounding of x + h does not enter. Their difference, the fourth, has
    sqrt(70) times the standard deviation of one value of f.
    """
    count = len(delta)
    node = np.concatenate([np.zeros((count, 1)), moved.reshape(count, 4)], axis=1)
    value = np.concatenate([np.zeros((count, 1)), delta.reshape(count, 4)], axis=1)
    order = np.argsort(node, axis=1)
    node, value = np.take_along_axis(node, order, axis=1), np.take_along_axis(value, order, axis=1)
    # On one side to the left the point itself comes last; differences are counted from it.
    spacing = (node[:, -1:] - node[:, :1]) / 4
    with np.errstate(all="ignore"):
        for k in (1, 2, 3):
            value = np.diff(value, axis=1) / (node[:, k:] - node[:, :-k])
    thirds = value * 6 * spacing**3
    flipped: Float64 = np.where(order[:, -1:] == 0, thirds[:, ::-1], thirds)
    return flipped


class Search:
    """The best look at each tile so far, and the step to try next.

    Noise asks for a larger step, bending for a smaller one; between a step that is too small and one that is too
    large, their geometric mean is next. Steps are multiples of the first, within ``floor`` and ``ceiling``.
    """

    def __init__(self, first: Stencil) -> None:
        count = len(first.value)
        self.best = replace(first, **{f.name: getattr(first, f.name).copy() for f in fields(Stencil)})
        self.scale = np.ones(count)
        self._least = np.ones(count)
        self._noisy = np.where(first.bent, 0.0, 1.0)  # largest step at which only noise is left
        self._bent = np.where(first.bent, 1.0, np.inf)  # smallest step at which more than noise is left
        self._converging = np.zeros(count, bool)

    def undecided(self, target: Float64) -> Bool:
        """Tiles with a bar wider than `target` that are not known to sit on a kink, and along which f moves.

        Where it does not, a larger step would only find what lies beyond, such as the next kink.
        """
        still = (self.best.right == 0) & (self.best.left == 0) & (self.best.bend == 0)
        open_: Bool = ~(self.best.error <= target) & ~self.best.jump & ~still
        return open_

    def next(self, floor: Float64, ceiling: Float64) -> Float64:
        """Multiple of the first step to try next; NaN where nothing is left to try."""
        # Off the domain of f there is nothing to measure: get back faster.
        down = np.where(np.isfinite(self.best.error), _LADDER, _LADDER**2)
        with np.errstate(all="ignore"):
            middle = 2.0 ** np.round(np.log2(self._noisy * self._bent) / 2)
            scale = np.where(self._bent == np.inf, self._noisy * _LADDER, middle)
            scale = np.where(self._noisy == 0, self._bent / down, scale)
            scale = np.clip(scale, 2.0 ** np.ceil(np.log2(floor)), 2.0 ** np.floor(np.log2(ceiling)))
        return np.where((scale > self._noisy) & (scale < self._bent), scale, np.nan)

    def take(self, which: npt.NDArray[np.int64], scale: Float64, look: Stencil) -> None:
        """Keep a new look where its bar is narrower; a jump at the smallest step so far is kept anyway."""
        self._noisy[which] = np.where(look.bent, self._noisy[which], np.maximum(self._noisy[which], scale))
        self._bent[which] = np.where(look.bent, np.minimum(self._bent[which], scale), self._bent[which])
        with np.errstate(all="ignore"):
            ratio, growth = scale / self.scale[which], look.bend / self.best.bend[which]
        # Truncation of a smooth f grows at least with the step; a jump stays. Half the rate is asked for.
        self._converging[which] |= ((ratio <= 0.25) & (growth <= 2 * ratio)) | ((ratio >= 4) & (growth >= ratio / 2))
        better = (look.error < self.best.error[which]) | (look.jump & (scale < self._least[which]))
        self._least[which] = np.minimum(self._least[which], scale)
        at = which[better]
        for field in fields(Stencil):
            getattr(self.best, field.name)[at] = getattr(look, field.name)[better]
        self.scale[at] = scale[better]

    def smooth(self, target: Float64) -> Bool:
        """Where the bar is narrow enough, or what is left of it is noise or goes away with the step."""
        known = np.isfinite(self.best.error) & ~self.best.jump & (~self.best.bent | self._converging)
        smooth: Bool = known | (self.best.error <= target)
        return smooth
