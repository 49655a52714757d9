"""The gate in front of everything, http and websocket: the ASGI side of `security`'s verdicts."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nbws.connection import CLEAN
from nbws.page import STATIC, notice
from nbws.security import (
    TICKET,
    Asked,
    Policy,
    Verdict,
    came_with_ticket,
    came_with_token,
    credential_cookies,
    framed_cookies,
    guards,
    is_same,
    judge,
    own_cookies,
    read_cookies,
    without_apps_cookies,
    without_credentials,
    without_credentials_in_text,
    without_credentials_in_url,
)
from nbws.urls import query_of

__all__ = ["Gate", "refuse_websocket"]

_PASSED = "nbws.gate"  #: in a scope: the gate that let it in
_URL_HEADERS = (b"referer", b"hx-current-url")


class Gate:
    """Lets through to *inner* what *policy*, asked with the server's port, admits.

    What passes carries no credential any more, and where the app is shown *in_frames* of a notebook, no cookie but
    its own. An app that is mounted in another one is behind that one's gate; its own asks no second time.
    """

    def __init__(self, inner: ASGIApp, policy: Callable[[int], Policy], in_frames: bool) -> None:
        self._inner, self._policy, self._in_frames = inner, policy, in_frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        port = (scope.get("server") or ("", None))[1] or 0
        policy = self._policy(port)
        outer = scope.get(_PASSED)
        if isinstance(outer, Gate) and outer._has_asked_for(policy.token, port):
            await self._inner(scope, receive, send)
            return
        cookies = "; ".join(_values(scope, b"cookie"))
        asked = _asked(scope, cookies)
        query = without_credentials(scope.get("query_string", b""), policy.token)
        # In place: a server's own access log reads this very scope, as does middleware around the app.
        scope["query_string"] = query
        verdict = judge(policy, asked)
        if verdict is not Verdict.PASS:
            await self._refuse(verdict, asked, scope, receive, send)
            return
        cookies = own_cookies(cookies, _prefix(policy)) if self._in_frames else without_apps_cookies(cookies)
        headers = [_cleaned(header, policy.token) for header in scope["headers"] if header[0] != b"cookie"]
        if cookies:
            headers.append((b"cookie", cookies.encode("latin-1")))
        passed = {
            **scope,
            "headers": headers,
            "nbws.token_in_url": came_with_token(policy, asked),
            "nbws.ticket_in_url": came_with_ticket(policy, asked),
            _PASSED: self,
        }
        if scope["type"] == "websocket" and policy.token is not None:
            clean = passed[CLEAN] = _cleaner(policy.token)
            receive = _with_clean_frames(receive, clean)
        await self._inner(passed, receive, self._guarded(policy, asked, passed, send))

    def _has_asked_for(self, token: str | None, port: int) -> bool:
        return token is None or is_same(token, self._policy(port).token)

    def _guarded(self, policy: Policy, asked: Asked, scope: Scope, send: Send) -> Send:
        """*send*, with the cookies as a browser keeps them and with what it is to be told besides."""
        brought = scope["nbws.token_in_url"] or TICKET in asked.query
        own = credential_cookies(policy) if policy.token is not None and brought else []
        is_shared = self._in_frames and scope["path"].startswith(STATIC)

        async def guarded(message: Message) -> None:
            kind = message["type"]
            if kind == "http.response.start" or kind == "websocket.accept":
                headers = list(message.get("headers", ()))
                if self._in_frames:
                    headers = [form for header in headers for form in _framed(header, _prefix(policy))]
                headers += [(b"set-cookie", cookie.encode("latin-1")) for cookie in own]
                if kind == "http.response.start":
                    given: dict[str, str] = {}
                    for name, value in headers:  # a policy may come in several headers of one name
                        known = name.decode("latin-1").lower()
                        given[known] = given.get(known, "") + value.decode("latin-1")
                    added = guards(policy, message["status"], given, in_notebook=self._in_frames, is_shared=is_shared)
                    headers += [(name.encode(), value.encode("latin-1")) for name, value in added]
                message = {**message, "headers": headers}
            await send(message)

        return guarded

    async def _refuse(self, verdict: Verdict, asked: Asked, scope: Scope, receive: Receive, send: Send) -> None:
        status = 400 if verdict is Verdict.MALFORMED else 403
        title, text = _words(verdict, asked.host, self._in_frames)
        if scope["type"] == "websocket":
            await refuse_websocket(status, f"{title}. {text}", scope, send)
            return
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
        headers["cross-origin-resource-policy"] = "same-origin"
        await HTMLResponse(notice(title, text), status, headers)(scope, receive, send)


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for found, value in scope["headers"] if found == name]


def _asked(scope: Scope, cookies: str) -> Asked:
    hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
    # A socket's own address is numeric; a test client's is the name that it was given.
    in_process = (scope.get("server") or ("",))[0] == "testserver"
    names_a_host = bool(hosts) or in_process or scope.get("http_version") != "1.1"
    is_path = scope.get("path", "/").startswith("/")
    return Asked(
        host=hosts[0] if hosts else None,
        origin=origins[0] if origins else None,
        query=query_of(scope),
        cookies=read_cookies(cookies),
        in_process=in_process,
        # RFC 9112, 3.2: a request that names no host, or two, is none. What is no path is for a proxy.
        is_malformed=not names_a_host or not is_path or len(hosts) > 1 or len(origins) > 1,
    )


def _prefix(policy: Policy) -> str:
    """What the names of the app's own cookies begin with in a browser that has those of other apps as well."""
    return f"{policy.cookie}-"


async def refuse_websocket(status: int, text: str, scope: Scope, send: Send, **headers: str) -> None:
    """Answer a handshake with *status* and *text*, which a browser shows in its developer tools alone."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008 if status < 500 else 1013, "reason": ""})
        return
    given = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store"}
    given |= {"x-content-type-options": "nosniff"} | {name.replace("_", "-"): value for name, value in headers.items()}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    await send({"type": "websocket.http.response.start", "status": status, "headers": encoded})
    await send({"type": "websocket.http.response.body", "body": text.encode("utf-8", "replace")})


def _words(verdict: Verdict, host: str | None, in_notebook: bool) -> tuple[str, str]:
    """(title, what to do) of a refusal."""
    if verdict is Verdict.DEAD_TICKET:
        return "Run this cell", "This preview belongs to a kernel session that has ended. Run this cell again."
    if verdict is Verdict.NO_CREDENTIAL and in_notebook:
        return "Open this app from its notebook", "It runs in a notebook: use the link under the cell that shows it."
    if verdict is Verdict.NO_CREDENTIAL:
        return "This app asks for a token", "Open it by the link that it printed when it started."
    if verdict is Verdict.BAD_HOST:
        named = repr(host[:80]) if host is not None else "a request without a Host header"
        return "Unknown host", f"This app does not serve {named}; App(allowed_hosts=[...]) lists who may ask."
    if verdict is Verdict.BAD_ORIGIN:
        return "Refused", "A page of another origin asked; App(allowed_origins=[...]) lists those that may."
    return "Bad request", "Ask with one Host header, at most one Origin, and a path that begins with a slash."


def _framed(header: tuple[bytes, bytes], prefix: str) -> list[tuple[bytes, bytes]]:
    name, value = header
    if name.lower() != b"set-cookie":
        return [header]
    return [(name, form.encode("latin-1")) for form in framed_cookies(value.decode("latin-1"), prefix)]


def _cleaned(header: tuple[bytes, bytes], token: str | None) -> tuple[bytes, bytes]:
    name, value = header
    return (name, without_credentials_in_url(value, token)) if name in _URL_HEADERS and b"?" in value else header


def _cleaner(token: str) -> Callable[[str], str]:
    # No partial: its repr would show the token to a handler that prints its scope.
    return lambda text: without_credentials_in_text(text, token)


def _with_clean_frames(receive: Receive, clean: Callable[[str], str]) -> Receive:
    async def received() -> Message:
        message = await receive()
        text = message.get("text")
        if text is not None and "?" in text:
            message = {**message, "text": clean(text)}
        return message

    return received
