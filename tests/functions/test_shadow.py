"""The float64 copy: which models have one, that it is the same function, and that the original stays as it was."""

from __future__ import annotations

import gc
import random
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from fdfast.functions import shadow
from fdfast.functions.shadow import NoShadow, shadow_of

K = keras.layers
SHAPE = (6, 6, 2)
X = np.random.default_rng(0).uniform(size=(3, *SHAPE))


class Scaled(K.Layer):
    """Its own weight, and a configuration."""

    def __init__(self, power, **kwargs):
        super().__init__(**kwargs)
        self.power = power

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return self.scale * x**self.power

    def get_config(self):
        return {**super().get_config(), "power": self.power}


class Plain(K.Layer):
    """No get_config: Keras notes simple arguments by itself."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x


class Drawn(K.Layer):
    """State that neither weights nor configuration know."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.factor = np.random.default_rng().normal()

    def call(self, x):
        return self.factor * x


class Narrow(K.Layer):
    """A weight that insists on float32."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), dtype="float32")

    def call(self, x):
        return x * tf.cast(self.scale, x.dtype)


class Casting(K.Layer):
    """Computes in float32 and returns it, whatever its policy says."""

    def call(self, x):
        return tf.cast(x, tf.float32) * 2


class Strict(K.Layer):
    """A constant of one dtype only."""

    def call(self, x):
        return tf.matmul(x, tf.eye(2, dtype=tf.float32)) if x.dtype == tf.float32 else tf.linalg.matmul(x, "no")


class Subclassed(keras.Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.flat = K.Flatten()
        self.first = K.Dense(units, activation="tanh")
        self.last = K.Dense(3)

    def call(self, x):
        return self.last(self.first(self.flat(x)))


class Late(keras.Model):
    """Makes its layers only when it sees an input: they take the global policy of that moment."""

    def build(self, shape):
        self.last = K.Dense(3)
        self.last.build((None, 72))

    def call(self, x):
        return self.last(tf.reshape(x, [-1, 72]))


class Wrapped(keras.Model):
    """Cannot say what it was made from."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def call(self, x):
        return self.part(x)


def wave(x):
    return tf.sin(3 * x)


def sequential(*layers):
    return keras.Sequential([keras.Input(SHAPE), *layers, K.Flatten(), K.Dense(3, activation="softmax")])


def branched():
    """Branches, a shared layer, a nested model, and operations between layers."""
    x = keras.Input(SHAPE)
    shared = K.Conv2D(2, 3, padding="same", activation="elu")
    inner = keras.Sequential(
        [keras.Input(SHAPE), K.Conv2D(2, 1, activation=lambda z: z * tf.sigmoid(z), name="same_name")]
    )
    left = K.Conv2D(2, 1, activation=wave, name="same_name")(shared(x))
    both = K.Concatenate()([shared(left), inner(x), keras.ops.tanh(x) * 2.0])
    return keras.Model(x, K.Dense(3)(K.GlobalAveragePooling2D()(both)))


def attention():
    x = keras.Input(SHAPE)
    words = K.Reshape((12, 6))(x)
    return keras.Model(
        x, K.Dense(3)(K.Flatten()(K.LayerNormalization()(K.MultiHeadAttention(2, 3)(words, words) + words)))
    )


def normalised():
    model = sequential(K.BatchNormalization(), K.Dropout(0.5), K.GaussianNoise(1.0))
    rng = np.random.default_rng(1)
    model.layers[0].set_weights([rng.uniform(0.5, 2, 2) for _ in range(4)])
    return model


def unbuilt():
    return keras.Sequential([K.Flatten(), K.Dense(3)])


def mixed(policy):
    def make():
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            return keras.Sequential(
                [keras.Input(SHAPE), K.Conv2D(3, 3, activation="relu"), K.Flatten(), K.Dense(3, dtype="float32")]
            )
        finally:
            keras.config.set_dtype_policy(before)

    return make


COPIED = {
    "sequential": lambda: sequential(K.Conv2D(3, 3, activation="relu"), K.MaxPooling2D(2)),
    "branches, shared and nested": branched,
    "batch norm, dropout": normalised,
    "custom layer": lambda: sequential(Scaled(2)),
    "no get_config, simple arguments": lambda: sequential(Plain(0.3)),
    "lambda layers": lambda: sequential(K.Lambda(lambda x: x + 1), K.Lambda(lambda x: 2 * wave(x)), K.Lambda(tf.abs)),
    "recurrent": lambda: sequential(K.Reshape((12, 6)), K.Bidirectional(K.LSTM(2, return_sequences=True))),
    "attention": attention,
    "half precision": mixed("mixed_float16"),
    "bfloat16": mixed("mixed_bfloat16"),
    "subclassed": Subclassed,
    "layers made late": Late,
    "not built yet": unbuilt,
}  # fmt: skip
# Rounding of the original: units in the last place of its dtype, times the additions of a layer or two.
DIGITS = {"half precision": 2e-2, "bfloat16": 2e-1}


@pytest.mark.parametrize("kind", COPIED)
def test_copy_is_the_same_function_in_float64(kind):
    keras.utils.set_random_seed(3)
    model = COPIED[kind]()
    if not model.built:
        model(X.astype("float32"))  # building draws the model's own first weights
    known = random.getstate(), keras.config.dtype_policy()
    before = model.get_weights()
    dtypes = [(layer.dtype_policy.name, layer.compute_dtype) for layer in model._flatten_layers()]
    copy = shadow_of(model, SHAPE).model
    got = copy(X, training=False).numpy()
    np.testing.assert_allclose(
        got, np.asarray(model(X.astype("float32"), training=False), float), atol=DIGITS.get(kind, 1e-5)
    )
    # Float64 all the way: a change of x by 1e-10 is seen, in proportion.
    move = np.random.default_rng(2).normal(size=X.shape)
    small, large = ((copy(X + h * move, training=False).numpy() - got) / h for h in (1e-10, 1e-7))
    # 1e-16 of rounding over 1e-10, and curvature times 1e-7.
    np.testing.assert_allclose(small, large, atol=1e-4)
    assert np.abs(large).max(axis=1).min() > 1e-2
    assert {str(w.dtype) for w in copy.weights} == {"float64"}
    # The original and everything global are as they were.
    assert [(layer.dtype_policy.name, layer.compute_dtype) for layer in model._flatten_layers()] == dtypes
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert (random.getstate(), keras.config.dtype_policy()) == known
    assert not {id(w) for w in copy.weights} & {id(w) for w in model.weights}


def test_a_layer_that_rounds_inside_fails_the_test_above():
    # The control: rounded to float32 on the way, 1e-10 is not seen in proportion.
    model = sequential(K.Lambda(lambda x: tf.cast(tf.cast(x, tf.float32), x.dtype)))
    copy = shadow_of(model, SHAPE).model
    got = copy(X).numpy()
    assert not np.allclose((copy(X + 1e-10).numpy() - got) / 1e-10, (copy(X + 1e-4).numpy() - got) / 1e-4, atol=1e-2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: sequential(Plain(np.arange(2.0))),
            "cannot be rebuilt in float64: .*non-serializable.*Plain|Plain.*non-seri",
        ),
        (lambda: Wrapped(K.Flatten()), "Wrapped .*cannot be rebuilt in float64: .*must override `get_config"),
        (lambda: sequential(Drawn()), "computes another function than the model: a layer keeps state outside"),
        (lambda: sequential(Narrow()), r"layers of .* insist on their own dtype: narrow\S*/\S+ stay below float64"),
        (lambda: keras.Sequential([keras.Input(SHAPE), Casting()]), "returns float32: a layer casts inside"),
        (lambda: sequential(Strict()), "Sequential .*cannot be rebuilt in float64: .*Strict"),
    ],
)
def test_refusal_says_why_and_leaves_everything_alone(make, words):
    keras.utils.set_random_seed(3)
    model = make()
    before = model.get_weights()
    known = random.getstate(), keras.config.dtype_policy(), keras.config.floatx()
    for _ in range(2):  # the second answer comes from memory
        with pytest.raises(NoShadow, match=words) as caught:
            shadow_of(model, SHAPE)
        assert "\x1b" not in str(caught.value)
        assert len(str(caught.value)) < 400
    assert (random.getstate(), keras.config.dtype_policy(), keras.config.floatx()) == known
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_interrupted_copying_puts_the_global_policy_back(monkeypatch):
    model = sequential()
    policy = keras.config.dtype_policy()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shadow, "_in_float64", stop)
    with pytest.raises(KeyboardInterrupt):
        shadow_of(model, SHAPE)
    assert keras.config.dtype_policy() == policy
    monkeypatch.undo()
    assert shadow_of(model, SHAPE).model.compute_dtype == "float64"  # nothing wrong was remembered


def test_copy_follows_training():
    model = normalised()
    first = shadow_of(model, SHAPE)
    before = first.model(X, training=False).numpy()
    model.layers[-1].kernel.assign(model.layers[-1].kernel + 0.25)
    model.layers[0].moving_mean.assign([0.1, 0.2])
    again = shadow_of(model, SHAPE)
    assert again is first
    after = again.model(X, training=False).numpy()
    np.testing.assert_allclose(after, model(X.astype("float32"), training=False), atol=1e-5)  # float32 rounding
    assert np.abs(after - before).max() > 1e-3
    model.compile(optimizer="sgd", loss="mse")
    model.fit(X, np.zeros((3, 3)), epochs=1, verbose=0)
    np.testing.assert_allclose(shadow_of(model, SHAPE).model(X), model(X.astype("float32")), atol=1e-5)


def test_copy_is_made_anew_when_layers_change():
    model = sequential(K.Activation("tanh"))
    before = shadow_of(model, SHAPE).model(X).numpy()
    model.pop()
    model.add(K.Dense(3, activation="tanh"))
    model.layers[-1].set_weights([np.full((72, 3), 0.01), np.zeros(3)])
    after = shadow_of(model, SHAPE).model(X).numpy()
    np.testing.assert_allclose(after, model(X.astype("float32")), atol=1e-6)  # float32 rounding
    assert np.abs(after - before).max() > 1e-2


def test_copies_die_with_their_models():
    model = sequential()
    copy = weakref.ref(shadow_of(model, SHAPE).model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    gc.collect()
    assert copy() is None


def test_many_copies_raise_no_warning_of_retracing(caplog):
    models = [keras.Sequential([keras.Input((2,)), K.Dense(1)]) for _ in range(8)]
    with caplog.at_level("WARNING", logger="tensorflow"):
        tf.get_logger().propagate = True
        for model in models:
            shadow_of(model, (2,))
            shadow_of(model, (2,))
    assert "retracing" not in caplog.text
