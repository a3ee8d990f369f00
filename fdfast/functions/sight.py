"""Whether everything that code of the user's own reads can be seen: what may read more has to be run to be known."""

from __future__ import annotations

import builtins
import dis
import functools
import inspect
import types
from collections.abc import Iterable
from typing import Any

import numpy as np

from fdfast.functions.captures import PLAIN, is_operation, not_looked_at, of_a_library, of_tensorflow

#: By whatever name it is reached: files, random numbers, clocks, names that are made up while the code runs.
_OUTSIDE = frozenset(
    [
        "open",
        "eval",
        "exec",
        "globals",
        "locals",
        "vars",
        "getattr",
        "input",
        "random",
        "rand",
        "randn",
        "load",
        "loadtxt",
        "genfromtxt",
        "fromfile",
        "memmap",
        "environ",
        "getenv",
        "time",
        "perf_counter",
        "now",
        "load_model",
        "load_weights",
    ]
)
#: Statements that reach out: to modules by name, to what another call will read.
_REACHING = frozenset(("IMPORT_NAME", "IMPORT_FROM", "STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR"))
#: Methods of a layer that do not run once it is built.
_BEFORE = frozenset(("__init__", "build", "get_config", "from_config", "compute_output_shape", "compute_output_spec"))
_UNREAD = ("_initializer", "_constraint")  # attributes of layers
_PURE = frozenset(("functools", "itertools", "operator", "collections", "typing", "dataclasses", "abc"))
_HOLDERS = (
    np.ndarray,
    inspect.Signature,
    list,
    tuple,
    set,
    frozenset,
    dict,
    types.MethodType,
    functools.partial,
    np.ufunc,
)


def in_sight(seen: Iterable[Any]) -> bool:
    """Whether code among what something reads can read nothing else.

    It may read more through files, random numbers, modules and classes of the user's own, objects whose class is, and
    names that are made up while it runs.

    Parameters
    ----------
    seen : iterable
        What a look at everything that is read has found, see `fdfast.functions.captures.read`.
    """
    things = list(seen)
    layers = tuple({kind for one in things if is_operation(one) for kind in type(one).__mro__})
    return all(_in_sight(one, layers) for one in things)


def _in_sight(one: Any, layers: tuple[type, ...]) -> bool:
    if isinstance(one, types.FunctionType):
        return of_a_library(one) or _runs_before(one) or _closed(one.__code__)
    if isinstance(one, (*PLAIN, *_HOLDERS)) or of_tensorflow(one) or is_operation(one):
        return True
    if isinstance(one, types.ModuleType):
        return of_a_library(one) or one.__name__.split(".")[0] in _PURE
    if isinstance(one, types.BuiltinFunctionType):
        return getattr(builtins, one.__name__, None) is one or of_a_library(one)
    # Members of a class are read where a layer is of it.
    return one in layers or of_a_library(one) if isinstance(one, type) else of_a_library(type(one))


def _runs_before(f: types.FunctionType) -> bool:
    owner, _, name = f.__qualname__.rpartition(".")
    return name in _BEFORE and bool(owner) and not owner.endswith("<locals>")


@functools.lru_cache(4096)
def _closed(code: types.CodeType) -> bool:
    steps = list(dis.get_instructions(code))
    # `keras.losses` is a module, `layer.losses` is not looked at.
    before = [None, *(step.argval for step in steps)]
    modules = {step.argval for step, last in zip(steps, before, strict=False) if last == "keras"}
    names = {name.lstrip("_") for name in code.co_names if name not in modules}
    if names & (_OUTSIDE | not_looked_at()) or any(name.endswith(_UNREAD) for name in names):
        return False
    if any(step.opname in _REACHING for step in steps):
        return False
    return all(_closed(const) for const in code.co_consts if isinstance(const, types.CodeType))
