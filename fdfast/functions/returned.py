"""What f is and what it returned: something to differentiate, or a message that says what else it is."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.over_rows import first_line
from fdfast.moves import shown


class NotOneNumber(ValueError):
    """f returns several numbers for one x, or one for several."""


def check_callable(f: Any, what: str = "f", of: str = "a callable") -> None:
    """Raise TypeError unless f is something that returns what can be differentiated, when it is called."""
    if isinstance(f, type):
        raise TypeError(
            f"{what} is the class {f.__name__}, which makes objects: pass an object of it, or a function of x"
        )
    if not callable(f):
        raise TypeError(f"{what} must be a Keras model or {of}, got {type(f).__name__}")


@contextlib.contextmanager
def known_gradients() -> Iterator[None]:
    """Name an operation that TensorFlow has no gradient of.

    Raises
    ------
    TypeError
    """
    try:
        yield
    except Exception as error:
        found = re.search(r"gradient registry has no entry for: (\w+)", str(error))
        if found is None:
            raise
        raise TypeError(
            f"f has no autodiff gradient: TensorFlow has none of its operation {found[1]}. Give that part one by "
            "tf.custom_gradient, or pass analytic="
        ) from None


def check_dense(value: Any, what: str = "f") -> None:
    """Raise TypeError unless a value consists of dense numbers, in any number of pieces."""
    for one in tf.nest.flatten(value):
        kind = type(one).__name__
        if one is None:
            raise TypeError(f"{what} returns None; it must return its value: is there a `return`?")
        if isinstance(one, tf.SparseTensor | tf.RaggedTensor):
            dense = "tf.sparse.to_dense(value)" if isinstance(one, tf.SparseTensor) else "value.to_tensor()"
            raise TypeError(f"{what} returns a {kind}; it must return dense values: return {dense}")
        dtype = one.dtype.base_dtype.as_numpy_dtype if tf.is_tensor(one) else np.asarray(one).dtype
        if np.dtype(dtype).kind not in "fciub" and np.dtype(dtype).name != "bfloat16":
            raise TypeError(f"{what} returns {shown(one)}; it must return floating-point values, got {kind}")


def check_returned(value: Any, what: str = "f") -> None:
    """Raise TypeError unless a value makes a dense array of real floating-point numbers, in any number of pieces."""
    check_dense(value, what)
    for one in tf.nest.flatten(value):
        dtype = np.dtype(one.dtype.base_dtype.as_numpy_dtype if tf.is_tensor(one) else np.asarray(one).dtype)
        name = dtype.name
        if dtype.kind == "c":
            raise TypeError(
                f"{what} returns {name}; it must return real values: return tf.math.real(value), the other part or the "
                "modulus, or take fdfast.jacobian, which knows complex ones"
            )
        # A Python int is a constant that somebody wrote down, no result that was cut to whole numbers.
        if not (dtype.kind == "f" or name == "bfloat16" or type(one) is int):
            raise TypeError(
                f"{what} returns {name}; it must return floating-point values: whole numbers do not change by a small "
                "step, and have no gradient"
            )


def plain_value(value: Any) -> npt.NDArray[np.float64]:
    """Array of what a function of arrays returned, float64.

    Raises
    ------
    NotOneNumber
        It is a dict, or a list of tensors.
    TypeError
        It is nothing that has a derivative.
    """
    check_one_piece(value)
    check_returned(value)
    return np.asarray(value, np.float64)


def check_one_piece(value: Any) -> None:
    """Raise NotOneNumber if a function returned several values in a structure."""
    several = isinstance(value, Mapping) or (isinstance(value, list | tuple) and any(map(tf.is_tensor, value)))
    if several:
        raise NotOneNumber(
            f"f must return a scalar; it returned a {type(value).__name__} of {len(value)}. Return one of its values; "
            "gradcheck(..., check='directions') takes all of them together"
        )


class NarrowOnly(TypeError):
    """f takes float32 and was given float64."""


def check_takes(call: Callable[[Any], Any], error: Exception) -> None:
    """Say so if a function that failed with float64 does take float32: it holds constants or variables of that.

    Parameters
    ----------
    call : callable
        The function at x, of a dtype.
    error : Exception
        What it failed with.

    Raises
    ------
    NarrowOnly
    """
    try:
        found = call(tf.float32)
    except Exception:
        return  # something else is wrong with it
    if not tf.is_tensor(found):
        return
    raise NarrowOnly(
        f"f takes float32, and x is float64 ({first_line(error)}). Pass x.astype('float32'), or cast inside f: a "
        "constant or variable of it is float32"
    ) from error
