"""What a function, layer or model reads besides its arguments: what was made of it is of no use once that changes."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import types
import weakref
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

PLAIN = (type(None), bool, int, float, complex, str, bytes, range, np.generic, np.dtype, type(Ellipsis))
_FIXED = (
    inspect.Signature,  # tf.custom_gradient keeps one
    type,
    types.ModuleType,
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    np.ufunc,
)
_LIBRARIES = ("tensorflow", "keras", "numpy", "math", "builtins")

# Attributes of a layer that say nothing of what it computes in inference mode.
_KEPT_OF_LAYERS = {"_dtype_policy", "activity_regularizer", "_layers", "_supports_masking"}
_OF_TRAINING = {
    *("loss", "optimizer", "compiled", "stop_training", "history", "_distribute_strategy", "_initial_epoch"),
    *("_jit_compile", "_run_eagerly", "_loss_tracker", "steps_per_execution", "unrolled_steps_per_execution"),
    *("train_function", "test_function", "predict_function", "_compute_loss_has_training_arg", "stop_evaluating"),
    *("stop_predicting", "_eval_epoch_iterator", "_distributed_dataset", "_distribute_reduction_method"),
}
_OF_GRAPHS = {
    *("_nodes", "_nodes_by_depth", "_operations_by_depth", "_inputs", "_outputs", "_inputs_struct", "_outputs_struct"),
    *("output_names", "_input_tensor"),
}
#: What a recurrent cell keeps from its first call on: dropout in training.
_OF_CELLS = {"_dropout_mask", "_recurrent_dropout_mask"}


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


@dataclass(frozen=True, eq=False)
class Reading:
    """What was found when looking at everything that something reads.

    Attributes
    ----------
    tokens : list
        Stand-in for all of it: equal as long as the same is read.
    seen : list
        The things themselves.
    complete : bool
        Whether every change can be seen.
    """

    tokens: list[Any]
    seen: list[Any]
    complete: bool


def read(root: Any, limit: int) -> Reading:
    """Look at everything that `root` reads; of no more than `limit` things that are no layers.

    Looked at are closures, globals, defaults, attributes of callable objects and of modules, the arguments of a
    partial, and what functions, containers and objects among these reach in turn. Of layers and models those attributes
    count that say what they compute, and the methods of classes that are no library's. Arrays count by their bytes.
    Tensors and variables count as the same object: a traced function reads a variable's present value. A `tf.function`
    counts as itself, because TensorFlow too traces it only once.
    """
    tokens: list[Any] = []
    seen: dict[int, Any] = {}
    place: dict[int, int] = {}
    waiting, complete, left = [root], True, limit
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            tokens.append(place[id(one)])
            continue
        seen[id(one)], place[id(one)] = one, len(seen)
        left -= not is_operation(one)
        if left < 0:
            complete = False
            break
        try:
            token, inside = _look(one)
        except _Unknown:
            token, inside, complete = _Same(one), [], False
        tokens.append(token)
        waiting += inside
    return Reading(tokens, list(seen.values()), complete)


def _look(one: Any) -> tuple[Any, list[Any]]:
    """Stand-in for one thing, and what to look at next."""
    if isinstance(one, PLAIN):
        return plain(one), []
    if isinstance(one, np.ndarray):
        if one.dtype.hasobject:
            raise _Unknown
        return (one.shape, one.dtype.str, checksum(one)), []
    if isinstance(one, types.FunctionType):
        return one.__code__, [] if of_a_library(one) else read_by(one)
    if isinstance(one, types.MethodType):
        return "method", [one.__func__, one.__self__]
    if isinstance(one, functools.partial):
        return "partial", [one.func, one.args, one.keywords]
    if isinstance(one, list | tuple | set | frozenset):
        return (type(one).__name__, len(one)), list(one)
    if isinstance(one, dict):
        return ("dict", len(one)), [*one.keys(), *one.values()]
    if is_operation(one):
        return _look_at_layer(one)
    if isinstance(one, _FIXED) or of_tensorflow(one):
        return _Same(one), []
    try:
        attributes = vars(one)
    except TypeError:  # for instance a NumPy generator, whose state is not an attribute
        raise _Unknown from None
    return (_Same(one), tuple(attributes)), attributes_of(one)


def attributes_of(one: Any) -> list[Any]:
    """What an object holds, and what it does when it is called."""
    calls = [vars(kind)["__call__"] for kind in type(one).__mro__ if "__call__" in vars(kind)]
    return [*vars(one).values(), *calls[:1]]


def _look_at_layer(layer: Any) -> tuple[Any, list[Any]]:
    attributes = vars(layer)
    names = telling(layer)
    simple = tuple((name, plain(attributes[name])) for name in names if isinstance(attributes[name], PLAIN))
    others = [name for name in names if not isinstance(attributes[name], PLAIN)]
    token = (_Same(layer), simple, tuple(others), tuple(_variables_of(attributes[name] for name in others)))
    inside = [attributes[name] for name in others]
    for kind in own_classes(layer):
        inside += class_members(kind)
    return token, inside


def plain(one: Any) -> tuple[str, str]:
    """Stand-in for a number, a string and the like."""
    return type(one).__name__, repr(one)


def checksum(array: np.ndarray) -> int:
    """Number that hardly ever stays the same if the array changes."""
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data) if array.size else 0


def is_operation(one: Any) -> bool:
    """Whether it is a Keras layer, model or operation of a graph."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(one, keras.Operation)


@functools.cache
def _of_every_layer() -> frozenset[str]:
    import keras

    return frozenset(vars(keras.layers.Layer())) - _KEPT_OF_LAYERS | _OF_GRAPHS


def telling(layer: Any) -> list[str]:
    """Names of the attributes that say what a layer computes in inference mode."""
    skipped = _of_every_layer() | (_OF_TRAINING if hasattr(layer, "compile") else frozenset())
    skipped |= _OF_CELLS if hasattr(layer, "get_dropout_mask") else frozenset()
    return [
        name
        for name in vars(layer)
        if name not in skipped
        and not name.startswith(("_self_", "_compile"))
        and not name.endswith(("_initializer", "_constraint"))
    ]


@functools.cache
def not_looked_at() -> frozenset[str]:
    """Names by which code would read attributes of a layer that are not looked at, without a leading underscore."""
    skipped = {name.lstrip("_") for name in _of_every_layer() | _OF_TRAINING} - {"name", "output_names"}
    derived = {f"{side}trainable_{what}" for side in ("", "non_") for what in ("variables", "weights")}
    return frozenset(skipped | derived)


def own_classes(layer: Any) -> Iterator[type]:
    """Classes of a layer that are no library's."""
    return (kind for kind in type(layer).__mro__ if not _named_by_a_library(kind.__module__))


def class_members(kind: type) -> list[Any]:
    """Functions and values that a class holds."""
    found: list[Any] = []
    for name, value in vars(kind).items():
        if name.startswith("__") and not isinstance(value, types.FunctionType):
            continue
        if isinstance(value, property):
            found += [f for f in (value.fget, value.fset) if f is not None]
        else:
            found.append(getattr(value, "__func__", value))
    return found


def read_by(f: types.FunctionType) -> list[Any]:
    """What a function holds and what it reads of its module, by reference."""
    cells = []
    for cell in f.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not filled yet
            cells.append(None)
    return [*cells, f.__defaults__, f.__kwdefaults__, *_globals_of(f.__code__, f.__globals__)]


@functools.lru_cache(4096)
def _global_names(code: types.CodeType) -> tuple[str, ...]:
    steps = dis.get_instructions(code)
    return tuple(dict.fromkeys(one.argval for one in steps if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")))


def _globals_of(code: types.CodeType, names: dict[str, Any]) -> list[Any]:
    read: list[Any] = []
    for name in _global_names(code):
        if name not in names:
            continue
        value = names[name]
        read.append(value)
        if isinstance(value, types.ModuleType) and not of_a_library(value):
            # Attributes are among the names too; which object they are taken from does not show.
            read += [vars(value)[inner] for inner in code.co_names if inner in vars(value)]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            read += _globals_of(constant, names)
    return read


def of_a_library(one: Any) -> bool:
    """Whether a function or a module belongs to TensorFlow, Keras, NumPy or Python."""
    return _named_by_a_library(one.__name__ if isinstance(one, types.ModuleType) else getattr(one, "__module__", None))


def _named_by_a_library(module: str | None) -> bool:
    return (module or "").split(".")[0] in _LIBRARIES


def _variables_of(values: Iterator[Any]) -> Iterator[int]:
    """Present values of TensorFlow's own variables: Keras does not count them among a layer's weights."""
    tf = sys.modules.get("tensorflow")
    return (checksum(one.numpy()) for one in values if tf is not None and isinstance(one, tf.Variable))


def of_tensorflow(one: Any) -> bool:
    """Whether it is a tensor, a variable or a traced function: what is read anew, or cannot change."""
    tf, keras = sys.modules.get("tensorflow"), sys.modules.get("keras")
    if tf is None:
        return False
    kinds = (tf.Tensor, tf.Variable, tf.DType, tf.TensorShape, tf.types.experimental.PolymorphicFunction)
    return isinstance(one, kinds) or (keras is not None and isinstance(one, keras.Variable | keras.KerasTensor))
