"""The derivative of a function along a vector, as a function again: its gradient is the Hessian times that vector."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.arguments import Argument
from fdfast.functions.flat import Flat
from fdfast.functions.naming import namer
from fdfast.functions.over_rows import dense
from fdfast.tape import NoTape, numpy_calls

Float64 = npt.NDArray[np.float64]
_LEVELS = 128  # amplitudes that are exact in every precision
#: What TensorFlow says of an operation that it cannot differentiate, by either of its two ways.
_MISSING = (r"gradient registry has no entry for: (\w+)", r"No gradient defined for operation .*\(op type: (\w+)\)")


def random_vector(shapes: Sequence[tuple[int, ...]], seed: int) -> list[Float64]:
    """Arrays of these shapes: random signs, and amplitudes in [1/2, 1] that are exact in every precision."""
    rng = np.random.default_rng((seed, 2))
    return [rng.choice([-1.0, 1.0], s) * rng.integers(_LEVELS, 2 * _LEVELS + 1, s) / (2 * _LEVELS) for s in shapes]


def gradient_along(flat: Flat, places: Sequence[int], u: Sequence[Float64], scale: float) -> Flat:
    """x -> u . grad f(x), the gradient by autodiff as its user gets it.

    Parameters
    ----------
    flat : Flat
    places : sequence of int
        Of arguments, and behind these variables, that the gradient is taken by.
    u : sequence of ndarray
        For each of them. They are arguments of what is returned, so that one trace does for all.
    scale : float
        Size of the terms that are added up: |u| . |grad f(x)|.
    """
    count, variables = len(flat.arguments), flat.variables
    dtypes = [flat.arguments[p].dtype if p < count else variables[p - count].dtype for p in places]
    held = [
        Argument(f"u[{i}]", one, dtype, True, one, held=True)
        for i, (one, dtype) in enumerate(zip(u, dtypes, strict=True))
    ]

    def along(tensors: Sequence[Any], gradients: Sequence[Any]) -> Any:
        total = tf.zeros([], tf.float64)
        for one, gradient in zip(tensors[count:], gradients, strict=True):
            if gradient is not None:
                total += tf.reduce_sum(tf.cast(one * dense(gradient), tf.float64))
        return total

    def call(*tensors: Any) -> Any:
        sources = [tensors[p] if p < count else variables[p - count] for p in places]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for source in sources:
                tape.watch(source)
            value = flat.call(*tensors[:count])
        return along(tensors, tape.gradient(value, sources))

    def named(*tensors: Any) -> Any:
        """The same, but for names of operations: each is named after what it is the gradient of."""
        graph = tf.compat.v1.get_default_graph()
        sources = [tensors[p] if p < count else graph.capture(variables[p - count].handle) for p in places]
        return along(tensors, tf.gradients(flat.call(*tensors[:count]), sources))

    return replace(
        flat,
        call=call,
        named=named,
        arguments=[*flat.arguments, *held],
        key=("along its gradient", tuple(places), *flat.key),
        notes=[],
        scale=scale,
    )


def not_twice(flat: Flat, error: NoTape, layers: Sequence[keras.Layer]) -> str:
    """Which operation's gradient TensorFlow cannot differentiate, and of which layer it is; "" where it is not that."""
    kinds = [found.group(1) for pattern in _MISSING if (found := re.search(pattern, str(error)))]
    if not kinds:
        return ""
    name = _operation(flat.call, flat.specs(), kinds[0])
    layer = namer(layers)(name) if name else ""
    where = f", of {layer}" if layer and kinds[0] not in layer else ""
    return f"TensorFlow cannot differentiate {kinds[0]}{where}, so it has no second derivative of f"


def _operation(call: Callable[..., Any], specs: Sequence[tf.TensorSpec], kind: str) -> str:
    """Name of the first operation of a kind."""
    function = tf.function(call, input_signature=specs, autograph=False)
    with numpy_calls():
        graph = function.get_concrete_function().graph
    return next((op.name for op in graph.get_operations() if op.type == kind), "")
