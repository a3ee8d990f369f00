"""Check of a model's gradient with respect to its weights: composition of objective, engines, judge and report."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fdfast.engines import check_max_rows
from fdfast.functions import TracedObjective, WeightObjective, layers_of, model_objective, preflight, state_kept
from fdfast.moves import Bounds, Budget, Precision, StepLike, as_floats, as_points, check_choice, check_step
from fdfast.report import WeightReport, report_of
from fdfast.verdict import Given, WeightJudge, judged, paths_for


def check_weights(
    model: Any,
    x: npt.ArrayLike,
    y: Any = None,
    *,
    loss: Any = None,
    analytic: Any = None,
    h: StepLike = "auto",
    engine: str = "auto",
    precision: Precision = "auto",
    rtol: float = 1e-4,
    atol: float | Literal["auto"] = "auto",
    coverage: float = 0.99,
    jitter: float | Literal["auto"] | None = "auto",
    bounds: Bounds | None = None,
    budget: int | str | None = None,
    max_rows: int | None = None,
    seed: int = 0,
    label: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> WeightReport:
    """Check the gradient of a model's loss with respect to every trainable weight: ``gradcheck(..., wrt="weights")``.

    What is differentiated is the mean over the batch of the loss of each example, as Keras reduces it (the sum with
    ``reduction="sum"``), in inference mode. With a mask or ``ignore_class`` each example still weighs the same.
    Penalties of regularizers are not part of it.

    Parameters
    ----------
    model : keras.Model
        One input, one output. Its weights are never written.
    x : array_like of float, shape (*shape) or (examples, *shape)
    y : array_like
        Target, or one per example.
    analytic : sequence of array_like, callable or None
        Gradient under test: None for autodiff; an array for each of ``model.trainable_variables``, in its shape; or a
        function of x that returns such a list.
    h : float or "auto"
        Step, in the units of the weights.
    engine : {"auto", "difference", "batch"}
        ``"difference"`` pushes the exact move of a layer's pre-activation through the layers behind it; ``"batch"``
        evaluates the loss with displaced copies of a variable. ``"auto"`` takes differences for every variable where
        that is known to be exact; the report says for each what was taken.
    jitter : float, "auto" or None
        Width of the noise added to x for weights on a kink, which are then checked there; the weights stay.
    bounds : (float, float), optional
        Interval that x with noise may not leave.
    budget : int or str, optional
        Number of rows, displaced losses, of which a weight takes four; or a time such as ``"3s"`` for the whole call.
        What it pays for is drawn from every variable, with the seed, at least one weight each.
    loss, precision, rtol, atol, coverage, max_rows, seed, label, progress
        As in `fdfast.gradcheck`.

    Returns
    -------
    WeightReport

    Raises
    ------
    TypeError, ValueError
        An argument does not fit; the message says which, why, and what to do.

    Notes
    -----
    A step dw of a kernel's weight moves the pre-activation of its layer by dw times the input that its tap sees, on one
    channel; a bias moves one channel by dw; the scale of a normalisation by dw times the normalised input. None of this
    subtracts nearly equal numbers, and neither do the rules behind it.
    """
    started = time.perf_counter()
    _check_arguments(model, h, engine, precision, rtol, coverage)
    purse = Budget.of(budget)
    with state_kept(model):
        objective, points = _objective(model, x, y, loss, precision, bounds)
        preflight(objective, points, layers_of(objective.model), always=False)
        of_weights = WeightObjective(objective, model)
        if not of_weights.variables:
            raise ValueError(f"{model.name!r} has no trainable variables: set trainable=True on what is to be checked")
        if of_weights.unseen:
            name = of_weights.names[of_weights.unseen[0]]
            raise ValueError(
                f"{name} is read around Keras, through a tf.Variable that its layer keeps, so a displaced copy cannot "
                "stand in for it: use the layer's attribute (self.kernel) itself inside call"
            )
        paths = paths_for(of_weights, engine, points)
        judge = WeightJudge(
            of_weights,
            paths,
            points,
            _given(analytic, of_weights, x, points),
            h=h,
            rtol=rtol,
            atol=None if atol == "auto" else float(atol),
            jitter=jitter,
            bounds=bounds,
            max_rows=check_max_rows(max_rows),
            seed=seed,
        )
        sizes = [int(np.prod(v.shape)) for v in of_weights.variables]
        setup = time.perf_counter() - started
        found = judged(judge, sizes, purse, seed, started, progress)
        deployed = of_weights.deployed_gradients(points) if analytic is None else None
    settings: dict[str, Any] = {
        "rtol": rtol,
        "atol": atol,
        "coverage": coverage,
        "jitter": jitter,
        "seed": seed,
        "h": h,
    }
    settings |= {"bounds": bounds, "budget": budget, "engine": engine}
    timings = {"set-up": setup, "differences": sum(f.seconds for f in found), "autodiff": judge.seconds}
    timings["total"] = time.perf_counter() - started
    return report_of(of_weights, found, len(points), coverage, settings, timings, label or model.name, deployed)


def refuse(**given: Any) -> None:
    """Refuse arguments of `fdfast.gradcheck` that make no sense for weights, where they are not the defaults.

    Raises
    ------
    TypeError
    """
    defaults = {"tile": 1, "channels": "together", "batched": None, "selftest": False}
    remedy = {
        "tile": "every weight is checked by itself; budget= checks fewer of them",
        "channels": "every weight is checked by itself; leave it out",
        "batched": "f is a model, whose x takes a leading axis of examples or none",
        "selftest": "plant a fault with analytic=, a function of x that returns the gradients with one changed",
    }
    for name, value in given.items():
        if name not in defaults:
            raise TypeError(f"unexpected argument for wrt='weights': {name}")
        if not (isinstance(value, type(defaults[name])) and value == defaults[name]):
            raise TypeError(f"{name}={value!r} makes no sense with wrt='weights': {remedy[name]}")


def _check_arguments(model: Any, h: Any, engine: str, precision: str, rtol: float, coverage: float) -> None:
    import keras

    if not isinstance(model, keras.Model):
        raise TypeError(
            f"wrt='weights' needs a Keras model, whose variables it knows, got {type(model).__name__}; for a "
            "function of its weights pass them as x"
        )
    check_step(h)
    check_choice("precision", precision, ("auto", "float32", "float64"))
    check_choice("engine", engine, ("auto", "batch", "difference"))
    for name, value, low, high in (("rtol", rtol, 0.0, np.inf), ("coverage", coverage, 0.0, 1.0)):
        if not low <= value <= high:
            raise ValueError(f"{name} must be between {low:g} and {high:g}, got {value}")


def _objective(
    model: Any, x: Any, y: Any, loss: Any, precision: Precision, bounds: Bounds | None
) -> tuple[TracedObjective, npt.NDArray[Any]]:
    array = as_floats(x)
    inputs = getattr(model, "inputs", None)
    batched = not (inputs and len(inputs) == 1 and array.ndim == len(inputs[0].shape) - 1)
    if batched and array.ndim < 2:
        raise ValueError(f"x has shape {array.shape}; {model.name!r} takes a batch, with a leading axis of examples")
    if bounds is not None and not (bounds[0] <= array.min() and array.max() <= bounds[1] and bounds[0] < bounds[1]):
        raise ValueError(f"x runs from {array.min():g} to {array.max():g}, outside of bounds={bounds}; widen them")
    shape = array.shape[1:] if batched else array.shape
    examples = len(array) if batched else 1
    objective = model_objective(model, y, loss, shape, examples, batched=batched, precision=precision)
    return objective, as_points(array, shape, objective.dtype)


def _given(analytic: Any, objective: WeightObjective, x: Any, points: npt.NDArray[Any]) -> Given:
    """Bring the gradient under test into the form that `WeightJudge` takes."""
    if analytic is None:
        return None
    if callable(analytic):
        shape = np.asarray(x).shape
        return lambda rows: _arrays(analytic(rows.copy().reshape(shape)), objective)
    return _arrays(analytic, objective)


def _arrays(found: Any, objective: WeightObjective) -> list[npt.NDArray[Any]]:
    shapes = {name: tuple(v.shape) for name, v in zip(objective.names, objective.own, strict=True)}
    if not isinstance(found, list | tuple) or len(found) != len(shapes):
        got = f"{len(found)} arrays" if isinstance(found, list | tuple) else type(found).__name__
        raise TypeError(
            f"analytic must give a list of {len(shapes)} arrays, one for each of model.trainable_variables in that "
            f"order, got {got}"
        )
    out = []
    for one, (name, shape) in zip(found, shapes.items(), strict=True):
        array = as_floats(one, f"analytic for {name}") if np.size(one) else np.zeros(shape)
        if array.shape != shape:
            raise ValueError(f"analytic for {name} has shape {array.shape}; the variable has {shape}")
        out.append(array)
    return out
