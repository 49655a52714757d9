"""The cells of a notebook, run where there is no IPython: each is a run, as in a kernel, and what it shows is said."""

from __future__ import annotations

import ast
import asyncio
import base64
import inspect
import itertools
import linecache
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from nbws.app import App
from nbws.errors import NbwsError
from nbws.notebook.cells import CellRun, modules_in
from nbws.notebook.file import Cell
from nbws.notebook.magics import written_out
from nbws.runs import Runs
from nbws.serving import find_app
from nbws.tracebacks import author_traceback

__all__ = ["Cells", "Show", "bundle_of"]

Show = Callable[[str, Mapping[str, Any]], None]
"""Takes (the cell's id, what it shows).

"shows" says which: "stream" (name, text), "display" (data, by MIME type), "error" (title, text).
"""

# As in a kernel, a task that a cell starts goes on to belong to that cell.
_running: ContextVar[CellRun | None] = ContextVar("nbws_cell_run", default=None)
_REPRS = (("_repr_html_", "text/html"), ("_repr_svg_", "image/svg+xml"), ("_repr_png_", "image/png"))
_LEFT_OUT = ("%load_ext nbws", "%reload_ext nbws")


class Cells(Runs):
    """Runs cells in *names*, one after the other. What they show goes to *show*, while they run."""

    def __init__(self, names: dict[str, Any], show: Show) -> None:
        super().__init__()
        self.names = names
        self.names["display"] = self.display
        self._show = show
        self._run: CellRun | None = None
        self._turn = asyncio.Lock()
        self._numbers = itertools.count(1)

    def current(self) -> CellRun | None:
        """The run that the calling code belongs to; None outside of one, and in a task that an earlier cell began."""
        run = _running.get()
        return run if run is not None and run is self._run and run.thread == threading.get_ident() else None

    @property
    def apps(self) -> list[App]:
        """The apps that cells have made, the oldest first."""
        found = [each for each in self.listeners if isinstance(each, App)]
        return sorted(found, key=lambda app: app.number)

    async def run(self, cell: Cell) -> BaseException | None:
        """Run *cell*, show what it shows, and give the error that it ended with. Cells wait for each other."""
        async with self._turn:
            run = self._run = CellRun(cell.id, None, threading.get_ident(), [], self.names)
            token = _running.set(run)
            error: BaseException | None = None
            try:
                for listener in self.listeners:
                    listener.run_begins(run)
                value = await self._execute(cell)
                if value is not None:
                    self.names["_"] = value
                    self.display(value)
                for listener in self.listeners:
                    listener.check_run(run)
            except BaseException as exc:
                error = exc
                self._show(cell.id, {"shows": "error", "title": _title(exc), "text": author_traceback(exc)})
            finally:
                self._run = None
                _running.reset(token)
            run.failed = run.failed or error is not None
            run.modules_that_failed |= modules_in(error)
            for listener in self.listeners:
                listener.run_ends(run, not run.failed)
            return error

    def display(self, *values: Any, **_: Any) -> None:
        """Show *values* under the cell whose code calls, as Jupyter's `display` does."""
        for value in values:
            self._say({"shows": "display", "data": bundle_of(value)})

    def hear(self, stream: str, text: str) -> None:
        """Show *text* that code which is no handler has printed, under its cell."""
        self._say({"shows": "stream", "name": stream, "text": text})

    def _say(self, what: Mapping[str, Any]) -> None:
        run = _running.get() or self._run  # a task goes on to print where its cell does
        if run is not None and run.cell is not None:
            self._show(run.cell, what)

    async def _execute(self, cell: Cell) -> Any:
        """The value of the expression at the end of *cell*; None where there is none, or a semicolon after it."""
        file = f"<cell {cell.number}, run {next(self._numbers)}>"
        source = self._as_python(cell.source)
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        tree = _parsed(source, file)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        await self._evaluate(compile(tree, file, "exec", _AWAITS, dont_inherit=True))
        if not isinstance(last, ast.Expr):
            return None
        value = await self._evaluate(compile(ast.Expression(last.value), file, "eval", _AWAITS, dont_inherit=True))
        return None if source.rstrip().endswith(";") else value

    async def _evaluate(self, code: Any) -> Any:
        value = eval(code, self.names)
        return await value if code.co_flags & inspect.CO_COROUTINE else value

    def _as_python(self, source: str) -> str:
        """*source* with `%%ws` written out, and without what loads the magics."""
        if source.lstrip().startswith("%%ws"):
            app = find_app(self.names)
            name = next((name for name, each in self.names.items() if each is app), None) if app is not None else None
            if name is None:
                raise NbwsError("%%ws finds no app; make one in a cell above, `app = App()`, and run it first")
            return written_out(source.lstrip(), name)
        lines = source.splitlines(keepends=True)
        return "".join("\n" if line.strip() in _LEFT_OUT else line for line in lines)


_AWAITS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def _parsed(source: str, file: str) -> ast.Module:
    try:
        tree = compile(source, file, "exec", ast.PyCF_ONLY_AST | _AWAITS, dont_inherit=True)
    except SyntaxError as exc:
        of_ipython = next((line.strip() for line in source.splitlines() if line.lstrip().startswith(("%", "!"))), None)
        if of_ipython is None:
            raise
        raise NbwsError(f"`{of_ipython}` is for IPython, and there is none in a browser; leave that line out") from exc
    assert isinstance(tree, ast.Module)
    return tree


def bundle_of(value: Any) -> dict[str, Any]:
    """*value* by MIME type, as Jupyter's frontends are given it."""
    whole = getattr(type(value), "_repr_mimebundle_", None)
    if whole is not None:
        found = value._repr_mimebundle_()
        return dict(found[0] if isinstance(found, tuple) else found or {})
    bundle: dict[str, Any] = {"text/plain": repr(value)}
    for name, mime in _REPRS:
        method = getattr(type(value), name, None)
        shown = method(value) if method is not None else None
        if shown is not None:
            bundle[mime] = base64.b64encode(shown).decode() if isinstance(shown, bytes) else str(shown)
    return bundle


def _title(exc: BaseException) -> str:
    said = str(exc)
    if isinstance(exc, ModuleNotFoundError) and exc.name is not None:  # Pyodide adds advice that is of no use here
        return f"No module named {exc.name}: the page was made without it; `nbws docs --with` takes packages along"
    return f"{type(exc).__name__}: {said}" if said else type(exc).__name__
