"""Classes of tiles, tolerances and metrics of two gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdfast.estimates.estimate import KINDS, Estimate
from fdfast.verdict.compare import CLASSES, EDGES, METRICS, Comparison, compare, error_summary

EPS = 2.0**-52
INF, NAN = np.inf, np.nan


def estimate(
    value: Any, error: Any, kind: Any = "smooth", right: Any = None, left: Any = None, scale: Any = None
) -> Estimate:
    value, error = np.atleast_2d(np.array(value, float)), np.atleast_2d(np.array(error, float))
    value, error = np.broadcast_arrays(value, error)
    codes = np.vectorize(KINDS.index)(np.broadcast_to(kind, value.shape)).astype(np.int8)
    size = np.where(np.isfinite(value), abs(value), 0).max(axis=1)
    return Estimate(
        value=value,
        error=error,
        right=1.01 * value if right is None else np.atleast_2d(np.array(right, float)),
        left=value if left is None else np.atleast_2d(np.array(left, float)),
        kind=codes,
        step=np.full(value.shape, 1e-5),
        base=np.ones(len(value)),
        noise=np.full(len(value), EPS),
        evaluations=0,
        refined=0,
        engine="none",
        scale=size if scale is None else np.array(scale, float),
    )


def classes(found: Comparison) -> list[str]:
    return [CLASSES[c] for c in found.classes.ravel()]


# what, fd, error bar, kind, analytic, class; rtol = 1e-4, float64, the largest slope of the example is 1
TABLE: list[tuple[str, float, float, str, float, str]] = [
    ("equal", 1.0, 1e-9, "smooth", 1.0, "agree"),
    ("within rtol", 1.0, 1e-9, "smooth", 1.00009, "agree"),
    ("beyond rtol", 1.0, 1e-9, "smooth", 1.00011, "wrong"),
    ("within bar and rtol", 1.0, 9e-5, "smooth", 1.00018, "agree"),
    ("beyond bar and rtol", 1.0, 9e-5, "smooth", 1.0002, "wrong"),
    ("twice", 0.5, 1e-9, "smooth", 1.0, "wrong"),
    ("sign", -0.5, 1e-9, "smooth", 0.5, "wrong"),
    ("zero in place of something", 0.5, 1e-9, "smooth", 0.0, "wrong"),
    ("something in place of zero", 0.0, 1e-9, "smooth", 0.5, "wrong"),
    ("small slope, 1 % off, narrow bar", 1e-3, 1e-9, "smooth", 1.01e-3, "wrong"),
    ("small slope, 1 % off, bar as wide", 1e-3, 2e-5, "smooth", 1.01e-3, "unresolved"),
    ("tiny slope under the bar", 1e-9, 1e-7, "smooth", 2e-9, "agree"),  # both are nothing beside 1
    ("wide bar", 0.5, 0.1, "smooth", 0.5, "unresolved"),
    ("wide bar, equal", 0.0, 0.1, "smooth", 0.0, "agree"),  # right = left = fd = ad: f does not move, ad says so
    ("wide bar, and still wrong", 0.5, 0.1, "smooth", 1.0, "wrong"),
    ("kink, between", 0.5, 0.5, "kink", 1.0, "kink"),
    ("kink, far off", 0.5, 0.5, "kink", 99.0, "kink"),
    ("unresolved, equal", 0.5, 1e-9, "unresolved", 0.5, "unresolved"),
    ("unresolved, far off", 0.5, 0.1, "unresolved", 99.0, "unresolved"),
    ("no finite difference", NAN, INF, "unresolved", 0.5, "unresolved"),
    ("no finite bar", 0.5, INF, "smooth", 0.5, "unresolved"),
    ("no number for a smooth tile", NAN, 1e-9, "smooth", 0.5, "unresolved"),
    ("analytic NaN", 0.5, 1e-9, "smooth", NAN, "wrong"),
    ("analytic infinite", 0.5, 1e-9, "smooth", INF, "wrong"),
    ("analytic NaN under a wide bar", 0.5, 0.1, "smooth", NAN, "wrong"),
    ("both NaN", NAN, INF, "unresolved", NAN, "unresolved"),
    ("rounding of the analytic side", 0.0, 0.0, "smooth", 63 * EPS, "agree"),
    ("more than its rounding", 0.0, 0.0, "smooth", 66 * EPS, "wrong"),
]


@pytest.mark.parametrize(("fd", "error", "kind", "ad", "expected"), [t[1:] for t in TABLE], ids=[t[0] for t in TABLE])
def test_classes(fd: float, error: float, kind: str, ad: float, expected: str) -> None:
    # A second tile of slope 1 sets the scale of the example.
    found = compare(estimate([fd, 1], [error, 1e-9], [kind, "smooth"]), np.array([[ad, 1]]), EPS, 1e-4, None)
    assert classes(found) == [expected, "agree"]


def test_wide_bar_is_no_agreement_unless_f_stands_still() -> None:
    still = estimate([0, 1], [0.1, 0], right=[[0, 1]], left=[[0, 1]])
    moves = estimate([0, 1], [0.1, 0], right=[[0.05, 1]], left=[[-0.05, 1]])
    assert classes(compare(still, np.array([[0.0, 1.0]]), EPS, 1e-4, None))[0] == "agree"
    assert classes(compare(moves, np.array([[0.0, 1.0]]), EPS, 1e-4, None))[0] == "unresolved"


def test_line_that_agrees_in_every_bit() -> None:
    line = estimate([0.5], [0.1], right=[0.5], left=[0.5])
    assert classes(compare(line, np.array([[0.5]]), EPS, 1e-4, None)) == ["agree"]
    assert classes(compare(line, np.array([[0.5 + EPS]]), EPS, 1e-4, None)) == ["unresolved"]


def test_examples_have_their_own_scale() -> None:
    """The largest slope of one image excuses nothing in another."""
    fd = np.array([[1e-6, 1e-6], [1e-6, 1e3]])
    found = compare(estimate(fd, 1e-8), fd, EPS, 1e-4, None)
    assert classes(found) == ["unresolved", "unresolved", "agree", "agree"]


@given(st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=30), st.floats(1e-3, 10), st.integers(0, 29))
def test_tolerance_is_per_element_whatever_the_size(slopes: list[float], off: float, at: int) -> None:
    """One wrong coordinate among many right ones, and larger ones, is found; the others are not accused."""
    fd = np.array([slopes])
    ad = fd.copy()
    ad[0, at % len(slopes)] *= 1 + off
    found = compare(estimate(fd, 0.0), ad, EPS, 1e-4, None)
    assert [i for i, c in enumerate(classes(found)) if c == "wrong"] == [at % len(slopes)]
    assert set(classes(found)) == {"agree", "wrong"}
    # 64 eps of the largest analytic slope, and rtol of each by itself.
    expected = 1e-4 * np.maximum(fd, ad) + 64 * EPS * ad.max()
    np.testing.assert_allclose(found.tolerance, expected, rtol=1e-12)


def test_atol_is_taken_as_it_is() -> None:
    fd = np.array([[0.0, 0.0, 0.0, 1.0]])
    ad = np.array([[0.9e-3, 1.1e-3, 0.0, 1.0]])
    found = compare(estimate(fd, [0, 0, 0.9e-3, 0.9e-3]), ad, EPS, 1e-4, 1e-3)
    assert classes(found) == ["agree", "wrong", "agree", "agree"]
    np.testing.assert_allclose(found.tolerance, 1e-3 + 1e-4 * ad, rtol=1e-12)
    strict = compare(estimate([1.0], [0.0]), np.array([[1 + 2 * EPS]]), EPS, 0.0, 0.0)
    assert classes(strict) == ["wrong"]
    assert classes(compare(estimate([1.0], [0.0]), np.array([[1.0]]), EPS, 0.0, 0.0)) == ["agree"]


@pytest.mark.parametrize(("eps", "expected"), [(2.0**-52, "wrong"), (2.0**-23, "agree")])
def test_rounding_of_the_analytic_side(eps: float, expected: str) -> None:
    found = compare(estimate([1e-7, 1], [0, 0]), np.array([[5e-7, 1]]), eps, 1e-4, None)
    assert classes(found) == [expected, "agree"]


@pytest.mark.parametrize(
    ("count", "rounding", "expected"), [(40, 1e-7, "agree"), (40, 1e-5, "unresolved"), (20, 1e-7, "unresolved")]
)
def test_rounding_behind_a_softmax_is_no_more_than_what_is_seen_of_it(count, rounding, expected) -> None:
    """A small slope among others, where up to 2e-5 of the largest may be rounding: many tiles show how much is."""
    fd = np.array([[0.01, *np.linspace(0.9, 1.0, count)]])
    ad = fd + rounding * np.where(np.arange(count + 1) == 0, 0.0, np.linspace(-1, 1, count + 1))
    found = compare(estimate(fd, 0.0), ad, EPS, 1e-4, None, np.array([[2e-5]]))
    assert classes(found)[0] == expected
    # The control: off by twice the tolerance and that rounding, however little of it is seen.
    ad[0, 0] += 2 * (2e-5 + 1e-6)
    assert classes(compare(estimate(fd, 0.0), ad, EPS, 1e-4, None, np.array([[2e-5]])))[0] == "wrong"
    # A gradient that is no number elsewhere changes nothing.
    ad[0, 0], ad[0, 1] = fd[0, 0], NAN
    assert classes(compare(estimate(fd, 0.0), ad, EPS, 1e-4, None, np.array([[2e-5]])))[:2] == [expected, "wrong"]


@given(st.floats(1e-3, 1e3), st.floats(0, 1e-4), st.sampled_from([1, -1]))
def test_detectable(slope: float, error: float, sign: int) -> None:
    """A gradient off by a little more than `detectable` is wrong, by a little less is not."""
    found = compare(estimate([slope], [error * slope]), np.array([[slope]]), EPS, 1e-4, None)
    least = found.detectable[0, 0]
    assert least == pytest.approx(error + 1e-4, rel=1e-6)
    for factor, accused in ((1.001, True), (0.99, False)):
        ad = np.array([[slope * (1 + sign * factor * least)]])
        assert (classes(compare(estimate([slope], [error * slope]), ad, EPS, 1e-4, None)) == ["wrong"]) is accused


def test_detectable_where_the_gradient_is_zero() -> None:
    found = compare(estimate([0.0, 1.0], [1e-9, 1e-9]), np.array([[0.0, 1.0]]), EPS, 1e-4, None)
    assert found.detectable[0, 0] == INF


def test_all_zero() -> None:
    found = compare(estimate([0.0, 0.0], [0.0, 0.0]), np.zeros((1, 2)), EPS, 1e-4, None)
    assert classes(found) == ["agree", "agree"]


def test_arguments_stay_untouched() -> None:
    fd, ad = np.array([[1.0, NAN]]), np.array([[NAN, 1.0]])
    for array in (fd, ad):
        array.flags.writeable = False
    compare(estimate(fd, 1e-9), ad, EPS, 1e-4, None)
    error_summary(fd, ad)


def test_error_summary() -> None:
    fd = np.array([[1.0, 2.0, 0.5], [1e-3, NAN, 4.0]])
    ad = np.array([[1.0, 2.2, 0.0], [2e-3, 1.0, 4.04]])
    found = error_summary(fd, ad)
    relative = np.array([0.2 / 2.2, 0.5, 0.04 / 4.04])
    expected = {
        "max_abs_error": 0.5,
        "median_rel_error": np.median([0, *relative]),
        "mean_rel_error": relative.sum() / 4,
        "geometric_mean_rel_error": math.prod(relative) ** (1 / 3),
        "max_rel_error": 0.5,
        "cs231n_rel_error": 1.0,
    }
    assert list(expected) == list(METRICS)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12), name  # a few roundings
    assert [found[k] for k in ("n", "n_zero", "n_nan", "n_rel")] == [6, 1, 1, 4]
    np.testing.assert_array_equal(found["histogram"], np.histogram(np.log10(relative), EDGES)[0])


def test_error_summary_of_nothing() -> None:
    found = error_summary(np.zeros(3), np.zeros(3))
    assert found["max_abs_error"] == 0
    assert np.isnan(found["median_rel_error"])
    assert found["n_zero"] == 3
