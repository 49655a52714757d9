"""Ten thousand connections that say nothing for an hour: what one takes of the server's memory, and that it stays so.

    python tests/soak_idle.py [--minutes 60] [--connections 10000]

The server pings each of them every 20 s, and is answered; each has said something once, and has been answered.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import Any

import psutil
from soak import Promises

from nbws import App, Limits
from nbws.common import P

KIB = 26.0  #: of one connection, when it has been silent for two pings
GROWTH_KIB = 1.0  #: of one connection, from then on
EARLY = 100  #: connections with which all is made that is made once
SETTLED_SECONDS = 60.0

CLIENTS = """
import asyncio, sys
from websockets.asyncio.client import connect

async def stay(url, count):
    sockets = []
    for _ in range(count):
        socket = await connect(url, compression=None, ping_interval=None)
        await socket.send('{"msg": "hi"}')
        await socket.recv()
        sockets.append(socket)
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(sum(socket.close_code is not None for socket in sockets), flush=True)

asyncio.run(stay(sys.argv[1], int(sys.argv[2])))
"""


def clients(url: str, count: int) -> subprocess.Popen[str]:
    """So many, in a process of their own, all of which have been answered."""
    command = [sys.executable, "-c", CLIENTS, url, str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "open\n":
        raise RuntimeError("not all clients could connect; may a process open so many files?  ulimit -n 12000")
    return process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--connections", type=int, default=10_000)
    options = parser.parse_args()
    app, promises = App(port=0, limits=Limits(connections=options.connections + EARLY)), Promises()

    @app.ws("/ws")
    async def ws(msg: str) -> Any:
        return P(msg, id="out")

    def kib() -> float:
        """What the process has in memory, for each of the connections."""
        return (psutil.Process().memory_info().rss - before) / 1024 / options.connections

    app.start()
    url, before = app.url.replace("http", "ws") + "/ws", 0
    early = clients(url, EARLY)
    before = psutil.Process().memory_info().rss
    many = clients(url, options.connections)
    print(f"        {kib():.1f} KiB when all have been answered", flush=True)
    time.sleep(SETTLED_SECONDS)
    settled = most = kib()
    end, said = time.monotonic() + options.minutes * 60 - SETTLED_SECONDS, time.monotonic()
    while time.monotonic() < end:
        time.sleep(5)
        most = max(most, kib())
        if time.monotonic() - said > 60:
            said = time.monotonic()
            print(f"        {kib():.2f} KiB, {len(app.connections):,} connections", flush=True)
    promises.at_most("KiB of a connection", settled, KIB)
    promises.at_most("KiB more of it since then", most - settled, GROWTH_KIB)
    promises.equal("connections", len(app.connections), options.connections + EARLY)
    for process in (many, early):
        closed, _ = process.communicate("\n", timeout=60)
        promises.equal("clients that were closed", closed.strip(), "0")
    app.stop()
    promises.exit()


if __name__ == "__main__":
    main()
