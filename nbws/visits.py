"""Where clients that need no port find their app: with its server, or else on a visit.

A visit begins with the first of them and ends with the last, and what starts and stops with a server (startup
functions, tasks) starts and stops with it. It is on the loop of the first one. Each client may be on a loop of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from nbws.asgi import VISIT, Serving, inside
from nbws.connection import STOPPING
from nbws.errors import NbwsError, described
from nbws.limits import Limits
from nbws.loops import Loop, can_be_suspended, close, nest, wait
from nbws.runs import has_threads
from nbws.sending import CloseCode

__all__ = ["Host", "Line", "Served", "Stay", "Visits"]

T = TypeVar("T")

_LOOK_SECONDS = 1.0  #: between two looks whether what is waited for can still come: nobody tells that a loop is closed
_PATIENCE_SECONDS = 15.0  #: for who starts or stops elsewhere; a server waits longer for its own startup
_TAKEN_OVER = "the app has a server now; connect again"


class Failed(Protocol):
    """An error of a handler."""

    @property
    def title(self) -> str: ...


class Served(Protocol):
    """What a client needs of an app."""

    @property
    def serving(self) -> Serving | None: ...
    @property
    def visits(self) -> Visits: ...
    @property
    def token(self) -> str | None: ...
    @property
    def errors(self) -> Sequence[Failed]: ...
    @property
    def limits(self) -> Limits: ...
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
        self._is_websocket = scope["type"] == "websocket"
        self.cut_by: str | None = None  #: why the app ends it, to be told to the client; None while it does not
        self.from_app, self.to_app = _Mailbox(), _Mailbox()
        self.on_shutdown: Callable[[Callable[[], None]], None] | None = None  # see Stopping
        stay.lines.add(self)
        self._work = asyncio.run_coroutine_threadsafe(self._run({**scope, STOPPING: self}), stay.loop)

    async def _run(self, scope: dict[str, Any]) -> None:
        async def send(message: Any) -> None:
            self.from_app.put(message)

        inside.set(self._stay.whose)
        try:
            await self._stay.app(scope, self.to_app.get, send)
        except asyncio.CancelledError:
            self._tell_of_cut()
            raise
        except BaseException as exc:
            self.from_app.put({"type": "error", "error": exc})
            if not isinstance(exc, Exception):
                raise
        else:
            if self.cut_by is not None and self._is_websocket:
                self._tell_of_cut()
            else:
                self.from_app.put({"type": "end"})
        finally:
            self._stay.lines.discard(self)

    def cut(self, reason: str) -> None:
        """Tell the app that the client goes, and the client that the app does, after what the app has yet to say."""
        self.cut_by = reason
        with contextlib.suppress(RuntimeError):  # its loop has been closed
            self._stay.loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        if self.on_shutdown is not None:
            self.on_shutdown(self._leave)
        else:
            self._leave()

    def _leave(self) -> None:
        if self._is_websocket:
            self.to_app.put({"type": "websocket.disconnect", "code": CloseCode.RESTART, "reason": ""})
        else:
            self.to_app.put({"type": "http.disconnect"})

    def end(self) -> None:
        """Cancel what the app does for it, and tell the client."""
        self._work.cancel()
        self._tell_of_cut()

    def _tell_of_cut(self) -> None:
        if self._is_websocket:
            reason = self.cut_by or "the loop of the app has stopped"
            self.from_app.put({"type": "websocket.close", "code": CloseCode.RESTART, "reason": reason})
            self.from_app.put({"type": "end"})
        else:
            self.from_app.put({"type": "error", "error": NbwsError("the app has stopped before it answered")})

    async def ended(self, seconds: float | None = None) -> None:
        """Wait until the app has done with it, which it goes on with where who waits is cancelled."""
        await _until_done(self._work, self._stay.loop, seconds)


class Stay:
    """Where clients talk with the app: on the loop of its server, the one *whose* it is."""

    def __init__(self, app: Served, loop: Loop, whose: object) -> None:
        self.app, self.loop, self.whose = app, loop, whose
        self.lines: set[Line] = set()  #: that the app has not done with
        self._dismissed: str | None = None

    def line(self, scope: Mapping[str, Any]) -> Line:
        """A conversation with the app."""
        line = Line(self, scope)
        if self._dismissed is not None:
            line.cut(self._dismissed)
        return line

    def dismiss(self, reason: str) -> tuple[Line, ...]:
        """Cut all lines, which are given, and those that are still to come."""
        self._dismissed = reason
        lines = tuple(self.lines)
        for line in lines:
            line.cut(reason)
        return lines

    async def leave(self) -> None:
        """One client less; the last one waits until the visit has ended."""


class _Served(Stay):
    """The app on its server."""

    def __init__(self, app: Served, serving: Serving) -> None:
        super().__init__(app, serving.loop, serving)
        self._serving = serving

    async def is_ready(self) -> bool:
        """Whether it takes clients, as soon as that is known. Raises NbwsError where it is not known for too long."""
        serving = self._serving
        if asyncio.get_running_loop() is self.loop or inside.get() is serving:
            return True  # it would wait for who waits for it
        awaited = serving.has_ended if serving.is_ending else serving.has_started
        await _until_done(awaited, self.loop, _PATIENCE_SECONDS)
        if self.loop.is_closed():
            return False
        if not awaited.done():
            does = "stop" if serving.is_ending else "start"
            raise NbwsError(f"the server of the app takes more than {_PATIENCE_SECONDS:g} s to {does}; try again later")
        return not serving.is_ending and not serving.has_ended.done()


class _Visit(Stay):
    """The app on the loop of a client, from its startup to the end of its shutdown. *lock* is that of the visits."""

    def __init__(self, app: Served, loop: Loop, lock: threading.Lock, host: Host | None) -> None:
        super().__init__(app, loop, self)
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
        return inside.get() is not self

    async def _last(self) -> None:
        """Take the app through its life."""
        failure = None

        async def send(message: Any) -> None:
            nonlocal failure
            if message["type"] == "lifespan.startup.complete":
                self.has_started.set_result(None)
            elif message["type"] == "lifespan.startup.failed":
                failure = message["message"]

        self._told.put({"type": "lifespan.startup"})
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}, VISIT: self}
        try:
            await self.app(scope, self._told.get, send)
        except Exception as exc:
            failure = described(exc)
        finally:
            if self._host is not None:
                self._host.release()
            # Only now may another visit begin: what was begun of this one has been taken back.
            if not self.has_ended.done():
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

    async def ended(self, seconds: float | None = None) -> None:
        await _until_done(self.has_ended, self.loop, seconds)

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

    async def stop(self) -> None:
        """End for a server, as a server does: finish what is under way, then shut down. `is_ending` is set already."""
        lines, seconds = self.dismiss(_TAKEN_OVER), self.app.limits.finish_seconds
        await asyncio.gather(*(line.ended(seconds) for line in lines))
        for line in tuple(self.lines):
            line.end()
        self._told.put({"type": "lifespan.shutdown"})

    def give_up(self) -> None:
        """Count as over, since the loop does not run on which it would end."""
        self.has_ended.set_result(None)
        for line in self.dismiss(_TAKEN_OVER):
            line.end()


class Visits:
    """Says where the clients of one app find it, and begins a visit where it is nowhere. Callable from any thread."""

    def __init__(self, app: Served) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._visit: _Visit | None = None
        self._served: _Served | None = None
        self._host: Host | None = None

    @property
    def loop(self) -> Loop | None:
        """The loop that the app runs on for a visit; None while there is none."""
        visit = self._visit
        return visit.loop if visit is not None and not visit.is_over else None

    async def join(self) -> Stay:
        """Where the app is, for one client more, who leaves it in the end. Raises NbwsError where it does not start."""
        while True:
            with self._lock:
                stay = self._present()
                if isinstance(stay, _Visit) and (not stay.is_ending or not stay.is_for_others):
                    stay.clients += 1
                    break
            if isinstance(stay, _Visit):
                await stay.ended()
            elif await stay.is_ready():
                return stay
        try:
            await stay.started()
        except BaseException:
            stay.let_go()
            raise
        return stay

    @contextlib.asynccontextmanager
    async def stay(self) -> AsyncIterator[Stay]:
        """`join`, left at the end."""
        stay = await self.join()
        try:
            yield stay
        finally:
            await stay.leave()

    def _present(self) -> _Visit | _Served:
        """Where the app is; a new visit on the running loop where it is nowhere. A loop that was closed is nowhere."""
        if self._visit is not None and not self._visit.is_over:
            return self._visit
        serving = self._app.serving
        if serving is not None and not serving.loop.is_closed():
            if self._served is None or self._served.whose is not serving:
                self._served = _Served(self._app, serving)
            return self._served
        loop = asyncio.get_running_loop()
        host = self._host if self._host is not None and self._host.loop is loop else None
        if host is not None:
            host.users += 1
        self._visit = _Visit(self._app, loop, self._lock, host)
        return self._visit

    async def end(self) -> None:
        """End the visit that there may be, as a server comes in its place. Its websockets are closed with 1012.

        Raises NbwsError where it does not end, as where its loop is blocked.
        """
        with self._lock:
            visit = self._visit
            if visit is None or visit.is_over:
                return
            is_ending, visit.is_ending = visit.is_ending, True
        if not visit.loop.is_running():
            visit.give_up()
            return
        if not is_ending:
            await visit.stop()
        await visit.ended(_PATIENCE_SECONDS)
        if not visit.is_over:
            raise NbwsError(
                f"clients are open on a loop that has not let them go for {_PATIENCE_SECONDS:g} s; close them first"
            )

    def make_way(self) -> None:
        """`end`, where the visit is on the loop of the caller, who is about to block it while a server starts."""
        visit = self._visit
        if visit is None or visit.is_over or visit.loop is not _running_loop():
            return
        try:
            nest(visit.loop)
        except NbwsError:
            raise NbwsError(
                "clients are open on the loop that this blocks until the server has taken over; close them first, or "
                "pip install nest-asyncio2"
            ) from None
        visit.loop.run_until_complete(self.end())

    def dismiss(self) -> None:
        """Close the websockets of clients of the server with 1012, as it stops."""
        with self._lock:
            served = self._served
        if served is not None:
            served.dismiss("the server has stopped")

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
        serving = self._app.serving
        needed = (self.loop, serving.loop if serving is not None else None, self._app.visits.loop)
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


async def _until_done(future: concurrent.futures.Future[Any], loop: Loop, seconds: float | None = None) -> None:
    """Wait until *future* is done, or *loop*, on which that would be, is closed, *seconds* at the most.

    The future goes on where who waits is cancelled.
    """
    own, told = asyncio.get_running_loop(), asyncio.Event()
    end = own.time() + (seconds if seconds is not None else float("inf"))

    def tell(_: Any) -> None:
        with contextlib.suppress(RuntimeError):  # who waited has gone, and the loop with them
            own.call_soon_threadsafe(told.set)

    future.add_done_callback(tell)
    while not future.done() and not loop.is_closed() and own.time() < end:
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            await asyncio.wait_for(told.wait(), min(_LOOK_SECONDS, end - own.time()))


def _running_loop() -> Loop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
