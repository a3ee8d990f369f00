"""The check by directions: composition of a function, its recording, the verdict on it as a whole, and the report."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from fdfast.functions import (
    Flat,
    check_callable,
    flat_callable,
    flat_layer,
    flat_model,
    gaps,
    layers_among,
    layers_of,
    namer,
    reached_by,
    state_kept,
    trusted,
)
from fdfast.moves import as_floats, as_gradient, check_fits, check_whole
from fdfast.problem import Request
from fdfast.report import Report, whole_report
from fdfast.tape import NoTape, Recorded
from fdfast.verdict import (
    NO_PATTERN,
    WRONG,
    Culprits,
    Place,
    Terms,
    Whole,
    culprits,
    excuse,
    held_against,
    hold_branches,
    is_certain,
    judge_whole,
    leave_to_autodiff,
    near_by,
    rounding_of,
    weigh_rounding,
)

Float64 = npt.NDArray[np.float64]
_MOST_DIRECTIONS = 1000  # each takes as much memory as x and the weights; three tell what can be told


def check_directed(
    request: Request, terms: Terms, *, wrt: str, analytic: Any, directions: int, label: str | None
) -> Report:
    """Check a gradient as a whole: ``gradcheck(..., check="directions")``.

    Parameters
    ----------
    request : Request
    terms : Terms
    wrt : str
        ``"input"``, ``"weights"``, ``"all"``, or the name of an input or a variable.
    analytic : array_like, callable, list of these or None
        Gradient under test.
    directions : int
    label : str, optional

    Raises
    ------
    fdfast.tape.NoTape
        The function cannot be recorded; the message says why.
    """
    started = time.perf_counter()
    check_whole("directions", directions, 1, _MOST_DIRECTIONS)
    with state_kept(request.f) as now:
        flat = flat_of(request, wrt, terms.seed)
        reached = reached_by(request.f)
        layers, traced = layers_among(reached), trusted(flat, reached)
        now.settled = True
        places = places_of(flat, wrt)
        setup = time.perf_counter() - started
        found = _judged(traced, flat, places, terms, directions, analytic, layers)
        guilty = _guilty(found, flat, places, terms, layers) if analytic is None else None
    total = time.perf_counter() - started
    timings = {"set-up": setup, "directions": total - setup, "total": total}
    settings = terms.settings() | {"directions": directions}
    return whole_report(found, flat, wrt, settings, timings, label or flat.label, guilty)


def _guilty(
    found: Whole, flat: Flat, places: list[Place], terms: Terms, layers: Sequence[keras.Layer]
) -> Culprits | None:
    """Who is to blame for what is wrong with autodiff; what right parts add up to is left open, as it may round."""
    if not found.wrong:
        return None
    at = found.point.arguments
    if found.ties:  # a unit that ties has no gradient that is the right one, and would be blamed, too
        at = near_by(flat.points(), flat.moving, terms, 0, batched=flat.model is not None)
    numbers = [p.number for p in places]
    guilty = excuse(found, blamed_of(flat, at, numbers, layers, terms.seed, found.accused))
    if guilty is not None and guilty.right and not guilty.wrong:
        weigh_rounding(found, found.point, right=True)
    return guilty


def _judged(
    traced: Recorded,
    flat: Flat,
    places: list[Place],
    terms: Terms,
    directions: int,
    analytic: Any,
    layers: Sequence[keras.Layer],
) -> Whole:
    def judge(given: Any) -> Whole:
        return judge_whole(
            traced,
            flat.points(),
            flat.model is not None,
            places,
            terms,
            directions,
            given,
            elsewhere=given is None or callable(analytic),
            layer_of=namer(layers),
            sharp=flat.sharp,
        )

    given = _given(analytic, flat, places)
    if given is None or callable(analytic):
        return judge(given)
    few = _has_few_digits(analytic)
    found = None if few else judge(given)
    here = traced.point(flat.points())
    known, beside = functools.cache(lambda: judge(None)), True

    def excused() -> Whole:
        _guilty(known(), flat, places, terms, layers)
        return known()

    if found is not None:
        # Where an array has no value: there autodiff, which has one beside x, says what is right.
        beside = bool(found.breaks) or any(mask.any() for mask in (*found.near, *found.branch))
        weigh_rounding(found, here)
        leave_to_autodiff(found, here, excused)
    if found is not None and (found.wrong or (is_certain(found) and not beside)):
        return found
    sure = known()
    if not is_certain(sure):
        found = found or judge(given)
        hold_branches(found, given(flat.points()), here, terms)
        return found
    own = flat.own_gradients() if few else None
    exact = None if own is None else [own[p.number] for p in places]
    return held_against(sure, given(flat.points()), exact, here, terms)


def rounding_at(request: Request, seed: int) -> tuple[Float64, Float64] | None:
    """Autodiff by the input, and what rounding may make of it, shape of x; None where f cannot be recorded."""
    try:
        with state_kept(request.f):
            flat = flat_of(request, "input", seed)
            here = trusted(flat, reached_by(request.f)).point(flat.points())
            (place,) = places_of(flat, "input")
            return here.gradients.get(place.number, np.zeros(place.shape)), rounding_of(here, [place])[0]
    except NoTape:
        return None


def _has_few_digits(analytic: Any) -> bool:
    """Whether a gradient under test, or a part of it, has no more digits than float32."""
    parts = analytic if isinstance(analytic, list | tuple) else [analytic]
    return any(as_gradient(one, "analytic").dtype.itemsize < 8 for one in parts)


def blamed(request: Request, terms: Terms, wrt: str, report: Report) -> Culprits | None:
    """Which layer is to blame for a gradient by autodiff that failed; None where the function cannot be recorded.

    It is asked along the elements that are accused: beside all others what is wrong may be next to nothing.
    """
    try:
        with state_kept(request.f):
            flat = flat_of(request, wrt, terms.seed)
            places = places_of(flat, wrt)
            accused = _accused(report, places)
            near = near_by(flat.points(), flat.moving, terms, 0, batched=flat.model is not None)
            return blamed_of(flat, near, [p.number for p in places], layers_of(request.f), terms.seed, accused)
    except NoTape:
        return None


def _accused(report: Report, places: Sequence[Place]) -> list[npt.NDArray[np.bool_]] | None:
    """Elements that are wrong, by place; None where a report is not about single elements."""
    masks = [part.codes == WRONG for part in report.parts]
    if [mask.size for mask in masks] != [math.prod(p.shape) for p in places]:
        return None
    return [mask.reshape(p.shape) for mask, p in zip(masks, places, strict=True)]


def with_culprits(report: Report, request: Request, terms: Terms, wrt: str) -> Report | None:
    """Name who is to blame for what every element told, where something is wrong; None where rounding alone is."""
    started = time.perf_counter()
    found = blamed(request, terms, wrt, report) if report.counts["wrong"] else None
    if found is not None and found.rounding and not found.wrong:
        return None
    if found is None:
        return report
    if not found.wrong:
        return replace(report, culprits=found)
    timings = report.timings | {"culprits": time.perf_counter() - started}
    hints = [text for text in report.hints if not text.startswith(NO_PATTERN)] + found.on_purpose
    return replace(report, culprits=found, hints=hints, timings=timings)


def cancels(found: Report) -> bool:
    """Whether an array was left open for what rounding makes of a gradient."""
    return found.verdict == "inconclusive" and found.directed is not None and found.directed.cancelled > 0


def knows_more(found: Report, report: Report) -> bool:
    """Whether directions tell more than single elements: in float64, or beside what an exact comparison sets apart."""
    if found.verdict == "inconclusive" or found.directed is None:
        return False
    told = report.counts["agree"] + report.counts["singular"] == report.total
    return report.dtype == "float32" or (told and found.directed.apart == report.counts["singular"])


def blamed_of(
    flat: Flat,
    arguments: Sequence[Any],
    places: Sequence[int],
    layers: Sequence[keras.Layer],
    seed: int,
    accused: Sequence[npt.NDArray[np.bool_]] | None = None,
) -> Culprits:
    """Which parts are to blame, along random directions in what was checked; of that, in the elements `accused`."""
    rng = np.random.default_rng(seed)
    shapes = [a.shape for a in arguments] + [tuple(v.shape) for v in flat.variables]
    moved = {place: rng.choice([-1.0, 1.0], (2, *shapes[place])) for place in places}
    for place, mask in zip(places, accused or [], strict=False):
        moved[place] *= mask
    return culprits(gaps(flat, arguments, moved, layers))


def flat_of(request: Request, wrt: str, seed: int = 0) -> Flat:
    """What is asked about, as a function of flat inputs."""
    f = request.f
    if isinstance(f, keras.Layer) and request.kwargs:
        raise TypeError(f"unexpected arguments for {type(f).__name__}: {', '.join(sorted(request.kwargs))}")
    if isinstance(f, keras.Model):
        return flat_model(f, request.x, request.y, request.loss, mean=wrt != "input", weights=wrt != "input")
    check_callable(f)
    if request.loss is not None:
        raise TypeError("loss goes with a Keras model; a callable f returns the loss itself")
    if isinstance(f, keras.Layer):
        if request.y is not None:
            raise TypeError("y goes with a Keras model and its loss; of a layer a random projection is checked")
        return flat_layer(f, request.x, seed, weights=wrt != "input")
    if wrt not in ("input", "all") and not isinstance(request.x, Mapping | list | tuple):
        raise TypeError(
            f"wrt={wrt!r} needs a Keras model or layer, whose variables it knows, got {type(f).__name__}; for a "
            "function of its weights pass them as x"
        )
    check_fits(f, "f", request.x, **request.options)
    return flat_callable(f, request.x, request.options, seed, batched=bool(request.batched))


def places_of(flat: Flat, wrt: str) -> list[Place]:
    """Arguments and variables that ``wrt`` names."""
    inputs = [
        Place(a.name, i, a.value.shape, len(a.value) if flat.model is not None else 1)
        for i, a in enumerate(flat.arguments)
        if a.moves
    ]
    first = len(flat.arguments)
    named = zip(flat.names, flat.variables, strict=True)
    variables = [Place(name, first + i, tuple(v.shape)) for i, (name, v) in enumerate(named)]
    if wrt == "input":
        return inputs
    if wrt == "weights":
        if not variables:
            raise ValueError(f"{flat.label!r} has no trainable variables: set trainable=True on what is to be checked")
        return variables
    if wrt == "all":
        return inputs + variables
    chosen = [p for p in inputs + variables if p.name == wrt or p.name.endswith(f"/{wrt}")]
    if len(chosen) != 1:
        names = ", ".join(p.name for p in inputs + variables)
        raise ValueError(
            f"wrt={wrt!r} names {len(chosen)} of the inputs and variables {names}; or pass 'input', 'weights' or 'all'"
        )
    return chosen


def _given(analytic: Any, flat: Flat, places: Sequence[Place]) -> Any:
    """The gradient under test as a function of flat arguments, for every place."""
    if analytic is None:
        return None

    def call(arguments: Sequence[npt.NDArray[Any]]) -> list[Float64]:
        found = analytic
        if callable(analytic):
            own = [
                a if given.batched else a[0]
                for a, given in zip(arguments, flat.arguments, strict=True)
                if not given.held
            ]
            found = analytic(own[0].copy() if len(own) == 1 else [a.copy() for a in own])
        several = isinstance(found, list | tuple)
        each = list(found) if several else [found]
        if len(each) != len(places):
            raise TypeError(
                f"analytic must give {len(places)} arrays, one for each of {', '.join(p.name for p in places)}, got "
                f"{len(each) if several else type(found).__name__}"
            )
        out = []
        for one, place in zip(each, places, strict=True):
            array = as_gradient(one, "analytic").astype(np.float64)
            if array.size != int(np.prod(place.shape)):
                raise ValueError(f"analytic for {place.name} has shape {array.shape}; it must be {place.shape}")
            out.append(array.reshape(place.shape))
        return out

    if not callable(analytic) and not isinstance(analytic, list | tuple):
        as_floats(analytic, "analytic", finite=False)
    return call
