"""Versions of an endpoint over real connections: history, going back, migrating state, running a message again."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from clients import SECONDS, http, running, talk, until, websocket

from nbws import App, DefinitionError, Limits, NbwsError
from nbws.app import MIGRATED_AT_ONCE
from nbws.common import P
from nbws.handlers import Key


def shown(frame: Any) -> str:
    return re.sub("<[^>]*>", "", str(frame))


def one(text: str) -> P:
    return P("one ", text, id="out")


def two(text: str) -> P:
    return P("two ", text, id="out")


def test_history_tells_of_each_version_what_was_written_and_what_happened_on_it() -> None:
    app = App(port=0)
    app.ws("/ws")(one)

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(text="a")
            await client.say(wrong="b")
            app.ws("/ws")(two)
            await client.ask(text="c")

    with running(app):
        talk(visit())
    first, second = app.endpoints["/ws"].history
    assert (first.number, first.running, second.running) == (1, 0, 0)
    assert first.messages + second.messages == 3
    assert first.errors + second.errors == len(app.endpoints["/ws"].errors) == 1
    assert 'return P("one "' in first.source
    assert first.time <= second.time


def test_rollback_publishes_an_older_version_as_a_new_one_on_the_same_connection() -> None:
    app = App(port=0)
    app.ws("/ws")(one)
    app.ws("/ws")(two)
    endpoint = app.endpoints["/ws"]

    async def visit() -> list[str]:
        heard = []
        async with websocket(app) as client:
            heard.append(await client.ask(text="a"))
            endpoint.rollback()
            heard.append(await client.ask(text="b"))
            endpoint.rollback(to=2)
            heard.append(await client.ask(text="c"))
        return heard

    with running(app):
        assert [shown(frame) for frame in talk(visit())] == ["two a", "one b", "two c"]
    assert [(v.number, v.restored_from) for v in endpoint.history] == [(1, None), (2, None), (3, 1), (4, 2)]


def test_going_back_twice_goes_back_two_versions() -> None:
    app = App()
    for n in range(3):
        app.ws("/ws")(_returns(n))
    endpoint = app.endpoints["/ws"]
    assert endpoint.rollback().rollback().history[-1].code_of == 1
    with pytest.raises(LookupError, match="no version before v1"):
        endpoint.rollback()
    with pytest.raises(LookupError, match="no version 9 to go back to; kept are v1, v2, v3, v4, v5"):
        endpoint.rollback(to=9)


def test_the_code_of_a_cell_run_again_after_a_rollback_is_a_new_version() -> None:
    app = App()
    app.ws("/ws")(one)
    app.ws("/ws")(two)
    app.endpoints["/ws"].rollback()
    app.ws("/ws")(two)
    assert app.endpoints["/ws"].version == 4


def test_going_back_to_code_that_was_run_again_takes_the_function_that_was_taken_last() -> None:
    app = App(port=0)

    def define(store: list[str]) -> None:
        @app.ws("/ws")
        async def ws(text: str) -> P:
            store.append(text)
            return P(text, id="out")

    first: list[str] = []
    second: list[str] = []
    define(first)
    define(second)
    app.ws("/ws")(two)
    app.endpoints["/ws"].rollback()

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(text="a")

    with running(app):
        talk(visit())
    assert (first, second) == ([], ["a"])


def test_errors_of_conn_and_disconn_count_for_the_version_that_they_are_of() -> None:
    app = App(port=0)
    begun, go = threading.Event(), asyncio.Event()

    async def joined() -> None:
        begun.set()
        await go.wait()
        raise ValueError("joined")

    def left() -> None:
        raise ValueError("left")

    app.ws("/ws", conn=joined, disconn=left)(one)
    endpoint = app.endpoints["/ws"]

    async def visit() -> None:
        async with websocket(app) as client:
            assert await asyncio.to_thread(begun.wait, SECONDS)
            assert endpoint.history[0].running == 1
            app.ws("/ws", disconn=left)(two)
            _on_loop_of(app, go.set)
            assert shown(await client.ask(text="a")) == "two a"

    with running(app):
        talk(visit())
    assert [(error.title, error.message) for error in app.errors] == [
        ("joined v1 on WS /ws: ValueError: joined", "(conn)"),
        ("left v2 on WS /ws: ValueError: left", "(disconn)"),
    ]
    assert [(v.messages, v.errors, v.running) for v in endpoint.history] == [(0, 1, 0), (1, 1, 0)]


def test_a_diff_shows_what_was_written_differently() -> None:
    app = App()
    app.ws("/ws")(one)
    app.ws("/ws")(two)
    diff = app.endpoints["/ws"].diff().splitlines()
    assert diff[:2] == ["--- WS /ws v1", "+++ WS /ws v2"]
    assert '-    return P("one ", text, id="out")' in diff
    assert '+    return P("two ", text, id="out")' in diff


def test_old_versions_go_and_memory_stays_flat() -> None:
    app = App()
    for n in range(200):
        app.ws("/ws")(_returns(n))
    history = app.endpoints["/ws"].history
    assert [v.number for v in history] == list(range(151, 201))


def test_a_version_on_which_a_call_still_runs_is_kept() -> None:
    app = App(port=0)
    begun, go = threading.Event(), asyncio.Event()

    @app.ws("/ws")
    async def slow() -> P:
        begun.set()
        await go.wait()
        return P("slow", id="out")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say()
            assert await asyncio.to_thread(begun.wait, SECONDS)
            for n in range(60):
                app.ws("/ws")(_returns(n))
            assert app.endpoints["/ws"].history[0].running == 1
            _on_loop_of(app, go.set)
            assert shown(await client.hear()) == "slow"

    with running(app):
        talk(visit())
    app.ws("/ws")(one)
    assert len(app.endpoints["/ws"].history) == 50


def test_retire_closes_with_1001_and_numbers_go_on_when_it_comes_back() -> None:
    app = App(port=0)
    app.ws("/ws")(one)

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(text="a")
            app.endpoints["/ws"].retire()
            assert await client.close_code() == 1001
        assert "/ws" not in app.endpoints
        app.ws("/ws")(two)
        async with websocket(app) as client:
            assert shown(await client.ask(text="b")) == "two b"

    with running(app):
        talk(visit())
    assert app.endpoints["/ws"].version == 2


def test_retry_runs_the_message_that_failed_on_the_version_of_today() -> None:
    app = App(port=0)
    endpoints = app.endpoints
    begun, gone = threading.Event(), threading.Event()

    def left() -> None:
        gone.set()

    @app.ws("/ws", disconn=left)
    async def broken(text: str) -> P:
        begun.set()
        raise ValueError(text)

    async def visit() -> None:
        with pytest.raises(LookupError, match="no message to WS /ws has failed"):
            endpoints["/ws"].retry()
        async with websocket(app) as client:
            await client.say(text="again")
            assert await asyncio.to_thread(begun.wait, SECONDS)
            app.ws("/ws", disconn=left)(one)
            assert shown(await client.ask(text="next")) == "one next"
            endpoints["/ws"].retry()
            assert shown(await client.hear()) == "one again"
        assert await asyncio.to_thread(gone.wait, SECONDS)
        with pytest.raises(NbwsError, match="the connection of the message that failed has gone"):
            endpoints["/ws"].retry()

    with running(app):
        talk(visit())
    assert [str(error.exception) for error in app.errors] == ["again"]


# -- migration


def test_a_swap_hook_makes_the_new_state_of_each_open_connection_once_and_what_it_returns_is_sent() -> None:
    app = App(port=0)
    calls: list[tuple[str, int, int]] = []

    @app.ws("/ws")
    async def first(text: str, ws: Any) -> P:
        ws.state.said = [*ws.state.get("said", []), text]
        return P(len(ws.state.said), id="out")

    def migrate(ws: Any, state: Any, old: int, new: int) -> P:
        calls.append((ws.id, old, new))
        state["count"] = len(state.pop("said", []))
        return P("migrated ", state["count"], id="out")

    async def visit() -> None:
        async with websocket(app) as a, websocket(app) as b:
            await a.ask(text="x")
            await a.ask(text="y")

            @app.ws("/ws", swap=migrate)
            async def second(text: str, ws: Any) -> P:
                ws.state.count += 1
                return P(f"count {ws.state.count}", id="out")

            assert shown(await a.hear()) == "migrated 2"
            assert shown(await b.hear()) == "migrated 0"
            assert shown(await a.ask(text="z")) == "count 3"
            assert shown(await b.ask(text="z")) == "count 1"

    with running(app):
        talk(visit())
    assert len(calls) == len({id for id, _, _ in calls}) == 2
    assert {(old, new) for _, old, new in calls} == {(1, 2)}


@pytest.mark.parametrize("fails", [False, True])
def test_in_a_swap_hook_the_connections_state_is_the_copy(fails: bool) -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def first(ws: Any) -> P:
        ws.state.lines = ["first"]
        return P("set", id="out")

    def migrate(ws: Any, state: Any, old: int, new: int) -> None:
        assert ws.state is state
        ws.state.lines.append("migrated")
        if fails:
            raise RuntimeError("cannot migrate")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask()

            @app.ws("/ws", swap=migrate)
            async def second(ws: Any) -> P:
                return P(*ws.state.lines, id="out")

            assert shown(await client.ask()) == ("first" if fails else "firstmigrated")

    with running(app):
        talk(visit())
    assert [type(error.exception) for error in app.errors] == [RuntimeError] * fails


def test_every_connection_is_migrated_though_it_is_silent_and_they_are_many() -> None:
    app = App(port=0)
    app.ws("/ws")(one)

    def migrate(ws: Any, state: Any, old: int, new: int) -> P:
        return P(f"from v{old} to v{new}", id="out")

    async def visit() -> list[str]:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(websocket(app)) for _ in range(3 * MIGRATED_AT_ONCE + 1)]
            for client in clients:
                await client.ask(text="a")  # answered by v1, so that is what its state is of
            app.ws("/ws", swap=migrate)(two)
            return [shown(await client.hear()) for client in clients]

    with running(app):
        assert set(talk(visit())) == {"from v1 to v2"}


def test_a_swap_hook_that_raises_leaves_the_state_as_it_was_and_the_connection_open() -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def first(ws: Any) -> P:
        ws.state.n = [1]
        return P("set", id="out")

    def breaks(ws: Any, state: Any, old: int, new: int) -> None:
        state["n"].append(2)
        raise RuntimeError("cannot migrate")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask()

            @app.ws("/ws", swap=breaks)
            async def second(ws: Any) -> P:
                return P(repr(ws.state.n), id="out")

            assert shown(await client.ask()) == "[1]"

    with running(app):
        talk(visit())
    (error,) = app.errors
    assert error.title == "breaks v2 on WS /ws: RuntimeError: cannot migrate"
    assert error.message == "(swap from v1 to v2)"


def test_versions_that_were_passed_over_are_skipped_and_the_message_in_flight_comes_first() -> None:
    app = App(port=0)
    begun, go, calls = threading.Event(), asyncio.Event(), []

    @app.ws("/ws")
    async def slow(ws: Any) -> P:
        begun.set()
        await go.wait()
        return P(f"slow, {len(calls)} migrations", id="out")

    async def migrate(ws: Any, state: Any, old: int, new: int) -> None:
        await asyncio.sleep(0)
        calls.append((old, new))

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say()
            assert await asyncio.to_thread(begun.wait, SECONDS)
            for n in range(3):
                app.ws("/ws", swap=migrate)(_returns(n))
            _on_loop_of(app, go.set)
            assert shown(await client.hear()) == "slow, 0 migrations"
            assert shown(await client.ask()) == "2"

    with running(app):
        talk(visit())
    assert calls == [(1, 4)]


def test_a_slow_migration_of_one_connection_delays_no_other_and_its_messages_wait_in_order() -> None:
    app = App(port=0)
    go = asyncio.Event()
    app.ws("/ws")(one)

    async def migrate(ws: Any, state: Any, old: int, new: int) -> None:
        if ws.query_params.get("slow"):
            await go.wait()

    async def visit() -> None:
        async with websocket(app, "/ws?slow=1") as slow, websocket(app) as quick:
            await slow.ask(text="a")
            await quick.ask(text="a")
            app.ws("/ws", swap=migrate)(two)
            for text in "bcd":
                await slow.say(text=text)
            assert shown(await quick.ask(text="q")) == "two q"
            _on_loop_of(app, go.set)
            assert [shown(await slow.hear()) for _ in "bcd"] == ["two b", "two c", "two d"]

    with running(app):
        talk(visit())


def test_a_swap_hook_that_is_cut_short_does_not_take_the_message_behind_it_along() -> None:
    app = App(port=0, limits=Limits(finish_seconds=0.1))
    begun, go, hangs, said = threading.Event(), asyncio.Event(), threading.Event(), []

    @app.ws("/ws")
    async def slow() -> None:
        begun.set()
        await go.wait()

    async def migrate(ws: Any, state: Any, old: int, new: int) -> None:
        hangs.set()
        await asyncio.Event().wait()

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say()
            await client.say(text="waits")
            assert await asyncio.to_thread(begun.wait, SECONDS)

            @app.ws("/ws", swap=migrate)
            async def second(text: str) -> None:
                said.append(text)

            _on_loop_of(app, go.set)
            assert await asyncio.to_thread(hangs.wait, SECONDS)

    with running(app):
        talk(visit())
    assert said == ["waits"]


def test_a_swap_hook_that_cannot_be_called_is_refused_where_it_is_defined() -> None:
    app = App()
    app.ws("/ws")(one)
    with pytest.raises(DefinitionError, match=r"called as swap\(ws, state, old, new\)"):
        app.ws("/ws", swap=lambda ws: None)(two)
    assert app.endpoints["/ws"].version == 1


def broken(text: str) -> P:
    raise RuntimeError(f"cannot {text}")


def test_a_pinned_connection_is_served_by_its_version_and_the_others_by_the_live_one() -> None:
    app = App(port=0)
    app.ws("/ws", disconn=lambda: left.append("one"))(one)
    app.ws("/ws", disconn=lambda: left.append("two"))(two)
    endpoint, left = app.endpoints["/ws"], []

    async def visit() -> None:
        async with websocket(app) as pinned, websocket(app) as other:
            await pinned.ask(text="x")
            await other.ask(text="x")
            first = endpoint.connections[0]
            endpoint.pin(first, 1)
            assert "pinned to v1" in repr(first)
            assert shown(await pinned.ask(text="a")) == "one a"
            assert shown(await other.ask(text="a")) == "two a"
            app.ws("/ws")(_returns(3))
            assert shown(await pinned.ask(text="b")) == "one b"
            assert shown(await other.ask()) == "3"
            endpoint.pin(first, None)
            assert shown(await pinned.ask()) == "3"
            endpoint.pin(first, 1)

    with running(app):
        talk(visit())
    assert left == ["one"]
    assert [v.messages for v in endpoint.history] == [2, 3, 2]


def test_pinning_migrates_the_state_as_a_swap_does() -> None:
    app = App(port=0)
    calls = []

    def migrate(ws: Any, state: Any, old: int, new: int) -> None:
        calls.append((old, new))

    app.ws("/ws", swap=migrate)(one)
    app.ws("/ws", swap=migrate)(two)
    endpoint = app.endpoints["/ws"]

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(text="x")
            endpoint.pin(endpoint.connections[0], 1)
            await client.ask(text="x")
            endpoint.pin(endpoint.connections[0], None)
            await client.ask(text="x")

    with running(app):
        talk(visit())
    assert calls == [(2, 1), (1, 2)]


def test_what_cannot_be_pinned_is_refused() -> None:
    app = App(port=0)
    app.ws("/ws")(one)
    app.ws("/other")(two)

    async def visit() -> None:
        async with websocket(app):
            with pytest.raises(LookupError, match="no version 9; kept are v1"):
                app.endpoints["/ws"].pin(app.connections[0], 9)
            with pytest.raises(LookupError, match="is no connection of WS /other"):
                app.endpoints["/other"].pin(app.connections[0], 1)

    with running(app):
        talk(visit())


def test_a_new_version_that_fails_three_times_in_a_row_gives_way_to_the_last_that_worked() -> None:
    app = App(port=0, auto_rollback=3)
    app.ws("/ws")(one)
    endpoint = app.endpoints["/ws"]

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(text="a")
            app.ws("/ws")(broken)
            for _ in range(3):
                await client.say(text="x")
            assert shown(await client.ask(text="b")) == "one b"

    with running(app):
        talk(visit())
    assert [(v.number, v.restored_from) for v in endpoint.history] == [(1, None), (2, None), (3, 1)]
    (notice,) = app._reporter.state(app.table)["notices"]
    assert notice["text"] == (
        "v2 of WS /ws failed 3 times in a row, so the code of v1, the last that worked, is live again as v3"
    )


@pytest.mark.parametrize(
    ("options", "frames", "why"),
    [
        ({}, ["x", "x", "x"], "nobody asked for it"),
        ({"auto_rollback": 3}, ["x", "x", "ok", "x", "x"], "not three in a row"),
        ({"auto_rollback": 3}, ["ok", "ok", "ok", "x", "x", "x"], "it has worked, and is not new any more"),
        ({"auto_rollback": 3}, [None, None, None, None], "the client sent nonsense"),
    ],
)
def test_a_version_does_not_give_way(options: dict[str, Any], frames: list[str | None], why: str) -> None:
    app = App(port=0, **options)
    app.ws("/ws")(one)

    async def moody(text: str) -> P:
        if text == "x":
            raise RuntimeError("x")
        return P(text, id="out")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(text="a")
            app.ws("/ws")(moody)
            for text in frames:
                await client.say(**({} if text is None else {"text": text}))
            await client.say(text="done")
            while shown(await client.hear()) != "done":
                pass

    with running(app):
        talk(visit())
    assert app.endpoints["/ws"].version == 2, why


def test_where_no_version_has_worked_the_failing_one_stays() -> None:
    app = App(port=0, auto_rollback=1)
    app.ws("/ws")(one)
    app.ws("/ws")(broken)

    async def visit() -> None:
        async with websocket(app) as client:
            await client.say(text="x")
            await until(lambda: app.errors)

    with running(app):
        talk(visit())
    assert app.endpoints["/ws"].version == 2


def test_pages_and_tasks_give_way_too() -> None:
    app = App(port=0, auto_rollback=2)
    app.get("/")(lambda: P("fine"))

    @app.task(every=0.01)
    async def tick() -> None:
        pass

    with running(app), http(app) as browser:
        assert browser.get("/").status_code == 200
        app.get("/")(lambda: 1 / 0)
        assert [browser.get("/").status_code for _ in range(3)] == [500, 500, 200]
        entry = app.table.get(Key("TASK", "tick"))
        assert entry is not None
        while not entry.current.worked:
            time.sleep(0.01)

        async def tick() -> None:
            raise RuntimeError("x")

        app.task(every=0.01)(tick)
        deadline = time.monotonic() + SECONDS
        while app.table.get(Key("TASK", "tick")).version != 3:  # type: ignore[union-attr]
            assert time.monotonic() < deadline
            time.sleep(0.01)


names: Any = {}


def reads_names() -> P:
    return P(len(names), id="out")


def test_a_handler_whose_globals_have_become_something_else_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App()
    app.ws("/ws")(reads_names)
    app.get("/")(lambda: P("x"))
    endpoint = app.endpoints["/ws"]
    assert endpoint.stale == ()
    assert "stale" not in app.endpoints._repr_html_()
    monkeypatch.setitem(globals(), "names", {"more": 1})
    assert endpoint.stale == ()
    monkeypatch.setitem(globals(), "names", [])
    assert endpoint.stale == ("names was of type dict and is of type list now",)
    assert "<td>names was of type dict and is of type list now</td>" in app.endpoints._repr_html_()
    monkeypatch.delitem(globals(), "names")
    assert endpoint.stale == ("names is gone",)
    assert "stale: names is gone" in repr(app.endpoints)


def _returns(n: int) -> Callable[[], P]:
    def handler() -> P:
        return P(n, id="out")

    return handler


def _on_loop_of(app: App, act: Callable[[], Any]) -> None:
    app.connections[0]._on_loop(act)
