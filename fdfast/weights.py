"""Check of a model's gradient with respect to its weights: composition of objective, engines, judge and report."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from fdfast.functions import TracedObjective, WeightObjective, layers_of, model_objective, preflight, state_kept
from fdfast.moves import Budget, as_floats, as_points, check_max_rows
from fdfast.problem import Request, examples_of
from fdfast.report import WeightReport, weight_report
from fdfast.verdict import Given, Terms, WeightJudge, judged, paths_for


def check_weights(
    request: Request,
    terms: Terms,
    *,
    analytic: Any = None,
    budget: int | str | None = None,
    label: str | None = None,
) -> WeightReport:
    """Check the gradient of a model's loss with respect to every trainable weight: ``gradcheck(..., wrt="weights")``.

    What is differentiated is the mean over the batch of the loss of each example, as Keras reduces it (the sum with
    ``reduction="sum"``), in inference mode. With a mask or ``ignore_class`` each example still weighs the same.
    Penalties of regularizers are not part of it.

    Parameters
    ----------
    request : Request
        Its f is a model with one input and one output, whose weights are never written; h is in the units of the
        weights. ``engine="difference"`` pushes the exact move of a layer's pre-activation through the layers behind it;
        ``"batch"`` evaluates the loss with displaced copies of a variable; ``"auto"`` takes differences for every
        variable where that is known to be exact, and the report says for each what was taken.
    terms : Terms
        Jitter is added to x, for weights on a kink, which are then checked there; the weights stay.
    analytic : sequence of array_like, callable or None
        Gradient under test: None for autodiff; an array for each of ``model.trainable_variables``, in its shape; or a
        function of x that returns such a list.
    budget : int or str, optional
        Number of rows, displaced losses, of which a weight takes four; or a time such as ``"3s"`` for the whole call.
        What it pays for is drawn from every variable, with the seed, at least one weight each.
    label : str, optional

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
    model, seed = request.f, terms.seed
    _refuse(request, terms)
    purse = Budget.of(budget)
    with state_kept(model) as now:
        objective, points = _objective(request)
        preflight(objective, points, layers_of(objective.model), always=False)
        now.settled = True
        of_weights = WeightObjective(objective, model)
        if not of_weights.variables:
            raise ValueError(f"{model.name!r} has no trainable variables: set trainable=True on what is to be checked")
        if of_weights.unseen:
            name = of_weights.names[of_weights.unseen[0]]
            raise ValueError(
                f"{name} is read around Keras, through a tf.Variable that its layer keeps, so a displaced copy cannot "
                "stand in for it: use the layer's attribute (self.kernel) itself inside call"
            )
        paths = paths_for(of_weights, request.engine, points)
        given = _given(analytic, of_weights, request.x, points)
        judge = WeightJudge(of_weights, paths, points, given, terms, check_max_rows(request.max_rows))
        sizes = [int(np.prod(v.shape)) for v in of_weights.variables]
        setup = time.perf_counter() - started
        found = judged(judge, sizes, purse, seed, started, request.progress)
        deployed = of_weights.deployed_gradients(points) if analytic is None else None
    settings = terms.settings() | {"budget": budget, "engine": request.engine}
    timings = {"set-up": setup, "differences": sum(f.seconds for f in found), "autodiff": judge.seconds}
    timings["total"] = time.perf_counter() - started
    return weight_report(of_weights, found, len(points), settings, timings, label or model.name, deployed)


def _refuse(request: Request, terms: Terms) -> None:
    """Refuse a function that is no model, and what makes no sense for weights where it is not the default."""
    if not isinstance(request.f, keras.Model):
        raise TypeError(
            f"wrt='weights' needs a Keras model, whose variables it knows, got {type(request.f).__name__}; for a "
            "function of its weights pass them as x"
        )
    if request.kwargs:
        raise TypeError(f"unexpected argument for wrt='weights': {', '.join(request.kwargs)}")
    for name, value, default, remedy in (
        ("tile", request.tile, 1, "every weight is checked by itself; budget= checks fewer of them"),
        ("channels", request.channels, "apart", "every weight is checked by itself; leave it out"),
        ("batched", request.batched, None, "f is a model, whose x takes a leading axis of examples or none"),
        (
            *("selftest", terms.selftest, False),
            "plant a fault with analytic=, a function of x that returns the gradients with one changed",
        ),
    ):
        if not (isinstance(value, type(default)) and value == default):
            raise TypeError(f"{name}={value!r} makes no sense with wrt='weights': {remedy}")


def _objective(request: Request) -> tuple[TracedObjective, npt.NDArray[Any]]:
    array, bounds = as_floats(request.x), request.bounds
    shape, examples, batched = examples_of(request, array)
    if bounds is not None and not (bounds[0] <= array.min() and array.max() <= bounds[1] and bounds[0] < bounds[1]):
        raise ValueError(f"x runs from {array.min():g} to {array.max():g}, outside of bounds={bounds}; widen them")
    objective = model_objective(
        request.f, request.y, request.loss, shape, examples, batched=batched, precision=request.precision, x=array
    )
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
        array = as_floats(one, f"analytic for {name}", finite=False) if np.size(one) else np.zeros(shape)
        if array.shape != shape:
            raise ValueError(f"analytic for {name} has shape {array.shape}; the variable has {shape}")
        out.append(array)
    return out
