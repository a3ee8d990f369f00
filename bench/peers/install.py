"""Installs the peers, as many as can be, beside the Python that runs this: ``python -m bench.peers.install``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def names(lines: Iterable[str]) -> list[str]:
    """Requirements without comments and empty lines."""
    return [kept for line in lines if (kept := line.partition("#")[0].strip())]


def main() -> None:
    for requirement in names(REQUIREMENTS.read_text().splitlines()):
        # What fdfast is tested with stays as it is.
        constraint = ["--constraint", str(ROOT / "requirements" / "dev.txt")]
        command = [sys.executable, "-m", "pip", "install", "--quiet", *constraint, requirement]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            print(f"{requirement} cannot be installed, and is left out: {last}", flush=True)


if __name__ == "__main__":
    main()
