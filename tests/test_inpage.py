"""*Run it here*: the app in a Chromium, by Pyodide, from a folder that a plain web server serves."""

from __future__ import annotations

import asyncio
import functools
import http.server
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from lab import Browser, write_nb
from playwright.sync_api import Frame, Page

from nbws.docs_page import RunHere, render
from nbws.docs_pyodide import page_parts, run_here, write_page
from nbws.inpage.host import Host
from nbws.notebook.file import Cell
from nbws.playback import Playback
from nbws.player import player
from nbws.transcript import CLOSED, OPENED, SENT, Line

pytestmark = pytest.mark.browser

T = TypeVar("T")

PYODIDE = "314.0.7"

CELLS = [
    """
from nbws.common import *
app = App()
""",
    """
@app.get("/")
def home():
    form = Form(Input(id="msg"), id="form", ws_send=True)
    return Titled("Chat", Div(Div(id="log"), form, hx_ext="ws", ws_connect="/chat"), A("more", href="/more"))

@app.get("/more")
def more():
    return P("more", id="more"), Button("ask", hx_get="/asked", hx_target="#more"), Img(src="/dot.svg")

@app.get("/asked")
def asked(): return "asked"

@app.get("/dot.svg")
def dot():
    return Response('<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"/>', media_type="image/svg+xml")
""",
    """
@app.ws("/chat")
async def chat(msg: str):
    app.broadcast(Div(P("one: ", msg), id="log", hx_swap_oob="beforeend"))
    return Input(id="msg")
""",
]

SCRIPTED = """
from dataclasses import dataclass
from datetime import date
from nbws.common import *

parity = App("parity")
seen = []

@dataclass
class Order:
    what: str
    count: int = 1
    day: date | None = None

@parity.ws("/order/{shop}")
async def order(order: Order, shop: str, ws):
    seen.append(order)
    await ws.send(P(shop, ": ", order.count, " × ", order.what, " ", order.day, id="order"))
    parity.broadcast(Ul(*[Li(each.what, cls=["a", "b"]) for each in seen], id="all"))

@parity.ws("/count")
def count(n: int):
    for i in range(n):
        yield Div(i, Safe("<b>"), id="n", style={"color": "red"})

@parity.ws("/bytes")
async def echo(data: bytes): return P(data.hex(), id="hex")
"""
SESSION: list[tuple[str, str | bytes]] = [
    (
        "/order/tea",
        '{"what": "Earl <Grey> & \\u2615 \\ud83e\\uded6", "count": "3", "day": "2026-11-23", "HEADERS": {}}',
    ),
    ("/order/tea", '{"what": "\\"quoted\\"", "HEADERS": {"HX-Request": "true"}}'),
    ("/count", '{"n": "3"}'),
    ("/bytes", b"\x00\xff\x80nbws"),
    ("/order/caf\u00e9", '{"what": "x", "count": 2}'),
]


@pytest.fixture(scope="module")
def pyodide() -> Path:
    """A Pyodide, kept between runs beside other temporary files; NBWS_PYODIDE names another one."""
    named = os.environ.get("NBWS_PYODIDE")
    if named:
        return Path(named)
    kept = Path(tempfile.gettempdir()) / f"nbws-pyodide-{PYODIDE}"
    if not (kept / "package").is_dir():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("no npm to fetch Pyodide with; install Node.js, or name a folder of Pyodide in NBWS_PYODIDE")
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            command = [npm, "pack", f"pyodide@{PYODIDE}", "--pack-destination", scratch]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            except subprocess.TimeoutExpired:
                pytest.skip("npm has not fetched Pyodide within 60 s; name a folder of it in NBWS_PYODIDE")
            archives = list(Path(scratch).glob("*.tgz"))
            if done.returncode or not archives:
                pytest.skip(f"npm has not fetched Pyodide: {done.stderr.strip()[-300:]}")
            with tarfile.open(archives[0]) as archive:
                archive.extractall(f"{scratch}/all", filter="data")
            shutil.move(f"{scratch}/all", kept)  # whole, or not at all
    return kept / "package"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def folder(pyodide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page of the notebook."""
    folder = tmp_path_factory.mktemp("docs")
    cells = [Cell(f"cell-{n}", n, source.strip("\n")) for n, source in enumerate(CELLS, 1)]
    write_page(folder / "chat.html", cells, str(pyodide), title="Chat")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The folder, served as any web server does."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, with the app running in it."""
    page = browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("response", lambda response: problems.append(f"{response.status} {response.url}"))
    page.goto(f"{address}/chat.html")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # on the button
    page.wait_for_selector(".nbws-run[data-state=live]", timeout=90_000)
    page.wait_for_selector(".nbws-run[data-connected='2']")
    yield page
    page.context.close()
    assert [each for each in problems if not each.startswith("200 ") and "favicon" not in each] == []


def clients(page: Page) -> list[Frame]:
    frames = [element.content_frame() for element in page.query_selector_all(".nbws-run-client iframe")]
    return [frame for frame in frames if frame is not None]


def say(client: Frame, text: str) -> None:
    client.fill("#msg", text)
    client.press("#msg", "Enter")


def run_cell(page: Page, number: int, source: str) -> None:
    """Edit a cell and run it, as its reader does; return when it has run."""
    ran = page.evaluate("Number(document.querySelector('.nbws-run').dataset.ran)")
    editor = page.get_by_label(f"Cell {number}", exact=True)
    editor.fill(source)
    editor.press("Shift+Enter")
    page.wait_for_function("n => Number(document.querySelector('.nbws-run').dataset.ran) > n", arg=ran)


def test_two_clients_chat_and_an_edited_handler_reaches_both_with_no_reconnect(page: Page) -> None:
    one, two = clients(page)
    say(one, "hello")
    two.wait_for_selector("#log p:text-is('one: hello')")
    one.evaluate("() => { window.isTheSame = true; htmx.on('htmx:wsClose', () => { window.isTheSame = false; }); }")
    run_cell(page, 3, CELLS[2].replace("one: ", "two: "))
    say(two, "again")
    for client in (one, two):
        client.wait_for_selector("#log p:text-is('two: again')")
        assert client.locator("#log p").all_inner_texts() == ["one: hello", "two: again"]
    assert one.evaluate("() => window.isTheSame")
    assert "WS /chat v1 → v2; 2 connections stayed open" in page.inner_text(".nbws-run-log")


def test_a_page_changes_in_place_and_keeps_what_was_typed(page: Page) -> None:
    one, _ = clients(page)
    one.fill("#msg", "half a sen")
    run_cell(page, 2, CELLS[1].replace('Titled("Chat"', 'Titled("Edited"'))
    one.wait_for_selector("h1:text-is('Edited')")
    assert one.input_value("#msg") == "half a sen"
    assert one.locator("#log p").count() > 0


def test_a_cell_that_fails_shows_its_traceback_and_changes_nothing(page: Page) -> None:
    one, two = clients(page)
    run_cell(page, 3, CELLS[2].replace("one: ", "never: ") + "\n1 / 0")
    error = page.locator(".nbws-run-output .nbws-run-error")
    assert error.locator("b").inner_text() == "ZeroDivisionError: division by zero"
    assert "<cell 3, run " in error.locator("pre").inner_text()
    say(one, "still")
    two.wait_for_selector("#log p:text-is('two: still')")


def test_an_error_of_a_handler_is_shown_with_its_traceback(page: Page) -> None:
    one, two = clients(page)
    run_cell(page, 3, CELLS[2].replace("    app.broadcast", "    print('got', msg)\n    {}[msg]\n    app.broadcast"))
    say(one, "this")
    page.wait_for_selector(".nbws-run-log .nbws-run-error summary:has-text(\"KeyError: 'this'\")")
    page.wait_for_selector(".nbws-run-log .nbws-run-said:has-text('got this')")
    run_cell(page, 3, CELLS[2])
    say(one, "mended")
    two.wait_for_selector("#log p:text-is('one: mended')")


def test_links_requests_and_images_stay_in_the_page(page: Page) -> None:
    _, two = clients(page)
    two.click("text=more")
    two.wait_for_selector("#more")
    two.click("text=ask")
    two.wait_for_selector("#more:text-is('asked')")
    assert two.evaluate("() => document.images[0].decode().then(() => document.images[0].naturalWidth)") == 7
    assert page.locator(".nbws-run-client code").nth(1).inner_text() == "/more"
    page.wait_for_selector(".nbws-run[data-connected='1']")
    two.evaluate("() => { location.hash; }")
    page.locator(".nbws-run-client button").nth(1).click()
    two.wait_for_selector("#more:text-is('more')")


def test_scripts_of_a_client_have_sockets_events_and_requests(page: Page) -> None:
    run_cell(page, 3, CELLS[2] + NETWORK)
    _, two = clients(page)
    assert two.evaluate(ASKS) == {
        "socket": [[255, 0, 1], 1000],
        "events": ["one", "two\nlines"],
        "posted": ["a=1&b=%C3%A9", "application/x-www-form-urlencoded;charset=UTF-8"],
        "redirected": ["http://testserver/at?x=1", True, "at 1"],
        "missing": 404,
        "xhr": [201, "made", "yes"],
    }


def test_a_scripted_session_gives_what_it_gives_in_cpython_byte_for_byte(page: Page) -> None:
    there: list[Any] = page.evaluate(IN_THE_PAGE, [SCRIPTED, [[path, as_json(said)] for path, said in SESSION], COUNTS])
    result = in_a_thread(in_cpython)
    assert len(result) == len(SESSION)
    assert [len(each) for each in result] == COUNTS
    assert there == result


def test_a_recorded_session_is_answered_as_it_was_in_cpython_byte_for_byte(page: Page) -> None:
    recorded = in_a_thread(record)
    entries = [(entry.kind, entry.clients, entry.url, entry.data) for entry in recorded.entries]
    # A connection is closed when its `disconn` has run, and its client has closed it before: after what it heard last.
    for closed in [entry for entry in entries if entry[0] == CLOSED]:
        entries.remove(closed)
        last = max(n for n, (_, clients, *_) in enumerate(entries) if closed[1][0] in clients)
        entries.insert(last + 1, closed)
    assert [len(recorded.heard_by(client)) for client in (0, 1, 2)] == [10, 6, 3]
    there: list[Any] = page.evaluate(PLAY_IN_THE_PAGE, [RECORDED, entries])
    assert there == [data for kind, _, _, data in entries if kind == SENT]


def in_a_thread(talk: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What *talk* gives, on a loop of its own: playwright has one here."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(lambda: asyncio.run(talk())).result(60)


RECORDED = """
from nbws.common import *

app = App("recorded")
said = []

def joined(ws):
    ws.join("room")
    tell()

def left(ws):
    ws.leave("room")
    tell()

def tell():
    app.broadcast(P(len([c for c in app.connections if "room" in c.rooms]), " here", id="here"), room="room")

@app.ws("/room/{name}", conn=joined, disconn=left)
async def room(text: str, name: str, ws):
    ws.state.count = ws.state.get("count", 0) + 1
    said.append(Li(Strong(name), ": ", text, " (", ws.state.count, ")"))
    app.broadcast(Ul(*said, id="said"), room="room")
    if text == "twice":
        return P("said twice by ", name, id="twice")
"""


async def record() -> Playback:
    """A session of three clients with the app of RECORDED, one of whom leaves."""
    names: dict[str, Any] = {}
    exec(RECORDED, names)
    app = names["app"]
    tape = app.record("parity")
    async with app.client().ws("/room/ann") as ann, app.client().ws("/room/b%C3%B6b") as bob:
        for visitor in (ann, ann, bob):
            await visitor.receive()
        for visitor, text in ((ann, "hi & <b>"), (bob, "\u2615 twice"), (ann, "twice")):
            await visitor.send(text=text)
            for each in (ann, bob):
                await each.receive()
        await ann.receive()
        async with app.client().ws("/room/cy") as cy:
            for visitor in (ann, bob, cy):
                await visitor.receive()
            await cy.send(text="late")
            for visitor in (ann, bob, cy):
                await visitor.receive()
            await bob.close()
            for visitor in (ann, cy):
                await visitor.receive()
        await ann.receive()
    recorded: Playback = tape.playback()
    tape.stop()
    return recorded


PLAY_IN_THE_PAGE = """async ([source, entries]) => {
  const { host } = document.querySelector(".nbws-run").nbwsRun, all = [];
  const ran = new Promise((resolve) => {
    const before = host.on.ran;
    host.on.ran = (told) => { host.on.ran = before; resolve(told); };
  });
  host.tell({ kind: "run", cell: "recorded", number: 10, source });
  const app = (await ran).apps.at(-1), ids = {}, came = {}, wakes = {};
  for (const [kind, clients, path, data] of entries) {
    const [client] = clients;
    if (kind === "opened") {
      came[client] = [];
      await new Promise((opened) => {
        const asked = { kind: "connect", client: `recorded ${client}`, app, path, headers: [] };
        ids[client] = host.ask(asked, null, (told) => {
          if (told.kind === "open") opened();
          else if (told.kind === "message") { came[client].push(told.data); wakes[client]?.(); }
        });
      });
    } else if (kind === "received") {
      host.tell({ kind: "send", id: ids[client], data });
    } else if (kind === "closed") {
      host.tell({ kind: "close", id: ids[client], code: 1000 });
    } else {
      const got = [];
      for (const each of clients) {
        if (!came[each].length) {
          await new Promise((wake, fail) => {
            wakes[each] = wake;
            setTimeout(() => fail(new Error(`client ${each} of ${clients} got no ${data} after ${all}`)), 10000);
          });
        }
        got.push(came[each].shift());
      }
      if (new Set(got).size > 1) throw new Error(`not the same for all: ${got}`);
      all.push(got[0]);
    }
  }
  return all;
}"""


def test_a_blocking_client_waits_for_the_loop_that_it_is_on(page: Page) -> None:
    source = """
blocking = App()

@blocking.ws("/up")
async def up(text: str):
    await asyncio.sleep(0.01)
    return P(text.upper(), id="up")

with blocking.client(sync=True).ws("/up") as visitor:
    print(visitor.ask(text="said"), len(blocking.connections))
"""
    run_cell(page, 3, CELLS[2] + source)
    page.wait_for_selector(".nbws-run-output pre:has-text('>SAID</p> 1')")


def test_nothing_is_fetched_from_elsewhere(page: Page, browser: Browser) -> None:
    assert browser.refused == []


def test_stop_ends_it_and_it_can_be_started_again(page: Page) -> None:
    page.get_by_role("button", name="Stop").click()
    assert page.locator(".nbws-run-client").count() == 0
    assert page.get_by_role("button", name="Run it here").is_visible()
    assert page.workers == []


def test_a_players_button_runs_the_app_also_where_the_page_is_a_file(browser: Browser, folder: Path) -> None:
    notebook = folder / "chat.ipynb"
    write_nb(notebook, [("md", "# Chat"), *(source.strip("\n") for source in CELLS)])
    lines = [Line(1, OPENED, "/chat", "/chat", ["a"]), Line(2, SENT, "/chat", "/chat", ["a"], '<p id="log">then</p>')]
    recording = player(Playback.of(lines), {"app": "0", "path": "/", "clients": 1})
    shown = {"output_type": "display_data", "data": {"text/html": recording}, "metadata": {}}
    cell = {"cell_type": "code", "id": "shows", "source": "app", "outputs": [shown], "metadata": {}}
    document = render({"cells": [cell]}, notebook, run_here=RunHere("run-here/", *page_parts()))
    (folder / "docs.html").write_text(document.html, encoding="utf-8")
    page = browser.new_page()
    page.context.unroute_all()  # they would refuse files
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition(":")[0]))
    page.goto((folder / "docs.html").as_uri())
    page.get_by_role("button", name="Run it here").click()
    page.wait_for_selector(".nbws-run[data-state=live]", timeout=90_000)
    page.wait_for_selector(".nbws-run[data-connected='2']")
    one, two = clients(page)
    say(one, "no server")
    two.wait_for_selector("#log p:text-is('one: no server')")
    two.click("text=more")
    two.click("text=ask")
    two.wait_for_selector("#more:text-is('asked')")
    page.get_by_role("button", name="Back to the recording").click()
    page.wait_for_selector(".nbws-replay-bar")
    assert page.locator(".nbws-run-client").count() == 0
    assert page.workers == []
    page.context.close()
    assert set(asked) <= {"file", "blob", "data"}


def test_a_file_that_was_not_built_for_it_says_what_to_do(browser: Browser, folder: Path, tmp_path: Path) -> None:
    for name in ("inpage.js", "inpage.css"):
        shutil.copy(folder / "run-here" / name, tmp_path / name)
    (tmp_path / "a.html").write_text(f"<!doctype html><body>{run_here([], base='./')}</body>", encoding="utf-8")
    page = browser.new_page()
    page.context.unroute_all()
    page.goto((tmp_path / "a.html").as_uri())
    page.get_by_role("button", name="Run it here").click()
    page.wait_for_selector(".nbws-run[data-state=failed]")
    assert "python -m http.server" in page.inner_text(".nbws-run-status")
    page.context.close()


NETWORK = """
async def reverse(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    said = await receive()
    await send({"type": "websocket.send", "bytes": said["bytes"][::-1]})
    await send({"type": "websocket.close", "code": 1000})

app.mount("/reversed", reverse)

@app.get("/events")
async def events():
    async def each():
        yield "data: one\\n\\n"
        yield "data: two\\ndata: lines\\n\\n"
    return EventStream(each())

@app.post("/post")
async def post(request: Request):
    return PlainTextResponse(await request.body(), headers={"kind": request.headers["content-type"]})

@app.get("/from")
def leads(): return Redirect("/at?x=1")

@app.get("/at")
def at(x: int): return PlainTextResponse(f"at {x}")

@app.post("/made")
def made(): return PlainTextResponse("made", 201, headers={"is-made": "yes"})
"""
ASKS = """async () => {
  const socket = new WebSocket("/reversed/");
  socket.binaryType = "arraybuffer";
  const echo = new Promise((resolve) => {
    let got = null;
    socket.onopen = () => socket.send(new Uint8Array([1, 0, 255]));
    socket.onmessage = ({ data }) => { got = data instanceof ArrayBuffer ? [...new Uint8Array(data)] : typeof data; };
    socket.onclose = ({ code }) => resolve([got, code]);
  });
  const events = new Promise((resolve) => {
    const source = new EventSource("/events"), got = [];
    source.onmessage = ({ data }) => { got.push(data); };
    source.onerror = () => { source.close(); resolve(got); };
  });
  const posted = await fetch("/post", { method: "POST", body: new URLSearchParams({ a: 1, b: "\u00e9" }) });
  const redirected = await fetch("/from");
  const xhr = new XMLHttpRequest();
  xhr.open("POST", "/made");
  const made = new Promise((resolve) => {
    xhr.addEventListener("load", () => resolve([xhr.status, xhr.responseText, xhr.getResponseHeader("is-made")]));
  });
  xhr.send("x");
  return {
    socket: await echo, events: await events, posted: [await posted.text(), posted.headers.get("kind")],
    redirected: [redirected.url, redirected.redirected, await redirected.text()],
    missing: (await fetch("/nowhere")).status, xhr: await made,
  };
}"""


def as_json(said: str | bytes) -> Any:
    return said if isinstance(said, str) else list(said)


COUNTS = [2, 2, 3, 1, 2]  #: of what comes for each line of the session, on a websocket of its own
IN_THE_PAGE = """async ([source, session, counts]) => {
  const { host } = document.querySelector(".nbws-run").nbwsRun, all = [];
  const ran = new Promise((resolve) => {
    const before = host.on.ran;
    host.on.ran = (told) => { host.on.ran = before; resolve(told); };
  });
  host.tell({ kind: "run", cell: "scripted", number: 9, source });
  const app = (await ran).apps.at(-1);
  for (const [n, [path, said]] of session.entries()) {
    const got = await new Promise((resolve, reject) => {
      const got = [];
      const id = host.ask({ kind: "connect", client: "scripted", app, path, headers: [] }, null, ({ kind, data }) => {
        if (kind === "open" && typeof said === "string") host.tell({ kind: "send", id, data: said });
        else if (kind === "open") host.tell({ kind: "send", id }, new Uint8Array(said));
        else if (kind === "message" && got.push(data) === counts[n]) { host.tell({ kind: "close", id }); resolve(got); }
        else if (kind === "closed" && got.length < counts[n]) reject(new Error(`closed: ${path}`));
      });
    });
    all.push(got);
  }
  return all;
}"""


async def in_cpython() -> list[list[Any]]:
    posted: list[dict[str, Any]] = []
    came = asyncio.Event()

    def post(message: Any) -> None:
        posted.append(dict(message))
        came.set()

    async def until(fits: Any) -> dict[str, Any]:
        while True:
            came.clear()
            found = next((message for message in posted if fits(message)), None)
            if found is not None:
                return found
            await asyncio.wait_for(came.wait(), 20)

    host = Host(post, {"__name__": "__main__"})
    found: list[list[Any]] = []
    with host.present():
        host.receive({"kind": "run", "cell": "scripted in cpython", "number": 9, "source": SCRIPTED})
        ran = await until(lambda message: message["kind"] == "ran")
        assert ran["ok"], posted
        for id, ((path, said), count) in enumerate(zip(SESSION, COUNTS, strict=True), 1):
            host.receive(
                {"kind": "connect", "id": id, "client": "scripted", "app": ran["apps"][-1], "path": path, "headers": []}
            )
            await until(lambda message, id=id: message["kind"] == "open" and message["id"] == id)
            host.receive({"kind": "send", "id": id, "data": said})

            def fragments(id: int = id) -> list[Any]:
                return [m["data"] for m in posted if m["kind"] == "message" and m["id"] == id]

            await until(lambda _, count=count, fragments=fragments: len(fragments()) >= count)
            found.append(fragments())
            host.receive({"kind": "close", "id": id, "code": 1000})
            await until(lambda message, id=id: message["kind"] == "closed" and message["id"] == id)
        await host.clients.stop()
    return found
