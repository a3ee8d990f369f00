"""A pytest fixture that makes `tf.test.compute_gradient` fast.

For a suite as it stands, without a change to its files::

    pytest -p fdfast.compat.pytest_fixture -o usefixtures=fast_compute_gradient

For single tests, list it in ``pytest_plugins`` of a conftest.py and ask for the fixture by name.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def fast_compute_gradient() -> Iterator[None]:
    """Replace `tf.test.compute_gradient` during one test; see `fdfast.compat.tensorflow.patch`."""
    from fdfast.compat.tensorflow import patch

    with patch():
        yield
