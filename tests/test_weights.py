"""Gradients with respect to weights: exact where rules allow, found wrong where wrong, and nothing left behind."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.engines.places import Channelwise

K = keras.layers
PACKAGE = str(Path(fdfast.__file__).parent)


def stack(shape: tuple[int, ...], *layers: Any) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *layers])


def residual() -> keras.Model:
    x = keras.Input((8, 8, 3))
    a = K.Conv2D(4, 3, padding="same", activation="relu")(x)
    b = K.ReLU()(K.Add()([a, K.Conv2D(4, 3, padding="same")(a)]))
    c = K.Concatenate()([b, K.Conv2D(3, 1)(a)])
    return keras.Model(x, K.Dense(5, activation="softmax")(K.Flatten()(c)))


def product() -> keras.Model:
    x = keras.Input((6, 6, 2))
    a, b = (K.Conv2D(4, 3, padding="same", activation=f)(x) for f in ("tanh", "sigmoid"))
    return keras.Model(x, K.Dense(5, activation="softmax")(K.Flatten()(K.Multiply()([a, b]))))


def shared() -> keras.Model:
    x = keras.Input((6,))
    twice = K.Dense(6, activation="tanh", name="twice")
    return keras.Model(x, K.Dense(5, activation="softmax")(twice(twice(x))))


def folded() -> keras.Model:
    return stack(
        (8, 8, 2),
        K.Conv2D(4, 3, strides=2, padding="same"),
        K.BatchNormalization(),
        K.ReLU(),
        K.MaxPooling2D(),
        K.Flatten(),
        K.Dense(5, activation="softmax"),
    )


def separable() -> keras.Model:
    return stack(
        (9, 9, 3),
        K.DepthwiseConv2D(3, padding="same", activation="elu"),
        K.SeparableConv2D(6, 3, strides=2, padding="same", activation="relu"),
        K.GlobalMaxPooling2D(),
        K.Dense(5, activation="softmax"),
    )


def scaled() -> keras.Model:
    return stack(
        (8, 8, 2),
        K.Conv2D(4, 3, dilation_rate=2, activation="relu"),
        K.BatchNormalization(),
        K.GlobalAveragePooling2D(),
        K.Dense(5),
    )


def in_time() -> keras.Model:
    head = K.AveragePooling1D(2), K.Flatten(), K.Dense(5, activation="softmax")
    return stack((9, 3), K.Conv1D(4, 3, padding="causal", activation="relu"), *head)


def enlarged() -> keras.Model:
    head = K.UpSampling2D(2), K.ZeroPadding2D(1), K.Conv2D(2, 3, activation="selu"), K.Flatten(), K.Dense(5)
    return stack((6, 6, 2), K.Conv2D(3, 3, activation="gelu"), *head)


def dense() -> keras.Model:
    return stack((6,), K.Dense(7, activation="tanh"), K.Dense(5, activation="softmax"))


def shaken(model: keras.Model) -> keras.Model:
    """Weights off every special value."""
    rng = np.random.default_rng(0)
    for v in model.weights:
        shape = tuple(v.shape)
        v.assign(rng.uniform(0.5, 2, shape) if "variance" in v.path else v.numpy() + 0.2 * rng.normal(size=shape))
    return model


def batch_of(model: keras.Model, examples: int = 3) -> tuple[Any, Any]:
    # Inputs are cast to float32 by Keras, whatever the layers compute in.
    x = np.random.default_rng(1).normal(size=(examples, *model.input_shape[1:])).astype("float32").astype("float64")
    return x, np.eye(5)[np.array([1, 2, 4] * examples)[:examples]]


def in_float64(make: Callable[[], keras.Model]) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        return shaken(make())
    finally:
        keras.config.set_dtype_policy(before)


def by_tape(model: keras.Model, x: Any, y: Any, loss: str) -> list[Any]:
    with tf.GradientTape() as tape:
        values = getattr(keras.losses, loss)(tf.constant(y), model(tf.constant(x), training=False))
        value = tf.reduce_mean(values)
    return [g.numpy() for g in tape.gradient(value, [v.value for v in model.trainable_variables])]


CROSS = "categorical_crossentropy"
# 1e-12: some hundred roundings of 1e-16 on either side; the median forgives weights whose gradient nearly cancels.
EXACT = [
    (dense, CROSS),
    (folded, CROSS),
    (scaled, "mean_squared_error"),
    (separable, CROSS),
    (in_time, CROSS),
    (residual, CROSS),
    (product, CROSS),
    (enlarged, "mean_squared_error"),
]


@pytest.mark.parametrize(("make", "loss"), EXACT, ids=[make.__name__ for make, _ in EXACT])
def test_differences_of_weights_are_those_of_a_tape_to_rounding(make: Any, loss: str) -> None:
    model = in_float64(make)
    x, y = batch_of(model)
    report = fdfast.gradcheck(model, x, y, loss=loss, wrt="weights", check="every")
    assert report.verdict == "pass", str(report)
    assert (
        report.checked
        == report.weights
        == model.count_params() - sum(int(np.prod(v.shape)) for v in model.non_trainable_variables)
    )
    for variable, truth in zip(report.variables, by_tape(model, x, y, loss), strict=True):
        assert variable.engine == "difference"
        error = np.abs(variable.numeric - truth)
        assert np.median(error) <= 1e-12 * np.median(np.abs(truth)) + 1e-16
        assert error.max() <= 1e-11 * np.abs(truth).max() + 1e-16


def test_layers_used_twice_move_in_both_places() -> None:
    model = in_float64(shared)
    x, y = batch_of(model)
    report = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights")
    assert report
    assert [v.engine for v in report.variables] == ["batch", "batch", "difference", "difference"]
    assert any("twice/kernel" in reason for reason in report.reasons)
    truth = by_tape(model, x, y, CROSS)
    # 1e-6: losses are subtracted, so half the digits of float64 and some are left.
    assert np.abs(report["twice/kernel"].numeric - truth[0]).max() <= 1e-6 * np.abs(truth[0]).max()


@pytest.mark.parametrize("layer", [lambda: K.PReLU(), lambda: K.LayerNormalization()], ids=["prelu", "layer norm"])
def test_layers_without_a_rule_are_evaluated_with_displaced_copies(layer: Any) -> None:
    model = shaken(stack((4,), K.Dense(3), layer(), K.Dense(5, activation="softmax")))
    x, y = batch_of(model)
    report = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights")
    assert report.verdict == "pass", str(report)
    assert {v.engine for v in report.variables} == {"batch"}


def test_a_way_through_the_layers_that_the_loss_contradicts_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Channelwise.maps
    monkeypatch.setattr(Channelwise, "maps", lambda self, ready, which: 1.001 * right(self, ready, which))
    model = shaken(dense())
    x, y = batch_of(model)
    report = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights")
    assert report.verdict == "pass", str(report)
    assert {v.engine for v in report.variables} == {"batch"}
    assert any("pushed through the layers, weight" in reason for reason in report.reasons)


@pytest.mark.parametrize("engine", ["difference", "batch"])
def test_both_engines_give_the_same(engine: str) -> None:
    model = shaken(dense())
    x, y = batch_of(model)
    report = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights", engine=engine)
    assert report
    truth = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights")
    for one, other in zip(report.variables, truth.variables, strict=True):
        # 1e-6: the batch engine subtracts losses in float64.
        assert np.abs(one.numeric - other.numeric).max() <= 1e-6 * np.abs(other.numeric).max()


def test_the_loss_is_the_mean_over_the_batch_or_the_sum_if_it_says_so() -> None:
    model = shaken(dense())
    x, y = batch_of(model)
    mean = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights")
    each = [fdfast.gradcheck(model, a, b, loss=CROSS, wrt="weights") for a, b in zip(x, y, strict=True)]
    summed = fdfast.gradcheck(
        model, x, y, loss=keras.losses.CategoricalCrossentropy(reduction="sum", dtype="float64"), wrt="weights"
    )
    for i, v in enumerate(mean.variables):
        total = sum(one.variables[i].numeric for one in each)
        # 1e-13: a sum of three in another order.
        np.testing.assert_allclose(3 * v.numeric, total, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(summed.variables[i].numeric, total, rtol=1e-13, atol=1e-15)


def wrong_kernel(fault: float) -> Any:
    @keras.saving.register_keras_serializable(package=f"weights{fault}")
    class Faulty(keras.layers.Layer):
        """A dense layer whose own gradient for its kernel is off by a factor."""

        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")

        def call(self, x: Any) -> Any:
            @tf.custom_gradient
            def product(x: Any, kernel: Any) -> Any:
                def back(up: Any) -> Any:
                    return up @ tf.transpose(kernel), fault * (tf.transpose(x) @ up)

                return x @ kernel, back

            return product(x, tf.convert_to_tensor(self.kernel))

    return Faulty()


@pytest.mark.parametrize(("fault", "verdict"), [(1.0, "pass"), (1.01, "fail"), (-1.0, "fail")])
def test_a_wrong_gradient_of_a_layer_for_its_kernel_is_found(fault: float, verdict: str) -> None:
    model = shaken(stack((4,), wrong_kernel(fault), K.Dense(5, activation="softmax")))
    x, y = batch_of(model)
    report = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights")
    assert report.verdict == verdict, str(report)
    wrong = {v.name.split("/")[-2]: v.counts["wrong"] for v in report.variables if v.counts["wrong"]}
    assert all("faulty" in name for name in wrong)
    if verdict == "fail":
        assert report.table[0]["wrong"] == 12
        assert report.table[0]["name"] in report.reasons[0]


class Around(keras.layers.Layer):
    """Keeps the raw variable, where Keras' scopes do not reach."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 5), name="kernel")
        self.raw = self.kernel.value

    def call(self, x: Any) -> Any:
        return x @ tf.convert_to_tensor(self.raw)


def test_a_variable_that_copies_cannot_stand_in_for_is_refused_by_name() -> None:
    model = stack((4,), Around(name="around"), K.Softmax())
    with pytest.raises(ValueError, match="around/kernel is read around Keras"):
        fdfast.gradcheck(model, *batch_of(model), loss=CROSS, wrt="weights")


def gradients_of(model: keras.Model, y: Any, change: Callable[[list[Any]], list[Any]]) -> Any:
    """The gradients of a float64 model as a function of x, after some change."""
    return lambda x: change(by_tape(model, x, y, CROSS))


def one_wrong(found: list[Any]) -> list[Any]:
    found[2][3, 1] *= 1.001
    return found


@pytest.mark.parametrize("as_arrays", [False, True], ids=["function of x", "arrays"])
def test_a_single_wrong_weight_is_found_and_named(as_arrays: bool) -> None:
    model = in_float64(dense)
    x, y = batch_of(model)
    wrong = gradients_of(model, y, one_wrong)
    report = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights", analytic=wrong(x) if as_arrays else wrong)
    assert report.verdict == "fail"
    assert report.counts["wrong"] == 1
    assert report.worst(1)[0]["index"] == (3, 1)
    assert report.worst(1)[0]["class"] == "wrong"
    right = gradients_of(model, y, list)
    assert fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights", analytic=right(x) if as_arrays else right)


def test_a_missing_mean_over_the_batch_is_found_and_its_factor_named() -> None:
    model = in_float64(dense)
    x, y = batch_of(model)
    summed = gradients_of(model, y, lambda found: [3 * g for g in found])
    report = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights", analytic=summed)
    assert report.verdict == "fail"
    assert report.counts["wrong"] == report.weights
    assert any("3 times" in hint and "a mean taken for a sum" in hint for hint in report.hints)


def test_biases_of_zero_under_a_black_picture_are_checked_near_x() -> None:
    model = stack((4, 4, 1), K.Conv2D(2, 3, activation="relu"), K.Flatten(), K.Dense(5, activation="softmax"))
    x, y = np.zeros((4, 4, 1)), np.eye(5)[2]
    report = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights")
    bias = report.variables[1]
    assert report.verdict == "inconclusive"  # of kernels that see nothing but zeros nothing was learnt
    assert (bias.classes == "agree").all()
    assert bias.near.all()
    assert "kink" in str(report)
    off = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights", jitter=None)
    assert off.verdict == "inconclusive"
    assert off.counts["kink"] == 2


def test_a_kink_that_weights_hold_stays_one_and_is_no_fault() -> None:
    model = stack((4,), K.Dense(3, activation="relu", kernel_initializer="zeros"), K.Dense(5, activation="softmax"))
    x, y = batch_of(model)
    report = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights")
    assert report.verdict == "inconclusive"
    assert report.counts["wrong"] == 0
    assert report.counts["kink"] == 15
    assert any("step of training" in reason for reason in report.reasons)


@pytest.mark.parametrize("budget", [40, 200, "1ms"])
def test_a_budget_takes_some_of_every_variable_and_says_what_it_left_out(budget: int | str) -> None:
    model = shaken(dense())
    x, y = batch_of(model)
    report = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights", budget=budget)
    assert report
    assert all(v.checked >= 1 for v in report.variables)
    assert report.checked + report.left_out == report.weights == 89
    if isinstance(budget, int):
        assert report.checked == budget // 4
    assert f"{report.left_out} weights were left out by the budget" in str(report)
    assert report.coverage == 1.0
    assert np.isnan(report.variables[0].numeric[report.variables[0].codes < 0]).all()
    again = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights", budget=budget)
    if isinstance(budget, int):
        assert all((a.codes == b.codes).all() for a, b in zip(report.variables, again.variables, strict=True))


def test_the_report_prints_and_goes_through_json(tmp_path: Path) -> None:
    model = shaken(dense())
    x, y = batch_of(model)
    report = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights", label="two layers")
    found = json.loads(report.to_json(tmp_path / "report.json"))
    assert found == json.loads((tmp_path / "report.json").read_text())
    assert found["verdict"] == "pass"
    assert [row["weights"] for row in found["table"]] == [42, 7, 35, 5]
    text = str(report)
    assert text.startswith("fdfast: PASS  weights of two layers, 3 examples, 89 weights in 4 variables\n")
    assert "coverage 100.00 % of the 89 weights to check (asked: 99 %)" in text
    assert max(len(line) for line in text.splitlines()) <= 120
    html = fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights", label="<b>").to_html(tmp_path / "report.html")
    assert html == (tmp_path / "report.html").read_text()
    assert "weights of &lt;b&gt;, 3 examples" in html
    assert "<b>" not in html
    with pytest.raises(KeyError, match="names 2"):
        report["kernel"]
    assert fdfast.assert_gradcheck(model, x, y, loss=CROSS, wrt="weights")


MODEL = dense()
BAD = [
    ({"tile": 2}, TypeError, "tile=2 makes no sense with wrt='weights': every weight is checked by itself"),
    ({"channels": "together"}, TypeError, "channels='together' makes no sense"),
    ({"batched": True}, TypeError, "batched=True makes no sense"),
    ({"selftest": True}, TypeError, "selftest=True makes no sense with wrt='weights': plant a fault with analytic="),
    ({"epsilon": 1}, TypeError, "unexpected argument for wrt='weights': epsilon"),
    ({"wrt": "bias"}, ValueError, "wrt='bias' names 2 of the inputs and variables x, .*; or pass 'input', 'weights'"),
    ({"wrt": "input", "budget": 8}, TypeError, "budget=8 goes with wrt='weights'"),
    ({"budget": 3}, ValueError, "budget=3 rows do not pay for a single weight"),
    ({"budget": 2.5}, TypeError, "budget must be an int"),
    ({"budget": "3 h"}, ValueError, "budget must be a time such as '3s'"),
    ({"analytic": np.zeros(3)}, TypeError, "analytic must give a list of 4 arrays"),
    ({"analytic": [np.zeros(3)] * 4}, ValueError, "analytic for .*kernel has shape .3,.; the variable has .6, 7."),
    ({"jitter": -1.0}, ValueError, "jitter must be 'auto', None or a positive width"),
    ({"bounds": (0, 1)}, ValueError, "outside of bounds=.0, 1."),
    ({"h": 1e-300}, ValueError, "h=1e-300 vanishes"),
    ({"rtol": -1}, ValueError, "rtol must be between 0 and inf"),
]


@pytest.mark.parametrize(
    ("options", "kind", "message"), BAD, ids=[str(list(o)[-1]) + str(i) for i, (o, *_) in enumerate(BAD)]
)
def test_what_makes_no_sense_is_refused_in_words(options: Any, kind: Any, message: str) -> None:
    x, y = batch_of(MODEL)
    with pytest.raises(kind, match=message):
        fdfast.gradcheck(MODEL, x, y, **{"loss": CROSS, "wrt": "weights"} | options)


def test_a_function_and_a_model_without_weights_to_train_are_refused() -> None:
    with pytest.raises(TypeError, match="wrt='weights' needs a Keras model"):
        fdfast.gradcheck(lambda x: x, np.ones(2), wrt="weights")
    model = dense()
    model.trainable = False
    with pytest.raises(ValueError, match="no trainable variables"):
        fdfast.gradcheck(model, *batch_of(model), loss=CROSS, wrt="weights")
    with pytest.raises(ValueError, match=r"engine='difference' cannot be used for .*twice/kernel"):
        fdfast.gradcheck(shared(), *batch_of(MODEL), loss=CROSS, wrt="weights", engine="difference")


def interrupted(call: Callable[[], Any], at: int, error: type[BaseException]) -> bool:
    """Run a call and raise `error` inside it, at call number `at` of a function of fdfast; whether it came to that."""
    count = 0

    def watch(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            count += 1
            if count == at:
                raise error

    sys.setprofile(watch)
    try:
        call()
    except error:
        return True
    finally:
        sys.setprofile(None)
    return False


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("engine", ["difference", "batch"])
def test_an_interrupt_at_any_moment_leaves_inputs_and_weights_bit_identical(engine: str) -> None:
    model = shaken(dense())
    x, y = batch_of(model)
    before = [x.tobytes(), y.tobytes(), *(v.numpy().tobytes() for v in model.weights)]

    def call() -> Any:
        return fdfast.gradcheck(model, x, y, loss=CROSS, wrt="weights", engine=engine, budget=64, jitter=1e-3)

    assert call()
    rng = np.random.default_rng(0)
    hits = 0
    # 200 in all. A check makes some hundred calls; early and late moments are equally likely.
    for _ in range(100):
        error = [KeyboardInterrupt, RuntimeError, MemoryError][rng.integers(3)]
        hits += interrupted(call, int(rng.integers(1, 400)), error)
        assert [x.tobytes(), y.tobytes(), *(v.numpy().tobytes() for v in model.weights)] == before
    assert hits >= 80
    assert call()


def test_all_weights_of_the_shipped_cnn_agree() -> None:
    model = fdfast.datasets.mnist_cnn()
    x, labels = fdfast.datasets.mnist_sample(1)
    before = [v.numpy().tobytes() for v in model.weights]
    report = fdfast.gradcheck(model, x[0], np.eye(10)[labels[0]], wrt="weights", check="every")
    assert report.verdict == "pass", str(report)
    assert report.weights == report.counts["agree"] == 34826
    # The digit is recognised with p = 0.9999: autodiff's 1 - p keeps 12 digits.
    assert report.metrics["median_rel_error"] <= 1e-12
    assert [v.numpy().tobytes() for v in model.weights] == before
