"""One peer that never reads, among three that do, in a chat that broadcasts fragments of 10 KB.

    python tests/soak_slow_peer.py              30 s of a flood, and 12 s of few messages
    python tests/soak_slow_peer.py --control    the same with FastHTML, 10 s each; nothing is promised

In the flood the peer's outbox overflows, with few messages it is closed because it takes nothing. Either way the others
notice nothing of it, and it is gone within six seconds of its stall.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import re
import struct
import termios
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from clients import HEADERS, Client, websocket
from soak import Program, Promises, running_program

FRAGMENT_BYTES = 10_000
FAST = 3  #: peers that read
FLOOD, FEW = 200.0, 10.0  #: messages a second
WAIT_MS, GROWTH_MB, GONE_SECONDS = 250.0, 20.0, 6.0


@dataclass
class Found:
    """What was seen of one run."""

    messages: int
    longest_wait: float  #: of a fast peer for any fragment, in ms; one that never came counts to the end
    never_came: int  #: fragments, of all fast peers together
    growth: float  #: of the server's memory at the most, in MB
    gone_after: float | None  #: seconds from the stall to `disconn`; None where it did not run
    code: int | None  #: with which the server closed it
    disconns: int


class Peer:
    """A peer that reads, and notes when each fragment came."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.came: dict[int, float] = {}  # when it was sent, in ns -> ms that it took

    async def read(self) -> None:
        async for frame in self.client.socket:
            now = time.monotonic_ns()
            sent = re.search(r'data-sent="(\d+)"', str(frame)[:200])
            if sent is not None:
                self.came[int(sent[1])] = (now - int(sent[1])) / 1e6


async def slow_peer(program: Program, seconds: float, per_second: float) -> Found:
    """Let one fast peer have *program* broadcast *per_second* times, for so many *seconds*."""
    async with AsyncExitStack() as stack:
        peers = [Peer(await stack.enter_async_context(websocket(program, "/chat"))) for _ in range(FAST)]
        reading = [asyncio.create_task(peer.read()) for peer in peers]
        before = await said(program, peers, 20)
        memory = program.memory()
        stuck = await stack.enter_async_context(websocket(program, "/chat"))
        stuck.stop_reading()
        begun = time.monotonic()
        growth, stalled_at, waiting = 0.0, begun, 0
        sent: list[int] = []
        while (now := time.monotonic()) < begun + seconds:
            if len(sent) < (now - begun) * per_second:
                sent.append(await say(peers[0]))
            else:
                await asyncio.sleep(0.5 / per_second)
            if unread(stuck) > waiting:
                waiting, stalled_at = unread(stuck), now
            growth = max(growth, program.memory() - memory)
        last = time.monotonic_ns()
        await until_all_came(peers, sent)
        left = program.ask("who_left")
        stuck.vanish()
        for task in reading:
            task.cancel()
    waits = [[peer.came.get(at, (last - at) / 1e6) for at in sent] for peer in peers]
    return Found(
        messages=len(sent),
        longest_wait=max(max(each) for each in waits),
        never_came=sum(at not in peer.came for at in sent for peer in peers),
        growth=growth,
        gone_after=left[before]["at"] - stalled_at if len(left) > before else None,
        code=left[before]["code"] if len(left) > before else None,
        disconns=len(left) - before,
    )


async def say(peer: Peer) -> int:
    """Have a fragment broadcast. Gives when, in ns."""
    now = time.monotonic_ns()
    await peer.client.socket.send(json.dumps({"sent": now, "size": FRAGMENT_BYTES, "HEADERS": HEADERS}))
    return now


async def said(program: Program, peers: list[Peer], times: int) -> int:
    """Warm up. Gives how many have left before."""
    await until_all_came(peers, [await say(peers[0]) for _ in range(times)])
    return len(program.ask("who_left"))


async def until_all_came(peers: list[Peer], sent: list[int], seconds: float = 2.0) -> None:
    """Wait for what was sent; so many *seconds* at the most, for it may never come."""
    for _ in range(round(seconds / 0.01)):
        if all(at in peer.came for at in sent for peer in peers):
            return
        await asyncio.sleep(0.01)


def unread(client: Client) -> int:
    """Bytes that its system holds for it."""
    sock: Any = client.socket.transport.get_extra_info("socket")
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0"))[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, help="of the flood; 30, and 10 of the control")
    parser.add_argument("--control", action="store_true", help="with FastHTML")
    options = parser.parse_args()
    library = "fasthtml" if options.control else "nbws"
    seconds = options.seconds or (10.0 if options.control else 30.0)
    promises = Promises()
    for what, per_second, lasts in (("a flood", FLOOD, seconds), ("few messages", FEW, min(seconds, 12.0))):
        print(f"== {library}: {what}, {per_second:g} a second for {lasts:g} s", flush=True)
        with running_program(library) as program:
            found = asyncio.run(slow_peer(program, lasts, per_second))
        print(found)
        if not options.control:
            promises.at_most("a fast peer's longest wait", found.longest_wait, WAIT_MS, " ms")
            promises.equal("fragments that never came", found.never_came, 0)
            promises.at_most("growth of the server", found.growth, GROWTH_MB, " MB")
            promises.at_most("gone after its stall", found.gone_after or lasts, GONE_SECONDS, " s")
            promises.equal("its close code", found.code, 1013)
            promises.equal("disconns", found.disconns, 1)
    promises.exit()


if __name__ == "__main__":
    main()
