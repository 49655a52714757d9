"""The interpreter's switch interval: short while messages come, and what it was otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from clients import running, talk, until, websocket

from nbws import App
from nbws.common import Div
from nbws.haste import HOLD_SECONDS, HURRY_SECONDS, MOST_MESSAGES, SHORT_SECONDS, Haste


class Loop:
    """A loop whose time passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, act: Callable[[], None]) -> Any:
        entry = (self.now + seconds, act)
        self._timers.append(entry)

        class Handle:
            def cancel(handle) -> None:
                self._timers.remove(entry)

        return Handle()

    def call_soon_threadsafe(self, act: Callable[..., object], *args: Any) -> None:
        act(*args)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [each for each in self._timers if each[0] <= end]:
            entry = min(due, key=lambda each: each[0])
            self._timers.remove(entry)
            self.now = entry[0]
            entry[1]()
        self.now = end


@pytest.fixture(autouse=True)
def usual() -> Iterator[float]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield sys.getswitchinterval()
    sys.setswitchinterval(before)


def interval() -> float:
    return sys.getswitchinterval()


def test_it_is_short_from_the_first_message_until_a_while_after_the_last(usual: float) -> None:
    loop = Loop()
    haste = Haste(loop)  # type: ignore[arg-type]
    for _ in range(5):
        haste.note()
        assert interval() == pytest.approx(SHORT_SECONDS, abs=2e-6)
        loop.pass_time(HOLD_SECONDS)
    loop.pass_time(HOLD_SECONDS)
    assert interval() == usual
    haste.note()
    assert interval() == pytest.approx(SHORT_SECONDS, abs=2e-6)
    haste.end()
    assert interval() == usual


def test_it_is_as_usual_while_very_many_come(usual: float) -> None:
    loop = Loop()
    haste = Haste(loop)  # type: ignore[arg-type]
    for _ in range(3):
        for _ in range(MOST_MESSAGES + 1):
            haste.note()
        loop.pass_time(HOLD_SECONDS)
        assert interval() == usual
    haste.note()
    loop.pass_time(HOLD_SECONDS)
    assert interval() == pytest.approx(SHORT_SECONDS, abs=2e-6)
    loop.pass_time(HOLD_SECONDS)
    assert interval() == usual


def test_one_that_is_shorter_already_or_is_changed_meanwhile_stays() -> None:
    loop = Loop()
    haste = Haste(loop)  # type: ignore[arg-type]
    sys.setswitchinterval(0.0001)
    haste.note()
    assert interval() == pytest.approx(0.0001, abs=2e-6)
    haste.end()
    assert interval() == pytest.approx(0.0001, abs=2e-6)
    haste.note()
    sys.setswitchinterval(0.02)
    haste.end()
    assert interval() == pytest.approx(0.02)


def test_of_two_servers_the_last_that_has_traffic_puts_it_back(usual: float) -> None:
    one, other = Haste(Loop()), Haste(Loop())  # type: ignore[arg-type]
    one.note()
    other.note()
    one.end()
    assert interval() == pytest.approx(SHORT_SECONDS, abs=2e-6)
    other.end()
    assert interval() == usual


def test_a_server_in_a_thread_makes_haste_while_clients_talk_to_it(usual: float) -> None:
    app, seen = App(port=0), []

    @app.ws("/ws")
    async def ws(msg: str) -> Any:
        seen.append(interval())
        return Div(msg, id="a")

    async def visit() -> None:
        async with websocket(app) as client:
            await client.ask(msg="hi")
            await until(lambda: interval() == usual)
            await client.ask(msg="again")

    with running(app):
        talk(visit())
    assert seen == [pytest.approx(SHORT_SECONDS, abs=2e-6)] * 2
    assert interval() == usual


def test_it_is_short_for_a_moment_after_something_was_published_however_many_messages_come(usual: float) -> None:
    loop = Loop()
    haste = Haste(loop)  # type: ignore[arg-type]
    for _ in range(MOST_MESSAGES + 1):
        haste.note()
    loop.pass_time(HOLD_SECONDS)
    assert interval() == pytest.approx(usual)
    haste.hurry()
    haste.hurry()
    assert interval() == pytest.approx(SHORT_SECONDS, abs=2e-6)
    loop.pass_time(HURRY_SECONDS)
    assert interval() == pytest.approx(usual)
    haste.hurry()
    haste.end()
    assert interval() == pytest.approx(usual)
    loop.pass_time(HURRY_SECONDS)  # a timer that is left does no harm
    assert interval() == pytest.approx(usual)


def test_a_cell_that_publishes_under_an_open_connection_hurries(usual: float) -> None:
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str): ...

    async def visit() -> None:
        async with websocket(app):
            await until(lambda: bool(app.connections) and interval() == pytest.approx(usual))

            @app.ws("/ws")
            async def ws(msg: str, send: Any): ...

            app.publish()
            assert interval() == pytest.approx(SHORT_SECONDS, abs=2e-6)
            await until(lambda: interval() == pytest.approx(usual))

    with running(app):
        talk(visit())
