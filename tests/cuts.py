"""Clients that are cut off at random while they talk with an app, and what each side has said and got of the other.

Nothing is taken on trust: what a client got is compared with what was put into the outbox of its connection, and what
the app's handler got with what the client said.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from chaos import Link, Proxy, Resuming
from clients import running, talk, until
from websockets.exceptions import WebSocketException

import nbws.asgi
from nbws import App, Limits
from nbws.common import P
from nbws.connection import Connection
from nbws.outbox import Outbox

LIMITS = Limits(resume_seconds=3.0, resume_messages=128, ping_seconds=1.0, connections=200)
ANSWER_SECONDS = 0.7  #: after so long without an answer a client takes its socket for dead


class Recorded(Outbox):
    """An outbox that remembers all that was ever put into it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.record: list[str | bytes] = []

    def put(self, data: str | bytes, size: int) -> bool:
        is_taken = super().put(data, size)
        if is_taken:
            self.record.append(data)
        return is_taken


def record_all(patch: pytest.MonkeyPatch) -> None:
    """Have each connection's outbox remember what is sent on it, also what goes past the outbox."""
    push = Connection._push

    def recorded(connection: Connection, data: str | bytes, size: int) -> bool:
        with connection._lock:  # under which the outbox is filled, so that the order is the one of sending
            is_taken = push(connection, data, size)
            if is_taken and isinstance(connection._outbox, Recorded):
                connection._outbox.record.append(data)
        return is_taken

    patch.setattr(Connection, "_push", recorded)
    patch.setattr(nbws.asgi, "Outbox", Recorded)


class Watched:
    """An app with rooms, which answers what it is told, and knows what it was told on which connection."""

    def __init__(self, limits: Limits = LIMITS, **options: Any) -> None:
        self.app = App(port=0, limits=limits, **options)
        self.sent: dict[str, list[str | bytes]] = {}  # by the id of the connection, as everything here
        self.got: dict[str, list[int]] = {}
        self.ids: dict[str, str] = {}  # by the key that the client shows
        self.events: Counter[tuple[str, str]] = Counter()
        self.app.ws("/ws/{room}", conn=self.joined, disconn=self.left)(self.answer)

    def joined(self, ws: Any, room: str) -> Any:
        self.events["conn", ws.id] += 1
        for key, each in self.app._asgi.conversations._by_key.items():
            if each.connection is ws:
                self.ids[key] = ws.id
        self.sent[ws.id], self.got[ws.id] = ws._outbox.record, []
        ws.join(room)
        return P("welcome", id="who")

    async def answer(self, n: int, ws: Any) -> Any:
        self.got[ws.id].append(n)
        yield P("about to answer ", n, id="answer")
        await asyncio.sleep(0)
        yield P("answer ", n, id="answer")

    def left(self, ws: Any) -> None:
        self.events["disconn", ws.id] += 1

    @contextmanager
    def cell(self, rooms: int, every: float) -> Iterator[None]:
        """Sends to all, to a room and to one client in turn, from a thread that is no handler's."""
        is_done = threading.Event()

        def run() -> None:
            for n in range(10**9):
                if is_done.wait(every):
                    return
                self.app.broadcast(P("to all ", n, id="all"))
                self.app.broadcast(P("to a room ", n, id="room"), room=f"{n % rooms}")
                for ws in self.app.connections[n % 7 : n % 7 + 1]:
                    ws.send(P("to one ", n, "x" * (n % 50) * 20, id="one"))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            is_done.set()
            thread.join()


@dataclass
class Epoch:
    """What a client said and heard on one connection."""

    key: str
    said: list[int] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)


class Roamer(Resuming):
    """A client that talks on and on, and comes back whenever it was cut off."""

    def __init__(self, url: str, room: str, chance: random.Random) -> None:
        super().__init__(url, f"/ws/{room}")
        self.chance = chance
        self.epochs: list[Epoch] = []
        self.sockets = 0
        self.absences = 0  #: that were longer than the app waits
        self.is_faithful = False  #: no absence is long
        self.is_quiet = False
        self._number = 0
        self._is_leaving = False

    def greeted(self, greeting: dict[str, Any]) -> None:
        if greeting["key"] != self.key:
            self.epochs.append(Epoch(greeting["key"]))
        super().greeted(greeting)
        self.sockets += 1

    async def live(self, long_absence: float) -> None:
        """Until `go`. One absence in fifty is as long as *long_absence*, in seconds."""
        while not self._is_leaving:
            try:
                await self.come()
                await self._listen()
            except (OSError, WebSocketException, asyncio.TimeoutError):
                pass
            self.socket = None
            if self._is_leaving:
                return
            if not (self.is_quiet or self.is_faithful) and self.chance.random() < 0.02:
                self.absences += 1
                await asyncio.sleep(long_absence)
            await asyncio.sleep(self.chance.uniform(0, 0.1))

    async def _listen(self) -> None:
        """What comes, until nothing does: neither a frame nor an answer."""
        asked = False
        while True:
            socket = self.socket
            assert socket is not None
            try:
                frame = await asyncio.wait_for(socket.recv(), ANSWER_SECONDS)
            except (TimeoutError, asyncio.TimeoutError):
                if asked:
                    return  # the socket is left as it is, and may come to life again
                asked = True
                await asyncio.wait_for(self.report(f"{self.received}?"), ANSWER_SECONDS)
                continue
            asked = False
            if isinstance(frame, str) and frame.startswith("\0"):
                continue
            self.received += 1
            self.epochs[-1].heard.append(frame)
            if self.received % 32 == 0:
                await asyncio.wait_for(self.report(str(self.received)), ANSWER_SECONDS)

    async def talk(self, every: float) -> None:
        while not self.is_quiet:
            await asyncio.sleep(self.chance.uniform(0, 2 * every))
            if self.key:
                self._number += 1
                self.epochs[-1].said.append(self._number)
                await self.say(n=self._number)

    def go(self) -> None:
        self._is_leaving = True


def cut_at_random(link: Link, chance: random.Random, cuts: Counter[str], tasks: set[asyncio.Task[None]]) -> None:
    """Decide what is to happen to *link*, and when."""
    if chance.random() < 0.3:
        link.delay = chance.uniform(0, 0.01)
    if chance.random() < 0.15:
        link.pieces = chance
    kind = chance.choices(["reset", "finish", "bytes", "hold"], [4, 2, 4, 1])[0]
    if kind == "bytes":
        link.bytes_left = chance.randrange(1, chance.choice([400, 10_000, 10_000]))
        link.on_out_of_bytes = lambda: cuts.update([kind])
        return

    async def cut() -> None:
        await asyncio.sleep(chance.choice([0, chance.uniform(0, 0.5), chance.uniform(0, 0.5)]))
        if link.is_cut:
            return
        cuts[kind] += 1
        if kind == "hold":
            link.hold()
            await asyncio.sleep(chance.uniform(1.0, 3.0))
            link.release()  # what was under way arrives late, when there is another socket perhaps
            await asyncio.sleep(chance.uniform(0, 0.2))
        getattr(link, "finish" if kind == "finish" else "reset")()

    task = asyncio.create_task(cut())
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def roam(watched: Watched, *, cuts: int, clients: int, seed: int, seconds: float) -> dict[str, Any]:
    """Cut *clients* of *watched* off until so many *cuts* ended a connection that had been greeted. Figures of it.

    Raises AssertionError where anything was lost, doubled or out of order and nobody was told, or after *seconds*.
    """
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    tasks: set[asyncio.Task[None]] = set()
    rooms = 3
    began = time.monotonic()
    async with Proxy(watched.app._server.port if watched.app._server else 0) as proxy:
        proxy.on_link = lambda link: cut_at_random(link, chance, done, tasks)
        roamers = [Roamer(proxy.url, str(n % rooms), random.Random(f"{seed} {n}")) for n in range(clients)]
        lives = [asyncio.create_task(each.live(LIMITS.resume_seconds + 1)) for each in roamers]
        talks = [asyncio.create_task(each.talk(0.03)) for each in roamers]
        with watched.cell(rooms, 0.03):
            while (served := sum(each.sockets for each in roamers)) < cuts + clients:
                assert time.monotonic() - began < seconds, f"{served} sockets only"
                for each in (*lives, *talks):
                    if each.done():
                        each.result()
                        raise AssertionError("a client has ended by itself")
                await asyncio.sleep(0.02)
        proxy.on_link = lambda link: None
        for each in roamers:
            each.is_quiet = True
        await asyncio.gather(*talks)
        for task in tuple(tasks):
            task.cancel()
        for link in tuple(proxy.links):  # and from now on it is a good network
            link.reset()
        for each in roamers:
            await settled(watched, each)
        for each in roamers:
            each.go()
            await each.leave()
        await asyncio.gather(*lives)
        await until(lambda: not watched.app.connections)
    told = check(watched, roamers)
    return {**told, "cuts": dict(done), "seconds": round(time.monotonic() - began, 1)}


async def settled(watched: Watched, roamer: Roamer) -> None:
    began = time.monotonic()
    while not is_settled(watched, roamer):
        if time.monotonic() - began > 30:
            last = roamer.epochs[-1]
            id = watched.ids.get(last.key, "")
            sent, got = watched.sent.get(id, []), watched.got.get(id, [])
            raise AssertionError(
                f"{id} does not settle: {len(last.heard)} of {len(sent)} fragments, {len(got)} of {len(last.said)} "
                f"messages, {watched.app.connections}, {roamer.socket}"
            )
        await asyncio.sleep(0.01)


def is_settled(watched: Watched, roamer: Roamer) -> bool:
    """Whether all has arrived that was said on the last connection of *roamer*, by either side."""
    last = roamer.epochs[-1]
    id = watched.ids.get(last.key)
    return (
        roamer.socket is not None
        and id is not None
        and len(last.heard) >= len(watched.sent[id])
        and len(watched.got[id]) >= len(last.said)
        and 2 * len(last.said) < len(last.heard)  # the answers, too
    )


def check(watched: Watched, roamers: list[Roamer]) -> dict[str, Any]:
    """Compare what was said with what was got, on every connection that there was. Figures of it."""
    for roamer in roamers:
        assert len(roamer.epochs) == roamer.resyncs + 1, "each new connection but the first was said to be one"
        for epoch in roamer.epochs:
            is_last = epoch is roamer.epochs[-1]
            id = watched.ids[epoch.key]
            sent, got = watched.sent[id], watched.got[id]
            assert epoch.heard == sent[: len(epoch.heard)]
            assert got == epoch.said[: len(got)]
            if is_last:
                assert (len(epoch.heard), len(got)) == (len(sent), len(epoch.said))
    assert watched.events == Counter([(what, id) for what in ("conn", "disconn") for id in watched.sent])
    assert not watched.app._asgi.conversations._by_key
    return {
        "connections": len(watched.sent),
        "sockets": sum(each.sockets for each in roamers),
        "resyncs": sum(each.resyncs for each in roamers),
        "long absences": sum(each.absences for each in roamers),
        "fragments": sum(len(epoch.heard) for each in roamers for epoch in each.epochs),
        "messages": sum(len(got) for got in watched.got.values()),
    }


def run_cuts(patch: pytest.MonkeyPatch, *, cuts: int, clients: int, seed: int, seconds: float) -> dict[str, Any]:
    """`roam` on an app of its own."""
    record_all(patch)
    watched = Watched()
    work = roam(watched, cuts=cuts, clients=clients, seed=seed, seconds=seconds)
    with running(watched.app):
        told = talk(work, seconds + 30)
    assert not watched.app.errors, watched.app.errors
    return told
