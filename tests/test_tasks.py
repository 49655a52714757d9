"""Background work of an app: when it runs, what replaces it, what ends it."""

from __future__ import annotations

import asyncio
import itertools
import threading
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from clients import SECONDS, running, talk, websocket
from kernel import Kernel

from nbws import App, DefinitionError
from nbws.common import P


def test_a_task_with_an_interval_runs_again_and_again_while_the_app_serves() -> None:
    app = App(port=0)
    ticks: SimpleQueue[int] = SimpleQueue()

    @app.task(every=0.01)
    async def tick() -> None:
        ticks.put(threading.get_ident())

    assert ticks.empty(), "it waits for the server"
    with running(app):
        assert len({ticks.get(timeout=SECONDS) for _ in range(3)} | {threading.get_ident()}) == 2
    _drain(ticks)
    with pytest.raises(Empty):
        ticks.get(timeout=0.1)


def test_a_tick_reaches_the_clients() -> None:
    app = App(port=0)
    app.ws("/ws")(lambda: None)

    @app.task(every=0.01)
    def tick(app: App, state: Any) -> None:
        state["n"] = state.get("n", 0) + 1
        app.broadcast(P(state.n, id="n"))

    async def visit() -> list[str]:
        async with websocket(app) as client:
            return [await client.hear() for _ in range(3)]

    with running(app):
        first, second, third = (int(frame.partition(">")[2].partition("<")[0]) for frame in talk(visit()))
    assert (second, third) == (first + 1, first + 2)


def test_other_code_replaces_a_task_and_the_same_code_goes_on() -> None:
    app = App(port=0)
    said: SimpleQueue[str] = SimpleQueue()
    ended: SimpleQueue[str] = SimpleQueue()

    def begin(word: str) -> None:
        async def work() -> None:
            said.put(word)
            try:
                await asyncio.Event().wait()
            finally:
                ended.put(word)

        app.task(work)

    with running(app):
        begin("one")
        assert said.get(timeout=SECONDS) == "one"
        begin("one")
        begin("two")
        assert ended.get(timeout=SECONDS) == "one"
        assert said.get(timeout=SECONDS) == "two"
        assert said.empty()
    assert ended.get(timeout=SECONDS) == "two"


def test_what_a_task_raises_is_reported_and_the_next_call_comes() -> None:
    app = App(port=0)
    calls: SimpleQueue[int] = SimpleQueue()

    @app.task(every=0.01)
    async def breaks() -> None:
        calls.put(1)
        raise RuntimeError("no")

    with running(app):
        for _ in range(3):
            calls.get(timeout=SECONDS)
    assert len(app.errors) >= 2
    assert app.errors[0].title == "breaks v1 on TASK breaks: RuntimeError: no"


def test_a_slow_call_leaves_out_the_ticks_that_it_missed() -> None:
    app = App(port=0)
    starts: SimpleQueue[float] = SimpleQueue()

    @app.task(every=0.05)
    async def slow_at_first(state: Any) -> None:
        starts.put(asyncio.get_running_loop().time())
        if not state.get("called"):
            state["called"] = True
            await asyncio.sleep(0.3)

    with running(app):
        times = [starts.get(timeout=SECONDS) for _ in range(5)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] > 0.25, "the first call is waited for"
    assert sum(gap < 0.02 for gap in gaps[1:]) <= 1, "the five that it missed do not come in one burst"


@pytest.mark.parametrize("every", [0, -1, float("nan")])
def test_what_is_no_interval_is_refused(every: float) -> None:
    with pytest.raises(DefinitionError, match="is no interval"):
        App().task(every=every)


def test_a_task_has_no_message() -> None:
    app = App()
    with pytest.raises(DefinitionError, match="send is of a message or a request, and a task has none"):

        @app.task
        async def tick(send): ...

    with pytest.raises(DefinitionError, match="a task is a def or async def"):

        @app.task
        async def tock(text: str): ...


def test_a_cell_owns_its_task() -> None:
    task = "@app.task(every=0.005)\nasync def tick():\n    seen.append({!r})\n    asked.set()\n"
    waiting = "asked.clear(); assert asked.wait(5); print(seen[-1])"
    with Kernel() as kernel:
        kernel.check("app", "import threading\nfrom nbws import App\napp = App()\nseen, asked = [], threading.Event()")
        kernel.check("start", "app.start()")
        kernel.check("task", task.format("one"))
        assert kernel.check("ask", waiting).stdout == "one\n"
        kernel.check("task", task.format("two"))
        kernel.check("ask", waiting)
        assert kernel.check("ask", waiting).stdout == "two\n"
        kernel.run("task", task.format("three") + "1/0")
        kernel.check("ask", waiting)
        assert kernel.check("ask", waiting).stdout == "two\n"
        kernel.check("task", "pass")
        assert kernel.check("ask", "print(list(app.table.live('TASK')))").stdout == "[]\n"


def _drain(queue: SimpleQueue[Any]) -> None:
    while not queue.empty():
        queue.get()
