"""A connection from its accept to its `disconn`, over however many sockets.

A client that is able to resume and whose socket is cut has some time to come back with another one. It then gets what
it missed, in order and once; for its handlers nothing has happened.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from nbws.connection import ABORT, Connection
from nbws.dispatch import Desk, Worker
from nbws.resume import SentLog, acknowledged, greeting, new_key

__all__ = ["Conversation", "Conversations"]

_STOP_SECONDS = 5.0

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

    def get(self, key: str | None) -> Conversation | None:
        return self._by_key.get(key) if key is not None else None

    def add(self, conversation: Conversation) -> None:
        if conversation.key is not None:
            self._by_key[conversation.key] = conversation

    def remove(self, conversation: Conversation) -> None:
        if conversation.key is not None:
            self._by_key.pop(conversation.key, None)

    async def stop(self) -> None:
        """Wait for nobody any more, and until their `disconn` has run: the server stops."""
        waiting = [found for each in tuple(self._by_key.values()) if (found := each.give_up()) is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=_STOP_SECONDS)


class Conversation:
    """One connection with its worker. *resumable* says whether its client is able to come back after a cut."""

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
        self._work = asyncio.create_task(self._worker.run(), name=f"nbws {connection.id}")
        self._loop = asyncio.get_running_loop()
        self._received = 0  # frames of the client, over all sockets
        self._socket: asyncio.Task[Any] | None = None  # the one that is served
        self._left = asyncio.Event()  # set while none is
        self._woken = asyncio.Event()  # set when there is no reason to wait for the client any more
        self._waiting: asyncio.Task[None] | None = None
        self._is_over = False
        if resumable:
            limits = desk.limits
            connection.sent = SentLog(
                frames=limits.resume_messages, size=limits.resume_bytes, seconds=limits.resume_seconds
            )
            connection.on_closing = self._woken.set
        known.add(self)

    async def serve(self, receive: Receive, send: Send, scope: Any, *, resync: bool = False) -> None:
        """Talk over the first socket. Gives when that, and where its client does not come back all of it, is over."""
        first = [greeting(self.key, resync=resync)] if self.key is not None else []
        await self._talk(receive, send, scope, first)

    async def go_on(self, receive: Receive, send: Send, scope: Any, received: int) -> bool:
        """Talk over another socket of a client that has *received* so many frames. False where that is not possible."""
        log, key = self.connection.sent, self.key
        if log is None or key is None or self._is_over or not self.connection.is_open:
            return False
        if log.after(received, self._loop.time()) is None:
            self.give_up()
            return False
        await self._leave_socket()
        missed = log.after(received, self._loop.time())
        if missed is None:  # something was sent in between, and pushed out what the client has missed
            await self._finish()
            return False
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        await self._talk(receive, send, scope, [greeting(key, got=self._received), *missed])
        return True

    def give_up(self) -> asyncio.Task[None] | None:
        """Do not wait for the client any more, nor serve a socket that it has left. What waits, ends then."""
        self._is_over = True
        self._woken.set()
        if self._socket is not None:
            self._socket.cancel()
        return self._waiting

    async def _talk(self, receive: Receive, send: Send, scope: Any, first: Sequence[str | bytes]) -> None:
        connection, socket = self.connection, asyncio.current_task()
        self._socket = socket
        self._left.clear()
        connection.is_away = False
        connection.abort = scope.get("extensions", {}).get(ABORT)
        write = asyncio.create_task(connection.write(send, first), name=f"nbws {connection.id} outbox")
        was_cut = False
        try:
            was_cut = await self._read(receive)
        except asyncio.CancelledError:
            if self._socket is socket and not self._is_over:
                await self._finish()
                raise
            if sys.version_info >= (3, 11) and socket is not None:
                socket.uncancel()
        finally:
            write.cancel()
            await asyncio.wait({write})
            if self._socket is socket:
                self._socket = None
            self._left.set()
        if self._socket is not None:
            return  # of another one, which has taken over
        if was_cut and connection.is_open and not self._is_over:
            connection.is_away = True
            # Not in this task, which is the server's: it would wait for the client before it stops.
            self._waiting = asyncio.create_task(self._wait_for_client(), name=f"nbws {connection.id} cut off")
        else:
            await self._finish()

    async def _read(self, receive: Receive) -> bool:
        """Hand on what comes until nothing comes any more. Whether the socket was cut, and not closed."""
        while (event := await receive())["type"] == "websocket.receive":
            text = event.get("text")
            frame = text if text is not None else event["bytes"]
            log = self.connection.sent
            if log is not None and (received := acknowledged(frame)) is not None:
                log.acknowledge(received)
                continue
            await self._worker.put(frame)
            self._received += 1
        # Without a close frame uvicorn says 1005 and no reason, where the standard has 1006.
        code = event.get("code", 1005)
        return self.key is not None and (code == 1006 or (code == 1005 and "reason" not in event))

    async def _wait_for_client(self) -> None:
        try:
            await asyncio.wait_for(self._woken.wait(), self._desk.limits.resume_seconds)
        except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            pass
        if self._socket is None:
            await self._finish()

    async def _leave_socket(self) -> None:
        """Serve, or wait for, no other socket than that of the running task."""
        socket, self._socket = self._socket, asyncio.current_task()
        if socket is not None:  # this side has not noticed yet that it was cut
            abort = self.connection.abort
            socket.cancel()
            await self._left.wait()
            if abort is not None:
                abort()
        elif self._waiting is not None:
            self._woken.set()
            await self._waiting
            self._woken.clear()

    async def _finish(self) -> None:
        """Handle what has come, and `disconn`."""
        self._is_over = True
        self._known.remove(self)
        try:
            await self._worker.finish(self._work)
        finally:
            self._worker.stop(self._work)
            self._desk.forget(self.connection)
