"""``python -m fdfast`` is the command ``fdfast``."""

from __future__ import annotations

import sys

from fdfast.cli import main

if __name__ == "__main__":
    sys.exit(main())
