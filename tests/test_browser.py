"""Programs and pages in a real browser, with no network but loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import Browser, Sockets, free_port
from playwright.sync_api import expect

from nbws.common import *

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent


@contextmanager
def script(name: str) -> Iterator[str]:
    """The address of a program that runs as `python name.py`."""
    port = free_port()
    command = [sys.executable, "-u", str(HERE / "programs" / f"{name}.py")]
    with subprocess.Popen(command, env={**os.environ, "PORT": str(port)}, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert f"http://localhost:{port}" in process.stdout.readline()
            yield f"http://localhost:{port}"
        finally:
            process.terminate()


@contextmanager
def served(app: App) -> Iterator[str]:
    app.start()
    try:
        yield app.url
    finally:
        app.stop()


def test_basic_says_hello(browser: Browser) -> None:
    with script("basic") as url:
        page = browser.new_page()
        page.goto(url)
        page.fill("#msg", "<b>world")
        page.press("#msg", "Enter")
        expect(page.locator("#notifications")).to_have_text("Hello <b>world")
        assert browser.refused == []
        page.close()


def test_two_tabs_chat(browser: Browser) -> None:
    with script("chat") as url:
        first, second = browser.new_page(), browser.new_page()
        for page in (first, second):
            page.goto(url)
        first.fill("#msg", "one")
        first.press("#msg", "Enter")
        expect(second.locator("#msg-list li")).to_have_text(["one"])
        second.fill("#msg", "two")
        second.press("#msg", "Enter")
        for page in (first, second):
            expect(page.locator("#msg-list li")).to_have_text(["one", "two"])
            page.close()


def test_a_login_is_known_to_the_websocket(browser: Browser) -> None:
    with script("session") as url:
        page = browser.new_page()
        page.goto(url + "/login")
        expect(page.locator("body")).to_have_text("ok")
        answer = page.evaluate(
            """url => new Promise(done => {
                const socket = new WebSocket(url);
                socket.onopen = () => socket.send(JSON.stringify({msg: "!"}));
                socket.onmessage = event => done(event.data);
            })""",
            url.replace("http", "ws") + "/ws",
        )
        assert "Hello Bob!" in answer
        page.close()


def test_a_login_in_one_tab_is_seen_by_the_open_websocket_of_another_and_so_is_the_logout(browser: Browser) -> None:
    app = App(port=0)

    def hello(session):
        return P("Hello ", session.get("user", "stranger"), ", ", session.get("count", 0), id="hello")

    @app.get("/account")
    def account(session):
        login = Form(Input(name="user"), Button("Log in"), action="/login", method="post")
        return hello(session), login, Form(Button("Log out"), action="/logout", method="post")

    @app.post("/login")
    def login(user: str, session):
        session.renew()
        session["user"] = user
        return Redirect("/account")

    @app.post("/logout")
    def logout(session):
        session.clear()
        return Redirect("/account")

    @app.get("/")
    def index(session):
        return Div(hello(session), Form(Button("Count"), ws_send=True), hx_ext="ws", ws_connect="/ws")

    def count(session):
        session["count"] = session.get("count", 0) + 1
        return hello(session)

    app.ws("/ws")(count)
    with served(app) as url:
        tab = browser.new_page()
        sockets = Sockets(tab)
        tab.goto(url)
        tab.click("button")
        expect(tab.locator("#hello")).to_have_text("Hello stranger, 1")
        other = tab.context.new_page()
        other.goto(url + "/account")
        expect(other.locator("#hello")).to_have_text("Hello stranger, 1")
        other.fill("[name=user]", "Ann")
        other.press("[name=user]", "Enter")
        expect(other.locator("#hello")).to_have_text("Hello Ann, 1")
        tab.click("button")
        expect(tab.locator("#hello")).to_have_text("Hello Ann, 2")

        @app.ws("/ws")
        def count_by_tens(session):
            session["count"] += 10
            return hello(session)

        tab.click("button")
        expect(tab.locator("#hello")).to_have_text("Hello Ann, 12")
        other.click("text=Log out")
        expect(other.locator("#hello")).to_have_text("Hello stranger, 0")
        app.ws("/ws")(count)
        tab.click("button")
        expect(tab.locator("#hello")).to_have_text("Hello stranger, 1")
        assert (sockets.opened, sockets.closed) == (1, 0)
        tab.context.close()


OPEN_WEBSOCKET = """path => new Promise(done => {
    const socket = new WebSocket(location.origin.replace("http", "ws") + path);
    socket.onopen = () => socket.send(JSON.stringify({colour: "red"}));
    socket.onmessage = event => done(event.data);
})"""


def test_a_session_that_a_websocket_begins_is_that_of_its_browser(browser: Browser) -> None:
    app = App(port=0)
    app.get("/plain")(lambda: PlainTextResponse("no script of ours"))
    app.get("/see")(lambda session: JSONResponse(dict(session)))

    @app.ws("/ws")
    async def choose(colour: str, session):
        session["colour"] = colour
        return P(id="done")

    with served(app) as url:
        page = browser.new_page()
        page.goto(url + "/plain")
        assert page.context.cookies() == []
        page.evaluate(OPEN_WEBSOCKET, "/ws")
        page.goto(url + "/see")
        expect(page.locator("body")).to_have_text('{"colour":"red"}')
        page.context.close()


def test_two_websockets_that_a_first_visit_opens_at_once_have_one_session(browser: Browser) -> None:
    app = App(port=0)

    @app.get("/")
    def index():
        def box(name):
            form = Form(Input(type="hidden", name="box", value=name), Button(name), ws_send=True)
            return Div(P(id=name), form, hx_ext="ws", ws_connect=f"/{name}")

        return box("one"), box("two")

    def add(box: str, session):
        session.setdefault("boxes", []).append(box)
        return P(" ".join(session["boxes"]), id=box)

    app.ws("/one")(add)
    app.ws("/two")(add)
    with served(app) as url:
        page = browser.new_page()
        page.goto(url)
        page.click("button:text-is('one')")
        expect(page.locator("#one")).to_have_text("one")
        page.click("button:text-is('two')")
        expect(page.locator("#two")).to_have_text("one two")
        page.context.close()


def test_htmx_4_sends_and_swaps_too(browser: Browser) -> None:
    scripts = [Script(src=f"/vendor/{name}") for name in ("htmx-4.0.1.min.js", "hx-ws-4.0.1.min.js")]
    app = App(port=0, default_hdrs=False, hdrs=scripts)
    app.mount("/vendor", StaticFiles(directory=HERE / "vendor"))

    @app.get("/")
    def index():
        many = [Input(type="hidden", name="many", value=value) for value in "ab"]
        form = Form(Input(name="msg", id="msg"), *many, ws_send=True)
        return Div(P(id="out"), P("untouched", id="other"), form, ws_connect="/ws")

    @app.ws("/ws")
    async def answer(msg: str, many: list[str], htmx: HtmxHeaders):
        return P(f"{msg} {many} {htmx.request}", id="out")

    with served(app) as url:
        page = browser.new_page()
        page.goto(url)
        page.fill("#msg", "hi")
        page.press("#msg", "Enter")
        expect(page.locator("#out")).to_have_text("hi ['a', 'b'] true")
        expect(page.locator("#other")).to_have_text("untouched")
        page.close()


def test_a_server_that_restarts_is_found_again_by_the_open_page(browser: Browser) -> None:
    app = App(port=0)

    @app.get("/")
    def index():
        return Div(P(id="out"), Form(Input(id="msg"), ws_send=True), hx_ext="ws", ws_connect="/ws")

    @app.ws("/ws")
    async def answer(msg: str):
        return P(msg, id="out")

    with served(app) as url:
        page = browser.new_page()
        page.goto(url)
        page.fill("#msg", "before")
        page.press("#msg", "Enter")
        expect(page.locator("#out")).to_have_text("before")
        app.stop()
        app.start()
        assert app.url == url
        page.fill("#msg", "after")
        page.press("#msg", "Enter")
        expect(page.locator("#out")).to_have_text("after", timeout=15_000)
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_plain_page_is_readable_and_fits_a_phone(browser: Browser, scheme: str) -> None:
    app, rt = fast_app(static_path=None, port=0)

    @rt
    def index():
        rows = [Tr(Td(n), Td(n * n)) for n in range(3)]
        return Titled(
            "A page", P("Some text and a ", A("link", href="/")), Table(*rows), Form(Input(id="a"), Button("Go"))
        )

    with served(app) as url:
        page = browser.new_page(viewport=(390, 800))
        page.emulate_media(color_scheme=scheme)
        page.goto(url)
        style = "each => { const s = getComputedStyle(each); return [s.color, s.backgroundColor, s.fontFamily]; }"
        text, ground, font = page.locator("body").evaluate(style)
        assert abs(_brightness(text) - _brightness(ground)) > 120
        assert (_brightness(ground) > 128) == (scheme == "light")
        assert "sans-serif" in font
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.close()


def _brightness(colour: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_an_attacking_page_gets_nothing(browser: Browser) -> None:
    reached: list[str] = []
    app, attacker = App(port=0), App(port=0)

    @app.ws("/ws")
    async def hear(msg: str):
        reached.append(msg)
        return P("secret", id="out")

    @app.post("/do")
    def do():
        reached.append("post")
        return "done"

    @attacker.get("/")
    def lure():
        return Titled("Lure")

    with served(app) as url, served(attacker) as lure_url:
        page = browser.new_page()
        page.goto(lure_url)
        outcome = page.evaluate(
            """async ([ws, http]) => {
                const socket = await new Promise(done => {
                    const s = new WebSocket(ws);
                    s.onopen = () => { s.send('{"msg": "x"}'); };
                    s.onmessage = event => done("read " + event.data);
                    s.onclose = () => done("refused");
                });
                const post = fetch(http, {method: "POST", mode: "no-cors", credentials: "include"});
                return [socket, await post.then(answer => answer.type, error => error.message)];
            }""",
            [url.replace("http", "ws") + "/ws", url + "/do"],
        )
        assert outcome == ["refused", "Failed to fetch"]
        assert reached == []
        page.close()
