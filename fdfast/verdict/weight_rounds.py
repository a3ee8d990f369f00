"""All weights, or as many as the budget pays for, in rounds; and which way each variable goes."""

from __future__ import annotations

import time
import weakref
from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.differences import Compiled, NoDifferences, compiled_for
from fdfast.engines import Pairs, PointValues, Untrusted, WeightPaths
from fdfast.functions import WeightObjective
from fdfast.moves import ROWS, Budget, Draw
from fdfast.progress import Progress
from fdfast.verdict.compare import UNRESOLVED
from fdfast.verdict.weight_judge import Found, WeightJudge

_FIRST = 8  # weights per variable of the first round under a time budget
_GROWTH = 16
_STEP = 2.0**-8  # of the trust check: large enough for a subtraction
_SAMPLE = 2  # weights of each variable that it looks at

_trusted: weakref.WeakSet[Compiled] = weakref.WeakSet()


def paths_for(objective: WeightObjective, engine: str, points: npt.NDArray[Any]) -> WeightPaths | None:
    """Exact ways of displaced weights through the model, or None where there are none; a note says why.

    Raises
    ------
    ValueError
        With ``engine="difference"``, where some variable has none.
    """
    if engine == "batch":
        return None
    why, paths = "", None
    try:
        compiled = compiled_for(objective.inputs, np.dtype(np.float64))
        if not compiled.complete:
            raise NoDifferences(compiled.lowered.why or "the loss has no compiled kernel")
        paths = WeightPaths(compiled, objective.variables, objective.inputs)
        if compiled not in _trusted:
            _check(paths, objective, points)
            _trusted.add(compiled)
    except (NoDifferences, Untrusted) as error:
        why, paths = error.found if isinstance(error, Untrusted) else str(error), None
    places = {} if paths is None else paths.places
    without = [name for i, name in enumerate(objective.names) if i not in places]
    if without and engine == "difference":
        raise ValueError(
            f"engine='difference' cannot be used for {', '.join(without[:3])}{' and others' if without[3:] else ''}: "
            f"{why or 'no exact move of one channel is known'}. engine='batch' evaluates displaced copies"
        )
    if without:
        which = "all variables" if paths is None else f"{len(without)} of {len(objective.names)} variables"
        because = why or f"{', '.join(without[:3])}: no exact move of one channel is known"
        objective.inputs.notes.append(
            f"{which} were evaluated by displaced copies, which is slower and less exact ({because})"
        )
    return paths


def _check(paths: WeightPaths, objective: WeightObjective, points: npt.NDArray[Any]) -> None:
    """Compare some weights of each variable with losses of displaced copies.

    Raises
    ------
    Untrusted
    """
    weights = objective.weights()
    held = paths.at(np.ascontiguousarray(points), objective.inputs.context, objective.share(len(points)))
    base = objective.value(points, weights)
    rng = np.random.default_rng(0)
    for i in paths.places:
        scale = np.abs(weights[i]).max(initial=0.0)
        step = _STEP * (2.0 ** np.floor(np.log2(scale)) if scale > 0 else 1.0)
        for which in rng.choice(weights[i].size, min(_SAMPLE, weights[i].size), replace=False):
            moved = [w.copy() for w in weights]
            moved[i].reshape(-1)[which] += step
            done = float(moved[i].reshape(-1)[which] - weights[i].reshape(-1)[which])
            evaluated = objective.value(points, moved) - base
            pushed = _pushed(held, i, int(which), done)
            lost = 2.0**-40 * max(abs(base), 1.0) + 2.0**-36 * abs(evaluated)
            if not abs(pushed - evaluated) <= lost:
                raise Untrusted(
                    f"pushed through the layers, weight {which} of {objective.names[i]} moves the loss by "
                    f"{pushed:.12g}, evaluated by {evaluated:.12g} (step {step:.3g})"
                )


def _pushed(held: PointValues, variable: int, which: int, step: float) -> float:
    pairs = Pairs(np.zeros(1, np.int64), np.array([which]), np.array([[step, -step]]))
    found = held.engine(variable).differences(np.empty((1, 0)), np.zeros(1, np.int32), pairs)
    return float(found.delta[0, 0])


def judged(
    judge: WeightJudge,
    sizes: list[int],
    budget: Budget,
    seed: int,
    started: float,
    progress: Progress,
) -> list[Found]:
    """Judge all weights, or what the budget pays for; with a time, in rounds that grow while they fit."""
    draw = Draw(sizes, seed)
    total = sum(sizes) if budget.weights is None else min(sum(sizes), budget.weights)
    found: list[Found | None] = [None] * len(sizes)
    done = 0

    def take(many: int) -> None:
        nonlocal done
        for i, mask in enumerate(draw.more(many)):
            if mask.any():
                found[i] = _joined(found[i], judge(i, mask))
                done += int(mask.sum())
                if callable(progress):
                    progress(min(ROWS * done, ROWS * total), ROWS * total)

    if budget.seconds is None:
        take(total)
        return _learnt([f for f in found if f is not None])
    many = _FIRST * len(sizes)
    while draw.left:
        before, begin = done, time.perf_counter()
        take(many)
        now = time.perf_counter()
        rate = (now - begin) / max(1, done - before)
        # A fifth is kept back: the next weights may cost more.
        many = min(_GROWTH * many, int(0.8 * (started + budget.seconds - now) / rate), draw.left)
        if many < len(sizes):
            break
    return _learnt([f for f in found if f is not None])


def _learnt(found: list[Found]) -> list[Found]:
    """Variables of which every derivative is exactly zero agree with anything: their weights are left open."""
    return [replace(f, codes=np.where(f.asked, UNRESOLVED, f.codes).astype(np.int8)) if f.blank else f for f in found]


def _joined(one: Found | None, other: Found) -> Found:
    """Put two rounds of one variable together."""
    if one is None:
        return other
    arrays = {
        f.name: np.where(other.asked, getattr(other, f.name), getattr(one, f.name))
        for f in fields(Found)
        if isinstance(getattr(one, f.name), np.ndarray) and f.name != "asked"
    }
    sums = {name: getattr(one, name) + getattr(other, name) for name in ("evaluations", "refined", "seconds")}
    return replace(one, **arrays, **sums, asked=one.asked | other.asked, noise=max(one.noise, other.noise))
