"""Background work of an app: started with it, replaced when its cell is run again, cancelled when it stops."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbws.binding import Bound, Call
from nbws.dispatch import HandlerError
from nbws.handlers import Entry, HandlerTable, Key, Version
from nbws.messages import NOTHING
from nbws.speaking import Speaker, speaker

__all__ = ["TASK", "TaskHandler", "Tasks"]

TASK = "TASK"


@dataclass(frozen=True, slots=True)
class TaskHandler:
    """What runs in the background: once and for as long as it likes, or again *every* so many seconds."""

    bound: Bound
    every: float | None


class Tasks:
    """The running tasks of an app, held against the table of what is live.

    *table* gives the table, *report* takes the error of a task, *app* is what tasks that ask for it get.
    """

    def __init__(self, app: Any, table: Callable[[], HandlerTable], report: Callable[[HandlerError], None]) -> None:
        self._app, self._table, self._report = app, table, report
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[Key, tuple[Version, asyncio.Task[None]]] = {}

    def start(self) -> None:
        """Begin to run what is live, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._running.clear()  # a loop that was closed at once has left there what it will not run again
        self._hold_against_table()

    async def stop(self) -> None:
        """Cancel all of them and wait until they have ended."""
        self._loop = None
        tasks = [task for _, task in self._running.values()]
        self._running.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    def look_again(self) -> None:
        """What is live has changed. Callable from any thread."""
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._hold_against_table)
            except RuntimeError:  # the loop has been closed
                pass

    def _hold_against_table(self) -> None:
        """Cancel what was retired or replaced by other code, and start what is new."""
        if self._loop is None:
            return
        live = dict(self._table().live(TASK))
        for key, (version, task) in list(self._running.items()):
            entry = live.get(key)
            if entry is None or entry.current is not version:
                task.cancel()
                del self._running[key]
        for key, entry in live.items():
            if key not in self._running:
                task = self._loop.create_task(self._run(key, entry), name=f"nbws task {key.path}")
                self._running[key] = (entry.current, task)

    async def _run(self, key: Key, entry: Entry) -> None:
        """One version of a task, to its end. Its function is looked up each time: unchanged code may be run again."""
        handler: TaskHandler = entry.definition.target
        if handler.every is None:
            await self._call(key, entry)
            return
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            now = self._table().get_live(key)
            if now is None or now.current is not entry.current:
                return
            await self._call(key, now)
            # Ticks that a slow call has missed are left out: they would come in one burst.
            due = max(due + handler.every, loop.time())
            await asyncio.sleep(due - loop.time())

    async def _call(self, key: Key, entry: Entry) -> None:
        handler: TaskHandler = entry.definition.target
        version = entry.current
        version.messages += 1
        version.running += 1
        speaker.set(Speaker(self._app, key, handler.bound.name, version.number))
        try:
            args, kwargs = handler.bound.bind(Call(None, self._app, {}, {}, NOTHING))
            result = handler.bound.fn(*args, **kwargs)
            while inspect.isawaitable(result):
                result = await result
            version.worked += 1
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            version.has_failed(is_clients=False)
            self._report(HandlerError(exc, handler.bound.name, key, version.number, None, "(task)"))
        finally:
            version.running -= 1
