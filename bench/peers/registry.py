"""W1, one real digit with its true gradient; and what is compared on it: functions that make a peer ready."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

import fdfast
from bench.rig import PRECISIONS, STEP, Precision, best_chunk, digits, middle, moves, quotients, reference, relative
from fdfast.functions import shadow_of
from fdfast.moves import make_tiling

#: Family -> the module whose import registers it, and what it computes in.
FAMILIES = {
    "fdfast": ("tensorflow_peers", PRECISIONS), "loops": ("loops", PRECISIONS), "JAX": ("jax_peers", PRECISIONS),
    "TensorFlow": ("tensorflow_peers", PRECISIONS), "PyTorch": ("torch_peers", PRECISIONS),
    "SciPy": ("loops", ("float64",)), "attacks": ("random_peers", ("float32",)),
}  # fmt: skip
CHUNKS = (32, 128, 1568)  # rows of one forward pass that are tried
STEPS = {"float32": range(-11, -5), "float64": range(-19, -13)}  # exponents of the steps that are tried
Losses = Callable[[Any, Any, float], Any]  # (x, target, h) -> losses of x + h times every move
Build = Callable[[Any, int], Losses]  # (moves, chunk)
SHAPE, SIZE = (28, 28, 1), 784
DIGIT = 3  # its loss is 0.14: on most others p_y is so near 1 that every float32 difference is zero
PORT_LIMIT = 1e-6


def check_port(found: Any, wanted: Any, limit: float = PORT_LIMIT) -> None:
    """Raise if a network gives other probabilities than the one that it stands for."""
    gap = float(np.abs(np.asarray(found, np.float64) - np.asarray(wanted)).max())
    if not gap <= limit:
        raise RuntimeError(f"the port is another function: probabilities differ by {gap:.2g}")


@functools.cache
def keras_model(precision: Precision) -> Any:
    model = fdfast.datasets.mnist_cnn()
    return model if precision == "float32" else shadow_of(model, SHAPE).model


@functools.cache
def problem() -> Any:
    """A digit, and `near` it what 8-bit rounding took away: there nothing ties. Float32 holds both points."""
    model, images, targets = digits(100)
    x, y, weights, h = images[DIGIT].astype(np.float64), targets[DIGIT], model.get_weights(), STEP["float64"]
    near = (x + np.random.default_rng(0).uniform(0, 1 / 255, SHAPE)).astype(np.float32).astype(np.float64)
    truth, near_truth = (reference(weights, at, y).astype(np.float64).ravel() for at in (x, near))
    seen = fdfast.estimate(model, x, h=h, y=y, engine="difference")
    found = {"x": x, "truth": truth, "near": near, "near_truth": near_truth, "target": y, "weights": weights}
    found |= {"smooth": np.ravel((seen.tie < 0) & (seen.step == h)), "digits": images, "targets": targets}
    return SimpleNamespace(**found, probabilities=keras_model("float64")(images.astype("float64")).numpy())


class Ready(NamedTuple):
    """A peer in its best setting, which is said in a few words.

    `run` takes a point, float64, and returns its gradient, of 784 numbers or those of `pixels`; or None. `accuses` says
    whether the peer calls the correct gradient wrong at a point; without it the rule of CS231n speaks.
    """

    run: Callable[[Any], Any]
    setting: str
    accuses: Callable[[Any], bool] | None = None
    pixels: Any = None


#: (family, name) -> kind, which is estimator, checker or autodiff; precisions; function.
PEERS: dict[tuple[str, str], tuple[str, tuple[str, ...], Callable[[Any, Precision], Ready]]] = {}


def peer(family: str, name: str, kind: str = "estimator", precisions: tuple[str, ...] = PRECISIONS) -> Any:
    def register(make: Any) -> Any:
        if (family, name) in PEERS:
            raise ValueError(f"{name!r} is already registered")
        PEERS[family, name] = kind, precisions, make
        return make

    return register


def fastest(build: Build, moves: Any, x: Any, target: Any, chunks: Any = CHUNKS) -> tuple[Losses, int]:
    """Build for every sensible chunk; the one that is fastest, and how many rows it takes at a time."""
    built = {chunk: build(moves, chunk) for chunk in {min(chunk, len(moves)) for chunk in chunks}}
    chunk = best_chunk(lambda chunk: built[chunk](x, target, STEP[x.dtype.name]), tuple(built))
    return built[chunk], chunk


def hand_batched(build: Build, problem: Any, precision: Precision) -> Ready:
    """Try chunks, then steps, and keep the best; a coarse step may have the best median error and leap over kinks."""
    x, target = problem.x.astype(precision), problem.target.astype(precision)
    losses, chunk = fastest(build, moves(make_tiling(SHAPE), precision), x, target)

    def missed(k: int) -> float:
        found = quotients(losses(x, target, 2.0**k), 2.0**k)
        errors = relative(found[problem.smooth], problem.truth[problem.smooth])
        return middle(errors) * float(np.quantile(errors, 0.99))

    h = 2.0 ** (best := min(STEPS[precision], key=missed))
    setting = f"{chunk} rows at a time, h = 2^{best}"
    return Ready(lambda x: quotients(losses(x.astype(precision), target, h), h), setting)
