"""What is kept of a model, a loss or a function is not used once that has changed: every check is of what f is now.

Each case makes f, looks at it, changes something, and looks again. The oracle is the gradient that an eager tape takes
of f as it is then.
"""

from __future__ import annotations

import functools
import gc
import operator
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.functions.unchanged import Present, present

L = keras.layers
IMAGE = np.random.default_rng(0).uniform(0.1, 0.9, (5, 4, 2))
VECTOR = np.random.default_rng(1).uniform(-0.9, 0.9, 4)
SERIES = np.random.default_rng(2).uniform(-0.9, 0.9, (3, 2))
Make = Callable[[], list[Any]]
Undo = Callable[[], Any]

SLOPE = 0.5  # what functions read
SETTINGS = types.ModuleType("settings")
SETTINGS.scale = 1.0
LEAK = {"slope": 0.1}


@dataclass
class Case:
    """Layers of a model for x, what is changed, and the loss."""

    x: np.ndarray
    layers: Make
    change: Callable[[Any], Undo | None]
    loss: Callable[[], Any] = lambda: "mse"
    target: float | None = 0.3


def image(kind: str, change: Any, **options: Any) -> Case:
    """A layer between a convolution and a mean, which takes maps of any size."""

    def layers() -> list[Any]:
        return [
            L.Conv2D(3, 2, name="first"),
            getattr(L, kind)(name="it", **options),
            L.GlobalAveragePooling2D(),
            L.Dense(2),
        ]

    return Case(IMAGE, layers, change)


def vector(*made: Callable[[], Any], change: Any, **options: Any) -> Case:
    return Case(VECTOR, lambda: [*(one() for one in made), L.Dense(2, name="last")], change, **options)


def series(made: Callable[[], Any], change: Any) -> Case:
    return Case(SERIES, lambda: [made(), L.Flatten(), L.Dense(2)], change)


def put(name: str, value: Any) -> Callable[[Any], None]:
    """Set an attribute of the layer, or of what it holds: "cell.activation"."""

    def change(model: Any) -> None:
        *path, last = name.split(".")
        setattr(functools.reduce(getattr, path, model.get_layer("it")), last, value)

    return change


def assign(name: str, value: float) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        variable = functools.reduce(getattr, name.split("."), model.get_layer("it"))
        variable.assign(np.full(variable.shape, value))

    return change


def do(act: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Do something to the layer."""

    def change(model: Any) -> None:
        act(model.get_layer("it"))

    return change


def member(one: Any, key: Any, value: Any) -> None:
    one[key] = value


def listed(one: list[float]) -> Callable[[Any], Undo]:
    """Change a list that other cases use too."""

    def change(model: Any) -> Undo:
        one[0] = 5.0
        return lambda: member(one, 0, 1.0)

    return change


class Weighted:
    """A loss as a method, and as an object."""

    def __init__(self) -> None:
        self.weights, self.power = [1.0, 1.0], 2.0

    def __call__(self, y: Any, z: Any) -> Any:
        return tf.reduce_sum(tf.abs(y - z) ** self.power * tf.constant(self.weights, z.dtype), axis=-1)

    def method(self, y: Any, z: Any) -> Any:
        return self(y, z)


WEIGHTED = Weighted()
LISTED = [1.0, 1.0]


def by_list(y: Any, z: Any, weights: list[float]) -> Any:
    return tf.reduce_sum((y - z) ** 2 * tf.constant(weights, z.dtype), axis=-1)


def by_global(y: Any, z: Any) -> Any:
    return SLOPE * tf.reduce_sum((y - z) ** 2, axis=-1)


PARTIAL = functools.partial(by_list, weights=LISTED)
HUBER = keras.losses.Huber(delta=2.0)
CROSS = keras.losses.CategoricalCrossentropy(from_logits=True)
SQUARES = keras.losses.MeanSquaredError()


def reset(one: Any, name: str, value: Any) -> Callable[[Any], Undo]:
    """Set something that other cases use too, and say how to put it back."""

    def change(model: Any) -> Undo:
        if isinstance(one, dict):
            before = one[name]
            one[name] = value
            return lambda: one.__setitem__(name, before)
        before = getattr(one, name)
        setattr(one, name, value)
        return lambda: setattr(one, name, before)

    return change


def power(x: Any, exponent: float) -> Any:
    return tf.sign(x) * tf.abs(x) ** exponent


class Scale(keras.layers.Layer):
    """A layer with everything that one's own layers hold."""

    factor = 1.0

    def __init__(self, by: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.by, self.table, self.array = by, {"a": [1.0]}, np.ones(4)
        self.inner = types.SimpleNamespace(scale=1.0)
        self.function = functools.partial(power, exponent=1.0)

    def helper(self, x: Any) -> Any:
        return x

    def call(self, x: Any) -> Any:
        x = self.helper(x) * self.by * self.factor * self.table["a"][0] * SLOPE * SETTINGS.scale * self.inner.scale
        return self.function(x) * tf.cast(self.array, x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "by": self.by}


class Held(keras.layers.Layer):
    """A layer that keeps a variable that Keras does not know, and a constant made when it was built."""

    def build(self, shape: Any) -> None:
        self.variable = tf.Variable(1.0, dtype=self.compute_dtype)
        self.constant = tf.constant(2.0, self.compute_dtype)

    def call(self, x: Any) -> Any:
        return tf.tanh(x * self.variable * self.constant)


def doubled(self: Any, x: Any) -> Any:
    return 2.0 * x


def own(change: Any) -> Case:
    return vector(lambda: Scale(name="it"), change=change)


def leaky(x: Any) -> Any:
    return tf.nn.leaky_relu(x, LEAK["slope"])


def scaled(x: Any) -> Any:
    return SLOPE * x


def nested() -> keras.Model:
    return keras.Sequential(
        [keras.Input(VECTOR.shape), L.Dense(3, activation="tanh", name="deep"), L.Dense(3)], name="it"
    )


def other_last(model: Any) -> None:
    model.pop()
    model.add(L.Dense(2, kernel_initializer="ones", dtype=model.layers[0].dtype_policy))


def frozen(model: Any) -> None:
    layer = model.get_layer("it")
    layer.trainable = False
    layer.kernel.assign(2 * layer.kernel)


def wide(it: Any) -> None:
    it.get_layer("deep").kernel.assign(np.ones((4, 3)))


def other_activation(it: Any) -> None:
    it.get_layer("deep").activation = RELU


def other_constant(it: Any) -> None:
    it.constant = 2 * it.constant


CLOSED: list[float] = [1.0]
TANH, RELU = keras.activations.tanh, keras.activations.relu
LARGE = keras.initializers.Constant(3.0)
CONV = {"filters": 2, "kernel_size": 2}
CASES: dict[str, Case] = {
    "Conv2D activation": image("Conv2D", put("activation", TANH), **CONV, activation="relu"),
    "Conv2D strides": image("Conv2D", put("strides", (2, 2)), **CONV),
    "Conv2D padding": image("Conv2D", put("padding", "valid"), **CONV, padding="same"),
    "Conv2D dilation": image("Conv2D", put("dilation_rate", (2, 2)), **CONV, padding="same"),
    "Conv2D use_bias": image("Conv2D", put("use_bias", False), **CONV, bias_initializer=LARGE),
    "Conv2D kernel": image("Conv2D", assign("kernel", 0.3), **CONV),
    "Conv2D bias": image("Conv2D", assign("bias", 0.9), **CONV, activation="tanh"),
    "DepthwiseConv2D strides": image("DepthwiseConv2D", put("strides", (2, 2)), kernel_size=2),
    "SeparableConv2D activation": image("SeparableConv2D", put("activation", TANH), **CONV),
    "Conv2DTranspose activation": image("Conv2DTranspose", put("activation", TANH), **CONV),
    "MaxPooling2D pool_size": image("MaxPooling2D", put("pool_size", (3, 2)), pool_size=2, strides=1),
    "MaxPooling2D strides": image("MaxPooling2D", put("strides", (2, 2)), pool_size=2, strides=1),
    "AveragePooling2D padding": image("AveragePooling2D", put("padding", "valid"), pool_size=2, padding="same"),
    "BatchNormalization epsilon": image("BatchNormalization", put("epsilon", 0.9)),
    "BatchNormalization scale": image("BatchNormalization", put("scale", False), gamma_initializer=LARGE),
    "BatchNormalization mean": image("BatchNormalization", assign("moving_mean", 0.9)),
    "BatchNormalization variance": image("BatchNormalization", assign("moving_variance", 4.0)),
    "LayerNormalization epsilon": image("LayerNormalization", put("epsilon", 0.9)),
    "GroupNormalization epsilon": image("GroupNormalization", put("epsilon", 0.9), groups=1),
    "UnitNormalization axis": image("UnitNormalization", put("axis", [1]), axis=[3]),
    "Rescaling scale": image("Rescaling", put("scale", 3.0), scale=1.0),
    "Rescaling offset": image("Rescaling", put("offset", 2.0), scale=1.0),
    "Normalization invert": image("Normalization", put("invert", True), mean=[0.1, 0.2, 0.3], variance=[4.0, 4.0, 4.0]),
    "LeakyReLU slope": image("LeakyReLU", put("negative_slope", 0.9), negative_slope=0.1),
    "ELU alpha": image("ELU", put("alpha", 3.0)),
    "ReLU max_value": image("ReLU", put("max_value", 0.3)),
    "ReLU negative_slope": image("ReLU", put("negative_slope", 0.5)),
    "ReLU threshold": image("ReLU", put("threshold", 0.2)),
    "PReLU alpha": image("PReLU", assign("alpha", 0.7)),
    "Softmax axis": series(lambda: L.Softmax(axis=1, name="it"), put("axis", 2)),
    "Activation activation": image("Activation", put("activation", TANH), activation="linear"),
    "ZeroPadding2D padding": image("ZeroPadding2D", put("padding", ((2, 2), (3, 3))), padding=1),
    "Cropping2D cropping": image("Cropping2D", put("cropping", ((1, 1), (0, 1))), cropping=((0, 0), (0, 0))),
    "Permute dims": image("Permute", put("dims", (1, 3, 2)), dims=(1, 2, 3)),
    "Dense activation": vector(lambda: L.Dense(3, activation="relu", name="it"), change=put("activation", TANH)),
    "weights of a frozen layer": vector(lambda: L.Dense(3, name="it"), change=frozen),
    "a layer replaced": vector(lambda: L.Dense(3, name="it"), change=other_last),
    "a layer added": vector(lambda: L.Dense(3, name="it"), change=lambda model: model.add(L.Activation("tanh"))),
    "a nested model's activation": vector(
        nested, change=do(lambda it: setattr(it.get_layer("deep"), "activation", RELU))
    ),
    "a nested model's weights": vector(nested, change=do(wide)),
    "a function's global": vector(lambda: L.Dense(3, activation=leaky, name="it"), change=reset(LEAK, "slope", 0.9)),
    "Lambda function": vector(lambda: L.Lambda(lambda x: x, name="it"), change=put("function", lambda x: x**3)),
    "Lambda arguments": vector(
        lambda: L.Lambda(power, arguments={"exponent": 1.0}, name="it"),
        change=do(lambda it: member(it.arguments, "exponent", 3.0)),
    ),
    "Lambda global": vector(lambda: L.Lambda(scaled, name="it"), change=reset(globals(), "SLOPE", 0.9)),
    "Lambda default": vector(lambda: L.Lambda(lambda x, by=CLOSED: x * by[0], name="it"), change=listed(CLOSED)),
    "own: attribute": own(put("by", 3.0)),
    "own: container": own(do(lambda it: member(it.table["a"], 0, 3.0))),
    "own: array": own(do(lambda it: member(it.array, 1, 5.0))),
    "own: object": own(put("inner.scale", 3.0)),
    "own: partial": own(put("function", functools.partial(power, exponent=3.0))),
    "own: method of the object": own(put("helper", lambda x: 2.0 * x)),
    "own: number of the class": own(reset(Scale, "factor", 3.0)),
    "own: method of the class": own(reset(Scale, "helper", doubled)),
    "own: call of the class": own(reset(Scale, "call", doubled)),
    "own: global": own(reset(globals(), "SLOPE", 0.9)),
    "own: module": own(reset(SETTINGS, "scale", 3.0)),
    "own: unknown variable": vector(lambda: Held(name="it"), change=do(lambda it: it.variable.assign(3.0))),
    "own: constant made in build": vector(lambda: Held(name="it"), change=do(other_constant)),
    "LSTM activation": series(lambda: L.LSTM(3, name="it"), put("cell.activation", RELU)),
    "GRU activation": series(lambda: L.GRU(3, name="it"), put("cell.recurrent_activation", TANH)),
    "RNN go_backwards": series(lambda: L.SimpleRNN(3, name="it"), put("go_backwards", True)),
    "Bidirectional merge_mode": series(
        lambda: L.Bidirectional(L.SimpleRNN(3), merge_mode="sum", name="it"), put("merge_mode", "mul")
    ),
    "TimeDistributed layer": series(lambda: L.TimeDistributed(L.Dense(3), name="it"), put("layer.activation", TANH)),
    "loss: delta of Huber": vector(change=reset(HUBER._fn_kwargs, "delta", 0.1), loss=lambda: HUBER, target=0.9),
    "loss: from_logits": Case(
        VECTOR,
        lambda: [L.Dense(2, activation="softplus")],
        reset(CROSS._fn_kwargs, "from_logits", False),
        lambda: CROSS,
        None,
    ),
    "loss: smoothing": vector(change=reset(CROSS._fn_kwargs, "label_smoothing", 0.9), loss=lambda: CROSS, target=None),
    "loss: another function": vector(
        change=reset(SQUARES, "fn", keras.losses.mean_absolute_error), loss=lambda: SQUARES
    ),
    "loss: list of a partial": vector(change=listed(LISTED), loss=lambda: PARTIAL),
    "loss: list of a bound method": vector(change=listed(WEIGHTED.weights), loss=lambda: WEIGHTED.method),
    "loss: number of an object": vector(change=reset(WEIGHTED, "power", 3.0), loss=lambda: WEIGHTED),
    "loss: global": vector(change=reset(globals(), "SLOPE", 0.9), loss=lambda: by_global),
    "loss: compiled anew": vector(
        change=lambda model: model.compile(loss="mean_absolute_error"), loss=lambda: None, target=0.31
    ),
}


def made(case: Case, dtype: str) -> Any:
    keras.utils.set_random_seed(3)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        model = keras.Sequential([keras.Input(case.x.shape), *case.layers()])
        model.compile(loss="mse")
        return model
    finally:
        keras.config.set_dtype_policy(before)


def eager(model: Any, loss: Any, x: np.ndarray, y: np.ndarray, dtype: str) -> np.ndarray:
    """Gradient that a tape takes of f as it is."""
    loss = keras.losses.get(model.loss if loss is None else loss)
    t, target = tf.constant(x[None], dtype), tf.constant(y[None], dtype)
    with tf.GradientTape() as tape:
        tape.watch(t)
        value = tf.reduce_sum(loss(target, model(t, training=False)))
    return tape.gradient(value, t).numpy()[0].astype(float)


#: By engine: what is found. Of the first, both sides of a check; of the last, only the float64 copy is kept.
LOOKS: dict[str, Callable[..., list[np.ndarray]]] = {
    "check": lambda model, x, y, loss: both(fdfast.gradcheck(model, x, y, loss=loss)),
    "batch": lambda model, x, y, loss: [fdfast.gradient(model, x, y=y, loss=loss, engine="batch")],
}


def both(report: Any) -> list[np.ndarray]:
    """Differences and autodiff; by directions there is no map of differences, but a verdict on autodiff's."""
    if report.check == "directions":
        assert report.verdict == "pass", str(report)
        return [report.analytic]
    assert report.counts["wrong"] == 0, str(report)
    return [report.checked_numeric, report.analytic]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_the_second_look_is_of_the_present_function(name: str, dtype: str) -> None:
    case = CASES[name]
    model, loss = made(case, dtype), case.loss()
    y = np.array([1.0, 0.0]) if case.target is None else np.full(model.output_shape[1:], case.target)

    def look() -> dict[str, list[np.ndarray]]:
        return {engine: of(model, case.x, y, loss) for engine, of in LOOKS.items()}

    undo = None
    try:
        LOOKS["check"](model, case.x, y, loss)  # keeps what the other ways use, too
        before = eager(model, loss, case.x, y, dtype)
        undo = case.change(model)
        now = eager(model, loss, case.x, y, dtype)
        size = np.abs(now).max()
        change = np.abs(now - before).max()
        assert min(size, change) > 1e-2 * np.abs(before).max(), "the case changes nothing, or leaves nothing"
        for engine, found in look().items():
            for side in found:
                # The oracle is in float32 for a float32 model, and so are rows without a float64 copy, over 2^-8.
                off = np.abs(side.reshape(now.shape) - now).max()
                limit = min(0.1 if dtype == "float32" and engine == "batch" else 1e-3, change / size / 5)
                assert off < limit * size, f"{engine}: {off / size:.1e} of the largest"
    finally:
        if undo is not None:
            undo()


# The same where it is weights that are moved, by the kernels or by copies, and where outputs are.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["Dense activation", "own: attribute", "a nested model's activation", "loss: global"])
def test_weights_and_outputs_of_the_present_model(name: str, dtype: str) -> None:
    case = CASES[name]
    model, loss = made(case, dtype), case.loss()
    y = np.full(model.output_shape[1:], case.target)

    def eagerly() -> np.ndarray:
        x, target = tf.constant(case.x[None], dtype), tf.constant(y[None], dtype)
        variables = [v.value for v in model.trainable_variables]
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(keras.losses.get(loss)(target, model(x)))
        return np.concatenate([g.numpy().ravel() for g in tape.gradient(value, variables)]).astype(float)

    def look() -> tuple[np.ndarray, np.ndarray]:
        report = fdfast.gradcheck(model, case.x, y, loss=loss, wrt="weights")
        assert report.counts["wrong"] == 0
        return np.concatenate([part.checked_numeric.ravel() for part in report.parts]), fdfast.jacobian(model, case.x)

    look()
    before, undo = eagerly(), case.change(model)
    try:
        now = eagerly()
        assert np.abs(now - before).max() > 1e-2 * np.abs(before).max()
        found, outputs = look()
        np.testing.assert_allclose(found, now, rtol=0, atol=1e-3 * np.abs(now).max())  # the oracle may be in float32
        t = tf.constant(case.x[None], dtype)
        with tf.GradientTape() as tape:
            tape.watch(t)
            value = model(t)
        wanted = tape.jacobian(value, t).numpy()[0, :, 0]
        np.testing.assert_allclose(outputs, wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())
    finally:
        if undo is not None:
            undo()


class TestFunctions:
    """Plain functions are traced anew each time; what `jacobian` keeps of them follows the layers that they reach."""

    model = keras.Sequential(
        [
            keras.Input((4,)),
            L.Dense(3, activation="tanh", kernel_initializer=keras.initializers.GlorotUniform(0), name="it"),
        ]
    )

    def f(self, x: Any) -> Any:
        return tf.reduce_sum(self.model(x[None])[0] ** 2)

    @pytest.mark.parametrize(
        "of", [fdfast.gradient, fdfast.jacobian, lambda f, x: fdfast.gradcheck(f, x, check="every").numeric]
    )
    def test_a_function_around_a_model(self, of: Any) -> None:
        f, x = self.f, VECTOR.astype(np.float32)
        before = np.asarray(of(f, x))
        self.model.get_layer("it").activation = keras.activations.softplus
        try:
            t = tf.constant(x)
            with tf.GradientTape() as tape:
                tape.watch(t)
                value = f(t)
            now = tape.gradient(value, t).numpy()
            after = np.asarray(of(f, x))
        finally:
            self.model.get_layer("it").activation = TANH
        assert np.abs(after - now).max() < 1e-2 * np.abs(now).max()  # rows in float32, over 2^-8
        assert np.abs(after - before).max() > 0.1 * np.abs(now).max()


def small() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), L.Dense(3, activation="tanh", name="it"), L.Dense(2)])


def test_what_stays_is_the_same_state() -> None:
    model = small()
    state = present(model)
    assert isinstance(state, Present)
    assert state.complete
    assert state.in_sight
    model(np.zeros((1, 4)))
    model.compile(loss="mse", optimizer="sgd")
    model.fit(np.zeros((2, 4)), np.zeros((2, 2)), verbose=0)
    model.get_layer("it").units = int("3")  # another object, the same number
    assert present(model) is state
    fdfast.gradcheck(model, VECTOR, [0.3, 0.2])
    assert present(model) is state
    model.get_layer("it").activation = RELU
    assert present(model) is not state


def test_an_attribute_that_was_not_there_counts() -> None:
    model = small()
    state = present(model)
    model.get_layer("it").call = lambda x: x
    assert present(model) is not state


def test_what_is_kept_is_made_once_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, made_of = small(), []
    check = functools.partial(fdfast.gradcheck, model, VECTOR, [0.3, 0.2], loss="mse")
    check()
    for name in ("fdfast.functions.shadow._make", "fdfast.differences.compiled.Compiled"):
        monkeypatch.setattr(name, lambda *args, **options: made_of.append(args))
    for _ in range(3):
        check()
    assert made_of == []


def test_a_model_is_not_kept_alive() -> None:
    def gone() -> Any:
        model = small()
        model.compile(loss="mse", optimizer="sgd")
        model.fit(np.zeros((2, 4)), np.zeros((2, 2)), verbose=0)  # its train function holds the model
        fdfast.gradcheck(model, VECTOR, [0.3, 0.2])
        return weakref.ref(model)

    alive = gone()
    gc.collect()
    assert alive() is None


def test_what_cannot_be_told_is_known() -> None:
    class Noisy(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.random = np.random.default_rng(0)

        def call(self, x: Any) -> Any:
            return x

    model = keras.Sequential([keras.Input((4,)), Noisy()])
    state = present(model)
    assert not state.complete
    assert not state.in_sight
    assert present(model) is state


def test_a_change_back_and_forth() -> None:
    model = small()

    def look() -> np.ndarray:
        return fdfast.gradient(model, VECTOR, y=[0.3, 0.2], loss="mse")

    first = look()
    layer = model.get_layer("it")
    for activation in (RELU, TANH, RELU, TANH):
        layer.activation = activation
        found = look()
    np.testing.assert_array_equal(found, first)


def test_code_that_reads_what_nobody_sees_is_asked_anew() -> None:
    hidden = {"environment": 1.0}
    box = type("Box", (), {"__slots__": ("get",)})()
    box.get = lambda: hidden["environment"]

    class Secret(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return tf.tanh(x) * operator.methodcaller("get")(box)

    model = keras.Sequential([keras.Input((4,)), Secret()])

    def look() -> np.ndarray:
        return fdfast.gradient(model, VECTOR, y=np.zeros(4), loss="mse")

    first = look()
    hidden["environment"] = 3.0
    np.testing.assert_allclose(look(), 9 * first, rtol=1e-6)


def test_a_tf_function_that_tensorflow_keeps_is_left_and_said_to_be() -> None:
    factor = [2.0]
    f = tf.function(lambda x: factor[0] * tf.reduce_sum(x**2))
    x = np.array([1.0, 2.0])
    assert not any("traced before" in reason for reason in fdfast.gradcheck(f, x).reasons)
    factor[0] = 5.0
    report = fdfast.gradcheck(f, x)
    np.testing.assert_allclose(report.numeric, 4 * x, rtol=1e-8)
    assert any("at x it gives 10" in reason and "gives 25" in reason for reason in report.reasons)
    # The advice.
    np.testing.assert_allclose(fdfast.gradient(f.python_function, x), 10 * x, rtol=1e-8)


def test_a_layer_of_another_dtype_is_seen() -> None:
    """What is judged is in float64 whatever the policy; what changes is the gradient as deployed."""
    model = small()

    def digits() -> float:
        return float(fdfast.gradcheck(model, VECTOR, [0.3, 0.2], loss="mse").deployed["digits"])

    assert digits() > 5  # float32
    model.get_layer("it").dtype_policy = keras.DTypePolicy("mixed_bfloat16")
    assert digits() < 4
