"""The course's helpers: same numbers, prints and random elements as its loop, and x left as it was."""

from __future__ import annotations

import random

import numpy as np
import pytest

from fdfast.compat import rows
from fdfast.compat.cs231n import eval_numerical_gradient, eval_numerical_gradient_array, grad_check_sparse, rel_error

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 2, 2))
W = RNG.normal(size=(4, 5))


def slopes(f, x, h, weight=1.0):
    """The definition, on copies: divided by the nominal 2h, in the precision of x."""
    out = np.empty_like(x)
    for index in np.ndindex(x.shape):
        plus, minus = x.copy(order="K"), x.copy(order="K")  # np.sum adds in the order of the memory
        plus[index], minus[index] = x[index] + h, x[index] - h
        out[index] = np.sum((f(plus) - f(minus)) * weight) / (2 * h)
    return out


def quartic(x):
    return np.sum(x**4)


def quartic_of_rows(r):
    return np.sum(r.reshape(len(r), -1) ** 4, axis=1)


def affine(x):
    return x.reshape(3, 4) @ W


def affine_of_rows(r):
    return r.reshape(-1, 3, 4) @ W


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (np.array([1.0, 2.0]), np.array([1.0, 3.0]), 0.2),
        (np.array([1.0]), np.array([-1.0]), 1.0),
        (np.array([0.0]), np.array([0.0]), 0.0),
        (np.array([1e-10]), np.array([0.0]), 1e-2),  # over the floor of 1e-8
        ([1.0], 3.0, 0.5),
    ],
)
def test_rel_error(x, y, expected):
    assert rel_error(x, y) == pytest.approx(expected, rel=1e-12)  # a handful of roundings


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("h", [1e-5, 1e-2])
@pytest.mark.parametrize("x", [X, X[0, 0, 0], X[:0], np.asfortranarray(X)], ids=["usual", "0-d", "empty", "fortran"])
def test_the_gradient_is_the_definition_to_the_last_bit(x, h, dtype):
    x = np.asarray(x, dtype)
    got = eval_numerical_gradient(quartic, x, verbose=False, h=h)
    assert (got.shape, got.dtype) == (x.shape, dtype)
    np.testing.assert_array_equal(got, slopes(quartic, x, h))


@pytest.mark.parametrize("budget", [None, 5])
def test_rows_give_the_gradient_of_the_loop(budget, monkeypatch):
    calls = []

    def f(r):
        calls.append(len(r))
        return quartic_of_rows(r)

    if budget:
        monkeypatch.setattr(rows, "_BUDGET", budget * 2 * X.nbytes)
    got = eval_numerical_gradient(f, X, verbose=False, vectorized=True)
    assert calls == ([10, 10, 4] if budget else [24])
    # f is about 50 and a sum in another order is off by its last place: 1e-14 / 2e-5.
    np.testing.assert_allclose(got, eval_numerical_gradient(quartic, X, verbose=False), atol=1e-8)
    np.testing.assert_array_equal(
        eval_numerical_gradient(lambda r: quartic_of_rows(r)[:, None], X, verbose=False, vectorized=True), got
    )


def test_an_f_that_ignores_its_argument_sees_x_move():
    weights = {"W1": X.copy()}
    got = eval_numerical_gradient(lambda _: quartic(weights["W1"]), weights["W1"], verbose=False)
    np.testing.assert_array_equal(got, slopes(quartic, X, 1e-5))
    with pytest.raises(ValueError, match=r"f returned shape \(\) for 24 rows"):
        eval_numerical_gradient(lambda _: quartic(weights["W1"]), weights["W1"], verbose=False, vectorized=True)


@pytest.mark.parametrize("vectorized", [False, True])
def test_verbose_prints_index_and_slope_in_the_order_of_the_memory(vectorized, capsys):
    f = (lambda r: r.sum(axis=(1, 2))) if vectorized else np.sum
    eval_numerical_gradient(f, np.zeros((2, 2), order="F"), h=0.5, vectorized=vectorized)
    assert capsys.readouterr().out == "(0, 0) 1.0\n(1, 0) 1.0\n(0, 1) 1.0\n(1, 1) 1.0\n"
    eval_numerical_gradient(f, np.zeros((2, 2)), False, 0.5, vectorized=vectorized)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("df", [RNG.normal(size=(3, 5)), 1.0, RNG.normal(size=5)], ids=["full", "number", "broadcast"])
def test_the_array_form_weighs_the_output(df):
    got = eval_numerical_gradient_array(affine, X, df)
    np.testing.assert_array_equal(got, slopes(affine, X, 1e-5, df))
    # Linear in x, so only rounding is left: 1e-15 / 2e-5 per output, 15 outputs.
    np.testing.assert_allclose(got, (np.broadcast_to(df, (3, 5)) @ W.T).reshape(X.shape), atol=1e-8)
    by_rows = eval_numerical_gradient_array(affine_of_rows, X, df, vectorized=True)
    np.testing.assert_allclose(by_rows, got, atol=1e-8)  # a product of other extents rounds otherwise


def test_an_f_that_returns_its_own_buffer_is_read_in_time():
    buffer = np.empty((3, 5))
    got = eval_numerical_gradient_array(lambda x: np.matmul(x.reshape(3, 4), W, out=buffer), X, 1.0)
    np.testing.assert_array_equal(got, slopes(affine, X, 1e-5))


def expected_print(f, x, analytic, checks, h=1e-5):
    """What the course prints: the elements are drawn one extent after the other from Python's generator."""
    numeric = slopes(f, x, h)
    lines = []
    for _ in range(checks):
        index = tuple(random.randrange(n) for n in x.shape)
        n, a = numeric[index], analytic[index]
        error = abs(n - a) / (abs(n) + abs(a))
        lines.append(f"numerical: {n:f} analytic: {a:f}, relative error: {error:e}\n")
    return "".join(lines)


@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_the_sparse_check_draws_and_prints_as_the_course_s(vectorized, factor, capsys):
    x = np.round(X, 1) + 2  # h = 1/4 moves it exactly, so that both sums round alike
    analytic = factor * 4 * x**3
    random.seed(7)
    expected = expected_print(quartic, x, analytic, 5, 0.25)
    random.seed(7)
    f = (lambda r: np.array([quartic(one) for one in r])) if vectorized else quartic
    assert grad_check_sparse(f, x, analytic, 5, 0.25, vectorized=vectorized) is None
    printed = capsys.readouterr().out
    assert printed == expected
    errors = [float(line.split()[-1]) for line in printed.splitlines()]
    # A quartic's difference at h = 0.25 is off by h^2 / x^2, below 6 %; a factor of 1.1 is 5 % on top in this measure.
    assert len(errors) == 5
    assert all(error > 0 for error in errors)


def test_a_wrong_gradient_shows_in_the_sparse_check(capsys):
    grad_check_sparse(quartic, X, 4 * X**3)
    right = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    grad_check_sparse(quartic, X, 4.4 * X**3)
    wrong = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert len(right) == len(wrong) == 10
    assert max(right) < 1e-5  # truncation h^2 / x^2 and rounding 1e-14 / 2e-5 / 4 x^3
    assert min(wrong) == pytest.approx(0.4 / 8.4, rel=1e-3)


def test_two_zeros_have_no_relative_error(capsys):
    grad_check_sparse(lambda x: 0.0, X, np.zeros_like(X), 1)
    assert capsys.readouterr().out == "numerical: 0.000000 analytic: 0.000000, relative error: nan\n"


ODD = np.array([-0.0, np.nan, np.inf, 1e-310, 1 / 3], np.float64)


@pytest.mark.parametrize("fails_at", [0, 1, 2, 7, None])
@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize(
    "run",
    [
        lambda f, x, **k: eval_numerical_gradient(f, x, verbose=False, **k),
        lambda f, x, **k: eval_numerical_gradient_array(f, x, 1.0, **k),
        lambda f, x, **k: grad_check_sparse(f, x, np.ones_like(x), **k),
    ],
)
def test_x_is_bit_identical_afterwards(run, vectorized, fails_at):
    x = ODD.copy()[::-1]
    kept, calls = x.tobytes(), []

    def f(at):
        calls.append(1)
        if len(calls) - 1 == fails_at:
            raise KeyboardInterrupt
        x[0] += 1  # f itself writes to x, which it may have from elsewhere
        return np.zeros(len(at)) if vectorized else 0.0

    with np.errstate(invalid="ignore"):
        if fails_at is not None and (not vectorized or fails_at == 0):
            with pytest.raises(KeyboardInterrupt):
                run(f, x, vectorized=vectorized)
        else:
            run(f, x, vectorized=vectorized)
    assert x.tobytes() == kept


@pytest.mark.parametrize(
    ("x", "h", "error", "match"),
    [
        (np.arange(3), 1e-5, TypeError, r"x must be an ndarray of floats.*got dtype int64: x.astype\(float\)"),
        ([1.0, 2.0], 1e-5, TypeError, "got list"),
        (X, 0.0, ValueError, r"h=0.0 must be a positive finite number; the course uses 1e-5"),
        (X, np.nan, ValueError, "h=nan must be"),
    ],
)
def test_what_cannot_be_moved_is_refused(x, h, error, match):
    for run in (
        lambda: eval_numerical_gradient(quartic, x, False, h),
        lambda: eval_numerical_gradient_array(affine, x, 1.0, h),
        lambda: grad_check_sparse(quartic, x, x, 3, h),
    ):
        with pytest.raises(error, match=match):
            run()


@pytest.mark.parametrize("vectorized", [False, True])
def test_a_step_that_vanishes_is_said(vectorized):
    x = np.array([1.0, 3000.0, 4000.0], np.float32)
    f = (lambda r: r.sum(axis=1)) if vectorized else np.sum
    with pytest.warns(RuntimeWarning, match=r"h=1e-05 vanishes in float32 at x\[1\]=3000 and 1 other elements"):
        got = eval_numerical_gradient(f, x, verbose=False, vectorized=vectorized)
    assert (got[1:] == 0).all()
