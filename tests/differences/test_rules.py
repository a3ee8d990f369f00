"""Every difference rule against layer(z + d) - layer(z) in float64, and without cancellation where that has it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from fdfast.differences.rules import activation_rule, difference_rule, find_rule
from fdfast.differences.rules.elementwise import activation_difference
from fdfast.differences.rules.losses import find_loss

L = keras.layers
ACTIVATIONS = [
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "hard_sigmoid", "tanh", "softplus", "softsign",
    "silu", "gelu", "exponential", "softmax", "log_softmax", "mish",
]  # fmt: skip
IMAGE, LINE, VOLUME = (7, 6, 4), (9, 4), (5, 4, 4, 2)
LAYERS = {
    "dense": (lambda: L.Dense(5, activation="tanh"), IMAGE),
    "dense no bias": (lambda: L.Dense(5, use_bias=False), LINE),
    "einsum": (lambda: L.EinsumDense("abc,cd->abd", output_shape=(9, 3), bias_axes="d", activation="relu"), LINE),
    "conv1d causal": (lambda: L.Conv1D(3, 3, padding="causal", dilation_rate=2, activation="elu"), LINE),
    "conv2d": (lambda: L.Conv2D(3, 3, activation="relu"), IMAGE),
    "conv2d same strided": (lambda: L.Conv2D(3, (3, 2), strides=(2, 1), padding="same"), IMAGE),
    "conv2d dilated": (lambda: L.Conv2D(4, 2, dilation_rate=2, activation="sigmoid"), IMAGE),
    "conv2d groups": (lambda: L.Conv2D(4, 3, groups=2), IMAGE),
    "conv3d": (lambda: L.Conv3D(2, 2, activation="softplus"), VOLUME),
    "depthwise": (lambda: L.DepthwiseConv2D(3, depth_multiplier=2, activation="relu"), IMAGE),
    "separable": (lambda: L.SeparableConv2D(3, 3, activation="relu"), IMAGE),
    "transpose": (lambda: L.Conv2DTranspose(3, 3, strides=2, activation="relu"), IMAGE),
    "max pool": (lambda: L.MaxPooling2D(2), IMAGE),
    "max pool overlapping": (lambda: L.MaxPooling2D(3, strides=2), IMAGE),
    "max pool same": (lambda: L.MaxPooling2D((3, 2), strides=(2, 2), padding="same"), IMAGE),
    "max pool 1d": (lambda: L.MaxPooling1D(2), LINE),
    "average pool": (lambda: L.AveragePooling2D(2, padding="same"), IMAGE),
    "global max": (lambda: L.GlobalMaxPooling2D(), IMAGE),
    "global max kept": (lambda: L.GlobalMaxPooling2D(keepdims=True), IMAGE),
    "global average": (lambda: L.GlobalAveragePooling2D(), IMAGE),
    "batch norm": (lambda: L.BatchNormalization(), IMAGE),
    "batch norm axis": (lambda: L.BatchNormalization(axis=1, center=False), IMAGE),
    "layer norm": (lambda: L.LayerNormalization(), IMAGE),
    "layer norm axes": (lambda: L.LayerNormalization(axis=(1, 2), scale=False), IMAGE),
    "rescaling": (lambda: L.Rescaling(1 / 3, offset=0.5), IMAGE),
    "normalization": (lambda: L.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0]), IMAGE),
    "flatten": (lambda: L.Flatten(), IMAGE),
    "reshape": (lambda: L.Reshape((6, 28)), IMAGE),
    "permute": (lambda: L.Permute((3, 1, 2)), IMAGE),
    "zero padding": (lambda: L.ZeroPadding2D(((1, 2), (0, 1))), IMAGE),
    "cropping": (lambda: L.Cropping2D(((1, 2), (0, 1))), IMAGE),
    "upsampling": (lambda: L.UpSampling2D(2), IMAGE),
    "dropout": (lambda: L.Dropout(0.5), IMAGE),
    "relu layer": (lambda: L.ReLU(max_value=0.5, negative_slope=0.1), IMAGE),
    "relu threshold": (lambda: L.ReLU(threshold=0.3), IMAGE),
    "leaky relu": (lambda: L.LeakyReLU(negative_slope=0.3), IMAGE),
    "prelu": (lambda: L.PReLU(alpha_initializer="random_uniform"), IMAGE),
    "elu layer": (lambda: L.ELU(alpha=0.7), IMAGE),
    "softmax layer": (lambda: L.Softmax(axis=1), IMAGE),
    "activation": (lambda: L.Activation("gelu"), IMAGE),
}
MERGES = [L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Concatenate]
SIZES = [3.0, 0.3, 1e-3]  # of the difference: across many branches, some, few


def built(make, shape):
    layer = make()
    layer.dtype_policy = keras.dtype_policies.DTypePolicy("float64")
    keras.utils.set_random_seed(3)
    layer.build((None, *shape))
    rng = np.random.default_rng(5)
    for weight in layer.weights:
        # Biases and moving statistics too: zeros and ones would hide a rule that forgets them.
        weight.assign(
            np.abs(rng.normal(1, 0.5, weight.shape)) if "variance" in weight.path else rng.normal(0, 0.5, weight.shape)
        )
    return layer


def case(shape, size, rows=3, seed=0):
    rng = np.random.default_rng(seed)
    return tf.constant(rng.normal(size=(1, *shape))), tf.constant(size * rng.normal(size=(rows, *shape)))


def close(got, wanted, scale=1.0):
    # Subtracting in float64 leaves 1e-15 of the terms, which are of order 10 in the deepest sums here.
    np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-13 * max(1.0, scale))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_rule_is_the_difference(name, size):
    make, shape = LAYERS[name]
    layer = built(make, shape)
    z, d = case(shape, size)
    rule = find_rule(layer)
    assert rule is not None
    close(
        rule(layer, z, d),
        layer(z + d, training=False) - layer(z, training=False) if "dropout" in name else layer(z + d) - layer(z),
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cls", MERGES)
def test_a_merging_rule_is_the_difference(cls, size):
    layer = cls(dtype="float64")
    (a, da), (b, db) = case((4, 3), size), case((4, 3), size, seed=1)
    close(find_rule(layer)(layer, [a, b], [da, db]), layer([a + da, b + db]) - layer([a + 0 * da, b + 0 * db]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_rule_is_the_difference(name, size):
    function = keras.activations.get(name)
    z, d = case((40,), size, rows=5)
    close(activation_difference(function, 3 * z, d), function(3 * z + d) - function(3 * z + 0 * d), 100.0)


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n not in ("mish", "softsign")])
def test_an_activation_rule_keeps_all_digits_of_a_tiny_difference(name):
    # f(z + d) - f(z) = d f'(z) (1 + O(d)): at d = 1e-12 to 1e-10 relative, where subtracting keeps 4 digits.
    function = keras.activations.get(name)
    rng = np.random.default_rng(2)
    z = tf.constant(rng.uniform(0.5, 3.0, (1, 30)) * rng.choice([-1, 1], (1, 30)))
    d = tf.constant(1e-12 * rng.normal(size=(1, 30)))
    with tf.autodiff.ForwardAccumulator(z, d) as forward:
        value = function(z)
    wanted = forward.jvp(value)
    np.testing.assert_allclose(activation_difference(function, z, d), wanted, rtol=1e-10, atol=1e-24)


def test_softsign_keeps_all_digits_of_a_tiny_difference():
    # TensorFlow has no forward mode for it; the derivative is 1 / (1 + |z|)^2.
    z, d = tf.constant([[0.7, -1.3]], tf.float64), tf.constant([[1e-12, 1e-12]], tf.float64)
    wanted = d / (1 + tf.abs(z)) ** 2
    np.testing.assert_allclose(activation_difference(keras.activations.softsign, z, d), wanted, rtol=1e-10)


def test_three_dimensional_pools():
    # TensorFlow has no float64 kernel for them, so the truth is NumPy's.
    layer = L.MaxPooling3D(2)
    z, d = case((4, 4, 2, 3), 0.3)

    def pooled(x):
        return np.asarray(x).reshape(len(x), 2, 2, 2, 2, 1, 2, 3).max(axis=(2, 4, 6))

    close(find_rule(layer)(layer, z, d), pooled(z + d) - pooled(z))


def targets(name, rng):
    if name == "sparse_categorical_crossentropy":
        return tf.constant([2, 0])
    hot = np.eye(5)[[2, 0]]
    return tf.constant({"hinge": 2 * hot - 1, "squared_hinge": 2 * hot - 1, "poisson": 3 * hot}.get(name, hot))


LOSSES = [
    "categorical_crossentropy", "sparse_categorical_crossentropy", "binary_crossentropy", "mean_squared_error",
    "mean_absolute_error", "mean_squared_logarithmic_error", "huber", "log_cosh", "hinge", "squared_hinge",
    "kl_divergence", "poisson",
]  # fmt: skip


@pytest.mark.parametrize("size", [0.1, 1e-3])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_rule_is_the_difference(name, size):
    rng = np.random.default_rng(4)
    loss = getattr(keras.losses, name)
    z = tf.constant(rng.uniform(0.15, 0.8, (2, 5)))
    d = tf.constant(size * rng.uniform(-1, 1, (2, 5)))
    y = targets(name, rng)
    close(find_loss(loss)(y, z, d), loss(y, z + d) - loss(y, z))


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (keras.losses.CategoricalCrossentropy(from_logits=True), [[0, 0, 1.0], [0.2, 0.3, 0.5]]),
        (keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1), [[0, 0, 1.0], [1.0, 0, 0]]),
        (keras.losses.BinaryCrossentropy(from_logits=True), [[0, 0, 1.0], [1.0, 1, 0]]),
        (keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2), [[0, 0, 1.0], [1.0, 1, 0]]),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), [2, 0]),
        (keras.losses.Huber(delta=0.3), [[0, 0, 1.0], [1.0, 0, 0]]),
    ],
)
def test_settings_of_a_loss_are_heeded(loss, y):
    z, d = (
        tf.constant([[1.0, -2.0, 3.0], [0.5, 0.1, 0.2]], tf.float64),
        tf.constant([[0.1, 0.2, -0.3], [1.0, 0, 0]], tf.float64),
    )
    y = tf.constant(y, tf.int64 if isinstance(y[0], int) else tf.float64)
    close(find_loss(loss)(y, z, d), loss.call(y, z + d) - loss.call(y, z))


def test_a_saturated_cross_entropy_keeps_its_digits():
    # p_y = 1 - 1e-13: the loss itself is 1e-13, known to 3 digits only; its difference must be right to 1e-12.
    rule = find_loss(keras.losses.CategoricalCrossentropy(from_logits=True))
    z, d = tf.constant([[30.0, 0.0, -1.0]], tf.float64), tf.constant([[1e-3, 2e-3, 0.0]], tf.float64)
    long = np.longdouble

    def loss(logits):
        return np.log1p(np.exp(long(logits[1]) - long(logits[0])) + np.exp(long(logits[2]) - long(logits[0])))

    wanted = loss([long(30) + long(1e-3), long(2e-3), -1]) - loss([30, 0, -1])
    np.testing.assert_allclose(float(rule(tf.constant([[1.0, 0, 0]], tf.float64), z, d)[0]), float(wanted), rtol=1e-12)


def test_a_subclass_has_no_rule():
    class Twisted(L.Dense):
        def call(self, x):
            return super().call(x) ** 2

    assert find_rule(Twisted(3)) is None
    assert find_loss(lambda y, p: p) is None
    assert find_loss(keras.losses.SparseCategoricalCrossentropy(ignore_class=0)) is None


def test_a_second_rule_is_refused_naming_the_first():
    with pytest.raises(ValueError, match=r"Dense has a difference rule already, dense at .*linear\.py:\d+"):
        difference_rule(L.Dense)(lambda layer, z, d: d)
    with pytest.raises(ValueError, match="relu has a difference rule already"):
        activation_rule(keras.activations.relu)(lambda z, d: d)
    with pytest.raises(TypeError, match="belongs to a layer class"):
        difference_rule(3)(lambda layer, z, d: d)


def test_a_rule_that_is_wrong_is_seen():
    z, d = case((4,), 0.3)
    with pytest.raises(AssertionError):
        close(d, tf.tanh(z + d) - tf.tanh(z))
