"""What is shown of a sweep: text, page, piece for a notebook."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sweeps_small import SHAPE, examples, small_model

from fdfast.sweeps import Sweep, sweep

X, Y = examples(6)


@keras.saving.register_keras_serializable("sweep_tests")
class Doubled(keras.layers.Layer):
    """The identity, whose gradient is twice too large."""

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.custom_gradient(lambda x: (tf.identity(x), lambda up: 2 * up))(x)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    model = keras.Sequential([keras.Input(SHAPE), Doubled(name="doubled"), *small_model().layers])
    model.compile(loss="categorical_crossentropy")
    x = X.copy()
    x[1] = np.nan
    return sweep(model, (x, Y), tmp_path_factory.mktemp("<page>"), batch=3)


def test_text(found: Sweep) -> None:
    lines = str(found).splitlines()
    assert lines[:4] == [
        "fdfast sweep: FAIL  gradcheck of 6 examples",
        "",
        "  fail                 5   the gradient is wrong at some element",
        "  error                1   the example cannot be used; the row says why",
    ]
    assert any(line.startswith("    0: fail, 16 wrong of 16; at (") for line in lines)
    assert any(line.startswith("    1: error: ") for line in lines)
    assert repr(found).startswith("<Sweep fail: ")


def test_a_page_needs_nothing_and_escapes_everything(found: Sweep, tmp_path: Path) -> None:
    page = found.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page
    assert page.count("data:image/png;base64,") == 5  # histograms, and the four worst
    for word in ("<script", "http://", "https://", "<page>"):
        assert word not in page
    assert "&lt;page&gt;" in page
    for heading in ("Examples", "Errors", "The worst", "Pictures of the worst", "Settings"):
        assert f"<h2>{heading}</h2>" in page


def test_pictures_are_of_the_examples_that_they_name(found: Sweep) -> None:
    rows = [row for row in found.worst(4) if row["verdict"] != "error"]
    labels = [report.label for report in found.pictures(rows).values()]
    assert sorted(labels) == sorted(f"{labels[0].rpartition(',')[0]}, example {row['index']}" for row in rows)


def test_without_model_and_data_there_are_no_pictures_and_it_is_said(found: Sweep) -> None:
    page = Sweep.load(found.path).to_html()
    assert page.count("data:image/png;base64,") == 1
    assert "Pictures need model and data" in page


def test_without_matplotlib_every_picture_is_a_sentence(found: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = found.to_html()
    assert page.count("<img ") == 0
    assert page.count("No figure: matplotlib is not installed") == 5  # histograms, and the four worst
    assert "<h2>The worst</h2>" in page


def test_a_notebook_gets_a_piece(found: Sweep) -> None:
    piece = found._repr_html_()
    assert piece.startswith('<div class="fdfast" style=')
    assert piece.count("<img ") == 1
    assert "<style" not in piece
    assert "5" in piece
