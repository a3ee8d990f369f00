"""Pages of the documentation as a test sees them: which a user needs, their blocks, and their prose."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: Read by whoever wants to know more than a task needs; their words are not all linked to the glossary.
BACKGROUND = {
    *(path.name for group in ("theory", "difference", "benchmarks") for path in DOCS.glob(f"{group}*.md")),
    "second-order.md", "attacks.md", "sweeps.md", "architecture.md", "decisions.md",
}  # fmt: skip
USER_PAGES = sorted(path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).as_posix() not in BACKGROUND)
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
