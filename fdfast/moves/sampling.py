"""Which weights a budget pays for: some of every variable, drawn with a seed."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]

#: Displaced losses that one weight takes, where nothing has to be refined: two steps, both sides.
ROWS = 4
_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0}


@dataclass(frozen=True)
class Budget:
    """What a check may cost; one of the two is None, or both.

    Attributes
    ----------
    weights : int or None
        Number of weights.
    seconds : float or None
    """

    weights: int | None = None
    seconds: float | None = None

    @staticmethod
    def of(given: object) -> Budget:
        """Read ``None``, a number of rows, or a time such as ``"3s"``, ``"500ms"``, ``"2min"``.

        Raises
        ------
        TypeError, ValueError
        """
        if given is None:
            return Budget()
        if isinstance(given, str):
            found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min)\s*", given)
            if found is None or float(found[1]) == 0:
                raise ValueError(
                    f"budget must be a time such as '3s', '500ms' or '2min', or a number of rows, got {given!r}"
                )
            return Budget(seconds=float(found[1]) * _UNITS[found[2]])
        if isinstance(given, bool) or not isinstance(given, int | np.integer):
            raise TypeError(f"budget must be an int (rows) or a str (a time such as '3s'), got {type(given).__name__}")
        if given < ROWS:
            raise ValueError(f"budget={given} rows do not pay for a single weight, which takes {ROWS}; give more")
        return Budget(weights=int(given) // ROWS)


class Draw:
    """Weights of several variables in a random order that a larger budget only continues.

    Parameters
    ----------
    sizes : list of int
        Number of weights of each variable.
    seed : int
    """

    def __init__(self, sizes: list[int], seed: int) -> None:
        self._order = [np.random.default_rng((seed, i)).permutation(size) for i, size in enumerate(sizes)]
        self._taken = [0] * len(sizes)

    @property
    def left(self) -> int:
        """Weights that were not drawn so far."""
        return sum(len(order) for order in self._order) - sum(self._taken)

    def more(self, weights: int) -> list[Bool]:
        """Draw so many more weights, as a mask for each variable; of each the same share, and at first one at least."""
        sizes = [len(order) for order in self._order]
        total = min(sum(sizes), sum(self._taken) + weights)
        exact = np.array(sizes) * (total / max(1, sum(sizes)))
        upto = np.minimum(sizes, np.maximum(np.floor(exact).astype(int), 1))
        # What rounding down left over goes to those it took most from; the largest pay for the least of one.
        for i in np.argsort(np.floor(exact) - exact, kind="stable")[: max(0, total - int(upto.sum()))]:
            upto[i] = min(sizes[i], upto[i] + 1)
        while upto.sum() > max(total, len(sizes)):
            upto[int(np.argmax(upto))] -= 1
        upto = np.maximum(upto, self._taken)
        masks = []
        for i, order in enumerate(self._order):
            mask = np.zeros(len(order), bool)
            mask[order[self._taken[i] : upto[i]]] = True
            masks.append(mask)
        self._taken = [int(n) for n in upto]
        return masks
