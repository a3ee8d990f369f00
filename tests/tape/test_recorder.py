"""Recording: the tape has the value of the function, in float64, whatever the graph is made of."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from fdfast.operations import Notes
from fdfast.tape import NoTape, Recorder, guards_hold, push, replay

X = np.random.default_rng(0).normal(size=(4, 3))
H = 2.0**-100


def record(f, x=X, dtype=tf.float64, **options):
    spec = tf.TensorSpec(np.shape(x), dtype)
    function = tf.function(f, input_signature=[spec], autograph=options.get("autograph", False))
    recorder = Recorder(function.get_concrete_function())
    return recorder, recorder([tf.constant(x)])


def loop(x):
    def turn(i, total):
        return i + 1, total * tf.tanh(x[i]) + tf.reduce_sum(x)

    return tf.reduce_sum(tf.while_loop(lambda i, _: i < 4, turn, (0, tf.ones([3], x.dtype)))[1])


def until_large(x):
    return tf.reduce_sum(tf.while_loop(lambda v: tf.reduce_sum(v) < 50.0, lambda v: (v * v + 1,), (x,))[0])


def array(x):
    rows = tf.TensorArray(x.dtype, size=0, dynamic_size=True)
    for i in range(4):
        rows = rows.write(i, x[i] * i)
    return tf.reduce_sum(rows.stack() ** 2) + tf.reduce_sum(rows.concat()) + tf.reduce_sum(rows.gather([2, 1]))


def scattered(x):
    rows = tf.TensorArray(x.dtype, size=5, element_shape=[3]).scatter([4, 0, 2, 1], x)
    return tf.reduce_sum(rows.stack() * tf.range(5, dtype=x.dtype)[:, None])


def split(x):
    return tf.reduce_sum(tf.TensorArray(x.dtype, size=2, infer_shape=False).split(x, [1, 3]).read(1) ** 3)


def branch(x):
    return tf.cond(tf.reduce_sum(x) > 0.0, lambda: tf.reduce_sum(x**2), lambda: tf.reduce_sum(tf.exp(x)))


def switch(x):
    which = tf.argmax(x[0], output_type=tf.int32)
    return tf.switch_case(which, [lambda k=k: tf.reduce_sum(x * (k + 1.0)) for k in range(3)])


@tf.function
def inner(x):
    return tf.sin(x) * 2


@tf.custom_gradient
def doubled_slope(x):
    return tf.square(x), lambda g: 4 * g * x


def scanned(x):
    return tf.reduce_sum(tf.scan(lambda a, row: tf.tanh(a + row), x))


def mapped(x):
    return tf.reduce_sum(tf.map_fn(lambda row: tf.reduce_sum(row) ** 2, x))


FUNCTIONS = {f.__name__: f for f in (loop, until_large, array, scattered, split, branch, switch, scanned, mapped)} | {
    "calls": lambda x: tf.reduce_sum(inner(inner(x))),
    "custom gradient": lambda x: tf.reduce_sum(doubled_slope(x)),
    "unknown shapes": lambda x: tf.reduce_sum(tf.reshape(x, tf.concat([tf.shape(x)[1:], tf.shape(x)[:1]], 0))[1]),
    "checks on the way": lambda x: tf.reduce_sum(tf.debugging.check_numerics(x, "bad")),
    "recompute": lambda x: tf.reduce_sum(tf.recompute_grad(lambda v: tf.exp(v))(x)),
    "vectorized map": lambda x: tf.reduce_sum(tf.vectorized_map(lambda row: tf.reduce_max(row), x)),
    "complex": lambda x: tf.reduce_sum(
        tf.abs(tf.signal.rfft(x) * tf.complex(x[:, :2], x[:, 1:])) ** 2
        + tf.math.imag(tf.exp(tf.cast(x[:, :2], tf.complex(x, x).dtype) * 1j))
    ),
    "ragged": lambda x: tf.reduce_sum(tf.RaggedTensor.from_tensor(x, lengths=[1, 3, 0, 2]) ** 2),
    "sparse": lambda x: tf.reduce_sum(
        tf.sparse.sparse_dense_matmul(
            tf.sparse.SparseTensor([[0, 1], [2, 3]], tf.constant([2.0, 3.0], x.dtype), [3, 4]), x
        )
    ),
}


@pytest.mark.parametrize("dtype", [tf.float64, tf.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_differences_are_those_of_the_function(name, dtype):
    f = FUNCTIONS[name]
    _, tape = record(f, dtype=dtype)
    x = tf.constant(X)
    with tf.GradientTape() as gradient:
        gradient.watch(x)
        wanted = f(x)
    (number,) = tape.outputs
    np.testing.assert_allclose(tape.values[number], wanted, rtol=1e-14)
    assert all(v.dtype not in (tf.float32, tf.bfloat16, tf.complex64) for v in tape.values if tf.is_tensor(v))
    v = np.random.default_rng(1).normal(size=(2, *X.shape))
    notes = Notes()
    (found,) = push(tape, {tape.arguments[0]: tf.constant(H * v)}, 2, notes=notes)
    slope = tf.convert_to_tensor(gradient.gradient(wanted, x)).numpy() / (2 if name == "custom gradient" else 1)
    np.testing.assert_allclose(found / H, (v * slope).sum((1, 2)), rtol=1e-12, atol=1e-12 * np.abs(slope).sum())
    assert notes.subtracted == []


def aligned(x):
    return tf.reduce_sum(tf.nn.ctc_loss(tf.constant([[1, 2]]), x[:, None], [2], [4], blank_index=0))


def test_loops_of_an_older_kind_are_followed():
    """That loss runs in float32 only, by functions without a graph of their own."""
    _, tape = record(aligned, dtype=tf.float32)
    x = tf.constant(X, tf.float32)
    with tf.GradientTape() as gradient:
        gradient.watch(x)
        wanted = aligned(x)
    assert any("While" in entry.name for entry in tape.entries)
    np.testing.assert_allclose(tape.values[tape.outputs[0]], wanted, rtol=1e-6)  # the loss in float32
    v = np.random.default_rng(1).normal(size=(2, *X.shape))
    (found,) = push(tape, {tape.arguments[0]: tf.constant(H * v)}, 2, notes=Notes())
    slope = (v * gradient.gradient(wanted, x).numpy()).sum((1, 2))
    np.testing.assert_allclose(found / H, slope, rtol=1e-5)  # its gradient in float32


@pytest.mark.parametrize("name", ["loop", "branch", "switch", "array", "calls", "until_large"])
def test_value_and_gradient_are_recorded_together(name):
    f = FUNCTIONS[name]

    def both(x):
        with tf.GradientTape() as gradient:
            gradient.watch(x)
            value = f(x)
        return value, gradient.gradient(value, x)

    _, tape = record(both, dtype=tf.float32)
    x = tf.constant(X)
    wanted = both(x)
    for number, one in zip(tape.outputs, wanted, strict=True):
        np.testing.assert_allclose(tape.values[number], tf.convert_to_tensor(one), rtol=1e-13, atol=1e-13)


def test_the_gradient_is_the_user_s_own():
    def both(x):
        with tf.GradientTape() as gradient:
            gradient.watch(x)
            value = tf.reduce_sum(doubled_slope(x))
        return value, gradient.gradient(value, x)

    _, tape = record(both, dtype=tf.float32)
    np.testing.assert_allclose(tape.values[tape.outputs[1]], 4 * X, rtol=1e-14)


@pytest.mark.parametrize(("name", "sign"), [("branch", -1), ("until_large", 1), ("switch", 1)])
def test_guards_tell_when_another_way_would_be_taken(name, sign):
    _, tape = record(FUNCTIONS[name])
    assert tape.guards
    same = replay(tape, {tape.arguments[0]: tf.constant(X + 1e-9)})
    assert bool(guards_hold(tape, same))
    other = replay(tape, {tape.arguments[0]: tf.constant(sign * X[::-1, ::-1] * (3 if name == "until_large" else 1))})
    assert not bool(guards_hold(tape, other))


def test_loops_that_always_go_the_same_way_are_no_guards():
    assert record(loop)[1].guards == []


def test_a_replay_is_a_recording_at_another_point():
    recorder, tape = record(loop)
    there = recorder([tf.constant(X[::-1].copy())])
    again = replay(tape, {tape.arguments[0]: tf.constant(X[::-1].copy())})
    np.testing.assert_array_equal(again[tape.outputs[0]], there.values[there.outputs[0]])


def test_in_a_graph_it_is_the_same():
    _, tape = record(scanned)

    @tf.function(autograph=False)
    def there(x, v):
        values = replay(tape, {tape.arguments[0]: x})
        return values[tape.outputs[0]], push(tape, {tape.arguments[0]: v}, 2, values=values)[0]

    point, v = tf.constant(X[::-1].copy()), tf.constant(H * np.ones((2, *X.shape)))
    value, moved = there(point, v)
    eager = replay(tape, {tape.arguments[0]: point})
    np.testing.assert_allclose(value, eager[tape.outputs[0]], rtol=1e-15)
    (wanted,) = push(tape, {tape.arguments[0]: v}, 2, values=eager)
    np.testing.assert_allclose(moved, wanted, rtol=1e-14)


def test_variables_are_inputs_and_nothing_is_written():
    w, count = tf.Variable(X[0].astype("float32")), tf.Variable(0)

    def f(x):
        count.assign_add(1)
        return tf.reduce_sum(x * w) + tf.reduce_sum(tf.gather(w, [0, 2]))

    _, tape = record(f, dtype=tf.float32)
    assert int(count) == 0
    (number,) = (n for n in tape.variables.values() if tape.values[n].shape == [3])
    assert tape.values[number].dtype == tf.float64
    (found,) = push(tape, {number: tf.constant(H * np.eye(3))}, 3)
    np.testing.assert_allclose(found / H, X.sum(0) + np.array([1, 0, 1]), rtol=1e-14)


def test_random_numbers_are_those_of_the_precision_that_was_traced():
    def f(x):
        return tf.reduce_sum(x * tf.random.stateless_normal([4, 3], [1, 2], dtype=x.dtype))

    _, tape = record(f, dtype=tf.float32)
    np.testing.assert_allclose(tape.values[tape.outputs[0]], f(tf.constant(X, tf.float32)), rtol=1e-6)
    assert len(tape.narrow) == 1
    assert "StatelessRandomNormal" in tape.narrow[0]


def test_seeds_do_not_advance():
    generator = tf.random.Generator.from_seed(1)
    layer = keras.layers.Dropout(0.5, seed=3)
    before = [v.numpy() for v in (generator.state, layer.seed_generator.state.value)]
    record(lambda x: tf.reduce_sum(layer(x, training=True) * generator.normal([4, 3], dtype=x.dtype)), dtype=tf.float32)
    for variable, was in zip((generator.state, layer.seed_generator.state.value), before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), was)


def test_what_runs_python_is_refused_by_name():
    with pytest.raises(NoTape, match=r"EagerPyFunc.* runs Python code, which has no operations to follow"):
        record(lambda x: tf.reduce_sum(tf.py_function(lambda v: v**2, [x], x.dtype)))


def test_a_table_is_looked_up():
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2]), -1)
    _, tape = record(lambda x: tf.reduce_sum(x[table.lookup(tf.constant(["b"]))[0]] ** 2))
    np.testing.assert_allclose(tape.values[tape.outputs[0]], (X[2] ** 2).sum())


LAYERS = {
    "lstm": lambda: keras.layers.LSTM(3),
    "gru": lambda: keras.layers.GRU(3, reset_after=False, return_sequences=True),
    "bidirectional": lambda: keras.layers.Bidirectional(keras.layers.SimpleRNN(2)),
    "masking": lambda: keras.Sequential([keras.layers.Masking(0.0), keras.layers.LSTM(2)]),
    "time distributed": lambda: keras.layers.TimeDistributed(keras.layers.Dense(2, "tanh")),
}


@pytest.mark.parametrize("name", LAYERS)
def test_recurrent_layers(name):
    keras.utils.set_random_seed(0)
    layer = LAYERS[name]()

    def f(x):
        return tf.reduce_sum(tf.square(layer(x[None])))

    layer(np.zeros((1, 4, 3), "float32"))
    _, tape = record(f, dtype=tf.float32)
    np.testing.assert_allclose(tape.values[tape.outputs[0]], f(tf.constant(X, tf.float32)), rtol=1e-5)
    x = tf.constant(X)
    given = {tape.arguments[0]: x}
    with tf.GradientTape() as gradient:
        gradient.watch(x)
        value = replay(tape, given)[tape.outputs[0]]
    slope = gradient.gradient(value, x).numpy()
    (found,) = push(tape, {tape.arguments[0]: tf.constant(H * np.eye(12).reshape(12, 4, 3))}, 12)
    np.testing.assert_allclose(found / H, slope.ravel(), rtol=1e-11, atol=1e-12 * np.abs(slope).max())
