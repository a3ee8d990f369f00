"""`jacobian`: finite differences of functions with any number of outputs, of one of their arguments or several."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from fdfast.moves import (
    Bounds,
    Channels,
    Reduction,
    Selection,
    StepLike,
    TileLike,
    Wrt,
    as_argument,
    as_bounds,
    check_choice,
    check_fits,
    check_flag,
    check_max_rows,
    check_progress,
    check_step,
    displace,
    select,
)
from fdfast.progress import Progress, with_bar

Array = npt.NDArray[Any]
Precision = Literal["auto", "float32", "float64"]

_log = logging.getLogger("fdfast")


@with_bar("differences")
def jacobian(
    f: Any,
    x: Any,
    h: StepLike = "auto",
    *,
    wrt: Wrt = None,
    tile: TileLike = 1,
    channels: Channels = "apart",
    reduction: Reduction = "mean",
    precision: Precision = "auto",
    bounds: Bounds | None = None,
    max_rows: int | None = None,
    batched: bool | None = None,
    progress: Progress = None,
    **kwargs: Any,
) -> Any:
    """Finite-difference Jacobian (f(x + h e_t) - f(x - h e_t)) / 2h for every tile t, outputs of any shape.

    Parameters
    ----------
    f : callable or keras.Model
        A function of tensors or of arrays; or a model, whose output in inference mode is differentiated.
    x : array_like, or list, tuple or dict of array_like
        The point; or several arguments, which f takes by position or, from a dict, by name, and a model as they are.
        A list of plain numbers is one array, unless `wrt` is given. Moving arguments are of dtype float16, bfloat16,
        float32, float64, complex64 or complex128. For a model one example, or with one input a batch. Never written.
    h : float or "auto"
        Step, in the units of x. ``"auto"``: see `fdfast.moves.scheme.plan_steps`; 2**-3 times the scale in float16 and
        2**-2 times the scale in bfloat16.
    wrt : key, sequence of keys, optional
        Positions or names of the arguments that move; by default all. The others are held and may have any dtype.
    tile, channels, reduction, bounds, progress
        As in `fdfast.gradient`, but the last axis is cut like the others unless ``channels="together"``; `bounds` hold
        for every argument that moves.
    precision : {"auto", "float32", "float64"}
        ``"auto"`` evaluates a function in the dtype of x, and a float64 copy of a model with one input if one can be
        made.
    max_rows : int, optional
        Rows that go through f together; by default what suits the cache, within 256 MB.
    batched : bool, optional
        True if f takes rows, shape (rows, *x.shape), and returns one output per row; held arguments are then repeated
        along a first axis too.
    **kwargs
        Further arguments of f.

    Returns
    -------
    ndarray of float64 or complex128, shape (*outputs, *x.shape)
        For a complex x there is a last axis of 2 more: derivatives along the real and along the imaginary part. For a
        batch of a model, shape (examples, *outputs, *x.shape[1:]). A list, tuple or dict of such arrays where several
        arguments move; one array if `wrt` is one key.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit; the message says which, why, and what to do.

    Notes
    -----
    A TensorFlow function of one example is traced once by `tf.vectorized_map` and evaluated at many rows by each call;
    where f is so cheap, or rows are so few, that tracing would take longer, where f cannot be traced, and where it
    takes arrays, it is called in a loop. What was done otherwise than batched is logged to
    ``logging.getLogger("fdfast")`` as information.

    Examples
    --------
    >>> import numpy as np, fdfast
    >>> fdfast.jacobian(lambda x: np.array([x[0] * x[1], x[0] + x[1]]), np.array([2.0, 3.0])).round(6)
    array([[3., 2.],
           [1., 1.]])
    >>> fdfast.jacobian(lambda a, b: a * b, (np.array([2.0, 3.0]), np.float64(5.0)), wrt=1).round(6)
    array([2., 3.])
    """
    check_step(h)
    check_choice("reduction", reduction, get_args(Reduction))
    check_choice("precision", precision, get_args(Precision))
    check_max_rows(max_rows)
    check_progress(progress)
    check_flag("batched", batched, unset=True)
    bounds = as_bounds(bounds)
    keras = sys.modules.get("keras")
    from fdfast.functions import BatchedSource, SingleSource, check_callable, check_process, interruptible, state_kept

    check_callable(f)
    check_process()
    selection = select(x, wrt)

    def differentiate(source: Any, chosen: Selection) -> list[Array]:
        return _all(source, chosen, h, tile, channels, reduction, bounds, progress)

    with interruptible(), state_kept(f):
        if keras is not None and isinstance(f, keras.Model):
            if kwargs:
                raise TypeError(f"unexpected arguments for a model: {', '.join(sorted(kwargs))}")
            return _of_model(f, selection, precision, max_rows, differentiate)
        selection = _in_precision(selection, precision)
        selection.call(kwargs)(partial(check_fits, f, "f"), selection.values)
        source = (
            BatchedSource(f, selection, kwargs, max_rows) if batched else SingleSource(f, selection, kwargs, max_rows)
        )
        return selection.answer(differentiate(source, selection))


def _all(
    source: Any,
    selection: Selection,
    h: StepLike,
    tile: TileLike,
    channels: Channels,
    reduction: Reduction,
    bounds: Bounds | None,
    progress: Progress,
) -> list[Array]:
    base = source.base
    if base.dtype.kind not in "fc" and base.dtype.name != "bfloat16":
        raise TypeError(f"f returns {base.dtype}; it must return floating-point or complex values")
    wide = np.complex128 if np.iscomplexobj(base) else np.float64
    places = [selection.keys.index(key) for key in selection.moving]
    plans = []
    for place in places:
        x = selection.values[place]
        plans.append(displace(x, tile, channels, h, bounds) if x.size and base.size else None)
    total, done, found = sum(2 * plan.tiling.tiles for plan in plans if plan), 0, []
    for place, plan in zip(places, plans, strict=True):
        x = selection.values[place]
        if plan is None:
            found.append(np.zeros((*base.shape, *x.shape, *((2,) if np.iscomplexobj(x) else ())), wide))
            continue
        slopes = np.empty((plan.tiling.tiles, *base.shape), wide)
        left, tiles = np.empty((0, *base.shape), base.dtype), 0
        for _, values in source.blocks(place, plan.rows, 2 * plan.tiling.tiles):
            done += len(values)
            values = np.concatenate([left, values]) if len(left) else values
            pairs = len(values) // 2
            slopes[tiles : tiles + pairs] = plan.slopes(values[: 2 * pairs], base, tiles)
            tiles, left = tiles + pairs, values[2 * pairs :]
            if callable(progress):
                progress(done, total)
        found.append(plan.pixels(slopes, reduction))
    return found


def _of_model(
    model: Any,
    selection: Selection,
    precision: Precision,
    max_rows: int | None,
    differentiate: Callable[[Any, Selection], list[Array]],
) -> Any:
    from fdfast.functions import BatchedSource

    evaluated, single = model, selection.form is None
    batch = False
    if single:
        x = as_argument(selection.values[0], "x")
        inputs = getattr(model, "inputs", None)
        # Only a functional model knows its input's rank; any other takes batches, as Keras does.
        batch = not (inputs and len(inputs) == 1 and x.ndim == len(inputs[0].shape) - 1)
        if batch and x.ndim < 2:
            raise ValueError(f"x has shape {x.shape}; {model.name!r} takes a batch, with a leading axis of examples")
        evaluated, dtype = _evaluated(model, x.shape[1:] if batch else x.shape, precision)
        selection = Selection((0,), [x.astype(dtype)], (0,), None, True)
    else:
        if (
            selection.form is dict
            and len(getattr(model, "inputs", None) or ()) == 1
            and not isinstance(getattr(model, "input", None), dict)
        ):
            raise TypeError(f"x is a dict, but the model {model.name!r} has one input without a name: pass an array")
        selection = _in_precision(selection, precision)

    def rows(*values: Any) -> Any:
        return evaluated(selection.packed(values), training=False)

    def of(values: Sequence[Any]) -> Any:
        keys = tuple(range(len(values)))
        source = BatchedSource(rows, Selection(keys, list(values), keys, tuple, False), {}, max_rows)
        chosen = Selection(selection.keys, list(values), selection.moving, selection.form, selection.alone)
        return selection.answer(differentiate(source, chosen))

    return np.stack([of([one]) for one in selection.values[0]]) if batch else of(selection.values)


def _evaluated(model: Any, shape: tuple[int, ...], precision: Precision) -> tuple[Any, Any]:
    """The model that is evaluated, and the dtype of its rows."""
    from fdfast.functions import NoShadow, shadow_of

    if precision == "float32":
        return model, np.float32
    try:
        return shadow_of(model, shape).model, np.float64
    except NoShadow as error:
        if precision == "float64":
            raise ValueError(
                f"precision='float64' needs a float64 copy of the model: {error}. precision='float32' uses the model "
                "as it is"
            ) from None
        _log.info(f"{model.name} was evaluated in {model.compute_dtype}, because {error}")
        return model, np.float64 if model.compute_dtype == "float64" else np.float32


def _in_precision(selection: Selection, precision: Precision) -> Selection:
    """The same selection with arrays that may move, in the dtype asked for."""
    values = list(selection.values)
    for key in selection.moving:
        place = selection.keys.index(key)
        array = as_argument(values[place], "x" if selection.form is None else f"x[{key!r}]")
        if precision != "auto":
            single, double = (np.complex64, np.complex128) if np.iscomplexobj(array) else (np.float32, np.float64)
            array = array.astype(single if precision == "float32" else double)
        values[place] = array
    return Selection(selection.keys, values, selection.moving, selection.form, selection.alone)
