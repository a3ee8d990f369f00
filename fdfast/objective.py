"""What is differentiated: rows in, one float64 value per row out, and the autodiff gradient beside it."""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable
from typing import Any, Literal, Protocol

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions import OverRows, Unmapped, first_line, same_values
from fdfast.losses import Loss, RowLoss, check_targets, one_hot, resolve_loss
from fdfast.shadow import NoShadow, shadow_of, structure_of
from fdfast.traced import Traced
from fdfast.variables import Snapshot

Precision = Literal["auto", "float32", "float64"]
Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
#: (rows, example numbers, context) -> one value per row
RowValues = Callable[[Any, Any, Any], Any]
_ONE_EACH = "f must return one value per row of its input"
_TAPED = 4  # gradients by an eager tape before the backward pass is traced: two checks
_KEPT = 16  # traced functions that one model keeps: a fresh lambda as loss makes a new one at every call


class Objective(Protocol):
    """A function of rows.

    Attributes
    ----------
    shape : tuple of int
        Shape of one example.
    dtype : numpy.dtype
        What rows are computed in.
    traced : RowFunction or None
        The traced form; None where rows are evaluated one by one, or by NumPy.
    row_bytes : int
        Estimate of the memory that one row in flight needs, activations included.
    notes : list of str
        What the user should know about how f is evaluated.
    model : keras.Model or None
        The model that is evaluated: the caller's, or its float64 copy.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    traced: RowFunction | None
    row_bytes: int
    notes: list[str]
    model: keras.Model | None

    def select(self, examples: Any) -> Objective:
        """Return the same objective for some of the examples, by slice or by index."""

    def values(self, rows: Array, example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """Evaluate f on rows, shape (rows, *shape); row i belongs to example ``example[i]``."""

    def gradient(self, points: Array) -> Float64 | None:
        """Autodiff gradient at points, one per example, shape (examples, *shape); None where there is none."""

    def deployed_gradient(self, points: Array) -> tuple[Float64, np.dtype[Any]] | None:
        """Compute the gradient as the model itself does, in its own dtype; None where that is `gradient`."""


class RowFunction:
    """Per-row values and gradients of a TensorFlow function; the values traced once for any number of rows.

    The loop over chunks of rows runs inside the traced function: small chunks stay in the cache, and no
    intermediate of one chunk outlives it. `sharp`, if given, is the same function with less rounding: values come
    from it, gradients from `of_rows` itself, which is what is under test.
    """

    def __init__(
        self,
        of_rows: RowValues,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        context: Any,
        sharp: RowValues | None = None,
    ) -> None:
        rows = tf.TensorSpec([None, *shape], dtype)
        index = tf.TensorSpec([None], tf.int32)
        number = tf.TensorSpec([], tf.int32)
        self._of_rows = of_rows
        self._sharp = sharp or of_rows
        self.is_sharp = sharp is not None
        self.dtype = dtype
        self.row_bytes = 0
        spec = tf.nest.map_structure(lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), context)
        self._forward = tf.function(self._values, input_signature=[rows, index, number, spec])
        self._backward = tf.function(self._gradient, input_signature=[rows, index, number, spec])
        self._at_once = tf.function(self.gradient_at_once, input_signature=[rows, index, spec])
        self._traced: dict[Any, Traced] = {}
        self.may_compile = False
        self._taped = 0

    @property
    def traces(self) -> int:
        """How often TensorFlow has traced this function."""
        return int(self._forward.experimental_get_tracing_count())

    def values(self, rows: Any, example: Any, chunk: Any, context: Any) -> Any:
        """Values of f on rows, float64, shape (rows,)."""
        return self._call(self._forward, rows, example, chunk, context)

    def gradient(self, rows: Any, example: Any, chunk: int, context: Any) -> Any:
        """Autodiff gradient of f for each row, float64, shape (rows, *shape).

        A tape in eager mode at first: there is one row per example, and tracing a backward pass costs more than many of
        them. Where `may_compile` is set, a function that is asked again and again is traced in the end.
        """
        self._taped += 1
        traced = self.may_compile and self._taped > _TAPED
        if len(rows) <= chunk:
            return self._call(self._at_once if traced else self.gradient_at_once, rows, example, context)
        return self._call(self._backward if traced else self._gradient, rows, example, tf.constant(chunk), context)

    def _call(self, function: Any, *arguments: Any) -> Any:
        if function in (self._forward, self._backward, self._at_once):
            # Ahead of the call: calls that trace make TensorFlow warn of retracing once there are five models.
            if function not in self._traced:
                self._traced[function] = Traced(function)
            function = self._traced[function]
        try:
            return function(*arguments)
        except tf.errors.InvalidArgumentError as error:
            if _ONE_EACH not in str(error):
                raise
            raise ValueError(f"{_ONE_EACH}; the number of values differs from the number of rows") from None

    def _one(self, of_rows: RowValues, rows: Any, example: Any, context: Any) -> Any:
        values = tf.convert_to_tensor(of_rows(rows, example, context))
        if not values.dtype.is_floating:
            raise TypeError(f"f returns {values.dtype.name}; it must return floating-point values")
        rank = values.shape.rank
        if rank == 0:
            raise ValueError(
                "the loss returns one scalar for the whole batch; it must return one value per row: "
                "leave out the last reduction (reduction='none', or reduce over axes 1 and up only)"
            )
        if rank is not None and rank > 1:
            if any(n != 1 for n in values.shape[1:]):
                raise ValueError(
                    f"f returns shape {tuple(values.shape)}; it must return one value per row, shape (rows,)"
                )
            values = tf.reshape(values, [-1])
        tf.debugging.assert_equal(tf.shape(values)[0], tf.shape(rows)[0], _ONE_EACH)
        return values

    def _loop(self, rows: Any, chunk: Any, body: Callable[[Any, Any], Any], dtype: Any, shape: tuple[int, ...]) -> Any:
        count = tf.shape(rows)[0]
        turns = (count + chunk - 1) // chunk
        out = tf.TensorArray(dtype, size=turns, element_shape=[None, *shape], infer_shape=False)

        def turn(i: Any, out: Any) -> Any:
            start = i * chunk
            stop = tf.minimum(start + chunk, count)
            return i + 1, out.write(i, body(start, stop))

        _, out = tf.while_loop(lambda i, _: i < turns, turn, (tf.constant(0), out), parallel_iterations=1)
        return out.concat()

    def _values(self, rows: Any, example: Any, chunk: Any, context: Any) -> Any:
        def body(start: Any, stop: Any) -> Any:
            values = self._one(self._sharp, rows[start:stop], example[start:stop], context)
            return tf.cast(values, tf.float64)

        return self._loop(rows, chunk, body, tf.float64, ())

    def _gradient(self, rows: Any, example: Any, chunk: Any, context: Any) -> Any:
        def body(start: Any, stop: Any) -> Any:
            return self.gradient_at_once(rows[start:stop], example[start:stop], context)

        shape = tuple(rows.shape[1:])
        return self._loop(rows, chunk, body, tf.float64, shape)

    def gradient_at_once(self, rows: Any, example: Any, context: Any) -> Any:
        """`gradient` of rows that are taken in one piece, on tensors; for use in another traced function, too."""
        with tf.GradientTape() as tape:
            tape.watch(rows)
            values = self._one(self._of_rows, rows, example, context)
        # Rows do not see each other, so the gradient of the sum holds each row's own gradient.
        found = tape.gradient(values, rows, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return tf.cast(found, tf.float64)


class TracedObjective:
    """An objective evaluated by TensorFlow, all rows of a chunk in one forward pass."""

    def __init__(
        self,
        traced: RowFunction,
        context: Any,
        shape: tuple[int, ...],
        row_bytes: int,
        notes: list[str],
        deployed: RowFunction | None = None,
        model: keras.Model | None = None,
        loss: Loss | None = None,
    ) -> None:
        self.traced: RowFunction | None = traced
        self._traced = traced
        self.context = context
        self._examples = next((int(t.shape[0]) for t in tf.nest.flatten(context)), None)
        self.deployed = deployed
        self.model = model
        self.loss = loss
        self.shape = shape
        self.dtype = traced.dtype
        self.row_bytes = row_bytes
        self.notes = notes
        #: Which weights the float64 copy has; None where the model itself is evaluated.
        self.version: int | None = None

    def select(self, examples: Any) -> TracedObjective:
        """Return the same objective for some of the examples."""
        if self._are_all(examples):
            return self
        some = copy.copy(self)
        if not isinstance(examples, slice):
            index = tf.constant(np.asarray(examples, np.int32))
            some.context = tf.nest.map_structure(
                lambda t: tf.raw_ops.GatherV2(params=t, indices=index, axis=0), self.context
            )
            some._examples = len(examples)
        elif self._examples is not None:
            some.context = tf.nest.map_structure(lambda t: t[examples], self.context)
            some._examples = len(range(*examples.indices(self._examples)))
        return some

    def _are_all(self, examples: Any) -> bool:
        count = self._examples
        if count is None or isinstance(examples, slice):
            return count is None or examples.indices(count) == (0, count, 1)
        return np.array_equal(examples, np.arange(count))

    def values(self, rows: Array, example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """See `Objective.values`; `rows` must be C-contiguous and 64-byte aligned (see `fdfast._core`)."""
        tensor = tf.experimental.dlpack.from_dlpack(rows.__dlpack__())
        return self.tensor_values(tensor, example, chunk)

    def tensor_values(self, rows: tf.Tensor, example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """See `values`, for rows that are a tensor already."""
        found: Float64 = self._traced.values(rows, tf.constant(example), tf.constant(chunk), self.context).numpy()
        return found

    def gradient(self, points: Array) -> Float64 | None:
        """See `Objective.gradient`."""
        return self._gradient_by(self._traced, points)

    def deployed_gradient(self, points: Array) -> tuple[Float64, np.dtype[Any]] | None:
        """See `Objective.deployed_gradient`."""
        if self.deployed is None:
            return None
        return self._gradient_by(self.deployed, points), self.deployed.dtype

    def _gradient_by(self, traced: RowFunction, points: Array) -> Float64:
        rows = tf.constant(points.reshape(-1, *self.shape), traced.dtype)
        example = tf.constant(np.arange(len(points), dtype=np.int32))
        found: Float64 = traced.gradient(rows, example, self.rows_at_once, self.context).numpy()
        return found

    @property
    def rows_at_once(self) -> int:
        """Rows that a gradient takes in one piece: the tape keeps all intermediates, some three times a forward row."""
        return max(1, (64 << 20) // (3 * self.row_bytes))


class LoopObjective:
    """A function of one example at a time, or of NumPy rows: no tracing, and autodiff only if it returns tensors."""

    traced = None
    model = None

    def __init__(
        self,
        f: Callable[..., Any],
        kwargs: dict[str, Any],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        batched: bool,
        tensors: bool,
        why: str = "",
    ) -> None:
        self._f = f
        self._kwargs = kwargs
        self._batched = batched
        self._tensors = tensors
        self.shape = shape
        self.dtype = dtype
        self.row_bytes = 2 * math.prod(shape) * dtype.itemsize
        name = getattr(f, "__name__", type(f).__name__)
        self.notes = (
            []
            if batched
            else [
                f"{name} takes one example at a time, so it was called in a loop, once per row{why and f' ({why})'}; "
                "batched=True evaluates all rows at once"
            ]
        )

    def select(self, examples: Any) -> LoopObjective:
        """Return the same objective for some of the examples: a callable has but one."""
        return self

    def values(self, rows: Array, example: npt.NDArray[np.int32], chunk: int) -> Float64:
        """See `Objective.values`."""
        rows = rows.reshape(-1, *self.shape)
        if not self._batched:
            return np.array([self._scalar(row) for row in rows])
        parts = [self._rows(rows[i : i + chunk]) for i in range(0, len(rows), chunk)]
        return np.concatenate(parts)

    def _rows(self, rows: Array) -> Float64:
        values = np.asarray(self._f(rows.copy(), **self._kwargs), np.float64)
        if values.shape == (len(rows), 1):
            values = values[:, 0]
        if values.shape != (len(rows),):
            raise ValueError(
                f"with batched=True f must return one value per row, shape ({len(rows)},); it returned shape "
                f"{values.shape}"
            )
        return values

    def _scalar(self, row: Array) -> float:
        # f gets a copy: it may keep or change what it is given.
        value = np.asarray(self._f(tf.constant(row) if self._tensors else row.copy(), **self._kwargs))
        if value.size != 1:
            raise ValueError(
                f"f must return a scalar for one x of shape {self.shape}; it returned shape {value.shape}. For a "
                "function of rows pass batched=True"
            )
        return float(value.reshape(()))

    def gradient(self, points: Array) -> Float64 | None:
        """See `Objective.gradient`."""
        if not self._tensors:
            return None
        found = []
        for point in points.reshape(-1, *self.shape):
            x = tf.constant(point)
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = self._f(x, **self._kwargs)
            found.append(
                tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO).numpy().astype(np.float64)
            )
        return np.stack(found)

    def deployed_gradient(self, points: Array) -> tuple[Float64, np.dtype[Any]] | None:
        """See `Objective.deployed_gradient`."""
        return None


_traced: weakref.WeakKeyDictionary[Any, dict[object, RowFunction]] = weakref.WeakKeyDictionary()


def _trace(owner: Any, key: object, make: Callable[[], RowFunction]) -> RowFunction:
    """Return the owner's traced function for this key, tracing it at most once while the owner lives."""
    try:
        known = _traced.setdefault(owner, {})
    except TypeError:  # an owner that is not hashable or takes no weak reference is traced anew each time
        return make()
    if key not in known:
        known[key] = make()
        while len(known) > _KEPT:
            del known[next(iter(known))]
    return known[key]


def _specs(context: Any) -> object:
    return tuple((tuple(t.shape[1:]), t.dtype) for t in tf.nest.flatten(context))


def model_objective(
    model: keras.Model,
    y: Any,
    loss: Any,
    shape: tuple[int, ...],
    examples: int,
    *,
    batched: bool,
    precision: Precision = "auto",
    now: Snapshot | None = None,
) -> TracedObjective:
    """Loss of a Keras model in inference mode, as a function of its input rows.

    Parameters
    ----------
    model : keras.Model
        One input, one output.
    y : array_like
        Target, or with `batched` one per example.
    loss : str, keras.losses.Loss, callable or None
        See `fdfast.losses.resolve_loss`.
    shape : tuple of int
        Shape of one example.
    examples : int
    batched : bool
        Whether x and y came with a leading batch axis.
    precision : {"auto", "float32", "float64"}
        ``"float64"`` evaluates a float64 copy of the model, ``"float32"`` the model itself. ``"auto"`` takes the
        copy where one can be made and otherwise the model, with a note that says why.
    now : Snapshot, optional
        What was read of the model's variables a moment ago, to be spared reading them again.

    Returns
    -------
    TracedObjective

    Raises
    ------
    TypeError, ValueError
        The model has several inputs or outputs, x or y do not fit, or no float64 copy can be made although asked for.
    """
    resolved = resolve_loss(loss, model)
    _check_inputs(model, shape)
    own = np.dtype(np.float64 if _is_float64(model) else np.float32)
    notes: list[str] = []
    evaluated, version = model, None
    if precision != "float32" and own != np.float64:
        try:
            shadow = shadow_of(model, shape, now)
            evaluated, version = shadow.model, shadow.version
        except NoShadow as error:
            if precision == "float64":
                raise ValueError(
                    f"precision='float64' needs a float64 copy of the model: {error}. precision='float32' uses the "
                    "model as it is"
                ) from None
            notes.append(f"evaluated in {model.compute_dtype}, because {error}")
    if model.compute_dtype not in ("float32", "float64"):
        notes.append(
            f"the model computes in {model.compute_dtype}; rows are built in "
            f"{own.name if evaluated is model else 'float64'}"
        )
    dtype = own if evaluated is model else np.dtype(np.float64)
    output = _output_shape(evaluated, shape, dtype)
    targets = check_targets(y, resolved, output, examples, batched)
    if targets.dtype.kind == "f" or resolved.kind == "dense":
        targets = targets.astype(np.float64)
    context = tf.constant(targets)
    sharp = (
        resolved.sharp if dtype == np.float64 and resolved.sharp is not None and one_hot(targets, resolved) else None
    )
    loss_key = resolved.key if _hashable(resolved.key) else id(resolved.key)
    key = (loss_key, shape, _specs(context), structure_of(model))
    traced = _trace(
        model,
        (*key, dtype.name, sharp is not None),
        lambda: RowFunction(
            _model_rows(evaluated, resolved.of_rows),
            shape,
            dtype,
            context,
            _model_rows(evaluated, sharp) if sharp else None,
        ),
    )
    deployed = None
    if evaluated is not model:
        deployed = _trace(
            model, (*key, own.name), lambda: RowFunction(_model_rows(model, resolved.of_rows), shape, own, context)
        )
    if not traced.row_bytes:
        traced.row_bytes = _row_bytes(evaluated, shape, dtype)
    traced.may_compile = True
    if deployed is not None:
        deployed.may_compile = True
    found = TracedObjective(traced, context, shape, traced.row_bytes, notes, deployed, evaluated, resolved)
    found.version = version
    return found


def _model_rows(model: keras.Model, loss: RowLoss) -> RowValues:
    # The model owns the cache that this closure lives in: a strong reference would keep both alive for ever.
    weak = weakref.ref(model)

    def of_rows(rows: Any, example: Any, targets: Any) -> Any:
        alive = weak()
        assert alive is not None, "the model was deleted during its own evaluation"
        prediction = alive(rows, training=False)
        if prediction.dtype in (tf.float16, tf.bfloat16):
            prediction = tf.cast(prediction, tf.float32)  # as Keras does before it computes a loss
        target = tf.gather(targets, example)
        return loss(tf.cast(target, prediction.dtype) if target.dtype.is_floating else target, prediction)

    return of_rows


def _is_float64(model: keras.Model) -> bool:
    # A functional model's own policy says nothing about its layers.
    inside = [name for w in model.weights if "float" in (name := str(w.dtype))]
    if getattr(model, "inputs", None):
        inside += [t.dtype for t in (*model.inputs, *model.outputs)]
    else:
        inside.append(model.compute_dtype)
    return all(dtype == "float64" for dtype in inside)


def _hashable(key: object) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def _check_inputs(model: keras.Model, shape: tuple[int, ...]) -> None:
    inputs = getattr(model, "inputs", None)
    if inputs and len(inputs) != 1:
        raise TypeError(
            f"{model.name!r} has {len(inputs)} inputs; only models with one input are supported: wrap it in a "
            "callable that fixes the others"
        )
    if not inputs:
        return
    if not tf.as_dtype(inputs[0].dtype).is_floating:
        raise TypeError(
            f"{model.name!r} takes {inputs[0].dtype} input, which has no derivative: check from the first "
            "floating-point layer on"
        )
    wanted = tuple(inputs[0].shape[1:])
    if len(wanted) != len(shape) or any(w is not None and w != n for w, n in zip(wanted, shape, strict=True)):
        raise ValueError(f"x has shape {shape} per example; {model.name!r} takes {wanted}")
    if inputs[0].shape[0] is not None:
        raise ValueError(
            f"{model.name!r} is built for batches of {inputs[0].shape[0]}; build it without batch_size, rows come "
            "in any number"
        )


def _output_shape(model: keras.Model, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int | None, ...]:
    known = getattr(model, "output_shape", None) if getattr(model, "inputs", None) else None
    if known is None or None in known[1:]:
        output = model(tf.zeros((1, *shape), dtype), training=False)
        if not tf.is_tensor(output):
            raise TypeError(
                f"{model.name!r} returns {type(output).__name__}; only models with one output tensor are supported"
            )
        known = tuple(output.shape)
    if not isinstance(known, tuple):
        raise TypeError(
            f"{model.name!r} has several outputs; only models with one output are supported: pick one with keras.Model"
        )
    return tuple(known[1:])


def _row_bytes(model: keras.Model, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Memory of one row in flight: input and output of the widest layer, and once more for a temporary."""
    shapes = []
    for layer in model._flatten_layers(include_self=False):
        for tensor in tf.nest.flatten([layer.input, layer.output] if layer._inbound_nodes else []):
            shapes.append(tuple(tensor.shape[1:]))
    if not shapes or any(None in s for s in shapes):
        # A subclassed model, or inputs of any size: only a forward pass knows.
        spec = tf.TensorSpec((1, *shape), dtype)
        graph = tf.function(lambda rows: model(rows, training=False)).get_concrete_function(spec).graph
        found = [t.shape for op in graph.get_operations() for t in op.outputs if t.dtype.is_floating]
        shapes = [tuple(s) for s in found if s.rank is not None and None not in s and s.rank and s[0] == 1]
    widest: int = max(math.prod(s) for s in (shape, *shapes))
    return 3 * widest * dtype.itemsize


def callable_objective(
    f: Callable[..., Any],
    kwargs: dict[str, Any],
    points: Array,
    shape: tuple[int, ...],
    *,
    batched: bool,
) -> TracedObjective | LoopObjective:
    """Objective of a callable: traced if it is a TensorFlow function of rows or of one example, else called as it is.

    A TensorFlow function of one example goes over all rows by `tf.vectorized_map`; if it cannot be traced, or its
    traced form gives another value at the first example than itself, it is called row by row, and a note says so.

    Parameters
    ----------
    f : callable
        Of one example, returning a scalar; or with `batched` of rows (rows, *shape), returning (rows,). It may
        take TensorFlow tensors or NumPy arrays; which one is found by calling it once with the first example.
    kwargs : dict
        Further arguments of f.
    points : ndarray, shape (examples, size)
    shape : tuple of int
    batched : bool
    """
    dtype = points.dtype
    first = points[:1].reshape(1, *shape) if batched else points[0].reshape(shape)
    value = _tensor_of(f, kwargs, first)
    if value is None:
        return LoopObjective(f, kwargs, shape, dtype, batched=batched, tensors=False)
    row_bytes = 64 * math.prod(shape) * dtype.itemsize
    over = OverRows()

    def apply(f: Callable[..., Any], rows: Any) -> Any:
        if batched:
            return f(rows, **kwargs)
        if tf.executing_eagerly():  # for the gradient: that of f as it is, not of its batched form
            return tf.stack([_scalar_tensor(f(row, **kwargs), shape) for row in tf.unstack(rows)])
        return over(lambda row: _scalar_tensor(f(row, **kwargs), shape), rows)

    def of_rows(rows: Any, example: Any, context: Any) -> Any:
        return apply(f, rows)

    def alone(rows: Any, example: Any, context: Any) -> Any:
        alive = weak()
        assert alive is not None, "the function was deleted during its own evaluation"
        return apply(alive, rows)

    if kwargs or not isinstance(f, tf.types.experimental.PolymorphicFunction):
        # Traced anew at each call: f may read what has changed since, a constant or a helper that was mended.
        traced = RowFunction(of_rows, shape, dtype, ())
    else:
        weak = weakref.ref(f)
        traced = _trace(f, (shape, dtype.name, batched), lambda: RowFunction(alone, shape, dtype, ()))
    found = TracedObjective(traced, (), shape, row_bytes, [])
    if batched:
        return found
    value = _scalar_tensor(value, shape)
    if not value.dtype.is_floating:
        return LoopObjective(f, kwargs, shape, dtype, batched=False, tensors=True)
    try:
        # Three rows: a single one may be broadcast.
        rows = found.tensor_values(tf.constant(np.stack([first] * 3)), np.zeros(3, np.int32), 3)
        if not same_values(tf.cast(rows[0], value.dtype), value):
            raise Unmapped(
                "its traced form gives another value at x; it may draw random numbers, keep state in Python, or use an "
                "operation that TensorFlow batches wrongly"
            )
    except Exception as error:
        return LoopObjective(f, kwargs, shape, dtype, batched=False, tensors=True, why=first_line(error))
    if over.row_bytes:
        traced.row_bytes = over.row_bytes
    found.row_bytes = traced.row_bytes or row_bytes
    if over.looped:
        found.notes.append(
            f"{', '.join(over.looped)} cannot be batched by TensorFlow and ran row by row, inside the traced function"
        )
    return found


def _scalar_tensor(value: Any, shape: tuple[int, ...]) -> Any:
    """The one number that f returns for one x."""
    value = tf.convert_to_tensor(value)
    if value.shape.num_elements() not in (1, None):
        raise ValueError(
            f"f must return a scalar for one x of shape {shape}; it returned shape {tuple(value.shape)}. For a "
            "function of rows pass batched=True, for several outputs use fdfast.jacobian"
        )
    return tf.reshape(value, [])


def _tensor_of(f: Callable[..., Any], kwargs: dict[str, Any], first: Array) -> Any:
    """What f returns for a tensor, if that is a tensor; else None."""
    try:
        value = f(tf.constant(first), **kwargs)
    except Exception:
        # If it takes no arrays either, that error is the one to show: TensorFlow functions take arrays.
        f(first.copy(), **kwargs)
        return None
    return value if tf.is_tensor(value) else None
