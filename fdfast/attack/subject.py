"""What is attacked: a model or callable, at examples, with its targets and the range of valid pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.attack.inputs import check_bounds
from fdfast.functions import Scored, Scores, check_callable, state_kept
from fdfast.moves import Bounds, as_floats, check_max_rows
from fdfast.problem import Request, examples_of

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
_CHUNK = 256  # rows of one call: more of them ran no faster on convolutional networks


@dataclass(frozen=True, eq=False)
class Subject:
    """A model or callable at examples.

    Attributes
    ----------
    f : keras.Model or callable
    x, y, loss : as the caller gave them
    points : ndarray of float, shape (examples, *shape)
        x as f takes it.
    batched : bool
        Whether x has an axis of examples.
    bounds : (float, float) or None
    scored : Scored
    clean : Scores
        What f says to the points, once.
    is_random : bool
        Whether f says something else when it is asked again.
    """

    f: Any
    x: Array
    y: Any
    loss: Any
    points: Array
    batched: bool
    bounds: Bounds | None
    scored: Scored
    clean: Scores
    is_random: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.points.shape[1:]

    @property
    def every(self) -> npt.NDArray[np.int64]:
        """Numbers of all examples."""
        return np.arange(len(self.points))

    def inside(self, points: Array) -> Array:
        """Clip to the range of valid pixels."""
        return points if self.bounds is None else np.clip(points, *map(points.dtype.type, self.bounds))

    def as_given(self, points: Array) -> Array:
        """Bring points into shape and dtype of x."""
        return points.reshape(self.x.shape).astype(self.x.dtype)

    def targets(self, some: Any) -> Any:
        """Targets of some of the examples, as the caller gave them."""
        return np.asarray(self.y)[some] if self.batched else np.asarray(self.y)[None][some]


@contextmanager
def subject_of(f: Any, x: Any, y: Any, loss: Any, bounds: Any, max_rows: int | None = None) -> Iterator[Subject]:
    """Set up what is attacked, and put the state behind f back afterwards, also on errors.

    Raises
    ------
    TypeError, ValueError
        x, y, loss or bounds do not fit, or f is not finite at x.
    """
    import keras

    check_callable(f, "model", "a callable of rows")
    array = as_floats(x)
    valid = check_bounds(bounds, array)
    chunk = check_max_rows(max_rows) or _CHUNK
    batched = True
    if isinstance(f, keras.Model):
        if y is None:
            raise TypeError("y is missing: the loss needs the target of each example")
        shape, _, batched = examples_of(Request(f, array), array)
        _check_shape(f, shape)
    elif array.ndim < 2:
        raise ValueError(f"x has shape {array.shape}; a callable takes rows: x with a leading axis of examples")
    with state_kept(f):
        rows = array if batched else array[None]
        scored = Scored(f, rows, y, loss, batched=batched, chunk=chunk)
        points = np.array(rows, scored.dtype)
        clean = scored.at(points, np.arange(len(points)))
        _check_finite(clean)
        again = scored.at(points, np.arange(len(points))).measure
        # Of rounding, rows in other places of a batch have a few units in the last place.
        is_random = not np.allclose(again, clean.measure, rtol=1e-4, atol=1e-5 * float(np.abs(again).max()))
        given = np.asarray(x)
        x = array if given.dtype.kind not in "fV" or given.dtype.itemsize > 2 else given
        yield Subject(f, np.asarray(x), y, loss, points, batched, valid, scored, clean, is_random)


def _check_shape(model: Any, shape: tuple[int, ...]) -> None:
    inputs = getattr(model, "inputs", None)
    wanted = tuple(inputs[0].shape[1:]) if inputs else shape
    if len(wanted) != len(shape) or any(w not in (None, n) for w, n in zip(wanted, shape, strict=True)):
        raise ValueError(f"x has shape {shape} per example; {model.name!r} takes {wanted}")


def _check_finite(clean: Scores) -> None:
    bad = ~np.isfinite(clean.loss)
    if clean.outputs is not None:
        bad |= ~np.isfinite(clean.outputs).all(axis=tuple(range(1, clean.outputs.ndim)))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"f is not finite at example {first}: loss {clean.loss[first]:g}; there is no way uphill from NaN. "
            "Look at the model's weights and at the range of x"
        )
