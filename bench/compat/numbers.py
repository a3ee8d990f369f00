"""Checks of arrays, arithmetic and control flow."""

from __future__ import annotations

import tensorflow as tf

from bench.compat.cases import apart, normal, of_family, positive


@tf.custom_gradient
def clipped(x):
    return tf.identity(x), lambda upstream: tf.clip_by_norm(upstream, 10.0)


def branches(x):
    return tf.cond(tf.reduce_sum(x) > 100.0, lambda: x * 2, lambda: tf.sin(x))


def powers(x):
    return tf.while_loop(lambda i, _: i < 4, lambda i, y: (i + 1, y * x), (0, x))[1]


def recurrent(x, w):
    return tf.scan(lambda h, z: tf.tanh(h @ w + z), x, tf.zeros([2, 3]))


def through_arrays(x):
    found = tf.TensorArray(tf.float32, 4)
    for i in range(4):
        found = found.write(i, x[i] ** 2 + (found.read(i - 1) if i else 0.0))
    return found.stack()


@tf.function
def compiled(x):
    return tf.reduce_sum(tf.sin(x) * tf.exp(-x), 0)


@tf.function
def compiled_loop(x):
    y = x
    for _ in tf.range(3):
        y = tf.tanh(y) + x
    return y


SEGMENTS = [0, 0, 1, 3, 3]
ARRAY = of_family(
    "array",
    ("identity", lambda x: x + 0.0, normal(2, 3)),
    ("reshape", lambda x: tf.reshape(x, [6, -1]), normal(4, 6, 5)),
    ("transpose", lambda x: tf.transpose(x, [1, 0, 2]), normal(6, 5, 4)),
    ("concat", lambda a, b: tf.concat([a, b], 1), normal(8, 10), normal(8, 6)),
    ("stack", lambda a, b: tf.stack([a, b], 1), normal(3, 4), normal(3, 4)),
    ("unstack", lambda x: tf.unstack(x)[1], normal(3, 4)),
    ("slice", lambda x: tf.slice(x, [1, 0], [2, 3]), normal(4, 4)),
    ("strided slice", lambda x: x[::-2, 1:, tf.newaxis], normal(5, 6)),
    ("pad", lambda x: tf.pad(x, [[1, 2], [0, 3]]), normal(8, 12)),
    ("mirror pad", lambda x: tf.pad(x, [[1, 1], [2, 2]], "REFLECT"), normal(3, 4)),
    ("tile", lambda x: tf.tile(x, [2, 3]), normal(6, 10)),
    ("gather", lambda x: tf.gather(x, [3, 0, 0, 1]), normal(20, 8)),
    ("gather in batches", lambda x: tf.gather(x, [[0, 2], [1, 1]], batch_dims=1), normal(2, 3, 4)),
    ("gather_nd", lambda x: tf.gather_nd(x, [[0, 1], [2, 2]]), normal(3, 3, 2)),
    ("scatter_nd", lambda x: tf.scatter_nd([[0], [4], [1]], x, [6, 5]), normal(3, 5)),
    ("scatter add", lambda x, u: tf.tensor_scatter_nd_add(x, [[0], [3], [0]], u), normal(5, 3), normal(3, 3)),
    ("scatter update", lambda x, u: tf.tensor_scatter_nd_update(x, [[0], [3]], u), normal(5, 3), normal(2, 3)),
    ("broadcast", lambda x: tf.broadcast_to(x, [4, 3, 5]), normal(3, 1)),
    ("reverse sequence", lambda x: tf.reverse_sequence(x, [2, 4], seq_axis=1), normal(2, 5, 3)),
    ("where", lambda a, b: tf.where([[True], [False], [True]], a, b), normal(3, 4), normal(3, 4)),
    ("space to batch", lambda x: tf.space_to_batch(x, [2, 2], [[0, 0], [0, 0]]), normal(1, 4, 4, 2)),
    ("depth to space", lambda x: tf.nn.depth_to_space(x, 2), normal(1, 2, 3, 8)),
    ("roll", lambda x: tf.roll(x, [1, -2], [0, 1]), normal(10, 16)),
    ("repeat", lambda x: tf.repeat(x, [2, 1, 3], 0), normal(3, 6)),
    ("boolean mask", lambda x: tf.boolean_mask(x, [True, False, True, True]), normal(4, 5)),
    ("dynamic stitch", lambda a, b: tf.dynamic_stitch([[0, 2], [1, 3]], [a, b]), normal(2, 4), normal(2, 4)),
    ("dynamic partition", lambda x: tf.dynamic_partition(x, [0, 1, 0, 1, 1], 2)[1], normal(5, 4)),
)
MATH = of_family(
    "math",
    ("sin of a number", tf.sin, positive()),
    ("sin", tf.sin, normal(8)),
    ("tanh", tf.tanh, normal(10, 20)),
    ("exp in float64", tf.exp, normal(4, 6, dtype="float64")),
    ("tanh in float16", tf.tanh, normal(3, 4, dtype="float16")),
    ("quotient", lambda a, b: a / b, normal(10, 12), positive(12)),
    ("power", tf.pow, positive(8, 12), positive(8, 1)),
    ("sum", lambda x: tf.reduce_sum(x, 1), normal(6, 8, 2)),
    ("mean", tf.reduce_mean, normal(10, 10)),
    ("product", lambda x: tf.reduce_prod(x, 1), positive(4, 5)),
    ("maximum", lambda x: tf.reduce_max(x, 1), apart(6, 8)),
    ("logsumexp", lambda x: tf.reduce_logsumexp(x, -1), normal(10, 12)),
    ("cumsum", lambda x: tf.cumsum(x, 1, exclusive=True), normal(8, 20)),
    ("cumprod", lambda x: tf.math.cumprod(x, 1), positive(4, 6)),
    ("segment sum", lambda x: tf.math.segment_sum(x, SEGMENTS), normal(5, 4)),
    ("segment mean", lambda x: tf.math.segment_mean(x, SEGMENTS), normal(5, 4)),
    ("unsorted segment maximum", lambda x: tf.math.unsorted_segment_max(x, [1, 0, 1, 3, 0], 4), apart(5, 4)),
    ("complex product", lambda a, b: a * tf.math.conj(b), *[normal(6, dtype="complex64")] * 2),
    ("complex absolute value", tf.abs, normal(12, dtype="complex128")),
    ("digamma", tf.math.digamma, positive(12)),
    ("igamma", lambda x: tf.math.igamma(1.5, x), positive(8)),
    ("betainc", lambda x: tf.math.betainc(tf.fill([5], 2.0), tf.fill([5], 3.0), x), positive(5)),
    ("xlogy", tf.math.xlogy, normal(8, 10), positive(8, 10)),
    ("clip by norm", lambda x: tf.clip_by_norm(x, 1.5), normal(4, 5)),
    ("normalised", lambda x: tf.math.l2_normalize(x, 1), normal(10, 15)),
    ("sorted", lambda x: tf.sort(x, 1), apart(8, 15)),
    ("largest", lambda x: tf.math.top_k(x, 3)[0], apart(5, 8)),
    ("squared difference", tf.math.squared_difference, normal(6, 5), normal(5)),
    (
        "sparse product",
        lambda x: tf.sparse.sparse_dense_matmul(tf.SparseTensor([[0, 1], [2, 3], [4, 0]], [1.0, -2.0, 3.0], [5, 4]), x),
        normal(4, 5),
    ),
    (
        "sparse values",
        lambda x: tf.sparse.reduce_sum(tf.SparseTensor([[0, 1], [1, 0], [1, 2]], x, [2, 3]), 1),
        normal(3),
    ),
    (
        "sparse to dense",
        lambda x: tf.sparse.to_dense(tf.SparseTensor([[0, 1], [1, 0], [1, 2]], x, [2, 3])) ** 2,
        normal(3),
    ),
    ("ragged sum", lambda x: tf.reduce_sum(tf.RaggedTensor.from_row_lengths(x, [2, 0, 3, 4]) ** 2, 1), normal(9)),
)
CONTROL = of_family(
    "control flow",
    ("cond", branches, normal(3, 4)),
    ("while", powers, normal(8, 15)),
    ("map_fn", lambda x: tf.map_fn(lambda row: tf.sin(row) * 2, x), normal(6, 25)),
    ("scan", recurrent, normal(20, 2, 3), normal(3, 3)),
    ("foldl", lambda x: tf.foldl(lambda a, b: a * 0.5 + tf.sin(b), x), normal(5, 4)),
    ("switch_case", lambda x: tf.switch_case(tf.constant(1), [lambda: x, lambda: x**3, lambda: -x]), normal(3, 4)),
    ("TensorArray", through_arrays, normal(4, 5)),
    ("tf.function", compiled, normal(10, 15)),
    ("tf.function with a loop", compiled_loop, normal(5, 6)),
    ("custom gradient", clipped, normal(4, 4)),
    ("recomputed", tf.recompute_grad(lambda x: tf.exp(tf.sin(x)) * x), normal(8, 15)),
)
CASES = [*ARRAY, *MATH, *CONTROL]
