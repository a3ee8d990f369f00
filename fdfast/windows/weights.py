"""Weights that a program was built from: whether they are still those of the function."""

from __future__ import annotations

from typing import Any

import numpy as np

from fdfast.tape import Tape, address_of, value_of, view


class Weights:
    """Variables of a tape as they were when it was recorded.

    TensorFlow copies on write: as long as a value is held, its memory is the variable's own or nobody's. So a variable
    that nobody wrote to is known by the address of its memory, however large it is.

    Parameters
    ----------
    tape : Tape
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._held = {key: self._read(key) for key in tape.variables}
        recorded = ((view(self._held[key]), tape.values[number]) for key, number in tape.variables.items())
        #: Whether nobody wrote to them between the recording and now.
        self._known = all(np.array_equal(now, view(then), equal_nan=True) for now, then in recorded)

    def same(self) -> bool:
        """Whether they are as they were, in value."""
        if not self._known:
            return False
        for key, held in self._held.items():
            now = self._read(key)
            if address_of(now) == address_of(held):
                continue
            if not np.array_equal(view(now), view(held), equal_nan=True):
                return False
            self._held[key] = now
        return True

    def _read(self, key: int) -> Any:
        return value_of(self._tape.handles[key])
