"""The notebooks run from top to bottom, headless, and do what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from kernel import Kernel
from nbclient import NotebookClient
from websockets.sync.client import connect

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_headless(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=60).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", output
            assert output.get("name") != "stderr", output


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        assert (cell.get("outputs") or [], cell.get("execution_count")) == ([], None), cell["id"]


def test_the_chat_notebook_is_a_chat_in_six_short_cells_swapped_live() -> None:
    cells = {
        cell["id"]: "".join(cell["source"])
        for cell in json.loads((NOTEBOOKS[0]).read_text())["cells"]
        if cell["cell_type"] == "code"
    }
    assert list(cells) == ["app", "page", "handler", "preview", "swap", "look"]
    assert all(len(source.splitlines()) <= 20 for source in cells.values())
    with Kernel() as kernel:
        for cell in ("app", "page", "handler", "preview"):
            kernel.check(cell, cells[cell])
        url, token = kernel.check("ask", "print(app.url, app.token)").stdout.split()
        with connect(f"{url.replace('http', 'ws')}/chat?token={token}") as client:
            client.send(json.dumps({"text": "hi"}))
            assert "<li>hi</li>" in str(client.recv(timeout=10))
            kernel.check("swap", cells["swap"])
            client.send(json.dumps({"text": "again"}))
            assert re.search("<strong>Guest [0-9a-f]{4}</strong>: again", str(client.recv(timeout=10)))
            assert "<td>/chat</td><td>v2</td><td>1</td>" in kernel.check("look", cells["look"]).html
