"""The public functions: composition of tiling, steps, engine, estimate, comparison and report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fdfast.choice import what_moves
from fdfast.counting import Count
from fdfast.estimates import Estimate, estimate_tiles
from fdfast.every_tile import gradient_of
from fdfast.first_order import of_first_order
from fdfast.functions import check_scope, interruptible
from fdfast.moves import (
    Bounds,
    Channels,
    Precision,
    Reduction,
    StepLike,
    TileLike,
    check_analytic,
    check_choice,
    check_number,
    check_seed,
    check_text,
    check_wrt,
    plan_steps,
)
from fdfast.problem import Problem, Request, engine_for, trusting
from fdfast.progress import Progress, with_bar
from fdfast.report import Report
from fdfast.second_order import check_order, with_second
from fdfast.verdict import Terms

Float64 = npt.NDArray[np.float64]


@with_bar("differences")
@interruptible()
def gradient(
    f: Any,
    x: npt.ArrayLike,
    h: StepLike = "auto",
    *,
    y: Any = None,
    loss: Any = None,
    tile: TileLike = 1,
    channels: Channels = "apart",
    reduction: Reduction = "mean",
    engine: str = "auto",
    precision: Precision = "auto",
    bounds: Bounds | None = None,
    max_rows: int | None = None,
    batched: bool | None = None,
    progress: Progress = None,
    **kwargs: Any,
) -> Float64:
    """Finite-difference gradient (f(x + h e_t) - f(x - h e_t)) / 2h for every tile t, all rows as one batch.

    Parameters
    ----------
    f : keras.Model or callable
        A model, differentiated through its loss; or a function of x that returns a scalar; or with
        ``batched=True`` a function of rows, shape (rows, *x.shape), that returns one value per row.
    x : array_like of float, shape (*shape) or (examples, *shape)
        The point. For a model also a batch, which gives one gradient per example. Never written.
    h : float or "auto"
        Step, in the units of x. ``"auto"``: see `fdfast.moves.scheme.plan_steps`.
    y : array_like
        Target of the model's loss, one per example. For a callable it is passed on to f if given.
    loss : str, keras.losses.Loss, callable or None
        Loss of the model; None takes the one that it was compiled with.
    tile : int or sequence of int
        Extent of a tile along the spatial axes.
    channels : {"apart", "together"}
        Whether each channel of a tile moves on its own; ``"together"`` costs as many times less as there are channels,
        and gives each of them their mean. Channels come last, unless the model's layers say ``channels_first``.
    reduction : {"mean", "sum"}
        ``"mean"`` gives each pixel its share of the tile's derivative, ``"sum"`` the derivative itself.
    engine : {"auto", "batch", "windows", "tape", "difference"}
        ``"windows"`` pushes the differences through the layers of a model or the operations of any function that
        TensorFlow can trace, window by window and without cancellation; ``"tape"`` through operations, as exactly, on
        whole maps, which is slower; ``"difference"`` is windows where they exist and else the tape. ``"batch"``
        evaluates f at perturbed rows. ``"auto"`` takes windows as far as they go and else the tape; the batch only
        where f cannot be recorded or differences say nothing of it, and the report says why. What layers add to the
        loss (``add_loss``) is part of it in float64, but not in the batch.
    precision : {"auto", "float32", "float64"}
        What rows or differences are computed in. ``"auto"``: float64, by a float64 copy of the model if one can be
        made; callables in the dtype of x. Differences start from float64 values at x either way.
    bounds : (float, float), optional
        Interval that no perturbed pixel may leave, for instance (0, 1): one-sided differences at its ends.
    max_rows : int, optional
        Rows per forward pass of the batch engine; by default what is fastest within a budget of 512 MB.
    batched : bool, optional
        Whether a callable takes rows.
    progress : callable or bool
        Called as ``progress(rows done, rows expected)``; True shows a bar, in a terminal or a notebook.
    **kwargs
        Further arguments of a callable f.

    Returns
    -------
    ndarray of float64, shape of x

    Raises
    ------
    TypeError, ValueError
        An argument does not fit; the message says which, why, and what to do.

    Examples
    --------
    >>> import numpy as np, fdfast
    >>> fdfast.gradient(lambda rows: (rows**2).sum(axis=1), np.array([1.0, 2.0, 3.0]), batched=True).round(6)
    array([2., 4., 6.])
    """
    request = Request(
        f, x, y, loss, tile, channels, h, engine, precision, bounds, max_rows, batched, progress, kwargs
    )  # fmt: skip

    def found(problem: Problem) -> Float64:
        return problem.examples(gradient_of(problem, h, reduction, bounds, max_rows, progress))

    return trusting(request, found, always=False)


@with_bar("differences")
@interruptible()
def estimate(
    f: Any,
    x: npt.ArrayLike,
    h: StepLike = "auto",
    *,
    y: Any = None,
    loss: Any = None,
    tile: TileLike = 1,
    channels: Channels = "apart",
    rtol: float = 1e-4,
    engine: str = "auto",
    precision: Precision = "auto",
    bounds: Bounds | None = None,
    max_rows: int | None = None,
    batched: bool | None = None,
    seed: int = 0,
    progress: Progress = None,
    **kwargs: Any,
) -> Estimate:
    """Finite-difference derivative of every tile with its error bar, one-sided slopes and kind.

    Parameters
    ----------
    f, x, h, y, loss, tile, channels, engine, precision, bounds, max_rows, batched, progress, **kwargs
        As in `gradient`.
    rtol : float
        Relative width that the error bars are refined to, where f allows.
    seed : int
        Of the direction along which the rounding noise of f is measured.

    Returns
    -------
    Estimate
        Arrays of shape (examples, tiles); a single x counts as one example.
    """
    request = Request(
        f, x, y, loss, tile, channels, h, engine, precision, bounds, max_rows, batched, progress, kwargs
    )  # fmt: skip
    check_number("rtol", rtol, 0.0, np.inf)
    check_seed(seed)

    def found(problem: Problem) -> Estimate:
        count = Count(progress, 4 * problem.tiling.tiles, len(problem.points))
        parts = []
        for group in problem.groups():
            points = problem.points[group]
            runner = engine_for(problem, group, max_rows, count)
            steps = plan_steps(points, problem.tiling, h, bounds, runner.step)
            parts.append(estimate_tiles(runner, points, steps, problem.tiling, rtol=rtol, seed=seed))
            count.through(len(points))
        return Estimate.join(parts)

    return trusting(request, found)


@with_bar("checking")
@interruptible()
def gradcheck(
    f: Any,
    x: npt.ArrayLike,
    y: Any = None,
    *,
    loss: Any = None,
    wrt: str = "auto",
    check: Literal["auto", "every", "directions"] = "auto",
    directions: int = 2,
    order: Literal[1, 2] = 1,
    analytic: npt.ArrayLike | Callable[..., Any] | None = None,
    tile: TileLike = 1,
    channels: Channels = "apart",
    h: StepLike = "auto",
    engine: str = "auto",
    precision: Precision = "auto",
    rtol: float = 1e-4,
    atol: float | Literal["auto"] = "auto",
    coverage: float = 0.99,
    jitter: float | Literal["auto"] | None = "auto",
    bounds: Bounds | None = None,
    max_rows: int | None = None,
    batched: bool | None = None,
    selftest: bool = False,
    budget: int | str | None = None,
    seed: int = 0,
    label: str | None = None,
    progress: Progress = None,
    **kwargs: Any,
) -> Report:
    """Check a gradient against finite differences, and say what was found; for tests there is `assert_gradcheck`.

    Parameters
    ----------
    f, x, y, loss, tile, channels, h, engine, precision, bounds, max_rows, batched, progress, **kwargs
        As in `gradient`.
    wrt : {"auto", "input", "weights", "all"}
        What is differentiated by: x; every trainable variable of a model, of whose loss the mean over the batch is
        taken; or both. ``"auto"``: of a layer both, else x.
    check : {"auto", "every", "directions"}
        How: every element by itself, or all together along random directions; ``"auto"`` takes what costs less.
    directions : int
        Number of random directions.
    order : {1, 2}
        2 also checks autodiff's second derivative, of u . grad f for a random u, by directions: ``report.second``.
    analytic : array_like, callable or None
        Gradient under test: None for autodiff; an array of the shape of x; or a function of x that returns one,
        such as a hand-written backward pass.
    rtol : float
        Relative error that is tolerated on top of the error bar.
    atol : float or "auto"
        Absolute error that is tolerated; ``"auto"``: only the rounding of the analytic side.
    coverage : float
        Least share of tiles that must agree for a pass.
    jitter : float, "auto" or None
        Width of the uniform noise added to x for tiles that sit on a kink, which are then checked there; ``"auto"``
        takes 1/255 for 8-bit images and else 1e-3 of the scale of x; None leaves them uncounted.
    selftest : bool
        Also plant a fault in the analytic side, one pixel off by 1 %, and require that it is found.
    budget : int or str, optional
        With ``wrt="weights"``: rows, or a time such as ``"3s"``, that a sample of every variable may cost.
    seed : int
        Of every random choice.
    label : str, optional
        What is checked, for the report.

    Returns
    -------
    Report
        With ``wrt="weights"`` a `fdfast.WeightReport`.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit; the message says which, why, and what to do.
    """
    check_choice("check", check, ("auto", "every", "directions"))
    check_wrt(wrt)
    check_analytic(analytic)
    wrt = what_moves(f) if wrt == "auto" else wrt
    request = Request(
        f, x, y, loss, tile, channels, h, engine, precision, bounds, max_rows, batched, progress, kwargs
    )  # fmt: skip
    check_text("label", label)
    if wrt != "input":
        check_scope()
    terms = Terms(h, request.bounds, rtol, atol, coverage, jitter, seed, selftest)
    if selftest and wrt != "weights" and (wrt != "input" or check == "directions"):
        raise ValueError(
            "selftest=True plants a fault in one element of x, which directions are proved to find: leave it out, or "
            "check x by itself, with wrt='input' and check='auto' or 'every'"
        )
    check_order(order, analytic)
    report = of_first_order(request, terms, wrt, check, directions, analytic, budget, label)
    if analytic is not None:
        report.settings["analytic"] = "given"
    return report if order == 1 else with_second(report, request, terms, wrt=wrt, directions=directions)


def assert_gradcheck(f: Any, x: npt.ArrayLike, y: Any = None, **options: Any) -> Report:
    """Raise AssertionError with the report as its message unless the check passes.

    Takes the arguments of `gradcheck` and returns its report.

    Raises
    ------
    AssertionError
        The verdict is ``"fail"`` or ``"inconclusive"``.
    """
    __tracebackhide__ = True  # pytest then ends at the caller's line
    report = gradcheck(f, x, y, **options)
    if not report:
        raise AssertionError(f"{report.short}\n\n{report}")
    return report
