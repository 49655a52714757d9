"""A client that speaks, is cut off, comes back and stays away, in any order, on a clock that stands still.

It speaks ASGI with a real app. What is on its way is on a wire: a cut loses it, and the app may hear of that or not.
After each step the app is compared with what docs/connections.md promises.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from machine_world import StillLoop

from nbws import App, Limits
from nbws.outbox import FRAME_BYTES

MARK = "\0nbws"
FRAMES, BYTES, SECONDS = 4, 400, 20.0


class Wire:
    """One socket: what is under way on it, both ways."""

    def __init__(self) -> None:
        self.down: deque[Any] = deque()
        self.up: deque[str] = deque()
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.is_up = True  #: as far as the app knows
        self.close_code: int | None = None
        self._flows = asyncio.Event()
        self._flows.set()

    async def send(self, event: dict[str, Any]) -> None:
        await self._flows.wait()
        if event["type"] == "websocket.send":
            self.down.append(event.get("text"))
        elif event["type"] == "websocket.close":
            self.close_code = event["code"]
            self.end(event["code"])

    def arrive(self) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "text": self.up.popleft()})

    def end(self, code: int) -> None:
        """The app hears that it has ended."""
        if self.is_up:
            self.is_up = False
            self._flows.set()
            event = {"type": "websocket.disconnect", "code": code}
            self.incoming.put_nowait(event if code == 1006 else {**event, "reason": ""})

    def stall(self) -> None:
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()


class Epoch:
    """One connection, as both sides should see it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.ws: Any = None
        self.sent: list[tuple[str, float]] = []  # by the app, with the time
        self.received = 0  # of these, by the client
        self.acknowledged = 0
        self.said: list[int] = []  # by the client
        self.arrived = 0  # of these, at the app
        self.got: list[int] = []  # by the handler
        self.away_since: tuple[int, float] | None = None  # how many frames had been sent, and when
        self.is_over = False
        self.is_certain = True  # whether it is known when each frame was handed to a socket
        self.disconns = 0

    def keeps(self, received: int, now: float) -> bool:
        """Whether the app can tell all that a client has missed that received so much."""
        missed = self.sent[received:]
        size = sum(max(len(frame), FRAME_BYTES) for frame, _ in missed)
        is_recent = all(now - at <= SECONDS for _, at in missed)
        return len(missed) <= FRAMES and size <= BYTES and is_recent and received >= self.acknowledged


class Resuming(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = StillLoop()
        self.problems: list[Any] = []
        self.loop.set_exception_handler(lambda loop, context: self.problems.append(context))
        limits = Limits(resume_messages=FRAMES, resume_bytes=BYTES, resume_seconds=SECONDS, outbox_bytes=600)
        self.app = App(port=0, limits=limits)
        self.app.ws("/ws", conn=self._joined, disconn=self._left)(self._told)
        self.epochs: list[Epoch] = []
        self.by_ws: dict[str, Epoch] = {}
        self.conns = 0
        self.wire: Wire | None = None  # the client's
        self.old: list[Wire] = []
        self.number = 0
        self.resyncs = 0
        self.come()

    # -- the app

    def _joined(self, ws: Any) -> None:
        self.conns += 1

    async def _told(self, n: int, ws: Any) -> None:
        self.by_ws[ws.id].got.append(n)

    def _left(self, ws: Any) -> None:
        self.by_ws[ws.id].disconns += 1

    @property
    def now(self) -> float:
        return self.loop.time()

    @property
    def epoch(self) -> Epoch:
        return self.epochs[-1]

    def settle(self, seconds: float = 0.0) -> None:
        self.loop.settle(seconds)

    # -- what happens

    @precondition(lambda self: self.wire is None)
    @rule()
    def come(self) -> None:
        """The client connects, or comes back."""
        old = self.epochs[-1] if self.epochs else None
        wire = self.wire = Wire()
        shown = f"{old.key}.{old.received}" if old is not None else ""
        scope = {
            "type": "websocket",
            "path": "/ws",
            "raw_path": b"/ws",
            "root_path": "",
            "query_string": f"nbws-resume={shown}".encode(),
            "headers": [(b"host", b"testserver")],
            "server": ("testserver", 80),
            "client": ("testclient", 1),
            "scheme": "ws",
            "subprotocols": [],
            "extensions": {},
        }
        may = old is not None and not old.is_over and old.keeps(old.received, self.now)
        task = self.loop.create_task(self.app(scope, wire.incoming.get, wire.send))
        task.add_done_callback(lambda task: task.result())
        self.settle()
        greeting = json.loads(wire.down.popleft()[len(MARK) :])
        if old is not None and greeting["key"] == old.key:
            assert may or not old.is_certain
            assert greeting == {"key": old.key, "got": old.arrived, "resync": False}
            old.away_since = None
            wire.up.extend(json.dumps({"n": n}) for n in old.said[old.arrived :])
            return
        assert not (may and old is not None and old.is_certain), "all that was missed is kept"
        assert greeting["resync"] == (old is not None)
        assert greeting["got"] == 0
        if old is not None:
            old.is_over = True
            assert old.disconns == 1, "before the new one begins"
        self.epochs.append(Epoch(greeting["key"]))
        (self.epoch.ws,) = (ws for ws in self.app.connections if ws.is_open)
        self.by_ws[self.epoch.ws.id] = self.epoch

    @rule(size=st.sampled_from([1, 1, 1, 50, 150, 350]), times=st.integers(1, 3))
    def app_sends(self, size: int, times: int) -> None:
        epoch = self.epoch
        for _ in range(times):
            self.number += 1
            frame = f"{self.number} ".ljust(size)
            is_open = epoch.ws.is_open
            epoch.ws.send_text(frame)
            if is_open and epoch.ws.is_open:
                epoch.sent.append((frame, self.now))
            self.settle()
            if epoch.away_since is not None and not epoch.is_over and epoch.is_certain:
                missed = [max(len(frame), FRAME_BYTES) for frame, _ in epoch.sent[epoch.away_since[0] :]]
                epoch.is_over = len(missed) > FRAMES or sum(missed) > BYTES
                assert epoch.disconns == epoch.is_over

    @rule()
    def client_says(self) -> None:
        self.number += 1
        self.epoch.said.append(self.number)
        if self.wire is not None:
            self.wire.up.append(json.dumps({"n": self.number}))

    @precondition(lambda self: self.wire is not None)
    @rule(number=st.integers(1, 3))
    def messages_arrive(self, number: int) -> None:
        assert self.wire is not None
        for _ in range(min(number, len(self.wire.up))):
            is_message = not self.wire.up[0].startswith(MARK)
            if self.wire.is_up:
                self.epoch.arrived += is_message
            self.wire.arrive()
        self.settle()

    @precondition(lambda self: any(wire.up for wire in self.old))
    @rule()
    def messages_arrive_late(self) -> None:
        """On a socket that the client has left, and of which the app knows nothing as long as it sees no other."""
        wire = next(wire for wire in self.old if wire.up)
        is_served = wire is self.old[-1] and self.wire is None and wire.is_up and not self.epoch.is_over
        self.epoch.arrived += is_served and not wire.up[0].startswith(MARK)
        wire.arrive()
        self.settle()

    @precondition(lambda self: self.wire is not None)
    @rule(number=st.integers(1, 5))
    def fragments_arrive(self, number: int) -> None:
        assert self.wire is not None
        for _ in range(min(number, len(self.wire.down))):
            frame = self.wire.down.popleft()
            assert frame == self.epoch.sent[self.epoch.received][0], "the next one, and no other"
            self.epoch.received += 1

    @precondition(lambda self: self.wire is not None and self.wire.is_up)
    @rule()
    def client_acknowledges(self) -> None:
        assert self.wire is not None
        self.wire.incoming.put_nowait({"type": "websocket.receive", "text": f"{MARK}{self.epoch.received}"})
        self.settle()
        self.epoch.acknowledged = self.epoch.received

    @precondition(lambda self: self.wire is not None)
    @rule(is_noticed=st.booleans())
    def cut(self, is_noticed: bool) -> None:
        """What is under way is lost, where the app hears of it; else some of it may arrive late."""
        wire, self.wire = self.wire, None
        assert wire is not None
        self.old.append(wire)
        if is_noticed:
            self._hears_of_the_cut(wire)

    @precondition(lambda self: self.wire is not None)
    @rule(is_noticed=st.booleans())
    def cut_and_come(self, is_noticed: bool) -> None:
        self.cut(is_noticed)
        self.come()

    @precondition(lambda self: self.wire is None and self.old[-1].is_up)
    @rule()
    def cut_is_noticed(self) -> None:
        self._hears_of_the_cut(self.old[-1])

    def _hears_of_the_cut(self, wire: Wire) -> None:
        wire.up.clear()
        was_up = wire.is_up
        wire.end(1006)
        if was_up and not self.epoch.is_over:
            self.epoch.away_since = (len(self.epoch.sent), self.now)
        self.settle()

    @precondition(lambda self: self.wire is not None and self.wire.is_up)
    @rule()
    def stall(self) -> None:
        """The socket takes nothing for some time."""
        assert self.wire is not None
        self.wire.stall()
        self.epoch.is_certain = False

    @precondition(lambda self: self.wire is not None)
    @rule()
    def flow(self) -> None:
        assert self.wire is not None
        self.wire.flow()
        self.settle()

    @rule(seconds=st.sampled_from([0.5, 0.5, 5.0, 12.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self.settle(seconds)
        away = self.epoch.away_since
        if away is not None and self.now - away[1] >= SECONDS and not self.epoch.is_over:
            self.epoch.is_over = True
            assert self.epoch.disconns == 1

    @rule(by=st.sampled_from([None, None, "client", "app"]))
    def ends(self, by: str | None) -> None:
        if by == "client" and self.wire is not None and self.wire.is_up:
            self._client_leaves()
        elif by == "app" and not self.epoch.is_over:
            self._app_closes()

    def _client_leaves(self) -> None:
        assert self.wire is not None
        wire, self.wire = self.wire, None
        self.old.append(wire)
        wire.up.clear()
        wire.end(1001)
        self.epoch.is_over = True
        self.settle()
        assert self.epoch.disconns == 1

    def _app_closes(self) -> None:
        self.epoch.ws.close(4000)
        self.epoch.is_over = True
        self.settle()
        is_served = self.wire if self.wire is not None else self.old[-1]
        if is_served.is_up:
            assert not self.epoch.is_certain, "it is stalled"
            is_served.flow()
            self.settle()
        assert self.epoch.disconns == 1

    # -- what holds

    @invariant()
    def disconn_runs_once_and_after_the_end(self) -> None:
        assert self.conns == len(self.epochs)
        for epoch in self.epochs:
            assert epoch.got == epoch.said[: epoch.arrived], "each message once, in order"
        for epoch in self.epochs[:-1]:
            assert epoch.disconns == 1
        assert self.epoch.disconns <= 1
        if self.epoch.is_certain:
            assert self.epoch.disconns == self.epoch.is_over
        assert not self.app.errors
        assert not self.problems

    @invariant()
    def no_more_is_kept_than_may_be(self) -> None:
        log = self.epoch.ws.sent
        assert len(log) <= min(FRAMES, len(self.epoch.sent) - self.epoch.acknowledged)
        assert log._bytes <= BYTES

    @invariant()
    def nothing_is_held_of_those_that_are_over(self) -> None:
        held = set(self.app._asgi.conversations._by_key)
        assert held == ({self.epoch.key} if not self.epoch.disconns else set())
        assert len(self.app.connections) == len(held)

    def teardown(self) -> None:
        try:
            if self.wire is not None:
                self.wire.flow()
                self.settle()
                if not self.wire.is_up:
                    self.cut(True)
            if self.wire is None:
                self.come()
            assert self.wire is not None
            self.messages_arrive(10**6)
            self.fragments_arrive(10**6)
            assert self.epoch.received == len(self.epoch.sent)
            assert self.epoch.arrived == len(self.epoch.said)
        finally:
            while tasks := asyncio.all_tasks(self.loop):
                for task in tasks:
                    task.cancel()
                self.loop.settle()
            self.loop.close()


Resuming.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestResuming = Resuming.TestCase
