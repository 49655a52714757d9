"""A connection: the `ws` of handlers, with its identity and its state."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import itertools
import json
import secrets
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from typing import Any, Protocol, TypeVar, cast

from nbws.errors import NbwsError
from nbws.handlers import Key, Version
from nbws.html import Tag, fragment
from nbws.latch import Latch
from nbws.loops import can_be_suspended, on, wait
from nbws.outbox import Outbox
from nbws.recording import Recorded, watching
from nbws.rooms import Rooms
from nbws.sending import CloseCode, Sender, prepared
from nbws.state import State
from nbws.tape import documentation

__all__ = [
    "CLEAN",
    "KEEP",
    "SOCKET",
    "STOPPING",
    "STRAIGHT",
    "USE",
    "Connection",
    "Membership",
    "Sent",
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
_REASON_BYTES = 123  #: in a close frame; a longer one would not be sent, and the client told nothing (RFC 6455, 5.5)
_CLOSE_SECONDS = 10.0  #: how long a client has to take what is queued, and its close frame

current_connection: contextvars.ContextVar[Connection | None] = contextvars.ContextVar("nbws_connection", default=None)
"""The connection whose handler is running; None outside of one."""


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


class Connection(Sender):
    """One client of a websocket endpoint, for as long as it lives; the same object in every handler.

    `id` is unique, `state` is the author's own, `session` is shared with all that its browser has open. `send`,
    `close`, `join` and `leave` may be called from any thread, and from a cell. It may outlive its socket: a client that
    was cut off comes back to it.
    """

    __slots__ = (  # in which an attribute is found in less time, and memory, than in a dict of so many
        "__dict__",
        "__weakref__",
        "_awaited",
        "_handshake",
        "_is_shadow",
        "_membership",
        "_on_problem",
        "_park_timer",
        "_poked",
        "_recorded",
        "_rooms_left",
        "app",
        "id",
        "is_ending",
        "key",
        "on_new_version",
        "on_pin",
        "pinned",
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
        super().__init__(outbox)
        new = documentation.new_id() if documentation.is_made else secrets.token_hex(6)
        self.id: str = new  #: unique, and the same for as long as the connection lives
        self.key = key
        self.app = app  #: the App that it is a connection of
        self.state = State()  #: the author's own; a swap keeps it, or has the swap hook make another of it
        self._handshake = handshake
        self._membership = membership
        self._on_problem = on_problem
        self.is_ending = False  #: whether its server stops: what is under way is sent, and nothing new begun
        self._recorded: deque[Recorded] | None = None
        self.pinned: Version | None = None  #: the version that serves it; None is the live one
        self._rooms_left: frozenset[str] | None = None
        self._awaited = 0  # sends
        self._is_shadow = False
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
            is_first, self._pusher = self._close is None, None
            self._close = self._close or (code, _cut(reason, _REASON_BYTES))
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

    # -- what is sent

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
            data, size = prepared(data)
        if self._push(data, size):
            return True
        if self._queue(data, size):
            self._flush_soon()
        return False

    def _note(self, data: str | bytes) -> None:
        if self.log is not None:
            self.log.sent(self.id, self.key.path, self.address, data)

    def _close_soon(self, seconds: float) -> None:
        self._wake(self._poked)
        super()._close_soon(seconds)

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

    def end(self) -> None:
        """Nothing can be sent any more, and no room holds the connection."""
        super().end()
        self._poked.set()
        if self._park_timer is not None:
            self._park_timer.cancel()
        if self._rooms_left is None:
            self._membership.change(self._leave_all)

    def _leave_all(self, rooms: Rooms[Connection]) -> Rooms[Connection]:
        self._rooms_left = rooms.of(self)
        return rooms.leave_all(self)

    def release(self) -> None:
        """Hold on to nothing that was to be sent, nor to who served it. On the connection's loop only."""
        self.on_new_version = self.on_pin = None
        super().release()


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


def _cut(text: str, size: int) -> str:
    """The beginning of *text*, whole characters of *size* bytes at the most."""
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def offer_all(connections: Iterable[Connection], data: str) -> None:
    """Queue one frame for each of *connections*. One that cannot take it is its own problem."""
    if watching.get() is not None:
        for connection in connections:
            connection.offer(data)
        return
    frame, size = prepared(data)
    encoded, here = frame.encode() if isinstance(frame, str) else frame, threading.get_ident()
    waiting = []
    for each in connections:
        is_sent = each._thread == here and each._push_here(frame, size, encoded)
        if not is_sent and each._queue(frame, size):
            waiting.append(each)
    if waiting:
        tell_all(waiting, Connection._flush, at_once=_SENT_AT_ONCE)
