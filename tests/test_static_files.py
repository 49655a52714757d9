"""Web files of a folder, and nothing else of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from nbws.static_files import WebFiles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A notebook's folder, with a secret beside it."""
    folder = tmp_path / "work"
    for name in (
        "a.css",
        "UPPER.PNG",
        "sub/b.js",
        "notebook.ipynb",
        "app.py",
        "data.csv",
        "users.db",
        "key.pem",
        "noending",
        ".env",
        ".hidden.css",
        ".git/c.css",
        "page.html",
        "css",
        "trap.css/inner.py",
    ):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"content of {name}")
    (tmp_path / "secret.css").write_text("secret")
    return folder


def fetched(files: WebFiles, path: str) -> tuple[int, str]:
    """(status, body) of a GET of *path*, decoded as a server hands it on."""
    sent: list[dict[str, Any]] = []

    async def get() -> None:
        async def receive() -> dict[str, Any]:
            raise AssertionError("nothing is read from a client that asks for a file")

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
        scope["asgi"] = {"spec_version": "2.4"}  # older ones wait for the client to go
        await files(scope, receive, send)

    try:
        asyncio.run(get())
    except HTTPException as refused:
        return refused.status_code, ""
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:]).decode()


@pytest.mark.parametrize("name", ["a.css", "UPPER.PNG", "sub/b.js"])
def test_a_web_file_is_served(folder: Path, name: str) -> None:
    assert fetched(WebFiles(folder), f"/{name}") == (200, f"content of {name}")


@pytest.mark.parametrize(
    "name",
    """
notebook.ipynb app.py data.csv users.db key.pem noending .env .hidden.css .git/c.css css sub trap.css/inner.py
""".split(),
)
def test_notebooks_sources_data_and_dot_files_are_not_there(folder: Path, name: str) -> None:
    assert fetched(WebFiles(folder), f"/{name}") == (404, "")


@pytest.mark.parametrize("path", ["/../secret.css", "//../secret.css", "/sub/../../secret.css", "/..\\secret.css"])
def test_nothing_outside_the_folder_is_there(folder: Path, path: str) -> None:
    assert fetched(WebFiles(folder), path) == (404, "")


def test_the_folder_itself_is_not_there(folder: Path) -> None:
    assert fetched(WebFiles(folder), "/") == (404, "")


def test_a_link_to_a_file_outside_the_folder_is_not_there(folder: Path) -> None:
    (folder / "link.css").symlink_to(folder.parent / "secret.css")
    assert fetched(WebFiles(folder), "/link.css") == (404, "")


def test_a_file_that_does_not_exist_is_not_there(folder: Path) -> None:
    assert fetched(WebFiles(folder), "/nothing.css") == (404, "")
    assert fetched(WebFiles(folder), "/trap.css") == (404, "")


def test_a_folder_that_does_not_exist_has_no_files(tmp_path: Path) -> None:
    assert fetched(WebFiles(tmp_path / "nowhere"), "/a.css") == (404, "")


def test_an_author_may_name_other_endings(folder: Path) -> None:
    files = WebFiles(folder, frozenset(["csv"]))
    assert fetched(files, "/data.csv") == (200, "content of data.csv")
    assert fetched(files, "/a.css") == (404, "")


def test_a_websocket_is_refused(folder: Path) -> None:
    sent: list[Any] = []

    async def connect() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await WebFiles(folder)({"type": "websocket", "path": "/a.css", "root_path": "", "headers": []}, receive, send)

    asyncio.run(connect())
    assert sent == ["websocket.close"]
