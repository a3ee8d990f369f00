"""The page and the fragment: complete, well formed, self-contained; nothing of a report is taken for HTML."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from fake_report import FakeReport, fake_report

from fdfast.report import html

VOID = {"meta", "img", "br", "link", "input", "hr"}
EVIL = '</style></p><script src="http://x/y.js">alert(\'1\')</script><img src=x onerror="e()"> & \'q\' "q"'


class Page(HTMLParser):
    """Elements and texts of a page; refuses what is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


SAVE = html.save


@pytest.fixture(autouse=True)
def _small_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture has tests of its own, and takes a second."""
    monkeypatch.setattr(html, "save", lambda report, stream, dpi: stream.write(b"\x89PNG"))


def everything() -> FakeReport:
    report = fake_report((12, 12, 1), faults=2, label="a model")
    report.near[0, 0, 0], report.classes[0, 0, 0] = True, "agree"
    report.counts = {name: int(np.sum(report.classes == name)) for name in report.counts}
    report.hints = ["(a) a factor 2 everywhere"]
    report.power = {"median over tiles": 1e-4}
    report.selftest = "a fault of 1 % was found"
    return report


def test_page_has_all_sections_and_is_well_formed() -> None:
    text = html.to_html(everything())
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    page = Page(text)
    headings = re.findall("<h2>(.*?)</h2>", text)
    others = ("Variables", "Second order")  # of one input, and of the first order
    assert headings == [html.escape(title) for title, _ in html.SECTIONS if title not in others]
    said = page.text()
    for part in (
        "FAIL a model", "2 tiles disagree", "(a) a factor 2 everywhere", "median relative error",
        "unresolved", "The worst", "left slope", "float32", "median over tiles", "a fault of 1 % was found",
        "9.54e-07 = 2^-20", "rtol", "2.1 ms", "1 near x, off a kink",
    ):  # fmt: skip
        assert part in said


def test_sections_with_nothing_to_say_are_left_out() -> None:
    report = fake_report((6,), faults=0, deployed=None, timings={})
    headings = re.findall("<h2>(.*?)</h2>", html.to_html(report))
    assert headings == ["Where", "Classes", "Errors", "The worst", "Settings"]


def test_page_fetches_nothing() -> None:
    page = Page(html.to_html(everything()))
    assert page.tags() & {"script", "link", "iframe", "object", "base", "form"} == set()
    for _, attributes in page.elements:
        assert set(attributes).isdisjoint({"href", "srcset", "action", "background"})
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")
    policy = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    style = "".join(t for t in page.texts if "{" in t)
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("write", [html.to_html, html.fragment])
@pytest.mark.parametrize("where", ["label", "reasons", "hints", "engine", "dtype", "settings", "timings", "power"])
def test_nothing_of_a_report_is_taken_for_html(write: Any, where: str) -> None:
    clean = everything()
    tags = [tag for tag, _ in Page(write(clean)).elements]
    report = everything()
    if where in ("reasons", "hints"):
        setattr(report, where, [EVIL])
    elif where in ("settings", "timings"):
        setattr(report, where, {EVIL: EVIL if where == "settings" else 1.0})
        setattr(clean, where, {"a": 1.0})
        tags = [tag for tag, _ in Page(write(clean)).elements]
    elif where == "power":
        report.power = {"median over tiles": EVIL}
    else:
        setattr(report, where, EVIL)
    text = write(report)
    page = Page(text)
    assert [tag for tag, _ in page.elements] == tags
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert EVIL not in text


def test_evil_reaches_the_reader_as_text() -> None:
    assert EVIL in Page(html.to_html(fake_report((6,), label=EVIL))).text()


def test_worst_tiles_say_what_was_decided_near_x() -> None:
    report = everything()
    report.near[...] = True
    assert "* decided near x" in Page(html.to_html(report)).text()
    report.near[...] = False
    assert "* decided near x" not in Page(html.to_html(report)).text()


def test_what_is_no_number_is_a_dash() -> None:
    report = fake_report((6,), faults=0, metrics_smooth=dict.fromkeys(fake_report((6,)).metrics, float("nan")))
    text = html.to_html(report)
    assert text.count('<td class="number">–</td>') == 6
    assert "nan" not in Page(text).text()


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive"])
def test_verdict_is_a_word_and_a_colour(verdict: str) -> None:
    for text in (
        html.to_html(fake_report((6,), verdict=verdict)),
        html.fragment(fake_report((6,), verdict=verdict)),
    ):
        assert f'background:{html.VERDICT_COLOURS[verdict]}">{verdict.upper()}</span>' in text


def test_fragment_has_every_style_at_its_element_and_no_colour_of_its_own() -> None:
    text = html.fragment(everything())
    page = Page(text)
    assert text.startswith('<div class="fdfast" style=')
    # A notebook drops or overrides style sheets; a colour of text or paper is unreadable on the other kind of paper.
    assert page.tags() & {"script", "style", "html", "head", "body"} == set()
    bare = [tag for tag, a in page.elements if tag in ("table", "tr", "th", "td", "img") and not a.get("style")]
    assert bare == []
    for tag, attributes in page.elements:
        if attributes.get("class") not in ("badge", "key") and tag != "img":
            assert not re.search(r"(^|;)(color|background(-color)?):(?!none)", attributes.get("style") or "")
    for part in ("FAIL", "2 tiles disagree", "agree", "median relative error"):
        assert part in page.text()
    (picture,) = [a for tag, a in page.elements if tag == "img"]
    assert (picture["src"] or "").startswith("data:image/png;base64,")
    assert picture["alt"]


def test_figure_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "save", SAVE)
    text = html.to_html(fake_report((6, 6, 1), label=EVIL))
    (source,) = [a["src"] for tag, a in Page(text).elements if tag == "img"]
    assert base64.b64decode(str(source).split(",")[1], validate=True).startswith(b"\x89PNG\r\n")


def test_page_without_matplotlib_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise ImportError("No module named 'matplotlib'")

    monkeypatch.setattr(html, "save", missing)
    assert "matplotlib is not installed" in Page(html.to_html(everything())).text()
