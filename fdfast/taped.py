"""A function on its tape: by windows as far as they go, the rest on whole maps."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.functions import Flat, trusted
from fdfast.moves import Precision
from fdfast.tape import STEP, NoTape, Point, Recorded, Tape
from fdfast.windows import windows_at


@dataclass(frozen=True, eq=False)
class Taped:
    """A function that is recorded.

    Attributes
    ----------
    of : callable
        The function of one example, by its number, and the values of its arguments.
    windows : bool
        Whether the compiled kernels do a part of it.
    flat : Flat
        Of the first example.
    recorded : Recorded
    first : tuple or None
        Point of the first example, and what `fdfast.windows.windows_at` found there.
    """

    of: Callable[[int], tuple[Recorded, list[npt.NDArray[Any]]]]
    windows: bool
    flat: Flat
    recorded: Recorded
    first: tuple[Point, Any] | None = None


def on_the_tape(
    flat_of: Callable[[int], Flat], reached: Sequence[Any], engine: str, precision: Precision, notes: list[str]
) -> Taped | None:
    """The function as it is recorded; None where it cannot be, which only "auto" passes over, and the notes say why.

    Parameters
    ----------
    flat_of : callable
        Number of an example -> the function of that example alone.
    reached : sequence of keras.Layer, keras.Variable or tf.Variable
        What stands behind f.
    engine, precision : str
        As they were asked for.
    notes : list of str

    Raises
    ------
    ValueError
        It cannot be, and was asked for.
    """
    if precision == "float32":
        if engine == "auto":
            return None
        raise ValueError(f"engine={engine!r} is in float64 whatever f is in; leave precision out, or engine='batch'")
    try:
        flat = flat_of(0)
        whole = trusted(flat, reached)
        if flat.notes:  # f returns more than one number, which is told where it is called
            return None

        def of(example: int) -> tuple[Recorded, list[npt.NDArray[Any]]]:
            return whole, flat_of(example).points() if example else flat.points()

        if engine == "tape":
            return Taped(of, False, flat, whole)
        point = whole.point(flat.points())
        found = windows_at(whole, point)
        if engine == "auto":
            if not (point.finite[0] if found is None else found[1].finite):
                found = None
            if why := _unfit(point, found):
                notes.append(f"the batch engine evaluated f itself, because {why}")
                return None
    except NoTape as error:
        if engine != "auto":
            raise ValueError(f"engine={engine!r} cannot be used: {error}. engine='batch' evaluates f itself") from None
        notes.append(f"the batch engine evaluated f itself, because differences cannot be pushed: {error}")
        return None
    except Exception:
        if engine != "auto":
            raise
        return None  # f takes no tensors, or says elsewhere what is wrong with it
    if found is not None:
        return Taped(of, True, flat, whole, (point, found))
    if engine == "auto":
        return Taped(of, False, flat, whole, (point, None))
    if engine == "windows":
        raise ValueError(
            f"engine='windows' cannot be used: {whole.windows}. engine='tape' pushes differences through the "
            "operations of any function that TensorFlow can trace"
        )
    notes.append(f"differences went through whole maps, because windows cannot be used: {whole.windows}")
    return Taped(of, False, flat, whole)


#: With a value of their own at 0, where they may be infinitely steep: one step, however small, does not show it.
_SPECIAL = {"Xlogy", "Xlog1py", "Xdivy"}
#: What the operations of a tape forbid, whatever their values are.
_forbidden: weakref.WeakKeyDictionary[Tape, str] = weakref.WeakKeyDictionary()


def _unfit(point: Point, found: Any) -> str:
    """What forbids to push differences unasked, "" if nothing does; `found` is None where not all is finite."""
    if found is None and not point.finite[0] and not (point.finite[1] and _has_slopes(point)):
        return "values on the way are not finite, beyond which a difference says nothing"
    tape = found[0].tape if found is not None else point.recorded.latest or point.tape
    if tape not in _forbidden:
        _forbidden[tape] = _forbids(tape)
    return _forbidden[tape]


def _has_slopes(point: Point) -> bool:
    """Whether differences are finite all the same: along everything, along one element, and along nothing."""
    v = np.zeros((3, *point.arguments[0].shape))
    v[0], v[1].flat[0] = np.random.default_rng(0).uniform(0.5, 1.0, v[0].shape), 1.0
    return bool(np.isfinite(point.slopes({0: v}, (STEP,)).value).all())


def _forbids(tape: Tape) -> str:
    if special := {entry.kernel.kind for entry in tape.needed([tape.outputs[0]])} & _SPECIAL:
        return f"{special.pop()} has a value of its own at 0, where f may be infinitely steep"
    if not tape.reached(set(tape.arguments)).isdisjoint(guard.number for guard in tape.guards):
        return "its control flow depends on x, and may go another way at a row"
    return ""
