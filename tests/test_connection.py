"""Connections of a running app: what is sent, who is told of whom, and how each ends."""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import AsyncExitStack
from queue import SimpleQueue
from typing import Any

import pytest
from clients import SECONDS, running, talk, websocket

from nbws import App, Limits
from nbws.common import Div, Li
from nbws.connection import Connection, Membership, tell_all
from nbws.handlers import Key
from nbws.outbox import Outbox

pytestmark = pytest.mark.usefixtures("parser")


def test_a_send_from_an_async_handler_arrives_awaited_or_dropped() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str, send):
        send(Div("dropped", id="a"))
        await send(Div(msg, id="b"))

    async def two_sends() -> None:
        async with websocket(app) as client:
            await client.say(msg="awaited")
            assert await client.hear() == '<div id="a" hx-swap-oob="true">dropped</div>'
            assert await client.hear() == '<div id="b" hx-swap-oob="true">awaited</div>'

    with running(app):
        talk(two_sends())


def test_a_send_from_a_def_handler_arrives_while_the_handler_runs() -> None:
    app = App(port=0)
    heard = threading.Event()

    @app.ws("/ws")
    def ws(msg: str, send):
        send(Div(msg, id="a"))
        assert heard.wait(SECONDS)
        return Div("end", id="a")

    async def hear_during_the_call() -> None:
        async with websocket(app) as client:
            assert ">hi<" in await client.ask(msg="hi")
            heard.set()
            assert ">end<" in await client.hear()

    with running(app):
        talk(hear_during_the_call())
    assert not app.errors


def test_ws_send_works_from_the_main_thread_and_from_another_one() -> None:
    app = App(port=0)
    connections: SimpleQueue[Any] = SimpleQueue()

    @app.ws("/ws", conn=lambda ws: connections.put(ws))
    async def ws(msg: str): ...

    async def hear_from_outside() -> None:
        async with websocket(app) as client:
            connection = connections.get(timeout=SECONDS)
            connection.send(Div("main", id="a"))
            assert "main" in await client.hear()
            thread = threading.Thread(target=lambda: connection.send(Div("other", id="a")))
            thread.start()
            assert "other" in await client.hear()
            await connection.send(Div("awaited on another loop", id="a"))
            assert "awaited" in await client.hear()
            thread.join(SECONDS)

    with running(app):
        talk(hear_from_outside())


def test_ws_send_text_bytes_and_json_go_out_as_they_are() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(ws):
        ws.send_text("<raw>")
        ws.send_bytes(b"\x00\xff")
        ws.send_json({"a": [1]})

    async def three_frames() -> None:
        async with websocket(app) as client:
            await client.say()
            assert [await client.hear() for _ in range(3)] == ["<raw>", b"\x00\xff", '{"a": [1]}']

    with running(app):
        talk(three_frames())


def test_one_ws_is_the_same_object_in_conn_in_messages_and_in_disconn() -> None:
    app = App(port=0)
    seen: SimpleQueue[tuple[str, int, str]] = SimpleQueue()

    def joined(ws):
        seen.put(("conn", id(ws), ws.id))

    def left(ws):
        seen.put(("disconn", id(ws), ws.id))

    @app.ws("/ws", conn=joined, disconn=left)
    async def ws(ws):
        seen.put(("message", id(ws), ws.id))

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say()
            await client.say()

    with running(app):
        talk(visit())
        met = [seen.get(timeout=SECONDS) for _ in range(4)]
    assert [what for what, _, _ in met] == ["conn", "message", "message", "disconn"]
    assert len({(number, name) for _, number, name in met}) == 1


def test_what_conn_sends_arrives_before_any_message_is_answered() -> None:
    app = App(port=0)

    async def joined(ws, send):
        ws.state.name = "Ann"
        await send(Div("welcome", id="a"))

    @app.ws("/ws", conn=joined)
    async def ws(ws):
        return Div(ws.state.name, id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say()
            assert "welcome" in await client.hear()
            assert "Ann" in await client.hear()

    with running(app):
        talk(visit())


def test_what_conn_returns_is_sent() -> None:
    app = App(port=0)

    @app.ws("/ws", conn=lambda: Div("welcome", id="a"))
    async def ws(msg: str): ...

    async def visit() -> None:
        async with websocket(app) as client:
            assert "welcome" in await client.hear()

    with running(app):
        talk(visit())


def test_def_hooks_run_on_the_servers_loop() -> None:
    app = App(port=0)
    threads: SimpleQueue[tuple[str, int]] = SimpleQueue()

    def joined():
        asyncio.get_running_loop()
        threads.put(("conn", threading.get_ident()))

    def left():
        asyncio.get_running_loop()
        threads.put(("disconn", threading.get_ident()))

    @app.ws("/ws", conn=joined, disconn=left)
    async def ws():
        threads.put(("message", threading.get_ident()))

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say()

    with running(app):
        talk(visit())
        met = [threads.get(timeout=SECONDS) for _ in range(3)]
    assert [what for what, _ in met] == ["conn", "message", "disconn"]
    assert len({thread for _, thread in met}) == 1
    assert not app.errors


@pytest.mark.parametrize("hooks", ["def", "async def"])
@pytest.mark.parametrize("how", ["clean", "vanished", "by the server", "stop"])
def test_disconn_runs_exactly_once(how: str, hooks: str) -> None:
    app = App(port=0)
    joined: SimpleQueue[Any] = SimpleQueue()
    left: SimpleQueue[str] = SimpleQueue()

    async def left_async(ws):
        await asyncio.sleep(0)
        left.put(ws.id)

    @app.ws(
        "/ws",
        conn=lambda ws: joined.put(ws),
        disconn=left_async if hooks == "async def" else lambda ws: left.put(ws.id),
    )
    async def ws(msg: str): ...

    async def visit() -> None:
        async with websocket(app) as client:
            connection = joined.get(timeout=SECONDS)
            if how == "clean":
                await client.leave()
            elif how == "vanished":
                client.vanish()
            elif how == "by the server":
                connection.close()
                assert await client.close_code() == 1000
            else:
                await asyncio.to_thread(app.stop)
                assert await client.close_code() == 1012
            assert await asyncio.to_thread(left.get, True, SECONDS) == connection.id
            assert not connection.is_open

    with running(app):
        talk(visit())
    assert left.empty()
    assert app.connections == ()
    assert not app.errors


def test_messages_sent_right_before_a_close_are_all_handled_before_disconn() -> None:
    app = App(port=0)
    seen: SimpleQueue[object] = SimpleQueue()

    @app.ws("/ws", disconn=lambda: seen.put("gone"))
    async def ws(n: int):
        await asyncio.sleep(0)
        seen.put(n)

    async def burst() -> None:
        async with websocket(app) as client:
            for n in range(200):
                await client.say(n=n)

    with running(app):
        talk(burst())
        assert [seen.get(timeout=SECONDS) for _ in range(201)] == [*range(200), "gone"]
    assert seen.empty()


def test_many_short_messages_before_a_close_outlast_finish_seconds_together() -> None:
    app = App(port=0, limits=Limits(finish_seconds=0.3))
    seen: SimpleQueue[object] = SimpleQueue()

    @app.ws("/ws", disconn=lambda: seen.put("gone"))
    async def ws(n: int):
        await asyncio.sleep(0.1)
        seen.put(n)

    async def burst() -> None:
        async with websocket(app) as client:
            for n in range(8):
                await client.say(n=n)

    with running(app):
        talk(burst())
        assert [seen.get(timeout=SECONDS) for _ in range(9)] == [*range(8), "gone"]


def test_a_handler_that_goes_on_after_its_client_left_is_cancelled_and_disconn_runs() -> None:
    app = App(port=0, limits=Limits(finish_seconds=0.2))
    seen: SimpleQueue[str] = SimpleQueue()

    @app.ws("/ws", disconn=lambda: seen.put("gone"))
    async def ws(msg: str):
        seen.put(msg)
        if msg == "endless":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.put("cancelled")
                raise

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say(msg="endless")
            assert seen.get(timeout=SECONDS) == "endless"
            await client.say(msg="next")

    with running(app):
        talk(visit())
        assert [seen.get(timeout=SECONDS) for _ in range(3)] == ["cancelled", "next", "gone"]


def test_a_stream_whose_client_has_left_is_handled_whole() -> None:
    app = App(port=0)
    entered, go_on = threading.Event(), threading.Event()
    done: SimpleQueue[str] = SimpleQueue()

    @app.ws("/ws", disconn=lambda: done.put("disconn"))
    async def ws():
        yield Div("first", id="a")
        entered.set()
        await asyncio.to_thread(go_on.wait, SECONDS)
        yield Div("second", id="a")
        done.put("stored")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask()
            assert await asyncio.to_thread(entered.wait, SECONDS)
        go_on.set()
        assert [await asyncio.to_thread(done.get, True, SECONDS) for _ in range(2)] == ["stored", "disconn"]

    with running(app):
        talk(visit())


def test_an_endless_async_generator_ends_after_its_client_left() -> None:
    app = App(port=0, limits=Limits(finish_seconds=0.2))
    seen: SimpleQueue[str] = SimpleQueue()

    @app.ws("/ws", disconn=lambda: seen.put("gone"))
    async def ws():
        try:
            while True:
                await asyncio.sleep(0.01)
                yield Div("tick", id="clock")
        finally:
            seen.put("ended")

    async def visit() -> None:
        async with websocket(app) as client:
            assert "tick" in await client.ask()

    with running(app):
        talk(visit())
        assert [seen.get(timeout=SECONDS) for _ in range(2)] == ["ended", "gone"]


def test_an_endless_async_generator_that_has_nothing_to_send_ends_too_and_stops_nobody_else() -> None:
    app, seen = App(port=0, limits=Limits(finish_seconds=0.2)), SimpleQueue[str]()

    @app.ws("/nothing", disconn=lambda: seen.put("gone"))
    async def nothing():
        seen.put("begun")
        while True:
            yield ""

    @app.ws("/awaited", disconn=lambda: seen.put("gone"))
    async def awaited(send):
        seen.put("begun")
        while True:
            await send("")

    @app.ws("/ws")
    async def ws(msg: str):
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as other:
            for path in ("/nothing", "/awaited"):
                async with websocket(app, path) as client:
                    await client.say()
                    assert await asyncio.to_thread(seen.get, timeout=SECONDS) == "begun"
                    assert "during" in await other.ask(msg="during")
                assert await asyncio.to_thread(seen.get, timeout=SECONDS) == "gone"

    with running(app):
        talk(visit())


def test_an_endless_async_generator_that_never_waits_ends_too_and_stops_nobody_else() -> None:
    app = App(port=0, limits=Limits(finish_seconds=0.2))
    seen: SimpleQueue[str] = SimpleQueue()

    @app.ws("/flood", disconn=lambda: seen.put("gone"))
    async def flood():
        while True:
            yield Div("x" * 10_000, id="a")

    @app.ws("/ws")
    async def ws(msg: str):
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as other:
            async with websocket(app, "/flood") as client:
                await client.say()
                for _ in range(50):
                    await client.hear()
                assert "during" in await other.ask(msg="during")
                client.vanish()
            assert "after" in await other.ask(msg="after")

    with running(app):
        talk(visit())
        assert seen.get(timeout=SECONDS) == "gone"


def test_an_endless_def_generator_ends_after_its_client_left() -> None:
    app = App(port=0, limits=Limits(finish_seconds=0.2))
    seen: SimpleQueue[str] = SimpleQueue()

    @app.ws("/ws", disconn=lambda: seen.put("gone"))
    def ws():
        try:
            while True:
                yield Div("tick" * 1000, id="clock")
        finally:
            seen.put("ended")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say()
            for _ in range(10):
                await client.hear()
            client.vanish()

    with running(app):
        talk(visit())
        assert {seen.get(timeout=SECONDS) for _ in range(2)} == {"ended", "gone"}


def test_ws_close_sends_what_is_queued_and_then_closes_with_its_code() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(ws, send):
        send(Div("bye", id="a"))
        await ws.close(4001)
        send(Div("too late", id="a"))

    async def visit() -> None:
        async with websocket(app) as client:
            assert "bye" in await client.ask()
            assert await client.close_code() == 4001

    with running(app):
        talk(visit())
    assert not app.errors


def test_ws_close_in_conn_closes_and_disconn_runs() -> None:
    app = App(port=0)
    left: SimpleQueue[str] = SimpleQueue()

    @app.ws("/ws", conn=lambda ws: ws.close(4003), disconn=lambda ws: left.put(ws.id))
    async def ws(msg: str): ...

    async def visit() -> None:
        async with websocket(app) as client:
            assert await client.close_code() == 4003

    with running(app):
        talk(visit())
        left.get(timeout=SECONDS)
    assert left.empty()
    assert not app.errors


def test_ws_close_works_from_the_main_thread() -> None:
    app = App(port=0)
    joined: SimpleQueue[Any] = SimpleQueue()

    @app.ws("/ws", conn=lambda ws: joined.put(ws))
    async def ws(msg: str): ...

    async def visit() -> None:
        async with websocket(app) as client:
            joined.get(timeout=SECONDS).close(1001, "enough")
            assert await client.close_code() == 1001
            assert client.socket.close_reason == "enough"

    with running(app):
        talk(visit())


def test_of_a_long_reason_a_client_is_told_as_much_as_a_close_frame_holds() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str, ws):
        ws.close(4000, msg)

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say(msg="é" * 100)
            assert await client.close_code() == 4000
            assert client.socket.close_reason == "é" * 61  # of 123 bytes, whole characters

    with running(app):
        talk(visit())


def test_a_conn_hook_that_raises_is_reported_and_leaves_the_connection_open() -> None:
    app = App(port=0)

    def joined():
        raise RuntimeError("no seat")

    @app.ws("/ws", conn=joined)
    async def ws(msg: str):
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            assert "hi" in await client.ask(msg="hi")

    with running(app):
        talk(visit())
    (error,) = app.errors
    assert error.title == "joined v1 on WS /ws: RuntimeError: no seat"


def test_a_disconn_hook_that_raises_is_reported_and_the_connection_is_forgotten() -> None:
    app = App(port=0)

    def left():
        raise RuntimeError("no coat")

    @app.ws("/ws", disconn=left)
    async def ws(msg: str): ...

    async def visit() -> None:
        async with websocket(app):
            pass

    with running(app):
        talk(visit())
    (error,) = app.errors
    assert "no coat" in error.title
    assert app.connections == ()


def test_a_broadcast_reaches_everyone_a_room_or_all_but_some() -> None:
    app = App(port=0)

    def enter(ws, room: str):
        ws.join(room)

    @app.ws("/chat/{room}", conn=enter)
    async def chat(to: str, room: str, ws, app: App):
        if to == "all":
            app.broadcast(Li("to all", id="a"))
        elif to == "room":
            await app.broadcast(Li(f"to {room}", id="a"), room=room)
        else:
            app.broadcast(Li("to others", id="a"), exclude=ws)

    async def three_clients() -> None:
        async with AsyncExitStack() as stack:
            ann, bob, cat = [
                await stack.enter_async_context(websocket(app, path)) for path in ("/chat/x", "/chat/x", "/chat/y")
            ]
            await ann.say(to="room")
            await ann.say(to="others")
            await ann.say(to="all")
            assert [await ann.hear() for _ in range(2)] == [
                '<li id="a" hx-swap-oob="true">to x</li>',
                '<li id="a" hx-swap-oob="true">to all</li>',
            ]
            assert ["to x" in await bob.hear(), "others" in await bob.hear(), "all" in await bob.hear()] == [True] * 3
            assert ["others" in await cat.hear(), "all" in await cat.hear()] == [True] * 2

    with running(app):
        talk(three_clients())
    assert not app.errors


def test_a_broadcast_excludes_connections_by_themselves_and_by_their_ids() -> None:
    app = App(port=0)
    joined: SimpleQueue[Any] = SimpleQueue()

    @app.ws("/ws", conn=lambda ws: joined.put(ws))
    async def ws(msg: str): ...

    async def two_clients() -> None:
        async with websocket(app) as ann:
            first = joined.get(timeout=SECONDS)
            async with websocket(app) as bob:
                second = joined.get(timeout=SECONDS)
                app.broadcast(Div("to bob", id="a"), exclude=first.id)
                app.broadcast(Div("to bob too", id="a"), exclude=[first.id])
                app.broadcast(Div("to ann", id="a"), exclude=(each for each in ("gone", second.id)))
                app.broadcast(Div("to nobody", id="a"), exclude={first.id, second})
                app.broadcast(Div("to both", id="a"))
                heard_by_ann = [await ann.hear() for _ in range(2)]
                heard_by_bob = [await bob.hear() for _ in range(3)]
                assert [">to ann<" in heard_by_ann[0], ">to both<" in heard_by_ann[1]] == [True] * 2
                expected = (">to bob<", ">to bob too<", ">to both<")
                assert all(text in heard for text, heard in zip(expected, heard_by_bob, strict=True))

    with running(app):
        talk(two_clients())


def test_a_broadcast_from_the_main_thread_reaches_a_room_without_those_excluded() -> None:
    app = App(port=0)
    joined: SimpleQueue[Any] = SimpleQueue()

    def enter(ws):
        ws.join("lobby")
        joined.put(ws)

    @app.ws("/ws", conn=enter)
    async def ws(msg: str): ...

    async def three_clients() -> None:
        async with websocket(app) as ann, websocket(app) as bob, websocket(app) as cat:
            members = [joined.get(timeout=SECONDS) for _ in range(3)]
            assert set(app.rooms["lobby"].members) == set(members)
            app.broadcast(Div("some", id="a"), room="lobby", exclude=app.rooms["lobby"].members[:2])
            app.broadcast(Div("every", id="a"), room="lobby")
            app.broadcast(Div("nobody", id="a"), room="elsewhere")
            heard = sorted([await ann.hear(), await bob.hear(), await cat.hear()])
            assert ["every" in heard[0], "every" in heard[1], "some" in heard[2]] == [True] * 3

    with running(app):
        talk(three_clients())


def test_rooms_are_joined_and_left_and_a_closed_connection_is_in_none_and_knows_which_they_were() -> None:
    app = App(port=0)
    left: SimpleQueue[tuple[frozenset[str], set[str]]] = SimpleQueue()

    @app.ws("/ws", disconn=lambda ws: left.put((ws.rooms, set(app.rooms))))
    async def ws(ws, join: str = "", leave: str = ""):
        if join:
            ws.join(join)
        if leave:
            ws.leave(leave)
        return Div(" ".join(sorted(ws.rooms)), id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            assert ">a<" in await client.ask(join="a")
            assert ">a b<" in await client.ask(join="b")
            assert ">b<" in await client.ask(leave="a")
            assert list(app.rooms) == ["b"]

    with running(app):
        talk(visit())
        assert left.get(timeout=SECONDS) == ({"b"}, set())
    assert dict(app.rooms) == {}
    assert app.rooms["b"].members == ()


def test_ws_knows_its_handshake() -> None:
    app = App(port=0)

    @app.ws("/chat/{room}")
    async def chat(ws):
        return Div(
            f"{ws.path_params['room']} {ws.query_params['q']} {ws.headers['x-who']} {ws.cookies['c']} "
            f"{ws.client[0]} {ws.url.path}",
            id="a",
        )

    async def visit() -> None:
        headers = {"x-who": "Ann", "cookie": "c=1"}
        async with websocket(app, "/chat/lobby?q=2", additional_headers=headers) as client:
            assert ">lobby 2 Ann 1 127.0.0.1 /chat/lobby<" in await client.ask()

    with running(app):
        talk(visit())


def test_what_is_told_a_few_at_a_time_lets_the_loop_do_other_things_between() -> None:
    done: list[str] = []

    async def other_work() -> None:
        while done.count("told") < 5:
            done.append("other")
            await asyncio.sleep(0)

    async def tell() -> None:
        handshake: Any = None
        ignore: Any = None
        connections = [
            Connection(Key("WS", "/ws"), None, handshake, Membership(), outbox=Outbox(1), on_problem=ignore)
            for _ in range(5)
        ]
        tell_all(connections, lambda connection: done.append("told"), at_once=2)
        await other_work()

    talk(tell())
    assert [len(list(turn)) for what, turn in itertools.groupby(done) if what == "told"] == [2, 2, 1]
