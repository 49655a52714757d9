"""Fixtures for tests that drive a browser, the driver of which is lab.py, and for those of each websocket class."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from kinds import KINDS, choose
from lab import Browser, CellSource, LabServer, Notebook, OpenNotebook, Viewport, find_chromium, write_nb


# Of module scope: while playwright's sync API runs, asyncio.run() fails in the main thread, so a browser
# must end before the next module's tests begin.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium. A module that uses it cannot call asyncio.run() in its main thread."""
    if find_chromium() is None:
        reason = "no Chromium, Chrome or Edge found; install one or name it in NBWS_CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """A JupyterLab on an empty directory."""
    with LabServer(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture
def notebook_in_lab(browser: Browser, lab: LabServer) -> Iterator[OpenNotebook]:
    """Opens notebooks in `lab`, or in *server*; at the end their pages close and their kernels end."""
    with ExitStack() as cleanup:

        def open_notebook(
            source: Sequence[CellSource] | Path,
            *,
            server: LabServer | None = None,
            viewport: Viewport | None = None,
        ) -> Notebook:
            server = server or lab
            path = new_path(server.root)
            if isinstance(source, Path):
                shutil.copy(source, path)
            else:
                write_nb(path, source)
            cleanup.callback(server.shut_down_kernel, path.name)
            return cleanup.enter_context(browser.open(server, path.name, viewport=viewport))

        yield open_notebook


@pytest.fixture(params=KINDS, scope="module")
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Whose websockets are served; a test that asks for it runs with each."""
    yield from served_by(request.param)


@pytest.fixture(params=["picows", "uvicorn"], scope="module")
def parser(request: pytest.FixtureRequest) -> Iterator[str]:
    """Who parses: `kind` without the one that goes from one to the other, where there are few messages."""
    yield from served_by(request.param)


def served_by(kind: str) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        choose(kind, patch)
        yield kind


def new_path(root: Path) -> Path:
    """A path in *root* that no notebook has had: Lab keeps state by path."""
    return next(path for n in count(1) if not (path := root / f"notebook-{n}.ipynb").exists())
