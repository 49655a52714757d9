"""The app that the machines drive: real, with a stand-in for IPython's shell, in process or over sockets.

In process there is no network, no thread and no clock: the loop runs until nothing is left to do, and time passes
when it is told to. So what happens in which order is decided by the test alone.
"""

from __future__ import annotations

import asyncio
import html
import re
import selectors
import threading
from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from machine_model import BROKEN, CLOSED_BY_HANDLER, HOOKS, PATHS, Error, Fn, Frame, Written

import nbws.app
from nbws import App
from nbws.binding import Bound
from nbws.common import P
from nbws.dispatch import HandlerError
from nbws.endpoints import Endpoint
from nbws.handlers import WEBSOCKET, HandlerTable, Key, Version
from nbws.notebook.kernel import Notebook


class Boom(Exception):
    """What handlers and hooks raise here."""


class Copy:
    """Which making of a function it is. A function that holds one in its closure is the same code whichever it is."""

    def __init__(self, number: int) -> None:
        self.number = number


class Shell:
    """What nbws sees of IPython's shell in a kernel."""

    displayhook = kernel = None

    def __init__(self) -> None:
        self.user_ns: dict[str, Any] = {"act": self._act}
        self.events = self
        self._hooks: dict[str, list[Callable[[Any], None]]] = {"pre_run_cell": [], "post_run_cell": []}
        self._parent: dict[str, Any] = {}
        self._asked = 0
        self._infos: list[Any] = []
        self._code = compile("act(acting)", "<cell>", "exec")

    def register(self, event: str, hook: Callable[[Any], None]) -> None:
        self._hooks[event].append(hook)

    def register_magic_function(self, function: Any, kind: str, name: str) -> None:
        """No cell of the machine is a magic one."""

    def get_parent(self) -> dict[str, Any]:
        return self._parent

    def begin(self, cell: str | None) -> None:
        self._asked += 1
        metadata = {} if cell is None else {"cellId": cell}
        self._parent = {"header": {"msg_id": f"request-{self._asked}"}, "metadata": metadata}
        self._infos.append(SimpleNamespace(raw_cell="...", silent=False))
        for hook in self._hooks["pre_run_cell"]:
            hook(self._infos[-1])

    def end(self, *, succeeded: bool) -> None:
        result = SimpleNamespace(info=self._infos.pop(), success=succeeded, error_in_exec=None)
        for hook in self._hooks["post_run_cell"]:
            hook(result)

    def act(self, acting: Callable[[], None]) -> None:
        """Do it as the code of a notebook does."""
        exec(self._code, self.user_ns, {"acting": acting})

    @staticmethod
    def _act(acting: Callable[[], None]) -> None:
        acting()


class QuietNotebook(Notebook):
    """Keeps what would be printed under cells."""

    def __init__(self, shell: Shell) -> None:
        super().__init__(shell)
        self.shown: list[str] = []

    def write_under(self, parent: Any, text: str, stream: str = "stderr") -> None:
        self.shown.append(text)


class WatchedApp(App):
    """An app on which something can happen right after its table was looked at, as another thread may do it."""

    after_next_look: Callable[[], None] | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        self.reported: list[HandlerError] = []
        self.opened = 0
        super().__init__(*args, **options)

    def hook(self, key: Key, name: str) -> tuple[Bound | None, Version | None]:
        found = super().hook(key, name)
        self.opened += name == "conn"
        return found

    def report(self, error: HandlerError, retry: Callable[[], None] | None = None) -> None:
        super().report(error, retry)
        self.reported.append(error)

    @property
    def table(self) -> HandlerTable:
        seen = self._watched_table
        act, self.after_next_look = self.after_next_look, None
        if act is not None:
            act()
        return seen

    @table.setter
    def table(self, table: HandlerTable) -> None:
        self._watched_table = table


class Peer:
    """A client, as the server sees it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.heard: list[str] = []
        self.close_code: int | None = None
        self.is_connected = True  #: until its end has been seen to the end
        self.was_refused = False

    def took(self, text: str) -> None:
        self.heard.append(html.unescape(re.sub("<[^>]*>", "", text)))


class World:
    """An app, its notebook and its clients. `calls` are those of each client's connection, in their order."""

    has_clock = True  #: whether time passes only when it is told to, and everything in the order that it is done in

    def __init__(self, *, has_cells: bool, **options: Any) -> None:
        self.shell = Shell()
        self.notebook = QuietNotebook(self.shell)
        with (
            patch.object(nbws.app, "this_notebook", lambda: self.notebook if has_cells else None),
            patch.object(nbws.app, "runs_here", lambda: self.notebook.cells if has_cells else None),
        ):
            self.app = WatchedApp(port=0, **options)
        self.peers: list[Peer] = []
        self.calls: dict[int, list[Any]] = {}
        self.errors: dict[int, list[Error]] = {}
        self.is_ending = False
        self.warnings: list[Any] = []  #: of the loop: tasks that died
        self._copies = 0
        self._gates: dict[int, asyncio.Future[None]] = {}
        self._numbers: dict[str, int] = {}  # of the connections' ids
        self._errors_seen = 0
        self._migrations = [None, self._migration(1), self._migration(2)]

    # -- what the notebook's code does

    def new_copy(self) -> int:
        self._copies += 1
        return self._copies

    def define_hook(self, kind: str, fn: Fn) -> None:
        self.shell.user_ns[HOOKS[kind]] = self._hook(kind, fn)

    def define(self, path: str, written: Written) -> None:
        hooks = {kind: self.shell.user_ns[HOOKS[kind]] for kind in written.hooks}
        handler = self._handler(written.body.code, Copy(written.body.copy))
        self.app.ws(path, **hooks, swap=self._migrations[written.swap])(handler)

    def define_broken(self, path: str) -> None:
        @self.app.ws(path)
        async def handle(nonsense): ...

    def endpoint(self, path: str) -> Endpoint:
        return Endpoint(Key(WEBSOCKET, path), self.app)

    def retry(self, path: str) -> None:
        self.endpoint(path).retry()

    def elsewhere(self, act: Callable[[], None]) -> None:
        """Do it in a thread that belongs to no cell. Raises what it raises."""
        raised: list[BaseException] = []

        def run() -> None:
            try:
                self.shell.act(act)
            except BaseException as exc:
                raised.append(exc)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        for exc in raised:
            raise exc

    # -- handlers and hooks

    def _handler(self, code: int, copy: Copy) -> Callable[..., Any]:
        world = self

        async def handle(n: int, do: str, ws: Any) -> P:
            world._begins(ws, code, copy, n, do)
            ws.send(P(code, "/", n, "/begins", id="out"))
            await world._gate(ws, do)
            return world._ends(ws, code, copy, n, do)

        async def handle_as_async_generator(n: int, do: str, ws: Any) -> Any:
            world._begins(ws, code, copy, n, do)
            yield P(code, "/", n, "/begins", id="out")
            await world._gate(ws, do)
            yield world._ends(ws, code, copy, n, do)

        def handle_in_thread(n: int, do: str, ws: Any) -> P:
            world._begins(ws, code, copy, n, do)
            ws.send(P(code, "/", n, "/begins", id="out"))
            return world._ends(ws, code, copy, n, do)

        def handle_as_generator(n: int, do: str, ws: Any) -> Any:
            world._begins(ws, code, copy, n, do)
            yield P(code, "/", n, "/begins", id="out")
            yield world._ends(ws, code, copy, n, do)

        handler: Any = (handle, handle_in_thread, handle_as_async_generator, handle_as_generator)[code % 4]
        handler.__name__, handler.made = "handle", Fn(code, copy.number)
        handler.__code__ = handler.__code__.replace(co_filename="<cell>")
        return handler  # type: ignore[no-any-return]

    def _begins(self, ws: Any, code: int, copy: Copy, n: int, do: str) -> None:
        self._note(ws, "took", Fn(code, copy.number), n, tuple(_trail(ws.state)))
        _leave_trail(ws.state, str(n))
        if do == "close":
            ws.close(CLOSED_BY_HANDLER)

    def _ends(self, ws: Any, code: int, copy: Copy, n: int, do: str) -> P:
        if do.endswith("raise"):
            raise Boom(n)
        self._note(ws, "done", Fn(code, copy.number), n)
        return P(code, "/", n, "/ends", id="out")

    def _hook(self, kind: str, fn: Fn) -> Callable[..., Any]:
        world, code, copy = self, fn.code, Copy(fn.copy)

        async def hook(ws: Any) -> Any:
            return await world._called(ws, kind, code, copy)

        async def broken(nonsense): ...

        made: Any = hook if code != BROKEN else broken
        # Its globals are those of the notebook, or the script: there its name is looked for.
        made = FunctionType(
            made.__code__.replace(co_filename="<cell>"), self.shell.user_ns, HOOKS[kind], None, made.__closure__
        )
        made.__module__, made.made = "__main__", fn
        return made  # type: ignore[no-any-return]

    async def _called(self, ws: Any, kind: str, code: int, copy: Copy) -> P:
        self._note(ws, kind, Fn(code, copy.number), tuple(_trail(ws.state)))
        _leave_trail(ws.state, kind)
        mood = ws.query_params[kind]
        await self._gate(ws, mood)
        if mood == "raise":
            raise Boom(kind)
        return P(kind, " ", code, id="out")

    def _migration(self, code: int) -> Callable[..., Any]:
        world = self

        async def migrate(ws: Any, state: Any, old: int, new: int) -> Any:
            world._note(ws, "swap", code, f"{old}>{new}", tuple(_trail(state)))
            _leave_trail(state, f"{old}>{new}")
            mood = ws.query_params["swap"]
            await world._gate(ws, mood)
            if mood == "raise":
                raise Boom("migrate")
            return {"no": "html"} if mood == "unsendable" else P(f"swap {old}>{new}", id="out")

        return migrate

    def _note(self, ws: Any, what: str, *details: Any) -> None:
        number = int(ws.query_params["peer"])
        self._numbers[ws.id] = number
        self.calls[number].append((what, *details))

    async def _gate(self, ws: Any, do: str) -> None:
        if do.startswith("wait") and not self.is_ending:
            gate = self._gates[int(ws.query_params["peer"])] = asyncio.get_running_loop().create_future()
            await gate

    def let_go(self, peer: int) -> None:
        gate = self._gates.pop(peer)
        gate.get_loop().call_soon_threadsafe(gate.set_result, None)

    # -- what is to be seen

    def endpoints(self) -> dict[str, Any]:
        seen = {}
        for path in PATHS:
            entry = self.app.table.get(Key(WEBSOCKET, path))
            if entry is not None:
                owner = entry.definition.owner
                versions = [(v.number, v.restored_from, v.cell, v.messages, v.errors, v.running) for v in entry.history]
                targets = [v.definition.target for v in entry.history]
                codes = [
                    (t.message.fn.made, {kind: hook.bound.fn.made for kind, hook in t.hooks.items()}) for t in targets
                ]
                seen[path] = (entry.retired, owner.name if owner is not None else None, versions, codes)
        return seen

    def states(self) -> dict[int, list[str]]:
        """Of the connections that are open or closing."""
        return {int(c.query_params["peer"]): _trail(c.state) for c in self.app.connections}

    def told(self) -> dict[int, list[Error]]:
        """The errors of each client's connection so far."""
        for connection in self.app.connections:
            self._numbers.setdefault(connection.id, int(connection.query_params["peer"]))
        while self._errors_seen < len(self.app.reported):
            error = self.app.reported[self._errors_seen]
            self._errors_seen += 1
            assert error.connection is not None
            assert error.version is not None
            kind = type(error.exception).__name__
            told = Error(error.key.path, error.version, error.handler, kind, error.message)
            self.errors.setdefault(self._numbers[error.connection], []).append(told)
        return self.errors

    # -- clients

    def connect(self, number: int, path: str, moods: dict[str, str]) -> Peer:
        """One more client; where it is let in it is one of `peers` from then on."""
        peer = Peer(number)
        self.calls[number] = []
        self._open(peer, path, "&".join(f"{k}={v}" for k, v in {"peer": number, **moods}.items()))
        if peer.was_refused:
            del self.calls[number]
        else:
            self.peers.append(peer)
        return peer

    def _open(self, peer: Peer, path: str, query: str) -> None:
        """Returns when it is known whether it is let in."""
        raise NotImplementedError

    def send(self, peer: Peer, frame: Frame) -> None:
        raise NotImplementedError

    def leave(self, peer: Peer) -> None:
        raise NotImplementedError

    def settle(self, is_as_expected: Callable[[], bool]) -> None:
        """Let everything happen that waits for nothing."""
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError


def _trail(state: Any) -> list[str]:
    return list(state.get("trail", []))


def _leave_trail(state: Any, what: str) -> None:
    """In place, so that a copy that is none would be seen."""
    trail = state.setdefault("trail", [])
    trail.append(what)
    del trail[:-4]


# -- in process


class _Clock(selectors.DefaultSelector):
    """Of a loop whose time stands still but for what it is let go on. Where nothing is left to do, the loop stops."""

    now = until = 0.0
    stop: Callable[[], None]

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is not None and self.now + timeout <= self.until:
            self.now += timeout
        else:
            self.now = self.until
            self.stop()
        return []


class StillLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)
        self._clock.stop = self.stop

    def time(self) -> float:
        return self._clock.now

    def settle(self, seconds: float = 0.0) -> None:
        """Run until nothing is left to do within the next *seconds*."""
        self._clock.until = self._clock.now + seconds
        self.run_forever()


class InProcess(World):
    """Clients that speak ASGI to the app, on a loop that runs in this thread and on a clock of its own."""

    def __init__(self, *, has_cells: bool) -> None:
        super().__init__(has_cells=has_cells)
        self.loop = StillLoop()
        self.loop.set_exception_handler(lambda loop, context: self.warnings.append(context))
        self.app.in_thread = self._in_turn  # type: ignore[method-assign]
        self._incoming: dict[Peer, asyncio.Queue[dict[str, Any]]] = {}
        self._served: dict[Peer, asyncio.Task[None]] = {}

    @staticmethod
    async def _in_turn(function: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)  # as with a thread, others have their turn
        return function()

    def _open(self, peer: Peer, path: str, query: str) -> None:
        incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        incoming.put_nowait({"type": "websocket.connect"})
        accepted = False

        async def send(event: dict[str, Any]) -> None:
            nonlocal accepted
            if event["type"] == "websocket.accept":
                accepted = True
            elif not accepted:
                peer.was_refused = True
            elif not peer.is_connected:
                return
            elif event["type"] == "websocket.send":
                peer.took(event["text"])
            elif event["type"] == "websocket.close":
                peer.is_connected, peer.close_code = False, event["code"]
                incoming.put_nowait({"type": "websocket.disconnect", "code": event["code"]})

        scope = {
            "type": "websocket",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(b"host", b"testserver")],
            "server": ("testserver", 80),
            "client": ("testclient", 1),
            "scheme": "ws",
            "subprotocols": [],
            "extensions": {},
        }
        self._incoming[peer] = incoming
        self._served[peer] = self.loop.create_task(self.app(scope, incoming.get, send))
        self.loop.settle()

    def send(self, peer: Peer, frame: Frame) -> None:
        kind = "text" if isinstance(frame.data, str) else "bytes"
        self._incoming[peer].put_nowait({"type": "websocket.receive", kind: frame.data})

    def leave(self, peer: Peer) -> None:
        peer.is_connected = False
        self._incoming[peer].put_nowait({"type": "websocket.disconnect", "code": 1001})

    def settle(self, is_as_expected: Callable[[], bool], seconds: float = 0.0) -> None:
        self.loop.settle(seconds)
        for peer, served in list(self._served.items()):
            if served.done():
                served.result()
                del self._served[peer], self._incoming[peer]

    def end(self) -> None:
        while tasks := asyncio.all_tasks(self.loop):  # some are left where a step has failed
            for task in tasks:
                task.cancel()
            self.loop.settle()
        self.loop.close()
