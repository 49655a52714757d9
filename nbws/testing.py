"""A client of an app with no port and no browser, for tests and for cells.

    async with app.client().ws("/chat") as visitor:
        await visitor.send(text="hi")
        assert "hi" in await visitor.receive()

It speaks ASGI with the app. Where the app is served, its handlers run where they always do, on the server's loop; else
on the loop of whoever waits for the client, or for the blocking twin on a loop in a thread of its own. What starts and
stops with a server (startup functions, tasks) then starts and stops with the client. A server that starts meanwhile
takes over: it closes the websockets of clients with 1012, as one that stops does, and from then on they talk to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeVar
from urllib.parse import unquote, urlencode, urljoin, urlsplit

from nbws.errors import NbwsError
from nbws.sending import CloseCode
from nbws.visits import Host, Line, Served, Stay

__all__ = [
    "HOST",
    "Answer",
    "BlockingClient",
    "BlockingVisitor",
    "Client",
    "Closed",
    "Fragment",
    "Visitor",
]

T = TypeVar("T")

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


class Client:
    """One browser: its requests and websockets have the same cookies. `async with client:` is one visit of an app."""

    def __init__(self, app: Served, credentials: Mapping[str, str]) -> None:
        self._app = app
        self._cookies = dict(credentials)
        self._stays: list[Stay] = []  # one for each time that it was entered

    @property
    def cookies(self) -> dict[str, str]:
        """Name -> value, those of the credential among them."""
        return dict(self._cookies)

    async def __aenter__(self) -> Client:
        self._stays.append(await self._app.visits.join())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stays.pop().leave()

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
        stay = await self._app.visits.join()
        try:
            return await self._accepted(stay, path, headers)
        except BaseException:
            await stay.leave()
            raise

    async def _accepted(self, stay: Stay, path: str, headers: Mapping[str, str] | None) -> Visitor:
        line = self._line(stay, path, {"type": "websocket", "scheme": "ws", "subprotocols": []}, headers or {})
        line.to_app.put({"type": "websocket.connect"})
        said = await line.from_app.get(_SECONDS)
        if said["type"] == "websocket.accept":
            self._keep_cookies(_text(said.get("headers", ())))
            return Visitor(self._app, line, path, stay.leave)
        if said["type"] == "error":
            raise said["error"]
        if line.cut_by is not None:
            raise Closed(CloseCode.RESTART, line.cut_by)
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
        async with self._app.visits.stay() as stay:
            for _ in range(_REDIRECTS):
                answer = await self._exchange(stay, method, path, body, {**kind, **(headers or {})})
                target = answer.headers.get("location")
                if not follow or target is None or answer.status_code not in (301, 302, 303, 307, 308):
                    return answer
                if answer.status_code in (301, 302, 303):
                    method, body, kind = "GET", b"", {}
                path = _below_host(urljoin(f"http://{HOST}{path}", target))
        raise NbwsError(f"{path} redirects without end")

    async def _exchange(self, stay: Stay, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        headers = {"accept": "text/html, */*", **headers, **({"content-length": str(len(body))} if body else {})}
        line = self._line(stay, path, {"type": "http", "scheme": "http", "method": method}, headers)
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

    def _line(self, stay: Stay, path: str, kind: Mapping[str, Any], headers: Mapping[str, str]) -> Line:
        """A conversation with the app at *path*. *kind* goes into its scope."""
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is no path; it starts with '/'")
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
        return stay.line(scope)

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
        try:
            await self._line.ended()
        finally:
            on_close, self._on_close = self._on_close, None
            if on_close is not None:
                await on_close()


class BlockingClient:
    """A `Client` for code that does not await: each method returns when it is done."""

    def __init__(self, client: Client, app: Served) -> None:
        self._client, self._app = client, app
        self._hosts: list[Host] = []  # one for each time that it was entered

    def __enter__(self) -> BlockingClient:
        self._hosts.append(self._entered(self._client.__aenter__)[0])
        return self

    def __exit__(self, *_: object) -> None:
        host = self._hosts.pop()
        try:
            host.wait(self._client.__aexit__())
        finally:
            host.release()

    def _entered(self, enter: Callable[[], Coroutine[Any, Any, T]]) -> tuple[Host, T]:
        """What *enter* gives, and the host that waits for it, to be released in the end."""
        host = self._app.visits.host()
        try:
            return host, host.wait(enter())
        except BaseException:
            host.release()
            raise

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
        host, visitor = self._entered(lambda: self._client.connect(path, headers=headers))
        return BlockingVisitor(visitor, host)

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
        host, result = self._entered(work)
        host.release()
        return result


class BlockingVisitor:
    """One websocket of a blocking client. `for fragment in visitor` goes on until the app closes it."""

    def __init__(self, visitor: Visitor, host: Host) -> None:
        self._visitor, self._host = visitor, host
        self._is_closed = False

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
        if self._is_closed:
            return
        self._host.wait(self._visitor.close(code))
        self._is_closed = True
        self._host.release()


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
