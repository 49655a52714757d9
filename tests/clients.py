"""Clients of a running app: websockets that speak as htmx does, and HTTP. Every wait is bounded."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol, TypeVar

import httpx
from websockets.asyncio.client import ClientConnection, connect

from nbws import App

T = TypeVar("T")

SECONDS = 5.0  #: how long an answer may take

HEADERS = {
    "HX-Request": "true",
    "HX-Trigger": "form",
    "HX-Trigger-Name": None,
    "HX-Target": "form",
    "HX-Current-URL": "http://localhost/",
}


class Served(Protocol):
    """An app that runs, wherever."""

    @property
    def url(self) -> str: ...


class Client:
    """One websocket of a browser. `socket` is the connection of `websockets`."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, **fields: Any) -> None:
        """Send what htmx sends for a form with these *fields*."""
        await self.socket.send(json.dumps({**fields, "HEADERS": HEADERS}))

    async def hear(self) -> Any:
        """The next frame, text or bytes."""
        return await asyncio.wait_for(self.socket.recv(), SECONDS)

    async def ask(self, **fields: Any) -> Any:
        await self.say(**fields)
        return await self.hear()

    async def close_code(self) -> int | None:
        """The code with which the connection ends."""
        await asyncio.wait_for(self.socket.wait_closed(), SECONDS * 2)
        return self.socket.close_code

    async def leave(self) -> None:
        await self.socket.close()

    def vanish(self) -> None:
        """End the TCP connection with a reset, as a crash does: no close frame."""
        sock = self.socket.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.transport.abort()

    def stop_reading(self) -> None:
        self.socket.transport.pause_reading()

    def read_on(self) -> None:
        self.socket.transport.resume_reading()


@asynccontextmanager
async def websocket(app: Served, path: str = "/ws", **options: Any) -> AsyncIterator[Client]:
    """A client of *app*, at *path*; left at the end. *options* are those of `websockets.connect`."""
    url = app.url.replace("http://", "ws://") + path
    options = {"compression": None, "max_queue": None, "max_size": None, "ping_interval": None} | options
    async with connect(url, open_timeout=SECONDS, close_timeout=1, **options) as socket:
        yield Client(socket)


@contextmanager
def running(app: App) -> Iterator[App]:
    app.start()
    try:
        yield app
    finally:
        app.stop()


def talk(talk: Coroutine[Any, Any, T], seconds: float = 20.0) -> T:
    """What *talk* returns; an error where it lasts longer than *seconds*."""
    return asyncio.run(asyncio.wait_for(talk, seconds))


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what nothing tells of, such as an error that no client is told."""
    end = time.monotonic() + SECONDS * 2
    while not condition():
        assert time.monotonic() < end, "this did not come true"
        await asyncio.sleep(0.005)


def http(app: App, **options: Any) -> httpx.Client:
    """A browser without htmx: it keeps cookies and follows no redirect."""
    return httpx.Client(base_url=app.url, timeout=SECONDS * 2, trust_env=False, **options)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
