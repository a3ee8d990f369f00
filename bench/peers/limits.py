"""What the machine can do: its best matrix product, and with it the time of the dense work of W1."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from bench.peers.machine import cores
from bench.peers.problem import Float64, Problem
from bench.peers.registry import Effort, Precision, Ready, peer

#: Multiplications and additions of one forward pass of one image, in its two convolutions and the dense layer.
DENSE = 2 * (26 * 26 * 9 * 32 + 11 * 11 * 9 * 32 * 64 + 1600 * 10)
_SIZE = 1536


@peer("peak-numpy", "matrix product, NumPy, one on each core", "machine", "numpy", kind="limit")
def numpy_peak(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    pairs = [np.random.default_rng(0).random((2, _SIZE, _SIZE)).astype(precision) for _ in range(cores())]
    pool = ThreadPoolExecutor(len(pairs))

    def run() -> None:
        list(pool.map(lambda pair: pair[0] @ pair[1], pairs))

    return _limit(run, 2.0 * _SIZE**3 * len(pairs))


@peer("peak-torch", "matrix product, PyTorch", "machine", "torch", kind="limit")
def torch_peak(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    import torch

    a = torch.rand(_SIZE, _SIZE, dtype=getattr(torch, precision))
    return _limit(lambda: torch.mm(a, a), 2.0 * _SIZE**3)


def _limit(product: Callable[[], Any], work: float) -> Ready:
    def run(x: Float64) -> None:
        product()

    return Ready(run, 0, f"{_SIZE} x {_SIZE}", work=work)
