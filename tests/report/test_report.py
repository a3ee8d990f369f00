"""The report: verdict, counts, worst tiles, one example of many, and its text and JSON, letter by letter."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import numpy as np
import pytest

from fdfast.report.panels import CLASS_COLOURS
from fdfast.report.part import LEFT_OUT, MAPS, Part
from fdfast.report.plain import times
from fdfast.report.report import Report, WeightReport
from fdfast.report.text import render

NAN, INF = float("nan"), float("inf")
AGREE, WRONG, KINK, OPEN, SINGULAR = range(5)
CLASSES = ("agree", "wrong", "kink", "unresolved", "singular")


def make(codes, batched=False, **changes):
    """A report of tiles two pixels wide; derivative k + 1 on tile k, autodiff off by one part in 2^(20 - k)."""
    codes = np.array(codes, np.int8)
    numeric = np.arange(1.0, codes.size + 1).reshape(codes.shape)
    analytic = numeric * (1 + 2.0 ** (np.arange(codes.size).reshape(codes.shape) - 20))
    grid = codes.shape[1:] if batched else codes.shape
    shape = tuple(2 * n for n in grid)
    values = {
        "numeric": numeric,
        "analytic": analytic,
        "error_bar": np.full(codes.shape, 1e-6),
        "right": numeric + 0.5,
        "left": numeric - 0.5,
        "codes": codes,
        "near": np.zeros(codes.shape, bool),
        "checked_numeric": numeric,
        "checked_analytic": analytic,
        "checked_error": np.full(codes.shape, 1e-6),
        "seen_from": np.full(codes.shape, 2e-4),
        "x": np.zeros((*codes.shape[: int(batched)], *shape), np.float32),
        "shape": shape,
        "tile": (2,) * len(grid),
        "grid": grid,
        "coverage_asked": 0.75,
        "reasons": [
            "A reason that takes two lines, because it goes on and on, about nothing at all, until the first line "
            "is full."
        ],
        "engine": "batch",
        "dtype": "float64",
        "step": 2.0**-17,
        "evaluations": 34,
        "refined": 4,
        "noise": 1.5e-17,
        "timings": {"differences": 0.5, "total": 1.25},
        "settings": {"rtol": 1e-4, "atol": "auto", "h": "auto", "bounds": None},
        "label": "model",
        "batched": batched,
    }
    values |= changes
    part = {name: values.pop(name) for name in (*MAPS, "seen_from", "x", "shape", "tile", "grid", "batched")}
    part = Part(name="x", kind="input", engine=values["engine"], **part)
    return Report(parts=[part], examples=len(codes) if batched else 1, **values)


@pytest.mark.parametrize(
    ("codes", "changes", "verdict"),
    [
        ([AGREE] * 4, {}, "pass"),
        ([AGREE, AGREE, AGREE, KINK], {}, "pass"),  # 75 % is what was asked for
        ([AGREE, AGREE, OPEN, KINK], {}, "inconclusive"),
        ([AGREE, AGREE, AGREE, WRONG], {}, "fail"),
        ([WRONG] * 4, {}, "fail"),
        ([AGREE] * 4, {"checked_numeric": np.zeros(4), "checked_analytic": np.zeros(4)}, "inconclusive"),
        ([AGREE] * 4, {"checked_numeric": np.array([0, NAN, 0, 0]), "checked_analytic": np.zeros(4)}, "inconclusive"),
        ([AGREE] * 4, {"checked_numeric": np.array([0, 1e-300, 0, 0]), "checked_analytic": np.zeros(4)}, "pass"),
        ([AGREE, AGREE, AGREE, SINGULAR], {}, "pass"),
        ([AGREE, AGREE, OPEN, SINGULAR], {}, "inconclusive"),
        ([AGREE] * 4, {"selftest": "missed", "selftest_passed": False}, "inconclusive"),
        ([AGREE, WRONG], {"coverage_asked": 0.0}, "fail"),
    ],
)
def test_verdict(codes, changes, verdict):
    report = make(codes, **changes)
    assert report.verdict == verdict
    assert bool(report) is (verdict == "pass")
    assert report.counts == {name: codes.count(code) for code, name in enumerate(CLASSES)}
    assert report.coverage == codes.count(AGREE) / len(codes)
    assert list(report.classes) == [CLASSES[code] for code in codes]
    assert ("singular" in report.met) == (SINGULAR in codes)


def test_metrics_over_all_and_over_smooth_tiles():
    report = make([AGREE, WRONG, KINK, OPEN, AGREE], near=np.array([False] * 4 + [True]))
    np.testing.assert_array_equal(report.rel_error, np.abs(report.numeric - report.analytic) / report.analytic)
    errors = np.abs(report.numeric - report.analytic)
    assert report.metrics["max_abs_error"] == errors.max()
    assert report.metrics["median_rel_error"] == np.median(report.rel_error)
    assert report.metrics_smooth["max_abs_error"] == errors[:2].max()
    assert report.metrics_smooth["median_rel_error"] == np.median(report.rel_error[:2])
    zero = make([AGREE, AGREE], analytic=np.array([0.0, 2.0]))
    assert math.isnan(zero.rel_error[0])
    assert zero.rel_error[1] == 0


def test_a_gradient_that_is_no_number_comes_first_of_all():
    report = make([WRONG, WRONG, AGREE], checked_analytic=np.array([9.0, NAN, 3.0]))
    assert [row["index"] for row in report.worst(2)] == [(2,), (0,)]


def test_worst_tiles_come_first():
    report = make([[AGREE, KINK, WRONG], [OPEN, WRONG, AGREE]])
    assert [row["class"] for row in report.worst()] == ["wrong", "wrong", "kink", "unresolved", "agree", "agree"]
    # Among the wrong ones the largest error, at the index of the tile's first pixel.
    assert [row["index"] for row in report.worst(3)] == [(2, 2), (0, 4), (0, 2)]
    row = report.worst(1)[0]
    assert row == {
        "index": (2, 2),
        "class": "wrong",
        "autodiff": 5 * (1 + 2.0**-16),
        "finite_difference": 5.0,
        "abs_error": 5 * 2.0**-16,
        "rel_error": 5 * 2.0**-16 / (5 * (1 + 2.0**-16)),
        "error_bar": 1e-6,
        "right": 5.5,
        "left": 4.5,
        "near_x": False,
    }
    # Without a wrong one: by error over what was allowed, those never seen last.
    bars = np.array([1e-9, 1.0, 1e-7, INF])
    quiet = make([OPEN] * 4, checked_error=bars, settings={"rtol": 0.0})
    assert [row["index"] for row in quiet.worst()] == [(0,), (4,), (2,), (6,)]
    assert [row["index"] for row in make([[[AGREE, WRONG]]], batched=True).worst(1)] == [(0, 0, 2)]


def test_one_example_of_a_batch():
    report = make([[AGREE, WRONG], [AGREE, AGREE], [KINK, OPEN]], batched=True)
    assert len(report) == 3
    assert [one.verdict for one in (report[0], report[1], report[-1])] == ["fail", "pass", "inconclusive"]
    one = report[1]
    assert (one.label, one.batched, one.shape, one.grid, len(one)) == ("model, example 1", False, (4,), (2,), 1)
    assert one.x.shape == (4,)
    for name in MAPS:
        np.testing.assert_array_equal(getattr(one, name), getattr(report, name)[1])
    assert one.counts["agree"] == 2, "counts are those of the example, not remembered from the batch"
    assert make([[AGREE, AGREE]], batched=True, label=None)[0].label == "example 0"
    with pytest.raises(TypeError, match="this report is of a single example, not of a batch"):
        one[0]
    for i in (3, -4):
        with pytest.raises(IndexError, match=f"example {i} of 3"):
            report[i]
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.label = "other"


GOLDEN = """\
fdfast: FAIL  model, 2 examples of 4, 4 tiles of 2

  agree             2   50.00 %   1 at x, 1 near x
  wrong             1   25.00 %
  kink              1   25.00 %
  unresolved        0    0.00 %
  coverage 50.00 % (asked: 75 %)

  error at x                    all tiles  smooth tiles
  max absolute error             3.05e-05      1.14e-05
  median relative error          2.86e-06      2.38e-06
  mean relative error            3.58e-06      2.38e-06
  geometric mean rel. error      2.70e-06      1.91e-06
  max relative error             7.63e-06      3.81e-06
  CS231n max relative error      3.81e-06      1.91e-06

  - A reason that takes two lines, because it goes on and on, about nothing at all, until the first line is
    full.
  - A hint.
  - Would have been found: a wrong factor of 1 +- 2.0e-04; on a single tile, a relative error of 2.0e-04 (half
    of the tiles) or 2.0e-04 (nine tenths).

  tile at     class    autodiff  difference  rel. error  error bar        left       right
  (1, 0)      wrong  3.0000e+00  3.0000e+00     3.8e-06    1.0e-06  2.5000e+00  3.5000e+00
  (0, 2)      kink   2.0000e+00  2.0000e+00     1.9e-06    1.0e-06  1.5000e+00  2.5000e+00
  (1, 2)   *  agree  4.0000e+00  4.0000e+00     7.6e-06    1.0e-06  3.5000e+00  4.5000e+00
  (0, 0)      agree  1.0000e+00  1.0000e+00     9.5e-07    1.0e-06  5.0000e-01  1.5000e+00
  * autodiff, difference and bar are those near x, the one-sided slopes those at x

  batch engine in float64, step 7.6e-06, 34 rows (4 of them to refine single tiles), 1.25 s"""


def test_text_letter_by_letter():
    report = make(
        [[AGREE, KINK], [WRONG, AGREE]], batched=True, near=np.array([[False, False], [False, True]]), hints=["A hint."]
    )
    assert render(report) == str(report)
    assert [line.rstrip() for line in str(report).split("\n")] == GOLDEN.split("\n")


@pytest.mark.parametrize("width", [60, 80, 140])
def test_text_fits_the_width_that_there_is(width: int) -> None:
    near = np.array([[False, False], [False, True]])
    for report in (make([[AGREE, KINK], [WRONG, AGREE]], batched=True, near=near), of_weights()):
        told = render(report, width)
        assert max(map(len, told.splitlines())) <= width
        # What says how wrong it is stays, however narrow.
        for name in ("autodiff", "difference", "rel. error", "max relative error"):
            assert name in told
        assert ("error bar" in told) == (width > 60)


def test_text_of_a_pass_is_short():
    report = make([AGREE, AGREE], label=None, refined=0, timings={})
    lines = str(report).split("\n")
    assert lines[0] == "fdfast: PASS  f, 4, 2 tiles of 2"
    assert "tile at" not in str(report)
    assert lines[-1] == "  batch engine in float64, step 7.6e-06, 34 rows, nan s"
    assert max(map(len, lines)) <= 120


def test_text_with_nothing_to_tell():
    zeros = np.zeros(2)
    report = make(
        [OPEN, OPEN],
        numeric=zeros * NAN,
        analytic=zeros,
        error_bar=zeros + INF,
        seen_from=zeros + INF,
        checked_error=zeros + INF,
    )
    assert "Nothing was learnt that could have shown a fault." in str(report)
    assert str(report).count("nan") >= 12  # every metric, said so


def test_repr_is_one_line():
    assert repr(make([AGREE, AGREE])) == "<Report pass: model, 2 tiles, coverage 100.00%>"
    assert repr(make([WRONG], label=None)) == "<Report fail: f, 1 tile, coverage 0.00%>"
    assert len(repr(make([[AGREE] * 30] * 30))) < 80


def of_weights():
    """A report of two variables: two of six weights left out by the budget, one wrong."""
    one, other = make([AGREE, LEFT_OUT, AGREE]).parts[0], make([LEFT_OUT, WRONG, AGREE]).parts[0]
    parts = [
        dataclasses.replace(part, name=name, kind="variable", shape=(3,), tile=(1,), x=None)
        for name, part in (("net/a/kernel", one), ("net/b/kernel", other))
    ]
    values = {f.name: getattr(make([AGREE]), f.name) for f in dataclasses.fields(Report)}
    return WeightReport(**values | {"parts": parts, "wrt": "weights", "examples": 4})


def test_weights_and_inputs_are_one_kind_of_report():
    report = of_weights()
    assert (report.total, report.checked, report.left_out, report.coverage) == (6, 4, 2, 0.75)
    assert report.counts == {"agree": 3, "wrong": 1, "kink": 0, "unresolved": 0, "singular": 0}
    assert report["a/kernel"] is report.parts[0]
    for name, count in (("kernel", 2), ("c", 0)):
        with pytest.raises(KeyError, match=f"names {count} of the parts"):
            report[name]
    with pytest.raises(AttributeError, match="each of the 2 parts has numeric: report"):
        report.numeric  # noqa: B018
    with pytest.raises(AttributeError, match="'WeightReport' object has no attribute 'numerics'"):
        report.numerics  # noqa: B018
    assert [row["variable"][4] for row in report.worst()] == ["b", "a", "b", "a"]
    assert report.worst(1)[0]["index"] == (1,)
    text = str(report)
    assert text.startswith("fdfast: FAIL  weights of model, 4 examples, 6 weights in 2 variables\n")
    assert "coverage 75.00 % of the 4 weights to check (asked: 75 %); 2 weights were left out by the budget" in text
    assert "  net/b/kernel      3        2      1      1     0       0         3.8e-06  batch" in text
    assert "net/b/kernel[1]" in text
    assert repr(report) == "<WeightReport fail: model, 6 weights, coverage 75.00%>"
    found = strict(report.to_json(maps=True))
    assert [row["name"] for row in found["table"]] == list(found["maps"]) == ["net/a/kernel", "net/b/kernel"]
    assert found["maps"]["net/a/kernel"]["classes"] == ["agree", "left out", "agree"]


def test_weights_are_drawn_and_have_a_page():
    report = of_weights()
    fig = report.plot()
    fig.draw_without_rendering()
    assert [ax.get_title() for ax in fig.axes] == ["Class of each weight", "Relative error: least, median, greatest"]
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["net/a/kernel  2", "net/b/kernel  2"]
    assert fig.get_suptitle().startswith("weights of model, 4 examples\n")
    page = report.to_html()
    assert "<h2>Variables</h2>" in page
    assert "<pre>" not in page
    row = next(line for line in page.splitlines() if line.startswith("<tr><td>net/b/kernel"))
    shares = dict(re.findall(r"background:(#\w+);flex:(\d+)", row))
    assert shares == {CLASS_COLOURS["agree"]: "1", CLASS_COLOURS["wrong"]: "1"}
    assert report._repr_html_().count("weights") >= 3


def test_extents():
    assert [times(shape) for shape in ((28, 28, 1), (5,), ())] == ["28x28x1", "5", "scalar"]


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_is_strict_and_complete(tmp_path):
    report = make(
        [[AGREE, KINK], [WRONG, OPEN]],
        right=np.array([[NAN, 1.0], [INF, 2.0]]),
        deployed={"dtype": "float32", "digits": np.float64(3.5)},
    )
    found = strict(report.to_json(tmp_path / "report.json"))
    assert strict((tmp_path / "report.json").read_text(encoding="utf-8")) == found
    assert found == report.to_dict()
    assert (found["verdict"], found["label"], found["examples"]) == ("fail", "model", 1)
    assert found["counts"] == {"agree": 1, "wrong": 1, "kink": 1, "unresolved": 1, "singular": 0}
    assert (found["shape"], found["tile"], found["grid"]) == ([4, 4], [2, 2], [2, 2])
    assert found["metrics"]["max_abs_error"] == report.metrics["max_abs_error"]
    assert sum(found["histogram"]) == 4
    assert found["worst"][0]["index"] == [2, 0]
    assert found["worst"][0]["right"] is None  # infinity has no word in JSON
    assert (found["checked_at_x"], found["checked_near_x"], found["deployed"]["digits"]) == (4, 0, 3.5)
    assert found["settings"] == {"rtol": 1e-4, "atol": "auto", "h": "auto", "bounds": None}
    assert "maps" not in found
    maps = strict(report.to_json(maps=True))["maps"]
    assert maps["numeric"] == report.numeric.tolist()
    assert maps["right"] == [[None, 1.0], [None, 2.0]]
    assert maps["classes"] == [["agree", "kink"], ["wrong", "unresolved"]]
    assert maps["near"] == [[False, False], [False, False]]
    for one in make([[AGREE, WRONG]], batched=True), make([[AGREE, WRONG]], batched=True)[0]:
        assert strict(one.to_json(maps=True))["maps"]["numeric"] == one.numeric.tolist()
