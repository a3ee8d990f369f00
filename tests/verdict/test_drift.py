"""Whether a difference depends on where one looks: at a regular point, where kinks cancel, and under noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fdfast.estimates import KINK, SMOOTH, Estimate
from fdfast.verdict.drift import CLOSE, drift

FAR = CLOSE["float64"][0]
ONE = np.ones((1, 1))


def estimate(value: float, error: float = 1e-9, kind: int = SMOOTH) -> Estimate:
    return Estimate(
        value=value * ONE, error=error * ONE, right=ONE, left=ONE, kind=np.full((1, 1), kind, np.int8), step=ONE,
        base=np.ones(1), noise=np.ones(1), evaluations=1, refined=0, engine="", scale=np.ones(1),
    )  # fmt: skip


# What is seen by draw and distance, where the difference at x is 1 and the gradient says 2; and whether it jumps, or
# is steady.
CASES: dict[str, tuple[Callable[[int, float], Estimate], bool, bool]] = {
    "the same": (lambda draw, distance: estimate(1.0), False, True),
    "in proportion to the distance": (lambda draw, distance: estimate(1 + 3 * distance), False, True),
    "far off, but in proportion": (lambda draw, distance: estimate(1 + 3e3 * distance), False, True),
    "another value everywhere": (lambda draw, distance: estimate(2.0), True, False),
    "another value in one draw of four": (lambda draw, distance: estimate(1.0 + (draw == 2)), True, False),
    "kinks everywhere": (lambda draw, distance: estimate(1.0, kind=KINK), True, False),
    "kinks at the larger distance": (
        lambda draw, distance: estimate(1.0, kind=KINK if distance == FAR else SMOOTH),
        False,
        True,
    ),
    "too noisy": (lambda draw, distance: estimate(1.0, error=0.5), False, False),
    "noisy at the smaller distance": (
        lambda draw, distance: estimate(1.0, error=1e-6 / distance),
        False,
        True,
    ),
    "nothing seen": (lambda draw, distance: estimate(np.nan, error=np.inf, kind=2), True, False),
}


@pytest.mark.parametrize("case", CASES)
def test_drift(case: str) -> None:
    look, jumps, steady = CASES[case]
    found = drift(look, ONE, 1e-9 * ONE, ONE, 4, "float64")
    assert (found.jumps.tolist(), found.steady.tolist()) == ([[jumps]], [[steady]])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_draw_at_both_distances(dtype: str) -> None:
    seen: list[Any] = []

    def look(draw: int, distance: float) -> Estimate:
        seen.append((draw, distance))
        return estimate(1.0)

    drift(look, ONE, ONE, ONE, 3, dtype)
    assert seen == [(draw, distance) for distance in CLOSE[dtype] for draw in range(3)]
    # A sixteenth of a distance, and half of that, still move x by some units in its last place.
    assert min(CLOSE[dtype]) / 32 > 32 * np.finfo(dtype).eps
