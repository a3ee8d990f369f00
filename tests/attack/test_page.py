"""The page on attacks: its programs run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs/attacks.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_programs_of_the_page_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(BLOCKS) == 3
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/attacks.md", "exec"), names)
    said = capsys.readouterr().out
    assert "accuracy clean 1.000" in said
    assert "(1, 28, 28, 1)" in said


def test_the_page_names_every_verdict_and_no_line_is_a_placeholder() -> None:
    from fdfast.attack.masks import VERDICTS

    assert all(f"`{verdict}`" in PAGE for verdict in VERDICTS)
    assert not re.search(r"^[A-Z]{4,}$", PAGE, re.MULTILINE)
