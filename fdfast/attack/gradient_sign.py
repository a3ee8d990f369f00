"""Adversarial examples by the sign of a gradient, either from finite differences or from autodiff."""

from __future__ import annotations

import sys
import time
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fdfast.attack.ascent import draws_of, judged
from fdfast.attack.inputs import check_bounds, check_epsilon
from fdfast.attack.projected import way_of
from fdfast.attack.slopes import KINDS, GradientKind, slope_of
from fdfast.attack.subject import subject_of
from fdfast.check import gradient as finite_difference
from fdfast.functions import MARGIN, interruptible
from fdfast.moves import Bounds, Channels, Precision, TileLike, as_floats, check_choice, make_tiling
from fdfast.problem import Request, problem_of
from fdfast.progress import Progress, with_bar


@with_bar("attacking")
@interruptible()
def fgsm(
    model: Any,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    epsilon: float,
    *,
    loss: Any = None,
    gradient: GradientKind = "finite-difference",
    targeted: bool = False,
    h: float | Literal["auto", "search"] = "auto",
    samples: int = 1,
    spread: float = 0.0,
    queries: int | None = None,
    tile: TileLike = 1,
    channels: Channels = "apart",
    bounds: Bounds | None = (0, 1),
    precision: Precision = "auto",
    max_rows: int | None = None,
    seed: int = 0,
    progress: Progress = None,
    full: bool = False,
) -> Any:
    """Fast gradient sign method: x + epsilon sign(d loss / d x), clipped to the bounds.

    Parameters
    ----------
    model : keras.Model or callable
        One input, one output. Evaluated in inference mode. Or a callable of rows, as in `fdfast.attack.pgd`.
    x : array_like of float, shape (*shape) or (examples, *shape)
        One example or a batch. Never written.
    y : array_like
        True target of each example, as the loss takes it: the step leads away from it; with `targeted` towards it.
    epsilon : float
        How far every pixel moves, in the units of x.
    loss : str, keras.losses.Loss, callable or None
        None takes the loss that the model was compiled with.
    gradient : str
        Where the signs come from: ``"finite-difference"`` (or ``"difference"``), which needs only the model's outputs;
        ``"autodiff"``; or another of those of `fdfast.attack.pgd`.
    targeted, h, samples, spread, queries, seed
        As in `fdfast.attack.pgd`.
    tile : int or sequence of int
        All pixels of a tile move the same way, by the derivative along the whole tile: fewer evaluations,
        a coarser attack. The same for both gradients.
    channels : {"apart", "together"}
        Whether each channel of a tile moves by a sign of its own, or all of them by one.
    bounds : (float, float) or None
        Range of valid pixels, which x must lie in and the result does not leave; None does not clip.
    precision : {"auto", "float32", "float64"}
        Of the gradient of a model, by exact differences or autodiff. ``"auto"`` takes float64 if the model has a
        float64 copy.
    max_rows : int, optional
        Rows per forward pass of the finite differences; by default what is fastest within a budget of 512 MB.
    progress : callable or bool
        Called as ``progress(rows done, rows expected)`` by the finite differences; True shows a bar.

    full : bool
        Return an `Attacked`, with what the model says before and after, instead of the examples alone.

    Returns
    -------
    ndarray, shape and dtype of x, or Attacked
        Pixels with a gradient of exactly zero stay where they are.

    Raises
    ------
    TypeError
        `model` is not callable, or an argument is of the wrong kind.
    ValueError
        `epsilon` is not above 0 and finite, the bounds are not increasing, x lies outside of them, the
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
    started = time.perf_counter()
    check_choice("gradient", gradient, KINDS)
    reach = check_epsilon(epsilon)
    if not callable(model):
        raise TypeError(f"model must be a Keras model or a callable of rows, got {type(model).__name__}")
    if y is None:
        raise TypeError("y is missing: the loss needs the true target of each example, which the step leads away from")
    points = as_floats(x)
    valid = check_bounds(bounds, points)
    keras = sys.modules.get("keras")
    is_model = keras is not None and isinstance(model, keras.Model)
    plain = is_model and h == "auto" and samples == 1 and not spread and not (isinstance(loss, str) and loss == MARGIN)
    if plain and gradient == "autodiff":
        slope = _autodiff(Request(model, points, y, loss, tile, channels, engine="batch", precision=precision))
    elif plain and gradient in ("difference", "finite-difference"):
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
    else:
        with subject_of(model, x, y, loss, bounds, max_rows) as subject:
            way = way_of(subject, gradient, h, samples, spread, queries, tile, channels, seed, reach)
            slope = slope_of(subject, way)(subject.points, subject.every).reshape(points.shape)
    if np.isnan(slope).any():
        index = ", ".join(str(int(i)) for i in np.argwhere(np.isnan(slope))[0])
        raise ValueError(f"the gradient is NaN at x[{index}], so it has no sign there; does the model return NaN at x?")
    sign = np.sign(-slope if targeted else slope).astype(points.dtype)
    # In the arithmetic of x, as one would write it.
    moved: npt.NDArray[Any] = points + points.dtype.type(reach) * sign
    if valid is not None:
        moved = np.clip(moved, *map(points.dtype.type, valid))
    moved = moved.astype(getattr(x, "dtype", points.dtype))
    if not full:
        return moved
    settings = {
        "attack": "FGSM", "gradient": gradient, "epsilon": reach, "targeted": targeted, "h": h, "samples": samples,
    }  # fmt: skip
    with subject_of(model, x, y, loss, bounds, max_rows) as subject:
        by_rows = gradient in ("difference", "finite-difference")
        rows = 2 * make_tiling(subject.shape, tile, channels).tiles if by_rows else queries or 1
        subject.scored.queries += samples * rows * len(subject.points)
        history = np.stack(
            [subject.clean.loss, subject.scored.at(moved.reshape(subject.points.shape), subject.every).loss]
        )
        return judged(subject, moved, settings, draws=draws_of(subject, samples), history=history, started=started)


def _autodiff(request: Request) -> npt.NDArray[np.float64]:
    problem = problem_of(request)
    found = problem.objective.gradient(problem.points)
    return problem.examples(problem.tiling.expand(problem.tiling.sums(found), "mean"))
