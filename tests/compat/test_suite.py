"""A suite as TensorFlow users have it: it knows `tf.test.compute_gradient` only, and runs under `patch()` unchanged.

`bench.compat` times every check of this file with TensorFlow's function and with ours.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from fdfast.compat import tensorflow as ours

pytest_plugins = ["fdfast.compat.pytest_fixture"]
pytestmark = pytest.mark.usefixtures("fast_compute_gradient")


def normal(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def uniform(*shape, seed=0, low=0.2, high=0.8, dtype="float32"):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(dtype)


def apart(*shape, gap=0.05):
    """Numbers no two of which are closer than `gap`, nor closer to 0: no maximum changes hands, no ReLU bends."""
    count = int(np.prod(shape))
    return ((np.random.default_rng(3).permutation(count) - count // 2 + 0.5) * gap).astype("float32").reshape(shape)


IMAGE = normal(1, 16, 16, 3)
PAIR = normal(2, 12, 12, 3)
SQUARE = normal(10, 10, dtype="float64") + 8 * np.eye(10)
HIGH = normal(4, 6, 6, dtype="float64") + 6 * np.eye(6)


def definite(a):
    return tf.matmul(a, a, transpose_b=True) + tf.eye(tf.shape(a)[-1], dtype=a.dtype)


# name: function, arguments, tolerance. In float32 f is rounded by 1e-7 of its size, over 2 delta = 2e-3: 1e-4 for
# values of order 1, more for sums of many terms. In float64 truncation is left: delta^2 / 6 = 1.6e-7 times a third
# derivative.
CONVOLUTIONS = {
    "conv2d": (lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), [IMAGE, normal(3, 3, 3, 4, seed=1)], 5e-3),
    "conv2d_stride": (lambda x, w: tf.nn.conv2d(x, w, 2, "VALID"), [PAIR, normal(3, 3, 3, 4, seed=1)], 5e-3),
    "conv2d_dilated": (
        lambda x, w: tf.nn.conv2d(x, w, 1, "VALID", dilations=2),
        [IMAGE, normal(3, 3, 3, 2, seed=1)],
        5e-3,
    ),
    "conv1d": (lambda x, w: tf.nn.conv1d(x, w, 1, "SAME"), [normal(2, 80, 4), normal(3, 4, 5, seed=1)], 5e-3),
    "depthwise": (
        lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"),
        [IMAGE, normal(3, 3, 3, 2, seed=1)],
        5e-3,
    ),
    "separable": (
        lambda x, d, p: tf.nn.separable_conv2d(x, d, p, [1, 1, 1, 1], "SAME"),
        [PAIR, normal(3, 3, 3, 1, seed=1), normal(1, 1, 3, 5, seed=2)],
        5e-3,
    ),
    "conv2d_transpose": (
        lambda x, w: tf.nn.conv2d_transpose(x, w, (1, 18, 18, 2), 2),
        [normal(1, 9, 9, 3), normal(3, 3, 2, 3, seed=1)],
        5e-3,
    ),
    "conv3d": (
        lambda x, w: tf.nn.conv3d(x, w, [1] * 5, "SAME"),
        [normal(1, 6, 6, 6, 2), normal(2, 2, 2, 2, 2, seed=1)],
        5e-3,
    ),
}
POOLS = {
    "max_pool": (lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"), [apart(2, 20, 20, 3, gap=0.005)], 5e-3),
    "max_pool_overlapping": (lambda x: tf.nn.max_pool2d(x, 3, 2, "SAME"), [apart(2, 19, 19, 3, gap=0.005)], 5e-3),
    "avg_pool": (lambda x: tf.nn.avg_pool2d(x, 2, 2, "VALID"), [normal(2, 20, 20, 3)], 2e-3),
    "avg_pool_overlapping": (lambda x: tf.nn.avg_pool2d(x, 3, 1, "SAME"), [PAIR], 2e-3),
    "max_pool1d": (lambda x: tf.nn.max_pool1d(x, 3, 2, "SAME"), [apart(4, 100, 4, gap=0.005)], 5e-3),
    "global_average": (lambda x: tf.reduce_mean(x, [1, 2]), [normal(6, 12, 12, 3)], 2e-4),
}
DENSE = {
    "dense": (
        lambda x, w, b: tf.nn.relu(x @ w + b),
        [apart(10, 20), np.eye(20, 12, dtype="float32"), np.full(12, 0.003, "float32")],
        5e-3,
    ),
    "matmul": (tf.matmul, [normal(24, 24), normal(24, 24, seed=1)], 5e-3),
    "bias": (tf.nn.bias_add, [normal(4, 8, 8, 5), normal(5, seed=1)], 2e-3),
    "einsum": (lambda a, b: tf.einsum("bij,bjk->bik", a, b), [normal(4, 8, 8), normal(4, 8, 8, seed=1)], 5e-3),
    "batch_norm": (
        lambda x, g, b: tf.nn.batch_normalization(x, *tf.nn.moments(x, [0, 1, 2]), b, g, 1e-3),
        [normal(2, 10, 10, 3), uniform(3), normal(3)],
        5e-3,
    ),
    "gather": (lambda x: tf.gather(x, [0, 3, 3, 7, 1]), [normal(40, 40)], 1e-3),
    "attention": (
        lambda q, k, v: tf.nn.softmax(q @ tf.transpose(k)) @ v,
        [normal(16, 8), normal(16, 8, seed=1), normal(16, 8, seed=2)],
        5e-3,
    ),
    "cross_entropy": (
        lambda z: tf.nn.sparse_softmax_cross_entropy_with_logits(tf.constant([1, 0, 4] * 20), z),
        [normal(60, 10)],
        2e-3,
    ),
    "lstm_step": (
        lambda x, h, w: tf.tanh(tf.concat([x, h], 1) @ w) * tf.sigmoid(h),
        [normal(16, 12), normal(16, 12, seed=1), normal(24, 12, seed=2)],
        5e-3,
    ),
}
ACTIVATIONS = {
    "relu": (tf.nn.relu, [apart(32, 32, gap=0.02)], 5e-3),
    "relu6": (tf.nn.relu6, [apart(32, 32, gap=0.02)], 5e-3),
    "elu": (tf.nn.elu, [apart(32, 32, gap=0.01)], 5e-3),
    "selu": (tf.nn.selu, [apart(32, 32, gap=0.01)], 5e-3),
    "leaky_relu": (lambda x: tf.nn.leaky_relu(x, 0.1), [apart(32, 32, gap=0.02)], 5e-3),
    "softplus": (tf.nn.softplus, [normal(32, 32)], 2e-3),
    "gelu": (tf.nn.gelu, [normal(32, 32)], 2e-3),
    "swish": (tf.nn.silu, [normal(32, 32)], 2e-3),
    "tanh": (tf.tanh, [normal(32, 32)], 2e-3),
    "softmax": (tf.nn.softmax, [normal(100, 10)], 1e-3),
}
IMAGES = {
    "resize_bilinear": (lambda x: tf.image.resize(x, (18, 18)), [normal(1, 14, 14, 3)], 2e-3),
    "resize_nearest": (lambda x: tf.image.resize(x, (20, 20), "nearest"), [normal(1, 10, 10, 3)], 2e-3),
    "crop_and_resize": (
        lambda x: tf.image.crop_and_resize(x, [[0.1, 0.1, 0.8, 0.9], [0.0, 0.2, 0.7, 0.7]], [0, 0], (8, 8)),
        [normal(1, 14, 14, 3)],
        2e-3,
    ),
    "flip_and_pad": (lambda x: tf.pad(x[:, ::-1], [[0, 0], [1, 1], [2, 2], [0, 0]]), [PAIR], 1e-3),
    "standardization": (tf.image.per_image_standardization, [uniform(1, 10, 10, 3)], 5e-3),
    "rgb_to_yuv": (tf.image.rgb_to_yuv, [uniform(1, 14, 14, 3)], 1e-3),
    "total_variation": (tf.image.total_variation, [apart(2, 10, 10, 3, gap=0.01)], 0.5),  # a sum of 1080 terms near 1
    "sobel_edges": (tf.image.sobel_edges, [uniform(1, 10, 10, 3)], 5e-3),
}
LINEAR_ALGEBRA = {
    "cholesky": (lambda a: tf.linalg.cholesky(definite(a)), [SQUARE], 1e-5),
    "inverse": (tf.linalg.inv, [HIGH], 1e-5),
    "determinant": (lambda a: tf.linalg.slogdet(a)[1], [HIGH], 1e-5),
    "solve": (tf.linalg.solve, [SQUARE, normal(10, 6, seed=1, dtype="float64")], 1e-5),
    "triangular_solve": (
        lambda a, b: tf.linalg.triangular_solve(a, b),
        [np.tril(SQUARE), normal(10, 6, seed=1, dtype="float64")],
        1e-5,
    ),
    "eigenvalues": (lambda a: tf.linalg.eigvalsh(definite(a)), [SQUARE], 1e-4),  # third derivatives over their gaps
    "singular_values": (lambda a: tf.linalg.svd(a, compute_uv=False), [normal(12, 9, dtype="float64")], 1e-4),
    "norm": (lambda a: tf.norm(a, axis=1), [normal(40, 12, dtype="float64")], 1e-5),
}
CHECKS = {**CONVOLUTIONS, **POOLS, **DENSE, **ACTIVATIONS, **IMAGES, **LINEAR_ALGEBRA}


def check(name):
    """One check, as users write it."""
    f, x, tolerance = CHECKS[name]
    theoretical, numerical = tf.test.compute_gradient(f, x)
    for exact, approximate in zip(theoretical, numerical, strict=True):
        np.testing.assert_allclose(exact, approximate, rtol=0, atol=tolerance)
        assert np.abs(exact).max() > 10 * tolerance or name == "total_variation"


@pytest.mark.parametrize("name", CHECKS)
def test_gradient(name):
    assert tf.test.compute_gradient is ours.compute_gradient
    check(name)
