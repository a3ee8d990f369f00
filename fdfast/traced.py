"""Traced TensorFlow functions, called without the checks that cost more than a small function itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf


class Traced:
    """One trace of a ``tf.function``.

    A call goes straight to the operation that runs a function: TensorFlow's own way there binds, casts and packs
    arguments, which takes some 0.2 ms. The arguments are tensors of the shapes and dtypes that were traced, which the
    caller answers for.

    Where Grappler fuses operations of a float64 graph into one that has no float64 kernel, the function is called
    again, and from then on, without fusing.

    Parameters
    ----------
    function : tf.function
        With an input signature.
    config : bytes
        Options that TensorFlow runs it with, a serialised ``ConfigProto``; by default those of the session.
    """

    def __init__(self, function: Any, config: bytes = b"") -> None:
        self._config = config
        self._concrete = function.get_concrete_function()
        #: The graph that was traced.
        self.graph = self._concrete.graph
        self._types = [tensor.dtype for tensor in self._concrete.outputs]
        self._fused = True

    def __call__(self, *arguments: Any) -> Any:
        """Return what the traced function returns."""
        if self._fused:
            try:
                flat = tf.raw_ops.StatefulPartitionedCall(
                    args=[*tf.nest.flatten(arguments), *self._concrete.captured_inputs],
                    Tout=self._types,
                    f=self._concrete,
                    config_proto=self._config,
                )
                return tf.nest.pack_sequence_as(self._concrete.structured_outputs, flat)
            except tf.errors.InvalidArgumentError as error:
                if "_Fused" not in str(error):
                    raise
                self._fused = False
        # Options of Grappler reach a function only by the usual way.
        with _unfused():
            return self._concrete(*arguments)


@contextlib.contextmanager
def _unfused() -> Iterator[None]:
    """Keep Grappler from fusing operations; the option is put back as it was."""
    before = tf.config.optimizer.get_experimental_options().get("remapping", True)
    tf.config.optimizer.set_experimental_options({"remapping": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": before})
