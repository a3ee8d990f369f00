"""Steps uphill inside a ball about x: projected gradient ascent, in either norm, from any gradient."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fdfast.attack.result import Attacked
from fdfast.attack.slopes import Slope, Way, slope_of
from fdfast.attack.subject import Subject
from fdfast.progress import Progress

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Norm = Literal["inf", "l2"]
_DRAWS = 10  # predictions of a random model that an accuracy is the mean of, at least


@dataclass(frozen=True)
class Climb:
    """How an attack climbs; see `fdfast.attack.pgd` for each."""

    epsilon: float
    norm: Norm
    steps: int
    step_size: float
    momentum: float
    restarts: int
    random_start: bool
    targeted: bool


class _Best:
    """The best point of each example so far: led astray before not, then by the measure."""

    def __init__(self, points: Array) -> None:
        self.points = points.copy()
        self.astray = np.zeros(len(points), bool)
        self.height = np.full(len(points), -np.inf)

    def see(self, points: Array, some: npt.NDArray[np.int64], astray: npt.NDArray[np.bool_], height: Float64) -> None:
        better = (astray > self.astray[some]) | ((astray == self.astray[some]) & (height > self.height[some]))
        which = some[better]
        self.points[which], self.astray[which], self.height[which] = points[better], astray[better], height[better]


def climb(subject: Subject, way: Way, how: Climb, name: str, progress: Progress, settings: dict[str, Any]) -> Attacked:
    """Run the attack, and say what came of it."""
    started = time.perf_counter()
    slope, best = slope_of(subject, way, narrow=True), _Best(subject.points)
    _look(subject, subject.points, subject.every, how, best)
    draws = draws_of(subject, way.samples)
    history = np.tile(subject.clean.loss, (how.steps + 1, 1))
    total, done = how.restarts * how.steps, 0
    for turn in range(how.restarts):
        open_ = subject.every if draws > 1 else np.flatnonzero(~best.astray)
        points = subject.points.copy()
        if how.random_start or turn:
            points = project(subject, start(points, how, way.rng), subject.every, how)
        speed = np.zeros(points.shape)
        for taken in range(how.steps):
            if not len(open_):
                break
            points[open_], speed[open_] = step(subject, slope, points[open_], speed[open_], open_, how)
            loss = _look(subject, points[open_], open_, how, best)
            history[taken + 1 :, open_] = loss
            # A random model is astray by chance: only many draws tell.
            open_ = open_ if draws > 1 else open_[~best.astray[open_]]
            done += 1
            if callable(progress):
                progress(done, total)
    if callable(progress):
        progress(total, total)
    found = points if draws > 1 and how.steps else best.points
    return judged(
        subject, subject.as_given(found), {"attack": name, **settings}, draws=draws, history=history, started=started
    )


def draws_of(subject: Subject, samples: int) -> int:
    """How many predictions an accuracy is the mean of."""
    return max(_DRAWS, samples) if subject.is_random else 1


def step(
    subject: Subject, slope: Slope, points: Array, speed: Float64, some: npt.NDArray[np.int64], how: Climb
) -> tuple[Array, Float64]:
    """One step uphill and back into the ball: the points, and the direction so far."""
    found = slope(points, some) * (-1.0 if how.targeted else 1.0)
    axes = tuple(range(1, points.ndim))
    if how.momentum:
        size = np.abs(found).sum(axis=axes, keepdims=True)
        speed = how.momentum * speed + found / np.where(size > 0, size, 1.0)
        found = speed
    if how.norm == "inf":
        move = np.sign(found)
    else:
        length = np.sqrt((found**2).sum(axis=axes, keepdims=True))
        move = found / np.where(length > 0, length, 1.0)
    reach = points.dtype.type(how.step_size)
    return project(subject, points + reach * move.astype(points.dtype), some, how), speed


def start(points: Array, how: Climb, rng: np.random.Generator) -> Array:
    """Uniform in the ball."""
    if how.norm == "inf":
        cube: Array = points + rng.uniform(-how.epsilon, how.epsilon, points.shape).astype(points.dtype)
        return cube
    v = rng.standard_normal(points.shape)
    radius = how.epsilon * rng.uniform(size=len(points)) ** (1 / points[0].size)
    v *= (radius / np.sqrt((v.reshape(len(v), -1) ** 2).sum(axis=1))).reshape(-1, *[1] * (points.ndim - 1))
    ball: Array = points + v.astype(points.dtype)
    return ball


def project(subject: Subject, points: Array, some: npt.NDArray[np.int64], how: Climb) -> Array:
    """Bring points back into the ball about x, and into the range of pixels."""
    centre = subject.points[some]
    if how.norm == "inf":
        reach = points.dtype.type(how.epsilon)
        ball: Array = subject.inside(np.clip(points, centre - reach, centre + reach))
        return ball
    # The ball and the range of pixels: both are convex, and clipping towards x shortens the way.
    moved = (points - centre).astype(np.float64)
    length = np.sqrt((moved**2).sum(axis=tuple(range(1, moved.ndim)), keepdims=True))
    moved *= np.minimum(1.0, how.epsilon / np.where(length > 0, length, 1.0))
    return subject.inside(centre + moved.astype(points.dtype))


def _look(subject: Subject, points: Array, some: npt.NDArray[np.int64], how: Climb, best: _Best) -> Float64:
    """Say to `best` what the model says to points; return their losses."""
    found = subject.scored.at(points, some)
    sign = -1.0 if how.targeted else 1.0
    best.see(points, some, _astray(subject, found, some, how), sign * found.measure)
    return found.loss


def _astray(subject: Subject, found: Any, some: npt.NDArray[np.int64], how: Climb) -> npt.NDArray[np.bool_]:
    classes = subject.scored.classes
    if classes is None or found.outputs is None:
        # There is no line to be crossed: go on to the end.
        return np.zeros(len(some), bool)
    said = found.outputs.argmax(axis=-1)
    return np.asarray((said == classes[some]) if how.targeted else (said != classes[some]))


def judged(
    subject: Subject, adversarial: Array, settings: dict[str, Any], *, draws: int, history: Float64, started: float
) -> Attacked:
    """What came of an attack: what f says to the adversarial examples, in the dtype that they are handed over in."""
    targeted, given = settings["targeted"], adversarial.reshape(subject.points.shape)
    clean, moved = (_Said.of(subject, one, draws) for one in (subject.points, given))
    before, after = clean.right, moved.right
    accuracy = [float("nan")] * 2
    if before is None or after is None:
        success = moved.loss > clean.loss
    else:
        success = after >= 0.5 if targeted else after < 0.5
        if not targeted:
            accuracy = [float(before.mean()), float(after.mean())]
    change = (given.astype(np.float64) - subject.x.reshape(given.shape).astype(np.float64)).reshape(len(given), -1)
    return Attacked(
        x=subject.x,
        adversarial=adversarial,
        success=success,
        distance={"inf": np.abs(change).max(axis=1), "l2": np.sqrt((change**2).sum(axis=1))},
        clean_accuracy=accuracy[0],
        robust_accuracy=accuracy[1],
        loss_history=history,
        before=clean.outputs,
        after=moved.outputs,
        queries=subject.scored.queries,
        seconds=time.perf_counter() - started,
        settings=settings | {"batched": subject.batched},
    )


class _Said(NamedTuple):
    """Means over repeated calls: losses, outputs, and whether the class said is that of the target."""

    loss: Float64
    outputs: Array | None
    right: Float64 | None

    @classmethod
    def of(cls, subject: Subject, points: Array, draws: int) -> _Said:
        classes, outputs, right = subject.scored.classes, [], []
        total = np.zeros(len(points))
        for _ in range(draws):
            found = subject.scored.at(points, subject.every)
            total = total + found.loss / draws
            if found.outputs is not None and classes is not None:
                outputs.append(found.outputs)
                right.append(found.outputs.argmax(axis=-1) == classes)
        means = (np.mean(outputs, axis=0), np.mean(right, axis=0)) if right else (None, None)
        return cls(total, *means)
