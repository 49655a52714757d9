"""Swapping under load: the clients, in a process of their own, count what they get."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kernel import Kernel

from nbws import App

CLIENTS = Path(__file__).parent / "load_client.py"


@contextmanager
def clients(url: str, connections: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(CLIENTS), url, str(connections)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "connected\n"
            yield process
        finally:
            process.kill()


def counted(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_a_thousand_swaps_under_a_hundred_busy_connections_lose_and_mix_nothing() -> None:
    app = App(port=0)
    taken_up = [threading.Event() for _ in range(1001)]

    def handler(version: int) -> Callable[..., Any]:
        async def handle(n: int, ws: Any) -> None:
            ws.send_json([n, version, 1])
            await ws.send("")  # a place at which the handler may be left and come back to
            ws.send_json([n, version, 2])
            taken_up[version].set()

        return handle

    app.ws("/ws")(handler(1))
    app.start()
    try:
        with clients(app.url.replace("http", "ws") + "/ws", 100) as process:
            for version in range(2, 1001):
                assert taken_up[version - 1].wait(30)
                app.ws("/ws")(handler(version))
            for connection in app.connections:
                connection.send_json("stop")
            result = counted(process)
        assert result["wrong"] == {}
        assert result["last"] == [1000]
        assert result["seen"] == 1000
        assert app.endpoints["/ws"].version == 1000
    finally:
        app.stop()


def test_a_cell_run_two_hundred_times_under_busy_connections_loses_and_mixes_nothing() -> None:
    cell = """
import asyncio
from nbws import App
app = App("load")
@app.ws("/ws")
async def handle(n: int, ws):
    ws.send_json([n, {version}, 1])
    await asyncio.sleep(0)
    ws.send_json([n, {version}, 2])
"""
    with Kernel() as kernel:
        kernel.check("cell", cell.format(version=1) + "app.start()")
        url, token = kernel.check("ask", "print(app.url, app.token)").stdout.split()
        with clients(f"{url.replace('http', 'ws')}/ws?token={token}", 20) as process:
            for version in range(2, 201):
                kernel.check("cell", cell.format(version=version))
            kernel.check("stop", "for connection in app.connections: connection.send_json('stop')")
            result = counted(process)
        assert result["wrong"] == {}
        assert result["last"] == [200]
        assert kernel.check("ask", "print(app.endpoints['/ws'].version)").stdout == "200\n"
