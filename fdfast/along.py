"""The derivative of a function along one direction, exact to rounding."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fdfast.directed import flat_of
from fdfast.functions import interruptible, reached_by, state_kept, trusted
from fdfast.moves import as_floats
from fdfast.problem import Request
from fdfast.tape import STEP, NoTape

_SAFETY = 8.0


class Directional(NamedTuple):
    """A derivative along a direction.

    Attributes
    ----------
    value : float
        Mean of the slopes to both sides, which differ only on a kink.
    error : float
        Bound on its error: measured rounding, and on a kink half of what the slopes to both sides differ by.
    """

    value: float
    error: float


@interruptible()
def directional(f: Any, x: Any, v: Any, *, y: Any = None, loss: Any = None, **kwargs: Any) -> Directional:
    """Derivative of f along v: the limit of (f(x + h v) - f(x)) / h, by differences that do not cancel.

    Parameters
    ----------
    f : keras.Model, keras.Layer or callable
        A model, differentiated through its loss (the sum over the examples); or a layer or a function that TensorFlow
        can trace. Of what is no scalar it is the sum, each element with a random weight.
    x : array_like of float, or a list, tuple or dict of them
        The point. Never written.
    v : array_like of float
        The direction, in the shape of x; of several inputs a list, tuple or dict as x. It need not have length 1.
    y, loss
        Target and loss of a model, as in `fdfast.gradient`.
    **kwargs
        Further arguments of a callable f.

    Returns
    -------
    Directional
        value and error, floats.

    Raises
    ------
    TypeError, ValueError
        v does not fit, or f cannot be recorded; the message says what of it.

    Examples
    --------
    >>> import numpy as np, fdfast, tensorflow as tf
    >>> fdfast.directional(lambda x: tf.reduce_sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 0.5])).value
    9.0
    """
    with state_kept(f) as now:
        try:
            flat = flat_of(Request(f, x, y, loss, kwargs=kwargs), "input")
            whole = trusted(flat, reached_by(f))
            now.settled = True
            moved = dict(zip(flat.moving, _directions(flat, v), strict=True))
            found = whole.point(flat.points()).slopes(moved, (STEP, 0.75 * STEP, -STEP, -0.75 * STEP)).value[:, 0]
        except NoTape as error:
            raise ValueError(
                f"no exact derivative: {error}. fdfast.gradient(..., engine='batch') evaluates f itself"
            ) from None
    right, left = found[:2], found[2:]
    spread = float(max(np.ptp(right), np.ptp(left), np.spacing(np.abs(found).max())))
    value = float(right[0] + left[0]) / 2
    return Directional(value, max(_SAFETY * spread, abs(float(right[0] - left[0])) / 2))


def _directions(flat: Any, v: Any) -> list[npt.NDArray[np.float64]]:
    """One for each argument that moves, with an axis in front."""
    arguments = [flat.arguments[i] for i in flat.moving]
    if isinstance(v, dict):
        v = [v[name] for name in sorted(v)]
    given = list(v) if isinstance(v, list | tuple) and len(arguments) > 1 else [v]
    if len(given) != len(arguments):
        raise ValueError(f"v has {len(given)} arrays; x has {len(arguments)} that can move")
    found = []
    for one, argument in zip(given, arguments, strict=True):
        array = as_floats(one, "v").astype(np.float64)
        if array.shape != argument.given.shape:
            raise ValueError(f"v has shape {array.shape} for {argument.name}; it must be {argument.given.shape}")
        found.append(array.reshape(1, *argument.value.shape))
    return found
