"""Pages of others against an app in a real browser: they have nothing handled, and read nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from clients import running
from gate_table import TOKEN, InNotebook
from lab import Browser, find_chromium
from playwright.sync_api import Page, expect
from starlette.responses import Response

from nbws import App
from nbws.common import (
    Body,
    Div,
    Form,
    Head,
    Html,
    HtmxHeaders,
    Img,
    Input,
    JSONResponse,
    Link,
    P,
    PlainTextResponse,
    Script,
    Titled,
)

pytestmark = pytest.mark.browser

SECRET = "SECRET-CANARY"
NAMES = ("evil.example", "rebound.example")  #: of the attacker; they lead to 127.0.0.1


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A Chromium for which the attacker's names lead to this machine, and all others nowhere."""
    if find_chromium() is None:
        pytest.skip("no Chromium, Chrome or Edge found")
    rules = ", ".join([*(f"MAP {name} 127.0.0.1" for name in NAMES), "EXCLUDE localhost", "MAP *.example ~NOTFOUND"])
    with Browser(args=[f"--host-resolver-rules={rules}"]) as browser:
        yield browser


@contextmanager
def page_of(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.context.unroute_all()  # which keeps other tests on loopback; the attacker's names are more
    try:
        yield page
    finally:
        page.context.close()


@dataclass
class Target:
    """An app, and what has come to it."""

    app: App
    messages: list[str] = field(default_factory=list)
    posts: list[str] = field(default_factory=list)
    gets: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        assert self.app.port is not None
        return self.app.port

    def url(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}"

    def forget(self) -> None:
        for each in (self.messages, self.posts, self.gets):
            each.clear()


def target(*, in_notebook: bool) -> Target:
    """An app whose every answer holds SECRET."""
    app: App = InNotebook(port=0, token=TOKEN) if in_notebook else App(port=0)
    found = Target(app)

    @app.get("/")
    def index() -> Any:
        found.gets.append("/")
        return Titled(SECRET, Form(Input(id="msg"), ws_send=True), Div(id="out"), hx_ext="ws", ws_connect="/ws")

    @app.get("/data.js")
    def script() -> Any:
        found.gets.append("/data.js")
        return Response(f"window.leaked = '{SECRET}'", media_type="text/javascript")

    @app.get("/image.svg")
    def image() -> Any:
        found.gets.append("/image.svg")
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"><title>{SECRET}</title></svg>'
        return Response(svg, media_type="image/svg+xml")

    @app.get("/style.css")
    def style() -> Any:
        return Response(f"body {{ --leaked: '{SECRET}' }}", media_type="text/css")

    @app.get("/data.json")
    def data() -> Any:
        return JSONResponse([SECRET])

    @app.route("/do", methods=["post", "put", "delete"])
    def do() -> Any:
        found.posts.append("/do")
        return SECRET

    @app.ws("/ws", conn=lambda ws, send: (found.messages.append("conn"), send(P(SECRET, id="out")))[1])
    async def ws(data: str) -> Any:
        found.messages.append(data)
        return P(SECRET, id="out")

    return found


@pytest.fixture(params=["script", "notebook"])
def victim(request: pytest.FixtureRequest) -> Iterator[Target]:
    found = target(in_notebook=request.param == "notebook")
    with running(found.app):
        yield found


@pytest.fixture
def attacker() -> Iterator[App]:
    """What serves the attacker's page, and takes note of what it is told."""
    app = App(port=0, allowed_hosts=NAMES, default_hdrs=False)
    app.get("/")(lambda: Titled("Lure"))
    with running(app):
        yield app


def used_by_its_author(page: Page, victim: Target) -> None:
    """Have the browser hold all the cookies that it may hold, from a tab and from a frame."""
    if victim.app.token is None:
        return
    for host in ("127.0.0.1", "localhost"):
        page.goto(victim.app.preview("/").src.replace("127.0.0.1", host))
        expect(page.locator("h1")).to_have_text(SECRET)
        expect(page.locator("#out")).to_have_text(SECRET)  # by its websocket, whose `conn` has run then
    assert len(page.context.cookies()) >= 2
    victim.forget()


ATTACKS = """
async (url) => {
    const ws = url.replace("http", "ws");
    const wait = (ms) => new Promise((done) => setTimeout(done, ms));
    const element = (tag, attributes) => new Promise((done) => {
        const made = Object.assign(document.createElement(tag), attributes);
        made.onload = () => done(["loaded", made.naturalWidth || 0]);
        made.onerror = () => done("failed");
        (document.body || document.documentElement).append(made);
    });
    const read = async (answer) => `${answer.type} ${await answer.text()}`;
    const form = (method, path) => new Promise((done) => {
        const frame = Object.assign(document.createElement("iframe"), { name: "f" + Math.random() });
        document.body.append(frame);
        const made = Object.assign(document.createElement("form"), { method, action: url + path, target: frame.name });
        made.append(Object.assign(document.createElement("input"), { name: "a", value: "b" }));
        document.body.append(made);
        frame.onload = () => { try { done(frame.contentDocument.body.textContent); } catch { done("closed"); } };
        made.submit();
        setTimeout(() => done("no load"), 1000);
    });
    const attacks = {
        websocket: () => new Promise((done) => {
            const socket = new WebSocket(ws + "/ws");
            socket.onopen = () => socket.send('{"msg": "attack"}');
            socket.onmessage = (event) => done("read " + event.data);
            socket.onclose = () => done("closed");
        }),
        "event source": () => new Promise((done) => {
            const stream = new EventSource(url + "/_nbws/feed", { withCredentials: true });
            stream.onmessage = (event) => done("read " + event.data);
            stream.onerror = () => { stream.close(); done("failed"); };
        }),
        get: async () => read(await fetch(url + "/data.json", { credentials: "include" })),
        "get, no cors": async () => read(await fetch(url + "/", { mode: "no-cors", credentials: "include" })),
        post: async () => read(await fetch(url + "/do", { method: "POST", credentials: "include" })),
        "post, no cors": async () =>
            read(await fetch(url + "/do", { method: "POST", mode: "no-cors", credentials: "include", body: "a=b" })),
        "post of json": async () => read(await fetch(url + "/do", {
            method: "POST", credentials: "include", body: "{}", headers: { "content-type": "application/json" } })),
        put: async () => read(await fetch(url + "/do", { method: "PUT", credentials: "include" })),
        beacon: async () => { navigator.sendBeacon(url + "/do", "a=b"); await wait(200); },
        "form post": () => form("post", "/do"),
        "form get": () => form("get", "/"),
        image: () => element("img", { src: url + "/image.svg" }),
        script: async () => [await element("script", { src: url + "/data.js" }), window.leaked],
        style: async () => [
            await element("link", { rel: "stylesheet", href: url + "/style.css" }),
            getComputedStyle(document.body).getPropertyValue("--leaked"),
        ],
        frame: async () => {
            const frame = document.createElement("iframe");
            frame.src = url + "/?nbws-ticket=guess";
            document.body.append(frame);
            const heard = [];
            const hear = (event) => { if (event.source === frame.contentWindow) heard.push(event.data); };
            window.addEventListener("message", hear);
            await new Promise((done) => { frame.onload = done; setTimeout(done, 1000); });
            for (const ticket of [undefined, null, "guess"]) {
                frame.contentWindow.postMessage({ nbws: "frame", ticket, dark: false }, "*");
            }
            await wait(300);
            window.removeEventListener("message", hear);
            try { return frame.contentDocument.body.textContent; } catch (error) { return ["closed to us", heard]; }
        },
    };
    const found = {};
    for (const [name, attack] of Object.entries(attacks)) {
        found[name] = await Promise.race([
            attack().catch((error) => "failed: " + error.name), wait(3000).then(() => "nothing came") ]);
    }
    return found;
}
"""


@pytest.mark.parametrize("place", ["evil.example", "localhost", "127.0.0.1"])
def test_a_page_of_another_origin_has_nothing_handled_and_reads_nothing(
    chromium: Browser, victim: Target, attacker: App, place: str
) -> None:
    with page_of(chromium) as page:
        used_by_its_author(page, victim)
        page.goto(f"http://{place}:{attacker.port}/")
        for host in ("127.0.0.1", "localhost"):
            said = page.evaluate(ATTACKS, victim.url(host))
            assert SECRET not in json.dumps(said)
            assert said["websocket"] == "closed"
            assert [said[kind] for kind in ("image", "get, no cors")] == ["failed", "failed: TypeError"]
            assert said["frame"][1] in ([], [{"nbws": "hello"}])
        assert victim.posts == []
        # To a browser all ports of a host are one site: its pages can show the app's own page in a frame, with the
        # cookie. That page opens its websocket; who frames it can neither say nor hear anything.
        is_shown = victim.app.token is not None and place != "evil.example"
        assert set(victim.messages) <= ({"conn"} if is_shown else set())
        # Navigating is what no server can tell from a person's own doing.
        with page.expect_popup() as opened:
            page.evaluate("url => { window.opened = window.open(url); }", victim.url() + "/")
        opened.value.wait_for_load_state()
        seen = page.evaluate("() => { try { return opened.document.body.textContent; } catch { return 'closed'; } }")
        assert seen == "closed"
        opened.value.close()
    assert set(victim.messages) <= {"conn"}
    assert victim.posts == []


def test_a_sandboxed_frame_whose_origin_is_null_gets_nothing(chromium: Browser, victim: Target, attacker: App) -> None:
    with page_of(chromium) as page:
        used_by_its_author(page, victim)
        page.goto(f"http://evil.example:{attacker.port}/")
        said = page.evaluate(
            """async ([attacks, url]) => {
                const frame = document.createElement("iframe");
                frame.sandbox = "allow-scripts allow-forms";
                const heard = new Promise((done) => {
                    window.onmessage = (event) => done([event.origin, event.data]);
                });
                frame.srcdoc = `<body><script>(${attacks})("${url}").then(
                    (found) => parent.postMessage(JSON.stringify(found), "*"))<` + "/script>";
                document.body.append(frame);
                return heard;
            }""",
            [ATTACKS, victim.url()],
        )
    assert said[0] == "null"
    assert SECRET not in said[1]
    assert json.loads(said[1])["websocket"] == "closed"
    assert victim.messages == victim.posts == []


def test_a_name_that_was_made_to_lead_here_gets_nothing(chromium: Browser, victim: Target) -> None:
    """DNS rebinding: to the browser the attacker's page and the app are one origin."""
    with page_of(chromium) as page:
        used_by_its_author(page, victim)
        refused = page.goto(victim.url("rebound.example"))
        assert refused is not None
        assert refused.status == 403
        said = page.evaluate(ATTACKS, victim.url("rebound.example"))
        assert SECRET not in json.dumps(said)
        assert "Unknown host" in said["get"]  # all that it reads
        assert said["websocket"] == "closed"
    assert victim.messages == victim.posts == victim.gets == []


def test_a_simple_get_from_elsewhere_is_answered_by_a_script_but_only_itself_reads_it(
    chromium: Browser, attacker: App
) -> None:
    victim = target(in_notebook=False)
    with running(victim.app), page_of(chromium) as page:
        page.goto(f"http://evil.example:{attacker.port}/")
        said = page.evaluate(ATTACKS, victim.url())
    assert SECRET not in json.dumps(said)
    assert "/image.svg" in victim.gets  # so a GET must change nothing


def test_to_a_page_of_another_site_an_app_in_a_notebook_answers_not_even_a_get(
    chromium: Browser, attacker: App
) -> None:
    victim = target(in_notebook=True)
    with running(victim.app), page_of(chromium) as page:
        used_by_its_author(page, victim)
        page.goto(f"http://evil.example:{attacker.port}/")
        page.evaluate(ATTACKS, victim.url())
    assert victim.gets == victim.messages == victim.posts == []


def test_no_other_page_frames_a_script_but_one_that_is_listed(chromium: Browser, attacker: App) -> None:
    def shown(app: App) -> bool:
        page.goto(f"http://127.0.0.1:{attacker.port}/")
        with page.expect_event("frameattached") as attached:
            page.evaluate(
                "url => document.body.append(Object.assign(document.createElement('iframe'), {src: url}))", app.url
            )
        frame = attached.value
        frame.wait_for_load_state()
        return SECRET in frame.content()

    for origins, is_framed in (([], False), ([attacker.url], True)):
        app = App(port=0, allowed_origins=origins)
        app.get("/")(lambda: Titled(SECRET))
        with running(app), page_of(chromium) as page:
            assert shown(app) is is_framed


# -- the credential in the address


def test_nobody_else_is_told_of_a_pages_address(chromium: Browser) -> None:
    elsewhere, asked = App(port=0), []

    @elsewhere.get("/{path:path}")
    def note(request: Any) -> Any:
        asked.append((request.url.path, request.headers.get("referer")))
        return PlainTextResponse("x", headers={"cross-origin-resource-policy": "cross-origin"})

    app = InNotebook(port=0, token=TOKEN)
    with running(elsewhere), running(app), page_of(chromium) as page:
        image = Img(src=f"{elsewhere.url}/image.png")
        style = Link(rel="stylesheet", href=f"{elsewhere.url}/style.css")
        app.get("/")(lambda: (Titled("page"), style, image))
        app.get("/own")(lambda: Html(Head(style), Body(image, P("own"))))  # no script of nbws takes the ticket away
        for path in ("/", "/own"):
            for address in (app.preview(path).src, f"{app.url}{path}?token={TOKEN}"):
                page.goto(address)
        page.evaluate("url => { location.href = url; }", f"{elsewhere.url}/left")
        page.wait_for_url("**/left")
    assert {path for path, _ in asked} >= {"/image.png", "/style.css", "/left"}
    assert {referer for path, referer in asked if path != "/favicon.ico"} == {None}


@pytest.mark.parametrize("is_own_document", [False, True], ids=["page of nbws", "document of the author's own"])
def test_no_message_of_htmx_holds_a_credential_whether_the_page_takes_it_away_or_not(
    chromium: Browser, is_own_document: bool
) -> None:
    app = InNotebook(port=0, token=TOKEN)
    content = Div(P(id="out"), P(id="url"), Form(Input(id="msg"), ws_send=True), hx_ext="ws", ws_connect="/ws")
    button = Div("ask", id="ask", hx_get="/ask", hx_target="#url")
    scripts = [Script(src=f"/_nbws/static/{name}") for name in ("htmx.min.js", "htmx-ext-ws.min.js")]

    @app.get("/")
    def index() -> Any:
        return Html(Head(*scripts), Body(content, button)) if is_own_document else (content, button)

    @app.get("/ask")
    def ask(request: Any, htmx: HtmxHeaders) -> Any:
        return f"{htmx.current_url} {request.headers['hx-current-url']} {request.headers.get('referer')}"

    @app.ws("/ws")
    async def ws(msg: str, data: dict[str, Any], htmx: HtmxHeaders, ws: Any) -> Any:
        return P(f"{msg} {htmx.current_url} {ws.url}", id="out")

    with running(app), page_of(chromium) as page:
        ticket = re.sub(".*=", "", app.preview().src)
        for address in (f"{app.url}/?x=1&nbws-ticket={ticket}", f"{app.url}/?token={TOKEN}&x=1"):
            page.goto(address)
            assert ("=" + ticket in page.url or TOKEN in page.url) is is_own_document
            page.fill("#msg", "hi")
            page.press("#msg", "Enter")
            expect(page.locator("#out")).to_have_text(f"hi {app.url}/?x=1 {app.url.replace('http', 'ws')}/ws")
            page.click("#ask")
            expect(page.locator("#url")).to_have_text(" ".join([f"{app.url}/?x=1"] * 3))
