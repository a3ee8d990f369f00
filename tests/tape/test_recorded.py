"""A recorded function: values, gradients and slopes against float64 autodiff, kinks against what is known of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fdfast.tape.recorded as module
from fdfast.tape import Recorded

RNG = np.random.default_rng(0)
STEP = 2.0**-100


def recorded(f: Any, *arguments: Any, dtype: Any = tf.float64, variables: Any = (), moving: Any = None) -> Recorded:
    """Value and gradients of f, for its arguments and for the variables that it reads."""
    arrays = [np.asarray(a) for a in arguments]
    moving = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"] if moving is None else moving
    specs = [tf.TensorSpec(a.shape, dtype if a.dtype.kind == "f" else a.dtype) for a in arrays]

    def both(*tensors: Any) -> Any:
        sources = [*(tensors[i] for i in moving), *variables]
        with tf.GradientTape(watch_accessed_variables=False) as gradient:
            for one in sources:
                gradient.watch(one)
            value = f(*tensors)
        found = gradient.gradient(value, sources)
        return value, [None if g is None else tf.convert_to_tensor(g) for g in found]

    return Recorded(tf.function(both, input_signature=specs).get_concrete_function(), moving, variables)


def autodiff(f: Any, *arguments: Any) -> tuple[float, list[np.ndarray]]:
    given = [tf.constant(a) for a in arguments]
    with tf.GradientTape() as gradient:
        gradient.watch(given)
        value = f(*given)
    return float(value), [tf.convert_to_tensor(g).numpy() for g in gradient.gradient(value, given)]


@pytest.fixture
def at_once(monkeypatch):
    """Graphs are made as soon as there is a tape."""
    monkeypatch.setattr(module, "_MAKING", 0.0)


X, Z = RNG.normal(size=(4, 3)), RNG.normal(size=3)
SMOOTH = {
    "product of two": lambda x, z: tf.reduce_sum(tf.sin(x) * z),
    "softmax": lambda x, z: tf.reduce_sum(tf.nn.softmax(x * z) ** 2),
    "solve": lambda x, z: tf.reduce_sum(tf.linalg.solve(tf.eye(3, dtype=x.dtype) * 9 + x[:3], z[:, None])),
    "branch": lambda x, z: tf.cond(tf.reduce_sum(z) > -50, lambda: tf.reduce_sum(x**3 * z), lambda: tf.reduce_sum(x)),
    "eigenvalues alone": lambda x, z: tf.reduce_sum(tf.linalg.eigvalsh(x[:3] + tf.linalg.diag(z)) ** 3),
    "gather": lambda x, z: tf.reduce_sum(tf.gather(x, [0, 2, 2]) * z) * z[0],
}


@pytest.mark.parametrize("dtype", [tf.float64, tf.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize("name", SMOOTH)
def test_values_gradients_and_slopes_are_those_of_float64_autodiff(name, mode, dtype, monkeypatch):
    f = SMOOTH[name]
    whole = recorded(f, X, Z, dtype=dtype)
    if mode == "compiled":
        monkeypatch.setattr(module, "_MAKING", 0.0)
        whole.point([X + 1, Z]).slopes({0: X[None]}, [STEP])  # a tape to make graphs of
    steps = [STEP, 0.75 * STEP]
    v = {0: RNG.normal(size=(5, 4, 3)), 1: RNG.normal(size=(5, 3))}
    point = whole.point([X, Z])
    value, gradients = autodiff(f, X, Z)
    assert point.value == pytest.approx(value, rel=1e-14)
    sizes = [np.abs(g).max() for g in gradients]
    for place in (0, 1):
        # Rounding of a few dozen operations in float64, whatever the function was traced in.
        np.testing.assert_allclose(point.gradients[place], gradients[place], rtol=0, atol=1e-13 * sizes[place])
    exact = sum((v[p].reshape(5, -1) * gradients[p].ravel()).sum(1) for p in v)
    found = point.slopes(v, steps)
    assert found.value.shape == (2, 5)
    assert (found.ties, found.crossings, found.subtracted) == ([], [], [])
    np.testing.assert_allclose(found.value, np.stack([exact, exact]), rtol=0, atol=1e-12 * np.abs(gradients[0]).sum())
    # A part of the arguments alone: the others stay.
    alone = point.slopes({1: v[1]}, [STEP]).value[0]
    np.testing.assert_allclose(alone, (v[1] * gradients[1]).sum(1), rtol=0, atol=1e-12 * np.abs(gradients[1]).sum())
    # Graphs of eight directions serve five, too.
    graphs = {"values", ((0, 1), 8, tuple(steps), False), ((1,), 8, (STEP,), False)}
    assert set(whole._compiled) == (graphs if mode == "compiled" else set())


def test_a_second_use_pays_for_a_graph_only_when_it_costs_as_much(monkeypatch):
    whole = recorded(SMOOTH["softmax"], X, Z)
    monkeypatch.setattr(module, "_MAKING", 1e9)
    assert [whole.point([X, Z]).value for _ in range(3)] == [whole.point([X, Z]).value] * 3
    assert whole._compiled == {}
    monkeypatch.setattr(module, "_MAKING", 1e-12)
    first = whole.point([X, Z]).value
    assert set(whole._compiled) == {"values"}
    assert first == whole.point([X, Z]).value


def way(x):
    return tf.cond(x[0] > 0, lambda: tf.reduce_sum(x**2), lambda: tf.reduce_sum(tf.exp(x)))


def test_another_way_through_the_control_flow_is_recorded_anew(at_once):
    whole = recorded(way, X[0])
    up, down = np.array([1.0, 2.0, 3.0]), np.array([-1.0, 2.0, 3.0])
    for x in (up, down, down + 1e-3, up, down, up + 1):
        point = whole.point([x])
        v = {0: np.eye(3)}
        slopes = point.slopes(v, [STEP]).value[0]  # before the values: the graph of slopes has guards, too
        value, (gradient,) = autodiff(way, x)
        assert point.value == pytest.approx(value, rel=1e-14)
        np.testing.assert_allclose(point.gradients[0], gradient, rtol=1e-14)
        np.testing.assert_allclose(slopes, gradient, rtol=1e-14)


@pytest.mark.parametrize("dtype", [tf.float64, tf.float32], ids=["float64", "float32"])
def test_variables_are_read_as_they_are(at_once, dtype):
    w, b = tf.Variable(tf.ones([3], dtype)), tf.Variable(tf.constant(2.0, dtype))

    def f(x):
        return tf.reduce_sum(tf.tanh(tf.convert_to_tensor(w) * x) ** 2 * b)

    whole = recorded(f, Z, dtype=dtype, variables=[w, b])
    for values in ([1.0, 1.0, 1.0], [0.5, -1.0, 2.0], [0.25, 3.0, 0.0]):
        w.assign(values)
        b.assign(values[1])
        t = np.tanh(np.array(values) * Z)
        slope = 2 * t * (1 - t**2) * values[1]
        point = whole.point([Z])
        assert point.value == pytest.approx(values[1] * (t**2).sum(), rel=1e-14)
        for place, exact in ((0, slope * values), (1, slope * Z), (2, (t**2).sum())):
            np.testing.assert_allclose(point.gradients[place], exact, rtol=1e-13, atol=1e-15)
        v = {0: RNG.normal(size=(2, 3)), 1: RNG.normal(size=(2, 3)), 2: RNG.normal(size=2)}
        exact = v[0] @ (slope * values) + v[1] @ (slope * Z) + v[2] * (t**2).sum()
        np.testing.assert_allclose(point.slopes(v, [STEP]).value[0], exact, rtol=1e-13, atol=1e-14)
    assert "values" in whole._compiled


@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_what_is_not_connected_has_no_gradient_and_no_slope(mode, monkeypatch):
    """An argument and a variable that f does not read, and one that it reads without a gradient."""
    unread, rounded = tf.Variable([1.0, 2.0]), tf.Variable([1.7, 2.4])
    whole = recorded(
        lambda x, y: tf.reduce_sum(x * tf.round(rounded)), Z[:2], X, dtype=tf.float32, variables=[unread, rounded]
    )
    if mode == "compiled":
        monkeypatch.setattr(module, "_MAKING", 0.0)
        whole.point([Z[:2], X]).slopes({0: np.ones((1, 2))}, [STEP])
    for _ in range(2):
        point = whole.point([Z[:2], X])
        assert set(point.gradients) == {0}
        v = {0: np.ones((2, 2)), 1: np.ones((2, 4, 3)), 2: np.ones((2, 2)), 3: np.ones((2, 2))}
        np.testing.assert_allclose(point.slopes(v, [STEP]).value, [[4.0, 4.0]], rtol=1e-15)
        assert not point.slopes({2: v[2], 3: v[3]}, [STEP]).value.any()
        for place in (1, 2, 3):
            assert not point.slopes({place: v[place]}, [STEP]).value.any()
    assert (len(whole._compiled) > 3) == (mode == "compiled")


@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_ties_and_crossings_are_told_by_direction(mode, monkeypatch):
    whole = recorded(lambda x: tf.reduce_sum(tf.nn.relu(x) * [1.0, 2.0, 3.0]), Z)
    if mode == "compiled":
        monkeypatch.setattr(module, "_MAKING", 0.0)
        for x in (Z, Z):  # the second compiles
            whole.point([x]).slopes({0: np.eye(3)}, [1.0, STEP])
    found = whole.point([np.array([0.0, 0.5, -0.25])]).slopes({0: np.eye(3)}, [1.0, STEP])
    assert found.value.tolist() == [[1.0, 2.0, 2.25], [1.0, 2.0, 0.0]]
    ((_, tied),) = found.ties
    assert tied.tolist() == [True, False, False, True, False, False]
    ((_, crossed),) = found.crossings
    assert crossed.tolist() == [False, False, True, False, False, False]
    left = whole.point([np.array([0.0, 0.5, -0.25])]).slopes({0: -np.eye(3)}, [STEP])
    assert left.value.tolist() == [[0.0, -2.0, 0.0]]


def test_kinds_without_a_rule_are_named():
    whole = recorded(lambda x: tf.reduce_sum(tf.math.igamma(x**2 + 1, x**2 + 2)), Z)
    found = whole.point([Z]).slopes({0: np.eye(3)}, [2.0**-20])
    assert found.subtracted == ["Igamma"]


def pooled(x, w=None):
    y = tf.nn.max_pool2d(tf.reshape(x, [1, 4, 4, 1]), 2, 2, "VALID")
    return tf.reduce_sum(tf.reshape(y, [-1]) * [1.0, 2.0, 3.0, 4.0])


IMAGE = np.arange(16.0).reshape(4, 4)
IMAGE[0, 1] = IMAGE[1, 0] = IMAGE[1, 1] = 7.0  # the largest of their window, three of them
IMAGE[2, 0] = IMAGE[2, 1] = 2.0  # equal, below the largest of theirs
TIED = np.zeros((4, 4), bool)
TIED[0, 1] = TIED[1, 0] = TIED[1, 1] = True

#: f, x, and which elements have two slopes
KINKED = {
    "relu": (lambda x: tf.reduce_sum(tf.nn.relu(x)), [0.0, 1.0, -1.0, 0.0], [1, 0, 0, 1]),
    "leaky relu": (lambda x: tf.reduce_sum(tf.nn.leaky_relu(x)), [0.0, 1.0, -1.0], [1, 0, 0]),
    "relu6 at both ends": (lambda x: tf.reduce_sum(tf.nn.relu6(x)), [0.0, 6.0, 3.0, 7.0], [1, 1, 0, 0]),
    "abs": (lambda x: tf.reduce_sum(tf.abs(x)), [0.0, 1e-20, -1.0], [1, 0, 0]),
    "a relu that nothing depends on": (lambda x: tf.reduce_sum(tf.nn.relu(x) * [0.0, 1.0]), [0.0, 1.0], [0, 0]),
    "a relu of a sum": (lambda x: tf.nn.relu(x[0] + x[1]) + x[2] ** 2, [2.0, -2.0, 1.0], [1, 1, 0]),
    "two that cancel": (lambda x: tf.reduce_sum(tf.nn.relu(x) - tf.nn.relu(-x)), [0.0, 1.0], [0, 0]),
    "a double zero": (lambda x: tf.reduce_sum(tf.nn.relu(x) ** 2), [0.0, 1.0], [0, 0]),
    "max pool": (pooled, IMAGE, TIED),
    "max pool, all equal": (pooled, np.ones((4, 4)), np.ones((4, 4))),
    "max of many equals": (tf.reduce_max, np.append(np.ones(40), 0.5), np.append(np.ones(40), 0)),
    "maximum of two": (lambda x: tf.reduce_sum(tf.maximum(x[:2], x[2:])), [1.0, 2.0, 1.0, 3.0], [1, 0, 1, 0]),
    "clip at its bounds": (lambda x: tf.reduce_sum(tf.clip_by_value(x, 0.0, 1.0)), [0.0, 0.5, 1.0, 2.0], [1, 0, 1, 0]),
    "top k, a tie at its end": (lambda x: tf.reduce_sum(tf.math.top_k(x, 2)[0]), [3.0, 1.0, 1.0, 0.0], [0, 1, 1, 0]),
    "top k, a tie inside": (lambda x: tf.reduce_sum(tf.math.top_k(x, 2)[0]), [3.0, 3.0, 1.0, 0.0], [0, 0, 0, 0]),
    "top k, a tie inside, weighed": (
        lambda x: tf.reduce_sum(tf.math.top_k(x, 2)[0] * [1.0, 2.0]), [3.0, 3.0, 1.0, 0.0], [1, 1, 0, 0],
    ),
    "top k, a tie outside": (lambda x: tf.reduce_sum(tf.math.top_k(x, 2)[0]), [3.0, 2.0, 1.0, 1.0], [0, 0, 0, 0]),
    "sort": (lambda x: tf.reduce_sum(tf.sort(x) * [1.0, 2.0, 4.0]), [1.0, 5.0, 1.0], [1, 0, 1]),
    "no kink": (lambda x: tf.reduce_sum(tf.sin(x)), [0.0, 1.0], [0, 0]),
}  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", KINKED)
def test_elements_on_a_kink_are_those_with_two_slopes(name, seed):
    f, x, tied = KINKED[name]
    x = np.asarray(x)
    point = recorded(f, x).point([x])
    assert point.kinked([0], seed)[0].tolist() == np.asarray(tied, bool).tolist()
    # The control: element by element, to both sides.
    both = [point.slopes({0: sign * np.eye(x.size).reshape(-1, *x.shape)}, [STEP]).value[0] for sign in (1, -1)]
    assert (np.abs(both[0] + both[1]) > 1e-20).tolist() == np.asarray(tied, bool).ravel().tolist()


def test_slopes_that_differ_by_less_than_a_share_are_no_kink():
    point = recorded(lambda x: tf.reduce_sum(x + [1e-6, 1e-3] * tf.abs(x - 1)), [1.0, 1.0]).point([np.ones(2)])
    for share, tied in ((0.0, [True, True]), (1e-5, [False, True]), (1e-2, [False, False])):
        assert point.kinked([0], 0, share)[0].tolist() == tied


def test_kinks_of_variables_and_of_several_arguments():
    w, b = tf.Variable([0.0, 1.0]), tf.Variable(0.0)
    whole = recorded(
        lambda x, z: tf.reduce_sum(tf.nn.relu(w * x + b) * z),
        [2.0, 3.0],
        [1.0, 1.0],
        dtype=tf.float32,
        variables=[w, b],
    )
    found = whole.point([np.array([2.0, 3.0]), np.array([1.0, 1.0])]).kinked([0, 1, 2, 3])
    # The first unit is at zero. Its w and b move it; x does not, times zero, and z weighs it.
    assert {place: mask.tolist() for place, mask in found.items()} == {
        0: [False, False], 1: [False, False], 2: [True, False], 3: True,
    }  # fmt: skip


def test_what_only_moves_together_with_something_else_is_on_no_kink():
    # All weights zero: x moves nothing by itself, but the unit is at zero.
    w = tf.Variable([0.0, 0.0])
    whole = recorded(lambda x: tf.reduce_sum(tf.nn.relu(w * x)), [2.0, 3.0], dtype=tf.float32, variables=[w])
    found = whole.point([np.array([2.0, 3.0])]).kinked([0, 1])
    assert {place: mask.tolist() for place, mask in found.items()} == {0: [False, False], 1: [True, True]}


def test_kinks_are_the_same_by_a_graph():
    def f(x):
        y = tf.nn.relu(x - [0.0, 1.0, 0.0, 2.0])
        return tf.reduce_sum(tf.nn.max_pool1d(tf.reshape(y, (1, 4, 1)), 2, 2, "VALID") ** 2 * x[2]) + tf.reduce_sum(y)

    whole = recorded(f, [1.0, 1.0, 1.0, 1.0])
    x = np.array([0.0, 1.0, 0.5, 2.0])
    eager = whole.point([x]).kinked([0])[0]
    whole.spend(("sides", (0,)), np.inf)
    ran = whole.point([x])
    np.testing.assert_array_equal(ran.kinked([0])[0], eager)
    assert "tape" not in ran.__dict__  # nothing was recorded again
    assert eager.tolist() == [True, True, False, True]
    beside = whole.point([x + np.array([0.25, 0.5, 0.125, 0.25])])
    np.testing.assert_array_equal(beside.kinked([0])[0], [False] * 4)
