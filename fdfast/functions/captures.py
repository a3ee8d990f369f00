"""What a Python function reads besides its arguments, so that its traced form is not used after that has changed."""

from __future__ import annotations

import functools
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, np.generic, np.dtype, type(Ellipsis))
_FIXED = (
    type,
    types.ModuleType,
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    np.ufunc,
)
#: Things looked at before a function counts as one that cannot be told.
_LIMIT = 500
_LIBRARIES = ("tensorflow", "keras", "numpy", "math", "builtins")


class _Unknown(Exception):
    """The function reads something whose changes cannot be seen."""


class _Same:
    """Equal to another one if both stand for the same object; does not keep it alive where that can be avoided."""

    def __init__(self, one: Any) -> None:
        self._get: Callable[[], Any]
        try:
            self._get = weakref.ref(one)
        except TypeError:
            self._get = lambda: one

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._get() is not None and self._get() is other._get()

    __hash__ = None  # type: ignore[assignment]


def captures(f: Any) -> list[Any] | None:
    """Stand-in for everything that f reads: equal as long as f reads the same.

    Looked at are closures, globals, defaults, attributes of callable objects and of modules, the arguments of a
    partial, and what functions, containers and objects among these reach in turn. Arrays count by their bytes. Tensors,
    variables and Keras layers count as the same object: a traced function reads a variable's present value. A
    `tf.function` counts as itself, because TensorFlow too traces it only once.

    Returns
    -------
    list or None
        None if f reads something whose changes cannot be seen.
    """
    found: list[Any] = []
    seen: dict[int, Any] = {}
    waiting = [f]
    try:
        while waiting:
            one = waiting.pop()
            if id(one) in seen:
                found.append(list(seen).index(id(one)))
                continue
            seen[id(one)] = one
            if len(seen) > _LIMIT:
                return None
            token, inside = _look(one)
            found.append(token)
            waiting += inside
    except _Unknown:
        return None
    return found


def _look(one: Any) -> tuple[Any, list[Any]]:
    """Stand-in for one thing, and what to look at next."""
    if isinstance(one, _PLAIN):
        return (type(one).__name__, repr(one)), []
    if isinstance(one, np.ndarray):
        if one.dtype.hasobject:
            raise _Unknown
        return (one.shape, one.dtype.str, hash(one.tobytes())), []
    if isinstance(one, types.FunctionType):
        return one.__code__, [] if _of_a_library(one) else _read_by(one)
    if isinstance(one, types.MethodType):
        return "method", [one.__func__, one.__self__]
    if isinstance(one, functools.partial):
        return "partial", [one.func, one.args, one.keywords]
    if isinstance(one, list | tuple | set | frozenset):
        return (type(one).__name__, len(one)), list(one)
    if isinstance(one, dict):
        return ("dict", len(one)), [*one.keys(), *one.values()]
    if isinstance(one, _FIXED) or _of_tensorflow(one):
        return _Same(one), []
    try:
        attributes = vars(one)
    except TypeError:  # for instance a NumPy generator, whose state is not an attribute
        raise _Unknown from None
    calls = [vars(kind)["__call__"] for kind in type(one).__mro__ if "__call__" in vars(kind)]
    return (_Same(one), tuple(attributes)), [*attributes.values(), *calls[:1]]


def _read_by(f: types.FunctionType) -> list[Any]:
    cells = []
    for cell in f.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not filled yet
            cells.append(None)
    return [*cells, f.__defaults__, f.__kwdefaults__, *_globals_of(f.__code__, f.__globals__)]


def _globals_of(code: types.CodeType, names: dict[str, Any]) -> list[Any]:
    read: list[Any] = []
    for name in code.co_names:
        if name not in names:
            continue
        value = names[name]
        read.append(value)
        if isinstance(value, types.ModuleType) and not _of_a_library(value):
            # Attributes are among the names too; which object they are taken from does not show.
            read += [vars(value)[inner] for inner in code.co_names if inner in vars(value)]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            read += _globals_of(constant, names)
    return read


def _of_a_library(one: Any) -> bool:
    name = one.__name__ if isinstance(one, types.ModuleType) else getattr(one, "__module__", None)
    return (name or "").split(".")[0] in _LIBRARIES


def _of_tensorflow(one: Any) -> bool:
    tf, keras = sys.modules.get("tensorflow"), sys.modules.get("keras")
    if tf is None:
        return False
    kinds = (tf.Tensor, tf.Variable, tf.DType, tf.TensorShape, tf.types.experimental.PolymorphicFunction)
    return isinstance(one, kinds) or (keras is not None and isinstance(one, keras.Layer | keras.Variable))
