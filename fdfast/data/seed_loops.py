"""The loops everyone starts from: the reference that fdfast is measured against.

Kept honest: written as one would, slow by design, but with nothing in them that makes them slower than they
need be, and nothing that makes them faster than what people really run. They divide by the nominal 2h, move
pixels out of [0, 1], and do not notice a step that vanishes; the rest of the package does all that better.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


def seed_loop(
    model: Any,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    h: float,
    tile: int = 1,
    loss: Any = None,
    progress: Callable[[int, int], object] | None = None,
) -> npt.NDArray[np.float64]:
    """(loss(x + h) - loss(x - h)) / 2h for one square of pixels after the other, two model calls each.

    Parameters
    ----------
    model : keras.Model or callable
        Called as ``model(row)`` with one row at a time, (1, height, width, ...).
    x : array_like, shape (height, width, ...) or (1, height, width, ...)
        One example. It is never written. Whether the leading axis is there follows from the model's input
        shape; for a callable without one, four axes mean that it is.
    y : array_like
        Target of the example, with a leading axis of 1 if and only if x has one; one-hot for a categorical
        cross-entropy.
    h : float
        Step, in the units of x.
    tile : int
        Side of a square in pixels. All channels of a square move together; squares at the far edges are cut
        off.
    loss : str or callable, optional
        ``loss(y, prediction)``, or a name Keras knows. Default: the loss the model was compiled with.
    progress : callable, optional
        ``progress(done, total)`` after every square.

    Returns
    -------
    ndarray of float64, shape of x
        Every pixel of a square holds its quotient, an estimate of the *sum* of the gradient over the square:
        what the loop in the question does, and ``fdfast.gradient(..., reduction="sum")``.

    Raises
    ------
    TypeError
        `tile` is not an integer.
    ValueError
        `h` is not a positive finite number, `tile` is below 1, x is not one example with height and width, y
        lacks the leading axis that x has, or there is no loss.

    Notes
    -----
    The image is perturbed in the dtype of the model's input: a float32 model gets float32 rows and gives
    float32 losses. Only their difference is taken in float64, which adds no rounding of its own. A Keras loss
    *object* made without ``dtype="float64"`` computes in float32 even under a float64 model; a loss given by
    name does not.
    """
    import keras

    h = _step(h)
    if isinstance(tile, bool) or not isinstance(tile, int | np.integer):
        raise TypeError(f"tile must be an int, got {tile!r}")
    if tile < 1:
        raise ValueError(f"tile={tile} must be at least 1")
    loss = keras.losses.get(getattr(model, "loss", None) if loss is None else loss)
    if loss is None:
        raise ValueError("loss=None needs a model compiled with a loss; give loss= or call model.compile(loss=...)")

    row, target, batched = _one_row(model, x, y)
    # Once, outside the loop: nobody would convert the target 1568 times.
    y_true = keras.ops.convert_to_tensor(target)
    gradient = np.zeros(row.shape)
    height, width = row.shape[1:3]
    total = math.ceil(height / tile) * math.ceil(width / tile)
    done = 0
    for i in range(0, height, tile):
        for j in range(0, width, tile):
            plus, minus = row.copy(), row.copy()
            plus[:, i : i + tile, j : j + tile] += h
            minus[:, i : i + tile, j : j + tile] -= h
            difference = _scalar(loss(y_true, model(plus))) - _scalar(loss(y_true, model(minus)))
            gradient[:, i : i + tile, j : j + tile] = difference / (2 * h)
            done += 1
            if progress is not None:
                progress(done, total)
    return gradient if batched else gradient[0]


def seed_gradient(f: Callable[..., Any], x: npt.ArrayLike, h: float, **kwargs: Any) -> npt.NDArray[np.float64]:
    """(f(x + h) - f(x - h)) / 2h for one element after the other: the answer's rewrite of the loop.

    Parameters
    ----------
    f : callable
        ``f(x, **kwargs)`` returns one number; arrays and tensors of one element will do.
    x : array_like
        The point. It is never written. Integers are taken as float64.
    h : float
        Step, in the units of x.
    **kwargs
        Passed to `f`.

    Returns
    -------
    ndarray of float64, shape of x

    Raises
    ------
    ValueError
        `h` is not a positive finite number, or `f` returns something else than one number.

    Examples
    --------
    >>> seed_gradient(lambda x, power: (x**power).sum(), [1.0, 2.0], 1e-3, power=2).round(9)
    array([2., 4.])
    """
    h = _step(h)
    x = np.asarray(x)
    if x.dtype.kind in "iub":
        x = x.astype(np.float64)
    gradient = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        plus, minus = x.copy(), x.copy()
        plus[index] += h
        minus[index] -= h
        gradient[index] = (_scalar(f(plus, **kwargs)) - _scalar(f(minus, **kwargs))) / (2 * h)
    return gradient


def _step(h: float) -> float:
    if not (math.isfinite(h) and h > 0):
        raise ValueError(f"h={h!r} must be a positive finite number; 1e-3 is usual in float32")
    return float(h)  # a NumPy float64 would make the sums in float64 and round twice


def _one_row(model: Any, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any], bool]:
    """Put a leading axis of 1 and the dtype of the model's input on x and y; say if x came with the axis."""
    x, y = np.asarray(x), np.asarray(y)
    inputs = getattr(model, "inputs", None)
    ndim, dtype = (len(inputs[0].shape), inputs[0].dtype) if inputs else (4, np.result_type(x, np.float32))
    batched = x.ndim == ndim
    if x.ndim not in (ndim - 1, ndim) or x.ndim - batched < 2 or (batched and len(x) != 1):
        raise ValueError(
            f"x must be one example (height, width, ...), with or without a leading axis of 1, got shape {x.shape}"
        )
    if batched and (y.ndim == 0 or len(y) != 1):
        raise ValueError(f"y must have a leading axis of 1 because x {x.shape} has one, got shape {y.shape}")
    row = x.astype(dtype)
    if y.dtype.kind == "f":  # class numbers stay integers
        y = y.astype(dtype)
    return (row, y, True) if batched else (row[None], y[None], False)


def _scalar(value: Any) -> float:
    number = np.asarray(value)
    if number.size != 1:
        raise ValueError(f"f or loss must return one number, got shape {number.shape}")
    return float(number.reshape(()))
