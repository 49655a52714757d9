"""How long it takes from the end of a cell until a message is taken up by the handler that the cell defined.

A real Jupyter kernel runs the cells, with the ids that JupyterLab sends, and another process holds the connections. An
IPython shell in this process would run the same hooks, but not what competes with the server for the interpreter while
a cell ends in a kernel: the execution reply, and the threads that carry output and history.

The last line of the cell notes the time, before IPython has told anybody that the cell has ended; the first line of the
new handler notes it again, both in the kernel. So the time holds what IPython does after a cell, the publication by
nbws, the wait for the interpreter (the kernel's main thread goes on with its own work) and the wait for a message,
which is a millisecond at the most where messages come as evenly as they are sent.

The next cell comes 30 to 60 ms after the end of the one before: a cell that runs takes the interpreter from the server
for up to 5 ms at a time (`sys.getswitchinterval`), whatever it does.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import Report, Table, Target, percentile

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))
from kernel import Kernel  # noqa: E402

LIMIT = 5.0  #: milliseconds, for the 99th percentile with 1,000 connections
SENDERS = 100  #: connections that send; the others are silent
MESSAGES_PER_SECOND = 1000  #: of all senders together
SWAPS = 200  #: of one row
ROW_SECONDS = 20.0  #: after which a row has as many swaps as it has
PAUSE = (0.03, 0.06)  #: seconds from the end of a cell to the next one, at random
PACKAGES = ("nbws", "uvicorn", "websockets", "uvloop", "httptools", "ipykernel", "ipython")

SETUP = """
import sys
sys.path.append({here!r})
from swap_probe import Probe
probe = Probe(get_ipython())
from nbws import App
app = App("swap latency")
probe.listen_after_nbws()
"""

OTHER_ROUTES = """
for n in range(25):
    @app.get(f"/page/{n}")
    def page(): return "a page"
    @app.ws(f"/other/{n}")
    async def other(text: str): return text
"""

HOOKS = """
def joined(ws):
    ws.state["moves"], ws.state["lines"] = 0, ["one", "two", "three"]

def migrate(ws, state, old, new):
    probe.migration(new)
    state["moves"] += 1
"""

HANDLER = """
@app.ws("/ws", conn=joined{swap})
async def answer(sent: int, ws):
    probe.message({version})
    ws.send_text(f"{{sent}} {version}")
probe.cell_ends({version})
"""


@dataclass(frozen=True)
class Swap:
    """One swap; all times in ms, from the end of the cell where nothing else is said."""

    first_message: float
    first_answer: float  #: at a client
    last_migration: float  #: of all connections; 0 where there is no hook
    publish_time: float  #: what nbws adds to the end of the cell
    publish_cpu: float


@dataclass(frozen=True)
class Series:
    """Many swaps with so many *connections*, with a swap hook or without. *round_trips* are in ms."""

    connections: int
    has_hook: bool
    swaps: list[Swap]
    round_trips: list[float]
    seconds: float

    def row(self, *figures: str) -> tuple[str, ...]:
        return (f"{self.connections:,}", "yes" if self.has_hook else "no", *figures)

    def percentiles(self, what: str, *percents: float) -> list[str]:
        values = [getattr(swap, what) for swap in self.swaps]
        return [f"{percentile(values, percent):.2f}" for percent in percents]


def measure(quick: bool = False) -> Report:
    counts, swaps = ((1, 20), 10) if quick else ((1, 100, 1000), SWAPS)
    every = [_series(connections, has_hook, swaps) for connections in counts for has_hook in (False, True)]
    latency = Table(
        "Milliseconds from the end of the cell to its first message, and to the first answer at a client:",
        ("connections", "swap hook", "swaps", "p50", "p90", "p99", "max", "answer p50", "p99"),
        [
            s.row(
                str(len(s.swaps)),
                *s.percentiles("first_message", 50, 90, 99, 100),
                *s.percentiles("first_answer", 50, 99),
            )
            for s in every
        ],
    )
    around = Table(
        "Milliseconds that publishing takes, CPU alone, until every connection is migrated, and of a round trip:",
        ("connections", "swap hook", "publish p50", "p99", "CPU p50", "migrated p50", "p99", "round trip p50", "p99"),
        [
            s.row(
                *s.percentiles("publish_time", 50, 99),
                *s.percentiles("publish_cpu", 50),
                *(s.percentiles("last_migration", 50, 99) if s.has_hook else ("", "")),
                *(f"{percentile(s.round_trips, percent):.2f}" for percent in (50, 99)),
            )
            for s in every
        ],
    )
    targets = [
        Target(
            f"p99 with {s.connections:,} connections, {'with' if s.has_hook else 'without'} a swap hook",
            percentile([swap.first_message for swap in s.swaps], 99),
            LIMIT,
            "ms",
        )
        for s in every
        if s.connections == counts[-1]
    ]
    rate = sum(len(s.round_trips) for s in every) / sum(s.seconds for s in every)
    note = (
        f"Of {MESSAGES_PER_SECOND:,} messages a second to be sent by up to {SENDERS} connections, "
        f"{rate:,.0f} were answered; 51 endpoints."
    )
    return Report(targets, [latency, around], note, PACKAGES)


def _series(connections: int, has_hook: bool, swaps: int) -> Series:
    print(f"{connections:,} connections, {'with' if has_hook else 'without'} a swap hook ...", flush=True)
    swap = ", swap=migrate" if has_hook else ""
    migrations = connections if has_hook else 0
    pauses = random.Random(connections)
    with Kernel() as kernel:
        kernel.check("setup", SETUP.format(here=str(HERE)))
        kernel.check("routes", OTHER_ROUTES)
        kernel.check("hooks", HOOKS)
        kernel.check("handler", HANDLER.format(swap=swap, version=1))
        kernel.check("start", "app.start()")
        url, token = kernel.check("ask", "print(app.url, app.token)").stdout.split()
        with _clients(f"{url.replace('http', 'ws')}/ws?token={token}", connections) as clients:
            begin = time.perf_counter()
            kernel.check("wait", "probe.wait(migrations=0)")
            for version in range(2, swaps + 2):
                if time.perf_counter() - begin > ROW_SECONDS:
                    break
                kernel.check("handler", HANDLER.format(swap=swap, version=version))
                time.sleep(pauses.uniform(*PAUSE))
                kernel.check("wait", f"probe.wait({migrations=})")
            output, _ = clients.communicate(timeout=30)
            seconds = time.perf_counter() - begin
        seen = json.loads(output)
        times = json.loads(kernel.check("report", "probe.report()").stdout)
    return Series(
        connections,
        has_hook,
        [_swap(times[version], seen["first_answers"][version]) for version in times if version != "1"],
        [ns / 1e6 for ns in seen["round_trips"]],
        seconds,
    )


def _swap(times: dict[str, int], first_answer: int) -> Swap:
    end = times["cell_end"]
    return Swap(
        first_message=(times["first_message"] - end) / 1e6,
        first_answer=(first_answer - end) / 1e6,
        last_migration=(times.get("last_migration", end) - end) / 1e6,
        publish_time=times["publish_time"] / 1e6,
        publish_cpu=times["publish_cpu"] / 1e6,
    )


@contextmanager
def _clients(url: str, connections: int) -> Iterator[subprocess.Popen[str]]:
    numbers = (connections, min(connections, SENDERS), MESSAGES_PER_SECOND)
    command: list[Any] = [sys.executable, HERE / "swap_clients.py", url, *map(str, numbers)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "connected\n":
                raise RuntimeError("the clients did not connect; what they printed says why")
            yield process
        finally:
            process.kill()
