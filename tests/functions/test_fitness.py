"""What makes f no function of its row is named, with its layer and the remedy; and nothing is left changed behind."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.functions.behind import layers_of, state_kept
from fdfast.functions.callables import callable_objective
from fdfast.functions.fitness import PreflightError, preflight

layers = keras.layers
X = np.linspace(-0.7, 1.3, 4)
Y = np.array([0.3, -0.2, 0.9])
IMAGE = np.random.default_rng(0).uniform(size=(4, 4, 1))


class AlwaysTraining(layers.Layer):
    """Calls what it holds in training mode, whatever it is told: the classic."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x, training=True)

    def get_config(self):
        return {**super().get_config(), "inner": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("inner")), **config)


class Counter(layers.Layer):
    """Adds to its output how often it was called."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, x):
        self.calls.assign_add(1.0)
        return x + self.calls


class Learner(layers.Layer):
    """Changes a weight that is trained."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        self.scale.assign(self.scale * 1.01)
        return x * self.scale


class MinusMean(layers.Layer):
    """Subtracts the mean of the batch."""

    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


class Smuggler(layers.Layer):
    """Draws by TensorFlow itself, so that Keras knows nothing of it."""

    def call(self, x):
        return x + 0.1 * tf.random.normal(tf.shape(x), dtype=x.dtype)


def net(layer, shape=(4,)):
    keras.utils.set_random_seed(1)
    first = [] if layer is None else [layer]
    return keras.Sequential([keras.Input(shape), *first, layers.Flatten(), layers.Dense(3, activation="tanh")])


def state(model):
    return {v.path: v.numpy() for v in model.variables}


def same_state(model, before):
    after = state(model)
    assert after.keys() == before.keys()
    for path, value in before.items():
        assert after[path].tobytes() == value.tobytes(), path


# A layer, and words of the message: what happens, who does it, what to do
GUILTY = {
    "Dropout": (
        lambda: AlwaysTraining(layers.Dropout(0.5, name="drop")),
        ("not deterministic", "'drop' (Dropout)", "call it with training=False"),
    ),
    "GaussianNoise": (
        lambda: AlwaysTraining(layers.GaussianNoise(0.1, name="hiss")),
        ("not deterministic", "'hiss' (GaussianNoise)", "call it with training=False"),
    ),
    "BatchNormalization": (
        lambda: AlwaysTraining(layers.BatchNormalization(name="norm")),
        ("changes its state", "moving_mean", "'norm' (BatchNormalization)", "call it with training=False"),
    ),
    "BatchNormalization that learns nothing": (
        lambda: AlwaysTraining(layers.BatchNormalization(momentum=1.0, name="norm")),
        ("rows influence each other", "which holds 'norm' (BatchNormalization)", "training=False", "batched=False"),
    ),
    "counter": (
        lambda: Counter(name="count"),
        ("changes its state", "count/calls differ", "'count' (Counter)", "Keep state out of the forward pass"),
    ),
    "learner": (lambda: Learner(name="learn"), ("changes its state", "learn/scale", "'learn' (Learner)")),
    "batch mean": (
        lambda: MinusMean(name="centre"),
        ("rows influence each other", "the first layer to differ is 'centre' (MinusMean)", "its own row only"),
    ),
    "TensorFlow's own noise": (
        lambda: Smuggler(name="smuggle"),
        ("not deterministic", "the first layer to differ is 'smuggle' (Smuggler)"),
    ),
}


@pytest.mark.parametrize("case", GUILTY)
def test_the_guilty_layer_is_named(case):
    make, words = GUILTY[case]
    model = net(make())
    before = state(model)
    with pytest.raises(PreflightError) as caught:
        fdfast.gradcheck(model, X, Y, loss="mse")
    for word in words:
        assert word in str(caught.value)
    same_state(model, before)


def test_a_random_flip_is_named_even_when_it_flips_both_rows_alike():
    # A seed at which both rows of the first batch come out the same: only the state of the generator tells.
    model = net(layers.RandomFlip("horizontal", seed=1, name="flip"), (4, 4, 1))

    def f(rows):
        return tf.reduce_sum(model(rows, training=True) ** 2, axis=1)

    for seed in range(6):
        model.layers[0].generator.state.assign([seed, 0])
        before = state(model)
        with pytest.raises(
            PreflightError, match=r"not deterministic.*'flip' \(RandomFlip\): in training mode it draws"
        ):
            fdfast.gradcheck(f, IMAGE.astype("float32"), batched=True)
        same_state(model, before)


@pytest.mark.parametrize(
    "layer", [layers.Dropout(0.5, name="d"), layers.GaussianNoise(0.2, name="d"), layers.GaussianDropout(0.3, name="d")]
)
def test_a_callable_that_calls_the_model_in_training_mode(layer):
    model = net(layer)
    before = state(model)
    with pytest.raises(PreflightError, match=rf"not deterministic.*'d' \({type(layer).__name__}\)"):
        fdfast.gradcheck(
            lambda rows: tf.reduce_sum(model(rows, training=True), axis=1), X.astype("float32"), batched=True
        )
    same_state(model, before)


def test_a_callable_that_normalises_by_the_batch():
    model = net(layers.BatchNormalization(name="norm"))
    before = state(model)
    with pytest.raises(PreflightError, match=r"changes its state.*moving_mean.*'norm' \(BatchNormalization\)"):
        fdfast.gradient(
            lambda rows: tf.reduce_sum(model(rows, training=True), axis=1), X.astype("float32"), batched=True
        )
    same_state(model, before)


COUPLED = {
    "to the first row": lambda rows: rows - rows[:1],
    "to the last row": lambda rows: rows + rows[-1:],
    "by the largest": lambda rows: rows / tf.reduce_max(rows, axis=0),
    "by all moments": lambda rows: (rows - tf.reduce_mean(rows)) / tf.math.reduce_std(rows),
    "to the row before": lambda rows: rows + tf.roll(rows, 1, axis=0),
}


@pytest.mark.parametrize("case", COUPLED)
def test_rows_that_see_each_other(case):
    with pytest.raises(PreflightError, match="rows influence each other"):
        fdfast.gradient(lambda rows: tf.reduce_sum(COUPLED[case](rows) ** 3 * np.arange(1.0, 5.0), 1), X, batched=True)


def test_a_loss_that_is_a_mean_over_the_batch_is_a_coupling():
    with pytest.raises(PreflightError, match="rows influence each other"):
        fdfast.gradient(
            lambda rows: tf.reduce_sum(rows**2, axis=1) / tf.cast(tf.shape(rows)[0], tf.float64), X, batched=True
        )


@pytest.mark.parametrize("x", [np.zeros(3), np.full(3, 2.0), np.array([0.5])])
def test_rows_that_all_look_alike_hide_no_coupling(x):
    with pytest.raises(PreflightError, match="rows influence each other"):
        fdfast.gradient(
            lambda rows: tf.reduce_sum((rows - tf.reduce_mean(rows, axis=0)) * 3 + rows, axis=1), x, batched=True
        )


NOISY = {
    "one by one": (lambda x: float(np.sum(x**2) + 1e-3 * np.random.normal()), False),  # noqa: NPY002
    "by rows": (lambda rows: (rows**2).sum(axis=1) + 1e-3 * np.random.normal(size=len(rows)), True),  # noqa: NPY002
    "by batches": (lambda rows: (rows**2).sum(axis=1) + 1e-3 * np.random.normal(), True),  # noqa: NPY002
}


@pytest.mark.parametrize("case", NOISY)
def test_noise_in_numpy(case):
    f, batched = NOISY[case]
    with pytest.raises(PreflightError, match=r"f is not deterministic.*Differences of f would be noise"):
        fdfast.gradient(f, X, batched=batched)


def test_what_is_fixed_by_a_seed_but_differs_by_row_is_noise_too():
    def f(rows):
        return tf.reduce_sum(rows + tf.random.stateless_normal(tf.shape(rows), (1, 2), dtype=tf.float64), axis=1)

    with pytest.raises(PreflightError, match=r"noise has a fixed seed: the same row twice in one batch gives"):
        fdfast.gradient(f, X, batched=True)


class TestPasses:
    """Nothing to complain about."""

    def test_dropout_and_batch_normalization_in_inference(self):
        inputs = keras.Input((4, 4, 1))
        z = layers.RandomFlip()(inputs)
        z = layers.BatchNormalization()(layers.Conv2D(2, 3)(z))
        z = layers.GaussianNoise(0.5)(layers.Dropout(0.5)(z))
        model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(z)))
        model.layers[3].moving_mean.assign([0.3, -0.2])
        before = state(model)
        report = fdfast.gradcheck(model, IMAGE, Y, loss="mse")
        assert report.verdict == "pass"
        same_state(model, before)

    def test_what_rounds_to_float32_inside(self):
        # Where a row stands in the batch changes its rounding, by 1e-7: no coupling, and no noise.
        w = tf.constant(np.random.default_rng(0).normal(size=(300, 700)), tf.float32)

        def f(rows):
            return tf.reduce_sum(tf.sin(tf.cast(rows, tf.float32) @ w), axis=1)

        fdfast.gradient(f, np.linspace(-1, 1, 300), 1e-2, tile=30, batched=True)

    def test_another_row_need_not_be_in_the_domain(self):
        # Reversed, x would ask for log(-1): an exception for one f, NaN and a warning for the other.
        import math

        x = np.array([2.0, -1.0])
        np.testing.assert_allclose(fdfast.gradient(lambda v: math.log(v[0]) - v[1], x), [0.5, -1], rtol=1e-9)
        rows = lambda v: np.log(np.asarray(v)[:, 0]) - np.asarray(v)[:, 1]  # noqa: E731
        np.testing.assert_allclose(fdfast.gradient(rows, x, batched=True), [0.5, -1], rtol=1e-9)

    def test_a_value_that_is_not_finite_is_another_error(self):
        with pytest.raises(ValueError, match="must be finite at x") as caught:
            fdfast.gradient(lambda rows: np.asarray(rows).sum(axis=1) * np.nan, X, batched=True)
        assert not isinstance(caught.value, PreflightError)

    def test_integers_are_refused_before(self):
        with pytest.raises(TypeError, match="integers cannot move by a small step") as caught:
            fdfast.gradcheck(net(None), np.array([1, 2, 3, 4]), Y, loss="mse")
        assert not isinstance(caught.value, PreflightError)


class TestState:
    """Weights, statistics, counters and seeds are bit-identical afterwards."""

    class Broken(Exception):
        pass

    def test_after_an_exception_inside(self):
        model = net(layers.BatchNormalization())
        before = state(model)
        calls = []

        def f(row):
            calls.append(1)
            if len(calls) > 8:  # after the preflight, in the midst of the differences
                model.layers[0].moving_mean.assign_add([1.0] * 4)
                model.layers[2].kernel.assign_add(np.ones((4, 3)))
                raise self.Broken
            return float(np.sum(row))

        with pytest.raises(self.Broken):
            fdfast.gradient(f, X)
        same_state(model, before)

    def test_state_kept_puts_back_everything(self):
        model = net(layers.Dropout(0.5))
        model.layers[2].kernel.assign(np.full((4, 3), np.nan))
        before = state(model)

        def change():
            for variable in model.variables:
                variable.assign(variable + 1)
            model.layers[2].bias.value[1:2].assign([3.0])  # in place
            assert model.layers[2].bias.numpy()[1] == 3.0
            raise self.Broken

        with pytest.raises(self.Broken), state_kept(model):
            change()
        same_state(model, before)

    def test_what_is_not_touched_is_not_written(self):
        model = net(None)
        written = []
        for variable in model.variables:
            variable.assign = lambda value, path=variable.path: written.append(path)
        with state_kept(model):
            model(X[None])
        assert written == []

    def test_a_stateful_callable_by_tf_function(self):
        model = net(Counter())
        before = state(model)
        f = tf.function(lambda rows: tf.reduce_sum(model(rows), axis=1))
        with pytest.raises(PreflightError, match=r"'counter\w*' \(Counter\)"):
            fdfast.gradient(f, X.astype("float32"), batched=True)
        same_state(model, before)


class Objective:
    """Counts how often it is evaluated."""

    shape = (4,)
    dtype = np.dtype(np.float64)

    def __init__(self, traced):
        self.traced, self.evaluations = traced, 0

    def values(self, rows, example, chunk):
        self.evaluations += 1
        return rows.sum(axis=1)

    def tensor_values(self, rows, example, chunk):
        return self.values(rows.numpy(), example, chunk)


class Traced:
    """Something that can be remembered."""


def test_always_false_looks_once_per_traced_function():
    traced = Traced()
    for always, evaluations in ((False, 2), (False, 0), (True, 2), (False, 0)):
        objective = Objective(traced)
        preflight(objective, X[None], [], always=always)
        assert objective.evaluations == evaluations
    other = Objective(Traced())
    preflight(other, X[None], [], always=False)
    assert other.evaluations == 2
    for _ in range(2):  # what is not traced has nothing to be remembered by
        plain = Objective(None)
        plain.tensor_values = None
        preflight(plain, X[None], [], always=False)
        assert plain.evaluations == 2


def test_what_failed_is_not_remembered():
    traced = Traced()
    objective = Objective(traced)
    objective.tensor_values = lambda rows, example, chunk: np.random.default_rng().normal(size=len(rows))
    for _ in range(2):
        with pytest.raises(PreflightError, match="not deterministic"):
            preflight(objective, X[None], [], always=False)


def test_x_is_not_touched():
    points = X[None].copy()
    points.flags.writeable = False
    preflight(callable_objective(lambda rows: rows.sum(axis=1), {}, points, (4,), batched=True), points, [])


MODEL = net(None)
LISTED = [MODEL]


def uses_a_global(rows):
    return MODEL(rows)


def uses_a_helper(rows):
    return uses_a_global(rows) + 1


def uses_it_in_a_lambda(rows):
    return (lambda inner: MODEL(inner))(rows)


def uses_a_list(rows):
    return [one(rows) for one in LISTED]


def uses_none(rows):
    return np.sum(rows) + len(str(keras.backend.backend()))


def closure():
    mine = MODEL
    return lambda rows: mine(rows)


class Owner:
    def __init__(self, model):
        self.inside = {"model": model}

    def loss(self, rows):
        return self.inside["model"](rows)

    def __call__(self, rows):
        return self.loss(rows)


def second(rows, model):
    return model(rows)


REACHING = {
    "a model": MODEL,
    "a layer": MODEL.layers[1],
    "a global": uses_a_global,
    "a function of its module": uses_a_helper,
    "an inner function": uses_it_in_a_lambda,
    "a list": uses_a_list,
    "a closure": closure(),
    "a partial": functools.partial(second, model=MODEL),
    "a partial of a method": functools.partial(Owner(MODEL).loss, rows=None),
    "a model's method": MODEL.call,
    "an owner's method": Owner(MODEL).loss,
    "a callable object": Owner(MODEL),
    "a traced function": tf.function(uses_a_global),
    "a wrapped function": functools.wraps(uses_a_global)(lambda *a: uses_a_global(*a)),
}


@pytest.mark.parametrize("case", REACHING)
def test_layers_are_found_behind(case):
    found = layers_of(REACHING[case])
    assert len(found) == 1
    assert found[0] is (MODEL.layers[1] if case == "a layer" else MODEL)


@pytest.mark.parametrize(
    "f", [uses_none, np.sum, len, functools.partial(second, model=None), lambda rows: rows, 3, None, Owner]
)
def test_nothing_is_found_where_nothing_is(f):
    assert layers_of(f) == []


def test_an_empty_cell_and_a_cycle_are_no_trouble():
    def f(rows):
        return f(later)

    f.again = f
    assert layers_of(f) == []
    later = MODEL
    assert layers_of(f) == [MODEL]
