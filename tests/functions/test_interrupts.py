"""Ctrl-C: what TensorFlow makes of it, what comes out, and what is put back."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

import fdfast
from fdfast.functions import interruptible
from fdfast.functions.interrupts import uninterrupted

X = np.linspace(0.1, 0.9, 3)


def made_an_error_of():
    """As TensorFlow's conversions do: whatever is raised in them becomes a TypeError."""

    def f(x):
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            raise TypeError("Failed to convert elements to Tensor")  # noqa: B904
        return tf.reduce_sum(x)

    return f


def silenced():
    """As Keras does: the error that comes of it forgets where it comes from."""

    def f(x):
        try:
            made_an_error_of()(x)
        except Exception as error:
            raise ValueError(str(error)) from None
        return tf.reduce_sum(x)

    return f


def swallowed():
    def f(x):
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        return tf.reduce_sum(x)

    return f


CALLS = {
    "gradient": lambda f: fdfast.gradient(f, X),
    "estimate": lambda f: fdfast.estimate(f, X),
    "gradcheck": lambda f: fdfast.gradcheck(f, X),
    "directions": lambda f: fdfast.gradcheck(f, X, check="directions"),
    "directional": lambda f: fdfast.directional(f, X, X),
    "jacobian": lambda f: fdfast.jacobian(f, X),
    "hvp": lambda f: fdfast.hvp(f, X, X),
    "hessian": lambda f: fdfast.hessian(f, X),
    "pgd": lambda f: fdfast.attack.pgd(by_rows(f), X[None], [0], 0.1, steps=1),
    "masking": lambda f: fdfast.attack.masking(by_rows(f), X[None], [0], 0.1),
    "attack.estimate": lambda f: fdfast.attack.estimate(by_rows(f), X[None], [0]),
}


def by_rows(f):
    """Two scores for each row, as attacks want them of a callable."""
    return lambda rows: tf.stack(
        [tf.reduce_sum(tf.cast(rows, tf.float64), 1), tf.zeros(len(rows), tf.float64) + f(X)], 1
    )


@pytest.fixture(autouse=True)
def python_s_own_handler():
    known = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, known)


def test_without_that_it_would_come_out_as_something_else():
    with pytest.raises(TypeError, match="Failed to convert"):
        made_an_error_of()(tf.constant(X))


@pytest.mark.parametrize("lost", [made_an_error_of, silenced, swallowed])
@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_comes_out_as_itself(call, lost):
    with pytest.raises(KeyboardInterrupt):
        CALLS[call](lost())


def test_an_interrupt_by_another_signal_is_seen_by_its_trace():
    def f(x):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise TypeError("a conversion failed")  # noqa: B904 (as TensorFlow does)

    with pytest.raises(KeyboardInterrupt):
        fdfast.gradient(f, X)


def test_what_the_caller_is_handling_is_not_taken_for_it():
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        with pytest.raises(ValueError, match="h must be positive"):
            fdfast.gradient(swallowed(), X, -1.0)


def test_a_handler_of_the_caller_s_own_stays():
    seen = []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        fdfast.gradient(swallowed(), X)
        assert seen
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_what_is_put_back_is_put_back_first():
    done = []

    def put_back():
        with interruptible(), uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("put back")

    with pytest.raises(KeyboardInterrupt):
        put_back()
    assert done == ["put back"]


def test_another_thread_has_no_part_in_it():
    found = []
    thread = threading.Thread(target=lambda: found.append(fdfast.gradient(tf.reduce_sum, X)))
    thread.start()
    thread.join()
    np.testing.assert_allclose(found[0], 1.0, rtol=1e-9)  # rounding over the step


def test_variables_are_put_back_after_an_interrupt():
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    before = [v.numpy() for v in model.variables]

    def f(x):
        value = tf.reduce_sum(model(x[None], training=True))  # which moves the averages
        signal.raise_signal(signal.SIGINT)
        return value

    with pytest.raises(KeyboardInterrupt):
        fdfast.gradient(f, X.astype("float32"))
    for was, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(was, variable.numpy())


def test_an_interrupt_that_is_lost_comes_again():
    """In a conversion that goes on without what it could not convert, say."""
    seen = []

    def f(x):
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        started = time.monotonic()
        while time.monotonic() < started + 30:
            seen.append(1)
            time.sleep(0.01)
        return tf.reduce_sum(x)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fdfast.gradient(f, X)
    assert len(seen) > 1
    assert time.monotonic() - started < 5  # 0.2 s on a machine that has nothing else to do
    time.sleep(0.5)  # and when it is over nothing comes any more


LEAVING = """
    import threading, time
    import numpy as np
    from fdfast import _core
    from fdfast.functions import interruptible

    class Slow:
        def __del__(self):
            time.sleep(1)  # while Python takes itself down, and threads still run

    slow = Slow()
    numbers = np.ones(1_000_000)
    inside = threading.Event()

    def work():
        while True:
            inside.set()
            _core.dot(numbers, numbers, threads=1)

    def check():
        with interruptible():
            work()

    threading.Thread(target=TARGET, daemon=True).start()
    inside.wait()
    print("leaving", flush=True)
"""


def test_a_process_ends_though_a_thread_is_in_a_call():
    code = textwrap.dedent(LEAVING)
    ran = [
        subprocess.run(
            [sys.executable, "-c", code.replace("TARGET", target)], capture_output=True, text=True, timeout=90
        )
        for target in ("check", "work")
    ]
    assert [one.stdout for one in ran] == ["leaving\n"] * 2, ran[0].stderr
    assert ran[0].returncode == 0, ran[0].stderr
    # Outside of a public call nobody waits: if that is no abort any more, there is no need for it.
    assert ran[1].returncode != 0


class Scope:
    """A scope of the user's own, interrupted while it is entered and left."""

    def __init__(self):
        self.open = []

    def __enter__(self):
        self.open.append("open")
        signal.raise_signal(signal.SIGINT)

    def __exit__(self, *error):
        signal.raise_signal(signal.SIGINT)
        self.open.pop()


@pytest.mark.parametrize("call", CALLS)
def test_a_scope_is_entered_and_left_whole(call):
    scope = Scope()

    def f(x):
        with scope:
            y = tf.reduce_sum(x)
            deadline = time.perf_counter() + 5
            while time.perf_counter() < deadline:  # until it comes: at the latest here
                time.sleep(0.001)
            return y

    with pytest.raises(KeyboardInterrupt):
        CALLS[call](f)
    assert scope.open == []


def test_an_interrupt_on_its_way_out_is_not_overtaken_by_another():
    scope, finished = Scope(), []

    def f(x):
        try:
            with scope:
                deadline = time.perf_counter() + 5
                while time.perf_counter() < deadline:
                    time.sleep(0.001)
        finally:
            time.sleep(0.1)  # longer than for a scope, shorter than until one that was lost comes again
            finished.append(True)

    with pytest.raises(KeyboardInterrupt):
        fdfast.gradient(f, X)
    assert finished


class Ends:
    """Interrupted while it ends, where Python prints what is raised and goes on."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


class Entries(dict):
    """Interrupted while a weak reference ends that is a key of it."""

    def __delitem__(self, key):
        signal.raise_signal(signal.SIGINT)
        super().__delitem__(key)


def weakly():
    known = weakref.WeakKeyDictionary()
    known.data = Entries()
    known[Scope()] = None


@pytest.mark.parametrize("ends", [Ends, weakly])
def test_an_interrupt_is_not_lost_where_something_ends(ends, monkeypatch):
    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)

    def f(x):
        ends()
        deadline = time.perf_counter() + 5
        while time.perf_counter() < deadline:
            time.sleep(0.001)
        return tf.reduce_sum(x)

    with pytest.raises(KeyboardInterrupt):
        fdfast.gradient(f, X)
    assert lost == []


def keras_names():
    keras.name_scope("open").__enter__()


def keras_call():
    keras.layers.Dense(1)._get_call_context().training = True


def keras_state():
    keras.StatelessScope().__enter__()


def tensorflow_device():
    tf.device("CPU:0").__enter__()


def scopes():
    known = vars(keras.src.backend.common.global_state.GLOBAL_STATE_TRACKER)
    lists = {name: [*v] if isinstance(v, list) else v for name, v in known.items() if name != "object_name_uids"}
    return lists, context.executing_eagerly(), context.context().scope_name, context.context().device_name


@pytest.mark.parametrize("opened", [keras_names, keras_call, keras_state, tensorflow_device])
def test_a_scope_left_open_by_an_interrupt_is_closed(opened):
    keras.layers.Dense(1)(tf.zeros((1, 1)))  # Keras makes its entries when it first needs them
    before = scopes()

    def f(x):
        opened()
        assert scopes() != before
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fdfast.gradient(f, X)
    assert scopes() == before
