"""Points at which f or its gradient is special: what is wrong fails, what is right does not."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from special_points import (
    ADVICE,
    ALONE,
    AT_X_ALONE,
    NAN,
    NOT_FINITE,
    TIES,
    WEIGHTS,
    Products,
    at,
    letters,
    total,
)

import fdfast


@pytest.mark.parametrize("case", NOT_FINITE)
def test_not_finite(case: str) -> None:
    f, x, codes, words = NOT_FINITE[case]
    report = fdfast.gradcheck(f, x)
    assert letters(report) == codes
    assert report.verdict == ("fail" if "w" in codes else "inconclusive" if "s" in codes else "pass")
    assert words in "\n".join([*report.reasons, *report.hints])


@pytest.mark.parametrize("given", ["autodiff", "array"])
@pytest.mark.parametrize("case", AT_X_ALONE)
def test_wrong_at_x_alone(case: str, given: str) -> None:
    f, x, codes, words = AT_X_ALONE[case]
    report = fdfast.gradcheck(f, x)
    if given == "array":
        # Has no value near x, so that kinks stay open.
        report = fdfast.gradcheck(f, x, analytic=report.analytic)
        codes = codes.replace("a", "k", 1) if "kink" in case else codes
        words = "" if words == ALONE else words
    assert letters(report) == codes
    assert report.verdict == ("fail" if "w" in codes else "inconclusive" if "k" in codes else "pass")
    assert words in "\n".join(report.reasons)


@pytest.mark.parametrize("case", TIES)
def test_right_gradients_at_special_points_pass(case: str) -> None:
    f, x = TIES[case]
    report = fdfast.gradcheck(f, x)
    assert report.verdict == "pass"
    # The control: one of its elements off by 1 %.
    wrong = report.checked_analytic.copy()
    wrong[np.argmax(np.abs(wrong))] *= 1.01
    # An array has no value near x, and around zeros a norm that is cut off at 1e-12 is another function.
    if not report.near[np.argmax(np.abs(report.checked_analytic))] and case != "normalised zeros":
        assert fdfast.gradcheck(f, x, analytic=wrong).verdict == "fail"


def test_a_branch_of_a_sort_is_no_fault() -> None:
    # The median of equals does not move with any one of them; autodiff gives the whole slope to one.
    report = fdfast.gradcheck(lambda x: tf.sort(x)[1] ** 2, at(1, 1, 1))
    assert report.verdict == "inconclusive"
    assert letters(report).count("k") == 1
    assert "a branch of several kinks that cancel" in "\n".join(report.reasons)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("case", WEIGHTS)
def test_weights(case: str, precision: Any) -> None:
    kind, values, codes, words = WEIGHTS[case]
    model = keras.Sequential([keras.Input((3,)), kind(name="layer")])
    model.layers[0].w.assign(values)
    y = [0.3] * int(model.output_shape[-1])
    options = {"rtol": 1e-2} if precision == "float32" else {}  # bars of 1e-4, as f rounds to 1e-7 over 1e-2
    report = fdfast.gradcheck(model, at(1, 2, 0.5), y, loss="mse", wrt="weights", precision=precision, **options)
    assert letters(report["w"]) == codes
    assert report.verdict == ("fail" if "w" in codes else "inconclusive" if "s" in codes else "pass")
    assert words in "\n".join([*report.reasons, *report.hints])


def test_weights_at_which_only_the_inputs_are_special() -> None:
    model = keras.Sequential([keras.Input((3,)), Products(name="layer")])
    report = fdfast.gradcheck(model, at(2, 0, 3), [0.3] * 3, loss="mse", wrt="weights")
    assert letters(report["w"]) in ("awa", "aaa")  # x * w is zero whatever w is: its slope along w is zero, too
    assert report.verdict != "inconclusive"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", ["array", "function"])
def test_a_gradient_of_one_s_own_that_is_no_number(form: str, value: float) -> None:
    x = at(0.5, 0, 2)
    wrong = np.cos(x)
    wrong[1] = value
    report = fdfast.gradcheck(total(tf.sin), x, analytic=wrong if form == "array" else lambda x: wrong)
    assert letters(report) == "awa"
    assert report.verdict == "fail"
    assert NAN in report.hints[0]
    assert report.worst(1)[0]["index"] == (1,)
    # On a kink, too: there f has slopes, and no number is between them.
    assert letters(fdfast.gradcheck(total(tf.abs), x, analytic=np.where(x == 0, value, np.sign(x)))) == "awa"


def test_weights_by_a_gradient_of_one_s_own_that_is_no_number() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    zeros = [np.full((2, 1), np.nan), np.zeros(1)]
    report = fdfast.gradcheck(model, at(1, 2), [0.3], loss="mse", wrt="weights", analytic=zeros)
    assert report.verdict == "fail"
    assert letters(report["kernel"]) == "ww"


@pytest.mark.parametrize("case", ADVICE)
def test_following_the_advice(case: str) -> None:
    f, x, words, options, other = ADVICE[case]
    report = fdfast.gradcheck(f, x)
    assert not report
    assert words in "\n".join([*report.reasons, *report.hints])
    assert fdfast.gradcheck(f, x if other is None else other, **options).verdict == "pass"


def test_a_small_constant_under_the_root() -> None:
    steep = fdfast.gradcheck(total(lambda x: tf.sqrt(tf.abs(x))), at(0, 1))
    assert "a small constant under the root" in "\n".join(steep.reasons)
    assert fdfast.gradcheck(total(lambda x: tf.sqrt(tf.abs(x) + 1e-6)), at(0, 1)).verdict == "pass"
