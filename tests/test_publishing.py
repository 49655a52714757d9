"""How what is defined goes live outside a notebook: at once, in order, and over what is there."""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue
from typing import Any

import pytest
from clients import SECONDS, http, running, talk, websocket
from machine_world import WatchedApp
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from nbws import App
from nbws.common import Div, P
from nbws.handlers import Key

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


def test_two_endpoints_whose_hooks_have_one_name_keep_each_its_own() -> None:
    app, names = App(port=0), {}
    exec(HOOKED, names)
    app.ws("/one", conn=names["joined"])(names["one"])
    exec(HOOKED.replace('"joined"', '"joined two"'), names)
    app.ws("/two", conn=names["joined"])(names["two"])

    async def greeting(path: str) -> Any:
        async with websocket(app, path) as client:
            return await client.hear()

    with running(app):
        assert [talk(greeting(path)) for path in ("/one", "/two", "/one")] == ["joined", "joined two", "joined"]
    assert app.endpoints["/one"].version == app.endpoints["/two"].version == 1


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
