"""Whole assignments of the course: their layers, the checks of their notebooks, by one point and by rows at once."""

from __future__ import annotations

import numpy as np
import pytest

from fdfast.compat.cs231n import eval_numerical_gradient, eval_numerical_gradient_array, rel_error

RNG = np.random.default_rng(231)


def softmax_loss(z, y):
    """Mean cross-entropy of scores (..., examples, classes), and its gradient."""
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return -np.log(p[..., np.arange(len(y)), y]).mean(-1), (p - np.eye(z.shape[-1])[y]) / len(y)


def affine(x, w, b):
    return x @ w + b[..., None, :]


def relu(x):
    return np.maximum(x, 0)


def network(x, w1, b1, w2, b2):
    return affine(relu(affine(x, w1, b1)), w2, b2)


def network_back(x, w1, b1, w2, b2, dz):
    h = affine(x, w1, b1)
    dh = dz @ w2.T * (h > 0)
    return dh @ w1.T, x.T @ dh, dh.sum(0), relu(h).T @ dz, dz.sum(0)


def batchnorm(x, gamma, beta):
    centred = x - x.mean(-2, keepdims=True)
    return gamma[..., None, :] * centred / np.sqrt(x.var(-2, keepdims=True) + 1e-5) + beta[..., None, :]


def batchnorm_back(x, gamma, beta, d):
    s = np.sqrt(x.var(0) + 1e-5)
    z = (x - x.mean(0)) / s
    g = d * gamma
    return (g - g.mean(0) - z * (g * z).mean(0)) / s, (d * z).sum(0), d.sum(0)


KEEP = RNG.random((4, 6)) < 0.7


def dropout(x):
    return x * KEEP / 0.7


def dropout_back(x, d):
    return (d * KEEP / 0.7,)


def windows(x):
    """Patches of 3 by 3 of images (..., channels, height, width), padded by one; patches last."""
    padded = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)])
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (-2, -1))


def conv(x, w, b):
    return np.einsum("...nchwij,...fcij->...nfhw", windows(x), w) + b[..., None, :, None, None]


def conv_back(x, w, b, d):
    return (
        conv(d, w.transpose(1, 0, 2, 3)[..., ::-1, ::-1], np.zeros(w.shape[1])),
        np.einsum("nchwij,nfhw->fcij", windows(x), d),
        d.sum((0, 2, 3)),
    )


def rnn(x, h, wx, wh, b):
    """Hidden states of all steps of x (..., examples, steps, inputs)."""
    states = []
    for t in range(x.shape[-2]):
        h = np.tanh(x[..., t, :] @ wx + h @ wh + b[..., None, :])
        states.append(h)
    return np.stack(states, -2)


def rnn_back(x, h, wx, wh, b, d):
    states = np.concatenate([h[:, None], rnn(x, h, wx, wh, b)], 1)
    dx, dh, dwx, dwh, db = np.zeros_like(x), np.zeros_like(h), 0.0, 0.0, 0.0
    for t in reversed(range(x.shape[1])):
        da = (d[:, t] + dh) * (1 - states[:, t + 1] ** 2)
        dx[:, t], dh = da @ wx.T, da @ wh.T
        dwx, dwh, db = dwx + x[:, t].T @ da, dwh + states[:, t].T @ da, db + da.sum(0)
    return dx, dh, dwx, dwh, db


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def lstm_step(x, h, c, wx, wh, b):
    """The next hidden state, one step of an LSTM."""
    i, f, o, g = np.split(x @ wx + h @ wh + b[..., None, :], 4, -1)
    return sigmoid(o) * np.tanh(sigmoid(f) * c + sigmoid(i) * np.tanh(g))


def lstm_back(x, h, c, wx, wh, b, d):
    i, f, o, g = np.split(x @ wx + h @ wh + b, 4, -1)
    i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
    nc = f * c + i * g
    dc = d * o * (1 - np.tanh(nc) ** 2)
    da = np.concatenate(
        [dc * g * i * (1 - i), dc * c * f * (1 - f), d * np.tanh(nc) * o * (1 - o), dc * i * (1 - g**2)], 1
    )
    return da @ wx.T, da @ wh.T, dc * f, x.T @ da, h.T @ da, da.sum(0)


LAYERS = {
    "fully connected": (network, network_back, [(4, 6), (6, 5), (5,), (5, 3), (3,)]),
    "batch normalisation": (batchnorm, batchnorm_back, [(4, 5), (5,), (5,)]),
    "dropout": (dropout, dropout_back, [(4, 6)]),
    "convolution": (conv, conv_back, [(2, 3, 4, 4), (2, 3, 3, 3), (2,)]),
    "RNN": (rnn, rnn_back, [(2, 3, 4), (2, 5), (4, 5), (5, 5), (5,)]),
    "LSTM step": (lstm_step, lstm_back, [(3, 4), (3, 5), (3, 5), (4, 20), (5, 20), (20,)]),
}


def numeric(f, arguments, place, d, vectorized):
    def moved(x):
        return f(*arguments[:place], x, *arguments[place + 1 :])

    return eval_numerical_gradient_array(moved, arguments[place], d, vectorized=vectorized)


@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_every_gradient_of_a_layer(name, vectorized):
    f, back, shapes = LAYERS[name]
    arguments = [RNG.normal(size=shape) for shape in shapes]
    kept = [one.copy() for one in arguments]
    d = RNG.normal(size=f(*arguments).shape)
    for place, exact in enumerate(back(*arguments, d)):
        found = numeric(f, arguments, place, d, vectorized)
        assert rel_error(found, exact) < 1e-5  # the course asks for 1e-8 or so of most, at gradients not near zero
        # The control: one element a thousandth off is seen.
        off = np.array(exact)
        off.flat[0] += 1e-3 * max(1.0, np.abs(exact).max())
        assert rel_error(found, off) > 1e-5
    for one, before in zip(arguments, kept, strict=True):
        np.testing.assert_array_equal(one, before)


@pytest.mark.parametrize("vectorized", [False, True])
def test_the_loss_of_a_network(vectorized):
    y = np.array([0, 2, 1, 2])
    x, w1, b1, w2, b2 = (RNG.normal(size=shape) for shape in LAYERS["fully connected"][2])
    _, dz = softmax_loss(network(x, w1, b1, w2, b2), y)
    exact = network_back(x, w1, b1, w2, b2, dz)[1]

    def f(w):
        return softmax_loss(network(x, w if vectorized else w1, b1, w2, b2), y)[0]

    found = eval_numerical_gradient(f, w1, verbose=False, vectorized=vectorized)
    assert rel_error(found, exact) < 1e-6


def test_rows_at_once_are_few_calls():
    f, _, shapes = LAYERS["RNN"]
    arguments = [RNG.normal(size=shape) for shape in shapes]
    d, calls = RNG.normal(size=f(*arguments).shape), []

    def counted(*given):
        calls[-1] += 1
        return f(*given)

    for vectorized in (False, True):
        calls.append(0)
        numeric(counted, arguments, 3, d, vectorized)
    assert calls[0] == 2 * arguments[3].size
    assert calls[1] <= 4
