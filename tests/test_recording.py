"""The last messages of a connection, and what today's code would have sent for them."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from clients import running, talk, until, websocket

from nbws import App, NbwsError
from nbws.common import Div, P, State
from nbws.recording import Replayed, Sending, Watch, copied


def greet(text: str) -> P:
    return P("Hello ", text, id="out")


def recorded(app: App) -> list[Any]:
    return [each for connection in app.connections for each in connection.recorded]


def test_a_connection_keeps_its_last_messages_with_what_was_sent_for_them() -> None:
    app = App(port=0, record=2)

    @app.ws("/ws")
    async def chat(text: str, send: Any) -> Div:
        await send(P("first", id="a"))
        app.broadcast(P(text, id="b"))
        return Div("last", id="c")

    async def visit() -> list[Any]:
        async with websocket(app) as one, websocket(app) as other:
            for text in "xyz":
                await one.ask(text=text)
                await one.hear()
                await one.hear()
                await other.hear()
            return recorded(app)

    with running(app):
        kept = talk(visit())
    assert [json.loads(each.frame)["text"] for each in kept] == ["y", "z"]
    assert [(s.to, s.data) for s in kept[1].sent] == [
        ("itself", '<p id="a" hx-swap-oob="true">first</p>'),
        ("itself and 1 other", '<p id="b" hx-swap-oob="true">z</p>'),
        ("itself", '<div id="c" hx-swap-oob="true">last</div>'),
    ]


def test_what_a_handler_in_a_thread_sends_is_its_own_and_nothing_of_others() -> None:
    app = App(port=0, record=5)
    go = threading.Event()

    @app.ws("/ws")
    def chat(text: str) -> P:
        if text == "slow":
            assert go.wait(5)
        return P(text, id="out")

    async def visit() -> list[Any]:
        async with websocket(app) as one, websocket(app) as other:
            await one.say(text="slow")
            await other.ask(text="quick")
            go.set()
            await one.hear()
            return recorded(app)

    with running(app):
        kept = talk(visit())
    assert {json.loads(e.frame)["text"]: [s.data for s in e.sent] for e in kept} == {
        "slow": ['<p id="out" hx-swap-oob="true">slow</p>'],
        "quick": ['<p id="out" hx-swap-oob="true">quick</p>'],
    }


@pytest.mark.parametrize("record", [None, False, 0])
def test_a_script_records_nothing_unless_asked(record: Any) -> None:
    app = App(port=0, record=record)
    app.ws("/ws")(greet)

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(text="x")
            assert recorded(app) == []
            with pytest.raises(LookupError, match=r"no message to WS /ws has been recorded; App\(record=20\)"):
                await asyncio.to_thread(app.endpoints["/ws"].replay)

    with running(app):
        talk(visit())


def test_fields_to_be_redacted_are_kept_nowhere() -> None:
    app = App(port=0, record=5, redact=("password", "PIN"))

    @app.ws("/ws")
    async def log_in(user: str, password: str) -> P:
        if user == "eve":
            raise RuntimeError("no")
        return P(len(password), id="out")

    async def visit() -> Any:
        async with websocket(app) as client:
            await client.ask(user="ada", password="canary", deep={"Pin": "canary", "list": [{"pin": 1}]})
            await client.say(user="eve", password="canary")
            await client.ask(user="ada", password="")
            return recorded(app)

    with running(app):
        kept = talk(visit())
        assert len(kept) == 3
    for text in (repr(kept), *(error.message for error in app.errors)):
        assert "canary" not in text
    assert json.loads(kept[0].frame)["password"] == "(redacted)"
    assert json.loads(kept[0].frame)["deep"] == {"Pin": "(redacted)", "list": [{"pin": "(redacted)"}]}


def test_a_replay_runs_on_todays_version_and_reaches_nobody() -> None:
    app = App(port=0, record=5)
    left = []
    app.ws("/ws", disconn=lambda ws: left.append(ws.id))(greet)

    async def today(text: str, ws: Any, send: Any, session: Any) -> P:
        await send(P("more", id="more"))
        app.broadcast(Div("to all", id="all"))
        ws.join("room")
        session["seen"] = True
        ws.state["n"] = 99
        for connection in app.connections:
            connection.close(4000)
        return P("Bye ", text, id="out")

    async def visit() -> Any:
        async with websocket(app) as one, websocket(app) as other:
            await one.ask(text="<x>")
            app.ws("/ws", disconn=lambda ws: left.append(ws.id))(today)
            replay = await asyncio.to_thread(app.endpoints["/ws"].replay)
            assert all(c.is_open and not c.rooms and not c.state and "seen" not in c.session for c in app.connections)
            assert left == []
            app.ws("/ws")(greet)  # nothing has come in the meantime
            assert [await c.ask(text="still here") for c in (one, other)] == [
                '<p id="out" hx-swap-oob="true">Hello still here</p>'
            ] * 2
            return replay

    with running(app):
        replay = talk(visit())
    (only,) = replay
    assert only.versions == (1, 2)
    assert [s.data for s in only.before] == ['<p id="out" hx-swap-oob="true">Hello &lt;x&gt;</p>']
    assert [(s.to, s.data) for s in only.now] == [
        ("itself", '<p id="more" hx-swap-oob="true">more</p>'),
        ("itself and 1 other", '<div id="all" hx-swap-oob="true">to all</div>'),
        ("itself", '<p id="out" hx-swap-oob="true">Bye &lt;x&gt;</p>'),
    ]
    assert "Hello" in only.diff
    html = replay._repr_html_()
    assert "<del>Hello</del>" in html
    assert "<ins>Bye</ins>" in html
    assert "<x>" not in html


def test_each_message_is_replayed_with_the_state_that_it_found() -> None:
    app = App(port=0, record=5)

    @app.ws("/ws")
    async def count(ws: Any) -> P:
        ws.state.n = ws.state.get("n", 0) + 1
        return P(ws.state.n, id="out")

    async def visit() -> Any:
        async with websocket(app) as client:
            for _ in range(3):
                await client.ask()
            replay = await asyncio.to_thread(app.endpoints["/ws"].replay, 2)
            assert app.connections[0].state.n == 3
            return replay

    with running(app):
        replay = talk(visit())
    assert [[s.data for s in each.now] for each in replay] == [
        ['<p id="out" hx-swap-oob="true">2</p>'],
        ['<p id="out" hx-swap-oob="true">3</p>'],
    ]
    assert all(each.is_same and each.diff == "" for each in replay)


def test_errors_then_and_now_are_part_of_what_is_compared() -> None:
    app = App(port=0, record=5)

    @app.ws("/ws")
    async def broken(text: str) -> P:
        raise ValueError("once")

    async def visit() -> Any:
        async with websocket(app) as client:
            await client.say(text="x")
            app.ws("/other")(greet)
            await until(lambda: app.errors)
            app.ws("/ws")(greet)
            mended = await asyncio.to_thread(app.endpoints["/ws"].replay)
            app.ws("/ws")(broken)
            return mended[0], (await asyncio.to_thread(app.endpoints["/ws"].replay))[0]

    with running(app):
        mended, again = talk(visit())
    assert mended.errors == ("ValueError: once", None)
    assert "-raised ValueError: once" in mended.diff
    assert again.is_same
    assert len(app.errors) == 1  # a rehearsal that fails is no error of the app


def test_what_was_said_on_a_connection_that_has_gone_can_be_replayed() -> None:
    app = App(port=0, record=5)
    app.ws("/ws")(greet)

    async def visit() -> Any:
        async with websocket(app) as client:
            await client.ask(text="x")
        await until(lambda: not app.connections)
        return await asyncio.to_thread(app.endpoints["/ws"].replay, 5)

    with running(app):
        assert [each.is_same for each in talk(visit())] == [True]
        app.stop()
        with pytest.raises(NbwsError, match="after the server has stopped"):
            app.endpoints["/ws"].replay()


def test_a_replay_on_the_servers_own_thread_is_refused_and_does_not_hang() -> None:
    app = App(port=0, record=5)

    @app.ws("/ws")
    async def again() -> P:
        app.endpoints["/ws"].replay()
        return P("x", id="out")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say()
            await until(lambda: app.errors)

    with running(app):
        talk(visit())
    assert "on the server's own thread" in app.errors[0].title


def test_a_handler_that_never_ends_ends_its_replay() -> None:
    from nbws import Limits

    app = App(port=0, record=5, limits=Limits(finish_seconds=0.2))
    app.ws("/ws")(greet)

    async def visit() -> Any:
        async with websocket(app) as client:
            await client.ask(text="x")

            @app.ws("/ws")
            async def endless(text: str) -> None:
                await asyncio.Event().wait()

            return await asyncio.to_thread(app.endpoints["/ws"].replay)

    with running(app):
        (only,) = talk(visit())
    assert only.errors[1] is not None
    assert "Timeout" in only.errors[1]


def test_a_state_that_takes_long_to_copy_or_cannot_be_is_not_copied_again() -> None:
    assert copied(State(a=[1])) == ({"a": [1]}, True)
    assert copied(threading.Lock()) == (None, False)
    large = [[n] for n in range(20_000)]
    assert copied(large)[1] is False


def test_much_that_is_sent_is_kept_in_part() -> None:
    watch = Watch("me")
    for _ in range(100):
        assert watch.takes("me", "x" * 2000) is False
    assert len(watch.sent) == 32
    assert watch.is_cut


def test_the_side_by_side_view_shows_bytes_and_nothing() -> None:
    replayed = Replayed("m", "c", (1, 2), (Sending(b"\x00\xff", to_itself=True),), ())
    assert "-(2 bytes) 00 ff" in replayed.diff
