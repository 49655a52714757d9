"""The clients of apps in the same page: what a browser's frames ask comes as messages, and so does the answer.

There is no socket: each request and each websocket is a conversation with the app by ASGI, as that of `app.client()`.
A client is a browser of its own, with cookies of its own, and it is on a visit for as long as it is open: what starts
and stops with a server (startup functions, tasks) does so with the clients of a page.

Messages that come have a "kind" and an "id" that the asker has chosen: "request" (client, app, method, path, headers,
data), "abort"; "connect" (client, app, path, headers), "send" (data), "close" (code). What goes out has the same id:
"head" (status, headers, url), "body" (data), "end"; "open", "message" (data), "closed" (code, reason). "app" is the
number of one, or None for the notebook's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from nbws.app import App
from nbws.errors import described
from nbws.page import notice
from nbws.testing import HOST, Client
from nbws.visits import Line

__all__ = ["Clients"]

Message = Mapping[str, Any]

_REDIRECTS = 10
# Streams end at `http.disconnect`, as under uvicorn; from 2.4 on they would wait for `send` to fail.
_ASGI = {"version": "3.0", "spec_version": "2.3"}
_STREAMS = 64  #: feeds of one app; nothing here is short of connections


class _Browser(Client):
    """The browser of a frame, which speaks ASGI itself."""

    take_cookies = Client._keep_cookies

    def open_line(self, path: str, kind: Mapping[str, Any], headers: Mapping[str, str]) -> Line:
        return self._line(self._stays[-1], path, kind, headers)


class Clients:
    """Answers messages by *post*. *find* gives the app of a number, or for None the one that a client means.

    On one loop only. Never raises: what goes wrong is answered.
    """

    def __init__(self, find: Callable[[int | None], App | None], post: Callable[[Message], None]) -> None:
        self._find, self._post = find, post
        self._clients: dict[tuple[str, int], _Browser] = {}
        self._lines: dict[int, Line] = {}  # by the id of their message
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._entering = asyncio.Lock()

    def receive(self, message: Message) -> None:
        """Take one message. Returns at once."""
        kind, id = message["kind"], message.get("id", 0)
        line = self._lines.get(id)
        if kind == "request":
            self._begin(id, self._answer(message))
        elif kind == "connect":
            self._begin(id, self._connect(message))
        elif line is None:
            return  # it has ended meanwhile
        elif kind == "send":
            data = message["data"]
            line.to_app.put({"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data})
        elif kind == "close":
            line.to_app.put({"type": "websocket.disconnect", "code": message.get("code") or 1005, "reason": ""})
        elif kind == "abort":
            line.to_app.put({"type": "http.disconnect"})

    async def stop(self) -> None:
        """Close all websockets, end all requests, and have every client leave."""
        for line in tuple(self._lines.values()):
            line.to_app.put({"type": "websocket.disconnect", "code": 1001, "reason": ""})
        if self._tasks:
            await asyncio.wait(tuple(self._tasks.values()), timeout=5)
        for name, _ in tuple(self._clients):
            await self._leave(name)

    # -- a request

    async def _answer(self, message: Message) -> None:
        id, path = message["id"], message["path"]
        app = self._find(message.get("app"))
        if app is None:
            self._say_page(id, path, 503, "No app yet", "No cell that has run has made an App.")
            return
        try:
            client = await self._client(message["client"], app)
            await self._exchange(client, message)
        except Exception as exc:
            self._say_page(id, path, 500, "The app does not answer", described(exc))

    async def _exchange(self, client: _Browser, message: Message) -> None:
        """Follow redirects, as a browser does, and say what the last answer is while it comes."""
        id, path, method, body = message["id"], message["path"], message["method"], message.get("data") or b""
        given = {name.lower(): value for name, value in message.get("headers", ())}
        for _ in range(_REDIRECTS):
            headers = {"accept": "*/*", **given, **({"content-length": str(len(body))} if body else {})}
            kind = {"type": "http", "scheme": "http", "method": method, "asgi": _ASGI}
            line = self._lines[id] = client.open_line(path, kind, headers)
            line.to_app.put({"type": "http.request", "body": body, "more_body": False})
            target = await self._pass_on(client, line, id, path)
            if target is None:
                return
            status, location = target
            if status in (301, 302, 303) and method != "HEAD":
                method, body = "GET", b""
                given.pop("content-type", None)
            address = urlsplit(urljoin(f"http://{HOST}{path}", location))
            if address.netloc != HOST:
                self._say_head(id, status, [("location", location)], path)
                self._post({"kind": "end", "id": id})
                return
            path = address.path + (f"?{address.query}" if address.query else "")
        self._say_page(id, path, 508, "Redirects without end", f"{path} is one of them.")

    async def _pass_on(self, client: _Browser, line: Line, id: int, path: str) -> tuple[int, str] | None:
        """Say what comes on *line*. Gives (status, location) in place of that where the answer leads elsewhere."""
        began, leads = False, None
        while (said := await line.from_app.get())["type"] not in ("end", "error"):
            if said["type"] == "http.response.start":
                headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in said["headers"]]
                client.take_cookies(headers)
                location = dict(headers).get("location")
                if location is not None and said["status"] in (301, 302, 303, 307, 308):
                    leads = (said["status"], location)
                else:
                    self._say_head(id, said["status"], headers, path)
                began = True
            elif said["type"] == "http.response.body" and leads is None and said.get("body"):
                self._post({"kind": "body", "id": id, "data": said["body"]})
        line.to_app.put({"type": "http.disconnect"})
        if said["type"] == "error" and not began:
            raise said["error"]
        if leads is None:
            self._post({"kind": "end", "id": id})
        return leads

    def _say_head(self, id: int, status: int, headers: list[tuple[str, str]], path: str) -> None:
        known = [(name, value) for name, value in headers if name != "set-cookie"]
        self._post({"kind": "head", "id": id, "status": status, "headers": known, "url": path})

    def _say_page(self, id: int, path: str, status: int, title: str, text: str) -> None:
        self._say_head(id, status, [("content-type", "text/html; charset=utf-8")], path)
        self._post({"kind": "body", "id": id, "data": notice(title, text).encode()})
        self._post({"kind": "end", "id": id})

    # -- a websocket

    async def _connect(self, message: Message) -> None:
        id, reason = message["id"], ""
        app = self._find(message.get("app"))
        code = 1006
        try:
            if app is None:
                return
            client = await self._client(message["client"], app)
            headers = dict(message.get("headers", ()))
            line = client.open_line(message["path"], {"type": "websocket", "scheme": "ws", "subprotocols": []}, headers)
            self._lines[id] = line
            line.to_app.put({"type": "websocket.connect"})
            while (said := await line.from_app.get())["type"] not in ("end", "error"):
                if said["type"] == "websocket.accept":
                    client.take_cookies(
                        (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in said["headers"]
                    )
                    self._post({"kind": "open", "id": id})
                elif said["type"] == "websocket.send":
                    text = said.get("text")
                    self._post({"kind": "message", "id": id, "data": text if text is not None else said["bytes"]})
                elif said["type"] == "websocket.close":
                    code, reason = said.get("code", 1000), said.get("reason") or ""
                    line.to_app.put({"type": "websocket.disconnect", "code": code, "reason": ""})
        finally:
            self._post({"kind": "closed", "id": id, "code": code, "reason": reason})

    # -- clients

    async def _client(self, name: str, app: App) -> _Browser:
        """The client *name* of *app*, on a visit. Raises NbwsError where the app does not start."""
        async with self._entering:
            client = self._clients.get((name, app.number))
            if client is None:
                app.feed.max_streams = _STREAMS
                client = _Browser(app, {})
                await client.__aenter__()
                self._clients[name, app.number] = client
            return client

    async def _leave(self, name: str) -> None:
        for key in [key for key in self._clients if key[0] == name]:
            client = self._clients.pop(key)
            with contextlib.suppress(Exception):
                await client.__aexit__()

    def _begin(self, id: int, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks[id] = asyncio.create_task(work)

        def ended(_: Any) -> None:
            self._tasks.pop(id, None)
            self._lines.pop(id, None)

        task.add_done_callback(ended)
