"""`torch.autograd.gradcheck` for TensorFlow functions: same call, same answers, every element always checked."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.compat.agreement import GradcheckError, require_agreement
from fdfast.compat.call import Call, is_smooth

__all__ = ["GradcheckError", "gradcheck"]


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Whether abs(analytical - numerical) <= atol + rtol abs(numerical) in every element of every Jacobian.

    Parameters
    ----------
    func : callable
        ``func(*inputs)`` returns a tensor or a tuple of tensors, in eager mode.
    inputs : tensor, or tuple or list
        Floating-point and complex tensors, variables and NumPy arrays are checked. Integer and boolean tensors,
        variables with ``trainable=False`` and everything that is no tensor are passed on as they are.
    eps : float
        Step of the central differences, in the units of the inputs.
    atol, rtol : float
        Tolerances per element.
    raise_exception : bool
        False returns False instead of raising `GradcheckError`; every other exception is raised all the same.
    nondet_tol : float
        Largest difference between two backward passes over the same forward pass.
    check_undefined_grad : bool
        Require of every output that gradients of zero upstream are zeros downstream (or None).
    check_grad_dtypes : bool
        Require that gradients have the dtype of their inputs.
    check_batched_grad, check_batched_forward_grad : bool
        Not offered.
    check_forward_ad : bool
        Also check `tf.autodiff.ForwardAccumulator`.
    check_backward_ad : bool
        Check `tf.GradientTape`.
    fast_mode : bool
        Taken and without effect: a random projection misses single wrong elements, and a batch of rows costs little.
    masked : bool, optional
        False or None: there are no sparse inputs.

    Returns
    -------
    bool
        True; or False, with ``raise_exception=False``.

    Raises
    ------
    GradcheckError
        Jacobians differ, two backward passes do, a gradient has the wrong shape or (if asked) dtype, a backward pass
        ignores the gradient upstream, eps is lost in rounding, or no output depends on the inputs by the tape
        although the differences are not zero.
    ValueError
        No input is to be checked, an output is sparse, eps is not positive, or an option is not offered.
    TypeError
        An input is sparse, a Keras variable or a container, or an output is no tensor.
    AssertionError
        Neither direction of differentiation is asked for, or an output changes its shape with the inputs.
    RuntimeError
        It is called while a graph is traced.

    Warns
    -----
    UserWarning
        An input is not of double precision; or an output has no gradient by the tape, so that it is skipped as in
        torch, although it does depend on an input.

    Notes
    -----
    Jacobians have one row per element of the input and one column per element of the output. That of a complex input
    z = x + iy is dL/dx + i dL/dy, L the real or the imaginary part of an output. Positions count all inputs and all
    outputs. The differences are divided by the distance really moved. Rows go through `tf.vectorized_map` where func
    can be traced; a `tf.Variable` is moved in place and put back.

    `fdfast.gradcheck` takes no tolerances on trust: it measures an error bar per element, and tells kinks from faults.
    """
    _refuse(check_batched_grad, check_batched_forward_grad, check_forward_ad, check_backward_ad, masked)
    if not (np.isfinite(eps) and eps > 0):
        raise ValueError(f"eps={eps!r} must be a positive finite number; 1e-6 is made for float64")
    if not tf.executing_eagerly():
        raise RuntimeError("gradcheck needs values, and there are none while a graph is traced: call it outside")
    call = _call_of(func, inputs)
    try:
        require_agreement(
            call,
            eps,
            lambda a, n: np.isclose(a, n, rtol=rtol, atol=atol),
            f"atol={atol:g} + rtol={rtol:g} * abs(numerical)",
            nondet_tol=nondet_tol,
            undefined=check_undefined_grad,
            dtypes=check_grad_dtypes,
            both=(check_backward_ad, check_forward_ad),
        )
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _refuse(batched: bool, batched_forward: bool, forward_ad: bool, backward_ad: bool, masked: bool | None) -> None:
    if not (forward_ad or backward_ad):
        raise AssertionError("check_forward_ad and check_backward_ad are both False; at least one must be True")
    if batched or batched_forward:
        name = "check_batched_grad" if batched else "check_batched_forward_grad"
        raise ValueError(
            f"{name}=True is not offered: TensorFlow vectorizes gradients in tape.jacobian and tape.batch_jacobian; "
            "compare their experimental_use_pfor=True with False"
        )
    if masked:
        raise ValueError(
            "masked=True is for sparse inputs, which are not offered: pass the values of a tf.SparseTensor, "
            "tensor.values, and rebuild it inside func"
        )


def _call_of(func: Callable[..., Any], inputs: Any) -> Call:
    """Sort the inputs into those that move and those that are held, with torch's warning about precision."""
    import keras

    arguments = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    moving = []
    for i, value in enumerate(arguments):
        if isinstance(value, keras.Variable):
            raise TypeError(f"input {i} is a Keras variable; pass the TensorFlow one behind it, variable.value")
        if isinstance(value, tf.SparseTensor | tf.RaggedTensor | tf.IndexedSlices):
            raise TypeError(
                f"input {i} is a {type(value).__name__}; pass its values, a dense tensor, and rebuild it inside func"
            )
        if isinstance(value, list | tuple | dict) and any(tf.is_tensor(one) for one in tf.nest.flatten(value)):
            raise TypeError(
                f"input {i} is a {type(value).__name__} of tensors; pass each of them as an input of its own"
            )
        if isinstance(value, np.ndarray) and (value.dtype.kind in "fc" or value.dtype.name == "bfloat16"):
            value = arguments[i] = tf.constant(value)
        if not isinstance(value, tf.Tensor | tf.Variable) or not is_smooth(value):
            continue
        if isinstance(value, tf.Variable) and not value.trainable:
            continue
        if value.dtype not in (tf.float64, tf.complex128):
            warnings.warn(
                f"Input #{i} is {value.dtype.name}, not a double precision floating point or complex tensor: the check "
                "will likely fail, of rounding. Pass float64",
                stacklevel=3,
            )
        moving.append(i)
    if not moving:
        raise ValueError(
            "gradcheck expects at least one input tensor of floating-point or complex dtype (a variable must have "
            f"trainable=True), got {', '.join(type(value).__name__ for value in arguments) or 'none'}"
        )
    return Call(func, tuple(arguments), tuple(moving))
