"""One example of a report, as the panels of a figure take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Example:
    """One example of a report; all but `x` are on the grid of tiles. `classes` are keys of MAP_COLOURS.

    `tested` says whose gradient is under test: autodiff's, or one that was given.
    """

    index: int
    x: npt.NDArray[Any]
    tile: tuple[int, ...]
    numeric: npt.NDArray[Any]
    analytic: npt.NDArray[Any]
    rel: npt.NDArray[Any]
    classes: npt.NDArray[Any]
    detectable: npt.NDArray[Any] | None = None
    tested: str = "autodiff"

    @property
    def is_image(self) -> bool:
        """Whether it is (rows, columns) or (rows, columns, channels)."""
        return self.x.ndim in (2, 3) and min(self.x.shape[:2]) > 1

    @property
    def apart(self) -> bool:
        """Whether channels are tiles of their own."""
        return self.x.ndim == 3 and self.analytic.shape[2] > 1

    @property
    def channel(self) -> int:
        """Of the grid: the channel with the greatest gradient under test."""
        size = np.nan_to_num(np.abs(self.analytic), nan=0.0, posinf=np.inf)
        return int(np.argmax(size.max(axis=(0, 1)))) if self.apart else 0

    @property
    def channel_note(self) -> str:
        """Which channel the maps show, as a second line of a title; nothing when there is no choice."""
        first = self.channel * self.tile[-1]
        last = min(first + self.tile[-1], self.x.shape[-1]) - 1
        which = f"channel {first}" if first == last else f"channels {first}-{last}"
        return f"\n{which}: greatest |{self.tested}|" if self.apart else ""

    @property
    def defined(self) -> npt.NDArray[np.bool_]:
        """Where there is a relative error."""
        return np.asarray(np.isfinite(self.rel) & (self.analytic != 0))

    def pixels(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """One value per tile, of the channel shown, as one value per pixel: ragged tiles are cut off."""
        flat = values[..., self.channel] if values.ndim == 3 else values
        for axis in (0, 1):
            flat = np.repeat(flat, self.tile[axis], axis)
        return flat[: self.x.shape[0], : self.x.shape[1]]
