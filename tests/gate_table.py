"""Who gets in: what the rules say of every request, what a running app answers, and the tables of docs/security.md.

    python tests/gate_table.py            shows the tables
    python tests/gate_table.py --write    writes them into docs/security.md

The rules are stated here once more, in `expected`, and know nothing of how nbws applies them. `asked` puts the requests
to an app over real sockets; test_gate_table.py compares.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

from nbws import App, Limits
from nbws.common import Titled

PAGE = Path(__file__).parent.parent / "docs" / "security.md"
TOKEN = "7f4c0ffee0canary0token"
LISTED_ORIGIN = "https://hub.example"
SECONDS = 10.0

PASSES, MALFORMED, UNKNOWN_HOST = "passes", "malformed", "unknown host"
OTHER_ORIGIN, NO_CREDENTIAL, DEAD_TICKET = "other origin", "no credential", "dead ticket"


@dataclass(frozen=True)
class Host:
    says: str  #: as the table says it
    names: tuple[str, ...]  #: the Host headers; {port} is the app's port
    is_served: bool = False
    version: str = "1.1"

    @property
    def is_malformed(self) -> bool:
        return len(self.names) > 1 or (not self.names and self.version == "1.1")

    @property
    def group(self) -> str:
        if self.is_malformed:
            return "unclear"
        return "served" if self.is_served else "another" if self.names else self.says


HOSTS = (
    Host("`127.0.0.1:PORT`", ("127.0.0.1:{port}",), is_served=True),
    Host("`127.0.0.1`", ("127.0.0.1",), is_served=True),
    Host("`localhost:PORT`", ("localhost:{port}",), is_served=True),
    Host("`LOCALHOST:PORT`", ("LOCALHOST:{port}",), is_served=True),
    Host("`[::1]:PORT`", ("[::1]:{port}",), is_served=True),
    Host("one of `allowed_hosts`", ("App.lan:{port}",), is_served=True),
    Host("`evil.example:PORT`", ("evil.example:{port}",)),
    Host("`localhost.evil.example`", ("localhost.evil.example",)),
    Host("`localhost.:PORT`", ("localhost.:{port}",)),
    Host("`192.168.1.5:PORT`", ("192.168.1.5:{port}",)),
    Host("none, in HTTP/1.0", (), version="1.0"),
    Host("none, in HTTP/1.1", ()),
    Host("two", ("127.0.0.1:{port}", "127.0.0.1:{port}")),
    Host("two, one of them foreign", ("127.0.0.1:{port}", "evil.example")),
)


@dataclass(frozen=True)
class Origin:
    says: str
    names: tuple[str, ...]  #: the Origin headers; {host} is the first Host header, {other} another port
    is_ours: bool = False
    is_hosts: bool = False  #: it is that of the Host header

    @property
    def group(self) -> str:
        if self.is_ours or self.is_hosts or len(self.names) > 1:
            return self.says
        return "another"


ORIGINS = (
    Origin("none", (), is_ours=True),
    Origin("one of `allowed_origins`", (LISTED_ORIGIN,), is_ours=True),
    Origin("equal to Host", ("http://{host}",), is_hosts=True),
    Origin("`http://evil.example`", ("http://evil.example",)),
    Origin("another port of 127.0.0.1", ("http://127.0.0.1:{other}",)),
    Origin("`http://HOST.evil.example`", ("http://{host}.evil.example",)),
    Origin("`null`", ("null",)),
    Origin("two", ("http://{host}", "http://evil.example")),
)


@dataclass(frozen=True)
class Credential:
    says: str
    query: str = ""
    cookie: str = ""
    kind: str = "nothing"  #: token, ticket, dead or nothing

    @property
    def group(self) -> str:
        return {"token": "token", "ticket": "ticket", "dead": "dead ticket", "nothing": "no valid one"}[self.kind]


CREDENTIALS = (
    Credential("`?token=` right", "token={token}", kind="token"),
    Credential("right and wrong `?token=`", "token={token}&token=x", kind="token"),
    Credential("wrong and right `?token=`", "token=x&token={token}", kind="token"),
    Credential("`?%74oken=` right", "%74oken={token}", kind="token"),
    Credential("cookie right", cookie="a=1; nbws-{port}={token}", kind="token"),
    Credential("cookie right, beside a wrong one", cookie="nbws-{port}=x; nbws-{port}={token}", kind="token"),
    Credential("cookie right, ticket dead", "nbws-ticket=x", "nbws-{port}={token}", kind="token"),
    Credential("ticket", "a=1&nbws-ticket={ticket}", kind="ticket"),
    Credential("dead ticket", "nbws-ticket=x", kind="dead"),
    Credential("none"),
    Credential("`?token=` wrong", "token=x"),
    Credential("`?token=` with the ticket", "token={ticket}"),
    Credential("cookie wrong", cookie="nbws-{port}=x"),
    Credential("the token in the cookie of another port", cookie="nbws-{other}={token}"),
    Credential("the login cookie of Jupyter", cookie="username-127-0-0-1-8888=x; _xsrf=y"),
    Credential("the token in a field of another name", "my_token={token}"),
)


@dataclass(frozen=True)
class Route:
    method: str  #: WS for a websocket
    path: str
    status: int  #: where the request passes
    status_of_script: int = 0  #: where that is another one
    is_bodiless: bool = False
    is_malformed: bool = False


PAGES = (Route("GET", "/", 200), Route("WS", "/ws", 101))
ROUTES = (
    Route("HEAD", "/", 200, is_bodiless=True),
    Route("OPTIONS", "/", 405),
    Route("POST", "/do", 200),
    Route("GET", "/nowhere", 404),
    Route("GET", "/_nbws/static/nbws.css", 200),
    Route("GET", "/_nbws/feed", 200, status_of_script=404),
    Route("GET", "/mounted/page", 200),
    Route("GET", "/inner/page", 200),
    Route("GET", "http://127.0.0.1:{port}/", 200, is_malformed=True),
    Route("WS", "/nowhere", 403),
    Route("WS", "/mounted/ws", 101),
    Route("WS", "/inner/ws", 101),
    Route("WS", "http://127.0.0.1:{port}/ws", 101, is_malformed=True),
)


@dataclass(frozen=True)
class Cell:
    """One request."""

    host: Host
    origin: Origin
    credential: Credential
    route: Route


def every_cell() -> list[Cell]:
    """All of Host x Origin x credential for a page and a websocket, and a choice of them for the other routes."""
    cells = [Cell(*each) for each in itertools.product(HOSTS, ORIGINS, CREDENTIALS, PAGES)]
    return cells + [Cell(*each) for each in itertools.product(*_a_choice(), ROUTES)]


def some_cells() -> list[Cell]:
    return [Cell(*each) for each in itertools.product(*_a_choice(), PAGES + ROUTES)]


def _a_choice() -> tuple[Iterable[Host], Iterable[Origin], Iterable[Credential]]:
    hosts = [h for h in HOSTS if h.says in ("`127.0.0.1:PORT`", "`evil.example:PORT`", "none, in HTTP/1.0", "two")]
    origins = [o for o in ORIGINS if o.says in ("none", "equal to Host", "`http://evil.example`", "`null`")]
    kinds = {credential.kind: credential for credential in reversed(CREDENTIALS)}
    return hosts, origins, kinds.values()


def expected(cell: Cell, asks_for_credential: bool) -> str:
    """What becomes of a request, by the rules as docs/security.md states them."""
    host, origin, kind = cell.host, cell.origin, cell.credential.kind
    if host.is_malformed or len(origin.names) > 1 or cell.route.is_malformed:
        return MALFORMED
    if cell.route.method == "WS" and not host.names:  # a websocket takes HTTP/1.1
        return MALFORMED
    has_token = asks_for_credential and kind == "token"
    if not host.is_served and not has_token:
        return UNKNOWN_HOST
    if not origin.is_ours and not (origin.is_hosts and host.names):
        return OTHER_ORIGIN
    if has_token or not asks_for_credential or kind == "ticket":
        return PASSES
    return DEAD_TICKET if kind == "dead" else NO_CREDENTIAL


# -- the app, and what it answers


class InNotebook(App):
    """An app that takes itself for one in a notebook."""

    in_notebook = property(lambda self: True)  # type: ignore[assignment]


def app_with(*, in_notebook: bool, reached: Callable[[HTTPConnection], None]) -> App:
    """An app with every route. *reached* is told of each request that gets as far as a handler."""
    options: dict[str, Any] = {"port": 0, "allowed_hosts": ["app.lan"], "allowed_origins": [LISTED_ORIGIN]}
    app = InNotebook(token=TOKEN, **options) if in_notebook else App(**options)
    inner = InNotebook(token=TOKEN, port=0) if in_notebook else App(port=0)

    @app.get("/")
    def index(request: HTTPConnection) -> Any:
        reached(request)
        return Titled("page")

    @app.post("/do")
    def do(request: HTTPConnection) -> Any:
        reached(request)
        return "done"

    @inner.get("/page")
    def page(request: HTTPConnection) -> Any:
        reached(request)
        return Titled("page")

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        reached(HTTPConnection(scope))
        if scope["type"] == "websocket":
            websocket = WebSocket(scope, receive, send)
            await websocket.accept()
            await websocket.receive()
        else:
            await PlainTextResponse("mounted")(scope, receive, send)

    for each in (app, inner):
        each.ws("/ws", conn=lambda ws: reached(ws))(lambda: None)
    app.mount("/mounted", mounted)
    app.mount("/inner", inner)
    return app


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    text: str

    @property
    def is_of_websockets(self) -> bool:
        return self.text.startswith("Failed to open a WebSocket connection")

    @property
    def verdict(self) -> str:
        for words, verdict in _WORDS.items():
            if self.status >= 400 and words in self.text:
                return verdict
        return PASSES


_WORDS = {
    "Unknown host": UNKNOWN_HOST,
    "A page of another origin": OTHER_ORIGIN,
    "Open this app from its notebook": NO_CREDENTIAL,
    "Run this cell": DEAD_TICKET,
    "Ask with one Host": MALFORMED,
    "This is no HTTP request": MALFORMED,  # said by the server, before there is an app
    "invalid Origin header: multiple values": MALFORMED,  # by websockets, likewise
}


async def asked(app: App, cells: Sequence[Cell], at_once: int = 16) -> list[Answer]:
    """What *app*, which runs, answers each. Their number in *cells* is in the header x-cell."""
    room = asyncio.Semaphore(at_once)

    async def ask(number: int, cell: Cell) -> Answer:
        async with room:
            return await asyncio.wait_for(_ask(app, number, cell), SECONDS)

    return list(await asyncio.gather(*(ask(number, cell) for number, cell in enumerate(cells))))


async def _ask(app: App, number: int, cell: Cell) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    try:
        writer.write(_request(app, number, cell).encode("latin-1"))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ", 2)[1])
        headers = [_name_and_value(line) for line in head.split("\r\n")[1:] if line]
        length = 0 if cell.route.is_bodiless else int(dict(headers).get("content-length", 0))
        return Answer(status, headers, (await reader.readexactly(length)).decode())
    finally:
        writer.transport.abort()


def _request(app: App, number: int, cell: Cell) -> str:
    port = str(app.port)
    hosts = [name.format(port=port) for name in cell.host.names]
    names = {
        "port": port,
        "other": str((app.port or 0) + 1),
        "host": hosts[0] if hosts else "127.0.0.1",
        "token": TOKEN,
        "ticket": re.sub(".*=", "", app.preview().src),
    }
    query = cell.credential.query.format(**names)
    is_websocket = cell.route.method == "WS"
    target = cell.route.path.format(**names) + (f"?{query}" if query else "")
    lines = [f"{'GET' if is_websocket else cell.route.method} {target} HTTP/{cell.host.version}"]
    lines += [f"Host: {host}" for host in hosts]
    lines += [f"Origin: {origin.format(**names)}" for origin in cell.origin.names]
    lines += [f"X-Cell: {number}"]
    if cell.credential.cookie:
        lines.append(f"Cookie: {cell.credential.cookie.format(**names)}")
    if is_websocket:
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    if cell.route.method == "POST":
        lines.append("Content-Length: 0")
    return "\r\n".join([*lines, "", ""])


def _name_and_value(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


# -- the tables


def rules() -> str:
    """The verdicts as Markdown. What is treated alike stands in one row, or one column."""
    return "\n".join(
        [
            *_legend("Host", HOSTS),
            *_legend("Origin", ORIGINS),
            *_legend("Credential", CREDENTIALS),
            "",
            "In a notebook, and wherever a token is asked for:",
            "",
            *_table(asks_for_credential=True),
            "",
            "In a script, which asks for none:",
            "",
            *_table(asks_for_credential=False),
            "",
            f"The tests ask {len(every_cell()):,} requests of each of the two: all of the above of a page and of a",
            "websocket, which are treated alike, and a choice of them of these, which are treated so too:",
            ", ".join(_said(route) for route in ROUTES if not route.is_malformed) + ".",
            "A target that is no path, such as `GET http://127.0.0.1:PORT/`, is malformed whatever comes with it,",
            "and so is a websocket without Host.",
        ]
    )


def _legend(name: str, things: Sequence[Any]) -> list[str]:
    """What stands behind the names of groups."""
    groups = [(group, [thing.says for thing in things if thing.group == group]) for group in _groups(things)]
    return [f"- {name} *{group}*: {'; '.join(said)}" for group, said in groups if said != [group]]


def _groups(things: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(thing.group for thing in things))


def _said(route: Route) -> str:
    return f"`{route.method} {route.path.format(port='PORT')}`"


def _table(asks_for_credential: bool) -> list[str]:
    def verdict(host: Host, origin: Origin, credential: Credential) -> str:
        return expected(Cell(host, origin, credential, PAGES[0]), asks_for_credential)

    columns = _alike(CREDENTIALS, lambda c: [verdict(h, o, c) for h in HOSTS for o in ORIGINS])
    lines = [_row("Host", "Origin", *(_named(c, CREDENTIALS) for c in columns)), "|---|---|" + "---|" * len(columns)]
    for hosts in _alike(HOSTS, lambda h: [verdict(h, o, c) for o in ORIGINS for c in CREDENTIALS]):
        for origins in _alike(ORIGINS, lambda o, hosts=hosts: [verdict(hosts[0], o, c) for c in CREDENTIALS]):
            cells = [verdict(hosts[0], origins[0], column[0]) for column in columns]
            shown = [f"**{cell}**" if cell == PASSES else cell for cell in cells]
            lines.append(_row(_named(hosts, HOSTS), _named(origins, ORIGINS), *shown))
    return lines


def _alike(things: Iterable[Any], verdicts: Callable[[Any], list[str]]) -> list[list[Any]]:
    groups: dict[tuple[str, ...], list[Any]] = {}
    for thing in things:
        groups.setdefault(tuple(verdicts(thing)), []).append(thing)
    return list(groups.values())


def _named(alike: Sequence[Any], every: Sequence[Any]) -> str:
    if len(alike) == len(every):
        return "any"
    names = _groups(alike)
    assert [thing for thing in every if thing.group in names] == list(alike), "a group is not treated alike"
    return ", ".join(names)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def limits() -> str:
    """What one client may cost, with what limits.py says of each."""
    notes = re.findall(r"^    (\w+): [^=]+ = .*#: (.+)$", inspect.getsource(Limits), re.MULTILINE)
    defaults = vars(Limits())
    assert [name for name, _ in notes] == list(defaults), "each limit says what it is, in its line"
    rows = [_row(f"`{name}`", _value(defaults[name]), note) for name, note in notes]
    return "\n".join([_row("`Limits(...)`", "by default", "what it is"), "|---|---:|---|", *rows])


def _value(value: object) -> str:
    return f"{value:,g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else f"`{value!r}`"


TABLES = {"rules": rules, "limits": limits}


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: made by `python tests/gate_table.py --write` -->\n", f"\n<!-- end of {name} -->"


def in_docs(name: str) -> str:
    """One of TABLES as docs/security.md has it."""
    begin, end = _marks(name)
    return PAGE.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]


def write() -> None:
    for name, made in TABLES.items():
        begin, end = _marks(name)
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
        PAGE.write_text(before + begin + made() + end + rest.partition(end)[2], encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    else:
        print(*(made() for made in TABLES.values()), sep="\n\n")
