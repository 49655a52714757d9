"""The player of recorded sessions in a real Chromium, from a file: what it shows, answers and refuses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Browser
from playwright.sync_api import FrameLocator, Locator, Page, expect

from nbws import App
from nbws.common import Button, Form, Input, Li, Option, P, Select, Strong, Style, Textarea, Titled, Ul
from nbws.playback import Playback, PlaybackPage
from nbws.player import bundle, player, style
from nbws.snapshot import after_fragments
from nbws.transcript import Line

pytestmark = pytest.mark.browser


def chat_app() -> App:
    app = App(title="Chat", record=5)
    lines: list[Any] = []

    @app.get("/")
    def index() -> Any:
        return Titled(
            "Chat",
            Ul(*lines, id="lines"),
            Form(Input(id="text", required=True), Button("Send"), ws_send=True, hx_on__ws_after_send="this.reset()"),
            Button("Wave", ws_send=True, hx_vals={"text": "o/"}),
            hx_ext="ws",
            ws_connect="/chat",
        )

    def tell(*content: Any) -> None:
        lines.append(Li(*content))
        app.broadcast(Ul(*lines, id="lines"))

    def joined() -> None:
        tell("somebody is here")

    @app.ws("/chat", conn=joined)
    async def chat(text: str, ws: Any) -> None:
        tell(Strong("somebody"), ": ", text)

    return app


async def two_talk(app: App) -> None:
    async def hear(*visitors: Any) -> None:
        for visitor in visitors:
            await visitor.receive()

    async with app.client().ws("/chat") as ada:
        await hear(ada)
        async with app.client().ws("/chat") as bob:
            await hear(ada, bob)
            await ada.send(text="hi <all>")
            await hear(ada, bob)
            await bob.send(text="o/")
            await hear(ada, bob)


def in_a_thread(work: Any) -> None:
    """Playwright's loop runs in this one."""
    thread = threading.Thread(target=lambda: asyncio.run(work))
    thread.start()
    thread.join()


@pytest.fixture(scope="module")
def session() -> Playback:
    app = chat_app()
    tape = app.record("chat")
    in_a_thread(two_talk(app))
    return Playback.loads(tape.playback().dumps())


def page_with(session: Playback) -> str:
    script, styles = bundle(), style()
    return f"<!doctype html><meta charset=utf-8><style>{styles}</style>{player(session)}<script>{script}</script>"


@pytest.fixture
def file(session: Playback, tmp_path: Path) -> Path:
    page = tmp_path / "page.html"
    page.write_text(page_with(session), "utf-8")
    return page


class Shown:
    """The page with a player, and what it asked for."""

    def __init__(self, page: Page, file: Path) -> None:
        self.page = page
        self.asked: list[str] = []
        self.logged: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.logged.append(message.text))
        page.on("pageerror", lambda error: self.logged.append(str(error)))
        page.goto(file.as_uri())
        self.note = page.locator(".nbws-replay-note")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name)

    def client(self, place: int) -> FrameLocator:
        return self.page.frame_locator(f".nbws-replay-client:nth-child({place + 1}) .nbws-replay-frame")

    def step(self) -> None:
        self.page.locator(".nbws-replay-next").click()


@pytest.fixture
def shown(browser: Browser, file: Path) -> Iterator[Shown]:
    page = browser.new_page()
    page.set_default_timeout(10_000)
    shown = Shown(page, file)
    yield shown
    page.context.close()
    assert [url for url in shown.asked if not url.startswith(("file:", "about:", "data:"))] == []
    assert shown.logged == []
    assert browser.refused == []


def lines_of(html: str) -> str:
    return html[html.index('<ul id="lines"') : html.index("</ul>") + 5].replace(' hx-swap-oob="true"', "")


def test_without_script_each_clients_last_state_is_there(browser: Browser, file: Path) -> None:
    page = browser.new_page(javascript=False)
    page.goto(file.as_uri())
    for place in (0, 1):
        frame = page.frame_locator(".nbws-replay-snapshot").nth(place)
        expect(frame.locator("#lines li")).to_have_text(
            ["somebody is here", "somebody is here", "somebody: hi <all>", "somebody: o/"]
        )
    expect(page.locator(".nbws-replay-bar")).to_have_count(0)
    page.context.close()


def test_with_script_the_last_state_is_shown_first_as_high_as_it_is(shown: Shown) -> None:
    expect(shown.page.frame_locator(".nbws-replay-snapshot").first.locator("li")).to_have_count(4)
    expect(shown.note).to_contain_text("looked in the end")
    shown.page.wait_for_function(
        """() => {
            const frame = document.querySelector('iframe');
            return frame.contentDocument.documentElement.scrollHeight === frame.clientHeight;
        }"""
    )


def test_stepped_to_the_end_each_client_shows_exactly_what_was_recorded(shown: Shown, session: Playback) -> None:
    shown.step()
    expect(shown.note).to_contain_text("client 1 said “hi <all>”")
    expect(shown.client(0).locator("#text")).to_have_value("hi <all>")
    shown.step()
    expect(shown.note).to_contain_text("client 2 said “o/”")
    shown.step()
    expect(shown.note).to_have_text("That was all of it.")
    for place, client in enumerate(session.clients):
        final = lines_of(after_fragments(client.page or "", session.heard_by(place)))
        shown.page.wait_for_function(
            "([place, html]) => window.nbwsReplay.players[0].clients[place].frame !== null", arg=[place, final]
        )
        found = shown.client(place).locator("#lines")
        expect(found.locator("li")).to_have_count(4)
        assert found.evaluate("e => { e.removeAttribute('class'); return e.outerHTML }") == final


def test_played_it_goes_to_the_end_by_itself_and_again_from_the_beginning(shown: Shown) -> None:
    shown.page.get_by_label("Speed").select_option("4")
    shown.button("Play the recording").click()
    expect(shown.note).to_have_text("That was all of it.")
    expect(shown.client(1).locator("li")).to_have_count(4)
    shown.button("From the beginning").click()
    expect(shown.note).to_contain_text("client 1 said")
    expect(shown.client(0).locator("li")).to_have_count(2)


def test_the_reader_sends_what_was_sent_and_it_is_answered(shown: Shown) -> None:
    shown.step()
    field = shown.client(0).locator("#text")
    expect(field).to_have_value("hi <all>")
    field.press("Enter")
    expect(shown.client(1).locator("li")).to_have_count(3)
    expect(field).to_have_value("")
    expect(shown.note).to_contain_text("client 2 said")
    shown.client(1).get_by_role("button", name="Wave").click()
    expect(shown.note).to_have_text("That was all of it.")
    expect(shown.client(0).locator("li")).to_have_count(4)


def test_anything_else_is_answered_by_an_honest_note_and_by_nothing_in_the_page(shown: Shown) -> None:
    shown.step()
    field = shown.client(0).locator("#text")
    expect(field).to_have_value("hi <all>")
    field.fill("something else")
    field.press("Enter")
    expect(shown.note).to_contain_text("it answers only what was said then. Next, client 1 said “hi <all>”.")
    expect(shown.client(0).locator("li")).to_have_count(2)
    shown.client(1).get_by_role("button", name="Wave").click()
    expect(shown.client(0).locator("li")).to_have_count(2)
    shown.button("Fill it in").click()
    expect(field).to_have_value("hi <all>")
    shown.button("Send what client 1 said next").click()
    expect(shown.client(1).locator("li")).to_have_count(3)


def test_it_is_played_with_the_keyboard_alone(shown: Shown) -> None:
    shown.page.keyboard.press("Tab")
    expect(shown.button("Play the recording")).to_be_focused()
    shown.page.keyboard.press("Tab")
    shown.page.keyboard.press("Enter")
    expect(shown.note).to_contain_text("client 1 said")
    shown.page.keyboard.press("Enter")
    expect(shown.note).to_contain_text("client 2 said")


def test_it_follows_the_theme_of_the_page_around_it(shown: Shown) -> None:
    shown.step()
    expect(shown.client(0).locator("html")).to_have_attribute("data-theme", "light")
    shown.page.evaluate("document.documentElement.dataset.theme = 'dark'")
    expect(shown.client(0).locator("html")).to_have_attribute("data-theme", "dark")


def controls_app() -> App:
    app = App("controls of replays", record=5)

    @app.get("/")
    def index() -> Any:
        return Titled(
            "Controls",
            P(id="out"),
            Form(
                Textarea(name="long"),
                Select(Option("one", value="1"), Option("two", value="2"), name="pick"),
                Input(name="yes", type="checkbox", value="on"),
                Input(name="which", type="radio", value="a"),
                Input(name="which", type="radio", value="b"),
                Input(name="kind", type="hidden", value="form"),
                Button("Save", name="do", value="save"),
                Button("Drop", name="do", value="drop"),
                ws_send=True,
            ),
            Form(Input(name="level", type="range", min=0, max=10), ws_send=True, hx_trigger="input"),
            Button("Up", ws_send=True, hx_vals={"move": "up"}),
            Button("Down", ws_send=True, hx_vals={"move": "down"}),
            Input(name="find", ws_send=True, hx_trigger="keyup changed"),
            hx_ext="ws",
            ws_connect="/ws",
        )

    @app.ws("/ws")
    async def ws(data: Any) -> Any:
        return P(", ".join(f"{name}={value}" for name, value in data.items()), id="out")

    return app


SAID = [
    {"long": "a\nb", "pick": "2", "yes": "on", "which": "b", "kind": "form", "do": "drop"},
    {"level": 7},
    {"move": "down"},
    {"find": "needle"},
    {"do": "save", "long": "", "pick": "1", "kind": "form"},
]


def test_what_a_page_has_to_say_it_with_says_it(browser: Browser, tmp_path: Path) -> None:
    app = controls_app()

    async def use() -> None:
        async with app.client().ws("/ws") as visitor:
            for fields in SAID:
                await visitor.ask(**fields)
            await visitor.ask(x=0.5, y=0.25)  # as a pointer does

    tape = app.record("controls")
    in_a_thread(use())
    (tmp_path / "page.html").write_text(page_with(tape.playback()), "utf-8")
    page = browser.new_page()
    page.set_default_timeout(15_000)
    page.goto((tmp_path / "page.html").as_uri())
    step, out = page.locator(".nbws-replay-next"), page.frame_locator(".nbws-replay-frame").locator("#out")
    step.click()
    for number, fields in enumerate(SAID):
        expect(page.locator(".nbws-replay-count")).to_contain_text(f"{number} of 6 said")
        expect(page.locator(".nbws-replay-note")).to_contain_text("Next, client 1 said")
        step.click()
        expect(out).to_contain_text(", ".join(f"{name}={value}".replace("\n", " ") for name, value in fields.items()))
    expect(page.locator(".nbws-replay-note")).to_contain_text("x: 0.5, y: 0.25")
    assert page.locator(".nbws-recorded").get_attribute("data-unsaid") is None
    step.click()
    expect(out).to_have_text("x=0.5, y=0.25")
    expect(page.locator(".nbws-recorded")).to_have_attribute("data-unsaid", "1")
    page.context.close()


def test_links_and_other_forms_are_answered_by_a_note_and_a_page_as_high_as_its_frame_does_not_grow(
    browser: Browser, tmp_path: Path
) -> None:
    app = App("links of replays", record=5)

    @app.get("/")
    def index() -> Any:
        from nbws.common import A

        return Titled(
            "Links",
            Style("body { min-height: 100vh; padding-bottom: 30px; box-sizing: content-box }"),
            A("elsewhere", href="https://elsewhere.example/"),
            Form(Button("Log in"), action="/login", method="post"),
            Button("Get", hx_get="/more"),
            P(id="out"),
            hx_ext="ws",
            ws_connect="/ws",
        )

    @app.ws("/ws")
    async def ws(text: str) -> Any:
        return P(text, id="out")

    async def use() -> None:
        async with app.client().ws("/ws") as visitor:
            await visitor.ask(text="hi")

    tape = app.record("links")
    in_a_thread(use())
    (tmp_path / "page.html").write_text(page_with(tape.playback()), "utf-8")
    page = browser.new_page()
    page.set_default_timeout(10_000)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "page.html").as_uri())
    page.locator(".nbws-replay-next").click()
    frame, note = page.frame_locator(".nbws-replay-frame"), page.locator(".nbws-replay-note")
    expect(note).to_contain_text("Next, client 1 said")
    for name, target in (("elsewhere", "https://elsewhere.example/"), ("Log in", "/login"), ("Get", "/more")):
        frame.get_by_text(name, exact=True).click()
        expect(note).to_have_text(f"This is a recording: it has no page beyond this one ({target}).")
    assert page.locator(".nbws-replay-frame").evaluate("frame => frame.clientHeight") < 1000
    assert [url for url in asked if not url.startswith(("file:", "about:", "data:"))] == []
    page.context.close()


def test_a_page_that_opens_no_websocket_is_told_of(browser: Browser, tmp_path: Path) -> None:
    app = App("forgotten extension", record=5)
    app.get("/")(lambda: Titled("x", P(id="out"), ws_connect="/ws"))  # no hx_ext="ws"
    app.ws("/ws")(lambda data: P(data["text"], id="out"))

    async def use() -> None:
        async with app.client().ws("/ws") as visitor:
            await visitor.ask(text="hi")

    tape = app.record("forgotten")
    in_a_thread(use())
    (tmp_path / "page.html").write_text(page_with(tape.playback()), "utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.locator(".nbws-replay-next").click()
    expect(page.locator(".nbws-replay-note")).to_contain_text("The page of client 1 does not open /ws here")
    page.context.close()


def test_a_client_that_loads_a_page_anew_shows_that_one(browser: Browser, tmp_path: Path) -> None:
    app = App("reloads of replays", record=5)
    visits = []

    @app.get("/")
    def index() -> Any:
        visits.append(1)
        return Titled("Visits", P(f"page {len(visits)}", id="n"), P(id="out"), hx_ext="ws", ws_connect="/ws")

    @app.ws("/ws")
    async def ws(text: str) -> Any:
        return P(text, id="out")

    async def use() -> None:
        client = app.client()
        for text in ("one", "two"):
            await client.get("/")
            async with client.ws("/ws") as visitor:
                await visitor.ask(text=text)

    tape = app.record("reloads")
    in_a_thread(use())
    (tmp_path / "page.html").write_text(page_with(Playback.loads(tape.playback().dumps())), "utf-8")
    page = browser.new_page()
    page.set_default_timeout(10_000)
    page.goto((tmp_path / "page.html").as_uri())
    last = page.frame_locator(".nbws-replay-snapshot")
    expect(last.locator("#n")).to_have_text("page 2")
    expect(last.locator("#out")).to_have_text("two")
    frame = page.frame_locator(".nbws-replay-frame")
    for _ in range(2):  # the second time from the beginning
        page.locator(".nbws-replay-next, .nbws-replay-again").locator("visible=true").and_(
            page.locator(":not([disabled])")
        ).first.click()
        expect(page.locator(".nbws-replay-note")).to_contain_text("said “one”")
        expect(frame.locator("#n")).to_have_text("page 1")
        page.locator(".nbws-replay-next").click()
        expect(page.locator(".nbws-replay-note")).to_contain_text("said “two”")
        expect(frame.locator("#n")).to_have_text("page 2")
        page.locator(".nbws-replay-next").click()
        expect(page.locator(".nbws-replay-note")).to_have_text("That was all of it.")
        expect(frame.locator("#out")).to_have_text("two")
    page.context.close()


def test_the_last_state_made_in_python_is_what_htmx_makes_of_each_kind_of_fragment(
    browser: Browser, tmp_path: Path
) -> None:
    root = (
        '<div id="root"><h1 id="n:1">a</h1><ul id="l"><li>a</li></ul><p class="q">1</p><p class="q">2</p>'
        '<select id="s"><option>1</option></select><table><tbody id="tb"><tr id="r1"><td>1</td></tr></tbody></table>'
        '<svg id="g" viewBox="0 0 1 1"><path id="p" d="M0"></path></svg></div>'
    )
    page = (
        '<!doctype html><html><head><script src="/_nbws/static/htmx.min.js"></script>'
        '<script src="/_nbws/static/htmx-ext-ws.min.js"></script></head>'
        f'<body><div hx-ext="ws" ws-connect="/ws">{root}</div></body></html>'
    )
    sent = [
        ['<ul id="l" hx-swap-oob="true"><li>b</li></ul>'],
        ['text <h1 id="n:1">N &amp; &lt;</h1> text', '<p id="nowhere">x</p>'],
        ['<ul hx-swap-oob="beforeend:#l"><li>b</li><li>c</li></ul>', '<ul hx-swap-oob="afterbegin:#l"><li>0</li></ul>'],
        ['<p hx-swap-oob="beforebegin:#l">b<b>c</b></p><p hx-swap-oob="afterend:#l">b<b>c</b></p>'],
        ['<ul id="l" data-hx-swap-oob="innerHTML">b<li>c</li></ul>'],
        [
            '<tr id="r1" hx-swap-oob="true"><td>2</td></tr>'
            '<tbody hx-swap-oob="beforeend:#tb"><tr><td>3</td></tr></tbody>'
        ],
        ['<svg id="g" hx-swap-oob="true" viewBox="0 0 2 2"><circle r="1"/></svg>'],
        ['<path id="p" d="M1"/>'],
        ['<option hx-swap-oob="beforeend:#s"><option>2</option></option>'],
        ['<i hx-swap-oob="delete:#l"></i>', '<ul id="l" hx-swap-oob="none">x</ul>'],
        ['<p hx-swap-oob="innerHTML:.q">both</p>', '<p hx-swap-oob="outerHTML:p.q" class="r">new</p>'],
        ["<h1 id='n:1'>1<h1 id='n:1'>2", '<ul id="l"><li>a<li>b'],
    ]
    sessions = []
    for fragments in sent:
        lines = [Line(1, "opened", "/ws", "/ws", ["a"])]
        lines += [Line(2, "sent", "/ws", "/ws", ["a"], each) for each in fragments]
        sessions.append(Playback.of(lines, {"a": PlaybackPage("/", page)}))
    (tmp_path / "page.html").write_text(
        f"<!doctype html><meta charset=utf-8>{''.join(map(player, sessions))}<script>{bundle()}</script>", "utf-8"
    )
    shown = browser.new_page()
    shown.goto((tmp_path / "page.html").as_uri())
    shown.evaluate("nbwsReplay.players.forEach(player => { player.speed = Infinity; player.restart(true); })")
    for place, (fragments, session) in enumerate(zip(sent, sessions, strict=True)):
        one = shown.locator(".nbws-recorded").nth(place)
        expect(one.locator(".nbws-replay-note")).to_have_text("That was all of it.", timeout=20_000)
        found = one.frame_locator(".nbws-replay-frame").locator("#root")
        expect(found.locator(".htmx-settling, .htmx-added")).to_have_count(0)
        made = after_fragments(session.clients[0].page or "", session.heard_by(0))
        made = made[made.index('<div id="root">') : made.index("</div></div>") + len("</div>")]
        assert found.evaluate("e => e.outerHTML.replaceAll(' class=\"\"', '')") == made, fragments
    shown.context.close()
