"""PyTorch: rows batched by hand, and `torch.autograd.gradcheck`, slow and fast."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch.autograd.gradcheck import _get_numerical_jacobian, gradcheck
from torch.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from torch.nn.functional import cross_entropy

from bench.peers.registry import Losses, Ready, check_port, hand_batched, peer
from bench.rig import Array, Float64, Precision, best_chunk


def _first(array: Any, precision: Precision) -> Any:
    """Channels first: (rows, 28, 28, 1) -> (rows, 1, 28, 28), which for one channel is a view."""
    return torch.from_numpy(np.ascontiguousarray(array, precision)).reshape(-1, 1, 28, 28)


def network(problem: Any, precision: Precision) -> Any:
    body = [Conv2d(1, 32, 3), ReLU(), MaxPool2d(2), Conv2d(32, 64, 3), ReLU(), MaxPool2d(2), Flatten()]
    found = Sequential(*body, Linear(1600, 10)).requires_grad_(False)
    kernel1, bias1, kernel2, bias2, dense, bias = problem.weights
    # Keras flattens channels last, torch channels first.
    flat = dense.reshape(5, 5, 64, 10).transpose(3, 2, 0, 1).reshape(10, 1600)
    stored = [kernel1.transpose(3, 2, 0, 1), bias1, kernel2.transpose(3, 2, 0, 1), bias2, flat, bias]
    for parameter, value in zip(found.parameters(), stored, strict=True):
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    found = found.to(getattr(torch, precision)).eval()
    check_port(torch.softmax(found(_first(problem.digits, precision)), dim=1), problem.probabilities)
    return found


def _by_hand(compiled: bool, problem: Any, precision: Precision) -> Ready:
    """A loop over chunks in inference mode; memory channels last, which oneDNN likes best."""
    logits = network(problem, precision).to(memory_format=torch.channels_last)

    def losses(x: Any, h: Any, moves: Any, label: Any) -> Any:
        rows = (x + h * moves).contiguous(memory_format=torch.channels_last)
        return cross_entropy(logits(rows), label.expand(len(rows)), reduction="none")

    # The step is a tensor: no new graph for another.
    chunk_losses = torch.compile(losses, dynamic=False) if compiled else losses

    def build(moves: Array, chunk: int) -> Losses:
        parts = _first(moves, precision).split(chunk)

        def all_losses(x: Array, target: Array, h: float) -> Any:
            with torch.inference_mode():
                point, label = _first(x, precision), torch.tensor([int(np.argmax(target))])
                step = torch.tensor(h, dtype=point.dtype)
                return torch.cat([chunk_losses(point, step, part, label) for part in parts]).numpy()

        return all_losses

    return hand_batched(build, problem, precision)


peer("PyTorch", "PyTorch by hand")(partial(_by_hand, False))
peer("PyTorch", "PyTorch by hand, torch.compile")(partial(_by_hand, True))


def _loss_and_point(problem: Any, precision: Precision) -> tuple[Any, Any]:
    """Cross-entropy of one image, shape (1, 1, 28, 28); and what makes one of an array."""
    logits, label = network(problem, precision), torch.tensor([int(np.argmax(problem.target))])
    return lambda x: cross_entropy(logits(x), label), lambda x: _first(x, precision).requires_grad_()


def _gradcheck(fast: bool, problem: Any, precision: Precision) -> Ready:
    loss, point = _loss_and_point(problem, precision)

    def one(threads: int) -> None:
        torch.set_num_threads(threads)
        loss(point(problem.x)).backward()

    threads = best_chunk(one, (1, torch.get_num_threads()))  # single images gain little from a second one
    # The differences that a slow check makes inside, which it does not return.
    numeric = None if fast else _get_numerical_jacobian(loss, (point(problem.x),), eps=1e-6)[0][0].numpy().ravel()

    def accuses(x: Float64) -> bool:
        torch.set_num_threads(threads)
        return not gradcheck(loss, (point(x),), fast_mode=fast, raise_exception=False)

    setting = f"default step and tolerances, {threads} threads"
    setting += "; where it fails, the slow check words the message" if fast else ""
    return Ready(lambda x: (accuses(x), numeric)[1], setting, accuses)


peer("PyTorch", "torch.autograd.gradcheck", "checker", ("float64",))(partial(_gradcheck, False))
peer("PyTorch", "torch.autograd.gradcheck, fast", "checker", ("float64",))(partial(_gradcheck, True))


@peer("PyTorch", "autodiff, PyTorch", "autodiff")
def autodiff(problem: Any, precision: Precision) -> Ready:
    loss, point = _loss_and_point(problem, precision)

    def run(x: Float64) -> Any:
        at = point(x)
        return torch.autograd.grad(loss(at), at)[0].numpy().ravel().astype(np.float64)

    return Ready(run, "batch 1, eager")
