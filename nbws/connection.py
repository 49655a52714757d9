"""A connection: the `ws` of handlers, with its identity, its state and its outbox.

Nothing here waits for a peer. What is sent is queued in the outbox, from any thread; one writer task hands it to the
socket. So one client that does not read is its own problem.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import itertools
import json
import secrets
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from typing import Any, Protocol, TypeVar, cast

from nbws.errors import NbwsError
from nbws.handlers import Key, Version
from nbws.html import Tag, fragment
from nbws.latch import Latch
from nbws.loops import can_be_suspended, on, wait
from nbws.outbox import FRAME_BYTES, Frame, Outbox
from nbws.recording import Recorded, watching
from nbws.resume import SentLog
from nbws.rooms import Rooms
from nbws.state import State
from nbws.tape import documentation
from nbws.transcript import Log

__all__ = [
    "CLEAN",
    "KEEP",
    "SOCKET",
    "STOPPING",
    "STRAIGHT",
    "USE",
    "CloseCode",
    "Connection",
    "Membership",
    "Sent",
    "Sink",
    "Socket",
    "Stopping",
    "current_connection",
]

T = TypeVar("T")

SOCKET = "nbws.socket"
"""The ASGI extension that gives a websocket's `Socket`. Without it a peer that never reads holds up each close."""

STRAIGHT = "nbws.straight"
"""In a scope: whether messages may go past `receive` and `send`, by the `Socket` itself."""

USE = "nbws.use"
"""In a scope: what to call for each message that comes past ASGI, so that its session counts as used."""

KEEP = "nbws.keep"
"""In a scope: what to await at the end of a websocket that the app has returned from, so that its session is stored."""

STOPPING = "nbws.stopping"
"""In a scope, maybe: the `Stopping` of who speaks ASGI with the app, and has no `Socket`."""

CLEAN = "nbws.clean"
"""In a scope, maybe: what takes credentials out of each text that comes, where `receive` does not see it."""

_SENT_AT_ONCE = 64  #: of a broadcast, in one turn of the loop
_IN_A_ROW = 16  #: awaited sends that need not wait, before others have a turn
_OVERFLOW_SECONDS = 1.0  #: how long a client that read too slowly has to take its close frame
_REASON_BYTES = 123  #: in a close frame; a longer one would not be sent, and the client told nothing (RFC 6455, 5.5)
_CLOSE_SECONDS = 10.0  #: how long any other has to take what is queued, and its close frame

current_connection: contextvars.ContextVar[Connection | None] = contextvars.ContextVar("nbws_connection", default=None)
"""The connection whose handler is running; None outside of one."""


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


class Handshake(Protocol):
    """What a connection knows of the request that opened it; Starlette's HTTPConnection is one."""

    scope: Any

    @property
    def headers(self) -> Any: ...
    @property
    def query_params(self) -> Any: ...
    @property
    def path_params(self) -> Any: ...
    @property
    def cookies(self) -> Any: ...
    @property
    def client(self) -> Any: ...
    @property
    def url(self) -> Any: ...


class _ShadowHandshake:
    """The handshake of another connection, with a scope of its own."""

    def __init__(self, handshake: Handshake, scope: Any) -> None:
        self._handshake, self.scope = handshake, scope

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handshake, name)


class Membership:
    """The present rooms, shared by the connections of an app. Callable from any thread."""

    def __init__(self) -> None:
        self.rooms: Rooms[Connection] = Rooms()
        self._lock = threading.Lock()

    def change(self, change: Callable[[Rooms[Connection]], Rooms[Connection]]) -> None:
        with self._lock:
            self.rooms = change(self.rooms)


class Sent(Coroutine[Any, Any, None]):
    """What a send gives: it has been queued already, so awaiting it or not makes no difference to the message.

    Awaited in the connection's own handler it waits while the outbox is above its high-water mark, five seconds at
    the most, so that a long stream does not overflow it; one that awaits nothing else leaves others their turn.
    Everywhere else it is done at once.
    """

    __slots__ = ("_connection", "_waiting")

    def __init__(self, connection: Connection | None = None) -> None:
        self._connection = connection
        self._waiting: Generator[Any, None, None] | None = None

    def __await__(self) -> Generator[Any, None, None]:
        connection = self._connection
        if connection is None:
            return
        connection._awaited += 1
        is_due = connection._awaited % _IN_A_ROW == 0
        if (is_due or connection.is_above_high_water) and connection is current_connection.get():
            yield from on(connection._loop, connection.drained()).__await__()

    # A coroutine, as a send of FastHTML's is, so that `asyncio.create_task(send(...))` takes it.

    def send(self, value: Any) -> Any:
        if self._waiting is None:
            self._waiting = self.__await__()
        return self._waiting.send(value)

    def throw(self, *exception: Any) -> Any:
        if self._waiting is None:
            self._waiting = self.__await__()
        return self._waiting.throw(*exception)

    def close(self) -> None:
        if self._waiting is not None:
            self._waiting.close()


class Connection:
    """One client of a websocket endpoint, for as long as it lives; the same object in every handler.

    `id` is unique, `state` is the author's own, `session` is shared with all that its browser has open. `send`,
    `close`, `join` and `leave` may be called from any thread, and from a cell. It may outlive its socket: a client that
    was cut off comes back to it.
    """

    __slots__ = (  # in which an attribute is found in less time, and memory, than in a dict of so many
        "__dict__",
        "__weakref__",
        "_answer",
        "_awaited",
        "_away_since",
        "_close",
        "_drained",
        "_filled",
        "_gone",
        "_handshake",
        "_held",
        "_is_left",
        "_is_shadow",
        "_is_writing",
        "_lock",
        "_loop",
        "_membership",
        "_on_problem",
        "_outbox",
        "_park_timer",
        "_poked",
        "_pusher",
        "_recorded",
        "_rooms_left",
        "_socket",
        "_taken",
        "_taken_at",
        "_thread",
        "_written",
        "app",
        "id",
        "is_away",
        "is_ending",
        "key",
        "log",
        "on_closing",
        "on_new_version",
        "on_pin",
        "pinned",
        "sent",
        "state",
    )

    def __init__(
        self,
        key: Key,
        app: Any,
        handshake: Handshake,
        membership: Membership,
        *,
        outbox: Outbox,
        on_problem: Callable[[Connection, str], None],
    ) -> None:
        new = documentation.new_id() if documentation.is_made else secrets.token_hex(6)
        self.id: str = new  #: unique, and the same for as long as the connection lives
        self.key = key
        self.app = app  #: the App that it is a connection of
        self.state = State()  #: the author's own; a swap keeps it, or has the swap hook make another of it
        self._handshake = handshake
        self._membership = membership
        self._on_problem = on_problem
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._outbox = outbox
        self.sent: SentLog | None = None  #: what a client that is able to resume may have missed
        self.is_away = False  #: whether the client was cut off and may come back
        self.is_ending = False  #: whether its server stops: what is under way is sent, and nothing new begun
        self.on_closing: Callable[[], None] | None = None  #: told, on the loop, that the connection is to be closed
        self._socket: Socket | None = None
        self._away_since = 0  # how many frames had been sent when the client was cut off
        self._answer: str | None = None  # to a client that asks whether anybody is there
        self._is_writing = False  # and the server has not taken it yet
        self._pusher: Socket | None = None  # where nothing waits: what sends at once
        self._held: Frame | None = None  # of the outbox, which could not be sent at once; it comes first
        self._written = 0  # bytes handed to the socket
        self._taken, self._taken_at = 0, 0.0  # how many of them it has passed on, and when that was more than before
        self._recorded: deque[Recorded] | None = None
        self.log: Log | None = None  #: takes note of what is said; None where nothing does
        self.pinned: Version | None = None  #: the version that serves it; None is the live one
        self._close: tuple[int, str] | None = None
        self._gone = False
        self._rooms_left: frozenset[str] | None = None
        self._is_left = False
        self._awaited = 0  # sends
        self._is_shadow = False
        self._filled = Latch()
        self._drained = Latch()
        self._poked = Latch()
        self._park_timer: asyncio.TimerHandle | None = None
        self.on_pin: Callable[[], None] | None = None  #: told, on the loop, that `pinned` is another one
        self.on_new_version: Callable[[], None] | None = None  #: told, on the loop, that another version may be live

    # -- what handlers use

    def send(self, content: Any) -> Sent:
        """Queue *content* (tags, text, sequences of them) for this client and return at once.

        Callable from any thread. Never waits; after the connection has closed it does nothing. Text is escaped. What
        it gives need not be awaited, see `Sent`. Raises RenderError for what is no HTML.
        """
        self.send_now(content)
        return Sent(self)

    def send_now(self, content: Any) -> bool:
        """`send`, which gives nothing to await. Whether something was queued, and nothing is known of it yet."""
        html = content.swapped() if type(content) is Tag else None
        if html is None:
            html, problems = fragment(content)
            for problem in problems:
                self._on_problem(self, problem)
        return bool(html) and not self._offer(html)

    def send_here(self, content: Any) -> bool:
        """`send_now` on the connection's own loop, where nobody watches. Whether nothing is left to be done with it."""
        html = content.swapped() if type(content) is Tag else None
        if html is not None and html.isascii() and self._push_here(html, len(html)):
            return True
        return not self.send_now(content)

    def send_text(self, text: str) -> Sent:
        """Queue *text* as it is, unescaped, as one text frame."""
        self.offer(text)
        return Sent(self)

    def send_bytes(self, data: bytes) -> Sent:
        """Queue *data* as one binary frame."""
        self.offer(bytes(data))
        return Sent(self)

    def send_json(self, value: Any) -> Sent:
        """Queue *value* as JSON, for a client program to read."""
        return self.send_text(json.dumps(value))

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> Sent:
        """Close after what is queued has been sent. Callable from any thread; the first call counts.

        *code* is 1000, or one of your own from 3000 to 4999; a page comes back by itself after 1011, 1012 and 1013.
        Of the *reason*, which the client is told, 123 bytes are kept.
        """
        watch = watching.get()
        if watch is not None and watch.shadow:
            return Sent()
        with self._lock:
            is_first, self._close = self._close is None, self._close or (code, _cut(reason, _REASON_BYTES))
        self._wake(self._filled)
        if is_first:
            self._close_soon(_CLOSE_SECONDS)
        return Sent()

    def join(self, room: str) -> None:
        """Be in *room*, for `app.broadcast(..., room=room)`. Ends with the connection."""
        if not self._gone:
            self._change_rooms(lambda rooms: rooms.join(room, self))

    def leave(self, room: str) -> None:
        """Be in *room* no longer; nothing where it was not."""
        self._change_rooms(lambda rooms: rooms.leave(room, self))

    def _change_rooms(self, change: Callable[[Rooms[Connection]], Rooms[Connection]]) -> None:
        watch = watching.get()
        if watch is None or not watch.shadow or self._is_shadow:
            self._membership.change(change)

    @property
    def rooms(self) -> frozenset[str]:
        """The names of the rooms that it is in; from its `disconn` on, of those that it was in."""
        return self._membership.rooms.of(self) if self._rooms_left is None else self._rooms_left

    @property
    def is_open(self) -> bool:
        """Whether something sent now can still reach the client."""
        return self._close is None and not self._gone

    @property
    def recorded(self) -> tuple[Recorded, ...]:
        """The last messages with what was sent for them, oldest first; () where nothing is recorded."""
        return tuple(self._recorded or ())

    @property
    def session(self) -> Any:
        """The session of the browser that opened the connection: the one that its pages and other websockets have."""
        return self.scope.get("session", {})

    @property
    def scope(self) -> Any:
        """The ASGI scope of the handshake, in which no credential is."""
        return self._handshake.scope

    @property
    def headers(self) -> Any:
        """The headers of the handshake: name -> text, names in any case."""
        return self._handshake.headers

    @property
    def query_params(self) -> Any:
        """The query of the address: name -> text."""
        return self._handshake.query_params

    @property
    def path_params(self) -> Any:
        """What stands in the path for its parameters: name -> text, or what its convertor makes of that."""
        return self._handshake.path_params

    @property
    def cookies(self) -> Any:
        """The cookies of the handshake: name -> text. In a notebook the app's own alone."""
        return self._handshake.cookies

    @property
    def client(self) -> Any:
        """(host, port) of the peer; None where the server does not tell."""
        return self._handshake.client

    @property
    def url(self) -> Any:
        """The whole address of the handshake, a URL of Starlette."""
        return self._handshake.url

    @property
    def address(self) -> str:
        """What the client has asked for: the path and the query, in which no credential is."""
        query = self.scope.get("query_string", b"").decode("latin-1")
        return f"{self.scope.get('path', self.key.path)}{'?' if query else ''}{query}"

    def __repr__(self) -> str:
        pinned = f", pinned to v{self.pinned.number}" if self.pinned is not None else ""
        state = ", closed" if not self.is_open else ", cut off" if self.is_away else ""
        return f"<ws {self.id} on {self.key.path}{pinned}{state}>"

    # -- the outbox

    def offer(self, data: str | bytes) -> None:
        """Queue one frame. Callable from any thread. Never waits, never raises: an overflow closes the connection."""
        self._offer(data)

    def _offer(self, data: str | bytes) -> bool:
        """The same. Whether nothing is left to be done with it."""
        watch = watching.get()
        if watch is not None and watch.takes(self.id, data):
            return True
        if type(data) is str and data.isascii():
            size = len(data)
        else:
            data, size = _prepared(data)
        if self._push(data, size):
            return True
        if self._queue(data, size):
            self._flush_soon()
        return False

    def _queue(self, data: str | bytes, size: int) -> bool:
        """Put one frame into the outbox. Whether somebody is to look for it there. From any thread."""
        with self._lock:
            if self._close is not None or self._gone:
                return False
            overflows = not self._outbox.put(data, size)
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
        while self._pusher is not None and self._close is None and not (self._gone or self._is_writing or self._held):
            waiting = self._next()
            if waiting is None:
                return
            data, size = waiting
            if not self._pusher.push(data):
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

    def _note(self, data: str | bytes) -> None:
        if self.log is not None:
            self.log.sent(self.id, self.key.path, self.address, data)

    def _push(self, data: str | bytes, size: int) -> bool:
        """Send one frame past the outbox, where nothing waits in it. False where it has to wait, or is not sent."""
        return threading.get_ident() == self._thread and self._push_here(data, size)

    def _push_here(self, data: str | bytes, size: int, encoded: bytes | None = None) -> bool:
        """The same on the connection's loop; *encoded* is *data* too, where that is to be sent to many."""
        pusher = self._pusher
        if pusher is None or self._outbox.waiting_bytes or self._is_writing or self._close is not None or self._gone:
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
        self._close = self._close or (CloseCode.TRY_LATER, reason)
        self._outbox.clear()
        self._held = None

    def _close_soon(self, seconds: float) -> None:
        """Let all who wait for the connection know that it ends, within *seconds*."""
        self._wake(self._drained)
        self._wake(self._poked)
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
                self._pusher = socket
            while True:
                await self._filled.wait()
                self._filled.clear()
                if self._answer is not None:
                    said, self._answer = self._answer, None
                    await self._hand_over(transmit, said, len(said))
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
            self._is_writing, self._pusher = False, None
            self._filled.set()  # for who takes from the outbox next
            self._drained.set()

    async def _hand_over(
        self, transmit: Callable[[dict[str, Any]], Awaitable[None]], data: str | bytes, size: int
    ) -> None:
        self._is_writing = True
        await transmit({"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data})
        self._is_writing = False
        self._written += size if size > FRAME_BYTES else len(data)

    def _done(self, size: int) -> None:
        with self._lock:
            self._outbox.done(size)
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

    # -- what was said

    def record(self, recorded: Recorded, kept: int) -> None:
        """Remember *recorded* among the last *kept* messages."""
        if self._recorded is None or self._recorded.maxlen != kept:
            self._recorded = deque(self._recorded or (), kept)
        self._recorded.append(recorded)

    def shadow(self, state: Any) -> Connection:
        """A connection that is this one to a handler, with *state*; under a shadow `Watch` it reaches nobody.

        It has the same id, a copy of the session, and is in the same rooms; what it joins and leaves is its own affair.
        """
        membership = Membership()
        membership.rooms = self._membership.rooms
        scope = {**self.scope, "session": copy.deepcopy(self.session)}
        found = Connection(
            self.key,
            self.app,
            cast(Handshake, _ShadowHandshake(self._handshake, scope)),
            membership,
            outbox=Outbox(self._outbox.limit),
            on_problem=lambda *_: None,
        )
        found.id, found.state, found._is_shadow = self.id, state, True
        for room in self.rooms:
            found.join(room)
        return found

    def wait_for(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """What *work* gives, run on the connection's loop. From any thread but the loop's own, which cannot wait."""
        is_own = threading.get_ident() == self._thread and not can_be_suspended()
        if is_own or self._loop.is_closed():
            work.close()
            where = "on the server's own thread" if not self._loop.is_closed() else "after the server has stopped"
            raise NbwsError(f"this waits for the server, so it cannot be done {where}; call it from a cell or a thread")
        return wait(self._loop, asyncio.wait_for(work, seconds))

    # -- its life

    # Each of these on the connection's loop only; `tell_all` brings them there.

    def park(self, seconds: float, is_gone: Callable[[], bool]) -> None:
        """Close with 1001 after *seconds* if the endpoint *is_gone* still."""

        def expire() -> None:
            self._park_timer = None
            if is_gone():
                self.close(CloseCode.GOING_AWAY, "the endpoint has been retired")

        if self._park_timer is None and not self._gone:
            self._park_timer = self._loop.call_later(seconds, expire)

    def unpark(self) -> None:
        """The endpoint is back: go on with what waits."""
        if self._park_timer is not None:
            self._park_timer.cancel()
            self._park_timer = None
        self._poked.set()

    def pin(self, version: Version | None) -> None:
        """Be served by *version* from now on; None by the live one. From any thread. See `Endpoint.pin`."""
        self.pinned = version
        if self.on_pin is not None:
            self._on_loop(self.on_pin)

    def look_again(self) -> None:
        """Another version may be live."""
        if self.on_new_version is not None:
            self.on_new_version()

    def poke(self) -> None:
        """Let a worker that waits for the endpoint look again."""
        self._poked.set()

    async def poked(self) -> None:
        """Wait until the endpoint is back or the connection closes."""
        await self._poked.wait()
        self._poked.clear()

    def leave_off(self) -> None:
        """The peer is gone for good: no handler waits for it any more. What it has said is handled all the same."""
        self._is_left = True
        self._drained.set()

    def end(self) -> None:
        """Nothing can be sent any more, and no room holds the connection."""
        self._gone = True
        self._poked.set()
        self._drained.set()
        if self._park_timer is not None:
            self._park_timer.cancel()
        if self._rooms_left is None:
            self._membership.change(self._leave_all)

    def _leave_all(self, rooms: Rooms[Connection]) -> Rooms[Connection]:
        self._rooms_left = rooms.of(self)
        return rooms.leave_all(self)

    def release(self) -> None:
        """Hold on to nothing that was to be sent, nor to who served it. On the connection's loop only."""
        self.on_new_version = self.on_pin = self.on_closing = None
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
            self._gone = True


def tell_all(
    connections: Iterable[Connection], tell: Callable[[Connection], None], *, at_once: int | None = None
) -> None:
    """Have *tell* called with each of *connections*, on its loop. Callable from any thread; never waits.

    Where *at_once* is given, so many in one turn of the loop, and what else the loop has to do comes between.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[Connection]] = {}
    for connection in connections:
        by_loop.setdefault(connection._loop, []).append(connection)
    for loop, told in by_loop.items():
        # One call for all: each may hand the interpreter to the loop's thread, and a busy one keeps it for 5 ms.
        try:
            loop.call_soon_threadsafe(_tell_some, loop, iter(told), tell, at_once or len(told))
        except RuntimeError:  # the loop has been closed, and the connections with it
            pass


def _tell_some(
    loop: asyncio.AbstractEventLoop,
    waiting: Iterator[Connection],
    tell: Callable[[Connection], None],
    at_once: int,
) -> None:
    told = list(itertools.islice(waiting, at_once))
    for connection in told:
        tell(connection)
    if len(told) == at_once:
        loop.call_soon(_tell_some, loop, waiting, tell, at_once)


def _size(data: str | bytes) -> int:
    """How many bytes *data* is on the wire."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())


def _cut(text: str, size: int) -> str:
    """The beginning of *text*, whole characters of *size* bytes at the most."""
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def _prepared(data: str | bytes) -> Frame:
    """(*data* as it can be sent, how many bytes that is)."""
    if isinstance(data, bytes) or data.isascii():
        return data, len(data)
    encoded = data.encode("utf-8", "replace")  # half a surrogate pair is no text that can be sent
    return encoded.decode(), len(encoded)


def offer_all(connections: Iterable[Connection], data: str) -> None:
    """Queue one frame for each of *connections*. One that cannot take it is its own problem."""
    if watching.get() is not None:
        for connection in connections:
            connection.offer(data)
        return
    frame, size = _prepared(data)
    encoded, here = frame.encode() if isinstance(frame, str) else frame, threading.get_ident()
    waiting = []
    for each in connections:
        is_sent = each._thread == here and each._push_here(frame, size, encoded)
        if not is_sent and each._queue(frame, size):
            waiting.append(each)
    if waiting:
        tell_all(waiting, Connection._flush, at_once=_SENT_AT_ONCE)
