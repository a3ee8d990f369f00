"""Variables of layers: reading them without a copy, and seeing whether they were written to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf


def read(variable: Any) -> tf.Tensor:
    """Value of a Keras or TensorFlow variable; an ordinary one shares its memory with what is returned."""
    inner = variable.value if isinstance(variable, keras.Variable) else variable
    if type(inner).__name__ == "ResourceVariable":  # not one of a distribution strategy
        # What `value()` comes down to, at a tenth of its time.
        return tf.raw_ops.ReadVariableOp(resource=inner.handle, dtype=inner.dtype)
    return tf.convert_to_tensor(inner)


class Snapshot:
    """Variables as they were; one that nobody writes to shares its memory with what is kept of it."""

    def __init__(self, variables: Sequence[Any]) -> None:
        self._variables = list({id(v): v for v in variables}.values())
        self._kept = [read(v) for v in self._variables]

    def changed(self) -> list[Any]:
        """Variables that differ from what they were."""
        return [v for v, kept in zip(self._variables, self._kept, strict=True) if not _unchanged(read(v), kept)]

    def touched(self) -> bool:
        """Whether a variable may have been written to since."""
        return any(_address(read(v)) != _address(kept) for v, kept in zip(self._variables, self._kept, strict=True))

    def restore(self) -> None:
        """Put the values back."""
        for variable, kept in zip(self._variables, self._kept, strict=True):
            if not _unchanged(read(variable), kept):
                variable.assign(kept)


def same_bits(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """Whether two arrays are equal bit by bit: NaN equals itself, and 0 is not -0."""
    return a.shape == b.shape and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def _unchanged(now: tf.Tensor, kept: tf.Tensor) -> bool:
    # TensorFlow copies on write: as long as `kept` is held, its buffer is the variable's own or nobody's.
    return _address(now) == _address(kept) or same_bits(now.numpy(), kept.numpy())


def _address(tensor: tf.Tensor) -> int:
    try:
        return int(np.asarray(memoryview(tensor)).ctypes.data)
    except (BufferError, TypeError, ValueError):
        return id(tensor)  # not in this process's memory, or a dtype that NumPy has no letter for
