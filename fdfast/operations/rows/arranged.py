"""How rows are laid out for a kernel: in front, as more of the batch, or as more channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.operations.kernel import Kernel, repeated


def aligned(tensor: Any, rank: int) -> Any:
    """Rows of tensors of that rank: axes of length 1 are put where broadcasting would."""
    missing = rank - (tensor.shape.rank - 1)
    return tf.reshape(tensor, [tensor.shape[0], *[1] * missing, *tensor.shape[1:]]) if missing > 0 else tensor


def broadcast(kernel: Kernel, inputs: tuple[Any, ...]) -> list[Any]:
    """Inputs that broadcast against each other as those of one row do."""
    rank = max(t.shape.rank - m for t, m in zip(inputs, kernel.moves, strict=True))
    return [aligned(t, rank) if m else t for t, m in zip(inputs, kernel.moves, strict=True)]


def all_rows(kernel: Kernel, rows: int, inputs: tuple[Any, ...]) -> list[Any]:
    """Inputs that all have the rows in front."""
    return [t if m else repeated(t, rows) for t, m in zip(inputs, kernel.moves, strict=True)]


def ints(tensor: Any) -> list[int]:
    """Values of a tensor that holds sizes or axes."""
    return [int(i) for i in np.reshape(tensor.numpy(), -1)]


def shifted(axis: int) -> int:
    """The axis of one row, counted among those of all rows; negative ones are counted from the end."""
    return axis + 1 if axis >= 0 else axis


def like(values: Any, held: Any) -> Any:
    """Other values in the dtype of an input."""
    return tf.constant(values, held.dtype)


def fold(tensor: Any) -> Any:
    """The rows and the axis that follows, as one axis."""
    shape = tensor.shape.as_list()
    return tf.reshape(tensor, [shape[0] * shape[1], *shape[2:]])


def unfold(tensor: Any, rows: int) -> Any:
    """The inverse of `fold`."""
    shape = tensor.shape.as_list()
    return tf.reshape(tensor, [rows, shape[0] // rows, *shape[1:]])


def batched(kernel: Kernel, rows: int, inputs: tuple[Any, ...], *which: int) -> list[Any]:
    """Run a kernel with the rows as more of the batch of these inputs."""
    whole = all_rows(kernel, rows, inputs)
    taken = [fold(whole[i]) if i in which else t for i, t in enumerate(inputs)]
    return [unfold(t, rows) for t in kernel(*taken)]


def more(sizes: Any, rows: int, axis: int) -> Any:
    """A shape whose axis is that of all rows together."""
    wanted = ints(sizes)
    wanted[axis] *= rows
    return like(wanted, sizes)


def to_channels(tensor: Any, axis: int = -1) -> Any:
    """The rows as the faster part of that axis, counted from the end."""
    rank = tensor.shape.rank
    at = rank + axis
    moved = tf.transpose(tensor, [*range(1, at + 1), 0, *range(at + 1, rank)])
    shape = moved.shape.as_list()
    return tf.reshape(moved, [*shape[: at - 1], shape[at - 1] * shape[at], *shape[at + 1 :]])


def from_channels(tensor: Any, rows: int, axis: int = -1) -> Any:
    """The inverse of `to_channels`."""
    shape = tensor.shape.as_list()
    at = len(shape) + axis
    apart = tf.reshape(tensor, [*shape[:at], shape[at] // rows, rows, *shape[at + 1 :]])
    return tf.transpose(apart, [at + 1, *range(at + 1), *range(at + 2, len(shape) + 1)])
