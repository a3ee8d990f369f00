"""Single panels: scales, legends, tiles placed on pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from fdfast.report import panels
from fdfast.report.example import Example


def example(numeric: Any, analytic: Any, classes: Any = None, x: Any = None, tile: Any = None) -> Example:
    numeric, analytic = np.asarray(numeric, float), np.asarray(analytic, float)
    with np.errstate(all="ignore"):
        rel = np.where(analytic != 0, np.abs(numeric - analytic) / np.abs(analytic), np.nan)
    words = np.full(analytic.shape, "agree") if classes is None else np.asarray(classes)
    pixels = np.zeros(analytic.shape) if x is None else np.asarray(x)
    return Example(0, pixels, tile or (1,) * analytic.ndim, numeric, analytic, rel, words)


def axes(n: int = 1) -> Any:
    return Figure().subplots(1, n)


def labels(ax: Any) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize(
    ("numeric", "analytic", "limit"),
    [
        ([[1.0, -4.0]], [[2.0, 3.0]], 4.0),
        ([[0.0, 0.0]], [[0.0, 0.0]], 1.0),
        ([[np.nan, np.inf]], [[-0.5, 0.1]], 0.5),
        ([[np.nan, np.nan]], [[np.nan, np.nan]], 1.0),
    ],
    ids=["greatest of both", "all zero", "what is not finite does not count", "nothing finite"],
)
def test_both_gradients_share_one_symmetric_scale(numeric: Any, analytic: Any, limit: float) -> None:
    pair = axes(2)
    panels.gradients(pair, example(numeric, analytic))
    norms = [ax.images[0].norm for ax in pair]
    assert [(n.vmin, n.vmax) for n in norms] == [(-limit, limit)] * 2
    assert [ax.get_title() for ax in pair] == ["Finite differences", "Autodiff"]
    for ax in pair:
        bar = ax.child_axes[0]
        assert bar.get_ylabel() == "derivative"
        assert bar.get_ylim() == (-limit, limit)


def test_ragged_tiles_are_placed_on_their_pixels() -> None:
    value = np.arange(6.0).reshape(3, 2, 1) + 1
    e = example(value, value, x=np.zeros((5, 7, 3)), tile=(2, 4, 3))
    expected = np.kron(value[..., 0], np.ones((2, 4)))[:5, :7]
    np.testing.assert_array_equal(e.pixels(value), expected)
    ax = axes()
    panels.classes(ax, e)
    # Every pixel is one unit wide, and pixel 0 has its centre at 0.
    assert ax.images[0].get_extent() == [-0.5, 6.5, 4.5, -0.5]


def test_channels_apart_show_the_one_with_the_greatest_gradient_and_the_worst_class() -> None:
    analytic = np.zeros((2, 2, 3))
    analytic[0, 0] = [1, -9, 2]
    words = np.full((2, 2, 3), "agree", "<U12")
    words[1, 0, 0], words[0, 1, 2] = "wrong", "kink"
    e = example(analytic, analytic, words)
    pair = axes(2)
    panels.gradients(pair, e)
    np.testing.assert_array_equal(pair[1].images[0].get_array(), analytic[..., 1])
    assert pair[1].get_title() == "Autodiff\nchannel 1: greatest |autodiff|"
    ax = axes()
    panels.classes(ax, e)
    colours = [list(panels.MAP_COLOURS)[i] for i in np.ravel(ax.images[0].get_array())]
    assert colours == ["agree", "kink", "wrong", "agree"]
    assert "worst over channels" in ax.get_title()


def test_channels_together_are_one_map() -> None:
    e = example(np.ones((2, 2, 1)), np.ones((2, 2, 1)), x=np.zeros((2, 2, 3)), tile=(1, 1, 3))
    pair = axes(2)
    panels.gradients(pair, e)
    assert pair[0].get_title() == "Finite differences"
    assert pair[0].child_axes[0].get_ylabel() == "derivative of the tile"


def test_relative_error_is_logarithmic_and_says_where_there_is_none() -> None:
    e = example([[1.01, 0.5], [np.nan, 2.0]], [[1.0, 0.0], [1.0, 2.0]])
    ax = axes()
    panels.relative(ax, e, panels.decades([e]))
    shown = ax.images[0]
    assert isinstance(shown.norm, LogNorm)
    np.testing.assert_array_equal(shown.get_array().mask, [[False, True], [True, False]])
    assert labels(ax) == ["autodiff gradient is 0", "not finite"]
    np.testing.assert_array_equal(ax.images[1].get_array().mask, [[True, False], [True, True]])


def test_relative_error_without_gaps_has_no_legend() -> None:
    e = example([[1.01]], [[1.0]])
    ax = axes()
    panels.relative(ax, e, panels.decades([e]))
    assert ax.get_legend() is None


def test_decades() -> None:
    assert panels.decades([example([1.05, 3.0], [1.0, 1.0])]) == (0.01, 10.0)
    assert panels.decades([example([1.0, 0.0], [1.0, 0.0])]) == (1e-16, 1.0)
    low, high = panels.decades([example([1.0 + 1e-15, 1e9], [1.0, 1e-290])])
    assert high / low == pytest.approx(1e20)
    low, high = panels.decades([example([2.0], [1.0])])  # rel is exactly 1
    assert low < high


def test_class_map_counts_and_rings_wrong_tiles() -> None:
    words = np.array([["agree", "wrong"], ["kink", "unresolved"], ["agree", "agree"]])
    e = example(np.ones((3, 2)), np.ones((3, 2)), words, x=np.zeros((5, 6)), tile=(2, 4))
    ax = axes()
    panels.classes(ax, e)
    assert labels(ax) == ["agree 3", "kink 1", "unresolved 1", "wrong 1"]
    colours = [patch.get_facecolor() for patch in ax.get_legend().get_patches()]
    assert len(set(colours)) == 4
    (ring,) = ax.lines
    assert ring.get_xydata().tolist() == [[4.5, 0.5]]  # columns 4 and 5, rows 0 and 1


def test_tiles_decided_near_x_have_their_own_colour() -> None:
    e = example(np.ones((1, 3)), np.ones((1, 3)), [["agree", panels.NEAR, "agree"]])
    ax = axes()
    panels.classes(ax, e)
    assert labels(ax) == ["agree at x 2", "agree near x 1", "kink 0", "unresolved 0", "wrong 0"]


def test_many_wrong_tiles_are_not_ringed() -> None:
    e = example(np.ones((8, 8)), np.ones((8, 8)), np.full((8, 8), "wrong"))
    ax = axes()
    panels.classes(ax, e)
    assert len(ax.lines) == 0


def test_histogram_counts_by_class_and_marks_the_median() -> None:
    analytic = np.ones(8)
    analytic[6] = 0
    numeric = 1 + np.array([1e-8, 2e-8, 4e-8, 0.3, 0.5, 0.0, 1.0, np.nan])
    words = ["agree", "agree", "agree", "kink", "wrong", "agree", "agree", "unresolved"]
    ax = axes()
    panels.histogram(ax, example(numeric, analytic, words))
    heights = {}
    for container, name in zip(ax.containers, panels.MAP_COLOURS, strict=True):
        heights[name] = sum(bar.get_height() for bar in container)
    assert heights == {"agree": 3, panels.NEAR: 0, "kink": 1, "unresolved": 0, "singular": 0, "wrong": 1}
    assert labels(ax)[-1] == "median 3.0e-08"  # of 0, 1e-8, 2e-8, 4e-8, 0.3, 0.5
    said = ax.get_xlabel()
    assert "1 exactly equal" in said
    assert "1 with autodiff gradient 0" in said
    assert "1 not finite" in said


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_histogram_of_nothing(value: float) -> None:
    ax = axes()
    panels.histogram(ax, example(np.full(4, value), np.full(4, value)))
    assert "no relative error above 0" in [text.get_text() for text in ax.texts]


def test_vector_panels() -> None:
    e = example([1.5, 0.0, np.nan, 2.0], [1.0, 0.0, 1.0, 2.0], ["wrong", "agree", "unresolved", "agree"])
    ax = axes()
    panels.scatter(ax, e, panels.decades([e]))
    assert labels(ax) == [
        "agree 2", "kink 0", "unresolved 1", "wrong 1", "autodiff gradient is 0", "not finite",
    ]  # fmt: skip
    assert ax.get_yscale() == "log"
    ax = axes()
    panels.overlay(ax, e)
    assert labels(ax) == ["autodiff", "finite differences"]


@pytest.mark.parametrize(
    ("shape", "scale", "drawn", "title"),
    [
        ((4, 5), 1, (4, 5), "Input"),
        ((4, 5, 1), 1, (4, 5), "Input"),
        ((4, 5, 3), 1, (4, 5, 3), "Input"),
        ((4, 5, 4), 1, (4, 5, 3), "Input"),
        ((4, 5, 3), 255, (4, 5, 3), "Input\nscaled from 0 .. 255"),
        ((4, 5, 7), 1, (4, 5), "Input, mean of 7 channels"),
    ],
)
def test_input(shape: tuple[int, ...], scale: float, drawn: tuple[int, ...], title: str) -> None:
    x = np.linspace(0, scale, int(np.prod(shape))).reshape(shape)
    before = x.copy()
    ax = axes()
    panels.show_image(ax, x, "Input")
    assert ax.images[0].get_array().shape == drawn
    assert ax.get_title() == title
    np.testing.assert_array_equal(x, before)


def test_constant_colours_outside_the_range() -> None:
    ax = axes()
    panels.show_image(ax, np.full((2, 2, 3), 7, np.uint8), "Input")  # no division by zero
