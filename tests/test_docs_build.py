"""The documentation as built pages: nothing is warned about, everything is in it, and it needs no network."""

from __future__ import annotations

import dataclasses
import runpy
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Literal

import pytest
from lab import Browser

import nbws
import nbws.common
from nbws.app import App
from nbws.cli import main
from nbws.connection import Connection
from nbws.dispatch import HandlerError
from nbws.endpoints import Endpoint
from nbws.handlers import Version
from nbws.limits import Limits
from nbws.options import Options
from nbws.tape import Tape
from nbws.testing import Answer, BlockingClient, BlockingVisitor, Client, Visitor
from nbws.transcript import Line, Transcript

pytest.importorskip("sphinx")
pytest.importorskip("furo")

pytestmark = pytest.mark.timeout(300)  # the first test waits for the build, which runs the notebooks

ROOT = Path(__file__).parent.parent
LINKS = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "_ext" / "links.py")))

# What other modules ask of these two; an author has no use for them. A new public name is described, or listed here.
APPS_OWN = set(
    """
admit become bound_before check_run dismiss_clients forget hear hook in_thread inspect is_authors loop_for
mention_restart on_problem panel_key point_at policy recorded_messages redacted replay report retire retry
roll_back run_begins run_ends secret_key serving serving_loop shown_paths startup_table take_over tell_of_blocked
visits works
""".split()
)
CONNECTIONS_OWN = set(
    """
drained drained_from_thread end flushed is_above_high_water is_ending keep key leave_off log look_again look_at offer
on_closing on_new_version on_pin park pin poke poked record release reply send_here send_now sent sent_so_far shadow
unpark wait_for write
""".split()
)
TAPES_OWN = {"connects", "has_page_for", "hears", "playback", "secrets", "serves", "take"}
VERSIONS_OWN = {"definition", "has_failed", "take", "target"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built once. What Sphinx warns about fails the build, and is shown."""
    out = tmp_path_factory.mktemp("docs") / "html"
    flags = ["--fail-on-warning", "--keep-going", "--quiet", "-d", str(out.with_name("doctrees"))]
    command = [sys.executable, "-m", "sphinx", *flags, str(ROOT / "docs"), str(out)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stdout + result.stderr
    return out


@pytest.fixture(scope="module")
def described(built: Path) -> set[str]:
    """The full names of all that has an entry in the reference."""
    from sphinx.util.inventory import InventoryFile

    inventory = InventoryFile.loads((built / "objects.inv").read_bytes(), uri="").data
    return {name for kind, found in inventory.items() if kind.startswith("py:") for name in found}


def public(cls: type) -> Iterator[str]:
    fields = [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
    yield from (name for name in {*dir(cls), *fields} if not name.startswith("_"))


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(built: Path) -> None:
    assert LINKS.problems(built) == []


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<a href="gone.html">', "leads to gone.html, which is not there"),
        ('<a href="#gone">', "leads to #gone, and there is no such place in that page"),
        ('<a href="index.html#gone">', "leads to index.html#gone, and there is no such place in that page"),
        ('<img src="gone.png">', "leads to gone.png, which is not there"),
        ('<script src="https://cdn.example/x.js">', "loads https://cdn.example/x.js"),
        ('<link rel="stylesheet" href="//cdn.example/x.css">', "loads //cdn.example/x.css"),
        ("<style>@import 'https://cdn.example/x.css'</style>", "loads https://cdn.example/x.css"),
        ('<p style="background: url(https://cdn.example/x.png)">', "loads https://cdn.example/x.png"),
        ('<iframe srcdoc="&lt;img src=http://cdn.example/x.png&gt;">', "loads http://cdn.example/x.png"),
    ],
)
def test_a_page_that_leads_nowhere_or_loads_from_elsewhere_is_named(tmp_path: Path, html: str, problem: str) -> None:
    (tmp_path / "index.html").write_text(html)
    assert LINKS.problems(tmp_path) == [f"index.html {problem}"]


def test_links_within_a_page_and_to_others_are_right(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<a href="other.html#a%20b"><a href="#x" id="x"><a href="https://x.example">')
    (tmp_path / "other.html").write_text('<p id="a b"><a href="./index.html"><img src="data:image/gif;base64,R0">')
    assert LINKS.problems(tmp_path) == []
    assert LINKS.elsewhere(tmp_path) == ["https://x.example"]


def test_the_search_has_an_index(built: Path) -> None:
    index = (built / "searchindex.js").read_text()
    assert "Search.setIndex(" in index
    assert "hot-swap" in index


@pytest.fixture
def site(built: Path) -> Iterator[str]:
    """The address of the pages, served as plain files."""

    class Files(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(built))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.browser
def test_a_search_finds_a_name_and_leads_to_it(site: str, browser: Browser) -> None:
    page, refused, problems = browser.new_page(), len(browser.refused), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("response", lambda response: problems.append(response.url) if response.status >= 400 else None)
    page.goto(f"{site}/index.html")
    page.fill(".sidebar-search", "rollback")
    page.press(".sidebar-search", "Enter")
    page.click("#search-results a:has-text('Endpoint.rollback')")
    page.wait_for_selector("h1:has-text('Endpoints and versions')")
    assert page.url.endswith("reference/endpoints.html#nbws.endpoints.Endpoint.rollback")
    page.context.close()
    assert (problems, browser.refused[refused:]) == ([], [])


@pytest.mark.browser
def test_no_page_is_wider_than_a_phone(site: str, browser: Browser, built: Path) -> None:
    page, wide = browser.new_page(viewport=(390, 844)), []
    for path in sorted(built.rglob("*.html")):
        page.goto(f"{site}/{path.relative_to(built).as_posix()}", wait_until="domcontentloaded")
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(path.name)
    page.context.close()
    assert wide == []


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_picture_of_the_home_page_is_that_of_the_theme(
    site: str, browser: Browser, theme: Literal["light", "dark"]
) -> None:
    page = browser.new_page()
    page.emulate_media(color_scheme=theme)
    page.goto(f"{site}/index.html")
    shown = [image for image in ("light", "dark") if page.is_visible(f"img[src*=preview-{image}]")]
    page.context.close()
    assert shown == [theme]


def test_every_public_name_of_the_package_is_in_the_reference(described: set[str]) -> None:
    names = set(nbws.__all__) - {"__version__"}
    assert {name for name in names if f"nbws.{name}" not in described} == set()


def test_every_name_of_the_vocabulary_is_in_the_reference(built: Path, described: set[str]) -> None:
    page = (built / "reference" / "common.html").read_text()
    for name in nbws.common.__all__:
        is_listed = f'<span class="pre">{name}</span>' in page
        assert is_listed or f"nbws.common.{name}" in described or name == "MAKERS", name


@pytest.mark.parametrize(
    ("cls", "name", "own"),
    [
        (App, "nbws.App", APPS_OWN),
        (Connection, "nbws.Connection", CONNECTIONS_OWN),
        (Endpoint, "nbws.endpoints.Endpoint", set()),
        (Version, "nbws.handlers.Version", VERSIONS_OWN),
        (Limits, "nbws.Limits", set()),
        (Client, "nbws.testing.Client", set()),
        (Visitor, "nbws.testing.Visitor", set()),
        (BlockingClient, "nbws.testing.BlockingClient", set()),
        (BlockingVisitor, "nbws.testing.BlockingVisitor", set()),
        (Answer, "nbws.testing.Answer", set()),
        (Tape, "nbws.tape.Tape", TAPES_OWN),
        (Transcript, "nbws.transcript.Transcript", {"count", "index"}),
        (HandlerError, "nbws.dispatch.HandlerError", set()),
        (Line, "nbws.transcript.Line", set()),
    ],
)
def test_every_public_member_is_in_the_reference(described: set[str], cls: type, name: str, own: set[str]) -> None:
    assert {member for member in public(cls) if f"{name}.{member}" not in described} - own == set()
    assert own <= set(public(cls)), "what is no more need not be listed"


def test_every_option_of_an_app_is_in_the_reference_with_what_it_means(built: Path) -> None:
    page = (built / "reference" / "app.html").read_text()
    for field in dataclasses.fields(Options):
        anchor = f'id="option-{field.name.replace("_", "-")}"'
        assert anchor in page, field.name
        entry = page.partition(anchor)[2].partition("</dd>")[0]
        assert "<dd><p>" in entry, field.name
        assert field.name in entry


def test_every_command_is_in_the_reference_with_its_help(built: Path) -> None:
    page = (built / "reference" / "command-line.html").read_text()
    for name, command in main.commands.items():
        assert f'id="nbws-{name}"' in page
        for option in command.params:
            assert all(each in page for each in option.opts if each.startswith("--")), option.name
