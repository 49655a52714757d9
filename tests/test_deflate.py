"""Compressed messages: where they are agreed upon, what they say, and what they may cost."""

from __future__ import annotations

import asyncio
import json
import os
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import raw
from clients import running, talk, until, websocket
from raw import BINARY, CONT, OFFER, TEXT, deflated, frame
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode

import nbws.deflate
from nbws import App, Limits
from nbws.common import Div, P, Safe
from nbws.deflate import Deflate
from nbws.errors import DefinitionError

LONG = "so it goes on and on " * 500


def echo(**options: Any) -> App:
    """An app with an echo at /ws, and one of what has come at /raw."""
    app = App(port=0, **options)

    @app.ws("/ws")
    async def ws(msg: str) -> Any:
        return Div(msg, id="a")

    @app.ws("/raw")
    async def size(data: bytes, ws: Any) -> None:
        await ws.send_text(str(len(data)))

    return app


# -- where


@pytest.mark.parametrize(
    ("options", "is_on"),
    [
        ({}, False),
        ({"compression": True}, True),
        ({"host": "localhost"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "0.0.0.0", "compression": False}, False),
    ],
    ids=str,
)
def test_messages_are_compressed_beyond_loopback_unless_the_author_says_otherwise(
    options: dict[str, Any], is_on: bool
) -> None:
    app = echo(**options)

    async def visit() -> tuple[str, str]:
        async with connect(f"ws://127.0.0.1:{app.port}/ws", compression="deflate") as socket:
            await socket.send(json.dumps({"msg": LONG}))
            assert socket.response is not None
            return socket.response.headers.get("Sec-WebSocket-Extensions", ""), str(await socket.recv())

    with running(app):
        agreed, said = talk(visit())
    assert ("permessage-deflate" in agreed) is is_on
    assert LONG in said


def test_a_client_that_knows_no_compression_is_served_without() -> None:
    app = echo(compression=True)

    async def visit() -> str:
        async with websocket(app, compression=None) as client:
            return str(await client.ask(msg=LONG))

    with running(app):
        assert LONG in talk(visit())


def test_what_is_no_choice_is_refused() -> None:
    with pytest.raises(DefinitionError, match="compression='deflate' is no choice"):
        App(compression="deflate")


# -- what goes out


def test_every_message_is_whole_for_itself_whatever_its_length() -> None:
    app = echo(compression=True)
    texts = ["", "x", LONG, "ä" * 300, LONG, os.urandom(3000).hex(), "x" * 300_000, LONG]

    async def visit() -> None:
        async with websocket(app, compression="deflate", max_size=None) as client:
            for text in texts:
                assert f">{text}</div>" in await client.ask(msg=text)

    with running(app):
        talk(visit())


def test_what_a_client_is_sent_is_shorter_than_what_it_says() -> None:
    app = echo(compression=True)

    async def visit() -> tuple[int, bytes]:
        async with raw.websocket(app, "/ws", OFFER) as client:
            await client.send(frame(TEXT, json.dumps({"msg": LONG}).encode()))
            return await client.frame()

    with running(app):
        _, payload = talk(visit())
    assert len(payload) < len(LONG) / 20
    assert LONG.encode() in zlib.decompressobj(wbits=-12).decompress(payload + b"\x00\x00\xff\xff")


def test_what_goes_to_many_is_compressed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App(port=0, compression=True)
    app.ws("/ws")(lambda: None)
    nbws.deflate._compressed.cache_clear()

    async def visit() -> list[str]:
        async with websocket(app, compression="deflate") as a, websocket(app, compression="deflate") as b:
            app.broadcast(P(Safe(LONG), id="all"))
            return [await client.hear() for client in (a, b)]

    with running(app):
        first, second = talk(visit())
    assert first == second
    assert LONG in first
    assert nbws.deflate._compressed.cache_info()[:2] == (1, 1)  # found, made


def pair() -> tuple[Any, Any]:
    """The two ends of a connection that have agreed to compress."""
    client, server = ClientPerMessageDeflateFactory(client_max_window_bits=True), Deflate()
    answer, end = server.process_request_params(client.get_request_params(), [])
    return client.process_response_params(answer, []), end


def test_control_frames_and_pieces_go_through_as_they_are_to() -> None:
    client, server = pair()
    ping = Frame(Opcode.PING, b"x" * 125)
    assert server.encode(ping) is ping
    pieces = [
        Frame(Opcode.TEXT, b"a" * 500, fin=False),
        Frame(Opcode.CONT, b"b", fin=False),
        Frame(Opcode.CONT, b"c" * 500),
    ]
    got = [client.decode(server.encode(piece)) for piece in pieces]
    assert b"".join(bytes(piece.data) for piece in got) == b"a" * 500 + b"b" + b"c" * 500


def test_what_would_grow_is_short_or_would_keep_the_others_waiting_is_left_as_it_is() -> None:
    _, server = pair()
    for data in (os.urandom(5000), b"x" * 50, b"x" * 1_000_000):
        sent = Frame(Opcode.BINARY, data)
        assert server.encode(sent) is sent


def test_nothing_is_kept_between_messages() -> None:
    client, server = pair()
    for n in range(3):
        text = f"{LONG}{n}".encode()
        assert bytes(client.decode(server.encode(Frame(Opcode.TEXT, text))).data) == text
        assert bytes(server.decode(client.encode(Frame(Opcode.TEXT, text))).data) == text
        assert not hasattr(server, "encoder")
        assert not hasattr(server, "decoder")


# -- what comes in


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Fails where this process takes more than *count* bytes meanwhile, at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < count
    finally:
        tracemalloc.stop()


BOMB = 64 * 1024 * 1024


def test_a_bomb_is_refused_before_it_is_inflated_whole() -> None:
    app = echo(compression=True)
    bomb = deflated(bytes(BOMB))
    assert len(bomb) < app.limits.message_bytes / 10
    pieces = [bomb[at : at + 1000] for at in range(0, len(bomb), 1000)]
    in_pieces = frame(BINARY, pieces[0], fin=False, rsv1=True)
    in_pieces += b"".join(frame(CONT, piece, fin=False) for piece in pieces[1:])

    async def visit(sent: bytes) -> int:
        async with websocket(app) as other, raw.websocket(app, "/raw", OFFER) as client:
            await client.send(sent)
            code = await client.close_code()
            assert "hi" in await other.ask(msg="hi")
            return code

    with running(app):
        for sent in (frame(BINARY, bomb, rsv1=True), in_pieces):
            with at_most(8 * app.limits.message_bytes):
                assert talk(visit(sent)) == 1009


def test_what_inflates_to_just_as_much_as_may_come_is_taken() -> None:
    app = echo(compression=True)

    async def visit() -> tuple[int, bytes]:
        async with raw.websocket(app, "/raw", OFFER) as client:
            await client.send(frame(BINARY, deflated(bytes(app.limits.message_bytes)), rsv1=True))
            return await client.frame()

    with running(app):
        assert talk(visit()) == (TEXT, str(1024 * 1024).encode())


def test_what_does_not_inflate_closes_its_connection() -> None:
    app = echo(compression=True)

    async def visit() -> int:
        async with raw.websocket(app, "/raw", OFFER) as client:
            await client.send(frame(BINARY, b"\xff" * 100, rsv1=True))
            return await client.close_code()

    with running(app):
        assert talk(visit()) == 1002


def test_messages_that_wait_for_a_handler_are_bounded_in_what_they_inflate_to() -> None:
    app = App(port=0, compression=True, limits=Limits(inbox_bytes=2 * 1024 * 1024))
    big = frame(BINARY, deflated(bytes(1024 * 1024)), rsv1=True)
    began, goes_on, seen = asyncio.Event(), asyncio.Event(), []

    @app.ws("/raw")
    async def slow(data: bytes) -> None:
        began.set()
        await goes_on.wait()
        seen.append(len(data))

    @app.ws("/ws")
    async def ws(msg: str) -> Any:
        goes_on.set()
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as other, raw.websocket(app, "/raw", OFFER) as client:
            with at_most(16 * 1024 * 1024):
                await client.send(big * 50)
                await asyncio.sleep(0.5)  # in which all of them would be inflated
            assert seen == []
            assert "hi" in await other.ask(msg="hi")
            await until(lambda: len(seen) == 50)

    with running(app):
        talk(visit())
    assert seen == [1024 * 1024] * 50
