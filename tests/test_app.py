"""App as its author uses it, outside a notebook: options, what is live, and sending from outside."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from clients import http, running, talk, websocket

from nbws import App, DefinitionError, Limits, NbwsError, RenderError
from nbws.common import Div, FastHTML, Li, P, PlainTextResponse


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


@pytest.mark.parametrize("name", [5, True, ["chat"], lambda: None])
def test_a_name_that_is_no_text_is_refused(name: Any) -> None:
    with pytest.raises(DefinitionError, match="a name is a text such as 'chat', or None"):
        App(name)


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


def test_a_swap_with_no_target_is_warned_of_where_a_handler_returns_it(caplog: pytest.LogCaptureFixture) -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws():
        return Li("x", hx_swap_oob="true")

    async def visit() -> None:
        async with websocket(app) as client:
            assert await client.ask() == '<li hx-swap-oob="true">x</li>'

    with running(app):
        talk(visit())
    (warning,) = [r.message for r in caplog.records if "names no target" in r.message]
    assert "hx_swap_oob='outerHTML:#list'" in warning


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
