"""Which session does a request belong to? Its cookie holds a signed random id, and nothing else."""

from __future__ import annotations

import copy
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from itsdangerous import BadSignature, TimestampSigner
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nbws.connection import KEEP, USE
from nbws.options import Options
from nbws.security import read_cookies
from nbws.session_store import Shared
from nbws.sessions import PROCESS, Session, Sessions, reading

__all__ = ["SessionCookies", "SessionMiddleware", "opens_websocket", "resume_session", "workers_asked_for"]

_VISIT = "nbws.visit"  #: in a scope: the Visit
_CLOCK_SECONDS = 2.0  #: signatures have whole seconds, and clocks of two processes are not quite one

_log = logging.getLogger("nbws")


class SessionDesk(Protocol):
    """What sessions need of an App."""

    @property
    def options(self) -> Options: ...
    @property
    def secret_key(self) -> str: ...


@dataclass(eq=False, slots=True)
class Visit:
    """One request or websocket, and the id that its browser came with; None where it had none of ours."""

    session: Session
    told: str | None
    signed_at: float  #: seconds since 1970
    opens_websocket: bool = False
    reads_session: bool = False

    def read(self) -> None:
        self.reads_session = True


class SessionCookies:
    """The sessions of an App, found by their cookies. It lasts as long as the App does; callable from any thread."""

    def __init__(self, desk: SessionDesk) -> None:
        self._desk = desk
        self._key: str | None = None
        self._key_since = 0.0
        self._made_for: Options | None = None
        self._signer = TimestampSigner("")
        self._has_looked = self._has_warned = False
        self.sessions = Sessions(lambda: desk.options.limits.sessions, lambda: desk.options.max_age)

    def visit(self, scope: Scope) -> Visit:
        """The visit of *scope*, with the session that it belongs to."""
        self._follow_options()
        header = "; ".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie")
        named = [value for name, value in read_cookies(header) if name == self._desk.options.session_cookie]
        # A name may come twice: set for another path or domain, or in the two forms that a frame and a tab keep. What
        # is none of ours must not hide what is, and of two of ours the one that was brought last counts.
        found = [read for value in reversed(named) if (read := self._read(value)) is not None]
        id, signed_at = max(found, key=lambda read: read[1], default=(None, 0.0))
        if id is not None:
            session = self.sessions.find(id)
        elif scope["type"] == "websocket":
            session = self.sessions.begin()  # the handshake is the last that can bring a cookie
        else:
            session = Session()
        self._share(session)
        return Visit(session, id, signed_at)

    def use(self, session: Session) -> None:
        """Note that *session* is used now."""
        self._follow_options()
        self.sessions.use(session)

    async def settle(self, visit: Visit) -> str | None:
        """The Set-Cookie header that the browser is to get at this moment of *visit*; None where it has what it needs.

        What was written so far is safe after it.
        """
        session, options = visit.session, self._desk.options
        old = session.id
        needs_id = bool(session) or visit.opens_websocket
        if (old is None and needs_id) or (old is not None and session.is_to_be_renewed):
            self.sessions.give_id(session)
            self._share(session)
            if old is not None and isinstance(session.shared, Shared):
                await session.shared.move_from(old)
        await self.keep(session)
        if session.id is None:
            return None
        is_old = options.max_age is not None and time.time() - visit.signed_at > options.max_age / 10
        if session.id == visit.told and not (session and is_old):
            return None
        return self._set_cookie(session.id)

    async def keep(self, session: Session) -> None:
        """What was written to *session* is there for whoever comes next."""
        self.use(session)
        if isinstance(session.shared, Shared):
            await session.shared.save()
        elif session and not self._has_looked:
            self._has_looked = True
            if workers_asked_for(sys.argv, os.environ) > 1:
                self._warn("several workers were asked for")

    def _set_cookie(self, id: str) -> str:
        options = self._desk.options
        parts = [f"{options.session_cookie}={self._signer.sign(id).decode()}", "Path=/"]
        if options.max_age is not None:
            parts.append(f"Max-Age={options.max_age}")
        parts += ["HttpOnly", f"SameSite={options.same_site}", *(["Secure"] if options.https_only else [])]
        return "; ".join(parts)

    def _read(self, cookie: str) -> tuple[str, float] | None:
        """(the id that *cookie* holds, when it was signed); None where the key of today has not signed it.

        One of ours that is not known is taken all the same, as after a restart: pages and websockets that come back
        at once must meet in one session.
        """
        try:
            value, signed = self._signer.unsign(cookie, return_timestamp=True)
        except BadSignature as exc:
            self._suspect(exc.payload or b"", getattr(exc, "date_signed", None))
            return None
        if self._desk.options.session_store is None:
            self._suspect(value, signed)
        return value.decode(), signed.timestamp()

    def _suspect(self, payload: Any, signed: Any) -> None:
        """Warn where another process has begun a session since this one serves: what it knows is not known here."""
        is_others = signed is not None and not bytes(payload).startswith(PROCESS.encode())
        if is_others and signed.timestamp() > self._key_since + _CLOCK_SECONDS:
            self._warn("a session came that another process has begun")

    def _warn(self, what: str) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        _log.warning(
            "%s, and each process keeps its sessions to itself: what one writes the others do not see. Run one worker, "
            "or give App a secret_key= and a session_store= that all share; two apps on one host need a "
            "session_cookie= of their own each",
            what,
        )

    def _share(self, session: Session) -> None:
        store = self._desk.options.session_store
        if store is None or session.id is None:
            session.shared = None
        elif not isinstance(session.shared, Shared) or session.shared.store is not store:
            session.shared = Shared(session, store, lambda: self._desk.options.max_age)

    def _follow_options(self) -> None:
        """Where the secret key is another one, sessions are gone that were begun under the old one."""
        options = self._desk.options
        if options is self._made_for:
            return
        key = self._desk.secret_key
        if key != self._key:
            if self._key is not None:
                self.sessions.forget_all()
            self._key, self._key_since = key, time.time()
            self._signer = TimestampSigner(key, salt="nbws.session", key_derivation="hmac", digest_method=sha256)
        self._made_for = options


class SessionMiddleware:
    """ASGI: gives what comes its session, as `scope["session"]`, and the browser its cookie.

    What *leaves_no_trace* gets a copy of the session, and nothing that it writes is kept.
    """

    def __init__(self, app: ASGIApp, cookies: SessionCookies, leaves_no_trace: Callable[[Scope], bool]) -> None:
        self._app, self._cookies, self._leaves_no_trace = app, cookies, leaves_no_trace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cookies = self._cookies
        visit = cookies.visit(scope)
        session = visit.session
        if isinstance(session.shared, Shared):
            await session.shared.fetch()
        if self._leaves_no_trace(scope):
            scope["session"] = copy.deepcopy(session)
            await self._app(scope, receive, send)
            return

        async def send_with_cookie(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message = {**message, "headers": list(message.get("headers", ()))}
                headers = MutableHeaders(scope=message)
                cookie = await cookies.settle(visit)
                if cookie is not None:
                    headers.append("set-cookie", cookie)
                if cookie is not None or visit.reads_session:
                    headers.add_vary_header("Cookie")
            await send(message)

        async def receive_and_use() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                cookies.use(visit.session)
            return message

        scope["session"], scope[_VISIT] = session, visit
        scope[USE] = lambda: cookies.use(visit.session)
        scope[KEEP] = lambda: cookies.keep(visit.session)
        told = reading.set(visit.read)
        try:
            await self._app(scope, receive_and_use, send_with_cookie)
        finally:
            reading.reset(told)
            if visit.session.id is not None:
                await cookies.keep(visit.session)  # what a stream, a background task or a websocket wrote


def opens_websocket(scope: Scope) -> None:
    """The answer to the request of *scope* is a page that opens websockets: its browser is to have an id before.

    Two that it opens at once would get two ids, and not every client keeps a cookie that a handshake brings.
    """
    visit = scope.get(_VISIT)
    if visit is not None:
        visit.opens_websocket = True


def resume_session(scope: Scope, before: Scope) -> None:
    """The websocket of *scope* goes on with the connection that a handshake with the scope *before* began.

    It has the session that its browser has today; a client that brings no id, since it keeps no cookies, the one that
    the connection had.
    """
    visit = scope.get(_VISIT)
    if visit is None or not isinstance(before.get("session"), Session) or scope.get("session") is not visit.session:
        return  # an author's own
    if visit.told is None:
        visit.session = scope["session"] = before["session"]
    else:
        before["session"] = visit.session


def workers_asked_for(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """How many workers the command that runs this process asks its server for; 1 where that cannot be told.

    The children of uvicorn, gunicorn, hypercorn and granian have the same `sys.argv` as their parent.
    """
    server = re.search(r"(uvicorn|gunicorn|hypercorn|granian)(/__main__\.py|\.exe)?$", argv[0] if argv else "")
    if server is None:
        return 1
    words = " ".join([*environ.get("GUNICORN_CMD_ARGS", "").split(), *argv[1:]])
    asked = re.findall(r"(?:^|\s)(?:--workers[= ]|-w ?)(\d+)\b", words)
    if not asked and server[1] in ("uvicorn", "gunicorn"):
        asked = re.findall(r"^\d+$", environ.get("WEB_CONCURRENCY", ""))
    return int(asked[-1]) if asked else 1
