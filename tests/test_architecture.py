"""The import table of docs/architecture.md is what the source does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fdfast"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.stem not in ("__init__", "__main__")
}
WHITE_BOX = {"differences", "lowering", "base_pass", "compiled", "pushed"} | {
    f"rules.{name}" for name in ("elementwise", "linear", "pooling", "merging", "losses")
}
TORCH = {f"compat.{name}" for name in ("call", "central", "autodiff", "torch")}
OBJECTIVES = {"row_function", "objective", "model_objective", "callable_objective"}
MAPPED = {
    *("functions", "single", "kernels", "kernel_rules", "stacked", "rowwise", "sources"),
    *("compat.analytic", "compat.graph", "compat.tensorflow"),
}
WEIGHTS = {"weight_objective", "engines.places"}
HEAVY_AT_TOP = {
    "tensorflow": {
        *("losses", "shadow", "preflight", "engines.device", "traced", "variables"),
        *(OBJECTIVES | WHITE_BOX | TORCH | MAPPED | WEIGHTS),
    },
    "keras": {
        *("losses", "shadow", "objective", "model_objective", "preflight", "callback", "variables"),
        *(WHITE_BOX | WEIGHTS),
    },
    "numba": {"reduce"},
    "matplotlib": set(),
    "rich": set(),
}


def table() -> dict[str, set[str]]:
    rows = re.findall(
        r"^\| `([\w.]+)` \|[^|]*\| ([^|]*) \|$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE
    )
    return {name: set() if allowed == "-" else set(allowed.split(", ")) for name, allowed in rows}


def is_typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(source: str, *, top_only: bool = False) -> set[str]:
    """Dotted names of everything imported, `from a import b` as both a and a.b."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if is_typing_only(node) or (top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        waiting.extend(ast.iter_child_nodes(node))
    return found


def ours(source: str) -> set[str]:
    names = {name.removeprefix("fdfast.") for name in imports(source) if name.startswith("fdfast.")}
    return {name for name in names if name in MODULES or name == "_core"}


def test_every_module_has_a_row_and_every_row_a_module() -> None:
    assert set(table()) == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_row_allows(module: str) -> None:
    assert ours(MODULES[module].read_text()) - table()[module] == set()


@pytest.mark.parametrize("library", HEAVY_AT_TOP)
def test_heavy_libraries_are_imported_at_the_top_by_few(library: str) -> None:
    found = {
        module
        for module, path in MODULES.items()
        if any(name.split(".")[0] == library for name in imports(path.read_text(), top_only=True))
    }
    assert found <= HEAVY_AT_TOP[library]


def test_the_table_has_no_cycle() -> None:
    edges = table()
    done: set[str] = set()
    while len(done) < len(edges):
        free = {name for name, needs in edges.items() if name not in done and needs - {"_core"} <= done}
        assert free, f"a cycle among {sorted(set(edges) - done)}"
        done |= free


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from fdfast.report import Report", {"report"}),
        ("import fdfast.judge", {"judge"}),
        ("def f():\n    from fdfast import plot", {"plot"}),
        ("from fdfast import _core", {"_core"}),
        ("if TYPE_CHECKING:\n    from fdfast.report import Report", set()),
        ("from fdfast.engines.batch import BatchEngine", {"engines.batch"}),
    ],
)
def test_the_reader_of_imports_sees_a_forbidden_one(source: str, found: set[str]) -> None:
    assert ours(source) == found


def test_the_kernels_know_no_python() -> None:
    for path in (ROOT / "cpp").iterdir():
        assert "Python.h" not in path.read_text()
        assert "pybind11" not in path.read_text()
