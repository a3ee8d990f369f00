"""The Jacobian of a TensorFlow function of several tensors by central differences, all rows of an input at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.compat.call import Call, is_smooth
from fdfast.compat.rows import displaced
from fdfast.functions import RowValues

Array = npt.NDArray[Any]


class VanishingStep(ValueError):
    """x + eps == x - eps in the dtype of x; the message names the element and a step that works."""


def central(call: Call, position: int, outputs: tuple[Any, ...], eps: float) -> list[Array | None]:
    """(f(x + eps e_k) - f(x - eps e_k)) over the distance really moved, for every element k of one argument.

    Parameters
    ----------
    call : Call
    position : int
        Of the argument x that moves.
    outputs : tuple of tensors
        Values at the point.
    eps : float
        Step, in the units of x.

    Returns
    -------
    list of ndarray or None, one per output
        Shape (directions, elements of x, elements of the output), float64 or complex128; None for outputs that are
        neither floating-point nor complex. A complex x moves in two directions, along 1 and along i.

    Raises
    ------
    VanishingStep
        The step is lost in the rounding of x.
    AssertionError
        f changes the shape or dtype of an output when x moves.
    """
    x = call.arguments[position].numpy()
    smooth = [i for i, output in enumerate(outputs) if is_smooth(output)]
    packed = _Packed(call, position, outputs, smooth)
    found: list[Array | None] = [None] * len(outputs)
    slopes: dict[int, list[Array]] = {i: [] for i in smooth}
    for direction in ((eps, 1j * eps) if np.iscomplexobj(x) else (eps,)) if smooth else ():
        step = x.dtype.type(direction)
        moved = np.stack([x.reshape(-1) + step, x.reshape(-1) - step], axis=1)
        distance = np.abs(wide(moved[:, 0]) - wide(moved[:, 1]))
        _refuse_vanished(x, distance, direction, position)
        values = packed.values(x, moved.reshape(-1))
        quotients = (values[0::2] - values[1::2]) / distance[:, None]
        for i, part in zip(smooth, packed.split(quotients), strict=True):
            slopes[i].append(part)
    for i in smooth:
        found[i] = np.stack(slopes[i])
    return found


def _refuse_vanished(x: Array, distance: Array, direction: complex, position: int) -> None:
    flat = x.reshape(-1)
    lost = np.flatnonzero((distance == 0) & np.isfinite(wide(flat)))
    if lost.size:
        at = ", ".join(str(i) for i in np.unravel_index(lost[0], x.shape))
        value, step = flat[lost[0]], direction
        while value + x.dtype.type(step) == value - x.dtype.type(step):
            step *= 2
        raise VanishingStep(
            f"eps={abs(direction):g} vanishes in {x.dtype} at input {position}[{at}]={value}, and at {lost.size - 1} "
            f"other elements: x + eps == x - eps. A step that moves it: {abs(step):.1g}; or pass float64"
        )


def wide(values: Any) -> Array:
    """Return values as float64 or complex128."""
    array = np.asarray(values)
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


class _Packed:
    """The smooth outputs as one flat tensor, float64 or complex128, which holds their values exactly."""

    def __init__(self, call: Call, position: int, outputs: tuple[Any, ...], smooth: list[int]) -> None:
        self._call, self._position, self._outputs, self._smooth = call, position, outputs, smooth
        self._complex = [bool(outputs[i].dtype.is_complex) for i in smooth]
        self._dtype = tf.complex128 if any(self._complex) else tf.float64

    def __call__(self, value: Any) -> Any:
        return self._pack(self._call(self._position, value))

    def _pack(self, found: tuple[Any, ...]) -> Any:
        for i in self._smooth:
            _require_same(self._outputs[i], found[i], i, self._position)
        return tf.concat([tf.cast(tf.reshape(found[i], [-1]), self._dtype) for i in self._smooth], axis=0)

    def values(self, x: Array, moved: Array) -> Array:
        """Evaluate at rows: in rows 2k and 2k + 1 element k of x is as `moved` says. Shape (rows, all outputs)."""
        out = np.empty((len(moved), *self._pack(self._outputs).shape), self._dtype.as_numpy_dtype)

        def build(start: int, stop: int) -> Array:
            return displaced(x, np.arange(start, stop) // 2, moved[start:stop])

        argument = self._call.arguments[self._position]
        if isinstance(argument, tf.Variable):
            for k in range(len(moved)):
                out[k] = self._in_place(argument, build(k, k + 1)[0])
        elif len(moved):
            rows = RowValues(self, [argument], 0, self._pack(self._outputs).numpy())
            for start, block in rows.blocks(build, len(moved)):
                out[start : start + len(block)] = block
        return out

    def _in_place(self, variable: tf.Variable, value: Array) -> Array:
        """Move a variable and put it back, so that f may reach it without its argument."""
        kept = tf.identity(variable)
        try:
            variable.assign(value)
            found: Array = self._pack(self._call()).numpy()
        finally:
            variable.assign(kept)
        return found

    def split(self, values: Array) -> Iterator[Array]:
        """Cut the last axis into outputs, each in its own kind of number."""
        sizes = [int(tf.size(self._outputs[i])) for i in self._smooth]
        for part, is_complex in zip(np.split(values, np.cumsum(sizes)[:-1], axis=1), self._complex, strict=True):
            yield part if is_complex else part.real


def _require_same(before: Any, after: Any, i: int, position: int) -> None:
    if before.shape != after.shape or before.dtype != after.dtype:
        raise AssertionError(
            f"output {i} of func is {before.dtype.name} {tuple(before.shape)} at the inputs, and {after.dtype.name} "
            f"{tuple(after.shape)} when input {position} moves; shape and dtype must not depend on the values"
        )
