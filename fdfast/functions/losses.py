"""Which loss, against which target, one value per row."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.returned import check_returned
from fdfast.moves import as_array, check_fits

RowLoss = Callable[[Any, Any], Any]
#: Losses of Keras whose target has a shape that the output does not tell: sequences of labels, or labels of embeddings.
_OF_THEIR_OWN = {"ctc", "circle"}
_TINY = float(np.finfo(np.float32).tiny)  # a probability that has a logarithm in every precision


@dataclass(frozen=True)
class Loss:
    """A loss that gives one value per row, and what it expects as a target.

    Attributes
    ----------
    name : str
    key : object
        Equal keys mean the same computation, so a traced function may be used again.
    of_rows : callable
        (target rows, prediction rows) -> tensor of shape (rows,).
    kind : {"classes", "dense", "custom"}
        Target: class numbers; an array of the prediction's shape; or whatever a user's own loss takes.
    sharp : callable or None
        The same formula as `of_rows` for one-hot targets, without its cancellation.
    margin : callable or None
        For the same losses `margin_loss`, which does not saturate; of probabilities where no logits are found.
    original : object
        The Keras function or object, or the user's callable.
    sums : bool
        Whether what is left per example is summed rather than averaged.
    """

    name: str
    key: object
    of_rows: RowLoss
    kind: str
    sharp: RowLoss | None = None
    margin: RowLoss | None = None
    original: object = None
    sums: bool = False

    @property
    def identity(self) -> object:
        """Key, or where that cannot be hashed a number of its own: what a trace is kept by."""
        try:
            hash(self.key)
        except TypeError:
            return id(self.key)
        return self.key


def resolve_loss(loss: Any, model: keras.Model) -> Loss:
    """Turn a loss argument into a per-row loss.

    Parameters
    ----------
    loss : str, keras.losses.Loss, callable or None
        A Keras name, loss object or function; a callable (y, prediction) -> one value per row; None takes the
        loss the model was compiled with.
    model : keras.Model

    Raises
    ------
    TypeError, ValueError
        There is no loss, or it is not of these kinds.
    """
    if loss is None:
        loss = getattr(model, "loss", None) if getattr(model, "compiled", False) else None
        if loss is None:
            raise ValueError(
                "loss is missing and the model was not compiled with one: "
                "pass loss='categorical_crossentropy' or the like"
            )
    if isinstance(loss, dict | list | tuple):
        raise TypeError(
            "several losses (one per output) go with gradcheck(..., check='directions'); here pass, in the place of "
            "the "
            "model, a function of x that calls it and adds the losses up"
        )
    key = loss
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            raise ValueError(f"loss={loss!r} is not the name of a Keras loss") from None
    if isinstance(loss, type):
        raise TypeError(f"loss is the class {loss.__name__}; pass an object of it: {loss.__name__}()")
    if isinstance(loss, keras.losses.Loss):
        reduction = getattr(loss, "reduction", "sum_over_batch_size")
        return _keras(key if isinstance(key, str) else loss.name, key, loss, loss.call, mean=reduction != "sum")
    if callable(loss):
        name = getattr(loss, "__name__", type(loss).__name__)
        if getattr(loss, "__module__", "").startswith("keras."):
            return _keras(key if isinstance(key, str) else name, key, loss, loss, mean=True)
        check_fits(loss, f"the loss {name!r}", None, None)
        own = loss

        def of_rows(target: Any, prediction: Any) -> Any:
            values = own(target, prediction)
            check_returned(values, f"the loss {name!r}")
            return values

        return Loss(name, key, of_rows, "custom", original=loss)
    raise TypeError(f"loss must be a name, a Keras loss, a callable or None, got {type(loss).__name__}")


def softmax_loss(target: Any, logits: Any) -> Any:
    """Cross-entropy of one-hot targets from logits to full relative precision, however small it is.

    ``log sum_k exp(z_k) - z_y`` loses the digits of a loss near zero: the sum is rounded next to its largest term.
    With t_k = z_k - z_y over the other classes, the same number is ``log1p(sum_{k != y} exp(t_k))``; shifted by the
    largest t_k where that is positive, so that nothing overflows.
    """
    hot = target > 0
    own = tf.reduce_sum(tf.where(hot, logits, tf.zeros_like(logits)), axis=-1, keepdims=True)
    others = tf.where(hot, tf.fill(tf.shape(logits), tf.constant(-np.inf, logits.dtype)), logits - own)
    top = tf.nn.relu(tf.reduce_max(others, axis=-1, keepdims=True))
    rest = tf.reduce_sum(tf.exp(others - top), axis=-1)
    top = tf.squeeze(top, -1)
    return top + tf.math.log1p(rest + tf.math.expm1(-top))


def margin_loss(target: Any, logits: Any) -> Any:
    """``log sum_{k != y} exp(z_k) - z_y``, of which a cross-entropy is ``log(1 + exp(.))``.

    The gradients of both point the same way, and this one is never too small for the numbers that hold it.
    """
    hot = target > 0
    own = tf.reduce_sum(tf.where(hot, logits, tf.zeros_like(logits)), axis=-1)
    others = tf.where(hot, tf.fill(tf.shape(logits), tf.constant(-np.inf, logits.dtype)), logits)
    return tf.reduce_logsumexp(others, axis=-1) - own


def one_hot(targets: npt.NDArray[Any], loss: Loss) -> bool:
    """Whether every target names one class."""
    if loss.kind == "classes":
        return True
    return bool(((targets == 0) | (targets == 1)).all() and (targets.sum(axis=-1) == 1).all())


def _by_logits(loss: Any, function: RowLoss) -> tuple[RowLoss | None, RowLoss | None]:
    """`softmax_loss` and `margin_loss` for Keras' cross-entropies, where these are that formula; else None."""
    sparse = (
        loss is keras.losses.sparse_categorical_crossentropy or type(loss) is keras.losses.SparseCategoricalCrossentropy
    )
    dense = loss is keras.losses.categorical_crossentropy or type(loss) is keras.losses.CategoricalCrossentropy
    config = settings_of(loss) if isinstance(loss, keras.losses.Loss) else {}
    plain = not config.get("label_smoothing") and config.get("axis", -1) == -1 and config.get("ignore_class") is None
    if not ((sparse or dense) and plain and is_stock(loss)):
        return None, None

    def logits_of(prediction: Any) -> Any:
        # Keras prefers the logits behind a softmax even where from_logits is set.
        found = _logits_behind(prediction)
        return prediction if found is None and config.get("from_logits") else found

    def hot(target: Any, logits: Any) -> Any:
        return tf.one_hot(target, logits.shape[-1], dtype=logits.dtype) if sparse else target

    def sharp(target: Any, prediction: Any) -> Any:
        logits = logits_of(prediction)
        if logits is None or logits.shape.rank != 2:
            return function(target, prediction)
        return softmax_loss(hot(target, logits), logits)

    def margin(target: Any, prediction: Any) -> Any:
        logits = logits_of(prediction)
        if logits is None:
            logits = tf.math.log(tf.maximum(prediction, _TINY))
        return margin_loss(hot(target, logits), logits)

    return sharp, margin


def settings_of(loss: keras.losses.Loss) -> dict[str, Any]:
    """Settings that a Keras loss computes with; those of its configuration may have been set since, to no effect."""
    return {**loss.get_config(), **getattr(loss, "_fn_kwargs", {})}


def is_stock(loss: Any) -> bool:
    """Whether a loss of one of Keras' classes still computes what its class says."""
    if not isinstance(loss, keras.losses.Loss) or not hasattr(loss, "fn"):
        return True
    kind: Any = type(loss)
    return "call" not in vars(loss) and loss.fn is _function_of(kind)


@functools.cache
def _function_of(kind: Any) -> Any:
    try:
        return kind().fn
    except TypeError:  # a class of the user's own
        return None


def _logits_behind(prediction: Any) -> Any:
    """Find the logits as Keras' cross-entropies do: where they are not found, Keras clips probabilities at 1e-7."""
    marked = getattr(prediction, "_keras_logits", None)
    if marked is None and not tf.executing_eagerly() and prediction.op.type == "Softmax":
        marked = prediction.op.inputs[0]
    return marked


def _keras(name: str, key: object, original: Any, function: RowLoss, *, mean: bool) -> Loss:
    def of_rows(target: Any, prediction: Any) -> Any:
        values = function(target, prediction)
        weights = _mask_weights(prediction, values)
        if weights is not None:
            values = values * weights
        if values.shape.rank is None or values.shape.rank < 2:
            return values
        # What is left per example (pixels of a segmentation, say) is what the reduction runs over.
        axes = list(range(1, values.shape.rank))
        total = tf.reduce_sum(values, axis=axes)
        if not mean:
            return total
        count = tf.ones_like(values) if weights is None else weights
        return tf.math.divide_no_nan(total, tf.reduce_sum(count, axis=axes))

    kind = "classes" if _takes_classes(original) else "dense"
    if name.lower() in _OF_THEIR_OWN:
        kind = "custom"
    if not str(getattr(function, "__module__", "")).startswith("keras."):
        kind = "custom"
    sharp, margin = (None, None) if kind == "custom" else _by_logits(original, of_rows)
    return Loss(name, key, of_rows, kind, sharp, margin, original, not mean)


def _mask_weights(prediction: Any, values: Any) -> Any:
    """1 where Keras counts a value and 0 where a mask (of a layer, or of ignore_class) hides it; None without one."""
    masks = [m for m in (getattr(t, "_keras_mask", None) for t in (prediction, values)) if m is not None]
    if not masks:
        return None
    return tf.cast(tf.reduce_all(tf.stack(masks), axis=0), values.dtype)


def _takes_classes(original: Any) -> bool:
    """Whether the target of a Keras loss is class numbers instead of an array like the prediction."""
    names = ("SparseCategoricalCrossentropy", "CategoricalGeneralizedCrossEntropy")  # the second: Keras 3.8 and later
    functions = ("sparse_categorical_crossentropy", "categorical_generalized_cross_entropy")
    if isinstance(original, keras.losses.Loss):
        return any(known.__name__ in names for known in type(original).__mro__)
    return getattr(original, "__name__", None) in functions


def check_targets(y: Any, loss: Loss, output: tuple[int | None, ...], examples: int, batched: bool) -> npt.NDArray[Any]:
    """Bring the target into rows, one per example, and see that it fits the loss and the model's output.

    Parameters
    ----------
    y : array_like
        One target, or with `batched` one per example.
    loss : Loss
    output : tuple
        Shape of the prediction for one example.
    examples : int
    batched : bool

    Raises
    ------
    TypeError, ValueError
        y is missing, not numeric, of the wrong shape, or has class numbers that do not exist.
    """
    if y is None:
        raise TypeError(f"y is missing: the loss {loss.name!r} needs a target for each example")
    given = as_array(y, "y")
    if given.dtype.kind not in "biuf":
        raise TypeError(f"y must be numeric, got dtype {given.dtype}")
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise ValueError("y contains NaN or infinity")
    # np.ascontiguousarray would make a vector of a scalar.
    rows: npt.NDArray[Any] = given.astype(given.dtype.newbyteorder("="), order="C")
    if not batched and not (rows.ndim == len(output) + 1 and len(rows) == 1 and loss.kind == "dense"):
        rows = rows[None]
    if rows.ndim == 0 or len(rows) != examples:
        got = rows.shape[0] if rows.ndim else "no"
        raise ValueError(f"y has {got} targets for {examples} examples of x")
    if loss.kind == "classes":
        return _check_classes(rows, loss, output)
    if loss.kind == "dense" and output[-1:] == (1,) and rows.shape[1:] == output[:-1]:
        return rows[..., None]
    if loss.kind == "dense" and rows.shape[1:] != output:
        hint = ""
        if rows.shape[1:] == output[:-1] and output[-1] != 1:
            hint = (
                "; class numbers go with 'sparse_categorical_crossentropy', "
                f"or use keras.utils.to_categorical(y, {output[-1]})"
            )
        raise ValueError(
            f"y has shape {rows.shape[1:]} per example, the model's output has {output} and the loss {loss.name!r} "
            f"compares them element by element{hint}"
        )
    return rows


def _check_classes(y: npt.NDArray[Any], loss: Loss, output: tuple[int | None, ...]) -> npt.NDArray[Any]:
    if y.ndim == len(output) + 1 and y.shape[-1] == 1:
        y = y[..., 0]
    if y.shape[1:] != output[:-1]:
        raise ValueError(
            f"y has shape {y.shape[1:]} per example; the loss {loss.name!r} takes class numbers of shape {output[:-1]} "
            f"(one-hot targets go with 'categorical_crossentropy')"
        )
    numbers = y.astype(np.int64)
    classes = output[-1]
    if (numbers != y).any() or (numbers < 0).any() or (classes is not None and (numbers >= classes).any()):
        raise ValueError(f"y must hold class numbers 0 .. {(classes or 0) - 1}, got values from {y.min()} to {y.max()}")
    return numbers
