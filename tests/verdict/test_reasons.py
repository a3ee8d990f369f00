"""Each sentence stands where its case is, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.data.datasets import mnist_cnn, mnist_sample
from fdfast.estimates import ABOVE, JUMP, KINK, SMOOTH, STEEP, UNDEFINED
from fdfast.verdict import reasons
from fdfast.verdict.compare import AGREE, KINKED, SINGULAR, UNRESOLVED, WRONG
from fdfast.verdict.judgement import Judgement
from fdfast.verdict.reasons import selftest_figure

TILES = 8


def judgement(**changes):
    """Eight tiles that agree; then the changes, a dict by tile or a whole map."""
    slopes = np.linspace(1, 2, TILES)[None]
    no = np.zeros((1, TILES), bool)
    whole = {
        "numeric": slopes, "analytic": slopes, "error_bar": 1e-9 * slopes, "right": slopes, "left": slopes,
        "kind": np.full((1, TILES), SMOOTH, np.int8), "codes": np.full((1, TILES), AGREE, np.int8),
        "near": no, "between": no, "branch": no, "cleared": no, "only_here": no, "edge": no, "within": no,
        "breaks": np.zeros((1, TILES), np.int8), "jump": np.zeros((1, TILES)), "sums_only": "",
        "side": np.zeros((1, TILES), np.int8), "roughness": np.zeros((1, TILES)), "wider": np.zeros((1, TILES)),
        "checked_numeric": slopes, "checked_analytic": slopes, "checked_error": 1e-9 * slopes,
        "detectable": 1e-4 * slopes,
        "step": np.full((1, TILES), 1e-5), "base": np.array([1.5]), "noise": np.array([3e-16]),
        "deployed": None, "deployed_dtype": None, "selftest": None, "evaluations": 40, "refined": 0, "timings": {},
        "ties": {},
    }  # fmt: skip
    for name, change in changes.items():
        if isinstance(change, dict) and name not in ("timings", "ties"):
            changed = np.array(whole[name])
            for tile, value in change.items():
                changed[0, tile] = value
            change = changed
        whole[name] = change
    return Judgement(**whole)


def reasons_of(found, coverage, notes):
    return reasons.reasons_of(found, coverage, notes, lambda example, tile: (tile,))


ZERO = np.zeros((1, TILES))
NARROW = {"deployed": np.linspace(1, 2, TILES)[None] * 1.002, "deployed_dtype": "float32"}
# What is found, and the words that only this case has
CASES = {
    "all agree": ({}, ""),
    "wrong": ({"codes": {2: WRONG, 3: WRONG}}, "2 tiles of 8: the gradient differs from the finite"),
    "one wrong": ({"codes": {2: WRONG}}, "1 tile of 8: the gradient differs"),
    "kinks": (
        {"kind": {0: KINK, 1: KINK}, "near": {0: True, 1: True}, "between": {1: True}},
        "2 tiles sit exactly on a kink at x",
    ),
    "one kink": ({"kind": {0: KINK}, "near": {0: True}}, "1 tile sits exactly on a kink"),
    "branch": ({"codes": {4: KINKED}, "branch": {4: True}, "cleared": {4: True}}, "1 tile: the gradient differs from"),
    "at x alone": (
        {"codes": {4: WRONG}, "only_here": {4: True}, "cleared": {4: True}},
        "1 tile: wrong at x alone. f is smooth there",
    ),
    "branch or fault": ({"codes": {4: UNRESOLVED}, "cleared": {4: True}}, "noise of f hides whether kinks meet"),
    "inside tiles": ({"codes": {1: WRONG}, "within": {1: True}}, "1 tile is right as a whole and wrong inside"),
    "inside tiles, open": ({"codes": {1: KINKED}, "within": {1: True}}, "1 tile agrees as a whole, but could not"),
    "undefined": (
        {"codes": {1: SINGULAR}, "breaks": {1: UNDEFINED}, "side": {1: ABOVE}},
        "1 tile: f is not finite at x[1] + h",
    ),
    "noise of x": ({"roughness": {1: 1e-6}, "wider": {1: 1e-3}}, "1 tile: right at x the slope of f is noise"),
    "steep": ({"codes": {1: SINGULAR, 2: SINGULAR}, "breaks": {1: STEEP, 2: STEEP}}, "2 tiles: the slope of f grows"),
    "jump": (
        {"codes": {1: SINGULAR}, "breaks": {1: JUMP}, "jump": {1: 0.1625}},
        "1 tile: f jumps at x, by 0.163 at most",
    ),
    "edge": ({"edge": {5: True, 6: True}, "near": {5: True, 6: True}}, "2 tiles at the bounds: only one side"),
    "unresolved": ({"codes": {7: UNRESOLVED}, "noise": np.array([2e-7])}, "1 tile stayed unresolved"),
    "nothing at all": (
        {"numeric": ZERO, "analytic": ZERO, "checked_numeric": ZERO, "checked_analytic": ZERO},
        "Every derivative is exactly zero on both sides",
    ),
    "gradient lost": (
        {"analytic": ZERO, "checked_analytic": ZERO, "codes": np.full((1, TILES), WRONG, np.int8)},
        "sees no path from x to the loss",
    ),
    "deployed": (NARROW, "in float32, keeps about 2.7 digits here"),
}  # fmt: skip
#: A few words of each sentence, and the cases that have it.
MARKS = {
    "by more than the error bar": ("wrong", "one wrong", "gradient lost", "at x alone", "inside tiles"),
    "exactly on a kink": ("kinks", "one kink"),
    "takes a branch of several kinks": ("branch",),
    "wrong at x alone": ("at x alone",),
    "hides whether kinks meet": ("branch or fault",),
    "right as a whole and wrong inside": ("inside tiles",),
    "could not be decided when": ("inside tiles, open",),
    "f is not finite at": ("undefined",),
    "the slope of f is noise": ("noise of x",),
    "grows without bound": ("steep",),
    "f jumps at x": ("jump",),
    "at the bounds": ("edge",),
    "stayed unresolved": ("unresolved",),
    "exactly zero on both sides": ("nothing at all",),
    "sees no path": ("gradient lost",),
    "keeps about": ("deployed",),
    "could be checked": (),
}


@pytest.mark.parametrize("case", CASES)
def test_a_sentence_in_its_case_and_not_in_others(case):
    changes, words = CASES[case]
    text = "\n".join(reasons_of(judgement(**changes), 0.0, []))
    assert words in text
    expected = [mark for mark, cases in MARKS.items() if case in cases]
    assert [mark for mark in MARKS if mark in text] == expected
    assert len(text.splitlines()) == len(expected)


def test_kinks_near_and_between_are_counted():
    kinds = {"kind": dict.fromkeys(range(4), KINK), "between": dict.fromkeys(range(3), True)}
    some = reasons_of(judgement(**kinds, near=dict.fromkeys(range(4), True), codes={3: WRONG}), 0.99, [])[-1]
    assert "4 tiles sit" in some
    assert "lies between the two slopes on 3 of them" in some
    assert "3 were checked at a generic point near x" in some  # the fourth was found wrong there
    none = reasons_of(judgement(**kinds, codes=dict.fromkeys(range(4), KINKED)), 0.0, [])[-1]
    assert "None of them was checked near x: jitter is off, or the gradient is an array" in none
    # A smooth tile that was decided near x is no kink.
    other = reasons_of(judgement(**kinds, near=dict.fromkeys((0, 1, 7), True)), 0.99, [])[-1]
    assert "2 were checked" in other
    assert "first layer to tie" not in other
    named = reasons_of(judgement(**kinds, ties={"pool": 3, "conv": 1}), 0.0, [])[-1]
    assert "The first layer to tie is pool on 3, conv on 1." in named


@pytest.mark.parametrize(
    ("codes", "asked", "said"),
    [
        ({0: KINKED}, 0.99, "Only 87.50 % of the tiles could be checked, 99 % were asked for."),
        ({0: KINKED}, 0.875, ""),
        ({0: KINKED, 1: WRONG}, 0.99, ""),  # it fails; coverage is not the reason
    ],
)
def test_coverage(codes, asked, said):
    text = "\n".join(reasons_of(judgement(codes=codes), asked, []))
    assert (said in text) if said else ("could be checked" not in text)


def test_a_relu_at_zero_has_not_lost_its_gradient():
    # At x = 0 autodiff of a ReLU is zero everywhere, and the difference 1/2: kinks, right near x.
    kinked = np.full((1, TILES), KINK, np.int8)
    for codes in (np.full((1, TILES), AGREE, np.int8), np.full((1, TILES), KINKED, np.int8)):
        found = judgement(analytic=ZERO, checked_analytic=ZERO, kind=kinked, codes=codes)
        assert not any("no path" in sentence for sentence in reasons_of(found, 0.99, []))


def test_what_is_undecided_at_the_bounds_is_not_called_noisy():
    text = "\n".join(reasons_of(judgement(codes={5: UNRESOLVED, 6: UNRESOLVED}, edge={5: True, 6: True}), 0.5, []))
    assert "x does not decide; 0 agree at a generic point near x. bounds=None looks at both sides" in text
    assert "stayed unresolved" not in text


@pytest.mark.parametrize(
    ("base", "dtype", "said"),
    [
        (1e-5, "float32", "a saturated softmax, as float32 cannot tell"),
        (2.3, "float32", "(a) mixed precision"),
        (1e-5, "float16", "as float16 cannot"),
    ],
)
def test_the_cause_of_lost_digits(base, dtype, said):
    found = judgement(**{**NARROW, "deployed_dtype": dtype}, base=np.array([base]))
    sentence = reasons_of(found, 0.99, [])[-1]
    assert said in sentence
    assert "That is rounding, not a wrong formula" in sentence
    assert ("saturated softmax" in sentence) == (base < 0.05)


DEPLOYED = [
    (1.0, 16.0, 0.0),  # not a bit is lost
    (1 + 1e-6, 6.0, 1e-6),
    (1.1, 1.0, 0.1),
]


@pytest.mark.parametrize(("factor", "digits", "median"), DEPLOYED)
def test_digits_of_the_deployed_gradient(factor, digits, median):
    found = judgement(deployed=np.linspace(1, 2, TILES)[None] * factor, deployed_dtype="float32", analytic={0: 0.0})
    figure = found.deployed_figure
    assert figure["digits"] == pytest.approx(digits, abs=1e-6)  # of 1e-6, rounding leaves ten digits
    assert figure["median_rel_error"] == pytest.approx(median, rel=1e-6, nan_ok=True)
    assert judgement().deployed_figure is None
    # All zeros have no digits.
    nothing = judgement(deployed=np.full((1, TILES), np.nan), deployed_dtype="float32")
    assert nothing.deployed_figure is None


@pytest.mark.parametrize(
    ("seen", "words", "passed"),
    [
        (None, None, True),
        ([True], "was found in 1 of 1.", True),
        ([True, False, True], "was found in only 2 of 3: this run could not have seen such a fault", False),
    ],
)
def test_selftest(seen, words, passed):
    text, ok = selftest_figure(judgement(selftest=None if seen is None else np.array(seen)))
    assert ok is passed
    assert text is None if words is None else words in text


def test_notes_become_sentences_at_the_end():
    assert reasons_of(judgement(), 0.99, ["evaluated in float32, because it must"]) == [
        "Evaluated in float32, because it must."
    ]


def test_a_saturated_digit_of_the_shipped_network():
    images, labels = mnist_sample(3)
    report = fdfast.gradcheck(mnist_cnn(), images[2], np.eye(10)[labels[2]], loss="categorical_crossentropy")
    assert report.verdict == "pass"
    assert report.coverage >= 0.99
    text = "\n".join(report.reasons)
    assert "The gradient as deployed, in float32, keeps about 2" in text  # p = 1 - 1e-5, of the 7 digits of float32
    assert "saturated softmax" in text
    assert "sit exactly on a kink at x" in text
    assert "wrong there" not in text
    assert report.deployed["dtype"] == "float32"


def rows_of(f):
    return lambda rows: tf.reduce_sum(f(rows), axis=1)


X = np.linspace(0.3, 0.9, 4)
LOST = {
    "stop_gradient": (rows_of(lambda r: tf.stop_gradient(r) ** 2), "fail", "sees no path"),
    "one branch stopped": (rows_of(lambda r: r + tf.stop_gradient(r) ** 2), "fail", "is wrong there"),
    "constant": (rows_of(lambda r: 0 * r + 3), "inconclusive", "exactly zero on both sides"),
    "clipped": (rows_of(lambda r: tf.clip_by_value(r, 1.0, 2.0)), "inconclusive", "exactly zero on both sides"),
    "a gradient": (rows_of(tf.sin), "pass", ""),
}


@pytest.mark.parametrize("case", LOST)
def test_a_gradient_that_is_not_there(case):
    f, verdict, words = LOST[case]
    report = fdfast.gradcheck(f, X, batched=True)
    assert report.verdict == verdict
    text = "\n".join(report.reasons)
    assert words in text
    assert ("sees no path" in text) == (case == "stop_gradient")
