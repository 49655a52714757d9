"""The gate as ASGI: what it refuses never reaches the app, and what passes carries no credential."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import pytest

from nbws.gate import Gate
from nbws.security import Policy

POLICY = Policy(token="t0ken", ticket="t1cket", cookie="nbws-5001")
SCRIPT = Policy(cookie="nbws-5001")


@dataclass
class Through:
    """What came of one request: the scopes and the frames that reached the app, and what was sent back."""

    asked: dict[str, Any]
    reached: list[Any]
    frames: list[Any]
    sent: list[dict[str, Any]]

    def headers(self, name: str) -> list[str]:
        return [value.decode() for found, value in self.sent[0]["headers"] if found.decode().lower() == name]

    @property
    def text(self) -> str:
        return "".join(message.get("body", b"").decode() for message in self.sent)


def through(
    kind: str = "http",
    *headers: tuple[str, str],
    policy: Policy = POLICY,
    query: bytes = b"",
    in_frames: bool = True,
    inner: Policy | None = None,
    given: Any = (),
    status: int = 200,
    frames: Any = (),
    host: str | None = "127.0.0.1:5001",
    **scope: Any,
) -> Through:
    """One request with these *headers* through a gate, and through that of a mounted app where *inner* is given."""
    found = Through({}, [], [], [])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.reached.append(scope)
        start = "http.response.start" if kind == "http" else "websocket.accept"
        await send({"type": start, "status": status, "headers": [(n.encode(), v.encode()) for n, v in given]})
        found.frames.extend([await receive() for _ in frames])

    left = list(frames)

    async def receive() -> Any:
        return {"type": "websocket.receive", "text": left.pop(0)} if kind == "websocket" else {"type": "http.request"}

    async def send(message: Any) -> None:
        found.sent.append(message)

    own = [("host", host)] if host is not None else []
    asked = found.asked = {
        "type": kind,
        "method": "GET",
        "path": "/",
        "http_version": "1.1",
        "query_string": query,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in (*own, *headers)],
        "server": ("127.0.0.1", 5001),
        **scope,
    }
    served: Any = app if inner is None else Gate(app, lambda port: inner, in_frames)
    asyncio.run(Gate(served, lambda port: policy, in_frames)(asked, receive, send))
    return found


DENIAL: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}
COOKIE = ("cookie", "nbws-5001=t0ken")


def test_without_a_credential_nothing_reaches_the_app() -> None:
    for kind in ("http", "websocket"):
        found = through(kind)
        assert found.reached == []
        assert found.sent[0].get("status") == 403 or found.sent[0]["type"] == "websocket.close"


def test_a_foreign_origin_and_a_foreign_host_are_refused_before_the_credential_is_looked_at() -> None:
    for kind in ("http", "websocket"):
        assert through(kind, ("origin", "http://evil.example"), COOKIE).reached == []
        assert through(kind, ("origin", "null"), COOKIE).reached == []
        assert through(kind, host="evil.example").reached == []


@pytest.mark.parametrize(
    ("headers", "options"),
    [
        ([("host", "127.0.0.1:5001")], {}),
        ([("host", "evil.example")], {}),
        ([("host", "127.0.0.1:5001")], {"host": "evil.example"}),
        ([("origin", "http://127.0.0.1:5001"), ("origin", "http://127.0.0.1:5001")], {}),
        ([("origin", "http://evil.example"), ("origin", "http://127.0.0.1:5001")], {}),
        ([], {"host": None}),
        ([], {"path": "http://127.0.0.1:5001/"}),
        ([], {"path": "*"}),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_what_does_not_say_plainly_whom_it_asks_is_refused_with_400(kind: str, headers: Any, options: Any) -> None:
    found = through(kind, COOKIE, *headers, **options, **(DENIAL if kind == "websocket" else {}))
    assert found.reached == []
    assert found.sent[0]["status"] == 400
    assert "one Host header" in found.text


def test_http_1_0_may_leave_the_host_out_where_the_token_comes_along() -> None:
    assert through(host=None, http_version="1.0", query=b"token=t0ken").reached
    assert not through(host=None, http_version="1.0", query=b"nbws-ticket=t1cket").reached
    assert not through(host=None, http_version="1.0", policy=SCRIPT).reached


def test_the_token_in_the_url_passes_is_taken_out_and_becomes_the_cookie() -> None:
    found = through(query=b"a=1&token=t0ken&b=2")
    assert found.reached[0]["query_string"] == b"a=1&b=2"
    assert found.reached[0]["nbws.token_in_url"] is True
    credential = [c for c in found.headers("set-cookie") if c.startswith("nbws-5001=t0ken")]
    assert [("Partitioned" in c, "HttpOnly" in c) for c in credential] == [(True, True), (False, True)]


def test_a_ticket_passes_as_well_and_an_authors_own_token_parameter_is_left_alone() -> None:
    for query in (b"nbws-ticket=t1cket&token=of-the-author", b"token=of-the-author&token=t0ken"):
        assert through(query=query).reached[0]["query_string"] == b"token=of-the-author"


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("origin", ["http://127.0.0.1:5001", "http://evil.example"], ids=["passes", "is refused"])
def test_what_a_server_logs_of_a_request_afterwards_holds_no_credential(kind: str, origin: str) -> None:
    found = through(kind, ("origin", origin), query=b"a=1&token=t0ken&nbws-ticket=t1cket&token=b")
    assert found.asked["query_string"] == b"a=1&token=b"


def test_a_page_is_told_whether_it_came_with_the_ticket_of_a_living_output() -> None:
    def told(query: bytes) -> bool:
        found: bool = through("http", COOKIE, query=query).reached[0]["nbws.ticket_in_url"]
        return found

    assert told(b"nbws-ticket=t1cket")
    assert not told(b"nbws-ticket=dead")
    assert not told(b"token=t0ken")


def test_only_the_apps_own_cookies_reach_it_under_their_own_names() -> None:
    jar = "username-localhost-8888=canary; nbws-5001=t0ken; nbws-5001-theme=dark; nbws-5002-theme=canary"
    found = through("http", ("cookie", jar), given=[("set-cookie", "theme=dark; Path=/; SameSite=lax")])
    assert [value for name, value in found.reached[0]["headers"] if name == b"cookie"] == [b"theme=dark"]
    assert {c.partition("=")[0] for c in found.headers("set-cookie")} == {"nbws-5001-theme"}


def test_outside_a_notebook_cookies_are_left_as_they_are() -> None:
    set_cookie = "theme=dark; Path=/; SameSite=lax"
    found = through(
        "http", ("cookie", "anything=goes"), policy=SCRIPT, in_frames=False, given=[("set-cookie", set_cookie)]
    )
    assert (b"cookie", b"anything=goes") in found.reached[0]["headers"]
    assert found.headers("set-cookie") == [set_cookie]


def test_a_scripts_handlers_see_neither_its_token_nor_that_of_a_notebook() -> None:
    jar = "theme=dark; nbws-5001=t0ken; nbws-20123=canary; nbws-20123-session_=canary"
    found = through("http", ("cookie", jar), in_frames=False)
    assert [value for name, value in found.reached[0]["headers"] if name == b"cookie"] == [b"theme=dark"]


def test_no_header_that_names_the_pages_url_holds_a_credential() -> None:
    urls = {
        "referer": "http://127.0.0.1:5001/a?nbws-ticket=t1cket&x=1",
        "hx-current-url": "http://127.0.0.1:5001/a?%74oken=t0ken#y",
        "x-other": "?",
    }
    found = through("http", COOKIE, *urls.items())
    headers = {name.decode(): value.decode() for name, value in found.reached[0]["headers"]}
    assert headers["referer"] == "http://127.0.0.1:5001/a?x=1"
    assert headers["hx-current-url"] == "http://127.0.0.1:5001/a#y"
    assert headers["x-other"] == "?"


def test_no_frame_holds_a_credential_in_the_pages_url() -> None:
    def frame(url: str) -> str:
        return json.dumps({"msg": "hi?", "HEADERS": {"HX-Current-URL": url}})

    sent = [frame("http://a/?nbws-ticket=t1cket"), frame("http://a/?x=1&token=t0ken"), frame("http://a/?x=1")]
    found = through("websocket", COOKIE, frames=sent)
    assert [message["text"] for message in found.frames] == [
        frame("http://a/"),
        frame("http://a/?x=1"),
        frame("http://a/?x=1"),
    ]


def test_an_app_that_is_mounted_in_another_is_asked_for_no_second_credential() -> None:
    assert through("http", COOKIE, inner=POLICY).reached
    assert through("http", COOKIE, inner=SCRIPT).reached
    assert not through("http", inner=POLICY).reached
    assert not through("http", policy=SCRIPT, inner=POLICY).reached
    other = dataclasses.replace(POLICY, token="another")
    assert not through("http", COOKIE, inner=other).reached
    assert through("http", COOKIE, inner=other, query=b"token=another").reached


@pytest.mark.parametrize("in_frames", [True, False])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"query": b"nbws-ticket=dead"}, "Run this cell again"),
        ({}, None),
        ({"host": "evil.example"}, "allowed_hosts"),
        ({"host": "<script>" + "x" * 500}, "&lt;script&gt;xxx"),
        ({"http_version": "1.0", "host": None}, "allowed_hosts"),
    ],
)
def test_a_refusal_says_what_to_do_is_not_kept_and_leaks_nothing(options: Any, words: str, in_frames: bool) -> None:
    words = words or ("the link under the cell" if in_frames else "the link that it printed")
    page = through(in_frames=in_frames, **options)
    websocket = through("websocket", in_frames=in_frames, **options, **DENIAL)
    assert words in page.text
    assert words.replace("&lt;", "<").replace("&gt;", ">") in websocket.text
    for found in (page, websocket):
        assert found.sent[0]["status"] == 403
        assert found.headers("cache-control") == ["no-store"]
        assert found.headers("x-content-type-options") == ["nosniff"]
        assert found.headers("set-cookie") == []
        assert not any(secret in found.text for secret in ("t0ken", "t1cket", "/tests/"))
        assert len(found.text) < 1200
    assert page.headers("referrer-policy") == ["no-referrer"]
    assert page.headers("cross-origin-resource-policy") == ["same-origin"]


def test_a_response_says_who_may_frame_it_beside_what_the_app_says() -> None:
    found = through(policy=SCRIPT, in_frames=False, given=[("Content-Security-Policy", "default-src 'self'")])
    assert found.headers("content-security-policy") == ["default-src 'self'", "frame-ancestors 'self'"]
    assert found.headers("cross-origin-resource-policy") == ["same-origin"]
    own = [("content-security-policy", "frame-ancestors https://a.example"), ("content-security-policy", "x")]
    found = through(policy=SCRIPT, in_frames=False, given=own)
    assert len(found.headers("content-security-policy")) == 2


def test_the_script_of_a_preview_may_load_its_style_whatever_the_apps_credential() -> None:
    for policy, headers in ((SCRIPT, ()), (POLICY, (COOKIE,))):
        found = through("http", *headers, policy=policy, path="/_nbws/static/nbws.css")
        assert found.headers("cross-origin-resource-policy") == []
        found = through("http", *headers, policy=policy, path="/own.css")
        assert found.headers("cross-origin-resource-policy") == ["same-origin"]


def test_a_page_whose_url_may_hold_a_credential_tells_other_sites_nothing_of_it() -> None:
    assert through("http", COOKIE).headers("referrer-policy") == ["same-origin"]


def test_errors_of_the_app_are_not_kept_either() -> None:
    found = through("http", COOKIE, status=404)
    assert (found.headers("cache-control"), found.headers("x-content-type-options")) == (["no-store"], ["nosniff"])
