"""What is sent to clients that read slowly, not at all, or are gone."""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue
from typing import Any

import pytest
from clients import SECONDS, running, talk, websocket

from nbws import App, Limits
from nbws.common import Div

pytestmark = pytest.mark.usefixtures("parser")


def shouting(left: SimpleQueue[str], **limits: Any) -> App:
    """An app that tells everybody 100 KB whenever it is told anything, and *left* who has left."""
    app = App(port=0, limits=Limits(**limits))

    @app.ws("/ws", disconn=lambda ws: left.put(ws.id))
    async def ws():
        app.broadcast(Div("x" * 100_000, id="a"))

    return app


def test_a_peer_that_vanishes_in_mid_broadcast_does_not_hurt_the_sender() -> None:
    app = App(port=0)

    users: dict[str, Any] = {}

    def enter(ws, send):
        users[ws.id] = send

    def leave(ws):
        users.pop(ws.id)

    @app.ws("/ws", conn=enter, disconn=leave)
    async def ws(msg: str):
        for send in users.values():
            await send(Div(msg * 1000, id="a"))

    async def visit() -> None:
        async with websocket(app) as sender:
            for n in range(10):
                async with websocket(app) as peer:
                    await asyncio.gather(*(sender.say(msg=f"{n}") for _ in range(5)))
                    peer.vanish()
                    for _ in range(5):
                        assert f"{n}{n}" in await sender.hear()

    with running(app):
        talk(visit())
    assert [e.title for e in app.errors if "changed size" not in e.title] == []


def test_a_peer_that_stops_reading_does_not_hold_up_a_chat_and_overflows_with_1013() -> None:
    app = App(port=0, limits=Limits(outbox_bytes=200_000))
    users: dict[str, Any] = {}
    left: SimpleQueue[str] = SimpleQueue()

    def enter(ws, send):
        users[ws.id] = send

    def leave(ws):
        users.pop(ws.id, None)
        left.put(ws.id)

    @app.ws("/ws", conn=enter, disconn=leave)
    async def ws(msg: str):
        for send in list(users.values()):
            await send(Div(msg * 100_000, id="a"))

    async def visit() -> None:
        async with websocket(app) as sender, websocket(app) as slow:
            slow.stop_reading()
            for _ in range(200):  # 20 MB: more than the buffers of the two systems take
                await sender.ask(msg="x")
            slow_ws = next(c for c in app.connections if not c.is_open)
            slow.read_on()
            assert await slow.close_code() == 1013
            assert await asyncio.to_thread(left.get, True, SECONDS) == slow_ws.id
            await sender.ask(msg="x")

    with running(app):
        talk(visit())
    assert not app.errors


def test_disconn_runs_soon_after_an_overflow_though_the_peer_never_reads_again() -> None:
    left: SimpleQueue[str] = SimpleQueue()
    app = shouting(left, outbox_bytes=200_000, finish_seconds=0.5)

    async def visit() -> None:
        async with websocket(app) as sender, websocket(app) as slow:
            slow.stop_reading()
            for _ in range(200):
                await sender.ask()
            slow_ws = next(c for c in app.connections if not c.is_open)
            assert await asyncio.to_thread(left.get, True, SECONDS) == slow_ws.id
            slow.vanish()

    with running(app):
        talk(visit())


def test_stop_returns_and_disconn_runs_though_a_peer_has_stopped_reading() -> None:
    left: SimpleQueue[str] = SimpleQueue()
    app = shouting(left, finish_seconds=0.5)

    async def visit() -> None:
        async with websocket(app) as sender, websocket(app) as slow:
            slow.stop_reading()
            while len(app.connections) == 2 and all(c.is_open for c in app.connections):
                await sender.ask()
                if any(c.is_above_high_water for c in app.connections):
                    break
            await asyncio.wait_for(asyncio.to_thread(app.stop), 6)
            assert {left.get(timeout=SECONDS) for _ in range(2)}
            slow.vanish()

    with running(app):
        talk(visit())
    assert left.empty()


def test_a_long_stream_to_a_client_that_reads_does_not_overflow_its_outbox() -> None:
    app = App(port=0, limits=Limits(outbox_bytes=100_000))

    @app.ws("/awaited")
    async def awaited(send):
        for n in range(200):
            await send(Div("x" * 10_000, id=f"n{n}"))

    @app.ws("/async-generator")
    async def async_generator():
        for n in range(200):
            yield Div("x" * 10_000, id=f"n{n}")

    @app.ws("/generator")
    def generator():
        for n in range(200):
            yield Div("x" * 10_000, id=f"n{n}")

    async def streams(path: str) -> None:
        async with websocket(app, path) as client:
            await client.say()
            for n in range(200):
                assert f'id="n{n}"' in await client.hear()

    with running(app):
        for path in ("/awaited", "/async-generator", "/generator"):
            talk(streams(path))
    assert not app.errors


def test_sends_after_the_end_do_nothing() -> None:
    app = App(port=0)
    joined: SimpleQueue[Any] = SimpleQueue()
    left = threading.Event()

    @app.ws("/ws", conn=lambda ws: joined.put(ws), disconn=lambda: left.set())
    async def ws(msg: str): ...

    async def visit() -> None:
        async with websocket(app):
            pass

    with running(app):
        talk(visit())
        connection = joined.get(timeout=SECONDS)
        assert left.wait(SECONDS)
        connection.send(Div("late", id="a"))
        connection.close()
        connection.join("room")
        assert dict(app.rooms) == {}
    connection.send(Div("later", id="a"))
    connection.close()
