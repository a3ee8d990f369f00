"""The loss of a Keras model as an objective."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.losses import RowLoss, check_targets, one_hot, resolve_loss
from fdfast.functions.objective import TracedObjective
from fdfast.functions.over_rows import agreement
from fdfast.functions.row_function import RowFunction, RowValues, forget_traces, trace
from fdfast.functions.shadow import NoShadow, forget_copy, shadow_of
from fdfast.functions.unchanged import forget_state, present
from fdfast.functions.variables import Snapshot
from fdfast.moves import Precision
from fdfast.tape import PythonCode

_ASKED = 4  # examples at which a model is called to see that it is what it was


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
    x: npt.NDArray[Any] | None = None,
) -> TracedObjective:
    """Loss of a Keras model in inference mode, as a function of its input rows.

    Parameters
    ----------
    model : keras.Model
        One input, one output.
    y : array_like
        Target, or with `batched` one per example.
    loss : str, keras.losses.Loss, callable or None
        See `fdfast.functions.losses.resolve_loss`.
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
    x : ndarray, optional
        The examples. With code of the user's own in the model or the loss, what was kept of them is held against the
        model itself there, called eagerly: such code may read what nobody can see.

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
    evaluated, version, built, state = model, None, model.built, present(model)
    own = _fact(state, "own", lambda: _own_dtype(model))
    notes: list[str] = []
    why = ""
    if precision != "float32" and own != np.float64:
        try:
            shadow = shadow_of(model, shape, now, state)
            evaluated, version = shadow.model, shadow.version
        except NoShadow as error:
            if precision == "float64":
                raise ValueError(
                    f"precision='float64' needs a float64 copy of the model: {error}. precision='float32' uses the "
                    "model as it is"
                ) from None
            why = f"evaluated in {model.compute_dtype}, because {error}"
            notes.append(why)
    if model.compute_dtype not in ("float32", "float64"):
        notes.append(
            f"the model computes in {model.compute_dtype}; rows are built in "
            f"{own.name if evaluated is model else 'float64'}"
        )
    dtype = own if evaluated is model else np.dtype(np.float64)
    output = _fact(state, (shape, dtype), lambda: _output_shape(evaluated, shape, dtype))
    if not built:
        state = present(model)  # it has been called by now, which builds it
    targets = check_targets(y, resolved, output, examples, batched)
    if targets.dtype.kind == "f" or resolved.kind == "dense":
        targets = targets.astype(np.float64)
    context = tf.constant(targets)
    sharp = (
        resolved.sharp if dtype == np.float64 and resolved.sharp is not None and one_hot(targets, resolved) else None
    )
    of_loss = present(resolved.original)
    key = (resolved.identity, of_loss, shape, _specs(context))
    traced = trace(
        model,
        state,
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
        deployed = trace(
            model,
            state,
            (*key, own.name),
            lambda: RowFunction(_model_rows(model, resolved.of_rows), shape, own, context),
        )
    seen_before = bool(traced.row_bytes)
    if not traced.row_bytes:
        traced.row_bytes = _row_bytes(evaluated, shape, dtype)
    # Where a change may go unseen, a gradient is asked of the layers themselves each time.
    traced.may_compile = state.complete and of_loss.complete
    if deployed is not None:
        deployed.may_compile = traced.may_compile
    found = TracedObjective(traced, context, shape, traced.row_bytes, notes, deployed, evaluated, resolved)
    found.version, found.narrow_because = version, why
    told = state.in_sight and of_loss.in_sight
    if x is not None and seen_before and not told and not _is_as_it_was(found, model, resolved.of_rows, x):
        for forget in (forget_copy, forget_traces, forget_state):
            forget(model)
        return model_objective(model, y, loss, shape, examples, batched=batched, precision=precision, now=now)
    return found


def _is_as_it_was(objective: TracedObjective, model: keras.Model, loss: RowLoss, x: npt.NDArray[Any]) -> bool:
    """Whether the model, called eagerly, has the losses that are kept of it, at some of the examples."""
    rows = x.reshape(-1, *objective.shape)[:_ASKED]
    example = np.arange(len(rows), dtype=np.int32)
    own = _own_dtype(model)
    now = tf.reshape(_model_rows(model, loss)(tf.constant(rows, own), tf.constant(example), objective.context), [-1])
    try:
        kept = objective.tensor_values(tf.constant(rows, objective.dtype), example, len(rows))
    except PythonCode:  # it insists on the model's own precision, in which it is looked at next
        if objective.dtype == own:
            raise
        return True
    narrow = min(now.dtype, tf.as_dtype(model.compute_dtype), key=lambda dtype: dtype.size)
    values = tf.cast(now, tf.float64).numpy()
    scale = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    return agreement(kept, values, scale, narrow.as_numpy_dtype)


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


def _own_dtype(model: keras.Model) -> np.dtype[Any]:
    # A functional model's own policy says nothing about its layers.
    inside = [name for w in model.weights if "float" in (name := str(w.dtype))]
    if getattr(model, "inputs", None):
        inside += [t.dtype for t in (*model.inputs, *model.outputs)]
    else:
        inside.append(model.compute_dtype)
    return np.dtype(np.float64 if all(dtype == "float64" for dtype in inside) else np.float32)


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
        keeping = [one.name for one in model._flatten_layers() if getattr(one, "stateful", False) is True]
        also = f", and {', '.join(keeping)} with stateful=False; the copy takes its weights" if keeping else ""
        raise ValueError(
            f"{model.name!r} is built for batches of {inputs[0].shape[0]}; build it without batch_size, rows come "
            f"in any number{also}"
        )


#: What has been found of models in a state.
_facts: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


def _fact(state: Any, what: Any, find: Callable[[], Any]) -> Any:
    """Something that a model is, found once while it stays as it is."""
    known = _facts.setdefault(state, {})
    if what not in known:
        known[what] = find()
    return known[what]


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


def _specs(context: Any) -> object:
    return tuple((tuple(t.shape[1:]), t.dtype) for t in tf.nest.flatten(context))
