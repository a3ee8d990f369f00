"""The shipped CNN and its gradient in extended precision, by hand, in NumPy: nothing of fdfast, Keras or TensorFlow.

On x86-64 long double carries 64 bits, 11 more than float64. Elsewhere it may be float64 itself: see `DIGITS`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Real = np.longdouble
Array = npt.NDArray[Any]
#: Decimal digits of the reference.
DIGITS = float(-np.log10(np.finfo(Real).eps))


class Reference:
    """Conv 3x3 ReLU, pool 2, conv 3x3 ReLU, pool 2, dense, softmax cross-entropy.

    Parameters
    ----------
    weights : list of ndarray
        Kernel and bias of both convolutions and of the dense layer, as `keras.Model.get_weights` returns them.
    """

    def __init__(self, weights: list[Array]) -> None:
        kernel1, self.bias1, kernel2, self.bias2, self.dense, self.bias = (w.astype(Real) for w in weights)
        self.kernel1, self.kernel2 = (k.reshape(-1, k.shape[-1]) for k in (kernel1, kernel2))

    def gradient(self, x: Array, y: Array) -> Array:
        """Gradient of the loss of one image, shape (28, 28, 1), for a one-hot target."""
        cells1 = _patches(x.astype(Real))
        z1 = cells1 @ self.kernel1 + self.bias1
        p1, to1 = _pool(np.maximum(z1, 0))
        cells2 = _patches(p1)
        z2 = cells2 @ self.kernel2 + self.bias2
        p2, to2 = _pool(np.maximum(z2, 0))
        logits = p2.reshape(-1) @ self.dense + self.bias
        label = int(np.argmax(y))
        # p_label - 1 is minus what the others have: no digit is lost where the network is sure.
        e = np.exp(logits - logits.max())
        e[label] = 0
        own = np.exp(logits[label] - logits.max())
        d = e / (own + e.sum())
        d[label] = -d.sum()
        d = (self.dense @ d).reshape(p2.shape)
        d = _unpool(d, to2, z2.shape) * (z2 > 0)
        d = _unpatch(d @ self.kernel2.T, p1.shape)
        d = _unpool(d, to1, z1.shape) * (z1 > 0)
        return _unpatch(d @ self.kernel1.T, x.shape)


def _patches(x: Array) -> Array:
    """All 3 x 3 windows, shape (h - 2, w - 2, 9 c)."""
    h, w = x.shape[0] - 2, x.shape[1] - 2
    return np.concatenate([x[i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=-1)


def _unpatch(d: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of `_patches`."""
    out = np.zeros(shape, d.dtype)
    h, w, c = shape[0] - 2, shape[1] - 2, shape[2]
    for k in range(9):
        i, j = divmod(k, 3)
        out[i : i + h, j : j + w] += d[..., k * c : (k + 1) * c]
    return out


def _pool(x: Array) -> tuple[Array, Array]:
    """Largest of each 2 x 2 window, and which of the four cells it is: the first of those that tie."""
    h, w, c = x.shape[0] // 2, x.shape[1] // 2, x.shape[2]
    cells = x[: 2 * h, : 2 * w].reshape(h, 2, w, 2, c).transpose(0, 2, 4, 1, 3).reshape(h, w, c, 4)
    which = cells.argmax(axis=-1)
    return np.take_along_axis(cells, which[..., None], axis=-1)[..., 0], which


def _unpool(d: Array, which: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of `_pool`."""
    h, w, c = d.shape
    cells = np.zeros((h, w, c, 4), d.dtype)
    np.put_along_axis(cells, which[..., None], d[..., None], axis=-1)
    out = np.zeros(shape, d.dtype)
    out[: 2 * h, : 2 * w] = cells.reshape(h, w, c, 2, 2).transpose(0, 3, 1, 4, 2).reshape(2 * h, 2 * w, c)
    return out
