"""A Sphinx extension: notebooks become pages in which their previews play what clients said. It brings myst-nb along.

In conf.py:

    extensions = ["nbws.sphinx"]
    nbws_run = True                     # False takes the outputs that are saved in the notebooks
    nbws_run_exclude = ["drafts/*"]     # notebooks whose saved outputs are taken, by their names without .ipynb
    nbws_cell_timeout = 120             # seconds; 0 lets a cell take any time
    nbws_pyodide = "package"            # a folder of Pyodide, or its address: readers may run the app; else None
    nbws_packages = ["htpy"]            # what the notebooks import beside nbws, for that
"""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.display import progress_message

import nbws
from nbws.docs import check_installed, documented
from nbws.docs_pyodide import RUN_HERE, collect, notebook_cells
from nbws.errors import NbwsError
from nbws.playback import SUFFIX
from nbws.player import bundle, player, safe_json, still, style

__all__ = ["setup"]

_SCRIPT, _STYLE = "nbws-replay.js", "nbws-replay.css"
_log = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    check_installed("nbws.sphinx")
    app.setup_extension("myst_nb")
    app.add_config_value("nbws_run", True, "env", types=(bool,))
    app.add_config_value("nbws_run_exclude", [], "env", types=(list, tuple))
    app.add_config_value("nbws_cell_timeout", 120, "", types=(int,))
    app.add_config_value("nbws_pyodide", None, "html", types=(str, type(None)))
    app.add_config_value("nbws_packages", [], "html", types=(list, tuple))
    app.connect("config-inited", _leave_running_to_us, priority=400)  # before myst-nb looks
    app.connect("builder-inited", _write_files)
    app.connect("source-read", _read)
    app.connect("html-page-context", _add_files)
    return {"version": nbws.__version__, "parallel_read_safe": True, "parallel_write_safe": True}


def _leave_running_to_us(app: Sphinx, config: Config) -> None:
    config["nb_execution_mode"] = "off"


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the notebook as it is to be shown in the place of its file's text."""
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".ipynb":
        return
    run = app.config.nbws_run and not any(fnmatch.fnmatch(docname, each) for each in app.config.nbws_run_exclude)
    for sidecar in sorted(path.parent.glob(f"*{SUFFIX}")):
        app.env.note_dependency(str(sidecar))
    try:
        if run:
            with progress_message(f"running {docname}"):
                seconds = app.config.nbws_cell_timeout or None
                shown = documented(path, source[0], cell_seconds=seconds, player=player, still=still)
        else:
            shown = documented(path, source[0], run=False, player=player, still=still)
    except NbwsError as exc:
        _log.warning("%s", exc, location=docname, type="nbws", subtype="notebook")
        return
    source[0] = json.dumps(shown, ensure_ascii=False)


def _write_files(app: Sphinx) -> None:
    if app.builder.format == "html":
        folder = Path(app.outdir) / "_static"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _SCRIPT).write_text(bundle(), encoding="utf-8")
        (folder / _STYLE).write_text(style(), encoding="utf-8")
        pyodide = app.config.nbws_pyodide
        if pyodide is not None:
            where = pyodide if "://" in pyodide else str(Path(app.confdir) / pyodide)
            try:
                collect(folder / RUN_HERE, where, app.config.nbws_packages)
            except NbwsError as exc:
                raise ExtensionError(str(exc), modname="nbws.sphinx") from exc


def _add_files(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if 'class="nbws-recorded"' in (context.get("body") or ""):
        if app.config.nbws_pyodide is not None:
            cells = notebook_cells(Path(app.env.doc2path(page)))
            told = safe_json({"base": context["pathto"](f"_static/{RUN_HERE}/", True), "cells": cells})
            context["body"] += f'<script type="application/json" id="nbws-notebook">{told}</script>'
            app.add_js_file(f"{RUN_HERE}/inpage.js", loading_method="defer")  # before the players look for it
            app.add_css_file(f"{RUN_HERE}/inpage.css")
        app.add_js_file(_SCRIPT, loading_method="defer")
        app.add_css_file(_STYLE)
