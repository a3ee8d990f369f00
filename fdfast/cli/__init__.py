"""The command ``fdfast``. TensorFlow is loaded by the commands that need it, not by this door."""

from __future__ import annotations

from fdfast.cli.command import main

__all__ = ["main"]
