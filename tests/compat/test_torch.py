"""torch's gradcheck on TensorFlow functions: what passes, what fails and with which words, and what is left alone."""

from __future__ import annotations

import inspect
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from fdfast.compat.torch import GradcheckError, gradcheck

RNG = np.random.default_rng(0)
X = tf.constant(RNG.normal(size=(2, 3)))
Y = tf.constant(RNG.normal(size=(3, 2)))
BIG = tf.constant(RNG.normal(size=(9, 11)))  # more than FEW rows, and outputs
Z = tf.constant(RNG.normal(size=3) + 1j * RNG.normal(size=3))
N = tf.constant([0, 2, 1])


def custom(forward, backward):
    """A function with a gradient of its own: backward(x, upstream)."""

    @tf.custom_gradient
    def f(x):
        return forward(x), lambda upstream: backward(x, upstream)

    return f


square_with = {
    "right": custom(lambda x: x**2, lambda x, u: 2 * x * u),
    "twice too large": custom(lambda x: x**2, lambda x, u: 4 * x * u),
    "one element off": custom(
        lambda x: x**2,
        lambda x, u: 2 * x * u * (1 + 0.01 * tf.one_hot(int(tf.size(x)) - 1, int(tf.size(x)), dtype=x.dtype)),
    ),
}

PASS = [
    pytest.param(lambda x: 5 * x, X, id="a single input"),
    pytest.param(lambda x, y: x @ y, (X, Y), id="two inputs"),
    pytest.param(lambda x, y: x @ y, [X, Y], id="a list"),
    pytest.param(
        lambda x, y: (tf.sin(x), x @ y, tf.reduce_sum(y)), (X, Y), id="several outputs, some unconnected pairs"
    ),
    pytest.param(lambda x: tf.gather(x, [0, 0, 1]), X, id="IndexedSlices"),
    pytest.param(lambda x, n: tf.gather(x, n, axis=1), (X, N), id="integer input is held"),
    pytest.param(lambda x, p: x**p, (X, 3), id="a Python number is held"),
    pytest.param(lambda x: (x**2, tf.argmax(x)), X, id="integer output is left out"),
    pytest.param(lambda x: tf.argmax(x), X, id="nothing but integers"),
    pytest.param(lambda x: (), X, id="no output"),
    pytest.param(lambda x: tf.exp(x), X.numpy(), id="NumPy input"),
    pytest.param(lambda x: x**2, tf.zeros([0, 3], tf.float64), id="empty"),
    pytest.param(lambda x: x**3, tf.constant(2.0, tf.float64), id="a number"),
    pytest.param(lambda x: tf.tanh(x), BIG, id="many rows and outputs"),
    pytest.param(tf.function(lambda x: tf.tanh(x)), BIG, id="a tf.function"),
    pytest.param(lambda x: tf.reduce_sum(x.numpy() * 0 + x**2), BIG, id="many rows, not traceable"),
    pytest.param(lambda x: tf.cumsum(x) if float(x[0, 0]) < 9 else x, BIG, id="a Python branch"),
    pytest.param(square_with["right"], X, id="custom gradient"),
    pytest.param(lambda z: z**2, Z, id="complex to complex"),
    pytest.param(lambda z: tf.math.conj(z) * z**2, Z, id="complex, not holomorphic"),
    pytest.param(lambda z: tf.abs(z), Z, id="complex to real"),
    pytest.param(lambda z: (tf.sin(z), tf.abs(z)), tf.complex(BIG, BIG[::-1]), id="many complex rows"),
    pytest.param(lambda x: x**2, np.broadcast_to([1.0, 2.0, 3.0], (2, 3)), id="a broadcast array"),
    pytest.param(lambda x: tf.complex(x, x**2), X, id="real to complex"),
    pytest.param(lambda x, z: tf.cast(x[0], z.dtype) * z, (X, Z), id="real and complex"),
    pytest.param(lambda x: tf.stop_gradient(tf.round(x)), X, id="no gradient, and none due"),
]


@pytest.mark.parametrize(("func", "inputs"), PASS)
@pytest.mark.parametrize("fast_mode", [False, True])
def test_right_gradients_pass(func, inputs, fast_mode):
    assert gradcheck(func, inputs, fast_mode=fast_mode) is True


@pytest.mark.parametrize(
    ("func", "inputs"),
    [
        p
        for p in PASS
        if p.id in ("a single input", "two inputs", "a number", "complex to complex", "complex to real", "empty")
    ],
)
def test_forward_mode_passes_too(func, inputs):
    assert gradcheck(func, inputs, check_forward_ad=True)
    assert gradcheck(func, inputs, check_forward_ad=True, check_backward_ad=False)


FLAT = tf.constant([1.0, 2.0, 3.0], tf.float64)
DRIFT = tf.Variable(0.0, dtype=tf.float64)


def drifting(x, u):
    DRIFT.assign_add(1e-9)
    return u * (2 * x + DRIFT)


ones_for_sum = custom(tf.reduce_sum, lambda x, u: tf.ones_like(x))
short_for_sum = custom(tf.reduce_sum, lambda x, u: tf.ones([2], x.dtype))
single_for_sum = custom(tf.reduce_sum, lambda x, u: tf.cast(u, tf.float32) * tf.ones([3]))
off, twice = square_with["one element off"], square_with["twice too large"]
unchecked = {"check_undefined_grad": False}

FAIL = [
    ("factor", twice, FLAT, {}, r"mismatch for output 0 with respect to input 0,\nnumerical:\[\[2.*analytical:\[\[ 4"),
    ("one element", off, FLAT, {}, r"1 of 9 elements differ by more than atol=1e-05 \+ rtol=0.001 \* abs"),
    (
        "fast mode",
        off,
        FLAT,
        {"fast_mode": True},
        "worst: element 2 of the input, element 2 of the output",
    ),
    ("positions", lambda x, n, y: (y, twice(x)), (FLAT, N, Y), {}, "output 1 with respect to input 0"),
    ("out of TensorFlow", lambda x: tf.constant(x.numpy()), FLAT, {}, "Numerical gradient .* expected to be zero"),
    ("nondeterministic", custom(lambda x: x**2, drifting), FLAT, {}, "Backward is not reentrant.*nondet_tol=0"),
    ("upstream ignored", ones_for_sum, FLAT, unchecked, "backward not multiplied by grad_output"),
    ("undefined upstream", ones_for_sum, FLAT, {}, "gradient of zero for output 0"),
    ("size", short_for_sum, FLAT, {}, r"incorrect size: that of input 0 is \(2,\), the input \(3,\)"),
    ("dtype", single_for_sum, FLAT, {"check_grad_dtypes": True}, "dtype mismatch: that of input 0 is float32"),
    ("no conjugate", custom(lambda z: z**2, lambda z, u: 2 * z * u), Z, {}, "imaginary part of complex outputs: Jacob"),
    ("nan", tf.sqrt, tf.constant([0.0], tf.float64), {}, "numerical nan, analytical inf"),
    (
        "a lost step",
        tf.square,
        tf.constant([1.0, 1e12], tf.float64),
        {},
        r"eps=1e-06 vanishes in float64 at input 0\[1",
    ),
]


@pytest.mark.parametrize(
    ("func", "inputs", "options", "match"), [case[1:] for case in FAIL], ids=[case[0] for case in FAIL]
)
def test_wrong_gradients_fail_and_say_where(func, inputs, options, match):
    with pytest.raises(GradcheckError, match=f"(?s){match}"):
        gradcheck(func, inputs, **options)
    assert gradcheck(func, inputs, raise_exception=False, **options) is False


def test_what_the_options_switch_off():
    assert gradcheck(custom(lambda x: x**2, drifting), FLAT, nondet_tol=1e-6)
    assert gradcheck(custom(tf.reduce_sum, lambda x, u: tf.cast(u, tf.float32) * tf.ones([3])), FLAT)
    assert gradcheck(off, FLAT, rtol=0.02)
    assert gradcheck(square_with["twice too large"], FLAT, check_backward_ad=False, check_forward_ad=True) in (
        True,
        False,
    )


def test_many_elements_go_through_one_trace():
    calls = []

    def f(x):
        calls.append(tf.executing_eagerly())
        for _ in range(10):  # long enough for a trace to pay
            x = tf.tanh(x)
        return x

    gradcheck(f, BIG)
    assert calls.count(False) >= 1
    assert calls.count(True) < 20  # of 198 rows


@pytest.mark.parametrize("k", [0, 50, 98])
def test_one_wrong_element_among_many_is_found(k):
    f = custom(
        lambda x: x**2, lambda x, u: 2 * x * u * (1 + 0.01 * tf.reshape(tf.one_hot(k, 99, dtype=x.dtype), x.shape))
    )
    with pytest.raises(
        GradcheckError, match=rf"1 of 9801 elements differ.*worst: element {k} of the input, element {k} of"
    ):
        gradcheck(f, BIG, fast_mode=True)


def test_a_function_that_is_another_when_traced_is_evaluated_row_by_row():
    assert gradcheck(lambda x: x**2 if tf.executing_eagerly() else x**3, BIG)


def test_outputs_without_a_gradient_are_skipped_but_said():
    with pytest.warns(UserWarning, match="output 1 of func has no gradient by the tape .* changes with input 0"):
        assert gradcheck(lambda x: (x**2, tf.stop_gradient(x) * 3), FLAT)


@pytest.mark.parametrize("inputs", [tf.constant([1.0]), tf.constant([1 + 1j], tf.complex64), np.ones(2, np.float32)])
def test_low_precision_is_warned_of(inputs):
    with pytest.warns(UserWarning, match=r"Input #0 is \w+, not a double precision floating point") as seen:
        gradcheck(lambda x: 2 * x, inputs, eps=1e-2, atol=1e-3)
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradcheck(lambda x: 2 * x, X)


class Mine(Exception):
    pass


def test_only_a_failed_check_is_swallowed():
    def raises(x):
        raise Mine

    for func, error in (
        (raises, Mine),
        (lambda x: {"a": x}, TypeError),
        (tf.sparse.from_dense, ValueError),
    ):
        with pytest.raises(error):
            gradcheck(func, X, raise_exception=False)
    assert issubclass(GradcheckError, RuntimeError)


@pytest.mark.parametrize(
    ("func", "inputs", "options", "error", "match"),
    [
        (tf.sin, N, {}, ValueError, "expects at least one input tensor of floating-point or complex dtype"),
        (tf.sin, (), {}, ValueError, "got none"),
        (tf.sin, tf.Variable(1.0, trainable=False), {}, ValueError, "trainable=True"),
        (tf.sin, X, {"eps": 0.0}, ValueError, "eps=0.0 must be a positive finite number"),
        (tf.sin, X, {"check_backward_ad": False}, AssertionError, "at least one must be True"),
        (tf.sin, X, {"check_batched_grad": True}, ValueError, "check_batched_grad=True is not offered.*tape.jacobian"),
        (tf.sin, X, {"check_batched_forward_grad": True}, ValueError, "check_batched_forward_grad=True is not offered"),
        (tf.sin, X, {"masked": True}, ValueError, "masked=True is for sparse inputs.*tensor.values"),
        (tf.sin, tf.sparse.from_dense(X), {}, TypeError, "input 0 is a SparseTensor; pass its values"),
        (tf.sin, ([X, Y], X), {}, TypeError, "input 0 is a list of tensors; pass each"),
        (lambda x: {"a": x}, X, {}, TypeError, "output 0 of func is a dict; func must return a tensor"),
        (
            lambda x: x[: 2 + int(x[0] > 1)],
            FLAT,
            {},
            AssertionError,
            r"\(2,\) at the inputs, and float64 \(3,\) when input 0",
        ),
    ],
)
def test_what_cannot_be_checked_is_refused(func, inputs, options, error, match):
    with pytest.raises(error, match=match):
        gradcheck(func, inputs, **options)


def test_a_keras_variable_names_what_to_pass():
    with pytest.raises(TypeError, match=r"input 0 is a Keras variable; .* variable.value"):
        gradcheck(tf.sin, keras.Variable(1.0))


def test_inside_a_graph_there_are_no_values():
    with pytest.raises(RuntimeError, match="while a graph is traced"):
        tf.function(lambda: gradcheck(tf.sin, X))()


@pytest.mark.parametrize("fails_at", [None, 0, 3, 8])
def test_variables_move_in_place_and_come_back(fails_at):
    values = np.array([-0.0, 1 / 3, 1e-310, 2.0])
    variable, calls = tf.Variable(values), []

    def loss(_):  # the argument is not used: torch's way to check weights
        calls.append(1)
        if len(calls) - 1 == fails_at:
            raise KeyboardInterrupt
        return variable**2

    if fails_at is None:
        assert gradcheck(loss, variable)
    else:
        with pytest.raises(KeyboardInterrupt):
            gradcheck(loss, variable)
    assert variable.numpy().tobytes() == values.tobytes()


def test_weights_of_a_keras_model_pass_as_in_torch():
    dense = keras.layers.Dense(3, activation="tanh", dtype="float64")
    dense.build((None, 3))
    assert gradcheck(lambda *weights: dense(X), [variable.value for variable in dense.trainable_variables])


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision_needs_a_step_of_its_own(dtype):
    x = tf.constant([1.0, 2.0], dtype)
    with pytest.warns(UserWarning, match="not a double precision"):
        assert gradcheck(lambda a: 2 * a, x, eps=0.25, atol=0.0)  # doubling and quarters are exact
    with (
        pytest.warns(UserWarning, match="not a double precision"),
        pytest.raises(
            GradcheckError, match=rf"eps=1e-06 vanishes in {dtype.name} at input 0\[0\]=1.*A step that moves it"
        ),
    ):
        gradcheck(lambda a: 2 * a, x)


def test_arrays_are_not_written():
    x = RNG.normal(size=(9, 11))
    kept = x.tobytes()
    gradcheck(tf.tanh, x)
    assert x.tobytes() == kept


def test_the_signature_is_torch_s():
    # docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradcheck.html
    assert str(inspect.signature(gradcheck)).replace("'", "") == (
        "(func: Callable[..., Any], inputs: Any, *, eps: float = 1e-06, atol: float = 1e-05, rtol: float = 0.001, "
        "raise_exception: bool = True, nondet_tol: float = 0.0, check_undefined_grad: bool = True, "
        "check_grad_dtypes: bool = False, check_batched_grad: bool = False, check_batched_forward_grad: bool = False, "
        "check_forward_ad: bool = False, check_backward_ad: bool = True, fast_mode: bool = False, "
        "masked: bool | None = None) -> bool"
    )
