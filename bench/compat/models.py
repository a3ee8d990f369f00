"""Checks of linear algebra, networks, images and signals."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from bench.compat.cases import apart, normal, of_family, positive, square


def definite(a):
    return tf.matmul(a, a, transpose_b=True) + tf.eye(tf.shape(a)[-1], dtype=a.dtype)


def lstm_step(x, h, c, w):
    i, j, f, o = tf.split(tf.concat([x, h], 1) @ w, 4, 1)
    c = tf.sigmoid(f + 1.0) * c + tf.sigmoid(i) * tf.tanh(j)
    return tf.tanh(c) * tf.sigmoid(o)


def ctc(logits):
    return tf.nn.ctc_loss([[1, 2], [3, 1]], logits, [2, 2], [5, 4], logits_time_major=True, blank_index=0)


def normalised(x, scale, offset):
    return tf.nn.batch_normalization(x, *tf.nn.moments(x, [0, 1, 2]), offset, scale, 1e-3)


BOXES = [[0.1, 0.1, 0.8, 0.9], [0.0, 0.2, 0.7, 0.7]]
ONES4 = [1, 1, 1, 1]
LINALG = of_family(
    "linalg",
    ("matmul", tf.matmul, normal(8, 12), normal(12, 8)),
    ("matmul in batches", lambda a, b: tf.matmul(a, b, adjoint_b=True), normal(3, 2, 4), normal(3, 5, 4)),
    ("einsum", lambda a, b: tf.einsum("bij,bjk->bik", a, b), normal(3, 4, 6), normal(3, 6, 5)),
    ("einsum, repeated label in", lambda a: tf.einsum("bii->bi", a), normal(3, 4, 4)),
    ("einsum, traces", lambda a, b: tf.einsum("...ii,...j->...j", a, b), normal(3, 4, 4), normal(3, 2)),
    ("tensordot", lambda a, b: tf.tensordot(a, b, [[1, 2], [0, 1]]), normal(3, 2, 4), normal(2, 4, 3)),
    ("cholesky", lambda a: tf.linalg.cholesky(definite(a)), square(8, 8)),
    ("inverse", tf.linalg.inv, square(4, 5, 5)),
    ("determinant", tf.linalg.det, square(3, 5, 5)),
    ("slogdet", lambda a: tf.linalg.slogdet(a)[1], square(5, 5)),
    ("solve", tf.linalg.solve, square(10, 10), normal(10, 6, dtype="float64")),
    ("triangular solve", tf.linalg.triangular_solve, square(4, 4), normal(4, 2, dtype="float64")),
    (
        "tridiagonal solve",
        tf.linalg.tridiagonal_solve,
        np.add(positive(3, 5), [[0], [3], [0]]),
        normal(5, 2, dtype="float64"),
    ),
    (
        "least squares",
        lambda a, b: tf.linalg.lstsq(a, b, fast=True),
        normal(5, 3, dtype="float64"),
        normal(5, 2, dtype="float64"),
    ),
    ("qr", lambda a: tf.linalg.qr(a)[1], square(4, 4)),
    ("svd", lambda a: tf.linalg.svd(a, compute_uv=False), normal(5, 3, dtype="float64")),
    ("eigh", lambda a: tf.linalg.eigvalsh(definite(a)), square(4, 4)),
    ("eig", lambda a: tf.math.real(tf.linalg.eigvals(definite(a))), square(4, 4)),
    ("expm", tf.linalg.expm, normal(3, 3, dtype="float64")),
    ("diagonal", lambda x: tf.linalg.diag(x, k=1), normal(3, 4)),
    ("set diagonal", tf.linalg.set_diag, normal(2, 4, 4), normal(2, 4)),
    ("trace", tf.linalg.trace, normal(4, 5, 5)),
    ("cross product", tf.linalg.cross, normal(4, 3), normal(4, 3)),
    ("norm", lambda x: tf.norm(x, axis=1), normal(6, 8)),
)
NN = of_family(
    "nn",
    ("relu", tf.nn.relu, apart(10, 16)),
    ("elu", tf.nn.elu, apart(4, 5)),
    ("gelu", tf.nn.gelu, normal(3, 5)),
    ("softplus", tf.nn.softplus, normal(9)),
    ("softmax", tf.nn.softmax, normal(10, 15)),
    ("log softmax", tf.nn.log_softmax, normal(4, 6)),
    ("cross entropy", lambda z: tf.nn.softmax_cross_entropy_with_logits([[0.1, 0.6, 0.3]] * 4, z), normal(4, 3)),
    (
        "sparse cross entropy",
        lambda z: tf.nn.sparse_softmax_cross_entropy_with_logits([0, 3, 1, 2] * 3, z),
        normal(12, 10),
    ),
    ("sigmoid cross entropy", lambda z: tf.nn.sigmoid_cross_entropy_with_logits([[0.0, 1.0]] * 5, z), normal(5, 2)),
    ("l2 loss", tf.nn.l2_loss, normal(5, 6)),
    ("bias", tf.nn.bias_add, normal(2, 3, 3, 4), normal(4)),
    ("dense layer", lambda x, w, b: tf.nn.relu(x @ w + b), apart(8, 10), normal(10, 8), normal(8)),
    ("conv1d", lambda x, w: tf.nn.conv1d(x, w, 1, "SAME"), normal(2, 16, 3), normal(3, 3, 4)),
    ("conv2d", lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), normal(1, 6, 5, 3), normal(3, 3, 3, 2)),
    ("conv2d, strided", lambda x, w: tf.nn.conv2d(x, w, 2, "VALID"), normal(2, 5, 5, 2), normal(2, 2, 2, 3)),
    (
        "conv2d, dilated",
        lambda x, w: tf.nn.conv2d(x, w, 1, "VALID", dilations=2),
        normal(1, 6, 6, 2),
        normal(2, 2, 2, 2),
    ),
    (
        "conv2d transposed",
        lambda x, w: tf.nn.conv2d_transpose(x, w, (1, 6, 6, 2), 2),
        normal(1, 3, 3, 3),
        normal(2, 2, 2, 3),
    ),
    (
        "depthwise conv",
        lambda x, w: tf.nn.depthwise_conv2d(x, w, ONES4, "SAME"),
        normal(1, 4, 5, 3),
        normal(2, 2, 3, 2),
    ),
    ("conv3d", lambda x, w: tf.nn.conv3d(x, w, [1] * 5, "SAME"), normal(1, 3, 3, 3, 2), normal(2, 2, 2, 2, 2)),
    ("max pool", lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"), apart(1, 6, 6, 3)),
    ("max pool 3d", lambda x: tf.nn.max_pool3d(x, 2, 2, "VALID"), apart(1, 4, 4, 4, 1)),
    ("average pool", lambda x: tf.nn.avg_pool2d(x, 3, 1, "SAME"), normal(1, 5, 6, 2)),
    ("dilation", lambda x, w: tf.nn.dilation2d(x, w, ONES4, "SAME", "NHWC", ONES4), apart(1, 4, 4, 1), normal(2, 2, 1)),
    ("local response", lambda x: tf.nn.local_response_normalization(x, 1), normal(1, 3, 3, 4)),
    ("batch normalisation", normalised, normal(3, 5, 5, 2), positive(2), normal(2)),
    ("embedding", lambda x: tf.nn.embedding_lookup(x, [[0, 4], [1, 1]]), normal(20, 8)),
    ("LSTM step", lstm_step, normal(2, 3), normal(2, 4), normal(2, 4), normal(7, 16)),
    ("CTC loss", ctc, normal(5, 2, 4)),
)
IMAGE = of_family(
    "image",
    ("resize bilinear", lambda x: tf.image.resize(x, (9, 9)), normal(1, 7, 7, 3)),
    ("resize bicubic", lambda x: tf.raw_ops.ResizeBicubic(images=x, size=[9, 9]), normal(1, 6, 6, 3)),
    ("resize nearest", lambda x: tf.image.resize(x, (8, 6), "nearest"), normal(1, 4, 3, 3)),
    ("resize antialiased", lambda x: tf.image.resize(x, (3, 3), antialias=True), normal(1, 6, 6, 2)),
    ("crop and resize", lambda x: tf.image.crop_and_resize(x, BOXES, [0, 0], (4, 4)), normal(1, 8, 8, 3)),
    ("patches", lambda x: tf.image.extract_patches(x, [1, 2, 2, 1], [1, 2, 2, 1], ONES4, "VALID"), normal(1, 6, 6, 2)),
    ("rgb to hsv", tf.image.rgb_to_hsv, apart(7, 7, 3, gap=0.003) + 0.5),
    ("structural similarity", lambda x: tf.image.ssim(x, tf.reverse(x, [1]), 1.0, 3), positive(1, 9, 9, 2)),
    ("total variation", tf.image.total_variation, apart(1, 9, 9, 2)),
    ("Sobel edges", tf.image.sobel_edges, normal(1, 9, 9, 2)),
)
SIGNAL = of_family(
    "signal",
    ("fft", tf.signal.fft, normal(5, 16, dtype="complex64")),
    ("fft2d", tf.signal.fft2d, normal(4, 6, dtype="complex128")),
    ("rfft", tf.signal.rfft, normal(6, 24)),
    ("irfft", tf.signal.irfft, normal(2, 9, dtype="complex64")),
    ("stft", lambda x: tf.abs(tf.signal.stft(x, 16, 8)), normal(2, 64)),
    ("frame", lambda x: tf.signal.frame(x, 6, 3), normal(4, 36)),
    ("overlap and add", lambda x: tf.signal.overlap_and_add(x, 3), normal(4, 5, 6)),
    ("dct", tf.signal.dct, normal(8, 20)),
)
CASES = [*LINALG, *NN, *IMAGE, *SIGNAL]
