"""Every test starts from the same seeds, without a screen and without TensorFlow's start-up messages."""

from __future__ import annotations

import os
import random
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import numpy as np
import pytest
from hypothesis.internal.conjecture import providers

# No deadline: the first example pays for TensorFlow's tracing or Numba's compilation.
hypothesis.settings.register_profile("fdfast", deadline=None, derandomize=True)
hypothesis.settings.load_profile("fdfast")

if hasattr(providers, "_get_local_constants"):
    # Newer versions also draw the numbers that occur in the modules loaded so far. These differ from worker to worker
    # and with the tests that ran before, so that a test would not see the same examples twice.
    providers._get_local_constants = lambda: providers._local_constants


@pytest.fixture(autouse=True)
def seeds() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (Keras draws from it)
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].random.set_seed(0)


@pytest.fixture(scope="session")
def loaded() -> None:
    """Load all of what cannot be loaded twice: pytester forgets what the sessions in this process import."""
    import keras  # noqa: F401
    import numba

    numba.njit(lambda: 0)()  # Numba registers types when it first compiles
