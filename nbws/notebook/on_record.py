"""The apps of a notebook that is run for its docs: all on record. Asked in its kernel, answered as JSON."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from nbws.notebook.checking import apps
from nbws.playback import Participant, Playback, without_own_script
from nbws.tape import documentation

__all__ = ["begin", "collect", "look_at_pages"]

_pages: dict[str, Playback] = {}


def begin() -> None:
    """Before the first cell: what clients do to any app from now on is recorded."""
    documentation.is_made = True


def look_at_pages() -> None:
    """After the last cell, while the apps still serve: the pages that previews show where nobody has opened them."""
    for app in apps():
        for path in app.previewed:
            with contextlib.suppress(Exception):  # a page that is not there has been reported where it was shown
                page = app.client(sync=True).get(path)
                if page.status_code == 200:
                    client = Participant("client 1", path, without_own_script(page.text))
                    _pages[f"{app.number} {path}"] = Playback((client,), (), app.options.title)


def collect() -> str:
    """{"recordings": [{"app", "name" (None for all that was said), "session"}], "pages": [{"app", "path", "session"}],
    "secrets": what may stand in no output}. Sessions are texts, see `Playback.loads`."""
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
    found: dict[str, Any] = {"recordings": recordings, "pages": pages, "secrets": sorted(secrets)}
    return json.dumps(found)
