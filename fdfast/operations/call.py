"""One operation on a tape, as a difference rule sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from fdfast.operations.kernel import Kernel, Unmapped
from fdfast.operations.table import TABLE, Operation

#: Class of tensors that have values; those of a graph in the making are of another.
_EAGER = tf.__internal__.EagerTensor
_FAILURES = (Unmapped, tf.errors.OpError, ValueError, TypeError, AssertionError)


_short: ContextVar[Notes | None] = ContextVar("short", default=None)


@contextlib.contextmanager
def short_moves(notes: Notes) -> Iterator[None]:
    """Take moves of the graph in the making for short; the notes get what says whether they are: `below`, `tiny`."""
    token = _short.set(notes)
    try:
        yield
    finally:
        _short.reset(token)


def below(d: Any, limit: float) -> bool:
    """Whether every |d| is below the limit; of a graph in the making it is what is asked for, see `short_moves`."""
    if has_value(d):
        return d.shape.num_elements() == 0 or float(tf.reduce_max(tf.abs(d))) < limit
    notes = _short.get()
    if notes is not None:
        notes.special.append((-1, ~(tf.reduce_max(tf.abs(d)) < limit)))
    return notes is not None


#: Moves whose squares are nothing beside them, for functions that bend no more than a few times as much as they rise.
_TINY = 2.0**-54


def tiny(d: Any) -> bool:
    """Whether moves are so short that nothing of second order is left; of a graph in the making as for `below`."""
    notes = None if has_value(d) else _short.get()
    if not d.dtype.is_floating or not (has_value(d) or (notes is not None and notes.tiny)):
        return False
    within = tf.nn.l2_loss(d) < _TINY * _TINY / 2
    if notes is None:
        return bool(within)
    notes.special.append((-1, ~within))
    return True


def has_value(tensor: Any) -> bool:
    """Whether a tensor has values now, rather than once its graph runs."""
    return isinstance(tensor, _EAGER)


@dataclass(eq=False)
class Notes:
    """What was met on the way.

    Attributes
    ----------
    branches : list of (int, tensor or None, tensor or None)
        Number of the operation; for each row whether a unit sits on a kink and moves, and whether one leaves its
        branch. Both None where the smooth rule was taken: then nothing ties and nothing crosses.
    special : list of (int, tensor)
        Only in a graph: number of the operation and a scalar, True if its smooth rule does not hold.
    subtracted : list of str
        Kinds without a rule, whose differences were subtracted.
    smooth : bool
        Whether smooth rules may be taken.
    tiny : bool
        Whether a graph in the making is for moves so short that nothing of second order is left.
    """

    branches: list[tuple[int, Any, Any]] = field(default_factory=list)
    special: list[tuple[int, Any]] = field(default_factory=list)
    subtracted: list[str] = field(default_factory=list)
    smooth: bool = True
    tiny: bool = False

    @property
    def ties(self) -> list[tuple[int, Any]]:
        """Operations where a unit sits on a kink and moves, and in which rows."""
        return [(number, tie) for number, tie, _ in self.branches if tie is not None and bool(tf.reduce_any(tie))]

    @property
    def crossings(self) -> list[tuple[int, Any]]:
        """Operations where a unit leaves its branch, and in which rows."""
        return [(number, one) for number, _, one in self.branches if one is not None and bool(tf.reduce_any(one))]


@dataclass(eq=False)
class Call:
    """Values of inputs and outputs of an operation, and how its inputs move.

    Attributes
    ----------
    kernel : Kernel
    count : int
        Number of rows.
    z : list of tensor
        Values of the inputs.
    d : list of tensor or None
        Differences of the inputs, the rows along a new axis 0; None for one that does not move. Of a tensor that is not
        floating point it is the moved value itself.
    out : list of tensor
        Values of the outputs.
    number : int
        Of the operation on its tape.
    notes : Notes
    """

    kernel: Kernel
    count: int
    z: list[Any]
    d: list[Any]
    out: list[Any]
    number: int = 0
    notes: Notes = field(default_factory=Notes)

    def full(self, i: int) -> Any:
        """Difference of input i, zeros if it does not move."""
        return tf.zeros([self.count, *self.z[i].shape], self.z[i].dtype) if self.d[i] is None else self.d[i]

    def aligned(self, i: int, rank: int | None = None) -> Any:
        """Difference of input i with axes put in where broadcasting would; None if it does not move."""
        d = self.d[i]
        missing = (self.out[0].shape.rank if rank is None else rank) - self.z[i].shape.rank
        if d is None or missing <= 0:
            return d
        return tf.reshape(d, [self.count, *[1] * missing, *self.z[i].shape])

    def broad(self, d: Any) -> Any:
        """A difference of the first output, in its shape."""
        shape = [self.count, *self.out[0].shape]
        return d if d.shape == shape else tf.broadcast_to(d, shape)

    def moved(self, i: int) -> Any:
        """Input i of every row."""
        z, d = self.z[i], self.d[i]
        if d is None:
            return tf.broadcast_to(z, [self.count, *z.shape])
        return z + d if is_real(z) else d

    def ties(self, tie: Any, cross: Any) -> None:
        """Note for each row whether a unit sits on a kink and moves, or leaves its branch; shapes (rows, ...)."""
        self.notes.branches.append((self.number, _any_unit(tie), _any_unit(cross)))

    def only(self, **given: Any) -> Call:
        """The same with other values."""
        return Call(**{**self.__dict__, **given})


def is_real(tensor: Any) -> bool:
    """Whether a tensor has differences: real or complex floating point."""
    return bool(tensor.dtype.is_floating or tensor.dtype.is_complex)


def _any_unit(what: Any) -> Any:
    return tf.reduce_any(what, list(range(1, what.shape.rank)))


def difference(call: Call) -> list[Any]:
    """Differences of the outputs: by rule; else subtracted, and noted."""
    entry = TABLE.get(call.kernel.kind)
    if not any(is_real(t) for t in call.z + call.out):
        return settled(call, at_rows(call, call.d))
    smooth = None if entry is None or not call.notes.smooth else entry.smooth
    if smooth is not None and all(d is None or is_real(d) for d in call.d):
        found, special = smooth(call)
        if not has_value(special):
            call.notes.special.append((call.number, special))
            return _listed(call, found)
        if not bool(special):
            return _listed(call, found)
    if entry is not None and entry.difference is not None:
        found = entry.difference(call)
        if found is not NotImplemented:
            return _listed(call, found)
    call.notes.subtracted.append(call.kernel.kind)
    return subtracted(call)


#: Of the size of a value: a step whose square is as large as what subtraction loses, divided by it.
_STEP = 2.0**-17


def subtracted(call: Call) -> list[Any]:
    """Differences of an operation without a rule: plain for long moves, for tiny ones in proportion to a longer one.

    A move that vanishes beside the value is stretched to a step that does not, the central difference of that step
    taken, and shrunk again: ten digits, where a rule has all.
    """
    moving = [(z, d) for z, d in zip(call.z, call.d, strict=True) if d is not None and is_real(z)]
    others = any(d is not None and not is_real(z) for z, d in zip(call.z, call.d, strict=True))
    size = [tf.reduce_max(tf.abs(z)) if z.shape.num_elements() else tf.zeros([], tf.float64) for z, _ in moving]
    reach = [tf.reduce_max(tf.abs(d)) for _, d in moving]
    sizes, reaches = (tf.reduce_max(tf.stack([tf.cast(one, tf.float64) for one in many])) for many in (size, reach))
    wanted = _STEP * tf.where(sizes > 0, sizes, tf.ones_like(sizes))
    if others or (has_value(reaches) and float(reaches) >= float(wanted)) or not all(is_real(t) for t in call.out):
        return settled(call, at_rows(call, [None if d is None else call.moved(i) for i, d in enumerate(call.d)]))
    stretch = wanted / tf.where(reaches > 0, reaches, tf.ones_like(reaches))

    def sides(sign: float) -> list[Any]:
        factor = sign * stretch
        return at_rows(
            call,
            [None if d is None else z + tf.cast(factor, z.dtype) * d for z, d in zip(call.z, call.d, strict=True)],
        )

    return [(up - down) / tf.cast(2 * stretch, up.dtype) for up, down in zip(sides(1.0), sides(-1.0), strict=True)]


def _listed(call: Call, found: Any) -> list[Any]:
    each = [*found] if isinstance(found, list) else [found]
    return each + [None] * (len(call.out) - len(each))


def settled(call: Call, moved: Sequence[Any]) -> list[Any]:
    """Moved outputs as differences; None for one that is the same in every row, as far as that can be told."""
    found = []
    for z, m in zip(call.out, moved, strict=True):
        same = has_value(m) and m.dtype.is_numpy_compatible and bool(tf.reduce_all(m == z))
        found.append(None if same else m - z if is_real(z) else m)
    return found


def at_rows(call: Call, given: Sequence[Any], *, fill: bool = False, alone: bool = False) -> list[Any]:
    """The operation for all rows.

    Parameters
    ----------
    given : sequence of tensor or None
        Rows of the inputs that differ, None for the others.
    fill : bool
        Take zeros for floating-point inputs that do not differ, in the place of their values.
    alone : bool
        One row after the other.
    """
    if fill:
        given = [call.full(i) if g is None and is_real(call.z[i]) else g for i, g in enumerate(given)]
    moves = tuple(g is not None for g in given)
    inputs = [z if g is None else g for z, g in zip(call.z, given, strict=True)]
    entry = TABLE.get(call.kernel.kind)
    if entry is not None and entry.rows is not None and not alone and _may_move(entry, moves):
        with contextlib.suppress(*_FAILURES):  # the rows one after the other, then
            found: Any = entry.rows(call.kernel.moving(moves), call.count, *inputs)
            return [*found] if isinstance(found, list) else [found]
    parts = [
        call.kernel(*(x[row] if m else x for x, m in zip(inputs, moves, strict=True))) for row in range(call.count)
    ]
    return [tf.stack(column) for column in zip(*parts, strict=True)]


def _may_move(entry: Operation, moves: tuple[bool, ...]) -> bool:
    return entry.moving is None or all(i in entry.moving for i, m in enumerate(moves) if m)
