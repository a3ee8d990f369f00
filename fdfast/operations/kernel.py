"""Operations of a traced graph, run with other inputs and attributes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from fdfast.operations.table import TABLE

#: What is lifted to float64.
NARROW = (tf.float16, tf.bfloat16, tf.float32)
#: What a type is lifted to, for those that are.
LIFTS = {**dict.fromkeys(NARROW, tf.float64), tf.complex64: tf.complex128}


class Unmapped(Exception):
    """Something cannot be done for many rows at once; the message says why."""


class Kernel:
    """An operation of TensorFlow's own, by its kind and attributes; it runs eagerly, or in whatever graph is made.

    Attributes
    ----------
    kind : str
        Such as ``"Conv2D"``.
    attributes : dict
    moves : tuple of bool
        Which inputs depend on the rows, where it runs for many rows at once.
    """

    def __init__(self, kind: str, attributes: Mapping[str, Any], moves: Sequence[bool] = ()) -> None:
        self.kind = kind
        self.moves = tuple(moves)
        self._signature = _signature(kind)
        self.attributes = {name: attributes[name] for name in self._signature.attributes if name in attributes}
        # where the inputs go and, where one is a list, how many tensors are in it
        self._inputs = [(place, _length(attributes, arg)) for place, arg in self._signature.inputs]

    @classmethod
    def of(cls, op: Any, moves: Sequence[bool] = ()) -> Kernel:
        """The operation of a graph."""
        return cls(op.type, {name: op.get_attr(name) for name in _signature(op.type).told}, moves)

    def lifted(self) -> Kernel:
        """The same in float64."""
        wide = {name: _lifted(value) for name, value in self.attributes.items()}
        found = object.__new__(type(self))
        found.__dict__.update(self.__dict__, attributes=wide)
        return found

    def moving(self, moves: Sequence[bool]) -> Kernel:
        """The same for inputs of which these depend on the rows."""
        found = object.__new__(type(self))
        found.__dict__.update(self.__dict__, moves=tuple(moves))
        return found

    def __call__(self, *inputs: Any, **attributes: Any) -> list[Any]:
        """Outputs as a list; attributes are changed for this call.

        In float64 also where TensorFlow's kernel answers in float32 or has no float64 form (see `Operation.value`).
        """
        entry = TABLE.get(self.kind)
        if entry is not None and entry.value is not None and any(_is_wide(one) for one in inputs):
            found = entry.value(self, *inputs)
            if found is not NotImplemented:
                return found if isinstance(found, list) else [found]
        return self.raw(*inputs, **attributes)

    def raw(self, *inputs: Any, **attributes: Any) -> list[Any]:
        """Outputs of TensorFlow's own kernel."""
        named = self._signature.named
        taken = {named[name]: value for name, value in {**self.attributes, **attributes}.items()}
        place = 0
        for name, length in self._inputs:
            taken[name] = inputs[place] if length is None else list(inputs[place : place + length])
            place += 1 if length is None else length
        found = self._signature.run(**taken)
        if isinstance(found, list | tuple):
            return list(found)
        return [] if found is None or isinstance(found, tf.Operation) else [found]


class Plain(Kernel):
    """A kernel that answers as TensorFlow does, in the precision that it is given."""

    def __call__(self, *inputs: Any, **attributes: Any) -> list[Any]:
        """See `Kernel.raw`."""
        return self.raw(*inputs, **attributes)


class _Signature:
    """How Python calls an operation: a few inputs and attributes have another name there."""

    def __init__(self, kind: str) -> None:
        self.run: Any = getattr(tf.raw_ops, kind, None)
        definition = op_def_registry.get(kind)
        if self.run is None or definition is None:
            raise Unmapped(f"{kind} is no operation of TensorFlow's own")
        args = definition.input_arg
        implied = {name for arg in args for name in (arg.type_attr, arg.number_attr, arg.type_list_attr)}
        wanted = [arg.name for arg in args] + [a.name for a in definition.attr if a.name not in implied]
        taken = [name for name in inspect.signature(self.run).parameters if name != "name"]
        self.named = {name: name for name in wanted if name in taken}
        renamed = [name for name in wanted if name not in self.named]
        others = [name for name in taken if name not in self.named]
        if len(renamed) != len(others) or (len(others) > 1 and kind != "Select"):
            raise Unmapped(f"{kind} takes other arguments in Python")
        self.named |= dict(zip(renamed, others, strict=True))
        self.inputs = [(self.named[arg.name], arg) for arg in args]
        self.attributes = [a.name for a in definition.attr if a.name in self.named]
        #: Attributes that the inputs do not tell, and the lengths of lists.
        self.told = [*self.attributes, *{n for arg in args for n in (arg.number_attr, arg.type_list_attr) if n}]


@cache
def _signature(kind: str) -> _Signature:
    return _Signature(kind)


def _length(attributes: Mapping[str, Any], arg: Any) -> int | None:
    if arg.number_attr:
        return int(attributes[arg.number_attr])
    return len(attributes[arg.type_list_attr]) if arg.type_list_attr else None


def _is_wide(tensor: Any) -> bool:
    return bool(getattr(tensor, "dtype", None) == tf.float64)


def _lifted(value: Any) -> Any:
    if isinstance(value, list):
        return [_lifted(one) for one in value]
    return LIFTS.get(value, value) if isinstance(value, tf.DType) else value


def repeated(tensor: Any, rows: int) -> Any:
    """Copies of what does not move, one for each row."""
    return tf.broadcast_to(tensor, [rows, *tensor.shape])
