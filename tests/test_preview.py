"""The preview in a real JupyterLab, driven in Chromium with the network off."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Browser, LabServer, Notebook, OpenNotebook, Sockets
from playwright.sync_api import Frame, expect

pytestmark = [pytest.mark.browser, pytest.mark.lab]

CHAT = Path(__file__).parent.parent / "notebooks" / "01-chat.ipynb"
APP, PAGE, HANDLER, PREVIEW, SWAP, LOOK = 2, 4, 6, 8, 12, 16


def run(notebook: Notebook, *cells: int) -> None:
    for cell in cells:
        notebook.run(cell)


def preview(notebook: Notebook, cell: int = PREVIEW) -> Frame:
    frame = notebook.iframe(cell)
    frame.wait_for_selector("body")
    return frame


def line(notebook: Notebook, cell: int = PREVIEW) -> Any:
    return notebook.cell(cell).locator(".nbws-line")


def say(frame: Frame, text: str) -> None:
    frame.fill("#text", text)
    frame.press("#text", "Enter")


@pytest.fixture
def chat(notebook_in_lab: OpenNotebook) -> Notebook:
    notebook = notebook_in_lab(CHAT)
    run(notebook, APP, PAGE, HANDLER)
    return notebook


def test_half_a_message_survives_the_swap_and_goes_to_the_new_handler_on_the_same_websocket(chat: Notebook) -> None:
    sockets = Sockets(chat.page)
    run(chat, PREVIEW)
    frame = preview(chat)
    say(frame, "hello <b>")
    expect(frame.locator("#lines li").last).to_have_text("hello <b>")
    frame.click("#text")
    chat.page.keyboard.type("half a mess")
    chat.set_source(HANDLER, chat.source(HANDLER).replace("Li(text)", 'Li("new: ", text)'))
    run(chat, HANDLER)
    expect(frame.locator("#text")).to_be_focused()
    chat.page.keyboard.type("age\n")
    expect(frame.locator("#lines li").last).to_have_text("new: half a message")
    expect(line(chat)).to_contain_text("v2")
    assert (sockets.opened, sockets.closed) == (1, 0)


def test_what_handlers_print_is_folded_under_the_preview(chat: Notebook) -> None:
    chat.set_source(
        HANDLER, chat.source(HANDLER).replace("    lines.append", "    print('heard', text)\n    lines.append")
    )
    run(chat, HANDLER, PREVIEW)
    frame = preview(chat)
    said = chat.cell(PREVIEW).locator(".nbws-said")
    expect(said).to_be_hidden()
    say(frame, "<hi>")
    expect(said).to_be_visible()
    expect(said.locator("summary")).to_have_text("Output of handlers (1)")
    said.locator("summary").click()
    expect(said.locator("pre")).to_contain_text("heard <hi>")
    expect(said.locator("pre")).to_contain_text("/chat chat v2")
    say(frame, "again")
    expect(said.locator("pre")).to_contain_text("heard again")
    assert "heard" not in chat.cell(HANDLER).locator(".jp-OutputArea").inner_text()


def test_the_hot_swap_notebook_in_jupyterlab(notebook_in_lab: OpenNotebook) -> None:
    path = CHAT.with_name("04-hot-swap.ipynb")
    cells = json.loads(path.read_text())["cells"]
    place = {cell["id"]: index for index, cell in enumerate(cells)}
    notebook = notebook_in_lab(path)
    sockets = Sockets(notebook.page)
    frame = None
    for cell in (cell for cell in cells if cell["cell_type"] == "code"):
        if cell["id"] == "page-again":
            assert frame is not None
            frame.click("#word")
            notebook.page.keyboard.type("half")
            notebook.page.keyboard.press("ArrowLeft")
        notebook.run(place[cell["id"]])
        if cell["id"] == "preview":
            frame = preview(notebook, place["preview"])
            frame.fill("#word", "quince")
            frame.press("#word", "Enter")
            expect(frame.locator("#words")).to_have_text("quince")
        if cell["id"] == "page-again":
            assert frame is not None
            expect(frame.locator("h1")).to_have_text("Words, counted")
            expect(frame.locator("#word")).to_be_focused()
            assert frame.evaluate("[document.activeElement.value, document.activeElement.selectionStart]") == [
                "half",
                3,
            ]
    assert frame is not None
    expect(frame.locator("#words")).to_contain_text("(v7 → v8) 1 × quince")
    expect(frame.locator("#clock")).to_contain_text("tick")
    expect(line(notebook, place["preview"])).to_contain_text("/words v8")
    notices = notebook.cell(place["preview"]).locator(".nbws-notices")
    expect(notices).to_contain_text("v7 of WS /words failed 3 times in a row")
    notices.locator("button").click()
    expect(notices).to_be_empty()
    expect(notebook.cell(place["replay"]).locator(".nbws-replay del").first).to_be_visible()
    assert (sockets.opened, sockets.closed) == (1, 0)


def test_the_page_changes_under_the_caret_and_the_websocket_is_the_same(chat: Notebook) -> None:
    sockets = Sockets(chat.page)
    run(chat, PREVIEW)
    frame = preview(chat)
    say(frame, "a line")
    expect(frame.locator("#lines li").last).to_have_text("a line")
    frame.click("#text")
    chat.page.keyboard.type("helworld")
    for _ in "world":
        chat.page.keyboard.press("ArrowLeft")
    frame.evaluate("window.morphs = 0; document.addEventListener('nbws:morph', () => morphs++)")
    chat.set_source(PAGE, chat.source(PAGE).replace('Titled("Chat",', 'Titled("Chat, changed",'))
    chat.set_source(PAGE, chat.source(PAGE).replace("lines = [", "lines = lines or ["))
    run(chat, PAGE)
    expect(frame.locator("h1")).to_have_text("Chat, changed")
    expect(frame.locator("#text")).to_be_focused()
    assert frame.evaluate("document.querySelector('#text').selectionStart") == 3
    chat.page.keyboard.type("lo ")
    expect(frame.locator("#text")).to_have_value("hello world")
    expect(frame.locator("#lines li").last).to_have_text("a line")
    run(chat, LOOK)
    chat.page.keyboard.press("Enter")
    say(frame, "another")
    expect(frame.locator("#lines li").last).to_have_text("another")
    assert frame.evaluate("morphs") == 1
    assert (sockets.opened, sockets.closed) == (1, 0)


def test_the_notebook_is_left_in_peace_by_somebody_who_works_in_it(chat: Notebook) -> None:
    run(chat, PREVIEW)
    frame = preview(chat)
    frame.click("#text")
    chat.run_keys(HANDLER)
    expect(frame.locator("#text")).not_to_be_focused()


def test_the_line_shows_path_state_and_version_and_opens_a_tab_in_which_the_chat_works(
    chat: Notebook, browser: Browser
) -> None:
    run(chat, PREVIEW)
    frame = preview(chat)
    expect(line(chat)).to_contain_text("connected")
    expect(line(chat).locator(".nbws-path")).to_have_text("/")
    expect(line(chat)).to_contain_text("/chat v1")
    with chat.page.context.expect_page() as opening:
        line(chat).get_by_text("open in a tab").click()
    tab = opening.value
    tab.wait_for_selector("#text")
    assert "nbws-ticket" not in tab.url
    say(frame, "from the frame")
    expect(tab.locator("#lines li").last).to_have_text("from the frame")
    tab.fill("#text", "from the tab")
    tab.press("#text", "Enter")
    expect(frame.locator("#lines li").last).to_have_text("from the tab")
    tab.close()
    assert browser.refused == []


def test_the_frame_is_as_high_as_its_page(chat: Notebook) -> None:
    run(chat, PREVIEW)
    frame = preview(chat)
    before = frame_height(chat)
    for n in range(8):
        say(frame, f"line {n}")
        expect(frame.locator("#lines li").last).to_have_text(f"line {n}")
    chat.page.wait_for_function(
        "([before]) => document.querySelector('.nbws-preview iframe').offsetHeight > before + 100", arg=[before]
    )
    frame.wait_for_function("document.documentElement.scrollHeight <= document.documentElement.clientHeight")


def frame_height(notebook: Notebook) -> int:
    height: int = notebook.cell(PREVIEW).locator("iframe").evaluate("each => each.offsetHeight")
    return height


def test_run_all_keeps_every_connection_but_the_rerun_previews_own(chat: Notebook) -> None:
    run(chat, PREVIEW)
    preview(chat)
    run(chat, SWAP)
    ask = chat.add("[each.id for each in app.connections]")
    with chat.page.context.expect_page() as opening:
        line(chat).get_by_text("open in a tab").click()
    tab = opening.value
    sockets = Sockets(tab)
    tab.wait_for_selector("#text")
    expect(tab.locator("#lines")).to_contain_text("is here")
    chat.run(ask)
    before = json.loads(chat.text(ask).replace("'", '"'))
    for _ in range(3):
        run(chat, APP, PAGE, HANDLER, PREVIEW, SWAP)
    tab.fill("#text", "still here")
    tab.press("#text", "Enter")
    expect(tab.locator("#lines li").last).to_contain_text("still here")
    chat.run(ask)
    after = json.loads(chat.text(ask).replace("'", '"'))
    assert before[-1] in after
    assert sockets.closed == 0
    tab.close()


def test_after_a_kernel_restart_the_open_page_comes_back_by_itself(chat: Notebook) -> None:
    run(chat, PREVIEW)
    with chat.page.context.expect_page() as opening:
        line(chat).get_by_text("open in a tab").click()
    tab = opening.value
    tab.wait_for_selector("#text")
    chat.restart_kernel()
    run(chat, APP, PAGE, HANDLER, PREVIEW)
    tab.fill("#text", "after the restart")
    tab.press("#text", "Enter")
    expect(tab.locator("#lines li").last).to_have_text("after the restart", timeout=15_000)
    tab.close()


def test_an_error_of_a_handler_shows_under_the_preview_and_under_its_cell_and_the_chat_goes_on(chat: Notebook) -> None:
    chat.set_source(HANDLER, chat.source(HANDLER).replace("Li(text)", "Li(str(100 / int(text)))"))
    run(chat, HANDLER, PREVIEW)
    frame = preview(chat)
    say(frame, "0")
    errors = chat.cell(PREVIEW).locator(".nbws-errors")
    expect(errors).to_contain_text("chat v2 on WS /chat: ZeroDivisionError: division by zero")
    assert "ZeroDivisionError" in chat.text_until(HANDLER, "ZeroDivisionError: division by zero")
    say(frame, "5")
    expect(frame.locator("#lines li").last).to_have_text("20.0")
    errors.get_by_text("dismiss").click()
    expect(errors).to_be_empty()


def test_the_token_is_in_no_saved_notebook_and_no_page(chat: Notebook, lab: LabServer) -> None:
    run(chat, PREVIEW)
    frame = preview(chat)
    ask = chat.add("print(app.token)")
    chat.run(ask)
    token = chat.text_until(ask, "\n").strip()
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert token not in frame.content()
    assert token not in frame.url
    assert "nbws-ticket" not in frame.evaluate("location.href")
    chat.page.evaluate("i => __cell(i).model.outputs.clear()", ask)
    chat.save()
    assert token not in (lab.root / chat.path).read_text()


def test_what_was_dismissed_stays_away_when_the_next_error_comes(chat: Notebook) -> None:
    chat.set_source(HANDLER, chat.source(HANDLER).replace("Li(text)", "Li(1 / int(text))"))
    run(chat, HANDLER, PREVIEW)
    frame = preview(chat)
    errors = chat.cell(PREVIEW).locator(".nbws-errors")
    say(frame, "0")
    expect(errors).to_contain_text("1 error")
    errors.get_by_text("dismiss").click()
    expect(errors).to_be_empty()
    say(frame, "x")
    expect(errors).to_contain_text("invalid literal for int()")
    expect(errors).not_to_contain_text("ZeroDivisionError")


def test_tab_leads_out_of_the_preview(chat: Notebook) -> None:
    run(chat, PREVIEW)
    frame = preview(chat)
    frame.focus("button")
    chat.page.keyboard.press("Tab")
    chat.page.wait_for_function("document.activeElement.tagName !== 'IFRAME'")
    expect(frame.locator("button")).not_to_be_focused()


def test_a_page_as_high_as_its_frame_gets_a_height_that_it_can_be_used_at(notebook_in_lab: OpenNotebook) -> None:
    page = "Div(P('full'), style='min-height: 100vh; background: silver')"
    cells = ["from nbws.common import *\napp = App()", f"@app.get('/')\ndef index(): return {page}", "app"]
    notebook = notebook_in_lab(cells)
    run(notebook, 0, 1, 2)
    preview(notebook, 2)
    notebook.page.wait_for_function("document.querySelector('.nbws-preview iframe').offsetHeight === 400")


def test_an_output_whose_app_is_gone_says_so_and_not_what_a_browser_says(chat: Notebook, lab: LabServer) -> None:
    run(chat, PREVIEW)
    preview(chat)
    chat.save()
    chat.restart_kernel()
    chat.page.reload()
    chat.wait_ready()
    expect(chat.cell(PREVIEW).locator(".nbws-state")).to_have_text("not running", timeout=15_000)
    expect(chat.cell(PREVIEW)).to_contain_text("Run this cell to start it")


@pytest.fixture(scope="module")
def dark_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    with LabServer(tmp_path_factory.mktemp("dark"), hostname="localhost", dark=True) as server:
        yield server


def test_under_the_other_loopback_name_narrow_and_dark_it_works_with_its_session(
    notebook_in_lab: OpenNotebook, dark_lab: LabServer
) -> None:
    cells = [
        "from nbws.common import *\napp = App()",
        """
@app.get('/')
def index(session, request):
    session['seen'] = session.get('seen', 0) + 1
    return Titled('Dark', P(f"seen {session['seen']}, cookies {sorted(request.cookies)}", id='seen'),
        Form(Input(id='text'), ws_send=True), P(id='out'), hx_ext='ws', ws_connect='/ws')

@app.ws('/ws')
async def echo(text: str, session): return P(f"{text}, {session['seen']}", id='out')
""",
        "app",
    ]
    notebook = notebook_in_lab(cells, server=dark_lab, viewport=(700, 900))
    run(notebook, 0, 1, 2)
    frame = preview(notebook, 2)
    expect(frame.locator("html")).to_have_attribute("data-theme", "dark")
    assert frame.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    say(frame, "hi")
    expect(frame.locator("#out")).to_have_text("hi, 1")
    frame.goto(frame.url)
    expect(frame.locator("#seen")).to_have_text("seen 2, cookies ['session_']")


def test_in_a_frame_of_another_site_the_session_that_a_websocket_begins_is_read_by_pages(
    notebook_in_lab: OpenNotebook, dark_lab: LabServer
) -> None:
    cells = [
        "from nbws.common import *\napp = App()",
        """
@app.get('/')
def index(): return PlainTextResponse('no script of ours')

@app.get('/see')
def see(session): return JSONResponse(dict(session))

@app.ws('/ws')
async def choose(colour: str, session):
    session['colour'] = colour
    return P(id='done')
""",
        "app",
    ]
    notebook = notebook_in_lab(cells, server=dark_lab)
    run(notebook, 0, 1, 2)
    frame = preview(notebook, 2)
    assert frame.evaluate("location.hostname") != notebook.page.evaluate("location.hostname")
    frame.evaluate(
        """() => new Promise(done => {
            const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
            socket.onopen = () => socket.send(JSON.stringify({colour: "red"}));
            socket.onmessage = done;
        }).then(() => null)"""
    )
    assert frame.evaluate("fetch('/see').then(answer => answer.json())") == {"colour": "red"}


def test_the_session_notebook_in_jupyterlab(notebook_in_lab: OpenNotebook) -> None:
    path = CHAT.with_name("02-session.ipynb")
    cells = json.loads(path.read_text())["cells"]
    place = {cell["id"]: index for index, cell in enumerate(cells)}
    notebook = notebook_in_lab(path)
    run(notebook, *(place[cell] for cell in ("app", "page", "handler", "forms", "preview")))
    frame = preview(notebook, place["preview"])
    frame.click("button:text-is('Count')")
    expect(frame.locator("#greeting")).to_have_text("Hello, stranger! You have counted to 1.")
    with notebook.page.context.expect_page() as opening:
        line(notebook, place["preview"]).get_by_text("open in a tab").click()
    tab = opening.value
    tab.fill("[name=name]", "Ann")
    tab.press("[name=name]", "Enter")
    for page in (tab, frame):
        expect(page.locator("#greeting")).to_have_text("Hello, Ann! You have counted to 1.")
    run(notebook, place["look"], place["swap"])
    assert notebook.text(place["look"]).count("{'count': 1, 'name': 'Ann'}") == 2
    tab.click("button:text-is('Count')")
    expect(frame.locator("#greeting")).to_have_text("Hello, Ann! You have counted to 11.")
    frame.click("button:text-is('Log out')")
    for page in (tab, frame):
        expect(page.locator("#greeting")).to_have_text("Hello, stranger! You have counted to 0.")
    tab.close()
