"""Variables that belong to no layer, and that f reads or writes: seen, named and put back as weights are."""

from __future__ import annotations

import functools
import threading
import time
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast

X = np.array([0.5, 1.0, 2.0])


class Holder:
    def __init__(self, v):
        self.inside = types.SimpleNamespace(v=v)

    def __call__(self, x):
        return write(self.inside.v, x)

    def method(self, x):
        return write(self.inside.v, x)


class Module(tf.Module):
    def __init__(self, v):
        super().__init__()
        self.v = v


def write(v, x):
    v.assign_add(1.0)
    return tf.reduce_sum(x**2) * (1 + 0 * tf.cast(v, x.dtype))


def in_a_module(v):
    module = Module(v)
    return lambda x: write(module.v, x)


#: name: variable -> function that adds 1 to it at every call
WRITERS = {
    "closure": lambda v: lambda x: write(v, x),
    "list": lambda v: (lambda held: lambda x: write(held[0], x))([v]),
    "partial": lambda v: functools.partial(write, v),
    "callable object": Holder,
    "method": lambda v: Holder(v).method,
    "attribute of an object": lambda v: (lambda held: lambda x: write(held.v, x))(types.SimpleNamespace(v=v)),
    "tf.Module": in_a_module,
    "tf.function": lambda v: tf.function(lambda x: write(v, x)),
}
CALLS = {
    "gradcheck": lambda f: fdfast.gradcheck(f, X),
    "gradcheck, batch": lambda f: fdfast.gradcheck(f, X, check="every", engine="batch"),
    "gradcheck, directions": lambda f: fdfast.gradcheck(f, X, check="directions"),
    "gradient": lambda f: fdfast.gradient(f, X),
    "gradient, tape": lambda f: fdfast.gradient(f, X, engine="tape"),
    "estimate": lambda f: fdfast.estimate(f, X),
    "directional": lambda f: fdfast.directional(f, X, X),
    "hvp": lambda f: fdfast.hvp(f, X, X),
}


@pytest.mark.parametrize("made", [tf.Variable, keras.Variable], ids=["tf", "keras"])
@pytest.mark.parametrize("name", WRITERS)
def test_what_f_writes_is_named_and_put_back(name, made):
    v = made(3.0)
    f = WRITERS[name](v)
    f(tf.constant(X))  # a tf.function makes nothing new after its first call
    before = float(v.numpy())
    with pytest.raises(ValueError, match=r"evaluating f changes its state: .* differ after one forward pass"):
        fdfast.gradcheck(f, X)
    assert float(v.numpy()) == before


@pytest.mark.parametrize("call", CALLS)
def test_every_call_puts_it_back(call):
    v = tf.Variable(3.0, name="counter")
    with pytest.raises(ValueError, match="evaluating f changes its state: counter differ"):
        CALLS[call](WRITERS["closure"](v))
    assert float(v.numpy()) == 3.0


def test_the_jacobian_puts_it_back():
    v = tf.Variable(3.0)
    np.testing.assert_allclose(fdfast.jacobian(WRITERS["closure"](v), X), 2 * X, rtol=1e-9)
    assert float(v.numpy()) == 3.0


@pytest.mark.parametrize("made", [tf.random.Generator.from_seed, keras.random.SeedGenerator], ids=["tf", "keras"])
def test_generators_are_put_back(made):
    generator = made(1)
    before = generator.state.numpy()

    def f(x):
        generator.state.assign(generator.state + tf.ones_like(generator.state))
        return tf.reduce_sum(x)

    with pytest.raises(ValueError, match="changes its state"):
        fdfast.gradcheck(f, X)
    np.testing.assert_array_equal(generator.state.numpy(), before)


@pytest.mark.parametrize("call", ["gradcheck", "gradient", "gradient, tape", "estimate", "directional"])
def test_what_changes_between_calls_is_read_anew(call):
    v = tf.Variable(1.0, dtype=tf.float64)
    f = lambda x: v * tf.reduce_sum(x**2)  # noqa: E731
    for factor in (1.0, 3.0, -2.0):
        v.assign(factor)
        found = CALLS[call](f)
        if call == "gradcheck":
            assert found
            found = found.numeric
        elif call == "directional":
            assert found.value == pytest.approx(factor * 2 * (X @ X))
            continue
        np.testing.assert_allclose(np.ravel(getattr(found, "value", found)), factor * 2 * X, rtol=1e-8)


def test_what_another_thread_writes_is_said_and_kept():
    v, stop = tf.Variable(1.0, dtype=tf.float64), threading.Event()

    def train():
        while not stop.is_set():
            v.assign_add(1e-3)
            time.sleep(1e-3)

    def f(x):
        return v * tf.reduce_sum(tf.sin(x))

    worker = threading.Thread(target=train)
    worker.start()
    try:
        with pytest.raises((RuntimeError, ValueError), match=r"something else trains|deterministic|changes its state"):
            fdfast.gradcheck(f, np.linspace(0.1, 1, 200), check="every", engine="batch")
        reached = float(v.numpy())
    finally:
        stop.set()
        worker.join()
    assert float(v.numpy()) >= reached > 1.0
