"""A server in a process of its own that is attacked from others, while a client of it counts how long an echo takes.

    python tests/soak_door.py                 12 minutes: 20 s of each flood
    python tests/soak_door.py --seconds 4     2 minutes

No echo takes longer than 250 ms, but for the time that other programs take; the memory is back within 50 MB; nothing
of what clients do wrong is logged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import raw
from clients import Client
from soak import Promises
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

ECHO_SECONDS = 0.25
LEFT_BYTES = 50_000_000

PROGRAM = """
import sys
from nbws.common import *
app = App(port=int(sys.argv[1]), compression=True, limits=Limits(handshake_seconds=float(sys.argv[2])))
@app.ws("/ws")
async def ws(msg: str): return Div(msg, id="a")
serve()
"""


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int

    @property
    def memory(self) -> int:
        """Its resident bytes."""
        import psutil

        found: int = psutil.Process(self.process.pid).memory_info().rss
        return found

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"


@contextmanager
def server(log: Path, handshake_seconds: float = 10.0) -> Iterator[Server]:
    """An app with an echo at /ws, whose errors go to *log*."""
    from clients import free_port

    port = free_port()
    command = [sys.executable, "-u", "-c", PROGRAM, str(port), str(handshake_seconds)]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            assert str(port) in process.stdout.readline()
            yield Server(process, port)
        finally:
            process.kill()


@asynccontextmanager
async def flooding(port: int, kind: str, connections: int = 1) -> AsyncIterator[asyncio.StreamReader]:
    """While it is open, a process of its own does what raw.py says. Gives what that prints."""
    command = (sys.executable, raw.__file__, str(port), kind, str(connections))
    flood = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert flood.stdout is not None
    try:
        assert await asyncio.wait_for(flood.stdout.readline(), 30) == b"begins\n"
        yield flood.stdout
    finally:
        flood.kill()
        await flood.wait()


@asynccontextmanager
async def half_sent(port: int, count: int) -> AsyncIterator[list[raw.Raw]]:
    """*count* connections, each with half a handshake."""
    clients = []
    for _ in range(count):
        clients.append(raw.Raw(*await asyncio.open_connection("127.0.0.1", port)))
        # At once: one that has sent nothing when its time is over is told nothing.
        await clients[-1].send(raw.handshake(port)[:-2])
    try:
        yield clients
    finally:
        for client in clients:
            client.writer.transport.abort()


@dataclass
class Probe:
    """One client and how many seconds each of its echoes took.

    *server* is its process. `served_in` is the same without the seconds in which that or this one was ready to run and
    other programs had the processor (Linux knows them), so what it would be on a machine that has nothing else to do.
    """

    client: Client
    server: int | None = None
    took: list[float] = field(default_factory=list)
    served_in: list[float] = field(default_factory=list)

    async def go_on(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            begun, queued = time.monotonic(), self._queued()
            assert "hi" in await self.client.ask(msg="hi")
            self.took.append(time.monotonic() - begun)
            self.served_in.append(max(0.0, self.took[-1] - (self._queued() - queued)))
            await asyncio.sleep(0.01)

    def _queued(self) -> float:
        """Seconds that both processes have waited for a processor so far."""
        try:
            stats = [Path(f"/proc/{pid}/schedstat").read_text().split() for pid in ("self", self.server) if pid]
        except OSError:
            return 0.0
        return sum(int(stat[1]) for stat in stats) / 1e9

    def percentile(self, part: float) -> float:
        return sorted(self.took)[min(int(len(self.took) * part), len(self.took) - 1)]


@asynccontextmanager
async def probing(running: Server) -> AsyncIterator[Probe]:
    async with await _let_in(running.url) as socket:
        yield Probe(Client(socket), running.process.pid)


async def _let_in(url: str) -> ClientConnection:
    """A connection, as soon as those of an attack that has ended have gone."""
    end = time.monotonic() + 10
    while True:
        try:
            return await connect(url, compression=None)
        except InvalidStatus as exc:
            if exc.response.status_code != 503 or time.monotonic() > end:
                raise
        await asyncio.sleep(0.1)


async def soak(running: Server, seconds: float, promises: Promises) -> None:
    async def attack(name: str, act: Callable[[], Awaitable[object]]) -> None:
        async with probing(running) as probe:
            acting = asyncio.ensure_future(act())
            await probe.go_on(lambda: not acting.done())
            await acting
        p50, p99, slowest = (f"{probe.percentile(part) * 1000:.1f}" for part in (0.5, 0.99, 1))
        what = f"{name}, an echo: p50 {p50}, p99 {p99}, slowest {slowest} ms of {len(probe.took):,}"
        what += f", {running.memory / 1e6:.0f} MB; slowest on a machine of its own"
        promises.at_most(what, max(probe.served_in) * 1000, ECHO_SECONDS * 1000, " ms")

    async def with_flood(kind: str, connections: int) -> None:
        async with flooding(running.port, kind, connections):
            await asyncio.sleep(seconds)

    async def with_half_sent() -> None:
        async with half_sent(running.port, 500) as clients:
            answers = await asyncio.gather(*(asyncio.wait_for(client.reader.read(), 60) for client in clients))
            closed = sum(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
            promises.equal("half-sent handshakes that were answered with 408", closed, 500)

    async def with_crowd() -> None:
        async with flooding(running.port, "crowd", 2000) as printed:
            statuses: dict[str, int] = json.loads(await asyncio.wait_for(printed.readline(), 60))
            promises.equal("answers to 2,000 connections", statuses, {"101": 999, "503": 1001})  # one is the probe's
            await asyncio.sleep(seconds / 4)

    await attack("nothing else", lambda: asyncio.sleep(seconds))
    before = running.memory
    await attack("2,000 connections of one client", with_crowd)
    await attack("500 half-sent handshakes", with_half_sent)
    for kind in raw.FLOODS:
        await attack(f"{kind}, of 1 client", lambda kind=kind: with_flood(kind, 1))  # type: ignore[misc]
        await attack(f"{kind}, of 4 clients", lambda kind=kind: with_flood(kind, 4))  # type: ignore[misc]
    await asyncio.sleep(2)
    promises.at_most(
        f"memory, of {before / 1e6:.0f} MB before, grew by", (running.memory - before) / 1e6, LEFT_BYTES / 1e6, " MB"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--seconds", type=float, default=20.0, help="of each flood")
    seconds = options.parse_args().seconds
    promises = Promises()
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "stderr"
        with server(log) as running:
            asyncio.run(soak(running, seconds, promises))
        lines = log.read_text(errors="replace").splitlines()
    # What no handler can read is the author's to know: one line each, at intervals.
    logged = [line for line in lines if not re.search(r"BindError|MessageError|^  message: |^\(more of them ", line)]
    promises.equal("lines that were logged of what clients did wrong", logged[:5], [])
    promises.exit()


if __name__ == "__main__":
    main()
