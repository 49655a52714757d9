"""The panel in a real JupyterLab: as a widget, and folded under a preview."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from lab import Notebook, OpenNotebook
from playwright.sync_api import FrameLocator, Locator, expect

pytestmark = [pytest.mark.browser, pytest.mark.lab]

APP, PAGE, HANDLER, PREVIEW, PANEL, MORE = range(6)
CELLS = [
    "from nbws.common import *\nfrom nbws import App\napp = App()",
    """
@app.get('/')
def index():
    form = Form(Input(name='text', id='text'), ws_send=True)
    return Titled('Chat', Ul(id='lines'), form, hx_ext='ws', ws_connect='/chat')
""",
    """
@app.ws('/chat')
def chat(text: str):
    print('heard', text)
    if text == 'boom':
        raise ValueError('no <b>boom</b>')
    app.broadcast(Ul(Li(text), id='lines', hx_swap_oob='beforeend'))
""",
    "app",
    "app.inspector()",
    "from time import sleep\nsleep(3)",
]


@pytest.fixture
def notebook(notebook_in_lab: OpenNotebook) -> Notebook:
    notebook = notebook_in_lab(CELLS)
    for cell in (APP, PAGE, HANDLER, PREVIEW):
        notebook.run(cell)
    notebook.iframe(PREVIEW).wait_for_selector("#text")
    return notebook


def say(notebook: Notebook, *texts: str) -> None:
    frame = notebook.iframe(PREVIEW)
    for text in texts:
        frame.fill("#text", text)
        frame.press("#text", "Enter")
        if text != "boom":
            expect(frame.locator("#lines li").last).to_contain_text(text)


def tab(panel: Locator | FrameLocator, name: str) -> Any:
    panel.get_by_role("tab", name=name).click()
    return panel.get_by_role("tabpanel", name=name)


def test_the_widget_shows_what_goes_on_and_its_buttons_act(notebook: Notebook) -> None:
    notebook.run(PANEL)
    panel = notebook.cell(PANEL).locator(".nbws-panel")
    say(notebook, "hello <i>", "boom")
    rows = panel.locator(".nbws-p-rows li")
    expect(rows).to_have_count(4)
    expect(rows.nth(1)).to_contain_text('{"text": "hello <i>"}')
    expect(rows.nth(3)).to_contain_text("ValueError: no <b>boom</b>")
    panel.get_by_role("searchbox").click()  # else the preview takes the focus back, as no hand took it away
    panel.get_by_role("searchbox").fill("boom")
    expect(panel.locator(".nbws-p-rows li:visible")).to_have_count(1)

    connections = tab(panel, "Connections")
    expect(connections.locator("tbody tr")).to_have_count(1)
    connections.get_by_role("button", name="send to all").click()
    connections.get_by_role("textbox").fill('<ul id="lines" hx-swap-oob="beforeend"><li>from the panel</li></ul>')
    connections.get_by_role("button", name="send", exact=True).click()
    expect(notebook.iframe(PREVIEW).locator("#lines li").last).to_have_text("from the panel")

    errors = tab(panel, "Errors")
    errors.locator("summary").click()
    expect(errors.locator("pre")).to_contain_text("raise ValueError")
    expect(tab(panel, "Output").locator("pre")).to_contain_text("heard boom")
    diagram = tab(panel, "Diagram").get_by_role("img")
    expect(diagram.locator("text").filter(has_text="text: boom")).to_have_count(1)

    notebook.set_source(
        HANDLER, notebook.source(HANDLER).replace("Li(text)", "Li('new: ', text)").replace("boom", "bang")
    )
    notebook.run(HANDLER)
    endpoints = tab(panel, "Endpoints")
    endpoints.get_by_role("button", name="retry").click()
    expect(notebook.iframe(PREVIEW).locator("#lines li").last).to_have_text("new: boom")
    endpoints.locator("summary", has_text="2 versions").click()
    endpoints.get_by_role("button", name="what v2 has changed").click()
    expect(endpoints.locator("ins", has_text="new: ")).to_have_count(1)
    endpoints.get_by_role("button", name="roll back to v1").click()
    expect(panel.get_by_role("status")).to_contain_text("v1 is live again, as v3")
    say(notebook, "after")
    expect(notebook.iframe(PREVIEW).locator("#lines li").last).to_have_text("after")
    endpoints.get_by_role("button", name="replay").click()
    expect(endpoints.locator(".nbws-replay")).to_contain_text("the same is sent")


def test_it_goes_on_while_a_cell_runs(notebook: Notebook) -> None:
    notebook.run(PANEL)
    panel = notebook.cell(PANEL).locator(".nbws-panel")
    expect(panel.locator(".nbws-p-rows li")).to_have_count(1)
    notebook.set_source(MORE, "from time import sleep\nwhile not app.said: sleep(.01)\nsleep(1)\nprint('cell ended')")
    notebook.page.evaluate("i => { window.__cellRun = __run(i); }", MORE)
    say(notebook, "hello")
    expect(panel.locator(".nbws-p-rows li")).to_have_count(3, timeout=900)
    assert "cell ended" not in notebook.text(MORE)
    notebook.text_until(MORE, "cell ended")


def test_folded_under_a_preview_it_shows_and_does_the_same(notebook: Notebook) -> None:
    say(notebook, "hello")
    output = notebook.cell(PREVIEW)
    output.locator(".nbws-inspector summary").click()
    panel = output.frame_locator(".nbws-inspector iframe")
    expect(panel.locator(".nbws-p-rows li")).to_have_count(3)
    say(notebook, "more")
    expect(panel.locator(".nbws-p-rows li")).to_have_count(5)
    connections = tab(panel, "Connections")
    connections.get_by_role("button", name="close").click()
    expect(panel.get_by_role("status")).to_contain_text("is closed")
    expect(tab(panel, "Messages").locator("[data-kind=closed]")).to_have_count(1)


def test_its_tabs_are_used_by_keys(notebook: Notebook) -> None:
    notebook.run(PANEL)
    panel = notebook.cell(PANEL).locator(".nbws-panel")
    panel.get_by_role("tab", name="Messages").focus()
    notebook.page.keyboard.press("ArrowRight")
    expect(panel.get_by_role("tab", name="Diagram")).to_be_focused()
    expect(panel.get_by_role("tab", name="Diagram")).to_have_attribute("aria-selected", "true")
    notebook.page.keyboard.press("End")
    expect(panel.get_by_role("tabpanel", name="Output")).to_be_visible()
    notebook.page.keyboard.press("ArrowRight")
    expect(panel.get_by_role("tab", name="Messages")).to_be_focused()


def test_axe_finds_nothing_wrong_with_what_is_shown_in_either_theme(notebook: Notebook) -> None:
    notebook.run(PANEL)
    notebook.set_source(MORE, "app.transcript()")
    say(notebook, "hello", "boom")
    panel = notebook.cell(PANEL).locator(".nbws-panel")
    expect(tab(panel, "Errors").locator("summary")).to_have_count(1)
    notebook.run(MORE)
    for theme in ("JupyterLab Dark", "JupyterLab Light"):  # the latter is that of the tests that follow
        notebook.command("apputils:change-theme", {"theme": theme})
        expect(notebook.page.locator("body")).to_have_attribute("data-jp-theme-name", theme)
        wrong = {}
        for name in ("Messages", "Diagram", "Connections", "Endpoints", "Errors", "Output"):
            shown = tab(panel, name)
            if name in ("Endpoints", "Errors"):
                shown.locator("summary").first.click()
            wrong[name] = found_by_axe(notebook, ".nbws-panel")
        wrong["preview"] = found_by_axe(notebook, ".nbws-preview")
        wrong["transcript"] = found_by_axe(notebook, ".nbws-transcript")
        assert not any(wrong.values()), (theme, wrong)


def found_by_axe(notebook: Notebook, where: str) -> list[str]:
    """What axe, which knows the rules of accessibility, has to say about the elements *where* selects."""
    assert notebook.page.locator(where).count()
    return [str(problem["help"]) for problem in Axe().run(notebook.page, where).response["violations"]]


def test_two_clients_are_two_users_beside_each_other(notebook_in_lab: OpenNotebook) -> None:
    notebook = notebook_in_lab(
        [
            CELLS[APP],
            """
@app.get('/')
def index(session):
    session.setdefault('who', f'user {len(app.state.setdefault("users", []))}')
    app.state.users.append(session['who'])
    return Titled('Chat', P(session['who'], id='who'), Ul(id='lines'),
                  Form(Input(name='text', id='text'), ws_send=True), hx_ext='ws', ws_connect='/chat')

@app.ws('/chat')
async def chat(text: str, session):
    app.broadcast(Ul(Li(session['who'], ': ', text), id='lines', hx_swap_oob='beforeend'))
""",
            "app.preview(clients=2)",
        ]
    )
    for cell in (0, 1, 2):
        notebook.run(cell)
    one, two = (notebook.iframe(2, k) for k in (0, 1))
    for frame in (one, two):
        frame.wait_for_selector("#text")
        expect(notebook.cell(2).locator(".nbws-state").first).to_have_text("connected")
    expect(notebook.cell(2).locator(".nbws-state").nth(1)).to_have_text("connected")
    assert one.text_content("#who") != two.text_content("#who")
    one.fill("#text", "hello")
    one.press("#text", "Enter")
    said = f"{one.text_content('#who')}: hello"
    for frame in (one, two):
        expect(frame.locator("#lines li")).to_have_text(said)
    boxes = [notebook.cell(2).locator("iframe").nth(k).bounding_box() for k in (0, 1)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
