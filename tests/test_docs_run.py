"""`nbws docs` from the command line: the notebook is run, and no secret that it knows is in its page."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from docs_made import nbws_docs
from lab import write_nb

CANARY = [
    ("md", "# Canaries"),
    """#| hide
from nbws.common import *
app = App("canary", redact=("pin",), title="Canary")""",
    """@app.get("/")
def index(request, session):
    session["name"] = "ada"
    cookies = "; ".join(request.cookies.values())
    return Titled("Canary", P(app.token, id="token"), P(cookies, id="cookies"), P(id="out"),
        Link(rel="stylesheet", href="/own.css"), Img(src="/secret.svg"),
        Form(Input(name="pin", value="pin-" + "canary"), ws_send=True),
        hx_ext="ws", ws_connect="/ws?pin=" + "query-" + "canary")

@app.get("/own.css")
def own_css(): return Response("#out { color: green }", media_type="text/css")

@app.get("/secret.svg")
def secret_svg(): return Response(f"<svg>{app.token}</svg>", media_type="image/svg+xml")

@app.ws("/ws")
async def ws(pin: str, ws):
    return P(f"your pin is {pin}", app.token, *ws.cookies.values(), id="out")""",
    "app",
    """client = app.client()
await client.get("/")
await client.get("/")
visitor = await client.connect("/ws?pin=query-" + "canary")
said = await visitor.ask(pin=str(4711) + "-word")
await visitor.close()
assert "-word" in said""",
    """import json, pathlib
secrets = [app.token, app.panel_key, *client.cookies.values(), app.secret_key]
pathlib.Path("secrets.json").write_text(json.dumps(secrets))
print(*secrets, app.url)
said""",
    """with app.record("named"):
    async with client.ws("/ws") as again:
        await again.ask(pin=str(4711) + "-word")
app.start()
app.transcript()""",
    "app.preview(clients=2, recording='named')",
    """app.get("/other")(lambda: Titled("Nobody has been here"))
app.preview("/other")""",
]


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("canary")
    write_nb(folder / "canary.ipynb", CANARY)
    done = nbws_docs(folder, "canary.ipynb")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("canary.html: Canaries, 3 previews, ")
    return folder


def test_no_token_ticket_cookie_or_redacted_field_is_in_a_page(canary: Path) -> None:
    html = (canary / "canary.html").read_text(encoding="utf-8")
    secrets = json.loads((canary / "secrets.json").read_text())
    assert len(secrets) >= 4
    for secret in (*secrets, "pin-canary", "4711-word", "query-canary", "nbws-ticket="):
        assert secret not in html, secret
    assert "your pin is (redacted)" in html
    assert html.count("(redacted)") >= 8  # they were there to be found


def test_a_preview_of_a_page_that_no_client_had_shows_that_page(canary: Path) -> None:
    html = (canary / "canary.html").read_text(encoding="utf-8")
    assert html.count("The page, before anybody used it.") == 1
    assert "&lt;h1&gt;Nobody has been here&lt;/h1&gt;" in html


def test_files_that_the_app_serves_are_in_its_page(canary: Path) -> None:
    encoded = base64.b64encode(b"#out { color: green }").decode()
    html = (canary / "canary.html").read_text(encoding="utf-8")
    assert f"data:text/css;charset=utf-8;base64,{encoded}" in html
    assert 'src="data:image/svg' not in html  # there is a secret in it
    assert 'src=\\"/secret.svg\\"' in html


def test_while_docs_are_made_no_file_is_written_beside_the_notebook(canary: Path) -> None:
    files = {each.name for each in canary.iterdir()} - {"ipython", ".ipython"}
    assert files == {"canary.ipynb", "canary.html", "secrets.json"}


def test_a_notebook_that_does_not_run_gives_no_page_and_says_where_it_fails(tmp_path: Path) -> None:
    write_nb(tmp_path / "bad.ipynb", ["x = 1", "1 / 0"])
    done = nbws_docs(tmp_path, "bad.ipynb", "-o", "page.html")
    assert done.returncode == 1
    assert "bad.ipynb does not run, so there are no docs of it" in done.stderr
    assert "cell 2 (id cell001, '1 / 0'), line 1: 1 / 0" in done.stderr
    assert not (tmp_path / "page.html").exists()


def test_a_cell_that_takes_too_long_is_named(tmp_path: Path) -> None:
    write_nb(tmp_path / "slow.ipynb", ["import threading; threading.Event().wait()"])
    done = nbws_docs(tmp_path, "slow.ipynb", "--cell-timeout", "1")
    assert done.returncode == 1
    assert "threading.Event().wait()'): took longer than 1 s" in done.stderr


def test_what_is_no_notebook_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.ipynb").write_text("no json")
    for run in ("--run", "--no-run"):
        assert nbws_docs(tmp_path, "x.ipynb", run).stderr.startswith("Error: x.ipynb is no notebook")
    assert "there is no notebook gone.ipynb" in nbws_docs(tmp_path, "gone.ipynb").stderr


def test_what_it_needs_is_named_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from nbws import docs
    from nbws.errors import NbwsError

    monkeypatch.setattr(docs, "_MODULES", ("json", "not_there"))
    with pytest.raises(
        NbwsError, match=r"nbws docs needs not-there, which is not installed here; pip install 'nbws\[docs\]'"
    ):
        docs.check_installed("nbws docs")
