"""Which of a function's arguments move: x as one array, or as a list, tuple or dict of arguments and `wrt`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.moves.inputs import as_array

Wrt = Hashable | Sequence[Hashable] | None


@dataclass(frozen=True, eq=False)
class Selection:
    """Arguments of a function by name or position, and those among them that move.

    Attributes
    ----------
    keys : tuple
        Names, or positions 0, 1, ...
    values : list
        The arguments, as given.
    moving : tuple
        Keys of the arguments that move.
    form : type or None
        list, tuple or dict where x holds several arguments; None where it is the only one.
    alone : bool
        Whether one result is wanted, not one for each of `moving`.
    """

    keys: tuple[Any, ...]
    values: list[Any]
    moving: tuple[Any, ...]
    form: type | None
    alone: bool

    def call(self, kwargs: dict[str, Any]) -> Callable[[Any, Sequence[Any]], Any]:
        """Function that calls f with all arguments: by name if x is a dict, else by position."""
        keys = self.keys
        if self.form is dict:
            return lambda f, values: f(**dict(zip(keys, values, strict=True)), **kwargs)
        return lambda f, values: f(*values, **kwargs)

    def packed(self, values: Sequence[Any]) -> Any:
        """All arguments in the form of x, as a Keras model takes them."""
        if self.form is None:
            return values[0]
        return dict(zip(self.keys, values, strict=True)) if self.form is dict else list(values)

    def answer(self, found: Sequence[Any]) -> Any:
        """Results for `moving`, in the form of x."""
        if self.alone:
            return found[0]
        return dict(zip(self.moving, found, strict=True)) if self.form is dict else (self.form or list)(found)


def select(x: Any, wrt: Wrt) -> Selection:
    """Read x and `wrt`.

    Parameters
    ----------
    x : array_like, or list, tuple or dict of array_like
        A list or tuple holds several arguments if an entry is an array or a tensor, or if `wrt` is given; else it is
        one array, as ``[1.0, 2.0]``.
    wrt : key, sequence of keys or None
        Position or name of what moves; None for everything.

    Raises
    ------
    TypeError, ValueError
        `wrt` is no key of x, or x is one array.
    """
    several = isinstance(x, dict) or (isinstance(x, list | tuple) and (wrt is not None or any(map(_is_array, x))))
    if not several:
        if wrt is not None:
            raise TypeError(f"wrt={wrt!r} selects from a list, tuple or dict of arguments; x is {type(x).__name__}")
        return Selection((0,), [x], (0,), None, True)
    keys = tuple(x) if isinstance(x, dict) else tuple(range(len(x)))
    values = list(x.values()) if isinstance(x, dict) else list(x)
    form: type = dict if isinstance(x, dict) else list if isinstance(x, list) else tuple
    if not keys:
        raise ValueError("x holds no argument: there is nothing to differentiate")
    values = [as_array(one, f"x[{key!r}]") for key, one in zip(keys, values, strict=True)]
    alone = wrt is not None and not isinstance(wrt, list | tuple)
    wanted: tuple[Any, ...] = keys if wrt is None else (wrt,) if alone else tuple(wrt)  # type: ignore[arg-type]
    moving = []
    for key in wanted:
        if form is not dict and isinstance(key, int | np.integer) and -len(keys) <= key < 0:
            key = len(keys) + int(key)
        if isinstance(key, bool) or not isinstance(key, str | int | np.integer) or key not in keys:
            raise ValueError(f"wrt={key!r} is not an argument; x has {', '.join(map(repr, keys))}")
        moving.append(key)
    if not moving or len(set(moving)) < len(moving):
        raise ValueError(f"wrt must name each argument once, and at least one, got {wrt!r}")
    return Selection(keys, values, tuple(moving), form, alone)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, np.generic)


def as_argument(value: Any, name: str) -> npt.NDArray[Any]:
    """Array of something that moves: floating or complex, finite.

    Raises
    ------
    TypeError
        Another dtype.
    ValueError
        NaN or infinity.
    """
    array = as_array(value, name)
    half = array.dtype.name in ("float16", "bfloat16")
    if not half and array.dtype.name not in ("float32", "float64", "complex64", "complex128"):
        raise TypeError(
            f"{name} has dtype {array.dtype}, which cannot move by a small step; pass floats, or hold it and select "
            "others by wrt="
        )
    bad = np.flatnonzero(~np.isfinite(array.astype(np.complex128)))
    if bad.size:
        index = ", ".join(str(int(i)) for i in np.unravel_index(bad[0], array.shape))
        raise ValueError(f"{name}[{index}] is {array.reshape(-1)[bad[0]]}; what moves must be finite")
    return array
