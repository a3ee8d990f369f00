"""What the measurements are made of: rows of displaced digits, errors, the reference, windows, processes."""

from __future__ import annotations

from importlib import import_module

import keras
import numpy as np
import pytest

import fdfast
from bench.__main__ import DIFFERENCE, SECTIONS, main
from bench.digits import check
from bench.flops import flops
from bench.process import command
from bench.rig import best_chunk, digits, middle, moves, quotients, reference, relative
from fdfast.differences.graph import unroll
from fdfast.differences.lowering import lower
from fdfast.functions import model_objective
from fdfast.moves import make_tiling

SHAPE = (28, 28, 1)


@pytest.mark.parametrize(
    ("found", "truth", "median"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.1, 2.0, 5.0], [1.0, 2.0, 0.0], 0.05),  # no true gradient at the third
        ([1.01, 1.1, 2.0], [1.0, 1.0, 1.0], 0.1),
    ],
)
def test_relative_errors(found, truth, median):
    assert middle(relative(np.array(found), np.array(truth))) == pytest.approx(median)


def test_the_median_of_no_errors_is_nan():
    assert np.isnan(middle(relative(np.ones(3), np.zeros(3))))


@pytest.mark.parametrize(
    ("side", "shape", "count"), [(1, SHAPE, 784), (5, SHAPE, 36), (14, SHAPE, 4), (8, (20, 12, 3), 6)]
)
def test_moves_cover_every_pixel_once(side, shape, count):
    tiling = make_tiling(shape, side, "together")
    found = moves(tiling, "float64")
    assert found.shape == (2 * count, *shape)
    np.testing.assert_array_equal(found[0::2].sum(axis=0), np.ones(shape))
    np.testing.assert_array_equal(found[0::2], -found[1::2])
    np.testing.assert_array_equal(moves(tiling, "float64", [1]), found[2:4])


def test_quotients_are_central_differences():
    np.testing.assert_allclose(quotients([3.0, 1.0, 0.0, 1.0], 0.5), [2.0, -1.0])


def test_the_best_chunk_is_the_fastest():
    assert best_chunk(lambda chunk: sum(range(30_000 // chunk)), (1, 30)) == 30


def test_the_reference_is_the_gradient_of_the_network():
    """Float64 autodiff keeps some 12 digits where the network is as sure as here."""
    model, x, y = digits(4)
    objective = model_objective(model, y, None, SHAPE, len(x), batched=True)
    autodiff = objective.gradient(x.reshape(len(x), -1).astype(np.float64)).reshape(len(x), -1)
    by_hand = np.stack([reference(model.get_weights(), *one).ravel() for one in zip(x, y, strict=True)])
    scale = np.abs(by_hand).max(axis=1, keepdims=True)
    np.testing.assert_allclose(autodiff / scale, by_hand.astype(np.float64) / scale, atol=1e-9)
    np.testing.assert_array_equal(autodiff == 0, by_hand == 0)


def test_windows_of_the_shipped_network():
    """A tile of the whole image is the dense pass; a pixel reaches 9 cells of the first map, if it is inside."""
    lowered = lower(unroll(fdfast.datasets.mnist_cnn(trained=False)), SHAPE)
    assert flops(lowered, 28) == 2 * (26 * 26 * 9 * 32 + 11 * 11 * 9 * 32 * 64 + 1600 * 10)
    assert flops(lowered, 1) == pytest.approx(95_600, rel=1e-2)  # docs/difference-windows.md


def test_windows_of_one_convolution():
    """3 x 3 without padding on 5 x 5: along an axis, five cells meet 1, 2, 3, 2 and 1 pairs, 9 / 5 on average."""
    model = keras.Sequential([keras.Input((5, 5, 2)), keras.layers.Conv2D(3, 3)])
    assert flops(lower(unroll(model), (5, 5, 2)), 1) == pytest.approx(2 * (9 / 5) ** 2 * 2 * 3)


def test_a_command_is_timed_by_pyperf_with_its_peak_memory():
    found, _ = command("import json", 2)
    assert len(found.get_values()) == 2
    assert 0 < found.get_metadata()["command_max_rss"] < 2**30


def test_digits_are_gone_through_cyclically():
    x, labels = fdfast.datasets.mnist_sample(2)
    verdicts, classes, odd = check(x, labels, 3)
    assert verdicts == {"pass": 3}
    assert classes["agree"] == 3 * 784
    assert classes["wrong"] == 0
    assert odd == []


def test_every_section_has_its_rows():
    for name in SECTIONS:
        module = import_module("bench.difference" if name in DIFFERENCE else f"bench.{name}")
        assert callable(getattr(module, name if name in DIFFERENCE else "rows"))


def test_an_unknown_section_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["w9"], SECTIONS)
    assert "unknown: w9; there are: process, digits, w1," in capsys.readouterr().err
