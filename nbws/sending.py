"""What is sent to one client: at once where nothing waits, and else past an outbox, over one socket after the other.

Nothing here waits for a peer. What is sent is queued in the outbox, from any thread; one writer task hands it to the
socket. So one client that does not read is its own problem.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol

from nbws.latch import Latch
from nbws.outbox import FRAME_BYTES, Frame, Outbox
from nbws.resume import SentLog
from nbws.transcript import Log

__all__ = ["CloseCode", "Sender", "Sink", "Socket", "Stopping", "prepared"]

_OVERFLOW_SECONDS = 1.0  #: how long a client that read too slowly has to take its close frame


class CloseCode:
    """Why a connection was closed (RFC 6455, 7.4.1, and its registry). htmx comes back after 1006, 1011-1013."""

    NORMAL = 1000
    GOING_AWAY = 1001
    POLICY = 1008
    TOO_BIG = 1009
    RESTART = 1012
    TRY_LATER = 1013


Sink = Callable[[str | bytes], bool]
"""Takes one message, and says whether there is room for another."""


class Stopping(Protocol):
    """What ASGI does not tell of a server that stops. On the loop only."""

    on_shutdown: Callable[[Callable[[], None]], None] | None
    """Called when the server stops, with what closes it with 1012, to be called soon; None closes it at once."""


class Socket(Stopping, Protocol):
    """What ASGI does not tell of a socket, or takes longer to tell. On the loop only."""

    lost: Latch  #: set when it has ended, also where nothing is read from it

    def abort(self) -> None:
        """End it at once, with what it has not sent yet. Callable when it has ended, too."""

    def unsent(self) -> int:
        """How many bytes it was given that the peer's system has not taken, as far as it knows."""

    async def receive(self) -> Any: ...  # these two as ASGI has them
    async def send(self, message: Any) -> None: ...

    def is_behind(self, receive: Any, send: Any) -> bool:
        """Whether these are its own, with nobody's middleware between."""

    def push(self, data: str | bytes) -> bool:
        """Send one message at once. False, and nothing is sent, where its `send` would wait or raise."""

    def push_text(self, encoded: bytes) -> bool:
        """The same with a text that is in UTF-8 already."""

    def deliver_to(self, sink: Sink | None) -> None:
        """Hand each message to *sink* when it comes, and not to `receive`, which tells of the end alone.

        Where *sink* has no room for another, nothing is read until `go_on` is called. None ends that.
        """

    def go_on(self) -> None:
        """There is room again. Callable whether or not there was none."""

    def follow(self, talk: Coroutine[Any, Any, None]) -> None:
        """Have *talk* go on with it when the ASGI app has returned, and close it after that."""


class Sender:
    """What a connection is to who sends over it. On its loop only, but for what says otherwise."""

    # By themselves, and not among those of a connection, since each message looks at them: they are side by side here.
    __slots__ = (
        "_answer",
        "_away_since",
        "_close",
        "_drained",
        "_filled",
        "_gone",
        "_held",
        "_is_left",
        "_is_writing",
        "_lock",
        "_loop",
        "_outbox",
        "_pusher",
        "_socket",
        "_straight",
        "_taken",
        "_taken_at",
        "_thread",
        "_written",
        "is_away",
        "log",
        "on_closing",
        "sent",
    )

    def __init__(self, outbox: Outbox) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._outbox = outbox
        self.sent: SentLog | None = None  #: what a client that is able to resume may have missed
        self.is_away = False  #: whether the client was cut off and may come back
        self.on_closing: Callable[[], None] | None = None  #: told, on the loop, that the connection is to be closed
        self._socket: Socket | None = None
        self._away_since = 0  # how many frames had been sent when the client was cut off
        self._answer: str | None = None  # to a client that asks whether anybody is there
        self._is_writing = False  # and the server has not taken it yet
        self._straight: Socket | None = None  # what sends at once, where nobody is between
        self._pusher: Socket | None = None  # the same, while nothing waits; set under the lock, or to None
        self._held: Frame | None = None  # of the outbox, which could not be sent at once; it comes first
        self._written = 0  # bytes handed to the socket
        self._taken, self._taken_at = 0, 0.0  # how many of them it has passed on, and when that was more than before
        self.log: Log | None = None  #: takes note of what is said; None where nothing does
        self._close: tuple[int, str] | None = None
        self._gone = False
        self._is_left = False
        self._filled = Latch()
        self._drained = Latch()

    @property
    def is_open(self) -> bool:
        """Whether something sent now can still reach the client."""
        return self._close is None and not self._gone

    def _note(self, data: str | bytes) -> None:
        """Have the log take note of one frame that is sent."""

    # -- the outbox

    def _queue(self, data: str | bytes, size: int) -> bool:
        """Put one frame into the outbox. Whether somebody is to look for it there. From any thread."""
        with self._lock:
            if not self.is_open:
                return False
            overflows, self._pusher = not self._outbox.put(data, size), None
            if overflows:
                self._drop_all("the client reads too slowly")
        self._note(data)
        if overflows:
            self._close_soon(_OVERFLOW_SECONDS)
        return True

    def _flush_soon(self) -> None:
        if threading.get_ident() == self._thread:
            self._filled.set()  # what could not be sent at once waits for the peer
        else:
            self._on_loop(self._flush)

    def _flush(self) -> None:
        """Send what waits as far as it need not wait, and leave the rest to the writer. On the loop only."""
        while self._straight is not None and self.is_open and not (self._is_writing or self._held):
            waiting = self._next()
            if waiting is None:
                return
            data, size = waiting
            if not self._straight.push(data):
                self._held = waiting
                break
            if self.sent is not None:
                self.sent.append(data, size, self._loop.time())
            self._written += size if size > FRAME_BYTES else len(data)
            self._done(size)
        self._filled.set()

    def _next(self) -> Frame | None:
        """What is to be sent next; it is `_done` then."""
        held, self._held = self._held, None
        return held if held is not None else self._outbox.take()

    def _push(self, data: str | bytes, size: int) -> bool:
        """Send one frame past the outbox, where nothing waits in it. False where it has to wait, or is not sent."""
        return threading.get_ident() == self._thread and self._push_here(data, size)

    def _push_here(self, data: str | bytes, size: int, encoded: bytes | None = None) -> bool:
        """The same on the connection's loop; *encoded* is *data* too, where that is to be sent to many."""
        pusher = self._pusher
        if pusher is None:
            return False
        if not (pusher.push(data) if encoded is None else pusher.push_text(encoded)):
            return False
        if self.sent is not None:
            self.sent.append(data, size, self._loop.time())
        self._written += size
        if self.log is not None:
            self._note(data)
        return True

    def _give_up(self, reason: str) -> None:
        """Send nothing more of what waits, close with 1013, and do not wait for the peer to take that."""
        with self._lock:
            self._drop_all(reason)
        self._wake(self._filled)
        self._close_soon(0)

    def _drop_all(self, reason: str) -> None:
        self._close, self._pusher = self._close or (CloseCode.TRY_LATER, reason), None
        self._outbox.clear()
        self._held = None

    def _close_soon(self, seconds: float) -> None:
        """Let all who wait for the connection know that it ends, within *seconds*."""
        self._wake(self._drained)
        if self.on_closing is not None:
            self._on_loop(self.on_closing)
        self._abort_after(seconds)

    def look_at(self, now: float, stall_seconds: float) -> None:
        """Close where the peer has taken nothing for *stall_seconds*, and forget what nobody asks for any more.

        To be called every so often, with the loop's time. On the connection's loop only.
        """
        if self.sent is not None:
            self.sent.expire(now)
        if self._gone or self.is_away:
            return
        unsent = self._socket.unsent() if self._socket is not None else 0
        taken = self._written - unsent
        if taken > self._taken or not (self._is_writing or unsent):
            self._taken, self._taken_at = taken, now
        elif now - self._taken_at >= stall_seconds:
            self._give_up("the client does not read")

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of what was sent to it wait in the outbox."""
        return self._outbox.waiting_bytes

    @property
    def is_above_high_water(self) -> bool:
        if self._outbox.waiting_bytes > self._outbox.limit // 4:
            return True
        if not self.is_away or self.sent is None:
            return False
        return self.sent.is_filling_up(self._away_since - len(self._outbox))

    @property
    def sent_so_far(self) -> int:
        """Of the frames that were sent until now so many are sure to be counted, where the client is able to resume."""
        if self.sent is None:
            return 0
        return self.sent.count + (len(self._outbox) if self._outbox.overflow == "close" else 0)

    async def drained(self, seconds: float = 5.0) -> None:
        """Wait until the outbox is below its high-water mark, *seconds* at the most. On the connection's loop only.

        Everybody else has had a turn then.
        """
        end = self._loop.time() + seconds
        if self._is_left or not self.is_above_high_water:
            await asyncio.sleep(0)
        while self.is_above_high_water and self.is_open and not self._is_left and self._loop.time() < end:
            self._drained.clear()
            try:
                await asyncio.wait_for(self._drained.wait(), end - self._loop.time())
            except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
                return

    async def flushed(self) -> None:
        """Wait until the server has taken all that waits, or the client is gone. On the connection's loop only."""
        while self._outbox.waiting_bytes and not (self._gone or self.is_away):
            self._drained.clear()
            await self._drained.wait()

    def drained_from_thread(self) -> None:
        """The same for a worker thread; on the loop's own thread, which cannot wait, it is done at once."""
        if self.is_above_high_water and threading.get_ident() != self._thread:
            asyncio.run_coroutine_threadsafe(self.drained(), self._loop).result()

    # -- its sockets: one after the other where its client is able to resume

    async def write(
        self,
        transmit: Callable[[dict[str, Any]], Awaitable[None]],
        socket: Socket | None = None,
        first: Iterable[str | bytes] = (),
        *,
        is_straight: bool = False,
    ) -> bool:
        """Hand *first* and then the outbox to *transmit*, an ASGI send, until the connection is closed here.

        False where the peer is gone before. *socket* is what is known of the socket beneath; *is_straight* says
        whether what need not wait may be given to it alone.
        """
        self._socket, self.is_away = socket, False
        self._taken, self._taken_at = self._written, self._loop.time()
        self._drained.set()
        try:
            for data in first:
                await self._hand_over(transmit, data, _size(data))
            if is_straight and socket is not None:
                self._straight = socket
                with self._lock:
                    self._look()
            while True:
                await self._filled.wait()
                self._filled.clear()
                if self._answer is not None:
                    said, self._answer = self._answer, None
                    await self._hand_over(transmit, said, len(said))
                    with self._lock:
                        self._look()
                while (waiting := self._next()) is not None:
                    data, size = waiting
                    if self.sent is not None:  # before it is sent: what is cut off in between may have arrived
                        self.sent.append(data, size, self._loop.time())
                    try:
                        await self._hand_over(transmit, data, size)
                    finally:
                        self._done(size)
                if self._close is not None:
                    code, reason = self._close
                    await transmit({"type": "websocket.close", "code": code, "reason": reason})
                    return True
        except Exception:  # the peer is gone, in whatever way the server says so
            if self.sent is None:
                self._gone = True
            return False
        finally:
            self._is_writing, self._straight, self._pusher = False, None, None
            self._filled.set()  # for who takes from the outbox next
            self._drained.set()

    async def _hand_over(
        self, transmit: Callable[[dict[str, Any]], Awaitable[None]], data: str | bytes, size: int
    ) -> None:
        self._is_writing, self._pusher = True, None
        await transmit({"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data})
        self._is_writing = False
        self._written += size if size > FRAME_BYTES else len(data)

    def _look(self) -> None:
        """Have what is sent next sent at once, where that may be again. Under the lock."""
        may = self.is_open and not (self._outbox.waiting_bytes or self._is_writing)
        self._pusher = self._straight if may else None

    def _done(self, size: int) -> None:
        with self._lock:
            self._outbox.done(size)
            self._look()
        if not self.is_above_high_water:
            self._drained.set()

    async def keep(self) -> None:
        """Keep what is sent for a client that was cut off, until it is cancelled: the client is back.

        Where more is sent than can be kept the connection is closed, since nobody could tell the client what it missed.
        """
        log = self.sent
        assert log is not None
        self._socket, self.is_away, self._away_since = None, True, log.count
        while True:
            while (waiting := self._next()) is not None:
                data, size = waiting
                log.append(data, size, self._loop.time())
                self._done(size)
            if not log.has_all(self._away_since):
                self._give_up("the client was away for too many messages")
                return
            await self._filled.wait()
            self._filled.clear()

    def reply(self, answer: str) -> None:
        """Say *answer* before what waits, and count it as nothing that was sent. On the connection's loop only."""
        self._answer = answer
        self._filled.set()

    # -- its end

    def leave_off(self) -> None:
        """The peer is gone for good: no handler waits for it any more. What it has said is handled all the same."""
        self._is_left = True
        self._drained.set()

    def end(self) -> None:
        """Nothing can be sent any more."""
        self._gone, self._pusher = True, None
        self._drained.set()

    def release(self) -> None:
        """Hold on to nothing that was to be sent."""
        self.on_closing = None
        with self._lock:
            self._outbox.clear()
        self._held = None
        if self.sent is not None:
            self.sent.clear()
        self._socket = None

    def _abort_after(self, seconds: float) -> None:
        def start() -> None:
            if self._socket is not None:
                self._loop.call_later(seconds, self._socket.abort)

        self._on_loop(start)

    def _wake(self, event: Latch) -> None:
        if threading.get_ident() == self._thread:
            event.set()
        else:
            self._on_loop(event.set)

    def _on_loop(self, act: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(act)
        except RuntimeError:  # the loop has been closed, and the connection with it
            self._gone, self._pusher = True, None


def _size(data: str | bytes) -> int:
    """How many bytes *data* is on the wire."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())


def prepared(data: str | bytes) -> Frame:
    """(*data* as it can be sent, how many bytes that is)."""
    if isinstance(data, bytes) or data.isascii():
        return data, len(data)
    encoded = data.encode("utf-8", "replace")  # half a surrogate pair is no text that can be sent
    return encoded.decode(), len(encoded)
