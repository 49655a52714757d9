"""One echo behind two servers, nbws's and bare uvicorn, to hold their websocket classes against each other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from nbws import Limits
from nbws.server import Server, bind

MESSAGE_BYTES = 64 * 1024 * 1024  #: the largest messages of Autobahn's suite have 16 MiB


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI app that the suite wants: says what it is told."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


@contextmanager
def nbws_server(*, compression: bool = False) -> Iterator[int]:
    """The port of nbws's server around the echo."""
    limits = Limits(message_bytes=MESSAGE_BYTES)
    server = Server(
        echo,
        bind("127.0.0.1", 0, exact=True),
        host="127.0.0.1",
        limits=limits,
        compression=compression,
        startup_error=lambda: None,
        on_stop=lambda: None,
    )
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


@contextmanager
def bare_uvicorn(*, compression: bool = False) -> Iterator[int]:
    """The port of uvicorn's own server around the echo."""
    sock = bind("127.0.0.1", 0, exact=True)
    config = uvicorn.Config(
        echo, ws_max_size=MESSAGE_BYTES, ws_per_message_deflate=compression, log_level="critical", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[sock])), daemon=True)
    thread.start()
    try:
        yield int(sock.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)
