"""Pages of the documentation as a test sees them: which a user needs, their blocks, and their prose."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: Read by whoever wants to know, which takes longer.
FOR_THOSE_WHO_WANT_TO_KNOW = {
    "theory.md", "difference-arithmetic.md", "second-order.md", "attacks.md", "sweeps.md", "migration.md",
    "benchmarks.md", "architecture.md", "decisions.md",
}  # fmt: skip
USER_PAGES = sorted(
    path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).as_posix() not in FOR_THOSE_WHO_WANT_TO_KNOW
)
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))


class Block(NamedTuple):
    """A fenced block: its language and its text."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """Fenced blocks of a page, in order."""
    return [Block(*found) for found in re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]


def prose(page: str) -> str:
    """A page without its programs, headings and addresses: what a reader reads as sentences."""
    page = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    page = re.sub(r"^#.*$", "", page, flags=re.MULTILINE)
    return re.sub(r"`[^`]*`", "", page)


def name_of(path: Path) -> str:
    """A page's path below docs/."""
    return path.relative_to(DOCS).as_posix()
