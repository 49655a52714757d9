"""Two machines with a cable between them, which can be pulled: network namespaces and a veth pair (Linux, as root)."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from clients import SECONDS
from cuts import Roamer, Watched, check, is_settled, record_all

from nbws import Limits

T = TypeVar("T")

SERVER = "10.213.77.1"
_CLONE_NEWNET = 0x40000000


class Cable:
    """The cable between the namespaces `server` and `client`."""

    def __init__(self) -> None:
        self.server, self.client = f"nbws-{os.getpid()}-s", f"nbws-{os.getpid()}-c"
        self._end = f"nbws{os.getpid() % 10**6}"  # 15 characters at the most

    def lay(self) -> None:
        """Raises OSError or CalledProcessError where that is not permitted."""
        for name in (self.server, self.client):
            _ip("netns", "add", name)
        _ip("link", "add", f"{self._end}s", "netns", self.server, "type", "veth", "peer", "name", f"{self._end}c")
        _ip("link", "set", f"{self._end}c", "netns", self.client)
        for name, end, address in ((self.server, "s", SERVER), (self.client, "c", "10.213.77.2")):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", f"{self._end}{end}")
            _ip("-n", name, "link", "set", f"{self._end}{end}", "up")

    def remove(self) -> None:
        for name in (self.server, self.client):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def pull(self) -> None:
        _ip("-n", self.client, "link", "set", f"{self._end}c", "down")

    def plug_in(self) -> None:
        _ip("-n", self.client, "link", "set", f"{self._end}c", "up")


def _ip(*args: str) -> None:
    subprocess.run(["ip", *args], capture_output=True, check=True)


@contextmanager
def cable() -> Iterator[Cable]:
    """A cable that is plugged in. Skips the test where there can be none."""
    if not sys.platform.startswith("linux") or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux and iproute2")
    found = Cable()
    try:
        try:
            found.lay()
        except (OSError, subprocess.CalledProcessError) as exc:
            why = getattr(exc, "stderr", b"") or str(exc).encode()
            pytest.skip(f"network namespaces are not permitted here: {why.decode().strip()}")
        yield found
    finally:
        found.remove()


def start_in(namespace: str, function: Callable[[], T]) -> Callable[[], T]:
    """Run *function* in a thread that is in *namespace*, and so is what it starts. Gives what waits for its result."""
    outcome: list[T | BaseException] = []

    def run() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{namespace}") as file:
                if libc.setns(file.fileno(), _CLONE_NEWNET) != 0:  # of this thread alone
                    raise OSError(ctypes.get_errno(), "setns")
            outcome.append(function())
        except BaseException as exc:
            outcome.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> T:
        thread.join(60)
        assert outcome, "it runs still"
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    return result


def wait_for(condition: Callable[[], Any], seconds: float) -> float:
    """Wait until *condition* holds, so many *seconds* at the most. How long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"this did not come true in {seconds} s"
        time.sleep(0.01)
    return time.monotonic() - began


def pull_again_and_again(
    patch: pytest.MonkeyPatch, limits: Limits, downs: list[tuple[float, bool]], every: float
) -> list[dict[str, Any]]:
    """Pull the cable for so many seconds, time and again; each with whether the connection lasts. What was seen.

    The app sends to its one client three times *every* so many seconds, or somewhat less.
    """
    record_all(patch)
    seen: list[dict[str, Any]] = []
    with cable() as line:
        watched = Watched(limits, host=SERVER, allowed_hosts=[SERVER])
        app = watched.app
        start_in(line.server, app.start)()
        roamer = Roamer(f"http://{SERVER}:{app.port}", "0", random.Random(1))
        roamer.is_faithful = True
        has_gone, is_silent = threading.Event(), threading.Event()

        async def live() -> None:
            life, talk = asyncio.create_task(roamer.live(0)), asyncio.create_task(roamer.talk(every))
            talk.add_done_callback(lambda _: is_silent.set())
            await asyncio.to_thread(has_gone.wait)
            roamer.go()
            await roamer.leave()
            await asyncio.gather(life, talk)

        lived = start_in(line.client, lambda: asyncio.run(live()))
        try:
            wait_for(lambda: roamer.epochs and roamer.epochs[0].heard, SECONDS)
            with watched.cell(1, every):
                for seconds, lasts in downs:
                    seen.append(_pull(line, watched, roamer, seconds, lasts))
            roamer.is_quiet = True
            assert is_silent.wait(SECONDS)
            wait_for(lambda: is_settled(watched, roamer), 2 * SECONDS)
            has_gone.set()
            lived()
            wait_for(lambda: not app.connections, SECONDS)
        finally:
            app.stop()
        check(watched, [roamer])
        assert not app.errors, app.errors
    return seen


def _pull(line: Cable, watched: Watched, roamer: Roamer, seconds: float, lasts: bool) -> dict[str, Any]:
    app, (ws,) = watched.app, watched.app.connections
    ended_before = watched.events["disconn", ws.id]
    noticed: list[float] = []
    line.pull()
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        if not noticed and (ws.is_away or not ws.is_open):
            noticed.append(passed)
        time.sleep(0.01)
    heard = roamer.received
    line.plug_in()

    def is_back() -> bool:
        connections = app.connections
        has_news = roamer.received > heard if lasts else len(roamer.epochs) and roamer.epochs[-1].key in watched.ids
        return len(connections) == 1 and not connections[0].is_away and has_news and is_same(connections[0])

    def is_same(connection: Any) -> bool:
        return bool((connection is ws) == lasts)

    back = wait_for(is_back, 60)
    assert ended_before == 0
    assert watched.events["disconn", ws.id] == (0 if lasts else 1)
    return {
        "seconds down": seconds,
        "noticed after": round(noticed[0], 1) if noticed else None,
        "back after": round(back, 1),
        "connection": "the same" if lasts else "another, page fetched anew",
    }
