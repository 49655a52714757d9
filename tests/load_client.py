"""Clients of a process of their own: they send as fast as they can and count what comes back.

    python load_client.py WS_URL CONNECTIONS [MESSAGES_PER_SECOND]

Where a rate is given, all of them together send so many messages a second, and no faster.

Each message is numbered by its connection, and answered by two frames [number, version, half]. A frame "stop" ends the
sending; then each connection sends one more message, waits for all answers and is counted. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import Counter

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

IN_FLIGHT = 20


class Client:
    def __init__(self, connection: ClientConnection, every: float) -> None:
        self.connection = connection
        self.every = every  # seconds between two messages; 0 as fast as it can
        self.sent = 0
        self.sent_at: dict[int, float] = {}
        self.waits: list[float] = []  # seconds until a message was answered whole
        self.answers: list[tuple[int, int, int]] = []
        self.stopped = asyncio.Event()
        self.room = asyncio.Semaphore(IN_FLIGHT)
        self.closed = False

    async def send(self) -> None:
        self.sent += 1
        self.sent_at[self.sent] = time.monotonic()
        await self.connection.send(json.dumps({"n": self.sent, "HEADERS": {"HX-Request": "true"}}))

    async def talk(self, begins: float) -> None:
        due = begins
        while not self.stopped.is_set():
            await self.room.acquire()
            due = max(due + self.every, time.monotonic())  # what was missed is not made up for in a burst
            if self.every:
                await asyncio.sleep(due - time.monotonic())
            await self.send()
        await self.send()

    async def listen(self) -> None:
        try:
            while not self.stopped.is_set() or len(self.answers) < 2 * (self.sent_in_the_end or sys.maxsize):
                frame = json.loads(await self.connection.recv())
                if frame == "stop":
                    self.stopped.set()
                    self.room.release()
                    continue
                self.answers.append(tuple(frame))
                if frame[2] == 2:
                    self.waits.append(time.monotonic() - self.sent_at.pop(frame[0], 0.0))
                    self.room.release()
        except ConnectionClosed:
            self.closed = True

    sent_in_the_end = 0

    async def run(self, begins: float) -> None:
        talking = asyncio.create_task(self.talk(begins))
        talking.add_done_callback(lambda _: setattr(self, "sent_in_the_end", self.sent))
        listening = asyncio.create_task(self.listen())
        await talking
        await asyncio.wait_for(listening, 60)


def count(clients: list[Client]) -> dict[str, object]:
    wrong: Counter[str] = Counter()
    versions: set[int] = set()
    for client in clients:
        expected = [(n, half) for n in range(1, client.sent + 1) for half in (1, 2)]
        got = [(n, half) for n, _, half in client.answers]
        wrong["lost"] += len(set(expected) - set(got))
        wrong["doubled"] += len(got) - len(set(got))
        wrong["reordered"] += got != sorted(got)
        seen = [version for _, version, _ in client.answers]
        wrong["backward"] += sum(a > b for a, b in itertools.pairwise(seen))
        halves = {(n, half): version for n, version, half in client.answers}
        wrong["mixed"] += sum(halves.get((n, 1)) != halves.get((n, 2)) for n, _ in expected)
        wrong["closed"] += client.closed
        versions |= set(seen)
    last = {client.answers[-1][1] for client in clients if client.answers}
    messages = sum(client.sent for client in clients)
    faults = {fault: times for fault, times in wrong.items() if times}
    waits = sorted(wait for client in clients for wait in client.waits)
    return {
        "wrong": faults,
        "messages": messages,
        "last": sorted(last),
        "seen": len(versions),
        "p50_ms": waits[len(waits) // 2] * 1000,
        "p99_ms": waits[len(waits) * 99 // 100] * 1000,
        "longest_ms": waits[-1] * 1000,
    }


async def main(url: str, connections: int, per_second: float = 0.0) -> None:
    every = connections / per_second if per_second else 0.0
    clients = [Client(await connect(url), every) for _ in range(connections)]
    print("connected", flush=True)
    now = time.monotonic()
    await asyncio.gather(*(client.run(now + every * n / connections) for n, client in enumerate(clients)))
    print(json.dumps(count(clients)), flush=True)
    await asyncio.gather(*(client.connection.close() for client in clients))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:])))
