"""Directions over several arrays: every element counts alike, halves are a partition, channels come first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdfast.moves import Directions, Group
from fdfast.moves.directions import FLOOR

RNG = np.random.default_rng(0)
SHAPES = [(3, 4, 2), (5,), (), (2, 3)]


def gradients():
    return [RNG.normal(size=shape) * 10.0 ** RNG.integers(-3, 4, shape) for shape in SHAPES]


@pytest.fixture
def made():
    return Directions(gradients(), seed=3)


def test_every_element_counts_alike_and_none_moves_by_more_than_one():
    # Scaling the gradient changes no share: the direction is the inverse of it, and longest where it is least.
    g = gradients()
    for scale in (1.0, 2.0**600, 2.0**-600):
        made = Directions([scale * one for one in g], seed=3)
        v = made.whole(2)
        shares = np.concatenate([np.abs(v[i] * scale * one).reshape(2, -1) for i, one in enumerate(g)], axis=1)
        assert (shares >= 0.5 * made.unit * (1 - 1e-15)).all()  # rounded by a division and a product
        assert (shares <= made.unit * (1 + 1e-15)).all()
        assert 0.5 <= max(np.abs(one).max() for one in v.values()) <= 1
        assert made.low == FLOOR * scale * max(np.abs(one).max() for one in g)


def test_zeros_move_as_what_lies_at_the_floor():
    g = np.array([0.0, -0.0, 1e-12, 1.0])
    made = Directions([g], seed=0)
    v = np.abs(made.whole(3)[0])
    assert (v[:, :3] >= 0.5).all()
    assert (v[:, 3] <= FLOOR).all()
    # An error of 1e-9 of the largest gradient weighs there what a relative error of 1 weighs elsewhere.
    assert made.weights(0).tolist() == [FLOOR / 1e-300, FLOOR / 1e-300, pytest.approx(1e3), 1.0]


@pytest.mark.parametrize("g", [np.zeros((2, 3)), np.zeros(1)])
def test_a_gradient_of_zeros_has_directions(g):
    made = Directions([g], seed=0)
    v = made.whole(1)[0]
    assert made.unit == made.low == 1.0
    assert (np.abs(v) >= 0.5).all()


def test_no_elements_and_no_arrays():
    made = Directions([np.empty((0, 3)), np.ones(2)], seed=0)
    assert made.everything() == Group(((1, 0, 2),))
    assert made.whole(2)[0].shape == (2, 0, 3)


def test_directions_are_fresh_and_the_same_again(made):
    again = Directions(made.gradients, seed=3)
    for place in range(len(SHAPES)):
        assert made.whole(2)[place].tolist() == again.whole(2)[place].tolist()
        # The third and fourth are those that follow.
        assert made.whole(4)[place][2:].tolist() == made.whole(2, 2)[place].tolist()
    drawn = [made.whole(1)[0], made.whole(1, 1)[0], Directions(made.gradients, seed=4).whole(1)[0]]
    group = [made.everything()]
    drawn += [made.of(group, 0)[0], made.of(group, 1)[0]]
    signs = {tuple(np.sign(one).ravel()) for one in drawn}
    assert len(signs) == len(drawn)  # 24 signs each: chance of two alike 6e-7
    # Arrays of one size do not get one another's.
    twins = Directions([np.ones(40), np.ones(40)], seed=0).whole(1)
    assert not np.array_equal(twins[0], twins[1])


def test_held_elements_do_not_move():
    held = [RNG.random(shape) < 0.5 for shape in SHAPES[:2]]
    made = Directions(gradients()[:2], 1, held)
    drawn = [made.whole(3), made.of([made.everything()] * 2, 5)]
    for v in drawn:
        for place, mask in enumerate(held):
            assert not v[place][:, mask].any()
            assert (v[place][:, ~mask] != 0).all()
    found = made.elements(made.everything())
    assert sorted(found) == sorted((p, int(i)) for p, mask in enumerate(held) for i in np.flatnonzero(~mask))


@given(st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=4))
def test_halves_are_a_partition_down_to_single_elements(shapes):
    made = Directions([np.ones(shape) for shape in shapes], seed=0)
    waiting, met = [made.everything()], []
    while waiting:
        group = waiting.pop()
        assert len(group) == len(made.elements(group))
        if len(group) > 1:
            halves = group.halves()
            assert sum(map(len, halves)) == len(group)
            # None is empty where arrays are parted, and within one none is twice the other.
            assert all(len(half) for half in halves)
            waiting += halves
        else:
            met += made.elements(group)
    assert sorted(met) == [(p, i) for p, shape in enumerate(shapes) for i in range(int(np.prod(shape)))]


def test_channels_are_parted_before_places_within_one():
    made = Directions([np.ones((3, 5, 2))], seed=0)
    first, second = made.everything().halves()
    index = [np.unravel_index([i for _, i in made.elements(half)], (3, 5, 2))[2] for half in (first, second)]
    assert set(index[0]) == {0}
    assert set(index[1]) == {1}


def test_a_direction_of_a_group_is_zero_outside_and_has_the_shares_inside(made):
    groups = [half for group in made.everything().halves() for half in group.halves()]
    v = made.of(groups, turn=0)
    for k, group in enumerate(groups):
        inside = set(made.elements(group))
        for place, one in v.items():
            moves = {(place, int(i)) for i in np.flatnonzero(one[k])}
            assert moves == {at for at in inside if at[0] == place}
            share = np.abs(one[k] * np.maximum(np.abs(made.gradients[place]), made.low))
            assert (share[one[k] != 0] >= 0.5 * made.unit * (1 - 1e-15)).all()
            assert share.max() <= made.unit * (1 + 1e-15)
    # Arrays that no group is of are not there.
    assert set(made.of([Group(((1, 0, 3),))], 0)) == {1}


def test_single_elements():
    made = Directions(gradients(), seed=0)
    v = made.single([(0, 7), (3, 0), (0, 23)])
    assert set(v) == {0, 3}
    assert [np.argwhere(v[0][k]).tolist() for k in range(3)] == [
        [list(np.unravel_index(7, (3, 4, 2)))],
        [],
        [[2, 3, 1]],
    ]
    assert v[3].sum() == v[3][1, 0, 0] == 1.0


def test_the_dot_product_is_that_of_all_arrays(made):
    v = made.whole(3)
    wide = [v[p] * g.astype(np.longdouble) for p, g in enumerate(made.gradients)]
    exact = [float(sum(one[k].sum() for one in wide)) for k in range(3)]
    size = sum(g.size for g in made.gradients) * made.unit
    np.testing.assert_allclose(
        made.dot(v), exact, rtol=0, atol=2.0**-50 * size
    )  # rounding of the plain sum over places
    other = [np.ones_like(g) for g in made.gradients]
    np.testing.assert_allclose(
        made.dot(v, other), [sum(v[p][k].sum() for p in v) for k in range(3)], rtol=0, atol=2.0**-46
    )
    # In an order of memory of its own, too.
    turned = Directions([np.asfortranarray(g) for g in made.gradients], seed=3)
    assert turned.dot(turned.whole(3)).tolist() == made.dot(v).tolist()


@pytest.mark.parametrize("count", [1, 6, 100])
def test_telling_elements_are_of_the_group_and_half_have_a_gradient(count):
    g = np.zeros((4, 10))
    g[:, 3] = 1.0
    made = Directions([g, np.ones(3)], 0, [np.arange(40).reshape(4, 10) == 13, None])
    group = Group(((0, 0, 40), (1, 0, 2)))
    found = made.telling(group, count, seed=1)
    assert len(found) == len(set(found)) == min(count, 41)  # one is held
    assert set(found) <= set(made.elements(group))
    alive = sum(1 for place, i in found if made.gradients[place].flat[i])
    assert alive >= min(5, -(-count // 2))
    assert made.telling(group, count, seed=1) == found
