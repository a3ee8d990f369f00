"""The programs of the question and of the answer, run twice: as they are, and with nothing changed but one import."""

from __future__ import annotations

import time

import keras
import numpy as np
import pytest

import fdfast

OURS, THEIRS = "fdfast.compat.seed", "fdfast.data.seed_loops"

#: One function of one example, in NumPy as the answer has it, and five figures.
ANSWER = """
import numpy as np
import tensorflow as tf
from {module} import gradient

def f(x, y_true):
    y_pred = model(np.expand_dims(x, axis=0))
    return loss(y_true, y_pred)

x = x_test[index]
y_true = np.expand_dims(y_test[index], axis=0)

num_grad = gradient(f, x, h, y_true=y_true)

with tf.GradientTape() as tape:
    x_tf = tf.convert_to_tensor(np.expand_dims(x, axis=0))
    tape.watch(x_tf)
    value = loss(y_true, model(x_tf))
analytic_grad = tape.gradient(value, x_tf)[0].numpy()

error = np.abs(num_grad - analytic_grad)
relative = error[analytic_grad != 0] / np.abs(analytic_grad[analytic_grad != 0])
metrics = dict(
    absolute=error.max(),
    median=np.median(relative),
    mean=relative.mean(),
    geometric=np.exp(np.log(relative + 1e-30).mean()),
    largest=relative.max(),
)
"""

#: Squares of pixels, and a batch of one example.
QUESTION = """
import numpy as np
import tensorflow as tf
from {module} import seed_loop

x = x_test[index : index + 1]
y = y_test[index : index + 1]

num_grad = seed_loop(model, x, y, h, tile, loss=loss)

with tf.GradientTape() as tape:
    x_tf = tf.convert_to_tensor(x)
    tape.watch(x_tf)
    value = loss(y, model(x_tf))
analytic_grad = tape.gradient(value, x_tf).numpy()

def rel_error(x, y):
    return np.max(np.abs(x - y) / (np.maximum(1e-8, np.abs(x) + np.abs(y))))

metrics = dict(cs231n=rel_error(num_grad, analytic_grad))
"""


def run(program, module, **given):
    """Names that the program leaves behind, and the seconds that it took."""
    if module == THEIRS:
        program = program.replace("import gradient", "import seed_gradient as gradient")
    x, labels = fdfast.datasets.mnist_sample(10)
    x = x[:, 6:20, 6:20]  # the loop takes ten seconds for a whole digit
    names = {"x_test": x, "y_test": np.eye(10, dtype="float32")[labels]} | given
    start = time.perf_counter()
    exec(program.format(module=module), names)
    return names, time.perf_counter() - start


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    stack = [
        keras.Input((14, 14, 1)),
        layers.Conv2D(8, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ]
    return keras.Sequential(stack)


LOSS = keras.losses.CategoricalCrossentropy()


class Counted:
    """A loss that counts its calls, in Python."""

    def __init__(self):
        self.calls = 0

    def __call__(self, y_true, y_pred):
        self.calls += 1
        return LOSS(y_true, y_pred)


def test_the_answer_s_program_is_fast_and_right(model):
    """One digit; h as the loop needs it in float32, whose losses round to 1e-7: quotients to some 1e-5 at h = 1e-2."""
    slow = Counted()
    theirs, seconds = run(ANSWER, THEIRS, model=model, loss=slow, h=1e-2, index=3)
    fast = Counted()
    ours, first = run(ANSWER, OURS, model=model, loss=fast, h=1e-2, index=3)
    again, second = run(ANSWER, OURS, model=model, loss=fast, h=1e-2, index=3)
    assert slow.calls == 2 * 196 + 1
    assert fast.calls <= 12  # traced, not called for each of 196 pixels
    # The trace included; a whole digit gains 10 to 30 times. A bound that holds while other tests run.
    assert seconds > min(first, second)
    assert ours["num_grad"].shape == theirs["num_grad"].shape == (14, 14, 1)
    np.testing.assert_allclose(ours["num_grad"], theirs["num_grad"], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(again["num_grad"], ours["num_grad"])
    # The figures are of the same size where they tell of kinks, and smaller where they tell of rounding in float32.
    for name, value in theirs["metrics"].items():
        assert ours["metrics"][name] < 2 * value, name
    assert ours["metrics"]["geometric"] < 0.1 * theirs["metrics"]["geometric"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_answer_s_function_passes(model, dtype):
    """Around a float32 model, whatever the digit is in; and a gradient that is wrong in one pixel does not."""
    names, _ = run(ANSWER, OURS, model=model, loss=LOSS, h=1e-3, index=3)
    assert fdfast.gradcheck(names["f"], names["x"].astype(dtype), y_true=names["y_true"]).verdict == "pass"
    call = {"y_true": names["y_true"], "check": "every"}
    report = fdfast.gradcheck(names["f"], names["x"].astype(dtype), **call)
    assert (report.verdict, report.counts["wrong"]) == ("pass", 0)
    assert report.coverage >= 0.99
    spoilt = names["analytic_grad"].astype(np.float64)
    place = np.unravel_index(np.argmax(np.abs(spoilt)), spoilt.shape)
    spoilt[place] *= 1.05
    wrong = fdfast.gradcheck(names["f"], names["x"].astype(dtype), analytic=spoilt, **call)
    assert wrong.verdict == "fail"
    assert list(zip(*np.nonzero(wrong.classes == "wrong"), strict=True)) == [place]


@pytest.mark.parametrize("tile", [4, 7])
def test_the_question_s_program_is_right(model, tile):
    theirs, _ = run(QUESTION, THEIRS, model=model, loss=LOSS, h=1e-2, tile=tile, index=3)
    ours, _ = run(QUESTION, OURS, model=model, loss=LOSS, h=1e-2, tile=tile, index=3)
    assert ours["num_grad"].shape == theirs["num_grad"].shape == (1, 14, 14, 1)
    # The loop's losses are float32, ours float64: 1e-7 of rounding over 2e-2, and sums over squares.
    np.testing.assert_allclose(ours["num_grad"], theirs["num_grad"], rtol=0, atol=1e-4)
    # The control: a step of 1e-4 leaves of the loop's float32 nothing but rounding, of ours seven digits.
    small = {m: run(QUESTION, m, model=model, loss=LOSS, h=1e-4, tile=tile, index=3)[0] for m in (OURS, THEIRS)}
    truth = fdfast.gradient(model, small[OURS]["x"], 1e-5, y=small[OURS]["y"], loss=LOSS, tile=tile, reduction="sum")
    off = {m: np.median(np.abs(one["num_grad"] - truth)) for m, one in small.items()}
    assert off[OURS] < 0.1 * off[THEIRS]


def test_the_slips_that_the_docs_name():
    """What they do to the figures, so that a reader knows why theirs differ."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(28, 28, 1))
    estimate = truth * (1 + 1e-3)
    # A quotient binds before a sum: |a - b| / |a| + |b| is no relative error.
    slipped = np.abs(truth - estimate) / np.abs(truth) + np.abs(estimate)
    assert np.median(slipped) > 0.5
    assert np.median(np.abs(truth - estimate) / np.abs(truth)) == pytest.approx(1e-3)
    # (28, 28) minus (28, 28, 1) holds every pixel of one against a row of the other.
    assert (estimate[..., 0] - truth).shape == (28, 28, 28)
    assert np.median(np.abs(estimate[..., 0] - truth)) > 100 * np.median(np.abs(estimate - truth))
