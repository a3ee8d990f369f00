"""Estimates from values alone: right on average, and as far off as they say, against gradients known by hand."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest
from masked_models import build, examples

import fdfast
from fdfast.attack import estimate, estimators
from fdfast.attack.measures import cosines

SEEDS = 1000
SIZE = 12
_RNG = np.random.default_rng(5)
SLOPE, BEND = _RNG.normal(size=SIZE), _RNG.normal(size=SIZE)
X = _RNG.uniform(0.2, 0.8, (1, SIZE))
#: Of f(x) = slope.x + bend.x^2 / 2. A central difference of a parabola is its slope at any step, so that the smoothed
#: gradient is the gradient itself.
TRUE = SLOPE + BEND * X[0]


def parabola(rows: Any) -> Any:
    return np.asarray(rows) @ SLOPE + np.asarray(rows) ** 2 @ BEND / 2


CASES: dict[str, tuple[Any, Any]] = {
    "coordinate": ({"queries": 8}, TRUE),
    "tile": ({"queries": 4, "tile": 3}, np.repeat(TRUE.reshape(-1, 3).mean(axis=1), 3)),
    "spsa": ({"queries": 16}, TRUE),
    "nes": ({"queries": 16}, TRUE),
    "directions": ({"queries": 16}, TRUE),
}


@pytest.mark.parametrize("method", CASES)
def test_the_mean_over_seeds_is_the_gradient_and_the_standard_error_is_right(method: Any) -> None:
    given, true = CASES[method]
    found = [
        estimate(parabola, X, method=method, h=0.01, seed=s, bounds=None, **given) for s in range(6 * SEEDS, 7 * SEEDS)
    ]
    gradients = np.stack([one.gradient[0] for one in found])
    spread = gradients.std(axis=0, ddof=1)
    # The scale: how much of the gradient the mean has, within two of its standard errors; 19 of 20 sets of seeds are.
    along = gradients @ true / (true @ true)
    assert abs(along.mean() - 1) < 2 * along.std(ddof=1) / np.sqrt(SEEDS)
    # Every element: of twelve the largest of that many normal numbers stays below 3.5 but for one case in 180.
    assert (np.abs(gradients.mean(axis=0) - true) < 3.5 * spread / np.sqrt(SEEDS)).all()
    said = np.sqrt(np.mean([one.standard_error[0] ** 2 for one in found], axis=0))
    assert np.sqrt((said**2).sum() / (spread**2).sum()) == pytest.approx(1, abs=0.1)
    assert {one.queries for one in found} == {given["queries"]}


def test_a_wrong_scale_would_be_seen() -> None:
    given, true = CASES["spsa"]
    found = np.stack(
        [estimate(parabola, X, h=0.01, seed=s, bounds=None, **given).gradient[0] for s in range(6 * SEEDS, 7 * SEEDS)]
    )
    along = 1.1 * found @ true / (true @ true)
    assert abs(along.mean() - 1) > 2 * along.std(ddof=1) / np.sqrt(SEEDS)


@pytest.mark.parametrize(("method", "tile"), [("coordinate", 1), ("tile", 3)])
def test_all_tiles_are_the_gradient_without_an_error_of_sampling(method: Any, tile: int) -> None:
    found = estimate(parabola, X, method=method, tile=tile, queries=10 * SIZE, h=0.01, bounds=None)
    expected = np.repeat(TRUE.reshape(-1, tile).mean(axis=1), tile)
    # float64: rounding of values of order one over a step of 0.01.
    np.testing.assert_allclose(found.gradient[0], expected, atol=1e-12)
    assert not found.standard_error.any()
    assert found.queries == 2 * SIZE // tile


@pytest.mark.parametrize("method", ["coordinate", "spsa", "nes", "directions"])
def test_a_model_s_margin_is_what_is_estimated(method: Any) -> None:
    model = build(scale=3.0)
    x, y = examples(model, 2)
    found = estimate(model, x, y, method=method, queries=2000)
    true = fdfast.gradient(model, x, y=y)
    # The cross-entropy's gradient is the margin's, times a number of each example. 1000 directions of 36 elements
    # leave an angle of sqrt(36 / 1000): cosine 0.98.
    assert (cosines(found.gradient, true) > 0.95).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": 3}, "queries must be at least 4"),
        ({"method": "guess"}, "method must be one of"),
        ({"h": 0.0}, "h must be finite and greater than 0"),
        ({"bounds": (0, 0.1)}, "lies outside the bounds"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], message: str) -> None:
    before = X.tobytes()
    with pytest.raises(ValueError, match=message):
        estimate(parabola, X, **change)
    assert X.tobytes() == before


def test_the_example_of_the_docstring() -> None:
    found = doctest.testmod(estimators)
    assert found.attempted > 0
    assert found.failed == 0
