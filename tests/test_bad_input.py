"""Whatever is passed: a clear error or the right result, and nothing of the caller's changed."""

from __future__ import annotations

import functools
import random
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast

K = keras.layers
SHAPE = (6, 6, 1)
X = np.random.default_rng(0).uniform(size=(2, *SHAPE))
Y = np.eye(3)[[2, 0]]


@functools.cache
def good():
    keras.utils.set_random_seed(1)
    layers = [keras.Input(SHAPE), K.Conv2D(2, 3, activation="tanh"), K.Flatten(), K.Dense(3, activation="softmax")]
    model = keras.Sequential(layers, name="good")
    model.compile(loss="categorical_crossentropy")
    return model


def two_outputs():
    x = keras.Input(SHAPE)
    flat = K.Flatten()(x)
    return keras.Model(x, [K.Dense(3)(flat), K.Dense(3)(flat)], name="forked")


class Coupled(keras.Model):
    """Batch normalisation left in training mode. A functional model's own training=False would overrule it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = K.BatchNormalization()
        self.last = K.Dense(3, activation="softmax")

    def call(self, x):
        return self.last(K.Flatten()(self.norm(x, training=True)))


def coupled():
    model = Coupled()
    model(X.astype("float32"))
    return model


def broken():
    model = keras.models.clone_model(good())
    model.set_weights([w * np.nan for w in good().get_weights()])
    return model


def with_value(value, index=(1, 2, 3, 0), x=X):
    out = x.copy()
    out[index] = value
    return out


def one_number(y, prediction):
    return tf.reduce_mean((y - prediction) ** 2)


#: name: (change to a good call, error, words of the message)
BAD = {
    # x
    "nan": ({"x": with_value(np.nan)}, ValueError, r"x[1, 2, 3, 0] is nan; x must be finite (1 entries are not)"),
    "inf": ({"x": with_value(np.inf)}, ValueError, "x[1, 2, 3, 0] is inf; x must be finite"),
    "all nan": ({"x": X * np.nan}, ValueError, "x[0, 0, 0, 0] is nan; x must be finite (72 entries are not)"),
    "integers": ({"x": np.ones((2, *SHAPE), int)}, TypeError, "x has dtype int64: integers cannot move by a small ste"),
    "bytes": ({"x": np.ones((2, *SHAPE), "uint8")}, TypeError, "x.astype('float32'), for 8-bit images divided by 255"),
    "bools": ({"x": np.ones((2, *SHAPE), bool)}, TypeError, "x has dtype bool"),
    "complex": ({"x": X + 0j}, TypeError, "x is complex; pass real and imaginary parts as an extra axis"),
    "words": ({"x": ["a", "b"]}, TypeError, "x must be an array of floats, got dtype <U1"),
    "objects": ({"x": np.array([None, 1.0])}, TypeError, "x must be an array of floats, got dtype object"),
    "empty": ({"x": X[:0], "y": Y[:0]}, ValueError, "x is empty, shape (0, 6, 6, 1): there is nothing to differentiat"),
    "empty image": ({"x": X[:, :, :0]}, ValueError, "x is empty, shape (2, 6, 0, 1)"),
    "shape": ({"x": X[:, :5]}, ValueError, "x has shape (5, 6, 1) per example; 'good' takes (6, 6, 1)"),
    "rank": ({"x": X[..., None]}, ValueError, "x has shape (6, 6, 1, 1) per example; 'good' takes (6, 6, 1)"),
    "flat": ({"x": X.reshape(2, 36)}, ValueError, "x has shape (36,) per example; 'good' takes (6, 6, 1)"),
    # y
    "no y": ({"y": None}, TypeError, "y is missing: the loss 'categorical_crossentropy' needs a target for each examp"),
    "few y": ({"y": Y[:1]}, ValueError, "y has 1 targets for 2 examples of x"),
    "numbers": ({"y": [2, 0]}, ValueError, "class numbers go with 'sparse_categorical_crossentropy', or use keras.uti"),
    "y shape": ({"y": np.ones((2, 4))}, ValueError, "y has shape (4,) per example, the model's output has (3,)"),
    "y nan": ({"y": Y * np.nan}, ValueError, "y contains NaN or infinity"),
    "y words": ({"y": ["cat", "dog"]}, TypeError, "y must be numeric, got dtype <U3"),
    "class": ({"y": [3, 0], "loss": "sparse_categorical_crossentropy"}, ValueError, "class numbers 0 .. 2, got values"),
    # tile
    "tile 0": ({"tile": 0}, ValueError, "tile extent 0 does not fit axis 0 of shape (6, 6, 1): it must be between 1 a"),
    "tile -1": ({"tile": (2, -1)}, ValueError, "tile extent -1 does not fit axis 1"),
    "tile 7": ({"tile": 7}, ValueError, "tile extent 7 does not fit axis 0 of shape (6, 6, 1): it must be between 1 a"),
    "tile 1.5": ({"tile": 1.5}, TypeError, "tile must be an int or a sequence of ints, got 1.5"),
    "tile of 4": ({"tile": (1, 1, 1, 1)}, ValueError, "has 4 entries; for shape (6, 6, 1) it needs 2 (spatial axes) o"),
    "channels": ({"channels": "both"}, ValueError, "channels must be one of 'together', 'apart', got 'both'"),
    # h
    "h 0": ({"h": 0.0}, ValueError, "h must be positive and finite, got h=0.0; leave h='auto' to have it chosen"),
    "h < 0": ({"h": -1e-3}, ValueError, "h must be positive and finite, got h=-0.001"),
    "h nan": ({"h": np.nan}, ValueError, "h must be positive and finite, got h=nan"),
    "h word": ({"h": "small"}, ValueError, "h must be 'auto' or a positive number, got 'small'"),
    "h list": ({"h": [1e-3]}, TypeError, "h must be 'auto' or a positive number, got list"),
    "h tiny": ({"h": 1e-18, "engine": "batch"}, ValueError, "vanishes in float64 at x["),
    "h tiny in float32": (
        {"h": 1e-9, "precision": "float32", "engine": "batch"},
        ValueError,
        "vanishes in float32 at x[",
    ),
    "difference tiny": ({"h": 1e-160}, ValueError, "h=1e-160 vanishes in float64 on its way through the layers"),
    "difference tiny in float32": ({"h": 1e-22, "precision": "float32"}, ValueError, "vanishes in float32 on its way"),
    # f, loss and model
    "no model": ({"f": None}, TypeError, "f must be a Keras model or a callable, got NoneType"),
    "path": ({"f": "model.keras"}, TypeError, "f must be a Keras model or a callable, got str"),
    "array": ({"f": X}, TypeError, "f must be a Keras model or a callable, got ndarray"),
    "nan model": ({"f": broken}, ValueError, "f(x) is nan at example 0: the loss must be finite at x itself; look for"),
    "two outputs": (
        {"f": two_outputs, "loss": "mse", "engine": "batch"},
        TypeError,
        "'forked' has several outputs; only models with one",
    ),
    "coupled rows": ({"f": coupled, "loss": "mse"}, ValueError, "in training mode it normalises by the batch; call"),
    "one number": ({"loss": one_number}, ValueError, "the loss returns one scalar for the whole batch; it must return"),
    "no loss": ({"f": lambda: keras.Sequential(good().layers)}, ValueError, "loss is missing and the model was not co"),
    "loss name": ({"loss": "crossentropy"}, ValueError, "loss='crossentropy' is not the name of a Keras loss"),
    "loss class": ({"loss": keras.losses.Huber}, TypeError, "loss is the class Huber; pass an object of it: Huber()"),
    "stray": ({"scale": 3, "colour": 1}, TypeError, "unexpected arguments for a model: colour, scale"),
    # the rest
    "engine": ({"engine": "warp"}, ValueError, "engine must be one of 'auto', "),
    "precision "
    "array": ({"precision": np.ones(2)}, ValueError, "precision must be one of 'auto', 'float32', 'float64', g"),
    "precision": ({"precision": "float16"}, ValueError, "precision must be one of 'auto', 'float32', 'float64', got '"),
    "max_rows": ({"max_rows": 1}, ValueError, "max_rows must be an int of at least 2 (a +h and a -h row), got 1"),
    "bounds order": ({"bounds": (1, 0)}, ValueError, "bounds must satisfy low < high, got (1, 0)"),
    "bounds kind": ({"bounds": 1.0}, TypeError, "bounds must be a pair of numbers (low, high), got 1.0"),
    "bounds words": ({"bounds": "01"}, TypeError, "bounds must be a pair of numbers (low, high), got '01'"),
    "bounds of "
    "words": ({"bounds": ("0", "1")}, TypeError, "bounds must be a pair of numbers (low, high), got ('0', '1"),
    "bounds "
    "once": ({"bounds": iter((0, 1))}, TypeError, "bounds must be a pair of numbers (low, high), got <tuple_iter"),
    "bounds nan": ({"bounds": (0, np.nan)}, ValueError, "bounds must satisfy low < high, got (0, nan)"),
    "h huge": ({"h": 10**400}, ValueError, "h must be positive and finite, got h=1000"),
    "max_rows huge": ({"max_rows": 10**12}, ValueError, "max_rows must be an int of at most 2147483647, got 10000000"),
    "progress": ({"progress": 3}, TypeError, "progress must be True, for a bar, or be called as progress(rows done"),
    "progress of "
    "one": ({"progress": lambda done: None}, TypeError, "progress is called with 2 arguments, but its param"),
    "loss of "
    "one": ({"loss": lambda y: y}, TypeError, "the loss '<lambda>' is called with 2 arguments, but its parameters"),
    "tile of "
    "floats": ({"tile": np.ma.array([1.0, 2.0], mask=[0, 1])}, TypeError, "tile must be an int or a sequence of"),
    "batched": ({"batched": "no"}, TypeError, "batched must be True or False, or left out, got 'no'"),
    "print as loss": ({"loss": print}, TypeError, "the loss 'print' returns "),
    "placeholder": ({"x": keras.Input(SHAPE)}, TypeError, "x is a KerasTensor, a placeholder that has no values: pass"),
    "lengths": ({"x": [[1.0, 2.0], [3.0]]}, ValueError, "x makes no array: setting an array element with a sequence"),
    "numbers to come": ({"x": iter([1.0])}, TypeError, "x must be an array of floats, got dtype object (from a list_i"),
    "outside": ({"bounds": (0, 0.5)}, ValueError, "lies outside the bounds (0, 0.5)"),
    "no room": ({"bounds": (0, 1), "h": 0.7}, ValueError, "leave no room for a step of 0.7: give a smaller h or wider"),
}  # fmt: skip
GRADIENT_ONLY = {
    "reduction": ({"reduction": "max"}, ValueError, "reduction must be one of 'mean', 'sum', got 'max'"),
}
CHECK_ONLY = {
    "rtol": ({"rtol": -1.0}, ValueError, "rtol must be between 0 and inf, got -1.0"),
    "rtol nan": ({"rtol": np.nan}, ValueError, "rtol must be between 0 and inf, got nan"),
    "rtol huge": ({"rtol": 10**400}, ValueError, "rtol must be between 0 and inf, got 1000"),
    "rtol list": ({"rtol": [1]}, TypeError, "rtol must be between 0 and inf, got [1]"),
    "atol": ({"atol": -1.0}, ValueError, "atol must be 'auto' or between 0 and inf, got -1.0"),
    "atol list": ({"atol": [1]}, TypeError, "atol must be 'auto' or between 0 and inf, got [1]"),
    "atol none": ({"atol": None}, TypeError, "atol must be 'auto' or between 0 and inf, got None"),
    "seed": ({"seed": "a"}, TypeError, "seed must be an int of at least 0, got 'a'"),
    "seed none": ({"seed": None}, TypeError, "seed must be an int of at least 0, got None"),
    "seed half": ({"seed": 1.5}, TypeError, "seed must be an int of at least 0, got 1.5"),
    "seed < 0": ({"seed": -1}, ValueError, "seed must be an int of at least 0, got -1"),
    "wrt": ({"wrt": np.ones(2)}, TypeError, "wrt must be a name or a list of names, got "),
    "analytic class": ({"analytic": int}, TypeError, "analytic is the class int; pass a gradient, or a function of x"),
    "analytic of "
    "two": ({"analytic": lambda x, y: x}, TypeError, "analytic is called with 1 argument, but its parameter"),
    "label": ({"label": 3}, TypeError, "label must be a str, got 3"),
    "selftest": ({"selftest": 3}, TypeError, "selftest must be True or False, got 3"),
    "directions": ({"directions": 1.5, "check": "directions"}, TypeError, "directions must be an int of at least 1, "),
    "directions huge": (
        {"directions": 10**9, "check": "directions"},
        ValueError,
        "directions must be an int of at most 1000, got 1000000000",
    ),
    "jitter huge": ({"jitter": 10**400}, ValueError, "jitter must be 'auto', None or a positive width"),
    "jitter list": ({"jitter": np.ones(2)}, ValueError, "jitter must be 'auto', None or a positive width"),
    "analytic "
    "objects": ({"analytic": np.full(X.shape, None)}, TypeError, "analytic must be an array of floats, got dt"),
    "coverage": ({"coverage": 99}, ValueError, "coverage must be between 0 and 1, got 99"),
    "jitter": ({"jitter": -0.1}, ValueError, "jitter must be 'auto', None or a positive width"),
    "analytic shape": ({"analytic": X[0]}, ValueError, "analytic has shape (6, 6, 1); it must have the shape of x, (2"),
    "analytic kind": ({"analytic": "autodiff"}, TypeError, "analytic must be an array of floats, got dtype <U8"),
    "analytic empty": ({"analytic": X[:0]}, ValueError, "analytic is empty, shape (0, 6, 6, 1)"),
    "analytic result": ({"analytic": lambda x: x[:, 0]}, ValueError, "analytic returned shape (2, 6, 1); it must retu"),
}  # fmt: skip


def snapshot(f, arrays):
    weights = [w.tobytes() for w in f.get_weights()] if isinstance(f, keras.Model) else None
    return (
        weights,
        [np.asarray(a).tobytes() for a in arrays],
        keras.config.dtype_policy(),
        keras.config.floatx(),
        random.getstate(),
        str(np.random.get_state()),  # noqa: NPY002 (Keras draws from it)
    )


@pytest.mark.parametrize("name", [*BAD, *GRADIENT_ONLY, *CHECK_ONLY])
def test_bad_input_is_named_and_nothing_is_changed(name):
    change, error, words = (BAD | GRADIENT_ONLY | CHECK_ONLY)[name]
    change = dict(change)
    f = change.pop("f", good)
    f = f() if callable(f) else f
    call = {"x": X, "y": Y, **change}
    arrays = [a for a in call.values() if isinstance(a, np.ndarray)]
    for function in (fdfast.gradient, fdfast.estimate, fdfast.gradcheck):
        if (name in GRADIENT_ONLY and function != fdfast.gradient) or (
            name in CHECK_ONLY and function != fdfast.gradcheck
        ):
            continue
        if name == "one number" and function == fdfast.gradcheck:  # which has another way
            call = {**call, "check": "every"}
        before = snapshot(f, arrays)
        with pytest.raises(error, match=re.escape(words)):
            function(f, **call)
        assert snapshot(f, arrays) == before


@pytest.mark.parametrize(
    "couple",
    [
        lambda rows: rows - rows[:1],
        lambda rows: rows / tf.reduce_max(rows, axis=0),
        lambda rows: tf.cumsum(rows, axis=0),
        lambda rows: (rows - tf.reduce_mean(rows)) / tf.math.reduce_std(rows),
    ],
)
def test_rows_that_influence_each_other_are_named(couple):
    weights = np.linspace(1, 2, 5)
    for function in (fdfast.gradient, fdfast.gradcheck):
        with pytest.raises(ValueError, match=r"rows influence each other|the same row twice in one batch gives"):
            function(
                lambda rows: tf.reduce_sum(couple(rows) ** 3 * weights, 1), np.linspace(0.1, 0.9, 5) ** 2, batched=True
            )


@pytest.mark.parametrize(
    ("f", "options", "error", "words"),
    [
        (
            lambda x: x.sum(),
            {"loss": "mse"},
            TypeError,
            "loss goes with a Keras model; a callable f returns the loss itself",
        ),
        (lambda x: tf.reduce_sum(x) * np.nan, {}, ValueError, "f(x) is nan: the loss must be finite at x itself"),
        (
            lambda x: x,
            {"tile": 2},
            ValueError,
            "f must return a scalar for one x of shape (3,); it returned shape (3,). For a function of rows",
        ),
        (
            lambda x: "high",
            {},
            TypeError,
            "f returns 'high'; it must return floating-point values, got str",
        ),
        (
            lambda rows: rows.sum(),
            {"batched": True},
            ValueError,
            "with batched=True f must return one value per row, shape (",
        ),
        (lambda rows: tf.reduce_sum(rows), {"batched": True}, ValueError, "returns one scalar for the whole batch"),
        (lambda x: x.sum(), {"precision": "half"}, ValueError, "precision must be one of"),
        *(
            (
                lambda rows: tf.cast(tf.reduce_sum(rows, 1), tf.complex128),
                {"batched": True} | engine,
                TypeError,
                "f returns complex128; it must return real values",
            )
            for engine in ({}, {"engine": "batch"}, {"engine": "tape"})
        ),
    ],
)
def test_functions_that_do_not_fit_are_named(f, options, error, words):
    x = np.linspace(0.1, 0.9, 3)
    for function in (fdfast.gradient, fdfast.gradcheck):
        with pytest.raises(error, match=re.escape(words)):
            function(f, x, **options)
    np.testing.assert_array_equal(x, np.linspace(0.1, 0.9, 3))


def test_autodiff_of_a_function_without_tensors_is_asked_for():
    with pytest.raises(
        TypeError, match=r"f takes arrays, but no tensors .*, so there is no autodiff gradient: pass analytic="
    ):
        fdfast.gradcheck(lambda x: x.sum(), np.ones(3))


def test_a_vanishing_step_is_named_as_it_was_given():
    words = (
        "h=1e-18 vanishes in float64 at x[0, 0, 0]=0.636962: x + h == x. Smallest step that moves it: 1.11e-16; for a"
    )
    with pytest.raises(ValueError, match=re.escape(words)):
        fdfast.gradient(good(), X, 1e-18, y=Y, engine="batch")


def test_a_step_out_of_the_domain_is_named():
    x = np.array([[1.0, 1.0], [0.0, 1.0]])

    def f(rows):
        with np.errstate(invalid="ignore"):
            return np.sqrt(rows).sum(axis=(1, 2))

    with pytest.raises(
        ValueError, match=r"at \(1, 0\): it is 3\.00276 at \+.* and nan at -.*bounds= may keep f in its dom"
    ):
        fdfast.gradient(f, x, batched=True)
    found = fdfast.gradient(f, x, batched=True, bounds=(0, 4))
    np.testing.assert_allclose(found[x > 0], 0.5, rtol=1e-9)  # h^2 / 8
    report = fdfast.gradcheck(f, x, batched=True, analytic=lambda x: 0.5 / np.sqrt(np.maximum(x, 1e-300)), jitter=None)
    assert report.classes[1, 0] != "agree"
    assert (report.classes[x > 0] == "agree").all()


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("read-only", lambda x: read_only(x)),
        ("Fortran order", np.asfortranarray),
        ("every other", lambda x: np.repeat(x, 2, axis=1)[:, ::2]),
        ("backwards", lambda x: x[:, ::-1].copy()[:, ::-1]),
        ("transposed", lambda x: np.ascontiguousarray(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)),
        ("broadcast", lambda x: np.broadcast_to(x[:1], x.shape)),
        ("big-endian", lambda x: x.astype(">f8")),
        ("big-endian float32", lambda x: x.astype(">f4")),
        ("float16", lambda x: x.astype(np.float16)),
        ("unaligned", lambda x: unaligned(x)),
        ("lists", np.ndarray.tolist),
        ("tensor", tf.constant),
        ("bfloat16", lambda x: tf.constant(x, tf.bfloat16)),
        ("subclass", lambda x: x.view(np.memmap)),
    ],
)
def test_any_array_gives_the_right_result(name, layout):
    x = layout(X)
    y = read_only(Y.astype(">f4")) if name == "read-only" else Y
    plain = np.array(np.asarray(x).astype(np.float64))
    before = np.asarray(x).tobytes()
    wanted = fdfast.gradient(good(), plain, y=Y)
    got = fdfast.gradient(good(), x, y=y)
    assert (got.shape, got.dtype) == (X.shape, np.float64)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-10)  # the rounding of chunks, 1e-16, over the step
    report = fdfast.gradcheck(good(), x, y, tile=3)
    assert report, str(report)
    np.testing.assert_array_equal(report.x.astype(np.float64), plain)
    assert np.asarray(x).tobytes() == before


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
    out = raw.view(x.dtype).reshape(x.shape)
    out[...] = x
    assert not out.flags.aligned
    return out


def test_results_are_the_callers_own():
    x = X.copy()
    first = fdfast.gradient(good(), x, y=Y)
    kept = first.copy()
    report = fdfast.gradcheck(good(), x, Y, tile=2)
    fdfast.gradient(good(), x + 0.1, y=Y)
    np.testing.assert_array_equal(first, kept)
    first[...] = 0
    x[...] = 0.5
    np.testing.assert_array_equal(report.x, X)
    np.testing.assert_allclose(fdfast.gradient(good(), X, y=Y), kept, rtol=0, atol=1e-10)  # rounding over the step


def test_state_of_the_model_is_kept_when_f_raises():
    model = keras.models.clone_model(good())
    weights = model.get_weights()
    calls = []

    def loss(y, prediction):
        calls.append(1)
        raise RuntimeError("no loss today")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no loss today"):
            fdfast.gradcheck(model, X, Y, loss=loss)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert model.compute_dtype == "float32"
    model.set_weights(good().get_weights())
    assert fdfast.gradcheck(model, X, Y, loss="categorical_crossentropy")


MASKED = np.ma.array(X, mask=X > 0.9)
HIDDEN = int(MASKED.mask.sum())
CALLS = {
    "gradient": lambda x: fdfast.gradient(good(), x, y=Y),
    "estimate": lambda x: fdfast.estimate(good(), x, y=Y),
    "gradcheck": lambda x: fdfast.gradcheck(good(), x, Y),
    "directions": lambda x: fdfast.gradcheck(good(), x, Y, check="directions"),
    "weights": lambda x: fdfast.gradcheck(good(), x, Y, wrt="weights", budget=40),
    "directional": lambda x: fdfast.directional(good(), x, X, y=Y),
    "jacobian": lambda x: fdfast.jacobian(good(), x),
    "fgsm": lambda x: fdfast.attack.fgsm(good(), x, Y, 0.1, bounds=None),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_masked_array_is_refused_and_never_written(call):
    x = MASKED.copy()
    words = f"x is a masked array, and {HIDDEN} of its 72 entries are masked: what has no value can neither move nor be"
    with pytest.raises(TypeError, match=words):
        CALLS[call](x)
    assert x.data.tobytes() == MASKED.data.tobytes()
    assert x.mask.tobytes() == MASKED.mask.tobytes()
    CALLS[call](x.filled(0.5))  # what the message says
    bare = np.ma.array(X.copy())  # nothing in it is masked
    CALLS[call](bare)
    assert bare.data.tobytes() == X.tobytes()
    assert bare.mask is np.ma.nomask


def test_masked_targets_gradients_and_held_arguments_are_refused():
    with pytest.raises(TypeError, match="y is a masked array, and 2 of its 6 entries are masked"):
        fdfast.gradcheck(good(), X, np.ma.array(Y, mask=Y > 0))
    with pytest.raises(TypeError, match="analytic is a masked array"):
        fdfast.gradcheck(good(), X, Y, analytic=MASKED)
    with pytest.raises(TypeError, match="analytic is a masked array"):
        fdfast.gradcheck(good(), X, Y, analytic=lambda x: MASKED)
    with pytest.raises(TypeError, match=r"x\[1\] is a masked array"):
        fdfast.jacobian(lambda a, b: a * b, (np.ones(2), np.ma.array([1.0, 2.0], mask=[0, 1])), wrt=0)
