"""Colours, special values and callables in float32: functions at points, with right gradients and wrong ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import fdfast
from bench.timing import markdown
from bench.verdict.subject import CS231N_LIMIT, CS231N_STEP, TF_LIMIT, TF_STEP, cs231n_error

_S, _LAYERS = tf.reduce_sum, keras.layers
_ODD = tf.custom_gradient(lambda x: (x**2, lambda g: g * tf.where(x == 0.5, 3 * x, 2 * x)))
#: A function of a vector, points where autodiff is right, where it is wrong, and where f has no slope.
SPECIAL: list[tuple[Any, list[Any], list[Any], list[Any]]] = [
    (tf.norm, [[1, 0, 2]], [[0, 0, 0]], []),
    (tf.math.reduce_std, [[2, 2, 3]], [[2, 2, 2]], []),
    (lambda x: tf.maximum(tf.norm(x[:2] - x[2:4]) - tf.norm(x[:2]) + 4, 0), [[1, 2, 1, 3]], [[1, 2, 1, 2]], []),
    (lambda x: _S(tf.sqrt(x**2)), [[1, 0.5]], [[0, 0.5]], []),
    (lambda x: _S(tf.where(x == 0, tf.ones_like(x), tf.sin(x) / x)), [[1, 0.5]], [[0, 0.5]], []),
    (lambda x: _S(tf.math.cumprod(x)), [[2, 1, 3, 4]], [[2, 0, 3, 4]], []),
    (lambda x: _S(tf.math.xlogy(x, np.array([2.0, 3.0]))), [[0.1, 1]], [[0, 1]], []),
    (lambda x: _S(_ODD(x)), [[0.6, 1, -0.5]], [[0.5, 1, -0.5]], []),
    (lambda x: _S(tf.sqrt(x)), [[0.5, 1]], [], [[0, 1]]),
    (lambda x: tf.atan2(x[0], x[1]), [[1, 1], [0, 1]], [], [[0, 0]]),
    (lambda x: _S(tf.math.divide_no_nan(tf.sin(x), x)), [[1, 0.5]], [], [[0, 0.5]]),
    (lambda x: _S(tf.floor(x) + x**2), [[0.5, 1.5]], [], [[1, 2]]),
    (lambda x: _S(tf.nn.relu(x)), [[0, 0.5, -1]], [], []),
    (lambda x: tf.reduce_prod(x) + _S(tf.sin(x)), [[2, 0, 3], [0, 0, 3]], [], []),
]
COLOURS = {"swap": lambda g: g[..., ::-1], "mix": lambda g: 0 * g + g.mean(-1, keepdims=True)}
COLOURS |= {"drop": lambda g: g * [1, 1, 0], "shift": lambda g: np.roll(g, 1, -1)}


def cases(seed: int) -> Iterator[tuple[str, str, Any, Any, Any]]:
    """Family, the verdict that is due, function, point, and the gradient under test, None for autodiff's."""
    for f, *points in SPECIAL:
        for due, some in zip(("pass", "fail", "inconclusive"), points, strict=True):
            yield from (("special values", due, f, np.array(x, float), None) for x in some)
    for x in np.random.default_rng(seed).uniform(size=(3, 4, 4, 3)):
        stack = [_LAYERS.Conv2D(4, 3, activation="tanh"), _LAYERS.Flatten(), _LAYERS.Dense(3, activation="softmax")]
        model = keras.Sequential([keras.Input(x.shape), *stack])
        f = lambda x, model=model: -tf.math.log(model(x[None])[0, 0])  # noqa: E731
        right = fdfast.gradcheck(f, x, check="every").analytic
        for at in (x.astype(np.float32), x):
            yield from (("float32 inside", due, f, at, one) for due, one in (("pass", None), ("fail", 1.01 * right)))
        yield from (("colours", "fail", f, x, spoil(right)) for spoil in COLOURS.values())
        yield from (("colours", "pass", f, x, one) for one in (None, right))


def lines(seed: int) -> Iterator[str]:
    counts, odd = dict[tuple[str, str], Any](), []
    for family, due, f, x, given in cases(seed):
        found = fdfast.gradcheck(f, x, analytic=given, check="auto" if given is None else "every")
        shown = (found.analytic if given is None else given).ravel()
        far, near = (_slopes(f, x, h) for h in (TF_STEP, CS231N_STEP))
        rules = not cs231n_error(near, shown) <= CS231N_LIMIT, not np.abs(far - shown).max() < TF_LIMIT
        counts[family, due] = counts.get((family, due), 0) + np.array([1, found.verdict == due, *rules], int)
        odd += [f"  {family}, {due} was due: {found!r} at {x.ravel()[:6]}"] if found.verdict != due else []
    head = ("family", "due", "pairs", "as due", "CS231n: wrong", "tf.test: wrong")
    yield markdown(head, [(*kind, *(int(n) for n in some)) for kind, some in counts.items()])
    yield from ["", f"goal: the families as due: {'NO:' if odd else 'yes'}", *odd]


def _slopes(f: Any, x: np.ndarray, h: float) -> np.ndarray:
    def at(d: Any) -> float:
        return float(f(tf.constant(x + d, x.dtype)))

    return np.array([(at(d) - at(-d)) / (2 * h) for d in h * np.eye(x.size).reshape(-1, *x.shape)])
