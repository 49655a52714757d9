"""The app as ASGI: the routes of the current table behind the gate, the read loop of a websocket, HTTP handlers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import inspect
import re
import weakref
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import CodeType
from typing import Any, Protocol

import anyio
import anyio.to_thread
import msgspec
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Match, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from nbws.binding import Bound, Call
from nbws.connection import STRAIGHT, Connection, Membership
from nbws.conversation import OVER_SECONDS, Conversation, Conversations, socket_of
from nbws.dispatch import Desk, HandlerError, run_handler
from nbws.errors import MessageError, described
from nbws.feed import Event, Feed
from nbws.gate import Gate, refuse_websocket
from nbws.handlers import WEBSOCKET, Entry, HandlerTable, HttpHandler, Key
from nbws.html import ft
from nbws.loops import Loop, on
from nbws.messages import Message as Fields
from nbws.options import Options
from nbws.outbox import Outbox
from nbws.page import STATIC, document, notice, panel_page
from nbws.pages import OpenPage, Pages, Served
from nbws.playback import opens
from nbws.reading import reach
from nbws.responses import PageResponse, respond
from nbws.resume import ASKS_SENT, PARAMETER, SAYS_SENT, Asked
from nbws.runs import has_threads
from nbws.security import Policy, is_same
from nbws.session_cookie import SessionCookies, SessionMiddleware, opens_websocket, resume_session
from nbws.speaking import Speaker, speaker
from nbws.tasks import Tasks
from nbws.transcript import Log
from nbws.urls import query_of, without
from nbws.watchdog import Blocked, Watchdog

__all__ = ["INJECTED", "VISIT", "AsgiApp", "Beforeware", "Serving", "Threads", "inside"]

INJECTED: dict[type, str] = {Connection: "ws", WebSocket: "ws", Request: "request", HTTPConnection: "request"}
"""Types that stand for a reserved name in a handler's signature."""

VISIT = "nbws.visit"
"""In the scope of a lifespan that is no server's: what it is of, which gives way to a server."""

inside: contextvars.ContextVar[object] = contextvars.ContextVar("nbws_inside", default=None)
"""The `Serving`, or what stands in a scope as VISIT, whose startup, shutdown or task the calling code is."""

_BODY_METHODS = frozenset(("POST", "PUT", "PATCH", "DELETE"))
_FEED_PATH = "/_nbws/feed"
_PANEL_PATH = "/_nbws/panel"
_PANEL_BYTES = 256 * 1024  #: of one thing that the panel asks for
_LOOK_SECONDS = 0.25  #: between two looks at each connection
_PAGE_SECONDS = 3.0  #: that a page may take which is made for a recording
_RENDERED = "nbws.rendered"  #: in a scope: the list that takes the page, in place of a client


class Beforeware:
    """A function that runs before HTTP handlers, and answers in their place where it returns something.

    *skip* holds regular expressions of whole paths that it is not asked about.
    """

    def __init__(self, f: Callable[..., Any], skip: Iterable[str] = ()) -> None:
        self.f, self.skip = f, tuple(skip)


@dataclass(eq=False)
class Serving:
    """A server that the app runs under, from the beginning of its startup to the end of its shutdown."""

    loop: Loop
    has_started: concurrent.futures.Future[None] = field(default_factory=concurrent.futures.Future)  #: or failed to
    has_ended: concurrent.futures.Future[None] = field(default_factory=concurrent.futures.Future)
    is_ending: bool = False


class Threads:
    """The worker threads of an app's `def` handlers."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._limiters: weakref.WeakKeyDictionary[Any, anyio.CapacityLimiter] = weakref.WeakKeyDictionary()

    async def run(self, function: Callable[[], Any]) -> Any:
        """What *function* returns, run in a worker thread. A cancelled caller does not wait for it."""
        loop = asyncio.get_running_loop()
        limiter = self._limiters.get(loop)
        if limiter is None or limiter.total_tokens != self._limit():
            limiter = self._limiters[loop] = anyio.CapacityLimiter(self._limit())
        return await anyio.to_thread.run_sync(function, limiter=limiter, abandon_on_cancel=True)


class AppDesk(Desk, Protocol):
    """What the ASGI side needs of an App."""

    membership: Membership
    feed: Feed
    tasks: Tasks
    log: Log

    @property
    def shown_paths(self) -> Iterable[str]: ...
    @property
    def options(self) -> Options: ...
    @property
    def connections(self) -> Iterable[Connection]: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def in_notebook(self) -> bool: ...
    @property
    def in_development(self) -> bool: ...
    @property
    def startup_table(self) -> HandlerTable: ...
    @property
    def panel_key(self) -> str: ...
    def inspect(self, asked: Mapping[str, Any]) -> dict[str, Any]: ...
    def policy(self, port: int) -> Policy: ...
    def bound_before(self) -> Iterable[tuple[Bound, tuple[str, ...]]]: ...
    def admit(self, connection: Connection) -> bool: ...
    def forget(self, connection: Connection) -> None: ...
    def on_problem(self, connection: Connection, problem: str) -> None: ...
    def is_authors(self, code: CodeType) -> bool: ...
    def tell_of_blocked(self, blocked: Blocked) -> None: ...
    async def take_over(self) -> None: ...
    def dismiss_clients(self) -> None: ...


class AsgiApp:
    """The ASGI callable of an App. Serves the table that is current when a request or a message arrives."""

    def __init__(self, desk: AppDesk) -> None:
        self._desk = desk
        self._routed: tuple[HandlerTable | None, Router] = (None, Router())
        self._stacked: tuple[Any, Any, ASGIApp] = (None, None, self._route)
        self._has_middleware = False  # of the author's, who may want to see each message
        self._gate = Gate(self._pass, desk.policy, desk.in_notebook)
        self._pages = Pages()
        self._cookies = SessionCookies(desk)
        self.conversations = Conversations()
        self.startup_error: BaseException | None = None
        self.serving: Serving | None = None  #: None while there is no server, or one that tells nothing
        self._lives: Scope | None = None  # the lifespan that was started last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] in ("http", "websocket"):
            if scope["type"] == "websocket":
                scope[STRAIGHT] = _is_straight(scope, receive, send)
            await self._gate(scope, receive, send)

    # -- routing

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        stack = self._stack()
        is_straight = scope.get(STRAIGHT, False) and not self._has_middleware
        await stack({**scope, "app": self._desk, STRAIGHT: is_straight}, receive, send)

    def _stack(self) -> ASGIApp:
        """Session, the author's middleware and error pages around the routes; made anew where they changed."""
        table, options = self._desk.table, self._desk.options
        looked_at, made_of, stack = self._stacked
        if looked_at is table and made_of[0] is options:
            return stack
        added = tuple(entry.definition.target for _, entry in table.live("MIDDLEWARE"))
        handlers = _exception_handlers(self._desk)
        makes = (options, added, tuple(handlers.items()))
        if made_of != makes:
            stack = self._new_stack(options, added, handlers)
        self._stacked = (table, makes, stack)
        self._has_middleware = bool(added or options.middleware)
        return stack

    def _new_stack(self, options: Options, added: Iterable[Any], handlers: Mapping[Any, Callable[..., Any]]) -> ASGIApp:
        session = Middleware(SessionMiddleware, self._cookies, leaves_no_trace=lambda scope: _RENDERED in scope)
        server_error = next((handlers[k] for k in (500, Exception) if k in handlers), None)
        by_kind = {k: _exception_handler(h) for k, h in handlers.items() if k not in (500, Exception)}
        by_kind = {HTTPException: _http_error, 404: self._not_found, **by_kind}
        stack: ASGIApp = ExceptionMiddleware(self._route, handlers=by_kind, debug=options.debug)
        own = [Middleware(cls, *args, **kwargs) for cls, args, kwargs in added]
        for middleware in reversed((session, *own, *options.middleware)):
            stack = middleware.cls(stack, *middleware.args, **middleware.kwargs)
        handler = _exception_handler(server_error) if server_error else None
        return ServerErrorMiddleware(stack, handler=handler, debug=options.debug)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = self._says_sent(scope, send)
        await self.router(scope, receive, send)

    def _says_sent(self, scope: Scope, send: Send) -> Send:
        """*send*, and where the page is fetched because websockets missed something, what they were sent until now."""
        keys = next((value for name, value in scope["headers"] if name == ASKS_SENT), None)
        if keys is None:
            return send
        known = map(self.conversations.get, keys.decode("latin-1").split(","))
        counts = [str(each.connection.sent_so_far) if each is not None else "0" for each in known]
        header = (SAYS_SENT, ",".join(counts).encode())

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        return say

    @property
    def router(self) -> Router:
        """The routes of the current table."""
        table = self._desk.table
        routed, router = self._routed
        if routed is not table:
            router = Router(routes=list(self._routes(table)), default=_nothing_here)
            self._routed = (table, router)
        return router

    def _routes(self, table: HandlerTable) -> Iterable[BaseRoute]:
        yield Mount(STATIC, StaticFiles(directory=Path(__file__).parent / "static"), name="nbws-static")
        yield Route(_FEED_PATH, self._feed)
        yield Route(_PANEL_PATH, self._panel, methods=["GET", "POST"])
        routes = [_Placed(key.path, self._endpoint(key, entry)) for key, entry in table.live() if key.is_route]
        # In a notebook the order of definition is the order in which cells happened to run, so what is more
        # specific goes first, whatever came first.
        yield from (placed.route for placed in sorted(routes, key=lambda placed: placed.rank))

    def _endpoint(self, key: Key, entry: Entry) -> BaseRoute:
        target = entry.definition.target
        if key.method == WEBSOCKET:
            endpoint = _WsEndpoint(self._desk, self.conversations, key, self._shows_page_of)
            return WebSocketRoute(key.path, endpoint, name=target.message.name)
        if key.method == "MOUNT":
            app, name = target
            return Mount(key.path, app=app, name=name)
        handler: HttpHandler = target
        return Route(
            key.path,
            _HttpEndpoint(self._desk, self._pages, key, entry, handler.bound),
            methods=[key.method],
            name=handler.name,
            include_in_schema=handler.include_in_schema,
        )

    # -- development

    async def _feed(self, request: Request) -> Response:
        if not self._desk.in_development:
            raise HTTPException(404)
        page = self._open_page(request)

        async def change() -> Event | None:
            found = await page.change() if page is not None else None
            if found is None:
                return None
            before, now = found
            old = before.html if before is not None else None
            return Event("page", {"old": old, "new": now.html, "digest": now.digest}, now.digest)

        return StreamingResponse(
            self._desk.feed.events(change), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def _panel(self, request: Request) -> Response:
        """The panel under a preview: its page, and what that asks for. For the author alone, who has the key of it."""
        key = request.headers.get("x-nbws-panel") or request.query_params.get("key", "")
        if not self._desk.in_development or not is_same(key, self._desk.panel_key):
            raise HTTPException(404)
        if request.method == "GET":
            root = request.scope.get("root_path", "")
            return HTMLResponse(panel_page(root, root + _PANEL_PATH, key))
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _PANEL_BYTES:
                raise HTTPException(413)
        try:
            asked = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError as exc:
            raise HTTPException(400, f"the panel asks with a JSON object: {exc}") from None
        return JSONResponse(await self._desk.in_thread(lambda: self._desk.inspect(asked)))

    def _open_page(self, request: Request) -> OpenPage | None:
        """The page that asks for the feed. A browser that comes back after a cut names the page that it had last."""
        digest = request.headers.get("last-event-id") or request.query_params.get("page")
        at = request.query_params.get("at", "")
        if not digest or not at.startswith("/"):
            return None
        path, _, query = at.partition("?")
        scope = {
            **{
                name: request.scope[name]
                for name in ("type", "asgi", "http_version", "server", "client", "scheme", "app")
            },
            "headers": [(n, v) for n, v in request.scope["headers"] if n in (b"host", b"cookie", b"user-agent")],
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "root_path": request.scope.get("root_path", ""),
            "query_string": query.encode(),
        }
        return OpenPage(self._pages.get(digest), lambda: self._made_by(scope), lambda: self._render(scope))

    def _made_by(self, scope: Scope) -> Hashable:
        """What a request of *scope* is answered by; None where no handler of the author's does."""
        for route in self.router.routes:
            match, _ = route.matches(scope)
            if match is Match.FULL:
                endpoint = getattr(route, "endpoint", None)
                return endpoint.made_by() if isinstance(endpoint, _HttpEndpoint) else None
        return None

    async def _not_found(self, request: Request, exc: Exception) -> Response:
        """The answer where no route is. While its author works on it the page waits for one, and becomes it."""
        says_itself = getattr(exc, "detail", "Not Found") != "Not Found"
        if says_itself or not self._desk.in_development or "text/html" not in request.headers.get("accept", ""):
            return _http_error(request, exc)
        text = f"There is nothing at {request.url.path}. A route for it will show here at once."
        return _live_notice("Not found", text, 404, self._pages, None)

    async def _render(self, scope: Scope) -> Served | None:
        """The page that a request of *scope* gives now, through the author's middleware and all."""
        rendered: list[Served] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            pass

        try:
            await self._stack()({**scope, _RENDERED: rendered}, receive, send)
        except Exception:  # reported already, by the endpoint
            return None
        return rendered[-1] if rendered else None

    async def _shows_page_of(self, scope: Scope, url: str) -> None:
        """Show those who take note of a websocket that opens at *url* the page that it is of, where it came without.

        That is so for a client with no browser, and for a page that was loaded before they began. It is what a browser
        with its cookies would be served now.
        """
        session = scope.get("session")
        tapes = [tape for tape in self._desk.log.tapes if not tape.has_page_for(session, url)]
        for path in self._desk.shown_paths if tapes else ():
            at, _, query = path.partition("?")
            asked = {name: scope[name] for name in ("asgi", "http_version", "server", "client", "app") if name in scope}
            asked |= {"headers": [(n, v) for n, v in scope["headers"] if n in (b"host", b"cookie", b"user-agent")]}
            asked |= {"type": "http", "method": "GET", "scheme": "http", "path": at, "raw_path": at.encode()}
            asked |= {"root_path": scope.get("root_path", ""), "query_string": query.encode()}
            try:
                page = await asyncio.wait_for(self._render(asked), _PAGE_SECONDS)
            except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
                continue  # the handshake waits for it
            if page is not None and opens(page.html, url):
                for tape in tapes:
                    tape.serves(session, path, page.html)
                return

    # -- startup and shutdown

    def begin_to_stop(self) -> None:
        """The server stops. What comes from now on, it does not take any more."""
        if self.serving is not None:
            self.serving.is_ending = True
            self._desk.dismiss_clients()
        self.conversations.begin_to_stop()

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        self.startup_error = None
        if VISIT in scope:
            inside.set(scope[VISIT])
            await self._live(None, scope, receive, send)
            return
        serving = self.serving = Serving(asyncio.get_running_loop())
        inside.set(serving)
        try:
            await self._live(serving, scope, receive, send)
        finally:
            if self.serving is serving:
                self.serving = None
            serving.has_ended.set_result(None)
            if not serving.has_started.done():
                serving.has_started.set_result(None)

    async def _live(self, serving: Serving | None, scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.AsyncExitStack() as stack:
            try:
                try:
                    if serving is not None:
                        await self._desk.take_over()
                    self._lives = scope
                    await self._start_up(stack)
                except BaseException as exc:
                    self.startup_error = exc
                    await send({"type": "lifespan.startup.failed", "message": described(exc)})
                    return
                if serving is not None:
                    serving.has_started.set_result(None)
                await send({"type": "lifespan.startup.complete"})
                try:
                    await receive()
                    if serving is not None:
                        self.begin_to_stop()
                    await stack.aclose()
                except asyncio.CancelledError:
                    return  # forced to stop: a second Ctrl+C
                except Exception as exc:
                    await send({"type": "lifespan.shutdown.failed", "message": described(exc)})
                    return
            finally:
                if serving is None and self._lives is not scope:
                    stack.pop_all()  # a visit whose loop did not run when it was to give way: all is another's now
        await send({"type": "lifespan.shutdown.complete"})

    async def _start_up(self, stack: contextlib.AsyncExitStack) -> None:
        table, options = self._desk.startup_table, self._desk.options

        async def shut_down() -> None:
            functions = [entry.definition.target for _, entry in self._desk.table.live("SHUTDOWN")]
            for function in (*functions, *options.on_shutdown):
                await _call(function)

        stack.push_async_callback(shut_down)
        stack.push_async_callback(self._desk.tasks.stop)
        for function in (
            *options.on_startup,
            *(entry.definition.target for _, entry in table.live("STARTUP")),
        ):
            await _call(function)
        if options.lifespan is not None:
            lifespan = options.lifespan
            if inspect.isasyncgenfunction(lifespan):
                lifespan = contextlib.asynccontextmanager(lifespan)
            await stack.enter_async_context(lifespan(self._desk))
        self._desk.tasks.start()
        watch = asyncio.create_task(self._look_at_connections(), name="nbws stalled clients")
        stack.callback(watch.cancel)
        if self._desk.in_development and has_threads():
            stack.callback(Watchdog(self._desk.is_authors, self._desk.tell_of_blocked).stop)
        self.conversations.begin()
        stack.push_async_callback(lambda: self.conversations.stop(self._desk.limits.finish_seconds))

    async def _look_at_connections(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._look_at_each(asyncio.get_running_loop().time())

    def _look_at_each(self, now: float) -> None:
        stall_seconds = self._desk.limits.stall_seconds
        for connection in self._desk.connections:
            connection.look_at(now, stall_seconds)


class _Placed:
    """A route with its rank: part by part, literal before parameter before `:path`; mounts last, longest first."""

    def __init__(self, path: str, route: BaseRoute) -> None:
        self.route = route
        kinds = tuple(2 if ":path}" in part else 1 if "{" in part else 0 for part in path.split("/"))
        self.rank = (1, (-len(path),)) if isinstance(route, Mount) else (0, kinds)


class _WsEndpoint:
    """Accepts a websocket of one key, which begins a conversation or goes on with one."""

    def __init__(
        self,
        desk: AppDesk,
        conversations: Conversations,
        key: Key,
        shows_page_of: Callable[[Scope, str], Awaitable[None]],
    ) -> None:
        self._desk, self._conversations, self._key = desk, conversations, key
        self._shows_page_of = shows_page_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        query = query_of(scope)
        asked = Asked.of(query)
        if asked is not None:
            del query[PARAMETER]
            scope = {**scope, "query_string": without(scope["query_string"], PARAMETER)}
        known = self._conversations.get(asked.key) if asked is not None else None
        if asked is not None and known is not None and _is_same_address(known.connection.scope, scope):
            resume_session(scope, known.connection.scope)
            if await known.go_on(receive, send, scope, asked.received):
                return
            await known.over(OVER_SECONDS)  # so that `disconn` does not take away what `conn` has put there
        await self._begin(scope, query, receive, send, asked)

    async def _begin(
        self, scope: Scope, query: Mapping[str, list[str]], receive: Receive, send: Send, asked: Asked | None
    ) -> None:
        desk, limits = self._desk, self._desk.limits
        connection = Connection(
            self._key,
            scope["app"],
            HTTPConnection(scope),
            desk.membership,
            outbox=Outbox(limits.outbox_bytes, limits.overflow),
            on_problem=desk.on_problem,
        )
        if desk.log.tapes:
            await self._shows_page_of(scope, connection.address)
            for tape in desk.log.tapes:
                tape.connects(connection.id, scope.get("session"), connection.address, connection.cookies.values())
        if not desk.admit(connection):
            await self._conversations.make_room()
            if not desk.admit(connection):
                await refuse_websocket(503, _TOO_MANY, scope, send, retry_after="10")
                return
        try:
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        except BaseException:
            desk.forget(connection)
            raise
        conversation = Conversation(desk, self._conversations, connection, query, resumable=asked is not None)
        await conversation.serve(receive, send, scope, resync=asked is not None and asked.key is not None)


def _is_straight(scope: Scope, receive: Receive, send: Send) -> bool:
    """Whether nobody has put anything between a websocket and the app."""
    socket = socket_of(scope)
    return socket is not None and socket.is_behind(receive, send)


def _is_same_address(one: Scope, other: Scope) -> bool:
    return all(one.get(part) == other.get(part) for part in ("root_path", "path"))


class _HttpEndpoint:
    """Answers the requests of one key."""

    def __init__(self, desk: AppDesk, pages: Pages, key: Key, entry: Entry, bound: Bound) -> None:
        self._desk, self._pages, self._key, self._entry, self._bound = desk, pages, key, entry, bound

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        version = self._entry.current
        version.messages += 0 if _RENDERED in scope else 1
        version.running += 1
        speaker.set(Speaker(self._desk, self._key, self._bound.name, version.number))
        try:
            await self._serve(Request(scope, receive, send), scope, receive, send)
        finally:
            version.running -= 1

    def made_by(self) -> Hashable:
        """Another value once something that the answers are made by was defined anew."""
        options = self._desk.options
        functions = [ware.fn for ware, _ in self._desk.bound_before()]
        functions += [options.body_wrap] if options.body_wrap is not None else []
        return (options, reach(self._bound.fn, *functions))

    async def _serve(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        failed = False
        try:
            response = await self._answer(request)
        except (HTTPException, asyncio.CancelledError):
            raise
        except BaseException as exc:  # SystemExit in a handler must not end the server
            error, failed = self._report(exc, request), True
            if self._is_handled(exc):
                raise
            response = self._error_page(exc, error.incident, request)
        if isinstance(response, PageResponse) and b"ws-connect" in response.body:
            opens_websocket(scope)
        page = response.document if isinstance(response, PageResponse) else None
        if page is not None and (page.digest is not None or _RENDERED in scope):
            # Looked at now, and not before: a page may count its visitors.
            served = Served(page.digest or "", str(page), self.made_by())
            if served.digest:
                self._pages.remember(served)
            scope.get(_RENDERED, []).append(served)
        if page is not None and _RENDERED not in scope:
            for tape in self._desk.log.tapes:
                tape.serves(scope.get("session"), _address(request), str(page))
        if _RENDERED in scope:
            response = Response(status_code=response.status_code)  # what was asked for is in the list
        try:
            await response(scope, receive, send)
            if not failed:
                version = self._entry.current
                version.worked += 1
                if version.worked == 1:
                    self._desk.works(version)
        except ClientDisconnect:
            raise
        except Exception as exc:  # a stream or a background task; what was sent cannot be taken back
            self._report(exc, request)
            raise

    def _report(self, exc: BaseException, request: Request) -> HandlerError:
        error = HandlerError(
            exception=exc,
            handler=self._bound.name,
            key=self._key,
            version=self._entry.version,
            connection=None,
            message=f"{request.method} {request.url.path}",
        )
        self._entry.current.has_failed(is_clients=isinstance(exc, MessageError))
        self._desk.report(error)
        return error

    async def _answer(self, request: Request) -> Response:
        query = query_of(request.scope)
        form = None
        before = [
            b for b, skip in self._desk.bound_before() if not any(re.fullmatch(s, request.url.path) for s in skip)
        ]
        if any(bound.takes_fields for bound in (self._bound, *before)):
            fields = await _read_fields(request)
            if _sends_forms_in_query(request, fields):
                form = {name: values if len(values) > 1 else values[0] for name, values in query.items()}
        else:
            fields = Fields({}, dict(request.headers), b"")
        call = Call(request, self._desk, request.path_params, query, fields, form)
        for bound in before:
            result = await run_handler(bound, call, self._desk.in_thread)
            if result:
                return respond(result, request)
        loop = self._desk.loop_for(self._key)
        work = run_handler(self._bound, call, self._desk.in_thread if loop is None else None)
        return respond(await on(loop, work), request)

    def _error_page(self, exc: BaseException, incident: str, request: Request) -> Response:
        if isinstance(exc, MessageError):
            status, title, text = 400, "Bad request", f"The app could not read this request. Incident {incident}."
        else:
            status, title, text = 500, "Something went wrong", f"The app's author can look up incident {incident}."
        if not self._desk.in_development or request.method != "GET" or _RENDERED in request.scope:
            return HTMLResponse(notice(title, text), status)
        return _live_notice(title, text, status, self._pages, self.made_by())

    def _is_handled(self, exc: BaseException) -> bool:
        """Whether the author has a handler of their own for *exc*."""
        handled = _exception_handlers(self._desk)
        return 500 in handled or any(kind in handled for kind in type(exc).__mro__)


def _address(request: Request) -> str:
    return f"{request.url.path}{'?' if request.url.query else ''}{request.url.query}"


def _sends_forms_in_query(request: Request, fields: Fields) -> bool:
    # htmx sends the fields of a DELETE in the query too (`methodsThatUseUrlParams` of htmx 2)
    return request.method not in _BODY_METHODS or (request.method == "DELETE" and not fields.fields)


async def _read_fields(request: Request) -> Fields:
    """The fields of a form or of a JSON body, repeated ones as lists."""
    headers = dict(request.headers)
    if request.method not in _BODY_METHODS:
        return Fields({}, headers, b"")
    if request.headers.get("content-type", "").partition(";")[0].strip() == "application/json":
        body = await request.body()
        try:
            payload = msgspec.json.decode(body) if body else {}
        except (msgspec.DecodeError, RecursionError) as exc:
            raise MessageError(f"the body is no JSON: {exc}; send an object, or a form") from None
        if not isinstance(payload, dict):
            raise MessageError(f"the body is a JSON {type(payload).__name__}, not an object; send fields by name")
        return Fields(payload, headers, body)
    form = await request.form()
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in fields:
            present = fields[name]
            fields[name] = [*present, value] if isinstance(present, list) else [present, value]
        else:
            fields[name] = value
    return Fields(fields, headers, b"")


def _exception_handlers(desk: AppDesk) -> dict[Any, Callable[..., Any]]:
    """The author's handlers of errors, those that were added over those of the options."""
    added = (entry.definition.target for _, entry in desk.table.live("EXCEPTION"))
    return {**desk.options.exception_handlers, **dict(added)}


def _live_notice(title: str, text: str, status: int, pages: Pages, made_by: Hashable) -> Response:
    """A page that says one thing, and changes in place when there is another one in its stead."""
    page = document([ft("main", ft("h1", title), ft("p", text), cls="container")], title=title, in_development=True)
    assert page.digest is not None
    pages.remember(Served(page.digest, str(page), made_by))
    return HTMLResponse(page, status)


_TOO_MANY = "This app has as many connections as it may; come back later, or raise App(limits=Limits(connections=...))."


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    """What a path gets that no route matches."""
    if scope["type"] == "websocket":
        await refuse_websocket(403, "There is no websocket at this path; @app.ws(path) makes one.", scope, send)
        return
    raise HTTPException(404)


def _http_error(request: Request, exc: Exception) -> Response:
    """The answer to an HTTPException that the author has no handler for: what it says, or else what to do."""
    assert isinstance(exc, HTTPException)
    if exc.status_code in (204, 304):
        return Response(status_code=exc.status_code, headers=exc.headers)
    words = _WHAT_TO_DO.get(exc.status_code)
    if words is None or exc.detail != HTTPStatus(exc.status_code).phrase:
        return PlainTextResponse(exc.detail, exc.status_code, exc.headers)
    return HTMLResponse(notice(*words), exc.status_code, exc.headers)


_WHAT_TO_DO = {
    404: ("Not Found", "This app has nothing at this address. Look at its spelling, or define it: @app.get(path)."),
    405: (
        "Method Not Allowed",
        "This address answers other methods; @app.post(path) and the like add some.",
    ),
}


def _exception_handler(handler: Callable[..., Any]) -> Callable[..., Any]:
    async def answer(request: Request, exc: Exception) -> Response:
        result = handler(request, exc)
        if inspect.isawaitable(result):
            result = await result
        return respond(result, request, getattr(exc, "status_code", 500))

    return answer


async def _call(function: Callable[..., Any]) -> None:
    result = function()
    if inspect.isawaitable(result):
        await result
