"""Functions over rows: traced forms that are kept while they live, and the small parts of it."""

from __future__ import annotations

import functools
import gc
import logging
import types
import weakref

import numpy as np
import pytest
import tensorflow as tf

import fdfast
from fdfast.functions import over_rows as functions
from fdfast.functions.over_rows import (
    Mapped,
    Unmapped,
    agreement,
    as_array,
    dense,
    known,
    remember,
    rows_at_once,
    same_values,
)


def test_a_function_keeps_a_limited_number_of_forms():
    def f(x):
        return x

    for i in range(2 * functions._KEPT):
        remember(f, i, lambda target: types.SimpleNamespace() and _mapped(target))
    assert len(functions._known[f][1]) == functions._KEPT
    assert known(f, 0) is None
    assert isinstance(known(f, 2 * functions._KEPT - 1), Mapped)


@functools.cache
def _identity():
    return Mapped(lambda: tf.identity, tf.TensorSpec([], tf.float32), [], 2)


def _mapped(target):
    return _identity()


def test_a_failure_is_remembered_without_its_frames():
    def f(x):
        raise RuntimeError("no")

    def make(target):
        return Mapped(lambda: target(), tf.TensorSpec([], tf.float32), [], 2)

    with pytest.raises(Unmapped, match=r"TensorFlow cannot trace it \(no\)"):
        remember(f, 1, make)
    assert isinstance(known(f, 1), Unmapped)
    gone = weakref.ref(f)
    del f
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("row_bytes", "rows", "wanted"),
    [(4, 10, 10), (4, 10_000, 3334), (3136, 1569, 121), (1 << 40, 10, 2), (1 << 21, 1000, 125), (8, 0, 1)],
)
def test_rows_at_once(row_bytes, rows, wanted):
    assert rows_at_once(row_bytes, rows) == wanted


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (np.float64(1), np.float64(1 + 1e-7), True),  # float32 inside
        (np.float64(1), np.float64(1 + 1e-4), False),
        (np.float32([1, 1e-9]), np.float32([1, 2e-9]), True),  # against the largest
        (np.float32([np.nan, 1]), np.float32([np.nan, 1]), True),
        (np.float32([np.inf, 1]), np.float32([-np.inf, 1]), False),
        (np.float32([np.nan, 1]), np.float32([1, 1]), False),
        (np.float16([1]), np.float16([1.5]), False),
        (np.float32([1]), np.float64([1]), False),
        (np.float32([1]), np.float32([[1]]), False),
        (np.float32([]), np.float32([]), True),
        (np.complex64([1j]), np.complex64([1j]), True),
        (np.complex64([1j]), np.complex64([1]), False),
    ],
)
def test_same_values(a, b, same):
    assert same_values(a, b) == same


def test_agreement_is_on_the_scale_of_what_was_added_up():
    assert agreement(np.array([1e-6]), np.array([0.0]), 1.0, np.float32)
    assert not agreement(np.array([1e-6]), np.array([0.0]), 1e-3, np.float32)


def test_slices_of_a_sparse_gradient_are_put_into_place():
    slices = tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), tf.constant([2, 0, 2]), (4, 2))
    np.testing.assert_array_equal(dense(slices), [[3, 4], [0, 0], [6, 8], [0, 0]])
    np.testing.assert_array_equal(as_array(slices), [[3, 4], [0, 0], [6, 8], [0, 0]])
    np.testing.assert_array_equal(as_array([1, 2]), [1, 2])


def test_what_tensorflow_cannot_batch_is_told_in_a_note_and_not_in_its_log():
    records = []

    class Kept(logging.Handler):
        def emit(self, record):
            records.append(record.getMessage())

    @tf.function
    def branching(x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.reduce_sum(x**2), lambda: tf.reduce_sum(x))

    kept = Kept()
    tf.get_logger().addHandler(kept)
    try:
        report = fdfast.gradcheck(branching, np.ones(3))
    finally:
        tf.get_logger().removeHandler(kept)
    assert report.verdict == "pass"
    assert not [said for said in records if "pfor" in said]
