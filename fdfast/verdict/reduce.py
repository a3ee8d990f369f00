"""Numba loops: arrays in, numbers out. No validation, no Python objects, no warnings.

Every function here takes C-contiguous writable arrays; another layout, or a read-only array, is another
signature and costs a compilation. The `.py_func` of each is the same in plain Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

_Function = TypeVar("_Function", bound=Callable[..., object])

# The one Numba setting. Never fastmath: it may assume that there is no NaN, and then `x != x` is False.
compiled: Callable[[_Function], _Function] = njit(cache=True, nogil=True)

ErrorMetrics = tuple[float, float, float, float, float, float, int, int, int, int, NDArray[np.int64]]


@compiled
def median(values: NDArray[np.float64]) -> float:
    """Return the middle value, or the mean of the two middle ones; nan when empty. `values` holds no NaN."""
    n = values.size
    if n == 0:
        return math.nan
    # Hoare's selection. np.partition does the same, but Numba takes 8 s to compile it, this 0.3 s.
    v = values.copy()
    k = n // 2
    low = 0
    high = n - 1
    while low < high:
        pivot = v[(low + high) // 2]
        i = low
        j = high
        while i <= j:
            while v[i] < pivot:
                i += 1
            while pivot < v[j]:
                j -= 1
            if i <= j:
                v[i], v[j] = v[j], v[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    upper = float(v[k])
    if n % 2 == 1:
        return upper
    return 0.5 * (float(np.max(v[:k])) + upper)


@compiled
def error_metrics(fd: NDArray[np.floating], ad: NDArray[np.floating], edges: NDArray[np.float64]) -> ErrorMetrics:
    """How far a finite-difference gradient is from an autodiff gradient, robustly, in one pass.

    A coordinate is one of three, and `n = n_rel + n_zero + n_nan`: not finite (`fd` or `ad` is NaN or Inf);
    else zero (`ad == 0`); else relative, with `rel = |fd - ad| / |ad|`.

    Parameters
    ----------
    fd, ad : (n,) float32 or float64
        The two gradients. Everything is accumulated in float64.
    edges : (bins + 1,) float64
        Ascending edges of the histogram, as log10 of the relative error.

    Returns
    -------
    max_abs : float
        Greatest `|fd - ad|` of the finite coordinates.
    median_rel, mean_rel : float
        Of `rel`; `rel == 0` counts.
    geomean_rel : float
        Geometric mean of the positive `rel`: one zero would make it zero.
    max_rel : float
    cs231n : float
        Greatest `|fd - ad| / max(1e-8, |fd| + |ad|)` of the finite coordinates.
    n, n_zero, n_nan, n_rel : int
    histogram : (bins,) int64
        Of the positive `rel`. What lies outside the edges is counted in the first and the last bin.

    A figure over no coordinates is nan.
    """
    bins = max(edges.size - 1, 0)
    histogram = np.zeros(bins, dtype=np.int64)
    relative = np.empty(fd.size, dtype=np.float64)
    n_zero = 0
    n_nan = 0
    n_rel = 0
    n_positive = 0
    max_abs = math.nan
    max_rel = math.nan
    cs231n = math.nan
    sum_rel = 0.0
    sum_log = 0.0

    for i in range(fd.size):
        # Numba's float() keeps float32, `+ 0.0` widens it; in plain Python float() avoids NumPy's warnings.
        a = float(fd[i]) + 0.0
        b = float(ad[i]) + 0.0
        if not (math.isfinite(a) and math.isfinite(b)):
            n_nan += 1
            continue
        difference = abs(a - b)
        # nan is "none so far": a comparison with it is False.
        if not difference <= max_abs:
            max_abs = difference
        # Halves above and below, because |a| + |b| can overflow where the quotient is at most 1.
        quotient = abs(0.5 * a - 0.5 * b) / max(0.5e-8, 0.5 * abs(a) + 0.5 * abs(b))
        if not quotient <= cs231n:
            cs231n = quotient
        if b == 0.0:
            n_zero += 1
            continue
        rel = difference / abs(b)
        relative[n_rel] = rel
        n_rel += 1
        sum_rel += rel
        if not rel <= max_rel:
            max_rel = rel
        if rel > 0.0:
            log = math.log10(rel)
            n_positive += 1
            sum_log += log
            if bins > 0:
                place = int(np.searchsorted(edges, log, side="right")) - 1
                histogram[min(max(place, 0), bins - 1)] += 1

    mean_rel = math.nan
    if n_rel > 0:
        mean_rel = sum_rel / n_rel
    geomean_rel = math.nan
    if n_positive > 0:
        # Squared root: 10 ** x raises in Python where it overflows, a product gives inf in both.
        root = 10.0 ** (0.5 * sum_log / n_positive)
        geomean_rel = root * root
    median_rel = median(relative[:n_rel])
    errors = (max_abs, median_rel, mean_rel, geomean_rel, max_rel, cs231n)
    return (*errors, fd.size, n_zero, n_nan, n_rel, histogram)
