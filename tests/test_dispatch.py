"""Messages of a running app: who handles them and in which order, what an answer becomes, and what errors do."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import sys
import threading
import weakref
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import pytest
from clients import SECONDS, running, talk, websocket

from nbws import App, Limits
from nbws.common import Div, P, Safe
from nbws.handlers import Key


@dataclass
class Move:
    x: int
    y: int = 0


def test_a_connections_messages_are_handled_one_at_a_time_and_in_order() -> None:
    app = App(port=0)
    present: list[int] = []
    together: list[int] = []

    @app.ws("/ws")
    async def ws(n: int):
        present.append(n)
        await asyncio.sleep(0.001 if n % 2 else 0)
        together.append(len(present))
        present.remove(n)
        return Div(n, id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            for n in range(50):
                await client.say(n=n)
            for n in range(50):
                assert f">{n}<" in await client.hear()

    with running(app):
        talk(visit())
    assert set(together) == {1}


def test_a_def_handler_blocks_nobody_else() -> None:
    app = App(port=0)
    entered, go_on = threading.Event(), threading.Event()

    @app.ws("/ws")
    def ws(msg: str):
        if msg == "wait":
            entered.set()
            assert go_on.wait(SECONDS)
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as busy, websocket(app) as other:
            await busy.say(msg="wait")
            await busy.say(msg="second")
            assert await asyncio.to_thread(entered.wait, SECONDS)
            assert ">hi<" in await other.ask(msg="hi")
            go_on.set()
            assert ">wait<" in await busy.hear()
            assert ">second<" in await busy.hear()

    with running(app):
        talk(visit())
    assert not app.errors


def test_an_async_handler_that_waits_blocks_nobody_else() -> None:
    app = App(port=0, limits=Limits(finish_seconds=0.2))

    @app.ws("/ws")
    async def ws(msg: str):
        if msg == "wait":
            await asyncio.Event().wait()
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as busy, websocket(app) as other:
            await busy.say(msg="wait")
            assert ">hi<" in await other.ask(msg="hi")
            busy.vanish()

    with running(app):
        talk(visit())


def test_a_def_handler_runs_in_a_worker_thread() -> None:
    app = App(port=0)

    @app.ws("/ws")
    def ws():
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return Div(threading.current_thread() is threading.main_thread(), id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            assert ">False<" in await client.ask()

    with running(app):
        talk(visit())
    assert not app.errors


def test_asyncio_timeout_works_in_a_handler() -> None:
    if sys.version_info < (3, 11):
        pytest.skip("asyncio.timeout is of Python 3.11")
    app = App(port=0)

    @app.ws("/ws")
    async def ws():
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return Div("in time", id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            assert "in time" in await client.ask()
            assert "in time" in await client.ask()

    with running(app):
        talk(visit())
    assert not app.errors


def test_asyncio_wait_for_and_tasks_work_in_a_handler() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(send):
        async def later() -> None:
            send(Div("from a task", id="a"))

        task = asyncio.create_task(later())
        await asyncio.wait_for(task, 1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        return Div("done", id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            assert "from a task" in await client.ask()
            assert "done" in await client.hear()

    with running(app):
        talk(visit())
    assert not app.errors


def test_an_async_generator_delivers_each_item_when_it_is_yielded() -> None:
    app = App(port=0)
    heard = threading.Event()

    @app.ws("/ws")
    async def ws():
        yield Div("first", id="a")
        assert await asyncio.to_thread(heard.wait, SECONDS)
        yield Div("second", id="a"), P("with", id="b")

    async def visit() -> None:
        async with websocket(app) as client:
            assert "first" in await client.ask()
            heard.set()
            assert (await client.hear()).endswith('<p id="b" hx-swap-oob="true">with</p>')

    with running(app):
        talk(visit())
    assert not app.errors


def test_a_generator_delivers_each_item_when_it_is_yielded_and_blocks_nobody() -> None:
    app = App(port=0)
    heard = threading.Event()

    @app.ws("/ws")
    def ws(msg: str):
        yield Div(msg, id="a")
        if msg == "wait":
            assert heard.wait(SECONDS)
        yield Div("second", id="a")

    async def visit() -> None:
        async with websocket(app) as client, websocket(app) as other:
            assert "wait" in await client.ask(msg="wait")
            assert "hi" in await other.ask(msg="hi")
            assert "second" in await other.hear()
            heard.set()
            assert "second" in await client.hear()

    with running(app):
        talk(visit())
    assert not app.errors


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_generator_that_raises_has_sent_what_came_before_and_is_reported(kind: str) -> None:
    app = App(port=0)

    if kind == "async":

        @app.ws("/ws")
        async def ws(msg: str):
            yield Div(msg, id="a")
            raise ValueError("half-way")
    else:

        @app.ws("/ws")
        def ws(msg: str):
            yield Div(msg, id="a")
            raise ValueError("half-way")

    async def visit() -> None:
        async with websocket(app) as client:
            assert "one" in await client.ask(msg="one")
            assert "two" in await client.ask(msg="two")

    with running(app):
        talk(visit())
    assert [str(e.exception) for e in app.errors] == ["half-way"] * 2


@pytest.mark.parametrize(
    ("answer", "frame"),
    [
        (Div("x", id="a"), '<div id="a" hx-swap-oob="true">x</div>'),
        (
            (Div("x", id="a"), [P(id="b")]),
            '<div id="a" hx-swap-oob="true">x</div><p id="b" hx-swap-oob="true"></p>',
        ),
        ("<b>&", "&lt;b&gt;&amp;"),
        (Safe('<b id="b">x</b>'), '<b hx-swap-oob="true" id="b">x</b>'),
        (7, "7"),
    ],
)
def test_what_a_handler_returns_is_sent(answer: Any, frame: str) -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws():
        return answer

    async def visit() -> None:
        async with websocket(app) as client:
            assert await client.ask() == frame

    with running(app):
        talk(visit())
    assert not app.errors


def test_none_is_not_sent_and_a_dict_is_reported_with_what_to_do() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str):
        return {"none": None, "dict": {"score": 3}, "tag": Div("x", id="a")}[msg]

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say(msg="none")
            await client.say(msg="dict")
            assert "x" in await client.ask(msg="tag")

    with running(app):
        talk(visit())
    (error,) = app.errors
    assert "a dict ('score') is no HTML" in str(error.exception)
    assert "ws.send_json" in str(error.exception)


def test_a_binary_frame_reaches_a_handler_of_bytes() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(data: bytes, ws):
        ws.send_bytes(data[::-1])

    async def visit() -> None:
        async with websocket(app) as client:
            await client.socket.send(b"\x00\x01\xff")
            assert await client.hear() == b"\xff\x01\x00"

    with running(app):
        talk(visit())
    assert not app.errors


REFUSED = {
    "binary": (b"\x00\x01", "a binary frame of 2 bytes arrived, and it takes text"),
    "no JSON": ("hello", "the message is no JSON"),
    "empty": ("", "the message is no JSON"),
    "array": ("[1]", "the message is a JSON array, not an object"),
    "null": ("null", "the message is a JSON null, not an object"),
    "number": ("1", "the message is a JSON number, not an object"),
    "nested": ('{"a":' * 1000 + "1" + "}" * 1000, "nests deeper than 64 levels"),
    "1 MB nested": ("[" * 1_000_000, ""),
    "missing": ('{"other": 1}', "ws: n is missing; send a field named n"),
    "wrong type": ('{"n": "ten"}', "ws: n is 'ten', not int; send digits or annotate n: str"),
    "list": ('{"n": [1, 2]}', "ws: n is [1, 2], not int"),
}


def test_a_message_that_is_none_is_reported_and_everything_lives_on() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(n: int):
        return Div(n, id="a")

    async def visit() -> None:
        async with websocket(app) as client, websocket(app) as other:
            for n, (frame, _) in enumerate(REFUSED.values()):
                await client.socket.send(frame)
                assert f">{n}<" in await client.ask(n=n)
                assert f">{n}<" in await other.ask(n=str(n))

    with running(app):
        talk(visit())
    assert len(app.errors) == len(REFUSED)
    for error, (kind, (_, text)) in zip(app.errors, REFUSED.items(), strict=True):
        assert text in str(error.exception), kind
        assert error.handler == "ws"
        assert error.connection is not None
        assert len(error.message) <= 500
        assert error.traceback == ""


def test_a_message_above_the_limit_closes_its_connection_with_1009_and_no_other() -> None:
    app = App(port=0, limits=Limits(message_bytes=1000))

    @app.ws("/ws")
    async def ws(msg: str):
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as client, websocket(app) as other:
            await client.say(msg="x" * 2000)
            assert await client.close_code() == 1009
            assert "hi" in await other.ask(msg="hi")

    with running(app):
        talk(visit())


def test_invalid_utf_8_closes_its_connection_with_1007_and_no_other() -> None:
    app = App(port=0)
    left: SimpleQueue[str] = SimpleQueue()

    @app.ws("/ws", disconn=lambda ws: left.put(ws.id))
    async def ws(msg: str):
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as client, websocket(app) as other:
            await client.socket.send(b'{"msg": "\xff"}', text=True)
            assert await client.close_code() == 1007
            assert await asyncio.to_thread(left.get, True, SECONDS)
            assert left.empty()
            assert "hi" in await other.ask(msg="hi")

    with running(app):
        talk(visit())


class NotAnException(BaseException):
    pass


RAISED = [
    ValueError("<b>no</b>"),
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    StopIteration(),
    NotAnException(),
    asyncio.CancelledError(),
]


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_handler_that_raises_is_reported_and_everything_lives_on(kind: str) -> None:
    app = App(port=0)

    if kind == "async":

        @app.ws("/ws")
        async def ws(msg: str, n: int = 0):
            if msg == "raise":
                raise RAISED[n]
            return Div(msg, id="a")
    else:

        @app.ws("/ws")
        def ws(msg: str, n: int = 0):
            if msg == "raise":
                raise RAISED[n]
            return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as client, websocket(app) as other:
            for n in range(len(RAISED)):
                await client.say(msg="raise", n=n)
                assert await client.ask(msg="hi") == '<div id="a" hx-swap-oob="true">hi</div>'
                assert "ho" in await other.ask(msg="ho")

    with running(app):
        talk(visit())
    assert len(app.errors) == len(RAISED)
    for error, exception in zip(app.errors, RAISED, strict=True):
        if not isinstance(exception, StopIteration):  # Python turns it into a RuntimeError
            assert error.exception is exception
        assert (error.handler, error.key, error.version) == ("ws", Key("WS", "/ws"), 1)
        assert '"msg": "raise"' in error.message
        assert "raise RAISED[n]" in error.traceback
        assert error.incident


class Silent(Exception):
    def __str__(self) -> str:
        raise KeyError

    __repr__ = __str__


@pytest.mark.parametrize("record", [None, 5])
def test_an_exception_that_cannot_be_shown_ends_nothing(record: int | None) -> None:
    app = App(port=0, record=record)

    @app.ws("/ws")
    async def ws(msg: str):
        if msg == "raise":
            raise Silent
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say(msg="raise")
            assert "hi" in await client.ask(msg="hi")

    with running(app):
        talk(visit())
    assert [error.title for error in app.errors] == ["ws v1 on WS /ws: Silent: (its text cannot be shown: KeyError)"]


def test_an_error_that_cannot_be_shown_to_the_author_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App(port=0)

    def closed(*_: Any) -> None:
        raise OSError("the kernel's output is closed")

    @app.ws("/ws")
    async def ws(msg: str):
        if msg == "raise":
            raise ValueError
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say(msg="raise")
            assert "hi" in await client.ask(msg="hi")

    monkeypatch.setattr(app._reporter, "_write", closed)
    with running(app):
        talk(visit())
    assert len(app.errors) == 1


def test_a_tracebacks_first_frame_is_the_authors() -> None:
    app = App(port=0)

    @app.ws("/async")
    async def in_async():
        return 1 // 0

    @app.ws("/def")
    def in_def():
        return 1 // 0

    @app.ws("/generator")
    def in_generator():
        yield 1 // 0

    async def visit(path: str) -> None:
        async with websocket(app, path) as client:
            await client.say()

    with running(app):
        for path in ("/async", "/def", "/generator"):
            talk(visit(path))
    assert len(app.errors) == 3
    for error in app.errors:
        assert error.traceback.count("File ") == 1
        assert "test_dispatch.py" in error.traceback
        assert "ZeroDivisionError" in error.traceback


def test_a_dataclass_is_filled_from_the_fields() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(move: Move):
        return Div(f"{move.x},{move.y}", id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            assert ">3,0<" in await client.ask(x="3", ignored="z")

    with running(app):
        talk(visit())


def test_htmx_4_messages_are_read_like_those_of_htmx_2() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str, htmx):
        return Div(f"{msg} by {htmx.trigger or htmx.source}", id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            assert ">hi by form<" in await client.ask(msg="hi")
            await client.socket.send(json.dumps({"headers": {"HX-Source": "button"}, "values": {"msg": "ho"}}))
            assert ">ho by button<" in await client.hear()

    with running(app):
        talk(visit())
    assert not app.errors


# -- swapping


def test_the_next_message_goes_to_the_new_handler_and_the_connection_stays() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str):
        return Div(f"old {msg}", id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            assert "old one" in await client.ask(msg="one")
            before = app.connections

            @app.ws("/ws")
            async def ws(msg: str):
                return Div(f"new {msg}", id="a")

            assert "new two" in await client.ask(msg="two")
            assert app.connections == before

    with running(app):
        talk(visit())
    assert app.endpoints["/ws"].version == 2


def test_a_message_in_flight_finishes_on_the_old_handler() -> None:
    app = App(port=0)
    entered, go_on = threading.Event(), threading.Event()

    @app.ws("/ws")
    def ws(msg: str):
        entered.set()
        assert go_on.wait(SECONDS)
        return Div(f"old {msg}", id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say(msg="one")
            await client.say(msg="two")
            assert await asyncio.to_thread(entered.wait, SECONDS)

            @app.ws("/ws")
            async def ws(msg: str):
                return Div(f"new {msg}", id="a")

            go_on.set()
            assert "old one" in await client.hear()
            assert "new two" in await client.hear()

    with running(app):
        talk(visit())


def test_conn_and_disconn_are_those_of_the_version_that_is_current_when_they_run() -> None:
    app = App(port=0)
    seen: SimpleQueue[str] = SimpleQueue()

    @app.ws("/ws", conn=lambda: seen.put("old conn"), disconn=lambda: seen.put("old disconn"))
    async def ws(msg: str): ...

    async def visit() -> None:
        async with websocket(app) as client:
            assert await asyncio.to_thread(seen.get, True, SECONDS) == "old conn"

            @app.ws("/ws", conn=lambda: seen.put("new conn"), disconn=lambda: seen.put("new disconn"))
            async def ws(msg: str):
                return Div(msg, id="a")

            await client.ask(msg="hi")
            async with websocket(app):
                assert await asyncio.to_thread(seen.get, True, SECONDS) == "new conn"
            assert await asyncio.to_thread(seen.get, True, SECONDS) == "new disconn"

    with running(app):
        talk(visit())
        assert seen.get(timeout=SECONDS) == "new disconn"
    assert seen.empty()


def test_redefining_unchanged_code_keeps_the_version_and_takes_the_new_function() -> None:
    app = App(port=0)

    def define(store: list[str]) -> None:
        @app.ws("/ws")
        async def ws(msg: str):
            store.append(msg)
            return Div(msg, id="a")

    first: list[str] = []
    second: list[str] = []
    define(first)
    define(second)
    assert app.endpoints["/ws"].version == 1

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(msg="hi")

    with running(app):
        talk(visit())
    assert (first, second) == ([], ["hi"])


def test_a_silent_connection_keeps_no_table_that_has_been_replaced() -> None:
    app = App(port=0)
    app.ws("/ws")(lambda: P("one", id="a"))

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask()
            app.ws("/other")(lambda: P("other", id="a"))
            await client.ask()
            table = weakref.ref(app.table)
            app.ws("/ws")(lambda: P("two", id="a"))
            gc.collect()
            assert table() is None
            assert ">two<" in await client.ask()

    with running(app):
        talk(visit())


def test_a_definition_that_cannot_work_leaves_the_working_one_alone() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str):
        return Div(f"old {msg}", id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            with pytest.raises(TypeError, match="msg has neither an annotation nor a reserved name; write msg: str"):

                @app.ws("/ws")
                async def ws(msg): ...

            assert "old hi" in await client.ask(msg="hi")

    with running(app):
        talk(visit())


def test_a_parked_connection_is_closed_with_1001_where_the_endpoint_does_not_come_back() -> None:
    app = App(port=0, limits=Limits(park_seconds=0.2))
    left: SimpleQueue[str] = SimpleQueue()

    @app.ws("/ws", disconn=lambda ws: left.put(ws.id))
    async def ws(msg: str):
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(msg="hi")
            app._publisher.publish([], retire=[Key("WS", "/ws")])
            await client.say(msg="parked")
            assert await client.close_code() == 1001
            assert await asyncio.to_thread(left.get, True, SECONDS)

    with running(app):
        talk(visit())
    assert left.empty()
    assert not app.errors


def test_messages_to_a_parked_connection_are_handled_in_order_when_the_endpoint_is_back() -> None:
    app = App(port=0, limits=Limits(park_seconds=0.2))

    @app.ws("/ws")
    async def ws(n: int):
        return Div(f"old {n}", id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(n=0)
            app._publisher.publish([], retire=[Key("WS", "/ws")])
            for n in range(1, 6):
                await client.say(n=n)

            @app.ws("/ws")
            async def ws(n: int):
                return Div(f"new {n}", id="a")

            for n in range(1, 6):
                assert f"new {n}" in await client.hear()
            await asyncio.sleep(0.3)  # past park_seconds: an unparked connection has no end ahead
            assert "new 6" in await client.ask(n=6)

    with running(app):
        talk(visit())


def test_disconn_runs_at_once_where_a_parked_client_leaves() -> None:
    app = App(port=0)
    left: SimpleQueue[str] = SimpleQueue()

    @app.ws("/ws", disconn=lambda ws: left.put(ws.id))
    async def ws(msg: str):
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(msg="hi")
            app._publisher.publish([], retire=[Key("WS", "/ws")])
            await client.say(msg="parked")
            await client.say(msg="parked too")

    with running(app):
        talk(visit())
        assert left.get(timeout=2)
    assert left.empty()


def test_connecting_to_a_retired_endpoint_is_refused() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str): ...

    app._publisher.publish([], retire=[Key("WS", "/ws")])

    async def visit() -> None:
        with pytest.raises(Exception, match="403"):
            async with websocket(app):
                pass

    with running(app):
        talk(visit())


# -- slips


def test_a_send_may_be_made_a_task() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(send: Any) -> None:
        await asyncio.gather(asyncio.create_task(send(P("task", id="a"))), send(P("gathered", id="a")))

    async def visit() -> list[str]:
        async with websocket(app) as client:
            await client.say()
            return [await client.hear(), await client.hear()]

    with running(app):
        assert {"task" in frame for frame in talk(visit())} == {True, False}
    assert not app.errors


def test_a_forgotten_await_is_reported_and_nothing_of_it_is_sent() -> None:
    app = App(port=0)

    async def helper() -> str:
        return "text"

    @app.ws("/ws")
    async def ws(wrapped: bool | None) -> Any:
        coroutine = helper()
        coroutine.close()  # as if it had been collected, but with no warning
        return P("next", id="a") if wrapped is None else P(coroutine, id="a") if wrapped else [coroutine]

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say(wrapped=True)
            await client.say(wrapped=False)
            assert "next" in await client.ask(wrapped="")

    with running(app):
        talk(visit())
    assert len(app.errors) == 2
    assert all("is no HTML; write `await" in str(error.exception) for error in app.errors)


def test_data_as_text_takes_a_frame_that_is_no_json() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(data: str) -> P:
        return P(data, id="a")

    async def visit() -> str:
        async with websocket(app) as client:
            await client.socket.send("plain")
            return str(await client.hear())

    with running(app):
        assert ">plain<" in talk(visit())


# -- handlers that wait for nothing


needs_contexts = pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks that are given their context")


def is_in_the_step_it_came_in() -> bool:
    """Whether the server's socket has called this."""
    frame: Any = sys._getframe()
    while frame is not None and frame.f_code.co_name != "data_received":
        frame = frame.f_back
    return frame is not None


@needs_contexts
def test_a_handler_that_waits_for_nothing_runs_as_its_message_comes_and_sees_its_own_task_and_context() -> None:
    app, said = App(port=0), contextvars.ContextVar("said", default="nothing")
    seen: list[tuple[bool, str, int]] = []

    def note(msg: str) -> None:
        task = asyncio.current_task()
        seen.append((is_in_the_step_it_came_in(), said.get(), id(task)))
        said.set(msg)

    def define() -> None:
        @app.ws("/ws")
        async def ws(msg: str):
            note(msg)
            return P(id="a")

    def define_one_that_waits() -> None:
        @app.ws("/ws")
        async def ws(msg: str):
            await asyncio.sleep(0)
            note(msg)
            return P(id="a")

    async def visit() -> None:
        define()
        async with websocket(app) as client:
            await client.ask(msg="a")
            await client.ask(msg="b")
            define_one_that_waits()
            await client.ask(msg="c")
            define()
            await client.ask(msg="d")
            await client.ask(msg="e")

    with running(app):
        talk(visit())
    # The first message of a version is the task's own affair: it may have to migrate the state.
    assert [is_straight for is_straight, _, _ in seen] == [False, True, False, False, True]
    assert [text for _, text, _ in seen] == ["nothing", "a", "b", "c", "d"]
    assert len({task for _, _, task in seen}) == 1


def test_what_a_handler_returns_to_be_awaited_comes_before_what_follows() -> None:
    app = App(port=0)

    async def later(n: int) -> Any:
        await asyncio.sleep(0.01)
        return P(n, id="later")

    def items(n: int) -> Any:
        yield P(n, id="items")
        yield P(n, id="items")

    @app.ws("/ws")
    async def ws(n: int):
        return P(n, id="at-once") if n % 3 else later(n) if n % 2 else items(n)

    async def visit() -> None:
        async with websocket(app) as client:
            for n in range(1, 25):
                await client.say(n=n)
            for n in range(1, 25):
                for _ in range(2 if n % 6 == 0 else 1):
                    assert f">{n}<" in await client.hear()

    with running(app):
        talk(visit())


def test_a_handler_that_waits_for_nothing_and_raises_is_reported_and_the_next_message_is_handled() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(n: int):
        if n % 2:
            raise (asyncio.CancelledError if n % 3 else ZeroDivisionError)(f"of {n}")
        return P(n, id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            for n in range(12):
                await client.say(n=n)
            for n in range(0, 12, 2):
                assert f">{n}<" in await client.hear()
            await client.ask(n=0)

    with running(app):
        talk(visit())
    assert [str(error.exception) for error in app.errors] == [f"of {n}" for n in range(1, 12, 2)]
    assert all("async def ws" not in error.traceback and "raise (asyncio" in error.traceback for error in app.errors)


def test_a_client_that_reads_late_fills_its_outbox_no_further_than_to_its_mark_and_gets_all() -> None:
    app = App(port=0, limits=Limits(outbox_bytes=100_000))

    @app.ws("/ws")
    async def ws(n: int):
        return P("x" * 10_000, id=f"n{n}")

    async def visit() -> None:
        async with websocket(app) as client:
            client.stop_reading()
            for n in range(300):
                await client.say(n=n)
            client.read_on()
            for n in range(300):
                assert f'id="n{n}"' in await client.hear()

    with running(app):
        talk(visit())
    assert not app.errors


@needs_contexts
def test_one_client_that_never_pauses_leaves_the_others_their_turn() -> None:
    app = App(port=0)
    handled: list[str] = []

    @app.ws("/ws")
    async def ws(msg: str):
        handled.append(msg)
        return P(id="a")

    async def visit() -> None:
        async with websocket(app) as one, websocket(app) as other:
            await one.ask(msg="one")
            await other.ask(msg="other")
            held = threading.Event()
            app._server.loop.call_soon_threadsafe(held.wait, SECONDS)  # type: ignore[union-attr]
            for _ in range(60):
                await one.say(msg="one")
            await other.say(msg="other")
            held.set()
            await other.hear()

    with running(app):
        talk(visit())
    assert "other" in handled[2:]
    assert handled[2:].index("other") <= 45  # of 60: after a part of them, the others are a part of the next turn
