"""TensorFlow functions of one example, evaluated at many rows by one traced function."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions.unchanged import present
from fdfast.operations import Unmapped
from fdfast.tape import Traced

Array = npt.NDArray[Any]
#: Held tensors -> a function of one row; what does not depend on the row is computed outside of it.
Make = Callable[..., Callable[[Any], Any]]
#: Memory that the rows in flight may take, in bytes.
BUDGET = 256 << 20
_HEADINGS = ("in user code", "Graph execution error", "Exception encountered when calling")
_KEPT = 16  # traced forms that one function keeps


class OverRows:
    """Applies a function of one row to all rows, inside a traced function.

    Attributes
    ----------
    row_bytes : int
        Memory of one row in flight, known once it has been traced: three times the widest tensor.
    looped : list of str
        Operations without a batched form: TensorFlow runs them row by row, still inside the traced function.
    """

    def __init__(self) -> None:
        self.row_bytes = 0
        self.looped: list[str] = []

    def __call__(self, one: Callable[[Any], Any], rows: Any) -> Any:
        """Stack of ``one(row)`` for every row."""
        graph = tf.compat.v1.get_default_graph()

        def measured(row: Any) -> Any:
            before = len(graph.get_operations())
            found = one(row)
            made = [t for op in graph.get_operations()[before:] for t in op.outputs]
            sizes = [t.shape.num_elements() * t.dtype.size for t in made if t.shape.is_fully_defined()]
            self.row_bytes = 3 * max(sizes, default=1)
            return found

        before = len(graph.get_operations())
        with quietly():  # what cannot be batched is told in a note
            found = tf.vectorized_map(measured, rows, warn=False)
        # The while loops that stand in for an operation are named after it.
        loops = [op.name for op in graph.get_operations()[before:] if op.type in ("While", "StatelessWhile")]
        self.looped = sorted({name.split("/pfor/")[0].split("/")[-1] for name in loops if "/pfor/" in name})
        return found


class Mapped:
    """A function of one row of `spec` and some held tensors, traced for `count` rows at once.

    The number of rows is fixed: TensorFlow traces and runs that faster, and the last rows are filled up.
    """

    def __init__(self, make: Make, spec: tf.TensorSpec, held: Sequence[tf.TensorSpec], count: int) -> None:
        self.count = count
        self._over = OverRows()
        rows = tf.TensorSpec([count, *spec.shape], spec.dtype)

        def run(rows: Any, *held: Any) -> Any:
            return self._over(make(*held), rows)

        function = tf.function(run, input_signature=[rows, *held], autograph=False)
        try:
            with quietly():
                self._traced = Traced(function, optimised=False)
        except Exception as error:
            raise Unmapped(f"TensorFlow cannot trace it ({first_line(error)})") from error

    @property
    def row_bytes(self) -> int:
        """Memory of one row in flight."""
        return self._over.row_bytes

    @property
    def looped(self) -> list[str]:
        """Operations that run row by row inside the traced function."""
        return self._over.looped

    def __call__(self, rows: Array, held: Sequence[Any]) -> list[Array]:
        """Stacked outputs for 1 to `count` rows.

        Raises
        ------
        Unmapped
            TensorFlow cannot run what it has traced.
        """
        count = len(rows)
        if count < self.count:
            rows = np.concatenate([rows, np.repeat(rows[-1:], self.count - count, axis=0)])
        try:
            found = self._traced(tf.constant(rows), *held)
        except tf.errors.OpError as error:
            raise Unmapped(f"TensorFlow cannot run it for many rows at once ({first_line(error)})") from error
        return [part.numpy()[:count] for part in tf.nest.flatten(found)]


#: Traced form of a function.
Form = TypeVar("Form")
_known: weakref.WeakKeyDictionary[Any, tuple[Any, dict[object, Any]]] = weakref.WeakKeyDictionary()


def known(f: Any, key: object) -> Any:
    """What an earlier call has traced for this key, or why it could not; None if f reads something else by now."""
    try:
        entry = _known.get(f)
    except TypeError:
        return None
    if entry is None or key not in entry[1]:
        return None
    if entry[0] is not present(f):
        del _known[f]
        return None
    return entry[1][key]


def forget(f: Any) -> None:
    """Drop what has been traced of f."""
    with contextlib.suppress(TypeError, KeyError):
        del _known[f]


def refuse(f: Any, key: object, reason: Unmapped) -> None:
    """Keep, as `remember` does, that f has no such form."""

    def make(target: Callable[[], Any]) -> Any:
        raise Unmapped(str(reason))

    with contextlib.suppress(Unmapped):
        remember(f, key, make)


def remember(f: Any, key: object, make: Callable[[Callable[[], Any]], Form]) -> Form:
    """Trace f and keep the result while f lives and reads the same.

    Parameters
    ----------
    f : callable
    key : hashable
    make : callable
        Gets a function that returns f, and returns its traced form; it must not hold f in another way.

    Raises
    ------
    Unmapped
    """
    now = present(f)
    try:
        weak = weakref.ref(f)
        hash(f)
    except TypeError:
        return make(lambda: f)
    if not now.complete:
        return make(lambda: f)
    before, forms = _known.get(f, (now, {}))
    if before is not now:
        forms = {}
    _known[f] = now, forms
    try:
        found = forms[key] = make(weak)
    except Unmapped as error:
        forms[key] = Unmapped(str(error))  # the raised one holds frames of f, hence f itself
        raise
    finally:
        while len(forms) > _KEPT:
            del forms[next(iter(forms))]
    return found


def rows_at_once(row_bytes: int, rows: int, budget: int = BUDGET) -> int:
    """Rows that go through a traced function together: few enough for the cache, in equal shares."""
    most = min(max(128, (1 << 18) // max(1, row_bytes)), 4096, max(2, budget // max(1, row_bytes)))
    return max(1, math.ceil(rows / math.ceil(rows / most))) if rows else 1


def same_values(a: Any, b: Any) -> bool:
    """Whether two evaluations of a function differ by no more than rounding, relative to the largest value."""
    one, two = np.asarray(a), np.asarray(b)
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    wide = two.astype(np.complex128)
    return agreement(one.astype(np.complex128), wide, np.abs(wide[np.isfinite(wide)]).max(initial=0.0), one.dtype)


def agreement(a: Array, b: Array, scale: float, dtype: npt.DTypeLike) -> bool:
    """Whether a and b, computed in `dtype` from numbers of size `scale`, differ by rounding only."""
    # 1000 units: rows in a batch are added up in another order. No less than 1e-5: f may use float32 inside.
    limit = min(max(1e3 * rounding_unit(dtype), 1e-5), 0.1) * scale
    finite = np.isfinite(a)
    others = np.array_equal(a[~finite], b[~finite], equal_nan=True)
    return bool(others and (np.abs(a[finite] - b[finite]) <= limit).all())


def rounding_unit(dtype: npt.DTypeLike) -> float:
    """Distance of 1 to the next number of a real or complex dtype, bfloat16 included."""
    known = np.dtype(dtype)
    return 2.0**-7 if known.name == "bfloat16" else float(np.finfo(known).eps)


def dense(value: Any) -> Any:
    """Tensor of what a function returns; slices, as sparse gradients have them, are put into place."""
    if isinstance(value, tf.IndexedSlices) and value.dense_shape is not None:
        rows = tf.cast(value.dense_shape, tf.int64)[0]
        return tf.math.unsorted_segment_sum(value.values, value.indices, rows)
    return tf.convert_to_tensor(value)


def as_array(value: Any) -> Array:
    """NumPy array of what a function returns, which may be a tensor, slices, an array or a number."""
    if isinstance(value, tf.Tensor):
        return np.asarray(value.numpy())
    return dense(value).numpy() if tf.is_tensor(value) or isinstance(value, tf.IndexedSlices) else np.asarray(value)


def first_line(error: BaseException) -> str:
    """The first line of a message that says something, short enough for a note.

    AutoGraph, the executor and Keras put a heading before it: "in user code:", "Graph execution error:", the layer.
    """
    plain = re.sub(r"\x1b\[\d*m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].startswith(_HEADINGS):
        telling = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception|Interrupt)\b.*: ", line)]
        lines = telling[-1:] or lines[1:] or lines
    return lines[0] if len(lines[0]) <= 160 else f"{lines[0][:157]}..."


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Trace without pfor's log."""

    class Quiet(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            return not any(word in record.getMessage() for word in ("pfor", "created at:"))

    quiet, logger = Quiet(), tf.get_logger()
    logger.addFilter(quiet)
    try:
        yield
    finally:
        logger.removeFilter(quiet)
