"""The claims of the stencil: exact where it says so, a bar that covers, a jump only at the point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdfast.estimates.stencil import SIGMAS, Search, Stencil, stencil, third_differences

H = 2.0**-10
# Larger and smaller step, both sides, in units of h.
CENTRAL = np.array([[1.0, -1.0], [0.5, -0.5]])
FORWARD = np.array([[1.0, 2.0], [0.5, 1.5]])
SCHEMES = {"central": CENTRAL, "forward": FORWARD, "backward": -FORWARD}
each_scheme = pytest.mark.parametrize("scheme", list(SCHEMES))
nonzero = st.floats(0.1, 10).flatmap(lambda v: st.sampled_from([v, -v]))


def look(f: Callable[[Any], Any], scheme: str = "central", h: float = H, sigma: float = 0.0) -> Stencil:
    """Stencil at 0 of one function, or of several as rows."""
    moved = SCHEMES[scheme] * h
    delta = np.asarray(f(moved) - f(np.zeros_like(moved)), np.float64)
    delta = delta.reshape(-1, 2, 2)
    return stencil(delta, np.broadcast_to(moved, delta.shape), np.full(len(delta), sigma))


@each_scheme
@settings(max_examples=40)
@given(st.lists(st.floats(-9, 9), min_size=4, max_size=4))
def test_value_is_exact_for_cubics(scheme: str, c: list[float]) -> None:
    s = look(lambda t: c[0] + t * (c[1] + t * (c[2] + t * c[3])), scheme)
    # f is rounded to 18 * 2^-53, which is divided by h = 2^-10 and amplified 6 times.
    assert s.value[0] == pytest.approx(c[1], rel=0, abs=1e-11)


def test_value_is_not_exact_for_fourth_powers_on_one_side() -> None:
    """A control: the rows of a side do see the fourth power, symmetric ones do not."""
    assert look(lambda t: t**4, "central").value[0] == 0
    assert look(lambda t: t**4, "forward").value[0] == pytest.approx(1.2 * H**3, rel=1e-9)


@each_scheme
@settings(max_examples=40)
@given(*[st.floats(-9, 9)] * 3)
def test_parabolas_do_not_bend(scheme: str, a: float, b: float, c: float) -> None:
    s = look(lambda t: a + t * (b + t * c), scheme, sigma=18 * 2.0**-53)
    assert s.bend[0] < 1e-10  # the rounding of f, as above, with the weights of the bend
    assert not s.jump[0]


@each_scheme
def test_slopes(scheme: str) -> None:
    s = look(lambda t: 3 * t + 5 * t * t, scheme)
    right, left = 3 + 5 * H / 2, 3 - 5 * H / 2
    # Exact in binary up to the last place.
    np.testing.assert_allclose(s.right, np.nan if scheme == "backward" else right, rtol=1e-12)
    np.testing.assert_allclose(s.left, np.nan if scheme == "forward" else left, rtol=1e-12)


@settings(max_examples=40)
@given(st.floats(1e-6, 1), nonzero, st.floats(-9, 9), st.sampled_from([1, -1]))
def test_bar_covers_a_kink_anywhere_within_the_step(u: float, jump: float, slope: float, side: int) -> None:
    s = look(lambda t: slope * t + jump * np.maximum(side * t - u * H, 0))
    # One and a half times, as promised; 1e-9 is the rounding of the slopes.
    assert abs(s.value[0] - slope) * 1.5 <= s.error[0] + 1e-9
    # A kink further than 0.08 h from the point is not taken for one at the point.
    assert s.jump[0] == (u <= 0.0769) or 0.0768 < u < 0.077


def test_bar_equals_the_docstring() -> None:
    u = np.linspace(0, 1, 101)[:, None, None]
    s = stencil(np.maximum(CENTRAL - u, 0) * H, np.broadcast_to(CENTRAL * H, (101, 2, 2)), np.zeros(101))
    u = u.ravel()
    difference = np.where(u <= 0.5, u / 2, (1 - u) / 2)
    jump = np.where(u <= 0.5, 1 - 3 * u, u - 1)
    np.testing.assert_allclose(s.error, difference + 0.75 * abs(jump), atol=1e-12)  # rounding of f over h
    np.testing.assert_allclose(abs(s.value), np.where(u <= 0.5, abs(3 - 7 * u) / 6, (1 - u) / 6), atol=1e-12)


@pytest.mark.parametrize("scheme", ["forward", "backward"])
@settings(max_examples=40)
@given(v=st.floats(1e-6, 4), jump=nonzero, slope=st.floats(-9, 9))
def test_bar_covers_a_kink_on_the_one_side(scheme: str, v: float, jump: float, slope: float) -> None:
    side = 1 if scheme == "forward" else -1
    s = look(lambda t: slope * t + jump * np.maximum(side * t - v * H / 2, 0), scheme)
    assert not s.jump[0]
    if v >= 0.28:
        assert abs(s.value[0] - slope) <= s.error[0] + 1e-9
    else:  # nearer, the slope beyond the kink is the one that the bar covers
        assert abs(s.value[0] - slope - side * jump) <= s.error[0] + 1e-9


SMOOTH: dict[str, tuple[Callable[[Any], Any], float]] = {
    "exp": (np.exp, 1.0),
    "sin at its maximum": (np.cos, 0.0),
    "square": (lambda t: t * t, 0.0),
    "cube": (lambda t: t**3, 0.0),
    "fast sine": (lambda t: np.sin(300 * t), 300.0),
    "tanh, shifted": (lambda t: np.tanh(9 * t + 0.3), 9 / np.cosh(0.3) ** 2),
    "root": (lambda t: np.sqrt(4 * H + t), 0.25 / np.sqrt(H)),
    "pole": (lambda t: 1 / (3 * H + t), -1 / (9 * H * H)),
}


@each_scheme
@pytest.mark.parametrize("name", list(SMOOTH))
def test_bar_covers_smooth_functions_and_sees_no_jump(name: str, scheme: str) -> None:
    f, slope = SMOOTH[name]
    if scheme == "backward":
        f, slope = (lambda t, f=f: f(-t)), -slope
    s = look(f, scheme, sigma=2.0**-53 * float(np.abs(f(np.zeros(1)))[0]))
    assert abs(s.value[0] - slope) <= s.error[0]
    assert not s.jump[0]


@pytest.mark.parametrize("curvature", [0.0, 3.0, -50.0])
@settings(max_examples=40)
@given(jump=nonzero, slope=st.floats(-9, 9))
def test_jump_at_the_point(curvature: float, jump: float, slope: float) -> None:
    s = look(lambda t: slope * t + curvature * t * t + jump * np.maximum(t, 0))
    # Curvature shifts the slopes by h/2 of it. Above a tenth of the jump, a smaller step has to tell.
    assert s.jump[0] == (abs(curvature) * H / 2 < 0.1 * abs(jump))
    assert s.right[0] - s.left[0] == pytest.approx(jump, abs=abs(curvature) * H + 1e-9)
    assert s.bend[0] == pytest.approx(0.75 * abs(jump), abs=1e-9)
    # Under noise that could make it, it is not claimed.
    assert not look(lambda t: jump * np.maximum(t, 0), sigma=abs(jump) * H / 40).jump[0]


@each_scheme
def test_noise_of_the_value(scheme: str) -> None:
    rng = np.random.default_rng(0)
    draws, sigma = 40_000, 0.25
    base, rows = rng.normal(0, sigma, (draws, 1, 1)), rng.normal(0, sigma, (draws, 2, 2))
    s = stencil(rows - base, np.broadcast_to(SCHEMES[scheme] * H, rows.shape), np.full(draws, sigma))
    # The standard deviation of 40,000 draws is right to 0.4 %; the formula has two figures.
    assert s.value.std() == pytest.approx(s.noise[0], rel=0.02)
    # A normal variable leaves 4 sigma once in 16,000; the bar also holds the bend, so never here.
    assert (abs(s.value) <= s.error).all()
    assert s.bent.mean() < 1 / 3000
    assert not s.jump.any()
    fourth = np.diff(third_differences(rows - base, np.broadcast_to(SCHEMES[scheme] * H, rows.shape)))
    assert fourth.std() == pytest.approx(np.sqrt(70) * sigma, rel=0.02)


def test_uneven_displacements() -> None:
    """Rounding of x + h does not enter: rows are where `moved` says."""
    for scheme in SCHEMES.values():
        moved = (scheme * H * np.array([[1.001, 0.9993], [0.9991, 1.0007]]))[None]
        s = stencil(7 * moved, moved, np.zeros(1))
        assert s.value[0] == pytest.approx(7, rel=1e-13)  # a few roundings
        assert s.error[0] < 1e-11
        # f'' times the unevenness, 2e-3 h, is what is left of a parabola on symmetric rows.
        s = stencil(7 * moved + 3 * moved**2, moved, np.zeros(1))
        assert abs(s.value[0] - 7) <= 1e-12 + s.error[0] <= 1e-12 + 3 * 4e-3 * H


def test_not_finite_rows_give_an_infinite_bar() -> None:
    for bad in (np.nan, np.inf, -np.inf):
        delta = np.array([[[1.0, bad], [0.5, -0.5]]]) * H
        s = stencil(delta, (CENTRAL * H)[None], np.zeros(1))
        assert s.error[0] == np.inf
        assert s.bent[0]
        assert not s.jump[0]


def one(bend: float, noise: float, jump: bool = False, value: float = 1.0) -> Stencil:
    error = SIGMAS * noise + bend if np.isfinite(bend) else np.inf
    arrays = (np.array([v]) for v in (value, error, value, value, bend, noise))
    return Stencil(*arrays, np.array([jump]))


def walk(
    looks: Callable[[float], Stencil], floor: float = 2.0**-20, ceiling: float = 2.0**20
) -> tuple[Any, list[float]]:
    search, scales = Search(looks(1.0)), [1.0]
    while search.undecided(np.zeros(1))[0] and len(scales) < 20:
        scale = search.next(np.full(1, floor), np.full(1, ceiling))
        if np.isnan(scale[0]):
            break
        scales.append(float(scale[0]))
        search.take(np.array([0]), scale, looks(float(scale[0])))
    return search, scales


def test_search_steps_down_while_bent_up_while_noisy_then_in_between() -> None:
    # Truncation h^2 against noise 1e-6 / h: the bar is least near h = 1e-2.
    _, down = walk(lambda h: one(h * h, 1e-6 / h))
    assert down[:3] == [1, 1 / 16, 1 / 256]
    assert down[3] == 1 / 64
    _, up = walk(lambda h: one((h / 100) ** 2, 1e-4 / h))
    assert up[:3] == [1, 16, 4]
    for search, scales in (walk(lambda h: one(h * h, 1e-6 / h)), walk(lambda h: one((h / 100) ** 2, 1e-4 / h))):
        assert search.smooth(np.zeros(1))[0]
        assert len(set(scales)) == len(scales)


def test_search_stays_within_its_range() -> None:
    assert walk(lambda h: one(1.0, 0.0), floor=1 / 100)[1] == [1, 1 / 16, 1 / 64]
    assert walk(lambda h: one(0.0, 1.0), ceiling=100)[1] == [1, 16, 64]
    assert walk(lambda h: one(0.0, 1.0), ceiling=0.5)[1] == [1]
    assert walk(lambda h: one(1.0, 0.0), floor=2.0)[1] == [1]


def test_search_leaves_a_hole_in_the_domain_faster() -> None:
    search, scales = walk(lambda h: one(np.nan if h > 1e-3 else 0.0, 1e-9 / h), ceiling=1)
    assert scales[:3] == [1, 1 / 256, 2.0**-16]
    assert np.isfinite(search.best.error[0])
    assert search.smooth(np.zeros(1))[0]


def test_search_ends_at_a_jump() -> None:
    search, scales = walk(lambda h: one(0.75, 0.0, jump=True))
    assert scales == [1]
    assert not search.smooth(np.zeros(1))[0]


def test_search_keeps_a_jump_only_of_the_smallest_step() -> None:
    # Smooth at 1, whatever the noise; at 16 a kink next to the point looks like one at the point.
    search, _ = walk(lambda h: one(0.75, 0.1 / h, jump=True) if h > 1 else one(0.0, 0.1 / h))
    assert not search.best.jump[0]
    assert search.scale[0] <= 4
    search, _ = walk(lambda h: one(0.75, 1e-3, jump=True) if h < 1 else one(0.6, 0.0))
    assert search.best.jump[0]
    assert search.scale[0] == 1 / 16


def test_search_calls_a_bend_that_stays_unresolved() -> None:
    search, _ = walk(lambda h: one(0.75, 1e-3))
    assert not search.smooth(np.zeros(1))[0]
    assert search.smooth(np.ones(1))[0]  # unless the bar is narrow enough for the purpose


def test_search_leaves_a_flat_function_alone() -> None:
    flat = one(0.0, 1.0, value=0.0)
    assert walk(lambda h: flat)[1] == [1]
