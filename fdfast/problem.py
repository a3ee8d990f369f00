"""What is asked: a function, where, in which tiles, and by which engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

import keras
import numpy as np
import numpy.typing as npt

from fdfast.differences import NoDifferences, compiled_for
from fdfast.engines import BatchEngine, DifferenceEngine, TapeEngine, Untrusted
from fdfast.estimates import Engine
from fdfast.functions import (
    Flat,
    Snapshot,
    TapedObjective,
    callable_objective,
    check_callable,
    check_process,
    flat_callable,
    flat_model,
    layers_of,
    layout_of,
    model_objective,
    namer,
    preflight,
    reached_by,
    said_of,
    state_kept,
    takes_tensors,
    terms_added,
)
from fdfast.moves import (
    Bounds,
    Channels,
    Precision,
    StepLike,
    TileLike,
    Tiling,
    as_bounds,
    as_floats,
    as_points,
    as_tile,
    check_choice,
    check_fits,
    check_flag,
    check_max_rows,
    check_progress,
    check_step,
    make_tiling,
)
from fdfast.progress import Progress
from fdfast.tape import NoTape
from fdfast.taped import Taped, on_the_tape

T = TypeVar("T")
#: Tiles and examples looked at together; more are taken in groups, so that memory does not grow with their number.
_GROUP, _EXAMPLES = 32768, 25


def groups_of(examples: int, tiles: int) -> Iterator[slice]:
    """Slices of examples of so many tiles that are looked at together, of equal size but for the last."""
    turns = -(-examples // min(_EXAMPLES, max(1, _GROUP // tiles)))
    many = -(-examples // turns)
    for start in range(0, examples, many):
        yield slice(start, min(start + many, examples))


@dataclass(frozen=True, eq=False)
class Request:
    """What the caller of a public function asks to have differentiated; see `fdfast.gradient` for each."""

    f: Any
    x: npt.ArrayLike
    y: Any = None
    loss: Any = None
    tile: TileLike = 1
    channels: Channels = "apart"
    h: StepLike = "auto"
    engine: str = "auto"
    precision: Precision = "auto"
    bounds: Bounds | None = None
    max_rows: int | None = None
    batched: bool | None = None
    progress: Progress = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    #: Whether what layers and weights add to a model's loss may be in it.
    added: bool = True

    @property
    def options(self) -> dict[str, Any]:
        """What a callable f takes besides x: with a target, if one is given."""
        return {**self.kwargs} if self.y is None else {**self.kwargs, "y": self.y}

    def __post_init__(self) -> None:
        check_process()
        object.__setattr__(self, "bounds", as_bounds(self.bounds))
        object.__setattr__(self, "tile", as_tile(self.tile))
        check_progress(self.progress)
        check_flag("batched", self.batched, unset=True)
        check_step(self.h)
        check_choice("channels", self.channels, get_args(Channels))
        check_choice("precision", self.precision, ("auto", "float32", "float64"))
        check_choice("engine", self.engine, ("auto", "batch", "difference", "windows", "tape"))
        check_max_rows(self.max_rows)


@dataclass(frozen=True, eq=False)
class Problem:
    """What is differentiated, where, and by which engine."""

    x: npt.NDArray[Any]
    shape: tuple[int, ...]
    batched: bool
    points: npt.NDArray[Any]
    objective: Any
    tiling: Tiling
    label: str
    differences: Any = None
    taped: Taped | None = None

    @property
    def dtype(self) -> str:
        """Name of what the numeric side is computed in."""
        return "float64" if self.taped else str(np.dtype((self.differences or self.objective).dtype))

    def groups(self) -> Iterator[slice]:
        """Slices of examples that are looked at together."""
        return groups_of(len(self.points), self.tiling.tiles)

    def examples(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Drop the leading axis of examples if x had none."""
        return values if self.batched else values[0]


def engine_for(problem: Problem, group: slice, max_rows: int | None, count: Callable[[int], None]) -> Engine:
    """Return the engine that the problem asks for, for some of its examples; `count` is told of rows that are done."""
    objective = problem.objective.select(group)
    taped = problem.taped
    if taped is not None:
        layers = layers_of(problem.objective.model) if problem.objective.model is not None else []
        start, names = group.start, namer(layers)
        known = taped.first if start == 0 else None
        return TapeEngine(
            lambda i: taped.of(start + i), problem.tiling, names, windows=taped.windows, progress=count, first=known
        )
    if problem.differences is None:
        return BatchEngine(objective, problem.tiling, max_rows=check_max_rows(max_rows), progress=count)
    return DifferenceEngine(objective, problem.tiling, problem.differences, progress=count)


def _layers(engine: str, objective: Any, precision: Precision) -> Any:
    """The layers of the objective, compiled, or why they are not; `objective` is in float64 if it can be.

    ``"auto"`` takes them where every layer has a rule and most of the work is done by the compiled kernels.
    """
    dtype = np.dtype(np.float32 if precision == "float32" else np.float64)
    try:
        compiled = compiled_for(objective, dtype)
        if engine in ("auto", "difference") and compiled.without_rule:
            raise NoDifferences(f"{compiled.without_rule[0]} has no difference rule")
        if engine == "auto" and compiled.share < 0.75:
            raise NoDifferences(f"{compiled.lowered.why}, and most of the work comes after")
        if engine == "auto" and compiled.distrusted:
            objective.notes.append(f"no layer's rule was taken: {compiled.distrusted}")
            raise NoDifferences(compiled.distrusted)
    except NoDifferences as error:
        return str(error)
    return compiled


@contextlib.contextmanager
def checked(request: Request, *, always: bool = True) -> Iterator[Problem]:
    """Set the problem up, see that f can be differentiated row by row, and keep the model's state as it was."""
    with state_kept(request.f) as now:
        problem = problem_of(request, now=now)
        # Layers that have a rule are known by class: what was found of them once stays true.
        known = problem.differences is not None and not problem.differences.without_rule
        if not isinstance(problem.objective, TapedObjective):  # which has been held against f already
            reached = reached_by(problem.objective.model or request.f)
            preflight(problem.objective, problem.points, reached, always=always and not known)
        now.settled = True
        if known and problem.differences.graph.stateless:
            now.leave()
        yield problem


def trusting(request: Request, run: Callable[[Problem], T], *, always: bool = True) -> T:
    """What `run` makes of the problem; where it finds a layer's rule wrong, unasked, of the problem without the rules.

    Raises
    ------
    fdfast.engines.Untrusted
        The caller asks for an engine.
    """
    try:
        with checked(request, always=always) as problem:
            return run(problem)
    except Untrusted as error:
        if request.engine != "auto":
            raise
        problem.differences.distrusted = error.found
    with checked(request, always=always) as problem:
        return run(problem)


def problem_of(request: Request, *, now: Snapshot | None = None) -> Problem:
    """Bring what is asked into a function, points and tiles; `now` is what was read of the model's variables."""
    f = request.f
    array = as_floats(request.x)
    if isinstance(f, keras.Model):
        if request.kwargs:
            raise TypeError(f"unexpected arguments for a model: {', '.join(sorted(request.kwargs))}")
        return _model_problem(request, array, now)
    check_callable(f)
    if request.loss is not None:
        raise TypeError("loss goes with a Keras model; a callable f returns the loss itself")
    check_fits(f, "f", array, **request.options)
    dtype = np.dtype(np.float32) if request.precision == "float32" else array.dtype
    shape = array.shape
    tiling = make_tiling(shape, request.tile, request.channels, layout_of(layers_of(f)))
    label = getattr(f, "__name__", type(f).__name__)
    notes: list[str] = []
    tried = request.engine != "batch" and (request.engine != "auto" or takes_tensors(f, request.options, array))
    taped = _on_the_tape(request, notes) if tried else None
    if taped is not None and not request.batched:
        recorded_objective = TapedObjective(taped.flat, taped.recorded, shape)
        own = array.astype(taped.flat.arguments[0].dtype.as_numpy_dtype)
        recorded_objective.notes += notes + said_of(f, request.options, own, taped.recorded.numpy_calls)
        points = as_points(array, shape, np.dtype(np.float64))
        return Problem(array, shape, False, points, recorded_objective, tiling, label, taped=taped)
    points = as_points(array, shape, dtype)
    objective = callable_objective(
        f, request.options, points, shape, batched=bool(request.batched), precision=request.precision
    )
    objective.notes += notes
    points = as_points(array, shape, objective.dtype)
    return Problem(array, shape, False, points, objective, tiling, label, taped=taped)


def examples_of(request: Request, array: npt.NDArray[Any]) -> tuple[tuple[int, ...], int, bool]:
    """Shape of one example of a model's input, number of examples, and whether x has an axis for them."""
    model = request.f
    inputs = getattr(model, "inputs", None)
    # Only a functional model knows its input's rank; any other takes batches, as Keras does.
    batched = not (inputs and len(inputs) == 1 and array.ndim == len(inputs[0].shape) - 1)
    if batched and array.ndim < 2:
        raise ValueError(f"x has shape {array.shape}; {model.name!r} takes a batch, with a leading axis of examples")
    return (array.shape[1:], len(array), True) if batched else (array.shape, 1, False)


def _model_problem(request: Request, array: npt.NDArray[Any], now: Snapshot | None) -> Problem:
    shape, examples, batched = examples_of(request, array)

    def made(precision: Precision) -> Any:
        return model_objective(
            request.f, request.y, request.loss, shape, examples, batched=batched, precision=precision, now=now, x=array
        )

    # Differences in float32 still start from values in float64.
    wide = request.engine != "batch" and request.precision == "float32"
    objective = made("auto" if wide or request.precision == "float64" else request.precision)
    terms = terms_added(request.f, array.reshape(-1, *shape)[:1]) if request.added else 0
    by_layers = request.engine not in ("batch", "tape") and not (terms and request.precision != "float32")
    layers = _layers(request.engine, objective, request.precision) if by_layers else ""
    differences = None if isinstance(layers, str) else layers
    taped = None
    # Where operations go further, they are exact; but a rule of the caller's own is what is to be taken.
    if differences is not None and not (differences.complete or differences.own_rules):
        found = _on_the_tape(request, [], batched=batched, engine="auto")
        if found is not None and (found.windows or request.engine != "windows"):
            differences, taped = None, found
    if differences is not None and differences.without_rule:
        missing = ", ".join(differences.without_rule)
        objective.notes.append(f"subtracted for want of a difference rule: {missing}")
    if wide and differences is None:
        notes, objective = objective.notes, made(request.precision)
        objective.notes.extend(note for note in notes if note not in objective.notes)
    if differences is None and request.precision != "float32":
        objective = _in_float64(objective, as_points(array, shape, objective.dtype), made)
    if request.precision == "float64" and objective.dtype != np.float64:
        made("float64")  # says why not, where there is no float64 copy
        raise ValueError(f"precision='float64' cannot be had: {objective.notes[-1]}")
    tiling = make_tiling(shape, request.tile, request.channels, layout_of([request.f]))
    points = as_points(array, shape, objective.dtype)
    if differences is None and taped is None and request.engine != "batch":
        taped = _on_the_tape(request, objective.notes, batched=batched)
    if terms and taped is None:
        objective.notes.append("what layers add to the loss is left out: only differences in float64 take it in")
    return Problem(array, shape, batched, points, objective, tiling, request.f.name, differences, taped)


def _on_the_tape(
    request: Request, notes: list[str], *, batched: bool = False, engine: str | None = None
) -> Taped | None:
    """The function as it is recorded, see `fdfast.taped`."""

    def flat_of(example: int) -> Flat:
        if not isinstance(request.f, keras.Model):
            return flat_callable(request.f, request.x, request.options, batched=bool(request.batched))
        some: Any = slice(example, example + 1) if batched else ...
        x, y = np.asarray(request.x)[some], None if request.y is None else np.asarray(request.y)[some]
        return flat_model(request.f, x, y, request.loss, mean=False, weights=False, added=request.added)

    return on_the_tape(flat_of, reached_by(request.f), engine or request.engine, request.precision, notes)


def _in_float64(objective: Any, points: npt.NDArray[Any], made: Callable[[Precision], Any]) -> Any:
    """The objective of a model without a float64 copy, or with layers that compute in less all the same."""
    try:
        found = objective.widened(points)
    except NoTape as error:
        if objective.dtype == np.float64:  # its steps would be those of rounding in between
            notes, objective = objective.notes, made("float32")
            objective.notes += [*notes, f"evaluated in float32, because it is not in float64 throughout: {error}"]
            return objective
        objective.notes.append(f"nor can its operations be run in float64: {error}")
        return objective
    if found is not objective and objective.narrow_because:
        found.notes.remove(objective.narrow_because)
    return found
