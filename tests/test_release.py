"""What a connection takes of the memory: little while it is idle, and nothing that only the collector would find."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from clients import running, talk, until
from kinds import choose

from nbws import App
from nbws.common import P

CLIENTS = """
import asyncio, sys
from websockets.asyncio.client import connect

async def visit():
    for _ in range(5):
        async with connect(sys.argv[1], compression=None) as socket:
            await socket.send('{"msg": "hi"}')
            await socket.recv()

asyncio.run(visit())
"""


IDLE = 100

IDLERS = """
import asyncio, sys
from websockets.asyncio.client import connect

async def stay():
    sockets = [await connect(sys.argv[1], compression=None) for _ in range(int(sys.argv[2]))]
    for socket in sockets:
        await socket.send('{"msg": "hi"}')
        await socket.recv()
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(stay())
"""


@pytest.mark.parametrize("kind", ["picows, after a few", "uvicorn"])  # from its first message on picows takes more
def test_a_connection_that_was_answered_once_takes_less_than_26_kib(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(kind, monkeypatch)
    app = App(port=0)

    @app.ws("/ws")
    async def ws(msg: str) -> P:
        return P(msg, id="out")

    @contextmanager
    def idlers(number: int) -> Iterator[None]:
        url = app.url.replace("http", "ws") + "/ws"
        command = [sys.executable, "-c", IDLERS, url, str(number)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as clients:
            assert clients.stdout is not None
            assert clients.stdout.readline() == b"open\n"
            yield
            clients.communicate(b"\n", timeout=60)

    with running(app), idlers(5):  # what is made once is made for these
        tracemalloc.start()
        try:
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            with idlers(IDLE):
                gc.collect()
                after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    taken = (after - before) / IDLE / 1024
    assert 5 < taken < 26


@pytest.mark.usefixtures("kind")
def test_what_was_made_for_a_connection_goes_with_it() -> None:
    app, seen = App(port=0), weakref.WeakSet[Any]()

    @app.ws("/ws", conn=lambda ws: seen.add(ws))
    async def echo(msg: str, scope: Any) -> P:
        seen.add(scope["extensions"]["nbws.socket"])
        return P(msg, id="out")

    gc.collect()
    gc.disable()
    try:
        with running(app):
            url = app.url.replace("http", "ws") + "/ws"
            subprocess.run([sys.executable, "-c", CLIENTS, url], check=True, timeout=60)
            talk(until(lambda: not app.connections))
            talk(until(lambda: not seen))
    finally:
        gc.enable()
