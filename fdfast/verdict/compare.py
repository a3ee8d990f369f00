"""Two gradients side by side: class of every tile, and the error metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast import _core
from fdfast.estimates import SMOOTH, Estimate

Float64 = npt.NDArray[np.float64]

AGREE, WRONG, KINKED, UNRESOLVED, SINGULAR = 0, 1, 2, 3, 4
CLASSES = ("agree", "wrong", "kink", "unresolved", "singular")
METRICS = (
    "max_abs_error",
    "median_rel_error",
    "mean_rel_error",
    "geometric_mean_rel_error",
    "max_rel_error",
    "cs231n_rel_error",
)
#: Edges of the histogram, log10 of the relative error.
EDGES = np.linspace(-16.0, 4.0, 41)
_MANY = 32  # smooth tiles that show how much rounding there is


@dataclass(frozen=True, eq=False)
class Comparison:
    """Verdict on every tile.

    Attributes
    ----------
    analytic : ndarray of float64, shape (examples, tiles)
        Tile sums of the gradient under test.
    classes : ndarray of int8, shape (examples, tiles)
        Index into ``("agree", "wrong", "kink", "unresolved", "singular")``.
    tolerance : ndarray of float64, shape (examples, tiles)
        Difference allowed on top of the error bar.
    detectable : ndarray of float64, shape (examples, tiles)
        Smallest relative error of the gradient that would have been called wrong.
    """

    analytic: Float64
    classes: npt.NDArray[np.int8]
    tolerance: Float64
    detectable: Float64


def compare(
    estimate: Estimate,
    analytic: Float64,
    eps: float,
    rtol: float,
    atol: float | None,
    loss_of_digits: Float64 | float = 0.0,
) -> Comparison:
    """Set the analytic gradient against the estimate, tile by tile.

    A smooth tile is `wrong` if ``|fd - ad| > error bar + rtol * max(|fd|, |ad|) + atol``. Otherwise it agrees,
    provided that the bar itself is no wider than the tolerance; if it is, nothing was learnt and the tile is
    `unresolved`. A gradient that is NaN or infinite is `wrong` wherever f has slopes, on a kink, too; where f itself
    has none the tile is `singular`, whatever the gradient says.

    Parameters
    ----------
    estimate : Estimate
    analytic : ndarray of float64, shape (examples, tiles)
    eps : float
        Rounding unit of the dtype that the analytic gradient was computed in.
    rtol : float
    atol : float or None
        None allows the rounding of the analytic side, 64 eps of its largest tile, when it comes to accusing; and
        asks for bars no wider than rtol/100 of the largest tile, when it comes to having resolved a tile at all.
    loss_of_digits : float or ndarray, shape (examples, 1)
        Rounding of the analytic side, relative to its largest tile, beyond that of its dtype (see `cancellation`).
    """
    with np.errstate(all="ignore"):
        largest = np.where(np.isfinite(analytic), np.abs(analytic), 0.0).max(axis=1, initial=0.0)
        either = np.fmax(largest, estimate.scale)
        blur = np.reshape(loss_of_digits, -1) * either
        floor, width = 64 * eps * largest + blur, rtol / 100 * either
        if (blur > width).any():
            blur = np.minimum(blur, _seen_of_it(estimate, analytic))
    if atol is not None:
        floor = width = np.full(either.shape, atol)
    classes, tolerance, detectable = _core.classify(
        np.ascontiguousarray(estimate.value),
        np.ascontiguousarray(estimate.error),
        np.ascontiguousarray(estimate.right),
        np.ascontiguousarray(estimate.left),
        np.ascontiguousarray(estimate.kind),
        np.ascontiguousarray(analytic),
        rtol,
        floor,
        width,
        blur,
    )
    return Comparison(analytic, classes, tolerance, detectable)


def _seen_of_it(estimate: Estimate, analytic: Float64) -> Float64:
    """Bound on that rounding by what there is of it: it goes through one number, and every tile has a share of it.

    Twice the largest difference among the smooth tiles of an example; no bound by a few tiles, which may all happen to
    have a small share.
    """
    smooth = estimate.kind == SMOOTH
    gap = np.fmax.reduce(np.where(smooth, np.abs(estimate.value - analytic), 0.0), axis=1, initial=0.0)
    return np.where(smooth.sum(axis=1) >= _MANY, 2 * gap, np.inf)


def cancellation(base: Float64, eps: float) -> Float64:
    """Rounding of autodiff behind a softmax cross-entropy, relative to the gradient; shape (examples, 1).

    Autodiff takes the softmax p minus the one-hot target. Where p_y is near 1 that difference, 1 - p_y, has the
    absolute rounding of 1, so its relative one is eps / (1 - p_y), where p_y = exp(-loss). Four units are allowed.

    Parameters
    ----------
    base : ndarray of float64, shape (examples,)
        The loss.
    eps : float
    """
    with np.errstate(all="ignore"):
        lost: Float64 = 4 * eps / -np.expm1(-np.maximum(base, np.finfo(float).tiny))
    return lost[:, None]


def error_summary(fd: Float64, ad: Float64) -> dict[str, Any]:
    """Compute the error metrics over all entries, with counts and the log histogram.

    Parameters
    ----------
    fd, ad : ndarray of float64, any shape

    Returns
    -------
    dict
        `METRICS` by name (NaN where nothing qualifies); ``n``, ``n_zero``, ``n_nan``, ``n_rel``: entries in all, with a
        zero analytic gradient, not finite, and in the relative metrics; ``histogram``, counts by `EDGES`.
    """
    from fdfast.verdict.reduce import error_metrics

    found = error_metrics(np.ravel(fd), np.ravel(ad), EDGES)
    summary: dict[str, Any] = dict(zip(METRICS, (float(v) for v in found[:6]), strict=True))
    summary.update(zip(("n", "n_zero", "n_nan", "n_rel"), (int(v) for v in found[6:10]), strict=True))
    summary["histogram"] = found[10]
    return summary
