"""The public functions: composition of tiling, steps, engine, estimate, comparison and report."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from fdfast.diagnosis import hints
from fdfast.engines.batch import BatchEngine, Progress, check_max_rows
from fdfast.estimation import Engine, Estimate, estimate_tiles, slopes
from fdfast.inputs import as_floats, as_points
from fdfast.judge import Judge, Judgement
from fdfast.reasons import deployed_figure, reasons_of, selftest_figure
from fdfast.report import MAPS, Report
from fdfast.scheme import Bounds, StepLike, check_step, plan_steps
from fdfast.tiling import Channels, Reduction, TileLike, Tiling, check_choice, make_tiling

if TYPE_CHECKING:
    from fdfast.variables import Snapshot

Float64 = npt.NDArray[np.float64]
Precision = Literal["auto", "float32", "float64"]

#: Tiles and examples looked at together; more are taken in groups, so that memory does not grow with their number.
_GROUP, _EXAMPLES = 32768, 25


def groups_of(examples: int, tiles: int) -> Iterator[slice]:
    """Slices of examples of so many tiles that are looked at together, of equal size but for the last."""
    turns = -(-examples // min(_EXAMPLES, max(1, _GROUP // tiles)))
    many = -(-examples // turns)
    for start in range(0, examples, many):
        yield slice(start, min(start + many, examples))


@dataclass(frozen=True, eq=False)
class Problem:
    """What is differentiated, where, and by which engine."""

    x: npt.NDArray[Any]
    shape: tuple[int, ...]
    batched: bool
    points: npt.NDArray[Any]
    objective: Any
    tiling: Tiling
    bounds: Bounds | None
    label: str
    differences: Any = None

    @property
    def dtype(self) -> str:
        """Name of what the numeric side is computed in."""
        return str(np.dtype((self.differences or self.objective).dtype))

    def groups(self) -> Iterator[slice]:
        """Slices of examples that are looked at together."""
        return groups_of(len(self.points), self.tiling.tiles)

    def examples(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Drop the leading axis of examples if x had none."""
        return values if self.batched else values[0]


def gradient(
    f: Any,
    x: npt.ArrayLike,
    h: StepLike = "auto",
    *,
    y: Any = None,
    loss: Any = None,
    tile: TileLike = 1,
    channels: Channels = "together",
    reduction: Reduction = "mean",
    engine: str = "auto",
    precision: Precision = "auto",
    bounds: Bounds | None = None,
    max_rows: int | None = None,
    batched: bool | None = None,
    progress: Progress | None = None,
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
        Step, in the units of x. ``"auto"``: see `fdfast.scheme.plan_steps`.
    y : array_like
        Target of the model's loss, one per example. For a callable it is passed on to f if given.
    loss : str, keras.losses.Loss, callable or None
        Loss of the model; None takes the one that it was compiled with.
    tile : int or sequence of int
        Extent of a tile along the spatial axes.
    channels : {"together", "apart"}
        Whether the channels of a tile move together; see `fdfast.tiling.make_tiling`.
    reduction : {"mean", "sum"}
        ``"mean"`` gives each pixel its share of the tile's derivative, ``"sum"`` the derivative itself.
    engine : {"auto", "batch", "difference"}
        ``"difference"`` pushes the differences through the layers of a Sequential or functional model, window by
        window and without cancellation; ``"batch"`` evaluates f at perturbed rows. ``"auto"`` takes differences
        wherever all layers have a rule and most of the work is compiled, else the batch, and the report says why.
    precision : {"auto", "float32", "float64"}
        What rows or differences are computed in. ``"auto"``: float64, by a float64 copy of the model if one can be
        made; callables in the dtype of x. Differences start from float64 values at x either way.
    bounds : (float, float), optional
        Interval that no perturbed pixel may leave, for instance (0, 1): one-sided differences at its ends.
    max_rows : int, optional
        Rows per forward pass of the batch engine; by default what is fastest within a budget of 512 MB.
    batched : bool, optional
        Whether a callable takes rows.
    progress : callable, optional
        Called as ``progress(rows done, rows expected)``.
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
    check_step(h)
    with checked(f, x, y, loss, tile, channels, engine, precision, bounds, batched, kwargs, always=False) as problem:
        count = _Count(progress, 2 * problem.tiling.tiles * len(problem.points))
        found = np.empty((len(problem.points), *problem.shape))
        for group in problem.groups():
            points = problem.points[group]
            runner = engine_for(problem, group, max_rows, count)
            steps = plan_steps(points, problem.tiling, h, bounds, runner.step)
            found[group] = problem.tiling.expand(slopes(runner, points, steps, problem.tiling), reduction)
    return problem.examples(found)


def estimate(
    f: Any,
    x: npt.ArrayLike,
    h: StepLike = "auto",
    *,
    y: Any = None,
    loss: Any = None,
    tile: TileLike = 1,
    channels: Channels = "together",
    rtol: float = 1e-4,
    engine: str = "auto",
    precision: Precision = "auto",
    bounds: Bounds | None = None,
    max_rows: int | None = None,
    batched: bool | None = None,
    seed: int = 0,
    progress: Progress | None = None,
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
    check_step(h)
    with checked(f, x, y, loss, tile, channels, engine, precision, bounds, batched, kwargs) as problem:
        count = _Count(progress, 4 * problem.tiling.tiles * len(problem.points))
        parts = []
        for group in problem.groups():
            points = problem.points[group]
            runner = engine_for(problem, group, max_rows, count)
            steps = plan_steps(points, problem.tiling, h, bounds, runner.step)
            parts.append(estimate_tiles(runner, points, steps, problem.tiling, rtol=rtol, seed=seed))
        return Estimate.join(parts)


def gradcheck(
    f: Any,
    x: npt.ArrayLike,
    y: Any = None,
    *,
    loss: Any = None,
    wrt: Literal["input", "weights"] = "input",
    analytic: npt.ArrayLike | Callable[..., Any] | None = None,
    tile: TileLike = 1,
    channels: Channels = "together",
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
    progress: Progress | None = None,
    **kwargs: Any,
) -> Report:
    """Check a gradient against finite differences, tile by tile, and say what was found.

    Parameters
    ----------
    f, x, y, loss, tile, channels, h, engine, precision, bounds, max_rows, batched, progress, **kwargs
        As in `gradient`.
    wrt : {"input", "weights"}
        What is differentiated by: x, or every trainable variable of a model, of whose loss the mean over the batch is
        taken. The options and the report then are those of `fdfast.weights.check_weights`.
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
        With ``wrt="weights"`` a `fdfast.weight_report.WeightReport`.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit; the message says which, why, and what to do.

    See Also
    --------
    assert_gradcheck : The raising form, for tests.
    """
    check_choice("wrt", wrt, ("input", "weights"))
    if wrt == "weights":
        from fdfast.weights import check_weights, refuse

        refuse(tile=tile, channels=channels, batched=batched, selftest=selftest, **kwargs)
        return check_weights(  # type: ignore[return-value]
            f,
            x,
            y,
            loss=loss,
            analytic=analytic,
            h=h,
            engine=engine,
            precision=precision,
            rtol=rtol,
            atol=atol,
            coverage=coverage,
            jitter=jitter,
            bounds=bounds,
            budget=budget,
            max_rows=max_rows,
            seed=seed,
            label=label,
            progress=progress,
        )
    if budget is not None:
        raise TypeError(f"budget={budget!r} goes with wrt='weights'; for inputs a larger tile= costs less")
    started = time.perf_counter()
    check_step(h)
    for name, value, low, high in (("rtol", rtol, 0.0, np.inf), ("coverage", coverage, 0.0, 1.0)):
        if not low <= value <= high:
            raise ValueError(f"{name} must be between {low:g} and {high:g}, got {value}")
    with checked(f, x, y, loss, tile, channels, engine, precision, bounds, batched, kwargs) as problem:
        count = _Count(progress, 4 * problem.tiling.tiles * len(problem.points))
        judge = Judge(
            problem.tiling,
            h=h,
            rtol=rtol,
            atol=None if atol == "auto" else float(atol),
            jitter=jitter,
            bounds=bounds,
            seed=seed,
            selftest=selftest,
        )
        judgements = []
        for group in problem.groups():
            runner = engine_for(problem, group, max_rows, count)
            given = analytic_of(analytic, problem, group)
            judgements.append(judge(runner, problem.objective.select(group), problem.points[group], given))
    whole = Judgement.join(judgements)
    whole.timings["total"] = time.perf_counter() - started
    settings = {
        "rtol": rtol,
        "atol": atol,
        "coverage": coverage,
        "jitter": jitter,
        "seed": seed,
        "h": h,
        "bounds": bounds,
    }
    return _report(problem, whole, runner.name, coverage, settings, label or problem.label)


def _report(
    problem: Problem, found: Judgement, engine: str, coverage: float, settings: dict[str, Any], label: str
) -> Report:
    def grid(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return problem.examples(problem.tiling.on_grid(values))

    maps = {name: grid(getattr(found, name)) for name in MAPS}
    objective = problem.objective
    selftest, selftest_passed = selftest_figure(found)
    return Report(
        **maps,
        x=problem.x.copy(),
        shape=problem.shape,
        tile=problem.tiling.tile,
        grid=problem.tiling.grid,
        coverage_asked=coverage,
        reasons=reasons_of(found, coverage, objective.notes),
        engine=engine,
        dtype=problem.dtype,
        step=float(np.median(found.step)),
        evaluations=found.evaluations,
        refined=found.refined,
        noise=float(found.noise.max()),
        timings=found.timings,
        settings=settings,
        label=label,
        deployed=deployed_figure(found),
        batched=problem.batched,
        hints=hints(found.checked_numeric, found.checked_analytic, found.codes, problem.tiling.grid),
        selftest=selftest,
        selftest_passed=selftest_passed,
    )


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
        raise AssertionError(str(report))
    return report


class _Count:
    """Adds up rows over several engine calls for one progress callback."""

    def __init__(self, progress: Progress | None, expected: int) -> None:
        self._progress, self._expected, self._done = progress, expected, 0

    def __call__(self, rows: int) -> None:
        self._done += rows
        if self._progress is not None:
            self._progress(min(self._done, self._expected), self._expected)


def engine_for(problem: Problem, group: slice, max_rows: int | None, count: Callable[[int], None]) -> Engine:
    """Return the engine that the problem asks for, for some of its examples; `count` is told of rows that are done."""
    objective = problem.objective.select(group)
    max_rows = check_max_rows(max_rows)
    if problem.differences is None:
        return BatchEngine(objective, problem.tiling, max_rows=max_rows, progress=count)
    from fdfast.engines.difference import DifferenceEngine

    return DifferenceEngine(objective, problem.tiling, problem.differences, progress=count)


def _choose(engine: str, objective: Any, precision: Precision) -> Any:
    """The compiled form of the objective, or None for the batch engine; `objective` is in float64 if it can be.

    ``"auto"`` takes differences where every layer has a rule and most of the work is done by the compiled kernels.
    """
    if engine == "batch":
        return None
    from fdfast.compiled import NoDifferences, compiled_for

    dtype = np.dtype(np.float32 if precision == "float32" else np.float64)
    try:
        compiled = compiled_for(objective, dtype)
        if engine == "auto" and compiled.without_rule:
            raise NoDifferences(f"{compiled.without_rule[0]} has no difference rule")
        if engine == "auto" and compiled.share < 0.75:
            raise NoDifferences(f"{compiled.lowered.why}, and most of the work comes after")
    except NoDifferences as error:
        if engine == "difference":
            message = f"engine='difference' cannot be used: {error}. engine='batch' evaluates f itself"
            raise ValueError(message) from None
        objective.notes.append(f"the batch engine evaluated f itself, because differences cannot be pushed: {error}")
        return None
    if compiled.without_rule:
        objective.notes.append(f"subtracted for want of a difference rule: {', '.join(compiled.without_rule)}")
    return compiled


@contextlib.contextmanager
def checked(f: Any, *arguments: Any, always: bool = True) -> Iterator[Problem]:
    """Set the problem up, see that f can be differentiated row by row, and keep the model's state as it was."""
    from fdfast.preflight import layers_of, preflight, state_kept

    with state_kept(f) as now:
        problem = _problem(f, *arguments, now=now)
        # Layers that have a rule are known by class: what was found of them once stays true.
        known = problem.differences is not None and not problem.differences.without_rule
        layers = layers_of(problem.objective.model or f)
        preflight(problem.objective, problem.points, layers, always=always and not known)
        if known and problem.differences.graph.stateless:
            now.leave()
        yield problem


def _problem(
    f: Any,
    x: npt.ArrayLike,
    y: Any,
    loss: Any,
    tile: TileLike,
    channels: Channels,
    engine: str,
    precision: Precision,
    bounds: Bounds | None,
    batched: bool | None,
    kwargs: dict[str, Any],
    *,
    now: Snapshot | None = None,
) -> Problem:
    check_choice("precision", precision, ("auto", "float32", "float64"))
    check_choice("engine", engine, ("auto", "batch", "difference"))
    array = as_floats(x)
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(f, keras.Model):
        if kwargs:
            raise TypeError(f"unexpected arguments for a model: {', '.join(sorted(kwargs))}")
        return _model_problem(f, array, y, loss, make_tiling_for(tile, channels), engine, precision, bounds, now)
    if engine == "difference" and callable(f):
        raise ValueError(
            "engine='difference' cannot be used: f is a callable, not a Keras model with a loss. engine='batch' "
            "evaluates f itself"
        )
    if not callable(f):
        raise TypeError(f"f must be a Keras model or a callable, got {type(f).__name__}")
    if loss is not None:
        raise TypeError("loss goes with a Keras model; a callable f returns the loss itself")
    if y is not None:
        kwargs = {**kwargs, "y": y}
    from fdfast.objective import callable_objective

    dtype = array.dtype if precision == "auto" else np.dtype(precision)
    shape = array.shape
    tiling = make_tiling(shape, tile, channels)
    points = as_points(array, shape, dtype)
    objective = callable_objective(f, kwargs, points, shape, batched=bool(batched))
    points = as_points(array, shape, objective.dtype)
    return Problem(array, shape, False, points, objective, tiling, bounds, getattr(f, "__name__", type(f).__name__))


def make_tiling_for(tile: TileLike, channels: Channels) -> Callable[[tuple[int, ...]], Tiling]:
    """Bind tile and channels; the shape of one example comes later."""
    return lambda shape: make_tiling(shape, tile, channels)


def _model_problem(
    model: Any,
    array: npt.NDArray[Any],
    y: Any,
    loss: Any,
    cut: Callable[[tuple[int, ...]], Tiling],
    engine: str,
    precision: Precision,
    bounds: Bounds | None,
    now: Snapshot | None,
) -> Problem:
    from fdfast.objective import model_objective

    inputs = getattr(model, "inputs", None)
    # Only a functional model knows its input's rank; any other takes batches, as Keras does.
    batched = not (inputs and len(inputs) == 1 and array.ndim == len(inputs[0].shape) - 1)
    if batched and array.ndim < 2:
        raise ValueError(f"x has shape {array.shape}; {model.name!r} takes a batch, with a leading axis of examples")
    shape = array.shape[1:] if batched else array.shape
    examples = len(array) if batched else 1

    def made(precision: Precision) -> Any:
        return model_objective(model, y, loss, shape, examples, batched=batched, precision=precision, now=now)

    # Differences in float32 still start from values in float64.
    wide = engine != "batch" and precision == "float32"
    objective = made("auto" if wide else precision)
    differences = _choose(engine, objective, precision)
    if wide and differences is None:
        notes, objective = objective.notes, made(precision)
        objective.notes.extend(note for note in notes if note not in objective.notes)
    tiling = cut(shape)
    points = as_points(array, shape, objective.dtype)
    return Problem(array, shape, batched, points, objective, tiling, bounds, model.name, differences)


def analytic_of(analytic: Any, problem: Problem, group: slice) -> Any:
    """Bring the gradient under test into the form that `Judge` takes: None, an array of examples, or a callable."""
    if analytic is None:
        return None
    if callable(analytic):

        def call(points: npt.NDArray[Any]) -> npt.NDArray[Any]:
            # A function of the batch may hold one target per example, so it always gets all of them.
            whole = problem.points.copy()
            whole[group] = points
            given = whole.reshape(-1, *problem.shape)
            found = np.asarray(analytic(given if problem.batched else given[0]))
            if found.size != given.size:
                raise ValueError(
                    f"analytic returned shape {found.shape}; it must return the shape of x, {problem.x.shape}"
                )
            # The dtype tells how far the result is rounded.
            return found.astype(np.promote_types(found.dtype, np.float32)).reshape(given.shape)[group]

        return call
    array = as_floats(analytic, "analytic")
    if array.shape != problem.x.shape:
        raise ValueError(f"analytic has shape {array.shape}; it must have the shape of x, {problem.x.shape}")
    whole = array.reshape(-1, *problem.shape)
    return whole[group]
