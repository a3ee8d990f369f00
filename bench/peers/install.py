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


def install(*requirements: str) -> str | None:
    """Install all of them; None if that went well, else pip's last word."""
    # What fdfast is tested with stays as it is.
    constraint = ["--constraint", str(ROOT / "requirements" / "dev.txt")]
    command = [sys.executable, "-m", "pip", "install", "--quiet", *constraint, *requirements]
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else None


def main() -> None:
    wanted = names(REQUIREMENTS.read_text().splitlines())
    if install(*wanted) is None:
        return
    for requirement in wanted:  # one that cannot be installed must not keep the others out
        why = install(requirement)
        if why is not None:
            print(f"{requirement} cannot be installed, and is left out: {why}", flush=True)


if __name__ == "__main__":
    main()
