"""A connection over several sockets: what comes back, what is told to whom, and how each ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import re
import socket
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from queue import SimpleQueue
from typing import Any

import pytest
from chaos import MARK, Resuming
from clients import SECONDS, running, talk, until, websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

import nbws.connection
import nbws.sockets
from nbws import App, Limits
from nbws.common import P
from nbws.outbox import Overflow
from nbws.session_cookie import SessionCookies

pytestmark = pytest.mark.usefixtures("parser")


@pytest.fixture(autouse=True)
def nothing_goes_wrong_in_the_server(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    wrong = [r.getMessage() for r in caplog.get_records("call") if r.levelno >= logging.ERROR]
    told = ("timeout graceful shutdown", "without completing handshake")  # by uvicorn, of what is as it should be
    assert [message for message in wrong if not any(each in message for each in told)] == []


class Watched:
    """An app with one endpoint at `/ws` that says what comes, and what has happened to its connections."""

    def __init__(self, **limits: Any) -> None:
        self.app = App(port=0, limits=Limits(**limits))
        self.events: list[tuple[str, str]] = []
        self.app.ws("/ws", conn=lambda ws: self.note("conn", ws), disconn=lambda ws: self.note("disconn", ws))(
            self.echo
        )

    def note(self, what: str, ws: Any) -> None:
        self.events.append((what, ws.id))

    async def echo(self, text: str, ws: Any) -> Any:
        ws.state.n = ws.state.get("n", 0) + 1
        return P(f"{text} {ws.state.n}", id="out")

    @property
    def happened(self) -> list[str]:
        return [what for what, _ in self.events]

    @property
    def ws(self) -> Any:
        (connection,) = self.app.connections
        return connection

    async def away(self) -> None:
        """Wait until the server knows that its one client was cut off."""
        await until(lambda: self.ws.is_away)

    def is_clean(self) -> bool:
        """Whether nothing is left of any connection, and each had its `conn` and its `disconn` once."""
        counted = [self.events.count(event) for event in self.events]
        begun = [id for what, id in self.events if what == "conn"]
        ended = [id for what, id in self.events if what == "disconn"]
        held = self.app._asgi.conversations._by_key
        return set(counted) <= {1} and sorted(begun) == sorted(ended) and not (self.app.connections or held)


@asynccontextmanager
async def coming(app: App, path: str = "/ws") -> AsyncIterator[Resuming]:
    client = Resuming(app.url, path)
    await client.come()
    yield client
    await client.leave()


def numbers(frames: list[Any]) -> list[int]:
    return [int(re.findall(r">(\d+)<", frame)[0]) for frame in frames]


# -- coming back


def test_a_client_that_was_cut_off_gets_what_it_missed_in_order_and_once() -> None:
    watched = Watched()

    async def visit() -> None:
        async with coming(watched.app) as client:
            assert ">a 1<" in await client.ask(text="a")
            ws = watched.ws
            client.cut()
            await watched.away()
            assert repr(ws).endswith("on /ws, cut off>")
            for n in range(5):
                watched.app.broadcast(P(n, id="m"))
            greeting = await client.come()
            assert greeting == {"key": client.key, "got": 1, "resync": False}
            assert numbers([await client.hear() for _ in range(5)]) == [0, 1, 2, 3, 4]
            assert ">b 2<" in await client.ask(text="b")
            assert watched.ws is ws
            assert watched.happened == ["conn"]
        await until(watched.is_clean)

    with running(watched.app):
        talk(visit())


def test_what_was_under_way_when_the_socket_was_cut_comes_again() -> None:
    watched = Watched()

    async def visit() -> None:
        async with coming(watched.app) as client:
            for n in range(10):
                watched.app.broadcast(P(n, id="m"))
            assert numbers([await client.hear() for _ in range(3)]) == [0, 1, 2]  # of those that have come
            client.cut()
            await client.come()
            assert numbers([await client.hear() for _ in range(7)]) == [3, 4, 5, 6, 7, 8, 9]

    with running(watched.app):
        talk(visit())


def test_messages_that_did_not_arrive_are_handled_once_and_in_order() -> None:
    watched = Watched()

    async def visit() -> None:
        async with coming(watched.app) as client:
            await client.ask(text="a")
            client.cut()
            for text in "bcd":
                await client.say(text=text)  # while it is away
            assert (await client.come())["got"] == 1
            assert [re.findall(r">(.*)<", await client.hear()) for _ in range(3)] == [["b 2"], ["c 3"], ["d 4"]]
            client.cut()
            assert (await client.come())["got"] == 4
            assert ">e 5<" in await client.ask(text="e")

    with running(watched.app):
        talk(visit())


def test_a_client_may_be_cut_off_many_times() -> None:
    watched = Watched()

    async def visit() -> None:
        async with coming(watched.app) as client:
            for n in range(30):
                watched.app.broadcast(P(n, id="m"))
                client.cut()
                if n % 2:
                    await watched.away()
                await client.come()
            while len(client.heard) < 30:
                await client.hear()
            assert numbers(client.heard) == list(range(30))
            assert watched.happened == ["conn"]
        await until(watched.is_clean)

    with running(watched.app):
        talk(visit())


def test_what_conn_sends_comes_after_the_greeting_and_counts() -> None:
    app = App(port=0)

    @app.ws("/ws", conn=lambda: P("welcome", id="w"))
    async def ws(text: str): ...

    async def visit() -> None:
        async with coming(app) as client:
            assert "welcome" in await client.hear()
            client.cut()
            await client.come()
            app.broadcast(P("next", id="w"))
            assert "next" in await client.hear()
            client.cut()
            await client.come(count=0)
            assert ["welcome" in await client.hear(), "next" in await client.hear()] == [True, True]

    with running(app):
        talk(visit())


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_what_a_handler_sends_that_ran_while_its_client_was_away_arrives(kind: str) -> None:
    app = App(port=0)
    entered, go_on = threading.Event(), threading.Event()

    async def in_async(send):
        entered.set()
        await asyncio.to_thread(go_on.wait, SECONDS)
        await send(P("sent", id="a"))
        return P("returned", id="a")

    def in_thread(send):
        entered.set()
        go_on.wait(SECONDS)
        send(P("sent", id="a"))
        return P("returned", id="a")

    app.ws("/ws")(in_async if kind == "async def" else in_thread)

    async def visit() -> None:
        async with coming(app) as client:
            await client.say()
            assert await asyncio.to_thread(entered.wait, SECONDS)
            client.cut()
            await until(lambda: app.connections[0].is_away)
            go_on.set()
            await client.come()
            assert ["sent" in await client.hear(), "returned" in await client.hear()] == [True, True]

    with running(app):
        talk(visit())
    assert not app.errors


@pytest.mark.parametrize("path", ["/awaited", "/async-generator", "/generator"])
def test_a_stream_waits_for_its_client_and_goes_on_where_it_was(path: str) -> None:
    app = App(port=0)
    sent: list[int] = []
    go_on = threading.Event()

    async def items() -> AsyncIterator[Any]:
        for n in range(2000):
            sent.append(n)
            if n == 20:
                await asyncio.to_thread(go_on.wait, SECONDS)
            yield P(n, id="n")

    @app.ws("/awaited")
    async def awaited(send):
        async for item in items():
            await send(item)

    @app.ws("/async-generator")
    async def async_generator():
        async for item in items():
            yield item

    @app.ws("/generator")
    def generator():
        for n in range(2000):
            sent.append(n)
            if n == 20:
                go_on.wait(SECONDS)
            yield P(n, id="n")

    async def visit() -> None:
        async with coming(app, path) as client:
            ws = app.connections[0]
            await client.say()
            await until(lambda: len(sent) > 20)
            client.cut()
            await until(lambda: ws.is_away)
            go_on.set()
            await until(lambda: ws.is_above_high_water)
            await asyncio.sleep(0.1)  # in which a stream that does not wait is over
            assert len(sent) < 256
            assert not (await client.come())["resync"]
            assert numbers([await client.hear() for _ in range(2000)]) == list(range(2000))

    with running(app):
        talk(visit())
    assert not app.errors


def test_a_new_socket_takes_the_place_of_one_that_is_not_known_to_be_dead() -> None:
    watched = Watched()

    async def visit() -> None:
        async with coming(watched.app) as client:
            await client.ask(text="a")
            old = client.socket
            client.forget()
            watched.app.broadcast(P("to the old one", id="m"))
            await client.come()
            assert "to the old one" in await client.hear()
            assert ">b 2<" in await client.ask(text="b")
            assert old is not None
            await asyncio.wait_for(old.wait_closed(), SECONDS)
            assert watched.happened == ["conn"]
            client.cut()
            await watched.away()
            await client.come()
            assert ">c 3<" in await client.ask(text="c")
        await until(watched.is_clean)

    with running(watched.app):
        talk(visit())


@pytest.mark.parametrize("state", ["connected", "away"])
def test_of_many_sockets_that_come_at_once_the_last_is_served_and_nothing_is_lost(state: str) -> None:
    watched = Watched()

    async def visit() -> None:
        async with coming(watched.app) as client:
            await client.ask(text="a")
            for round in range(10):
                if state == "away":
                    client.cut()
                    await watched.away()
                clones = [Resuming(watched.app.url) for _ in range(5)]
                for clone in clones:
                    clone.key, clone.received = client.key, client.received
                await asyncio.gather(*(clone.come() for clone in clones), return_exceptions=True)
                client.forget()
                await client.come()
                watched.app.broadcast(P(round, id="m"))
                assert numbers([await client.hear()]) == [round]
            assert watched.happened == ["conn"]
            client.cut()  # the window is as long as ever: it does not end at once
            await watched.away()
            await client.come()
            assert ">b 2<" in await client.ask(text="b")
        await until(watched.is_clean)

    with running(watched.app):
        talk(visit())


def test_a_client_may_ask_whether_anybody_is_there() -> None:
    watched = Watched()

    async def visit() -> None:
        async with coming(watched.app) as client:
            await client.ask(text="a")
            await client.report("1?")
            assert ">b 2<" in await client.ask(text="b")
            assert client.controls == [{"got": 1}]
            client.cut()
            await client.come()
            assert ">c 3<" in await client.ask(text="c")

    with running(watched.app):
        talk(visit())


def test_what_a_client_has_acknowledged_is_let_go() -> None:
    watched = Watched()

    async def visit() -> None:
        async with coming(watched.app) as client:
            for _ in range(10):
                await client.ask(text="a")
            assert len(watched.ws.sent) == 10
            await client.report("9")
            await until(lambda: len(watched.ws.sent) == 1)
            client.cut()
            await client.come(count=9)
            assert ">a 10<" in await client.hear()

    with running(watched.app):
        talk(visit())


def test_what_nobody_acknowledges_is_let_go_when_its_time_is_over() -> None:
    watched = Watched(resume_seconds=0.2)

    async def visit() -> None:
        async with coming(watched.app) as client:
            await client.ask(text="a")
            await until(lambda: len(watched.ws.sent) == 0)
            assert ">b 2<" in await client.ask(text="b")

    with running(watched.app):
        talk(visit())


# -- not coming back


def test_the_window_ends() -> None:
    watched = Watched(resume_seconds=0.2)

    async def visit() -> None:
        async with coming(watched.app) as client:
            await client.ask(text="a")
            client.cut()
            await until(watched.is_clean)
            assert watched.happened == ["conn", "disconn"]
            assert (await client.come())["resync"]
            assert ">b 1<" in await client.ask(text="b")
        await until(watched.is_clean)

    with running(watched.app):
        talk(visit())


def test_when_nobody_comes_back_no_handler_waits_for_its_client_any_more() -> None:
    app = App(port=0, limits=Limits(resume_seconds=0.5))
    left: SimpleQueue[str] = SimpleQueue()
    handled: list[int] = []
    go_on = threading.Event()

    @app.ws("/ws", disconn=lambda ws: left.put(ws.id))
    async def ws(n: int, send):
        await asyncio.to_thread(go_on.wait, SECONDS)
        for part in range(100):
            await send(P(n, part, id="n"))
        handled.append(n)

    async def visit() -> None:
        client = Resuming(app.url)
        await client.come()
        for n in range(10):
            await client.say(n=n)
        await client.report("0?")
        assert client.socket is not None
        assert '"got": 10' in str(await asyncio.wait_for(client.socket.recv(), SECONDS))
        client.cut()
        await until(lambda: app.connections[0].is_away)
        go_on.set()
        began = time.monotonic()
        assert await asyncio.to_thread(left.get, True, 2 * SECONDS)
        assert time.monotonic() - began < 4, "less than one of them would wait for a healthy client"

    with running(app):
        talk(visit())
    assert handled == list(range(10))


def test_a_clean_close_is_the_end_at_once() -> None:
    watched = Watched()

    async def visit() -> None:
        async with coming(watched.app) as client:
            await client.leave()
            await until(watched.is_clean)
            assert (await client.come())["resync"]

    with running(watched.app):
        talk(visit())


def test_ws_close_while_the_client_is_away_is_the_end_at_once() -> None:
    watched = Watched()

    async def visit() -> None:
        async with coming(watched.app) as client:
            client.cut()
            await watched.away()
            watched.ws.close(4001)
            await until(watched.is_clean)
            assert (await client.come())["resync"]

    with running(watched.app):
        talk(visit())


@pytest.mark.parametrize("policy", ["close", "drop_oldest", "conflate"])
def test_a_client_that_is_away_for_more_than_is_kept_is_given_up_at_once_and_told_so(policy: Overflow) -> None:
    watched = Watched(overflow=policy, resume_messages=5, resume_bytes=10_000)

    async def visit(frame: str) -> None:
        async with coming(watched.app) as client:
            await client.ask(text="a")
            client.cut()
            await watched.away()
            for _ in range(3):
                watched.app.broadcast(P(frame, id="m"))
            await client.come()
            assert [frame in await client.hear() for _ in range(3)] == [True] * 3
            client.cut()
            await watched.away()
            for _ in range(6):
                watched.app.broadcast(P(frame, id="m"))
            await until(watched.is_clean)
            assert (await client.come())["resync"]
        await until(watched.is_clean)

    with running(watched.app):
        talk(visit("x"))  # too many
        talk(visit("x" * 3000))  # too much


def test_a_count_that_cannot_be_right_is_answered_with_a_new_connection() -> None:
    watched = Watched()

    async def visit(count: int | str) -> None:
        async with coming(watched.app) as client:
            await client.ask(text="a")
            client.cut()
            assert (await client.come(count=count))["resync"]
            assert watched.happened == ["conn", "disconn", "conn"]
            assert ">b 1<" in await client.ask(text="b")
        await until(watched.is_clean)
        watched.events.clear()

    with running(watched.app):
        for count in (2, 10**14, -1, "x", "9" * 5000, ""):
            talk(visit(count))


def test_a_count_that_cannot_be_right_ends_an_old_socket_too() -> None:
    watched = Watched()

    async def visit() -> None:
        async with coming(watched.app) as client:
            await client.ask(text="a")
            old = client.socket
            client.forget()
            assert (await client.come(count=7))["resync"]
            assert old is not None
            await asyncio.wait_for(old.wait_closed(), SECONDS)
            assert watched.happened == ["conn", "disconn", "conn"]
        await until(watched.is_clean)

    with running(watched.app):
        talk(visit())


def test_disconn_of_the_old_connection_has_run_before_conn_of_the_new_one() -> None:
    app = App(port=0)
    events: list[str] = []

    async def left() -> None:
        await asyncio.sleep(0.1)
        events.append("disconn")

    @app.ws("/ws", conn=lambda: events.append("conn"), disconn=left)
    async def ws(): ...

    async def visit() -> None:
        async with coming(app) as client:
            app.connections[0].close(1013)
            await until(lambda: not app.connections or not app.connections[0].is_open)
            client.forget()
            assert (await client.come())["resync"]
            assert events == ["conn", "disconn", "conn"]

    with running(app):
        talk(visit())


def test_a_key_that_nobody_has_is_a_new_connection_that_fetches_its_page() -> None:
    watched = Watched()

    async def visit() -> None:
        async with coming(watched.app) as client:
            for key in ("nobody-has-it", "x" * 4000, "%00", "é"):
                other = Resuming(watched.app.url)
                assert (await other.come(key=key, count=0))["resync"]
                assert other.key not in ("", key, client.key)
                assert ">b 1<" in await other.ask(text="b")
                await other.leave()
            assert ">a 1<" in await client.ask(text="a")
        await until(watched.is_clean)

    with running(watched.app):
        talk(visit())


def test_a_key_is_good_at_its_own_address_alone() -> None:
    app, another = App(port=0), App(port=0)

    for each in (app, another):

        @each.ws("/chat/{room}")
        async def chat(room: str): return P(room, id="a")  # fmt: skip

        @each.ws("/ws")
        async def ws(): return P("ws", id="a")  # fmt: skip

    async def visit() -> None:
        async with coming(app, "/chat/a") as client:
            await client.ask()
            for url, path in ((app.url, "/chat/b"), (app.url, "/ws"), (another.url, "/chat/a")):
                thief = Resuming(url, path)
                assert (await thief.come(key=client.key, count=1))["resync"]
                assert path.rpartition("/")[2] in await thief.ask()
                await thief.leave()
            assert ">a<" in await client.ask()
            client.cut()
            assert not (await client.come())["resync"]

    with running(app), running(another):
        talk(visit())


# -- what happens meanwhile


def test_a_member_that_is_away_is_in_its_room_and_hears_it_when_it_is_back() -> None:
    app = App(port=0)

    @app.ws("/ws", conn=lambda ws: ws.join("lobby"))
    async def ws(): ...

    async def visit() -> None:
        async with coming(app) as client, websocket(app) as other:
            (ws, _) = app.connections
            client.cut()
            await until(lambda: ws.is_away)
            assert ws in app.rooms["lobby"].members
            app.broadcast(P("to all", id="a"))
            app.broadcast(P("to the room", id="a"), room="lobby")
            app.broadcast(P("to others", id="a"), exclude=ws)
            app.broadcast(P("to nobody", id="a"), room="elsewhere")
            ws.leave("lobby")
            app.broadcast(P("to those who are left", id="a"), room="lobby")
            ws.send(P("to it", id="a"))
            await client.come()
            heard = [re.findall(">(.*)<", await client.hear())[0] for _ in range(3)]
            assert heard == ["to all", "to the room", "to it"]
            heard = [re.findall(">(.*)<", await other.hear())[0] for _ in range(4)]
            assert heard == ["to all", "to the room", "to others", "to those who are left"]
        await until(lambda: dict(app.rooms) == {})

    with running(app):
        talk(visit())


def test_a_version_that_is_published_meanwhile_serves_who_comes_back_and_migrates_it_once() -> None:
    watched = Watched()
    app = watched.app
    swaps: list[tuple[int, int]] = []

    def migrate(ws, state, old, new):
        swaps.append((old, new))
        state["moved"] = True
        return P("moved", id="a")

    async def visit() -> None:
        async with coming(app) as client:
            await client.ask(text="a")
            client.cut()
            await watched.away()

            @app.ws("/ws", swap=migrate)
            async def new(text: str, ws):
                return P(f"new {text} {ws.state.n} {ws.state.moved}", id="a")

            await client.say(text="b")
            await client.come()
            assert "moved" in await client.hear()
            assert ">new b 1 True<" in await client.hear()
            assert swaps == [(1, 2)]

    with running(app):
        talk(visit())
    assert not app.errors


def test_an_endpoint_that_is_retired_meanwhile_ends_the_connection() -> None:
    watched = Watched()

    async def visit() -> None:
        async with coming(watched.app) as client:
            client.cut()
            await watched.away()
            watched.app.endpoints["/ws"].retire()
            await until(watched.is_clean)
            with pytest.raises(InvalidStatus):
                await client.come()

    with running(watched.app):
        talk(visit())


@pytest.mark.parametrize("comes_back", [True, False])
def test_an_endpoint_that_is_parked_meanwhile_is_waited_for(comes_back: bool) -> None:
    watched = Watched(park_seconds=SECONDS if comes_back else 0.2)
    app = watched.app
    (key,) = (key for key, _ in app.table)

    async def visit() -> None:
        async with coming(app) as client:
            await client.ask(text="a")
            client.cut()
            await watched.away()
            app._publisher.publish([], [key])  # as a cell does that is run again without it
            with pytest.raises(InvalidStatus):
                await client.come()
            await client.say(text="b")
            if comes_back:
                app.ws("/ws")(watched.echo)
                await client.come()
                assert ">b 2<" in await client.hear()
            else:
                await until(watched.is_clean)

    with running(app):
        talk(visit())


def test_stop_waits_for_nobody_who_is_away() -> None:
    watched = Watched()

    async def visit() -> None:
        async with coming(watched.app) as client, coming(watched.app) as other:
            client.cut()
            other.forget()
            await until(lambda: any(ws.is_away for ws in watched.app.connections))
            began = time.monotonic()
            await asyncio.to_thread(watched.app.stop)
            assert time.monotonic() - began < 2
            assert watched.is_clean()
            assert sorted(watched.happened) == ["conn", "conn", "disconn", "disconn"]
            watched.app.start()
            client.url = watched.app.url.replace("http", "ws") + "/ws"
            assert (await client.come())["resync"]
            assert ">a 1<" in await client.ask(text="a")

    with running(watched.app):
        talk(visit())


def test_stop_ends_a_connection_that_was_accepted_and_whose_session_store_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched, asked = Watched(finish_seconds=0.5), threading.Event()
    keep, calls = SessionCookies.keep, itertools.count(1)

    async def keep_or_hang(self: SessionCookies, session: Any) -> None:
        if next(calls) == 2:  # on the way back from the accept
            asked.set()
            await asyncio.Event().wait()
        await keep(self, session)

    monkeypatch.setattr(SessionCookies, "keep", keep_or_hang)

    async def visit() -> None:
        client = asyncio.create_task(come_and_wait())
        assert await asyncio.to_thread(asked.wait, SECONDS)
        await asyncio.to_thread(watched.app.stop)
        await client
        assert watched.is_clean()
        assert watched.happened == ["conn", "disconn"]

    async def come_and_wait() -> None:
        with contextlib.suppress(ConnectionClosed):
            async with websocket(watched.app) as client:
                await client.hear()

    with running(watched.app):
        talk(visit())


def test_stop_lets_a_handler_finish_whose_client_is_away_and_cancels_one_that_does_not() -> None:
    app = App(port=0, limits=Limits(finish_seconds=1))
    entered: SimpleQueue[str] = SimpleQueue()
    ended: SimpleQueue[str] = SimpleQueue()

    @app.ws("/ws", disconn=lambda ws: ended.put(f"disconn {ws.state.name}"))
    async def ws(ws, name: str, seconds: float):
        ws.state.name = name
        entered.put(name)
        await asyncio.sleep(seconds)
        ended.put(name)

    async def visit() -> None:
        clients = [Resuming(app.url) for _ in range(2)]
        for client, (name, seconds) in zip(clients, (("short", 0.3), ("endless", 999)), strict=True):
            await client.come()
            await client.say(name=name, seconds=seconds)
            await asyncio.to_thread(entered.get, timeout=SECONDS)
            client.cut()
        await until(lambda: all(ws.is_away for ws in app.connections))
        began = time.monotonic()
        await asyncio.to_thread(app.stop)
        assert time.monotonic() - began < 2

    with running(app):
        talk(visit())
    assert [ended.get(timeout=SECONDS) for _ in range(3)] == ["short", "disconn short", "disconn endless"]
    assert ended.empty()


# -- clients that are not able to resume


def test_a_plain_client_sees_nothing_of_all_this_and_its_cut_is_the_end_at_once() -> None:
    watched = Watched()

    async def visit() -> None:
        async with websocket(watched.app, "/ws?other=1") as client:
            assert await client.ask(text="a") == '<p id="out" hx-swap-oob="true">a 1</p>'
            assert watched.ws.sent is None
            client.vanish()
            await until(watched.is_clean)

    with running(watched.app):
        talk(visit())


def test_a_message_of_a_plain_client_may_start_with_a_nul() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(data: str, ws):
        ws.send_text(repr(data))

    async def visit() -> None:
        async with websocket(app) as client:
            for text in (MARK + "5", MARK + "5?", "\0", MARK):
                await client.socket.send(text)
                assert await client.hear() == repr(text)

    with running(app):
        talk(visit())


def test_a_handler_does_not_see_the_parameter() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(ws, request_text: str = "none", x: str = ""):
        return P(f"{dict(ws.query_params)} {ws.url.query} {x}", id="a")

    async def visit() -> None:
        async with coming(app, "/ws?x=1") as client:
            assert "{&#39;x&#39;: &#39;1&#39;} x=1 1" in await client.ask()

    with running(app):
        talk(visit())


def test_a_report_of_nonsense_does_no_harm() -> None:
    watched = Watched()

    async def visit(report: str) -> None:
        async with coming(watched.app) as client:
            await client.report(report)
            assert ">a 1<" in await client.ask(text="a")
            client.cut()
            await watched.away()
            await client.come()
            assert ">b 2<" in await client.ask(text="b")
        await until(watched.is_clean)

    with running(watched.app):
        for report in ("", "x", "9" * 5000, "-1", "99999", "1?2", "\ud7ff", "0" * 900_000):
            talk(visit(report))


# -- bounds


def test_those_who_are_away_keep_nobody_out() -> None:
    watched = Watched(connections=2)

    async def visit() -> None:
        first, second, third = (Resuming(watched.app.url) for _ in range(3))
        for client in (first, second):
            await client.come()
            client.cut()
            await until(lambda: all(ws.is_away for ws in watched.app.connections))
        await third.come()
        assert len(watched.app.connections) == 2
        assert not (await second.come())["resync"]  # the first was away for longer
        with pytest.raises(InvalidStatus, match="503"):
            await first.come()
        await third.leave()
        await until(lambda: len(watched.app.connections) == 1)
        assert (await first.come())["resync"]
        await first.leave()
        await second.leave()
        await until(watched.is_clean)

    with running(watched.app):
        talk(visit())


def test_nothing_is_held_of_clients_that_did_not_come_back() -> None:
    watched = Watched(resume_seconds=1)
    found: list[weakref.ref[Any]] = []

    async def visit() -> None:
        clients = [Resuming(watched.app.url) for _ in range(100)]
        for client in clients:
            await client.come()
        found.extend(weakref.ref(connection) for connection in watched.app.connections)
        for client in clients:
            client.cut()
        await until(lambda: all(ws.is_away for ws in watched.app.connections))
        for _ in range(10):
            watched.app.broadcast(P("x" * 50_000, id="m"))
        await until(lambda: all(len(ws.sent) == 10 for ws in watched.app.connections))
        await until(watched.is_clean)

    def is_released() -> bool:
        gc.collect()
        return not any(reference() for reference in found)

    with running(watched.app):
        talk(visit())
        assert len(found) == 100
        talk(until(is_released))


def test_a_peer_that_takes_its_time_and_goes_on_taking_is_not_stalled() -> None:
    app = App(port=0, limits=Limits(stall_seconds=0.8, outbox_bytes=8_000_000))

    @app.ws("/ws")
    async def ws(ws):
        ws.send_bytes(b"x" * 2_000_000)

    async def visit() -> None:
        async with websocket(app) as client:
            client.stop_reading()
            sock = client.socket.transport.get_extra_info("socket")
            await client.say()
            taken = 0
            began = time.monotonic()
            while taken < 2_000_000:
                try:
                    taken += len(socket.socket.recv(sock._sock, 64 * 1024))
                except BlockingIOError:
                    pass
                await asyncio.sleep(0.04)
            assert time.monotonic() - began > 1, "longer than a stall may last"
            assert [ws.is_open for ws in app.connections] == [True]

    with running(app):
        talk(visit())


def test_a_peer_that_takes_nothing_is_noticed_though_little_is_sent() -> None:
    """What waits is less than the writer would wait for."""
    app = App(port=0, limits=Limits(stall_seconds=0.5))
    left: SimpleQueue[str] = SimpleQueue()

    @app.ws("/ws", disconn=lambda ws: left.put(ws.id))
    async def ws(ws): ...

    async def visit() -> None:
        async with websocket(app) as client:
            (ws,) = app.connections
            await until(lambda: ws._socket is not None)
            client.stop_reading()
            while not ws._socket.unsent():
                ws.send_bytes(b"x" * 10_000)
                await until(lambda: not len(ws._outbox) or ws._is_writing)
            assert not ws._is_writing
            began = time.monotonic()
            assert await asyncio.to_thread(left.get, True, SECONDS) == ws.id
            assert 0.4 < time.monotonic() - began < 1.5
            client.vanish()

    with running(app):
        talk(visit())


def test_a_client_that_stops_reading_is_gone_within_six_seconds_and_delays_nobody_by_whichever_policy() -> None:
    policies: tuple[Overflow, ...] = ("close", "drop_oldest", "conflate")
    outcome: dict[str, tuple[float, float, list[str]]] = {}

    async def visit(watched: Watched, policy: Overflow) -> None:
        app, waits = watched.app, []
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(websocket(app)) for _ in range(3)]
            stalled = Resuming(app.url)
            await stalled.come()
            (ws,) = (ws for ws in app.connections if ws.sent is not None)
            assert stalled.socket is not None
            stalled.socket.transport.pause_reading()
            began = None  # when the systems' own buffers were full
            for n in itertools.count():
                sent = time.monotonic()
                app.broadcast(P(n, "x" * 10_000, id="m"))
                for client in clients:
                    assert f">{n}x" in await client.hear()
                waits.append(time.monotonic() - sent)
                if began is None and ws._socket is not None and ws._socket.unsent():
                    began = time.monotonic()
                if ("disconn", ws.id) in watched.events:
                    break
                await asyncio.sleep(0.02)
            assert began is not None
            outcome[policy] = (
                time.monotonic() - began,
                max(waits),
                [what for what, id in watched.events if id == ws.id],
            )
            assert (await stalled.come())["resync"]
            await stalled.leave()
        await until(watched.is_clean)

    async def visits(watched: list[Watched]) -> None:
        await asyncio.gather(*(visit(each, policy) for each, policy in zip(watched, policies, strict=True)))

    watched = [Watched(overflow=policy, outbox_bytes=200_000) for policy in policies]
    with AsyncExitStackOfApps(watched):
        talk(visits(watched))
    for policy, (seconds, longest, events) in outcome.items():
        assert seconds < 6, (policy, seconds)
        assert longest < 0.25, (policy, longest)
        assert events == ["conn", "disconn"]
    assert outcome["close"][0] < 4, "it overflows before it is stalled for long enough"
    assert len(outcome) == 3


class AsyncExitStackOfApps:
    """Runs the apps of all of *watched*."""

    def __init__(self, watched: list[Watched]) -> None:
        self._apps = [each.app for each in watched]

    def __enter__(self) -> None:
        for app in self._apps:
            app.start()

    def __exit__(self, *_: object) -> None:
        for app in self._apps:
            app.stop()


def test_a_peer_that_never_reads_keeps_no_socket_after_its_connection_was_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nbws.sockets, "_LINGER_SECONDS", 0.3)
    monkeypatch.setattr(nbws.connection, "_CLOSE_SECONDS", 0.3)
    app = App(port=0)

    @app.ws("/ws")
    async def ws(ws): ...

    async def visit(waiting: int) -> None:
        async with websocket(app) as client:
            (ws,) = app.connections
            server = app._server
            assert server is not None
            await until(lambda: ws._socket is not None)
            client.stop_reading()
            while ws._socket.unsent() < waiting:
                ws.send_bytes(b"x" * 10_000)
                await until(lambda: not len(ws._outbox) or ws._is_writing)
            ws.close()
            await until(lambda: not app.connections and not server._uvicorn.server_state.connections)

    with running(app):
        talk(visit(1))
        talk(visit(60_000))


def test_a_client_that_goes_while_its_inbox_is_full_is_noticed_and_what_it_sent_is_handled() -> None:
    app = App(port=0, limits=Limits(inbox_messages=3, finish_seconds=0.2, ping_seconds=0.2))
    seen: list[Any] = []
    ended = threading.Event()

    def left() -> None:
        seen.append("disconn")
        ended.set()

    @app.ws("/ws", disconn=left)
    async def ws(n: int):
        seen.append(n)
        if n == 0:
            await asyncio.Event().wait()

    async def visit() -> None:
        async with websocket(app) as client:
            for n in range(10):
                await client.say(n=n)
            await until(lambda: seen == [0])
            client.vanish()
            assert await asyncio.to_thread(ended.wait, SECONDS)

    with running(app):
        talk(visit())
    assert seen[0] == 0
    assert seen[-1] == "disconn"
    assert seen[1:-1] == list(range(1, len(seen) - 1)), "in order, those that had been read"
    assert len(seen) > 4


def test_a_client_that_is_cut_off_while_its_inbox_is_full_has_each_message_handled_once() -> None:
    app = App(port=0, limits=Limits(inbox_messages=3))
    seen: list[int] = []
    go_on = threading.Event()

    @app.ws("/ws")
    def ws(n: int):
        seen.append(n)
        go_on.wait(SECONDS)

    async def visit() -> None:
        async with coming(app) as client:
            for n in range(20):
                await client.say(n=n)
            await until(lambda: seen == [0])
            for _ in range(3):
                client.forget()
                await client.come()
                await until(lambda: app.connections[0]._socket is not None)
            go_on.set()
            await until(lambda: len(seen) == 20)
            await client.report("0?")
            await until(lambda: len(seen) >= 20)

    with running(app):
        talk(visit())
    assert seen == list(range(20))


def test_a_handler_that_takes_long_with_a_full_inbox_does_not_make_its_client_look_dead() -> None:
    app = App(port=0, limits=Limits(inbox_messages=2, ping_seconds=0.2))

    @app.ws("/ws")
    async def ws(n: int):
        await asyncio.sleep(0.3)
        return P(n, id="n")

    async def visit() -> None:
        async with websocket(app) as client:
            for n in range(6):
                await client.say(n=n)
            assert numbers([await client.hear() for _ in range(6)]) == list(range(6))

    with running(app):
        talk(visit())
