"""The gate in front of everything, http and websocket: the ASGI side of `security`'s verdicts."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nbws.page import notice
from nbws.security import (
    TICKET,
    Asked,
    Policy,
    Verdict,
    came_with_token,
    framed_cookies,
    judge,
    own_cookies,
    read_cookies,
    without_credentials,
)
from nbws.urls import query_of

__all__ = ["Gate"]


class Gate:
    """Lets through to *inner* what *policy*, asked with the server's port, admits.

    What passes carries no credential any more, and where the app is shown *in_frames* of a notebook, no cookie but
    its own.
    """

    def __init__(self, inner: ASGIApp, policy: Callable[[int], Policy], in_frames: bool) -> None:
        self._inner, self._policy, self._in_frames = inner, policy, in_frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        cookies = "; ".join(v.decode("latin-1") for n, v in scope["headers"] if n == b"cookie")
        server, port = scope.get("server") or ("", None)
        policy = self._policy(port or 0)
        query = {name: values[-1] for name, values in query_of(scope).items()}
        asked = Asked(
            host=headers.get(b"host"),
            origin=headers.get(b"origin"),
            query=query,
            cookies=read_cookies(cookies),
            # A socket's own address is numeric; a test client's is the name that it was given.
            in_process=server == "testserver",
        )
        verdict = judge(policy, asked)
        if verdict is not Verdict.PASS:
            await _refuse(verdict, asked, scope, receive, send)
            return
        token_in_url = came_with_token(policy, asked)
        scope = {
            **scope,
            "query_string": without_credentials(scope.get("query_string", b""), policy.token),
            "nbws.token_in_url": token_in_url,
            "headers": [_without_credentials_in_referer(header, policy.token) for header in scope["headers"]],
        }
        if policy.token is not None and (token_in_url or TICKET in query):
            send = _with_credential(send, f"{policy.cookie}={policy.token}; Path=/; HttpOnly")
        if self._in_frames:
            prefix = f"{policy.cookie}-"
            own = own_cookies(cookies, prefix)
            scope["headers"] = [(n, v) for n, v in scope["headers"] if n != b"cookie"]
            if own:
                scope["headers"].append((b"cookie", own.encode("latin-1")))
            send = _with_framed_cookies(send, prefix)
        await self._inner(scope, receive, send)


async def _refuse(verdict: Verdict, asked: Asked, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": ""})  # before accept: HTTP 403
        return
    if verdict is Verdict.DEAD_TICKET:
        page = notice("Run this cell", "This preview belongs to a kernel session that has ended. Run this cell again.")
    elif verdict is Verdict.NO_CREDENTIAL:
        page = notice(
            "Open this app from its notebook",
            "It runs in a notebook: use the link under the cell that shows it.",
        )
    elif verdict is Verdict.BAD_HOST:
        page = notice(
            "Unknown host",
            f"This app does not serve {asked.host!r}; App(allowed_hosts=[...]) lists who may ask.",
        )
    else:
        page = notice("Refused", "A page of another origin asked; App(allowed_origins=[...]) lists those that may.")
    await HTMLResponse(page, 403)(scope, receive, send)


def _with_credential(send: Send, cookie: str) -> Send:
    """Adds the cookie that stands for the credential, as `security.framed_cookies` explains."""

    async def with_credential(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            forms = (f"{cookie}; SameSite=None; Secure; Partitioned", f"{cookie}; SameSite=Lax")
            added = [(b"set-cookie", form.encode("latin-1")) for form in forms]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return with_credential


def _with_framed_cookies(send: Send, prefix: str) -> Send:
    async def with_framed_cookies(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            headers: list[tuple[bytes, bytes]] = []
            for name, value in message.get("headers", ()):
                if name.lower() == b"set-cookie":
                    framed = framed_cookies(value.decode("latin-1"), prefix)
                    headers.extend((name, form.encode("latin-1")) for form in framed)
                else:
                    headers.append((name, value))
            message = {**message, "headers": headers}
        await send(message)

    return with_framed_cookies


def _without_credentials_in_referer(header: tuple[bytes, bytes], token: str | None) -> tuple[bytes, bytes]:
    name, value = header
    if name != b"referer" or b"?" not in value:
        return header
    place, _, query = value.partition(b"?")
    kept = without_credentials(query, token)
    return name, place + (b"?" + kept if kept else b"")
