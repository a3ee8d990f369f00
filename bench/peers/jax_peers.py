"""JAX: rows batched by `vmap` and mapped over chunks under one `jit`, and `jax.test_util.check_grads`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import lax
from jax.test_util import check_grads as given

from bench.peers.registry import Build, Losses, Ready, check_port, hand_batched, keras_model, peer
from bench.rig import Array, Float64, Precision

layers = keras.layers


def functional(model: keras.Model, precision: Precision) -> Callable[[Any], Any]:
    """Logits of rows, channels last, by a Keras network that ends in a softmax, written in JAX layer by layer."""
    jax.config.update("jax_enable_x64", precision == "float64")
    weights = {one.name: [jnp.asarray(w, precision) for w in one.get_weights()] for one in model.layers}

    def apply(layer: Any, rows: Any, *others: Any) -> Any:
        own, kind = weights[layer.name], type(layer)
        if kind in (layers.Conv2D, layers.DepthwiseConv2D):
            deep = kind is layers.DepthwiseConv2D
            kernel, groups = (own[0].transpose(0, 1, 3, 2), rows.shape[-1]) if deep else (own[0], 1)
            how = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups}
            found = lax.conv_general_dilated(rows, kernel, layer.strides, layer.padding.upper(), **how) + sum(own[1:])
            return jax.nn.relu(found) if layer.activation is keras.activations.relu else found
        window, pool = (1, 2, 2, 1), lax.reduce_window
        rules = {
            layers.ZeroPadding2D: lambda: jnp.pad(rows, ((0, 0), *layer.padding, (0, 0))),
            layers.ReLU: lambda: jnp.clip(rows, 0, layer.max_value),
            layers.Add: lambda: rows + others[0],
            layers.MaxPooling2D: lambda: pool(rows, -jnp.inf, lax.max, window, window, "VALID"),
            layers.GlobalAveragePooling2D: lambda: rows.mean(axis=(1, 2)),
            layers.Flatten: lambda: rows.reshape(len(rows), -1),
            layers.Dropout: lambda: rows,
            layers.Dense: lambda: rows @ own[0] + own[1],
        }
        return rules[kind]()

    def logits(rows: Any) -> Any:
        values: dict[str, Any] = {}
        for layer in (layer for layer in model.layers if not isinstance(layer, layers.InputLayer)):
            before = [node.operation.name for node in layer._inbound_nodes[-1].parent_nodes]
            values[layer.name] = apply(layer, *(values.get(name, rows) for name in before))
        return values[model.layers[-1].name]

    return logits


def _loss(logits: Callable[[Any], Any], x: Any, target: Any) -> Any:
    return -(jax.nn.log_softmax(logits(x[None])[0]) * target).sum()


def builder(logits: Callable[[Any], Any]) -> Build:
    """`lax.map` over all moves; its `batch_size` applies `vmap` to that many at a time."""

    @partial(jax.jit, static_argnums=4)  # compiled once for all moves of a shape
    def all_losses(x: Any, target: Any, h: Any, moves: Any, chunk: int) -> Any:
        return lax.map(lambda move: _loss(logits, x + h * move, target), moves, batch_size=chunk)

    def build(moves: Array, chunk: int) -> Losses:
        kept = jax.device_put(moves)
        return lambda x, target, h: np.asarray(all_losses(x, target, x.dtype.type(h), kept, chunk))

    return build


def network(problem: Any, precision: Precision) -> Callable[[Any], Any]:
    logits = functional(keras_model("float32"), precision)
    check_port(jax.nn.softmax(jax.jit(logits)(problem.digits.astype(precision))), problem.probabilities)
    return logits


@peer("JAX", "JAX by hand, jit, vmap and map")
def by_hand(problem: Any, precision: Precision) -> Ready:
    return hand_batched(builder(network(problem, precision)), problem, precision)


@peer("JAX", "jax.test_util.check_grads", "checker")
def check_grads(problem: Any, precision: Precision) -> Ready:
    logits, target = network(problem, precision), problem.target.astype(precision)
    loss = jax.jit(lambda x: _loss(logits, x, target))

    def accuses(x: Float64) -> bool:
        with suppress(AssertionError):
            return given(loss, (jnp.asarray(x, precision),), order=1, modes=["rev"]) is not None
        return True

    setting = "one random direction, default step and tolerances, f jitted"
    return Ready(lambda x: accuses(x) and None, setting, accuses)


@peer("JAX", "autodiff, JAX, jit", "autodiff")
def autodiff(problem: Any, precision: Precision) -> Ready:
    logits, target = network(problem, precision), problem.target.astype(precision)
    gradient = jax.jit(jax.grad(lambda x: _loss(logits, x, target)))
    return Ready(lambda x: np.asarray(gradient(x.astype(precision)), np.float64).ravel(), "batch 1")
