"""The apps of a notebook that is run for its docs: all on record. Asked in its kernel, answered as JSON."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

from nbws.notebook.checking import apps
from nbws.playback import Participant, Playback, without_own_script
from nbws.tape import documentation

__all__ = ["begin", "collect", "look_at_pages"]

_FILE_BYTES, _FILES_BYTES = 512 * 1024, 4 * 1024 * 1024  #: of one file that pages load, and of all of an app

_pages: dict[str, Playback] = {}
_files: dict[str, dict[str, str]] = {}


def begin() -> None:
    """Before the first cell: what clients do to any app from now on is recorded."""
    documentation.begin()


def look_at_pages() -> None:
    """After the last cell, while the apps still serve: pages that nobody has opened, and the files that pages load."""
    for app in apps():
        for path in app.previewed:
            with contextlib.suppress(Exception):  # a page that is not there has been reported where it was shown
                page = app.client(sync=True).get(path)
                if page.status_code == 200:
                    client = Participant("client 1", path, without_own_script(page.text))
                    _pages[f"{app.number} {path}"] = Playback((client,), (), app.options.title)
        sessions = [tape.playback() for tape in app.tapes]
        sessions += [page for key, page in _pages.items() if key.startswith(f"{app.number} ")]
        addresses = sorted({address for session in sessions for address in session.files()})
        _files[str(app.number)] = _fetched(app, addresses) if addresses else {}


def _fetched(app: Any, addresses: list[str]) -> dict[str, str]:
    """Those files of *addresses* that the app serves, as data URLs: where no secret is in them, and there is room."""
    found: dict[str, str] = {}
    left = _FILES_BYTES
    client = app.client(sync=True)
    secrets = [each.encode() for tape in app.tapes for each in tape.secrets if len(each) > 3]
    for address in addresses:
        with contextlib.suppress(Exception):
            answer = client.get(address)
            size = len(answer.content)
            if any(secret in answer.content for secret in secrets):
                continue
            if answer.status_code == 200 and size <= min(_FILE_BYTES, left):
                kind = answer.headers.get("content-type", "application/octet-stream").replace(" ", "")
                found[address] = f"data:{kind};base64,{base64.b64encode(answer.content).decode()}"
                left -= size
    return found


def collect() -> str:
    """What a page of docs is made of, by app: the recordings, and that of all that was said, whose name is None; pages
    that previews show; files, by their address; and the secrets that may stand in no output. Sessions are as `dumps`
    writes them."""
    recordings, secrets = [], set()
    for app in apps():
        for tape in app.tapes:
            secrets |= tape.secrets
            session = tape.playback()
            if session.entries:
                recordings.append({"app": str(app.number), "name": tape.name, "session": session.dumps()})
    pages = []
    for key, page in _pages.items():
        number, _, path = key.partition(" ")
        pages.append({"app": number, "path": path, "session": page.dumps()})
    found: dict[str, Any] = {"recordings": recordings, "pages": pages, "files": _files, "secrets": sorted(secrets)}
    return json.dumps(found)
