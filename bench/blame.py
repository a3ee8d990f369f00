"""Who is to blame: ``python -m bench.blame``. Ten mistakes in ten places of a network each, and 200 right networks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import fdfast
from bench.timing import Row, row

L = keras.layers
PLACES, RIGHT = 10, 200
MIXED = np.random.default_rng(7).normal(size=(8, 8)) / 3
Backward = Callable[[Any, Any, Any], Any]


class Mistake(NamedTuple):
    """An operation with its gradient as it should be and as it is often written: of x, y and what comes from above."""

    forward: Callable[[Any], Any]
    wrong: Backward
    right: Backward


def mean(x: Any) -> Any:
    return tf.reduce_mean(x, -1, keepdims=True)


def swish(x: Any) -> Any:
    return x * tf.sigmoid(x)


def of_swish(x: Any) -> Any:
    s = tf.sigmoid(x)
    return s * (1 + x * (1 - s))


def mixed(x: Any) -> Any:
    return tf.cast(MIXED, x.dtype)


def of_norm(epsilon: float) -> Backward:
    def backward(x: Any, y: Any, up: Any) -> Any:
        size = tf.sqrt(mean(x * x) + epsilon)
        return up / size - x * mean(up * x) / size**3

    return backward


MISTAKES = {
    "ignores what comes from above": Mistake(swish, lambda x, y, up: of_swish(x), lambda x, y, up: up * of_swish(x)),
    "wrong axis": Mistake(
        lambda x: x - mean(x),
        lambda x, y, up: up - tf.reduce_mean(up, 1, keepdims=True),
        lambda x, y, up: up - mean(up),
    ),
    "forgets 1/N": Mistake(
        lambda x: x - mean(x),
        lambda x, y, up: up - tf.reduce_sum(up, -1, keepdims=True),
        lambda x, y, up: up - mean(up),
    ),
    "transposed": Mistake(
        lambda x: x @ mixed(x), lambda x, y, up: up @ mixed(up), lambda x, y, up: up @ tf.transpose(mixed(up))
    ),
    "clipped": Mistake(
        swish,
        lambda x, y, up: tf.clip_by_value(up, -1e-3, 1e-3) * of_swish(x),
        lambda x, y, up: up * of_swish(x),
    ),
    "detached": Mistake(swish, lambda x, y, up: up * tf.sigmoid(x), lambda x, y, up: up * of_swish(x)),
    "off by one": Mistake(
        lambda x: tf.roll(x, 1, 2), lambda x, y, up: tf.roll(up, -2, 2), lambda x, y, up: tf.roll(up, -1, 2)
    ),
    "sign": Mistake(tf.tanh, lambda x, y, up: -up * (1 - y * y), lambda x, y, up: up * (1 - y * y)),
    "epsilon": Mistake(lambda x: x / tf.sqrt(mean(x * x) + 1e-3), of_norm(1e-5), of_norm(1e-3)),
    "forgets the bias": Mistake(
        lambda x: (x + 0.3) ** 2, lambda x, y, up: 2 * up * x, lambda x, y, up: 2 * up * (x + 0.3)
    ),
}


class Operation(L.Layer):
    """One of the operations above."""

    def __init__(self, name: str, mistake: Mistake, *, wrong: bool) -> None:
        super().__init__(name=name)

        @tf.custom_gradient
        def run(x: Any) -> Any:
            y = mistake.forward(x)
            return y, lambda up: (mistake.wrong if wrong else mistake.right)(x, y, up)

        self.run = run

    def call(self, x: Any) -> Any:
        return self.run(x)


def network(kind: str, place: int | None, seed: int) -> keras.Model:
    """Ten convolutions with an operation of one's own behind each; at `place` the one of that kind, wrong."""
    keras.utils.set_random_seed(seed)
    names = list(MISTAKES)
    x = h = keras.Input((6, 6, 2))
    for k in range(PLACES):
        h = L.Conv2D(8, 1 if k % 3 else 3, padding="same", name=f"conv{k}")(h)
        h = L.LayerNormalization(name=f"norm{k}")(h) if k % 4 == 1 else h
        mine = kind if k == place else names[(k + seed) % len(names)]
        h = Operation(f"operation{k}", MISTAKES[mine], wrong=k == place)(h)
        h = L.Activation("relu", name=f"relu{k}")(h) if k % 2 else h
    return keras.Model(x, L.Dense(3, activation="softmax", name="head")(L.Flatten()(h)))


def rows() -> Iterator[Row]:
    rng, start = np.random.default_rng(0), time.perf_counter()

    def check(model: keras.Model) -> fdfast.Report:
        x = rng.uniform(-1, 1, (6, 6, 2)).astype(np.float32)
        loss = "sparse_categorical_crossentropy"
        return fdfast.gradcheck(model, x, 1, loss=loss, check="directions", wrt="all")

    found, named, innocent = 0, 0, 0
    for i, kind in enumerate(MISTAKES):
        for place in range(PLACES):
            report = check(network(kind, place, PLACES * i + place))
            said = set((report.culprit or "").split(", ")) - {""}
            found += report.verdict == "fail"
            named += f"operation{place}" in said
            innocent += len(said - {f"operation{place}"})
            if report.verdict != "fail" or said != {f"operation{place}"}:
                print(f"{kind}, place {place}: {report.verdict}, {report.culprit}", file=sys.stderr, flush=True)
            keras.backend.clear_session()
    many = len(MISTAKES) * PLACES
    yield row(f"blame: faults found, of {many}", found, f"= {many}")
    yield row("blame: the guilty layer named", named, f"= {many}")
    yield row("blame: innocent layers named", innocent, "= 0")
    right = [check(network("", None, seed)) for seed in range(RIGHT)]
    yield row(f"blame: right networks that pass, of {RIGHT}", sum(r.verdict == "pass" for r in right), f"= {RIGHT}")
    yield row("blame: right networks with a layer named", sum(bool(r.culprit) for r in right), "= 0")
    yield Row("blame: seconds in all", "", f"{time.perf_counter() - start:.0f}")


if __name__ == "__main__":
    for line in rows():
        print(line, flush=True)
