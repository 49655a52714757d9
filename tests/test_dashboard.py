"""The dashboard in a real JupyterLab: widgets of the notebook and pages of two visitors, each moving the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab import Browser, Notebook, OpenNotebook
from playwright.sync_api import Frame, Locator, expect

pytestmark = [pytest.mark.browser, pytest.mark.lab]

DASHBOARD = Path(__file__).parent.parent / "notebooks" / "05-dashboard.ipynb"
CELLS = [cell["id"] for cell in json.loads(DASHBOARD.read_text())["cells"]]
SHOWN = ("app", "widgets", "curve", "plot", "page", "style", "turn", "tell", "preview")


@pytest.fixture
def dashboard(notebook_in_lab: OpenNotebook) -> Notebook:
    notebook = notebook_in_lab(DASHBOARD)
    for name in SHOWN:
        notebook.run(CELLS.index(name))
    return notebook


def visitors(notebook: Notebook) -> list[Frame]:
    frames = [notebook.iframe(CELLS.index("preview"), number) for number in range(2)]
    for frame in frames:
        expect(frame.locator("#here")).to_have_text("2 here")
    return frames


def widget(notebook: Notebook) -> Locator:
    return notebook.cell(CELLS.index("widgets")).locator(".jp-OutputArea")


def test_a_page_turns_the_widget_and_the_other_page(dashboard: Notebook, browser: Browser) -> None:
    left, right = visitors(dashboard)
    expect(widget(dashboard)).to_contain_text("2 here")
    left.locator("#waves").focus()
    left.locator("#waves").press("End")
    expect(right.locator("#waves")).to_have_js_property("value", "6")
    expect(right.locator("#waves-is")).to_have_text("6.0")
    expect(left.locator("#waves-is")).to_have_text("6.0")
    expect(left.locator("#waves")).to_be_focused()  # it was not replaced under the hand
    expect(widget(dashboard).locator(".widget-readout").first).to_have_text("6.0")
    assert browser.refused == []
    assert [text for kind, text in dashboard.console if kind == "pageerror"] == []


def test_the_widget_turns_both_pages(dashboard: Notebook) -> None:
    readout = widget(dashboard).locator(".widget-readout").nth(1)
    frames = visitors(dashboard)
    readout.fill("0.3")
    readout.press("Enter")
    for frame in frames:
        expect(frame.locator("#height")).to_have_js_property("value", "0.3")
        expect(frame.locator("#height-is")).to_have_text("0.3")


def test_while_a_cell_runs_the_plot_goes_on_and_knobs_wait_for_it(dashboard: Notebook, tmp_path: Path) -> None:
    left, _ = visitors(dashboard)
    busy, end = CELLS.index("busy"), tmp_path / "end"
    wait = f"while not __import__('os').path.exists({str(end)!r}):\n    time.sleep(0.05)"
    dashboard.set_source(busy, f"print('runs', flush=True)\n{wait}\nprint('ended')")
    dashboard.start(busy)
    dashboard.text_until(busy, "runs")
    before = left.locator("#plot .line").get_attribute("d")
    left.locator("#waves").press("End")
    left.wait_for_function("before => document.querySelector('#plot .line').getAttribute('d') !== before", arg=before)
    assert left.locator("#waves-is").inner_text() == "2.0"
    end.touch()
    dashboard.text_until(busy, "ended")
    expect(left.locator("#waves-is")).to_have_text("6.0")


def test_the_wave_is_swapped_under_both(dashboard: Notebook) -> None:
    left, right = visitors(dashboard)
    dashboard.set_source(CELLS.index("square"), "def curve(x, t): return 0")
    dashboard.run(CELLS.index("square"))
    flat = "() => new Set(document.querySelector('#plot .line').getAttribute('d').match(/[\\d.]+(?=L|$)/g)).size === 1"
    for frame in (left, right):
        frame.wait_for_function(flat)
