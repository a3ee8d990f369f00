"""A TensorFlow function with its arguments, some of which move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf


@dataclass(frozen=True, eq=False)
class Call:
    """A function, its arguments, and the positions of those that move.

    Attributes
    ----------
    function : callable
        ``function(*arguments)`` returns a tensor, or a list or tuple of them.
    arguments : tuple
        Tensors and variables, and whatever else the function takes.
    moving : tuple of int
        Positions of the floating-point and complex tensors, and variables, that derivatives are taken by.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    moving: tuple[int, ...]

    def __call__(self, position: int | None = None, value: Any = None) -> tuple[Any, ...]:
        """Evaluate the function, with one argument replaced."""
        arguments = [value if i == position else argument for i, argument in enumerate(self.arguments)]
        return as_outputs(self.function(*arguments))

    @property
    def sources(self) -> list[Any]:
        """The arguments that move."""
        return [self.arguments[i] for i in self.moving]


def as_outputs(value: Any) -> tuple[Any, ...]:
    """Return what a function gave as a tuple of dense tensors.

    Raises
    ------
    ValueError
        An output is sparse or ragged.
    TypeError
        An output is nothing that makes a tensor.
    """
    outputs = []
    for i, output in enumerate(value if isinstance(value, list | tuple) else (value,)):
        if isinstance(output, tf.SparseTensor | tf.RaggedTensor | tf.IndexedSlices):
            raise ValueError(
                f"output {i} of func is a {type(output).__name__}; func must return dense tensors: convert it inside "
                "func, by tf.sparse.to_dense, .to_tensor() or tf.convert_to_tensor"
            )
        try:
            outputs.append(tf.convert_to_tensor(output))
        except (TypeError, ValueError):
            kind = type(output).__name__
            raise TypeError(f"output {i} of func is a {kind}; func must return a tensor or a tuple of them") from None
    return tuple(outputs)


def is_smooth(tensor: Any) -> bool:
    """Whether a dtype has derivatives: floating-point or complex."""
    return bool(tensor.dtype.is_floating or tensor.dtype.is_complex)
