"""A connection over however many sockets: cut off, back again, or gone."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from clients import Client, running, talk, until, websocket

from nbws import App, Limits
from nbws.common import P


class Page:
    """What the page's own script does: it counts what it receives, and shows its key when it comes back."""

    def __init__(self) -> None:
        self.key, self.received = "", 0
        self.greeting: Any = None

    @asynccontextmanager
    async def open(self, app: App, path: str = "/ws") -> AsyncIterator[Client]:
        value = f"{self.key}.{self.received}" if self.key else ""
        async with websocket(app, f"{path}?nbws-resume={value}") as client:
            frame = str(await client.hear())
            assert frame.startswith("\0nbws")
            self.greeting = json.loads(frame[5:])
            if self.greeting["key"] != self.key:
                self.key, self.received = self.greeting["key"], 0
            yield client

    async def hear(self, client: Client) -> str:
        text = re.sub("<[^>]*>", "", str(await client.hear()))
        self.received += 1
        return text


class Story:
    """An app that echoes, and what its hooks saw."""

    def __init__(self, **limits: Any) -> None:
        self.app = App(port=0, limits=Limits(**limits))
        self.joined: list[Any] = []
        self.left: list[Any] = []
        self.heard: list[str] = []

        @self.app.ws("/ws", conn=lambda ws: self.joined.append(ws), disconn=lambda ws: self.left.append(ws))
        async def echo(text: str, ws: Any) -> P:
            self.heard.append(text)
            return P(text, id="out")

    async def cut(self, client: Client) -> Any:
        """Cut the only connection off, and wait until the server knows."""
        (connection,) = self.app.connections
        client.vanish()
        await until(lambda: connection.is_away)
        return connection


def test_a_client_that_was_cut_off_gets_what_it_missed_on_the_same_ws() -> None:
    story, page = Story(), Page()

    async def visit() -> None:
        async with page.open(story.app) as client:
            await client.say(text="a")
            assert await page.hear(client) == "a"
            ws = await story.cut(client)
            assert "cut off" in repr(ws)
        for n in range(3):
            story.app.broadcast(P(f"missed {n}", id="out"))
        async with page.open(story.app) as client:
            assert [await page.hear(client) for _ in range(3)] == ["missed 0", "missed 1", "missed 2"]
            await client.say(text="b")
            assert await page.hear(client) == "b"
            assert story.app.connections == (ws,)
            assert (len(story.joined), story.left) == (1, [])
            assert page.greeting == {"key": page.key, "got": 1, "resync": False}
        await until(lambda: story.left)
        assert story.left == [ws]

    with running(story.app):
        talk(visit())


def test_a_socket_that_the_server_still_holds_is_taken_over() -> None:
    story, page = Story(), Page()

    async def visit() -> None:
        async with page.open(story.app) as old:
            await old.say(text="a")
            await page.hear(old)
            story.app.broadcast(P("not read", id="out"))
            async with page.open(story.app) as new:
                assert await page.hear(new) == "not read"
                await new.say(text="b")
                assert await page.hear(new) == "b"
                assert await old.close_code() in (1005, 1006)
        await until(lambda: story.left)
        assert (len(story.joined), len(story.left)) == (1, 1)

    with running(story.app):
        talk(visit())


def test_a_clean_close_ends_it_at_once_and_so_does_a_client_that_cannot_resume() -> None:
    story, page = Story(), Page()

    async def visit() -> None:
        async with page.open(story.app):
            pass
        await until(lambda: len(story.left) == 1)
        async with websocket(story.app) as plain:
            await plain.say(text="x")
            assert str(await plain.hear()).startswith("<p")
            plain.vanish()
        await until(lambda: len(story.left) == 2)
        assert story.app.connections == ()

    with running(story.app):
        talk(visit())


def test_at_the_end_of_the_window_disconn_runs_once_and_who_comes_then_is_told_to_resync() -> None:
    story, page = Story(resume_seconds=0.3), Page()

    async def visit() -> None:
        async with page.open(story.app) as client:
            await story.cut(client)
        await until(lambda: story.left)
        async with page.open(story.app) as client:
            assert page.greeting["resync"] is True
            await client.say(text="anew")
            assert await page.hear(client) == "anew"
        await until(lambda: len(story.left) == 2)
        assert len(story.joined) == 2

    with running(story.app):
        talk(visit())


@pytest.mark.parametrize("limits", [{"resume_messages": 2}, {"resume_bytes": 50, "outbox_bytes": 100}])
def test_who_has_missed_too_much_is_told_to_resync(limits: dict[str, int]) -> None:
    story, page = Story(**limits), Page()

    async def visit() -> None:
        async with page.open(story.app) as client:
            await story.cut(client)
        for n in range(20):
            story.app.broadcast(P(n, id="out"))
        await until(lambda: story.left)
        async with page.open(story.app):
            assert page.greeting["resync"] is True
        assert len(story.joined) == 2

    with running(story.app):
        talk(visit())


@pytest.mark.parametrize("value", ["nobody.0", "x" * 5000])
def test_a_key_that_nobody_has_begins_anew(value: str) -> None:
    story = Story()

    async def visit() -> None:
        async with websocket(story.app, f"/ws?nbws-resume={value}") as client:
            assert json.loads(str(await client.hear())[5:])["resync"] is True
            assert "nbws-resume" not in str(story.app.connections[0].url)
            assert not story.app.connections[0].query_params

    with running(story.app):
        talk(visit())


def test_what_a_client_says_is_counted_so_that_it_knows_what_to_send_again() -> None:
    story, page = Story(), Page()

    async def visit() -> None:
        async with page.open(story.app) as client:
            for text in "abc":
                await client.say(text=text)
                await page.hear(client)
            await client.socket.send("\0nbws3")  # an acknowledgement is no message
            await story.cut(client)
        async with page.open(story.app) as client:
            assert page.greeting["got"] == 3
            await client.say(text="d")
            assert await page.hear(client) == "d"

    with running(story.app):
        talk(visit())
    assert story.heard == ["a", "b", "c", "d"]


def test_a_handler_that_runs_while_its_client_is_cut_off_reaches_it_later() -> None:
    app, page, go = App(port=0), Page(), asyncio.Event()

    @app.ws("/ws")
    async def slow(ws: Any) -> Any:
        yield P("begun", id="out")
        await go.wait()
        yield P("ended", id="out")

    async def visit() -> None:
        async with page.open(app) as client:
            await client.say()
            assert await page.hear(client) == "begun"
            (ws,) = app.connections
            client.vanish()
            await until(lambda: ws.is_away)
        ws._loop.call_soon_threadsafe(go.set)
        async with page.open(app) as client:
            assert await page.hear(client) == "ended"

    with running(app):
        talk(visit())


def test_who_closes_a_client_that_is_away_ends_it() -> None:
    story, page = Story(), Page()

    async def visit() -> None:
        async with page.open(story.app) as client:
            ws = await story.cut(client)
            ws.close()
        await until(lambda: story.left)
        assert story.app.connections == ()

    with running(story.app):
        talk(visit())


def test_a_swap_while_a_client_is_away_is_live_when_it_is_back() -> None:
    story, page = Story(), Page()

    async def visit() -> None:
        async with page.open(story.app) as client:
            await story.cut(client)

        @story.app.ws("/ws")
        async def other(text: str) -> P:
            return P("new ", text, id="out")

        async with page.open(story.app) as client:
            await client.say(text="x")
            assert await page.hear(client) == "new x"

    with running(story.app):
        talk(visit())


def test_stopping_waits_for_nobody_who_is_away() -> None:
    story, page = Story(), Page()

    async def visit() -> None:
        async with page.open(story.app) as client:
            await story.cut(client)

    story.app.start()
    talk(visit())
    begun = time.monotonic()
    story.app.stop()
    assert time.monotonic() - begun < 3
    assert len(story.left) >= 1


def test_one_that_never_reads_is_gone_in_seconds_and_keeps_nobody_waiting() -> None:
    story = Story(stall_seconds=1.0, outbox_bytes=4 * 1024 * 1024)
    filler = "x" * 50_000

    async def visit() -> float:
        async with websocket(story.app) as stalled, websocket(story.app) as quick:
            await quick.ask(text="x")
            stalled.stop_reading()
            begun, longest = time.monotonic(), 0.0
            while len(story.app.connections) == 2:
                assert time.monotonic() - begun < 6
                story.app.broadcast(P(filler, id="filler"))
                sent = time.monotonic()
                await quick.hear()
                longest = max(longest, time.monotonic() - sent)
                await asyncio.sleep(0.02)
            return longest

    with running(story.app):
        assert talk(visit()) < 1
    assert len(story.left) >= 1
