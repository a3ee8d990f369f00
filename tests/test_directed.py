"""The check by directions as it is called: what is checked, what is refused, what is promised, who is to blame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.operations.table import TABLE

L = keras.layers
RNG = np.random.default_rng(0)


def check(f: Any, x: Any, *args: Any, **options: Any) -> Any:
    return fdfast.gradcheck(f, x, *args, check="directions", **options)


def said(report: Any) -> str:
    return " ".join(str(report).split())


def small() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6, 6, 2)), L.Conv2D(3, 3, name="conv"), L.Flatten(), L.Dense(2, name="out")])


def two_inputs() -> keras.Model:
    keras.utils.set_random_seed(0)
    a, b = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    z = L.Concatenate()([L.Dense(3, activation="tanh", name="one")(a), b])
    return keras.Model([a, b], L.Dense(1, name="two")(z))


IMAGE, VECTOR, PAIR = RNG.normal(size=(6, 6, 2)), RNG.normal(size=(5, 4)), [RNG.normal(size=4), RNG.normal(size=3)]

#: wrt, names of the parts, how many elements
WRT: dict[str, tuple[str, list[str], int]] = {
    "input": ("input", ["x[0]", "x[1]"], 7),
    "weights": ("weights", ["one/kernel", "one/bias", "two/kernel", "two/bias"], 12 + 3 + 6 + 1),
    "all": ("all", ["x[0]", "x[1]", "one/kernel", "one/bias", "two/kernel", "two/bias"], 29),
    "one input": ("x[1]", ["x[1]"], 3),
    "one variable": ("two/kernel", ["two/kernel"], 6),
}


@pytest.mark.parametrize("case", WRT)
def test_what_is_checked(case):
    wrt, names, total = WRT[case]
    report = check(two_inputs(), PAIR, [0.3], loss="mse", wrt=wrt)
    assert (report.verdict, report.check, report.wrt) == ("pass", "directions", wrt)
    assert [part.name for part in report.parts] == names
    assert report.total == report.counts["agree"] == total
    assert report.culprit is None


def test_names_of_a_dict_are_those_of_its_keys():
    x = {"table": RNG.normal(size=(4, 2)), "rows": np.array([3, 1]), "scale": np.array(2.0)}
    report = check(lambda x: x["scale"] * tf.reduce_sum(tf.gather(x["table"], x["rows"]) ** 2), x)
    assert [part.name for part in report.parts] == ["scale", "table"]
    assert report.verdict == "pass"


def wave(x: Any) -> Any:
    return tf.reduce_sum(tf.sin(x) * tf.cast(tf.range(1, 6), x.dtype)[:, None])


def slope(x: Any) -> np.ndarray:
    return np.cos(x) * np.arange(1, 6)[:, None]


@pytest.mark.parametrize("form", ["array", "function", "tensor", "list"])
def test_a_gradient_of_one_s_own(form):
    def given(share):
        return {
            "array": share * slope(VECTOR),
            "function": lambda x: share * slope(x),
            "tensor": lambda x: tf.constant(share * slope(x)),
            "list": [share * slope(VECTOR)],
        }[form]

    assert check(wave, VECTOR, analytic=given(1.0)).verdict == "pass"
    # The control: one element is wrong by twice the tolerance.
    share = np.ones((5, 4))
    share[2, 1] += 2e-4
    report = check(wave, VECTOR, analytic=given(share))
    assert report.verdict == "fail"
    assert [one["index"] for one in report.worst(3)] == [(2, 1)]


def test_gradients_of_one_s_own_for_several_arrays():
    def f(x):
        return tf.reduce_sum(x["a"]) * x["b"] ** 2

    x = {"a": RNG.normal(size=3), "b": np.array(1.5)}
    right = [np.full(3, 2.25), np.array(3.0 * x["a"].sum())]
    assert check(f, x, analytic=right).verdict == "pass"
    assert check(f, x, analytic=lambda x: [np.full(3, x[1] ** 2), 2 * x[1] * x[0].sum()]).verdict == "pass"
    report = check(f, x, analytic=[right[0], 2 * right[1]])
    assert report.verdict == "fail"
    assert [part.counts["wrong"] for part in report.parts] == [0, 1]


def test_weights_of_one_s_own():
    model = small()
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        value = tf.reduce_mean((model(IMAGE[None].astype(np.float32)) - 0.5) ** 2)
    right = [g.numpy().astype(float) for g in tape.gradient(value, [v.value for v in variables])]
    # In float32, whose rounding is far below the tolerance, but not below that of differences.
    report = check(model, IMAGE, [0.5, 0.5], loss="mse", wrt="weights", analytic=right, rtol=1e-3)
    assert report.counts["wrong"] == 0
    right[2][7, 1] += 0.01 * np.abs(right[2]).max()
    report = check(model, IMAGE, [0.5, 0.5], loss="mse", wrt="weights", analytic=right, rtol=1e-3)
    assert report.verdict == "fail"
    assert report.worst(1)[0]["index"] == (7, 1)
    assert report.counts["wrong"] == 1


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "no directions": (
        lambda: check(wave, VECTOR, directions=0), ValueError, "directions must be an int of at least 1, got 0"
    ),
    "a name that is not there": (
        lambda: check(small(), IMAGE, [0, 0], loss="mse", wrt="kern"),
        ValueError, "wrt='kern' names 0 of the inputs and variables x, .*conv/kernel, .* or pass 'input', 'weights' or",
    ),
    "a name of two": (
        lambda: check(small(), IMAGE, [0, 0], loss="mse", wrt="kernel"), ValueError, "wrt='kernel' names 2 of",
    ),
    "weights of a function": (
        lambda: check(wave, VECTOR, wrt="weights"), TypeError, "needs a Keras model .* pass them as x",
    ),
    "a loss for a function": (lambda: check(wave, VECTOR, loss="mse"), TypeError, "loss goes with a Keras model"),
    "no function": (lambda: check(3.0, VECTOR), TypeError, "f must be a Keras model or a callable, got float"),
    "arguments of a model": (
        lambda: check(small(), IMAGE, [0, 0], loss="mse", scale=2), TypeError, "unexpected arguments .*scale",
    ),
    "no weights": (
        lambda: check(
            keras.Sequential([keras.Input((4,)), L.ReLU()]), VECTOR, np.zeros((5, 4)), loss="mse", wrt="weights"
        ),
        ValueError, "has no trainable variables: set trainable=True",
    ),
    "too few gradients": (
        lambda: check(two_inputs(), PAIR, [0], loss="mse", analytic=[np.zeros(4)]),
        TypeError, r"analytic must give 2 arrays, one for each of x\[0\], x\[1\], got 1",
    ),
    "no gradients": (
        lambda: check(two_inputs(), PAIR, [0], loss="mse", analytic=lambda pair: None), TypeError, "2 arrays.*NoneType"
    ),
    "a gradient of another shape": (
        lambda: check(wave, VECTOR, analytic=np.zeros((4, 4))),
        ValueError, r"analytic for x has shape \(4, 4\); it must be \(5, 4\)",
    ),
    "whole numbers": (lambda: check(wave, np.arange(20).reshape(5, 4)), TypeError, "integers cannot move"),
    "a gradient of whole numbers": (
        lambda: check(wave, VECTOR, analytic=np.zeros((5, 4), int)), TypeError, "analytic has dtype int64",
    ),
    "x that is not finite": (lambda: check(wave, VECTOR * np.nan), ValueError, "x must be finite"),
    "a function of NumPy's": (lambda: check(lambda x: float(np.asarray(x).sum()), VECTOR), ValueError, "check='every'"),
    "nonsense": (lambda: fdfast.gradcheck(wave, VECTOR, check="some"), ValueError, "check must be"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    call, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_guarantee_is_that_of_the_theorem_and_said_first(count):
    report = check(small(), IMAGE, [0.5, 0.5], loss="mse", wrt="all", directions=count)
    error, chance = report.guarantee
    assert error == 1e-4
    assert report.directed.count == count
    assert chance == (4 * report.directed.tau / error) ** count
    assert 0 < report.directed.tau < 1e-8  # of one element's share: float64, a few hundred elements
    many = "1 random direction" if count == 1 else f"{count} random directions"
    assert f"{report.total} elements together, by {many}: a relative error of 0.0001" in said(report)
    assert f"a lone one of {4 * report.directed.tau:.0e} never" in said(report)
    assert check(small(), IMAGE, [0.5, 0.5], loss="mse", rtol=1e-3).guarantee[0] == 1e-3


@pytest.mark.parametrize("rtol", [1e-4, 1e-7])
def test_an_error_above_the_guarantee_is_found_and_reported_below_the_tolerance(rtol):
    def f(x):
        return tf.reduce_sum(tf.sin(x))

    x = RNG.normal(size=500)
    for share, words in ((1e-2, True), (1e-6, False)):  # of the tolerance; a hundred-thousandth of it is no fault
        wrong = np.cos(x)
        wrong[123] *= 1 + share * rtol
        report = check(f, x, analytic=wrong, rtol=rtol)
        assert report.verdict == "pass"
        assert ("differs from the differences by more than their rounding" in said(report)) == words
        assert report.directed.tau < 1e-4 * rtol


def test_the_same_seed_tells_the_same_and_nothing_is_left_behind():
    model = small()
    weights = [w.copy() for w in model.get_weights()]
    x = IMAGE.copy()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    one, two, other = (check(model, x, [0.5, 0.5], loss="mse", wrt="all", seed=seed) for seed in (0, 0, 1))
    assert one.directed.excess == two.directed.excess
    assert one.directed.excess != other.directed.excess
    assert (x == IMAGE).all()
    assert all((a == b).all() for a, b in zip(weights, model.get_weights(), strict=True))
    assert (state == np.random.get_state()[1]).all()  # noqa: NPY002


@pytest.mark.parametrize("digit", [0, 3, 7])
def test_a_loss_that_float32_hardly_knows_is_checked(digit):
    """Of 5.7e-6 on digit 7 float32 has 6e-8 wrong: as much as log(1 + s) is rounded by, and no other function."""
    x, labels = fdfast.datasets.mnist_sample(10)
    y = np.eye(10)[labels]
    report = check(fdfast.datasets.mnist_cnn(), x[digit], y[digit], wrt="weights")
    assert (report.verdict, report.counts["wrong"]) == ("pass", 0)


def test_what_is_not_f_is_no_recording():
    def f(x):  # in a trace it is another function than afterwards
        return tf.reduce_sum(x**2) * (1.0 if tf.executing_eagerly() else 1.001)

    with pytest.raises(ValueError, match="what was recorded of it"):
        check(f, VECTOR)


def test_a_changed_model_is_checked_as_it_is():
    model = small()
    first = check(model, IMAGE, [0.5, 0.5], loss="mse")
    model.get_layer("conv").kernel.assign(model.get_layer("conv").kernel * 2)
    second = check(model, IMAGE, [0.5, 0.5], loss="mse")
    assert second.verdict == "pass"
    assert second.base != first.base
    assert second.base == pytest.approx(float(np.mean((np.asarray(model(IMAGE[None])) - 0.5) ** 2)), rel=1e-5)


# Ten mistakes in a backward pass, each beside the right one. `forward` and what its gradient is.
def own(forward: Any, backward: Any) -> Any:
    @tf.custom_gradient
    def by_hand(x):
        return forward(x), lambda g: backward(x, g)

    return by_hand


def normalised(x: Any) -> Any:
    return x - tf.reduce_mean(x, axis=1, keepdims=True)


def whitened(x: Any) -> Any:
    return x / tf.sqrt(tf.reduce_mean(x**2, axis=1, keepdims=True) + 1e-2)


def whitened_back(x: Any, g: Any, epsilon: float) -> Any:
    size = tf.sqrt(tf.reduce_mean(x**2, axis=1, keepdims=True) + epsilon)
    return g / size - x * tf.reduce_mean(g * x, axis=1, keepdims=True) / size**3


MIX = RNG.normal(size=(6, 6))


def mixed(x: Any) -> Any:
    return tf.linalg.matvec(tf.constant(MIX, x.dtype), x)


def crop(x: Any) -> Any:
    return x[:, 1:5]


def softplus(x: Any) -> Any:
    return tf.nn.softplus(x) * 2


#: forward, the right gradient, the wrong one
MISTAKES: dict[str, tuple[Any, Any, Any]] = {
    "ignores what comes from above": (softplus, lambda x, g: 2 * g * tf.sigmoid(x), lambda x, g: 2 * tf.sigmoid(x)),
    "the wrong axis": (
        normalised,
        lambda x, g: g - tf.reduce_mean(g, 1, keepdims=True),
        lambda x, g: g - tf.reduce_mean(g, 0, keepdims=True),
    ),
    "forgets 1/N": (
        lambda x: tf.reduce_mean(x, 0, keepdims=True) + x,
        lambda x, g: tf.reduce_mean(g, 0, keepdims=True) + g,
        lambda x, g: tf.reduce_sum(g, 0, keepdims=True) + g,
    ),
    "transposes": (
        mixed,
        lambda x, g: tf.linalg.matvec(tf.constant(MIX, g.dtype), g, transpose_a=True),
        lambda x, g: tf.linalg.matvec(tf.constant(MIX, g.dtype), g),
    ),
    "clips": (
        softplus,
        lambda x, g: 2 * g * tf.sigmoid(x),
        lambda x, g: tf.clip_by_value(2 * g * tf.sigmoid(x), -1e-3, 1e-3),
    ),
    "detaches": (
        lambda x: x * tf.sigmoid(x),
        lambda x, g: g * (tf.sigmoid(x) + x * tf.sigmoid(x) * (1 - tf.sigmoid(x))),
        lambda x, g: g * tf.sigmoid(x),
    ),
    "crops off by one": (
        crop,
        lambda x, g: tf.pad(g, [[0, 0], [1, 1]]),
        lambda x, g: tf.pad(g, [[0, 0], [0, 2]]),
    ),
    "the wrong sign": (tf.cos, lambda x, g: -g * tf.sin(x), lambda x, g: g * tf.sin(x)),
    "another epsilon": (whitened, lambda x, g: whitened_back(x, g, 1e-2), lambda x, g: whitened_back(x, g, 2e-2)),
    "a power too many": (lambda x: x**3, lambda x, g: 3 * g * x**2, lambda x, g: 3 * g * x**3),
}  # fmt: skip


def network(function: Any, place: str) -> tuple[keras.Model, str]:
    """A network with it in some place, and what it is called there."""
    keras.utils.set_random_seed(1)
    x = keras.Input((6,))
    if place == "first":
        z = L.Dense(4, activation="tanh", name="after")(L.Lambda(function, name="own")(x))
    elif place == "middle":
        z = L.Lambda(function, name="own")(L.Dense(6, activation="tanh", name="before")(x))
        z = L.LayerNormalization(name="norm")(z)
    else:  # beside others, in a residual
        z = L.Dense(6, activation="tanh", name="before")(x)
        z = L.Concatenate(name="join")([L.Lambda(function, name="own")(z), z])
    return keras.Model(x, L.Dense(2, name="out")(z)), "own"


ROWS = np.random.default_rng(5).normal(size=(3, 6))


@pytest.mark.parametrize("place", ["first", "middle", "beside"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_backward_pass_is_found_and_its_layer_named(mistake, place):
    forward, right, wrong = MISTAKES[mistake]
    y = np.zeros((3, 2))
    model, name = network(own(forward, wrong), place)
    report = check(model, ROWS, y, loss="mse", wrt="all")
    assert report.verdict == "fail"
    assert report.culprit == name
    assert "Wrong in own (the gradient written by hand in by_hand); the other" in said(report)
    # The control: the same network with the right gradient.
    model, _ = network(own(forward, right), place)
    report = check(model, ROWS, y, loss="mse", wrt="all")
    assert (report.verdict, report.culprit) == ("pass", None)
    assert report.counts["agree"] == report.total


@keras.saving.register_keras_serializable("directed")
class OwnDense(L.Layer):
    """xW + b, whose gradient forgets b, or is right."""

    def __init__(self, *, right: bool, **options: Any) -> None:
        super().__init__(**options)
        self.right = right

    def build(self, shape: Any) -> None:
        self.w = self.add_weight(shape=(shape[-1], 4), name="w")
        self.b = self.add_weight(shape=(4,), name="b")

    def call(self, x: Any) -> Any:
        @tf.custom_gradient
        def affine(x, w, b):
            def backward(g):
                return g @ tf.transpose(w), tf.transpose(x) @ g, tf.reduce_sum(g, 0) * (1.0 if self.right else 0.0)

            return x @ w + b, backward

        return affine(x, tf.convert_to_tensor(self.w), tf.convert_to_tensor(self.b))


@pytest.mark.parametrize("right", [True, False])
def test_a_bias_that_is_forgotten(right):
    layers = [L.Dense(6, name="before"), OwnDense(right=right, name="own"), L.Dense(1)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    options = {"loss": "mse", "wrt": "weights"}
    report = check(model, ROWS, np.zeros((3, 1)), **options)
    assert report.verdict == ("pass" if right else "fail")
    assert report.culprit == (None if right else "own")
    assert [part.name.split("/", 1)[1] for part in report.parts if part.counts["wrong"]] == ([] if right else ["own/b"])
    # Along x nothing is wrong.
    assert check(model, ROWS, np.zeros((3, 1)), loss="mse").verdict == "pass"


def test_a_pool_that_ties_on_a_black_background_is_innocent():
    @tf.custom_gradient
    def steep(x):
        return tf.tanh(x), lambda g: g * (1.2 - tf.tanh(x) ** 2)

    keras.utils.set_random_seed(0)
    own = L.Lambda(steep, name="own")
    layers = [L.Conv2D(3, 3), own, L.MaxPooling2D(name="pool"), L.Flatten(), L.Dense(2)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    black = np.zeros((1, 8, 8, 1))
    black[:, :3, :3] = RNG.uniform(size=(1, 3, 3, 1))
    report = check(model, black, np.ones((1, 2)), loss="mse")
    assert (report.verdict, report.culprit) == ("fail", "own")


def test_two_culprits_are_both_named():
    wrong = own(tf.sin, lambda x, g: 1.1 * g * tf.cos(x))
    x = keras.Input((6,))
    z = L.Lambda(wrong, name="two")(L.Dense(6, name="between")(L.Lambda(wrong, name="one")(x)))
    report = check(keras.Model(x, L.Dense(1)(z)), ROWS, np.zeros((3, 1)), loss="mse", wrt="all")
    assert report.verdict == "fail"
    assert report.culprit == "two, one"  # the last first


def test_a_function_s_culprit_is_called_as_the_function():
    def doubled(x):
        return own(tf.exp, lambda x, g: 2 * g * tf.exp(x))(x)

    report = check(lambda x: tf.reduce_sum(doubled(tf.sin(x)) ** 2), ROWS)
    assert (report.verdict, report.culprit) == ("fail", "by_hand")
    # Of a gradient that the caller gives, no layer is to blame.
    assert check(wave, VECTOR, analytic=2 * slope(VECTOR)).culprit is None


MODELS: dict[str, Any] = {
    "batch norm and pools": lambda: [
        L.Conv2D(3, 3, padding="same"), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(), L.GlobalAveragePooling2D(),
    ],
    "depthwise": lambda: [L.DepthwiseConv2D(3), L.SeparableConv2D(4, 2), L.Flatten()],
    "up and down": lambda: [
        L.Conv2D(2, 2, strides=2), L.Conv2DTranspose(3, 2, strides=2), L.UpSampling2D(), L.Flatten(),
    ],
    "recurrent": lambda: [L.Reshape((12, 6)), L.GRU(4, return_sequences=True), L.LSTM(3)],
    "activations": lambda: [L.Flatten(), L.Dense(8, activation="gelu"), L.Dense(8, activation="selu"), L.Softmax()],
    "normalisations": lambda: [
        L.Conv2D(6, 3), L.GroupNormalization(2), L.LayerNormalization(), L.UnitNormalization(), L.Flatten(),
    ],
    "dropout": lambda: [L.Flatten(), L.Dropout(0.5), L.Dense(5), L.LeakyReLU(), L.PReLU()],
}  # fmt: skip


@pytest.mark.parametrize("wrt", ["input", "weights", "all"])
@pytest.mark.parametrize("name", MODELS)
def test_right_models_pass_and_nobody_is_blamed(name, wrt):
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((6, 6, 2)), *MODELS[name](), L.Dense(2)])
    report = check(model, IMAGE, np.zeros(2), loss="mse", wrt=wrt)
    assert (report.counts["wrong"], report.culprit) == (0, None)
    assert report.verdict == "pass"
    assert report.guarantee[1] < 1e-3


def test_a_gradient_that_is_all_rounding_is_not_accused():
    """Two channels, normalised twice, are (a, -a) whatever x is: the gradient is zero, and what is computed is not."""
    layers = [L.GroupNormalization(1), L.LayerNormalization(), L.UnitNormalization(), L.Flatten(), L.Dense(2)]
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((6, 6, 2)), *layers])
    for wrt in ("input", "weights", "all"):
        report = check(model, IMAGE, np.zeros(2), loss="mse", wrt=wrt)
        assert (report.counts["wrong"], report.culprit) == (0, None)
        if wrt == "input":
            assert report.verdict == "inconclusive"
            assert "Rounding of the gradient, in float64, hides what is to be found" in said(report)
        else:  # beside gradients of other weights it is zero to the last digits, one by one
            assert report.verdict == "pass"
            assert report.directed.each


def test_a_guarantee_that_says_nothing_is_no_bound():
    report = fdfast.gradcheck(lambda x: tf.reduce_sum(tf.sin(x)), np.linspace(0.1, 1.0, 8), check="directions")
    assert "missed with a chance below" in said(report)
    blind = replace(report, directed=replace(report.directed, tau=1.0))
    assert "in any one may have been missed" in said(blind)


class Scaled(L.Layer):
    """Of two arguments, or of one that is a list or dict."""

    def call(self, value: Any, scale: Any = None) -> Any:
        if isinstance(value, dict):
            value, scale = value["left"], value["right"]
        return value * tf.exp(scale)


class Both(L.Layer):
    def call(self, inputs: Any) -> Any:
        return inputs[0] * tf.sin(inputs[1])


@pytest.mark.parametrize(
    ("layer", "x", "names"),
    [
        (L.MultiHeadAttention(2, 3), [RNG.normal(size=(2, 4, 3)), RNG.normal(size=(2, 5, 3))], None),
        (L.Attention(), [RNG.normal(size=(2, 4, 3)), RNG.normal(size=(2, 5, 3))], None),
        (Both(), [VECTOR, VECTOR], None),
        (Scaled(), {"value": VECTOR, "scale": VECTOR}, {"scale", "value"}),
        (Scaled(), {"left": VECTOR, "right": VECTOR}, {"left", "right"}),
    ],
    ids=["two arguments", "a list", "own list", "by name", "a dict"],
)
def test_inputs_go_to_a_layer_as_its_call_takes_them(layer: Any, x: Any, names: Any) -> None:
    report = check(layer, x)
    assert report.verdict == "pass"
    assert names is None or names <= {part.name for part in report.parts}
    wrong = [np.zeros(v.shape) for v in (x.values() if isinstance(x, dict) else x)]
    assert check(layer, x, wrt="input", analytic=wrong).verdict == "fail"


def grouped() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [L.Conv2D(8, 3, groups=2, activation="swish"), L.GroupNormalization(4), L.Flatten(), L.Dense(3)]
    return keras.Sequential([keras.Input((6, 6, 4)), *layers])


GROUPED = (RNG.normal(size=(2, 6, 6, 4)), np.ones((2, 3)))


@pytest.mark.parametrize("wrt", ["input", "weights"])
def test_a_convolution_in_groups_has_a_gradient_in_float64(wrt: str) -> None:
    report = check(grouped(), *GROUPED, loss="mse", wrt=wrt)
    assert report.verdict == "pass"
    assert report.directed.tau < 1e-9  # TensorFlow's own kernel of it is float32 only: 1e-5


@pytest.mark.parametrize("seed", [0, 2])  # 2: one element's rounding is more than its share of all
def test_a_kernel_that_runs_in_float32_accuses_nobody_and_is_named(monkeypatch: Any, seed: int) -> None:
    given = np.random.default_rng(seed).normal(size=(2, 6, 6, 4)), np.ones((2, 3))
    for kind in ("Conv2DBackpropInput", "Conv2DBackpropFilter"):
        monkeypatch.setattr(TABLE[kind], "value", None)
    report = check(grouped(), *given, loss="mse", wrt="all")
    assert report.verdict == "inconclusive"
    assert "Without a kernel in float64 ran, in float32: Conv2DBackpropFilter, Conv2DBackpropInput." in said(report)
    assert check(grouped(), *given, loss="mse", wrt="all", rtol=0.1).verdict == "pass"


def test_what_ties_at_every_point_takes_no_promise_from_the_others() -> None:
    """A dead channel: its unit is at zero whatever x is."""
    keras.utils.set_random_seed(0)
    dead = L.Dense(2, activation="relu", kernel_initializer="zeros", name="dead")
    x = keras.Input((4,))
    model = keras.Model(x, L.Dense(3, name="out")(L.Concatenate()([L.Dense(5, activation="tanh")(x), dead(x)])))
    report = check(model, VECTOR, np.ones((5, 3)), loss="mse", wrt="weights", coverage=0.5)
    assert report.verdict == "pass"
    assert report.counts["unresolved"] == 10  # the dead layer's kernel and bias
    assert report.directed.tau < 1e-9
    assert "49 of 59 weights together, by 2 random directions: a relative error of 0.0001" in said(report)
    assert "would have been missed with a chance below" in said(report)
