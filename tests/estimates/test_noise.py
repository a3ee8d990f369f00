"""The measured noise of f: recovered when it is there, not invented when it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fdfast.estimates.noise import (
    LINES,
    any_tiles,
    deviation,
    last_place,
    lines,
    moves,
    noise_but_for_a_kink,
    noise_of_line,
    pool,
)
from fdfast.moves.scheme import plan_steps
from fdfast.moves.tiling import make_tiling

ROWS = 8
PLACE = np.full(1, 1e-16)


@pytest.mark.parametrize("sigma", [1e-9, 1.0, 300.0])
@pytest.mark.parametrize("n", [6, 9, 40])
def test_white_noise_on_a_line(n: int, sigma: float) -> None:
    slope = np.arange(n) * sigma * 1e3  # hides under no straight line
    sd = noise_of_line(slope + np.random.default_rng(0).normal(0, sigma, (2000, n)))
    # The mean square of 2,000 lines is right to 3 %.
    assert np.sqrt((sd**2).mean()) == pytest.approx(sigma, rel=0.05)
    # A single line of 9 values has few degrees of freedom; the median of several is right to 30 %.
    if n >= 9:
        several = np.median(sd.reshape(-1, 8), axis=1)
        assert np.mean(abs(several / sigma - 1) < 0.3) > 0.8


SMOOTH: list[tuple[str, Callable[[Any], Any]]] = [
    ("constant", np.ones_like),
    ("line", lambda t: 5 - 3 * t),
    ("cubic", lambda t: t**3 - 2 * t),
    ("exp", np.exp),
    ("sine", lambda t: np.sin(9 * t)),
    ("root", lambda t: np.sqrt(0.1 + t)),
]


@pytest.mark.parametrize("f", [s[1] for s in SMOOTH], ids=[s[0] for s in SMOOTH])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_smooth_functions_show_the_last_place_only(f: Callable[[Any], Any], dtype: Any) -> None:
    h = 2.0**-17 if dtype is np.float64 else 2.0**-8
    values = f(np.arange(9) * dtype(h / 8)).astype(dtype)
    assert noise_of_line(values[None].astype(np.float64))[0] <= 2 * last_place(abs(values).max(), dtype)


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.55, 0.9])
def test_a_kink_is_no_noise(at: float) -> None:
    t = np.arange(9) / 8
    kink = (2 * t + np.maximum(t - at, 0))[None]
    assert noise_of_line(kink)[0] > 0.001  # the control
    assert noise_but_for_a_kink(kink)[0] < 1e-15  # the last place of 3
    assert deviation(np.repeat(kink[:, 1:], LINES, axis=0), PLACE)[0] < 1e-15
    # Noise beside it is seen, by the few differences that are left; on average over many draws.
    noisy = kink + 1e-6 * np.random.default_rng(0).normal(0, 1, (2000, 9))
    assert np.sqrt((noise_but_for_a_kink(noisy) ** 2).mean()) == pytest.approx(1e-6, rel=0.1)


@pytest.mark.parametrize("at", range(1, 9))
def test_a_step_is_noise(at: int) -> None:
    """The quantum of a quantised f, wherever on the line it falls, to a factor of 20."""
    values = (np.arange(9) >= at).astype(np.float64)
    assert deviation(np.tile(values[1:], (LINES, 1)), PLACE)[0] > 0.05


def line_values(f: Callable[[Any], Any], examples: int = 1) -> Any:
    t = np.arange(1, ROWS + 1) / ROWS
    return np.stack([f(t, k) for k in range(LINES * examples)]).reshape(-1, 2)


def test_deviation_is_the_second_smallest() -> None:
    noise = np.random.default_rng(1).normal(0, 1, (LINES, ROWS))
    values = line_values(lambda t, k: 10.0**k * noise[k])
    expected = np.sort(noise_of_line(np.pad(values.reshape(LINES, ROWS), ((0, 0), (1, 0)))))[1]
    assert deviation(values, PLACE)[0] == expected


def test_deviation_leaves_out_still_lines_flickers_and_holes() -> None:
    noise = np.random.default_rng(1).normal(0, 1e-3, ROWS)
    one = deviation(line_values(lambda t, k: noise if k == 2 else 0 * t), PLACE)
    assert one[0] == noise_of_line(np.pad(noise, (1, 0))[None])[0]
    flicker = np.array([1e-16, -4e-16] * 4)
    assert deviation(line_values(lambda t, k: noise if k == 2 else flicker), PLACE)[0] == one[0]
    assert deviation(line_values(lambda t, k: noise if k == 2 else np.nan * t), PLACE)[0] == one[0]
    assert np.isnan(deviation(line_values(lambda t, k: flicker), PLACE)[0])
    assert moves(np.array([4.1e-16, -4.1e-16, 4e-16, np.nan]), PLACE).tolist() == [True, True, False, False]


def test_deviation_by_example() -> None:
    noise = np.random.default_rng(1).normal(0, 1, (2 * LINES, ROWS))
    noise[LINES:] *= 100
    both = deviation(noise.reshape(-1, 2), np.full(2, 1e-16))
    assert both[0] == deviation(noise[:LINES].reshape(-1, 2), PLACE)[0]
    assert both[1] == deviation(noise[LINES:].reshape(-1, 2), PLACE)[0]


def test_pool_takes_the_stencils_within_a_factor_of_the_lines() -> None:
    fourth = np.sqrt(70) * np.random.default_rng(0).normal(0, 1, (400, 100))
    base = np.ones(400)
    # The quartile of 100 draws scatters by 15 %.
    pooled = pool(np.full(400, 0.5), fourth, base, np.float64)
    assert np.median(pooled) == pytest.approx(1, rel=0.05)
    assert pooled.std() < 0.2
    # Nearly three quarters of kinks, or of tiles where f does not move, change little.
    spoilt = fourth.copy()
    spoilt[:, 30:] = 1e6
    assert (pool(np.full(400, 0.5), spoilt, base, np.float64) <= 1.5).all()
    spoilt[:, 30:] = np.nan
    assert np.median(pool(np.full(400, 0.5), spoilt, base, np.float64)) == pytest.approx(1, rel=0.1)
    assert (pool(np.full(400, 2.0), fourth, base, np.float64) == 2).all()
    np.testing.assert_allclose(pool(np.full(400, 0.1), fourth, base, np.float64), 0.3)


@pytest.mark.parametrize(("dtype", "place"), [(np.float32, 2.0**-23), (np.float64, 2.0**-52)])
def test_pool_knows_the_last_place(dtype: Any, place: float) -> None:
    nothing = np.full((1, 3), np.nan)
    assert pool(np.zeros(1), np.zeros((1, 3)), np.ones(1), dtype)[0] == place / 4
    assert pool(np.zeros(1), np.zeros((1, 3)), np.full(1, -1000.0), dtype)[0] == 512 * place / 4
    assert pool(np.zeros(1), np.zeros((1, 3)), np.full(1, 1e-3), dtype)[0] < place / 1000
    # A saturated loss: next to nothing, and stuck there.
    assert pool(np.full(1, np.nan), nothing, np.full(1, 1e-7), dtype)[0] == place / 4
    # No stencil tells anything: the upper end of what the lines allow.
    assert pool(np.full(1, 0.5), nothing, np.ones(1), dtype)[0] == 1.5


def test_lines() -> None:
    x = np.array([[0.0, 1.0, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]])
    steps = plan_steps(x, make_tiling((4,), 2), h=0.125, bounds=(0, 1))
    tile = np.array([[0, 1, 1, 0], [1, 0, 0, 1]])
    pairs = lines(tile, np.array([0, 1]), steps)
    assert len(pairs) == 2 * LINES * ROWS // 2
    np.testing.assert_array_equal(pairs.tile, np.repeat(tile.ravel(), ROWS // 2))
    # Tile 0 of example 0 touches both bounds: its lines start at the moved centre, row 2.
    np.testing.assert_array_equal(pairs.point, np.repeat([2, 0, 0, 2, 1, 1, 1, 1], ROWS // 2))
    step = pairs.step.reshape(2, LINES, ROWS)
    for k, (side, length) in enumerate([(1, 0.125), (-1, 0.125), (-1, 0.0625), (1, 0.0625)]):
        np.testing.assert_array_equal(step[1, k], side * length * np.arange(1, ROWS + 1) / ROWS)
    np.testing.assert_array_equal(lines(tile[:1], np.array([0]), steps, 4.0).step, 4 * pairs.step[:16])


@pytest.mark.parametrize("tiles", [1, 2, 3, 4, 784])
def test_any_tiles(tiles: int) -> None:
    drawn = any_tiles(3, tiles, np.random.default_rng(0))
    assert drawn.shape == (3, LINES)
    assert (drawn == drawn[0]).all(), "depends on what an example is looked at together with"
    assert len(set(drawn[0])) == min(LINES, tiles)
    assert drawn.min() >= 0
    assert drawn.max() < tiles
