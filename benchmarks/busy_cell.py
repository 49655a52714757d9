"""An echo while a cell computes in pure Python, and what that costs the cell.

A thread that computes stands for the cell: the main one of a process in which an app serves, on one core. A client on
another core sends a message every 20 ms, or none. What the cell gets done beside a client that is silent, and beside
one that talks, is held against what it gets done with no client at all right before and after; in a second of the
process's CPU time, as other processes may want the core too.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import Any

from peer_rounds import HERE, pinned, python
from report import Report, Table, Target, percentile

PACKAGES = ("nbws", "picows", "uvicorn", "uvloop")
EVERY_SECONDS = 0.02
LEAD_SECONDS = 0.1
PHASE_SECONDS = 0.2  #: the machine's own speed stays the same for hardly longer


def serve() -> None:
    """For each line on stdin, JSON whether to wait until the last message is forgotten, compute."""
    from nbws import App
    from nbws.html import TagMaker

    app, div = App(port=0), TagMaker("div")

    @app.ws("/ws")
    async def talk(msg: str) -> Any:
        return div("Hello " + msg, id="out")

    app.start()
    usual = sys.getswitchinterval()
    print(json.dumps(app.port), flush=True)
    for line in sys.stdin:
        waits = json.loads(line)
        _compute(LEAD_SECONDS)  # as a core that was idle is slow at first
        while waits and sys.getswitchinterval() != usual:
            _compute(0.01)
        print(json.dumps(_compute(PHASE_SECONDS)), flush=True)


def _compute(seconds: float) -> float:
    """How far it comes, in a second of CPU time."""
    end, done, began = time.perf_counter() + seconds, 0, time.process_time()
    while time.perf_counter() < end:
        for n in range(1000):
            done += n & 1
    return done / (time.process_time() - began)


def talk(port: int) -> None:
    """For each line on stdin, JSON whether to talk, be there, and print how long each round trip took.

    It is there from its answer to the line before that.
    """
    from websockets.sync.client import connect

    for line in sys.stdin:
        with connect(f"ws://127.0.0.1:{port}/ws", compression=None, ping_interval=None) as client:
            print(json.dumps(True), flush=True)
            talks = json.loads(line)
            end, times = time.perf_counter() + LEAD_SECONDS + PHASE_SECONDS, []
            while talks and (began := time.perf_counter()) < end - EVERY_SECONDS:
                client.send('{"msg": "bob", "HEADERS": {"HX-Request": "true"}}')
                client.recv()
                times.append((time.perf_counter() - began) * 1000)
                time.sleep(max(0.0, began + EVERY_SECONDS - time.perf_counter()))
            sys.stdin.readline()
        print(json.dumps(times), flush=True)


def measure(quick: bool = False) -> Report:
    servers, rounds = (1, 4) if quick else (4, 16)
    shares: dict[bool, list[float]] = {False: [], True: []}  # whether the client talks -> of what is done without it
    times: list[float] = []
    for _ in range(servers):
        with _Child(0, "serve") as server:
            port = server.answer()
            with _Child(1, "talk", str(port)) as client:
                alone = _computed(server)
                for talks in (False, True) * rounds:
                    client.ask(talks)
                    client.answer()
                    beside = _computed(server, waits=not talks)
                    client.ask(None)
                    times += client.answer()
                    before, alone = alone, _computed(server)
                    # Held against what it did right before and after: the machine changes within seconds.
                    shares[talks].append(2 * beside / (before + alone))
    silent, talking = (100 * (1 - statistics.median(shares[talks])) for talks in (False, True))
    p50, p90, p99 = (percentile(times, each) for each in (50, 90, 99))
    return Report(
        [
            Target("p50 of an echo while a cell computes", p50, 1, "ms"),
            Target("what the cell loses to a client that is silent", silent, 5, "%"),
            Target("what it loses to 50 messages a second", talking, 10, "%"),
        ],
        [
            Table(
                "Milliseconds of a round trip while a cell computes, 50 messages a second:",
                ("messages", "p50", "p90", "p99", "max"),
                [(f"{len(times):,}", f"{p50:.2f}", f"{p90:.2f}", f"{p99:.2f}", f"{max(times):.2f}")],
            )
        ],
        "The switch interval is shortened while there is traffic, and is Python's own otherwise.",
        PACKAGES,
    )


def _computed(server: _Child, *, waits: bool = True) -> float:
    server.ask(waits)
    found: float = server.answer()
    return found


class _Child:
    """This program in a process of its own, which answers each line with one."""

    def __init__(self, core: int, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [*pinned(core), python(), str(HERE / "busy_cell.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.startswith("nbws:"):
                return json.loads(line)
        raise RuntimeError("the process has ended; run this program by hand to see why")


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else talk(int(sys.argv[2]))
