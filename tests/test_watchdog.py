"""A handler that keeps the loop to itself is named, and one that does not never is."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from clients import running, talk, until, websocket

from nbws import App
from nbws.common import P
from nbws.watchdog import Blocked, Watchdog


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setattr(App, "in_development", property(lambda app: True))
    return App(port=0)


def notices(app: App) -> list[str]:
    return [notice["text"] for notice in app._reporter.state(app.table)["notices"]]


def test_a_handler_that_blocks_the_loop_is_named_once_with_its_line_and_a_remedy(app: App) -> None:
    @app.ws("/ws")
    async def slow(text: str) -> P:
        time.sleep(0.4)  # noqa: ASYNC251
        return P(text, id="out")

    async def visit() -> None:
        async with websocket(app) as client:
            for _ in range(3):
                await client.ask(text="hi")
            await until(lambda: notices(app))

    with running(app):
        talk(visit())
    (said,) = notices(app)
    assert said.startswith("slow v1 on WS /ws kept the server for 0.")
    assert "`time.sleep(0.4)" in said
    assert "plain `def`" in said


def test_a_hook_that_blocks_is_told_what_hooks_may_do(app: App) -> None:
    def joined() -> None:
        time.sleep(0.4)

    @app.ws("/ws", conn=joined)
    async def chat(text: str) -> P:
        return P(text, id="out")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(text="hi")
            await until(lambda: notices(app))

    with running(app):
        talk(visit())
    assert "joined v1 on WS /ws" in notices(app)[0]
    assert "make it `async def`" in notices(app)[0]


def test_handlers_that_wait_or_run_in_threads_are_not_named(app: App) -> None:
    @app.ws("/waits")
    async def waits(text: str) -> P:
        await asyncio.sleep(0.4)
        return P(text, id="out")

    @app.ws("/threaded")
    def threaded(text: str) -> P:
        time.sleep(0.4)
        return P(text, id="out")

    @app.ws("/blocks")
    async def blocks(text: str) -> P:
        time.sleep(0.4)  # noqa: ASYNC251
        return P(text, id="out")

    async def visit() -> None:
        for path in ("/waits", "/threaded", "/blocks"):
            async with websocket(app, path) as client:
                await client.ask(text="hi")
        await until(lambda: notices(app))

    with running(app):
        talk(visit())
    (said,) = notices(app)
    assert "/blocks" in said


def test_one_that_does_not_end_is_named_while_it_goes_on() -> None:
    told: list[Blocked] = []
    go_on = threading.Event()

    def blocks() -> None:
        go_on.wait(10)

    async def run() -> None:
        watchdog = Watchdog(lambda code: code is blocks.__code__, lambda blocked: (told.append(blocked), go_on.set()))
        blocks()
        watchdog.stop()

    asyncio.run(asyncio.wait_for(run(), 20))
    (blocked,) = told
    assert not blocked.has_ended
    assert blocked.seconds >= 2
    assert blocked.source == "go_on.wait(10)"


def test_outside_of_development_nobody_is_watched() -> None:
    app = App(port=0)
    names: list[str] = []

    @app.on_event("startup")
    def look() -> None:
        pass

    with running(app):
        names = [thread.name for thread in threading.enumerate()]
    assert "nbws watchdog" not in names


def test_an_error_goes_when_a_later_version_has_worked(app: App) -> None:
    def define(body: Any) -> None:
        async def chat(text: str) -> P:
            return body(text)

        app.ws("/ws")(chat)

    def fails(text: str) -> P:
        raise ValueError("first")

    define(fails)

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say(text="hi")
            await until(lambda: app._reporter.state(app.table)["errors"])
            define(lambda text: P(text, id="out"))
            assert app._reporter.state(app.table)["errors"], "it has not shown yet that it works"
            await client.ask(text="again")
            await until(lambda: not app._reporter.state(app.table)["errors"])
            assert app._reporter.state(app.table)["error_count"] == 0

    with running(app):
        talk(visit())
    assert len(app.errors) == 1
