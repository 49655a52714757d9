"""App as its author uses it, outside a notebook: options, definitions, what is live, and sending from outside."""

from __future__ import annotations

import asyncio
import functools
import re
import subprocess
import sys
import threading
from queue import SimpleQueue
from typing import Any

import pytest
from clients import SECONDS, http, running, talk, websocket
from machine_world import WatchedApp
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from nbws import App, DefinitionError, Limits, NbwsError, RenderError
from nbws.common import A, Div, FastHTML, Form, P, PlainTextResponse
from nbws.handlers import Key


def test_importing_starts_nothing() -> None:
    code = (
        "import threading, sys, nbws, nbws.common; assert threading.active_count() == 1; "
        "assert 'IPython' not in sys.modules; nbws.App(); assert threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"titel": "x"}, "App has no option 'titel'; did you mean title=?"),
        ({"wibble": 1}, "App has no option 'wibble'; an attribute of <body> goes into bodykw"),
        ({"exts": "preload"}, "exts='preload' is not shipped; there is ws"),
        ({"port": "5001"}, "port='5001' is no port"),
        ({"port": 70000}, "port=70000 is no port"),
        ({"port": -1}, "port=-1 is no port"),
    ],
)
def test_an_option_that_cannot_work_says_what_to_write(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(says)):
        App(**options)


def test_what_fasthtml_takes_is_taken() -> None:
    app = FastHTML(exts="ws", pico=False, live=True, htmx=None, surreal=False, sess_https_only=False, debug=None)
    assert isinstance(app, App)


def test_limits_refuse_what_is_no_bound() -> None:
    for bad in (0, -1, "1", None, True):
        with pytest.raises(ValueError, match="connections is"):
            Limits(connections=bad)


@pytest.mark.parametrize("path", ["ws", "", "/a b", "/{", "/{a}/{a}", "/{n:nothing}", "/x?y", "/{a b}", None, 3])
def test_a_path_that_cannot_work_is_refused_where_it_is_defined(path: Any) -> None:
    app = App(port=0)
    with pytest.raises(DefinitionError, match="path"):

        @app.ws(path)
        async def ws(): ...

    if isinstance(path, str) and path:
        with pytest.raises(DefinitionError, match="path"):

            @app.get(path)
            def page(): ...

    assert len(app.endpoints) == 0


def test_a_handler_that_cannot_work_is_refused_where_it_is_defined() -> None:
    app = App(port=0)
    with pytest.raises(DefinitionError, match="msg has neither an annotation nor a reserved name; write msg: str"):
        app.ws("/ws")(lambda msg: None)
    with pytest.raises(DefinitionError, match="send sends over a websocket, and this is an HTTP handler"):
        app.get("/")(lambda send: None)
    with pytest.raises(DefinitionError, match="ws is a websocket, and this is an HTTP handler"):
        app.get("/")(lambda ws: None)
    with pytest.raises(DefinitionError, match="says nothing about what to pass"):
        app.ws("/ws")(lambda *args: None)
    with pytest.raises(DefinitionError):
        app.ws("/ws", conn=lambda who: None)(lambda: None)
    with pytest.raises(DefinitionError):
        app.on_event("start")
    assert len(app.endpoints) == 0


def test_an_annotation_that_is_not_defined_says_so() -> None:
    app = App(port=0)
    with pytest.raises(DefinitionError, match="an annotation names what is not defined"):

        @app.ws("/ws")
        async def ws(msg: Undefined): ...  # type: ignore[name-defined] # noqa: F821


def test_the_url_is_known_once_it_has_started() -> None:
    app = App(port=0)
    assert app.port is None
    with pytest.raises(NbwsError, match=r"app\.start\(\) gives it one"):
        app.url
    assert "not started" in repr(app)
    with running(app):
        assert app.url in repr(app)


def test_a_name_makes_the_same_app_of_two_calls_of_one_module() -> None:
    app = App("test-app-same", port=0)

    @app.get("/")
    def index():
        return "kept"

    again = App("test-app-same", port=0, title="New")
    assert again is app
    assert app.options.title == "New"
    assert App("test-app-other", port=0) is not app
    assert App(port=0) is not App(port=0)
    with running(app), http(app) as client:
        assert client.get("/").text == "kept"


def test_endpoints_tell_what_is_live() -> None:
    app = App(port=0)

    @app.ws("/chat/{room}")
    async def chat(room: str): ...

    @app.get("/page")
    def page(): ...

    @app.post("/page")
    def posted(): ...

    assert set(app.endpoints) == {"/chat/{room}", "/page", "POST /page"}
    assert app.endpoints["/chat/{room}"].version == 1
    assert app.endpoints["GET /page"].version == app.endpoints["/page"].version == 1
    assert "/chat/{room}" in app.endpoints._repr_html_()
    with pytest.raises(KeyError, match="'/nowhere' is no endpoint; there is"):
        app.endpoints["/nowhere"]

    async def visit() -> None:
        async with websocket(app, "/chat/a") as client:
            await client.say()
            assert len(app.connections) == 1
            assert app.endpoints["/chat/{room}"].connections == app.connections

    with running(app):
        talk(visit())


def test_a_broadcast_with_nobody_there_and_before_the_start_does_nothing() -> None:
    app = App(port=0)
    app.broadcast(Div("x", id="a"))
    assert app.connections == ()
    assert dict(app.rooms) == {}
    with pytest.raises(RenderError, match="a dict"):
        app.broadcast({"a": 1})


def test_a_broadcast_may_be_awaited_anywhere() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str):
        await app.broadcast(Div(msg, id="a"))

    async def visit() -> None:
        async with websocket(app) as client:
            assert "one" in await client.ask(msg="one")
            await app.broadcast(Div("two", id="a"))
            assert "two" in await client.hear()

    with running(app):
        talk(visit())


def test_what_htmx_would_not_show_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws():
        return P("no id")

    async def visit() -> None:
        async with websocket(app) as client:
            for _ in range(3):
                assert await client.ask() == "<p>no id</p>"

    with running(app):
        talk(visit())
    (warning,) = [r.message for r in caplog.records if "with no id" in r.message]
    assert "<p> was sent with no id, so htmx shows it nowhere; give it the id" in warning
    assert not app.errors


def test_errors_are_logged_with_handler_and_message(caplog: pytest.LogCaptureFixture) -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str):
        raise ValueError("no")

    async def visit() -> None:
        async with websocket(app) as client:
            for n in range(30):
                await client.say(msg=f"n{n}")

    with running(app):
        talk(visit())
    logged = [r.message for r in caplog.records if "ValueError: no" in r.message]
    assert logged[0].startswith("ws v1 on WS /ws: ValueError: no")
    assert '"msg": "n0"' in logged[0]
    assert "Traceback" in logged[0]
    assert len(app.errors) == 30
    assert len(logged) == 20
    assert "more of them" in logged[-1]


def test_methods_partials_and_callable_objects_are_handlers() -> None:
    app = App(port=0)

    class Counter:
        def __init__(self) -> None:
            self.n = 0

        async def up(self, by: int):
            self.n += by
            return Div(self.n, id="n")

        async def __call__(self, by: int):
            return Div(by, id="n")

    async def scaled(factor: int, by: int):
        return Div(factor * by, id="n")

    counter = Counter()
    app.ws("/method")(counter.up)
    app.ws("/object")(counter)
    app.ws("/partial")(functools.partial(scaled, 10))

    async def ask(path: str) -> str:
        async with websocket(app, path) as client:
            return str(await client.ask(by=3))

    with running(app):
        assert [re.sub("<.*?>", "", talk(ask(f"/{p}"))) for p in ("method", "object", "partial")] == ["3", "3", "30"]


def test_a_routed_function_stands_for_its_path() -> None:
    app = App(port=0)

    @app.get("/rooms")
    def rooms():
        return "rooms"

    @app.get("/")
    def index():
        return A("rooms", href=rooms), Form(hx_post=rooms)

    with running(app), http(app) as client:
        text = client.get("/").text
    assert 'href="/rooms"' in text
    assert 'hx-post="/rooms"' in text
    assert str(app.url_path_for("rooms")) == "/rooms"
    assert rooms() == "rooms"


def test_the_app_and_its_state_reach_handlers_by_name_and_by_type() -> None:
    app = App(port=0)
    app.state.greeting = "hi"

    @app.ws("/ws")
    async def ws(app, it: App, state):
        return Div(it is app, state.greeting, id="a")

    @app.get("/")
    def index(app, it: App, state):
        return PlainTextResponse(f"{it is app}{state.greeting}")

    async def ask() -> str:
        async with websocket(app) as client:
            return str(await client.ask())

    with running(app), http(app) as client:
        assert ">Truehi<" in talk(ask())
        assert client.get("/").text == "Truehi"


HOOKED = """
def joined(ws): ws.send_text("joined")
async def one(ws): ws.send_text("one")
async def two(ws): ws.send_text("two")
"""


def test_a_hook_that_is_redefined_and_cannot_work_leaves_the_working_one_alone(caplog: Any) -> None:
    app, names = App(port=0), {}
    exec(HOOKED, names)
    app.ws("/ws", conn=names["joined"])(names["one"])
    exec("def joined(nonsense): ...", names)

    async def visit() -> None:
        async with websocket(app) as client:
            assert await client.hear() == "joined"
            assert await client.ask() == "one"

    with running(app):
        talk(visit())
        talk(visit())
    assert app.endpoints["/ws"].version == 1
    (warning,) = caplog.records
    assert "joined: nonsense has neither an annotation" in warning.message


def test_taking_up_a_redefined_hook_takes_back_nothing_that_a_thread_publishes_meanwhile() -> None:
    app, names = WatchedApp(port=0), {}
    exec(HOOKED, names)
    app.ws("/ws", conn=names["joined"])(names["one"])
    exec(HOOKED.replace("joined(ws): ", "joined(ws): pass; "), names)
    thread = threading.Thread(target=lambda: app.ws("/ws", conn=names["joined"])(names["two"]))

    def act() -> None:
        thread.start()
        thread.join(0.2)  # for as long as it is kept waiting it has not published

    app.after_next_look = act
    app.hook(Key("WS", "/ws"), "conn")
    thread.join()
    assert app.endpoints["/ws"].history[-1].definition.target.message.name == "two"


def test_a_helper_that_is_redefined_is_used_from_the_next_message_on() -> None:
    app = App(port=0)
    space: dict[str, Any] = {"app": app, "Div": Div}
    exec(
        "def greet(): return 'old'\n@app.ws('/ws')\nasync def ws():\n    return Div(greet(), id='a')\n",
        space,
    )

    async def visit() -> None:
        async with websocket(app) as client:
            assert ">old<" in await client.ask()
            exec("def greet(): return 'new'", space)
            assert ">new<" in await client.ask()

    with running(app):
        talk(visit())
    assert app.endpoints["/ws"].version == 1


def test_new_options_take_effect_while_it_runs() -> None:
    app = App("test-app-options", port=0)

    @app.get("/")
    def index():
        return P("x" * 2000)

    with running(app), http(app) as client:
        port = app.port
        App("test-app-options", port=0, title="Renamed", middleware=[Middleware(GZipMiddleware)])
        answer = client.get("/")
        assert "<title>Renamed</title>" in answer.text
        assert answer.headers["content-encoding"] == "gzip"
        assert app.port == port


def test_a_token_of_true_is_made_and_asked_for() -> None:
    app = App(port=0, token=True)

    @app.get("/")
    def index():
        return "hello"

    assert app.token
    with running(app), http(app) as client:
        assert client.get("/").status_code == 403
        assert client.get("/", params={"token": app.token}).text == "hello"
    assert App(port=0).token is None


def test_definitions_from_many_threads_are_all_live() -> None:
    app = App(port=0)
    done: SimpleQueue[None] = SimpleQueue()

    async def define_all() -> None:
        def define(n: int) -> None:
            @app.get(f"/page/{n}")
            def page():
                return str(n)

            done.put(None)

        await asyncio.gather(*(asyncio.to_thread(define, n) for n in range(50)))

    with running(app), http(app) as client:
        talk(define_all())
        assert done.qsize() == 50
        assert [client.get(f"/page/{n}").text for n in (0, 25, 49)] == ["0", "25", "49"]
    assert len(app.endpoints) == 50


def test_stress_of_swaps_loses_no_message() -> None:
    app = App(port=0)
    end: SimpleQueue[None] = SimpleQueue()

    def define(n: int) -> None:
        space: dict[str, Any] = {"Div": Div, "app": app}
        exec(f"@app.ws('/ws')\nasync def ws(n: int):\n    return Div(n, '/{n}', id='a')", space)

    define(0)

    def swap() -> None:
        n = 0
        while end.empty():
            n += 1
            define(n)

    async def visit() -> None:
        swapping = asyncio.create_task(asyncio.to_thread(swap))
        try:
            async with websocket(app) as client:
                for n in range(500):
                    await client.say(n=n)
                for n in range(500):
                    assert f">{n}/" in await client.hear()
        finally:
            end.put(None)
            await asyncio.wait_for(swapping, SECONDS)

    with running(app):
        talk(visit())
    assert app.endpoints["/ws"].version > 1
    assert not app.errors


def test_what_waits_for_a_new_start_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    app = App("test-app-said", port=0)

    def begin(word: str = "a") -> None: ...

    with running(app):
        capsys.readouterr()
        app.start()
        assert capsys.readouterr().out == "", "the link was printed when it started"
        for _ in range(2):
            app.configure(port=5999)
            App("test-app-said", port=5999)
        assert capsys.readouterr().out.count("call app.stop() and app.start() to move it to 5999") == 1
        app.on_event("startup")(begin)
        assert "to run its new startup functions" in capsys.readouterr().out
