"""Tensor lists and optional values of a graph as Python tuples of numbers; None for an element that was not set."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.tape.tape import NoTape

LISTS = (
    *("EmptyTensorList", "TensorListReserve", "TensorListFromTensor", "TensorListLength", "TensorListSetItem"),
    *("TensorListGetItem", "TensorListPushBack", "TensorListPopBack", "TensorListStack", "TensorListElementShape"),
    *("TensorListGather", "TensorListScatterV2", "TensorListConcatV2", "TensorListSplit", "TensorListResize"),
    "TensorListScatterIntoExistingList",
    *("OptionalFromValue", "OptionalGetValue", "OptionalNone", "OptionalHasValue"),
)


def of_lists(recorder: Any, op: Any, slots: list[Any], name: str) -> list[Any]:
    """Outputs of an operation on lists or optional values, as slots."""
    kind, tape = op.type, recorder.tape

    def at(i: int) -> Any:
        return tape.values[slots[i]].numpy()

    if kind in ("EmptyTensorList", "OptionalNone"):
        return [()]
    if kind == "TensorListReserve":
        return [(None,) * int(at(1))]
    if kind == "TensorListFromTensor":
        return [tuple(_parts(recorder, slots[0], name))]
    if kind == "TensorListLength":
        return [tape.add(tf.constant(len(slots[0])))]
    if kind == "TensorListResize":
        size = int(at(1))
        return [(*slots[0][:size], *[None] * (size - len(slots[0])))]
    if kind == "TensorListSetItem":
        whole, i = slots[0], int(at(1))
        whole = (*whole, *[None] * (i + 1 - len(whole)))
        return [(*whole[:i], slots[2], *whole[i + 1 :])]
    if kind == "TensorListGetItem":
        return [_set(recorder, op, slots, slots[0][int(at(1))])]
    if kind == "TensorListPushBack":
        return [(*slots[0], slots[1])]
    if kind == "TensorListPopBack":
        return [slots[0][:-1], _set(recorder, op, slots, slots[0][-1])]
    if kind == "TensorListStack":
        return _stacked(recorder, _all(recorder, op, slots, slots[0]), name)
    if kind == "TensorListGather":
        chosen = tuple(slots[0][int(i)] for i in at(1))
        return _stacked(recorder, _all(recorder, op, slots, chosen), name)
    if kind == "TensorListScatterV2":
        size, places = int(at(3)), [int(i) for i in at(1)]
        filled: list[int | None] = [None] * max(size, max(places, default=-1) + 1)
        for place, part in zip(places, _parts(recorder, slots[0], name), strict=True):
            filled[place] = part
        return [tuple(filled)]
    if kind == "TensorListScatterIntoExistingList":
        changed = dict(zip((int(i) for i in at(2)), _parts(recorder, slots[1], name), strict=True))
        return [
            tuple(
                changed.get(i, slots[0][i] if i < len(slots[0]) else None) for i in range(_longest(slots[0], changed))
            )
        ]
    if kind == "TensorListConcatV2":
        parts = _all(recorder, op, slots, slots[0])
        axis, count = tape.add(tf.constant(0)), {"N": len(parts)}
        lengths = tape.add(tf.constant([recorder.shape_of(p)[0] for p in parts], tf.int64))
        return [*recorder.made("ConcatV2", count, [*parts, axis], name), lengths]
    if kind == "TensorListSplit":
        sizes = at(2)
        more = [tape.add(tf.constant(np.asarray(sizes, np.int64))), tape.add(tf.constant(0))]
        return [tuple(recorder.made("SplitV", {"num_split": len(sizes)}, [slots[0], *more], name))]
    if kind == "TensorListElementShape":
        first = next((i for i in slots[0] if i is not None), None)
        shape = [] if first is None else recorder.shape_of(first).as_list()
        return [tape.add(tf.constant(shape, op.get_attr("shape_type")))]
    if kind == "OptionalFromValue":  # how a condition hands values to its gradient
        return [tuple(slots)]
    if kind == "OptionalGetValue":
        return list(slots[0])
    if kind == "OptionalHasValue":
        return [tape.add(tf.constant(bool(slots[0])))]
    if kind == "ZerosLike":
        return [tuple(None if i is None else recorder.made("ZerosLike", {}, [i], name)[0] for i in slots[0])]
    if kind == "AddN":
        return [
            tuple(_sum(recorder, [i for i in column if i is not None], name) for column in zip(*slots, strict=True))
        ]
    if kind in ("Identity", "IdentityN"):
        return list(slots)
    raise NoTape(f"{name} ({kind}) takes a list of tensors in a way that is not known")


def _longest(whole: tuple[Any, ...], changed: dict[int, int]) -> int:
    return max(len(whole), max(changed, default=-1) + 1)


def _stacked(recorder: Any, parts: list[int], name: str) -> list[int]:
    found: list[int] = recorder.made("Pack", {"axis": 0, "N": len(parts)}, parts, name)
    return found


def _parts(recorder: Any, slot: int, name: str) -> list[int]:
    count = recorder.shape_of(slot)[0]
    found: list[int] = recorder.made("Unpack", {"axis": 0, "num": count}, [slot], name)
    return found


def _sum(recorder: Any, parts: list[int], name: str) -> int | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    return int(recorder.made("AddN", {"N": len(parts)}, parts, name)[0])


def _set(recorder: Any, op: Any, slots: list[Any], part: int | None) -> int:
    """An element; zeros for one that was not set, in the shape of its neighbours or as the operation is told."""
    if part is not None:
        return part
    tape = recorder.tape
    beside = next((i for i in slots[0] if i is not None), None)
    shape = recorder.shape_of(beside) if beside is not None else tape.values[slots[-1]].numpy()
    dtype = op.get_attr("element_dtype")
    return int(tape.add(recorder.lift(tf.zeros(shape, dtype))))


def _all(recorder: Any, op: Any, slots: list[Any], parts: tuple[int | None, ...]) -> list[int]:
    return [_set(recorder, op, [parts, *slots[1:]], part) for part in parts]
