"""The server's door: what a client may cost before its request is there, and how much of a loop's turn its frames take.

uvicorn (0.54) bounds none of this. A connection that never finishes its request stays open for ever, httptools reads
headers without end, and 256 KiB of tiny frames are parsed in one go, 32 times in a row under uvloop: a second client's
echo took 13 s then, and 0.7 s while 2,000 connections came at once. Nothing of what a client does wrong is logged, as
it could fill the log of the author.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import weakref
from collections import deque
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import SecurityError
from websockets.frames import Frame

from nbws.deflate import Deflate
from nbws.limits import Limits

__all__ = ["AT_ONCE", "WebsocketDoor", "http_door"]

_BESIDES = 256  #: connections that are no websockets, or not yet: pages, files, feeds, handshakes
_DESCRIPTORS_KEPT = 64  #: of the files and sockets that the process may open, left to what else runs in it
_LINGER_SECONDS = 1.0  #: what a refused client sends is thrown away so long, for it to read the answer
_SLICE = 2048  #: bytes of one client's frames that are parsed in one go
AT_ONCE = 1024  #: bytes of frames that are parsed when they come, whoever waits
_TURN_SECONDS = 0.002  #: of parsing frames, and
_TURN_REQUESTS = 8  #: requests that are begun, in one turn of the loop

_log = logging.getLogger("nbws.server")


def _is_of_the_app(record: logging.LogRecord) -> bool:
    """Whether it is an error of the app. What is below that names URLs with the token; the rest is the client's."""
    return record.levelno >= logging.ERROR and not str(record.msg).startswith("Invalid UTF-8")


_log.addFilter(_is_of_the_app)


def _answer(status: int, text: str) -> bytes:
    """A whole response, after which the connection is closed."""
    body = text.encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body


def _most_descriptors() -> float:
    """How many files and sockets this process may have open."""
    try:
        import resource
    except ImportError:  # Windows
        return float("inf")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return most if most != resource.RLIM_INFINITY else float("inf")


class _Turns:
    """The clients of one loop that send much: each gets on a little in each turn of the loop, and the others too."""

    _known: ClassVar[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns]] = weakref.WeakKeyDictionary()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._frames: deque[WebsocketDoor] = deque()
        self._requests: deque[_HttpDoor] = deque()
        self._begun = 0  # requests, in this turn
        self._is_scheduled = False

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> _Turns:
        found = cls._known.get(loop)
        if found is None:
            found = cls._known[loop] = cls(loop)
        return found

    def has_room(self, door: _HttpDoor) -> bool:
        """Whether the request of *door* may begin in this turn; else it is told to `go_on` in one to come."""
        self._schedule()
        if self._begun >= _TURN_REQUESTS:
            self._requests.append(door)
            return False
        self._begun += 1
        return True

    def parse(self, door: WebsocketDoor) -> None:
        """Have *door* `feed` itself, now or in turns to come, until it says that there is no more."""
        self._frames.append(door)
        if not self._is_scheduled:
            self._parse()

    def _run(self) -> None:
        self._is_scheduled = False
        self._begun = min(_TURN_REQUESTS, len(self._requests))
        for _ in range(self._begun):
            self._guarded(self._requests.popleft(), "go_on")
        self._parse()
        if self._begun or self._requests:
            self._schedule()

    def _parse(self) -> None:
        end = time.perf_counter() + _TURN_SECONDS
        while self._frames:
            door = self._frames.popleft()
            if self._guarded(door, "feed"):
                self._frames.append(door)
            if self._frames and time.perf_counter() > end:
                self._schedule()
                return

    def _guarded(self, door: Any, act: str) -> Any:
        """What *door* says. One that fails is its own problem, as it is where the loop calls it."""
        try:
            return getattr(door, act)()
        except Exception:
            _log.exception("a connection failed")
            door.transport.abort()
            return False

    def _schedule(self) -> None:
        loop = self._loop()
        if not self._is_scheduled and loop is not None:
            self._is_scheduled = True
            loop.call_soon(self._run)


class _HeadersTooLong(ValueError):
    """Raised in a callback of httptools, which gives it up then."""


class _HttpDoor:
    """What both of uvicorn's http protocols need, as a base before one of them: its names are theirs."""

    limits: Limits
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    server_state: Any
    cycle: Any
    logger: Any

    _TOO_LONG = "The headers are longer than {} bytes. Send fewer cookies."

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        self.logger = _log
        self._timer: asyncio.TimerHandle | None = None
        self._held = b""  # of a request that waits for its turn; while there is some, nothing more is read
        self._has_begun = self._is_refused = False
        self._comes_too_late = len(self.server_state.connections) > self.limits.connections + _BESIDES
        # Systems hand out the lowest number that is free, so a high one says that few are left, whoever has them.
        if transport.get_extra_info("socket").fileno() >= _most_descriptors() - _DESCRIPTORS_KEPT:
            transport.abort()
            return
        self._expect_a_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)  # type: ignore[misc]

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._has_begun = True
        if self._comes_too_late:
            self._refuse(503, "This server has as many connections as it may. Come back later.")
        elif self._held:
            self._held += data
        elif self._is_at_a_request() or _Turns.of(self.loop).has_room(self):
            self._take(data)
        else:
            self._held = data
            self.transport.pause_reading()

    def go_on(self) -> None:
        """Take what came when it was not this client's turn."""
        data, self._held = self._held, b""
        if not self._is_left():
            self.transport.resume_reading()
            self._take(data)

    def _take(self, data: bytes) -> None:
        super().data_received(data)  # type: ignore[misc]
        if self._is_at_a_request():
            self._expect_nothing()
        elif self._timer is None and not self._is_left():
            # The rest of a body that nobody reads, or the beginning of a further request: for what comes after an
            # answer uvicorn's own timer waits, until the first byte of it stops that.
            self._expect_a_request()

    def handle_websocket_upgrade(self, *event: Any) -> None:
        self._expect_nothing()  # first: the websocket's protocol takes the transport over, and what it is told
        super().handle_websocket_upgrade(*event)  # type: ignore[misc]
        self._let_go()

    def _let_go(self) -> None:
        """Hold on to nothing that holds this: the websocket's protocol has taken over."""

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None:
            self.cycle.disconnected = True  # what its request is answered reaches nobody
        exc = sys.exc_info()[1]
        if isinstance(exc and exc.__context__, _HeadersTooLong) or getattr(exc, "error_status_hint", 400) == 431:  # h11
            self._refuse(431, self._TOO_LONG.format(self.limits.header_bytes))
            return
        self._refuse(400, "This is no HTTP request. Ask by http://, not https://, with a path that begins with /.")

    def _is_at_a_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_left(self) -> bool:
        """Whether the connection is closed, or refused, or a websocket now."""
        present: object = self.transport.get_protocol()
        return self._is_refused or self.transport.is_closing() or present is not self

    def _expect_a_request(self) -> None:
        self._timer = self.loop.call_later(self.limits.handshake_seconds, self._expire)

    def _expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        if self._is_left():
            return
        if self._held:  # it is here who is late, with its turn
            self._expect_a_request()
        elif self._has_begun and self.cycle is None:
            self._refuse(408, f"No whole request came within {self.limits.handshake_seconds:g} s. Ask again.")
        else:  # a browser opens connections ahead of need; to one that has asked nothing nothing is answered
            self.transport.abort()

    def _refuse(self, status: int, text: str) -> None:
        """Answer in place of the app, and close."""
        self._expect_nothing()
        if self._is_left():
            return
        if self.transport.get_write_buffer_size():  # it does not read, so it would not get this either
            self.transport.abort()
            return
        self.transport.write(_answer(status, text))
        # What is closed while the client sends on is reset, and the answer lost with it.
        self.transport.write_eof()
        self._is_refused = True
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)


def http_door(limits: Limits) -> type[asyncio.Protocol]:
    """uvicorn's http protocol, over httptools where that is installed, which holds clients to *limits*."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return type("HttpDoor", (_HttpDoor, H11Protocol), {"limits": limits})

    class HttpDoor(_HttpDoor, HttpToolsProtocol):  # type: ignore[misc]
        """h11 has a limit of its own on what it has read of a request's head; httptools has none."""

        _head_bytes: int | None = None  #: read of a head that is not whole; None between two requests

        def _let_go(self) -> None:
            self.parser = None  # type: ignore[assignment]

        def _take(self, data: bytes) -> None:
            super()._take(data)
            if self._head_bytes is not None and not self._is_left():
                self._head_bytes += len(data)
                if self._head_bytes > limits.header_bytes:
                    self._refuse(431, self._TOO_LONG.format(limits.header_bytes))

        def on_message_begin(self) -> None:
            self._head_bytes = 0
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._head_bytes = None
            if sum(len(name) + len(value) for name, value in self.headers) > limits.header_bytes:
                raise _HeadersTooLong
            if not self.url.startswith(b"/") or not self.url.isascii():
                # uvicorn would drop the host that such a URL names, and what is not ASCII fails in its websocket.
                raise ValueError("the target is no path")
            super().on_headers_complete()

    HttpDoor.limits = limits
    return HttpDoor


class WebsocketDoor(WebSocketsSansIOProtocol):
    """uvicorn's websocket protocol, which takes frames by the slice and so leaves the loop to the other clients."""

    # With uvicorn's own, as far as they are used here. A dict of more than 30 attributes takes 1.6 KB, and each call of
    # a method looks into it first.
    __slots__ = (
        "_following",
        "_has_failed",
        "_has_turns",
        "_is_held",
        "app",
        "close_timer",
        "config",
        "conn",
        "disconnected",
        "frames",
        "handshake_complete",
        "handshake_initiated",
        "initial_response",
        "logger",
        "loop",
        "queue",
        "read_paused",
        "scope",
        "transport",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = self.conn.logger = _log
        self.conn.debug = False
        if self.config.ws_per_message_deflate:
            self.conn.available_extensions = [Deflate()]
        # What has come and was not parsed yet; while there is some, nothing more is read.
        self._unfed: bytearray | None = None
        self._is_held = self._has_turns = self._has_failed = False
        self._following: Coroutine[Any, Any, None] | None = None

    def follow(self, talk: Coroutine[Any, Any, None]) -> None:
        """Have *talk* go on with the websocket when the app has returned, which closes it then no more.

        So what the app has around its endpoints is not held for as long as a client is there. Where the app is
        cancelled on its way back, *talk* is in its place.
        """
        self._following = talk

    async def run_asgi(self) -> None:
        app = self.app

        async def answered(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._following is None or task is None:
                    raise
                task.cancel()
            finally:
                if self._following is not None:
                    await self._following
            if self.initial_response is not None:
                self.handshake_complete = True  # with a refusal, which uvicorn calls an error of the app

        self.app = answered
        try:
            await super().run_asgi()
        finally:
            self.app = app  # else it would hold itself, until the collector comes

    def data_received(self, data: bytes) -> None:
        if self._has_failed:
            return
        if not self.handshake_initiated:
            super().data_received(data)
            if not self.handshake_initiated:
                # websockets refuses by itself what is no handshake; uvicorn does not look, and leaves it open.
                self.transport.write(b"".join(self.conn.data_to_send()) or self._unsaid())
                self.transport.close()
        elif not self._unfed and len(data) <= AT_ONCE and self.handshake_complete:
            self.parse(data)
        else:
            self._unfed = self._unfed or bytearray()
            self._unfed += data
            self._parse_on()
            if self._unfed and not self.transport.is_closing():
                self._is_held = True
                self.transport.pause_reading()

    def _unsaid(self) -> bytes:
        """An answer to what websockets refuses without a word: before 17 headers too long or too many for it, too."""
        cause = self.conn.handshake_exc.__cause__ if self.conn.handshake_exc is not None else None
        if isinstance(cause, SecurityError):
            return _answer(431, "The headers are more than a websocket takes. Send fewer cookies.")
        return _answer(400, "This is no handshake of a websocket. Ask with GET, by HTTP/1.1.")

    def parse(self, data: bytes) -> None:
        """Take up frames, or parts of them, after the handshake."""
        super().data_received(data)

    async def receive(self) -> Any:
        if self._unfed and self.queue.empty():
            self._parse_on()  # what came before the handshake was complete, when uvicorn cannot close yet
        message = await self.queue.get()
        if self.queue.empty():
            if self.read_paused and not self._unfed:
                self.transport.resume_reading()
            self.read_paused = False
            if self._unfed:
                self._parse_on()
        return message

    def _parse_on(self) -> None:
        if not self._has_turns:
            self._has_turns = True
            _Turns.of(self.loop).parse(self)

    def feed(self) -> bool:
        """Parse a slice. Whether there is more to parse, until a message has to be taken up first."""
        goes_on = self.handshake_complete and not self.read_paused
        if goes_on and self._unfed and not self.transport.is_closing():
            piece = bytes(self._unfed[:_SLICE])
            del self._unfed[:_SLICE]
            self.parse(piece)
        if self.transport.is_closing() or self._has_failed:
            self._unfed = None
        elif not self._unfed:
            self._unfed = None
            if self._is_held and not self.read_paused:
                self._is_held = False
                self.transport.resume_reading()
        self._has_turns = goes_on and bool(self._unfed) and not self.read_paused
        return self._has_turns

    def handle_parser_exception(self) -> None:
        """Say with which code the connection ends, and why, to a client that may be sending still."""
        said = self.conn.close_sent
        assert said is not None
        self._has_failed = self.close_sent = self.disconnected = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": said.code, "reason": said.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        # As in `_refuse`: the rest of what it sends is thrown away. The timer keeps uvicorn from closing before.
        self.transport.write_eof()
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def handle_ping(self) -> None:
        pongs = b"".join(self.conn.data_to_send())
        # RFC 6455, 5.5.3: not every ping needs its pong. To one that does not read them they would pile up.
        if self.writable.is_set():
            self.transport.write(pongs)

    def handle_cont(self, event: Frame) -> None:
        """Pieces are put together as they come: a list of a million of one byte takes 50 times their size."""
        if event.fin or not self.frames:
            super().handle_cont(event)
        elif len(self.frames) == 1:
            self.frames.append(bytearray(event.data))  # type: ignore[arg-type]
        else:
            self.frames[1] += event.data
