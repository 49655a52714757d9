"""What the script of a page talks to: it hands messages in, and is handed what cells show and what clients are sent.

"run" (cell, number, source) runs a cell and is answered by "shown" (cell, what it shows) while it runs and by "ran"
(cell, ok, apps) at its end. All other messages are those of `clients`. "told" (text) is a notice to the author.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import anyio.to_thread

from nbws.app import App
from nbws.errors import described
from nbws.inpage.cells import Cells
from nbws.inpage.clients import Clients
from nbws.notebook.file import Cell
from nbws.runs import Development, developing
from nbws.serving import find_app
from nbws.speaking import speaker

__all__ = ["Host", "host_in_worker"]

Post = Callable[[Mapping[str, Any]], None]


class Host:
    """A notebook and its clients in one page. Works while `present()` is entered, and on one loop only."""

    def __init__(self, post: Post, names: dict[str, Any]) -> None:
        self._post = post
        self.cells = Cells(names, self._show)
        self.clients = Clients(self._find, post)
        self._running: set[asyncio.Task[None]] = set()

    @contextmanager
    def present(self) -> Iterator[Host]:
        """Let this process be the page: what cells define is staged, nothing needs a thread, prints are heard."""
        in_thread = anyio.to_thread.run_sync
        teller = _Teller(self._post)
        with (
            developing(Development(runs=self.cells, in_page=True)),
            redirect_stdout(_Stream("stdout", self.cells)),
            redirect_stderr(_Stream("stderr", self.cells)),
        ):
            logging.getLogger("nbws").addHandler(teller)
            anyio.to_thread.run_sync = _run_here  # type: ignore[assignment]
            try:
                yield self
            finally:
                anyio.to_thread.run_sync = in_thread
                logging.getLogger("nbws").removeHandler(teller)

    def receive(self, message: Mapping[str, Any]) -> None:
        """Take one message. Returns at once, and never raises for what an author or a reader has done."""
        if message["kind"] != "run":
            self.clients.receive(message)
            return
        task = asyncio.create_task(self._run(Cell(message["cell"], message["number"], message["source"])))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _show(self, cell: str, what: Mapping[str, Any]) -> None:
        self._post({"kind": "shown", "cell": cell, **what})

    async def _run(self, cell: Cell) -> None:
        try:
            error = await self.cells.run(cell)
        except Exception as exc:  # not the cell's: the page waits for its end all the same
            error = exc
            self._show(cell.id, {"shows": "error", "title": described(exc), "text": traceback.format_exc()})
        apps = [app.number for app in self.cells.apps]
        own = find_app(self.cells.names)
        told = {"apps": apps, "own": own.number if own is not None else None}
        self._post({"kind": "ran", "cell": cell.id, "ok": error is None, **told})

    def _find(self, number: int | None) -> App | None:
        if number is None:
            return find_app(self.cells.names)
        return next((app for app in self.cells.apps if app.number == number), None)


_for_good = ExitStack()  #: holds what would end when nobody refers to it


def host_in_worker(hand: Callable[[str, Any], None]) -> Callable[..., None]:
    """For a web worker, whose process this is from now on: gives what takes its messages.

    A message goes in and out as JSON, and what is bytes in it beside that, as "data".
    """
    from pyodide.ffi import to_js

    def post(message: Mapping[str, Any]) -> None:
        data = message.get("data")
        if isinstance(data, bytes):
            hand(json.dumps({**message, "data": None}), to_js(data))
        else:
            hand(json.dumps(message), None)

    host = Host(post, vars(sys.modules["__main__"]))
    _for_good.enter_context(host.present())

    def receive(text: str, data: Any = None) -> None:
        message = json.loads(text)
        host.receive(message if data is None else {**message, "data": data.to_bytes()})

    return receive


async def _run_here(function: Callable[..., Any], *args: Any, **_: Any) -> Any:
    """What `anyio.to_thread.run_sync` is where there is no thread to run anything in."""
    await asyncio.sleep(0)
    return function(*args)


class _Stream(io.TextIOBase):
    """Hands what a handler prints to its app, and what a cell prints to that cell."""

    def __init__(self, name: str, cells: Cells) -> None:
        self._name, self._cells = name, cells

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        whose = speaker.get()
        if whose is not None:
            whose.app.hear(whose, self._name, text)
        else:
            self._cells.hear(self._name, text)
        return len(text)


class _Teller(logging.Handler):
    """Posts what nbws warns of. Errors of handlers are told by the feed."""

    def __init__(self, post: Post) -> None:
        super().__init__(logging.WARNING)
        self._post_of_page = post

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR:
            self._post_of_page({"kind": "told", "text": record.getMessage()})
