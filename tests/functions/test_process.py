"""Where f cannot be called at all: in the child of a fork, in a graph that is being built, in a strategy's scope."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

import fdfast

X = np.linspace(0.1, 0.9, 3)


def square(x):
    return tf.reduce_sum(x**2)


def small():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(loss="mse")
    return model


CALLS = {
    "gradient": lambda x: fdfast.gradient(square, x),
    "estimate": lambda x: fdfast.estimate(square, x).value[0],
    "gradcheck": lambda x: fdfast.gradcheck(square, x).numeric,
    "directional": lambda x: np.full(3, fdfast.directional(square, x, np.ones(3)).value),
    "jacobian": lambda x: fdfast.jacobian(square, x),
    "a point of its own": lambda x: fdfast.gradient(square, X),
    "a model": lambda x: fdfast.gradient(small(), X, y=np.ones(2)),
}


@pytest.mark.parametrize("call", CALLS)
def test_inside_a_graph_it_is_said(call):
    words = "fdfast cannot be called while a graph is built"
    with pytest.raises(RuntimeError, match=words):
        tf.function(CALLS[call], autograph=False)(tf.constant(X))
    with pytest.raises(RuntimeError, match=words):
        tf.data.Dataset.from_tensors(X).map(CALLS[call])
    with tf.Graph().as_default(), pytest.raises(RuntimeError, match=words):
        CALLS[call](X)


def test_inside_a_graph_the_remedy_works():
    @tf.function
    def slope(x):
        return tf.numpy_function(lambda x: fdfast.gradient(square, x), [x], tf.float64)

    np.testing.assert_allclose(slope(tf.constant(X)).numpy(), 2 * X, rtol=1e-9)  # h^2, and rounding over the step


@pytest.mark.parametrize("options", [{"wrt": "weights"}, {"wrt": "weights", "check": "directions"}, {"wrt": "all"}])
def test_weights_in_the_scope_of_a_strategy(options):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = small()
        with pytest.raises(RuntimeError, match="weights cannot be checked inside the scope of a MirroredStrategy"):
            fdfast.gradcheck(model, X[None], np.ones((1, 2)), **options)
        assert fdfast.gradcheck(model, X[None], np.ones((1, 2)))
    assert fdfast.gradcheck(model, X[None], np.ones((1, 2)), **options)


FORK = """
    import os, sys
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import numpy as np

    def used():
        import tensorflow as tf
        tf.constant(1.0) + 1

    def used_by_fdfast():
        import fdfast, tensorflow as tf
        fdfast.gradient(lambda x: tf.reduce_sum(x**2), np.ones(3), engine=engine)

    def loaded():
        import tensorflow

    how, engine = sys.argv[1:]
    globals()[how]()
    read, write = os.pipe()
    if not os.fork():
        try:
            import fdfast, tensorflow as tf
            images, _ = fdfast.datasets.mnist_sample(1)  # needs no TensorFlow
            assert images.shape == (1, 28, 28, 1)
            said = "found " + str(fdfast.gradient(lambda x: tf.reduce_sum(x**2), np.ones(3), engine=engine))
        except RuntimeError as error:
            said = str(error)
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        print(pipe.read())
"""


@pytest.mark.parametrize(
    ("how", "engine", "words"),
    [
        ("used", "batch", "this process was forked from one in which TensorFlow had run"),
        ("used_by_fdfast", "batch", "get_context('spawn') or 'forkserver', or fork before TensorFlow is used"),
        ("used_by_fdfast", "tape", "this process was forked from one in which TensorFlow had run"),
        ("loaded", "batch", "found [2. 2. 2.]"),
    ],
)
def test_a_child_of_a_fork_says_what_it_is(how, engine, words):
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK), how, engine], capture_output=True, text=True, timeout=60
    )
    assert words in ran.stdout, ran.stderr


def test_processes_that_start_anew_work():
    code = textwrap.dedent("""
        import os
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        import multiprocessing, numpy as np, fdfast, tensorflow as tf

        def slope(x):
            return fdfast.gradient(lambda x: tf.reduce_sum(x**2), x)

        if __name__ == "__main__":
            slope(np.ones(3))
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.apply(slope, (np.ones(3),)))
    """)
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "spawned.py"
        script.write_text(code)
        ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert "[2. 2. 2.]" in ran.stdout, ran.stderr
