"""What fdfast must compute, in plain NumPy. Imports nothing of fdfast; slow and plain on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def perturbed_rows(x: Array, members_of_tile: Sequence[Array], step: Array) -> tuple[Array, Array]:
    """Return the rows of one point: row 2t is x + step[t, 0] on tile t, row 2t + 1 is x + step[t, 1].

    x is (n,); members_of_tile[t] holds the indices of tile t (none: not perturbed); step is (tiles, 2) in
    float64. Also returns (tiles, 2) float64: the mean of row - x over the tile, summed in the order of its
    members.
    """
    rows, moved = [], np.zeros((len(members_of_tile), 2))
    for t, members in enumerate(members_of_tile):
        for side in range(2):
            row = x.copy()
            row[members] = x[members] + x.dtype.type(step[t, side])
            total = 0.0
            for m in members:
                total += float(row[m]) - float(x[m])
            if len(members):
                moved[t, side] = total / len(members)
            rows.append(row)
    return np.array(rows, dtype=x.dtype).reshape(-1, x.size), moved
