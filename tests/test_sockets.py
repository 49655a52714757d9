"""The server's websockets, over picows and without: what one does with a client, the other does too."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from contextlib import AsyncExitStack
from typing import Any

import pytest
import raw
from clients import SECONDS, running, talk, until, websocket
from raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, Raw, frame

from nbws import App, Limits
from nbws.common import Div
from nbws.door import WebsocketDoor
from nbws.sockets import UvicornSocket

pytestmark = pytest.mark.usefixtures("kind")


def echo(**limits: Any) -> App:
    app = App(port=0, limits=Limits(**limits))

    @app.ws("/ws")
    async def ws(msg: str) -> Any:
        return Div(msg, id="a")

    @app.ws("/raw")
    async def back(data: bytes, ws: Any) -> None:
        await ws.send_bytes(data)

    return app


def connected(app: App) -> list[UvicornSocket]:
    assert app._server is not None
    return [each for each in app._server._uvicorn.server_state.connections if isinstance(each, UvicornSocket)]


def socket_of(app: App) -> UvicornSocket:
    (found,) = connected(app)
    return found


def ended(app: App, *frames: bytes, path: str = "/ws") -> list[tuple[int, bytes]]:
    """What a client that sends *frames* hears, to the close frame."""

    async def visit() -> list[tuple[int, bytes]]:
        async with raw.websocket(app, path) as client:
            await client.send(b"".join(frames))
            heard = [await client.frame()]
            while heard[-1][0] != CLOSE:
                heard.append(await client.frame())
            return heard

    with running(app):
        return talk(visit())


HI = frame(TEXT, b'{"msg":"hi"}')
SAID = (TEXT, b'<div id="a" hx-swap-oob="true">hi</div>')
NORMAL = frame(CLOSE, (1000).to_bytes(2, "big"))


# -- frames


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1500, 1792, 2048, 65535, 65536, 300_000])
def test_a_message_of_any_length_arrives_whole_and_goes_back_whole(size: int) -> None:
    app, sent = echo(), bytes(range(256)) * (size // 256 + 1)

    async def visit() -> None:
        async with websocket(app, "/raw") as client:
            for _ in range(3):
                await client.socket.send(sent[:size])
                assert await client.hear() == sent[:size]

    with running(app):
        talk(visit())


def test_frames_arrive_whole_however_they_are_cut_on_their_way() -> None:
    frames = HI + frame(PING, b"a") + frame(BINARY, b"x" * 200) + HI
    app = App(port=0)

    @app.ws("/ws")
    async def ws(data: bytes) -> Any:
        return Div(len(data), id="a")

    async def visit() -> None:
        async with raw.websocket(app) as client:
            for byte in frames:
                await client.send(bytes([byte]))
            heard = [await client.frame() for _ in range(4)]
            assert sorted(heard, key=lambda each: each[0] == PONG)[-1] == (PONG, b"a")
            assert [text.count(b">12<") + 2 * text.count(b">200<") for kind, text in heard if kind == TEXT] == [1, 2, 1]

    with running(app):
        talk(visit())


def test_a_message_in_pieces_is_one_and_a_ping_may_come_between_them() -> None:
    app, pieces = echo(), [frame(TEXT, b'{"msg"', fin=False), frame(CONT, b":", fin=False)]

    async def visit() -> None:
        async with raw.websocket(app) as client:
            await client.send(b"".join([*pieces, frame(PING, b"now"), frame(CONT, b'"hi"}'), HI]))
            assert [await client.frame() for _ in range(3)] == [(PONG, b"now"), SAID, SAID]

    with running(app):
        talk(visit())


WRONG = [
    ([frame(TEXT, b"\xff\xfe")], 1007),
    ([frame(TEXT, b"\xed\xa0\x80")], 1007),  # half a surrogate pair
    ([frame(TEXT, b"\xc3", fin=False), frame(CONT, b"(")], 1007),
    ([frame(CONT, b"x")], 1002),
    ([frame(TEXT, b"x", fin=False), HI], 1002),
    ([frame(TEXT, b"x", fin=False), frame(BINARY, b"x")], 1002),
    ([frame(TEXT, b"x", rsv1=True)], 1002),
    ([frame(PING, b"x", rsv1=True)], 1002),
    ([frame(0x3, b"x")], 1002),
    ([frame(0xB, b"x")], 1002),
    ([frame(PING, b"x", fin=False)], 1002),
    ([frame(PING, b"x" * 126)], 1002),
    ([bytes([0x81, 2]) + b"hi"], 1002),  # not masked
    ([frame(CLOSE, b"x")], 1002),
    ([frame(CLOSE, (1005).to_bytes(2, "big"))], 1002),
    ([frame(CLOSE, (1006).to_bytes(2, "big"))], 1002),
    ([frame(CLOSE, (999).to_bytes(2, "big"))], 1002),
    ([frame(CLOSE, (5000).to_bytes(2, "big"))], 1002),
    ([frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff")], 1007),
    ([frame(TEXT, b"x" * 1001)], 1009),
    ([frame(BINARY, b"x" * 1001)], 1009),
    ([frame(TEXT, b"x" * 600, fin=False), frame(CONT, b"x" * 600)], 1009),
    ([frame(TEXT, b"x" * 600, fin=False), *[frame(CONT, b"x" * 100, fin=False)] * 5], 1009),
    ([NORMAL], 1000),
    ([frame(CLOSE, (4321).to_bytes(2, "big") + b"why")], 4321),
]


def test_what_a_client_does_wrong_closes_its_connection_with_the_code_for_that() -> None:
    app, left = App(port=0, limits=Limits(message_bytes=1000)), threading.Semaphore(0)

    @app.ws("/ws", disconn=lambda: left.release())
    async def ws(msg: str) -> None: ...

    async def code_of(frames: list[bytes]) -> int:
        async with raw.websocket(app) as client:
            await client.send(b"".join(frames))
            code = await client.close_code()
            assert await client.rest() == ""
            await asyncio.to_thread(left.acquire, timeout=SECONDS)
            return code

    async def visits() -> list[int]:
        return [await code_of(frames) for frames, _ in WRONG]

    with running(app):
        assert talk(visits()) == [code for _, code in WRONG]
        talk(until(lambda: not app.connections))


def test_a_close_frame_without_a_code_is_answered_by_one_without_a_code() -> None:
    assert ended(echo(), frame(CLOSE)) == [(CLOSE, b"")]


def test_what_follows_a_message_that_is_in_error_is_handled_by_nobody() -> None:
    seen: list[str] = []
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str) -> None:
        seen.append(msg)

    assert ended(app, frame(TEXT, b"\xff"), HI, HI)[-1][1][:2] == (1007).to_bytes(2, "big")
    assert seen == []


def test_messages_before_a_close_frame_are_handled() -> None:
    seen: list[str] = []
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str) -> None:
        await asyncio.sleep(0)
        seen.append(msg)

    assert ended(app, HI * 300, NORMAL) == [(CLOSE, (1000).to_bytes(2, "big"))]
    assert seen == ["hi"] * 300


# -- how it is opened and closed


def test_what_an_accept_says_reaches_the_client() -> None:
    app = echo()

    class Adds:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def adding(message: Any) -> None:
                if message["type"] == "websocket.accept":
                    message = {**message, "subprotocol": "b", "headers": [*message["headers"], (b"x-more", b"yes")]}
                await send(message)

            await self.inner(scope, receive, adding)

    app.add_middleware(Adds)

    async def visit() -> None:
        async with websocket(app, subprotocols=["a", "b"]) as client:
            assert client.socket.subprotocol == "b"
            assert client.socket.response is not None
            assert client.socket.response.headers["x-more"] == "yes"
            assert await client.ask(msg="hi") == SAID[1].decode()

    with running(app):
        talk(visit())


def test_a_middleware_sees_each_message() -> None:
    app, seen = echo(), []

    class Sees:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def received() -> Any:
                message = await receive()
                seen.append(message["type"])
                return message

            async def sent(message: Any) -> None:
                seen.append(message["type"])
                await send(message)

            await self.inner(scope, received, sent)

    app.add_middleware(Sees)

    async def visit() -> None:
        async with websocket(app) as client:
            for _ in range(2):
                assert await client.ask(msg="hi") == SAID[1].decode()

    with running(app):
        talk(visit())
    assert seen.count("websocket.receive") == seen.count("websocket.send") == 2


def test_the_credential_is_taken_out_of_what_comes_straight_from_the_socket() -> None:
    app, seen = App(port=0, token="secret-token"), []

    @app.ws("/ws")
    async def ws(data: dict, ws: Any) -> Any:
        seen.append(repr((data, ws.scope)))
        return Div("ok", id="a")

    async def visit() -> None:
        async with websocket(app, "/ws?token=secret-token") as client:
            await client.ask(msg="hi", url="http://localhost/?token=secret-token")

    with running(app):
        talk(visit())
    assert seen
    assert "secret-token" not in seen[0]


def test_a_handler_that_closes_has_what_it_sent_before_arrive_first() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str, ws: Any) -> None:
        for n in range(50):
            ws.send(Div(n, id="a"))
        ws.close(4001, "done")
        ws.send(Div("never", id="a"))

    heard = ended(app, HI)
    assert [text[31:-6] for kind, text in heard if kind == TEXT] == [str(n).encode() for n in range(50)]
    assert heard[-1] == (CLOSE, (4001).to_bytes(2, "big") + b"done")


def test_a_server_that_stops_says_nothing_to_who_leaves_in_the_same_moment() -> None:
    app, failed = echo(), []

    async def leave() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failed.append(context))
        socket = socket_of(app)
        socket.shutdown()
        socket.transport.abort()
        await socket.lost.wait()

    async def visit() -> None:
        async with raw.websocket(app) as client:
            await client.send(HI)
            await client.frame()
            assert app.serving_loop is not None
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(leave(), app.serving_loop))

    with running(app):
        talk(visit())
    gc.collect()  # what a task has failed with is told when it goes
    assert failed == []


# -- how much it takes


def test_nothing_more_is_read_while_the_inbox_is_full_and_all_of_it_is_handled_later() -> None:
    app = App(port=0, limits=Limits(inbox_messages=4))
    gate: list[asyncio.Event] = []
    seen: list[bytes] = []

    @app.ws("/ws")
    async def ws(data: bytes) -> None:
        if not gate:
            gate.append(asyncio.Event())
        await gate[0].wait()
        seen.append(data)

    async def visit() -> None:
        async with raw.websocket(app) as client:
            sending = asyncio.create_task(send_all(client))
            await until(lambda: gate and socket_of(app).read_paused)
            await asyncio.sleep(0.1)  # nothing tells that nothing comes
            assert not sending.done()
            app.serving_loop.call_soon_threadsafe(gate[0].set)  # type: ignore[union-attr]
            await asyncio.wait_for(sending, SECONDS)
            await until(lambda: len(seen) == 400)

    async def send_all(client: Raw) -> None:
        for n in range(400):
            await client.send(frame(BINARY, bytes([n % 256]) * 60_000))

    with running(app):
        talk(visit())
    assert [data[0] for data in seen] == [n % 256 for n in range(400)]


def test_a_long_message_leaves_no_long_buffer_behind(kind: str) -> None:
    app = echo()

    async def visit() -> None:
        async with websocket(app, "/raw") as client:
            await client.socket.send(b"x" * 900_000)
            assert len(await client.hear()) == 900_000
            await client.socket.send(b"y")
            assert await client.hear() == b"y"
            if kind == "picows":
                assert all(len(each.get_buffer(-1)) < 4096 for each in socket_of(app)._spare)  # type: ignore[attr-defined]

    with running(app):
        talk(visit())


def test_a_connection_has_what_writes_while_there_are_more_than_a_few_answers(kind: str) -> None:
    if kind != "picows, after a few":
        pytest.skip("another one is not written to by picows, or is so at once")
    app = echo(ping_seconds=0.2)

    async def visit() -> None:
        async with websocket(app, "/raw") as client:
            await until(lambda: app.connections)
            socket: Any = socket_of(app)
            await until(lambda: socket.last_ping_rtt)
            assert socket._writer is None  # that the server pings, and is answered, is no message

            async def ask(n: int) -> None:
                await client.socket.send(b"%d" % n)
                assert await client.hear() == b"%d" % n

            await ask(0)
            await app.connections[0].send_text("text")
            assert await client.hear() == "text"
            assert socket._writer is None
            for n in range(20):
                await ask(n)
            assert socket._writer is not None
            await until(lambda: socket._writer is None)
            await ask(20)

            for n in range(20):
                await app.connections[0].send_bytes(b"%d" % n)
                assert await client.hear() == b"%d" % n
            assert socket._writer is not None
            await until(lambda: socket._writer is None)

            await client.socket.send([b"x" * 60, b"y"])  # in pieces
            assert await client.hear() == b"x" * 60 + b"y"

    with running(app):
        talk(visit())


def test_connections_share_parsers_and_what_is_half_there_of_one_is_nobody_elses(kind: str) -> None:
    app = echo()
    sent = [frame(BINARY, b"%d" % n * 300) for n in range(4)]
    heard = [(BINARY, b"%d" % n * 300) for n in range(4)]

    async def visit() -> None:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(raw.websocket(app, "/raw")) for _ in range(4)]
            for _ in range(10):
                for at in range(0, 400, 100):  # of each a quarter, and a quarter, and so on
                    for n, client in enumerate(clients):
                        await client.send(sent[n][at : at + 100])
                assert [await client.frame() for client in clients] == heard
            for n, client in enumerate(clients):  # one whole, and half of another
                await client.send(sent[n] + sent[n][:200])
                assert await client.frame() == heard[n]
            for n, client in enumerate(clients):
                await client.send(sent[n][200:])
                assert await client.frame() == heard[n]
            if kind != "uvicorn":
                sockets: list[Any] = [each for each in connected(app) if each._reader is None]
                assert len(sockets) == 4
                assert 1 <= len(sockets[0]._spare) <= 4

    with running(app):
        talk(visit())


def test_the_rest_of_a_message_may_look_like_a_frame_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    app, rest = echo(), frame(PONG, b"abcd")
    sent, come = frame(BINARY, b"x" * 50 + rest), []
    take = WebsocketDoor.data_received

    def note_and_take(self: WebsocketDoor, data: bytes) -> None:
        come.append(data)
        take(self, data)

    monkeypatch.setattr(WebsocketDoor, "data_received", note_and_take)

    async def visit() -> None:
        async with raw.websocket(app, "/raw") as client:
            await client.send(sent[: -len(rest)])
            await until(lambda: come[-1] == sent[: -len(rest)])
            await client.send(rest)
            assert await client.frame() == (BINARY, b"x" * 50 + rest)

    with running(app):
        talk(visit())
    assert come[-1] == rest


def test_few_attributes_of_a_socket_are_in_a_dict_which_is_small_then() -> None:
    app = echo()

    async def visit() -> None:
        async with websocket(app) as client:
            await client.socket.send('{"msg": "x"}')
            await client.hear()
            assert 0 < len(vars(socket_of(app))) < 30  # from there on Python keeps them in a table of 1.6 KB

    with running(app):
        talk(visit())


def test_a_peer_that_reads_late_gets_all_in_order() -> None:
    app = App(port=0, limits=Limits(outbox_bytes=64 * 1024 * 1024))

    @app.ws("/ws")
    async def ws(msg: str, ws: Any) -> None:
        for n in range(200):
            ws.send_text(f"{n:06}" + "x" * (30_000 - 100 * n))  # no header as another: none may do for another

    async def visit() -> None:
        async with websocket(app) as client:
            client.stop_reading()
            await client.say(msg="hi")
            await until(lambda: app.connections[0]._outbox.waiting_bytes)
            client.read_on()
            assert [int((await client.hear())[:6]) for _ in range(200)] == list(range(200))

    with running(app):
        talk(visit())


@pytest.mark.parametrize(
    "is_missing",
    [
        "sys.modules['picows'] = None",
        "importlib.metadata.version = lambda name: '2.4.0'",  # of which nobody knows what it changes
    ],
)
def test_without_the_picows_that_it_knows_uvicorns_own_class_is_taken(is_missing: str) -> None:
    program = (
        f"import sys, importlib.metadata; {is_missing}\n"
        "from nbws.sockets import websocket_class\n"
        "print(websocket_class().__name__)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert said.stdout.split() == ["UvicornSocket"]
