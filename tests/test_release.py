"""A connection that has ended leaves nothing that only the garbage collector would find."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from typing import Any

import pytest
from clients import running, talk, until

from nbws import App
from nbws.common import P
from nbws.sockets import websocket_class

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


@pytest.mark.parametrize("kind", ["picows", "uvicorn"])
def test_what_was_made_for_a_connection_goes_with_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBWS_WEBSOCKET", kind)
    if not websocket_class().__name__.lower().startswith(kind):
        pytest.skip("picows is not installed")
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
