"""The bar of ``progress=True`` in a real kernel, run as Jupyter runs it."""

from __future__ import annotations

import pytest

nbclient = pytest.importorskip("nbclient", reason="in the environment of `make docs`")
nbformat = pytest.importorskip("nbformat", reason="in the environment of `make docs`")
pytest.importorskip("ipykernel", reason="in the environment of `make docs`")

PROGRAM = """
import time, numpy as np, fdfast
from fdfast.progress import progress_bar
with progress_bar("counting") as bar:
    for done in range(1, 6):
        time.sleep(0.25)
        bar(done, 5)
"""


# Sockets of the kernel are closed by its end, which no frame of ours waits for.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_bar_is_one_output_that_ends_full() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(PROGRAM)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    shown = nbclient.NotebookClient(notebook, timeout=300).execute().cells[0].outputs
    assert [one.output_type for one in shown] == ["display_data"]  # no line of ipywidgets, nothing on stderr
    assert "counting" in shown[0].data["text/html"]
    assert "100%" in shown[0].data["text/html"]
