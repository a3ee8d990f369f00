"""Pure figures: relative errors, the usual rule for comparing gradients, medians and quartiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.peers.problem import Bool, Fault, Float64, Ints
from bench.rounds import undisturbed

CS231N_LIMIT = 1e-2  # from which the course suspects the gradient


@dataclass(frozen=True)
class Errors:
    """Relative errors over the pixels whose true gradient is not zero; the geometric mean leaves exact hits out."""

    count: int
    median: float
    geometric: float
    p99: float
    largest: float


def errors(found: Float64, truth: Float64) -> Errors:
    """Compare two gradients; NaN where there is nothing to compare."""
    some = truth != 0
    if not some.any():
        return Errors(0, *[float("nan")] * 4)
    with np.errstate(over="ignore"):
        relative = np.abs(found[some] - truth[some]) / np.abs(truth[some])
    positive = relative[relative > 0]
    mean = float(np.exp(np.mean(np.log(positive)))) if len(positive) else 0.0
    median, p99, largest = (float(np.quantile(relative, q)) for q in (0.5, 0.99, 1.0))
    return Errors(int(some.sum()), median, mean, p99, largest)


def alarm(found: Float64, analytic: Float64) -> bool:
    """CS231n's rule: max |a - b| / max(1e-8, |a| + |b|) above 1e-2."""
    size = np.maximum(1e-8, np.abs(found) + np.abs(analytic))
    return bool((np.abs(found - analytic) / size).max() > CS231N_LIMIT)


def accuracy(found: Float64, truth: Float64, smooth: Bool, pixels: Ints | None) -> dict[str, Any]:
    """Errors on smooth pixels and on all."""
    at = np.arange(len(truth)) if pixels is None else pixels
    exact, some = truth[at], smooth[at]
    return {"smooth": asdict(errors(found[some], exact[some])), "all": asdict(errors(found, exact))}


def judge(found: Float64, truth: Float64, faults: tuple[Fault, ...], pixels: Ints | None) -> dict[str, bool]:
    """What the usual rule says about the true gradient, under the name "", and about every spoilt one."""
    at = np.arange(len(truth)) if pixels is None else pixels
    said = {"": alarm(found, truth[at])}
    return said | {fault.name: alarm(found, fault(truth)[at]) for fault in faults}


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float


def spread(values: npt.ArrayLike) -> Spread:
    """Of at least one value."""
    return Spread(*(float(q) for q in np.percentile(np.asarray(values, np.float64), (50, 25, 75))))


def only_calm(one: dict[str, Any], fastest: float, least: int) -> dict[str, Any]:
    """Only the calm rounds of all visits to a peer, or the calmest; `fastest` is of fdfast beside it, in the run."""
    some = undisturbed(one["stolen"], one["beside"], fastest, least)
    visit = np.repeat(np.arange(len(one["visits"])), one["visits"])
    kept = {key: [one[key][i] for i in some] for key in ("seconds", "beside", "stolen")}
    return one | kept | {"visits": [int(n) for n in np.unique(visit[some], return_counts=True)[1]]}


def visits(one: dict[str, Any]) -> list[float]:
    """Times as long as fdfast beside it, median of each visit to a peer."""
    ratios = np.divide(one["seconds"], one["beside"])
    return [float(np.median(visit)) for visit in np.split(ratios, np.cumsum(one["visits"])[:-1])]


def of_two_best(ratios: Sequence[float]) -> float:
    """Mean of the two visits in which a peer did best: some processes never get as fast as others."""
    return float(np.mean(sorted(ratios)[:2]))


def alone(ratios: Sequence[float]) -> float:
    """Factor between the two best visits, infinite if there is but one."""
    best, *others = sorted(ratios)
    return others[0] / best if others else float("inf")


def exponent(n: npt.ArrayLike, seconds: npt.ArrayLike) -> float:
    """Slope of a straight line through the points on log-log paper."""
    return float(np.polyfit(np.log(np.asarray(n, float)), np.log(np.asarray(seconds, float)), 1)[0])
