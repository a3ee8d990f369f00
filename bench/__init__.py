"""Measurements of fdfast."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from fdfast.quiet import quiet_start

quiet_start()
