"""Clients that keep to no protocol but TCP: half-sent requests, and websocket frames as one likes.

python raw.py PORT KIND [CONNECTIONS]   floods an app's /ws from a process of its own until it is killed
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from clients import SECONDS

from nbws import App

TEXT, BINARY, CLOSE, PING, PONG, CONT = 0x1, 0x2, 0x8, 0x9, 0xA, 0x0


@dataclass
class Raw:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes | str) -> None:
        self.writer.write(data.encode("latin-1") if isinstance(data, str) else data)
        await asyncio.wait_for(self.writer.drain(), SECONDS)

    async def rest(self) -> str:
        """All that comes until the server closes; that it was cut off is no error."""
        received = b""
        try:
            while data := await asyncio.wait_for(self.reader.read(65536), SECONDS):
                received += data
        except ConnectionError:
            pass
        return received.decode("latin-1")

    async def answer(self) -> tuple[int, str]:
        """(status, body) of one response that says how long it is."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), SECONDS)).decode("latin-1")
        found = re.search(r"content-length: (\d+)", head.lower())
        body = await asyncio.wait_for(self.reader.readexactly(int(found[1]) if found else 0), SECONDS)
        return int(head.split()[1]), body.decode()

    async def frame(self) -> tuple[int, bytes]:
        """(opcode, payload) of one frame."""
        head = await asyncio.wait_for(self.reader.readexactly(2), SECONDS)
        size = head[1] & 0x7F
        if size > 125:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        return head[0] & 0x0F, await asyncio.wait_for(self.reader.readexactly(size), SECONDS)

    async def close_code(self) -> int:
        """The code of the close frame that comes, after whatever else."""
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")


@asynccontextmanager
async def connection(app: App) -> AsyncIterator[Raw]:
    """A TCP connection to *app*, cut off at the end."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", app.port), SECONDS)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


def handshake(port: int | None, path: str = "/ws", *more: str) -> str:
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *more]
    return "\r\n".join([*lines, "", ""])


@asynccontextmanager
async def websocket(app: App, path: str = "/ws", *more: str) -> AsyncIterator[Raw]:
    async with connection(app) as raw:
        await raw.send(handshake(app.port, path, *more))
        assert await raw.answer() == (101, "")
        yield raw


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """One frame of a client, masked with zeros."""
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | (0x40 if rsv1 else 0) | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


def deflated(data: bytes) -> bytes:
    """The payload of a compressed message, whose frame has rsv1."""
    encoder = zlib.compressobj(9, wbits=-12)
    return (encoder.compress(data) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]


DEEP = b'{"a":' * 100_000

FLOODS: dict[str, Callable[[], bytes]] = {  # made where they are sent: the bombs take a second
    "pings": lambda: frame(PING) * 20_000,
    "long pings": lambda: frame(PING, b"x" * 125) * 2000,
    "pongs": lambda: frame(PONG, b"x") * 20_000,
    "messages": lambda: frame(TEXT, b'{"msg":"x"}') * 10_000,
    "messages that lack a field": lambda: frame(TEXT, b"{}") * 20_000,
    "deep messages": lambda: frame(TEXT, DEEP) * 2,
    "deep arrays": lambda: frame(TEXT, b"[" * 100_000) * 4,
    "no utf-8": lambda: frame(TEXT, b"\xff\xfe"),
    "big messages": lambda: frame(TEXT, b'{"msg":"' + b"x" * 1_000_000 + b'"}'),
    "too big messages": lambda: frame(TEXT, b"x" * 2_000_000),
    "bombs": lambda: frame(TEXT, deflated(bytes(32 * 1024 * 1024)), rsv1=True),
    "messages that inflate": lambda: frame(TEXT, deflated(b'{"msg":"' + b"x" * 1_000_000 + b'"}'), rsv1=True) * 20,
    "empty pieces": lambda: frame(TEXT, b"{", fin=False) + frame(CONT, fin=False) * 20_000,
}


async def flood(port: int, kind: str, connections: int = 1) -> None:
    """Send one of FLOODS again and again, on a new connection where the last one was closed. Reads nothing."""
    sent = FLOODS[kind]()
    print("begins", flush=True)

    async def send_on() -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(handshake(port, "/ws", OFFER).encode() + sent)
                while True:
                    await asyncio.wait_for(writer.drain(), 2)
                    writer.write(sent)
                    await asyncio.sleep(0)
            except (OSError, TimeoutError, asyncio.TimeoutError):
                writer.transport.abort()

    await asyncio.gather(*(send_on() for _ in range(connections)))


async def crowd(port: int, connections: int) -> None:
    """Open so many websockets at once, print the status of each answer with its number, and hold them."""

    async def one() -> tuple[str, asyncio.StreamWriter | None]:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(handshake(port).encode())
            return (await asyncio.wait_for(reader.readline(), 30)).decode()[9:12], writer
        except OSError as exc:
            return type(exc).__name__, None

    print("begins", flush=True)
    found = await asyncio.gather(*(one() for _ in range(connections)))
    print(json.dumps(Counter(status for status, _ in found)), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    _, port, kind, *count = sys.argv
    asyncio.run(crowd(int(port), int(count[0])) if kind == "crowd" else flood(int(port), kind, *map(int, count)))
