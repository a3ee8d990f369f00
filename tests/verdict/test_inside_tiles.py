"""Errors that sum to zero over a tile: found by moving its elements by random signs and amplitudes, in every engine."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast

RNG = np.random.default_rng(0)
SHAPE = (6, 6, 3)
X = RNG.uniform(0.2, 0.9, SHAPE)
Array = Any


def swapped(g: Array) -> Array:
    return g[..., ::-1]


def mixed(g: Array) -> Array:
    return tf.reduce_mean(g, axis=-1, keepdims=True) * tf.ones_like(g)


def in_one(g: Array) -> Array:
    return tf.reduce_sum(g, axis=-1, keepdims=True) * tf.constant([1.0, 0, 0], g.dtype)


def moved(g: Array) -> Array:
    return tf.roll(g, 1, axis=-1)


def within_rows(g: Array) -> Array:
    """Pairs of neighbours get each other's gradient: right in every sum over whole pairs."""
    shape = tf.shape(g)
    pairs = tf.reshape(g, [shape[0], -1, 2, 3])
    return tf.reshape(pairs[:, :, ::-1], shape)


FAULTS = {
    "right": (lambda g: g, ""),
    "BGR": (swapped, "in another order: 2, 1, 0"),
    "mean of the channels": (mixed, "is the mean of the finite difference's channels"),
    "all in one channel": (in_one, "Channel 0 of the analytic gradient holds the sum"),
    "channels moved on": (moved, "in another order"),
    "neighbours exchanged": (within_rows, ""),
}


@keras.saving.register_keras_serializable("tests")
class Spoilt(keras.layers.Layer):
    """x, with a gradient that is spoilt by name."""

    def __init__(self, fault: str, **options: Any) -> None:
        super().__init__(**options)
        self.fault = fault

    def call(self, x: Any) -> Any:
        @tf.custom_gradient
        def same(x: Any) -> Any:
            return tf.identity(x), FAULTS[self.fault][0]

        return same(x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fault": self.fault}


def network(fault: str, end: str = "tanh") -> keras.Model:
    keras.utils.set_random_seed(3)
    layers = keras.layers
    first = [Spoilt(fault)] if fault != "right" else []
    return keras.Sequential(
        [keras.Input(SHAPE), *first, layers.Conv2D(3, 3, activation=end), layers.Flatten(), layers.Dense(2)]
    )


def f(x: Any) -> Any:
    return tf.reduce_sum(tf.sin(x * np.linspace(0.5, 2, X.size).reshape(SHAPE)))


TILES = [(1, "together"), (2, "apart"), ((2, 2, 3), "apart"), (3, "together")]


@pytest.mark.parametrize(("tile", "channels"), [(1, "apart"), *TILES])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_with_a_layer_of_the_user_s(fault: str, tile: Any, channels: Any) -> None:
    hidden_in_tiles = fault == "neighbours exchanged" and tile == 1 and channels == "together"
    report = fdfast.gradcheck(network(fault), X, [0.0, 1.0], loss="mse", tile=tile, channels=channels)
    assert report.verdict == ("pass" if fault == "right" else "fail"), hidden_in_tiles
    if (tile, channels) == (1, "apart"):
        assert FAULTS[fault][1] in "\n".join(report.hints)
    assert not any("sums" in one for one in report.caveats)


@pytest.mark.parametrize("engine", ["difference", "batch"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(("tile", "channels"), TILES)
def test_both_engines_see_inside_tiles(engine: Any, precision: Any, tile: Any, channels: Any) -> None:
    model = network("right", "relu")
    options = {"loss": "mse", "engine": engine, "precision": precision, "tile": tile, "channels": channels}
    if precision == "float32":
        options |= {"rtol": 1e-2}  # rounding of f over the step of 2^-8: 1e-5 of the largest
    right = fdfast.gradcheck(model, X, [0.0, 1.0], loss="mse").analytic
    assert fdfast.gradcheck(model, X, [0.0, 1.0], analytic=lambda x: right, jitter=None, **options).counts["wrong"] == 0
    # In every tile two elements trade a tenth of the largest gradient: the sums stay.
    wrong = right.copy()
    size = 0.1 * np.abs(right).max()
    wrong[::2, :, 0] += size
    wrong[::2, :, 1 if channels == "together" or tile == (2, 2, 3) else 0] -= size
    if channels == "apart" and tile == 2:
        wrong = right.copy()
        wrong[::2] += size
        wrong[1::2] -= size
    report = fdfast.gradcheck(model, X, [0.0, 1.0], analytic=wrong, jitter=None, **options)
    assert report.verdict == "fail"
    reason = next(reason for reason in report.reasons if "right as a whole and wrong inside" in reason)
    assert "tile=1 with channels='apart' names the elements" in reason
    sums = np.abs(report.numeric - report.analytic).max()
    assert sums < 1e-3 * np.abs(report.numeric).max(), "the sums differ too: nothing was hidden"
    shown = report.worst(1)[0]
    assert shown["abs_error"] > 1e-2 * size, "the table shows where the two differ"


def test_following_the_advice_names_the_elements() -> None:
    wrong = np.asarray(fdfast.gradcheck(f, X).analytic).copy()
    wrong[2, 3] += np.array([0.5, 0, -0.5])
    report = fdfast.gradcheck(f, X, analytic=wrong, channels="together")
    assert (report.verdict, report.counts["wrong"]) == ("fail", 1)
    assert any("tile=1 with channels='apart'" in reason for reason in report.reasons)
    again = fdfast.gradcheck(f, X, analytic=wrong, tile=1, channels="apart")
    assert sorted(row["index"] for row in again.worst(2)) == [(2, 3, 0), (2, 3, 2)]
    assert again.counts["wrong"] == 2


@pytest.mark.parametrize("seed", range(4))
def test_a_right_gradient_passes_whatever_the_weights(seed: int) -> None:
    report = fdfast.gradcheck(f, X, tile=3, channels="together", seed=seed)
    assert report.verdict == "pass"
    assert report.coverage == 1.0


def test_at_bounds_all_elements_go_to_the_side_that_is_allowed() -> None:
    x = np.round(X)
    seen = []

    def inside(rows: Array) -> Array:
        seen.append((rows.min(), rows.max()))
        return np.sin(3 * rows).sum(axis=(1, 2, 3))

    def check(x: Array, **options: Any) -> Any:
        options = {"analytic": lambda x: 3 * np.cos(3 * x)} | options
        return fdfast.gradcheck(inside, x, batched=True, channels="together", bounds=(0.0, 1.0), **options)

    report = check(x)
    low, high = np.transpose(seen)
    assert low.min() >= 0
    assert high.max() <= 1
    assert report.counts["wrong"] == 0
    wrong = 3 * np.cos(3 * X)
    wrong[..., 0] += 0.5
    wrong[..., 1] -= 0.5
    assert check(X, analytic=wrong).verdict == "fail"
    assert check(X, analytic=3 * np.cos(3 * X)).verdict == "pass"


def test_kinked_tiles_are_looked_at_near_x_both_times() -> None:
    def pooled(x: Any) -> Any:
        return tf.reduce_sum(tf.nn.max_pool2d(x[None], 2, 2, "VALID") * tf.constant([1.0, 2.0, 3.0], tf.float64))

    x = np.zeros(SHAPE)
    report = fdfast.gradcheck(pooled, x, channels="together", tile=3)
    assert report.verdict == "pass"
    assert report.near.any()

    def backward(x: Array) -> Array:
        t = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(t)
            value = pooled(t)
        return swapped(tape.gradient(value, t).numpy())

    assert fdfast.gradcheck(pooled, x, channels="together", tile=3, analytic=backward).verdict == "fail"


def test_where_elements_cannot_move_the_first_lines_say_that_sums_were_compared() -> None:
    # The shortest rows, of a sixteenth of the step, still move 1.0 in float32, but not if a weight halves them.
    x = np.ones((2, 2, 3), np.float32)
    h = 8.5 * float(np.spacing(np.float32(1)))

    def f(rows: Any) -> Any:
        return tf.reduce_sum(rows, axis=(1, 2, 3))

    call = {"batched": True, "h": h, "coverage": 0.0, "jitter": None, "rtol": 0.9, "precision": "float32"}
    report = fdfast.gradcheck(f, x, channels="together", **call)
    assert len(report.caveats) == 1
    says = "Only sums over tiles of 1x1x3 were compared"
    assert says in report.caveats[0]
    assert "vanishes in float32" in report.caveats[0]
    assert says in str(report).splitlines()[1]
    page = report.to_html()
    assert 0 < page.index(says) < page.index("<h2>")
    assert says in report._repr_html_()
    assert says in report.plot().get_suptitle()
    assert report.to_dict()["caveats"] == report.caveats
    whole = fdfast.gradcheck(f, x, **call)
    assert whole.caveats == []
    assert "Only sums" not in str(whole)
