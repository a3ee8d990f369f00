"""Projected gradient descent as an attack: the caller's side of it."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from fdfast.attack.ascent import Climb, Norm, climb
from fdfast.attack.inputs import check_count, check_epsilon, check_size
from fdfast.attack.result import Attacked
from fdfast.attack.slopes import GradientKind, Way
from fdfast.attack.step_search import smallest_step
from fdfast.attack.subject import Subject, subject_of
from fdfast.functions import interruptible
from fdfast.moves import Bounds, Channels, TileLike, check_choice
from fdfast.progress import Progress, with_bar

#: Of a step times the number of steps, in radii of the ball: far enough to cross it and come back.
REACH = 2.5


@with_bar("attacking")
@interruptible()
def pgd(
    model: Any,
    x: npt.ArrayLike,
    y: Any,
    epsilon: float,
    *,
    steps: int = 40,
    step_size: float | None = None,
    norm: Norm = "inf",
    gradient: GradientKind = "difference",
    loss: Any = None,
    targeted: bool = False,
    restarts: int = 1,
    random_start: bool = True,
    momentum: float = 0.0,
    h: float | Literal["auto", "search"] = "auto",
    samples: int = 1,
    spread: float = 0.0,
    queries: int | None = None,
    tile: TileLike = 1,
    channels: Channels = "apart",
    bounds: Bounds | None = (0, 1),
    max_rows: int | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> Attacked:
    """Projected gradient descent: steps along the gradient of the loss, kept within `epsilon` of x.

    Parameters
    ----------
    model : keras.Model or callable
        A model with one input and one output, in inference mode; or a callable of rows that returns scores, shape
        (rows, classes), or losses, shape (rows,).
    x : array_like of float
        One example of a model, or a batch, shape (examples, *shape). Never written.
    y : array_like
        True target of each example, as the loss takes it, or with `targeted` the target that it is to be led to.
    epsilon : float
        Radius of the ball, in the units of x.
    steps : int
    step_size : float, optional
        Of each step; by default 2.5 epsilon / steps.
    norm : {"inf", "l2"}
        Of the ball and of the step: the sign of the gradient, or the gradient at length 1.
    gradient : str
        ``"difference"``: exact differences of a model's loss; with `h`, and of callables, random models and those with
        Python code inside, central differences of f as it is; ``"autodiff"``: f's own, in its own precision;
        ``"straight-through"``: autodiff past the layers of a Sequential model that hide it; ``"coordinate"``,
        ``"tile"``, ``"spsa"``, ``"nes"``, ``"directions"``: an estimate (see `fdfast.attack.estimate`).
    loss : str, keras.losses.Loss, callable or None
        None takes the loss that the model was compiled with; of a callable's scores the cross-entropy.
        ``"margin"`` takes ``log sum_{k != y} exp(z_k) - z_y``, which points the same way as a cross-entropy does and
        does not saturate.
    targeted : bool
        Whether to go towards y instead of away from it.
    restarts : int
        How often to begin anew, from a random place; the best result counts.
    random_start : bool
        Whether to begin at a random place in the ball.
    momentum : float
        Share of the direction so far that is kept.
    h : float, "auto" or "search"
        Step of the differences, in the units of x. ``"auto"`` is for smooth f; ``"search"`` takes the smallest step at
        which differences tell something, for f that is a staircase; it is found once, at x.
    samples : int
        Gradients that are averaged in each step: of a random f, or with `spread` at places beside the point.
    spread : float
        Radius, in the units of x, of the places at which gradients are averaged.
    queries : int, optional
        Of an estimate, for each example and step; 200 by default.
    tile, channels
        As in `fdfast.gradient`: what moves together.
    bounds : (float, float) or None
        Range of valid pixels, which x must lie in and the result does not leave.
    max_rows : int, optional
        Rows per call of f; 256 by default.
    seed : int
        Of every random choice.
    progress : callable or bool
        Called as ``progress(steps done, steps in all)``; True shows a bar.

    Returns
    -------
    Attacked

    Raises
    ------
    TypeError, ValueError
        An argument does not fit, f is not finite at x, or the gradient asked for does not exist; the message says
        which, why, and what to do.

    Notes
    -----
    An example that is led astray is left alone from then on, unless f is random.

    References
    ----------
    .. [1] A. Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.
    .. [2] Y. Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018.

    Examples
    --------
    >>> import keras, numpy as np
    >>> from fdfast.attack import pgd
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    >>> model.set_weights([np.eye(2)])  # says 0 where x[0] > x[1]
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> found = pgd(model, np.array([[0.6, 0.5]]), [0], 0.1, loss=loss)
    >>> found.success, found.robust_accuracy
    (array([ True]), 0.0)
    """
    how = climb_of(epsilon, steps, step_size, norm, targeted, restarts, random_start, momentum)
    with subject_of(model, x, y, loss, bounds, max_rows) as subject:
        way = way_of(subject, gradient, h, samples, spread, queries, tile, channels, seed, how.epsilon)
        settings = {
            "gradient": gradient, "epsilon": how.epsilon, "norm": norm, "steps": how.steps, "step_size": how.step_size,
            "restarts": how.restarts, "targeted": targeted, "momentum": how.momentum, "h": way.h,
            "samples": way.samples, "spread": way.spread, "seed": seed,
        }  # fmt: skip
        return climb(subject, way, how, "PGD", progress, settings)


def climb_of(
    epsilon: Any, steps: Any, step_size: Any, norm: Any, targeted: Any, restarts: Any, random_start: Any, momentum: Any
) -> Climb:
    """How to climb, checked."""
    radius, many = check_epsilon(epsilon), check_count("steps", steps)
    check_choice("norm", norm, get_args(Norm))
    size = REACH * radius / many if step_size is None else check_size("step_size", step_size)
    keep = check_size("momentum", momentum, zero=True)
    return Climb(radius, norm, many, size, keep, check_count("restarts", restarts), bool(random_start), bool(targeted))


def way_of(
    subject: Subject, gradient: Any, h: Any, samples: Any, spread: Any, queries: Any, tile: Any, channels: Any,
    seed: int, epsilon: float,
) -> Way:  # fmt: skip
    """Where the gradient comes from, checked; the step is searched for here."""
    rng = np.random.default_rng(seed)
    count, wide = check_count("samples", samples), check_size("spread", spread, zero=True)
    if h == "search":
        step: Any = smallest_step(subject, epsilon, tile, channels, rng, draws=count if not wide else 1)
    else:
        step = h if isinstance(h, str) and h == "auto" else check_size("h", h)
    return Way(gradient, step, count, wide, tile, channels, queries, rng)
