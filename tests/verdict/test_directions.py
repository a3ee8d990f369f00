"""The look along random directions, and bisection, on derivatives whose errors are known by construction."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fdfast.moves import Directions
from fdfast.tape import STEP
from fdfast.verdict.directions import Directed, look

RNG = np.random.default_rng(0)
SHAPES = [(40, 50, 3), (7,), (300,), (1,), (24, 25)]


class Slopes:
    """Directional derivatives of a function with a known gradient, and rounding of a known size.

    Parameters
    ----------
    true : list of ndarray
    noise : float
        In units of one element's share, drawn anew for each derivative.
    """

    def __init__(self, true: list[np.ndarray], noise: float = 0.0, unit: float = 1.0, seed: int = 0) -> None:
        self.true, self.noise, self.rows = true, noise * unit, 0
        self._rng = np.random.default_rng(seed)

    def __call__(self, moved: Any, steps: Any) -> Any:
        exact = sum(
            (v * self.true[place]).reshape(len(v), -1).sum(1, dtype=np.longdouble) for place, v in moved.items()
        )
        self.rows += len(steps) * len(exact)
        value = np.repeat(np.asarray(exact, np.float64)[None], len(steps), 0)
        value = value + self.noise * self._rng.normal(size=value.shape)
        return SimpleNamespace(value=value, ties=[], crossings=[], subtracted=[], turns=[])


def gradients(shapes: Any = SHAPES, decades: int = 3) -> list[np.ndarray]:
    return [RNG.normal(size=shape) * 10.0 ** RNG.uniform(-decades, 0, shape) for shape in shapes]


def looked(
    claimed: Any, true: Any, *, noise: float = 1e-9, seed: int = 0, count: int = 2, beside: Any = None
) -> Directed:
    directions = Directions(claimed, seed)
    return look(Slopes(true, noise, directions.unit, seed), directions, count, beside)


def places(found: Directed) -> list[tuple[int, int]]:
    return sorted((one.place, one.index) for one in found.suspects)


@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-8, 1e-5])
@pytest.mark.parametrize("seed", range(50))
def test_a_right_gradient_is_never_accused(seed, noise):
    g = gradients()
    found = looked(g, g, noise=noise, seed=seed)
    assert (found.suspects, found.dense) == ([], [])
    assert not found.alarm
    assert found.rows <= 4 + 16  # two directions at two steps, and now and then eight more
    # Measured on two directions: within two orders of what it is, and never far below.
    assert found.tau <= 100 * max(noise, 1e-13)


@pytest.mark.parametrize("error", [1e-6, 1e-2, -2.0])
@pytest.mark.parametrize(("place", "index"), [(0, 0), (0, 5999), (0, 3001), (1, 6), (2, 150), (3, 0), (4, 599)])
def test_one_wrong_element_is_found_whatever_its_size(place, index, error):
    g = gradients()
    claimed = [one.copy() for one in g]
    claimed[place].flat[index] *= 1 + error
    found = looked(claimed, g)
    assert found.alarm
    assert places(found) == [(place, index)]
    assert found.suspects[0].numeric == pytest.approx(g[place].flat[index], rel=1e-8)  # of the noise, ten times
    assert found.suspects[0].analytic == claimed[place].flat[index]
    assert found.dense == []
    # Two groups a level, log2 of 7508 elements and of 5 arrays; 32 single ones to both sides.
    assert found.levels <= 17
    assert found.rows <= 4 + 12 + 2 * 17 + 64


def test_a_zero_that_should_be_none_is_found():
    g = gradients()
    claimed = [one.copy() for one in g]
    claimed[2][7] = 0.0
    found = looked(claimed, g)
    assert places(found) == [(2, 7)]
    # One that is small beside the largest counts less, in proportion: 1e-13 of it is below 1e-9 times 1e-9.
    claimed, true = [np.array([1.0, 0.0])], [np.array([1.0, 1e-19])]
    assert not looked(claimed, true).alarm
    true[0][1] = 1e-15
    assert places(looked(claimed, true)) == [(0, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_errors_that_cancel_are_found(seed):
    g = gradients()
    claimed = [one.copy() for one in g]
    chosen = [(0, 17), (0, 18), (0, 4000), (4, 3)]
    for sign, (place, index) in zip((1, -1, 1, -1), chosen, strict=True):
        claimed[place].flat[index] += sign * 0.01
    assert sum(one.sum() for one in claimed) == pytest.approx(sum(one.sum() for one in g), abs=1e-9)
    assert places(looked(claimed, g, seed=seed)) == sorted(chosen)


@pytest.mark.parametrize("many", [2, 5, 12])
def test_several_wrong_elements_are_all_found(many):
    g = gradients()
    claimed = [one.copy() for one in g]
    chosen = sorted((0, int(i)) for i in RNG.choice(6000, many, replace=False))
    for place, index in chosen:
        claimed[place].flat[index] *= 1.001
    found = looked(claimed, g)
    assert places(found) == chosen
    assert found.dense == []


@pytest.mark.parametrize("place", [0, 4])
def test_an_array_that_is_wrong_throughout_is_named_and_sampled(place):
    g = gradients()
    claimed = [one.copy() for one in g]
    claimed[place] *= 1.001
    found = looked(claimed, g)
    assert {at for group in found.dense for at in group.places} == {place}
    assert len(found.dense) > 16
    assert 16 < len(found.suspects) <= 48
    for one in found.suspects:
        assert one.analytic / one.numeric == pytest.approx(1.001, rel=1e-6)
    assert found.rows < 4 + 12 + 200


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_small_array_that_is_wrong_throughout_is_taken_apart(place):
    g = gradients()
    claimed = [one.copy() for one in g]
    claimed[place] = -claimed[place]
    assert places(looked(claimed, g)) == [(place, i) for i in range(g[place].size)]


def test_one_channel_is_told_apart():
    g = gradients([(20, 20, 3)])
    claimed = [g[0].copy()]
    claimed[0][..., 1] *= -1
    found = looked(claimed, g)
    wrong = [one for one in found.suspects if one.numeric * one.analytic < 0]
    assert len(wrong) > 16
    assert {int(np.unravel_index(one.index, (20, 20, 3))[2]) for one in wrong} == {1}
    # Channels come first in the order of a group: the second is elements 400 to 800, and a group has 37.
    assert all(400 - 37 < start < stop < 800 + 37 for group in found.dense for _, start, stop in group.parts)


def test_an_error_that_no_half_shows_is_sampled():
    # Two elements, each with an error of 0.9 tau: together beyond it now and then, none by itself.
    g = [np.ones(1000)]
    thin = 0
    for seed in range(200):
        directions = Directions(g, seed)
        slopes = Slopes(g, 1e-9, 1.0, seed)
        tau = look(slopes, directions, 2).tau
        claimed = [g[0].copy()]
        claimed[0][[0, 999]] += 0.9 * tau
        found = look(Slopes(g, 1e-9, 1.0, seed), Directions(claimed, seed), 2)
        if found.alarm and found.levels == 1:
            thin += 1
            assert len(found.dense) == 2
            assert found.suspects
    assert thin


def test_rounding_of_the_gradient_under_test_is_no_fault():
    """Differences are exact, the gradient is rounded: near the point it is rounded otherwise."""
    g = gradients()
    rounded = [(one * (1 + 1e-13 * RNG.normal(size=one.shape))) for one in g]

    def beside(moved: Any, distance: float, turn: int) -> Any:
        errors = [1e-13 * one * np.random.default_rng(turn + 7).normal(size=one.shape) for one in g]
        return sum((v * errors[place]).reshape(len(v), -1).sum(1) for place, v in moved.items())

    found = looked(rounded, g, noise=0.0, beside=beside)
    assert not found.alarm
    assert found.suspects == []
    # The control: the same gap, if it goes with the gradient, is one.
    gap = [a - b for a, b in zip(g, rounded, strict=True)]
    going = lambda v, *_: sum((one * gap[p]).reshape(len(one), -1).sum(1) for p, one in v.items())  # noqa: E731
    found = looked(rounded, g, noise=0.0, beside=going)
    assert found.alarm
    assert not found.only_here


def test_what_is_wrong_at_the_point_alone_is_told():
    g = gradients()
    claimed = [one.copy() for one in g]
    claimed[0].flat[5] *= 2
    found = looked(claimed, g, beside=lambda v, *_: np.zeros(len(v[0])))
    assert found.only_here
    assert places(found) == [(0, 5)]


class Tied(Slopes):
    """One element's slope to the left is another."""

    def __init__(self, true: Any, kink: float) -> None:
        super().__init__(true)
        self.kink = kink

    def __call__(self, moved: Any, steps: Any) -> Any:
        found = super().__call__(moved, steps)
        away = np.sign(steps)[:, None] * moved[0][None, :, 0]
        found.value = found.value + self.kink * np.abs(away) * np.sign(steps)[:, None]
        found.ties = [("pool", away != 0)]
        return found


def test_where_slopes_differ_by_side_nothing_is_judged():
    g = [np.array([1.0, 2.0, 3.0])]
    found = look(Tied(g, 0.5), Directions([np.array([1.0, 2.0, 4.0])], 0), 2)
    assert [name for name, _ in found.ties] == ["pool"]
    assert found.tau < 1e-12  # what parts the sides is no rounding
    assert (found.suspects, found.dense) == ([], [])


def test_ties_without_an_effect_are_none():
    g = [np.array([1.0, 2.0, 3.0])]
    assert look(Tied(g, 0.0), Directions(g, 0), 2).ties == []
    found = look(Tied(g, 0.0), Directions([np.array([1.0, 2.0, 4.0])], 0), 2)
    assert places(found) == [(0, 2)]


@pytest.mark.parametrize(("kink", "told"), [(1e-7, False), (1e-4, True), (0.5, True)])
def test_ties_far_below_the_tolerance_are_rounding(kink, told):
    g = [np.array([1.0, 2.0, 3.0])]
    found = look(Tied(g, kink), Directions([np.array([1.0, 2.0, 4.0])], 0), 2, rtol=1e-4)
    assert bool(found.ties) == told
    if not told:
        assert kink < found.tau < 100 * kink  # and no promise is made below that
        assert places(found) == [(0, 2)]


class Steep(Slopes):
    """A slope that grows as the step gets shorter: of a root, of a jump, or of nothing finite."""

    def __init__(self, true: Any, power: float) -> None:
        super().__init__(true)
        self.power = power

    def __call__(self, moved: Any, steps: Any) -> Any:
        found = super().__call__(moved, steps)
        with np.errstate(all="ignore"):
            size = np.abs(moved[0][None, :, 3]) * np.abs(np.asarray(steps))[:, None]
            steep = (
                np.where(size > 0, size**self.power, 0.0)
                if np.isfinite(self.power)
                else np.where(size > 0, np.nan, 0.0)
            )
            found.value = found.value + steep / np.asarray(steps)[:, None]
        return found


@pytest.mark.parametrize("power", [0.5, 0.0, np.nan], ids=["root", "jump", "not finite"])
def test_elements_without_a_finite_slope_are_found(power):
    g = gradients([(500,)])
    found = look(Steep(g, power), Directions(g, 0), 2)
    assert found.alarm
    assert places(found) == [(0, 3)]
    assert not abs(found.suspects[0].numeric) < 2.0**40


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_chance_of_a_miss_is_that_of_the_theorem(count):
    found = Directed(count, tau=1e-9, excess=0.0)
    assert found.chance(1e-4) == pytest.approx((4e-5) ** count)
    assert found.chance(1e-9) == 1.0
    assert found.chance(0.0) == 1.0  # rtol=0: an error of nothing is always missed
    assert Directed(count, tau=float("inf"), excess=0.0).chance(1e-4) == 1.0


def test_planted_errors_are_missed_no_more_often_than_the_theorem_says():
    """The worst case, two errors that cancel, at errors of ten times tau: the bound is 0.4, the truth 0.32."""
    n, trials, tau = 50, 4000, 1e-6
    g, missed = np.ones(n), 0
    delta = np.zeros(n)
    delta[[3, 40]] = 10 * tau, -10 * tau
    for seed in range(trials):
        v = Directions([g], seed).whole(1)[0][0]
        missed += abs(float(v @ delta)) <= 2 * tau
    rate = missed / trials
    assert rate <= 0.4
    # The prototype's 4 r - 8 r^2, r = 0.1, within five standard deviations.
    assert abs(rate - 0.32) < 5 * (0.32 * 0.68 / trials) ** 0.5
    # A lone one, never.
    assert all(abs(Directions([g], s).whole(1)[0][0, 3]) * 4.001 * tau > 2 * tau for s in range(200))


def test_the_step_is_short():
    assert STEP == 2.0**-100
