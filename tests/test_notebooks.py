"""The notebooks run from top to bottom, headless, and do what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import nbformat
import pytest
from kernel import Kernel
from nbclient import NotebookClient
from websockets.sync.client import ClientConnection, connect

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_headless(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=60).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", output
            if "handler-raises" not in cell.metadata.get("tags", ()):
                assert output.get("name") != "stderr", output


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        assert (cell.get("outputs") or [], cell.get("execution_count")) == ([], None), cell["id"]


def code_cells(name: str) -> dict[str, str]:
    """The code of each code cell, by the cell's id."""
    cells = json.loads(next(path for path in NOTEBOOKS if path.stem == name).read_text())["cells"]
    return {cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"}


@contextmanager
def connected(kernel: Kernel, path: str) -> Iterator[ClientConnection]:
    url, token = kernel.check("ask", "print(app.url, app.token)").stdout.split()
    with connect(f"{url.replace('http', 'ws')}{path}?token={token}") as client:
        yield client


def test_the_chat_notebook_is_a_chat_in_six_short_cells_swapped_live() -> None:
    cells = code_cells("01-chat")
    # It serves without "serve", and is a chat without the guests.
    assert list(cells) == ["app", "page", "handler", "preview", "guests", "swap", "guests-again", "look", "serve"]
    assert all(len(source.splitlines()) <= 20 for source in cells.values())
    with Kernel() as kernel:
        for cell in ("app", "page", "handler", "preview"):
            kernel.check(cell, cells[cell])
        with connected(kernel, "/chat") as client:
            client.send(json.dumps({"text": "hi"}))
            assert "<li>hi</li>" in str(client.recv(timeout=10))
            kernel.check("swap", cells["swap"])
            client.send(json.dumps({"text": "again"}))
            assert re.search("<strong>Guest [0-9a-f]{4}</strong>: again", str(client.recv(timeout=10)))
            assert "<td>/chat</td><td>v2</td><td>1</td>" in kernel.check("look", cells["look"]).html


def test_the_hot_swap_notebook_shows_what_it_says() -> None:
    cells = code_cells("04-hot-swap")
    assert all(len(source.splitlines()) <= 20 for source in cells.values())

    def run_all(kernel: Kernel) -> dict[str, str]:
        ran = {cell: kernel.check(cell, source) for cell, source in cells.items()}
        return {cell: "\n".join([r.stdout, *(data["text/plain"] for data in r.data)]) for cell, r in ran.items()}

    with Kernel() as kernel:
        first, second = run_all(kernel), run_all(kernel)
    texts = {
        "visitor": "apple, pear, apple",
        "moved": "(v1 → v2) 2 × apple, 1 × pear",
        "history": "(<v1: 3 messages, 0 errors>, <v2: 0 messages, 0 errors>)",
        "diff": '+@app.ws("/words", swap=move)',
        "back": "<v3, code of v1: 1 messages, 0 errors>",
        "forth": "(v3 → v4) 2 × apple, 1 × pear, 1 × plum",
        "retry": "<strong>6</strong> words",
        "replay": "-raised ZeroDivisionError: division by zero",
        "auto": "<v8, code of v6: 1 messages, 0 errors>",
        "pin": "pinned to v2",
        "unpin": "(v2 → v8)",
        "tick": "tick ",
        "stale": "<Endpoint GET /limit v1, stale: limit was a number and is of type str now>",
    }
    for cell, text in texts.items():
        assert text in first[cell], cell
    assert "(v9 → v10) 2 × apple, 1 × pear" in second["moved"]


def test_the_session_notebook_shares_its_session_among_pages_and_websockets() -> None:
    cells = code_cells("02-session")
    assert all(len(source.splitlines()) <= 20 for source in cells.values())
    with Kernel() as kernel:
        for cell, source in cells.items():
            kernel.check(cell, source)
        url, token = kernel.check("ask", "print(app.url, app.token)").stdout.split()
        with httpx.Client(base_url=url, params={"token": token}, follow_redirects=True) as browser:
            assert "Hello, <strong>stranger</strong>" in browser.get("/").text
            cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar)
            address = f"{url.replace('http', 'ws')}/count?token={token}"
            with connect(address, additional_headers={"Cookie": cookies}) as client:
                client.send("{}")
                assert "counted to <strong>10</strong>" in str(client.recv(timeout=10))
                answer = browser.post("/login", data={"name": "Ann"}).text
                for html in (answer, str(client.recv(timeout=10))):
                    assert "Hello, <strong>Ann</strong>! You have counted to <strong>10</strong>" in html
                browser.post("/logout")
                assert "stranger" in str(client.recv(timeout=10))


def test_the_dashboard_notebook_moves_widgets_and_clients_swapped_or_not() -> None:
    cells = code_cells("05-dashboard")
    assert all(len(source.splitlines()) <= 20 for source in cells.values())
    with Kernel() as kernel:
        for _ in range(2):
            for cell, source in cells.items():
                if cell != "busy":
                    kernel.check(cell, source)
        assert kernel.check("ask", "len(knobs['waves']._trait_notifiers['value']['change'])").value == "1"
        with connected(kernel, "/knobs") as client:
            kernel.check("set", "knobs['waves'].value = 4")
            while 'id="waves-is"' not in (came := str(client.recv(timeout=10))):
                pass
            assert ">4.0<" in came
            client.send(json.dumps({"waves": 5, "height": 9, "ripple": "0.5"}))
            while 'id="height-is"' not in (came := str(client.recv(timeout=10))):
                pass
            assert ">1.0<" in came, "a widget keeps its bounds"
        assert kernel.check("look", "[knob.value for knob in knobs.values()]").value == "[5.0, 1.0, 0.5]"
        assert kernel.check("errors", "list(app.errors)").value == "[]"
