"""What the measurements share: digits, displaced rows, autodiff, errors, and a gradient in extended precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

import fdfast
from bench.timing import side_by_side
from fdfast.moves import Tiling

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Precision = Literal["float32", "float64"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float64")
#: Steps at which a central difference in plain arithmetic is best, on values of order one: those of the batch engine.
STEP: dict[str, float] = {"float32": 2.0**-8, "float64": 2.0**-17}
#: Decimal digits of `reference`: on x86-64 long double carries 11 bits more than float64, elsewhere it may be that.
DIGITS = float(-np.log10(np.finfo(np.longdouble).eps))


def digits(count: int) -> tuple[keras.Model, Any, Float64]:
    x, labels = fdfast.datasets.mnist_sample(count)
    return fdfast.datasets.mnist_cnn(), x, np.eye(10)[labels]


def moves(tiling: Tiling, dtype: str, some: Any = None) -> Array:
    """+1 and -1 on one tile after the other, of all or some: shape (2 tiles, *shape)."""
    which = np.arange(tiling.tiles) if some is None else np.asarray(some)
    found = np.zeros((len(which), 2, tiling.size), dtype)
    for pair, tile in zip(found, which, strict=True):
        members = tiling.members[tiling.offsets[tile] : tiling.offsets[tile + 1]]
        pair[0, members], pair[1, members] = 1, -1
    return found.reshape(-1, *tiling.shape)


def quotients(losses: Any, h: float) -> Float64:
    values = np.asarray(losses, np.float64)
    return (values[0::2] - values[1::2]) / (2 * h)


def best_chunk(forward: Callable[[int], object], chunks: tuple[int, ...]) -> int:
    """The number of rows per forward pass that is fastest here, at its best: noise only ever adds."""
    found = side_by_side({str(c): partial(forward, c) for c in chunks}, 9, budget=3.0)
    return int(min(found, key=lambda name: found[name].values.min()))


def compiled_gradient(model: keras.Model, loss: Any, dtype: Precision) -> Callable[[Any, Any], Any]:
    """Autodiff as one would deploy it: (rows, targets) -> gradient, one traced function; the model is of the dtype."""
    loss = keras.losses.get(loss)

    @tf.function(reduce_retracing=True)
    def gradient(rows: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(rows)
            value = loss(targets, model(rows, training=False))
        return tape.gradient(value, rows)

    return lambda x, y: gradient(tf.constant(x, dtype), tf.constant(y, dtype)).numpy()


def relative(found: Any, exact: Any) -> Float64:
    """Relative errors where the gradient is not zero."""
    found, exact = np.ravel(found), np.ravel(exact)
    return np.asarray(np.abs(found - exact)[exact != 0] / np.abs(exact[exact != 0]))


def middle(errors: Any) -> float:
    return float(np.median(errors)) if len(errors) else float("nan")


def reference(weights: list[Array], x: Array, y: Array) -> Array:
    """The gradient of the shipped CNN for a one-hot target, by hand: nothing of fdfast, Keras or TensorFlow."""
    kernel1, bias1, kernel2, bias2, dense, bias = (w.astype(np.longdouble) for w in weights)
    z1 = _convolve(x.astype(np.longdouble), kernel1) + bias1
    z2 = _convolve(np.maximum(_cells(z1).max(axis=-1), 0), kernel2) + bias2
    p2 = np.maximum(_cells(z2).max(axis=-1), 0)
    logits, label = p2.reshape(-1) @ dense + bias, int(np.argmax(y))
    # p_label - 1 is minus what the others have: no digit is lost where the network is sure.
    e = np.exp(logits - logits.max())
    own, e[label] = e[label], 0
    d = e / (own + e.sum())
    d[label] = -d.sum()
    d = _spread(_unpool((dense @ d).reshape(p2.shape), z2), kernel2)
    return _spread(_unpool(d, z1), kernel1)


def _convolve(x: Array, kernel: Array) -> Array:
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(0, 1))
    return np.tensordot(windows, kernel, axes=((3, 4, 2), (0, 1, 2)))


def _spread(d: Array, kernel: Array) -> Array:
    """The transpose of `_convolve`: a convolution of d in a frame of zeros by the kernel turned round."""
    return _convolve(np.pad(d, ((2, 2), (2, 2), (0, 0))), kernel[::-1, ::-1].transpose(0, 1, 3, 2))


def _cells(z: Array) -> Array:
    """The four cells of every 2 x 2 window, last axis; what does not fill a window is dropped."""
    h, w, c = z.shape[0] // 2, z.shape[1] // 2, z.shape[2]
    return z[: 2 * h, : 2 * w].reshape(h, 2, w, 2, c).transpose(0, 2, 4, 1, 3).reshape(h, w, c, 4)


def _unpool(d: Array, z: Array) -> Array:
    """Through a pool and the ReLU before it: to the largest cell of each window, the first of those that tie."""
    (h, w, c), cells, out = d.shape, _cells(np.maximum(z, 0)), np.zeros(z.shape, d.dtype)
    chosen = np.where(np.arange(4) == cells.argmax(axis=-1)[..., None], d[..., None], 0)
    out[: 2 * h, : 2 * w] = chosen.reshape(h, w, c, 2, 2).transpose(0, 3, 1, 4, 2).reshape(2 * h, 2 * w, c)
    return out * (z > 0)
