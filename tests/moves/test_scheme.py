"""Steps, schemes and bounds."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fdfast.moves.scheme import (
    BACKWARD,
    CENTRAL,
    FORWARD,
    SCHEMES,
    auto_step,
    check_step,
    plan_steps,
    three_point,
    vanishing_step_error,
)
from fdfast.moves.tiling import Tiling, make_tiling

DTYPES = [np.float32, np.float64]
FLAT = make_tiling((4,))


def plan(x: Any, tiling: Tiling = FLAT, dtype: Any = np.float64, **options: Any) -> Any:
    return plan_steps(np.atleast_2d(np.array(x, dtype)), tiling, **options)


@pytest.mark.parametrize(("dtype", "exponent"), [(np.float64, -17), (np.float32, -8), ("float32", -8)])
def test_auto_step(dtype: Any, exponent: int) -> None:
    assert auto_step(dtype) == 2.0**exponent


# x (one row of 4), tile, scale of each tile: the nearest power of two to max(largest in tile, min(1, largest in x)).
SCALES: list[tuple[list[float], int, list[float]]] = [
    ([0, 0, 0, 0], 1, [1, 1, 1, 1]),
    ([1, 0.5, 0, -1], 1, [1, 1, 1, 1]),
    ([0.25, 0, 0.125, -0.25], 1, [0.25] * 4),
    ([-100, 0, 8, 1], 1, [128, 1, 8, 1]),
    ([-100, 0, 8, 1], 2, [128, 8]),
    ([1e-6, 0, 0, 0], 1, [2.0**-20] * 4),
    ([1e-6, 3, 0, 0], 1, [1, 4, 1, 1]),
    ([1.4, 1.5, 0, 0], 1, [1, 2, 1, 1]),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x", "tile", "scale"), SCALES)
def test_scale_of_the_step(x: list[float], tile: int, scale: list[float], dtype: Any) -> None:
    steps = plan(x, make_tiling((4,), tile), dtype)
    np.testing.assert_array_equal(steps.h, [np.array(scale) * auto_step(dtype)])
    assert not steps.scheme.any()
    assert steps.centre is None
    assert steps.bounds is None
    assert steps.typical == np.median(steps.h)


def test_given_step_holds_for_every_tile_and_example() -> None:
    steps = plan([[0, 1, 2, 300], [1, 1, 1, 1]], h=1e-3)
    np.testing.assert_array_equal(steps.h, np.full((2, 4), 1e-3))
    np.testing.assert_array_equal(steps.offsets(0.5), np.broadcast_to([5e-4, -5e-4], (2, 4, 2)))


# x, scheme at bounds (0, 1) with h = 1/8
ENDS: list[tuple[float, Any]] = [
    (0.0, FORWARD),
    (0.0625, FORWARD),
    (0.125, CENTRAL),
    (0.5, CENTRAL),
    (0.875, CENTRAL),
    (0.9375, BACKWARD),
    (1.0, BACKWARD),
]


@pytest.mark.parametrize(("x", "scheme"), ENDS)
def test_scheme_at_bounds(x: float, scheme: Any) -> None:
    steps = plan([x], make_tiling((1,)), h=0.125, bounds=(0, 1))
    assert SCHEMES[int(steps.scheme[0, 0])] is scheme
    np.testing.assert_array_equal(steps.offsets(2.0)[0, 0], np.array(scheme.offsets) * 0.25)
    assert not steps.moved.any()
    assert steps.centre is None
    assert steps.bounds == (0.0, 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tile_at_both_bounds_gets_a_moved_centre(dtype: Any) -> None:
    x = np.array([[0, 1, 0.5, 0], [0.5, 0.5, 0.5, 0.5]], dtype)
    steps = plan_steps(x, make_tiling((4,), 2), bounds=(0, 1))
    np.testing.assert_array_equal(steps.moved, [[True, False], [False, False]])
    h = auto_step(dtype)
    # Moved by one step and at most 4 units in the last place of it.
    assert 0 <= steps.centre[0, 0] - h <= 8 * h * np.finfo(dtype).eps
    assert 0 <= 1 - h - steps.centre[0, 1] <= 2 * np.finfo(dtype).eps
    assert steps.centre[0, 2] == 0.5
    assert steps.centre.dtype == dtype
    np.testing.assert_array_equal(steps.scheme, [[0, 1], [0, 0]])


@given(
    st.sampled_from(DTYPES),
    st.lists(st.floats(0, 1, width=32) | st.sampled_from([0.0, 1.0, 0.5]), min_size=1, max_size=9),
    st.integers(1, 9),
    st.just("auto") | st.floats(1e-5, 0.24),
)
def test_no_row_leaves_the_bounds(dtype: Any, values: list[float], tile: int, h: Any) -> None:
    assume(tile <= len(values))
    tiling = make_tiling((len(values),), tile)
    x = np.array([values], dtype)
    steps = plan_steps(x, tiling, h, (0, 1))
    for t in range(tiling.tiles):
        members = tiling.members[tiling.offsets[t] : tiling.offsets[t + 1]]
        centre = steps.centre if steps.moved[0, t] else x
        for scale in (1.0, 0.5):
            for offset in steps.offsets(scale)[0, t]:
                row = centre[0, members] + dtype(offset)
                assert row.min() >= 0
                assert row.max() <= 1
                assert (row != centre[0, members]).all()


def test_rows_do_leave_the_bounds_without_them() -> None:
    steps = plan([0, 1, 0.5, 0.5])
    assert (steps.offsets()[0, 0] < 0).any()
    assert (1 + steps.offsets()[0, 1] > 1).any()


# bounds, x, h, exception, message
REFUSALS: list[tuple[Any, list[float], Any, type[Exception], str]] = [
    ((1, 0), [0.5], 0.1, ValueError, "bounds must satisfy low < high, got (1, 0)"),
    ((1, 1), [1.0], 0.1, ValueError, "bounds must satisfy low < high, got (1, 1)"),
    ((0, np.nan), [0.5], 0.1, ValueError, "bounds must satisfy low < high"),
    (1, [0.5], 0.1, TypeError, "bounds must be a pair of numbers (low, high), got 1"),
    ((0, 1, 2), [0.5], 0.1, TypeError, "bounds must be a pair of numbers"),
    (("a", 1), [0.5], 0.1, TypeError, "bounds must be a pair of numbers"),
    ((0, 1), [0.5, 0.5, 1.5, 0.5], 0.1, ValueError, "x[2]=1.5 lies outside the bounds (0, 1)"),
    ((0, 1), [0.5, -1e-3], 0.1, ValueError, "x[1]=-0.001 lies outside the bounds (0, 1)"),
    ((0, 1), [0.5], 0.6, ValueError, "bounds (0, 1) leave no room for a step of 0.6: give a smaller h or wider bounds"),
    (None, [0.5], 0, ValueError, "h must be positive and finite, got h=0; leave h='auto'"),
    (None, [0.5], -1e-3, ValueError, "got h=-0.001"),
    (None, [0.5], np.inf, ValueError, "got h=inf"),
    (None, [0.5], np.nan, ValueError, "got h=nan"),
    (None, [0.5], "1e-3", ValueError, "h must be 'auto' or a positive number, got '1e-3'"),
    (None, [0.5], True, TypeError, "h must be 'auto' or a positive number, got bool"),
    (None, [0.5], None, TypeError, "got NoneType"),
    (None, [0.5], np.array([0.1]), TypeError, "got ndarray"),
]


@pytest.mark.parametrize(("bounds", "x", "h", "error", "message"), REFUSALS)
def test_refusals(bounds: Any, x: list[float], h: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        plan(x, make_tiling((len(x),)), h=h, bounds=bounds)


def test_outside_is_named_by_its_index_in_the_example() -> None:
    with pytest.raises(ValueError, match=re.escape("x[1, 2]=7 lies outside")):
        plan([[0] * 6, [0, 0, 0, 0, 0, 7]], make_tiling((2, 3)), bounds=(0, 1))


@pytest.mark.parametrize("h", ["auto", 1, 1e-300, np.float32(0.1), np.int64(2)])
def test_check_step_accepts(h: Any) -> None:
    check_step(h)


def test_arguments_stay_untouched() -> None:
    x = np.array([[0.0, 1.0, 0.5, 0.25]])
    x.flags.writeable = False
    plan_steps(x, make_tiling((4,), 2), bounds=(0, 1))


nonzero = st.floats(0.01, 1).flatmap(lambda v: st.sampled_from([v, -v]))


@given(nonzero, nonzero, *[st.floats(-9, 9)] * 2)
def test_three_point_is_exact_for_parabolas(a: float, b: float, slope: float, curvature: float) -> None:
    assume(abs(a - b) > 0.01)
    da, db = (slope * t + curvature * t * t for t in (a, b))
    # Three products of at most 9 (a + 1) (b / a) / (b - a), each rounded: 1e5 units of 2^-53.
    assert three_point(*map(np.float64, (da, db, a, b))) == pytest.approx(slope, rel=0, abs=1e-9)


def test_three_point_is_not_exact_for_cubics() -> None:
    """A control: the error of t^3 is -ab."""
    one = np.ones(1)
    assert three_point(one, -one, one, -one) == 1
    assert three_point(one, 8 * one, one, 2 * one) == -2


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
def test_order(scheme: Any) -> None:
    errors = []
    for h in (1e-2, 5e-3):
        a, b = (np.array([o * h]) for o in scheme.offsets)
        errors.append(abs(three_point(np.expm1(a), np.expm1(b), a, b)[0] - 1))
    # The next order is h = 1e-2 of the leading one.
    assert errors[0] / errors[1] == pytest.approx(2**scheme.order, rel=0.02)


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        (
            np.float32,
            "h=1e-09 vanishes in float32 at x[1, 0]=0.996: x + h == x. Smallest step that moves it: 5.96e-08; for a "
            "useful gradient leave h='auto' (0.0039 here)",
        ),
        (
            np.float64,
            "h=1e-09 vanishes in float64 at x[1, 0]=0.996: x + h == x. Smallest step that moves it: 1.11e-16; for a "
            "useful gradient leave h='auto' (0.0039 here)",
        ),
    ],
)
def test_vanishing_step_error(dtype: Any, message: str) -> None:
    x = np.array([0, 0, 0.996, 0], dtype)
    error = vanishing_step_error(x, 2, (2, 2), 1e-9, 2.0**-8)
    assert isinstance(error, ValueError)
    assert str(error) == message
    smallest = dtype(float(re.findall(r"it: (\S+);", message)[0]))
    assert x[2] + smallest != x[2]
    assert x[2] + dtype(1e-9) * dtype(1e-9) == x[2]
