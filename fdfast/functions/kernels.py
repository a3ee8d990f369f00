"""Operations of a traced graph that run eagerly, and the rules by which they run for many rows at once.

A rule is a function in the table `RULES`, under the name of the operation; `kernel_rules` has them all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from fdfast.functions.over_rows import Unmapped

#: (kernel, number of rows, *inputs) -> outputs, all with the rows along axis 0, as have the inputs that move.
RowsRule = Callable[..., Any]


class Rule(NamedTuple):
    """How an operation is done for all rows at once.

    Attributes
    ----------
    apply : callable
        ``apply(kernel, rows, *inputs)`` returns a tensor or a list of them. What moves has shape (rows, *shape of one
        row), in inputs and outputs; what does not has its own shape. Raises Unmapped for what it cannot do.
    moving : tuple of int or None
        Positions of the inputs that may move; None for all.
    """

    apply: RowsRule
    moving: tuple[int, ...] | None


RULES: dict[str, Rule] = {}


class Kernel:
    """An operation of a graph, which can be run eagerly with other inputs and attributes.

    Attributes
    ----------
    moves : tuple of bool
        Which inputs depend on the rows.
    attributes : dict
    """

    def __init__(self, op: Any, moves: Sequence[bool] = ()) -> None:
        self.moves = tuple(moves)
        self.kind = op.type
        self._run = getattr(tf.raw_ops, op.type, None)
        if self._run is None:
            raise Unmapped(f"{op.type} is no operation of TensorFlow's own")
        inputs = [arg.name for arg in op.op_def.input_arg]
        self._named = _python_names(op, inputs, list(inspect.signature(self._run).parameters))
        self.attributes = {a.name: op.get_attr(a.name) for a in op.op_def.attr if a.name in self._named}
        # name and, where it takes a list, how many tensors are in it
        self._inputs = [(self._named[arg.name], _length(op, arg)) for arg in op.op_def.input_arg]

    def __call__(self, *inputs: Any, **attributes: Any) -> list[Any]:
        """Outputs as a list; attributes are changed for this call."""
        taken = {self._named[name]: value for name, value in {**self.attributes, **attributes}.items()}
        place = 0
        for name, length in self._inputs:
            taken[name] = inputs[place] if length is None else list(inputs[place : place + length])
            place += 1 if length is None else length
        found = self._run(**taken)  # type: ignore[misc]
        return list(found) if isinstance(found, list | tuple) else [found]


def _python_names(op: Any, inputs: list[str], taken: list[str]) -> dict[str, str]:
    """What the Python function calls the inputs and attributes: a few have another name there."""
    args = op.op_def.input_arg
    implied = {name for arg in args for name in (arg.type_attr, arg.number_attr, arg.type_list_attr)}
    wanted = [*inputs, *(a.name for a in op.op_def.attr if a.name not in implied)]
    taken = [name for name in taken if name != "name"]
    named = {name: name for name in wanted if name in taken}
    renamed = [name for name in wanted if name not in named]
    names = [name for name in taken if name not in named]
    if len(renamed) != len(names) or len(names) > 1:
        raise Unmapped(f"{op.type} takes other arguments in Python")
    return {**named, **dict(zip(renamed, names, strict=True))}


def _length(op: Any, arg: Any) -> int | None:
    if arg.number_attr:
        return int(op.get_attr(arg.number_attr))
    return len(op.get_attr(arg.type_list_attr)) if arg.type_list_attr else None


def repeated(tensor: Any, rows: int) -> Any:
    """Copies of what does not move, one for each row."""
    return tf.broadcast_to(tensor, [rows, *tensor.shape])


def rule(*names: str, moving: tuple[int, ...] | None = None) -> Callable[[RowsRule], RowsRule]:
    """Register a function as the rule of the named operations; `moving` are the inputs that may move, None for all."""

    def register(apply: RowsRule) -> RowsRule:
        for name in names:
            if name in RULES:
                raise ValueError(f"{name} has a rule already")
            RULES[name] = Rule(apply, moving)
        return apply

    return register
