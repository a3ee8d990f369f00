"""The shipped digits and network, by their public name (see `fdfast.data.datasets`)."""

from __future__ import annotations

from fdfast.data import mnist_cnn, mnist_sample, mnist_test

__all__ = ["mnist_cnn", "mnist_sample", "mnist_test"]
