"""Pages are found, short enough for who needs them, and say what a word means where it first stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from docs.pages import BACKGROUND, DOCS, NOTEBOOKS, ROOT, USER_PAGES, name_of, prose

README = (ROOT / "README.md").read_text()
#: Terms of the glossary by their anchor, as they may stand in a sentence.
TERMS = {
    "tile": r"tiles?",
    "kink": r"kinks?",
    "coverage": r"coverage",
    "near-x": r"near x",
    "error-bar": r"error bars?",
    "direction": r"(?<!this )(?<!one )directions",
}
READ = {name_of(path): path.read_text() for path in USER_PAGES if path.name != "glossary.md"}


#: Pages of prose; the two that list the code are edited by the line.
LINES = sorted(path for path in DOCS.rglob("*.md") if path.name not in ("architecture.md", "decisions.md"))


def cells(path: Path, kind: str) -> list[str]:
    return ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == kind]


READ |= {name_of(path): "\n".join(cells(path, "markdown")) for path in NOTEBOOKS}


def unexplained(page: str) -> list[str]:
    """Terms whose first appearance in the prose of a page is no link to the glossary."""
    text = re.sub(r"\s+", " ", prose(page))
    found = []
    for anchor, words in TERMS.items():
        first = re.search(rf"\b{words}\b", text, re.IGNORECASE)
        if first is None:
            continue
        links = [m.span() for m in re.finditer(rf"\[[^]]*\]\([^)]*glossary\.md#{anchor}\)", text)]
        if not any(start <= first.start() < end for start, end in links):
            found.append(anchor)
    return found


@pytest.mark.parametrize("name", READ)
def test_a_term_is_explained_where_it_first_stands(name: str) -> None:
    assert unexplained(READ[name]) == []


def test_a_term_without_its_link_is_seen() -> None:
    assert unexplained("Many tiles, and [tiles](glossary.md#tile).") == ["tile"]
    assert unexplained("`tile=1` moves a [tile](glossary.md#tile) of an image.") == []


def test_the_glossary_has_every_term() -> None:
    headings = re.findall(r"^## (.*)$", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    assert {heading.lower().replace(" ", "-") for heading in headings} == set(TERMS)


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=name_of)
def test_a_page_is_short(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(re.sub(r"\|[-| :]*", " ", text).split()) <= 1500


def test_every_page_is_in_the_menu_and_the_menu_has_no_other() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    listed = re.findall(r"[\w/-]+\.(?:md|ipynb)", nav)
    there = {name_of(path) for path in [*DOCS.rglob("*.md"), *NOTEBOOKS]}
    assert set(listed) == there
    assert len(listed) == len(there)
    assert there >= BACKGROUND


def test_nothing_of_the_theme_asks_the_network() -> None:
    settings = (ROOT / "mkdocs.yml").read_text()
    assert re.search(r"^  font: false", settings, re.MULTILINE)
    # With it every page asks api.github.com for the repository's stars, which the check of links cannot see.
    assert not re.search(r"^repo_url:", settings, re.MULTILINE)


def test_every_public_name_is_in_the_reference() -> None:
    import fdfast

    pages = "\n".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    named = set(re.findall(r"^::: fdfast\.([\w.]+)$", pages, re.MULTILINE))
    rooms = {"attack", "datasets"}
    wanted = {*fdfast.__all__} - rooms - {"__version__"} | {f"datasets.{one}" for one in fdfast.datasets.__all__}
    assert wanted - named == set()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebooks_are_kept_without_what_they_printed(path: Path) -> None:
    notebook = json.loads(path.read_text())
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook["cells"])
    assert cells(path, "markdown")[0].startswith("# ")
    for source in [*cells(path, "markdown"), *cells(path, "code")]:
        assert all(len(line) <= 120 for line in source.splitlines())


@pytest.mark.parametrize("path", [ROOT / "README.md", *LINES], ids=lambda path: path.name)
def test_no_line_is_wider_than_120_columns(path: Path) -> None:
    rows = [line for line in path.read_text().splitlines() if not line.startswith("|")]  # a table's row is one line
    assert [line for line in rows if len(line) > 120] == []


def test_the_readme_is_short_and_begins_with_what_to_type() -> None:
    lines = README.splitlines()
    assert len(lines) <= 120
    assert any("make demo" in line for line in lines[:12])
    assert any("make test" in line for line in lines[:12])


def test_what_the_readme_names_is_there() -> None:
    named = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert named
    assert [link for link in named if link and not (ROOT / link).exists()] == []


def test_the_citation_and_the_package_name_the_same() -> None:
    project, cited = (ROOT / "pyproject.toml").read_text(), (ROOT / "CITATION.cff").read_text()
    for key, other in (("name", "title"), ("version", "version")):
        found = re.search(rf'^{key} = "(.*)"$', project, re.MULTILINE)
        assert found is not None
        assert f"\n{other}: {found[1]}\n" in cited
