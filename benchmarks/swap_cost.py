"""What it costs a message that its handler can be swapped.

Three workers of a connection take the same messages from a full inbox, with no socket, in turns:

- *nbws*: the `Worker` of nbws.dispatch as it is. For each message it sees whether another table is live, and counts the
  message on the version that handles it.
- *bound once, counted*: a copy of it whose handler and version are given when it is made.
- *bound once*: the same without the counters of a version.

All else is the same code: the inbox, parsing, binding, the call, the delivery of what the handler returned, which is
nothing here. Nothing is recorded. The cost is what the first takes longer than the last. Measured is the CPU time of
the thread, in many short rounds, of which the fastest of each worker counts: what disturbs a round makes it slower,
never faster.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from report import Report, Table, Target

from nbws import App, Limits
from nbws.binding import Bound
from nbws.connection import Connection, Membership
from nbws.dispatch import Desk, HandlerError, Worker
from nbws.errors import MessageError
from nbws.handlers import HandlerTable, Key, Version
from nbws.outbox import Outbox
from nbws.recording import watching

LIMIT = 0.2  #: microseconds for each message
MESSAGES = 2000  #: of one round
FRAME = '{"n": "1", "HEADERS": {"HX-Request": "true", "HX-Trigger": "form", "HX-Target": "form"}}'
KEY = Key("WS", "/ws")
PACKAGES = ("nbws", "msgspec")


class CountedWorker(Worker):
    """Handles every message with what is live when it is made, and counts them."""

    def __init__(self, desk: Desk, connection: Connection) -> None:
        super().__init__(desk, connection, {})
        entry = desk.table.get_live(KEY)
        assert entry is not None
        self._handler, self._version = entry.definition.target, entry.current

    async def _handle(self, frame: str | bytes) -> None:
        # As in nbws.dispatch, without the look at the table.
        handler, version = self._handler, self._version
        recorded = self._recorded(frame, version) if self._desk.recorded_messages else None
        version.messages += 1
        version.running += 1
        token = watching.set(recorded.watch) if recorded is not None else None
        try:
            await self._run(frame, handler.message)
            version.worked += 1
        except BaseException as exc:
            if isinstance(exc, asyncio.CancelledError) and self._is_cancelled_from_outside():
                raise
            if recorded is not None:
                recorded.error = f"{type(exc).__name__}: {exc}"
            version.has_failed(is_clients=isinstance(exc, MessageError))
            self._desk.report(self._error(exc, handler.message.name, version, frame), partial(self._retry, frame))
        finally:
            version.running -= 1
            if token is not None:
                watching.reset(token)


class BoundWorker(CountedWorker):
    """The same, and counts nothing."""

    async def _handle(self, frame: str | bytes) -> None:
        handler, version = self._handler, self._version
        recorded = self._recorded(frame, version) if self._desk.recorded_messages else None
        token = watching.set(recorded.watch) if recorded is not None else None
        try:
            await self._run(frame, handler.message)
        except BaseException as exc:
            if isinstance(exc, asyncio.CancelledError) and self._is_cancelled_from_outside():
                raise
            if recorded is not None:
                recorded.error = f"{type(exc).__name__}: {exc}"
            self._desk.report(self._error(exc, handler.message.name, version, frame), partial(self._retry, frame))
        finally:
            if token is not None:
                watching.reset(token)


class QuietDesk:
    """What a worker needs of its app: a table, and nothing that takes time."""

    def __init__(self, table: HandlerTable) -> None:
        self.table = table
        self.limits = Limits(inbox_messages=MESSAGES)
        self.recorded_messages = 0
        self.redacted = ()

    def hook(self, key: Key, name: str) -> tuple[Bound | None, Version | None]:
        return None, None

    def report(self, error: HandlerError, retry: Callable[[], None] | None = None) -> None:
        raise error.exception

    def works(self, version: Version) -> None:
        pass

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        raise NotImplementedError("the handler that is measured is an async def")


def measure(quick: bool = False) -> Report:
    fastest = asyncio.run(_fastest_rounds(20 if quick else 200))
    base = fastest["bound once"]
    rows = [(name, f"{taken:.2f}", f"{taken - base:.2f}") for name, taken in fastest.items()]
    return Report(
        [Target("a message over one whose handler is bound once", fastest["nbws"] - base, LIMIT, "µs")],
        [Table("Microseconds of CPU for each message:", ("worker", "all", "over bound once"), rows)],
        "A table of 51 endpoints.",
        PACKAGES,
    )


def _table() -> HandlerTable:
    app = App()
    for n in range(50):
        app.ws(f"/other/{n}")(_other)

    @app.ws(KEY.path)
    async def handler(n: int) -> None: ...

    return app.table


async def _other(text: str) -> str:
    return text


async def _fastest_rounds(rounds: int) -> dict[str, float]:
    """Of each worker, the microseconds for a message in its fastest round."""
    desk = QuietDesk(_table())
    workers: dict[str, Callable[[Connection], Worker]] = {
        "bound once": lambda connection: BoundWorker(desk, connection),
        "bound once, counted": lambda connection: CountedWorker(desk, connection),
        "nbws": lambda connection: Worker(desk, connection, {}),
    }
    times: dict[str, list[float]] = {name: [] for name in workers}
    gc.collect()
    gc.disable()  # it would fall into some rounds and not into others
    try:
        for _ in range(rounds):
            for name, new_worker in workers.items():
                times[name].append(await _round(new_worker))
    finally:
        gc.enable()
    return {name: min(values) for name, values in times.items()}


async def _round(new_worker: Callable[[Connection], Worker]) -> float:
    worker = new_worker(_connection())
    for _ in range(MESSAGES):
        await worker.put(FRAME)
    work = asyncio.create_task(worker.run())
    begin = time.thread_time_ns()
    await worker.finish(work)
    return (time.thread_time_ns() - begin) / 1000 / MESSAGES


def _connection() -> Connection:
    handshake: Any = SimpleNamespace(path_params={}, scope={})
    return Connection(KEY, None, handshake, Membership(), outbox=Outbox(1), on_problem=lambda _, problem: None)
