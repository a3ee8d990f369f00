"""What the build of the site does beyond MkDocs: links in notebooks, help of commands, and a last look.

The page on the command line gets the help of every command from the commands themselves.

MkDocs checks links of Markdown pages before it renders them. Notebooks, docstrings and output of commands reach the
site by other ways. So the finished pages are read once more: every link must lead to a page, and to a place on it, and
nothing may be fetched from elsewhere, because the site must work without a network.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

#: What a browser fetches by itself, by tag and attribute; links (`a`) it only follows.
FETCHED = {
    ("audio", "src"), ("embed", "src"), ("iframe", "src"), ("img", "src"), ("img", "srcset"), ("link", "href"),
    ("object", "data"), ("script", "src"), ("source", "src"), ("source", "srcset"), ("video", "src"), ("track", "src"),
}  # fmt: skip
#: Links in the head that name a place and fetch nothing.
NAMES_ONLY = {"canonical", "next", "prev", "alternate", "edit"}
#: Most words of a page, programs apart.
WORDS = 1500
#: Where a page says this, the help of every command is put.
HELPS = "<!-- the help of every command -->"
COMMANDS = ("", "demo", "check", "attack", "sweep", "bench", "completion")
#: Most letters of a cell that stays on one line.
_SHORT = 24
_OUTSIDE_STYLE = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])\s*((?:https?:)?//[^)"']+)""")


class Page(HTMLParser):
    """A page's anchors, its links, what it fetches, and the number of words that are no program."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {"", "__top"}
        self.links: list[str] = []
        self.fetched: list[str] = _OUTSIDE_STYLE.findall(text)
        self.words, self._within = 0, dict.fromkeys(("article", "pre", "script", "style"), 0)
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag in self._within:
            self._within[tag] += 1
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and NAMES_ONLY & set(given.get("rel", "").split()):
            return
        self.fetched.extend(given[name] for name in given if (tag, name) in FETCHED)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._within:
            self._within[tag] -= 1

    def handle_data(self, data: str) -> None:
        article, *programs = self._within.values()
        if article and not any(programs):
            self.words += len(data.split())


def is_outside(address: str) -> bool:
    """Whether an address names another server; data in the page itself is none."""
    parts = urlsplit(address)
    return bool(parts.netloc) and parts.scheme in ("", "http", "https")


def faults(site: Path) -> Iterator[str]:
    """Yield a sentence for each dead link, each thing fetched from elsewhere, and each page that is too long."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        where = path.relative_to(site).as_posix()
        if page.words > WORDS:
            yield f"{where} has {page.words:,} words; a page has {WORDS:,} at most"
        yield from (f"{where} fetches {one} from elsewhere" for one in page.fetched if is_outside(one))
        inside = [one for one in page.fetched if one and not urlsplit(one).scheme and not is_outside(one)]
        for link in [*page.links, *inside]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":  # whose links start from the root
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                yield f"{where} leads to {link}, which is not there"
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{where} leads to {link}, a place that is not on that page"
    for path in sorted(site.rglob("*.css")):
        found = _OUTSIDE_STYLE.findall(path.read_text(encoding="utf-8"))
        yield from (f"{path.relative_to(site)} fetches {one} from elsewhere" for one in found)


def helps() -> str:
    """What every command prints of itself, as Markdown."""
    plain = os.environ | {"COLUMNS": "88", "NO_COLOR": "1", "TERM": "dumb"}
    told = []
    for command in COMMANDS:
        arguments = [sys.executable, "-m", "fdfast", *command.split(), "--help"]
        text = subprocess.run(arguments, env=plain, check=True, capture_output=True, text=True).stdout
        told.append(f"## fdfast {command}".rstrip() + f"\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(told)


def as_pages(html: str) -> str:
    """Links to sources, as notebooks have them, made links to the pages that become of these."""
    return re.sub(r'(href="(?![a-z]+:|//)[^"#]*)\.(?:md|ipynb)(#[^"]*)?"', r'\1.html\2"', html)


def cells(html: str) -> str:
    """Cells of tables, told apart by how much they say: the style keeps figures on one line."""

    def marked(found: re.Match[str]) -> str:
        said = re.sub(r"<[^>]*>|&\w+;", "", found[2])
        return f'<td class="{"short" if len(said) <= _SHORT else "long"}"{found[1]}>{found[2]}</td>'

    return re.sub(r"<td((?: style=\"[^\"]*\")?)>(.*?)</td>", marked, html, flags=re.DOTALL)


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Put the help of the commands where the page asks for it."""
    return markdown.replace(HELPS, helps()) if HELPS in markdown else markdown


def on_page_content(html: str, *, page: Any, config: Any, files: Any) -> str:
    """MkDocs turns links of Markdown pages into links to pages; here those of notebooks. And cells are marked."""
    return as_pages(html) if page.file.src_uri.endswith(".ipynb") else cells(html)


def on_post_build(*, config: Any) -> None:
    """Stop the build where a finished page has a fault."""
    from mkdocs.exceptions import PluginError

    found = list(faults(Path(config["site_dir"])))
    if found:
        raise PluginError("\n  ".join([f"{len(found)} faults in the site:", *found]))
