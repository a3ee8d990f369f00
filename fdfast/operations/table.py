"""The table of operation kinds: the value, the operation at many rows, and how much its output moves.

Contract of a difference rule: *given the values z of an operation's inputs, their differences d (rows in front; None:
does not move; not floating point: the moved value itself) and the values of its outputs, return the outputs'
differences, exact for d of any size, and note per row which units tie and which cross.*
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

#: (kernel, *inputs) -> outputs in float64
Value = Callable[..., Any]
#: (kernel, number of rows, *inputs) -> outputs, all with the rows along axis 0, as have the inputs that move
Rows = Callable[..., Any]
#: (call) -> differences of the outputs
Difference = Callable[..., Any]


@dataclass(eq=False)
class Operation:
    """What is known of one kind of operation; None where nothing is.

    Attributes
    ----------
    kind : str
        TensorFlow's name of it, such as ``"Conv2D"``.
    value : callable
        Stand-in for a kernel that answers in float32 whatever it is given, or that has no float64 form.
    rows : callable
        ``rows(kernel, count, *inputs)`` returns a tensor or a list of them for all rows at once. What moves has shape
        (count, *shape of one row), in inputs and outputs; what does not has its own shape.
    moving : tuple of int or None
        Inputs that may move in `rows`; None for all.
    difference : callable
        The difference rule.
    smooth : callable
        A cheaper rule that is right as long as no unit ties or crosses; it returns the differences and a scalar that
        says whether one does.
    """

    kind: str
    value: Value | None = None
    rows: Rows | None = None
    moving: tuple[int, ...] | None = None
    difference: Difference | None = None
    smooth: Difference | None = None
    origins: dict[str, str] = field(default_factory=dict)


TABLE: dict[str, Operation] = {}


def register(aspect: str, kinds: Sequence[str], what: Any, **more: Any) -> None:
    """Enter a function for these kinds.

    Raises
    ------
    ValueError
        One has such a function already; the message says where.
    """
    code = inspect.unwrap(what).__code__
    for kind in kinds:
        entry = TABLE.setdefault(kind, Operation(kind))
        if getattr(entry, aspect) is not None:
            raise ValueError(f"{kind} has a rule already ({aspect}, {entry.origins[aspect]})")
        setattr(entry, aspect, what)
        for name, value in more.items():
            setattr(entry, name, value)
        entry.origins[aspect] = f"{code.co_filename}:{code.co_firstlineno}"


def value(*kinds: str) -> Callable[[Value], Value]:
    """Register the float64 form of these operations."""
    return _registers("value", kinds)


def for_rows(*kinds: str, moving: tuple[int, ...] | None = None) -> Callable[[Rows], Rows]:
    """Register these operations at many rows; `moving` are the inputs that may move, None for all."""
    return _registers("rows", kinds, moving=moving)


def difference_rule(*kinds: str) -> Callable[[Difference], Difference]:
    """Register the difference rule of operations: also of one's own.

    Parameters
    ----------
    *kinds : str
        Names of the operations, as ``tf.Operation.type`` has them.

    Returns
    -------
    callable
        Decorator of ``rule(call)``; see `fdfast.operations.Call`. The rule returns the difference of the output, or a
        list of those of all outputs, with the rows along axis 0; None for an output that does not move;
        ``NotImplemented`` for a case that it does not know, which is then subtracted and said to be.

    Raises
    ------
    ValueError
        A kind has a rule already.

    Examples
    --------
    >>> import tensorflow as tf, fdfast.operations
    >>> rule = fdfast.operations.difference_rule("Digamma")  # psi(z + d) - psi(z)
    """
    return _registers("difference", kinds)


def smooth_rule(*kinds: str) -> Callable[[Difference], Difference]:
    """Register the rule that holds as long as no unit ties or crosses."""
    return _registers("smooth", kinds)


def _registers(aspect: str, kinds: Sequence[str], **more: Any) -> Callable[[Any], Any]:
    def enter(what: Any) -> Any:
        register(aspect, kinds, what, **more)
        return what

    return enter
