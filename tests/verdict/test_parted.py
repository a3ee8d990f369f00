"""Elements whose units tie, one by one: what a check by directions says of them is what a look at each says."""

from __future__ import annotations

import numpy as np
import pytest

import fdfast
from fdfast.verdict import parted


@pytest.mark.parametrize("digit", [2, 3, 9, 70, 93, 254, 793])
def test_directions_say_of_a_digit_what_every_element_says(digit):
    """Elements along which the slope is 0 all the same; one with another branch; all of x held out at first.

    70: one differs by what rounding behind the softmax may take, far below the largest. 93, 254: slopes to both sides
    of one differ by a hundred-thousandth. 793: a loss of 7e-10, where that rounding could be more than the tolerance.
    """
    x, labels = fdfast.datasets.mnist_sample(digit + 1)
    model, y = fdfast.datasets.mnist_cnn(), np.eye(10)[labels[digit]]
    every, directions = (fdfast.gradcheck(model, x[digit], y, check=check) for check in ("every", "directions"))
    assert every.verdict == directions.verdict == "pass"
    np.testing.assert_array_equal(every.codes.ravel(), directions.codes.ravel())
    np.testing.assert_array_equal(every.near.ravel(), directions.near.ravel())
    assert every.coverage == directions.coverage
    words = "a branch of several kinks that cancel"
    assert (words in "\n".join(every.reasons)) == (words in "\n".join(directions.reasons)) == (digit in (3, 9, 254))


@pytest.mark.parametrize(("limit", "least"), [("MOST", 400), ("BYTES", 1 << 20)])
def test_too_many_count_as_kinks(monkeypatch, limit, least):
    x, labels = fdfast.datasets.mnist_sample(10)
    model, y = fdfast.datasets.mnist_cnn(), np.eye(10)[labels[2]]
    alone = fdfast.gradcheck(model, x[2], y, check="directions").near
    monkeypatch.setattr(parted, limit, least)
    together = fdfast.gradcheck(model, x[2], y, check="directions").near
    assert np.count_nonzero(together) > np.count_nonzero(alone) > 400
    assert together[alone].all()
