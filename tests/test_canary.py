"""The credential, its ticket and Jupyter's cookies are in nothing that comes out of a real kernel."""

from __future__ import annotations

import hmac
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from clients import free_port
from kernel import Kernel
from lab import Browser, LabServer, write_nb
from playwright.sync_api import expect
from websockets.exceptions import InvalidStatus
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
    "panel": "from nbws.inspection import answer; print(answer(app, {'seen': {}}))",
    "widget": "app.inspector()",
    "said": "print(app.said, app.log.lines)",
    "transcript": "app.transcript()",
    "transcript in text": "print(app.transcript(), app.transcript().to_test())",
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
    for name in ("errors", "panel", "widget", "said", "transcript", "transcript in text"):
        assert ran[f"{name} afterwards"].ok, ran[f"{name} afterwards"].error
    for name in ("panel", "said", "transcript in text"):
        assert "htmx 4" in ran[f"{name} afterwards"].stdout, name
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


PROGRAM = """
from nbws.common import *
app = App(token="token-canary")
app.get("/")(lambda: "page")
@app.ws("/ws")
async def ws(msg: str): return P(msg, id="a")
"""


def test_a_server_that_logs_each_request_logs_no_token(tmp_path: Path) -> None:
    """uvicorn itself, as a program is run behind a proxy, names pages and websockets with their queries."""
    (tmp_path / "program.py").write_text(PROGRAM)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "program:app", "--port", str(port), "--log-level", "info"]
    log = tmp_path / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT, text=True) as process,
    ):
        try:
            place, query = f"127.0.0.1:{port}", "x=1&token=token-canary"
            with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
                assert client.get(f"http://{place}/?{query}").text == "page"
                evil = {"origin": "http://evil.example"}
                assert client.get(f"http://{place}/?{query}", headers=evil).status_code == 403
            with connect(f"ws://{place}/ws?{query}") as socket:
                socket.send('{"msg": "hi"}')
                assert "hi" in str(socket.recv(timeout=10))
            with pytest.raises(InvalidStatus):
                connect(f"ws://{place}/ws?{query}", additional_headers=evil)
        finally:
            process.terminate()
    lines = log.read_text()
    assert len(re.findall(r"/(ws)?\?x=1", lines)) == 4  # it was logged, all the same
    assert "canary" not in lines


BESIDE = [
    """import logging
logging.basicConfig(level=1, filename="everything.log", force=True)
from nbws.common import *
seen = []
app = App()
def look(*what):
    print(*what)
    seen.append(repr(what))
@app.get("/")
def index(request, htmx: HtmxHeaders):
    look(dict(request.headers), request.cookies, request.session, request.scope, htmx)
    return Titled("page", P(id="out"), Form(Input(id="msg"), ws_send=True), hx_ext="ws", ws_connect="/ws")
@app.ws("/ws")
async def ws(msg: str, data, ws, htmx: HtmxHeaders, request: WebSocket):
    look(data, dict(ws.headers), ws.cookies, ws.session, ws.scope, htmx, request.headers)
    if msg == "fail":
        raise ValueError(repr(ws.scope))
    return P(str(ws.cookies) + str(ws.headers) + repr(htmx), id="out")
app""",
    """print(len(seen), *seen, sep=chr(10))
for error in app.errors: print(error, error.title, error.message, error.traceback)
from nbws.inspection import answer
print([c.recorded for c in app.connections], app.connections, answer(app, {"seen": {}}), app.said)
print(app.transcript(), app.transcript().to_test())""",
]


@pytest.mark.lab
def test_under_a_jupyter_at_localhost_its_cookies_and_the_apps_credential_are_nowhere(
    browser: Browser, tmp_path: Path
) -> None:
    path = write_nb(tmp_path / "beside.ipynb", BESIDE)
    with (
        LabServer(tmp_path, hostname="localhost", token="lab-token-canary") as server,
        browser.open(server, path.name) as notebook,
    ):
        notebook.run(0)
        frame = notebook.iframe(0)
        tab = notebook.page.context.new_page()  # under Jupyter's own host name, where its cookies are sent along
        src = notebook.cell(0).locator("iframe").get_attribute("src")
        assert src is not None
        tab.goto(src.replace("127.0.0.1", "localhost"))
        for page in (frame, tab):
            for said in ("hi", "fail"):
                page.fill("#msg", said)
                page.press("#msg", "Enter")
            expect(page.locator("#out")).to_contain_text("host")
        notebook.text_until(0, "ValueError")
        shown = notebook.run(1)
        notebook.save()

        cookies = notebook.page.context.cookies()
        jupyters = [c["value"] for c in cookies if not c["name"].startswith("nbws-")]
        tokens = [c["value"] for c in cookies if re.fullmatch(r"nbws-\d+", c["name"])]
        assert {"_xsrf"} < {c["name"] for c in cookies if not c["name"].startswith("nbws-")}  # and the login cookie
        assert tokens
        assert int(shown.split()[0]) >= 6
        assert ".send(" in shown  # the transcript as a test, after the errors and what the panel shows
        saved = path.read_text(encoding="utf-8")
        logged = (tmp_path / "everything.log").read_text(encoding="utf-8")
        assert "ValueError" in saved
        assert "TRACE:uvicorn.error" in logged
        for value in ["_xsrf", "lab-token-canary", *jupyters, *tokens]:
            for text in (shown, saved, logged, tab.content(), frame.content()):
                assert value not in text
        for value in (*jupyters, *tokens):
            assert value not in server.log
        ticket = src.rpartition("=")[2]
        assert ticket in saved  # dead as soon as the kernel is
        for text in (shown, logged, server.log, tab.content(), frame.content()):
            assert ticket not in text
