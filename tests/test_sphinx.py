"""The Sphinx extension: notebooks in a site of furo's, built with warnings as errors and read from files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from lab import Browser, CellSource, write_nb
from playwright.sync_api import expect

CONF = """
extensions = ["nbws.sphinx"]
html_theme = "furo"
project = "Site"
nbws_run_exclude = ["saved"]
"""
APP = """#| export
from nbws.common import *
app = App("sphinx", title="Site")

@app.get("/")
def index(): return Titled("Site", P("nothing", id="said"), Form(Input(id="text"), ws_send=True),
        hx_ext="ws", ws_connect="/ws")

@app.ws("/ws")
async def say(text: str): return P(text, id="said")"""
CELLS: list[CellSource] = [
    ("md", "# A site\n\nSee [the other one](saved.ipynb)."),
    APP,
    ("md", "## Played"),
    "app",
    "#| hide\nimport ipywidgets\nhidden_code = 1",
    "ipywidgets.IntSlider(3)",
    """#| hide_input
async with app.client().ws("/ws") as visitor:
    await visitor.ask(text="said in a cell")
print("its output")""",
    "#| eval: false\n1 / 0",
]


def build(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html", *arguments, "source", "out"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90, check=False)


def source_of(folder: Path, cells: Sequence[CellSource] = CELLS) -> Path:
    source = folder / "source"
    source.mkdir()
    (source / "conf.py").write_text(CONF, encoding="utf-8")
    (source / "index.md").write_text("# Home\n\n```{toctree}\npage\nsaved\n```\n", encoding="utf-8")
    write_nb(source / "page.ipynb", cells)
    write_nb(source / "saved.ipynb", [("md", "# Saved"), "1 / 0"])
    return source


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    source_of(folder)
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"


def test_a_notebook_is_run_and_becomes_a_page_without_what_is_hidden(site: Path) -> None:
    html = (site / "page.html").read_text(encoding="utf-8")
    for there in ("#| export", "its output", "said in a cell", "data-nbws-replay", "nbws-replay.js", "shows a widget"):
        assert there in html
    for gone in ("hidden_code", "hide_input", "visitor.ask", "eval: false", "ZeroDivisionError", "nbws-ticket"):
        assert gone not in html
    assert "saved.html" in html


def test_a_notebook_that_is_left_out_is_not_run_and_pages_without_players_load_no_player(site: Path) -> None:
    html = (site / "saved.html").read_text(encoding="utf-8")
    assert "ZeroDivisionError" not in html
    assert "nbws-recorded" not in html


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=.(https?:)?//", page.read_text("utf-8"))
        assert loaded == [], page


@pytest.mark.browser
def test_the_preview_is_played_from_a_file_in_the_colours_of_the_site(browser: Browser, site: Path) -> None:
    page = browser.new_page()
    page.set_default_timeout(10_000)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: asked.append(str(error)))
    page.goto((site / "page.html").as_uri())
    expect(page.frame_locator(".nbws-replay-snapshot").locator("#said")).to_have_text("said in a cell")
    page.evaluate("document.body.dataset.theme = 'dark'")
    step = page.locator(".nbws-replay-next")
    step.click()
    frame = page.frame_locator(".nbws-replay-frame")
    expect(frame.locator("#text")).to_have_value("said in a cell")
    expect(frame.locator("html")).to_have_attribute("data-theme", "dark")
    expect(frame.locator("#said")).to_have_text("nothing")
    step.click()
    expect(page.locator(".nbws-replay-note")).to_have_text("That was all of it.")
    expect(frame.locator("#said")).to_have_text("said in a cell")
    assert [url for url in asked if not url.startswith(("file:", "about:", "data:"))] == []
    assert browser.refused == []
    page.context.close()


def test_a_notebook_that_fails_is_a_warning_that_says_where(tmp_path: Path) -> None:
    source_of(tmp_path, [("md", "# Bad"), "x = 1\nx / 0"])
    done = build(tmp_path, "-q")
    assert done.returncode != 0
    assert "page.ipynb does not run" in done.stderr
    assert "line 2: x / 0" in done.stderr


def test_with_pyodide_the_players_of_a_site_run_the_app_by_what_the_site_has(tmp_path: Path) -> None:
    source = source_of(tmp_path, [*CELLS, "#| hide\nat_the_end = 1"])
    runtime = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
    wheel = "msgspec-0.20.0-cp314-cp314-pyemscripten_2026_0_wasm32.whl"
    (source / "package").mkdir()
    for name in (*runtime, wheel):
        (source / "package" / name).write_text(name)
    info = {"python": "3.14.2", "abi_version": "2026_0"}
    (source / "package" / "pyodide-lock.json").write_text(json.dumps({"info": info, "packages": {}}))
    with (source / "conf.py").open("a") as conf:
        conf.write('nbws_pyodide = "package"\n')
    done = build(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    told = json.loads(page.partition('id="nbws-notebook">')[2].partition("</script>")[0])
    assert told["base"] == "_static/run-here/"
    sources = [cell["source"] for cell in told["cells"]]
    assert sources[-1] == "#| hide\nat_the_end = 1"
    assert not [source for source in sources if "eval: false" in source]
    assert 0 < page.index("run-here/inpage.js") < page.index("nbws-replay.js")
    folder = tmp_path / "out" / "_static" / "run-here"
    assert {*runtime, wheel, "packages.zip", "run-here.json", "inpage-worker.js"} <= {p.name for p in folder.iterdir()}
    assert "nbws-notebook" not in (tmp_path / "out" / "saved.html").read_text(encoding="utf-8")


def test_a_folder_that_is_no_pyodide_ends_the_build(tmp_path: Path) -> None:
    with (source_of(tmp_path) / "conf.py").open("a") as conf:
        conf.write('nbws_pyodide = "nowhere"\n')
    done = build(tmp_path)
    assert done.returncode != 0
    assert "has no pyodide.mjs" in done.stdout + done.stderr
