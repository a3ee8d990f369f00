"""The shipped digits and network, and the loops that everybody starts from."""

from __future__ import annotations

from fdfast.data.datasets import CLASSES, mnist_cnn, mnist_sample, mnist_test
from fdfast.data.seed_loops import seed_loop

__all__ = ["CLASSES", "mnist_cnn", "mnist_sample", "mnist_test", "seed_loop"]
