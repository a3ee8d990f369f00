"""PyTorch: rows batched by hand, and `torch.autograd.gradcheck`, slow and fast."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.peers.batched import Build, Losses, fastest, hand_batched
from bench.peers.ports import torch_network
from bench.peers.problem import Array, Fault, Float64, Problem
from bench.peers.registry import Effort, Precision, Ready, peer


def _first(array: Any) -> Any:
    """Channels first: (rows, 28, 28, 1) -> (rows, 1, 28, 28), which for one channel is a view."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(array)).reshape(-1, 1, 28, 28)


def builder(problem: Problem, precision: Precision, compiled: bool) -> Build:
    """A loop over chunks in inference mode; memory channels last, which oneDNN likes best."""
    import torch
    from torch.nn.functional import cross_entropy

    network = torch_network(problem, precision).to(memory_format=torch.channels_last)

    def losses(x: Any, h: Any, moves: Any, label: Any) -> Any:
        rows = (x + h * moves).contiguous(memory_format=torch.channels_last)
        return cross_entropy(network(rows), label.expand(len(rows)), reduction="none")

    # The step is a tensor: no new graph for another.
    chunk_losses = torch.compile(losses, dynamic=False) if compiled else losses

    def build(moves: Array, chunk: int) -> Losses:
        parts = _first(moves).split(chunk)

        def all_losses(x: Array, target: Array, h: float) -> Any:
            with torch.inference_mode():
                point, label = _first(x), torch.tensor([int(np.argmax(target))])
                step = torch.tensor(h, dtype=point.dtype)
                return torch.cat([chunk_losses(point, step, part, label) for part in parts]).numpy()

        return all_losses

    return build


@peer("torch", "PyTorch by hand", "PyTorch", "torch")
def by_hand(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    return hand_batched(builder(problem, precision, compiled=False), problem, precision, effort)


@peer("torch-compile", "PyTorch by hand, torch.compile", "PyTorch", "torch")
def by_hand_compiled(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    return hand_batched(builder(problem, precision, compiled=True), problem, precision, effort)


def loss_of_image(problem: Problem, precision: Precision, fault: Fault | None = None) -> Callable[[Any], Any]:
    """Cross-entropy of one image, shape (1, 1, 28, 28), with a gradient that may be spoilt."""
    import torch
    from torch.nn.functional import cross_entropy

    network, label = torch_network(problem, precision), torch.tensor([problem.label])
    if fault is None:
        return lambda x: cross_entropy(network(x), label)
    factor = _first(fault.factor.astype(precision))

    class Spoiled(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return torch.roll(g, fault.shift, dims=2) * factor

    return lambda x: cross_entropy(network(Spoiled.apply(x)), label)


def _gradcheck(problem: Problem, precision: Precision, effort: Effort, fast: bool) -> Ready:
    import torch
    from torch.autograd import gradcheck

    @functools.cache
    def loss(fault: Fault | None) -> Callable[[Any], Any]:
        return effort.resting(loss_of_image(problem, precision, fault))

    def point(x: Float64) -> Any:
        return _first(x.astype(precision)).requires_grad_()

    def check(x: Float64, fault: Fault | None) -> bool:
        return not gradcheck(loss(fault), (point(x),), fast_mode=fast, raise_exception=False)

    some = set(effort.choice.values()) or {1, torch.get_num_threads()}
    threads = _best_threads(lambda: loss(None)(point(problem.x)).backward(), some)
    # The differences that a slow check makes inside, which it does not return.
    numeric = None if fast else _numeric(loss(None), point(problem.x))

    def run(x: Float64) -> Any:
        check(x, None)
        return numeric

    setting = f"default step and tolerances, {threads} threads"
    if fast:
        setting += "; where it fails, the slow check words the message"
    return Ready(run, 3 if fast else 2 * 784 + 1, setting, check, choice={"threads": threads})


def _best_threads(call: Callable[[], Any], some: set[int], times: int = 30) -> int:
    """Leave PyTorch with the number of threads that is fastest: single images gain little from a second one."""
    import torch

    def calls(threads: int) -> None:
        torch.set_num_threads(threads)
        for _ in range(times):
            call()

    best, _ = fastest({threads: partial(calls, threads) for threads in some})
    torch.set_num_threads(best)
    return best


def _numeric(f: Callable[[Any], Any], x: Any) -> Any:
    from torch.autograd.gradcheck import _get_numerical_jacobian

    return _get_numerical_jacobian(f, (x,), eps=1e-6)[0][0].detach().numpy().ravel().astype(np.float64)


@peer("torch-slow", "torch.autograd.gradcheck", "PyTorch", "torch", kind="checker", precisions=("float64",))
def gradcheck_slow(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    return _gradcheck(problem, precision, effort, fast=False)


@peer("torch-fast", "torch.autograd.gradcheck, fast", "PyTorch", "torch", kind="checker", precisions=("float64",))
def gradcheck_fast(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    return _gradcheck(problem, precision, effort, fast=True)


@peer("torch-autodiff", "autodiff, PyTorch", "autodiff", "torch", kind="autodiff")
def autodiff(problem: Problem, precision: Precision, effort: Effort) -> Ready:
    import torch

    loss = loss_of_image(problem, precision)

    def run(x: Float64) -> Any:
        point = _first(x.astype(precision)).requires_grad_()
        return torch.autograd.grad(loss(point), point)[0].numpy().ravel().astype(np.float64)

    return Ready(run, 1, "batch 1, eager")
