"""A client of an app with no port and no browser, for tests and for cells.

    async with app.client().ws("/chat") as visitor:
        await visitor.send(text="hi")
        assert "hi" in await visitor.receive()

It speaks ASGI with the app. Where the app is served, its handlers run where they always do, on the server's loop; else
on the loop of whoever waits for the client, or for the blocking twin on a loop in a thread of its own. What starts and
stops with a server (startup functions, tasks) then starts and stops with the client.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlencode, urljoin, urlsplit

from nbws.errors import NbwsError
from nbws.loops import can_be_suspended, wait
from nbws.runs import has_threads

__all__ = [
    "HOST",
    "Answer",
    "BlockingClient",
    "BlockingVisitor",
    "Client",
    "Closed",
    "Fragment",
    "Line",
    "Visitor",
    "Visits",
]

T = TypeVar("T")

Asgi = Callable[[Any, Any, Any], Awaitable[None]]

HOST = "testserver"  #: the gate knows by it that no socket is in between
_SECONDS = 5.0
_REDIRECTS = 10


class Closed(NbwsError):
    """The app has closed the websocket, or refused it. *code* is the close code, or a status such as 403."""

    def __init__(self, code: int, reason: str = "") -> None:
        self.code, self.reason = code, reason
        super().__init__(f"the websocket is closed: {code}{f' ({reason})' if reason else ''}")


class Fragment(str):
    """The HTML of one message, as htmx would get it. Shown rendered in a notebook."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(self)


class Answer:
    """The response to a request. In a notebook it shows what a browser would."""

    def __init__(self, status_code: int, headers: list[tuple[str, str]], content: bytes, url: str) -> None:
        self.status_code = status_code  #: such as 200
        self.content = content  #: the body
        self.url = url  #: the path and the query that it answers, of the last request where redirects were followed
        self.headers = dict(headers)  #: by lower-case name; the last one where a name comes twice

    @property
    def text(self) -> Fragment:
        """The body as text."""
        return Fragment(self.content.decode("utf-8", "replace"))

    def json(self) -> Any:
        """What the body says in JSON. Raises ValueError where it is none."""
        return json.loads(self.content)

    def _repr_html_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<{self.status_code} {self.url}: {len(self.content)} bytes>"


class Failed(Protocol):
    """An error of a handler."""

    @property
    def title(self) -> str: ...


class Served(Protocol):
    """What a client needs of an app."""

    @property
    def serving_loop(self) -> asyncio.AbstractEventLoop | None: ...
    @property
    def visits(self) -> Visits: ...
    @property
    def token(self) -> str | None: ...
    @property
    def errors(self) -> Sequence[Failed]: ...
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class _Mailbox:
    """What one side has said and the other has not taken. Each side may be on any loop, or none."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._lock = threading.Lock()
        self._waiting: list[concurrent.futures.Future[None]] = []

    def put(self, item: Any) -> None:
        with self._lock:
            self._items.append(item)
            waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.cancelled():
                each.set_result(None)

    def _take(self) -> tuple[Any, concurrent.futures.Future[None] | None]:
        """(the next item, None), or what tells that there is one."""
        with self._lock:
            if self._items:
                return self._items.popleft(), None
            arrival: concurrent.futures.Future[None] = concurrent.futures.Future()
            self._waiting.append(arrival)
            return None, arrival

    async def get(self, seconds: float | None = None) -> Any:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds if seconds is not None else None
        while True:
            item, arrival = self._take()
            if arrival is None:
                return item
            await asyncio.wait_for(asyncio.wrap_future(arrival), end - loop.time() if end is not None else None)


class Line:
    """One conversation with the app: a request, or a websocket. Both mailboxes hold ASGI's messages.

    The app has done with it when it says `{"type": "end"}`, or `{"type": "error", "error": ...}`.
    """

    def __init__(self, app: Asgi, scope: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        self.from_app, self.to_app = _Mailbox(), _Mailbox()
        self._ended = asyncio.run_coroutine_threadsafe(self._run(app, dict(scope)), loop)

    async def _run(self, app: Asgi, scope: dict[str, Any]) -> None:
        async def send(message: Any) -> None:
            self.from_app.put(message)

        try:
            await app(scope, self.to_app.get, send)
        except BaseException as exc:
            self.from_app.put({"type": "error", "error": exc})
            if not isinstance(exc, Exception):
                raise
        else:
            self.from_app.put({"type": "end"})

    async def ended(self) -> None:
        await asyncio.wrap_future(self._ended)


class Visits:
    """The clients of one app that nobody serves: it starts with the first of them and stops with the last."""

    def __init__(self, app: Asgi) -> None:
        self._app = app
        self._count = 0
        self._lifespan: Line | None = None
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.loop: asyncio.AbstractEventLoop | None = None  #: that the app runs on; None while there are none

    async def begin(self) -> asyncio.AbstractEventLoop:
        """One more. Gives the loop that the app runs on. Raises NbwsError where the app does not start."""
        self._count += 1
        if self.loop is not None:
            await asyncio.wrap_future(self._started)
            return self.loop
        self.loop = asyncio.get_running_loop()
        self._lifespan = Line(self._app, {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, self.loop)
        self._lifespan.to_app.put({"type": "lifespan.startup"})
        said = await self._lifespan.from_app.get()
        if said["type"] != "lifespan.startup.complete":
            failed = NbwsError(f"the app did not start: {said.get('message') or said.get('error')}")
            self._count, self.loop = 0, None
            self._started.set_exception(failed)
            self._started = concurrent.futures.Future()
            raise failed
        self._started.set_result(None)
        return self.loop

    async def end(self) -> None:
        """One less."""
        self._count -= 1
        if self._count or self._lifespan is None:
            return
        self._lifespan.to_app.put({"type": "lifespan.shutdown"})
        await self._lifespan.ended()
        self._lifespan, self.loop, self._started = None, None, concurrent.futures.Future()


class Client:
    """One browser: its requests and websockets have the same cookies. `async with client:` is one visit of an app."""

    def __init__(self, app: Served, credentials: Mapping[str, str]) -> None:
        self._app = app
        self._cookies = dict(credentials)
        self._entered = 0
        self._is_visit = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def cookies(self) -> dict[str, str]:
        """Name -> value, those of the credential among them."""
        return dict(self._cookies)

    async def __aenter__(self) -> Client:
        self._entered += 1
        if self._entered == 1:
            try:
                served_by = self._app.serving_loop
                self._is_visit = served_by is None
                self._loop = served_by or await self._app.visits.begin()
            except BaseException:
                self._entered = 0
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._entered -= 1
        if self._entered == 0 and self._is_visit:
            await self._app.visits.end()

    # -- websockets

    @contextlib.asynccontextmanager
    async def ws(self, path: str, *, headers: Mapping[str, str] | None = None) -> AsyncIterator[Visitor]:
        """`async with client.ws("/chat") as visitor:`, left at the end. Raises Closed where the app refuses it."""
        visitor = await self.connect(path, headers=headers)
        try:
            yield visitor
        finally:
            await visitor.close()

    async def connect(self, path: str, *, headers: Mapping[str, str] | None = None) -> Visitor:
        """A websocket at *path* that stays until its `close()`, as from cell to cell. Raises Closed like `ws`."""
        await self.__aenter__()
        try:
            return await self._accepted(path, headers)
        except BaseException:
            await self.__aexit__()
            raise

    async def _accepted(self, path: str, headers: Mapping[str, str] | None) -> Visitor:
        line = self._line(path, {"type": "websocket", "scheme": "ws", "subprotocols": []}, headers or {})
        line.to_app.put({"type": "websocket.connect"})
        said = await line.from_app.get(_SECONDS)
        if said["type"] == "websocket.accept":
            self._keep_cookies(_text(said.get("headers", ())))
            return Visitor(self._app, line, path, self.__aexit__)
        if said["type"] == "error":
            raise said["error"]
        raise Closed(said.get("status", 403), "the app refused the handshake")

    # -- requests

    async def get(
        self, path: str, *, headers: Mapping[str, str] | None = None, follow: bool = True, **query: Any
    ) -> Answer:
        """A GET of *path*, with *query* after it. Redirects are followed unless *follow* is False."""
        if query:
            path += ("&" if "?" in path else "?") + urlencode(query, doseq=True)
        return await self.request("GET", path, headers=headers, follow=follow)

    async def post(
        self,
        path: str,
        fields: Mapping[str, Any] | None = None,
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        follow: bool = True,
        **more: Any,
    ) -> Answer:
        """A POST of a form with *fields* and *more*, or of *json*."""
        return await self.request("POST", path, {**(fields or {}), **more}, json=json, headers=headers, follow=follow)

    async def request(
        self,
        method: str,
        path: str,
        fields: Mapping[str, Any] | None = None,
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        follow: bool = True,
    ) -> Answer:
        """Any request, with a form of *fields* or with *json* as its body.

        What it raises in the app is answered as for a browser, and is in `app.errors`.
        """
        body, kind = _body(fields, json)
        async with self:
            for _ in range(_REDIRECTS):
                answer = await self._exchange(method, path, body, {**kind, **(headers or {})})
                target = answer.headers.get("location")
                if not follow or target is None or answer.status_code not in (301, 302, 303, 307, 308):
                    return answer
                if answer.status_code in (301, 302, 303):
                    method, body, kind = "GET", b"", {}
                path = _below_host(urljoin(f"http://{HOST}{path}", target))
        raise NbwsError(f"{path} redirects without end")

    async def _exchange(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        headers = {"accept": "text/html, */*", **headers, **({"content-length": str(len(body))} if body else {})}
        line = self._line(path, {"type": "http", "scheme": "http", "method": method}, headers)
        line.to_app.put({"type": "http.request", "body": body, "more_body": False})
        status, content = 0, b""
        found: list[tuple[str, str]] = []
        while (said := await line.from_app.get())["type"] != "end":
            if said["type"] == "error":
                if not status:
                    raise said["error"]
                break  # answered before it was raised
            if said["type"] == "http.response.start":
                status, found = said["status"], _text(said.get("headers", ()))
                self._keep_cookies(found)
            elif said["type"] == "http.response.body":
                content += said.get("body", b"")
        line.to_app.put({"type": "http.disconnect"})
        return Answer(status, found, content, path)

    def _line(self, path: str, kind: Mapping[str, Any], headers: Mapping[str, str]) -> Line:
        """A conversation with the app at *path*, for who speaks ASGI themselves. *kind* goes into its scope.

        Only while the client is on a visit: inside of `async with client`.
        """
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is no path; it starts with '/'")
        assert self._loop is not None
        address = urlsplit(path)
        cookie = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        sent = {"host": HOST, "user-agent": "nbws client", **headers, **({"cookie": cookie} if cookie else {})}
        scope = {
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "server": (HOST, None),
            "client": ("testclient", 0),
            "root_path": "",
            "path": unquote(address.path),
            "raw_path": address.path.encode(),
            "query_string": address.query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent.items()],
            "extensions": {},
            "state": {},
            **kind,
        }
        return Line(self._app, scope, self._loop)

    def _keep_cookies(self, headers: Iterable[tuple[str, str]]) -> None:
        """Take the cookies that *headers* of an answer set, as a browser does."""
        for name, value in headers:
            if name == "set-cookie":
                with contextlib.suppress(CookieError):
                    for key, morsel in SimpleCookie(_known_attributes(value)).items():
                        if morsel["max-age"] in ("0", "-1") or "1970" in morsel["expires"]:
                            self._cookies.pop(key, None)
                        else:
                            self._cookies[key] = morsel.value


class Visitor:
    """One websocket of a client. `async for fragment in visitor` goes on until the app closes it."""

    def __init__(self, app: Served, line: Line, path: str, on_close: Callable[[], Awaitable[None]]) -> None:
        self._app, self._line, self.path = app, line, path
        self._on_close: Callable[[], Awaitable[None]] | None = on_close
        self._closed: Closed | None = None

    async def send(self, **fields: Any) -> None:
        """Send what htmx sends for a form with these *fields*. Raises Closed where the app has closed."""
        headers = {
            "HX-Request": "true",
            "HX-Trigger": None,
            "HX-Trigger-Name": None,
            "HX-Target": None,
            "HX-Current-URL": f"http://{HOST}/",
        }
        await self.send_text(json.dumps({**fields, "HEADERS": headers}))

    async def send_text(self, text: str) -> None:
        """Send *text* as one frame, as it is."""
        self._send({"type": "websocket.receive", "text": text})

    async def send_bytes(self, data: bytes) -> None:
        """Send *data* as one binary frame."""
        self._send({"type": "websocket.receive", "bytes": data})

    def _send(self, event: Mapping[str, Any]) -> None:
        if self._closed is not None:
            raise self._closed
        self._line.to_app.put(event)

    async def receive(self, timeout: float = _SECONDS) -> Any:
        """The next fragment, or bytes. Raises TimeoutError after *timeout* seconds, Closed at the end."""
        if self._closed is not None:
            raise self._closed
        try:
            said = await self._line.from_app.get(timeout)
        except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            errors = list(self._app.errors)
            failed = f"; the last error of the app is {errors[-1].title}" if errors else ""
            raise TimeoutError(f"nothing came on {self.path} within {timeout:g} s{failed}") from None
        if said["type"] == "websocket.send":
            text = said.get("text")
            return Fragment(text) if text is not None else said["bytes"]
        if said["type"] == "error":
            raise said["error"]
        self._closed = Closed(said.get("code", 1006), said.get("reason") or "")
        self._line.to_app.put({"type": "websocket.disconnect", "code": self._closed.code, "reason": ""})
        raise self._closed

    async def ask(self, timeout: float = _SECONDS, /, **fields: Any) -> Any:
        """`send` *fields*, and `receive` what comes next, within *timeout* seconds."""
        await self.send(**fields)
        return await self.receive(timeout)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._until_closed()

    async def _until_closed(self) -> AsyncIterator[Any]:
        while True:
            try:
                yield await self.receive(timeout=60)
            except Closed:
                return

    async def close(self, code: int = 1000) -> None:
        """Close, and wait until the app has done with the connection, its `disconn` included."""
        self._line.to_app.put({"type": "websocket.disconnect", "code": code, "reason": ""})
        self._closed = self._closed or Closed(code)
        with contextlib.suppress(Exception):
            await self._line.ended()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            await on_close()


class BlockingClient:
    """A `Client` for code that does not await: each method returns when it is done."""

    def __init__(self, client: Client, app: Served) -> None:
        self._client, self._app = client, app
        self._host: _Host | None = None
        self._visits = 0

    def __enter__(self) -> BlockingClient:
        self._visits += 1
        if self._visits == 1:
            self._host = _Host(self._app.serving_loop or self._app.visits.loop)
            self._host.wait(self._client.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._visits -= 1
        if self._visits == 0 and self._host is not None:
            self._host.wait(self._client.__aexit__())
            self._host.end()
            self._host = None

    @property
    def cookies(self) -> dict[str, str]:
        """Name -> value, those of the credential among them."""
        return self._client.cookies

    @contextlib.contextmanager
    def ws(self, path: str, *, headers: Mapping[str, str] | None = None) -> Iterator[BlockingVisitor]:
        """`with client.ws("/chat") as visitor:`, left at the end. Raises Closed where the app refuses it."""
        visitor = self.connect(path, headers=headers)
        try:
            yield visitor
        finally:
            visitor.close()

    def connect(self, path: str, *, headers: Mapping[str, str] | None = None) -> BlockingVisitor:
        """A websocket at *path* that stays until its `close()`, as from cell to cell. Raises Closed like `ws`."""
        self.__enter__()
        assert self._host is not None
        try:
            return BlockingVisitor(
                self._host.wait(self._client.connect(path, headers=headers)), self._host, self.__exit__
            )
        except BaseException:
            self.__exit__()
            raise

    def get(self, path: str, **options: Any) -> Answer:
        """`Client.get`, with its options."""
        return self._wait(lambda: self._client.get(path, **options))

    def post(self, path: str, *fields: Mapping[str, Any], **options: Any) -> Answer:
        """`Client.post`, with its options."""
        return self._wait(lambda: self._client.post(path, *fields, **options))

    def request(self, method: str, path: str, *fields: Mapping[str, Any], **options: Any) -> Answer:
        """`Client.request`, with its options."""
        return self._wait(lambda: self._client.request(method, path, *fields, **options))

    def _wait(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with self:
            assert self._host is not None
            return self._host.wait(work())


class BlockingVisitor:
    """One websocket of a blocking client. `for fragment in visitor` goes on until the app closes it."""

    def __init__(self, visitor: Visitor, host: _Host, on_close: Callable[[], None]) -> None:
        self._visitor, self._host = visitor, host
        self._on_close: Callable[[], None] | None = on_close

    def send(self, **fields: Any) -> None:
        """`Visitor.send`: what htmx sends for a form with these *fields*."""
        self._host.wait(self._visitor.send(**fields))

    def send_text(self, text: str) -> None:
        """Send *text* as one frame, as it is."""
        self._host.wait(self._visitor.send_text(text))

    def send_bytes(self, data: bytes) -> None:
        """Send *data* as one binary frame."""
        self._host.wait(self._visitor.send_bytes(data))

    def receive(self, timeout: float = _SECONDS) -> Any:
        """The next fragment, or bytes. Raises TimeoutError after *timeout* seconds, Closed at the end."""
        return self._host.wait(self._visitor.receive(timeout))

    def ask(self, timeout: float = _SECONDS, /, **fields: Any) -> Any:
        """`send` *fields*, and `receive` what comes next, within *timeout* seconds."""
        return self._host.wait(self._visitor.ask(timeout, **fields))

    def __iter__(self) -> Iterator[Any]:
        while True:
            try:
                yield self.receive(timeout=60)
            except Closed:
                return

    def close(self, code: int = 1000) -> None:
        """Close, and return when the app has done with the connection, its `disconn` included."""
        if self._on_close is not None:
            self._host.wait(self._visitor.close(code))
            on_close, self._on_close = self._on_close, None
            on_close()


class _Host:
    """The loop that a blocking client works on: the server's, or one in a thread of its own."""

    def __init__(self, serving: asyncio.AbstractEventLoop | None) -> None:
        self._thread: threading.Thread | None = None
        if serving is not None:
            self._loop = serving
            return
        running = _running_loop()
        if running is not None and not has_threads():
            self._loop = running
            return
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nbws-client", daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        if _running_loop() is self._loop and not can_be_suspended():
            work.close()
            raise NbwsError("a blocking client cannot wait for the loop that it is called on; await app.client()'s")
        return wait(self._loop, work)

    def end(self) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _text(headers: Any) -> list[tuple[str, str]]:
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]


def _body(fields: Mapping[str, Any] | None, value: Any) -> tuple[bytes, dict[str, str]]:
    if value is not None:
        return json.dumps(value).encode(), {"content-type": "application/json"}
    if fields:
        return urlencode(fields, doseq=True).encode(), {"content-type": "application/x-www-form-urlencoded"}
    return b"", {}


def _below_host(url: str) -> str:
    address = urlsplit(url)
    if address.netloc != HOST:
        raise NbwsError(f"the app redirects to {url}, which is another host")
    return address.path + (f"?{address.query}" if address.query else "")


def _known_attributes(cookie: str) -> str:
    """*cookie* without what http.cookies does not know before Python 3.14, and then refuses whole."""
    return "; ".join(part for part in cookie.split("; ") if part.lower() != "partitioned")
