"""A function of flat inputs that returns one number: whatever it is that is asked about, brought into one form."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.arguments import Argument, flattened, packer
from fdfast.functions.over_rows import dense, first_line
from fdfast.functions.returned import check_dense, check_returned, check_takes
from fdfast.moves import as_array, as_floats
from fdfast.tape import NoTape, numpy_calls

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
    reads : tuple of object
        What the function is made of, besides what Python tells of it: a model, losses.
    notes : list of str
    numpy_calls : list of str
        Functions of NumPy that became TensorFlow's own while it was traced.
    model : keras.Model or keras.Layer or None
    named : callable or None
        The same as `call` in a graph, where that names operations better.
    scale : float
        Size of what is added up to the value, where much of it may cancel.
    sharp : bool
        Whether the value is a softmax cross-entropy, whose gradient cancels where the softmax is near its target.
    """

    call: Callable[..., Any]
    arguments: list[Argument]
    label: str
    variables: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    owner: Any = None
    key: tuple[Any, ...] = ()
    reads: tuple[Any, ...] = ()
    notes: list[str] = field(default_factory=list)
    numpy_calls: list[str] = field(default_factory=list)
    model: Any = None
    named: Callable[..., Any] | None = None
    scale: float = 0.0
    sharp: bool = False

    def specs(self) -> list[tf.TensorSpec]:
        """What the function is traced with."""
        return [tf.TensorSpec(a.value.shape, a.dtype) for a in self.arguments]

    @property
    def moving(self) -> list[int]:
        """Numbers of the arguments that may move."""
        return [i for i, a in enumerate(self.arguments) if a.moves]

    def points(self) -> list[Array]:
        """Values of the arguments."""
        return [a.value for a in self.arguments]

    def own(self, points: Sequence[Array]) -> float:
        """What the function itself returns, called as it is."""
        found = self.call(*(tf.cast(tf.constant(p), a.dtype) for p, a in zip(points, self.arguments, strict=True)))
        return float(found)

    def own_gradients(self) -> dict[int, npt.NDArray[np.float64]]:
        """Autodiff in the precision that f has itself, by place: of arguments that move, then of variables."""
        given = [tf.cast(tf.constant(a.value), a.dtype) for a in self.arguments]
        sources = {i: given[i] for i in self.moving} | dict(enumerate(self.variables, len(given)))
        with tf.GradientTape(watch_accessed_variables=False) as gradient:
            gradient.watch(list(sources.values()))
            value = self.call(*given)
        found = gradient.gradient(value, sources, unconnected_gradients="zero")
        return {place: dense(one).numpy().astype(np.float64) for place, one in found.items()}

    def _own_error(self) -> None:
        """Raise what is wrong with f itself, as f says it."""
        try:
            self.own(self.points())
        except Exception as error:
            wide = [a.dtype for a in self.arguments if a.moves and a.dtype == tf.float64]

            def narrow(dtype: Any) -> Any:
                given = [
                    tf.cast(tf.constant(a.value), dtype if a.dtype == tf.float64 else a.dtype) for a in self.arguments
                ]
                return self.call(*given)

            if wide:
                check_takes(narrow, error)
            raise

    def trace(self) -> Any:
        """Concrete function of the value, its gradient for every argument that moves, and for every variable.

        Gradients that are not connected are None in its structured outputs.

        Raises
        ------
        fdfast.tape.NoTape
        """
        call, variables = self.call, self.variables
        moving = self.moving

        def value_and_gradients(*tensors: Any) -> Any:
            sources = [tensors[i] for i in moving]
            with tf.GradientTape(watch_accessed_variables=False) as gradient:
                for one in (*sources, *variables):
                    gradient.watch(one)
                value = call(*tensors)
            found = gradient.gradient(value, [*sources, *variables])
            return value, [None if g is None else dense(g) for g in found]

        def traced(*, autograph: bool) -> Any:
            function = tf.function(value_and_gradients, input_signature=self.specs(), autograph=autograph)
            with numpy_calls() as called:
                concrete = function.get_concrete_function()
            self.numpy_calls = list(dict.fromkeys(called))
            return concrete

        try:
            return traced(autograph=False)  # which takes a tenth of the time, see `fdfast.tape.concrete_of`
        except Exception as error:
            self._own_error()
            try:
                return traced(autograph=True)
            except Exception:
                raise NoTape(f"f cannot be traced: {first_line(error)}") from error


def flat_callable(
    f: Callable[..., Any], x: Any, kwargs: Mapping[str, Any], seed: int = 0, *, batched: bool = False
) -> Flat:
    """A callable of x, which may be a list, tuple or dict of arrays; with `batched` x is one row.

    Where it returns more than one number it is their sum, each with a random weight of its own.
    """
    given, names = flattened(x, None)
    arguments = []
    for name, one in zip(names, given, strict=True):
        array = as_array(one, name)
        if array.dtype.kind in "iub" and len(given) > 1:
            arguments.append(Argument(name, array, tf.as_dtype(array.dtype), True, array))
            continue
        values = as_floats(one, name)
        dtype = tf.as_dtype(array.dtype if array.dtype.name in ("float16", "bfloat16") else values.dtype)
        arguments.append(Argument(name, np.ascontiguousarray(values.astype(np.float64)), dtype, True, values))
    pack = packer(x, None)

    notes: list[str] = []

    def call(*tensors: Any) -> Any:
        if batched:  # one row
            found = f(pack([one[None] for one in tensors]), **kwargs)
            check_returned(found)
            return tf.reduce_sum(found)
        return projected(f(pack(tensors), **kwargs), seed, notes)

    owner = None if kwargs or seed else f
    label = getattr(f, "__name__", type(f).__name__)
    return Flat(call, arguments, label, owner=owner, key=(batched, type(x).__name__), notes=notes)


def flat_layer(layer: keras.Layer, x: Any, seed: int, *, weights: bool = True) -> Flat:
    """A layer in inference mode, of any outputs: their sum, each with a random weight.

    Parameters
    ----------
    layer : keras.Layer
    x : array_like, or list, tuple or dict of them
        As the layer takes it, with a leading axis of examples.
    seed : int
    weights : bool
        Whether the trainable variables are among what may move.
    """
    given, names = flattened(x, None)
    own = tf.float64 if layer.compute_dtype == "float64" else tf.float32
    arguments = []
    for name, one in zip(names, given, strict=True):
        array = as_array(one, name)
        if array.dtype.kind in "iub":
            arguments.append(Argument(name, array, tf.as_dtype(array.dtype), True, array))
        else:
            values = as_floats(one, name)
            arguments.append(Argument(name, np.ascontiguousarray(values.astype(np.float64)), own, True, values))
    pack, taken = packer(x, None), _takes_several(layer, x)
    notes: list[str] = []
    training = {"training": False} if getattr(layer, "_call_has_training_arg", False) else {}

    def called(given: Any) -> Any:
        if not taken:
            return layer(given, **training)
        return layer(**given, **training) if isinstance(given, dict) else layer(*given, **training)

    if not layer.built:
        called(pack([tf.cast(tf.constant(a.value), a.dtype) for a in arguments]))

    def call(*tensors: Any) -> Any:
        with keras.StatelessScope(collect_losses=True):
            return projected(called(pack(tensors)), seed, notes)

    variables = layer.trainable_variables if weights else []
    key = (seed, tuple((a.value.shape, a.dtype.name) for a in arguments))
    return Flat(
        call,
        arguments,
        layer.name,
        [v.value for v in variables],
        [v.path for v in variables],
        owner=layer,
        key=key,
        reads=(layer,),
        notes=notes,
        model=layer,
    )


def _takes_several(layer: keras.Layer, x: Any) -> bool:
    """Whether the inputs of a layer are arguments of its call, as those of attention, and not one list or dict."""
    parameters = inspect.signature(layer.call).parameters
    if isinstance(x, Mapping):
        return set(x) <= set(parameters)
    needed = [p for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return isinstance(x, list | tuple) and len(x) > 1 and len(needed) > 1


def projected(outputs: Any, seed: int, notes: list[str]) -> Any:
    """One number of all outputs: their sum, each element with a random weight of its own; of a scalar, itself."""
    check_dense(outputs)
    floating = [t for t in map(tf.convert_to_tensor, tf.nest.flatten(outputs)) if t.dtype.is_floating]
    if not floating:
        check_returned(outputs)
        raise TypeError("f returns no floating-point tensor, so it has no gradient: return the values themselves")
    if len(floating) == 1 and floating[0].shape.num_elements() == 1:
        return tf.reshape(floating[0], [])
    rng, total = np.random.default_rng(seed), None
    for one in floating:
        if one.shape.num_elements() is None:
            raise ValueError(f"f returns a tensor of unknown shape, {one.shape}: give it one by tf.ensure_shape")
        weights = rng.choice([-1.0, 1.0], one.shape) * rng.uniform(0.5, 1.0, one.shape)
        term = tf.reduce_sum(tf.cast(tf.constant(weights), one.dtype) * one)
        total = term if total is None else total + tf.cast(term, total.dtype)
    shapes = " and ".join(str(tuple(one.shape)) for one in floating)
    said = f"f returns {shapes}: what was checked is the sum over that, each element with a random weight of its own"
    if said not in notes:
        notes.append(said)
    return total
