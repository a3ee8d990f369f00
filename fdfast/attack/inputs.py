"""What a caller passes to an attack, brought into form, or refused with what to do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.moves import Bounds, as_number, shown


def check_epsilon(epsilon: Any) -> float:
    """Return a valid epsilon as a float; raise TypeError or ValueError for any other."""
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float | np.integer | np.floating):
        raise TypeError(f"epsilon must be a number, got {type(epsilon).__name__}")
    found = as_number(epsilon)
    if found is None or not (math.isfinite(found) and found > 0):
        raise ValueError(
            f"epsilon must be finite and greater than 0, got {shown(epsilon)}; 0.1 is usual for images in [0, 1]"
        )
    return found


def check_bounds(bounds: Any, x: npt.NDArray[Any]) -> Bounds | None:
    """Return the range of valid pixels as floats; raise where it is none, or does not hold x."""
    if bounds is None:
        return None
    try:
        low, high = (float(b) for b in bounds)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"bounds must be a pair of numbers (low, high) or None, got {shown(bounds)}") from None
    if not low < high:
        raise ValueError(f"bounds must satisfy low < high, got ({low:g}, {high:g})")
    # In the dtype of x: 0.1 in float32 lies a little above the bound 0.1 in float64.
    outside = np.argwhere((x < x.dtype.type(low)) | (x > x.dtype.type(high)))
    if outside.size:
        index = tuple(int(i) for i in outside[0])
        raise ValueError(
            f"x[{', '.join(map(str, index))}]={x[index]:.6g} lies outside the bounds ({low:g}, {high:g}): "
            "give the range of valid pixels, bounds=(0, 255) for unscaled images, or bounds=None"
        )
    return low, high


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number of at least `least`; raise for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def check_size(name: str, value: Any, *, zero: bool = False) -> float:
    """Return a finite positive number, or with `zero` also 0, as a float; raise for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
        raise ValueError(f"{name} must be finite and {'at least' if zero else 'greater than'} 0, got {value}")
    return float(value)
