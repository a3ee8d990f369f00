"""The loss of a model as a function of flat inputs and of its weights."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.arguments import Argument, model_arguments
from fdfast.functions.flat import Flat
from fdfast.functions.losses import Loss, check_targets, one_hot, resolve_loss
from fdfast.functions.unchanged import present

Array = npt.NDArray[Any]


def flat_model(
    model: keras.Model, x: Any, y: Any, loss: Any, *, mean: bool, weights: bool = True, added: bool = True
) -> Flat:
    """Loss of a model in inference mode: the sum over the examples, or their mean, with what layers add to it.

    Parameters
    ----------
    model : keras.Model
        Any number of inputs and outputs.
    x : array_like, or list, tuple or dict of them
        As the model takes it, or one example without the leading axis.
    y : array_like, or list or dict of them
        Target for each output.
    loss : str, keras.losses.Loss, callable, or list or dict of them
        For each output; None takes what the model was compiled with.
    mean : bool
        Average over the examples, as training does, rather than sum.
    weights : bool
        Whether the trainable variables are among what may move.
    added : bool
        False leaves out what layers and weights add.
    """
    arguments, pack, examples, batched = model_arguments(model, x, weights=weights)
    specs = [tf.TensorSpec(a.value.shape, a.dtype) for a in arguments]
    outputs = _outputs(model, pack, specs)
    terms, targets = _terms(model, outputs, y, loss, examples, batched)
    inputs = len(arguments)
    arguments += [Argument("y", t, tf.as_dtype(t.dtype), True, t, held=True) for t in targets]
    penalised = [v for v in model.trainable_variables if getattr(v, "regularizer", None) is not None]

    def call(*tensors: Any) -> Any:
        with keras.StatelessScope(collect_losses=True) as scope:
            found = tf.nest.flatten(_called(model, pack(tensors[:inputs])))
            total: Any = 0.0
            for term, target in zip(terms, tensors[inputs:], strict=True):
                prediction = found[term.output]
                if prediction.dtype in (tf.float16, tf.bfloat16):
                    prediction = tf.cast(prediction, tf.float32)  # as Keras does before it computes a loss
                goal = tf.cast(target, prediction.dtype) if target.dtype.is_floating else target
                rows = tf.cast(term.loss.of_rows(goal, prediction), prediction.dtype)
                rows = tf.reduce_sum(rows)
                total += (rows / examples if mean and not term.loss.sums else rows) * term.weight
        more = [*scope.losses, *(v.regularizer(v) for v in penalised)] if mean or examples == 1 else scope.losses
        for one in more if added else []:
            total += tf.cast(tf.reduce_sum(one), total.dtype) * (1.0 if mean else float(examples))
        return total

    shape_key = tuple((a.value.shape, a.dtype.name) for a in arguments)
    variables = model.trainable_variables if weights else []
    return Flat(
        call,
        arguments,
        model.name,
        [v.value for v in variables],
        [v.path for v in variables],
        owner=model,
        key=(shape_key, mean, added, *((t.weight, t.loss.identity) for t in terms)),
        reads=(model, *(t.loss.original for t in terms)),
        model=model,
        sharp=any(
            t.loss.sharp is not None and one_hot(target, t.loss) for t, target in zip(terms, targets, strict=True)
        ),
    )


@dataclass(frozen=True)
class _Term:
    """One output's part in the loss."""

    output: int
    loss: Loss
    weight: float


def _called(model: Any, x: Any) -> Any:
    training = {"training": False} if getattr(model, "_call_has_training_arg", True) else {}
    return model(x, **training)


def _outputs(model: Any, pack: Callable[..., Any], specs: list[tf.TensorSpec]) -> Any:
    """Structure of the model's outputs, as tensor specifications."""
    graph = getattr(model, "_functional", model)  # a Sequential model keeps one inside
    known = getattr(graph, "_outputs_struct", None)
    if known is not None and all(None not in tuple(t.shape)[1:] for t in tf.nest.flatten(known)):
        return tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), known)

    state, given = present(model), [(tuple(s.shape), s.dtype) for s in specs]
    kept = _structures.get(model)
    if kept is not None and kept[0] is state and kept[1] == given:
        return kept[2]

    def run(*tensors: Any) -> Any:
        with keras.StatelessScope(collect_losses=True):
            return _called(model, pack(tensors))

    found = tf.function(run, input_signature=specs, autograph=False).get_concrete_function().structured_outputs
    structure = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), found)
    _structures[model] = present(model), given, structure  # which the call may have built
    return structure


_structures: weakref.WeakKeyDictionary[Any, tuple[Any, Any, Any]] = weakref.WeakKeyDictionary()


def _terms(
    model: Any, outputs: Any, y: Any, loss: Any, examples: int, batched: bool
) -> tuple[list[_Term], list[Array]]:
    flat = tf.nest.flatten(outputs)
    if loss is None and isinstance(getattr(model, "loss", None), dict | list | tuple) and model.compiled:
        loss = model.loss
    if len(flat) == 1 and not isinstance(loss, dict | list | tuple):
        resolved = resolve_loss(loss, model)
        target = check_targets(_only(y), resolved, tuple(flat[0].shape[1:]), examples, batched)
        return [_Term(0, resolved, 1.0)], [_as_target(target, resolved)]
    names = list(outputs) if isinstance(outputs, dict) else list(getattr(model, "output_names", []) or [])
    names = names if len(names) == len(flat) else [str(i) for i in range(len(flat))]
    losses = _by_output(loss, names, "loss", model)
    targets = _by_output(y, names, "y", model)
    shares = getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None)
    weights = _by_output(shares, names, "loss_weights", model) if shares is not None else dict.fromkeys(names, 1.0)
    terms, held = [], []
    for i, name in enumerate(names):
        if losses.get(name) is None:
            continue
        resolved = resolve_loss(losses[name], model)
        target = check_targets(targets.get(name), resolved, tuple(flat[i].shape[1:]), examples, batched)
        terms.append(_Term(i, resolved, float(weights.get(name) or 1.0)))
        held.append(_as_target(target, resolved))
    if not terms:
        raise ValueError(f"{model.name!r} has the outputs {', '.join(names)}, and no loss for any of them: pass loss=")
    return terms, held


def _as_target(target: Array, loss: Loss) -> Array:
    return target.astype(np.float64) if target.dtype.kind == "f" or loss.kind == "dense" else target


def _only(y: Any) -> Any:
    if isinstance(y, dict) and len(y) == 1:
        return next(iter(y.values()))
    return y


def _by_output(given: Any, names: list[str], what: str, model: Any) -> dict[str, Any]:
    """One entry for each output, by name."""
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise ValueError(f"{what} names {', '.join(unknown)}; {model.name!r} has the outputs {', '.join(names)}")
        return dict(given)
    if isinstance(given, list | tuple):
        if len(given) != len(names):
            raise ValueError(f"{what} has {len(given)} entries; {model.name!r} has {len(names)} outputs")
        return dict(zip(names, given, strict=True))
    if given is None or what == "y":
        raise ValueError(f"{what} needs a list or dict with an entry for each of the outputs {', '.join(names)}")
    return dict.fromkeys(names, given)
