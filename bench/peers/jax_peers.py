"""JAX: rows batched by `vmap` and mapped over chunks under one `jit`, and `jax.test_util.check_grads`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.peers.batched import Build, Losses, hand_batched
from bench.peers.ports import jax_network
from bench.peers.problem import Array, Fault, Float64, Problem
from bench.peers.registry import Effort, Precision, Ready, peer


def one_loss(logits: Callable[[Any], Any], x: Any, target: Any) -> Any:
    """Cross-entropy of one image."""
    import jax

    return -(jax.nn.log_softmax(logits(x[None])[0]) * target).sum()


def builder(problem: Problem, precision: Precision) -> Build:
    """`lax.map` over all moves; its `batch_size` applies `vmap` to that many at a time."""
    import jax
    from jax import lax

    loss = partial(one_loss, jax_network(problem, precision))

    def build(moves: Array, chunk: int) -> Losses:
        kept = jax.device_put(moves)

        @jax.jit
        def all_losses(x: Any, target: Any, h: Any, moves: Any) -> Any:
            return lax.map(lambda move: loss(x + h * move, target), moves, batch_size=chunk)

        return lambda x, target, h: np.asarray(all_losses(x, target, x.dtype.type(h), kept))

    return build


@peer("jax", "JAX by hand, jit, vmap and map", "JAX", "jax")
def by_hand(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    return hand_batched(builder(problem, precision), problem, precision, effort)


def _spoiled(x: Any, fault: Fault | None) -> Any:
    import jax
    import jax.numpy as jnp

    if fault is None:
        return x

    @jax.custom_vjp
    def same(x: Any) -> Any:
        return x

    same.defvjp(lambda x: (x, None), lambda _, g: (jnp.roll(g, fault.shift, axis=0) * fault.factor.astype(g.dtype),))
    return same(x)


@peer("jax-check", "jax.test_util.check_grads", "JAX", "jax", kind="checker")
def check_grads(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    import jax
    import jax.numpy as jnp
    from jax.test_util import check_grads as given

    logits = jax_network(problem, precision)
    target = jnp.asarray(problem.target, precision)

    @functools.cache
    def loss(fault: Fault | None) -> Callable[[Any], Any]:
        return jax.jit(lambda x: one_loss(logits, _spoiled(x, fault), target))

    def check(x: Float64, fault: Fault | None) -> bool:
        try:
            given(loss(fault), (jnp.asarray(x, precision),), order=1, modes=["rev"])
        except AssertionError:
            return True
        return False

    def run(x: Float64) -> None:
        check(x, None)

    return Ready(run, 3, "one random direction, default step and tolerances, f jitted", check)


@peer("jax-autodiff", "autodiff, JAX, jit", "autodiff", "jax", kind="autodiff")
def autodiff(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    import jax
    import jax.numpy as jnp

    logits, target = jax_network(problem, precision), jnp.asarray(problem.target, precision)
    gradient = jax.jit(jax.grad(lambda x: one_loss(logits, x, target)))
    return Ready(lambda x: np.asarray(gradient(x.astype(precision)), np.float64).ravel(), 1, "batch 1")
