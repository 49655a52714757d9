"""An app in a real kernel, run cell by cell with JupyterLab's cell ids."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest
from kernel import Kernel
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

_ids = count(1)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel() as kernel:
        kernel.check("import", "from nbws.common import *\nimport threading, asyncio")
        yield kernel


class Author:
    """Somebody who writes one app in a notebook. Cells are told apart by short names."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.name = f"app{next(_ids)}"
        self.run("app", f"app = App({self.name!r})\napp.start()")

    def cell(self, name: str) -> str:
        return f"{self.name}-{name}"

    def run(self, cell: str, source: str) -> str:
        return self.kernel.check(self.cell(cell), source).stdout

    def fail(self, cell: str, source: str) -> str:
        ran = self.kernel.run(self.cell(cell), source)
        assert not ran.ok or ran.error, "the cell was to fail"
        return ran.error

    def ask(self, expression: str) -> object:
        return json.loads(self.kernel.check("ask", f"import json; print(json.dumps({expression}))").stdout)

    def versions(self) -> object:
        return self.ask("{path: each.version for path, each in app.endpoints.items()}")

    @property
    def url(self) -> str:
        return str(self.ask("app.url"))

    @property
    def token(self) -> str:
        return str(self.ask("app.token"))

    @contextmanager
    def client(self, path: str) -> Iterator[ClientConnection]:
        with connect(f"{self.url.replace('http', 'ws')}{path}?token={self.token}", close_timeout=5) as client:
            yield client


@pytest.fixture
def author(kernel: Kernel) -> Author:
    return Author(kernel)


def say(client: ClientConnection, text: str) -> None:
    client.send(json.dumps({"text": text, "HEADERS": {"HX-Request": "true"}}))


def ask(client: ClientConnection, text: str) -> str:
    say(client, text)
    return shown(client.recv(timeout=10))


def shown(frame: object) -> str:
    return re.sub("<[^>]*>", "", str(frame))


ECHO = """
@app.ws({path!r})
async def handler(text: str, send):
    await send(Div({word!r} + text, id="out"))
"""


def echo(word: str, path: str = "/ws") -> str:
    return ECHO.format(word=word, path=path)


# -- the swap


def test_a_cell_run_again_swaps_its_handler_under_the_open_connection(author: Author) -> None:
    author.run("ws", echo("one "))
    with author.client("/ws") as client:
        assert ask(client, "a") == "one a"
        author.run("ws", echo("two "))
        assert ask(client, "b") == "two b"
    assert author.versions() == {"/ws": 2}


def test_code_that_is_run_again_unchanged_is_the_same_version(author: Author) -> None:
    for _ in range(3):
        author.run("ws", echo("one "))
    author.run("ws", "# moved down by a comment\n\n" + echo("one "))
    assert author.versions() == {"/ws": 1}


def test_a_helper_that_another_cell_redefines_is_used_from_the_next_message_on(author: Author) -> None:
    author.run("helper", "def greet(text): return 'Hello ' + text")
    author.run("ws", "@app.ws('/ws')\nasync def h(text: str, send): await send(Div(greet(text), id='out'))")
    with author.client("/ws") as client:
        assert ask(client, "a") == "Hello a"
        author.run("helper", "def greet(text): return 'Bye ' + text")
        assert ask(client, "a") == "Bye a"
    assert author.versions() == {"/ws": 1}


def test_run_all_three_times_keeps_every_connection_and_version(author: Author) -> None:
    cells = {
        "app": f"app = App({author.name!r}, title='again')",
        "page": "@app.get('/')\ndef index(): return Titled('x')",
        "ws": echo("one "),
        "show": "app",
    }
    for name, source in cells.items():
        author.run(name, source)
    with author.client("/ws") as client:
        for _ in range(3):
            for name, source in cells.items():
                author.run(name, source)
        assert ask(client, "a") == "one a"
        assert author.ask("len(app.connections)") == 1
    assert author.versions() == {"/ws": 1, "/": 1}


def test_an_http_route_swaps_the_same_way(author: Author) -> None:
    page = "@app.get('/page')\ndef page(): return P({!r})"
    author.run("page", page.format("first"))
    with httpx.Client(base_url=author.url, params={"token": author.token}) as browser:
        assert "first" in browser.get("/page").text
        author.run("page", page.format("second"))
        assert "second" in browser.get("/page").text


# -- a failing cell


def test_a_cell_that_defines_two_routes_and_raises_changes_nothing(author: Author) -> None:
    author.run("ws", echo("one "))
    with author.client("/ws") as client:
        author.fail("ws", echo("two ") + echo("new ", "/other") + "\n1/0")
        assert ask(client, "a") == "one a"
    assert author.versions() == {"/ws": 1}


def test_a_syntax_error_changes_nothing(author: Author) -> None:
    author.run("ws", echo("one "))
    assert "SyntaxError" in author.fail("ws", echo("two ") + "\nthis is no python")
    assert author.versions() == {"/ws": 1}


def test_an_inner_cell_that_fails_under_capture_fails_the_cell(author: Author) -> None:
    author.run("ws", echo("one "))
    author.fail("ws", "%%capture\n" + echo("two ") + "\n1/0")
    assert author.versions() == {"/ws": 1}


def test_a_cell_under_capture_that_succeeds_is_published(author: Author) -> None:
    author.run("ws", echo("one "))
    author.run("ws", "%%capture\n" + echo("two "))
    assert author.versions() == {"/ws": 2}


def test_an_inner_failure_that_the_outer_cell_survives_still_discards(author: Author) -> None:
    author.kernel.run(author.cell("ws"), echo("one ") + "\nget_ipython().run_cell('1/0')\nx = 1")
    assert author.versions() == {}


def test_a_definition_that_cannot_work_raises_in_its_cell_and_says_what_to_write(author: Author) -> None:
    author.run("ws", echo("one "))
    error = author.fail("ws", "@app.ws('/ws')\nasync def h(text): pass")
    assert "text has neither an annotation nor a reserved name; write text: str" in error
    error = author.fail("ws", "@app.ws('/chat/{room')\nasync def h(text: str): pass")
    assert "the path '/chat/{room' does not parse" in error
    assert author.versions() == {"/ws": 1}


def test_an_interrupted_cell_changes_nothing_and_the_server_lives(author: Author) -> None:
    author.run("ws", echo("one "))
    with author.client("/ws") as client:
        source = echo("two ") + "\nprint('now', flush=True)\nimport time\ntime.sleep(60)"
        request = author.kernel.start(author.cell("ws"), source)
        author.kernel.wait_for_text(request, "now")
        author.kernel.interrupt()
        assert not author.kernel.finish(request).ok
        assert ask(client, "a") == "one a"


def test_an_interrupted_cell_that_awaits_changes_nothing(author: Author) -> None:
    author.run("ws", echo("one "))
    source = echo("two ") + "\nprint('now', flush=True)\nawait asyncio.sleep(60)"
    request = author.kernel.start(author.cell("ws"), source)
    author.kernel.wait_for_text(request, "now")
    author.kernel.interrupt()
    assert not author.kernel.finish(request).ok
    assert author.versions() == {"/ws": 1}


def test_options_of_a_failing_cell_do_not_apply(author: Author) -> None:
    author.run("app", f"app = App({author.name!r}, title='one')")
    author.fail("app", f"app = App({author.name!r}, title='two')\n1/0")
    assert author.ask("app.options.title") == "one"
    author.run("app", f"app = App({author.name!r}, title='two')")
    assert author.ask("app.options.title") == "two"


# -- owning


def test_a_cell_run_again_without_one_of_its_routes_retires_it(author: Author) -> None:
    author.run("ws", echo("one ") + echo("other ", "/other"))
    author.run("ws", echo("one "))
    assert author.versions() == {"/ws": 1}
    with pytest.raises(InvalidStatus), author.client("/other"):
        pass


def test_a_route_that_is_left_out_is_retired_though_its_hook_is_defined_anew(author: Author) -> None:
    hook = "def joined(): pass\n"
    author.run("ws", hook + echo("one ").replace("'/ws'", "'/ws', conn=joined"))
    author.run("ws", hook)
    assert author.versions() == {}


def test_endpoints_of_two_cells_whose_hooks_have_one_name_keep_each_its_own(author: Author) -> None:
    def cell(path: str, word: str) -> str:
        hook = f"def joined(ws): ws.send_text({word!r})\n"
        return hook + echo(f"{word} ", path).replace(f"'{path}'", f"'{path}', conn=joined")

    def greetings() -> list[str]:
        found = []
        for path in ("/a", "/b"):
            with author.client(path) as client:
                found.append(client.recv(timeout=10))
        return found

    author.run("a", cell("/a", "one"))
    author.run("b", cell("/b", "two"))
    assert greetings() == ["one", "two"]
    author.run("a", cell("/a", "one again"))
    assert greetings() == ["one again", "two"]
    assert author.versions() == {"/a": 2, "/b": 1}


def test_a_route_that_moves_to_another_cell_keeps_its_connections_and_their_messages(author: Author) -> None:
    author.run("a", echo("one "))
    with author.client("/ws") as client:
        assert ask(client, "1") == "one 1"
        author.run("a", "moved = True")
        for text in "abc":
            say(client, text)
        author.run("b", echo("two "))
        assert [shown(client.recv(timeout=10)) for _ in "abc"] == ["two a", "two b", "two c"]
        assert author.ask("len(app.connections)") == 1
    assert author.versions() == {"/ws": 2}


def test_the_cell_run_last_wins_a_route_and_the_other_does_not_retire_it(author: Author) -> None:
    author.run("a", echo("a "))
    author.run("b", echo("b "))
    author.run("a", "nothing = 1")
    with author.client("/ws") as client:
        assert ask(client, "x") == "b x"
        author.run("a", echo("a "))
        assert ask(client, "x") == "a x"
        author.run("b", "nothing = 1")
        assert ask(client, "x") == "a x"


def test_what_a_thread_defines_is_live_at_once_and_owned_by_no_cell(author: Author) -> None:
    define = f"def define():\n{_indent(echo('thread '))}\nt = threading.Thread(target=define); t.start(); t.join()\n"
    author.run("a", define + "assert '/ws' in app.endpoints")
    author.run("a", "pass")
    assert author.versions() == {"/ws": 1}


def test_what_a_task_of_one_cell_defines_is_not_staged_in_the_cell_that_runs(author: Author) -> None:
    task = f"""
go = asyncio.Event()
async def later():
    await go.wait()
{_indent(echo("task "))}
task = asyncio.get_running_loop().create_task(later())
await asyncio.sleep(0)
"""
    author.run("a", task)
    author.fail("b", "go.set()\nawait task\nassert '/ws' in app.endpoints\n1/0")
    assert author.versions() == {"/ws": 1}


def test_blank_cells_come_and_go(author: Author) -> None:
    author.run("blank", "   ")
    author.run("ws", echo("one "))
    author.run("blank", "")
    assert author.versions() == {"/ws": 1}


def test_without_a_cell_id_nothing_is_ever_retired(author: Author) -> None:
    author.kernel.check(None, echo("one ") + echo("other ", "/other"))
    author.kernel.check(None, echo("two "))
    assert author.versions() == {"/ws": 2, "/other": 1}
    author.kernel.run(None, echo("three ") + "\n1/0")
    assert author.versions() == {"/ws": 2, "/other": 1}


def test_an_imported_module_owns_its_routes(author: Author, tmp_path: Path) -> None:
    module = f"routes_of_{author.name}"
    (tmp_path / f"{module}.py").write_text("from __main__ import app\nfrom nbws.common import *\n" + echo("module "))
    importing = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport {module}\n"
    author.run("a", importing)
    author.run("a", importing)
    assert author.versions() == {"/ws": 1}
    author.fail("b", f"import importlib\nimportlib.reload({module})\n1/0")
    assert author.versions() == {"/ws": 1}


def test_an_app_of_a_module_is_none_of_a_cell(author: Author, tmp_path: Path) -> None:
    module = f"module_of_{author.name}"
    (tmp_path / f"{module}.py").write_text(f"from nbws import App\napp = App({author.name!r})\nother = App()\n")
    author.run("a", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport {module} as m\nmine = App()")
    assert author.ask("[m.app is app, m.other is mine]") == [False, False]
    author.run("a", "again = App()")
    assert author.ask("[again is mine, again is m.other]") == [True, False]


def test_a_routes_maker_that_a_cell_calls_defines_for_that_cell(author: Author, tmp_path: Path) -> None:
    module = f"maker_of_{author.name}"
    body = "from nbws.common import *\ndef add(app):\n" + _indent(echo("made "))
    (tmp_path / f"{module}.py").write_text(body)
    author.run("a", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport {module}\n{module}.add(app)")
    assert author.versions() == {"/ws": 1}
    author.run("a", "pass")
    assert author.versions() == {}


# -- hooks


HOOKED = """
@app.ws('/ws', conn=joined)
async def h(text: str, send): await send(Div(text, id='out'))
"""


def test_a_conn_function_that_is_redefined_alone_takes_effect(author: Author) -> None:
    author.run("conn", "def joined(send): send(P('one', id='out'))")
    author.run("ws", HOOKED)
    author.run("conn", "def joined(send): send(P('two', id='out'))")
    with author.client("/ws") as client:
        assert shown(client.recv(timeout=10)) == "two"
    assert author.versions() == {"/ws": 2}


def test_a_conn_function_that_a_failing_cell_redefined_does_not(author: Author) -> None:
    author.run("conn", "def joined(send): send(P('one', id='out'))")
    author.run("ws", HOOKED)
    author.fail("conn", "def joined(send): send(P('two', id='out'))\n1/0")
    author.run("other", "x = 1")
    with author.client("/ws") as client:
        assert shown(client.recv(timeout=10)) == "one"


def test_a_conn_function_that_cannot_work_leaves_the_old_one(author: Author) -> None:
    author.run("conn", "def joined(send): send(P('one', id='out'))")
    author.run("ws", HOOKED)
    ran = author.kernel.run(author.cell("conn"), "def joined(sned): pass")
    assert "sned has neither an annotation" in ran.stderr
    with author.client("/ws") as client:
        assert shown(client.recv(timeout=10)) == "one"


# -- publishing early


def test_publish_makes_live_before_the_cell_ends_and_a_later_failure_keeps_it(author: Author) -> None:
    author.run("ws", echo("one ") + echo("other ", "/other"))
    source = echo("two ") + "\napp.publish()\nassert app.endpoints['/ws'].version == 2\n"
    author.fail("ws", source + "assert '/other' in app.endpoints\n1/0")
    assert author.versions() == {"/ws": 2, "/other": 1}
    author.run("ws", source)
    assert author.versions() == {"/ws": 2}


def test_a_definition_is_not_live_before_its_cell_ends(author: Author) -> None:
    author.run("ws", echo("one ") + "\nassert '/ws' not in app.endpoints")
    assert author.versions() == {"/ws": 1}


def test_broadcast_publishes_what_its_cell_has_defined(author: Author) -> None:
    author.run("ws", echo("one ") + "\napp.broadcast(P('x', id='y'))\nassert app.endpoints['/ws'].version == 1")


def test_a_cell_broadcasts_to_whoever_is_connected(author: Author) -> None:
    author.run("ws", echo("one "))
    with author.client("/ws") as first, author.client("/ws") as second:
        assert [ask(first, "a"), ask(second, "b")] == ["one a", "one b"]
        author.run("shout", "app.broadcast(P('all', id='out'))\nawait app.broadcast(P('awaited', id='out'))")
        for client in (first, second):
            assert [shown(client.recv(timeout=10)) for _ in range(2)] == ["all", "awaited"]


def test_a_startup_function_of_the_starting_cell_runs(kernel: Kernel) -> None:
    source = """
began = []
other = App()
@other.on_event('startup')
def begin(): began.append(1)
other.start()
assert began == [1]
other.stop()
"""
    kernel.check(f"startup-{next(_ids)}", source)


# -- the same app


def test_an_unnamed_app_is_known_by_its_cell_and_place(kernel: Kernel) -> None:
    cell = f"apps-{next(_ids)}"
    kernel.check(cell, "a = App(); b = App()\nfirst = (a, b)")
    kernel.check(cell, "a = App(); b = App()\nassert (a, b) == first and a is not b")
    kernel.check(f"apps-{next(_ids)}", "assert App() not in first")
    kernel.check(None, "assert App() is not App()")


def test_run_again_the_app_keeps_its_port_and_its_handlers(author: Author) -> None:
    author.run("ws", echo("one "))
    assert author.ask("app.in_development") is True
    url = author.url
    author.run("app", f"app = App({author.name!r})\napp.start()")
    assert (author.url, author.versions()) == (url, {"/ws": 1})


def test_a_taken_port_fails_the_cell_and_publishes_nothing(author: Author) -> None:
    taken = author.url.rpartition(":")[2]
    source = f"other = App(port={taken})\n@other.ws('/x')\ndef x(text: str): pass\n"
    for ending in ("other.start()", "other", "other.preview()"):
        ran = author.kernel.run(author.cell("taken"), source + ending)
        assert f"port {taken} on 127.0.0.1 is taken by another program" in ran.error
        assert author.ask("[len(other.endpoints), other.is_running]") == [0, False]


def test_a_restarted_kernel_serves_on_the_same_port_with_the_same_credential() -> None:
    cells = {"app": "from nbws.common import *\napp = App()", "ws": echo("one "), "show": "app"}
    with Kernel() as kernel:
        before, after = [], []
        for places in (before, after):
            for cell, source in cells.items():
                kernel.check(cell, source)
            places.append(kernel.check("ask", "print(app.url, app.token)").stdout)
            kernel.restart()
        assert before == after


# -- what the author sees


def test_an_error_of_a_handler_is_shown_under_the_cell_that_defined_it(author: Author) -> None:
    request = author.kernel.start(author.cell("ws"), "@app.ws('/ws')\nasync def h(text: str): 1 / int(text)")
    assert author.kernel.finish(request).ok
    with author.client("/ws") as client:
        say(client, "0")
        shown = author.kernel.wait_for_text(request, "ZeroDivisionError: division by zero\n")
    assert "h v1 on WS /ws" in shown
    assert '"text": "0"' in shown
    assert "async def h(text: str): 1 / int(text)" in shown


PRINTS = """
import sys, warnings
@app.ws("/ws", conn=lambda ws: print("joined"))
{kind} handler(text: str):
    print("said", text)
    print("loudly", text, file=sys.stderr)
    display({{"of": text}})
    warnings.warn("careful " + text)
    return P(text, id="out")
"""


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_what_a_handler_prints_is_under_its_cell_and_never_under_the_one_that_runs(author: Author, kind: str) -> None:
    defined = author.kernel.start(author.cell("ws"), PRINTS.format(kind=kind))
    assert author.kernel.finish(defined).ok
    with author.client("/ws") as client:
        running = author.kernel.start(
            author.cell("busy"),
            "import time\nprint('of the cell')\nwhile not any('careful' in s.text for s in app.said): time.sleep(0.01)",
        )
        assert ask(client, "hi") == "hi"
        ran = author.kernel.finish(running)
    assert (ran.stdout, ran.stderr, ran.data) == ("of the cell\n", "", [])
    text = author.kernel.wait_for_text(defined, "careful hi")
    for printed in ("joined\n", "said hi\n", "loudly hi\n", "{'of': 'hi'}\n"):
        assert printed in text
    said = author.ask("[(s.speaker.handler, s.speaker.version, s.stream, s.text) for s in app.said]")
    assert ["handler", 1, "stdout", "said hi\n"] in said  # type: ignore[operator]


def test_what_two_handlers_print_at_once_stays_apart(author: Author) -> None:
    author.run(
        "ws",
        """
import asyncio
@app.ws("/ws")
async def handler(text: str):
    print(text, end=" ")
    await asyncio.sleep(0.05)
    print(text)
    return P(text, id="out")
""",
    )
    with author.client("/ws") as one, author.client("/ws") as two:
        say(one, "a")
        say(two, "b")
        one.recv(timeout=10)
        two.recv(timeout=10)
    said = author.ask("[[s.speaker.connection, s.text] for s in app.said]")
    by_connection: dict[str, str] = {}
    for connection, text in said:  # type: ignore[attr-defined]
        by_connection[connection] = by_connection.get(connection, "") + text
    assert sorted(by_connection.values()) == ["a a\n", "b b\n"]


def test_cells_print_as_ever(author: Author) -> None:
    assert author.run("any", "print('as', 'ever'); import sys; sys.stdout.flush()") == "as ever\n"
    shown = author.kernel.check(author.cell("show"), "display('x'); print('y')")
    assert (shown.stdout, shown.value) == ("y\n", "'x'")


def test_a_fragment_without_an_id_is_warned_about_with_the_fix(author: Author) -> None:
    request = author.kernel.start(author.cell("ws"), "@app.ws('/ws')\nasync def h(text: str): return P(text)")
    assert author.kernel.finish(request).ok
    with author.client("/ws") as client:
        assert ask(client, "a") == "a"
        assert "give it the id of the element" in author.kernel.wait_for_text(request, "give it the id of the element")


def test_a_tag_as_the_last_expression_renders(kernel: Kernel) -> None:
    ran = kernel.check("tag", "Div('a < b', cls='x')")
    assert ran.html == '<div class="x">a &lt; b</div>'


def test_the_endpoints_render_as_a_table(author: Author) -> None:
    author.run("ws", echo("one "))
    ran = author.kernel.check("table", "app.endpoints")
    assert "<td>/ws</td><td>v1</td>" in ran.html


# -- the credential


def test_nobody_gets_in_without_the_credential(author: Author) -> None:
    author.run("ws", echo("one ") + "\n@app.get('/')\ndef index(): return Titled('secret page')")
    with httpx.Client(base_url=author.url) as stranger:
        refused = stranger.get("/")
        assert (refused.status_code, "secret page" in refused.text) == (403, False)
        assert stranger.get("/_nbws/static/htmx.min.js").status_code == 403
    with pytest.raises(InvalidStatus), connect(author.url.replace("http", "ws") + "/ws"):
        pass
    with httpx.Client(base_url=author.url) as friend:
        assert "secret page" in friend.get("/", params={"token": author.token}).text
        port = author.url.rpartition(":")[2]
        assert friend.cookies[f"nbws-{port}"] == author.token
        assert "secret page" in friend.get("/").text


def test_the_output_holds_a_ticket_and_never_the_token(author: Author) -> None:
    author.run("page", "@app.get('/')\ndef index(request): return Titled('page', P(str(request.url)))")
    ran = author.kernel.check(author.cell("show"), "app")
    assert author.token not in json.dumps(ran.data)
    match = re.search(r'<iframe src="([^"]+)"', ran.html)
    assert match is not None
    page = httpx.get(match[1])
    assert "page" in page.text
    assert "nbws-ticket=" not in page.text
    assert author.token in page.headers["set-cookie"]


def test_a_dead_ticket_says_to_run_the_cell(author: Author) -> None:
    page = httpx.get(author.url + "/?nbws-ticket=dead")
    assert (page.status_code, "Run this cell again" in page.text) == (403, True)


def test_cookies_of_jupyter_never_reach_a_handler(author: Author) -> None:
    author.run("page", "@app.get('/')\ndef index(request): return PlainTextResponse(repr(dict(request.headers)))")
    jar = {"username-localhost-8888": "canary", "_xsrf": "canary", "session_": "canary"}
    answer = httpx.get(author.url, params={"token": author.token}, cookies=jar)
    assert answer.status_code == 200
    assert "canary" not in answer.text


def test_a_cookie_of_the_app_comes_back_under_its_own_name(author: Author) -> None:
    source = """
@app.get('/set')
def put(): return 'ok', cookie('theme', 'dark')
@app.get('/get')
def look(request): return request.cookies.get('theme', 'none')
"""
    author.run("pages", source)
    with httpx.Client(base_url=author.url, params={"token": author.token}) as browser:
        answer = browser.get("/set")
        assert all("SameSite" in c for c in answer.headers.get_list("set-cookie"))
        assert browser.get("/get").text == "dark"


def test_the_session_is_shared_by_pages_and_websockets(author: Author) -> None:
    source = """
@app.get('/login')
def login(session):
    session['person'] = 'Bob'
    return 'ok'
@app.ws('/ws')
async def h(text: str, send, session): await send(Div(f"Hello {session.get('person')}", id='out'))
"""
    author.run("all", source)
    with httpx.Client(base_url=author.url, params={"token": author.token}) as browser:
        assert browser.get("/login").text == "ok"
        cookies = "; ".join(f"{c.name}={c.value}" for c in browser.cookies.jar)
    with connect(author.url.replace("http", "ws") + "/ws", additional_headers={"Cookie": cookies}) as client:
        assert ask(client, "x") == "Hello Bob"


def test_without_a_token_jupyters_cookies_are_removed_all_the_same(author: Author) -> None:
    source = "@app.get('/')\ndef index(request): return PlainTextResponse(repr(dict(request.headers)))"
    author.run("app", f"app = App({author.name!r}, token=False)")
    author.run("page", source)
    answer = httpx.get(author.url, cookies={"username-localhost-8888": "canary"})
    assert (answer.status_code, "canary" in answer.text) == (200, False)


# -- modules that fail, startup


def test_a_module_that_fails_half_way_changes_nothing(author: Author, tmp_path: Path) -> None:
    module, path = f"half_of_{author.name}", tmp_path / f"half_of_{author.name}.py"
    head = "from __main__ import app\nfrom nbws.common import *\n"
    path.write_text(head + echo("one "))
    author.run("a", f"import sys, importlib; sys.path.insert(0, {str(tmp_path)!r})\nimport {module}")
    path.write_text(head + echo("two longer ") + echo("new ", "/new") + "\n1/0")
    author.fail("a", f"importlib.invalidate_caches(); importlib.reload({module})")
    assert author.versions() == {"/ws": 1}
    path.write_text(head + echo("three, longer still "))
    author.fail("a", f"importlib.invalidate_caches(); importlib.reload({module})\n1/0")
    assert author.versions() == {"/ws": 2}


def test_every_startup_function_runs_and_may_define_a_route(kernel: Kernel) -> None:
    source = """
calls = []
other = App()
for n in range(2):
    @other.on_event('startup')
    def begin(n=n): calls.append(n)
@other.on_event('startup')
def late():
    calls.append(other.url)
    other.get('/late')(lambda: 'x')
other.start()
assert calls == [0, 1, other.url], calls
assert '/late' in other.endpoints
other.stop()
"""
    cell = f"startup-{next(_ids)}"
    kernel.check(cell, source)
    kernel.check(cell, source)


def test_a_startup_function_that_is_run_again_unchanged_has_nothing_to_wait_for(author: Author) -> None:
    begin = "@app.on_event('startup')\ndef begin(): return {}"
    assert "app.stop() and app.start()" in author.run("begin", begin.format(1))
    assert author.run("begin", begin.format(1)) == ""
    assert "app.stop() and app.start()" in author.run("begin", begin.format(2))


def test_startup_functions_of_one_name_in_two_cells_both_run_and_a_rerun_replaces(kernel: Kernel) -> None:
    kernel.check("begin", "calls = []\nother = App('with-two-cells')")
    begin = "@other.on_event('startup')\ndef begin(): calls.append({!r})"
    for cell, word in (("one", "old"), ("two", "two"), ("one", "one")):
        kernel.check(f"begin-{cell}", begin.format(word))
    ran = kernel.check("begin-start", "other.start()\nprint(sorted(calls))\nother.stop()")
    assert ran.stdout.endswith("['one', 'two']\n")


def test_options_that_cannot_work_fail_their_cell_and_leave_the_others(author: Author) -> None:
    author.run("page", "@app.get('/')\ndef index(): return 'fine'")
    error = author.fail("app", f"app = App({author.name!r}, before=lambda nonsense: 5)")
    assert "nonsense has neither an annotation" in error
    assert httpx.get(author.url, params={"token": author.token}).text == "fine"


def test_a_subclass_that_its_cell_defines_anew_is_the_same_app(kernel: Kernel) -> None:
    source = "class Mine(App): pass\nmine = Mine('mine-of-a-cell')\nmine.start()\nprint(mine.url, type(mine) is Mine)"
    first = kernel.check("subclass", source).stdout
    assert kernel.check("subclass", source).stdout == first
    assert first.endswith("True\n")


# -- the programs


@pytest.mark.parametrize("program", ["basic", "chat", "session"])
def test_a_program_of_the_seed_runs_in_one_cell(kernel: Kernel, program: str) -> None:
    source = (Path(__file__).parent / "programs" / f"{program}.py").read_text()
    cell = f"{program}-{next(_ids)}"
    ran = kernel.check(cell, source)
    assert 'target="_blank"' in ran.html
    url, token = kernel.check("ask", "print(app.url, app.token)").stdout.split()
    with connect(f"{url.replace('http', 'ws')}/ws?token={token}") as client:
        client.send(json.dumps({"msg": "<hi>"}))
        assert "&lt;hi&gt;" in str(client.recv(timeout=10))
        if program != "chat":  # its cell makes `users` anew, so that it knows nobody then
            kernel.check(cell, source.replace("Hello", "Ahoy"))
            client.send(json.dumps({"msg": "again"}))
            assert "Ahoy" in str(client.recv(timeout=10))


def test_stop_in_a_cell_closes_with_1012_so_that_clients_come_back(author: Author) -> None:
    author.run("ws", echo("one "))
    with author.client("/ws") as client:
        assert ask(client, "a") == "one a"
        author.run("stop", "app.stop()\nassert not app.is_running")
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=10)
        assert client.close_code == 1012
        author.run("start", "app.start()")
    with author.client("/ws") as client:
        assert ask(client, "b") == "one b"


def _indent(source: str) -> str:
    return "\n".join("    " + line for line in source.splitlines())
