"""The Jacobian of a TensorFlow function of several tensors by automatic differentiation, backward and forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.compat.call import Call, is_smooth
from fdfast.compat.central import wide

Array = npt.NDArray[Any]
#: Backward passes up to which one by one costs less than vectorizing them.
FEW = 64

#: Real functions of an output whose gradients a tape has, in words.
PARTS: dict[str, Callable[[Any], Any]] = {
    "": tf.identity,
    "imaginary part of ": tf.math.imag,
    "real part of ": tf.math.real,
}


def parts_of(output: Any) -> tuple[str, ...]:
    """Names of the real functions that an output is checked by: itself, or its two parts if it is complex."""
    if not is_smooth(output):
        return ()
    return ("imaginary part of ", "real part of ") if output.dtype.is_complex else ("",)


class Backward:
    """One recorded forward pass and its gradients.

    Attributes
    ----------
    outputs : tuple of tensors
        Values of the function at its arguments.
    targets : dict
        (output number, part) to the real tensor that is differentiated.
    """

    def __init__(self, call: Call) -> None:
        self._sources = call.sources
        with tf.GradientTape(persistent=True) as self._tape:
            for source in self._sources:
                self._tape.watch(source)
            self.outputs = call()
            self.targets = {
                (i, part): PARTS[part](output) for i, output in enumerate(self.outputs) for part in parts_of(output)
            }

    def zeros(self, *keys: tuple[int, str]) -> list[Any]:
        """Gradients for an upstream gradient of zeros: None where an input is not connected."""
        targets = [self.targets[key] for key in keys or self.targets]
        return self._gradients(targets, [tf.zeros_like(target) for target in targets])

    def _gradients(self, target: Any, upstream: Any) -> list[Any]:
        found = self._tape.gradient(target, self._sources, output_gradients=upstream)
        return [tf.convert_to_tensor(g) if isinstance(g, tf.IndexedSlices) else g for g in found]

    def first_row(self, key: tuple[int, str]) -> list[Any]:
        """Gradients of the first element of a target, as the backward pass returns them: their dtype and shape."""
        target = self.targets[key]
        return self._gradients(target, _unit(target, 0)) if int(tf.size(target)) else [None] * len(self._sources)

    def jacobian(self, key: tuple[int, str]) -> list[Array]:
        """Gradient of every element of a target, one column each: shape (elements of the source, elements of it).

        Raises
        ------
        ValueError
            A gradient has another number of elements than its source.
        """
        target = self.targets[key]
        size = int(tf.size(target))
        if size > FEW:
            batched = self._batched(target)
            if batched is not None:
                return batched
        rows = [self._gradients(target, _unit(target, k)) for k in range(size)]
        return [self._columns(source, [row[j] for row in rows]) for j, source in enumerate(self._sources)]

    def _columns(self, source: Any, gradients: list[Any]) -> Array:
        found = np.zeros((int(tf.size(source)), len(gradients)), wide(source.dtype.as_numpy_dtype(0)).dtype)
        for k, gradient in enumerate(gradients):
            if gradient is not None:
                found[:, k] = wide(gradient.numpy()).reshape(-1)
        return found

    def _batched(self, target: Any) -> list[Array] | None:
        """All elements in one backward pass; None where that cannot be vectorized."""
        size = int(tf.size(target))
        try:
            found = self._tape.jacobian(target, self._sources, experimental_use_pfor=True)
        except Exception:  # whatever stops the vectorization; an error of the backward pass itself comes again
            return None
        jacobians = []
        for source, jacobian in zip(self._sources, found, strict=True):
            if jacobian is None:
                jacobians.append(self._columns(source, [None] * size))
            else:
                dense = tf.convert_to_tensor(jacobian).numpy()
                jacobians.append(wide(dense).reshape(size, int(tf.size(source))).T)
        return jacobians


def forward(call: Call, position: int, outputs: tuple[Any, ...]) -> list[Array | None]:
    """Forward-mode derivatives by every element of one argument, laid out as by `central`."""
    source = call.arguments[position]
    size = int(tf.size(source))
    directions = (1, 1j) if source.dtype.is_complex else (1,)
    found: list[Array | None] = [
        np.zeros((len(directions), size, int(tf.size(output))), wide(output.dtype.as_numpy_dtype(0)).dtype)
        if is_smooth(output)
        else None
        for output in outputs
    ]
    for d, direction in enumerate(directions):
        for k in range(size):
            tangent = direction * _unit(source, k)
            with tf.autodiff.ForwardAccumulator(source, tangent) as accumulator:
                values = call()
            for i, value in enumerate(values):
                column, slope = found[i], accumulator.jvp(value) if is_smooth(value) else None
                if column is not None and slope is not None:
                    column[d, k] = wide(slope.numpy()).reshape(-1)
    return found


def _unit(tensor: Any, k: int) -> Any:
    """Zeros of the shape of a tensor but for a one at flat element k."""
    return tf.reshape(tf.one_hot(k, int(tf.size(tensor)), dtype=tensor.dtype), tensor.shape)
