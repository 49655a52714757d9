"""The log of what clients and an app say to each other, and the transcript that is made of it."""

from __future__ import annotations

import ast
import asyncio
import inspect
from typing import Any

import pytest
from clients import running, talk, until, websocket

from nbws import App
from nbws.common import Div, P
from nbws.transcript import Log, Transcript


def joined(ws: Any, room: str) -> None:
    ws.join(room)


def chat_app(**options: Any) -> App:
    app = App(port=0, record=5, **options)

    @app.ws("/chat/{room}", conn=joined)
    async def chat(text: str, room: str) -> Any:
        if text == "fail":
            raise ValueError("as asked")
        app.broadcast(P(text, id="said"), room=room)
        return Div(len(text), id="length")

    return app


def kinds(transcript: Transcript) -> list[tuple[str, int, Any]]:
    return [(line.kind, len(line.connections), line.data) for line in transcript]


def test_what_is_said_stands_there_in_order_and_a_broadcast_once() -> None:
    app = chat_app()

    async def visit() -> None:
        async with websocket(app, "/chat/a?x=1") as one, websocket(app, "/chat/a") as other:
            await until(lambda: "a" in app.rooms and len(app.rooms["a"].members) == 2)
            await one.ask(text="hi")
            await one.hear()
            await other.hear()
        await until(lambda: not app.connections)

    with running(app):
        talk(visit())
    transcript = app.transcript()
    assert kinds(transcript[:5]) == [
        ("opened", 1, None),
        ("opened", 1, None),
        ("received", 1, '{"text": "hi"}'),
        ("sent", 2, '<p id="said" hx-swap-oob="true">hi</p>'),
        ("sent", 1, '<div id="length" hx-swap-oob="true">2</div>'),
    ]
    assert [line.kind for line in transcript[5:]] == ["closed", "closed"]
    assert [line.url for line in transcript[:2]] == ["/chat/a?x=1", "/chat/a"]
    assert set(transcript.clients.values()) == {"client 1", "client 2"}
    received = transcript[2]
    assert (received.version, received.error) == (1, None)
    assert received.seconds is not None
    assert "2 clients" in repr(transcript)
    assert "<code>&lt;p id" in transcript._repr_html_()


def test_of_a_handler_that_fails_the_error_stands_with_its_message() -> None:
    app = chat_app()

    async def visit() -> None:
        async with websocket(app, "/chat/a") as client:
            await client.say(text="fail")
            await until(lambda: app.errors)

    with running(app):
        talk(visit())
    (received,) = (line for line in app.transcript() if line.kind == "received")
    assert received.error == "ValueError: as asked"


def test_headers_and_fields_to_be_redacted_are_not_in_it() -> None:
    app = chat_app()

    async def visit() -> None:
        async with websocket(app, "/chat/a") as client:
            await client.ask(text="hi", password="open sesame")

    with running(app):
        talk(visit())
    text = repr(app.transcript()) + app.transcript().to_test()
    assert "(redacted)" in text
    assert "sesame" not in text
    assert "HX-Current-URL" not in text


def test_where_messages_are_not_recorded_it_is_empty() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def echo(text: str) -> P:
        return P(text, id="out")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(text="hi")

    with running(app):
        talk(visit())
    assert len(app.transcript()) == 0
    assert repr(app.transcript()) == "nothing was said"
    assert not app.log.counts


def test_a_transcript_becomes_a_test_that_holds_and_fails_where_the_app_answers_otherwise() -> None:
    app = chat_app()

    async def visit() -> None:
        async with websocket(app, "/chat/a") as one, websocket(app, "/chat/a") as other:
            await until(lambda: "a" in app.rooms and len(app.rooms["a"].members) == 2)
            await one.ask(text="it's <b>")
            await one.hear()
            await other.hear()
            await one.socket.send("no json")
            await until(lambda: app.errors)
            await other.socket.close()
            await until(lambda: len(app.connections) == 1)

    with running(app):
        talk(visit())
    source = app.transcript().to_test()
    assert source.startswith("# 2 clients, 2 messages")
    assert "send_text('no json')" in source

    async def execute(app: App) -> None:
        code = compile(source, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        found = eval(code, {"app": app})
        if inspect.isawaitable(found):
            await found

    asyncio.run(execute(chat_app()))

    other_app = App(port=0)

    @other_app.ws("/chat/{room}", conn=joined)
    async def chat(text: str, room: str) -> Any:
        other_app.broadcast(P("another", id="said"), room=room)
        return Div(len(text), id="length")

    with pytest.raises(AssertionError):
        asyncio.run(execute(other_app))


def test_a_log_keeps_the_newest_within_its_bounds() -> None:
    log = Log(lines=10, characters=100)
    log.opened("one", "/ws", "/ws")
    for n in range(50):
        log.received("one", "/ws", "/ws", f"message {n}", 1)
    assert len(log.lines) == 10
    assert log.lines[-1].data == "message 49"
    for n in range(5):
        log.sent("one", "/ws", "/ws", f"{n}" * 30)
    assert sum(len(line.data or "") for line in log.lines) <= 100
    log.sent("one", "/ws", "/ws", "x" * 100_000)
    assert (log.lines[-1].data, log.lines[-1].size) == (None, 100_000)
    assert log.lines[-1].text == "(100000 characters, not kept)"
    assert (log.counts["one"].received, log.counts["one"].sent) == (50, 6)
    log.closed("one", "/ws", "/ws")
    assert not log.counts


def test_what_came_after_a_line_is_given_newest_and_the_rest_counted() -> None:
    log = Log()
    for n in range(100):
        log.received("one", "/ws", "/ws", str(n), 1)
    lines, missed = log.after(20, 30)
    assert [line.data for line in lines] == [str(n) for n in range(70, 100)]
    assert missed == 50
    assert log.after(log.newest, 30) == ([], 0)
