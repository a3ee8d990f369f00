"""Variables of layers: reading them without a copy, and seeing whether they were written to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.eager.context import context
from tensorflow.python.eager.execute import execute


def read(variable: Any) -> tf.Tensor:
    """Value of a Keras or TensorFlow variable; an ordinary one shares its memory with what is returned."""
    inner = variable.value if isinstance(variable, keras.Variable) else variable
    if type(inner).__name__ == "ResourceVariable":  # not one of a distribution strategy
        # What `value()` comes down to, at a tenth of its time.
        return tf.raw_ops.ReadVariableOp(resource=inner.handle, dtype=inner.dtype)
    return tf.convert_to_tensor(inner)


def read_all(variables: Sequence[Any]) -> list[tf.Tensor]:
    """Values of several variables, as `read` gives them; those of one device in one operation, a third of the time."""
    inner = [v.value if isinstance(v, keras.Variable) else v for v in variables]
    handles = [one.handle for one in inner if type(one).__name__ == "ResourceVariable"]
    if len(handles) < len(inner) or len({handle.device for handle in handles}) != 1:
        return [read(v) for v in inner]
    kinds = [one.dtype.base_dtype.as_datatype_enum for one in inner]
    attributes = ("N", len(handles), "dtypes", kinds)
    found: list[tf.Tensor] = execute(b"_ReadVariablesOp", len(handles), handles, attributes, context())
    return found


class Snapshot:
    """Variables as they were; one that nobody writes to shares its memory with what is kept of it."""

    def __init__(self, variables: Sequence[Any]) -> None:
        self._variables = list({id(v): v for v in variables}.values())
        self._kept = read_all(self._variables)
        self._at = [_address(kept) for kept in self._kept]
        self._written = True
        #: Whether it is known by now that f does not write to what is trained.
        self.settled = False

    def changed(self) -> list[Any]:
        """Variables that differ from what they were."""
        return [variable for variable, _ in self._differing()]

    def touched(self, now: Snapshot | None = None) -> bool:
        """Whether a variable may have been written to since; what `now` holds is not read again."""
        read_at = {} if now is None else {id(v): at for v, at in zip(now._variables, now._at, strict=True)}
        known = zip(self._variables, self._at, strict=True)
        return any((read_at.get(id(v)) or _address(read(v))) != at for v, at in known)

    def leave(self) -> None:
        """Take note that nothing is going to be written, and hence nothing to be put back."""
        self._written = False

    def restore(self) -> None:
        """Put the values back."""
        if not self._written:
            return
        for variable, kept in self._differing():
            variable.assign(kept)

    def _differing(self) -> list[tuple[Any, tf.Tensor]]:
        differing = []
        then, present = (self._kept, self._at), read_all(self._variables)
        for variable, kept, at, now in zip(self._variables, *then, present, strict=True):
            # TensorFlow copies on write: as long as `kept` is held, its buffer is the variable's own or nobody's.
            if _address(now) != at and not same_bits(now.numpy(), kept.numpy()):
                differing.append((variable, kept))
        return differing


def same_bits(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """Whether two arrays are equal bit by bit: NaN equals itself, and 0 is not -0."""
    return a.shape == b.shape and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def _address(tensor: tf.Tensor) -> int:
    try:
        return int(np.asarray(memoryview(tensor)).__array_interface__["data"][0])
    except (BufferError, TypeError, ValueError):
        return id(tensor)  # not in this process's memory, or a dtype that NumPy has no letter for
