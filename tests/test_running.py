"""`nbws run`, `nbws new` and the shell's completion, as their user meets them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from clients import free_port
from test_dev import HEAD, NBWS, SECONDS, echo
from test_export import notebook
from websockets.sync.client import connect

from nbws.cli import main
from nbws.errors import NbwsError
from nbws.export import export
from nbws.layout import lay_out, project_files

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Run:
    """`nbws run` that serves."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port
        assert process.stdout is not None
        self.said = process.stdout.readline()
        while f"http://localhost:{port}" not in self.said:
            line = process.stdout.readline()
            assert line, self.said
            self.said += line

    def ask(self, text: str, path: str = "/ws") -> str:
        with connect(f"ws://localhost:{self.port}{path}", open_timeout=SECONDS) as socket:
            socket.send(json.dumps({"text": text}))
            return str(socket.recv(timeout=SECONDS))

    def end(self, number: int = signal.SIGINT) -> str:
        assert self.process.stdout is not None
        self.process.send_signal(number)
        too_late = threading.Timer(SECONDS, self.process.kill)
        too_late.start()
        said = self.process.stdout.read()  # not communicate(), which knows nothing of what was read ahead
        self.process.wait()
        too_late.cancel()
        return said


@contextmanager
def serving(target: str, *options: str) -> Iterator[Run]:
    port = free_port()
    process = subprocess.Popen(
        [*NBWS, "run", target, "--port", str(port), *options],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    try:
        yield Run(process, port)
    finally:
        process.kill()
        process.communicate()


def failing(target: str) -> str:
    """What is said by a `nbws run` that serves nothing."""
    done = subprocess.run([*NBWS, "run", target], capture_output=True, encoding="utf-8", timeout=SECONDS * 3)
    assert done.returncode == 1
    assert "http://" not in done.stdout
    assert "running.py" not in done.stderr
    assert "runpy" not in done.stderr
    return done.stderr


# -- what is served


def test_a_notebook_is_run_and_served_without_jupyter() -> None:
    path = notebook(
        HEAD, "%%ws /magic text: str\nP(text, id='out')", "#| eval: false\n1/0", "await asyncio.sleep(0)", "app"
    )
    with serving(str(path)) as run:
        assert run.ask("hi", "/magic") == '<p id="out" hx-swap-oob="true">hi</p>'
        assert "token" not in run.said
        page = httpx.get(f"http://localhost:{run.port}/nowhere")
        assert page.status_code == 404
        rest = run.end()
    assert "web.ipynb has run, 4 cells. Ctrl+C stops." in rest
    assert "Traceback" not in rest
    assert run.process.returncode == 0
    assert "\x1b" not in run.said + rest  # no bar where there is no terminal


@pytest.mark.parametrize("target", ["01-chat.ipynb", "03-game-of-life.ipynb"])
def test_our_notebooks_are_served(target: str) -> None:
    with serving(str(NOTEBOOKS / target)) as run:
        assert "<title>" in httpx.get(f"http://localhost:{run.port}/").text
        assert "Traceback" not in run.end(signal.SIGTERM)


def test_errors_of_handlers_are_for_the_terminal_and_not_for_visitors() -> None:
    path = notebook(HEAD, "@app.get('/')\ndef index(): raise ValueError('only for the author')")
    with serving(str(path)) as run:
        page = httpx.get(f"http://localhost:{run.port}/", headers={"accept": "text/html"})
        assert page.status_code == 500
        assert "only for the author" not in page.text
        assert "only for the author" in run.end()


def test_a_notebook_that_serves_itself_listens_where_the_command_says() -> None:
    path = notebook(HEAD.replace("App()", "App(port=1)") + echo(), "serve()", "print('after it')")
    with serving(str(path)) as run:
        assert run.ask("hi") == '<p id="out" hx-swap-oob="true">one hi</p>'
        assert "after it" in run.end()


def test_tasks_that_cells_have_started_go_on_while_it_serves() -> None:
    tick = "import asyncio\ncame = asyncio.Event()\nasync def later():\n    await asyncio.sleep(.05)\n    came.set()"
    task = "task = asyncio.create_task(later())"
    asked = "@app.get('/')\nasync def index(): return str(came.is_set())"
    path = notebook(HEAD, tick, task, asked)
    with serving(str(path)) as run:
        end = time.monotonic() + SECONDS
        while httpx.get(f"http://localhost:{run.port}/").text != "True":
            assert time.monotonic() < end


def test_a_script_and_a_module_are_served_and_their_serve_does_nothing() -> None:
    Path("chat.py").write_text(f"{HEAD}{echo()}\nserve()\n")
    Path("shop").mkdir()
    Path("shop/web.py").write_text(f"{HEAD.replace('app =', 'shop =')}{echo().replace('app.', 'shop.')}")
    for target in ("chat.py", "shop.web:shop", "shop.web"):
        with serving(target) as run:
            assert run.ask("hi") == '<p id="out" hx-swap-oob="true">one hi</p>'


# -- what is not


def test_a_cell_that_fails_ends_it_and_is_named_with_its_line() -> None:
    told = failing(str(notebook(HEAD, "x = 1\n\ndef f(): return x / 0\nf()", "print('not run')", "print('nor this')")))
    assert told.count("  File ") == 2
    assert "ZeroDivisionError: division by zero" in told
    assert told.splitlines()[-1] == (
        "Error: web.ipynb: cell 2 (id cell-2, 'x = 1') does not run, line 3: def f(): return x / 0; "
        "the 2 cells below it were not run, and nothing is served"
    )


def test_a_cell_that_is_no_python_is_named_with_its_line() -> None:
    told = failing(str(notebook(HEAD, "x = 1\ny = (")))
    assert "Error: web.ipynb: cell 2 (id cell-2, 'x = 1') does not run, line 2: y = (; nothing is served" in told


def test_what_an_earlier_cell_serves_stops_when_a_later_one_fails() -> None:
    path = notebook(HEAD.replace("App()", f"App(port={free_port()})"), "app.client(sync=True).get('/')", "1/0")
    assert "cell 3" in failing(str(path))


def test_a_script_that_fails_shows_its_own_frames_and_nothing_is_served() -> None:
    Path("helper.py").write_text("def broken(): return 1 / 0\n")
    Path("chat.py").write_text(f"{HEAD}import helper\nhelper.broken()\n")
    for target in ("chat.py", "chat:app"):
        told = failing(target)
        assert told.count("  File ") == 2
        assert 'chat.py", line 4' in told
        assert f"Error: {target} does not run, so nothing is served" in told


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("plain.py").write_text("from nbws import App\nfirst, second = App(), App()\n")
    Path("needs.py").write_text("import nowhere_at_all\n")
    for target, said in {
        "none.py": "there is no script none.py",
        "none.ipynb": "there is no notebook none.ipynb",
        "none.at.all:app": "there is no module none; TARGET is a script.py, a notebook.ipynb or module:app",
        "plain.py": "plain.py has no App named app; it has first, second",
        "needs:app": "needs:app does not run, so nothing is served",
    }.items():
        monkeypatch.setattr(sys, "path", [*sys.path])
        told = CliRunner().invoke(main, ["run", target])
        assert told.exit_code == 1
        assert said in told.output, target
    assert "web.ipynb makes no App named app, so nothing is served" in failing(str(notebook("x = 1")))


# -- on a terminal


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals there")
def test_on_a_terminal_a_bar_tells_which_cell_runs_and_what_cells_print_stands_alone() -> None:
    path = notebook(HEAD, "print('a line')\nprint('another')", "import time; time.sleep(.2)", "1/0")
    import pty

    screen, inner = pty.openpty()
    process = subprocess.Popen([*NBWS, "run", str(path)], stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    too_late = threading.Timer(SECONDS * 3, process.kill)
    too_late.start()
    said = b""
    with contextlib.suppress(OSError):  # Linux says so at the end
        while piece := os.read(screen, 4096):
            said += piece
    assert process.wait() == 1
    too_late.cancel()
    os.close(screen)
    text = said.decode()
    assert "1/4" in text
    assert "import time; time.sleep(.2)" in text
    assert "\r\x1b[2Ka line\r\nanother\r\n" in text
    assert "\x1b[?25h" in text  # the cursor is back
    assert "ZeroDivisionError" in text.rpartition("\x1b[2K")[2]


# -- nbws new


def test_a_new_project_is_installed_tested_exported_and_served(tmp_path: Path) -> None:
    told = CliRunner().invoke(main, ["new", "my-chat"])
    assert told.exit_code == 0, told.output
    assert "nbws run notebooks/my_chat.ipynb" in told.output
    project = tmp_path / "my-chat"
    python = _environment(tmp_path / "venv")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-e", str(project)], check=True, timeout=60)
    tested = subprocess.run([python, "-m", "pytest", "-q", str(project)], capture_output=True, text=True, timeout=60)
    assert "2 passed" in tested.stdout, tested.stdout
    tested = subprocess.run([*NBWS, "test", str(project)], capture_output=True, text=True, timeout=60)
    assert "1 passed" in tested.stdout, tested.stdout

    written = (project / "my_chat" / "app.py").read_bytes()
    export([project / "notebooks" / "my_chat.ipynb"])
    assert (project / "my_chat" / "app.py").read_bytes() == written

    os.chdir(project)
    for target in ("notebooks/my_chat.ipynb", "my_chat.app:app"):
        with serving(target) as run:
            assert run.ask("<hi>", "/chat").endswith("<li>&lt;hi&gt;</li></ul>")


def _environment(folder: Path) -> Path:
    """The Python of a new environment, which has what this one has."""
    venv.create(folder, with_pip=False)
    here = sysconfig.get_path("purelib")
    (there,) = folder.glob("Lib/site-packages" if os.name == "nt" else "lib/python*/site-packages")
    (there / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def test_its_files_say_its_name_and_hold_nothing_unfilled() -> None:
    files = project_files("Bird-Song")
    assert "bird_song/app.py" in files
    assert "notebooks/bird_song.ipynb" in files
    assert not any(re.search(r"\{\{|\}\}", text) for text in files.values())
    assert 'Titled("Bird song"' in files["bird_song/app.py"]
    if sys.version_info >= (3, 11):
        import tomllib

        assert tomllib.loads(files["pyproject.toml"])["project"]["name"] == "Bird-Song"


@pytest.mark.parametrize("name", ["1st", "my chat", "class", "json", "nbws", "tests", "a/../b!", "-x", "x_", "été"])
def test_a_name_that_is_none_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(NbwsError, match=r"choose another name|is no name for a project"):
        lay_out(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    lay_out(tmp_path / "shop")
    (tmp_path / "shop" / "README.md").write_text("mine")
    with pytest.raises(NbwsError, match="shop is there already, and is not empty"):
        lay_out(tmp_path / "shop")
    assert (tmp_path / "shop" / "README.md").read_text() == "mine"


# -- help and completion


def test_help_teaches_by_example() -> None:
    def said(*arguments: str) -> str:
        done = CliRunner().invoke(main, [*arguments, "--help"], prog_name="nbws")
        assert done.exit_code == 0
        return done.output

    assert "_NBWS_COMPLETE=bash_source nbws" in said()
    for command in main.commands:
        assert f"nbws {command}" in said(command).partition("Usage:")[2].partition("\n")[2], command
        assert f"  {command} " in said()


def test_each_command_that_a_page_shows_is_one_with_these_options() -> None:
    root = NOTEBOOKS.parent
    shown = [
        shlex.split(line, comments=True)[1:]
        for page in (root / "README.md", *(root / "docs").glob("*.md"))
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
        if line.startswith("nbws ")
    ]
    assert len(shown) > 8
    for name, *arguments in shown:
        command = main.get_command(click.Context(main), name)
        assert command is not None, name
        command.make_context(name, arguments)


def complete(line: str) -> list[str]:
    """What the shell is told when TAB is pressed at the end of *line*."""
    *arguments, begun = line.split(" ")[1:]
    shell = ShellComplete(main, {}, "nbws", "_NBWS_COMPLETE")
    return [item.value for item in shell.get_completions(arguments, begun)]


def test_the_shell_completes_commands_options_and_what_can_be_served() -> None:
    for name in ("chat.py", "chat.ipynb", "chat.txt", ".hidden.py"):
        Path(name).touch()
    Path("notebooks").mkdir()
    Path("notebooks/life.ipynb").touch()
    assert complete("nbws e") == ["export"]
    assert {"run", "dev", "lab", "new"} <= set(complete("nbws "))
    assert complete("nbws run --p") == ["--port"]
    assert complete("nbws run ") == ["chat.ipynb", "chat.py", "notebooks/"]
    assert complete("nbws export ch") == ["chat.ipynb"]
    assert complete("nbws dev notebooks/l") == ["notebooks/life.ipynb"]
    assert complete("nbws run nowhere/x") == []
    env = {**os.environ, "_NBWS_COMPLETE": "bash_complete", "COMP_WORDS": "nbws run ch", "COMP_CWORD": "2"}
    done = subprocess.run(NBWS, env=env, capture_output=True, text=True, check=True, timeout=SECONDS * 2)
    assert done.stdout.splitlines() == ["plain,chat.ipynb", "plain,chat.py"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    env = {**os.environ, "_NBWS_COMPLETE": f"{shell}_source"}
    done = subprocess.run(NBWS, env=env, capture_output=True, text=True, timeout=SECONDS * 2)
    assert f"_NBWS_COMPLETE={shell}_complete" in done.stdout
