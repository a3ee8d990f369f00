"""Functions that hold a gradient inside: penalties, equations, gradients of gradients, implicit layers; and faults."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 3))


def layers(sizes, seed=0):
    rng = np.random.default_rng(seed)
    pairs = list(itertools.pairwise(sizes))
    return {f"{kind}{i}": rng.normal(size=shape) for i, (a, b) in enumerate(pairs) for kind, shape in _shapes(a, b)}


def _shapes(a, b):
    return ("w", (a, b)), ("b", (b,))


def net(p, x, act):
    depth = len(p) // 2
    for i in range(depth):
        x = x @ p[f"w{i}"] + p[f"b{i}"]
        x = act(x) if i + 1 < depth else x
    return x


@tf.custom_gradient
def half_right(x):
    """tanh, whose gradient is right and whose gradient's gradient is not."""
    y = tf.tanh(x)
    return y, lambda dy: dy * (1 - y * tf.stop_gradient(y))


def penalty(act):
    """WGAN-GP: how far the norm of the critic's gradient is from one."""

    def f(p):
        x = tf.constant(X, p["w0"].dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = net(p, x, act)
        norms = tf.norm(tape.gradient(score, x), axis=1)
        return tf.reduce_mean(score) + 10 * tf.reduce_mean((norms - 1) ** 2)

    return f


def equation(act):
    """PINN: u'' + u = sin 2t at some t, and u(0) = 1."""

    def f(p):
        t = tf.constant(np.linspace(0, 2, 7)[:, None], p["w0"].dtype)
        with tf.GradientTape() as outer:
            outer.watch(t)
            with tf.GradientTape() as inner:
                inner.watch(t)
                u = net(p, t, act)
            first = inner.gradient(u, t)
        residual = outer.gradient(first, t) + u - tf.sin(2 * t)
        return tf.reduce_mean(residual**2) + tf.reduce_sum((net(p, tf.zeros_like(t[:1]), act) - 1) ** 2)

    return f


def double_backprop(act):
    """A loss, and the size of its gradient by the input."""

    def f(p):
        x = tf.constant(X, p["w0"].dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(
                tf.nn.softmax_cross_entropy_with_logits(tf.one_hot([0, 1, 1, 0, 1], 2), net(p, x, act))
            )
        return loss + 0.1 * tf.reduce_sum(tape.gradient(loss, x) ** 2)

    return f


INSIDE = {
    "a gradient penalty": (penalty, layers([3, 6, 4, 1])),
    "an equation": (equation, layers([1, 6, 4, 1])),
    "double backprop": (double_backprop, layers([3, 6, 2])),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", INSIDE)
def test_right_ones_pass_in_float64_by_the_tape(name, dtype):
    make, p = INSIDE[name]
    p = {k: v.astype(dtype) for k, v in p.items()}
    report = fdfast.gradcheck(make(tf.tanh), p)
    assert report.verdict == "pass"
    assert (report.engine, report.dtype) == ("tape", "float64")
    assert report.directed.subtracted == []
    assert report.directed.tau < 1e-8  # of one element's share: nothing cancels


@pytest.mark.parametrize("name", INSIDE)
def test_a_second_order_that_is_wrong_shows_in_their_first(name):
    make, p = INSIDE[name]
    report = fdfast.gradcheck(make(half_right), p)
    assert report.verdict == "fail"
    # Of a network without a gradient inside it does not show.
    plain = fdfast.gradcheck(lambda p: tf.reduce_sum(net(p, tf.constant(X[:, : p["w0"].shape[0]]), half_right)), p)
    assert plain.verdict == "pass"


def test_a_critic_with_leaky_units_is_right_beside_its_kinks():
    make, p = INSIDE["a gradient penalty"]
    assert fdfast.gradcheck(make(tf.nn.leaky_relu), p).verdict == "pass"


@pytest.mark.parametrize("order", [1, 2])
def test_a_penalty_has_a_second_order_of_its_own(order):
    make, p = INSIDE["a gradient penalty"]
    report = fdfast.gradcheck(make(tf.tanh), p, order=order)
    assert report.verdicts == ["pass"] * order


W = 0.4 * RNG.normal(size=(3, 3))


def implicit(back):
    """z = tanh(z W + x), by iteration; the gradient by the equation itself, through a matrix that `back` makes."""

    @tf.custom_gradient
    def solve(x, w):
        z = tf.while_loop(lambda i, z: i < 60, lambda i, z: (i + 1, tf.tanh(z @ w + x)), (0, tf.zeros_like(x)))[1]

        def grad(dz):
            slope = 1 - z**2
            # Row by row: v = dz + (v slope) W', v the gradient for tanh's argument over the slope.
            matrix = tf.eye(3, dtype=z.dtype) - slope[:, None, :] * back(w)
            v = tf.linalg.solve(tf.linalg.matrix_transpose(matrix), dz[..., None], adjoint=True)[..., 0] * slope
            return v, tf.linalg.matrix_transpose(z) @ v

        return z, grad

    return lambda x: tf.reduce_sum(tf.sin(solve(x["x"], x["w"])))


def test_an_implicit_layer():
    x = {"x": X, "w": W}
    # z solves to rounding after 60 turns of a map that shrinks.
    assert fdfast.gradcheck(implicit(tf.identity), x, rtol=1e-6).verdict == "pass"
    assert fdfast.gradcheck(implicit(tf.transpose), x, rtol=1e-6).verdict == "fail"


def test_a_model_inside():
    keras.utils.set_random_seed(0)
    critic = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(3, 3, activation="swish", name="conv"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )

    def f(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            score = critic(tf.cast(x, tf.float32)[None])
        return tf.reduce_sum(tape.gradient(score, x) ** 2)

    report = fdfast.gradcheck(f, RNG.normal(size=(6, 6, 1)).astype("float32"), check="directions")
    assert report.verdict == "pass"
    assert report.directed.subtracted == []
