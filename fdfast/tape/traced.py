"""Traced TensorFlow functions, called without the checks that cost more than a small function itself."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.tape.dispatch import numpy_calls

#: What TensorFlow says where Python code in a graph returns another dtype than it declared.
_PYTHON = re.compile(
    r"(\d+-th value returned by \w+ is \w+, but expects \w+|Tensor conversion requested dtype \w+ for Tensor with dtype"
    r" \w+)"
)
_ALIGNED = 64  # bytes
_NODE = re.compile(r"node (?:while/)?([\w/.]*PyFunc\w*)")


class PythonCode(TypeError):
    """Python code in f (``tf.numpy_function``, ``tf.py_function``) does not return the dtype that it declared."""


def shared(array: npt.NDArray[Any]) -> Any:
    """A tensor over the memory of an array, which is to stay as it is meanwhile.

    A copy where that memory is not aligned as TensorFlow's operations want it, not contiguous, or may not be written
    to.
    """
    flags = array.flags
    if not (flags.writeable and flags.c_contiguous) or array.__array_interface__["data"][0] % _ALIGNED:
        return tf.constant(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def view(tensor: tf.Tensor) -> npt.NDArray[Any]:
    """Values of a tensor, read-only; those in this process's memory are shared, not copied."""
    try:
        return np.asarray(memoryview(tensor))
    except (BufferError, TypeError, ValueError):  # on another device, or a dtype that NumPy has no letter for
        values: npt.NDArray[Any] = tensor.numpy()
        values.flags.writeable = False
        return values


def concrete_of(function: Any) -> Any:
    """Trace a ``tf.function`` that has an input signature and ``autograph=False``.

    AutoGraph rewrites the Python code of all that is called, ours too, which takes ten times as long as the trace. Only
    a Python ``if`` or loop over tensors needs it: code that cannot be traced as it stands is rewritten, and traced.
    """
    try:
        return function.get_concrete_function()
    except Exception as error:
        try:
            return tf.function(
                function.python_function, input_signature=function.input_signature
            ).get_concrete_function()
        except Exception:
            if isinstance(error, tf.errors.OperatorNotAllowedInGraphError):
                raise
            raise error from None  # which is not buried in rewritten code


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
        With an input signature, see `concrete_of`.
    optimised : bool
        Whether Grappler optimises the graph before its first run; for functions that run a few times it costs more
        than it saves.
    ordered : bool
        Whether sums and products stay in the order that f has, at the price of some speed. In another order 1 - p is
        1 - sigmoid, and has lost the digits that sigmoid(-z) has.
    """

    def __init__(self, function: Any, *, optimised: bool = True, ordered: bool = False) -> None:
        with numpy_calls() as called:
            self._concrete = concrete_of(function)
        #: NumPy functions that were called on traced tensors, and taken for TensorFlow's own.
        self.numpy_calls = list(dict.fromkeys(called))
        #: The graph that was traced.
        self.graph = self._concrete.graph
        self._types = [tensor.dtype for tensor in self._concrete.outputs]
        # The operation alone would place those on the device, where TensorFlow does not expect them.
        self._ordinary = tf.int32 in self._types
        structure = self._concrete.structured_outputs
        self._is_list = isinstance(structure, list) and all(tf.is_tensor(one) for one in structure)
        self._optimised, self._ordered, self._fused = optimised, ordered, True
        self._options = _options(optimised, ordered=ordered, fused=True)

    def captured(self) -> list[Any]:
        """Tensors that the graph takes after its arguments."""
        return list(self._concrete.captured_inputs)

    def __call__(self, *arguments: Any) -> Any:
        """Return what the traced function returns."""
        try:
            return self._run(arguments)
        except tf.errors.InvalidArgumentError as error:
            if found := _PYTHON.search(str(error)):
                node = _NODE.search(str(error))
                named = node[1] if node else "a tf.numpy_function"
                raise PythonCode(
                    f"Python code in f, {named}, does not return what it declared: {found[1]}. "
                    "Let it end with .astype(the dtype it declares): f is run in float64, too"
                ) from None
            if "_Fused" not in str(error) or not self._fused:
                raise
        self._fused = False
        self._options = _options(self._optimised, ordered=self._ordered, fused=False)
        return self._run(arguments)

    def _run(self, arguments: Any) -> Any:
        if self._ordinary:
            return self._concrete(*arguments)
        flat = tf.raw_ops.StatefulPartitionedCall(
            args=[*tf.nest.flatten(arguments), *self._concrete.captured_inputs],
            Tout=self._types,
            f=self._concrete,
            config_proto=self._options,
        )
        return list(flat) if self._is_list else tf.nest.pack_sequence_as(self._concrete.structured_outputs, flat)


def _options(optimised: bool, *, ordered: bool, fused: bool) -> bytes:
    """Options of one function, as TensorFlow takes them; those of the process are neither read nor changed."""
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    rewrite = config.graph_options.rewrite_options
    rewrite.disable_meta_optimizer = not optimised
    if ordered:
        rewrite.arithmetic_optimization = rewrite.OFF
    if not fused:
        rewrite.remapping = rewrite.OFF
    options: bytes = config.SerializeToString()
    return options
