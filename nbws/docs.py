"""A notebook as it stands in documentation: run from top to bottom, a recorded session in the place of each preview."""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbws.errors import NbwsError
from nbws.notebook.file import Cell, cells_in, is_skipped, text_of
from nbws.notebook.preview import MIME
from nbws.playback import SUFFIX, Playback, cleaned

__all__ = ["DocsError", "Shown", "cells_of", "check_installed", "documented", "shown_source"]

_MODULES = ("selectolax", "nbclient", "markdown_it", "mdit_py_plugins", "pygments")  # of the extra docs
_KERNEL = "__import__('importlib').import_module('nbws.notebook.on_record')"

_DIRECTIVE = re.compile(r"\s*#\s*\|\s*([\w-]+)\s*:?\s*(.*?)\s*$")
_EXPORTING = frozenset(
    ("default_exp", "export", "exports", "exporti", "exec_doc")
)  # these say what becomes of the code
_WIDGET = "application/vnd.jupyter.widget-view+json"
_TICKET = re.compile(r"[?&]nbws-ticket=[\w-]+")
_LINK = re.compile(r'<a href="http://[^"]*nbws-ticket=[^"]*"[^>]*>[^<]*</a>')


class DocsError(NbwsError):
    """A notebook of which no docs can be made: it does not run, or names a recording that is not there."""


@dataclass(frozen=True)
class Shown:
    """How a cell is shown."""

    source: str  #: without the directives that are about showing it
    removes: frozenset[str] = field(default=frozenset())  #: of "cell", "input" and "output"


@dataclass(frozen=True)
class _Recording:
    app: str
    name: str | None
    session: Playback


@dataclass(frozen=True)
class _Made:
    """What running a notebook has brought for its previews."""

    recordings: Sequence[_Recording] = ()
    pages: Sequence[tuple[str, str, Playback]] = ()  #: app, path, the page as it was served in the end
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  #: by app: address -> data URL
    clean: Callable[[str], str] = str


def check_installed(what: str) -> None:
    """Raises NbwsError where what docs are made with is not installed."""
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if missing:
        name = missing[0].replace("_", "-")
        raise NbwsError(f"{what} needs {name}, which is not installed here; pip install 'nbws[docs]' installs it")


def documented(
    path: Path,
    text: str | None = None,
    *,
    run: bool = True,
    cell_seconds: int | None = 120,
    player: Callable[[Playback, Mapping[str, Any]], str],
    still: Callable[[str, Mapping[str, Any]], str],
    begins: Callable[[Cell], None] = lambda cell: None,
) -> dict[str, Any]:
    """The notebook at *path*, or its *text*, as nbformat has it, for a page: with outputs, and without directives.

    With *run* its cells are run in a kernel of their own, unless its front matter says `skip_exec: true`; else the
    outputs are those that are saved in it. None in *cell_seconds* lets a cell take any time. *player* makes the HTML
    that stands in the place of a preview, *still* that of a preview of which nothing is known. Cells that are hidden
    are left out.
    Raises DocsError for a cell or a handler that fails, and for a recording that is named and not there.
    """
    text = text if text is not None else path.read_text(encoding="utf-8")
    cells = cells_of(path, text)
    notebook = json.loads(text)
    run = run and not is_skipped(text)
    made = _Made()
    coded = [cell for cell in notebook["cells"] if cell.get("cell_type") == "code"]
    if run:
        by_number = {cell.number: cell for cell in cells}
        made, outputs, counts = _run(path, cells, cell_seconds, begins)
        for number, cell in enumerate(coded, 1):
            id = by_number[number].id if number in by_number else ""
            cell["outputs"], cell["execution_count"] = outputs.get(id, []), counts.get(id)
    shown = []
    for cell in notebook["cells"]:
        looks = shown_source(text_of(cell.get("source")), cell.get("metadata", {}).get("tags", ()))
        if cell.get("cell_type") != "code":
            shown += [] if "cell" in looks.removes else [cell]
            continue
        outputs_of = [_told(each, path, made, player, still) for each in cell.get("outputs", ())]
        _show(cell, looks, [each for each in outputs_of if each is not None])
        shown += [] if "cell" in looks.removes or not (looks.source.strip() or cell["outputs"]) else [cell]
    return {**notebook, "cells": shown}


def cells_of(path: Path, text: str | None = None) -> list[Cell]:
    """The cells of the notebook at *path*, or of its *text*, that are to be run. Raises DocsError for what is none."""
    try:
        return cells_in(text if text is not None else path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise DocsError(f"{path.name} is no notebook: {exc}") from exc


def shown_source(source: str, tags: Sequence[str] = ()) -> Shown:
    """How a cell with this *source* and these *tags* is shown, by the directives of nbdev and the tags of Jupyter Book.

    What says that a cell is exported stays to be seen, since that is about the program.
    """
    lines, removes = source.splitlines(), set()
    kept: list[str] = []
    for number, line in enumerate(lines):
        found = _DIRECTIVE.fullmatch(line)
        if found is None:
            if line.strip():
                kept += lines[number:]
                break
            continue
        name, value = found[1].replace("-", "_"), found[2].lower()
        if name in _EXPORTING:
            kept.append(line)
        elif name == "hide" or (name == "include" and value == "false"):
            removes.add("cell")
        elif name == "hide_input" or (name == "echo" and value == "false"):
            removes.add("input")
        elif name == "hide_output" or (name == "output" and value == "false"):
            removes.add("output")
    removes |= {part for part in ("cell", "input", "output") if f"remove-{part}" in tags}
    return Shown("\n".join(kept), frozenset(removes))


def _show(cell: dict[str, Any], looks: Shown, outputs: list[Any]) -> None:
    metadata = cell["metadata"] = dict(cell.get("metadata", {}))
    cell["source"] = looks.source
    cell["outputs"] = [] if "output" in looks.removes else outputs
    if "input" in looks.removes:
        metadata["tags"] = [*metadata.get("tags", ()), *({"remove-input"} - set(metadata.get("tags", ())))]


# -- running it


def _run(
    path: Path, cells: Sequence[Cell], cell_seconds: int | None, begins: Callable[[Cell], None]
) -> tuple[_Made, dict[str, list[Any]], dict[str, int]]:
    from nbws.notebook.headless import NotebookFailure, run_notebook

    try:
        ran = asyncio.run(
            run_notebook(
                path.absolute(),
                cells,
                cell_seconds=cell_seconds,
                before=f"{_KERNEL}.begin()",
                after=f"{_KERNEL}.look_at_pages()",
                ask=f"{_KERNEL}.collect()",
                begins=begins,
            )
        )
    except NotebookFailure as exc:
        raise DocsError(f"{path.name} does not run, so there are no docs of it.\n\n{exc}") from exc
    answer = ran.answer or {"recordings": [], "pages": [], "files": {}, "secrets": []}
    clean = cleaned(answer["secrets"])
    recordings = [
        _Recording(each["app"], each["name"], Playback.loads(clean(each["session"]))) for each in answer["recordings"]
    ]
    pages = [(each["app"], each["path"], Playback.loads(clean(each["session"]))) for each in answer["pages"]]
    return _Made(recordings, pages, answer["files"], clean), ran.outputs, ran.counts


def _told(
    output: Mapping[str, Any],
    path: Path,
    made: _Made,
    player: Callable[[Playback, Mapping[str, Any]], str],
    still: Callable[[str, Mapping[str, Any]], str],
) -> dict[str, Any] | None:
    """*output* as readers see it; None for what was there for the author alone."""
    told: dict[str, Any] = copy.deepcopy(dict(output))
    data = told.get("data", {})
    if MIME in data or 'class="nbws-preview"' in text_of(data.get("text/html")):
        facts = data.get(MIME) or {}
        session = _session(facts, path, made)
        name = facts.get("path", "/")
        if session is not None:
            files = made.files.get(str(facts.get("app")), {})
            shown = player(session.at_path(name).with_files(files), facts)
        else:
            shown = still(f"Here the notebook shows the live page {name}. There is no recording of it.", facts)
        told["data"] = {"text/html": shown, "text/plain": f"preview of {name}"}
        return told
    for name in ("text", "evalue", "traceback"):
        if name in told:
            told[name] = _clean(told[name], made.clean)
    if data:
        html = text_of(data.get("text/html"))
        if "nbws-ticket=" in html and not _LINK.sub("", html).strip():
            return None  # the link by which the author opens the app in a tab
        told["data"] = {kind: _clean(value, made.clean) for kind, value in data.items()}
        if told["data"].pop(_WIDGET, None) is not None:  # its data is in the kernel, which has ended
            told["data"].setdefault("text/html", "<p><em>Here the notebook shows a widget.</em></p>")
    return told


def _clean(value: Any, clean: Callable[[str], str]) -> Any:
    """*value*, a text, a list of lines or any JSON, without secrets."""
    if isinstance(value, list):
        return [_clean(each, clean) for each in value]
    if isinstance(value, dict):
        return {name: _clean(each, clean) for name, each in value.items()}
    return _TICKET.sub("", clean(value)) if isinstance(value, str) else value


def _session(facts: Mapping[str, Any], path: Path, made: _Made) -> Playback | None:
    """What a preview plays: the recording that it names, the file beside the notebook, or all that clients said."""
    name, app, at = facts.get("recording"), facts.get("app"), facts.get("path", "/")
    recorded = {each.name: each.session for each in made.recordings if each.name is not None}
    if name is not None:
        found = recorded.get(name) or _from_file(path, name)
        if found is None:
            raise DocsError(
                f"a preview in {path.name} plays the recording {name!r}, which is not there: no cell that was run says "
                f"app.record({name!r}) and then lets clients talk, and {name}{SUFFIX} is not beside the notebook"
            )
        return found
    found = _from_file(path, path.stem) or recorded.get(path.stem)
    if found is not None:
        return found
    said = next((each.session for each in made.recordings if each.name is None and each.app == app), None)
    page = next((page for owner, where, page in made.pages if (owner, where) == (app, at)), None)
    if said is not None and page is not None and not said.is_of(at):
        return page  # what was said to its app was said on other pages
    return said if said is not None else page


def _from_file(path: Path, name: str) -> Playback | None:
    file = path.parent / f"{name}{SUFFIX}"
    return Playback.loads(file.read_text(encoding="utf-8"), file.name) if file.exists() else None
