"""`torch.autograd.gradcheck` and `gradgradcheck` for TensorFlow functions: same calls, every element always checked."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fdfast.compat.agreement import GradcheckError, require_agreement
from fdfast.compat.call import Call, as_outputs, is_smooth
from fdfast.functions import dense

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


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


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Whether the gradients of func, as a function of its inputs and of the gradients upstream, pass `gradcheck`.

    Parameters
    ----------
    func, inputs, eps, atol, rtol, raise_exception, nondet_tol, check_undefined_grad, check_grad_dtypes, fast_mode
        As in `gradcheck`.
    grad_outputs : tensor, or tuple or list, optional
        Gradients upstream, one for each output that the tape connects with the inputs; by default random in [-1, 1].
        They are checked like inputs.
    gen_non_contig_grad_outputs : bool
        Taken and without effect: tensors of TensorFlow have no strides.
    check_batched_grad : bool
        Not offered.
    check_fwd_over_rev : bool
        Also check `tf.autodiff.ForwardAccumulator` over `tf.GradientTape`.
    check_rev_over_rev : bool
        Check `tf.GradientTape` over `tf.GradientTape`.
    masked : bool
        As in `gradcheck`.

    Returns
    -------
    bool
        True; or False, with ``raise_exception=False``.

    Raises
    ------
    GradcheckError
        As of `gradcheck`; positions count the inputs and then the gradients upstream, and the gradients of the inputs.
    AssertionError
        Neither way is asked for, or `check_undefined_grad` or `check_batched_grad` without `check_rev_over_rev`.
    ValueError, TypeError, RuntimeError
        As of `gradcheck`; or `grad_outputs` are not as many as there are outputs, or not of their shapes.
    """
    if not (check_fwd_over_rev or check_rev_over_rev):
        raise AssertionError("Expected at least one of check_fwd_over_rev or check_rev_over_rev to be True")
    for name, asked in (("check_undefined_grad", check_undefined_grad), ("check_batched_grad", check_batched_grad)):
        if asked and not check_rev_over_rev:
            raise AssertionError(f"Setting {name}=True requires check_rev_over_rev to be True")
    _refuse(check_batched_grad, False, check_fwd_over_rev, check_rev_over_rev, masked)
    call = _call_of(func, inputs)
    connected, outputs = _connected(call)
    upstream = _upstream(outputs, grad_outputs)
    if not outputs:
        return True
    count = len(call.arguments)

    def gradients(*arguments: Any) -> tuple[Any, ...]:
        own, given = arguments[:count], arguments[count:]
        sources = [own[i] for i in call.moving]
        with tf.GradientTape() as tape:
            for source in sources:
                tape.watch(source)
            found = as_outputs(func(*own))
            chosen = [tf.identity(found[i]) for i in connected]
        back = tape.gradient(chosen, sources, list(given))
        return tuple(dense(g) for g in back if g is not None)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Input #")  # said of the inputs already
        return gradcheck(
            gradients,
            (*call.arguments, *upstream),
            eps=eps,
            atol=atol,
            rtol=rtol,
            raise_exception=raise_exception,
            nondet_tol=nondet_tol,
            check_undefined_grad=check_undefined_grad,
            check_grad_dtypes=check_grad_dtypes,
            check_forward_ad=check_fwd_over_rev,
            check_backward_ad=check_rev_over_rev,
            fast_mode=fast_mode,
            masked=masked,
        )


def _connected(call: Call) -> tuple[list[int], list[Any]]:
    """Outputs that the tape connects with an input: their numbers, and values."""
    with tf.GradientTape(persistent=True) as tape:
        for source in call.sources:
            tape.watch(source)
        outputs = call()
    numbers = [
        i
        for i, output in enumerate(outputs)
        if is_smooth(output) and any(g is not None for g in tape.gradient(output, call.sources))
    ]
    return numbers, [outputs[i] for i in numbers]


def _upstream(outputs: list[Any], given: Any) -> list[Any]:
    """Gradients upstream: what was given, or random numbers in [-1, 1]."""
    if given is None:
        rng = np.random.default_rng(0)

        def drawn(output: Any) -> Any:
            values = rng.uniform(-1, 1, (2, *output.shape))
            return tf.cast(values[0] + 1j * values[1] if output.dtype.is_complex else values[0], output.dtype)

        return [drawn(output) for output in outputs]
    many = list(given) if isinstance(given, list | tuple) else [given]
    if len(many) != len(outputs):
        raise ValueError(
            f"grad_outputs has {len(many)} tensors; func has {len(outputs)} outputs that the tape connects with its "
            "inputs, and each needs one"
        )
    for i, (one, output) in enumerate(zip(many, outputs, strict=True)):
        if one is None or tuple(np.shape(one)) != tuple(output.shape):
            shape = None if one is None else tuple(np.shape(one))
            raise ValueError(f"grad_outputs[{i}] has shape {shape}; the output has {tuple(output.shape)}")
    return many


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
