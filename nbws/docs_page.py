"""`nbws docs`: a notebook as one page of HTML, with its styles, scripts and pictures in it, and nothing else loaded."""

from __future__ import annotations

import base64
import html
import mimetypes
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.footnote import footnote_plugin
from mdit_py_plugins.tasklists import tasklists_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from nbws.docs import cells_of, documented
from nbws.docs_pyodide import RUN_HERE, collect, notebook_cells, page_parts
from nbws.errors import NbwsError
from nbws.html import Safe, Tag, ft, to_xml
from nbws.notebook.file import Cell, text_of
from nbws.player import bundle, player, safe_json, still, style
from nbws.running import Progress

__all__ = ["Page", "RunHere", "notebook_page", "render", "write_page"]

_STATIC = Path(__file__).parent / "static"
_PICTURE_BYTES = 4 * 1024 * 1024
_ELSEWHERE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LIGHT, _DARK = "default", "github-dark"
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' data:; style-src 'unsafe-inline' data:; "
    "img-src data: blob:; media-src data: blob:; font-src data:"
)


@dataclass(frozen=True)
class Page:
    """A page, and what its author should know of it."""

    html: str
    title: str
    players: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunHere:
    """What a page needs in order to run its notebook's app in the reader's browser: see `nbwsRunHere` in its *script*.

    Players offer it where there is one. Such a page loads what is in *base*, so nothing is forbidden to it.
    """

    base: str  #: the address of the folder that the script loads from, relative to the page
    script: str
    style: str = ""


def notebook_page(
    path: Path,
    *,
    run: bool = True,
    cell_seconds: int | None = 120,
    begins: Callable[[Cell], None] = lambda cell: None,
    run_here: RunHere | None = None,
) -> Page:
    """The page of the notebook at *path*, which is run from top to bottom unless *run* is False.

    None in *cell_seconds* lets a cell take any time. *begins* is told of each cell before it runs. Raises DocsError
    where it does not run.
    """
    notebook = documented(path, run=run, cell_seconds=cell_seconds, player=player, still=still, begins=begins)
    return render(notebook, path, run_here=run_here)


def write_page(
    notebook: Path,
    output: Path | None = None,
    *,
    run: bool = True,
    cell_seconds: int | None = 120,
    pyodide: str | None = None,
    packages: Iterable[str] = (),
) -> tuple[Page, Path]:
    """Write the page of *notebook*, with a bar on a terminal. Gives it, and where it is: *output*, or NAME.html here.

    With *pyodide*, a folder or an address, its players offer to run the app in the reader's browser, with *packages*
    beside those of nbws; what that needs is in a folder `run-here` beside the page.
    Raises NbwsError where there is no notebook, or where it does not run; no page is written then.
    """
    if not notebook.is_file():
        raise NbwsError(f"there is no notebook {notebook}")
    written = (output if output is not None else Path(f"{notebook.stem}.html")).absolute()
    cells = cells_of(notebook) if run else []
    with Progress(notebook.name, len(cells)) as progress:
        begun = False

        def begins(cell: Cell) -> None:
            nonlocal begun
            if begun:
                progress.ended()
            begun = True
            progress.begins(cell)

        here = None
        if pyodide is not None:
            collect(written.parent / RUN_HERE, pyodide, packages, opens_as_file=True)
            here = RunHere(f"{RUN_HERE}/", *page_parts())
        page = notebook_page(notebook, run=run, cell_seconds=cell_seconds, begins=begins, run_here=here)
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text(page.html, encoding="utf-8", newline="\n")
    return page, written


def render(notebook: Mapping[str, Any], path: Path, *, run_here: RunHere | None = None) -> Page:
    """The page of a notebook that is `documented` already."""
    writer = _Writer(path)
    body = [part for cell in notebook["cells"] for part in writer.cell(cell)]
    title = writer.title or path.stem
    players = sum(part.count("data-nbws-replay") for part in body)
    scripts = [(_STATIC / "docs.js").read_text(encoding="utf-8"), *([bundle()] if players else [])]
    styles = [(_STATIC / "docs.css").read_text(encoding="utf-8"), _code_styles(), *([style()] if players else [])]
    here: list[Tag] = []
    if run_here is not None:
        told = {"base": run_here.base, "cells": notebook_cells(path)}
        here = [ft("script", Safe(safe_json(told)), type="application/json", id="nbws-notebook")]
        scripts.insert(0, run_here.script)
        if not any('class="nbws-run-here"' in part for part in body):
            body.append(still("The app of this notebook, for you to try."))
        styles.append(run_here.style)
    policy = ft("meta", http_equiv="Content-Security-Policy", content=_POLICY)
    page = ft(
        "html",
        ft(
            "head",
            ft("meta", charset="utf-8"),
            ft("meta", name="viewport", content="width=device-width, initial-scale=1"),
            *([policy] if run_here is None else []),
            ft("title", title),
            *(ft("style", Safe(each)) for each in styles),
        ),
        ft(
            "body",
            ft("main", Safe("\n".join(body))),
            ft("footer", f"Made of {path.name} by nbws docs."),
            *here,
            *(ft("script", Safe(each)) for each in scripts),
        ),
        lang="en",
    )
    return Page(f"<!doctype html>\n{to_xml(page)}\n", title, players, tuple(writer.warnings))


class _Writer:
    """The HTML of cells."""

    def __init__(self, path: Path) -> None:
        self.title: str | None = None
        self.warnings: list[str] = []
        self._folder = path.parent
        self._attachments: Mapping[str, Any] = {}
        self._markdown = (
            MarkdownIt("commonmark", {"html": True, "highlight": _code})
            .enable(["table", "strikethrough"])
            .use(anchors_plugin, max_level=4, permalink=False)
            .use(footnote_plugin)
            .use(tasklists_plugin)
        )
        # What is given here becomes a method of the renderer.
        self._markdown.add_render_rule("image", lambda renderer, *of: self._image(*of))

    def cell(self, cell: Mapping[str, Any]) -> list[str]:
        source = text_of(cell.get("source"))
        if cell["cell_type"] == "markdown":
            return [f'<section class="text">{self._text_of(source, cell.get("attachments", {}))}</section>']
        if cell["cell_type"] != "code":
            return []
        parts = []
        tags = cell.get("metadata", {}).get("tags", [])
        if source.strip() and "remove-input" not in tags:
            code = f'<div class="code">{_code(source, "python", "")}</div>'
            parts.append(_folded("Code", code) if {"hide-input", "hide-cell"} & set(tags) else code)
        outputs = [shown for output in cell.get("outputs", ()) if (shown := self._output(output))]
        if outputs:
            shown = f'<div class="output">{"".join(outputs)}</div>'
            parts.append(_folded("Output", shown) if {"hide-output", "hide-cell"} & set(tags) else shown)
        return [f'<section class="cell">{"".join(parts)}</section>'] if parts else []

    def _text_of(self, source: str, attachments: Mapping[str, Any]) -> str:
        self._attachments = attachments
        tokens = self._markdown.parse(source)
        if self.title is None:
            self.title = next(
                (_heading(tokens, place) for place, token in enumerate(tokens) if token.tag == "h1"), None
            )
        return str(self._markdown.renderer.render(tokens, self._markdown.options, {}))

    def _output(self, output: Mapping[str, Any]) -> str:
        if output["output_type"] == "stream":
            kind = "err" if output.get("name") == "stderr" else "out"
            return f'<pre class="{kind}">{html.escape(_plain(output.get("text")))}</pre>'
        if output["output_type"] == "error":
            return f'<pre class="err">{html.escape(_plain(chr(10).join(output.get("traceback", ()))))}</pre>'
        data = output.get("data", {})
        if "text/html" in data:
            return f'<div class="rich">{text_of(data["text/html"])}</div>'
        if "image/svg+xml" in data:
            return f'<div class="rich">{text_of(data["image/svg+xml"])}</div>'
        for kind in ("image/png", "image/jpeg", "image/gif", "image/webp"):
            if kind in data:
                encoded = text_of(data[kind]).replace("\n", "")
                alt = html.escape(text_of(data.get("text/plain")), quote=True)
                return f'<img src="data:{kind};base64,{encoded}" alt="{alt}">'
        if "text/markdown" in data:
            return f'<div class="rich">{self._text_of(text_of(data["text/markdown"]), {})}</div>'
        text = _plain(data.get("text/plain"))
        return f"<pre>{html.escape(text)}</pre>" if text.strip() else ""

    def _image(self, tokens: list[Token], place: int, options: Any, env: Any) -> str:
        """A picture of markdown, in the page itself; one of another host is a link, since the page loads nothing."""
        token = tokens[place]
        source, alt = str(token.attrs.get("src", "")), html.escape(token.content, quote=True)
        if source.startswith("data:"):
            return f'<img src="{html.escape(source, quote=True)}" alt="{alt}">'
        if source.startswith("attachment:"):
            bundle_of = self._attachments.get(unquote(source.removeprefix("attachment:")), {})
            for kind, encoded in bundle_of.items():
                return f'<img src="data:{kind};base64,{text_of(encoded)}" alt="{alt}">'
        elif not _ELSEWHERE.match(source):
            file = self._folder / unquote(source.partition("#")[0])
            kind = mimetypes.guess_type(file.name)[0] or ""
            if file.is_file() and kind.startswith("image/") and file.stat().st_size <= _PICTURE_BYTES:
                encoded = base64.b64encode(file.read_bytes()).decode()
                return f'<img src="data:{kind};base64,{encoded}" alt="{alt}">'
            self.warnings.append(f"{source} is no picture of up to 4 MB beside the notebook; it is left out")
            return f"<em>{alt}</em>"
        self.warnings.append(f"{source} is a picture elsewhere, and the page loads nothing; a link stands in its place")
        return f'<a href="{html.escape(source, quote=True)}">{alt or "picture"}</a>'


def _code(source: str, language: str, attributes: str) -> str:
    try:
        lexer = get_lexer_by_name("ipython3" if language == "python" else language or "text")
    except ClassNotFound:
        lexer = get_lexer_by_name("python" if language == "python" else "text")
    return str(highlight(source.rstrip("\n"), lexer, HtmlFormatter(wrapcode=True)))


def _code_styles() -> str:
    """Colours of code in both themes."""
    light = HtmlFormatter(style=_LIGHT).get_style_defs(".highlight")
    dark = HtmlFormatter(style=_DARK)
    in_dark = dark.get_style_defs(':root[data-theme="dark"] .highlight')
    by_itself = dark.get_style_defs(':root:not([data-theme="light"]) .highlight')
    return f"{light}\n{in_dark}\n@media (prefers-color-scheme: dark) {{\n{by_itself}\n}}\n"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>"


def _heading(tokens: list[Token], place: int) -> str:
    return "".join(child.content for child in tokens[place + 1].children or ())


def _plain(value: Any) -> str:
    return _ESCAPES.sub("", text_of(value))
