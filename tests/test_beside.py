"""A preview in a tab beside its notebook, in a real JupyterLab that has no more than what the package brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab import Notebook, OpenNotebook
from playwright.sync_api import FrameLocator, Locator, expect

pytestmark = [pytest.mark.browser, pytest.mark.lab]

CHAT = Path(__file__).parent.parent / "notebooks" / "01-chat.ipynb"
APP, PAGE, HANDLER, PREVIEW = 2, 4, 6, 8


@pytest.fixture
def chat(notebook_in_lab: OpenNotebook) -> Notebook:
    notebook = notebook_in_lab(CHAT)
    for cell in (APP, PAGE, HANDLER, PREVIEW):
        notebook.run(cell)
    return notebook


def button(notebook: Notebook) -> Locator:
    return notebook.cell(PREVIEW).get_by_role("button", name="beside")


def view(notebook: Notebook) -> Locator:
    return notebook.page.locator(".nbws-view")


def framed(notebook: Notebook) -> FrameLocator:
    return view(notebook).frame_locator("iframe")


def box(locator: Locator) -> Any:
    return locator.bounding_box()


def test_one_click_opens_it_to_the_right_and_the_notebook_stays_the_one_that_is_worked_in(chat: Notebook) -> None:
    button(chat).click()
    expect(framed(chat).locator("#text")).to_be_visible()
    assert box(view(chat))["x"] > box(chat.page.locator(".jp-NotebookPanel"))["x"] + 100
    assert chat.page.evaluate("window.jupyterapp.shell.currentWidget === __nb() && !!__nb().content.widgets")
    expect(chat.page.get_by_role("tab", name="Preview of /")).to_be_visible()
    expect(view(chat).locator(".nbws-state")).to_have_text("connected")
    expect(view(chat).get_by_role("button", name="beside")).to_be_hidden()
    button(chat).click()
    expect(view(chat)).to_have_count(1)


def test_it_stays_over_swaps_and_over_a_re_run_of_its_own_cell_and_after_a_restart(chat: Notebook) -> None:
    button(chat).click()
    framed(chat).locator("#text").fill("half a message")
    chat.set_source(HANDLER, chat.source(HANDLER).replace("Li(text)", 'Li("new: ", text)'))
    chat.run(HANDLER)
    framed(chat).locator("#text").press("Enter")
    expect(framed(chat).locator("#lines li").last).to_have_text("new: half a message")
    chat.run(PREVIEW)
    expect(view(chat).locator(".nbws-state")).to_have_text("connected")
    framed(chat).locator("#text").fill("after a re-run")
    framed(chat).locator("#text").press("Enter")
    expect(framed(chat).locator("#lines li").last).to_have_text("new: after a re-run")
    chat.restart_kernel()
    for cell in (APP, PAGE, HANDLER, PREVIEW):
        chat.run(cell)
    expect(view(chat).locator(".nbws-state")).to_have_text("connected")
    expect(view(chat)).to_have_count(1)


def test_it_closes_with_its_notebook_and_can_be_opened_again_when_it_was_closed(chat: Notebook) -> None:
    button(chat).click()
    expect(view(chat)).to_have_count(1)
    tab = chat.page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab").filter(has_text="Preview of /")
    tab.locator(".lm-TabBar-tabCloseIcon").click()
    expect(view(chat)).to_have_count(0)
    button(chat).click()
    expect(view(chat)).to_have_count(1)
    chat.close_tab()
    expect(view(chat)).to_have_count(0)


def test_jupyterlabs_own_view_of_the_output_stays_over_a_re_run_too(chat: Notebook) -> None:
    chat.cell(PREVIEW).locator(".nbws-path").click(button="right")
    chat.page.get_by_role("menuitem", name="Create New View for Cell Output").click()
    below = chat.page.locator(".jp-LinkedOutputView")
    expect(below.get_by_role("button", name="beside")).to_be_hidden()
    expect(below.locator(".nbws-state")).to_have_text("connected")
    chat.run(PREVIEW)
    expect(below.locator(".nbws-state")).to_have_text("connected")
    below.frame_locator("iframe").locator("#text").fill("below")
    below.frame_locator("iframe").locator("#text").press("Enter")
    expect(below.frame_locator("iframe").locator("#lines li").last).to_have_text("below")
