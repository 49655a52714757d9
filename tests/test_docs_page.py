"""`nbws docs`: what the page of a notebook shows, that it loads nothing, and that no secret is in it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from docs_made import nbws_docs
from lab import Browser
from playwright.sync_api import expect

from nbws.docs import DocsError, documented, shown_source
from nbws.docs_page import Page, RunHere, render
from nbws.notebook.preview import MIME
from nbws.playback import Playback
from nbws.player import player, still
from nbws.transcript import OPENED, RECEIVED, SENT, Line

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
PREVIEW = {"app": "0", "path": "/", "clients": 1, "height": None, "recording": None}


def code(source: str, *outputs: Mapping[str, Any], tags: Sequence[str] = ()) -> dict[str, Any]:
    metadata = {"tags": list(tags)} if tags else {}
    cell = {"cell_type": "code", "id": "c", "source": source, "outputs": list(outputs)}
    return {**cell, "execution_count": 1, "metadata": metadata}


def text(source: str, **more: Any) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": "t", "source": source, "metadata": {}, **more}


def shows(**data: Any) -> dict[str, Any]:
    named = {name.replace("__", "/"): value for name, value in data.items()}
    return {"output_type": "display_data", "data": named, "metadata": {}}


def preview(**facts: Any) -> dict[str, Any]:
    html = '<div class="nbws-preview"><iframe src="http://127.0.0.1:2/?nbws-ticket=tick-canary"></iframe></div>'
    return {
        "output_type": "execute_result",
        "data": {MIME: {**PREVIEW, **facts}, "text/html": html, "text/plain": "preview of /"},
        "metadata": {},
    }


def saved(folder: Path, *cells: dict[str, Any], name: str = "notes") -> Path:
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    return path


def page_of(path: Path) -> Page:
    return render(documented(path, run=False, player=player, still=still), path)


def session(said: str, path: str = "/chat") -> Playback:
    lines = [
        Line(1, OPENED, path, path, ["a"]),
        Line(2, RECEIVED, path, path, ["a"], json.dumps({"text": said})),
        Line(3, SENT, path, path, ["a"], f'<p id="said">{said}</p>'),
    ]
    return Playback.of(lines)


# -- what is shown


@pytest.mark.parametrize(
    ("source", "shown", "removes"),
    [
        ("#| export\nx = 1", "#| export\nx = 1", set()),
        ("#| default_exp chat\n#| export\nx = 1", "#| default_exp chat\n#| export\nx = 1", set()),
        ("#| hide\nx = 1", "x = 1", {"cell"}),
        ("#| include: false\nx = 1", "x = 1", {"cell"}),
        ("#| hide_input\n# | eval: true\n\nx = 1", "x = 1", {"input"}),
        ("#| echo: false\nx = 1", "x = 1", {"input"}),
        ("#| output: false\nx = 1", "x = 1", {"output"}),
        ("x = 1\n#| hide", "x = 1\n#| hide", set()),
    ],
)
def test_directives_say_what_is_shown_and_only_those_about_the_program_stay(
    source: str, shown: str, removes: set[str]
) -> None:
    assert shown_source(source) == shown_source(source, ["other"])
    assert (shown_source(source).source, shown_source(source).removes) == (shown, removes)


def test_what_is_hidden_is_in_no_page(tmp_path: Path) -> None:
    out = {"output_type": "stream", "name": "stdout", "text": "printed"}
    path = saved(
        tmp_path,
        text("# Title\n\nA *text* with <kbd>keys</kbd>.\n\n| a | b |\n|---|---|\n| 1 | 2 |"),
        code("#| hide\nhidden_cell = 1", out),
        code("#| hide_input\nhidden_input = 1", {**out, "text": "its output"}),
        code("shown = 1", {**out, "text": "removed output"}, tags=["remove-output"]),
        code("folded = 1", tags=["hide-input"]),
        code("shown = 2", {**out, "name": "stderr", "text": "\x1b[31mred <b>\x1b[0m"}),
    )
    page = page_of(path)
    assert page.title == "Title"
    for gone in ("hidden_cell", "hidden_input", "printed", "removed output", "\x1b"):
        assert gone not in page.html
    for there in ("its output", "<kbd>keys</kbd>", "<td>2</td>", "red &lt;b&gt;", "<summary>Code</summary>", "</html>"):
        assert there in page.html
    assert page.warnings == ()


def test_pictures_are_in_the_page_and_those_of_other_hosts_are_links(tmp_path: Path) -> None:
    dot = base64.b64encode(b"dot").decode()
    (tmp_path / "a b.png").write_bytes(b"beside")
    path = saved(
        tmp_path,
        text("![one](a%20b.png) ![two](attachment:x.png)", attachments={"x.png": {"image/png": dot}}),
        text("![three](https://elsewhere.example/x.png) ![four](nowhere.png) [link](https://elsewhere.example)"),
        code("plot", shows(image__png=dot, text__plain="<Figure>")),
    )
    page = page_of(path)
    assert page.html.count(f"data:image/png;base64,{dot}") == 2
    assert base64.b64encode(b"beside").decode() in page.html
    assert re.findall(r"<(?:img|script|link|iframe)[^>]*(?:src|href)=.https?:", page.html) == []
    assert '<a href="https://elsewhere.example/x.png">three</a>' in page.html
    assert [each.split()[0] for each in page.warnings] == [
        "https://elsewhere.example/x.png",
        "nowhere.png",
    ]


# -- which recording


def test_a_preview_plays_the_file_that_lies_beside_the_notebook(tmp_path: Path) -> None:
    (tmp_path / "notes.replay.json").write_text(session("from the file").dumps())
    page = page_of(saved(tmp_path, code("app", preview())))
    assert (page.players, "from the file" in page.html, "canary" in page.html) == (1, True, False)


def test_a_preview_that_names_a_recording_plays_that_one(tmp_path: Path) -> None:
    (tmp_path / "notes.replay.json").write_text(session("of the notebook").dumps())
    (tmp_path / "other.replay.json").write_text(session("of another").dumps())
    page = page_of(saved(tmp_path, code("app.preview(recording='other')", preview(recording="other"))))
    assert ("of another" in page.html, "of the notebook" in page.html) == (True, False)


def test_a_recording_that_is_named_and_not_there_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DocsError, match=r"plays the recording 'gone'.*app.record\('gone'\).*gone.replay.json"):
        page_of(saved(tmp_path, code("x", preview(recording="gone"))))


def test_without_a_recording_the_page_says_so_and_shows_no_dead_frame(tmp_path: Path) -> None:
    page = page_of(
        saved(tmp_path, code("app", preview()), code("app", shows(text__html=preview()["data"]["text/html"])))
    )
    assert page.players == 0
    assert page.html.count("There is no recording of it.") == 2
    assert "canary" not in page.html


def test_a_preview_of_one_page_plays_only_the_clients_of_that_page() -> None:
    lines = [Line(1, OPENED, "/a", "/a", ["a"]), Line(2, OPENED, "/b", "/b", ["b"])]
    lines.append(Line(3, SENT, "/a", "/a", ["a", "b"], "<p>both</p>"))
    both = Playback.of(lines)
    part = both.at_path("/b?x=1")
    assert [each.path for each in part.clients] == ["/b"]
    assert [(each.kind, each.clients) for each in part.entries] == [("opened", (0,)), ("sent", (0,))]
    assert both.at_path("/nowhere") is both


def test_the_link_that_opens_the_app_in_a_tab_is_for_its_author_alone(tmp_path: Path) -> None:
    link = '<a href="http://127.0.0.1:2/?nbws-ticket=canary" target="_blank">http://127.0.0.1:2/ ↗</a>'
    page = page_of(
        saved(
            tmp_path,
            code("app.start()", shows(text__html=link, text__plain="<HTML>")),
            code("print(url)", {"output_type": "stream", "name": "stdout", "text": "/?x=1&nbws-ticket=canary&y=2"}),
        )
    )
    assert "canary" not in page.html
    assert "127.0.0.1" not in page.html
    assert "/?x=1&amp;y=2" in page.html


# -- the chat, in Chromium


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    done = nbws_docs(folder, str(NOTEBOOKS / "01-chat.ipynb"), "-o", "chat.html")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "chat.html"


@pytest.fixture
def quiet(browser: Browser) -> Iterator[Browser]:
    yield browser
    assert browser.refused == []


@pytest.mark.browser
def test_the_chats_page_shows_its_last_state_without_script(quiet: Browser, chat: Path) -> None:
    page = quiet.new_page(javascript=False)
    page.goto(chat.as_uri())
    expect(page.locator("h1").first).to_have_text("A chat, cell by cell")
    for place in (0, 1):
        lines = page.frame_locator(".nbws-replay-snapshot").nth(place).locator("#lines li")
        expect(lines.nth(1)).to_have_text("Is anyone here?")
        expect(lines.nth(3)).to_have_text(re.compile("^Guest [0-9a-f]{4}: Did you see that"))
    page.context.close()


@pytest.mark.browser
def test_the_chats_page_is_clicked_through_from_a_file_over_the_swap(quiet: Browser, chat: Path) -> None:
    page = quiet.new_page()
    page.set_default_timeout(10_000)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: asked.append(str(error)))
    page.goto(chat.as_uri())
    step, count = page.locator(".nbws-replay-next"), page.locator(".nbws-replay-count")
    for said, shown in enumerate(
        ("0 of 4 said", "1 of 4 said, v1", "2 of 4 said, v1", "3 of 4 said, v2", "4 of 4 said, v2")
    ):
        step.click()
        expect(count).to_have_text(shown)
        if said < 4:
            expect(page.locator(".nbws-replay-note")).to_contain_text("Next, client")
    expect(page.locator(".nbws-replay-note")).to_have_text("That was all of it.")
    lines = page.frame_locator(".nbws-replay-frame").first.locator("#lines li")
    expect(lines).to_have_count(6)
    expect(lines.last).to_have_text(re.compile("^Guest [0-9a-f]{4} has left$"))
    assert [url for url in asked if not url.startswith(("file:", "about:", "data:"))] == []
    page.context.close()


@pytest.mark.browser
def test_its_colours_are_those_of_the_system_until_the_reader_says_otherwise(quiet: Browser, chat: Path) -> None:
    page = quiet.new_page(viewport=(360, 800))
    page.emulate_media(color_scheme="dark")
    page.goto(chat.as_uri())
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(20, 23, 28)"
    inside = page.frame_locator(".nbws-replay-snapshot").first.locator("html")
    expect(inside).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Colours: auto").click()
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    expect(inside).to_have_attribute("data-theme", "light")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.context.close()


def test_a_preview_with_no_recording_has_a_place_to_run_its_app(tmp_path: Path) -> None:
    path = saved(tmp_path, code("app", preview(path="/admin", clients=3)))
    here = RunHere("run-here/", "/* the script */", "/* the style */")
    page = render(documented(path, run=False, player=player, still=still), path, run_here=here).html
    assert re.search(r'class="nbws-run-here" hidden[^>]* data-app="0" data-path="/admin" data-clients="3"', page)
    assert "/* the script */" in page
    assert "Content-Security-Policy" not in page


def test_a_notebook_that_shows_no_preview_has_a_place_at_the_end(tmp_path: Path) -> None:
    path = saved(tmp_path, code("app = 1"))
    shown = documented(path, run=False, player=player, still=still)
    assert "nbws-run-here" not in render(shown, path).html
    assert 'class="nbws-run-here"' in render(shown, path, run_here=RunHere("run-here/", "", "")).html
