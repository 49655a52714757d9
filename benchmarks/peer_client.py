"""Clients of a server of peers.py, which take little time of their own, so that the server is what is measured.

    python peer_client.py PORT PID CONNECTIONS echo MESSAGES     each sends its next message when it has its answer
    python peer_client.py PORT PID CONNECTIONS broadcast ROUNDS  one says "go", and again when all have all of it
    python peer_client.py PORT PID CONNECTIONS memory 0          they only connect

Prints JSON: `cpu` is what the server's process used for one message or one delivery, `p50` and `p99` how long a round
trip took, all in microseconds, and `memory` the KiB that one connection takes in the server.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

HTMX = {
    "HX-Request": "true",
    "HX-Trigger": "form",
    "HX-Trigger-Name": None,
    "HX-Target": "form",
    "HX-Current-URL": "http://localhost:5001/",
}
HANDSHAKE = "\r\n".join(
    (
        "GET /ws HTTP/1.1",
        "Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Accept-Language: en-US,en;q=0.9",
        "",
        "",
    )
)


def frame(message: dict[str, Any]) -> bytes:
    payload = json.dumps(message).encode()
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else bytes((0x81, 0xFE)) + size.to_bytes(2, "big")
    mask = b"\x11\x22\x33\x44"
    return head + mask + bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))


HI, GO = frame({"msg": "bob", "HEADERS": HTMX}), frame({"msg": "go", "HEADERS": HTMX})


class Client(asyncio.Protocol):
    """One connection. Calls `on_message` for each message that has come whole."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.is_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_message: Any = None
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(HANDSHAKE.format(port=self.port).encode())

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        if not self.is_up.done():
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.is_up.set_exception(ConnectionError(head.decode()))
                return
            self.is_up.set_result(None)
        while len(data) >= 2:
            size, at = data[1], 2
            if size == 126:
                size, at = int.from_bytes(data[2:4], "big"), 4
            if len(data) < at + size:
                break
            if data[0] == 0x81:
                self.on_message()
            data = data[at + size :]
        self._rest = data


class Served:
    """The process that is measured."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")

    def cpu(self) -> float:
        """Microseconds that all its threads have used."""
        return sum(int(each.read_text().split()[0]) for each in self._proc.glob("task/*/schedstat")) / 1000

    def memory(self) -> float:
        """KiB that it has in memory."""
        return int((self._proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


async def connected(port: int, count: int) -> list[Client]:
    loop, clients = asyncio.get_running_loop(), []
    for _ in range(count):
        _, client = await loop.create_connection(lambda: Client(port), "127.0.0.1", port)
        await client.is_up
        clients.append(client)
    return clients


async def echo(clients: list[Client], served: Served, messages: int) -> dict[str, float]:
    times: list[float] = []

    async def one(client: Client, count: int) -> None:
        done = asyncio.get_running_loop().create_future()
        began, left = time.perf_counter(), count

        def answered() -> None:
            nonlocal began, left
            now = time.perf_counter()
            times.append(now - began)
            left -= 1
            if left:
                began = now
                client.transport.write(HI)
            else:
                done.set_result(None)

        client.on_message = answered
        client.transport.write(HI)
        await done

    # What a connection makes with its first messages is not what a message costs.
    await asyncio.gather(*(one(client, max(5, messages // 10)) for client in clients))
    times.clear()
    before = served.cpu()
    await asyncio.gather(*(one(client, messages) for client in clients))
    cpu = (served.cpu() - before) / len(clients) / messages
    percentiles = statistics.quantiles(times, n=100)
    return {"cpu": cpu, "p50": percentiles[49] * 1e6, "p99": percentiles[98] * 1e6}


async def broadcast(clients: list[Client], served: Served, rounds: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    left, done = 0, loop.create_future()

    def heard() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set_result(None)

    for client in clients:
        client.on_message = heard
    times, before = [], 0.0
    for n in range(rounds + 2):
        if n == 2:
            before = served.cpu()
        left, done, began = len(clients), loop.create_future(), time.perf_counter()
        clients[0].transport.write(GO)
        await done
        times.append(time.perf_counter() - began)
    await asyncio.sleep(0.05)  # for what the server does afterwards
    cpu = (served.cpu() - before) / len(clients) / rounds
    return {"cpu": cpu, "p50": statistics.median(times[2:]) * 1e6, "p99": max(times[2:]) * 1e6}


async def main() -> dict[str, float]:
    port, pid, count, what, amount = (int(each) if each.isdigit() else each for each in sys.argv[1:6])
    assert isinstance(port, int)
    assert isinstance(pid, int)
    assert isinstance(count, int)
    assert isinstance(amount, int)
    served = Served(pid)
    if what == "memory":
        early = await connected(port, 100)  # with which all is loaded and made that is made once
        before = served.memory()
        late = await connected(port, count)
        return {"memory": (served.memory() - before) / len(late), "open": len(early) + len(late)}
    clients = await connected(port, count)
    return await (echo if what == "echo" else broadcast)(clients, served, amount)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(main())))
