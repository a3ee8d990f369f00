"""What a notebook shows of an estimate."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

import fdfast


def found(examples: int = 1) -> fdfast.Estimate:
    x = np.linspace(-1, 1, 8) * np.ones((examples, 1))
    one = [
        fdfast.estimate(lambda rows: np.abs(rows).sum(axis=1) + (rows**2).sum(axis=1), row, batched=True) for row in x
    ]
    return fdfast.Estimate.join(one)


def test_a_notebook_sees_kinds_and_a_picture() -> None:
    piece = found()._repr_html_()
    assert piece.startswith('<div class="fdfast" style=')
    assert piece.count("<img ") == 1
    assert re.search(r"smooth</td><td[^>]*>8<", piece)
    assert "kink</td>" not in piece
    assert "<style" not in piece


def test_what_cannot_be_drawn_is_left_out_of_the_picture_and_counted() -> None:
    one = found(2)
    holes = replace(one, value=np.where(np.arange(8) % 2, np.nan, one.value), error=one.error * np.inf)
    piece = holes._repr_html_()
    assert "2 examples, 8 tiles each" in piece
    assert re.search(r"smooth</td><td[^>]*>16<", piece)
