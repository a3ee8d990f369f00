"""A table of kinds of function: ``python -m bench.zoo [NAME ...]``; the one in the documentation is made by it."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import fdfast
from bench.timing import clocked, markdown, seconds_text, side_by_side
from bench.zoo.models import KINDS, Case
from fdfast.functions import Flat, flat_callable, flat_model, recorded

HEAD = "kind|verdict|engine|gradient|gradcheck|float32 batch by hand|its error|our error|first call"
_CHUNK = 256  # rows of the batch by hand


def flat_of(case: Case) -> Flat:
    if case.loss is None:
        return flat_callable(case.f, case.x, {})
    return flat_model(case.f, case.x, case.y, case.loss, mean=False, weights=False)


def by_hand(case: Case, flat: Flat) -> Any:
    """Central differences in float32, all rows of a chunk in one compiled call: what people write.

    A model takes rows; functions of one x are mapped over them. The step is the usual one of float32.
    """
    x = flat.points()[0].astype(np.float32)
    h = np.float32(1e-2)
    others = [tf.cast(tf.constant(p), a.dtype) for p, a in zip(flat.points()[1:], flat.arguments[1:], strict=True)]
    dtype = flat.arguments[0].dtype

    @tf.function(input_signature=[tf.TensorSpec([None, *x.shape], tf.float32)])
    def losses(rows: Any) -> Any:
        if case.loss is not None:
            found = case.f(tf.reshape(rows, [-1, *x.shape[1:]]), training=False)
            target = tf.cast(tf.reshape(case.y, [1, -1]), found.dtype)
            return keras.losses.get(case.loss)(tf.repeat(target, tf.shape(found)[0], axis=0), found)
        return tf.vectorized_map(lambda row: flat.call(tf.cast(row, dtype), *others), rows)

    def gradient() -> np.ndarray:
        found = np.empty((x.size, 2))
        for start in range(0, x.size, _CHUNK // 2):
            stop = min(start + _CHUNK // 2, x.size)
            rows = np.tile(x.reshape(1, 1, -1), (stop - start, 2, 1))
            each = np.arange(stop - start)
            rows[each, 0, start + each] += h
            rows[each, 1, start + each] -= h
            found[start:stop] = losses(tf.constant(rows.reshape(-1, *x.shape))).numpy().reshape(-1, 2)
        return (found[:, 0] - found[:, 1]) / (2 * float(h))

    return gradient


def measure(name: str) -> list[str]:
    case = KINDS[name]()
    gradient = partial(fdfast.gradient, case.f, case.x, **case.options)
    first = clocked(gradient)
    flat = flat_of(case)
    exact = recorded(flat).point(flat.points()).gradients[0].ravel()
    arguments = [tf.cast(tf.constant(p), a.dtype) for p, a in zip(flat.points(), flat.arguments, strict=True)]

    @tf.function
    def autodiff(*given: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(given[0])
            value = flat.call(*given)
        return tape.gradient(value, given[0])

    hand = by_hand(case, flat)
    check = partial(fdfast.gradcheck, case.f, case.x, **case.options)
    report = check()
    engine = fdfast.estimate(case.f, case.x, **case.options).engine
    try:
        errors = [_error(hand(), exact)]
    except (ValueError, tf.errors.OpError):  # TensorFlow cannot map it over rows
        errors = []
    calls = {"autodiff": partial(autodiff, *arguments), "gradient": gradient, "check": check}
    found = side_by_side(calls | ({"hand": hand} if errors else {}), 5, budget=20)
    ours = _error(np.asarray(gradient()).ravel(), exact) if case.right else float("nan")

    def over(call: str) -> str:
        return f"{found[call].over(found['autodiff']).median:.1f}" if call in found else "-"

    return [
        name,
        report.verdict if case.right == (report.verdict == "pass") else f"**{report.verdict}**",
        engine,
        over("gradient"),
        over("check"),
        over("hand"),
        f"{errors[0]:.0e}" if errors and case.right else "-",
        f"{ours:.0e}" if case.right else "-",
        seconds_text(first),
    ]


def _error(found: np.ndarray, exact: np.ndarray) -> float:
    """Median error over the median size of the gradient."""
    return float(np.median(np.abs(found - exact)) / np.median(np.abs(exact)))


def main(names: list[str]) -> None:
    print("Times in calls of one compiled autodiff gradient, in f's own precision; errors against float64 autodiff.\n")
    print(markdown(HEAD.split("|"), []))
    for name in names or KINDS:
        print(f"| {' | '.join(measure(name))} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
