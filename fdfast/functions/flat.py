"""A function of flat inputs that returns one number: whatever it is that is asked about, brought into one form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.arguments import Argument, flattened, packer
from fdfast.functions.over_rows import dense
from fdfast.functions.present import Present
from fdfast.moves import as_floats
from fdfast.tape import numpy_calls

Array = npt.NDArray[Any]


@dataclass(eq=False)
class Flat:
    """A function of flat tensors.

    Attributes
    ----------
    call : callable
        Flat tensors, in the dtypes of the arguments, to a scalar tensor.
    arguments : list of Argument
    variables : list of tf.Variable
        What is trained.
    names : list of str
        Paths of these.
    label : str
    owner : object
        What a trace of it may be kept with; None for none.
    key : tuple
        What tells traces of one owner apart.
    notes : list of str
    model : keras.Model or keras.Layer or None
    states : list of Present
        What else the function reads, as it is now: losses.
    """

    call: Callable[..., Any]
    arguments: list[Argument]
    label: str
    variables: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    owner: Any = None
    key: tuple[Any, ...] = ()
    notes: list[str] = field(default_factory=list)
    model: Any = None
    states: list[Present] = field(default_factory=list)

    def specs(self) -> list[tf.TensorSpec]:
        """What the function is traced with."""
        return [tf.TensorSpec(a.value.shape, a.dtype) for a in self.arguments]

    def points(self) -> list[Array]:
        """Values of the arguments."""
        return [a.value for a in self.arguments]

    def own(self, points: Sequence[Array]) -> float:
        """What the function itself returns, called as it is."""
        found = self.call(*(tf.cast(tf.constant(p), a.dtype) for p, a in zip(points, self.arguments, strict=True)))
        return float(found)

    def trace(self) -> Any:
        """Concrete function of the value, its gradient for every argument that moves, and for every variable.

        Gradients that are not connected are None in its structured outputs.
        """
        call, variables = self.call, self.variables
        moving = [i for i, a in enumerate(self.arguments) if a.moves]

        def value_and_gradients(*tensors: Any) -> Any:
            sources = [tensors[i] for i in moving]
            with tf.GradientTape(watch_accessed_variables=False) as gradient:
                for one in (*sources, *variables):
                    gradient.watch(one)
                value = call(*tensors)
            found = gradient.gradient(value, [*sources, *variables])
            return value, [None if g is None else dense(g) for g in found]

        function = tf.function(value_and_gradients, input_signature=self.specs(), autograph=False)
        with numpy_calls():
            return function.get_concrete_function()


def flat_callable(f: Callable[..., Any], x: Any, kwargs: Mapping[str, Any], *, batched: bool = False) -> Flat:
    """A callable of x, which may be a list, tuple or dict of arrays; rows of it are added up with `batched`."""
    given, names = flattened(x, None)
    arguments = []
    for name, one in zip(names, given, strict=True):
        array = np.asarray(one)
        if array.dtype.kind in "iub" and len(given) > 1:
            arguments.append(Argument(name, array, tf.as_dtype(array.dtype), True, array))
            continue
        values = as_floats(one, name)
        dtype = tf.as_dtype(array.dtype if array.dtype.name in ("float16", "bfloat16") else values.dtype)
        arguments.append(Argument(name, np.ascontiguousarray(values.astype(np.float64)), dtype, True, values))
    pack = packer(x, None)

    def call(*tensors: Any) -> Any:
        value = tf.convert_to_tensor(f(pack(tensors), **kwargs))
        if batched:
            return tf.reduce_sum(value)
        if value.shape.num_elements() not in (1, None):
            raise ValueError(
                f"f must return a scalar for one x of shape {arguments[0].value.shape}; it returned shape "
                f"{tuple(value.shape)}. For a function of rows pass batched=True, for several outputs use "
                "fdfast.jacobian"
            )
        return tf.reshape(value, [])

    return Flat(call, arguments, getattr(f, "__name__", type(f).__name__), owner=None if kwargs else f)
