"""The house is as docs/architecture.md says: rooms in a line, entered by their doors, no circles, short files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
LONGEST = 350
#: Libraries that take long to load, and the rooms whose files may import them at the top.
HEAVY = {
    "tensorflow": {"operations", "tape", "windows", "functions", "differences", "engines", "taped", "compat"},
    "keras": {"functions", "differences", "engines", "problem", "taped", "choice", "weights", "directed", "callback"},
    "numba": {"verdict"},
    "matplotlib": set(),
    "rich": set(),
}


class Import(NamedTuple):
    module: str  # such as "fdfast.moves"
    names: tuple[str, ...]  # () for `import module`
    at_top: bool


def rooms() -> list[str]:
    """Rooms and the files beside them, in the order of the table."""
    return re.findall(r"^\| `([\w]+)(?:/|\.py)` \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)


def sources(package: Path) -> dict[str, str]:
    """Text of every file, by its dotted name below the package; a door is called like its room."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def imports(text: str) -> Iterator[Import]:
    """Every import but those for type checkers, which run nothing; those inside functions count."""
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(text), True)]
    while waiting:
        node, top = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, (), top) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"a relative import: {ast.unparse(node)}"
            yield Import(node.module or "", tuple(alias.name for alias in node.names), top)
        top = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        waiting.extend((child, top) for child in ast.iter_child_nodes(node))


def targets(text: str, known: Mapping[str, str]) -> set[str]:
    """Files of the package that a file imports, by dotted name."""
    found = set()
    for one in imports(text):
        if one.module.split(".")[0] != "fdfast":
            continue
        module = one.module.removeprefix("fdfast").lstrip(".")
        inside = {f"{module}.{name}".lstrip(".") for name in one.names} & set(known)
        if module in known and module and (not one.names or {f"{module}.{n}" for n in one.names} - inside):
            inside.add(module)
        found |= inside
    return found


def upwards(files: Mapping[str, str], order: list[str]) -> list[str]:
    """Imports of a room that comes later, or that the table does not know."""
    return [
        f"{name} imports {other}"
        for name, text in files.items()
        for other in targets(text, files)
        if name and (order.index(other.split(".")[0]) > order.index(name.split(".")[0]))
    ]


def behind_doors(files: Mapping[str, str]) -> list[str]:
    """Imports that go past the door of another room; each file of `compat` is a door of its own."""
    return [
        f"{name} imports {other}"
        for name, text in files.items()
        for other in targets(text, files)
        if "." in other and other.split(".")[0] not in (name.split(".")[0], "compat")
    ]


def circles(files: Mapping[str, str]) -> list[str]:
    """Files that no order could put after all that they import."""
    edges = {name: targets(text, files) - {name} for name, text in files.items()}
    done: set[str] = set()
    while free := {name for name, needs in edges.items() if name not in done and needs <= done}:
        done |= free
    return sorted(set(edges) - done)


def too_long(files: Mapping[str, str]) -> list[str]:
    return [name for name, text in files.items() if text.count("\n") > LONGEST]


def heavy_at_top(files: Mapping[str, str]) -> list[str]:
    return [
        f"{name} imports {library}"
        for name, text in files.items()
        for one in imports(text)
        for library in [one.module.split(".")[0]]
        if one.at_top and name.split(".")[0] not in HEAVY.get(library, {name.split(".")[0]})
    ]


FILES = sources(ROOT / "fdfast")
PLACES = {name.split(".")[0] for name in FILES} - {"", "__main__"}


def test_every_room_has_a_row_and_every_row_a_room() -> None:
    assert sorted(rooms()) == sorted(PLACES)


def test_a_room_imports_only_those_before_it() -> None:
    assert upwards({k: v for k, v in FILES.items() if k not in ("", "__main__")}, rooms()) == []


def test_other_rooms_are_entered_by_their_doors() -> None:
    assert behind_doors(FILES) == []


def test_no_circle_between_files() -> None:
    assert circles(FILES) == []


def test_no_file_is_long() -> None:
    assert too_long(FILES) == []


def test_heavy_libraries_are_imported_at_the_top_by_few() -> None:
    assert heavy_at_top(FILES) == []


@pytest.mark.parametrize("room", sorted(name for name in PLACES if name in FILES and f"{name}." in "".join(FILES)))
def test_a_door_offers_no_name_of_a_file_behind_it(room: str) -> None:
    # Importing the file would put it in the place of the name.
    offered = {name for one in imports(FILES[room]) for name in one.names}
    assert not offered & {name.split(".")[1] for name in FILES if name.startswith(f"{room}.")}


#: What must not be, as a package of few files, and who says so.
FAULTS = {
    "upwards": ({"moves": "", "check": "", "moves.tiling": "from fdfast.check import gradient"}, "moves.tiling"),
    "upwards in a function": ({"moves": "def f():\n    from fdfast import check", "check": ""}, "moves"),
    "behind a door": (
        {"moves": "", "moves.tiling": "", "check": "from fdfast.moves.tiling import Tiling"},
        "check imports moves.tiling",
    ),
    "behind a door, by the file": (
        {"moves": "", "moves.tiling": "", "check": "import fdfast.moves.tiling"},
        "check imports moves.tiling",
    ),
    "a circle": (
        {
            "moves": "from fdfast.moves.a import f",
            "moves.a": "def f():\n    from fdfast.moves import b",
            "moves.b": "from fdfast.moves.a import f",
        },
        "moves.a",
    ),
    "long": ({"moves": "\n" * (LONGEST + 1)}, "moves"),
    "heavy": ({"moves": "import tensorflow as tf"}, "moves imports tensorflow"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_must_not_be_is_found(fault: str) -> None:
    files, said = FAULTS[fault]
    found = [*upwards(files, rooms()), *behind_doors(files), *circles(files), *too_long(files), *heavy_at_top(files)]
    assert any(said in one for one in found)


@pytest.mark.parametrize(
    "files",
    [
        {"moves": "", "check": "from fdfast.moves import make_tiling"},
        {"moves": "if TYPE_CHECKING:\n    from fdfast.check import gradient", "check": "from fdfast.moves import x"},
        {"functions": "import tensorflow as tf", "moves": "def f():\n    import tensorflow"},
        {"compat": "", "compat.seed": "from fdfast.check import gradient", "check": ""},
    ],
)
def test_what_may_be_is_not_complained_of(files: dict[str, str]) -> None:
    assert upwards(files, rooms()) + behind_doors(files) + circles(files) + heavy_at_top(files) == []


def test_the_kernels_know_no_python() -> None:
    for path in (ROOT / "cpp").iterdir():
        assert "Python.h" not in path.read_text()
        assert "pybind11" not in path.read_text()
