"""Float64 twins of large variables, so that graphs need not widen them at every run."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import ResourceVariable

from fdfast.operations import NARROW
from fdfast.tape.recorder import lifted
from fdfast.tape.tape import Handle
from fdfast.tape.traced import view

#: Elements from which on a twin pays.
_LARGE = 1 << 16


class Twins:
    """Values of variables in float64, by the ids of their handles; large ones are widened once, not at every run.

    Those on another device are widened there at every run, which is quick.

    TensorFlow copies on write: as long as a value is held, its memory is the variable's own or nobody's. So a variable
    that nobody wrote to is known by the address of its memory.
    """

    def __init__(self) -> None:
        self._twins: dict[int, Any] = {}
        self._held: dict[int, tuple[Handle, Any]] = {}

    def value(self, key: int, handle: Handle) -> Any:
        """The value as it is now; of a graph in the making as it is when `refresh` was last called before a run."""
        read = handle.tensor._handle_data.shape_and_type[0]
        narrow = tf.as_dtype(read.dtype) in NARROW
        if not narrow or not in_memory(handle.tensor) or math.prod(d.size for d in read.shape.dim) < _LARGE:
            return lifted(value_of(handle))
        if key not in self._twins:
            with tf.init_scope():
                now = value_of(handle)
                # Not tf.Variable, which strategies replace by variables of their own.
                self._twins[key] = ResourceVariable(lifted(now), trainable=False)
                self._held[key] = handle, now
        if tf.executing_eagerly():
            self._renew(key)
        return tf.raw_ops.ReadVariableOp(resource=self._twins[key].handle, dtype=tf.float64)

    def refresh(self) -> None:
        """Bring the twins up to what the variables are now."""
        for key in self._twins:
            self._renew(key)

    def _renew(self, key: int) -> None:
        handle, held = self._held[key]
        now = value_of(handle)
        if address_of(now) != address_of(held):
            self._twins[key].assign(lifted(now))
            self._held[key] = handle, now


def value_of(handle: Handle) -> Any:
    """Value of a variable in its own dtype."""
    dtype = handle.tensor._handle_data.shape_and_type[0].dtype
    return tf.raw_ops.ReadVariableOp(resource=handle.tensor, dtype=tf.as_dtype(dtype))


def in_memory(tensor: Any) -> bool:
    """Whether a tensor, or a resource, is in this process's memory: elsewhere its address cannot be seen."""
    return ":GPU:" not in tensor.device and ":TPU:" not in tensor.device


def address_of(tensor: Any) -> int:
    """Where a tensor lies in memory; of one that is copied to be looked at, another one each time."""
    return int(view(tensor).__array_interface__["data"][0])
