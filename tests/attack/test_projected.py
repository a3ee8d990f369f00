"""PGD: the ball and the range it keeps, what it reaches by each gradient, what it says, and what it refuses."""

from __future__ import annotations

import doctest
import json
from typing import Any

import keras
import numpy as np
import pytest
from masked_models import CLASSES, SHAPE, Cut, Noise, build, examples

import fdfast
from fdfast.attack import exact, fgsm, pgd, projected
from fdfast.attack.slopes import KINDS
from fdfast.attack.subject import subject_of

EPSILON = 0.1
# x + step and the clipping to x +- epsilon round once each, in float32 below 1.
ROUNDING = 2 * float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def model() -> Any:
    return build(scale=3.0)


@pytest.fixture(scope="module")
def data(model: Any) -> tuple[Any, Any]:
    return examples(model)


def options(kind: str) -> dict[str, Any]:
    given: dict[str, Any] = {"tile": {"tile": 2}, "coordinate": {"queries": 72}}
    return given.get(kind, {})


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "straight-through"])
@pytest.mark.parametrize("norm", ["inf", "l2"])
def test_every_gradient_raises_the_loss_within_ball_and_bounds(model: Any, data: Any, kind: Any, norm: Any) -> None:
    x, y = data
    radius = EPSILON if norm == "inf" else 0.5
    found = pgd(model, x, y, radius, gradient=kind, norm=norm, steps=5, bounds=(0.2, 0.8), **options(kind))
    assert found.distance[norm].max() <= radius + ROUNDING
    assert found.adversarial.min() >= np.float32(0.2)
    assert found.adversarial.max() <= np.float32(0.8)
    assert (found.adversarial.dtype, found.adversarial.shape) == (x.dtype, x.shape)
    # By the true gradient the loss rises on every example; an estimate of 200 values of 36 elements is as good.
    assert (found.loss_history[-1] > found.loss_history[0]).all()
    assert found.queries > 0


def test_accuracies_and_success_are_those_of_the_model(model: Any, data: Any) -> None:
    x, y = data
    found = pgd(model, x, y, 0.2, gradient="autodiff", steps=10)
    said = model.predict(found.adversarial, verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(found.success, said != y)
    assert found.robust_accuracy == np.mean(said == y) < found.clean_accuracy == 1.0
    assert found.success_rate == 1 - found.robust_accuracy
    assert json.loads(found.to_json())["robust_accuracy"] == found.robust_accuracy
    assert f"robust {found.robust_accuracy:.3f}" in str(found)
    assert "PGD" in repr(found)


def test_targeted_leads_to_the_target(model: Any, data: Any) -> None:
    x, y = data
    target = (y + 1) % CLASSES
    found = pgd(model, x, target, 0.4, gradient="autodiff", targeted=True, steps=20)
    said = model.predict(found.adversarial, verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(found.success, said == target)
    assert found.success.all()
    assert np.isnan(found.robust_accuracy)


def test_a_seed_gives_the_same_result_and_restarts_are_no_worse(model: Any, data: Any) -> None:
    x, y = data
    one, same, more = (pgd(model, x, y, 0.06, gradient="autodiff", steps=3, restarts=n, seed=7) for n in (1, 1, 4))
    np.testing.assert_array_equal(one.adversarial, same.adversarial)
    assert more.success.sum() >= one.success.sum()


def test_one_step_from_x_is_fgsm(model: Any, data: Any) -> None:
    x, y = data
    step = pgd(model, x, y, EPSILON, gradient="autodiff", steps=1, step_size=EPSILON, random_start=False)
    sign = fgsm(model, x, y, EPSILON, gradient="autodiff", precision="float32")
    np.testing.assert_array_equal(step.adversarial, sign)


def test_differences_are_those_of_gradient_and_the_model_is_looked_at_once(
    model: Any, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = data
    looked, look = [], exact.problem_of
    monkeypatch.setattr(exact, "problem_of", lambda *given: looked.append(1) or look(*given))
    monkeypatch.setattr(exact, "finite_difference", None)  # which would look again
    with subject_of(model, x, y, None, (0, 1)) as subject:
        slope = exact.ExactSlopes(subject, None, 1, "apart", narrow=True)
        some = np.array([2, 0])
        for points in (subject.points[some], subject.points[some] + np.float32(0.01)):
            wanted = fdfast.gradient(model, points, y=y[some])
            # Differences in float32 that start from values in float64.
            np.testing.assert_allclose(slope(points, some), wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())
    assert len(looked) == 1


def test_a_single_example_keeps_its_shape(model: Any, data: Any) -> None:
    x, y = data
    found = pgd(model, x[0], y[0], EPSILON, gradient="autodiff", steps=2)
    assert found.adversarial.shape == SHAPE
    figure = found.plot()
    assert "epsilon = 0.1" in figure._suptitle.get_text()


def test_callables_of_scores_of_losses_and_of_numpy(data: Any) -> None:
    x, y = data
    flat = x.reshape(len(x), -1)
    weights = np.random.default_rng(2).normal(size=(flat.shape[1], CLASSES)).astype(np.float32)
    y = (flat @ weights).argmax(axis=1)
    scores = pgd(lambda rows: np.asarray(rows) @ weights, flat, y, 0.3, steps=5)
    assert scores.robust_accuracy < scores.clean_accuracy == 1.0
    losses = pgd(lambda rows: np.asarray(rows).sum(axis=1), flat, None, EPSILON, steps=5, bounds=None)
    # Uphill of the sum is up, everywhere; 5 steps of half of epsilon reach the corner from anywhere.
    np.testing.assert_allclose(losses.adversarial - flat, EPSILON, atol=ROUNDING)
    assert losses.success.all()
    assert np.isnan(losses.robust_accuracy)


def test_a_search_finds_the_step_of_a_staircase() -> None:
    def stairs(rows: Any) -> Any:
        return np.round(np.asarray(rows) * 10).sum(axis=1) / 10

    x = np.full((2, 8), 0.5, np.float32)
    found = pgd(stairs, x, None, 0.2, h="search", steps=4, bounds=None)
    # Nothing moves below half a stair, 0.05; the steps tried are halves of 0.2.
    assert found.settings["h"] in (0.05, 0.1)
    assert found.success.all()
    blind = pgd(stairs, x, None, 0.2, h=1e-3, steps=4, bounds=None, random_start=False)
    assert not blind.success.any()
    with pytest.raises(ValueError, match="h='search' finds no step"):
        pgd(stairs, x, None, 0.01, h="search", steps=4, bounds=None)


def test_samples_average_a_random_model() -> None:
    model = build(Noise(), scale=3.0)
    x, y = examples(build(scale=3.0))
    found = pgd(model, x, y, 0.3, gradient="autodiff", samples=4, steps=5)
    assert found.robust_accuracy < found.clean_accuracy


def test_straight_through_passes_by_what_autodiff_cannot() -> None:
    model = build(Cut(), scale=3.0)
    x, y = examples(model)
    plain = pgd(build(scale=3.0), x, y, 0.2, gradient="autodiff", steps=5)
    found = pgd(model, x, y, 0.2, gradient="straight-through", steps=5)
    # Cut changes no value, so the way past it is the model's own gradient.
    np.testing.assert_allclose(found.adversarial, plain.adversarial, atol=ROUNDING)
    with pytest.raises(ValueError, match="gradient='autodiff' cannot be used"):
        pgd(model, x, y, 0.2, gradient="autodiff", steps=5)
    with pytest.raises(ValueError, match="nothing to pass by"):
        pgd(build(scale=3.0), x, y, 0.2, gradient="straight-through", steps=5)


def test_the_state_of_a_model_is_put_back(model: Any, data: Any) -> None:
    x, y = data
    before = [w.copy() for w in model.get_weights()]
    x = x.copy()
    x.flags.writeable = False
    pgd(model, x, y, EPSILON, steps=2)
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)


def broken() -> Any:
    model = build()
    model.layers[-2].set_weights([w * np.nan for w in model.layers[-2].get_weights()])
    return model


BAD = [
    ("epsilon zero", {"epsilon": 0}, ValueError, "epsilon must be finite and greater than 0, got 0"),
    ("epsilon negative", {"epsilon": -1.0}, ValueError, "epsilon must be finite and greater than 0"),
    ("bounds", {"bounds": (0.5, 1)}, ValueError, r"lies outside the bounds \(0\.5, 1\)"),
    ("labels", {"y": [0, 1, 2, 3, 0, 0]}, ValueError, r"y must hold class numbers 0 \.\. 2"),
    ("label below", {"y": [0, 1, 2, -1, 0, 0]}, ValueError, r"y must hold class numbers 0 \.\. 2"),
    ("few labels", {"y": [0]}, ValueError, "y has 1 targets for 6 examples"),
    ("no y", {"y": None}, TypeError, "y is missing"),
    ("steps", {"steps": 0}, ValueError, "steps must be at least 1, got 0"),
    ("steps float", {"steps": 1.5}, TypeError, "steps must be a whole number"),
    ("norm", {"norm": "l1"}, ValueError, "norm must be one of 'inf', 'l2'"),
    ("gradient", {"gradient": "guess"}, ValueError, "gradient must be one of 'difference'"),
    ("samples", {"samples": 0}, ValueError, "samples must be at least 1"),
    ("h", {"h": -1.0}, ValueError, "h must be finite and greater than 0"),
    ("queries", {"gradient": "spsa", "queries": 2}, ValueError, "queries must be at least 4"),
    ("model", {"model": 3}, TypeError, "must be a Keras model or a callable"),
    ("x shape", {"x": np.zeros((6, 5, 5, 1))}, ValueError, r"x has shape \(5, 5, 1\) per example"),
    ("NaN", {"model": "broken"}, ValueError, "f is not finite at example 0"),
    ("margin", {"loss": "mean_squared_error", "y": np.zeros((6, 3)), "bounds": 1}, TypeError, "pair of numbers"),
]


@pytest.mark.parametrize(("change", "error", "message"), [pytest.param(*b[1:], id=b[0]) for b in BAD])
def test_bad_arguments_are_named_and_x_is_untouched(
    model: Any, data: Any, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    x = data[0].copy()
    before = x.tobytes()
    given: dict[str, Any] = {"model": model, "x": x, "y": data[1], "epsilon": EPSILON, "gradient": "autodiff"} | change
    if isinstance(given["model"], str):
        given["model"] = broken()
    with pytest.raises(error, match=message):
        pgd(given.pop("model"), given.pop("x"), given.pop("y"), given.pop("epsilon"), **given)
    assert x.tobytes() == before


def test_colour_fgsm_is_the_textbook_formula_to_the_last_bit() -> None:
    import tensorflow as tf

    keras.utils.set_random_seed(4)
    layers = [keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((32, 32, 3)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    x = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32) / np.float32(255)
    y = np.arange(4)
    with tf.GradientTape() as tape:
        rows = tf.constant(x)
        tape.watch(rows)
        value = tf.reduce_sum(tf.keras.losses.sparse_categorical_crossentropy(y, model(rows), from_logits=True))
    textbook = tf.clip_by_value(rows + np.float32(8 / 255) * tf.sign(tape.gradient(value, rows)), 0.0, 1.0).numpy()
    found = fgsm(model, x, y, 8 / 255, loss=loss, gradient="autodiff", precision="float32")
    np.testing.assert_array_equal(found, textbook)
    assert (found[..., 0] - x[..., 0] != found[..., 1] - x[..., 1]).any()


def test_many_models_in_turn_are_attacked_without_a_warning_of_retracing(caplog: pytest.LogCaptureFixture) -> None:
    import tensorflow as tf

    for _ in range(8):  # TensorFlow warns from the fifth on
        model = build()
        x, y = examples(model, 2)
        pgd(model, x, y, 0.1, steps=2, gradient="autodiff")
    assert "retracing" not in caplog.text
    for _ in range(8):
        tf.function(lambda a: a + 1)(1)
    assert "retracing" in caplog.text  # would be seen


def test_the_example_of_the_docstring() -> None:
    found = doctest.testmod(projected)
    assert found.attempted > 0
    assert found.failed == 0
