"""Second derivatives: the Hessian times a vector, and whole Hessians, by differences of the gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fdfast.directed import flat_of, places_of
from fdfast.functions import Flat, interruptible, reached_by, state_kept, trusted
from fdfast.moves import TileLike, Tiling, as_floats, make_tiling
from fdfast.problem import Request
from fdfast.tape import STEP, NoTape, Point, products
from fdfast.verdict import Place

Float64 = npt.NDArray[np.float64]
#: To both sides, and of two lengths: a gradient that jumps gives other quotients, whichever way it does.
_STEPS = (STEP, -0.75 * STEP)
_SAFETY = 8.0
#: What is so steep is a jump over the step: where the two quotients part, or beside the largest gradient.
_PARTED, _HUGE, _STEEP = 0.1, 2.0**40, 2.0**60
_ROWS, _BYTES = 64, 64 << 20  # rows that are pushed together, and what their largest values may take
_MOST = 8192  # rows of a Hessian


class HessianProduct(NamedTuple):
    """The Hessian times a vector.

    Attributes
    ----------
    value : ndarray of float64, or list of them
        In the shape of what was moved: x, or where that is several arrays a list with one for each. NaN where the
        gradient jumps along v, as that of a ReLU at zero does: there is no second derivative.
    error : ndarray of float64, or list of them
        Bound on the error of every element: eight times what the slopes of the gradient to both sides differ by, which
        is rounding but on a kink of the gradient; infinite where there is none.
    """

    value: Any
    error: Any


class Hessian(NamedTuple):
    """All second derivatives.

    Attributes
    ----------
    value : ndarray of float64, shape (n, n) or (examples, n, n)
        Row i is how the gradient moves along tile i, summed over each tile. Both triangles are computed, and left as
        they are. NaN in rows along which the gradient jumps.
    gap : float
        The largest difference of two elements that mirror each other: rounding, if the gradient is the gradient of
        anything. A larger one tells of a gradient that is wrong.
    error : float
        Bound on the rounding of every element that is a number.
    """

    value: Float64
    gap: float
    error: float


@interruptible()
def hvp(
    f: Any, x: Any, v: Any, *, wrt: str = "input", y: Any = None, loss: Any = None, **kwargs: Any
) -> HessianProduct:
    """Hessian of f times v: the limit of (grad f(x + h v) - grad f(x)) / h, by differences that do not cancel.

    The gradient is that of automatic differentiation, with every gradient written by hand in it; its own derivative is
    not asked of TensorFlow, so it need not have one.

    Parameters
    ----------
    f, x, y, loss, **kwargs
        As in `fdfast.directional`.
    v : array_like of float, or list, tuple or dict of them
        The vector: in the shape of x, or of what `wrt` names, one array for each.
    wrt : str
        What is differentiated by: ``"input"``, ``"weights"``, ``"all"``, or the name of an input or a variable.

    Returns
    -------
    HessianProduct
        value and error.

    Raises
    ------
    TypeError, ValueError
        v does not fit, or f cannot be recorded; the message says what of it.

    Examples
    --------
    >>> import numpy as np, fdfast, tensorflow as tf
    >>> fdfast.hvp(lambda x: tf.reduce_sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 0.5])).value
    array([6., 6.])
    """
    with state_kept(f), _said():
        flat = flat_of(Request(f, x, y, loss, kwargs=kwargs), wrt)
        places = places_of(flat, wrt)
        moved = {p.number: one[None] for p, one in zip(places, _vectors(v, places, flat), strict=True)}
        point = trusted(flat, reached_by(f)).point(flat.points())
        found = products(point, moved, _STEPS, [p.number for p in places]).value
    scale = _scale(point, places)
    each = [_limit(found[p.number][:, 0], scale) for p in places]
    values, errors = (
        [_as_given(one, p, flat) for one, p in zip(some, places, strict=True)] for some in zip(*each, strict=True)
    )
    return HessianProduct(values[0], errors[0]) if len(places) == 1 else HessianProduct(values, errors)


@interruptible()
def hessian(
    f: Any,
    x: Any,
    *,
    tile: TileLike = 1,
    wrt: str = "input",
    y: Any = None,
    loss: Any = None,
    **kwargs: Any,
) -> Hessian:
    """All second derivatives of f, a row at a time: how the gradient moves along each element, or each tile.

    Parameters
    ----------
    f, x, wrt, y, loss, **kwargs
        As in `hvp`; of several arrays the elements follow each other.
    tile : int or sequence of int
        Extent of a tile along the spatial axes of an x, as in `fdfast.gradient`: element (s, t) is the sum over tiles s
        and t of what there would be. Each channel is a tile of its own.

    Returns
    -------
    Hessian
        value, gap and error. For a batch of a model there is one matrix an example.

    Raises
    ------
    TypeError, ValueError
        There are too many elements, tiles do not fit, or f cannot be recorded.

    Examples
    --------
    >>> import numpy as np, fdfast, tensorflow as tf
    >>> fdfast.hessian(lambda x: x[0] ** 2 * x[1], np.array([1.0, 2.0])).value
    array([[4., 2.],
           [2., 0.]])
    """
    with state_kept(f), _said():
        flat = flat_of(Request(f, x, y, loss, kwargs=kwargs), wrt)
        places = places_of(flat, wrt)
        examples, shapes = _examples(flat, places)
        tilings = _tilings(shapes, tile, places)
        total = sum(one.tiles for one in tilings)
        if total > _MOST:
            raise ValueError(
                f"a Hessian of {total} x {total} elements is too large, {_MOST} rows is the most. Remedies: (a) a "
                "larger "
                "tile=, (b) wrt= the name of one input or variable, (c) fdfast.hvp, which takes one direction of any "
                "size"
            )
        point = trusted(flat, reached_by(f)).point(flat.points())
        many = max(len(_STEPS), min(_ROWS, _BYTES // point.widest))
        found, error = _all_rows(_Rows(point, places, tilings, examples, many), total)
    gap = np.abs(found - found.swapaxes(1, 2))
    batched = flat.model is not None and flat.arguments[0].batched and wrt == "input"
    largest = float(np.max(gap, initial=0.0, where=np.isfinite(gap)))
    return Hessian(found if batched else found[0], largest, error)


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """Say of a function that cannot be recorded what to do."""
    try:
        yield
    except NoTape as error:
        raise ValueError(
            f"no exact second derivatives: {error}. fdfast.gradient(..., engine='batch') at points near x, and their "
            "difference, keeps some digits"
        ) from None


def _vectors(v: Any, places: Sequence[Place], flat: Flat) -> list[Float64]:
    """v as one array for each place."""
    if isinstance(v, Mapping):
        v = [v[name] for name in sorted(v)]
    given = list(v) if isinstance(v, list | tuple) and (len(places) > 1 or len(v) == 1 == len(places)) else [v]
    if len(given) != len(places):
        raise ValueError(f"v has {len(given)} arrays; {', '.join(p.name for p in places)} need {len(places)}")
    found = []
    for one, place in zip(given, places, strict=True):
        array = as_floats(one, "v").astype(np.float64)
        wanted = _given_shape(place, flat)
        if array.shape != wanted:
            raise ValueError(f"v has shape {array.shape} for {place.name}; it must be {wanted}")
        found.append(array.reshape(place.shape))
    return found


def _given_shape(place: Place, flat: Flat) -> tuple[int, ...]:
    arguments = flat.arguments
    return tuple(arguments[place.number].given.shape) if place.number < len(arguments) else place.shape


def _as_given(array: Float64, place: Place, flat: Flat) -> Float64:
    return array.reshape(_given_shape(place, flat))


def _scale(point: Point, places: Sequence[Place]) -> float:
    """The largest gradient; 0 where all are, or where one is no number."""
    found = [float(np.abs(point.gradients[p.number]).max(initial=0.0)) for p in places if p.number in point.gradients]
    largest = max(found, default=0.0)
    return largest if np.isfinite(largest) else 0.0


def _limit(found: Float64, scale: float) -> tuple[Float64, Float64]:
    """Value and error of what differences at both steps say, shape (2, *shape); `scale` is that of the gradient."""
    right, left = found
    with np.errstate(all="ignore"):
        apart, size = np.abs(right - left), np.abs(found).max(axis=0)
        jumps = ~np.isfinite(size) | ((apart > _PARTED * size) & (size > _HUGE))
        jumps |= size > _STEEP * (scale or np.inf)
        value = np.where(jumps, np.nan, (right + left) / 2)
    least = float(np.spacing(np.max(size, initial=0.0, where=~jumps)))
    return value, np.where(jumps, np.inf, _SAFETY * np.maximum(apart, least))


def _examples(flat: Flat, places: Sequence[Place]) -> tuple[int, list[tuple[int, ...]]]:
    """How many examples, each with a Hessian of its own, and the shapes of what moves in one."""
    alone = flat.model is not None and len(places) == len(flat.moving) and all(p.number in flat.moving for p in places)
    if not alone:
        return 1, [p.shape for p in places]
    counts = {p.shape[0] for p in places}
    return (counts.pop(), [p.shape[1:] for p in places]) if len(counts) == 1 else (1, [p.shape for p in places])


def _tilings(shapes: Sequence[tuple[int, ...]], tile: TileLike, places: Sequence[Place]) -> list[Tiling]:
    if tile != 1 and len(places) > 1:
        raise ValueError(f"tile={tile!r} goes with one array; {', '.join(p.name for p in places)} are {len(places)}")
    return [make_tiling(shape or (1,), tile) for shape in shapes]


class _Rows(NamedTuple):
    """Rows of the Hessian of every example, so many pushed together."""

    point: Point
    places: Sequence[Place]
    tilings: Sequence[Tiling]
    examples: int
    together: int

    def pushed(self, some: Sequence[int], steps: Sequence[float]) -> tuple[Float64, bool]:
        """Quotients for every step, shape (steps, rows, examples, columns), and whether other steps may say another.

        Filled up with rows of zeros, so that one graph serves all.
        """
        filled, moved, first = self.together // len(steps), {}, 0
        for place, tiling in zip(self.places, self.tilings, strict=True):
            v = np.zeros((filled, self.examples, tiling.size))
            for row, tile in enumerate(some):
                if 0 <= tile - first < tiling.tiles:
                    part = slice(tiling.offsets[tile - first], tiling.offsets[tile - first + 1])
                    v[row, :, tiling.members[part]] = 1.0
            moved[place.number] = v.reshape(filled, *place.shape)
            first += tiling.tiles
        found = products(self.point, moved, steps, [p.number for p in self.places])
        columns = [
            tiling.sums(found.value[place.number].reshape(len(steps), filled, self.examples, *tiling.shape))
            for place, tiling in zip(self.places, self.tilings, strict=True)
        ]
        return np.concatenate(columns, axis=-1)[:, : len(some)], found.kinked or bool(found.subtracted)


def _all_rows(rows: _Rows, total: int) -> tuple[Float64, float]:
    """The Hessian of every example, and a bound on its rounding.

    Where no unit is on a kink the gradient does not jump, and one step is enough. Rounding then is measured by both on
    some rows, evenly spread.
    """
    value, scale = np.empty((rows.examples, total, total)), _scale(rows.point, rows.places)
    error = seen = 0.0

    def by_both(some: Sequence[int]) -> bool:
        nonlocal error, seen
        found, may_jump = rows.pushed(some, _STEPS)
        each, mine = _limit(found, scale)
        value[:, some] = each.swapaxes(0, 1)
        error = max(error, float(np.max(mine, initial=0.0, where=np.isfinite(mine))))
        seen = max(seen, float(np.max(np.abs(each), initial=0.0, where=np.isfinite(each))))
        return may_jump

    half = rows.together // len(_STEPS)
    spread = np.unique(np.linspace(0, total - 1, half).round().astype(int)).tolist()
    may_jump = by_both(spread)
    left = np.setdiff1d(np.arange(total), spread).tolist()
    size = half if may_jump else rows.together
    for some in (left[start : start + size] for start in range(0, len(left), size)):
        if may_jump:
            by_both(some)
            continue
        (found,), kinked = rows.pushed(some, _STEPS[:1])
        if kinked or not np.abs(found).max() < _STEEP * (scale or np.inf):
            for start in range(0, len(some), half):
                by_both(some[start : start + half])
            continue
        value[:, some] = found.swapaxes(0, 1)
    largest = float(np.max(np.abs(value), initial=0.0, where=np.isfinite(value)))
    return value, error * max(1.0, largest / seen) if seen > 0 else error
