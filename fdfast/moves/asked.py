"""What an option may be: numbers, pairs, functions, words. A message names option, rule and value."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

Bounds = tuple[float, float]

#: Options that count go to TensorFlow, and through it to kernels, as 32-bit numbers.
MOST = 2**31 - 1
_SHOWN = 80


def check_number(name: str, value: object, low: float, high: float, also: str = "") -> float:
    """Return an option as a float between `low` and `high`, both included.

    Parameters
    ----------
    name : str
    value : object
    low, high : float
    also : str
        What else the option may be, for the message.

    Raises
    ------
    TypeError
        It is no real number.
    ValueError
        It is out of its range, NaN, or larger than any float.
    """
    found = as_number(value)
    if found is not None and low <= found <= high:
        return found
    kind = ValueError if _is_real(value) else TypeError
    raise kind(f"{name} must be {also}between {low:g} and {high:g}, got {shown(value)}")


def check_whole(name: str, value: object, low: int, high: int, why: str = "") -> int:
    """Return an option as an int between `low` and `high`, both included; `why` says what the least is for.

    Raises
    ------
    TypeError
        It is no whole number.
    ValueError
        It is out of its range.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an int of at least {low}{why}, got {shown(value)}")
    if value < low:
        raise ValueError(f"{name} must be an int of at least {low}{why}, got {shown(value)}")
    if value > high:
        raise ValueError(f"{name} must be an int of at most {high}, got {shown(value)}")
    return int(value)


def check_max_rows(max_rows: object) -> int | None:
    """Return `max_rows` as an int or None.

    Raises
    ------
    TypeError, ValueError
    """
    return None if max_rows is None else check_whole("max_rows", max_rows, 2, MOST, " (a +h and a -h row)")


def check_seed(seed: object) -> int:
    """Return a seed as an int: none is drawn at random, so that what was found can be found again.

    Raises
    ------
    TypeError, ValueError
    """
    return check_whole("seed", seed, 0, 2**63 - 1)


def check_flag(name: str, value: object, *, unset: bool = False) -> None:
    """Raise TypeError unless an option is True or False, or with `unset` None."""
    if not (isinstance(value, bool | np.bool_) or (unset and value is None)):
        raise TypeError(f"{name} must be True or False{', or left out' if unset else ''}, got {shown(value)}")


def check_progress(progress: object) -> None:
    """Raise TypeError unless there is nobody to be told, or somebody that can be called."""
    if progress is not None and not callable(progress):
        raise TypeError(
            "progress must be True, for a bar, or be called as progress(rows done, rows expected), got "
            f"{shown(progress)}"
        )
    if progress is not None:
        check_fits(progress, "progress", 0, 0)


def check_fits(f: Callable[..., Any], what: str, /, *values: Any, **kwargs: Any) -> None:
    """Raise TypeError if Python knows, without a call, that a function does not take what it is going to be given."""
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):  # one of C, say: it speaks for itself when it is called
        return
    try:
        signature.bind(*values, **kwargs)
    except TypeError:
        count = f"{len(values)} argument{'s' if len(values) != 1 else ''}"
        named = f" and {', '.join(sorted(kwargs))}" if kwargs else ""
        raise TypeError(f"{what} is called with {count}{named}, but its parameters are {signature}") from None


def check_analytic(analytic: object) -> None:
    """Raise TypeError if the gradient under test is a class, or a function of something else than x."""
    if isinstance(analytic, type):
        raise TypeError(
            f"analytic is the class {analytic.__name__}; pass a gradient, or a function of x that returns one"
        )
    if callable(analytic):
        check_fits(analytic, "analytic", None)


def check_wrt(wrt: object) -> None:
    """Raise TypeError unless what moves is a name, or a list or tuple of names."""
    if not (isinstance(wrt, str) or (isinstance(wrt, list | tuple) and all(isinstance(name, str) for name in wrt))):
        raise TypeError(f"wrt must be a name or a list of names, got {shown(wrt)}")


def check_text(name: str, value: object) -> None:
    """Raise TypeError unless an option is left out or a str."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {shown(value)}")


def as_bounds(bounds: object) -> Bounds | None:
    """Return bounds as a pair of numbers; None for none.

    Raises
    ------
    TypeError
        They are no pair of numbers.
    ValueError
        The lower one is not below the upper one.
    """
    if bounds is None:
        return None
    given: Any = bounds.tolist() if isinstance(bounds, np.ndarray) else bounds
    pair = [as_number(one) for one in given] if isinstance(given, list | tuple) else []
    if len(pair) != 2 or pair[0] is None or pair[1] is None:
        raise TypeError(f"bounds must be a pair of numbers (low, high), got {shown(bounds)}")
    if not pair[0] < pair[1]:
        raise ValueError(f"bounds must satisfy low < high, got {shown(bounds)}")
    return given[0], given[1]  # as they were given, for messages and reports


def shown(value: object) -> str:
    """A value in a message, cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a number of so many digits that Python refuses to write it, or a faulty __repr__
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _is_real(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, numbers.Real)


def as_number(value: Any) -> float | None:
    """Return a real number as a float; None for what is none, and for what no float holds."""
    given = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    if not _is_real(given):
        return None
    try:
        return float(given)
    except OverflowError:
        return None
