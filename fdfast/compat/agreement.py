"""Do Jacobians by differences and by automatic differentiation agree? In the terms of torch's gradcheck."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fdfast.compat.autodiff import Backward, forward, parts_of
from fdfast.compat.call import Call
from fdfast.compat.central import VanishingStep, central

Array = npt.NDArray[Any]


class GradcheckError(RuntimeError):
    """The gradients of a function are not what differences say; the message has both Jacobians."""


def require_agreement(
    call: Call,
    eps: float,
    close: Callable[[Array, Array], Array],
    rule: str,
    *,
    nondet_tol: float,
    undefined: bool,
    dtypes: bool,
    both: tuple[bool, bool],
) -> None:
    """Raise `GradcheckError` unless tape and forward mode agree with differences, element by element.

    Parameters
    ----------
    call : Call
    eps : float
        Step, in the units of the arguments.
    close : callable
        ``close(analytical, numerical)`` returns an array of booleans.
    rule : str
        What `close` tolerates, in words.
    nondet_tol, undefined, dtypes
        As nondet_tol, check_undefined_grad and check_grad_dtypes of `fdfast.compat.torch.gradcheck`.
    both : (bool, bool)
        Whether the tape and whether forward mode is checked.
    """
    tape = Backward(call)
    zeros = {key: tape.zeros(key) for key in tape.targets}
    connected = {i for (i, _), found in zeros.items() if any(g is not None for g in found)}
    try:
        numeric = {position: central(call, position, tape.outputs, eps) for position in call.moving}
    except VanishingStep as error:
        raise GradcheckError(str(error)) from None
    _look_at_unconnected(tape, connected, numeric)
    if both[0]:
        for (i, part), found in zeros.items():
            if i in connected:
                _look_at_gradients(call, tape.first_row((i, part)), dtypes)
                jacobians = _twice(tape, (i, part), nondet_tol)
                for position, analytic in zip(call.moving, jacobians, strict=True):
                    _compare(analytic, _gradient_of(numeric[position][i], part), close, rule, i, position, part)
                if undefined and _any_nonzero(found):
                    raise GradcheckError(
                        f"a gradient of zero for output {i} gives a gradient of its inputs that is not zero; where the "
                        "gradients of outputs are undefined or zero, those of the inputs must be None or zero"
                    )
        if connected and _any_nonzero(tape.zeros(*[key for key in zeros if key[0] in connected])):
            raise GradcheckError("backward not multiplied by grad_output: the gradient upstream is ignored")
    if both[1] and connected:
        for position in call.moving:
            for i, columns in enumerate(forward(call, position, tape.outputs)):
                slopes = numeric[position][i]
                if i in connected and columns is not None and slopes is not None:
                    names = ("real part of ", "imaginary part of ") if len(columns) == 2 else ("",)
                    for column, slope, name in zip(columns, slopes, names, strict=True):
                        _compare(column, slope, close, rule, i, position, name, forward=True)


def _look_at_unconnected(tape: Backward, connected: set[int], numeric: dict[int, list[Array | None]]) -> None:
    for i, output in enumerate(tape.outputs):
        depends = [p for p, found in numeric.items() if (slopes := found[i]) is not None and np.any(slopes != 0)]
        if not parts_of(output) or i in connected or not depends:
            continue
        if not connected:
            raise GradcheckError(
                f"Numerical gradient for function expected to be zero: no output is connected with the inputs by the "
                f"tape, but output {i} changes with input {depends[0]}"
            )
        warnings.warn(
            f"output {i} of func has no gradient by the tape (tf.stop_gradient, or values taken out of TensorFlow) but "
            f"changes with input {depends[0]}; it is not checked, as in torch",
            stacklevel=4,
        )


def _look_at_gradients(call: Call, gradients: list[Any], dtypes: bool) -> None:
    for position, source, gradient in zip(call.moving, call.sources, gradients, strict=True):
        if gradient is None:
            continue
        if dtypes and gradient.dtype != source.dtype:
            raise GradcheckError(
                f"Gradient has dtype mismatch: that of input {position} is {gradient.dtype.name}, the input "
                f"{source.dtype.name}"
            )
        if gradient.shape != source.shape:
            raise GradcheckError(
                f"Analytical gradient has incorrect size: that of input {position} is {tuple(gradient.shape)}, the "
                f"input {tuple(source.shape)}"
            )


def _twice(tape: Backward, key: tuple[int, str], tolerance: float) -> list[Array]:
    first, second = tape.jacobian(key), tape.jacobian(key)
    with np.errstate(invalid="ignore"):  # infinite in both passes
        gaps = [np.where(a == b, 0.0, np.abs(a - b)) for a, b in zip(first, second, strict=True)]
    gap = max((float(one.max(initial=0.0)) for one in gaps), default=0.0)
    if gap > tolerance:
        raise GradcheckError(
            f"Backward is not reentrant: two backward passes for output {key[0]} with the same inputs and the same "
            f"gradient upstream differ by {gap:.3g}; the tolerance for nondeterminism was nondet_tol={tolerance:g}"
        )
    return first


def _gradient_of(slopes: Array | None, part: str) -> Array:
    """Turn slopes along x and y into those of a real or imaginary part L: dL/dx, or dL/dx + i dL/dy."""
    assert slopes is not None
    real = slopes.imag if part.startswith("imag") else slopes.real
    jacobian: Array = real[0] if len(real) == 1 else real[0] + 1j * real[1]
    return jacobian


def _any_nonzero(gradients: list[Any]) -> bool:
    return any(g is not None and bool(np.any(g.numpy() != 0)) for g in gradients)


def _compare(
    analytic: Array,
    numeric: Array,
    close: Callable[[Array, Array], Array],
    rule: str,
    output: int,
    position: int,
    part: str,
    *,
    forward: bool = False,
) -> None:
    agrees = close(analytic, numeric)
    if agrees.all():
        return
    with np.errstate(invalid="ignore"):
        gap = np.where(agrees, -1.0, np.nan_to_num(np.abs(analytic - numeric), nan=np.inf))
    k, m = (int(at) for at in np.unravel_index(int(gap.argmax()), gap.shape))
    mode = "Jacobian computed with forward mode" if forward else "Jacobian"
    about = f"For the {part}complex {'inputs' if forward else 'outputs'}: " if part else ""
    raise GradcheckError(
        f"{about}{mode} mismatch for output {output} with respect to input {position},\n"
        f"numerical:{numeric}\nanalytical:{analytic}\n"
        f"{int((~agrees).sum())} of {agrees.size} elements differ by more than {rule}; worst: element {k} of the "
        f"input, element {m} of the output, numerical {numeric[k, m]:.9g}, analytical {analytic[k, m]:.9g}"
    )
