"""`nbws export`: what is written, what is refused, and that it runs."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from clients import SECONDS, free_port, talk
from nbclient import NotebookClient
from test_dev import developing
from test_programs import hear, running
from websockets.asyncio.client import ClientConnection, connect

from nbws.cli import main
from nbws.errors import NbwsError
from nbws.export import export
from nbws.notebook.magics import written_out

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
APP = "#| default_exp web\n#| export\nfrom nbws.common import *\napp = App()"

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def notebook(*sources: str, path: str = "web.ipynb") -> Path:
    cells = [
        nbformat.v4.new_code_cell(source, id=f"cell-{number}", metadata={}) for number, source in enumerate(sources, 1)
    ]
    written = nbformat.v4.new_notebook(cells=cells)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(written, path)
    return Path(path)


def refused(*sources: str, output: str | None = None) -> str:
    """What is said when a notebook with these cells is not exported; nothing is written then."""
    path = notebook(*sources)
    before = sorted(Path.cwd().rglob("*"))
    with pytest.raises(NbwsError) as told:
        export([path], Path(output) if output is not None else None)
    assert sorted(Path.cwd().rglob("*")) == before
    return str(told.value)


# -- what nbdev's directives do


def test_cells_that_are_exported_are_the_module_and_others_are_not() -> None:
    path = notebook(
        APP,
        "#| exports\ndef shown(): pass",
        "#|exporti\ndef not_in_all(): pass",
        "#| hide\nleft_out = 1",
        "not_marked = 2",
        "#| export\n#| eval: false\nalso = 3",
    )
    (written,) = export([path])
    assert written.module == Path.cwd() / "web.py"
    assert (written.cells, written.of) == (4, 6)
    text = written.module.read_text()
    assert "__all__ = ['app', 'also', 'shown']" in text
    assert "def not_in_all" in text
    assert "left_out" not in text
    assert "not_marked" not in text
    assert "#|" not in text


def test_it_is_byte_for_byte_what_nbdev_itself_writes() -> None:
    """The file is the same as without nbws; but for %%ws, which nbdev copies."""
    shutil.copy(NOTEBOOKS / "03-game-of-life.ipynb", "life.ipynb")
    code = "from nbdev.export import nb_export; nb_export('life.ipynb', lib_path='.')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    by_nbdev = Path("life.py").read_bytes()
    Path("life.py").unlink()
    export([Path("life.ipynb")])
    assert Path("life.py").read_bytes() == by_nbdev


def test_directives_in_the_metadata_count_as_for_nbdev() -> None:
    path = notebook("x = 1", "y = 2")
    read = json.loads(path.read_text())
    read["cells"][0]["metadata"]["nbdev"] = {"export": "true", "default_exp": "quiet"}
    path.write_text(json.dumps(read))
    (written,) = export([path])
    assert written.module.name == "quiet.py"
    assert "x = 1" in written.module.read_text()
    assert "y = 2" not in written.module.read_text()


def test_the_module_goes_where_it_is_told_whatever_the_notebook_says() -> None:
    path = notebook(APP)
    (written,) = export([path], Path("nbws/chat.py"))  # in a folder that is called like what it imports
    assert written.module == Path.cwd() / "nbws" / "chat.py"
    assert "from nbws.common import *" in written.module.read_text()
    assert not Path("web.py").exists()


def test_it_is_written_again_but_never_over_a_file_that_somebody_has_written() -> None:
    path = notebook(APP)
    export([path])
    notebook(APP, "#| export\nmore = 1")
    export([path])
    assert "more = 1" in Path("web.py").read_text()
    Path("web.py").write_text("mine = 1\n")
    with pytest.raises(NbwsError, match=r"web.py is there, and no export has made it; move it away"):
        export([path])
    assert Path("web.py").read_text() == "mine = 1\n"


def test_several_notebooks_are_all_checked_before_one_is_written() -> None:
    good, bad = notebook(APP, path="good.ipynb"), notebook("x = 1", path="bad.ipynb")
    with pytest.raises(NbwsError, match=r"bad.ipynb: nothing is exported"):
        export([good, bad])
    assert not Path("web.py").exists()
    same = notebook(APP, path="same.ipynb")
    with pytest.raises(NbwsError, match=r"web.py is what two of the notebooks make"):
        export([good, same])
    with pytest.raises(NbwsError, match=r"-o names one module, for one notebook; got 2"):
        export([good, same], Path("x.py"))


# -- what nbdev does not look after


def test_a_directive_under_a_comment_is_named_with_its_cell() -> None:
    told = refused(APP, "# The page\n#| export\n@app.get('/')\ndef index(): pass")
    assert told == (
        "web.ipynb: cell 2 (id cell-2, '# The page'): line 2, \"#| export\", counts as a comment, for a comment stands "
        "above it; make it the first line of the cell"
    )


def test_a_directive_under_code_is_named_too_and_the_line_is_that_of_the_cell() -> None:
    told = refused(APP, "#| hide\n\nx = 1\n#| export\ny = 2")
    assert "cell 2 (id cell-2, 'x = 1'): line 4, \"#| export\", counts as a comment, for code stands above it" in told


def test_what_only_looks_like_a_directive_is_none() -> None:
    export([notebook(APP, '#| export\ntext = """\n#| export\n"""\nx = 1  # such as #| export\n# | is a bar')])
    assert "#| export" in Path("web.py").read_text()


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("page = 1\nawait asyncio.sleep(0)", "line 3, 'await asyncio.sleep(0)'"),
        ("async with thing: pass", "line 2, 'async with thing: pass'"),
        ("[x async for x in y]", "line 2, '[x async for x in y]'"),
    ],
)
def test_await_outside_of_a_function_is_refused(code: str, line: str) -> None:
    told = refused(APP, f"#| export\n{code}")
    assert f"{line}, awaits outside of a function, which no module can" in told
    assert '@app.on_event("startup")' in told
    assert "cell 2" in told


def test_await_in_a_cell_that_is_not_exported_or_in_a_function_is_nobodys_business() -> None:
    export([notebook(APP, "await asyncio.sleep(0)", "#| export\nasync def f():\n    await asyncio.sleep(0)")])


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("x = 1\n%nbws", "line 3, '%nbws', is for IPython"),
        ("x = 1\n!ls", "line 3, '!ls', is for IPython"),
        ("files = !ls", "line 2, 'files = !ls', is for IPython"),
        ("x = 1\nx?", "line 3, 'x?', is for IPython"),
        ("def f():\n    %time g()", "line 3, '%time g()', is for IPython"),
    ],
)
def test_a_line_for_ipython_is_refused(code: str, line: str) -> None:
    told = refused(APP, f"#| export\n{code}")
    assert line in told
    assert "move it into a cell of its own that is not exported" in told


def test_a_cell_for_a_magic_is_refused() -> None:
    told = refused(APP, "%%time\n#| export\nx = 1")
    assert "line 1, '%%time', no module can run a cell of %%time" in told


def test_what_python_does_not_understand_is_refused() -> None:
    assert "cell 2 (id cell-2, 'x = (1'): line 2, 'x = (1', is no Python" in refused(APP, "#| export\nx = (1")
    assert "'return' outside function" in refused(APP, "#| export\nreturn 1")
    assert "imports relative to a package" in refused(APP, "#| export\nfrom .other import x")


def test_all_that_is_wrong_is_said_at_once() -> None:
    told = refused(APP, "# x\n#| export\nx = 1", "#| export\nawait x", "#| export\n%time x")
    assert [line.partition(" (")[0] for line in told.splitlines()] == [
        f"web.ipynb: cell {number}" for number in (2, 3, 4)
    ]


def test_a_notebook_with_nothing_exported_says_how_to_begin() -> None:
    assert 'write "#| export" as the first line of each cell' in refused("x = 1")
    assert "cell 1 (id cell-1, '# export'): '# export' is a comment; nbdev wants a bar" in refused("# export\nx = 1")
    assert "nothing is exported" in refused()
    told = CliRunner().invoke(main, ["export", str(NOTEBOOKS / "04-hot-swap.ipynb")])
    assert told.exit_code == 1
    assert "nothing is exported" in told.output


def test_a_module_needs_a_name_that_can_be_imported() -> None:
    assert 'no cell says "#| default_exp NAME"' in refused("#| export\nx = 1")
    assert "names no module" in refused("#| default_exp 01-chat\n#| export\nx = 1")
    assert "names no module" in refused("#| default_exp\n#| export\nx = 1")
    assert "-o 01-chat.py is no name of a module" in refused("#| export\nx = 1", output="01-chat.py")
    assert "-o chat is no name of a module" in refused("#| export\nx = 1", output="chat")


def test_a_slip_of_the_pen_is_named_and_a_directive_of_others_is_let_alone() -> None:
    assert '"#| exprot" means nothing to nbdev; write "#| export"' in refused(APP, "#| exprot\nx = 1")
    export([notebook(APP, "#| echo: false\n#| label: fig\nx = 1")])


def test_what_adds_to_a_module_of_another_notebook_is_left_to_nbdev() -> None:
    assert '"#| export other" adds to a module that another notebook makes' in refused(APP, "#| export other\nx = 1")


def test_what_is_no_notebook_is_refused() -> None:
    with pytest.raises(NbwsError, match=r"there is no notebook nowhere.ipynb"):
        export([Path("nowhere.ipynb")])
    Path("half.ipynb").write_text('{"cells": [')
    with pytest.raises(NbwsError, match=r"half.ipynb is no notebook: "):
        export([Path("half.ipynb")])
    Path("other.ipynb").write_text("[]")
    with pytest.raises(NbwsError, match="no notebook of nbformat 4"):
        export([Path("other.ipynb")])


def test_without_nbdev_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nbdev", None)
    with pytest.raises(NbwsError, match=re.escape("pip install 'nbws[export]'")):
        export([notebook(APP)])


# -- %%ws


def test_a_ws_cell_becomes_the_handler_that_it_is() -> None:
    joined = "#| export\ndef joined(): pass"
    cell = "%%ws /chat/{room} text: str, room: str --conn joined\n#| export\n\nP(room, id='out')\n"
    export([notebook(APP, joined, cell)])
    text = Path("web.py").read_text()
    assert '@app.ws("/chat/{room}", conn=joined)' in text.replace("'", '"')
    assert "async def chat(text: str, room: str):\n    return P(room, id='out')" in text
    code = "import web; assert list(web.app.endpoints) == ['/chat/{room}'], web.app.endpoints"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env={**os.environ, "PYTHONPATH": _path()})


def _path() -> str:
    return os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("P(\n  1,\n)", "    return P(\n      1,\n    )"),
        ("x = 1; x", "    x = 1; return x"),
        ("'é'; 'é'", "    'é'; return 'é'"),
        ("yield 1", "    yield 1"),
        ("for x in 'ab':\n    yield x\nx", "    for x in 'ab':\n        yield x\n    x"),
        ('text = """\nas it\n  stands\n"""\nP(text)', '    text = """\nas it\n  stands\n"""\n    return P(text)'),
        ('f"""{1}\nas it stands"""', '    return f"""{1}\nas it stands"""'),
        ("# nothing", "    pass"),
        ("", "    pass"),
        ("await x\nreturn 2", "    await x\n    return 2"),
    ],
)
def test_its_body_says_the_same_in_a_function(body: str, made: str) -> None:
    assert written_out(f"%%ws /ws\n{body}", "app") == f"@app.ws('/ws')\nasync def ws():\n{made}\n"


def test_its_app_is_the_one_that_is_exported_or_the_one_that_it_names() -> None:
    other = "#| default_exp web\n#| export\nfrom nbws.common import *\nother, rt = fast_app()"
    export([notebook(other, "%%ws /ws\n#| export\n1")])
    assert "@other.ws('/ws')" in Path("web.py").read_text()
    two = "#| default_exp web\n#| export\nfrom nbws.common import *\na = App(); b = App()"
    export([notebook(two, "%%ws /ws --app b\n#| export\n1")])
    assert "@b.ws('/ws')" in Path("web.py").read_text()
    Path("web.py").unlink()
    assert "of which app? No exported cell makes it" in refused(two, "%%ws /ws\n#| export\n1")


def test_a_ws_cell_that_cannot_work_is_refused() -> None:
    assert "%%ws got the path 'ws'" in refused(APP, "%%ws ws\n#| export\n1")
    assert "%%ws: (a b) are no parameters" in refused(APP, "%%ws /ws a b\n#| export\n1")
    assert "'return 1' is no Python: 'return' with value in async generator" in refused(
        APP, "%%ws /ws\n#| export\nyield 1\nreturn 1"
    )
    assert "line 4, 'x = (', is no Python" in refused(APP, "%%ws /ws\n#| export\n1\nx = (")


# -- a project of nbdev

PROJECT = '[project]\nname = "shop"\nversion = "0"\n[tool.nbdev]\nlib_path = "shop"\nnbs_path = "nbs"\n'


def nbdev(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of nbdev's commands, as it is installed."""
    script = Path(sysconfig.get_path("scripts")) / command
    return subprocess.run([script, *arguments], capture_output=True, text=True, timeout=100)


def test_in_a_project_the_module_goes_into_its_package_as_by_nbdevs_own_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("pyproject.toml").write_text(PROJECT + 'export_procs = ["nbws.export:WsCells"]\n')
    path = notebook(
        APP.replace("web", "web.pages"), "%%ws /ws\n#| export\n1", "#| export\nfrom shop.x import y", path="nbs/w.ipynb"
    )
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    (written,) = export([Path("..") / path])
    monkeypatch.chdir("..")
    assert written.module.resolve() == Path("shop/web/pages.py").resolve()
    text = Path("shop/web/pages.py").read_text()
    assert "from ..x import y" in text
    assert "@app.ws('/ws')" in text
    told = nbdev("nbdev-export")
    assert told.returncode == 0, told.stderr
    assert Path("shop/web/pages.py").read_text() == text
    assert Path("shop/_modidx.py").exists()


def test_a_project_that_cannot_be_read_is_named() -> None:
    Path("pyproject.toml").write_text(PROJECT + 'export_procs = ["nowhere_at_all:Proc"]\n')
    assert "the nbdev project of web.ipynb cannot be read" in refused(APP)


def test_nbdev_test_passes_on_our_notebooks(tmp_path: Path) -> None:
    for path in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(path, tmp_path)
    told = nbdev("nbdev-test", ".", "--n-workers", "1")
    assert told.returncode == 0, told.stderr
    assert "Success" in told.stdout


# -- our notebooks, exported


def test_the_tutorials_are_exported_by_one_command() -> None:
    notebooks = [str(path) for path in sorted(NOTEBOOKS.glob("0[123]*.ipynb"))]
    told = CliRunner().invoke(main, ["export", *notebooks])
    assert told.exit_code == 0, told.output
    assert "chat.py: 4 cells of the 9 with code in " in told.output
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["chat.py", "life.py", "session.py"]
    for path in Path.cwd().iterdir():
        ast.parse(path.read_text())


def test_the_chat_is_exported_served_as_a_script_and_two_clients_chat() -> None:
    CliRunner().invoke(main, ["export", str(NOTEBOOKS / "01-chat.ipynb")], catch_exceptions=False)

    async def visit() -> None:
        async with running(Path("chat.py")) as program:
            address = f"ws://localhost:{program.port}/chat"
            async with connect(address) as ann, connect(address) as bob:
                await _until(bob, "is here")
                await ann.send(json.dumps({"text": "<hi>"}))
                for socket in (ann, bob):
                    assert re.search("<strong>Guest [0-9a-f]{4}</strong>: &lt;hi&gt;", await _until(socket, "&lt;hi"))
                await bob.send(json.dumps({"text": "ho"}))
                await _until(ann, ": ho</li>")
            assert "&lt;hi&gt;" in (await program.get("/")).text

    talk(visit())


async def _until(socket: ClientConnection, text: str) -> str:
    while True:
        said = await hear(socket)
        if text in said:
            return said


def test_uvicorn_serves_the_module_by_its_name(tmp_path: Path) -> None:
    CliRunner().invoke(main, ["export", str(NOTEBOOKS / "01-chat.ipynb")], catch_exceptions=False)

    async def visit() -> None:
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "chat:app", "--port", str(port)]
        process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stderr=asyncio.subprocess.PIPE)
        try:
            assert process.stderr is not None
            while b"running on" not in await asyncio.wait_for(process.stderr.readline(), SECONDS * 4):
                pass
            async with connect(f"ws://127.0.0.1:{port}/chat") as socket:
                assert "is here" in await hear(socket)
        finally:
            process.kill()
            await process.communicate()

    talk(visit())


def test_an_export_is_a_save_to_the_nbws_dev_that_serves_the_module(tmp_path: Path) -> None:
    handler = "#| export\n@app.ws('/ws')\nasync def echo(text: str): return P({}, text, id='out')"
    export([notebook(APP, handler.format("'one '"))])
    with developing(tmp_path, "web.py") as dev:
        dev.wait_for("Ctrl")
        with dev.connect() as socket:
            export([notebook(APP, handler.format("'two '"))])
            assert dev.wait_for("WS /ws v1 → v2")
            socket.send(json.dumps({"text": "hi"}))
            assert ">two hi<" in str(socket.recv(timeout=SECONDS))


def test_what_a_notebook_has_shown_and_been_told_is_in_no_export() -> None:
    """Outputs, metadata and credentials of a run stay behind: the module holds what exported cells say."""
    read = nbformat.read(NOTEBOOKS / "01-chat.ipynb", as_version=4)
    ask = nbformat.v4.new_code_cell("print('canary', app.token, app.url)", id="ask")
    read.cells.append(ask)
    read.cells.append(nbformat.v4.new_code_cell("secret = 'canary-in-a-cell'", id="not-exported"))
    read.metadata["canary"] = "canary-in-metadata"
    NotebookClient(read, timeout=60).execute()
    nbformat.write(read, "ran.ipynb")
    saved = Path("ran.ipynb").read_text()
    (token,) = re.findall(r"canary (\w{20,}) http", saved)
    tickets = re.findall(r"nbws-ticket=([\w-]+)", saved)
    assert tickets  # they were there to be found
    export([Path("ran.ipynb")])
    text = Path("chat.py").read_text()
    for secret in (token, *tickets, "canary", "nbws-ticket", "token"):
        assert secret not in text
