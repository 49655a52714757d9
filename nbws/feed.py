"""What a page is told while its author works: the versions that are live, errors of handlers, and its own changes.

Server-sent events, so that the page's own websockets stay the only ones of it. A browser keeps six HTTP/1.1
connections to one host, so a feed has few streams: the one that was opened first makes room for a new one.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Event", "Feed"]

MAX_STREAMS = 4
_PAUSE = 0.05  #: seconds between two events of one stream, so that a thousand swaps a second are twenty events


@dataclass(frozen=True, slots=True)
class Event:
    """One event for one page. *id* is what the browser names when it comes back after a cut."""

    name: str
    data: Any  #: as JSON holds it
    id: str | None = None

    def __str__(self) -> str:
        identity = f"id: {self.id}\n" if self.id is not None else ""
        return f"event: {self.name}\n{identity}data: {json.dumps(self.data)}\n\n"


class Feed:
    """Streams the present state to whoever listens. *state* gives it, as what JSON holds."""

    def __init__(self, state: Callable[[], Any]) -> None:
        self._state = state
        self.max_streams = MAX_STREAMS
        self._streams: list[_Stream] = []
        self._lock = threading.Lock()

    @property
    def is_heard(self) -> bool:
        """Whether any page listens."""
        return any(not stream.ended for stream in tuple(self._streams))

    def changed(self) -> None:
        """Tell every stream that the state may be another one. Callable from any thread; never waits."""
        for stream in tuple(self._streams):
            stream.wake()

    def close(self) -> None:
        """End every stream. Callable from any thread."""
        for stream in tuple(self._streams):
            stream.end()

    async def events(self, own: Callable[[], Awaitable[Event | None]] | None = None) -> AsyncIterator[str]:
        """The text of one event stream: the state now, and again when it has changed.

        *own* is asked after each change for an event of this stream alone. Where nothing is different, nothing is sent.
        """
        stream = _Stream()
        with self._lock:
            self._streams.append(stream)
            alive = [s for s in self._streams if not s.ended]
        for oldest in alive[: -self.max_streams]:
            oldest.end()
        told = None
        try:
            while True:
                state = json.dumps(self._state())
                if state != told:
                    told = state
                    yield f"data: {state}\n\n"
                event = await own() if own is not None else None
                if event is not None:
                    yield str(event)
                await stream.woken()
                if stream.ended:
                    yield "event: end\ndata: {}\n\n"
                    return
                await asyncio.sleep(_PAUSE)
        finally:
            with self._lock:
                self._streams.remove(stream)


class _Stream:
    def __init__(self) -> None:
        self.ended = False
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:  # the loop has been closed
            pass

    def end(self) -> None:
        self.ended = True
        self.wake()

    async def woken(self) -> None:
        await self._event.wait()
        self._event.clear()
