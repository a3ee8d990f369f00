"""The page on second order: its code runs, and prints what stands there."""

from __future__ import annotations

import re

from bench.second_order import PAGE, executed

#: Rounding is another on other machines, and with it the chances that are stated.
_FIGURES = re.compile(r"below \S+, a lone one of \S+ never")


def comparable(text):
    return " ".join(_FIGURES.sub("", " ".join(text.split())).split())


def test_the_code_of_the_page_prints_what_the_page_says():
    _, pairs = executed(PAGE.read_text())
    assert len([1 for _, printed in pairs if printed]) == 7
    for stands, printed in pairs:
        assert comparable(stands) == comparable(printed)
