"""What goes into a function: arrays by name, flat, and how to pack them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.moves import as_array, as_floats, whole_numbers

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Argument:
    """One array that goes into a function.

    Attributes
    ----------
    name : str
        ``"x"`` for the only one, else its place or key.
    value : ndarray
        As f takes it, in a dtype of its own; floating point ones in float64.
    dtype : tf.DType
        What f is traced with.
    batched : bool
        Whether the caller gave a leading axis of examples; if not, `value` has one of length 1 where f is a model.
    given : ndarray
        What the caller gave.
    held : bool
        Whether it stays as it is though it could move, as a target does.
    """

    name: str
    value: Array
    dtype: Any
    batched: bool
    given: Array
    held: bool = False

    @property
    def moves(self) -> bool:
        """Whether it can and may: whole numbers are held."""
        return bool(self.dtype.is_floating) and not self.held


def model_arguments(
    model: Any, x: Any, *, weights: bool = False
) -> tuple[list[Argument], Callable[[Sequence[Any]], Any], int, bool]:
    """Flat arguments of a model, what packs tensors for it, number of examples, and whether x has an axis for them.

    With `weights`, which move beside them, the inputs may all be whole numbers.
    """
    wanted = getattr(model, "inputs", None) or []
    structure = getattr(getattr(model, "_functional", model), "_inputs_struct", None) if wanted else None
    given, names = flattened(x, structure)
    if wanted and len(wanted) != len(given):
        raise ValueError(
            f"{model.name!r} takes {len(wanted)} inputs ({', '.join(_input_names(model))}), got {len(given)}"
        )
    arrays = [as_array(one, name) for one, name in zip(given, names, strict=True)]
    alone = bool(wanted) and all(a.ndim == len(w.shape) - 1 for a, w in zip(arrays, wanted, strict=True))
    own = _float_dtype(model)
    arguments = []
    for i, array in enumerate(arrays):
        dtype = tf.as_dtype(wanted[i].dtype) if wanted else None
        if dtype is not None and dtype.is_floating and array.dtype.kind in "iub":
            raise TypeError(whole_numbers(names[i], array.dtype))
        whole = dtype is not None and not dtype.is_floating
        if array.dtype.kind in "iub" or whole:
            arguments.append(_argument(names[i], array, dtype or tf.as_dtype(array.dtype), not alone, array))
            continue
        values = as_floats(array, names[i])
        _check_shape(model, names[i], values, wanted[i] if wanted else None, alone)
        arguments.append(_argument(names[i], values, own, not alone, values))
    if not weights and not any(a.moves for a in arguments):
        raise TypeError(
            f"{model.name!r} takes whole numbers only ({', '.join(names)}), which have no derivative: check its "
            "weights, wrt='weights', or the layers behind the embedding"
        )
    examples = {len(a.value) for a in arguments if a.value.ndim}
    if len(examples) != 1:
        raise ValueError(f"the inputs have {' and '.join(map(str, sorted(examples)))} examples; they must have as many")
    pack = packer(x, structure)
    return arguments, pack, examples.pop(), not alone


def _argument(name: str, array: Array, dtype: Any, batched: bool, given: Array) -> Argument:
    value = array if batched else array[None]
    value = value.astype(np.float64) if dtype.is_floating else value.astype(dtype.as_numpy_dtype)
    return Argument(name, np.ascontiguousarray(value), dtype, batched, given)


def _check_shape(model: Any, name: str, array: Array, wanted: Any, alone: bool) -> None:
    if wanted is None:
        if array.ndim < 2:
            raise ValueError(
                f"{name} has shape {array.shape}; {model.name!r} takes a batch, with a leading axis of examples"
            )
        return
    shape = array.shape if alone else array.shape[1:]
    takes = tuple(wanted.shape[1:])
    if len(takes) != len(shape) or any(w is not None and w != n for w, n in zip(takes, shape, strict=True)):
        raise ValueError(f"{name} has shape {shape} per example; {model.name!r} takes {takes}")


def _float_dtype(model: Any) -> Any:
    """What a model takes its floating-point inputs in: its own precision, or that of its variables."""
    inside = {kind for kind in {w.dtype for w in model.weights} if "float" in str(kind)}
    if inside == {"float64"} or (not inside and getattr(model, "compute_dtype", "") == "float64"):
        return tf.float64
    return tf.float32


def _input_names(model: Any) -> list[str]:
    struct = getattr(getattr(model, "_functional", model), "_inputs_struct", None)
    if isinstance(struct, Mapping):
        return list(struct)
    return [t.name for t in model.inputs]


def flattened(x: Any, structure: Any) -> tuple[list[Any], list[str]]:
    """Arrays of a structure, in the order of tf.nest, and what to call them."""
    if isinstance(x, Mapping):
        if isinstance(structure, Mapping) and set(x) != set(structure):
            raise ValueError(f"x has the keys {', '.join(sorted(x))}; the model takes {', '.join(sorted(structure))}")
        names = sorted(x)  # as tf.nest does
        if not names:
            raise ValueError("x holds no array: there is nothing to differentiate")
        return [x[name] for name in names], [str(name) for name in names]
    if isinstance(x, list | tuple) and x and all(hasattr(one, "shape") for one in x) and _several(x, structure):
        return list(x), [f"x[{i}]" for i in range(len(x))]
    return [x], ["x"]


def _several(x: Sequence[Any], structure: Any) -> bool:
    """Whether a list is one of inputs, rather than the rows of one."""
    if structure is not None:
        return len(tf.nest.flatten(structure)) > 1 or isinstance(structure, list | tuple | Mapping)
    return True


def packer(x: Any, structure: Any) -> Callable[[Sequence[Any]], Any]:
    """What packs flat tensors as f takes them."""
    if isinstance(x, Mapping):
        names = sorted(x)
        return lambda tensors: dict(zip(names, tensors, strict=True))
    if isinstance(structure, Mapping):
        names = sorted(structure)
        return lambda tensors: dict(zip(names, tensors, strict=True))
    if structure is not None and not isinstance(structure, list | tuple):
        return lambda tensors: tensors[0]
    several = structure is not None or (isinstance(x, list | tuple) and len(x) > 1)
    return lambda tensors: list(tensors) if several and len(tensors) > 1 else tensors[0]
