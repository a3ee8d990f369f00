"""The diagnosis: each defect by its name, advice that works when followed, and what is said, drawn and written."""

from __future__ import annotations

import doctest
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from masked_models import Cut, Jumps, Noise, Steps, build, examples

from fdfast.attack import diagnosis, masking, pgd
from fdfast.attack.masking_text import render

EPSILON = 0.1
CASES: dict[str, tuple[Any, str]] = {
    "plain": (lambda: build(scale=3.0), "faithful"),
    "logits": (lambda: build(scale=3.0, softmax=False), "faithful"),
    "large logits": (lambda: build(scale=1000.0), "saturated"),
    "rounded input": (lambda: build(Steps(), scale=3.0), "staircase"),
    "Python in between": (lambda: build(Cut(), scale=3.0), "disconnected"),
    "noise": (lambda: build(Noise(), scale=3.0), "random"),
    "jumps": (lambda: build(Jumps(), scale=3.0), "shattered"),
}
#: Sixteen values, by cutting off: 0 lies on an edge, and so do all pixels of a background. And few values, whose edges
#: a few elements do not meet within epsilon.
STAIRS = {
    "edges at zero": lambda x: tf.floor(x * 16) / 16,
    "two values": lambda x: tf.round(x),
    "bytes": lambda x: tf.cast(tf.cast(255 * x + 0.5, tf.uint8), x.dtype) / 255,
}
_known: dict[str, Any] = {}


def case(name: str) -> tuple[Any, Any, Any, Any]:
    """Model, examples, targets and report of a case, made once."""
    if name not in _known:
        model = CASES[name][0]()
        # What the plain network says: noise and the like would put targets elsewhere now and then.
        x, y = examples(build(scale=3.0))
        _known[name] = (model, x, y, masking(model, x, y, EPSILON, directions=32, label=name))
    return _known[name]


@pytest.mark.parametrize("name", CASES)
def test_every_example_is_called_by_its_defect(name: str) -> None:
    report = case(name)[3]
    assert report.verdict == CASES[name][1]
    assert report.counts == {CASES[name][1]: 6}
    assert report.masked is (report.verdict != "faithful")


@pytest.mark.parametrize("name", CASES)
def test_the_advice_followed_is_as_good_as_the_attack_on_the_plain_network(name: str) -> None:
    model, x, y, report = case(name)
    found = pgd(model, x, y, 0.3, steps=10, **report.advised)
    # Three tenths lead every example of the plain network astray; one of six may hold out against noise.
    assert found.success.sum() >= 5
    for word in report.advised:
        assert f"{word}=" in report.advice


@pytest.mark.parametrize("name", STAIRS)
def test_stairs_are_seen_at_the_ends_of_the_range_and_where_they_are_high(name: str) -> None:
    model = build(keras.layers.Lambda(STAIRS[name]), scale=3.0)
    x = np.round(np.random.default_rng(4).uniform(0, 1, (6, 6, 6, 1)) * 255).astype(np.float32) / 255
    x[:, :4] = 0.0
    x[:, 4] = 0.5 - np.float32(0.5 / 255)  # or nothing would move within epsilon
    report = masking(model, x, model(x).numpy().argmax(axis=1), EPSILON, directions=32)
    assert report.counts == {"staircase": 6}


def test_what_autodiff_does_there_instead() -> None:
    model, x, y, report = case("large logits")
    blind = pgd(model, x, y, EPSILON, gradient="autodiff", steps=10)
    seeing = pgd(model, x, y, EPSILON, steps=10, **report.advised)
    assert blind.success.sum() < seeing.success.sum()
    assert report.gains["autodiff"] < report.gains["autodiff of the margin"]


def test_a_saturated_loss_that_is_no_cross_entropy() -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, activation="sigmoid")])
    model.set_weights([np.full((8, 1), 60.0), np.zeros(1)])
    model.compile(loss="mean_squared_error")
    x = np.random.default_rng(0).uniform(0.4, 0.6, (4, 8)).astype(np.float32)
    # exp(-240) is no number of float32, so that nothing moves for it; what cannot be seen is not called faithful.
    report = masking(model, x, np.ones((4, 1)), EPSILON, directions=16)
    assert report.verdict == "unresolved"


def test_a_loss_that_does_not_move_is_unresolved() -> None:
    report = masking(lambda rows: np.zeros(len(rows)), np.full((2, 4), 0.5), None, EPSILON, directions=8)
    assert report.verdict == "unresolved"


def test_a_callable_of_arrays_is_disconnected() -> None:
    report = masking(lambda rows: np.asarray(rows).sum(axis=1), np.full((2, 8), 0.5), None, EPSILON, directions=8)
    assert report.verdict == "disconnected"
    found = pgd(lambda rows: np.asarray(rows).sum(axis=1), np.full((2, 8), 0.5), None, EPSILON, **report.advised)
    assert found.success.all()


@pytest.mark.parametrize("name", CASES)
def test_text_says_verdict_reasons_advice_and_steps(name: str) -> None:
    report = case(name)[3]
    text = " ".join(str(report).split())
    assert text.startswith(f"{report.verdict.upper()} {name}, 6 examples, epsilon 0.1")
    for sentence in (*report.reasons, report.advice):
        assert sentence in text
    assert all(len(line) <= 100 for line in render(report).splitlines())
    assert report.reasons or report.verdict == "unresolved"


def test_json_is_strict_and_complete(tmp_path: Path) -> None:
    report = case("rounded input")[3]
    told = json.loads(report.to_json(tmp_path / "m.json"), parse_constant=pytest.fail)
    assert told == json.loads((tmp_path / "m.json").read_text())
    assert (told["verdict"], told["advised"]) == ("staircase", {"gradient": "straight-through"})
    assert len(told["measures"]["cosine"]) == 6


class _Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)


def test_html_is_one_page_without_scripts_and_escapes(tmp_path: Path) -> None:
    model, x, y, _ = case("plain")
    report = masking(model, x[:2], y[:2], EPSILON, directions=4, label="<script>alert(1)</script>")
    page = report.to_html(tmp_path / "m.html")
    assert "script" not in _Tags(page).seen
    assert _Tags(page).seen.count("img") == 1
    assert "What to do" in page
    assert "script" not in _Tags(report._repr_html_()).seen


def test_the_figure_has_both_panels(tmp_path: Path) -> None:
    report = case("rounded input")[3]
    report.plot(tmp_path / "m.png")
    assert (tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"
    left, right = report.plot().axes
    assert {t.get_text() for t in left.get_legend().get_texts()} >= {"differences", "straight-through"}
    assert right.get_xscale() == "log"


def test_nothing_of_the_caller_s_is_changed() -> None:
    model, x, y, _ = case("plain")
    x = x.copy()
    x.flags.writeable = False
    before = [w.copy() for w in model.get_weights()]
    masking(model, x[:2], y[:2], EPSILON, directions=4)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 0}, "epsilon must be finite and greater than 0"),
        ({"epsilon": 10**400}, "epsilon must be finite and greater than 0"),
        ({"directions": 1}, "directions must be at least 2"),
        ({"bounds": (0, 0.1)}, "lies outside the bounds"),
        ({"y": [5] * 6}, "y must hold class numbers"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], message: str) -> None:
    model, x, y, _ = case("plain")
    given = {"y": y, "epsilon": EPSILON} | change
    with pytest.raises(ValueError, match=message):
        masking(model, x, given.pop("y"), given.pop("epsilon"), **given)


def test_the_example_of_the_docstring() -> None:
    found = doctest.testmod(diagnosis)
    assert found.attempted > 0
    assert found.failed == 0
