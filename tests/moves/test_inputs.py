"""What is taken for x, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fdfast.moves.inputs import as_floats, as_points, grain

NAN = np.array([[1.0, 2.0], [np.nan, np.inf]])

# x, exception, message
REFUSALS: list[tuple[Any, type[Exception], str]] = [
    (
        np.zeros(3, np.uint8),
        TypeError,
        "x has dtype uint8: integers cannot move by a small step. "
        "Pass floats: x.astype('float32'), for 8-bit images divided by 255, unless f does that itself",
    ),
    ([1, 2], TypeError, "x has dtype int64"),
    (3, TypeError, "x has dtype int64"),
    (np.array([True]), TypeError, "x has dtype bool"),
    (np.zeros(2, np.complex64), TypeError, "x is complex; pass real and imaginary parts as an extra axis"),
    (np.array([1.0, None]), TypeError, "x must be an array of floats, got dtype object"),
    ("digit", TypeError, "x must be an array of floats, got dtype <U5"),
    (None, TypeError, "x must be an array of floats, got dtype object"),
    (np.zeros(2, "M8[s]"), TypeError, "x must be an array of floats"),
    (np.zeros(2, np.longdouble), TypeError, "float64 is the widest supported: pass x.astype('float64')"),
    ([], ValueError, "x is empty, shape (0,): there is nothing to differentiate"),
    (np.zeros((2, 0), np.float32), ValueError, "x is empty, shape (2, 0)"),
    (NAN, ValueError, "x[1, 0] is nan; x must be finite (2 entries are not)"),
    (-NAN[1, 1], ValueError, "x[] is -inf; x must be finite (1 entries are not)"),
    (np.array([1, np.inf], np.float16), ValueError, "x[1] is inf"),
    (np.array([1, np.nan], ml_dtypes.bfloat16), ValueError, "x[1] is nan"),
]


@pytest.mark.parametrize(("x", "error", "message"), REFUSALS)
def test_refusals(x: Any, error: type[Exception], message: str) -> None:
    before = np.array(x).tobytes()
    with pytest.raises(error, match=re.escape(message)):
        as_floats(x)
    assert np.array(x).tobytes() == before


def test_refusal_names_the_argument() -> None:
    with pytest.raises(TypeError, match=r"analytic has dtype int64.*analytic\.astype"):
        as_floats([1], "analytic")


RAMP = np.linspace(-1, 1, 12).reshape(3, 4)

# x, dtype of the result
TAKEN: list[tuple[str, Any, Any]] = [
    ("list", RAMP.tolist(), np.float64),
    ("scalar", 0.5, np.float64),
    ("float32", RAMP.astype(np.float32), np.float32),
    ("float64", RAMP, np.float64),
    ("float16", RAMP.astype(np.float16), np.float32),
    ("bfloat16", RAMP.astype(ml_dtypes.bfloat16), np.float32),
    ("big endian", RAMP.astype(">f4"), np.float32),
    ("big endian 8", RAMP.astype(">f8"), np.float64),
    ("big endian 2", RAMP.astype(">f2"), np.float32),
    ("transposed", RAMP.T, np.float64),
    ("strided", RAMP[::-2, ::3], np.float64),
    ("broadcast", np.broadcast_to(np.float32(0.5), (2, 3)), np.float32),
    ("fortran", np.asfortranarray(RAMP), np.float64),
]


@pytest.mark.parametrize(("x", "dtype"), [t[1:] for t in TAKEN], ids=[t[0] for t in TAKEN])
def test_taken(x: Any, dtype: Any) -> None:
    if isinstance(x, np.ndarray):
        x = x.view()
        x.flags.writeable = False
        before = x.copy()
    floats = as_floats(x)
    assert floats.dtype == dtype
    assert floats.dtype.isnative
    np.testing.assert_array_equal(floats, np.asarray(x).astype(np.float64))
    points = as_points(floats, floats.shape, np.dtype(np.float64))
    assert points.shape == (1, floats.size)
    assert points.flags.c_contiguous
    np.testing.assert_array_equal(points[0], np.asarray(x).astype(np.float64).ravel())
    if isinstance(x, np.ndarray):
        np.testing.assert_array_equal(x, before)


def test_points_are_rows_of_examples() -> None:
    batch = np.arange(24.0).reshape(2, 3, 4).transpose(0, 2, 1)
    points = as_points(batch, (4, 3), np.dtype(np.float32))
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, [batch[0].ravel(), batch[1].ravel()])


BYTES = np.random.default_rng(0).integers(0, 256, 784)

# x, width
GRAINS: list[tuple[str, Any, float]] = [
    ("8 bit as [0, 1]", BYTES / 255, 1 / 255),
    ("8 bit as [0, 1], float32", (BYTES / 255).astype(np.float32), 1 / 255),
    ("8 bit as [0, 255]", BYTES.astype(np.float32), 1.0),
    ("black and white", np.array([0.0, 1.0]), 1 / 255),
    ("grey and black in bytes", np.array([0.0, 2.0]), 1.0),
    ("not quantised", np.array([0.1, 0.9, 0.12345]), 0.9e-3),
    ("halves of bytes", np.array([0.0, 2.5]), 2.5e-3),
    ("centred", np.array([-1.0, 1.0]), 1e-3),
    ("large", np.array([-1000.0, 10.0]), 1.0),
    ("small", np.array([0.0, 1e-6]), 1e-9),
    ("dim", np.array([0.0, 10 / 255]), 10 / 255 * 1e-3),
    ("all zero", np.zeros(4), 1e-3),
]


@pytest.mark.parametrize(("x", "width"), [g[1:] for g in GRAINS], ids=[g[0] for g in GRAINS])
def test_grain(x: Any, width: float) -> None:
    # float32 holds 0.9 to 2^-24.
    assert grain(x) == pytest.approx(width, rel=1e-6)
