"""A page in a browser whose websockets are cut off: each message is handled once, each fragment is shown once."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from chaos import Proxy, ProxyInThread, proxy_in_thread
from lab import Browser
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from nbws import App, Limits
from nbws.common import Button, Div, Form, Input, Li, P, Script, Ul
from nbws.conversation import Conversation

pytestmark = pytest.mark.browser

SECONDS = 10.0


def until(condition: Callable[[], Any], page: Page) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "this did not come true"
        page.wait_for_timeout(10)  # which lets the browser's events in


class Chat:
    """An app that keeps the lines it was told, with a page that shows them.

    No page is made, and no other line kept, between the keeping of a line and the sending of it.
    """

    def __init__(self, **limits: Any) -> None:
        self.app = App(port=0, limits=Limits(**limits))
        self.lines: list[str] = []
        self.lock = threading.Lock()
        self.events: list[tuple[str, str]] = []
        self.app.get("/")(self.page)
        self.app.get("/elsewhere")(lambda: P("elsewhere"))
        note = lambda what: lambda ws: self.events.append((what, ws.id))  # noqa: E731
        self.app.ws("/ws", conn=note("conn"), disconn=note("disconn"))(self.told)

    async def page(self) -> Any:
        form = Form(Input(name="text", id="text"), ws_send=True, id="form")
        with self.lock:
            return Ul(*map(Li, self.lines), id="lines"), Div(form, hx_ext="ws", ws_connect="/ws")

    async def told(self, text: str) -> None:
        self.say(text)

    def say(self, text: str) -> None:
        with self.lock:
            self.lines.append(text)
            self.app.broadcast(Ul(Li(text), hx_swap_oob="beforeend:#lines"))

    @property
    def happened(self) -> list[str]:
        return [what for what, _ in self.events]


@contextmanager
def through_proxy(app: App) -> Iterator[ProxyInThread]:
    app.start()
    try:
        assert app.port is not None
        with proxy_in_thread(app.port) as proxy:
            yield proxy
    finally:
        app.stop()


@contextmanager
def shown(browser: Browser, url: str) -> Iterator[Page]:
    page = browser.new_page()
    try:
        page.goto(url)
        yield page
    finally:
        page.context.close()


def cut(proxy: ProxyInThread) -> None:
    proxy.do(lambda proxy: [link.reset() for link in proxy.links])


def pull_the_cable(proxy: ProxyInThread) -> None:
    proxy.do(lambda proxy: [link.hold() for link in proxy.links])


def close(proxy: ProxyInThread) -> None:
    """Cut all off, and let nobody in."""

    def act(proxy: Proxy) -> None:
        proxy.is_closed = True
        for link in proxy.links:
            link.reset()

    proxy.do(act)


def open_again(proxy: ProxyInThread) -> None:
    proxy.do(lambda proxy: setattr(proxy, "is_closed", False))


STATE = "document.querySelector('[ws-connect]')['htmx-internal-data'].webSocket.socket.readyState"


def say(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")


def is_connected(app: App) -> bool:
    return len(app.connections) == 1 and not app.connections[0].is_away


def test_in_twenty_cuts_each_message_is_handled_once_and_each_fragment_is_shown_once_in_order(
    browser: Browser,
) -> None:
    chat, chance = Chat(), random.Random(4)
    with through_proxy(chat.app) as proxy, shown(browser, proxy.url) as page:
        until(lambda: is_connected(chat.app), page)
        for n in range(20):
            for part in range(3):
                say(page, f"{n}.{part}")
                chat.say(f"by the app {n}.{part}")
                if part == n % 3:
                    page.wait_for_timeout(chance.choice([0, 5, 50]))
                    cut(proxy)
            if n % 2:
                until(lambda: is_connected(chat.app), page)
        expect(page.locator("#lines li")).to_have_count(120, timeout=SECONDS * 1000)
        assert page.locator("#lines li").all_inner_texts() == chat.lines
        assert [line for line in chat.lines if "app" not in line] == [f"{n}.{p}" for n in range(20) for p in range(3)]
        assert chat.happened == ["conn"]


def test_what_htmx_keeps_while_its_socket_is_closed_is_handled_once_and_after_what_was_under_way(
    browser: Browser,
) -> None:
    chat = Chat()
    with through_proxy(chat.app) as proxy, shown(browser, proxy.url) as page:
        say(page, "first")
        expect(page.locator("#lines li")).to_have_count(1)
        pull_the_cable(proxy)
        for n in range(3):
            say(page, f"under way {n}")
        close(proxy)
        page.wait_for_function(
            "document.querySelector('[ws-connect]')['htmx-internal-data'].webSocket.socket.readyState > 1"
        )
        for n in range(3):
            say(page, f"kept {n}")
        assert page.evaluate(
            "document.querySelector('[ws-connect]')['htmx-internal-data'].webSocket.messageQueue.length"
        )
        open_again(proxy)
        lines = ["first", *(f"under way {n}" for n in range(3)), *(f"kept {n}" for n in range(3))]
        expect(page.locator("#lines li")).to_have_text(lines, timeout=SECONDS * 1000)
        assert chat.lines == lines
        assert chat.happened == ["conn"]


def test_a_server_that_has_fallen_silent_is_asked_and_left_and_what_it_says_late_is_not_shown_twice(
    browser: Browser,
) -> None:
    chat = Chat()
    with through_proxy(chat.app) as proxy, shown(browser, "about:blank") as page:
        page.clock.install()
        page.goto(proxy.url)
        until(lambda: is_connected(chat.app), page)
        chat.say("heard")
        expect(page.locator("#lines li")).to_have_text(["heard"])
        pull_the_cable(proxy)
        chat.say("not heard")
        say(page, "not heard either")
        page.evaluate("window.dispatchEvent(new Event('online'))")
        page.clock.fast_forward(11_000)  # in which there is no answer
        page.clock.fast_forward(1_000)  # htmx comes back
        expect(page.locator("#lines li")).to_have_text(
            ["heard", "not heard", "not heard either"], timeout=SECONDS * 1000
        )
        proxy.do(lambda proxy: [link.release() for link in proxy.links])
        say(page, "on it goes")
        expect(page.locator("#lines li")).to_have_text(["heard", "not heard", "not heard either", "on it goes"])
        page.evaluate("window.dispatchEvent(new Event('online'))")  # and there is an answer
        page.clock.fast_forward(11_000)
        say(page, "and on")
        expect(page.locator("#lines li")).to_have_count(5)
        assert chat.happened == ["conn"]
        assert len(chat.lines) == 5


def test_a_socket_on_which_nothing_comes_through_is_left_for_another_one(browser: Browser) -> None:
    chat = Chat()

    def hold(link: Any) -> None:
        link.hold()

    with through_proxy(chat.app) as proxy, shown(browser, "about:blank") as page:
        page.clock.install()
        page.goto(proxy.url)
        until(lambda: is_connected(chat.app), page)
        chat.say("heard")
        until(lambda: page.locator("#lines li").count(), page)
        proxy.do(lambda proxy: setattr(proxy, "on_link", hold))
        cut(proxy)
        page.clock.fast_forward(1_000)  # htmx comes back, to no avail
        until(lambda: proxy.do(lambda proxy: len(proxy.links)), page)
        proxy.do(lambda proxy: setattr(proxy, "on_link", lambda link: None))
        chat.say("missed")
        page.clock.fast_forward(21_000)
        until(lambda: page.evaluate(STATE) > 1, page)
        page.clock.fast_forward(5_000)
        expect(page.locator("#lines li")).to_have_text(["heard", "missed"], timeout=SECONDS * 1000)
        assert chat.happened == ["conn"]


def test_a_greeting_that_takes_long_is_a_greeting_still(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    chat, serve, is_time = Chat(), Conversation.serve, threading.Event()

    async def serve_late(self: Conversation, *args: Any, **kwargs: Any) -> None:
        await asyncio.to_thread(is_time.wait, SECONDS)
        await serve(self, *args, **kwargs)

    monkeypatch.setattr(Conversation, "serve", serve_late)
    with through_proxy(chat.app) as proxy, shown(browser, proxy.url) as page:
        until(lambda: page.evaluate(STATE) == 1, page)
        say(page, "first")
        page.wait_for_timeout(1500)  # after one second the page takes the server for another one, and speaks
        is_time.set()
        expect(page.locator("#lines li")).to_have_text(["first"], timeout=SECONDS * 1000)
        cut(proxy)
        say(page, "second")
        expect(page.locator("#lines li")).to_have_text(["first", "second"], timeout=SECONDS * 1000)
        assert chat.happened == ["conn"]
        assert chat.lines == ["first", "second"]


@pytest.mark.parametrize("speaks_first", [True, False])
def test_a_websocket_of_an_app_that_is_mounted_is_spoken_to_as_it_expects(browser: Browser, speaks_first: bool) -> None:
    app = App(port=0)
    heard: list[str] = []

    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        if speaks_first:
            await ws.send_text("<p id='out'>welcome</p>")
        async for text in ws.iter_text():
            heard.append(text)
            await ws.send_text(f"<p id='out'>{len(heard)}</p>")
            if len(heard) == 40:
                await ws.close(1012)

    app.mount("/other", Starlette(routes=[WebSocketRoute("/ws", echo)]))

    @app.get("/")
    def index():
        return Div(Form(Button("Say"), ws_send=True), P(id="out"), hx_ext="ws", ws_connect="/other/ws")

    with through_proxy(app) as proxy, shown(browser, proxy.url) as page:
        for n in range(1, 45):
            page.click("button")
            expect(page.locator("#out")).to_have_text(f"{n}")
        assert all(text.startswith("{") for text in heard)


def test_two_elements_with_one_address_keep_a_connection_each(browser: Browser) -> None:
    app = App(port=0)
    joined: list[str] = []

    def part(name: str) -> Any:
        form = Form(Input(name="name", value=name, type="hidden"), Button(name, id=name), ws_send=True)
        return Div(form, P(id=f"of-{name}"), hx_ext="ws", ws_connect="/ws")

    @app.get("/")
    def index():
        return part("ann"), part("bob"), part("cid")

    @app.ws("/ws", conn=lambda ws: joined.append(ws.id))
    def told(name: str, ws):
        ws.state.said = [*ws.state.get("said", []), name]
        return P(" ".join(ws.state.said), id=f"of-{name}")

    with through_proxy(app) as proxy, shown(browser, proxy.url) as page:
        for n in range(1, 6):
            for name in ("ann", "bob", "cid"):
                page.click(f"#{name}")
            for name in ("ann", "bob", "cid"):
                expect(page.locator(f"#of-{name}")).to_have_text(" ".join([name] * n), timeout=SECONDS * 1000)
            cut(proxy)
            page.wait_for_timeout(20 * n)
        assert len(joined) == 3


def test_a_websocket_that_an_author_makes_is_left_alone(browser: Browser) -> None:
    make = "htmx.createWebSocket = url => { window.made = (window.made || 0) + 1; return new WebSocket(url, []); };"
    app = App(port=0, hdrs=Script(make))

    @app.get("/")
    def index():
        return Div(Form(Button("Say"), ws_send=True), P(id="out"), hx_ext="ws", ws_connect="/ws")

    @app.ws("/ws")
    def ws(): return P("heard", id="out")  # fmt: skip

    with through_proxy(app) as proxy, shown(browser, proxy.url) as page:
        page.click("button")
        expect(page.locator("#out")).to_have_text("heard")
        assert page.evaluate("made") == 1
        assert [ws.sent for ws in app.connections] == [None]


def test_who_navigates_away_or_closes_the_tab_has_left_at_once_and_who_comes_back_is_there_again(
    browser: Browser,
) -> None:
    chat = Chat()
    with through_proxy(chat.app) as proxy, shown(browser, proxy.url) as page:
        until(lambda: chat.happened == ["conn"], page)
        page.goto(proxy.url + "/elsewhere")
        until(lambda: chat.happened == ["conn", "disconn"], page)
        page.go_back()
        until(lambda: chat.happened == ["conn", "disconn", "conn"], page)
        say(page, "here again")
        expect(page.locator("#lines li")).to_have_text("here again")
        page.reload()
        until(lambda: sorted(chat.happened) == ["conn"] * 3 + ["disconn"] * 2, page)
        another = page.context.new_page()
        page.close()
        until(lambda: sorted(chat.happened) == ["conn"] * 3 + ["disconn"] * 3, another)


def test_who_was_away_for_too_much_fetches_the_page_anew_and_what_was_typed_stays(browser: Browser) -> None:
    chat = Chat(resume_messages=5)
    with through_proxy(chat.app) as proxy, shown(browser, proxy.url) as page:
        page.evaluate("window.resyncs = 0; document.addEventListener('nbws:resync', () => resyncs++)")
        say(page, "first")
        expect(page.locator("#lines li")).to_have_count(1)
        page.fill("#text", "half a mess")
        close(proxy)
        until(lambda: chat.app.connections[0].is_away, page)
        for n in range(10):
            chat.say(f"missed {n}")
        until(lambda: chat.happened == ["conn", "disconn"], page)
        open_again(proxy)
        expect(page.locator("#lines li")).to_have_count(11, timeout=SECONDS * 1000)
        chat.say("and on")
        expect(page.locator("#lines li")).to_have_text(chat.lines)
        expect(page.locator("#text")).to_have_value("half a mess")
        page.press("#text", "Enter")
        expect(page.locator("#lines li")).to_have_count(13)
        assert page.evaluate("resyncs") == 1
        assert chat.happened == ["conn", "disconn", "conn"]


def test_a_page_that_has_said_more_than_it_can_keep_while_nobody_heard_it_fetches_itself_anew(
    browser: Browser,
) -> None:
    chat = Chat()
    with through_proxy(chat.app) as proxy, shown(browser, proxy.url) as page:
        page.evaluate("window.resyncs = 0; document.addEventListener('nbws:resync', () => resyncs++)")
        say(page, "first")
        expect(page.locator("#lines li")).to_have_count(1)
        pull_the_cable(proxy)
        page.evaluate(
            """() => {
                const form = document.querySelector("#form"), field = document.querySelector("#text");
                for (let n = 0; n < 300; n++) { field.value = `message ${n}`; htmx.trigger(form, "submit"); }
            }"""
        )
        cut(proxy)
        until(lambda: len(chat.lines) == 257, page)
        assert chat.lines[1:] == [f"message {n}" for n in range(44, 300)]
        page.wait_for_function("resyncs === 1")
        expect(page.locator("#lines li")).to_have_text(chat.lines, timeout=SECONDS * 1000)
