"""Takes the picture of the home page: a cell that is run again under a chat, in a real JupyterLab, in both themes.

    python docs/_ext/picture.py          writes docs/preview-light.png and docs/preview-dark.png

It needs what the browser tests need: `pip install '.[dev]'` and a Chromium.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parents[1]
sys.path[:0] = [str(DOCS.parent / "tests"), str(DOCS.parent)]

from lab import Browser, LabServer, write_nb  # noqa: E402

CELLS = [
    """\
from nbws.common import *

app, lines = App(title="Chat"), []

@app.get("/")
def index():
    return Titled("Chat",
        Ul(*lines, id="lines"),
        Form(Input(id="text", placeholder="Say something", autocomplete="off"), ws_send=True),
        hx_ext="ws", ws_connect="/chat")

def joined(ws):
    ws.state.name = "Ada"

@app.ws("/chat", conn=joined)
async def chat(text: str, ws):
    lines.append(Li(text))
    app.broadcast(Ul(*lines, id="lines"))""",
    "app",
    """\
@app.ws("/chat", conn=joined)
async def chat(text: str, ws):
    lines.append(Li(Strong(ws.state.name), ": ", text))      # it says who speaks, now
    app.broadcast(Ul(*lines, id="lines"))""",
]
WIDTH = 760
TYPED = "…and I was just typing"
_MARGIN = 3


def main() -> None:
    for theme in ("light", "dark"):
        with tempfile.TemporaryDirectory() as folder:
            write_nb(Path(folder) / "chat.ipynb", CELLS)
            take(Path(folder), theme, DOCS / f"preview-{theme}.png")


def take(folder: Path, theme: str, target: Path) -> None:
    with (
        LabServer(folder, dark=theme == "dark") as server,
        Browser(viewport=(WIDTH + 60, 1400)) as browser,
        browser.open(server, "chat.ipynb") as notebook,
    ):
        notebook.command("application:toggle-left-area")
        notebook.command("application:toggle-side-tabbar", {"side": "left"})
        notebook.command("application:toggle-side-tabbar", {"side": "right"})
        for cell in (0, 1):
            notebook.run(cell)
        page = notebook.iframe(1)
        page.wait_for_selector("#text")
        for said in ("Is anybody here?", "Now I run the cell below again"):
            page.fill("#text", said)
            page.press("#text", "Enter")
            page.wait_for_selector(f"li:has-text('{said}')")
        notebook.run(2)
        page.fill("#text", "It says who speaks, and nobody was disconnected")
        page.press("#text", "Enter")
        page.wait_for_selector("li:has-text('Ada')")
        page.fill("#text", TYPED)
        notebook.page.wait_for_selector(".nbws-version:has-text('v2')")
        notebook.page.wait_for_timeout(1000)  # no event tells when a frame has been painted
        top, bottom = (notebook.cell(each).bounding_box() for each in (1, 2))
        assert top is not None
        assert bottom is not None
        height = bottom["y"] + bottom["height"] - top["y"]
        clip = {"x": top["x"], "y": top["y"] - _MARGIN, "width": top["width"], "height": height + 2 * _MARGIN}
        notebook.page.screenshot(path=target, clip=clip)  # type: ignore[arg-type]
        print(f"{target}: {target.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
