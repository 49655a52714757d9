"""What a client may cost: before its request is there, while it sends, and when nothing of it can be read."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import raw
import soak_door
from clients import SECONDS, running, talk, until, websocket
from raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, connection, frame, handshake
from starlette.responses import PlainTextResponse
from websockets.exceptions import InvalidStatus

import nbws.door
from nbws import App, Limits
from nbws.common import Div

WAIT = 2.5  #: seconds that an echo may take, on a machine that other tests have too; alone it takes under 0.25


@pytest.fixture(params=["httptools", "h11"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of uvicorn's http protocols is there."""
    if request.param == "h11":
        monkeypatch.setitem(sys.modules, "uvicorn.protocols.http.httptools_impl", None)
    return str(request.param)


def app_with(**limits: Any) -> App:
    """An app with an echo at /ws, a page that takes its time at /slow, and a form at /form."""
    app = App(port=0, limits=Limits(**limits))

    @app.ws("/ws")
    async def ws(msg: str) -> Any:
        return Div(msg, id="a")

    @app.ws("/raw")
    async def size(data: bytes, ws: Any) -> None:
        await ws.send_text(str(len(data)))

    @app.get("/")
    def index() -> Any:
        return PlainTextResponse("page")

    @app.get("/slow")
    async def slow(seconds: float) -> Any:
        await asyncio.sleep(seconds)
        return PlainTextResponse("at last")

    @app.post("/form")
    def form(name: str) -> Any:
        return PlainTextResponse(f"hello {name}")

    return app


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """All that is logged meanwhile, at any level."""
    found: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not record.name.startswith("asyncio"):
                found.append(record)

    root, handler = logging.getLogger(), Keep()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.NOTSET + 1)
    yield found
    root.removeHandler(handler)
    root.setLevel(level)


# -- requests that do not come


def test_half_sent_handshakes_are_given_up_and_say_so_and_nobody_waits_for_them(parser: str) -> None:
    app = app_with(handshake_seconds=1)

    async def visit() -> None:
        async with websocket(app) as client, soak_door.half_sent(app.port or 0, 500) as clients:
            probe = soak_door.Probe(client)
            answers = asyncio.gather(*(each.rest() for each in clients))
            await probe.go_on(lambda: not answers.done())
            assert {answer.split()[1] for answer in await answers} == {"408"}
            assert "No whole request came within 1 s" in (await answers)[0]
            assert probe.percentile(0.9) < WAIT

    with running(app):
        talk(visit())


def test_a_connection_that_sends_nothing_is_closed_without_a_word(parser: str) -> None:
    app = app_with(handshake_seconds=0.2)

    async def visit() -> None:
        async with connection(app) as client:
            assert await client.rest() == ""

    with running(app):
        talk(visit())


def test_sending_a_byte_now_and_then_gives_no_more_time(parser: str) -> None:
    app = app_with(handshake_seconds=0.5)

    async def drip(client: raw.Raw) -> None:
        for sign in handshake(app.port):
            await client.send(sign)
            await asyncio.sleep(0.05)

    async def visit() -> None:
        async with connection(app) as client:
            begun = time.monotonic()
            dripping = asyncio.create_task(drip(client))
            assert "408" in await client.rest()
            assert time.monotonic() - begun < 5  # all of it would take 8 s
            dripping.cancel()

    with running(app):
        talk(visit())


GET = "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_who_has_asked_may_ask_again_later_but_not_by_halves(parser: str) -> None:
    app = app_with(handshake_seconds=0.3)

    async def visit() -> None:
        async with connection(app) as client:
            for _ in range(2):
                await client.send(GET.format("/"))
                assert await client.answer() == (200, "page")
                await asyncio.sleep(0.6)
            await client.send(GET.format("/")[:20])
            begun = time.monotonic()
            assert await client.rest() == ""
            assert time.monotonic() - begun < 4  # uvicorn's own limit is 5 s

    with running(app):
        talk(visit())


def test_what_takes_its_time_after_the_request_is_let_be(parser: str) -> None:
    app = app_with(handshake_seconds=0.2)
    form = "POST /form HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"

    async def page() -> None:
        async with connection(app) as client:
            await client.send(GET.format("/slow?seconds=0.7"))
            assert await client.answer() == (200, "at last")

    async def upload() -> None:
        async with connection(app) as client:
            await client.send(form + "Content-Length: 8\r\n\r\n")
            await client.send("name=")
            await asyncio.sleep(0.7)
            await client.send("Ann")
            assert await client.answer() == (200, "hello Ann")

    async def silent() -> None:
        async with websocket(app) as client:
            await asyncio.sleep(0.7)
            assert "hi" in await client.ask(msg="hi")

    async def visit() -> None:
        await asyncio.gather(page(), upload(), silent())

    with running(app):
        talk(visit())


def test_who_waits_for_a_turn_of_the_servers_is_not_told_that_no_request_came(
    parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_with(handshake_seconds=0.2)

    async def visit() -> None:
        async with connection(app) as client:
            monkeypatch.setattr(nbws.door, "_TURN_REQUESTS", 0)
            await client.send(GET.format("/"))
            await asyncio.sleep(0.7)
            monkeypatch.setattr(nbws.door, "_TURN_REQUESTS", 8)
            assert await client.answer() == (200, "page")

    with running(app):
        talk(visit())


def test_the_rest_of_a_body_that_nobody_reads_is_not_waited_for(parser: str) -> None:
    app = app_with(handshake_seconds=0.3)
    head = "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"

    async def visit() -> None:
        async with connection(app) as client:
            await client.send(head)
            assert (await client.answer())[0] == 404
            await client.send("x")
            assert await client.rest() == ""

    with running(app):
        talk(visit())


def test_headers_without_end_are_refused(parser: str) -> None:
    app = app_with(header_bytes=4096)

    async def visit(headers: str) -> str:
        async with connection(app) as client:
            await client.send("GET / HTTP/1.1\r\nHost: localhost\r\n")
            for at in range(0, len(headers), 1000):
                await client.send(headers[at : at + 1000])
                await asyncio.sleep(0.001)
            return await client.rest()

    with running(app):
        for headers in ("X-Long: " + "x" * 20_000, "".join(f"X-{n}: 1\r\n" for n in range(2000))):
            answer = talk(visit(headers))
            assert answer.startswith("HTTP/1.1 431 ")
            assert "longer than 4096 bytes. Send fewer cookies" in answer


def test_a_handshake_with_more_headers_than_websockets_takes_is_answered_and_closed(parser: str) -> None:
    app = app_with()

    async def visit(*headers: str) -> str:
        async with connection(app) as client:
            await client.send(handshake(app.port, "/ws", *headers))
            return await client.rest()

    with running(app):
        assert talk(visit(f"Cookie: {'x' * 9000}")).startswith("HTTP/1.1 431 ")
        assert talk(visit(*(f"X-{n}: 1" for n in range(200)))).startswith("HTTP/1.1 431 ")


def test_a_handshake_that_is_no_get_is_answered_and_closed(parser: str) -> None:
    app = app_with()

    async def visit() -> str:
        async with connection(app) as client:
            await client.send(handshake(app.port, "/ws").replace("GET", "POST", 1))
            return await client.rest()

    with running(app):
        assert talk(visit()).startswith("HTTP/1.1 4")


NO_REQUESTS = {
    "tls": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "x" * 100,
    "noise": "\x00\xff\r\n\r\n",
    "proxy": "CONNECT example.org:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "absolute": "GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "asterisk": "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "path that is not ascii": "GET /ä HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two lengths": "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "length of less than nothing": "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    "bad chunk": "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "space in a name": "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
}


@pytest.mark.parametrize("kind", NO_REQUESTS)
def test_what_is_no_request_is_answered_with_400_and_fills_no_log(
    kind: str, parser: str, records: list[logging.LogRecord]
) -> None:
    app = app_with()

    async def visit() -> tuple[int, str]:
        async with connection(app) as client:
            await client.send(NO_REQUESTS[kind])
            return await client.answer()

    with running(app):
        status, text = talk(visit())
        assert status == 400
        assert "Ask " in text
    assert [record for record in records if record.levelno >= logging.WARNING] == []


# -- how many


def test_when_there_are_too_many_connections_of_all_kinds_the_next_is_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nbws.door, "_BESIDES", 2)
    app = app_with(connections=3)

    async def visit() -> None:
        async with connection(app) as a, connection(app) as b, websocket(app) as probe:
            async with connection(app), connection(app):
                async with connection(app) as late:
                    await late.send(GET.format("/"))
                    status, text = await late.answer()
                    assert (status, "Come back later" in text) == (503, True)
                assert "hi" in await probe.ask(msg="hi")
            for client in (a, b):
                await client.send(GET.format("/"))
                assert await client.answer() == (200, "page")

    with running(app):
        talk(visit())


def test_the_last_descriptors_of_the_process_are_left_to_what_else_runs_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_with()

    async def visit() -> None:
        async with websocket(app) as probe:
            monkeypatch.setattr(nbws.door, "_most_descriptors", lambda: nbws.door._DESCRIPTORS_KEPT)
            async with connection(app) as late:
                assert await late.rest() == ""
            assert "hi" in await probe.ask(msg="hi")

    with running(app):
        talk(visit())


def test_one_client_has_no_more_connections_than_it_may() -> None:
    app = app_with(connections_per_client=2)

    async def visit() -> None:
        async with websocket(app), websocket(app):
            with pytest.raises(InvalidStatus) as refused:
                async with websocket(app):
                    pass
            assert refused.value.response.status_code == 503
        await until(lambda: not app.connections)
        async with websocket(app) as client:
            assert "hi" in await client.ask(msg="hi")

    with running(app):
        talk(visit())


def test_a_connection_is_read_no_faster_than_it_may_be_and_loses_nothing() -> None:
    app = app_with(messages_per_second=20)

    async def visit() -> None:
        async with websocket(app) as client:
            begun = time.monotonic()
            for n in range(30):
                await client.say(msg=str(n))
            for n in range(30):
                assert f">{n}<" in await client.hear()
            assert time.monotonic() - begun > 0.4  # those of a second at once, and then 20 a second

    with running(app):
        talk(visit())


# -- frames


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[soak_door.Server, Path]]:
    """A server in a process of its own, and where what it logs goes."""
    log = tmp_path_factory.mktemp("flooded") / "log"
    with soak_door.server(log) as running:
        yield running, log


@pytest.mark.parametrize("kind", [*raw.FLOODS, "crowd"])
def test_nobody_waits_for_who_floods_the_server(kind: str, flooded: tuple[soak_door.Server, Path]) -> None:
    """A quick look; soak_door.py looks longer."""
    running, log = flooded

    async def visit() -> None:
        async with soak_door.probing(running) as probe, soak_door.flooding(running.port, kind, 8):
            end = time.monotonic() + 1
            await probe.go_on(lambda: time.monotonic() < end or len(probe.took) < 10)
        # The slower half may be the machine's, which has other things to do. uvicorn's own would take 13 s for each.
        assert probe.percentile(0.5) < WAIT

    talk(visit(), 40)
    assert "Traceback" not in log.read_text()


def test_frames_that_come_in_one_piece_are_all_handled_in_order() -> None:
    app = app_with()
    texts = [str(n) * (n % 700) for n in range(4000)]

    async def visit() -> None:
        async with raw.websocket(app) as client:
            sent = b"".join(frame(TEXT, json.dumps({"msg": text}).encode()) for text in texts)
            sending = asyncio.create_task(client.send(sent))
            for text in texts:
                assert f">{text}<".encode() in (await client.frame())[1]
            await sending
            await client.send(frame(CLOSE, (1000).to_bytes(2, "big")))
            assert await client.close_code() == 1000

    with running(app):
        talk(visit())


def test_a_message_in_a_hundred_thousand_pieces_is_put_together() -> None:
    app = app_with()
    pieces = frame(BINARY, b"a", fin=False) + frame(CONT, b"b", fin=False) * 99_998 + frame(PING)

    async def visit() -> None:
        async with raw.websocket(app, "/raw") as client:
            await client.send(pieces + frame(CONT, b"c"))
            assert await client.frame() == (PONG, b"")
            assert await client.frame() == (TEXT, b"100000")

    with running(app):
        talk(visit())


def test_frames_that_come_before_the_handshake_is_complete_wait_for_that() -> None:
    app = app_with()
    asked, sent = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            asked.set()
            await asyncio.to_thread(sent.wait, SECONDS)
            await asyncio.sleep(0.05)  # for what was sent to come
            await self.inner(scope, receive, send)

    async def visit(first: bytes) -> tuple[int, bytes]:
        asked.clear()
        sent.clear()
        async with connection(app) as client:
            await client.send(handshake(app.port))
            await asyncio.to_thread(asked.wait, SECONDS)
            await client.send(first)
            sent.set()
            assert await client.answer() == (101, "")
            return await client.frame()

    app.add_middleware(Slow)
    with running(app):
        assert b">hi<" in talk(visit(frame(TEXT, b'{"msg":"hi"}')))[1]
        assert talk(visit(frame(TEXT, b"\xff"))) == (CLOSE, (1007).to_bytes(2, "big"))
        assert talk(visit(frame(TEXT, b"x", rsv1=True)))[1][:2] == (1002).to_bytes(2, "big")


def test_who_sends_what_closes_a_connection_is_told_why_though_it_sends_on() -> None:
    app = app_with(message_bytes=50_000)
    wrong = {
        1009: frame(TEXT, b"x" * 40_000, fin=False) + frame(CONT, b"x" * 40_000, fin=False) * 50,
        1007: frame(TEXT, b"\xff") + frame(TEXT, b"x" * 40_000) * 50,
        1002: frame(TEXT, b"x", rsv1=True) + frame(TEXT, b"x" * 40_000) * 50,
    }

    async def visit(sent: bytes) -> int:
        async with raw.websocket(app) as client:
            sending = asyncio.create_task(client.send(sent))
            code = await client.close_code()
            await sending
            assert await client.rest() == ""
            return code

    with running(app):
        for _ in range(5):
            for code, sent in wrong.items():
                assert talk(visit(sent)) == code
    assert not app.errors


def test_pings_whose_pongs_nobody_reads_pile_up_nowhere() -> None:
    app = app_with()

    async def visit() -> None:
        async with raw.websocket(app) as client:
            for _ in range(40):
                await client.send(frame(PING, b"x" * 125) * 2000)
            (connection,) = app._server._uvicorn.server_state.connections  # type: ignore[union-attr]
            assert connection.transport.get_write_buffer_size() < 200_000
            while (await client.frame())[0] == PONG and client.reader._buffer:  # type: ignore[attr-defined]
                pass
            await client.send(frame(TEXT, b'{"msg":"hi"}'))
            while (await client.frame())[0] != TEXT:
                pass

    with running(app):
        talk(visit())


def test_a_message_in_pieces_may_be_no_longer_than_one_in_one_piece() -> None:
    app = app_with(message_bytes=10_000)

    async def visit() -> None:
        async with raw.websocket(app) as client:
            await client.send(frame(TEXT, b"x" * 5000, fin=False) + frame(CONT, b"x" * 5001, fin=False))
            assert await client.close_code() == 1009

    with running(app):
        talk(visit())


def test_what_is_compressed_is_not_taken_since_a_few_bytes_may_be_many() -> None:
    app = app_with()
    offers = "Sec-WebSocket-Extensions: permessage-deflate"

    async def visit() -> None:
        async with raw.websocket(app, "/ws", offers) as client:  # it is let in, and its offer is not taken
            await client.send(frame(TEXT, b"x", rsv1=True))
            assert await client.close_code() == 1002

    with running(app):
        talk(visit())


# -- what nobody can read


def test_a_hundred_messages_in_a_row_that_no_handler_can_read_end_their_connection_with_1008() -> None:
    app = app_with()

    async def visit() -> None:
        async with websocket(app) as other, websocket(app) as client:
            for _ in range(99):
                await client.socket.send("no json")
            assert "hi" in await client.ask(msg="hi")  # from here on they are counted anew
            for text in ["[]", "{}", '{"msg": {"a": 1}}', raw.DEEP.decode()] * 25:
                await client.socket.send(text)
            assert await client.close_code() == 1008
            assert "hi" in await other.ask(msg="hi")

    with running(app):
        talk(visit())


def test_a_handler_that_raises_counts_for_nothing() -> None:
    app = App(port=0, limits=Limits(invalid_messages=2))

    @app.ws("/ws")
    async def ws(msg: str) -> Any:
        if msg == "bad":
            raise ValueError(msg)
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            for _ in range(4):
                await client.say(msg="bad")
                await client.say()
            await until(lambda: len(app.errors) == 8)
            assert "hi" in await client.ask(msg="hi")

    with running(app):
        talk(visit())


def test_text_that_is_no_utf_8_closes_its_connection_with_1007_and_fills_no_log(
    records: list[logging.LogRecord],
) -> None:
    app = app_with()

    async def visit() -> None:
        async with websocket(app) as probe:
            for _ in range(50):
                async with raw.websocket(app) as client:
                    await client.send(frame(TEXT, b"\xff\xfe"))
                    assert await client.close_code() == 1007
            assert "hi" in await probe.ask(msg="hi")

    with running(app):
        talk(visit())
    assert [record for record in records if record.levelno >= logging.WARNING] == []


def test_a_long_message_that_was_refused_is_not_kept() -> None:
    app = app_with()
    secret = "canary" * 10_000

    async def visit() -> None:
        async with websocket(app) as client:
            await client.socket.send(json.dumps({"msg": {"x": secret}}))
            await client.socket.send(json.dumps({"other": secret}))
            await until(lambda: len(app.errors) == 2)

    with running(app):
        talk(visit())
    for error in app.errors:
        assert "characters)" in error.message
        assert len(str(vars(error.exception))) + len(error.title) < 1000
        assert error.exception.__traceback__ is None
        assert error.exception.__context__ is None


# -- logs


def test_no_log_line_of_any_level_holds_the_token(records: list[logging.LogRecord]) -> None:
    app = App(port=0, token="log-canary")

    @app.ws("/ws")
    async def ws(msg: str) -> Any:
        raise ValueError(msg)

    @app.get("/")
    def index() -> Any:
        raise ValueError

    async def visit() -> None:
        async with websocket(app, "/ws?token=log-canary") as client:
            await client.say(msg="hi")
            await until(lambda: app.errors)
        headers = {"cookie": f"nbws-{app.port}=log-canary"}
        async with websocket(app, additional_headers=headers), connection(app) as page:
            await page.send(GET.format("/?token=log-canary"))
            assert (await page.answer())[0] == 500

    with running(app):
        talk(visit())
    logged = [
        f"{record.getMessage()} {record.exc_text or ''}" for record in records if record.name != "websockets.client"
    ]
    assert any("ValueError" in line for line in logged)
    assert not [line for line in logged if "log-canary" in line]
