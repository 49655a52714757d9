"""The same program on nbws and on FastHTML, asked the same questions.

    python benchmarks/control.py            about two minutes
    python benchmarks/control.py --print    writes nothing

FastHTML is no dependency of nbws: `pip install python-fasthtml`. The program is tests/soak_program.py, which differs in
its import line alone. What is found is printed, and written into docs/coming-from-fasthtml.md.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import re
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from report import environment, written_into

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))
import httpx  # noqa: E402
import raw  # noqa: E402
from clients import Client, until, websocket  # noqa: E402
from raw import handshake  # noqa: E402
from soak import Program, running_program  # noqa: E402
from soak_program import CANARY  # noqa: E402
from soak_slow_peer import FAST, FLOOD, slow_peer  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402

PAGE = HERE.parent / "docs" / "coming-from-fasthtml.md"
LIBRARIES = ("nbws", "fasthtml")
PACKAGES = ("nbws", "python-fasthtml", "starlette", "uvicorn", "websockets")
SOCKETS = 20
FLOOD_SECONDS = 8.0
HALF_SENT, HALF_SECONDS = 50, 13.0  #: handshakes, and how long is waited for them to be given up
DEEP = 100_000  #: levels of nesting
MISSED = 20  #: fragments
FOREIGN = "https://evil.example"

Probe = Callable[[Program], Awaitable[str]]


async def swapped(program: Program) -> str:
    """A handler is defined once more under open websockets."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(websocket(program, "/versioned")) for _ in range(SOCKETS)]
        for client in clients:
            await client.ask(msg="hi")
        program.ask("define", 2)
        answers = [str(await client.ask(msg="hi")) for client in clients]
    new = sum(re.search(r">\s*2\s*<", answer) is not None for answer in answers)
    return f"{new} of {SOCKETS} get the new one"


async def failed(program: Program) -> str:
    """A handler raises."""
    async with websocket(program, "/raise/async") as client:
        await client.say(how="BrokenPipeError")
        if await is_answered(client):
            return "the websocket stays open"
        return f"the websocket is closed ({client.socket.close_code})"


async def is_answered(client: Client) -> bool:
    try:
        return "well" in str(await client.ask(how="nothing"))
    except ConnectionClosed:
        return False


async def leaked(program: Program) -> str:
    """A handler raises a ValueError; is its text sent?"""
    async with websocket(program, "/raise/async") as client:
        try:
            await client.say(how="ValueError")
            await client.say(how="nothing")
            heard = str(await client.hear())
        except ConnectionClosed:
            heard = ""
    if CANARY not in heard:
        return "to nobody but the author"
    return f"to the client, {'unescaped' if f'<b>{CANARY}' in heard else 'escaped'}"


async def streamed(program: Program) -> str:
    """A handler is a generator."""
    async with websocket(program, "/raise/async-generator") as client:
        try:
            heard = [str(await client.ask(how="nothing")), str(await client.hear())]
        except (ConnectionClosed, TimeoutError, asyncio.TimeoutError):
            return "the websocket is closed" if client.socket.close_code else "nothing is sent"
    return "each item is sent" if "half-way" in heard[0] and "well" in heard[1] else "something else is sent"


async def held_up(program: Program) -> str:
    """One peer of four stops reading."""
    found = await slow_peer(program, FLOOD_SECONDS, FLOOD)
    if found.never_came:
        return f"the others freeze: {found.never_came:,} of {found.messages * FAST:,} fragments never come"
    gone = f", and it is closed after {found.gone_after:.1f} s" if found.gone_after is not None else ""
    return f"the others wait {found.longest_wait:.0f} ms at the most{gone}"


async def foreign_websocket(program: Program) -> str:
    """A page of another origin opens a websocket."""
    return await opened(program, additional_headers={"Origin": FOREIGN})


async def rebound_websocket(program: Program) -> str:
    """A page whose name was rebound to this machine opens a websocket."""
    host = f"evil.example:{program.port}"
    return await opened(program, additional_headers={"Origin": f"http://{host}", "Host": host})


async def opened(program: Program, **options: Any) -> str:
    before = program.ask("what_was_handled").get("echo", 0)
    try:
        async with websocket(program, "/echo", **options) as client:
            await client.ask(msg="hi")
    except InvalidStatus as exc:
        return f"refused with {exc.response.status_code}"
    return f"let in, {program.ask('what_was_handled')['echo'] - before} message handled"


async def foreign_post(program: Program) -> str:
    """A page of another origin posts a form."""
    async with httpx.AsyncClient(base_url=program.url, trust_env=False) as client:
        answer = await client.post("/form", data={"msg": "hi"}, headers={"Origin": FOREIGN})
    handled = program.ask("what_was_handled").get("form", 0)
    return f"handled ({answer.status_code})" if handled else f"refused with {answer.status_code}"


async def half_sent(program: Program) -> str:
    """Handshakes are begun and never finished."""
    ended: list[float] = []

    async def begin() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", program.port)
        begun = time.monotonic()
        try:
            writer.write(handshake(program.port)[:-2].encode())
            await asyncio.wait_for(reader.read(), HALF_SECONDS)
            ended.append(time.monotonic() - begun)
        except (TimeoutError, asyncio.TimeoutError):
            pass
        finally:
            writer.transport.abort()

    await asyncio.gather(*(begin() for _ in range(HALF_SENT)))
    if not ended:
        return f"{HALF_SENT} of {HALF_SENT} are open after {HALF_SECONDS:g} s"
    return f"{len(ended)} of {HALF_SENT} are closed, after {max(ended):.0f} s"


async def deep(program: Program) -> str:
    """A message is nested 100,000 levels deep."""
    async with websocket(program, "/echo") as client:
        await client.socket.send('{"msg":' * DEEP + "1" + "}" * DEEP)
        return await fate_of(client)


async def odd(program: Program) -> str:
    """A message is `null`."""
    async with websocket(program, "/echo") as client:
        await client.socket.send("null")
        return await fate_of(client)


async def fate_of(client: Client) -> str:
    """Whether it is still served after a message that is none."""
    try:
        answer = str(await client.ask(msg="hi"))
    except ConnectionClosed:
        return f"the websocket is closed ({client.socket.close_code})"
    return "it is dropped, the websocket stays open" if "hi" in answer else "something else is sent"


async def pieces(program: Program) -> str:
    """Another process sends one message in empty pieces without end: does somebody else wait?"""
    waits = []
    async with websocket(program, "/ws") as probe:
        command = (sys.executable, raw.__file__, str(program.port), "empty pieces")
        flood = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            assert flood.stdout is not None
            await flood.stdout.readline()
            end = time.monotonic() + FLOOD_SECONDS / 2
            while time.monotonic() < end:
                begun = time.monotonic()
                await asyncio.wait_for(probe.ask(msg="hi"), 30)
                waits.append(time.monotonic() - begun)
                await asyncio.sleep(0.01)
        finally:
            flood.kill()
            await flood.wait()
    return f"an echo takes {statistics.median(waits) * 1000:.0f} ms, {max(waits) * 1000:.0f} ms at the most"


class Page:
    """What the page's own script does to come back: with FastHTML, htmx connects anew."""

    def __init__(self, program: Program, library: str) -> None:
        self._program, self._resumes = program, library == "nbws"
        self._key, self._received = "", 0

    async def visit(self, seconds: float, cut: bool) -> list[str]:
        """The messages that come within so many *seconds*."""
        value = f"{self._key}.{self._received}" if self._key else ""
        path = f"/chat?nbws-resume={value}" if self._resumes else "/chat"
        heard: list[str] = []
        async with websocket(self._program, path) as client:
            if self._resumes:
                self._key = json.loads(str(await client.hear())[5:])["key"]
            try:
                while True:
                    came = str(await asyncio.wait_for(client.socket.recv(), seconds))
                    heard += re.findall(r'data-sent="(\d+)"', came)
                    self._received += 1
            except (TimeoutError, asyncio.TimeoutError):
                pass
            if cut:
                client.vanish()
        return heard


def came_back(library: str) -> Probe:
    async def probe(program: Program) -> str:
        """A connection is cut, and its page comes back."""
        page = Page(program, library)
        await page.visit(0.3, cut=True)
        async with websocket(program, "/chat") as other:
            for n in range(MISSED):
                try:
                    await other.say(sent=n, size=10)
                    await asyncio.wait_for(other.socket.recv(), 5)
                except (ConnectionClosed, TimeoutError, asyncio.TimeoutError):
                    return "who was talking is closed too"
            heard = await page.visit(0.5, cut=False)
        return f"{len(set(heard))} of {MISSED} missed fragments reach it"

    return probe


async def stopped(program: Program) -> str:
    """The server stops while a handler runs for a second."""
    async with websocket(program, "/slow") as client:
        await client.say(msg="in flight", seconds=1)
        await until(lambda: program.ask("what_was_handled").get("slow"))
        stopping = asyncio.create_task(asyncio.to_thread(program.ask, "stop"))
        try:
            answered = "in flight" in str(await client.hear())
        except ConnectionClosed:
            answered = False
        seconds = await stopping
        await client.close_code()
        said = "its reply arrives" if answered else "its reply is lost"
        return f"{said}, then {client.socket.close_code}; {seconds:.1f} s in all"


QUESTIONS: dict[str, Callable[[str], Probe]] = {
    f"a handler is defined again under {SOCKETS} open websockets": lambda library: swapped,
    "a handler raises": lambda library: failed,
    "the text of its `ValueError` goes": lambda library: leaked,
    "a handler is an async generator": lambda library: streamed,
    f"one peer of {FAST + 1} stops reading a chat": lambda library: held_up,
    "a page of another origin opens a websocket": lambda library: foreign_websocket,
    "a page whose name was rebound to 127.0.0.1 does": lambda library: rebound_websocket,
    "a page of another origin posts a form": lambda library: foreign_post,
    f"{HALF_SENT} handshakes are begun and never finished": lambda library: half_sent,
    "a message is nested 100,000 levels deep": lambda library: deep,
    "a message is `null`": lambda library: odd,
    "somebody sends one message in tiny pieces without end": lambda library: pieces,
    f"a connection is cut, and back after {MISSED} fragments": came_back,
    "the server stops while a handler runs for a second": lambda library: stopped,
}
"""What happens -> what finds out, given the library."""


def answered(library: str, question: str) -> str:
    """What came of it, with a program of its own."""
    with running_program(library) as program:
        try:
            return asyncio.run(asyncio.wait_for(QUESTIONS[question](library)(program), 60))
        except (TimeoutError, asyncio.TimeoutError):
            return "no answer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="write nothing")
    parser.add_argument("--only", default="", help="questions with this in them")
    options = parser.parse_args()
    if importlib.util.find_spec("fasthtml") is None:
        sys.exit("control: there is no FastHTML here to compare with; pip install python-fasthtml")
    lines = ["| what happens | nbws | FastHTML |", "|---|---|---|"]
    for question in QUESTIONS:
        if options.only in question:
            lines.append(f"| {question} | {' | '.join(answered(library, question) for library in LIBRARIES)} |")
            print(lines[-1], flush=True)
    text = "\n".join([*lines, "", environment(PACKAGES)])
    if not options.print and not options.only:
        page = written_into(PAGE.read_text(encoding="utf-8"), "control", text, "benchmarks/control.py")
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
