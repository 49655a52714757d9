"""What it costs a message that its handler can be swapped.

Three workers of a connection take the same messages from a full inbox, with no socket, in turns:

- *nbws*: the `Worker` of nbws.dispatch as it is. For each message it sees whether another table is live, and counts the
  message on the version that handles it.
- *bound once, counted*: the same, but its handler and version are given when it is made, and it looks at no table.
- *bound once*: nor does it count anything on the version.

The other two are made from the source of the first, less those lines, so all else is the same code and stays so: the
inbox, parsing, binding, the call, the delivery of what the handler returned, which is nothing here. Nothing is
recorded. The cost is what the first takes longer than the last.

Measured is the CPU time of the thread, in many short rounds, because what disturbs a round makes it slower and never
faster. Of each worker the mean of the fastest twentieth counts: by it the cost moves from run to run by some 0.03 µs,
and by the one fastest round by twice that.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import statistics
import textwrap
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from report import Report, Table, Target

import nbws.dispatch
from nbws import App, Limits
from nbws.binding import Bound
from nbws.connection import Connection, Membership
from nbws.dispatch import Desk, HandlerError, Worker
from nbws.handlers import HandlerTable, Key, Version
from nbws.outbox import Outbox

LOOKING = """\
    if self._looked_up_in is not self._desk.table.stamp and not await self._look_up():
        return  # parked until the connection closed
"""
COUNTING = (
    "    version.messages += 1\n",
    "    version.running += 1\n",
    "        self._has_worked(version)\n",
    "        version.running -= 1\n",
)

LIMIT = 0.2  #: microseconds for each message
MESSAGES = 2000  #: of one round
FRAME = '{"n": "1", "HEADERS": {"HX-Request": "true", "HX-Trigger": "form", "HX-Target": "form"}}'
KEY = Key("WS", "/ws")
PACKAGES = ("nbws", "msgspec")


class BoundWorker(Worker):
    """Has at hand what is live when it is made."""

    def __init__(self, desk: Desk, connection: Connection) -> None:
        super().__init__(desk, connection, {})
        entry = desk.table.get_live(KEY)
        assert entry is not None
        self._handler, self._version = entry.definition.target, entry.current
        self._max_depth, self._is_at_home = desk.limits.json_depth, True


def _bound_worker(*omitted: str) -> type[BoundWorker]:
    """A `BoundWorker` that handles a message as `Worker` does, less the *omitted* lines.

    Raises LookupError where the source has no such line, which then is another one now.
    """
    source = textwrap.dedent(inspect.getsource(Worker._handle))
    for lines in omitted:
        if source.count(lines) != 1:
            raise LookupError(f"Worker._handle has changed; say in {__file__} what is now in place of\n{lines}")
        source = source.replace(lines, "")
    names = dict(vars(nbws.dispatch))
    exec(compile(source, "Worker._handle, bound once", "exec"), names)
    return type("BoundWorker", (BoundWorker,), {"_handle": names["_handle"]})


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

    def loop_for(self, key: Key) -> None:
        return None

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        raise NotImplementedError("the handler that is measured is an async def")


def measure(quick: bool = False) -> Report:
    each = asyncio.run(_quiet_rounds(20 if quick else 200))
    base = each["bound once"]
    rows = [(name, f"{taken:.2f}", f"{taken - base:.2f}") for name, taken in each.items()]
    return Report(
        [Target("a message over one whose handler is bound once", each["nbws"] - base, LIMIT, "µs")],
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


async def _quiet_rounds(rounds: int) -> dict[str, float]:
    """Of each worker, the microseconds for a message in the rounds that least disturbed."""
    desk = QuietDesk(_table())
    bound, counted = _bound_worker(LOOKING, *COUNTING), _bound_worker(LOOKING)
    workers: dict[str, Callable[[Connection], Worker]] = {
        "bound once": lambda connection: bound(desk, connection),
        "bound once, counted": lambda connection: counted(desk, connection),
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
    return {name: statistics.mean(sorted(values)[: rounds // 20]) for name, values in times.items()}


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
