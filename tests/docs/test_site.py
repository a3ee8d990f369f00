"""What the build of the site looks for in finished pages, each with a page that has it and one that has not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from docs.pages import DOCS

SPEC = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
assert SPEC is not None
assert SPEC.loader is not None
hooks: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(hooks)

HEAD = '<a href="#here">x</a><a href="https://example.org/elsewhere">x</a><h2 id="here">x</h2>'
CASES = [
    ("a link to a page that is there", '<a href="b.html#part">x</a>', None),
    ("a link to a folder", '<a href="sub/">x</a>', None),
    ("a picture of its own", '<img src="data:image/png;base64,AA">', None),
    ("a page that is not there", '<a href="c.html">x</a>', "c.html, which is not there"),
    ("a place that is not there", '<a href="b.html#parts">x</a>', "b.html#parts, a place"),
    ("a place that is not on this page", '<a href="#there">x</a>', "#there, a place"),
    ("a picture that is not there", '<img src="no.png">', "no.png, which is not there"),
    ("a script from elsewhere", '<script src="https://cdn.example/x.js"></script>', "fetches https://cdn.example/x.js"),
    ("the same without a protocol", '<script src="//cdn.example/x.js"></script>', "fetches //cdn.example/x.js"),
    ("a style from elsewhere", '<link rel="stylesheet" href="https://f.example/f.css">', "fetches https://f.example"),
    ("an address that is only named", '<link rel="canonical" href="https://f.example/">', None),
    ("a font from elsewhere", "<style>a { src: url('https://f.example/f.woff') }</style>", "fetches https://f.example"),
    ("a picture from elsewhere", '<img src="http://i.example/i.png">', "fetches http://i.example/i.png"),
]


@pytest.mark.parametrize(("body", "fault"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_faults_of_a_page_are_named(body: str, fault: str | None, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/index.html").write_text("<p>x</p>")
    (tmp_path / "b.html").write_text('<h2 id="part">x</h2>')
    (tmp_path / "a.html").write_text(HEAD + body)
    found = list(hooks.faults(tmp_path))
    assert len(found) == (fault is not None)
    assert fault is None or fault in found[0]


def test_words_of_a_page_are_counted_without_its_programs(tmp_path: Path) -> None:
    text = "<p>menu</p><article>{} <pre>not these</pre><script>nor()</script></article>"
    (tmp_path / "a.html").write_text(text.format("word " * 1500))
    assert list(hooks.faults(tmp_path)) == []
    (tmp_path / "a.html").write_text(text.format("word " * 1501))
    assert list(hooks.faults(tmp_path)) == ["a.html has 1,501 words; a page has 1,500 at most"]


def test_styles_may_fetch_nothing_either(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("a { background: url(//i.example/i.png) } b { background: url(i.png) }")
    assert list(hooks.faults(tmp_path)) == ["a.css fetches //i.example/i.png from elsewhere"]


def test_links_of_notebooks_become_links_to_pages() -> None:
    html = '<a href="../theory.md#top">x</a> <a href="b.ipynb">y</a> <a href="https://example.org/a.md">z</a>'
    wanted = '<a href="../theory.html#top">x</a> <a href="b.html">y</a> <a href="https://example.org/a.md">z</a>'
    assert hooks.as_pages(html) == wanted


def test_cells_are_told_apart_by_how_much_they_say() -> None:
    long = "a sentence that has to be broken somewhere"
    html = f'<table><td>1.1 [0.978 .. 1.2]</td><td style="text-align: left"><code>a</code></td><td>{long}</td></table>'
    assert hooks.cells(html) == (
        '<table><td class="short">1.1 [0.978 .. 1.2]</td><td class="short" style="text-align: left"><code>a</code></td>'
        f'<td class="long">{long}</td></table>'
    )


def test_the_help_of_every_command_is_asked_for_once() -> None:
    assert (DOCS / "reference/command-line.md").read_text().count(hooks.HELPS) == 1
