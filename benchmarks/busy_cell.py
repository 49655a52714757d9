"""An echo while a cell computes in pure Python, and what that costs the cell.

A thread that computes stands for the cell: the main one of a process in which an app serves, on one core. A client on
another core sends a message every 20 ms, or none. What the cell gets done with no client at all is compared with what
it gets done with one that is silent, and with one that talks, by turns; in a second of the process's CPU time, as other
processes may want the core too.
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
PHASE_SECONDS = 2.0


def serve() -> None:
    """For each line on stdin compute for so many seconds, and print how far that came in a second of CPU time."""
    from nbws import App
    from nbws.html import TagMaker

    app, div = App(port=0), TagMaker("div")

    @app.ws("/ws")
    async def talk(msg: str) -> Any:
        return div("Hello " + msg, id="out")

    app.start()
    print(json.dumps(app.port), flush=True)
    for line in sys.stdin:
        end, done, began = time.perf_counter() + float(line), 0, time.process_time()
        while time.perf_counter() < end:
            for n in range(1000):
                done += n & 1
        print(json.dumps(done / (time.process_time() - began)), flush=True)


def talk(port: int) -> None:
    """For each line on stdin, JSON [seconds, whether to talk], print how long each round trip took."""
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{port}/ws", compression=None, ping_interval=None) as client:
        for line in sys.stdin:
            seconds, talks = json.loads(line)
            end, times = time.perf_counter() + seconds, []
            while (began := time.perf_counter()) < end - EVERY_SECONDS:
                if talks:
                    client.send('{"msg": "bob", "HEADERS": {"HX-Request": "true"}}')
                    client.recv()
                    times.append((time.perf_counter() - began) * 1000)
                time.sleep(max(0.0, began + EVERY_SECONDS - time.perf_counter()))
            print(json.dumps(times), flush=True)


def measure(quick: bool = False) -> Report:
    rounds, seconds = (2, 0.5) if quick else (10, PHASE_SECONDS)
    done: dict[str, list[float]] = {"alone": [], "silent": [], "talking": []}
    times: list[float] = []
    for _ in range(rounds):
        with _Child(0, "serve") as server:
            port = server.answer()
            server.ask(0.2)
            server.answer()
            for name in done:
                if name == "alone":
                    done[name].append(_computed(server, seconds))
                    continue
                with _Child(1, "talk", str(port)) as client:
                    client.ask([seconds, name == "talking"])
                    done[name].append(_computed(server, seconds))
                    times += client.answer()
    alone = statistics.median(done["alone"])
    lost = {name: 100 * (1 - statistics.median(each) / alone) for name, each in done.items()}
    p50, p90, p99 = (percentile(times, each) for each in (50, 90, 99))
    return Report(
        [
            Target("p50 of an echo while a cell computes", p50, 1, "ms"),
            Target("what the cell loses to a client that is silent", lost["silent"], 5, "%"),
            Target("what it loses to 50 messages a second", lost["talking"], 10, "%"),
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


def _computed(server: _Child, seconds: float) -> float:
    server.ask(seconds)
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
