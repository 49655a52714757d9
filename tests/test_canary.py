"""The credential, its ticket and Jupyter's cookies are in nothing that comes out of a real kernel."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from kernel import Kernel
from websockets.sync.client import connect

CELLS = {
    "logs": """
import logging, sys
logging.basicConfig(level=1, filename="everything.log", force=True)
from nbws.common import *
""",
    "app": """
app = App("canary", record=50, debug=False)
app.start()
""",
    "routes": """
seen = []
def look(what):
    seen.append(repr((what.scope, what.url, what.headers, what.query_params, what.cookies, what.session)))
    return str(what.url)

class Middleware_:
    def __init__(self, inner): self.inner = inner
    async def __call__(self, scope, receive, send):
        seen.append(repr(scope))
        async def received():
            message = await receive()
            seen.append(repr(message))
            return message
        await self.inner(scope, received, send)

async def mounted(scope, receive, send):
    seen.append(repr(scope))
    await PlainTextResponse(repr(scope))(scope, receive, send)

app.add_middleware(Middleware_)
app.mount("/mounted", mounted)

@app.get("/")
def index(request, htmx: HtmxHeaders, scope):
    print("page", look(request), htmx, scope)
    return Titled(str(request.url), P(str(request.headers)), P(repr(htmx)))

@app.get("/fails")
def fails(request): raise ValueError(look(request), dict(request.headers))

@app.post("/form")
async def form(request): return repr((look(request), await request.body()))

async def joined(ws, send):
    print("conn", look(ws))
    await send(P(str(ws.url), id="out"))

@app.ws("/ws", conn=joined, disconn=lambda ws: print("disconn", look(ws)))
async def ws(data, ws, send, htmx: HtmxHeaders, scope, request: WebSocket):
    seen.append(repr((data, htmx, scope, look(ws), look(request))))
    print("message", data, htmx, scope)
    sys.stderr.write(repr(htmx))
    app.broadcast(P(repr(htmx), str(ws.url), id="all"))
    await send(P(repr((data, htmx, ws.headers)), id="out"))
    if data.get("what") == "fail":
        secret = (data, htmx, scope)
        raise ValueError(repr(secret))

@app.ws("/raw")
async def raw(data: str, send): await send(P(data, id="out"))
""",
    "app shown": "app",
    "preview": "app.preview('/')",
    "task": """
@app.task
async def tick(app): raise RuntimeError(repr((app, app.options, app.policy(app.port), app.limits)))
""",
}
AFTERWARDS = {
    "errors": "for error in app.errors: print(error, error.title, error.message, error.traceback)",
    "endpoints": "app.endpoints",
    "history": "app.endpoints['/ws'].history",
    "replay": "app.endpoints['/ws'].replay(20)",
    "replay in text": "print(app.endpoints['/ws'].replay(20))",
    "retry": "app.endpoints['/ws'].retry()",
    "recorded": "print([c.recorded for c in app.connections], app.connections, app.rooms, vars(app.options))",
    "stopped": "app.stop(); app.start()",
}


@dataclass
class Canaries:
    token: str
    ticket: str
    jupyter: str = "jupyter-cookie-canary"

    def found_in(self, text: str, ticket_too: bool = True) -> list[str]:
        names = ("token", "jupyter", *(["ticket"] if ticket_too else []))
        return [name for name in names if getattr(self, name) in text]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    with Kernel() as kernel:
        yield kernel


def test_nothing_that_comes_out_holds_a_credential(kernel: Kernel, tmp_path: Path) -> None:
    ran = {name: kernel.check(name, source) for name, source in CELLS.items()}
    url = kernel.check("ask", "print(app.url)").stdout.strip()
    ticket = re.search(r"nbws-ticket=([\w-]+)", ran["preview"].html)
    assert ticket is not None
    key = kernel._manager.session.key
    canaries = Canaries(token=hmac.new(key, b"nbws", sha256).hexdigest(), ticket=ticket[1])
    assert canaries.found_in(ran["app"].html) == ["ticket"]  # the link that start() shows

    told = _visit(url, canaries)
    ran |= {f"{name} afterwards": kernel.run(name, source) for name, source in AFTERWARDS.items()}
    seen = kernel.check("seen", "print(chr(10).join(seen))").stdout

    assert len(re.findall("websocket.receive", seen)) >= 8  # it was looked at where it could be seen
    assert "&x=1" in seen or "?x=1" in seen
    assert canaries.found_in(seen) == []
    for text in told:
        assert canaries.found_in(text) == [], text
    for name, each in [*ran.items(), *kernel._seen.items()]:
        shown = f"{each.stdout}{each.stderr}{each.error}"
        assert canaries.found_in(shown) == [], name
        assert canaries.found_in(json.dumps(each.data), ticket_too=False) == [], name
    log = (tmp_path / "everything.log").read_text()
    assert "ValueError" in log or "ValueError" in "".join(each.stderr for each in kernel._seen.values())
    for file in tmp_path.rglob("*"):
        if file.is_file() and not file.name.startswith("kernel-"):
            assert canaries.found_in(file.read_bytes().decode("latin-1")) == [], file


def _visit(url: str, canaries: Canaries) -> list[str]:
    """Ask everything with credentials wherever they may stand. Gives all that was answered, but for cookies."""
    token, ticket = canaries.token, canaries.ticket
    port = url.rpartition(":")[2]
    jar = f"username-localhost-8888={canaries.jupyter}; _xsrf={canaries.jupyter}; nbws-{port}={token}"
    jar += f"; nbws-1={token}; nbws-1-session_={canaries.jupyter}"
    queries = [f"token={token}", f"nbws-ticket={ticket}&x=1", f"x=1&%74oken={token}&nbws%2Dticket={ticket}", "x=1"]
    told = []
    for query in queries:
        place = f"{url}/?{query}"
        headers = {"cookie": jar, "referer": place, "hx-current-url": place + "#part"}
        with httpx.Client(headers=headers) as client:
            for path in ("/", "/fails", "/mounted/x", "/nowhere", "/_nbws/static/nbws.css"):
                told.append(client.get(f"{url}{path}?{query}").text)
            told.append(client.get(f"{url}/?{query}", headers={"hx-request": "true"}).text)
            told.append(client.post(f"{url}/form?{query}", data={"a": "b"}).text)
            with client.stream("GET", f"{url}/_nbws/feed?{query}") as feed:
                told.append(next(feed.iter_text()))
        for path in ("/ws", "/raw"):
            address = f"{url.replace('http', 'ws')}{path}?{query}"
            with connect(address, additional_headers={"cookie": jar, "referer": place}) as socket:
                for what in ("say", "fail"):
                    message = {"what": what, "HEADERS": {"HX-Request": "true", "HX-Current-URL": f"{place}#part"}}
                    socket.send(json.dumps(message))
                socket.send(json.dumps({"what": "htmx 4", "headers": {"HX-Current-URL": place}, "values": {"a": "b"}}))
                told += [str(socket.recv(timeout=10)) for _ in range(3 if path == "/raw" else 4)]
    for refused in (f"{url}/?token=x", f"{url}/?nbws-ticket=x", url):
        told.append(httpx.get(refused).text)
    return told


def test_a_kernels_token_is_what_the_contract_says_and_survives_its_restart(kernel: Kernel) -> None:
    def token() -> Any:
        kernel.check("app", "from nbws import App\napp = App('restarts')\napp.start()")
        return kernel.check("ask", "print(app.token, app.url)").stdout.split()

    first = token()
    assert first[0] == hmac.new(kernel._manager.session.key, b"nbws", sha256).hexdigest()
    kernel.restart()
    assert token() == first
