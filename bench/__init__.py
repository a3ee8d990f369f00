"""Measurements of fdfast."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from fdfast.cli.terminal import import_tensorflow

import_tensorflow()  # without its messages
