"""Side by side with SciPy: same numbers to the last bit, same kinds of error, same random direction."""

from __future__ import annotations

import doctest
import inspect

import numpy as np
import pytest
import scipy.optimize

from fdfast.compat import rows
from fdfast.compat import scipy as ours

RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 4))
X = RNG.normal(size=4)


def call(function, *arguments, **options):
    """What it returns, or the class of what it raises."""
    try:
        return function(*arguments, **options)
    except Exception as error:
        return type(error)


def same(got, expected):
    if isinstance(expected, type):
        assert got is expected
        return
    assert (np.shape(got), got.dtype) == (np.shape(expected), expected.dtype)
    np.testing.assert_array_equal(got, expected)


def quartic(x, scale=1.0):
    return scale * (x**4).sum()


POINTS = [
    pytest.param((X, quartic), id="gradient"),
    pytest.param((X, quartic, 1e-6, 3.0), id="further arguments"),
    pytest.param((X, quartic, [1e-8, 1e-7, 1e-6, 1e-5]), id="a step per element"),
    pytest.param(([1, 2, 3], quartic), id="integers are taken as floats"),
    pytest.param((X.astype(np.float32), quartic), id="float32 is taken as float64"),
    pytest.param((2.0, lambda x: x**3), id="a number"),
    pytest.param((X, lambda x: A @ x), id="jacobian"),
    pytest.param((X, lambda x: [x[0], x[1] * x[2]]), id="jacobian from a list"),
    pytest.param((X, lambda x: np.array([x[0]])), id="one value in an axis"),
    pytest.param((X * 1e12, quartic), id="a step that vanishes is replaced"),
    pytest.param((-X * 1e12, lambda x: np.float32(quartic(x))), id="and follows a float32 f"),
    pytest.param((X, lambda x: x.astype(np.float16)), id="float16 values"),
    pytest.param(([], quartic), id="nothing"),
    pytest.param((X, lambda x: np.ones(0)), id="no values"),
    pytest.param(([np.nan, 1.0], quartic), id="nan"),
    pytest.param(([[1.0, 2.0]], quartic), id="two axes"),
    pytest.param((X, lambda x: x[None]), id="value with two axes"),
    pytest.param((X, lambda x: x if x is None or (x == X).all() else x[None]), id="value with two axes later"),
    pytest.param((X, lambda x: x[: 2 + (x == X).all()]), id="values that change in number"),
    pytest.param((X, quartic, [1e-8, 1e-8]), id="too few steps"),
    pytest.param((["a"], quartic), id="text"),
    pytest.param(([1j], quartic), id="complex"),
    pytest.param((X, lambda x: None), id="no value"),
    pytest.param((X, lambda x: 1 / 0), id="f raises"),
]


@pytest.mark.parametrize("arguments", POINTS)
def test_approx_fprime_is_scipy_s(arguments):
    same(call(ours.approx_fprime, *arguments), call(scipy.optimize.approx_fprime, *arguments))


def test_complex_values_lose_their_imaginary_part_as_in_scipy():
    for function in (scipy.optimize.approx_fprime, ours.approx_fprime):
        with pytest.warns(np.exceptions.ComplexWarning):
            found = function(X, lambda x: (x**2).sum() * (1 + 1j))
        np.testing.assert_array_equal(found, scipy.optimize.approx_fprime(X, lambda x: (x**2).sum()))


@pytest.mark.parametrize(
    ("of_rows", "of_one"),
    [
        (lambda r: (r**4).sum(axis=1), quartic),
        (lambda r: (r**4).sum(axis=1, keepdims=True), quartic),
        (lambda r: r**2, lambda x: x**2),
        (lambda r: (r**2).astype(np.float32), lambda x: (x**2).astype(np.float32)),
        (lambda r: np.ones((len(r), 0)), lambda x: np.ones(0)),
    ],
)
@pytest.mark.parametrize("x", [X, X * 1e12, 2.0, []], ids=["usual", "far away", "a number", "nothing"])
def test_rows_give_what_the_loop_gives(of_rows, of_one, x):
    # Elementwise functions and sums over four numbers: NumPy rounds them alike in a row and alone.
    same(ours.approx_fprime(x, of_rows, vectorized=True), scipy.optimize.approx_fprime(x, of_one))


def test_all_rows_go_through_one_call_and_more_than_the_budget_through_several(monkeypatch):
    calls = []

    def f(r, power):
        calls.append(len(r))
        return (r**power).sum(axis=1)

    whole = ours.approx_fprime(X, f, 1e-6, 3, vectorized=True)
    assert calls == [5]
    monkeypatch.setattr(rows, "_BUDGET", 3 * 2 * X.nbytes)
    np.testing.assert_array_equal(ours.approx_fprime(X, f, 1e-6, 3, vectorized=True), whole)
    assert calls == [5, 4, 2]


@pytest.mark.parametrize(
    ("f", "error", "match"),
    [
        (quartic, ValueError, r"f returned shape \(\) for 5 rows; vectorized=True promises rows"),
        (lambda r: r[:2, 0], ValueError, r"f returned shape \(2,\) for 5 rows"),
        (lambda r: r[..., None], RuntimeError, r"per row it must return a number or one axis"),
    ],
)
def test_a_function_that_takes_no_rows_is_refused(f, error, match):
    with pytest.raises(error, match=match):
        ours.approx_fprime(X, f, vectorized=True)


def gradient(x, scale=1.0):
    return scale * 4 * np.asarray(x) ** 3


CHECKS = [
    pytest.param((quartic, gradient, X), {}, id="right"),
    pytest.param((quartic, lambda x: 1.01 * gradient(x), X), {}, id="wrong"),
    pytest.param((quartic, gradient, X, 2.0), {"epsilon": 1e-6}, id="further arguments"),
    pytest.param((quartic, lambda x: list(gradient(x)), [1, 2]), {}, id="lists"),
    pytest.param((lambda x: A @ x, lambda x: A, X), {}, id="jacobian"),
    pytest.param((quartic, gradient, X), {"direction": "random", "rng": 3}, id="random, rng"),
    pytest.param((quartic, gradient, X), {"direction": "random", "seed": 3}, id="random, old seed"),
    pytest.param((quartic, gradient, X, 2.0), {"direction": "random", "seed": np.random}, id="random, np.random"),
    pytest.param((quartic, gradient, X), {"direction": "random"}, id="random, global state"),
    pytest.param((lambda x: x[0] ** 3, lambda x: x, 2.0), {"direction": "random", "rng": 0}, id="random, number"),
    pytest.param((lambda x: A @ x, lambda x: A, X), {"direction": "random"}, id="random, jacobian"),
    pytest.param((quartic, gradient, X), {"direction": "some"}, id="bad direction"),
    pytest.param((quartic, gradient, X), {"rng": "some"}, id="bad rng"),
    pytest.param((quartic, gradient, X), {"direction": "random", "seed": "some"}, id="bad seed"),
    pytest.param((quartic, gradient, X), {"seed": "some"}, id="bad seed that is not used"),
    pytest.param((quartic, gradient, X), {"rng": 1, "seed": 1}, id="two seeds"),
    pytest.param((quartic, gradient, X[None]), {}, id="two axes"),
]


# SciPy 1.15 took rng in the place of seed; ours is the present signature.
with_rng = pytest.mark.skipif(
    "rng" not in inspect.signature(scipy.optimize.check_grad).parameters, reason="this SciPy has no rng"
)


@with_rng
@pytest.mark.parametrize(("arguments", "options"), CHECKS)
def test_check_grad_is_scipy_s(arguments, options):
    found = []
    for function in (scipy.optimize.check_grad, ours.check_grad):
        np.random.seed(5)  # noqa: NPY002 (what SciPy draws from unless told otherwise)
        found.append(call(function, *arguments, **options))
    same(found[1], found[0])


@with_rng
@pytest.mark.parametrize("direction", ["all", "random"])
def test_check_grad_takes_rows(direction):
    options = {"direction": direction, "rng": 1}
    expected = scipy.optimize.check_grad(quartic, gradient, X, **options)
    got = ours.check_grad(lambda r: (r**4).sum(axis=1), gradient, X, vectorized=True, **options)
    assert got == expected
    # The control: forward differences with a step of 1.5e-8 are right to about 1e-7 here, 1 % of the gradient is 0.1.
    wrong = ours.check_grad(lambda r: (r**4).sum(axis=1), lambda x: 1.01 * gradient(x), X, vectorized=True, **options)
    assert wrong > 1e-3 > expected


@with_rng
def test_signatures_are_scipy_s_and_vectorized_by_keyword():
    for name in ("approx_fprime", "check_grad"):
        theirs = dict(inspect.signature(getattr(scipy.optimize, name)).parameters)
        mine = dict(inspect.signature(getattr(ours, name)).parameters)
        assert mine.pop("vectorized").kind is inspect.Parameter.KEYWORD_ONLY
        assert [(p.name, p.kind) for p in mine.values()] == [(p.name, p.kind) for p in theirs.values()]
        assert mine["epsilon"].default == theirs["epsilon"].default


@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_the_caller_s_arrays_are_not_written_even_by_f(vectorized, fails):
    x, kept = X.copy(), X.copy()

    def vandal(r):
        value = (r**2).sum(axis=-1)
        r *= 0
        if fails and not np.array_equal(r, kept):
            raise KeyboardInterrupt
        return value

    for run in (
        lambda: ours.approx_fprime(x, vandal, vectorized=vectorized),
        lambda: ours.check_grad(vandal, lambda at: at.fill(0) or 2 * X, x, vectorized=vectorized),
    ):
        if fails:
            with pytest.raises(KeyboardInterrupt):
                run()
        else:
            run()
        assert x.tobytes() == kept.tobytes()


def test_messages_name_argument_value_and_remedy():
    for arguments, options, match in [
        (([[1.0]], quartic), {}, r"xk must have at most 1 dimension, got shape \(1, 1\): pass xk.ravel\(\)"),
        ((X, lambda x: x[None]), {}, r"f\(xk\) has shape \(1, 4\); .*: flatten it"),
        ((X, quartic, [1e-8, 1e-8]), {}, r"epsilon has shape \(2,\); it must be a number or .* \(4,\)"),
    ]:
        with pytest.raises(ValueError, match=match):
            ours.approx_fprime(*arguments, **options)


def test_the_example_runs():
    result = doctest.testmod(ours)
    assert (result.attempted, result.failed) == (2, 0)
