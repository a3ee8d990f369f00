"""The network in other frameworks. A port that does not compute what Keras computes is refused before it is timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.peers.problem import Array, Problem

LIMIT = 1e-6


def check_port(problem: Problem, probabilities: Callable[[Array], Any]) -> None:
    """Raise if a network gives other probabilities than Keras does, on any of the digits."""
    found = np.asarray(probabilities(problem.digits), np.float64)
    gap = float(np.abs(found - problem.probabilities).max())
    if not gap <= LIMIT:
        raise RuntimeError(
            f"the port is another function: probabilities differ from Keras' by {gap:.2g}, more than {LIMIT:g}"
        )


def torch_network(problem: Problem, precision: str) -> Any:
    """Logits of rows, channels first."""
    import torch
    from torch import nn

    kernel1, bias1, kernel2, bias2, dense, bias = problem.weights
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(1600, 10),
    )  # fmt: skip
    # Keras flattens channels last, torch channels first.
    flat = dense.reshape(5, 5, 64, 10).transpose(3, 2, 0, 1).reshape(10, 1600)
    stored = [kernel1.transpose(3, 2, 0, 1), bias1, kernel2.transpose(3, 2, 0, 1), bias2, flat, bias]
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), stored, strict=True):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
            parameter.requires_grad_(False)
    network = network.to(getattr(torch, precision)).eval()

    def probabilities(rows: Array) -> Any:
        images = torch.from_numpy(rows.transpose(0, 3, 1, 2).astype(precision))
        return torch.softmax(network(images), dim=1).numpy()

    check_port(problem, probabilities)
    return network


def jax_network(problem: Problem, precision: str) -> Callable[[Any], Any]:
    """Logits of rows, channels last."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    jax.config.update("jax_enable_x64", precision == "float64")
    kernel1, bias1, kernel2, bias2, dense, bias = (jnp.asarray(w, precision) for w in problem.weights)

    def convolve(rows: Any, kernel: Any, bias: Any) -> Any:
        found = lax.conv_general_dilated(rows, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.nn.relu(found + bias)

    def pool(rows: Any) -> Any:
        return lax.reduce_window(rows, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def logits(rows: Any) -> Any:
        hidden = pool(convolve(pool(convolve(rows, kernel1, bias1)), kernel2, bias2))
        return hidden.reshape(len(rows), -1) @ dense + bias

    check_port(problem, lambda rows: jax.nn.softmax(jax.jit(logits)(jnp.asarray(rows, precision))))
    return logits
