"""The verdict on a gradient as a whole: at x where nothing ties, else at a generic point near it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.moves import Directions, beside
from fdfast.tape import Point, Recorded
from fdfast.verdict.compare import AGREE, UNRESOLVED, WRONG
from fdfast.verdict.directions import STEPS, Directed, Suspect, look
from fdfast.verdict.terms import Terms

Float64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
#: The gradient under test at given arguments, for every place that was asked for.
Given = Callable[[Sequence[Array]], list[Float64]]

_ROUNDS = 3  # points near x that are tried
_EPS = 2.0**-52


class NotWhole(Exception):
    """A gradient cannot be judged as a whole; the message says why."""


@dataclass(frozen=True)
class Place:
    """One array whose gradient is judged.

    Attributes
    ----------
    name : str
    number : int
        Among the arguments of the function, and behind these its variables.
    shape : tuple of int
    """

    name: str
    number: int
    shape: tuple[int, ...]


@dataclass(eq=False)
class Whole:
    """What was found out about a gradient as a whole.

    Attributes
    ----------
    value : float
        f at x.
    places : list of Place
    analytic : list of ndarray of float64
        Gradient under test at x.
    claimed : list of ndarray of float64
        The same where it was judged.
    codes : list of ndarray of int8
        Class of every element.
    directed : Directed
    suspects : list of Suspect
        Elements that differ by more than the tolerance; then those that differ by less.
    wrong : int
        How many of them are wrong.
    near : bool
        Whether it was judged near x.
    ties : list of str
        Operations that tie at x.
    lost : list of ndarray of bool
        Elements whose gradient under test is not finite.
    blank : list of int
        Places whose derivatives are all exactly zero on both sides.
    point : fdfast.tape.Point
        Where it was judged.
    """

    value: float
    places: list[Place]
    analytic: list[Float64]
    claimed: list[Float64]
    codes: list[npt.NDArray[np.int8]]
    directed: Directed
    suspects: list[Suspect]
    wrong: int
    near: bool
    ties: list[str]
    lost: list[npt.NDArray[np.bool_]]
    blank: list[int]
    point: Point


def judge_whole(
    recorded: Recorded,
    arguments: Sequence[Array],
    batched: Sequence[bool],
    places: Sequence[Place],
    terms: Terms,
    count: int,
    given: Given | None,
    *,
    elsewhere: bool = True,
    layer_of: Callable[[str], str] = str,
) -> Whole:
    """Judge the gradient of a recorded function for some of its arguments and variables.

    Parameters
    ----------
    recorded : Recorded
    arguments : sequence of ndarray
        x, flat.
    batched : sequence of bool
        Which arguments have a leading axis of examples.
    places : sequence of Place
    terms : Terms
    count : int
        Number of directions.
    given : callable or None
        The gradient under test; None for autodiff.
    elsewhere : bool
        Whether the gradient under test has a value near x, too.
    layer_of : callable
        Name of the layer that an operation of that name belongs to.

    Raises
    ------
    NotWhole
        x sits on a kink, and the gradient has no value elsewhere.
    """
    here = recorded.point(arguments)
    value = here.values[0]
    if not np.isfinite(value):
        raise ValueError(
            f"f(x) is {value}: the loss must be finite at x itself; look for log(0), 0/0 or overflow in the model"
        )
    at_x = _claimed(here, arguments, places, given)
    point, claimed, directed = here, at_x, _looked(recorded, here, at_x, places, terms, count, given)
    ties = list(dict.fromkeys(layer_of(name) for name, _ in directed.ties))
    jitter = terms.jitter if elsewhere else None
    if ties and jitter is None:
        why = "jitter=None leaves it there" if elsewhere else "a gradient given as an array has no value near x"
        raise NotWhole(
            f"x sits exactly on a kink ({ties[0]}), where a direction sees the mean of both slopes, and {why}"
        )
    for turn in range(_ROUNDS):
        if not directed.ties or jitter is None:
            break
        moved = [
            beside(a, batched=b, jitter=jitter, bounds=terms.bounds, seed=terms.seed, turn=turn)
            if a.dtype.kind == "f"
            else a
            for a, b in zip(arguments, batched, strict=True)
        ]
        point = recorded.point(moved)
        claimed = _claimed(point, moved, places, given)
        directed = _looked(recorded, point, claimed, places, terms, count, given)
    return _decided(value, places, at_x, claimed, directed, terms, point, point is not here, ties)


def _claimed(point: Any, arguments: Sequence[Array], places: Sequence[Place], given: Given | None) -> list[Float64]:
    if given is not None:
        return given(arguments)
    gradients = _by_place(point)
    return [np.zeros(p.shape) if gradients.get(p.number) is None else gradients[p.number] for p in places]


def _by_place(point: Any) -> dict[int, Any]:
    """Gradients by number: only arguments that move have one."""
    gradients, arguments = list(point.values[1]), point.arguments
    moving = [i for i, a in enumerate(arguments) if a.dtype.kind == "f"]
    numbers = [*moving, *range(len(arguments), len(arguments) + len(gradients) - len(moving))]
    return dict(zip(numbers, gradients, strict=True))


def _looked(
    recorded: Recorded,
    point: Any,
    claimed: list[Float64],
    places: Sequence[Place],
    terms: Terms,
    count: int,
    given: Given | None,
) -> Directed:
    lost = [~np.isfinite(g) for g in claimed]
    finite = [np.where(bad, 0.0, g) if bad.any() else g for g, bad in zip(claimed, lost, strict=True)]
    directions = Directions(finite, terms.seed, [bad if bad.any() else None for bad in lost])

    def slopes(moved: Any, steps: Sequence[float]) -> Any:
        return point.slopes({places[i].number: v for i, v in moved.items()}, steps)

    def beside(moved: Any, distance: float, turn: int) -> Float64:
        there = [_apart(a, distance, (terms.seed, turn)) for a in point.arguments]
        other = recorded.point(there)
        gradients = [np.where(bad, 0.0, g) for g, bad in zip(_claimed(other, there, places, given), lost, strict=True)]
        by_number = {places[i].number: v for i, v in moved.items()}
        found: Float64 = other.slopes(by_number, STEPS[:1]).value[0] - directions.dot(moved, gradients)
        return found

    movable = any(a.dtype.kind == "f" for a in point.arguments)
    return look(slopes, directions, count, beside if movable else None)


def _apart(array: Array, distance: float, seed: tuple[int, int]) -> Array:
    """Values moved by so much of their scale."""
    if array.dtype.kind != "f":
        return array
    share = np.random.default_rng(seed).uniform(-1, 1, array.shape)
    moved: Array = array + distance * max(float(np.abs(array).max(initial=0.0)), 1e-300) * share
    return moved


def _decided(
    value: float,
    places: Sequence[Place],
    analytic: list[Float64],
    claimed: list[Float64],
    directed: Directed,
    terms: Terms,
    point: Any,
    near: bool,
    ties: list[str],
) -> Whole:
    open_ = bool(directed.ties)  # ties at every point that was tried: nothing can be said
    codes = [np.full(g.shape, UNRESOLVED if open_ else AGREE, np.int8) for g in claimed]
    lost = [~np.isfinite(g) for g in claimed]
    largest = max((float(np.abs(g[np.isfinite(g)]).max(initial=0.0)) for g in claimed), default=0.0)
    floor = 64 * _EPS * largest if terms.floor is None else terms.floor
    wrong: list[Suspect] = []
    small: list[Suspect] = []
    for one in directed.suspects:
        allowed = terms.rtol * max(abs(one.numeric), abs(one.analytic)) + floor
        (wrong if not abs(one.numeric - one.analytic) <= allowed else small).append(one)
    if wrong:
        # What lies in a dense group and was not differenced by itself is not known.
        for group in directed.dense:
            for place, start, stop in group.parts:
                in_order = codes[place] if codes[place].ndim < 2 else np.moveaxis(codes[place], -1, 0)
                in_order.flat[start:stop] = UNRESOLVED  # groups are in this order
    elif directed.dense:
        # All of a sample are within tolerance: a lone error would have to stand out of what all add up to.
        directed.tau = max(directed.tau, 8 * directed.excess)
    for one in wrong:
        codes[one.place].reshape(-1)[one.index] = WRONG
    for one in small:
        codes[one.place].reshape(-1)[one.index] = AGREE
    for place, bad in enumerate(lost):
        codes[place][bad] = WRONG
    blank = [
        i
        for i, g in enumerate(claimed)
        if g.size and not g.any() and not any(one.place == i and one.numeric for one in directed.suspects)
    ]
    for i in blank:
        codes[i][:] = UNRESOLVED
    count = len(wrong) + sum(int(bad.sum()) for bad in lost)
    return Whole(
        value, list(places), analytic, claimed, codes, directed, wrong + small, count, near, ties, lost, blank, point
    )
