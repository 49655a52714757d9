"""The notebook of the Game of Life in a real JupyterLab, played with the mouse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from lab import Browser, Notebook, OpenNotebook, Sockets
from playwright.sync_api import Frame, expect

pytestmark = [pytest.mark.browser, pytest.mark.lab]

LIFE = Path(__file__).parent.parent / "notebooks" / "03-game-of-life.ipynb"
CELLS = [cell["id"] for cell in json.loads(LIFE.read_text())["cells"]]
CODE = [cell["id"] for cell in json.loads(LIFE.read_text())["cells"] if cell["cell_type"] == "code"]
PREVIEW, RULE, COLOURS = (CELLS.index(name) for name in ("preview", "rule", "colours"))

DOTS = "() => [...document.querySelectorAll('#cells path')].map(p => p.getAttribute('d').split('h0').length - 1)"


def run_all(notebook: Notebook) -> Frame:
    """Run all its cells but the one that sets down gliders; gives the game's page."""
    for name in CODE:
        if name != "gliders":
            notebook.run(CELLS.index(name))
    frame = notebook.iframe(PREVIEW)
    expect(frame.locator("#you i")).to_have_class("p1")
    return frame


def press(frame: Frame, name: str) -> None:
    frame.get_by_role("button", name=name).click()


def swap(notebook: Notebook, cell: int, old: str, new: str) -> None:
    source = notebook.source(cell)
    assert old in source
    notebook.set_source(cell, source.replace(old, new))
    notebook.run(cell)


def draw(notebook: Notebook, frame: Frame, *places: tuple[float, float], steps: int = 10) -> None:
    """One stroke of the mouse, through *places*, in fractions of the board."""
    frame.locator("#board").scroll_into_view_if_needed()
    box: Any = frame.locator("#board").bounding_box()
    mouse = notebook.page.mouse
    for number, (x, y) in enumerate(places):
        mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=steps)
        if number == 0:
            mouse.down()
    mouse.up()


def at(x: int, y: int) -> tuple[float, float]:
    """The middle of a cell of the board."""
    return (x + 0.5) / 60, (y + 0.5) / 40


def dots(frame: Frame) -> int:
    return sum(frame.evaluate(DOTS))


def wait_for_dots(frame: Frame, condition: str) -> None:
    """Wait until *condition*, JavaScript of the number `n` of living cells, is true."""
    frame.wait_for_function(f"() => {{ const n = ({DOTS})().reduce((a, b) => a + b, 0); return {condition}; }}")


def test_the_mouse_draws_on_the_running_board_and_the_rule_is_swapped_under_it(
    notebook_in_lab: OpenNotebook, browser: Browser
) -> None:
    notebook = notebook_in_lab(LIFE)
    sockets = Sockets(notebook.page)
    frame = run_all(notebook)
    expect(frame.locator("#rule")).to_have_text("Life in colours")

    swap(notebook, RULE, '"Conway\'s Life", {3}, {2, 3}', '"Nothing dies", set(), set(range(9))')
    expect(frame.locator("#rule")).to_have_text("Nothing dies")
    press(frame, "Clear")
    wait_for_dots(frame, "n === 0")
    frame.evaluate("() => { window.swaps = 0; new MutationObserver(() => swaps++).observe(board, {childList: true}); }")
    draw(notebook, frame, at(6, 8), at(54, 8), at(54, 32), steps=40)
    frame.wait_for_function("() => document.querySelector('#cells').innerHTML.includes('M54 33h0')")
    stroke = {(x, 8) for x in range(6, 55)} | {(54, y) for y in range(8, 33)}
    drawn = len({(x + dx, y + dy) for x, y in stroke for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))})
    assert dots(frame) == drawn
    assert frame.evaluate("swaps") > 3, "the board was replaced under the pointer"

    swap(notebook, RULE, "Nothing dies", "Still nothing")
    expect(frame.locator("#rule")).to_have_text("Still nothing")
    assert dots(frame) == drawn, "the board outlives a swap"
    notebook.run(COLOURS)
    expect(frame.locator("#rule")).to_have_text("Life in colours")
    wait_for_dots(frame, f"n !== {drawn}")
    expect(frame.locator("#cells path")).to_have_class(["p1"])  # those born are of their parents' colour
    assert (sockets.opened, sockets.closed) == (1, 0)
    assert browser.refused == []
    assert [text for kind, text in notebook.console if kind == "pageerror"] == []


def test_two_players_draw_on_one_board_cell_by_cell_where_it_is_paused(notebook_in_lab: OpenNotebook) -> None:
    notebook = notebook_in_lab(LIFE)
    frame = run_all(notebook)
    press(frame, "Pause")
    press(frame, "Clear")
    expect(frame.get_by_role("button", name="Play")).to_be_visible()
    draw(notebook, frame, at(30, 20))
    wait_for_dots(frame, "n === 1")
    draw(notebook, frame, at(30, 20))
    wait_for_dots(frame, "n === 0")
    draw(notebook, frame, at(30, 5), at(70, 5), steps=1)
    wait_for_dots(frame, "n === 30")  # up to the edge, and not round it
    with notebook.page.context.expect_page() as opening:
        notebook.cell(PREVIEW).get_by_text("open in a tab").click()
    tab = opening.value
    expect(tab.locator("#you i")).to_have_class("p2")
    expect(frame.locator("#here")).to_have_text("2 here")
    tab.locator("#board").click()
    expect(frame.locator("#cells path")).to_have_class(["p1", "p2"])
    tab.close()
    expect(frame.locator("#here")).to_have_text("1 here")


def test_the_error_of_a_tick_is_listed_once_and_stays_open_and_dismissed(notebook_in_lab: OpenNotebook) -> None:
    notebook = notebook_in_lab(LIFE)
    run_all(notebook)
    swap(notebook, RULE, "(state):\n", "(state):\n    1 / 0\n")
    errors = notebook.cell(PREVIEW).locator(".nbws-errors")
    errors.locator("summary").click()
    expect(errors.locator("summary")).to_have_text(re.compile(r"ZeroDivisionError: division by zero \(\d+ times\)"))
    expect(errors.locator("pre")).to_be_visible()
    expect(errors).to_contain_text("1 error")
    assert notebook.text(RULE).count("Traceback") == 1
    errors.get_by_text("dismiss").click()
    swap(notebook, RULE, "1 / 0", "[][0]")
    expect(errors.locator("summary")).to_contain_text("IndexError")
    expect(errors.locator("summary")).to_have_count(1)
    expect(errors).to_contain_text("1 error")
