"""Kinks on real digits: those that the difference engine sees, against one-sided slopes of float64 losses.

Brute force knows nothing of units. With R and L the slopes to the right and left at a step h, J(h) = R - L is the jump
plus what bends, which is proportional to h; 2 J(h/2) - J(h) is free of that. It is a kink at x if two such values, from
three steps, agree with each other and stand clear of the rounding; no kink if neither does; else there is a kink
between x and x +- h, and brute force cannot tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import fdfast
from bench.difference_rig import Rig, Size, derivatives, digits
from bench.timing import Row
from fdfast.engines.difference import TINY
from fdfast.estimates.estimate import KINK, Estimate

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

STEPS = (2.0**-15, 2.0**-17, 2.0**-19)
_CLEAR = 8.0  # standard deviations
_LINE, _LINES = 9, 4  # points of a line that the noise is measured on, and lines
_SHOWN = 30


@dataclass(frozen=True, eq=False)
class Brute:
    """What one-sided slopes say, shape (images, tiles) each; `noise` per image, standard deviation of a loss."""

    right: Float64
    left: Float64
    jump: Float64
    floor: Float64
    kink: Bool
    torn: Bool


def rows(size: Size) -> Iterator[Row | str]:
    """Counts of agreement, disagreements by cause, and a list of them."""
    model, x, y = digits(size.kinks)
    rig = Rig(model, x, y)
    engine = fdfast.estimate(model, x, y=y, engine="difference")
    assert engine.tie is not None
    brute = brute_force(rig)
    mine = engine.kind == KINK
    tied = engine.tie >= 0
    yield Row(f"kinks: pixels of {len(x)} digits", "", str(mine.size))
    yield Row(
        "kinks: by the engine / by brute force / by both",
        "",
        f"{mine.sum()} / {brute.kink.sum()} / {(mine & brute.kink).sum()}",
    )
    yield Row("kinks: units tie, yet both slopes are the same, for the engine", "", str((tied & ~mine).sum()))
    yield Row("kinks: of these, no kink by brute force either", "", str((tied & ~mine & ~brute.kink).sum()))
    both = mine & brute.kink
    scale = np.maximum(np.abs(engine.right), np.abs(engine.left))
    off = np.maximum(np.abs(engine.right - brute.right), np.abs(engine.left - brute.left))
    within = off <= 1e-5 * scale + brute.floor
    yield Row(
        "kinks: both slopes the same by both, to 1e-5 or rounding", "", f"{(within & both).sum()} of {both.sum()}"
    )
    rest = [_crosses(rig, int(i), int(t), STEPS[-1]) for i, t in np.argwhere(both & ~within)]
    yield Row("kinks: of the others, a unit changes branch within brute force's smallest step", "", str(sum(rest)))
    yield Row("kinks: engine undecided", "", str((engine.kind > KINK).sum()))
    apart = mine != brute.kink
    causes = {(int(i), int(t)): _cause(engine, brute, rig, int(i), int(t)) for i, t in np.argwhere(apart)}
    unexplained = sum(cause.startswith(("unexplained", "WRONG")) for cause in causes.values())
    for cause, number in sorted(Counter(causes.values()).items()):
        yield Row(f"kinks: {cause}", "", str(number))
    yield Row(
        "kinks: disagreements / unexplained or wrong ones", "0 left", f"{len(causes)} / {unexplained}", not unexplained
    )
    for (i, t), cause in list(causes.items())[:_SHOWN]:
        yield (
            f"    digit {i}, pixel {rig.tiling.where(t)[:2]}: slope to the right {engine.right[i, t]:.3e}, "
            f"jump by the engine {engine.right[i, t] - engine.left[i, t]:.3e}, by brute "
            f"force {brute.jump[i, t]:.3e}, its rounding "
            f"{brute.floor[i, t]:.1e}: {cause}"
        )


def brute_force(rig: Rig) -> Brute:
    """One-sided slopes at several steps, image after image, by the float64 batch."""
    found = [_slopes(rig, i) for i in range(len(rig.points))]
    right, left = (np.stack([one[k] for one in found]) for k in (0, 1))  # (images, steps, tiles)
    noise = np.array([one[2] for one in found])
    jump = right - left
    # Weighted sums of six losses over the smallest step that each has seen.
    wide, fine = (_without_bend(jump[:, k : k + 2], k) for k in (0, 1))
    floor = _CLEAR * 3.5 * noise[:, None] / STEPS[-1]
    floors = _CLEAR * 3.5 * noise[:, None] / STEPS[-2]
    clear, before = np.abs(fine) > floor, np.abs(wide) > floors
    same = np.abs(fine - wide) <= 0.05 * np.abs(fine) + floor
    kink = clear & same
    return Brute(right[:, -1], left[:, -1], fine, np.broadcast_to(floor, fine.shape), kink, (clear | before) & ~same)


def _without_bend(jump: Float64, first: int) -> Float64:
    """Extrapolate two jumps to h = 0."""
    ratio = STEPS[first] / STEPS[first + 1]
    return np.asarray((ratio * jump[:, 1] - jump[:, 0]) / (ratio - 1))


def _slopes(rig: Rig, image: int) -> tuple[Float64, Float64, float]:
    objective = rig.wide.select(slice(image, image + 1))
    x, size = rig.points[image], rig.tiling.size

    def losses(rows: Float64) -> Float64:
        return np.asarray(
            objective.tensor_values(rows.reshape(-1, *rig.tiling.shape), np.zeros(len(rows), np.int32), 32)
        )

    # Displaced rows written out, by nothing but NumPy: one tile is one pixel.
    step = np.repeat([s * h for h in STEPS for s in (1, -1)], size)
    displaced = np.tile(x, (len(step), 1))
    pixel = np.tile(np.arange(size), 2 * len(STEPS))
    displaced[np.arange(len(step)), pixel] += step
    moved = displaced[np.arange(len(step)), pixel] - x[pixel]
    slope = ((losses(displaced) - losses(x[None])[0]) / moved).reshape(len(STEPS), 2, size)
    return slope[:, 0], slope[:, 1], _noise(losses, x)


def _noise(losses: Any, x: Float64) -> float:
    """Deviation of one loss: fourth differences on short lines to one side, where f is straight but for rounding."""
    rng = np.random.default_rng(0)
    along = rng.uniform(0.5, 1, (_LINES, 1, len(x)))
    far = np.arange(1, _LINE + 1).reshape(1, -1, 1)
    rows = x + 2.0**-28 * far * along
    values = losses(rows.reshape(-1, len(x))).reshape(_LINES, _LINE)
    fourth = np.diff(values, 4, axis=1)
    return float(np.median(np.sqrt((fourth**2).mean(axis=1) / 70)))


def _cause(engine: Estimate, brute: Brute, rig: Rig, i: int, t: int) -> str:
    """Why the two part on one pixel."""
    assert engine.tie is not None
    if engine.kind[i, t] == KINK:
        jump, bend = _jump(rig, i, t)
        if abs(bend) >= abs(jump):
            return "WRONG: engine only: its jump shrinks with the step, as curvature does"
        if abs(jump) <= brute.floor[i, t]:
            return "engine only: its jump is below the rounding of the losses"
        if brute.torn[i, t] and _crosses(rig, i, t, STEPS[0]):
            return "engine only: another kink within the steps of brute force"
        return "unexplained: engine only"
    if _crosses(rig, i, t, STEPS[-1]):
        return "brute force only: a unit changes branch within its smallest step, not at x itself"
    if engine.tie[i, t] >= 0:
        return "unexplained: brute force only, units tie"
    return "unexplained: brute force only"


def _jump(rig: Rig, image: int, tile: int) -> tuple[float, float]:
    """Jump of the engine's slopes, extrapolated to h = 0 from two steps, and what of it is in proportion to h."""
    steps = TINY, 4 * TINY
    near, far = (float((rig.only(image).difference("float64", h, [tile])[0].delta / h).sum()) for h in steps)
    return (4 * near - far) / 3, (far - near) / 3


def _crosses(rig: Rig, image: int, tile: int, h: float) -> bool:
    """Whether a unit changes branch between x and the rows at h."""
    return bool((derivatives(rig.only(image).difference("float64", h, [tile]))[2] >= 0).any())
