"""The gradient past the layers that hide it: forward as they are, backward as if they were not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.attack.subject import Subject
from fdfast.functions import Scored

_TRIED = 4  # examples at which a layer is looked at


def hiding_layers(model: Any, points: npt.NDArray[Any]) -> list[Any]:
    """Layers of a Sequential model that keep the shape and pass no gradient, or zeros, at the points.

    Raises
    ------
    ValueError
        The model is none of Keras' Sequential models, or has no such layer.
    """
    import keras
    import tensorflow as tf

    if not isinstance(model, keras.Sequential):
        raise ValueError(
            "gradient='straight-through' needs a keras.Sequential model, whose layers can be passed by; for any other "
            "f take gradient='difference'"
        )
    found, rows = [], tf.constant(points[:_TRIED])
    for layer in model.layers:
        out = layer(rows, training=False)
        # At other places, too: a softmax passes nothing only where it is saturated.
        others = tf.random.stateless_uniform(rows.shape, (3, 4), dtype=rows.dtype)
        if out.shape == rows.shape and not any(_passes(layer, at) for at in (rows, others)):
            found.append(layer)
        rows = out
    if not found:
        raise ValueError(
            f"gradient='straight-through': each layer of {model.name!r} passes a gradient, or changes the shape, so "
            "that there is nothing to pass by; take gradient='difference'"
        )
    return found


def _passes(layer: Any, rows: Any) -> bool:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(rows)
        out = layer(rows, training=False)
    slope = tape.gradient(out, rows, output_gradients=tf.random.stateless_normal(out.shape, (1, 2), dtype=out.dtype))
    return slope is not None and bool(np.any(slope))


def straight_through(subject: Subject) -> Callable[[Any, Any], Any]:
    """The autodiff gradient of a model whose hiding layers pass it on unchanged (BPDA with the identity).

    References
    ----------
    .. [1] A. Athalye, N. Carlini, D. Wagner, "Obfuscated gradients give a false sense of security", ICML 2018,
       section 4.1.
    """
    import tensorflow as tf

    model, hiding = subject.f, {id(layer) for layer in hiding_layers(subject.f, subject.points)}

    def passed(rows: Any) -> Any:
        for layer in model.layers:
            out = layer(rows, training=False)
            rows = rows + tf.stop_gradient(out - rows) if id(layer) in hiding else out
        return rows

    loss = model.loss if subject.loss is None else subject.loss
    scored = Scored(
        passed, subject.points, subject.y, loss, batched=subject.batched, chunk=subject.scored.chunk, traced=True
    )

    def slope(points: Any, some: Any) -> Any:
        subject.scored.queries += len(points)
        return scored.gradient(points, some, of="measure")

    return slope
