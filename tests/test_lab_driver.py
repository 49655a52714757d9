"""What the lab tests lean on: the driver of lab.py, seen at work."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from lab import Browser, LabError, LabServer, OpenNotebook, write_nb

pytestmark = pytest.mark.lab

SERVE_A_PAGE = """
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from IPython.display import IFrame

class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Type', 'text/html')
        self.end_headers()
        self.wfile.write(b'<p id="inner">inside</p>')

server = HTTPServer(('127.0.0.1', 0), Page)
Thread(target=server.serve_forever, daemon=True).start()
IFrame(f'http://127.0.0.1:{server.server_port}/', 300, 80)
"""


def test_a_cell_runs_and_a_restart_forgets_what_it_set(notebook_in_lab: OpenNotebook) -> None:
    nb = notebook_in_lab(["x = 6 * 7; print('x is', x)", "x", ("md", "# Title")])
    nb.run(0)
    assert nb.text_until(0, "x is 42") == "x is 42\n"
    assert nb.run(1) == "42"
    assert nb.cell(2).inner_text().startswith("Title")

    nb.restart_kernel()
    assert nb.run(1).startswith("NameError: name 'x' is not defined")
    nb.type_source(1, "x = 1")
    nb.run_keys(1)
    nb.restart_ui()
    assert nb.run(nb.add("x")).startswith("NameError")


def test_a_tab_closed_and_reopened_is_on_the_same_kernel(notebook_in_lab: OpenNotebook) -> None:
    nb = notebook_in_lab(["x = 'still here'", "x"])
    nb.run(0)
    nb.close_tab()
    nb.reopen()
    assert nb.run(1) == "'still here'"


def test_the_frame_in_an_output_can_be_read(notebook_in_lab: OpenNotebook) -> None:
    nb = notebook_in_lab([SERVE_A_PAGE])
    nb.run(0)
    assert nb.iframe(0).locator("#inner").inner_text() == "inside"


def test_dark_theme_and_hostname_reach_the_browser(browser: Browser, tmp_path: Path) -> None:
    write_nb(tmp_path / "a.ipynb", ["1 + 1"])
    with (
        LabServer(tmp_path, hostname="localhost", dark=True) as server,
        browser.open(server, "a.ipynb", viewport=(700, 500)) as nb,
    ):
        assert nb.page.locator("body").get_attribute("data-jp-theme-name") == "JupyterLab Dark"
        assert nb.page.evaluate("() => [location.hostname, innerWidth]") == ["localhost", 700]


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    server = LabServer(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        with pytest.raises(LabError, match="already in use"), server:
            pass
