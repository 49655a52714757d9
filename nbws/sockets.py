"""The server's websockets: uvicorn's protocol, as a `Socket` of nbws; and the same with the frames left to picows.

The second is used where picows is installed, and takes about half of the time for a message. It speaks, refuses and
closes as the first one does, since only whole messages go through picows; all else is still uvicorn's to handle.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable
from typing import Any

from websockets.protocol import Protocol, State

from nbws.connection import SOCKET
from nbws.door import WebsocketDoor
from nbws.latch import Latch
from nbws.sending import CloseCode, Sink

__all__ = ["UvicornSocket", "noting", "websocket_class"]

_LINGER_SECONDS = 10.0  #: how long a peer has to take what was sent, when nobody talks with it any more
_GOODBYE_SECONDS = 1.0  #: how long a peer has to answer that the server stops
_ASKED = "NBWS_WEBSOCKET"
"""The environment variable that may hold "uvicorn", to find out whose a fault is, or "picows", for all messages."""


class _Events:
    """What uvicorn uses of an `asyncio.Queue`."""

    __slots__ = ("_filled", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[Any] = []
        self._filled = Latch()

    def put_nowait(self, event: Any) -> None:
        self._waiting.append(event)
        self._filled.set()

    async def get(self) -> Any:
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        return self._waiting.pop(0)

    def empty(self) -> bool:
        return not self._waiting

    def take_all(self) -> list[Any]:
        waiting, self._waiting = self._waiting, []
        return waiting


class UvicornSocket(WebsocketDoor):
    """A `Socket` too, and the extension that gives it.

    Each of uvicorn's own ways to close waits until the peer has read what was sent, so a peer that never reads would
    hold its socket for ever.
    """

    __slots__ = ("lost", "on_shutdown", "request", "response", "writable")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue: Any = _Events()  # this and the next in a fraction of the memory of asyncio's
        self.writable: Any = Latch()
        self.writable.set()
        self.lost = Latch()
        self.on_shutdown: Callable[[Callable[[], None]], None] | None = None
        self._sink: Sink | None = None

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):  # else the handshake was refused
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[SOCKET] = self

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._sink = None
        self.lost.set()

    def shutdown(self) -> None:
        if self.on_shutdown is not None and not self.close_sent:
            self.on_shutdown(self._say_goodbye)
        else:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        """Close with 1012, and read on until the peer has said that it knows, for a moment.

        What is closed while the peer sends is reset, and the close frame lost with it.
        """
        if self.transport.is_closing():
            return
        if self.close_sent or self.conn.state is not State.OPEN:
            super().shutdown()
            return
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.RESTART})
        self.conn.send_close(CloseCode.RESTART)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(_GOODBYE_SECONDS, self.transport.close)
        self.go_on()

    # -- as a Socket

    def abort(self) -> None:
        if not self.lost.is_set():
            self.transport.abort()

    def unsent(self) -> int:
        return 0 if self.lost.is_set() else self.transport.get_write_buffer_size()

    def is_behind(self, receive: Any, send: Any) -> bool:
        return getattr(receive, "__self__", None) is self and getattr(send, "__self__", None) is self

    def push(self, data: str | bytes) -> bool:
        if isinstance(data, str):
            return self._push(self.conn.send_text, data.encode())
        return self._push(self.conn.send_binary, data)

    def push_text(self, encoded: bytes) -> bool:
        return self._push(self.conn.send_text, encoded)

    def _push(self, send: Callable[[bytes], None], data: bytes) -> bool:
        if self.conn.state is not State.OPEN or not self.writable.is_set() or self.disconnected:
            return False
        send(data)
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def deliver_to(self, sink: Sink | None) -> None:
        self._sink = None if self.disconnected else sink
        if self._sink is not None:
            for event in self.queue.take_all():
                if event["type"] == "websocket.receive":
                    text = event.get("text")
                    self._deliver(text if text is not None else event["bytes"])
                else:
                    self.queue.put_nowait(event)

    def go_on(self) -> None:
        if self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            if self._unfed:
                self._parse_on()
            else:
                self.transport.resume_reading()

    # -- within

    def send_receive_event_to_app(self) -> None:
        if self._sink is None:
            super().send_receive_event_to_app()
            return
        data, self.frames = b"".join(self.frames), []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            self._deliver(data)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self._refuse_text()
        else:
            self._deliver(text)

    def _refuse_text(self) -> None:
        self.conn.send_close(1007)
        self.handle_parser_exception()

    def _deliver(self, message: str | bytes) -> None:
        """Hand on one message; read no more where there is no room for another."""
        if self._sink is not None:
            goes_on = self._sink(message)
        else:
            goes_on = False
            event: Any = {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}
            self.queue.put_nowait(event)
        if not goes_on:
            self._hold()

    def _hold(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.handshake_complete and hasattr(self, "request"):
            # They hold all headers once more, as does the parser that has read them; nobody asks for them again.
            del self.request, self.response
            self.conn.parser = Protocol.parse(self.conn)
            next(self.conn.parser)
        if self._unfed and self.close_sent:
            self._parse_on()  # the peer's answer may be among it, and nobody asks for the rest any more

    def keepalive_timeout(self) -> None:
        if self.read_paused:
            # The app takes no more messages for now, and with them the answer to the ping is left unread.
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
            return
        super().keepalive_timeout()
        self.abort()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self.scope["extensions"].pop(SOCKET, None)  # each would keep the other until the collector comes
        if self.unsent():
            self.loop.call_later(_LINGER_SECONDS, self.abort)


def noting(kind: type[UvicornSocket], note: Callable[[], None]) -> type[UvicornSocket]:
    """*kind*, which calls *note* whenever something comes."""

    class Noting(kind):  # type: ignore[misc,valid-type]
        def data_received(self, data: bytes) -> None:
            note()
            super().data_received(data)

    return Noting


def websocket_class() -> type[UvicornSocket]:
    """The class of the server's websockets: over picows where that is installed, and it is not asked for uvicorn's."""
    if os.environ.get(_ASKED) == "uvicorn" or os.name == "nt":  # where picows' ways past the transport are not tried
        return UvicornSocket
    try:
        picows_socket = importlib.import_module("nbws.picows_socket")
    except ImportError:
        return UvicornSocket
    at_once = os.environ.get(_ASKED) == "picows"
    found: type[UvicornSocket] = picows_socket.PicowsAtOnce if at_once else picows_socket.PicowsSocket
    return found
