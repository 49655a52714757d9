"""What became of the apps of a notebook that is run as a test. Asked in its kernel, answered as JSON."""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

__all__ = ["apps", "look", "stop"]

_ERRORS = 5  #: told of at one look; the others are counted
_LINES = 60  #: of a transcript, the newest
_TEXT = 400  #: characters of a line
_TRACEBACK = 8000  #: characters

_told: set[str] = set()


def look(transcripts: bool = False) -> str:
    """{"errors": those of handlers that came since the last look and that nobody took out of `app.errors`,
    "more": how many more there were, "transcripts": what was said, where these are asked for}."""
    new = []
    for app in apps():
        for error in list(app.errors):
            if error.incident not in _told:
                _told.add(error.incident)
                new.append(error)
    new.sort(key=lambda error: error.time)
    found: dict[str, Any] = {"errors": [_error(each) for each in new[:_ERRORS]], "more": len(new[_ERRORS:])}
    if transcripts:
        found["transcripts"] = [_transcript(app) for app in apps() if app.log.lines]
    return json.dumps(found)


def stop() -> None:
    """Stop the apps, which lets calls in flight end, within 6 s for each; so their errors are known too."""
    for app in apps():
        app.stop()


def apps() -> list[Any]:
    """Those of this kernel, the one first on which something was said first."""
    module = sys.modules.get("nbws.notebook.kernel")
    notebook = module.Notebook.here() if module is not None else None
    found: list[Any] = list(notebook.cells.listeners) if notebook is not None else []
    return sorted(found, key=lambda app: app.log.lines[0].time if app.log.lines else 0.0)


def _error(error: Any) -> dict[str, Any]:
    count, line, source = _place(error.exception)
    return {
        "title": error.title,
        "message": error.message,
        "traceback": error.traceback[-_TRACEBACK:],
        "count": count,
        "line": line,
        "source": source,
    }


def _place(exception: BaseException) -> tuple[int | None, int | None, str]:
    """(execution count of the cell, line in it, that line) where the deepest frame of a cell's code has raised."""
    from nbws.notebook.kernel import Notebook

    notebook = Notebook.here()
    compiler = getattr(getattr(notebook, "shell", None), "compile", None)
    counts = getattr(compiler, "_filename_map", {})  # IPython names a cell's file, and keeps here which cell it is
    for frame in reversed(traceback.extract_tb(exception.__traceback__)):
        if frame.filename in counts:
            return counts[frame.filename], frame.lineno, frame.line or ""
    return None, None, ""


def _transcript(app: Any) -> dict[str, Any]:
    said = app.transcript()
    lines = [line if len(line) <= _TEXT else line[: _TEXT - 1] + "…" for line in repr(said).splitlines()]
    return {"app": app.name or "", "lines": lines[-_LINES:], "left_out": max(0, len(lines) - _LINES)}
