"""A websocket of the server whose whole messages are parsed and written by picows.

All else goes the way of uvicorn's protocol: the handshake, and every frame that is no whole message (pings, closes,
fragments, what is in error), written anew for it. So there is one implementation of how a connection is opened, kept
alive and closed. What picows itself refuses, it says in its close frame, and the connection ends by uvicorn's way.

Its parser takes 4 KB, and holds nothing between two frames: connections of a server share a few of them. What writes
takes 2 KB; a connection has one while there are broadcasts, or more than a few answers, between two pings.
"""

from __future__ import annotations

import importlib.metadata
import weakref
from collections.abc import Iterable
from typing import Any, ClassVar

import picows.picows
from picows import WSAutoPingStrategy, WSFrame, WSListener, WSMsgType, WSTransport
from websockets.frames import CloseCode
from websockets.protocol import State

from nbws.door import AT_ONCE
from nbws.sockets import UvicornSocket

__all__ = ["PicowsAtOnce", "PicowsSocket"]

_VERSION = "2.3."
if not importlib.metadata.version("picows").startswith(_VERSION):
    # Its parser is made in another way in another version, as it is no part of what picows promises.
    raise ImportError(f"nbws knows the parser of picows {_VERSION}*; pip install 'nbws[fast]' brings it")

_Parser: Any = picows.picows.WSProtocol  # type: ignore[attr-defined]
_Writer: Any = WSTransport
_TEXT, _BINARY = WSMsgType.TEXT, WSMsgType.BINARY

_MESSAGES = (_TEXT, _BINARY)

_BUFFER_BYTES = 2048  #: that picows reads into at first, of which it keeps 256 for itself: it has room for AT_ONCE
_LONG = 16 * 1024  #: bytes of a message after which a new buffer is taken, as picows' own never shrinks
_SPARE = 16  #: parsers that a server keeps while no frame is half there; more of them are made where there are such

_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: nbws\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
"""Has picows begin with the frames. Its answer is written nowhere, as peers have been answered already."""


class _Silence:
    """In place of a logger, of which picows makes one for each connection. What clients do wrong is not logged."""

    def isEnabledFor(self, level: int) -> bool:
        return False

    def log(self, *what: Any, **more: Any) -> None:
        pass

    debug = info = warning = error = exception = log


_silence = _Silence()


def _written(opcode: int, is_last: bool, payload: bytes) -> bytes:
    """A frame as a client writes it, masked with zeros."""
    size = len(payload)
    first = opcode | 0x80 if is_last else opcode
    if size < 126:
        return bytes((first, 0x80 | size, 0, 0, 0, 0)) + payload
    if size < 65536:
        return bytes((first, 0xFE)) + size.to_bytes(2, "big") + bytes(4) + payload
    return bytes((first, 0xFF)) + size.to_bytes(8, "big") + bytes(4) + payload


class _NoSocket:
    def fileno(self) -> int:
        return -1

    def setsockopt(self, *what: Any) -> None:
        pass

    def getsockopt(self, *what: Any) -> int:
        return 0


class _Nowhere:
    """In place of the transport of a parser, which is that of no connection. What picows answers by itself is not sent.

    It writes past a transport for which nothing waits, so there is always something that waits.
    """

    _socket = _NoSocket()

    def get_extra_info(self, name: str) -> Any:
        return self._socket if name == "socket" else None

    def get_write_buffer_size(self) -> int:
        return 1

    def write(self, data: Any) -> None:
        pass

    def close(self) -> None:
        pass

    abort = close


class _Reader(WSListener):
    """A parser, and the `socket` whose frames it parses. It is another's when that one's last frame is whole."""

    def __init__(self, largest: int) -> None:
        self.socket: PicowsSocket | None = None
        self.is_grown = False  # whether it has taken a large buffer
        self.parser = _Parser(
            None, None, False, lambda request: self, _silence, True, None,
            False, 1, 1, WSAutoPingStrategy.PING_WHEN_IDLE, False,  # no pings, and no pongs, of its own
            largest, None, _BUFFER_BYTES,
        )  # fmt: skip
        self.parser.connection_made(_Nowhere())
        self.get_buffer, self.buffer_updated = self.parser.get_buffer, self.parser.buffer_updated
        self.get_buffer(-1)[: len(_REQUEST)] = _REQUEST
        self.buffer_updated(len(_REQUEST))
        self.transport: WSTransport = self.parser.transport
        self.room = self.get_buffer(-1)  # where the next frame goes while none is half there

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.socket.take(frame)  # type: ignore[union-attr]

    def end(self) -> None:
        """Be nobody's; else its two halves would keep each other until the collector comes."""
        self.socket = None
        del self.parser, self.get_buffer, self.buffer_updated, self.transport, self.room


_spares: weakref.WeakKeyDictionary[Any, list[_Reader]] = weakref.WeakKeyDictionary()
"""The parsers of each server, by its configuration, that are nobody's at the moment."""


class _Transport:
    """What picows sees of the transport of a connection that it writes to."""

    __slots__ = ("get_extra_info", "get_write_buffer_size", "write")

    def __init__(self, transport: Any) -> None:
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.write = transport.write

    def writelines(self, parts: Iterable[bytes | memoryview]) -> None:
        """Write *parts* as one. Of a long message the first is a view of memory that picows writes over with the next.

        uvloop, and asyncio from Python 3.12 on, would keep that view for as long as the peer does not read.
        """
        self.write(b"".join(parts))


class PicowsSocket(UvicornSocket):
    """See the module."""

    few: ClassVar[int] = 2
    """Answers between two pings for which uvicorn's way to write, which takes longer, is good enough."""

    __slots__ = (  # with those of its bases that each message looks at: they are side by side here
        "_few",
        "_handed",
        "_has_frames",
        "_is_at_rest",
        "_is_in_pieces",
        "_is_quiet",
        "_may_push",
        "_reader",
        "_sink",
        "_spare",
        "_unfed",
        "_writer",
        "close_sent",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._may_push = False  # whether a message can be written at once; kept, since much decides it
        self._reader: _Reader | None = None  # while a frame is half there, or what has come is parsed
        self._spare = _spares.setdefault(self.config, [])
        self._writer: WSTransport | None = None  # while there are answers
        self._has_frames = False  # whether frames go through picows: after the accept, where nothing is compressed
        self._is_quiet = False  # whether nothing was pushed since the last ping of the server
        self._few = 0  # answers since then that were not written by picows
        # Frames for uvicorn's protocol, which takes many in less time than each by itself.
        self._handed: bytearray | None = None
        self._is_in_pieces = False  # whether a message has begun whose last piece has not come
        self._is_at_rest = True  # whether no frame is half there

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept":
            self._has_frames = self.handshake_complete and not self.conn.extensions
        if message["type"] != "websocket.send":
            self._look()

    def send_keepalive_ping(self) -> None:
        if self._is_quiet:
            self._writer = None
            self._look()
        self._is_quiet, self._few = True, 0
        super().send_keepalive_ping()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_frames = False
        self._writer = None  # it writes past the transport, and the number of its socket goes
        self._look()
        self._give_back()
        super().connection_lost(exc)

    # -- what comes

    def data_received(self, data: bytes) -> None:
        spare, size = self._spare, len(data)
        if size > AT_ONCE or not spare or self._unfed is not None or self._reader is not None or not self._has_frames:
            super().data_received(data)
            return
        reader = spare.pop()
        reader.socket, self._reader, self._is_at_rest = self, reader, False
        reader.room[:size] = data
        reader.buffer_updated(size)
        if self._is_at_rest and self._handed is None and self._reader is reader:  # of messages alone, with no error
            reader.socket = self._reader = None
            spare.append(reader)
        else:
            self._have_parsed(reader)

    def parse(self, data: bytes) -> None:
        if not self._has_frames:
            super().parse(data)
            return
        at, end, spare = 0, len(data), self._spare
        self._is_at_rest = False
        while at < end and self._has_frames:
            reader = self._reader or (spare.pop() if spare else _Reader(self.config.ws_max_size))
            reader.socket, self._reader = self, reader
            buffer = reader.get_buffer(-1)
            size = len(buffer)
            if at == 0 and end <= size:
                buffer[:end], size = data, end
            else:
                size = min(size, end - at)
                buffer[:size] = data[at : at + size]
            reader.buffer_updated(size)
            at += size
            if not self._have_parsed(reader):
                return

    def _have_parsed(self, reader: _Reader) -> bool:
        """Handle what has been put aside meanwhile. Whether the connection goes on."""
        if self._handed:
            self._have_handled()
        if self._reader is reader and reader.transport.is_close_frame_sent:
            self._fail(reader)
            return False
        if self._is_at_rest:
            self._give_back()
        return True

    def _give_back(self) -> None:
        """Do without a parser, until there is a frame again."""
        reader, self._reader = self._reader, None
        if reader is None:
            return
        is_clean = self._is_at_rest and not reader.is_grown and reader.transport.close_handshake is None
        if is_clean and len(self._spare) < _SPARE:
            reader.socket, reader.room = None, reader.get_buffer(-1)
            self._spare.append(reader)
        else:
            reader.end()

    def take(self, frame: WSFrame) -> None:
        """Take one that has come whole."""
        self._is_at_rest = not frame.tail_size
        kind = frame.msg_type
        if self._handed and kind in _MESSAGES and not self._is_in_pieces:
            self._have_handled()
        is_whole = frame.fin and not (self._is_in_pieces or frame.rsv1 or frame.rsv2 or frame.rsv3)
        if is_whole and kind is _TEXT:
            try:
                message: str | bytes = frame.get_payload_as_utf8_text()
            except UnicodeDecodeError:
                if not self.close_sent:
                    self._refuse_text()
                return
        elif is_whole and kind is _BINARY:
            message = frame.get_payload_as_bytes()
        else:
            self._hand_over(frame)
            return
        if not self.close_sent:
            if len(message) > _LONG and self._reader is not None:
                self._reader.is_grown = True
            if self._sink is None:
                self._deliver(message)
            elif not self._sink(message):
                self._hold()

    def _hand_over(self, frame: WSFrame) -> None:
        """Have uvicorn's protocol handle *frame*, after what was handed over before."""
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._have_handled()
            if self.close_sent:
                return
            self.conn.fail(CloseCode.PROTOCOL_ERROR, "reserved bits must be 0")
            self.handle_parser_exception()
            return
        opcode = frame.msg_type.value
        if opcode < 0x8:  # no control frame
            self._is_in_pieces = not frame.fin
        self._handed = self._handed or bytearray()
        self._handed += _written(opcode, bool(frame.fin), frame.get_payload_as_bytes())

    def _have_handled(self) -> None:
        handed, self._handed = self._handed, None
        super().parse(bytes(handed or b""))

    def _fail(self, reader: _Reader) -> None:
        """picows has found an error, and would say so in a close frame."""
        handshake = reader.transport.close_handshake
        self._is_at_rest = False
        self._give_back()
        if self.close_sent or handshake is None or handshake.sent is None:
            return
        self.conn.fail(handshake.sent.code.value, handshake.sent.reason)
        self.handle_parser_exception()

    # -- what is sent

    def push(self, data: str | bytes) -> bool:
        if not self._may_push and not self._is_ready():
            return self._writer is None and super().push(data)
        self._is_quiet = False
        self._writer.send(_TEXT if isinstance(data, str) else _BINARY, data)  # type: ignore[union-attr]
        return True

    def push_text(self, encoded: bytes) -> bool:
        if not self._may_push and not self._is_ready(at_once=True):  # who hears a broadcast hears more of them
            return self._writer is None and super().push_text(encoded)
        self._is_quiet = False
        self._writer.send(_TEXT, encoded)  # type: ignore[union-attr]
        return True

    def _is_ready(self, *, at_once: bool = False) -> bool:
        """Whether a message can be written by picows, which does so after a few of them, or *at_once*."""
        if self._has_frames and self._writer is None and self.conn.state is State.OPEN:
            self._few += 1
            if at_once or self._few > self.few:
                self._writer = _Writer(False, _Transport(self.transport), _silence, self.loop)
                self._look()
        return self._may_push

    def _look(self) -> None:
        is_open = self._writer is not None and self.conn.state is State.OPEN
        self._may_push = is_open and self.writable.is_set()

    # After each of these it may be another.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._look()

    def handle_close(self, event: Any) -> None:
        super().handle_close(event)
        self._look()

    def handle_parser_exception(self) -> None:
        self._has_frames = False
        super().handle_parser_exception()
        self._look()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._look()

    def _say_goodbye(self) -> None:
        super()._say_goodbye()
        self._look()


class PicowsAtOnce(PicowsSocket):
    """The same, with picows for the first message too."""

    few = 0
