"""Swapping under load: the clients, in a process of their own, count what they get."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbws import App

CLIENTS = Path(__file__).parent / "load_client.py"


@contextmanager
def clients(url: str, connections: int, per_second: float = 0.0) -> Iterator[subprocess.Popen[str]]:
    """So many clients of the app at *url*, which send *per_second* messages together; 0 is as many as they can."""
    command = [sys.executable, str(CLIENTS), url, str(connections), str(per_second)]
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


def swap_under_load(swaps: int, connections: int, per_second: float = 0.0, every: float = 0.0) -> Any:
    """Define a handler so many times under busy connections, and give what their clients counted.

    Each definition takes up a message before the next one comes, *every* so many seconds at the earliest.
    """
    app = App(port=0)
    taken_up = [threading.Event() for _ in range(swaps + 1)]

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
        with clients(app.url.replace("http", "ws") + "/ws", connections, per_second) as process:
            due = time.monotonic()
            for version in range(2, swaps + 1):
                assert taken_up[version - 1].wait(30)
                due += every
                time.sleep(max(0.0, due - time.monotonic()))
                app.ws("/ws")(handler(version))
            for connection in app.connections:
                connection.send_json("stop")
            found = counted(process)
        return {**found, "version": app.endpoints["/ws"].version}
    finally:
        app.stop()
