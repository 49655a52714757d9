"""Where clients that need no port find their app: with its server, or else on a visit.

A visit begins with the first of them and ends with the last, and what starts and stops with a server (startup
functions, tasks) starts and stops with it. It is on the loop of the first one. Each client may be on a loop of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from nbws.errors import NbwsError, described
from nbws.loops import Loop, can_be_suspended, close, wait
from nbws.runs import has_threads

__all__ = ["Host", "Line", "Served", "Stay", "Visits"]

T = TypeVar("T")

_LOOK_SECONDS = 1.0  #: between two looks whether what is waited for can still come: nobody tells that a loop is closed


class Failed(Protocol):
    """An error of a handler."""

    @property
    def title(self) -> str: ...


class Served(Protocol):
    """What a client needs of an app."""

    @property
    def serving_loop(self) -> Loop | None: ...
    @property
    def visits(self) -> Visits: ...
    @property
    def token(self) -> str | None: ...
    @property
    def errors(self) -> Sequence[Failed]: ...
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class _Mailbox:
    """What one side has said and the other has not taken. Each side may be on any loop, or none."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._lock = threading.Lock()
        self._waiting: list[concurrent.futures.Future[None]] = []

    def put(self, item: Any) -> None:
        with self._lock:
            self._items.append(item)
            waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.cancelled():
                each.set_result(None)

    def _take(self) -> tuple[Any, concurrent.futures.Future[None] | None]:
        """(the next item, None), or what tells that there is one."""
        with self._lock:
            if self._items:
                return self._items.popleft(), None
            arrival: concurrent.futures.Future[None] = concurrent.futures.Future()
            self._waiting.append(arrival)
            return None, arrival

    async def get(self, seconds: float | None = None) -> Any:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds if seconds is not None else None
        while True:
            item, arrival = self._take()
            if arrival is None:
                return item
            await asyncio.wait_for(asyncio.wrap_future(arrival), end - loop.time() if end is not None else None)


class Line:
    """One conversation with the app: a request, or a websocket. Both mailboxes hold ASGI's messages.

    The app has done with it when it says `{"type": "end"}`, or `{"type": "error", "error": ...}`.
    """

    def __init__(self, stay: Stay, scope: Mapping[str, Any]) -> None:
        self._stay = stay
        self.from_app, self.to_app = _Mailbox(), _Mailbox()
        self.run = asyncio.run_coroutine_threadsafe(self._run(dict(scope)), stay.loop)

    async def _run(self, scope: dict[str, Any]) -> None:
        async def send(message: Any) -> None:
            self.from_app.put(message)

        _inside.set(self._stay)
        try:
            await self._stay.app(scope, self.to_app.get, send)
        except BaseException as exc:
            self.from_app.put({"type": "error", "error": exc})
            if not isinstance(exc, Exception):
                raise
        else:
            self.from_app.put({"type": "end"})

    async def ended(self) -> None:
        """Wait until the app has done with it, which it goes on with where who waits is cancelled."""
        await _until_done(self.run, self._stay.loop)


class Stay:
    """Where clients talk with the app: on the loop of its server."""

    def __init__(self, app: Served, loop: Loop) -> None:
        self.app, self.loop = app, loop

    async def leave(self) -> None:
        """One client less; the last one waits until the visit has ended."""


class _Visit(Stay):
    """The app on the loop of a client, from its startup to the end of its shutdown. *lock* is that of the visits."""

    def __init__(self, app: Served, loop: Loop, lock: threading.Lock, host: Host | None) -> None:
        super().__init__(app, loop)
        self.clients = 0  #: under the lock
        self.is_ending = False  #: likewise
        self.has_started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.has_ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._lock, self._host = lock, host
        self._told = _Mailbox()
        asyncio.run_coroutine_threadsafe(self._last(), loop)

    @property
    def is_over(self) -> bool:
        return self.has_ended.done() or self.loop.is_closed()

    @property
    def is_for_others(self) -> bool:
        """Whether the caller may wait for it: code of the app that it runs would wait for itself."""
        return _inside.get() is not self

    async def _last(self) -> None:
        """Take the app through its life."""
        failure = None

        async def send(message: Any) -> None:
            nonlocal failure
            if message["type"] == "lifespan.startup.complete":
                self.has_started.set_result(None)
            elif message["type"] == "lifespan.startup.failed":
                failure = message["message"]

        _inside.set(self)
        self._told.put({"type": "lifespan.startup"})
        try:
            await self.app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, self._told.get, send)
        except Exception as exc:
            failure = described(exc)
        finally:
            if self._host is not None:
                self._host.release()
            # Only now may another visit begin: what was begun of this one has been taken back.
            self.has_ended.set_result(None)
            if not self.has_started.done():
                why = failure or "the loop that it was to run on has stopped"
                self.has_started.set_exception(NbwsError(f"the app did not start: {why}"))

    async def started(self) -> None:
        """Wait until the app has started. Raises NbwsError where it does not."""
        if self.is_for_others:
            await _until_done(self.has_started, self.loop)
            if not self.has_started.done():
                raise NbwsError("the app did not start: the loop that it was to run on was closed")
            self.has_started.result()

    async def ended(self) -> None:
        await _until_done(self.has_ended, self.loop)

    async def leave(self) -> None:
        if self.let_go() and self.is_for_others:
            await self.ended()

    def let_go(self) -> bool:
        """One client less. Whether it was the last one, so that the visit ends."""
        with self._lock:
            self.clients -= 1
            is_last = not self.clients and not self.is_ending
            self.is_ending = self.is_ending or is_last
        if is_last:
            self._told.put({"type": "lifespan.shutdown"})
        return is_last


_inside: contextvars.ContextVar[Stay | None] = contextvars.ContextVar("nbws_inside", default=None)
"""Where the app is that runs the calling code; None outside of it, and where it runs on a server alone."""


class Visits:
    """Says where the clients of one app find it, and begins a visit where it is nowhere. Callable from any thread."""

    def __init__(self, app: Served) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._visit: _Visit | None = None
        self._host: Host | None = None

    @property
    def loop(self) -> Loop | None:
        """The loop that the app runs on for a visit; None while there is none."""
        visit = self._visit
        return visit.loop if visit is not None and not visit.is_over else None

    async def join(self) -> Stay:
        """Where the app is, for one client more, who leaves it in the end. Raises NbwsError where it does not start."""
        while True:
            loop = self._app.serving_loop
            if loop is not None:
                return Stay(self._app, loop)
            with self._lock:
                visit = self._present()
                is_open = not visit.is_ending or not visit.is_for_others
                visit.clients += is_open
            if is_open:
                break
            await visit.ended()
        try:
            await visit.started()
        except BaseException:
            visit.let_go()
            raise
        return visit

    @contextlib.asynccontextmanager
    async def stay(self) -> AsyncIterator[Stay]:
        """`join`, left at the end."""
        stay = await self.join()
        try:
            yield stay
        finally:
            await stay.leave()

    def _present(self) -> _Visit:
        """The visit that there is, or a new one on the running loop. One whose loop was closed is there no longer."""
        if self._visit is None or self._visit.is_over:
            loop = asyncio.get_running_loop()
            host = self._host if self._host is not None and self._host.loop is loop else None
            if host is not None:
                host.users += 1
            self._visit = _Visit(self._app, loop, self._lock, host)
        return self._visit

    def host(self) -> Host:
        """The loop that blocking clients work on, for one of them more, who releases it in the end."""
        with self._lock:
            if self._host is None or not self._host.users or self._host.loop.is_closed():
                self._host = Host(self._app, self._lock)
            self._host.users += 1
            return self._host


class Host:
    """The loop that blocking clients work on, in a thread of its own where there are threads.

    It lasts until the last of them, and the visit that it may have, have left it. *lock* is that of the visits.
    """

    def __init__(self, app: Served, lock: threading.Lock) -> None:
        self.users = 0  #: under the lock
        self._app, self._lock = app, lock
        self._thread: threading.Thread | None = None
        running = _running_loop()
        if running is not None and not has_threads():
            self.loop = running
            return
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="nbws-client", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            close(self.loop)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What *work* gives or raises. Raises NbwsError on a loop that it would wait for."""
        running = _running_loop()
        needed = (self.loop, self._app.serving_loop, self._app.visits.loop)
        if running is not None and running in needed and not can_be_suspended():
            work.close()
            raise NbwsError("a blocking client cannot wait for the loop that it is called on; await app.client()'s")
        return wait(self.loop, work)

    def release(self) -> None:
        """One user less. The last one ends it."""
        with self._lock:
            self.users -= 1
            if self.users or self._thread is None:
                return
            self.loop.call_soon_threadsafe(self.loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()


async def _until_done(future: concurrent.futures.Future[Any], loop: Loop) -> None:
    """Wait until *future* is done, or *loop*, on which that would be, is closed. It goes on without who waits."""
    own, told = asyncio.get_running_loop(), asyncio.Event()

    def tell(_: Any) -> None:
        with contextlib.suppress(RuntimeError):  # who waited has gone, and the loop with them
            own.call_soon_threadsafe(told.set)

    future.add_done_callback(tell)
    while not future.done() and not loop.is_closed():
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            await asyncio.wait_for(told.wait(), _LOOK_SECONDS)


def _running_loop() -> Loop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
