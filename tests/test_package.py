"""The package's face: what `import fdfast` costs and offers, and what it says when it was not compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import fdfast


def python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **options)


def test_import_loads_nothing_heavy() -> None:
    heavy = {"tensorflow", "keras", "numba", "matplotlib", "rich", "scipy"}
    run = python("-c", f"import fdfast, sys; dir(fdfast); print(*({heavy} & set(sys.modules)))")
    assert (run.stdout.strip(), run.stderr) == ("", "")


def test_version_is_the_distribution_s() -> None:
    assert fdfast.__version__ == version("fdfast")


def test_dir_lists_exactly_the_public_names() -> None:
    assert dir(fdfast) == sorted(fdfast.__all__)


@pytest.mark.parametrize("name", fdfast.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(fdfast, name) is getattr(fdfast, name)


def test_no_lazy_name_is_a_submodule_s_too() -> None:
    # Importing fdfast.x rebinds the attribute x of the package: a function of that name would be lost.
    submodules = {path.stem for path in Path(fdfast.__file__).parent.iterdir()}
    assert not submodules & set(fdfast._HOME)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'fdfast' has no attribute 'gradient_check'"):
        fdfast.gradient_check  # noqa: B018


def test_a_tree_that_was_not_compiled_says_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "fdfast").mkdir()
    shutil.copy(fdfast.__file__, tmp_path / "fdfast")
    run = python("-S", "-c", "import fdfast", cwd=str(tmp_path))  # -S: without the installed fdfast
    assert "ImportError: fdfast._core, the compiled part of fdfast, is missing" in run.stderr
    assert "`make build`" in run.stderr
    assert "`pip install -e .`" in run.stderr


def test_a_quiet_start_says_nothing_and_a_loud_one_is_left_alone() -> None:
    code = "import fdfast; fdfast.quiet_start(); import tensorflow as tf; print(int(tf.reduce_sum([1, 2])))"
    plain = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    said = python("-c", code, env=plain)
    assert (said.stdout, said.stderr) == ("3\n", "")
    assert "oneDNN" in python("-c", code, env=plain | {"TF_CPP_MIN_LOG_LEVEL": "0"}).stderr


def test_what_is_to_be_cited_has_the_version_of_the_package() -> None:
    cited = Path(__file__).parent.parent / "CITATION.cff"
    assert f"\nversion: {fdfast.__version__}\n" in cited.read_text(encoding="utf-8")
