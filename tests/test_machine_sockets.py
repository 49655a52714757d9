"""The machine of test_machine.py over real sockets, with a server in its thread and `def` handlers in theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any
from unittest.mock import patch

from clients import SECONDS
from machine_model import Frame
from machine_world import Peer, World
from test_machine import Machine, run
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from nbws import Limits
from nbws.inbox import Inbox, Item
from nbws.latch import Latch

STEPS = 400


class OverSockets(World):
    """Clients of a server that runs in a thread of its own. They read for as long as something is waited for."""

    has_clock = False

    def __init__(self, *, has_cells: bool) -> None:
        # Far off: what takes long is let go on by the machine, and not by a clock.
        limits = Limits(park_seconds=600, finish_seconds=120)
        super().__init__(has_cells=has_cells, limits=limits)
        self._sent = self._arrived = 0
        self._watch = patch.object(Inbox, "put", self._counting(Inbox.put))
        self._watch.start()
        self.app.start()
        self._loop = asyncio.new_event_loop()
        self._sockets: dict[Peer, ClientConnection] = {}
        self._reading: list[asyncio.Task[None]] = []

    def _counting(self, put: Any) -> Any:
        def counting(inbox: Inbox, item: Item) -> None:
            put(inbox, item)
            self._arrived += not isinstance(item, Latch)

        return counting

    def _do(self, act: Coroutine[Any, Any, Any]) -> None:
        self._loop.run_until_complete(asyncio.wait_for(act, SECONDS))

    def _open(self, peer: Peer, path: str, query: str) -> None:
        self._do(self._connect(peer, f"{self.app.url.replace('http', 'ws')}{path}?{query}"))

    async def _connect(self, peer: Peer, url: str) -> None:
        try:
            socket = await connect(url, compression=None, ping_interval=None, close_timeout=1)
        except InvalidStatus as exc:
            peer.was_refused = exc.response.status_code == 403
        else:
            self._sockets[peer] = socket
            self._reading.append(asyncio.create_task(self._read(peer, socket)))

    async def _read(self, peer: Peer, socket: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                peer.took(str(await socket.recv()))
        if peer.is_connected:
            peer.is_connected, peer.close_code = False, socket.close_code

    def send(self, peer: Peer, frame: Frame) -> None:
        self._sent += 1
        self._do(self._sockets[peer].send(frame.data))

    def retry(self, path: str) -> None:
        super().retry(path)
        self._sent += 1

    def leave(self, peer: Peer) -> None:
        peer.is_connected = False
        self._do(self._sockets[peer].close())

    def settle(self, is_as_expected: Callable[[], bool]) -> None:
        self._loop.run_until_complete(self._until(is_as_expected))

    async def _until(self, is_as_expected: Callable[[], bool]) -> None:
        end = self._loop.time() + SECONDS
        while self._loop.time() < end:
            if self.app.opened == len(self.peers) and self._arrived == self._sent and is_as_expected():
                return
            await asyncio.sleep(0.001)

    def end(self) -> None:
        self.is_ending = True
        for peer in list(self._gates):
            self.let_go(peer)
        self.app.stop()
        self._watch.stop()
        self._do(self._stop_reading())
        self._loop.close()

    async def _stop_reading(self) -> None:
        for reading in self._reading:
            reading.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)


class SocketMachine(Machine):
    """Who leaves has nothing waiting: when a server sees that a client has gone is nothing to foresee."""

    def new_world(self) -> World:
        return OverSockets(has_cells=self.has_cells)


def test_no_promise_is_broken_over_real_sockets() -> None:
    assert run(SocketMachine, STEPS) >= STEPS
