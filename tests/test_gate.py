"""The gate as ASGI: what it refuses never reaches the app, and what passes carries no credential."""

from __future__ import annotations

import asyncio
from typing import Any

from nbws.gate import Gate
from nbws.security import Policy

POLICY = Policy(token="t0ken", ticket="t1cket", cookie="nbws-5001")


def through(
    kind: str = "http", *, policy: Policy = POLICY, query: bytes = b"", in_frames: bool = True, **headers: str
) -> tuple[list[Any], list[dict[str, Any]]]:
    """(scopes that reached the app, messages that were sent back)."""
    reached: list[Any] = []
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)
        start = "http.response.start" if kind == "http" else "websocket.accept"
        await send({"type": start, "status": 200, "headers": [(b"set-cookie", b"theme=dark; Path=/; SameSite=lax")]})

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    given = {"host": "127.0.0.1:5001", **headers}
    scope = {
        "type": kind,
        "method": "GET",
        "path": "/",
        "query_string": query,
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "server": ("127.0.0.1", 5001),
    }
    asyncio.run(Gate(app, lambda port: policy, in_frames)(scope, receive, send))  # type: ignore[arg-type]
    return reached, sent


def cookies(sent: list[dict[str, Any]]) -> list[str]:
    return [value.decode() for name, value in sent[0]["headers"] if name == b"set-cookie"]


def test_without_a_credential_nothing_reaches_the_app() -> None:
    for kind in ("http", "websocket"):
        reached, sent = through(kind)
        assert reached == []
        assert sent[0].get("status") == 403 or sent[0]["type"] == "websocket.close"


def test_a_foreign_origin_and_a_foreign_host_are_refused_before_the_credential_is_looked_at() -> None:
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"host": "evil.example"}):
        for kind in ("http", "websocket"):
            reached, _ = through(kind, cookie="nbws-5001=t0ken" if "origin" in headers else "", **headers)
            assert reached == []


def test_the_token_in_the_url_passes_is_taken_out_and_becomes_the_cookie() -> None:
    reached, sent = through(query=b"a=1&token=t0ken&b=2")
    assert reached[0]["query_string"] == b"a=1&b=2"
    assert reached[0]["nbws.token_in_url"] is True
    credential = [c for c in cookies(sent) if c.startswith("nbws-5001=t0ken")]
    assert [("Partitioned" in c, "HttpOnly" in c) for c in credential] == [(True, True), (False, True)]


def test_a_ticket_passes_as_well_and_an_authors_own_token_parameter_is_left_alone() -> None:
    reached, _ = through(query=b"nbws-ticket=t1cket&token=of-the-author")
    assert reached[0]["query_string"] == b"token=of-the-author"


def test_only_the_apps_own_cookies_reach_it_under_their_own_names() -> None:
    jar = "username-localhost-8888=canary; nbws-5001=t0ken; nbws-5001-theme=dark; nbws-5002-theme=canary"
    reached, sent = through(cookie=jar)
    assert [value for name, value in reached[0]["headers"] if name == b"cookie"] == [b"theme=dark"]
    assert {c.partition("=")[0] for c in cookies(sent)} == {"nbws-5001-theme"}


def test_outside_a_notebook_cookies_are_left_as_they_are() -> None:
    reached, sent = through(policy=Policy(), in_frames=False, cookie="anything=goes")
    assert (b"cookie", b"anything=goes") in reached[0]["headers"]
    assert cookies(sent) == ["theme=dark; Path=/; SameSite=lax"]
