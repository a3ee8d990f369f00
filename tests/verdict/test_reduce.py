"""`error_metrics` and `median`, compiled and as plain Python, against formulas on whole NumPy arrays."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fdfast.verdict import reduce

EDGES = np.linspace(-16.0, 4.0, 41)
FIGURES = ["max_abs", "median_rel", "mean_rel", "geomean_rel", "max_rel", "cs231n"]
NAMES = [*FIGURES, "n", "n_zero", "n_nan", "n_rel", "histogram"]
# A sum of a few hundred terms in another order than NumPy's, and powers of ten of a mean logarithm up to 324:
# 324 log(10) 2^-53 is 8e-14.
RTOL = 1e-12
FORMS = {"compiled": reduce.error_metrics, "python": reduce.error_metrics.py_func}  # type: ignore[attr-defined]
MEDIANS = {"compiled": reduce.median, "python": reduce.median.py_func}  # type: ignore[attr-defined]


@np.errstate(all="ignore")
def oracle(fd: Any, ad: Any, edges: Any) -> dict[str, Any]:
    """The definitions, one line each."""
    finite = np.isfinite(fd) & np.isfinite(ad)
    a, b = np.asarray(fd, np.longdouble)[finite], np.asarray(ad, np.longdouble)[finite]
    rel = (np.abs(a - b)[b != 0] / np.abs(b[b != 0])).astype(np.float64)
    positive = np.log10(rel[rel > 0])
    inside = np.clip(positive, edges[0], edges[-1])
    pick = lambda f, v: float(f(v)) if v.size else math.nan  # noqa: E731
    return {
        "max_abs": pick(np.max, np.abs(a - b).astype(np.float64)),
        "median_rel": pick(lambda v: np.mean(np.sort(v)[[(v.size - 1) // 2, v.size // 2]]), rel),
        "mean_rel": pick(np.mean, rel),
        "geomean_rel": pick(lambda v: np.float64(10) ** np.mean(v), positive),
        "max_rel": pick(np.max, rel),
        "cs231n": pick(np.max, np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b))),
        "n": fd.size,
        "n_zero": int(np.sum(b == 0)),
        "n_nan": int(np.sum(~finite)),
        "n_rel": rel.size,
        "histogram": np.histogram(inside, edges)[0],
    }


def check(form: str, fd: Any, ad: Any, edges: Any = EDGES) -> dict[str, Any]:
    got = dict(zip(NAMES, FORMS[form](fd, ad, edges), strict=True))
    want = oracle(fd, ad, edges)
    for name in FIGURES:
        # atol: half of an odd denormal is rounded, then divided by 1e-8.
        np.testing.assert_allclose(got[name], want[name], rtol=RTOL, atol=1e-315, err_msg=name)
    assert [got[name] for name in NAMES[6:10]] == [want[name] for name in NAMES[6:10]]
    assert got["n"] == got["n_zero"] + got["n_nan"] + got["n_rel"]
    assert got["histogram"].sum() == want["histogram"].sum()
    # A logarithm within rounding of an edge may fall either side: at most a few counts move by one bin.
    assert np.abs(np.cumsum(got["histogram"]) - np.cumsum(want["histogram"])).max(initial=0) <= 1
    return got


@st.composite
def gradients(draw: st.DrawFn) -> tuple[Any, Any]:
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    width = np.dtype(dtype).itemsize * 8
    n = draw(st.integers(0, 40))
    # Above 1e300 the float64 intermediate results overflow, which the table below covers.
    bound = float(np.float32(1e38)) if width == 32 else 1e150
    plain = st.floats(-bound, bound, width=width)  # denormals included
    special = st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, float(np.finfo(dtype).tiny) / 2])
    elements = st.one_of(plain, special)
    fd = draw(hnp.arrays(dtype, n, elements=elements))
    ad = draw(hnp.arrays(dtype, n, elements=elements))
    same = draw(hnp.arrays(np.bool_, n))
    return np.where(same, ad, fd).astype(dtype), ad


@pytest.mark.parametrize("form", FORMS)
def test_agrees_with_the_definitions_on_any_input(form: str) -> None:
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(gradients())
    @example((np.zeros(0), np.zeros(0)))
    @example((np.full(3, math.nan), np.zeros(3)))
    def run(pair: tuple[Any, Any]) -> None:
        check(form, *pair)

    run()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_the_definitions_on_a_gradient(form: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    ad = (rng.normal(size=784) * 10.0 ** rng.uniform(-8, 0, 784)).astype(dtype)
    ad[::7] = 0
    fd = (ad * (1 + 10.0 ** rng.uniform(-12, 1, 784))).astype(dtype)
    fd[3] = math.nan
    check(form, fd, ad)


NAN = math.nan
BIG = 1.7e308
TABLE: list[tuple[str, list[float], list[float], dict[str, float]]] = [
    ("nothing", [], [], dict.fromkeys(FIGURES, NAN) | {"n": 0}),
    ("exact", [1, -2], [1, -2], {"max_rel": 0, "median_rel": 0, "geomean_rel": NAN, "cs231n": 0, "n_rel": 2}),
    ("only zeros", [0.5, 0], [0, 0], {"max_abs": 0.5, "max_rel": NAN, "cs231n": 1, "n_zero": 2, "n_rel": 0}),
    ("zeros count in median and mean, not in the geometric mean", [1, 1, 1.5, 3], [1, 1, 1, 1],
     {"median_rel": 0.25, "mean_rel": 0.625, "geomean_rel": 1.0, "max_rel": 2}),
    ("no finite pair", [NAN, 1, math.inf], [0, NAN, 0], {"max_abs": NAN, "n_nan": 3, "n_zero": 0}),
    ("NaN hides nothing behind it", [NAN, 2, math.inf, 1], [1, 1, 1, 1], {"max_rel": 1, "n_nan": 2}),
    ("negative zero is zero", [1], [-0.0], {"n_zero": 1}),
    ("the floor of CS231n", [1e-9], [0], {"cs231n": 0.1}),
    ("sum beyond the greatest float", [BIG], [-BIG], {"cs231n": 1, "max_abs": math.inf, "n_nan": 0}),
    ("quotient beyond the greatest float", [1], [5e-324], {"max_rel": math.inf, "geomean_rel": math.inf}),
    ("greatest quotient that is a float", [BIG], [1], {"max_rel": BIG, "geomean_rel": BIG}),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("fd", "ad", "want"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_by_hand(form: str, fd: list[float], ad: list[float], want: dict[str, float]) -> None:
    got = dict(zip(NAMES, FORMS[form](np.array(fd, float), np.array(ad, float), EDGES), strict=True))
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=RTOL, err_msg=name)


@pytest.mark.parametrize("form", FORMS)
def test_histogram_counts_all_and_puts_the_rest_into_the_end_bins(form: str) -> None:
    rel = np.array([1e-30, 0.5, 5.0, 50.0, 1e30, 0.0])
    counts = FORMS[form](1.0 + 0 * rel, np.ones_like(rel), np.array([0.0, 1.0]))[-1]
    assert counts.tolist() == [0]  # all exact: none has a logarithm
    # ad = 1/(1 + rel) would round; fd - ad = rel exactly needs ad small: a power of two away.
    ad = np.full(6, 2.0**-200)
    counts = FORMS[form](ad + rel * ad, ad, np.array([-2.0, 0.0, 1.0, 2.0]))[-1]
    assert counts.tolist() == [1, 1, 2]  # 1e-30 is lost in ad + rel ad, and so exact
    for few in (np.zeros(0), np.zeros(1)):
        assert FORMS[form](ad + rel * ad, ad, few)[-1].size == 0


@pytest.mark.parametrize("form", FORMS)
def test_arguments_stay_as_they_were(form: str) -> None:
    fd, ad = np.array([3.0, math.nan, 1.0, 2.0]), np.array([1.0, 1.0, 0.0, 4.0])
    before = fd.copy(), ad.copy(), EDGES.copy()
    FORMS[form](fd, ad, EDGES)
    for now, then in zip((fd, ad, EDGES), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("form", MEDIANS)
@pytest.mark.parametrize(
    ("values", "want"),
    [
        ([], NAN),
        ([3.0], 3.0),
        ([4.0, 1.0], 2.5),
        ([9.0, 1.0, 5.0], 5.0),
        ([1.0, math.inf], math.inf),
        ([0.0] * 6, 0.0),
    ],
)
def test_median(form: str, values: list[float], want: float) -> None:
    np.testing.assert_equal(MEDIANS[form](np.array(values, float)), want)


@pytest.mark.parametrize("form", MEDIANS)
@pytest.mark.parametrize("order", ["random", "ascending", "descending", "few values", "organ pipe"])
def test_median_in_any_order(form: str, order: str) -> None:
    for n in range(1, 60):
        v = np.random.default_rng(n).random(n)
        v = {
            "random": v,
            "ascending": np.sort(v),
            "descending": np.sort(v)[::-1].copy(),
            "few values": np.floor(3 * v),
            "organ pipe": np.concatenate([np.sort(v)[::2], np.sort(v)[1::2][::-1]]),
        }[order]
        before = v.copy()
        assert MEDIANS[form](v) == np.median(v)
        np.testing.assert_array_equal(v, before)


def test_one_compilation_per_dtype() -> None:
    for dtype in (np.float32, np.float64):
        reduce.error_metrics(np.ones(3, dtype), np.ones(3, dtype), EDGES)
    before = len(reduce.error_metrics.signatures)  # type: ignore[attr-defined]
    for dtype in (np.float32, np.float64):
        reduce.error_metrics(np.zeros(5, dtype), np.ones(5, dtype), EDGES[:4])
    assert len(reduce.error_metrics.signatures) == before  # type: ignore[attr-defined]


def test_a_second_process_loads_the_compiled_code(tmp_path: Path) -> None:
    program = (
        "import numpy as np; from fdfast.verdict.reduce import error_metrics as f\n"
        "f(np.ones(3), np.ones(3), np.zeros(2)); s = f.stats\n"
        "print(sum(s.cache_hits.values()), sum(s.cache_misses.values()))"
    )
    # The paths of this process, so that the same build of the package is found.
    paths = os.pathsep.join(filter(None, sys.path))
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": paths}
    command = [sys.executable, "-c", program]
    runs = [
        subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True) for _ in range(2)
    ]
    assert [run.stdout.split() for run in runs] == [["0", "1"], ["1", "0"]]


def test_fastmath_is_off_and_the_lock_is_released() -> None:
    for function in (reduce.error_metrics, reduce.median):
        options = function.targetoptions  # type: ignore[attr-defined]
        assert options["nogil"]
        assert not options.get("fastmath", False)
