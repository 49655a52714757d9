"""The gate over a life: options that change, restarts, other ports, and a browser that keeps what it was ever given.

Whatever credential was ever valid is tried again at any time. The rules stand here once more, in `_expected`, and know
nothing of how nbws applies them; test_gate_table.py holds each request of one moment against them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from gate_table import DEAD_TICKET, MALFORMED, NO_CREDENTIAL, OTHER_ORIGIN, PASSES, UNKNOWN_HOST, InNotebook
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import nbws.app
from nbws import App
from nbws.common import P
from nbws.security import new_ticket

PORTS = (5001, 5002)
TOKENS = ("0ne-t0ken", "an0ther-t0ken")
NAMES = ("app.lan", "evil.example")
ORIGINS = ("https://hub.example", "http://evil.example")
WORDS = {
    "Unknown host": UNKNOWN_HOST,
    "A page of another origin": OTHER_ORIGIN,
    "It runs in a notebook": NO_CREDENTIAL,
    "by the link that it printed": NO_CREDENTIAL,
    "Run this cell": DEAD_TICKET,
    "Ask with one Host": MALFORMED,
}


@dataclass
class Answer:
    status: int = 0
    text: str = ""
    cookies: list[str] = field(default_factory=list)
    scopes: list[Any] = field(default_factory=list)  #: that reached a handler

    @property
    def verdict(self) -> str:
        refusals = [verdict for words, verdict in WORDS.items() if words in self.text]
        return refusals[0] if self.status in (400, 403) and refusals else PASSES


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.tickets: list[str] = []  # all that there ever were; the last one is alive
        self.jar: dict[str, str] = {"username-localhost-8888": "jupyters-cookie"}
        self.port = PORTS[0]
        self.token: str | None = None
        self.hosts: tuple[str, ...] = ()
        self.origins: tuple[str, ...] = ()
        self.leaks: list[str] = []

    @initialize(in_notebook=st.booleans(), token=st.sampled_from((*TOKENS, None)))
    def begin(self, in_notebook: bool, token: str | None) -> None:
        self.kind = InNotebook if in_notebook else App
        self.token = token
        self.restart()

    @rule()
    def restart(self) -> None:
        """The process ends, and the program or notebook is run anew."""
        self.tickets.append(new_ticket())
        nbws.app._ticket = self.tickets[-1]
        self.seen: list[Any] = []
        options: dict[str, Any] = {"allowed_hosts": self.hosts, "allowed_origins": self.origins}
        self.app = self.kind(token=self.token or False, **options)
        self.app.route("/", methods=["get", "post"])(lambda request: (self.seen.append(request.scope), P("in"))[1])
        self.app.ws("/ws", conn=lambda ws: self.seen.append(ws.scope))(lambda: None)

    @rule(
        token=st.sampled_from((*TOKENS, None)),
        hosts=st.sets(st.sampled_from(NAMES), max_size=1),
        origins=st.sets(st.sampled_from(ORIGINS), max_size=1),
    )
    def run_again_with_other_options(self, token: str | None, hosts: set[str], origins: set[str]) -> None:
        self.token, self.hosts, self.origins = token, tuple(hosts), tuple(origins)
        self.app.configure(token=token or False, allowed_hosts=self.hosts, allowed_origins=self.origins)

    @rule()
    def stop_and_start_on_the_other_port(self) -> None:
        self.port = PORTS[PORTS[0] == self.port]

    @rule(
        kind=st.sampled_from(("GET", "POST", "WS")),
        host=st.sampled_from(("127.0.0.1:{}", "localhost:{}", *NAMES)),
        origin=st.sampled_from((None, "http://{host}", "null", "http://127.0.0.1:1", *ORIGINS)),
        token=st.sampled_from((None, None, *TOKENS, "wrong")),
        ticket=st.none() | st.integers(0, 9),
        sends_cookies=st.booleans(),
    )
    def ask(
        self, kind: str, host: str, origin: str | None, token: str | None, ticket: int | None, sends_cookies: bool
    ) -> None:
        host = host.format(self.port)
        origin = origin and origin.format(host=host)
        parts = ["x=1"]
        if token is not None:
            parts.append(f"token={token}")
        known = self.tickets[-1 - ticket % len(self.tickets)] if ticket is not None else None
        if known is not None:
            parts.append(f"nbws-ticket={known}")
        cookies = dict(self.jar) if sends_cookies else {}
        answer = self._answer(kind, host, origin, "&".join(parts), cookies)
        expected = self._expected(host, origin, token, known, cookies)
        assert answer.verdict == expected
        assert len(answer.scopes) == (expected == PASSES)
        # A `token=` that is none of today's is the author's own.
        secrets = [*self.tickets, self.token, "jupyters-cookie" if self.kind is InNotebook else None]
        told = repr(answer.scopes) + answer.text
        self.leaks += [secret for secret in secrets if secret is not None and secret in told]
        for cookie in answer.cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            assert (name, value) == (f"nbws-{self.port}", self.token)
            assert expected == PASSES
            self.jar[name] = value

    @rule(kind=st.sampled_from(("GET", "POST", "WS")))
    def come_back_with_cookies(self, kind: str) -> None:
        self.ask(kind, "127.0.0.1:{}", None, None, None, True)

    @rule(ticket=st.integers(0, 1))
    def show_an_output(self, ticket: int) -> None:
        self.ask("GET", "127.0.0.1:{}", None, None, ticket, False)

    @invariant()
    def nothing_leaks(self) -> None:
        assert self.leaks == []

    def _expected(
        self, host: str, origin: str | None, token: str | None, ticket: str | None, cookies: dict[str, str]
    ) -> str:
        is_token = self.token in (token, cookies.get(f"nbws-{self.port}")) and self.token is not None
        if host in NAMES and host not in self.hosts and not is_token:
            return UNKNOWN_HOST
        if origin is not None and origin not in (f"http://{host}", *self.origins):
            return OTHER_ORIGIN
        if self.token is None or is_token or ticket == self.tickets[-1]:
            return PASSES
        return NO_CREDENTIAL if ticket is None else DEAD_TICKET

    def _answer(self, kind: str, host: str, origin: str | None, query: str, cookies: dict[str, str]) -> Answer:
        found = Answer()
        headers = {"host": host, "origin": origin, "cookie": "; ".join(f"{n}={v}" for n, v in cookies.items())}
        scope: dict[str, Any] = {
            "type": "websocket" if kind == "WS" else "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": kind,
            "scheme": "ws" if kind == "WS" else "http",
            "path": "/ws" if kind == "WS" else "/",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items() if value],
            "server": ("127.0.0.1", self.port),
            "client": ("127.0.0.1", 40000),
            "extensions": {"websocket.http.response": {}},
        }
        frames = ["websocket.connect", "websocket.disconnect"] if kind == "WS" else ["http.request", "http.disconnect"]

        async def receive() -> Any:
            return {"type": frames.pop(0), "code": 1000, "reason": ""}

        async def send(message: Any) -> None:
            found.status = message.get("status") or found.status
            found.text += message.get("body", b"").decode()
            found.cookies += [value.decode() for name, value in message.get("headers", ()) if name == b"set-cookie"]

        self.seen.clear()
        asyncio.run(asyncio.wait_for(self.app(scope, receive, send), 10))
        found.scopes = list(self.seen)
        found.cookies = [
            cookie for cookie in found.cookies if not cookie.startswith((f"nbws-{self.port}-", "session_"))
        ]
        return found


Life.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=25,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),  # to explain a failure, all of it would be traced, for minutes
)
TestLife = Life.TestCase


@pytest.fixture(autouse=True)
def ticket_of_before() -> Any:
    before = nbws.app._ticket
    yield
    nbws.app._ticket = before
