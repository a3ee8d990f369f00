"""Adversarial examples by the sign of a gradient, either from finite differences or from autodiff."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from fdfast.check import gradient as finite_difference
from fdfast.functions import interruptible
from fdfast.moves import Bounds, Channels, Precision, TileLike, as_floats, check_choice
from fdfast.problem import Request, problem_of

if TYPE_CHECKING:
    from fdfast.engines import Progress

GradientKind = Literal["finite-difference", "autodiff"]


@interruptible()
def fgsm(
    model: Any,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    epsilon: float,
    *,
    loss: Any = None,
    gradient: GradientKind = "finite-difference",
    tile: TileLike = 1,
    channels: Channels = "apart",
    bounds: Bounds | None = (0, 1),
    precision: Precision = "auto",
    max_rows: int | None = None,
    progress: Progress | None = None,
) -> npt.NDArray[Any]:
    """Fast gradient sign method: x + epsilon sign(d loss / d x), clipped to the bounds.

    Parameters
    ----------
    model : keras.Model
        One input, one output. Evaluated in inference mode.
    x : array_like of float, shape (*shape) or (examples, *shape)
        One example or a batch. Never written.
    y : array_like
        True target of each example, as the loss takes it: the step leads away from it.
    epsilon : float
        How far every pixel moves, in the units of x.
    loss : str, keras.losses.Loss, callable or None
        None takes the loss that the model was compiled with.
    gradient : {"finite-difference", "autodiff"}
        Where the signs come from. Finite differences need only the model's outputs.
    tile : int or sequence of int
        All pixels of a tile move the same way, by the derivative along the whole tile: fewer evaluations,
        a coarser attack. The same for both gradients.
    channels : {"apart", "together"}
        Whether each channel of a tile moves by a sign of its own, or all of them by one.
    bounds : (float, float) or None
        Range of valid pixels, which x must lie in and the result does not leave; None does not clip.
    precision : {"auto", "float32", "float64"}
        Of the gradient. ``"auto"`` takes float64 if the model has a float64 copy.
    max_rows : int, optional
        Rows per forward pass of the finite differences; by default what is fastest within a budget of 512 MB.
    progress : callable, optional
        Called as ``progress(rows done, rows expected)`` by the finite differences.

    Returns
    -------
    ndarray, shape and dtype of x
        Pixels with a gradient of exactly zero stay where they are.

    Raises
    ------
    TypeError
        `model` is no Keras model, or an argument is of the wrong kind.
    ValueError
        `epsilon` is negative or not finite, the bounds are not increasing, x lies outside of them, the
        gradient is NaN somewhere, or x, y, tile or loss do not fit the model.

    Notes
    -----
    Where x sits on a kink (equal cells in a max pool, as in a flat background) the two gradients may point
    different ways: autodiff follows one branch, the difference the mean of both sides. The float32 gradient
    of a well classified example is often zero or noise, because its softmax is saturated; in float64 it is
    not.

    References
    ----------
    .. [1] I. J. Goodfellow, J. Shlens, C. Szegedy, "Explaining and harnessing adversarial examples", ICLR
       2015, section 4.

    Examples
    --------
    >>> import keras, numpy as np
    >>> from fdfast.attack import fgsm
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> model.set_weights([np.array([[1.0], [-1.0]])])  # model(x) = x[0] - x[1]
    >>> fgsm(model, np.array([0.6, 0.5]), [0.0], 0.1, loss="mean_squared_error").round(6)
    array([0.7, 0.4])
    """
    check_choice("gradient", gradient, get_args(GradientKind))
    reach = check_epsilon(epsilon)
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(model, keras.Model):
        raise TypeError(
            f"model must be a Keras model, got {type(model).__name__}; for a callable f take "
            "x + epsilon * numpy.sign(fdfast.gradient(f, x))"
        )
    if y is None:
        raise TypeError("y is missing: the loss needs the true target of each example, which the step leads away from")
    points = as_floats(x)
    if bounds is not None:
        bounds = _check_bounds(bounds, points)
    if gradient == "autodiff":
        slope = _autodiff(Request(model, points, y, loss, tile, channels, engine="batch", precision=precision))
    else:
        slope = finite_difference(
            model,
            points,
            y=y,
            loss=loss,
            tile=tile,
            channels=channels,
            precision=precision,
            max_rows=max_rows,
            progress=progress,
        )
    if np.isnan(slope).any():
        index = ", ".join(str(int(i)) for i in np.argwhere(np.isnan(slope))[0])
        raise ValueError(f"the gradient is NaN at x[{index}], so it has no sign there; does the model return NaN at x?")
    moved = points + reach * np.sign(slope)
    if bounds is not None:
        moved = np.clip(moved, *bounds)
    return moved.astype(getattr(x, "dtype", points.dtype))


def _autodiff(request: Request) -> npt.NDArray[np.float64]:
    problem = problem_of(request)
    found = problem.objective.gradient(problem.points)
    return problem.examples(problem.tiling.expand(problem.tiling.sums(found), "mean"))


def check_epsilon(epsilon: Any) -> float:
    """Return a valid epsilon as a float; raise TypeError or ValueError for any other."""
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float | np.integer | np.floating):
        raise TypeError(f"epsilon must be a number, got {type(epsilon).__name__}")
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be finite and at least 0, got {epsilon}; 0.1 is usual for images in [0, 1]")
    return float(epsilon)


def _check_bounds(bounds: Any, x: npt.NDArray[Any]) -> Bounds:
    try:
        low, high = (float(b) for b in bounds)
    except (TypeError, ValueError):
        raise TypeError(f"bounds must be a pair of numbers (low, high) or None, got {bounds!r}") from None
    if not low < high:
        raise ValueError(f"bounds must satisfy low < high, got ({low:g}, {high:g})")
    # In the dtype of x: 0.1 in float32 lies a little above the bound 0.1 in float64.
    outside = np.argwhere((x < x.dtype.type(low)) | (x > x.dtype.type(high)))
    if outside.size:
        index = tuple(int(i) for i in outside[0])
        raise ValueError(
            f"x[{', '.join(map(str, index))}]={x[index]:.6g} lies outside the bounds ({low:g}, {high:g}): "
            "give the range of valid pixels, bounds=(0, 255) for unscaled images, or bounds=None"
        )
    return low, high
