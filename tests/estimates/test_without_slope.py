"""Where f has no finite slope, and where it only looks so: kinks, noise, curvature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from oracle import RowEngine, hashed

from fdfast.estimates import JUMP, NOTHING, STEEP, UNDEFINED, breaks
from fdfast.moves.scheme import plan_steps
from fdfast.moves.tiling import make_tiling

Array = Any


def root(t: Array) -> Array:
    return np.sqrt(np.abs(t))


def log(t: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.where(t == 0, 0, t * np.log(np.abs(t)))


# f of one number, the point, what keeps it from having a slope, size of the jump
CASES: dict[str, tuple[Callable[[Array], Array], float, int, float]] = {
    "smooth": (np.sin, 0.3, NOTHING, 0),
    "smooth, at zero": (np.exp, 0.0, NOTHING, 0),
    "a parabola's bottom": (np.square, 0.0, NOTHING, 0),
    "flat": (lambda t: 0 * t, 0.0, NOTHING, 0),
    "steep but finite": (lambda t: 1e4 * t, 0.0, NOTHING, 0),
    "kink": (np.abs, 0.0, NOTHING, 0),
    "bend that is no kink": (lambda t: np.abs(t) ** 1.5, 0.0, NOTHING, 0),
    "kink beside": (lambda t: np.abs(t - 1e-5), 0.0, NOTHING, 0),
    "jump beside": (lambda t: np.floor(t), 0.5, NOTHING, 0),
    "root": (root, 0.0, STEEP, 0),
    "root on one side": (lambda t: np.sqrt(np.maximum(t, 0)), 0.0, STEEP, 0),
    "cube root": (np.cbrt, 0.0, STEEP, 0),
    "t log t": (log, 0.0, STEEP, 0),
    "floor": (np.floor, 1.0, JUMP, 1.0),
    "sign": (lambda t: 0.25 * np.sign(t), 0.0, JUMP, 0.25),
    "another value at the point": (lambda t: np.where(t == 0, 3.0, 1.0), 0.0, JUMP, 2.0),
    "no left side": (np.sqrt, 0.0, UNDEFINED, 0),
    "no right side": (np.arccos, 1.0, UNDEFINED, 0),
    "no left side, but a slope": (lambda t: np.power(t, 2.5), 0.0, UNDEFINED, 0),
}


def found(f: Callable[[Array], Array], x: float, dtype: str, bounds: Any = None, noise: float = 1e-16) -> Any:
    """Of two tiles: this one, and one along which f is sin."""
    points = np.array([[x, 0.7]], dtype)
    tiling = make_tiling((2,))
    steps = plan_steps(points, tiling, bounds=bounds)

    def rows(values: Array) -> Array:
        with np.errstate(all="ignore"):
            return (f(values[:, 0].astype(float)) + np.sin(values[:, 1].astype(float))).astype(dtype)

    wanted = np.ones((1, 2), bool)
    return breaks(RowEngine(rows, tiling), points, steps, tiling, wanted, np.array([noise]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_breaks(case: str, dtype: str) -> None:
    f, x, reason, size = CASES[case]
    if (case, dtype) == ("t log t", "float32"):
        reason = NOTHING  # a logarithm grows too slowly for seven digits: the tile stays unresolved
    seen = found(f, x, dtype, noise=1e-16 if dtype == "float64" else 1e-7)
    assert seen.reason.tolist() == [[reason, NOTHING]]
    # Beside the jump f may rise a little within the smallest step, 1e-6 in float32.
    assert seen.size[0, 0] == pytest.approx(size, abs=1e-5)


@pytest.mark.parametrize(
    ("case", "bounds", "reason"),
    [
        ("no left side", (0.0, 4.0), STEEP),
        ("no left side, but a slope", (0.0, 4.0), NOTHING),
        ("no right side", (0.0, 1.0), STEEP),
        ("root on one side", (-4.0, 0.7), STEEP),
    ],
)
def test_bounds_forbid_a_side(case: str, bounds: Any, reason: int) -> None:
    f, x, _, _ = CASES[case]
    assert found(f, x, "float64", bounds).reason[0, 0] == reason


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_break(seed: int) -> None:
    def noisy(t: Array) -> Array:
        return 1e-9 * hashed(np.stack([t + seed, t], axis=1))

    assert found(noisy, 0.3, "float64", noise=6e-10).reason.tolist() == [[NOTHING, NOTHING]]


def test_only_what_is_wanted_is_looked_at() -> None:
    points, tiling = np.zeros((2, 3)), make_tiling((3,))
    steps = plan_steps(points, tiling)
    engine = RowEngine(lambda rows: root(rows).sum(axis=1), tiling)
    wanted = np.array([[True, False, False], [False, False, True]])
    seen = breaks(engine, points, steps, tiling, wanted, np.full(2, 1e-16))
    np.testing.assert_array_equal(seen.reason, np.where(wanted, STEEP, NOTHING))
    assert breaks(engine, points, steps, tiling, np.zeros((2, 3), bool), np.full(2, 1e-16)).evaluations == 0
