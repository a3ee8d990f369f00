"""A report made of arrays, for the tests of what only draws and prints reports."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

METRICS = (
    "max_abs_error", "median_rel_error", "mean_rel_error", "geometric_mean_rel_error", "max_rel_error",
    "cs231n_rel_error",
)  # fmt: skip


class FakeReport(SimpleNamespace):
    """The attributes of a report of one input, and of its only part, with consistent counts."""

    wrt, noun, left_out, channel_axis = "input", "tile", 0, None
    guarantee = directed = culprits = culprit = second = None
    check = "every"
    caveats: list[str] = []  # noqa: RUF012 (nobody writes to it)

    @property
    def detectable(self) -> Any:
        return np.full(self.numeric.shape, 1e-4)

    @property
    def met(self) -> dict[str, int]:
        return self.counts

    @property
    def parts(self) -> list[FakeReport]:
        return [self]

    @property
    def checked(self) -> int:
        return sum(self.counts.values())

    def __getitem__(self, index: int) -> FakeReport:
        arrays = ("x", "numeric", "analytic", "rel_error", "error_bar", "classes", "near")
        parts = {name: getattr(self, name)[index] for name in arrays}
        return FakeReport(**{**vars(self), **parts, "batched": False, "label": f"example {index}"})

    def worst(self, k: int = 10) -> list[dict[str, Any]]:
        error = np.abs(self.numeric - self.analytic)
        order = np.argsort(np.where(np.isnan(error), -1.0, error), axis=None, kind="stable")[::-1][:k]
        rows = []
        for flat in order:
            index = tuple(int(i) for i in np.unravel_index(flat, error.shape))
            rows.append(
                {
                    "index": index,
                    "class": str(self.classes[index]),
                    "autodiff": float(self.analytic[index]),
                    "finite_difference": float(self.numeric[index]),
                    "abs_error": float(error[index]),
                    "rel_error": float(self.rel_error[index]),
                    "error_bar": float(self.error_bar[index]),
                    "right": float(self.numeric[index]) + 1e-3,
                    "left": float(self.numeric[index]) - 1e-3,
                    "near_x": bool(self.near[index]),
                }
            )
        return rows


def blob(shape: tuple[int, ...]) -> Any:
    """A ring on black, in [0, 1], with exact zeros outside as in MNIST."""
    axes = [np.linspace(-1, 1, n) for n in shape[:2]]
    radius = np.sqrt(sum(g**2 for g in np.meshgrid(*axes, indexing="ij")))
    image = np.clip(1.2 - 5 * np.abs(radius - 0.55), 0, 1)
    tail = shape[2:]
    shades = np.linspace(1, 0.4, math.prod(tail)).reshape(tail)
    return np.reshape(image, np.shape(image) + (1,) * len(tail)) * shades


def fake_report(
    shape: tuple[int, ...] = (28, 28, 1),
    tile: tuple[int, ...] | None = None,
    *,
    batch: int | None = None,
    faults: int = 1,
    noise: float = 1e-8,
    seed: int = 0,
    **changes: Any,
) -> FakeReport:
    """Make a report in which autodiff is right but for `faults` tiles; a quarter of an image is kinked."""
    rng = np.random.default_rng(seed)
    tile = (1,) * len(shape) if tile is None else tile
    grid = tuple(-(-n // t) for n, t in zip(shape, tile, strict=True))
    full = (() if batch is None else (batch,)) + grid
    x = np.broadcast_to(blob(shape), (batch or 1, *shape)).copy()
    analytic = rng.normal(size=full) * 10.0 ** rng.uniform(-3, -1, full)
    numeric = analytic * (1 + noise * 10.0 ** rng.uniform(-2, 2, full) * rng.choice([-1, 1], full))
    classes = np.full(full, "agree", dtype="<U10")
    if len(shape) > 1:
        dark = rng.random(full) < 0.25
        classes[dark] = "kink"
        numeric[dark] = analytic[dark] * rng.uniform(0.4, 0.9, np.count_nonzero(dark))
        analytic.flat[5] = numeric.flat[5] = 0.0
    classes.flat[2:3] = "unresolved"
    wrong = (np.arange(faults) * 97 + analytic.size // 2) % analytic.size
    numeric.flat[wrong] = 1.5 * analytic.flat[wrong]
    classes.flat[wrong] = "wrong"
    with np.errstate(divide="ignore", invalid="ignore"):
        rel = np.where(analytic == 0, np.nan, np.abs(numeric - analytic) / np.abs(analytic))
    counts = {name: int(np.sum(classes == name)) for name in ("agree", "wrong", "kink", "unresolved")}
    values = {
        "verdict": "fail" if faults else "pass",
        "counts": counts,
        "coverage": counts["agree"] / classes.size,
        "coverage_asked": 0.99,
        "metrics": {name: float(np.nanmedian(rel)) for name in METRICS},
        "metrics_smooth": dict.fromkeys(METRICS, 1.25e-8),
        "x": x,
        "shape": shape,
        "tile": tile,
        "grid": grid,
        "channel_axis": len(shape) - 1 if len(shape) > 2 else None,
        "numeric": numeric,
        "analytic": analytic,
        "rel_error": rel,
        "error_bar": np.full(full, 1e-9),
        "classes": classes,
        "near": np.zeros(full, bool),
        "reasons": [f"{faults} tiles disagree beyond their error bars."] if faults else [],
        "engine": "difference",
        "step": 2.0**-20,
        "evaluations": 2 * analytic.size,
        "refined": 12,
        "noise": 2e-17,
        "settings": {"rtol": 1e-4, "atol": None, "seed": 0},
        "deployed": {"dtype": "float32", "median_rel_error": 3e-6, "digits": 5.5},
        "hints": [],
        "timings": {"numeric": 0.0021, "analytic": 0.0008, "total": 0.0043},
        "dtype": "float64",
        "batched": batch is not None,
        "label": None,
    }
    return FakeReport(**(values | changes))
