"""Functions brought into one form: whatever goes in and comes out, the number is the function's own, or Keras'."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.functions import flat_callable, flat_model, recorded, recordings

RNG = np.random.default_rng(0)
L = keras.layers
#: Of what a model that runs in float32 returns.
NARROW = 2e-6


def image_and_numbers() -> keras.Model:
    a, b = keras.Input((4, 4, 1), name="image"), keras.Input((3,), name="numbers")
    z = L.Concatenate()([L.Flatten()(L.Conv2D(2, 3, activation="tanh")(a)), b])
    return keras.Model([a, b], L.Dense(2, name="out")(z))


def of_a_dict() -> keras.Model:
    inputs = {"b": keras.Input((2,), name="b"), "a": keras.Input((3,), name="a")}
    return keras.Model(inputs, L.Dense(2)(L.Concatenate()([inputs["a"] ** 2, inputs["b"]])))


def words() -> keras.Model:
    tokens, weight = keras.Input((4,), dtype="int32", name="tokens"), keras.Input((4,), name="weight")
    z = L.Embedding(7, 3, name="table")(tokens) * weight[:, :, None]
    return keras.Model([tokens, weight], L.Dense(1)(L.Flatten()(z)))


def two_outputs(names: bool = False) -> keras.Model:
    x = keras.Input((3,), name="x")
    one, two = L.Dense(2, name="one")(x), L.Dense(4, activation="softmax", name="two")(x)
    return keras.Model(x, {"one": one, "two": two} if names else [one, two])


@keras.saving.register_keras_serializable("flat")
class Penalty(L.Layer):
    """Passes on what comes in, and adds to the loss."""

    def call(self, x):
        self.add_loss(0.1 * keras.ops.sum(x**2))
        return x


def penalised() -> keras.Model:
    x = keras.Input((3,))
    return keras.Model(x, L.Dense(2, kernel_regularizer="l2", name="out")(Penalty()(x)))


def rows(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [RNG.normal(size=shape) for shape in shapes]


TOKENS = RNG.integers(0, 7, (3, 4))
SHARE = {"one": 0.25, "two": 2.0}
# model, x, y, loss, names of the arguments, which of them may move
MODELS: dict[str, tuple[Any, Any, Any, Any, list[str], list[int]]] = {
    "two inputs": (
        image_and_numbers, rows((3, 4, 4, 1), (3, 3)), RNG.normal(size=(3, 2)), "mse", ["x[0]", "x[1]"], [0, 1],
    ),
    "a dict of inputs": (
        of_a_dict, dict(zip("ab", rows((2, 3), (2, 2)), strict=True)), RNG.normal(size=(2, 2)), "mae",
        ["a", "b"], [0, 1],
    ),
    "whole numbers beside": (words, [TOKENS, *rows((3, 4))], RNG.normal(size=(3, 1)), "mse", ["x[0]", "x[1]"], [1]),
    "class numbers": (
        lambda: keras.Sequential([keras.Input((3,)), L.Dense(4)]), rows((5, 3))[0], np.array([0, 3, 1, 1, 2]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True), ["x"], [0],
    ),
    "two outputs, lists": (
        two_outputs, rows((3, 3))[0], [RNG.normal(size=(3, 2)), np.eye(4)[[0, 1, 3]]],
        ["mse", "categorical_crossentropy"], ["x"], [0],
    ),
    "two outputs, dicts": (
        lambda: two_outputs(True), rows((3, 3))[0], {"one": RNG.normal(size=(3, 2)), "two": np.array([0, 1, 3])},
        {"one": "mse", "two": "sparse_categorical_crossentropy"}, ["x"], [0],
    ),
    "what layers and weights add": (penalised, rows((4, 3))[0], RNG.normal(size=(4, 2)), "mse", ["x"], [0]),
    "a loss that sums": (
        lambda: keras.Sequential([keras.Input((3,)), L.Dense(2)]), rows((4, 3))[0], RNG.normal(size=(4, 2)),
        keras.losses.MeanSquaredError(reduction="sum"), ["x"], [0],
    ),
}  # fmt: skip


def what_keras_trains(model: Any, x: Any, y: Any, loss: Any, weights: Any = None) -> float:
    model.compile(loss=loss, loss_weights=weights)
    found = model.evaluate(x, y, batch_size=99, verbose=0)
    return float(found[0] if isinstance(found, list) else found)  # each output's comes after the whole


def squared_error(model: Any, x: Any, y: Any) -> Any:
    return pytest.approx(np.mean((np.asarray(model(x)) - y) ** 2), rel=NARROW)


@pytest.mark.parametrize("case", MODELS)
def test_the_mean_over_the_examples_is_what_keras_trains(case):
    make, x, y, loss, names, moving = MODELS[case]
    model = make()
    flat = flat_model(model, x, y, loss, mean=True)
    assert [a.name for a in flat.arguments if not a.held] == names
    assert flat.moving == moving
    wanted = what_keras_trains(model, x, y, loss)
    assert flat.own(flat.points()) == pytest.approx(wanted, rel=NARROW)
    assert recorded(flat).point(flat.points()).value == pytest.approx(wanted, rel=NARROW)
    assert flat.names == [v.path for v in model.trainable_variables]


@pytest.mark.parametrize("case", [case for case in MODELS if "sums" not in case])
def test_the_sum_over_the_examples_is_what_each_costs_alone(case):
    make, x, y, loss, _, _ = MODELS[case]
    model = make()
    whole = flat_model(model, x, y, loss, mean=False, weights=False)
    assert whole.variables == []
    examples = len(whole.arguments[0].value)
    alone = 0.0
    for i in range(examples):
        # One example is given without an axis for it.
        mine_x, mine_y = tf.nest.map_structure(lambda a: a[i], (x, y))  # noqa: B023
        flat = flat_model(model, mine_x, mine_y, loss, mean=False)
        assert not flat.arguments[0].batched
        assert len(flat.arguments[0].value) == 1
        alone += flat.own(flat.points())
    added = 0.0
    if case == "what layers and weights add":
        # The sum is that mean times the examples: so what a layer adds, of the whole batch, is. A regularizer does not
        # depend on x, and is left out.
        kernel = model.get_layer("out").kernel
        added = (examples - 1) * 0.1 * float((np.asarray(x) ** 2).sum()) - examples * float(kernel.regularizer(kernel))
    assert whole.own(whole.points()) == pytest.approx(alone + added, rel=NARROW)


def test_weights_of_outputs_are_those_of_the_compiled_model():
    model = two_outputs(True)
    x, y = rows((3, 3))[0], {"one": RNG.normal(size=(3, 2)), "two": np.array([0, 1, 3])}
    loss = {"one": "mse", "two": "sparse_categorical_crossentropy"}
    wanted = what_keras_trains(model, x, y, loss, SHARE)
    flat = flat_model(model, x, y, None, mean=True)
    assert flat.own(flat.points()) == pytest.approx(wanted, rel=NARROW)
    # An output without a loss is none of its business.
    model.compile(loss={"one": "mse"})
    alone = flat_model(model, x, {"one": y["one"]}, None, mean=True)
    assert alone.own(alone.points()) == squared_error(lambda x: model(x)["one"], x, y["one"])


def test_targets_are_arguments():
    model = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    x = rows((4, 3))[0]
    recordings, answers = [], []
    for y in rows((4, 2), (4, 2)):
        flat = flat_model(model, x, y, "mse", mean=True)
        recordings.append(recorded(flat))
        answers.append(recordings[-1].point(flat.points()).value)
        assert answers[-1] == squared_error(model, x, y)
    assert recordings[0] is recordings[1]
    assert answers[0] != answers[1]


def test_another_loss_shape_or_state_is_another_recording():
    model = keras.Sequential([keras.Input((3,)), L.Dense(2, activation="tanh"), L.Dense(2)])
    x, y = rows((4, 3))[0], rows((4, 2))[0]
    first = recorded(flat_model(model, x, y, "mse", mean=True))
    assert recorded(flat_model(model, x, y, "mse", mean=True)) is first
    for other in (
        flat_model(model, x, y, "mae", mean=True),
        flat_model(model, x, y, "mse", mean=False),
        flat_model(model, x[:2], y[:2], "mse", mean=True),
        flat_model(model, x, y, "mse", mean=True, weights=False),
    ):
        assert recorded(other) is not first
    model.layers[0].activation = keras.activations.sigmoid
    flat = flat_model(model, x, y, "mse", mean=True)
    assert recorded(flat).point(flat.points()).value == pytest.approx(
        np.mean((np.asarray(model(x)) - y) ** 2), rel=NARROW
    )


def test_the_gradient_is_for_what_may_move_in_float64():
    model = words()
    weight, y = rows((3, 4), (3, 1))
    flat = flat_model(model, [TOKENS, weight], y, "mse", mean=True)
    point = recorded(flat).point(flat.points())
    with tf.GradientTape() as tape:
        moved = tf.constant(weight.astype(np.float32))
        tape.watch(moved)
        value = tf.reduce_mean((model([tf.constant(TOKENS), moved]) - y) ** 2)
    wanted = tape.gradient(value, [moved, *(v.value for v in model.trainable_variables)])
    first = len(flat.arguments)
    places = [1, *range(first, first + len(flat.variables))]
    assert sorted(point.gradients) == places
    for place, one in zip(places, wanted, strict=True):
        one = tf.convert_to_tensor(one).numpy()
        # Single numbers cancel: a few units of float32 of the largest.
        np.testing.assert_allclose(point.gradients[place], one, rtol=0, atol=1e-5 * np.abs(one).max())


CALLABLES: dict[str, tuple[Any, Any, dict[str, Any], float, list[str], list[int]]] = {
    "an array": (lambda x: tf.reduce_sum(x**2), np.array([1.0, 2.0]), {}, 5.0, ["x"], [0]),
    "a list of numbers": (lambda x: tf.reduce_sum(x), [1.0, 2.0], {}, 3.0, ["x"], [0]),
    "a list of arrays": (
        lambda x: tf.reduce_sum(x[0]) * x[1], [np.ones(3), np.array(2.0)], {}, 6.0, ["x[0]", "x[1]"], [0, 1],
    ),
    "a dict": (lambda x: x["b"][0] - x["a"], {"b": np.ones(1), "a": np.array(3.0)}, {}, -2.0, ["a", "b"], [0, 1]),
    "whole numbers beside": (
        lambda x: tf.reduce_sum(tf.gather(x["table"], x["rows"])),
        {"table": np.arange(4.0), "rows": np.array([3, 3, 1])}, {}, 7.0, ["rows", "table"], [1],
    ),
    "arguments": (
        lambda x, y, scale: scale * tf.reduce_sum(x * y), np.ones(2), {"y": np.array([1.0, 4.0]), "scale": 2.0}, 10.0,
        ["x"], [0],
    ),
    "float32": (lambda x: tf.reduce_sum(x) / 3, np.ones(2, np.float32), {}, 2 / 3, ["x"], [0]),
    "one number in brackets": (lambda x: tf.reshape(tf.reduce_sum(x), [1, 1]), np.ones(2), {}, 2.0, ["x"], [0]),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLABLES)
def test_callables(case):
    f, x, kwargs, value, names, moving = CALLABLES[case]
    flat = flat_callable(f, x, kwargs)
    assert ([a.name for a in flat.arguments], flat.moving) == (names, moving)
    assert flat.own(flat.points()) == pytest.approx(value, rel=1e-7 if case == "float32" else 1e-15)
    assert recorded(flat).point(flat.points()).value == pytest.approx(value, rel=1e-15)
    assert all(a.value.dtype == np.float64 for a in flat.arguments if a.moves)


def test_a_batched_function_is_given_one_row():
    x = np.array([[1.0, 2.0], [3.0, 0.0]])
    flat = flat_callable(lambda rows: tf.reduce_sum(rows**2, axis=[1, 2]), x, {}, batched=True)
    assert flat.own(flat.points()) == 14.0


@pytest.mark.parametrize("kind", [dict, list])
def test_of_several_arrays_each_is_one_row(kind):
    pair = [np.array([1.0, 2.0]), np.array([3.0, 5.0])]
    x = {"a": pair[0], "b": pair[1]} if kind is dict else pair

    def f(rows):
        a, b = tf.nest.flatten(rows)
        return tf.reduce_sum(a * b, axis=1) if isinstance(rows, dict) == (kind is dict) else None

    flat = flat_callable(f, x, {}, batched=True)
    assert flat.own(flat.points()) == 13.0


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "no array": (lambda: flat_callable(tf.reduce_sum, {}, {}), ValueError, "x holds no array: there is nothing"),
    "too few inputs": (
        lambda: flat_model(image_and_numbers(), rows((3, 4, 4, 1)), [0], "mse", mean=True),
        ValueError, r"takes 2 inputs \(image, numbers\), got 1",
    ),
    "keys that are not there": (
        lambda: flat_model(of_a_dict(), dict(zip("ac", rows((2, 3), (2, 2)), strict=True)), [0], "mse", mean=True),
        ValueError, "x has the keys a, c; the model takes a, b",
    ),
    "examples that differ": (
        lambda: flat_model(image_and_numbers(), rows((3, 4, 4, 1), (2, 3)), [0], "mse", mean=True),
        ValueError, "the inputs have 2 and 3 examples",
    ),
    "a shape that differs": (
        lambda: flat_model(image_and_numbers(), rows((3, 4, 5, 1), (3, 3)), [0], "mse", mean=True),
        ValueError, r"x\[0\] has shape \(4, 5, 1\) per example",
    ),
    "8-bit images": (
        lambda: flat_model(
            image_and_numbers(), [np.ones((3, 4, 4, 1), np.uint8), *rows((3, 3))], [0], "mse", mean=True
        ),
        TypeError, "integers cannot move by a small step",
    ),
    "one loss for two outputs, no y": (
        lambda: flat_model(two_outputs(), rows((3, 3))[0], None, "mse", mean=True),
        ValueError, "y needs a list or dict with an entry for each of the outputs one, two",
    ),
    "a loss of an output that is not there": (
        lambda: flat_model(two_outputs(True), rows((3, 3))[0], {"one": np.ones((3, 2))}, {"three": "mse"}, mean=True),
        ValueError, "loss names three; .* has the outputs one, two",
    ),
    "two losses for three": (
        lambda: flat_model(two_outputs(), rows((3, 3))[0], [1, 2], ["mse"], mean=True),
        ValueError, "loss has 1 entries; .* has 2 outputs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    call, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        call()


def test_what_is_no_scalar_is_a_sum_with_random_weights():
    x = np.array([1.0, 2.0, 3.0])
    flat, other = (flat_callable(lambda x: x**2, x, {}, seed) for seed in (0, 1))
    each = [flat.own([row]) for row in np.eye(3)]
    assert flat.own([x]) == pytest.approx(np.dot(each, x**2), rel=1e-15)  # linear in what f returns
    assert all(0.5 <= abs(one) <= 1 for one in each)
    assert other.own([x]) != flat.own([x])
    assert flat.notes == [
        "f returns (3,): what was checked is the sum over that, each element with a random weight of its own"
    ]


def test_of_whole_numbers_alone_the_weights_can_be_checked():
    keras.utils.set_random_seed(0)
    tokens = keras.Input((4,), dtype="int32")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(7, 3)(tokens))
    model = keras.Model(tokens, keras.layers.Dense(1, "tanh")(pooled))
    x, y = np.array([[1, 2, 2, 5]]), np.ones((1, 1))
    with pytest.raises(TypeError, match="wrt='weights'"):
        fdfast.gradcheck(model, x, y, loss="mse", check="directions")
    # What the message says to do.
    report = fdfast.gradcheck(model, x, y, loss="mse", check="directions", wrt="weights", order=2)
    assert report.verdicts == ["pass", "pass"]


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "SimpleRNN"])
def test_a_recurrent_layer_is_traced_once(cell, monkeypatch):
    """Its cell gets attributes in its first call, which are of training."""
    traced = []
    monkeypatch.setattr(recordings, "_made", lambda flat, made=recordings._made: traced.append(flat) or made(flat))
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4, 3)), getattr(keras.layers, cell)(5), keras.layers.Dense(2, "softmax")])
    x, y = np.ones((1, 4, 3)), np.eye(2)[:1]
    for _ in range(2):
        assert fdfast.gradcheck(model, x, y=y, loss="categorical_crossentropy", check="directions").verdict == "pass"
    assert len(traced) == 1
