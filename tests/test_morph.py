"""A page that is open changes in place when its code does, and keeps what people and websockets made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lab import Browser
from playwright.sync_api import Page, expect

from nbws.common import *

pytestmark = pytest.mark.browser


class Developed(App):
    """An app whose author works on it, without a notebook."""

    @property
    def in_development(self) -> bool:
        return True


class Opened:
    """A page of an app, in a browser, with what happened to it."""

    def __init__(self, app: App, page: Page) -> None:
        self.app, self.page = app, page
        self.opened = self.closed = 0
        page.on("websocket", self._on_websocket)
        page.goto(app.url)
        page.evaluate(
            "window.morphs = 0; document.addEventListener('nbws:morph', () => morphs++); window.here = 'same'"
        )

    def _on_websocket(self, socket: Any) -> None:
        self.opened += 1
        socket.on("close", self._on_close)

    def _on_close(self, _: object) -> None:
        self.closed += 1

    def become(self, index: Callable[..., Any]) -> None:
        """Publish *index* as the page, and wait until the browser shows it."""
        before = self.morphs
        self.app.get("/")(index)
        self.page.wait_for_function("before => morphs > before", arg=before)

    @property
    def morphs(self) -> int:
        return int(self.page.evaluate("morphs"))

    def check_unbroken(self, sockets: int = 1) -> None:
        """Neither was it loaded anew nor did a websocket open or close."""
        assert self.page.evaluate("window.here") == "same"
        assert (self.opened, self.closed) == (sockets, 0)


Open = Callable[..., Opened]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    pages, apps = [], []

    def open_page(index: Callable[..., Any], **options: Any) -> Opened:
        app = Developed(port=0, **options)
        apps.append(app)
        app.get("/")(index)

        @app.ws("/ws")
        async def say(text: str, send: Any) -> None:
            await send(Div(Li(text), hx_swap_oob="beforeend:#lines"))

        app.start()
        page = browser.new_page()
        pages.append(page)
        return Opened(app, page)

    yield open_page
    for page in pages:
        page.close()
    for app in apps:
        app.stop()


def chat(heading: str, *more: Any, **attributes: Any) -> Callable[[], Any]:
    def index() -> Any:
        return Titled(
            heading,
            Ul(id="lines"),
            *more,
            Form(Input(id="text", placeholder="Say something"), Button("Send"), ws_send=True),
            hx_ext="ws",
            ws_connect="/ws",
            **attributes,
        )

    return index


def say(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")


def test_the_caret_in_the_middle_of_a_half_typed_word_stays_and_so_do_the_websocket_and_what_it_brought(
    opened: Open,
) -> None:
    shown = opened(chat("One"))
    page = shown.page
    say(page, "a line")
    expect(page.locator("#lines li")).to_have_text("a line")
    page.fill("#text", "helworld")
    page.evaluate("document.querySelector('#text').setSelectionRange(3, 3)")
    shown.become(chat("Two", P("a new paragraph", id="new")))
    expect(page.locator("h1")).to_have_text("Two")
    expect(page).to_have_title("Two")
    expect(page.locator("#new")).to_be_visible()
    assert page.evaluate("[document.activeElement.id, document.activeElement.selectionStart]") == ["text", 3]
    page.keyboard.type("lo ")
    expect(page.locator("#text")).to_have_value("hello world")
    expect(page.locator("#lines li")).to_have_text("a line")
    page.press("#text", "Enter")
    expect(page.locator("#lines li").last).to_have_text("hello world")
    assert page.locator("#lines li").count() == 2
    shown.check_unbroken()


@pytest.mark.parametrize("brings", ["the whole list", "each line"])
def test_lines_that_a_websocket_brought_and_the_page_has_now_too_are_there_once(opened: Open, brings: str) -> None:
    lines: list[Any] = []

    def page_of(heading: str) -> Callable[[], Any]:
        def index() -> Any:
            form = Form(Input(id="text"), ws_send=True)
            return Titled(heading, Ul(*lines, id="lines"), form, hx_ext="ws", ws_connect="/ws")

        return index

    it = opened(page_of("one"))

    @it.app.ws("/ws")
    async def say_all(text: str, send: Any) -> None:
        lines.append(Li(text))
        whole = Ul(*lines, id="lines")
        await send(whole if brings == "the whole list" else Div(lines[-1], hx_swap_oob="beforeend:#lines"))

    def said(*texts: str) -> None:
        expect(it.page.locator("#lines li")).to_have_text(list(texts))

    say(it.page, "a")
    said("a")
    say(it.page, "a")
    said("a", "a")
    it.page.evaluate("window.first = document.querySelector('#lines li')")
    it.become(page_of("two"))
    said("a", "a")
    assert it.page.evaluate("first.isConnected && first === document.querySelector('#lines li')")
    say(it.page, "b")
    said("a", "a", "b")
    lines.insert(0, Li("from the code"))
    it.become(page_of("three"))
    said("from the code", "a", "a", "b")
    it.become(page_of("four"))
    said("from the code", "a", "a", "b")
    lines.clear()
    it.become(page_of("five"))
    said()
    it.check_unbroken()


def test_what_was_typed_ticked_chosen_opened_and_scrolled_stays(opened: Open) -> None:
    def page_with(note: str, hint: str) -> Callable[[], Any]:
        def index() -> Any:
            return Titled(
                note,
                Input(id="name", placeholder=hint),
                Textarea("start", name="long", title=hint),
                Label(Input(type="checkbox", id="tick", title=hint), "tick"),
                Select(Option("a"), Option("b"), id="choice", title=hint),
                Details(Summary(hint), P("inside")),
                Div(Div(style="height: 900px"), id="box", style="height: 90px; overflow: auto", title=hint),
                P(note),
            )

        return index

    shown = opened(page_with("One", "old"))
    page = shown.page
    page.fill("#name", "Ada")
    page.fill("textarea", "a draft")
    page.check("#tick")
    page.select_option("#choice", "b")
    page.click("summary")
    page.evaluate("document.querySelector('#box').scrollTop = 300")
    shown.become(page_with("Two", "new"))
    expect(page.locator("#name")).to_have_attribute("placeholder", "new")
    expect(page.locator("summary")).to_have_text("new")
    expect(page.locator("#name")).to_have_value("Ada")
    expect(page.locator("textarea")).to_have_value("a draft")
    expect(page.locator("#tick")).to_be_checked()
    expect(page.locator("#choice")).to_have_value("b")
    expect(page.locator("details p")).to_be_visible()
    assert page.evaluate("document.querySelector('#box').scrollTop") == 300


def test_media_go_on_and_the_element_stays_the_same(opened: Open) -> None:
    def page_with(note: str) -> Callable[[], Any]:
        return lambda: Titled(note, Audio(id="sound"), P(note))

    shown = opened(page_with("One"))
    shown.page.evaluate("document.querySelector('#sound').mark = 7")
    shown.become(page_with("Two"))
    assert shown.page.evaluate("document.querySelector('#sound').mark") == 7


def test_scripts_run_once(opened: Open) -> None:
    def page_with(*scripts: str) -> Callable[[], Any]:
        counts = "window.ran = window.ran || {}; const count = (name) => ran[name] = (ran[name] || 0) + 1;"
        return lambda: Titled(f"{len(scripts)}", Script(counts), *(Script(f"count('{s}')") for s in scripts))

    shown = opened(page_with("a"))
    assert shown.page.evaluate("ran") == {"a": 1}
    shown.become(page_with("a", "b"))
    assert shown.page.evaluate("ran") == {"a": 1, "b": 1}
    shown.become(page_with("a", "changed"))
    assert shown.page.evaluate("ran") == {"a": 1, "b": 1, "changed": 1}
    shown.become(page_with("a"))
    assert shown.page.evaluate("ran") == {"a": 1, "b": 1, "changed": 1}


def test_the_head_changes_too(opened: Open) -> None:
    def page_with(colour: str, *hdrs: Any) -> Callable[[], Any]:
        return lambda: (Title(colour), Style(f"h1 {{ color: {colour} }}"), *hdrs, H1("x"))

    shown = opened(page_with("rgb(255, 0, 0)"))
    shown.page.evaluate("document.head.append(Object.assign(document.createElement('style'), {id: 'of-a-script'}))")
    shown.become(page_with("rgb(0, 0, 255)", Meta(name="x", content="y")))
    expect(shown.page.locator("h1")).to_have_css("color", "rgb(0, 0, 255)")
    expect(shown.page).to_have_title("rgb(0, 0, 255)")
    assert shown.page.locator("head style").count() == 3  # that, htmx's own and the script's
    assert shown.page.locator("head meta[name=x]").count() == 1
    assert shown.page.locator("head #of-a-script").count() == 1


def test_options_of_the_app_change_open_pages(opened: Open) -> None:
    shown = opened(lambda: P("text"), title="One")
    shown.app.configure(title="Two", hdrs=(Style("p { color: rgb(1, 2, 3) }"),), bodykw={"class": "wide"})
    expect(shown.page).to_have_title("Two")
    expect(shown.page.locator("p")).to_have_css("color", "rgb(1, 2, 3)")
    expect(shown.page.locator("body")).to_have_class("wide")


title = "One"


def helper() -> str:
    return title


def test_a_page_changes_with_what_it_calls(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = opened(lambda: H1(helper()))
    monkeypatch.setitem(globals(), "title", "Two")
    shown.app.feed.changed()
    expect(shown.page.locator("h1")).to_have_text("Two")
    monkeypatch.setitem(globals(), "helper", lambda: "Three")
    shown.app.feed.changed()
    expect(shown.page.locator("h1")).to_have_text("Three")


def test_where_nothing_changed_nothing_is_sent_and_no_page_is_made(opened: Open) -> None:
    calls: list[int] = []

    def index() -> Any:
        calls.append(1)
        return H1(len(calls))

    shown = opened(index)
    events = []
    shown.page.expose_function("heard", lambda data: events.append(data))
    shown.page.evaluate("""() => { const real = EventSource.prototype.dispatchEvent;
        const stream = new EventSource('/_nbws/feed?page=x&at=/nowhere');
        return new Promise((done) => { stream.onmessage = (e) => { heard(e.data); done(); }; }) }""")
    first = len(calls)
    for n in range(3):
        shown.app.feed.changed()
        shown.app.ws(f"/other{n}")(_ignore)  # changes the state that the feed tells, so it is waited for
        shown.page.wait_for_timeout(1)
        while len(events) < 2 + n:
            shown.page.wait_for_timeout(10)
    assert len(calls) == first
    assert shown.morphs == 0


def _ignore() -> None:
    pass


def test_a_page_that_fails_to_be_made_anew_stays_as_it_is(opened: Open) -> None:
    shown = opened(lambda: H1("One"))

    def broken() -> Any:
        raise RuntimeError("not today")

    shown.app.get("/")(broken)
    while not shown.app.errors:
        shown.page.wait_for_timeout(10)
    assert "not today" in shown.app.errors[0].title
    shown.become(lambda: H1("Two"))
    expect(shown.page.locator("h1")).to_have_text("Two")


SERIALISED = """async () => {
    const sorted = (element) => {
        const all = Element.prototype.querySelectorAll.call(element, '*');
        for (const each of all) {
            const attributes = Array.from(each.attributes).sort((a, b) => (a.name < b.name ? -1 : 1));
            for (const { name } of attributes) each.removeAttribute(name);
            for (const { name, value } of attributes) each.setAttribute(name, value);
        }
        return element.innerHTML.trim();
    };
    const fresh = await fetch('/').then((answer) => answer.text());
    return [document.body.cloneNode(true), new DOMParser().parseFromString(fresh, 'text/html').body].map(sorted);
}"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (lambda: Ul(Li("a"), Li("b"), Li("c")), lambda: Ul(Li("b"), Li("c"))),
        (lambda: Ul(Li("a"), Li("b"), Li("c")), lambda: Ul(Li("c"), Li("a"), Li("x"), Li("b"))),
        (lambda: Div(P("a"), P("b")), lambda: Div(Section(P("b")), P("a"))),
        (lambda: Div(P("a", id="a"), P("b", id="b")), lambda: Div(P("b", id="b"), P("new"), P("a!", id="a"))),
        (lambda: P("text ", B("bold"), " more"), lambda: P("other ", I("italic"), " text")),
        (lambda: P("text ", B("bold"), " more"), lambda: P("text ", B("bolder"), " more still")),
        (lambda: Table(Tr(Td(1), Td(2))), lambda: Table(Tr(Td(1), Td(3)), Tr(Td(4), Td(5)))),
        (lambda: Div(Safe("<!-- c -->"), "x"), lambda: Div(Safe("<!-- d -->"), "y")),
        (
            lambda: Form(Input(id="id"), Input(id="children")),
            lambda: Form(Input(id="children"), Input(id="id", value=1)),
        ),
        (lambda: Svg(ft("circle", r=1), id="s"), lambda: Svg(ft("circle", r=2), ft("rect", width=3), id="s")),
        (lambda: (P("a"), P("b")), lambda: (Div(P("a"), P("b")), Footer("c"))),
        (lambda: Div(Template(P("a"))), lambda: Div(Template(P("b")))),
    ],
)
def test_the_page_becomes_what_it_would_be_if_it_were_loaded_anew(
    opened: Open, before: Callable[[], Any], after: Callable[[], Any]
) -> None:
    shown = opened(before)
    for index in (after, before, after):
        shown.become(index)
        changed, fresh = shown.page.evaluate(SERIALISED)
        assert changed == fresh
        assert "nbws-" not in changed


def test_new_htmx_elements_work_and_changed_ones_do_the_new_thing(opened: Open) -> None:
    def page_with(*buttons: Any) -> Callable[[], Any]:
        return lambda: Div(
            *buttons, P(id="out"), Div(id="inner", ws_connect="/ws", hx_ext="ws"), hx_ext="ws", id="outer"
        )

    shown = opened(page_with(Button("a", id="a", hx_get="/one", hx_target="#out")))
    shown.app.get("/one")(lambda: "one")
    shown.app.get("/two")(lambda: "two")
    two = Button("a", id="a", hx_get="/two", hx_target="#out")
    shown.become(page_with(two, Button("b", id="b", hx_get="/one", hx_target="#out")))
    shown.page.click("#a")
    expect(shown.page.locator("#out")).to_have_text("two")
    shown.page.click("#b")
    expect(shown.page.locator("#out")).to_have_text("one")


def test_an_attribute_of_htmx_on_the_element_with_the_websocket_changes_and_the_websocket_stays(opened: Open) -> None:
    shown = opened(chat("One"))
    expect(shown.page.locator("h1")).to_have_text("One")
    shown.become(chat("One", hx_vals='{"more": "field"}'))
    say(shown.page, "x")
    expect(shown.page.locator("#lines li")).to_have_count(1)
    shown.check_unbroken()


def test_another_address_for_the_websocket_closes_the_old_one(opened: Open) -> None:
    shown = opened(chat("One"))
    shown.app.ws("/other")(lambda: P("from the other", id="lines"))

    def moved() -> Any:
        return Titled(
            "One",
            Ul(id="lines"),
            Form(Input(id="text", placeholder="Say something"), Button("Send"), ws_send=True),
            hx_ext="ws",
            ws_connect="/other",
        )

    shown.become(moved)
    say(shown.page, "x")
    expect(shown.page.locator("#lines")).to_have_text("from the other")
    shown.page.wait_for_function("true")
    while (shown.opened, shown.closed) != (2, 1):
        shown.page.wait_for_timeout(10)


def test_an_element_that_a_websocket_replaced_goes_with_its_code(opened: Open) -> None:
    shown = opened(chat("One", P("nothing said", id="said")))

    @shown.app.ws("/ws")
    async def answer(text: str) -> Any:
        return P(text, id="said")

    say(shown.page, "hello")
    expect(shown.page.locator("#said")).to_have_text("hello")
    shown.become(chat("Two", P("nothing said", id="said")))
    expect(shown.page.locator("#said")).to_have_text("hello")
    shown.become(chat("Two", Style("p { margin: 1px }"), P("nothing said", id="said", title="tip"), P("more")))
    expect(shown.page.locator("#said")).to_have_text("hello")
    expect(shown.page.locator("#said")).to_have_attribute("title", "tip")
    shown.become(chat("Two"))
    expect(shown.page.locator("#said")).to_have_count(0)
    shown.check_unbroken()


def test_what_a_script_added_stays_where_other_things_come_and_go(opened: Open) -> None:
    shown = opened(lambda: Main(P("a", id="a"), P("b"), id="main"))
    shown.page.evaluate(
        "document.querySelector('#main').append(Object.assign(document.createElement('p'), {innerText: 'own'}))"
    )
    shown.become(lambda: Main(P("a", id="a"), Section("s"), id="main"))
    expect(shown.page.locator("#main > *")).to_have_text(["a", "s", "own"])
    shown.become(lambda: Main(id="main"))
    expect(shown.page.locator("#main > *")).to_have_text(["own"])
    shown.become(lambda: Main(P("new"), id="main"))
    expect(shown.page.locator("#main > *")).to_have_text(["new", "own"])


def test_a_form_that_moves_into_a_new_frame_keeps_what_was_typed(opened: Open) -> None:
    def framed() -> Any:
        return Titled(
            "One",
            Ul(id="lines"),
            Card(Form(Input(id="text", placeholder="Say something"), Button("Send"), ws_send=True)),
            hx_ext="ws",
            ws_connect="/ws",
        )

    shown = opened(chat("One"))
    shown.page.fill("#text", "half a mess")
    shown.become(framed)
    expect(shown.page.locator("article #text")).to_have_value("half a mess")
    shown.page.press("#text", "End")
    shown.page.keyboard.type("age\n")
    expect(shown.page.locator("#lines li")).to_have_text("half a message")
    shown.check_unbroken()


def test_a_page_that_is_not_there_yet_appears_when_its_route_is_defined(opened: Open) -> None:
    shown = opened(chat("One"))
    shown.page.goto(shown.app.url + "/later")
    expect(shown.page.locator("h1")).to_have_text("Not found")
    shown.app.get("/later")(chat("Here it is"))
    expect(shown.page.locator("h1")).to_have_text("Here it is")
    say(shown.page, "and it works")
    expect(shown.page.locator("#lines li")).to_have_text("and it works")


def test_an_error_lies_over_a_tab_until_it_is_dismissed_or_a_mended_page_has_come_by_itself(opened: Open) -> None:
    def broken() -> Any:
        raise RuntimeError("<not> today")

    def still_broken() -> Any:
        raise RuntimeError("nor tomorrow")

    shown = opened(broken)
    expect(shown.page.locator("h1")).to_have_text("Something went wrong")
    errors = shown.page.locator("nbws-errors")
    expect(errors).to_contain_text("RuntimeError: <not> today")
    errors.locator("summary").click()
    expect(errors).to_contain_text("raise RuntimeError")
    errors.locator("button").click()
    expect(errors).to_have_count(0)
    shown.app.get("/")(still_broken)
    expect(errors).to_contain_text("nor tomorrow")
    expect(errors).not_to_contain_text("<not> today")
    shown.app.get("/")(chat("Mended"))
    expect(shown.page.locator("h1")).to_have_text("Mended")
    expect(errors).to_have_count(0)
    say(shown.page, "on it goes")
    expect(shown.page.locator("#lines li")).to_have_text("on it goes")


def test_a_server_that_began_anew_has_the_page_as_it_is_now_and_what_was_typed_stays(opened: Open) -> None:
    shown = opened(chat("One"))
    say(shown.page, "a line")
    expect(shown.page.locator("#lines li")).to_have_text("a line")
    shown.page.fill("#text", "half a mess")
    shown.page.evaluate("window.resyncs = 0; document.addEventListener('nbws:resync', () => resyncs++)")
    port = shown.app.port
    shown.app.stop()
    shown.app.get("/")(chat("Two"))
    shown.app.start()
    assert shown.app.port == port
    expect(shown.page.locator("h1")).to_have_text("Two")
    expect(shown.page.locator("#lines li")).to_have_count(0)
    expect(shown.page.locator("#text")).to_have_value("half a mess")
    assert shown.page.evaluate("[here, resyncs]") == ["same", 1]
    shown.page.press("#text", "Enter")
    expect(shown.page.locator("#lines li")).to_have_text("half a mess")
