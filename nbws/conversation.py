"""A connection from its accept to its `disconn`, over however many sockets.

A client that is able to resume and whose socket is cut has some time to come back with another one. It then gets what
it missed, in order and once; for its handlers nothing has happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from nbws.connection import CLEAN, KEEP, SOCKET, STOPPING, STRAIGHT, USE, Connection
from nbws.dispatch import Desk, Worker
from nbws.latch import Latch
from nbws.resume import Report, SentLog, answer, greeting, new_key
from nbws.sending import CloseCode, Socket, Stopping

__all__ = ["OVER_SECONDS", "Conversation", "Conversations", "socket_of"]

_CLOSE_SECONDS = 10.0  #: how long a server has to say that a socket, which was closed here, has ended
OVER_SECONDS = 1.0  #: how long a new connection waits for the `disconn` of the one in whose place it comes
_END_SECONDS = 0.5  #: how long a `disconn` has when the server does not wait any more
_ANSWERS_SHARE = 0.8  #: of `finish_seconds`, for what has come before the server stops; the rest is for the closing

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Counter(Protocol):
    """Who counts the connections of an app."""

    def forget(self, connection: Connection) -> None: ...


class ConversationDesk(Desk, Counter, Protocol):
    """What a conversation needs of its app."""


class Conversations:
    """Those of an app whose clients are able to resume, by the key that they show. Used on the server's loop."""

    def __init__(self) -> None:
        self._by_key: dict[str, Conversation] = {}
        self._stopping_since: float | None = None  # the loop's time

    def get(self, key: str | None) -> Conversation | None:
        """The one with this *key*, be it over already as long as its `disconn` has not run."""
        return self._by_key.get(key) if key is not None else None

    def add(self, conversation: Conversation) -> None:
        if conversation.key is not None:
            self._by_key[conversation.key] = conversation

    def remove(self, conversation: Conversation) -> None:
        if conversation.key is not None:
            self._by_key.pop(conversation.key, None)

    @property
    def is_stopping(self) -> bool:
        return self._stopping_since is not None

    def begin(self) -> None:
        """The server starts."""
        self._stopping_since = None

    def begin_to_stop(self) -> None:
        """Wait for no client that is away, from now on: the server stops."""
        if self._stopping_since is None:
            self._stopping_since = asyncio.get_running_loop().time()
        for each in tuple(self._by_key.values()):
            if each.is_waiting:
                each.give_up()

    async def make_room(self) -> None:
        """Give up the client that has been away for longest, where there is one."""
        waiting = [each for each in self._by_key.values() if each.is_waiting]
        if waiting:
            longest = min(waiting, key=lambda each: each.waiting_since)
            longest.give_up()
            await longest.over(OVER_SECONDS)

    async def stop(self, seconds: float) -> None:
        """Wait until all are over, so many *seconds* after they began to stop at the most. Then end them."""
        self.begin_to_stop()
        assert self._stopping_since is not None
        left = tuple(self._by_key.values())
        seconds_left = self._stopping_since + seconds - asyncio.get_running_loop().time()
        await asyncio.gather(*(each.over(max(0.0, seconds_left)) for each in left))
        for each in left:
            each.end()
        await asyncio.gather(*(each.over(_END_SECONDS) for each in left))
        self._by_key.clear()


class Conversation:
    """One connection with its worker. *resumable* says whether its client is able to come back after a cut."""

    __slots__ = (
        "_clean",
        "_desk",
        "_ending",
        "_has_ended",
        "_is_free",
        "_is_over",
        "_known",
        "_loop",
        "_reading",
        "_received",
        "_turn",
        "_waiting",
        "_woken",
        "_work",
        "_worker",
        "connection",
        "key",
        "waiting_since",
    )

    def __init__(
        self,
        desk: ConversationDesk,
        known: Conversations,
        connection: Connection,
        query: Mapping[str, list[str]],
        *,
        resumable: bool,
    ) -> None:
        self.connection = connection
        self.key = new_key() if resumable else None
        self._desk, self._known = desk, known
        self._worker = Worker(desk, connection, query)
        self._work = self._worker.start()
        self._loop = asyncio.get_running_loop()
        self._received = 0  # frames of a client that is able to resume, over all sockets
        self._clean: Callable[[str], str] | None = None  # takes credentials out of what comes past ASGI
        self._turn = 0  # of the socket that is served; one that comes later takes over
        self._reading: asyncio.Task[bool] | None = None  # the socket that is served
        self._waiting: asyncio.Task[None] | None = None  # for the client
        self._ending: asyncio.Task[None] | None = None  # the last of it, as the server stops
        self.waiting_since = 0.0  #: the loop's time
        self._is_free = Latch()  # set while neither a socket is served nor a client waited for
        self._woken = Latch()  # set when there is no reason to wait for the client any more
        self._is_over = False
        self._has_ended = Latch()
        if resumable:
            limits = desk.limits
            connection.sent = SentLog(
                frames=limits.resume_messages, size=limits.resume_bytes, seconds=limits.resume_seconds
            )
            connection.on_closing = self._woken.set
        known.add(self)

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its client, who was cut off."""
        return self._waiting is not None

    async def serve(self, receive: Receive, send: Send, scope: Any, *, resync: bool = False) -> None:
        """Talk over the first socket.

        Gives when that, and where its client does not come back all of it, is over; or at once where the talk goes
        on behind the ASGI app.
        """
        first = [greeting(self.key, resync=resync)] if self.key is not None else []
        await self._talk(self._turn, receive, send, scope, first)

    async def go_on(self, receive: Receive, send: Send, scope: Any, received: int) -> bool:
        """Talk over another socket of a client that has *received* so many frames. False where that is not possible.

        It gives as `serve` does. Where it is not possible it then waits for no other. Where several sockets come at
        once, the last one is served, and the others end.
        """
        if self._is_over or not self.connection.is_open or self._missed(received) is None:
            self.give_up()
            return False
        self._turn = turn = self._turn + 1
        try:
            self._leave()
            await self._is_free.wait()
        except BaseException:  # the server does not wait for it
            await self._rest(turn, was_cut=True)
            raise
        if turn != self._turn:
            await send({"type": "websocket.close", "code": 1000, "reason": "the client is back on another socket"})
            return True
        self._is_free.clear()
        missed = self._missed(received)
        if missed is None or self._is_over:  # what was sent in between has pushed out what the client has missed
            await self._rest(turn, was_cut=False)
            return False
        try:
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        except BaseException:  # gone again
            await self._rest(turn, was_cut=True)
            raise
        assert self.key is not None
        first = [greeting(self.key, got=self._received), *missed]
        await self._talk(turn, receive, send, scope, first)
        return True

    def give_up(self) -> None:
        """Do not wait for the client any more, nor serve a socket that it has left."""
        self._is_over = True
        self._leave()

    def end(self) -> None:
        """Cancel what runs; `disconn` runs still."""
        self._worker.stop(self._work)

    async def over(self, seconds: float) -> None:
        """Wait until its `disconn` has run, *seconds* at the most."""
        try:
            await asyncio.wait_for(self._has_ended.wait(), seconds)
        except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            pass

    def _missed(self, received: int) -> list[str | bytes] | None:
        log = self.connection.sent
        return log.after(received, self._loop.time()) if log is not None else None

    def _leave(self) -> None:
        """End the reading of the present socket, or the waiting for the next."""
        if self._reading is not None:
            self._reading.cancel()
        self._woken.set()

    async def _talk(self, turn: int, receive: Receive, send: Send, scope: Any, first: Sequence[str | bytes]) -> None:
        socket = socket_of(scope)
        if turn != self._turn:
            self._is_free.set()
            return
        if socket is None:
            stopping: Stopping | None = scope.get(STOPPING)
            if stopping is not None:
                stopping.on_shutdown = self._begin_to_end
            try:
                await self._talk_on(turn, receive, send, None, first)
            finally:
                if stopping is not None:
                    stopping.on_shutdown = None
            return
        socket.on_shutdown = self._begin_to_end
        if not scope.get(STRAIGHT, False):
            await self._talk_on(turn, receive, send, socket, first)
        elif self._desk.limits.messages_per_second is not None:
            await self._talk_on(turn, receive, send, socket, first, pushes=True)
        else:
            socket.follow(self._talk_straight(turn, socket, first, scope))

    async def _talk_straight(
        self,
        turn: int,
        socket: Socket,
        first: Sequence[str | bytes],
        scope: Any,
    ) -> None:
        """Talk past ASGI, when the app has returned already."""
        if turn != self._turn:  # another socket has come while it did
            self._is_free.set()
            return
        keep: Callable[[], Awaitable[None]] | None = scope.get(KEEP)
        self._worker.uses(scope.get("session"), scope.get(USE))
        self._worker.inbox.on_room = socket.go_on
        self._clean = scope.get(CLEAN)
        is_plain = self.connection.sent is None and self._clean is None
        socket.deliver_to(self._worker.take if is_plain else self._take_straight)
        try:
            await self._talk_on(turn, socket.receive, socket.send, socket, first, pushes=True)
        finally:
            if keep is not None:
                await keep()

    async def _talk_on(
        self,
        turn: int,
        receive: Receive,
        send: Send,
        socket: Socket | None,
        first: Sequence[str | bytes],
        *,
        pushes: bool = False,
    ) -> None:
        connection = self.connection
        writing = connection.write(send, socket, first, is_straight=pushes)
        write = asyncio.create_task(writing, name=f"nbws {connection.id} outbox")
        read = self._reading = asyncio.create_task(self._read(receive, socket), name=f"nbws {connection.id} socket")
        try:
            await asyncio.wait({read, write}, return_when=asyncio.FIRST_COMPLETED)
            if not read.done():  # closed here, or the peer is gone: the server says so to who reads
                if socket is not None and not write.result():
                    socket.abort()
                await asyncio.wait({read}, timeout=_CLOSE_SECONDS)
        except asyncio.CancelledError:  # the server stops, and has waited for long enough
            self.end()
        finally:
            self._reading = self._worker.inbox.on_room = None
            if socket is not None:
                socket.deliver_to(None)
                socket.on_shutdown = None
            read.cancel()
            write.cancel()
            await asyncio.wait({read, write})
            if socket is not None and turn != self._turn:
                socket.abort()  # its peer has another one, and may not know yet that this one was cut
        problem = None if read.cancelled() else read.exception()
        await self._rest(turn, was_cut=not read.cancelled() and problem is None and read.result())
        if problem is not None:
            raise problem

    def _begin_to_end(self, close: Callable[[], None]) -> None:
        """The server stops: *close* when what has come is answered, or has had its time."""

        async def answer_all() -> None:
            await self._worker.caught_up()
            await self.connection.flushed()

        async def end() -> None:
            try:
                await asyncio.wait_for(answer_all(), self._desk.limits.finish_seconds * _ANSWERS_SHARE)
            except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
                pass
            close()

        self.connection.is_ending = True
        self._ending = asyncio.create_task(end(), name=f"nbws {self.connection.id} last answers")

    async def _rest(self, turn: int, *, was_cut: bool) -> None:
        """What follows when a socket is served no longer."""
        if turn != self._turn:  # another one has come
            self._is_free.set()
        elif was_cut and self.connection.is_open and not self._is_over and not self._known.is_stopping:
            # Not in this task, which is the server's: it would wait for the client before it stops.
            self._woken.clear()
            self.waiting_since = self._loop.time()
            wait = self._wait_for_client(turn)
            self._waiting = asyncio.create_task(wait, name=f"nbws {self.connection.id} cut off")
        else:
            self._is_over = True
            await self._finish()

    async def _wait_for_client(self, turn: int) -> None:
        keep = asyncio.create_task(self.connection.keep(), name=f"nbws {self.connection.id} kept")
        try:
            await asyncio.wait_for(self._woken.wait(), self._desk.limits.resume_seconds)
        except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            pass
        finally:
            keep.cancel()
            await asyncio.wait({keep})
            self._waiting = None
            await self._rest(turn, was_cut=False)

    async def _read(self, receive: Receive, socket: Socket | None) -> bool:
        """Hand on what comes until nothing comes any more. Whether the socket was cut, and not closed."""
        connection, log = self.connection, self.connection.sent
        left: list[str | bytes] = []  # what came when nothing took it any more
        while (event := await receive())["type"] == "websocket.receive":
            text = event.get("text")
            frame = text if text is not None else event["bytes"]
            if log is not None and self._takes_report(frame, log):
                continue
            if _is_longer(frame, self._desk.limits.message_bytes):  # our own server does not let it through
                connection.close(CloseCode.TOO_BIG, "the message is too big")
            elif left:
                left.append(frame)
            elif socket is None or not self._worker.inbox.is_full:
                await self._take(frame)
            elif not await self._take_unless_lost(frame, socket):
                left.append(frame)
        # Without a close frame uvicorn says 1005 and no reason, where the standard has 1006.
        code = event.get("code", 1005)
        was_cut = self.key is not None and (code == 1006 or (code == 1005 and "reason" not in event))
        if not was_cut:  # else the client sends it again
            for frame in left:
                self._worker.inbox.put(frame)
        return was_cut

    def _take_straight(self, frame: str | bytes) -> bool:
        """The same with one frame that comes straight from the socket. Whether there is room for another."""
        log = self.connection.sent
        if log is not None and self._takes_report(frame, log):
            return True
        if self.connection.is_ending:
            return True
        if self._clean is not None and isinstance(frame, str):
            frame = self._clean(frame)
        has_room = self._worker.take(frame)
        if log is not None:
            self._received += 1
        return has_room

    def _takes_report(self, frame: str | bytes, log: SentLog) -> bool:
        """Whether *frame* is for nbws and not for a handler: what its client has received. It is taken note of then."""
        report = Report.of(frame)
        if report is None:
            return False
        log.acknowledge(report.received)
        if report.asks:
            self.connection.reply(answer(self._received))
        return True

    async def _take(self, frame: str | bytes) -> None:
        if self.connection.is_ending:
            return
        await self._worker.put(frame)
        self._received += 1  # in the same step, so that what was taken is counted whatever is cancelled

    async def _take_unless_lost(self, frame: str | bytes, socket: Socket) -> bool:
        """Wait until there is room for *frame*. False where the socket ends before."""
        take = asyncio.create_task(self._take(frame))
        lost = asyncio.create_task(socket.lost.wait())
        try:
            await asyncio.wait({take, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
            take.cancel()
            await asyncio.wait({take, lost})
        return not take.cancelled()

    async def _finish(self) -> None:
        """Handle what has come, and `disconn`."""
        self.connection.leave_off()  # else a stream would wait for the client, once for each of its messages
        try:
            await self._worker.finish(self._work)
        finally:
            self._worker.stop(self._work)
            self._known.remove(self)
            self._desk.forget(self.connection)
            self.connection.release()
            self._is_free.set()
            self._has_ended.set()


def _is_longer(frame: str | bytes, size: int) -> bool:
    """Whether *frame* has more than *size* bytes."""
    if isinstance(frame, bytes) or frame.isascii():
        return len(frame) > size
    return len(frame) > size or len(frame.encode("utf-8", "replace")) > size


def socket_of(scope: Any) -> Socket | None:
    """What a server of nbws tells of the socket beneath a websocket; None where another one serves it."""
    found: Socket | None = scope.get("extensions", {}).get(SOCKET)
    return found
