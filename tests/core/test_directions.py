"""The compiled directions, `_core.draw` and `_core.dot`, against plain Python: whole numbers and fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdfast import _core

WORD = (1 << 64) - 1


def mix(z: int) -> int:
    """SplitMix64's, in Python's whole numbers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def expected(g: np.ndarray, low: float, unit: float, seed: int, first: int) -> np.ndarray:
    v = np.empty(len(g))
    for i, one in enumerate(g):
        bits = mix((mix(seed) + ((first + i) & WORD) * 0x9E3779B97F4A7C15) & WORD)
        u = 0.5 + (bits >> 11) * 2.0**-54
        v[i] = (1 if bits & 1 else -1) * (u * unit / max(abs(one), low))
    return v


def draw(g: Any, low: float = 1e-3, unit: float = 0.5, seed: int = 5, first: int = 0, threads: int = 2) -> np.ndarray:
    v = np.empty(len(g))
    _core.draw(np.asarray(g, float), v, low=low, unit=unit, seed=seed, first=first, threads=threads)
    return v


@given(
    st.lists(st.floats(-1e300, 1e300), max_size=40),
    st.floats(1e-300, 1e300),
    st.floats(1e-3, 1e3),
    st.integers(0, WORD),
    st.integers(0, WORD),
)
def test_a_direction_is_the_oracle_s_bit_for_bit(g, low, unit, seed, first):
    with np.errstate(over="ignore"):
        assert draw(g, low, unit, seed, first).tolist() == expected(np.array(g), low, unit, seed, first).tolist()


def test_signs_and_amplitudes_are_uniform_and_do_not_depend_on_each_other():
    n = 200_000
    v = draw(np.ones(n), unit=1.0)
    u, s = np.abs(v), np.sign(v)
    assert (u >= 0.5).all()
    assert (u <= 1).all()
    # Means and products within five standard deviations: chance 6e-7 each.
    assert abs(s.mean()) < 5 / n**0.5
    assert abs(u.mean() - 0.75) < 5 * (0.5 / 12**0.5) / n**0.5
    for one in (s * (u - 0.75), s[1:] * s[:-1], (u[1:] - 0.75) * (u[:-1] - 0.75)):
        assert abs(one.mean()) < 5 * one.std() / n**0.5
    # All 52 bits of the amplitudes move: none is constant.
    bits, all_of_them = ((u - 0.5) * 2.0**53).astype(np.uint64), np.uint64((1 << 52) - 1)
    assert np.bitwise_or.reduce(bits) == np.bitwise_or.reduce(~bits & all_of_them) == all_of_them


def test_seeds_beside_each_other_give_directions_that_have_nothing_in_common():
    n = 20_000
    drawn = np.array([draw(np.ones(n), seed=seed) for seed in (*range(6), 1_000_003, 1 << 40)])
    correlation = np.corrcoef(drawn) - np.eye(len(drawn))
    assert np.abs(correlation).max() < 5 / n**0.5


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of many sizes, and such as cancel; no product comes near the ends of the exponents."""
    n = draw(st.integers(0, 30))
    number = st.floats(-1e100, 1e100).filter(lambda x: x == 0 or abs(x) > 1e-50)
    a, b = (draw(st.lists(number, min_size=n, max_size=n)) for _ in range(2))
    if draw(st.booleans()):
        a, b = a + a[::-1], b + [-one * (1 + 2.0**-40) for one in b[::-1]]
    order = draw(st.permutations(range(len(a))))
    return np.array(a, float)[list(order)], np.array(b, float)[list(order)]


@given(pairs())
def test_a_dot_product_is_rounded_once(pair):
    a, b = pair
    exact = [Fraction(x) * Fraction(y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    found = Fraction(_core.dot(a, b, threads=1))
    # Half a unit of the result, and of what is left out n units of 2^-106 of what is added up (Ogita et al., 2005).
    allowed = abs(sum(exact)) / 2**52 + (len(a) + 4) ** 2 * sum(map(abs, exact), Fraction(0)) / 2**106
    assert abs(found - sum(exact)) <= allowed


def test_a_long_dot_product_is_right_where_numpy_s_is_not():
    rng = np.random.default_rng(0)
    a = rng.normal(size=100_000) * 10.0 ** rng.integers(-8, 8, 100_000)
    b = rng.normal(size=100_000)
    b[-1] = -float(sum((Fraction(x) * Fraction(y) for x, y in zip(a[:-1], b[:-1], strict=True)), Fraction(0))) / a[-1]
    exact = float(sum((Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True)), Fraction(0)))
    size = np.abs(a * b).sum()
    for threads in (1, 2, 5):
        # 2^-106 of what is added up, times a few hundred for some thousand sums; half a unit of the result.
        assert abs(_core.dot(a, b, threads=threads) - exact) <= 2.0**-53 * abs(exact) + 2.0**-97 * size
    assert abs(float(a @ b) - exact) > 2.0**-60 * size  # the control


def array(kind: str) -> np.ndarray:
    """An argument that does not fit."""
    if kind == "read-only":
        v = np.ones(4)
        v.flags.writeable = False
        return v
    made = {"float32": np.ones(4, np.float32), "two axes": np.ones((2, 2)), "strided": np.ones(8)[::2]}
    return made.get(kind, np.ones(3))


V = {"low": 1.0, "unit": 1.0, "seed": 0, "threads": 1}
# What is called, and what the message says
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "g in float32": (lambda: _core.draw(array("float32"), np.ones(4), **V), TypeError, "g must be float64"),
    "g of two axes": (lambda: _core.draw(array("two axes"), np.ones(4), **V), ValueError, "g must have 1 axes"),
    "g strided": (lambda: _core.draw(array("strided"), np.ones(4), **V), ValueError, "g must be C-contiguous"),
    "g a list": (lambda: _core.draw([1.0], np.ones(1), **V), TypeError, "incompatible function arguments"),
    "v in float32": (lambda: _core.draw(np.ones(4), array("float32"), **V), TypeError, "v must be float64"),
    "v strided": (lambda: _core.draw(np.ones(4), array("strided"), **V), ValueError, "v must be C-contiguous"),
    "v read-only": (lambda: _core.draw(np.ones(4), array("read-only"), **V), ValueError, "v must be writable"),
    "v too short": (lambda: _core.draw(np.ones(4), array("short"), **V), ValueError, "v has 3 elements.*g, 4"),
    "low zero": (lambda: _core.draw(np.ones(4), np.ones(4), **V | {"low": 0.0}), ValueError, "low must be positive"),
    "low NaN": (lambda: _core.draw(np.ones(4), np.ones(4), **V | {"low": np.nan}), ValueError, "low must be positive"),
    "seed negative": (lambda: _core.draw(np.ones(4), np.ones(4), **V | {"seed": -1}), TypeError, "incompatible"),
    "a in float32": (lambda: _core.dot(array("float32"), np.ones(4), threads=1), TypeError, "a must be float64"),
    "b of two axes": (lambda: _core.dot(np.ones(4), array("two axes"), threads=1), ValueError, "b must have 1 axes"),
    "b strided": (lambda: _core.dot(np.ones(4), array("strided"), threads=1), ValueError, "b must be C-contiguous"),
    "no thread": (
        lambda: _core.draw(np.ones(4), np.ones(4), **V | {"threads": 0}),
        ValueError,
        "at least 1 and at most",
    ),
    "threads by overflow": (
        lambda: _core.dot(np.ones(4), np.ones(4), threads=-(2**31)),
        ValueError,
        "threads must be at",
    ),
    "a million threads": (
        lambda: _core.dot(np.ones(4), np.ones(4), threads=10**6),
        ValueError,
        "at most 4096, got 100000",
    ),
    "b too short": (lambda: _core.dot(np.ones(4), array("short"), threads=1), ValueError, "a has 4 elements, b has 3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    call, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        call()


def test_a_direction_is_not_drawn_over_its_gradient():
    g = np.ones(6)
    with pytest.raises(ValueError, match="v shares memory with g"):
        _core.draw(g[:4], g[2:], **V)
    assert g.tolist() == [1.0] * 6


def test_no_elements():
    assert _core.dot(np.empty(0), np.empty(0), threads=3) == 0.0
    assert draw([]).size == 0
