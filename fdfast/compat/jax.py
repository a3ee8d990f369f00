"""`jax.test_util.check_grads` for TensorFlow functions: same call, same names in its messages, exact derivatives.

References
----------
.. [1] JAX 0.10, ``jax.test_util.check_grads``, https://docs.jax.dev/en/latest/jax.test_util.html
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from fdfast.functions import dense
from fdfast.tape import STEP, NoTape, Recorder, numpy_calls, push

__all__ = ["check_grads"]

Array = npt.NDArray[Any]
Tolerance = float | Mapping[Any, float] | None

#: JAX's step, and its tolerances by dtype.
_EPS = 1e-4
_TOLERANCES = {
    "bfloat16": 1e-1,
    "float16": 1e-2,
    "float32": 2e-3,
    "float64": 1e-5,
    "complex64": 1e-3,
    "complex128": 1e-5,
}


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int,
    modes: str | Sequence[str] = ("fwd", "rev"),
    atol: Tolerance = None,
    rtol: Tolerance = None,
    eps: float | None = None,
) -> None:
    """Check derivatives of f up to an order, forward and backward, along a random direction in all arguments.

    Parameters
    ----------
    f : callable
        ``f(*args)`` returns a tensor, or a list, tuple or dict of them.
    args : sequence
        Floating-point or complex tensors, arrays and numbers, or lists, tuples and dicts of them.
    order : int
        1 checks f; 2 also what its first derivatives are as functions; and so on, by every path through `modes`.
    modes : sequence of {"fwd", "rev"}
        ``"fwd"`` is `tf.autodiff.ForwardAccumulator`, ``"rev"`` is `tf.GradientTape`. A gradient under
        `tf.custom_gradient` belongs to the tape: forward mode goes through the operations inside of it.
    atol, rtol : float or mapping of dtype to float, optional
        Tolerances; by default JAX's, 2e-3 in float32 and 1e-5 in float64. They hold for every element.
    eps : float, optional
        Step of central differences, 1e-4 by default: taken only where f cannot be recorded, since exact differences
        have no step to choose. Tolerances are multiplied by the number of elements then, as in JAX.

    Raises
    ------
    AssertionError
        Derivatives differ; the message has "JVP tangent", "VJP cotangent projection", "JVP of VJP tangent" and the
        like, as JAX's.
    TypeError, ValueError
        An argument has no derivative, or a mode or order is not offered.

    Examples
    --------
    >>> import numpy as np, tensorflow as tf
    >>> from fdfast.compat.jax import check_grads
    >>> check_grads(lambda x: tf.sin(x) * x, (np.array([0.5, 1.0]),), order=2)
    """
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    if not modes or set(modes) - {"fwd", "rev"}:
        raise ValueError(f"modes must be some of 'fwd' and 'rev', got {modes!r}; TensorFlow has no other")
    if int(order) < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    tensors = tuple(tf.nest.map_structure(_tensor, arg) for arg in args)
    _Check(modes, _merged(atol), _merged(rtol), eps or _EPS)(f, tensors, int(order), "")


class _Check:
    """One call's modes, tolerances and step."""

    def __init__(self, modes: Sequence[str], atol: Any, rtol: Any, eps: float) -> None:
        self._modes, self._atol, self._rtol, self._eps = modes, atol, rtol, eps

    def __call__(self, f: Callable[..., Any], args: Any, order: int, of: str) -> None:
        """Check f, and then its derivatives as functions."""
        if "fwd" in self._modes:
            name = f"JVP of {of}" if of else "JVP"
            self._jvp(f, args, name)
            if order > 1:
                try:
                    self(partial(_jvp, f), (args, args), order - 1, name)
                except tf.errors.InternalError:  # accumulators three deep
                    self(partial(_moved, f), (args, args), order - 1, name)
        if "rev" in self._modes:
            name = f"VJP of {of}" if of else "VJP"
            self._vjp(f, args, name)
            if order > 1:
                self(partial(_pulled, f), args, order - 1, name)

    def _jvp(self, f: Callable[..., Any], args: Any, name: str) -> None:
        tangent = _random(args)
        value, moved = _jvp(f, args, tangent)
        expected, exact = self._numeric(f, args, tangent)
        self._close(value, f(*args), f"{name} primal", exact=True)
        self._close(moved, expected, f"{name} tangent", exact=exact)

    def _vjp(self, f: Callable[..., Any], args: Any, name: str) -> None:
        tangent = _random(args)
        value, pull = _vjp(f, args)
        self._close(value, f(*args), f"{name} primal", exact=True)
        cotangent = _random(value)
        expected, exact = self._numeric(f, args, tangent)
        found, wanted = _inner(tangent, pull(cotangent)), _inner(expected, cotangent)
        self._close(found, wanted, f"{name} cotangent projection", exact=exact)

    def _numeric(self, f: Callable[..., Any], args: Any, tangent: Any) -> tuple[Any, bool]:
        """Derivative along the tangent by differences, in the structure of what f returns; and whether it is exact."""
        if not any(t.dtype.is_complex for t in tf.nest.flatten(args)):
            with contextlib.suppress(NoTape):
                return _exact(f, args, tangent), True
        sides = [
            f(*tf.nest.map_structure(lambda x, t, way=way: x + tf.cast(way * self._eps, x.dtype) * t, args, tangent))
            for way in (1.0, -1.0)
        ]

        def quotient(up: Any, down: Any) -> Any:
            up, down = tf.convert_to_tensor(up), tf.convert_to_tensor(down)
            return (up - down) * tf.cast(0.5 / self._eps, up.dtype)

        return tf.nest.map_structure(quotient, *sides), False

    def _close(self, found: Any, wanted: Any, name: str, *, exact: bool) -> None:
        for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(wanted), strict=True):
            kinds = [tf.convert_to_tensor(t).dtype.name for t in (one, other)]
            a, b = (_wide(tf.convert_to_tensor(t).numpy()) for t in (one, other))
            many = 1 if exact else max(1, a.size)
            atol, rtol = (max(_of(tol, kind) for kind in kinds) * many for tol in (self._atol, self._rtol))
            np.testing.assert_allclose(a, b, atol=atol, rtol=rtol, err_msg=name)


def _tensor(value: Any) -> Any:
    tensor = tf.convert_to_tensor(np.asarray(value) if isinstance(value, float) else value)
    if not (tensor.dtype.is_floating or tensor.dtype.is_complex):
        raise TypeError(
            f"an argument has dtype {tensor.dtype.name}, which has no derivative: make a function of the others, by "
            "functools.partial or a lambda"
        )
    return tensor


def _jvp(f: Callable[..., Any], primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Value of f, and its derivative along the tangents, by forward mode."""
    flat, along = tf.nest.flatten(primals), tf.nest.flatten(tangents)
    flat = [tf.identity(t) for t in flat]  # two arguments may be one tensor
    with tf.autodiff.ForwardAccumulator(flat, along) as forward:
        value = f(*tf.nest.pack_sequence_as(primals, flat))
        value = tf.nest.map_structure(tf.identity, value)
    found = forward.jvp(value, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return value, found


def _moved(f: Callable[..., Any], primals: Any, tangents: Any) -> tuple[Any, Any]:
    """As `_jvp`, by two backward passes: TensorFlow cannot pull gradients back through accumulators that are nested.

    What is pulled back is linear in the gradient upstream; its derivative by that, along the tangents, is what moves.
    """
    along = tf.nest.flatten(tangents)
    value, pull = _vjp(f, primals)
    upstream = tf.nest.map_structure(tf.ones_like, value)
    with tf.GradientTape() as tape:
        tape.watch(tf.nest.flatten(upstream))
        back = tf.nest.flatten(pull(upstream))
    zero = tf.UnconnectedGradients.ZERO
    found = tape.gradient(back, tf.nest.flatten(upstream), along, unconnected_gradients=zero)
    return value, tf.nest.pack_sequence_as(value, [dense(g) for g in found])


def _vjp(f: Callable[..., Any], args: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Value of f, and what pulls a gradient back to its arguments."""
    flat = [tf.identity(t) for t in tf.nest.flatten(args)]
    with tf.GradientTape() as tape:
        tape.watch(flat)
        value = tf.nest.map_structure(tf.identity, f(*tf.nest.pack_sequence_as(args, flat)))

    def pull(upstream: Any) -> Any:
        outputs, incoming = tf.nest.flatten(value), tf.nest.flatten(upstream)
        found = tape.gradient(outputs, flat, incoming, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return tf.nest.pack_sequence_as(args, [dense(g) for g in found])

    return value, pull


def _pulled(f: Callable[..., Any], *args: Any) -> Any:
    """The gradient for f's own value upstream, as JAX does it."""
    value, pull = _vjp(f, args)
    return pull(value)


def _exact(f: Callable[..., Any], args: Any, tangent: Any) -> Any:
    """Mean of the slopes to both sides, by differences that do not cancel."""
    flat = tf.nest.flatten(args)

    def call(*tensors: Any) -> Any:
        return f(*tf.nest.pack_sequence_as(args, list(tensors)))

    specs = [tf.TensorSpec(t.shape, t.dtype) for t in flat]
    try:
        with numpy_calls():
            concrete = tf.function(call, input_signature=specs, autograph=False).get_concrete_function()
    except Exception as error:
        f(*args)  # what is wrong with f itself is said by f
        raise NoTape(f"f cannot be traced: {error}") from error
    tape = Recorder(concrete)(flat)
    both = [STEP * tf.cast(tf.stack([t, -t]), tf.float64) for t in tf.nest.flatten(tangent)]
    moved = push(tape, dict(zip(tape.arguments, both, strict=True)), 2)
    structure = concrete.structured_outputs
    slopes = []
    for number, d, own in zip(tape.outputs, moved, tf.nest.flatten(structure), strict=True):
        slope = tf.zeros(tape.values[number].shape, tf.float64) if d is None else (d[0] - d[1]) / (2 * STEP)
        slopes.append(tf.cast(slope, own.dtype))
    return tf.nest.pack_sequence_as(structure, slopes)


def _random(like: Any) -> Any:
    """Normal numbers in the structure of some tensors, the same in every call."""
    rng = np.random.RandomState(0)

    def one(t: Any) -> Any:
        t = tf.convert_to_tensor(t)
        drawn = rng.randn(*t.shape)
        return tf.cast(tf.constant(drawn + 1j * rng.randn(*t.shape) if t.dtype.is_complex else drawn), t.dtype)

    return tf.nest.map_structure(one, like)


def _inner(xs: Any, ys: Any) -> Any:
    """Real inner product over all arrays."""
    pairs = zip(tf.nest.flatten(xs), tf.nest.flatten(ys), strict=True)
    return sum(np.real(np.vdot(_wide(x.numpy()), _wide(y.numpy()))) for x, y in pairs)


def _wide(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _merged(tolerance: Tolerance) -> Any:
    if tolerance is None:
        return _TOLERANCES
    if isinstance(tolerance, Mapping):
        return {**_TOLERANCES, **{tf.as_dtype(kind).name: value for kind, value in tolerance.items()}}
    return float(tolerance)


def _of(tolerance: Any, kind: str) -> float:
    return float(tolerance) if isinstance(tolerance, float) else float(tolerance.get(kind, 0.0))
