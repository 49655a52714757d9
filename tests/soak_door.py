"""A server in a process of its own that is attacked from others, while a client of it counts how long an echo takes.

    python tests/soak_door.py [--seconds 20]

Exits with 1 where an echo took longer than 250 ms, the memory is not back within 50 MB, or something was logged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import raw
from clients import Client
from websockets.asyncio.client import connect

ECHO_SECONDS = 0.25
LEFT_BYTES = 50_000_000

PROGRAM = """
import sys
from nbws.common import *
app = App(port=int(sys.argv[1]), limits=Limits(handshake_seconds=float(sys.argv[2])))
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
        assert await asyncio.wait_for(flood.stdout.readline(), 10) == b"begins\n"
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
    """One client and how many seconds each of its echoes took."""

    client: Client
    took: list[float] = field(default_factory=list)

    async def go_on(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            begun = time.monotonic()
            assert "hi" in await self.client.ask(msg="hi")
            self.took.append(time.monotonic() - begun)
            await asyncio.sleep(0.01)

    def percentile(self, part: float) -> float:
        return sorted(self.took)[min(int(len(self.took) * part), len(self.took) - 1)]


@asynccontextmanager
async def probing(url: str) -> AsyncIterator[Probe]:
    async with connect(url, compression=None) as socket:
        yield Probe(Client(socket))


async def soak(running: Server, seconds: float) -> list[str]:
    """What was not as it is to be."""
    wrong: list[str] = []

    async def attack(name: str, act: Callable[[], Awaitable[object]]) -> None:
        async with probing(running.url) as probe:
            acting = asyncio.ensure_future(act())
            await probe.go_on(lambda: not acting.done())
            said = await acting
        slowest = max(probe.took)
        line = f"{name:32} echo p50 {probe.percentile(0.5) * 1000:6.1f} ms, p99 {probe.percentile(0.99) * 1000:6.1f}, "
        line += f"slowest {slowest * 1000:6.1f} of {len(probe.took):5}; {running.memory / 1e6:6.1f} MB; {said or ''}"
        print(line, flush=True)
        if slowest > ECHO_SECONDS:
            wrong.append(line)

    async def with_flood(kind: str, connections: int) -> None:
        async with flooding(running.port, kind, connections):
            await asyncio.sleep(seconds)

    async def with_half_sent() -> str:
        async with half_sent(running.port, 500) as clients:
            begun = time.monotonic()
            answers = await asyncio.gather(*(asyncio.wait_for(client.reader.read(), 60) for client in clients))
            closed = sum(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
            if closed < 500:
                wrong.append(f"of 500 half-sent handshakes {closed} were answered with 408")
            return f"{closed} closed after {time.monotonic() - begun:.1f} s"

    async def with_crowd() -> str:
        async with flooding(running.port, "crowd", 2000) as printed:
            statuses: dict[str, int] = json.loads(await asyncio.wait_for(printed.readline(), 60))
            if statuses != {"101": 999, "503": 1001}:  # one is the probe's
                wrong.append(f"2,000 connections were answered with {statuses}")
            await asyncio.sleep(seconds / 4)
            return f"answered with {statuses}"

    await attack("nothing", lambda: asyncio.sleep(seconds / 4))
    before = running.memory
    await attack("2,000 connections of one client", with_crowd)
    await attack("500 half-sent handshakes", with_half_sent)
    for kind in raw.FLOODS:
        await attack(kind, lambda kind=kind: with_flood(kind, 1))  # type: ignore[misc]
        await attack(f"{kind}, of 4 clients", lambda kind=kind: with_flood(kind, 4))  # type: ignore[misc]
    await asyncio.sleep(2)
    print(f"memory: {before / 1e6:.1f} MB before, {running.memory / 1e6:.1f} MB after")
    if running.memory - before > LEFT_BYTES:
        wrong.append("the memory is not back")
    return wrong


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--seconds", type=float, default=20.0, help="of each flood")
    seconds = options.parse_args().seconds
    log = Path(os.devnull).with_name("null") if os.name != "posix" else Path(f"/tmp/nbws-soak-{os.getpid()}.log")
    with server(log) as running:
        wrong = asyncio.run(soak(running, seconds))
    logged = [line for line in log.read_text().splitlines() if "BindError" not in line and "MessageError" not in line]
    print(f"logged: {len(logged)} lines, {log}")
    for line in wrong:
        print("wrong:", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
