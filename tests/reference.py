"""What fdfast must compute, in plain NumPy. Imports nothing of fdfast; slow and plain on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def perturbed_rows(
    x: Array, members_of_tile: Sequence[Array], step: Array, weights_of_tile: Sequence[Array] | None = None
) -> tuple[Array, Array]:
    """Return the rows of one point: row 2t is x + step[t, 0] w on tile t, row 2t + 1 is x + step[t, 1] w.

    x is (n,); members_of_tile[t] holds the indices of tile t (none: not perturbed), weights_of_tile[t] their w (1 if
    there are none); step is (tiles, 2) in float64. Also returns (tiles, 2) float64: the mean of (row - x) / w over the
    tile, summed in the order of its members.
    """
    rows, moved = [], np.zeros((len(members_of_tile), 2))
    for t, members in enumerate(members_of_tile):
        for side in range(2):
            row = x.copy()
            weights = np.ones(len(members)) if weights_of_tile is None else weights_of_tile[t]
            row[members] = x[members] + (step[t, side] * weights).astype(x.dtype)
            total = 0.0
            for m, w in zip(members, weights, strict=True):
                total += (float(row[m]) - float(x[m])) / float(w)
            if len(members):
                moved[t, side] = total / len(members)
            rows.append(row)
    return np.array(rows, dtype=x.dtype).reshape(-1, x.size), moved
