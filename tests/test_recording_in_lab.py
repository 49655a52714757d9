"""A session that its author records in JupyterLab, in previews beside each other, and the page that plays it."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs_made import nbws_docs
from lab import Browser, LabServer, OpenNotebook
from playwright.sync_api import expect

from nbws.playback import Playback

pytestmark = [pytest.mark.browser, pytest.mark.lab]

CELLS = [
    """from nbws.common import *
app = App("recorded", title="Recorded")
@app.get("/")
def index():
    return Titled("Recorded", P("nothing yet", id="said"),
        Form(Input(id="text"), Input(name="password", type="password"), Button("Say"), ws_send=True),
        hx_ext="ws", ws_connect="/ws")
@app.ws("/ws")
async def say(text: str, password: str = ""):
    app.broadcast(P(text, " ", password, id="said"))""",
    """recording = app.record("session")
app.preview(clients=2, recording="session")""",
    "recording.save()\nrecording",
]


def test_what_the_author_does_in_two_previews_is_saved_beside_the_notebook_and_played(
    notebook_in_lab: OpenNotebook, lab: LabServer, browser: Browser, tmp_path: Path
) -> None:
    notebook = notebook_in_lab(CELLS)
    for cell in (0, 1):
        notebook.run(cell)
    one, two = notebook.iframe(1, 0), notebook.iframe(1, 1)
    for frame in (one, two):
        expect(frame.locator("#said")).to_have_text("nothing yet")
    output = notebook.cell(1)
    for place in (0, 1):
        expect(output.locator(".nbws-state").nth(place)).to_have_text("connected")
    one.fill("[name=password]", "pass-canary")
    one.fill("#text", "from the first")
    one.press("#text", "Enter")
    expect(two.locator("#said")).to_have_text("from the first pass-canary")
    two.fill("#text", "from the second")
    two.press("#text", "Enter")
    expect(one.locator("#said")).to_have_text("from the second ")
    assert "2 clients, 2 messages" in notebook.run(2)
    notebook.save()

    folder = lab.root
    text = (folder / "session.replay.json").read_text(encoding="utf-8")
    session = Playback.loads(text)
    assert [each.path for each in session.clients] == ["/", "/"]
    assert all("nothing yet" in (each.page or "") for each in session.clients)
    assert [each.data for each in session.entries if each.kind == "received"] == [
        '{"text": "from the first", "password": "(redacted)"}',
        '{"text": "from the second", "password": "(redacted)"}',
    ]
    cookies = [each["value"] for each in notebook.page.context.cookies()]
    assert len(cookies) > 2
    for secret in ("canary", "ticket", *cookies):
        assert secret not in text

    done = nbws_docs(folder, notebook.path, "--no-run", "-o", str(tmp_path / "page.html"))
    assert done.returncode == 0, done.stderr
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    for place in (0, 1):
        last = page.frame_locator(".nbws-replay-snapshot").nth(place).locator("#said")
        expect(last).to_have_text("from the second ")
    page.get_by_label("Speed").select_option("Infinity")
    page.get_by_role("button", name="Play the recording").click()
    expect(page.locator(".nbws-replay-note")).to_have_text("That was all of it.")
    expect(page.frame_locator(".nbws-replay-frame").first.locator("#said")).to_have_text("from the second ")
    for secret in ("canary", "ticket", *cookies):
        assert secret not in page.content()
    page.context.close()
