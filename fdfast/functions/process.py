"""Whether f can be called here at all: TensorFlow neither survives a fork nor runs in a graph that is being built."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf
from tensorflow.python.eager import context

_THREADS = Path("/proc/self/task")
#: Process in which TensorFlow was found to be whole; 0 before that.
_whole = 0


def check_process() -> None:
    """Raise RuntimeError where nothing has a value: while a graph is built, or in a child of a fork (`check_fork`)."""
    check_fork()
    if not tf.executing_eagerly():
        raise RuntimeError(
            "fdfast cannot be called while a graph is built (inside tf.function, Dataset.map, a Keras layer's call or "
            "tf.Graph): x has no values there. Call it outside, or by tf.numpy_function, which runs it with values"
        )


def check_scope() -> None:
    """Raise RuntimeError inside the scope of a distribution strategy, where TensorFlow keeps variables out of reach."""
    if tf.distribute.has_strategy():
        name = type(tf.distribute.get_strategy()).__name__
        raise RuntimeError(
            f"weights cannot be checked inside the scope of a {name}, where TensorFlow does not give them away: call "
            "fdfast after the `with strategy.scope():` block; the model may have been made in it"
        )


def check_fork() -> None:
    """Raise RuntimeError in a process that was forked from one in which TensorFlow ran: there a call would hang."""
    global _whole
    if _whole != os.getpid():
        if _started() and (_whole or not _has_threads()):
            raise RuntimeError(
                "this process was forked from one in which TensorFlow had run, and TensorFlow does not survive that: "
                "its threads are gone, and a call would hang. Start processes by "
                "multiprocessing.get_context('spawn') or 'forkserver', or fork before TensorFlow is used"
            )
        _whole = os.getpid()


def _started() -> bool:
    """Whether TensorFlow has threads, or had them."""
    known = context.context_safe()
    return known is not None and bool(known._initialized)


def _has_threads() -> bool:
    """Whether those threads are there; True where the system does not tell."""
    if not _THREADS.is_dir():
        return True
    names = []
    for one in _THREADS.glob("*/comm"):
        try:
            names.append(one.read_text())
        except OSError:  # it has ended
            continue
    return any(name.startswith("tf_") for name in names)
