"""The clients of the swap benchmark, in a process of their own.

    python swap_clients.py WS_URL CONNECTIONS SENDERS MESSAGES_PER_SECOND

Opens so many connections and says "connected". Then the first SENDERS of them send by turns, at an even pace, until
standard input ends. Prints one JSON object: for each version when its first answer came, on the clock of
`time.perf_counter_ns`, and of all messages how many ns went by until the answer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import threading
import time

from websockets.asyncio.client import ClientConnection, connect

OPEN_AT_ONCE = 20
MAX_SECONDS = 120.0  #: it ends then, whatever the process that started it does


class Clients:
    def __init__(self) -> None:
        self.connections: list[ClientConnection] = []
        self.first_answers: dict[int, int] = {}
        self.round_trips: list[int] = []

    async def open(self, url: str, connections: int) -> None:
        while len(self.connections) < connections:
            missing = min(OPEN_AT_ONCE, connections - len(self.connections))
            opening = (connect(url, compression=None, ping_interval=None, max_queue=None) for _ in range(missing))
            self.connections += await asyncio.gather(*opening)

    async def listen(self, connection: ClientConnection) -> None:
        async for answer in connection:
            now = time.perf_counter_ns()
            sent, version = map(int, answer.split())
            self.first_answers.setdefault(version, now)
            self.round_trips.append(now - sent)

    def send(self, senders: int, per_second: float, stopped: threading.Event, loop: asyncio.AbstractEventLoop) -> None:
        """Send until *stopped*. In a thread, because asyncio's timers are no finer than a millisecond."""
        due = time.perf_counter()
        for connection in itertools.cycle(self.connections[:senders]):
            due = max(due + 1 / per_second, time.perf_counter())  # what was missed is not made up for in a burst
            time.sleep(max(0.0, due - time.perf_counter()))
            if stopped.is_set():
                return
            message = json.dumps({"sent": time.perf_counter_ns(), "HEADERS": {"HX-Request": "true"}})
            asyncio.run_coroutine_threadsafe(connection.send(message), loop)


async def main(url: str, connections: int, senders: int, per_second: float) -> None:
    clients = Clients()
    await clients.open(url, connections)
    listening = [asyncio.create_task(clients.listen(connection)) for connection in clients.connections]
    print("connected", flush=True)
    stopped = threading.Event()
    sending = asyncio.create_task(
        asyncio.to_thread(clients.send, senders, per_second, stopped, asyncio.get_running_loop())
    )
    try:
        await asyncio.wait_for(asyncio.to_thread(sys.stdin.read), MAX_SECONDS)
    finally:
        stopped.set()
        await sending
    for task in listening:
        task.cancel()
    print(json.dumps({"first_answers": clients.first_answers, "round_trips": clients.round_trips}), flush=True)


if __name__ == "__main__":
    url, *numbers = sys.argv[1:]
    asyncio.run(main(url, *map(int, numbers)))
