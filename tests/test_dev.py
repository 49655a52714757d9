"""`nbws dev` as its user meets it: a real process, real files, real websockets, and what the terminal shows."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from clients import HEADERS, free_port, running
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from nbws import App
from nbws.cli import main
from nbws.dev import what_changed, what_is_live
from nbws.handlers import HandlerTable

SECONDS = 10.0  #: how long a line or an answer may take
NBWS = [sys.executable, "-c", "from nbws.cli import main; main(prog_name='nbws')"]
HEAD = "from nbws.common import *\napp = App()\n"
ECHO = """
@app.ws({path!r})
async def {name}(text: str, send):
    await send(P({word}, text, id="out"))
"""


def echo(word: str = "'one '", path: str = "/ws", name: str = "echo") -> str:
    return ECHO.format(word=word, path=path, name=name)


class Dev:
    """`nbws dev` that runs in *folder*, and what it prints."""

    def __init__(self, folder: Path, target: str, *options: str, **env: str) -> None:
        self.folder, self.target, self.port = folder, target, free_port()
        self.process = subprocess.Popen(
            [*NBWS, "dev", target, "--port", str(self.port), *options],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.said = ""

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def wait_for(self, pattern: str) -> str:
        """The next line in which *pattern* is found."""
        end = time.monotonic() + SECONDS
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except Empty:
                raise AssertionError(f"{pattern!r} was not printed, but this:\n{self.said}") from None
            self.said += line
            if re.search(pattern, line):
                return line.strip()

    def write(self, text: str, name: str | None = None) -> None:
        (self.folder / (name or self.target)).write_text(text)

    def save(self, text: str, name: str | None = None) -> str:
        """Write a file, and give the line that says what came of it."""
        self.said = ""
        self.write(text, name)
        return self.wait_for(r"^\S+\.(py|ipynb)\b")

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def connect(self, path: str = "/ws") -> connect:
        return connect(f"ws://localhost:{self.port}{path}", open_timeout=SECONDS, close_timeout=SECONDS)

    def end(self, number: int = signal.SIGINT) -> str:
        """What it prints when it gets this signal, to its end."""
        self.process.send_signal(number)
        self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        said = ""
        while not self._lines.empty():
            said += self._lines.get()
        return said


@contextmanager
def developing(folder: Path, target: str, *options: str, **env: str) -> Iterator[Dev]:
    dev = Dev(folder, target, *options, **env)
    try:
        yield dev
    finally:
        dev.process.kill()
        dev.process.wait(SECONDS)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    folder = tmp_path_factory.mktemp("program")
    (folder / "web.py").write_text(HEAD + echo())
    with developing(folder, "web.py") as dev:
        dev.wait_for("is swapped in")
        yield dev


@pytest.fixture
def dev(serving: Dev) -> Dev:
    """A program that serves, of whichever test before."""
    serving.save(HEAD + "# begins anew\n" + echo("'none '"))
    return serving


def say(client: ClientConnection, text: str) -> None:
    client.send(json.dumps({"text": text, "HEADERS": HEADERS}))


def hear(client: ClientConnection) -> str:
    return re.sub("<[^>]*>", "", str(client.recv(timeout=SECONDS)))


def ask(client: ClientConnection, text: str) -> str:
    say(client, text)
    return hear(client)


# -- a program


def test_a_save_swaps_the_handler_under_the_open_connection(dev: Dev) -> None:
    dev.save(HEAD + echo())
    with dev.connect() as client:
        assert ask(client, "a") == "one a"
        assert re.fullmatch(r"web\.py: WS /ws v\d+ → v\d+", dev.save(HEAD + echo("'two '")))
        assert ask(client, "b") == "two b"
        assert dev.save(HEAD + "# a comment\n" + echo("'two '")) == "web.py: nothing changed"
        assert ask(client, "c") == "two c"


def test_a_message_in_flight_finishes_on_the_version_that_it_began_with(dev: Dev) -> None:
    text = HEAD + "gate = asyncio.Event()\n@app.ws('/ws')\nasync def ws(text: str):\n"
    text += "    if text == 'wait': yield P('waits', id='out'); await gate.wait()\n    if text == 'go': gate.set()\n"
    dev.save(text + "    yield P('one ', text, id='out')\n")
    with dev.connect() as slow, dev.connect() as other:
        assert ask(slow, "wait") == "waits"
        dev.save(text + "    yield P('two ', text, id='out')\n")
        assert ask(other, "go") == "two go"
        assert hear(slow) == "one wait"
        assert ask(slow, "on") == "two on"


def test_a_swap_hook_moves_the_state_of_open_connections(dev: Dev) -> None:
    text = (
        HEAD
        + "def move(ws, state, old, new):\n    state['n'] = state.get('n', 0) + 1\n    return P('moved', id='out')\n"
    )
    text += "@app.ws('/ws', swap=move)\nasync def ws(text: str, ws): return P({}, ws.state.n, id='out')\n"
    dev.save(text.replace("ws.state.n", "0").format("'one '"))
    with dev.connect() as client:
        assert ask(client, "a") == "one 0"
        dev.save(text.format("'two '"))
        assert [hear(client), ask(client, "a")] == ["moved", "two 1"]


def test_state_survives_a_save_and_what_was_changed_is_told(dev: Dev) -> None:
    text = HEAD + "users = {}\nword = 'one '\n@app.ws('/ws')\ndef ws(text: str):\n    users[text] = 1\n"
    dev.save(text + "    return P(word, len(users), id='out')\n")
    with dev.connect() as client:
        assert [ask(client, "ann"), ask(client, "bob")] == ["one 1", "one 2"]
        said = dev.save(text.replace("'one '", "'two '") + "    return P(word, len(users), id='out')\n")
        assert said == "web.py: changed: word"
        assert ask(client, "cid") == "two 3"


def test_a_file_that_does_not_run_changes_nothing_and_is_mended(dev: Dev) -> None:
    text = HEAD + "word = 'one '\ndef greet(): return word\n" + echo("greet()")
    dev.save(text)
    edited = text.replace("'one '", "'two '").replace("return word", "return 2 * word") + echo(path="/new", name="new")
    with dev.connect() as client:
        for ending, shown in (
            ("1 / 0\n", "ZeroDivisionError: division by zero"),
            ("def (\n", "SyntaxError: invalid syntax"),
            ("@app.ws('/x')\ndef x(text): pass\n", "text has neither an annotation nor a reserved name"),
        ):
            said = dev.save(edited + ending)
            assert re.fullmatch(r"web\.py does not run\. Nothing changed; live as before: WS /ws v\d+", said), dev.said
            assert shown in dev.said
            assert f'File "{dev.folder / "web.py"}", line' in dev.said
            assert "program.py" not in dev.said, "the traceback is the author's"
            assert ask(client, "a") == "one a"
        assert dev.save("word = 1\n").startswith("web.py has no App named 'app'. Nothing changed; live as before")
        assert ask(client, "a") == "one a"
        assert dev.save(edited) == "web.py: new WS /new; changed: greet, word"
        assert ask(client, "a") == "two two a"


def test_a_route_that_is_removed_retires_and_delivers_what_waited_when_it_is_back(dev: Dev) -> None:
    dev.save(HEAD + echo())
    with dev.connect() as client:
        assert ask(client, "1") == "one 1"
        assert dev.save(HEAD) == "web.py: retired WS /ws"
        for text in "abc":
            say(client, text)
        assert re.fullmatch(r"web\.py: WS /ws is back as v\d+", dev.save(HEAD + echo("'two '")))
        assert [hear(client) for _ in "abc"] == ["two a", "two b", "two c"]


def test_a_helper_is_watched_and_one_that_does_not_run_changes_nothing(dev: Dev) -> None:
    dev.write("users = {}\ndef greet(text): return 'Hello '\n", "helper.py")
    dev.save(HEAD + "import helper\n" + echo("helper.greet(text), len(helper.users), ' '"))
    with dev.connect() as client:
        assert ask(client, "a") == "Hello 0 a"
        said = dev.save("users = {}\ndef greet(text): return 'Bye '\n1 / 0\n", "helper.py")
        assert said.startswith("helper.py does not run. Nothing changed")
        assert ask(client, "a") == "Hello 0 a"
        said = dev.save("users = {}\ndef greet(text):\n    users[text] = 1\n    return 'Bye '\n", "helper.py")
        assert said == "helper.py: changed: greet"
        assert ask(client, "a") == "Bye 1 a"
        dev.save("users = {}\ndef greet(text): return 'Again '\n", "helper.py")
        assert ask(client, "a") == "Again 1 a"


def test_an_editor_may_rename_its_file_over_the_old_one_or_remove_that_first(dev: Dev) -> None:
    dev.save(HEAD + echo())
    path = dev.folder / "web.py"
    with dev.connect() as client:
        for word in ("two", "three"):
            other = dev.folder / "web.py~"
            other.write_text(HEAD + echo(f"'{word} '"))
            os.replace(other, path)
            dev.wait_for("^web.py: WS /ws")
            assert ask(client, "a") == f"{word} a"
        path.unlink()
        assert ask(client, "a") == "three a"
        path.write_text(HEAD + echo("'four '"))
        dev.wait_for("^web.py: WS /ws")
        assert ask(client, "a") == "four a"


def test_of_saves_in_quick_succession_the_last_one_stays(dev: Dev) -> None:
    dev.save(HEAD + echo())
    with dev.connect() as client:
        for number in range(30):
            dev.write(HEAD + echo(f"'{number} '"))
        dev.write(HEAD + echo("'last '") + echo(path="/last", name="last"))
        dev.wait_for("new WS /last")  # how many runs there were before depends on the machine
        assert ask(client, "x") == "last x"


def test_open_pages_are_told_of_what_changes(dev: Dev) -> None:
    text = HEAD + "word = 'one'\n@app.get('/')\ndef index(): return P(word)\n"
    dev.save(text)
    with httpx.stream("GET", dev.url + "/_nbws/feed", timeout=SECONDS, trust_env=False) as feed:
        events = (json.loads(line[6:]) for line in feed.iter_lines() if line.startswith("data: {"))
        versions = (each["version"] for event in events for each in event["endpoints"] if each["path"] == "/")
        before = next(versions)
        dev.save(text.replace("P(word)", "P(word, '!')"))
        assert before + 1 in versions  # read until it comes


def test_an_error_of_a_handler_is_shown_in_the_terminal(dev: Dev) -> None:
    dev.save(HEAD + "@app.ws('/ws')\ndef ws(text: str): 1 / int(text)\n")
    with dev.connect() as client:
        say(client, "0")
        dev.wait_for("^ZeroDivisionError: division by zero")
        assert re.search(r"ws v\d+ on WS /ws", dev.said)


def test_the_app_of_another_name_is_another_app_and_is_served_in_place_of_the_one_before(dev: Dev) -> None:
    dev.save(HEAD + echo())
    with dev.connect() as client:
        dev.write(HEAD.replace("App()", "App('other')") + echo("'two '"))
        dev.wait_for("makes another app now")
        assert dev.wait_for("new WS /ws") == "web.py: new WS /ws; changed: app"
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=SECONDS)
        assert client.close_code == 1012
    with dev.connect() as client:
        assert ask(client, "a") == "two a"
    assert dev.save("1 / 0").endswith("live as before: WS /ws v1")


def test_a_program_that_does_not_run_at_first_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(HEAD + "import helper\n" + echo() + "serve()\n")
    with developing(tmp_path, "web.py") as dev:
        dev.wait_for("web.py does not run. Nothing is live yet; save it again when it is mended.")
        assert "ModuleNotFoundError" in dev.said
        dev.write("if __name__ == '__main__': print('never')\n", "helper.py")
        assert dev.wait_for("is swapped in") == (
            "Each save of web.py, helper.py is swapped in under the open connections. Ctrl+C stops."
        )
        assert f"nbws: {dev.url}" in dev.said
        assert "never" not in dev.said
        with dev.connect() as client:
            assert ask(client, "a") == "one a"


def test_a_startup_that_fails_is_shown_and_tried_again_with_the_next_save(tmp_path: Path) -> None:
    text = HEAD + "@app.on_event('startup')\ndef begin(): {}\n@app.task\nasync def work(): print('works')\n"
    (tmp_path / "web.py").write_text(text.format("1 / 0"))
    with developing(tmp_path, "web.py") as dev:
        dev.wait_for("the server did not start: ZeroDivisionError: division by zero")
        assert f'File "{tmp_path / "web.py"}", line 4, in begin' in dev.said
        dev.write(text.format("print('began')"))
        dev.wait_for("^began")
        dev.wait_for("^works")
        edited = text.format("print('began')").replace("print('works')", "pass")
        assert dev.save(edited) == "web.py: task work v1 → v2"


def test_a_module_is_served_where_the_command_line_says(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "web.py").write_text(
        "from nbws.common import *\nfrom .words import word\nsite = App(port=1)\n" + echo("word").replace("app", "site")
    )
    (tmp_path / "shop" / "words.py").write_text("word = 'one '\n")
    with developing(tmp_path, "shop.web:site", "--host", "0.0.0.0") as dev:
        dev.wait_for("is swapped in")
        assert f"nbws: {dev.url}" in dev.said
        with dev.connect() as client:
            assert ask(client, "a") == "one a"
            (tmp_path / "shop" / "words.py").write_text("word = 'two '\n")
            dev.wait_for("^shop.words.py: changed: word")
            assert ask(client, "a") == "two a"


@pytest.mark.skipif(os.name == "nt", reason="no such signals there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly_when_it_is_told_to(tmp_path: Path, number: int) -> None:
    text = HEAD + echo() + "@app.on_event('shutdown')\ndef end(): print('ended')\n"
    (tmp_path / "web.py").write_text(text)
    with developing(tmp_path, "web.py") as dev:
        dev.wait_for("is swapped in")
        with dev.connect() as client:
            assert ask(client, "a") == "one a"
            began = time.monotonic()
            said = dev.end(number)
            assert time.monotonic() - began < 6
            with pytest.raises(ConnectionClosed):
                client.recv(timeout=SECONDS)
            assert client.close_code == 1012
        assert said.strip() == "ended"
        assert dev.process.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to send there")
def test_it_stops_while_the_program_runs_on_and_on(tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(HEAD + echo())
    with developing(tmp_path, "web.py") as dev:
        dev.wait_for("is swapped in")
        dev.write(HEAD + "print('hangs')\nwhile True: pass\n")
        dev.wait_for("hangs")
        with dev.connect() as client:
            assert ask(client, "a") == "one a"
            assert "Traceback" not in dev.end()
        assert dev.process.returncode == 0


def refused(*command: str, cwd: Path) -> str:
    """What `nbws dev` says where it ends at once."""
    done = subprocess.run([*NBWS, "dev", *command], cwd=cwd, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_module_that_is_not_there_and_a_port_that_is_taken_end_it_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(HEAD)
    assert "there is no module nothing; TARGET is a script.py" in refused("nothing:app", cwd=tmp_path)
    with running(App(port=0)) as taken:
        assert "is taken by another program" in refused("web.py", "--port", str(taken.port), cwd=tmp_path)


def test_a_file_or_a_library_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def says(target: str) -> str:
        result = CliRunner().invoke(main, ["dev", str(tmp_path / target)])
        assert result.exit_code == 1
        return result.output

    (tmp_path / "chat.ipynb").write_text("{}")
    assert "there is no script" in says("none.py")
    assert "there is no notebook" in says("none.ipynb")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "IPython" else find(name))
    assert "pip install 'nbws[lab]'" in says("chat.ipynb")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "watchfiles" else find(name))
    assert "pip install 'nbws[watch]' installs it" in says("chat.ipynb")


def test_the_help_teaches() -> None:
    said = CliRunner().invoke(main, ["dev", "--help"]).output
    for word in ("chat.py", "chat.ipynb", "module:app", "users = {}", "30 s", "--port"):
        assert word in said


# -- a notebook


def notebook(*cells: tuple[str, str]) -> str:
    return json.dumps(
        {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {},
            "cells": [
                {
                    "cell_type": "code",
                    "id": id,
                    "source": source,
                    "metadata": {},
                    "outputs": [],
                    "execution_count": None,
                }
                for id, source in cells
            ],
        }
    )


APP = ("app", HEAD + "users = {}\nruns = []")
END = ("end", "runs.append(1)\nprint('runs', len(runs))")


@pytest.fixture(scope="module")
def noted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "chat.ipynb").write_text(notebook(APP, ("ws", echo())))
    with developing(folder, "chat.ipynb") as dev:
        dev.wait_for("Each save of chat.ipynb is swapped in")
        assert f"nbws: {dev.url}" in dev.said
        yield dev


def test_a_cell_that_is_edited_is_run_again_and_no_other_one(noted: Dev) -> None:
    noted.save(notebook(APP, ("ws", echo("'none '")), END))
    with noted.connect() as client:
        said = noted.save(notebook(APP, ("ws", echo("len(users), ' one '")), END))
        assert re.fullmatch(r"chat\.ipynb, cell 2: WS /ws v\d+ → v\d+", said)
        assert "runs" not in noted.said
        assert ask(client, "a") == "0 one a"
        noted.save(notebook(APP, ("count", "users[1] = 1"), ("ws", echo("len(users), ' one '")), END))
        assert ask(client, "b") == "1 one b"
        assert noted.save(notebook(APP, ("ws", echo("len(users), ' one '")), END)) == "chat.ipynb: nothing changed"


def test_a_cell_that_is_deleted_retires_its_routes_and_a_moved_one_keeps_them(noted: Dev) -> None:
    noted.save(notebook(APP, ("ws", echo("'del '")), END))
    with noted.connect() as client:
        assert ask(client, "1") == "del 1"
        assert noted.save(notebook(APP, END)) == "chat.ipynb: retired WS /ws"
        say(client, "waits")
        assert "is back as" in noted.save(notebook(APP, ("other", echo("'back '")), END))
        assert hear(client) == "back waits"
        assert "→" in noted.save(notebook(APP, END, ("new", echo("'moved '"))))
        assert ask(client, "2") == "moved 2"


def test_the_first_cell_that_fails_stops_the_run_and_those_before_it_are_live(noted: Dev) -> None:
    noted.save(notebook(APP, ("ws", echo("'fine '")), END))
    with noted.connect() as client:
        broken = (APP, ("ws", echo("'first '")), ("bad", echo("'bad '") + "1 / 0"), ("after", echo("'after '")))
        said = noted.save(notebook(*broken))
        assert said.startswith(
            "chat.ipynb: cell 3 (id bad, \"@app.ws('/ws')\") does not run; cell 4 was not run. Live: WS"
        )
        assert 'File "<cell 3, run ' in noted.said
        assert "interactiveshell" not in noted.said
        assert ask(client, "a") == "first a"
        assert "does not run" in noted.save(notebook(*broken[:2], ("bad", "def ("), broken[3]))
        assert "SyntaxError" in noted.said
        assert noted.save(notebook(*broken[:2], ("bad", "x = 1"), broken[3])).startswith("chat.ipynb, cell 3, 4:")
        assert ask(client, "a") == "after a"
        noted.save(notebook(APP, END))


def test_magics_await_and_tasks_work_and_a_cell_may_be_left_out(noted: Dev) -> None:
    cells = (
        ("magic", "%%capture out\nprint('captured')"),
        ("time", "%time 1 + 1\n!echo of the shell"),
        ("await", "import asyncio\nawait asyncio.sleep(0)\nprint('awaited', out.stdout)"),
        ("skip", "#| eval: false\n1 / 0"),
        ("show", "app"),
        (
            "task",
            "async def later():\n    await asyncio.sleep(0.1)\n    print('later on')\nt = asyncio.create_task(later())",
        ),
    )
    noted.save(notebook(APP, *cells))
    for line in ("awaited captured", "of the shell"):
        assert line in noted.said
    assert "<App" not in noted.said, "outputs are not shown"
    noted.wait_for("^later on")


def test_a_notebook_that_is_half_written_is_waited_for(noted: Dev) -> None:
    whole = notebook(APP, ("ws", echo("'whole '")))
    noted.save(notebook(APP, ("ws", echo("'before '"))))
    with noted.connect() as client:
        with (noted.folder / "chat.ipynb").open("w") as file:
            file.write(whole[:60])
            file.flush()
            noted.write("", "beside")
            assert ask(client, "a") == "before a"
            file.write(whole[60:])
        noted.wait_for("^chat.ipynb, cell 2: WS /ws")
        assert ask(client, "a") == "whole a"
        assert "cannot be read" in noted.save(whole[:60])
        assert ask(client, "a") == "whole a"
        assert noted.save(whole) == "chat.ipynb: nothing changed"


def test_a_notebook_serves_by_itself_where_it_wants_to_and_says_so_where_it_has_no_app(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "data.txt").write_text("of the folder")
    (folder / "chat.ipynb").write_text(notebook(("a", "data = open('data.txt').read()")))
    with developing(tmp_path, "notes/chat.ipynb") as dev:
        dev.wait_for("chat.ipynb makes no App named 'app'. Nothing is live yet")
        text = HEAD + "app = App('b', port=1)\n@app.get('/')\ndef index(): return P(data)\nserve()"
        dev.write(notebook(("a", "data = open('data.txt').read()"), ("b", text)))
        dev.wait_for("is swapped in")
        assert "of the folder" in httpx.get(dev.url, trust_env=False).text
        assert f"nbws: {dev.url}" in dev.said
        assert "Traceback" not in dev.end()
        assert dev.process.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to send there")
@pytest.mark.parametrize("source", ["while True: pass", "import asyncio; await asyncio.sleep(60)"])
def test_it_stops_while_a_cell_runs_on_and_on(tmp_path: Path, source: str) -> None:
    (tmp_path / "chat.ipynb").write_text(notebook(APP, ("hang", f"print('hangs')\n{source}")))
    with developing(tmp_path, "chat.ipynb") as dev:
        dev.wait_for("^hangs")
        assert dev.end() == ""
        assert dev.process.returncode == 0


# -- what is said


def tables(first: App, define: Any) -> list[str]:
    before = first.table
    define()
    return what_changed(before, first.table)


def test_what_changed_is_told_in_the_words_of_an_author() -> None:
    app = App(port=0)

    def page(name: str) -> Any:
        return lambda: name

    assert tables(app, lambda: app.ws("/ws")(lambda ws: 1)) == ["new WS /ws"]
    assert tables(app, lambda: app.ws("/ws")(lambda ws: 2)) == ["WS /ws v1 → v2"]
    assert tables(app, lambda: app.get("/")(page("a"))) == ["new GET /"]
    assert tables(app, lambda: app.endpoints["/"].retire()) == ["retired GET /"]
    assert tables(app, lambda: app.get("/")(page("b"))) == ["GET / is back as v2"]
    assert tables(app, lambda: app.mount("/files", page("a"))) == ["new mount /files"]
    assert tables(app, lambda: app.mount("/files", page("a"))) == []
    assert tables(app, lambda: app.task(_tick, every=1)) == ["new task _tick"]
    assert tables(app, lambda: app.task(_tick, every=2)) == ["task _tick v1 → v2"]
    assert tables(app, lambda: app.on_event("startup")(_tick)) == ["new startup _tick"]
    assert tables(app, lambda: app.add_middleware(SimpleQueue)) == ["new middleware SimpleQueue"]
    assert tables(app, lambda: app.exception_handler(404)(page)) == ["new exception handler 404"]
    assert what_is_live(app.table) == ["WS /ws v2", "GET / v2"]
    assert what_changed(app.table, app.table) == []
    assert what_is_live(HandlerTable()) == []


def _tick() -> None: ...
