"""The loop of the question and the function of its answer (`fdfast.data.seed_loops`), by their names and at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.check import gradient as _gradient

Float64 = npt.NDArray[np.float64]


def gradient(f: Callable[..., Any], x: npt.ArrayLike, h: float, **kwargs: Any) -> Float64:
    """(f(x + h e_i) - f(x - h e_i)) / 2h for every element i: the answer's function.

    Parameters
    ----------
    f : callable
        ``f(x, **kwargs)`` returns one number, or a tensor of one element.
    x : array_like
        The point, never written; integers are taken as float64.
    h : float
        Step, in the units of x.
    **kwargs
        All of them go to f, whatever they are called.

    Returns
    -------
    ndarray of float64, shape of x

    Raises
    ------
    TypeError, ValueError
        As `fdfast.gradient`.

    Notes
    -----
    `fdfast.gradient` takes the same call, and options of its own by keyword: it is the one to write in new code.

    Examples
    --------
    >>> gradient(lambda x, power: (x**power).sum(), [1.0, 2.0], 1e-3, power=2).round(9)
    array([2., 4.])
    """
    array = np.asarray(x)
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    return _gradient(functools.partial(f, **kwargs) if kwargs else f, array, h)


def seed_loop(
    model: Any,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    h: float,
    tile: int = 1,
    loss: Any = None,
    progress: Callable[[int, int], object] | None = None,
) -> Float64:
    """(loss(x + h) - loss(x - h)) / 2h for every square of pixels: the question's loop, all squares at once.

    Parameters
    ----------
    model : keras.Model
        The model.
    x : array_like, shape (height, width, ...) or (1, height, width, ...)
        One example, never written.
    y : array_like
        Target of the example, with a leading axis of 1 if and only if x has one.
    h : float
        Step, in the units of x.
    tile : int
        Side of a square in pixels; all channels move together.
    loss : str or callable, optional
        As the loss of `fdfast.gradient`. Default: the loss that the model was compiled with.
    progress : callable, optional
        ``progress(done, total)``, in squares.

    Returns
    -------
    ndarray of float64, shape of x
        Every pixel of a square holds the derivative along the square, the *sum* of the gradient over it.

    Raises
    ------
    TypeError, ValueError
        As `fdfast.gradient`.

    Notes
    -----
    The loop computes a float32 model in float32, where a step of 1e-4 leaves nothing but rounding; this computes a
    float64 copy where one can be made, so that the same step gives seven digits.
    """

    def in_squares(rows: int, expected: int) -> None:
        if progress is not None:
            progress(rows // 2, expected // 2)

    return _gradient(model, x, h, y=y, loss=loss, tile=tile, channels="together", reduction="sum", progress=in_squares)


seed_gradient = gradient
