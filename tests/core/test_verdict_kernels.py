"""The compiled verdict, `_core.Looks` and `_core.classify`, against the same rules written with NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdfast import _core

OTHER, EPS = 0.75, 2.0**-52
#: Any double: the rules say what becomes of NaN and infinity, too.
number = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf]), st.floats(-1e3, 1e3))


def three_point(d, w):
    (da, db), (a, b) = d.T, w.T
    return (da * (b / a) - db * (a / b)) / (b - a)


@st.composite
def looks(draw):
    """Differences of tiles at two steps: central, forward or backward, with ties and branches here and there."""
    count = draw(st.integers(0, 12))
    scheme = np.array(draw(st.lists(st.sampled_from([(1, -1), (1, 2), (-1, -2)]), min_size=count, max_size=count)))
    step = scheme.reshape(count, 2) * 2.0**-10
    delta = np.array(draw(st.lists(number, min_size=4 * count, max_size=4 * count))).reshape(2, count, 2) * 2.0**-10
    smooth = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
    delta[:, smooth] = (3.0 * step * np.array([1, OTHER])[:, None, None])[:, smooth]
    node = st.lists(st.integers(-1, 3), min_size=2 * count, max_size=2 * count)
    tie, crossed = (np.array(draw(node), np.int32).reshape(2, count) for _ in range(2))
    examples = draw(st.integers(1, 3))
    example = np.array(draw(st.lists(st.integers(0, examples - 1), min_size=count, max_size=count)), np.int64)
    return step, delta, tie, crossed, example, examples


def settled(step, delta, tie, crossed, example, examples):
    """The rules of `exact.look`, in NumPy: what it says of each tile, and which are not looked at twice."""
    with np.errstate(all="ignore"):
        slope = delta / (step * np.array([1, OTHER])[:, None, None])
        right = np.where(step[:, 0] > 0, slope[..., 0], np.nan)
        left = np.where(step[:, 1] < 0, np.where(step[:, 0] < 0, slope[..., 0], slope[..., 1]), np.nan)
        apart = np.abs(right[0] - left[0]) > 2.0**-12 * np.fmax(np.abs(right[0]), np.abs(left[0]))
        plain = (tie[0] >= 0) & (crossed[0] < 0) & apart
        last = np.where(plain, 0, 1)
        at = np.arange(len(step))
        coarse = three_point(delta[0], step)
        value = np.where(plain, coarse, three_point(delta[1], OTHER * step))
        right, left = right[last, at], left[last, at]
        tied = np.where(plain, tie[0], tie.max(axis=0))
        branch = np.where(plain, crossed[0] >= 0, (crossed >= 0).any(axis=0))
        gap = np.abs(coarse - value)
        rounding, peak = np.zeros(examples), np.zeros(examples)
        for i in range(examples):
            mine = gap[(example == i) & ~branch & ~plain & np.isfinite(gap) & (value != 0)]
            rounding[i] = np.sort(mine)[3 * mine.size // 4] if mine.size else 0.0
            peak[i] = np.abs(value[(example == i) & np.isfinite(value)]).max(initial=0.0)
        error = 4 * (gap + rounding[example]) + 8 * EPS * np.abs(value)
        both = np.isfinite(right) & np.isfinite(left)
        spread = slope[..., 0] - slope[..., 1]
        jump = np.abs(spread[last, at] - OTHER * spread[0]) / (1 - OTHER)
        jumps = jump > 16 * error + 1e-9 * np.fmax(np.abs(right), np.abs(left))
        kink = (tied >= 0) & (~both | jumps | plain)
        error = np.where(np.isfinite(value) & np.isfinite(error), error, np.inf)
        error = np.where((value == 0) & (gap == 0), 0.0, error)
    return (value, error, right, left, kink, branch & ~kink, tied, rounding, peak), plain


@given(looks())
def test_looks_follow_the_rules(given_):
    step, delta, tie, crossed, example, examples = given_
    state = _core.Looks(len(step), OTHER)
    state.take(None, delta[0], step, tie[0], crossed[0], first=True)
    expected, plain = settled(*given_)
    assert np.array_equal(state.unsettled, np.flatnonzero(~plain))
    again = state.unsettled
    state.take(again, delta[1][again], OTHER * step[again], tie[1][again], crossed[1][again], first=False)
    found = state.settle(example, examples, EPS)
    names = ("value", "error", "right", "left", "kink", "open", "tie", "rounding", "peak")
    for name, ours, theirs in zip(names, found, expected, strict=True):
        # The same operations in the same order: equal to the last bit.
        assert np.array_equal(ours, theirs, equal_nan=ours.dtype == float), name
    branch = (crossed[0] >= 0) | (~plain & (crossed[1] >= 0))
    assert np.array_equal(state.crossed, np.flatnonzero(branch))


def test_a_tile_that_is_looked_at_anew_forgets_the_first_look():
    state = _core.Looks(2, OTHER)
    step = np.array([[1.0, -1.0]] * 2)
    none, node = np.array([-1, -1], np.int32), np.array([-1, 4], np.int32)
    state.take(None, 5 * step, step, none, node, first=True)
    assert state.crossed.tolist() == [1]
    one = np.array([1], np.int64)
    state.take(one, 2 * step[:1], step[:1], none[:1], none[:1], first=True)
    assert state.crossed.size == 0
    value, error, *_ = state.settle(np.zeros(2, np.int64), 1, EPS)
    assert value.tolist() == [5, 2]
    assert (error < 1e-14).all()


@st.composite
def comparisons(draw):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(0, 8)))
    size = shape[0] * shape[1]
    some = [np.array(draw(st.lists(number, min_size=size, max_size=size))).reshape(shape) for _ in range(5)]
    same = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), bool).reshape(shape)
    value, error, right, left, analytic = some
    analytic[same] = value[same]
    kind = np.array(draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)), np.int8).reshape(shape)
    limits = [np.array(draw(st.lists(st.floats(0, 2), min_size=shape[0], max_size=shape[0]))) for _ in range(3)]
    return value, np.abs(error), right, left, kind, analytic, draw(st.sampled_from([0.0, 1e-4, 0.5])), *limits


@given(comparisons())
def test_classes_follow_the_rules(given_):
    value, error, right, left, kind, analytic, rtol, *limits = given_
    floor, width, blur = (one[:, None] for one in limits)
    with np.errstate(all="ignore"):
        size = np.fmax(np.abs(value), np.abs(analytic))
        tolerance = rtol * size + floor
        wrong = np.abs(value - analytic) > error + tolerance
        same = (value == analytic) & (right == left)
        expected = np.where(wrong, 1, np.where((error + blur <= rtol * size + width) | same, 0, 3))
        expected = np.where(kind == 0, expected, np.where(kind == 1, 2, 3))
        sloped = (kind == 0) | np.isfinite(right) | np.isfinite(left)
        expected = np.where(np.isfinite(analytic), expected, np.where(sloped, 1, 3))
        expected = np.where(np.isfinite(value) & np.isfinite(error), expected, 3)
        expected = np.where(kind == 3, 4, expected)
        detectable = (error + tolerance) / np.abs(analytic)
    classes, allowed, seen = _core.classify(*given_)
    assert np.array_equal(classes, expected)
    assert np.array_equal(allowed, tolerance, equal_nan=True)
    assert np.array_equal(seen, detectable, equal_nan=True)


MAPS = [np.zeros((2, 3))] * 4 + [np.zeros((2, 3), np.int8), np.zeros((2, 3)), 1e-4] + [np.zeros(2)] * 3


@pytest.mark.parametrize(
    ("position", "wrong", "error", "message"),
    [
        (1, np.zeros((2, 4)), ValueError, "error has shape"),
        (2, np.zeros((2, 3), np.float32), TypeError, "right must be float64"),
        (3, np.zeros((3, 2)).T, ValueError, "left must be C-contiguous"),
        (4, np.zeros((2, 3)), TypeError, "kind must be int8"),
        (5, np.zeros(3), ValueError, "analytic must have 2 axes"),
        (7, np.zeros(3), ValueError, "floor has shape"),
    ],
)
def test_classify_says_what_does_not_fit(position, wrong, error, message):
    with pytest.raises(error, match=message):
        _core.classify(*MAPS[:position], wrong, *MAPS[position + 1 :])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: _core.Looks(-1, OTHER), ValueError, "count must not be negative"),
        (lambda: _core.Looks(2**62, OTHER), ValueError, "count is too large, got 4611686018427387904"),
        (lambda: taken(which=np.array([0, 3])), IndexError, r"which\[1\] is 3; there are 3"),
        (lambda: taken(which=np.array([-1, 0])), IndexError, r"which\[0\] is -1"),
        (lambda: taken(which=np.array([0])), ValueError, r"delta has shape \(2, 2\); it must be \(1, 2\)"),
        (lambda: taken(tie=np.zeros(2)), TypeError, "tie must be int32"),
        (lambda: taken().settle(np.array([0, 1, 2]), 2, EPS), IndexError, r"example\[2\] is 2; there are 2"),
        (lambda: taken().settle(np.array([0, 1]), 2, EPS), ValueError, "example has shape"),
        (lambda: taken().settle(np.array([0, 0, 0]), -1, EPS), ValueError, "examples must not be negative"),
    ],
)
def test_looks_say_what_does_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call()


def taken(**changes):
    state = _core.Looks(3, OTHER)
    node = np.full(2, -1, np.int32)
    given_ = {"which": np.array([0, 2]), "delta": np.ones((2, 2)), "moved": np.ones((2, 2)), "tie": node}
    state.take(**{**given_, "crossed": node, **changes}, first=True)
    return state
