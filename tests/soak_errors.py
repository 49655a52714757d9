"""Handlers that raise whatever Python has, 200 times a second.

    python tests/soak_errors.py                20 s
    python tests/soak_errors.py --seconds 60

No connection is closed and each still answers; the author gets tracebacks, but not a flood of them, and can look at all
that were kept; memory stays flat; and nothing of an exception's text reaches a client.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import httpx
from clients import HEADERS, Client, websocket
from soak import Program, Promises, running_program
from soak_program import CANARY, RAISE

from nbws.reporting import TRACEBACKS_SHOWN

KINDS = ("async", "def", "async-generator", "generator")
OF_EACH = 3  #: connections of one kind
PER_SECOND = 200.0
GROWTH_MB = 20.0
ANSWER_SECONDS = 10.0
WARM_UP = 0.25  #: of the time, after which the 200 errors that are kept have been replaced many times


@dataclass
class Found:
    """What was seen."""

    raised: int = 0
    closed: int = 0
    silent: int = 0  #: that did not answer in the end
    leaked: int = 0  #: frames and pages with the text of an exception
    growth: float = 0.0  #: of the server's memory after the warm-up, at the most, in MB
    statuses: set[int] = field(default_factory=set)  #: of pages that raise
    pages: int = 0  #: that raise
    incidents: int = 0  #: pages with an incident to ask the author about
    longest_ms: float = 0.0  #: of an echo beside all that


async def raising(program: Program, seconds: float) -> Found:
    found = Found()
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(websocket(program, f"/raise/{kind}"))
            for kind in KINDS
            for _ in range(OF_EACH)
        ]
        probe = await stack.enter_async_context(websocket(program, "/echo"))
        pages = await stack.enter_async_context(httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=30))
        reading = [asyncio.create_task(read(client, found)) for client in clients]
        echoing = asyncio.create_task(echo(probe, found))
        begun, base = time.monotonic(), None
        hows = itertools.cycle(RAISE)
        of_pages = itertools.cycle(how for how in RAISE if how != "CancelledError")  # which only the server may raise
        for client, n in zip(itertools.cycle(clients), itertools.count()):
            now = time.monotonic()
            if now > begun + seconds:
                break
            await asyncio.sleep(max(0.0, begun + n / PER_SECOND - now))
            if client is clients[0]:
                next(hows)  # so that each connection gets each kind
            found.raised += 1
            await client.socket.send(json.dumps({"how": next(hows), "HEADERS": HEADERS}))
            if n % 50 == 0:
                await look_at_page(pages, next(of_pages), found)
            if now > begun + seconds * WARM_UP:
                base = base if base is not None else program.memory()
                found.growth = max(found.growth, program.memory() - base)
        for client in clients:
            await client.say(how="nothing")
        await asyncio.wait(reading, timeout=ANSWER_SECONDS)
        found.silent = sum(not task.done() for task in reading)
        for task in (*reading, echoing):
            task.cancel()
        found.closed = sum(client.socket.close_code is not None for client in (*clients, probe))
    return found


async def read(client: Client, found: Found) -> None:
    """Until the client is told that all is well."""
    async for frame in client.socket:
        found.leaked += CANARY in str(frame)
        if ">well<" in str(frame):
            return


async def echo(client: Client, found: Found) -> None:
    while True:
        begun = time.monotonic()
        await client.ask(msg="hi")
        found.longest_ms = max(found.longest_ms, (time.monotonic() - begun) * 1000)
        await asyncio.sleep(0.02)


async def look_at_page(pages: httpx.AsyncClient, how: str, found: Found) -> None:
    answer = await pages.get("/raise", params={"how": how})
    found.pages += 1
    found.statuses.add(answer.status_code)
    found.leaked += CANARY in answer.text or any(CANARY in value for value in answer.headers.values())
    found.incidents += bool(re.search("incident [0-9a-f]{8}", answer.text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    promises = Promises()
    with running_program("nbws") as program:
        found = asyncio.run(raising(program, options.seconds))
        raised = program.ask("what_was_handled")["raised"]
        told, written = program.ask("error_count"), program.errors
    shown = {kind: written.count(f" on WS /raise/{kind}: ") for kind in KINDS}
    print(f"{found}\ntracebacks shown: {shown}; written in all: {len(written) / 1e6:.1f} MB")
    promises.equal("connections closed", found.closed, 0)
    promises.equal("connections that do not answer", found.silent, 0)
    promises.equal("errors that the author was told of", told, raised)
    promises.equal("is each raised", raised >= found.raised * 0.99, True)
    promises.equal("tracebacks shown of each handler", set(shown.values()), {TRACEBACKS_SHOWN})
    promises.equal("frames and pages with an exception's text", found.leaked, 0)
    promises.equal("statuses of pages that raise", found.statuses, {500})
    promises.equal("pages that name an incident", found.incidents, found.pages)
    promises.at_most("growth of the server", found.growth, GROWTH_MB, " MB")
    promises.at_most("written for the author", len(written) / 1e6, 5.0, " MB")
    promises.at_most("somebody else's echo", found.longest_ms, 250.0, " ms")
    promises.exit()


if __name__ == "__main__":
    main()
