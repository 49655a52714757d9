"""A chat and its like, on nbws or on FastHTML, in a process of its own: what the soaks and the control talk with.

    python soak_program.py nbws|fasthtml [LIMITS AS JSON]

The program is written in what the two have in common, and only its import line differs. It prints its port. Then each
line of input, ["question", argument, ...], is a call of one of its functions, answered by one line of JSON.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

CANARY = "canary-of-an-exception"
"""In the text of each exception that a handler raises. No client is to read it."""


class NotAnException(BaseException):
    pass


class Hostile(Exception):
    """It cannot even be shown."""

    def __str__(self) -> str:
        raise ValueError(CANARY)

    __repr__ = __str__


def recursion(n: int = 0) -> int:
    return recursion(n + 1) + 1


def no_memory() -> None:
    bytearray(1 << 62)


def thrower(exception: Callable[[str], BaseException]) -> Callable[[], Any]:
    def throw() -> None:
        raise exception(f"<b>{CANARY}</b>")

    return throw


RAISE: dict[str, Callable[[], Any]] = {
    **{
        kind.__name__: thrower(kind)
        for kind in (
            ValueError,
            Exception,
            BaseException,
            NotAnException,
            Hostile,
            KeyboardInterrupt,
            SystemExit,
            GeneratorExit,
            StopIteration,
            StopAsyncIteration,
            asyncio.CancelledError,
            asyncio.TimeoutError,
            ConnectionError,
            BrokenPipeError,
            AssertionError,
        )
    },
    "UnicodeDecodeError": lambda: (CANARY.encode() + b"\xff").decode(),
    "RecursionError": recursion,
    "MemoryError": no_memory,
    "a long text": thrower(lambda text: ValueError(text * 100_000)),
    "with a cause": lambda: RAISE["Hostile"](),
}
"""Name -> what raises it."""


class Program:
    """The routes, and what the soaks ask of them."""

    def __init__(self, lib: Any, app: Any) -> None:
        self.lib, self.app = lib, app
        self.handled: Counter[str] = Counter()
        self.left: list[Any] = []
        self._users: dict[str, Any] = {}
        self._chat()
        self._errors()
        self._pages()
        self.define(1)

    def _chat(self) -> None:
        def enter(ws, send):  # type: ignore[no-untyped-def]
            self._users[str(id(ws))] = send

        def leave(ws):  # type: ignore[no-untyped-def]
            self._users.pop(str(id(ws)), None)
            self.left.append({"id": str(id(ws)), "at": time.monotonic(), "code": (getattr(ws, "_close", 0) or [0])[0]})

        @self.app.ws("/chat", conn=enter, disconn=leave)
        async def chat(sent: int, size: int) -> None:
            self.handled["chat"] += 1
            fragment = self.lib.Div("x" * size, id="news", data_sent=sent)
            for send in list(self._users.values()):
                await send(fragment)

        @self.app.ws("/ws")
        @self.app.ws("/echo")
        async def echo(msg: str) -> Any:
            self.handled["echo"] += 1
            return self.lib.Div(msg, id="out")

        @self.app.ws("/slow")
        async def slow(msg: str, seconds: float) -> Any:
            self.handled["slow"] += 1
            await asyncio.sleep(seconds)
            return self.lib.Div(msg, id="out")

    def _errors(self) -> None:
        @self.app.ws("/raise/async")
        async def in_async(how: str) -> Any:
            return self.answer(how)

        @self.app.ws("/raise/def")
        def in_def(how: str) -> Any:
            return self.answer(how)

        @self.app.ws("/raise/async-generator")
        async def in_async_generator(how: str) -> Any:
            yield self.lib.Div("half-way", id="out")
            yield self.answer(how)

        @self.app.ws("/raise/generator")
        def in_generator(how: str) -> Any:
            yield self.lib.Div("half-way", id="out")
            yield self.answer(how)

        @self.app.get("/raise")
        async def in_page(how: str) -> Any:
            return self.answer(how)

    def answer(self, how: str) -> Any:
        """Raise what *how* names, or else say that all is well."""
        if how in RAISE:
            self.handled["raised"] += 1
            RAISE[how]()
        return self.lib.Div("well", id="out")

    def _pages(self) -> None:
        @self.app.get("/")
        def index() -> Any:
            return self.lib.Titled("page", self.lib.P("secret of the page"))

        @self.app.post("/form")
        def form(msg: str) -> str:
            self.handled["form"] += 1
            return msg

    # -- questions

    def define(self, number: int) -> None:
        """Define /versioned once more."""

        @self.app.ws("/versioned")
        async def versioned(msg: str) -> Any:
            return self.lib.Div(number, id="version")

    def what_was_handled(self) -> dict[str, int]:
        return dict(self.handled)

    def who_left(self) -> list[Any]:
        return self.left

    def error_count(self) -> int:
        """How many errors the author was told of, and can look at."""
        return int(self.app._reporter.count)


class Uvicorn:
    """FastHTML as `serve()` runs it, but on a free port of this machine alone."""

    def __init__(self, app: Any) -> None:
        import uvicorn

        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)


def main(library: str, limits: dict[str, Any]) -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # what handlers print is no answer
    lib = importlib.import_module(f"{library}.common")
    server: Any
    if library == "nbws":
        from nbws import Limits

        app = server = lib.FastHTML(exts="ws", port=0, limits=Limits(**limits))
        program = Program(lib, app)
        app.start()
    else:
        logging.disable(logging.CRITICAL)
        app = lib.FastHTML(exts="ws", secret_key="control")
        program = Program(lib, app)
        server = Uvicorn(app)

    def stop() -> float:
        begun = time.monotonic()
        server.stop()
        return time.monotonic() - begun

    print(json.dumps(server.port), file=answers, flush=True)
    for line in sys.stdin:
        question, *arguments = json.loads(line)
        try:
            answer = stop() if question == "stop" else getattr(program, question)(*arguments)
        except Exception:
            answer = {"failed": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {})
