"""What the caller passes as x, brought into rows; the caller's array is read, never written."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

#: What f is evaluated in; "auto" is float64 where that can be
Precision = Literal["auto", "float32", "float64"]


def as_array(x: Any, name: str = "x") -> npt.NDArray[Any]:
    """Return what the caller passed as an array, of whatever dtype; nothing is dropped on the way.

    Raises
    ------
    TypeError
        x is a masked array with masked entries, or a placeholder without values.
    ValueError
        x is a list whose rows have different lengths.
    """
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        hidden = int(np.ma.getmaskarray(x).sum())
        raise TypeError(
            f"{name} is a masked array, and {hidden} of its {x.size} entries are masked: what has no "
            f"value can neither move nor be held. Pass {name}.filled(value)"
        )
    if type(x).__name__ == "KerasTensor":
        raise TypeError(
            f"{name} is a KerasTensor, a placeholder that has no values: pass an array of shape {tuple(x.shape)}"
        )
    try:
        return np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{name} makes no array: {error}. Pass rows of the same length, of numbers only") from None


def as_gradient(found: Any, name: str) -> npt.NDArray[Any]:
    """Return what a function of the caller's gave as a gradient: an array of real numbers, which may be NaN.

    Raises
    ------
    TypeError
    """
    array = as_array(found, name)
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiu":
        got = f"dtype {array.dtype}" if isinstance(found, np.ndarray) else type(found).__name__
        raise TypeError(f"{name} must return an array of real numbers, got {got}")
    return array


def whole_numbers(name: str, dtype: np.dtype[Any]) -> str:
    """Say that integers were given where something has to move, and what to give instead."""
    return (
        f"{name} has dtype {dtype}: integers cannot move by a small step. Pass floats: {name}.astype('float32'), for "
        "8-bit images divided by 255, unless f does that itself, by a Rescaling layer"
    )


def as_floats(x: Any, name: str = "x", *, finite: bool = True) -> npt.NDArray[Any]:
    """Return x as a native-endian float array; float16 and bfloat16 become float32, which holds their values exactly.

    `finite` says that NaN and infinity are refused: in a gradient under test they are what is to be found.

    Raises
    ------
    TypeError
        x is an integer, boolean, complex or non-numeric array.
    ValueError
        x is empty, or holds NaN or infinity although it has to be finite.
    """
    array = as_array(x, name)
    if array.dtype.kind in "iub":
        raise TypeError(whole_numbers(name, array.dtype))
    if array.dtype.kind == "c":
        raise TypeError(f"{name} is complex; pass real and imaginary parts as an extra axis")
    if array.dtype.name == "bfloat16" or (array.dtype.kind == "f" and array.dtype.itemsize == 2):
        array = array.astype(np.float32)
    if array.dtype.kind != "f":
        from_what = "" if isinstance(x, np.ndarray) else f" (from a {type(x).__name__})"
        raise TypeError(f"{name} must be an array of floats, got dtype {array.dtype}{from_what}")
    if array.dtype.itemsize > 8:
        raise TypeError(
            f"{name} has dtype {array.dtype}; float64 is the widest supported: pass {name}.astype('float64')"
        )
    if array.size == 0:
        raise ValueError(f"{name} is empty, shape {array.shape}: there is nothing to differentiate")
    array = np.asarray(array, array.dtype.newbyteorder("="))
    bad = np.flatnonzero(~np.isfinite(array))
    if finite and bad.size:
        index = ", ".join(str(int(i)) for i in np.unravel_index(bad[0], array.shape))
        raise ValueError(
            f"{name}[{index}] is {array.reshape(-1)[bad[0]]}; {name} must be finite ({bad.size} entries are not)"
        )
    return array


def as_points(array: npt.NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Lay examples out as C-contiguous rows, shape (examples, size), without touching the original."""
    rows = array.reshape(-1, math.prod(shape))
    return np.require(rows, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def grain(array: npt.NDArray[Any]) -> float:
    """Size of what rounding took away from x: 1/255 or 1 for 8-bit images, else a thousandth of the scale.

    Uniform noise of this width leaves an 8-bit image the same picture, and breaks every tie.
    """
    low, high = float(array.min()), float(array.max())
    if low >= 0 and 0.5 < high <= 1 and np.abs(array * 255 - np.round(array * 255)).max() < 1e-3:
        return 1 / 255
    if low >= 0 and 1 < high <= 255 and (array == np.round(array)).all():
        return 1.0
    peak = max(abs(low), abs(high))
    return 1e-3 * (peak if peak > 0 else 1.0)
