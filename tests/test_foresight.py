"""Values and gradients at both points of a check from one call: the same report as from calls one by one."""

from __future__ import annotations

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast import rules
from fdfast.differences import compiled
from fdfast.engines import difference
from fdfast.engines.difference import DifferenceEngine
from fdfast.functions import variables
from fdfast.functions.objective import TracedObjective
from fdfast.functions.variables import Snapshot

K = keras.layers
SHAPE = (8, 8, 1)
X = np.random.default_rng(0).uniform(size=(3, *SHAPE)).astype("float32")
X[:, :3] = 0  # background, where a pool ties
LABELS = np.array([2, 0, 1])


def model_with(last, dtype="float32"):
    keras.utils.set_random_seed(6)
    layers = [
        keras.Input(SHAPE, dtype=dtype),
        K.Conv2D(4, 3, activation="relu", bias_initializer="ones", dtype=dtype),
        K.MaxPooling2D(2, dtype=dtype),
        K.Flatten(dtype=dtype),
        K.Dense(3, activation=last, dtype=dtype),
    ]
    return keras.Sequential(layers)


CASES = {
    "one example": ("softmax", "sparse_categorical_crossentropy", X[0], LABELS[0], {}),
    "examples": ("softmax", "sparse_categorical_crossentropy", X, LABELS, {}),
    "tiles": ("softmax", "sparse_categorical_crossentropy", X[:2], LABELS[:2], {"tile": 3}),
    "float32": ("softmax", "sparse_categorical_crossentropy", X[0], LABELS[0], {"precision": "float32"}),
    "bounds": ("softmax", "sparse_categorical_crossentropy", X[0], LABELS[0], {"bounds": (0.0, 1.0)}),
    "square": (None, "mean_squared_error", X, np.eye(3)[LABELS], {}),
}


@pytest.fixture
def answers(monkeypatch):
    """What foresight answered, from the first call on; `off` makes it answer None."""
    found = []
    ask = DifferenceEngine.foresee

    def foresee(self, *arguments):
        found.append(None if found and isinstance(found[0], str) else ask(self, *arguments))
        return found[-1]

    monkeypatch.setattr(difference, "_SETTLED", 0)
    monkeypatch.setattr(DifferenceEngine, "foresee", foresee)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_the_report_is_that_of_calls_one_by_one(case, dtype, answers):
    last, loss, x, y, options = CASES[case]
    model = model_with(last, dtype)
    known = fdfast.gradcheck(model, x, y, loss=loss, **options)
    assert len(answers) == 1
    assert answers[0] is not None
    answers[:] = ["off"]
    single = fdfast.gradcheck(model, x, y, loss=loss, **options)
    assert answers[1:] == [None]
    assert known.engine == "difference"
    assert known.verdict == single.verdict
    assert np.array_equal(known.classes, single.classes)
    assert known.near.any()  # there are kinks at x, judged near it
    # Autodiff's sums over one batch of two points, or over two of one, round apart.
    for name, bar in (("numeric", 1e-13), ("analytic", 1e-12), ("checked_analytic", 1e-12), ("right", 1e-13)):
        ours, theirs = getattr(known, name), getattr(single, name)
        assert np.allclose(ours, theirs, rtol=0, atol=bar * np.nanmax(np.abs(theirs)), equal_nan=True), name
    if dtype == "float32":
        assert known.deployed["dtype"] == "float32"
        # Of float32 gradients, whose rounding the median is: it may be another, of the same size.
        assert known.deployed["median_rel_error"] == pytest.approx(single.deployed["median_rel_error"], rel=1)


def test_a_model_that_is_more_than_its_layers_is_called_as_a_whole(answers):
    class Twice(keras.Sequential):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs, training=training, mask=mask)

    model = Twice([keras.Input(SHAPE), K.Flatten(), K.Dense(3, activation="softmax")])
    report = fdfast.gradcheck(model, X[0], LABELS[0], loss="sparse_categorical_crossentropy")
    assert report.engine == "difference"
    assert answers == [None]


def test_without_a_second_point_nothing_is_foreseen(answers):
    report = fdfast.gradcheck(
        model_with("softmax"), X[0], LABELS[0], loss="sparse_categorical_crossentropy", jitter=None
    )
    assert report.engine == "difference"
    assert not answers


def test_the_first_checks_trace_nothing_more(monkeypatch):
    monkeypatch.setattr(difference, "_SETTLED", 2)
    asked = []
    ask = DifferenceEngine.foresee

    def foresee(self, *arguments):
        asked.append(ask(self, *arguments))
        return asked[-1]

    monkeypatch.setattr(DifferenceEngine, "foresee", foresee)
    model = model_with("softmax")
    for _ in range(3):
        fdfast.gradcheck(model, X[0], LABELS[0], loss="sparse_categorical_crossentropy")
    assert asked[0] is None
    assert asked[-1] is not None


def test_the_models_own_gradient_takes_no_call_of_its_own(answers, monkeypatch):
    model, calls = model_with("softmax"), []
    ask = TracedObjective.deployed_gradient

    def deployed(self, points):
        calls.append(points)
        return ask(self, points)

    monkeypatch.setattr(TracedObjective, "deployed_gradient", deployed)
    report = fdfast.gradcheck(model, X[0], LABELS[0], loss="sparse_categorical_crossentropy")
    assert not calls
    assert report.deployed["dtype"] == "float32"
    assert 0 < report.deployed["median_rel_error"] < 1e-4


def test_nothing_outlives_the_model(answers):
    def check():
        model = model_with("softmax")
        before = set(map(id, compiled._compiled))
        fdfast.gradcheck(model, X[0], LABELS[0], loss="sparse_categorical_crossentropy")
        (traced,) = (one for one in compiled._compiled if id(one) not in before)
        return weakref.ref(model), weakref.ref(traced), weakref.ref(compiled._compiled[traced]["float64"])

    kept = check()
    for _ in range(3):  # what one round frees may hold more
        gc.collect()
    assert [one() for one in kept] == [None] * 3


def test_weights_are_read_at_both_ends_where_no_layer_can_write_them(monkeypatch):
    reads = []
    read_all = variables.read_all
    monkeypatch.setattr(variables, "read_all", lambda some: reads.extend(some) or read_all(some))
    model = model_with("softmax")
    loss = "sparse_categorical_crossentropy"
    for _ in range(2):  # the first makes the float64 copy
        reads.clear()
        fdfast.gradcheck(model, X[0], LABELS[0], loss=loss)
    assert len(reads) == 2 * len(model.variables)  # and once more at the end: another thread may train the model

    class Own(K.Dense):
        pass

    rules.difference_rule(Own)(lambda layer, z, d: d @ tf.cast(layer.kernel, d.dtype))
    other = keras.Sequential([keras.Input(SHAPE), K.Flatten(), Own(3), K.Activation("softmax")])
    for _ in range(2):
        reads.clear()
        fdfast.gradcheck(other, X[0], LABELS[0], loss=loss)
    # As often: what was not written to need not be put back.
    assert sum(any(one is variable for variable in other.variables) for one in reads) == 2 * len(other.variables)


def test_a_snapshot_spares_reading_what_another_has_just_read():
    held = [tf.Variable([1.0, 2.0]), tf.Variable(3.0)]
    before, now = Snapshot(held), Snapshot(held)
    assert not before.touched(now)
    assert not before.touched()
    held[1].assign(4.0)
    assert before.touched()
    assert before.touched(Snapshot(held))
    # What was read before the write does not show it: `now` has to be of now.
    assert not before.touched(now)
