"""App: the public API. It wires what the other modules know, and points at the table that is current."""

from __future__ import annotations

import hmac
import inspect
import itertools
import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import CodeType
from typing import TYPE_CHECKING, Any, Literal, overload

from nbws.asgi import INJECTED, AsgiApp, Beforeware, Serving, Threads
from nbws.binding import RESERVED, Bound, compile_handler
from nbws.connection import Connection, Membership, Sent, offer_all, tell_all
from nbws.defining import Defining, full_name
from nbws.dispatch import HandlerError, replay
from nbws.endpoints import Endpoints
from nbws.errors import DefinitionError, NbwsError
from nbws.feed import Feed
from nbws.handlers import (
    WEBSOCKET,
    Change,
    HandlerTable,
    Key,
    Version,
    changes,
    functions_of,
)
from nbws.html import fragment
from nbws.identity import identity_of_new_app, known_app, remember, runs_here, this_notebook
from nbws.interrupts import held_back
from nbws.limits import Limits
from nbws.loops import Loop, share
from nbws.options import Options
from nbws.publishing import Publisher
from nbws.recording import Replay
from nbws.reporting import Reporter
from nbws.runs import Identity, Run, development, has_threads
from nbws.security import Policy, derive_token, new_ticket
from nbws.sending import CloseCode
from nbws.speaking import Said, Speaker
from nbws.state import State
from nbws.tape import Tape, documentation
from nbws.tasks import TASK, TaskHandler, Tasks
from nbws.transcript import Log, Transcript
from nbws.urls import path_parameters

if TYPE_CHECKING:
    import asyncio

    from nbws.notebook.inspector import Inspector
    from nbws.notebook.preview import InPage, Preview, Previews
    from nbws.server import Server
    from nbws.testing import BlockingClient, Client
    from nbws.visits import Visits
    from nbws.watchdog import Blocked

__all__ = ["App"]

_RECORDED = 20  #: messages of a connection, in development
_GONE_KEPT = 8  #: connections that have gone, with what they said
_REPLAY_SECONDS = 60.0
MIGRATED_AT_ONCE = 8  #: connections that look for their swap hook in one turn of the loop; messages come between turns

_log = logging.getLogger("nbws")
_ticket = new_ticket()  # dies with the process
_panel_key = new_ticket()  # likewise; it stands in outputs, so who has it sees the notebook
_numbers = itertools.count()


class App(Defining):
    """A websocket app. In a notebook its cells define it live; as a module it is an ASGI app.

    `App(name=None)` run again in the same cell, or with the same name, is the same app: same port, connections and
    handlers, with the new options where they can apply.

    *title*, *hdrs*, *ftrs*, *htmlkw*, *bodykw*: the page around what handlers return. *exts*: htmx's extensions.
    *secret_key* signs the ids of sessions; None derives it from the kernel, or makes one that ends with the process.
    *session_cookie*, *same_site*, *https_only*: the cookie that holds one. A session that was not used for *max_age*
    seconds is over; None is for ever, with a cookie that ends with the browser. *session_store*: where several workers
    share sessions, see `SessionStore`; None keeps them in memory.
    *host*, *port*: where it listens; a *port* of None is derived from the kernel (5001 in a script), and the next
    one is taken where that is taken. *token*: the credential that clients need; None asks for one in a notebook
    alone, True makes one. *allowed_hosts*, *allowed_origins*: who may ask beside loopback. *limits*: see `Limits`.
    *compression* of websocket messages; None is on where the server listens beyond loopback, and off on it.
    *auto_rollback*: a new version that fails so many times in a row gives way to the last one that worked; None leaves
    it. *record*: how many messages each connection keeps for `replay`; None keeps 20 in development and none
    otherwise, False none. *redact*: names of fields whose values are kept and shown nowhere.
    *prints*: where in a notebook the output of handlers goes: "panel" shows it under the previews, and under the cell
    that defined the handler where none is open; "cell" under that cell always.
    *loop*: "kernel" runs handlers on the loop that cells run on, in the notebook's main thread, so that they may touch
    its widgets, figures and tasks; they then wait while a cell runs. Outside of a notebook it is the server's loop.
    *before* holds functions, or `Beforeware`s, that run before HTTP handlers; *middleware* Starlette's; *debug*
    shows tracebacks of HTTP handlers to clients.
    """

    _ready = False
    _identity: Identity | None

    def __new__(cls, name: str | None = None, **options: Any) -> App:
        Options.of(options)  # refused before it counts as one of its cell's apps
        if name is not None and not isinstance(name, str):
            raise DefinitionError(f"App({name!r}): a name is a text such as 'chat', or None; options go by theirs")
        identity = identity_of_new_app(name)
        known = known_app(identity)
        if known is not None and full_name(type(known)) == full_name(cls):
            found: App = known
            found._publisher.note_kind(type(found))
            found.become(cls)
            return found
        app = super().__new__(cls)
        app._identity = identity
        return app

    def __init__(self, name: str | None = None, **options: Any) -> None:
        chosen = Options.of(options)
        for ware in _beforewares(chosen):
            self._compile(Key("GET", "/"), ware.f)
        if self._ready:
            self._publisher.set_options(chosen)
            return
        self.name = name
        self.state = State()  #: the author's own, of all connections together; kept when handlers are swapped
        self.membership = Membership()
        self.feed = Feed(lambda: self._reporter.state(self.table))
        self.tasks = Tasks(self, lambda: self.table, self.report)
        self.options = chosen
        self.table = HandlerTable()
        self.log = Log()
        self.tapes: list[Tape] = []  #: of `record`, one for each name
        self.previewed: tuple[str, ...] = ()  #: paths of pages that previews have shown, the last one first
        self._reporter = Reporter(self._tell)
        self._start_lock = threading.RLock()
        self._connections: dict[str, Connection] = {}
        self._recorded_gone: deque[Connection] = deque(maxlen=_GONE_KEPT)
        self.number = next(_numbers)  #: tells the apps of a process apart
        self._notebook = this_notebook()
        runs = runs_here()
        self._publisher = Publisher(self, self._compile, runs, self._notebook)
        self._runs_on_kernel = self._needs_kernel_loop(self.table)
        self._asgi = AsgiApp(self)
        self._threads = Threads(lambda: self.limits.threads)
        self._server: Server | None = None
        self._visits: Visits | None = None
        self._last_port: int | None = None
        self._random_key = secrets.token_hex(32)
        self._retries: dict[Key, Callable[[], None]] = {}
        self._policies: dict[int, tuple[Options, Policy]] = {}
        self._befores: tuple[Any, list[tuple[Bound, tuple[str, ...]]]] = (None, [])
        self._starting: HandlerTable | None = None
        remember(self._identity, self)
        if runs is not None:
            runs.listen(self)
            self._publisher.note_options(chosen)
        if documentation.is_made:
            self.tapes.append(self._new_tape(None))
        self._ready = True

    # -- running

    def start(self) -> None:
        """Serve, in a thread of its own, and print a link that opens the app. Does nothing where it serves already.

        What this cell has defined so far is published then. Raises PortTakenError or ServerStartError; the app is
        then as it was.
        """
        served_already = self.is_running
        self._start()
        if self._is_in_page:
            return
        if self.in_notebook or not served_already:  # else each save of a program under development would print it
            self._print_link()

    def stop(self) -> None:
        """Stop serving: connections are closed with 1012, after which clients come back. Returns within 6 s."""
        server = self._server
        if server is not None:
            self.feed.close()
            server.stop()
            self._server = None

    def run(self) -> None:
        """Serve in this thread until Ctrl+C. For scripts; see `serve`."""
        if self._is_in_page:
            self._start()
            return
        if self._visits is not None:
            self._visits.make_way()
        server = self._new_server()
        self._server, self._last_port = server, server.port
        self._print_link(" (Ctrl+C stops it)")
        try:
            server.block()
        finally:
            self._server = None

    @property
    def is_running(self) -> bool:
        """Whether it serves, in a thread of its own or in this one."""
        return self._server is not None and self._server.is_running

    @property
    def port(self) -> int | None:
        """The port that it listens on; None before it was started."""
        return self._server.port if self._server is not None else None

    @property
    def url(self) -> str:
        """Such as `http://127.0.0.1:20123`. Raises NbwsError before the app was started."""
        if self._is_in_page:
            return "http://testserver"  # where nobody else can go; the address that `client()` has as well
        if self._server is None:
            raise NbwsError("the app has no address yet; app.start() gives it one")
        host = self._server.host
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        return f"http://{host}:{self._server.port}"

    @property
    def token(self) -> str | None:
        """The credential that a client needs, as `?token=`; None where none is asked for, as in a script."""
        asked = self.options.token
        if isinstance(asked, str):
            return asked
        key = self._notebook.session_key if self._notebook is not None else None
        if asked is False or (asked is None and key is None):
            return None
        return derive_token(key or self._random_key.encode())

    def preview(
        self,
        path: str = "/",
        height: int | None = None,
        transport: str = "auto",
        clients: int = 1,
        recording: str | None = None,
    ) -> Preview | Previews | InPage:
        """The page at *path* in an IFrame, as high as its content or *height* pixels. Starts the app and publishes.

        *clients* shows it so many times, up to nine, beside each other: each is a user with a session of its own.
        *transport* says how the frame reaches the app: "auto" and "direct" go to its port. *recording* names the one of
        `record` that the docs play in its place.
        """
        if transport not in ("auto", "direct"):
            raise ValueError(f"transport={transport!r} is not there; 'auto' and 'direct' go to the app's port")
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is no path; it starts with '/'")
        if not isinstance(clients, int) or not 1 <= clients <= 9:
            raise ValueError(f"clients={clients!r} is no number of clients; give one from 1 to 9")
        from nbws.notebook.preview import InPage, Preview, Previews

        self._start()
        self.previewed = (path, *(each for each in self.previewed if each != path))
        if self._is_in_page:
            return InPage(self.number, path, clients, height)
        preview = Preview(
            self.url, path, _ticket, height, panel_key=_panel_key, app=str(self.number), recording=recording
        )
        return preview if clients == 1 else Previews(preview, clients)

    def inspector(self) -> Inspector:
        """The panel, as a widget: connections, versions, messages, errors and output, and buttons to act on them.

        A preview has the same folded under it. Raises NbwsError where anywidget is not installed, which
        `pip install nbws[lab]` brings, or where there is no notebook.
        """
        if not self.in_notebook:
            raise NbwsError("the panel is shown in a notebook, and this is none; app.transcript() tells what was said")
        try:
            from nbws.notebook.inspector import Inspector
        except ImportError:
            raise NbwsError("the panel is a widget; pip install anywidget, and restart the kernel") from None

        self._publisher.publish_if_staged()
        return Inspector(self)

    def inspect(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a panel, see `nbws.inspection`. Callable from any thread but the server's."""
        from nbws.inspection import answer

        return answer(self, asked)

    @property
    def panel_key(self) -> str:
        """What the page of the panel is asked for with. It dies with the process."""
        return _panel_key

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        if not self.in_notebook and not self._is_in_page:
            return {"text/plain": repr(self)}
        try:
            return self.preview()._repr_mimebundle_()
        except BaseException:
            # IPython shows the error and then calls the cell a success (IPython 9, DisplayFormatter).
            run = self._publisher.run()
            if run is not None:
                run.failed = True
            raise

    def __repr__(self) -> str:
        where = f"at {self.url}" if self.is_running else "not started"
        return f"<App {self.name + ' ' if self.name else ''}{where}, {len(self.endpoints)} endpoints>"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        if self._publisher.is_importing:
            self._publisher.publish_modules()
        await self._asgi(scope, receive, send)

    @overload
    def client(self, sync: Literal[False] = False) -> Client: ...
    @overload
    def client(self, sync: Literal[True]) -> BlockingClient: ...
    def client(self, sync: bool = False) -> Client | BlockingClient:
        """A client with no port and no browser, with cookies of its own: `async with app.client().ws("/chat") as c:`.

        Each client is another browser. With *sync* its methods block, and are not awaited. What this cell has defined
        so far is published.
        """
        from nbws.testing import BlockingClient, Client

        self._publisher.publish_if_staged()
        client = Client(self, {self.policy(0).cookie: self.token} if self.token is not None else {})
        return BlockingClient(client, self) if sync else client

    # -- looking and sending

    @property
    def errors(self) -> deque[HandlerError]:
        """The last 200 errors of handlers, and messages that reached none; the newest last."""
        return self._reporter.errors

    @property
    def said(self) -> tuple[Said, ...]:
        """The last 500 things that handlers printed, warned or displayed in a notebook; the newest last."""
        return tuple(self._reporter.said)

    @property
    def endpoints(self) -> Endpoints:
        """What is live, by path: `app.endpoints["/chat/{room}"].version`. Renders as a table."""
        self._publisher.publish_modules()
        return Endpoints(self)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The websocket connections that are open, oldest first."""
        return tuple(self._connections.values())

    @property
    def rooms(self) -> Mapping[str, RoomView]:
        """Room name -> what is in it: `app.rooms["lobby"].members`, which is `()` where nobody is."""
        rooms = self.membership.rooms
        return _RoomViews((room, RoomView(rooms.members(room))) for room in rooms)

    @property
    def routes(self) -> list[Any]:
        """The Starlette routes of what is live."""
        return self._asgi.router.routes

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        """The path of the route whose function is named *name*."""
        return self._asgi.router.url_path_for(name, **path_params)

    def broadcast(
        self,
        content: Any,
        room: str | None = None,
        exclude: Connection | str | Iterable[Connection | str] | None = None,
    ) -> Sent:
        """Queue *content* for every connection, or for those in *room*, but not for *exclude*.

        *exclude* is a connection or its `id`, or several of them. Rendered once. Callable from a cell and from any
        thread; never waits for a peer.
        """
        self._publisher.publish_if_staged()
        html, problems = fragment(content)
        members = self.connections if room is None else self.membership.rooms.members(room)
        those = (exclude,) if isinstance(exclude, Connection | str) else exclude or ()
        excluded = {each if isinstance(each, str) else each.id for each in those}
        receivers = [c for c in members if c.id not in excluded] if excluded else list(members)
        for problem in problems:
            for connection in receivers[:1]:
                self.on_problem(connection, problem)
        if html:
            offer_all(receivers, html)
        return Sent()

    def transcript(self) -> Transcript:
        """What clients and the app said to each other lately: connects, messages, fragments, in their order.

        The last 2,000 lines, a million characters at the most; nothing where messages are not recorded, see `record`.
        `transcript().to_test()` is the source of a cell that asserts it.
        """
        return Transcript(self.log.lines)

    def record(self, name: str) -> Tape:
        """Begin a recording of what clients do from now on, for the docs to play: the pages, messages and fragments.

        `.save()` on what this gives writes `NAME.replay.json` into the current folder; `with app.record("chat"):` does
        so at its end. Clients that are connected already are not in it. Begun again with the same name it is a new one.
        It holds no headers, cookies or credentials, and no values of the fields that `App(redact=)` names.
        """
        tape = self._new_tape(name)
        for old in self.tapes:
            if old.name == name:
                old.stop()
        self.tapes = [*(each for each in self.tapes if each.name != name), tape]
        return tape

    def _new_tape(self, name: str | None) -> Tape:
        return Tape(
            name,
            self.log,
            title=lambda: self.options.title,
            redacted=lambda: self.redacted,
            secrets=lambda: filter(None, (self.token, _ticket, _panel_key, self.secret_key)),
        )

    @property
    def visits(self) -> Visits:
        """The clients of `client()` while nobody serves the app."""
        if self._visits is None:
            from nbws.visits import Visits

            self._visits = Visits(self)
        return self._visits

    @property
    def serving(self) -> Serving | None:
        """The server that it runs under, whose ever that is; None where it is not served."""
        return self._asgi.serving

    @property
    def serving_loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that handlers run on; None where the app is not served."""
        return self.serving.loop if self.serving is not None else None

    async def take_over(self) -> None:
        """A server starts: end the visit of clients that have done without."""
        if self._visits is not None:
            await self._visits.end()

    def dismiss_clients(self) -> None:
        """The server stops: tell clients that reach it through no port, of whom it does not know."""
        if self._visits is not None:
            self._visits.dismiss()

    # -- what the ASGI side asks

    @property
    def limits(self) -> Limits:
        """What one client may cost."""
        return self.options.limits

    @property
    def in_notebook(self) -> bool:
        """Whether it runs in a Jupyter kernel."""
        return self._notebook is not None and self._notebook.session_key is not None

    @property
    def _is_in_page(self) -> bool:
        """Whether it runs in a reader's browser, where it has no port: its clients are in the page."""
        present = development()
        return present is not None and present.in_page

    @property
    def in_development(self) -> bool:
        """Whether its author works on it, in a Jupyter kernel or under `nbws dev`.

        Pages listen to the feed then, and change in place when their code does.
        """
        present = development()
        return self.in_notebook or (present is not None and present.follows_saves)

    @property
    def secret_key(self) -> str:
        """What signs the ids of sessions."""
        if self.options.secret_key is not None:
            return self.options.secret_key
        key = self._notebook.session_key if self._notebook is not None else None
        return hmac.new(key, b"nbws session", "sha256").hexdigest() if key else self._random_key

    @property
    def startup_table(self) -> HandlerTable:
        """The table whose startup functions the server runs: with what the starting cell has staged."""
        return self._starting or self.table

    def policy(self, port: int) -> Policy:
        """Whom a server on *port* lets in."""
        known = self._policies.get(port)
        if known is None or known[0] is not self.options:
            options, token = self.options, self.token
            policy = Policy(
                allowed_hosts=frozenset(options.allowed_hosts),
                allowed_origins=frozenset(options.allowed_origins),
                token=token,
                ticket=_ticket,
                cookie=f"nbws-{port}",
            )
            known = self._policies[port] = (options, policy)
        return known[1]

    def bound_before(self) -> list[tuple[Bound, tuple[str, ...]]]:
        """The `before` functions with the paths that each skips."""
        made_of, bound = self._befores
        if made_of is not self.options.before:
            bound = [(self._compile(Key("GET", "/"), ware.f), ware.skip) for ware in _beforewares(self.options)]
            self._befores = (self.options.before, bound)
        return bound

    def hook(self, key: Key, name: str) -> tuple[Bound | None, Version | None]:
        """The `conn` or `disconn` function of *key* as it is now, and its version: the last one where it is retired."""
        try:
            self._publisher.publish_hooks()
        except DefinitionError as exc:
            self._reporter.warn(key, f"{exc}; what was, stays")
        entry = self.table.get(key)
        if entry is None:
            return None, None
        hook = entry.definition.target.hooks.get(name)
        return hook.bound if hook is not None else None, entry.current

    def admit(self, connection: Connection) -> bool:
        """Whether there is room for one more; then it is counted."""
        limits, client = self.limits, connection.client
        if len(self._connections) >= limits.connections:
            return False
        if limits.connections_per_client is not None and client is not None:
            of_it = sum(1 for each in self.connections if each.client and each.client[0] == client[0])
            if of_it >= limits.connections_per_client:
                return False
        self._connections[connection.id] = connection
        if self.recorded_messages:
            connection.log = self.log
            self.log.opened(connection.id, connection.key.path, connection.address)
        if self._is_gone(connection.key):
            connection.park(self.limits.park_seconds, partial(self._is_gone, connection.key))
        return True

    def forget(self, connection: Connection) -> None:
        self._connections.pop(connection.id, None)
        self.log.closed(connection.id, connection.key.path, connection.address)
        if connection.recorded:
            self._recorded_gone.append(connection)

    @property
    def shown_paths(self) -> tuple[str, ...]:
        """The paths where the page of a client may be that came without one."""
        return (*self.previewed, "/")

    @property
    def recorded_messages(self) -> int:
        """How many of its last messages a connection keeps."""
        chosen = self.options.record
        kept = chosen if chosen is not None else _RECORDED if self.in_development else 0
        return max(kept, 1) if self.log.tapes else kept

    @property
    def redacted(self) -> Collection[str]:
        return self.options.redact

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        return await self._threads.run(function)

    def loop_for(self, key: Key) -> Loop | None:
        """The loop that the functions of *key* run on; None is the server's own."""
        if not self._runs_on_kernel or self._notebook is None:
            return None
        entry = self.table.get(key)
        own = getattr(entry.definition.target, "loop", None) if entry is not None else None
        return self._notebook.loop if (own or self.options.loop) == "kernel" else None

    def report(self, error: HandlerError, retry: Callable[[], None] | None = None) -> None:
        """Show *error* where the author looks. *retry* runs its message again. From any thread; never raises."""
        try:
            self._reporter.report(error)
            if retry is not None:
                self._retries[error.key] = retry
            self._give_way(error)
            self.feed.changed()
        except Exception:  # it would end the connection: a kernel's output may be closed, say
            _log.exception("nbws could not show an error of %s", error.key)

    def hear(self, whose: Speaker, stream: str, text: str) -> None:
        """A handler printed *text*. Callable from any thread."""
        self._reporter.hear(whose, stream, text)
        self.feed.changed()
        cell = self._publisher.cell_of(whose.key)  # None for a handler of a module, which has none
        if self._notebook is not None and cell and (self.options.prints == "cell" or not self.feed.is_heard):
            self._notebook.write_under(cell, text, "stderr" if stream == "stderr" else "stdout")

    def works(self, version: Version) -> None:
        """A call of *version* has ended without an error for the first time: what failed before it is of the past."""
        if self._reporter.listed:
            self.feed.changed()

    def is_authors(self, code: CodeType) -> bool:
        """Whether *code* is that of a handler, hook or task that is live."""
        return code in self._functions()

    def tell_of_blocked(self, blocked: Blocked) -> None:
        """Say which handler has kept the loop to itself. Callable from any thread."""
        key, name, remedy = self._functions().get(blocked.code, (None, "", ""))
        if key is None:
            return
        entry = self.table.get(key)
        version = f" v{entry.version}" if entry is not None else ""
        seconds = f"{blocked.seconds:.1f} s" if blocked.has_ended else f"more than {blocked.seconds:.0f} s"
        at = f", at line {blocked.line} `{blocked.source}`" if blocked.source else ""
        text = f"{name}{version} on {key} kept the server for {seconds}{at}: nobody else was served; {remedy}"
        self._reporter.notify_once(key, (version, blocked.line), text)
        self.feed.changed()

    def _functions(self) -> dict[CodeType, tuple[Key, str, str]]:
        """What runs on the server's loop -> (its key, its name, what to do where it blocks)."""
        found: dict[CodeType, tuple[Key, str, str]] = {}
        for key, entry in self.table.live():
            target = entry.definition.target
            functions = (target.bound.fn,) if isinstance(target, TaskHandler) else functions_of(target)
            for fn in functions:
                if not hasattr(fn, "__code__"):
                    continue
                remedy = "await what takes long, or make it a plain `def`, which runs in a worker thread"
                if not inspect.iscoroutinefunction(fn) and not inspect.isasyncgenfunction(fn):
                    remedy = "a `def` hook or task runs on the loop: make it `async def`, and await what takes long"
                found[fn.__code__] = (key, fn.__name__, remedy)
        return found

    def on_problem(self, connection: Connection, problem: str) -> None:
        """Warn the author, once, of something that the browser will not show."""
        self._reporter.warn(connection.key, problem)

    def _give_way(self, error: HandlerError) -> None:
        """Roll back from the version that failed, where it is new and fails too often; and say so."""
        limit, entry = self.options.auto_rollback, self.table.get_live(error.key)
        if limit is None or entry is None or entry.version != error.version:
            return
        failed, last = entry.current, entry.way_back(limit)
        if last is not None:
            self.roll_back(error.key, last.number)
            now = self.table.get(error.key)
            assert now is not None
            self._reporter.notify(
                error.key,
                f"v{failed.number} of {error.key} failed {failed.failing} times in a row, so the code of "
                f"v{last.code_of}, the last that worked, is live again as v{now.version}",
            )

    def roll_back(self, key: Key, number: int) -> None:
        """See `Endpoint.rollback`."""
        self._publisher.change(lambda table: table.roll_back(key, number))

    def retire(self, key: Key) -> None:
        """See `Endpoint.retire`."""
        self._publisher.change(lambda table: table.publish([], [key]))
        for connection in self.connections:
            if connection.key == key:
                connection.close(CloseCode.GOING_AWAY, "the endpoint has been retired")

    def retry(self, key: Key) -> None:
        """See `Endpoint.retry`."""
        if key not in self._retries:
            raise LookupError(f"no message to {key} has failed, so there is none to run again")
        self._retries[key]()

    def replay(self, key: Key, count: int) -> Replay:
        """See `Endpoint.replay`."""
        entry = self.table.get_live(key)
        if entry is None:
            raise LookupError(f"{key} is retired, so no version of it can run messages again")
        connections = [c for c in (*self._recorded_gone, *self.connections) if c.key == key]
        recorded = sorted(((r.number, c, r) for c in connections for r in c.recorded), key=lambda each: each[0])
        if count < 1 or not recorded:
            record = "" if self.recorded_messages else "; App(record=20) keeps the last 20 of each connection"
            raise LookupError(f"no message to {key} has been recorded{record}")

        async def run_again() -> Replay:
            return Replay([await replay(self, connection, each, entry) for _, connection, each in recorded[-count:]])

        return recorded[-1][1].wait_for(run_again(), _REPLAY_SECONDS)

    # -- what its publisher asks, and who tells of runs

    def point_at(self, table: HandlerTable, options: Options | None) -> list[Change]:
        """Make *table*, and *options* where there are new ones, what is live, and tell all who wait for it.

        The one place where that changes. Gives what has changed. Called by the publisher, in turn.
        """
        old = self.table
        if options is not None:
            self.options = options
        self._runs_on_kernel = self._needs_kernel_loop(table)
        self.table = table  # last: who sees another table looks at all the rest again
        changed = changes(old, table)
        for change in changed:
            if change.after is not None:  # going back to a version takes its function that was taken last
                change.after.current.take(change.after.definition)
        told = [change for change in changed if change.concerns_connections]
        if told:
            by_key: dict[Key, list[Connection]] = {}
            for connection in self.connections:
                by_key.setdefault(connection.key, []).append(connection)
            for change in told:
                self._tell_of(change, by_key.get(change.key, []))
        self.tasks.look_again()
        self.feed.changed()
        if self._server is not None and any(change.key.method == WEBSOCKET for change in changed):
            self._server.hurry()
        return changed

    def mention_restart(self, changed: list[Change], options: Options | None, before: Options) -> None:
        """Print what of *changed*, and of *options*, takes a restart of the server that serves already."""
        if not self.is_running:
            return
        present = development()
        remedy = f"restart {present.command}" if present is not None else "call app.stop() and app.start()"
        if options is not None and options.port not in (None, 0, self.port, before.port):
            print(f"The app stays on port {self.port}; {remedy} to move it to {options.port}.")
        if any(change.key.method == "STARTUP" and change.is_new_version for change in changed):
            print(f"The app has started already; {remedy} to run its new startup functions.")

    def become(self, kind: type) -> None:
        """Be of *kind*, a subclass that its cell has defined anew."""
        self.__class__ = kind

    def run_begins(self, run: Run) -> None:
        self._publisher.run_begins(run)

    def check_run(self, run: Run) -> None:
        """Raises DefinitionError where what *run* has defined cannot be published."""
        self._publisher.check_run(run)

    def run_ends(self, run: Run, succeeded: bool) -> None:
        with held_back(forgotten=True):  # the cell has ended, so there is nothing to interrupt
            self.feed.changed()  # a helper that was defined anew is in no table
            self._publisher.run_ends(run, succeeded)

    def _needs_kernel_loop(self, table: HandlerTable) -> bool:
        """Whether anything in *table* runs on the kernel's loop."""
        if self._notebook is None or self._notebook.loop is None:
            return False
        handlers = (entry.definition.target for _, entry in table.live(WEBSOCKET))
        found = self.options.loop == "kernel" or any(handler.loop == "kernel" for handler in handlers)
        if found:
            share(self._notebook.loop)
        return found

    def _tell_of(self, change: Change, connections: list[Connection]) -> None:
        if change.after is None:
            seconds, is_gone = self.limits.park_seconds, partial(self._is_gone, change.key)
            tell_all(connections, lambda connection: connection.park(seconds, is_gone))
            return
        if change.before is None:
            tell_all(connections, Connection.unpark)
        if change.migrates:
            tell_all(connections, Connection.look_again, at_once=MIGRATED_AT_ONCE)

    def _is_gone(self, key: Key) -> bool:
        return self.table.get_live(key) is None

    # -- inside

    def _compile(self, key: Key, fn: Callable[..., Any]) -> Bound:
        if key.method == TASK:
            return compile_handler(fn, types_by_name={App: "app"}, refused=_IN_NO_TASK)
        return compile_handler(
            fn,
            path_params=path_parameters(key.path),
            types_by_name={App: "app", **INJECTED},
            refused={} if key.method == WEBSOCKET else _NO_WEBSOCKET,
        )

    def _start(self) -> None:
        if self._is_in_page:
            self._publisher.publish_if_staged()
            return
        if not has_threads():
            raise NbwsError(
                "this Python has no threads and no ports, so it cannot serve; talk to the app by app.client()"
            )
        if self._visits is not None and not self.is_running:
            self._visits.make_way()
        with self._start_lock:  # not the table's: what starts may define, from the server's thread
            if not self.is_running:
                self._starting = self._publisher.table_to_be
                try:
                    self._server = self._new_server()
                    self._server.start()
                    self._last_port = self._server.port
                except BaseException:
                    self._server = None
                    raise
                finally:
                    self._starting = None
        self._publisher.publish_if_staged()

    def _new_server(self) -> Server:
        from nbws.server import Server, bind

        options = self._publisher.options_to_be
        present = development()
        if present is not None:
            options = replace(options, **present.address_of(self))
        port, exact = self._preferred_port(options)
        return Server(
            self,
            bind(options.host, port, exact=exact),
            host=options.host,
            limits=options.limits,
            compression=options.compression,
            startup_error=lambda: self._asgi.startup_error,
            on_stop=self._begin_to_stop,
        )

    def _begin_to_stop(self) -> None:
        self.feed.close()
        self._asgi.begin_to_stop()

    def _preferred_port(self, options: Options) -> tuple[int, bool]:
        """(port, whether it must be that one)."""
        if options.port:
            return options.port, True
        if self._last_port is not None:
            return self._last_port, False
        if options.port == 0:
            return 0, True
        key = self._notebook.session_key if self._notebook is not None else None
        if key is not None:
            # Below the ports that systems hand out to outgoing connections (Linux: 32768 and up).
            identity = "/".join(self._identity or ("app", str(self.number)))
            digest = hmac.new(key, b"nbws port " + identity.encode(), "sha256").digest()
            return 20000 + int.from_bytes(digest[:4], "big") % 12000, False
        if os.environ.get("PORT"):
            return int(os.environ["PORT"]), True
        return 5001, False

    def _print_link(self, hint: str = "") -> None:
        if documentation.is_made:
            return  # where docs are read nothing is served
        if self._notebook is None or not self.in_notebook:
            address = self.url.replace("//127.0.0.1", "//localhost")
            print(f"nbws: {address}{f'/?token={self.token}' if self.token is not None else ''}{hint}", flush=True)
            return
        from nbws.notebook.preview import Preview

        page = Preview(self.url, "/", _ticket if self.token is not None else None, None)
        self._notebook.show(page.link())

    def _tell(self, key: Key, text: str, level: int) -> None:
        if self._notebook is None:
            _log.log(level, text.rstrip())
        else:
            self._notebook.write_under(self._publisher.cell_of(key), text)


@dataclass(frozen=True)
class RoomView:
    """The connections that were in a room, in the order in which they joined."""

    members: tuple[Connection, ...]  #: of this moment, however long it is kept


class _RoomViews(dict[str, RoomView]):
    """Those of the rooms that somebody is in."""

    def __missing__(self, room: str) -> RoomView:
        return RoomView(())


_NO_WEBSOCKET = {
    "send": "sends over a websocket, and this is an HTTP handler; return what is to be shown",
    "ws": "is a websocket, and this is an HTTP handler; take `request`",
}


_IN_NO_TASK = dict.fromkeys(
    RESERVED - {"app", "state"}, "is of a message or a request, and a task has none; it may take `app` and `state`"
)


def _beforewares(options: Options) -> list[Beforeware]:
    return [ware if isinstance(ware, Beforeware) else Beforeware(ware) for ware in options.before]
