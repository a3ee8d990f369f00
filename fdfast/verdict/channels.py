"""What a mismatch does to channels: another order, a mix, one that holds all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_SHARE, _CLOSE = 0.95, 1e-2  # share of the values that a pattern explains, each to this relative accuracy
_FEW = 10  # values of one channel below which nothing is said


def of_channels(numeric: Float64, analytic: Float64, judged: Bool, grid: tuple[int, ...]) -> Iterator[str]:
    """Say what became of the channels, the last axis of the grid, if one rule explains all of them."""
    if len(grid) < 3 or grid[-1] < 2:
        return
    n, a = (v.reshape(-1, grid[-1]) for v in (numeric, analytic))
    known = judged.reshape(-1, grid[-1]).all(axis=1)
    n, a = n[known], a[known]
    if (np.count_nonzero(n, axis=0) < _FEW).any():
        return
    origin = [_origin(a[:, k], n) for k in range(grid[-1])]
    order = [k for k in origin if k is not None]
    if sorted(order) == list(range(grid[-1])) and order != sorted(order):
        named = ", ".join(map(str, order))
        yield (
            f"The channels of the analytic gradient are those of the finite difference in another order: {named}. "
            "Likely causes: (a) RGB taken for BGR in the backward pass, (b) channels moved on by one, (c) a transposed "
            "kernel where it maps colours to colours."
        )
    elif all(_alike(a[:, k], n.mean(axis=1)) for k in range(grid[-1])):
        yield (
            "Every channel of the analytic gradient is the mean of the finite difference's channels: their sum is "
            "right, each by itself is not. Likely causes: (a) a mean over the channels in the backward pass, (b) the "
            "gradient of a grey image spread over its colours."
        )
    else:
        whole = [k for k in range(grid[-1]) if _alike(a[:, k], n.sum(axis=1))]
        if len(whole) == 1 and not np.delete(a, whole, axis=1).any():
            yield (
                f"Channel {whole[0]} of the analytic gradient holds the sum of the finite difference's channels, the "
                "others hold zero. Likely causes: (a) a broadcast undone on one channel only, (b) an index in the "
                "place of a sum over channels."
            )


def _origin(channel: Float64, n: Float64) -> int | None:
    """Channel of `n` that one of the other side is equal to."""
    fits = [k for k in range(n.shape[1]) if _alike(channel, n[:, k])]
    return fits[0] if fits else None


def _alike(one: Float64, other: Float64) -> bool:
    some = (one != 0) | (other != 0)
    if not some.any():
        return False
    return bool((np.abs(one - other)[some] <= _CLOSE * np.abs(other[some])).mean() >= _SHARE)
