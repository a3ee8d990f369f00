"""Every kind of operation that the kernels know: gradients by windows against float64 autodiff; nothing is left."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.functions import flat_callable, recorded
from fdfast.tape import STEP, Point
from fdfast.windows import NotLowered, lower, slopes_at, windows_at
from fdfast.windows.program import HANDLERS

RNG = np.random.default_rng(0)
X = RNG.uniform(0.1, 1.0, (6, 5, 4))
SIGNED = X - 0.53
VOLUME = RNG.uniform(0.1, 1.0, (4, 5, 5, 4))
nn, raw = tf.nn, tf.raw_ops


def constant(*shape: int, seed: int = 0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(size=shape))


KERNEL, ROW, WIDE = constant(3, 2, 4, 5), constant(4), constant(120, 3)
DEEP, BAND, ONES = constant(2, 3, 3, 4, 3), constant(2, 2, 2, 3, 2), [1] * 5
FROM_CELLS = constant(4, 6)
MAP, GROUPS = [1, 6, 5, 4], [1, 6, 5, 2, 2]


def normalised(x):
    return nn.batch_normalization(x, ROW, tf.exp(ROW), ROW, 1 - ROW, 1e-3)


def grouped(x, axes):
    """Normalised over some axes, as Keras does it."""
    mean, variance = nn.moments(x, axes, keepdims=True)
    factor = tf.math.rsqrt(variance + 1e-3) * tf.reshape(tf.tile(ROW, [x.shape[-1]])[: x.shape[-1]], [-1])
    return x * factor + (1.0 - mean * factor)


RESIZED = {
    "bilinear": (raw.ResizeBilinear, [12, 10], {"half_pixel_centers": True}),
    "bilinear, corners": (raw.ResizeBilinear, [4, 11], {"align_corners": True}),
    "bicubic": (raw.ResizeBicubic, [9, 4], {"half_pixel_centers": True}),
}


def resized(x, kernel, size, how, exact=False):
    """By TensorFlow's kernel, which answers in float32; or by matrices of its weights, in float64."""
    if not exact:
        return kernel(images=x, size=size, **how)
    unit = (tf.eye(n, dtype=tf.float32)[None, :, None] for n in x.shape[1:3])
    along = (kernel(images=one, size=[n, 1], **how)[0, :, 0] for one, n in zip(unit, size, strict=True))
    rows, columns = (tf.cast(one, x.dtype) for one in along)
    return tf.einsum("yh,bhwc,xw->byxc", rows, x, columns)


POOLED = {
    "largest of a volume": (nn.max_pool3d, [2, 1, 3], [2, 2, 1], "VALID"),
    "largest of a volume, same": (nn.max_pool3d, [3, 2, 1], [1, 2, 2], "SAME"),
    "means of windows of a volume": (nn.avg_pool3d, 3, 2, "SAME"),
}


def pooled(x, kernel, size, strides, padding, exact=False):
    """By TensorFlow's kernel, which there is in float32 alone; or window by window."""
    if not exact:
        return tf.cast(kernel(tf.cast(x, tf.float32), size, strides, padding), x.dtype)
    sizes, steps = ([n] * 3 if isinstance(n, int) else n for n in (size, strides))
    cells = []
    for n, k, s in zip(x.shape[1:4], sizes, steps, strict=True):
        count = -(-n // s) if padding == "SAME" else (n - k) // s + 1
        before = max((count - 1) * s + k - n, 0) // 2 if padding == "SAME" else 0
        cells.append([slice(max(o * s - before, 0), o * s - before + k) for o in range(count)])
    of = tf.reduce_max if kernel is nn.max_pool3d else tf.reduce_mean
    deep = [[[of(x[:, a, b, c], [1, 2, 3]) for c in cells[2]] for b in cells[1]] for a in cells[0]]
    return tf.transpose(tf.stack([tf.stack([tf.stack(row) for row in plane]) for plane in deep]), [3, 0, 1, 2, 4])


#: Name -> (function of a map (1, 6, 5, 4), x).
FUNCTIONS = {
    "convolution": (lambda x: nn.conv2d(x, KERNEL, [2, 1], "SAME"), X),
    "convolution, explicit": (lambda x: nn.conv2d(x, KERNEL, 1, [[0, 0], [1, 2], [0, 1], [0, 0]]), X),
    "convolution, dilated": (lambda x: nn.convolution(x, KERNEL, 1, "VALID", dilations=[2, 1]), X),
    "convolution, dilated, same": (lambda x: nn.convolution(x, KERNEL, 1, "SAME", dilations=[2, 3]), X),
    "convolution of rows, dilated": (
        lambda x: nn.convolution(
            tf.pad(tf.reshape(x, [1, 30, 4]), [[0, 0], [4, 0], [0, 0]]), KERNEL[:, 0], 1, dilations=2
        ),
        X,
    ),
    "depthwise, dilated": (lambda x: nn.depthwise_conv2d(x, KERNEL[..., :1], [1] * 4, "SAME", dilations=[2, 2]), X),
    "depthwise, several, dilated": (
        lambda x: nn.depthwise_conv2d(x, KERNEL[..., :3], [1] * 4, "SAME", dilations=[2, 2]),
        X,
    ),
    "depthwise": (lambda x: nn.depthwise_conv2d(x, KERNEL[..., :1], [1, 1, 1, 1], "SAME"), X),
    "depthwise, several": (lambda x: nn.depthwise_conv2d(x, KERNEL[..., :3], [1, 2, 2, 1], "VALID"), X),
    "transposed": (lambda x: nn.conv2d_transpose(x, constant(3, 3, 2, 4), [1, 12, 15, 2], [2, 3], "SAME"), X),
    "transposed, valid": (
        lambda x: nn.conv2d_transpose(x, constant(3, 2, 2, 4), [1, 14, 11, 2], 2, "VALID")[:, :13, :10],
        X,
    ),
    "transposed, stride 1": (lambda x: nn.conv2d_transpose(x, constant(3, 3, 2, 4), [1, 6, 5, 2], 1, "SAME"), X),
    "matrix on cells": (lambda x: tf.tensordot(x, FROM_CELLS, 1), X),
    "matrix on all": (lambda x: tf.reshape(x, [1, -1]) @ WIDE, X),
    "matrix transposed": (lambda x: tf.matmul(tf.reshape(x, [1, -1]), tf.transpose(WIDE), transpose_b=True), X),
    "batch norm": (lambda x: normalised(nn.conv2d(x, KERNEL[..., :4], 1, "SAME")) + normalised(x), X),
    "pools": (lambda x: nn.max_pool2d(x, 2, 2, "SAME") + nn.avg_pool2d(x, 2, 2, "SAME"), X),
    "bias": (lambda x: nn.bias_add(-x, ROW), X),
    "sums": (lambda x: x + 2.0 * x - nn.relu(x - 0.4) + tf.add_n([x, x]), X),
    "means": (lambda x: tf.reduce_mean(x, [1, 2]) + tf.reduce_max(x, [1, 2]) + tf.reduce_sum(x, [1, 2]), X),
    "means of rows": (lambda x: tf.reduce_mean(x, 1, keepdims=True) * x, X),
    "means of channels": (lambda x: x - tf.reduce_mean(x, -1, keepdims=True), X),
    "ramps": (lambda x: nn.relu(x) + nn.relu6(9.0 * x) + nn.leaky_relu(x, 0.3) + tf.abs(x), SIGNED),
    "clipped": (lambda x: tf.clip_by_value(x, -0.2, 0.3) + tf.minimum(x, 0.1), SIGNED),
    "smooth": (lambda x: tf.sigmoid(x) + tf.tanh(x) * tf.exp(x) + nn.softplus(x) - nn.softsign(x), SIGNED),
    "units": (lambda x: nn.elu(x) + nn.selu(x) + nn.silu(x), SIGNED),
    "gelu": (lambda x: nn.gelu(x) + nn.gelu(x, approximate=False), SIGNED),
    "roots": (lambda x: tf.sqrt(x) + tf.math.rsqrt(x) + tf.math.log(x) + tf.math.reciprocal(x), X),
    "error function": (lambda x: tf.math.erf(x) - 2.0 * tf.math.erfc(x), SIGNED),
    "products": (lambda x: x * tf.sigmoid(x) * tf.reduce_mean(x, [1, 2], keepdims=True) + tf.square(x), SIGNED),
    "quotients": (lambda x: tf.sigmoid(x) / (1.0 + x) + x / (2.0 + ROW**2), X),
    "quotient by a mean": (lambda x: x / tf.reduce_mean(x, [1, 2], keepdims=True), X),
    "powers": (lambda x: x**2 + x**3 - x**4 + x**0.5 + x**-1 + x**-0.5 + x**1, X),
    "group norm": (
        lambda x: tf.reshape(grouped(tf.reshape(nn.conv2d(x, KERNEL[..., :4], 1, "SAME"), GROUPS), [1, 2, 4]), MAP),
        X,
    ),
    "instance norm": (lambda x: tf.reshape(grouped(tf.reshape(x, [*MAP, 1]), [1, 2, 4]), MAP), X),
    "norm of the whole map": (lambda x: grouped(x, [1, 2, 3]), X),
    "means of groups": (lambda x: tf.reduce_mean(tf.reshape(x, GROUPS), 3), X),
    "one number for each group": (
        lambda x: tf.reduce_sum(tf.reshape(x, GROUPS), 4, keepdims=True) * tf.reshape(ROW, [2, 2]),
        X,
    ),
    "squeeze and excite": (
        lambda x: x * tf.reshape(tf.sigmoid(tf.reduce_mean(x, [1, 2]) @ constant(4, 4)), [1, 1, 1, 4]),
        X,
    ),
    "squared difference": (lambda x: tf.math.squared_difference(x, ROW) + tf.math.squared_difference(x, tf.tanh(x)), X),
    "layer norm": (
        lambda x: (
            (x - tf.reduce_mean(x, -1, keepdims=True))
            * tf.math.rsqrt(tf.math.reduce_variance(x, -1, keepdims=True) + 1e-3)
            * ROW
            + ROW
        ),
        X,
    ),
    "softmax": (lambda x: nn.softmax(tf.reduce_mean(x, [1, 2])), X),
    "pad and cut": (lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]])[:, 2:7, 1:, 1:3], X),
    "split": (lambda x: tf.add_n(tf.split(x, 2, -1)) ** 2, X),
    "joined": (lambda x: tf.concat([x, tf.tanh(x), tf.ones_like(x)], -1), X),
    "nearest": (lambda x: tf.repeat(raw.ResizeNearestNeighbor(images=x, size=[12, 10]), 1, 1), X),
    "nearest, any size": (lambda x: raw.ResizeNearestNeighbor(images=x, size=[9, 3], half_pixel_centers=True) ** 2, X),
    **{name: (lambda x, how=how: tf.square(resized(x, *how)), X) for name, how in RESIZED.items()},
    "mirrored borders": (lambda x: tf.pad(x, [[0, 0], [2, 1], [0, 3], [0, 0]], "REFLECT") ** 2, X),
    "borders twice": (lambda x: tf.pad(x, [[0, 0], [2, 1], [0, 3], [0, 0]], "SYMMETRIC") ** 2, X),
    "flips": (lambda x: tf.reverse(x, [1]) * x + tf.reverse(x, [2, 3]) ** 2, X),
    "rolled": (lambda x: tf.roll(x, [1, 2], [1, 2]) * x + tf.roll(x, 1, 3) ** 2, X),
    "every other": (lambda x: x[:, ::2, ::-2, 1:] ** 2, X),
    "chosen": (lambda x: tf.gather(tf.gather(x, [3, 0, 3], axis=1), [2, 1, 1, 0], axis=3) ** 2, X),
    "column": (lambda x: x[:, :, 2] ** 2 + x[:, 3, 0] ** 2, X),
    "cells one by one": (lambda x: tf.stack([tf.tanh(one) for one in tf.unstack(tf.reshape(x, [30, 4]))][::2]), X),
    "cells backwards": (lambda x: tf.reverse(tf.reshape(x, [30, 4]), [0]) ** 2, X),
    "cells repeated": (lambda x: tf.tile(tf.reduce_mean(x, [1, 2])[:, None], [1, 3, 1]), X),
    "volume": (lambda x: nn.conv3d(x, constant(2, 3, 2, 4, 3), [1, 2, 1, 1, 1], "SAME"), VOLUME),
    "volume, two": (
        lambda x: nn.conv3d(nn.relu(nn.conv3d(x, DEEP, ONES, "VALID") + ROW[:3]), BAND, ONES, "SAME"),
        VOLUME,
    ),
    "means of a volume": (lambda x: tf.reduce_mean(nn.conv3d(x, DEEP, ONES, "SAME") * ROW[:3], [1, 2, 3]) ** 2, VOLUME),
    **{name: (lambda x, how=how: pooled(x, *how) ** 2, VOLUME) for name, how in POOLED.items()},
    "sums of sums": (lambda x: tf.reduce_sum(x**2) + tf.reduce_sum(tf.tanh(x)) * tf.reduce_mean(x), X),
    "views": (lambda x: tf.transpose(tf.reshape(tf.identity(x), [1, 1, 30, 4]), [1, 0, 2, 3])[0] @ FROM_CELLS, X),
}


def scalar(name, exact=False):
    make, x = FUNCTIONS[name]
    if exact and name in RESIZED:
        make = lambda x: tf.square(resized(x, *RESIZED[name], exact=True))  # noqa: E731
    elif exact and name in POOLED:
        make = lambda x: tf.square(pooled(x, *POOLED[name], exact=True))  # noqa: E731

    def f(x):
        found = make(x[None])
        weights = tf.cast(constant(*found.shape, seed=1), found.dtype)
        return tf.reduce_sum(weights * tf.cast(found, weights.dtype))

    return f, x


def autodiff(f, x):
    t = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(t)
        value = f(t)
    return tape.gradient(value, t).numpy()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_by_windows_are_those_of_float64_autodiff(name):
    f, x = scalar(name)
    exact = autodiff(*scalar(name, exact=True))
    # Rounding of sums of some hundred terms.
    limit = 1e-14 * np.abs(exact).sum()
    np.testing.assert_allclose(fdfast.gradient(f, x, engine="windows"), exact, rtol=0, atol=limit)
    np.testing.assert_allclose(fdfast.gradient(f, x, engine="tape"), exact, rtol=0, atol=limit)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_is_left_to_whole_maps(name):
    f, x = scalar(name)
    flat = flat_callable(f, x, {})
    tape = recorded(flat).point(flat.points()).tape
    found = lower(tape, tape.arguments[0], tape.outputs[0])
    # What the sum at the end, by a map of weights, makes of it is not in question.
    assert {one.split(":")[0] for one in found.left} <= {"Mul"}
    assert len(found.nodes) > 1


def test_a_wrong_kernel_is_found_at_the_first_use(monkeypatch):
    known = HANDLERS["Tanh"]

    def wrong(m, entry, moving):
        known(m, entry, moving)
        m.nodes[-1].options["function"] = "sigmoid"

    monkeypatch.setitem(HANDLERS, "Tanh", wrong)
    flat = flat_callable(lambda x: tf.reduce_sum(tf.tanh(x)), X, {})
    whole = recorded(flat)
    assert windows_at(whole, whole.point(flat.points())) is None
    assert "a bug" in whole.windows
    with pytest.raises(ValueError, match="a bug"):
        fdfast.gradient(lambda x: tf.reduce_sum(tf.tanh(x)), X, engine="windows")


@pytest.mark.parametrize(
    ("f", "looked"),
    [
        (lambda x: tf.reduce_sum(tf.tanh(x) ** 2), 0),
        (lambda x: tf.reduce_sum(tf.nn.relu(x)), 0),  # a difference is exact across a kink, too
        (lambda x: 1e12 + tf.reduce_sum(tf.tanh(x)), 1),  # two values of f have no digits that tell
        (lambda x: tf.reduce_sum(tf.sqrt(x - (X.min() - 1e-3))), 1),  # no value so far from x
    ],
    ids=["smooth", "kinked", "large", "at an edge"],
)
def test_new_kernels_are_held_against_subtraction_or_else_whole_maps(f, looked, monkeypatch):
    flat = flat_callable(f, X, {})
    whole, runs, slopes = recorded(flat), [], Point.slopes
    monkeypatch.setattr(Point, "slopes", lambda *given: runs.append(given) or slopes(*given))
    assert windows_at(whole, whole.point(flat.points())) is not None
    assert len(runs) == looked


REFUSED = {
    "an unknown operation": (lambda x: tf.reduce_sum(tf.sin(x)), "Sin: there is no compiled kernel"),
    "five axes": (lambda x: tf.reduce_sum(nn.relu(tf.reshape(x, (3, 2, 5, 2, 2)))), "are no maps"),
    "an order of axes": (lambda x: tf.reduce_sum(tf.transpose(x) ** 2), "it changes the order"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_on_windows_says_why_and_its_remedy_works(name):
    f, why = REFUSED[name]
    x = X.reshape(3, 2, 5, 2, 2) if name == "five axes" else X
    with pytest.raises(ValueError, match=rf"({why}).*engine='tape'"):
        fdfast.gradient(f, x, engine="windows")
    np.testing.assert_allclose(fdfast.gradient(f, x, engine="tape"), autodiff(f, x), rtol=1e-12)


def test_notlowered_is_what_lowering_raises():
    flat = flat_callable(lambda x: tf.reduce_sum(tf.sin(x)), X, {})
    tape = recorded(flat).point(flat.points()).tape
    found = lower(tape, tape.arguments[0], tape.outputs[0])
    assert found.left == ["Sin: there is no compiled kernel for it"]
    assert issubclass(NotLowered, Exception)


def unrolled(x):
    """Long: a loop, some of whose units tie where x is zero."""
    state = tf.zeros(3, x.dtype)
    for i in range(40):
        state = tf.tanh(state * 0.9 + x[i % 4]) + tf.nn.relu(x[(i + 1) % 4]) * 0.1 + tf.sigmoid(state)
    return tf.reduce_sum(state**2)


@pytest.mark.parametrize("tied", [False, True])
def test_directions_of_a_long_function_go_through_the_kernels_where_nothing_ties(tied, monkeypatch):
    x = RNG.normal(size=(4, 3))
    x[1, 2] = 0.0 if tied else x[1, 2]
    whole = recorded(flat_callable(unrolled, x, {}))
    v, steps = RNG.normal(size=(3, 4, 3)), (STEP, -0.75 * STEP)
    exact = whole.point([x]).slopes({0: v}, steps)
    assert len(whole.latest.entries) > 400
    first = slopes_at(whole.point([x]), {0: v}, steps)
    monkeypatch.setattr(Point, "slopes", lambda *_: exact if tied else pytest.fail("on whole maps"))
    found = slopes_at(whole.point([x]), {0: v}, steps)
    # Some units in the last place of a sum of hundreds.
    for one in (first, found):
        np.testing.assert_allclose(one.value, exact.value, rtol=1e-13)
        assert bool(one.ties) == tied
