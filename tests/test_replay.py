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
from nbws.common import Button, Form, Input, Li, Strong, Titled, Ul
from nbws.playback import Playback
from nbws.player import bundle, player, style
from nbws.snapshot import after_fragments

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


@pytest.fixture
def file(session: Playback, tmp_path: Path) -> Path:
    page = tmp_path / "page.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><style>{style()}</style>{player(session)}<script>{bundle()}</script>",
        "utf-8",
    )
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
