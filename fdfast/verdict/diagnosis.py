"""What a mismatch looks like: patterns fitted to the wrong tiles, each with the mistakes that make it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.verdict.channels import of_channels
from fdfast.verdict.compare import AGREE, WRONG

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

#: A pattern fits if it explains this share of the tiles, each to this relative accuracy.
_SHARE, _CLOSE = 0.95, 1e-2
#: A place is named only if wrong tiles strewn at random would all lie there less often than this.
_CHANCE = 1e-3
#: What is said of a mismatch that looks like nothing in particular.
NO_PATTERN = "The mismatch follows none of the simple patterns"


def hints(
    numeric: Float64,
    analytic: Float64,
    codes: npt.NDArray[np.int8],
    grid: tuple[int, ...],
    channel_axis: int | None = None,
) -> list[str]:
    """Describe the pattern of a wrong gradient in sentences; empty if nothing is wrong.

    Parameters
    ----------
    numeric, analytic : ndarray of float64, shape (examples, tiles)
        Where each tile was decided.
    codes : ndarray of int8, shape (examples, tiles)
    grid : tuple of int
        Tiles along each axis of an example.
    channel_axis : int or None
        Axis that holds channels.
    """
    wrong = codes == WRONG
    if not wrong.any():
        return []
    axes = list(range(len(grid)))
    if channel_axis is not None:
        # Channels last, for all that follows.
        axes.append(axes.pop(channel_axis))

        def moved(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return values.reshape(-1, *grid).transpose(0, *(1 + axis for axis in axes)).reshape(len(values), -1)

        numeric, analytic, codes = moved(numeric), moved(analytic), moved(codes)
        grid, wrong = tuple(grid[axis] for axis in axes), codes == WRONG
    judged = wrong | (codes == AGREE)
    # One factor explains the values; an image moved by a tile, or values cut off, would only seem to.
    found = list(_symmetric(numeric, analytic, judged, wrong, grid)) or list(_whole(numeric, analytic, judged, wrong))
    found = found or list(of_channels(numeric, analytic, judged, grid))
    found = found or [*_moved(numeric, analytic, judged, grid), *_values(numeric, analytic, wrong, judged)]
    found += _where(wrong, judged, grid, axes)
    return found or [
        f"{NO_PATTERN} (constant factor, sign, flipped or shifted image, border, channel, rounding, clipping). "
        "Likely causes: (a) a hand-written gradient that misses a term, (b) an operation with a "
        "wrong "
        "registered gradient, (c) an analytic gradient taken at another x, y or set of weights."
    ]


def _symmetric(numeric: Float64, analytic: Float64, judged: Bool, wrong: Bool, grid: tuple[int, ...]) -> Iterator[str]:
    """A square matrix of which f reads one half, or takes for symmetric."""
    if len(grid) < 2 or grid[-1] != grid[-2] or grid[-1] < 2:
        return

    def turned(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.swapaxes(values.reshape(-1, *grid), -1, -2).reshape(values.shape)

    known = judged & turned(judged)
    if (wrong & ~known).any() or not known.any():
        return
    size = _CLOSE * np.abs(analytic[known]).max()
    both = np.abs(numeric + turned(numeric) - analytic - turned(analytic))[known] <= size
    even = [np.abs(one - turned(one))[known].max() <= 1e-6 * size for one in (analytic, numeric)]
    if both.all() and even[0] and not even[1]:
        yield (
            "The analytic gradient is that of f on symmetric matrices, the finite difference moves one element alone: "
            "their symmetric parts are the same. f reads one half of a symmetric argument (cholesky, eigh, logdet). "
            "This is no fault where x stays symmetric: check f((x + transpose(x)) / 2) as a function of x."
        )


def _whole(numeric: Float64, analytic: Float64, judged: Bool, wrong: Bool) -> Iterator[str]:
    """One factor between the two, over all tiles or over the wrong ones."""
    lost = wrong & ~np.isfinite(analytic)
    if lost.any():
        yield (
            f"The analytic gradient is NaN or infinite on {_many(int(lost.sum()))}, where f itself is finite. Likely "
            "causes: (a) the "
            "derivative of sqrt, log or a norm at zero, (b) 0 * inf behind a tf.where, (c) overflow of exp in the "
            "backward pass."
        )
        return
    if not analytic[wrong].any():
        everywhere = not analytic[judged].any()
        yield (
            "The analytic gradient is exactly zero "
            f"{'everywhere' if everywhere else f'on {_many(int(wrong.sum()))}'}, the finite "
            "difference is not. Likely causes: (a) stop_gradient or a branch left out of the backward pass, (b) a "
            "rounding, argmax or "
            "integer cast in between, (c) NumPy code inside f."
        )
        return
    if not numeric[wrong].any():
        everywhere = not numeric[judged].any()
        yield (
            "The finite difference is exactly zero "
            f"{'everywhere' if everywhere else f'on {_many(int(wrong.sum()))}'}, the analytic gradient is not: f is a "
            "staircase there (a rounding, a sign, quantized values), and the gradient goes straight through. If that "
            "is "
            "meant (a straight-through estimator, training of a quantized model), it is no gradient of f: check f with "
            "the rounding replaced by what the gradient takes it for."
        )
        return
    for which, where in ((judged, ""), (wrong, " on the wrong tiles")):
        factor = _factor(numeric[which], analytic[which])
        if factor is None or abs(factor - 1) < 1e-6:
            continue
        yield f"The analytic gradient is {_in_words(factor)} the finite difference{where}. {_causes(factor)}"
        return


def _factor(numeric: Float64, analytic: Float64) -> float | None:
    usable = np.abs(numeric) > 1e-6 * np.abs(numeric).max(initial=0.0)
    if usable.sum() < 2:
        return None
    ratio = analytic[usable] / numeric[usable]
    middle = float(np.median(ratio))
    # Tighter than the distance from 1, or a factor of 1.001 could not be told from none.
    close = np.abs(ratio - middle) <= min(_CLOSE, 0.1 * abs(middle - 1) / abs(middle) if middle else 0.0) * abs(middle)
    return middle if middle and close.mean() >= _SHARE else None


def _whole_number(size: float) -> int | None:
    """The whole number, 2 or more, that a factor or its inverse is but for rounding."""
    nearest = round(size)
    return nearest if nearest > 1 and abs(size - nearest) < min(1e-3 * size, 0.1) else None


def _in_words(factor: float) -> str:
    if abs(factor + 1) < 1e-3:
        return "minus"
    inverse = _whole_number(1 / abs(factor))
    if inverse is not None:
        return f"{'-' if factor < 0 else ''}1/{inverse} of"
    return f"{factor:.6g} times"


def _causes(factor: float) -> str:
    if factor < 0:
        return (
            "Likely causes: (a) a minus sign lost in the backward pass, (b) ascent in the place of descent, (c) target "
            "and prediction exchanged, (d) a gradient reversed on purpose, from one layer on: then this is no "
            "gradient of "
            "f."
        )
    size = _whole_number(max(factor, 1 / factor))
    if size is not None:
        return (
            f"Likely causes: (a) a mean taken for a sum or the reverse, over {size} things (rows, pixels, classes), "
            "(b) a term counted more than once or left out, (c) the factor 2 of a square's derivative forgotten or "
            "doubled."
        )
    return (
        "Likely causes: (a) a wrong constant in the backward pass, (b) a scaled loss (loss scaling, class weights) on "
        "one side only, "
        "(c) a gradient clipped by its norm, or a learning rate folded in."
    )


def _moved(numeric: Float64, analytic: Float64, judged: Bool, grid: tuple[int, ...]) -> Iterator[str]:
    """The analytic gradient is the difference, seen in a mirror or one tile further."""
    if len(grid) < 2:
        return
    n, a = (v.reshape(-1, *grid) for v in (numeric, analytic))
    known = judged.reshape(-1, *grid)
    straight = _share_close(a, n, known)
    # Tiles on a kink were decided elsewhere, if at all, so only some can fit.
    fits = {
        name: _share_close(a, move(n), known & move(known))
        for name, move in _MOVES.items()
        if name != "transposed" or grid[0] == grid[1]
    }
    best = max(fits, key=lambda name: fits[name])
    if fits[best] > 0.25 and fits[best] > 3 * straight:
        yield (
            f"The analytic gradient looks like the finite difference {best}. Likely causes: (a) rows and columns (or "
            "height and width) "
            "exchanged in the backward pass, (b) a kernel not flipped where the transposed convolution needs it, (c) "
            "padding on one side only."
        )


def _share_close(a: Float64, n: Float64, known: Bool) -> float:
    """Share of the known non-zero values of `a` that `n` has to 1 %; of a few, nothing is said."""
    some = known & (a != 0)
    return float((np.abs(a - n)[some] <= _CLOSE * np.abs(a[some])).mean()) if some.sum() >= 10 else 0.0


_MOVES: dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "transposed": lambda n: np.swapaxes(n, 1, 2),
    "flipped top to bottom": lambda n: n[:, ::-1],
    "flipped left to right": lambda n: n[:, :, ::-1],
    "turned by 180 degrees": lambda n: n[:, ::-1, ::-1],
    "shifted down by one": lambda n: _shift(n, 1, 1),
    "shifted up by one": lambda n: _shift(n, -1, 1),
    "shifted right by one": lambda n: _shift(n, 1, 2),
    "shifted left by one": lambda n: _shift(n, -1, 2),
}


def _shift(n: npt.NDArray[Any], by: int, axis: int) -> npt.NDArray[Any]:
    out = np.roll(n, by, axis=axis)
    edge: list[slice | int] = [slice(None)] * n.ndim
    edge[axis] = 0 if by > 0 else -1
    out[tuple(edge)] = 0
    return out


def _where(wrong: Bool, judged: Bool, grid: tuple[int, ...], axes: list[int]) -> Iterator[str]:
    """Where the wrong tiles are, if that is a place with a name; `axes` are those of x in the order of the grid."""
    cells, looked = (v.any(axis=0).reshape(grid) for v in (wrong, judged))
    count = int(cells.sum())
    if count == 1 and looked.sum() > 1:
        place = dict(zip(axes, np.argwhere(cells)[0].tolist(), strict=True))
        index = ", ".join(str(place[axis]) for axis in sorted(axes))
        yield (
            f"A single tile is wrong, at ({index}) of the grid. Likely causes: (a) an index off by one, (b) a special "
            "case for one element, (c) a hand-made change of the gradient."
        )
        return

    def telling(place: Bool) -> bool:
        return bool(float((looked & place).sum() / looked.sum()) ** count < _CHANCE)

    if len(grid) >= 3 and grid[-1] > 1:
        hit = cells.reshape(-1, grid[-1]).any(axis=0)
        if telling(np.broadcast_to(hit, grid)):
            channels = ", ".join(map(str, np.flatnonzero(hit)))
            noun, verb = ("channel", "is") if hit.sum() == 1 else ("channels", "are")
            yield (
                f"Only {noun} {channels} of {grid[-1]} {verb} wrong. Likely causes: (a) a channel-wise factor or "
                "normalisation left out of the backward pass, (b) channels in another order (RGB, BGR)."
            )
    if len(grid) >= 2 and min(grid[:2]) >= 5:
        to_edge = _to_edge(grid)
        deepest = int(to_edge[cells].max())
        if deepest < min(grid[:2]) // 4 and telling(to_edge <= deepest):
            reach = (
                "the outermost ring of tiles is" if deepest == 0 else f"tiles within {deepest + 1} of the border are"
            )
            yield (
                f"Only {reach} wrong. Likely causes: (a) padding treated differently in the backward pass, at the "
                "border, "
                "(b) a border cropped or left out, (c) 'same' taken for 'valid'."
            )


def _to_edge(grid: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Tiles between each tile and the nearest border of the image, shape `grid`."""
    row, column = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in grid[:2])
    flat = np.minimum(row[:, None], column[None, :])
    out: npt.NDArray[np.int64] = np.broadcast_to(flat.reshape(*flat.shape, *(1,) * (len(grid) - 2)), grid)
    return out


def _values(numeric: Float64, analytic: Float64, wrong: Bool, judged: Bool) -> Iterator[str]:
    """Values that betray rounding or clipping."""
    n, a = numeric[wrong], analytic[wrong]
    if np.count_nonzero(a) >= 5:
        for name, bits, rounded in (("bfloat16", 8, _bfloat16), ("float16", 11, _float16)):
            # Round numbers occur by themselves: what was rounded also lies within one unit of where it came from.
            near = np.abs(a - n) <= 2.0 ** (1 - bits) * np.abs(n) + (2.0**-24 if name == "float16" else 0.0)
            if near.all() and (rounded(a) == a).all():
                yield (
                    f"Every wrong value is a {name} number next to the finite difference: the analytic gradient was "
                    f"rounded to {bits} bits. "
                    "Likely causes: (a) mixed precision in the backward pass, (b) a cast on the way out."
                )
                return
    largest = np.abs(analytic[judged]).max(initial=0.0)
    at_limit = (np.abs(np.abs(a) - largest) <= 1e-9 * largest) & (np.abs(n) > np.abs(a)) & (n * a > 0)
    if largest and at_limit.sum() >= 3 and at_limit.mean() > _SHARE:
        yield (
            f"All wrong values are {largest:.6g} in magnitude, the largest there is, where the finite difference goes "
            "further: the analytic "
            "gradient was clipped. Likely causes: (a) clip_by_value on the gradient, (b) a saturating custom gradient."
        )


def _bfloat16(values: Float64) -> Float64:
    # The upper half of a float32.
    return (values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def _float16(values: Float64) -> Float64:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float64)


def _many(tiles: int) -> str:
    return "1 tile" if tiles == 1 else f"{tiles} tiles"
